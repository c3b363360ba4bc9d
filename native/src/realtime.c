/* Real-time rights: requested, and granted or refused by the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "client_page.h"
#include "estop.h"
#include "guard.h"
#include "lease.h"
#include "mailbox.h"
#include "post.h"
#include "realtime.h"
#include "sensor.h"
#include "state.h"
#include "store.h"

#define PAGE 4096UL

static int set_cpu(int32_t cpu)
{
    cpu_set_t set;

    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) < 0 ? errno : 0;
}

static int set_priority(int32_t priority)
{
    struct sched_param param = {.sched_priority = priority};

    /* reset on fork: a child of this thread does not inherit its priority */
    if (priority <= 0)
        return 0;
    return sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) < 0 ? errno : 0;
}

static int take_rights(int32_t priority, int32_t cpu, int32_t *priority_errno, int32_t *cpu_errno)
{
    *priority_errno = set_priority(priority);
    *cpu_errno = set_cpu(cpu);
    return *priority_errno == 0 && *cpu_errno == 0;
}

static bool has_address(const struct dl_phdr_info *info, uintptr_t address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

        if (info->dlpi_phdr[i].p_type == PT_LOAD && address >= from &&
            address < from + info->dlpi_phdr[i].p_memsz)
            return true;
    }
    return false;
}

/* lock the pages of the shared object that this code is part of (code, constants, tables) and the C
   library's code. The kernel never takes the vDSO's away */
static int lock_object(struct dl_phdr_info *info, size_t size, void *result)
{
    bool ours = has_address(info, (uintptr_t)&lock_object);

    (void)size;
    if (!ours && !has_address(info, (uintptr_t)&clock_nanosleep))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        uintptr_t page = from & ~(PAGE - 1);

        if (info->dlpi_phdr[i].p_type == PT_LOAD && (ours || info->dlpi_phdr[i].p_flags & PF_X) &&
            mlock((void *)page, from + info->dlpi_phdr[i].p_memsz - page) < 0)
            *(int *)result = errno;
    }
    return 0;
}

/* lock the parts of a worker's segment that the core reads: its head, and in each slot the stamps
   and the checked values; an image behind them may leave the memory */
static int lock_post(const struct inphase_core *core, const struct sensor *sensor)
{
    const struct inphase_ring *ring = &core->layout->samples[sensor->index];
    uintptr_t memory = (uintptr_t)sensor->device->post;
    uint64_t used = 0;

    for (uint32_t c = 0; c < sensor->channels; c++)
        if (sensor->offset[c] + sizeof(double) > used)
            used = sensor->offset[c] + sizeof(double);
    if (mlock((const void *)memory, POST_RING) < 0)
        return -1;
    for (uint64_t i = 0; i < ring->depth; i++) {
        uintptr_t from = memory + ring->offset + i * ring->stride;
        uintptr_t page = from & ~(PAGE - 1);

        if (mlock((const void *)page, from + SLOT_HEADER + used - page) < 0)
            return -1;
    }
    return 0;
}

void realtime_setup(struct inphase_core *core)
{
    struct state *state = core->state;
    int32_t priority_errno, cpu_errno;
    int memory_errno = 0;
    int granted;

    /* segments, stack, core and its code; all of it was touched before the thread started */
    if (mlock(core->segment->memory, core->segment->size) < 0 ||
        mlock((uint8_t *)core->stack + STACK_GUARD, STACK_BYTES) < 0 ||
        mlock(core, sizeof *core) < 0 || mlock((void *)core->relay.word, BELL_BYTES) < 0 ||
        mlock(core->record, core->record_size) < 0 ||
        mlock(core->setpoints.memory, core->setpoints.size) < 0)
        memory_errno = errno;
    for (uint32_t i = 0; i < core->sensors; i++)
        if (core->sensor[i].burst.payload &&
            mlock(core->sensor[i].burst.payload, core->sensor[i].burst.size) < 0)
            memory_errno = errno;
    if (core->client_page && mlock(core->client_page, sizeof *core->client_page) < 0)
        memory_errno = errno;
    if (core->lease_page && mlock(core->lease_page, sizeof *core->lease_page) < 0)
        memory_errno = errno;
    if (core->policy_bell && mlock((void *)core->policy_bell, BELL_BYTES) < 0)
        memory_errno = errno;
    for (uint32_t i = 0; i < core->devices; i++)
        if (core->device[i].bell && mlock((void *)core->device[i].bell, BELL_BYTES) < 0)
            memory_errno = errno;
    for (uint32_t i = 0; i < core->sensors; i++)
        if (core->sensor[i].device->post && lock_post(core, &core->sensor[i]) < 0)
            memory_errno = errno;
    if (guard_lock(core) < 0)
        memory_errno = errno;
    if (core->mailbox && mlock(core->mailbox, mailbox_bytes(core->setpoints.answer)) < 0)
        memory_errno = errno;
    dl_iterate_phdr(lock_object, &memory_errno);

    granted = take_rights(core->priority, core->cpu, &priority_errno, &cpu_errno);
    atomic_store_explicit(&state->rt_priority, core->priority, memory_order_relaxed);
    atomic_store_explicit(&state->rt_cpu, core->cpu, memory_order_relaxed);
    atomic_store_explicit(&state->rt_priority_errno, priority_errno, memory_order_relaxed);
    atomic_store_explicit(&state->rt_cpu_errno, cpu_errno, memory_order_relaxed);
    atomic_store_explicit(&state->rt_memory_errno, memory_errno, memory_order_relaxed);
    atomic_store_explicit(&state->rt_granted, granted && !memory_errno && core->priority > 0,
                          memory_order_relaxed);
    atomic_store_explicit(&state->thread_id, (int32_t)syscall(SYS_gettid), memory_order_relaxed);
}

struct trial {
    int32_t priority, cpu;
    struct inphase_realtime *out;
};

static void *try_rights(void *argument)
{
    struct trial *trial = argument;

    trial->out->granted = take_rights(trial->priority, trial->cpu, &trial->out->priority_errno,
                                          &trial->out->cpu_errno);
    return NULL;
}

int inphase_realtime_try(int32_t priority, int32_t cpu, struct inphase_realtime *out)
{
    struct trial trial = {priority, cpu, out};
    pthread_t thread;
    int rc;

    memset(out, 0, sizeof *out);
    out->priority = priority;
    out->cpu = cpu;
    rc = pthread_create(&thread, NULL, try_rights, &trial);
    if (rc)
        return -rc;
    pthread_join(thread, NULL);
    return 0;
}

struct wakes {
    struct trial trial;
    int64_t period_ns, *late_ns;
    uint32_t count;
};

static void *wake_up(void *argument)
{
    struct wakes *wakes = argument;
    int64_t due_ns, now_ns;

    try_rights(&wakes->trial);
    due_ns = inphase_now();
    for (uint32_t i = 0; i < wakes->count; i++) {
        struct timespec due;

        due_ns += wakes->period_ns;
        due = (struct timespec){due_ns / 1000000000, due_ns % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
        now_ns = inphase_now();
        wakes->late_ns[i] = now_ns - due_ns;
        due_ns += wakes->late_ns[i] / wakes->period_ns * wakes->period_ns;
    }
    return NULL;
}

int inphase_realtime_wakes(int32_t priority, int32_t cpu, int64_t period_ns, int64_t *late_ns,
                           uint32_t count, struct inphase_realtime *out)
{
    struct wakes wakes = {{priority, cpu, out}, period_ns, late_ns, count};
    pthread_t thread;
    int rc;

    if (period_ns <= 0 || period_ns > INT64_MAX / 4)
        return -EINVAL;
    memset(out, 0, sizeof *out);
    memset(late_ns, 0, count * sizeof *late_ns); /* its pages are there before it counts */
    out->priority = priority;
    out->cpu = cpu;
    rc = pthread_create(&thread, NULL, wake_up, &wakes);
    if (rc)
        return -rc;
    pthread_join(thread, NULL);
    return 0;
}

int inphase_die_with_parent(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0 ? -errno : 0;
}
