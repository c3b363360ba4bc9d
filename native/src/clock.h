/* The two clocks: the machine's, and virtual time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct sensor;

struct clock_ops {
    int64_t (*now)(struct inphase_core *core);
    void (*sleep_until)(struct inphase_core *core, int64_t time_ns);
    /* wait until a device has something to read, or until time_ns; fills each sensor's
       `readable` */
    void (*wait)(struct inphase_core *core, int64_t time_ns);
    /* wait likewise for one device; false: time_ns has come */
    bool (*hear)(struct inphase_core *core, const struct sensor *sensor, int64_t time_ns);
    int64_t (*wall)(struct inphase_core *core);
    /* the clock that goes on during a suspension, less this one; too small if the thread was held
       up between the two readings, never too large */
    int64_t (*boot_offset)(struct inphase_core *core);
};
extern const struct clock_ops monotonic_clock, virtual_clock;

/* look at the wall clock, and tell in the frame if it was set; after the wake */
void note_wall_clock(struct inphase_core *core);
/* the wall clock less the monotonic clock, and the largest error of that */
int64_t wall_offset(struct inphase_core *core, int64_t *error_ns);
/* notice a suspension of the machine, which the monotonic clock does not count; once per cycle,
   before anything is written */
void note_boot_clock(struct inphase_core *core);
