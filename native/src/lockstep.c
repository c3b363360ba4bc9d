/* Lock step: the cycle's stages on virtual time, in the caller's thread, with the policy as a
   server whose inference takes time. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "cycle.h"
#include "lockstep.h"
#include "mailbox.h"
#include "relaxed.h"
#include "state.h"
#include "store.h"
#include "timing.h"
#include "world.h"

/* a frame and its samples in their rings: written by this very thread */
const void *lockstep_record(const struct inphase_core *core, int64_t number)
{
    return ring_slot(core->segment->memory, &core->layout->frames, (uint64_t)number)->payload;
}

const void *lockstep_sample(const struct inphase_core *core, const void *record,
                            uint32_t sensor)
{
    const struct inphase_row *rows =
        (const void *)((const uint8_t *)record + sizeof(struct inphase_frame));

    if (rows[sensor].sequence < 0)
        return NULL;
    return ring_slot(core->segment->memory, &core->layout->samples[sensor],
                     (uint64_t)rows[sensor].sequence)->payload;
}

static int64_t act_time(const struct inphase_core *core)
{
    return core->due_ns + core->act_ns;
}

static int64_t cycles_run(const struct inphase_core *core)
{
    return load_i64(&core->state->cycles) + load_i64(&core->state->stopping_cycles);
}

static void finish_cycle(struct inphase_core *core)
{
    cycle_run(core, CYCLE_ACT);
    core->server.pending = false;
}

/* a failed world stops the run, with its reason */
static int latch_next(struct inphase_core *core)
{
    struct server *server = &core->server;

    if (!cycle_run(core, CYCLE_READ)) {
        if (core->world.failure) {
            state_stop(core, INPHASE_REASON_WORLD, (uint32_t)core->world.failure);
            state_end(core);
        }
        return -ESHUTDOWN;
    }
    server->latest++;
    if (core->given || (core->cycle % core->setpoints.every == 0 &&
                        timing_is_taken(core, core->cycle))) {
        server->due = server->latest;
        server->due_cycle = core->cycle;
    }
    server->pending = true;
    return 0;
}

static void take(struct inphase_core *core, int64_t number, int64_t cycle)
{
    struct server *server = &core->server;

    server->number = number;
    server->cycle = cycle;
    server->started_ns = server->free_ns > core->latched_ns ? server->free_ns : core->latched_ns;
    server->owes = true;
}

static int64_t turn(struct inphase_core *core, int64_t cycles)
{
    struct server *server = &core->server;

    /* a policy that does not answer takes no time */
    server->owes = false;
    for (;;) {
        int64_t before = server->due, before_cycle = server->due_cycle;
        int rc;

        if (server->pending) {
            /* free before the act: it takes the newest due frame as soon as it can */
            if (server->number < server->due && server->free_ns < act_time(core)) {
                take(core, server->due, server->due_cycle);
                return server->number;
            }
            finish_cycle(core);
        }
        if (cycles && cycles_run(core) >= cycles)
            return -EAGAIN;
        rc = latch_next(core);
        if (rc < 0)
            return rc;

        /* free after that act and before this latch: it takes the frame that was the newest due one
           then */
        if (server->number < before && server->free_ns < core->latched_ns) {
            int64_t free_ns = server->free_ns;

            take(core, before, before_cycle);
            server->started_ns = free_ns;
            return server->number;
        }
    }
}

int lockstep_post(struct inphase_core *core, int64_t cycle, int64_t taken_ns, int64_t posted_ns,
                  uint32_t reason, const double *values, uint32_t count)
{
    struct mail mail = {.cycle = cycle, .posted_ns = posted_ns, .taken_ns = taken_ns,
                        .valid_until_ns = INT64_MAX, .reason = reason, .values = count,
                        .drove = INPHASE_DROVE_POLICY};

    if (!core->own_mailbox)
        return -EPERM;
    if (reason >= INPHASE_REASONS || count > core->setpoints.answer || (count && !values))
        return -EINVAL;
    mailbox_put(core->own_mailbox, &mail, values);
    return 0;
}

int inphase_core_post(inphase_core *core, int64_t cycle, int64_t posted_ns, uint32_t reason,
                      const double *values, uint32_t count)
{
    if (core->clock != &virtual_clock)
        return -EPERM;
    return lockstep_post(core, cycle, INPHASE_ABSENT, posted_ns, reason, values,
                         reason ? 0 : count);
}

int inphase_core_given(inphase_core *core, const struct inphase_row *rows,
                       const double *const *values, uint32_t unwritten)
{
    if (core->clock != &virtual_clock)
        return -EPERM;
    for (uint32_t i = 0; rows && i < core->sensors; i++)
        if (rows[i].status >= INPHASE_STATUSES || rows[i].reason >= INPHASE_REASONS)
            return -EINVAL;
    core->given = rows;
    core->given_values = values;
    core->given_unwritten = unwritten;
    return 0;
}

static int answer(struct inphase_core *core, uint32_t reason, const double *values,
                  uint32_t count)
{
    struct server *server = &core->server;
    int64_t inference_ns = 0;
    int rc;

    if (core->clock != &virtual_clock || !server->owes)
        return -EPERM;

    /* a frame that the policy does not accept is answered at once */
    if (reason != INPHASE_REASON_INPUT)
        inference_ns = timing_inference(core, server->cycle);
    server->owes = false;
    server->free_ns = server->started_ns + inference_ns;
    rc = lockstep_post(core, server->cycle, server->started_ns, server->free_ns, reason, values,
                       reason ? 0 : count);
    if (rc == 0 && server->pending && server->number == server->latest &&
        server->free_ns < act_time(core))
        finish_cycle(core);
    return rc;
}

int64_t lockstep_answer_turn(struct inphase_core *core, uint32_t reason, const double *values,
                             uint32_t count, int64_t cycles)
{
    int rc = answer(core, reason, values, count);

    return rc < 0 ? rc : turn(core, cycles);
}

void lockstep_enter(const struct inphase_core *core)
{
    world_enter(&core->world);
}

void lockstep_leave(const struct inphase_core *core)
{
    world_leave(&core->world);
}

int64_t inphase_core_turn(inphase_core *core, int64_t cycles)
{
    int64_t number;

    if (core->clock != &virtual_clock)
        return -EPERM;
    world_enter(&core->world);
    number = turn(core, cycles);
    world_leave(&core->world);
    return number;
}

int inphase_core_answer(inphase_core *core, uint32_t reason, const double *values,
                        uint32_t count)
{
    int rc;

    world_enter(&core->world);
    rc = answer(core, reason, values, count);
    world_leave(&core->world);
    return rc;
}

int64_t inphase_core_answer_turn(inphase_core *core, uint32_t reason, const double *values,
                                 uint32_t count, int64_t cycles)
{
    int64_t number;

    world_enter(&core->world);
    number = lockstep_answer_turn(core, reason, values, count, cycles);
    world_leave(&core->world);
    return number;
}

/* one turn of a policy that is C */
static int native_turn(struct inphase_core *core, int64_t cycles)
{
    const void *samples[INPHASE_MAX_SENSORS];
    double *command = core->server.command;
    int64_t number = turn(core, cycles);
    const void *record;
    uint32_t reason;

    if (number < 0)
        return (int)number;
    record = lockstep_record(core, number);
    for (uint32_t i = 0; i < core->sensors; i++)
        samples[i] = lockstep_sample(core, record, i);
    reason = core->policy.call(core->policy.user, record, samples, command);
    return answer(core, reason, command, core->setpoints.answer);
}

int64_t inphase_core_run(inphase_core *core, int64_t cycles)
{
    int64_t before, until;

    if (core->clock != &virtual_clock)
        return -EPERM;
    before = cycles_run(core);
    until = before + cycles;
    world_enter(&core->world);
    while (cycles_run(core) < until) {
        if (core->policy.call) {
            if (native_turn(core, until) < 0)
                break;
        } else if (core->server.pending) {
            finish_cycle(core);
        } else if (latch_next(core) < 0) {
            break;
        }
    }
    world_leave(&core->world);
    return cycles_run(core) - before;
}

int64_t inphase_core_progress(inphase_core *core, int64_t *frames)
{
    *frames = core->server.latest + 1;
    return cycles_run(core);
}

int inphase_core_fault(inphase_core *core, const struct inphase_fault *fault)
{
    if (core->clock != &virtual_clock)
        return -EPERM;
    if (core->faults == MAX_FAULTS)
        return -ENOSPC;
    core->fault[core->faults++] = *fault;
    return 0;
}

void inphase_core_world_failure(inphase_core *core, struct inphase_world_failure *out)
{
    *out = (struct inphase_world_failure){
        .what = core->world.failure, .cycle = core->cycle, .world_ns = core->world.now_ns};
    memcpy(out->message, core->world.message, sizeof out->message);
}
