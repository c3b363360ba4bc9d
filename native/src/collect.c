/* Collect: triggers out, replies in, until every reply is there or the read deadline. A reply
   belongs to the trigger that asked for it, or is dropped. Cycle thread only. */
#include <math.h>
#include <string.h>

#include "internal.h"

#define DRAIN_READS 8

static void refuse_sample(struct sensor *sensor, uint32_t reason, uint32_t detail)
{
    sensor->refusal = true;
    sensor->reason = reason;
    sensor->detail = detail;
}

static bool values_hold(struct sensor *sensor)
{
    double elapsed_s = (double)(sensor->triggered_ns - sensor->sample_triggered_ns) * 1e-9;

    for (uint32_t c = 0; c < sensor->channels; c++) {
        double value = sensor->parser.value[c];
        uint32_t reason = INPHASE_REASON_NONE;

        /* a bound that is NaN is none: the comparison is then false */
        if (!isfinite(value))
            reason = INPHASE_REASON_NAN;
        else if (value < sensor->low[c] || value > sensor->high[c])
            reason = INPHASE_REASON_RANGE;
        else if (sensor->trusted &&
                 fabs(value - sensor->value[c]) > sensor->rate[c] * elapsed_s)
            reason = INPHASE_REASON_RATE;
        if (reason) {
            refuse_sample(sensor, reason, c);
            return false;
        }
    }
    return true;
}

static int64_t acquisition(const struct sensor *sensor, int64_t received_ns, bool on_time)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;

    if (spec->acquire == INPHASE_ACQUIRE_TRIGGER)
        return sensor->triggered_ns + spec->acquire_ns;
    /* when a late reply came is not known: it was found, before a later trigger */
    if (spec->acquire == INPHASE_ACQUIRE_MIDDLE && on_time)
        return sensor->triggered_ns + (received_ns - sensor->triggered_ns) / 2 + spec->acquire_ns;
    return INPHASE_ABSENT;
}

/* did the device's number go on? It wraps at its own width */
static bool sequence_advanced(const struct sensor *sensor)
{
    uint64_t step = sensor->parser.sequence - sensor->device_sequence;

    switch (sensor->parser.exchange.spec.sequence_type) {
    case INPHASE_U8:
    case INPHASE_I8:
        return (int8_t)(uint8_t)step > 0;
    case INPHASE_U16:
    case INPHASE_I16:
        return (int16_t)(uint16_t)step > 0;
    default:
        return (int32_t)(uint32_t)step > 0;
    }
}

/* a complete reply to the trigger at triggered_ns */
static void accept_sample(struct inphase_core *core, struct sensor *sensor, int64_t received_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;

    /* a core that was held up may find a reply behind the deadline that was there before it, or
       not: only what was read in time is known to have been */
    bool on_time = sensor->triggered && received_ns <= core->due_ns + core->read_deadline_ns;

    /* a sequence that did not advance: a reply sent twice, or a device that stands still. Go on
       waiting; if no other reply comes, the sensor is FROZEN */
    if (spec->sequence_type && sensor->device_sequence_known && !sequence_advanced(sensor)) {
        sensor->frozen = true;
        sensor->repeated = true;
        parser_reset(&sensor->parser);
        return;
    }
    sensor->outstanding = false;
    sensor->dirty = false;
    parser_reset(&sensor->parser);
    if (!values_hold(sensor))
        return;
    sensor->device_sequence = sensor->parser.sequence;
    sensor->device_sequence_known = true;
    sensor->refused_in_a_row = 0;
    sensor->sequence++;
    memcpy(sensor->value, sensor->parser.value, sizeof(double) * sensor->channels);
    sensor->sample_triggered_ns = sensor->triggered_ns;
    sensor->sample_received_ns = received_ns;
    sensor->sample_acquired_ns = acquisition(sensor, received_ns, on_time);
    sensor->trusted = sensor->recovering == 0 && !sensor->suspect;
    slot_write(ring_slot(core->segment->memory, &core->layout->samples[sensor->index],
                         (uint64_t)sensor->sequence),
               (uint64_t)sensor->sequence, sensor->value, sizeof(double) * sensor->channels);
    if (!on_time) {
        count_add(core->statistics, COUNT_LATE_SAMPLES, 1);
        return;
    }
    sensor->fresh = true;
    if (!is_stopping(core))
        histogram_add(&core->statistics->histogram[INPHASE_HIST_SENSORS + sensor->index],
                      received_ns - sensor->triggered_ns);
}

/* false when there was nothing to read */
static bool receive(struct inphase_core *core, struct sensor *sensor)
{
    enum received got;
    int rc = sensor->device->ops->receive(core, sensor, &got);

    if (rc < 0) {
        device_lost(core, sensor->device, rc);
        return false;
    }
    sensor->receives++;
    if (got == RECEIVED_SAMPLE && sensor->outstanding)
        accept_sample(core, sensor, core->clock->now(core));
    if (got == RECEIVED_REFUSED && sensor->outstanding) {
        /* the rest of the packet may still be coming, or the reply after a stray datagram */
        sensor->outstanding = false;
        sensor->dirty = true;
        if (sensor->triggered)
            refuse_sample(sensor, sensor->parser.reason, sensor->parser.detail);
    }
    return got != RECEIVED_EMPTY;
}

/* Make the line ready for a trigger after an exchange that did not end cleanly. What is in the
   input belongs to the trigger before: a whole reply is a late sample, a part is dropped. False
   while the worst case of that reply is not over: a trigger now could collide with it.

   A reply that was never seen may still come, later than its stated worst case, and be taken for
   the reply to this trigger. So the next sample is only RECOVERING, until a look at the input
   before the trigger after it finds nothing left over. Something left over is a slip. */
static bool line_is_quiet(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    bool clean = !sensor->outstanding && !sensor->dirty;
    uint64_t bytes = sensor->bytes_in;

    if (clean && !sensor->suspect)
        return true;
    for (int i = 0; i < DRAIN_READS && receive(core, sensor); i++)
        ;
    if (!sensor->device->attached ||
        ((sensor->outstanding || sensor->dirty) && now_ns < sensor->device->quiet_until_ns))
        return false;
    if (clean && sensor->bytes_in != bytes)
        count_add(core->statistics, COUNT_SLIPS, 1);
    sensor->suspect = (sensor->outstanding && !sensor->repeated) ||
                      (clean && sensor->bytes_in != bytes);
    parser_reset(&sensor->parser);
    sensor->outstanding = false;
    sensor->dirty = false;
    return true;
}

static void fire(struct inphase_core *core, struct sensor *sensor)
{
    struct device *device = sensor->device;
    int64_t now_ns = core->clock->now(core);
    int64_t late_ns;
    int rc;

    if (!device->attached || now_ns >= core->due_ns + core->read_deadline_ns ||
        !line_is_quiet(core, sensor, now_ns))
        return;

    /* what was drained belongs to the cycle before */
    sensor->refusal = sensor->frozen = sensor->repeated = false;
    sensor->reason = sensor->detail = 0;
    now_ns = core->clock->now(core);
    sensor->triggered_ns = now_ns;
    sensor->triggered = true;
    sensor->outstanding = true;
    device->quiet_until_ns = now_ns + sensor->parser.exchange.spec.reply_max_ns;
    rc = device->ops->trigger(core, sensor, now_ns);
    if (rc < 0) {
        device_lost(core, device, rc);
        return;
    }
    if (core->first_trigger_ns == INPHASE_ABSENT)
        core->first_trigger_ns = now_ns;
    late_ns = now_ns - core->due_ns - sensor->trigger_ns;
    if (!is_stopping(core))
        histogram_add(&core->statistics->histogram[INPHASE_HIST_TRIGGER], late_ns);
    note_late(core, late_ns, INPHASE_PHASE_TRIGGER, device);
}

static bool replies_missing(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->sensors; i++) {
        const struct sensor *sensor = &core->sensor[i];

        if (sensor->triggered && sensor->outstanding && sensor->receives < RECEIVES_PER_CYCLE)
            return true;
    }
    return false;
}

void stage_collect(struct inphase_core *core)
{
    int64_t deadline_ns = core->due_ns + core->read_deadline_ns;
    uint32_t next = 0;

    core->first_trigger_ns = INPHASE_ABSENT;
    for (uint32_t i = 0; i < core->sensors; i++) {
        struct sensor *sensor = &core->sensor[i];

        sensor->triggered = sensor->fresh = sensor->frozen = sensor->refusal = false;
        sensor->reason = sensor->detail = sensor->receives = 0;
    }

    /* until every trigger is out and every reply in, or the read deadline; the next trigger bounds
       each wait */
    for (;;) {
        int64_t now_ns = core->clock->now(core);
        int64_t until_ns = deadline_ns;

        while (next < core->sensors &&
               core->due_ns + core->sensor[core->order[next]].trigger_ns <= now_ns)
            fire(core, &core->sensor[core->order[next++]]);
        if (next < core->sensors &&
            core->due_ns + core->sensor[core->order[next]].trigger_ns < until_ns)
            until_ns = core->due_ns + core->sensor[core->order[next]].trigger_ns;
        if (!replies_missing(core)) {
            if (next == core->sensors)
                return;
            core->clock->sleep_until(core, until_ns);
            continue;
        }
        if (now_ns >= deadline_ns)
            return;
        core->clock->wait(core, until_ns);
        for (uint32_t i = 0; i < core->sensors; i++)
            if (core->readable[i] && core->sensor[i].device->attached)
                receive(core, &core->sensor[i]);
    }
}
