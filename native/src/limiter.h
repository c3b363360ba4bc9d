/* What of the limiter is the core's own. It stands alone, so that an analyser can read it with its
   file and nothing else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

/* what of a motion goes to the device, in its mode's unit */
static inline double limiter_applied(const struct inphase_limiter *limiter,
                                     const struct inphase_motion *motion)
{
    switch (limiter->limits.mode) {
    case INPHASE_MODE_POSITION:
        return motion->position;
    case INPHASE_MODE_VELOCITY:
        return motion->velocity;
    case INPHASE_MODE_EFFORT:
        return motion->effort;
    default:
        return motion->state;
    }
}

/* where a ramp ends that is not of positions: no velocity, the safe effort or state */
double limiter_rest_value(const struct inphase_limiter *limiter);
/* whether what is applied is where a ramp ends */
bool limiter_rests(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
/* whether a first request is within one cycle's step of where the robot is (measured, NaN: last
   commanded), of rest, or of the declared effort; and the range does not lead a joint that is
   outside of it further than limits.step */
bool limiter_begins(const struct inphase_limiter *limiter, const struct inphase_motion *motion,
                    double requested, double measured);
/* at rest at a position, or in the declared state */
void limiter_place(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                   double position);

/* of position mode: where the ramp from a motion comes to rest */
double limiter_rest(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
/* whether it stays inside of the range on its way, or goes no further out */
bool limiter_fits(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
