/* Leases: one client at a time may drive a robot. The functions of inphase.h run in the service's
   process. The cycle thread believes its page and no clock but its own. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actuator.h"
#include "core.h"
#include "lease.h"
#include "relaxed.h"
#include "state.h"
#include "store.h"

/* ---- the service's side ---------------------------------------------------------------------- */

int inphase_lease_page_make(inphase_segment **out, uint64_t epoch)
{
    inphase_segment *segment;
    struct lease_page *page;
    int rc = inphase_segment_make(&segment, LEASE_PAGE_BYTES, 1);

    if (rc < 0)
        return rc;
    page = (void *)segment->memory;
    page->magic = MAGIC;
    page->version = STORE_VERSION;
    page->epoch = epoch;
    return segment_leave(out, segment);
}

int inphase_lease_page_set(inphase_segment *segment, uint32_t lease, int64_t until_ns)
{
    struct lease_page *page = (void *)segment->memory;

    if (!segment->writer)
        return -EPERM;

    /* A reader that sees the new time sees the new number, too: the old time is gone before the
       number changes, and the new one comes after it */
    if (lease != atomic_load_explicit(&page->lease, memory_order_relaxed)) {
        atomic_store_explicit(&page->until_ns, INT64_MIN, memory_order_release);
        atomic_store_explicit(&page->lease, lease, memory_order_release);
    }
    atomic_store_explicit(&page->until_ns, lease ? until_ns : INT64_MIN, memory_order_release);
    return 0;
}

/* the lease that counts at that time, 0: none */
static uint32_t lease_at(const struct lease_page *page, int64_t now_ns)
{
    uint32_t before = atomic_load_explicit(&page->lease, memory_order_acquire);
    int64_t until_ns = atomic_load_explicit(&page->until_ns, memory_order_acquire);
    uint32_t after = atomic_load_explicit(&page->lease, memory_order_acquire);

    /* while it changes there is none */
    return before == after && now_ns < until_ns ? before : 0;
}

uint32_t inphase_lease_page_get(const inphase_segment *segment)
{
    return lease_at((const void *)segment->memory, inphase_now());
}

/* ---- the core's side ------------------------------------------------------------------------- */

int inphase_core_lease_page(inphase_core *core, const inphase_segment *segment)
{
    const struct lease_page *page = (const void *)segment->memory;

    if (core->started)
        return -EBUSY;
    if (segment->size < sizeof *page || page->magic != MAGIC ||
        page->version != STORE_VERSION || page->epoch != core->epoch)
        return -EPROTO;
    core->lease_page = page;
    return 0;
}

bool lease_is_idle(const struct inphase_core *core)
{
    return core->lease_page && core->lease == 0;
}

void lease_look(struct inphase_core *core, int64_t now_ns)
{
    uint32_t lease = core->lease_page ? lease_at(core->lease_page, now_ns) : 0;

    /* it ended, or is another's: what it asked for moves nothing any more, and the robot ramps */
    if (core->lease && lease != core->lease) {
        core->lease = 0;
        begin_epoch(core);
        for (uint32_t i = 0; i < core->actuators; i++)
            core->actuator[i].engaged = core->actuator[i].approaching = false;
    }

    /* another begins: its first command starts from rest, with the next frame */
    if (lease && !core->lease && all_at_rest(core)) {
        core->lease = lease;
        begin_epoch(core);
    }
}
