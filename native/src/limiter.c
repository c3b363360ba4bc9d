/* The limiter and the ramp: what stands between any command and a device. No state of their own and
   no failure: each is a total function of its arguments, and every loop is bounded by TRIES.

   One rule keeps all bounds satisfiable for ever: **nothing is applied after which the ramp would not
   come to rest inside of the range, within the same velocity, acceleration and jerk.** The ramp's own
   next step leaves the rest of the ramp, so there is always something that may be applied.

   Inside, a cycle is the unit of time: velocity is the difference of two positions in a row,
   acceleration that of two velocities, jerk that of two accelerations. Where sums of a ramp are
   taken, the jerk is the unit of length too, and a deceleration is counted in the cycles that it
   takes to let go of it. Only + - * /, sqrt and floor: equal on every machine. */
#include <math.h>

#include "limiter.h"

#define TRIES 8 /* evaluations of a ramp in a search, which can end at any of them */
#define ROUNDING 1e-6 /* of a jerk: what is less behind a wall was put there by rounding */
#define CREEP 1e-11   /* of a jerk: what is slower rests */

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

/* what a quantity x changes that falls by 1 per cycle to 0: x + (x - 1) + (x - 2) + ... */
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

    if (!(total >= 1)) /* itself, and most ramps of no jerk bound know no other */
        return total > 0 ? total : 0;
    n = floor((sqrt(1 + 8 * total) - 1) / 2);
    return total / (n + 1) + n / 2;
}

static double signed_first_of(double total)
{
    return total < 0 ? -first_of(-total) : first_of(total);
}

/* the velocity that is left once the acceleration has been let go of */
static double velocity_to_come(double velocity, double acceleration)
{
    return acceleration < 0 ? velocity - sum(-acceleration - 1) : velocity + sum(acceleration - 1);
}

/* how far a ramp goes from a velocity whose velocity_to_come is not negative: its deceleration
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

/* where a ramp comes to rest, from where it starts */
static double way(double velocity, double acceleration, double bound)
{
    if (velocity_to_come(velocity, acceleration) < 0)
        return -way_up(-velocity, -acceleration, bound);
    return way_up(velocity, acceleration, bound);
}

/* how far up a ramp comes on its way */
static double highest(double velocity, double acceleration, double bound)
{
    double rises, twice;

    if (velocity_to_come(velocity, acceleration) >= 0)
        return most(way_up(velocity, acceleration, bound), 0);
    if (!(velocity > 0))
        return 0;

    /* it turns back before the acceleration is let go of */
    twice = -2 * acceleration - 1;
    rises = most(floor((twice - sqrt(most(twice * twice - 8 * velocity, 0))) / 2), 0);
    return rises * velocity + rises * (rises + 1) / 2 * acceleration +
           rises * (rises + 1) * (rises + 2) / 6;
}

/* ---- one channel in one cycle; unit: rad ---------------------------------------------------- */

struct channel {
    double velocity_max, acceleration_max, jerk;
    double low, high;                /* walls for this cycle: the channel is between them */
    double position, velocity, acceleration;
    double slowest, fastest;         /* accelerations that velocity, acceleration and jerk allow */
    double ramp;                     /* the ramp's; one of them */
};

/* An acceleration up to a bound that can be let go of before the velocity has changed by so much.
   Mostly it is the bound, which is seen without a root: sum(x) is at most (x + 1)^2 / 2; what is more
   here is room for rounding */
static double let_go_of(const struct channel *c, double bound, double velocity)
{
    double x_and_1 = bound + c->jerk;

    if (bound <= 0 ? velocity >= 0 : velocity * c->jerk > 0.501 * x_and_1 * x_and_1)
        return bound;
    return least(bound, c->jerk * signed_first_of(velocity / c->jerk));
}

/* false: those are no limits */
static bool fill(struct channel *c, const struct inphase_limits *limits,
                 const struct inphase_motion *motion, double period_s)
{
    double here = motion->position, jerk, bound;

    c->velocity_max = limits->velocity * period_s;
    c->acceleration_max = limits->acceleration * period_s * period_s;
    c->jerk = limits->jerk * period_s * period_s * period_s;

    /* what goes from one end to the other in one cycle does not bind */
    if (!(c->jerk > 0 && c->jerk < 2 * c->acceleration_max))
        c->jerk = 2 * c->acceleration_max;
    if (!(limits->low <= limits->high) || !(c->velocity_max > 0) || !isfinite(c->velocity_max) ||
        !(c->acceleration_max > 0) || !isfinite(c->jerk) || !isfinite(here))
        return false;

    /* one that is outside of the range does not go further out */
    c->low = least(limits->low, here);
    c->high = most(limits->high, here);
    c->position = here;
    c->velocity = motion->velocity * period_s;
    c->velocity = isfinite(c->velocity) ? clamp(c->velocity, -c->velocity_max, c->velocity_max) : 0;
    c->acceleration = motion->acceleration * period_s * period_s;
    c->acceleration = isfinite(c->acceleration)
                          ? clamp(c->acceleration, -c->acceleration_max, c->acceleration_max)
                          : 0;

    /* an acceleration that can be let go of before the velocity is too high */
    jerk = c->jerk;
    bound = least(c->acceleration + jerk, c->acceleration_max);
    c->fastest = let_go_of(c, bound, c->velocity_max - c->velocity);
    bound = least(jerk - c->acceleration, c->acceleration_max);
    c->slowest = -let_go_of(c, bound, c->velocity_max + c->velocity);

    /* the quickest one with which velocity and acceleration come to rest together */
    bound = least(c->velocity > 0 ? jerk - c->acceleration : jerk + c->acceleration,
                  c->acceleration_max);
    c->ramp = let_go_of(c, bound, fabs(c->velocity));
    c->ramp = clamp(c->velocity > 0 ? -c->ramp : c->ramp, c->acceleration - jerk,
                    c->acceleration + jerk);
    c->ramp = clamp(c->ramp, -c->acceleration_max, c->acceleration_max);
    c->slowest = least(c->slowest, c->ramp);
    c->fastest = most(c->fastest, c->ramp);
    return true;
}

/* by how much the ramp after an acceleration would leave the walls; 0 or less: it does not */
static double excess(const struct channel *c, double acceleration)
{
    double velocity = c->velocity + acceleration, position = c->position + velocity;
    double bound = c->acceleration_max / c->jerk, v = velocity / c->jerk,
           a = acceleration / c->jerk;
    double above = position + c->jerk * highest(v, a, bound) - c->high;
    double below = c->low - position + c->jerk * highest(-v, -a, bound);

    return most(above, below);
}

/* Does the ramp after an acceleration surely stay between the walls? It goes no faster than `fastest`
   ever, and rests within so many cycles: to let go of the acceleration, to build up the
   deceleration, to hold it, and to let go of it */
static bool is_clear_of_walls(const struct channel *c, double acceleration)
{
    double velocity = c->velocity + acceleration, position = c->position + velocity;
    double rise = fabs(acceleration) + c->jerk, per_jerk = 1 / c->jerk;
    double fastest = fabs(velocity) + 0.501 * rise * rise * per_jerk;
    double cycles = fastest / c->acceleration_max + 3 * c->acceleration_max * per_jerk + 6;
    double reach = fastest * cycles;

    return position + reach <= c->high && position - reach >= c->low;
}

/* by how much the ramp after an acceleration would end beyond a goal that itself moves */
static double beyond(const struct channel *c, double acceleration, double goal_distance,
                     double goal_velocity)
{
    double velocity = c->velocity + acceleration;

    return c->jerk * way((velocity - goal_velocity) / c->jerk, acceleration / c->jerk,
                         c->acceleration_max / c->jerk) +
           velocity - goal_distance;
}

/* the acceleration after which the ramp, seen from the goal, would end there; else the end that is
   nearer to it. Where the search is cut short, the ramp ends before the goal and not beyond */
static double approach(const struct channel *c, double goal_distance, double goal_velocity)
{
    double low = c->slowest, high = c->fastest;
    double at_low = beyond(c, low, goal_distance, goal_velocity);
    double at_high = beyond(c, high, goal_distance, goal_velocity);

    if (!(at_high > 0))
        return high;
    if (!(at_low < 0))
        return low;
    for (int i = 0; i < TRIES; i++) {
        double middle = clamp(low - at_low * (high - low) / (at_high - at_low), low, high);
        double at_middle = beyond(c, middle, goal_distance, goal_velocity);

        if (at_middle == 0)
            return middle;
        if (at_middle < 0) {
            low = middle;
            at_low = at_middle;
        } else {
            high = middle;
            at_high = at_middle;
        }
    }
    return goal_distance < 0 ? high : low;
}

/* the acceleration nearest to one that leaves the walls after which the ramp does not */
static double inside(const struct channel *c, double acceleration)
{
    double good = c->ramp, bad = acceleration, at_good, at_bad;

    if (is_clear_of_walls(c, bad))
        return bad;
    at_good = excess(c, good);
    at_bad = excess(c, bad);
    if (at_bad <= most(at_good, 0))
        return bad;
    for (int i = 0; i < TRIES && at_good < 0; i++) {
        double middle = good - at_good * (bad - good) / (at_bad - at_good);
        double at_middle = excess(c, middle);

        if (at_middle <= 0) {
            good = middle;
            at_good = at_middle;
        } else {
            bad = middle;
            at_bad = at_middle;
        }
    }
    return good;
}

/* take a step, to a position that it leads to; the walls and the velocity come last: they win. What
   a wall stopped rests there, but for what rounding has put behind it; what creeps rests too */
static void take(const struct channel *c, struct inphase_motion *motion, double acceleration,
                 double position, double period_s)
{
    double velocity = c->velocity + acceleration;
    double taken = clamp(clamp(position, c->low, c->high), c->position - c->velocity_max,
                         c->position + c->velocity_max);

    if (!(fabs(taken - position) <= ROUNDING * c->jerk))
        velocity = acceleration = 0;
    if (fabs(velocity) <= CREEP * c->jerk)
        velocity = 0;
    motion->velocity = velocity / period_s;
    motion->acceleration = acceleration / period_s / period_s;
    if (isfinite(taken) && isfinite(motion->velocity) && isfinite(motion->acceleration))
        motion->position = taken;
    else
        motion->velocity = motion->acceleration = 0;
}

static void stand_still(struct inphase_motion *motion)
{
    motion->velocity = motion->acceleration = 0;
    motion->goal = motion->position;
}

void inphase_limit(const struct inphase_limits *limits, struct inphase_motion *motion,
                   double requested, double measured, double period_s)
{
    double before = motion->goal, goal, distance, moves, wanted;
    bool follows = motion->goal == motion->position;
    struct channel c;

    if (!fill(&c, limits, motion, period_s)) {
        stand_still(motion);
        return;
    }
    if (!isfinite(before))
        before = c.position;
    goal = isfinite(requested) ? requested : before;

    /* near the joint first, inside the range last: the range always wins */
    if (isfinite(measured) && limits->step >= 0) {
        goal = clamp(goal, measured - limits->step, measured + limits->step);
        c.low = most(c.low, least(measured - limits->step, c.position));
        c.high = least(c.high, most(measured + limits->step, c.position));
    }
    goal = clamp(goal, limits->low, limits->high);
    if (!isfinite(goal))
        goal = c.position;
    distance = goal - c.position;

    /* a goal that moves faster than the channel may has jumped, and stands */
    moves = goal - before;
    if (!(moves >= -c.velocity_max && moves <= c.velocity_max))
        moves = 0;

    /* there in one step, if that goes on as it came, or else need not go on */
    wanted = distance - c.velocity;
    if (wanted >= c.slowest && wanted <= c.fastest &&
        (follows || way((distance - moves) / c.jerk, wanted / c.jerk,
                        c.acceleration_max / c.jerk) == 0) &&
        (is_clear_of_walls(&c, wanted) || excess(&c, wanted) <= 0)) {
        take(&c, motion, wanted, goal, period_s);
    } else {
        wanted = inside(&c, approach(&c, distance, moves));
        take(&c, motion, wanted, c.position + (c.velocity + wanted), period_s);
    }
    motion->goal = goal;
}

double limiter_rest(const struct inphase_limits *limits, const struct inphase_motion *motion,
                    double period_s)
{
    struct channel c;

    if (!fill(&c, limits, motion, period_s))
        return motion->position;
    return c.position + c.jerk * way(c.velocity / c.jerk, c.acceleration / c.jerk,
                                     c.acceleration_max / c.jerk);
}

bool limiter_fits(const struct inphase_limits *limits, const struct inphase_motion *motion,
                  double period_s)
{
    double bound;
    struct channel c;

    if (!fill(&c, limits, motion, period_s))
        return false;
    bound = c.acceleration_max / c.jerk;
    return c.position + c.jerk * highest(c.velocity / c.jerk, c.acceleration / c.jerk, bound) <=
               c.high &&
           c.position - c.jerk * highest(-c.velocity / c.jerk, -c.acceleration / c.jerk, bound) >=
               c.low;
}

void inphase_ramp(const struct inphase_limits *limits, struct inphase_motion *motion,
                  double period_s)
{
    struct channel c;

    if (!fill(&c, limits, motion, period_s)) {
        stand_still(motion);
        return;
    }
    take(&c, motion, c.ramp, c.position + (c.velocity + c.ramp), period_s);
    motion->goal = motion->position;
}
