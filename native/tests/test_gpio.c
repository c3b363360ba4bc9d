/* Trigger lines, and those of the emergency stop. There is no GPIO chip here: the kernel hands the
   cycle thread's ioctls to a thread of this test (seccomp's user notification), which sees each
   edge and says that it was done. What a chip does with them is tested where there is one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/gpio.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../src/client_page.h"
#include "../src/core.h"
#include "../src/estop.h"
#include "check.h"
#include "segments.h"

#define PERIOD_NS 5000000LL
#define DEADLINE_NS 3000000LL
#define ACT_NS 4000000LL
#define BOUND_NS 20000000000LL /* of any wait: only reached when something is wrong */
#define MAX_EDGES 4096

/* every edge in order: written by the thread that answers the ioctls */
struct edge {
    uint64_t mask, value;
    int64_t time_ns;
};
static struct edge edges[MAX_EDGES];
static _Atomic uint32_t edge_count;
static _Atomic uint32_t look_count; /* times that a line was read */
static _Atomic uint64_t level;      /* and what it was */
static _Atomic bool edges_over;

struct rig {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
    pthread_t device;
    int ours, theirs;
    _Atomic uint32_t requests;
    bool has_edges;
};

static void *line_main(void *argument)
{
    int listener = *(int *)argument;

    while (!atomic_load(&edges_over)) {
        struct pollfd ready = {.fd = listener, .events = POLLIN};
        struct seccomp_notif call = {0};
        struct seccomp_notif_resp answer = {0};
        uint32_t count = atomic_load(&edge_count);

        if (poll(&ready, 1, 10) <= 0 || ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
            continue;
        if ((uint32_t)call.data.args[1] == (uint32_t)GPIO_V2_LINE_GET_VALUES_IOCTL) {
            struct gpio_v2_line_values values = {.bits = atomic_load(&level), .mask = 1};
            struct iovec from = {&values, sizeof values};
            struct iovec to = {(void *)(uintptr_t)call.data.args[2], sizeof values};

            CHECK_EQUAL(process_vm_writev(getpid(), &from, 1, &to, 1, 0), sizeof values);
            atomic_fetch_add(&look_count, 1);
        } else if (count < MAX_EDGES) {
            struct gpio_v2_line_values values;
            struct iovec to = {&values, sizeof values};
            struct iovec from = {(void *)(uintptr_t)call.data.args[2], sizeof values};

            /* as the kernel would: what it copies needs no synchronisation with who waits for it */
            CHECK_EQUAL(process_vm_readv(getpid(), &to, 1, &from, 1, 0), sizeof values);
            edges[count] = (struct edge){values.mask, values.bits, inphase_now()};
            atomic_store(&edge_count, count + 1);
        }
        answer.id = call.id;
        CHECK_EQUAL(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
    }
    return NULL;
}

/* from now on this thread's and its children's GPIO ioctls go to the listener; -1: not here */
static int listen_to_lines(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)GPIO_V2_LINE_GET_VALUES_IOCTL, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)GPIO_V2_LINE_SET_VALUES_IOCTL, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &program);
}

static void *device_main(void *argument)
{
    struct rig *rig = argument;
    uint8_t request[4];

    /* until the test shuts the socket down */
    while (read(rig->theirs, request, sizeof request) > 0) {
        uint32_t before = atomic_fetch_add(&rig->requests, 1);
        ssize_t sent;

        /* two edges for each request before this one, and the line's way up for this one */
        if (rig->has_edges)
            CHECK(atomic_load(&edge_count) >= 2 * before + 1);
        sent = write(rig->theirs, request, sizeof request);
        (void)sent; /* the other side may be closed by now: the next read says so */
    }
    return NULL;
}

static void open_rig_with(struct rig *rig, bool stops)
{
    static const struct inphase_estop_input button = {.kind = INPHASE_INPUT_LINE, .pressed = 0};
    static const struct inphase_limits limits = {
        .low = -1, .high = 1, .velocity = 1, .acceleration = 1, .step = 1};
    static const uint8_t packet[4] = {5, 6, 7, 8};
    struct inphase_actuator_config actuator = {
        .channels = 1, .limits = &limits, .guarded = 1, .max_hold_ns = BOUND_NS,
        .accepts = 1 << INPHASE_FRESH | 1 << INPHASE_HELD | 1 << INPHASE_LATE,
        .encoding = {.packet = packet, .packet_size = 4}};
    static const uint8_t request[4] = {1, 2, 3, 4};
    static const struct inphase_reply reply = {4, 0, 0, 0, 1};
    static const struct inphase_field field = {0, INPHASE_U32, 0, 0, 1, 0};
    struct inphase_sensor_config sensor = {
        .channels = 1, .payload = 8, .every = 1, .trigger_ns = 500000,
        .max_age_ns = 100 * PERIOD_NS, .recover = 1, .depth = 64,
        .exchange = {.request = request, .request_size = 4, .replies = 1, .reply = &reply,
                     .field = &field, .fields = 1, .reply_max_ns = DEADLINE_NS,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4}}};
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = DEADLINE_NS, .act_ns = ACT_NS,
        .resumed_after_ns = BOUND_NS, .devices = 1, .sensors = 1, .frame_depth = 1024,
        .overrun_limit = 1000000, .cpu = -1, .sensor = &sensor, .actuators = stops,
        .actuator = &actuator, .estop_inputs = stops, .estop = &button,
    };
    int fd[2];

    memset(rig, 0, sizeof *rig);
    atomic_store(&edge_count, 0);
    CHECK_EQUAL(inphase_segment_make(&rig->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&rig->core, &config, rig->segment), 0);
    CHECK_EQUAL(open_reader(&rig->reader, rig->segment, 0), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd), 0);
    CHECK_EQUAL(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
    rig->ours = fd[0];
    rig->theirs = fd[1];
    CHECK_EQUAL(pthread_create(&rig->device, NULL, device_main, rig), 0);
    CHECK_EQUAL(inphase_core_attach(rig->core, 0, rig->ours), 0);
}

static void open_rig(struct rig *rig)
{
    open_rig_with(rig, false);
}

static void close_rig(struct rig *rig)
{
    inphase_core_stop(rig->core, INPHASE_REASON_REQUEST, 0);
    CHECK_EQUAL(inphase_core_join(rig->core, BOUND_NS), 0);
    CHECK_EQUAL(shutdown(rig->theirs, SHUT_RDWR), 0);
    CHECK_EQUAL(pthread_join(rig->device, NULL), 0);
    close(rig->ours);
    close(rig->theirs);
    inphase_reader_close(rig->reader);
    inphase_core_close(rig->core);
    inphase_segment_close(rig->segment);
}

static const struct inphase_row *next(struct rig *rig)
{
    CHECK(inphase_reader_next(rig->reader, 0, BOUND_NS) >= 0);
    return (const void *)((const struct inphase_frame *)inphase_reader_record(rig->reader) + 1);
}

static void a_line_that_is_none_is_refused(void)
{
    int fd[2];

    CHECK_EQUAL(pipe(fd), 0);
    CHECK_EQUAL(inphase_gpio_set(-1, 1, 1), -EBADF);
    CHECK_EQUAL(inphase_gpio_set(fd[0], 1, 1), -ENOTTY);
    close(fd[0]);
    close(fd[1]);
}

static void a_pulse_must_fit_into_its_cycle(void)
{
    struct rig rig;

    open_rig(&rig);
    CHECK_EQUAL(inphase_core_line(rig.core, 1, 0, 0), -EINVAL);
    CHECK_EQUAL(inphase_core_line(rig.core, 0, 0, -1), -EINVAL);
    CHECK_EQUAL(inphase_core_line(rig.core, 0, 0, ACT_NS - 500000 + 1), -EINVAL);
    CHECK_EQUAL(inphase_core_line(rig.core, 0, 0, ACT_NS - 500000), 0);
    CHECK_EQUAL(inphase_core_start(rig.core), 0);
    CHECK_EQUAL(inphase_core_line(rig.core, 0, 0, 0), -EBUSY);
    close_rig(&rig);
}

/* no request goes out when the line could not be raised */
static void a_line_that_cannot_be_set_loses_the_device(void)
{
    int64_t until = inphase_now() + BOUND_NS;
    struct rig rig;
    int fd[2];

    CHECK_EQUAL(pipe(fd), 0);
    open_rig(&rig);
    CHECK_EQUAL(inphase_core_line(rig.core, 0, fd[0], 0), 0);
    CHECK_EQUAL(inphase_core_start(rig.core), 0);

    /* at the first trigger that is fired; a cycle that is very late fires none */
    while (next(&rig)->status != INPHASE_OFFLINE)
        CHECK(inphase_now() < until);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 0);
    CHECK_EQUAL(inphase_core_lost(rig.core, 0), ENOTTY);
    CHECK_EQUAL(atomic_load(&rig.requests), 0);
    close_rig(&rig);
    close(fd[0]);
    close(fd[1]);
}

/* one edge up and one down per cycle, and the request in between */
static void a_line_is_up_from_its_trigger_to_the_latch_or_the_act(int64_t pulse_ns)
{
    const struct inphase_row *row;
    int64_t until = inphase_now() + BOUND_NS, latched_ns = 0, triggered_ns = 0;
    int64_t due_ns = 0;
    const struct inphase_frame *frame;
    struct rig rig;
    uint32_t count;
    int fresh = 0, line = open("/dev/null", O_RDWR | O_CLOEXEC);

    CHECK(line >= 0);
    open_rig(&rig);
    rig.has_edges = true;
    CHECK_EQUAL(inphase_core_line(rig.core, 0, line, pulse_ns), 0);
    CHECK_EQUAL(inphase_core_start(rig.core), 0);
    while (fresh < 20) {
        CHECK(inphase_now() < until);
        row = next(&rig);
        if (row->status != INPHASE_FRESH)
            continue;
        fresh++;
        frame = inphase_reader_record(rig.reader);
        triggered_ns = row->triggered_ns;
        latched_ns = frame->latched_ns;
        due_ns = frame->due_ns;
    }
    close_rig(&rig);
    close(line);
    count = atomic_load(&edge_count);
    CHECK(count >= 2 * 20 && count % 2 == 0);
    CHECK_EQUAL(count, 2 * atomic_load(&rig.requests));
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQUAL(edges[i].mask, 1);
        CHECK_EQUAL(edges[i].value, i % 2 == 0);
    }

    /* the last fresh sample's pulse */
    for (uint32_t i = 0; i < count; i += 2) {
        if (edges[i].time_ns < triggered_ns || (i && edges[i - 1].time_ns > triggered_ns))
            continue;
        if (pulse_ns == 0)
            CHECK(edges[i + 1].time_ns <= latched_ns);
        else
            CHECK(edges[i + 1].time_ns >= due_ns + ACT_NS);
    }
}

static void a_short_pulse_is_over_at_the_latch(void)
{
    a_line_is_up_from_its_trigger_to_the_latch_or_the_act(0);
}

static void a_long_pulse_is_over_after_the_act(void)
{
    a_line_is_up_from_its_trigger_to_the_latch_or_the_act(ACT_NS - 500000);
}

static const struct inphase_frame *frame_of(struct rig *rig)
{
    next(rig);
    return inphase_reader_record(rig->reader);
}

/* low is pressed: one look per cycle, and what cannot be read is no better */
static void a_line_of_the_emergency_stop_is_read_once_per_cycle(void)
{
    int64_t until = inphase_now() + BOUND_NS;
    struct inphase_status status;
    const struct inphase_frame *frame;
    struct rig rig;
    int line = open("/dev/null", O_RDWR | O_CLOEXEC);

    CHECK(line >= 0);
    atomic_store(&look_count, 0);
    atomic_store(&level, 1);
    open_rig_with(&rig, true);
    CHECK_EQUAL(inphase_core_estop_line(rig.core, 1, line), -EINVAL);
    CHECK_EQUAL(inphase_core_estop_line(rig.core, 0, line), 0);
    CHECK_EQUAL(inphase_core_enable(rig.core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_arm(rig.core), 0);
    CHECK_EQUAL(inphase_core_start(rig.core), 0);
    CHECK_EQUAL(inphase_core_estop_line(rig.core, 0, line), -EBUSY);
    do
        frame = frame_of(&rig);
    while (frame->state != INPHASE_STATE_ARMED && inphase_now() < until);
    CHECK_EQUAL(frame->state, INPHASE_STATE_ARMED);
    atomic_store(&level, 0);
    do
        frame = frame_of(&rig);
    while (!(frame->flags & INPHASE_FLAG_ESTOP) && inphase_now() < until);
    CHECK(frame->reason == INPHASE_REASON_ESTOP && frame->estop == 1);
    atomic_store(&level, 1);
    do
        frame = frame_of(&rig);
    while (frame->estop && inphase_now() < until);
    CHECK_EQUAL(frame->reason, INPHASE_REASON_ESTOP);
    inphase_core_stop(rig.core, INPHASE_REASON_REQUEST, 0);
    CHECK_EQUAL(inphase_core_join(rig.core, BOUND_NS), 0);
    CHECK_EQUAL(inphase_reader_status(rig.reader, &status), 0);
    CHECK_EQUAL(atomic_load(&look_count), status.cycles + status.stopping_cycles);
    close_rig(&rig);
    close(line);
}

static void a_line_that_cannot_be_read_keeps_all_from_being_armed(void)
{
    const struct inphase_frame *frame = NULL;
    struct inphase_status status;
    struct rig rig;
    int fd[2];

    CHECK_EQUAL(pipe(fd), 0);
    open_rig_with(&rig, true);
    CHECK_EQUAL(inphase_core_estop_line(rig.core, 0, fd[0]), 0);
    CHECK_EQUAL(inphase_core_enable(rig.core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_arm(rig.core), 0);
    CHECK_EQUAL(inphase_core_start(rig.core), 0);
    for (int i = 0; i < 20; i++)
        frame = frame_of(&rig);
    CHECK_EQUAL(frame->state, INPHASE_STATE_OPENED);
    CHECK_EQUAL(frame->estop, 1 << INPHASE_ESTOP_INPUTS);
    CHECK_EQUAL(inphase_reader_status(rig.reader, &status), 0);
    CHECK_EQUAL(status.refusal, INPHASE_REASON_ESTOP);
    close_rig(&rig);
    close(fd[0]);
    close(fd[1]);
}

/* what the gateway writes and the core reads: a word of another run, or of nobody, is not looked
   at */
static void a_clients_stop_is_a_word_in_a_page_of_this_run(void)
{
    int64_t until = inphase_now() + BOUND_NS;
    const struct inphase_frame *frame;
    inphase_segment *page, *other, *theirs;
    struct rig rig;

    open_rig_with(&rig, true);
    rig.core->estop[0].kind = INPHASE_INPUT_NONE;
    CHECK_EQUAL(inphase_segment_make(&other, CLIENT_PAGE_BYTES, 1), 0);
    CHECK_EQUAL(inphase_core_client_page(rig.core, other), -EPROTO);
    inphase_segment_close(other);
    CHECK_EQUAL(inphase_client_page_make(&other, rig.core->epoch + 1), 0);
    CHECK_EQUAL(inphase_core_client_page(rig.core, other), -EPROTO);
    inphase_segment_close(other);
    CHECK_EQUAL(inphase_client_page_make(&page, rig.core->epoch), 0);
    CHECK_EQUAL(inphase_client_page_estop(page), -EPERM); /* the gateway's to do */
    CHECK_EQUAL(inphase_segment_map(&theirs, inphase_segment_fd(page), 1), 0);
    CHECK_EQUAL(inphase_client_page_estop(theirs), 0); /* before us: not for us */
    CHECK_EQUAL(inphase_core_client_page(rig.core, page), 0);
    CHECK_EQUAL(inphase_core_enable(rig.core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_arm(rig.core), 0);
    CHECK_EQUAL(inphase_core_start(rig.core), 0);
    do
        frame = frame_of(&rig);
    while (frame->state != INPHASE_STATE_ARMED && inphase_now() < until);
    CHECK_EQUAL(frame->state, INPHASE_STATE_ARMED);
    CHECK_EQUAL(inphase_client_page_estop(theirs), 0);
    do
        frame = frame_of(&rig);
    while (!(frame->flags & INPHASE_FLAG_ESTOP) && inphase_now() < until);
    CHECK(frame->reason == INPHASE_REASON_ESTOP && frame->detail == INPHASE_ESTOP_CLIENT);
    close_rig(&rig);
    inphase_segment_close(theirs);
    inphase_segment_close(page);
}

/* the next frame that tells this episode */
static void wait_for_episode(struct rig *rig, uint32_t episode, uint32_t outcome)
{
    int64_t until = inphase_now() + BOUND_NS;
    const struct inphase_frame *frame;

    do
        frame = frame_of(rig);
    while ((frame->episode != episode || frame->outcome != outcome) && inphase_now() < until);
    CHECK_EQUAL(frame->episode, episode);
    CHECK_EQUAL(frame->outcome, outcome);
}

static void an_episode_is_a_word_that_the_frames_tell(void)
{
    inphase_segment *page, *theirs;
    struct rig rig;

    open_rig_with(&rig, true);
    CHECK_EQUAL(inphase_client_page_make(&page, rig.core->epoch), 0);
    CHECK_EQUAL(inphase_client_page_episode(page, INPHASE_EPISODE_RUNNING), -EPERM);
    CHECK_EQUAL(inphase_segment_map(&theirs, inphase_segment_fd(page), 1), 0);
    CHECK_EQUAL(inphase_core_client_page(rig.core, page), 0);
    CHECK_EQUAL(inphase_core_start(rig.core), 0);
    wait_for_episode(&rig, 0, INPHASE_EPISODE_NONE);

    /* what is refused changes nothing */
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_NONE), -EINVAL);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODES), -EINVAL);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_SUCCESS), -ENOENT);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_RUNNING), 1);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_RUNNING), -EBUSY);
    wait_for_episode(&rig, 1, INPHASE_EPISODE_RUNNING);

    /* an outcome may be thought over until the next episode */
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_SUCCESS), 1);
    wait_for_episode(&rig, 1, INPHASE_EPISODE_SUCCESS);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_ENDED), -EALREADY);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_DISCARDED), 1);
    wait_for_episode(&rig, 1, INPHASE_EPISODE_DISCARDED);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_RUNNING), 2);
    CHECK_EQUAL(inphase_client_page_episode(theirs, INPHASE_EPISODE_ENDED), 2);
    wait_for_episode(&rig, 2, INPHASE_EPISODE_ENDED);

    /* another process may write anything: an outcome that is none is no episode */
    atomic_store(&((struct client_page *)(void *)inphase_segment_memory(theirs))->episode,
                 9ULL << 8 | INPHASE_EPISODES);
    wait_for_episode(&rig, 0, INPHASE_EPISODE_NONE);
    close_rig(&rig);
    inphase_segment_close(theirs);
    inphase_segment_close(page);
}

int main(void)
{
    pthread_t line;
    int listener;

    check_seed();
    signal(SIGPIPE, SIG_IGN);
    RUN(a_line_that_is_none_is_refused);
    RUN(a_pulse_must_fit_into_its_cycle);
    RUN(a_line_that_cannot_be_set_loses_the_device);
    RUN(a_line_that_cannot_be_read_keeps_all_from_being_armed);
    RUN(a_clients_stop_is_a_word_in_a_page_of_this_run);
    RUN(an_episode_is_a_word_that_the_frames_tell);
    listener = listen_to_lines();
    if (listener < 0) {
        printf("the rest is skipped: this kernel has no seccomp user notification\n");
        return 0;
    }
    CHECK_EQUAL(pthread_create(&line, NULL, line_main, &listener), 0);
    RUN(a_short_pulse_is_over_at_the_latch);
    RUN(a_long_pulse_is_over_after_the_act);
    RUN(a_line_of_the_emergency_stop_is_read_once_per_cycle);
    atomic_store(&edges_over, true);
    CHECK_EQUAL(pthread_join(line, NULL), 0);
    return 0;
}
