/* The layout of a core's segment. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

#define PAGE_BYTES 4096UL

static inline uint64_t page_align(uint64_t size)
{
    return (size + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

/* bytes of a frame's record */
uint64_t record_bytes(const struct inphase_config *config);
/* fill the layout of a segment, without the mark that publishes it */
void lay_out(const struct inphase_config *config, struct inphase_layout *layout);
