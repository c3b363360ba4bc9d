/* A device: its functions, and how it comes and goes. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct sensor;
struct actuator;
struct post;

/* the result of a receive; EMPTY: there was nothing to read */
enum received { RECEIVED_EMPTY, RECEIVED_PART, RECEIVED_SAMPLE, RECEIVED_REFUSED };

/* The functions of a descriptor's device, of a worker's and of a twin. Each returns 0, or a
   negative errno, which means that the device is gone. */
struct device_ops {
    bool pairs;                  /* fires by itself, and its samples name their trigger's cycle */
    int (*trigger)(struct inphase_core *core, struct sensor *sensor, int64_t now_ns);
    /* read a bounded number of bytes; *got is the result */
    int (*receive)(struct inphase_core *core, struct sensor *sensor, enum received *got);
    /* write `applied`, or the actuator's stop, where it `stops` */
    int (*write)(struct inphase_core *core, struct actuator *actuator);
};

struct device {
    const struct device_ops *ops;
    int fd;                      /* cycle thread; -1: none */
    bool attached;               /* cycle thread */
    bool refused;                /* cycle thread: the peer's port is closed, sends go on */
    bool was_lost;               /* cycle thread: it must prove itself before it is trusted */
    bool starved;                /* cycle thread: no read either, which would feed its watchdog */
    bool worker_lives;           /* cycle thread: a worker's device: as the supervisor says */
    int64_t opens_seen;          /* cycle thread: of a worker, when its device was attached */
    _Atomic uint32_t *bell;      /* constant; rung for its worker, NULL: it takes no orders */
    const struct post *post;     /* constant; a worker's segment */
    int actuator;                /* constant; -1: none */
    int sensor;                  /* constant; -1: none */
    int64_t quiet_until_ns;      /* cycle thread: before it, a missed reply may still be coming */
    int64_t gone_until_cycle;    /* twins: planned absence */
    uint64_t taken;              /* cycle thread: the wish that it follows */
    uint64_t orders_taken;       /* cycle thread: of a worker, as it said last */
    uint32_t orders_waiting;     /* cycle thread: acts in a row in which it took none */
    _Atomic uint64_t wanted;     /* supervisor: generation, and the wish since: WANTED_* */
    _Atomic uint64_t use;        /* cycle thread: generation of the wish taken, and USE_* */
    uint32_t lost_reason, lost_detail; /* cycle thread: beside OFFLINE; 0: the errno says it all */
};

/* The low halves of a device's two words. The high halves are the generation: an answer to an older
   wish is never taken for one to the newest */
#define WANTED_NONE 0u           /* no device */
#define WANTED_FD 2u             /* this and more: descriptor + WANTED_FD, which may be -1 */
#define USE_ATTACHED 0x80000000u
#define USE_ERRNO 0xffffu        /* with which it was lost; 0: it was not */

/* take over the supervisor's wishes and the workers' news of their devices; once per cycle */
void stage_devices(struct inphase_core *core);
void device_lost(struct inphase_core *core, struct device *device, int error);
