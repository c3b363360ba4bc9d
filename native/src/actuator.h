/* An actuator: its configuration, its motion, and the stop that it is owed. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "checksum.h"
#include "follow.h"
#include "limiter.h"
#include "park.h"
#include "reference.h"
#include "rest.h"

struct device;
struct sensor;
struct plant;

/* an act's write is a command, or the stop of an actuator that is owed one */
enum stops { STOPS_NOT, STOPS_VALUES, STOPS_BYTES };

/* everything but the configuration is the cycle thread's */
struct actuator {
    struct device *device;
    uint32_t index, channels, first_value; /* first_value: offset in a policy's command */
    struct sensor *feedback;               /* NULL: it moves blind */
    uint32_t feedback_channel, measures, velocity_channel, effort_channel; /* of the feedback */
    uint32_t feedback_kind;                /* INPHASE_FEEDBACK_* */
    uint32_t accepts, watchdog;
    uint32_t mode;                         /* INPHASE_MODE_* of all channels */
    int64_t max_hold_ns;
    int64_t handover_ns;
    struct inphase_limiter limiter[INPHASE_MAX_CHANNELS];
    struct inphase_workspace workspace;    /* joints 0: none */
    struct inphase_joint joint[INPHASE_MAX_CHANNELS];
    struct inphase_encoding encoding;
    uint8_t packet[INPHASE_MAX_PACKET];
    struct inphase_field field[INPHASE_MAX_CHANNELS];
    struct checksum checksum;    /* of its commands, with the table */
    struct inphase_stop stop;    /* its bytes are in stop_bytes */
    uint8_t stop_bytes[INPHASE_MAX_PACKET];
    double rest_speed;           /* constant: a joint that is slower is at rest */
    _Atomic int enabled;         /* supervisor */
    _Atomic uint32_t enables;    /* supervisor: enable sequences so far, each ends at a
                                    standstill */
    _Atomic int guarded;         /* supervisor */
    _Atomic uint32_t guard_losses; /* supervisor: losses of its guard so far */
    /* supervisor, before `enabled`: goals that the device holds, NAN: none. The cycle thread takes
       each once, when motion is placed */
    _Atomic double holds[INPHASE_MAX_CHANNELS];
    bool guards_itself;          /* no guard is required */
    bool off_on_estop;
    bool coasts;                 /* without a command it carries on, slower, to rest */
    bool approaches;             /* a first command may be far away */

    /* cycle thread */
    uint32_t guard_losses_seen;  /* at the latch before */
    bool off;                    /* power is off after an emergency stop: see arm */
    bool placed;                 /* motion is the robot's place, or its last command */
    bool engaged;                /* a command was accepted since placed */
    bool refused;                /* the first command, in the last act */
    bool approaching;            /* the first one was far away, and is not reached yet */
    bool starved;                /* nothing is written: the device's watchdog trips */
    int64_t rests_since_ns;      /* since the ramp came to rest, ABSENT: it has not */
    int64_t moved_cycle;         /* of the last act in motion */
    int64_t valid_ns;            /* act time of the last command valid for its own cycle */
    uint32_t invalid_in_a_row;
    double requested[INPHASE_MAX_CHANNELS];
    struct inphase_motion motion[INPHASE_MAX_CHANNELS];
    double applied[INPHASE_MAX_CHANNELS]; /* of motion, in the mode's unit, as it is written */
    uint32_t flags, reason, detail;
    struct follow follow[INPHASE_MAX_CHANNELS];
    struct reference reference;  /* of a device that asks for each command */
    struct park park;            /* its path at the end of a run */

    /* rest, and the stop that is owed: cycle thread */
    bool commanded;              /* ever: a command was written */
    bool driven;                 /* commanded in the last act */
    bool owed;                   /* it was commanded, and nothing has stopped it */
    enum stops stops;            /* the present write is that stop */
    uint32_t told;               /* stops written since it is owed one */
    uint32_t enables_seen;       /* `enables` when it came to be owed */
    enum rest rest;              /* by its feedback, while anybody asks */
    int64_t rest_sequence;       /* of the last sample that was looked at */
    int64_t rest_from_ns;        /* time of rest_from, ABSENT: none yet */
    double rest_from[INPHASE_MAX_CHANNELS];
    double rest_velocity[INPHASE_MAX_CHANNELS]; /* sum of the window's samples, where measured */
    uint32_t rest_samples;       /* of that sum */
    _Atomic uint32_t moves;      /* the feedback shows motion; the supervisor reads it */
    _Atomic uint32_t loose;      /* it may not be at rest; the supervisor reads it */

    struct plant *plant;         /* its simulated part in lock step; NULL: a device */
};

static inline bool is_at_rest(const struct actuator *actuator)
{
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (!limiter_rests(&actuator->limiter[c], &actuator->motion[c]))
            return false;
    return true;
}

/* is its device only shown where it is, until it has begun to follow? */
static inline bool is_to_stand(const struct actuator *actuator)
{
    return atomic_load_explicit(&actuator->enabled, memory_order_acquire) ==
           INPHASE_ENABLED_STANDS;
}

bool feedback_is_good(const struct actuator *actuator, int64_t now_ns);
/* is the place of a blind actuator known? One with feedback begins at its measured place */
bool place_is_known(const struct actuator *actuator);
