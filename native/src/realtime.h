/* Real-time rights of the cycle thread. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

void realtime_setup(struct inphase_core *core);
