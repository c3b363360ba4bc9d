/* The act: commands, through the limiter, to the devices. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

void stage_act(struct inphase_core *core);
