/* The tool's point of a chain of joints. Pure functions. Sine and cosine are polynomials of + - *
   /, because those of C libraries differ. */
#include <math.h>
#include <stdint.h>

#include "../inphase.h"

#define ANGLE_MAX 0x1p20 /* rad; the reduction below is exact enough up to there */

/* pi / 2 in two parts: products of the first with whole numbers up to 2^20 are exact */
static const double half_pi = 0x1.921fb544p0, half_pi_rest = 0x1.0b4611a626331p-34;

void inphase_sine_cosine(double angle, double *sine, double *cosine)
{
    double turns = floor(angle / half_pi + 0.5);
    double x = (angle - turns * half_pi) - turns * half_pi_rest, y = x * x;
    int quarter = 0;
    double s, c;

    *sine = *cosine = NAN;
    if (!(angle >= -ANGLE_MAX && angle <= ANGLE_MAX))
        return;
    quarter = (int)(turns - 4 * floor(turns / 4));

    /* Taylor's series; |x| is at most pi / 4, the next terms are 5e-17 and 2e-18 */
    s = x + x * y * (-1.0 / 6 + y * (1.0 / 120 + y * (-1.0 / 5040 + y * (1.0 / 362880 +
        y * (-1.0 / 39916800 + y * (1.0 / 6227020800 - y / 1307674368000))))));
    c = 1 - y / 2 + y * y * (1.0 / 24 + y * (-1.0 / 720 + y * (1.0 / 40320 + y * (-1.0 / 3628800 +
        y * (1.0 / 479001600 + y * (-1.0 / 87178291200 + y / 20922789888000))))));
    *sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
    *cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
}

/* turn[row][column], by an angle about an axis of length 1: Rodrigues' formula */
static void turn_by(double turn[3][3], const double axis[3], double angle)
{
    double before[3][3], own[3][3], s, c, x = axis[0], y = axis[1], z = axis[2];

    inphase_sine_cosine(angle, &s, &c);
    own[0][0] = c + x * x * (1 - c);
    own[0][1] = x * y * (1 - c) - z * s;
    own[0][2] = x * z * (1 - c) + y * s;
    own[1][0] = x * y * (1 - c) + z * s;
    own[1][1] = c + y * y * (1 - c);
    own[1][2] = y * z * (1 - c) - x * s;
    own[2][0] = x * z * (1 - c) - y * s;
    own[2][1] = y * z * (1 - c) + x * s;
    own[2][2] = c + z * z * (1 - c);
    for (int row = 0; row < 3; row++)
        for (int column = 0; column < 3; column++)
            before[row][column] = turn[row][column];
    for (int row = 0; row < 3; row++)
        for (int column = 0; column < 3; column++)
            turn[row][column] = before[row][0] * own[0][column] + before[row][1] * own[1][column] +
                                before[row][2] * own[2][column];
}

static void go(double point[3], double turn[3][3], const double way[3], double times)
{
    for (int row = 0; row < 3; row++)
        point[row] += times * (turn[row][0] * way[0] + turn[row][1] * way[1] +
                               turn[row][2] * way[2]);
}

void inphase_tool_point(const struct inphase_workspace *workspace, const double *positions,
                        double point[3])
{
    double turn[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};

    point[0] = point[1] = point[2] = 0;
    for (uint32_t i = 0; i < workspace->joints; i++) {
        const struct inphase_joint *joint = &workspace->joint[i];

        go(point, turn, joint->translation, 1);
        if (joint->prismatic)
            go(point, turn, joint->axis, positions[i]);
        else
            turn_by(turn, joint->axis, positions[i]);
    }
    go(point, turn, workspace->tool, 1);
}
