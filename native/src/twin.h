/* Simulated devices of lock step. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct device_ops;
struct sensor;
struct actuator;

/* a sample of a simulated device that is still under way */
struct coming {
    int64_t at_ns;               /* time of its acquisition */
    int64_t ready_ns;            /* time of its last byte, INPHASE_ABSENT: never */
    int64_t cycle;               /* of its faults and draws */
    uint64_t key;                /* of draws: the cycle, or the number of a free-running sample */
    uint64_t sequence;           /* the device's */
    uint32_t reason;             /* planned refusal */
    bool taken;                  /* it is acquired: values and payload are there */
    double value[INPHASE_MAX_VALUES];
    uint8_t *payload;            /* of a sample with more than float64 values; else NULL */
};

/* The simulated device of a sensor in lock step. The caller's thread writes it. A triggered device
   has one sample under way, a free-running device a queue, oldest first */
struct twin {
    struct inphase_twin spec;    /* its pointers point into this struct */
    struct inphase_twin_channel channel[INPHASE_MAX_VALUES];
    bool is_stamped;             /* its worker, or the kernel, stamps the receipt */
    struct coming *coming;       /* `room` of them */
    uint32_t room, first, count;
    int64_t latency_ns;          /* of the last reply that was drawn */
    uint64_t number;             /* of a free-running device: samples begun */
    uint64_t sequence;           /* of the last sample that was new */
    uint64_t stands_until;       /* `drawn` up to which a drawn freeze lasts */
    uint64_t drawn;              /* samples taken, frozen ones included */
    double value[INPHASE_MAX_VALUES]; /* of the last sample, before a planned fault */
    uint8_t *payload;            /* of the last sample */
    uint8_t *given;              /* payload of the last given sample; NULL: none */
    uint64_t shown;              /* of a free-running device: the last given sample */
    double shown_value[INPHASE_MAX_VALUES];
};

#define EFFECTS 64               /* commands of one actuator under way to their effect */
struct effect {
    int64_t at_ns;
    double value[INPHASE_MAX_CHANNELS];
};

/* the simulated part of an actuator in lock step: servos, or joints of the world. The caller's
   thread writes */
struct plant {
    struct inphase_servo servo[INPHASE_MAX_CHANNELS];
    int64_t servo_ns;            /* time up to which they have moved */
    bool in_world;
    double *control[INPHASE_MAX_CHANNELS];
    double gain[INPHASE_MAX_CHANNELS], zero[INPHASE_MAX_CHANNELS];
    struct inphase_distribution delay;
    struct effect effect[EFFECTS];
    uint32_t first, count;
};

extern const struct device_ops twin_ops;

/* the planned fault of that kind in a cycle, NULL: none */
const struct inphase_fault *fault_at(const struct inphase_core *core, uint32_t kind,
                                     uint32_t device, int64_t cycle);
/* the simulated part of a sensor or an actuator; 0 or a negative errno. free ends it */
int twin_make(struct sensor *sensor, const struct inphase_sensor_config *config);
void twin_free(struct sensor *sensor);
int plant_make(struct actuator *actuator, const struct inphase_actuator_config *config);
void plant_free(struct actuator *actuator);
/* let all events of the simulated devices up to to_ns happen, in their order */
void twins_advance(struct inphase_core *core, int64_t to_ns);
/* when something of a free-running device may be in next */
int64_t twin_next_ns(const struct inphase_core *core, const struct sensor *sensor);
/* when the next expected sample of a sensor is in; INT64_MAX: none is coming */
int64_t twin_ready_ns(const struct sensor *sensor);
