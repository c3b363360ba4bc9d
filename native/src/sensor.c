/* A sensor's place among the triggers, and its replies that belong to another trigger. */
#include <stdint.h>

#include "clock.h"
#include "core.h"
#include "sensor.h"
#include "statistics.h"

/* insert a sensor among those that the core triggers, in the order of their offsets; stable */
void order_trigger(struct inphase_core *core, uint32_t sensor)
{
    int64_t trigger_ns = core->sensor[sensor].trigger_ns;
    uint32_t at = core->triggered++;

    for (; at > 0 && core->sensor[core->order[at - 1]].trigger_ns > trigger_ns; at--)
        core->order[at] = core->order[at - 1];
    core->order[at] = sensor;
}

/* a reply to another trigger came: the triggers of the next replies are in doubt, see
   line_is_quiet */
void slip(struct inphase_core *core, struct sensor *sensor)
{
    count_add(core->statistics, COUNT_SLIPS, 1);
    if (!sensor->suspect)
        sensor->owed = OWED_NOT_KNOWN;
    sensor->suspect = sensor->slipped = true;
    sensor->heard_ns = core->clock->now(core);
}
