/* Setpoints to come. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct mail;

/* what one cycle's command was answered with; its values are in the plan, beside it */
struct knot {
    int64_t cycle;               /* that it is for; -1: empty */
    int64_t posted_ns, valid_until_ns;
    uint32_t reason;             /* why there is no command, 0: there is one */
};

#define LATENCIES 64             /* answers over which the latency's quantile is taken */
#define LATCHES 64               /* latches kept, of frames that may still be answered */

/* What the policy's answers say of this and of coming cycles: setpoint.c. The cycle thread's, but
   for what is constant */
struct setpoints {
    int64_t every, latency, spacing, fade; /* constant, cycles; spacing: from command to command */
    uint32_t chunk, join, interpolate;     /* constant */
    uint32_t values, answer;     /* constant: doubles of a command, and of a whole answer */
    uint64_t room;               /* constant: knots in the ring, a power of two */
    uint64_t size;               /* constant: bytes of memory */
    uint8_t *memory;             /* constant: all that is pointed at below */
    struct knot *knot;
    double *value;               /* values per knot */
    uint8_t *steps;              /* constant: per value, 1: a switch's, between two there is
                                    nothing */
    struct mail *mail;           /* what was read from the mailbox last */

    uint64_t seen;               /* posts looked at */
    int64_t newest;              /* cycle of the newest frame that was answered, -1: none */

    /* the setpoint that was given last: where interpolation goes on from */
    int64_t at;                  /* its cycle; -1: none to go on from */
    double *setpoint, *slope;    /* slope: per cycle */
    int64_t aimed;               /* cycle of the knot that it was on its way to, -1: it was at
                                    one */
    double *aim;                 /* slope with which it was to arrive there */

    uint32_t latencies, next_latency;      /* measured so far, at most LATENCIES; oldest */
    uint32_t measured[LATENCIES];          /* cycles, in the order they came */
    uint32_t sorted[LATENCIES];
    struct { int64_t cycle, latched_ns; } latch[LATCHES];
};

/* memory for what the configuration says; -EINVAL: a bound of inphase.h is broken; -ENOMEM */
int setpoints_make(struct inphase_core *core, const struct inphase_policy_timing *config);
void setpoints_free(struct setpoints *setpoints);
/* nothing that was answered so far is a command any more */
void setpoints_forget(struct inphase_core *core);
/* take what was posted, and put the command of this cycle into core->command; NONE, or why there is
   none. At the act */
uint32_t setpoints_follow(struct inphase_core *core, int64_t now_ns);
