/* The times of lock step. They are drawn from a timing model, keyed by cycle and device. Or they
   are those of a recorded run, cycle by cycle. The caller's thread. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "draw.h"
#include "sensor.h"
#include "timing.h"
#include "twin.h"

/* ---- recorded times ---------------------------------------------------------------------- */

static const struct inphase_sensor_trace *trace_of(const struct inphase_core *core,
                                                   const struct sensor *sensor)
{
    return core->trace.cycles ? &core->trace.sensor[sensor->index] : NULL;
}

static int64_t at_cycle(const struct inphase_core *core, const int64_t *of_cycle, int64_t cycle)
{
    return of_cycle[(uint64_t)cycle % core->trace.cycles];
}

static bool ascends(const int64_t *times, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++)
        if (times[i] < times[i - 1])
            return false;
    return true;
}

bool timing_holds(const struct inphase_core *core, const struct inphase_trace *trace)
{
    if (!trace->cycles)
        return true;
    if (trace->cycles > INT64_MAX || !trace->wake_late || !trace->latched || !trace->act_late ||
        !trace->inference || (core->sensors && !trace->sensor))
        return false;
    for (uint32_t i = 0; i < core->sensors; i++) {
        const struct inphase_sensor_trace *of = &trace->sensor[i];

        if (!core->sensor[i].free_running && (!of->took || !of->trigger_late))
            return false;
        if (core->sensor[i].free_running && of->samples &&
            (!of->acquired || !of->received || of->acquired[0] < 0 ||
             !ascends(of->acquired, of->samples)))
            return false;
    }
    return true;
}

/* The lateness that was recorded at this place of the cycle, if the thread slept for it. A thread
   never wakes early: where the recorded run waited for fewer replies, it latched before the read
   deadline, and here the deadline ends the wait */
static int64_t recorded_late(const struct inphase_core *core, int64_t time_ns)
{
    int64_t offset_ns = time_ns - core->due_ns, late_ns;
    const int64_t *late = NULL;

    if (offset_ns == 0)
        late = core->trace.wake_late;
    else if (offset_ns == core->act_ns)
        late = core->trace.act_late;
    else if (offset_ns == core->read_deadline_ns)
        late = core->trace.latched;

    /* a trigger may be at the read deadline's own offset, but nobody waits for it then */
    for (uint32_t i = 0; i < core->triggered && !late; i++) {
        const struct sensor *sensor = &core->sensor[core->order[i]];

        if (core->cycle % sensor->every == 0 && offset_ns == sensor->trigger_ns)
            late = trace_of(core, sensor)->trigger_late;
    }
    if (!late)
        return 0;
    late_ns = at_cycle(core, late, core->cycle) - (late == core->trace.latched ? offset_ns : 0);
    return late_ns > 0 ? late_ns : 0;
}

/* ---- both -------------------------------------------------------------------------------- */

int64_t timing_wake_late(struct inphase_core *core, int64_t time_ns)
{
    if (core->trace.cycles)
        return recorded_late(core, time_ns);
    if (!core->wake_late.knots)
        return 0;
    return draw_ns(core->seed, &core->wake_late, (uint64_t)core->cycle, INPHASE_DRAW_HOST,
                   core->sleeps++);
}

int64_t timing_latch_wake(const struct inphase_core *core)
{
    return core->due_ns + at_cycle(core, core->trace.latched, core->cycle);
}

bool timing_is_taken(const struct inphase_core *core, int64_t cycle)
{
    return !core->trace.cycles || at_cycle(core, core->trace.inference, cycle) >= 0;
}

int64_t timing_inference(const struct inphase_core *core, int64_t cycle)
{
    if (core->trace.cycles)
        return at_cycle(core, core->trace.inference, cycle);
    if (!core->inference.knots)
        return 0;
    return draw_ns(core->seed, &core->inference, (uint64_t)cycle, INPHASE_DRAW_POLICY, 0);
}

/* of a sample of which nobody recorded how long it took: as long as the one before */
static int64_t recorded_latency(const struct inphase_core *core, const struct sensor *sensor,
                                uint64_t key)
{
    const struct inphase_sensor_trace *of = trace_of(core, sensor);
    int64_t took_ns;

    if (sensor->free_running)
        return of->received[key % of->samples] - of->acquired[key % of->samples];
    took_ns = at_cycle(core, of->took, (int64_t)key);
    return took_ns >= 0 ? took_ns : sensor->twin->latency_ns;
}

int64_t timing_latency(const struct inphase_core *core, const struct sensor *sensor, uint64_t key)
{
    const struct inphase_twin *spec = &sensor->twin->spec;
    int64_t latency_ns;

    if (core->trace.cycles)
        return recorded_latency(core, sensor, key);
    if (!spec->latency.knots) {
        /* jitter is drawn only if it is not 0, so that zero costs nothing */
        latency_ns = spec->latency_ns;
        if (spec->jitter_ns && !sensor->free_running)
            latency_ns += (int64_t)((double)spec->jitter_ns *
                                    inphase_draw(core->seed, key, sensor->index,
                                                 INPHASE_DRAW_JITTER));
    } else {
        latency_ns =
            draw_ns(core->seed, &spec->latency, key, sensor->index, INPHASE_DRAW_LATENCY);
    }
    if (spec->jitter.knots)
        latency_ns += draw_ns(core->seed, &spec->jitter, key, sensor->index,
                              INPHASE_DRAW_JITTER);
    return latency_ns;
}

bool timing_drops(const struct inphase_core *core, const struct sensor *sensor, uint64_t key)
{
    double dropout = sensor->twin->spec.dropout;

    if (core->trace.cycles)
        return !sensor->free_running &&
               at_cycle(core, trace_of(core, sensor)->took, (int64_t)key) == INPHASE_TRACE_NONE;
    return dropout > 0 &&
           inphase_draw(core->seed, key, sensor->index, INPHASE_DRAW_DROPOUT) < dropout;
}

bool timing_stands(const struct inphase_core *core, const struct sensor *sensor, uint64_t key)
{
    return core->trace.cycles && !sensor->free_running &&
           at_cycle(core, trace_of(core, sensor)->took, (int64_t)key) == INPHASE_TRACE_STOOD;
}

int64_t timing_next_free(const struct inphase_core *core, const struct sensor *sensor)
{
    const struct inphase_sensor_trace *of = trace_of(core, sensor);
    const struct twin *twin = sensor->twin;

    if (of && !of->samples)
        return INT64_MAX;
    if (of)
        return of->acquired[twin->number % of->samples] +
               (int64_t)(twin->number / of->samples * core->trace.cycles) * core->period_ns;
    return twin->spec.phase_ns + (int64_t)((double)twin->number * (double)twin->spec.period_ns /
                                           (1 + twin->spec.drift));
}
