/* Parking on virtual time, with a joint that follows each command at once. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "../src/actuator.h"
#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/relaxed.h"
#include "../src/state.h"
#include "check.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define PERIOD_S 1e-3
#define MOST 20000
#define NEAR 1e-9

static const double path[] = {0.3, -0.4};
static const double velocity = 1.0;
static const struct inphase_limits limits = {
    .low = -1, .high = 1, .velocity = 2, .acceleration = 20, .jerk = 400, .step = 0.2};

static void open_robot(struct robot *robot, int64_t longest_ns)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_servo servo = {.natural_rad_s = 1, .inertia = 1};
    static const uint8_t packet[4] = {0};
    const struct inphase_twin_channel channel = {
        .kind = INPHASE_TWIN_WORLD, .gain = 1, .source = &robot->joint[0]};
    const struct inphase_park park = {
        .points = 2, .point = path, .velocity = &velocity, .longest_ns = longest_ns};
    const struct inphase_sensor_config sensor = {
        .channels = 1, .max_age_ns = 3500000, .recover = 3, .depth = 64, .every = 1, .payload = 8,
        .exchange = {.replies = 1, .reply = &reply, .sequence_type = INPHASE_U32,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = 100000,
                     .reply_max_ns = 400000},
        .twin = {.channel = &channel, .latency_ns = 200000},
    };
    const struct inphase_actuator_config actuator = {
        .channels = 1, .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_HELD | 1 << INPHASE_LATE,
        .max_hold_ns = 3 * PERIOD_NS, .limits = &limits, .servo = &servo, .guarded = 1,
        .park = &park, .encoding = {.packet = packet, .packet_size = 4},
    };
    const struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 500000, .act_ns = 700000,
        .resumed_after_ns = 20 * PERIOD_NS, .devices = 1, .sensors = 1, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 5, .has_policy = 1, .virtual_time = 1,
        .sensor = &sensor, .actuator = &actuator,
    };

    CHECK_EQUAL(make_robot(robot, &config), 0);
    start_robot(robot, 1);
}

/* the joint as the last act commanded it */
static double applied(const struct robot *robot)
{
    return ((const double *)(robot->core->act[0] + 1))[1];
}

static int parked(const struct robot *robot)
{
    return inphase_core_parked(robot->core, 0);
}

/* the joint moves at 1 rad/s when the run is told to end */
static void begin(struct robot *robot)
{
    double goal = 0;

    for (int n = 0; n < 300; n++) {
        goal += fmin(1e-3, 1e-5 * n);
        ask(robot, goal);
        robot->joint[0] = applied(robot);
    }
}

/* what a stop did, in the units of a cycle */
struct stopped {
    int64_t cycles;
    double lowest, highest, fastest, hardest, jerkiest;
};

/* the rest of a run; what: called before each cycle, with the number of cycles since the stop */
static struct stopped finish(struct robot *robot, void (*what)(struct robot *, int64_t))
{
    struct stopped found = {.lowest = INFINITY, .highest = -INFINITY};
    double before = applied(robot), velocity_before = NAN, acceleration_before = NAN;

    while (found.cycles < MOST) {
        double v, a;

        if (what)
            what(robot, found.cycles);
        if (!cycle_run(robot->core, CYCLE_WHOLE))
            return found;
        found.cycles++;
        v = applied(robot) - before;
        a = v - velocity_before;
        found.lowest = fmin(found.lowest, applied(robot));
        found.highest = fmax(found.highest, applied(robot));
        found.fastest = fmax(found.fastest, fabs(v));
        found.hardest = fmax(found.hardest, isnan(a) ? 0 : fabs(a));
        found.jerkiest = fmax(found.jerkiest,
                              isnan(acceleration_before) ? 0 : fabs(a - acceleration_before));
        velocity_before = v;
        acceleration_before = a;
        before = robot->joint[0] = applied(robot);
    }
    return found;
}

static void a_stop_goes_along_the_path_within_the_limits_and_rests_at_its_end(void)
{
    struct robot robot;
    struct stopped found;

    open_robot(&robot, 10000000000LL);
    begin(&robot);
    CHECK_EQUAL(parked(&robot), INPHASE_PARK_WAITS);
    inphase_core_stop(robot.core, INPHASE_REASON_SIGNAL, 2);
    found = finish(&robot, NULL);
    CHECK_EQUAL(parked(&robot), INPHASE_PARK_DONE);
    CHECK(applied(&robot) == path[1]);
    CHECK(found.lowest >= path[1] - NEAR && found.highest < 0.5);
    CHECK(found.fastest <= velocity * PERIOD_S + NEAR);
    CHECK(found.hardest <= limits.acceleration * PERIOD_S * PERIOD_S + NEAR);
    CHECK(found.jerkiest <= limits.jerk * PERIOD_S * PERIOD_S * PERIOD_S + NEAR);
    CHECK_EQUAL(robot.core->told_stop, 1);
    close_robot(&robot);
}

static void hurry_on_the_way(struct robot *robot, int64_t cycle)
{
    if (cycle == 700)
        inphase_core_hurry(robot->core);
}

static void latch_on_the_way(struct robot *robot, int64_t cycle)
{
    if (cycle == 700)
        inphase_core_estop(robot->core, INPHASE_ESTOP_LOCAL);
}

static void block_on_the_way(struct robot *robot, int64_t cycle)
{
    static double here;

    if (cycle == 700)
        here = robot->joint[0];
    if (cycle >= 700)
        robot->joint[0] = here;
}

/* whatever ends a park ends it in a ramp and a hold where the joint is */
static void a_park_that_is_cut_short_holds_on_the_way(void)
{
    static const struct {
        void (*what)(struct robot *, int64_t);
        int64_t longest_ns;
        int phase;
    } cut[] = {{hurry_on_the_way, 10000000000LL, INPHASE_PARK_HURRIED},
               {latch_on_the_way, 10000000000LL, INPHASE_PARK_LATCHED},
               {block_on_the_way, 10000000000LL, INPHASE_PARK_LIMITED},
               {NULL, 700000000LL, INPHASE_PARK_TIME}};

    for (uint32_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        struct robot robot;
        struct stopped found;

        open_robot(&robot, cut[i].longest_ns);
        begin(&robot);
        inphase_core_stop(robot.core, INPHASE_REASON_DONE, 0);
        found = finish(&robot, cut[i].what);
        CHECK_EQUAL(parked(&robot), cut[i].phase);
        CHECK(found.lowest > path[1] + 0.1);
        CHECK(found.cycles < 700 + 1400);
        CHECK(found.hardest <= limits.acceleration * PERIOD_S * PERIOD_S + NEAR);
        close_robot(&robot);
    }
}

static void a_robot_that_is_stopped_for_a_fault_does_not_park(void)
{
    struct robot robot;

    open_robot(&robot, 10000000000LL);
    begin(&robot);
    inphase_core_stop(robot.core, INPHASE_REASON_OVERRUN, 0);
    CHECK(finish(&robot, NULL).cycles < 1000);
    CHECK_EQUAL(parked(&robot), INPHASE_PARK_REFUSED);
    close_robot(&robot);
}

/* cycles that were left out have slowed the joint down */
static void cycles_without_a_write_begin_the_way_anew(void)
{
    struct robot robot;

    open_robot(&robot, 30000000000LL);
    begin(&robot);
    inphase_core_stop(robot.core, INPHASE_REASON_SIGNAL, 15);
    plan(&robot, INPHASE_FAULT_WAKE, 0, robot.core->cycle + 600, 1, 2 * PERIOD_NS);
    plan(&robot, INPHASE_FAULT_WAKE, 0, robot.core->cycle + 1500, 1, 3 * PERIOD_NS);
    finish(&robot, NULL);
    CHECK_EQUAL(parked(&robot), INPHASE_PARK_DONE);
    CHECK(applied(&robot) == path[1]);
    CHECK(load_i64(&robot.core->state->skipped) > 0);
    close_robot(&robot);
}

int main(void)
{
    RUN(a_stop_goes_along_the_path_within_the_limits_and_rests_at_its_end);
    RUN(a_park_that_is_cut_short_holds_on_the_way);
    RUN(a_robot_that_is_stopped_for_a_fault_does_not_park);
    RUN(cycles_without_a_write_begin_the_way_anew);
    return 0;
}
