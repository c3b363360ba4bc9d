/* One cycle, for both clocks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

enum cycle_part { CYCLE_READ = 1, CYCLE_ACT = 2, CYCLE_WHOLE = CYCLE_READ | CYCLE_ACT };

void cycle_begin(struct inphase_core *core);
/* The stages of a cycle, in their order, for both clocks. The cycle thread runs a cycle as a whole.
   Lock step runs it in two parts, because its policy answers between them. false: no cycle
   follows */
bool cycle_run(struct inphase_core *core, enum cycle_part part);
void *cycle_main(void *core);
