/* The emergency stop's inputs. */
#pragma once

#include "../inphase.h"

/* look at the inputs of the emergency stop; before anything is written */
void estop_look(struct inphase_core *core);
