/* The cycle on virtual time: statuses, faults, grid, commands. The robot is one joint: device 0 is
   a bus with a sensor (position) and the actuator, device 1 is a second sensor without sequence. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/mailbox.h"
#include "../src/store.h"
#include "../src/twin.h"
#include "check.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define DEADLINE_NS 500000LL
#define ACT_NS 700000LL
#define LATENCY_NS 200000LL
#define MAX_AGE_NS 3500000LL
#define MAX_HOLD_NS 3000000LL
#define RECOVER 3
/* cycles after a ramp: the joint follows, and is measured to be at rest for 0.1 s */
#define SETTLED 130

/* what a test may want to be different */
struct choice {
    int64_t reply_max_ns;   /* of the joint's bus */
    int64_t trigger_ns;     /* of the joint */
    uint32_t feedback;      /* which sensor the actuator depends on */
    double start;           /* of an actuator that moves blind */
    uint32_t channel;       /* which value the command's field takes */
    double noise;
    uint64_t seed;
    uint32_t watchdog;      /* of the actuator */
    double acceleration;    /* of its limits; the usual one reaches full velocity in one cycle */
    double jerk;
};
#define GENTLE 20 /* rad/s^2 */
static const struct choice usual = {.reply_max_ns = 400000, .seed = 1, .acceleration = 2000};

static int try_open(struct robot *robot, const struct choice *choice)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_servo servo = {.position = 0.25, .goal = 0.25,
                                               .natural_rad_s = 200, .velocity_max = 10,
                                               .acceleration_max = 1000};
    struct inphase_twin_channel joint = {INPHASE_TWIN_POSITION, 0, 0, 0, 1, choice->noise, NULL};
    struct inphase_twin_channel second = {.base = 0.25, .noise = choice->noise};
    const uint8_t packet[4] = {0};
    const struct inphase_field field = {0, INPHASE_I32, 0, choice->channel, 1, 0};
    const struct inphase_limits limits = {.low = -1, .high = 1, .velocity = 2, .step = 0.5,
                                          .acceleration = choice->acceleration,
                                          .jerk = choice->jerk};
    double low = -2, high = 2, rate = 500;
    struct inphase_sensor_config sensor[2] = {
        {.device = 0, .channels = 1, .trigger_ns = choice->trigger_ns, .max_age_ns = MAX_AGE_NS,
         .recover = RECOVER, .depth = 64, .every = 1, .payload = 8,
         .exchange = {.replies = 1, .reply = &reply, .sequence_type = INPHASE_U32,
                      .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                      .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = 50000,
                      .reply_max_ns = choice->reply_max_ns},
         .twin = {.channel = &joint, .latency_ns = LATENCY_NS}, .low = &low, .high = &high,
         .rate = &rate},
        {.device = 1, .channels = 1, .trigger_ns = 100000, .max_age_ns = MAX_AGE_NS,
         .recover = RECOVER, .depth = 64, .every = 1, .payload = 8,
         .exchange = {.replies = 1, .reply = &reply,
                      .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                      .acquire = INPHASE_ACQUIRE_MIDDLE, .reply_max_ns = 400000},
         .twin = {.channel = &second, .latency_ns = LATENCY_NS,
                  .jitter_ns = choice->noise != 0 ? LATENCY_NS : 0}},
    };
    struct inphase_actuator_config actuator = {
        .device = 0, .channels = 1, .feedback_sensor = (int32_t)choice->feedback,
        .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_HELD | 1 << INPHASE_LATE,
        .watchdog = choice->watchdog, .max_hold_ns = MAX_HOLD_NS, .limits = &limits,
        .servo = &servo,
        .start = &choice->start, .encoding = {.packet = packet, .packet_size = 4, .fields = 1,
                                              .field = &field},
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = DEADLINE_NS, .act_ns = ACT_NS,
        .resumed_after_ns = 20 * PERIOD_NS, .seed = choice->seed, .devices = 2, .sensors = 2,
        .actuators = 1, .frame_depth = 64, .overrun_limit = 5, .has_policy = 1,
        .virtual_time = 1, .sensor = sensor, .actuator = &actuator,
    };

    return make_robot(robot, &config);
}

static void open_robot(struct robot *robot, const struct choice *choice)
{
    CHECK_EQUAL(try_open(robot, choice), 0);
    start_robot(robot, 1);
}

static const struct inphase_act *act_of(const struct inphase_frame *frame)
{
    return (const struct inphase_act *)row_of(frame, 2);
}

static double requested_of(const struct inphase_frame *frame)
{
    return ((const double *)(act_of(frame) + 1))[0];
}

static double applied_of(const struct inphase_frame *frame)
{
    return ((const double *)(act_of(frame) + 1))[1];
}

/* the statuses of one sensor in the cycles to come, as digits */
static void expect_statuses(struct robot *robot, uint32_t sensor, const char *digits)
{
    for (size_t i = 0; digits[i]; i++) {
        const struct inphase_frame *frame = idle(robot);

        if (row_of(frame, sensor)->status != digits[i] - '0')
            fprintf(stderr, "cycle %d of \"%s\": status %d\n", (int)i, digits,
                    row_of(frame, sensor)->status);
        CHECK_EQUAL(row_of(frame, sensor)->status, digits[i] - '0');
    }
}

/* ---- statuses ---------------------------------------------------------------------------- */

static void a_reply_in_time_is_fresh_and_its_stamps_are_true(void)
{
    struct robot robot;

    open_robot(&robot, &usual);
    for (int64_t n = 0; n < 10; n++) {
        const struct inphase_frame *frame = idle(&robot);
        const struct inphase_row *row = row_of(frame, 0);

        CHECK_EQUAL(frame->cycle, n);
        CHECK_EQUAL(frame->due_ns, n * PERIOD_NS);
        CHECK_EQUAL(frame->woke_ns, frame->due_ns);
        CHECK_EQUAL(frame->triggered_ns, frame->due_ns);
        CHECK_EQUAL(frame->latched_ns, frame->due_ns + 100000 + LATENCY_NS);
        CHECK_EQUAL(frame->skew_ns, 150000);
        CHECK_EQUAL(frame->acted_cycle, n - 1);
        CHECK(frame->flags == 0 && frame->skipped == 0);
        CHECK(row->status == INPHASE_FRESH && row->reason == 0);
        CHECK_EQUAL(row->sequence, n);
        CHECK_EQUAL(row->triggered_ns, frame->due_ns);
        CHECK_EQUAL(row->acquired_ns, frame->due_ns + 50000);
        CHECK_EQUAL(row->received_ns, frame->due_ns + LATENCY_NS);
        CHECK_EQUAL(row->age_ns, frame->latched_ns - row->acquired_ns);
        CHECK_EQUAL(row_of(frame, 1)->acquired_ns, frame->due_ns + 200000);
    }
    close_robot(&robot);
}

static void a_silent_sensor_is_late_then_missing_then_fresh(void)
{
    struct robot robot;

    /* 2: LATE, 3: MISSING once the sample of cycle 1 is older than 3.5 ms */
    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 2, 5, 0);
    expect_statuses(&robot, 0, "002223370");
    close_robot(&robot);

    /* none yet is MISSING at once */
    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 0, 2, 0);
    expect_statuses(&robot, 0, "3370");
    close_robot(&robot);
}

static void a_late_reply_serves_later_frames_with_its_true_age(void)
{
    struct robot robot;
    const struct inphase_frame *frame;
    struct inphase_counts counts;

    /* the reply of cycle 2 comes after its latch, the reply of cycle 3 never */
    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_DELAYED, 0, 2, 1, 600000);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 3, 1, 0);
    expect_statuses(&robot, 0, "00");
    frame = idle(&robot);
    CHECK(row_of(frame, 0)->status == INPHASE_LATE && row_of(frame, 0)->sequence == 1);
    CHECK_EQUAL(row_of(frame, 0)->reason, INPHASE_REASON_SILENT);
    frame = idle(&robot);
    CHECK(row_of(frame, 0)->status == INPHASE_LATE && row_of(frame, 0)->sequence == 2);
    CHECK_EQUAL(row_of(frame, 0)->acquired_ns, 2 * PERIOD_NS + 50000);
    CHECK_EQUAL(row_of(frame, 0)->age_ns, frame->latched_ns - 2 * PERIOD_NS - 50000);
    frame = idle(&robot);
    CHECK(row_of(frame, 0)->status == INPHASE_RECOVERING && row_of(frame, 0)->sequence == 3);
    CHECK_EQUAL(inphase_reader_counts(robot.reader, &counts), 0);
    CHECK_EQUAL(counts.late_samples, 1);
    close_robot(&robot);
}

static void a_reply_that_never_pairs_is_dropped(void)
{
    struct robot robot;
    struct inphase_counts counts;

    /* later than the worst case of its trigger: the next trigger goes out, and the reply of the
       one before is not taken for it */
    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_DELAYED, 0, 2, 1, 1000000);
    expect_statuses(&robot, 0, "002700");
    CHECK_EQUAL(inphase_reader_counts(robot.reader, &counts), 0);
    CHECK_EQUAL(counts.late_samples, 0);
    close_robot(&robot);
}

static void a_sequence_that_stands_still_is_frozen(void)
{
    struct robot robot;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_FROZEN, 0, 2, 3, 0);
    expect_statuses(&robot, 0, "0044400");
    close_robot(&robot);
}

/* a device that was silent may count from anywhere, but its last number again is no new sample */
static void a_sequence_that_stands_still_after_a_silence_is_frozen(void)
{
    struct robot robot;

    open_robot(&robot, &usual);
    expect_statuses(&robot, 0, "00");
    plan(&robot, INPHASE_FAULT_SILENT, 0, 2, 6, 0);
    plan(&robot, INPHASE_FAULT_FROZEN, 0, 2, 9, 0);
    expect_statuses(&robot, 0, "222333444000");
    close_robot(&robot);
}

static void the_number_of_a_sample_out_of_range_is_not_taken_twice(void)
{
    struct robot robot;

    open_robot(&robot, &usual);
    expect_statuses(&robot, 0, "00");
    plan(&robot, INPHASE_FAULT_WRONG, 0, 2, 1, 100);
    plan(&robot, INPHASE_FAULT_FROZEN, 0, 3, 2, 0);
    expect_statuses(&robot, 0, "54400");
    close_robot(&robot);
}

static void an_invalid_reply_says_why_and_is_not_in_the_ring(void)
{
    struct robot robot;
    const struct inphase_row *row;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_INVALID, 0, 1, 1, INPHASE_REASON_CHECKSUM);
    plan(&robot, INPHASE_FAULT_NAN, 0, 2, 1, 0);
    plan(&robot, INPHASE_FAULT_WRONG, 0, 3, 1, 100);
    plan(&robot, INPHASE_FAULT_WRONG, 0, 4, 1, 2);
    expect_statuses(&robot, 0, "0");
    row = row_of(idle(&robot), 0);
    CHECK(row->status == INPHASE_INVALID && row->reason == INPHASE_REASON_CHECKSUM);
    row = row_of(idle(&robot), 0);
    CHECK(row->status == INPHASE_INVALID && row->reason == INPHASE_REASON_NAN);
    row = row_of(idle(&robot), 0);
    CHECK(row->status == INPHASE_INVALID && row->reason == INPHASE_REASON_RANGE);
    row = row_of(idle(&robot), 0);
    CHECK(row->status == INPHASE_INVALID && row->reason == INPHASE_REASON_RANGE);
    CHECK_EQUAL(row->sequence, 0);
    row = row_of(idle(&robot), 0);
    CHECK(row->status == INPHASE_FRESH && row->reason == 0 && row->sequence == 1);
    close_robot(&robot);
}

static void a_late_reply_that_is_refused_says_nothing_of_the_next(void)
{
    struct robot robot;
    const struct inphase_row *row;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_DELAYED, 0, 2, 1, 600000);
    plan(&robot, INPHASE_FAULT_NAN, 0, 2, 1, 0);
    expect_statuses(&robot, 0, "002");
    row = row_of(idle(&robot), 0);
    CHECK_EQUAL(row->status, INPHASE_FRESH);
    CHECK_EQUAL(row->reason, INPHASE_REASON_NONE);
    close_robot(&robot);
}

static void a_device_that_comes_back_is_offline_then_recovering_then_fresh(void)
{
    struct robot robot;
    struct inphase_status status;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_GONE, 0, 2, 4, 0);
    expect_statuses(&robot, 0, "00666677700");
    CHECK_EQUAL(inphase_reader_status(robot.reader, &status), 0);
    CHECK_EQUAL(status.lost_devices, 1);
    CHECK_EQUAL(status.latched, INPHASE_REASON_OFFLINE);
    close_robot(&robot);
}

static void one_sensor_that_fails_leaves_the_other_fresh(void)
{
    struct robot robot;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 1, 3, 0);
    plan(&robot, INPHASE_FAULT_GONE, 0, 5, 3, 0);
    expect_statuses(&robot, 1, "0000000000");
    close_robot(&robot);
}

static void a_short_sequence_number_may_wrap(void)
{
    struct robot robot;

    open_robot(&robot, &usual);
    robot.core->sensor[0].parser.exchange.spec.sequence_type = INPHASE_U8;
    for (int i = 0; i < 1000; i++) {
        robot.core->sensor[0].twin->sequence &= 0xff;
        CHECK_EQUAL(row_of(idle(&robot), 0)->status, INPHASE_FRESH);
    }
    close_robot(&robot);
}

/* ---- the grid ---------------------------------------------------------------------------- */

static void a_late_wake_skips_grid_points_and_keeps_the_phase(void)
{
    struct robot robot;
    const struct inphase_frame *frame;
    struct inphase_status status;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_WAKE, 0, 3, 1, 2500000);
    plan(&robot, INPHASE_FAULT_WAKE, 0, 8, 1, 300000);
    for (int64_t n = 0; n < 3; n++)
        CHECK_EQUAL(idle(&robot)->cycle, n);

    /* woken at 5.5 periods: 3, 4 and 5 are gone, 6 is on the grid */
    frame = idle(&robot);
    CHECK_EQUAL(frame->cycle, 6);
    CHECK_EQUAL(frame->due_ns, 6 * PERIOD_NS);
    CHECK_EQUAL(frame->woke_ns, 6 * PERIOD_NS);
    CHECK_EQUAL(frame->skipped, 3);
    CHECK_EQUAL(frame->flags, INPHASE_FLAG_SKIPPED);
    frame = idle(&robot);
    CHECK(frame->cycle == 7 && frame->skipped == 0 && frame->flags == 0);

    /* less than a period late: the cycle runs, late */
    frame = idle(&robot);
    CHECK(frame->cycle == 8 && frame->woke_ns == 8 * PERIOD_NS + 300000 && frame->skipped == 0);
    CHECK_EQUAL(inphase_reader_status(robot.reader, &status), 0);
    CHECK(status.skipped == 3 && status.cycles == 6);
    close_robot(&robot);
}

static void every_frame_is_on_the_grid_however_late_the_wakes(void)
{
    struct robot robot;

    for (int64_t late = PERIOD_NS / 2; late < 5 * PERIOD_NS; late += PERIOD_NS / 4) {
        int64_t skipped = 0, cycle = -1;

        open_robot(&robot, &usual);
        plan(&robot, INPHASE_FAULT_WAKE, 0, 5, 20, late);
        while (cycle < 100) {
            const struct inphase_frame *frame = idle(&robot);

            skipped += frame->skipped;
            CHECK_EQUAL(frame->cycle, cycle + 1 + frame->skipped);
            CHECK_EQUAL(frame->due_ns, frame->cycle * PERIOD_NS);
            CHECK(frame->woke_ns >= frame->due_ns && frame->latched_ns >= frame->woke_ns);
            cycle = frame->cycle;
        }
        CHECK(late < PERIOD_NS || skipped > 0);
        close_robot(&robot);
    }
}

static void a_suspension_latches_motion_until_it_is_armed_again(void)
{
    struct robot robot;
    const struct inphase_frame *frame;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_WAKE, 0, 5, 1, 50 * PERIOD_NS);
    for (int i = 0; i < 5; i++)
        ask(&robot, 0.25);
    frame = ask(&robot, 0.25);
    CHECK(frame->flags & INPHASE_FLAG_RESUMED);
    CHECK(frame->flags & INPHASE_FLAG_LATCHED);
    CHECK_EQUAL(frame->reason, INPHASE_REASON_RESUMED);
    for (int i = 0; i < SETTLED; i++) {
        frame = ask(&robot, 0.251);
        CHECK(!(frame->flags & INPHASE_FLAG_RESUMED) && (frame->flags & INPHASE_FLAG_LATCHED));
        CHECK(act_of(frame)->flags & INPHASE_ACT_RAMPING);
        CHECK_EQUAL(act_of(frame)->reason, INPHASE_REASON_RESUMED);
        CHECK(applied_of(frame) == 0.25);
    }
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    ask(&robot, 0.251);
    frame = ask(&robot, 0.251);
    CHECK(!(frame->flags & INPHASE_FLAG_LATCHED) && frame->reason == 0);
    CHECK(applied_of(frame) == 0.251);
    close_robot(&robot);
}

static void a_trigger_outside_of_the_read_window_is_refused(void)
{
    static const int64_t triggers[] = {-1, DEADLINE_NS, DEADLINE_NS + 1, PERIOD_NS};
    struct robot robot;
    struct choice choice = usual;

    for (size_t i = 0; i < sizeof triggers / sizeof *triggers; i++) {
        choice.trigger_ns = triggers[i];
        CHECK_EQUAL(try_open(&robot, &choice), -EINVAL);
        inphase_segment_close(robot.segment);
    }
}

static void a_start_or_an_encoding_that_leads_nowhere_is_refused(void)
{
    struct robot robot;
    struct choice choice = usual;

    choice.channel = 1;
    CHECK_EQUAL(try_open(&robot, &choice), -EINVAL);
    inphase_segment_close(robot.segment);
    choice.channel = 0;
    choice.feedback = UINT32_MAX;
    choice.start = NAN;
    CHECK_EQUAL(try_open(&robot, &choice), -EINVAL);
    inphase_segment_close(robot.segment);

    /* a blind actuator starts from where it was declared to be */
    choice.start = 0.5;
    open_robot(&robot, &choice);
    ask(&robot, 0.501);
    CHECK(applied_of(ask(&robot, 0.502)) == 0.501);
    close_robot(&robot);
}

/* ---- commands ---------------------------------------------------------------------------- */

static void a_command_of_its_cycle_is_applied_within_the_limits(void)
{
    struct robot robot;
    const struct inphase_frame *frame;
    double applied = 0.25;

    open_robot(&robot, &usual);
    ask(&robot, 0.25);
    for (int i = 0; i < 50; i++) {
        frame = ask(&robot, 0.9);
        if (i == 0)
            continue;

        /* 2 rad/s in 1 ms; and never further than a step from the measured position */
        CHECK(requested_of(frame) == 0.9);
        CHECK(fabs(applied_of(frame) - applied) <= 0.002 + 1e-12);
        CHECK(applied_of(frame) > applied);
        CHECK_EQUAL(act_of(frame)->flags, INPHASE_ACT_WRITTEN | INPHASE_ACT_LIMITED);
        applied = applied_of(frame);
    }
    close_robot(&robot);
}

static void a_missing_command_is_repeated_then_ramped(void)
{
    struct robot robot;
    const struct inphase_frame *frame;
    struct inphase_counts counts;

    open_robot(&robot, &usual);
    ask(&robot, 0.25);
    ask(&robot, 0.251);
    idle(&robot);

    /* max_hold is three periods from the act of the last valid command */
    for (int i = 0; i < 3; i++) {
        frame = idle(&robot);
        CHECK_EQUAL(act_of(frame)->flags,
                    INPHASE_ACT_WRITTEN | INPHASE_ACT_REPEATED | INPHASE_ACT_MISSED);
        CHECK_EQUAL(act_of(frame)->reason, INPHASE_REASON_SILENT);
        CHECK(isnan(requested_of(frame)) && applied_of(frame) == 0.251);
    }
    frame = idle(&robot);
    CHECK_EQUAL(act_of(frame)->flags,
                INPHASE_ACT_WRITTEN | INPHASE_ACT_RAMPING | INPHASE_ACT_MISSED);
    CHECK_EQUAL(inphase_reader_counts(robot.reader, &counts), 0);
    CHECK(counts.commands == 2 && counts.missed == 5 && counts.repeated == 3 && counts.ramped == 2);

    /* the next one is obeyed again */
    ask(&robot, 0.252);
    CHECK(applied_of(idle(&robot)) == 0.252);
    close_robot(&robot);
}

/* a policy that is silent, mad and sensible in turn, and is armed again at times */
static void what_is_applied_is_smooth_over_holds_ramps_and_arming(void)
{
    struct robot robot;
    struct choice choice = usual;
    double position = 0.25, velocity = 0, acceleration = 0, goal = 0.25, moves = 0;
    int mode = 0, ramped = 0;

    choice.acceleration = GENTLE;
    choice.jerk = 2000;
    open_robot(&robot, &choice);
    ask(&robot, 0.25);
    ask(&robot, 0.25);
    for (int i = 0; i < 20000; i++) {
        const struct inphase_frame *frame;
        double v, a;

        if (check_random() % 50 == 0) {
            mode = (int)(check_random() % 4);
            moves = ((double)(check_random() % 2001) - 1000) * 2e-6;
        }
        goal = mode == 1 ? (double)(check_random() % 3) - 1 : fmax(-1, fmin(1, goal + moves));
        frame = mode == 0 ? idle(&robot) : ask(&robot, mode == 2 ? NAN : goal);
        CHECK(act_of(frame)->flags & INPHASE_ACT_WRITTEN);
        ramped += (act_of(frame)->flags & INPHASE_ACT_RAMPING) != 0;
        v = applied_of(frame) - position;
        a = v - velocity;
        CHECK(fabs(applied_of(frame)) <= 1 && fabs(v) <= 2e-3 + 1e-12);
        CHECK(fabs(a) <= 2e-5 + 1e-12 && fabs(a - acceleration) <= 2e-6 + 1e-12);
        position += v;
        velocity = v;
        acceleration = a;
        if (v != 0 || a != 0 || check_random() % 100)
            continue;

        /* the joint has settled by then; at rest, and at the first command near it */
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        for (int k = 0; k < SETTLED; k++)
            idle(&robot);
        CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        idle(&robot);
        position = applied_of(idle(&robot));
        goal = robot.core->actuator[0].motion[0].position;
        mode = 3;
    }
    CHECK(ramped > 1000);
    close_robot(&robot);
}

/* nothing went out in between: the device has braked, and is not asked to be where it would be */
static void a_motion_goes_on_slower_after_cycles_that_did_not_run(void)
{
    for (int64_t skipped = 2; skipped < 19; skipped++) {
        struct robot robot;
        struct choice choice = usual;
        double goal = 0.25, before, moved;

        choice.acceleration = GENTLE;
        open_robot(&robot, &choice);
        for (int i = 0; i < 60; i++)
            ask(&robot, goal = fmin(goal + 1e-5 * i, 0.9));
        before = robot.core->actuator[0].motion[0].position;
        moved = robot.core->actuator[0].motion[0].velocity * 1e-3;
        CHECK(moved > 5e-4);
        plan(&robot, INPHASE_FAULT_WAKE, 0, 60, 1, skipped * PERIOD_NS - PERIOD_NS / 2);
        CHECK_EQUAL(ask(&robot, 0.9)->skipped, skipped);
        moved = skipped > 16 ? 0 : fmax(moved - 2e-5 * (double)skipped, 0);
        CHECK(fabs(robot.core->actuator[0].motion[0].position - before - moved) <= 2e-5 + 1e-12);
        close_robot(&robot);
    }
}

static void a_command_that_is_not_finite_is_never_applied(void)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    struct robot robot;
    const struct inphase_frame *frame;
    struct inphase_counts counts;
    int64_t reasons[INPHASE_REASONS];

    open_robot(&robot, &usual);
    ask(&robot, 0.25);
    for (int i = 0; i < 3; i++)
        ask(&robot, bad[i]);
    for (int i = 0; i < 3; i++) {
        frame = ask(&robot, bad[i]);
        CHECK(act_of(frame)->flags & INPHASE_ACT_INVALID);
        CHECK_EQUAL(act_of(frame)->reason, INPHASE_REASON_NAN);
        CHECK(applied_of(frame) == 0.25 && isnan(requested_of(frame)));
    }
    CHECK_EQUAL(inphase_reader_counts(robot.reader, &counts), 0);
    CHECK(counts.invalid == 6 && counts.commands == 1);
    CHECK_EQUAL(inphase_reader_reasons(robot.reader, reasons), INPHASE_REASONS);
    CHECK_EQUAL(reasons[INPHASE_REASON_NAN], 6);
    close_robot(&robot);
}

static void a_first_command_that_is_too_far_away_is_refused(void)
{
    struct robot robot;
    const struct inphase_frame *frame;

    open_robot(&robot, &usual);
    for (int i = 0; i < 4; i++) {
        frame = ask(&robot, 0.3);
        if (i == 0)
            continue;
        CHECK_EQUAL(act_of(frame)->flags,
                    INPHASE_ACT_WRITTEN | INPHASE_ACT_INVALID | INPHASE_ACT_HOLDING);
        CHECK_EQUAL(act_of(frame)->reason, INPHASE_REASON_START);
        CHECK(applied_of(frame) == 0.25 && requested_of(frame) == 0.3);
    }
    ask(&robot, 0.251);
    CHECK(applied_of(idle(&robot)) == 0.251);
    close_robot(&robot);
}

static void write_mail(struct inphase_core *core, const struct mail *mail)
{
    struct mailbox *mailbox = core->own_mailbox;
    uint64_t number = mailbox_head(mailbox);
    uint64_t at = number % MAILBOX_SLOTS * ring_stride(sizeof *mail + 8 * core->setpoints.answer);

    slot_write((struct slot *)((uint8_t *)mailbox + MAILBOX_RING + at), number, mail, sizeof *mail);
    atomic_store(&mailbox->head, number + 1);
}

static void a_reason_that_does_not_exist_is_refused(void)
{
    struct robot robot;
    int64_t reasons[INPHASE_REASONS];
    struct mail mail = {.cycle = 1, .valid_until_ns = INT64_MAX, .reason = 0x40000000};
    double value = 0.25;

    open_robot(&robot, &usual);
    ask(&robot, 0.25);
    latch(&robot);
    CHECK_EQUAL(answer(&robot, robot.core->cycle, INPHASE_REASONS, &value, 1), -EINVAL);

    /* written past the functions, as a policy gone mad might: counted as a wrong shape */
    write_mail(robot.core, &mail);
    cycle_run(robot.core, CYCLE_ACT);
    CHECK_EQUAL(inphase_reader_reasons(robot.reader, reasons), INPHASE_REASONS);
    CHECK_EQUAL(reasons[INPHASE_REASON_SHAPE], 1);

    /* the number of channels is the core's to say */
    latch(&robot);
    CHECK_EQUAL(answer(&robot, robot.core->cycle, INPHASE_REASON_NONE, NULL, 0), 0);
    robot.core->own_mailbox->values = 0;
    cycle_run(robot.core, CYCLE_ACT);
    CHECK_EQUAL(inphase_reader_reasons(robot.reader, reasons), INPHASE_REASONS);
    CHECK_EQUAL(reasons[INPHASE_REASON_SHAPE], 2);
    close_robot(&robot);
}

static void a_place_that_was_not_written_is_not_remembered(void)
{
    struct robot robot;
    struct choice choice = usual;
    const struct inphase_frame *frame;

    /* the bus is busy at the first act: its sensor is silent, the feedback is the other one */
    choice.feedback = 1;
    choice.reply_max_ns = 900000;
    open_robot(&robot, &choice);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 0, 1, 0);
    ask(&robot, 0.25);
    frame = ask(&robot, 0.25);
    CHECK_EQUAL(act_of(frame)->reason, INPHASE_REASON_BUSY);
    CHECK(!(act_of(frame)->flags & INPHASE_ACT_WRITTEN) && isnan(applied_of(frame)));
    frame = ask(&robot, 0.25);
    CHECK(act_of(frame)->flags & INPHASE_ACT_WRITTEN);
    CHECK(applied_of(frame) == 0.25);
    close_robot(&robot);
}

static void old_feedback_ramps(void)
{
    struct robot robot;
    const struct inphase_frame *frame = NULL;

    open_robot(&robot, &usual);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 3, 100, 0);
    for (int i = 0; i < 12; i++)
        frame = ask(&robot, 0.25);
    CHECK(act_of(frame)->flags & INPHASE_ACT_RAMPING);
    CHECK_EQUAL(act_of(frame)->reason, INPHASE_REASON_FEEDBACK);
    close_robot(&robot);
}

/* each input of the feed, frozen from cycle 50 on for 100 cycles; PLANNED is a fault of the bus */
enum input { PLANNED, POLICY };
static const struct frozen {
    enum input input;
    uint32_t what;          /* INPHASE_FAULT_*, or the policy's INPHASE_REASON_* */
    int64_t argument;
} frozen_inputs[] = {
    {PLANNED, INPHASE_FAULT_SILENT, 0},
    {PLANNED, INPHASE_FAULT_DELAYED, 5000000},
    {PLANNED, INPHASE_FAULT_INVALID, INPHASE_REASON_CHECKSUM},
    {PLANNED, INPHASE_FAULT_INVALID, INPHASE_REASON_DEVICE},
    {PLANNED, INPHASE_FAULT_NAN, 0},
    {PLANNED, INPHASE_FAULT_WRONG, 100},
    {PLANNED, INPHASE_FAULT_FROZEN, 0},
    {POLICY, INPHASE_REASON_SILENT, 0},
    {POLICY, INPHASE_REASON_RAISED, 0},
    {POLICY, INPHASE_REASON_NAN, 0},
    {POLICY, INPHASE_REASON_SHAPE, 0},
};
#define FROZEN_FROM 50
#define FROZEN_FOR 1200

/* one cycle of a robot whose policy goes on, but for what is frozen */
static const struct inphase_frame *go_on(struct robot *robot, const struct frozen *frozen,
                                         double goal)
{
    const struct inphase_frame *frame = latch(robot);
    bool is_frozen = frozen->input == POLICY && frame->cycle >= FROZEN_FROM &&
                     frame->cycle < FROZEN_FROM + FROZEN_FOR;

    if (is_frozen && frozen->what == INPHASE_REASON_NAN)
        goal = NAN;
    if (is_frozen && (frozen->what == INPHASE_REASON_RAISED ||
                      frozen->what == INPHASE_REASON_SHAPE))
        CHECK_EQUAL(answer(robot, robot->core->cycle, frozen->what, NULL, 0), 0);
    else if (!is_frozen || frozen->what == INPHASE_REASON_NAN)
        CHECK_EQUAL(answer(robot, robot->core->cycle, INPHASE_REASON_NONE, &goal, 1), 0);
    cycle_run(robot->core, CYCLE_ACT);
    return frame;
}

static void watchdog_starves(uint32_t watchdog, const struct frozen *frozen)
{
    struct choice choice = usual;
    struct robot robot;
    const struct inphase_frame *frame = NULL;
    double goal = 0.25, rest = NAN;
    int64_t starved_ns, sequence;
    int written = 0;

    choice.watchdog = watchdog;
    choice.acceleration = GENTLE;
    open_robot(&robot, &choice);
    if (frozen->input == PLANNED)
        plan(&robot, frozen->what, 0, FROZEN_FROM, FROZEN_FOR, frozen->argument);
    for (int i = 0; i <= FROZEN_FROM; i++)
        frame = go_on(&robot, frozen, goal += 0.0015);
    CHECK_EQUAL(act_of(frame)->flags & (INPHASE_ACT_WRITTEN | INPHASE_ACT_STARVED),
                INPHASE_ACT_WRITTEN);

    /* 50 ms at 20 rad/s^2 gave 1 rad/s: the ramp takes 50 ms, and is fed. It rests for a second, in
       which it might go on. Then nothing is fed, although the input comes back in between */
    for (int i = 0; i < FROZEN_FOR + 50; i++) {
        frame = go_on(&robot, frozen, goal += 0.0015);
        if (act_of(frame)->flags & INPHASE_ACT_STARVED)
            break;
        written += (act_of(frame)->flags & INPHASE_ACT_WRITTEN) != 0;
        rest = applied_of(frame);
    }
    CHECK(written > 1000 && written < FROZEN_FOR);
    CHECK(act_of(frame)->flags & INPHASE_ACT_RAMPING);
    starved_ns = frame->due_ns;
    sequence = row_of(frame, 0)->sequence;
    for (int i = 0; i < FROZEN_FOR + 50; i++) {
        frame = go_on(&robot, frozen, goal);
        CHECK_EQUAL(act_of(frame)->flags & (INPHASE_ACT_STARVED | INPHASE_ACT_WRITTEN),
                    INPHASE_ACT_STARVED);
        CHECK(frame->flags & INPHASE_FLAG_LATCHED && applied_of(frame) == rest);
        CHECK_EQUAL(row_of(frame, 1)->status, INPHASE_FRESH);
    }

    /* where reads feed too, the bus was not asked again; else it is, and the input is back */
    if (watchdog == 2) {
        CHECK(row_of(frame, 0)->triggered_ns < starved_ns);
        CHECK(row_of(frame, 0)->sequence <= sequence + 1);
        CHECK_EQUAL(row_of(frame, 0)->status, INPHASE_MISSING);
    } else {
        CHECK_EQUAL(row_of(frame, 0)->status, INPHASE_FRESH);
    }

    /* armed, it is read and fed again, from where it stands */
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    for (int i = 0; i < SETTLED; i++)
        frame = ask(&robot, row_of(frame, 0)->sequence < 0 ? 0.25 : rest);
    CHECK_EQUAL(row_of(frame, 0)->status, INPHASE_FRESH);
    CHECK_EQUAL(act_of(frame)->flags, INPHASE_ACT_WRITTEN);
    CHECK_EQUAL(frame->flags & INPHASE_FLAG_LATCHED, 0);
    close_robot(&robot);
}

static void a_watchdog_is_fed_until_the_ramp_is_done_and_not_before_it_is_armed(void)
{
    for (uint32_t watchdog = 1; watchdog <= 2; watchdog++)
        for (size_t i = 0; i < sizeof frozen_inputs / sizeof *frozen_inputs; i++) {
            watchdog_starves(watchdog, &frozen_inputs[i]);
        }
}

static void a_robot_that_holds_or_repeats_feeds_its_watchdog(void)
{
    struct choice choice = usual;
    struct robot robot;

    choice.watchdog = 2;
    open_robot(&robot, &choice);
    for (int i = 0; i < 50; i++)
        idle(&robot);
    for (int i = 0; i < 20; i++)
        ask(&robot, 0.25);
    idle(&robot); /* for less than max_hold */
    idle(&robot);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(act_of(ask(&robot, 0.25))->flags & INPHASE_ACT_STARVED, 0);
    close_robot(&robot);
}

static void a_hiccup_shorter_than_a_second_needs_no_arming(void)
{
    struct choice choice = usual;
    struct robot robot;
    const struct inphase_frame *frame = NULL;

    choice.watchdog = 2;
    open_robot(&robot, &choice);
    for (int times = 0; times < 3; times++) {
        for (int i = 0; i < 20; i++)
            frame = ask(&robot, 0.25);
        CHECK_EQUAL(act_of(frame)->flags, INPHASE_ACT_WRITTEN);
        for (int i = 0; i < 900; i++)
            idle(&robot);
    }
    CHECK_EQUAL(frame->flags & INPHASE_FLAG_LATCHED, 0);
    close_robot(&robot);
}

static void a_stop_ramps_then_ends_and_keeps_its_first_reason(void)
{
    struct robot robot;
    struct choice choice = usual;
    struct inphase_status status;
    double goal = 0.25, before, moved = 0.002;
    int cycles = 0;

    choice.acceleration = GENTLE;
    open_robot(&robot, &choice);
    for (int i = 0; i < 50; i++)
        ask(&robot, goal += 0.0015);
    inphase_core_stop(robot.core, INPHASE_REASON_SIGNAL, 15);
    inphase_core_stop(robot.core, INPHASE_REASON_REQUEST, 7);
    before = applied_of(latch(&robot));
    cycle_run(robot.core, CYCLE_ACT);
    while (cycle_run(robot.core, CYCLE_READ)) {
        const struct inphase_frame *frame;

        CHECK_EQUAL(inphase_reader_next(robot.reader, 0, 0), 0);
        frame = inphase_reader_record(robot.reader);
        cycle_run(robot.core, CYCLE_ACT);
        CHECK(frame->flags & INPHASE_FLAG_STOPPING);
        CHECK(frame->reason == INPHASE_REASON_SIGNAL && frame->detail == 15);

        /* slower in each cycle, by 20 rad/s^2 */
        if (cycles > 0)
            CHECK(fabs(applied_of(frame) - before - fmax(moved - 2e-5, 0)) <= 1e-12);
        moved = applied_of(frame) - before;
        CHECK(moved >= 0 && moved <= 0.002);
        before = applied_of(frame);
        CHECK(++cycles < 200);
    }
    CHECK(cycles > 10);
    CHECK(!cycle_run(robot.core, CYCLE_READ));
    CHECK_EQUAL(inphase_reader_status(robot.reader, &status), 0);
    CHECK(status.reason == INPHASE_REASON_SIGNAL && status.detail == 15);
    CHECK(status.cycles == 50 && status.state == INPHASE_STATE_STOPPED);
    close_robot(&robot);
}

/* ---- the same again ---------------------------------------------------------------------- */

static uint64_t bytes_of_a_run(uint64_t seed)
{
    struct choice choice = usual;
    struct robot robot;
    uint64_t digest = 14695981039346656037ULL;

    choice.noise = 0.001;
    choice.seed = seed;
    open_robot(&robot, &choice);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 20, 3, 0);
    plan(&robot, INPHASE_FAULT_WAKE, 0, 40, 2, 1700000);
    plan(&robot, INPHASE_FAULT_GONE, 1, 60, 10, 0);
    plan(&robot, INPHASE_FAULT_NAN, 1, 90, 10, 0);
    for (int i = 0; i < 200; i++) {
        const uint8_t *record = (const void *)ask(&robot, 0.25 + 0.001 * (i % 50));
        uint64_t size = robot.core->record_size;
        double value = 0;

        inphase_reader_copy(robot.reader, 0, row_of((const void *)record, 0)->sequence, &value);
        for (uint64_t b = 0; b < size; b++)
            digest = (digest ^ record[b]) * 1099511628211ULL;
        for (uint64_t b = 0; b < sizeof value; b++)
            digest = (digest ^ ((uint8_t *)&value)[b]) * 1099511628211ULL;
    }
    close_robot(&robot);
    return digest;
}

static void the_same_seed_gives_the_same_bytes(void)
{
    uint64_t first = bytes_of_a_run(7);

    CHECK(bytes_of_a_run(7) == first);
    CHECK(bytes_of_a_run(8) != first);
}

/* nothing planned here is better than the truth: random faults, and what must hold of any frame */
static void plan_any(struct robot *robot)
{
    uint32_t kind = 1 + (uint32_t)(check_random() % 8);
    int64_t argument = (int64_t)(check_random() % 3000000);

    if (kind == INPHASE_FAULT_INVALID)
        argument = 1 + argument % 5;
    if (kind == INPHASE_FAULT_NAN)
        argument = 0;
    if (kind == INPHASE_FAULT_WRONG)
        argument = 100; /* out of range: a wrong place that is possible is believed */
    plan(robot, kind, (uint32_t)(check_random() % 2), (int64_t)(check_random() % 200),
         1 + (int64_t)(check_random() % 8), argument);
}

static void expect_possible(const struct inphase_frame *frame, const struct inphase_row *row)
{
    CHECK(row->status < INPHASE_STATUSES && row->reason < INPHASE_REASONS);
    if (row->status == INPHASE_FRESH)
        CHECK(row->triggered_ns >= frame->due_ns && row->reason == 0);
    if (row->sequence >= 0)
        CHECK((row->age_ns >= 0 || row->age_ns == INPHASE_ABSENT) &&
              row->triggered_ns <= frame->latched_ns);
}

static void random_faults_never_break_a_frame(void)
{
    struct robot robot;
    struct choice choice = usual;

    choice.noise = 0.001;
    for (int round = 0; round < 200; round++) {
        int64_t cycle = -1;
        double applied = NAN;

        choice.seed = check_random();
        choice.reply_max_ns = 200000 + (int64_t)(check_random() % 1500000);
        choice.watchdog = (uint32_t)(check_random() % 3);
        open_robot(&robot, &choice);
        for (int i = 0; i < 20; i++)
            plan_any(&robot);
        while (cycle < 200 && cycle_run(robot.core, CYCLE_READ)) {
            double value = check_random() % 20 ? 0.25 + 0.0005 * (double)(cycle % 100) : NAN;
            const struct inphase_frame *frame;

            CHECK_EQUAL(inphase_reader_next(robot.reader, 0, 0), 0);
            frame = inphase_reader_record(robot.reader);
            CHECK_EQUAL(frame->cycle, cycle + 1 + frame->skipped);
            CHECK_EQUAL(frame->due_ns, frame->cycle * PERIOD_NS);
            for (uint32_t i = 0; i < 2; i++)
                expect_possible(frame, row_of(frame, i));

            /* neither a jump nor a number that is none */
            if (!isnan(applied) && !isnan(applied_of(frame)) && frame->acted_cycle == cycle)
                CHECK(fabs(applied_of(frame) - applied) <= 0.5);
            if (act_of(frame)->flags & INPHASE_ACT_STARVED)
                CHECK(choice.watchdog && !(act_of(frame)->flags & INPHASE_ACT_WRITTEN));
            if (act_of(frame)->flags & INPHASE_ACT_WRITTEN)
                CHECK(isfinite(applied_of(frame)) && fabs(applied_of(frame)) <= 1);
            applied = applied_of(frame);
            cycle = frame->cycle;
            if (check_random() % 4)
                CHECK_EQUAL(answer(&robot, robot.core->cycle, 0, &value, 1), 0);
            cycle_run(robot.core, CYCLE_ACT);
            if (check_random() % 16 == 0)
                CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        }
        close_robot(&robot);
    }
}

int main(void)
{
    check_seed();
    RUN(a_reply_in_time_is_fresh_and_its_stamps_are_true);
    RUN(a_silent_sensor_is_late_then_missing_then_fresh);
    RUN(a_late_reply_serves_later_frames_with_its_true_age);
    RUN(a_reply_that_never_pairs_is_dropped);
    RUN(a_sequence_that_stands_still_is_frozen);
    RUN(a_sequence_that_stands_still_after_a_silence_is_frozen);
    RUN(the_number_of_a_sample_out_of_range_is_not_taken_twice);
    RUN(an_invalid_reply_says_why_and_is_not_in_the_ring);
    RUN(a_late_reply_that_is_refused_says_nothing_of_the_next);
    RUN(a_device_that_comes_back_is_offline_then_recovering_then_fresh);
    RUN(one_sensor_that_fails_leaves_the_other_fresh);
    RUN(a_short_sequence_number_may_wrap);
    RUN(a_late_wake_skips_grid_points_and_keeps_the_phase);
    RUN(every_frame_is_on_the_grid_however_late_the_wakes);
    RUN(a_suspension_latches_motion_until_it_is_armed_again);
    RUN(a_trigger_outside_of_the_read_window_is_refused);
    RUN(a_start_or_an_encoding_that_leads_nowhere_is_refused);
    RUN(a_command_of_its_cycle_is_applied_within_the_limits);
    RUN(a_missing_command_is_repeated_then_ramped);
    RUN(what_is_applied_is_smooth_over_holds_ramps_and_arming);
    RUN(a_motion_goes_on_slower_after_cycles_that_did_not_run);
    RUN(a_command_that_is_not_finite_is_never_applied);
    RUN(a_first_command_that_is_too_far_away_is_refused);
    RUN(a_reason_that_does_not_exist_is_refused);
    RUN(a_place_that_was_not_written_is_not_remembered);
    RUN(old_feedback_ramps);
    RUN(a_watchdog_is_fed_until_the_ramp_is_done_and_not_before_it_is_armed);
    RUN(a_robot_that_holds_or_repeats_feeds_its_watchdog);
    RUN(a_hiccup_shorter_than_a_second_needs_no_arming);
    RUN(a_stop_ramps_then_ends_and_keeps_its_first_reason);
    RUN(the_same_seed_gives_the_same_bytes);
    RUN(random_faults_never_break_a_frame);
    return 0;
}
