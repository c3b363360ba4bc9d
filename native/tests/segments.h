/* A core's segment and its reader in one process. */
#pragma once

#include "../inphase.h"

static inline int open_reader(inphase_reader **out, const inphase_segment *segment, int from_first)
{
    int fd = inphase_segment_fd(segment);

    return inphase_reader_open(out, &fd, 1, from_first);
}
