/* The command of each cycle, out of what the policy answered: a plan of setpoints to come, its
   joining with a new answer, and what lies between two of them. Cycle thread only, but for
   plan_make.

   The answer to the frame of cycle n holds `chunk` commands, number i for cycle n + latency + i *
   spacing. As spacing divides every, the commands of all answers lie on one grid of cycles, and the
   plan is a ring of knots on it. A knot is written when an answer comes, and read when its cycle
   does. Bounded: per cycle at most MAILBOX_SLOTS answers of `chunk` commands. */
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
#include "mailbox.h"
#include "relaxed.h"
#include "setpoint.h"
#include "state.h"
#include "statistics.h"

#define LATENCY_MAX 0xffff       /* cycles, as measured */

/* ---- memory ---------------------------------------------------------------------------------- */

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

static void *cut(uint8_t **from, uint64_t bytes)
{
    uint8_t *part = *from;

    *from += (bytes + 7) & ~7ULL;
    return part;
}

static void mark_switches(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++) {
        const struct actuator *actuator = &core->actuator[i];

        for (uint32_t c = 0; c < actuator->channels; c++)
            core->plan.steps[actuator->first_value + c] = actuator->mode == INPHASE_MODE_SWITCH;
    }
}

int plan_make(struct inphase_core *core, const struct inphase_policy_timing *config)
{
    struct plan *plan = &core->plan;
    uint64_t value, knot, mail, one = sizeof(double) * core->values;
    uint8_t *at;

    if (!timing_holds(config))
        return -EINVAL;
    plan->every = config->every ? config->every : 1;
    plan->chunk = config->chunk ? config->chunk : 1;
    plan->spacing = plan->chunk == 1 ? plan->every : config->chunk_every ? config->chunk_every : 1;
    plan->latency = config->latency_cycles;
    plan->fade = config->blend_cycles;
    plan->join = config->join;
    plan->interpolate = config->interpolate;
    plan->values = core->values;
    plan->answer = core->values * plan->chunk;

    /* from the knot before this cycle's to the last that an answer to this cycle's frame is for */
    plan->room = (uint64_t)(plan->latency / plan->spacing) + plan->chunk + 3;
    if (plan->every % plan->spacing || plan->room * (core->values + 1) > INPHASE_MAX_PLAN)
        return -EINVAL;
    plan->room = power_of_two(plan->room);
    value = plan->room * one;
    knot = plan->room * sizeof *plan->knot;
    mail = sizeof *plan->mail + sizeof(double) * plan->answer;
    plan->size = (knot + value + mail + 4 * one + 4095) & ~4095ULL;
    plan->memory = at = aligned_alloc(4096, plan->size);
    if (!at)
        return -ENOMEM;
    memset(at, 0, plan->size);
    plan->knot = cut(&at, knot);
    plan->value = cut(&at, value);
    plan->mail = cut(&at, mail);
    plan->setpoint = cut(&at, one);
    plan->slope = cut(&at, one);
    plan->aim = cut(&at, one);
    plan->steps = cut(&at, core->values);
    mark_switches(core);
    for (uint64_t i = 0; i < plan->room; i++)
        plan->knot[i].cycle = -1;
    for (int i = 0; i < LATCHES; i++)
        plan->latch[i].cycle = -1;
    plan->newest = plan->at = plan->aimed = -1;
    return 0;
}

void plan_free(struct plan *plan)
{
    free(plan->memory);
}

void plan_forget(struct inphase_core *core)
{
    struct plan *plan = &core->plan;

    for (uint64_t i = 0; i < plan->room; i++)
        plan->knot[i].cycle = -1;
    plan->newest = plan->at = plan->aimed = -1;
}

/* ---- knots ----------------------------------------------------------------------------------- */

static struct knot *place_of(const struct plan *plan, int64_t cycle)
{
    return &plan->knot[(uint64_t)(cycle / plan->spacing) & (plan->room - 1)];
}

static double *values_of(const struct plan *plan, const struct knot *knot)
{
    return plan->value + (uint64_t)(knot - plan->knot) * plan->values;
}

/* the knot for exactly that cycle, NULL: there is none */
static const struct knot *knot_at(const struct plan *plan, int64_t cycle)
{
    const struct knot *knot = cycle < 0 ? NULL : place_of(plan, cycle);

    return knot && knot->cycle == cycle ? knot : NULL;
}

/* likewise, with a command */
static const struct knot *setpoint_at(const struct plan *plan, int64_t cycle)
{
    const struct knot *knot = knot_at(plan, cycle);

    return knot && !knot->reason ? knot : NULL;
}

/* ---- an answer comes ------------------------------------------------------------------------- */

static uint32_t refusal_of(const struct plan *plan, const struct mail *mail, int64_t now_ns)
{
    if (mail->reason >= INPHASE_REASONS || (!mail->reason && mail->values != plan->answer))
        return INPHASE_REASON_SHAPE;
    if (mail->reason)
        return mail->reason;
    if (mail->valid_until_ns < now_ns)
        return INPHASE_REASON_EXPIRED;
    for (uint32_t i = 0; i < plan->answer; i++)
        if (!isfinite(mail->value[i]))
            return INPHASE_REASON_NAN;
    return INPHASE_REASON_NONE;
}

/* cycles from a frame to the first act that its answer was there for */
static uint32_t latency_of(const struct inphase_core *core, const struct mail *mail)
{
    int64_t due_ns = load_i64(&core->state->start_ns) + mail->cycle * core->period_ns;
    int64_t act_ns = due_ns + core->act_ns;
    int64_t cycles = mail->posted_ns <= act_ns
                         ? 0
                         : (mail->posted_ns - act_ns - 1) / core->period_ns + 1;

    return cycles > LATENCY_MAX ? LATENCY_MAX : (uint32_t)cycles;
}

/* into the sorted ones, in place of the oldest once there are enough */
static void note_latency(struct plan *plan, uint32_t latency)
{
    uint32_t count = plan->latencies, at;

    /* nearly always the oldest is like the newest: the order stays */
    if (count == LATENCIES && plan->measured[plan->next_latency] == latency) {
        plan->next_latency = (plan->next_latency + 1) % LATENCIES;
        return;
    }
    if (count == LATENCIES) {
        for (at = 0; plan->sorted[at] != plan->measured[plan->next_latency]; at++)
            ;
        for (count--; at < count; at++)
            plan->sorted[at] = plan->sorted[at + 1];
    }
    for (at = count; at > 0 && plan->sorted[at - 1] > latency; at--)
        plan->sorted[at] = plan->sorted[at - 1];
    plan->sorted[at] = latency;
    plan->measured[plan->next_latency] = latency;
    plan->next_latency = (plan->next_latency + 1) % LATENCIES;
    plan->latencies = count + 1;
}

/* the smallest that at least 95 % of them do not exceed */
static int64_t usual_latency(const struct plan *plan)
{
    return plan->latencies ? plan->sorted[(plan->latencies * 95 + 99) / 100 - 1] : 0;
}

static void count(struct inphase_core *core, enum count which, int64_t amount)
{
    if (!is_stopping(core))
        count_add(core->statistics, which, amount);
}

static void note_inference(struct inphase_core *core, const struct mail *mail)
{
    int64_t latched_ns = core->plan.latch[mail->cycle / core->plan.every % LATCHES].latched_ns;
    int64_t cycle = core->plan.latch[mail->cycle / core->plan.every % LATCHES].cycle;

    /* what came too late for its first cycle is no command of it */
    if (cycle == mail->cycle && mail->posted_ns >= latched_ns && !is_stopping(core) &&
        cycle + core->plan.latency >= core->cycle)
        histogram_add(&core->statistics->histogram[INPHASE_HIST_LATCH_TO_COMMAND],
                      mail->posted_ns - latched_ns);
}

/* whether a command for that cycle is of no use any more */
static bool is_stale(const struct plan *plan, int64_t cycle, int64_t now)
{
    int64_t last = plan->interpolate == INPHASE_HOLD ? cycle + plan->spacing - 1 : cycle;

    return last < now;
}

static void put_knot(const struct plan *plan, const struct mail *mail, int64_t cycle,
                     uint32_t reason)
{
    *place_of(plan, cycle) = (struct knot){
        .cycle = cycle,
        .posted_ns = mail->posted_ns,
        .valid_until_ns = mail->valid_until_ns,
        .reason = reason,
    };
}

/* why there is no command, for the cycles until the next answer is due that have none */
static void put_refusal(const struct plan *plan, const struct mail *mail, uint32_t reason,
                        int64_t now)
{
    int64_t first = mail->cycle + plan->latency;

    for (int64_t i = 0; i < plan->chunk && i * plan->spacing < plan->every; i++) {
        int64_t cycle = first + i * plan->spacing;

        if (!is_stale(plan, cycle, now) && !setpoint_at(plan, cycle))
            put_knot(plan, mail, cycle, reason);
    }
}

/* how much of the new command there is in the one for a cycle; 1: the old one is gone */
static double share_of_new(const struct plan *plan, int64_t cycle, int64_t from)
{
    int64_t since = cycle > from ? cycle - from : 0;

    if (plan->join != INPHASE_JOIN_BLEND || since >= plan->fade)
        return 1;
    return (double)(since + 1) / (double)(plan->fade + 1);
}

/* join an answer with the plan; how many of its commands are stale */
static uint32_t join(const struct plan *plan, const struct mail *mail, int64_t now)
{
    int64_t first = mail->cycle + plan->latency;
    int64_t from = first > now ? first : now;
    int64_t frozen = plan->join == INPHASE_JOIN_FREEZE ? mail->cycle + usual_latency(plan) : first;
    uint32_t stale = 0;

    for (uint32_t i = 0; i < plan->chunk; i++) {
        int64_t cycle = first + i * plan->spacing;
        const double *fresh = mail->value + (uint64_t)i * plan->values;
        bool known = setpoint_at(plan, cycle);
        double share = known ? share_of_new(plan, cycle, from) : 1;
        double *value = values_of(plan, place_of(plan, cycle));

        /* the last one before this cycle is where a line may have to start */
        stale += is_stale(plan, cycle, now);
        if (is_stale(plan, cycle, now) && (known || cycle + plan->spacing <= now))
            continue;
        if (known && cycle < frozen)
            continue;
        put_knot(plan, mail, cycle, INPHASE_REASON_NONE);

        /* within both whatever is rounded: never 0 times what is not finite, for both are */
        for (uint32_t v = 0; v < plan->values; v++)
            value[v] = share == 1 || plan->steps[v] ? fresh[v]
                                                    : value[v] * (1 - share) + fresh[v] * share;
    }
    return stale;
}

/* the first cycle that an answer is needed in: one command of it is gone to from the one before */
static int64_t needed_in(const struct plan *plan, const struct mail *mail)
{
    bool is_gone_to = plan->chunk == 1 && plan->interpolate != INPHASE_HOLD;

    return mail->cycle + plan->latency - (is_gone_to ? plan->spacing - 1 : 0);
}

/* an answer to a frame before the present epoch moves nothing any more */
static bool is_current(const struct inphase_core *core, int64_t frame_cycle)
{
    return frame_cycle >= core->epoch_cycle;
}

static void take(struct inphase_core *core, const struct mail *mail, int64_t now_ns)
{
    struct plan *plan = &core->plan;
    uint32_t refusal;

    /* another process wrote this: what the core indexes with is checked here */
    if (mail->cycle < 0 || mail->cycle < plan->newest || mail->cycle > core->cycle ||
        mail->cycle % plan->every) {
        count(core, COUNT_REFUSED_ANSWERS, 1);
        return;
    }
    if (!is_current(core, mail->cycle)) {
        count(core, COUNT_DROPPED, 1);
        put_refusal(plan, mail, INPHASE_REASON_DROPPED, core->cycle);
        return;
    }
    refusal = refusal_of(plan, mail, now_ns);
    if (refusal) {
        count(core, COUNT_REFUSED_ANSWERS, 1);
        put_refusal(plan, mail, refusal, core->cycle);
        return;
    }
    plan->newest = mail->cycle;
    note_latency(plan, latency_of(core, mail));
    note_inference(core, mail);
    count(core, COUNT_LATE_ANSWERS, needed_in(plan, mail) < core->cycle);
    count(core, COUNT_STALE, join(plan, mail, core->cycle));
}

static void take_all(struct inphase_core *core, int64_t now_ns)
{
    struct plan *plan = &core->plan;
    uint64_t head = core->mailbox ? mailbox_head(core->mailbox) : plan->seen;

    /* one look at each: one that is being written now came too late, and is seen in the next
       cycle */
    if (head < plan->seen || head - plan->seen > MAILBOX_SLOTS)
        plan->seen = head > MAILBOX_SLOTS ? head - MAILBOX_SLOTS : 0;
    for (; plan->seen < head; plan->seen++) {
        if (!mailbox_read(core->mailbox, plan->answer, plan->seen, plan->mail))
            continue;

        /* on virtual time an answer is known before it is there */
        if (core->clock == &virtual_clock && plan->mail->posted_ns > now_ns)
            return;
        take(core, plan->mail, now_ns);
    }
}

/* ---- the setpoint of a cycle ----------------------------------------------------------------- */

/* slope at a knot, per cycle: from the one before it to the one after it, as far as they are
   known */
static double slope_at(const struct plan *plan, const struct knot *knot, uint32_t v)
{
    const struct knot *before = setpoint_at(plan, knot->cycle - plan->spacing);
    const struct knot *after = setpoint_at(plan, knot->cycle + plan->spacing);
    double here = values_of(plan, knot)[v], length = (double)plan->spacing;
    double from = before ? values_of(plan, before)[v] : here;
    double to = after ? values_of(plan, after)[v] : here;

    if (!before && plan->at >= 0) {
        from = plan->setpoint[v];
        length = (double)(knot->cycle - plan->at);
        before = knot;
    }
    if (before && after)
        length += (double)plan->spacing;
    return before || after ? (to - from) / length : 0;
}

/* exactly at a knot */
static void arrive(struct plan *plan, const struct knot *knot)
{
    for (uint32_t v = 0; plan->interpolate == INPHASE_CUBIC && v < plan->values; v++)
        plan->slope[v] = plan->aimed == knot->cycle ? plan->aim[v] : slope_at(plan, knot, v);
    memcpy(plan->setpoint, values_of(plan, knot), plan->values * sizeof(double));
    plan->at = knot->cycle;
    plan->aimed = -1;
}

/* On the way to a knot, from where the setpoint was last: the rest of the same line or cubic, as
   long as the knot stays what it was; from wherever it is, without a step, when it does not. A
   cubic: Hermite's, through both points with both slopes */
static void approach(struct plan *plan, const struct knot *knot, int64_t cycle)
{
    const double *end = values_of(plan, knot);
    double length = (double)(knot->cycle - plan->at);
    double s = (double)(cycle - plan->at) / length, r = 1 - s;

    for (uint32_t v = 0; v < plan->values; v++) {
        double from = plan->setpoint[v], to = end[v];

        if (plan->steps[v])
            continue;
        if (plan->interpolate == INPHASE_LINEAR) {
            plan->setpoint[v] = r * from + s * to;
            continue;
        }
        plan->aim[v] = slope_at(plan, knot, v);
        plan->setpoint[v] = (1 + 2 * s) * r * r * from + s * s * (3 - 2 * s) * to +
                            s * r * length * (r * plan->slope[v] - s * plan->aim[v]);
        plan->slope[v] = 6 * s * r * (to - from) / length + r * (1 - 3 * s) * plan->slope[v] +
                         s * (3 * s - 2) * plan->aim[v];
    }
    plan->at = cycle;
    plan->aimed = knot->cycle;
}

static bool has_ramped(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++)
        if (core->actuator[i].flags & INPHASE_ACT_RAMPING)
            return true;
    return false;
}

static uint32_t next_setpoint(struct inphase_core *core, int64_t now_ns)
{
    struct plan *plan = &core->plan;
    int64_t cycle = core->cycle, base = cycle - (cycle - plan->latency) % plan->spacing;
    bool between = plan->interpolate != INPHASE_HOLD && base < cycle;
    const struct knot *knot, *start;

    if (cycle < plan->latency)
        return INPHASE_REASON_SILENT;
    knot = knot_at(plan, between ? base + plan->spacing : base);
    if (!knot)
        return INPHASE_REASON_SILENT;
    core->inferred_ns = knot->posted_ns;
    if (knot->reason)
        return knot->reason;
    if (knot->valid_until_ns < now_ns)
        return INPHASE_REASON_EXPIRED;
    if (!between) {
        arrive(plan, knot);
        return INPHASE_REASON_NONE;
    }
    if (plan->at < 0) {
        start = setpoint_at(plan, base);
        if (!start)
            return INPHASE_REASON_SILENT;
        arrive(plan, start);
    }
    approach(plan, knot, cycle);
    for (uint32_t v = 0; v < plan->values; v++)
        if (!isfinite(plan->setpoint[v])) {
            plan->at = plan->aimed = -1;
            return INPHASE_REASON_NAN;
        }
    return INPHASE_REASON_NONE;
}

uint32_t plan_follow(struct inphase_core *core, int64_t now_ns)
{
    struct plan *plan = &core->plan;
    uint32_t gone = atomic_load_explicit(&core->policy_gone, memory_order_relaxed), missing;

    if (core->cycle % plan->every == 0) {
        int64_t at = core->cycle / plan->every % LATCHES;

        plan->latch[at].cycle = core->cycle;
        plan->latch[at].latched_ns = core->latched_ns;
    }
    take_all(core, now_ns);

    /* a ramp has taken the robot elsewhere */
    if (has_ramped(core))
        plan->at = plan->aimed = -1;
    core->inferred_ns = INPHASE_ABSENT;
    missing = next_setpoint(core, now_ns);
    if (missing == INPHASE_REASON_NONE) {
        memcpy(core->command, plan->setpoint, plan->values * sizeof(double));
        return INPHASE_REASON_NONE;
    }

    /* the robot stands at the setpoint before */
    memset(plan->slope, 0, plan->values * sizeof(double));
    plan->aimed = -1;
    if (plan->at >= 0)
        plan->at = core->cycle;
    if (missing == INPHASE_REASON_SILENT) {
        count(core, COUNT_STARVED, plan->chunk > 1 && plan->newest >= 0);
        if (gone)
            missing = gone;
    }
    return missing;
}
