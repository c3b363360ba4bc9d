/* The limiter and the ramp: total over all doubles, and for any limits that are some, within all of
   them for ever: in motion, over ramps, at the ends of the range and near the joint. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../src/limiter.h"
#include "check.h"
#include "doubles.h"

#define ROUNDS 1000000
#define PERIOD_S 0.002
#define SLACK 1e-7 /* what rounding may add to a bound */
#define CUT 1e-6   /* of a jerk: what the limiter takes for rounding where a wall cuts a step */

static const struct inphase_limits joint = {.low = -2, .high = 2, .velocity = 3, .acceleration = 20,
                                            .step = 0.25};
static const struct inphase_limits smooth = {.low = -2, .high = 2, .velocity = 3,
                                             .acceleration = 20,
                                             .step = 0.25, .jerk = 400};

/* what is looked at here: the limits of a cycle of any period */
static void limit(const struct inphase_limits *limits, struct inphase_motion *motion,
                  double requested, double measured, double period_s)
{
    struct inphase_measured joint_at = {measured, NAN, NAN};
    struct inphase_limiter limiter;

    inphase_limiter_make(&limiter, limits, period_s);
    inphase_limit(&limiter, motion, requested, &joint_at);
}

static void ramp(const struct inphase_limits *limits, struct inphase_motion *motion,
                 double period_s)
{
    static const struct inphase_measured unknown = {NAN, NAN, NAN};
    struct inphase_limiter limiter;

    inphase_limiter_make(&limiter, limits, period_s);
    inphase_ramp(&limiter, motion, &unknown);
}

static struct inphase_motion at(double position)
{
    return (struct inphase_motion){.position = position, .goal = position};
}

/* ---- whatever they are given ------------------------------------------------------------- */

static void the_limiter_and_the_ramp_are_finite_whatever_they_are_given(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct inphase_limits limits = {
            .low = any_double(), .high = any_double(), .velocity = any_double(),
            .acceleration = any_double(), .step = any_double(), .jerk = any_double(),
        };
        struct inphase_motion motion = {.position = any_double(), .velocity = any_double(),
                                        .acceleration = any_double(), .goal = any_double()};
        double applied = motion.position, period_s = any_double();
        double reach = limits.velocity * period_s;

        if (check_random() % 4)
            limit(&limits, &motion, any_double(), any_double(), period_s);
        else
            ramp(&limits, &motion, period_s);
        if (!isfinite(applied))
            continue;
        CHECK(isfinite(motion.position) && isfinite(motion.velocity));
        CHECK(isfinite(motion.acceleration) && isfinite(motion.goal));

        /* a reach that is no distance is no reach */
        if (!(reach >= 0))
            reach = 0;
        CHECK(motion.position <= applied + reach && motion.position >= applied - reach);
        if (applied >= limits.low && applied <= limits.high)
            CHECK(motion.position >= limits.low && motion.position <= limits.high);
    }
}

static void limits_that_are_none_stand_still(void)
{
    static const double none[] = {NAN, INFINITY, -INFINITY, 0, -1};

    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        for (int field = 0; field < 2; field++) {
            struct inphase_limits limits = joint;
            struct inphase_motion motion = {.position = 1, .velocity = 2, .acceleration = 3,
                                            .goal = 1};

            *(field ? &limits.velocity : &limits.acceleration) = none[i];
            limit(&limits, &motion, 1.001, NAN, PERIOD_S);
            CHECK(motion.position == 1 && motion.velocity == 0 && motion.acceleration == 0);
        }
}

static void what_is_not_finite_falls_to_the_last_good_value(void)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY, -NAN};
    struct inphase_motion motion = at(0.5);

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        limit(&joint, &motion, bad[i], NAN, PERIOD_S);
        CHECK(motion.position == 0.5 && motion.velocity == 0);
    }

    /* on the way to it, on to it */
    limit(&joint, &motion, 0.6, NAN, PERIOD_S);
    for (int i = 0; i < 200; i++)
        limit(&joint, &motion, bad[i % 4], NAN, PERIOD_S);
    CHECK(motion.position == 0.6 && motion.velocity == 0);
}

/* ---- any robot, for a while ---------------------------------------------------------------- */

/* what a policy may ask for: rest, noise, steps, waves, pushing on, the ends in turn */
struct asker {
    int mode;
    double requested, phase, rate, amplitude;
};

static double ask(struct asker *asker, const struct inphase_limits *limits, double position,
                  double period_s)
{
    if (check_random() % 100 == 0) {
        asker->mode = (int)(check_random() % 7);
        asker->rate = about(0.3, 30);
        asker->amplitude = about(0.01, 2);
    }
    switch (asker->mode) {
    case 1:
        return asker->requested = any_double();
    case 2:
        if (check_random() % 50)
            return asker->requested;
        return asker->requested = between(limits->low, limits->high);
    case 3:
        return asker->requested = asker->amplitude * sin(asker->phase += asker->rate * period_s);
    case 4:
        return asker->requested = position + between(-1.5, 1.5) * limits->velocity * period_s;
    case 5:
        return asker->requested = check_random() % 2 ? limits->low : limits->high;
    case 6:
        return asker->requested = between(limits->low, limits->high);
    default:
        return asker->requested;
    }
}

/* differences of the positions in a row; what double positions can resolve is forgiven */
struct differences {
    double position, velocity, acceleration;
};

static void check_differences(struct differences *before, const struct inphase_limits *limits,
                              double position, double period_s)
{
    double t = period_s, rounding = 8 * 0x1p-52 * (fabs(limits->low) + fabs(limits->high));
    double velocity = position - before->position;
    double acceleration = velocity - before->velocity;
    double jerk = acceleration - before->acceleration;
    double jerk_max = limits->jerk * t * t * t, acceleration_max = limits->acceleration * t * t;
    double cut = CUT * (jerk_max > 0 ? fmin(jerk_max, 2 * acceleration_max) : 2 * acceleration_max);

    CHECK(position >= limits->low && position <= limits->high);
    CHECK(fabs(velocity) <= limits->velocity * t * (1 + SLACK) + rounding);
    CHECK(fabs(acceleration) <= acceleration_max * (1 + SLACK) + rounding + 2 * cut);
    if (limits->jerk > 0)
        CHECK(fabs(jerk) <= jerk_max * (1 + SLACK) + 2 * rounding + 4 * cut);
    *before = (struct differences){position, velocity, acceleration};
}

static struct inphase_limits any_limits(void)
{
    struct inphase_limits limits = {
        .low = -about(0.01, 3), .high = about(0.01, 3), .velocity = about(0.1, 10),
        .acceleration = about(0.5, 200), .step = about(0.01, 1),
    };

    if (check_random() % 3)
        limits.jerk = limits.acceleration * about(3, 3000);
    return limits;
}

static void all_bounds_hold_for_ever_whatever_is_asked_for(void)
{
    for (int i = 0; i < 400; i++) {
        struct inphase_limits limits = any_limits();
        double period_s = about(0.0002, 0.02);
        struct inphase_motion motion = at(between(limits.low, limits.high));
        struct differences before = {motion.position, 0, 0};
        struct asker asker = {.requested = motion.position};

        for (int n = 0; n < 2000; n++) {
            double requested = ask(&asker, &limits, motion.position, period_s);

            if (check_random() % 400 == 0)
                for (uint64_t r = check_random() % 60; r > 0; r--) {
                    ramp(&limits, &motion, period_s);
                    check_differences(&before, &limits, motion.position, period_s);
                }
            limit(&limits, &motion, requested, NAN, period_s);
            check_differences(&before, &limits, motion.position, period_s);
        }
    }
}

/* with a joint that is anywhere: the step is kept, at the cost of nothing but smoothness */
static void it_is_never_further_than_a_step_from_the_joint_unless_it_stands_still(void)
{
    for (int i = 0; i < 400; i++) {
        struct inphase_limits limits = any_limits();
        double period_s = about(0.0002, 0.02), measured = between(limits.low, limits.high);
        struct inphase_motion motion = at(measured);
        struct asker asker = {.requested = measured};

        for (int n = 0; n < 1000; n++) {
            double requested = ask(&asker, &limits, motion.position, period_s);
            double before = motion.position, away = fabs(before - measured);

            measured += 0.1 * (before - measured);
            if (check_random() % 200 == 0)
                measured = between(limits.low, limits.high);
            away = fabs(before - measured);
            limit(&limits, &motion, requested, measured, period_s);
            CHECK(motion.position >= limits.low && motion.position <= limits.high);
            CHECK(fabs(motion.position - before) <= limits.velocity * period_s + 1e-15);
            CHECK(fabs(motion.position - measured) <= fmax(limits.step, away) + 1e-15);
        }
    }
}

static void a_ramp_goes_no_further_than_a_step_from_the_joint(void)
{
    for (int i = 0; i < ROUNDS / 1000; i++) {
        struct inphase_limits limits = any_limits();
        double period_s = about(0.0002, 0.02);
        struct inphase_measured stands = {between(limits.low, limits.high), NAN, NAN};
        struct inphase_motion motion = at(stands.position);
        struct inphase_limiter limiter;

        motion.velocity = between(-1, 1) * limits.velocity;
        inphase_limiter_make(&limiter, &limits, period_s);
        for (int n = 0; n < 1000; n++) {
            inphase_ramp(&limiter, &motion, &stands);
            CHECK(fabs(motion.position - stands.position) <= limits.step + 1e-15);
        }
    }
}

static void near_a_joint_that_stands_it_brakes_in_time(void)
{
    for (int i = 0; i < 400; i++) {
        struct inphase_limits limits = any_limits();
        double period_s = about(0.0002, 0.02), joint_at = between(limits.low, limits.high);
        struct inphase_motion motion = at(joint_at);
        struct differences before = {joint_at, 0, 0};
        double asked = check_random() % 2 ? limits.low : limits.high;

        for (int n = 0; n < 1000; n++) {
            limit(&limits, &motion, asked, joint_at, period_s);
            check_differences(&before, &limits, motion.position, period_s);
            CHECK(fabs(motion.position - joint_at) <= limits.step + 1e-15);
        }
    }
}

static void outside_of_the_range_it_comes_back_and_goes_no_further_out(void)
{
    const struct inphase_limits *both[] = {&joint, &smooth};

    for (int i = 0; i < 2; i++) {
        struct inphase_motion motion = at(2.5);
        double before = 2.5;

        for (int n = 0; n < 1000; n++) {
            limit(both[i], &motion, 9, NAN, PERIOD_S);
            CHECK(motion.position <= before + 1e-15);
            CHECK(motion.position >= before - 3 * PERIOD_S);
            before = motion.position;
        }
        CHECK(motion.position == 2);

        /* a ramp that starts there neither */
        motion = (struct inphase_motion){.position = 2.5, .velocity = 1, .goal = 2.5};
        ramp(both[i], &motion, PERIOD_S);
        CHECK(motion.position == 2.5 && motion.velocity == 0);
        motion = (struct inphase_motion){.position = 2.5, .velocity = -1, .goal = 2.5};
        ramp(both[i], &motion, PERIOD_S);
        CHECK(motion.position < 2.5 && motion.velocity < 0);
    }
}

/* ---- what is allowed is obeyed --------------------------------------------------------------- */

static void a_request_within_all_bounds_is_applied_as_it_is(void)
{
    const struct inphase_limits *both[] = {&joint, &smooth};

    /* a wave that swells from rest: 1.8 rad/s, 3.6 rad/s^2 */
    for (int i = 0; i < 2; i++) {
        struct inphase_motion motion = at(0);

        for (int n = 0; n < 20000; n++) {
            double swell = fmin(1, n / 2000.0);
            double requested = 0.9 * swell * swell * (3 - 2 * swell) * sin(n * PERIOD_S * 2);

            limit(both[i], &motion, requested, requested + 0.01, PERIOD_S);
            CHECK(motion.position == requested);
        }
    }
}

static void a_step_is_reached_exactly_and_never_passed(void)
{
    for (int i = 0; i < 400; i++) {
        struct inphase_limits limits = any_limits();
        double period_s = about(0.0005, 0.02);
        double start = between(limits.low, limits.high), goal = between(limits.low, limits.high);
        struct inphase_motion motion = at(start);
        double seconds, past = 1e-12;

        /* a jump of a jerk or two may be the beginning of a motion, for one cycle */
        if (limits.jerk > 0)
            past += limits.jerk * period_s * period_s * period_s;

        /* the ends of the range are goals like any other */
        if (check_random() % 4 == 0)
            goal = check_random() % 2 ? limits.low : limits.high;
        seconds = fabs(goal - start) / limits.velocity + 2 * limits.velocity / limits.acceleration;
        if (limits.jerk > 0)
            seconds += 6 * limits.acceleration / limits.jerk;
        for (int n = 0; n < 2 * seconds / period_s + 50; n++) {
            limit(&limits, &motion, goal, NAN, period_s);
            CHECK(goal > start ? motion.position <= goal + past : motion.position >= goal - past);
        }
        CHECK(motion.position == goal && motion.velocity == 0);
    }
}

/* a goal that is already in motion is caught up with, and followed from then on */
static void a_goal_that_moves_is_caught_up_with(void)
{
    const struct inphase_limits *both[] = {&joint, &smooth};

    for (int i = 0; i < 2; i++) {
        struct inphase_motion motion = at(0);
        int last_off = -1;

        for (int n = 1; n < 700; n++) {
            limit(both[i], &motion, n * PERIOD_S * 1.0, NAN, PERIOD_S);
            if (motion.position != n * PERIOD_S * 1.0)
                last_off = n;
        }

        /* 1 rad/s at 20 rad/s^2 are 25 cycles; as many again make good what they cost */
        CHECK(last_off > 10 && last_off < (i == 0 ? 100 : 250));
    }
}

/* ---- a joint that pushes too hard ------------------------------------------------------- */

/* a wave whose motion has one sign, so smooth that it is followed as it is */
static double rise(int n)
{
    return 0.2 * (1 - cos(n * M_PI / 1000));
}

/* the short way looks at the step, too, in both directions */
static void a_joint_that_stays_behind_is_led_no_further_than_a_step(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct inphase_limits limits = joint;
        struct inphase_motion motion = at(0);
        struct inphase_measured measured = {0, NAN, NAN};
        struct inphase_limiter limiter;

        limits.step = 0.1;
        CHECK(inphase_limiter_make(&limiter, &limits, PERIOD_S) == 0);
        for (int n = 0; n <= 1000; n++) {
            inphase_limit(&limiter, &motion, sign * rise(n), &measured);
            CHECK(fabs(motion.position) <= limits.step + 1e-12);
            CHECK(motion.position == sign * rise(n) || n > 250);
        }
        CHECK(sign * motion.position > 0.099);
    }
}

/* the range wins: one that is outside comes back, also where that is the way it pushes */
static void a_joint_that_pushes_too_hard_outside_of_its_range_comes_back(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct inphase_limits limits = joint;
        double outside = sign > 0 ? limits.high + 0.05 : limits.low - 0.05;
        struct inphase_motion motion = at(outside);
        struct inphase_measured measured = {outside, NAN, -sign * 5.01};
        struct inphase_limiter limiter;

        limits.effort = 5;
        CHECK(inphase_limiter_make(&limiter, &limits, PERIOD_S) == 0);
        for (int n = 0; n < 2000; n++) {
            inphase_limit(&limiter, &motion, sign > 0 ? limits.low : limits.high, &measured);
            measured.position = motion.position;
        }
        CHECK(fabs(motion.position - (sign > 0 ? limits.high : limits.low)) < 1e-12);
    }
}

/* what is followed smoothly takes a short way, which looks at the joint's effort too */
static void a_joint_that_pushes_too_hard_is_followed_no_further_in_its_direction(void)
{
    const struct inphase_limits *both[] = {&joint, &smooth};

    for (int i = 0; i < 4; i++) {
        struct inphase_limits limits = *both[i % 2];
        double sign = i < 2 ? 1 : -1, before, moved;
        struct inphase_motion motion = at(0);
        struct inphase_measured measured = {NAN, NAN, 0};
        struct inphase_limiter limiter;

        /* up to the bound, and any effort against the motion, change nothing */
        limits.effort = 5;
        CHECK(inphase_limiter_make(&limiter, &limits, PERIOD_S) == 0);
        for (int n = 0; n <= 500; n++) {
            measured.position = motion.position;
            measured.effort = sign * (n % 3 == 0 ? 5 : n % 3 == 1 ? -50 : NAN);
            inphase_limit(&limiter, &motion, sign * rise(n), &measured);
            CHECK(motion.position == sign * rise(n));
        }

        /* beyond it the motion brakes from that very cycle on, while the policy goes on */
        before = motion.position;
        moved = sign * motion.velocity * PERIOD_S;
        for (int n = 501; n < 900; n++) {
            double step;

            measured.effort = sign * 5.01;
            inphase_limit(&limiter, &motion, sign * rise(n), &measured);
            step = sign * (motion.position - before);
            CHECK(step < moved || (step == 0 && moved == 0));
            before = motion.position;
            moved = step;
        }
        CHECK(motion.velocity == 0 && sign * motion.position < rise(600));

        /* and goes on when it has yielded */
        measured.effort = 0;
        for (int n = 0; n < 1000; n++)
            inphase_limit(&limiter, &motion, sign * rise(900), &measured);
        CHECK(motion.position == sign * rise(900));
    }
}

/* the range comes last: a joint that is beyond it draws no goal out of it */
static void a_joint_beyond_its_range_takes_no_goal_out_of_it(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct inphase_motion motion = at(sign * 1.9);

        for (int n = 0; n < 200; n++) {
            limit(&joint, &motion, sign * 3, sign * 2.4, PERIOD_S);
            CHECK(sign * motion.goal <= 2);
        }
        CHECK(motion.position == sign * 2 && motion.velocity == 0);
    }
}

/* where the joint is, and only where that is not known where it was commanded to */
static void a_first_command_begins_where_the_joint_is(void)
{
    struct inphase_motion motion = at(0.5);
    struct inphase_limiter limiter;
    double step = joint.velocity * PERIOD_S;

    CHECK(inphase_limiter_make(&limiter, &joint, PERIOD_S) == 0);
    CHECK(limiter_begins(&limiter, &motion, 0.6, 0.6));
    CHECK(limiter_begins(&limiter, &motion, 0.6 + 0.99 * step, 0.6));
    CHECK(!limiter_begins(&limiter, &motion, 0.6 + 1.01 * step, 0.6));
    CHECK(!limiter_begins(&limiter, &motion, 0.6 - 1.01 * step, 0.6));
    CHECK(!limiter_begins(&limiter, &motion, 0.5, 0.6));
    CHECK(limiter_begins(&limiter, &motion, 0.5, NAN));
    CHECK(!limiter_begins(&limiter, &motion, 0.6, NAN));
    CHECK(!limiter_begins(&limiter, &motion, NAN, 0.6));

    /* the range leads a joint outside of it in by no more than a step */
    CHECK(limiter_begins(&limiter, &motion, joint.high + 0.99 * joint.step,
          joint.high + 0.99 * joint.step));
    CHECK(!limiter_begins(&limiter, &motion, joint.high + 1.01 * joint.step,
          joint.high + 1.01 * joint.step));
    CHECK(limiter_begins(&limiter, &motion, joint.low - 0.99 * joint.step,
          joint.low - 0.99 * joint.step));
    CHECK(!limiter_begins(&limiter, &motion, joint.low - 1.01 * joint.step,
          joint.low - 1.01 * joint.step));
}

/* a request from far away may lead a joint, and none may lead one that is far out of its range */
static void a_command_that_is_approached_begins_anywhere_in_the_range(void)
{
    struct inphase_motion motion = at(0.5);
    struct inphase_limiter limiter;

    CHECK(inphase_limiter_make(&limiter, &joint, PERIOD_S) == 0);
    CHECK(limiter_may_begin(&limiter, &motion, 100, 0.6));
    CHECK(limiter_may_begin(&limiter, &motion, -100, NAN));
    CHECK(!limiter_may_begin(&limiter, &motion, NAN, 0.6));
    CHECK(!limiter_may_begin(&limiter, &motion, INFINITY, 0.6));
    CHECK(limiter_may_begin(&limiter, &motion, 0, joint.high + 0.99 * joint.step));
    CHECK(!limiter_may_begin(&limiter, &motion, 0, joint.high + 1.01 * joint.step));
    CHECK(!limiter_may_begin(&limiter, &motion, 0, joint.low - 1.01 * joint.step));
    motion.position = NAN;
    CHECK(!limiter_may_begin(&limiter, &motion, 0, NAN));
}

/* ---- the ramp -------------------------------------------------------------------------------- */

static void a_ramp_ends_at_rest_within_its_limits(void)
{
    for (int i = 0; i < ROUNDS / 100; i++) {
        struct inphase_limits limits = any_limits();
        double period_s = about(0.0005, 0.02);
        double most_s = limits.velocity / limits.acceleration +
                        (limits.jerk > 0 ? 2 * limits.acceleration / limits.jerk : 0);
        struct inphase_motion motion = {.position = between(limits.low, limits.high),
                                        .velocity = between(-20, 20)};
        int most = (int)(2 * most_s / period_s) + 8, cycles = 0;
        double sign = motion.velocity;

        while (motion.velocity != 0) {
            double before = motion.position, was = fmin(fabs(motion.velocity), limits.velocity);

            ramp(&limits, &motion, period_s);
            CHECK(motion.position >= limits.low && motion.position <= limits.high);
            CHECK(fabs(motion.position - before) <= was * period_s + 1e-12);
            CHECK(fabs(motion.velocity) <= was * (1 + 1e-12));
            CHECK(motion.velocity * sign >= -1e-12);
            CHECK(++cycles <= most);
        }
        sign = motion.position;
        ramp(&limits, &motion, period_s);
        CHECK(motion.position == sign && motion.velocity == 0);
    }
}

static void a_ramp_comes_to_rest_where_it_was_said_to(void)
{
    for (int i = 0; i < ROUNDS / 100; i++) {
        struct inphase_limits limits = any_limits();
        double period_s = about(0.0005, 0.02), said;
        struct inphase_motion motion = {
            .velocity = between(-1, 1) * limits.velocity,
            .acceleration = between(-1, 1) * limits.acceleration,
        };
        struct inphase_limiter limiter;
        bool fits, stays = true;

        /* letting go of an acceleration may take it above what it started with */
        limits.velocity *= 1000;
        inphase_limiter_make(&limiter, &limits, period_s);
        said = limiter_rest(&limiter, &motion);
        fits = limiter_fits(&limiter, &motion);
        limits.low -= 1000;
        limits.high += 1000;
        for (int n = 0; n < 100000 && (motion.velocity != 0 || n == 0); n++) {
            ramp(&limits, &motion, period_s);
            stays &= motion.position >= limits.low + 1000 - 1e-9 &&
                     motion.position <= limits.high - 1000 + 1e-9;
        }
        CHECK(fabs(motion.position - said) < 1e-9 * (1 + fabs(said)));
        CHECK(!fits || stays);
    }
}

/* 20 rad/s^2 take 1 rad/s away within 25 mrad, and 2.5 rad/s within 156 */
static void a_motion_fits_when_its_ramp_stays_in_the_range(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct inphase_motion rests = at(sign * 2), slow = at(sign * 1.9), fast = slow, back = slow;
        struct inphase_motion built = at(sign * 1.9);
        struct inphase_limiter limiter;

        slow.velocity = sign * 1;
        fast.velocity = sign * 2.5;
        back.velocity = sign * -2.5;
        CHECK(inphase_limiter_make(&limiter, &joint, PERIOD_S) == 0);
        CHECK(limiter_fits(&limiter, &rests) && limiter_fits(&limiter, &slow));
        CHECK(limiter_fits(&limiter, &back) && !limiter_fits(&limiter, &fast));

        /* an acceleration that has to be let go of first takes it further */
        built.velocity = sign * 1.7;
        CHECK(inphase_limiter_make(&limiter, &smooth, PERIOD_S) == 0);
        CHECK(limiter_fits(&limiter, &slow));
        built.acceleration = sign * -20;
        CHECK(limiter_fits(&limiter, &built));
        built.acceleration = sign * 20;
        CHECK(!limiter_fits(&limiter, &built));

        /* of limits that are none nothing fits */
        limiter.moves = false;
        CHECK(!limiter_fits(&limiter, &rests));
    }
}

int main(void)
{
    check_seed();
    RUN(the_limiter_and_the_ramp_are_finite_whatever_they_are_given);
    RUN(limits_that_are_none_stand_still);
    RUN(what_is_not_finite_falls_to_the_last_good_value);
    RUN(all_bounds_hold_for_ever_whatever_is_asked_for);
    RUN(it_is_never_further_than_a_step_from_the_joint_unless_it_stands_still);
    RUN(a_ramp_goes_no_further_than_a_step_from_the_joint);
    RUN(near_a_joint_that_stands_it_brakes_in_time);
    RUN(outside_of_the_range_it_comes_back_and_goes_no_further_out);
    RUN(a_request_within_all_bounds_is_applied_as_it_is);
    RUN(a_step_is_reached_exactly_and_never_passed);
    RUN(a_goal_that_moves_is_caught_up_with);
    RUN(a_joint_that_stays_behind_is_led_no_further_than_a_step);
    RUN(a_joint_that_pushes_too_hard_outside_of_its_range_comes_back);
    RUN(a_joint_that_pushes_too_hard_is_followed_no_further_in_its_direction);
    RUN(a_joint_beyond_its_range_takes_no_goal_out_of_it);
    RUN(a_first_command_begins_where_the_joint_is);
    RUN(a_command_that_is_approached_begins_anywhere_in_the_range);
    RUN(a_ramp_ends_at_rest_within_its_limits);
    RUN(a_ramp_comes_to_rest_where_it_was_said_to);
    RUN(a_motion_fits_when_its_ramp_stays_in_the_range);
    return 0;
}
