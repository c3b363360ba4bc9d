/* limiter run MODE COMMANDS SEED: a core in lock step, an actuator of 64 channels (32 in effort
   mode, whose velocities are measured too), and a policy that asks for anything; every act of every
   cycle is held against the limits. Prints what it counted. limiter cost CASE CALLS: that many
   calls of the limiter; callgrind counts them. Linked with the core's own files. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../native/src/core.h"
#include "../native/src/cycle.h"
#include "../native/src/limiter.h"
#include "../native/src/lockstep.h"

#define CHANNELS 64
#define PERIOD_NS 1000000LL
#define PERIOD_S 1e-3
#define SLACK 1e-7 /* of a bound, as inphase.h says */

static uint64_t state;

/* splitmix64 */
static uint64_t draw(void)
{
    uint64_t x = state += 0x9e3779b97f4a7c15ULL;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static double between(double low, double high)
{
    return low + (high - low) * ((double)(draw() >> 11) * 0x1p-53);
}

static double about(double low, double high)
{
    return exp(between(log(low), log(high)));
}

/* ---- the robot ----------------------------------------------------------------------------- */

static uint32_t mode_of_all, channels;
static struct inphase_limits limits[CHANNELS];
static struct inphase_servo servos[CHANNELS];
static struct inphase_twin_channel twins[CHANNELS];

/* every second channel with a jerk; every fourth with a step that its joint lags behind by, or
   without a range */
static void make_limits(void)
{
    for (uint32_t c = 0; c < channels; c++) {
        struct inphase_limits *l = &limits[c];

        *l = (struct inphase_limits){
            .low = -about(0.1, 3), .high = about(0.1, 3), .velocity = about(0.2, 10),
            .acceleration = about(2, 200), .step = c % 4 == 3 ? 0.05 : 100,
            .effort = mode_of_all == INPHASE_MODE_EFFORT ? about(0.1, 10) : 0,
            .rate = about(1, 1000), .dwell_s = c % 2 ? 0.01 : 0, .mode = mode_of_all,
        };
        if (c % 2)
            l->jerk = l->acceleration * about(5, 500);
        if (mode_of_all == INPHASE_MODE_EFFORT)
            l->safe = between(-0.5, 0.5) * l->effort;
        if (mode_of_all != INPHASE_MODE_POSITION && c % 4 == 3) {
            l->low = -INFINITY;
            l->high = INFINITY;
        }
        servos[c] = (struct inphase_servo){.natural_rad_s = about(10, 200), .velocity_max = 20,
                                           .acceleration_max = 1000, .mode = mode_of_all,
                                           .inertia = about(0.01, 1), .damping = 0.1};
        twins[c] = (struct inphase_twin_channel){INPHASE_TWIN_POSITION, 0, c, 0, 1, 0, NULL};
        if (mode_of_all == INPHASE_MODE_EFFORT)
            twins[channels + c] =
                (struct inphase_twin_channel){INPHASE_TWIN_VELOCITY, 0, c, 0, 1, 0, NULL};
    }
}

static int open_core(inphase_core **core, inphase_segment **segment, inphase_reader **reader)
{
    static const struct inphase_reply reply = {.size = 4};
    static const uint8_t packet[4];
    bool is_effort = mode_of_all == INPHASE_MODE_EFFORT;
    uint32_t measured = is_effort ? 2 * channels : channels;
    struct inphase_sensor_config sensor = {
        .channels = measured, .max_age_ns = 5 * PERIOD_NS, .recover = 3, .depth = 64, .every = 1,
        .payload = 8 * measured,
        .exchange = {.replies = 1, .reply = &reply, .sequence_type = INPHASE_U32,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = 50000,
                     .reply_max_ns = 400000},
        .twin = {.channel = twins, .latency_ns = 200000},
    };
    struct inphase_actuator_config actuator = {
        .channels = channels, .measures = is_effort ? INPHASE_MEASURES_VELOCITY : 0,
        .velocity_channel = is_effort ? channels : 0, .limits = limits,
        .servo = servos, .max_hold_ns = 3 * PERIOD_NS,
        .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_HELD | 1 << INPHASE_LATE,
        .encoding = {.packet = packet, .packet_size = 4},
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 500000, .act_ns = 700000,
        .resumed_after_ns = 100 * PERIOD_NS, .seed = state, .devices = 1, .sensors = 1,
        .actuators = 1, .frame_depth = 64, .overrun_limit = 1000000, .has_policy = 1,
        .virtual_time = 1, .sensor = &sensor, .actuator = &actuator,
    };
    int rc, fd;

    rc = inphase_segment_make(segment, inphase_core_size(&config), 0);
    fd = rc == 0 ? inphase_segment_fd(*segment) : -1;
    if (rc == 0)
        rc = inphase_core_open(core, &config, *segment);
    if (rc == 0)
        rc = inphase_reader_open(reader, &fd, 1, 0);
    if (rc == 0)
        rc = inphase_core_enable(*core, 0, 1);
    if (rc == 0)
        rc = inphase_core_arm(*core);
    return rc;
}

/* ---- the policy ---------------------------------------------------------------------------- */

static double goals[CHANNELS], phases[CHANNELS], rates[CHANNELS];

/* bits that mean nothing, the edges of doubles, and what a policy may ask for in earnest */
static double ask(int mode, const struct inphase_limits *l, int c, double applied)
{
    double high = l->high, low = l->low, rate = l->velocity;
    static const double odd[] = {0, -0.0, 0x1p-1074, -0x1p-1074, 0x1p-1022,
                                 0x1.fffffffffffffp1023, -0x1.fffffffffffffp1023, 1e300, -1e300};
    uint64_t bits = draw();
    double value;

    if (mode_of_all == INPHASE_MODE_VELOCITY) {
        high = l->velocity;
        rate = l->acceleration;
    } else if (mode_of_all == INPHASE_MODE_EFFORT) {
        high = l->effort;
        rate = l->rate;
    } else if (mode_of_all == INPHASE_MODE_SWITCH) {
        high = 1;
    }
    if (mode_of_all != INPHASE_MODE_POSITION)
        low = mode_of_all == INPHASE_MODE_SWITCH ? 0 : -high;
    switch (mode) {
    case 0:
        memcpy(&value, &bits, sizeof value);
        return isfinite(value) ? value : (double)bits;
    case 1:
        return odd[bits % (sizeof odd / sizeof *odd)];
    case 2:
        return goals[c] = bits % 64 ? goals[c] : between(low, high);
    case 3:
        return goals[c] = 0.8 * high * sin(phases[c] += rates[c] * PERIOD_S);
    case 4:
        return bits % 2 ? low : high;
    case 5:
        return applied + between(-2, 2) * rate * PERIOD_S;
    default:
        return goals[c] += between(-1, 1.2) * rate * PERIOD_S;
    }
}

/* ---- what must hold ------------------------------------------------------------------------ */

static struct {
    long long commands, limited, not_finite, range, velocity, acceleration, jerk, step, rough;
    long long rate, beyond, dwell;
} count;
static double position[CHANNELS], velocity[CHANNELS], acceleration[CHANNELS], joint[CHANNELS];
static double further; /* most that a joint was out of a range that its velocity is to keep, rad */
static long long changed[CHANNELS];

/* `position` holds what was applied, in all modes */
static void hold_velocities(const double *applied)
{
    for (uint32_t c = 0; c < channels; c++) {
        const struct inphase_limits *l = &limits[c];
        double a = applied[c] - position[c], j = a - velocity[c];
        double rounding = 8 * 0x1p-52 * l->velocity;

        count.not_finite += !isfinite(applied[c]);
        count.range += !(fabs(applied[c]) <= l->velocity);
        count.acceleration += !(fabs(a) <= l->acceleration * PERIOD_S * (1 + SLACK) + rounding);
        count.jerk += l->jerk > 0 &&
                      !(fabs(j) <= l->jerk * PERIOD_S * PERIOD_S * (1 + SLACK) + 2 * rounding);
        further = fmax(further, fmax(joint[c] - l->high, l->low - joint[c]));
        position[c] = applied[c];
        velocity[c] = a;
    }
}

static void hold_efforts(const double *applied)
{
    for (uint32_t c = 0; c < channels; c++) {
        const struct inphase_limits *l = &limits[c];
        double change = applied[c] - position[c], step = l->rate * PERIOD_S;
        double v = joint[channels + c], rounding = 8 * 0x1p-52 * l->effort;

        count.not_finite += !isfinite(applied[c]);
        count.range += !(fabs(applied[c]) <= l->effort);
        count.rate += !(fabs(change) <= step + rounding);
        if (v > l->velocity || joint[c] > l->high)
            count.beyond += !(applied[c] <= l->safe || change <= -step + rounding);
        if (v < -l->velocity || joint[c] < l->low)
            count.beyond += !(applied[c] >= l->safe || change >= step - rounding);
        position[c] = applied[c];
    }
}

static void hold_switches(const double *applied, long long cycle)
{
    for (uint32_t c = 0; c < channels; c++) {
        count.range += !(applied[c] == 0 || applied[c] == 1);
        if (applied[c] == position[c])
            continue;
        count.dwell +=
            changed[c] && (double)(cycle - changed[c]) * PERIOD_S < limits[c].dwell_s - 1e-9;
        changed[c] = cycle;
        position[c] = applied[c];
    }
}

static void hold_positions(const double *applied)
{
    for (int c = 0; c < CHANNELS; c++) {
        const struct inphase_limits *l = &limits[c];
        double v = applied[c] - position[c], a = v - velocity[c], j = a - acceleration[c];
        double rounding = 8 * 0x1p-52 * (l->high - l->low);
        bool is_rough = fabs(a) > l->acceleration * PERIOD_S * PERIOD_S * (1 + SLACK) + rounding;
        bool jerks = l->jerk > 0 &&
                     fabs(j) > l->jerk * PERIOD_S * PERIOD_S * PERIOD_S * (1 + SLACK) +
                                   2 * rounding;

        count.not_finite += !isfinite(applied[c]);
        count.range += !(applied[c] >= l->low && applied[c] <= l->high);
        count.velocity += !(fabs(v) <= l->velocity * PERIOD_S + rounding);

        /* near a joint the step wins over both */
        if (l->step < 1) {
            count.rough += is_rough || jerks;
            count.step += !(fabs(applied[c] - joint[c]) <=
                            fmax(l->step, fabs(position[c] - joint[c])) + rounding);
        } else {
            count.acceleration += is_rough;
            count.jerk += jerks;
        }
        position[c] = applied[c];
        velocity[c] = v;
        acceleration[c] = a;
    }
}

static void hold_against_limits(const double *applied, long long cycle)
{
    switch (mode_of_all) {
    case INPHASE_MODE_POSITION:
        hold_positions(applied);
        return;
    case INPHASE_MODE_VELOCITY:
        hold_velocities(applied);
        return;
    case INPHASE_MODE_EFFORT:
        hold_efforts(applied);
        return;
    default:
        hold_switches(applied, cycle);
    }
}

static int run(const char *name, long long commands, uint64_t seed)
{
    static const char *const modes[] = {"position", "velocity", "effort", "switch"};
    inphase_core *core;
    inphase_segment *segment;
    inphase_reader *reader;
    double values[CHANNELS];
    int mode = 6, rc;

    while (mode_of_all < 4 && strcmp(name, modes[mode_of_all]))
        mode_of_all++;
    if (mode_of_all == 4)
        return 2;
    channels = mode_of_all == INPHASE_MODE_EFFORT ? CHANNELS / 2 : CHANNELS;
    state = seed;
    make_limits();
    for (uint32_t c = 0; c < channels; c++)
        position[c] = limits[c].safe;
    rc = open_core(&core, &segment, &reader);
    if (rc < 0)
        return -rc;
    for (long long n = 0; count.commands < commands; n++) {
        const struct inphase_frame *frame;
        const struct inphase_act *act;
        const double *requested;

        if (!cycle_run(core, CYCLE_READ) || inphase_reader_next(reader, 0, 0) != 0)
            return 1;
        frame = inphase_reader_record(reader);
        act = (const struct inphase_act *)((const struct inphase_row *)(frame + 1) + 1);
        requested = (const double *)(act + 1);

        /* the frame tells of the act before it */
        if (act->flags & INPHASE_ACT_WRITTEN && n > 2)
            hold_against_limits(requested + channels, n);
        count.limited += (act->flags & INPHASE_ACT_LIMITED) != 0;
        memcpy(joint, core->sensor[0].newest.value, sizeof joint);
        if (draw() % 200 == 0) {
            mode = (int)(draw() % 8);
            for (uint32_t c = 0; c < channels; c++)
                rates[c] = about(0.3, 30);
        }
        for (uint32_t c = 0; c < channels; c++)
            values[c] = n < 3 ? limits[c].safe : ask(mode, &limits[c], (int)c, position[c]);
        if (n > 3 && draw() % 256 == 0)
            values[draw() % channels] = draw() % 2 ? NAN : -INFINITY;
        if (mode != 7 || n < 3) {
            lockstep_post(core, core->cycle, INPHASE_ABSENT, core->virtual_ns,
                          INPHASE_REASON_NONE, values, channels);
            count.commands += channels;
        }
        cycle_run(core, CYCLE_ACT);
    }
    printf("{\"commands\": %lld, \"cycles_limited\": %lld, \"not_finite\": %lld, \"range\": %lld, "
           "\"velocity\": %lld, \"acceleration\": %lld, \"jerk\": %lld, \"step\": %lld, "
           "\"rough_for_the_step\": %lld, \"rate\": %lld, \"beyond\": %lld, \"dwell\": %lld, "
           "\"joint_out\": %.3g}\n",
           count.commands, count.limited, count.not_finite, count.range, count.velocity,
           count.acceleration, count.jerk, count.step, count.rough, count.rate, count.beyond,
           count.dwell, further);
    inphase_reader_close(reader);
    inphase_core_close(core);
    inphase_segment_close(segment);
    return 0;
}

/* ---- the cost ------------------------------------------------------------------------------ */

static int cost(const char *which, int calls)
{
    struct inphase_limits l = {.low = -2, .high = 2, .velocity = 2, .acceleration = 20, .step = 0.5,
                               .jerk = strstr(which, "jerk") ? 400 : 0, .effort = 2, .rate = 100};
    struct inphase_measured measured = {0, NAN, NAN};
    struct inphase_limiter limiter;
    struct inphase_motion motion = {0};
    bool follows = strstr(which, "followed") != NULL;
    double phase = 0, requested;

    l.mode = strstr(which, "velocity") ? INPHASE_MODE_VELOCITY
             : strstr(which, "effort") ? INPHASE_MODE_EFFORT
                                       : INPHASE_MODE_POSITION;
    if (l.mode == INPHASE_MODE_POSITION)
        l.effort = 0;
    inphase_limiter_make(&limiter, &l, PERIOD_S);
    for (int i = 0; i < calls; i++) {
        double swell = fmin(1, i / 2000.0);

        /* a wave that is followed; steps that are approached, 200 cycles each */
        requested = follows ? 0.4 * swell * swell * (3 - 2 * swell) * sin(phase += 2 * PERIOD_S)
                            : (i / 200 % 2 ? 0.2 : -0.2);
        measured.position = motion.position;
        measured.velocity = 0;
        inphase_limit(&limiter, &motion, requested, &measured);
        if (follows && limiter_applied(&limiter, &motion) != requested)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "run") == 0)
        return run(argv[2], atoll(argv[3]), strtoull(argv[4], NULL, 0));
    if (argc == 4 && strcmp(argv[1], "cost") == 0)
        return cost(argv[2], atoi(argv[3]));
    return 2;
}
