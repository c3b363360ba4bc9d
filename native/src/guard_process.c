/* The guard: a process of its own that stops the devices when the runtime is dead or frozen.

     _guard PAGE LIFE RUNTIME LINE PRIORITY CPU HOLD NOTE

   PAGE, LIFE, RUNTIME, LINE: descriptors of the page, of the one for its own beat, of the runtime's
   process (a pidfd), and of a socket of packets over which the runtime gives it devices. PRIORITY:
   SCHED_FIFO, 0: none. CPU: the cycle thread's, which it leaves alone where it may run elsewhere;
   -1: none. HOLD: 1: a frozen runtime is left alive, for a debugger. NOTE: the file that it leaves
   when it had to do something.

   It waits in ppoll until the runtime ends, asks something, or owes a heartbeat; a second thread
   waits for the death of the cycle thread and rings a bell. None of them spins. After `start`
   nothing is allocated or started, and the only system calls are ppoll, futex, read, write,
   recvmsg, send, close, fcntl, ioctl; and to stop: pidfd_send_signal, ioctl, clock_nanosleep,
   write, openat, unlink. Every loop is bounded by the number of actuators or a count beside it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "guard_page.h"

#define REPEATS 3
#define TRIES 12 /* of one device, those that failed included */
#define AGAIN_NS 1000000
#define LOOK_NS 100000000 /* at least so often it looks at the page, and beats */
#define KILL_NS 2000000000LL /* bound of the wait for a killed runtime; then the devices are stopped
                                in any case */
#define WATCH_STACK 65536 /* locked with the rest: a login may often lock no more than 8 MiB */
#define NOTE_BYTES 65536 /* all bytes of all actuators, as hexadecimal digits, and more */

/* a descriptor of an actuator's device, and the state of its stop */
struct device {
    int fd; /* -1: none was given */
    int worker; /* pidfd of the process that writes to it; -1: the cycle thread does */
    uint32_t lost_seen; /* the page's `lost` when it was given */
    bool ended; /* its worker's process */
    bool is_emulated;
    bool is_shared; /* its worker is one thread of a process, which is left alive */
    bool is_line; /* a terminal, which has an output queue to discard */
    char name[GUARD_NAME];
    int64_t due_ns;
    uint32_t sent, tries;
    int error; /* of the last try that failed */
};

struct guard {
    const struct guard_page *page;
    struct guard_layout layout; /* of the page, as it was at the start */
    struct guard_life *life;
    struct robust_list_head robust; /* for the kernel, which tells the core its death */
    struct robust_list entry;
    int runtime, line, bell;
    bool holds;
    const char *note;
    struct guard_view view;
    struct device device[INPHASE_MAX_ACTUATORS];
    struct guard_record record;
    char text[NOTE_BYTES];
    size_t length;

    /* of the stop, for the note */
    int64_t noticed_ns, dead_ns, first_ns, last_ns;
    bool killed, spared, has_noted;
};

static struct guard guard;

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static struct timespec time_of(int64_t ns)
{
    if (ns < 0)
        ns = 0;
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/* ---- start ------------------------------------------------------------------------------- */

/* every core but the cycle thread's, where there is another */
static void leave_cpu(int cpu)
{
    cpu_set_t set;

    if (cpu < 0 || sched_getaffinity(0, sizeof set, &set) < 0 || CPU_COUNT(&set) < 2)
        return;
    CPU_CLR((size_t)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* the second thread: wait until the cycle thread dies, and ring the bell */
static void *watch(void *nothing)
{
    const _Atomic uint32_t *owner = &guard.page->owner;
    uint64_t one = 1;

    for (;;) {
        uint32_t found = atomic_load_explicit(owner, memory_order_acquire);

        if (found & FUTEX_OWNER_DIED)
            break;
        syscall(SYS_futex, owner, FUTEX_WAIT, found, NULL, NULL, 0);
    }
    while (write(guard.bell, &one, sizeof one) < 0 && errno == EINTR)
        ;
    return nothing;
}

/* From now on the core knows if this process lives: the kernel tells the end of this thread, and
   the beat shows that it runs. The C library's list of this thread is replaced: the thread takes no
   robust mutex. */
static int own_life(int fd)
{
    struct guard_life *life = mmap(NULL, sizeof *life, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_POPULATE, fd, 0);
    struct robust_list_head *head = &guard.robust;

    if (life == MAP_FAILED)
        return -errno;
    close(fd);
    guard.entry.next = &head->list;
    head->list.next = &guard.entry;
    head->futex_offset = (long)((uintptr_t)&life->owner - (uintptr_t)&guard.entry);
    head->list_op_pending = NULL;
    atomic_store(&life->owner, (uint32_t)syscall(SYS_gettid));
    atomic_store(&life->beat_ns, now());
    guard.life = life;
    return syscall(SYS_set_robust_list, head, sizeof *head) < 0 ? -errno : 0;
}

static int start_watch(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WATCH_STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    rc = pthread_create(&thread, &attributes, watch, NULL);
    pthread_attr_destroy(&attributes);
    return -rc;
}

static int start(char **argument)
{
    struct sched_param param = {.sched_priority = atoi(argument[5])};
    struct guard_answer ready = {.kind = GUARD_READY};
    struct stat facts;
    int page = atoi(argument[1]), rc;

    /* ^C and the end of a session are for the runtime; the guard ends after the runtime */
    for (int i = 0; i < 5; i++)
        signal((int[]){SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT}[i], SIG_IGN);
    guard.runtime = atoi(argument[3]);
    guard.line = atoi(argument[4]);
    guard.holds = atoi(argument[7]);
    guard.note = argument[8];
    guard.view.held_beat_ns = guard.view.forgiven_beat_ns = INPHASE_ABSENT;
    for (int i = 0; i < INPHASE_MAX_ACTUATORS; i++)
        guard.device[i].fd = guard.device[i].worker = -1;
    if (fstat(page, &facts) < 0)
        return -errno;
    guard.page = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, page, 0);
    if (guard.page == MAP_FAILED)
        return -errno;
    close(page);
    if (!guard_page_take(guard.page, (uint64_t)facts.st_size, &guard.layout))
        return -EPROTO;
    rc = own_life(atoi(argument[2]));
    if (rc < 0)
        return rc;

    /* rights: the guard reports refused ones, and goes on without them */
    leave_cpu(atoi(argument[6]));
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    if (param.sched_priority && sched_setscheduler(0, SCHED_FIFO, &param) < 0)
        ready.error = errno;

    /* the second thread, with the rights of this one; nobody waits for its end */
    guard.bell = eventfd(0, EFD_CLOEXEC);
    if (guard.bell < 0 || start_watch() < 0)
        return -EAGAIN;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        ready.other = errno;
    if (send(guard.line, &ready, sizeof ready, MSG_NOSIGNAL) < 0)
        return -errno;
    return 0;
}

/* ---- requests ---------------------------------------------------------------------------- */

static void drop(struct device *device)
{
    if (device->fd >= 0)
        close(device->fd);
    if (device->worker >= 0)
        close(device->worker);
    device->fd = device->worker = -1;
    device->is_emulated = false;
}

static uint32_t lost(uint32_t actuator)
{
    return atomic_load_explicit(&guard.page->lost[actuator], memory_order_acquire);
}

static int give(struct device *device, const struct guard_request *request, const int *fds)
{
    struct termios settings;
    int fd = fds[0], flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
        return EBADF;
    drop(device);
    device->fd = fd;
    device->worker = fds[1];
    device->lost_seen = lost(request->actuator);
    device->ended = false;
    device->is_emulated = request->is_emulated == 1;
    device->is_shared = request->is_shared == 1;
    device->is_line = tcgetattr(fd, &settings) == 0;
    memcpy(device->name, request->name, sizeof device->name - 1);

    /* it goes into the note as it is */
    for (char *at = device->name; *at; at++)
        if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\')
            *at = '?';
    return 0;
}

/* descriptors that came with a request; -1: none */
static void descriptors_of(struct msghdr *message, int fds[2])
{
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    size_t size;

    fds[0] = fds[1] = -1;
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
        return;
    size = header->cmsg_len - CMSG_LEN(0);
    memcpy(fds, CMSG_DATA(header), size < 2 * sizeof *fds ? size : 2 * sizeof *fds);
}

/* bit per actuator that has to be stopped */
static uint32_t moving(void)
{
    uint32_t all = (1U << guard.layout.actuators) - 1;

    return atomic_load_explicit(&guard.page->moving, memory_order_acquire) & all;
}

static void look(void)
{
    guard.view.moving = moving();
    guard.view.beat_ns = atomic_load_explicit(&guard.page->beat_ns, memory_order_acquire);
}

/* ---- stopping ---------------------------------------------------------------------------- */

/* wait until the process has ended, or its cycle thread, which alone writes to moving devices */
static bool wait_for_end(int64_t until_ns)
{
    struct pollfd poll[2] = {{.fd = guard.runtime, .events = POLLIN},
                             {.fd = guard.bell, .events = POLLIN}};
    struct timespec left = time_of(until_ns - now());

    while (ppoll(poll, 2, &left, NULL) < 0 && errno == EINTR)
        left = time_of(until_ns - now());
    return poll[0].revents || poll[1].revents;
}

/* A worker's write after the stop would undo it. So send SIGKILL to all workers of these devices
   that have a process of their own, then wait */
static void kill_workers(uint32_t which)
{
    int64_t until_ns = now() + KILL_NS;

    for (uint32_t i = 0; i < guard.layout.actuators; i++)
        if (guard.device[i].is_shared)
            which &= ~(1U << i);
    for (uint32_t i = 0; i < guard.layout.actuators; i++)
        if (which >> i & 1 && guard.device[i].worker >= 0)
            syscall(SYS_pidfd_send_signal, guard.device[i].worker, SIGKILL, NULL, 0);
    for (uint32_t i = 0; i < guard.layout.actuators; i++) {
        struct pollfd poll = {.fd = guard.device[i].worker, .events = POLLIN};
        struct timespec left = time_of(until_ns - now());

        if (which >> i & 1 && poll.fd >= 0)
            while (ppoll(&poll, 1, &left, NULL) < 0 && errno == EINTR)
                left = time_of(until_ns - now());
    }
}

static void kill_runtime(void)
{
    guard.killed = syscall(SYS_pidfd_send_signal, guard.runtime, SIGKILL, NULL, 0) == 0;
    guard.view.is_dead = wait_for_end(now() + KILL_NS);
}

/* write all of a stop; 0, or the errno of the failure */
static int send_stop(const struct device *device, const struct guard_stop *stop,
                     const uint8_t *bytes, uint32_t size)
{
    for (uint32_t at = 0, part; at < size; at += part) {
        ssize_t sent;

        /* a worker's socket may block; a terminal does not, see guard.py */
        part = stop->chunk && stop->chunk < size - at ? stop->chunk : size - at;
        sent = send(device->fd, bytes + at, part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == ENOTSOCK)
            sent = write(device->fd, bytes + at, part);
        if (sent < 0)
            return errno;
        if (sent != (ssize_t)part)
            return EAGAIN;
    }
    return 0;
}

/* the next device that has to be stopped; NULL: all are stopped */
static struct device *next_due(uint32_t which)
{
    struct device *next = NULL;

    for (uint32_t i = 0; i < guard.layout.actuators; i++) {
        struct device *device = &guard.device[i];

        if (!(which >> i & 1) || device->fd < 0 || !guard.record.size[i] ||
            device->sent == REPEATS || device->tries == TRIES)
            continue;
        if (!next || device->due_ns < next->due_ns)
            next = device;
    }
    return next;
}

static void send_stops(uint32_t which)
{
    struct device *device;

    /* queued bytes are older than the stop, and would go out before it */
    for (uint32_t i = 0; i < guard.layout.actuators; i++) {
        device = &guard.device[i];
        device->sent = device->tries = 0;
        device->error = 0;
        if (which >> i & 1 && device->fd >= 0 && device->is_line)
            tcflush(device->fd, TCOFLUSH);
        device->due_ns = now() + guard.layout.stop[i].gap_ns;
    }
    while ((device = next_due(which)) != NULL) {
        const struct guard_stop *stop = &guard.layout.stop[device - guard.device];
        uint32_t size = guard.record.size[device - guard.device];
        struct timespec due = time_of(device->due_ns);
        int64_t sent_ns;

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
        device->tries++;
        device->error = send_stop(device, stop, guard.record.bytes + stop->offset, size);
        sent_ns = now();
        device->due_ns = sent_ns + (device->error ? AGAIN_NS : stop->wire_ns + stop->gap_ns);
        if (device->error)
            continue;
        device->sent++;
        if (!guard.first_ns)
            guard.first_ns = sent_ns;
        guard.last_ns = sent_ns;
    }
}

/* ---- the note ---------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void add(const char *format, ...)
{
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(guard.text + guard.length, sizeof guard.text - guard.length, format,
                     arguments);
    va_end(arguments);
    if (size > 0)
        guard.length += (size_t)size;
    if (guard.length >= sizeof guard.text)
        guard.length = sizeof guard.text - 1;
}

static void put(int fd)
{
    size_t done = 0;

    while (done < guard.length) {
        ssize_t size = write(fd, guard.text + done, guard.length - done);

        if (size <= 0)
            return;
        done += (size_t)size;
    }
}

/* tell a person, if that does not block (a stopped terminal, or a pipe that nobody reads) */
static void say(void)
{
    struct pollfd poll = {.fd = STDERR_FILENO, .events = POLLOUT};
    struct timespec none = {0};

    if (ppoll(&poll, 1, &none, NULL) == 1 && poll.revents & POLLOUT)
        put(STDERR_FILENO);
}

static int64_t since_noticed(int64_t time_ns)
{
    return time_ns ? time_ns - guard.noticed_ns : -1;
}

/* The note is a new file. Anybody may have put something into the folder under its name. An earlier
   note of this guard is replaced; anything else is left alone, and then there is no note */
static int open_note(void)
{
    int fd;

    if (guard.has_noted)
        unlink(guard.note);
    fd = open(guard.note, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    guard.has_noted = fd >= 0;
    return fd;
}

/* TOML, for guard.py. Times are ns after the guard noticed; -1: it did not happen */
static void write_note(enum guard_verdict verdict)
{
    int fd = open_note();

    guard.length = 0;
    add("reason = \"%s\"\ncycle = %lld\nbeat_age_ns = %lld\n",
        verdict == GUARD_DIED ? "died" : "frozen", (long long)atomic_load(&guard.page->cycle),
        (long long)((uint64_t)guard.noticed_ns - (uint64_t)guard.view.beat_ns));
    add("killed = %s\nended = %s\n", guard.killed ? "true" : "false",
        guard.view.is_dead ? "true" : "false");
    add("noticed_ns = %lld\ndead_ns = %lld\nfirst_ns = %lld\nlast_ns = %lld\n",
        (long long)guard.noticed_ns, (long long)since_noticed(guard.dead_ns),
        (long long)since_noticed(guard.first_ns), (long long)since_noticed(guard.last_ns));
    for (uint32_t i = 0; i < guard.layout.actuators; i++) {
        const struct device *device = &guard.device[i];

        if (!(guard.view.moving >> i & 1))
            continue;
        add("\n[[stopped]]\ndevice = \"%s\"\nsent = %u\ntries = %u\nerrno = %d\nbytes = \"",
            device->name, device->sent, device->tries, device->error);
        for (uint32_t at = 0; at < guard.record.size[i]; at++)
            add("%02x", guard.record.bytes[guard.layout.stop[i].offset + at]);
        add("\"\n");
    }
    if (fd < 0)
        return;
    put(fd);
    close(fd);
}

static void tell(enum guard_verdict verdict)
{
    guard.length = 0;
    add("inphase guard: the runtime %s while moving, in cycle %lld;",
        verdict == GUARD_DIED ? "died" : "froze", (long long)atomic_load(&guard.page->cycle));
    if (verdict == GUARD_FROZEN)
        add(guard.killed ? " it was killed;"
                         : guard.holds  ? " it is left alive (--debug-hold);"
                         : guard.spared ? " it is left alive, for its robot is emulated;"
                                        : " it could not be killed;");
    for (uint32_t i = 0; i < guard.layout.actuators; i++)
        if (guard.view.moving >> i & 1)
            add(" %s was sent its stop %u times;", guard.device[i].name, guard.device[i].sent);
    if (guard.spared) /* the worker reports it itself */
        add(" the run ends\n");
    else
        add(guard.has_noted ? " see %s\n" : " %s could not be written\n", guard.note);
    say();
}

static void take_record(void)
{
    if (!guard_page_record(guard.page, &guard.layout, &guard.record))
        memset(guard.record.size, 0, sizeof guard.record.size);
}

/* A worker ended in motion, or the core lost its device. The runtime lives and goes on with the
   others. The device is given again with its next worker */
static void stop_one(uint32_t actuator, bool is_stuck)
{
    struct device *device = &guard.device[actuator];

    if (is_stuck)
        kill_workers(1U << actuator);
    take_record();
    send_stops(1U << actuator);
    guard.length = 0;
    add("inphase guard: the worker of %s %s; its device was sent its stop %u times\n", device->name,
        is_stuck && device->is_shared ? "takes no commands while it moves"
        : is_stuck      ? "takes no commands while it moves, and was killed"
        : device->ended ? "ended while it moves"
                        : "lost it while it moves",
        device->sent);
    say();
}

/* stop and close a worker's device, if it has to be stopped; is_leaving: close it in any case */
static void look_at_worker(uint32_t actuator, bool is_leaving)
{
    struct device *device = &guard.device[actuator];
    bool is_moving, is_lost, is_stuck;
    uint32_t found;

    if (device->worker < 0)
        return;

    /* in this order: the core marks a device as moving before it can lose it */
    is_moving = moving() >> actuator & 1;
    found = lost(actuator);
    is_lost = found != device->lost_seen;
    is_leaving = is_leaving || device->ended;
    is_stuck = is_lost && found & 1;
    if (is_lost || (is_leaving && is_moving))
        stop_one(actuator, is_stuck);
    device->lost_seen = found;

    /* a stuck thread still has its device, and may go on: then it is stopped again */
    if (is_leaving || (is_lost && !(is_stuck && device->is_shared)))
        drop(device);
}

/* bit per actuator whose device is here, and emulated */
static uint32_t emulated(void)
{
    uint32_t all = 0;

    for (uint32_t i = 0; i < guard.layout.actuators; i++)
        all |= (uint32_t)(guard.device[i].fd >= 0 && guard.device[i].is_emulated) << i;
    return all;
}

static void stop(enum guard_verdict verdict)
{
    guard.noticed_ns = now();
    guard.dead_ns = guard.first_ns = guard.last_ns = 0;
    guard.killed = false;
    guard.spared = verdict == GUARD_FROZEN && !guard.holds &&
                   guard_spares(&guard.view, guard.layout.actuators, emulated());
    if (verdict == GUARD_FROZEN && !guard.holds && !guard.spared)
        kill_runtime();

    /* before the first stop, so that a runtime that goes on meanwhile writes no command after it */
    if (guard.spared)
        atomic_fetch_add_explicit(&guard.life->spared, 1, memory_order_release);
    if (guard.view.is_dead)
        guard.dead_ns = now();

    /* the newest record belongs to the last written command, or to the one that was about to be
       written */
    take_record();
    guard.view.moving = moving();
    /* a spared runtime hands its workers nothing while it is frozen */
    if (!guard.holds && !guard.spared)
        kill_workers(guard.view.moving);
    send_stops(guard.view.moving);
    if (!guard.spared)
        write_note(verdict);
    tell(verdict);
}

/* ---- watching ---------------------------------------------------------------------------- */

/* one request, and its answer; false: the runtime has closed the line */
static bool obey(void)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct guard_request request = {0};
    struct iovec part = {.iov_base = &request, .iov_len = sizeof request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t size = recvmsg(guard.line, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct guard_answer answer;
    int fds[2];

    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    if (size == 0)
        return false;
    descriptors_of(&message, fds);
    answer = (struct guard_answer){.kind = request.kind, .actuator = request.actuator,
                                   .error = EINVAL};
    if (size == sizeof request && request.actuator < guard.layout.actuators) {
        struct device *device = &guard.device[request.actuator];

        look_at_worker(request.actuator, true);
        if (request.kind == GUARD_GIVE) {
            answer.error = give(device, &request, fds);
            if (!answer.error)
                fds[0] = fds[1] = -1;
        }
        if (request.kind == GUARD_DROP) {
            drop(device);
            answer.error = 0;
        }
    }
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0) /* nobody asked for it */
            close(fds[i]);
    return send(guard.line, &answer, sizeof answer, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* wait for an event or the time; both are checked after that */
static void wait_until(int64_t until_ns)
{
    struct pollfd poll[3 + INPHASE_MAX_ACTUATORS] = {
        {.fd = guard.runtime, .events = POLLIN},
        {.fd = guard.bell, .events = POLLIN},
        {.fd = guard.view.is_left ? -1 : guard.line, .events = POLLIN},
    };
    struct timespec left = time_of(until_ns - now());

    for (uint32_t i = 0; i < guard.layout.actuators; i++)
        poll[3 + i] = (struct pollfd){.fd = guard.device[i].worker, .events = POLLIN};
    if (ppoll(poll, 3 + guard.layout.actuators, &left, NULL) < 0)
        return;
    if (poll[0].revents || poll[1].revents)
        guard.view.is_dead = true;
    for (uint32_t i = 0; i < guard.layout.actuators; i++)
        guard.device[i].ended = poll[3 + i].revents != 0;
    if (poll[2].revents && !obey())
        guard.view.is_left = true;
}

int main(int count, char **argument)
{
    enum guard_verdict verdict = GUARD_WAIT;
    int64_t until_ns = INT64_MAX, now_ns;
    int rc;

    if (count != 9)
        return 64;
    rc = start(argument);
    if (rc < 0)
        return -rc;
    for (;;) {
        look();
        now_ns = now();
        atomic_store_explicit(&guard.life->beat_ns, now_ns, memory_order_relaxed);
        guard_woke(&guard.view, until_ns, now_ns, guard.layout.max_hold_ns);
        verdict = guard_judge(&guard.view, guard.layout.max_hold_ns, now_ns, &until_ns);
        if (verdict == GUARD_LEAVE)
            return 0;
        if (verdict == GUARD_WAIT) {
            for (uint32_t i = 0; i < guard.layout.actuators; i++)
                look_at_worker(i, false);
            if (until_ns > now_ns + LOOK_NS)
                until_ns = now_ns + LOOK_NS;
            wait_until(until_ns);
            continue;
        }
        stop(verdict);
        if (verdict == GUARD_DIED || guard.killed)
            return 0;
        guard.view.held_beat_ns = guard.view.beat_ns;
        guard.view.held_until_ns = guard.holds ? INT64_MAX : now() + GUARD_SPARE_NS;
    }
}
