/* The acquisition of a sample. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct sensor;
struct sample;

/* stamp a sample with its acquisition; in_time: its reply was read when it came */
void acquire(struct inphase_core *core, struct sensor *sensor, struct sample *sample, bool in_time);
