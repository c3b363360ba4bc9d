/* The two clocks: the machine's, and virtual time. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

struct clock_ops {
    int64_t (*now)(struct inphase_core *core);
    void (*sleep_until)(struct inphase_core *core, int64_t time_ns);
    /* until a device has something to read, or time_ns; fills each sensor's `readable` mark */
    void (*wait)(struct inphase_core *core, int64_t time_ns);
    int64_t (*wall)(struct inphase_core *core);
    /* a clock that goes on while the machine is suspended, less this one; too small where the
       thread was held up between the two, and never too large */
    int64_t (*boot_offset)(struct inphase_core *core);
};
extern const struct clock_ops monotonic_clock, virtual_clock;

/* look at the wall clock, and say in the frame when it was set; after the wake */
void note_wall_clock(struct inphase_core *core);
/* the wall clock less ours, and by how much that may be wrong */
int64_t wall_offset(struct inphase_core *core, int64_t *error_ns);
/* notice that the machine was suspended, which our clock does not count; once per cycle, before
   anything is written */
void note_boot_clock(struct inphase_core *core);
