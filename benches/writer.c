/* Writes the product's store from a bench: the layout of native/src/core.c and the publishing of
   native/src/cycle.c, with payloads larger than the core's own sensors have. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "../native/src/internal.h"
#include "shared.h"

struct bench_store {
    inphase_segment *segment;
    inphase_segment *mailbox, *bell; /* of a policy, NULL: there is none */
    struct inphase_layout *layout;
    struct state *state;
    uint64_t *payload[INPHASE_MAX_SENSORS];
    uint8_t *record;
};

_Static_assert(BENCH_BUCKETS == HIST_BUCKETS, "Python makes room for them");

static uint64_t align(uint64_t size)
{
    return (size + 4095) & ~4095ULL;
}

static void lay_out(struct inphase_layout *layout, const uint64_t *payload, uint32_t depth,
                    uint64_t record_size)
{
    uint64_t at = align(sizeof *layout);

    layout->magic = MAGIC;
    layout->version = STORE_VERSION;
    layout->description_offset = at;
    at += align(layout->description_size);
    layout->state_offset = at;
    at += align(sizeof(struct state));
    layout->statistics_offset = at;
    layout->statistics_size = sizeof(struct statistics) +
                              (INPHASE_HIST_SENSORS + layout->sensors) * sizeof(struct histogram);
    at += align(layout->statistics_size);
    layout->frames = (struct inphase_ring){at, ring_stride(record_size), record_size, depth};
    at += align(layout->frames.stride * depth);
    for (uint32_t i = 0; i < layout->sensors; i++) {
        layout->samples[i] =
            (struct inphase_ring){at, ring_stride(payload[i]), payload[i], depth};
        at += align(layout->samples[i].stride * depth);
    }
    layout->size = at;
}

int bench_store_open(bench_store **out, uint64_t epoch, const char *description,
                     uint64_t description_size, uint32_t sensors, const uint64_t *payload,
                     uint32_t depth, uint64_t record_size)
{
    struct inphase_layout layout = {
        .sensors = sensors, .epoch = epoch, .description_size = description_size};
    bench_store *store = calloc(1, sizeof *store);
    int rc;

    lay_out(&layout, payload, depth, record_size);
    rc = inphase_segment_make(&store->segment, layout.size, 0);
    if (rc < 0)
        return rc;
    store->layout = (void *)store->segment->memory;
    *store->layout = layout;
    store->state = (void *)(store->segment->memory + layout.state_offset);
    memcpy(store->segment->memory + layout.description_offset, description, description_size);
    store->record = calloc(1, record_size);
    for (uint32_t i = 0; i < sensors; i++)
        store->payload[i] = calloc(1, payload[i]);
    inphase_segment_publish(store->segment);
    *out = store;
    return 0;
}

void bench_store_close(bench_store *store)
{
    for (uint32_t i = 0; i < store->layout->sensors; i++)
        free(store->payload[i]);
    inphase_segment_close(store->segment);
    inphase_segment_close(store->mailbox);
    inphase_segment_close(store->bell);
    free(store->record);
    free(store);
}

int bench_store_fd(const bench_store *store)
{
    return inphase_segment_fd(store->segment);
}

int bench_store_mailbox(bench_store *store, uint32_t values, int *fds)
{
    int rc = inphase_mailbox_make(&store->mailbox, values, store->layout->epoch);

    if (rc == 0)
        rc = inphase_bell_make(&store->bell);
    if (rc < 0)
        return rc;
    fds[0] = inphase_segment_fd(store->mailbox);
    fds[1] = inphase_segment_fd(store->bell);
    return 0;
}

/* ---- frames ----------------------------------------------------------------------------- */

struct block {
    struct bench_run run;
    bench_store *store;
    const struct mailbox *mailbox;
    int64_t *echo_ns;
};

static void write_samples(bench_store *store, uint64_t number)
{
    for (uint32_t i = 0; i < store->layout->sensors; i++) {
        const struct inphase_ring *ring = &store->layout->samples[i];
        struct slot *slot = ring_slot(store->segment->memory, ring, number);

        /* what slot_write does, without a second buffer to read from */
        atomic_store_explicit(&slot->sequence, 2 * number + 1, memory_order_relaxed);
        for (uint64_t w = 0; w < ring->payload / 8; w++)
            atomic_store_explicit(&slot->payload[w], number, memory_order_release);
        atomic_store_explicit(&slot->sequence, 2 * number + 2, memory_order_release);
    }
}

static int64_t latch(bench_store *store, uint64_t number, int64_t due_ns)
{
    struct inphase_frame *frame = (void *)store->record;
    struct inphase_row *row = (void *)(frame + 1);
    struct state *state = store->state;
    int64_t latched_ns = bench_now();

    for (uint32_t i = 0; i < store->layout->sensors; i++)
        row[i] = (struct inphase_row){.sequence = (int64_t)number,
                                      .triggered_ns = due_ns,
                                      .acquired_ns = due_ns,
                                      .received_ns = latched_ns,
                                      .age_ns = latched_ns - due_ns};
    *frame = (struct inphase_frame){.cycle = (int64_t)number,
                                    .due_ns = due_ns,
                                    .woke_ns = due_ns,
                                    .triggered_ns = due_ns,
                                    .latched_ns = latched_ns,
                                    .acted_cycle = (int64_t)number - 1};

    /* from here on as stage_latch */
    slot_write(ring_slot(store->segment->memory, &store->layout->frames, number), number,
               store->record, store->layout->frames.payload);
    put_i64(&state->cycle, (int64_t)number);
    atomic_store_explicit(&state->head, number + 1, memory_order_release);
    atomic_store_explicit(&state->wake, (uint32_t)(number + 1), memory_order_release);
    if (!store->bell) {
        store_wake(state);
        return latched_ns;
    }
    atomic_store_explicit((_Atomic uint32_t *)store->bell->memory, (uint32_t)(number + 1),
                          memory_order_release);
    futex_wake((_Atomic uint32_t *)store->bell->memory, 1);
    return latched_ns;
}

static int block_body(struct bench_run *run)
{
    struct block *block = (struct block *)run;
    const struct bench_grid *grid = &run->grid;
    int64_t due_ns = bench_now() + 5 * grid->period_ns;
    struct { struct mail mail; double value[INPHASE_MAX_CHANNELS]; } answer;

    for (int i = 0; i < grid->cycles; i++, due_ns += grid->period_ns) {
        uint64_t number = atomic_load_explicit(&block->store->state->head, memory_order_relaxed);
        int64_t latched_ns;

        bench_sleep_until(due_ns);
        write_samples(block->store, number);
        latched_ns = latch(block->store, number, due_ns);
        if (!grid->act_ns)
            continue;
        bench_sleep_until(due_ns + grid->act_ns);
        block->echo_ns[i] = -1;
        if (mailbox_head(block->mailbox) &&
            mailbox_read(block->mailbox, block->mailbox->values,
                         mailbox_head(block->mailbox) - 1, &answer.mail) &&
            answer.mail.cycle == (int64_t)number)
            block->echo_ns[i] = answer.mail.posted_ns - latched_ns;
    }
    return grid->cycles;
}

int bench_store_block(bench_store *store, const struct bench_grid *grid, int64_t *echo_ns)
{
    const struct mailbox *mailbox =
        store->mailbox ? (const void *)store->mailbox->memory : NULL;
    struct block block = {{*grid, block_body, 0}, store, mailbox, echo_ns};

    if (grid->act_ns && !mailbox)
        return -EINVAL;
    return bench_run(&block.run);
}

/* ---- histograms ------------------------------------------------------------------------- */

int bench_buckets(int fd, uint32_t histogram, uint64_t *count, int64_t *top)
{
    const struct inphase_layout *layout;
    const struct statistics *statistics;
    inphase_segment *segment;
    int rc = inphase_segment_map(&segment, fd, 0);

    if (rc < 0)
        return rc;
    layout = (const void *)segment->memory;
    statistics = (const void *)(segment->memory + layout->statistics_offset);
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        uint32_t exponent = (i >> HIST_SUB_BITS) - 1;
        uint64_t within = (i & ((1u << HIST_SUB_BITS) - 1)) + (1u << HIST_SUB_BITS) + 1;

        count[i] = atomic_load_explicit(&statistics->histogram[histogram].bucket[i],
                                        memory_order_relaxed);
        top[i] = i < 1u << HIST_SUB_BITS ? i : (int64_t)((within << exponent) - 1);
    }
    inphase_segment_close(segment);
    return 0;
}
