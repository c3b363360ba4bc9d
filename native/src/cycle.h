/* One cycle, for both clocks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

void cycle_begin(struct inphase_core *core);
bool cycle_latch(struct inphase_core *core);
void cycle_act(struct inphase_core *core);
void *cycle_main(void *core);
