/* The limiter with any arguments at all, for Frama-C's Eva: see middleware/LIMITS.md for the
   command. Not built with the others. */
#include "../src/limiter.c"

static volatile double any; /* any double, another one at each look */
static volatile uint32_t any_mode;

void every_argument(void)
{
    struct inphase_limits limits = {any, any, any, any, any, any, any, any, any, any, any_mode};
    struct inphase_motion motion = {any, any, any, any, any, any, any};
    struct inphase_limiter limiter;
    struct inphase_measured measured = {any, any, any};

    inphase_limiter_make(&limiter, &limits, any);
    if (any > 0)
        inphase_limit(&limiter, &motion, any, &measured);
    else
        inphase_ramp(&limiter, &motion, &measured);
}
