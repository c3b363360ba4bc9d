/* Between the core and a worker: a sample that is posted over while the core reads it, and a
   command that its worker comes to too late. The core is made and not started; the test is its
   cycle thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../src/actuator.h"
#include "../src/collect.h"
#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/device.h"
#include "../src/guard_page.h"
#include "../src/post.h"
#include "../src/relaxed.h"
#include "../src/sensor.h"
#include "../src/state.h"
#include "../src/store.h"
#include "check.h"
#include "worker_rig.h"

#define SECOND_NS 1000000000LL
#define PERIOD_NS (100 * SECOND_NS) /* longer than any wait of this test */
#define ACT_NS SECOND_NS
#define DEPTH 8
#define PAGE 4096
#define PAYLOAD (2 * PAGE - SLOT_HEADER) /* so that each slot is two whole pages */
#define FAR (PAGE - SLOT_HEADER)         /* in the payload: where the slot's second page begins */

static const uint32_t offset[2] = {0, FAR};

/* ---- samples ------------------------------------------------------------------------------- */

/* a sample whose two values, far from each other, are the same */
static void post(struct rig *rig, double value)
{
    const struct inphase_posted posted = {.device_sequence = INPHASE_ABSENT,
                                          .acquired_ns = INPHASE_ABSENT};
    uint8_t *payload = inphase_worker_claim(rig->worker);

    memcpy(payload, &value, sizeof value);
    memcpy(payload + FAR, &value, sizeof value);
    inphase_worker_post(rig->worker, &posted);
}

static enum received receive(struct rig *rig)
{
    enum received got;

    CHECK_EQUAL(worker_ops.receive(rig->core, &rig->core->sensor[0], &got), 0);
    return got;
}

/* the page that the core's next read of a sample stops at, and how many samples are posted then */
static struct rig *stopped;
static uint8_t *page;
static int posts;

static void on_read(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    CHECK((uint8_t *)info->si_addr >= page && (uint8_t *)info->si_addr < page + PAGE);
    CHECK_EQUAL(mprotect(page, PAGE, PROT_READ), 0);
    for (int i = 0; i < posts; i++)
        post(stopped, 1000 + i);
}

/* The core is held up in the middle of a sample, here by a page that cannot be read, until its
   worker has gone on by so many samples. Fewer than the depth of the ring leave it whole */
static void a_sample_that_is_posted_over_while_it_is_read_is_none(void)
{
    struct sigaction action = {.sa_sigaction = on_read, .sa_flags = SA_SIGINFO};
    struct sigaction before;

    CHECK_EQUAL(sigaction(SIGSEGV, &action, &before), 0);
    for (posts = 0; posts <= 2 * DEPTH; posts++) {
        struct rig rig;
        const struct sensor *sensor;
        bool whole = posts < DEPTH;

        open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
        sensor = &rig.core->sensor[0];
        post(&rig, 1);
        stopped = &rig;
        page = rig.ring->memory + POST_RING + PAGE;
        CHECK_EQUAL(mprotect(page, PAGE, PROT_NONE), 0);
        CHECK_EQUAL(receive(&rig), whole ? RECEIVED_SAMPLE : RECEIVED_PART);
        if (whole)
            CHECK(sensor->parser.value[0] == 1 && sensor->parser.value[1] == 1);

        /* what was posted meanwhile is there, whole */
        while (receive(&rig) == RECEIVED_SAMPLE) {
            CHECK(sensor->parser.value[0] >= 1000);
            CHECK(sensor->parser.value[0] == sensor->parser.value[1]);
        }
        CHECK(posts == 0 || sensor->parser.value[0] == 1000 + posts - 1);
        close_rig(&rig);
    }
    CHECK_EQUAL(sigaction(SIGSEGV, &before, NULL), 0);
}

/* a late sample of the trigger before is no reply to this one: it is still waited for */
static void a_sample_of_the_trigger_before_leaves_this_one_open(void)
{
    for (int64_t late = 1; late >= 0; late--) {
        struct rig rig;
        struct inphase_posted posted = {.device_sequence = INPHASE_ABSENT,
                                        .acquired_ns = INPHASE_ABSENT};
        struct sensor *sensor;

        open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
        sensor = &rig.core->sensor[0];
        rig.core->device[0].attached = true;
        rig.core->cycle = 5;
        rig.core->due_ns = inphase_now();
        rig.core->read_deadline_ns = SECOND_NS / 100;
        put_i64(&rig.core->state->start_ns, rig.core->due_ns - 5 * PERIOD_NS);
        posted.cycle = 5 - late;
        posted.triggered_ns = rig.core->due_ns - late * PERIOD_NS;
        posted.received_ns = posted.triggered_ns;
        memset(inphase_worker_claim(rig.worker), 0, PAYLOAD);
        inphase_worker_post(rig.worker, &posted);
        stage_collect(rig.core);
        CHECK_EQUAL(sensor->newest.cycle, 5 - late);
        CHECK_EQUAL(sensor->outstanding, late);
        CHECK_EQUAL(sensor->fresh, !late);
        close_rig(&rig);
    }
}

/* a worker whose device counts is held to its numbers; one whose device does not is not */
static void a_number_of_a_workers_device_is_not_taken_twice(void)
{
    for (int64_t counts = 0; counts < 2; counts++) {
        struct rig rig;
        struct inphase_posted posted = {.acquired_ns = INPHASE_ABSENT};
        struct sensor *sensor;

        open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
        sensor = &rig.core->sensor[0];
        rig.core->device[0].attached = true;
        rig.core->read_deadline_ns = SECOND_NS / 100;
        put_i64(&rig.core->state->start_ns, inphase_now() - 5 * PERIOD_NS);
        posted.device_sequence = counts ? 77 : INPHASE_ABSENT;
        for (int64_t cycle = 5; cycle < 7; cycle++) {
            rig.core->cycle = cycle;
            rig.core->due_ns = inphase_now();
            posted.cycle = cycle;
            posted.triggered_ns = posted.received_ns = rig.core->due_ns;
            put_i64(&rig.core->state->start_ns, rig.core->due_ns - cycle * PERIOD_NS);
            memset(inphase_worker_claim(rig.worker), 0, PAYLOAD);
            inphase_worker_post(rig.worker, &posted);
            stage_collect(rig.core);
        }
        CHECK_EQUAL(sensor->frozen, counts);
        CHECK_EQUAL(sensor->fresh, !counts);
        close_rig(&rig);
    }
}

/* a head that is not of this robot's start, or does not say what the core has laid out */
static void a_segment_that_is_another_workers_is_refused(void)
{
    struct rig rig;
    inphase_segment *theirs;
    struct post *post;
    uint64_t *word[4];

    open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
    CHECK_EQUAL(inphase_segment_map(&theirs, inphase_segment_fd(rig.ring), 1), 0);
    post = inphase_segment_memory(theirs);
    word[0] = &post->magic;
    word[1] = &post->epoch;
    word[2] = &post->payload;
    word[3] = &post->depth;
    CHECK(post_of(rig.ring, rig.core->layout, 0) != NULL);
    for (int i = 0; i < 4; i++) {
        *word[i] += 8;
        CHECK(post_of(rig.ring, rig.core->layout, 0) == NULL);
        *word[i] -= 8;
    }
    post->version++;
    CHECK(post_of(rig.ring, rig.core->layout, 0) == NULL);
    post->version--;
    CHECK(post_of(rig.ring, rig.core->layout, 1) == NULL);
    CHECK(post_of(rig.ring, rig.core->layout, 0) != NULL);
    inphase_segment_close(theirs);
    close_rig(&rig);
}

/* ---- orders -------------------------------------------------------------------------------- */

/* an order of the cycle whose act was so long ago; what its worker makes of it */
static int order(struct rig *rig, double value, int64_t ago_ns, double *given)
{
    int64_t cycle;

    rig->core->cycle++;
    rig->core->due_ns = inphase_now() - ACT_NS - ago_ns;
    rig->core->actuator[0].applied[0] = value;
    CHECK_EQUAL(worker_ops.write(rig->core, &rig->core->actuator[0]), 0);
    return inphase_worker_wait(rig->worker, inphase_now(), 0, given, &cycle);
}

/* until the next one is due: what comes to a device later than that is older than what it stands
   for */
static void an_order_is_obeyed_until_the_next_one_is_due_and_no_longer(void)
{
    struct rig rig;
    double given = 0;

    open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
    CHECK_EQUAL(order(&rig, 1, 0, &given), 1);
    CHECK(given == 1);
    CHECK_EQUAL(order(&rig, 2, PERIOD_NS - 50 * SECOND_NS, &given), 1);
    CHECK(given == 2);
    CHECK_EQUAL(order(&rig, 3, PERIOD_NS + 1, &given), -EAGAIN);
    CHECK_EQUAL(order(&rig, 4, 3 * PERIOD_NS, &given), -EAGAIN);
    CHECK_EQUAL(order(&rig, 5, 0, &given), 1);
    CHECK(given == 5);
    close_rig(&rig);
}

/* the eventfd's flags are those of one open file, which the worker's process has, too */
static void a_flag_that_its_worker_clears_holds_the_core_up_nowhere(void)
{
    const uint64_t full = UINT64_MAX - 1;
    enum received got;
    struct rig rig;

    open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
    CHECK_EQUAL(fcntl(rig.wake_fd, F_SETFL, 0), 0);
    alarm(20);
    rig.core->readable[0] = true;
    CHECK_EQUAL(worker_ops.receive(rig.core, &rig.core->sensor[0], &got), 0);
    CHECK_EQUAL(got, RECEIVED_EMPTY);
    CHECK_EQUAL(write(rig.wake_fd, &full, sizeof full), sizeof full);
    rig.core->readable[0] = true;
    CHECK_EQUAL(worker_ops.receive(rig.core, &rig.core->sensor[0], &got), 0);
    CHECK_EQUAL(got, RECEIVED_EMPTY);

    /* and the other way there is nothing that a worker could fill */
    CHECK(write(inphase_segment_fd(rig.bell), &full, sizeof full) < 0);
    CHECK_EQUAL(worker_ops.write(rig.core, &rig.core->actuator[0]), 0);
    alarm(0);
    close_rig(&rig);
}

/* of a cycle that the core, held up, has not come to: it waits; of one that will not come for long
   it is no sample */
static void a_sample_of_the_cycle_to_come_waits_for_it(void)
{
    struct rig rig;
    struct inphase_posted posted = {.device_sequence = INPHASE_ABSENT,
                                    .acquired_ns = INPHASE_ABSENT};

    open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
    rig.core->cycle = 5;
    posted.cycle = 6;
    memset(inphase_worker_claim(rig.worker), 0, PAYLOAD);
    inphase_worker_post(rig.worker, &posted);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(receive(&rig), RECEIVED_EMPTY);
    rig.core->cycle = 6;
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.core->sensor[0].stamps.cycle, 6);
    posted.cycle = 8;
    memset(inphase_worker_claim(rig.worker), 0, PAYLOAD);
    inphase_worker_post(rig.worker, &posted);
    CHECK_EQUAL(receive(&rig), RECEIVED_REFUSED);
    CHECK_EQUAL(rig.core->sensor[0].parser.reason, INPHASE_REASON_STAMP);
    close_rig(&rig);
}

/* a worker that has just started takes it when it comes to it */
static void a_stop_is_never_too_late(void)
{
    struct rig rig;
    double given = 0;

    open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
    rig.core->actuator[0].stops = STOPS_VALUES;
    CHECK(order(&rig, 0.5, 10 * PERIOD_NS, &given) > 0);
    CHECK(given == 0.5);
    close_rig(&rig);
}

/* the guard has the stop before the worker has the order; a worker that takes none is stuck after
   five holds of the guard, and one that is behind and goes on is not */
static void a_worker_that_takes_no_orders_is_lost_and_one_that_is_behind_is_not(void)
{
    const int64_t hold_ns = 20000000;

    for (int goes_on = 0; goes_on < 2; goes_on++) {
        struct rig rig;
        struct actuator *actuator;
        inphase_segment *mapped;
        struct post *theirs;
        int32_t life;
        int fd, writes = 0;

        open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
        actuator = &rig.core->actuator[0];
        CHECK_EQUAL(inphase_segment_map(&mapped, inphase_segment_fd(rig.ring), 1), 0);
        theirs = inphase_segment_memory(mapped);
        actuator->stop = (struct inphase_stop){.kind = INPHASE_STOP_BYTES, .size = 1};
        fd = inphase_core_guard(rig.core, hold_ns, &life);
        CHECK(fd >= 0);
        rig.core->period_ns = hold_ns;
        CHECK_EQUAL(rig.core->guard.page->moving, 0);
        while (writes < 40 && worker_ops.write(rig.core, actuator) == 0) {
            CHECK_EQUAL(rig.core->guard.page->moving, 1);
            writes++;
            if (goes_on)
                atomic_store(&theirs->orders, (uint64_t)(writes / 3));
        }
        CHECK_EQUAL(writes, goes_on ? 40 : 1 + GUARD_STUCK);
        close(fd);
        close(life);
        inphase_segment_close(mapped);
        close_rig(&rig);
    }
}

/* one cycle's looks at devices, samples and states; no act */
static void latch(struct rig *rig)
{
    CHECK(cycle_run(rig->core, CYCLE_READ));
    rig->core->cycle++;
}

/* a worker opens its device anew and is seen running before and after: the device was away */
static void a_device_that_its_worker_opened_anew_between_two_cycles_was_lost(void)
{
    _Atomic uint32_t bell = 0; /* nobody waits on it */
    struct rig rig;
    uint32_t before;

    open_rig(&rig, offset, PAYLOAD, DEPTH, PERIOD_NS, ACT_NS);
    rig.core->relay.word = &bell;
    rig.core->period_ns = 1000000;
    rig.core->read_deadline_ns = 500000;
    inphase_worker_facts(rig.worker)->opens = 1;
    inphase_worker_state(rig.worker, INPHASE_WORKER_RUNNING);
    CHECK_EQUAL(inphase_core_attach(rig.core, 0, -1), 0);
    cycle_begin(rig.core);
    latch(&rig);
    latch(&rig);
    CHECK(rig.core->device[0].attached);
    before = rig.core->state->lost_devices;
    rig.core->is_live = true;

    inphase_worker_state(rig.worker, INPHASE_WORKER_OFFLINE);
    inphase_worker_facts(rig.worker)->opens = 2;
    inphase_worker_state(rig.worker, INPHASE_WORKER_RUNNING);
    latch(&rig);
    CHECK_EQUAL(rig.core->state->lost_devices, before + 1);
    CHECK_EQUAL(rig.core->state->latched, INPHASE_REASON_OFFLINE);
    latch(&rig);
    CHECK(rig.core->device[0].attached);
    CHECK_EQUAL(rig.core->state->lost_devices, before + 1);
    rig.core->relay.word = NULL;
    close_rig(&rig);
}

int main(void)
{
    RUN(a_sample_that_is_posted_over_while_it_is_read_is_none);
    RUN(a_sample_of_the_trigger_before_leaves_this_one_open);
    RUN(a_number_of_a_workers_device_is_not_taken_twice);
    RUN(a_segment_that_is_another_workers_is_refused);
    RUN(an_order_is_obeyed_until_the_next_one_is_due_and_no_longer);
    RUN(a_flag_that_its_worker_clears_holds_the_core_up_nowhere);
    RUN(a_sample_of_the_cycle_to_come_waits_for_it);
    RUN(a_stop_is_never_too_late);
    RUN(a_device_that_its_worker_opened_anew_between_two_cycles_was_lost);
    RUN(a_worker_that_takes_no_orders_is_lost_and_one_that_is_behind_is_not);
    return 0;
}
