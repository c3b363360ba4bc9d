/* A worker's segment: the samples that it posts, and the orders that it is handed. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "../inphase.h"
#include "store.h"

struct device_ops;

/* Head of a worker's segment; its ring is at POST_RING, as the core's layout says. The runtime
   writes the constants, the worker all else */
#define POST_RING 4096
#define WORKER_OPENS (offsetof(struct inphase_worker_facts, opens) / 8) /* in `fact` */
struct post {
    uint64_t magic, epoch, payload, depth;
    uint32_t version;
    _Atomic uint64_t head;       /* samples posted */
    _Atomic uint32_t state;      /* INPHASE_WORKER_* */
    _Atomic uint64_t orders;     /* commands that it was handed and is done with */
    _Atomic int64_t fact[sizeof(struct inphase_worker_facts) / 8];
};

/* a slot of a worker's ring: struct slot, with the stamps in the header's unused bytes */
struct posted_slot {
    _Atomic uint64_t sequence;
    _Atomic uint64_t word[sizeof(struct inphase_posted) / 8];
    uint8_t payload[];           /* written in place: plain memory under the sequence */
};
_Static_assert(sizeof(struct post) <= POST_RING, "the head lies before the ring");
_Static_assert(sizeof(struct posted_slot) == SLOT_HEADER, "the stamps fill the slot's header");

/* a command for a worker, in the core's segment; `values` doubles follow */
struct order {
    int64_t cycle, valid_until_ns;
    int64_t stops;               /* 1: it stops a device that was away */
    double value[];
};
#define ORDER_SLOTS 8

extern const struct device_ops worker_ops;

/* the head of the segment of a sensor's worker; NULL: it is not as the core's layout says */
const struct post *post_of(const inphase_segment *segment, const struct inphase_layout *layout,
                           uint32_t sensor);
