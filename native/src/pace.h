/* The device that paces the cycle: its packets say where the grid lies. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct inphase_core;
struct sensor;

/* the cycle thread writes all of it */
struct pace {
    struct sensor *sensor;       /* constant; NULL: the host's clock paces the cycle */
    struct inphase_device_clock clock; /* device times, mapped to the earliest arrivals */
    int64_t heard_ns;            /* device time of the newest packet */
    int64_t arrived_ns;          /* when it came */
    int64_t late_from_ns;        /* since when no packet was in time, while is_late */
    int64_t anchor_cycle;        /* the cycle that a device time belongs to... */
    int64_t anchor_ns;           /* ...and that time */
    uint32_t missed_in_a_row;    /* slots without a packet */
    uint32_t ignored_in_a_row;   /* slots whose only packets seemed to be of the slot before */
    bool is_late;                /* later than the jitter, the newest packet */
    bool is_heard;               /* a packet came at all */
    bool is_anchored;
    bool follows;                /* the grid lies on the device's */
    bool ignored;                /* a packet of this cycle was ignored */
    bool came;                   /* the packet of this cycle is there */
    bool is_missed;              /* this cycle waited for its packet, and none came */
};

/* a cycle begins: its packet is not there yet */
void pace_begin(struct inphase_core *core);
/* a packet of the device that paces the cycle came, at arrived_ns at the latest */
void pace_hear(struct inphase_core *core, const struct sensor *sensor, int64_t arrived_ns);
/* the sensor whose packet this cycle still waits for, NULL: none */
const struct sensor *pace_awaited(const struct inphase_core *core);
/* at the latch: tell in the frame if the packet is missing, and count it */
void pace_judge(struct inphase_core *core);
/* move the grid towards the device's, once the next cycle is known */
void pace_follow(struct inphase_core *core);
