/* The limiter and the ramp: what stands between any command and a device. No loop, no state, no
   failure: each is a total function of its arguments. */
#include <math.h>

#include "internal.h"

static double clamp(double value, double low, double high)
{
    if (value < low)
        return low;
    return value > high ? high : value;
}

double inphase_limit(const struct inphase_limits *limits, double requested, double applied,
                     double measured, double period_s)
{
    double reach = limits->velocity * period_s;
    double target = isfinite(requested) ? requested : applied;

    /* a reach that is no distance is none */
    if (!(reach > 0))
        reach = 0;

    /* near the joint first, inside the range last: the range always wins */
    if (isfinite(measured))
        target = clamp(target, measured - limits->step, measured + limits->step);
    target = clamp(target, limits->low, limits->high);

    /* towards the target, no faster than the velocity allows */
    if (target > applied + reach)
        return applied + reach;
    if (target < applied - reach)
        return applied - reach;
    return isfinite(target) ? target : applied;
}

double inphase_ramp(const struct inphase_limits *limits, double applied, double *velocity,
                    double period_s)
{
    double slower = limits->acceleration * period_s;
    double most = limits->velocity > 0 ? limits->velocity : 0;
    double start = isfinite(*velocity) ? clamp(*velocity, -most, most) : 0;
    double position;

    /* a deceleration that is none would never end: end at once */
    if (!(slower > 0))
        slower = INFINITY;
    if (start > slower)
        *velocity = start - slower;
    else if (start < -slower)
        *velocity = start + slower;
    else
        *velocity = 0;

    /* the end of the range ends the motion; one that is outside of it stays where it is */
    position = applied + *velocity * period_s;
    if ((position > limits->high && *velocity > 0) || (position < limits->low && *velocity < 0)) {
        position = applied > limits->high || applied < limits->low
                       ? applied
                       : clamp(position, limits->low, limits->high);
        *velocity = 0;
    }
    if (!isfinite(position)) {
        *velocity = 0;
        return applied;
    }
    return position;
}
