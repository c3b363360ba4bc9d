/* Bursts: where the samples of a stream lie in the payload, and what becomes of too many. */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../src/burst.h"
#include "../src/sensor.h"
#include "robot.h"

#define CHANNELS 3
#define MOST 4

static const uint32_t groups[] = {2, 1};

static struct inphase_sensor_config sensor_config(void)
{
    return (struct inphase_sensor_config){
        .channels = CHANNELS, .max_age_ns = 10000000, .depth = 64, .every = 1, .free_running = 1,
        .payload = burst_bytes(MOST, CHANNELS), .burst = MOST, .burst_groups = 2,
        .burst_group = groups};
}

static struct sample sample_of(int number)
{
    struct sample sample = {.acquired_ns = 100 * number, .received_ns = 100 * number + 7,
                            .uncertainty_ns = number};

    for (int c = 0; c < CHANNELS; c++)
        sample.value[c] = 10 * number + c;
    return sample;
}

static double double_at(const int64_t *at)
{
    double value;

    memcpy(&value, at, sizeof value);
    return value;
}

/* the layout of inphase.h, read without the code that writes it */
static void check_payload(const struct burst *burst, int first, int count, int lost)
{
    const int64_t *at = burst->payload + CHANNELS;
    const int64_t *values = at + 2 + 3 * MOST;

    CHECK_EQUAL(at[0], count);
    CHECK_EQUAL(at[1], lost);
    for (int i = 0; i < MOST; i++) {
        int number = first + i;
        const struct sample sample = sample_of(number);

        CHECK_EQUAL(at[2 + i], i < count ? sample.acquired_ns : INPHASE_ABSENT);
        CHECK_EQUAL(at[2 + MOST + i], i < count ? sample.received_ns : INPHASE_ABSENT);
        CHECK_EQUAL(at[2 + 2 * MOST + i], i < count ? sample.uncertainty_ns : INPHASE_ABSENT);
        for (int c = 0; c < CHANNELS; c++) {
            double value = double_at(c < 2 ? &values[2 * i + c] : &values[2 * MOST + i]);

            CHECK(i < count ? value == sample.value[c] : isnan(value));
        }
    }
    for (int c = 0; c < CHANNELS && count; c++)
        CHECK(double_at(&burst->payload[c]) == 10 * (first + count - 1) + c);
}

static void the_oldest_is_first_and_is_left_out_where_there_are_too_many(void)
{
    struct inphase_sensor_config config = sensor_config();
    struct burst burst = {0};

    CHECK_EQUAL(burst_make(&burst, &config), 0);
    check_payload(&burst, 0, 0, 0);
    for (int round = 0; round < 2; round++) {
        for (int number = 1; number <= 10; number++) {
            struct sample sample = sample_of(number);
            int kept = number < MOST ? number : MOST;

            CHECK_EQUAL(burst_add(&burst, &sample), number <= MOST);
            CHECK_EQUAL(burst_count(&burst), kept);
            check_payload(&burst, number - kept + 1, kept, number - kept);
        }
        burst_begin(&burst);
        check_payload(&burst, 0, 0, 0);
    }
    burst_free(&burst);
}

static void expect(const struct inphase_sensor_config *sensor, int rc)
{
    struct inphase_config config = {
        .period_ns = 1000000, .read_deadline_ns = 500000, .act_ns = 500000, .devices = 1,
        .sensors = 1, .frame_depth = 64, .overrun_limit = 5, .sensor = sensor};
    struct robot robot;

    CHECK_EQUAL(make_robot(&robot, &config), rc);
    if (rc == 0)
        inphase_core_close(robot.core);
    inphase_segment_close(robot.segment);
}

static void only_a_stream_on_the_cycle_thread_has_bursts_and_they_fit_its_payload(void)
{
    static const struct inphase_field fields[] = {
        {2, INPHASE_U8, 0, 0, 1, 0}, {3, INPHASE_U8, 0, 1, 1, 0}, {4, INPHASE_U8, 0, 2, 1, 0}};
    static const struct inphase_reply reply = {.fields = 3};
    struct inphase_sensor_config good = sensor_config(), bad;

    good.exchange = (struct inphase_exchange){
        .replies = 1, .reply = &reply, .field = fields, .fields = 3,
        .framing = {.start_size = 1, .start = {1}, .min_size = 6, .max_size = 6}};
    expect(&good, 0);
    bad = good;
    bad.free_running = 0;
    expect(&bad, -EINVAL);
    bad = good;
    bad.worker = 1;
    expect(&bad, -EINVAL);
    bad = good;
    bad.burst = INPHASE_MAX_BURST + 1;
    bad.payload = burst_bytes(bad.burst, CHANNELS);
    expect(&bad, -EINVAL);
    bad = good;
    bad.payload += 8;
    expect(&bad, -EINVAL);
    bad = good;
    bad.burst_groups = 1;
    expect(&bad, -EINVAL);
    bad.burst_groups = INPHASE_MAX_VALUES + 1;
    expect(&bad, -EINVAL);
}

int main(void)
{
    RUN(the_oldest_is_first_and_is_left_out_where_there_are_too_many);
    RUN(only_a_stream_on_the_cycle_thread_has_bursts_and_they_fit_its_payload);
    return 0;
}
