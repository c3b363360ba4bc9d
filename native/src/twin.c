/* Simulated devices for lock step. They answer at the level of samples: each sample is taken at the
   instant of its acquisition, each command takes effect after its delay. They measure and move a
   world, or servos that follow their commands. Everything happens in the order of virtual time.
   Only + - * / on doubles, so that every machine gives the same bytes. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actuator.h"
#include "burst.h"
#include "core.h"
#include "device.h"
#include "draw.h"
#include "sensor.h"
#include "statistics.h"
#include "timing.h"
#include "twin.h"
#include "world.h"

#define SERVO_STEP_NS 250000
#define QUEUE_MAX 1024 /* samples of a free-running device under way */

static double cap(double value, double most)
{
    if (value > most)
        return most;
    return value < -most ? -most : value;
}

/* the acceleration with which a joint follows its goal */
static double pull(const struct inphase_servo *s)
{
    double w = s->natural_rad_s;

    switch (s->mode) {
    case INPHASE_MODE_POSITION:
        return w * w * (s->goal - s->position) - 2 * w * s->velocity;
    case INPHASE_MODE_VELOCITY:
        return w * (s->goal - s->velocity);
    case INPHASE_MODE_EFFORT:
        return (s->goal - s->damping * s->velocity) / s->inertia;
    default:
        return 0;
    }
}

void inphase_servo_advance(struct inphase_servo *servos, uint32_t count, int64_t dt_ns)
{
    /* semi-implicit Euler: stable for natural_rad_s * step < 1 */
    while (dt_ns > 0) {
        int64_t step_ns = dt_ns < SERVO_STEP_NS ? dt_ns : SERVO_STEP_NS;
        double step_s = (double)step_ns * 1e-9;

        for (uint32_t i = 0; i < count; i++) {
            struct inphase_servo *s = &servos[i];

            s->acceleration = cap(pull(s), s->acceleration_max);
            s->velocity = cap(s->velocity + s->acceleration * step_s, s->velocity_max);
            s->position += s->velocity * step_s;
        }
        dt_ns -= step_ns;
    }
}

const struct inphase_fault *fault_at(const struct inphase_core *core, uint32_t kind,
                                     uint32_t device, int64_t cycle)
{
    for (uint32_t i = 0; i < core->faults; i++) {
        const struct inphase_fault *fault = &core->fault[i];

        if (fault->kind == kind &&
            (kind == INPHASE_FAULT_WAKE || kind == INPHASE_FAULT_CLOCK_STEP ||
             fault->device == device) &&
            cycle >= fault->from_cycle && cycle - fault->from_cycle < fault->count)
            return fault;
    }
    return NULL;
}

/* ---- what a sensor measures -------------------------------------------------------------- */

/* the servo of an actuator at the time at_ns */
static const struct inphase_servo *servo_at(struct actuator *actuator, uint32_t joint,
                                            int64_t at_ns)
{
    struct plant *plant = actuator->plant;

    if (at_ns > plant->servo_ns) {
        inphase_servo_advance(plant->servo, actuator->channels, at_ns - plant->servo_ns);
        plant->servo_ns = at_ns;
    }
    return &plant->servo[joint];
}

static double quantity(struct inphase_core *core, const struct inphase_twin_channel *channel,
                       int64_t at_ns)
{
    const struct inphase_servo *servo;

    if (channel->kind == INPHASE_TWIN_CONSTANT)
        return 0;
    if (channel->kind == INPHASE_TWIN_WORLD)
        return *channel->source;
    servo = servo_at(&core->actuator[channel->actuator], channel->joint, at_ns);
    if (channel->kind == INPHASE_TWIN_POSITION)
        return servo->position;
    return channel->kind == INPHASE_TWIN_VELOCITY ? servo->velocity : servo->acceleration;
}

/* a sample that is not float64 alone and that nobody renders: a test pattern that moves by one with
   each sample */
static void draw_payload(struct sensor *sensor, const struct coming *coming)
{
    for (uint64_t i = 0; i < sensor->payload; i++)
        coming->payload[i] = (uint8_t)(i + coming->sequence);
}

static void measure_new(struct inphase_core *core, struct sensor *sensor, struct coming *coming)
{
    struct twin *twin = sensor->twin;

    coming->sequence = ++twin->sequence;
    if (coming->payload && twin->spec.rendered)
        world_render(&core->world, sensor->index, coming->payload);
    else if (coming->payload)
        draw_payload(sensor, coming);
    for (uint32_t c = 0; c < sensor->channels; c++) {
        const struct inphase_twin_channel *channel = &twin->channel[c];
        double value = channel->base + channel->gain * quantity(core, channel, coming->at_ns);

        if (channel->noise != 0)
            value += channel->noise * (2 * inphase_draw(core->seed, coming->key, sensor->index,
                                                        INPHASE_DRAW_NOISE + c) - 1);
        twin->value[c] = value;
    }
    if (coming->payload)
        memcpy(twin->payload, coming->payload, sensor->payload);
}

/* does the device stand still? By a planned fault, or by a drawn one, which lasts for some
   samples */
static bool stands(struct inphase_core *core, struct sensor *sensor, const struct coming *coming)
{
    struct twin *twin = sensor->twin;
    uint64_t sample = twin->drawn++;

    if (!twin->sequence)
        return false;
    if (core->trace.cycles)
        return timing_stands(core, sensor, coming->key);
    if (twin->spec.freeze > 0 && sample >= twin->stands_until &&
        inphase_draw(core->seed, coming->key, sensor->index, INPHASE_DRAW_FREEZE) <
            twin->spec.freeze)
        twin->stands_until =
            sample + (uint64_t)draw_ns(core->seed, &twin->spec.freeze_samples, coming->key,
                                       sensor->index, INPHASE_DRAW_FREEZE_SAMPLES);
    return sample < twin->stands_until ||
           (!sensor->free_running &&
            fault_at(core, INPHASE_FAULT_FROZEN, sensor->index, coming->cycle));
}

/* planned faults of a measurement; of a free-running device: of the sample that is looked at */
static void plan_refusal(struct inphase_core *core, struct sensor *sensor, struct coming *coming)
{
    const struct inphase_fault *fault;

    fault = fault_at(core, INPHASE_FAULT_NAN, sensor->index, coming->cycle);
    if (fault && fault->argument >= 0 && fault->argument < sensor->channels)
        coming->value[fault->argument] = NAN;
    fault = fault_at(core, INPHASE_FAULT_WRONG, sensor->index, coming->cycle);
    if (fault)
        for (uint32_t c = 0; c < sensor->channels; c++)
            coming->value[c] += (double)fault->argument;
    fault = fault_at(core, INPHASE_FAULT_INVALID, sensor->index, coming->cycle);
    coming->reason = fault ? (uint32_t)fault->argument : INPHASE_REASON_NONE;
}

/* the acquisition; a frozen device gives its last sample again */
static void measure(struct inphase_core *core, struct sensor *sensor, struct coming *coming)
{
    struct twin *twin = sensor->twin;

    coming->taken = true;
    if (stands(core, sensor, coming)) {
        coming->sequence = twin->sequence;
        if (coming->payload)
            memcpy(coming->payload, twin->payload, sensor->payload);
    } else {
        measure_new(core, sensor, coming);
    }
    memcpy(coming->value, twin->value, sensor->channels * sizeof *coming->value);
    if (!sensor->free_running)
        plan_refusal(core, sensor, coming);
}

/* ---- what happens on the way of time ----------------------------------------------------- */

static struct coming *coming_at(struct twin *twin, uint32_t index)
{
    return &twin->coming[(twin->first + index) % twin->room];
}

/* the time of a sensor's next acquisition; INT64_MAX: none is expected */
static int64_t acquisition_ns(const struct inphase_core *core, const struct sensor *sensor)
{
    const struct twin *twin = sensor->twin;

    if (sensor->free_running)
        return timing_next_free(core, sensor);
    return twin->count && !twin->coming->taken ? twin->coming->at_ns : INT64_MAX;
}

/* The next sample of a free-running device; the oldest that nobody took makes room. It had come,
   since the queue holds more than can be under way: a burst counts it */
static void begin_free(struct inphase_core *core, struct sensor *sensor)
{
    struct twin *twin = sensor->twin;
    struct coming *coming;

    if (twin->count == twin->room) {
        if (sensor->burst.most && coming_at(twin, 0)->ready_ns != INPHASE_ABSENT) {
            burst_lose(&sensor->burst);
            count_add(core->statistics, COUNT_PASSED, 1);
        }
        twin->first = (twin->first + 1) % twin->room;
        twin->count--;
    }
    coming = coming_at(twin, twin->count++);
    coming->at_ns = timing_next_free(core, sensor);
    coming->taken = false;
    coming->key = twin->number++;
    coming->ready_ns = timing_drops(core, sensor, coming->key)
                           ? INPHASE_ABSENT
                           : coming->at_ns + timing_latency(core, sensor, coming->key);
}

static void acquire_next(struct inphase_core *core, struct sensor *sensor)
{
    struct twin *twin = sensor->twin;

    if (sensor->free_running)
        begin_free(core, sensor);
    if (twin->spec.derived && !world_derive(&core->world))
        return;
    measure(core, sensor, sensor->free_running ? coming_at(twin, twin->count - 1) : twin->coming);
}

/* a command takes effect */
static void take_effect(struct inphase_core *core, struct actuator *actuator)
{
    struct plant *plant = actuator->plant;
    const struct effect *effect = &plant->effect[plant->first];

    if (!plant->in_world) {
        /* up to now the servo followed its old goal */
        servo_at(actuator, 0, effect->at_ns);
        for (uint32_t c = 0; c < actuator->channels; c++)
            plant->servo[c].goal = effect->value[c];
    }
    for (uint32_t c = 0; c < actuator->channels && plant->in_world; c++)
        *plant->control[c] = plant->gain[c] * effect->value[c] + plant->zero[c];
    core->world.is_derived = core->world.is_derived && !plant->in_world;
    plant->first = (plant->first + 1) % EFFECTS;
    plant->count--;
}

/* At one instant samples are taken before commands take effect. A free-running device goes on for
   ever, so what bounds the loop is to_ns. */
void twins_advance(struct inphase_core *core, int64_t to_ns)
{
    while (core->event_ns <= to_ns && !core->world.failure) {
        int64_t first_ns = INT64_MAX;
        struct sensor *sensor = NULL;
        struct actuator *actuator = NULL;

        for (uint32_t i = 0; i < core->sensors; i++) {
            int64_t at_ns = acquisition_ns(core, &core->sensor[i]);

            if (at_ns < first_ns) {
                first_ns = at_ns;
                sensor = &core->sensor[i];
            }
        }
        for (uint32_t i = 0; i < core->actuators; i++) {
            const struct plant *plant = core->actuator[i].plant;

            if (plant->count && plant->effect[plant->first].at_ns < first_ns) {
                first_ns = plant->effect[plant->first].at_ns;
                sensor = NULL;
                actuator = &core->actuator[i];
            }
        }
        core->event_ns = first_ns;
        if (first_ns > to_ns)
            return;
        if (core->world.spec.step && !world_advance(&core->world, first_ns))
            return;
        if (sensor)
            acquire_next(core, sensor);
        else
            take_effect(core, actuator);
    }
}

/* an event at that time */
static void expect_event(struct inphase_core *core, int64_t at_ns)
{
    if (at_ns < core->event_ns)
        core->event_ns = at_ns;
}

int64_t twin_ready_ns(const struct sensor *sensor)
{
    const struct twin *twin = sensor->twin;

    if (sensor->free_running || !twin->count || twin->coming->ready_ns == INPHASE_ABSENT)
        return INT64_MAX;
    return twin->coming->ready_ns;
}

int64_t twin_next_ns(const struct inphase_core *core, const struct sensor *sensor)
{
    int64_t next_ns = timing_next_free(core, sensor);

    for (uint32_t i = 0; i < sensor->twin->count; i++) {
        const struct coming *coming = coming_at(sensor->twin, i);

        if (coming->ready_ns != INPHASE_ABSENT && coming->ready_ns > core->virtual_ns &&
            coming->ready_ns < next_ns)
            next_ns = coming->ready_ns;
    }
    return next_ns;
}

/* ---- the device's side of an exchange ---------------------------------------------------- */

static int twin_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    struct coming *coming = sensor->twin->coming;
    uint64_t key = (uint64_t)core->cycle;
    const struct inphase_fault *fault;
    int64_t latency_ns;

    /* a device that is away loses its line, and comes back after the planned cycles */
    fault = fault_at(core, INPHASE_FAULT_GONE, sensor->index, core->cycle);
    if (fault) {
        sensor->device->gone_until_cycle = fault->from_cycle + fault->count;
        return -EIO;
    }
    latency_ns = timing_latency(core, sensor, key);

    /* no reply is sooner than the earliest that its driver states: such a one would answer an
       earlier trigger */
    if (latency_ns < sensor->earliest_ns)
        latency_ns = sensor->earliest_ns;
    sensor->twin->latency_ns = latency_ns;

    /* what the device measures is fixed when it measures, whenever its reply comes; and it has
       measured before it replies */
    coming->at_ns = now_ns + spec->acquire_ns;
    if (spec->acquire != INPHASE_ACQUIRE_TRIGGER)
        coming->at_ns += latency_ns / 2;
    if (coming->at_ns > now_ns + latency_ns)
        coming->at_ns = now_ns + latency_ns;
    if (coming->at_ns < core->world.now_ns)
        coming->at_ns = core->world.now_ns;
    coming->ready_ns = now_ns + latency_ns;
    coming->cycle = core->cycle;
    coming->key = key;
    coming->taken = false;
    fault = fault_at(core, INPHASE_FAULT_DELAYED, sensor->index, core->cycle);
    if (fault)
        coming->ready_ns += fault->argument;
    if (timing_drops(core, sensor, key) ||
        fault_at(core, INPHASE_FAULT_SILENT, sensor->index, core->cycle))
        coming->ready_ns = INPHASE_ABSENT;
    sensor->twin->count = 1;
    expect_event(core, coming->at_ns);
    return 0;
}

/* the device's clock, where it stamps: ticks of a clock that drifts */
static uint64_t device_ticks(const struct sensor *sensor, int64_t at_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    double ticks = (double)(at_ns - spec->clock_shift_ns) * (1 + sensor->twin->spec.drift) /
                   spec->clock_tick_ns;
    uint64_t whole = ticks > 0 ? (uint64_t)ticks : 0;

    return spec->clock_bits && spec->clock_bits < 64 ? whole & ((1ULL << spec->clock_bits) - 1)
                                                     : whole;
}

/* give a sample that is in to the sensor that asked */
static void deliver(struct sensor *sensor, struct coming *coming, enum received *got)
{
    struct twin *twin = sensor->twin;

    memcpy(sensor->parser.value, coming->value, sensor->channels * sizeof *coming->value);
    sensor->parser.sequence = coming->sequence;
    sensor->parser.reason = coming->reason;
    sensor->parser.detail = 0;
    if (twin->spec.clock)
        sensor->parser.clock = device_ticks(sensor, coming->at_ns);
    twin->given = coming->payload;
    for (uint32_t c = 0; c < sensor->channels && twin->given; c++)
        memcpy(twin->given + sensor->offset[c], &coming->value[c], sizeof(double));
    *got = coming->reason ? RECEIVED_REFUSED : RECEIVED_SAMPLE;
}

/* a free-running device: the newest of its samples that has arrived; the next one where it gives
   bursts */
static int receive_latched(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    struct twin *twin = sensor->twin;
    const struct inphase_fault *gone =
        fault_at(core, INPHASE_FAULT_GONE, sensor->index, core->cycle);
    bool is_silent = fault_at(core, INPHASE_FAULT_SILENT, sensor->index, core->cycle) != NULL;
    bool one_by_one = sensor->burst.most && !is_silent;
    struct coming *newest = NULL;
    uint32_t past = 0;

    if (gone) {
        sensor->device->gone_until_cycle = gone->from_cycle + gone->count;
        return -EIO;
    }
    for (uint32_t i = 0; i < twin->count && !(newest && one_by_one); i++) {
        struct coming *coming = coming_at(twin, i);

        if (coming->taken && coming->ready_ns != INPHASE_ABSENT &&
            coming->ready_ns <= core->virtual_ns) {
            newest = coming;
            past = i + 1;
        }
    }
    twin->first = (twin->first + past) % twin->room;
    twin->count -= past;
    if (is_silent && sensor->burst.most)
        burst_begin(&sensor->burst);
    if (!newest || is_silent)
        return 0;
    newest->cycle = core->cycle;
    if (twin->shown && fault_at(core, INPHASE_FAULT_FROZEN, sensor->index, core->cycle)) {
        newest->sequence = twin->shown;
        memcpy(newest->value, twin->shown_value, sizeof newest->value);
    }
    twin->shown = newest->sequence;
    memcpy(twin->shown_value, newest->value, sizeof newest->value);
    plan_refusal(core, sensor, newest);
    sensor->stamps.acquired_ns = newest->at_ns;
    sensor->stamps.received_ns = newest->ready_ns;
    deliver(sensor, newest, got);
    return 0;
}

static int twin_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    struct coming *coming = sensor->twin->coming;

    *got = RECEIVED_EMPTY;
    if (sensor->free_running)
        return receive_latched(core, sensor, got);
    if (twin_ready_ns(sensor) > core->virtual_ns || !coming->taken)
        return 0;
    sensor->twin->count = 0;
    if (sensor->twin->is_stamped)
        sensor->stamps.received_ns = coming->ready_ns;
    deliver(sensor, coming, got);
    return 0;
}

/* a command is on its way to its effect; it overtakes none */
static int twin_write(struct inphase_core *core, struct actuator *actuator)
{
    struct plant *plant = actuator->plant;
    struct effect *effect;
    int64_t at_ns = core->virtual_ns +
                    draw_ns(core->seed, &plant->delay, (uint64_t)core->cycle,
                            INPHASE_DRAW_ACTUATOR + actuator->index, 0);

    /* after a stop in bytes the twin knows its last command, if any */
    if (actuator->stops == STOPS_BYTES && !actuator->commanded)
        return 0;
    if (plant->count == EFFECTS)
        return -EAGAIN;
    if (plant->count) {
        int64_t last_ns = plant->effect[(plant->first + plant->count - 1) % EFFECTS].at_ns;

        at_ns = at_ns > last_ns ? at_ns : last_ns;
    }
    effect = &plant->effect[(plant->first + plant->count++) % EFFECTS];
    effect->at_ns = at_ns;
    memcpy(effect->value, actuator->applied, actuator->channels * sizeof *effect->value);
    expect_event(core, at_ns);
    return 0;
}

const struct device_ops twin_ops = {
    .trigger = twin_trigger,
    .receive = twin_receive,
    .write = twin_write,
};

/* ---- making them ------------------------------------------------------------------------- */

/* samples of a free-running device that can be under way at once, and those of a burst; -EINVAL:
   too many */
static int room_for(const struct inphase_twin *spec, bool free_running, uint32_t burst)
{
    double latest = spec->latency.knots ? spec->latency.value[spec->latency.knots - 1]
                                        : (double)spec->latency_ns;
    double room;

    if (!free_running)
        return 1;
    if (spec->period_ns <= 0 || spec->phase_ns < 0)
        return -EINVAL;
    if (spec->jitter.knots)
        latest += spec->jitter.value[spec->jitter.knots - 1];
    room = latest / (double)spec->period_ns + 4 + burst;
    return room > QUEUE_MAX ? -EINVAL : (int)room;
}

/* distributions are copied one by one, so that what fails on the way can be undone */
static int copy_distributions(struct inphase_twin *to, const struct inphase_twin *from)
{
    int rc;

    to->latency = to->jitter = to->freeze_samples = (struct inphase_distribution){0};
    rc = distribution_copy(&to->latency, &from->latency);
    if (rc == 0)
        rc = distribution_copy(&to->jitter, &from->jitter);
    if (rc == 0)
        rc = distribution_copy(&to->freeze_samples, &from->freeze_samples);
    return rc;
}

int twin_make(struct sensor *sensor, const struct inphase_sensor_config *config)
{
    bool is_plain = config->burst || config->payload == sizeof(double) * config->channels;
    struct twin *twin;
    int room, rc;

    if ((config->channels && !config->twin.channel) || !(config->twin.drift > -1) ||
        (config->twin.rendered && is_plain))
        return -EINVAL;
    for (uint32_t c = 0; c < config->channels; c++)
        if (config->twin.channel[c].kind == INPHASE_TWIN_WORLD && !config->twin.channel[c].source)
            return -EINVAL;
    twin = calloc(1, sizeof *twin);
    if (!twin)
        return -ENOMEM;
    sensor->twin = twin;
    twin->spec = config->twin;
    twin->is_stamped = config->worker || config->exchange.framing.datagram;
    rc = copy_distributions(&twin->spec, &config->twin);
    if (rc < 0)
        return rc;
    room = room_for(&twin->spec, config->free_running, config->burst);
    if (room < 0)
        return room;
    if (config->channels)
        memcpy(twin->channel, config->twin.channel, config->channels * sizeof *twin->channel);
    twin->spec.channel = twin->channel;
    twin->coming = calloc((size_t)room, sizeof *twin->coming);
    if (!twin->coming)
        return -ENOMEM;
    twin->room = (uint32_t)room;
    if (is_plain)
        return 0;

    /* payloads: one per sample under way, and the last one */
    twin->payload = calloc((size_t)room + 1, config->payload);
    if (!twin->payload)
        return -ENOMEM;
    for (uint32_t i = 0; i < twin->room; i++)
        twin->coming[i].payload = twin->payload + (i + 1) * config->payload;
    return 0;
}

void twin_free(struct sensor *sensor)
{
    struct twin *twin = sensor->twin;

    if (!twin)
        return;
    distribution_free(&twin->spec.latency);
    distribution_free(&twin->spec.jitter);
    distribution_free(&twin->spec.freeze_samples);
    free(twin->coming);
    free(twin->payload);
    free(twin);
    sensor->twin = NULL;
}

int plant_make(struct actuator *actuator, const struct inphase_actuator_config *config)
{
    struct plant *plant = calloc(1, sizeof *plant);

    if (!plant)
        return -ENOMEM;
    actuator->plant = plant;
    if (config->servo)
        memcpy(plant->servo, config->servo, config->channels * sizeof *plant->servo);
    plant->in_world = config->control != NULL;
    for (uint32_t c = 0; c < config->channels && plant->in_world; c++) {
        plant->control[c] = config->control[c];
        plant->gain[c] = config->control_gain ? config->control_gain[c] : 1;
        plant->zero[c] = config->control_zero ? config->control_zero[c] : 0;
        if (!plant->control[c])
            return -EINVAL;
    }
    return distribution_copy(&plant->delay, &config->delay);
}

void plant_free(struct actuator *actuator)
{
    if (!actuator->plant)
        return;
    distribution_free(&actuator->plant->delay);
    free(actuator->plant);
    actuator->plant = NULL;
}
