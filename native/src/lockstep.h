/* Lock step: the policy as a server on virtual time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct server {
    int64_t free_ns;             /* when it is done with the frame that it took last */
    int64_t started_ns;          /* when it took that frame */
    int64_t number, cycle;       /* of that frame; number -1: none yet */
    bool owes;                   /* it has not answered yet */
    int64_t latest;              /* the newest frame; -1: none yet */
    int64_t due, due_cycle;      /* the newest one that the policy takes; -1: none yet */
    double *command;             /* room for an answer of a native policy */
    bool pending;                /* the newest frame's cycle has not acted yet */
};

/* Post a command as of a time of its own. taken_ns: when the frame of that cycle was taken, or
   ABSENT */
int lockstep_post(struct inphase_core *core, int64_t cycle, int64_t taken_ns, int64_t posted_ns,
                  uint32_t reason, const double *values, uint32_t count);
/* around many turns: see world_enter */
void lockstep_enter(const struct inphase_core *core);
void lockstep_leave(const struct inphase_core *core);
/* inphase_core_answer_turn between these two */
int64_t lockstep_answer_turn(struct inphase_core *core, uint32_t reason, const double *values,
                             uint32_t count, int64_t cycles);
/* a frame that this thread has latched, and a sample of it; NULL: none yet */
const void *lockstep_record(const struct inphase_core *core, int64_t number);
const void *lockstep_sample(const struct inphase_core *core, const void *record,
                            uint32_t sensor);
