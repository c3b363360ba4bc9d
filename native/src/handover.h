/* A change of who drives: the commands of the next one fade in, from where the robot is
   commanded. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct inphase_core;
struct mail;

#define PERSON_NS 200000000LL /* after its last command a person drives on for so long at most */

/* cycle thread */
struct handover {
    uint32_t drove;              /* who gave the last command, INPHASE_DROVE_*; NOBODY: none since
                                    the epoch began */
    bool fades;                  /* another one's commands fade in */
    int64_t since;               /* cycle of the first of them */
    int64_t person_until_ns;     /* answers of others are overruled */
    double from[INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS]; /* commanded before them */
    double last[INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS]; /* the last that came of them */
};

/* The command of this cycle, in core->command, is of core->drove. Where another one drove before,
   it lies between the command of then and its own. Its share grows evenly over handover_ns of each
   actuator, and a position changes by at most the limit `step` in a cycle. ramped: the act before
   was a ramp.
   Called once in each act that has a command. Bounded by the channels */
void hand_over(struct inphase_core *core, bool ramped);
/* An answer that may drive: is it overruled by a person, who drives for PERSON_NS after each of
   its own, or for the shortest max_hold? A person's answer with a reason hands back, and is none */
bool is_overruled(struct inphase_core *core, const struct mail *mail, int64_t now_ns);
/* the next command is the first: nobody drove before it */
void handover_forget(struct inphase_core *core);
