/* What a reader of the store offers inside of the core's library. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

/* Copy a published layout and check the copy, which alone is then used: the writer may change its
   own at any time. false: it is not a layout of ours, or a part of it leads out of the segment */
bool layout_copy(struct inphase_layout *to, const inphase_segment *segment);
/* a sample in its slot, to be checked with inphase_reader_intact after it was read; NULL: none */
const void *reader_sample(const inphase_reader *reader, uint32_t sensor, int64_t sequence);
/* stops, latches and armings so far */
int64_t reader_epoch(const inphase_reader *reader);
/* number of the newest frame, -1: none yet */
int64_t reader_newest(const inphase_reader *reader);
