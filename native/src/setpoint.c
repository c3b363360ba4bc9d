/* The command of each cycle, from the policy's answers: the setpoints to come, joined with each new
   answer, and interpolated between two knots. Cycle thread only, except for setpoints_make.

   The answer to the frame of cycle n holds `chunk` commands, number i for cycle n + latency + i *
   spacing. Spacing divides `every`, so the commands of all answers lie on one grid of cycles. The
   setpoints are a ring of knots on that grid. A knot is written when an answer comes, and read in
   its cycle. Bounded: per cycle at most MAILBOX_SLOTS answers of `chunk` commands. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actuator.h"
#include "clock.h"
#include "core.h"
#include "handover.h"
#include "latency.h"
#include "mailbox.h"
#include "relaxed.h"
#include "setpoint.h"
#include "state.h"
#include "statistics.h"

#define LATENCY_MAX 0xffff       /* cycles, as measured */

/* ---- memory ---------------------------------------------------------------------------------- */

/* are all numbers of the configuration within bounds? */
static bool timing_holds(const struct inphase_policy_timing *config)
{
    return config->every >= 0 && config->every <= 1000000 && config->latency_cycles >= 0 &&
           config->latency_cycles <= 1000000 && config->chunk_every >= 0 &&
           config->chunk_every <= 1000000 && config->blend_cycles >= 0 &&
           config->blend_cycles <= 1000000 && config->chunk <= INPHASE_MAX_CHUNK &&
           config->join <= INPHASE_JOIN_FREEZE && config->interpolate <= INPHASE_CUBIC;
}

static uint64_t power_of_two(uint64_t at_least)
{
    uint64_t power = 1;

    while (power < at_least)
        power *= 2;
    return power;
}

/* a part of the memory that was allocated in one piece */
static void *cut(uint8_t **from, uint64_t bytes)
{
    uint8_t *part = *from;

    *from += (bytes + 7) & ~7ULL;
    return part;
}

/* a switch has no values between two setpoints */
static void mark_switches(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++) {
        const struct actuator *actuator = &core->actuator[i];

        memset(core->setpoints.steps + actuator->first_value,
               actuator->mode == INPHASE_MODE_SWITCH, actuator->channels);
    }
}

int setpoints_make(struct inphase_core *core, const struct inphase_policy_timing *config)
{
    struct setpoints *setpoints = &core->setpoints;
    uint64_t value, knot, mail, one = sizeof(double) * core->values;
    uint8_t *at;

    if (!timing_holds(config))
        return -EINVAL;

    /* the configuration, with its defaults */
    setpoints->every = config->every ? config->every : 1;
    setpoints->chunk = config->chunk ? config->chunk : 1;
    setpoints->spacing = config->chunk_every ? config->chunk_every : 1;
    if (setpoints->chunk == 1)
        setpoints->spacing = setpoints->every;
    setpoints->latency = config->latency_cycles;
    setpoints->fade = config->blend_cycles;
    setpoints->join = config->join;
    setpoints->interpolate = config->interpolate;
    setpoints->values = core->values;
    setpoints->answer = core->values * setpoints->chunk;

    /* knots from the one before this cycle to the last that an answer to this frame can have */
    setpoints->room = (uint64_t)(setpoints->latency / setpoints->spacing) + setpoints->chunk + 3;
    if (setpoints->every % setpoints->spacing ||
        setpoints->room * (core->values + 1) > INPHASE_MAX_PLAN)
        return -EINVAL;
    setpoints->room = power_of_two(setpoints->room);

    /* one piece of memory, on pages of its own, so that it can be locked */
    value = setpoints->room * one;
    knot = setpoints->room * sizeof *setpoints->knot;
    mail = sizeof *setpoints->mail + sizeof(double) * setpoints->answer;
    setpoints->size = (knot + value + mail + 4 * one + 4095) & ~4095ULL;
    setpoints->memory = at = aligned_alloc(4096, setpoints->size);
    if (!at)
        return -ENOMEM;
    memset(at, 0, setpoints->size);
    setpoints->knot = cut(&at, knot);
    setpoints->value = cut(&at, value);
    setpoints->mail = cut(&at, mail);
    setpoints->setpoint = cut(&at, one);
    setpoints->slope = cut(&at, one);
    setpoints->aim = cut(&at, one);
    setpoints->steps = cut(&at, core->values);
    mark_switches(core);

    /* nothing is known yet */
    for (uint64_t i = 0; i < setpoints->room; i++)
        setpoints->knot[i].cycle = -1;
    for (int i = 0; i < LATCHES; i++)
        setpoints->latch[i].cycle = -1;
    setpoints->newest = setpoints->at = setpoints->aimed = setpoints->late.cycle = -1;
    return 0;
}

void setpoints_free(struct setpoints *setpoints)
{
    free(setpoints->memory);
}

void setpoints_forget(struct inphase_core *core)
{
    struct setpoints *setpoints = &core->setpoints;

    for (uint64_t i = 0; i < setpoints->room; i++)
        setpoints->knot[i].cycle = -1;
    setpoints->newest = setpoints->at = setpoints->aimed = setpoints->late.cycle = -1;
    handover_forget(core);
}

/* ---- knots ----------------------------------------------------------------------------------- */

static struct knot *place_of(const struct setpoints *setpoints, int64_t cycle)
{
    return &setpoints->knot[(uint64_t)(cycle / setpoints->spacing) & (setpoints->room - 1)];
}

static double *values_of(const struct setpoints *setpoints, const struct knot *knot)
{
    return setpoints->value + (uint64_t)(knot - setpoints->knot) * setpoints->values;
}

/* the knot of exactly that cycle, NULL: none */
static const struct knot *knot_at(const struct setpoints *setpoints, int64_t cycle)
{
    const struct knot *knot = cycle < 0 ? NULL : place_of(setpoints, cycle);

    return knot && knot->cycle == cycle ? knot : NULL;
}

/* likewise, only if it has a command */
static const struct knot *setpoint_at(const struct setpoints *setpoints, int64_t cycle)
{
    const struct knot *knot = knot_at(setpoints, cycle);

    return knot && !knot->reason ? knot : NULL;
}

/* ---- an answer comes ------------------------------------------------------------------------- */

/* the reason why an answer is no command; NONE: it is one */
static uint32_t refusal_of(const struct setpoints *setpoints, const struct mail *mail,
                           int64_t now_ns)
{
    if (mail->reason >= INPHASE_REASONS || mail->drove >= INPHASE_DROVES ||
        (!mail->reason && mail->values != setpoints->answer))
        return INPHASE_REASON_SHAPE;
    if (mail->reason)
        return mail->reason;
    if (mail->valid_until_ns < now_ns)
        return INPHASE_REASON_EXPIRED;

    /* a command is finite */
    for (uint32_t i = 0; i < setpoints->answer; i++)
        if (!isfinite(mail->value[i]))
            return INPHASE_REASON_NAN;
    return INPHASE_REASON_NONE;
}

/* cycles from a frame to the first act that its answer was in time for */
static uint32_t latency_of(const struct inphase_core *core, const struct mail *mail)
{
    int64_t due_ns = load_i64(&core->state->start_ns) + mail->cycle * core->period_ns;
    int64_t act_ns = due_ns + core->act_ns;
    int64_t cycles = mail->posted_ns <= act_ns
                         ? 0
                         : (mail->posted_ns - act_ns - 1) / core->period_ns + 1;

    return cycles > LATENCY_MAX ? LATENCY_MAX : (uint32_t)cycles;
}

/* count something, except during the final ramp */
static void count_in_motion(struct inphase_core *core, enum count which, int64_t amount)
{
    if (!is_stopping(core))
        count_add(core->statistics, which, amount);
}

/* the time from the latch to the command, of an answer whose latch is still known */
static void note_inference(struct inphase_core *core, const struct mail *mail)
{
    const struct setpoints *setpoints = &core->setpoints;
    int64_t at = mail->cycle / setpoints->every % LATCHES;
    int64_t latched_ns = setpoints->latch[at].latched_ns, cycle = setpoints->latch[at].cycle;

    /* an answer that is too late for its first cycle is not counted */
    if (cycle == mail->cycle && mail->posted_ns >= latched_ns && !is_stopping(core) &&
        cycle + core->setpoints.latency >= core->cycle)
        histogram_add(&core->statistics->histogram[INPHASE_HIST_LATCH_TO_COMMAND],
                      mail->posted_ns - latched_ns);
}

/* is a command for that cycle of no use any more? */
static bool is_stale(const struct setpoints *setpoints, int64_t cycle, int64_t now)
{
    int64_t last = setpoints->interpolate == INPHASE_HOLD ? cycle + setpoints->spacing - 1 : cycle;

    return last < now;
}

/* what the policy says that it took; ABSENT: unknown, or not possible */
static int64_t inference_of(const struct mail *mail)
{
    if (mail->taken_ns < 0 || mail->taken_ns > mail->posted_ns)
        return INPHASE_ABSENT;
    return mail->posted_ns - mail->taken_ns;
}

static void put_knot(const struct setpoints *setpoints, const struct mail *mail, int64_t cycle,
                     uint32_t reason)
{
    *place_of(setpoints, cycle) = (struct knot){
        .cycle = cycle,
        .posted_ns = mail->posted_ns,
        .valid_until_ns = mail->valid_until_ns,
        .frame_cycle = mail->cycle,
        .inference_ns = inference_of(mail),
        .reason = reason,
        .drove = mail->drove,
    };
}

/* keep the reason for the cycles without a command, until the next answer is due */
static void put_refusal(const struct setpoints *setpoints, const struct mail *mail, uint32_t reason,
                        int64_t now)
{
    int64_t first = mail->cycle + setpoints->latency;

    for (int64_t i = 0; i < setpoints->chunk && i * setpoints->spacing < setpoints->every; i++) {
        int64_t cycle = first + i * setpoints->spacing;

        if (!is_stale(setpoints, cycle, now) && !setpoint_at(setpoints, cycle))
            put_knot(setpoints, mail, cycle, reason);
    }
}

/* the share of the new command in a cycle's command; 1: nothing is left of the old one */
static double share_of_new(const struct setpoints *setpoints, int64_t cycle, int64_t from)
{
    int64_t since = cycle > from ? cycle - from : 0;

    if (setpoints->join != INPHASE_JOIN_BLEND || since >= setpoints->fade)
        return 1;
    return (double)(since + 1) / (double)(setpoints->fade + 1);
}

/* join an answer with the setpoints to come; the number of its stale commands */
static uint32_t join_answer(const struct setpoints *setpoints, const struct mail *mail, int64_t now)
{
    int64_t first = mail->cycle + setpoints->latency;
    int64_t from = first > now ? first : now;
    int64_t frozen = first;
    uint32_t stale = 0;

    /* freeze: commands that the robot is about to follow stay */
    if (setpoints->join == INPHASE_JOIN_FREEZE)
        frozen = mail->cycle + latency_usual(&setpoints->latencies);

    /* each command of the answer: dropped, or blended with the one that is there */
    for (uint32_t i = 0; i < setpoints->chunk; i++) {
        int64_t cycle = first + i * setpoints->spacing;
        const double *fresh = mail->value + (uint64_t)i * setpoints->values;
        bool known = setpoint_at(setpoints, cycle);
        double share = known ? share_of_new(setpoints, cycle, from) : 1;
        double *value = values_of(setpoints, place_of(setpoints, cycle));

        /* a stale one is kept only where an interpolation may start from it */
        stale += is_stale(setpoints, cycle, now);
        if (is_stale(setpoints, cycle, now) && (known || cycle + setpoints->spacing <= now))
            continue;
        if (known && cycle < frozen)
            continue;
        put_knot(setpoints, mail, cycle, INPHASE_REASON_NONE);

        /* both are finite, so the result lies between them, however it is rounded */
        for (uint32_t v = 0; v < setpoints->values; v++)
            value[v] = share == 1 || setpoints->steps[v]
                           ? fresh[v]
                           : value[v] * (1 - share) + fresh[v] * share;
    }
    return stale;
}

/* the first cycle that needs the answer: a single command is interpolated to from the one before
   it */
static int64_t needed_in(const struct setpoints *setpoints, const struct mail *mail)
{
    bool is_gone_to = setpoints->chunk == 1 && setpoints->interpolate != INPHASE_HOLD;

    return mail->cycle + setpoints->latency - (is_gone_to ? setpoints->spacing - 1 : 0);
}

/* an answer to a frame before the present epoch moves nothing any more */
static bool is_current(const struct inphase_core *core, int64_t frame_cycle)
{
    return frame_cycle >= core->epoch_cycle;
}

/* may a command of that lease move the robot? */
static bool lease_drives(const struct inphase_core *core, uint32_t lease)
{
    return !core->lease_page || (core->lease && lease == core->lease);
}

/* an answer that moves nothing, and why */
static void refuse_answer(struct inphase_core *core, const struct mail *mail, uint32_t reason)
{
    count_in_motion(core, COUNT_REFUSED_ANSWERS, 1);
    put_refusal(&core->setpoints, mail, reason, core->cycle);
}

/* check an answer, and join it */
static void take_answer(struct inphase_core *core, const struct mail *mail, int64_t now_ns)
{
    struct setpoints *setpoints = &core->setpoints;
    uint32_t refusal;

    /* another process wrote this: the cycle is checked before the core indexes with it */
    if (mail->cycle < 0 || mail->cycle < setpoints->newest || mail->cycle > core->cycle ||
        mail->cycle % setpoints->every) {
        count_in_motion(core, COUNT_REFUSED_ANSWERS, 1);
        return;
    }

    /* an answer of somebody who may not drive */
    if (!lease_drives(core, mail->lease)) {
        refuse_answer(core, mail, INPHASE_REASON_LEASE);
        return;
    }

    /* an answer from before a stop or an arming */
    if (!is_current(core, mail->cycle)) {
        count_in_motion(core, COUNT_DROPPED, 1);
        put_refusal(setpoints, mail, INPHASE_REASON_DROPPED, core->cycle);
        return;
    }

    /* a person drives, or hands back */
    if (is_overruled(core, mail, now_ns)) {
        count_in_motion(core, COUNT_REFUSED_ANSWERS, 1);
        return;
    }

    /* an answer that is too late, and may have expired */
    if (needed_in(setpoints, mail) < core->cycle)
        setpoints->late = (struct knot){.cycle = core->cycle, .posted_ns = mail->posted_ns,
                                        .frame_cycle = mail->cycle,
                                        .inference_ns = inference_of(mail)};

    /* an answer that is no command */
    refusal = refusal_of(setpoints, mail, now_ns);
    if (refusal) {
        refuse_answer(core, mail, refusal);
        return;
    }

    /* a command, or several */
    setpoints->newest = mail->cycle;
    latency_note(&setpoints->latencies, latency_of(core, mail));
    note_inference(core, mail);
    count_in_motion(core, COUNT_LATE_ANSWERS, needed_in(setpoints, mail) < core->cycle);
    count_in_motion(core, COUNT_STALE, join_answer(setpoints, mail, core->cycle));
}

/* an act without a command tells the answer that was too late for the act before, if one came */
static void tell_late(struct inphase_core *core)
{
    const struct knot *late = &core->setpoints.late;

    if (core->inferred_ns != INPHASE_ABSENT || late->cycle != core->cycle)
        return;
    core->inferred_ns = late->posted_ns;
    core->inference_ns = late->inference_ns;
    core->answered_cycle = late->frame_cycle;
}

/* take all answers that were posted into a mailbox since the last look */
static void take_answers(struct inphase_core *core, const struct mailbox *mailbox, uint64_t *seen,
                         int64_t now_ns)
{
    struct setpoints *setpoints = &core->setpoints;
    uint64_t head = mailbox_head(mailbox);

    /* one look at each: an answer that is being written now is too late for this cycle */
    if (head < *seen || head - *seen > MAILBOX_SLOTS)
        *seen = head > MAILBOX_SLOTS ? head - MAILBOX_SLOTS : 0;
    for (; *seen < head; ++*seen) {
        if (!mailbox_read(mailbox, setpoints->answer, *seen, setpoints->mail))
            continue;

        /* on virtual time an answer is known before it is posted */
        if (core->clock == &virtual_clock && setpoints->mail->posted_ns > now_ns)
            return;
        take_answer(core, setpoints->mail, now_ns);
    }
}

/* ---- the setpoint of a cycle ----------------------------------------------------------------- */

/* slope at a knot, per cycle: from the knot before it to the knot after it, as far as they are
   known */
static double slope_at(const struct setpoints *setpoints, const struct knot *knot, uint32_t v)
{
    const struct knot *before = setpoint_at(setpoints, knot->cycle - setpoints->spacing);
    const struct knot *after = setpoint_at(setpoints, knot->cycle + setpoints->spacing);
    double here = values_of(setpoints, knot)[v], length = (double)setpoints->spacing;
    double from = before ? values_of(setpoints, before)[v] : here;
    double to = after ? values_of(setpoints, after)[v] : here;

    /* without a knot before it: from the setpoint that was given last */
    if (!before && setpoints->at >= 0) {
        from = setpoints->setpoint[v];
        length = (double)(knot->cycle - setpoints->at);
        before = knot;
    }
    if (before && after)
        length += (double)setpoints->spacing;
    return before || after ? (to - from) / length : 0;
}

/* the setpoint of a cycle that has a knot */
static void arrive_at(struct setpoints *setpoints, const struct knot *knot)
{
    for (uint32_t v = 0; setpoints->interpolate == INPHASE_CUBIC && v < setpoints->values; v++)
        setpoints->slope[v] = setpoints->aimed == knot->cycle ? setpoints->aim[v]
                                                              : slope_at(setpoints, knot, v);
    memcpy(setpoints->setpoint, values_of(setpoints, knot), setpoints->values * sizeof(double));
    setpoints->at = knot->cycle;
    setpoints->aimed = -1;
}

/* The setpoint of a cycle before a knot, from the last setpoint on: the rest of the same line or
   cubic, as long as the knot does not change. If it changes, the way to it begins at the last
   setpoint, without a step */
static void interpolate_towards(struct setpoints *setpoints, const struct knot *knot, int64_t cycle)
{
    const double *end = values_of(setpoints, knot);
    double length = (double)(knot->cycle - setpoints->at);
    double s = (double)(cycle - setpoints->at) / length, r = 1 - s;

    for (uint32_t v = 0; v < setpoints->values; v++) {
        double from = setpoints->setpoint[v], to = end[v], slope = setpoints->slope[v], aim;

        if (setpoints->steps[v])
            continue;
        if (setpoints->interpolate == INPHASE_LINEAR) {
            setpoints->setpoint[v] = r * from + s * to;
            continue;
        }

        /* a cubic Hermite spline: through both points, with both slopes */
        setpoints->aim[v] = aim = slope_at(setpoints, knot, v);
        setpoints->setpoint[v] = (1 + 2 * s) * r * r * from + s * s * (3 - 2 * s) * to +
                                 s * r * length * (r * slope - s * aim);
        setpoints->slope[v] = 6 * s * r * (to - from) / length + r * (1 - 3 * s) * slope +
                              s * (3 * s - 2) * aim;
    }
    setpoints->at = cycle;
    setpoints->aimed = knot->cycle;
}

static bool has_ramped(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++)
        if (core->actuator[i].flags & INPHASE_ACT_RAMPING)
            return true;
    return false;
}

/* the setpoint of this cycle; NONE, or the reason why there is none */
static uint32_t next_setpoint(struct inphase_core *core, int64_t now_ns)
{
    struct setpoints *setpoints = &core->setpoints;
    int64_t cycle = core->cycle, base = cycle - (cycle - setpoints->latency) % setpoints->spacing;
    bool between = setpoints->interpolate != INPHASE_HOLD && base < cycle;
    const struct knot *knot, *start;

    if (cycle < setpoints->latency)
        return INPHASE_REASON_SILENT;

    /* the knot of this cycle, or the next one to interpolate to */
    knot = knot_at(setpoints, between ? base + setpoints->spacing : base);
    if (!knot)
        return INPHASE_REASON_SILENT;

    /* its answer may be no command, or not valid any more */
    core->inferred_ns = knot->posted_ns;
    core->inference_ns = knot->inference_ns;
    core->answered_cycle = knot->frame_cycle;
    if (knot->reason)
        return knot->reason;
    if (knot->valid_until_ns < now_ns)
        return INPHASE_REASON_EXPIRED;
    core->drove = knot->drove;

    /* at a knot, or between two */
    if (!between) {
        arrive_at(setpoints, knot);
        return INPHASE_REASON_NONE;
    }
    if (setpoints->at < 0) {
        start = setpoint_at(setpoints, base);
        if (!start)
            return INPHASE_REASON_SILENT;
        arrive_at(setpoints, start);
    }
    interpolate_towards(setpoints, knot, cycle);
    for (uint32_t v = 0; v < setpoints->values; v++)
        if (!isfinite(setpoints->setpoint[v])) {
            setpoints->at = setpoints->aimed = -1;
            return INPHASE_REASON_NAN;
        }
    return INPHASE_REASON_NONE;
}

uint32_t setpoints_follow(struct inphase_core *core, int64_t now_ns)
{
    struct setpoints *setpoints = &core->setpoints;
    uint32_t gone = atomic_load_explicit(&core->policy_gone, memory_order_relaxed), reason;
    bool ramped = has_ramped(core);

    /* remember the latch of a frame that may be answered, then take the answers */
    if (core->cycle % setpoints->every == 0) {
        int64_t at = core->cycle / setpoints->every % LATCHES;

        setpoints->latch[at].cycle = core->cycle;
        setpoints->latch[at].latched_ns = core->latched_ns;
    }
    if (core->mailbox) {
        take_answers(core, mailbox_of_person(core->mailbox, setpoints->answer),
                     &setpoints->seen[1], now_ns);
        take_answers(core, core->mailbox, &setpoints->seen[0], now_ns);
    }

    /* a ramp has moved the robot away from the last setpoint */
    if (ramped)
        setpoints->at = setpoints->aimed = -1;

    /* the setpoint is the command */
    core->inferred_ns = core->inference_ns = INPHASE_ABSENT;
    core->answered_cycle = -1;
    core->acted_lease = core->lease;
    core->drove = INPHASE_DROVE_NOBODY;
    reason = next_setpoint(core, now_ns);
    if (reason == INPHASE_REASON_NONE) {
        memcpy(core->command, setpoints->setpoint, setpoints->values * sizeof(double));
        hand_over(core, ramped);
        return INPHASE_REASON_NONE;
    }
    core->drove = INPHASE_DROVE_NOBODY;
    tell_late(core);

    /* without a command the robot stands at the setpoint before */
    memset(setpoints->slope, 0, setpoints->values * sizeof(double));
    setpoints->aimed = -1;
    if (setpoints->at >= 0)
        setpoints->at = core->cycle;

    /* silence: a chunk has run out, or the policy is gone */
    if (reason == INPHASE_REASON_SILENT) {
        count_in_motion(core, COUNT_STARVED, setpoints->chunk > 1 && setpoints->newest >= 0);
        if (gone)
            reason = gone;
        if (!lease_drives(core, core->lease))
            reason = INPHASE_REASON_LEASE;
    }
    return reason;
}
