/* The usual latency of a policy's answers, of the newest ones. Cycle thread only. */
#pragma once

#include <stdint.h>

#define LATENCIES 64             /* answers in the quantile */

struct latencies {
    uint32_t count, next;        /* measured so far, at most LATENCIES; the oldest one's place */
    uint32_t measured[LATENCIES], sorted[LATENCIES]; /* cycles; measured: in the order they came */
};

/* keep the last LATENCIES of them sorted */
void latency_note(struct latencies *latencies, uint32_t latency);
/* the smallest latency that at least 95 % of them do not exceed */
int64_t latency_usual(const struct latencies *latencies);
