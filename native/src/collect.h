/* Collecting: triggers out, replies in. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

void stage_collect(struct inphase_core *core);
/* a cycle begins for the device that paces it: what comes from now on is of this cycle */
void begin_pace(struct inphase_core *core);
/* Sleep to time_ns. Of the device that paces the cycle each packet that comes meanwhile is read at
   once, so that its time is that of its arrival */
void sleep_and_hear(struct inphase_core *core, int64_t time_ns);
