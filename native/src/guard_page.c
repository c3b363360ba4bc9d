/* Reading the guard's page, and judging it. In the guard's process; pure except for reading. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "guard_page.h"
#include "store.h"

#define READS 4

_Static_assert(sizeof(struct guard_record) % 8 == 0 && sizeof(struct guard_layout) % 8 == 0,
               "both are words");

/* word by word: each is whole, whoever writes */
static void copy_words(void *to, const void *from, size_t size)
{
    const uint64_t *words = from;
    uint64_t word;

    for (size_t i = 0; i < size / 8; i++) {
        word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
        memcpy((uint8_t *)to + 8 * i, &word, 8);
    }
}

static bool is_duration(int64_t ns)
{
    return ns >= 0 && ns <= GUARD_LONGEST_NS;
}

static bool layout_fits(const struct guard_layout *layout, uint64_t size)
{
    if (layout->magic != GUARD_MAGIC || layout->version != GUARD_VERSION ||
        layout->size != size || layout->actuators > INPHASE_MAX_ACTUATORS ||
        layout->max_hold_ns == 0 || !is_duration(layout->max_hold_ns) ||
        layout->ring.depth != GUARD_RECORDS || layout->ring.payload % 8 ||
        layout->ring.payload < offsetof(struct guard_record, bytes) ||
        layout->ring.payload > sizeof(struct guard_record) || !ring_fits(&layout->ring, size))
        return false;
    for (uint32_t i = 0; i < layout->actuators; i++) {
        const struct guard_stop *stop = &layout->stop[i];
        uint64_t end = offsetof(struct guard_record, bytes) + (uint64_t)stop->offset + stop->room;

        if (stop->room > INPHASE_MAX_PACKET || end > layout->ring.payload ||
            stop->chunk > INPHASE_MAX_PACKET || !is_duration(stop->gap_ns) ||
            !is_duration(stop->wire_ns))
            return false;
    }
    return true;
}

bool guard_page_take(const struct guard_page *page, uint64_t size, struct guard_layout *layout)
{
    if (size < sizeof *page)
        return false;
    copy_words(layout, &page->layout, sizeof *layout);
    return layout_fits(layout, size);
}

/* the sizes lie within the bounds of its writer, whatever happened to the page */
static bool record_holds(const struct guard_layout *layout, const struct guard_record *record)
{
    for (uint32_t i = 0; i < layout->actuators; i++)
        if (record->size[i] > layout->stop[i].room)
            return false;
    return true;
}

bool guard_page_record(const struct guard_page *page, const struct guard_layout *layout,
                       struct guard_record *record)
{
    uint8_t *memory = (uint8_t *)(uintptr_t)page;

    /* the slot that head names is whole unless its writer came round meanwhile: look again */
    for (int i = 0; i < READS; i++) {
        uint64_t head = atomic_load_explicit(&page->head, memory_order_acquire);

        if (head == 0)
            return false;
        if (slot_read(ring_slot(memory, &layout->ring, head - 1), head - 1, record,
                      layout->ring.payload))
            return record_holds(layout, record);
    }
    return false;
}

enum guard_verdict guard_judge(const struct guard_view *view, int64_t max_hold_ns, int64_t now_ns,
                               int64_t *until_ns)
{
    int64_t since_ns = view->beat_ns;

    if (view->beat_ns == view->forgiven_beat_ns && view->awake_ns > since_ns)
        since_ns = view->awake_ns;
    *until_ns = now_ns + max_hold_ns;
    if (view->is_dead)
        return view->moving ? GUARD_DIED : GUARD_LEAVE;
    if (!view->moving)
        return view->is_left ? GUARD_LEAVE : GUARD_WAIT;
    if (view->beat_ns == view->held_beat_ns && view->beat_ns != INPHASE_ABSENT &&
        now_ns < view->held_until_ns)
        return GUARD_WAIT;

    /* nothing overflows: the beat may be any number. A beat of the future is no beat */
    if (since_ns < now_ns - max_hold_ns || since_ns > now_ns + max_hold_ns)
        return GUARD_FROZEN;
    *until_ns = since_ns + max_hold_ns + 1;
    return GUARD_WAIT;
}

void guard_woke(struct guard_view *view, int64_t until_ns, int64_t now_ns, int64_t max_hold_ns)
{
    if (now_ns - until_ns <= max_hold_ns / 2 || view->beat_ns == view->forgiven_beat_ns)
        return;
    view->forgiven_beat_ns = view->beat_ns;
    view->awake_ns = now_ns;
}

bool guard_spares(const struct guard_view *view, uint32_t actuators, uint32_t emulated)
{
    return actuators > 0 && emulated == (uint32_t)((1ULL << actuators) - 1) &&
           view->beat_ns != view->held_beat_ns;
}
