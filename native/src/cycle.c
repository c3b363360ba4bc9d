/* One cycle, as its stages: wake, take over devices, collect, latch, act, finish. The cycle thread
   runs them on the machine's clock, lock step runs the very same ones on virtual time; the two
   differ in struct clock_ops and struct device_ops and in nothing else.

   System calls per cycle, in order: clock_nanosleep to the due time; per exchange one write and,
   when its reply is there, one read; one ppoll, and a further one while replies are missing; one
   futex wake; clock_nanosleep to the act offset; one write per actuator. Everything else is memory.
   Each loop is bounded by the number of sensors, channels or grid points, or by the read deadline. */
#include <math.h>
#include <string.h>

#include "internal.h"

#define DRAIN_READS 8
#define WAKE_TRIES 4
#define STOP_NS 1300000000LL   /* a ramp that has not ended by then is cut: a stop takes under 2 s */
#define REFUSED_IN_A_ROW 3

static void latch_motion(struct inphase_core *core, uint32_t reason)
{
    if (load_u32(&core->state->latched) == INPHASE_REASON_NONE)
        put_u32(&core->state->latched, reason);
}

/* what was latest in this cycle, and where: one entry per cycle in the list of the worst */
static void note_late(struct inphase_core *core, int64_t late_ns, int phase,
                      const struct device *device)
{
    if (late_ns <= core->worst_late_ns)
        return;
    core->worst_late_ns = late_ns;
    core->worst_phase = phase;
    core->worst_device = device ? (int)(device - core->device) : -1;
}

static bool is_stopping(const struct inphase_core *core)
{
    return load_u32(&core->state->state) == INPHASE_STATE_STOPPING;
}

void inphase_core_stop(inphase_core *core, uint32_t reason, uint32_t detail)
{
    uint64_t none = INPHASE_REASON_NONE;

    /* one word, so that the detail is that of the reason which came first; it orders nothing else */
    atomic_compare_exchange_strong_explicit(&core->stop, &none, (uint64_t)reason << 32 | detail,
                                            memory_order_relaxed, memory_order_relaxed);
}

void device_lost(struct inphase_core *core, struct device *device, int error)
{
    device->attached = false;
    device->was_lost = true;
    device->fd = -1;
    if (device->sensor >= 0)
        core->sensor[device->sensor].outstanding = false;
    if (device->actuator >= 0)
        core->actuator[device->actuator].placed = false;
    put_u32(&core->state->lost_devices, load_u32(&core->state->lost_devices) + 1);
    atomic_store_explicit(&device->lost_errno, -error, memory_order_relaxed);
    atomic_store_explicit(&device->in_use, 0, memory_order_release);
}

/* ---- wake -------------------------------------------------------------------------------- */

void cycle_begin(struct inphase_core *core)
{
    put_i64(&core->state->start_ns, core->clock->now(core) + 5 * core->period_ns);
    if (core->clock == &virtual_clock)
        put_i64(&core->state->start_ns, 0);
    core->cycle = 0;
    put_u32(&core->state->state, INPHASE_STATE_RUNNING);
}

static bool at_rest(const struct inphase_core *core)
{
    for (uint32_t i = 0; i < core->actuators; i++)
        for (uint32_t c = 0; core->actuator[i].placed && c < core->actuator[i].channels; c++)
            if (core->actuator[i].velocity[c] != 0)
                return false;
    return true;
}

/* follow a stop request: ramp, and say when the ramp is done */
static bool stop_is_complete(struct inphase_core *core)
{
    struct state *state = core->state;
    uint64_t stop;
    int64_t ramped;

    if (load_u32(&state->state) == INPHASE_STATE_STOPPED)
        return true;
    if (core->cycle_limit && load_i64(&state->cycles) >= core->cycle_limit)
        inphase_core_stop(core, INPHASE_REASON_DONE, 0);
    stop = atomic_load_explicit(&core->stop, memory_order_relaxed);
    if (stop == INPHASE_REASON_NONE)
        return false;
    if (!is_stopping(core)) {
        put_u32(&state->reason, (uint32_t)(stop >> 32));
        put_u32(&state->detail, (uint32_t)stop);
        put_u32(&state->state, INPHASE_STATE_STOPPING);
        core->stop_cycle = core->cycle;
        return false;
    }
    ramped = core->cycle - core->stop_cycle;
    return (ramped > 0 && at_rest(core)) || ramped * core->period_ns > STOP_NS;
}

/* the machine or this process stood still, wherever in the cycle it was: the next frame says so */
static void note_suspension(struct inphase_core *core, int64_t late_ns)
{
    if (late_ns <= core->resumed_after_ns)
        return;
    core->flags |= INPHASE_FLAG_RESUMED;
    latch_motion(core, INPHASE_REASON_RESUMED);
}

/* sleep to the grid point of this cycle; a wake that is a period or more late goes on to the next
   grid point, so that no cycle runs out of phase */
static void stage_wake(struct inphase_core *core)
{
    int64_t start_ns = load_i64(&core->state->start_ns);
    const struct inphase_fault *fault;
    int64_t late_ns;

    for (int tries = 1;; tries++) {
        core->due_ns = start_ns + core->cycle * core->period_ns;
        core->clock->sleep_until(core, core->due_ns);
        fault = fault_at(core, INPHASE_FAULT_WAKE, 0, core->cycle);
        if (fault)
            core->clock->sleep_until(core, core->due_ns + fault->argument);
        core->woke_ns = core->clock->now(core);
        late_ns = core->woke_ns - core->due_ns;
        if (!is_stopping(core))
            histogram_add(&core->statistics->histogram[INPHASE_HIST_WAKE], late_ns);
        note_late(core, late_ns, INPHASE_PHASE_WAKE, NULL);
        note_suspension(core, late_ns);

        /* after so many tries the cycle runs late, and counts as an overrun */
        if (late_ns < core->period_ns || tries == WAKE_TRIES)
            return;
        core->skipped += (uint32_t)(late_ns / core->period_ns + 1);
        core->cycle += late_ns / core->period_ns + 1;
    }
}

/* ---- devices come and go ----------------------------------------------------------------- */

static void start_over(struct inphase_core *core, struct device *device)
{
    device->attached = true;
    device->refused = false;
    device->quiet_until_ns = 0;
    atomic_store_explicit(&device->lost_errno, 0, memory_order_relaxed);
    atomic_store_explicit(&device->in_use, 1, memory_order_release);
    if (device->sensor >= 0) {
        struct sensor *sensor = &core->sensor[device->sensor];

        parser_reset(&sensor->parser);
        sensor->outstanding = false;
        sensor->dirty = true;
        sensor->suspect = false;
        sensor->device_sequence_known = false;
        sensor->recovering = device->was_lost ? sensor->recover : 0;
    }
}

static void stage_devices(struct inphase_core *core)
{
    uint32_t arms = atomic_load_explicit(&core->arm_requests, memory_order_acquire);

    for (uint32_t i = 0; i < core->devices; i++) {
        struct device *device = &core->device[i];
        int request = atomic_load_explicit(&device->request, memory_order_acquire);

        if (device->ops == &twin_ops && !device->attached &&
            core->cycle >= device->gone_until_cycle)
            start_over(core, device);
        if (request == REQUEST_NONE)
            continue;
        if (request == REQUEST_ATTACH) {
            device->fd = atomic_load_explicit(&device->request_fd, memory_order_relaxed);
            start_over(core, device);
        } else {
            device->attached = false;
            device->fd = -1;
            if (device->sensor >= 0)
                core->sensor[device->sensor].outstanding = false;
            atomic_store_explicit(&device->in_use, 0, memory_order_release);
        }
        atomic_store_explicit(&device->request, REQUEST_NONE, memory_order_release);
    }

    /* armed again: every actuator starts from where it is measured */
    if (arms != core->arm_seen) {
        core->arm_seen = arms;
        put_u32(&core->state->latched, INPHASE_REASON_NONE);
        for (uint32_t i = 0; i < core->actuators; i++)
            core->actuator[i].placed = false;
    }
}

/* ---- collect: triggers out, replies in --------------------------------------------------- */

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

static void stage_collect(struct inphase_core *core)
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

/* ---- latch ------------------------------------------------------------------------------- */

/* since when the newest sample is old: from its acquisition, or from its trigger, which is older */
static int64_t sample_age(const struct sensor *sensor, int64_t now_ns)
{
    return now_ns - (sensor->sample_acquired_ns != INPHASE_ABSENT ? sensor->sample_acquired_ns
                                                                  : sensor->sample_triggered_ns);
}

static uint16_t sensor_status(struct inphase_core *core, struct sensor *sensor)
{
    if (sensor->fresh) {
        if (sensor->recovering == 0)
            return sensor->suspect ? INPHASE_RECOVERING : INPHASE_FRESH;
        sensor->recovering--;
        return INPHASE_RECOVERING;
    }
    if (!sensor->device->attached || sensor->device->refused) {
        sensor->recovering = sensor->recover;
        return INPHASE_OFFLINE;
    }
    if (sensor->refusal) {
        sensor->refused_in_a_row++;
        return INPHASE_INVALID;
    }

    /* the reply may still come: it stays outstanding, and is drained before the next trigger */
    if (sensor->frozen)
        return INPHASE_FROZEN;
    if (sensor->sequence < 0 || sample_age(sensor, core->latched_ns) > sensor->max_age_ns)
        return INPHASE_MISSING;
    return INPHASE_LATE;
}

/* what a status means for motion, when an actuator depends on the sensor */
static void watch_feedback(struct inphase_core *core, const struct sensor *sensor, uint16_t status)
{
    for (uint32_t i = 0; i < core->actuators; i++) {
        if (core->actuator[i].feedback != sensor)
            continue;
        if (status == INPHASE_OFFLINE)
            latch_motion(core, INPHASE_REASON_OFFLINE);
        if (status == INPHASE_INVALID &&
            (sensor->reason == INPHASE_REASON_RANGE || sensor->reason == INPHASE_REASON_RATE))
            latch_motion(core, sensor->reason);
    }
}

static void latch_sensor(struct inphase_core *core, struct sensor *sensor, struct inphase_row *row)
{
    uint16_t status = sensor_status(core, sensor);
    _Atomic int64_t *count = &core->statistics->statuses[sensor->index][status];

    /* a device that was away may have started its numbers again */
    if (status == INPHASE_OFFLINE || status == INPHASE_MISSING)
        sensor->device_sequence_known = false;

    *row = (struct inphase_row){
        .sequence = sensor->sequence,
        .triggered_ns = sensor->sequence < 0 ? INPHASE_ABSENT : sensor->sample_triggered_ns,
        .acquired_ns = sensor->sequence < 0 ? INPHASE_ABSENT : sensor->sample_acquired_ns,
        .received_ns = sensor->sequence < 0 ? INPHASE_ABSENT : sensor->sample_received_ns,
        .age_ns = INPHASE_ABSENT,
        .status = status,
        .reason = (uint16_t)sensor->reason,
        .detail = sensor->detail,
    };
    if (row->acquired_ns != INPHASE_ABSENT)
        row->age_ns = core->latched_ns - row->acquired_ns;
    if (status == INPHASE_LATE || status == INPHASE_MISSING)
        row->reason = INPHASE_REASON_SILENT;
    if (!is_stopping(core))
        put_i64(count, load_i64(count) + 1);
    watch_feedback(core, sensor, status);
    if (status != INPHASE_FRESH)
        note_late(core, core->latched_ns - core->due_ns - sensor->trigger_ns, INPHASE_PHASE_READ,
                  sensor->device);
}

static int64_t skew_of(const struct inphase_row *row, uint32_t count)
{
    int64_t first = INT64_MAX, last = INT64_MIN;
    uint32_t known = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (row[i].status != INPHASE_FRESH || row[i].acquired_ns == INPHASE_ABSENT)
            continue;
        known++;
        first = row[i].acquired_ns < first ? row[i].acquired_ns : first;
        last = row[i].acquired_ns > last ? row[i].acquired_ns : last;
    }
    return known < 2 ? INPHASE_ABSENT : last - first;
}

static uint32_t frame_flags(struct inphase_core *core)
{
    struct state *state = core->state;
    int64_t page_faults = load_i64(&state->page_faults);
    uint32_t flags = core->flags;

    if (core->skipped)
        flags |= INPHASE_FLAG_SKIPPED;
    if (core->observe)
        flags |= INPHASE_FLAG_OBSERVING;
    if (load_u32(&state->latched))
        flags |= INPHASE_FLAG_LATCHED;
    if (is_stopping(core))
        flags |= INPHASE_FLAG_STOPPING;
    if (core->clock == &monotonic_clock &&
        !atomic_load_explicit(&state->rt_granted, memory_order_relaxed))
        flags |= INPHASE_FLAG_NOT_REALTIME;
    if (page_faults != core->noted_page_faults)
        flags |= INPHASE_FLAG_PAGE_FAULTS;
    core->noted_page_faults = page_faults;
    core->flags = 0;
    return flags;
}

static void stage_latch(struct inphase_core *core)
{
    struct inphase_frame *frame = (void *)core->record;
    struct inphase_row *row = (void *)(frame + 1);
    struct state *state = core->state;
    uint64_t number = atomic_load_explicit(&state->head, memory_order_relaxed);

    /* one instant for all: ages are counted to it */
    core->latched_ns = core->clock->now(core);
    for (uint32_t i = 0; i < core->sensors; i++)
        latch_sensor(core, &core->sensor[i], &row[i]);
    *frame = (struct inphase_frame){
        .cycle = core->cycle,
        .due_ns = core->due_ns,
        .woke_ns = core->woke_ns,
        .triggered_ns = core->first_trigger_ns,
        .latched_ns = core->latched_ns,
        .skew_ns = skew_of(row, core->sensors),
        .acted_cycle = core->acted_cycle,
        .acted_ns = core->acted_ns,
        .inferred_ns = core->inferred_ns,
        .flags = frame_flags(core),
        .skipped = core->skipped,
        .reason = is_stopping(core) ? load_u32(&state->reason) : load_u32(&state->latched),
        .detail = is_stopping(core) ? load_u32(&state->detail) : 0,
    };
    if (frame->skew_ns != INPHASE_ABSENT && !is_stopping(core))
        histogram_add(&core->statistics->histogram[INPHASE_HIST_SKEW], frame->skew_ns);

    /* publish: the whole record, then its number, then one wake for all who wait. On virtual time
       nobody is woken: a follower looks for itself every tenth of a second */
    slot_write(ring_slot(core->segment->memory, &core->layout->frames, number), number,
               core->record, core->record_size);
    put_i64(&state->cycle, core->cycle);
    atomic_store_explicit(&state->head, number + 1, memory_order_release);
    atomic_store_explicit(&state->wake, (uint32_t)(number + 1), memory_order_release);
    if (core->clock == &monotonic_clock)
        store_wake(state);
}

bool cycle_latch(struct inphase_core *core)
{
    if (stop_is_complete(core)) {
        put_u32(&core->state->state, INPHASE_STATE_STOPPED);
        return false;
    }
    stage_wake(core);
    stage_devices(core);
    stage_collect(core);
    stage_latch(core);
    return true;
}

/* ---- act --------------------------------------------------------------------------------- */

/* what the policy says of this cycle: NONE when core->command holds a valid one */
static uint32_t look_for_command(struct inphase_core *core, int64_t now_ns)
{
    uint32_t gone = atomic_load_explicit(&core->policy_gone, memory_order_relaxed);
    int rc = -ENOENT;

    if (core->mailbox)
        rc = mailbox_look(core->mailbox, core->values, core->cycle, &core->command);
    core->inferred_ns = INPHASE_ABSENT;
    if (rc == -ENOENT)
        return gone ? gone : INPHASE_REASON_SILENT;
    if (rc < 0)
        return INPHASE_REASON_SHAPE;
    core->inferred_ns = core->command.posted_ns;
    if (core->command.reason)
        return core->command.reason;
    if (core->command.valid_until_ns < now_ns)
        return INPHASE_REASON_EXPIRED;
    for (uint32_t i = 0; i < core->values; i++)
        if (!isfinite(core->command.value[i]))
            return INPHASE_REASON_NAN;
    return INPHASE_REASON_NONE;
}

static bool feedback_holds(const struct actuator *actuator, int64_t now_ns)
{
    const struct sensor *sensor = actuator->feedback;

    return sensor->sequence >= 0 && sensor->trusted && sensor->device->attached &&
           sensor->refused_in_a_row < REFUSED_IN_A_ROW &&
           sample_age(sensor, now_ns) <= sensor->max_age_ns;
}

/* the first command must lie within one velocity step of where the robot is */
static bool starts_here(struct inphase_core *core, struct actuator *actuator,
                        const double *requested, const double *measured)
{
    double period_s = (double)core->period_ns * 1e-9;

    for (uint32_t c = 0; c < actuator->channels; c++) {
        double here = measured ? measured[c] : actuator->applied[c];

        if (!(fabs(requested[c] - here) <= actuator->limits[c].velocity * period_s)) {
            actuator->detail = c;
            return false;
        }
    }
    return true;
}

static void ramp(struct inphase_core *core, struct actuator *actuator, uint32_t reason)
{
    double period_s = (double)core->period_ns * 1e-9;

    actuator->flags |= INPHASE_ACT_RAMPING;
    if (!actuator->reason)
        actuator->reason = reason;
    for (uint32_t c = 0; c < actuator->channels; c++)
        actuator->applied[c] = inphase_ramp(&actuator->limits[c], actuator->applied[c],
                                            &actuator->velocity[c], period_s);
}

static void obey(struct inphase_core *core, struct actuator *actuator, const double *requested,
                 const double *measured)
{
    double period_s = (double)core->period_ns * 1e-9;
    double elapsed_s = period_s * (double)(core->cycle - actuator->written_cycle);

    /* one period's reach, also after cycles that were not written: there is no catching up */
    for (uint32_t c = 0; c < actuator->channels; c++) {
        double before = actuator->applied[c];

        actuator->applied[c] = inphase_limit(&actuator->limits[c], requested[c], before,
                                             measured ? measured[c] : NAN, period_s);
        actuator->velocity[c] = (actuator->applied[c] - before) / elapsed_s;
        if (actuator->applied[c] != requested[c])
            actuator->flags |= INPHASE_ACT_LIMITED;
    }
    actuator->engaged = true;
    actuator->valid_ns = core->due_ns + core->act_ns;
}

/* decide what to apply; false: nothing can be, the robot's place is not known */
static bool decide(struct inphase_core *core, struct actuator *actuator, uint32_t missing,
                   int64_t now_ns)
{
    const double *measured = NULL;
    uint32_t latched = load_u32(&core->state->latched);
    int64_t act_ns = core->due_ns + core->act_ns;
    bool blind = !actuator->feedback;

    if (!blind && feedback_holds(actuator, now_ns))
        measured = actuator->feedback->value + actuator->feedback_channel;
    if (!actuator->placed) {
        if (!blind && !measured) {
            actuator->reason = INPHASE_REASON_FEEDBACK;
            return false;
        }
        for (uint32_t c = 0; c < actuator->channels; c++) {
            if (measured)
                actuator->applied[c] = measured[c];
            actuator->velocity[c] = 0;
        }
        actuator->placed = true;
        actuator->engaged = false;
        actuator->written_cycle = core->cycle - 1;
    }
    if (missing == INPHASE_REASON_NONE && !actuator->engaged &&
        !starts_here(core, actuator, actuator->requested, measured)) {
        missing = INPHASE_REASON_START;
        actuator->flags |= INPHASE_ACT_INVALID;
    }
    actuator->reason = missing;
    actuator->invalid_in_a_row = missing == INPHASE_REASON_NAN ? actuator->invalid_in_a_row + 1 : 0;
    if (is_stopping(core) || latched) {
        actuator->reason = is_stopping(core) ? load_u32(&core->state->reason) : latched;
        ramp(core, actuator, actuator->reason);
    } else if (!blind && !measured) {
        actuator->reason = INPHASE_REASON_FEEDBACK;
        ramp(core, actuator, INPHASE_REASON_FEEDBACK);
    } else if (missing == INPHASE_REASON_NONE) {
        obey(core, actuator, actuator->requested, measured);
    } else if (!actuator->engaged) {
        actuator->flags |= INPHASE_ACT_HOLDING;
    } else if (act_ns - actuator->valid_ns <= actuator->max_hold_ns &&
               actuator->invalid_in_a_row < REFUSED_IN_A_ROW) {
        actuator->flags |= INPHASE_ACT_REPEATED;
        memset(actuator->velocity, 0, sizeof actuator->velocity);
    } else {
        ramp(core, actuator, missing);
    }
    return true;
}

/* a reply may still be on the line, and a write would collide with it */
static bool bus_is_busy(const struct inphase_core *core, const struct device *device,
                        int64_t now_ns)
{
    const struct sensor *sensor = device->sensor < 0 ? NULL : &core->sensor[device->sensor];

    return sensor && (sensor->outstanding || sensor->dirty) && now_ns < device->quiet_until_ns;
}

/* the only place in which a command leaves for a device; what it writes came from the limiter */
static void write_command(struct inphase_core *core, struct actuator *actuator)
{
    int rc;

    if (bus_is_busy(core, actuator->device, core->clock->now(core)))
        rc = -EAGAIN;
    else
        rc = actuator->device->ops->write(core, actuator);
    if (rc == -EAGAIN) {
        actuator->reason = INPHASE_REASON_BUSY;
        count_add(core->statistics, COUNT_BUSY, 1);
    } else if (rc < 0) {
        device_lost(core, actuator->device, rc);
    } else {
        actuator->flags |= INPHASE_ACT_WRITTEN;
        count_add(core->statistics, COUNT_WRITTEN, 1);
    }
}

/* said in the act, and counted: was a command there at all? */
static bool is_missed(uint32_t missing)
{
    return missing == INPHASE_REASON_SILENT || missing == INPHASE_REASON_DIED;
}

static void act_one(struct inphase_core *core, struct actuator *actuator, uint32_t missing,
                    int64_t now_ns)
{
    struct inphase_act *act = core->act[actuator->index];
    double *requested = (double *)(act + 1);
    double *applied = requested + actuator->channels;
    double before[INPHASE_MAX_CHANNELS], velocity[INPHASE_MAX_CHANNELS];
    bool placed = actuator->placed, engaged = actuator->engaged;

    actuator->flags = actuator->reason = actuator->detail = 0;
    if (missing && core->has_policy)
        actuator->flags = is_missed(missing) ? INPHASE_ACT_MISSED : INPHASE_ACT_INVALID;
    for (uint32_t c = 0; c < actuator->channels; c++)
        requested[c] = actuator->requested[c] =
            missing ? NAN : core->command.value[actuator->first_value + c];
    if (core->observe || !actuator->device->attached ||
        !atomic_load_explicit(&actuator->enabled, memory_order_acquire)) {
        actuator->placed = false;
        actuator->reason = missing;
    } else {
        memcpy(before, actuator->applied, sizeof before);
        memcpy(velocity, actuator->velocity, sizeof velocity);
        if (decide(core, actuator, missing, now_ns))
            write_command(core, actuator);

        /* what was not written was not applied, and a place that was only looked up is none; time
           goes on all the same: a ramp or a hold has slowed down whether the bus was busy or not */
        if (actuator->flags & INPHASE_ACT_WRITTEN) {
            actuator->written_cycle = core->cycle;
        } else {
            memcpy(actuator->applied, before, sizeof before);
            if (!(actuator->flags & (INPHASE_ACT_RAMPING | INPHASE_ACT_REPEATED)))
                memcpy(actuator->velocity, velocity, sizeof velocity);
            actuator->placed = actuator->placed && placed;
            actuator->engaged = actuator->engaged && engaged;
        }
    }
    for (uint32_t c = 0; c < actuator->channels; c++)
        applied[c] = actuator->placed ? actuator->applied[c] : NAN;
    act->flags = actuator->flags;
    act->reason = actuator->reason;
    act->detail = actuator->detail;
}

static void count_command(struct inphase_core *core, uint32_t missing)
{
    struct statistics *statistics = core->statistics;
    _Atomic int64_t *reason = &statistics->reasons[missing];
    uint32_t all = 0;

    for (uint32_t i = 0; i < core->actuators; i++)
        all |= core->actuator[i].flags;
    count_add(statistics, COUNT_LIMITED, (all & INPHASE_ACT_LIMITED) != 0);
    count_add(statistics, COUNT_REPEATED, (all & INPHASE_ACT_REPEATED) != 0);
    count_add(statistics, COUNT_RAMPED, (all & INPHASE_ACT_RAMPING) != 0);
    if (!core->has_policy)
        return;
    if (missing == INPHASE_REASON_NONE) {
        count_add(statistics, COUNT_COMMANDS, 1);
        histogram_add(&statistics->histogram[INPHASE_HIST_LATCH_TO_COMMAND],
                      core->command.posted_ns - core->latched_ns);
        return;
    }
    put_i64(reason, load_i64(reason) + 1);
    count_add(statistics, is_missed(missing) ? COUNT_MISSED : COUNT_INVALID, 1);
}

static void stage_act(struct inphase_core *core)
{
    int64_t act_ns = core->due_ns + core->act_ns;
    uint32_t missing;
    int64_t now_ns, late_ns;

    core->clock->sleep_until(core, act_ns);
    now_ns = core->clock->now(core);
    note_suspension(core, now_ns - act_ns);
    missing = look_for_command(core, now_ns);
    for (uint32_t i = 0; i < core->actuators; i++) {
        act_one(core, &core->actuator[i], missing, now_ns);

        /* a command that was whole but refused by one actuator counts as refused */
        if (missing == INPHASE_REASON_NONE && core->actuator[i].reason == INPHASE_REASON_START)
            missing = INPHASE_REASON_START;
    }
    core->acted_cycle = core->cycle;
    core->acted_ns = core->clock->now(core);
    late_ns = now_ns - act_ns;
    note_late(core, late_ns, INPHASE_PHASE_ACT, NULL);
    if (is_stopping(core))
        return;
    histogram_add(&core->statistics->histogram[INPHASE_HIST_ACT], late_ns);
    count_command(core, missing);
}

/* ---- finish ------------------------------------------------------------------------------ */

/* On to the next grid point that is not past. An overrun costs whole cycles and keeps the phase;
   the leaky counter forgives a hiccup and stops on a trend. */
static void stage_finish(struct inphase_core *core)
{
    struct state *state = core->state;
    int64_t over_ns = core->clock->now(core) - (core->due_ns + core->period_ns);
    int64_t skip = over_ns > 0 ? (over_ns - 1) / core->period_ns + 1 : 0;

    put_i64(&state->skipped, load_i64(&state->skipped) + core->skipped);
    if (is_stopping(core))
        put_i64(&state->stopping_cycles, load_i64(&state->stopping_cycles) + 1);
    else
        put_i64(&state->cycles, load_i64(&state->cycles) + 1);
    if (core->worst_late_ns > 0)
        worst_add(core->statistics, core->cycle, core->worst_late_ns, core->worst_phase,
                  core->worst_device);
    core->worst_late_ns = 0;
    note_suspension(core, over_ns);
    core->skipped = (uint32_t)skip;
    core->cycle += 1 + skip;
    if (skip) {
        put_i64(&state->overruns, load_i64(&state->overruns) + 1);
        core->flags |= INPHASE_FLAG_OVERRUN;
        if (++core->overrun_level >= (int32_t)core->overrun_limit)
            inphase_core_stop(core, INPHASE_REASON_OVERRUN, 0);
    } else if (core->overrun_level > 0) {
        core->overrun_level--;
    }
}

void cycle_act(struct inphase_core *core)
{
    stage_act(core);
    stage_finish(core);
}

void *cycle_main(void *argument)
{
    struct inphase_core *core = argument;

    realtime_setup(core);
    cycle_begin(core);
    while (cycle_latch(core))
        cycle_act(core);
    atomic_store_explicit(&core->ended, 1, memory_order_release);
    return NULL;
}
