/* The times of lock step: drawn from a timing model, or those of a recorded run. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct coming;
struct sensor;
struct twin;

/* has a trace all that the core's parts need? */
bool timing_holds(const struct inphase_core *core, const struct inphase_trace *trace);
/* how late a thread wakes that sleeps until time_ns */
int64_t timing_wake_late(struct inphase_core *core, int64_t time_ns);
/* when the thread of a recorded run woke before it latched this cycle */
int64_t timing_latch_wake(const struct inphase_core *core);
/* does the policy take the frame of that cycle, if it is free? */
bool timing_is_taken(const struct inphase_core *core, int64_t cycle);
int64_t timing_inference(const struct inphase_core *core, int64_t cycle);
/* how long a sample takes from its trigger, or a free-running one from its acquisition; key: of its
   draws, which is the cycle or the number of a free-running sample */
int64_t timing_latency(const struct inphase_core *core, const struct sensor *sensor, uint64_t key);
/* does that sample never come? */
bool timing_drops(const struct inphase_core *core, const struct sensor *sensor, uint64_t key);
/* does a recorded device stand still in this sample? Of a drawn freeze the twin itself knows */
bool timing_stands(const struct inphase_core *core, const struct sensor *sensor, uint64_t key);
/* when a free-running device takes its next sample, by its own clock; INT64_MAX: never */
int64_t timing_next_free(const struct inphase_core *core, const struct sensor *sensor);
