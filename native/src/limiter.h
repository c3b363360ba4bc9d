/* What of the limiter is the core's own. It stands alone, so that an analyser can read it with its
   file and nothing else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

/* where the ramp from a motion comes to rest */
double limiter_rest(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
/* whether it stays inside of the range on its way, or goes no further out */
bool limiter_fits(const struct inphase_limiter *limiter, const struct inphase_motion *motion);
