/* The two clocks: the monotonic one of the machine, and virtual time for lock step. */
#define _GNU_SOURCE
#include <poll.h>
#include <time.h>

#include "internal.h"

static int64_t monotonic_now(struct inphase_core *core)
{
    (void)core;
    return inphase_now();
}

static void monotonic_sleep(struct inphase_core *core, int64_t time_ns)
{
    struct timespec until = {.tv_sec = time_ns / 1000000000, .tv_nsec = time_ns % 1000000000};

    (void)core;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* One ppoll over the descriptors that owe a reply. Its timeout is what is left until an absolute
   time, taken anew at each call, so errors do not add up; a timerfd armed to the absolute deadline
   would cost one system call more in every cycle. Real-time threads have no timer slack. */
static void monotonic_wait(struct inphase_core *core, int64_t time_ns)
{
    struct sensor *asked[INPHASE_MAX_SENSORS];
    int64_t left = time_ns - inphase_now();
    struct timespec timeout;
    nfds_t count = 0;

    for (uint32_t i = 0; i < core->sensors; i++) {
        struct sensor *sensor = &core->sensor[i];

        core->readable[i] = false;
        if (!sensor->outstanding || sensor->device->fd < 0 ||
            sensor->receives >= RECEIVES_PER_CYCLE)
            continue;
        asked[count] = sensor;
        core->poll[count++] = (struct pollfd){.fd = sensor->device->fd, .events = POLLIN};
    }
    if (left < 0)
        left = 0;
    timeout = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    if (ppoll(core->poll, count, &timeout, NULL) <= 0)
        return;
    for (nfds_t i = 0; i < count; i++)
        core->readable[asked[i]->index] = core->poll[i].revents != 0;
}

const struct clock_ops monotonic_clock = {monotonic_now, monotonic_sleep, monotonic_wait};

static int64_t virtual_now(struct inphase_core *core)
{
    return core->virtual_ns;
}

static void virtual_sleep(struct inphase_core *core, int64_t time_ns)
{
    if (time_ns > core->virtual_ns)
        core->virtual_ns = time_ns;
}

/* go to the first reply that comes before time_ns, or to time_ns */
static void virtual_wait(struct inphase_core *core, int64_t time_ns)
{
    int64_t until = time_ns;

    for (uint32_t i = 0; i < core->sensors; i++) {
        const struct sensor *sensor = &core->sensor[i];

        if (sensor->outstanding && sensor->twin_ready_ns != INPHASE_ABSENT &&
            sensor->twin_ready_ns < until)
            until = sensor->twin_ready_ns;
    }
    virtual_sleep(core, until);
    for (uint32_t i = 0; i < core->sensors; i++)
        core->readable[i] = core->sensor[i].outstanding &&
                            core->sensor[i].twin_ready_ns != INPHASE_ABSENT &&
                            core->sensor[i].twin_ready_ns <= core->virtual_ns;
}

const struct clock_ops virtual_clock = {virtual_now, virtual_sleep, virtual_wait};
