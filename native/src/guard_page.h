/* What the core and the guard share: the page, which the core's process makes and alone can write,
   and a second one for the guard's own beat, which only the guard, a process of its own
   (guard_process.c), maps for writing.

   Each cycle the core leaves here that it lives, and, before it writes a command to a device, the
   bytes that stop that device: a *record*, of which the page holds two in turn, so that a core that
   is killed while it writes one leaves the other whole. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

#define GUARD_MAGIC 0x6472617567ULL /* "guard" */
#define GUARD_VERSION 4
#define GUARD_RECORDS 2
#define GUARD_NAME 48
#define GUARD_LONGEST_NS 3600000000000LL /* of any duration on the page */

/* a record: how many bytes each actuator's stop has, then the bytes, at guard_stop's offsets */
struct guard_record {
    uint32_t size[INPHASE_MAX_ACTUATORS]; /* 0: there are none */
    uint8_t bytes[INPHASE_MAX_ACTUATORS * INPHASE_MAX_PACKET];
};

/* how one actuator is stopped; constant */
struct guard_stop {
    uint32_t offset, room;       /* of its bytes in a record's; room 0: the guard does not have
                                    it */
    uint32_t chunk;              /* bytes of one datagram, 0: the bytes are one write */
    uint32_t unused;
    int64_t gap_ns;              /* the line is left idle for so long before each time */
    int64_t wire_ns;             /* the bytes' own time on the wire */
};

/* what is constant of a page. The guard takes a copy before anything moves, and goes by that alone:
   it is there for a core that has gone wrong, whose stray write may have hit the page too */
struct guard_layout {
    uint64_t magic;
    uint32_t version, actuators;
    uint64_t size;               /* of the page in bytes */
    int64_t max_hold_ns;         /* a beat that is older means a frozen core */
    struct inphase_ring ring;    /* of records */
    struct guard_stop stop[INPHASE_MAX_ACTUATORS];
};

/* the cycle thread writes what is atomic */
struct guard_page {
    struct guard_layout layout;
    _Atomic uint64_t head;       /* records left so far */
    _Atomic uint32_t moving;     /* bit per actuator: it was commanded, and has to be stopped */
    _Atomic int64_t beat_ns;     /* when the cycle thread last ran */
    _Atomic int64_t cycle;       /* which cycle that was */
    /* per actuator of a worker, how often the core lost its device in motion, times two; odd: and
       the worker is stuck, so that it has to be killed before its device is stopped */
    _Atomic uint32_t lost[INPHASE_MAX_ACTUATORS];
    _Atomic uint32_t owner;      /* futex word: the cycle thread's id and FUTEX_WAITERS while it
                                    runs; the kernel adds FUTEX_OWNER_DIED and wakes whoever waits
                                    when it dies (set_robust_list(2)); 0: it does not run */
};

/* the guard writes it, and the core's cycle thread compares three numbers of it with what it
   knows */
struct guard_life {
    _Atomic int64_t beat_ns;     /* when the guard last looked at the page */
    _Atomic uint32_t owner;      /* futex word of the guard's main thread, as guard_page's */
    _Atomic uint32_t spared;     /* how often it found the core frozen, and stopped the devices of
                                    an emulated robot without killing it; before it sends the first
                                    stop */
};
/* a beat of the guard that is older means a frozen guard; in multiples of max_hold_ns, in each of
   which it looks at the page once at least */
#define GUARD_LATE 5
/* and a worker that takes no order for so many max_hold_ns is stuck */
#define GUARD_STUCK 5
/* a frozen runtime that was spared has so long to run again, or is killed after all */
#define GUARD_SPARE_NS 10000000000LL

/* copy what is constant of a page of that many bytes; false: the copy does not hold, or leads out
   of the page. The page may change meanwhile */
bool guard_page_take(const struct guard_page *page, uint64_t size, struct guard_layout *layout);
/* the newest whole record of a page with that layout; false: there is none. The writer may be
   writing, or dead */
bool guard_page_record(const struct guard_page *page, const struct guard_layout *layout,
                       struct guard_record *record);

/* what the guard knows at one moment */
struct guard_view {
    uint32_t moving;
    int64_t beat_ns;
    bool is_dead;                /* the runtime's process has ended, or its cycle thread in motion:
                                    then all of its threads are ending, and none of them can
                                    write */
    bool is_left;                /* the runtime has closed its line to the guard */
    int64_t awake_ns;            /* when the guard, which had been held up itself, found
                                    forgiven_beat_ns */
    int64_t forgiven_beat_ns;    /* the beat that is given a second look; INPHASE_ABSENT: none */
    int64_t held_beat_ns;        /* the beat after which the guard stopped the devices and let the
                                    runtime live; INPHASE_ABSENT: none */
    int64_t held_until_ns;       /* until then that beat is not asked about again */
};

enum guard_verdict {
    GUARD_WAIT,                  /* all is well until *until_ns; then look again */
    GUARD_DIED,                  /* the runtime died in motion */
    GUARD_FROZEN,                /* it lives, in motion, and does not beat */
    GUARD_LEAVE,                 /* nothing moves, and nobody is there any more: end */
};
/* Pure; max_hold_ns is GUARD_LONGEST_NS at most, the view may be anything. Frozen is a beat that is
   older than max_hold_ns, or further ahead than that. A beat that guard_woke forgave counts from
   then on. */
enum guard_verdict guard_judge(const struct guard_view *view, int64_t max_hold_ns, int64_t now_ns,
                               int64_t *until_ns);
/* Pure. The guard wanted to look at until_ns and did at now_ns. When it was held up itself, by more
   than half of max_hold_ns, the machine may have stood still as a whole, which is the core's to
   notice (RESUMED): the beat that is found then is looked at a second time, after max_hold_ns.
   Once: a runtime that has not run between two looks of the guard is frozen, however often the
   guard is held up. */
void guard_woke(struct guard_view *view, int64_t until_ns, int64_t now_ns, int64_t max_hold_ns);

/* Pure. Whether a frozen runtime with so many actuators is spared, and told to end, instead of
   killed: nothing of it can hurt anybody. emulated: bit per actuator whose device the guard has,
   and knows to be emulated. view: as it was judged. Once per beat. */
bool guard_spares(const struct guard_view *view, uint32_t actuators, uint32_t emulated);

/* ---- between supervisor and guard: one packet each way per request ----------------------- */

/* with a descriptor: of this actuator, from now on; and, where a worker writes to it, a second one:
   a pidfd of the worker */
#define GUARD_GIVE 1
#define GUARD_DROP 2             /* close it */
#define GUARD_READY 3            /* the guard's first word: error is that of SCHED_FIFO, other of
                                    locking its memory; 0: granted */

struct guard_request {
    uint32_t kind, actuator;
    uint32_t is_emulated;        /* what answers at the descriptor is the run's own emulator */
    uint32_t is_shared;          /* the worker is a thread of a process that does more, which is not
                                    killed: the runtime, or that of a person who started it */
    char name[GUARD_NAME];       /* of the device, for a person */
};
struct guard_answer {
    uint32_t kind, actuator;
    int32_t error, other;
};
