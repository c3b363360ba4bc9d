/* Simulated devices for lock step: servos that follow their commands, and sensors that answer at
   the level of samples. Only + - * / on doubles, so that every machine draws the same bytes. */
#include <math.h>
#include <string.h>

#include "internal.h"

#define SERVO_STEP_NS 250000

static double cap(double value, double most)
{
    if (value > most)
        return most;
    return value < -most ? -most : value;
}

void inphase_servo_advance(struct inphase_servo *servos, uint32_t count, int64_t dt_ns)
{
    /* semi-implicit Euler: stable for natural_rad_s * step < 1 */
    while (dt_ns > 0) {
        int64_t step_ns = dt_ns < SERVO_STEP_NS ? dt_ns : SERVO_STEP_NS;
        double step_s = (double)step_ns * 1e-9;

        for (uint32_t i = 0; i < count; i++) {
            struct inphase_servo *s = &servos[i];
            double w = s->natural_rad_s;

            s->acceleration = cap(w * w * (s->goal - s->position) - 2 * w * s->velocity,
                                  s->acceleration_max);
            s->velocity = cap(s->velocity + s->acceleration * step_s, s->velocity_max);
            s->position += s->velocity * step_s;
        }
        dt_ns -= step_ns;
    }
}

/* splitmix64's finisher over the four keys in turn */
double inphase_draw(uint64_t seed, uint64_t cycle, uint64_t device, uint64_t kind)
{
    const uint64_t key[] = {seed, cycle, device, kind};
    uint64_t x = 0;

    for (int i = 0; i < 4; i++) {
        x += key[i] + 0x9e3779b97f4a7c15ULL;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
        x ^= x >> 31;
    }
    return (double)(x >> 11) * 0x1p-53;
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

/* the servo of an actuator as it is at at_ns */
static const struct inphase_servo *servo_at(struct actuator *actuator, uint32_t joint,
                                            int64_t at_ns)
{
    if (at_ns > actuator->servo_ns) {
        inphase_servo_advance(actuator->servo, actuator->channels, at_ns - actuator->servo_ns);
        actuator->servo_ns = at_ns;
    }
    return &actuator->servo[joint];
}

/* a sample that is not float64 alone: a test pattern that moves by one with each sample, and the
   float64 values at their places */
static void draw_payload(struct sensor *sensor)
{
    uint8_t *payload = sensor->twin_payload;

    for (uint64_t i = 0; i < sensor->payload; i++)
        payload[i] = (uint8_t)(i + sensor->twin_sequence);
    for (uint32_t c = 0; c < sensor->channels; c++)
        memcpy(payload + sensor->offset[c], &sensor->parser.value[c], sizeof(double));
}

void twin_sample(struct inphase_core *core, struct sensor *sensor, int64_t at_ns)
{
    for (uint32_t c = 0; c < sensor->channels; c++) {
        const struct inphase_twin_channel *twin = &sensor->twin_channel[c];
        double value = twin->base;

        if (twin->kind != INPHASE_TWIN_CONSTANT) {
            const struct inphase_servo *servo =
                servo_at(&core->actuator[twin->actuator], twin->joint, at_ns);
            const double of[] = {0, servo->position, servo->velocity, servo->acceleration};

            value += twin->gain * of[twin->kind];
        }
        if (twin->noise != 0)
            value += twin->noise * (2 * inphase_draw(core->seed, (uint64_t)core->cycle,
                                                     sensor->index, 16 + c) - 1);
        sensor->parser.value[c] = value;
    }
    if (sensor->twin_payload)
        draw_payload(sensor);
}

/* planned faults of what a device measures */
static void plan_refusal(struct inphase_core *core, struct sensor *sensor)
{
    const struct inphase_fault *fault;

    fault = fault_at(core, INPHASE_FAULT_NAN, sensor->index, core->cycle);
    if (fault && fault->argument >= 0 && fault->argument < sensor->channels)
        sensor->parser.value[fault->argument] = NAN;
    fault = fault_at(core, INPHASE_FAULT_WRONG, sensor->index, core->cycle);
    if (fault)
        for (uint32_t c = 0; c < sensor->channels; c++)
            sensor->parser.value[c] += (double)fault->argument;
    fault = fault_at(core, INPHASE_FAULT_INVALID, sensor->index, core->cycle);
    sensor->twin_reason = fault ? (uint32_t)fault->argument : INPHASE_REASON_NONE;
}

/* the next sample; a device that stands still gives the last one again */
static void measure(struct inphase_core *core, struct sensor *sensor, int64_t at_ns)
{
    bool stands = sensor->twin_sequence &&
                  fault_at(core, INPHASE_FAULT_FROZEN, sensor->index, core->cycle);

    if (stands) {
        memcpy(sensor->parser.value, sensor->twin_value, sizeof sensor->twin_value);
    } else {
        sensor->twin_sequence++;
        twin_sample(core, sensor, at_ns);
        memcpy(sensor->twin_value, sensor->parser.value, sizeof sensor->twin_value);
    }
    plan_refusal(core, sensor);
}

static int twin_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    const struct inphase_fault *fault;
    int64_t latency_ns = sensor->twin_latency_ns;

    /* a device that is away loses its line, and comes back after the planned cycles */
    fault = fault_at(core, INPHASE_FAULT_GONE, sensor->index, core->cycle);
    if (fault) {
        sensor->device->gone_until_cycle = fault->from_cycle + fault->count;
        return -EIO;
    }

    /* jitter is drawn only where there is some, so that a zero costs nothing */
    if (sensor->twin_jitter_ns)
        latency_ns += (int64_t)((double)sensor->twin_jitter_ns *
                                inphase_draw(core->seed, (uint64_t)core->cycle, sensor->index, 0));
    sensor->twin_ready_ns = now_ns + latency_ns;
    fault = fault_at(core, INPHASE_FAULT_DELAYED, sensor->index, core->cycle);
    if (fault)
        sensor->twin_ready_ns += fault->argument;
    if (fault_at(core, INPHASE_FAULT_SILENT, sensor->index, core->cycle))
        sensor->twin_ready_ns = INPHASE_ABSENT;

    /* what the device measures is fixed when it measures, whenever its reply comes */
    measure(core, sensor, spec->acquire == INPHASE_ACQUIRE_TRIGGER
                              ? now_ns + spec->acquire_ns
                              : now_ns + latency_ns / 2 + spec->acquire_ns);
    return 0;
}

/* a device that runs by itself has sampled at every multiple of its period: the newest that has had
   the time to come */
static int receive_latched(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    int64_t since_ns = core->virtual_ns - sensor->twin_latency_ns;
    uint64_t number = since_ns < 0 ? 0 : (uint64_t)(since_ns / sensor->twin_period_ns) + 1;
    int64_t at_ns = ((int64_t)number - 1) * sensor->twin_period_ns;
    const struct inphase_fault *gone =
        fault_at(core, INPHASE_FAULT_GONE, sensor->index, core->cycle);

    if (gone) {
        sensor->device->gone_until_cycle = gone->from_cycle + gone->count;
        return -EIO;
    }
    if (number <= sensor->twin_number ||
        fault_at(core, INPHASE_FAULT_SILENT, sensor->index, core->cycle))
        return 0;
    sensor->twin_number = number;
    measure(core, sensor, at_ns);
    sensor->stamps.acquired_ns = at_ns;
    sensor->stamps.received_ns = at_ns + sensor->twin_latency_ns;
    sensor->parser.sequence = sensor->twin_sequence;
    sensor->parser.reason = sensor->twin_reason;
    sensor->parser.detail = 0;
    *got = sensor->twin_reason ? RECEIVED_REFUSED : RECEIVED_SAMPLE;
    return 0;
}

static int twin_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    *got = RECEIVED_EMPTY;
    if (sensor->latched)
        return receive_latched(core, sensor, got);
    if (sensor->twin_ready_ns == INPHASE_ABSENT || sensor->twin_ready_ns > core->virtual_ns)
        return 0;
    sensor->twin_ready_ns = INPHASE_ABSENT;
    sensor->parser.sequence = sensor->twin_sequence;
    sensor->parser.reason = sensor->twin_reason;
    sensor->parser.detail = 0;
    *got = sensor->twin_reason ? RECEIVED_REFUSED : RECEIVED_SAMPLE;
    return 0;
}

static int twin_write(struct inphase_core *core, struct actuator *actuator)
{
    /* up to now the servo followed its old goal */
    servo_at(actuator, 0, core->virtual_ns);
    for (uint32_t c = 0; c < actuator->channels; c++)
        actuator->servo[c].goal = actuator->applied[c];
    return 0;
}

const struct device_ops twin_ops = {
    .trigger = twin_trigger,
    .receive = twin_receive,
    .write = twin_write,
};
