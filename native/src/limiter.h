/* The limiter's functions for the core. The header stands alone: an analyser reads it with its file
   and nothing else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

/* the value of a motion that is written to the device, in its mode's unit */
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

/* the end of a ramp in other modes than position: zero velocity, the safe effort or state */
double limiter_rest_value(const struct inphase_limiter *limiter);
/* is the applied value that of the end of a ramp? */
bool limiter_rests(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
/* May a first request lead the joint? Only if the range leads a joint outside it no further than
   limits.step from its place (measured, NaN: last commanded) */
bool limiter_may_begin(const struct inphase_limiter *limiter, const struct inphase_motion *motion,
                       double requested, double measured);
/* And is it within one cycle's step of that place, of rest, or of the declared effort? */
bool limiter_begins(const struct inphase_limiter *limiter, const struct inphase_motion *motion,
                    double requested, double measured);
/* put the motion at rest at a position, or in the declared state */
void limiter_place(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                   double position);

/* position mode: the place of rest of the ramp from a motion */
double limiter_rest(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
/* does that ramp stay inside the range, or go no further out? */
bool limiter_fits(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
