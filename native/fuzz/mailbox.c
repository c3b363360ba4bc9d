/* A policy's mailbox, in which another process writes what it likes: the core goes on, and what it
   writes to the device stays within the limits. Input: per cycle a count of words that change, then
   where and to what. The mailbox is changed between the cycles, and by a thread within them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/lockstep.h"
#include "../src/mailbox.h"
#include "../src/twin.h"
#include "fuzz.h"

#define PERIOD_NS 1000000LL
#define CYCLES 24

static struct {
    inphase_segment *segment;
    inphase_core *core;
} robot;

static void open_robot(void)
{
    static const struct inphase_reply reply = {0, 0, 0, 0, 0};
    static const uint8_t packet[4] = {0};
    struct inphase_twin_channel joint = {.kind = INPHASE_TWIN_POSITION, .gain = 1};
    struct inphase_servo servo = {.natural_rad_s = 60, .velocity_max = 6, .acceleration_max = 60};
    struct inphase_limits limits = {
        .low = -1, .high = 1, .velocity = 2, .acceleration = 20, .step = 0.5};
    struct inphase_sensor_config sensor = {
        .channels = 1, .max_age_ns = 10 * PERIOD_NS, .depth = 16, .every = 1, .payload = 8,
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .reply_max_ns = 400000},
        .twin = {.channel = &joint, .latency_ns = 100000}};
    struct inphase_actuator_config actuator = {
        .channels = 1, .accepts = 1 << INPHASE_FRESH, .max_hold_ns = 3 * PERIOD_NS,
        .limits = &limits, .servo = &servo, .guarded = 1,
        .encoding = {.packet = packet, .packet_size = 4}};
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 500000, .act_ns = 600000,
        .resumed_after_ns = 20 * PERIOD_NS, .devices = 1, .sensors = 1, .actuators = 1,
        .frame_depth = 16, .overrun_limit = 5, .has_policy = 1, .virtual_time = 1,
        .sensor = &sensor, .actuator = &actuator,
        .policy_timing = {.every = 2, .chunk = 4, .latency_cycles = 1, .join = INPHASE_JOIN_BLEND,
                          .blend_cycles = 2, .interpolate = INPHASE_CUBIC}};

    CHECK_EQUAL(inphase_segment_make(&robot.segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&robot.core, &config, robot.segment), 0);
    CHECK_EQUAL(inphase_core_enable(robot.core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    cycle_begin(robot.core);
}

static void close_robot(void)
{
    inphase_core_close(robot.core);
    inphase_segment_close(robot.segment);
}

/* the head and the slots; what lies before them only its writer goes by */
static void patch(struct input *input, int most)
{
    size_t from = offsetof(struct mailbox, head);

    take_patches(input, (uint8_t *)robot.core->own_mailbox + from, mailbox_bytes(4) - from, most);
}

/* the other process, while the core looks */
static void *disturb(void *input)
{
    patch(input, 64);
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, size};
    double before, value;
    pthread_t other;
    bool is_disturbed = take_byte(&input) & 1;
    struct input rest = input;

    open_robot();
    before = robot.core->actuator[0].plant->servo[0].goal;
    if (is_disturbed)
        CHECK_EQUAL(pthread_create(&other, NULL, disturb, &rest), 0);
    for (int i = 0; i < CYCLES && cycle_run(robot.core, CYCLE_READ); i++) {
        double good = 1e-4 * i;

        /* as a policy posts; the words that change then lie anywhere in what it wrote */
        if (!is_disturbed) {
            double chunk[4] = {good, good, good, good};

            lockstep_post(robot.core, robot.core->cycle, INPHASE_ABSENT, robot.core->virtual_ns, 0,
                          chunk, 4);
            patch(&input, take_byte(&input) % 8);
        }
        cycle_run(robot.core, CYCLE_ACT);
        value = robot.core->actuator[0].applied[0];
        if (!(robot.core->actuator[0].flags & INPHASE_ACT_WRITTEN))
            continue;
        CHECK(isfinite(value) && fabs(value) <= 1);
        CHECK(fabs(value - before) <= 2 * 1e-3 * (1 + 1e-9));
        before = value;
    }
    if (is_disturbed)
        pthread_join(other, NULL);
    close_robot();
    return 0;
}
