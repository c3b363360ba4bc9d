/* Yardsticks: the least that could do the job, for the product to be compared with. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

#include "shared.h"

_Static_assert(sizeof(struct bench_bare) == 2056, "Python maps it too");

int64_t bench_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void bench_sleep_until(int64_t time_ns)
{
    struct timespec until = {.tv_sec = time_ns / 1000000000, .tv_nsec = time_ns % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

int bench_rights(int32_t priority, int32_t cpu)
{
    struct sched_param param = {.sched_priority = priority};
    cpu_set_t set;

    if (priority > 0 && sched_setscheduler(0, SCHED_FIFO, &param) < 0)
        return -errno;
    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

static void *run_main(void *argument)
{
    struct bench_run *run = argument;

    run->result = bench_rights(run->grid.priority, run->grid.cpu);
    if (run->result == 0)
        run->result = run->body(run);
    return NULL;
}

int bench_run(struct bench_run *run)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, run_main, run);

    if (rc)
        return -rc;
    pthread_join(thread, NULL);
    return run->result;
}

/* ---- wake ------------------------------------------------------------------------------- */

struct cyclic {
    struct bench_run run;
    int64_t *wake_late_ns, *act_late_ns;
};

static int cyclic_body(struct bench_run *run)
{
    struct cyclic *cyclic = (struct cyclic *)run;
    const struct bench_grid *grid = &run->grid;
    int64_t due_ns = bench_now() + 5 * grid->period_ns;

    for (int i = 0; i < grid->cycles; i++, due_ns += grid->period_ns) {
        bench_sleep_until(due_ns);
        cyclic->wake_late_ns[i] = bench_now() - due_ns;
        bench_sleep_until(due_ns + grid->act_ns);
        cyclic->act_late_ns[i] = bench_now() - due_ns - grid->act_ns;

        /* as the product: whole grid points are skipped after an overrun */
        while (bench_now() > due_ns + grid->period_ns)
            due_ns += grid->period_ns;
    }
    return grid->cycles;
}

int bench_cyclic(const struct bench_grid *grid, int64_t *wake_late_ns, int64_t *act_late_ns)
{
    struct cyclic cyclic = {{*grid, cyclic_body, 0}, wake_late_ns, act_late_ns};

    return bench_run(&cyclic.run);
}

int bench_busy(int64_t time_ns)
{
    int64_t until = bench_now() + time_ns;

    while (bench_now() < until)
        ;
    return 0;
}

/* ---- devices ---------------------------------------------------------------------------- */

struct bench_responder {
    pthread_t thread;
    int arm_fd, wrist_fd, stop_fd[2];
    int32_t priority, cpu;
    uint32_t size;
    uint8_t packet[1024];
    uint8_t record[36];
};

#define FAST_SYNC_READ 0x8A

static void answer_wrist(struct bench_responder *responder)
{
    uint8_t *counter = responder->record + 4;

    /* ft_sequence, big endian, advances with every record */
    for (int i = 3; i >= 0 && ++counter[i] == 0; i--)
        ;
    if (write(responder->wrist_fd, responder->record, sizeof responder->record) < 0)
        return;
}

static void *responder_main(void *argument)
{
    struct bench_responder *responder = argument;
    struct pollfd fds[] = {{.fd = responder->stop_fd[0], .events = POLLIN},
                           {.fd = responder->arm_fd, .events = POLLIN},
                           {.fd = responder->wrist_fd, .events = POLLIN}};
    uint8_t request[1024];

    bench_rights(responder->priority, responder->cpu);
    for (;;) {
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[0].revents)
            return NULL;
        if (fds[1].revents && read(responder->arm_fd, request, sizeof request) > 7 &&
            request[7] == FAST_SYNC_READ &&
            write(responder->arm_fd, responder->packet, responder->size) < 0)
            return NULL;
        if (fds[2].revents && read(responder->wrist_fd, request, sizeof request) > 0)
            answer_wrist(responder);
    }
}

int bench_responder_start(bench_responder **out, int arm_fd, const uint8_t *packet, uint32_t size,
                          int wrist_fd, const uint8_t *record, int32_t priority, int32_t cpu)
{
    bench_responder *responder = calloc(1, sizeof *responder);

    if (!responder || size > sizeof responder->packet)
        return -ENOMEM;
    responder->arm_fd = arm_fd;
    responder->wrist_fd = wrist_fd;
    responder->priority = priority;
    responder->cpu = cpu;
    responder->size = size;
    memcpy(responder->packet, packet, size);
    memcpy(responder->record, record, sizeof responder->record);
    if (pipe(responder->stop_fd) < 0)
        return -errno;
    *out = responder;
    return -pthread_create(&responder->thread, NULL, responder_main, responder);
}

void bench_responder_stop(bench_responder *responder)
{
    if (write(responder->stop_fd[1], "", 1) == 1)
        pthread_join(responder->thread, NULL);
    close(responder->stop_fd[0]);
    close(responder->stop_fd[1]);
    free(responder);
}

/* ---- a bare mapping --------------------------------------------------------------------- */

struct bare {
    struct bench_run run;
    struct bench_bare *memory;
    uint32_t sensors, depth;
    uint64_t payload;
    int64_t *echo_ns;
};

static int bare_body(struct bench_run *run)
{
    struct bare *bare = (struct bare *)run;
    const struct bench_grid *grid = &run->grid;
    struct bench_bare *memory = bare->memory;
    _Atomic uint32_t *word = (_Atomic uint32_t *)&memory->word;
    int64_t due_ns = bench_now() + 5 * grid->period_ns;
    uint8_t *ring = (uint8_t *)memory + 4096;

    for (int i = 0; i < grid->cycles; i++, due_ns += grid->period_ns) {
        uint32_t number = atomic_load_explicit(word, memory_order_relaxed) + 1;
        uint8_t *slot = ring + number % bare->depth * bare->sensors * bare->payload;

        bench_sleep_until(due_ns);
        for (uint32_t s = 0; s < bare->sensors; s++)
            bench_fill((uint64_t *)(slot + s * bare->payload), bare->payload, number);
        memory->stamp_ns[number % 64] = bench_now();
        atomic_store_explicit(word, number, memory_order_release);
        syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
        if (!grid->act_ns)
            continue;
        bench_sleep_until(due_ns + grid->act_ns);
        bare->echo_ns[i] = -1;
        if (memory->echo_ns[number % 64] > memory->stamp_ns[number % 64])
            bare->echo_ns[i] = memory->echo_ns[number % 64] - memory->stamp_ns[number % 64];
    }
    return grid->cycles;
}

int bench_bare_block(struct bench_bare *memory, const struct bench_grid *grid, uint32_t sensors,
                     uint64_t payload, uint32_t depth, int64_t *echo_ns)
{
    struct bare bare = {{*grid, bare_body, 0}, memory, sensors, depth, payload, echo_ns};

    return bench_run(&bare.run);
}

uint32_t bench_bare_wait(const struct bench_bare *bare, uint32_t seen)
{
    const _Atomic uint32_t *word = (const _Atomic uint32_t *)&bare->word;
    struct timespec timeout = {.tv_sec = 1};
    uint32_t now;

    while ((now = atomic_load_explicit(word, memory_order_acquire)) == seen)
        if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0) < 0 &&
            errno == ETIMEDOUT)
            return seen;
    return now;
}

void bench_bare_echo(struct bench_bare *bare, uint32_t number)
{
    bare->echo_ns[number % 64] = bench_now();
}

void bench_bare_work(struct bench_bare *bare, uint32_t last, const struct bench_work *work)
{
    uint32_t (*call)(void *, const void *, const void *const *, double *);
    uint32_t newest = __atomic_load_n(&bare->word, __ATOMIC_ACQUIRE);

    *(void **)&call = work->call;
    while ((int32_t)(newest - last) < 0) {
        newest = bench_bare_wait(bare, newest);
        if (call)
            call(work->user, work->record, (const void *const *)work->samples, work->command);
        bench_bare_echo(bare, newest);
    }
}
