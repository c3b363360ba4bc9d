/* What a worker's process leaves in its segment: samples, stamps, heads, between the core's looks
   and while it looks. Input: when words change, then per cycle a sample, a count of words, and
   where and to what. Whatever a frame calls fresh is of its trigger by the core's own clock. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../src/clock.h"
#include "../src/collect.h"
#include "../src/core.h"
#include "../src/post.h"
#include "../src/sensor.h"
#include "../tests/worker_rig.h"
#include "fuzz.h"

#define PERIOD_NS 1000000LL
#define READ_NS 500000LL
#define DEPTH 8
#define VALUES 2
#define CYCLES 24

static struct rig robot;
static inphase_segment *theirs; /* the ring, as the worker's process may write it */

/* ---- a clock that goes on when it is waited for ---------------------------------------------- */

static int64_t now(struct inphase_core *core)
{
    return core->virtual_ns;
}

static void go_on(struct inphase_core *core, int64_t time_ns)
{
    if (time_ns > core->virtual_ns)
        core->virtual_ns = time_ns;
}

static const struct clock_ops stepped_clock = {.now = now, .sleep_until = go_on, .wait = go_on};

/* ---- a robot whose only device is a worker's ------------------------------------------------- */

static void open_robot(void)
{
    static const uint32_t offset[VALUES] = {0, 8};

    open_rig(&robot, offset, 8 * VALUES, DEPTH, PERIOD_NS, READ_NS);
    CHECK_EQUAL(inphase_segment_map(&theirs, inphase_segment_fd(robot.ring), 1), 0);
    robot.core->clock = &stepped_clock;
    robot.core->device[0].attached = true;
}

static void close_robot(void)
{
    inphase_segment_close(theirs);
    close_rig(&robot);
}

/* ---- its worker ------------------------------------------------------------------------------ */

/* a sample as a worker posts it, of this cycle or of one before, in time or not */
static void post(uint8_t how)
{
    struct inphase_core *core = robot.core;
    int64_t cycle = core->cycle - (how >> 2 & 3);
    int64_t triggered_ns = core->due_ns - (core->cycle - cycle) * PERIOD_NS;
    int64_t took_ns = (how >> 4) * 1000;
    struct inphase_posted posted = {
        .cycle = cycle, .triggered_ns = triggered_ns, .received_ns = triggered_ns + took_ns,
        .acquired_ns = how & 2 ? triggered_ns + took_ns / 2 : INPHASE_ABSENT,
        .uncertainty_ns = 500, .device_sequence = INPHASE_ABSENT};
    double values[VALUES] = {cycle, how};

    memcpy(inphase_worker_claim(robot.worker), values, sizeof values);
    inphase_worker_post(robot.worker, &posted);
}

/* any word of the segment, its head and its ring; the core's own view of it cannot be written */
static void patch(struct input *input, int most)
{
    take_patches(input, theirs->memory, theirs->size, most);
}

static void *disturb(void *input)
{
    patch(input, 256);
    return NULL;
}

/* ---- what must hold -------------------------------------------------------------------------- */

static void check_sensor(const struct inphase_core *core)
{
    const struct sensor *sensor = &core->sensor[0];
    const struct sample *newest = &sensor->newest;

    if (!sensor->fresh)
        return;
    CHECK_EQUAL(newest->cycle, core->cycle);
    CHECK(newest->triggered_ns >= core->due_ns && newest->triggered_ns <= newest->received_ns);
    CHECK(newest->received_ns <= core->virtual_ns);
    CHECK(newest->received_ns <= core->due_ns + READ_NS);
    if (newest->acquired_ns != INPHASE_ABSENT) {
        CHECK(newest->uncertainty_ns >= 0);
        CHECK(newest->acquired_ns <= core->virtual_ns);
        CHECK(newest->acquired_ns >= newest->triggered_ns - newest->uncertainty_ns);
        CHECK(newest->acquired_ns <= newest->received_ns + newest->uncertainty_ns);
    }
    for (uint32_t c = 0; c < VALUES; c++)
        CHECK(isfinite(newest->value[c]));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, size};
    bool is_disturbed = take_byte(&input) & 1;
    struct input rest = input;
    pthread_t other;

    open_robot();
    if (is_disturbed)
        CHECK_EQUAL(pthread_create(&other, NULL, disturb, &rest), 0);
    for (robot.core->cycle = 0; robot.core->cycle < CYCLES; robot.core->cycle++) {
        uint8_t how = take_byte(&input);

        robot.core->due_ns = robot.core->cycle * PERIOD_NS;
        go_on(robot.core, robot.core->due_ns);
        if (how & 1)
            post(how);
        if (!is_disturbed)
            patch(&input, take_byte(&input) % 8);
        stage_collect(robot.core);
        check_sensor(robot.core);

        /* and an order, whatever its worker says of those before */
        worker_ops.write(robot.core, &robot.core->actuator[0]);
    }
    if (is_disturbed)
        pthread_join(other, NULL);
    close_robot();
    return 0;
}
