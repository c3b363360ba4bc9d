/* The core's side of a worker: its segment, and its device on the cycle thread. The two share
   memory; the worker wakes the core by an eventfd, the core the worker by a bell. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "actuator.h"
#include "core.h"
#include "device.h"
#include "encode.h"
#include "guard.h"
#include "guard_page.h"
#include "post.h"
#include "sensor.h"
#include "state.h"
#include "store.h"

const struct post *post_of(const inphase_segment *segment, const struct inphase_layout *layout,
                           uint32_t sensor)
{
    const struct post *post = (const void *)segment->memory;

    if (segment->size < sizeof *post ||
        __atomic_load_n(&post->magic, __ATOMIC_ACQUIRE) != MAGIC ||
        post->version != STORE_VERSION || post->epoch != layout->epoch ||
        sensor >= layout->sensors || !(layout->outside >> sensor & 1) ||
        post->payload != layout->samples[sensor].payload ||
        post->depth != layout->samples[sensor].depth ||
        !ring_fits(&layout->samples[sensor], segment->size))
        return NULL;
    return post;
}

/* copy the stamps of sample `number`, and the values that the core uses */
static bool read_posted(const struct inphase_core *core, struct sensor *sensor, uint64_t number)
{
    uint8_t *memory = (uint8_t *)(uintptr_t)sensor->device->post;
    const struct posted_slot *slot =
        (const void *)ring_slot(memory, &core->layout->samples[sensor->index], number);
    uint64_t word;

    if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != 2 * number + 2)
        return false;
    for (size_t i = 0; i < sizeof sensor->stamps / 8; i++) {
        word = atomic_load_explicit(&slot->word[i], memory_order_acquire);
        memcpy((uint8_t *)&sensor->stamps + 8 * i, &word, 8);
    }
    for (uint32_t c = 0; c < sensor->channels; c++)
        memcpy(&sensor->parser.value[c], slot->payload + sensor->offset[c], sizeof(double));

    /* the payload was read with plain loads: they stay before the second look */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&slot->sequence, memory_order_relaxed) == 2 * number + 2;
}

/* a worker fires by itself */
static int worker_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    (void)core;
    (void)sensor;
    (void)now_ns;
    return 0;
}

static int worker_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    const struct post *post = sensor->device->post;
    uint64_t head = atomic_load_explicit(&post->head, memory_order_acquire);
    uint64_t count;
    struct iovec into = {&count, sizeof count};
    int64_t ahead;
    bool is_far;

    /* RWF_NOWAIT per call: the worker shares the descriptor's flag, and may clear it */
    *got = RECEIVED_EMPTY;
    if (core->readable[sensor->index]) {
        core->readable[sensor->index] = false;
        if (preadv2(sensor->device->fd, &into, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN)
            return -errno;
    }
    if (head == sensor->posted || head == 0 || head > INT64_MAX)
        return 0;

    /* another process wrote the head: one that went back, or too far, leads to the newest sample */
    if (head - sensor->posted >= core->layout->samples[sensor->index].depth)
        sensor->posted = head - 1;
    *got = RECEIVED_PART;
    if (!read_posted(core, sensor, sensor->posted)) {
        sensor->posted++;
        return 0;
    }

    /* a sample of a trigger that the core, held up, has not reached: it waits */
    is_far = __builtin_sub_overflow(sensor->stamps.cycle, core->cycle, &ahead) ||
             ahead > sensor->every;
    if (ahead > 0 && !is_far) {
        *got = RECEIVED_EMPTY;
        return 0;
    }
    sensor->posted++;
    *got = sensor->stamps.reason || is_far ? RECEIVED_REFUSED : RECEIVED_SAMPLE;
    sensor->parser.sequence = (uint64_t)sensor->stamps.device_sequence;
    sensor->parser.reason = sensor->stamps.reason < INPHASE_REASONS ? sensor->stamps.reason
                                                                    : INPHASE_REASON_DEVICE;
    sensor->parser.detail = sensor->stamps.detail;
    if (is_far) {
        /* a sample of a far cycle is refused, for the trigger that is waited for */
        sensor->stamps.cycle = sensor->cycle;
        sensor->parser.reason = INPHASE_REASON_STAMP;
        sensor->parser.detail = INPHASE_STAMP_CYCLE;
    }
    return 0;
}

/* a worker that takes no order is stuck: its last write goes on, and only the guard can stop it */
static bool is_stuck(const struct inphase_core *core, struct device *device, uint64_t handed)
{
    uint64_t taken = atomic_load_explicit(&device->post->orders, memory_order_relaxed);

    if (taken >= handed || taken != device->orders_taken) {
        device->orders_taken = taken;
        device->orders_waiting = 0;
        return false;
    }

    /* acts are counted, not time: a pause of the whole machine does not count */
    device->orders_waiting++;
    return core->guard.page && device->orders_waiting * core->period_ns >
                                   GUARD_STUCK * core->guard.page->layout.max_hold_ns;
}

/* before the order is published: leave the guard the bytes that stop its device */
static int leave_stop(struct inphase_core *core, const struct actuator *actuator)
{
    uint8_t bytes[INPHASE_MAX_PACKET];
    int32_t size = 0;

    if (actuator->stop.kind == INPHASE_STOP_HOLD)
        size = encode(&actuator->encoding, actuator->checksum.table, actuator->applied, bytes,
                      sizeof bytes);
    if (size < 0)
        return -EAGAIN;
    guard_leave(core, actuator, bytes, (uint32_t)size);
    return 0;
}

static int worker_write(struct inphase_core *core, struct actuator *actuator)
{
    const struct inphase_ring *ring = &core->layout->orders[actuator->index];
    uint64_t number = atomic_load_explicit(&core->state->orders[actuator->index],
                                           memory_order_relaxed);
    uint64_t bytes[(sizeof(struct order) + 8 * INPHASE_MAX_CHANNELS) / 8];
    struct order order = {
        .cycle = core->cycle,

        /* The worker may be late until the next command is due. A stop is never too late: a worker
           that has just started takes it later */
        .valid_until_ns = actuator->stops ? INT64_MAX
                                          : core->due_ns + core->act_ns + core->period_ns,
        .stops = actuator->stops != STOPS_NOT,
    };

    if (actuator->stop.kind != INPHASE_STOP_NONE) {
        if (is_stuck(core, actuator->device, number)) {
            actuator->device->worker_lives = false; /* until there is another worker */
            return -ETIMEDOUT;
        }
        if (leave_stop(core, actuator) < 0)
            return -EAGAIN;
    }
    memcpy(bytes, &order, sizeof order);
    memcpy((uint8_t *)bytes + sizeof order, actuator->applied, 8 * actuator->channels);
    slot_write(ring_slot(core->segment->memory, ring, number), number, bytes, ring->payload);
    atomic_store_explicit(&core->state->orders[actuator->index], number + 1, memory_order_release);
    if (actuator->device->bell) {
        atomic_store_explicit(actuator->device->bell, (uint32_t)(number + 1), memory_order_release);
        futex_wake(actuator->device->bell, 1);
    }
    return 0;
}

const struct device_ops worker_ops = {
    .pairs = true,
    .trigger = worker_trigger,
    .receive = worker_receive,
    .write = worker_write,
};
