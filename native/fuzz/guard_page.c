/* The guard's page, left by a runtime that has gone wrong: the guard takes it or not, and what it
   then sends stays in the page and within a packet. Input: whether the page changes while it is
   read, then words of a good page that are changed. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/guard_page.h"
#include "../src/store.h"
#include "fuzz.h"

#define ROOM 64 /* of a stop */

/* a page as the core makes it: two actuators, whose stops are of ROOM bytes */
static struct guard_page *good_page(uint64_t *size)
{
    struct inphase_ring ring = {.depth = GUARD_RECORDS};
    struct guard_record record = {.size = {ROOM, ROOM}};
    struct guard_page *page;

    ring.payload = offsetof(struct guard_record, bytes) + 2 * ROOM;
    ring.stride = ring_stride(ring.payload);
    ring.offset = (sizeof *page + 63) & ~63ULL;
    *size = ring.offset + ring.depth * ring.stride;
    page = aligned_alloc(64, (*size + 63) & ~63ULL);
    CHECK(page);
    memset(page, 0, *size);
    page->layout = (struct guard_layout){
        .magic = GUARD_MAGIC, .version = GUARD_VERSION, .actuators = 2, .size = *size,
        .max_hold_ns = 20000000, .ring = ring,
        .stop = {{.room = ROOM}, {.offset = ROOM, .room = ROOM, .gap_ns = 100000}}};
    for (uint64_t number = 0; number < GUARD_RECORDS; number++)
        slot_write(ring_slot((uint8_t *)page, &ring, number), number, &record, ring.payload);
    atomic_store(&page->head, GUARD_RECORDS);
    atomic_store(&page->moving, 3);
    return page;
}

struct change {
    struct input input;
    uint8_t *memory;
    uint64_t size;
};

static void *disturb(void *argument)
{
    struct change *change = argument;

    take_patches(&change->input, change->memory, change->size, 256);
    return NULL;
}

/* every byte that would be sent is read, so that a sanitizer sees where it lies */
static void check_stops(const struct guard_layout *layout, const struct guard_record *record)
{
    volatile uint8_t seen;

    for (uint32_t i = 0; i < layout->actuators; i++) {
        CHECK(record->size[i] <= layout->stop[i].room);
        CHECK(layout->stop[i].room <= INPHASE_MAX_PACKET);
        for (uint32_t at = 0; at < record->size[i]; at++)
            seen = record->bytes[layout->stop[i].offset + at];
    }
    (void)seen;
}

static void judge(struct input *input, int64_t max_hold_ns)
{
    struct guard_view view = {
        .moving = take_byte(input), .beat_ns = (int64_t)take_word(input),
        .awake_ns = (int64_t)take_word(input), .forgiven_beat_ns = (int64_t)take_word(input),
        .held_beat_ns = (int64_t)take_word(input), .held_until_ns = (int64_t)take_word(input)};
    int64_t now_ns = (int64_t)(take_word(input) >> 2), until_ns;
    enum guard_verdict verdict;

    guard_woke(&view, now_ns - (int64_t)(take_word(input) >> 4), now_ns, max_hold_ns);
    verdict = guard_judge(&view, max_hold_ns, now_ns, &until_ns);
    CHECK(verdict <= GUARD_LEAVE);

    /* it never goes to sleep for longer than it may, so that the next look comes in time */
    if (verdict == GUARD_WAIT)
        CHECK(until_ns >= now_ns - 1 && until_ns <= now_ns + 2 * max_hold_ns + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, size};
    bool is_disturbed = take_byte(&input) & 1;
    struct guard_record *record = malloc(sizeof *record);
    struct guard_layout layout;
    struct change change = {.input = input};
    struct guard_page *page;
    pthread_t other;

    page = good_page(&change.size);
    change.memory = (uint8_t *)page;
    CHECK(record);
    memset(record, 0, sizeof *record);
    if (is_disturbed)
        CHECK_EQUAL(pthread_create(&other, NULL, disturb, &change), 0);
    else
        disturb(&change);
    for (int i = 0; i < (is_disturbed ? 64 : 1); i++)
        if (guard_page_take(page, change.size, &layout)) {
            CHECK(layout.max_hold_ns > 0 && layout.max_hold_ns <= GUARD_LONGEST_NS);
            judge(&input, layout.max_hold_ns);
            if (guard_page_record(page, &layout, record))
                check_stops(&layout, record);
        }
    if (is_disturbed)
        pthread_join(other, NULL);
    free(page);
    free(record);
    return 0;
}
