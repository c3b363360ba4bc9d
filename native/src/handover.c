/* A change of who drives. Cycle thread only. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "actuator.h"
#include "core.h"
#include "handover.h"
#include "limiter.h"
#include "mailbox.h"

void handover_forget(struct inphase_core *core)
{
    core->handover.drove = INPHASE_DROVE_NOBODY;
    core->handover.fades = false;
    core->handover.person_until_ns = 0;
}

bool is_overruled(struct inphase_core *core, const struct mail *mail, int64_t now_ns)
{
    int64_t hold_ns = PERSON_NS;

    if (mail->drove != INPHASE_DROVE_PERSON)
        return now_ns < core->handover.person_until_ns;

    /* as long as the robot repeats the last command at most */
    for (uint32_t i = 0; i < core->actuators; i++)
        if (core->actuator[i].max_hold_ns < hold_ns)
            hold_ns = core->actuator[i].max_hold_ns;
    core->handover.person_until_ns = mail->reason ? 0 : now_ns + hold_ns;
    return mail->reason != INPHASE_REASON_NONE;
}

/* does an actuator follow commands, so that another's would lead it elsewhere? */
static bool follows(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++)
        if (core->actuator[i].placed && core->actuator[i].engaged)
            return true;
    return false;
}

/* fade in from where each channel is commanded now */
static void begin(struct inphase_core *core)
{
    struct handover *handover = &core->handover;

    handover->fades = follows(core);
    handover->since = core->cycle;
    for (uint32_t i = 0; i < core->actuators; i++) {
        const struct actuator *actuator = &core->actuator[i];

        for (uint32_t c = 0; c < actuator->channels; c++) {
            uint32_t v = actuator->first_value + c;
            double here = limiter_applied(&actuator->limiter[c], &actuator->motion[c]);

            handover->from[v] = handover->last[v] = actuator->placed ? here : core->command[v];
        }
    }
}

/* a position that moves on from the last one, by no more than its limit `step` */
static double within_step(const struct inphase_limits *limits, double last, double wanted)
{
    if (limits->mode != INPHASE_MODE_POSITION || !(limits->step > 0))
        return wanted;
    return fmin(fmax(wanted, last - limits->step), last + limits->step);
}

void hand_over(struct inphase_core *core, bool ramped)
{
    struct handover *handover = &core->handover;
    bool is_another = handover->drove != INPHASE_DROVE_NOBODY && handover->drove != core->drove;

    /* another one's first command; or a ramp has led the robot away from where it had come */
    handover->drove = core->drove;
    if (is_another || (handover->fades && ramped))
        begin(core);
    if (!handover->fades)
        return;

    handover->fades = false;
    for (uint32_t i = 0; i < core->actuators; i++) {
        const struct actuator *actuator = &core->actuator[i];
        int64_t cycles = actuator->handover_ns / core->period_ns + 1;
        /* of its own command; 1: nothing is left of where the robot was */
        double share = fmin((double)(core->cycle - handover->since + 1) / (double)cycles, 1);

        handover->fades = handover->fades || share < 1;
        for (uint32_t c = 0; c < actuator->channels; c++) {
            uint32_t v = actuator->first_value + c;
            double own = core->command[v], wanted = own;

            /* a switch has no values between; both others are finite, so this is */
            if (actuator->mode == INPHASE_MODE_SWITCH)
                continue;
            if (share < 1)
                wanted = handover->from[v] * (1 - share) + own * share;
            wanted = within_step(&actuator->limiter[c].limits, handover->last[v], wanted);
            core->command[v] = handover->last[v] = wanted;
            handover->fades = handover->fades || wanted != own;
        }
    }
}
