/* A core with one device, which is a worker's: its segments and its worker in one process. */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../inphase.h"
#include "check.h"

struct rig {
    inphase_segment *segment, *ring, *bell;
    inphase_core *core;
    inphase_worker *worker;
    int wake_fd;
};

/* samples of `payload` bytes with two values at `offset`; read deadline and act are one */
static inline void open_rig(struct rig *rig, const uint32_t offset[2], uint64_t payload,
                            uint64_t depth, int64_t period_ns, int64_t act_ns)
{
    const struct inphase_limits limits = {
        .low = -1, .high = 1, .velocity = 2, .acceleration = 20, .step = 0.5};
    struct inphase_sensor_config sensor = {
        .worker = 1, .channels = 2, .offset = offset, .payload = payload, .every = 1,
        .max_age_ns = 10 * period_ns, .depth = depth,
        .exchange = {.acquire = INPHASE_ACQUIRE_MIDDLE}};
    struct inphase_actuator_config actuator = {
        .worker = 1, .channels = 1, .feedback_sensor = 0, .accepts = 1 << INPHASE_FRESH,
        .max_hold_ns = 3 * period_ns, .limits = &limits};
    struct inphase_config config = {
        .period_ns = period_ns, .read_deadline_ns = act_ns, .act_ns = act_ns,
        .resumed_after_ns = 20 * period_ns, .devices = 1, .sensors = 1, .actuators = 1,
        .frame_depth = 16, .overrun_limit = 5, .has_policy = 1, .cpu = -1, .epoch = 7,
        .sensor = &sensor, .actuator = &actuator};
    struct inphase_worker_fds fds;

    memset(rig, 0, sizeof *rig);
    CHECK_EQUAL(inphase_segment_make(&rig->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&rig->core, &config, rig->segment), 0);
    CHECK_EQUAL(inphase_worker_make(&rig->ring, payload, depth, config.epoch), 0);
    CHECK_EQUAL(inphase_bell_make(&rig->bell), 0);
    fds = (struct inphase_worker_fds){
        .ring = inphase_segment_fd(rig->ring), .core = inphase_segment_fd(rig->segment),
        .wake = eventfd(0, EFD_NONBLOCK), .bell = inphase_segment_fd(rig->bell)};
    rig->wake_fd = fds.wake;
    CHECK(rig->wake_fd >= 0);
    CHECK_EQUAL(inphase_core_worker(rig->core, 0, rig->ring, rig->wake_fd, rig->bell), 0);
    CHECK_EQUAL(inphase_worker_open(&rig->worker, &fds, 0), 0);
}

static inline void close_rig(struct rig *rig)
{
    inphase_worker_close(rig->worker);
    inphase_core_close(rig->core);
    inphase_segment_close(rig->ring);
    inphase_segment_close(rig->segment);
    close(rig->wake_fd);
    inphase_segment_close(rig->bell);
}
