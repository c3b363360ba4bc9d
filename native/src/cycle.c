/* One cycle, as its stages: wake, devices, collect, status, state, latch, act, finish. The cycle
   thread runs them on the machine's clock. Lock step runs the same stages on virtual time. The two
   differ in struct clock_ops and struct device_ops, and in nothing else.

   cycle_run, near the end, names them all in their order. Collecting is in collect.c, acting in
   act.c, devices come and go in device.c; the other stages are here.

   System calls per cycle, in order: clock_nanosleep to the due time, and where a device paces the
   cycle one ppoll before it, with one read and one ppoll more per packet that comes before it; per
   exchange one write and, when its reply is there, one read, and one more where silence ends it;
   per trigger line two ioctls; one ppoll, and a further one while replies are missing; per worker
   that posted one preadv2; one futex, which wakes two at most; where anything acts,
   clock_nanosleep to the act offset, one ioctl per line of the emergency stop, and per actuator one
   write, or one futex where a worker has it. Everything else is memory.
   Each loop is bounded by the number of sensors, channels or grid points, or by the deadline. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "act.h"
#include "client_page.h"
#include "clock.h"
#include "collect.h"
#include "core.h"
#include "cycle.h"
#include "device.h"
#include "guard.h"
#include "lateness.h"
#include "pace.h"
#include "park.h"
#include "realtime.h"
#include "relaxed.h"
#include "relay.h"
#include "rest.h"
#include "sensor.h"
#include "state.h"
#include "statistics.h"
#include "store.h"
#include "twin.h"

#define WAKE_TRIES 4

/* ---- wake -------------------------------------------------------------------------------- */

/* the grid begins a few periods from now, so that the first wake is not late; virtual time begins
   at 0 */
void cycle_begin(struct inphase_core *core)
{
    put_i64(&core->state->start_ns, core->clock->now(core) + 5 * core->period_ns);
    if (core->clock == &virtual_clock)
        put_i64(&core->state->start_ns, 0);
    core->cycle = 0;
    state_set(core, INPHASE_STATE_OPENED);
}

/* follow a stop request: ramp, and end after the frame that tells the end of the ramp */
static bool stop_is_complete(struct inphase_core *core)
{
    struct state *state = core->state;
    int64_t since;
    uint64_t stop;

    if (core->is_over)
        return true;

    /* a run of so many cycles asks for its own stop */
    if (core->cycle_limit && load_i64(&state->cycles) >= core->cycle_limit)
        inphase_core_stop(core, INPHASE_REASON_DONE, 0);
    stop = atomic_load_explicit(&core->stop, memory_order_relaxed);
    if (stop == INPHASE_REASON_NONE)
        return false;

    /* the ramp begins once; it has a bounded time, and so has a park before it */
    if (!is_stopping(core)) {
        state_stop(core, (uint32_t)(stop >> 32), (uint32_t)stop);
        return false;
    }
    since = core->stop_cycle > core->parked_cycle ? core->stop_cycle : core->parked_cycle;
    return core->told_stop || (core->cycle - since) * core->period_ns > STOP_NS;
}

/* Sleep to the grid point of this cycle. A wake that is late by a period or more goes on to the
   next grid point, so that no cycle runs out of phase */
static void sleep_to_grid(struct inphase_core *core)
{
    int64_t start_ns = load_i64(&core->state->start_ns);
    const struct inphase_fault *fault;
    int64_t late_ns;

    core->sleeps = 0;
    core->is_latched = false;
    begin_pace(core);
    for (int tries = 1;; tries++) {
        /* the absolute time of the grid point, and what a fault plan adds to it */
        core->due_ns = start_ns + core->cycle * core->period_ns;
        sleep_and_hear(core, core->due_ns);
        fault = fault_at(core, INPHASE_FAULT_WAKE, 0, core->cycle);
        if (fault)
            core->clock->sleep_until(core, core->due_ns + fault->argument);
        core->woke_ns = core->clock->now(core);
        late_ns = core->woke_ns - core->due_ns;

        /* how late it was; a pause of the whole machine latches motion */
        if (!is_stopping(core))
            histogram_add(&core->statistics->histogram[INPHASE_HIST_WAKE], late_ns);
        note_late(core, late_ns, INPHASE_PHASE_WAKE, NULL);
        note_suspension(core, late_ns);
        guard_beat(core, core->woke_ns);

        /* after WAKE_TRIES the cycle runs late, and counts as an overrun */
        if (late_ns < core->period_ns || tries == WAKE_TRIES)
            return;

        /* whole grid points are left out, and counted */
        core->skipped += (uint32_t)(late_ns / core->period_ns + 1);
        core->cycle += late_ns / core->period_ns + 1;
        core->overran += late_ns / core->period_ns + 1;
    }
}

static void stage_wake(struct inphase_core *core)
{
    sleep_to_grid(core);

    /* was a clock set, or the machine suspended? With actuators the act looks for the latter */
    note_wall_clock(core);
    if (!core->actuators)
        note_boot_clock(core);
}

/* ---- latch ------------------------------------------------------------------------------- */

/* A part of the reply is there, and the time for all of it is over. A set of CAN frames with some
   missing is not cut */
static bool is_cut_short(const struct inphase_core *core, const struct sensor *sensor)
{
    return sensor->outstanding && !sensor->device->ops->pairs && !sensor->frozen &&
           !sensor->parser.exchange.spec.framing.can &&
           (sensor->parser.size > 0 || sensor->parser.replies > 0) &&
           core->latched_ns >= sensor->device->quiet_until_ns;
}

/* A sample may answer another trigger than this frame's. The doubt stays with the sample: what came
   behind it, and was refused, does not end it */
static bool is_in_doubt(const struct sensor *sensor)
{
    return sensor->suspect || (!sensor->free_running && sensor->newest.cycle == -1);
}

static uint16_t sensor_status(struct inphase_core *core, struct sensor *sensor)
{
    bool due = sensor->free_running || is_due(sensor, core->cycle);
    bool is_old = sample_age(sensor, core->latched_ns) > sensor->max_age_ns;

    /* a fresh sample; a device that was away has to prove itself first */
    if (sensor->fresh && !is_old) {
        if (sensor->recovering == 0)
            return is_in_doubt(sensor) ? INPHASE_RECOVERING : INPHASE_FRESH;
        sensor->recovering--;
        return INPHASE_RECOVERING;
    }

    /* no device, or nobody at the other end */
    if (!sensor->device->attached || sensor->device->refused) {
        sensor->recovering = sensor->recover;
        return INPHASE_OFFLINE;
    }

    /* a refused reply, or a part of one */
    if (due && !sensor->refusal && is_cut_short(core, sensor)) {
        sensor->refusal = true;
        sensor->reason = INPHASE_REASON_SIZE;
        sensor->detail = (uint32_t)(sensor->bytes_in - sensor->bytes_asked);
    }
    if (due && sensor->refusal) {
        sensor->refused_in_a_row++;
        return INPHASE_INVALID;
    }

    /* a late reply may still come: it stays outstanding, and is drained before the next trigger */
    if (due && sensor->frozen)
        return INPHASE_FROZEN;
    if (is_old)
        return INPHASE_MISSING;
    if (due && !sensor->free_running)
        return INPHASE_LATE;

    /* not due: the newest earlier sample, as good as it was */
    return sensor->newest.trusted ? INPHASE_HELD : INPHASE_RECOVERING;
}

/* a status may latch motion, where an actuator depends on the sensor */
static void watch_feedback(struct inphase_core *core, const struct sensor *sensor, uint16_t status)
{
    for (uint32_t i = 0; i < core->actuators; i++) {
        if (core->actuator[i].feedback != sensor)
            continue;
        if (status == INPHASE_OFFLINE)
            latch_motion(core, INPHASE_REASON_OFFLINE, (uint32_t)(sensor->device - core->device));

        /* the drive itself reports a fault, or a value that cannot be true */
        if (status == INPHASE_INVALID && (sensor->reason == INPHASE_REASON_RANGE ||
                                          sensor->reason == INPHASE_REASON_RATE ||
                                          sensor->reason == INPHASE_REASON_DEVICE))
            latch_motion(core, sensor->reason, sensor->detail);
    }
}

/* the outcome that a recorded run had, in place of the sensor's own */
static uint16_t take_given(const struct inphase_core *core, struct sensor *sensor)
{
    const struct inphase_row *row = &core->given[sensor->index];
    const double *value = core->given_values[sensor->index];
    struct sample *newest = &sensor->newest;

    newest->sequence = row->sequence;
    newest->cycle = row->cycle;
    newest->triggered_ns = row->triggered_ns;
    newest->acquired_ns = row->acquired_ns;
    newest->received_ns = row->received_ns;
    newest->uncertainty_ns = row->uncertainty_ns;
    if (value)
        memcpy(newest->value, value, sensor->channels * sizeof *value);
    sensor->fresh = row->status == INPHASE_FRESH;
    if (row->status == INPHASE_FRESH || row->status == INPHASE_HELD ||
        row->status == INPHASE_RECOVERING)
        newest->trusted = row->status != INPHASE_RECOVERING;
    sensor->reason = row->reason;
    sensor->detail = row->detail;
    return row->status;
}

/* a sensor's status and its row in the frame */
static void latch_sensor(struct inphase_core *core, struct sensor *sensor, struct inphase_row *row)
{
    uint16_t status = core->given ? take_given(core, sensor) : sensor_status(core, sensor);
    const struct sample *newest = &sensor->newest;
    _Atomic int64_t *count = &core->statistics->statuses[sensor->index][status];

    /* a device that was away may have restarted its numbers */
    if (status == INPHASE_OFFLINE || status == INPHASE_MISSING)
        sensor->device_sequence_known = false;

    /* the row: the newest sample, with its age at the latch */
    sensor->status = status;
    *row = (struct inphase_row){
        .sequence = newest->sequence,
        .cycle = newest->cycle,
        .triggered_ns = newest->triggered_ns,
        .acquired_ns = newest->acquired_ns,
        .received_ns = newest->received_ns,
        .age_ns = INPHASE_ABSENT,
        .uncertainty_ns = newest->uncertainty_ns,
        .status = status,
    };
    if (row->acquired_ns != INPHASE_ABSENT)
        row->age_ns = core->latched_ns - row->acquired_ns;

    /* the reason beside a status that is not good */
    if (status == INPHASE_LATE || (status == INPHASE_MISSING && !sensor->fresh)) {
        row->reason = INPHASE_REASON_SILENT;
    } else if (status == INPHASE_OFFLINE && sensor->device->lost_reason) {
        row->reason = (uint16_t)sensor->device->lost_reason;
        row->detail = sensor->device->lost_detail;
    } else if (status != INPHASE_HELD && status != INPHASE_FRESH) {
        row->reason = (uint16_t)sensor->reason;
        row->detail = sensor->detail;
    }

    if (core->given) {
        row->reason = core->given[sensor->index].reason;
        row->detail = core->given[sensor->index].detail;
    }

    /* count it, and see what it means for motion */
    if (!is_stopping(core))
        put_i64(count, load_i64(count) + 1);
    watch_feedback(core, sensor, status);
    if (status != INPHASE_FRESH && status != INPHASE_HELD &&
        (sensor->free_running || is_due(sensor, core->cycle)))
        note_late(core, core->latched_ns - core->due_ns - sensor->trigger_ns, INPHASE_PHASE_READ,
                  sensor->device);
}

/* the largest difference of acquisition times between the fresh samples of a frame */
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

/* the flags of a frame, out of the acts before it, the state and the host */
static uint32_t frame_flags(struct inphase_core *core)
{
    struct state *state = core->state;
    int64_t page_faults = load_i64(&state->page_faults);
    uint32_t flags = core->flags, acts = 0;

    /* the acts since the frame before */
    for (uint32_t i = 0; i < core->actuators; i++)
        acts |= core->actuator[i].flags;
    if (acts & INPHASE_ACT_LIMITED)
        flags |= INPHASE_FLAG_LIMITED;
    if (acts & INPHASE_ACT_REPEATED)
        flags |= INPHASE_FLAG_REPEATED;
    if (acts & INPHASE_ACT_RAMPING)
        flags |= INPHASE_FLAG_RAMPING;

    /* the state of the robot */
    if (load_u32(&state->latched) == INPHASE_REASON_ESTOP || (load_u32(&state->estop) & 0xffff))
        flags |= INPHASE_FLAG_ESTOP;
    if (core->told_stop || load_u32(&state->state) == INPHASE_STATE_FAULTED)
        flags |= INPHASE_FLAG_STOPPED;
    if (core->skipped)
        flags |= INPHASE_FLAG_SKIPPED;
    if (core->observe)
        flags |= INPHASE_FLAG_OBSERVING;
    if (load_u32(&state->latched))
        flags |= INPHASE_FLAG_LATCHED;
    if (is_stopping(core))
        flags |= INPHASE_FLAG_STOPPING;

    /* the host: its real-time rights, its page faults */
    if (core->clock == &monotonic_clock &&
        !atomic_load_explicit(&state->rt_granted, memory_order_relaxed))
        flags |= INPHASE_FLAG_NOT_REALTIME;
    if (page_faults != core->noted_page_faults)
        flags |= INPHASE_FLAG_PAGE_FAULTS;
    core->noted_page_faults = page_faults;
    core->flags = 0;
    return flags;
}

/* the rows of the record that is being made, one per sensor */
static struct inphase_row *frame_rows(struct inphase_core *core)
{
    return (void *)((struct inphase_frame *)core->record + 1);
}

/* the status of each sensor */
static void stage_status(struct inphase_core *core)
{
    struct inphase_row *row = frame_rows(core);

    /* as of one instant for all: ages are counted to it */
    core->latched_ns = core->clock->now(core);
    pace_judge(core);
    core->unwritten = core->given_unwritten;
    for (uint32_t i = 0; i < core->sensors; i++)
        latch_sensor(core, &core->sensor[i], &row[i]);
}

/* the robot's state, from these statuses: may anything move? */
static void stage_state(struct inphase_core *core)
{
    /* first the reasons against motion, then the state that follows from them, then a request to
       arm */
    state_watch_guards(core);
    state_watch_supervisor(core);
    rest_look(core);
    state_follow(core);
    state_grant(core);

    /* the frame that tells the end of a stop is the last one */
    if (!is_stopping(core) || core->cycle == core->stop_cycle)
        return;
    if (park_goes_on(core))
        core->parked_cycle = core->cycle;
    else
        core->told_stop = all_at_rest(core) && rest_of_all(core) == REST_KNOWN;
}

/* complete the frame of this cycle and publish it */
static void stage_latch(struct inphase_core *core)
{
    struct inphase_frame *frame = (void *)core->record;
    struct state *state = core->state;
    uint64_t number = atomic_load_explicit(&state->head, memory_order_relaxed);

    /* the head of the frame; its rows and its acts are in the record already */
    *frame = (struct inphase_frame){
        .cycle = core->cycle,
        .due_ns = core->due_ns,
        .woke_ns = core->woke_ns,
        .triggered_ns = core->first_trigger_ns,
        .latched_ns = core->latched_ns,
        .skew_ns = skew_of(frame_rows(core), core->sensors),
        .acted_cycle = core->acted_cycle,
        .acted_ns = core->acted_ns,
        .inferred_ns = core->inferred_ns,
        .inference_ns = core->inference_ns,
        .answered_cycle = core->answered_cycle,
        .reason_cycle = load_i64(&state->reason_cycle),
        .flags = frame_flags(core),
        .skipped = core->skipped,
        .reason = is_stopping(core) ? load_u32(&state->reason) : load_u32(&state->latched),
        .detail = load_u32(is_stopping(core) ? &state->detail : &state->latched_detail),
        .state = core->told_stop ? INPHASE_STATE_STOPPED : load_u32(&state->state),
        .estop = load_u32(&state->estop),
        .lease = core->acted_lease,
        .drove = core->drove,
    };
    client_page_tell(core->client_page, frame);
    if (frame->skew_ns != INPHASE_ABSENT && !is_stopping(core))
        histogram_add(&core->statistics->histogram[INPHASE_HIST_SKEW], frame->skew_ns);

    /* publish the whole record, then its number, then wake the policy and the relay in one call. On
       virtual time nobody is woken: a follower looks every tenth of a second */
    slot_write(ring_slot(core->segment->memory, &core->layout->frames, number), number,
               core->record, core->record_size);
    core->is_latched = true;
    put_i64(&state->cycle, core->cycle);
    atomic_store_explicit(&state->head, number + 1, memory_order_release);
    atomic_store_explicit(&state->wake, (uint32_t)(number + 1), memory_order_release);
    if (core->clock == &monotonic_clock)
        relay_ring(&core->relay, core->policy_bell, (uint32_t)(number + 1));
}

/* ---- finish ------------------------------------------------------------------------------ */

/* The leaky counter: it rises with grid points that were left out, by a late wake or a long cycle,
   and falls with every good cycle. A single hiccup is forgiven: it counts for half of the limit,
   however long it was. A trend stops the robot */
static void count_overrun(struct inphase_core *core, int64_t points)
{
    int64_t most = core->overrun_limit > 1 ? core->overrun_limit / 2 : 1;

    core->overran = 0;

    /* a good cycle */
    if (!points) {
        core->overrun_level -= core->overrun_level > 0 && !core->pace.is_missed;
        return;
    }

    /* an overrun */
    put_i64(&core->state->overruns, load_i64(&core->state->overruns) + 1);
    core->overrun_level += (int32_t)(points < most ? points : most);
    if (core->overrun_level >= (int32_t)core->overrun_limit)
        inphase_core_stop(core, INPHASE_REASON_OVERRUN, 0);
}

/* Go on to the next grid point that is not past. An overrun costs whole cycles and keeps the
   phase */
static void stage_finish(struct inphase_core *core)
{
    struct state *state = core->state;
    int64_t over_ns = core->clock->now(core) - (core->due_ns + core->period_ns);
    int64_t skip = over_ns > 0 ? (over_ns - 1) / core->period_ns + 1 : 0;

    /* count the cycle, and keep its latest moment if it is among the worst */
    put_i64(&state->skipped, load_i64(&state->skipped) + core->skipped);
    if (is_stopping(core))
        put_i64(&state->stopping_cycles, load_i64(&state->stopping_cycles) + 1);
    else
        put_i64(&state->cycles, load_i64(&state->cycles) + 1);
    if (core->worst_late_ns > 0)
        worst_add(core->statistics, core->cycle, core->worst_late_ns, core->worst_phase,
                  core->worst_device);
    core->worst_late_ns = 0;

    /* a cycle that took far too long was a pause of the machine */
    note_suspension(core, over_ns);

    /* the next cycle, and the grid points between */
    core->skipped = (uint32_t)skip;
    core->cycle += 1 + skip;
    if (skip)
        core->flags |= INPHASE_FLAG_OVERRUN;
    count_overrun(core, core->overran + skip);
    pace_follow(core);
}

/* ---- one cycle --------------------------------------------------------------------------- */

bool cycle_run(struct inphase_core *core, enum cycle_part part)
{
    if (part & CYCLE_READ) {
        /* a stop is complete, or the simulated world has failed */
        if (stop_is_complete(core) || core->world.failure) {
            state_end(core);
            return false;
        }

        /* wake on the grid, take over devices, trigger and read them */
        stage_wake(core);
        stage_devices(core);
        stage_collect(core);
        if (core->world.failure)
            return false;

        /* judge the samples, decide what may move, publish the frame */
        stage_status(core);
        stage_state(core);
        stage_latch(core);
    }
    if (part & CYCLE_ACT) {
        /* write the devices, and go on to the next grid point */
        stage_act(core);
        stage_finish(core);
    }
    return true;
}

void *cycle_main(void *argument)
{
    struct inphase_core *core = argument;

    /* rights first, then the guard, then the grid */
    realtime_setup(core);
    guard_own(core);
    cycle_begin(core);
    while (cycle_run(core, CYCLE_WHOLE))
        ;

    /* the run has ended in good order: the guard has nothing left to do */
    guard_disarm(core);
    atomic_store_explicit(&core->ended, 1, memory_order_release);
    return NULL;
}
