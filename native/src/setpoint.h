/* Setpoints to come. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "latency.h"

struct mail;

/* one cycle's command, or the reason why there is none; its values lie beside it, in `value` */
struct knot {
    int64_t cycle;               /* of the command; -1: empty */
    int64_t posted_ns, valid_until_ns;
    int64_t frame_cycle;         /* of the frame that was answered */
    int64_t inference_ns;        /* from taking that frame to the post, or ABSENT */
    uint32_t reason;             /* why there is no command, 0: there is one */
    uint32_t drove;              /* who gave it, INPHASE_DROVE_* */
};

#define LATCHES 64               /* latches kept, of frames that may still be answered */

/* The commands of this and of coming cycles, from the policy's answers. Cycle thread, except for
   the constants */
struct setpoints {
    int64_t every, latency, spacing, fade; /* constant, cycles; spacing: from command to command */
    uint32_t chunk, join, interpolate;     /* constant */
    uint32_t values, answer;     /* constant: doubles of a command, and of a whole answer */
    uint64_t room;               /* constant: knots in the ring, a power of two */
    uint64_t size;               /* constant: bytes of memory */
    uint8_t *memory;             /* constant: the pointers below point into it */
    struct knot *knot;
    double *value;               /* values per knot */
    uint8_t *steps;              /* constant: per value, 1: of a switch, never interpolated */
    struct mail *mail;           /* the last answer read from the mailbox */

    uint64_t seen[2];            /* posts looked at, of the policy and of a person */
    int64_t newest;              /* cycle of the newest frame that was answered, -1: none */

    struct knot late;            /* newest answer that was too late, and the cycle that found it */

    /* the last setpoint: interpolation goes on from it */
    int64_t at;                  /* its cycle; -1: there is none */
    double *setpoint, *slope;    /* slope: per cycle */
    int64_t aimed;               /* cycle of the knot that it was on its way to; -1: at a knot */
    double *aim;                 /* slope on arrival there */

    struct latencies latencies;  /* of the answers so far */
    struct { int64_t cycle, latched_ns; } latch[LATCHES];
};

/* allocate for a configuration; -EINVAL: it breaks a bound of inphase.h; -ENOMEM */
int setpoints_make(struct inphase_core *core, const struct inphase_policy_timing *config);
void setpoints_free(struct setpoints *setpoints);
/* drop all commands that were answered so far */
void setpoints_forget(struct inphase_core *core);
/* take the posted answers, and put this cycle's command into core->command; NONE, or the reason why
   there is none. At the act */
uint32_t setpoints_follow(struct inphase_core *core, int64_t now_ns);
