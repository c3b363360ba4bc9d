/* A batch gives what each core gives alone, whichever thread steps it. */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "robot.h"

#define CORES 9
#define TURNS 40
#define ROUNDS 6
#define PERIOD_NS 1000000
#define CHANNELS 2

/* one joint, measured with noise; the seed makes each robot another one */
static void open_one(struct robot *robot, uint64_t seed)
{
    static const struct inphase_limits limits = {.low = -10, .high = 10, .velocity = 5,
                                                .acceleration = 50, .step = 20};
    static const double none[CHANNELS] = {NAN, NAN}, start = 0;
    struct inphase_twin_channel channel[CHANNELS] = {
        {.kind = INPHASE_TWIN_POSITION, .gain = 1, .noise = 0.01},
        {.kind = INPHASE_TWIN_VELOCITY, .gain = 1},
    };
    struct inphase_sensor_config sensor = {
        .worker = 1, .channels = CHANNELS, .payload = 8 * CHANNELS, .every = 1,
        .max_age_ns = 10 * PERIOD_NS, .recover = 3, .depth = 64,
        .exchange = {.acquire = INPHASE_ACQUIRE_TRIGGER},
        .twin = {.channel = channel, .latency_ns = 300000}, .low = none, .high = none,
        .rate = none,
    };
    struct inphase_servo servo = {.natural_rad_s = 60, .velocity_max = 5, .acceleration_max = 50};
    struct inphase_actuator_config actuator = {
        .device = 1, .channels = 1, .feedback_sensor = -1, .accepts = 1, .max_hold_ns = PERIOD_NS,
        .limits = &limits, .start = &start, .servo = &servo,
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 400000, .act_ns = 600000,
        .resumed_after_ns = 100 * PERIOD_NS, .seed = seed, .devices = 2, .sensors = 1,
        .actuators = 1, .frame_depth = 64, .overrun_limit = 1000, .has_policy = 1,
        .virtual_time = 1, .sensor = &sensor, .actuator = &actuator,
    };

    CHECK_EQUAL(make_robot(robot, &config), 0);
    start_robot(robot, 1);
    CHECK_EQUAL(inphase_core_turn(robot->core, 0), 0);
}

static struct robot together[CORES], alone[CORES];
static double values[ROUNDS][TURNS][CORES], seen[TURNS][CORES][CHANNELS];
static int64_t number[TURNS][CORES], cycle[TURNS][CORES];
static uint32_t reason[TURNS][CORES];
static uint8_t record[CORES][1024], taken[CORES];

static void draw_values(void)
{
    for (int round = 0; round < ROUNDS; round++)
        for (int turn = 0; turn < TURNS; turn++)
            for (int i = 0; i < CORES; i++)
                values[round][turn][i] = (double)(check_random() % 2000) / 1e5;
}

static void check_turn(int round, int turn, int i)
{
    const void *frame, *sample;
    int64_t next = inphase_core_answer_turn(alone[i].core, 0, &values[round][turn][i], 1, 0);

    CHECK(next >= 0);
    CHECK_EQUAL(number[turn][i], next);
    frame = lockstep_record(alone[i].core, next);
    sample = lockstep_sample(alone[i].core, frame, 0);
    CHECK_EQUAL(cycle[turn][i], ((const struct inphase_frame *)frame)->cycle);
    CHECK_EQUAL(reason[turn][i], 0);
    CHECK(!memcmp(seen[turn][i], sample, sizeof seen[turn][i]));
    if (turn + 1 == TURNS)
        CHECK(!memcmp(record[i], frame, alone[i].core->record_size));
}

static void each_core_goes_on_as_it_does_alone(void)
{
    static const double nothing[CHANNELS];
    const struct inphase_batch_part part = {
        .bytes = sizeof nothing, .nothing = nothing, .to = seen,
        .row_stride = sizeof seen[0][0], .turn_stride = sizeof seen[0],
    };
    inphase_core *core[CORES];
    uint32_t row[CORES];
    struct inphase_batch_work work = {
        .cores = CORES, .turns = TURNS, .rows = CORES, .parts = 1, .core = core, .row = row,
        .count = 1, .part = &part, .number = *number, .cycle = *cycle, .reason = *reason,
        .record = record, .record_size = sizeof record[0], .taken = taken,
    };
    inphase_batch *batch;

    draw_values();
    for (uint32_t i = 0; i < CORES; i++) {
        open_one(&together[i], i + 1);
        open_one(&alone[i], i + 1);
        core[i] = together[i].core;
        row[i] = i;
    }
    work.record_size = together[0].core->record_size;
    CHECK(work.record_size <= sizeof record[0]);
    CHECK_EQUAL(inphase_batch_open(&batch, INPHASE_BATCH_THREADS + 1), -EINVAL);
    CHECK_EQUAL(inphase_batch_open(&batch, 3), 0);
    for (int round = 0; round < ROUNDS; round++) {
        static uint8_t packed[CORES * sizeof record[0]];

        work.values = **values + round * TURNS * CORES;
        work.record = packed;
        inphase_batch_turn(batch, &work);
        for (int i = 0; i < CORES; i++)
            memcpy(record[i], packed + i * work.record_size, work.record_size);
        for (int turn = 0; turn < TURNS; turn++)
            for (int i = 0; i < CORES; i++)
                check_turn(round, turn, i);
    }
    inphase_batch_close(batch);
    for (int i = 0; i < CORES; i++) {
        close_robot(&together[i]);
        close_robot(&alone[i]);
    }
}

/* the others go on; the one that has stopped says so at every turn from there on */
static void a_core_that_ends_holds_up_no_other(void)
{
    static const double nothing[CHANNELS];
    const struct inphase_batch_part part = {
        .bytes = sizeof nothing, .nothing = nothing, .to = seen,
        .row_stride = sizeof seen[0][0], .turn_stride = sizeof seen[0],
    };
    inphase_core *core[2];
    const uint32_t row[2] = {1, 0};
    struct inphase_batch_work work = {
        .cores = 2, .turns = TURNS, .rows = CORES, .parts = 1, .core = core, .row = row,
        .values = **values, .count = 1, .part = &part, .number = *number, .cycle = *cycle,
        .reason = *reason, .taken = taken,
    };
    inphase_batch *batch;

    for (int i = 0; i < 2; i++) {
        open_one(&together[i], 1);
        core[i] = together[i].core;
    }
    inphase_core_stop(core[0], INPHASE_REASON_REQUEST, 0);
    CHECK_EQUAL(inphase_batch_open(&batch, 0), 0);
    inphase_batch_turn(batch, &work);
    CHECK(number[TURNS - 1][0] >= TURNS - 1);
    CHECK(number[TURNS - 1][1] < 0);
    work.cores = 0;
    inphase_batch_turn(batch, &work);
    inphase_batch_close(batch);
    for (int i = 0; i < 2; i++)
        close_robot(&together[i]);
}

int main(void)
{
    check_seed();
    RUN(each_core_goes_on_as_it_does_alone);
    RUN(a_core_that_ends_holds_up_no_other);
    return 0;
}
