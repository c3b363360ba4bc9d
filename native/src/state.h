/* The state of a robot: its part of the store, and what leads from one state to another. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "store.h"

#define STOP_NS 1300000000LL /* a longer ramp is cut: a stop takes less than 2 s */

/* the cycle thread writes all of it unless a field says otherwise; anyone reads */
struct state {
    _Atomic uint64_t head;       /* frames latched */
    _Atomic uint32_t wake;       /* futex word, low bits of head */
    _Atomic int64_t start_ns, cycle, cycles, stopping_cycles, skipped, overruns;
    _Atomic int64_t page_faults; /* supervisor */
    _Atomic uint32_t state, reason, detail, latched, latched_detail, lost_devices;
    _Atomic uint32_t refusal, refusal_detail, estop;
    _Atomic int64_t reason_cycle, epoch;
    _Atomic int32_t thread_id;
    _Atomic int32_t rt_priority, rt_priority_errno, rt_cpu, rt_cpu_errno, rt_memory_errno;
    _Atomic int32_t rt_granted;
    _Atomic uint64_t orders[INPHASE_MAX_ACTUATORS]; /* commands handed to workers so far */
    _Atomic uint32_t starved;    /* bit per actuator: its worker leaves its device alone */
    _Atomic uint32_t estops;     /* emergency stops so far; any thread adds */
    _Atomic uint32_t over;       /* 1: no cycle follows */
    _Atomic uint32_t paced;      /* 1: the grid lies on that of the device that paces it */
    _Atomic int64_t unpaced, missed_packets, pace_drift_ppb; /* see struct inphase_status */
    /* supervisor: a slot with a struct inphase_host_counts */
    _Alignas(SLOT_HEADER) uint8_t host[SLOT_HEADER + sizeof(struct inphase_host_counts)];
    /* supervisor: a ring of slots with a struct inphase_late, and how many there were */
    _Alignas(SLOT_HEADER) uint8_t late[INPHASE_LATE_KEPT]
                                      [SLOT_HEADER + sizeof(struct inphase_late)];
    _Atomic uint64_t lates;
};

/* hold motion until inphase_core_arm; the first reason stays, only ESTOP replaces any other */
void latch_motion(struct inphase_core *core, uint32_t reason, uint32_t detail);
/* go to the state that follows from this cycle's findings; at the latch and after the act */
void state_follow(struct inphase_core *core);
void state_set(struct inphase_core *core, uint32_t to);
/* commands that answer the frames so far move nothing any more; cycle thread */
void begin_epoch(struct inphase_core *core);
/* begin the ramp that ends the run; at the start of a cycle */
void state_stop(struct inphase_core *core, uint32_t reason, uint32_t detail);
void state_end(struct inphase_core *core);
bool all_at_rest(const struct inphase_core *core);
/* follow a request to arm, or its withdrawal: reads begin again; before the triggers */
void state_take_requests(struct inphase_core *core);
/* latch motion when an actuator's guard is lost; at the latch */
void state_watch_guards(struct inphase_core *core);
/* likewise, when the supervisor asks for it or is silent */
void state_watch_supervisor(struct inphase_core *core);
/* grant the pending request, or tell why not; at the latch, when the statuses are known */
void state_grant(struct inphase_core *core);
