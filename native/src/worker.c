/* A worker's own side: it fills samples into its segment, stamps them and wakes the core, and takes
   the commands for its actuator. In a worker's process or thread, never on the cycle thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "post.h"
#include "reader.h"
#include "relaxed.h"
#include "state.h"
#include "store.h"

struct inphase_worker {
    inphase_segment *segment;           /* ours */
    inphase_segment *core;
    inphase_segment *bell;              /* the core rings it for an order; NULL: no orders */
    struct inphase_layout layout;       /* our copy: what was checked */
    const struct state *state;
    struct post *post;
    struct inphase_ring ring;
    int wake_fd;
    uint64_t orders_seen[INPHASE_MAX_ACTUATORS];
    struct inphase_worker_facts facts;
};

int inphase_worker_make(inphase_segment **out, uint64_t payload, uint64_t depth, uint64_t epoch)
{
    inphase_segment *segment;
    struct post *post;
    int rc;

    if (payload % 8 || depth < 8 || (depth & (depth - 1)))
        return -EINVAL;
    rc = inphase_segment_make(&segment, POST_RING + ring_stride(payload) * depth, 1);
    if (rc < 0)
        return rc;
    post = (void *)segment->memory;
    post->epoch = epoch;
    post->version = STORE_VERSION;
    post->payload = payload;
    post->depth = depth;
    __atomic_store_n(&post->magic, MAGIC, __ATOMIC_RELEASE);

    return segment_leave(out, segment);
}

static void close_segments(inphase_worker *worker)
{
    inphase_segment_close(worker->bell);
    inphase_segment_close(worker->core);
    inphase_segment_close(worker->segment);
}

int inphase_worker_open(inphase_worker **out, const struct inphase_worker_fds *fds, uint32_t sensor)
{
    inphase_worker *worker = calloc(1, sizeof *worker);
    int rc;

    if (!worker)
        return -ENOMEM;
    rc = inphase_segment_map(&worker->segment, fds->ring, 1);
    if (rc == 0)
        rc = inphase_segment_map(&worker->core, fds->core, 0);
    if (rc == 0 && fds->bell >= 0)
        rc = inphase_segment_map(&worker->bell, fds->bell, 0);
    if (rc < 0)
        goto close_segments;
    worker->post = (void *)worker->segment->memory;
    rc = -EPROTO;
    if (!layout_copy(&worker->layout, worker->core) ||
        post_of(worker->segment, &worker->layout, sensor) == NULL)
        goto close_segments;
    worker->ring = worker->layout.samples[sensor];
    worker->state = (const void *)(worker->core->memory + worker->layout.state_offset);
    worker->wake_fd = fds->wake;

    /* commands from before this worker are not its own */
    for (int i = 0; i < INPHASE_MAX_ACTUATORS; i++)
        worker->orders_seen[i] = atomic_load_explicit(&worker->state->orders[i],
                                                      memory_order_acquire);
    for (size_t i = 0; i < sizeof worker->facts / 8; i++) {
        int64_t fact = load_i64(&worker->post->fact[i]);

        memcpy((uint8_t *)&worker->facts + 8 * i, &fact, 8);
    }
    inphase_worker_state(worker, INPHASE_WORKER_STARTING);
    *out = worker;
    return 0;

close_segments:
    close_segments(worker);
    free(worker);
    return rc;
}

void inphase_worker_close(inphase_worker *worker)
{
    if (!worker)
        return;
    inphase_worker_state(worker, INPHASE_WORKER_OFFLINE);
    close_segments(worker);
    free(worker);
}

static void wake_core(const inphase_worker *worker)
{
    uint64_t one = 1;

    /* a full counter wakes, too */
    if (worker->wake_fd >= 0 && write(worker->wake_fd, &one, sizeof one) < 0)
        return;
}

void inphase_worker_state(inphase_worker *worker, uint32_t state)
{
    worker->facts.state = state;
    inphase_worker_tell(worker);
    atomic_store_explicit(&worker->post->state, state, memory_order_release);
    wake_core(worker);
}

struct inphase_worker_facts *inphase_worker_facts(inphase_worker *worker)
{
    return &worker->facts;
}

void inphase_worker_tell(inphase_worker *worker)
{
    for (size_t i = 0; i < sizeof worker->facts / 8; i++) {
        int64_t fact;

        memcpy(&fact, (const uint8_t *)&worker->facts + 8 * i, 8);
        put_i64(&worker->post->fact[i], fact);
    }
}

int64_t inphase_worker_start_ns(inphase_worker *worker)
{
    uint32_t state = atomic_load_explicit(&worker->state->state, memory_order_acquire);

    return state == INPHASE_STATE_CONFIGURED ? 0 : load_i64(&worker->state->start_ns);
}

int inphase_worker_over(inphase_worker *worker)
{
    return atomic_load_explicit(&worker->state->over, memory_order_acquire) ||
           writer_alive(worker->core->fd) != 1;
}

int inphase_worker_starved(inphase_worker *worker, uint32_t actuator)
{
    return actuator < INPHASE_MAX_ACTUATORS &&
           (load_u32(&worker->state->starved) >> actuator & 1);
}

static struct posted_slot *slot_of(const inphase_worker *worker, uint64_t number)
{
    return (struct posted_slot *)ring_slot(worker->segment->memory, &worker->ring, number);
}

void *inphase_worker_claim(inphase_worker *worker)
{
    uint64_t number = atomic_load_explicit(&worker->post->head, memory_order_relaxed);
    struct posted_slot *slot = slot_of(worker, number);

    atomic_store_explicit(&slot->sequence, 2 * number + 1, memory_order_relaxed);

    /* the payload is written in place, by any code: none of it is seen before the odd sequence */
    atomic_thread_fence(memory_order_release);
    return slot->payload;
}

int64_t inphase_worker_post(inphase_worker *worker, const struct inphase_posted *posted)
{
    uint64_t number = atomic_load_explicit(&worker->post->head, memory_order_relaxed);
    struct posted_slot *slot = slot_of(worker, number);
    uint64_t word;

    for (size_t i = 0; i < sizeof *posted / 8; i++) {
        memcpy(&word, (const uint8_t *)posted + 8 * i, 8);
        atomic_store_explicit(&slot->word[i], word, memory_order_release);
    }
    atomic_store_explicit(&slot->sequence, 2 * number + 2, memory_order_release);
    atomic_store_explicit(&worker->post->head, number + 1, memory_order_release);
    wake_core(worker);
    return (int64_t)number;
}

/* the newest command of an actuator that was not taken yet: 1; 2: a stop; 0: none; -EAGAIN: too
   old */
static int take_order(inphase_worker *worker, uint32_t actuator, double *values, int64_t *cycle)
{
    const struct inphase_ring *ring = &worker->layout.orders[actuator];
    uint64_t bytes[(sizeof(struct order) + 8 * INPHASE_MAX_CHANNELS) / 8];
    uint64_t number = atomic_load_explicit(&worker->state->orders[actuator], memory_order_acquire);
    struct order order;

    if (number == worker->orders_seen[actuator] || ring->payload < sizeof order ||
        ring->payload > sizeof bytes)
        return 0;
    worker->orders_seen[actuator] = number;
    if (!slot_read(ring_slot(worker->core->memory, ring, number - 1), number - 1, bytes,
                   ring->payload))
        return -EAGAIN;
    memcpy(&order, bytes, sizeof order);
    memcpy(values, (uint8_t *)bytes + sizeof order, ring->payload - sizeof order);
    *cycle = order.cycle;
    if (order.valid_until_ns < inphase_now())
        return -EAGAIN;
    return order.stops ? 2 : 1;
}

int inphase_worker_wait(inphase_worker *worker, int64_t time_ns, uint32_t actuator, double *values,
                        int64_t *cycle)
{
    struct timespec until = {.tv_sec = time_ns / 1000000000, .tv_nsec = time_ns % 1000000000};
    const uint32_t *word;
    uint32_t rung;
    int rc;

    if (actuator >= INPHASE_MAX_ACTUATORS)
        return -EINVAL;

    /* a worker that waits again is done with the order before */
    atomic_store_explicit(&worker->post->orders, worker->orders_seen[actuator],
                          memory_order_relaxed);
    if (!worker->bell)
        return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR ? -EINTR : 0;

    /* acquire: an order that is not seen now rings later, and then the wait returns at once */
    word = (const void *)worker->bell->memory;
    rung = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    rc = take_order(worker, actuator, values, cycle);
    if (rc)
        return rc;
    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, rung, &until, NULL,
                FUTEX_BITSET_MATCH_ANY) < 0 && errno != EAGAIN)
        return errno == ETIMEDOUT ? 0 : -errno;
    rc = take_order(worker, actuator, values, cycle);
    return rc ? rc : -EINTR;
}
