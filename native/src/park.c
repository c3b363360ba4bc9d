/* Parking. Each way from point to point is a line in the space of the joints. All joints begin and
   end it together, along a quintic whose velocity and acceleration are zero at both ends. The
   limiter sees each goal like any command, and a joint that it holds back ends the park. Then, and
   after whatever else ends it, the actuator ramps and holds. Cycle thread only, except for the
   functions of inphase.h. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actuator.h"
#include "core.h"
#include "device.h"
#include "park.h"
#include "relaxed.h"
#include "state.h"

#define SHARE 0.9        /* of the limits, so that rounding never meets them */
#define LEEWAY 4         /* a joint may stay behind by this part of `step` */
#define SLOWER 1.05
#define SLOWER_TRIES 400 /* 1.05^400 is 3e8: no way within any limits takes longer */

void park_make(struct park *park, const struct inphase_park *config, uint32_t channels,
               double period_s)
{
    atomic_init(&park->phase, config ? INPHASE_PARK_WAITS : INPHASE_PARK_NONE);
    if (!config)
        return;
    park->points = config->points;
    park->longest_ns = config->longest_ns;
    for (uint32_t c = 0; c < channels; c++) {
        park->velocity[c] = config->velocity[c] * period_s;
        for (uint32_t i = 0; i < config->points; i++)
            park->point[i][c] = config->point[i * channels + c];
    }
}

static uint32_t phase_of(const struct park *park)
{
    return atomic_load_explicit(&park->phase, memory_order_relaxed);
}

static void set_phase(struct park *park, uint32_t phase)
{
    atomic_store_explicit(&park->phase, phase, memory_order_relaxed);
}

static bool is_under_way(const struct park *park)
{
    return phase_of(park) == INPHASE_PARK_WAITS || phase_of(park) == INPHASE_PARK_MOVES;
}

/* a person, or a program that did its job, has ended the run: nothing is wrong with the robot */
static bool may_park(uint32_t reason)
{
    return reason == INPHASE_REASON_SIGNAL || reason == INPHASE_REASON_DONE ||
           reason == INPHASE_REASON_REQUEST || reason == INPHASE_REASON_PARENT;
}

/* why it goes no further along its path; WAITS: it does */
static uint32_t obstacle(const struct inphase_core *core, const struct park *park, bool is_lost)
{
    if (load_u32(&core->state->latched))
        return INPHASE_PARK_LATCHED;
    if (!may_park(load_u32(&core->state->reason)))
        return INPHASE_PARK_REFUSED;
    if (load_u32(&core->hurried))
        return INPHASE_PARK_HURRIED;
    if ((core->cycle - core->stop_cycle) * core->period_ns > park->longest_ns)
        return is_lost ? INPHASE_PARK_FEEDBACK : INPHASE_PARK_TIME;
    return INPHASE_PARK_WAITS;
}

/* The cycles of a way on which every joint keeps its velocity, acceleration and jerk. The quintic
   has its largest velocity, 15/8 of the mean, in the middle, an acceleration of 10 / sqrt(3) and a
   jerk of 60 */
static int64_t way_cycles(const struct actuator *actuator, const double *from, const double *to)
{
    double cycles = 1;

    for (uint32_t c = 0; c < actuator->channels; c++) {
        const struct inphase_limiter *limiter = &actuator->limiter[c];
        double far = fabs(to[c] - from[c]) / SHARE;

        cycles = fmax(cycles, 1.875 * far / actuator->park.velocity[c]);
        cycles = fmax(cycles, sqrt(5.7736 * far / limiter->acceleration));
        for (int i = 0; i < SLOWER_TRIES && limiter->jerk * cycles * cycles * cycles < 60 * far;
             i++)
            cycles *= SLOWER;
    }
    return (int64_t)ceil(cycles);
}

/* the goal after so many cycles of the way; at its end the point itself */
static void find_goal(const struct actuator *actuator, struct park *park)
{
    const double *to = park->point[park->next];
    double s = (double)(park->cycle + 1) / (double)park->cycles;
    double share = s * s * s * (10 - s * (15 - 6 * s));

    for (uint32_t c = 0; c < actuator->channels; c++)
        park->goal[c] = park->cycle + 1 >= park->cycles
                            ? to[c]
                            : park->from[c] + share * (to[c] - park->from[c]);
}

/* Is every joint's command so near to the goal of this cycle? */
static bool is_near(const struct actuator *actuator,
                    double (*bound)(const struct inphase_limiter *))
{
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (!(fabs(actuator->motion[c].position - actuator->park.goal[c]) <=
              bound(&actuator->limiter[c])))
            return false;
    return true;
}

/* At the end of a way: less than one cycle's jerk beside it is rounding */
static double rounding(const struct inphase_limiter *limiter)
{
    return limiter->jerk;
}

/* On the way: more than that is an obstacle */
static double leeway(const struct inphase_limiter *limiter)
{
    return limiter->limits.step / LEEWAY;
}

/* the end of a way: its point was written, and the commands rest there */
static void take_next_point(const struct actuator *actuator, struct park *park)
{
    if (!park->cycles || park->cycle < park->cycles || !is_at_rest(actuator) ||
        !is_near(actuator, rounding))
        return;
    park->cycles = 0;
    park->next++;
    if (park->next == park->points)
        set_phase(park, INPHASE_PARK_DONE);
}

const double *park_next(struct inphase_core *core, struct actuator *actuator, bool is_lost)
{
    struct park *park = &actuator->park;
    uint32_t why;

    if (!is_under_way(park))
        return NULL;
    take_next_point(actuator, park);
    why = obstacle(core, park, is_lost);
    if (why != INPHASE_PARK_WAITS && is_under_way(park))
        set_phase(park, why);
    if (!is_under_way(park))
        return NULL;

    /* cycles without a write slowed it down, and without feedback it ramps: a new way begins where
       it comes to rest */
    if (is_lost || core->cycle - actuator->moved_cycle > 1)
        park->cycles = 0;
    if (!park->cycles) {
        if (is_lost || !is_at_rest(actuator))
            return NULL;
        for (uint32_t c = 0; c < actuator->channels; c++)
            park->from[c] = actuator->motion[c].goal = actuator->motion[c].position;
        park->cycles = way_cycles(actuator, park->from, park->point[park->next]);
        park->cycle = 0;
        set_phase(park, INPHASE_PARK_MOVES);
    }
    find_goal(actuator, park);
    return park->goal;
}

void park_note(struct actuator *actuator)
{
    struct park *park = &actuator->park;

    if (phase_of(park) != INPHASE_PARK_MOVES || !park->cycles)
        return;
    if (!(actuator->flags & INPHASE_ACT_WRITTEN))
        park->cycles = 0;
    else if (!is_near(actuator, leeway))
        set_phase(park, INPHASE_PARK_LIMITED);
    else
        park->cycle++;
}

bool park_goes_on(struct inphase_core *core)
{
    bool goes = false;

    for (uint32_t i = 0; i < core->actuators; i++) {
        struct actuator *actuator = &core->actuator[i];

        if (!is_under_way(&actuator->park))
            continue;

        /* not commanded: nothing brings it there */
        if (!core->is_live || !actuator->placed || actuator->off || actuator->owed ||
            !actuator->device->attached)
            set_phase(&actuator->park, INPHASE_PARK_REFUSED);
        goes |= is_under_way(&actuator->park);
    }
    return goes;
}

void inphase_core_hurry(inphase_core *core)
{
    put_u32(&core->hurried, 1);
}

int inphase_core_parked(inphase_core *core, uint32_t actuator)
{
    if (actuator >= core->actuators)
        return -EINVAL;
    return (int)phase_of(&core->actuator[actuator].park);
}
