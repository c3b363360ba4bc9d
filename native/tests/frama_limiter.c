/* The limiter with any arguments at all, for Frama-C's Eva: see middleware/LIMITS.md for the command.
   Not built with the others. */
#include "../src/limiter.c"

static volatile double any; /* any double, another one at each look */

void every_argument(void)
{
    struct inphase_limits limits = {any, any, any, any, any, any};
    struct inphase_motion motion = {any, any, any, any};
    double requested = any, measured = any, period_s = any;

    if (any > 0)
        inphase_limit(&limits, &motion, requested, measured, period_s);
    else
        inphase_ramp(&limits, &motion, period_s);
}
