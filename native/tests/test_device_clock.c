/* Device clocks: the truth lies within the error, whatever the delays are. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../src/acquire.h"
#include "../src/core.h"
#include "../src/relaxed.h"
#include "../src/sensor.h"
#include "../src/statistics.h"
#include "check.h"

#define SECOND 1000000000LL

/* a device's clock, and the delays of its readings */
struct device_model {
    double rate, wander_per_s; /* device per host time, and its change */
    int64_t origin_ns, start_ns;
    int64_t way_ns, back_ns;   /* at least this long; up to twice as long */
};

struct taken {
    struct inphase_clock_reading reading;
    int64_t truth_ns;
};

static int64_t up_to(int64_t most)
{
    return most > 0 ? (int64_t)(check_random() % (uint64_t)most) : 0;
}

static int64_t stamp_of(const struct device_model *device, int64_t host_ns)
{
    double apart = (double)(host_ns - device->start_ns);

    return device->origin_ns +
           (int64_t)(apart * (device->rate + 0.5e-9 * device->wander_per_s * apart));
}

static struct taken read_device(const struct device_model *device, int64_t trigger_ns)
{
    struct taken taken = {.truth_ns = trigger_ns + device->way_ns + up_to(device->way_ns)};

    taken.reading.device_ns = stamp_of(device, taken.truth_ns);
    taken.reading.earliest_ns = trigger_ns;
    taken.reading.latest_ns = taken.truth_ns + device->back_ns + up_to(device->back_ns);
    return taken;
}

static int add(struct inphase_device_clock *clock, const struct taken *taken)
{
    return inphase_device_clock_add(clock, taken->reading.device_ns, taken->reading.earliest_ns,
                                    taken->reading.latest_ns);
}

/* the stamp is mapped and the truth is within the error, which is returned */
static int64_t check_within(const struct inphase_device_clock *clock, const struct taken *taken)
{
    int64_t host, error;

    CHECK_EQUAL(inphase_device_clock_map(clock, taken->reading.device_ns, &host, &error), 0);
    CHECK(host - error <= taken->truth_ns && taken->truth_ns <= host + error);
    return error;
}

static struct device_model any_device(void)
{
    return (struct device_model){
        .rate = 1 + 1e-6 * (double)(up_to(401) - 200),
        .wander_per_s = 1e-9 * (double)(up_to(101) - 50),
        .origin_ns = up_to(1LL << 60) - (1LL << 59),
        .start_ns = up_to(1LL << 50),
        .way_ns = 1000 + up_to(300000),
        .back_ns = 1000 + up_to(300000),
    };
}

/* readings from time `at` on, all of which have to be taken */
static int64_t learn(struct inphase_device_clock *clock, const struct device_model *device,
                     int64_t at, int64_t period_ns, int readings)
{
    for (int i = 0; i < readings; i++, at += period_ns) {
        struct taken taken = read_device(device, at);

        CHECK_EQUAL(add(clock, &taken), INPHASE_CLOCK_TAKEN);
        if (clock->known)
            check_within(clock, &taken);
    }
    return at;
}

static void the_truth_is_within_the_error_at_every_rate(void)
{
    static const int64_t periods[] = {1000000, 10000000, 33333333, SECOND, 7 * SECOND};

    for (int round = 0; round < 200; round++) {
        struct device_model device = any_device();
        struct inphase_device_clock clock;
        struct inphase_clock_facts facts;

        inphase_device_clock_init(&clock);
        learn(&clock, &device, device.start_ns, periods[round % 5], 300);
        inphase_device_clock_facts(&clock, &facts);
        CHECK(facts.taken == 300 && facts.rejected == 0 && facts.resets == 0);
        CHECK(facts.error_ns >= (device.way_ns + device.back_ns) / 2);
    }
}

static void a_counter_of_any_tick_is_mapped_and_its_rate_found(void)
{
    struct device_model device = {.rate = 0.125, .way_ns = 20000, .back_ns = 40000};
    struct inphase_device_clock clock;
    struct inphase_clock_facts facts;

    inphase_device_clock_init(&clock);
    learn(&clock, &device, 0, 10000000, 2000);
    inphase_device_clock_facts(&clock, &facts);
    CHECK(facts.drift_ppb - facts.drift_error_ppb <= -875000000);
    CHECK(facts.drift_ppb + facts.drift_error_ppb >= -875000000);
    CHECK(facts.drift_error_ppb < 20000);
}

static void wrong_stamps_are_rejected_and_never_mapped(void)
{
    struct device_model device = any_device();
    struct inphase_device_clock clock;
    int64_t host, error, wrong = 0;
    int64_t at;

    inphase_device_clock_init(&clock);
    at = learn(&clock, &device, device.start_ns, 10000000, 200);
    for (int i = 0; i < 2000; i++, at += 10000000) {
        struct taken taken = read_device(&device, at);

        if (check_random() % 10 == 0) {
            taken.reading.device_ns += (check_random() % 2 ? 1 : -1) * (20000000 + up_to(SECOND));
            CHECK_EQUAL(add(&clock, &taken), INPHASE_CLOCK_REJECTED);
            CHECK_EQUAL(inphase_device_clock_map(&clock, taken.reading.device_ns, &host, &error),
                        -EAGAIN);
            wrong++;
            continue;
        }
        CHECK_EQUAL(add(&clock, &taken), INPHASE_CLOCK_TAKEN);
        check_within(&clock, &taken);
    }
    CHECK(wrong > 0 && clock.rejected == wrong && clock.resets == 0);
}

static void a_late_reply_is_taken_and_changes_little(void)
{
    struct device_model device = any_device();
    struct inphase_device_clock clock;
    int64_t at, before;

    inphase_device_clock_init(&clock);
    at = learn(&clock, &device, device.start_ns, 10000000, 2000);
    before = (int64_t)clock.error_ns;
    for (int i = 0; i < 500; i++, at += 10000000) {
        struct taken taken = read_device(&device, at);

        if (i % 3 == 0)
            taken.reading.latest_ns += 10 * (device.way_ns + device.back_ns);
        CHECK_EQUAL(add(&clock, &taken), INPHASE_CLOCK_TAKEN);
        check_within(&clock, &taken);
    }
    CHECK((int64_t)clock.error_ns < 2 * before);
}

static void a_reset_ends_the_mapping_and_a_new_one_is_found(void)
{
    for (int round = 0; round < 50; round++) {
        struct device_model device = any_device();
        struct inphase_device_clock clock;
        int64_t host, error, at;
        int answer = INPHASE_CLOCK_REJECTED;

        inphase_device_clock_init(&clock);
        at = learn(&clock, &device, device.start_ns, 10000000, 300);
        device.origin_ns += (check_random() % 2 ? 1 : -1) * (5000000 + up_to(1LL << 40));
        for (int i = 1; answer == INPHASE_CLOCK_REJECTED; i++, at += 10000000) {
            struct taken taken = read_device(&device, at);

            CHECK(i <= 4);
            answer = add(&clock, &taken);
            CHECK_EQUAL(inphase_device_clock_map(&clock, taken.reading.device_ns, &host, &error),
                        -EAGAIN);
        }
        CHECK_EQUAL(answer, INPHASE_CLOCK_RESTARTED);
        learn(&clock, &device, at, 10000000, 300);
        CHECK(clock.known && clock.resets == 1);
    }
}

static void the_error_grows_over_a_gap_and_still_holds(void)
{
    for (int round = 0; round < 50; round++) {
        struct device_model device = any_device();
        struct inphase_device_clock clock;
        int64_t at, gap_ns = SECOND + up_to(120 * SECOND), error = 0;

        inphase_device_clock_init(&clock);
        at = learn(&clock, &device, device.start_ns, 10000000, 2000);
        for (int part = 0; part <= 10; part++) {
            struct taken taken = read_device(&device, at + part * gap_ns / 10);
            int64_t now = check_within(&clock, &taken);

            CHECK(now > error);
            error = now;
        }
        learn(&clock, &device, at + gap_ns, 10000000, 300);
    }
}

static void a_clock_that_stands_still_is_never_mapped(void)
{
    struct inphase_device_clock clock;
    struct inphase_clock_facts facts;
    int64_t host, error;

    inphase_device_clock_init(&clock);
    for (int i = 0; i < 1000; i++) {
        int64_t at = i * 33333333LL;

        CHECK_EQUAL(inphase_device_clock_add(&clock, 0, at, at + 100000), i == 0);
        CHECK_EQUAL(inphase_device_clock_map(&clock, 0, &host, &error), -EAGAIN);
    }
    inphase_device_clock_facts(&clock, &facts);
    CHECK(facts.drift_ppb == INPHASE_ABSENT && facts.error_ns == INPHASE_ABSENT);
    CHECK(facts.taken == 1 && facts.rejected == 999 && facts.resets == 0);
}

static void a_clock_that_stops_is_no_longer_mapped(void)
{
    struct device_model device = any_device();
    struct inphase_device_clock clock;
    struct taken last;
    int64_t host, error, at;

    inphase_device_clock_init(&clock);
    at = learn(&clock, &device, device.start_ns, 10000000, 300);
    last = read_device(&device, at);
    for (int i = 0; i < 100; i++, at += 10000000) {
        inphase_device_clock_add(&clock, last.reading.device_ns, at, at + 900000);
        if (i > 0)
            CHECK_EQUAL(inphase_device_clock_map(&clock, last.reading.device_ns, &host, &error),
                        -EAGAIN);
    }
    CHECK_EQUAL(clock.resets, 1);
}

static void a_clock_that_is_only_heard_is_mapped_with_its_stated_latencies(void)
{
    struct device_model device = any_device();
    struct inphase_device_clock clock;

    inphase_device_clock_init(&clock);
    for (int i = 0; i < 1000; i++) {
        int64_t truth = device.start_ns + i * 33333333LL;
        int64_t arrival = truth + 2000000 + up_to(6000000);
        struct taken taken = {
            {stamp_of(&device, truth), arrival - 8000000, arrival - 2000000}, truth};

        CHECK_EQUAL(add(&clock, &taken), INPHASE_CLOCK_TAKEN);
        if (clock.known)
            check_within(&clock, &taken);
    }
    CHECK(clock.known);
}

/* ---- devices that are only heard ---------------------------------------------------------- */

#define STATED 450000LL
#define NEAR 50000LL /* so near the truth is the mapping that many arrivals give */

/* A stamp arrives. The mapping's distance from the truth, which is within its error; -1: not
   mapped. */
static int64_t hear(struct inphase_device_clock *clock, const struct device_model *device,
                    int64_t truth, int64_t latency, int64_t most, int *answer)
{
    int64_t host, error, stamp = stamp_of(device, truth);

    *answer = inphase_device_clock_hear(clock, stamp, truth + latency, 0, STATED, most);
    if (inphase_device_clock_locate(clock, stamp, truth + latency - most, truth + latency, &host,
                                    &error) < 0)
        return -1;
    CHECK(host <= truth + latency);

    /* One later than the worst case that its driver states is told by the mapping alone, so by one
       that is surer than the worst case. */
    if (latency > most && clock->error_ns > (double)most)
        return llabs(host - truth);
    CHECK(llabs(host - truth) <= error);

    /* a stamp that nothing delays is known to the worst case, and to the nanosecond that is
       rounded */
    CHECK(latency != STATED || error <= most + 1 || clock->error_ns > (double)most);
    return llabs(host - truth);
}

/* many that come in time, each later than the least latency by up to uneven, most of them by
   little */
static int64_t hear_many(struct inphase_device_clock *clock, const struct device_model *device,
                         int64_t at, int readings, int64_t uneven, int64_t most, int64_t settled)
{
    for (int i = 0; i < readings; i++, at += SECOND / 1000) {
        int64_t late = up_to(uneven), off;
        int answer;

        off = hear(clock, device, at, STATED + (uneven ? late * late / uneven : 0), most, &answer);
        CHECK_EQUAL(answer, INPHASE_CLOCK_TAKEN);
        CHECK(i < settled || (off >= 0 && off <= NEAR));
    }
    return at;
}

static const int64_t worst_cases[] = {800000, 5000000, 20000000};

static void a_careful_worst_case_moves_no_stamp(void)
{
    for (int i = 0; i < 3; i++) {
        const struct device_model device = {.rate = 1 + 80e-6, .origin_ns = 77};
        struct inphase_device_clock clock;

        inphase_device_clock_init(&clock);
        hear_many(&clock, &device, 0, 6000, 0, worst_cases[i], 100);
        CHECK(clock.known && clock.resets == 0 && clock.rejected == 0);
        CHECK(clock.error_ns >= (double)(worst_cases[i] - STATED));
    }
}

static void the_earliest_of_uneven_arrivals_give_the_mapping(void)
{
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 3; i++) {
            struct device_model device = any_device();
            struct inphase_device_clock clock;

            inphase_device_clock_init(&clock);
            hear_many(&clock, &device, device.start_ns, 8000, worst_cases[i] - STATED,
                      worst_cases[i], 2000);
        }
}

static void a_drift_that_changes_is_followed(void)
{
    const struct device_model device = {.rate = 1 - 200e-6, .wander_per_s = 50e-9};
    struct inphase_device_clock clock;

    inphase_device_clock_init(&clock);
    hear_many(&clock, &device, 0, 60000, 2000000, 20000000, 2000);
    CHECK(clock.known && clock.resets == 0);
}

/* what waited in the port comes at once, 25 packets in a millisecond, until its end is reached */
static int64_t hear_backlog(struct inphase_device_clock *clock, const struct device_model *device,
                            int64_t at, int64_t waited, bool mapped)
{
    int64_t arrival = at + waited;

    for (; arrival - at > STATED; at += SECOND / 1000, arrival += SECOND / 25000) {
        int answer;
        int64_t off = hear(clock, device, at, arrival - at, 5000000, &answer);

        CHECK_EQUAL(answer, INPHASE_CLOCK_TAKEN);
        CHECK(off == -1 ? !mapped : off <= NEAR);
    }
    return at;
}

static void a_backlog_at_the_start_does_not_pull_the_mapping(void)
{
    for (int round = 0; round < 50; round++) {
        struct device_model device = any_device();
        struct inphase_device_clock clock;
        int64_t at;

        inphase_device_clock_init(&clock);
        at = hear_backlog(&clock, &device, device.start_ns, SECOND * 3 / 2, false);
        hear_many(&clock, &device, at, 3000, 0, 5000000, 50);
        CHECK(clock.resets == 0);
    }
}

static void what_comes_after_the_worst_case_is_mapped_and_not_learned(void)
{
    for (int round = 0; round < 50; round++) {
        struct device_model device = any_device();
        struct inphase_device_clock clock;
        int64_t at;

        inphase_device_clock_init(&clock);
        at = hear_many(&clock, &device, device.start_ns, 3000, 0, 5000000, 100);
        at = hear_backlog(&clock, &device, at, SECOND * 3 / 2, true);
        hear_many(&clock, &device, at, 3000, 0, 5000000, 0);
        CHECK(clock.resets == 0 && clock.rejected == 0);
    }
}

static void late_arrivals_that_last_end_the_mapping(void)
{
    const struct device_model device = {.rate = 1};
    struct inphase_device_clock clock;
    int restarts = 0, answer;
    int64_t at;

    inphase_device_clock_init(&clock);
    at = hear_many(&clock, &device, 0, 3000, 0, 5000000, 100);
    for (int i = 0; i < 3000; i++, at += SECOND / 1000) {
        int64_t host, error, stamp = stamp_of(&device, at);

        answer = inphase_device_clock_hear(&clock, stamp, at + 30000000, 0, STATED, 5000000);
        restarts += answer == INPHASE_CLOCK_RESTARTED;
        CHECK(answer != INPHASE_CLOCK_REJECTED);
        CHECK_EQUAL(restarts, i >= 1000);
        if (i > 1100)
            CHECK_EQUAL(inphase_device_clock_map(&clock, stamp, &host, &error), 0);
    }
}

static void a_heard_clock_that_is_set_anew_is_learned_anew(void)
{
    for (int round = 0; round < 50; round++) {
        struct device_model device = any_device();
        struct inphase_device_clock clock;
        int64_t at;
        int answer;

        inphase_device_clock_init(&clock);
        at = hear_many(&clock, &device, device.start_ns, 3000, 0, 5000000, 100);
        device.origin_ns += (round % 2 ? 1 : -1) * (50000000 + up_to(1LL << 40));
        for (int i = 1; i <= 4; i++, at += SECOND / 1000) {
            CHECK_EQUAL(hear(&clock, &device, at, STATED, 5000000, &answer), -1);
            CHECK_EQUAL(answer, i < 4 ? INPHASE_CLOCK_REJECTED : INPHASE_CLOCK_RESTARTED);
        }
        hear_many(&clock, &device, at, 500, 0, 5000000, 100);
    }
}

static void a_wrong_stamp_in_a_backlog_costs_itself_alone(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        const struct device_model device = {.rate = 1};
        struct inphase_device_clock clock;
        int64_t at, wrong;

        inphase_device_clock_init(&clock);
        at = hear_many(&clock, &device, 0, 3000, 0, 5000000, 100);
        wrong = at + sign * 2 * SECOND;
        CHECK_EQUAL(inphase_device_clock_hear(&clock, wrong, at + SECOND, 0, STATED, 5000000),
                    INPHASE_CLOCK_REJECTED);
        hear_backlog(&clock, &device, at, SECOND, true);
        CHECK(clock.resets == 0 && clock.rejected == 1);
    }
}

/* whatever the latencies are, also where one in ten comes after the worst case, by up to a
   period */
static void the_truth_is_within_the_error_of_what_is_heard(void)
{
    static const int64_t periods[] = {1000000, 10000000, 33333333, SECOND};

    for (int round = 0; round < 400; round++) {
        struct device_model device = any_device();
        struct inphase_device_clock clock;
        int64_t most = STATED + 1000 + up_to(20000000), least = up_to(most);
        int64_t period = periods[round / 2 % 4], arrived = 0, mapped = 0;

        if (round % 2)
            least /= 2; /* how early a late one can be, the others have to tell */

        inphase_device_clock_init(&clock);
        for (int i = 0; i < 400; i++) {
            int64_t truth = device.start_ns + i * period, arrival;
            int answer;

            arrival = truth + least + up_to(most - least);
            if (round % 2 && i % 10 == 5)
                arrival = truth + most + up_to(period);
            arrived = arrival > arrived ? arrival : arrived; /* in order, as on a line */
            mapped += hear(&clock, &device, truth, arrived - truth, most, &answer) >= 0;
        }
        CHECK(mapped > 200 || period < 2 * most);
    }
}

static void no_arrival_is_too_strange(void)
{
    for (int round = 0; round < 2000; round++) {
        struct inphase_device_clock clock;
        uint32_t bits = 1 + (uint32_t)up_to(64);

        inphase_device_clock_init(&clock);
        for (int i = 0; i < 100; i++) {
            int64_t device = (int64_t)(check_random() >> (64 - bits)) - (i % 2);
            int64_t arrival = (int64_t)(check_random() >> (uint32_t)up_to(64));
            int64_t least = (int64_t)(check_random() >> (uint32_t)up_to(64));
            int64_t most = (int64_t)(check_random() >> (uint32_t)up_to(64));
            int64_t host, error;
            int rc = inphase_device_clock_hear(&clock, device, arrival, least,
                                               (int64_t)check_random(), most);

            if (least < 0 || most < least)
                CHECK_EQUAL(rc, -EINVAL);
            if (rc < 0)
                continue;
            rc = inphase_device_clock_locate(&clock, device, arrival - most, arrival, &host,
                                             &error);
            CHECK(rc == -EAGAIN || rc == -ERANGE || (rc == 0 && error > 0 && host <= arrival));
        }
    }
}

static void no_input_is_too_strange(void)
{
    for (int round = 0; round < 2000; round++) {
        struct inphase_device_clock clock;
        struct inphase_clock_facts facts;
        uint32_t bits = 1 + (uint32_t)up_to(64);

        inphase_device_clock_init(&clock);
        for (int i = 0; i < 100; i++) {
            int64_t device = (int64_t)(check_random() >> (64 - bits)) - (i % 2);
            int64_t earliest = (int64_t)(check_random() << (uint32_t)up_to(64));
            int64_t latest = (int64_t)(check_random() >> (uint32_t)up_to(64));
            int64_t host, error;
            int rc = inphase_device_clock_add(&clock, device, earliest, latest);

            CHECK((rc == -EINVAL) == (latest < earliest));
            rc = inphase_device_clock_map(&clock, (int64_t)check_random(), &host, &error);
            CHECK(rc == -EAGAIN || rc == -ERANGE || (rc == 0 && error > 0));
        }
        inphase_device_clock_facts(&clock, &facts);
    }
}

static void counters_are_unwrapped(void)
{
    CHECK_EQUAL(inphase_unwrap(0, 5, 16), 5);
    CHECK_EQUAL(inphase_unwrap(0xfffe, 1, 16), 0x10001);
    CHECK_EQUAL(inphase_unwrap(-1, 0, 16), 0);
    CHECK_EQUAL(inphase_unwrap(0x10001, 0x10001, 16), 0x10001);
    CHECK_EQUAL(inphase_unwrap(0x7ffffffffe, 3, 32), 0x8000000003);
    for (int i = 0; i < 1000; i++) {
        uint32_t bits = i % 3 == 0 ? 16 : i % 3 == 1 ? 24 : 32;
        int64_t previous = (int64_t)(check_random() >> 2);
        int64_t value = previous + up_to(1LL << bits);
        uint64_t raw = (uint64_t)value & ((1ULL << bits) - 1);

        CHECK_EQUAL(inphase_unwrap(previous, raw, bits), value);
    }
}

/* a quartz wanders by up to 50 ppb in each second: what was read last says less and less */
static void the_error_grows_with_the_time_since_the_last_reading(void)
{
    const struct device_model device = {.rate = 1, .way_ns = 100, .back_ns = 100};
    struct inphase_device_clock clock;
    int64_t at, before, host;

    inphase_device_clock_init(&clock);
    at = learn(&clock, &device, 0, SECOND / 100, 200);
    CHECK_EQUAL(inphase_device_clock_map(&clock, stamp_of(&device, at), &host, &before), 0);
    for (int seconds = 1; seconds <= 10; seconds++) {
        int64_t later = at + seconds * SECOND, error;

        CHECK_EQUAL(inphase_device_clock_map(&clock, stamp_of(&device, later), &host, &error), 0);
        CHECK(llabs(host - later) <= error);
        CHECK(error >= before + 45 * seconds * seconds);
    }
}

/* ---- samples of a device that is only heard ------------------------------------------------- */

/* What the core makes of a stamp and a receipt. The stamp is the last whole tick of a counter that
   wraps, taken so long before the middle of the acquisition, or after it, as the driver states; the
   receipt is one latency after the acquisition. */
static void a_sample_that_is_only_heard_is_acquired_when_its_device_says(void)
{
    static const int64_t shifts[] = {0, 3000000, -3000000};
    static const double ticks[] = {1, 1000, 1000000};
    static const int64_t period_ns = 10000000;

    for (int i = 0; i < 9; i++) {
        struct inphase_core *core = calloc(1, sizeof *core);
        struct sensor *sensor;
        struct inphase_exchange *spec;
        struct inphase_clock_facts facts;
        int64_t shift_ns = shifts[i / 3], acquired = 0;

        /* what is stamped after its acquisition is received later still */
        int64_t least_ns = shift_ns < 0 ? -shift_ns : 0, stated_ns = shift_ns > 0 ? 0 : 200000;
        double tick_ns = ticks[i % 3], rate = 1 + 1e-6 * (double)(up_to(401) - 200);

        CHECK(core);
        core->statistics = calloc(1, sizeof *core->statistics);
        CHECK(core->statistics);
        sensor = &core->sensor[0];
        spec = &sensor->parser.exchange.spec;
        *spec = (struct inphase_exchange){
            .clock_type = INPHASE_U32, .clock_bits = 32, .clock_tick_ns = tick_ns,
            .clock_shift_ns = shift_ns, .reply_min_ns = least_ns, .reply_ns = least_ns + stated_ns,
            .reply_max_ns = least_ns + 700000};
        for (int n = 1; n <= 2000; n++) {
            int64_t truth_ns = n * period_ns + up_to(period_ns / 2);
            int64_t late = stated_ns + (n % 4 ? 0 : up_to(500000));
            double stamp = (double)(truth_ns - shift_ns) * rate / tick_ns;
            struct sample sample = {.triggered_ns = INPHASE_ABSENT,
                                    .received_ns = truth_ns + least_ns + late};

            /* it wraps after three seconds */
            sensor->parser.clock = (uint32_t)((1ULL << 32) - (uint64_t)(3e9 / tick_ns) +
                                              (uint64_t)(int64_t)stamp);
            acquire(core, sensor, &sample, true);
            if (sample.acquired_ns == INPHASE_ABSENT)
                continue;
            CHECK(llabs(sample.acquired_ns - truth_ns) <= sample.uncertainty_ns);
            CHECK(sample.acquired_ns <= sample.received_ns);

            /* the earliest arrivals have the stated latency */
            if (n > 1000 && tick_ns < 1e6)
                CHECK(llabs(sample.acquired_ns - truth_ns) < 50000);
            CHECK(sample.uncertainty_ns <= 1000000 + (int64_t)(3 * tick_ns));
            acquired++;
        }
        CHECK(acquired > 1900);
        inphase_device_clock_facts(&sensor->clock, &facts);
        CHECK_EQUAL(facts.rejected, 0);
        CHECK_EQUAL(facts.resets, 0);
        CHECK_EQUAL(load_i64(&core->statistics->clock[0][3]), facts.taken);
        free(core->statistics);
        free(core);
    }
}

int main(void)
{
    check_seed();
    RUN(the_truth_is_within_the_error_at_every_rate);
    RUN(a_counter_of_any_tick_is_mapped_and_its_rate_found);
    RUN(wrong_stamps_are_rejected_and_never_mapped);
    RUN(a_late_reply_is_taken_and_changes_little);
    RUN(a_reset_ends_the_mapping_and_a_new_one_is_found);
    RUN(the_error_grows_over_a_gap_and_still_holds);
    RUN(a_clock_that_stands_still_is_never_mapped);
    RUN(a_clock_that_stops_is_no_longer_mapped);
    RUN(a_clock_that_is_only_heard_is_mapped_with_its_stated_latencies);
    RUN(a_careful_worst_case_moves_no_stamp);
    RUN(the_earliest_of_uneven_arrivals_give_the_mapping);
    RUN(a_drift_that_changes_is_followed);
    RUN(a_backlog_at_the_start_does_not_pull_the_mapping);
    RUN(what_comes_after_the_worst_case_is_mapped_and_not_learned);
    RUN(late_arrivals_that_last_end_the_mapping);
    RUN(a_heard_clock_that_is_set_anew_is_learned_anew);
    RUN(a_wrong_stamp_in_a_backlog_costs_itself_alone);
    RUN(the_truth_is_within_the_error_of_what_is_heard);
    RUN(no_arrival_is_too_strange);
    RUN(no_input_is_too_strange);
    RUN(counters_are_unwrapped);
    RUN(the_error_grows_with_the_time_since_the_last_reading);
    RUN(a_sample_that_is_only_heard_is_acquired_when_its_device_says);
    return 0;
}
