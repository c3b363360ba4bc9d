/* The arrival of a sample: does it answer the last trigger, can it be true, and which frame is it
   for? Cycle thread only. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "acquire.h"
#include "arrival.h"
#include "burst.h"
#include "clock.h"
#include "core.h"
#include "pace.h"
#include "packet.h"
#include "post.h"
#include "relaxed.h"
#include "sensor.h"
#include "state.h"
#include "statistics.h"
#include "store.h"
#include "twin.h"

void refuse_sample(const struct inphase_core *core, struct sensor *sensor, int64_t cycle,
                          uint32_t reason, uint32_t detail)
{
    if (!sensor->free_running && due_cycle(sensor, cycle) < core->cycle)
        return;
    sensor->refusal = true;
    sensor->reason = reason;
    sensor->detail = detail;
}

/* Seconds since the values before, if those are trusted and of a known time. Else NaN: every
   comparison with it is false */
static double compared_over_s(const struct sensor *sensor, const struct sample *sample)
{
    const struct sample *before = &sensor->newest;

    if (!before->trusted)
        return NAN;
    if (sample->triggered_ns == INPHASE_ABSENT || before->triggered_ns == INPHASE_ABSENT)
        return (double)(sample->received_ns - before->received_ns) * 1e-9;
    return (double)(sample->triggered_ns - before->triggered_ns) * 1e-9;
}

/* is every value within its bounds? What is not finite is beyond any: see sort_sensors */
static bool is_in_bounds(const struct sensor *sensor, const double *value)
{
    for (uint32_t c = 0; c < sensor->channels; c++)
        if (!(value[c] >= sensor->low[c] && value[c] <= sensor->high[c]))
            return false;
    return true;
}

/* Does no value change faster than its rate? A rate that is NaN does not bind: the comparison is
   false */
static bool is_in_rate(const struct sensor *sensor, const double *value, double since_s)
{
    for (uint32_t c = 0; c < sensor->channels; c++)
        if (fabs(value[c] - sensor->newest.value[c]) > sensor->rate[c] * since_s)
            return false;
    return true;
}

/* are all values finite, in range, and no faster than their rate? Else the sample is refused */
static bool values_hold(const struct inphase_core *core, struct sensor *sensor,
                        const struct sample *sample)
{
    double since_s = compared_over_s(sensor, sample);

    if (is_in_bounds(sensor, sample->value) &&
        (!sensor->has_rate || is_in_rate(sensor, sample->value, since_s)))
        return true;

    /* the first channel that is to blame, and for what */
    for (uint32_t c = 0; c < sensor->channels; c++) {
        double value = sample->value[c];
        uint32_t reason = INPHASE_REASON_NONE;

        if (!isfinite(value))
            reason = INPHASE_REASON_NAN;
        else if (value < sensor->low[c] || value > sensor->high[c])
            reason = INPHASE_REASON_RANGE;
        else if (fabs(value - sensor->newest.value[c]) > sensor->rate[c] * since_s)
            reason = INPHASE_REASON_RATE;
        if (reason) {
            refuse_sample(core, sensor, sample->cycle, reason, c);
            return false;
        }
    }
    return true;
}

/* a device whose noisy channels give the same bits again and again is frozen */
static bool stands_still(struct sensor *sensor, const struct sample *sample)
{
    if (sensor->newest.sequence < 0 ||
        memcmp(sample->value, sensor->newest.value, sizeof(double) * sensor->channels) != 0)
        sensor->identical = 0;
    else if (sensor->identical < UINT32_MAX)
        sensor->identical++;
    return sensor->frozen_after && sensor->identical >= sensor->frozen_after;
}

static int64_t deadline_of(const struct inphase_core *core, int64_t cycle)
{
    return load_i64(&core->state->start_ns) + cycle * core->period_ns + core->read_deadline_ns;
}

/* the step from one number of the device to another; numbers wrap at their own width */
static int64_t sequence_step(const struct sensor *sensor, uint64_t step)
{
    if (sensor->device->ops->pairs)
        return (int64_t)step;
    switch (sensor->parser.exchange.spec.sequence_type) {
    case INPHASE_U8:
    case INPHASE_I8:
        return (int8_t)(uint8_t)step;
    case INPHASE_U16:
    case INPHASE_I16:
        return (int16_t)(uint16_t)step;
    case INPHASE_U64:
        return (int64_t)step;
    default:
        return (int32_t)(uint32_t)step;
    }
}

/* did the device's number rise? */
static bool sequence_advanced(const struct sensor *sensor)
{
    return sequence_step(sensor, sensor->parser.sequence - sensor->device_sequence) > 0;
}

/* The number before once more, or an earlier one. After a silence or an absence a device may count
   from anywhere: then only the same number is a repetition */
static bool is_repetition(const struct sensor *sensor)
{
    if (sensor->device_sequence_known)
        return !sequence_advanced(sensor);
    return sensor->device_sequence_seen && sensor->parser.sequence == sensor->device_sequence;
}

static bool has_sequence(const struct sensor *sensor)
{
    if (sensor->device->ops->pairs)
        return sensor->stamps.device_sequence != INPHASE_ABSENT;
    return sensor->parser.exchange.spec.sequence_type != 0;
}

void copy_sample(struct sample *to, const struct sample *from, uint32_t channels)
{
    memcpy(to, from, offsetof(struct sample, value) + channels * sizeof from->value[0]);
}

/* the sample that has arrived, with its stamps; its number in the ring is not known yet */
static void take_arrived(const struct sensor *sensor, int64_t now_ns, struct sample *sample)
{
    const struct inphase_posted *stamps = &sensor->stamps;

    /* a trigger line is raised by the core, whoever reads the device */
    bool ours = sensor->has_line && stamps->cycle == sensor->cycle && !sensor->free_running;

    sample->sequence = -1;
    sample->cycle = stamps->cycle;
    sample->triggered_ns = ours ? sensor->triggered_ns : stamps->triggered_ns;
    sample->acquired_ns = stamps->acquired_ns;
    sample->uncertainty_ns = stamps->uncertainty_ns;

    /* nothing is received later than the core sees it */
    sample->received_ns = stamps->received_ns < now_ns ? stamps->received_ns : now_ns;
    sample->trusted = sensor->recovering == 0 && !sensor->suspect;
    memcpy(sample->value, sensor->parser.value, sizeof(double) * sensor->channels);
}

/* half the range of a stamp, so that no difference of two overflows: 73 years */
#define POSSIBLE_NS (1LL << 61)

static bool is_possible(int64_t time_ns)
{
    return time_ns > -POSSIBLE_NS && time_ns < POSSIBLE_NS;
}

/* A triggered sample names a cycle that has begun. Its trigger lies after the start of that cycle,
   and before the next cycle that triggers. A worker leaves out stamps that it does not know. */
static uint32_t wrong_trigger(const struct inphase_core *core, const struct sensor *sensor,
                              const struct sample *sample)
{
    bool has_none = sample->cycle == -1 && sample->triggered_ns == INPHASE_ABSENT;
    int64_t grid_ns, slack_ns;

    /* a free-running sensor has no trigger; a worker may not know it */
    if (sensor->free_running || has_none)
        return has_none ? 0 : INPHASE_STAMP_CYCLE;

    /* a cycle that has begun, and a time in it */
    if (sample->cycle < 0 || sample->cycle > core->cycle)
        return INPHASE_STAMP_CYCLE;
    grid_ns = load_i64(&core->state->start_ns) + sample->cycle * core->period_ns;

    /* a grid that follows a device may have moved since */
    slack_ns = core->pace.sensor ? core->period_ns / 4 : 0;
    if (sample->triggered_ns < grid_ns - slack_ns ||
        sample->triggered_ns > sample->received_ns ||
        sample->triggered_ns - grid_ns >= sensor->every * core->period_ns + slack_ns)
        return INPHASE_STAMP_TRIGGERED;
    return 0;
}

/* The stamp that cannot be true by the core's own clock, INPHASE_STAMP_*; 0: none. Stamps may come
   from another process: they are checked here, before they are used. */
static uint32_t wrong_stamp(const struct inphase_core *core, const struct sensor *sensor,
                            const struct sample *sample, int64_t now_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    uint32_t wrong;
    int64_t slack_ns;

    /* the receipt; INT64_MAX of a descriptor's sample: not known */
    if (!is_possible(sample->received_ns) ||
        (sensor->device->ops->pairs && sensor->stamps.received_ns > now_ns))
        return INPHASE_STAMP_RECEIVED;

    /* the trigger */
    wrong = wrong_trigger(core, sensor, sample);
    if (wrong)
        return wrong;

    /* the acquisition, within its uncertainty before the receipt */
    if (sample->acquired_ns == INPHASE_ABSENT)
        return 0;
    if (sample->uncertainty_ns < 0 || !is_possible(sample->uncertainty_ns))
        return INPHASE_STAMP_UNCERTAINTY;
    if (!is_possible(sample->acquired_ns) || sample->acquired_ns > now_ns ||
        sample->acquired_ns - sample->received_ns > sample->uncertainty_ns)
        return INPHASE_STAMP_ACQUIRED;

    /* and after the trigger; a device that samples by itself may be earlier, as its driver
       states */
    slack_ns = sample->uncertainty_ns + (int64_t)spec->clock_tick_ns;
    if (spec->acquire_ns < 0)
        slack_ns -= spec->acquire_ns;
    if (sample->triggered_ns != INPHASE_ABSENT &&
        sample->triggered_ns - sample->acquired_ns > slack_ns)
        return INPHASE_STAMP_ACQUIRED;
    return 0;
}

/* write a sample into its slot of the ring; a worker has filled its own slot */
static void store_sample(struct inphase_core *core, struct sensor *sensor, struct sample *sample)
{
    const struct twin *twin = sensor->twin;
    const void *payload = twin && twin->given ? (const void *)twin->given : sample->value;

    if (sensor->device->ops == &worker_ops) {
        sample->sequence = (int64_t)sensor->posted - 1;
        return;
    }
    if (sensor->burst.most) {
        /* one payload for all of a frame: see store_burst */
        sample->sequence = sensor->next_sequence;
        if (!burst_add(&sensor->burst, sample))
            count_add(core->statistics, COUNT_PASSED, 1);
        return;
    }
    sample->sequence = sensor->next_sequence++;
    slot_write(ring_slot(core->segment->memory, &core->layout->samples[sensor->index],
                         (uint64_t)sample->sequence),
               (uint64_t)sample->sequence, payload, sensor->payload);
}

/* Is a sample in time for its frame? A core that was held up finds a reply after the deadline that
   may have come before it. Without a stamp of the kernel or of a worker it counts as received when
   it was read. */
static bool is_in_time(const struct inphase_core *core, const struct sensor *sensor,
                       const struct sample *sample)
{
    int64_t due = due_cycle(sensor, sample->cycle);

    return sensor->free_running ||
           (due >= core->cycle && sample->received_ns <= deadline_of(core, due));
}

/* the statistics of a sample: from its trigger to its receipt, and a worker's trigger offset */
static void note_sample(struct inphase_core *core, const struct sensor *sensor,
                        const struct sample *sample)
{
    struct statistics *statistics = core->statistics;
    int64_t planned_ns = load_i64(&core->state->start_ns) + sample->cycle * core->period_ns +
                         sensor->trigger_ns;

    if (is_stopping(core) || sample->triggered_ns == INPHASE_ABSENT)
        return;
    histogram_add(&statistics->histogram[INPHASE_HIST_SENSORS + sensor->index],
                  sample->received_ns - sample->triggered_ns);

    /* a worker's trigger is not known before its sample */
    if (sensor->device->ops->pairs && !sensor->has_line)
        histogram_add(&statistics->histogram[INPHASE_HIST_TRIGGER],
                      sample->triggered_ns - planned_ns);
}

void forget_trigger(struct sample *sample)
{
    sample->cycle = -1;
    sample->triggered_ns = sample->acquired_ns = INPHASE_ABSENT;
    sample->uncertainty_ns = 0;
}

/* A worker that does not know the trigger of its sample leaves out the cycle: the sample counts for
   the trigger that is waited for, and is not trusted. */
static void take_doubt(struct sensor *sensor)
{
    if (sensor->device->ops->pairs && !sensor->free_running)
        sensor->suspect = sensor->stamps.cycle == -1;
}

/* is it complete sooner after its trigger than any reply can be? Then it answers an earlier
   trigger */
static bool is_of_before(const struct sensor *sensor, const struct sample *sample)
{
    return !sensor->free_running && sample->triggered_ns != INPHASE_ABSENT &&
           sample->received_ns - sample->triggered_ns < sensor->earliest_ns;
}

/* Does it answer the last trigger, or name its own? A sample that came before, or answers an
   earlier trigger, is counted and dropped */
static bool is_expected(struct inphase_core *core, struct sensor *sensor,
                        const struct sample *sample)
{
    /* a number that did not rise: a reply sent twice, or a frozen device. Go on waiting; if no
       other reply comes, the sensor is FROZEN */
    if (has_sequence(sensor) && is_repetition(sensor)) {
        count_add(core->statistics, COUNT_DUPLICATES, 1);
        sensor->frozen = true;
        sensor->repeated = true;
        parser_next(&sensor->parser);
        return false;
    }
    parser_next(&sensor->parser);

    /* a worker's sample names its trigger */
    if (sensor->device->ops->pairs)
        return true;
    if (is_of_before(sensor, sample)) {
        /* the reply to this trigger may still come */
        sensor->owed -= sensor->owed > 1;
        sensor->device_sequence = sensor->parser.sequence;
        slip(core, sensor);
        return false;
    }

    /* an answer: one trigger less is owed one */
    sensor->owed -= sensor->owed > 0;
    return true;
}

/* Can its stamps and its values be true? If not, it is refused, with the reason */
static bool is_plausible(struct inphase_core *core, struct sensor *sensor, struct sample *sample,
                         int64_t now_ns)
{
    uint32_t wrong = wrong_stamp(core, sensor, sample, now_ns);

    if (wrong) {
        refuse_sample(core, sensor, sensor->cycle, INPHASE_REASON_STAMP, wrong);
        return false;
    }
    if (sensor->device->ops->pairs && is_of_before(sensor, sample)) {
        count_add(core->statistics, COUNT_SLIPS, 1);
        refuse_sample(core, sensor, sample->cycle, INPHASE_REASON_SLIP, 0);
        return false;
    }
    if (sensor->suspect)
        sample->cycle = sensor->cycle;
    return values_hold(core, sensor, sample);
}

/* keep a good sample: in the ring, and for the frame that it is due in */
static void keep_sample(struct inphase_core *core, struct sensor *sensor, struct sample *sample)
{
    bool in_time = is_in_time(core, sensor, sample);
    int64_t due = due_cycle(sensor, sample->cycle);
    bool is_early = in_time && !sensor->free_running && due > core->cycle;

    /* the device answers; does it advance? */
    sensor->refused_in_a_row = 0;
    sensor->frozen = stands_still(sensor, sample);

    /* its acquisition, unless its worker has given it, or its trigger is in doubt */
    if (sensor->suspect)
        forget_trigger(sample);
    else if (sample->acquired_ns == INPHASE_ABSENT && !sensor->device->ops->pairs)
        acquire(core, sensor, sample, in_time && sample->cycle == core->cycle);
    if (sensor == core->pace.sensor)
        pace_hear(core, sensor, sample->received_ns);
    store_sample(core, sensor, sample);
    if (in_time)
        note_sample(core, sensor, sample);
    else
        count_add(core->statistics, COUNT_LATE_SAMPLES, 1);

    /* an early sample waits for the frame that it is due in: its latency is constant */
    if (is_early) {
        sensor->early_due = due;
        copy_sample(&sensor->early, sample, sensor->channels);
        return;
    }

    /* any other is the newest one */
    if (sensor->free_running && sensor->fresh && !sensor->burst.most)
        count_add(core->statistics, COUNT_PASSED, 1);
    copy_sample(&sensor->newest, sample, sensor->channels);
    sensor->fresh = in_time && !sensor->frozen;
}

void store_burst(struct inphase_core *core, struct sensor *sensor)
{
    uint64_t number = (uint64_t)sensor->next_sequence;

    if (!sensor->burst.most || burst_count(&sensor->burst) == 0)
        return;
    slot_write(ring_slot(core->segment->memory, &core->layout->samples[sensor->index], number),
               number, sensor->burst.payload, sensor->payload);
    sensor->next_sequence++;
    burst_begin(&sensor->burst);
}

void accept_sample(struct inphase_core *core, struct sensor *sensor)
{
    int64_t now_ns = core->clock->now(core);
    struct sample sample;

    take_doubt(sensor);
    take_arrived(sensor, now_ns, &sample);
    if (!is_expected(core, sensor, &sample))
        return;

    /* the trigger has its answer */
    if (sample.cycle == sensor->cycle || (sample.cycle == -1 && sensor->suspect)) {
        sensor->outstanding = false;
        sensor->dirty = false;
    }

    /* the device's number counts also when its sample is refused */
    sensor->device_sequence = sensor->parser.sequence;
    sensor->device_sequence_known = sensor->device_sequence_seen = true;
    if (is_plausible(core, sensor, &sample, now_ns))
        keep_sample(core, sensor, &sample);
}

void take_left_over(struct inphase_core *core, struct sensor *sensor)
{
    parser_next(&sensor->parser);
    if (has_sequence(sensor) && sensor->parser.sequence == sensor->device_sequence) {
        count_add(core->statistics, COUNT_DUPLICATES, 1);
    } else if (sensor->owed > 0) {
        sensor->owed--;
    } else {
        slip(core, sensor);
    }
}
