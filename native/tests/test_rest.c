/* The stop that is owed to an actuator that was lost in motion, on virtual time: what it is, how
   often it is written, and what ends it. The joint is the test's, and so is what its device takes.
   Device 0 has the actuator and a sensor of no interest, device 1 measures the joint. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../src/actuator.h"
#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/device.h"
#include "../src/relaxed.h"
#include "../src/state.h"
#include "../src/twin.h"
#include "check.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define MAX_AGE_NS 3500000LL
#define STEP 0.1
#define SAFE 0.5 /* N m, where a ramp of effort ends */
#define SETTLED 130 /* cycles after which a joint is measured to be at rest, 0.1 s */
#define LOST 20     /* the cycle in which the device goes */
#define BACK 25     /* and in which it is there again */
enum { BUS, BESIDE, SENSORS };
#define JOINT 1    /* its channel; the one before is always 0 */
#define SPEED 2    /* the channel of its velocity */
#define CHANNELS 3

/* what its device was given */
static struct {
    int count;
    double value;
    uint32_t stops;
    bool busy;
} written;

static int take_write(struct inphase_core *core, struct actuator *actuator)
{
    (void)core;
    if (written.busy)
        return -EAGAIN;
    written.count++;
    written.value = actuator->applied[0];
    written.stops = actuator->stops;
    return 0;
}

static const struct inphase_limits limits[] = {
    {.low = -2, .high = 2, .velocity = 2, .acceleration = 20, .step = STEP},
    {.low = -INFINITY, .high = INFINITY, .velocity = 2, .acceleration = 20,
     .mode = INPHASE_MODE_VELOCITY},
    {.low = -INFINITY, .high = INFINITY, .velocity = INFINITY, .effort = 4, .rate = 100,
     .safe = SAFE, .mode = INPHASE_MODE_EFFORT},
};

static void open_robot(struct robot *robot, uint32_t mode, bool is_blind, int64_t period_ns)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_servo servo = {.natural_rad_s = 1, .inertia = 1};
    static const uint8_t packet[4] = {0};
    static const double start = 0;
    const struct inphase_twin_channel channel[CHANNELS] = {
        [JOINT] = {.kind = INPHASE_TWIN_WORLD, .gain = 1, .source = &robot->joint[0]},
        [SPEED] = {.kind = INPHASE_TWIN_WORLD, .gain = 1, .source = &robot->joint[1]}};
    struct inphase_sensor_config sensor[SENSORS];
    struct inphase_actuator_config actuator = {
        .channels = 1, .feedback_sensor = is_blind ? -1 : BESIDE, .feedback_channel = JOINT,
        .measures = is_blind ? 0 : INPHASE_MEASURES_VELOCITY, .velocity_channel = SPEED,
        .start = &start,
        .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_HELD | 1 << INPHASE_LATE,
        .max_hold_ns = 3 * period_ns, .limits = &limits[mode], .servo = &servo, .guarded = 1,
        .encoding = {.packet = packet, .packet_size = 4},
    };
    struct inphase_config config = {
        .period_ns = period_ns, .read_deadline_ns = 500000, .act_ns = 700000,
        .resumed_after_ns = 20 * period_ns, .devices = 2, .sensors = SENSORS, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 5, .has_policy = 1, .virtual_time = 1,
        .sensor = sensor, .actuator = &actuator,
    };

    for (uint32_t i = 0; i < SENSORS; i++)
        sensor[i] = (struct inphase_sensor_config){
            .device = i, .channels = CHANNELS, .max_age_ns = MAX_AGE_NS, .recover = 1, .depth = 64,
            .every = 1, .payload = 8 * CHANNELS,
            .exchange = {.replies = 1, .reply = &reply,
                         .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                         .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = 100000,
                         .reply_max_ns = 400000},
            .twin = {.channel = channel, .latency_ns = 200000}};
    memset(&written, 0, sizeof written);
    CHECK_EQUAL(make_robot(robot, &config), 0);
    start_robot(robot, 1);
}

/* one cycle, with a command where `value` is one; how often the device was written to in it */
static int run(struct robot *robot, double value)
{
    struct device_ops ops = twin_ops;
    int before = written.count;

    ops.write = take_write;
    latch(robot);
    if (isfinite(value))
        CHECK_EQUAL(answer(robot, robot->core->cycle, INPHASE_REASON_NONE, &value, 1), 0);
    robot->core->device[BUS].ops = &ops;
    cycle_run(robot->core, CYCLE_ACT);
    robot->core->device[BUS].ops = &twin_ops;
    return written.count - before;
}

/* the same, of stops that are owed; one that has its stop is held with the others */
static int run_owed(struct robot *robot)
{
    int writes = run(robot, NAN);

    return robot->core->actuator[0].reason == INPHASE_REASON_REST ? writes : 0;
}

static uint32_t state(const struct robot *robot)
{
    return load_u32(&robot->core->state->state);
}

/* commanded, lost, and there again: the cycle that has just run is the last without it */
static void lose(struct robot *robot, double value)
{
    plan(robot, INPHASE_FAULT_GONE, BUS, LOST, BACK - LOST, 0);
    for (int n = 0; n < BACK; n++)
        CHECK_EQUAL(run(robot, value), n < LOST);
    CHECK_EQUAL(state(robot), INPHASE_STATE_UNCONTROLLED);
}

/* it moves on, whatever it is told */
static int run_moving(struct robot *robot, int cycles)
{
    int writes = 0;

    for (int n = 0; n < cycles; n++) {
        robot->joint[0] += 1e-3;
        writes += run_owed(robot);
        CHECK_EQUAL(state(robot), INPHASE_STATE_UNCONTROLLED);
    }
    return writes;
}

static void a_stop_is_written_in_every_cycle_and_for_a_stops_time_at_most(void)
{
    for (uint32_t mode = INPHASE_MODE_VELOCITY; mode <= INPHASE_MODE_EFFORT; mode++) {
        struct robot robot;

        open_robot(&robot, mode, false, PERIOD_NS);
        lose(&robot, mode == INPHASE_MODE_EFFORT ? SAFE + 0.05 : 0.02);
        CHECK_EQUAL(run_moving(&robot, 1000), 1000);
        CHECK(written.value == (mode == INPHASE_MODE_EFFORT ? SAFE : 0));
        CHECK_EQUAL(written.stops, STOPS_VALUES);
        CHECK_EQUAL(run_moving(&robot, 1000), 301);
        close_robot(&robot);
    }
}

static void a_stop_ends_when_the_joint_is_measured_to_be_at_rest(void)
{
    struct robot robot;
    int cycles = 0;

    open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
    lose(&robot, 0.02);
    CHECK_EQUAL(run_moving(&robot, 50), 50);

    /* 0.1 s, of which some passed while it moved by less than would show */
    for (;; cycles++) {
        int stops = run_owed(&robot);

        if (state(&robot) == INPHASE_STATE_FAULTED)
            break;
        CHECK_EQUAL(stops, 1);
        CHECK_EQUAL(state(&robot), INPHASE_STATE_UNCONTROLLED);
    }
    CHECK(cycles >= 94 && cycles <= 101);

    /* from then on it is held like the others */
    CHECK_EQUAL(robot.core->actuator[0].reason, INPHASE_REASON_OFFLINE);
    close_robot(&robot);
}

/* a joint that rests by itself is owed its stop all the same */
static void what_could_not_be_written_is_still_owed(void)
{
    struct robot robot;

    open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
    lose(&robot, 0.02);
    written.busy = true;
    for (int n = 0; n < 3 * SETTLED; n++) {
        run(&robot, NAN);
        CHECK_EQUAL(state(&robot), INPHASE_STATE_UNCONTROLLED);
    }
    written.busy = false;
    CHECK_EQUAL(run(&robot, NAN), 1);
    close_robot(&robot);
}

/* for 0.1 s, and three times at least */
static void one_without_feedback_gets_its_stop_for_as_long_as_one_would_be_looked_at(void)
{
    static const struct { int64_t period_ns; int stops; } tries[] = {
        {PERIOD_NS, 100}, {10 * PERIOD_NS, 10}, {80 * PERIOD_NS, 3}};

    for (int i = 0; i < 3; i++) {
        struct robot robot;
        int writes = 0;

        open_robot(&robot, INPHASE_MODE_VELOCITY, true, tries[i].period_ns);
        lose(&robot, 0.02);
        for (int n = 0; n < 2 * SETTLED; n++)
            writes += run_owed(&robot);
        CHECK_EQUAL(writes, tries[i].stops);
        CHECK(written.value == 0);
        CHECK_EQUAL(state(&robot), INPHASE_STATE_FAULTED);
        close_robot(&robot);
    }
}

/* nearer than a command may be, a hold is a stop; further off it is a jump */
static void a_joint_that_was_moved_by_hand_is_not_pulled_back(void)
{
    for (int sign = -1; sign <= 1; sign += 2)
        for (int is_far = 0; is_far < 2; is_far++) {
            struct robot robot;

            open_robot(&robot, INPHASE_MODE_POSITION, false, PERIOD_NS);
            plan(&robot, INPHASE_FAULT_GONE, BUS, LOST, BACK - LOST, 0);
            for (int n = 0; n < BACK; n++)
                run(&robot, 0);
            robot.joint[0] = sign * STEP * (is_far ? 1.01 : 0.99);
            for (int n = 0; n < 10; n++)
                CHECK_EQUAL(run_owed(&robot), !is_far);
            CHECK(written.value == 0);
            close_robot(&robot);
        }
}

/* where the joint is has to be known before it is held */
static void a_hold_waits_for_feedback(void)
{
    struct robot robot;

    open_robot(&robot, INPHASE_MODE_POSITION, false, PERIOD_NS);
    plan(&robot, INPHASE_FAULT_SILENT, BESIDE, LOST, 30, 0);
    lose(&robot, 0);
    for (int n = BACK; n < LOST + 30; n++)
        CHECK_EQUAL(run(&robot, NAN), 0);
    CHECK_EQUAL(run(&robot, NAN), 0); /* it recovers */
    CHECK_EQUAL(run(&robot, NAN), 1);
    close_robot(&robot);
}

/* who enables it has read what it does */
static void what_is_enabled_after_the_loss_is_owed_nothing(void)
{
    struct robot robot;

    open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
    lose(&robot, 0.02);
    CHECK_EQUAL(run_moving(&robot, 5), 5);
    CHECK_EQUAL(inphase_core_enable(robot.core, 0, 1), 0);
    CHECK_EQUAL(run_owed(&robot), 0);
    close_robot(&robot);
}

static void what_rests_when_it_is_switched_off_is_owed_nothing(void)
{
    for (int moves = 0; moves < 2; moves++) {
        struct robot robot;

        open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
        for (int n = 0; n < 20; n++)
            run(&robot, 0);
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        for (int n = 0; n < SETTLED; n++)
            run(&robot, NAN);
        CHECK_EQUAL(state(&robot), INPHASE_STATE_FAULTED);
        robot.joint[0] += moves;
        CHECK_EQUAL(inphase_core_enable(robot.core, 0, 0), 0);
        CHECK_EQUAL(run(&robot, NAN), moves);
        close_robot(&robot);
    }
}

/* what nobody commanded is owed an emergency's stop where it is, and none where it is not */
static void a_device_that_was_away_in_an_emergency_and_never_commanded_is_left_alone(void)
{
    for (int is_away = 0; is_away < 2; is_away++) {
        struct robot robot;
        int writes = 0;

        open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
        CHECK_EQUAL(inphase_core_enable(robot.core, 0, 0), 0);
        plan(&robot, INPHASE_FAULT_GONE, BUS, 5, is_away ? 10 : 0, 0);
        for (int n = 0; n < 8; n++)
            run(&robot, NAN);
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        for (int n = 0; n < 20; n++)
            writes += run_owed(&robot);
        CHECK_EQUAL(writes > 0, !is_away);
        close_robot(&robot);
    }
}

/* samples that were held up and come one per cycle are of one instant: that is no long rest */
static void rest_is_as_long_as_its_samples_say(void)
{
    struct robot robot;
    int64_t *acquire_ns;

    open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
    robot.core->sensor[BESIDE].max_age_ns = 10 * SETTLED * PERIOD_NS;
    acquire_ns = &robot.core->sensor[BESIDE].parser.exchange.spec.acquire_ns;
    for (int n = 0; n < 20; n++)
        run(&robot, 0);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    for (int n = 0; n < 3 * SETTLED; n++) {
        *acquire_ns -= PERIOD_NS;
        run(&robot, NAN);
        CHECK(state(&robot) != INPHASE_STATE_FAULTED);
    }
    for (int n = 0; n < SETTLED; n++)
        run(&robot, NAN);
    CHECK_EQUAL(state(&robot), INPHASE_STATE_FAULTED);
    close_robot(&robot);
}

/* A drive that hears none of a ramp stands through it, and may hear the ramp's last commands: its
   rest counts from where the commands are at rest, too. */
static void rest_begins_where_the_commands_are_at_rest(void)
{
    struct robot robot;
    int ramp = 0, rest = 0;

    open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
    for (int n = 0; n < 200; n++)
        run(&robot, fmin(0.01 * n, 1));
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    for (; written.value > 0 && ramp < SETTLED; ramp++)
        run(&robot, NAN);
    CHECK(ramp >= 49 && ramp <= 53); /* 1 rad/s at 20 rad/s2 */
    for (; state(&robot) != INPHASE_STATE_FAULTED && rest < 2 * SETTLED; rest++)
        run(&robot, NAN);
    CHECK(rest >= 100 && rest <= 103); /* 0.1 s */
    close_robot(&robot);
}

/* the cycles from an emergency stop of a joint that stands, to its rest; LONG: it is not seen */
#define LONG (5 * SETTLED)
static int count_to_rest(double velocity, double noise)
{
    struct robot robot;
    int cycles = 0;

    open_robot(&robot, INPHASE_MODE_VELOCITY, false, PERIOD_NS);
    for (int n = 0; n < 20; n++)
        run(&robot, 0);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    for (; state(&robot) != INPHASE_STATE_FAULTED && cycles < LONG; cycles++) {
        robot.joint[1] = velocity + (cycles % 2 ? noise : -noise);
        run(&robot, NAN);
    }
    close_robot(&robot);
    return cycles;
}

/* A device may repeat a place for a while. The velocity beside it tells that the joint turns on. */
static void a_place_that_stands_is_no_rest_beside_a_velocity(void)
{
    int rest = count_to_rest(0, 0);

    CHECK(rest < SETTLED);
    CHECK_EQUAL(count_to_rest(0.06, 0), LONG);
    CHECK_EQUAL(count_to_rest(-0.06, 0.1), LONG);
    CHECK_EQUAL(count_to_rest(NAN, 0), LONG);

    /* noise, and what is slower than `rest_speed`, is rest */
    CHECK_EQUAL(count_to_rest(0, 0.5), rest);
    CHECK_EQUAL(count_to_rest(0.04, 0.1), rest);
}

int main(void)
{
    RUN(a_place_that_stands_is_no_rest_beside_a_velocity);
    RUN(a_stop_is_written_in_every_cycle_and_for_a_stops_time_at_most);
    RUN(a_stop_ends_when_the_joint_is_measured_to_be_at_rest);
    RUN(what_could_not_be_written_is_still_owed);
    RUN(one_without_feedback_gets_its_stop_for_as_long_as_one_would_be_looked_at);
    RUN(a_joint_that_was_moved_by_hand_is_not_pulled_back);
    RUN(a_hold_waits_for_feedback);
    RUN(what_is_enabled_after_the_loss_is_owed_nothing);
    RUN(what_rests_when_it_is_switched_off_is_owed_nothing);
    RUN(a_device_that_was_away_in_an_emergency_and_never_commanded_is_left_alone);
    RUN(rest_is_as_long_as_its_samples_say);
    RUN(rest_begins_where_the_commands_are_at_rest);
    return 0;
}
