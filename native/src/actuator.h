/* An actuator: its configuration, its motion, and the stop that it is owed. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "limiter.h"
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
    struct sensor *feedback;               /* NULL: moves blind */
    uint32_t feedback_channel, measures, velocity_channel, effort_channel; /* what of it is known */
    uint32_t feedback_kind;                /* INPHASE_FEEDBACK_* */
    uint32_t accepts, watchdog;
    uint32_t mode;                         /* INPHASE_MODE_* of all channels */
    int64_t max_hold_ns;
    struct inphase_limiter limiter[INPHASE_MAX_CHANNELS];
    struct inphase_workspace workspace;    /* joints 0: none */
    struct inphase_joint joint[INPHASE_MAX_CHANNELS];
    struct inphase_encoding encoding;
    uint8_t packet[INPHASE_MAX_PACKET];
    struct inphase_field field[INPHASE_MAX_CHANNELS];
    struct inphase_stop stop;    /* its bytes are in stop_bytes */
    uint8_t stop_bytes[INPHASE_MAX_PACKET];
    double rest_speed;           /* constant: what is measured to be slower is at rest */
    _Atomic int enabled;         /* supervisor */
    _Atomic uint32_t enables;    /* supervisor: how often its driver has made it ready, at a
                                    stand */
    _Atomic int guarded;         /* supervisor */
    _Atomic uint32_t guard_losses; /* supervisor: how often nothing guarded it any more */
    /* supervisor, before `enabled`: goals that the device holds at, NAN: where it is measured;
       taken by the cycle thread, once, as motion is placed */
    _Atomic double holds[INPHASE_MAX_CHANNELS];
    bool guards_itself;          /* or nobody minds */
    bool off_on_estop;
    bool coasts;                 /* without a command it carries on, and is brought to rest */

    /* cycle thread */
    uint32_t guard_losses_seen;  /* at the latch before */
    bool off;                    /* an emergency stop is over that takes power away: see arm */
    bool placed;                 /* motion is where the robot is, or was commanded */
    bool engaged;                /* a command was accepted since placed */
    bool starved;                /* nothing is written, so that the device's watchdog trips */
    int64_t rests_since_ns;      /* the ramp has come to rest, ABSENT: it has not */
    int64_t moved_cycle;         /* of the last act that motion knows of */
    int64_t valid_ns;            /* act time of the last command valid for its own cycle */
    uint32_t invalid_in_a_row;
    double requested[INPHASE_MAX_CHANNELS];
    struct inphase_motion motion[INPHASE_MAX_CHANNELS];
    double applied[INPHASE_MAX_CHANNELS]; /* of motion, as it goes out */
    uint32_t flags, reason, detail;

    /* rest, and the stop that is owed: cycle thread */
    bool commanded;              /* ever: a command was written */
    bool driven;                 /* in the last act, or in all since the last but that */
    bool owed;                   /* it was told to move, and nobody has stopped it */
    enum stops stops;            /* what is being written is that stop */
    uint32_t told;               /* stops so far, since it is owed */
    uint32_t enables_seen;       /* when it came to be owed */
    enum rest rest;              /* by its feedback, while anybody asks */
    int64_t rest_sequence;       /* of the sample that was looked at last */
    int64_t rest_from_ns;        /* when it was where it is compared with, ABSENT: no such yet */
    double rest_from[INPHASE_MAX_CHANNELS];
    _Atomic uint32_t moves;      /* it is measured to move; the supervisor reads it */
    _Atomic uint32_t loose;      /* it is not known to be at rest; likewise */

    struct plant *plant;         /* what it moves in lock step; NULL: a device */
};

static inline bool is_at_rest(const struct actuator *actuator)
{
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (!limiter_rests(&actuator->limiter[c], &actuator->motion[c]))
            return false;
    return true;
}

bool feedback_is_good(const struct actuator *actuator, int64_t now_ns);
/* can motion begin, as far as nothing measures it? One that is measured begins where it is
   measured */
bool place_is_known(const struct actuator *actuator);
