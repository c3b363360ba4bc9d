/* The tool's point, and the box that it stays in. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../src/actuator.h"
#include "../src/workspace.h"
#include "check.h"
#include "doubles.h"

#define PERIOD_S 0.002
#define ROUNDS 200
#define JOINTS 6

static const double pi = 3.14159265358979323846;

static void sine_and_cosine_are_those_of_the_angle(void)
{
    static const double none[] = {NAN, INFINITY, -INFINITY, 0x1.00001p20, -1e300};
    double s, c;

    for (int i = 0; i < 1000000; i++) {
        double angle = between(-1, 1) * (i % 2 ? 4 : 0x1p20);

        inphase_sine_cosine(angle, &s, &c);
        CHECK(fabs(s - sin(angle)) <= 4e-16 && fabs(c - cos(angle)) <= 4e-16);
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        inphase_sine_cosine(none[i], &s, &c);
        CHECK(isnan(s) && isnan(c));
    }
    inphase_sine_cosine(0, &s, &c);
    CHECK(s == 0 && c == 1);
}

/* a planar arm of two links of 1 m and 0.5 m, and a slide at its end, which points down */
static const struct inphase_joint planar[3] = {
    {{0, 0, 0.2}, {0, 0, 1}, 0}, {{1, 0, 0}, {0, 0, 1}, 0}, {{0.5, 0, 0}, {0, 0, -1}, 1}};

static void the_tool_is_where_trigonometry_says(void)
{
    struct inphase_workspace workspace = {planar, 3, {0, 0, -0.1}, {-9, -9, -9}, {9, 9, 9}};

    for (int i = 0; i < 10000; i++) {
        double q[3] = {between(-7, 7), between(-7, 7), between(-0.5, 0.5)}, point[3];

        inphase_tool_point(&workspace, q, point);
        CHECK(fabs(point[0] - cos(q[0]) - 0.5 * cos(q[0] + q[1])) < 1e-14);
        CHECK(fabs(point[1] - sin(q[0]) - 0.5 * sin(q[0] + q[1])) < 1e-14);
        CHECK(fabs(point[2] - (0.2 - q[2] - 0.1)) < 1e-14);
    }
}

/* turning about axes that are not the frame's: a full turn about (1, 1, 1) in three parts */
static void an_axis_may_point_anywhere(void)
{
    const double a = 1 / sqrt(3);
    const struct inphase_joint joint = {{0, 0, 0}, {a, a, a}, 0};
    struct inphase_workspace workspace = {&joint, 1, {1, 2, 3}, {-9, -9, -9}, {9, 9, 9}};
    double q = 2 * pi / 3, point[3];

    inphase_tool_point(&workspace, &q, point);
    CHECK(fabs(point[0] - 3) < 1e-14 && fabs(point[1] - 1) < 1e-14 && fabs(point[2] - 2) < 1e-14);
}

/* ---- the box ------------------------------------------------------------------------------- */

struct arm {
    struct actuator actuator;
    struct inphase_workspace *workspace;
};

static void make_arm(struct arm *arm, double jerk)
{
    struct actuator *actuator = &arm->actuator;

    memset(arm, 0, sizeof *arm);
    actuator->channels = JOINTS;
    arm->workspace = &actuator->workspace;
    arm->workspace->joints = JOINTS - 1; /* the last channel is a gripper */
    arm->workspace->joint = actuator->joint;
    for (int i = 0; i < JOINTS; i++) {
        struct inphase_limits limits = {.low = -2.5, .high = 2.5, .velocity = 2,
                                        .acceleration = 20, .step = 0.2, .jerk = jerk};

        inphase_limiter_make(&actuator->limiter[i], &limits, PERIOD_S);
        actuator->joint[i] = (struct inphase_joint){{0, 0, i ? 0.2 : 0.1}, {0, 0, 0}, 0};
        actuator->joint[i].axis[i == 0 ? 2 : 1] = 1;
        actuator->motion[i] = (struct inphase_motion){.position = i == 1 ? 0.5 : 0.3};
        actuator->motion[i].goal = actuator->motion[i].position;
    }
    arm->workspace->tool[2] = 0.1;
}

static void tool_of(const struct arm *arm, double point[3])
{
    double q[JOINTS];

    for (int i = 0; i < JOINTS; i++)
        q[i] = arm->actuator.motion[i].position;
    inphase_tool_point(arm->workspace, q, point);
}

static double furthest_out(const struct inphase_workspace *workspace, const double point[3])
{
    double out = 0;

    for (int axis = 0; axis < 3; axis++)
        out = fmax(out, fmax(workspace->low[axis] - point[axis],
                             point[axis] - workspace->high[axis]));
    return out;
}

static void box_around(struct arm *arm, double size)
{
    double point[3];

    tool_of(arm, point);
    for (int axis = 0; axis < 3; axis++) {
        arm->workspace->low[axis] = point[axis] - between(0.001, size);
        arm->workspace->high[axis] = point[axis] + between(0.001, size);
    }
}

/* one cycle of what the core does: each joint, then the box */
static uint32_t step(struct arm *arm, const double *requested)
{
    static const struct inphase_measured unknown = {NAN, NAN, NAN};
    struct inphase_motion from[JOINTS];
    struct actuator *actuator = &arm->actuator;

    memcpy(from, actuator->motion, sizeof from);
    for (int i = 0; i < JOINTS; i++)
        if (requested)
            inphase_limit(&actuator->limiter[i], &actuator->motion[i], requested[i], &unknown);
        else
            inphase_ramp(&actuator->limiter[i], &actuator->motion[i], &unknown);
    return workspace_hold(actuator, from, actuator->motion);
}

static void the_tool_never_leaves_the_box_whatever_is_asked_for(void)
{
    int held = 0, hard = 0, cycles = 0;

    for (int round = 0; round < ROUNDS; round++) {
        struct arm arm;
        double requested[JOINTS], point[3], velocity[JOINTS] = {0};
        double jerk = round % 2 ? 500 : 0;

        make_arm(&arm, jerk);
        box_around(&arm, 0.3);
        for (int n = 0; n < 1000; n++) {
            bool ramps = check_random() % 50 == 0;
            bool broken = false;

            if (n % 100 == 0)
                for (int i = 0; i < JOINTS; i++)
                    requested[i] = between(-3, 3);
            held += step(&arm, ramps ? NULL : requested) < 3;
            tool_of(&arm, point);
            CHECK(furthest_out(arm.workspace, point) <= 1e-12);
            for (int i = 0; i < JOINTS; i++) {
                const struct inphase_motion *m = &arm.actuator.motion[i];

                CHECK(fabs(m->position) <= 2.5 && fabs(m->velocity) <= 2 + 1e-9);
                broken |= fabs(m->velocity - velocity[i]) > 20 * PERIOD_S + 1e-9;
                velocity[i] = m->velocity;
            }
            hard += broken;
            cycles++;
        }
    }

    /* it brakes before the walls; halts harder than that are the exception */
    printf("    %d cycles: held back in %d, harder than the limits in %d\n", cycles, held, hard);
    CHECK(held > cycles / 10 && hard < cycles / 100);
}

static void what_stays_in_the_box_is_left_alone(void)
{
    struct arm arm, free;
    double requested[JOINTS];

    make_arm(&arm, 0);
    make_arm(&free, 0);
    free.workspace->joints = 0;
    for (int axis = 0; axis < 3; axis++) {
        arm.workspace->low[axis] = -2;
        arm.workspace->high[axis] = 2;
    }
    for (int n = 0; n < 2000; n++) {
        if (n % 100 == 0)
            for (int i = 0; i < JOINTS; i++)
                requested[i] = between(-3, 3);
        CHECK_EQUAL(step(&arm, requested), 3);
        CHECK_EQUAL(step(&free, requested), 3);
        CHECK(memcmp(arm.actuator.motion, free.actuator.motion, sizeof arm.actuator.motion) == 0);
    }
}

static void a_tool_that_is_outside_comes_back_and_goes_no_further_out(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct arm arm;
        double requested[JOINTS], point[3], out;

        make_arm(&arm, 0);
        tool_of(&arm, point);
        for (int axis = 0; axis < 3; axis++) {
            arm.workspace->low[axis] = point[axis] - 0.3;
            arm.workspace->high[axis] = point[axis] + 0.3;
        }
        arm.workspace->high[round % 3] = point[round % 3] - 0.05;
        out = furthest_out(arm.workspace, point);
        for (int n = 0; n < 500; n++) {
            if (n % 50 == 0)
                for (int i = 0; i < JOINTS; i++)
                    requested[i] = between(-3, 3);
            step(&arm, requested);
            tool_of(&arm, point);
            CHECK(furthest_out(arm.workspace, point) <= out + 1e-12);
            out = fmin(out, furthest_out(arm.workspace, point));
        }
    }
}

static void the_gripper_is_not_held_back(void)
{
    struct arm arm;
    double requested[JOINTS] = {3, 3, 3, 3, 3, -1};

    make_arm(&arm, 0);
    box_around(&arm, 0.002);
    for (int n = 0; n < 1000; n++)
        step(&arm, requested);
    CHECK(arm.actuator.motion[JOINTS - 1].position == -1);
    CHECK(fabs(arm.actuator.motion[0].position) < 0.4);
}

int main(void)
{
    check_seed();
    RUN(sine_and_cosine_are_those_of_the_angle);
    RUN(the_tool_is_where_trigonometry_says);
    RUN(an_axis_may_point_anywhere);
    RUN(the_tool_never_leaves_the_box_whatever_is_asked_for);
    RUN(what_stays_in_the_box_is_left_alone);
    RUN(a_tool_that_is_outside_comes_back_and_goes_no_further_out);
    RUN(the_gripper_is_not_held_back);
    return 0;
}
