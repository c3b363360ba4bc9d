/* The store: segments, rings, readers, mailboxes, with writers that are slow, gone or killed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/core.h"
#include "../src/mailbox.h"
#include "../src/state.h"
#include "../src/statistics.h"
#include "../src/store.h"
#include "check.h"
#include "segments.h"

#define PERIOD_NS 1000000
#define SECOND_NS 1000000000LL
#define DEPTH 16

static uint8_t reader_room[1 << 16];
static atomic_bool spoiled_enough;

/* one constant sensor on virtual time: the smallest thing that makes frames */
static inphase_core *small_core(inphase_segment *segment)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_twin_channel channel = {.base = 1.5};
    struct inphase_sensor_config sensor = {
        .channels = 1,
        .every = 1,
        .payload = 8,
        .max_age_ns = 10 * PERIOD_NS,
        .depth = DEPTH,
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4}},
        .twin = {.channel = &channel},
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = PERIOD_NS / 2, .act_ns = PERIOD_NS / 2,
        .resumed_after_ns = SECOND_NS, .devices = 1, .sensors = 1, .frame_depth = DEPTH,
        .overrun_limit = 10, .virtual_time = 1, .sensor = &sensor,
    };
    inphase_core *core;

    CHECK(inphase_core_size(&config) <= inphase_segment_size(segment));
    CHECK_EQUAL(inphase_core_open(&core, &config, segment), 0);
    return core;
}

static inphase_segment *new_segment(uint64_t size)
{
    inphase_segment *segment;

    CHECK_EQUAL(inphase_segment_make(&segment, size, 0), 0);
    return segment;
}

/* as its writer has it */
static inphase_segment *new_mailbox(uint32_t values)
{
    inphase_segment *made, *segment;

    CHECK_EQUAL(inphase_mailbox_make(&made, values, 77), 0);
    CHECK_EQUAL(inphase_mailbox_post(made, 0, 0, INPHASE_REASON_RAISED, NULL, 0), -EPERM);
    CHECK_EQUAL(inphase_segment_map(&segment, inphase_segment_fd(made), 1), 0);
    inphase_segment_close(made);
    return segment;
}

/* another process's descriptor, as a name would lead to it */
static int open_of(pid_t process, int fd)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)process, fd);
    fd = open(link, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static void wait_for_child(pid_t child)
{
    int status;

    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* whoever has a descriptor may try */
static void check_size_holds(int fd, uint64_t size)
{
    struct stat facts;

    CHECK(ftruncate(fd, 0) < 0 && (errno == EPERM || errno == EINVAL));
    CHECK(ftruncate(fd, 1 << 20) < 0 && (errno == EPERM || errno == EINVAL));
    CHECK(fallocate(fd, 0, 0, 1 << 20) < 0 && (errno == EPERM || errno == EBADF));
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
    CHECK_EQUAL(fstat(fd, &facts), 0);
    CHECK_EQUAL(facts.st_size, size);
    CHECK(facts.st_blocks * 512 >= (int64_t)size);
}

static void a_segment_is_the_same_memory_for_all_and_never_changes_its_size(void)
{
    inphase_segment *segment, *other;
    char link[64];
    int fd;

    CHECK_EQUAL(inphase_segment_make(&segment, 100000, 0), 0);
    CHECK_EQUAL(inphase_segment_map(&other, inphase_segment_fd(segment), 0), 0);
    CHECK_EQUAL(inphase_segment_size(other), 100000);
    memcpy((uint8_t *)inphase_segment_memory(segment) + 5000, "word", 4);
    CHECK(memcmp((uint8_t *)inphase_segment_memory(other) + 5000, "word", 4) == 0);
    CHECK_EQUAL(inphase_segment_fd(other), -1);
    check_size_holds(inphase_segment_fd(segment), 100000);
    check_size_holds(segment->fd, 100000);

    /* nobody else can write, whatever he opens */
    CHECK(write(inphase_segment_fd(segment), "x", 1) < 0 && errno == EBADF);
    snprintf(link, sizeof link, "/proc/self/fd/%d", inphase_segment_fd(segment));
    fd = open(link, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        CHECK(write(fd, "x", 1) < 0 && errno == EPERM);
        CHECK(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
        CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
        close(fd);
    }

    /* a reader that closes changes nothing, the writer's lock is there until it closes */
    fd = fcntl(inphase_segment_fd(segment), F_DUPFD_CLOEXEC, 0);
    inphase_segment_close(other);
    CHECK_EQUAL(writer_alive(fd), 1);
    inphase_segment_close(segment);
    CHECK_EQUAL(writer_alive(fd), 0);
    close(fd);
    CHECK_EQUAL(inphase_segment_make(&segment, 1ULL << 50, 0), -ENOMEM);
}

static int64_t resident(const inphase_segment *segment)
{
    struct stat facts;

    CHECK_EQUAL(fstat(segment->fd, &facts), 0);
    return facts.st_blocks * 512;
}

static void a_lazy_segment_has_the_pages_that_were_touched_and_is_cleared_of_all(void)
{
    inphase_segment *segment, *other;
    uint8_t *memory;

    CHECK_EQUAL(inphase_segment_make_lazy(&segment, 100 * 4096), 0);
    CHECK_EQUAL(inphase_segment_map(&other, inphase_segment_fd(segment), 0), 0);
    CHECK_EQUAL(resident(segment), 0);
    memory = inphase_segment_memory(segment);
    for (int page = 0; page < 100; page += 7)
        memset(memory + 4096 * page, page + 1, 4096);
    memory[4096 * 100 - 1] = 1;
    CHECK_EQUAL(resident(segment), (100 / 7 + 1 + 1) * 4096);
    inphase_segment_clear(segment);
    CHECK_EQUAL(resident(segment), (100 / 7 + 1 + 1) * 4096);
    for (int at = 0; at < 100 * 4096; at++)
        CHECK_EQUAL(memory[at], 0);
    inphase_segment_close(other);
    inphase_segment_close(segment);
    CHECK_EQUAL(inphase_segment_make_lazy(&segment, 1ULL << 50), -ENOMEM);
}

/* no child of ours has what was not given to it */
static void a_segment_is_kept_from_children(void)
{
    inphase_segment *segment = new_segment(100000), *other;

    CHECK_EQUAL(inphase_segment_map(&other, inphase_segment_fd(segment), 0), 0);
    CHECK(fcntl(segment->fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(inphase_segment_fd(segment), F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(other->fd, F_GETFD) & FD_CLOEXEC);
    inphase_segment_close(other);
    inphase_segment_close(segment);
}

static void a_segment_that_another_process_writes_keeps_its_size_too(void)
{
    inphase_segment *made, *theirs;

    CHECK_EQUAL(inphase_mailbox_make(&made, 4, 1), 0);
    CHECK_EQUAL(inphase_segment_map(&theirs, inphase_segment_fd(made), 1), 0);
    check_size_holds(inphase_segment_fd(made), made->size);
    ((uint8_t *)inphase_segment_memory(theirs))[5000] = 7;
    CHECK_EQUAL(((uint8_t *)inphase_segment_memory(made))[5000], 7);
    inphase_segment_close(theirs);
    inphase_segment_close(made);
}

static void a_segment_whose_writer_died_says_so(void)
{
    inphase_segment *segment;
    int line[2], fd = -1;
    pid_t child;

    CHECK_EQUAL(pipe(line), 0);
    child = fork();
    if (child == 0) {
        segment = new_segment(100000);
        fd = inphase_segment_fd(segment);
        _exit(write(line[1], &fd, sizeof fd) == sizeof fd && pause() ? 1 : 0);
    }
    CHECK_EQUAL(read(line[0], &fd, sizeof fd), sizeof fd);
    fd = open_of(child, fd);
    CHECK_EQUAL(writer_alive(fd), 1);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, NULL, 0), child);
    CHECK_EQUAL(writer_alive(fd), 0);
    close(fd);
    close(line[0]);
    close(line[1]);
}

static void what_is_no_segment_is_refused(void)
{
    inphase_segment *segment;
    inphase_reader *reader;
    struct inphase_layout *layout;
    int fd = memfd_create("large enough, and not sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    CHECK_EQUAL(ftruncate(fd, 1 << 20), 0);
    CHECK_EQUAL(inphase_segment_map(&segment, fd, 0), -EPROTO);
    CHECK_EQUAL(inphase_reader_open(&reader, &fd, 1, 0), -EPROTO);
    CHECK_EQUAL(inphase_reader_open(&reader, &fd, 0, 0), -EPROTO);
    close(fd);
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(inphase_segment_map(&segment, fd, 0), -EPROTO);
    close(fd);

    /* sealed, and full of anything, or too small */
    segment = new_segment(65536);
    for (int round = 0; round < 100; round++) {
        uint64_t *word = inphase_segment_memory(segment);

        for (size_t i = 0; round && i < 65536 / 8; i++)
            word[i] = check_random();
        CHECK_EQUAL(open_reader(&reader, segment, 0), -EPROTO);
    }
    inphase_segment_close(segment);
    segment = new_segment(100);
    CHECK_EQUAL(open_reader(&reader, segment, 0), -EPROTO);
    inphase_segment_close(segment);

    /* not yet published */
    segment = new_segment(1 << 20);
    CHECK_EQUAL(open_reader(&reader, segment, 0), -EPROTO);

    /* a layout that points outside of the segment, or at a worker's that was not given */
    inphase_core_close(small_core(segment));
    CHECK_EQUAL(open_reader(&reader, segment, 0), 0);
    inphase_reader_close(reader);
    layout = inphase_segment_memory(segment);
    for (size_t at = offsetof(struct inphase_layout, size);
         at < offsetof(struct inphase_layout, samples[1]); at += 8) {
        uint64_t *word = (uint64_t *)((uint8_t *)layout + at), was = *word;

        if (at == offsetof(struct inphase_layout, epoch))
            continue;
        *word = UINT64_MAX - 7;
        CHECK_EQUAL(open_reader(&reader, segment, 0), -EPROTO);
        *word = was;
    }

    /* a state inside it that does not lie as its fields want it */
    layout->state_offset += 8;
    CHECK_EQUAL(open_reader(&reader, segment, 0), -EPROTO);
    layout->state_offset -= 8;
    CHECK_EQUAL(open_reader(&reader, segment, 0), 0);
    inphase_reader_close(reader);
    layout->outside = 1;
    CHECK_EQUAL(open_reader(&reader, segment, 0), -EPROTO);
    inphase_segment_close(segment);
}

/* everything that a reader of small_core gives after 30 cycles, whatever became of the layout */
static void check_reading(inphase_reader *reader)
{
    struct inphase_worst worst[INPHASE_WORST];
    struct inphase_worker_facts facts;
    struct inphase_clock_facts clock;
    struct inphase_quantiles quantiles;
    int64_t counts[INPHASE_MAX_SENSORS * INPHASE_STATUSES];
    const struct inphase_frame *frame = inphase_reader_record(reader);
    double payload = 0;

    CHECK_EQUAL(inphase_reader_next(reader, 1, 0) >= 0, 1);
    CHECK_EQUAL(frame->cycle, 29);
    CHECK_EQUAL(inphase_reader_past(reader, 28, reader_room), 0);
    CHECK_EQUAL(inphase_reader_past(reader, 3, reader_room), -ESTALE);
    CHECK_EQUAL(inphase_reader_intact(reader, 0, 29), 1);
    CHECK_EQUAL(inphase_reader_copy(reader, 0, 29, &payload), 0);
    CHECK(payload == 1.5);
    CHECK_EQUAL(inphase_reader_copy(reader, 1, 29, &payload), -EINVAL);
    CHECK_EQUAL(inphase_reader_statuses(reader, counts), 1);
    CHECK_EQUAL(inphase_reader_quantiles(reader, INPHASE_HIST_SENSORS + 1, &quantiles), -EINVAL);
    CHECK_EQUAL(inphase_reader_worker(reader, 0, &facts), -ENOENT);
    CHECK_EQUAL(inphase_reader_clock(reader, 0, &clock), -ENOENT);
    CHECK(inphase_reader_worst(reader, worst) <= INPHASE_WORST);
}

static void a_layout_that_changes_after_it_was_checked_changes_nothing(void)
{
    inphase_segment *segment = new_segment(1 << 20);
    inphase_core *core = small_core(segment);
    struct inphase_layout was;
    uint64_t *word = inphase_segment_memory(segment);
    struct statistics *statistics;

    memcpy(&was, word, sizeof was);
    statistics = (void *)((uint8_t *)word + was.statistics_offset);
    CHECK_EQUAL(inphase_core_run(core, 30), 30);
    atomic_store(&statistics->worst_count, UINT32_MAX);
    for (size_t i = 0; i < sizeof was / 8; i++) {
        const uint64_t other[] = {0,          1,              64,            65, 1 << 20,
                                  UINT64_MAX, UINT64_MAX - 7, check_random()};
        inphase_reader *reader;

        for (size_t k = 0; k < sizeof other / sizeof *other; k++) {
            CHECK_EQUAL(open_reader(&reader, segment, 1), 0);
            word[i] = other[k];
            check_reading(reader);
            inphase_reader_close(reader);
            memcpy(word, &was, sizeof was);
        }
    }
    inphase_core_close(core);
    inphase_segment_close(segment);
}

static void *layout_spoiler(void *argument)
{
    uint64_t *word = inphase_segment_memory(argument);

    while (!atomic_load(&spoiled_enough))
        for (size_t i = 0; i < sizeof(struct inphase_layout) / 8; i++) {
            uint64_t was = __atomic_load_n(&word[i], __ATOMIC_RELAXED);

            __atomic_store_n(&word[i], (uint64_t)i << 60 | i * 4099, __ATOMIC_RELAXED);
            __atomic_store_n(&word[i], was, __ATOMIC_RELAXED);
        }
    return NULL;
}

static void a_layout_that_changes_while_it_is_read_is_refused_or_whole(void)
{
    inphase_segment *segment = new_segment(1 << 20);
    inphase_core *core = small_core(segment);
    inphase_reader *reader;
    pthread_t thread;
    int opened = 0;

    CHECK_EQUAL(inphase_core_run(core, 30), 30);
    CHECK_EQUAL(pthread_create(&thread, NULL, layout_spoiler, segment), 0);
    for (int i = 0; i < 2000; i++) {
        if (open_reader(&reader, segment, 1) < 0)
            continue;
        opened++;

        /* a layout that holds may still be another one: nothing is asked but that nothing breaks */
        for (int looks = 0; looks < 40 && inphase_reader_next(reader, 0, 0) >= 0; looks++)
            inphase_reader_intact(reader, 0, 29);
        inphase_reader_close(reader);
    }
    atomic_store(&spoiled_enough, true);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    printf("  %d of 2000 layouts held\n", opened);
    inphase_core_close(core);
    inphase_segment_close(segment);
}

static void a_slot_gives_its_own_number_whole_and_no_other(void)
{
    uint64_t payload[3], read[3];
    struct slot *slot = aligned_alloc(64, ring_stride(sizeof payload));

    CHECK(slot);
    memset(slot, 0, ring_stride(sizeof payload));
    CHECK(!slot_read(slot, 0, read, sizeof read));
    for (uint64_t number = 0; number < 100; number++) {
        for (int i = 0; i < 3; i++)
            payload[i] = number * 3 + (uint64_t)i;
        slot_write(slot, number, payload, sizeof payload);
        CHECK(slot_read(slot, number, read, sizeof read));
        CHECK(memcmp(read, payload, sizeof read) == 0);
        CHECK(!slot_read(slot, number + 1, read, sizeof read));
        CHECK(number == 0 || !slot_read(slot, number - 1, read, sizeof read));
    }

    /* while it is written it gives nothing */
    atomic_store(&slot->sequence, 2 * 100 + 1);
    CHECK(!slot_read(slot, 99, read, sizeof read));
    CHECK(!slot_read(slot, 100, read, sizeof read));
    free(slot);
    CHECK_EQUAL(ring_stride(1), SLOT_HEADER + 64);
    CHECK_EQUAL(ring_stride(64), SLOT_HEADER + 64);
    CHECK_EQUAL(ring_stride(65), SLOT_HEADER + 128);
}

static void a_slow_reader_is_told_how_many_frames_it_lost(void)
{
    inphase_segment *segment = new_segment(1 << 20);
    inphase_core *core = small_core(segment);
    const struct inphase_frame *frame;
    inphase_reader *reader;
    int64_t lost, cycle = -1;

    CHECK_EQUAL(open_reader(&reader, segment, 0), 0);
    frame = inphase_reader_record(reader);
    CHECK_EQUAL(inphase_reader_next(reader, 0, 0), -ETIMEDOUT);

    /* as fast as the writer: none lost, in order */
    for (int i = 0; i < 40; i++) {
        CHECK_EQUAL(inphase_core_run(core, 1), 1);
        CHECK_EQUAL(inphase_reader_next(reader, 0, 0), 0);
        CHECK_EQUAL(frame->cycle, i);
    }

    /* slower by any number: what it is given and what it lost adds up */
    cycle = frame->cycle;
    for (int round = 0; round < 200; round++) {
        int64_t made = (int64_t)(check_random() % (3 * DEPTH));

        CHECK_EQUAL(inphase_core_run(core, made), made);
        for (;;) {
            lost = inphase_reader_next(reader, (int)(check_random() % 8 == 0), 0);
            if (lost < 0)
                break;
            CHECK_EQUAL(frame->cycle, cycle + 1 + lost);
            CHECK(made < DEPTH || lost == 0 || frame->cycle > cycle);
            cycle = frame->cycle;
        }
        CHECK_EQUAL(lost, -ETIMEDOUT);
    }

    /* the newest leaves out those between and says how many */
    CHECK_EQUAL(inphase_core_run(core, 5), 5);
    CHECK_EQUAL(inphase_reader_next(reader, 1, 0), 4);
    CHECK_EQUAL(frame->cycle, cycle + 5);
    inphase_reader_close(reader);
    inphase_core_close(core);
    inphase_segment_close(segment);
}

static void earlier_frames_are_read_by_number_until_they_are_overwritten(void)
{
    inphase_segment *segment = new_segment(1 << 20);
    inphase_core *core = small_core(segment);
    struct inphase_frame *past = calloc(1, 1 << 16);
    const struct inphase_frame *frame;
    inphase_reader *reader;

    CHECK(past);
    CHECK_EQUAL(open_reader(&reader, segment, 0), 0);
    CHECK(inphase_reader_layout(reader)->frames.payload <= 1 << 16);
    frame = inphase_reader_record(reader);
    CHECK_EQUAL(inphase_reader_number(reader), -1);
    CHECK_EQUAL(inphase_reader_past(reader, 0, past), -ESTALE);
    CHECK_EQUAL(inphase_reader_past(reader, -1, past), -EINVAL);
    for (int64_t i = 0; i < 3 * DEPTH; i++) {
        CHECK_EQUAL(inphase_core_run(core, 1), 1);
        CHECK_EQUAL(inphase_reader_next(reader, 0, 0), 0);
        CHECK_EQUAL(inphase_reader_number(reader), i);
        for (int64_t number = 0; number <= i + 1; number++) {
            int rc = inphase_reader_past(reader, number, past);

            CHECK_EQUAL(rc, number <= i && number > i - DEPTH ? 0 : -ESTALE);
            CHECK(rc < 0 || past->cycle == number);
            CHECK_EQUAL(frame->cycle, i);
        }
    }
    free(past);
    inphase_reader_close(reader);
    inphase_core_close(core);
    inphase_segment_close(segment);
}

static void a_sample_is_whole_until_its_slot_is_used_again(void)
{
    inphase_segment *segment = new_segment(1 << 20);
    inphase_core *core = small_core(segment);
    inphase_reader *reader;
    double value = 0;

    CHECK_EQUAL(open_reader(&reader, segment, 0), 0);
    CHECK_EQUAL(inphase_reader_copy(reader, 0, 0, &value), -ESTALE);
    CHECK_EQUAL(inphase_core_run(core, 1), 1);
    CHECK_EQUAL(inphase_reader_copy(reader, 0, 0, &value), 0);
    CHECK(value == 1.5);
    CHECK_EQUAL(inphase_core_run(core, DEPTH - 1), DEPTH - 1);
    CHECK_EQUAL(inphase_reader_intact(reader, 0, 0), 1);
    CHECK_EQUAL(inphase_core_run(core, 1), 1);
    CHECK_EQUAL(inphase_reader_intact(reader, 0, 0), 0);
    CHECK_EQUAL(inphase_reader_copy(reader, 0, 0, &value), -ESTALE);
    CHECK_EQUAL(inphase_reader_intact(reader, 0, DEPTH), 1);

    /* no such sensor, no such sample */
    CHECK_EQUAL(inphase_reader_intact(reader, 1, 0), 0);
    CHECK_EQUAL(inphase_reader_intact(reader, UINT32_MAX, 0), 0);
    CHECK_EQUAL(inphase_reader_intact(reader, 0, -1), 0);
    CHECK_EQUAL(inphase_reader_copy(reader, UINT32_MAX, 0, &value), -EINVAL);
    inphase_reader_close(reader);
    inphase_core_close(core);
    inphase_segment_close(segment);
}

/* a child that makes frames, then goes without a word; `torn`: in the middle of the next one */
static void run_and_die(int torn, int64_t cycles, int ready, int go)
{
    inphase_segment *segment = new_segment(1 << 20);
    inphase_core *core = small_core(segment);
    int fd = inphase_segment_fd(segment);
    char byte;

    if (write(ready, &fd, sizeof fd) != sizeof fd || read(go, &byte, 1) != 1)
        _exit(1);
    inphase_core_run(core, cycles);
    if (torn) {
        uint64_t head = atomic_load(&core->state->head);
        struct slot *slot = ring_slot(segment->memory, &core->layout->frames, head);

        atomic_store(&slot->sequence, 2 * head + 1);
        atomic_store(&slot->payload[0], 0x5555);
    }
    _exit(0);
}

static void follow_a_writer_that_dies(int torn)
{
    int64_t cycles = 3 * DEPTH / 2, lost, next = 0;
    int ready[2], go[2];
    inphase_reader *reader;
    char byte = 0;
    int fd;
    pid_t child;

    CHECK_EQUAL(pipe(ready), 0);
    CHECK_EQUAL(pipe(go), 0);
    child = fork();
    if (child == 0)
        run_and_die(torn, cycles, ready[1], go[0]);
    CHECK_EQUAL(read(ready[0], &fd, sizeof fd), sizeof fd);
    fd = open_of(child, fd);
    CHECK_EQUAL(inphase_reader_open(&reader, &fd, 1, 0), 0);
    close(fd);
    CHECK_EQUAL(write(go[1], &byte, 1), 1);
    wait_for_child(child);

    /* what was published is still read; then the end is said, however long one would wait */
    while ((lost = inphase_reader_next(reader, 0, 60 * SECOND_NS)) >= 0) {
        const struct inphase_frame *frame = inphase_reader_record(reader);

        next += lost;
        CHECK_EQUAL(frame->cycle, next++);
    }
    CHECK_EQUAL(lost, -EPIPE);
    CHECK_EQUAL(next, cycles);
    CHECK_EQUAL(inphase_reader_next(reader, 1, INT64_MAX), -EPIPE);
    inphase_reader_close(reader);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
}

static void a_dead_writer_is_noticed_and_not_waited_for(void)
{
    follow_a_writer_that_dies(0);
}

static void a_writer_killed_in_mid_write_holds_nobody_up(void)
{
    follow_a_writer_that_dies(1);
}

/* ---- two threads on one ring ------------------------------------------------------------- */

#define HAMMER_DEPTH 2 /* so short that the writer often comes round in the middle of a read */
#define HAMMER_MOST 4096 /* words of a payload that is copied as a whole */

struct hammer {
    struct inphase_ring ring;
    uint8_t *memory;
    uint64_t words, writes;
    _Atomic uint64_t newest;
    _Atomic int done;
};

/* each word is a different function of the number: a mix of two writes is seen */
static uint64_t hammer_word(uint64_t number, uint64_t i)
{
    return number * 0x9e3779b97f4a7c15ULL + i * 0xbf58476d1ce4e5b9ULL;
}

static void *hammer_writer(void *argument)
{
    struct hammer *hammer = argument;
    uint64_t payload[HAMMER_MOST];

    for (uint64_t number = 0; number < hammer->writes; number++) {
        for (uint64_t i = 0; i < hammer->words; i++)
            payload[i] = hammer_word(number, i);
        slot_write(ring_slot(hammer->memory, &hammer->ring, number), number, payload,
                   8 * hammer->words);
        atomic_store_explicit(&hammer->newest, number, memory_order_relaxed);
    }
    atomic_store_explicit(&hammer->done, 1, memory_order_release);
    return NULL;
}

static void read_while_it_is_written(uint64_t words, uint64_t writes)
{
    struct hammer hammer = {.ring = {0, ring_stride(8 * words), 8 * words, HAMMER_DEPTH},
                            .words = words, .writes = writes};
    uint64_t payload[HAMMER_MOST], whole = 0, refused = 0, number;
    pthread_t thread;

    hammer.memory = aligned_alloc(64, hammer.ring.stride * HAMMER_DEPTH);
    CHECK(hammer.memory);
    memset(hammer.memory, 0, hammer.ring.stride * HAMMER_DEPTH);
    CHECK_EQUAL(pthread_create(&thread, NULL, hammer_writer, &hammer), 0);
    while (!atomic_load_explicit(&hammer.done, memory_order_acquire)) {
        number = atomic_load_explicit(&hammer.newest, memory_order_relaxed);
        if (!slot_read(ring_slot(hammer.memory, &hammer.ring, number), number, payload,
                       8 * words)) {
            refused++;
            continue;
        }
        whole++;
        for (uint64_t i = 0; i < words; i++)
            CHECK_EQUAL(payload[i], hammer_word(number, i));
    }
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    number = writes - 1;
    CHECK(slot_read(ring_slot(hammer.memory, &hammer.ring, number), number, payload, 8 * words));
    printf("  %" PRIu64 " whole, %" PRIu64 " refused\n", whole, refused);
    free(hammer.memory);
}

static void a_slot_read_while_its_ring_is_written_is_never_torn(void)
{
    read_while_it_is_written(32, 300000);
    read_while_it_is_written(HAMMER_MOST, 5000);
}

/* ---- the mailbox ------------------------------------------------------------------------- */

struct answer {
    struct mail mail;
    double value[8];
};

/* 0: look again, whatever woke it; else why it did not wait, or that the time is over */
static void a_wait_for_a_word_that_has_changed_is_none(void)
{
    uint32_t word = 7;

    CHECK_EQUAL(inphase_futex_wait(&word, 6, SECOND_NS), 0);
    CHECK_EQUAL(inphase_futex_wait(&word, 7, 1000), -ETIMEDOUT);
    CHECK_EQUAL(inphase_futex_wait(&word, 7, -1), -EINVAL);
}

static void a_mailbox_counts_what_a_policy_server_does(void)
{
    inphase_segment *segment = new_mailbox(2);
    int64_t counts[INPHASE_SERVER_COUNTS];

    for (uint32_t what = 0; what < INPHASE_SERVER_COUNTS; what++)
        for (uint32_t i = 0; i < what; i++)
            CHECK_EQUAL(inphase_mailbox_count(segment, what), 0);
    CHECK_EQUAL(inphase_mailbox_count(segment, INPHASE_SERVER_COUNTS), -EINVAL);
    CHECK_EQUAL(inphase_mailbox_counted(segment, counts), 0);
    for (int64_t what = 0; what < INPHASE_SERVER_COUNTS; what++)
        CHECK_EQUAL(counts[what], what);
    inphase_segment_close(segment);
}

static void a_mailbox_gives_what_was_posted_by_its_number(void)
{
    inphase_segment *segment = new_mailbox(2);
    const struct mailbox *mailbox = inphase_segment_memory(segment);
    double values[2] = {1, 2};
    struct answer answer;

    CHECK_EQUAL(mailbox_head(mailbox), 0);
    CHECK(!mailbox_read(mailbox, 2, 0, &answer.mail));
    CHECK_EQUAL(inphase_mailbox_post(segment, 5, 1234, 0, values, 2), 0);
    CHECK_EQUAL(mailbox_head(mailbox), 1);
    CHECK(mailbox_read(mailbox, 2, 0, &answer.mail));
    CHECK(answer.value[0] == 1 && answer.value[1] == 2 && answer.mail.valid_until_ns == 1234);
    CHECK(answer.mail.cycle == 5 && answer.mail.values == 2 && answer.mail.reason == 0);
    CHECK(answer.mail.posted_ns > 0 && answer.mail.posted_ns <= inphase_now());

    /* a reason comes without values */
    CHECK_EQUAL(inphase_mailbox_post(segment, 7, 0, INPHASE_REASON_RAISED, NULL, 0), 0);
    CHECK(mailbox_read(mailbox, 2, 1, &answer.mail));
    CHECK(answer.mail.reason == INPHASE_REASON_RAISED && answer.mail.values == 0);

    /* until its slot is used again */
    for (int i = 0; i < MAILBOX_SLOTS - 1; i++)
        CHECK_EQUAL(inphase_mailbox_post(segment, 8 + i, 0, 0, values, 1), 0);
    CHECK(!mailbox_read(mailbox, 2, 0, &answer.mail));
    CHECK(mailbox_read(mailbox, 2, 1, &answer.mail));

    /* what cannot be posted */
    CHECK_EQUAL(inphase_mailbox_post(segment, 8, 0, INPHASE_REASONS, values, 2), -EINVAL);
    CHECK_EQUAL(inphase_mailbox_post(segment, -1, 0, 0, values, 2), -EINVAL);
    CHECK_EQUAL(inphase_mailbox_post(segment, 8, 0, 0, values, 3), -EINVAL);
    CHECK_EQUAL(inphase_mailbox_post(segment, 8, 0, 0, NULL, 2), -EINVAL);
    inphase_segment_close(segment);
    CHECK_EQUAL(inphase_mailbox_make(&segment, INPHASE_MAX_PLAN + 1, 77), -EINVAL);
}

static void an_answer_that_is_being_written_is_none(void)
{
    inphase_segment *segment = new_mailbox(1);
    struct mailbox *mailbox = inphase_segment_memory(segment);
    struct slot *slot = (struct slot *)((uint8_t *)mailbox + MAILBOX_RING);
    struct answer answer;
    double value = 1;

    CHECK_EQUAL(inphase_mailbox_post(segment, 3, 0, 0, &value, 1), 0);
    atomic_store(&slot->sequence, 1);
    CHECK(!mailbox_read(mailbox, 1, 0, &answer.mail));

    /* a policy that died there is followed by one that can post again */
    atomic_store(&mailbox->head, 0);
    CHECK_EQUAL(inphase_mailbox_post(segment, 3, 0, 0, &value, 1), 0);
    CHECK(mailbox_read(mailbox, 1, 0, &answer.mail));
    inphase_segment_close(segment);
}

#define POSTS 200000

static void *poster(void *argument)
{
    double values[8];

    for (int64_t cycle = 0; cycle < POSTS; cycle++) {
        for (int i = 0; i < 8; i++)
            values[i] = (double)(cycle * 8 + i);
        CHECK_EQUAL(inphase_mailbox_post(argument, cycle, cycle, 0, values, 8), 0);
    }
    return NULL;
}

static void an_answer_read_while_others_are_posted_is_never_torn(void)
{
    inphase_segment *segment = new_mailbox(8);
    const struct mailbox *mailbox = inphase_segment_memory(segment);
    struct answer answer;
    pthread_t thread;
    int64_t found = 0, looks = 0;
    uint64_t head = 0;

    CHECK_EQUAL(pthread_create(&thread, NULL, poster, segment), 0);
    while (head < POSTS) {
        head = mailbox_head(mailbox);
        looks++;
        if (head < 3 || !mailbox_read(mailbox, 8, head - 1 - (uint64_t)looks % 3, &answer.mail))
            continue;
        found++;
        CHECK_EQUAL(answer.mail.valid_until_ns, answer.mail.cycle);
        for (int i = 0; i < 8; i++)
            CHECK(answer.value[i] == (double)(answer.mail.cycle * 8 + i));
    }
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    printf("  %" PRId64 " of %" PRId64 " looks found an answer\n", found, looks);
    inphase_segment_close(segment);
}

int main(void)
{
    check_seed();
    RUN(a_segment_is_the_same_memory_for_all_and_never_changes_its_size);
    RUN(a_lazy_segment_has_the_pages_that_were_touched_and_is_cleared_of_all);
    RUN(a_segment_is_kept_from_children);
    RUN(a_segment_that_another_process_writes_keeps_its_size_too);
    RUN(a_segment_whose_writer_died_says_so);
    RUN(what_is_no_segment_is_refused);
    RUN(a_layout_that_changes_after_it_was_checked_changes_nothing);
    RUN(a_layout_that_changes_while_it_is_read_is_refused_or_whole);
    RUN(a_slot_gives_its_own_number_whole_and_no_other);
    RUN(a_slow_reader_is_told_how_many_frames_it_lost);
    RUN(earlier_frames_are_read_by_number_until_they_are_overwritten);
    RUN(a_sample_is_whole_until_its_slot_is_used_again);
    RUN(a_dead_writer_is_noticed_and_not_waited_for);
    RUN(a_writer_killed_in_mid_write_holds_nobody_up);
    RUN(a_slot_read_while_its_ring_is_written_is_never_torn);
    RUN(a_wait_for_a_word_that_has_changed_is_none);
    RUN(a_mailbox_counts_what_a_policy_server_does);
    RUN(a_mailbox_gives_what_was_posted_by_its_number);
    RUN(an_answer_that_is_being_written_is_none);
    RUN(an_answer_read_while_others_are_posted_is_never_torn);
    return 0;
}
