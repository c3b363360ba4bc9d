/* Histograms and counters. The cycle thread writes, anyone reads. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "../inphase.h"

#define HIST_SUB_BITS 7
#define HIST_BUCKETS ((40 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct histogram {
    _Atomic uint64_t count;
    _Atomic int64_t min, max;
    _Atomic uint64_t bucket[HIST_BUCKETS];
};

/* struct inphase_travel */
struct travel {
    _Atomic double commanded, measured;
    _Atomic int64_t since_ns;
};

/* single counters are exact; together they may be one cycle apart */
struct statistics {
    _Atomic int64_t counts[21]; /* in the order of struct inphase_counts */
    _Atomic int64_t reasons[INPHASE_REASONS];
    _Atomic int64_t statuses[INPHASE_MAX_SENSORS][INPHASE_STATUSES];
    _Atomic int64_t clock[INPHASE_MAX_SENSORS][6]; /* in the order of struct inphase_clock_facts */
    struct travel travel[INPHASE_MAX_ACTUATORS][INPHASE_MAX_CHANNELS];
    _Atomic uint32_t worst_count;
    _Atomic int64_t worst_cycle[INPHASE_WORST], worst_late_ns[INPHASE_WORST];
    _Atomic int32_t worst_phase[INPHASE_WORST], worst_device[INPHASE_WORST];
    struct histogram histogram[]; /* INPHASE_HIST_SENSORS + sensors */
};
enum count {
    COUNT_COMMANDS, COUNT_MISSED, COUNT_INVALID, COUNT_REPEATED, COUNT_RAMPED, COUNT_LIMITED,
    COUNT_WRITTEN, COUNT_BUSY, COUNT_LATE_SAMPLES, COUNT_SLIPS, COUNT_DROPPED_BYTES,
    COUNT_DUPLICATES,
    COUNT_FOREIGN_FRAMES, COUNT_ERROR_PASSIVE,
    COUNT_LATE_ANSWERS, COUNT_STALE, COUNT_REFUSED_ANSWERS, COUNT_STARVED, COUNT_DROPPED,
    COUNT_PASSED, COUNT_UNANSWERED
};

void histogram_add(struct histogram *histogram, int64_t value);
void histogram_quantiles(const struct histogram *histogram, struct inphase_quantiles *out);
void count_add(struct statistics *statistics, enum count which, int64_t amount);
void worst_add(struct statistics *statistics, int64_t cycle, int64_t late_ns, int phase,
               int device);
