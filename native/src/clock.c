/* The two clocks: the monotonic one of the machine, and virtual time for lock step. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "core.h"
#include "lateness.h"
#include "pace.h"
#include "sensor.h"
#include "timing.h"
#include "twin.h"

#define WALL_TRIES 3
#define WALL_NARROW_NS 2000
#define BOOT_TRIES 3
#define BOOT_STEP_NS 1000000 /* of suspension; the two clocks are slewed alike */
#define WALL_STEP_NS 1000000 /* a larger step is told in the frame */

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

/* One ppoll over the descriptors that owe a reply. Its timeout is computed from an absolute time at
   each call, so errors do not add up. A timerfd with the absolute deadline would cost one more
   system call per cycle. Real-time threads have no timer slack. */
static void monotonic_wait(struct inphase_core *core, int64_t time_ns)
{
    const struct sensor *awaited = pace_awaited(core);
    struct sensor *asked[INPHASE_MAX_SENSORS];
    int64_t left = time_ns - inphase_now();
    struct timespec timeout;
    nfds_t count = 0;

    for (uint32_t i = 0; i < core->sensors; i++) {
        struct sensor *sensor = &core->sensor[i];

        core->readable[i] = false;
        if (!(sensor->outstanding || sensor == awaited) || sensor->device->fd < 0 ||
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

static bool monotonic_hear(struct inphase_core *core, const struct sensor *sensor, int64_t time_ns)
{
    struct pollfd poll = {.fd = sensor->device->fd, .events = POLLIN};
    int64_t left = time_ns - inphase_now();
    struct timespec timeout;

    (void)core;
    if (left < 0)
        left = 0;
    timeout = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    return ppoll(&poll, 1, &timeout, NULL) > 0;
}

/* the vDSO, no system call */
static int64_t monotonic_wall(struct inphase_core *core)
{
    struct timespec wall;

    (void)core;
    clock_gettime(CLOCK_REALTIME, &wall);
    return wall.tv_sec * 1000000000LL + wall.tv_nsec;
}

/* the monotonic clock is read last: a thread that is held up in between finds too small a value */
static int64_t monotonic_boot(struct inphase_core *core)
{
    struct timespec boot;

    (void)core;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return boot.tv_sec * 1000000000LL + boot.tv_nsec - inphase_now();
}

const struct clock_ops monotonic_clock = {
    monotonic_now, monotonic_sleep, monotonic_wait, monotonic_hear, monotonic_wall, monotonic_boot,
};

/* The offset only grows: a smaller value was held up while it was read. The first one is the
   largest of a few */
void note_boot_clock(struct inphase_core *core)
{
    int64_t offset_ns = core->clock->boot_offset(core);

    for (int i = 1; i < BOOT_TRIES && !core->boot_known; i++) {
        int64_t again_ns = core->clock->boot_offset(core);

        offset_ns = again_ns > offset_ns ? again_ns : offset_ns;
    }
    if (core->boot_known && offset_ns - core->boot_offset_ns > BOOT_STEP_NS)
        note_resumed(core);
    if (!core->boot_known || offset_ns > core->boot_offset_ns)
        core->boot_offset_ns = offset_ns;
    core->boot_known = true;
}

/* read the wall clock between two readings of the monotonic clock; the narrowest of a few */
int64_t wall_offset(struct inphase_core *core, int64_t *error_ns)
{
    int64_t narrowest = INT64_MAX, offset = 0;

    for (int i = 0; i < WALL_TRIES && narrowest > WALL_NARROW_NS; i++) {
        int64_t before = core->clock->now(core), wall = core->clock->wall(core);
        int64_t between = core->clock->now(core) - before;

        if (between >= narrowest)
            continue;
        narrowest = between;
        offset = wall - before - between / 2;
    }
    *error_ns = narrowest / 2 + 1;
    return offset;
}

void note_wall_clock(struct inphase_core *core)
{
    int64_t error_ns, offset_ns = wall_offset(core, &error_ns);
    int64_t moved_ns = llabs(offset_ns - core->wall_offset_ns);

    /* NTP slews by 500 ppm at most */
    int64_t slewed_ns = (core->woke_ns - core->wall_looked_ns) / 1000;
    bool set = core->wall_known && moved_ns > error_ns + core->wall_error_ns + slewed_ns;

    /* held up at every reading: the offset is unknown in this cycle; the next cycle compares with
       the last known one */
    if (error_ns > WALL_STEP_NS / 2) {
        core->wall_since_ns = INT64_MAX;
        return;
    }
    core->wall_offset_ns = offset_ns;
    core->wall_error_ns = error_ns;
    core->wall_looked_ns = core->woke_ns;
    if (set && moved_ns > WALL_STEP_NS)
        core->flags |= INPHASE_FLAG_CLOCK_STEP;
    if (set) {
        core->wall_since_ns = INT64_MAX;
    } else if (!core->wall_known || core->wall_since_ns == INT64_MAX) {
        core->wall_since_ns = core->woke_ns;
    }
    core->wall_known = true;
}

static int64_t virtual_now(struct inphase_core *core)
{
    return core->virtual_ns;
}

/* go to time_ns, with all events on the way */
static void advance(struct inphase_core *core, int64_t time_ns)
{
    if (time_ns > core->virtual_ns)
        core->virtual_ns = time_ns;
    twins_advance(core, core->virtual_ns);
}

/* A thread that slept wakes late. A recorded run tells when a cycle began and when it acted, also
   where nobody slept for that */
static void virtual_sleep(struct inphase_core *core, int64_t time_ns)
{
    bool is_told = core->trace.cycles &&
                   (time_ns == core->due_ns || time_ns == core->due_ns + core->act_ns);

    if (time_ns > core->virtual_ns || is_told)
        time_ns += timing_wake_late(core, time_ns);
    advance(core, time_ns);
}

/* Of a recorded run: a reply has the wake in its time, unless it is stamped before. Behind the last
   reply that this frame waits for, the cycle is latched */
static int64_t reply_wake(const struct inphase_core *core, int64_t reply_ns, int64_t time_ns)
{
    int64_t latch_ns = timing_latch_wake(core);

    if (time_ns != core->due_ns + core->read_deadline_ns)
        return reply_ns;
    for (uint32_t i = 0; i < core->sensors; i++) {
        const struct sensor *sensor = &core->sensor[i];

        if (sensor->outstanding && due_cycle(sensor, sensor->cycle) == core->cycle &&
            twin_ready_ns(sensor) > reply_ns)
            return reply_ns;
    }
    return latch_ns > reply_ns ? latch_ns : reply_ns;
}

/* go to the first reply that comes before time_ns, or to time_ns */
static void virtual_wait(struct inphase_core *core, int64_t time_ns)
{
    const struct sensor *awaited = pace_awaited(core);
    int64_t until = time_ns;

    /* a world that has failed takes no samples any more */
    for (uint32_t i = 0; i < core->sensors && !core->world.failure; i++) {
        const struct sensor *sensor = &core->sensor[i];

        if (sensor->outstanding && sensor->receives < RECEIVES_PER_CYCLE &&
            twin_ready_ns(sensor) < until)
            until = twin_ready_ns(sensor);
        if (sensor == awaited && twin_next_ns(core, sensor) < until)
            until = twin_next_ns(core, sensor);
    }
    if (core->trace.cycles && until < time_ns)
        advance(core, reply_wake(core, until, time_ns));
    else
        virtual_sleep(core, until);
    for (uint32_t i = 0; i < core->sensors; i++)
        core->readable[i] = &core->sensor[i] == awaited ||
                            (core->sensor[i].outstanding &&
                             twin_ready_ns(&core->sensor[i]) <= core->virtual_ns);
}

/* a simulated device stamps its packets itself, whenever they are read */
static bool virtual_hear(struct inphase_core *core, const struct sensor *sensor, int64_t time_ns)
{
    (void)core;
    (void)sensor;
    (void)time_ns;
    return false;
}

static int64_t virtual_wall(struct inphase_core *core)
{
    const struct inphase_fault *fault = fault_at(core, INPHASE_FAULT_CLOCK_STEP, 0, core->cycle);

    return core->virtual_ns + (fault ? fault->argument : 0);
}

/* the planned suspensions so far */
static int64_t virtual_boot(struct inphase_core *core)
{
    int64_t suspended_ns = 0;

    for (uint32_t i = 0; i < core->faults; i++)
        if (core->fault[i].kind == INPHASE_FAULT_SUSPENDED &&
            core->fault[i].from_cycle <= core->cycle)
            suspended_ns += core->fault[i].argument;
    return suspended_ns;
}

const struct clock_ops virtual_clock = {
    virtual_now, virtual_sleep, virtual_wait, virtual_hear, virtual_wall, virtual_boot,
};
