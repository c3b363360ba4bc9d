/* A seeded walk through the states of a robot on virtual time: losses and returns, late and wrong
   replies, drives that do not hear, stops, emergency stops, arming, stale and mad commands, in
   every command mode. After every cycle the twins, which the core cannot see into, are held against
   three rules:

     1. Nothing is written that did not pass the limiter in an armed state, but a device's stop.
     2. No frame says that the robot is at rest, faulted or stopped, while a joint moves.
     3. Every motion ends within its bound once its cause is gone.

     test_walk [CYCLES]

   The rules are checked from what reaches the twins, with a model that shares no code with the
   core. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../src/actuator.h"
#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/lockstep.h"
#include "../src/relaxed.h"
#include "../src/state.h"
#include "../src/twin.h"
#include "check.h"
#include "doubles.h"
#include "segments.h"

#define PERIOD_NS 1000000LL
#define PERIOD_S 1e-3
#define HOLD_NS (20 * PERIOD_NS)
#define LIFE 1500    /* cycles of one robot */
#define TROUBLES 60  /* planned faults of one robot */
#define LASTS 60     /* cycles of one of them, at most */
#define DEAF 600     /* cycles in which a drive goes on as it is, at most */
#define CALM 600     /* cycles without a cause, after which all is at rest */
#define AT_REST 0.05 /* rad/s: slower counts as rest, as in the frames */
#define HEARS_RAD_S 100 /* how quickly a drive does what it is told */
#define SLACK 1e-9
#define HERE 1e-3   /* rad: where a joint is, by a sample that is a little older */

enum { POSITION, VELOCITY, EFFORT, SWITCH, APART, ACTUATORS };
enum { APART_SENSOR = 4, PANEL = 5, SENSORS };

static const uint32_t modes[ACTUATORS] = {
    INPHASE_MODE_POSITION, INPHASE_MODE_VELOCITY, INPHASE_MODE_EFFORT, INPHASE_MODE_SWITCH,
    INPHASE_MODE_VELOCITY};
static const char *const names[ACTUATORS] = {"position", "velocity", "effort", "switch", "apart"};

static const struct inphase_limits limits[ACTUATORS] = {
    {.low = -2, .high = 2, .velocity = 2, .acceleration = 20, .step = 0.3},
    {.low = -INFINITY, .high = INFINITY, .velocity = 2, .acceleration = 20,
     .mode = INPHASE_MODE_VELOCITY},
    {.low = -INFINITY, .high = INFINITY, .velocity = INFINITY, .effort = 4, .rate = 80,
     .mode = INPHASE_MODE_EFFORT},
    {.mode = INPHASE_MODE_SWITCH, .dwell_s = 0.005},
    {.low = -INFINITY, .high = INFINITY, .velocity = 2, .acceleration = 20,
     .mode = INPHASE_MODE_VELOCITY},
};

/* what the walk asks for at present */
enum behaviour { FOLLOWS, JUMPS, SILENT, MAD, STALE, BEHAVIOURS };

/* what the model knows of an actuator: what its device was told last, and when */
struct told {
    double value;
    int64_t cycle;
    bool ever;
};

struct walk {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
    struct told told[ACTUATORS];
    double goal[ACTUATORS], speed[ACTUATORS];
    enum behaviour behaviour;
    int troubles;
    int64_t calm_until;
    int64_t deaf_until[ACTUATORS];
    bool asked_to_arm;           /* since motion was latched last, or at all */
    bool was_armed;              /* at least once */
    uint32_t latched;            /* the reason at the last look */
    bool stopping;
};

static uint64_t cycles_walked, robots, armed_cycles, moving_cycles, losses, rests_shown, calms;

static bool one_in(uint64_t n)
{
    return check_random() % n == 0;
}

/* ---- the robot --------------------------------------------------------------------------- */

/* sensor s of the robot: the place and the velocity of an actuator, or the panel */
static void describe_sensor(uint32_t s, struct inphase_twin_channel channel[2],
                            struct inphase_sensor_config *sensor)
{
    static const struct inphase_reply reply = {0, 0, 0, 0, 0};

    /* a switch has no motion; the panel measures nothing that moves */
    uint32_t of = s == APART_SENSOR ? APART : s;
    bool moves = s != PANEL && s != SWITCH;

    for (int c = 0; c < 2; c++)
        channel[c] = (struct inphase_twin_channel){
            .kind = !moves ? INPHASE_TWIN_CONSTANT
                           : c ? INPHASE_TWIN_VELOCITY : INPHASE_TWIN_POSITION,
            .gain = 1, .actuator = moves ? of : 0};
    *sensor = (struct inphase_sensor_config){
        .device = s < APART_SENSOR ? s : s + 1, .channels = 2, .every = 1, .payload = 16,
        .max_age_ns = 4 * PERIOD_NS, .recover = 2, .depth = 16,
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = 50000,
                     .reply_max_ns = 400000},
        .twin = {.channel = channel, .latency_ns = 200000}};
}

static void open_walk(struct walk *walk)
{
    static const uint8_t packet[8] = {0};
    static const struct inphase_estop_input line = {.kind = INPHASE_INPUT_LINE};
    struct inphase_twin_channel channel[SENSORS][2];
    struct inphase_servo servo[ACTUATORS];
    struct inphase_sensor_config sensor[SENSORS];
    struct inphase_actuator_config actuator[ACTUATORS];
    static const double start = 0;
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 600000, .act_ns = 700000,
        .resumed_after_ns = 15 * PERIOD_NS, .devices = ACTUATORS + 2, .sensors = SENSORS,
        .actuators = ACTUATORS, .frame_depth = 16, .overrun_limit = 1000, .has_policy = 1,
        .virtual_time = 1, .sensor = sensor, .actuator = actuator, .estop_inputs = 1,
        .estop = &line, .seed = check_random()};

    memset(walk, 0, sizeof *walk);
    for (uint32_t s = 0; s < SENSORS; s++)
        describe_sensor(s, channel[s], &sensor[s]);
    for (uint32_t i = 0; i < ACTUATORS; i++) {
        bool is_switch = modes[i] == INPHASE_MODE_SWITCH;

        servo[i] = (struct inphase_servo){
            .natural_rad_s = HEARS_RAD_S, .velocity_max = 6, .acceleration_max = 200,
            .mode = modes[i],
            .inertia = 0.1, .damping = 2};
        actuator[i] = (struct inphase_actuator_config){
            .device = i, .channels = 1, .feedback_sensor = is_switch ? -1 : (int32_t)i,
            .measures = is_switch ? 0 : INPHASE_MEASURES_VELOCITY, .velocity_channel = 1,
            .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_LATE | 1 << INPHASE_HELD,
            .max_hold_ns = HOLD_NS, .limits = &limits[i], .servo = &servo[i], .start = &start,
            .encoding = {.packet = packet, .packet_size = 8},
            .stop = {.kind = modes[i] == INPHASE_MODE_POSITION ? INPHASE_STOP_HOLD
                                                               : INPHASE_STOP_ZERO}};
        if (i == APART)
            actuator[i].feedback_sensor = APART_SENSOR;

        /* some approach a first command from far away */
        actuator[i].approaches = one_in(2);

        /* some joints are measured by their velocity alone */
        if (modes[i] != INPHASE_MODE_POSITION && !is_switch && one_in(2)) {
            actuator[i].feedback_kind = INPHASE_FEEDBACK_VELOCITY;
            actuator[i].feedback_channel = 1;
        }
    }
    CHECK_EQUAL(inphase_segment_make(&walk->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&walk->core, &config, walk->segment), 0);
    CHECK_EQUAL(open_reader(&walk->reader, walk->segment, 0), 0);
    robots++;
}

static void close_walk(struct walk *walk)
{
    inphase_reader_close(walk->reader);
    inphase_core_close(walk->core);
    inphase_segment_close(walk->segment);
}

/* ---- what happens to it ------------------------------------------------------------------ */

static void arm(struct walk *walk)
{
    for (uint32_t i = 0; i < ACTUATORS; i++)
        if (inphase_core_attached(walk->core, i))
            CHECK_EQUAL(inphase_core_enable(walk->core, i, 1), 0);
    CHECK_EQUAL(inphase_core_arm(walk->core), 0);
    walk->asked_to_arm = true;
}

static void plan_trouble(struct walk *walk)
{
    static const uint32_t kinds[] = {
        INPHASE_FAULT_SILENT, INPHASE_FAULT_DELAYED, INPHASE_FAULT_INVALID, INPHASE_FAULT_NAN,
        INPHASE_FAULT_WRONG, INPHASE_FAULT_FROZEN, INPHASE_FAULT_GONE, INPHASE_FAULT_GONE,
        INPHASE_FAULT_WAKE, INPHASE_FAULT_CLOCK_STEP, INPHASE_FAULT_ESTOP};
    struct inphase_fault fault = {
        .kind = kinds[check_random() % (sizeof kinds / sizeof *kinds)],
        .device = (uint32_t)(check_random() % SENSORS),
        .from_cycle = walk->core->cycle + 1,
        .count = 1 + (int64_t)(check_random() % LASTS),
    };

    switch (fault.kind) {
    case INPHASE_FAULT_DELAYED:
        fault.argument = (int64_t)(check_random() % (3 * PERIOD_NS));
        break;
    case INPHASE_FAULT_INVALID:
        fault.argument = 1 + (int64_t)(check_random() % 7);
        break;
    case INPHASE_FAULT_NAN:
        fault.argument = (int64_t)(check_random() % 2);
        break;
    case INPHASE_FAULT_WRONG:
        /* whoever lies about a joint within its range and rate is believed */
        fault.device = PANEL;
        fault.argument = 1;
        break;
    case INPHASE_FAULT_WAKE:
        fault.count = 1;
        fault.argument = (int64_t)(check_random() % (20 * PERIOD_NS));
        break;
    case INPHASE_FAULT_CLOCK_STEP:
        fault.argument = (int64_t)(check_random() % (10 * PERIOD_NS));
        break;
    case INPHASE_FAULT_ESTOP:
        fault.device = 0;
        fault.argument = (int64_t)(check_random() % PERIOD_NS);
        break;
    default:
        break;
    }
    losses += fault.kind == INPHASE_FAULT_GONE;
    CHECK_EQUAL(inphase_core_fault(walk->core, &fault), 0);
    walk->troubles++;
}

/* before a cycle: what people, supervisor and fate do */
static void live(struct walk *walk)
{
    inphase_core *core = walk->core;
    bool calm = core->cycle < walk->calm_until;

    /* the supervisor notices a loss some time after the core */
    for (uint32_t i = 0; i < ACTUATORS; i++)
        if (!inphase_core_attached(core, i) && inphase_core_lost(core, i) && one_in(8))
            CHECK_EQUAL(inphase_core_enable(core, i, 0), 0);
    for (uint32_t i = 0; i < ACTUATORS; i++)
        CHECK_EQUAL(inphase_core_guarded(core, i, !one_in(3000)), 0);
    if (calm)
        return;
    if (walk->troubles < TROUBLES && one_in(40))
        plan_trouble(walk);
    if (one_in(400))
        CHECK_EQUAL(inphase_core_estop(core, one_in(2) ? INPHASE_ESTOP_LOCAL
                                                       : INPHASE_ESTOP_CLIENT), 0);
    if (one_in(25))
        arm(walk);
    if (one_in(300))
        CHECK_EQUAL(inphase_core_disarm(core), 0);
    if (one_in(60))
        walk->behaviour = check_random() % BEHAVIOURS;
    for (uint32_t i = 0; i < ACTUATORS; i++)
        if (modes[i] == INPHASE_MODE_VELOCITY && one_in(1000))
            walk->deaf_until[i] = core->cycle + (int64_t)(check_random() % DEAF);
    if (one_in(500)) {
        walk->calm_until = core->cycle + CALM;
        memset(walk->deaf_until, 0, sizeof walk->deaf_until);
    }
}

/* a drive that hears nothing turns its joint on as it did */
static void deafen(struct walk *walk)
{
    for (uint32_t i = 0; i < ACTUATORS; i++)
        walk->core->actuator[i].plant->servo[0].natural_rad_s =
            walk->core->cycle < walk->deaf_until[i] ? 0 : HEARS_RAD_S;
}

/* the policy's answer to the frame that was latched, or none */
static void answer(struct walk *walk)
{
    inphase_core *core = walk->core;
    double values[ACTUATORS];
    int64_t cycle = core->cycle;

    if (core->cycle < walk->calm_until || walk->behaviour == SILENT)
        return;
    for (uint32_t i = 0; i < ACTUATORS; i++) {
        double range = modes[i] == INPHASE_MODE_EFFORT ? 4 : 2;

        if (one_in(50))
            walk->speed[i] = between(-1.5, 1.5);
        walk->goal[i] += walk->speed[i] * PERIOD_S;
        if (fabs(walk->goal[i]) > range)
            walk->speed[i] = -walk->speed[i];
        values[i] = walk->goal[i];
        if (modes[i] == INPHASE_MODE_SWITCH)
            values[i] = walk->goal[i] > 0;
        if (walk->behaviour == JUMPS && one_in(20))
            values[i] = walk->goal[i] = between(-2 * range, 2 * range);
        if (walk->behaviour == MAD && one_in(4)) {
            uint64_t bits = check_random();

            memcpy(&values[i], &bits, sizeof bits);
        }

        /* where it is found, so that it may begin */
        if (!core->actuator[i].engaged && walk->behaviour == FOLLOWS)
            values[i] = walk->goal[i] = modes[i] == INPHASE_MODE_POSITION
                                            ? core->actuator[i].plant->servo[0].position : 0;
    }
    if (walk->behaviour == STALE && one_in(2))
        cycle -= (int64_t)(check_random() % 40);
    if (cycle >= 0)
        lockstep_post(core, cycle, INPHASE_ABSENT, core->virtual_ns,
                      one_in(100) ? INPHASE_REASON_RAISED : INPHASE_REASON_NONE, values,
                      one_in(200) ? 1 : ACTUATORS);
}

/* ---- the rules --------------------------------------------------------------------------- */

static void fail(const struct walk *walk, uint32_t i, const char *rule, double value)
{
    const struct actuator *actuator = &walk->core->actuator[i];

    fprintf(stderr, "cycle %lld of robot %llu, %s: %s: %.17g; told %.17g in cycle %lld; "
                    "state %u, latched %u, act flags %u, reason %u; position %.6f, velocity %.6f\n",
            (long long)walk->core->cycle, (unsigned long long)robots, names[i], rule, value,
            walk->told[i].value, (long long)walk->told[i].cycle,
            load_u32(&walk->core->state->state), load_u32(&walk->core->state->latched),
            actuator->flags, actuator->reason, actuator->plant->servo[0].position,
            actuator->plant->servo[0].velocity);
    abort();
}

/* a ramp goes on while another actuator is not known to be at rest */
static bool may_move(uint32_t state, uint32_t flags)
{
    return state == INPHASE_STATE_ARMED || state == INPHASE_STATE_RUNNING ||
           state == INPHASE_STATE_RAMPING ||
           (state == INPHASE_STATE_UNCONTROLLED && (flags & INPHASE_ACT_RAMPING));
}

/* what stops the device, whatever state the robot is in: a joint is held where it was told to be,
   or where it is */
static bool is_a_stop(const struct walk *walk, uint32_t i, double value)
{
    const struct told *told = &walk->told[i];
    double position = walk->core->actuator[i].plant->servo[0].position;

    if (modes[i] == INPHASE_MODE_POSITION)
        return (told->ever && value == told->value) || fabs(value - position) <= HERE;
    return value == 0;
}

/* what the limiter lets through, after what went out last or from where the joint is */
static bool is_limited(const struct walk *walk, uint32_t i, double value)
{
    const struct told *told = &walk->told[i];
    const struct inphase_limits *l = &limits[i];
    double position = walk->core->actuator[i].plant->servo[0].position;
    double past_s = (double)(walk->core->cycle - told->cycle) * PERIOD_S;
    double moved = fabs(value - (told->ever ? told->value : 0));

    switch (modes[i]) {
    case INPHASE_MODE_POSITION:
        return (value >= l->low - SLACK && value <= l->high + SLACK) &&
               ((told->ever && moved <= l->velocity * past_s + SLACK) ||
                fabs(value - position) <= l->step + l->velocity * PERIOD_S);
    case INPHASE_MODE_VELOCITY:
        return fabs(value) <= l->velocity + SLACK && moved <= l->acceleration * past_s + SLACK;
    case INPHASE_MODE_EFFORT:
        return fabs(value) <= l->effort + SLACK && moved <= l->rate * past_s + SLACK;
    default:
        return value == 0 || value == 1;
    }
}

/* rule 1: after the act, what is on its way to the devices */
static void check_writes(struct walk *walk)
{
    uint32_t state = load_u32(&walk->core->state->state);

    for (uint32_t i = 0; i < ACTUATORS; i++) {
        const struct actuator *actuator = &walk->core->actuator[i];
        const struct plant *plant = actuator->plant;
        struct told *told = &walk->told[i];
        double value;

        CHECK(plant->count <= 1);
        if (!!(actuator->flags & INPHASE_ACT_WRITTEN) != (plant->count == 1))
            fail(walk, i, "what was written is not what the act says", plant->count);
        if (!plant->count) {
            if (plant->servo[0].goal != (told->ever ? told->value : 0))
                fail(walk, i, "written outside of an act", plant->servo[0].goal);
            continue;
        }
        value = plant->effect[plant->first].value[0];
        if (!isfinite(value))
            fail(walk, i, "not a number was written", value);
        if (!is_a_stop(walk, i, value) && !(may_move(state, actuator->flags) && walk->was_armed))
            fail(walk, i, "moved without being armed", value);
        if (!is_a_stop(walk, i, value) && !is_limited(walk, i, value))
            fail(walk, i, "beyond its limits", value);
        told->value = value;
        told->cycle = walk->core->cycle;
        told->ever = true;
    }
}

static double velocity_of(const struct walk *walk, uint32_t i)
{
    return modes[i] == INPHASE_MODE_SWITCH ? 0 : walk->core->actuator[i].plant->servo[0].velocity;
}

/* only who asks for it is armed, and asks after what latched the motion last */
static void check_arming(struct walk *walk, const struct inphase_frame *frame)
{
    uint32_t latched = load_u32(&walk->core->state->latched);

    if (latched && latched != walk->latched)
        walk->asked_to_arm = walk->core->wants_arm;
    if ((walk->latched && !latched) ||
        (!walk->was_armed && frame->state == INPHASE_STATE_ARMED)) {
        CHECK(walk->asked_to_arm);
        walk->asked_to_arm = false;
    }
    walk->was_armed |= frame->state == INPHASE_STATE_ARMED;
    walk->latched = latched;
}

/* rule 2: at the latch, what the frame says of rest */
static void check_frame(struct walk *walk, const struct inphase_frame *frame)
{
    bool says_rest = frame->state == INPHASE_STATE_FAULTED ||
                     frame->state == INPHASE_STATE_STOPPED ||
                     (frame->flags & INPHASE_FLAG_STOPPED);

    check_arming(walk, frame);
    rests_shown += says_rest;
    armed_cycles += frame->state >= INPHASE_STATE_ARMED && frame->state <= INPHASE_STATE_RUNNING;
    for (uint32_t i = 0; i < ACTUATORS; i++) {
        moving_cycles += fabs(velocity_of(walk, i)) > AT_REST;
        if (says_rest && fabs(velocity_of(walk, i)) > AT_REST)
            fail(walk, i, "moves while the frame says that the robot is at rest",
                 velocity_of(walk, i));
    }
}

/* rule 3: after the calm */
static void check_calm(struct walk *walk)
{
    if (walk->core->cycle != walk->calm_until - 1)
        return;
    calms++;
    for (uint32_t i = 0; i < ACTUATORS; i++)
        if (fabs(velocity_of(walk, i)) > AT_REST)
            fail(walk, i, "still moves, long after its cause", velocity_of(walk, i));
}

/* ---- the walk ---------------------------------------------------------------------------- */

static bool walk_on(struct walk *walk)
{
    const struct inphase_frame *frame;

    if (!walk->stopping)
        live(walk);
    deafen(walk);
    if (!cycle_run(walk->core, CYCLE_READ))
        return false;
    CHECK_EQUAL(inphase_reader_next(walk->reader, 0, 0), 0);
    frame = inphase_reader_record(walk->reader);
    check_frame(walk, frame);
    answer(walk);
    cycle_run(walk->core, CYCLE_ACT);
    check_writes(walk);
    check_calm(walk);
    if (load_u32(&walk->core->state->latched) && !walk->latched)
        walk->asked_to_arm = false;
    cycles_walked++;
    return true;
}

static void walk_one_robot(void)
{
    struct walk walk;

    open_walk(&walk);
    arm(&walk);
    cycle_begin(walk.core);
    for (int i = 0; i < LIFE && walk_on(&walk); i++)
        ;
    inphase_core_stop(walk.core, INPHASE_REASON_REQUEST, 0);
    walk.stopping = true;
    for (int i = 0; i < 2 * LIFE && walk_on(&walk); i++)
        ;
    CHECK_EQUAL(load_u32(&walk.core->state->state), INPHASE_STATE_STOPPED);
    close_walk(&walk);
}

int main(int count, char **argument)
{
    uint64_t cycles = count > 1 ? strtoull(argument[1], NULL, 0) : 100000;

    check_seed();
    while (cycles_walked < cycles)
        walk_one_robot();
    printf("%llu cycles of %llu robots: armed in %llu, a joint moved in %llu, %llu losses, "
           "%llu calms, %llu frames said that all was at rest; 0 violations\n",
           (unsigned long long)cycles_walked, (unsigned long long)robots,
           (unsigned long long)armed_cycles, (unsigned long long)moving_cycles,
           (unsigned long long)losses, (unsigned long long)calms,
           (unsigned long long)rests_shown);

    /* a walk that goes nowhere proves nothing */
    CHECK(armed_cycles > cycles_walked / 10 && moving_cycles > cycles_walked / 10);
    CHECK(losses > robots && rests_shown > cycles_walked / 100);
    return 0;
}
