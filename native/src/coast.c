/* Coasting, in place of a command that is missing; act.c decides when. Cycle thread only. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "actuator.h"
#include "coast.h"
#include "limiter.h"
#include "workspace.h"

/* the part of a motion that a ramp has still to take away */
static double beyond_rest(const struct inphase_limiter *limiter,
                          const struct inphase_motion *motion)
{
    if (limiter->limits.mode == INPHASE_MODE_EFFORT)
        return motion->effort - limiter->limits.safe;
    return motion->velocity;
}

/* Carry on the last motion, less by an even share in each of the `left` cycles, so that the last of
   them is at rest. A motion that the limits do not let brake that quickly ramps */
void coast(struct actuator *actuator, const struct inphase_measured *measured, int64_t left)
{
    struct inphase_motion from[INPHASE_MAX_CHANNELS];

    actuator->flags |= INPHASE_ACT_COASTING;
    memcpy(from, actuator->motion, actuator->workspace.joints * sizeof *from);
    for (uint32_t c = 0; c < actuator->channels; c++) {
        const struct inphase_limiter *limiter = &actuator->limiter[c];
        struct inphase_motion *motion = &actuator->motion[c], ramped = *motion;
        double kept = beyond_rest(limiter, motion) * (double)(left - 1) / (double)left;
        double wanted = kept;

        /* too fast for an even share: the ramp brakes as quickly as the limits allow */
        inphase_ramp(limiter, &ramped, &measured[c]);
        if (fabs(beyond_rest(limiter, &ramped)) > fabs(kept)) {
            *motion = ramped;
            continue;
        }

        /* the even share, as a request in the actuator's mode */
        if (actuator->mode == INPHASE_MODE_POSITION)
            wanted = motion->position + kept * limiter->period_s;
        else if (actuator->mode == INPHASE_MODE_EFFORT)
            wanted += limiter->limits.safe;
        inphase_limit(limiter, motion, wanted, &measured[c]);
    }
    workspace_hold(actuator, from, actuator->motion);
}
