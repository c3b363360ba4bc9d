/* Facts of a policy's process: at the end of its mailbox's segment, on pages of their own. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "../inphase.h"
#include "statistics.h"

/* the policy writes, anyone reads */
struct policy_facts {
    _Atomic int64_t taken_ns;       /* when the frame was taken that is being answered, 0: none */
    struct inphase_sandbox sandbox; /* before the first command, then constant */
    struct histogram inference;
    _Atomic int64_t server[INPHASE_SERVER_COUNTS]; /* of its server, by INPHASE_SERVER_* */
};
#define POLICY_FACTS_BYTES ((sizeof(struct policy_facts) + 4095) / 4096 * 4096)

/* a command is posted: when the frame that it answers was taken, ABSENT if that was not noted */
int64_t policy_facts_posted(inphase_segment *segment, int64_t posted_ns);
