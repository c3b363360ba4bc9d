/* The acquisition time of a sample, of an exchange that the core runs. It comes from the device's
   own clock, mapped to the host's, if it has one; else from the model that its driver states; else
   it is absent. A worker gives it itself. Cycle thread only. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "acquire.h"
#include "core.h"
#include "relaxed.h"
#include "sensor.h"
#include "statistics.h"
#include "twin.h"

#define FAR_NS 4e18 /* 127 years: the bound of device times */

/* the device's time in nanoseconds, since it was first seen */
static int64_t device_time(struct sensor *sensor)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    int64_t ticks = (int64_t)sensor->parser.clock;
    double device_ns;

    if (!sensor->clock_known) {
        sensor->clock_first = ticks;
        inphase_device_clock_init(&sensor->clock);
    } else if (spec->clock_bits) {
        ticks = inphase_unwrap(sensor->clock_ticks, sensor->parser.clock, spec->clock_bits);
    }
    sensor->clock_known = true;
    sensor->clock_ticks = ticks;

    /* it may be any number, from a device that wraps at 64 bits or is wrong */
    device_ns = (double)(int64_t)((uint64_t)ticks - (uint64_t)sensor->clock_first) *
                spec->clock_tick_ns;
    if (device_ns > FAR_NS)
        device_ns = FAR_NS;
    sensor->clock_ns = device_ns < -FAR_NS ? (int64_t)-FAR_NS : (int64_t)device_ns;
    return sensor->clock_ns;
}

static void tell_clock(struct inphase_core *core, const struct sensor *sensor)
{
    struct inphase_clock_facts facts;
    _Atomic int64_t *told = core->statistics->clock[sensor->index];

    inphase_device_clock_facts(&sensor->clock, &facts);
    put_i64(&told[0], facts.drift_ppb);
    put_i64(&told[1], facts.drift_error_ppb);
    put_i64(&told[2], facts.error_ns);
    put_i64(&told[3], facts.taken);
    put_i64(&told[4], facts.rejected);
    put_i64(&told[5], facts.resets);
}

/* a free-running device: it took its stamp one latency before its packet came */
static bool by_arrival(struct inphase_core *core, struct sensor *sensor, struct sample *sample)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    int64_t device_ns = device_time(sensor), tick_ns = (int64_t)spec->clock_tick_ns;
    int64_t stated_ns = spec->reply_ns ? spec->reply_ns : spec->reply_min_ns;
    int64_t arrival_ns = sample->received_ns - spec->clock_shift_ns;
    int64_t most_ns = spec->reply_max_ns + tick_ns, latest_ns = sample->received_ns;

    /* no sample is acquired after its receipt */
    if (spec->clock_shift_ns > 0)
        latest_ns -= spec->clock_shift_ns;
    inphase_device_clock_hear(&sensor->clock, device_ns, arrival_ns, spec->reply_min_ns, stated_ns,
                              most_ns);
    tell_clock(core, sensor);
    if (inphase_device_clock_locate(&sensor->clock, device_ns, arrival_ns - most_ns, latest_ns,
                                    &sample->acquired_ns, &sample->uncertainty_ns) < 0)
        return false;
    sample->acquired_ns += spec->clock_shift_ns;
    sample->uncertainty_ns += tick_ns; /* a stamp is the last whole tick */
    return true;
}

/* by the device's clock: it took its stamp between the trigger and the reply */
static bool by_clock(struct inphase_core *core, struct sensor *sensor, struct sample *sample)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    int64_t earliest_ns = sample->triggered_ns, latest_ns = sample->received_ns;
    int64_t device_ns;

    if (earliest_ns == INPHASE_ABSENT)
        return by_arrival(core, sensor, sample);
    device_ns = device_time(sensor);

    /* the acquisition lies between; its stamp is clock_shift_ns earlier */
    if (spec->clock_shift_ns > 0)
        latest_ns -= spec->clock_shift_ns;
    else
        earliest_ns -= spec->clock_shift_ns;

    /* a stamp is the last whole tick: up to one tick before what it stamps */
    earliest_ns -= (int64_t)spec->clock_tick_ns;
    inphase_device_clock_add(&sensor->clock, device_ns, earliest_ns, latest_ns);
    tell_clock(core, sensor);
    if (inphase_device_clock_locate(&sensor->clock, device_ns, earliest_ns, latest_ns,
                                    &sample->acquired_ns, &sample->uncertainty_ns) < 0)
        return false;
    sample->acquired_ns += spec->clock_shift_ns;
    return true;
}

void acquire(struct inphase_core *core, struct sensor *sensor, struct sample *sample, bool in_time)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;

    bool has_clock = spec->clock_type && (!sensor->twin || sensor->twin->spec.clock);

    if (has_clock && by_clock(core, sensor, sample))
        return;
    sample->acquired_ns = INPHASE_ABSENT;
    sample->uncertainty_ns = 0;
    if (sample->triggered_ns == INPHASE_ABSENT)
        return;
    if (spec->acquire == INPHASE_ACQUIRE_TRIGGER)
        sample->acquired_ns = sample->triggered_ns + spec->acquire_ns;

    /* the receipt of a late reply is unknown: it was found before a later trigger */
    if (spec->acquire == INPHASE_ACQUIRE_MIDDLE && in_time)
        sample->acquired_ns = sample->triggered_ns +
                              (sample->received_ns - sample->triggered_ns) / 2 + spec->acquire_ns;

    /* no sample is acquired after its receipt: the model is wrong then */
    if (sample->acquired_ns > sample->received_ns)
        sample->acquired_ns = INPHASE_ABSENT;
}
