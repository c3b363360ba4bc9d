/* Trigger lines. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct sensor;

int line_raise(struct sensor *sensor);
/* lower the trigger lines whose pulses have been long enough, or all */
void lines_lower(struct inphase_core *core, bool all);
