/* A device that streams on its own clock, as the controller of an arm does, can want a command for
   each of its packets. It counts a packet without an answer as lost, and carries its last motion on
   meanwhile. After 20 in a row it stops.

   So each packet is answered once, and each command goes on from the motion that the device has
   told in the packet that it answers. A packet that was lost, late or doubled then makes no step in
   the motion: the device differentiates the commands by its own count, and not by our cycles. Where
   it tells what was commanded, the command itself is kept, as the device may tell it as a float.

   Cycle thread only. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "actuator.h"
#include "core.h"
#include "device.h"
#include "encode.h"
#include "packet.h"
#include "reference.h"
#include "sensor.h"

#define FLOAT_SHARE 1.2e-7       /* a float differs from its number by less than this part */
#define LEAST 1e-9               /* and less than that is not looked at */

/* the parser of the device's packets; NULL: it asks for no answers, or is simulated */
static const struct inphase_parser *asking(const struct inphase_core *core,
                                           const struct actuator *actuator)
{
    const struct sensor *sensor;

    if (!actuator->encoding.reference.type || actuator->device->sensor < 0)
        return NULL;
    sensor = &core->sensor[actuator->device->sensor];
    return sensor->twin ? NULL : &sensor->parser;
}

bool reference_asks(const struct inphase_core *core, const struct actuator *actuator)
{
    const struct inphase_parser *parser = asking(core, actuator);

    return !parser || !actuator->reference.has_answered ||
           parser->sequence != actuator->reference.answered;
}

/* The packet after another one that has the same positions, though it says that it moves: a busy
   simulator tells the velocity of a command before its position */
static bool is_stale(const struct inphase_core *core, const struct actuator *actuator,
                     const struct inphase_parser *parser)
{
    const struct inphase_reference *spec = &actuator->encoding.reference;
    double period_s = (double)core->period_ns * 1e-9;
    bool moves = false;

    if (parser->sequence != actuator->reference.told + 1)
        return false;
    for (uint32_t c = 0; c < actuator->channels; c++) {
        double position = parser->value[spec->position + c];

        if (position != actuator->reference.position[c])
            return false;
        moves = moves || fabs(parser->value[spec->velocity + c]) * period_s >
                             2 * (FLOAT_SHARE * fabs(position) + LEAST);
    }
    return moves;
}

/* Does it tell a motion, within a step of the commands? Nothing else moves them */
static bool is_credible(const struct actuator *actuator, uint32_t channel,
                        const struct inphase_parser *parser)
{
    const struct inphase_reference *spec = &actuator->encoding.reference;
    double apart = fabs(parser->value[spec->position + channel] -
                        actuator->motion[channel].position);

    /* a comparison with NaN is false */
    return apart <= actuator->limiter[channel].limits.step &&
           isfinite(parser->value[spec->velocity + channel]) &&
           isfinite(parser->value[spec->acceleration + channel]);
}

void reference_follow(const struct inphase_core *core, struct actuator *actuator)
{
    const struct inphase_parser *parser = asking(core, actuator);
    const struct inphase_reference *spec = &actuator->encoding.reference;
    struct reference *reference = &actuator->reference;
    bool is_next, stale;

    if (!parser || actuator->mode != INPHASE_MODE_POSITION || !reference_asks(core, actuator))
        return;
    is_next = reference->has_answered && parser->sequence == reference->answered + 1;
    stale = is_stale(core, actuator, parser);
    for (uint32_t c = 0; c < actuator->channels; c++) {
        struct inphase_motion *motion = &actuator->motion[c];
        double told = parser->value[spec->position + c], commanded = reference->commanded[c];

        reference->position[c] = told;
        if (!is_credible(actuator, c, parser))
            continue;
        motion->position = is_next && (stale || fabs(told - commanded) <=
                                                    FLOAT_SHARE * fabs(told) + LEAST)
                               ? commanded
                               : told;
        motion->velocity = parser->value[spec->velocity + c];
        motion->acceleration = parser->value[spec->acceleration + c];
    }
    reference->told = parser->sequence;
}

void reference_put(const struct inphase_core *core, struct actuator *actuator, uint8_t *bytes)
{
    const struct inphase_parser *parser = asking(core, actuator);
    const struct inphase_reference *spec = &actuator->encoding.reference;

    if (!parser)
        return;
    put_bits(bytes + spec->offset, raw_size(spec->type), spec->big_endian, parser->sequence);
    if (spec->finish)
        bytes[spec->finish - 1] = is_stopping(core) && is_at_rest(actuator);
    for (uint32_t c = 0; c < actuator->channels; c++)
        actuator->reference.commanded[c] = actuator->applied[c];
    actuator->reference.answered = parser->sequence;
    actuator->reference.has_answered = true;
}
