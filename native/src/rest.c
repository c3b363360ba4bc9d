/* Rest is measured. An actuator that was commanded, and that the core does not command any more
   (its device was lost, or it is not enabled), is owed its stop. That stop is the first write to
   its device when it is attached again. Cycle thread only. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "actuator.h"
#include "core.h"
#include "guard.h"
#include "limiter.h"
#include "post.h"
#include "relaxed.h"
#include "rest.h"
#include "sensor.h"
#include "state.h"

#define WINDOW_NS 100000000LL /* a joint at rest was no faster than its speed of rest for so long */
#define BLIND_STOPS 3         /* without feedback: stops to write at least, and for WINDOW_NS */

/* ---- what is measured ---------------------------------------------------------------------- */

static void begin_window(struct actuator *actuator)
{
    actuator->rest = REST_MOVES;
    actuator->rest_from_ns = INPHASE_ABSENT;
}

/* does the feedback tell motion from rest? */
static bool is_seen(const struct actuator *actuator)
{
    return actuator->feedback && actuator->feedback_kind != INPHASE_FEEDBACK_OTHER;
}

/* has it moved since the window began? A velocity tells it without a window */
static bool has_moved(const struct actuator *actuator, const double *value)
{
    bool is_velocity = actuator->feedback_kind == INPHASE_FEEDBACK_VELOCITY;
    double bound = actuator->rest_speed * (is_velocity ? 1 : WINDOW_NS * 1e-9);

    /* a comparison with NaN is false */
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (!(fabs(value[c] - (is_velocity ? 0 : actuator->rest_from[c])) <= bound))
            return true;
    return false;
}

static bool measures_velocity_beside(const struct actuator *actuator)
{
    return actuator->feedback_kind == INPHASE_FEEDBACK_POSITION &&
           actuator->measures & INPHASE_MEASURES_VELOCITY;
}

/* the sums of a velocity that is measured beside the position: one sample more in the window */
static void add_velocity(struct actuator *actuator)
{
    if (!measures_velocity_beside(actuator))
        return;
    actuator->rest_samples++;
    for (uint32_t c = 0; c < actuator->channels; c++)
        actuator->rest_velocity[c] +=
            actuator->feedback->newest.value[actuator->velocity_channel + c];
}

/* A device that repeats an old sample shows a place that stands, beside a velocity that does not.
   The mean over the window counts, as a velocity at rest is noise */
static bool velocity_denies_rest(const struct actuator *actuator)
{
    if (!measures_velocity_beside(actuator))
        return false;
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (!(fabs(actuator->rest_velocity[c]) <= actuator->rest_speed * actuator->rest_samples))
            return true;
    return false;
}

/* the window begins with this sample */
static void open_window(struct actuator *actuator, const double *value, int64_t at_ns)
{
    memcpy(actuator->rest_from, value, actuator->channels * sizeof *value);
    actuator->rest_from_ns = at_ns;
    memset(actuator->rest_velocity, 0, sizeof actuator->rest_velocity);
    actuator->rest_samples = 0;
    add_velocity(actuator);
}

/* Compare samples, not cycles: a repeated sample tells nothing new. Their own times count, so that
   a backlog that comes at once is no long rest. */
static void look(struct inphase_core *core, struct actuator *actuator)
{
    const struct sensor *sensor = actuator->feedback;
    const double *value = sensor->newest.value + actuator->feedback_channel;
    int64_t at_ns = core->latched_ns - sample_age(sensor, core->latched_ns);

    if (!feedback_is_good(actuator, core->latched_ns)) {
        begin_window(actuator);
        actuator->rest = REST_UNKNOWN;
        return;
    }
    if (actuator->rest == REST_UNKNOWN)
        begin_window(actuator);

    /* While its commands are not at rest, a joint that stands says nothing: a drive that did not
       hear them may still hear the last ones. */
    if (actuator->driven && !is_at_rest(actuator)) {
        begin_window(actuator);
        return;
    }
    if (sensor->newest.sequence == actuator->rest_sequence &&
        actuator->rest_from_ns != INPHASE_ABSENT)
        return;
    actuator->rest_sequence = sensor->newest.sequence;

    /* a joint that turns round is slow for a moment: every velocity of the window has to be slow */
    if (actuator->feedback_kind == INPHASE_FEEDBACK_VELOCITY && has_moved(actuator, value)) {
        begin_window(actuator);
        return;
    }
    add_velocity(actuator);
    if (actuator->rest_from_ns != INPHASE_ABSENT && !has_moved(actuator, value)) {
        if (at_ns - actuator->rest_from_ns < WINDOW_NS)
            return;
        actuator->rest = velocity_denies_rest(actuator) ? REST_MOVES : REST_KNOWN;
    } else {
        actuator->rest = REST_MOVES;
    }
    open_window(actuator, value, at_ns);
}

/* the stop was written, and the motion has ended */
static bool is_paid(const struct inphase_core *core, const struct actuator *actuator)
{
    if (!actuator->device->attached || !actuator->told)
        return false;
    if (is_seen(actuator))
        return actuator->rest == REST_KNOWN;
    return actuator->told >= BLIND_STOPS && actuator->told * core->period_ns >= WINDOW_NS;
}

void rest_look(struct inphase_core *core)
{
    bool wanted = is_stopping(core) || load_u32(&core->state->latched);

    for (uint32_t i = 0; i < core->actuators; i++)
        wanted |= core->actuator[i].owed;

    /* in motion nobody asks, and samples from before a motion tell nothing after it */
    if (!wanted && !core->watches_rest)
        return;
    for (uint32_t i = 0; i < core->actuators; i++) {
        struct actuator *actuator = &core->actuator[i];

        if (is_seen(actuator) && !core->watches_rest)
            begin_window(actuator);
        if (is_seen(actuator))
            look(core, actuator);
        if (actuator->owed && is_paid(core, actuator))
            actuator->owed = false;
        if (!wanted)
            actuator->rest = REST_UNKNOWN;
        put_u32(&actuator->moves, rest_of(actuator) == REST_MOVES);
        put_u32(&actuator->loose, rest_of(actuator) != REST_KNOWN);
    }
    core->watches_rest = wanted;
}

enum rest rest_of(const struct actuator *actuator)
{
    if (actuator->owed && !actuator->device->attached)
        return REST_UNKNOWN;
    if (!actuator->commanded && !actuator->owed)
        return REST_KNOWN;
    if (!is_seen(actuator))
        return actuator->owed ? REST_UNKNOWN : REST_KNOWN;
    if (actuator->owed && actuator->rest == REST_KNOWN)
        return REST_MOVES;

    /* an actuator that was switched off at rest may stop measuring; while it measures, it is
       believed */
    return actuator->off && actuator->rest == REST_UNKNOWN ? REST_KNOWN : actuator->rest;
}

enum rest rest_of_all(const struct inphase_core *core)
{
    enum rest least = REST_KNOWN;

    for (uint32_t i = 0; i < core->actuators; i++) {
        enum rest rest = rest_of(&core->actuator[i]);

        least = rest < least ? rest : least;
    }
    return least;
}

int inphase_core_moves(inphase_core *core, uint32_t actuator)
{
    if (actuator >= core->actuators)
        return -EINVAL;
    return (int)load_u32(&core->actuator[actuator].moves);
}

int inphase_core_loose(inphase_core *core, uint32_t actuator)
{
    if (actuator >= core->actuators)
        return -EINVAL;
    return (int)load_u32(&core->actuator[actuator].loose);
}

/* ---- the stop that is owed ------------------------------------------------------------------- */

static uint32_t stop_kind(const struct actuator *actuator)
{
    /* a worker gets values: only the guard has its driver's stop bytes */
    if (actuator->stop.kind == INPHASE_STOP_BYTES && actuator->device->ops != &worker_ops)
        return INPHASE_STOP_BYTES;
    return actuator->mode == INPHASE_MODE_POSITION ? INPHASE_STOP_HOLD : INPHASE_STOP_ZERO;
}

/* a blind actuator stands when its commands do */
static bool stands(const struct actuator *actuator)
{
    return is_seen(actuator) ? actuator->rest == REST_KNOWN : is_at_rest(actuator);
}

static void owe(struct actuator *actuator)
{
    actuator->owed = true;
    actuator->told = 0;

    /* a driver's enable sequence after this ends at a standstill, verified by reading */
    actuator->enables_seen = load_u32(&actuator->enables);
}

void rest_lost(struct actuator *actuator)
{
    if (actuator->driven || actuator->owed)
        owe(actuator);
    actuator->placed = actuator->driven = false;
}

void rest_estop(struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators && !core->observe; i++) {
        struct actuator *actuator = &core->actuator[i];
        bool is_written = actuator->driven && !actuator->starved;

        /* a hold needs a command that was applied before */
        if (!is_written && actuator->device->attached &&
            (actuator->commanded || stop_kind(actuator) != INPHASE_STOP_HOLD))
            owe(actuator);
    }
}

/* Is holding the last command a stop? A joint further than a step from it was moved by hand, or has
   sagged without power: the hold would be a jump */
static bool may_hold(const struct actuator *actuator)
{
    if (!actuator->commanded)
        return false;
    for (uint32_t c = 0; c < actuator->channels && actuator->feedback; c++) {
        double measured = actuator->feedback->newest.value[actuator->feedback_channel + c];

        if (!(fabs(actuator->applied[c] - measured) <= actuator->limiter[c].limits.step))
            return false;
    }
    return true;
}

/* prepare its stop; false: it cannot be written now */
static bool choose_stop(struct actuator *actuator, int64_t now_ns)
{
    uint32_t kind = stop_kind(actuator);

    if (kind == INPHASE_STOP_HOLD) {
        if (actuator->feedback && !feedback_is_good(actuator, now_ns))
            return false;
        if (!may_hold(actuator)) {
            actuator->told++;
            return false;
        }
    } else if (actuator->mode != INPHASE_MODE_POSITION) {
        for (uint32_t c = 0; c < actuator->channels; c++)
            actuator->applied[c] = limiter_rest_value(&actuator->limiter[c]);
    }
    actuator->stops = kind == INPHASE_STOP_BYTES ? STOPS_BYTES : STOPS_VALUES;
    return true;
}

bool rest_prepare_stop(struct inphase_core *core, struct actuator *actuator, int64_t now_ns)
{
    uint32_t enables = atomic_load_explicit(&actuator->enables, memory_order_acquire);

    actuator->placed = false;
    if (actuator->driven && !stands(actuator))
        owe(actuator);
    actuator->driven = false;
    if (actuator->owed && actuator->device->attached && enables != actuator->enables_seen)
        actuator->owed = false;
    if (!actuator->owed) {
        guard_withdraw(core, actuator);
        return false;
    }
    if (!actuator->device->attached || core->observe ||
        (int64_t)actuator->told * core->period_ns > STOP_NS)
        return false;
    return choose_stop(actuator, now_ns);
}

void rest_note_stop(struct actuator *actuator)
{
    actuator->stops = STOPS_NOT;
    if (!(actuator->flags & INPHASE_ACT_WRITTEN))
        return;
    actuator->flags |= INPHASE_ACT_RAMPING;
    actuator->reason = INPHASE_REASON_REST;
    if (!actuator->told++ && is_seen(actuator))
        begin_window(actuator);
}
