/* Lateness: the latest moment of each cycle, and pauses of the whole machine. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

struct device;

/* remember the latest moment of a cycle, where and by which device */
void note_late(struct inphase_core *core, int64_t late_ns, int phase, const struct device *device);
/* latch motion, and say so in the next frame: the machine or this process stood still */
void note_resumed(struct inphase_core *core);
/* likewise where it was for that long beyond what was due */
void note_suspension(struct inphase_core *core, int64_t late_ns);
