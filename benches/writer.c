/* Writes the product's store from a bench: the layout of native/src/layout.c and the publishing of
   native/src/cycle.c, with payloads larger than the core's own sensors have. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../native/src/mailbox.h"
#include "../native/src/relaxed.h"
#include "../native/src/relay.h"
#include "../native/src/state.h"
#include "../native/src/statistics.h"
#include "../native/src/store.h"
#include "shared.h"

struct bench_store {
    inphase_segment *segment;
    inphase_segment *mailbox, *bell; /* of a policy, NULL: there is none */
    struct relay relay;
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
    return relay_start(&store->relay, store->state);
}

void bench_store_close(bench_store *store)
{
    relay_end(&store->relay);
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
    int64_t *echo_ns, *rung_ns;
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
    return latched_ns;
}

/* as well; ns that it takes the writer */
static int64_t ring(bench_store *store, uint64_t number)
{
    _Atomic uint32_t *bell = store->bell ? (void *)store->bell->memory : NULL;
    int64_t before_ns = bench_now();

    relay_ring(&store->relay, bell, (uint32_t)(number + 1));
    return bench_now() - before_ns;
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
        block->rung_ns[i] = ring(block->store, number);
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

int bench_store_block(bench_store *store, const struct bench_grid *grid, int64_t *echo_ns,
                      int64_t *rung_ns)
{
    const struct mailbox *mailbox =
        store->mailbox ? (const void *)store->mailbox->memory : NULL;
    struct block block = {{*grid, block_body, 0}, store, mailbox, echo_ns, rung_ns};

    if (grid->act_ns && !mailbox)
        return -EINVAL;
    return bench_run(&block.run);
}

/* ---- followers ---------------------------------------------------------------------------- */

/* one local reader, as a process that waits for each frame */
static void follow(const bench_store *store)
{
    int fd = inphase_segment_fd(store->segment);
    inphase_reader *reader;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (inphase_reader_open(&reader, &fd, 1, 0) < 0)
        _exit(1);
    for (;;)
        inphase_reader_next(reader, 0, 1000000000);
}

int bench_followers_start(const bench_store *store, int32_t count, int32_t *pids)
{
    for (int32_t i = 0; i < count; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            follow(store);
        if (pids[i] < 0)
            return -errno;
    }
    return 0;
}

void bench_followers_end(int32_t count, const int32_t *pids)
{
    for (int32_t i = 0; i < count; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
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
