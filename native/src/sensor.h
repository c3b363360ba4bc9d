/* A sensor: its samples, its last trigger, and its place among the triggers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "burst.h"
#include "packet.h"

struct device;
struct twin;

#define REFUSED_IN_A_ROW 3 /* replies or commands: then they count as gone */
#define RECEIVES_PER_CYCLE 64 /* of one sensor: a line that babbles is left alone for the rest */
/* of a free-running one: the newest sample is the last of the backlog */
#define LOOKS_PER_CYCLE 1024

/* a sample as a frame names it */
struct sample {
    int64_t sequence;            /* its number in the ring, -1: no sample */
    int64_t cycle;               /* of its trigger, -1: without a trigger */
    int64_t triggered_ns, acquired_ns, received_ns, uncertainty_ns;
    bool trusted;                /* it was FRESH, or late but in order, and not RECOVERING */
    double value[INPHASE_MAX_VALUES]; /* last: see copy_sample */
};

/* everything but the configuration is the cycle thread's */
struct sensor {
    struct device *device;
    uint32_t index, channels, recover, frozen_after;
    uint32_t offset[INPHASE_MAX_VALUES];
    uint64_t payload;
    bool free_running;           /* never triggered */
    bool has_line;               /* a trigger raises a line, for at least pulse_ns */
    int line_fd;
    int64_t pulse_ns;
    int64_t trigger_ns, every, latency_cycles, max_age_ns;
    double low[INPHASE_MAX_VALUES], high[INPHASE_MAX_VALUES], rate[INPHASE_MAX_VALUES];
    bool has_rate;               /* one of its rates is given */
    struct inphase_parser parser;

    /* the last trigger */
    int64_t cycle;               /* of that trigger, -1: there was none */
    int64_t triggered_ns;
    bool line_is_up;             /* the trigger line was raised, and not yet lowered */
    bool outstanding;            /* triggered, reply not complete */
    bool dirty;                  /* the last exchange did not end cleanly: drain before a trigger */
    bool suspect;                /* the next reply may answer an earlier trigger */
    uint32_t owed;               /* unanswered triggers since the line was trusted */
#define OWED_NOT_KNOWN INT32_MAX
    bool slipped;                /* a reply to another trigger came since the last trigger */
    int64_t heard_ns;            /* while suspect: time of the last read that gave something */
    int64_t earliest_ns;         /* constant: the least time from a trigger to its whole reply */
    bool repeated;               /* it gave a reply that had come before */
    bool fresh, frozen, refusal; /* the result of the trigger */
    uint32_t reason, detail;     /* of a refusal */

    int64_t byte_ns;             /* when the read returned that gave the last byte */
    uint64_t bytes_in;           /* read from the device so far... */
    uint64_t bytes_asked;        /* ...before the last trigger */
    uint32_t receives;           /* in this cycle, bounded */
    uint32_t status;             /* at the last latch */

    struct sample newest;        /* the one that frames name */
    struct sample early;         /* arrived before the frame that it is due in; sequence -1: none */
    int64_t early_due;           /* that frame's cycle */
    int64_t next_sequence;       /* number of the next sample in the ring */
    uint64_t device_sequence;
    bool device_sequence_known;  /* the next number must be larger */
    bool device_sequence_seen;   /* a number came at all: the next one must differ */
    uint32_t identical;          /* samples in a row with the same bits */
    uint32_t recovering;         /* good replies still needed */
    uint32_t refused_in_a_row;

    /* the device's clock */
    struct inphase_device_clock clock;
    int64_t clock_ticks, clock_first; /* last and first, unwrapped */
    int64_t clock_ns;            /* the last one, in nanoseconds since the first */
    bool clock_known;

    struct inphase_posted stamps; /* of the last receipt */
    uint64_t posted;             /* a worker's: number of the sample to look at next */

    struct burst burst;          /* all samples since the last frame, where it gives them */
    struct twin *twin;           /* answers in lock step; NULL: a device does */
};

/* The age of the newest sample, for max_age: from its acquisition or its arrival, whichever is
   earlier. If the acquisition is unknown: from its trigger. Without a sample: INT64_MAX */
static inline int64_t sample_age(const struct sensor *sensor, int64_t now_ns)
{
    const struct sample *newest = &sensor->newest;
    int64_t since_ns = newest->received_ns;

    if (newest->sequence < 0)
        return INT64_MAX;
    if (newest->acquired_ns != INPHASE_ABSENT)
        since_ns = newest->acquired_ns < since_ns ? newest->acquired_ns : since_ns;
    else if (newest->triggered_ns != INPHASE_ABSENT)
        since_ns = newest->triggered_ns;
    return now_ns - since_ns;
}

/* When silence ends the packet of which bytes are held, unless more come. INT64_MAX: none is held,
   or silence ends nothing */
static inline int64_t silence_ends_ns(const struct sensor *sensor)
{
    int64_t idle_ns = sensor->parser.exchange.spec.framing.idle_ns;

    return idle_ns && sensor->parser.size ? sensor->byte_ns + idle_ns : INT64_MAX;
}

/* the cycle whose frame wants a sample of this trigger */
static inline int64_t due_cycle(const struct sensor *sensor, int64_t cycle)
{
    return cycle + sensor->latency_cycles;
}

/* is so many cycles after its first trigger one of its triggers? A division takes as long as a
   dozen other instructions, and most sensors are triggered in every cycle */
static inline bool is_its_turn(const struct sensor *sensor, int64_t cycles)
{
    return sensor->every == 1 || cycles % sensor->every == 0;
}

/* is a sample of this sensor due in the frame of that cycle? */
static inline bool is_due(const struct sensor *sensor, int64_t cycle)
{
    int64_t since = cycle - sensor->latency_cycles;

    return !sensor->free_running && since >= 0 && is_its_turn(sensor, since);
}

/* put a sensor among those that the core triggers; before the start */
void order_trigger(struct inphase_core *core, uint32_t sensor);
/* at the start: put them in order, close their bounds, and count those of each kind */
void sort_sensors(struct inphase_core *core);
/* a reply of another trigger came: samples are in doubt until the line was seen clean */
void slip(struct inphase_core *core, struct sensor *sensor);
