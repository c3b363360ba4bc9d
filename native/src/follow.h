/* Does a joint follow its commands? */
#pragma once

#include <stdint.h>

#include "../inphase.h"

struct actuator;
struct travel;

/* a joint's places so far, as they were commanded and as they were measured; NAN: none yet */
struct follow {
    double told_low, told_high, seen_low, seen_high;
    double told, seen;           /* the last ones; of velocities, their sums */
    int64_t cycles;              /* since it was commanded far enough to be judged */
};

void follow_begin(struct actuator *actuator);
/* an act was written: look where the joints were commanded, and where they are; travel: by channel,
   what is published of it */
void follow_note(struct actuator *actuator, struct travel *travel, int64_t period_ns,
                 int64_t now_ns);
