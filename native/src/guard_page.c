/* The guard's page as it is read, and what follows from it. In the guard's process; pure but for
   reading. */
#include <stddef.h>

#include "guard.h"
#include "internal.h"

#define READS 4

_Static_assert(sizeof(struct guard_record) % 8 == 0, "records are words");

bool guard_page_holds(const struct guard_page *page, uint64_t size)
{
    if (size < sizeof *page || page->magic != GUARD_MAGIC || page->version != GUARD_VERSION ||
        page->size != size || page->actuators > INPHASE_MAX_ACTUATORS || page->max_hold_ns <= 0 ||
        page->ring.depth != GUARD_RECORDS || page->ring.payload % 8 ||
        page->ring.payload < offsetof(struct guard_record, bytes) ||
        page->ring.payload > sizeof(struct guard_record) || !ring_fits(&page->ring, size))
        return false;
    for (uint32_t i = 0; i < page->actuators; i++) {
        const struct guard_stop *stop = &page->stop[i];
        uint64_t end = offsetof(struct guard_record, bytes) + (uint64_t)stop->offset + stop->room;

        if (stop->room > INPHASE_MAX_PACKET || end > page->ring.payload || stop->gap_ns < 0 ||
            stop->wire_ns < 0)
            return false;
    }
    return true;
}

/* the sizes are those that its writer may write, whatever became of it */
static bool record_holds(const struct guard_page *page, const struct guard_record *record)
{
    for (uint32_t i = 0; i < page->actuators; i++)
        if (record->size[i] > page->stop[i].room)
            return false;
    return true;
}

bool guard_page_record(const struct guard_page *page, struct guard_record *record)
{
    uint8_t *memory = (uint8_t *)(uintptr_t)page;

    /* the slot that head names is whole unless its writer came round meanwhile: look again */
    for (int i = 0; i < READS; i++) {
        uint64_t head = atomic_load_explicit(&page->head, memory_order_acquire);

        if (head == 0)
            return false;
        if (slot_read(ring_slot(memory, &page->ring, head - 1), head - 1, record,
                      page->ring.payload))
            return record_holds(page, record);
    }
    return false;
}

enum guard_verdict guard_judge(const struct guard_view *view, int64_t max_hold_ns, int64_t now_ns,
                               int64_t *until_ns)
{
    int64_t since_ns = view->beat_ns > view->awake_ns ? view->beat_ns : view->awake_ns;

    *until_ns = now_ns + max_hold_ns;
    if (view->is_dead)
        return view->moving ? GUARD_DIED : GUARD_LEAVE;
    if (!view->moving)
        return view->is_left ? GUARD_LEAVE : GUARD_WAIT;
    if (view->beat_ns == view->held_beat_ns)
        return GUARD_WAIT;
    if (now_ns - since_ns > max_hold_ns)
        return GUARD_FROZEN;
    *until_ns = since_ns + max_hold_ns + 1;
    return GUARD_WAIT;
}
