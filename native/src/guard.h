/* The core's side of the guard. */
#pragma once

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "guard_page.h"

struct actuator;

/* cycle thread, once it runs */
struct guard {
    struct guard_page *page; /* NULL: no guard */
    struct guard_record record; /* the next record, as far as it is known */
    struct robust_list_head robust; /* for the kernel, which tells the cycle thread's death */
    struct robust_list entry;
    const struct guard_life *life; /* the guard changes it; NULL: no guard */
    int64_t awake_ns;        /* when this thread, held up itself, found forgiven_ns */
    int64_t forgiven_ns;     /* beat of the guard that counts from awake_ns on */
    uint32_t spared_seen;    /* of its page's spared, at the last look */
};

/* from now on the kernel tells the guard when the calling thread dies; before its first cycle */
void guard_own(struct inphase_core *core);
/* the cycle thread lives */
void guard_beat(struct inphase_core *core, int64_t now_ns);
/* these bytes are about to be written to an actuator: from now on the guard has to stop it */
void guard_leave(struct inphase_core *core, const struct actuator *actuator, const uint8_t *bytes,
                 uint32_t size);
/* one actuator is not commanded any more; or the run has ended in good order, for all of them */
void guard_withdraw(struct inphase_core *core, const struct actuator *actuator);
void guard_disarm(struct inphase_core *core);
/* a worker's device is lost: the guard stops it, if it was commanded. is_stuck: the worker lives */
void guard_abandon(struct inphase_core *core, const struct actuator *actuator, bool is_stuck);
int guard_lock(const struct inphase_core *core);
/* would the guard act? Memory reads only. true if the core has no guard's page */
bool guard_lives(const struct inphase_core *core, int64_t now_ns);
void guard_close(struct inphase_core *core);

/* has the guard taken this process for frozen since the last call, stopped the devices and let it
   live? A memory read */
static inline bool guard_spared(struct guard *guard)
{
    uint32_t spared, before = guard->spared_seen;

    if (!guard->life)
        return false;

    /* acquire: the devices were stopped after this word was written */
    spared = atomic_load_explicit(&guard->life->spared, memory_order_acquire);
    guard->spared_seen = spared;
    return spared != before;
}
