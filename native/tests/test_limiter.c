/* The limiter and the ramp: total over all doubles, and inside their limits for any sane limits. */
#include <math.h>
#include <string.h>

#include "../src/internal.h"
#include "check.h"

#define ROUNDS 1000000

static const struct inphase_limits joint = {-2, 2, 3, 20, 0.25};

/* values at which something is different, besides ordinary ones of every magnitude */
static double any_double(void)
{
    static const double odd[] = {
        0,        -0.0,        1,         -1,          NAN,       INFINITY,
        -INFINITY, 0x1p-1074,  -0x1p-1074, 0x1p-1022,  0x1.fffffffffffffp1023,
        -0x1.fffffffffffffp1023, 1e300,  -1e300,       0.001,     1e-9,
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

static double between(double low, double high)
{
    return low + (high - low) * ((double)(check_random() >> 11) * 0x1p-53);
}

static void the_limiter_is_finite_whatever_it_is_given(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct inphase_limits limits = {any_double(), any_double(), any_double(), any_double(),
                                        any_double()};
        double applied = any_double(), period_s = any_double();
        double result = inphase_limit(&limits, any_double(), applied, any_double(), period_s);
        double reach = limits.velocity * period_s;

        if (!isfinite(applied))
            continue;
        CHECK(isfinite(result));

        /* a reach that is no distance is no reach */
        if (!(reach >= 0))
            reach = 0;
        CHECK(result <= applied + reach && result >= applied - reach);
        if (applied >= limits.low && applied <= limits.high)
            CHECK(result >= limits.low && result <= limits.high);
    }
}

static void the_limiter_obeys_what_is_allowed(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        double period_s = 0.002;
        double measured = between(-1.7, 1.7), applied = measured + between(-0.1, 0.1);
        double requested = applied + between(-0.006, 0.006);
        double result = inphase_limit(&joint, requested, applied, measured, period_s);

        CHECK(result == requested);
        CHECK(fabs(inphase_limit(&joint, any_double(), applied, measured, period_s) - measured) <=
              joint.step + 1e-12);
    }

    /* nothing asked for: stay; outside of the range: back at the allowed velocity */
    CHECK(inphase_limit(&joint, NAN, 0.5, NAN, 0.002) == 0.5);
    CHECK(inphase_limit(&joint, INFINITY, 0.5, NAN, 0.002) == 0.5);
    CHECK(inphase_limit(&joint, 9, 2.5, NAN, 0.002) == 2.5 - 3 * 0.002);
}

static void the_ramp_is_finite_whatever_it_is_given(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct inphase_limits limits = {any_double(), any_double(), any_double(), any_double(),
                                        any_double()};
        double applied = any_double(), velocity = any_double();
        double result;

        if (!isfinite(applied))
            continue;
        result = inphase_ramp(&limits, applied, &velocity, any_double());
        CHECK(isfinite(result));
        CHECK(isfinite(velocity));
    }
}

static void a_ramp_ends_at_rest_within_its_limits(void)
{
    for (int i = 0; i < ROUNDS / 100; i++) {
        struct inphase_limits limits = {between(-3, -1), between(1, 3), between(0.1, 10),
                                        between(0.5, 100), 1};
        double period_s = between(0.0005, 0.02);
        double position = between(limits.low, limits.high);
        double velocity = between(-20, 20);
        double sign = velocity;
        int most = (int)(limits.velocity / (limits.acceleration * period_s)) + 2;
        int cycles = 0;

        while (velocity != 0) {
            double before = position, was = fmin(fabs(velocity), limits.velocity);

            position = inphase_ramp(&limits, position, &velocity, period_s);
            CHECK(position >= limits.low && position <= limits.high);
            CHECK(fabs(position - before) <= was * period_s + 1e-12);
            CHECK(fabs(velocity) < was || velocity == 0);
            CHECK(velocity * sign >= 0);
            CHECK(++cycles <= most);
        }
        CHECK(inphase_ramp(&limits, position, &velocity, period_s) == position);
        CHECK(velocity == 0);
    }
}

static void a_ramp_outside_of_the_range_never_goes_further_out(void)
{
    double velocity = 1, position;

    position = inphase_ramp(&joint, 2.5, &velocity, 0.002);
    CHECK(position == 2.5 && velocity == 0);
    velocity = -1;
    position = inphase_ramp(&joint, 2.5, &velocity, 0.002);
    CHECK(position < 2.5 && velocity < 0);
}

int main(void)
{
    check_seed();
    RUN(the_limiter_is_finite_whatever_it_is_given);
    RUN(the_limiter_obeys_what_is_allowed);
    RUN(the_ramp_is_finite_whatever_it_is_given);
    RUN(a_ramp_ends_at_rest_within_its_limits);
    RUN(a_ramp_outside_of_the_range_never_goes_further_out);
    return 0;
}
