/* A sensor's place among the triggers, and its replies that belong to another trigger. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "core.h"
#include "device.h"
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

/* A bound that was not given binds what is not finite alone, so that one comparison sees both */
static void close_bounds(struct sensor *sensor)
{
    for (uint32_t c = 0; c < sensor->channels; c++) {
        if (isnan(sensor->low[c]) || sensor->low[c] == -INFINITY)
            sensor->low[c] = -DBL_MAX;
        if (isnan(sensor->high[c]) || sensor->high[c] == INFINITY)
            sensor->high[c] = DBL_MAX;
        sensor->has_rate = sensor->has_rate || !isnan(sensor->rate[c]);
    }
}

void sort_sensors(struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->sensors; i++) {
        struct sensor *sensor = &core->sensor[i];

        close_bounds(sensor);
        if (!sensor->free_running && !sensor->device->ops->pairs)
            order_trigger(core, i);
        core->posting += sensor->device->ops->pairs;
        core->silences += sensor->parser.exchange.spec.framing.idle_ns > 0;
        core->streams += sensor->free_running;
    }
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
