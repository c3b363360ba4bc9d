/* The plan of setpoints on virtual time: when answers act, how they are joined, what lies between
   two commands, what is stale, starved or hostile. The robot is one blind joint without limits to
   speak of: what is requested is what the plan gave. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../src/cycle.h"
#include "../src/mailbox.h"
#include "../src/relaxed.h"
#include "../src/setpoint.h"
#include "../src/state.h"
#include "../src/store.h"
#include "check.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define DEADLINE_NS 500000LL
#define ACT_NS 700000LL
#define HERE 0.25               /* where the joint starts: first commands lie there */

static int try_open(struct robot *robot, const struct inphase_policy_timing *timing)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_servo servo = {.natural_rad_s = 200, .velocity_max = 1e6,
                                               .acceleration_max = 1e9};
    static const struct inphase_limits limits = {.low = -100, .high = 100, .velocity = 1e5,
                                                 .acceleration = 1e9, .step = 100};
    static const uint8_t packet[4] = {0};
    static const struct inphase_field field = {0, INPHASE_F32, 0, 0, 1, 0};
    static const double here = HERE;
    struct inphase_twin_channel channel = {.base = HERE};
    struct inphase_sensor_config sensor = {
        .device = 0, .channels = 1, .max_age_ns = 10 * PERIOD_NS, .recover = 3, .depth = 64,
        .every = 1, .payload = 8,
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .acquire = INPHASE_ACQUIRE_MIDDLE, .reply_max_ns = 400000},
        .twin = {.channel = &channel, .latency_ns = 200000},
    };
    struct inphase_actuator_config actuator = {
        .device = 1, .channels = 1, .feedback_sensor = -1, .max_hold_ns = 3 * PERIOD_NS,
        .limits = &limits, .servo = &servo, .start = &here, .guarded = 1,
        .encoding = {.packet = packet, .packet_size = 4, .fields = 1, .field = &field},
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = DEADLINE_NS, .act_ns = ACT_NS,
        .resumed_after_ns = 20 * PERIOD_NS, .devices = 2, .sensors = 1, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 5, .has_policy = 1, .virtual_time = 1,
        .sensor = &sensor, .actuator = &actuator, .policy_timing = *timing,
    };

    return make_robot(robot, &config);
}

static void open_robot(struct robot *robot, struct inphase_policy_timing timing)
{
    CHECK_EQUAL(try_open(robot, &timing), 0);
    start_robot(robot, 1);
}

/* a whole answer to the frame of a cycle, or why there is none */
static int give(struct robot *robot, int64_t cycle, const double *values)
{
    return answer(robot, cycle, INPHASE_REASON_NONE, values, robot->core->setpoints.answer);
}

static int refuse(struct robot *robot, int64_t cycle, uint32_t reason)
{
    return answer(robot, cycle, reason, NULL, 0);
}

/* the rest of the cycle: what was requested of it, NaN: nothing was */
static double act(struct robot *robot)
{
    cycle_run(robot->core, CYCLE_ACT);
    return ((const double *)(robot->core->act[0] + 1))[0];
}

static uint32_t reason(const struct robot *robot)
{
    return robot->core->act[0]->reason;
}

static double cycle(struct robot *robot)
{
    latch(robot);
    return act(robot);
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-12;
}

/* the cycle after an act tells the frame that was answered, and the time that it took, as far as
   that is possible */
static void a_frame_tells_which_frame_was_answered_and_how_long_that_took(void)
{
    static const struct { int64_t before_ns, told_ns; } taken[] = {
        {0, 0}, {400, 400}, {-1, INPHASE_ABSENT}, {INPHASE_ABSENT, INPHASE_ABSENT},
    };
    struct inphase_frame frame;
    int64_t now_ns, taken_ns;
    double value = HERE;
    struct robot robot;

    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        open_robot(&robot, (struct inphase_policy_timing){.every = 4, .latency_cycles = 2});
        latch(&robot);
        memcpy(&frame, robot.core->record, sizeof frame);
        CHECK_EQUAL(frame.answered_cycle, -1);
        CHECK_EQUAL(frame.inference_ns, INPHASE_ABSENT);
        act(&robot);
        latch(&robot);
        now_ns = robot.core->virtual_ns;
        taken_ns = taken[i].before_ns == INPHASE_ABSENT ? INPHASE_ABSENT
                                                        : now_ns - taken[i].before_ns;
        CHECK_EQUAL(lockstep_post(robot.core, 0, taken_ns, now_ns, 0, &value, 1), 0);
        act(&robot);
        cycle(&robot); /* 2: the answer acts */
        latch(&robot);
        memcpy(&frame, robot.core->record, sizeof frame);
        CHECK_EQUAL(frame.acted_cycle, 2);
        CHECK_EQUAL(frame.answered_cycle, 0);
        CHECK_EQUAL(frame.inference_ns, taken[i].told_ns);
        close_robot(&robot);
    }
}

/* an answer that is too late for its act is told where no other one is followed */
static void an_act_without_a_command_tells_the_answer_that_came_too_late(void)
{
    struct inphase_frame frame;
    double value = HERE;
    int64_t late_ns;
    struct robot robot;

    open_robot(&robot, (struct inphase_policy_timing){.every = 1});
    latch(&robot);
    act(&robot);
    latch(&robot);
    memcpy(&frame, robot.core->record, sizeof frame);
    CHECK_EQUAL(frame.inferred_ns, INPHASE_ABSENT); /* nothing came yet */
    late_ns = robot.core->virtual_ns;
    CHECK_EQUAL(lockstep_post(robot.core, 0, late_ns - 300, late_ns, 0, &value, 1), 0);
    act(&robot); /* 1: the answer to 0 comes too late for 0 */
    latch(&robot);
    memcpy(&frame, robot.core->record, sizeof frame);
    CHECK_EQUAL(frame.acted_cycle, 1);
    CHECK_EQUAL(frame.inferred_ns, late_ns);
    CHECK_EQUAL(frame.answered_cycle, 0);
    CHECK_EQUAL(frame.inference_ns, 300);
    act(&robot);
    latch(&robot);
    memcpy(&frame, robot.core->record, sizeof frame);
    CHECK_EQUAL(frame.inferred_ns, INPHASE_ABSENT); /* it is told once */
    CHECK_EQUAL(frame.answered_cycle, -1);

    /* where another answer is followed in the same act, that one is told */
    late_ns = robot.core->virtual_ns;
    CHECK_EQUAL(lockstep_post(robot.core, 2, late_ns - 300, late_ns, 0, &value, 1), 0);
    CHECK_EQUAL(lockstep_post(robot.core, 3, late_ns - 200, late_ns, 0, &value, 1), 0);
    act(&robot);
    latch(&robot);
    memcpy(&frame, robot.core->record, sizeof frame);
    CHECK_EQUAL(frame.acted_cycle, 3);
    CHECK_EQUAL(frame.answered_cycle, 3);
    CHECK_EQUAL(frame.inference_ns, 200);
    close_robot(&robot);
}

/* ---- when --------------------------------------------------------------------------------- */

static void an_answer_acts_in_its_cycle_whenever_it_came(void)
{
    for (int came = 0; came <= 3; came++) {
        struct robot robot;
        double value = HERE;

        open_robot(&robot, (struct inphase_policy_timing){.every = 4, .latency_cycles = 3});
        for (int i = 0; i < 3; i++) {
            latch(&robot);
            if (i == came)
                CHECK_EQUAL(give(&robot, 0, &value), 0);
            CHECK(isnan(act(&robot)));
            CHECK_EQUAL(reason(&robot), INPHASE_REASON_SILENT);
        }
        latch(&robot);
        if (came == 3)
            CHECK_EQUAL(give(&robot, 0, &value), 0);
        CHECK(act(&robot) == HERE);

        /* for as many cycles as there are to the next answer's, and no longer */
        for (int i = 0; i < 3; i++)
            CHECK(cycle(&robot) == HERE);
        CHECK(isnan(cycle(&robot)));
        CHECK(counts(&robot).missed == 4 && counts(&robot).commands == 4);
        CHECK_EQUAL(counts(&robot).late_answers, 0);
        close_robot(&robot);
    }
}

static void of_a_late_answer_what_is_left_acts(void)
{
    struct robot robot;
    double chunk[4] = {HERE, HERE + 1, HERE + 2, HERE + 3};

    open_robot(&robot, (struct inphase_policy_timing){.every = 4, .chunk = 4});
    for (int i = 0; i < 2; i++)
        CHECK(isnan(cycle(&robot)));
    latch(&robot);
    chunk[2] = HERE;
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    CHECK(act(&robot) == HERE);
    CHECK(cycle(&robot) == HERE + 3);
    CHECK(isnan(cycle(&robot)));
    CHECK(counts(&robot).late_answers == 1 && counts(&robot).stale == 2);
    CHECK_EQUAL(counts(&robot).starved, 1);

    /* one of which nothing is left does nothing */
    for (int i = 0; i < 4; i++)
        CHECK(isnan(cycle(&robot)));
    latch(&robot);
    CHECK_EQUAL(give(&robot, 4, chunk), 0);
    CHECK(isnan(act(&robot)));
    CHECK(counts(&robot).late_answers == 2 && counts(&robot).stale == 6);
    CHECK_EQUAL(counts(&robot).starved, 6);
    close_robot(&robot);
}

static void a_command_of_several_cycles_acts_for_those_that_are_left(void)
{
    struct robot robot;
    double chunk[2] = {HERE, HERE + 1};

    open_robot(&robot,
               (struct inphase_policy_timing){.every = 6, .chunk = 2, .chunk_every = 3});
    CHECK(isnan(cycle(&robot)));
    latch(&robot);
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    CHECK(act(&robot) == HERE && cycle(&robot) == HERE);
    for (int i = 0; i < 3; i++)
        CHECK(cycle(&robot) == HERE + 1);
    CHECK(isnan(cycle(&robot)));
    CHECK(counts(&robot).late_answers == 1 && counts(&robot).stale == 0);
    close_robot(&robot);
}

static void a_starved_robot_repeats_and_then_ramps(void)
{
    struct robot robot;
    double chunk[2] = {HERE, HERE + 1};

    open_robot(&robot, (struct inphase_policy_timing){.every = 2, .chunk = 2});
    latch(&robot);
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    CHECK(act(&robot) == HERE && cycle(&robot) == HERE + 1);
    for (int i = 0; i < 3; i++) {
        CHECK(isnan(cycle(&robot)));
        CHECK(robot.core->act[0]->flags & INPHASE_ACT_REPEATED);
        CHECK(robot.core->act[0]->flags & INPHASE_ACT_MISSED);
    }
    CHECK(isnan(cycle(&robot)));
    CHECK(robot.core->act[0]->flags & INPHASE_ACT_RAMPING);
    CHECK(counts(&robot).starved == 4 && counts(&robot).missed == 4);
    close_robot(&robot);
}

/* ---- joining ------------------------------------------------------------------------------ */

#define CHUNK 8

static void fill(double *chunk, double from, double step)
{
    for (int i = 0; i < CHUNK; i++)
        chunk[i] = from + step * i;
}

/* an answer to frame 0 at once, and one to frame 4 that comes in cycle 6; from cycle 4 on */
static void two_answers(struct robot *robot, struct inphase_policy_timing timing, double *requested)
{
    double chunk[CHUNK];

    timing.every = 4;
    timing.chunk = CHUNK;
    open_robot(robot, timing);
    latch(robot);
    fill(chunk, HERE, 0);
    CHECK_EQUAL(give(robot, 0, chunk), 0);
    for (int i = 0; i < 4; i++) {
        if (i)
            latch(robot);
        CHECK(act(robot) == HERE);
    }
    fill(chunk, 10, 1);
    for (int i = 0; i < CHUNK; i++) {
        latch(robot);
        if (i == 2)
            CHECK_EQUAL(give(robot, 4, chunk), 0);
        requested[i] = act(robot);
    }
    CHECK(counts(robot).late_answers == 1 && counts(robot).stale == 2);
    close_robot(robot);
}

static void switching_takes_the_newest_from_its_first_command_that_is_left(void)
{
    struct robot robot;
    double requested[CHUNK];

    two_answers(&robot, (struct inphase_policy_timing){.join = INPHASE_JOIN_SWITCH}, requested);
    for (int i = 0; i < CHUNK; i++)
        CHECK(requested[i] == (i < 2 ? HERE : 10 + i));
}

static void blending_fades_the_newest_in(void)
{
    struct robot robot;
    double requested[CHUNK];

    two_answers(&robot,
                (struct inphase_policy_timing){.join = INPHASE_JOIN_BLEND, .blend_cycles = 3},
                requested);
    for (int i = 0; i < CHUNK; i++) {
        double share = i < 2 ? 0 : i < 5 ? (i - 1) / 4.0 : 1;

        /* the old one ends after cycle 7: from there on there is nothing to fade from */
        if (i > 3)
            share = 1;
        CHECK(near(requested[i], (1 - share) * HERE + share * (10 + i)));
    }
}

static void freezing_keeps_the_old_one_for_as_long_as_answers_take(void)
{
    struct robot robot;
    double chunk[CHUNK];

    /* four answers that take 0 cycles, the fifth takes 2, and so does the quantile of 95 % */
    open_robot(&robot, (struct inphase_policy_timing){
                           .every = 4, .chunk = CHUNK, .join = INPHASE_JOIN_FREEZE});
    for (int k = 0; k < 4; k++) {
        fill(chunk, HERE + k, 0);
        latch(&robot);
        CHECK_EQUAL(give(&robot, 4 * k, chunk), 0);
        CHECK(act(&robot) == HERE + k);
        for (int i = 0; i < 3; i++)
            CHECK(cycle(&robot) == HERE + k);
    }
    fill(chunk, HERE + 4, 0);
    for (int i = 0; i < 2; i++)
        CHECK(cycle(&robot) == HERE + 3);
    latch(&robot);
    CHECK_EQUAL(give(&robot, 16, chunk), 0);
    CHECK(act(&robot) == HERE + 4);
    CHECK(cycle(&robot) == HERE + 4);

    /* from now on the switch is two cycles after the frame, also when the answer is there sooner */
    for (int k = 5; k < 10; k++) {
        fill(chunk, HERE + k, 0);
        latch(&robot);
        CHECK_EQUAL(give(&robot, 4 * k, chunk), 0);
        CHECK(act(&robot) == HERE + k - 1);
        CHECK(cycle(&robot) == HERE + k - 1);
        CHECK(cycle(&robot) == HERE + k);
        CHECK(cycle(&robot) == HERE + k);
    }
    close_robot(&robot);
}

static void a_latency_is_forgotten_once_it_is_rare(void)
{
    struct robot robot;
    double chunk[2] = {HERE, HERE};
    struct setpoints *setpoints;

    open_robot(&robot, (struct inphase_policy_timing){
                           .every = 2, .chunk = 2, .join = INPHASE_JOIN_FREEZE});
    setpoints = &robot.core->setpoints;
    for (int k = 0; k < 100; k++) {
        latch(&robot);
        if (k >= 4)
            CHECK_EQUAL(give(&robot, 2 * k, chunk), 0);
        act(&robot);
        latch(&robot);
        if (k < 4)
            CHECK_EQUAL(give(&robot, 2 * k, chunk), 0);
        act(&robot);
        CHECK_EQUAL(setpoints->latencies.count, k < LATENCIES ? k + 1 : LATENCIES);

        /* sorted, and what was measured, each once */
        for (uint32_t i = 1; i < setpoints->latencies.count; i++)
            CHECK(setpoints->latencies.sorted[i - 1] <= setpoints->latencies.sorted[i]);

        /* 4 of 64 are more than 5 %, 3 are not */
        CHECK_EQUAL(latency_usual(&setpoints->latencies), k < 64 ? 1 : 0);
    }
    close_robot(&robot);
}

/* ---- between two commands ------------------------------------------------------------------ */

/* answers to frames 0, 5, 10 ... as soon as they are latched, each one command, for cycle n + 5 */
static void follow(struct robot *robot, uint32_t interpolate, const double *knots, int count,
                   double *requested)
{
    open_robot(robot, (struct inphase_policy_timing){
                          .every = 5, .latency_cycles = 5, .interpolate = interpolate});
    for (int i = 0; i < 5 * count; i++) {
        latch(robot);
        if (i % 5 == 0)
            CHECK_EQUAL(give(robot, i, &knots[i / 5]), 0);
        requested[i] = act(robot);
    }
    close_robot(robot);
}

static void a_line_goes_through_every_command(void)
{
    static const double knots[6] = {HERE, HERE + 1, HERE + 3, HERE + 3, HERE - 1, HERE};
    struct robot robot;
    double requested[30];

    follow(&robot, INPHASE_LINEAR, knots, 6, requested);
    for (int i = 0; i < 30; i++) {
        int k = i / 5 - 1;
        double part = i % 5 / 5.0;

        if (i < 5)
            CHECK(isnan(requested[i]));
        else if (i % 5 == 0)
            CHECK(requested[i] == knots[k]);
        else
            CHECK(near(requested[i], (1 - part) * knots[k] + part * knots[k + 1]));
    }
}

/* the second differences of a cubic that is C1 are bounded where the first ones of a line jump */
static void a_cubic_goes_through_every_command_without_a_step_in_velocity(void)
{
    static const double knots[8] = {HERE, HERE, HERE + 1, HERE + 3, HERE + 3, HERE - 1, HERE, HERE};
    struct robot robot;
    double line[40], cubic[40], jump[2] = {0};

    follow(&robot, INPHASE_LINEAR, knots, 8, line);
    follow(&robot, INPHASE_CUBIC, knots, 8, cubic);
    for (int i = 5; i < 40; i += 5)
        CHECK(cubic[i] == knots[i / 5 - 1]);

    /* at a knot: what velocity is there on its left, and what on its right, extrapolated to it */
    for (int i = 10; i < 35; i += 5) {
        double left = (3 * cubic[i] - 4 * cubic[i - 1] + cubic[i - 2]) / 2;
        double right = (-3 * cubic[i] + 4 * cubic[i + 1] - cubic[i + 2]) / 2;
        double broken = fabs((line[i + 1] - line[i]) - (line[i] - line[i - 1]));

        jump[0] = fmax(jump[0], broken);
        jump[1] = fmax(jump[1], fabs(right - left));
    }
    CHECK(jump[0] > 0.3);
    CHECK(jump[1] < 0.25 * jump[0]);
}

static void a_cubic_of_a_straight_line_is_that_line(void)
{
    double knots[8];
    struct robot robot;
    double requested[40];

    for (int i = 0; i < 8; i++)
        knots[i] = HERE + 0.5 * i;
    follow(&robot, INPHASE_CUBIC, knots, 8, requested);
    for (int i = 5; i < 40; i++)
        CHECK(fabs(requested[i] - (HERE + 0.1 * (i - 5))) < 1e-9);
}

static void what_is_gone_to_may_change_on_the_way_without_a_step(void)
{
    for (uint32_t way = INPHASE_LINEAR; way <= INPHASE_CUBIC; way++) {
        struct robot robot;
        double chunk[3] = {HERE, HERE + 1, HERE + 2}, before = NAN, largest = 0;

        /* of the answer to frame 10, the command for cycle 20 is known in cycle 10; it changes
           that */
        open_robot(&robot, (struct inphase_policy_timing){
                               .every = 10, .chunk = 3, .chunk_every = 10, .interpolate = way});
        for (int i = 0; i < 20; i++) {
            double requested;

            latch(&robot);
            if (i == 0)
                CHECK_EQUAL(give(&robot, 0, chunk), 0);
            if (i == 15) {
                chunk[0] = HERE + 1;
                chunk[1] = HERE + 1.2;
                CHECK_EQUAL(give(&robot, 10, chunk), 0);
            }
            requested = act(&robot);
            if (i)
                largest = fmax(largest, fabs(requested - before));
            before = requested;
        }
        CHECK(largest < 0.2);
        CHECK(cycle(&robot) == HERE + 1.2);
        close_robot(&robot);
    }
}

static void an_answer_that_is_gone_to_is_late_when_the_way_had_to_begin(void)
{
    for (int came = 0; came < 3; came++) {
        struct robot robot;
        double value = HERE;

        /* the answer to frame 4 is for cycle 9, and gone to from cycle 6 on */
        open_robot(&robot, (struct inphase_policy_timing){
                               .every = 4, .latency_cycles = 5, .interpolate = INPHASE_LINEAR});
        for (int i = 0; i < 10; i++) {
            double requested;

            latch(&robot);
            if (i == 0)
                CHECK_EQUAL(give(&robot, 0, &value), 0);
            if (i == 5 + came)
                CHECK_EQUAL(give(&robot, 4, &value), 0);
            requested = act(&robot);
            CHECK(isnan(requested) == (i < 5 || (i == 6 && came == 2)));
        }
        CHECK_EQUAL(counts(&robot).late_answers, came == 2);
        close_robot(&robot);
    }
}

static void a_switch_is_neither_blended_nor_interpolated(void)
{
    for (uint32_t way = INPHASE_HOLD; way <= INPHASE_CUBIC; way++) {
        struct robot robot;
        double chunk[3] = {0, 1, 0};

        open_robot(&robot, (struct inphase_policy_timing){
                               .every = 4, .chunk = 3, .chunk_every = 4, .interpolate = way,
                               .join = INPHASE_JOIN_BLEND, .blend_cycles = 9});
        robot.core->setpoints.steps[0] = 1;
        for (int i = 0; i < 12; i++) {
            latch(&robot);
            if (i % 4 == 0)
                CHECK_EQUAL(give(&robot, i, chunk), 0);
            CHECK(act(&robot) == chunk[0]);
            chunk[0] = i % 4 == 3 ? 1 - chunk[0] : chunk[0];
        }
        close_robot(&robot);
    }
}

static void without_the_next_command_there_is_no_way_on(void)
{
    struct robot robot;
    double chunk[2] = {HERE, HERE + 1};

    open_robot(&robot, (struct inphase_policy_timing){
                           .every = 4, .chunk = 2, .chunk_every = 4,
                           .interpolate = INPHASE_LINEAR});
    latch(&robot);
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    CHECK(act(&robot) == HERE);
    for (int i = 1; i < 4; i++)
        CHECK(near(cycle(&robot), HERE + i / 4.0));
    CHECK(cycle(&robot) == HERE + 1);
    CHECK(isnan(cycle(&robot)));
    CHECK_EQUAL(counts(&robot).starved, 1);

    /* it goes on from where it stands: the frame of cycle 4 is answered in cycle 6 */
    chunk[0] = HERE + 5;
    chunk[1] = HERE + 3;
    latch(&robot);
    CHECK_EQUAL(give(&robot, 4, chunk), 0);
    CHECK(near(act(&robot), HERE + 1 + 2 / 3.0));
    CHECK(near(cycle(&robot), HERE + 1 + 4 / 3.0));
    CHECK(cycle(&robot) == HERE + 3);
    close_robot(&robot);
}

/* what stood has no slope: a cubic begins flat, whatever it was when the commands ended */
static void a_cubic_goes_on_from_rest_after_a_command_was_missing(void)
{
    struct robot robot;
    double chunk[2] = {HERE, HERE + 1};

    open_robot(&robot, (struct inphase_policy_timing){
                           .every = 4, .chunk = 2, .chunk_every = 4, .interpolate = INPHASE_CUBIC});
    latch(&robot);
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    CHECK(act(&robot) == HERE);
    for (int i = 1; i < 4; i++)
        cycle(&robot);
    CHECK(cycle(&robot) == HERE + 1);
    CHECK(isnan(cycle(&robot)));
    chunk[0] = HERE + 5;
    chunk[1] = HERE + 3;
    latch(&robot);
    CHECK_EQUAL(give(&robot, 4, chunk), 0);

    /* Hermite's, a third of three cycles on: 2 further, with slopes of 0 here and 1/2 there */
    CHECK(near(act(&robot), HERE + 1 + 14 / 27.0 - 1 / 9.0));
    close_robot(&robot);
}

/* ---- what is no command -------------------------------------------------------------------- */

static void a_refusal_leaves_what_was_answered_before(void)
{
    struct robot robot;
    double chunk[4] = {HERE, HERE + 1, HERE + 2, HERE + 3};

    open_robot(&robot, (struct inphase_policy_timing){.every = 2, .chunk = 4});
    latch(&robot);
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    CHECK(act(&robot) == HERE && cycle(&robot) == HERE + 1);
    latch(&robot);
    CHECK_EQUAL(refuse(&robot, 2, INPHASE_REASON_RAISED), 0);
    CHECK(act(&robot) == HERE + 2 && cycle(&robot) == HERE + 3);

    /* and then says why there is nothing */
    latch(&robot);
    CHECK_EQUAL(refuse(&robot, 4, INPHASE_REASON_RAISED), 0);
    for (int i = 0; i < 2; i++) {
        if (i)
            latch(&robot);
        CHECK(isnan(act(&robot)));
        CHECK_EQUAL(reason(&robot), INPHASE_REASON_RAISED);
    }
    CHECK(isnan(cycle(&robot)));
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_SILENT);
    CHECK(counts(&robot).refused_answers == 2 && counts(&robot).invalid == 2);
    close_robot(&robot);
}

static void one_number_that_is_none_refuses_the_whole_answer(void)
{
    for (int bad = 0; bad < 4; bad++) {
        struct robot robot;
        double chunk[4] = {HERE, HERE, HERE, HERE};

        open_robot(&robot, (struct inphase_policy_timing){.every = 2, .chunk = 4});
        chunk[bad] = bad % 2 ? NAN : INFINITY;
        latch(&robot);
        CHECK_EQUAL(give(&robot, 0, chunk), 0);
        CHECK(isnan(act(&robot)));
        CHECK_EQUAL(reason(&robot), INPHASE_REASON_NAN);
        CHECK(counts(&robot).refused_answers == 1 && counts(&robot).invalid == 1);
        close_robot(&robot);
    }
}

/* what a policy gone mad may leave in the mailbox, past the functions */
static void write_mail(struct robot *robot, struct mail head, uint64_t number, uint64_t sequence)
{
    struct mailbox *mailbox = robot->core->own_mailbox;
    uint64_t stride = ring_stride(sizeof(struct mail) + 8 * robot->core->setpoints.answer);
    struct slot *slot =
        (struct slot *)((uint8_t *)mailbox + MAILBOX_RING + number % MAILBOX_SLOTS * stride);

    slot_write(slot, number, &head, sizeof head);
    atomic_store(&slot->sequence, sequence);
    atomic_store(&mailbox->head, number + 1);
}

static void hostile_answers_are_refused_and_nothing_else_happens(void)
{
    static const struct mail bad[] = {
        {.cycle = -4}, {.cycle = INT64_MIN}, {.cycle = INT64_MAX}, {.cycle = 4096},
        {.cycle = 2}, {.cycle = 0, .values = UINT32_MAX}, {.cycle = 0, .values = 3},
        {.cycle = 0, .reason = UINT32_MAX}, {.cycle = 0, .reason = INPHASE_REASONS},
        {.cycle = 0, .values = 4, .valid_until_ns = INT64_MIN},
        {.cycle = 0, .values = 4, .valid_until_ns = INT64_MAX, .posted_ns = INT64_MIN},
    };

    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct robot robot;
        double chunk[4] = {HERE, HERE, HERE, HERE};
        bool last = i + 1 == sizeof bad / sizeof *bad;

        open_robot(&robot, (struct inphase_policy_timing){.every = 4, .chunk = 4});
        latch(&robot);
        write_mail(&robot, bad[i], 0, 2);

        /* the last one is whole, with zeros in it, which is where the joint may not start from
           here */
        if (!last)
            CHECK(isnan(act(&robot)));
        else
            CHECK(act(&robot) == 0);
        CHECK_EQUAL(counts(&robot).refused_answers, !last);
        CHECK_EQUAL(give(&robot, 0, chunk), 0);
        CHECK(cycle(&robot) == HERE);
        close_robot(&robot);
    }
}

static void torn_answers_and_heads_that_jump_are_passed_over(void)
{
    struct robot robot;
    double chunk[4] = {HERE, HERE, HERE, HERE};
    static const uint64_t heads[] = {1, 9, 1 << 20, UINT64_MAX, 0, 3};

    open_robot(&robot, (struct inphase_policy_timing){.every = 4, .chunk = 4});
    latch(&robot);
    write_mail(&robot, (struct mail){.cycle = 0, .values = 4, .valid_until_ns = INT64_MAX}, 0, 1);
    CHECK(isnan(act(&robot)));
    for (uint32_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        latch(&robot);
        atomic_store(&robot.core->own_mailbox->head, heads[i]);
        CHECK(isnan(act(&robot)));
    }
    CHECK_EQUAL(counts(&robot).refused_answers, 0);

    /* and a good one after that is found */
    while (robot.core->cycle % 4)
        cycle(&robot);
    latch(&robot);
    CHECK_EQUAL(give(&robot, robot.core->cycle, chunk), 0);
    CHECK(act(&robot) == HERE);
    close_robot(&robot);
}

/* a whole answer to the frame of cycle 0 that is valid until then */
static void answer_until(struct robot *robot, int64_t valid_until_ns, const double *values)
{
    uint32_t count = robot->core->setpoints.answer;
    struct mailbox *mailbox = robot->core->own_mailbox;
    struct mail *mail = calloc(1, sizeof *mail + count * sizeof *values);
    uint64_t number = mailbox_head(mailbox);
    uint64_t stride = ring_stride(sizeof *mail + 8 * count);
    struct slot *slot =
        (struct slot *)((uint8_t *)mailbox + MAILBOX_RING + number % MAILBOX_SLOTS * stride);

    CHECK(mail);
    mail->valid_until_ns = valid_until_ns;
    mail->values = count;
    memcpy(mail->value, values, count * sizeof *values);
    slot_write(slot, number, mail, sizeof *mail + count * sizeof *values);
    atomic_store(&mailbox->head, number + 1);
    free(mail);
}

/* an answer is no command from the time on that its policy said, however long its chunk goes on */
static void an_answer_expires_in_the_middle_of_its_chunk(void)
{
    static const int64_t from_act_ns[] = {-1, 0, PERIOD_NS - 1, PERIOD_NS};
    static const int last[] = {3, 4, 4, 5};

    for (uint32_t way = INPHASE_HOLD; way <= INPHASE_CUBIC; way++)
        for (int i = 0; i < 4; i++) {
            struct robot robot;
            double chunk[8] = {HERE, HERE, HERE, HERE, HERE, HERE, HERE, HERE};

            open_robot(&robot, (struct inphase_policy_timing){
                                   .every = 8, .chunk = 8, .interpolate = way});
            for (int n = 0; n < 8; n++) {
                double requested;

                latch(&robot);
                if (n == 0)
                    answer_until(&robot, 4 * PERIOD_NS + ACT_NS + from_act_ns[i], chunk);
                requested = act(&robot);
                CHECK_EQUAL(isnan(requested), n > last[i]);
                CHECK_EQUAL(reason(&robot), n > last[i] ? INPHASE_REASON_EXPIRED
                                                        : INPHASE_REASON_NONE);
            }
            CHECK_EQUAL(counts(&robot).refused_answers, 0);
            close_robot(&robot);
        }
}

static void an_answer_that_has_expired_when_it_comes_is_refused(void)
{
    struct robot robot;
    double chunk[2] = {HERE, HERE};

    open_robot(&robot, (struct inphase_policy_timing){.every = 2, .chunk = 2});
    latch(&robot);
    answer_until(&robot, ACT_NS - 1, chunk);
    CHECK(isnan(act(&robot)));
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_EXPIRED);
    CHECK_EQUAL(counts(&robot).refused_answers, 1);
    close_robot(&robot);
}

/* a policy that answers frames out of order: batching, or two of them in flight */
static void an_older_answer_does_not_replace_a_newer_one(void)
{
    for (int together = 0; together < 2; together++) {
        struct robot robot;
        double older[8], newer[8];

        for (int i = 0; i < 8; i++) {
            older[i] = HERE + 10;
            newer[i] = HERE;
        }
        open_robot(&robot, (struct inphase_policy_timing){.every = 2, .chunk = 8});
        for (int n = 0; n < 4; n++)
            CHECK(isnan(cycle(&robot)));
        latch(&robot);
        CHECK_EQUAL(give(&robot, 4, newer), 0);
        if (together)
            CHECK_EQUAL(give(&robot, 2, older), 0);
        CHECK(act(&robot) == HERE);
        latch(&robot);
        if (!together)
            CHECK_EQUAL(give(&robot, 2, older), 0);
        CHECK(act(&robot) == HERE);
        for (int n = 6; n < 12; n++)
            CHECK(cycle(&robot) == HERE);
        CHECK_EQUAL(counts(&robot).refused_answers, 1);

        /* the same frame may be answered again */
        while (robot.core->cycle % 2)
            cycle(&robot);
        latch(&robot);
        newer[0] = HERE + 1;
        CHECK_EQUAL(give(&robot, robot.core->cycle, newer), 0);
        newer[0] = HERE + 2;
        CHECK_EQUAL(give(&robot, robot.core->cycle, newer), 0);
        CHECK(act(&robot) == HERE + 2);
        close_robot(&robot);
    }
}

/* a ramp has taken the robot elsewhere: there is no way on from where it was asked to be before */
static void after_a_ramp_the_setpoint_is_on_the_way_between_its_commands(void)
{
    for (uint32_t way = INPHASE_LINEAR; way <= INPHASE_CUBIC; way++) {
        struct robot robot;
        double chunk[3] = {HERE, HERE, HERE};
        bool ramped = false;

        open_robot(&robot, (struct inphase_policy_timing){
                               .every = 4, .chunk = 3, .chunk_every = 4, .interpolate = way});
        latch(&robot);
        CHECK_EQUAL(give(&robot, 0, chunk), 0);
        CHECK(act(&robot) == HERE);
        for (int n = 1; n < 9; n++)
            CHECK(near(cycle(&robot), HERE));

        /* silence, longer than a command is repeated; the answer to frame 12 comes in cycle 14 */
        for (int n = 9; n < 14; n++) {
            CHECK(isnan(cycle(&robot)));
            ramped |= (robot.core->act[0]->flags & INPHASE_ACT_RAMPING) != 0;
        }
        CHECK(ramped);
        chunk[0] = HERE + 8;
        chunk[1] = chunk[2] = HERE + 12;
        latch(&robot);
        CHECK_EQUAL(give(&robot, 12, chunk), 0);

        /* the first cycle after the ramp is half way from HERE + 8 to HERE + 12 */
        if (way == INPHASE_LINEAR) {
            CHECK(near(act(&robot), HERE + 10));
            CHECK(near(cycle(&robot), HERE + 11));
        } else {
            CHECK(fabs(act(&robot) - HERE - 10) < 1.01);
            CHECK(fabs(cycle(&robot) - HERE - 11) < 1.01);
        }
        CHECK(cycle(&robot) == HERE + 12);
        close_robot(&robot);
    }
}

static void what_was_answered_before_a_stop_is_no_command_after_it(void)
{
    struct robot robot;
    double chunk[12];

    for (int i = 0; i < 12; i++)
        chunk[i] = HERE;
    open_robot(&robot,
               (struct inphase_policy_timing){.every = 4, .latency_cycles = 2, .chunk = 12});
    latch(&robot);
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    act(&robot);
    cycle(&robot);
    CHECK(cycle(&robot) == HERE);
    latch_motion(robot.core, INPHASE_REASON_REQUEST, 0);
    CHECK(isnan(cycle(&robot)));
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    while (load_u32(&robot.core->state->latched))
        CHECK(isnan(cycle(&robot)));

    /* nor what was asked before it, by a frame that the policy had taken */
    CHECK_EQUAL(give(&robot, 0, chunk), 0);
    for (int i = 0; i < 8; i++)
        CHECK(isnan(cycle(&robot)));
    CHECK_EQUAL(counts(&robot).dropped, 1);
    close_robot(&robot);
}

static void what_breaks_a_bound_is_refused(void)
{
    static const struct inphase_policy_timing bad[] = {
        {.every = 3, .chunk = 4, .chunk_every = 2}, {.every = -1}, {.latency_cycles = -1},
        {.chunk = INPHASE_MAX_CHUNK + 1}, {.join = 3}, {.interpolate = 3},
        {.latency_cycles = INPHASE_MAX_PLAN / 2}, {.blend_cycles = -1},
    };
    struct robot robot;

    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQUAL(try_open(&robot, &bad[i]), -EINVAL);
        inphase_segment_close(robot.segment);
    }
}

int main(void)
{
    RUN(a_frame_tells_which_frame_was_answered_and_how_long_that_took);
    RUN(an_act_without_a_command_tells_the_answer_that_came_too_late);
    RUN(an_answer_acts_in_its_cycle_whenever_it_came);
    RUN(of_a_late_answer_what_is_left_acts);
    RUN(a_command_of_several_cycles_acts_for_those_that_are_left);
    RUN(a_starved_robot_repeats_and_then_ramps);
    RUN(switching_takes_the_newest_from_its_first_command_that_is_left);
    RUN(blending_fades_the_newest_in);
    RUN(freezing_keeps_the_old_one_for_as_long_as_answers_take);
    RUN(a_latency_is_forgotten_once_it_is_rare);
    RUN(a_line_goes_through_every_command);
    RUN(a_cubic_goes_through_every_command_without_a_step_in_velocity);
    RUN(a_cubic_of_a_straight_line_is_that_line);
    RUN(what_is_gone_to_may_change_on_the_way_without_a_step);
    RUN(an_answer_that_is_gone_to_is_late_when_the_way_had_to_begin);
    RUN(a_switch_is_neither_blended_nor_interpolated);
    RUN(without_the_next_command_there_is_no_way_on);
    RUN(a_cubic_goes_on_from_rest_after_a_command_was_missing);
    RUN(a_refusal_leaves_what_was_answered_before);
    RUN(one_number_that_is_none_refuses_the_whole_answer);
    RUN(hostile_answers_are_refused_and_nothing_else_happens);
    RUN(torn_answers_and_heads_that_jump_are_passed_over);
    RUN(an_answer_expires_in_the_middle_of_its_chunk);
    RUN(an_answer_that_has_expired_when_it_comes_is_refused);
    RUN(an_older_answer_does_not_replace_a_newer_one);
    RUN(after_a_ramp_the_setpoint_is_on_the_way_between_its_commands);
    RUN(what_was_answered_before_a_stop_is_no_command_after_it);
    RUN(what_breaks_a_bound_is_refused);
    return 0;
}
