/* The limiter and the ramp: they stand between any command and a device. They have no state and
   cannot fail: each is a total function of its arguments, and every loop is bounded by TRIES.

   For positions and velocities one rule keeps all bounds satisfiable for ever: **a step is applied
   only if the ramp after it comes to rest inside the range, within the same velocity, acceleration
   and jerk.** The ramp's next step is always legal, so a legal step always exists.

   In this file a cycle is the unit of time: velocity is the difference of two positions in a row,
   acceleration that of two velocities, jerk that of two accelerations. In sums of a ramp the jerk
   is the unit of length too, and a deceleration is counted in the cycles until it is zero. Only + -
   * /, sqrt and floor: equal on every machine. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>

#include "limiter.h"
#include "sums.h"

#define TRIES 8 /* evaluations of a ramp in a search, which may end after any of them */
#define ROUNDING 1e-6 /* of a jerk: less than this behind a wall is rounding */
#define CREEP 1e-11   /* of a jerk: a slower velocity is zero */

/* ---- one channel in one cycle; unit: rad ---------------------------------------------------- */

struct channel {
    double velocity_max, acceleration_max, jerk, build; /* of the limiter */
    double low, high;                /* walls of this cycle, with the joint between them */
    double position, velocity, acceleration;
    double slowest, fastest;         /* accelerations that the bounds allow */
    double ramp;                     /* the ramp's acceleration, one of them */
};

/* Does a jerk-limited acceleration surely reach zero before the velocity has changed by so much?
   sum(x) is at most (x + 1)^2 / 2; the rest of the factor is room for rounding */
static bool can_reach_zero_acceleration(double jerk, double acceleration, double velocity)
{
    double x_and_1 = acceleration + jerk;

    return velocity * jerk > 0.501 * x_and_1 * x_and_1;
}

/* The largest acceleration, up to a bound, that can reach zero within the jerk limit before the
   velocity has changed by so much. Usually it is the bound, which is found without a root */
static double reach_zero_acceleration(const struct channel *c, double bound, double velocity)
{
    if (bound <= 0 ? velocity >= 0 : can_reach_zero_acceleration(c->jerk, bound, velocity))
        return bound;
    return least(bound, c->jerk * signed_first_of(velocity / c->jerk));
}

/* the quickest acceleration after which velocity and acceleration reach zero together */
static void find_ramp(struct channel *c)
{
    double jerk = c->jerk, bound;

    bound = least(c->velocity > 0 ? jerk - c->acceleration : jerk + c->acceleration,
                  c->acceleration_max);
    c->ramp = reach_zero_acceleration(c, bound, fabs(c->velocity));
    c->ramp = clamp(c->velocity > 0 ? -c->ramp : c->ramp, c->acceleration - jerk,
                    c->acceleration + jerk);
    c->ramp = clamp(c->ramp, -c->acceleration_max, c->acceleration_max);
}

/* the channel of a joint at `here`, for this cycle; false: the limits are invalid */
static bool load_channel(struct channel *c, const struct inphase_limiter *limiter,
                         const struct inphase_motion *motion, double here)
{
    double period_s = limiter->period_s, bound;

    if (!limiter->moves || !isfinite(here))
        return false;

    /* the limiter's bounds, per cycle */
    c->velocity_max = limiter->velocity;
    c->acceleration_max = limiter->acceleration;
    c->jerk = limiter->jerk;
    c->build = limiter->build;

    /* a joint outside the range goes no further out */
    c->low = least(limiter->limits.low, here);
    c->high = most(limiter->limits.high, here);

    /* the motion so far, within the bounds */
    c->position = here;
    c->velocity = motion->velocity * period_s;
    c->velocity = isfinite(c->velocity) ? clamp(c->velocity, -c->velocity_max, c->velocity_max) : 0;
    c->acceleration = motion->acceleration * period_s * period_s;
    c->acceleration = isfinite(c->acceleration)
                          ? clamp(c->acceleration, -c->acceleration_max, c->acceleration_max)
                          : 0;

    /* accelerations that can reach zero before the velocity is too high */
    bound = least(c->acceleration + c->jerk, c->acceleration_max);
    c->fastest = reach_zero_acceleration(c, bound, c->velocity_max - c->velocity);
    bound = least(c->jerk - c->acceleration, c->acceleration_max);
    c->slowest = -reach_zero_acceleration(c, bound, c->velocity_max + c->velocity);

    /* the ramp is always legal */
    find_ramp(c);
    c->slowest = least(c->slowest, c->ramp);
    c->fastest = most(c->fastest, c->ramp);
    return true;
}

/* how far the ramp after an acceleration goes beyond a wall; 0 or less: it stays inside */
static double excess(const struct channel *c, double acceleration)
{
    double velocity = c->velocity + acceleration, position = c->position + velocity;
    double v = velocity / c->jerk, a = acceleration / c->jerk;
    double above = position + c->jerk * highest(v, a, c->build) - c->high;
    double below = c->low - position + c->jerk * highest(-v, -a, c->build);

    return most(above, below);
}

/* An upper bound of the distance of the ramp after an acceleration. It is never faster than
   `fastest`. The cycles are those to end the acceleration, to build up the deceleration, to hold
   it, and to end it */
static double reach_of(const struct inphase_limiter *limiter, double velocity, double acceleration)
{
    double rise = fabs(acceleration) + limiter->jerk;
    double fastest = fabs(velocity) + rise * rise * limiter->per_2_jerk;

    return fastest * (fastest * limiter->per_acceleration + limiter->build_cycles);
}

/* does that ramp surely stay between the walls? */
static bool is_clear_of_walls(const struct inphase_limiter *limiter, const struct channel *c,
                              double acceleration)
{
    double velocity = c->velocity + acceleration, position = c->position + velocity;
    double reach = reach_of(limiter, velocity, acceleration);

    return position + reach <= c->high && position - reach >= c->low;
}

/* how far the ramp after an acceleration ends beyond a goal that itself moves */
static double overshoot_of(const struct channel *c, double acceleration, double goal_distance,
                           double goal_velocity)
{
    double velocity = c->velocity + acceleration;

    return c->jerk * way((velocity - goal_velocity) / c->jerk, acceleration / c->jerk, c->build) +
           velocity - goal_distance;
}

/* The acceleration after which the ramp ends at the goal, or the allowed one that is nearest to it.
   A search that is cut short ends before the goal, never beyond */
static double acceleration_to_goal(const struct channel *c, double goal_distance,
                                   double goal_velocity)
{
    double low = c->slowest, high = c->fastest;
    double at_low = overshoot_of(c, low, goal_distance, goal_velocity);
    double at_high = overshoot_of(c, high, goal_distance, goal_velocity);

    /* no allowed acceleration overshoots, or all do */
    if (!(at_high > 0))
        return high;
    if (!(at_low < 0))
        return low;

    /* regula falsi between the two */
    for (int i = 0; i < TRIES; i++) {
        double middle = clamp(low - at_low * (high - low) / (at_high - at_low), low, high);
        double at_middle = overshoot_of(c, middle, goal_distance, goal_velocity);

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

/* the acceleration nearest to the wanted one after which the ramp stays between the walls */
static double within_range(const struct inphase_limiter *limiter, const struct channel *c,
                           double acceleration)
{
    double good = c->ramp, bad = acceleration, at_good, at_bad;

    /* usually the wanted one is clear of the walls, or no worse than the ramp itself */
    if (is_clear_of_walls(limiter, c, bad))
        return bad;
    at_good = excess(c, good);
    at_bad = excess(c, bad);
    if (at_bad <= most(at_good, 0))
        return bad;

    /* regula falsi from the ramp's acceleration, which is good, to the wanted one */
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

/* Apply a step, to a position. The walls and the velocity bound come last, so they win. A joint
   stopped by a wall rests there (up to rounding); velocities below CREEP become 0 */
static void apply_step(const struct channel *c, struct inphase_motion *motion, double acceleration,
                       double position, double period_s)
{
    double velocity = c->velocity + acceleration;
    double taken = clamp(clamp(position, c->low, c->high), c->position - c->velocity_max,
                         c->position + c->velocity_max);

    if (!(fabs(taken - position) <= ROUNDING * c->jerk))
        velocity = acceleration = 0;
    if (fabs(velocity) <= CREEP * c->jerk)
        velocity = 0;

    /* a result that is not finite changes nothing but the velocity, which is zero then */
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

/* The usual case, without a root: a request that was followed is followed on, far from walls and
   bounds. The result equals the general one in limit_position, bit for bit. false: this is not the
   usual case */
static bool follow_request(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                           double requested, double measured, double effort)
{
    double period_s = limiter->period_s, here = motion->position;
    double velocity = motion->velocity * period_s;
    double acceleration = motion->acceleration * period_s * period_s;
    double distance = requested - here, wanted = distance - velocity, next = velocity + wanted;
    double position = here + next, reach, room, low, high;

    /* a comparison with NaN is false, and an infinity is out of bounds */
    if (!limiter->moves || motion->goal != here || fabs(effort) > limiter->effort ||
        !(fabs(velocity) <= limiter->velocity) ||
        !(fabs(acceleration) <= limiter->acceleration) ||
        !(fabs(wanted) <= limiter->acceleration) || !(wanted <= acceleration + limiter->jerk) ||
        !(wanted >= acceleration - limiter->jerk) || !(requested <= here + limiter->velocity) ||
        !(requested >= here - limiter->velocity) || !(fabs(next) > CREEP * limiter->jerk))
        return false;

    /* far from the velocity bound, and the ramp after it from the walls? */
    room = limiter->velocity + (wanted < 0 ? velocity : -velocity);
    reach = reach_of(limiter, next, wanted);
    high = limiter->limits.high;
    low = limiter->limits.low;
    if (isfinite(measured)) {
        high = least(high, measured + limiter->limits.step);
        low = most(low, measured - limiter->limits.step);
    }
    if (!can_reach_zero_acceleration(limiter->jerk, fabs(wanted), room) ||
        !(position + reach <= high) || !(position - reach >= low) || !(requested <= high) ||
        !(requested >= low))
        return false;

    /* then the request is applied as it is */
    motion->velocity = next / period_s;
    motion->acceleration = wanted / period_s / period_s;
    motion->position = motion->goal = requested;
    return true;
}

/* walls at `step` from the measured position, or where the command is further away already */
static void stay_near(struct channel *c, const struct inphase_limits *limits, double measured)
{
    if (!isfinite(measured) || !(limits->step >= 0))
        return;
    c->low = most(c->low, least(measured - limits->step, c->position));
    c->high = least(c->high, most(measured + limits->step, c->position));
}

/* while the joint exerts more than it may, the goal goes no further in that direction */
static double limit_goal_by_effort(const struct inphase_limiter *limiter, double position,
                                   double goal, double effort)
{
    if (effort > limiter->effort)
        return least(goal, position);
    return effort < -limiter->effort ? most(goal, position) : goal;
}

static void limit_position(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                           double requested, double measured, double effort)
{
    const struct inphase_limits *limits = &limiter->limits;
    double before = motion->goal, goal, distance, moves, wanted;
    bool follows = motion->goal == motion->position;
    struct channel c;

    if (follow_request(limiter, motion, requested, measured, effort))
        return;

    /* the channel of this cycle; invalid limits stop it */
    if (!load_channel(&c, limiter, motion, motion->position)) {
        stand_still(motion);
        return;
    }

    /* the goal: the request, or without one the goal before */
    if (!isfinite(before))
        before = c.position;
    goal = isfinite(requested) ? requested : before;

    /* near the joint first, inside the range last: the range wins */
    if (isfinite(measured) && limits->step >= 0)
        goal = clamp(goal, measured - limits->step, measured + limits->step);
    stay_near(&c, limits, measured);
    goal = limit_goal_by_effort(limiter, c.position, goal, effort);
    goal = clamp(goal, limits->low, limits->high);
    if (!isfinite(goal))
        goal = c.position;
    distance = goal - c.position;

    /* a goal that moves faster than the channel may is a jump: it counts as standing */
    moves = goal - before;
    if (!(moves >= -c.velocity_max && moves <= c.velocity_max))
        moves = 0;

    /* reach it in one step, if that continues the motion or needs no continuation */
    wanted = distance - c.velocity;
    if (wanted >= c.slowest && wanted <= c.fastest &&
        (follows || way((distance - moves) / c.jerk, wanted / c.jerk, c.build) == 0) &&
        (is_clear_of_walls(limiter, &c, wanted) || excess(&c, wanted) <= 0)) {
        apply_step(&c, motion, wanted, goal, limiter->period_s);
    } else {
        wanted = within_range(limiter, &c, acceleration_to_goal(&c, distance, moves));
        apply_step(&c, motion, wanted, c.position + (c.velocity + wanted), limiter->period_s);
    }
    motion->goal = goal;
}

double limiter_rest(const struct inphase_limiter *limiter, const struct inphase_motion *motion)
{
    struct channel c;

    if (!load_channel(&c, limiter, motion, motion->position))
        return motion->position;
    return c.position + c.jerk * way(c.velocity / c.jerk, c.acceleration / c.jerk, c.build);
}

bool limiter_fits(const struct inphase_limiter *limiter, const struct inphase_motion *motion)
{
    double v, a;
    struct channel c;

    if (!load_channel(&c, limiter, motion, motion->position))
        return false;
    v = c.velocity / c.jerk;
    a = c.acceleration / c.jerk;
    return c.position + c.jerk * highest(v, a, c.build) <= c.high &&
           c.position - c.jerk * highest(-v, -a, c.build) >= c.low;
}

/* one step of the ramp to rest */
static void ramp_position(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                          double measured)
{
    struct channel c;

    if (!load_channel(&c, limiter, motion, motion->position)) {
        stand_still(motion);
        return;
    }
    stay_near(&c, &limiter->limits, measured);
    apply_step(&c, motion, c.ramp, c.position + (c.velocity + c.ramp), limiter->period_s);
    motion->goal = motion->position;
}

/* ---- velocity: the same channel, whose position is where the joint is ---------------------- */

/* the range of velocities comes last, so it wins */
static void apply_velocity(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                           double velocity, double acceleration)
{
    double t = limiter->period_s, most_of = limiter->limits.velocity;
    double taken = clamp(velocity, -most_of, most_of);

    motion->velocity = isfinite(taken) ? taken : 0;
    motion->acceleration = isfinite(acceleration / t / t) ? acceleration / t / t : 0;
    if (fabs(motion->velocity * t) <= CREEP * limiter->jerk)
        motion->velocity = 0;
}

/* velocity mode without valid limits: nothing moves */
static void stop_velocity(struct inphase_motion *motion)
{
    motion->velocity = motion->acceleration = motion->goal = 0;
}

/* one step of the ramp to zero velocity */
static void ramp_velocity(const struct inphase_limiter *limiter, struct inphase_motion *motion)
{
    struct channel c;

    if (!load_channel(&c, limiter, motion, 0)) {
        stop_velocity(motion);
        return;
    }
    apply_velocity(limiter, motion, (c.velocity + c.ramp) / limiter->period_s, c.ramp);
    motion->goal = motion->velocity;
}

static void limit_velocity(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                           double requested, double measured)
{
    const struct inphase_limits *limits = &limiter->limits;
    bool is_free = limits->low == -INFINITY && limits->high == INFINITY;
    double t = limiter->period_s, before = motion->goal, goal, change, moves, wanted, chosen;
    bool follows = motion->goal == motion->velocity;
    struct channel c;

    /* a range of positions needs a measured position */
    if (!is_free && !isfinite(measured)) {
        ramp_velocity(limiter, motion);
        return;
    }
    if (!load_channel(&c, limiter, motion, is_free ? 0 : measured)) {
        stop_velocity(motion);
        return;
    }

    /* the goal: the request, or without one the goal before */
    if (!isfinite(before))
        before = 0;
    goal = clamp(isfinite(requested) ? requested : before, -limits->velocity, limits->velocity);
    change = goal * t - c.velocity;

    /* a goal that changes faster than the channel may is a jump: it counts as standing */
    moves = (goal - before) * t;
    if (!(fabs(moves) <= c.acceleration_max))
        moves = 0;

    /* reach it at once, if that continues the change; else so that the acceleration relative to the
       goal is zero on arrival */
    wanted = change;
    if (!follows || !(change >= c.slowest && change <= c.fastest))
        wanted = moves + c.jerk * signed_first_of((change - moves) / c.jerk);
    chosen = within_range(limiter, &c, clamp(wanted, c.slowest, c.fastest));
    apply_velocity(limiter, motion, chosen == change ? goal : (c.velocity + chosen) / t, chosen);
    motion->goal = goal;
}

/* ---- effort ---------------------------------------------------------------------------------- */

/* within the rate from the effort before, and within the range, which comes last */
static void apply_effort(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                         double wanted)
{
    double most_of = limiter->limits.effort;
    double before = isfinite(motion->effort) ? motion->effort : limiter->limits.safe;
    double taken = clamp(clamp(wanted, before - limiter->rate, before + limiter->rate), -most_of,
                         most_of);

    motion->effort = limiter->moves && isfinite(taken) ? taken : 0;
}

static void limit_effort(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                         double requested, const struct inphase_measured *measured)
{
    const struct inphase_limits *limits = &limiter->limits;
    double low = -limits->effort, high = limits->effort, goal;

    goal = isfinite(requested) ? requested : isfinite(motion->goal) ? motion->goal : limits->safe;
    motion->goal = clamp(goal, low, high);

    /* A joint that is too fast or too far gets no effort that takes it further. A comparison with
       an unknown value is false */
    if (!(measured->velocity <= limits->velocity || limits->velocity == INFINITY) ||
        !(measured->position <= limits->high || limits->high == INFINITY))
        high = limits->safe;
    if (!(measured->velocity >= -limits->velocity || limits->velocity == INFINITY) ||
        !(measured->position >= limits->low || limits->low == -INFINITY))
        low = limits->safe;
    apply_effort(limiter, motion, clamp(motion->goal, low, high));
}

/* one step towards the declared safe effort */
static void ramp_effort(const struct inphase_limiter *limiter, struct inphase_motion *motion)
{
    apply_effort(limiter, motion, limiter->limits.safe);
    motion->goal = motion->effort;
}

/* ---- switch ---------------------------------------------------------------------------------- */

/* a switch follows its goal once it has kept its state for the dwell */
static void switch_state(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                         bool on)
{
    bool was_on = motion->state >= 0.5;

    motion->goal = on;
    motion->cycles = motion->cycles >= 0 ? least(motion->cycles, limiter->dwell) + 1 : 1;
    if (on != was_on && limiter->moves && motion->cycles >= limiter->dwell) {
        was_on = on;
        motion->cycles = 0;
    }
    motion->state = was_on;
}

/* ---- all modes ------------------------------------------------------------------------------- */

void inphase_limit(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                   double requested, const struct inphase_measured *measured)
{
    switch (limiter->limits.mode) {
    case INPHASE_MODE_POSITION:
        limit_position(limiter, motion, requested, measured->position, measured->effort);
        return;
    case INPHASE_MODE_VELOCITY:
        limit_velocity(limiter, motion, requested, measured->position);
        return;
    case INPHASE_MODE_EFFORT:
        limit_effort(limiter, motion, requested, measured);
        return;
    default:
        switch_state(limiter, motion, (isfinite(requested) ? requested : motion->goal) >= 0.5);
    }
}

void inphase_ramp(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                  const struct inphase_measured *measured)
{
    switch (limiter->limits.mode) {
    case INPHASE_MODE_POSITION:
        ramp_position(limiter, motion, measured->position);
        return;
    case INPHASE_MODE_VELOCITY:
        ramp_velocity(limiter, motion);
        return;
    case INPHASE_MODE_EFFORT:
        ramp_effort(limiter, motion);
        return;
    default:
        switch_state(limiter, motion, limiter->limits.safe >= 0.5);
    }
}

double limiter_rest_value(const struct inphase_limiter *limiter)
{
    return limiter->limits.mode == INPHASE_MODE_VELOCITY ? 0 : limiter->limits.safe;
}

bool limiter_rests(const struct inphase_limiter *limiter, const struct inphase_motion *motion)
{
    switch (limiter->limits.mode) {
    case INPHASE_MODE_POSITION:
    case INPHASE_MODE_VELOCITY:
        return motion->velocity == 0;
    case INPHASE_MODE_EFFORT:
        return motion->effort == limiter->limits.safe;
    default:
        return motion->state == limiter->limits.safe;
    }
}

bool limiter_may_begin(const struct inphase_limiter *limiter, const struct inphase_motion *motion,
                       double requested, double measured)
{
    if (limiter->limits.mode != INPHASE_MODE_POSITION)
        return isfinite(requested);
    measured = isfinite(measured) ? measured : motion->position;

    /* the range wins over any request: it leads the joint no further than a step */
    return isfinite(requested) &&
           fabs(clamp(measured, limiter->limits.low, limiter->limits.high) - measured) <=
               most(limiter->limits.step, limiter->velocity);
}

bool limiter_begins(const struct inphase_limiter *limiter, const struct inphase_motion *motion,
                    double requested, double measured)
{
    switch (limiter->limits.mode) {
    case INPHASE_MODE_POSITION:
        return limiter_may_begin(limiter, motion, requested, measured) &&
               fabs(requested - (isfinite(measured) ? measured : motion->position)) <=
                   limiter->velocity;
    case INPHASE_MODE_VELOCITY:
        return fabs(requested - motion->velocity) * limiter->period_s <= limiter->acceleration;
    case INPHASE_MODE_EFFORT:
        return fabs(requested - motion->effort) <= limiter->rate;
    default:
        return isfinite(requested);
    }
}

void limiter_place(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                   double position)
{
    double safe = limiter->limits.safe;

    *motion = (struct inphase_motion){.position = position};
    if (limiter->limits.mode == INPHASE_MODE_POSITION)
        motion->goal = position;
    if (limiter->limits.mode == INPHASE_MODE_EFFORT)
        motion->goal = motion->effort = safe;
    if (limiter->limits.mode == INPHASE_MODE_SWITCH)
        motion->goal = motion->state = safe;
}

/* ---- valid limits ------------------------------------------------------------------------ */

static bool is_above_0(double value)
{
    return value > 0 && isfinite(value);
}

static bool make_motion(struct inphase_limiter *limiter, const struct inphase_limits *limits)
{
    double t = limiter->period_s;

    limiter->velocity = limits->velocity * t;
    limiter->acceleration = limits->acceleration * t * t;
    limiter->jerk = limits->jerk * t * t * t;

    /* a jerk that reaches both ends in one cycle does not bind */
    if (!(limiter->jerk > 0 && limiter->jerk < 2 * limiter->acceleration))
        limiter->jerk = 2 * limiter->acceleration;
    limiter->build = limiter->acceleration / limiter->jerk;
    limiter->build_cycles = 3 * limiter->build + 6;
    limiter->per_2_jerk = 0.501 / limiter->jerk;
    limiter->per_acceleration = 1 / limiter->acceleration;
    return limits->low <= limits->high && is_above_0(limiter->velocity) &&
           isfinite(2 * limits->velocity) && limiter->acceleration > 0 &&
           isfinite(4 * limits->acceleration) && isfinite(limiter->jerk);
}

int inphase_limiter_make(struct inphase_limiter *limiter, const struct inphase_limits *limits,
                         double period_s)
{
    bool holds;

    *limiter = (struct inphase_limiter){.limits = *limits, .period_s = period_s};
    limiter->effort = limits->effort > 0 ? limits->effort : INFINITY;
    limiter->rate = limits->rate * period_s;
    limiter->dwell = floor(limits->dwell_s / period_s + 0.999999);
    switch (limits->mode) {
    case INPHASE_MODE_POSITION:
    case INPHASE_MODE_VELOCITY:
        holds = make_motion(limiter, limits);
        break;
    case INPHASE_MODE_EFFORT:
        holds = is_above_0(limits->effort) && is_above_0(limiter->rate) && limits->velocity > 0 &&
                limits->low <= limits->high && fabs(limits->safe) <= limits->effort;
        break;
    case INPHASE_MODE_SWITCH:
        holds = limiter->dwell >= 0 && isfinite(limiter->dwell) &&
                (limits->safe == 0 || limits->safe == 1);
        break;
    default:
        holds = false;
    }
    limiter->moves = holds && is_above_0(period_s);
    return limiter->moves ? 0 : -EINVAL;
}
