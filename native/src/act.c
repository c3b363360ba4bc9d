/* Act: the policy's command, or its substitute, goes through the limiter to the devices. All
   commands leave from write_command. Cycle thread only. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "act.h"
#include "actuator.h"
#include "clock.h"
#include "coast.h"
#include "core.h"
#include "device.h"
#include "estop.h"
#include "follow.h"
#include "gpio.h"
#include "guard.h"
#include "lateness.h"
#include "lease.h"
#include "limiter.h"
#include "park.h"
#include "reference.h"
#include "relaxed.h"
#include "rest.h"
#include "sensor.h"
#include "setpoint.h"
#include "state.h"
#include "statistics.h"
#include "workspace.h"

#define STARVE_NS 1000000000LL /* of rest without fresh feedback or a valid command: then the device
                                  is fed no more */
#define GAP_CYCLES 16 /* without a write; after more than these a device counts as at rest */

/* The joints as the newest feedback measures them, NaN where it does not. A joint in velocity mode
   has moved on since its sample: its position is extrapolated */
static void measure(const struct actuator *actuator, bool is_lost, int64_t now_ns,
                    struct inphase_measured *measured)
{
    const struct sensor *sensor = is_lost ? NULL : actuator->feedback;
    const double *value = sensor ? sensor->newest.value : NULL;
    double age_s = 0;

    /* how long the joint has moved on since its sample */
    if (sensor && actuator->mode == INPHASE_MODE_VELOCITY)
        age_s = (double)sample_age(sensor, now_ns) * 1e-9;
    for (uint32_t c = 0; c < actuator->channels; c++) {
        measured[c] = (struct inphase_measured){NAN, NAN, NAN};
        if (value && actuator->feedback_kind == INPHASE_FEEDBACK_POSITION)
            measured[c].position = value[actuator->feedback_channel + c];
        if (age_s > 0)
            measured[c].position += age_s * actuator->motion[c].velocity;
        if (value && actuator->measures & INPHASE_MEASURES_VELOCITY)
            measured[c].velocity = value[actuator->velocity_channel + c];
        if (value && actuator->measures & INPHASE_MEASURES_EFFORT)
            measured[c].effort = value[actuator->effort_channel + c];
    }
}

/* A first command must lie within one step of the robot's place, of rest, or of the declared
   effort. An actuator that approaches takes one from anywhere, if its joints may begin at all */
static bool may_start(struct actuator *actuator, const double *requested,
                      const struct inphase_measured *measured)
{
    actuator->approaching = false;
    for (uint32_t c = 0; c < actuator->channels; c++) {
        const struct inphase_limiter *limiter = &actuator->limiter[c];
        const struct inphase_motion *motion = &actuator->motion[c];

        if (limiter_begins(limiter, motion, requested[c], measured[c].position))
            continue;
        actuator->detail = c;
        if (!actuator->approaches ||
            !limiter_may_begin(limiter, motion, requested[c], measured[c].position))
            return false;
        actuator->approaching = true;
    }
    actuator->detail = 0;
    return true;
}

/* The goal at which a device already holds a joint, taken once; NAN: none, or none near the
   measured position */
static double held_goal(struct actuator *actuator, uint32_t channel, double measured)
{
    double goal = atomic_load_explicit(&actuator->holds[channel], memory_order_relaxed);

    atomic_store_explicit(&actuator->holds[channel], NAN, memory_order_relaxed);
    if (actuator->mode != INPHASE_MODE_POSITION ||
        (actuator->feedback && !(fabs(goal - measured) <= actuator->limiter[channel].limits.step)))
        return NAN;
    return isfinite(goal) ? goal : NAN;
}

/* Begin at rest: at the goal that the device holds, else at the measured position. A blind joint
   begins at its last command */
static void place(struct inphase_core *core, struct actuator *actuator,
                  const struct inphase_measured *measured)
{
    for (uint32_t c = 0; c < actuator->channels; c++) {
        double here = measured[c].position;
        double goal = held_goal(actuator, c, here);

        /* the held goal comes first: anything else would be a jump */
        if (!isnan(goal))
            here = goal;
        limiter_place(&actuator->limiter[c], &actuator->motion[c],
                      isnan(here) ? actuator->motion[c].position : here);
    }
    actuator->placed = true;
    actuator->engaged = actuator->approaching = false;
    actuator->moved_cycle = core->cycle - 1;
}

/* Cycles passed without a write. A device that takes positions has slowed down, as in a ramp, and
   stands at its last command: it does not catch up. Any other device carries on its last command */
static void stand_by(struct actuator *actuator, int64_t cycles)
{
    static const struct inphase_measured unknown = {NAN, NAN, NAN};

    /* a velocity or an effort stays what it was */
    if (actuator->mode != INPHASE_MODE_POSITION) {
        for (uint32_t c = 0; c < actuator->channels && cycles > 0; c++)
            actuator->motion[c].acceleration = 0;
        return;
    }

    /* a position stays too; its velocity is that of a ramp by now */
    for (uint32_t c = 0; c < actuator->channels; c++) {
        struct inphase_motion *motion = &actuator->motion[c];
        double position = motion->position, goal = motion->goal;

        for (int64_t i = 0; i < cycles && i < GAP_CYCLES; i++)
            inphase_ramp(&actuator->limiter[c], motion, &unknown);
        if (cycles > GAP_CYCLES)
            motion->velocity = motion->acceleration = 0;
        motion->position = position;
        motion->goal = goal;
    }
}

/* where the joints of a workspace were; without a workspace nothing reads it */
static void remember(const struct actuator *actuator, struct inphase_motion *from)
{
    memcpy(from, actuator->motion, actuator->workspace.joints * sizeof *from);
}

/* one step of the ramp to rest, for a reason */
static void ramp(struct actuator *actuator, uint32_t reason,
                 const struct inphase_measured *measured)
{
    struct inphase_motion from[INPHASE_MAX_CHANNELS];

    actuator->flags |= INPHASE_ACT_RAMPING;
    actuator->reason = reason;
    remember(actuator, from);
    for (uint32_t c = 0; c < actuator->channels; c++)
        inphase_ramp(&actuator->limiter[c], &actuator->motion[c], &measured[c]);
    workspace_hold(actuator, from, actuator->motion);
}

/* an approach ends at a request that is applied as it is, or where the bounds lead no further */
static void follow_approach(struct actuator *actuator)
{
    actuator->approaching = actuator->approaching && actuator->flags & INPHASE_ACT_LIMITED &&
                            !is_at_rest(actuator);
    if (actuator->approaching)
        actuator->flags |= INPHASE_ACT_APPROACHING;
}

/* one step towards the request, or without one (NULL) towards the last */
static void obey(struct inphase_core *core, struct actuator *actuator, const double *requested,
                 const struct inphase_measured *measured)
{
    struct inphase_motion from[INPHASE_MAX_CHANNELS];
    uint32_t axis;

    remember(actuator, from);

    /* each joint within its limits, then all within the workspace */
    for (uint32_t c = 0; c < actuator->channels; c++)
        inphase_limit(&actuator->limiter[c], &actuator->motion[c], requested ? requested[c] : NAN,
                      &measured[c]);
    axis = workspace_hold(actuator, from, actuator->motion);
    if (!requested)
        return;
    core->obeyed = true;

    /* tell which limit changed the command */
    if (axis < 3) {
        actuator->reason = INPHASE_REASON_WORKSPACE;
        actuator->detail = axis;
    }
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (limiter_applied(&actuator->limiter[c], &actuator->motion[c]) != requested[c])
            actuator->flags |= INPHASE_ACT_LIMITED;
    follow_approach(actuator);

    /* max_hold counts from here */
    actuator->engaged = true;
    actuator->valid_ns = core->due_ns + core->act_ns;
}

/* a command is missing, for less than max_hold: coast, or repeat the last */
static void stand_in(struct inphase_core *core, struct actuator *actuator,
                     const struct inphase_measured *measured, int64_t missing_ns)
{
    if (actuator->coasts) {
        coast(actuator, measured, (actuator->max_hold_ns - missing_ns) / core->period_ns + 1);
        return;
    }
    actuator->flags |= INPHASE_ACT_REPEATED;
    obey(core, actuator, NULL, measured);
}

/* The reason why this actuator has no command to follow; NONE: it has one. A first command starts
   where the robot is, or is approached */
static uint32_t refuse_start(struct actuator *actuator, uint32_t reason,
                             const struct inphase_measured *measured)
{
    if (reason != INPHASE_REASON_NONE || actuator->engaged ||
        may_start(actuator, actuator->requested, measured))
        return reason;
    actuator->flags |= INPHASE_ACT_INVALID;
    actuator->refused = true;
    return INPHASE_REASON_START;
}

/* Where there is no command to follow: hold, carry on for max_hold, or ramp */
static void go_without(struct inphase_core *core, struct actuator *actuator, uint32_t reason,
                       const struct inphase_measured *measured)
{
    int64_t since_ns = core->due_ns + core->act_ns - actuator->valid_ns;
    bool may_carry_on = actuator->engaged && since_ns <= actuator->max_hold_ns &&
                        actuator->invalid_in_a_row < REFUSED_IN_A_ROW;

    actuator->reason = reason;
    if (may_carry_on)
        stand_in(core, actuator, measured, since_ns);
    else if (!actuator->engaged && is_at_rest(actuator))
        actuator->flags |= INPHASE_ACT_HOLDING;
    else
        ramp(actuator, reason, measured);
}

/* The end of a run: along the declared path, else to rest where the joints are */
static void end_motion(struct inphase_core *core, struct actuator *actuator, bool is_lost,
                       const struct inphase_measured *measured)
{
    const double *goal = park_next(core, actuator, is_lost);
    uint32_t reason = load_u32(&core->state->reason);

    if (!goal) {
        ramp(actuator, reason, measured);
        return;
    }
    actuator->approaching = false;
    obey(core, actuator, goal, measured);
    core->obeyed = false;
    actuator->flags |= INPHASE_ACT_RAMPING;
    actuator->reason = reason;
}

/* Decide what to apply. `reason`: why there is no command; NONE: there is one. false: nothing can
   be applied, because the robot's place is unknown */
static bool decide(struct inphase_core *core, struct actuator *actuator, uint32_t reason,
                   int64_t now_ns)
{
    struct inphase_measured measured[INPHASE_MAX_CHANNELS];
    uint32_t latched = load_u32(&core->state->latched);
    bool is_lost = actuator->feedback && !feedback_is_good(actuator, now_ns);

    /* motion begins where the robot is */
    measure(actuator, is_lost, now_ns, measured);
    if (!actuator->placed) {
        if (is_lost || !place_is_known(actuator)) {
            actuator->reason = INPHASE_REASON_FEEDBACK;
            return false;
        }
        place(core, actuator, measured);
    }
    if (reason == INPHASE_REASON_NONE && is_to_stand(actuator))
        reason = INPHASE_REASON_DROPPED;
    reason = refuse_start(actuator, reason, measured);
    actuator->invalid_in_a_row = reason == INPHASE_REASON_NAN ? actuator->invalid_in_a_row + 1 : 0;

    /* a stop comes first, then lost feedback, then the command */
    if (is_stopping(core))
        end_motion(core, actuator, is_lost, measured);
    else if (latched)
        ramp(actuator, latched, measured);
    else if (is_lost)
        ramp(actuator, INPHASE_REASON_FEEDBACK, measured);
    else if (reason == INPHASE_REASON_NONE)
        obey(core, actuator, actuator->requested, measured);
    else
        go_without(core, actuator, reason, measured);
    return true;
}

/* A device with a watchdog is fed only while feedback is fresh and commands are valid. Without
   either the actuator ramps to rest. If the lack then lasts STARVE_NS, the device gets no write any
   more, and no read where reads feed it, until motion is armed again: its own watchdog holds it. A
   shorter lack is a hiccup, and the motion goes on. */
static bool starve(struct inphase_core *core, struct actuator *actuator)
{
    struct device *device = actuator->device;
    bool rests = (actuator->flags & INPHASE_ACT_RAMPING) && is_at_rest(actuator);

    if (!actuator->watchdog || is_stopping(core))
        return false;

    /* feed it while it moves, and for a while at rest */
    if (!rests && !actuator->starved) {
        actuator->rests_since_ns = INPHASE_ABSENT;
        return false;
    }
    if (actuator->rests_since_ns == INPHASE_ABSENT)
        actuator->rests_since_ns = core->due_ns;
    if (!actuator->starved && core->due_ns - actuator->rests_since_ns < STARVE_NS)
        return false;

    /* from here on it gets nothing, and its worker is told so */
    latch_motion(core, INPHASE_REASON_WATCHDOG, actuator->reason);
    actuator->starved = true;
    device->starved = actuator->watchdog == 2;
    if (device->starved)
        put_u32(&core->state->starved,
                load_u32(&core->state->starved) | 1u << actuator->index);
    actuator->flags |= INPHASE_ACT_STARVED;
    return true;
}

/* a reply may still be on the line: a write would collide with it */
static bool bus_is_busy(const struct inphase_core *core, const struct device *device,
                        int64_t now_ns)
{
    const struct sensor *sensor = device->sensor < 0 ? NULL : &core->sensor[device->sensor];

    return sensor && !device->ops->pairs && (sensor->outstanding || sensor->dirty) &&
           now_ns < device->quiet_until_ns;
}

/* The only place from which anything leaves for a device that can move: the limiter's result, or an
   owed stop */
static void write_command(struct inphase_core *core, struct actuator *actuator)
{
    int rc;

    if (!reference_asks(core, actuator))
        rc = -ENODATA;
    else if (core->given ? core->unwritten >> actuator->index & 1
                    : bus_is_busy(core, actuator->device, core->clock->now(core)))
        rc = -EAGAIN;
    else
        rc = actuator->device->ops->write(core, actuator);

    /* it carries on by itself until it asks again */
    if (rc == -ENODATA) {
        actuator->reason = INPHASE_REASON_PACE;
        return;
    }

    /* from now on the device may move, even if the write failed in part */
    if (actuator->stops == STOPS_NOT)
        actuator->driven = actuator->commanded = true;

    /* a busy line is tried again in the next cycle; any other error loses the device */
    if (rc == -EAGAIN) {
        actuator->reason = INPHASE_REASON_BUSY;
        count_add(core->statistics, COUNT_BUSY, 1);
    } else if (rc < 0) {
        device_lost(core, actuator->device, rc);
    } else {
        actuator->flags |= INPHASE_ACT_WRITTEN;
        count_add(core->statistics, COUNT_WRITTEN, 1);
    }
}

/* was there no command at all? */
static bool is_missed(uint32_t reason)
{
    return reason == INPHASE_REASON_SILENT || reason == INPHASE_REASON_DIED;
}

/* nobody is to blame: a command from before a stop is good, and too late */
static bool is_blameless(const struct inphase_core *core, uint32_t reason)
{
    return reason == INPHASE_REASON_NONE || reason == INPHASE_REASON_DROPPED || lease_is_idle(core);
}

/* the flag of an act without a command, or with a bad one */
static uint32_t trouble_flag(const struct inphase_core *core, uint32_t reason)
{
    if (is_blameless(core, reason))
        return 0;
    return is_missed(reason) ? INPHASE_ACT_MISSED : INPHASE_ACT_INVALID;
}

/* decide and write; if nothing was written, restore the motion state from before */
static void move(struct inphase_core *core, struct actuator *actuator, uint32_t reason,
                 int64_t now_ns)
{
    struct inphase_motion before[INPHASE_MAX_CHANNELS];
    size_t size = actuator->channels * sizeof *before;
    bool placed = actuator->placed, engaged = actuator->engaged;

    /* cycles without a write lie between: the device has slowed down meanwhile */
    if (placed)
        stand_by(actuator, core->cycle - actuator->moved_cycle - 1);
    if (placed)
        reference_follow(core, actuator);
    memcpy(before, actuator->motion, size);

    /* what is decided is written, unless the device is starved */
    if (decide(core, actuator, reason, now_ns) && !starve(core, actuator)) {
        for (uint32_t c = 0; c < actuator->channels; c++)
            actuator->applied[c] = limiter_applied(&actuator->limiter[c], &actuator->motion[c]);
        write_command(core, actuator);
    }
    actuator->moved_cycle = core->cycle;
    park_note(actuator);
    if (actuator->flags & INPHASE_ACT_WRITTEN)
        return;

    /* nothing was written: the motion of before, and a new place does not count */
    for (uint32_t c = 0; c < actuator->channels; c++)
        before[c].goal = actuator->motion[c].goal;
    memcpy(actuator->motion, before, size);
    actuator->placed = actuator->placed && placed;
    actuator->engaged = actuator->engaged && engaged;

    /* a device that was to repeat its command stands already; any other motion goes on, slower */
    if (actuator->placed)
        stand_by(actuator, actuator->flags & INPHASE_ACT_REPEATED ? GAP_CYCLES + 1 : 1);
}

/* write the stop of an actuator that is not commanded, where it is owed one; true: `applied` has
   its values */
static bool stop_owed(struct inphase_core *core, struct actuator *actuator, int64_t now_ns)
{
    bool of_values;

    if (!rest_prepare_stop(core, actuator, now_ns))
        return false;
    of_values = actuator->stops == STOPS_VALUES;
    write_command(core, actuator);
    rest_note_stop(actuator);
    return of_values && (actuator->flags & INPHASE_ACT_WRITTEN);
}

/* one actuator: a command, its substitute, or the stop that it is owed; then the record of it */
static void act_one(struct inphase_core *core, struct actuator *actuator, uint32_t reason,
                    int64_t now_ns)
{
    struct inphase_act *act = core->act[actuator->index];
    double *requested = (double *)(act + 1);
    double *applied = requested + actuator->channels;
    bool stopped = false;

    actuator->flags = actuator->reason = actuator->detail = 0;
    actuator->refused = false;
    if (core->has_policy)
        actuator->flags = trouble_flag(core, reason);

    /* the request, as it came */
    for (uint32_t c = 0; c < actuator->channels; c++)
        requested[c] = actuator->requested[c] =
            reason ? NAN : core->command[actuator->first_value + c];

    /* only an enabled actuator of a live robot moves; any other gets its stop at most */
    if (core->observe || !core->is_live || actuator->off || actuator->owed ||
        !actuator->device->attached ||
        !atomic_load_explicit(&actuator->enabled, memory_order_acquire)) {
        actuator->reason = reason;
        stopped = stop_owed(core, actuator, now_ns);
    } else {
        move(core, actuator, reason, now_ns);
        if (actuator->flags & INPHASE_ACT_WRITTEN && !is_stopping(core))
            follow_note(actuator, core->statistics->travel[actuator->index], core->period_ns,
                        now_ns);
    }

    /* what was applied: of its motion, or of its stop */
    for (uint32_t c = 0; c < actuator->channels; c++)
        applied[c] = actuator->placed
                         ? limiter_applied(&actuator->limiter[c], &actuator->motion[c])
                     : stopped ? actuator->applied[c]
                               : NAN;

    /* and why */
    act->flags = actuator->flags;
    act->reason = actuator->reason;
    act->detail = actuator->detail;
}

/* count the act once, whatever the number of actuators */
static void count_command(struct inphase_core *core, uint32_t reason)
{
    struct statistics *statistics = core->statistics;
    _Atomic int64_t *of_reason = &statistics->reasons[reason];
    _Atomic int64_t *unanswered = &statistics->counts[COUNT_UNANSWERED];
    uint32_t all = 0;

    /* what became of it, at any actuator */
    for (uint32_t i = 0; i < core->actuators; i++)
        all |= core->actuator[i].flags;
    count_add(statistics, COUNT_LIMITED, (all & INPHASE_ACT_LIMITED) != 0);
    count_add(statistics, COUNT_REPEATED,
              (all & (INPHASE_ACT_REPEATED | INPHASE_ACT_COASTING)) != 0);
    count_add(statistics, COUNT_RAMPED, (all & INPHASE_ACT_RAMPING) != 0);
    if (!core->has_policy)
        return;

    /* and why there was none, for how long */
    if (reason == INPHASE_REASON_NONE) {
        count_add(statistics, COUNT_COMMANDS, 1);
        put_i64(unanswered, 0);
        return;
    }
    put_i64(unanswered, lease_is_idle(core) ? 0 : load_i64(unanswered) + 1);
    put_i64(of_reason, load_i64(of_reason) + 1);
    if (!is_blameless(core, reason))
        count_add(statistics, is_missed(reason) ? COUNT_MISSED : COUNT_INVALID, 1);
}

/* Apply this cycle's command to every actuator. The result: why there is none, or why an actuator
   refused it */
static uint32_t act_all(struct inphase_core *core, int64_t now_ns)
{
    uint32_t reason, counted;

    lease_look(core, now_ns);
    counted = reason = setpoints_follow(core, now_ns);
    core->obeyed = false;
    for (uint32_t i = 0; i < core->actuators; i++) {
        act_one(core, &core->actuator[i], reason, now_ns);

        /* a good command that one actuator refuses, also where another reason counts for the act */
        if (reason == INPHASE_REASON_NONE && core->actuator[i].refused)
            counted = INPHASE_REASON_START;
    }
    if (!core->obeyed)
        core->drove = INPHASE_DROVE_NOBODY;
    core->acted_cycle = core->cycle;
    core->acted_ns = core->clock->now(core);
    return counted;
}

/* Without an actuator, a policy or a raised trigger line the cycle ends with its latch: the thread
   does not wake for the act offset */
static bool has_act(const struct inphase_core *core)
{
    bool has = core->actuators > 0 || core->has_policy;

    for (uint32_t i = 0; i < core->sensors && !has; i++)
        has = core->sensor[i].line_is_up;
    return has;
}

void stage_act(struct inphase_core *core)
{
    int64_t act_ns = core->due_ns + core->act_ns;
    int64_t now_ns;
    uint32_t counted;

    if (!has_act(core))
        return;

    /* the act offset is constant, however long the policy took */
    core->clock->sleep_until(core, act_ns);
    now_ns = core->clock->now(core);

    /* reasons not to move that came since the latch: a suspension, an emergency stop */
    note_suspension(core, now_ns - act_ns);
    if (core->actuators)
        note_boot_clock(core);
    guard_beat(core, now_ns);
    estop_look(core);

    /* the one place of the cycle in which devices are written */
    counted = act_all(core, now_ns);
    state_follow(core);

    /* how late that was, and what came of it; a final ramp is left out of the statistics */
    note_late(core, now_ns - act_ns, INPHASE_PHASE_ACT, NULL);
    if (!is_stopping(core)) {
        histogram_add(&core->statistics->histogram[INPHASE_HIST_ACT], now_ns - act_ns);
        count_command(core, counted);
    }
    lines_lower(core, true);
}
