/* A device that streams and wants a command for each of its packets: the number that a command
   answers, and the motion that the device follows. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct actuator;
struct inphase_core;

/* the cycle thread writes all of it */
struct reference {
    uint64_t told;               /* number of the packet before, and its position */
    double position[INPHASE_MAX_CHANNELS];
    uint64_t answered;           /* number of the packet that the last command answered... */
    double commanded[INPHASE_MAX_CHANNELS]; /* ...and that command */
    bool has_answered;           /* a command was written at all */
};

/* Before a command is decided: go on from the motion that the device tells of, where it differs
   from the last command */
void reference_follow(const struct inphase_core *core, struct actuator *actuator);
/* Has the device sent a packet that no command answers yet? True for any other device */
bool reference_asks(const struct inphase_core *core, const struct actuator *actuator);
/* into the bytes of a command: the packet that it answers, and whether it is one of the last */
void reference_put(const struct inphase_core *core, struct actuator *actuator, uint8_t *bytes);
