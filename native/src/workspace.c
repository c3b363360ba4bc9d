/* The box of an actuator's tool. The limiter's motion of all joints is held back together, until
   the tool is inside the box now and at the end of the ramp from there. Cycle thread. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "actuator.h"
#include "limiter.h"
#include "workspace.h"

#define HALVINGS 6

struct box {
    const struct inphase_workspace *workspace;
    double low[3], high[3];
};

/* the axis along which the tool is outside; 3: it is inside */
static uint32_t outside(const struct box *box, const double *positions)
{
    double point[3];

    inphase_tool_point(box->workspace, positions, point);
    for (uint32_t axis = 0; axis < 3; axis++)
        if (!(point[axis] >= box->low[axis] && point[axis] <= box->high[axis]))
            return axis;
    return 3;
}

/* a tool that is outside goes no further out */
static void load_box(struct box *box, const struct inphase_workspace *workspace,
                     const struct inphase_motion *from)
{
    double positions[INPHASE_MAX_CHANNELS], here[3];

    for (uint32_t c = 0; c < workspace->joints; c++)
        positions[c] = from[c].position;
    inphase_tool_point(workspace, positions, here);
    box->workspace = workspace;
    for (int axis = 0; axis < 3; axis++) {
        double low = workspace->low[axis], high = workspace->high[axis];

        box->low[axis] = here[axis] < low ? here[axis] : low;
        box->high[axis] = here[axis] > high ? here[axis] : high;
    }
}

/* the axis along which the tool is outside, now or at the end of the ramp; 3: none */
static uint32_t leaves(const struct box *box, const struct actuator *actuator,
                       const struct inphase_motion *motion)
{
    double positions[INPHASE_MAX_CHANNELS];
    uint32_t axis;

    for (uint32_t c = 0; c < box->workspace->joints; c++)
        positions[c] = motion[c].position;
    axis = outside(box, positions);
    if (axis < 3)
        return axis;
    for (uint32_t c = 0; c < box->workspace->joints; c++)
        positions[c] = limiter_rest(&actuator->limiter[c], &motion[c]);
    return outside(box, positions);
}

/* a share of the way from the ramp to the allowed motion: velocity, acceleration and jerk stay
   legal, as both ends are; false: a joint would leave its range */
static bool mix(const struct actuator *actuator, const struct inphase_motion *ramp,
                const struct inphase_motion *allowed, double share,
                struct inphase_motion *out)
{
    for (uint32_t c = 0; c < actuator->workspace.joints; c++) {
        out[c].position = ramp[c].position + share * (allowed[c].position - ramp[c].position);
        out[c].velocity = ramp[c].velocity + share * (allowed[c].velocity - ramp[c].velocity);
        out[c].acceleration =
            ramp[c].acceleration + share * (allowed[c].acceleration - ramp[c].acceleration);
        out[c].goal = allowed[c].goal;
        if (!limiter_fits(&actuator->limiter[c], &out[c]))
            return false;
    }
    return true;
}

/* no ramp keeps the tool inside: apply a part of its next step, and rest there */
static void halt(const struct box *box, const struct inphase_motion *from,
                 const struct inphase_motion *ramp, struct inphase_motion *out)
{
    uint32_t joints = box->workspace->joints;
    double positions[INPHASE_MAX_CHANNELS], share = 1;

    for (int i = 0; i <= HALVINGS; i++, share /= 2) {
        for (uint32_t c = 0; c < joints; c++)
            positions[c] = from[c].position + share * (ramp[c].position - from[c].position);
        if (outside(box, positions) == 3)
            break;
        if (i == HALVINGS)
            share = 0;
    }
    for (uint32_t c = 0; c < joints; c++) {
        double moved = share * (ramp[c].position - from[c].position);

        out[c].position = from[c].position + moved;
        out[c].velocity = share == 1 ? ramp[c].velocity : 0;
        out[c].acceleration = share == 1 ? ramp[c].acceleration : 0;
    }
}

uint32_t workspace_hold(const struct actuator *actuator, const struct inphase_motion *from,
                        struct inphase_motion *motion)
{
    static const struct inphase_measured unknown = {NAN, NAN, NAN};
    struct inphase_motion ramp[INPHASE_MAX_CHANNELS], mixed[INPHASE_MAX_CHANNELS];
    uint32_t joints = actuator->workspace.joints, axis;
    struct box box;
    double share = 1;

    if (joints == 0)
        return 3;
    load_box(&box, &actuator->workspace, from);
    axis = leaves(&box, actuator, motion);
    if (axis == 3)
        return 3;
    memcpy(ramp, from, joints * sizeof *ramp);
    for (uint32_t c = 0; c < joints; c++) {
        double allowed = fabs(motion[c].position - from[c].position);

        /* a joint that already moves less than its ramp does not move more for the box */
        inphase_ramp(&actuator->limiter[c], &ramp[c], &unknown);
        if (allowed < fabs(ramp[c].position - from[c].position))
            ramp[c] = motion[c];
    }
    for (int i = 0; i <= HALVINGS; i++) {
        share = i == HALVINGS ? 0 : share / 2;
        if (mix(actuator, ramp, motion, share, mixed) &&
            leaves(&box, actuator, mixed) == 3) {
            memcpy(motion, mixed, joints * sizeof *motion);
            return axis;
        }
    }
    halt(&box, from, ramp, motion);
    return axis;
}
