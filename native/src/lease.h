/* The lease page: who may drive the robot, and until when. The service writes, the core reads. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

#define LEASE_PAGE_BYTES 4096
struct lease_page {
    uint64_t magic, epoch;
    uint32_t version;
    _Atomic uint32_t lease;      /* the number of the lease; 0: nobody may drive */
    _Atomic int64_t until_ns;    /* it counts before this time of the monotonic clock */
};

/* nobody has the lease of the robot: it is idle, as it should be */
bool lease_is_idle(const struct inphase_core *core);
/* before the answers of a cycle are taken: a lease that ended drives no more, and the next one
   drives from rest on. Cycle thread only */
void lease_look(struct inphase_core *core, int64_t now_ns);
