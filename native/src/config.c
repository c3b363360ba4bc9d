/* Checks of a core's configuration: a configuration that breaks a bound of inphase.h makes no
   core. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "checksum.h"
#include "burst.h"
#include "config.h"
#include "encode.h"
#include "exchange.h"
#include "packet.h"

static bool is_power_of_two(uint64_t value)
{
    return value && !(value & (value - 1));
}

/* chunks are datagrams of one size: nothing may change the length of a command with chunks */
static bool chunks_hold(const struct inphase_encoding *encoding)
{
    return !encoding->chunk ||
           (encoding->packet_size % encoding->chunk == 0 && !encoding->checksum.kind &&
            !encoding->framing.escape_size &&
            encoding->packet_size / encoding->chunk <= MAX_CHUNKS);
}

/* the number that a command answers has its place in the command, and so has the last byte */
static bool reference_holds(const struct inphase_encoding *encoding)
{
    const struct inphase_reference *reference = &encoding->reference;

    if (!reference->type)
        return true;
    return (reference->type == INPHASE_U32 || reference->type == INPHASE_U64) &&
           !encoding->checksum.kind && !encoding->framing.escape_size &&
           lies_within(reference->offset, raw_size(reference->type), encoding->packet_size) &&
           reference->finish <= encoding->packet_size;
}

static bool encoding_holds(const struct inphase_encoding *encoding)
{
    return chunks_hold(encoding) && reference_holds(encoding) &&
           (!encoding->checksum.kind || checksum_holds(&encoding->checksum));
}

/* a year: a sum with a stamp must not overflow */
static bool exchange_times_hold(const struct inphase_exchange *exchange)
{
    const int64_t most_ns = 1LL << 55;

    return exchange->acquire_ns > -most_ns && exchange->acquire_ns < most_ns &&
           exchange->clock_shift_ns > -most_ns && exchange->clock_shift_ns < most_ns &&
           exchange->reply_max_ns >= 0 && exchange->reply_max_ns < most_ns &&
           exchange->reply_ns >= 0 && exchange->reply_ns < most_ns &&
           exchange->reply_min_ns >= 0 && exchange->reply_min_ns < most_ns;
}

/* only the cycle thread collects bursts, of a stream whose sample is its channels and no more */
static bool burst_holds(const struct inphase_sensor_config *sensor)
{
    uint64_t channels = 0;

    if (sensor->burst > INPHASE_MAX_BURST || !sensor->free_running || sensor->worker ||
        sensor->burst_groups > INPHASE_MAX_VALUES ||
        sensor->payload != burst_bytes(sensor->burst, sensor->channels))
        return false;
    for (uint32_t i = 0; i < sensor->burst_groups; i++)
        channels += sensor->burst_group[i];
    for (uint32_t c = 0; c < sensor->channels; c++)
        if (sensor->offset && sensor->offset[c] != 8 * c)
            return false;
    return channels == sensor->channels;
}

static bool sensor_holds(const struct inphase_config *config,
                         const struct inphase_sensor_config *sensor)
{
    if (sensor->device >= config->devices || sensor->channels > INPHASE_MAX_VALUES ||
        sensor->payload < 8 || sensor->payload % 8 || sensor->depth < 8 ||
        !is_power_of_two(sensor->depth) || sensor->every < 1 || sensor->latency_cycles < 0 ||
        sensor->latency_cycles >= sensor->every || !exchange_times_hold(&sensor->exchange) ||
        (sensor->free_running && sensor->exchange.framing.can && sensor->exchange.replies > 1) ||
        (sensor->free_running && !sensor->worker && sensor->exchange.framing.idle_ns))
        return false;
    if (sensor->burst && !burst_holds(sensor))
        return false;
    for (uint32_t c = 0; c < sensor->channels; c++)
        if ((sensor->offset ? sensor->offset[c] : 8ULL * c) + sizeof(double) > sensor->payload)
            return false;
    return sensor->free_running ||
           (sensor->trigger_ns >= 0 && sensor->trigger_ns < config->read_deadline_ns);
}

static bool is_length_one(const double *axis)
{
    double square = axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2];

    return square > 1 - 1e-9 && square < 1 + 1e-9;
}

static bool workspace_holds(const struct inphase_workspace *workspace, uint32_t channels)
{
    if (!workspace)
        return true;
    if (workspace->joints < 1 || workspace->joints > channels || !workspace->joint)
        return false;
    for (uint32_t i = 0; i < workspace->joints; i++)
        if (!is_length_one(workspace->joint[i].axis))
            return false;
    for (int axis = 0; axis < 3; axis++) {
        if (!isfinite(workspace->low[axis]) || !isfinite(workspace->high[axis]) ||
            !(workspace->low[axis] < workspace->high[axis]) || !isfinite(workspace->tool[axis]))
            return false;
        for (uint32_t i = 0; i < workspace->joints; i++)
            if (!isfinite(workspace->joint[i].translation[axis]))
                return false;
    }
    return true;
}

/* a path is of positions within the range, and takes a bounded time */
static bool park_holds(const struct inphase_actuator_config *actuator)
{
    const struct inphase_park *park = actuator->park;

    if (!park)
        return true;
    if (actuator->limits[0].mode != INPHASE_MODE_POSITION || park->points < 1 ||
        park->points > INPHASE_MAX_PARK || park->longest_ns <= 0 ||
        park->longest_ns > INPHASE_PARK_LONGEST_NS)
        return false;
    for (uint32_t c = 0; c < actuator->channels; c++) {
        const struct inphase_limits *limits = &actuator->limits[c];

        if (!(park->velocity[c] > 0 && park->velocity[c] <= limits->velocity))
            return false;
        for (uint32_t i = 0; i < park->points; i++) {
            double point = park->point[i * actuator->channels + c];

            if (!(point >= limits->low && point <= limits->high))
                return false;
        }
    }
    return true;
}

/* for a worker's actuator the encoding is that of the guard's stop, if it has one */
static bool stop_holds(const struct inphase_actuator_config *actuator)
{
    const struct inphase_stop *stop = &actuator->stop;

    if (stop->kind == INPHASE_STOP_NONE)
        return true;
    if (stop->gap_ns < 0 || stop->wire_ns < 0)
        return false;
    if (stop->kind == INPHASE_STOP_BYTES)
        return stop->bytes && stop->size > 0 && stop->size <= INPHASE_MAX_PACKET &&
               (!stop->chunk || stop->size % stop->chunk == 0);
    if ((stop->kind == INPHASE_STOP_HOLD) != (actuator->limits[0].mode == INPHASE_MODE_POSITION))
        return false;
    return stop->kind <= INPHASE_STOP_BYTES && actuator->encoding.packet_size > 0;
}

static bool channels_hold(const struct inphase_actuator_config *actuator,
                          const struct inphase_sensor_config *feedback, uint32_t first)
{
    return (uint64_t)first + actuator->channels <= feedback->channels;
}

/* a limited quantity is measured, by a feedback with enough channels */
static bool feedback_holds(const struct inphase_config *config,
                           const struct inphase_actuator_config *a)
{
    const struct inphase_sensor_config *feedback;

    if (a->feedback_sensor < 0)
        return !a->measures && !a->feedback_kind;
    if (a->feedback_sensor >= (int32_t)config->sensors)
        return false;
    if (a->feedback_kind > INPHASE_FEEDBACK_VELOCITY &&
        (a->feedback_kind > INPHASE_FEEDBACK_OTHER || a->limits[0].mode != INPHASE_MODE_SWITCH))
        return false;
    feedback = &config->sensor[a->feedback_sensor];
    return channels_hold(a, feedback, a->feedback_channel) &&
           (!(a->measures & INPHASE_MEASURES_VELOCITY) ||
            channels_hold(a, feedback, a->velocity_channel)) &&
           (!(a->measures & INPHASE_MEASURES_EFFORT) ||
            channels_hold(a, feedback, a->effort_channel));
}

static bool limits_hold(const struct inphase_actuator_config *a, const struct inphase_limits *l)
{
    bool is_bounded = l->low != -INFINITY || l->high != INFINITY;
    bool is_blind = a->feedback_sensor < 0 || a->feedback_kind != INPHASE_FEEDBACK_POSITION;

    if (l->mode != a->limits[0].mode || (a->workspace && l->mode != INPHASE_MODE_POSITION) ||
        (a->coasts && l->mode == INPHASE_MODE_SWITCH))
        return false;
    switch (l->mode) {
    case INPHASE_MODE_POSITION:
        return !a->feedback_kind && isfinite(l->low) && isfinite(l->high) && l->low < l->high &&
               isfinite(l->step) &&
               l->step > 0 && isfinite(l->jerk) && l->jerk >= 0 && isfinite(l->effort) &&
               l->effort >= 0 && (l->effort == 0 || a->measures & INPHASE_MEASURES_EFFORT);
    case INPHASE_MODE_VELOCITY:
        return l->low < l->high && isfinite(l->jerk) && l->jerk >= 0 &&
               !(is_bounded && is_blind);
    case INPHASE_MODE_EFFORT:
        return l->low < l->high && !(is_bounded && is_blind) &&
               (l->velocity == INFINITY || a->measures & INPHASE_MEASURES_VELOCITY);
    default:
        return l->mode == INPHASE_MODE_SWITCH;
    }
}

/* the packets that commands answer are those of the device's own sensor, and are numbered */
static bool asks_by_sensor(const struct inphase_config *config,
                           const struct inphase_actuator_config *a)
{
    const struct inphase_reference *reference = &a->encoding.reference;

    if (!reference->type || a->worker)
        return true;
    for (uint32_t i = 0; i < config->sensors; i++) {
        const struct inphase_sensor_config *sensor = &config->sensor[i];

        if (sensor->device == a->device)
            return sensor->exchange.sequence_type && sensor->free_running &&
                   channels_hold(a, sensor, reference->position) &&
                   channels_hold(a, sensor, reference->velocity) &&
                   channels_hold(a, sensor, reference->acceleration);
    }
    return false;
}

static bool estop_holds(const struct inphase_config *config)
{
    if (config->estop_inputs > INPHASE_ESTOP_INPUTS)
        return false;
    for (uint32_t i = 0; i < config->estop_inputs; i++) {
        const struct inphase_estop_input *input = &config->estop[i];

        if (input->kind > INPHASE_INPUT_SAMPLE || input->pressed > 1 ||
            (input->kind == INPHASE_INPUT_SAMPLE &&
             (input->sensor >= config->sensors ||
              input->channel >= config->sensor[input->sensor].channels)))
            return false;
    }
    return true;
}

/* one packet per cycle, which the cycle thread reads itself */
static bool pace_holds(const struct inphase_config *config)
{
    const struct inphase_sensor_config *sensor;

    if (!config->pace_sensor)
        return true;
    if (config->pace_sensor > config->sensors)
        return false;
    sensor = &config->sensor[config->pace_sensor - 1];
    return sensor->free_running && !sensor->burst && (!sensor->worker || config->virtual_time);
}

bool config_holds(const struct inphase_config *config)
{
    if (config->period_ns < 50000 || config->read_deadline_ns <= 0 ||
        config->act_ns < config->read_deadline_ns || config->act_ns >= config->period_ns ||
        config->devices > INPHASE_MAX_DEVICES || config->sensors < 1 ||
        config->sensors > INPHASE_MAX_SENSORS || config->actuators > INPHASE_MAX_ACTUATORS ||
        config->frame_depth < 8 || !is_power_of_two(config->frame_depth) ||
        !estop_holds(config) || !pace_holds(config))
        return false;
    for (uint32_t i = 0; i < config->sensors; i++)
        if (!sensor_holds(config, &config->sensor[i]))
            return false;
    for (uint32_t i = 0; i < config->actuators; i++) {
        const struct inphase_actuator_config *a = &config->actuator[i];

        if (a->device >= config->devices || a->channels < 1 ||
            a->channels > INPHASE_MAX_CHANNELS || !a->limits || !feedback_holds(config, a) ||
            a->watchdog > 2 || a->handover_ns < 0 || !(a->rest_speed >= 0) ||
            isinf(a->rest_speed) ||
            a->encoding.packet_size > INPHASE_MAX_PACKET || !stop_holds(a) ||
            !encoding_holds(&a->encoding) || !workspace_holds(a->workspace, a->channels) ||
            !park_holds(a) || !asks_by_sensor(config, a) ||
            a->encoding.fields > INPHASE_MAX_CHANNELS)
            return false;
        for (uint32_t f = 0; f < a->encoding.fields; f++)
            if (a->encoding.field[f].channel >= a->channels)
                return false;
        for (uint32_t c = 0; c < a->channels; c++) {
            if (a->feedback_sensor < 0 && a->start && !isfinite(a->start[c]))
                return false;
            if (!limits_hold(a, &a->limits[c]))
                return false;
        }
    }
    return true;
}
