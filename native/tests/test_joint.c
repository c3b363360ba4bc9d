/* The act and its feedback on virtual time, with a joint that the test moves itself: it has no lag
   and no model, so what it does follows from the commands alone. Device 0 is a bus with a sensor of
   the joint and the actuator, device 1 a second sensor of the same joint. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../src/actuator.h"
#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/device.h"
#include "../src/guard_page.h"
#include "../src/relaxed.h"
#include "../src/sensor.h"
#include "../src/state.h"
#include "../src/twin.h"
#include "check.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define SETTLED 130 /* cycles after which a joint is measured to be at rest, 0.1 s */
#define PERIOD_S 1e-3
#define ACQUIRED_NS 100000LL    /* after the start of the cycle */
#define ACT_NS 700000LL
#define MAX_AGE_NS 3500000LL
#define RESUMED_CYCLES 20
#define BUS 0
#define BESIDE 1
enum { POSITION, VELOCITY, EFFORT, QUANTITIES };

/* what a test may want to be different */
struct choice {
    struct inphase_limits limits;
    int32_t feedback;           /* BUS or BESIDE; -1: none */
    int64_t reply_max_ns;       /* of the bus */
    uint32_t watchdog;          /* of the actuator */
    uint32_t frozen_after;      /* of both sensors */
    uint32_t kind;              /* of the feedback: INPHASE_FEEDBACK_* */
    bool disabled, approaches;
};
static const struct choice position = {
    .limits = {.low = -1, .high = 1, .velocity = 2, .acceleration = 2000, .step = 0.5},
    .reply_max_ns = 400000};
static const struct choice velocity = {
    .limits = {.low = -1, .high = 1, .velocity = 2, .acceleration = 20,
               .mode = INPHASE_MODE_VELOCITY},
    .reply_max_ns = 400000};
static const struct choice effort = {
    .limits = {.low = -1, .high = 1, .velocity = 2, .effort = 3, .rate = 100,
               .mode = INPHASE_MODE_EFFORT},
    .reply_max_ns = 400000};

static int try_robot(struct robot *robot, const struct choice *choice)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_servo servo = {.natural_rad_s = 1, .inertia = 1};
    static const uint8_t packet[4] = {0};
    struct inphase_twin_channel channel[QUANTITIES];
    struct inphase_sensor_config sensor = {
        .channels = QUANTITIES, .max_age_ns = MAX_AGE_NS, .recover = 3, .depth = 64, .every = 1,
        .payload = 8 * QUANTITIES, .frozen_after = choice->frozen_after,
        .exchange = {.replies = 1, .reply = &reply, .sequence_type = INPHASE_U32,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = ACQUIRED_NS,
                     .reply_max_ns = choice->reply_max_ns},
        .twin = {.channel = channel, .latency_ns = 200000},
    };
    struct inphase_actuator_config actuator = {
        .channels = 1, .feedback_sensor = choice->feedback, .feedback_kind = choice->kind,
        .feedback_channel = choice->kind == INPHASE_FEEDBACK_POSITION ? POSITION : VELOCITY,
        .measures = choice->feedback < 0 ? 0 : INPHASE_MEASURES_VELOCITY | INPHASE_MEASURES_EFFORT,
        .velocity_channel = VELOCITY, .effort_channel = EFFORT,
        .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_HELD | 1 << INPHASE_LATE,
        .watchdog = choice->watchdog, .approaches = choice->approaches,
        .max_hold_ns = 3 * PERIOD_NS,
        .limits = &choice->limits, .servo = &servo, .guarded = 1,
        .encoding = {.packet = packet, .packet_size = 4},
    };
    struct inphase_sensor_config sensors[2] = {sensor, sensor};
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 500000, .act_ns = ACT_NS,
        .resumed_after_ns = RESUMED_CYCLES * PERIOD_NS, .devices = 2, .sensors = 2,
        .actuators = 1, .frame_depth = 64, .overrun_limit = 5, .has_policy = 1,
        .virtual_time = 1, .sensor = sensors, .actuator = &actuator,
    };

    for (int i = 0; i < QUANTITIES; i++)
        channel[i] = (struct inphase_twin_channel){.kind = INPHASE_TWIN_WORLD, .gain = 1,
                                                   .source = &robot->joint[i]};
    sensors[BESIDE].device = 1;
    sensors[BESIDE].exchange.reply_max_ns = position.reply_max_ns;
    return make_robot(robot, &config);
}

static void open_robot(struct robot *robot, const struct choice *choice)
{
    CHECK_EQUAL(try_robot(robot, choice), 0);
    start_robot(robot, !choice->disabled);
}

/* what the cycle that was run last did */
static const struct inphase_act *act_of(const struct robot *robot)
{
    return robot->core->act[0];
}

static double applied(const struct robot *robot)
{
    return ((const double *)(act_of(robot) + 1))[1];
}

/* ---- where the joint is ------------------------------------------------------------------ */

/* A velocity has gone on since the joint was measured. With the 0.6 ms from the acquisition to the
   act left out, this joint would come to rest 1.2 mrad outside of its range; with them subtracted,
   2.4 */
static void a_velocity_comes_to_rest_inside_of_the_range_however_old_its_sample(void)
{
    for (int old = 0; old < 3; old++)
        for (int sign = -1; sign <= 1; sign += 2) {
            struct robot robot;
            double place = 0, highest = 0;

            open_robot(&robot, &velocity);

            /* the samples of some cycles are lost in the way to the wall: those before stand in */
            plan(&robot, INPHASE_FAULT_SILENT, BUS, 485, old, 0);
            for (int n = 0; n < 1000; n++) {
                double since_act_s = PERIOD_S - (double)(ACT_NS - ACQUIRED_NS) * 1e-9;

                /* place is that of the last act */
                robot.joint[VELOCITY] = n ? applied(&robot) : 0;
                if (n < 2)
                    robot.joint[VELOCITY] = 0;
                robot.joint[POSITION] = place + robot.joint[VELOCITY] * since_act_s;
                place += robot.joint[VELOCITY] * PERIOD_S;
                ask(&robot, sign * fmin(2, 0.02 * n));
                highest = fmax(highest, sign * place);
            }
            CHECK(highest <= 1 + 1e-9);
            CHECK(applied(&robot) == 0 || fabs(applied(&robot)) < 1e-3);
            CHECK(old || highest > 1 - 1e-3);
            close_robot(&robot);
        }
}

/* between the latch and the act a sample grows older: the act has the last word */
static void feedback_that_grows_too_old_before_the_act_ramps(void)
{
    struct robot robot;
    const struct inphase_frame *frame;

    open_robot(&robot, &position);
    plan(&robot, INPHASE_FAULT_SILENT, BUS, 3, 10, 0);
    for (int n = 0; n < 5; n++) {
        ask(&robot, 0);
        CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_NONE);
    }

    /* acquired 3.4 ms before the latch, and 3.6 ms before the act */
    frame = ask(&robot, 0);
    CHECK_EQUAL(row_of(frame, BUS)->status, INPHASE_LATE);
    CHECK_EQUAL(frame->latched_ns - row_of(frame, BUS)->acquired_ns, 3400000);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_FEEDBACK);
    CHECK(act_of(&robot)->flags & INPHASE_ACT_RAMPING);
    close_robot(&robot);
}

/* an arm that has sagged, or was pushed, is not driven back to where it was held */
static void a_first_command_is_compared_with_where_the_joint_is(void)
{
    int64_t reasons[INPHASE_REASONS];
    struct robot robot;

    open_robot(&robot, &position);
    for (int n = 0; n < 5; n++)
        idle(&robot);
    CHECK(act_of(&robot)->flags & INPHASE_ACT_HOLDING);
    robot.joint[POSITION] = 0.05;
    for (int n = 0; n < 3; n++) {
        ask(&robot, 0);
        CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_START);
        CHECK_EQUAL(act_of(&robot)->flags,
                    INPHASE_ACT_WRITTEN | INPHASE_ACT_INVALID | INPHASE_ACT_HOLDING);
    }
    CHECK(counts(&robot).invalid == 3 && counts(&robot).commands == 0);
    CHECK_EQUAL(inphase_reader_reasons(robot.reader, reasons), INPHASE_REASONS);
    CHECK_EQUAL(reasons[INPHASE_REASON_START], 3);
    ask(&robot, 0.051);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_NONE);
    CHECK(counts(&robot).invalid == 3 && counts(&robot).commands == 1);
    close_robot(&robot);
}

/* what turns or pushes by itself holds what it has; its next command starts from there, too */
static void a_first_command_after_arming_again_is_compared_in_every_mode(void)
{
    static const struct choice *modes[] = {&position, &velocity, &effort};
    static const double step[] = {0.002, 0.02, 0.1};

    for (int i = 0; i < 3; i++) {
        struct robot robot;

        open_robot(&robot, modes[i]);
        for (int n = 0; n < 5; n++)
            ask(&robot, 0);
        CHECK_EQUAL(act_of(&robot)->flags, INPHASE_ACT_WRITTEN);
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        for (int n = 0; n < SETTLED; n++)
            idle(&robot);
        CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        for (int n = 0; n < 3; n++) {
            ask(&robot, 1.5 * step[i]);
            CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_START);
            CHECK(act_of(&robot)->flags & INPHASE_ACT_HOLDING);
            CHECK(applied(&robot) == 0);
        }
        ask(&robot, 0.5 * step[i]);
        CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_NONE);
        CHECK(applied(&robot) == 0.5 * step[i]);
        close_robot(&robot);
    }
}

/* a command that is refused is no accepted one because its feedback is lost as well */
static void a_refused_command_counts_as_refused_whatever_else_is_wrong(void)
{
    struct robot robot;

    open_robot(&robot, &position);
    plan(&robot, INPHASE_FAULT_SILENT, BUS, 10, 10, 0);
    for (int n = 0; n < 30; n++) {
        ask(&robot, 0.5);
        if (n == 15)
            CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_FEEDBACK);
    }
    CHECK_EQUAL(counts(&robot).commands, 0);
    CHECK_EQUAL(counts(&robot).invalid, 30);
    CHECK_EQUAL(counts(&robot).unanswered, 30);
    close_robot(&robot);
}

static struct inphase_travel travel(struct robot *robot)
{
    struct inphase_travel found;

    CHECK_EQUAL(inphase_reader_travel(robot->reader, 0, 1, &found), 0);
    return found;
}

/* a joint is commanded, and follows with a share of the motion; in velocity mode at half speed */
static void the_travel_of_a_joint_is_kept_as_it_was_commanded_and_measured(void)
{
    static const struct choice *modes[] = {&position, &velocity};
    static const double shares[] = {1, 0.02, 0};

    for (int i = 0; i < 6; i++) {
        struct choice choice = *modes[i / 3];
        double share = shares[i % 3], place = 0;
        struct robot robot;

        choice.limits.acceleration = 20;
        choice.limits.low = -5;
        choice.limits.high = 5;
        open_robot(&robot, &choice);
        ask(&robot, 0);
        CHECK(travel(&robot).commanded == 0 && travel(&robot).since_ns == 0);
        for (int n = 0; n < 600; n++) {
            ask(&robot, i < 3 ? 0.0005 * n : fmin(0.002 * n, 1));
            place = i < 3 ? share * applied(&robot) : place + share * applied(&robot) * PERIOD_S;
            robot.joint[POSITION] = place;
        }

        /* a position from end to end; 0 to 1 rad/s in 0.5 s, and 0.1 s more */
        CHECK(fabs(travel(&robot).commanded - (i < 3 ? 0.2995 : 0.35)) < 0.003);
        CHECK(fabs(travel(&robot).measured - share * travel(&robot).commanded) < 0.002);

        /* it is judged once it was commanded over half of a step, or a quarter of a second */
        CHECK_EQUAL(travel(&robot).since_ns > 0, i < 3);
        close_robot(&robot);
    }
}

/* where nothing is measured, and where a command has no place, nothing is told */
static void the_travel_of_what_has_no_place_is_none(void)
{
    struct choice choices[2] = {position, effort};

    choices[0].feedback = -1;
    for (int i = 0; i < 2; i++) {
        static const double start = 0;
        struct robot robot;

        open_robot(&robot, &choices[i]);
        if (i == 0)
            CHECK_EQUAL(inphase_core_holds(robot.core, 0, &start, 1), 0);
        for (int n = 0; n < 500; n++)
            ask(&robot, 0.001 * n);
        CHECK(applied(&robot) > 0.4);
        CHECK(travel(&robot).commanded == 0 && travel(&robot).since_ns == 0);
        close_robot(&robot);
    }
}

/* ask for a value until it is applied, with a joint that follows its commands; the cycles that it
   took. Differences of the applied values keep within `first`, and their differences in `second` */
static int approach(struct robot *robot, double value, double first, double second)
{
    double before = 0, rise = 0;

    for (int n = 0; n < 1000; n++) {
        uint32_t flags;
        double now;

        ask(robot, value);
        now = applied(robot);
        flags = act_of(robot)->flags;
        CHECK(((const double *)(act_of(robot) + 1))[0] == value);
        CHECK(fabs(now - before) <= first * (1 + 1e-9));
        CHECK(fabs(now - before - rise) <= second * (1 + 1e-9));
        CHECK_EQUAL(act_of(robot)->reason, INPHASE_REASON_NONE);
        CHECK(flags & INPHASE_ACT_WRITTEN);
        CHECK(flags & INPHASE_ACT_APPROACHING || fabs(now - value) < 1e-12);
        if (!(flags & INPHASE_ACT_APPROACHING))
            return n;
        CHECK(flags & INPHASE_ACT_LIMITED);
        rise = now - before;
        before = now;
        if (robot->core->actuator[0].mode == INPHASE_MODE_POSITION) {
            robot->joint[VELOCITY] = rise / PERIOD_S;
            robot->joint[POSITION] = now;
        }
    }
    CHECK(!"it is reached");
    return 0;
}

/* what a policy asks for first is far away: where that may be approached, no limit is broken on the
   way, each act says so, and after a stop it holds again */
static void a_first_command_from_far_away_is_approached(void)
{
    static const struct { const struct choice *mode; double value, first, second; } cases[] = {
        {&position, 0.4, 2e-3, 20e-6}, {&velocity, 1.5, 20e-3, 1}, {&effort, -2.5, 0.1, 1},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct choice choice = *cases[i].mode;
        struct robot robot;

        choice.approaches = true;
        choice.limits.acceleration = 20;
        open_robot(&robot, &choice);
        CHECK(approach(&robot, cases[i].value, cases[i].first, cases[i].second) > 10);
        CHECK_EQUAL(counts(&robot).invalid, 0);

        /* a silence that ramps: the next command is approached from there, as any is */
        for (int n = 0; n < SETTLED; n++) {
            idle(&robot);
            robot.joint[VELOCITY] = 0;
        }
        ask(&robot, cases[i].value);
        CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_NONE);

        /* a stop, and motion again from where it is */
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        for (int n = 0; n < 2 * SETTLED; n++)
            idle(&robot);
        robot.joint[POSITION] = 0;
        for (int n = 0; n < SETTLED; n++)
            idle(&robot);
        CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        CHECK(approach(&robot, -cases[i].value, cases[i].first, cases[i].second) > 10);
        close_robot(&robot);
    }
}

/* an approach to beyond the range ends at its end */
static void an_approach_ends_where_the_bounds_end_it(void)
{
    struct choice choice = position;
    struct robot robot;

    choice.approaches = true;
    open_robot(&robot, &choice);
    for (int n = 0; n < 1000; n++) {
        ask(&robot, 3);
        robot.joint[POSITION] = applied(&robot);
    }
    CHECK(applied(&robot) == 1);
    CHECK_EQUAL(act_of(&robot)->flags, INPHASE_ACT_WRITTEN | INPHASE_ACT_LIMITED);
    close_robot(&robot);
}

/* a policy that goes on smoothly, and a wall at 0.1 with 50 N m per rad of command behind it */
static void a_joint_that_meets_a_wall_is_sent_no_further_in_either_direction(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct robot robot;
        struct choice choice = position;
        double asked = 0;

        choice.limits.acceleration = 20;
        choice.limits.effort = 5;
        open_robot(&robot, &choice);
        for (int n = 0; n < 1500; n++) {
            if (n > 2) {
                robot.joint[POSITION] = sign * fmin(sign * applied(&robot), 0.1);
                robot.joint[EFFORT] = sign * 50 * fmax(0, sign * applied(&robot) - 0.1);
            }
            asked += fmin(0.01 * n, 0.5) * PERIOD_S;
            ask(&robot, sign * asked);
        }
        CHECK(asked > 0.7);

        /* 0.5 rad/s, braked with 20 rad/s^2, are 6 mrad; and a sample is a cycle old */
        CHECK(sign * applied(&robot) > 0.2 && sign * applied(&robot) < 0.21);
        close_robot(&robot);
    }
}

/* ---- what may be written ----------------------------------------------------------------- */

static void an_actuator_that_is_not_enabled_is_not_written_to(void)
{
    struct robot robot;
    struct choice choice = position;
    struct inphase_status status;

    choice.disabled = true;
    open_robot(&robot, &choice);
    for (int n = 0; n < 5; n++) {
        ask(&robot, 0);
        CHECK(!(act_of(&robot)->flags & INPHASE_ACT_WRITTEN) && isnan(applied(&robot)));
    }
    CHECK_EQUAL(inphase_reader_status(robot.reader, &status), 0);
    CHECK_EQUAL(status.refusal, INPHASE_REASON_OFFLINE);
    CHECK_EQUAL(inphase_core_enable(robot.core, 0, 1), 0);
    for (int n = 0; n < 5; n++)
        ask(&robot, 0);
    CHECK_EQUAL(act_of(&robot)->flags, INPHASE_ACT_WRITTEN);

    /* nor when it was armed, and is switched off: but for its stop, until it is measured to be at
       rest */
    CHECK_EQUAL(inphase_core_enable(robot.core, 0, 0), 0);
    for (int n = 0; n < SETTLED; n++) {
        ask(&robot, 0.0005 * n);
        if (act_of(&robot)->flags & INPHASE_ACT_WRITTEN)
            CHECK(act_of(&robot)->reason == INPHASE_REASON_REST && applied(&robot) == 0);
        else
            CHECK(isnan(applied(&robot)));
    }
    CHECK(!(act_of(&robot)->flags & INPHASE_ACT_WRITTEN));
    CHECK_EQUAL(robot.core->actuator[0].plant->count, 0);
    close_robot(&robot);
}

/* a policy that says no has a reason of its own */
static void a_command_that_was_refused_for_any_reason_counts_as_invalid(void)
{
    struct robot robot;
    int64_t refused = 0;

    open_robot(&robot, &position);
    idle(&robot);
    for (uint32_t reason = 1; reason < INPHASE_REASONS; reason++) {
        int64_t missed = reason == INPHASE_REASON_SILENT || reason == INPHASE_REASON_DIED;

        CHECK(cycle_run(robot.core, CYCLE_READ));
        CHECK_EQUAL(answer(&robot, robot.core->cycle, reason, NULL, 0), 0);
        cycle_run(robot.core, CYCLE_ACT);
        refused += !missed && reason != INPHASE_REASON_DROPPED;
        CHECK_EQUAL(counts(&robot).invalid, refused);
        CHECK(applied(&robot) == 0);
    }
    close_robot(&robot);
}

/* the rest of a refused reply may still be on the wire: a command would collide with it */
static void a_line_whose_reply_was_refused_is_busy_until_it_is_quiet(void)
{
    struct robot robot;
    struct choice choice = position;

    choice.feedback = BESIDE;
    choice.reply_max_ns = 900000;
    open_robot(&robot, &choice);
    plan(&robot, INPHASE_FAULT_INVALID, BUS, 5, 1, INPHASE_REASON_CHECKSUM);
    for (int n = 0; n < 5; n++)
        ask(&robot, 0);
    CHECK_EQUAL(act_of(&robot)->flags, INPHASE_ACT_WRITTEN);
    CHECK_EQUAL(row_of(ask(&robot, 0), BUS)->status, INPHASE_INVALID);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_BUSY);
    CHECK_EQUAL(act_of(&robot)->flags & INPHASE_ACT_WRITTEN, 0);
    CHECK_EQUAL(counts(&robot).busy, 1);

    /* quiet by the next act */
    CHECK_EQUAL(row_of(ask(&robot, 0), BUS)->status, INPHASE_FRESH);
    CHECK(act_of(&robot)->flags & INPHASE_ACT_WRITTEN);
    close_robot(&robot);
}

/* a place that was only looked up is none, and a command that did not go out engages nothing */
static void a_first_command_that_was_not_written_is_still_the_first(void)
{
    struct robot robot;
    struct choice choice = position;

    choice.feedback = BESIDE;
    choice.reply_max_ns = 900000;
    open_robot(&robot, &choice);
    for (int n = 0; n < 5; n++)
        idle(&robot);
    plan(&robot, INPHASE_FAULT_INVALID, BUS, 5, 1, INPHASE_REASON_CHECKSUM);
    ask(&robot, 0.0015);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_BUSY);
    ask(&robot, 0.003);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_START);
    CHECK(act_of(&robot)->flags & INPHASE_ACT_HOLDING && applied(&robot) == 0);
    close_robot(&robot);
}

/* what is not commanded any more, and rests, is not to be stopped: a person may have it */
static void the_guard_leaves_an_actuator_alone_that_is_switched_off(void)
{
    struct guard_page page = {.moving = 3};
    struct robot robot;

    open_robot(&robot, &position);
    for (int n = 0; n < 5; n++)
        ask(&robot, 0);
    page.layout.max_hold_ns = 20 * PERIOD_NS;
    robot.core->guard.page = &page;
    ask(&robot, 0);
    CHECK_EQUAL(page.moving, 3);
    CHECK_EQUAL(inphase_core_enable(robot.core, 0, 0), 0);
    ask(&robot, 0);
    CHECK_EQUAL(page.moving, 3);
    for (int n = 0; n < SETTLED; n++)
        idle(&robot);
    CHECK_EQUAL(page.moving, 2);
    robot.core->guard.page = NULL;
    close_robot(&robot);
}

static int busy_write(struct inphase_core *core, struct actuator *actuator)
{
    (void)core;
    (void)actuator;
    return -EAGAIN;
}

/* a device that gets nothing slows down where it is, and its next command starts from there */
static void a_motion_slows_down_in_cycles_in_which_nothing_could_be_written(void)
{
    struct device_ops ops = twin_ops;
    struct choice choice = position;
    struct robot robot;
    double asked = 0, before;

    ops.write = busy_write;
    choice.limits.acceleration = 20;
    open_robot(&robot, &choice);
    for (int n = 0; n < 100; n++) {
        asked += fmin(0.02 * n, 1) * PERIOD_S;
        ask(&robot, asked);
    }
    before = applied(&robot);
    CHECK(fabs(before - asked) < 1e-12);
    robot.core->device[BUS].ops = &ops;
    for (int n = 0; n < 5; n++)
        ask(&robot, asked += PERIOD_S);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_BUSY);
    robot.core->device[BUS].ops = &twin_ops;
    ask(&robot, asked += PERIOD_S);

    /* 1 rad/s, less five cycles of 20 rad/s^2, and one of it the other way */
    CHECK(fabs(applied(&robot) - before - 0.92 * PERIOD_S) < 1e-9);
    close_robot(&robot);
}

/* Where a device holds already, once, and only if the joint may be sent there at all */
static void a_joint_starts_at_the_goal_that_it_holds_at_where_that_is_near(void)
{
    static const double off[] = {0.49, -0.49, 0.51, -0.51};

    for (int i = 0; i < 4; i++) {
        struct choice choice = position;
        struct robot robot;
        double goal = 0.2 + off[i];

        open_robot(&robot, &choice);
        robot.joint[POSITION] = 0.2;
        CHECK_EQUAL(inphase_core_holds(robot.core, 0, &goal, 1), 0);
        idle(&robot);
        idle(&robot);
        CHECK(act_of(&robot)->flags & INPHASE_ACT_HOLDING);
        CHECK(applied(&robot) == (i < 2 ? goal : 0.2));
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        for (int n = 0; n < SETTLED; n++)
            idle(&robot);
        robot.joint[POSITION] = 0.3;
        for (int n = 0; n < SETTLED; n++)
            idle(&robot);
        CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        idle(&robot);
        CHECK(act_of(&robot)->flags & INPHASE_ACT_HOLDING && applied(&robot) == 0.3);
        close_robot(&robot);
    }
}

/* no sensor says where the joint is: its driver does, or it gets nothing at all. Power that was
   away leaves the joint elsewhere than where it was commanded last */
static void a_blind_joint_starts_where_its_driver_says_or_is_not_armed(void)
{
    static const double goals[] = {0.7, -0.4};
    struct choice choice = position;
    struct robot robot;
    double nowhere = NAN;

    choice.feedback = -1;
    open_robot(&robot, &choice);
    CHECK_EQUAL(inphase_core_holds(robot.core, 0, &nowhere, 1), 0);
    for (int n = 0; n < 5; n++) {
        ask(&robot, 0);
        CHECK_EQUAL(act_of(&robot)->flags & INPHASE_ACT_WRITTEN, 0);
        CHECK(isnan(applied(&robot)));
    }
    CHECK_EQUAL(load_u32(&robot.core->state->state), INPHASE_STATE_OPENED);
    CHECK_EQUAL(load_u32(&robot.core->state->refusal), INPHASE_REASON_FEEDBACK);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(inphase_core_holds(robot.core, 0, &goals[i], 1), 0);
        CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        idle(&robot);
        CHECK(act_of(&robot)->flags & INPHASE_ACT_HOLDING && applied(&robot) == goals[i]);
        ask(&robot, 0);
        CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_START);
        CHECK(applied(&robot) == goals[i]);
        ask(&robot, goals[i] - 0.001);
        CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_NONE);
        CHECK(applied(&robot) == goals[i] - 0.001);
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        for (int n = 0; n < SETTLED; n++)
            idle(&robot);
    }

    /* nothing new is said: it is where it was commanded */
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    idle(&robot);
    CHECK(act_of(&robot)->flags & INPHASE_ACT_HOLDING && fabs(applied(&robot) - goals[1]) < 0.002);
    close_robot(&robot);
}

/* Outside of its range, by more than a step, a joint is not driven in by itself, whatever is asked;
   by less it comes back */
static void a_joint_that_is_found_far_outside_of_its_range_stands(void)
{
    for (int i = 0; i < 4; i++) {
        int sign = i % 2 ? 1 : -1;
        struct choice choice = position;
        struct robot robot;

        choice.approaches = i / 2;
        open_robot(&robot, &choice);
        robot.joint[POSITION] = sign * 1.51;
        for (int n = 0; n < 10; n++) {
            ask(&robot, sign * (n < 5 ? 1.51 : 1));
            if (n < 2)
                continue;
            CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_START);
            CHECK_EQUAL(act_of(&robot)->flags,
                        INPHASE_ACT_WRITTEN | INPHASE_ACT_INVALID | INPHASE_ACT_HOLDING);
            CHECK(applied(&robot) == sign * 1.51);
        }
        close_robot(&robot);
        open_robot(&robot, &choice);
        robot.joint[POSITION] = sign * 1.49;
        for (int n = 0; n < 10; n++)
            ask(&robot, sign * 1.49);
        CHECK(act_of(&robot)->flags & INPHASE_ACT_LIMITED);
        CHECK(sign * applied(&robot) < 1.485);
        close_robot(&robot);
    }
}

static int broken_write(struct inphase_core *core, struct actuator *actuator)
{
    (void)core;
    (void)actuator;
    return -EIO;
}

static void a_device_that_cannot_be_written_to_is_lost(void)
{
    struct device_ops ops = twin_ops;
    const struct inphase_frame *frame;
    struct robot robot;

    ops.write = broken_write;
    open_robot(&robot, &position);
    for (int n = 0; n < 5; n++)
        ask(&robot, 0);
    robot.core->device[BUS].ops = &ops;
    ask(&robot, 0);
    CHECK(!(act_of(&robot)->flags & INPHASE_ACT_WRITTEN));
    CHECK(!robot.core->device[BUS].attached);
    frame = ask(&robot, 0);
    CHECK_EQUAL(row_of(frame, BUS)->status, INPHASE_OFFLINE);
    CHECK_EQUAL(frame->reason, INPHASE_REASON_OFFLINE);
    close_robot(&robot);
}

/* a joint that is too fast is sent nothing that makes it faster; its velocity is measured */
static void an_effort_yields_to_the_velocity_that_is_measured(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct robot robot;

        open_robot(&robot, &effort);
        for (int n = 0; n < 20; n++)
            ask(&robot, sign * 0.1 * fmin(n, 10));
        CHECK(applied(&robot) == sign * 1.0);
        robot.joint[VELOCITY] = sign * 2.1;
        robot.joint[EFFORT] = -sign * 1.0;
        for (int n = 0; n < 11; n++)
            ask(&robot, sign * 1.0);
        CHECK(applied(&robot) == 0);
        robot.joint[VELOCITY] = sign * -2.1;
        for (int n = 0; n < 11; n++)
            ask(&robot, sign * 1.0);
        CHECK(applied(&robot) == sign * 1.0);
        close_robot(&robot);
    }
}

/* ---- ramps and arming -------------------------------------------------------------------- */

/* a ramp that its limits make longer than that is cut */
static void a_stop_ends_within_its_bound(void)
{
    struct robot robot;
    struct choice choice = velocity;
    int cycles = 0;

    choice.limits.acceleration = 0.5;
    choice.limits.low = -INFINITY;
    choice.limits.high = INFINITY;
    open_robot(&robot, &choice);
    for (int n = 0; n < 2000; n++)
        ask(&robot, 0.0005 * n);
    CHECK(applied(&robot) > 0.9);
    inphase_core_stop(robot.core, INPHASE_REASON_SIGNAL, 15);
    while (cycle_run(robot.core, CYCLE_READ)) {
        cycle_run(robot.core, CYCLE_ACT);
        CHECK(++cycles < 2000);
    }
    CHECK(cycles >= 1300 && cycles <= 1302);
    CHECK(applied(&robot) < 0.9);
    close_robot(&robot);
}

/* a stop of the run is the last word */
static void a_robot_that_is_stopping_is_not_armed(void)
{
    struct robot robot;
    int cycles = 0;

    open_robot(&robot, &velocity);
    for (int n = 0; n < 50; n++)
        ask(&robot, 0.02 * n);

    /* motion is latched, too: there is something that arming could clear */
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    ask(&robot, 1);
    inphase_core_stop(robot.core, INPHASE_REASON_SIGNAL, 15);
    ask(&robot, 1);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    while (cycle_run(robot.core, CYCLE_READ)) {
        CHECK_EQUAL(load_u32(&robot.core->state->latched), INPHASE_REASON_ESTOP);
        CHECK(!robot.core->wants_arm);
        cycle_run(robot.core, CYCLE_ACT);
        CHECK(++cycles < 2000);
    }
    CHECK(cycles > 40);
    CHECK_EQUAL(load_u32(&robot.core->state->state), INPHASE_STATE_STOPPED);
    close_robot(&robot);
}

static void arming_waits_until_the_ramp_has_come_to_rest(void)
{
    struct robot robot;
    struct inphase_status status;
    int refused = 0;

    open_robot(&robot, &velocity);
    for (int n = 0; n < 50; n++)
        ask(&robot, 0.02 * n);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    ask(&robot, 1);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    do {
        CHECK(refused < 2 * SETTLED);
        ask(&robot, 1);
        CHECK_EQUAL(inphase_reader_status(robot.reader, &status), 0);
        refused += status.refusal == INPHASE_REASON_MOVING;
    } while (status.state == INPHASE_STATE_RAMPING);

    /* 1 rad/s at 0.02 per cycle */
    CHECK(refused >= 45);
    ask(&robot, 1);
    CHECK_EQUAL(load_u32(&robot.core->state->latched), INPHASE_REASON_NONE);
    close_robot(&robot);
}

/* a joint that turns steadily differs from itself by nothing: its velocity says that it moves */
static void a_joint_whose_velocity_is_its_feedback_rests_when_that_is_small(void)
{
    struct robot robot;
    struct choice choice = velocity;
    int fast = 0;

    choice.kind = INPHASE_FEEDBACK_VELOCITY;
    choice.limits.low = -INFINITY;
    choice.limits.high = INFINITY;
    open_robot(&robot, &choice);
    for (int n = 0; n < 20; n++)
        ask(&robot, 0.02 * fmin(n, 10));
    CHECK(applied(&robot) == 0.2);
    robot.joint[VELOCITY] = 0.26;
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    for (int n = 0; n < 1500; n++) {
        const struct inphase_frame *frame = idle(&robot);

        CHECK(frame->state != INPHASE_STATE_FAULTED && !(frame->flags & INPHASE_FLAG_STOPPED));
        CHECK_EQUAL(inphase_core_moves(robot.core, 0), n > 0);
    }
    CHECK(applied(&robot) == 0);
    CHECK_EQUAL(load_u32(&robot.core->state->state), INPHASE_STATE_UNCONTROLLED);

    /* to and fro: slow only while it turns round */
    for (int n = 0; n < 600; n++) {
        robot.joint[VELOCITY] = 0.26 * cos(n * 0.02 * 3.14159265358979);
        fast += fabs(robot.joint[VELOCITY]) > 0.05;
        CHECK_EQUAL(idle(&robot)->state, INPHASE_STATE_UNCONTROLLED);
    }
    CHECK(fast > 400 && fast < 590);

    /* at rest for 0.1 s, and no sooner; then pushed */
    robot.joint[VELOCITY] = -0.049;
    idle(&robot);
    robot.joint[VELOCITY] = 0.3;
    idle(&robot);
    robot.joint[VELOCITY] = -0.049;
    for (int n = 0; n < 100; n++)
        CHECK_EQUAL(idle(&robot)->state, INPHASE_STATE_UNCONTROLLED);
    CHECK_EQUAL(idle(&robot)->state, INPHASE_STATE_FAULTED);
    robot.joint[VELOCITY] = 0.051;
    CHECK_EQUAL(idle(&robot)->state, INPHASE_STATE_UNCONTROLLED);
    close_robot(&robot);
}

/* a switch is off once it is told so, whatever the pressure behind it does */
static void a_feedback_that_says_nothing_of_motion_is_none_for_rest(void)
{
    static const struct choice valve = {
        .limits = {.mode = INPHASE_MODE_SWITCH, .dwell_s = 0.005}, .reply_max_ns = 400000,
        .kind = INPHASE_FEEDBACK_OTHER};
    struct robot robot;

    open_robot(&robot, &valve);
    for (int n = 0; n < 20; n++)
        ask(&robot, 1);
    CHECK(applied(&robot) == 1);
    inphase_core_stop(robot.core, INPHASE_REASON_SIGNAL, 15);
    for (int n = 0; cycle_run(robot.core, CYCLE_READ); n++) {
        robot.joint[VELOCITY] += 100;
        cycle_run(robot.core, CYCLE_ACT);
        CHECK(n < 20);
    }
    CHECK(applied(&robot) == 0);
    CHECK_EQUAL(load_u32(&robot.core->state->state), INPHASE_STATE_STOPPED);
    close_robot(&robot);
}

static void a_feedback_that_is_not_what_its_mode_needs_is_refused(void)
{
    struct choice wrong[] = {position, velocity, effort, velocity, position, velocity};
    struct robot robot;

    wrong[3].limits.low = -INFINITY;
    wrong[3].limits.high = INFINITY;
    wrong[5] = wrong[3];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        wrong[i].kind = INPHASE_FEEDBACK_VELOCITY + (i == 3 || i == 4) + 2 * (i == 5);
        CHECK_EQUAL(try_robot(&robot, &wrong[i]), -EINVAL);
        inphase_segment_close(robot.segment);
    }
}

/* what was being built up is not there any more when cycles did not run */
static void an_acceleration_is_built_up_anew_after_cycles_that_did_not_run(void)
{
    struct robot robot;
    struct choice choice = velocity;
    double before, step = 0;

    choice.limits.jerk = 400;
    choice.limits.low = -INFINITY;
    choice.limits.high = INFINITY;
    open_robot(&robot, &choice);
    for (int n = 0; n < 60; n++) {
        before = applied(&robot);
        ask(&robot, 2);
        if (n < 3)
            ask(&robot, 0);
        step = applied(&robot) - before;
    }
    CHECK(step > 0.015);
    before = applied(&robot);
    plan(&robot, INPHASE_FAULT_WAKE, 0, robot.core->cycle, 1, 3 * PERIOD_NS / 2);
    CHECK_EQUAL(ask(&robot, 2)->skipped, 2);
    CHECK(applied(&robot) - before <= 0.0004 + 1e-12);
    close_robot(&robot);
}

/* a worker's device is read no more, either: it is told so, until motion is asked for again */
static void a_starved_device_is_told_until_motion_is_asked_for(void)
{
    struct robot robot;
    struct choice choice = position;

    for (uint32_t watchdog = 1; watchdog <= 2; watchdog++) {
        choice.watchdog = watchdog;
        open_robot(&robot, &choice);
        for (int n = 0; n < 5; n++)
            ask(&robot, 0);
        for (int n = 0; n < 1020; n++)
            idle(&robot);
        CHECK(act_of(&robot)->flags & INPHASE_ACT_STARVED);
        CHECK_EQUAL(load_u32(&robot.core->state->starved), watchdog == 2);
        CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        idle(&robot);
        CHECK_EQUAL(load_u32(&robot.core->state->starved), 0);
        close_robot(&robot);
    }
}

/* ---- a machine that stood still ---------------------------------------------------------- */

static int64_t held_up_ns;
static struct device_ops slow_ops;

static int slow_write(struct inphase_core *core, struct actuator *actuator)
{
    int rc = twin_ops.write(core, actuator);

    core->virtual_ns += held_up_ns;
    held_up_ns = 0;
    return rc;
}

/* the next wake is on the grid and not late: the cycle's own end has to notice */
static void a_suspension_in_the_act_latches_motion(void)
{
    static const int64_t cycles[] = {RESUMED_CYCLES / 2, RESUMED_CYCLES + 2};

    for (int i = 0; i < 2; i++) {
        struct robot robot;
        const struct inphase_frame *frame;
        uint32_t resumed = i == 1;

        open_robot(&robot, &position);
        for (int n = 0; n < 5; n++)
            ask(&robot, 0);
        slow_ops = twin_ops;
        slow_ops.write = slow_write;
        robot.core->device[0].ops = &slow_ops;
        held_up_ns = cycles[i] * PERIOD_NS;
        ask(&robot, 0);
        frame = ask(&robot, 0);
        CHECK_EQUAL(frame->woke_ns, frame->due_ns);
        CHECK(frame->flags & INPHASE_FLAG_OVERRUN);
        CHECK_EQUAL((frame->flags & INPHASE_FLAG_RESUMED) != 0, resumed);
        CHECK_EQUAL((frame->flags & INPHASE_FLAG_LATCHED) != 0, resumed);
        CHECK_EQUAL(frame->reason, resumed ? INPHASE_REASON_RESUMED : 0);
        close_robot(&robot);
    }
}

static int64_t trigger_ns;

static int slow_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    int rc = twin_ops.trigger(core, sensor, now_ns);

    core->virtual_ns += trigger_ns;
    trigger_ns = 0;
    return rc;
}

/* a trigger that takes its time makes the next one late: that is told, of the device that was
   late */
static void a_late_trigger_is_among_the_worst_cycles(void)
{
    struct inphase_worst worst[INPHASE_WORST];
    struct robot robot;

    open_robot(&robot, &position);
    for (int n = 0; n < 5; n++)
        idle(&robot);
    CHECK_EQUAL(inphase_reader_worst(robot.reader, worst), 0);
    slow_ops = twin_ops;
    slow_ops.trigger = slow_trigger;
    robot.core->device[BUS].ops = &slow_ops;
    trigger_ns = 30000;
    CHECK_EQUAL(row_of(idle(&robot), BESIDE)->triggered_ns, 5 * PERIOD_NS + 30000);
    idle(&robot);
    CHECK_EQUAL(inphase_reader_worst(robot.reader, worst), 1);
    CHECK_EQUAL(worst[0].cycle, 5);
    CHECK_EQUAL(worst[0].late_ns, 30000);
    CHECK_EQUAL(worst[0].phase, INPHASE_PHASE_TRIGGER);
    CHECK_EQUAL(worst[0].device, BESIDE);
    close_robot(&robot);
}

/* ---- a reply that was never seen ---------------------------------------------------------- */

/* the next reply may be it: nothing is said of its trigger, and nothing moves by it, then or
   later */
static void a_sample_of_a_line_in_doubt_has_no_trigger_and_carries_no_motion(void)
{
    struct robot robot;
    const struct inphase_frame *frame;

    open_robot(&robot, &position);
    for (int n = 0; n < 5; n++)
        ask(&robot, 0);
    plan(&robot, INPHASE_FAULT_SILENT, BUS, 5, 1, 0);
    plan(&robot, INPHASE_FAULT_SILENT, BUS, 7, 1, 0);
    CHECK_EQUAL(row_of(ask(&robot, 0), BUS)->status, INPHASE_LATE);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_NONE);
    frame = ask(&robot, 0);
    CHECK_EQUAL(row_of(frame, BUS)->status, INPHASE_RECOVERING);
    CHECK_EQUAL(row_of(frame, BUS)->cycle, -1);
    CHECK_EQUAL(row_of(frame, BUS)->triggered_ns, INPHASE_ABSENT);
    CHECK_EQUAL(row_of(frame, BUS)->acquired_ns, INPHASE_ABSENT);
    CHECK_EQUAL(row_of(frame, BUS)->age_ns, INPHASE_ABSENT);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_FEEDBACK);

    /* late again: the sample that stands in is the one in doubt */
    frame = ask(&robot, 0);
    CHECK_EQUAL(row_of(frame, BUS)->status, INPHASE_LATE);
    CHECK_EQUAL(row_of(frame, BUS)->cycle, -1);
    CHECK_EQUAL(act_of(&robot)->reason, INPHASE_REASON_FEEDBACK);
    CHECK(act_of(&robot)->flags & INPHASE_ACT_RAMPING);
    close_robot(&robot);
}

/* ---- a device that was away -------------------------------------------------------------- */

static uint64_t restarted_at; /* the device's clock counts from there on */

static int receive_restarted(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    int rc = twin_ops.receive(core, sensor, got);

    if (*got == RECEIVED_SAMPLE)
        sensor->parser.clock -= restarted_at;
    return rc;
}

/* what was known of its clock is of no use: it may have started again from 0 */
static void the_clock_of_a_device_that_comes_back_is_learnt_anew(void)
{
    struct device_ops ops = twin_ops;
    struct inphase_clock_facts facts;
    struct inphase_exchange *spec;
    struct robot robot;
    int by_clock[2] = {0};

    ops.receive = receive_restarted;
    open_robot(&robot, &position);
    spec = &robot.core->sensor[BUS].parser.exchange.spec;
    spec->clock_type = INPHASE_U32;
    spec->clock_bits = 32;
    spec->clock_tick_ns = 1000;
    robot.core->sensor[BUS].twin->spec.clock = 1;
    for (int n = 0; n < 400; n++) {
        const struct inphase_row *row;

        /* away for four cycles, and started again; it does not answer the first trigger */
        if (n == 200) {
            plan(&robot, INPHASE_FAULT_GONE, BUS, 200, 4, 0);
            plan(&robot, INPHASE_FAULT_SILENT, BUS, 204, 1, 0);
        }
        if (n == 205) {
            robot.core->device[BUS].ops = &ops;
            restarted_at = (uint64_t)robot.core->virtual_ns / 1000;
        }
        row = row_of(idle(&robot), BUS);
        CHECK_EQUAL(row->status == INPHASE_OFFLINE, n >= 200 && n < 204);
        if (row->cycle != n || row->acquired_ns == INPHASE_ABSENT)
            continue;
        CHECK(llabs(row->acquired_ns - row->triggered_ns - ACQUIRED_NS) <= row->uncertainty_ns);
        by_clock[n >= 204] += row->uncertainty_ns > 0;
    }
    CHECK(by_clock[0] > 150 && by_clock[1] > 150);

    /* none of its readings contradicts what is known of it */
    CHECK_EQUAL(inphase_reader_clock(robot.reader, BUS, &facts), 0);
    CHECK_EQUAL(facts.rejected, 0);
    CHECK_EQUAL(facts.resets, 0);
    close_robot(&robot);
}

/* every channel counts: one that moves is a sign of life */
static void a_sensor_stands_still_when_all_of_its_channels_do(void)
{
    for (int moves = 0; moves <= QUANTITIES; moves++) {
        struct choice choice = position;
        struct robot robot;
        uint32_t status = INPHASE_FRESH;

        choice.frozen_after = 3;
        open_robot(&robot, &choice);
        for (int n = 0; n < 6; n++) {
            if (moves < QUANTITIES)
                robot.joint[moves] += 1e-5;
            status = row_of(idle(&robot), BUS)->status;
        }
        CHECK_EQUAL(status, moves < QUANTITIES ? INPHASE_FRESH : INPHASE_FROZEN);
        close_robot(&robot);
    }
}

/* a device that was away may have started its numbers again, and so may one that was silent */
static void the_numbers_of_a_device_that_comes_back_may_begin_anew(void)
{
    static const uint32_t faults[] = {INPHASE_FAULT_GONE, INPHASE_FAULT_SILENT};

    for (int i = 0; i < 2; i++) {
        struct robot robot;
        uint32_t status;
        int recovering = 0;

        open_robot(&robot, &position);
        for (int n = 0; n < 50; n++)
            idle(&robot);
        plan(&robot, faults[i], BUS, 50, 6, 0);
        for (int n = 0; n < 6; n++)
            status = row_of(idle(&robot), BUS)->status;
        CHECK_EQUAL(status, i ? INPHASE_MISSING : INPHASE_OFFLINE);
        robot.core->sensor[BUS].twin->sequence = 0;
        while ((status = row_of(idle(&robot), BUS)->status) == INPHASE_RECOVERING)
            recovering++;
        CHECK_EQUAL(status, INPHASE_FRESH);
        CHECK_EQUAL(recovering, i ? 1 : 3);
        close_robot(&robot);
    }
}

/* a device's number wraps at its own width, and at no other */
static void a_number_goes_on_or_back_in_its_own_width(void)
{
    static const struct {
        uint32_t type;
        uint64_t mask;
        int64_t step;
        uint32_t status;
    } steps[] = {
        {INPHASE_U8, 0xff, 127, INPHASE_FRESH},
        {INPHASE_U8, 0xff, 129, INPHASE_FROZEN},
        {INPHASE_I8, 0xff, -1, INPHASE_FROZEN},
        {INPHASE_U16, 0xffff, 200, INPHASE_FRESH},
        {INPHASE_U16, 0xffff, 32767, INPHASE_FRESH},
        {INPHASE_U16, 0xffff, 32769, INPHASE_FROZEN},
        {INPHASE_I16, 0xffff, -200, INPHASE_FROZEN},
        {INPHASE_U32, 0xffffffff, 200, INPHASE_FRESH},
        {INPHASE_U32, 0xffffffff, 40000, INPHASE_FRESH},
        {INPHASE_U32, 0xffffffff, -40000, INPHASE_FROZEN},
        {INPHASE_U32, 0xffffffff, 0x7fffffff, INPHASE_FRESH},
        {INPHASE_U32, 0xffffffff, 0x80000001, INPHASE_FROZEN},
        {INPHASE_I32, 0xffffffff, -1, INPHASE_FROZEN},
        {INPHASE_U64, UINT64_MAX, 0x80000001, INPHASE_FRESH},
        {INPHASE_U64, UINT64_MAX, -0x80000001LL, INPHASE_FROZEN},
    };

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct robot robot;
        struct sensor *sensor;

        open_robot(&robot, &position);
        sensor = &robot.core->sensor[BUS];
        sensor->parser.exchange.spec.sequence_type = steps[i].type;
        for (int n = 0; n < 3; n++)
            CHECK_EQUAL(row_of(idle(&robot), BUS)->status, INPHASE_FRESH);

        /* the twin adds 1 to what it gave last */
        sensor->twin->sequence += (uint64_t)steps[i].step - 1;
        sensor->twin->sequence &= steps[i].mask;
        CHECK_EQUAL(row_of(idle(&robot), BUS)->status, steps[i].status);
        CHECK_EQUAL(counts(&robot).duplicates, steps[i].status == INPHASE_FROZEN);
        close_robot(&robot);
    }
}

int main(void)
{
    RUN(a_velocity_comes_to_rest_inside_of_the_range_however_old_its_sample);
    RUN(feedback_that_grows_too_old_before_the_act_ramps);
    RUN(a_first_command_is_compared_with_where_the_joint_is);
    RUN(a_first_command_after_arming_again_is_compared_in_every_mode);
    RUN(the_travel_of_a_joint_is_kept_as_it_was_commanded_and_measured);
    RUN(the_travel_of_what_has_no_place_is_none);
    RUN(a_refused_command_counts_as_refused_whatever_else_is_wrong);
    RUN(a_first_command_from_far_away_is_approached);
    RUN(an_approach_ends_where_the_bounds_end_it);
    RUN(a_joint_that_meets_a_wall_is_sent_no_further_in_either_direction);
    RUN(an_actuator_that_is_not_enabled_is_not_written_to);
    RUN(a_command_that_was_refused_for_any_reason_counts_as_invalid);
    RUN(a_line_whose_reply_was_refused_is_busy_until_it_is_quiet);
    RUN(a_first_command_that_was_not_written_is_still_the_first);
    RUN(the_guard_leaves_an_actuator_alone_that_is_switched_off);
    RUN(a_motion_slows_down_in_cycles_in_which_nothing_could_be_written);
    RUN(a_joint_starts_at_the_goal_that_it_holds_at_where_that_is_near);
    RUN(a_blind_joint_starts_where_its_driver_says_or_is_not_armed);
    RUN(a_joint_that_is_found_far_outside_of_its_range_stands);
    RUN(a_device_that_cannot_be_written_to_is_lost);
    RUN(an_effort_yields_to_the_velocity_that_is_measured);
    RUN(a_stop_ends_within_its_bound);
    RUN(a_robot_that_is_stopping_is_not_armed);
    RUN(arming_waits_until_the_ramp_has_come_to_rest);
    RUN(a_joint_whose_velocity_is_its_feedback_rests_when_that_is_small);
    RUN(a_feedback_that_says_nothing_of_motion_is_none_for_rest);
    RUN(a_feedback_that_is_not_what_its_mode_needs_is_refused);
    RUN(an_acceleration_is_built_up_anew_after_cycles_that_did_not_run);
    RUN(a_starved_device_is_told_until_motion_is_asked_for);
    RUN(a_suspension_in_the_act_latches_motion);
    RUN(a_late_trigger_is_among_the_worst_cycles);
    RUN(a_sample_of_a_line_in_doubt_has_no_trigger_and_carries_no_motion);
    RUN(the_clock_of_a_device_that_comes_back_is_learnt_anew);
    RUN(a_sensor_stands_still_when_all_of_its_channels_do);
    RUN(the_numbers_of_a_device_that_comes_back_may_begin_anew);
    RUN(a_number_goes_on_or_back_in_its_own_width);
    return 0;
}
