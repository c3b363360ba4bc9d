/* The emergency stop on virtual time: each kind of input, at every phase of a cycle. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../src/clock.h"
#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/estop.h"
#include "../src/relaxed.h"
#include "../src/state.h"
#include "check.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define ACT_NS 700000LL
#define LATENCY_NS 200000LL
#define PANEL 1 /* the sensor with the buttons; 0 has the joint */
#define STEP 1e-6 /* from command to command: v of 1e-3 rad/s, below what starts_here allows */
/* cycles after a stop: the joint follows, and is measured to be at rest for 0.1 s */
#define SETTLED 130

static const struct inphase_estop_input line_input = {.kind = INPHASE_INPUT_LINE};
static const struct inphase_estop_input any_bit = {
    .kind = INPHASE_INPUT_SAMPLE, .pressed = 1, .sensor = PANEL, .accepts = 1 << INPHASE_FRESH,
    .mask = 6, .low = NAN, .high = NAN};
static const struct inphase_estop_input no_bit = {
    .kind = INPHASE_INPUT_SAMPLE, .pressed = 0, .sensor = PANEL, .accepts = 1 << INPHASE_FRESH,
    .mask = 6, .low = NAN, .high = NAN};
static const struct inphase_estop_input bounded = {
    .kind = INPHASE_INPUT_SAMPLE, .sensor = PANEL, .accepts = 1 << INPHASE_FRESH,
    .low = -2, .high = 3};

static void open_robot(struct robot *robot, const struct inphase_estop_input *inputs,
                       uint32_t count, double base, bool off)
{
    static const struct inphase_reply reply = {0, 0, 0, 0, 0};
    static const uint8_t packet[4] = {0};
    struct inphase_twin_channel joint = {.kind = INPHASE_TWIN_POSITION, .gain = 1};
    struct inphase_twin_channel panel = {.base = base};
    struct inphase_servo servo = {.natural_rad_s = 60, .velocity_max = 6, .acceleration_max = 60};
    struct inphase_limits limits = {
        .low = -1, .high = 1, .velocity = 2, .acceleration = 20, .step = 0.5};
    struct inphase_exchange exchange = {
        .replies = 1, .reply = &reply, .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
        .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = 50000, .reply_max_ns = 400000};
    struct inphase_sensor_config sensor[2] = {
        {.device = 0, .channels = 1, .max_age_ns = 10 * PERIOD_NS, .recover = 2, .depth = 64,
         .every = 1, .payload = 8, .exchange = exchange,
         .twin = {.channel = &joint, .latency_ns = LATENCY_NS}},
        {.device = 1, .channels = 1, .max_age_ns = 10 * PERIOD_NS, .recover = 2, .depth = 64,
         .every = 1, .payload = 8, .exchange = exchange,
         .twin = {.channel = &panel, .latency_ns = LATENCY_NS}},
    };
    struct inphase_actuator_config actuator = {
        .channels = 1, .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_LATE, .off_on_estop = off,
        .max_hold_ns = 3 * PERIOD_NS, .limits = &limits, .servo = &servo,
        .encoding = {.packet = packet, .packet_size = 4}};
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 600000, .act_ns = ACT_NS,
        .resumed_after_ns = 20 * PERIOD_NS, .devices = 2, .sensors = 2, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 5, .has_policy = 1, .virtual_time = 1,
        .sensor = sensor, .actuator = &actuator, .estop_inputs = count, .estop = inputs};

    CHECK_EQUAL(make_robot(robot, &config), 0);
    start_robot(robot, 1);
}

static void post(struct robot *robot)
{
    robot->goal += STEP;
    CHECK_EQUAL(answer(robot, robot->core->cycle, INPHASE_REASON_NONE, &robot->goal, 1), 0);
}

static const struct inphase_frame *run(struct robot *robot)
{
    const struct inphase_frame *frame = latch(robot);

    post(robot);
    cycle_run(robot->core, CYCLE_ACT);
    return frame;
}

static struct inphase_status status_of(struct robot *robot)
{
    struct inphase_status status;

    CHECK_EQUAL(inphase_reader_status(robot->reader, &status), 0);
    return status;
}

/* up to cycle `cycles`, and moving */
static void start(struct robot *robot, int cycles)
{
    for (int i = 0; i < cycles; i++)
        run(robot);
    CHECK_EQUAL(status_of(robot).state, INPHASE_STATE_RUNNING);
}

static uint32_t act_flags(struct robot *robot)
{
    return robot->core->actuator[0].flags;
}

/* latched by an emergency stop in the act of the cycle that was run last, and its command
   dropped */
static void expect_stopped(struct robot *robot, uint32_t detail, int64_t cycle, int64_t before)
{
    struct inphase_status status = status_of(robot);

    CHECK_EQUAL(status.latched, INPHASE_REASON_ESTOP);
    CHECK_EQUAL(status.latched_detail, detail);
    CHECK_EQUAL(status.reason_cycle, cycle);
    CHECK_EQUAL(counts(robot).dropped, before + 1);
    CHECK(act_flags(robot) & INPHASE_ACT_RAMPING);
    CHECK(act_flags(robot) & INPHASE_ACT_WRITTEN);
    CHECK(isnan(robot->core->actuator[0].requested[0]));
}

/* from the stop on: what later frames say, and that nothing but arming ends it */
static void expect_latched(struct robot *robot)
{
    const struct inphase_frame *frame = NULL;
    double rest;

    for (int i = 0; i < SETTLED; i++) {
        frame = run(robot);
        CHECK(frame->flags & INPHASE_FLAG_ESTOP && frame->flags & INPHASE_FLAG_LATCHED);
        CHECK_EQUAL(frame->reason, INPHASE_REASON_ESTOP);
    }
    CHECK_EQUAL(frame->state, INPHASE_STATE_FAULTED);
    CHECK(frame->flags & INPHASE_FLAG_STOPPED);
    rest = robot->core->actuator[0].motion[0].position;
    for (int i = 0; i < 20; i++)
        run(robot);
    CHECK(robot->core->actuator[0].motion[0].position == rest);
}

static void a_line_stops_in_the_cycle_whose_act_it_comes_before(void)
{
    struct robot robot;

    /* through every phase: wake, trigger, read, latch, inference, act, and what is left */
    for (int64_t offset = 0; offset < PERIOD_NS; offset += 20000) {
        int64_t stopped = offset <= ACT_NS ? 30 : 31;

        open_robot(&robot, &line_input, 1, 0, false);
        plan(&robot, INPHASE_FAULT_ESTOP, 0, 30, 1000, offset);
        start(&robot, 30);
        run(&robot);
        if (stopped == 31) {
            CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_RUNNING);
            CHECK_EQUAL(act_flags(&robot), INPHASE_ACT_WRITTEN);
            run(&robot);
        }
        expect_stopped(&robot, 0, stopped, 0);
        expect_latched(&robot);
        close_robot(&robot);
    }
}

static void a_request_stops_in_the_act_that_follows_it(void)
{
    struct robot robot;

    /* between two cycles; after the latch; after the policy has answered */
    for (int phase = 0; phase < 3; phase++) {
        open_robot(&robot, NULL, 0, 0, false);
        start(&robot, 30);
        if (phase == 0)
            CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        latch(&robot);
        if (phase == 1)
            CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        post(&robot);
        if (phase == 2)
            CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        cycle_run(robot.core, CYCLE_ACT);
        expect_stopped(&robot, INPHASE_ESTOP_LOCAL, 30, 0);
        expect_latched(&robot);
        close_robot(&robot);
    }
}

static void a_sample_stops_in_its_own_cycle(const struct inphase_estop_input *input, double base,
                                            int64_t argument)
{
    struct robot robot;

    open_robot(&robot, input, 1, base, false);
    start(&robot, 30);
    plan(&robot, INPHASE_FAULT_WRONG, PANEL, 30, 1, argument);
    run(&robot);
    expect_stopped(&robot, 0, 30, 0);
    expect_latched(&robot);
    close_robot(&robot);
}

static void a_sample_does_not_stop(const struct inphase_estop_input *input, double base,
                                   int64_t argument)
{
    struct robot robot;

    open_robot(&robot, input, 1, base, false);
    start(&robot, 30);
    plan(&robot, INPHASE_FAULT_WRONG, PANEL, 30, 1, argument);
    run(&robot);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    CHECK_EQUAL(act_flags(&robot), INPHASE_ACT_WRITTEN);
    close_robot(&robot);
}

static void bits_and_bounds_of_a_sample_stop(void)
{
    a_sample_stops_in_its_own_cycle(&any_bit, 1, 2);
    a_sample_stops_in_its_own_cycle(&any_bit, 1, 4);
    a_sample_stops_in_its_own_cycle(&any_bit, 1, 6);
    a_sample_does_not_stop(&any_bit, 1, 8);
    a_sample_stops_in_its_own_cycle(&no_bit, 7, -2);
    a_sample_stops_in_its_own_cycle(&no_bit, 7, -7);
    a_sample_does_not_stop(&no_bit, 7, -1);
    a_sample_stops_in_its_own_cycle(&bounded, 0, 4);
    a_sample_stops_in_its_own_cycle(&bounded, 0, -3);
    a_sample_does_not_stop(&bounded, 0, 3);
    a_sample_does_not_stop(&bounded, 0, -2);

    /* what has no bits says that something is wrong */
    a_sample_stops_in_its_own_cycle(&any_bit, 1, -5);
    a_sample_stops_in_its_own_cycle(&any_bit, 1, 1LL << 60);
}

static void a_sample_that_is_not_accepted_stops(void)
{
    static const uint32_t kinds[] = {INPHASE_FAULT_SILENT, INPHASE_FAULT_DELAYED,
                                     INPHASE_FAULT_INVALID, INPHASE_FAULT_NAN,
                                     INPHASE_FAULT_GONE};
    struct inphase_estop_input patient = any_bit;
    struct robot robot;

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int64_t argument = kinds[i] == INPHASE_FAULT_DELAYED   ? 900000
                           : kinds[i] == INPHASE_FAULT_INVALID ? INPHASE_REASON_CHECKSUM
                                                               : 0;

        open_robot(&robot, &any_bit, 1, 1, false);
        plan(&robot, kinds[i], PANEL, 30, 3, argument);
        start(&robot, 30);
        run(&robot);
        expect_stopped(&robot, 0, 30, 0);
        CHECK_EQUAL(status_of(&robot).estop, 1 << INPHASE_ESTOP_INPUTS);
        expect_latched(&robot);
        close_robot(&robot);
    }

    /* and one that may be late stops only when it is older than that */
    patient.accepts |= 1 << INPHASE_LATE;
    open_robot(&robot, &patient, 1, 1, false);
    plan(&robot, INPHASE_FAULT_SILENT, PANEL, 30, 40, 0);
    start(&robot, 35);
    while (!status_of(&robot).latched)
        run(&robot);
    CHECK(robot.core->cycle >= 39 && robot.core->cycle <= 42);
    close_robot(&robot);
}

static void before_arming_an_input_that_is_not_known_is_waited_for(void)
{
    struct robot robot;
    struct inphase_status status;

    open_robot(&robot, &any_bit, 1, 1, false);
    plan(&robot, INPHASE_FAULT_SILENT, PANEL, 0, 10, 0);
    for (int i = 0; i < 10; i++) {
        const struct inphase_frame *frame = run(&robot);

        status = status_of(&robot);
        CHECK(frame->state == INPHASE_STATE_OPENED && status.latched == 0);
        CHECK(i == 0 || status.refusal == INPHASE_REASON_ESTOP);
        CHECK(!(act_flags(&robot) & INPHASE_ACT_WRITTEN));
    }
    for (int i = 0; i < 6; i++)
        run(&robot);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    CHECK(status_of(&robot).state == INPHASE_STATE_RUNNING);
    close_robot(&robot);
}

static void before_arming_an_input_that_is_pressed_ends_the_request(void)
{
    struct robot robot;

    open_robot(&robot, &line_input, 1, 0, false);
    plan(&robot, INPHASE_FAULT_ESTOP, 0, 0, 5, 0);
    for (int i = 0; i < 30; i++)
        run(&robot);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_FAULTED);
    CHECK_EQUAL(status_of(&robot).estop, 0);
    CHECK(!robot.core->is_live);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    for (int i = 0; i < 3; i++)
        run(&robot);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_RUNNING);
    close_robot(&robot);
}

static void arming_waits_for_the_release_and_a_press_ends_it(void)
{
    struct robot robot;

    open_robot(&robot, &line_input, 1, 0, false);
    plan(&robot, INPHASE_FAULT_ESTOP, 0, 30, 200, 0); /* held down until 230 */
    plan(&robot, INPHASE_FAULT_ESTOP, 0, 260, 10, 0);
    start(&robot, 30);
    for (int i = 0; i < SETTLED; i++)
        run(&robot);

    /* asked for while it is pressed: the press goes on, and ends the request */
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    for (int i = 30 + SETTLED; i < 250; i++)
        run(&robot);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_FAULTED);
    CHECK_EQUAL(status_of(&robot).refusal, INPHASE_REASON_ESTOP);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    for (int i = 250; i < 260; i++)
        run(&robot);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_RUNNING);
    run(&robot);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_ESTOP);
    close_robot(&robot);
}

static void it_replaces_any_other_reason_and_a_stop_still_ends_the_run(void)
{
    struct robot robot;
    int cycles = 0;

    open_robot(&robot, NULL, 0, 0, false);
    start(&robot, 30);
    plan(&robot, INPHASE_FAULT_INVALID, 0, 30, 1, INPHASE_REASON_DEVICE);
    run(&robot);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_DEVICE);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_CLIENT), 0);
    run(&robot);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_ESTOP);
    CHECK_EQUAL(status_of(&robot).latched_detail, INPHASE_ESTOP_CLIENT);
    CHECK_EQUAL(status_of(&robot).reason_cycle, 31);
    inphase_core_stop(robot.core, INPHASE_REASON_SIGNAL, 2);
    while (cycle_run(robot.core, CYCLE_READ)) {
        cycle_run(robot.core, CYCLE_ACT);
        CHECK(++cycles < SETTLED);
    }
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_STOPPED);
    CHECK_EQUAL(status_of(&robot).reason, INPHASE_REASON_SIGNAL);
    close_robot(&robot);
}

static void power_goes_after_the_ramp_where_the_actuator_says_so(void)
{
    struct robot robot;
    int ramped = 0;

    open_robot(&robot, NULL, 0, 0, true);
    for (int i = 0; i < 200; i++) {
        robot.goal += 1e-6 * fmin(i, 100);
        run(&robot);
    }
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    run(&robot);
    for (; act_flags(&robot) & INPHASE_ACT_WRITTEN; ramped++)
        run(&robot);
    CHECK(ramped >= 3);
    for (int i = 0; i < 20; i++) {
        run(&robot);
        CHECK(!(act_flags(&robot) & INPHASE_ACT_WRITTEN));
    }
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_FAULTED);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    latch(&robot);
    cycle_run(robot.core, CYCLE_ACT);
    CHECK_EQUAL(act_flags(&robot) & INPHASE_ACT_WRITTEN, INPHASE_ACT_WRITTEN);
    close_robot(&robot);
}

/* an answer to a frame from before a stop or an arming, however long it is good for */
static void an_old_answer_moves_nothing_after_a_stop_or_an_arming(void)
{
    struct robot robot;
    double far = 0.5;

    open_robot(&robot, NULL, 0, 0, false);
    start(&robot, 30);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    for (int i = 0; i < SETTLED; i++)
        run(&robot);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    latch(&robot);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_ARMED);

    /* the frame before was latched before the arming... wait for nothing: it is dropped */
    CHECK_EQUAL(answer(&robot, robot.core->cycle - 1, INPHASE_REASON_NONE, &far, 1), 0);
    cycle_run(robot.core, CYCLE_ACT);
    CHECK_EQUAL(counts(&robot).dropped, 2);
    CHECK(act_flags(&robot) & INPHASE_ACT_HOLDING);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_ARMED);
    close_robot(&robot);
}

static void a_configuration_that_does_not_fit_is_refused(void)
{
    struct inphase_estop_input inputs[INPHASE_ESTOP_INPUTS + 1] = {{0}};
    struct robot robot;

    open_robot(&robot, inputs, INPHASE_ESTOP_INPUTS, 0, false);
    CHECK_EQUAL(inphase_core_estop_line(robot.core, 0, 0), -EBUSY);
    CHECK_EQUAL(inphase_core_estop(robot.core, 0), -EINVAL);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_CLIENT + 1), -EINVAL);
    CHECK_EQUAL(inphase_core_guarded(robot.core, 1, 1), -EINVAL);
    close_robot(&robot);
}

/* what is no line, or none at all, may be pressed: on the machine's clock it is looked at itself */
static void a_line_that_cannot_be_read_is_not_released(void)
{
    struct inphase_core *core = calloc(1, sizeof *core);
    struct state *state = calloc(1, sizeof *state);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);

    CHECK(core && state && file >= 0);
    core->clock = &monotonic_clock;
    core->state = state;
    core->estop_inputs = 2;
    for (uint32_t i = 0; i < 2; i++)
        core->estop[i].kind = INPHASE_INPUT_LINE;
    CHECK_EQUAL(inphase_core_estop_line(core, 0, file), 0);
    CHECK_EQUAL(inphase_core_estop_line(core, 1, -1), 0);

    /* not known is told, and no stop before the robot was armed */
    estop_look(core);
    CHECK_EQUAL(load_u32(&state->estop), 3U << INPHASE_ESTOP_INPUTS);
    CHECK_EQUAL(load_u32(&state->latched), INPHASE_REASON_NONE);
    core->is_live = true;
    estop_look(core);
    CHECK_EQUAL(load_u32(&state->latched), INPHASE_REASON_ESTOP);
    CHECK_EQUAL(load_u32(&state->latched_detail), 0);
    close(file);
    free(state);
    free(core);
}

int main(void)
{
    check_seed();
    RUN(a_line_stops_in_the_cycle_whose_act_it_comes_before);
    RUN(a_request_stops_in_the_act_that_follows_it);
    RUN(bits_and_bounds_of_a_sample_stop);
    RUN(a_sample_that_is_not_accepted_stops);
    RUN(before_arming_an_input_that_is_not_known_is_waited_for);
    RUN(before_arming_an_input_that_is_pressed_ends_the_request);
    RUN(arming_waits_for_the_release_and_a_press_ends_it);
    RUN(it_replaces_any_other_reason_and_a_stop_still_ends_the_run);
    RUN(power_goes_after_the_ramp_where_the_actuator_says_so);
    RUN(an_old_answer_moves_nothing_after_a_stop_or_an_arming);
    RUN(a_configuration_that_does_not_fit_is_refused);
    RUN(a_line_that_cannot_be_read_is_not_released);
    return 0;
}
