/* Random doubles, from check.h's generator. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

/* values at which something is different, besides ordinary ones of every magnitude */
static inline double any_double(void)
{
    static const double odd[] = {
        0,         -0.0,      1,          -1,        NAN,   INFINITY, -INFINITY,
        0x1p-1074, -0x1p-1074, 0x1p-1022, 0x1.fffffffffffffp1023, -0x1.fffffffffffffp1023,
        1e300,     -1e300,    0.5,        0.001,     1e-9,
    };
    uint64_t bits = check_random();
    double value;

    if (bits % 3 == 0)
        return odd[(bits >> 8) % (sizeof odd / sizeof *odd)];
    if (bits % 3 == 1)
        return ((double)(bits >> 11) * 0x1p-53 - 0.5) * 10;
    bits = check_random();
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double between(double low, double high)
{
    return low + (high - low) * ((double)(check_random() >> 11) * 0x1p-53);
}

/* between two positive numbers, every magnitude alike */
static inline double about(double low, double high)
{
    return exp(between(log(low), log(high)));
}
