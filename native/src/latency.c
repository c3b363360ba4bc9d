/* The usual latency of a policy's answers: a quantile of the newest, kept by one insertion each. */
#include <stdint.h>

#include "latency.h"

void latency_note(struct latencies *latencies, uint32_t latency)
{
    uint32_t count = latencies->count, at;

    /* usually the oldest equals the newest: nothing has to be sorted */
    if (count == LATENCIES && latencies->measured[latencies->next] == latency) {
        latencies->next = (latencies->next + 1) % LATENCIES;
        return;
    }

    /* take out the oldest */
    if (count == LATENCIES) {
        for (at = 0; latencies->sorted[at] != latencies->measured[latencies->next]; at++)
            ;
        for (count--; at < count; at++)
            latencies->sorted[at] = latencies->sorted[at + 1];
    }

    /* put in the newest: one step of an insertion sort */
    for (at = count; at > 0 && latencies->sorted[at - 1] > latency; at--)
        latencies->sorted[at] = latencies->sorted[at - 1];
    latencies->sorted[at] = latency;
    latencies->measured[latencies->next] = latency;
    latencies->next = (latencies->next + 1) % LATENCIES;
    latencies->count = count + 1;
}

int64_t latency_usual(const struct latencies *latencies)
{
    return latencies->count ? latencies->sorted[(latencies->count * 95 + 99) / 100 - 1] : 0;
}
