/* The two pages that the core and the guard share. The core's process makes the guard's page, and
   only it can write there. The second page has the guard's own beat: only the guard, a process of
   its own (guard_process.c), maps it for writing.

   In each cycle the core writes its beat into the guard's page. Before it writes a command to a
   device, it writes the bytes that stop that device: a *record*. The page holds two records in
   turn, so that a core that is killed while it writes one leaves the other whole. */
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

/* The constants of a page. The guard copies them before anything moves, and uses only the copy: a
   core that has gone wrong may have written into the page, too */
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
    _Atomic uint32_t moving;     /* bit per actuator: commanded, and to be stopped */
    _Atomic int64_t beat_ns;     /* last run of the cycle thread */
    _Atomic int64_t cycle;       /* its cycle */
    /* per actuator of a worker: losses of its device in motion, times two. Odd: the worker is
       stuck, and has to be killed before its device is stopped */
    _Atomic uint32_t lost[INPHASE_MAX_ACTUATORS];
    _Atomic uint32_t owner;      /* futex word: the cycle thread's id and FUTEX_WAITERS while it
                                    runs; the kernel adds FUTEX_OWNER_DIED and wakes whoever waits
                                    when it dies (set_robust_list(2)); 0: it does not run */
};

/* the guard writes it, and the core's cycle thread compares its three numbers with known ones */
struct guard_life {
    _Atomic int64_t beat_ns;     /* when the guard last looked at the page */
    _Atomic uint32_t owner;      /* futex word of the guard's main thread, as guard_page's */
    _Atomic uint32_t spared;     /* times that it found the core frozen, and stopped the devices of
                                    an emulated robot without killing it; written before the first
                                    stop */
};
/* an older beat means a frozen guard; in multiples of max_hold_ns, in each of which it looks at the
   page at least once */
#define GUARD_LATE 5
/* and a worker that takes no order for so many max_hold_ns is stuck */
#define GUARD_STUCK 5
/* a frozen runtime that was spared has to run again within this time, or is killed after all */
#define GUARD_SPARE_NS 10000000000LL

/* copy the constants of a page of that many bytes; false: the copy is invalid, or leads out of the
   page. The page may change meanwhile */
bool guard_page_take(const struct guard_page *page, uint64_t size, struct guard_layout *layout);
/* the newest whole record of a page with that layout; false: there is none. The writer may be
   writing, or dead */
bool guard_page_record(const struct guard_page *page, const struct guard_layout *layout,
                       struct guard_record *record);

/* the guard's knowledge at one moment */
struct guard_view {
    uint32_t moving;
    int64_t beat_ns;
    bool is_dead;                /* the runtime's process has ended, or its cycle thread in motion:
                                    then all its threads are ending, and none can write */
    bool is_left;                /* the runtime has closed its line to the guard */
    int64_t awake_ns;            /* when the guard, which had been held up itself, found
                                    forgiven_beat_ns */
    int64_t forgiven_beat_ns;    /* the beat that is given a second look; INPHASE_ABSENT: none */
    int64_t held_beat_ns;        /* the beat after which the guard stopped the devices and let the
                                    runtime live; INPHASE_ABSENT: none */
    int64_t held_until_ns;       /* until then that beat is not judged again */
};

enum guard_verdict {
    GUARD_WAIT,                  /* all is well until *until_ns; then look again */
    GUARD_DIED,                  /* the runtime died in motion */
    GUARD_FROZEN,                /* the runtime lives, in motion, without a beat */
    GUARD_LEAVE,                 /* nothing moves, and the runtime is gone: end */
};
/* Pure; max_hold_ns is GUARD_LONGEST_NS at most, the view may be anything. A beat that is older
   than max_hold_ns, or further ahead than that, means frozen. A beat that guard_woke forgave counts
   from then on. */
enum guard_verdict guard_judge(const struct guard_view *view, int64_t max_hold_ns, int64_t now_ns,
                               int64_t *until_ns);
/* Pure. The guard wanted to look at until_ns, and looked at now_ns. If it was held up by more than
   half of max_hold_ns, the machine may have stood still as a whole. The core handles that itself
   (RESUMED), so the present beat gets a second look, after max_hold_ns. Only once: a runtime that
   has not run between two looks of the guard is frozen, however often the guard is held up. */
void guard_woke(struct guard_view *view, int64_t until_ns, int64_t now_ns, int64_t max_hold_ns);

/* Pure. Is a frozen runtime with so many actuators spared, and told to end, instead of killed? Only
   if all its devices are emulated, so that nobody can be hurt. emulated: bit per actuator whose
   device the guard has, and knows to be emulated. view: as it was judged. Once per beat. */
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
    uint32_t is_shared;          /* the worker is a thread of a process that does more, and that is
                                    not killed: the runtime, or a person's own program */
    char name[GUARD_NAME];       /* of the device, for a person */
};
struct guard_answer {
    uint32_t kind, actuator;
    int32_t error, other;
};
