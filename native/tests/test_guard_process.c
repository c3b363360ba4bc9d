/* The guard's program itself, with a page of the test's own: in which order it does what, and what
   it looks at again. Its runtime is a process that does nothing, its devices are sockets and a
   terminal. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "../src/actuator.h"
#include "../src/clock.h"
#include "../src/core.h"
#include "../src/guard.h"
#include "../src/guard_page.h"
#include "check.h"

#define MS 1000000LL
#define ACTUATORS 2
#define STOP 4 /* bytes */
#define REPEATS 3
#define TRIES 12 /* of one device */

struct rig {
    struct inphase_core *core;
    pid_t runtime, guard;
    int pidfd, line, page, life;
    int words;                  /* what the guard says to a person */
    int input;                  /* the other end of its standard input */
    char note[64];
};

static uint32_t chunk; /* of the stops' bytes; 0: they are one write */
static rlim_t memory_max; /* that the guard may lock, without rights of root; 0: as this process */
static struct guard_answer ready; /* the first word of the last guard */

static void limit_memory(void)
{
    struct rlimit limit = {memory_max, memory_max};

    if (!memory_max)
        return;
    setrlimit(RLIMIT_MEMLOCK, &limit);
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0); /* refused to those who have none anyway */
}

/* the runtime's process, and the guard's beside it */
/* a core whose actuators have stop bytes, and its page */
static void make_core(struct rig *rig, int64_t hold_ns, int64_t gap_ns, int64_t wire_ns)
{
    rig->core = calloc(1, sizeof *rig->core);
    CHECK(rig->core);
    rig->core->clock = &monotonic_clock;
    rig->core->actuators = ACTUATORS;
    for (uint32_t i = 0; i < ACTUATORS; i++) {
        struct actuator *actuator = &rig->core->actuator[i];
        uint8_t bytes[STOP] = {0x80, 0, 0, (uint8_t)i};

        actuator->index = i;
        actuator->stop = (struct inphase_stop){.kind = INPHASE_STOP_BYTES, .size = STOP,
                                               .chunk = chunk, .gap_ns = gap_ns,
                                               .wire_ns = wire_ns};
        memcpy(actuator->stop_bytes, bytes, sizeof bytes);
    }
    rig->page = inphase_core_guard(rig->core, hold_ns, &rig->life);
    CHECK(rig->page >= 0);
    guard_beat(rig->core, inphase_now());
}

/* a process that does nothing: the guard takes it for the runtime */
static void start_runtime(struct rig *rig)
{
    rig->runtime = fork();
    CHECK(rig->runtime >= 0);
    if (rig->runtime == 0)
        for (;;)
            pause();
    rig->pidfd = (int)syscall(SYS_pidfd_open, rig->runtime, 0);
    CHECK(rig->pidfd >= 0);
}

/* the guard's program, with the descriptors that the supervisor gives it */
static void run_guard(const struct rig *rig, int line_fd, int words, int input)
{
    char page[16], life[16], pidfd[16], line[16];
    int kept[] = {rig->page, rig->life, rig->pidfd, line_fd};

    snprintf(page, sizeof page, "%d", rig->page);
    snprintf(life, sizeof life, "%d", rig->life);
    snprintf(pidfd, sizeof pidfd, "%d", rig->pidfd);
    snprintf(line, sizeof line, "%d", line_fd);
    for (int i = 0; i < 4; i++)
        fcntl(kept[i], F_SETFD, 0);
    dup2(words, STDERR_FILENO);
    dup2(input, STDIN_FILENO);
    limit_memory();
    execl(GUARD, GUARD, page, life, pidfd, line, "0", "-1", "0", rig->note, (char *)NULL);
    _exit(127);
}

static void open_rig(struct rig *rig, int64_t hold_ns, int64_t gap_ns, int64_t wire_ns)
{
    int pair[2], words[2], input[2];

    memset(rig, 0, sizeof *rig);
    make_core(rig, hold_ns, gap_ns, wire_ns);
    start_runtime(rig);

    /* the guard's line, its words and its input */
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    rig->line = pair[0];
    CHECK_EQUAL(pipe2(words, O_CLOEXEC | O_NONBLOCK), 0);
    rig->words = words[0];
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, input), 0);
    rig->input = input[0];
    snprintf(rig->note, sizeof rig->note, "/dev/shm/inphase-test-guard-%d", (int)getpid());
    unlink(rig->note);

    rig->guard = fork();
    CHECK(rig->guard >= 0);
    if (rig->guard == 0)
        run_guard(rig, pair[1], words[1], input[1]);
    close(pair[1]);
    close(words[1]);
    close(input[1]);
    CHECK_EQUAL(recv(rig->line, &ready, sizeof ready, 0), sizeof ready);
    CHECK_EQUAL(ready.kind, GUARD_READY);
}

static void close_rig(struct rig *rig)
{
    close(rig->line);
    close(rig->words);
    close(rig->input);
    close(rig->pidfd);
    close(rig->page);
    close(rig->life);
    guard_close(rig->core);
    free(rig->core);
    unlink(rig->note);
}

static int expect_answer(struct rig *rig)
{
    struct guard_answer answer;

    CHECK_EQUAL(recv(rig->line, &answer, sizeof answer, 0), sizeof answer);
    return answer.error;
}

/* a request that comes with a descriptor, or with two; the errno that it answers with */
static int ask_with(struct rig *rig, struct guard_request request, int fd, int worker)
{
    int fds[2] = {fd, worker};
    size_t size = worker < 0 ? sizeof fd : sizeof fds;
    struct iovec part = {.iov_base = &request, .iov_len = sizeof request};
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof fds)];
    } control = {.header = {.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(size)};

    memcpy(CMSG_DATA(&control.header), fds, size);
    CHECK_EQUAL(sendmsg(rig->line, &message, 0), sizeof request);
    return expect_answer(rig);
}

/* worker: the pidfd of who writes to it, -1: the runtime does. The errno that it answers with */
static int try_to_give(struct rig *rig, uint32_t index, int fd, int worker, bool is_emulated)
{
    return ask_with(rig, (struct guard_request){.kind = GUARD_GIVE, .actuator = index,
                                                .is_emulated = is_emulated, .name = "device"},
                    fd, worker);
}

static void give_to(struct rig *rig, uint32_t index, int fd, int worker, bool is_emulated)
{
    CHECK_EQUAL(try_to_give(rig, index, fd, worker, is_emulated), 0);
}

static void give_one(struct rig *rig, uint32_t index, int fd, bool is_emulated)
{
    give_to(rig, index, fd, -1, is_emulated);
}

static void give(struct rig *rig, uint32_t index, int fd)
{
    give_to(rig, index, fd, -1, false);
}

/* an actuator was commanded: from now on it has to be stopped */
static void moves(struct rig *rig, uint32_t index)
{
    uint8_t command[STOP] = {0};

    guard_leave(rig->core, &rig->core->actuator[index], command, sizeof command);
}

static void expect_end(pid_t child)
{
    int status;

    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* it has said so */
static void expect_words(struct rig *rig, const char *wanted)
{
    char text[4096] = {0};

    CHECK(read(rig->words, text, sizeof text - 1) > 0);
    if (!strstr(text, wanted))
        fprintf(stderr, "%s\n", text);
    CHECK(strstr(text, wanted));
}

static void kill_runtime(struct rig *rig)
{
    CHECK_EQUAL(kill(rig->runtime, SIGKILL), 0);
    CHECK_EQUAL(waitpid(rig->runtime, NULL, 0), rig->runtime);
}

/* a number of the note */
static int64_t noted(const struct rig *rig, const char *key)
{
    char text[4096] = {0}, *at;
    int fd = open(rig->note, O_RDONLY);

    CHECK(fd >= 0);
    CHECK(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    CHECK(strncmp(text, "reason = \"", 10) == 0);
    at = strstr(text, key);
    CHECK(at);
    return strtoll(strchr(at, '=') + 1, NULL, 10);
}

static void expect_stops(int fd, uint32_t index)
{
    uint8_t bytes[64];

    for (int i = 0; i < REPEATS; i++) {
        CHECK_EQUAL(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT), STOP);
        CHECK(bytes[0] == 0x80 && bytes[3] == index);
    }
    CHECK_EQUAL(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT), -1);
}

/* A frozen runtime goes on for as long as it takes to die. The kernel holds this one up on its way
   out, and there its second actuator gets its first command */
static void what_began_to_move_while_the_runtime_died_is_stopped_too(void)
{
    struct rig rig;
    int first[2], second[2], status;

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, first), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, second), 0);
    open_rig(&rig, 100 * MS, 0, 0);
    CHECK_EQUAL(ptrace(PTRACE_SEIZE, rig.runtime, NULL, (void *)PTRACE_O_TRACEEXIT), 0);
    give(&rig, 0, first[0]);
    give(&rig, 1, second[0]);
    moves(&rig, 0);
    guard_beat(rig.core, inphase_now() - 1000 * MS);
    CHECK_EQUAL(waitpid(rig.runtime, &status, 0), rig.runtime);
    CHECK_EQUAL(status >> 8, SIGTRAP | PTRACE_EVENT_EXIT << 8);
    moves(&rig, 1);
    CHECK_EQUAL(ptrace(PTRACE_CONT, rig.runtime, NULL, NULL), 0);
    CHECK_EQUAL(waitpid(rig.runtime, &status, 0), rig.runtime);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    expect_end(rig.guard);
    expect_stops(first[1], 0);
    expect_stops(second[1], 1);
    for (int i = 0; i < 2; i++) {
        close(first[i]);
        close(second[i]);
    }
    close_rig(&rig);
}

/* bytes that wait in a terminal of which nobody reads; at most `most` */
static int fill(int fd, int most)
{
    uint8_t old[16];
    int count = 0;
    ssize_t sent;

    memset(old, 0x55, sizeof old);
    while (count < most && (sent = write(fd, old, sizeof old)) > 0)
        count += (int)sent;
    return count;
}

/* commands that wait in the driver are older than the stop: they are dropped, not sent before it */
static void what_waits_in_a_terminal_is_dropped_before_the_stop(void)
{
    static const int most[] = {1 << 30, 1 << 14};

    for (int i = 0; i < 2; i++) {
        struct rig rig;
        struct termios raw;
        int master, slave, waiting, old = 0, stops = 0;
        uint8_t bytes[4096];
        ssize_t size;

        CHECK_EQUAL(openpty(&master, &slave, NULL, NULL, NULL), 0);
        CHECK_EQUAL(tcgetattr(slave, &raw), 0);
        cfmakeraw(&raw);
        CHECK_EQUAL(tcsetattr(slave, TCSANOW, &raw), 0);
        CHECK_EQUAL(fcntl(slave, F_SETFL, O_NONBLOCK), 0);
        CHECK_EQUAL(fcntl(master, F_SETFL, O_NONBLOCK), 0);
        open_rig(&rig, 1000 * MS, MS, 0);
        give(&rig, 0, slave);
        moves(&rig, 0);
        waiting = fill(slave, most[i]);
        CHECK(waiting >= 1 << 13);
        kill_runtime(&rig);
        expect_end(rig.guard);

        /* what the other end's buffer had taken already comes out, then the stops and nothing
           else */
        while ((size = read(master, bytes, sizeof bytes)) > 0)
            for (ssize_t at = 0; at < size; at++) {
                old += bytes[at] == 0x55;
                stops += bytes[at] == 0x80;
                CHECK(!stops || bytes[at] != 0x55);
            }
        CHECK(old < waiting);
        CHECK_EQUAL(stops, REPEATS);
        close(slave);
        close(master);
        close_rig(&rig);
    }
}

/* a reply may be on its way when the runtime dies: the line is left alone before the first stop,
   too */
static void a_line_is_left_idle_before_each_stop(void)
{
    struct rig rig;
    int fd[2];
    int64_t gap_ns = 60 * MS, wire_ns = 20 * MS;

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
    open_rig(&rig, 1000 * MS, gap_ns, wire_ns);
    give(&rig, 0, fd[0]);
    moves(&rig, 0);
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(fd[1], 0);
    CHECK(noted(&rig, "first_ns") - noted(&rig, "dead_ns") >= gap_ns);
    CHECK(noted(&rig, "last_ns") - noted(&rig, "first_ns") >= (REPEATS - 1) * (gap_ns + wire_ns));
    close(fd[0]);
    close(fd[1]);
    close_rig(&rig);
}

static void ask_to_drop(struct rig *rig, uint32_t index)
{
    struct guard_request request = {.kind = GUARD_DROP, .actuator = index};

    CHECK_EQUAL(send(rig->line, &request, sizeof request, 0), sizeof request);
}

/* something that it has to answer */
static void ask(struct rig *rig)
{
    ask_to_drop(rig, 1);
}

/* the core notices that by itself: when all go on, nothing is stopped */
static void a_machine_that_stood_still_as_a_whole_is_left_alone(void)
{
    struct rig rig;
    int64_t hold_ns = 600 * MS;
    struct timespec pause = {.tv_sec = 1, .tv_nsec = 200 * MS};
    int fd[2], status;

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
    open_rig(&rig, hold_ns, 0, 0);
    give(&rig, 0, fd[0]);
    moves(&rig, 0);
    guard_beat(rig.core, inphase_now());
    CHECK_EQUAL(kill(rig.guard, SIGSTOP), 0);
    CHECK_EQUAL(waitpid(rig.guard, &status, WUNTRACED), rig.guard);
    CHECK(WIFSTOPPED(status));
    nanosleep(&pause, NULL);

    /* between the first answer and the second it has looked at the beat from before */
    ask(&rig);
    CHECK_EQUAL(kill(rig.guard, SIGCONT), 0);
    CHECK_EQUAL(expect_answer(&rig), 0);
    ask(&rig);
    CHECK_EQUAL(expect_answer(&rig), 0);
    guard_beat(rig.core, inphase_now());
    ask(&rig);
    CHECK_EQUAL(expect_answer(&rig), 0);
    CHECK_EQUAL(waitpid(rig.runtime, &status, WNOHANG), 0);
    CHECK_EQUAL(recv(fd[1], &status, 1, MSG_DONTWAIT), -1);

    /* it is still there: the end of the runtime is noticed */
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(fd[1], 0);
    close(fd[0]);
    close(fd[1]);
    close_rig(&rig);
}

/* it sleeps while all is well: ten looks in a second, and one more per beat that grows too old */
static void a_guard_with_nothing_to_do_does_not_spin(void)
{
    struct timespec pause = {.tv_nsec = MS};
    const struct guard_life *life;
    struct rig rig;
    int fd[2], looks = 0;
    int64_t start_ns = inphase_now(), seen = 0;

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
    open_rig(&rig, 60000 * MS, 0, 0);
    life = mmap(NULL, sizeof *life, PROT_READ, MAP_SHARED, rig.life, 0);
    CHECK(life != MAP_FAILED);
    give(&rig, 0, fd[0]);
    moves(&rig, 0);
    guard_beat(rig.core, inphase_now());
    for (int i = 0; i < 200; i++) {
        int64_t beat_ns = atomic_load(&life->beat_ns);

        looks += beat_ns != seen;
        seen = beat_ns;
        nanosleep(&pause, NULL);
    }
    CHECK(looks > 0 && looks <= 5 + (inphase_now() - start_ns) / (50 * MS));
    munmap((void *)(uintptr_t)life, sizeof *life);
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(fd[1], 0);
    close(fd[0]);
    close(fd[1]);
    close_rig(&rig);
}

/* each part of a stop is a datagram of its own, and none is left out */
static void a_stop_of_several_datagrams_goes_out_whole(void)
{
    struct rig rig;
    int fd[2];
    uint8_t bytes[64];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
    chunk = STOP / 2;
    open_rig(&rig, 1000 * MS, 0, 0);
    chunk = 0;
    give(&rig, 0, fd[0]);
    moves(&rig, 0);
    kill_runtime(&rig);
    expect_end(rig.guard);
    for (int i = 0; i < 2 * REPEATS; i++) {
        CHECK_EQUAL(recv(fd[1], bytes, sizeof bytes, MSG_DONTWAIT), STOP / 2);
        CHECK_EQUAL(bytes[0], i % 2 ? 0 : 0x80);
    }
    CHECK_EQUAL(recv(fd[1], bytes, sizeof bytes, MSG_DONTWAIT), -1);
    close(fd[0]);
    close(fd[1]);
    close_rig(&rig);
}

/* a runtime that has closed its line and moves nothing is watched no more */
static void a_guard_whose_line_is_closed_at_rest_ends(void)
{
    struct rig rig;

    open_rig(&rig, 1000 * MS, 0, 0);
    CHECK_EQUAL(shutdown(rig.line, SHUT_RDWR), 0);
    expect_end(rig.guard);
    CHECK_EQUAL(access(rig.note, F_OK), -1);
    kill_runtime(&rig);
    close_rig(&rig);
}

struct wires {
    int first[2], second[2];
};

/* a guard with a wire to each of two devices: the first end is the guard's, the second the
   device's */
static void open_wired(struct rig *rig, struct wires *wires, int64_t hold_ns)
{
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, wires->first), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, wires->second), 0);
    open_rig(rig, hold_ns, 0, 0);
}

static void close_wired(struct rig *rig, struct wires *wires)
{
    for (int i = 0; i < 2; i++) {
        close(wires->first[i]);
        close(wires->second[i]);
    }
    close_rig(rig);
}

/* until a stop has come to that end */
static void wait_for_stop(int fd)
{
    uint8_t byte;

    CHECK_EQUAL(recv(fd, &byte, 1, MSG_PEEK), 1);
}

/* nothing of it can hurt anybody: the runtime goes on, learns of it, and ends in order */
static void a_frozen_runtime_whose_robot_is_emulated_is_stopped_and_left_alive(void)
{
    const struct guard_life *life;
    struct wires wires;
    struct rig rig;
    int status;

    open_wired(&rig, &wires, 100 * MS);
    life = mmap(NULL, sizeof *life, PROT_READ, MAP_SHARED, rig.life, 0);
    CHECK(life != MAP_FAILED);
    give_one(&rig, 0, wires.first[0], true);
    give_one(&rig, 1, wires.second[0], true);
    guard_beat(rig.core, inphase_now());
    moves(&rig, 0);
    CHECK_EQUAL(life->spared, 0);
    guard_beat(rig.core, inphase_now() - 1000 * MS);
    wait_for_stop(wires.first[1]);
    CHECK_EQUAL(life->spared, 1); /* before the first byte */
    CHECK(guard_spared(&rig.core->guard));

    /* it answers, and has killed nobody and left no note; the stop came, once */
    ask(&rig);
    CHECK_EQUAL(expect_answer(&rig), 0);
    CHECK_EQUAL(waitpid(rig.runtime, &status, WNOHANG), 0);
    CHECK_EQUAL(access(rig.note, F_OK), -1);
    CHECK_EQUAL(life->spared, 1);
    expect_stops(wires.first[1], 0);
    CHECK_EQUAL(recv(wires.second[1], &status, 1, MSG_DONTWAIT), -1);

    /* what was spared may die yet, in motion: that is told by a note, as ever */
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(wires.first[1], 0);
    CHECK_EQUAL(access(rig.note, F_OK), 0);
    munmap((void *)(uintptr_t)life, sizeof *life);
    close_wired(&rig, &wires);
}

/* also where the one that is real does not move, was given without a word, or was taken away
   again */
static void a_frozen_runtime_with_one_real_actuator_is_killed(void)
{
    for (int turn = 0; turn < 3; turn++) {
        struct wires wires;
        struct rig rig;
        int status;

        open_wired(&rig, &wires, 100 * MS);
        give_one(&rig, 0, wires.first[0], true);
        if (turn == 0)
            give_one(&rig, 1, wires.second[0], false);
        if (turn == 2) {
            give_one(&rig, 1, wires.second[0], true);
            ask(&rig); /* to drop it */
            CHECK_EQUAL(expect_answer(&rig), 0);
        }
        moves(&rig, 0);
        guard_beat(rig.core, inphase_now() - 1000 * MS);
        CHECK_EQUAL(waitpid(rig.runtime, &status, 0), rig.runtime);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        expect_end(rig.guard);
        expect_stops(wires.first[1], 0);
        CHECK_EQUAL(access(rig.note, F_OK), 0);
        close_wired(&rig, &wires);
    }
}

static pid_t start_worker(int *pidfd)
{
    pid_t worker = fork();

    CHECK(worker >= 0);
    if (worker == 0)
        for (;;)
            pause();
    *pidfd = (int)syscall(SYS_pidfd_open, worker, 0);
    CHECK(*pidfd >= 0);
    return worker;
}

/* the guard has done what it had to when it answers */
static void settle(struct rig *rig, int fd)
{
    wait_for_stop(fd);
    ask(rig);
    CHECK_EQUAL(expect_answer(rig), 0);
}

/* The device of a worker that ended in motion is stopped, once, and the runtime goes on; one whose
   worker ended at rest is left alone */
static void a_worker_that_ends_in_motion_has_its_device_stopped(void)
{
    for (uint32_t mover = 0; mover < 2; mover++) {
        struct wires wires;
        struct rig rig;
        pid_t worker[2];
        int pidfd[2], status, moved, rested;

        open_wired(&rig, &wires, 10000 * MS);
        for (int i = 0; i < 2; i++)
            worker[i] = start_worker(&pidfd[i]);
        give_to(&rig, 0, wires.first[0], pidfd[0], false);
        give_to(&rig, 1, wires.second[0], pidfd[1], false);
        moved = mover ? wires.second[1] : wires.first[1];
        rested = mover ? wires.first[1] : wires.second[1];
        moves(&rig, mover);
        guard_beat(rig.core, inphase_now());
        for (int i = 0; i < 2; i++) {
            uint32_t ends = i ? mover : 1 - mover;

            CHECK_EQUAL(kill(worker[ends], SIGKILL), 0);
            CHECK_EQUAL(waitpid(worker[ends], NULL, 0), worker[ends]);
        }
        settle(&rig, moved);
        expect_stops(moved, mover);
        expect_words(&rig, "the worker of device ended while it moves; "
                           "its device was sent its stop 3");
        CHECK_EQUAL(waitpid(rig.runtime, &status, WNOHANG), 0);
        CHECK_EQUAL(access(rig.note, F_OK), -1);

        /* and it has left the guard: the end of the runtime stops it no more */
        kill_runtime(&rig);
        expect_end(rig.guard);
        CHECK_EQUAL(recv(moved, &status, 1, MSG_DONTWAIT), -1);
        CHECK_EQUAL(recv(rested, &status, 1, MSG_DONTWAIT), -1);
        for (int i = 0; i < 2; i++)
            close(pidfd[i]);
        close_wired(&rig, &wires);
    }
}

/* so that it writes no command after the stop; that of a device at rest has its own end to make */
static void the_worker_of_what_moves_is_killed_with_the_runtime_and_no_other(void)
{
    for (uint32_t mover = 0; mover < 2; mover++) {
        struct wires wires;
        struct rig rig;
        pid_t worker[2];
        int pidfd[2], status;

        open_wired(&rig, &wires, 10000 * MS);
        for (int i = 0; i < 2; i++)
            worker[i] = start_worker(&pidfd[i]);
        give_to(&rig, 0, wires.first[0], pidfd[0], false);
        give_to(&rig, 1, wires.second[0], pidfd[1], false);
        guard_beat(rig.core, inphase_now());
        moves(&rig, mover);
        kill_runtime(&rig);
        expect_end(rig.guard);
        expect_stops(mover ? wires.second[1] : wires.first[1], mover);
        CHECK_EQUAL(waitpid(worker[mover], &status, 0), worker[mover]);
        CHECK_EQUAL(waitpid(worker[1 - mover], &status, WNOHANG), 0);
        CHECK_EQUAL(kill(worker[1 - mover], SIGKILL), 0);
        CHECK_EQUAL(waitpid(worker[1 - mover], &status, 0), worker[1 - mover]);
        for (int i = 0; i < 2; i++)
            close(pidfd[i]);
        close_wired(&rig, &wires);
    }
}

/* the thread that commands is gone, which the kernel says of its futex; its process may go on */
static void the_death_of_the_cycle_thread_alone_is_enough(void)
{
    struct wires wires;
    struct rig rig;
    int status;

    open_wired(&rig, &wires, 10000 * MS);
    give(&rig, 0, wires.first[0]);
    guard_beat(rig.core, inphase_now());
    moves(&rig, 0);
    ask(&rig);
    CHECK_EQUAL(expect_answer(&rig), 0);
    atomic_store(&rig.core->guard.page->owner, FUTEX_OWNER_DIED);
    syscall(SYS_futex, &rig.core->guard.page->owner, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    expect_end(rig.guard);
    expect_stops(wires.first[1], 0);
    CHECK_EQUAL(waitpid(rig.runtime, &status, WNOHANG), 0);
    kill_runtime(&rig);
    close_wired(&rig, &wires);
}

/* its descriptors are those that it was given: what moves and was not has no stop to go anywhere */
static void a_device_that_was_never_given_is_sent_nothing(void)
{
    struct wires wires;
    struct rig rig;
    char byte;

    open_wired(&rig, &wires, 10000 * MS);
    give(&rig, 1, wires.second[0]);
    moves(&rig, 0);
    moves(&rig, 1);
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(wires.second[1], 1);
    CHECK_EQUAL(recv(rig.input, &byte, 1, MSG_DONTWAIT), 0);
    close_wired(&rig, &wires);
}

/* the core has lost it: a worker that takes no orders is killed before the stop, any other is
   not */
static void a_device_that_the_core_lost_in_motion_is_stopped(void)
{
    for (int is_stuck = 0; is_stuck < 2; is_stuck++) {
        struct wires wires;
        struct rig rig;
        int pidfd, status;
        pid_t worker = start_worker(&pidfd);

        open_wired(&rig, &wires, 10000 * MS);
        give_to(&rig, 0, wires.first[0], pidfd, false);
        guard_beat(rig.core, inphase_now());
        moves(&rig, 0);
        guard_abandon(rig.core, &rig.core->actuator[0], is_stuck);
        guard_withdraw(rig.core, &rig.core->actuator[0]);
        settle(&rig, wires.first[1]);
        expect_stops(wires.first[1], 0);
        expect_words(&rig, is_stuck ? "takes no commands while it moves, and was killed; its device"
                                    : "lost it while it moves; "
                                      "its device was sent its stop 3 times");
        CHECK_EQUAL(waitpid(worker, &status, is_stuck ? 0 : WNOHANG), is_stuck ? worker : 0);
        CHECK_EQUAL(waitpid(rig.runtime, &status, WNOHANG), 0);
        kill_runtime(&rig);
        expect_end(rig.guard);
        CHECK_EQUAL(recv(wires.first[1], &status, 1, MSG_DONTWAIT), -1);
        if (!is_stuck) {
            CHECK_EQUAL(kill(worker, SIGKILL), 0);
            CHECK_EQUAL(waitpid(worker, &status, 0), worker);
        }
        close(pidfd);
        close_wired(&rig, &wires);
    }
}

/* whoever lets go of a worker's device in motion, for good or for another, has it stopped first */
static void a_workers_device_that_is_taken_away_in_motion_is_stopped(void)
{
    for (int is_anew = 0; is_anew < 2; is_anew++) {
        struct wires wires;
        struct rig rig;
        int pidfd, status;
        pid_t worker = start_worker(&pidfd);

        open_wired(&rig, &wires, 10000 * MS);
        give_to(&rig, 0, wires.first[0], pidfd, false);
        guard_beat(rig.core, inphase_now());
        moves(&rig, 0);
        if (is_anew) {
            give_to(&rig, 0, wires.second[0], pidfd, false);
        } else {
            ask_to_drop(&rig, 0);
            CHECK_EQUAL(expect_answer(&rig), 0);
        }
        expect_stops(wires.first[1], 0);
        CHECK_EQUAL(recv(wires.second[1], &status, 1, MSG_DONTWAIT), -1);

        /* and the worker is not to undo what the end of the runtime needs */
        kill_runtime(&rig);
        expect_end(rig.guard);
        CHECK_EQUAL(waitpid(worker, &status, is_anew ? 0 : WNOHANG), is_anew ? worker : 0);
        if (is_anew)
            expect_stops(wires.second[1], 0);
        if (!is_anew) {
            CHECK_EQUAL(kill(worker, SIGKILL), 0);
            CHECK_EQUAL(waitpid(worker, &status, 0), worker);
        }
        close(pidfd);
        close_wired(&rig, &wires);
    }
}

/* Its process is a person's, or the runtime's: it is left alive. The device of one that is stuck
   stays here, since the thread may go on */
static void the_process_of_a_thread_is_left_alive_and_its_device_stopped_each_time(void)
{
    struct wires wires;
    struct rig rig;
    int pidfd, status;
    pid_t worker = start_worker(&pidfd);

    open_wired(&rig, &wires, 10000 * MS);
    CHECK_EQUAL(ask_with(&rig, (struct guard_request){.kind = GUARD_GIVE, .is_shared = 1,
                                                      .name = "device"},
                         wires.first[0], pidfd),
                0);
    guard_beat(rig.core, inphase_now());
    moves(&rig, 0);
    for (int turn = 0; turn < 2; turn++) {
        guard_abandon(rig.core, &rig.core->actuator[0], true);
        settle(&rig, wires.first[1]);
        expect_stops(wires.first[1], 0);
        expect_words(&rig, "takes no commands while it moves; its device was sent its stop 3");
    }

    /* so it is when the runtime dies */
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(wires.first[1], 0);
    CHECK_EQUAL(waitpid(worker, &status, WNOHANG), 0);
    CHECK_EQUAL(kill(worker, SIGKILL), 0);
    CHECK_EQUAL(waitpid(worker, &status, 0), worker);
    close(pidfd);
    close_wired(&rig, &wires);
}

/* nobody wants what came with a request that takes none, or that cannot be: it is closed, so that a
   port gets its old name again */
static void a_descriptor_that_nobody_wanted_is_closed(void)
{
    static const struct guard_request requests[] = {
        {.kind = GUARD_DROP, .actuator = 0}, {.kind = GUARD_DROP, .actuator = 1},
        {.kind = 77, .actuator = 0}, {.kind = GUARD_GIVE, .actuator = ACTUATORS},
        {.kind = GUARD_GIVE, .actuator = UINT32_MAX}};
    struct rig rig;

    open_rig(&rig, 10000 * MS, 0, 0);
    for (size_t i = 0; i < 2 * sizeof requests / sizeof *requests; i++) {
        const struct guard_request *request = &requests[i / 2];
        struct pollfd other = {.events = POLLIN};
        int fd[2], rc;

        CHECK_EQUAL(pipe2(fd, O_CLOEXEC), 0);
        rc = ask_with(&rig, *request, fd[1], i % 2 ? fd[1] : -1);
        CHECK_EQUAL(rc, request->kind == GUARD_DROP ? 0 : EINVAL);

        /* with this one the last end for writing is closed: the reader is at its end */
        close(fd[1]);
        other.fd = fd[0];
        CHECK_EQUAL(poll(&other, 1, 0), 1);
        CHECK(other.revents & POLLHUP);
        close(fd[0]);
    }
    kill_runtime(&rig);
    expect_end(rig.guard);
    close_rig(&rig);
}

/* the loss before was of the device before */
static void a_device_that_is_given_after_a_loss_is_not_lost(void)
{
    struct wires wires;
    struct rig rig;
    int pidfd, byte;
    pid_t worker = start_worker(&pidfd);

    open_wired(&rig, &wires, 10000 * MS);
    guard_beat(rig.core, inphase_now());
    give_to(&rig, 0, wires.first[0], pidfd, false);
    moves(&rig, 0);
    guard_abandon(rig.core, &rig.core->actuator[0], false);
    settle(&rig, wires.first[1]);
    expect_stops(wires.first[1], 0);
    give_to(&rig, 0, wires.second[0], pidfd, false);
    for (int i = 0; i < 3; i++) {
        ask(&rig);
        CHECK_EQUAL(expect_answer(&rig), 0);
    }
    CHECK_EQUAL(recv(wires.second[1], &byte, 1, MSG_DONTWAIT), -1);
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(wires.second[1], 0);
    CHECK_EQUAL(waitpid(worker, NULL, 0), worker);
    close(pidfd);
    close_wired(&rig, &wires);
}

/* a stop could never be written to it */
static void a_descriptor_that_is_for_reading_alone_is_refused(void)
{
    struct rig rig;
    int to_read = open("/dev/null", O_RDONLY | O_CLOEXEC);

    CHECK(to_read >= 0);
    open_rig(&rig, 1000 * MS, 0, 0);
    CHECK_EQUAL(try_to_give(&rig, 0, to_read, -1, false), EBADF);
    CHECK_EQUAL(try_to_give(&rig, ACTUATORS, to_read, -1, false), EINVAL);
    CHECK_EQUAL(shutdown(rig.line, SHUT_RDWR), 0);
    expect_end(rig.guard);
    kill_runtime(&rig);
    close(to_read);
    close_rig(&rig);
}

/* one that takes no more bytes is tried again, and no other device waits for it */
static void a_device_that_blocks_holds_up_no_other(void)
{
    struct wires wires;
    struct rig rig;
    uint8_t bytes[64] = {0};

    open_wired(&rig, &wires, 1000 * MS);
    while (send(wires.first[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    give(&rig, 0, wires.first[0]);
    give(&rig, 1, wires.second[0]);
    moves(&rig, 0);
    moves(&rig, 1);
    kill_runtime(&rig);
    expect_end(rig.guard);
    expect_stops(wires.second[1], 1);
    CHECK_EQUAL(noted(&rig, "sent"), 0);
    CHECK_EQUAL(noted(&rig, "tries"), TRIES);
    CHECK_EQUAL(noted(&rig, "errno"), EAGAIN);
    close_wired(&rig, &wires);
}

/* how it was, for who starts next, and for nobody else */
static void the_note_of_a_frozen_runtime_says_how_old_its_beat_was(void)
{
    struct wires wires;
    struct rig rig;
    struct stat facts;
    int64_t beat_ns;

    open_wired(&rig, &wires, 100 * MS);
    give(&rig, 0, wires.first[0]);
    moves(&rig, 0);
    beat_ns = inphase_now() - 1000 * MS;
    guard_beat(rig.core, beat_ns);
    expect_end(rig.guard);
    CHECK_EQUAL(waitpid(rig.runtime, NULL, 0), rig.runtime);
    expect_stops(wires.first[1], 0);
    CHECK_EQUAL(noted(&rig, "beat_age_ns"), noted(&rig, "\nnoticed_ns") - beat_ns);
    CHECK_EQUAL(noted(&rig, "sent"), REPEATS);
    CHECK_EQUAL(stat(rig.note, &facts), 0);
    CHECK_EQUAL(facts.st_mode & 07777, 0600);
    expect_words(&rig, "the runtime froze while moving, in cycle 0; it was killed; device was sent "
                       "its stop 3 times; see /dev/shm/");
    close_wired(&rig, &wires);
}

static void what_a_login_may_lock_is_enough_for_all_of_its_memory(void)
{
    struct rig rig;

    memory_max = 8 << 20; /* of a login on Debian 12 and 13 */
    open_rig(&rig, 50 * MS, 0, 0);
    CHECK_EQUAL(ready.other, 0);
    kill_runtime(&rig);
    expect_end(rig.guard);
    close_rig(&rig);
    memory_max = 0;
}

int main(void)
{
    RUN(what_a_login_may_lock_is_enough_for_all_of_its_memory);
    RUN(a_worker_that_ends_in_motion_has_its_device_stopped);
    RUN(the_worker_of_what_moves_is_killed_with_the_runtime_and_no_other);
    RUN(the_death_of_the_cycle_thread_alone_is_enough);
    RUN(a_device_that_was_never_given_is_sent_nothing);
    RUN(a_device_that_the_core_lost_in_motion_is_stopped);
    RUN(a_workers_device_that_is_taken_away_in_motion_is_stopped);
    RUN(the_process_of_a_thread_is_left_alive_and_its_device_stopped_each_time);
    RUN(a_descriptor_that_nobody_wanted_is_closed);
    RUN(a_device_that_is_given_after_a_loss_is_not_lost);
    RUN(a_descriptor_that_is_for_reading_alone_is_refused);
    RUN(a_device_that_blocks_holds_up_no_other);
    RUN(the_note_of_a_frozen_runtime_says_how_old_its_beat_was);
    RUN(what_began_to_move_while_the_runtime_died_is_stopped_too);
    RUN(what_waits_in_a_terminal_is_dropped_before_the_stop);
    RUN(a_line_is_left_idle_before_each_stop);
    RUN(a_machine_that_stood_still_as_a_whole_is_left_alone);
    RUN(a_guard_with_nothing_to_do_does_not_spin);
    RUN(a_guard_whose_line_is_closed_at_rest_ends);
    RUN(a_stop_of_several_datagrams_goes_out_whole);
    RUN(a_frozen_runtime_whose_robot_is_emulated_is_stopped_and_left_alive);
    RUN(a_frozen_runtime_with_one_real_actuator_is_killed);
    return 0;
}
