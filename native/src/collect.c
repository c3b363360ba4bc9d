/* Collect: triggers out, replies in, until every reply is there or the read deadline. A reply
   belongs to the trigger that asked for it, or is dropped. Cycle thread only. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "acquire.h"
#include "clock.h"
#include "collect.h"
#include "core.h"
#include "device.h"
#include "gpio.h"
#include "lateness.h"
#include "packet.h"
#include "post.h"
#include "relaxed.h"
#include "sensor.h"
#include "state.h"
#include "statistics.h"
#include "store.h"
#include "twin.h"

#define DRAIN_READS 8
/* numbers in a row that go on by one for each trigger: the device counts them */
#define COUNTS_ENOUGH 8
#define CLEAN_TURNS 3   /* after so many in a row nothing that is still owed is expected any more */

/* the frame that wants a sample of this trigger */
static int64_t due_cycle(const struct sensor *sensor, int64_t cycle)
{
    return cycle + sensor->latency_cycles;
}

/* a refusal is said in the frame that the sample was due in, and of no later trigger */
static void refuse_sample(const struct inphase_core *core, struct sensor *sensor, int64_t cycle,
                          uint32_t reason, uint32_t detail)
{
    if (!sensor->latched && due_cycle(sensor, cycle) < core->cycle)
        return;
    sensor->refusal = true;
    sensor->reason = reason;
    sensor->detail = detail;
}

/* Seconds since the values before, when they may be compared with: trusted, and of a known time.
   Else NaN, with which no comparison holds */
static double compared_over_s(const struct sensor *sensor, const struct sample *sample)
{
    const struct sample *before = &sensor->newest;

    if (!before->trusted)
        return NAN;
    if (sample->triggered_ns == INPHASE_ABSENT || before->triggered_ns == INPHASE_ABSENT)
        return (double)(sample->received_ns - before->received_ns) * 1e-9;
    return (double)(sample->triggered_ns - before->triggered_ns) * 1e-9;
}

static bool values_hold(const struct inphase_core *core, struct sensor *sensor,
                        const struct sample *sample)
{
    double since_s = compared_over_s(sensor, sample);

    for (uint32_t c = 0; c < sensor->channels; c++) {
        double value = sample->value[c];
        uint32_t reason = INPHASE_REASON_NONE;

        /* a bound that is NaN is none: the comparison is then false */
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

/* a device that gives the same bits again and again, on channels that have noise, stands still */
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

/* by how much the device's number differs from another; it wraps at its own width */
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

/* did the device's number go on? */
static bool sequence_advanced(const struct sensor *sensor)
{
    return sequence_step(sensor, sensor->parser.sequence - sensor->device_sequence) > 0;
}

/* A number that came before, or an earlier one. After a silence or an absence a device may count
   from anywhere, and only the very number that it gave last is a repetition */
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

/* as much of a sample as a sensor's has: most have few channels */
static void copy_sample(struct sample *to, const struct sample *from, uint32_t channels)
{
    memcpy(to, from, offsetof(struct sample, value) + channels * sizeof from->value[0]);
}

/* what has arrived, with the stamps that came with it; its number in the ring is not known yet */
static void take_arrived(const struct sensor *sensor, int64_t now_ns, struct sample *sample)
{
    const struct inphase_posted *stamps = &sensor->stamps;

    /* a line is raised here, whoever reads the device */
    bool ours = sensor->has_line && stamps->cycle == sensor->cycle && !sensor->latched;

    sample->sequence = -1;
    sample->cycle = stamps->cycle;
    sample->triggered_ns = ours ? sensor->triggered_ns : stamps->triggered_ns;
    sample->acquired_ns = stamps->acquired_ns;
    sample->uncertainty_ns = stamps->uncertainty_ns;

    /* nothing is received later than it was seen here */
    sample->received_ns = stamps->received_ns < now_ns ? stamps->received_ns : now_ns;
    sample->trusted = sensor->recovering == 0 && !sensor->suspect;
    memcpy(sample->value, sensor->parser.value, sizeof(double) * sensor->channels);
}

/* half of what a stamp may be, so that no difference of two overflows: 73 years */
#define POSSIBLE_NS (1LL << 61)

static bool is_possible(int64_t time_ns)
{
    return time_ns > -POSSIBLE_NS && time_ns < POSSIBLE_NS;
}

/* A sample that is triggered has a cycle that has come, and was triggered in it: at the soonest
   when it began, and before the next one that triggers. What a worker does not know is absent. */
static uint32_t wrong_trigger(const struct inphase_core *core, const struct sensor *sensor,
                              const struct sample *sample)
{
    bool has_none = sample->cycle == -1 && sample->triggered_ns == INPHASE_ABSENT;
    int64_t grid_ns;

    if (sensor->latched || has_none)
        return has_none ? 0 : INPHASE_STAMP_CYCLE;
    if (sample->cycle < 0 || sample->cycle > core->cycle)
        return INPHASE_STAMP_CYCLE;
    grid_ns = load_i64(&core->state->start_ns) + sample->cycle * core->period_ns;
    if (sample->triggered_ns < grid_ns || sample->triggered_ns > sample->received_ns ||
        sample->triggered_ns - grid_ns >= sensor->every * core->period_ns)
        return INPHASE_STAMP_TRIGGERED;
    return 0;
}

/* Which of a sample's stamps cannot be true by the core's own clock, INPHASE_STAMP_*; 0: none. They
   may come from another process: here, and nowhere else, they are looked at before they are
   used. */
static uint32_t wrong_stamp(const struct inphase_core *core, const struct sensor *sensor,
                            const struct sample *sample, int64_t now_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    uint32_t wrong;
    int64_t slack_ns;

    /* what came by a descriptor may say that its receipt is not known: INT64_MAX */
    if (!is_possible(sample->received_ns) ||
        (sensor->device->ops->pairs && sensor->stamps.received_ns > now_ns))
        return INPHASE_STAMP_RECEIVED;
    wrong = wrong_trigger(core, sensor, sample);
    if (wrong)
        return wrong;
    if (sample->acquired_ns == INPHASE_ABSENT)
        return 0;
    if (sample->uncertainty_ns < 0 || !is_possible(sample->uncertainty_ns))
        return INPHASE_STAMP_UNCERTAINTY;
    if (!is_possible(sample->acquired_ns) || sample->acquired_ns > now_ns ||
        sample->acquired_ns - sample->received_ns > sample->uncertainty_ns)
        return INPHASE_STAMP_ACQUIRED;

    /* a device that samples by itself may have done so before it was asked, as its driver states */
    slack_ns = sample->uncertainty_ns + (int64_t)spec->clock_tick_ns;
    if (spec->acquire_ns < 0)
        slack_ns -= spec->acquire_ns;
    if (sample->triggered_ns != INPHASE_ABSENT &&
        sample->triggered_ns - sample->acquired_ns > slack_ns)
        return INPHASE_STAMP_ACQUIRED;
    return 0;
}

/* the ring's slot of a sample; a worker has filled its own */
static void store_sample(struct inphase_core *core, struct sensor *sensor, struct sample *sample)
{
    const struct twin *twin = sensor->twin;
    const void *payload = twin && twin->given ? (const void *)twin->given : sample->value;

    if (sensor->device->ops == &worker_ops) {
        sample->sequence = (int64_t)sensor->posted - 1;
        return;
    }
    sample->sequence = sensor->next_sequence++;
    slot_write(ring_slot(core->segment->memory, &core->layout->samples[sensor->index],
                         (uint64_t)sample->sequence),
               (uint64_t)sample->sequence, payload, sensor->payload);
}

/* Is a sample in time for its frame? A core that was held up may find a reply behind the deadline
   that was there before it, or not: what was not stamped by the kernel or a worker counts as
   received when it was read. */
static bool is_in_time(const struct inphase_core *core, const struct sensor *sensor,
                       const struct sample *sample)
{
    int64_t due = due_cycle(sensor, sample->cycle);

    return sensor->latched ||
           (due >= core->cycle && sample->received_ns <= deadline_of(core, due));
}

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

    /* a worker's trigger is known only now */
    if (sensor->device->ops->pairs && !sensor->has_line)
        histogram_add(&statistics->histogram[INPHASE_HIST_TRIGGER],
                      sample->triggered_ns - planned_ns);
}

/* it may be the reply to an earlier trigger, of which nothing was seen: which one is not known, nor
   when that was */
static void forget_trigger(struct sample *sample)
{
    sample->cycle = -1;
    sample->triggered_ns = sample->acquired_ns = INPHASE_ABSENT;
    sample->uncertainty_ns = 0;
}

/* What a device's count says of a reply, where it has one that goes on by one for each trigger: in
   a doubt, that all triggers before are accounted for, or that so many are not. A request that was
   lost looks the same as one that is yet to be answered. */
static void pair_by_count(struct sensor *sensor)
{
    int64_t step = sequence_step(sensor, sensor->parser.sequence - sensor->paired_sequence);
    int64_t missing;

    if (__builtin_sub_overflow((int64_t)(sensor->asked - sensor->paired_asked), step, &missing))
        missing = -1;
    if (sensor->suspect) {
        /* one that went back began anew, and says nothing */
        bool knows = sensor->counts >= COUNTS_ENOUGH && step > 0;

        if (knows && missing >= 0 && missing < OWED_NOT_KNOWN)
            sensor->owed = (uint32_t)missing;
        sensor->behind = knows && missing != 0;
        return;
    }
    if (missing != 0)
        sensor->counts = 0;
    else if (sensor->counts < COUNTS_ENOUGH)
        sensor->counts++;
    sensor->paired_asked = sensor->asked;
    sensor->paired_sequence = sensor->parser.sequence;
}

/* Which trigger a worker's sample belongs to where its worker does not know for sure: the one that
   is waited for, and it is not trusted. */
static void take_doubt(struct sensor *sensor)
{
    if (sensor->device->ops->pairs && !sensor->latched)
        sensor->suspect = sensor->stamps.cycle == -1;
}

/* is it whole sooner after its trigger than any reply can be? Then it answers an earlier one */
static bool is_of_before(const struct sensor *sensor, const struct sample *sample)
{
    return !sensor->latched && sample->triggered_ns != INPHASE_ABSENT &&
           sample->received_ns - sample->triggered_ns < sensor->earliest_ns;
}

/* a complete reply to the last trigger, or a sample that names its own */
static void accept_sample(struct inphase_core *core, struct sensor *sensor)
{
    int64_t due, now_ns = core->clock->now(core);
    bool in_time, is_early;
    struct sample sample;
    uint32_t wrong;

    take_doubt(sensor);
    take_arrived(sensor, now_ns, &sample);

    /* a sequence that did not advance: a reply sent twice, or a device that stands still. Go on
       waiting; if no other reply comes, the sensor is FROZEN */
    if (has_sequence(sensor) && is_repetition(sensor)) {
        count_add(core->statistics, COUNT_DUPLICATES, 1);
        sensor->frozen = true;
        sensor->repeated = true;
        parser_next(&sensor->parser);
        return;
    }
    parser_next(&sensor->parser);
    if (!sensor->device->ops->pairs) {
        if (is_of_before(sensor, &sample)) {
            /* the one that was asked for may still come */
            sensor->owed -= sensor->owed > 1;
            sensor->device_sequence = sensor->parser.sequence;
            slip(core, sensor);
            return;
        }
        sensor->owed -= sensor->owed > 0;
        if (has_sequence(sensor))
            pair_by_count(sensor);
    }
    if (sample.cycle == sensor->cycle || (sample.cycle == -1 && sensor->suspect)) {
        sensor->outstanding = false;
        sensor->dirty = false;
    }

    /* a number has come, whatever becomes of its sample */
    sensor->device_sequence = sensor->parser.sequence;
    sensor->device_sequence_known = sensor->device_sequence_seen = true;
    wrong = wrong_stamp(core, sensor, &sample, now_ns);
    if (wrong) {
        refuse_sample(core, sensor, sensor->cycle, INPHASE_REASON_STAMP, wrong);
        return;
    }
    if (sensor->device->ops->pairs && is_of_before(sensor, &sample)) {
        count_add(core->statistics, COUNT_SLIPS, 1);
        refuse_sample(core, sensor, sample.cycle, INPHASE_REASON_SLIP, 0);
        return;
    }
    if (sensor->suspect)
        sample.cycle = sensor->cycle;
    if (!values_hold(core, sensor, &sample))
        return;
    in_time = is_in_time(core, sensor, &sample);
    sensor->refused_in_a_row = 0;
    sensor->frozen = stands_still(sensor, &sample);
    due = due_cycle(sensor, sample.cycle);
    is_early = in_time && !sensor->latched && due > core->cycle;
    if (sensor->suspect)
        forget_trigger(&sample);
    else if (sample.acquired_ns == INPHASE_ABSENT && !sensor->device->ops->pairs)
        acquire(core, sensor, &sample, in_time && sample.cycle == core->cycle);
    store_sample(core, sensor, &sample);
    if (in_time)
        note_sample(core, sensor, &sample);
    else
        count_add(core->statistics, COUNT_LATE_SAMPLES, 1);

    /* a sample that came early waits for the frame it is due in: its latency is constant */
    if (is_early) {
        sensor->early_due = due;
        copy_sample(&sensor->early, &sample, sensor->channels);
    } else {
        if (sensor->latched && sensor->fresh)
            count_add(core->statistics, COUNT_PASSED, 1);
        copy_sample(&sensor->newest, &sample, sensor->channels);
        sensor->fresh = in_time && !sensor->frozen;
    }
}

/* A whole reply that nothing is expected for. One that was refused, and is owed, may have been
   something else's, and this is it; a reply sent twice says nothing; any other is one too many, and
   which of them belongs to the last trigger is not known. */
static void take_left_over(struct inphase_core *core, struct sensor *sensor)
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

/* a sample that is in no frame yet */
static void doubt_sample(const struct sensor *sensor, struct sample *sample)
{
    if (sample->sequence < 0 || sample->cycle != sensor->cycle)
        return;
    sample->trusted = false;
    forget_trigger(sample);
}

/* what the same read brought behind a reply: one more, or a part of one, which is drained */
static void look_behind(struct inphase_core *core, struct sensor *sensor)
{
    int rc;

    do {
        rc = parser_feed(&sensor->parser, NULL, 0);
        if (rc == 1)
            take_left_over(core, sensor);
    } while (rc != 0);
    if (sensor->suspect) {
        doubt_sample(sensor, &sensor->newest);
        doubt_sample(sensor, &sensor->early);
    }
    sensor->dirty = sensor->dirty || sensor->parser.size > 0;
}

/* is there a sample that belongs to what was asked for? A device that names its cycles, or runs by
   itself, gives samples that are judged by their stamps */
static bool expects(const struct sensor *sensor)
{
    return sensor->outstanding || sensor->latched || sensor->device->ops->pairs;
}

/* false when there was nothing to read */
static bool receive(struct inphase_core *core, struct sensor *sensor)
{
    uint32_t dropped = sensor->parser.dropped;
    enum received got;
    int rc;

    /* who answers may know more of a sample than this */
    sensor->stamps = (struct inphase_posted){
        .cycle = sensor->latched ? -1 : sensor->cycle,
        .triggered_ns = sensor->latched ? INPHASE_ABSENT : sensor->triggered_ns,
        .acquired_ns = INPHASE_ABSENT,
        .received_ns = INT64_MAX,
        .device_sequence = INPHASE_ABSENT,
    };
    rc = sensor->device->ops->receive(core, sensor, &got);
    if (rc < 0) {
        device_lost(core, sensor->device, rc);
        return false;
    }
    sensor->receives++;
    if (sensor->suspect && got != RECEIVED_EMPTY)
        sensor->heard_ns = core->clock->now(core);
    if (got == RECEIVED_SAMPLE && expects(sensor)) {
        accept_sample(core, sensor);
        if (sensor->parser.more && !sensor->latched && !sensor->outstanding)
            look_behind(core, sensor);
    } else if (got == RECEIVED_SAMPLE) {
        take_left_over(core, sensor);
    }
    if (got == RECEIVED_REFUSED && expects(sensor)) {
        /* the rest of the packet may still be coming, or the reply after a stray datagram */
        sensor->outstanding = sensor->outstanding && sensor->stamps.cycle != sensor->cycle;
        sensor->dirty = !sensor->device->ops->pairs;
        refuse_sample(core, sensor, sensor->stamps.cycle, sensor->parser.reason,
                      sensor->parser.detail);
    }
    if (sensor->parser.dropped != dropped)
        count_add(core->statistics, COUNT_DROPPED_BYTES, sensor->parser.dropped - dropped);
    return got != RECEIVED_EMPTY;
}

/* A doubt ends before a trigger, when the input was seen empty and the trigger before has its
   answer. Where triggers are owed an answer, theirs were lost, or they are still to come: a device
   that is behind goes on at once, and would have answered within twice its stated time. A line that
   is asked more often than that shows it within a few turns. */
static bool doubt_ends(struct sensor *sensor, bool clean, int64_t now_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    int64_t goes_on_ns = spec->reply_ns ? 2 * spec->reply_ns : spec->reply_max_ns;

    if (!clean) {
        sensor->clean_turns = 0;
        return false;
    }
    return ++sensor->clean_turns >= CLEAN_TURNS || sensor->owed == 0 ||
           (!sensor->behind && now_ns - sensor->heard_ns >= goes_on_ns);
}

/* Make the line ready for a trigger after an exchange that did not end cleanly. What is in the
   input belongs to the trigger before: a whole reply is a late sample, a part is dropped. False
   while the worst case of that reply is not over: a trigger now could collide with it.

   A reply that was never seen may still come, later than its stated worst case, and be taken for
   the reply to this trigger. So the next samples are only RECOVERING, until the doubt has ended. */
static bool line_is_quiet(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    bool answered = !sensor->outstanding || sensor->repeated;
    bool found = false, seen_empty = false, was_suspect = sensor->suspect;
    int64_t slips = load_i64(&core->statistics->counts[COUNT_SLIPS]);

    if (!sensor->outstanding && !sensor->dirty && !sensor->suspect)
        return true;
    for (int i = 0; i < DRAIN_READS && !seen_empty; i++) {
        seen_empty = !receive(core, sensor);
        found = found || !seen_empty;
    }
    if (!sensor->device->attached ||
        ((sensor->outstanding || sensor->dirty) && now_ns < sensor->device->quiet_until_ns))
        return false;
    if (was_suspect) {
        if (answered && found && slips == load_i64(&core->statistics->counts[COUNT_SLIPS]))
            count_add(core->statistics, COUNT_SLIPS, 1);
        sensor->suspect =
            !doubt_ends(sensor, answered && !found && seen_empty && !sensor->slipped, now_ns);
        sensor->slipped = false;
    } else if ((sensor->outstanding && !sensor->repeated) || !seen_empty) {
        sensor->suspect = true;
        sensor->clean_turns = 0;
        sensor->heard_ns = now_ns;
    }
    if (!sensor->suspect)
        sensor->owed = sensor->clean_turns = sensor->behind = 0;
    parser_reset(&sensor->parser);
    sensor->outstanding = false;
    sensor->dirty = false;
    return true;
}

/* from now on a sample of this cycle's trigger is expected */
static void expect_sample(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    sensor->refusal = sensor->frozen = sensor->repeated = false;
    sensor->reason = sensor->detail = 0;
    sensor->cycle = core->cycle;
    sensor->triggered_ns = now_ns;
    sensor->outstanding = true;
    sensor->bytes_asked = sensor->bytes_in;
    sensor->asked++;
    sensor->owed += sensor->owed < OWED_NOT_KNOWN;
}

static void fire(struct inphase_core *core, struct sensor *sensor)
{
    struct device *device = sensor->device;
    int64_t now_ns = core->clock->now(core);
    int64_t late_ns;
    int rc;

    if (!device->attached || device->starved ||
        now_ns >= core->due_ns + core->read_deadline_ns ||
        (!device->ops->pairs && !line_is_quiet(core, sensor, now_ns)))
        return;

    /* what was drained belongs to the trigger before */
    now_ns = core->clock->now(core);
    expect_sample(core, sensor, now_ns);
    device->quiet_until_ns = now_ns + sensor->parser.exchange.spec.reply_max_ns;
    rc = sensor->has_line ? line_raise(sensor) : 0;
    if (rc == 0)
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

/* is there a reply that this frame waits for? */
static bool replies_missing(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->sensors; i++) {
        const struct sensor *sensor = &core->sensor[i];

        if (sensor->outstanding && due_cycle(sensor, sensor->cycle) == core->cycle &&
            sensor->receives < RECEIVES_PER_CYCLE)
            return true;
    }
    return false;
}

/* what this cycle's frame may say of a sensor, before anything has come */
static void begin(struct inphase_core *core, struct sensor *sensor)
{
    bool triggers = !sensor->latched && core->cycle % sensor->every == 0;
    int64_t due = sensor->early_due;

    sensor->fresh = false;
    sensor->receives = 0;

    /* a sample that came early is due now; when its frame was skipped it is just an earlier one */
    if (sensor->early.sequence >= 0 && due <= core->cycle) {
        sensor->fresh = due == core->cycle && !sensor->frozen;
        copy_sample(&sensor->newest, &sensor->early, sensor->channels);
        sensor->early.sequence = -1;
    }

    /* what came of a trigger is said in the frame that it is due in, and until the next trigger;
       where the trigger of this frame was skipped, it says nothing of an earlier one */
    if (sensor->latched || triggers ||
        (is_due(sensor, core->cycle) && due_cycle(sensor, sensor->cycle) != core->cycle)) {
        sensor->refusal = sensor->frozen = false;
        sensor->reason = sensor->detail = 0;
    }

    /* a worker fires by itself, at the same time of the grid */
    if (triggers && sensor->device->ops->pairs && sensor->device->attached)
        expect_sample(core, sensor, core->due_ns + sensor->trigger_ns);
}

/* one read, and all that it brought for what is waited for */
static void take_replies(struct inphase_core *core, struct sensor *sensor)
{
    while (sensor->device->attached && sensor->receives < RECEIVES_PER_CYCLE &&
           receive(core, sensor) && sensor->parser.more && sensor->outstanding)
        ;
}

/* samples that lie in memory, or on a line that nobody waits for: no system call but a read */
static void look(struct inphase_core *core, struct sensor *sensor)
{
    uint32_t most = sensor->latched ? LOOKS_PER_CYCLE : RECEIVES_PER_CYCLE;

    while (sensor->device->attached && sensor->receives < most && receive(core, sensor))
        ;
}

void stage_collect(struct inphase_core *core)
{
    int64_t deadline_ns = core->due_ns + core->read_deadline_ns;
    uint32_t next = 0;

    core->first_trigger_ns = INPHASE_ABSENT;
    for (uint32_t i = 0; i < core->sensors; i++)
        begin(core, &core->sensor[i]);

    /* until every trigger is out and every reply in that this frame wants, or the read deadline;
       the next trigger bounds each wait */
    for (;;) {
        int64_t now_ns = core->clock->now(core);
        int64_t until_ns = deadline_ns;

        while (next < core->triggered &&
               core->due_ns + core->sensor[core->order[next]].trigger_ns <= now_ns) {
            struct sensor *sensor = &core->sensor[core->order[next++]];

            if (core->cycle % sensor->every == 0)
                fire(core, sensor);
        }
        if (next < core->triggered &&
            core->due_ns + core->sensor[core->order[next]].trigger_ns < until_ns)
            until_ns = core->due_ns + core->sensor[core->order[next]].trigger_ns;
        for (uint32_t i = 0; i < core->sensors; i++)
            if (core->sensor[i].device->ops->pairs && !core->sensor[i].latched)
                look(core, &core->sensor[i]);
        if (!replies_missing(core)) {
            if (next == core->triggered)
                break;
            core->clock->sleep_until(core, until_ns);
            continue;
        }
        if (now_ns >= deadline_ns)
            break;
        core->clock->wait(core, until_ns);
        for (uint32_t i = 0; i < core->sensors; i++)
            if (core->readable[i])
                take_replies(core, &core->sensor[i]);
    }

    /* what runs by itself: the newest that is there */
    for (uint32_t i = 0; i < core->sensors; i++)
        if (core->sensor[i].latched)
            look(core, &core->sensor[i]);
}
