/* Collecting: triggers out, replies in. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

void stage_collect(struct inphase_core *core);
