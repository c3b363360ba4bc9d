/* A store that its writer has gone mad in: whoever follows it reads within the segment and within
   its own buffers, and comes to an end. Input: when the words change, then which ones and to what:
   before the reader opens, between its calls, or all the time. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuzz.h"

#define PERIOD_NS 1000000LL
#define DEPTH 8
#define LOOKS 12

static struct {
    inphase_segment *segment;
    uint8_t *good;               /* the segment's bytes after some cycles */
} store;

/* one core, once: a sensor in the core's ring, frames, statistics */
static void make_store(void)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_twin_channel channel = {.base = 1.5};
    struct inphase_sensor_config sensor = {
        .channels = 1, .every = 1, .payload = 8, .max_age_ns = 10 * PERIOD_NS, .depth = DEPTH,
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4}},
        .twin = {.channel = &channel}};
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = PERIOD_NS / 2, .act_ns = PERIOD_NS / 2,
        .resumed_after_ns = 1000 * PERIOD_NS, .devices = 1, .sensors = 1, .frame_depth = DEPTH,
        .overrun_limit = 10, .virtual_time = 1, .sensor = &sensor,
        .description = "a robot", .description_size = 7};
    inphase_core *core;

    CHECK_EQUAL(inphase_segment_make(&store.segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&core, &config, store.segment), 0);
    CHECK_EQUAL(inphase_core_run(core, 2 * DEPTH), 2 * DEPTH);
    store.good = malloc(inphase_segment_size(store.segment));
    CHECK(store.good);
    memcpy(store.good, inphase_segment_memory(store.segment), inphase_segment_size(store.segment));
    inphase_core_close(core);
}

static struct {
    struct input input;
    _Atomic bool ends;
} change;

static void patch(struct input *input, int most)
{
    take_patches(input, inphase_segment_memory(store.segment),
                 inphase_segment_size(store.segment), most);
}

static void *disturb(void *unused)
{
    struct input again = change.input;

    (void)unused;
    while (!atomic_load(&change.ends)) {
        if (!again.left)
            again = change.input;
        patch(&again, 16);
        if (!change.input.left)
            break;
    }
    return NULL;
}

/* everything that a reader can be asked; buffers have the sizes that its own layout says */
static void look(inphase_reader *reader, void *record, void *payload)
{
    struct inphase_quantiles quantiles;
    struct inphase_status status;
    struct inphase_counts counts;
    struct inphase_clock_facts clock;
    struct inphase_worker_facts worker;
    struct inphase_worst worst[INPHASE_WORST];
    int64_t statuses[INPHASE_MAX_SENSORS * INPHASE_STATUSES], reasons[INPHASE_REASONS];
    const struct inphase_layout *layout = inphase_reader_layout(reader);
    int count;

    inphase_reader_next(reader, 0, 0);
    inphase_reader_next(reader, 1, 0);
    inphase_reader_due(reader, 3, 0);
    inphase_reader_past(reader, (int64_t)((uint64_t)inphase_reader_number(reader) - 2), record);
    for (uint32_t i = 0; i < layout->sensors; i++) {
        int64_t sequence = inphase_reader_number(reader);

        inphase_reader_intact(reader, i, sequence);
        inphase_reader_copy(reader, i, sequence, payload);
        inphase_reader_worker(reader, i, &worker);
        inphase_reader_clock(reader, i, &clock);
    }
    for (uint32_t i = 0; i < INPHASE_HIST_SENSORS + layout->sensors; i++)
        inphase_reader_quantiles(reader, i, &quantiles);
    inphase_reader_status(reader, &status);
    inphase_reader_counts(reader, &counts);
    inphase_reader_reasons(reader, reasons);
    count = inphase_reader_statuses(reader, statuses);
    CHECK(count >= 0 && count <= INPHASE_MAX_SENSORS);
    count = inphase_reader_worst(reader, worst);
    CHECK(count >= 0 && count <= INPHASE_WORST);
}

static void follow(struct input *input)
{
    inphase_reader *reader;
    const struct inphase_layout *layout;
    void *record, *payload;
    uint64_t most = 8;
    int fd = inphase_segment_fd(store.segment);

    if (inphase_reader_open(&reader, &fd, 1, 1) < 0)
        return;
    layout = inphase_reader_layout(reader);
    CHECK(layout->sensors <= INPHASE_MAX_SENSORS);
    for (uint32_t i = 0; i < layout->sensors; i++)
        most = layout->samples[i].payload > most ? layout->samples[i].payload : most;
    record = malloc(layout->frames.payload ? layout->frames.payload : 8);
    payload = malloc(most);
    CHECK(record && payload);
    for (int i = 0; i < LOOKS; i++) {
        look(reader, record, payload);
        if (input)
            patch(input, take_byte(input) % 8);
    }
    free(record);
    free(payload);
    inphase_reader_close(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, size};
    pthread_t other;
    uint8_t when;

    if (!store.segment)
        make_store();
    memcpy(inphase_segment_memory(store.segment), store.good, inphase_segment_size(store.segment));
    when = take_byte(&input) % 3;
    switch (when) {
    case 0:
        patch(&input, 64);
        follow(NULL);
        break;
    case 1:
        follow(&input);
        break;
    default:
        change.input = input;
        atomic_store(&change.ends, false);
        CHECK_EQUAL(pthread_create(&other, NULL, disturb, NULL), 0);
        follow(NULL);
        atomic_store(&change.ends, true);
        pthread_join(other, NULL);
    }
    return 0;
}
