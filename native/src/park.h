/* Parking: at the end of a run an actuator goes along its declared path, and comes to rest at its
   end. Cycle thread only, except for the functions of inphase.h. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct actuator;

struct park {
    uint32_t points;             /* constant; 0: it has no path */
    double point[INPHASE_MAX_PARK][INPHASE_MAX_CHANNELS]; /* constant */
    double velocity[INPHASE_MAX_CHANNELS]; /* constant, per cycle */
    int64_t longest_ns;          /* constant: after that time from the stop it ends */
    _Atomic uint32_t phase;      /* INPHASE_PARK_*; anyone reads */

    /* the way to the next point; cycle thread */
    uint32_t next;               /* that point */
    int64_t cycles;              /* of the way; 0: it is not planned */
    int64_t cycle;               /* of them, so many were written */
    double from[INPHASE_MAX_CHANNELS];
    double goal[INPHASE_MAX_CHANNELS]; /* of this cycle */
};

/* the path of a configuration, NULL: none */
void park_make(struct park *park, const struct inphase_park *config, uint32_t channels,
               double period_s);
/* The goal of this cycle of a stop, per channel; NULL: it ramps, or holds. is_lost: where the
   joints are is not measured */
const double *park_next(struct inphase_core *core, struct actuator *actuator, bool is_lost);
/* after the act of a stop: was the goal written, and as it was? */
void park_note(struct actuator *actuator);
/* does any actuator still go along its path? At the latch */
bool park_goes_on(struct inphase_core *core);
