/* Distributions and counters. One writer, the cycle thread; readers may look at any time. */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "relaxed.h"
#include "statistics.h"

/* log-linear: values under 2^7 ns have a bucket each, above that 2^7 buckets per octave, so that a
   quantile is right to under 1 % */
static uint32_t bucket_of(int64_t value)
{
    uint64_t v = value < 0 ? 0 : (uint64_t)value;
    uint32_t exponent;

    if (v >= 1ULL << 40)
        v = (1ULL << 40) - 1;
    if (v < 1ULL << HIST_SUB_BITS)
        return (uint32_t)v;
    exponent = 63 - (uint32_t)__builtin_clzll(v) - HIST_SUB_BITS;
    return ((exponent + 1) << HIST_SUB_BITS) +
           (uint32_t)((v >> exponent) & ((1u << HIST_SUB_BITS) - 1));
}

/* the largest value that falls into a bucket */
static int64_t bucket_top(uint32_t bucket)
{
    uint32_t exponent;

    if (bucket < 1u << HIST_SUB_BITS)
        return bucket;
    exponent = (bucket >> HIST_SUB_BITS) - 1;
    return (int64_t)((((uint64_t)(bucket & ((1u << HIST_SUB_BITS) - 1)) + (1u << HIST_SUB_BITS) + 1)
                      << exponent) - 1);
}

void histogram_add(struct histogram *histogram, int64_t value)
{
    _Atomic uint64_t *bucket = &histogram->bucket[bucket_of(value)];
    uint64_t count = atomic_load_explicit(&histogram->count, memory_order_relaxed);

    if (count == 0 || value < load_i64(&histogram->min))
        put_i64(&histogram->min, value);
    if (count == 0 || value > load_i64(&histogram->max))
        put_i64(&histogram->max, value);
    atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&histogram->count, count + 1, memory_order_relaxed);
}

void histogram_quantiles(const struct histogram *histogram, struct inphase_quantiles *out)
{
    static const double share[] = {0.5, 0.9, 0.99, 0.999};
    int64_t *to[] = {&out->p50, &out->p90, &out->p99, &out->p999};
    uint64_t count = atomic_load_explicit(&histogram->count, memory_order_relaxed);
    uint64_t below = 0;
    uint32_t next = 0;

    memset(out, 0, sizeof *out);
    out->count = (int64_t)count;
    if (count == 0)
        return;
    out->min = load_i64(&histogram->min);
    out->max = load_i64(&histogram->max);
    for (uint32_t i = 0; i < HIST_BUCKETS && next < 4; i++) {
        below += atomic_load_explicit(&histogram->bucket[i], memory_order_relaxed);
        while (next < 4 && (double)below >= share[next] * (double)count)
            *to[next++] = bucket_top(i);
    }

    /* a quantile is a bucket's top: never above the largest value seen */
    for (uint32_t i = 0; i < 4; i++)
        if (i >= next || *to[i] > out->max)
            *to[i] = out->max;
}

void count_add(struct statistics *statistics, enum count which, int64_t amount)
{
    put_i64(&statistics->counts[which], load_i64(&statistics->counts[which]) + amount);
}

void worst_add(struct statistics *statistics, int64_t cycle, int64_t late_ns, int phase, int device)
{
    uint32_t count = load_u32(&statistics->worst_count);
    uint32_t at;

    if (count == INPHASE_WORST && late_ns <= load_i64(&statistics->worst_late_ns[count - 1]))
        return;
    if (count < INPHASE_WORST)
        put_u32(&statistics->worst_count, ++count);

    /* insertion into at most INPHASE_WORST places */
    for (at = count - 1; at > 0 && load_i64(&statistics->worst_late_ns[at - 1]) < late_ns; at--) {
        put_i64(&statistics->worst_cycle[at], load_i64(&statistics->worst_cycle[at - 1]));
        put_i64(&statistics->worst_late_ns[at], load_i64(&statistics->worst_late_ns[at - 1]));
        atomic_store_explicit(&statistics->worst_phase[at], statistics->worst_phase[at - 1],
                              memory_order_relaxed);
        atomic_store_explicit(&statistics->worst_device[at], statistics->worst_device[at - 1],
                              memory_order_relaxed);
    }
    put_i64(&statistics->worst_cycle[at], cycle);
    put_i64(&statistics->worst_late_ns[at], late_ns);
    atomic_store_explicit(&statistics->worst_phase[at], phase, memory_order_relaxed);
    atomic_store_explicit(&statistics->worst_device[at], device, memory_order_relaxed);
}
