/* The page that the sentinel writes and its runtime reads: who could have had the cycle thread's
   core, and when. The runtime makes it and writes the first part; the sentinel, a process of its
   own (sentinel.c), writes the rest. A row is whole if its ring's count has not come round to it
   again while it was copied. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define SENTINEL_POINTS 3
#define SENTINEL_WAKES 4096
#define SENTINEL_LOOKS 1024
#define SENTINEL_LOOKED 6 /* threads: the cycle thread first, then those that it waits for */
#define SENTINEL_TURNS 65536

/* one wake of the sentinel's own thread: when it was due, and when it was */
struct sentinel_wake {
    int64_t point_ns, woke_ns;
};

/* Counters of a thread and of the cycle thread's core since their start, read at some time between
   began_ns and ended_ns. -1: the kernel does not tell */
struct sentinel_look {
    int64_t began_ns, ended_ns;
    int64_t ran_ns;              /* of the thread on any core */
    int64_t waited_ns;           /* that it was ready and had no core */
    int64_t minor, major;        /* its page faults */
    int64_t core_ns;             /* when the next three were read, less often than the others */
    int64_t stolen_ns, interrupt_ns, softirq_ns; /* of the core, in steps of a tick */
    int64_t state;               /* of the thread, the letter of proc(5) */
    int64_t cpu;                 /* that it was on last */
};

/* who has a core from that time on; 0: nobody. In order for each core */
struct sentinel_turn {
    int64_t at_ns;
    int32_t process, thread, cpu, unused;
};

struct sentinel_page {
    /* the runtime writes it, `go` last */
    int64_t period_ns, origin_ns;
    int64_t after_ns[SENTINEL_POINTS]; /* of each grid point, in order; -1: no such point */
    int32_t priority, cpu;       /* cpu -1: the cycle thread may run on any */
    int32_t process[SENTINEL_LOOKED], thread[SENTINEL_LOOKED]; /* 0: none */
    _Atomic uint32_t go;

    /* the sentinel's real-time thread */
    int32_t priority_errno, cpu_errno;
    _Atomic uint64_t wakes;
    _Atomic int64_t since_ns, used_ns; /* its processor time, and since when it is counted */
    _Atomic int64_t every;       /* cycles from one of its wakes to the next */

    /* its other thread */
    int32_t turns_errno;         /* why nobody tells who has a core; 0: it is told */
    _Atomic uint64_t looks[SENTINEL_LOOKED], turns;
    _Atomic int64_t lost_ns;     /* turns before it are not all there */

    struct sentinel_wake wake[SENTINEL_WAKES];
    struct sentinel_look look[SENTINEL_LOOKED][SENTINEL_LOOKS];
    struct sentinel_turn turn[SENTINEL_TURNS];
};
