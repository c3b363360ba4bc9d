/* The core as a whole. Only files that run on the cycle thread, or make, end and ask a core, see
   it. */
#pragma once

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "actuator.h"
#include "device.h"
#include "guard.h"
#include "handover.h"
#include "lockstep.h"
#include "pace.h"
#include "relay.h"
#include "sensor.h"
#include "setpoint.h"
#include "world.h"

struct clock_ops;
struct client_page;
struct lease_page;
struct mailbox;
struct state;
struct statistics;

#define MAX_FAULTS 256

struct inphase_core {
    const struct clock_ops *clock;
    int64_t virtual_ns;
    int64_t period_ns, read_deadline_ns, act_ns, resumed_after_ns, cycle_limit;
    uint64_t seed, epoch;
    uint32_t devices, sensors, actuators, values, overrun_limit;
    int32_t priority, cpu;
    bool observe, has_policy;
    struct device device[INPHASE_MAX_DEVICES];
    struct sensor sensor[INPHASE_MAX_SENSORS];
    struct actuator actuator[INPHASE_MAX_ACTUATORS];
    struct inphase_fault fault[MAX_FAULTS];
    uint32_t faults;

    /* lock step; the caller's thread */
    struct world world;
    struct server server;
    struct inphase_native_policy policy;
    struct inphase_distribution wake_late, inference;
    struct inphase_trace trace;  /* constant; its arrays are the caller's */
    const struct inphase_row *given; /* outcomes in place of the sensors' own, NULL: none; virtual
                                        time */
    const double *const *given_values;
    uint32_t given_unwritten;    /* bit per actuator to which nothing can be written */
    uint32_t unwritten;          /* of this cycle */
    uint32_t sleeps;             /* in this cycle so far: each has its own lateness */
    int64_t event_ns;            /* time of the next event of the simulated devices */

    /* store */
    inphase_segment *segment;
    struct inphase_layout *layout;
    struct state *state;
    struct statistics *statistics;
    struct relay relay;
    const struct mailbox *mailbox;
    _Atomic uint32_t *policy_bell; /* constant once started; rung at each latch, NULL: no policy */
    struct mailbox *own_mailbox; /* lock step */
    uint64_t record_size;
    uint8_t *record;             /* the frame being made, record_size bytes */
    struct inphase_act *act[INPHASE_MAX_ACTUATORS]; /* in the record */

    /* this cycle; cycle thread */
    int64_t cycle, due_ns, woke_ns, first_trigger_ns, latched_ns;
    uint32_t flags, skipped;
    int64_t wall_offset_ns, wall_error_ns; /* wall clock less monotonic clock, once per cycle */
    int64_t wall_looked_ns;      /* when that was measured */
    int64_t wall_since_ns;       /* the wall clock was not set since: later triggers can be
                                    stamped */
    bool wall_known;
    int64_t boot_offset_ns;      /* the largest so far: time of suspensions */
    bool boot_known;
    int64_t worst_late_ns;       /* the latest moment of this cycle, its phase and device */
    int worst_phase, worst_device;
    uint32_t order[INPHASE_MAX_SENSORS]; /* sensors that the core triggers, by offset; constant */
    uint32_t triggered;          /* their number; constant */
    uint32_t posting, silences, streams; /* sensors of workers, whose packets end by silence, that
                                            are free-running: none are passed over; constant */
    struct pollfd poll[INPHASE_MAX_DEVICES];
    bool readable[INPHASE_MAX_SENSORS];
    struct setpoints setpoints;
    struct pace pace;
    struct handover handover;
    double command[INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS];
    int64_t acted_cycle, acted_ns, inferred_ns, inference_ns, answered_cycle;
    int64_t noted_page_faults;
    uint64_t host_counts;        /* times that they were given; supervisor */
    int32_t overrun_level;
    int64_t overran;             /* grid points left out by this cycle's wake */
    int64_t stop_cycle;          /* first cycle of the final ramp; -1: not stopping */
    int64_t parked_cycle;        /* last cycle in which an actuator was on its way to park */

    /* states; cycle thread */
    bool is_live;                /* armed at least once; nothing is written before */
    bool wants_arm;              /* requested, and not granted yet */
    bool is_latched;             /* this cycle's frame is latched: its commands are of this epoch */
    bool told_stop;              /* a frame has told STOPPED, after a stop */
    bool is_over;                /* no cycle follows */
    bool watches_rest;           /* something has to come to rest: look at the feedback */
    int64_t epoch_cycle;         /* commands that answer frames before it are dropped */
    int64_t latched_cycle;       /* in which motion was latched */
    uint32_t estop_inputs;       /* constant */
    struct inphase_estop_input estop[INPHASE_ESTOP_INPUTS]; /* constant */
    int estop_fd[INPHASE_ESTOP_INPUTS]; /* constant; -1: none */
    bool estop_seen;             /* the inputs were looked at */
    const struct client_page *client_page; /* constant; NULL: clients have no wishes */
    uint32_t stops_seen;         /* its emergency stops that were followed */
    const struct lease_page *lease_page; /* constant; NULL: who may drive is not asked */
    uint32_t lease;              /* the one that drives; 0: none, or its robot is not at rest yet */
    uint32_t acted_lease, drove; /* of the last act: that lease, and INPHASE_DROVE_* */
    bool obeyed;                 /* an actuator follows the command of this act */

    struct guard guard;          /* the page that the guard reads; cycle thread, once it runs */

    /* any thread writes, the cycle thread reads */
    _Atomic uint64_t stop;       /* reason in the upper half, detail in the lower; 0: none */
    _Atomic uint64_t latch_request; /* likewise; taken back to 0 */
    _Atomic uint32_t arm_requests, arm_withdrawn, policy_gone;
    _Atomic uint32_t arm_estops; /* emergency stops that the last request to arm knows of */
    _Atomic uint32_t hurried;    /* 1: nothing parks any more */
    _Atomic uint32_t estop_request; /* INPHASE_ESTOP_LOCAL or _CLIENT; taken back to 0 */
    _Atomic uint32_t beats;      /* of the supervisor; 0: it is not watched */
    uint32_t arm_seen, beats_seen;
    int64_t silent_ns;           /* of cycles without a beat */

    pthread_t thread;
    bool started;
    void *stack; /* STACK_GUARD + STACK_BYTES */
    _Atomic int ended;
};

#ifdef __SANITIZE_THREAD__
#define STACK_BYTES (4096 * 1024) /* the sanitizer's own thread-local data take 900 kB of it */
#else
#define STACK_BYTES (256 * 1024)
#endif
#define STACK_GUARD 4096 /* below it, never touched */

static inline bool is_stopping(const struct inphase_core *core)
{
    return core->stop_cycle >= 0;
}
