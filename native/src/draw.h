/* Draws of the timing model. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

bool distribution_holds(const struct inphase_distribution *distribution);
int distribution_copy(struct inphase_distribution *to, const struct inphase_distribution *from);
void distribution_free(struct inphase_distribution *distribution);
/* a draw from it in whole nanoseconds, not below 0 */
int64_t draw_ns(uint64_t seed, const struct inphase_distribution *distribution, uint64_t key,
                uint64_t device, uint64_t kind);
