/* Collect: triggers out, replies in, until every reply is there or the read deadline. A reply
   belongs to the trigger that asked for it, or is dropped. Cycle thread only. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "arrival.h"
#include "clock.h"
#include "collect.h"
#include "core.h"
#include "device.h"
#include "gpio.h"
#include "lateness.h"
#include "pace.h"
#include "packet.h"
#include "relaxed.h"
#include "sensor.h"
#include "state.h"
#include "statistics.h"

#define DRAIN_READS 8

/* a sample that no frame has yet: its trigger is in doubt */
static void doubt_sample(const struct sensor *sensor, struct sample *sample)
{
    if (sample->sequence < 0 || sample->cycle != sensor->cycle)
        return;
    sample->trusted = false;
    forget_trigger(sample);
}

/* bytes behind a reply, from the same read: one more reply, or a part of one, which is drained */
static void look_behind(struct inphase_core *core, struct sensor *sensor)
{
    int rc;

    do {
        rc = parser_feed(&sensor->parser, NULL, 0);
        if (rc == 1)
            take_left_over(core, sensor);
    } while (rc != 0);

    /* one reply too many: the samples of this trigger are in doubt, too */
    if (sensor->suspect) {
        doubt_sample(sensor, &sensor->newest);
        doubt_sample(sensor, &sensor->early);
    }
    sensor->dirty = sensor->dirty || sensor->parser.size > 0;
}

/* Is a sample expected? The samples of a device that names its cycles, or is free-running, are
   judged by their stamps */
static bool expects(const struct sensor *sensor)
{
    return sensor->outstanding || sensor->free_running || sensor->device->ops->pairs;
}

/* false when there was nothing to read */
static bool receive(struct inphase_core *core, struct sensor *sensor)
{
    uint32_t dropped = sensor->parser.dropped;
    enum received got;
    int rc;

    /* the stamps, unless whoever answers knows better */
    sensor->stamps = (struct inphase_posted){
        .cycle = sensor->free_running ? -1 : sensor->cycle,
        .triggered_ns = sensor->free_running ? INPHASE_ABSENT : sensor->triggered_ns,
        .acquired_ns = INPHASE_ABSENT,
        .received_ns = INT64_MAX,
        .device_sequence = INPHASE_ABSENT,
    };
    rc = sensor->device->ops->receive(core, sensor, &got);
    if (rc < 0) {
        device_lost(core, sensor->device, rc);
        return false;
    }

    /* a bounded number of reads per cycle; while the line is in doubt, the last one counts */
    sensor->receives++;
    if (sensor->suspect && got != RECEIVED_EMPTY)
        sensor->heard_ns = core->clock->now(core);

    /* a whole reply: to this trigger, or left over from another one */
    if (got == RECEIVED_SAMPLE && expects(sensor)) {
        accept_sample(core, sensor);
        if (sensor->parser.more && !sensor->free_running && !sensor->outstanding)
            look_behind(core, sensor);
    } else if (got == RECEIVED_SAMPLE) {
        take_left_over(core, sensor);
    }

    /* a refused one: the reason is told in the frame */
    if (got == RECEIVED_REFUSED && expects(sensor)) {
        /* the rest of the packet may still come, or the reply after a stray datagram */
        sensor->outstanding = sensor->outstanding && sensor->stamps.cycle != sensor->cycle;
        sensor->dirty = !sensor->device->ops->pairs;
        refuse_sample(core, sensor, sensor->stamps.cycle, sensor->parser.reason,
                      sensor->parser.detail);
    }
    if (sensor->parser.dropped != dropped)
        count_add(core->statistics, COUNT_DROPPED_BYTES, sensor->parser.dropped - dropped);
    return got != RECEIVED_EMPTY;
}

/* Can no owed reply come any more? The trigger before has its answer. A device that is behind goes
   on with the next one within its stated worst case, so a silence of that length says that it owes
   nothing: what is missing was lost. */
static bool owes_nothing(const struct sensor *sensor, int64_t now_ns)
{
    return sensor->owed == 0 ||
           now_ns - sensor->heard_ns >= sensor->parser.exchange.spec.reply_max_ns;
}

/* The answers to commands come before the replies to a trigger: take in those that are there, by a
   bounded number of reads. Once the line was seen empty, only commands of the last reply_max_ns are
   still owed theirs. False: the device is gone, or a packet has not ended */
static bool answers_are_in(struct inphase_core *core, struct sensor *sensor)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    bool seen_empty = false;

    if (!parser_is_owed(&sensor->parser))
        return true;
    for (int i = 0; i < DRAIN_READS && !seen_empty; i++)
        seen_empty = !receive(core, sensor);
    if (seen_empty)
        inphase_parser_forgive(&sensor->parser,
                               1 + (uint32_t)(spec->reply_max_ns / core->period_ns));
    return sensor->device->attached && silence_ends_ns(sensor) == INT64_MAX;
}

/* Make the line ready for a trigger after an exchange that did not end cleanly. The input belongs
   to the trigger before: a whole reply is a late sample, a part is dropped. False while that reply
   may still come by its stated worst case: a trigger now could collide with it. *clock_ns: the
   time, which is looked up anew after a drain.

   A reply that was never seen may come even later, and be taken for the reply to this trigger. So
   the next samples are only RECOVERING, until the doubt has ended: before a trigger, when the input
   is empty, the trigger before has its answer, and nothing is owed. For that the line may have to
   stay silent: no trigger goes out meanwhile. */
static bool line_is_quiet(struct inphase_core *core, struct sensor *sensor, int64_t *clock_ns)
{
    int64_t now_ns = *clock_ns;
    bool answered = !sensor->outstanding || sensor->repeated;
    bool found = false, seen_empty = false, was_suspect = sensor->suspect;
    int64_t slips = load_i64(&core->statistics->counts[COUNT_SLIPS]);

    if (!answers_are_in(core, sensor))
        return false;

    /* the usual case: the exchange before ended cleanly */
    if (!sensor->outstanding && !sensor->dirty && !sensor->suspect)
        return true;

    /* drain the input, by a bounded number of reads */
    for (int i = 0; i < DRAIN_READS && !seen_empty; i++) {
        seen_empty = !receive(core, sensor);
        found = found || !seen_empty;
    }

    /* a reply may still be on the line, or not have ended yet */
    if (!sensor->device->attached || silence_ends_ns(sensor) != INT64_MAX ||
        ((sensor->outstanding || sensor->dirty) && now_ns < sensor->device->quiet_until_ns))
        return false;

    /* does a doubt end, or begin? */
    if (was_suspect) {
        bool clean = answered && !found && seen_empty && !sensor->slipped;

        if (answered && found && slips == load_i64(&core->statistics->counts[COUNT_SLIPS]))
            count_add(core->statistics, COUNT_SLIPS, 1);
        if (clean && !owes_nothing(sensor, now_ns))
            return false;
        sensor->suspect = !clean;
        sensor->slipped = false;
    } else if ((sensor->outstanding && !sensor->repeated) || !seen_empty) {
        sensor->suspect = true;
        sensor->heard_ns = now_ns;
    }

    /* the line is clean: all owed replies are settled */
    if (!sensor->suspect)
        sensor->owed = 0;
    parser_reset(&sensor->parser);
    sensor->outstanding = false;
    sensor->dirty = false;
    *clock_ns = core->clock->now(core);
    return true;
}

/* from now on a sample of this trigger is expected */
static void expect_sample(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    sensor->refusal = sensor->frozen = sensor->repeated = false;
    sensor->reason = sensor->detail = 0;
    sensor->cycle = core->cycle;
    sensor->triggered_ns = now_ns;
    sensor->outstanding = true;
    sensor->bytes_asked = sensor->bytes_in;
    sensor->owed += sensor->owed < OWED_NOT_KNOWN;
}

/* fire a sensor's trigger, unless its device is away or its line is not quiet */
static void fire(struct inphase_core *core, struct sensor *sensor)
{
    struct device *device = sensor->device;
    int64_t now_ns = core->clock->now(core);
    int64_t late_ns;
    int rc;

    /* a trigger after the deadline could not be answered in time */
    if (!device->attached || device->starved ||
        now_ns >= core->due_ns + core->read_deadline_ns ||
        (!device->ops->pairs && !line_is_quiet(core, sensor, &now_ns)))
        return;

    /* drained replies belong to the trigger before */
    expect_sample(core, sensor, now_ns);
    device->quiet_until_ns = now_ns + sensor->parser.exchange.spec.reply_max_ns +
                             sensor->parser.exchange.spec.framing.idle_ns;

    /* the line first: its edge is the trigger */
    rc = sensor->has_line ? line_raise(sensor) : 0;
    if (rc == 0)
        rc = device->ops->trigger(core, sensor, now_ns);
    if (rc < 0) {
        device_lost(core, device, rc);
        return;
    }

    /* the frame's first trigger, and how late this one was */
    if (core->first_trigger_ns == INPHASE_ABSENT)
        core->first_trigger_ns = now_ns;
    late_ns = now_ns - core->due_ns - sensor->trigger_ns;
    if (!is_stopping(core))
        histogram_add(&core->statistics->histogram[INPHASE_HIST_TRIGGER], late_ns);
    note_late(core, late_ns, INPHASE_PHASE_TRIGGER, device);
}

/* does this frame still wait for a reply? */
static bool replies_missing(const struct inphase_core *core)
{
    const struct sensor *awaited = pace_awaited(core);

    for (uint32_t i = 0; i < core->sensors; i++) {
        const struct sensor *sensor = &core->sensor[i];
        bool is_due = sensor->outstanding && due_cycle(sensor, sensor->cycle) == core->cycle;

        if ((is_due || sensor == awaited) && sensor->receives < RECEIVES_PER_CYCLE)
            return true;
    }
    return false;
}

/* a sensor at the start of a cycle, before anything has come */
static void begin(struct inphase_core *core, struct sensor *sensor)
{
    bool triggers = !sensor->free_running && is_its_turn(sensor, core->cycle);
    int64_t due = sensor->early_due;

    sensor->fresh = false;
    sensor->receives = 0;

    /* a sample that came early is due now; if its frame was skipped, it is just an earlier one */
    if (sensor->early.sequence >= 0 && due <= core->cycle) {
        sensor->fresh = due == core->cycle && !sensor->frozen;
        copy_sample(&sensor->newest, &sensor->early, sensor->channels);
        sensor->early.sequence = -1;
    }

    /* the result of a trigger is told in the frame that it is due in, and until the next trigger;
       if the trigger of this frame was skipped, it tells nothing of an earlier one */
    if (sensor->free_running || triggers ||
        (is_due(sensor, core->cycle) && due_cycle(sensor, sensor->cycle) != core->cycle)) {
        sensor->refusal = sensor->frozen = false;
        sensor->reason = sensor->detail = 0;
    }

    /* a worker fires by itself, at the same time of the grid */
    if (triggers && sensor->device->ops->pairs && sensor->device->attached)
        expect_sample(core, sensor, core->due_ns + sensor->trigger_ns);
}

/* one read, and all of it that an outstanding trigger waits for */
static void take_replies(struct inphase_core *core, struct sensor *sensor)
{
    while (sensor->device->attached && sensor->receives < RECEIVES_PER_CYCLE &&
           receive(core, sensor) && sensor->parser.more && sensor->outstanding)
        ;
}

/* samples in memory, or on a line that nobody waits for: no system call but a read */
static void look(struct inphase_core *core, struct sensor *sensor)
{
    uint32_t most = sensor->free_running ? LOOKS_PER_CYCLE : RECEIVES_PER_CYCLE;

    while (sensor->device->attached && sensor->receives < most && receive(core, sensor))
        ;
}

/* free-running sensors: the newest sample that is there, or all of them as a burst */
static void look_at_streams(struct inphase_core *core)
{
    for (uint32_t i = 0; core->streams && i < core->sensors; i++) {
        if (!core->sensor[i].free_running)
            continue;
        look(core, &core->sensor[i]);
        store_burst(core, &core->sensor[i]);
    }
}

/* End the packets behind which the line was silent for long enough. Returns when silence ends the
   next one, or until_ns. A line that babbles has had its reads, and ends none */
static int64_t end_by_silence(struct inphase_core *core, int64_t now_ns, int64_t until_ns)
{
    for (uint32_t i = 0; i < core->sensors; i++) {
        struct sensor *sensor = &core->sensor[i];

        if (!sensor->outstanding || sensor->receives >= RECEIVES_PER_CYCLE)
            continue;
        if (silence_ends_ns(sensor) <= now_ns)
            take_replies(core, sensor);
        if (sensor->outstanding && sensor->receives < RECEIVES_PER_CYCLE &&
            silence_ends_ns(sensor) < until_ns)
            until_ns = silence_ends_ns(sensor);
    }
    return until_ns;
}

void begin_pace(struct inphase_core *core)
{
    if (!core->pace.sensor)
        return;
    begin(core, core->pace.sensor);
    pace_begin(core);
}

void sleep_and_hear(struct inphase_core *core, int64_t time_ns)
{
    struct sensor *sensor = core->pace.sensor;

    while (sensor && sensor->device->attached && sensor->receives < RECEIVES_PER_CYCLE &&
           core->clock->hear(core, sensor, time_ns))
        receive(core, sensor);
    core->clock->sleep_until(core, time_ns);
}

void stage_collect(struct inphase_core *core)
{
    int64_t deadline_ns = core->due_ns + core->read_deadline_ns;
    uint32_t next = 0;

    /* all sensors, before anything has come */
    core->first_trigger_ns = INPHASE_ABSENT;
    for (uint32_t i = 0; i < core->sensors; i++)
        if (&core->sensor[i] != core->pace.sensor)
            begin(core, &core->sensor[i]);

    /* until every trigger is out and every wanted reply is in, or the read deadline; the next
       trigger bounds each wait */
    for (;;) {
        int64_t now_ns = core->clock->now(core);
        int64_t until_ns = deadline_ns;

        /* the triggers whose time has come, in the order of their offsets */
        while (next < core->triggered &&
               core->due_ns + core->sensor[core->order[next]].trigger_ns <= now_ns) {
            struct sensor *sensor = &core->sensor[core->order[next++]];

            if (is_its_turn(sensor, core->cycle))
                fire(core, sensor);
        }
        if (next < core->triggered &&
            core->due_ns + core->sensor[core->order[next]].trigger_ns < until_ns)
            until_ns = core->due_ns + core->sensor[core->order[next]].trigger_ns;

        /* samples of workers, which lie in memory */
        for (uint32_t i = 0; core->posting && i < core->sensors; i++)
            if (core->sensor[i].device->ops->pairs && !core->sensor[i].free_running)
                look(core, &core->sensor[i]);

        if (core->silences)
            until_ns = end_by_silence(core, now_ns, until_ns);

        /* nothing to wait for but the next trigger, if there is one */
        if (!replies_missing(core)) {
            if (next == core->triggered)
                break;
            core->clock->sleep_until(core, until_ns);
            continue;
        }

        /* one wait for all replies, and one read of each that came */
        if (now_ns >= deadline_ns)
            break;
        core->clock->wait(core, until_ns);
        for (uint32_t i = 0; i < core->sensors; i++)
            if (core->readable[i])
                take_replies(core, &core->sensor[i]);
    }

    look_at_streams(core);

    /* pulses that have been long enough */
    lines_lower(core, false);
}
