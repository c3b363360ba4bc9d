/* A robot on virtual time, as the tests of the cycle run it. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/lockstep.h"
#include "check.h"
#include "segments.h"

struct robot {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
    double joint[3];            /* as its sensors measure it, where a test gives that */
    double goal;                /* the last command, where a test goes on from it */
};

/* 0, or the refusal of a configuration that breaks a bound */
static inline int make_robot(struct robot *robot, const struct inphase_config *config)
{
    memset(robot, 0, sizeof *robot);
    CHECK_EQUAL(inphase_segment_make(&robot->segment, inphase_core_size(config), 0), 0);
    return inphase_core_open(&robot->core, config, robot->segment);
}

/* armed, with its one actuator enabled or not, and somebody who reads its frames */
static inline void start_robot(struct robot *robot, int enabled)
{
    CHECK_EQUAL(inphase_core_enable(robot->core, 0, enabled), 0);
    CHECK_EQUAL(inphase_core_arm(robot->core), 0);
    CHECK_EQUAL(open_reader(&robot->reader, robot->segment, 0), 0);
}

static inline void close_robot(struct robot *robot)
{
    inphase_reader_close(robot->reader);
    inphase_core_close(robot->core);
    inphase_segment_close(robot->segment);
}

static inline void plan(struct robot *robot, uint32_t kind, uint32_t device, int64_t from,
                        int64_t count, int64_t argument)
{
    const struct inphase_fault fault = {kind, device, from, count, argument};

    CHECK_EQUAL(inphase_core_fault(robot->core, &fault), 0);
}

/* the policy's answer to the frame of a cycle, posted now */
static inline int answer(struct robot *robot, int64_t cycle, uint32_t reason, const double *values,
                         uint32_t count)
{
    return lockstep_post(robot->core, cycle, INPHASE_ABSENT, robot->core->virtual_ns, reason,
                         values, count);
}

/* up to and with the latch of the next cycle */
static inline const struct inphase_frame *latch(struct robot *robot)
{
    CHECK(cycle_run(robot->core, CYCLE_READ));
    CHECK_EQUAL(inphase_reader_next(robot->reader, 0, 0), 0);
    return inphase_reader_record(robot->reader);
}

/* one whole cycle in which the policy is silent; its frame */
static inline const struct inphase_frame *idle(struct robot *robot)
{
    const struct inphase_frame *frame = latch(robot);

    cycle_run(robot->core, CYCLE_ACT);
    return frame;
}

/* likewise, in which it asks for a value at once */
static inline const struct inphase_frame *ask(struct robot *robot, double value)
{
    const struct inphase_frame *frame = latch(robot);

    CHECK_EQUAL(answer(robot, robot->core->cycle, INPHASE_REASON_NONE, &value, 1), 0);
    cycle_run(robot->core, CYCLE_ACT);
    return frame;
}

static inline const struct inphase_row *row_of(const struct inphase_frame *frame, uint32_t sensor)
{
    return (const struct inphase_row *)(frame + 1) + sensor;
}

static inline struct inphase_counts counts(struct robot *robot)
{
    struct inphase_counts found;

    CHECK_EQUAL(inphase_reader_counts(robot->reader, &found), 0);
    return found;
}
