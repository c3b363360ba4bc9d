/* Coasting: the last motion is carried on and brought to rest. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

struct actuator;

/* One cycle of the last `left`, of which the last is at rest, or a step of the ramp where the
   limits do not let it brake that quickly; cycle thread */
void coast(struct actuator *actuator, const struct inphase_measured *measured, int64_t left);
