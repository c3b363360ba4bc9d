/* Does a joint follow its commands? The core keeps how far each was commanded and how far it was
   measured to move. A joint that is blocked, or that has no torque, is measured where it was. Cycle
   thread only. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "actuator.h"
#include "follow.h"
#include "relaxed.h"
#include "sensor.h"
#include "statistics.h"

#define RANGE_SHARE 0.05 /* of its range: commanded further than this a joint is seen to move */
#define STEP_SHARE 0.5   /* of limits.step: a joint that stands is led no further than a step */
#define TURN_S 0.25      /* of its largest velocity, likewise */

void follow_begin(struct actuator *actuator)
{
    for (uint32_t c = 0; c < actuator->channels; c++)
        actuator->follow[c] = (struct follow){.told_low = NAN, .told_high = NAN, .seen_low = NAN,
                                              .seen_high = NAN};
}

/* can the feedback tell if a joint follows? An effort and a switch have no place */
static bool is_judged(const struct actuator *actuator)
{
    return actuator->feedback && actuator->feedback_kind != INPHASE_FEEDBACK_OTHER &&
           (actuator->mode == INPHASE_MODE_POSITION || actuator->mode == INPHASE_MODE_VELOCITY);
}

/* the distance from which on it is judged */
static double far_enough(const struct actuator *actuator, uint32_t channel)
{
    const struct inphase_limits *limits = &actuator->limiter[channel].limits;

    if (actuator->mode == INPHASE_MODE_VELOCITY)
        return TURN_S * limits->velocity;
    return fmin(RANGE_SHARE * (limits->high - limits->low), STEP_SHARE * limits->step);
}

/* fmin and fmax take the number where the other is NAN */
static void widen(double *low, double *high, double value)
{
    *low = fmin(*low, value);
    *high = fmax(*high, value);
}

static void publish(struct travel *travel, const struct follow *follow, int64_t period_ns)
{
    put_f64(&travel->commanded, follow->told_high - follow->told_low);
    put_f64(&travel->measured, follow->seen_high - follow->seen_low);
    put_i64(&travel->since_ns, follow->cycles * period_ns);
}

void follow_note(struct actuator *actuator, struct travel *travel, int64_t period_ns,
                 int64_t now_ns)
{
    double period_s = (double)period_ns * 1e-9;
    const double *value;

    if (!is_judged(actuator) || !feedback_is_good(actuator, now_ns))
        return;
    value = actuator->feedback->newest.value + actuator->feedback_channel;
    for (uint32_t c = 0; c < actuator->channels; c++) {
        struct follow *follow = &actuator->follow[c];

        if (!isfinite(value[c]))
            continue;
        follow->told = actuator->mode == INPHASE_MODE_POSITION
                           ? actuator->motion[c].position
                           : follow->told + actuator->motion[c].velocity * period_s;
        follow->seen = actuator->feedback_kind == INPHASE_FEEDBACK_POSITION
                           ? value[c]
                           : follow->seen + value[c] * period_s;
        widen(&follow->told_low, &follow->told_high, follow->told);
        widen(&follow->seen_low, &follow->seen_high, follow->seen);
        if (follow->told_high - follow->told_low >= far_enough(actuator, c))
            follow->cycles++;
        publish(&travel[c], follow, period_ns);
    }
}
