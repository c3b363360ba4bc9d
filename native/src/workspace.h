/* The box that an actuator's tool stays in. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

struct actuator;

/* Hold back the motion that the limiter allows an actuator's joints, which were at `from` one
   period ago, until the tool is and stays in its box. The axis along which it would have left it;
   3: none */
uint32_t workspace_hold(const struct actuator *actuator, const struct inphase_motion *from,
                        struct inphase_motion *motion);
