/* Relaxed loads and stores: each is whole, and orders nothing. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

static inline int64_t load_i64(const _Atomic int64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static inline void put_i64(_Atomic int64_t *to, int64_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}

static inline uint32_t load_u32(const _Atomic uint32_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static inline void put_u32(_Atomic uint32_t *to, uint32_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}

static inline double load_f64(const _Atomic double *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static inline void put_f64(_Atomic double *to, double value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}
