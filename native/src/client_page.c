/* The page of clients' wishes. The functions of inphase.h run in the clients' processes; the cycle
   thread only looks, and a number that it does not know is none. */
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

#include "client_page.h"
#include "clock.h"
#include "core.h"
#include "relaxed.h"
#include "store.h"

int inphase_client_page_make(inphase_segment **out, uint64_t epoch)
{
    inphase_segment *segment;
    struct client_page *page;
    int rc = inphase_segment_make(&segment, CLIENT_PAGE_BYTES, 1);

    if (rc < 0)
        return rc;
    page = (void *)segment->memory;
    page->magic = MAGIC;
    page->version = STORE_VERSION;
    page->epoch = epoch;
    return segment_leave(out, segment);
}

int inphase_client_page_estop(inphase_segment *segment)
{
    struct client_page *page = (void *)segment->memory;

    if (!segment->writer)
        return -EPERM;
    atomic_fetch_add_explicit(&page->stops, 1, memory_order_relaxed);
    return 0;
}

/* the word after a wish; negative: why it is refused */
static int64_t episode_after(uint64_t word, uint32_t outcome)
{
    uint64_t number = word >> 8 & UINT32_MAX, before = word & 0xff;

    if (outcome <= INPHASE_EPISODE_NONE || outcome >= INPHASE_EPISODES)
        return -EINVAL;
    if (outcome == INPHASE_EPISODE_RUNNING)
        return before == INPHASE_EPISODE_RUNNING
                   ? -EBUSY
                   : (int64_t)((number + 1) << 8 | outcome);
    if (!number)
        return -ENOENT;
    if (outcome == INPHASE_EPISODE_ENDED && before != INPHASE_EPISODE_RUNNING)
        return -EALREADY;
    return (int64_t)(number << 8 | outcome);
}

int64_t inphase_client_page_episode(inphase_segment *segment, uint32_t outcome)
{
    struct client_page *page = (void *)segment->memory;
    uint64_t before;
    int64_t after;

    if (!segment->writer)
        return -EPERM;
    before = atomic_load_explicit(&page->episode, memory_order_relaxed);
    do {
        after = episode_after(before, outcome);
        if (after < 0)
            return after;
    } while (!atomic_compare_exchange_weak_explicit(&page->episode, &before, (uint64_t)after,
                                                    memory_order_relaxed, memory_order_relaxed));
    return after >> 8;
}

int inphase_core_client_page(inphase_core *core, inphase_segment *segment)
{
    const struct client_page *page = (const void *)segment->memory;

    if (core->started || core->clock == &virtual_clock)
        return -EBUSY;
    if (segment->size < sizeof *page || page->magic != MAGIC || page->version != STORE_VERSION ||
        page->epoch != core->epoch)
        return -EPROTO;
    core->client_page = page;
    core->stops_seen = load_u32(&page->stops);
    return 0;
}

void client_page_tell(const struct client_page *page, struct inphase_frame *frame)
{
    uint64_t word = page ? atomic_load_explicit(&page->episode, memory_order_relaxed) : 0;
    uint32_t outcome = word & 0xff;

    /* another process wrote this */
    if (outcome >= INPHASE_EPISODES)
        return;
    frame->episode = (uint32_t)(word >> 8);
    frame->outcome = outcome;
}
