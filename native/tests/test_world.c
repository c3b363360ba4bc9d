/* A world in lock step, here a stub of a simulator: when it is stepped, how far, and what becomes
   of it when it fails. Its whole state is a position that moves by velocity * time. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../src/core.h"
#include "../src/draw.h"
#include "../src/timing.h"
#include "../src/twin.h"
#include "check.h"
#include "segments.h"

#define PERIOD_NS 1000000
#define STEP_NS 250000
#define ACT_NS 500000
#define LOG_MAX 4096

/* what a simulator would keep: a model with its time step, and data */
struct stub {
    double timestep;
    double position, control, seen; /* `seen` is derived: control and position in a forward pass */
    double step[LOG_MAX];           /* lengths of the steps so far */
    int steps, forwards;
    int32_t warning[2];
    int warn_at, raise_at;          /* step in which it fails, -1: never */
};

static void (*handler)(void *);

static void *catch_errors(void *next)
{
    void *before = (void *)handler;

    handler = (void (*)(void *))next;
    return before;
}

/* a message as the world's handler is given it */
static void say(int level, const char *text)
{
    struct {
        int level, topic;
        char subject[1024];
    } message = {.level = level};

    snprintf(message.subject, sizeof message.subject, "%s", text);
    handler(&message);
}

/* the simulator's clock: what a step reads there, and what is left afterwards */
static double tick(void)
{
    return 1;
}

static double tock(void)
{
    return 2;
}

static double (*clock_of_all)(void);
static int ticks;               /* read by steps so far */

static void step(const void *model, void *data)
{
    struct stub *stub = data;

    ticks += clock_of_all && clock_of_all() != 0;
    (void)model;
    if (stub->steps == stub->raise_at) {
        say(2, "a warning is no error");
        say(3, "out of memory");
    }
    if (stub->steps == stub->warn_at)
        stub->warning[1]++;
    stub->step[stub->steps++ % LOG_MAX] = stub->timestep;
    stub->position += stub->control * stub->timestep;
}

static void forward(const void *model, void *data)
{
    struct stub *stub = data;

    (void)model;
    stub->forwards++;
    stub->seen = stub->position + 1000 * stub->control;
}

static int render(void *user, uint32_t sensor, void *payload)
{
    memset(payload, (int)sensor + 1, 32);
    return *(int *)user;
}

struct robot {
    inphase_segment *segment;
    inphase_core *core;
    struct stub stub;
    int render_result;
};

struct choice {
    int64_t acquire_ns;         /* of the sensor, from its trigger at 0 */
    bool derived, rendered;
    const struct inphase_distribution *delay, *inference, *wake_late;
    int warn_at, raise_at;
    int64_t steps;              /* per cycle, 0: four */
    const struct inphase_trace *trace;
};
static const struct choice usual = {.warn_at = -1, .raise_at = -1};

static void open_robot(struct robot *robot, const struct choice *choice)
{
    static const struct inphase_limits limits = {.low = -1e6, .high = 1e6, .velocity = 1e9,
                                                .acceleration = 1e9, .step = 1e9};
    static const double none[2] = {NAN, NAN}, start = 0;
    const double gain = 2;
    double *control[1] = {&robot->stub.control};
    struct inphase_twin_channel channel[2] = {
        {.kind = INPHASE_TWIN_WORLD, .gain = 1, .source = &robot->stub.position},
        {.kind = INPHASE_TWIN_WORLD, .gain = 1, .source = &robot->stub.seen},
    };
    struct inphase_sensor_config sensor = {
        .worker = 1, .channels = 2, .payload = choice->rendered ? 32 : 16, .every = 1,
        .max_age_ns = 10 * PERIOD_NS, .recover = 3, .depth = 64,
        .exchange = {.acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = choice->acquire_ns},
        .twin = {.channel = channel, .latency_ns = 300000, .derived = choice->derived,
                 .rendered = choice->rendered},
        .low = none, .high = none, .rate = none,
    };
    struct inphase_actuator_config actuator = {
        .device = 1, .channels = 1, .feedback_sensor = -1, .accepts = 1, .max_hold_ns = PERIOD_NS,
        .limits = &limits, .start = &start, .control = control, .control_gain = &gain,
    };
    struct inphase_world world = {
        .step = step, .forward = forward, .catch_errors = catch_errors, .model = &robot->stub,
        .data = &robot->stub, .timestep = &robot->stub.timestep, .step_s = 0.00025,
        .steps = PERIOD_NS / STEP_NS, .warning = robot->stub.warning, .warnings = 2,
        .warning_stride = 4, .fatal = 2, .render = render, .user = &robot->render_result,
        .clock = &clock_of_all,
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 400000, .act_ns = ACT_NS,
        .resumed_after_ns = 100 * PERIOD_NS, .seed = 1, .devices = 2, .sensors = 1, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 1000, .has_policy = 1, .virtual_time = 1,
        .sensor = &sensor, .actuator = &actuator, .world = &world,
    };

    memset(robot, 0, sizeof *robot);
    robot->stub.timestep = 0.00025;
    robot->stub.warn_at = choice->warn_at;
    robot->stub.raise_at = choice->raise_at;
    if (choice->delay)
        actuator.delay = *choice->delay;
    if (choice->steps) {
        world.steps = choice->steps;
        world.step_s = robot->stub.timestep = PERIOD_NS / 1e9 / (double)choice->steps;
    }
    if (choice->inference)
        config.inference = *choice->inference;
    if (choice->wake_late)
        config.wake_late = *choice->wake_late;
    if (choice->trace)
        config.trace = *choice->trace;
    CHECK_EQUAL(inphase_segment_make(&robot->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&robot->core, &config, robot->segment), 0);
    CHECK_EQUAL(inphase_core_enable(robot->core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_arm(robot->core), 0);
}

static void close_robot(struct robot *robot)
{
    inphase_core_close(robot->core);
    inphase_segment_close(robot->segment);
}

/* one turn of a policy that asks for a value; the frame that it was asked for */
static const struct inphase_frame *turn(struct robot *robot, double value)
{
    CHECK(inphase_core_turn(robot->core, 0) >= 0);
    CHECK_EQUAL(inphase_core_answer(robot->core, 0, &value, 1), 0);
    return (const void *)robot->core->record;
}

static double position_of(const struct robot *robot)
{
    return robot->core->sensor[0].newest.value[0];
}

static void steps_are_whole_where_events_are_on_the_grid(void)
{
    struct robot robot;

    open_robot(&robot, &usual);
    for (int i = 0; i < 20; i++)
        turn(&robot, 0);
    CHECK_EQUAL(robot.stub.steps, 19 * 4);
    for (int i = 0; i < robot.stub.steps; i++)
        CHECK(robot.stub.step[i] == 0.00025);
    close_robot(&robot);
}

static void an_instant_between_grid_points_is_reached_by_a_shorter_step(void)
{
    const struct choice choice = {.acquire_ns = 100000, .warn_at = -1, .raise_at = -1};
    struct robot robot;

    open_robot(&robot, &choice);
    for (int i = 0; i < 3; i++)
        turn(&robot, 0);
    /* to 100 us, on to the grid at 250 us, and whole steps up to the next cycle */
    CHECK(fabs(robot.stub.step[0] - 0.0001) < 1e-12);
    CHECK(fabs(robot.stub.step[1] - 0.00015) < 1e-12);
    CHECK(robot.stub.step[2] == 0.00025 && robot.stub.step[4] == 0.00025);
    CHECK_EQUAL(robot.core->sensor[0].newest.acquired_ns, 2 * PERIOD_NS + 100000);
    CHECK(robot.stub.timestep == 0.00025);
    close_robot(&robot);
}

static void steps_that_are_no_whole_nanoseconds_end_with_the_cycle(void)
{
    const struct choice choice = {.warn_at = -1, .raise_at = -1, .steps = 3};
    const double third = PERIOD_NS / 1e9 / 3;
    struct robot robot;

    /* of each cycle: to 333333 ns, to the act at 500000 and on to 666666, and to its end */
    open_robot(&robot, &choice);
    for (int i = 0; i < 601; i++)
        turn(&robot, 1);
    CHECK_EQUAL(robot.stub.steps, 600 * 4);
    for (int i = 0; i < robot.stub.steps; i += 4) {
        CHECK(robot.stub.step[i] == third && robot.stub.step[i + 3] == third);
        CHECK(fabs(robot.stub.step[i + 1] - 0.000166667) < 1e-15);
        CHECK(fabs(robot.stub.step[i + 2] - 0.000166666) < 1e-15);
    }
    CHECK_EQUAL(robot.core->world.whole_steps, 600 * 3);
    CHECK_EQUAL(robot.core->world.now_ns, 600LL * PERIOD_NS);
    CHECK(robot.stub.timestep == third);
    close_robot(&robot);
}

static void a_command_takes_effect_after_its_delay(void)
{
    static const double zero = 0, ns = 750000;
    const struct inphase_distribution delay = {1, &zero, &ns};
    const struct choice choice = {.delay = &delay, .warn_at = -1, .raise_at = -1};
    struct robot robot;

    /* asked in cycle 0, acted at 0.5 ms, in effect from 1.25 ms on: seen at 2 ms */
    open_robot(&robot, &choice);
    turn(&robot, 1);
    CHECK(robot.stub.control == 0);
    turn(&robot, 1);
    CHECK(position_of(&robot) == 0);
    turn(&robot, 1);
    CHECK(fabs(position_of(&robot) - 2 * 0.00075) < 1e-12);
    CHECK(robot.stub.control == 2);
    close_robot(&robot);
}

static void commands_overtake_none(void)
{
    static const double p[4] = {0, 0.5, 0.5, 1}, ns[4] = {100000, 100000, 3900000, 3900000};
    const struct inphase_distribution delay = {4, p, ns};
    const struct choice choice = {.delay = &delay, .warn_at = -1, .raise_at = -1};
    struct robot robot;
    double before = 0;

    open_robot(&robot, &choice);
    for (int i = 1; i < 60; i++) {
        turn(&robot, i);
        CHECK(robot.stub.control >= before);
        before = robot.stub.control;
    }
    CHECK(before > 100);
    close_robot(&robot);
}

static void what_is_derived_is_of_the_acquisition(void)
{
    const struct choice choice = {.derived = true, .warn_at = -1, .raise_at = -1};
    struct robot robot;

    open_robot(&robot, &choice);
    for (int i = 0; i < 4; i++)
        turn(&robot, 3);
    CHECK_EQUAL(robot.stub.forwards, 4);
    CHECK(robot.core->sensor[0].newest.value[1] == position_of(&robot) + 1000 * 6.0);
    close_robot(&robot);
}

static void a_failure_ends_the_run_and_is_told(void)
{
    static const struct { struct choice choice; int what; const char *message; } cases[] = {
        {{.warn_at = 9, .raise_at = -1}, 2, ""},
        {{.warn_at = -1, .raise_at = 9}, -EIO, "out of memory"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct inphase_world_failure failure;
        struct inphase_status status;
        inphase_reader *reader;
        struct robot robot;
        int64_t frames;

        open_robot(&robot, &cases[i].choice);
        inphase_core_world_failure(robot.core, &failure);
        CHECK_EQUAL(failure.what, 0);
        for (int n = 0; n < 3; n++)
            turn(&robot, 0);
        CHECK_EQUAL(inphase_core_turn(robot.core, 0), -ESHUTDOWN);
        CHECK_EQUAL(inphase_core_turn(robot.core, 0), -ESHUTDOWN);
        CHECK_EQUAL(inphase_core_run(robot.core, 5), 0);
        inphase_core_progress(robot.core, &frames);
        CHECK_EQUAL(frames, 3);
        inphase_core_world_failure(robot.core, &failure);
        CHECK_EQUAL(failure.what, cases[i].what);
        CHECK_EQUAL(failure.cycle, 3);
        CHECK(strcmp(failure.message, cases[i].message) == 0);
        CHECK_EQUAL(open_reader(&reader, robot.segment, 0), 0);
        CHECK_EQUAL(inphase_reader_status(reader, &status), 0);
        CHECK_EQUAL(status.reason, INPHASE_REASON_WORLD);
        CHECK_EQUAL(status.state, INPHASE_STATE_STOPPED);
        inphase_reader_close(reader);
        close_robot(&robot);
    }
}

static void the_clock_of_all_worlds_stands_while_one_steps(void)
{
    double value = 0;
    struct robot robot;

    open_robot(&robot, &usual);
    turn(&robot, 0);
    CHECK(!clock_of_all);
    clock_of_all = tick;
    ticks = 0;
    for (int i = 0; i < 3; i++)
        turn(&robot, 0);
    CHECK(inphase_core_turn(robot.core, 0) >= 0);
    CHECK(inphase_core_answer_turn(robot.core, 0, &value, 1, 0) >= 0);
    CHECK_EQUAL(inphase_core_run(robot.core, 10), 10);
    CHECK_EQUAL(ticks, 0);
    CHECK(clock_of_all == tick);

    /* two at once: the last one that leaves gives it back, but for a new one */
    world_enter(&robot.core->world);
    world_enter(&robot.core->world);
    world_leave(&robot.core->world);
    CHECK(clock_of_all() == 0);
    clock_of_all = tock;
    world_leave(&robot.core->world);
    CHECK(clock_of_all == tock);
    clock_of_all = NULL;
    close_robot(&robot);
}

static void a_renderer_fills_the_payload_or_fails(void)
{
    const struct choice choice = {.rendered = true, .warn_at = -1, .raise_at = -1};
    struct inphase_world_failure failure;
    struct robot robot;

    open_robot(&robot, &choice);
    turn(&robot, 0);
    CHECK_EQUAL(robot.stub.forwards, 1);
    CHECK_EQUAL(robot.core->sensor[0].twin->given[31], 1);
    robot.render_result = -1;
    CHECK_EQUAL(inphase_core_turn(robot.core, 0), -ESHUTDOWN);
    inphase_core_world_failure(robot.core, &failure);
    CHECK_EQUAL(failure.what, -EPIPE);
    close_robot(&robot);
}

static void a_slow_policy_takes_the_newest_frame_when_it_is_free(void)
{
    static const double zero = 0, ns = 1600000; /* 1.6 cycles from a latch at 300 us */
    const struct inphase_distribution inference = {1, &zero, &ns};
    const struct choice choice = {.inference = &inference, .warn_at = -1, .raise_at = -1};
    static const int64_t expected[] = {0, 1, 3, 4, 6};
    struct robot robot;

    open_robot(&robot, &choice);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        double value = 0;

        CHECK_EQUAL(inphase_core_turn(robot.core, 0), expected[i]);
        CHECK_EQUAL(inphase_core_answer(robot.core, 0, &value, 1), 0);
    }
    CHECK_EQUAL(inphase_core_answer(robot.core, 0, NULL, 0), -EPERM);
    close_robot(&robot);
}

static uint32_t double_it(void *user, const void *record, const void *const *samples,
                          double *command)
{
    const struct inphase_frame *frame = record;
    const double *value = samples[0];

    *(int64_t *)user = frame->cycle;
    if (frame->cycle == 5)
        return INPHASE_REASON_RAISED;
    command[0] = value[0] + 1;
    return 0;
}

static void a_policy_in_c_is_asked_every_cycle(void)
{
    struct inphase_counts counts;
    inphase_reader *reader;
    struct robot robot;
    int64_t seen = -1;

    open_robot(&robot, &usual);
    robot.core->policy = (struct inphase_native_policy){double_it, &seen};
    CHECK_EQUAL(inphase_core_run(robot.core, 10), 10);
    CHECK_EQUAL(seen, 9);
    CHECK_EQUAL(open_reader(&reader, robot.segment, 0), 0);
    CHECK_EQUAL(inphase_reader_counts(reader, &counts), 0);
    CHECK_EQUAL(counts.commands, 9);
    CHECK_EQUAL(counts.invalid, 1);
    inphase_reader_close(reader);
    close_robot(&robot);
}

static void a_late_host_wakes_late_at_each_sleep(void)
{
    static const double p[2] = {0, 1}, ns[2] = {1000, 90000};
    const struct inphase_distribution wake_late = {2, p, ns};
    const struct choice choice = {.wake_late = &wake_late, .warn_at = -1, .raise_at = -1};
    struct robot robot;

    open_robot(&robot, &choice);
    for (int64_t n = 1; n < 50; n++) { /* cycle 0 starts where time does */
        const struct inphase_frame *frame = turn(&robot, 0);
        int64_t late_ns = frame->woke_ns - frame->due_ns;

        if (frame->cycle == 0)
            continue;
        CHECK_EQUAL(late_ns, (int64_t)(1000 + 89000 * inphase_draw(1, (uint64_t)frame->cycle,
                                                                   INPHASE_DRAW_HOST, 0)));
        CHECK_EQUAL(robot.core->sensor[0].newest.acquired_ns, frame->woke_ns);
    }
    CHECK(robot.stub.steps > 50 * 4);
    close_robot(&robot);
}

/* ---- the timing of a recorded run --------------------------------------------------------- */

static void recorded_times_are_followed_and_begin_again(void)
{
    static const int64_t wake[3] = {1000, 0, 5000}, latched[3] = {30000, 0, 60000}, zero[3];
    static const int64_t took[3] = {20000, INPHASE_TRACE_NONE, 30000};
    const struct inphase_sensor_trace of = {.took = took, .trigger_late = zero};
    const struct inphase_trace trace = {3, wake, latched, zero, zero, &of};
    const struct choice choice = {.warn_at = -1, .raise_at = -1, .trace = &trace};
    struct robot robot;

    open_robot(&robot, &choice);
    for (int i = 0; i < 7; i++) {
        const struct inphase_core *core = robot.core;
        const struct sample *newest = &core->sensor[0].newest;

        CHECK_EQUAL(inphase_core_run(robot.core, 1), 1);
        CHECK_EQUAL(core->woke_ns - core->due_ns, wake[i % 3]);
        if (took[i % 3] == INPHASE_TRACE_NONE) {
            CHECK(newest->received_ns < core->due_ns);
            continue;
        }

        /* it is triggered at the wake; behind a missed reply nobody says so */
        CHECK_EQUAL(newest->received_ns - core->woke_ns, took[i % 3]);
        CHECK_EQUAL(core->latched_ns - core->due_ns, latched[i % 3]);
    }
    close_robot(&robot);
}

/* the latch was behind the act offset, so that nobody slept for the act, and its writes ended
   behind the next grid point: the next cycle was left out */
static void an_act_that_ended_too_late_leaves_the_next_cycle_out(void)
{
    static const int64_t zero[4], took[4] = {20000, 20000, 20000, 20000};
    const struct inphase_sensor_trace of = {.took = took, .trigger_late = zero};
    int64_t latched[4] = {30000, 0, 30000, 30000}, late[4] = {0};
    const struct inphase_trace trace = {4, zero, latched, late, zero, &of};
    const struct choice choice = {.warn_at = -1, .raise_at = -1, .trace = &trace};
    struct robot robot;

    open_robot(&robot, &choice);
    latched[1] = robot.core->act_ns + 1000;
    late[1] = robot.core->period_ns - robot.core->act_ns + 2000;
    CHECK_EQUAL(inphase_core_run(robot.core, 1), 1);
    CHECK_EQUAL(robot.core->cycle, 1);
    CHECK_EQUAL(inphase_core_run(robot.core, 1), 1);
    CHECK_EQUAL(robot.core->cycle, 3);
    close_robot(&robot);
}

static void recorded_times_that_lack_something_are_refused(void)
{
    static const int64_t zero[2], up[2] = {5, 9}, down[2] = {9, 5}, early[2] = {-1, 5};
    const struct inphase_sensor_trace good = {zero, zero, NULL, NULL, 0};
    const struct inphase_sensor_trace bad[] = {
        {zero, NULL, NULL, NULL, 0}, {NULL, zero, up, up, 2},
    };
    const struct inphase_sensor_trace free_bad[] = {
        {NULL, NULL, down, up, 2}, {NULL, NULL, early, up, 2}, {NULL, NULL, up, NULL, 2},
    };
    const struct inphase_sensor_trace free_good = {NULL, NULL, up, up, 2};
    struct robot robot;

    open_robot(&robot, &usual);
    CHECK(timing_holds(robot.core, &(struct inphase_trace){0}));
    CHECK(timing_holds(robot.core, &(struct inphase_trace){2, zero, zero, zero, zero, &good}));
    CHECK(!timing_holds(robot.core, &(struct inphase_trace){2, NULL, zero, zero, zero, &good}));
    CHECK(!timing_holds(robot.core, &(struct inphase_trace){2, zero, zero, zero, zero, NULL}));
    for (int i = 0; i < 2; i++)
        CHECK(!timing_holds(robot.core,
                            &(struct inphase_trace){2, zero, zero, zero, zero, &bad[i]}));
    robot.core->sensor[0].free_running = true;
    CHECK(timing_holds(robot.core, &(struct inphase_trace){2, zero, zero, zero, zero, &free_good}));
    for (int i = 0; i < 3; i++)
        CHECK(!timing_holds(robot.core,
                            &(struct inphase_trace){2, zero, zero, zero, zero, &free_bad[i]}));
    robot.core->sensor[0].free_running = false;
    close_robot(&robot);
}

static void distributions_that_are_none_are_refused(void)
{
    static const double value[3] = {1, 2, 3}, up[3] = {0, 0.5, 1}, back[3] = {0, 0.6, 0.5};
    static const double open[3] = {0, 0.5, 0.9}, late[3] = {0.1, 0.5, 1};
    static const double infinite[3] = {1, INFINITY, 3};
    struct inphase_distribution good = {3, up, value};

    CHECK(distribution_holds(&good));
    CHECK(inphase_quantile(&good, 0.25) == 1.5);
    CHECK(inphase_quantile(&good, 0.999) < 3);
    CHECK(!distribution_holds(&(struct inphase_distribution){3, back, value}));
    CHECK(!distribution_holds(&(struct inphase_distribution){3, open, value}));
    CHECK(!distribution_holds(&(struct inphase_distribution){3, late, value}));
    CHECK(!distribution_holds(&(struct inphase_distribution){3, up, infinite}));
    CHECK(!distribution_holds(&(struct inphase_distribution){INPHASE_MAX_KNOTS + 1, up, value}));
    CHECK(distribution_holds(&(struct inphase_distribution){0, NULL, NULL}));
}

int main(void)
{
    RUN(steps_are_whole_where_events_are_on_the_grid);
    RUN(an_instant_between_grid_points_is_reached_by_a_shorter_step);
    RUN(steps_that_are_no_whole_nanoseconds_end_with_the_cycle);
    RUN(a_command_takes_effect_after_its_delay);
    RUN(commands_overtake_none);
    RUN(what_is_derived_is_of_the_acquisition);
    RUN(a_failure_ends_the_run_and_is_told);
    RUN(the_clock_of_all_worlds_stands_while_one_steps);
    RUN(a_renderer_fills_the_payload_or_fails);
    RUN(a_slow_policy_takes_the_newest_frame_when_it_is_free);
    RUN(a_policy_in_c_is_asked_every_cycle);
    RUN(a_late_host_wakes_late_at_each_sleep);
    RUN(recorded_times_are_followed_and_begin_again);
    RUN(an_act_that_ended_too_late_leaves_the_next_cycle_out);
    RUN(recorded_times_that_lack_something_are_refused);
    RUN(distributions_that_are_none_are_refused);
    return 0;
}
