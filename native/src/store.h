/* The store: segments, rings of sequence-locked slots, and waiting. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

#define MAGIC 0x65736168706e69ULL /* "inphase" */
#define STORE_VERSION 7
#define SLOT_HEADER 64

/* A page with one word, on which one other process waits. The core alone writes it, and no third
   process has it: a stranger who waited on it would be woken instead */
#define BELL_BYTES 4096

struct inphase_segment {
    uint8_t *memory;
    uint64_t size;
    int fd;                      /* holds the writer's lock, or asks for it; -1: another one writes
                                    too */
    int handed;                  /* the descriptor for others; -1: it is not ours to hand over */
    bool writer;
    uint32_t lease, drove;       /* of the answers that are posted here: see inphase_mailbox_sign */
};

/* a slot of a ring; sequence is 2n + 1 while sample n is written and 2n + 2 when it is whole */
struct slot {
    _Atomic uint64_t sequence;
    uint8_t unused[SLOT_HEADER - sizeof(uint64_t)];
    _Atomic uint64_t payload[];
};

/* From here on another process alone writes to a segment made here. *out is set on success; on an
   error the segment is closed */
int segment_leave(inphase_segment **out, inphase_segment *segment);
/* 1 while the writer of the segment behind fd lives, 0, or a negative errno */
int writer_alive(int fd);
uint64_t ring_stride(uint64_t payload);
/* does a part of so many bytes lie inside a segment of that size? */
bool part_fits(uint64_t offset, uint64_t bytes, uint64_t size);
/* do all slots of a ring lie inside a segment of that size? */
bool ring_fits(const struct inphase_ring *ring, uint64_t size);
struct slot *ring_slot(uint8_t *memory, const struct inphase_ring *ring, uint64_t number);
void slot_write(struct slot *slot, uint64_t number, const void *payload, uint64_t size);
bool slot_read(const struct slot *slot, uint64_t number, void *payload, uint64_t size);
/* wake up to count of those who wait on a word */
void futex_wake(const _Atomic uint32_t *word, int32_t count);
/* now + timeout, or the end of time: callers wait for ever with INT64_MAX */
int64_t deadline_after(int64_t timeout_ns);
