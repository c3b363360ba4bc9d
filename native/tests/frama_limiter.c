/* The limiter with any arguments at all, for Frama-C's Eva: see middleware/LIMITS.md for the command.
   Not built with the others. */
#include "../src/limiter.c"

static volatile double any; /* any double, another one at each look */

void every_argument(void)
{
    struct inphase_limits limits = {any, any, any, any, any, any};
    struct inphase_motion motion = {any, any, any, any};
    struct inphase_limiter limiter;
    double requested = any, measured = any;

    inphase_limiter_make(&limiter, &limits, any);
    if (any > 0)
        inphase_limit(&limiter, &motion, requested, measured);
    else
        inphase_ramp(&limiter, &motion);
}
