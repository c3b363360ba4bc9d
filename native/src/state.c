/* The states of a robot and the transitions between them; middleware/STATES.md is the page. The
   findings of the cycle decide the next state; the table has the transitions that exist. Cycle
   thread only, except for the functions of inphase.h. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actuator.h"
#include "core.h"
#include "guard.h"
#include "relaxed.h"
#include "rest.h"
#include "setpoint.h"
#include "state.h"

#define TO(state) (1u << INPHASE_STATE_##state)

/* from each state, a bit per state that it may go to */
static const uint32_t transitions[INPHASE_STATES] = {
    [INPHASE_STATE_CONFIGURED] = TO(OPENED),
    [INPHASE_STATE_OPENED] = TO(ARMED) | TO(RAMPING) | TO(FAULTED) | TO(UNCONTROLLED),
    [INPHASE_STATE_ARMED] = TO(RUNNING) | TO(RAMPING),
    [INPHASE_STATE_RUNNING] = TO(ARMED) | TO(RAMPING),
    [INPHASE_STATE_RAMPING] =
        TO(ARMED) | TO(RUNNING) | TO(FAULTED) | TO(UNCONTROLLED) | TO(STOPPED),
    [INPHASE_STATE_FAULTED] = TO(ARMED) | TO(RAMPING) | TO(UNCONTROLLED),
    [INPHASE_STATE_UNCONTROLLED] = TO(RAMPING) | TO(FAULTED),
    [INPHASE_STATE_STOPPED] = 0,
};

int inphase_state_may(uint32_t from, uint32_t to)
{
    return from < INPHASE_STATES && to < INPHASE_STATES && (transitions[from] >> to & 1);
}

/* go to a state, if the transition exists */
void state_set(struct inphase_core *core, uint32_t to)
{
    uint32_t from = load_u32(&core->state->state);

    if (from == to)
        return;

    /* a mistake in this code: it stops motion */
    if (!inphase_state_may(from, to)) {
        latch_motion(core, INPHASE_REASON_STATE, from << 8 | to);
        return;
    }

    /* release: a reader of the state sees everything that led to it, the start included */
    atomic_store_explicit(&core->state->state, to, memory_order_release);
}

/* is every placed actuator commanded to rest? */
bool all_at_rest(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++)
        if (core->actuator[i].placed && !is_at_rest(&core->actuator[i]))
            return false;
    return true;
}

/* Motion is latched, and commanded to rest. A joint that is measured to move has the time of a stop
   to come to rest as well */
static uint32_t rest_state(const struct inphase_core *core, uint32_t from)
{
    int64_t since_ns = (core->cycle - core->latched_cycle) * core->period_ns;
    enum rest rest = rest_of_all(core);

    if (rest == REST_KNOWN)
        return INPHASE_STATE_FAULTED;
    if (rest == REST_MOVES && since_ns <= STOP_NS &&
        (from == INPHASE_STATE_RAMPING || from == INPHASE_STATE_OPENED))
        return INPHASE_STATE_RAMPING;
    return INPHASE_STATE_UNCONTROLLED;
}

/* the state that follows from the findings; a latch leads through the ramp, even if nothing
   moves */
static uint32_t next_state(const struct inphase_core *core, uint32_t from)
{
    bool ramps = false, follows = false;

    /* what do the actuators do? */
    for (uint32_t i = 0; i < core->actuators; i++) {
        const struct actuator *actuator = &core->actuator[i];

        ramps |= (actuator->flags & INPHASE_ACT_RAMPING) != 0;
        follows |= actuator->placed && actuator->engaged;
    }

    /* a stop comes first, then a latch, then a ramp, then a command */
    if (is_stopping(core))
        return INPHASE_STATE_RAMPING;
    if (load_u32(&core->state->latched))
        return from == INPHASE_STATE_ARMED || from == INPHASE_STATE_RUNNING || !all_at_rest(core)
                   ? INPHASE_STATE_RAMPING
                   : rest_state(core, from);
    if (ramps)
        return INPHASE_STATE_RAMPING;
    if (follows)
        return INPHASE_STATE_RUNNING;
    return core->is_live ? INPHASE_STATE_ARMED : INPHASE_STATE_OPENED;
}

/* go to the state that follows, and switch off what an emergency stop switches off */
void state_follow(struct inphase_core *core)
{
    uint32_t from = load_u32(&core->state->state);

    if (from == INPHASE_STATE_CONFIGURED || core->is_over)
        return;
    state_set(core, next_state(core, from));

    /* an emergency stop that takes power away does so after the ramp */
    if (load_u32(&core->state->state) != INPHASE_STATE_FAULTED ||
        load_u32(&core->state->latched) != INPHASE_REASON_ESTOP)
        return;
    for (uint32_t i = 0; i < core->actuators; i++)
        core->actuator[i].off |= core->actuator[i].off_on_estop;
}

/* ---- stopping ---------------------------------------------------------------------------- */

void begin_epoch(struct inphase_core *core)
{
    core->epoch_cycle = core->cycle + core->is_latched;
    setpoints_forget(core);
    put_i64(&core->state->epoch, load_i64(&core->state->epoch) + 1);
}

void latch_motion(struct inphase_core *core, uint32_t reason, uint32_t detail)
{
    struct state *state = core->state;
    uint32_t before = load_u32(&state->latched);
    bool estop = reason == INPHASE_REASON_ESTOP;

    /* the first reason stays; only an emergency stop replaces another one */
    if (before != INPHASE_REASON_NONE && (!estop || before == INPHASE_REASON_ESTOP)) {
        core->wants_arm = core->wants_arm && !estop;
        return;
    }

    /* hold motion: the reason, its cycle, and an epoch in which old commands count no more */
    core->wants_arm = false;
    if (estop)
        rest_estop(core);
    put_u32(&state->latched_detail, detail);
    put_u32(&state->latched, reason);
    core->latched_cycle = core->cycle;
    if (!is_stopping(core))
        put_i64(&state->reason_cycle, core->cycle);
    begin_epoch(core);
}

/* starved devices are read again: a device has to be seen before it moves, or counts as at rest */
static void feed_again(struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++) {
        core->actuator[i].starved = false;
        core->actuator[i].rests_since_ns = INPHASE_ABSENT;
    }
    put_u32(&core->state->starved, 0);
    for (uint32_t i = 0; i < core->devices; i++)
        core->device[i].starved = false;
}

void state_stop(struct inphase_core *core, uint32_t reason, uint32_t detail)
{
    /* the ramp begins in this cycle; nothing is armed any more */
    core->stop_cycle = core->cycle;
    core->wants_arm = false;
    feed_again(core);

    /* the reason that every later frame names */
    put_u32(&core->state->reason, reason);
    put_u32(&core->state->detail, detail);
    put_i64(&core->state->reason_cycle, core->cycle);
    begin_epoch(core);
    state_follow(core);
}

void state_end(struct inphase_core *core)
{
    bool stopped = core->told_stop || core->world.failure;

    if (core->is_over)
        return;

    /* whoever waits is told last: the state is final then */
    core->is_over = true;
    state_set(core, stopped ? INPHASE_STATE_STOPPED : INPHASE_STATE_UNCONTROLLED);
    atomic_store_explicit(&core->state->over, 1, memory_order_release);
}

/* ---- arming ------------------------------------------------------------------------------ */

void state_take_requests(struct inphase_core *core)
{
    uint32_t requests = atomic_load_explicit(&core->arm_requests, memory_order_acquire);
    bool withdrawn = load_u32(&core->arm_withdrawn) == requests;

    /* no new request: the one that waits may be withdrawn */
    if (requests == core->arm_seen) {
        core->wants_arm = core->wants_arm && !withdrawn;
        return;
    }
    core->arm_seen = requests;

    /* a new one is refused where nothing may be armed, and after a newer emergency stop */
    if (core->observe || !core->actuators || is_stopping(core) || withdrawn ||
        load_u32(&core->arm_estops) != load_u32(&core->state->estops) ||
        (core->is_live && !load_u32(&core->state->latched)))
        return;
    core->wants_arm = true;
    feed_again(core);
}

static bool is_guarded(const struct inphase_core *core, const struct actuator *actuator)
{
    return actuator->guards_itself ||
           (atomic_load_explicit(&actuator->guarded, memory_order_acquire) &&
            guard_lives(core, core->latched_ns));
}

/* the reason why an actuator cannot be armed; NONE: it can */
static uint32_t actuator_obstacle(const struct inphase_core *core, const struct actuator *actuator)
{
    if (!actuator->device->attached ||
        !atomic_load_explicit(&actuator->enabled, memory_order_acquire))
        return INPHASE_REASON_OFFLINE;
    if (!is_guarded(core, actuator))
        return INPHASE_REASON_UNGUARDED;
    if (actuator->feedback && !feedback_is_good(actuator, core->latched_ns))
        return INPHASE_REASON_FEEDBACK;
    if (!place_is_known(actuator))
        return INPHASE_REASON_FEEDBACK;
    return INPHASE_REASON_NONE;
}

void state_watch_guards(struct inphase_core *core)
{
    /* a guard may be lost and replaced between two cycles: losses are counted */
    for (uint32_t i = 0; i < core->actuators; i++) {
        struct actuator *actuator = &core->actuator[i];
        uint32_t losses = load_u32(&actuator->guard_losses);
        bool was_lost = losses != actuator->guard_losses_seen && !actuator->guards_itself;

        actuator->guard_losses_seen = losses;
        if (core->is_live && (was_lost || !is_guarded(core, actuator)))
            latch_motion(core, INPHASE_REASON_UNGUARDED, i);
    }
}

void state_watch_supervisor(struct inphase_core *core)
{
    uint64_t asked = atomic_load_explicit(&core->latch_request, memory_order_relaxed);
    uint32_t beats = load_u32(&core->beats);
    int64_t bound_ns = INPHASE_SUPERVISOR_NS;

    /* the supervisor asks for a latch */
    if (asked) {
        atomic_store_explicit(&core->latch_request, 0, memory_order_relaxed);
        latch_motion(core, (uint32_t)(asked >> 32), (uint32_t)asked);
        core->wants_arm = false; /* the request to arm is older than the latch */
    }

    /* the supervisor is silent: cycles are counted, not the time, because after a suspension it has
       to run first, too */
    core->silent_ns += core->period_ns;
    if (!beats || beats != core->beats_seen)
        core->silent_ns = 0;
    core->beats_seen = beats;

    /* the bound: two periods at least, and no less than a pause of the machine */
    bound_ns = bound_ns < 2 * core->period_ns ? 2 * core->period_ns : bound_ns;
    bound_ns = bound_ns < core->resumed_after_ns ? core->resumed_after_ns : bound_ns;
    if (core->is_live && !is_stopping(core) && core->silent_ns > bound_ns)
        latch_motion(core, INPHASE_REASON_SUPERVISOR, 0);
}

static bool is_loose(const struct inphase_core *core)
{
    return load_u32(&core->state->state) == INPHASE_STATE_UNCONTROLLED;
}

/* the reason why the robot cannot be armed, and its detail; NONE: it can */
static uint32_t obstacle(const struct inphase_core *core, uint32_t *detail)
{
    uint32_t estop = load_u32(&core->state->estop);
    uint32_t reason;

    *detail = 0;

    /* a ramp, or a pressed emergency stop */
    if (load_u32(&core->state->state) == INPHASE_STATE_RAMPING)
        return INPHASE_REASON_MOVING;
    if (core->estop_inputs && (!core->estop_seen || estop)) {
        *detail = core->estop_seen ? (uint32_t)__builtin_ctz(estop) % INPHASE_ESTOP_INPUTS : 0;
        return INPHASE_REASON_ESTOP;
    }

    /* every actuator has to be there, enabled, guarded and measured */
    for (uint32_t i = 0; i < core->actuators; i++) {
        reason = actuator_obstacle(core, &core->actuator[i]);
        if (reason) {
            *detail = i;
            return reason;
        }
    }

    /* an uncontrolled robot has to be known to be at rest */
    for (uint32_t i = 0; i < core->actuators && is_loose(core); i++)
        if (rest_of(&core->actuator[i]) != REST_KNOWN) {
            *detail = i;
            return INPHASE_REASON_REST;
        }
    return INPHASE_REASON_NONE;
}

void state_grant(struct inphase_core *core)
{
    struct state *state = core->state;
    uint32_t reason, detail;

    if (!core->wants_arm)
        return;

    /* what does the request still wait for? */
    reason = obstacle(core, &detail);
    put_u32(&state->refusal_detail, detail);
    put_u32(&state->refusal, reason);
    if (reason)
        return;

    /* every actuator starts from its place; a device in another mode than position starts from its
       last command */
    core->wants_arm = false;
    core->is_live = true;
    for (uint32_t i = 0; i < core->actuators; i++) {
        struct actuator *actuator = &core->actuator[i];

        actuator->placed = actuator->placed && actuator->mode != INPHASE_MODE_POSITION;
        actuator->engaged = actuator->off = false;
    }

    /* nothing holds motion any more; commands count from the next frame on */
    put_u32(&state->latched_detail, 0);
    put_u32(&state->latched, INPHASE_REASON_NONE);
    put_i64(&state->reason_cycle, -1);
    begin_epoch(core);
    state_set(core, INPHASE_STATE_ARMED);
}

int inphase_core_arm_after(inphase_core *core, uint32_t estops)
{
    put_u32(&core->arm_estops, estops);
    atomic_fetch_add_explicit(&core->arm_requests, 1, memory_order_release);
    return 0;
}

int inphase_core_arm(inphase_core *core)
{
    return inphase_core_arm_after(core, load_u32(&core->state->estops));
}

int inphase_core_disarm(inphase_core *core)
{
    put_u32(&core->arm_withdrawn, atomic_load_explicit(&core->arm_requests, memory_order_relaxed));
    return 0;
}

int inphase_core_latch(inphase_core *core, uint32_t reason, uint32_t detail)
{
    uint64_t none = 0;

    if (reason == INPHASE_REASON_NONE || reason >= INPHASE_REASONS)
        return -EINVAL;

    /* one word, as for a stop: an earlier request that was not taken yet comes first, and stays */
    atomic_compare_exchange_strong_explicit(&core->latch_request, &none,
                                            (uint64_t)reason << 32 | detail,
                                            memory_order_relaxed, memory_order_relaxed);
    return 0;
}

void inphase_core_stop(inphase_core *core, uint32_t reason, uint32_t detail)
{
    uint64_t none = INPHASE_REASON_NONE;

    /* one word, so that reason and detail belong together, and the first stop stays; it orders
       nothing else */
    atomic_compare_exchange_strong_explicit(&core->stop, &none, (uint64_t)reason << 32 | detail,
                                            memory_order_relaxed, memory_order_relaxed);
}

void inphase_core_beat(inphase_core *core)
{
    atomic_fetch_add_explicit(&core->beats, 1, memory_order_relaxed);
}

int inphase_core_enable(inphase_core *core, uint32_t actuator, int enabled)
{
    int before;

    if (actuator >= core->actuators)
        return -EINVAL;
    before = atomic_exchange_explicit(&core->actuator[actuator].enabled, enabled,
                                      memory_order_acq_rel);
    if (enabled && before != INPHASE_ENABLED_STANDS)
        atomic_fetch_add_explicit(&core->actuator[actuator].enables, 1, memory_order_release);
    return 0;
}

int inphase_core_holds(inphase_core *core, uint32_t actuator, const double *goal, uint32_t count)
{
    if (actuator >= core->actuators || (count && count != core->actuator[actuator].channels))
        return -EINVAL;

    /* published by the release of `enabled` */
    for (uint32_t c = 0; c < core->actuator[actuator].channels; c++)
        atomic_store_explicit(&core->actuator[actuator].holds[c], count ? goal[c] : NAN,
                              memory_order_relaxed);
    return 0;
}

int inphase_core_guarded(inphase_core *core, uint32_t actuator, int guarded)
{
    if (actuator >= core->actuators)
        return -EINVAL;
    if (atomic_exchange_explicit(&core->actuator[actuator].guarded, guarded,
                                 memory_order_acq_rel) && !guarded)
        atomic_fetch_add_explicit(&core->actuator[actuator].guard_losses, 1, memory_order_release);
    return 0;
}
