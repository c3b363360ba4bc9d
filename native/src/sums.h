/* The end of a ramp, in closed form: sums over its cycles. No state and no failure; only + - * /,
   sqrt and floor, equal on every machine. A part of limiter.c, which alone includes it. */
#pragma once

#include <math.h>

static double clamp(double value, double low, double high)
{
    if (value < low)
        return low;
    return value > high ? high : value;
}

static double least(double a, double b)
{
    return b < a ? b : a;
}

static double most(double a, double b)
{
    return b > a ? b : a;
}

/* ---- sums of a ramp; unit: the jerk ------------------------------------------------------- */

/* the sum of a quantity that falls from x by 1 per cycle to 0: x + (x - 1) + (x - 2) + ... */
static double sum(double x)
{
    double n = floor(x);

    return x > 0 ? (n + 1) * (x - n / 2) : 0;
}

/* the sum of these sums: sum(x) + sum(x - 1) + sum(x - 2) + ... */
static double sum_of_sums(double x)
{
    double n = floor(x);

    return x > 0 ? (n + 1) * (n + 2) * (x / 2 - n / 3) : 0;
}

/* the x whose sum that is */
static double first_of(double total)
{
    double n;

    if (!(total >= 1)) /* x itself; without a jerk bound most ramps need only this */
        return total > 0 ? total : 0;
    n = floor((sqrt(1 + 8 * total) - 1) / 2);
    return total / (n + 1) + n / 2;
}

static double signed_first_of(double total)
{
    return total < 0 ? -first_of(-total) : first_of(total);
}

/* the velocity that is left when the acceleration has reached zero within the jerk limit */
static double velocity_to_come(double velocity, double acceleration)
{
    return acceleration < 0 ? velocity - sum(-acceleration - 1) : velocity + sum(acceleration - 1);
}

/* the distance of a ramp from a velocity whose velocity_to_come is not negative: its deceleration
   grows by 1 per cycle up to `bound`, stays there, and falls to 0 together with the velocity */
static double way_up(double velocity, double acceleration, double bound)
{
    double now = -acceleration, whole = floor(now), part = now - whole;
    double room = velocity + whole * (whole + 1) / 2 + part * (whole + part);
    double grows, holds = 0, way, top;

    /* so many cycles, each decelerating by 1 more than the one before */
    grows = floor(sqrt(most(room, 0)) - now);
    grows = least(most(grows, -whole - 1), floor(bound - now));
    grows = most(grows, 0);
    way = grows * velocity - grows * (grows + 1) / 2 * now -
          grows * (grows + 1) * (grows + 2) / 6;
    velocity -= grows * now + grows * (grows + 1) / 2;

    /* so many at the bound */
    top = sum(bound);
    if (velocity >= top)
        holds = floor((velocity - top) / bound) + 1;
    way += holds * velocity - holds * (holds + 1) / 2 * bound;
    velocity -= holds * bound;

    /* and the rest */
    return way + sum_of_sums(first_of(velocity)) - velocity;
}

/* the distance from the start of a ramp to its rest */
static double way(double velocity, double acceleration, double bound)
{
    if (velocity_to_come(velocity, acceleration) < 0)
        return -way_up(-velocity, -acceleration, bound);
    return way_up(velocity, acceleration, bound);
}

/* the highest point of a ramp above its start */
static double highest(double velocity, double acceleration, double bound)
{
    double rises, twice;

    if (velocity_to_come(velocity, acceleration) >= 0)
        return most(way_up(velocity, acceleration, bound), 0);
    if (!(velocity > 0))
        return 0;

    /* it turns back before the acceleration has reached zero */
    twice = -2 * acceleration - 1;
    rises = most(floor((twice - sqrt(most(twice * twice - 8 * velocity, 0))) / 2), 0);
    return rises * velocity + rises * (rises + 1) / 2 * acceleration +
           rises * (rises + 1) * (rises + 2) / 6;
}
