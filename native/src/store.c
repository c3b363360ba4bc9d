/* The store: segments, rings of sequence-locked slots, readers and the policy's mailbox.

   A slot's sequence is odd while it is written. Words are stored with release and loaded with
   acquire order, so that a reader that sees any word of a newer write also sees a newer sequence:
   no fences are needed for copies, also on machines that reorder (tests/test_sequence_lock.py
   checks it with a model). Readers never own anything: the writer cannot be held up. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define WRITER_CHECK_NS 100000000LL /* how often a waiting reader asks whether the writer lives */

/* ---- segments --------------------------------------------------------------------------- */

static int lock_byte(int fd, int command, short type, short *found)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

    if (fcntl(fd, command, &lock) < 0)
        return -errno;
    if (found)
        *found = lock.l_type;
    return 0;
}

int inphase_segment_create(inphase_segment **out, const char *path, uint64_t size, uint32_t mode,
                           int32_t gid)
{
    inphase_segment *segment = calloc(1, sizeof *segment);
    int rc;

    if (!segment)
        return -ENOMEM;
    if (strlen(path) >= sizeof segment->path) {
        rc = -ENAMETOOLONG;
        goto free_segment;
    }
    strcpy(segment->path, path);
    segment->size = size;
    segment->writer = true;
    segment->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0700);
    if (segment->fd < 0) {
        rc = -errno;
        goto free_segment;
    }

    /* owner and mode, whatever the umask; the lock, which says that the writer lives */
    if ((gid >= 0 && fchown(segment->fd, (uid_t)-1, (gid_t)gid) < 0) ||
        fchmod(segment->fd, mode) < 0) {
        rc = -errno;
        goto unlink_file;
    }
    rc = lock_byte(segment->fd, F_OFD_SETLK, F_WRLCK, NULL);
    if (rc < 0)
        goto unlink_file;

    /* all of it now: a small /dev/shm is an error here and no SIGBUS later */
    rc = -posix_fallocate(segment->fd, 0, (off_t)size);
    if (rc < 0)
        goto unlink_file;
    segment->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                           segment->fd, 0);
    if (segment->memory == MAP_FAILED) {
        rc = -errno;
        goto unlink_file;
    }
    *out = segment;
    return 0;

unlink_file:
    unlink(path);
    close(segment->fd);
free_segment:
    free(segment);
    return rc;
}

int inphase_segment_attach(inphase_segment **out, const char *path)
{
    inphase_segment *segment = calloc(1, sizeof *segment);
    struct stat facts;
    int rc;

    if (!segment)
        return -ENOMEM;
    segment->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (segment->fd < 0) {
        rc = -errno;
        goto free_segment;
    }
    if (fstat(segment->fd, &facts) < 0) {
        rc = -errno;
        goto close_file;
    }
    segment->size = (uint64_t)facts.st_size;
    if (segment->size < sizeof(struct inphase_layout)) {
        rc = -EPROTO;
        goto close_file;
    }
    segment->memory = mmap(NULL, segment->size, PROT_READ, MAP_SHARED | MAP_POPULATE,
                           segment->fd, 0);
    if (segment->memory == MAP_FAILED) {
        rc = -errno;
        goto close_file;
    }
    strncpy(segment->path, path, sizeof segment->path - 1);
    *out = segment;
    return 0;

close_file:
    close(segment->fd);
free_segment:
    free(segment);
    return rc;
}

void inphase_segment_close(inphase_segment *segment)
{
    if (!segment)
        return;
    if (segment->writer)
        unlink(segment->path);
    munmap(segment->memory, segment->size);
    close(segment->fd);
    free(segment);
}

void *inphase_segment_memory(inphase_segment *segment)
{
    return segment->memory;
}

uint64_t inphase_segment_size(inphase_segment *segment)
{
    return segment->size;
}

static int writer_alive(int fd)
{
    short found = F_UNLCK;
    int rc = lock_byte(fd, F_OFD_GETLK, F_RDLCK, &found);

    return rc < 0 ? rc : found != F_UNLCK;
}

int inphase_segment_alive(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int rc;

    if (fd < 0)
        return -errno;
    rc = writer_alive(fd);
    close(fd);
    return rc;
}

void inphase_segment_publish(inphase_segment *segment)
{
    struct inphase_layout *layout = (void *)segment->memory;

    /* release: whoever sees the mark sees the whole layout */
    __atomic_store_n(&layout->magic, MAGIC, __ATOMIC_RELEASE);
}

/* ---- rings ------------------------------------------------------------------------------ */

uint64_t ring_stride(uint64_t payload)
{
    return SLOT_HEADER + ((payload + 63) & ~63ULL);
}

struct slot *ring_slot(uint8_t *memory, const struct inphase_ring *ring, uint64_t number)
{
    return (struct slot *)(memory + ring->offset + (number & (ring->depth - 1)) * ring->stride);
}

void slot_write(struct slot *slot, uint64_t number, const void *payload, uint64_t size)
{
    const uint8_t *from = payload;
    uint64_t word;

    atomic_store_explicit(&slot->sequence, 2 * number + 1, memory_order_relaxed);

    /* release on every word: none of them is seen before the odd sequence */
    for (uint64_t i = 0; i < size / 8; i++) {
        memcpy(&word, from + 8 * i, 8);
        atomic_store_explicit(&slot->payload[i], word, memory_order_release);
    }
    atomic_store_explicit(&slot->sequence, 2 * number + 2, memory_order_release);
}

bool slot_read(const struct slot *slot, uint64_t number, void *payload, uint64_t size)
{
    uint8_t *to = payload;
    uint64_t word;

    if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != 2 * number + 2)
        return false;

    /* acquire on every word: the second look at the sequence is not made before them */
    for (uint64_t i = 0; i < size / 8; i++) {
        word = atomic_load_explicit(&slot->payload[i], memory_order_acquire);
        memcpy(to + 8 * i, &word, 8);
    }
    return atomic_load_explicit(&slot->sequence, memory_order_relaxed) == 2 * number + 2;
}

/* ---- waiting ---------------------------------------------------------------------------- */

void store_wake(struct state *state)
{
    syscall(SYS_futex, &state->wake, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

int inphase_futex_wait(const uint32_t *address, uint32_t value, int64_t timeout_ns)
{
    struct timespec timeout = {
        .tv_sec = timeout_ns / 1000000000,
        .tv_nsec = timeout_ns % 1000000000,
    };

    if (syscall(SYS_futex, address, FUTEX_WAIT, value, &timeout, NULL, 0) < 0 && errno != EAGAIN)
        return -errno;
    return 0;
}

int64_t inphase_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int64_t deadline_after(int64_t timeout_ns)
{
    int64_t now_ns = inphase_now();

    return timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + timeout_ns;
}

/* ---- readers ---------------------------------------------------------------------------- */

struct inphase_reader {
    inphase_segment *segment;
    const struct inphase_layout *layout;
    const struct state *state;
    const struct statistics *statistics;
    uint64_t next;       /* number of the frame to return next */
    uint8_t record[];
};

static bool part_fits(uint64_t offset, uint64_t bytes, uint64_t size)
{
    return offset % 8 == 0 && offset <= size && bytes <= size - offset;
}

static bool ring_fits(const struct inphase_ring *ring, uint64_t size)
{
    return ring->payload <= size && ring->payload % 8 == 0 &&
           ring->stride == ring_stride(ring->payload) && ring->depth > 0 &&
           (ring->depth & (ring->depth - 1)) == 0 && ring->depth <= size / ring->stride &&
           part_fits(ring->offset, ring->stride * ring->depth, size);
}

/* a published layout of ours, none of whose parts leads out of the segment */
static bool layout_holds(const struct inphase_layout *layout, uint64_t size)
{
    /* acquire: nothing else in the layout is used before the mark was seen */
    if (__atomic_load_n(&layout->magic, __ATOMIC_ACQUIRE) != MAGIC ||
        layout->version != STORE_VERSION || layout->size != size ||
        layout->sensors > INPHASE_MAX_SENSORS)
        return false;
    for (uint32_t i = 0; i < layout->sensors; i++)
        if (!ring_fits(&layout->samples[i], size))
            return false;
    return ring_fits(&layout->frames, size) &&
           part_fits(layout->description_offset, layout->description_size, size) &&
           part_fits(layout->state_offset, sizeof(struct state), size) &&
           part_fits(layout->statistics_offset, layout->statistics_size, size) &&
           layout->statistics_size >=
               sizeof(struct statistics) +
                   (INPHASE_HIST_SENSORS + layout->sensors) * sizeof(struct histogram);
}

int inphase_reader_open(inphase_reader **out, const char *path, int from_first)
{
    inphase_segment *segment;
    const struct inphase_layout *layout;
    const struct state *state;
    inphase_reader *reader;
    int rc = inphase_segment_attach(&segment, path);

    if (rc < 0)
        return rc;
    layout = (const void *)segment->memory;
    rc = -EPROTO;
    if (!layout_holds(layout, segment->size))
        goto close_segment;
    state = (const void *)(segment->memory + layout->state_offset);
    reader = calloc(1, sizeof *reader + layout->frames.payload);
    rc = -ENOMEM;
    if (!reader)
        goto close_segment;
    reader->segment = segment;
    reader->layout = layout;
    reader->state = state;
    reader->statistics = (const void *)(segment->memory + layout->statistics_offset);
    reader->next = atomic_load_explicit(&state->head, memory_order_acquire);
    if (from_first)
        reader->next -= reader->next < layout->frames.depth ? reader->next
                                                            : layout->frames.depth - 1;
    *out = reader;
    return 0;

close_segment:
    inphase_segment_close(segment);
    return rc;
}

void inphase_reader_close(inphase_reader *reader)
{
    if (!reader)
        return;
    inphase_segment_close(reader->segment);
    free(reader);
}

const struct inphase_layout *inphase_reader_layout(inphase_reader *reader)
{
    return reader->layout;
}

const void *inphase_reader_memory(inphase_reader *reader)
{
    return reader->segment->memory;
}

const void *inphase_reader_record(inphase_reader *reader)
{
    return reader->record;
}

/* wait until frame number reader->next exists */
static int wait_for_frame(inphase_reader *reader, int64_t timeout_ns)
{
    const struct state *state = reader->state;
    const uint32_t *word = (const uint32_t *)&state->wake;
    int64_t until = deadline_after(timeout_ns);

    while (atomic_load_explicit(&state->head, memory_order_acquire) <= reader->next) {
        uint32_t seen = atomic_load_explicit(&state->wake, memory_order_acquire);
        int64_t left = until - inphase_now();
        int rc;

        if (atomic_load_explicit(&state->head, memory_order_acquire) > reader->next)
            break;
        if (left <= 0)
            return -ETIMEDOUT;
        rc = inphase_futex_wait(word, seen, left < WRITER_CHECK_NS ? left : WRITER_CHECK_NS);
        if (rc == -EINTR)
            return rc;
        if (rc == -ETIMEDOUT && writer_alive(reader->segment->fd) == 0 &&
            atomic_load_explicit(&state->head, memory_order_acquire) <= reader->next)
            return -EPIPE;
    }
    return 0;
}

int64_t inphase_reader_next(inphase_reader *reader, int newest, int64_t timeout_ns)
{
    const struct inphase_ring *ring = &reader->layout->frames;
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

int inphase_reader_intact(inphase_reader *reader, uint32_t sensor, int64_t sequence)
{
    const struct inphase_ring *ring;
    const struct slot *slot;

    if (sensor >= reader->layout->sensors || sequence < 0)
        return 0;
    ring = &reader->layout->samples[sensor];
    slot = ring_slot(reader->segment->memory, ring, (uint64_t)sequence);

    /* what was read from the slot so far stays before this look at its sequence */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&slot->sequence, memory_order_relaxed) ==
           2 * (uint64_t)sequence + 2;
}

int inphase_reader_copy(inphase_reader *reader, uint32_t sensor, int64_t sequence, void *to)
{
    const struct inphase_ring *ring;

    if (sensor >= reader->layout->sensors || sequence < 0)
        return -EINVAL;
    ring = &reader->layout->samples[sensor];
    return slot_read(ring_slot(reader->segment->memory, ring, (uint64_t)sequence),
                     (uint64_t)sequence, to, ring->payload)
               ? 0
               : -ESTALE;
}

int inphase_reader_quantiles(inphase_reader *reader, uint32_t histogram,
                             struct inphase_quantiles *out)
{
    if (histogram >= INPHASE_HIST_SENSORS + reader->layout->sensors)
        return -EINVAL;
    histogram_quantiles(&reader->statistics->histogram[histogram], out);
    return 0;
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
        .lost_devices = load_u32(&state->lost_devices),
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

int inphase_reader_statuses(inphase_reader *reader, int64_t *counts)
{
    for (uint32_t i = 0; i < reader->layout->sensors; i++)
        for (uint32_t s = 0; s < INPHASE_STATUSES; s++)
            counts[i * INPHASE_STATUSES + s] = load_i64(&reader->statistics->statuses[i][s]);
    return (int)reader->layout->sensors;
}

int inphase_reader_reasons(inphase_reader *reader, int64_t *counts)
{
    for (uint32_t i = 0; i < INPHASE_REASONS; i++)
        counts[i] = load_i64(&reader->statistics->reasons[i]);
    return INPHASE_REASONS;
}

int inphase_reader_worst(inphase_reader *reader, struct inphase_worst *out)
{
    const struct statistics *from = reader->statistics;
    uint32_t count = load_u32(&from->worst_count);

    for (uint32_t i = 0; i < count && i < INPHASE_WORST; i++)
        out[i] = (struct inphase_worst){
            .cycle = load_i64(&from->worst_cycle[i]),
            .late_ns = load_i64(&from->worst_late_ns[i]),
            .phase = atomic_load_explicit(&from->worst_phase[i], memory_order_relaxed),
            .device = atomic_load_explicit(&from->worst_device[i], memory_order_relaxed),
        };
    return (int)count;
}

/* ---- the mailbox ------------------------------------------------------------------------ */

uint64_t inphase_mailbox_size(uint32_t channels)
{
    (void)channels;
    return sizeof(struct mailbox);
}

int inphase_mailbox_init(inphase_segment *segment, uint32_t channels, uint64_t epoch)
{
    struct mailbox *mailbox = (void *)segment->memory;

    if (segment->size < sizeof *mailbox || channels > INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS)
        return -EINVAL;
    mailbox->magic = MAGIC;
    mailbox->version = STORE_VERSION;
    mailbox->channels = channels;
    mailbox->epoch = epoch;
    for (int i = 0; i < MAILBOX_SLOTS; i++)
        put_i64(&mailbox->mail[i].cycle, -1);
    return 0;
}

static void mailbox_put(struct mailbox *mailbox, int64_t cycle, int64_t posted_ns,
                        int64_t valid_until_ns, uint32_t reason, const double *values,
                        uint32_t channels)
{
    struct mail *mail = &mailbox->mail[(uint64_t)cycle & (MAILBOX_SLOTS - 1)];
    uint64_t sequence = atomic_load_explicit(&mail->sequence, memory_order_relaxed);
    uint64_t word;

    /* the same protocol as slot_write */
    atomic_store_explicit(&mail->sequence, sequence | 1, memory_order_relaxed);
    atomic_store_explicit(&mail->cycle, cycle, memory_order_release);
    atomic_store_explicit(&mail->posted_ns, posted_ns, memory_order_release);
    atomic_store_explicit(&mail->valid_until_ns, valid_until_ns, memory_order_release);
    atomic_store_explicit(&mail->reason, reason, memory_order_release);
    atomic_store_explicit(&mail->channels, channels, memory_order_release);
    for (uint32_t i = 0; i < channels; i++) {
        memcpy(&word, &values[i], 8);
        atomic_store_explicit(&mail->value[i], word, memory_order_release);
    }
    atomic_store_explicit(&mail->sequence, (sequence | 1) + 1, memory_order_release);
}

int inphase_mailbox_post(inphase_segment *segment, int64_t cycle, int64_t valid_until_ns,
                         uint32_t reason, const double *values, uint32_t channels)
{
    struct mailbox *mailbox = (void *)segment->memory;

    if (cycle < 0 || reason >= INPHASE_REASONS || channels > mailbox->channels ||
        (channels && !values))
        return -EINVAL;
    mailbox_put(mailbox, cycle, inphase_now(), valid_until_ns, reason, values, channels);
    return 0;
}

int mailbox_look(const struct mailbox *mailbox, uint32_t expected, int64_t cycle,
                 struct command *out)
{
    const struct mail *mail = &mailbox->mail[(uint64_t)cycle & (MAILBOX_SLOTS - 1)];
    uint64_t sequence = atomic_load_explicit(&mail->sequence, memory_order_acquire);
    uint32_t channels;
    uint64_t word;

    /* one look: a command that is being written now came too late */
    if ((sequence & 1) || atomic_load_explicit(&mail->cycle, memory_order_acquire) != cycle)
        return -ENOENT;
    out->posted_ns = atomic_load_explicit(&mail->posted_ns, memory_order_acquire);
    out->valid_until_ns = atomic_load_explicit(&mail->valid_until_ns, memory_order_acquire);
    out->reason = atomic_load_explicit(&mail->reason, memory_order_acquire);
    channels = atomic_load_explicit(&mail->channels, memory_order_acquire);
    if (channels > INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS)
        return -EPROTO;
    for (uint32_t i = 0; i < channels; i++) {
        word = atomic_load_explicit(&mail->value[i], memory_order_acquire);
        memcpy(&out->value[i], &word, 8);
    }
    if (atomic_load_explicit(&mail->sequence, memory_order_relaxed) != sequence)
        return -ENOENT;

    /* another process wrote this: what the core indexes with is checked here */
    if (out->reason >= INPHASE_REASONS ||
        (out->reason == INPHASE_REASON_NONE && channels != expected))
        return -EPROTO;
    return 0;
}

int inphase_core_post(inphase_core *core, uint32_t reason, const double *values, uint32_t channels)
{
    if (!core->own_mailbox)
        return -EPERM;
    if (reason >= INPHASE_REASONS || channels > core->values || (channels && !values))
        return -EINVAL;
    mailbox_put(core->own_mailbox, core->cycle, core->virtual_ns, INT64_MAX, reason, values,
                channels);
    return 0;
}
