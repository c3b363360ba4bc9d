/* Lateness: the latest moment of each cycle, and pauses of the machine or the process. Cycle thread
   only. */
#include <stdint.h>

#include "core.h"
#include "device.h"
#include "guard.h"
#include "lateness.h"
#include "rest.h"
#include "state.h"

/* the latest moment of this cycle, its phase and device: one entry per cycle in the list of the
   worst */
void note_late(struct inphase_core *core, int64_t late_ns, int phase, const struct device *device)
{
    if (late_ns <= core->worst_late_ns)
        return;
    core->worst_late_ns = late_ns;
    core->worst_phase = phase;
    core->worst_device = device ? (int)(device - core->device) : -1;
}

/* While this process did not run, the guard has stopped the devices. They get the same stop again
   until they are at rest, and no command */
static void end_spared(struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++)
        rest_lost(&core->actuator[i]);
    latch_motion(core, INPHASE_REASON_GUARD, 0);
    inphase_core_stop(core, INPHASE_REASON_GUARD, 0);
}

void note_resumed(struct inphase_core *core)
{
    core->flags |= INPHASE_FLAG_RESUMED;
    latch_motion(core, INPHASE_REASON_RESUMED, 0);
}

/* the machine or this process stood still, at any point of the cycle: the next frame tells it */
void note_suspension(struct inphase_core *core, int64_t late_ns)
{
    if (guard_spared(&core->guard))
        end_spared(core);
    if (late_ns > core->resumed_after_ns)
        note_resumed(core);
}
