/* The sentinel: a process that sees whose fault a late cycle was.

     _sentinel PAGE

   PAGE: descriptor of the page that it writes (sentinel_page.h). It is a process of its own: what
   stops the runtime does not stop it.

   One thread, on the cycle thread's core and one priority above it, wakes shortly after each time
   at which the cycle thread has to be awake, and notes when it woke. Where it was late as well,
   nobody at or below its priority had the core. The other thread has the lowest real-time priority,
   so that a busy machine does not blind it. It runs elsewhere where it may. It reads the counters
   of the cycle thread from /proc, and takes from the kernel who has the cores (perf_event_open(2))
   where that is allowed. Where the cycle thread may run on any core, the first thread is moved
   after it. The first thread leaves out cycles, as many as it takes to use less than a share of its
   core. Nothing runs in the cycle thread. The process ends with the runtime. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sentinel_page.h"

#define SECOND_NS 1000000000LL
#define WAIT_NS 5000000          /* for the runtime's `go` */
#define LEAST_LOOK_NS 2000000
#define CORE_LOOK_NS 10000000    /* a tick of /proc/stat */
#define TEXT 1024
#define STAT_TEXT 65536          /* with its line of all interrupts, whose end is not needed */
#define TURN_PAGES 64            /* of the kernel's ring of a core: a power of two */
#define CORES 8                  /* at most; of more only the one that is given */
#define SHARE_PPM 7000           /* of its core, that the real-time thread may use */
#define WAKES_COUNTED 64         /* from one look at its own processor time to the next */
#define WATCH_STACK 65536

static struct {
    struct sentinel_page *page;
    int schedstat[SENTINEL_LOOKED], stat[SENTINEL_LOOKED], cores; /* files in /proc; -1: none */
    struct sentinel_look core;   /* the newest counters of the core */
    int64_t tick_ns;
    struct perf_event_mmap_page *ring[CORES];
    int ring_cpu[CORES];
    uint32_t rings;
    uint64_t ring_bytes;
    _Atomic int32_t thread;      /* of the kernel, the real-time one; 0: it has not begun */
    int64_t followed;            /* the core that it was moved to; -1: none yet */
    cpu_set_t allowed;           /* cores of this process at its start */
} sentinel;

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND_NS + time.tv_nsec;
}

static struct timespec time_of(int64_t ns)
{
    return (struct timespec){ns / SECOND_NS, ns % SECOND_NS};
}

static void put(_Atomic int64_t *to, int64_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}

/* ---- the real-time thread ---------------------------------------------------------------- */

/* on one core from now on; thread 0: this one. 0, or an errno */
static int stay_on(int32_t thread, int64_t cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(thread, sizeof set, &set) < 0 ? errno : 0;
}

static void take_rights(struct sentinel_page *page)
{
    struct sched_param param = {.sched_priority = page->priority};

    if (page->cpu >= 0)
        page->cpu_errno = stay_on(0, page->cpu);
    if (page->priority > 0)
        page->priority_errno = sched_setscheduler(0, SCHED_FIFO, &param) < 0 ? errno : 0;
}

/* the first point behind a time, in a cycle that is at least `every` behind the last one */
static int64_t point_after(const struct sentinel_page *page, int64_t time_ns, int64_t *last,
                           int64_t every)
{
    int64_t cycle = (time_ns - page->origin_ns) / page->period_ns - 1;

    if (cycle < *last)
        cycle = *last;
    for (;; cycle++) { /* at most `every` times and twice: then its points lie ahead */
        if (cycle != *last && cycle < *last + every)
            continue;
        for (int i = 0; i < SENTINEL_POINTS; i++) {
            int64_t point_ns = page->origin_ns + cycle * page->period_ns + page->after_ns[i];

            if (page->after_ns[i] >= 0 && point_ns > time_ns) {
                *last = cycle;
                return point_ns;
            }
        }
    }
}

/* how many cycles a wake is to cost less than the share of; its processor time is told as well */
static int64_t cycles_of_a_wake(struct sentinel_page *page, int64_t *before_ns, int64_t every)
{
    int64_t allowed_ns = page->period_ns * SHARE_PPM / 1000000, used_ns, points = 0;
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    used_ns = used.tv_sec * SECOND_NS + used.tv_nsec;
    for (int i = 0; i < SENTINEL_POINTS; i++)
        points += page->after_ns[i] >= 0;
    if (allowed_ns > 0 && *before_ns > 0)
        every = (used_ns - *before_ns) * points / WAKES_COUNTED / allowed_ns + 1;
    *before_ns = used_ns;
    put(&page->used_ns, used_ns);
    put(&page->every, every);
    return every;
}

static void *watch_core(void *argument)
{
    struct sentinel_page *page = argument;
    int64_t point_ns, last = 0, every = 1, used_ns = 0;

    take_rights(page);
    atomic_store_explicit(&sentinel.thread, (int32_t)syscall(SYS_gettid), memory_order_relaxed);
    put(&page->since_ns, now());
    for (uint64_t n = 0;; n++) {
        struct timespec due;

        if (n % WAKES_COUNTED == 0)
            every = cycles_of_a_wake(page, &used_ns, every);
        point_ns = point_after(page, now(), &last, every);
        due = time_of(point_ns);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
        page->wake[n % SENTINEL_WAKES] = (struct sentinel_wake){point_ns, now()};
        atomic_store_explicit(&page->wakes, n + 1, memory_order_release);
    }
    return NULL;
}

/* ---- who has the core -------------------------------------------------------------------- */

static int open_turns(int cpu)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_SW_DUMMY,
        .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
        .context_switch = 1,
        .sample_id_all = 1,
        .use_clockid = 1,
        .clockid = CLOCK_MONOTONIC,
    };
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    void *ring;
    int fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

    if (fd < 0)
        return errno;
    sentinel.ring_bytes = TURN_PAGES * page_bytes;
    ring = mmap(NULL, sentinel.ring_bytes + page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring == MAP_FAILED) {
        close(fd);
        return errno;
    }
    sentinel.ring_cpu[sentinel.rings] = cpu;
    sentinel.ring[sentinel.rings++] = ring;
    return 0;
}

/* of all cores, or of the cycle thread's alone where there are many */
static int open_all_turns(int cpu)
{
    int cores = (int)sysconf(_SC_NPROCESSORS_CONF), rc = ENODEV;

    if (cores > CORES)
        return cpu < 0 ? E2BIG : open_turns(cpu);
    for (int i = 0; i < cores; i++) {
        rc = open_turns(i);
        if (rc && rc != ENODEV) /* a core that is switched off */
            return rc;
    }
    return sentinel.rings ? 0 : rc;
}

/* of the kernel's ring, whose records may go round its end */
static void copy_record(const struct perf_event_mmap_page *ring, void *to, uint64_t at,
                        uint64_t size)
{
    const uint8_t *data = (const uint8_t *)ring + ring->data_offset;

    for (uint64_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = data[(at + i) % sentinel.ring_bytes];
}

static void take_turns(struct sentinel_page *page, struct perf_event_mmap_page *ring, int cpu)
{
    uint64_t n = atomic_load_explicit(&page->turns, memory_order_relaxed);
    uint64_t head = __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE), tail = ring->data_tail;

    while (tail < head) {
        struct {
            struct perf_event_header header;
            uint32_t other_process, other_thread, process, thread;
            uint64_t at_ns;
        } turn = {0};

        copy_record(ring, &turn.header, tail, sizeof turn.header);
        if (turn.header.type == PERF_RECORD_LOST)
            put(&page->lost_ns, now());
        if (turn.header.type == PERF_RECORD_SWITCH_CPU_WIDE &&
            !(turn.header.misc & PERF_RECORD_MISC_SWITCH_OUT) && turn.header.size >= sizeof turn) {
            copy_record(ring, &turn, tail, sizeof turn);
            page->turn[n % SENTINEL_TURNS] = (struct sentinel_turn){
                (int64_t)turn.at_ns, (int32_t)turn.process, (int32_t)turn.thread, cpu, 0};
            n++;
        }
        tail += turn.header.size;
    }
    __atomic_store_n(&ring->data_tail, tail, __ATOMIC_RELEASE);
    atomic_store_explicit(&page->turns, n, memory_order_release);
}

/* ---- counters ---------------------------------------------------------------------------- */

static int open_of_thread(const struct sentinel_page *page, int which, const char *name)
{
    char path[64];

    if (!page->thread[which])
        return -1;
    snprintf(path, sizeof path, "/proc/%d/task/%d/%s", page->process[which], page->thread[which],
             name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* a file of /proc as text; false: it is not there */
static bool read_text(int fd, char *text, size_t size)
{
    ssize_t count = fd < 0 ? -1 : pread(fd, text, size - 1, 0);

    if (count <= 0)
        return false;
    text[count] = 0;
    return true;
}

/* of the line of a core in /proc/stat: words 6, 7 and 8 behind its name */
static void look_at_core(int64_t time_ns)
{
    static char text[STAT_TEXT];
    char name[16];
    const char *line;
    long long word[8];

    if (time_ns - sentinel.core.core_ns < CORE_LOOK_NS)
        return;
    snprintf(name, sizeof name, "\ncpu%lld ", (long long)sentinel.followed);
    if (!read_text(sentinel.cores, text, sizeof text) || !(line = strstr(text, name)))
        return;
    if (sscanf(line + strlen(name), "%lld %lld %lld %lld %lld %lld %lld %lld", &word[0], &word[1],
               &word[2], &word[3], &word[4], &word[5], &word[6], &word[7]) != 8)
        return;
    sentinel.core = (struct sentinel_look){.core_ns = time_ns,
                                           .interrupt_ns = word[5] * sentinel.tick_ns,
                                           .softirq_ns = word[6] * sentinel.tick_ns,
                                           .stolen_ns = word[7] * sentinel.tick_ns};
}

/* false: the thread is gone */
static bool look(struct sentinel_page *page, int which)
{
    uint64_t n = atomic_load_explicit(&page->looks[which], memory_order_relaxed);
    struct sentinel_look row;
    long long ran, waited, minor, major, cpu;
    char text[TEXT], state;
    const char *behind;

    look_at_core(now());
    row = sentinel.core;
    row.ran_ns = row.waited_ns = row.minor = row.major = -1;
    row.began_ns = now();
    if (read_text(sentinel.schedstat[which], text, sizeof text) &&
        sscanf(text, "%lld %lld", &ran, &waited) == 2) {
        row.ran_ns = ran;
        row.waited_ns = waited;
    }
    if (!read_text(sentinel.stat[which], text, sizeof text))
        return false;
    behind = strrchr(text, ')');
    if (behind && sscanf(behind + 1,
                         " %c %*s %*s %*s %*s %*s %*s %lld %*s %lld %*s %*s %*s %*s %*s %*s %*s %*s"
                         " %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
                         " %lld",
                         &state, &minor, &major, &cpu) == 4) {
        row.state = state;
        row.minor = minor;
        row.major = major;
        row.cpu = cpu;
    }
    row.ended_ns = now();
    page->look[which][n % SENTINEL_LOOKS] = row;
    atomic_store_explicit(&page->looks[which], n + 1, memory_order_release);
    return true;
}

/* ---- both -------------------------------------------------------------------------------- */

/* The cycle thread is on that core: the real-time thread goes there, and this one away from it,
   where there is another */
static void follow(int64_t cpu)
{
    cpu_set_t set = sentinel.allowed;

    if (cpu < 0 || cpu == sentinel.followed)
        return;
    sentinel.followed = cpu;
    sentinel.core = (struct sentinel_look){0};
    stay_on(atomic_load_explicit(&sentinel.thread, memory_order_relaxed), cpu);
    CPU_CLR((size_t)cpu, &set);
    if (CPU_COUNT(&set) > 0)
        sched_setaffinity(0, sizeof set, &set);
}

static int start_watch(struct sentinel_page *page)
{
    pthread_attr_t attr;
    pthread_t thread;
    int rc;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WATCH_STACK);
    rc = pthread_create(&thread, &attr, watch_core, page);
    pthread_attr_destroy(&attr);
    return rc;
}

int main(int count, char **argument)
{
    struct sentinel_page *page;
    struct timespec wait = time_of(WAIT_NS);
    const struct sched_param lowest = {.sched_priority = 1};
    int others = 0;

    /* the runtime's end is this one's */
    if (count != 2 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return 64;
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argument[1]), 0);
    if (page == MAP_FAILED)
        return errno;
    sentinel.page = page;
    while (!atomic_load_explicit(&page->go, memory_order_acquire)) {
        if (getppid() == 1) /* it ended before the first line */
            return 0;
        nanosleep(&wait, NULL);
    }

    /* its real-time thread waits for no page, where that is allowed */
    mlockall(MCL_CURRENT | MCL_FUTURE);
    sentinel.tick_ns = SECOND_NS / sysconf(_SC_CLK_TCK);
    for (int i = 0; i < SENTINEL_LOOKED; i++) {
        sentinel.schedstat[i] = open_of_thread(page, i, "schedstat");
        sentinel.stat[i] = open_of_thread(page, i, "stat");
        others += i && page->thread[i];
    }
    sentinel.cores = open("/proc/stat", O_RDONLY | O_CLOEXEC);
    page->turns_errno = open_all_turns(page->cpu);
    if (page->priority > 0)
        sched_setscheduler(0, SCHED_FIFO, &lowest);
    sched_getaffinity(0, sizeof sentinel.allowed, &sentinel.allowed);
    sentinel.followed = -1;
    if (start_watch(page))
        return EAGAIN;
    while (!atomic_load_explicit(&sentinel.thread, memory_order_relaxed))
        nanosleep(&wait, NULL);
    wait = time_of(page->period_ns > LEAST_LOOK_NS ? page->period_ns : LEAST_LOOK_NS);
    for (int n = 0; look(page, 0); n++) {
        if (others) /* one at a time; they are given in order */
            look(page, 1 + n % others);
        for (uint32_t i = 0; i < sentinel.rings; i++)
            take_turns(page, sentinel.ring[i], sentinel.ring_cpu[i]);
        follow(page->look[0][(page->looks[0] - 1) % SENTINEL_LOOKS].cpu);
        nanosleep(&wait, NULL);
    }
    return 0;
}
