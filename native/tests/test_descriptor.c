/* The cycle on the machine's clock with devices behind descriptors. A thread answers each request
   as the test says; counts and order are checked, never durations. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/clock.h"
#include "../src/core.h"
#include "../src/device.h"
#include "../src/sensor.h"
#include "check.h"
#include "segments.h"

#define PERIOD_NS 5000000LL
#define DEADLINE_NS 3000000LL
#define WORST_NS (DEADLINE_NS + 1000000) /* of a reply; the device is never slower by itself */
#define BOUND_NS 20000000000LL /* of any wait: only reached when something is wrong */
#define RECOVER 2
#define REQUEST 4
#define REPLY 12

/* how the device answers: written by the test, read by the answering thread */
enum answer { ANSWER, SILENT, LATE, GARBLED, STRAY_FIRST, BABBLE };

struct device_thread {
    pthread_t thread;
    int fd;
    _Atomic int answer;
    _Atomic int requests;
    int64_t base_ns;
};

struct rig {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
    struct device_thread device;
    int ours;
    int64_t base_ns;
};

/* CRC-16/UMTS */
static const struct inphase_checksum sum = {
    .kind = INPHASE_CHECKSUM_CRC, .width = 16, .polynomial = 0x8005};

/* AA, size, when the request came in us since base (low first), sequence, zeros, CRC */
static void make_reply(uint8_t *reply, uint32_t came_us, uint32_t sequence)
{
    uint64_t crc = 0;

    memset(reply, 0, REPLY);
    reply[0] = 0xaa;
    reply[1] = REPLY;
    for (int i = 0; i < 4; i++) {
        reply[2 + i] = (uint8_t)(came_us >> (8 * i));
        reply[6 + i] = (uint8_t)(sequence >> (8 * i));
    }
    CHECK_EQUAL(inphase_checksum(&sum, reply, REPLY - 2, &crc), 0);
    reply[REPLY - 2] = (uint8_t)crc;
    reply[REPLY - 1] = (uint8_t)(crc >> 8);
}

static void answer(struct device_thread *device, int how, uint8_t *reply)
{
    static const uint8_t stray[3] = {0xaa, 1, 2};
    struct timespec pause = {.tv_nsec = DEADLINE_NS + 500000};
    ssize_t sent = 0;

    if (how == SILENT)
        return;
    if (how == LATE)
        nanosleep(&pause, NULL);
    if (how == GARBLED)
        reply[4] ^= 0x40;
    if (how == STRAY_FIRST)
        sent = write(device->fd, stray, sizeof stray);
    for (int i = 0; how == BABBLE && i < 200; i++)
        sent = write(device->fd, stray + 2, 1);
    if (how != BABBLE)
        sent = write(device->fd, reply, REPLY);
    (void)sent; /* the other side may be closed by now: the next read says so */
}

static void *device_main(void *argument)
{
    struct device_thread *device = argument;
    uint8_t request[64], reply[REPLY];
    uint32_t sequence = 0;
    ssize_t size;

    /* until the test shuts the socket down */
    while ((size = read(device->fd, request, sizeof request)) > 0) {
        int64_t came_ns = inphase_now() - device->base_ns;

        atomic_fetch_add(&device->requests, 1);
        make_reply(reply, (uint32_t)(came_ns / 1000), ++sequence);
        answer(device, atomic_load(&device->answer), reply);
    }
    close(device->fd);
    return NULL;
}

static void start_device(struct rig *rig, int kind)
{
    int fd[2];

    CHECK_EQUAL(socketpair(AF_UNIX, kind | SOCK_CLOEXEC, 0, fd), 0);
    CHECK_EQUAL(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
    rig->ours = fd[0];
    rig->device = (struct device_thread){.fd = fd[1], .base_ns = rig->base_ns};
    CHECK_EQUAL(pthread_create(&rig->device.thread, NULL, device_main, &rig->device), 0);
}

/* close from the device's side: the core sees the end of the line */
static void close_device_side(struct rig *rig)
{
    CHECK_EQUAL(shutdown(rig->device.fd, SHUT_RDWR), 0);
    CHECK_EQUAL(pthread_join(rig->device.thread, NULL), 0);
}

static void open_rig(struct rig *rig, int kind)
{
    static const uint8_t request[REQUEST] = {1, 2, 3, 4};
    static const struct inphase_reply reply = {REPLY, 0, 1, 0, 1};
    static const struct inphase_check check = {.kind = INPHASE_CHECK_SUM_END};
    static const struct inphase_field field = {2, INPHASE_U32, 0, 0, 1, 0};
    struct inphase_sensor_config sensor = {
        .channels = 1, .max_age_ns = 100 * PERIOD_NS, .recover = RECOVER, .depth = 64,
        .every = 1, .payload = 8,
        .exchange = {.request = request, .request_size = REQUEST, .replies = 1, .reply = &reply,
                     .check = &check, .field = &field, .checks = 1, .fields = 1,
                     .checksum = &sum, .checksums = 1,
                     .sequence_offset = 6, .sequence_type = INPHASE_U32,
                     .framing = {.datagram = kind == SOCK_DGRAM, .start_size = 1, .start = {0xaa},
                                 .length_offset = 1, .length_size = 1, .min_size = 4,
                                 .max_size = 64},
                     .clock_offset = 2, .clock_type = INPHASE_U32, .clock_bits = 32,
                     .clock_tick_ns = 1000,
                     .acquire = INPHASE_ACQUIRE_MIDDLE, .reply_ns = WORST_NS,
                     .reply_max_ns = WORST_NS}};
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = DEADLINE_NS, .act_ns = DEADLINE_NS,
        .resumed_after_ns = BOUND_NS, .devices = 1, .sensors = 1, .frame_depth = 1024,
        .overrun_limit = 1000000, .cpu = -1, .sensor = &sensor,
    };

    if (kind != SOCK_DGRAM)
        sensor.exchange.framing.min_size = REPLY;
    memset(rig, 0, sizeof *rig);
    rig->base_ns = inphase_now();
    CHECK_EQUAL(inphase_segment_make(&rig->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&rig->core, &config, rig->segment), 0);
    CHECK_EQUAL(open_reader(&rig->reader, rig->segment, 0), 0);
    start_device(rig, kind);
    CHECK_EQUAL(inphase_core_attach(rig->core, 0, rig->ours), 0);
    CHECK_EQUAL(inphase_core_start(rig->core), 0);
}

static void close_rig(struct rig *rig)
{
    struct inphase_status status;

    inphase_core_stop(rig->core, INPHASE_REASON_REQUEST, 3);
    CHECK_EQUAL(inphase_core_join(rig->core, BOUND_NS), 0);
    CHECK_EQUAL(inphase_reader_status(rig->reader, &status), 0);
    CHECK_EQUAL(status.state, INPHASE_STATE_STOPPED);
    CHECK(status.reason == INPHASE_REASON_REQUEST && status.detail == 3);
    close_device_side(rig);
    close(rig->ours);
    inphase_reader_close(rig->reader);
    inphase_core_close(rig->core);
    inphase_segment_close(rig->segment);
}

/* The next frame; a sample must be the answer to this very trigger, unless the device's thread was
   held up for longer than the worst case that is stated: nothing tells its answer from the next */
static const struct inphase_row *next(struct rig *rig)
{
    const struct inphase_frame *frame = inphase_reader_record(rig->reader);
    const struct inphase_row *row = (const struct inphase_row *)(frame + 1);
    double came_us;

    CHECK(inphase_reader_next(rig->reader, 0, BOUND_NS) >= 0);
    CHECK(row->status < INPHASE_STATUSES);
    if (row->sequence >= 0 && row->triggered_ns != INPHASE_ABSENT &&
        inphase_reader_copy(rig->reader, 0, row->sequence, &came_us) == 0) {
        bool kept = (double)((row->received_ns - rig->base_ns) / 1000) - came_us <= WORST_NS / 1000;

        CHECK(came_us >= (double)((row->triggered_ns - rig->base_ns) / 1000) || !kept);
        CHECK(row->received_ns >= row->triggered_ns);
    }
    if (row->uncertainty_ns) {
        CHECK(row->acquired_ns >= row->triggered_ns - row->uncertainty_ns);
        CHECK(row->acquired_ns <= row->received_ns + row->uncertainty_ns);
    }
    if (row->status == INPHASE_FRESH)
        CHECK(row->triggered_ns >= frame->due_ns && row->reason == 0);
    return row;
}

/* frames until this many in all had the status; any number of others on a busy machine */
static void wait_for(struct rig *rig, uint16_t status, int count)
{
    int64_t until = inphase_now() + BOUND_NS;

    while (count > 0) {
        CHECK(inphase_now() < until);
        count -= next(rig)->status == status;
    }
}

/* a device that gives its time: after some exchanges the acquisition is by its clock, which here
   runs as the host's does */
static void the_devices_clock_says_when_it_sampled(void)
{
    struct inphase_clock_facts facts;
    struct rig rig;
    int64_t until = inphase_now() + BOUND_NS;
    int by_clock = 0;

    open_rig(&rig, SOCK_STREAM);
    while (by_clock < 50) {
        CHECK(inphase_now() < until);
        const struct inphase_row *row = next(&rig);

        by_clock += row->status == INPHASE_FRESH && row->uncertainty_ns > 0;
    }
    CHECK_EQUAL(inphase_reader_clock(rig.reader, 0, &facts), 0);
    CHECK(facts.taken >= 50 && facts.error_ns > 0);
    CHECK(facts.drift_ppb > -50000000 && facts.drift_ppb < 50000000);
    CHECK_EQUAL(inphase_reader_clock(rig.reader, 1, &facts), -ENOENT);
    close_rig(&rig);
}

static void answers_are_fresh(int kind)
{
    struct rig rig;
    struct inphase_counts counts;

    open_rig(&rig, kind);
    wait_for(&rig, INPHASE_FRESH, 50);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 1);
    CHECK_EQUAL(inphase_core_lost(rig.core, 0), 0);
    CHECK_EQUAL(inphase_reader_counts(rig.reader, &counts), 0);
    CHECK_EQUAL(counts.dropped_bytes, 0);
    CHECK(atomic_load(&rig.device.requests) >= 50);
    close_rig(&rig);
}

static void answers_on_a_line_are_fresh(void)
{
    answers_are_fresh(SOCK_STREAM);
}

static void answers_in_datagrams_are_fresh(void)
{
    answers_are_fresh(SOCK_DGRAM);
}

static void silence_is_late_and_its_end_is_fresh(void)
{
    struct rig rig;

    open_rig(&rig, SOCK_STREAM);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.device.answer, SILENT);
    wait_for(&rig, INPHASE_LATE, 5);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 1);
    atomic_store(&rig.device.answer, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 5);
    close_rig(&rig);
}

/* `next` checks the pairing of every sample with its trigger */
static void late_answers_belong_to_the_trigger_that_asked(int kind)
{
    struct rig rig;
    struct inphase_counts counts;

    open_rig(&rig, kind);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.device.answer, LATE);
    wait_for(&rig, INPHASE_LATE, 10);
    CHECK_EQUAL(inphase_reader_counts(rig.reader, &counts), 0);
    CHECK(counts.late_samples > 0);
    atomic_store(&rig.device.answer, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 10);
    close_rig(&rig);
}

static void late_answers_on_a_line_belong_to_their_trigger(void)
{
    late_answers_belong_to_the_trigger_that_asked(SOCK_STREAM);
}

static void late_answers_in_datagrams_belong_to_their_trigger(void)
{
    late_answers_belong_to_the_trigger_that_asked(SOCK_DGRAM);
}

static void garbled_answers_are_invalid(void)
{
    struct rig rig;
    const struct inphase_row *row;

    open_rig(&rig, SOCK_STREAM);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.device.answer, GARBLED);
    wait_for(&rig, INPHASE_INVALID, 5);
    row = (const void *)((const struct inphase_frame *)inphase_reader_record(rig.reader) + 1);
    CHECK_EQUAL(row->reason, INPHASE_REASON_CHECKSUM);
    CHECK_EQUAL(row->detail, REPLY - 2);
    atomic_store(&rig.device.answer, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 5);
    close_rig(&rig);
}

static void what_follows_a_stray_datagram_is_not_taken_for_the_next_answer(void)
{
    struct rig rig;

    open_rig(&rig, SOCK_DGRAM);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.device.answer, STRAY_FIRST);
    wait_for(&rig, INPHASE_INVALID, 10);
    atomic_store(&rig.device.answer, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 10);
    close_rig(&rig);
}

static void a_line_that_babbles_is_read_a_bounded_number_of_times(void)
{
    struct rig rig;
    struct inphase_counts counts;

    open_rig(&rig, SOCK_STREAM);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.device.answer, BABBLE);
    wait_for(&rig, INPHASE_LATE, 10);
    CHECK_EQUAL(inphase_reader_counts(rig.reader, &counts), 0);
    CHECK(counts.dropped_bytes > 0);
    atomic_store(&rig.device.answer, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 5);
    close_rig(&rig);
}

static void a_line_that_babbles_is_not_waited_for_any_more(void)
{
    struct inphase_core *core = calloc(1, sizeof *core);
    struct device device = {0};
    int fd[2];

    CHECK(core);
    CHECK_EQUAL(pipe(fd), 0);
    CHECK_EQUAL(write(fd[1], "x", 1), 1);
    device.fd = fd[0];
    core->sensors = 1;
    core->sensor[0].device = &device;
    core->sensor[0].outstanding = true;
    monotonic_clock.wait(core, inphase_now() + BOUND_NS);
    CHECK(core->readable[0]);
    core->sensor[0].receives = RECEIVES_PER_CYCLE;
    monotonic_clock.wait(core, inphase_now());
    CHECK(!core->readable[0]);
    close(fd[0]);
    close(fd[1]);
    free(core);
}

static void a_line_that_closes_is_offline_and_recovers_when_it_is_back(void)
{
    struct rig rig;
    struct inphase_status status;

    open_rig(&rig, SOCK_STREAM);
    wait_for(&rig, INPHASE_FRESH, 3);
    close_device_side(&rig);
    wait_for(&rig, INPHASE_OFFLINE, 5);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 0);
    CHECK(inphase_core_lost(rig.core, 0) > 0);
    CHECK_EQUAL(inphase_reader_status(rig.reader, &status), 0);
    CHECK_EQUAL(status.lost_devices, 1);
    close(rig.ours);

    /* back: good answers are RECOVERING first, exactly so many, then FRESH; one that a busy machine
       has made late puts the line in doubt, for longer */
    start_device(&rig, SOCK_STREAM);
    CHECK_EQUAL(inphase_core_attach(rig.core, 0, rig.ours), 0);
    CHECK_EQUAL(inphase_core_lost(rig.core, 0), 0);
    for (int recovering = 0, late = 0;;) {
        uint16_t now = next(&rig)->status;

        recovering += now == INPHASE_RECOVERING;
        late += now == INPHASE_LATE;
        CHECK(now != INPHASE_FRESH || recovering == RECOVER || (late && recovering > RECOVER));
        if (now == INPHASE_FRESH)
            break;
    }
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 1);
    CHECK_EQUAL(inphase_core_lost(rig.core, 0), 0);
    wait_for(&rig, INPHASE_FRESH, 5);
    close_rig(&rig);
}

static void a_device_that_was_given_back_is_not_touched(void)
{
    struct rig rig;
    int requests;

    open_rig(&rig, SOCK_STREAM);
    wait_for(&rig, INPHASE_FRESH, 3);
    CHECK_EQUAL(inphase_core_detach(rig.core, 0), 0);
    wait_for(&rig, INPHASE_OFFLINE, 2);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 0);
    requests = atomic_load(&rig.device.requests);
    wait_for(&rig, INPHASE_OFFLINE, 5);
    CHECK_EQUAL(atomic_load(&rig.device.requests), requests);

    /* attached again it was never lost: trusted at once */
    CHECK_EQUAL(inphase_core_attach(rig.core, 0, rig.ours), 0);
    wait_for(&rig, INPHASE_FRESH, 3);
    CHECK_EQUAL(inphase_core_attach(rig.core, 1, rig.ours), -EINVAL);
    CHECK_EQUAL(inphase_core_attached(rig.core, 99), -EINVAL);
    close_rig(&rig);
}

/* what the core answered to an older wish says nothing of the newest, and none is ever refused */
static void the_newest_wish_counts_and_no_older_answer(void)
{
    struct rig rig;
    struct inphase_status status;
    int closed;

    open_rig(&rig, SOCK_STREAM);
    wait_for(&rig, INPHASE_FRESH, 3);
    closed = dup(rig.ours);
    CHECK(closed >= 0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(inphase_core_detach(rig.core, 0), 0);
        CHECK_EQUAL(inphase_core_attach(rig.core, 0, closed), 0);
        CHECK_EQUAL(inphase_core_attach(rig.core, 0, rig.ours), 0);
    }
    while (inphase_core_attached(rig.core, 0) == -EINPROGRESS)
        next(&rig);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 1);

    /* the one that was wanted in between is used no more: its end is no loss */
    close(closed);
    wait_for(&rig, INPHASE_FRESH, 5);
    CHECK_EQUAL(inphase_core_lost(rig.core, 0), 0);
    CHECK_EQUAL(inphase_reader_status(rig.reader, &status), 0);
    CHECK_EQUAL(status.lost_devices, 0);

    /* nobody takes a wish any more: neither 1 nor 0 is an answer to it */
    inphase_core_stop(rig.core, INPHASE_REASON_REQUEST, 3);
    CHECK_EQUAL(inphase_core_join(rig.core, BOUND_NS), 0);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 1);
    CHECK_EQUAL(inphase_core_detach(rig.core, 0), 0);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), -EINPROGRESS);
    CHECK_EQUAL(inphase_core_attach(rig.core, 0, rig.ours), 0);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), -EINPROGRESS);
    CHECK_EQUAL(inphase_core_attach(rig.core, 0, -1), -EINVAL);
    close_rig(&rig);
}

int main(void)
{
    check_seed();
    signal(SIGPIPE, SIG_IGN);
    RUN(answers_on_a_line_are_fresh);
    RUN(answers_in_datagrams_are_fresh);
    RUN(the_devices_clock_says_when_it_sampled);
    RUN(silence_is_late_and_its_end_is_fresh);
    RUN(late_answers_on_a_line_belong_to_their_trigger);
    RUN(late_answers_in_datagrams_belong_to_their_trigger);
    RUN(garbled_answers_are_invalid);
    RUN(what_follows_a_stray_datagram_is_not_taken_for_the_next_answer);
    RUN(a_line_that_babbles_is_read_a_bounded_number_of_times);
    RUN(a_line_that_babbles_is_not_waited_for_any_more);
    RUN(a_line_that_closes_is_offline_and_recovers_when_it_is_back);
    RUN(a_device_that_was_given_back_is_not_touched);
    RUN(the_newest_wish_counts_and_no_older_answer);
    return 0;
}
