/* The place of an actuator, as far as it is known. Cycle thread only. */
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "actuator.h"
#include "device.h"
#include "sensor.h"

bool feedback_is_good(const struct actuator *actuator, int64_t now_ns)
{
    const struct sensor *sensor = actuator->feedback;

    /* a refused reply counts as a late one: the sample before it is used */
    uint32_t status = sensor->status == INPHASE_INVALID ? INPHASE_LATE : sensor->status;

    return sensor->newest.sequence >= 0 && (actuator->accepts >> status & 1) &&
           (sensor->newest.trusted || (actuator->accepts >> INPHASE_RECOVERING & 1)) &&
           sensor->device->attached && sensor->refused_in_a_row < REFUSED_IN_A_ROW &&
           sample_age(sensor, now_ns) <= sensor->max_age_ns;
}

bool place_is_known(const struct actuator *actuator)
{
    if (actuator->mode != INPHASE_MODE_POSITION || actuator->feedback)
        return true;
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (!isfinite(atomic_load_explicit(&actuator->holds[c], memory_order_relaxed)) &&
            !isfinite(actuator->motion[c].position))
            return false;
    return true;
}
