/* Devices come and go: the cycle thread follows the supervisor's wishes, and gives up a device that
   was lost. Cycle thread only. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "burst.h"
#include "core.h"
#include "device.h"
#include "guard.h"
#include "packet.h"
#include "post.h"
#include "relaxed.h"
#include "rest.h"
#include "sensor.h"
#include "state.h"
#include "twin.h"

/* answer the wish that was taken last */
static void tell_use(struct device *device, uint32_t use)
{
    atomic_store_explicit(&device->use, device->taken >> 32 << 32 | use, memory_order_release);
}

void device_lost(struct inphase_core *core, struct device *device, int error)
{
    device->attached = false;
    device->was_lost = true;
    if (device->ops != &worker_ops)
        device->fd = -1;
    if (device->sensor >= 0)
        core->sensor[device->sensor].outstanding = false;
    if (device->actuator >= 0) {
        rest_lost(&core->actuator[device->actuator]);
        if (device->ops == &worker_ops)
            guard_abandon(core, &core->actuator[device->actuator], error == -ETIMEDOUT);
    }

    /* motion depends on an actuator's device, whatever its feedback says */
    if (device->actuator >= 0 && core->is_live)
        latch_motion(core, INPHASE_REASON_OFFLINE, (uint32_t)(device - core->device));
    put_u32(&core->state->lost_devices, load_u32(&core->state->lost_devices) + 1);
    tell_use(device, (uint32_t)-error & USE_ERRNO);
}

static void start_over(struct inphase_core *core, struct device *device)
{
    device->attached = true;
    device->refused = false;
    device->orders_waiting = 0;
    device->quiet_until_ns = 0;
    device->lost_reason = device->lost_detail = 0;
    tell_use(device, USE_ATTACHED);
    if (device->sensor >= 0) {
        struct sensor *sensor = &core->sensor[device->sensor];

        parser_reset(&sensor->parser);
        inphase_parser_forgive(&sensor->parser, 0);
        sensor->outstanding = false;
        sensor->dirty = !device->ops->pairs;
        sensor->suspect = false;
        sensor->owed = 0;
        sensor->device_sequence_known = false;
        sensor->clock_known = false;
        sensor->recovering = device->was_lost ? sensor->recover : 0;

        /* what a simulated stream took while it was away never comes */
        if (device->was_lost && sensor->free_running && sensor->twin)
            sensor->twin->count = 0;
        if (sensor->burst.most)
            burst_begin(&sensor->burst);
    }
}

/* a worker's device is attached while its worker lives and reports it as running */
static void follow_worker(struct inphase_core *core, struct device *device)
{
    bool there = device->worker_lives && device->post &&
                 atomic_load_explicit(&device->post->state, memory_order_acquire) ==
                     INPHASE_WORKER_RUNNING;
    int64_t opens = device->post ? load_i64(&device->post->fact[WORKER_OPENS]) : 0;

    /* the device may be lost and opened again between two cycles: opens are counted */
    if (device->attached && (!there || opens != device->opens_seen))
        device_lost(core, device, -ENODEV);
    else if (there && !device->attached)
        start_over(core, device);
    device->opens_seen = opens;
}

/* let the device of the wish before go; a worker that is not wanted any more has ended */
static void let_go(struct inphase_core *core, struct device *device)
{
    if (device->ops == &worker_ops) {
        device->worker_lives = false;
        follow_worker(core, device);
        return;
    }
    if (device->attached && device->actuator >= 0 && core->is_live)
        latch_motion(core, INPHASE_REASON_OFFLINE, (uint32_t)(device - core->device));
    device->attached = false;
    device->fd = -1;
    if (device->sensor >= 0)
        core->sensor[device->sensor].outstanding = false;
}

/* Follow a new wish. It replaces the wish before as a whole, and begins with letting go. So a wish
   that came and went between two cycles is not missed. */
static void take_wish(struct inphase_core *core, struct device *device, uint64_t wanted)
{
    uint32_t what = (uint32_t)wanted;

    let_go(core, device);
    device->taken = wanted;
    if (device->ops == &worker_ops) {
        device->worker_lives = what != WANTED_NONE;
        follow_worker(core, device);
    } else if (what != WANTED_NONE) {
        device->fd = (int)(what - WANTED_FD);
        start_over(core, device);
    }
    if (!device->attached)
        tell_use(device, 0);
}

void stage_devices(struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->devices; i++) {
        struct device *device = &core->device[i];
        uint64_t wanted = atomic_load_explicit(&device->wanted, memory_order_acquire);

        if (device->ops == &twin_ops && !device->attached &&
            core->cycle >= device->gone_until_cycle)
            start_over(core, device);
        if (wanted != device->taken)
            take_wish(core, device, wanted);
        if (device->ops == &worker_ops)
            follow_worker(core, device);
    }
    state_take_requests(core);
}
