/* What the benches' C files share. */
#pragma once
#include <stdint.h>

#include "yardstick.h"

/* a block on a thread of its own, with the grid's rights; body returns its cycles */
struct bench_run {
    struct bench_grid grid;
    int (*body)(struct bench_run *run);
    int result;
};

int64_t bench_now(void);
void bench_sleep_until(int64_t time_ns);
int bench_rights(int32_t priority, int32_t cpu);
int bench_run(struct bench_run *run);

/* a payload: the same number in every word. A loop of word stores, as the product's slot_write. */
static inline void bench_fill(volatile uint64_t *to, uint64_t size, uint64_t number)
{
    for (uint64_t i = 0; i < size / 8; i++)
        to[i] = number;
}
