/* The limiter and the ramp of the other command modes: velocity, effort, switch. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../src/limiter.h"
#include "check.h"
#include "doubles.h"

#define ROUNDS 200000
#define SLACK 1e-7 /* what rounding may add to a bound */

static const struct inphase_measured unknown = {NAN, NAN, NAN};

/* ---- whatever they are given ------------------------------------------------------------- */

static void what_is_applied_is_finite_and_in_range_whatever_they_are_given(void)
{
    for (int i = 0; i < 5 * ROUNDS; i++) {
        struct inphase_limits limits = {
            .low = any_double(), .high = any_double(), .velocity = any_double(),
            .acceleration = any_double(), .jerk = any_double(), .effort = any_double(),
            .rate = any_double(), .safe = any_double(), .dwell_s = any_double(),
            .mode = INPHASE_MODE_VELOCITY + (uint32_t)(check_random() % 4),
        };
        struct inphase_motion motion = {
            any_double(), any_double(), any_double(), any_double(),
            any_double(), any_double(), any_double(),
        };
        struct inphase_measured measured = {any_double(), any_double(), any_double()};
        struct inphase_limiter limiter;
        bool holds = inphase_limiter_make(&limiter, &limits, any_double()) == 0;
        double applied;

        if (check_random() % 4)
            inphase_limit(&limiter, &motion, any_double(), &measured);
        else
            inphase_ramp(&limiter, &motion, &unknown);
        applied = limiter_applied(&limiter, &motion);
        CHECK(isfinite(applied));
        if (limits.mode == INPHASE_MODE_VELOCITY)
            CHECK(holds ? fabs(applied) <= limits.velocity : applied == 0);
        else if (limits.mode == INPHASE_MODE_EFFORT)
            CHECK(holds ? fabs(applied) <= limits.effort : applied == 0);
        else
            CHECK(applied == 0 || applied == 1);
    }
}

/* ---- velocity ------------------------------------------------------------------------------ */

static struct inphase_limits any_velocity_limits(void)
{
    struct inphase_limits limits = {
        .low = -INFINITY, .high = INFINITY, .velocity = about(0.1, 10),
        .acceleration = about(0.5, 200), .mode = INPHASE_MODE_VELOCITY,
    };

    if (check_random() % 2)
        limits.jerk = limits.acceleration * about(3, 3000);
    return limits;
}

struct asker {
    int mode;
    double requested, phase, rate;
};

static double ask(struct asker *asker, double most, double applied)
{
    if (check_random() % 200 == 0) {
        asker->mode = (int)(check_random() % 6);
        asker->rate = about(0.001, 1);
    }
    switch (asker->mode) {
    case 0:
        if (check_random() % 50 == 0)
            asker->requested = between(-most, most);
        return asker->requested;
    case 1:
        return asker->requested = 0.9 * most * sin(asker->phase += asker->rate);
    case 2:
        return asker->requested = applied + 0.1 * between(-most, most);
    case 3:
        return asker->requested = check_random() % 2 ? most : -most;
    case 4:
        return asker->requested = check_random() % 100 ? most : between(-most, most);
    default:
        return any_double();
    }
}

/* a joint that does what it is told */
static void all_bounds_hold_for_ever_and_the_joint_stays_in_its_range(void)
{
    for (int i = 0; i < ROUNDS / 200; i++) {
        struct inphase_limits limits = any_velocity_limits();
        double t = about(0.0002, 0.02), position = 0, velocity = 0, acceleration = 0;
        bool is_bounded = check_random() % 2;
        struct asker asker = {0};
        struct inphase_motion motion = {0};
        struct inphase_limiter limiter;

        if (is_bounded) {
            limits.low = -about(0.01, 3);
            limits.high = about(0.01, 3);
        }
        CHECK(inphase_limiter_make(&limiter, &limits, t) == 0);
        for (int n = 0; n < 2000; n++) {
            struct inphase_measured measured = {position, NAN, NAN};
            double slack = 1e-12 * limits.velocity, a, j;

            if (check_random() % 500 == 0)
                for (int k = 0; k < 10; k++)
                    asker.requested = NAN;
            inphase_limit(&limiter, &motion, ask(&asker, limits.velocity, motion.velocity),
                          &measured);
            a = motion.velocity - velocity;
            j = a - acceleration;
            CHECK(fabs(motion.velocity) <= limits.velocity);
            CHECK(fabs(a) <= limits.acceleration * t * (1 + SLACK) + slack);
            if (limits.jerk > 0)
                CHECK(fabs(j) <= limits.jerk * t * t * (1 + SLACK) + 2 * slack);
            velocity = motion.velocity;
            acceleration = a;
            position += velocity * t;
            if (is_bounded)
                CHECK(position <= limits.high + 1e-9 && position >= limits.low - 1e-9);
        }
    }
}

static void a_request_within_all_bounds_is_applied_as_it_is(void)
{
    struct inphase_limits limits = {.low = -1, .high = 1, .velocity = 2, .acceleration = 20,
                                    .jerk = 400, .mode = INPHASE_MODE_VELOCITY};
    struct inphase_motion motion = {0};
    struct inphase_limiter limiter;
    double position = 0;

    CHECK(inphase_limiter_make(&limiter, &limits, 0.002) == 0);
    for (int n = 0; n < 5000; n++) {
        struct inphase_measured measured = {position, NAN, NAN};
        double requested = 0.8 * sin(0.01 * n) * fmin(1, n / 1000.0);

        inphase_limit(&limiter, &motion, requested, &measured);
        CHECK(motion.velocity == requested);
        position += 0.002 * requested;
    }
}

static void a_step_is_reached_and_never_passed(void)
{
    for (int i = 0; i < ROUNDS / 20; i++) {
        struct inphase_limits limits = any_velocity_limits();
        double t = about(0.0005, 0.02), goal = between(-1, 1) * limits.velocity;
        double most_s = fabs(goal) / limits.acceleration +
                        (limits.jerk > 0 ? 2 * limits.acceleration / limits.jerk : 0);
        struct inphase_motion motion = {0};
        struct inphase_limiter limiter;

        CHECK(inphase_limiter_make(&limiter, &limits, t) == 0);
        for (int n = 0; n < most_s / t + 5; n++) {
            inphase_limit(&limiter, &motion, goal, &unknown);
            CHECK(fabs(motion.velocity) <= fabs(goal) * (1 + 1e-12));
            CHECK(motion.velocity * goal >= 0);
        }
        CHECK(fabs(motion.velocity - goal) <= 1e-9 * limits.velocity);
    }
}

static void a_goal_that_changes_is_caught_up_with(void)
{
    struct inphase_limits limits = {.low = -INFINITY, .high = INFINITY, .velocity = 2,
                                    .acceleration = 20, .jerk = 400,
                                    .mode = INPHASE_MODE_VELOCITY};
    struct inphase_motion motion = {0};
    struct inphase_limiter limiter;
    int caught = 0;

    CHECK(inphase_limiter_make(&limiter, &limits, 0.002) == 0);
    for (int n = 0; n < 2000; n++) {
        double requested = 1 + 0.5 * sin(0.01 * n);

        inphase_limit(&limiter, &motion, requested, &unknown);
        caught = motion.velocity == requested ? caught + 1 : 0;
    }
    CHECK(caught > 1500);
}

static void a_ramp_ends_at_rest(void)
{
    for (int i = 0; i < ROUNDS / 20; i++) {
        struct inphase_limits limits = any_velocity_limits();
        double t = about(0.0005, 0.02);
        double most_s = limits.velocity / limits.acceleration +
                        (limits.jerk > 0 ? 2 * limits.acceleration / limits.jerk : 0);
        struct inphase_motion motion = {.velocity = between(-1, 1) * limits.velocity};
        struct inphase_limiter limiter;

        CHECK(inphase_limiter_make(&limiter, &limits, t) == 0);
        for (int n = 0; n < most_s / t + 5; n++) {
            double before = motion.velocity;

            inphase_ramp(&limiter, &motion, &unknown);
            CHECK(fabs(motion.velocity) <= fabs(before) + 1e-12);
            CHECK(fabs(motion.velocity - before) <= limits.acceleration * t * (1 + SLACK) + 1e-12);
        }
        CHECK(motion.velocity == 0 && limiter_rests(&limiter, &motion));
    }
}

static void without_its_position_a_bounded_joint_ramps(void)
{
    struct inphase_limits limits = {.low = -1, .high = 1, .velocity = 2, .acceleration = 20,
                                    .mode = INPHASE_MODE_VELOCITY};
    struct inphase_motion motion = {.velocity = 1, .goal = 1};
    struct inphase_limiter limiter;

    CHECK(inphase_limiter_make(&limiter, &limits, 0.01) == 0);
    for (int n = 0; n < 10; n++)
        inphase_limit(&limiter, &motion, 1, &unknown);
    CHECK(motion.velocity == 0);
}

static void what_is_not_finite_falls_to_the_last_good_value(void)
{
    struct inphase_limits limits = {.low = -INFINITY, .high = INFINITY, .velocity = 2,
                                    .acceleration = 20, .mode = INPHASE_MODE_VELOCITY};
    struct inphase_motion motion = {0};
    struct inphase_limiter limiter;

    CHECK(inphase_limiter_make(&limiter, &limits, 0.01) == 0);
    inphase_limit(&limiter, &motion, 1, &unknown);
    for (int n = 0; n < 10; n++)
        inphase_limit(&limiter, &motion, n % 2 ? NAN : INFINITY, &unknown);
    CHECK(motion.velocity == 1);
}

static void outside_of_its_range_a_joint_comes_back_and_goes_no_further_out(void)
{
    struct inphase_limits limits = {.low = -1, .high = 1, .velocity = 2, .acceleration = 20,
                                    .mode = INPHASE_MODE_VELOCITY};
    struct inphase_measured measured = {1.5, NAN, NAN};
    struct inphase_motion motion = {0};
    struct inphase_limiter limiter;

    CHECK(inphase_limiter_make(&limiter, &limits, 0.01) == 0);
    inphase_limit(&limiter, &motion, 0.1, &measured);
    CHECK(motion.velocity == 0);
    inphase_limit(&limiter, &motion, -0.1, &measured);
    CHECK(motion.velocity == -0.1);
}

/* ---- effort -------------------------------------------------------------------------------- */

static struct inphase_limits any_effort_limits(void)
{
    struct inphase_limits limits = {
        .low = -INFINITY, .high = INFINITY, .velocity = INFINITY, .effort = about(0.1, 10),
        .rate = about(1, 1000), .mode = INPHASE_MODE_EFFORT,
    };

    limits.safe = between(-0.5, 0.5) * limits.effort;
    if (check_random() % 2)
        limits.velocity = about(0.1, 10);
    if (check_random() % 2) {
        limits.low = -1;
        limits.high = 1;
    }
    return limits;
}

static void an_effort_is_within_range_and_rate_and_takes_no_joint_further_than_it_may(void)
{
    for (int i = 0; i < ROUNDS / 200; i++) {
        struct inphase_limits limits = any_effort_limits();
        double t = about(0.0002, 0.02);
        struct asker asker = {0};
        struct inphase_limiter limiter;
        struct inphase_motion motion;

        CHECK(inphase_limiter_make(&limiter, &limits, t) == 0);
        limiter_place(&limiter, &motion, 0);
        CHECK(motion.effort == limits.safe);
        for (int n = 0; n < 2000; n++) {
            double v = check_random() % 20 ? between(-11, 11) : NAN;
            double p = check_random() % 20 ? between(-2, 2) : NAN;
            struct inphase_measured measured = {p, v, NAN};
            double before = motion.effort;
            bool is_up = v > limits.velocity || p > limits.high || isnan(v) || isnan(p);
            bool is_down = v < -limits.velocity || p < limits.low || isnan(v) || isnan(p);

            inphase_limit(&limiter, &motion, ask(&asker, limits.effort, before), &measured);
            CHECK(fabs(motion.effort) <= limits.effort);
            CHECK(fabs(motion.effort - before) <= limits.rate * t * (1 + 1e-12) + 1e-15);
            if (isnan(v) && limits.velocity == INFINITY)
                is_up = is_down = false;
            if (is_up && limits.velocity < INFINITY && limits.high < INFINITY)
                CHECK(motion.effort <= limits.safe || motion.effort < before);
            if (is_down && limits.velocity < INFINITY && limits.high < INFINITY)
                CHECK(motion.effort >= limits.safe || motion.effort > before);
        }
        for (int n = 0; n < 2 * limits.effort / (limits.rate * t) + 2; n++)
            inphase_ramp(&limiter, &motion, &unknown);
        CHECK(motion.effort == limits.safe && limiter_rests(&limiter, &motion));
    }
}

/* what was applied before is not known: it begins where a ramp ends */
static void an_effort_that_is_not_known_begins_at_the_safe_one(void)
{
    for (int i = 0; i < 1000; i++) {
        struct inphase_limits limits = any_effort_limits();
        struct inphase_limiter limiter;
        struct inphase_motion motion = {.effort = NAN, .goal = NAN};

        CHECK(inphase_limiter_make(&limiter, &limits, 0.002) == 0);
        inphase_ramp(&limiter, &motion, &unknown);
        CHECK(motion.effort == limits.safe);
    }
}

static void an_effort_within_all_bounds_is_applied_as_it_is(void)
{
    struct inphase_limits limits = {.low = -1, .high = 1, .velocity = 3, .effort = 2, .rate = 100,
                                    .mode = INPHASE_MODE_EFFORT};
    struct inphase_measured measured = {0.5, -2, NAN};
    struct inphase_motion motion = {0};
    struct inphase_limiter limiter;

    CHECK(inphase_limiter_make(&limiter, &limits, 0.002) == 0);
    for (int n = 0; n < 1000; n++) {
        double requested = 1.9 * sin(0.02 * n);

        inphase_limit(&limiter, &motion, requested, &measured);
        CHECK(motion.effort == requested);
    }
}

/* ---- switch -------------------------------------------------------------------------------- */

static void a_switch_changes_no_sooner_than_it_may_and_ramps_to_its_state(void)
{
    struct inphase_limits limits = {.dwell_s = 0.01, .safe = 1, .mode = INPHASE_MODE_SWITCH};
    struct inphase_limiter limiter;
    struct inphase_motion motion;
    int changed = 0;

    CHECK(inphase_limiter_make(&limiter, &limits, 0.002) == 0);
    limiter_place(&limiter, &motion, 0);
    CHECK(motion.state == 1);
    for (int n = 1; n < 100000; n++) {
        double before = motion.state;

        inphase_limit(&limiter, &motion, any_double(), &unknown);
        if (motion.state != before) {
            CHECK(n - changed >= 5);
            changed = n;
        }
    }
    for (int n = 0; n < 10; n++)
        inphase_limit(&limiter, &motion, n < 5 ? 0 : NAN, &unknown);
    CHECK(motion.state == 0);
    for (int n = 0; n < 5; n++)
        inphase_ramp(&limiter, &motion, &unknown);
    CHECK(motion.state == 1 && limiter_rests(&limiter, &motion));
}

/* ---- position mode and a measured effort ----------------------------------------------------- */

static void a_joint_that_pushes_too_hard_is_sent_no_further(void)
{
    struct inphase_limits limits = {.low = -2, .high = 2, .velocity = 1, .acceleration = 20,
                                    .step = 1, .effort = 5};
    struct inphase_measured measured = {0, NAN, 0};
    struct inphase_motion motion = {0};
    struct inphase_limiter limiter;
    double before = 0;

    /* a wall at 0.1 with 50 N m per rad of command behind it */
    CHECK(inphase_limiter_make(&limiter, &limits, 0.002) == 0);
    for (int n = 0; n < 2000; n++) {
        measured.position = fmin(motion.position, 0.1);
        measured.effort = 50 * fmax(0, motion.position - 0.1);
        inphase_limit(&limiter, &motion, 1.5, &measured);
        before = motion.position;
    }
    CHECK(before > 0.2 - 0.001 && before < 0.2 + 0.03);

    /* away from it without delay */
    inphase_limit(&limiter, &motion, 0.0, &measured);
    CHECK(motion.position < before);
}

int main(void)
{
    check_seed();
    RUN(what_is_applied_is_finite_and_in_range_whatever_they_are_given);
    RUN(all_bounds_hold_for_ever_and_the_joint_stays_in_its_range);
    RUN(a_request_within_all_bounds_is_applied_as_it_is);
    RUN(a_step_is_reached_and_never_passed);
    RUN(a_goal_that_changes_is_caught_up_with);
    RUN(a_ramp_ends_at_rest);
    RUN(without_its_position_a_bounded_joint_ramps);
    RUN(what_is_not_finite_falls_to_the_last_good_value);
    RUN(outside_of_its_range_a_joint_comes_back_and_goes_no_further_out);
    RUN(an_effort_is_within_range_and_rate_and_takes_no_joint_further_than_it_may);
    RUN(an_effort_that_is_not_known_begins_at_the_safe_one);
    RUN(an_effort_within_all_bounds_is_applied_as_it_is);
    RUN(a_switch_changes_no_sooner_than_it_may_and_ramps_to_its_state);
    RUN(a_joint_that_pushes_too_hard_is_sent_no_further);
    return 0;
}
