/* Draws of the timing model: a counter-based generator and distributions. Only + - * / on doubles,
   so that every machine draws the same. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"

#define DRAW_MAX_NS 3600000000000000LL /* a longer time counts as never */

/* splitmix64's finisher over the four keys in turn */
double inphase_draw(uint64_t seed, uint64_t cycle, uint64_t device, uint64_t kind)
{
    const uint64_t key[] = {seed, cycle, device, kind};
    uint64_t x = 0;

    for (int i = 0; i < 4; i++) {
        x += key[i] + 0x9e3779b97f4a7c15ULL;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
        x ^= x >> 31;
    }
    return (double)(x >> 11) * 0x1p-53;
}

double inphase_quantile(const struct inphase_distribution *distribution, double probability)
{
    const double *p = distribution->probability, *value = distribution->value;
    uint32_t low = 0, high = distribution->knots;

    if (high == 0)
        return 0;

    /* the last knot that is not above it; at most 12 halvings */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (p[middle] <= probability)
            low = middle;
        else
            high = middle;
    }
    if (low + 1 == distribution->knots)
        return value[low];
    return value[low] +
           (value[low + 1] - value[low]) * ((probability - p[low]) / (p[low + 1] - p[low]));
}

int64_t draw_ns(uint64_t seed, const struct inphase_distribution *distribution, uint64_t key,
                uint64_t device, uint64_t kind)
{
    double value = distribution->knots == 1
                       ? distribution->value[0]
                       : inphase_quantile(distribution, inphase_draw(seed, key, device, kind));

    return value <= 0 ? 0 : value >= (double)DRAW_MAX_NS ? DRAW_MAX_NS : (int64_t)value;
}

bool distribution_holds(const struct inphase_distribution *distribution)
{
    const double *p = distribution->probability;
    uint32_t knots = distribution->knots;

    if (knots == 0)
        return true;
    if (knots > INPHASE_MAX_KNOTS || !p || !distribution->value || p[0] != 0 ||
        (knots > 1 && p[knots - 1] != 1))
        return false;
    for (uint32_t i = 0; i < knots; i++)
        if (!isfinite(distribution->value[i]) || (i > 0 && !(p[i] >= p[i - 1])))
            return false;
    return true;
}

int distribution_copy(struct inphase_distribution *to, const struct inphase_distribution *from)
{
    uint64_t size = from->knots * sizeof(double);
    double *memory;

    *to = (struct inphase_distribution){0};
    if (!distribution_holds(from))
        return -EINVAL;
    if (from->knots == 0)
        return 0;
    memory = malloc(2 * size);
    if (!memory)
        return -ENOMEM;
    memcpy(memory, from->probability, size);
    memcpy(memory + from->knots, from->value, size);
    *to = (struct inphase_distribution){from->knots, memory, memory + from->knots};
    return 0;
}

void distribution_free(struct inphase_distribution *distribution)
{
    free((void *)distribution->probability);
    distribution->knots = 0;
    distribution->probability = NULL;
}
