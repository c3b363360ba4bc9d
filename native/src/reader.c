/* Readers of a store: they follow frames, use samples in place or copy them, and read the
   statistics. A reader maps the segment read-only and checks everything before it uses it. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "post.h"
#include "reader.h"
#include "relaxed.h"
#include "state.h"
#include "statistics.h"
#include "store.h"

#define WRITER_CHECK_NS 100000000LL /* how often a waiting reader asks whether the writer lives */

struct inphase_reader {
    inphase_segment *segment;
    struct inphase_layout layout;        /* our copy: what was checked, whatever the writer does */
    const struct state *state;
    const uint32_t *wake;                /* the word that it waits on: the store's, or a bell's */
    const struct statistics *statistics;
    inphase_segment *outside[INPHASE_MAX_SENSORS]; /* a worker's segment, NULL: it has none */
    uint64_t next;       /* number of the frame to return next */
    uint8_t record[];
};

/* is it a layout of this version, with all parts inside the segment? */
static bool layout_holds(const struct inphase_layout *layout, uint64_t size)
{
    if (layout->magic != MAGIC || layout->version != STORE_VERSION || layout->size != size ||
        layout->sensors > INPHASE_MAX_SENSORS)
        return false;
    for (uint32_t i = 0; i < layout->sensors; i++)
        if (!(layout->outside >> i & 1) && !ring_fits(&layout->samples[i], size))
            return false;
    for (uint32_t i = 0; i < INPHASE_MAX_ACTUATORS; i++)
        if (layout->orders[i].depth && !ring_fits(&layout->orders[i], size))
            return false;
    return ring_fits(&layout->frames, size) &&
           layout->frames.payload >=
               sizeof(struct inphase_frame) + layout->sensors * sizeof(struct inphase_row) &&
           part_fits(layout->description_offset, layout->description_size, size) &&
           part_fits(layout->state_offset, sizeof(struct state), size) &&
           layout->state_offset % _Alignof(struct state) == 0 &&
           part_fits(layout->statistics_offset, layout->statistics_size, size) &&
           layout->statistics_size >=
               sizeof(struct statistics) +
                   (INPHASE_HIST_SENSORS + layout->sensors) * sizeof(struct histogram);
}

bool layout_copy(struct inphase_layout *to, const inphase_segment *segment)
{
    const uint64_t *from = (const void *)segment->memory;
    uint64_t word;

    /* acquire: nothing else in the layout is read before the mark was seen */
    if (segment->size < sizeof *to || __atomic_load_n(from, __ATOMIC_ACQUIRE) != MAGIC)
        return false;
    for (size_t i = 0; i < sizeof *to / 8; i++) {
        word = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
        memcpy((uint8_t *)to + 8 * i, &word, 8);
    }
    return layout_holds(to, segment->size);
}

static void close_outside(inphase_reader *reader)
{
    for (uint32_t i = 0; i < reader->layout.sensors; i++)
        if (reader->outside[i])
            inphase_segment_close(reader->outside[i]);
}

/* the segments of the sensors that have a worker, beside the core's, in their order */
static int open_outside(inphase_reader *reader, const int *fds, uint32_t count)
{
    uint32_t next = 0;
    int rc = 0;

    for (uint32_t i = 0; i < reader->layout.sensors && rc == 0; i++) {
        if (!(reader->layout.outside >> i & 1))
            continue;
        if (next == count)
            return -EPROTO;
        rc = inphase_segment_map(&reader->outside[i], fds[next++], 0);
        if (rc == 0 && !post_of(reader->outside[i], &reader->layout, i))
            rc = -EPROTO;
    }
    return rc;
}

static const struct slot *sample_slot(const inphase_reader *reader, uint32_t sensor,
                                      int64_t sequence)
{
    uint8_t *memory = reader->outside[sensor] ? reader->outside[sensor]->memory
                                              : reader->segment->memory;

    return ring_slot(memory, &reader->layout.samples[sensor], (uint64_t)sequence);
}

const void *reader_sample(const inphase_reader *reader, uint32_t sensor, int64_t sequence)
{
    if (sensor >= reader->layout.sensors || sequence < 0)
        return NULL;
    return sample_slot(reader, sensor, sequence)->payload;
}

int inphase_reader_open(inphase_reader **out, const int *fds, uint32_t count, int from_first)
{
    struct inphase_layout layout;
    inphase_segment *segment;
    inphase_reader *reader;
    int rc = count ? inphase_segment_map(&segment, fds[0], 0) : -EPROTO;

    if (rc < 0)
        return rc;
    rc = -EPROTO;
    if (!layout_copy(&layout, segment))
        goto close_segment;
    reader = calloc(1, sizeof *reader + layout.frames.payload);
    rc = -ENOMEM;
    if (!reader)
        goto close_segment;
    reader->segment = segment;
    reader->layout = layout;
    reader->state = (const void *)(segment->memory + layout.state_offset);
    reader->wake = (const uint32_t *)&reader->state->wake;
    reader->statistics = (const void *)(segment->memory + layout.statistics_offset);
    rc = open_outside(reader, fds + 1, count - 1);
    if (rc < 0)
        goto free_reader;
    reader->next = atomic_load_explicit(&reader->state->head, memory_order_acquire);
    if (from_first)
        reader->next -= reader->next < layout.frames.depth ? reader->next
                                                           : layout.frames.depth - 1;
    *out = reader;
    return 0;

free_reader:
    close_outside(reader);
    free(reader);
close_segment:
    inphase_segment_close(segment);
    return rc;
}

int inphase_reader_bell(inphase_reader *reader, const inphase_segment *bell)
{
    if (bell && bell->size < BELL_BYTES)
        return -EPROTO;
    reader->wake = bell ? (const void *)bell->memory
                        : (const uint32_t *)&reader->state->wake;
    return 0;
}

void inphase_reader_close(inphase_reader *reader)
{
    if (!reader)
        return;
    close_outside(reader);
    inphase_segment_close(reader->segment);
    free(reader);
}

const struct inphase_layout *inphase_reader_layout(inphase_reader *reader)
{
    return &reader->layout;
}

const void *inphase_reader_record(inphase_reader *reader)
{
    return reader->record;
}

/* is the writer gone, and no frame left? */
static bool has_ended(const inphase_reader *reader)
{
    return writer_alive(reader->segment->fd) == 0 &&
           atomic_load_explicit(&reader->state->head, memory_order_acquire) <= reader->next;
}

/* wait until frame number reader->next exists */
static int wait_for_frame(inphase_reader *reader, int64_t timeout_ns)
{
    const struct state *state = reader->state;
    int64_t until = deadline_after(timeout_ns);

    while (atomic_load_explicit(&state->head, memory_order_acquire) <= reader->next) {
        uint32_t seen = __atomic_load_n(reader->wake, __ATOMIC_ACQUIRE);
        int64_t left = until - inphase_now();
        int rc;

        if (atomic_load_explicit(&state->head, memory_order_acquire) > reader->next)
            break;
        if (left <= 0)
            return has_ended(reader) ? -EPIPE : -ETIMEDOUT;
        rc = inphase_futex_wait(reader->wake, seen,
                                left < WRITER_CHECK_NS ? left : WRITER_CHECK_NS);
        if (rc == -EINTR)
            return rc;
        if (rc == -ETIMEDOUT && has_ended(reader))
            return -EPIPE;
    }
    return 0;
}

int64_t inphase_reader_next(inphase_reader *reader, int newest, int64_t timeout_ns)
{
    const struct inphase_ring *ring = &reader->layout.frames;
    uint64_t wanted = reader->next;
    int rc = wait_for_frame(reader, timeout_ns);

    if (rc < 0)
        return rc;

    /* at most depth tries: each failure means that the writer came round, so go on with what is
       newest; a writer that died in mid-write leaves its slot out of reach of this loop */
    for (uint64_t tries = 0; tries < ring->depth; tries++) {
        uint64_t head = atomic_load_explicit(&reader->state->head, memory_order_acquire);
        uint64_t number = reader->next;

        if (newest)
            number = head - 1;
        else if (head - number >= ring->depth)
            number = head - ring->depth / 2;
        reader->next = number;
        if (slot_read(ring_slot(reader->segment->memory, ring, number), number, reader->record,
                      ring->payload)) {
            reader->next = number + 1;
            return (int64_t)(number - wanted);
        }
    }
    return -EPIPE;
}

/* the newest frame from reader->next up to head that is of such a cycle, into record; its number,
   or -1: none is. At most depth looks */
static int64_t find_due(inphase_reader *reader, uint64_t head, int64_t every)
{
    const struct inphase_ring *ring = &reader->layout.frames;
    const struct inphase_frame *frame = (const void *)reader->record;
    uint64_t first = head - reader->next < ring->depth ? reader->next : head - ring->depth + 1;

    for (uint64_t number = head; number-- > first;)
        if (slot_read(ring_slot(reader->segment->memory, ring, number), number, reader->record,
                      ring->payload) &&
            frame->cycle % every == 0)
            return (int64_t)number;
    return -1;
}

int64_t inphase_reader_due(inphase_reader *reader, int64_t every, int64_t timeout_ns)
{
    int64_t until = deadline_after(timeout_ns);
    uint64_t lost = 0;

    if (every == 1)
        return inphase_reader_next(reader, 1, timeout_ns);
    for (;;) {
        int64_t left_ns = until - inphase_now(), number;
        int rc = wait_for_frame(reader, left_ns > 0 ? left_ns : 0);
        uint64_t head;

        if (rc < 0)
            return rc;
        head = atomic_load_explicit(&reader->state->head, memory_order_acquire);
        number = find_due(reader, head, every);
        if (number >= 0) {
            lost += (uint64_t)number - reader->next;
            reader->next = (uint64_t)number + 1;
            return (int64_t)lost;
        }
        lost += head - reader->next;
        reader->next = head;
    }
}

int64_t inphase_reader_number(inphase_reader *reader)
{
    /* another process may have left any number there, so it wraps before it gets a sign */
    return (int64_t)(reader->next - 1);
}

int64_t reader_newest(const inphase_reader *reader)
{
    return (int64_t)(atomic_load_explicit(&reader->state->head, memory_order_acquire) - 1);
}

int inphase_reader_past(inphase_reader *reader, int64_t number, void *to)
{
    const struct inphase_ring *ring = &reader->layout.frames;

    if (number < 0)
        return -EINVAL;
    return slot_read(ring_slot(reader->segment->memory, ring, (uint64_t)number), (uint64_t)number,
                     to, ring->payload)
               ? 0
               : -ESTALE;
}

int inphase_reader_intact(inphase_reader *reader, uint32_t sensor, int64_t sequence)
{
    const struct slot *slot;

    if (sensor >= reader->layout.sensors || sequence < 0)
        return 0;
    slot = sample_slot(reader, sensor, sequence);

    /* what was read from the slot so far stays before this look at its sequence */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&slot->sequence, memory_order_relaxed) ==
           2 * (uint64_t)sequence + 2;
}

int inphase_reader_whole(inphase_reader *reader, const uint8_t *record)
{
    const uint8_t *row = record + sizeof(struct inphase_frame);
    int64_t sequence;

    for (uint32_t i = 0; i < reader->layout.sensors; i++, row += sizeof(struct inphase_row)) {
        memcpy(&sequence, row + offsetof(struct inphase_row, sequence), sizeof sequence);
        if (sequence >= 0 && !inphase_reader_intact(reader, i, sequence))
            return 0;
    }
    return 1;
}

int inphase_reader_copy(inphase_reader *reader, uint32_t sensor, int64_t sequence, void *to)
{
    if (sensor >= reader->layout.sensors || sequence < 0)
        return -EINVAL;
    return slot_read(sample_slot(reader, sensor, sequence), (uint64_t)sequence, to,
                     reader->layout.samples[sensor].payload)
               ? 0
               : -ESTALE;
}

int inphase_reader_quantiles(inphase_reader *reader, uint32_t histogram,
                             struct inphase_quantiles *out)
{
    if (histogram >= INPHASE_HIST_SENSORS + reader->layout.sensors)
        return -EINVAL;
    histogram_quantiles(&reader->statistics->histogram[histogram], out);
    return 0;
}

int64_t reader_epoch(const inphase_reader *reader)
{
    return load_i64(&reader->state->epoch);
}

int inphase_reader_status(inphase_reader *reader, struct inphase_status *out)
{
    const struct state *state = reader->state;

    *out = (struct inphase_status){
        .start_ns = load_i64(&state->start_ns),
        .cycle = load_i64(&state->cycle),
        .cycles = load_i64(&state->cycles),
        .stopping_cycles = load_i64(&state->stopping_cycles),
        .skipped = load_i64(&state->skipped),
        .overruns = load_i64(&state->overruns),
        .page_faults = load_i64(&state->page_faults),
        .state = load_u32(&state->state),
        .reason = load_u32(&state->reason),
        .detail = load_u32(&state->detail),
        .latched = load_u32(&state->latched),
        .latched_detail = load_u32(&state->latched_detail),
        .refusal = load_u32(&state->refusal),
        .refusal_detail = load_u32(&state->refusal_detail),
        .estop = load_u32(&state->estop),
        .reason_cycle = load_i64(&state->reason_cycle),
        .epoch = load_i64(&state->epoch),
        .estops = load_u32(&state->estops),
        .lost_devices = load_u32(&state->lost_devices),
        .paced = load_u32(&state->paced),
        .unpaced = load_i64(&state->unpaced),
        .missed_packets = load_i64(&state->missed_packets),
        .pace_drift_ppb = load_i64(&state->pace_drift_ppb),
        .thread_id = atomic_load_explicit(&state->thread_id, memory_order_relaxed),
    };
    return 0;
}

int inphase_reader_realtime(inphase_reader *reader, struct inphase_realtime *out)
{
    const struct state *state = reader->state;

    *out = (struct inphase_realtime){
        .priority = atomic_load_explicit(&state->rt_priority, memory_order_relaxed),
        .priority_errno = atomic_load_explicit(&state->rt_priority_errno, memory_order_relaxed),
        .cpu = atomic_load_explicit(&state->rt_cpu, memory_order_relaxed),
        .cpu_errno = atomic_load_explicit(&state->rt_cpu_errno, memory_order_relaxed),
        .memory_errno = atomic_load_explicit(&state->rt_memory_errno, memory_order_relaxed),
        .granted = atomic_load_explicit(&state->rt_granted, memory_order_relaxed),
    };
    return 0;
}

int inphase_reader_counts(inphase_reader *reader, struct inphase_counts *out)
{
    const _Atomic int64_t *from = reader->statistics->counts;
    int64_t to[sizeof *out / sizeof(int64_t)];

    _Static_assert(sizeof to == sizeof reader->statistics->counts, "one count per enum count");
    for (size_t i = 0; i < sizeof to / sizeof *to; i++)
        to[i] = load_i64(&from[i]);
    memcpy(out, to, sizeof to);
    return 0;
}

int inphase_reader_host(inphase_reader *reader, struct inphase_host_counts *out)
{
    const struct slot *slot = (const struct slot *)reader->state->host;
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);

    if (!sequence)
        return -ENODATA;
    return slot_read(slot, sequence / 2 - 1, out, sizeof *out) ? 0 : -EAGAIN;
}

int inphase_reader_late(inphase_reader *reader, uint64_t number, struct inphase_late *out)
{
    const struct slot *slot = (const struct slot *)reader->state->late[number % INPHASE_LATE_KEPT];

    if (number >= inphase_reader_lates(reader))
        return -ENODATA;
    return slot_read(slot, number, out, sizeof *out) ? 0 : -ESTALE;
}

uint64_t inphase_reader_lates(inphase_reader *reader)
{
    return atomic_load_explicit(&reader->state->lates, memory_order_acquire);
}

int inphase_reader_statuses(inphase_reader *reader, int64_t *counts)
{
    for (uint32_t i = 0; i < reader->layout.sensors; i++)
        for (uint32_t s = 0; s < INPHASE_STATUSES; s++)
            counts[i * INPHASE_STATUSES + s] = load_i64(&reader->statistics->statuses[i][s]);
    return (int)reader->layout.sensors;
}

int inphase_reader_worker(inphase_reader *reader, uint32_t sensor,
                          struct inphase_worker_facts *out)
{
    const struct post *post;

    if (sensor >= reader->layout.sensors || !reader->outside[sensor])
        return -ENOENT;
    post = (const void *)reader->outside[sensor]->memory;
    for (size_t i = 0; i < sizeof *out / 8; i++) {
        int64_t fact = load_i64(&post->fact[i]);

        memcpy((uint8_t *)out + 8 * i, &fact, 8);
    }
    return 0;
}

int inphase_reader_clock(inphase_reader *reader, uint32_t sensor, struct inphase_clock_facts *out)
{
    const _Atomic int64_t *told;

    if (sensor >= reader->layout.sensors)
        return -ENOENT;
    told = reader->statistics->clock[sensor];
    *out = (struct inphase_clock_facts){
        .drift_ppb = load_i64(&told[0]),
        .drift_error_ppb = load_i64(&told[1]),
        .error_ns = load_i64(&told[2]),
        .taken = load_i64(&told[3]),
        .rejected = load_i64(&told[4]),
        .resets = load_i64(&told[5]),
    };
    return out->taken + out->rejected ? 0 : -ENOENT;
}

int inphase_reader_reasons(inphase_reader *reader, int64_t *counts)
{
    for (uint32_t i = 0; i < INPHASE_REASONS; i++)
        counts[i] = load_i64(&reader->statistics->reasons[i]);
    return INPHASE_REASONS;
}

int inphase_reader_travel(inphase_reader *reader, uint32_t actuator, uint32_t channels,
                          struct inphase_travel *out)
{
    if (actuator >= INPHASE_MAX_ACTUATORS || channels > INPHASE_MAX_CHANNELS)
        return -ENOENT;
    for (uint32_t c = 0; c < channels; c++) {
        const struct travel *travel = &reader->statistics->travel[actuator][c];

        out[c] = (struct inphase_travel){
            .commanded = load_f64(&travel->commanded),
            .measured = load_f64(&travel->measured),
            .since_ns = load_i64(&travel->since_ns),
        };
    }
    return 0;
}

int inphase_reader_worst(inphase_reader *reader, struct inphase_worst *out)
{
    const struct statistics *from = reader->statistics;
    uint32_t count = load_u32(&from->worst_count);

    count = count < INPHASE_WORST ? count : INPHASE_WORST;
    for (uint32_t i = 0; i < count; i++)
        out[i] = (struct inphase_worst){
            .cycle = load_i64(&from->worst_cycle[i]),
            .late_ns = load_i64(&from->worst_late_ns[i]),
            .phase = atomic_load_explicit(&from->worst_phase[i], memory_order_relaxed),
            .device = atomic_load_explicit(&from->worst_device[i], memory_order_relaxed),
        };
    return (int)count;
}
