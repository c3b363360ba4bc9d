/* inphase: the C core's only header. It is the manual, and cffi reads it unchanged, so it includes
   nothing: include <stdint.h> first.

   Words: a *cycle* is one period on the grid start + n * period. Every cycle the core fires the
   triggers, reads the sensors, latches one *frame*, and at the act offset sends each actuator the
   command that the *limiter* lets through. See middleware/README.md for one cycle followed through
   the files.

   Units: times are int64_t nanoseconds of CLOCK_MONOTONIC (of virtual time in lock step), values
   are SI, channels are counted from 0. A stamp or age that is not known is INPHASE_ABSENT.

   Errors: functions that return int return 0 or more for success and a negative errno otherwise.

   Threads: "any" means any thread of the process, never the cycle thread unless it says so. */
#pragma once

#define INPHASE_ABSENT -0x7fffffffffffffff
#define INPHASE_MAX_DEVICES 64
#define INPHASE_MAX_SENSORS 64
#define INPHASE_MAX_ACTUATORS 16
#define INPHASE_MAX_CHANNELS 64     /* of one actuator */
#define INPHASE_MAX_VALUES 256      /* float64 numbers of one sensor that the core looks at */
#define INPHASE_MAX_PACKET 2048     /* bytes of one request, reply or command on the wire */
#define INPHASE_WORST 10            /* worst cycles kept */

/* ---- statuses, reasons, flags ---------------------------------------------------------- */

/* status of a sample in a frame; only FRESH is fresh */
#define INPHASE_FRESH 0
#define INPHASE_HELD 1
#define INPHASE_LATE 2
#define INPHASE_MISSING 3
#define INPHASE_FROZEN 4
#define INPHASE_INVALID 5
#define INPHASE_OFFLINE 6
#define INPHASE_RECOVERING 7
#define INPHASE_STATUSES 8

/* reason beside a status or a command */
#define INPHASE_REASON_NONE 0
#define INPHASE_REASON_CHECKSUM 1   /* detail: offset of the checksum that failed */
#define INPHASE_REASON_SIZE 2       /* detail: bytes received */
#define INPHASE_REASON_MISMATCH 3   /* another device's or another kind of reply; detail: value */
#define INPHASE_REASON_DEVICE 4     /* the device reports an error; detail: its error word */
#define INPHASE_REASON_NAN 5        /* detail: channel */
#define INPHASE_REASON_RANGE 6      /* detail: channel */
#define INPHASE_REASON_RATE 7       /* detail: channel */
#define INPHASE_REASON_SHAPE 8      /* a command of the wrong shape or dtype */
#define INPHASE_REASON_RAISED 9     /* the policy raised */
#define INPHASE_REASON_DIED 10      /* the policy's process is gone */
#define INPHASE_REASON_SILENT 11    /* no command for this cycle, no reply */
#define INPHASE_REASON_START 12     /* the first command, or the end of the range, is too far from
                                       the measured pose; detail: channel */
#define INPHASE_REASON_FEEDBACK 13  /* feedback older than max_age, or an unknown place */
#define INPHASE_REASON_OFFLINE 14   /* a device that motion depends on is gone; detail: device */
#define INPHASE_REASON_RESUMED 15   /* the machine or the process was suspended */
#define INPHASE_REASON_OVERRUN 16   /* the overrun counter reached its limit */
#define INPHASE_REASON_SIGNAL 17    /* detail: signal number */
#define INPHASE_REASON_DONE 18      /* the cycles asked for are done */
#define INPHASE_REASON_REQUEST 19   /* the caller asked to stop */
#define INPHASE_REASON_BUSY 20      /* the bus was not quiet, and nothing was sent; of a command in
                                       chunks, only `detail` chunks were sent */
#define INPHASE_REASON_EXPIRED 21   /* the command's valid-until had passed */
#define INPHASE_REASON_PARENT 22    /* the process that started the runtime is gone */
#define INPHASE_REASON_GATEWAY 23   /* the gateway is gone, and clients' emergency stops with it */
#define INPHASE_REASON_INPUT 24     /* the policy does not accept a sample of the frame */
#define INPHASE_REASON_SLIP 25      /* a sample of another trigger; detail: by how many */
#define INPHASE_REASON_WATCHDOG 26  /* the device's watchdog is no longer fed: see arm */
#define INPHASE_REASON_BUS_OFF 27   /* the CAN controller is off; detail: its transmit errors */
#define INPHASE_REASON_WORLD 28     /* the simulated world failed: see inphase_core_world_failure */
#define INPHASE_REASON_WORKSPACE 29 /* LIMITED: the tool stays in its box; detail: axis */
#define INPHASE_REASON_ESTOP 30     /* emergency stop; detail: its input, or INPHASE_ESTOP_* */
#define INPHASE_REASON_DROPPED 31   /* the command answers a frame of before a stop or an arming */
#define INPHASE_REASON_UNGUARDED 32 /* nothing else can stop the device; detail: actuator */
#define INPHASE_REASON_MOVING 33    /* not armed: a ramp has not come to rest */
#define INPHASE_REASON_STATE 34     /* a transition that does not exist; detail: from << 8 | to */
#define INPHASE_REASON_STAMP 35     /* a stamp contradicts the core's clock, the trigger or the
                                       receipt; detail: INPHASE_STAMP_* */
#define INPHASE_REASON_SUPERVISOR 36 /* the supervisor is silent: see inphase_core_beat */
#define INPHASE_REASON_REST 37      /* an actuator may not be at rest: it gets its stop, or is not
                                       armed; detail: actuator */
#define INPHASE_REASON_GUARD 38     /* the guard stopped the devices of this frozen runtime, and
                                       spared it: its robot is emulated */
#define INPHASE_REASON_LEASE 39     /* nobody holds the lease, or the command is of another one */
#define INPHASE_REASON_PACE 40      /* too many packets of the device that paces the cycle were
                                       missing; detail: device */
#define INPHASE_REASONS 41

/* who gives a command */
#define INPHASE_DROVE_NOBODY 0
#define INPHASE_DROVE_POLICY 1      /* on the robot's side: the schedule's, a job's, a caller's */
#define INPHASE_DROVE_CLIENT 2      /* from afar, under a lease */
#define INPHASE_DROVE_PERSON 3      /* who took over */
#define INPHASE_DROVES 4

/* outcomes of an episode */
#define INPHASE_EPISODE_NONE 0
#define INPHASE_EPISODE_RUNNING 1
#define INPHASE_EPISODE_ENDED 2      /* nobody said how */
#define INPHASE_EPISODE_SUCCESS 3
#define INPHASE_EPISODE_FAILURE 4
#define INPHASE_EPISODE_DISCARDED 5  /* not to be used */
#define INPHASE_EPISODES 6

/* which stamp of a sample cannot be true */
#define INPHASE_STAMP_CYCLE 1       /* not a cycle that has begun */
#define INPHASE_STAMP_TRIGGERED 2   /* outside of its cycle, or after the receipt */
#define INPHASE_STAMP_ACQUIRED 3    /* before the trigger, after the receipt, or in the future */
#define INPHASE_STAMP_RECEIVED 4    /* in the future */
#define INPHASE_STAMP_UNCERTAINTY 5 /* below 0 */

/* flags of a frame: what happened since the frame before */
#define INPHASE_FLAG_OVERRUN 1
#define INPHASE_FLAG_SKIPPED 2
#define INPHASE_FLAG_RESUMED 4
#define INPHASE_FLAG_NOT_REALTIME 8
#define INPHASE_FLAG_PAGE_FAULTS 16
#define INPHASE_FLAG_OBSERVING 32
#define INPHASE_FLAG_LATCHED 64     /* motion needs inphase_core_arm */
#define INPHASE_FLAG_STOPPING 128
#define INPHASE_FLAG_CLOCK_STEP 256 /* the wall clock was set; the core does not use it */
#define INPHASE_FLAG_LIMITED 512    /* of any act below */
#define INPHASE_FLAG_REPEATED 1024  /* likewise */
#define INPHASE_FLAG_RAMPING 2048   /* likewise */
#define INPHASE_FLAG_ESTOP 4096     /* an emergency stop holds, or its input is pressed */
#define INPHASE_FLAG_STOPPED 8192   /* measured to be at rest, for `reason` of `reason_cycle` */
#define INPHASE_FLAG_UNPACED 16384  /* a device paces the cycle, and none of its packets belongs to
                                       this one: the grid is an estimate */

/* flags of an actuator's act */
#define INPHASE_ACT_WRITTEN 1       /* handed to the device, or to its worker */
#define INPHASE_ACT_LIMITED 2       /* applied differs from requested */
#define INPHASE_ACT_REPEATED 4
#define INPHASE_ACT_RAMPING 8
#define INPHASE_ACT_HOLDING 16      /* no command was ever accepted since arming */
#define INPHASE_ACT_INVALID 32      /* a command came and was refused: see reason */
#define INPHASE_ACT_MISSED 64       /* no command for this cycle */
#define INPHASE_ACT_STARVED 128     /* nothing is written: the device's watchdog trips */
#define INPHASE_ACT_COASTING 256    /* without a command it carries on, slower, to rest */
#define INPHASE_ACT_APPROACHING 512 /* on its way to commands of which the first was too far away */

/* phases, for the list of worst cycles */
#define INPHASE_PHASE_WAKE 0
#define INPHASE_PHASE_TRIGGER 1
#define INPHASE_PHASE_READ 2
#define INPHASE_PHASE_ACT 3

/* states of a robot: middleware/STATES.md has the transitions */
#define INPHASE_STATE_CONFIGURED 0  /* made; no cycle has begun */
#define INPHASE_STATE_OPENED 1      /* cycles run and frames are latched; nothing is written */
#define INPHASE_STATE_ARMED 2       /* held where it is; no command was accepted yet */
#define INPHASE_STATE_RUNNING 3     /* commands are followed */
#define INPHASE_STATE_RAMPING 4     /* at least one actuator is brought to rest, or held there */
#define INPHASE_STATE_FAULTED 5     /* latched, at rest; only inphase_core_arm leaves it */
#define INPHASE_STATE_STOPPED 6     /* over */
#define INPHASE_STATE_UNCONTROLLED 7 /* latched, and may not be at rest */
#define INPHASE_STATES 8

/* the source of an emergency stop that no configured input has caused */
#define INPHASE_ESTOP_INPUTS 16
#define INPHASE_ESTOP_LOCAL 16      /* inphase_core_estop: a key, the program that runs the robot */
#define INPHASE_ESTOP_CLIENT 17     /* a client's message, by the gateway */

/* ---- the frame record ------------------------------------------------------------------ */

/* A frame is one record of fixed size: this header, then a row per sensor, then an act per actuator
   with its values. It is written once, at the latch, and never changed. The command of a cycle is
   known only after the latch, so a frame carries the act before it, with its cycle. */
struct inphase_frame {
    int64_t cycle;
    int64_t due_ns;             /* start of the cycle on the grid */
    int64_t woke_ns;            /* when the cycle thread ran */
    int64_t triggered_ns;       /* first trigger fired, or ABSENT */
    int64_t latched_ns;
    int64_t skew_ns;            /* ABSENT with fewer than two fresh samples of known acquisition */
    int64_t acted_cycle;        /* the cycle that the acts below belong to, -1: nothing acted yet */
    int64_t acted_ns;           /* when the writes of that act were done, or ABSENT */
    int64_t inferred_ns;        /* when the policy posted that command, or ABSENT */
    int64_t inference_ns;       /* from the frame that the policy took to that post, or ABSENT */
    int64_t answered_cycle;     /* of that frame; -1: none. Without a command these three are of an
                                   answer that came too late since the act before, if one did */
    int64_t reason_cycle;       /* in which `reason` came, -1: there is none */
    uint32_t flags;             /* INPHASE_FLAG_* */
    uint32_t skipped;           /* grid points skipped just before this cycle */
    uint32_t reason;            /* why motion is latched or the core is stopping */
    uint32_t detail;
    uint32_t state;             /* INPHASE_STATE_* */
    uint32_t estop;             /* bit per emergency-stop input: pressed; + 16: unknown */
    uint32_t episode;           /* number of the newest one, from 1 on; 0: none was begun */
    uint32_t outcome;           /* INPHASE_EPISODE_*, of that one */
    uint32_t lease;             /* that could drive in that act, 0: none, or none is asked for */
    uint32_t drove;             /* INPHASE_DROVE_*, who gave the command that an actuator followed;
                                   where none did: nobody */
};

/* one sensor in a frame: status of this cycle, and which sample of its ring is named */
struct inphase_row {
    int64_t sequence;           /* number of the sample in its ring, -1: none yet */
    int64_t cycle;              /* whose trigger gave that sample; -1: not triggered, or none yet */
    int64_t triggered_ns;       /* of that sample, or ABSENT */
    int64_t acquired_ns;        /* of that sample, or ABSENT */
    int64_t received_ns;        /* of that sample: its last byte, as far as known */
    int64_t age_ns;             /* latched_ns - acquired_ns, never below 0; or ABSENT */
    int64_t uncertainty_ns;     /* of acquired_ns by a device's clock, 0: stated by a model */
    uint16_t status;
    uint16_t reason;
    uint32_t detail;
};

/* one actuator in a frame, followed by channels requested and channels applied doubles.
   Requested values are NaN where no command came. */
struct inphase_act {
    uint32_t flags;             /* INPHASE_ACT_* */
    uint32_t reason;
    uint32_t channels;
    uint32_t detail;
};

/* ---- the store ------------------------------------------------------------------------- */

/* where things lie in the core's segment; constant once the segment is published */
struct inphase_ring {
    uint64_t offset;            /* of slot 0 in the segment */
    uint64_t stride;            /* bytes from slot to slot; a slot: sequence word, payload */
    uint64_t payload;           /* bytes of a payload, which starts 64 bytes into its slot */
    uint64_t depth;             /* slots, a power of two */
};

struct inphase_layout {
    uint64_t magic;
    uint32_t version;
    uint32_t sensors;
    uint64_t size;              /* of the segment in bytes */
    uint64_t epoch;             /* differs for every runtime */
    uint64_t description_offset;
    uint64_t description_size;
    uint64_t state_offset;
    uint64_t statistics_offset;
    uint64_t statistics_size;
    struct inphase_ring frames;
    struct inphase_ring samples[64];
    uint64_t outside;           /* bit per sensor: its ring lies in its worker's segment */
    struct inphase_ring orders[16]; /* commands for the worker of an actuator; depth 0: none */
};

/* the core's own figures, for the supervisor's live line */
struct inphase_status {
    int64_t start_ns;           /* of cycle 0; where a device paces the cycle, of a grid through
                                   the newest cycle: it moves with the device's clock */
    int64_t cycle;              /* last latched */
    int64_t cycles;             /* run, without those of the final ramp */
    int64_t stopping_cycles;    /* of the final ramp */
    int64_t skipped;
    int64_t overruns;
    int64_t page_faults;        /* of the cycle thread since its start, as last noted */
    uint32_t state;             /* INPHASE_STATE_* */
    uint32_t reason;
    uint32_t detail;
    uint32_t latched;           /* INPHASE_REASON_* that holds motion, 0: none */
    uint32_t latched_detail;
    uint32_t refusal;           /* INPHASE_REASON_*: why arming waits or was refused, 0: neither */
    uint32_t refusal_detail;    /* actuator; of ESTOP the input */
    uint32_t estop;             /* as in a frame */
    uint32_t lost_devices;      /* times a device went away */
    int32_t thread_id;          /* kernel id of the cycle thread */
    int64_t reason_cycle;       /* in which the reason of the stop came, else that of the latch */
    int64_t epoch;              /* of commands: stops, latches and armings so far */
    uint32_t estops;            /* emergency stops so far: see inphase_core_arm_after */
    uint32_t paced;             /* 1: the grid lies on that of the device that paces it */
    int64_t unpaced;            /* cycles with INPHASE_FLAG_UNPACED, before the final ramp */
    int64_t missed_packets;     /* of them, those that waited for their packet */
    int64_t pace_drift_ppb;     /* seconds of that device per host second, less one; ABSENT: not
                                   known */
};

/* the real-time rights that were requested and granted; errno of each refusal, 0: granted */
struct inphase_realtime {
    int32_t priority;           /* asked, SCHED_FIFO */
    int32_t priority_errno;
    int32_t cpu;                /* asked, -1: none */
    int32_t cpu_errno;
    int32_t memory_errno;       /* locking of segments, stack and the core's pages */
    int32_t granted;            /* 1: everything that was requested is granted */
};

/* Disturbances of the cycle thread by its host, from /proc, since the supervisor first looked. A
   count was read at some time between began_ns and ended_ns. -1: the kernel does not tell. */
struct inphase_host_counts {
    int64_t began_ns;
    int64_t ended_ns;
    int64_t page_faults;
    int64_t preemptions;        /* times it lost its processor although it was ready to run */
    int64_t waited_ns;          /* that it was ready and had no processor; waits that have ended */
    int64_t stolen_ns;          /* taken by the hypervisor, of the processors it may run on */
};

/* A late moment of a cycle and whose fault it was, as the supervisor found it from outside of the
   cycle thread. middleware/LATENESS.md has the causes. -1: the kernel does not tell. */
#define INPHASE_CAUSES 5
#define INPHASE_LATE_KEPT 256       /* so many of the newest ones are kept */
struct inphase_late {
    int64_t cycle;
    int64_t due_ns;             /* when it was due, */
    int64_t until_ns;           /* and when it came, or was waited for no longer */
    int64_t phase;              /* number of LATE_PHASES of record_layout.py */
    int64_t sensor;             /* that was waited for, -1: none */
    int64_t cause;              /* number of CAUSES */
    int64_t why;                /* number of WHYS */
    int64_t process;            /* of the thief, 0: none is known */
    int64_t missing_bytes;      /* of a reply */
    int64_t held_ns;            /* that the sentinel was due and not awake */
    int64_t stolen_ns;          /* of the core, in steps of a tick, like the next one */
    int64_t interrupt_ns;       /* of interrupts and soft interrupts */
    int64_t ran_ns;             /* of the cycle thread, in the shortest stretch around */
    int64_t waited_ns;          /* that it was ready and had no core */
    int64_t page_faults;
    int64_t causes[INPHASE_CAUSES]; /* late moments so far, with this one, by cause */
    uint8_t thief[16];          /* name of the program that had the core, ended by a 0 if shorter */
};

/* How far a joint was commanded and measured to move, from end to end, over all its motion before
   the final ramp. In the unit of its positions; of velocities their sums over time. All 0: it has
   no feedback of its motion, or is in effort or switch mode. */
struct inphase_travel {
    double commanded;
    double measured;
    int64_t since_ns;           /* for how long, since it was commanded far enough to be judged */
};

struct inphase_worst {
    int64_t cycle;
    int64_t late_ns;
    int32_t phase;              /* INPHASE_PHASE_* */
    int32_t device;             /* -1: none */
};

/* distributions, in this order; then one trigger-to-sample distribution per sensor */
#define INPHASE_HIST_WAKE 0
#define INPHASE_HIST_TRIGGER 1
#define INPHASE_HIST_ACT 2
#define INPHASE_HIST_SKEW 3
#define INPHASE_HIST_LATCH_TO_COMMAND 4
#define INPHASE_HIST_SENSORS 5

struct inphase_quantiles {
    int64_t count, min, p50, p90, p99, p999, max;
};

/* counts that belong to the policy and the commands */
struct inphase_counts {
    int64_t commands;           /* valid for their cycle */
    int64_t missed;             /* cycles without a command that the policy owed */
    int64_t invalid;            /* commands refused */
    int64_t repeated;
    int64_t ramped;
    int64_t limited;
    int64_t written;            /* commands written to devices */
    int64_t busy;               /* writes left out because the bus was not quiet */
    int64_t late_samples;       /* replies that came after their cycle's latch */
    int64_t slips;              /* samples of another trigger than the one they came for */
    int64_t dropped_bytes;      /* bytes dropped while looking for a packet */
    int64_t duplicates;         /* replies whose number had come before */
    int64_t foreign_frames;     /* CAN frames that no exchange wants */
    int64_t error_passive;      /* CAN error frames: a controller turned error-passive */
    int64_t late_answers;       /* answers after the act of the first cycle that needed them */
    int64_t stale;              /* commands whose cycle had passed when their answer came */
    int64_t refused_answers;    /* answers without a command, or against a rule: see reasons */
    int64_t starved;            /* cycles after the end of a chunk (see missed) */
    int64_t dropped;            /* commands to frames of before a stop or an arming */
    int64_t passed;             /* free-running samples that a newer one replaced at once */
    int64_t unanswered;         /* cycles in a row without an accepted command, to the last act */
};

typedef struct inphase_segment inphase_segment;
typedef struct inphase_reader inphase_reader;
typedef struct inphase_core inphase_core;
typedef struct inphase_worker inphase_worker;

/* Make a segment: memory without a name, allocated in full, mapped and sealed. Other processes that
   get its descriptor cannot change its size. others_write 0: they cannot write to it either, and a
   lock tells that its writer lives. 1: another process may map it for writing, without a lock.
   -ENOMEM: the machine does not have that much memory. Thread: any. Ends with
   inphase_segment_close. */
int inphase_segment_make(inphase_segment **out, uint64_t size, int others_write);
/* As with others_write 0, for lock step: a page takes memory from when it is first touched. */
int inphase_segment_make_lazy(inphase_segment **out, uint64_t size);
/* Make it as new, for another core in lock step, once the core before is closed. Whoever still maps
   it sees that too. Thread: the core's. */
void inphase_segment_clear(inphase_segment *segment);
/* The descriptor to hand to others. It stays the segment's. It is read-only, unless others may
   write. -1: the segment was not made here. */
int inphase_segment_fd(const inphase_segment *segment);
/* Map a segment that was made elsewhere, by its descriptor, which stays the caller's. writes 1: as
   its writer. -EPROTO: it is not sealed. Its content is not checked here. Thread: any. */
int inphase_segment_map(inphase_segment **out, int fd, int writes);
void inphase_segment_close(inphase_segment *segment);
void *inphase_segment_memory(inphase_segment *segment);
uint64_t inphase_segment_size(inphase_segment *segment);
/* Publish: from now on readers may map it. Thread: the maker. */
void inphase_segment_publish(inphase_segment *segment);
/* Make a bell: a segment with one word. The core rings it, and one other process waits on it. */
int inphase_bell_make(inphase_segment **out);

/* ---- workers --------------------------------------------------------------------------- */

/* A driver's worker posts into a segment of its own, beside the core's. The runtime makes it, and
   only the worker writes it. A worker that replaces a dead one continues its numbers. */
#define INPHASE_WORKER_STARTING 0
#define INPHASE_WORKER_RUNNING 1
#define INPHASE_WORKER_OFFLINE 2    /* the device is gone; the worker tries to get it back */

/* a worker's figures about its device, for a person; counted since the segment was made */
struct inphase_worker_facts {
    int64_t state;              /* INPHASE_WORKER_* */
    int64_t pulses;             /* triggers fired */
    int64_t readings;           /* samples that the device gave, good or bad */
    int64_t slips;              /* readings that belonged to another pulse */
    int64_t flushed;            /* stale samples thrown away before a trigger */
    int64_t timeouts;           /* triggers without a sample in time */
    int64_t opens;              /* times the device was opened */
    int64_t orders;             /* commands written to the device */
    int64_t expired;            /* commands that were too old to be written */
    int64_t clock_exchanges;    /* with the device's clock, 0: it has none */
    int64_t clock_rejected;
    int64_t clock_resets;
    int64_t clock_drift_ppb;    /* device seconds per host second, less one */
    int64_t clock_uncertainty_ns;
};

/* the stamps of a sample; times of CLOCK_MONOTONIC or ABSENT */
struct inphase_posted {
    int64_t cycle;              /* whose trigger gave it, -1: free-running */
    int64_t triggered_ns;
    int64_t acquired_ns;
    int64_t received_ns;
    int64_t uncertainty_ns;
    int64_t device_sequence;    /* ABSENT: the device has none */
    uint32_t reason;            /* INPHASE_REASON_*, with which it is INVALID; 0: a good sample */
    uint32_t detail;
};

/* Make a worker's segment. From then on this process can only read it. Thread: the runtime's. */
int inphase_worker_make(inphase_segment **out, uint64_t payload, uint64_t depth, uint64_t epoch);

/* descriptors of a worker, which stay the caller's */
struct inphase_worker_fds {
    int32_t ring;               /* its segment */
    int32_t core;               /* the core's segment */
    int32_t wake;               /* an eventfd that the core waits on, -1: none. Keep it open as long
                                   as the worker; the other descriptors may be closed */
    int32_t bell;               /* the core rings it for an order, -1: the device takes none */
};

/* Open the segment of a sensor's worker for writing. Ends with inphase_worker_close. All functions
   of a worker: one thread. */
int inphase_worker_open(inphase_worker **out, const struct inphase_worker_fds *fds,
                        uint32_t sensor);
void inphase_worker_close(inphase_worker *worker);
void inphase_worker_state(inphase_worker *worker, uint32_t state);
/* The figures. The worker counts them itself; inphase_worker_state sets the state. */
struct inphase_worker_facts *inphase_worker_facts(inphase_worker *worker);
/* Publish the figures to readers. */
void inphase_worker_tell(inphase_worker *worker);
/* Start of cycle 0 as the core published it; 0: not yet. */
int64_t inphase_worker_start_ns(inphase_worker *worker);
/* 1: the core's run is over, or its process is gone; else 0. */
int inphase_worker_over(inphase_worker *worker);
/* 1 while an actuator's device is starved and reads would feed its watchdog: its worker then
   neither triggers nor reads it. */
int inphase_worker_starved(inphase_worker *worker, uint32_t actuator);
/* The memory of the next sample, to be filled in. Readers do not see it until it is posted. */
void *inphase_worker_claim(inphase_worker *worker);
/* Post that sample, and wake the core. Returns the sample's number. */
int64_t inphase_worker_post(inphase_worker *worker, const struct inphase_posted *posted);
/* Wait until time_ns (CLOCK_MONOTONIC), or until there is a new command for this actuator's worker.
   Without a bell: until the time. 1: `values` has a valid command. 2: `values` stops a device that
   was away. 0: time_ns has come. -EAGAIN: the command is too late and must not be written.
   -EINTR. */
int inphase_worker_wait(inphase_worker *worker, int64_t time_ns, uint32_t actuator, double *values,
                        int64_t *cycle);

/* ---- device clocks --------------------------------------------------------------------- */

/* Maps the stamps of a device's own clock, of any origin and rate, to the host's clock. It learns
   from *readings*: a stamp, and the two host times between which the device took it. For a
   triggered device these are the trigger's time and the reply's last byte.

   A device with known arrivals only is *heard*. Its arrivals are upper bounds, and the earliest of
   many are the best. A stamp is mapped to the line below the arrivals, less the latency that the
   driver states. The error covers all latencies from the least to the worst. A careful worst case
   makes the error larger and moves no stamp. An arrival later than the worst case is mapped, and
   teaches nothing. If stamps have a coarse resolution, the caller widens the bounds by it.

   A mapped time is within its error of the truth on two conditions. At most two of 8 or three of 16
   kept readings have wrong stamps or bounds. The clocks' ratio wanders no more than is assumed
   below. A jump that is shorter than the narrowest bounds are wide looks like an uneven delay.

   Threads: any, also the cycle thread, one at a time. No allocation, no call that can wait, no
   mathematics but + - * / on doubles: the same readings give the same bytes on every machine. */
#define INPHASE_CLOCK_READINGS 16    /* kept: each the narrowest of its span of time */
#define INPHASE_CLOCK_ENOUGH 8       /* readings that are needed for a mapping */
#define INPHASE_CLOCK_HORIZON_NS 16000000000 /* over which the kept ones are spread */
#define INPHASE_CLOCK_WANDER_PPB 100 /* assumed change of the rate per second, at most... */
#define INPHASE_CLOCK_RANGE_PPB 500000 /* ...and in all, from what was last measured */
/* largest drift of a device that is only heard; a larger one looks like a backlog, and is not
   mapped */
#define INPHASE_CLOCK_HEARD_PPB 50000000

#define INPHASE_CLOCK_REJECTED 0     /* contradicts the mapping, or does not advance */
#define INPHASE_CLOCK_TAKEN 1
#define INPHASE_CLOCK_RESTARTED 2    /* the mapping ended: the device's clock was reset or jumped */

/* host time of device_ns lies in earliest_ns..latest_ns */
struct inphase_clock_reading {
    int64_t device_ns;
    int64_t earliest_ns;
    int64_t latest_ns;
};

/* owned by its caller, who may copy it; read it only through the functions below */
struct inphase_device_clock {
    struct inphase_clock_reading reading[16]; /* INPHASE_CLOCK_READINGS, oldest first */
    struct inphase_clock_reading contrary; /* the last one that the mapping excludes */
    uint32_t count;             /* of readings */
    uint32_t known;             /* there is a mapping */
    uint32_t contrary_in_a_row;
    uint32_t contrary_agreeing; /* of those, the last ones that agree with each other */
    struct inphase_clock_reading late; /* heard after the worst case: the first of those that agree
                                          with each other */
    uint32_t late_in_a_row;     /* of those, up to 4 */
    uint32_t heard;             /* its readings are arrivals alone */
    int64_t last_ns;            /* the newest stamp that was not rejected */
    double stated_ns;           /* of a heard reading: its stated latency beyond the least */
    int64_t beyond_ns;          /* ...and its worst one beyond the stated */
    int64_t span_ns;            /* of time that one kept reading stands for */
    int64_t span_from_ns;       /* start of the newest span, host time */
    int64_t device_ns;          /* the mapping: this device time... */
    int64_t host_ns;            /* ...was at this host time... */
    double error_ns;            /* ...give or take... */
    double above_ns;            /* ...and so much later at most */
    double rate;                /* host per device time */
    double rate_error;
    int64_t taken;
    int64_t rejected;
    int64_t resets;
};

struct inphase_clock_facts {
    int64_t drift_ppb;          /* how much faster the device's clock runs; ABSENT: no mapping */
    int64_t drift_error_ppb;    /* ABSENT likewise */
    int64_t error_ns;           /* of a stamp taken at the last fit; ABSENT likewise */
    int64_t taken;              /* readings */
    int64_t rejected;
    int64_t resets;             /* mappings that ended */
};

/* Start with nothing known. */
void inphase_device_clock_init(struct inphase_device_clock *clock);
/* Learn from one reading. INPHASE_CLOCK_*, or -EINVAL: latest_ns is before earliest_ns. Bounded: a
   few comparisons, and once per span of time (a second, and less at the start) a fit over the kept
   readings: at most two fits of 17 * 16 * 32 comparisons. Measured on one idle core of a virtual
   x86-64 machine: 30 ns with a map, 7 us with a fit. */
int inphase_device_clock_add(struct inphase_device_clock *clock, int64_t device_ns,
                             int64_t earliest_ns, int64_t latest_ns);
/* The same for a device that is only heard, whose stamp is in nanoseconds. The latency from stamp
   to arrival is least_ns to most_ns, and stated_ns as a rule; one outside of the two is brought
   within. A later arrival is TAKEN, unless those that agree go on for a second: then RESTARTED. A
   clock takes one of the two kinds of readings only. -EINVAL: most_ns is before least_ns, that is
   negative, or the times overflow. Cost: that of add, and 120 * 16 steps more in each fit: 60 ns,
   16 us. */
int inphase_device_clock_hear(struct inphase_device_clock *clock, int64_t device_ns,
                              int64_t arrival_ns, int64_t least_ns, int64_t stated_ns,
                              int64_t most_ns);
/* The host time of a device stamp, and its largest error. Add a stamp's own reading first, then map
   it. -EAGAIN: unknown, because there are too few readings or the last one contradicts the mapping.
   Then the acquisition is absent. -ERANGE: too far away. */
int inphase_device_clock_map(const struct inphase_device_clock *clock, int64_t device_ns,
                             int64_t *host_ns, int64_t *error_ns);
/* The same for the stamp of a reading that was added before, within the bounds of that reading:
   never before its trigger or after its receipt. For a heard reading earliest_ns is its arrival
   minus most_ns, and limits only the error. -ERANGE also if mapping and bounds contradict each
   other. */
int inphase_device_clock_locate(const struct inphase_device_clock *clock, int64_t device_ns,
                                int64_t earliest_ns, int64_t latest_ns, int64_t *host_ns,
                                int64_t *error_ns);
void inphase_device_clock_facts(const struct inphase_device_clock *clock,
                                struct inphase_clock_facts *out);
/* The value of a counter that wraps at 2^bits (1 to 64) and never goes back: the first value from
   `previous` on (the value of the read before) that ends in raw. Reads must be less than one wrap
   apart. */
int64_t inphase_unwrap(int64_t previous, uint64_t raw, uint32_t bits);

/* ---- readers ---------------------------------------------------------------------------- */

/* Follow the frames of a core's segment. fds: of that segment, then of the workers' segments in the
   order of their sensors; they stay the caller's. Ends with inphase_reader_close. The first frame
   that it returns is the next one. With from_first it is the oldest in the ring. The layout is
   copied and checked once. A writer that changes its memory later changes values, and nothing else.
   Thread: one at a time. */
int inphase_reader_open(inphase_reader **out, const int *fds, uint32_t count, int from_first);
/* Wait for frames on a bell that the core rings, as a policy does. The cycle thread itself wakes
   it; a thread of the runtime then wakes all other readers. The bell stays the caller's, and open
   as long as the reader. It wakes one process alone: NULL leaves it to another one. -EPROTO: it is
   no bell. */
int inphase_reader_bell(inphase_reader *reader, const inphase_segment *bell);
void inphase_reader_close(inphase_reader *reader);
const struct inphase_layout *inphase_reader_layout(inphase_reader *reader);
/* Wait for the next frame and copy its record to where inphase_reader_record points. newest 1: take
   the newest frame, and leave out those between. Returns the number of frames before it that were
   overwritten or left out, or -ETIMEDOUT, -EINTR, -EPIPE (the writer is gone, and no frame is
   left; also told where there is no time to wait). */
int64_t inphase_reader_next(inphase_reader *reader, int newest, int64_t timeout_ns);
/* Likewise for a policy: wait for the newest frame that was not returned yet and whose cycle
   `every` divides. */
int64_t inphase_reader_due(inphase_reader *reader, int64_t every, int64_t timeout_ns);
const void *inphase_reader_record(inphase_reader *reader);
/* The number of the frame that inphase_reader_next returned last. Before its first frame: the
   number before that one, -1: none. Frames are numbered from 0 without gaps. */
int64_t inphase_reader_number(inphase_reader *reader);
/* Copy the record of an earlier frame by its number, and check it after the copy. The frame that
   was returned last stays. 0, -ESTALE: overwritten or not there yet, -EINVAL. */
int inphase_reader_past(inphase_reader *reader, int64_t number, void *to);
/* 1: sample number `sequence` of a sensor is still whole in its ring. Everything read from its slot
   before this call is then valid. 0: it is overwritten. */
int inphase_reader_intact(inphase_reader *reader, uint32_t sensor, int64_t sequence);
/* 1: the same holds for every sample that a frame's record names. record: as
   inphase_reader_record gives it, or a copy. */
int inphase_reader_whole(inphase_reader *reader, const uint8_t *record);
/* Copy a sample's payload and check it after the copy. 0, or -ESTALE. */
int inphase_reader_copy(inphase_reader *reader, uint32_t sensor, int64_t sequence, void *to);
/* The present quantiles of a distribution; INPHASE_HIST_SENSORS + i: of sensor i. -EINVAL: there is
   no such distribution. */
int inphase_reader_quantiles(inphase_reader *reader, uint32_t histogram,
                             struct inphase_quantiles *out);
int inphase_reader_status(inphase_reader *reader, struct inphase_status *out);
int inphase_reader_realtime(inphase_reader *reader, struct inphase_realtime *out);
int inphase_reader_counts(inphase_reader *reader, struct inphase_counts *out);
/* The newest counts of inphase_core_host. -ENODATA: there are none; -EAGAIN: they are just being
   written. */
int inphase_reader_host(inphase_reader *reader, struct inphase_host_counts *out);
/* The late moment of that number, from 0 on. -ENODATA: there is none yet; -ESTALE: it is no longer
   kept. */
int inphase_reader_late(inphase_reader *reader, uint64_t number, struct inphase_late *out);
/* How many late moments there were so far. */
uint64_t inphase_reader_lates(inphase_reader *reader);
/* counts[sensor * INPHASE_STATUSES + status]; returns the number of sensors */
int inphase_reader_statuses(inphase_reader *reader, int64_t *counts);
/* The figures of a sensor's worker. -ENOENT: the sensor has no worker. */
int inphase_reader_worker(inphase_reader *reader, uint32_t sensor,
                          struct inphase_worker_facts *out);
/* The clock of a device whose exchange the core runs. -ENOENT: nothing is known of it. */
int inphase_reader_clock(inphase_reader *reader, uint32_t sensor, struct inphase_clock_facts *out);
/* reasons beside commands that were missed or refused: counts[INPHASE_REASONS] */
int inphase_reader_reasons(inphase_reader *reader, int64_t *counts);
/* of the first channels of an actuator, at most INPHASE_MAX_CHANNELS; 0, or -ENOENT */
int inphase_reader_travel(inphase_reader *reader, uint32_t actuator, uint32_t channels,
                          struct inphase_travel *out);
/* the worst cycles, worst first; returns their number */
int inphase_reader_worst(inphase_reader *reader, struct inphase_worst *out);

/* ---- the policy's mailbox ---------------------------------------------------------------- */

/* The command mailbox of one policy: a segment of its own. The runtime makes it, and can only read
   it from then on. values: doubles of an answer, in SI: those of a command, times the commands of a
   chunk, one command after the other. The policy's process maps it as its writer, and posts the
   answer to the frame of a cycle. Reason 0: commands. Any other INPHASE_REASON_*: why there is no
   command; count is then 0. valid_until_ns: commands are dropped after that time. A post never
   waits and wakes nobody. */
int inphase_mailbox_make(inphase_segment **out, uint32_t values, uint64_t epoch);
/* Bytes of that segment. */
uint64_t inphase_mailbox_size(uint32_t values);
int inphase_mailbox_post(inphase_segment *segment, int64_t cycle, int64_t valid_until_ns,
                         uint32_t reason, const double *values, uint32_t count);
/* The answers posted here from now on are given under that lease (0: none) by that INPHASE_DROVE_*;
   before the first call under none, by the policy. This process alone. -EINVAL */
int inphase_mailbox_sign(inphase_segment *segment, uint32_t lease, uint32_t drove);
/* Note that a frame was taken. The time until the next command is posted counts as an inference. */
void inphase_mailbox_taken(inphase_segment *segment);

/* what stays the same from one turn of a policy to the next; the caller fills it */
struct inphase_turn {
    inphase_reader *reader;     /* whose frames are answered */
    inphase_segment *mailbox;   /* mapped as its writer */
    const double *values;       /* of the answer */
    uint64_t count;
    int64_t every;              /* a frame is due whose cycle it divides */
    int64_t valid_ns;           /* from a frame's due time on, for the answer to it */
};

#define INPHASE_REASON_UNASKED -1 /* nothing is posted */

/* From one frame to the next in one call. Post the answer to the reader's frame: the values where
   reason is 0, else the INPHASE_REASON_* why there are none. Then wait as inphase_reader_due does,
   return what it returns, and note a frame that came as taken. Thread: the policy's. */
int64_t inphase_mailbox_turn(const struct inphase_turn *turn, int32_t reason, int64_t timeout_ns);
/* The distribution of inference times. 0, or -EPROTO: not a mailbox. Any process that maps it. */
int inphase_mailbox_inference(const inphase_segment *segment, struct inphase_quantiles *out);
/* How long ago the frame was taken that is being answered, 0: none. Any process that maps it. */
int64_t inphase_mailbox_busy_ns(const inphase_segment *segment);

/* counts of a policy that a server answers, which its process keeps */
#define INPHASE_SERVER_CONNECTED 0  /* connections made */
#define INPHASE_SERVER_UNREACHED 1  /* attempts that made none */
#define INPHASE_SERVER_LOST 2       /* connections that the server or the network ended */
#define INPHASE_SERVER_STALLED 3    /* requests without an answer in time */
#define INPHASE_SERVER_ERRORS 4     /* answers that are the text of an error */
#define INPHASE_SERVER_MALFORMED 5  /* answers that are none, or of another dtype or shape */
#define INPHASE_SERVER_ANSWERS 6    /* answers that were posted */
#define INPHASE_SERVER_COUNTS 7

/* One more of an INPHASE_SERVER_*: 0, -EPROTO: not a mailbox, or -EINVAL. Thread: the policy's. */
int inphase_mailbox_count(inphase_segment *segment, uint32_t what);
/* The counts: counts[INPHASE_SERVER_COUNTS]. 0, or -EPROTO. Any process that maps it. */
int inphase_mailbox_counted(const inphase_segment *segment, int64_t *counts);

/* ---- what a policy's process may do ------------------------------------------------------ */

#define INPHASE_ALLOW_NETWORK 1     /* sockets */
#define INPHASE_ALLOW_GPU 2         /* the devices of accelerators */
#define INPHASE_ALLOW_DEVICES 4     /* all devices */
#define INPHASE_ALLOW_FILES 8       /* writing to files, not to the store */
#define INPHASE_ALLOW_PROCESSES 16  /* starting programs */

/* the rights that were requested, and those that the kernel gave */
struct inphase_sandbox {
    uint32_t allow;             /* in: INPHASE_ALLOW_* */
    int32_t priority;           /* in: the highest SCHED_FIFO priority that RLIMIT_RTPRIO may let it
                                   take; 0: none */
    int32_t entered;            /* out from here on */
    int32_t seccomp_errno;      /* 0: system calls are restricted */
    int32_t landlock_abi;       /* files and devices are restricted by this version of Landlock */
    int32_t landlock_errno;     /* where landlock_abi is 0 */
    int32_t users_errno;        /* where landlock_abi is 0: no user namespace keeps it from the
                                   memory and the descriptors of this user's other processes */
    int32_t capabilities_errno;
    int32_t others;             /* threads that were there: Landlock and capabilities leave them
                                   out */
};

/* Put this process into a sandbox, for good. It keeps only the rights in sandbox->allow. It gives
   up sockets, devices, writing to files, programs, other processes, and all capabilities but those
   of opening files. scratch: a folder in which it may write, NULL: none. *sandbox tells what the
   kernel does not grant. Call it before threads are started. */
void inphase_sandbox_enter(struct inphase_sandbox *sandbox, const char *scratch);
/* Give up all system calls except those that inphase_model_serve and ending need. Call it after
   inphase_sandbox_enter; it holds for every thread. 0 or a negative errno. */
int inphase_sandbox_narrow(void);
/* Write the result into the mailbox, and read it there. 0 or -EPROTO: not a mailbox. */
int inphase_mailbox_say(inphase_segment *segment, const struct inphase_sandbox *sandbox);
int inphase_mailbox_said(const inphase_segment *segment, struct inphase_sandbox *out);

/* ---- policies that are models ------------------------------------------------------------ */

/* A policy that is an ONNX model. ONNX Runtime's library runs it on the calling thread, never on
   the cycle thread. The caller has checked the file and the binding of its tensors. */
#define INPHASE_MODEL_TENSORS 16    /* inputs, and outputs */
#define INPHASE_MODEL_PARTS 64      /* of one tensor */
#define INPHASE_MODEL_RANK 8
#define INPHASE_MODEL_THREADS 64
#define INPHASE_MODEL_NUMBERS 67108864 /* in one tensor */

/* type of a tensor's numbers, as ONNX counts them */
#define INPHASE_TENSOR_F32 1
#define INPHASE_TENSOR_U8 2
#define INPHASE_TENSOR_F64 11

/* numbers of a tensor that belong together, one part after the other */
struct inphase_model_part {
    uint32_t sensor;            /* of an input: whose sample; its float64, or uint8, numbers */
    uint32_t count;
    uint64_t offset;            /* of an input: bytes in the sample; of an output: the first value
                                   of the command */
};
#define INPHASE_MODEL_FRAME 0xffffffff /* instead of a sensor: float64 numbers of the frame's
                                          record, at this offset in it; none of them may be NaN */

struct inphase_model_tensor {
    const char *name;           /* in the model */
    uint32_t type;
    uint32_t rank;
    int64_t shape[8];           /* INPHASE_MODEL_RANK */
    uint32_t parts;             /* of a state 0: see states below */
    const struct inphase_model_part *part;
    const double *mean, *std;   /* per number: (x - mean) / std goes in, y * std + mean comes out;
                                   both NULL: as it is. Not used for uint8 and images */
    uint32_t channels;          /* of an image, whose part is uint8: numbers per pixel; 0: none */
    uint32_t planar;            /* 1: one channel of the image after the other */
    const double *pixels;       /* per channel: the number that goes in for each of 256 values;
                                   NULL, and the type is uint8: the value itself */
};

struct inphase_model_config {
    const char *runtime;        /* path of libonnxruntime.so; NULL: no session is made, and only
                                   take and give are of use */
    const void *bytes;          /* the model's file; stays the caller's, until it is closed */
    uint64_t size;
    uint32_t inputs, outputs;
    uint32_t sensors;           /* of the frame that are looked at: the first so many */
    uint32_t values;            /* in a command */
    uint32_t threads;           /* of one run, the caller's among them: 1 to
                                   INPHASE_MODEL_THREADS */
    uint32_t chunk;             /* commands that a run gives: outputs have the parts of each, one
                                   command after the other; 0: 1 */
    uint32_t history;           /* frames that go in: inputs have the parts of each, oldest first;
                                   of cycles that `every` divides; 0: 1 */
    uint32_t repeats;           /* 1: while there are fewer, the first one stands for those before
                                   it */
    int64_t every;              /* 0: 1 */
    uint32_t states;            /* the last so many inputs, and outputs, are states: an input is the
                                   output of the run before, in the same order. It is zeros at
                                   first, after a stop or an arming, and when cycles begin anew */
    const uint8_t *accepts;     /* per sensor: bit per status on which the model is run */
    const struct inphase_model_tensor *input, *output;
};

typedef struct inphase_model inphase_model;
/* Open the library, make a session and tensors over its own buffers, and run it a few times on
   zeros. From then on nothing is allocated here. Everything else in config is copied. message: the
   error, for a person. -ENOENT: no such library; -ENOTSUP: another version; -EPROTO: it refuses the
   model; -EINVAL: a bound above is broken; -ENOMEM. Thread: any. */
int inphase_model_open(inphase_model **out, const struct inphase_model_config *config,
                       char *message, uint32_t room);
void inphase_model_close(inphase_model *model);
/* Give the model the reader of its history, before the first call or answer: a reader of its own,
   or one of the same thread. It stays the caller's. inphase_model_call does not need it without a
   history or a state, which learns of stops by it. -EINVAL: the parts do not lie in that reader's
   frames; -ENOMEM. */
int inphase_model_follow(inphase_model *model, inphase_reader *reader);
/* `call` of struct inphase_native_policy; model: the inphase_model. Thread: one at a time. */
uint32_t inphase_model_call(void *model, const void *record, const void *const *samples,
                            double *command);
/* The same for a frame's record from the reader that the model follows. 0, and a double per value
   of each command; else INPHASE_REASON_*: why there is no command. Thread: the reader's. */
uint32_t inphase_model_answer(inphase_model *model, inphase_reader *reader, const void *record,
                              double *command);
/* The two halves of the same, for another runtime than ONNX Runtime's library. take: from the frame
   into the numbers of the inputs; 0, or the reason why not. give: from the numbers of the outputs
   into a command, once per take. Thread: the reader's. */
uint32_t inphase_model_take(inphase_model *model, inphase_reader *reader, const void *record);
void inphase_model_give(inphase_model *model, double *command);
/* The numbers of an input or output, in its shape and type; NULL: it does not exist. They stay in
   place until the model is closed. */
void *inphase_model_numbers(inphase_model *model, int output, uint32_t index);
/* The policy's loop. It takes the newest frame whose cycle `every` divides, and posts the answer,
   which is valid for max_hold_ns from the frame's due time. It returns when the runtime is gone or
   SIGTERM came. It unblocks and handles SIGTERM meanwhile; block it before the call, so that none
   is lost. One at a time in a process. 0 or a negative errno. */
int inphase_model_serve(inphase_model *model, inphase_reader *reader, inphase_segment *mailbox,
                        int64_t every, int64_t max_hold_ns);
/* The two halves of that loop, for another runtime. wait: wait for the next due frame, and take it.
   0; or INPHASE_REASON_*: why there is nothing to compute; or a negative errno (-ETIMEDOUT, -EINTR;
   -EPIPE: the runtime is gone). post: give, and post the answer to that frame, or the reason why
   there is none. Call inphase_model_follow first. Thread: the reader's. */
int inphase_model_wait(inphase_model *model, inphase_reader *reader, inphase_segment *mailbox,
                       int64_t every, int64_t timeout_ns);
int inphase_model_post(inphase_model *model, inphase_reader *reader, inphase_segment *mailbox,
                       int64_t valid_ns, uint32_t reason);

/* ---- frames on the wire ---------------------------------------------------------------- */

/* The shape of the frames, which both ends of a connection know from the description. The caller
   fills it. */
struct inphase_wire {
    uint64_t epoch;
    uint8_t hash[16];           /* of the schedule: hexadecimal digits */
    uint32_t sensors;
    uint32_t actuators;
    uint32_t channels[16];      /* per actuator */
    uint8_t large[64];          /* per sensor, 1: its sample has a part of its own, sent once */
};

/* the place of a sample in a message */
#define INPHASE_WIRE_NOWHERE 0
#define INPHASE_WIRE_HERE 1
#define INPHASE_WIRE_BEFORE 2   /* large: an earlier message brought the one of this sequence */

/* Bytes of a header that inphase_wire_pack writes, and of a frame record; -EINVAL: a bound above is
   broken. Any thread. */
int32_t inphase_wire_size(const struct inphase_wire *wire);
int32_t inphase_wire_record_size(const struct inphase_wire *wire);
/* Write the MessagePack header of a frame record (middleware/inphase/WIRE.md). where: per sensor,
   INPHASE_WIRE_*. Returns the header's bytes, or -EMSGSIZE. Any thread. */
int32_t inphase_wire_pack(const struct inphase_wire *wire, const void *record, int64_t number,
                          int64_t sent_ns, const uint8_t *where, uint8_t *header, uint32_t room);
/* The reader's present frame as a message. Each sample is copied to samples[sensor] and checked
   after the copy; where[sensor] tells the result. A small sample that is missing is zeros. A large
   one whose sequence is sent[sensor] (-1: none) is not copied, nor one whose samples[sensor] is
   NULL: that is not sent. Returns as inphase_wire_pack.
   Thread: the reader's. */
int32_t inphase_wire_frame(const struct inphase_wire *wire, inphase_reader *reader, int64_t number,
                           uint8_t *const *samples, const int64_t *sent, uint8_t *where,
                           uint8_t *header, uint32_t room);
/* Read a header into a frame record, the frame's number, and `where` per sensor. 0, -ESTALE (of
   another run), -EPROTO (not a header of such frames; the output is then invalid). Any thread. */
int inphase_wire_unpack(const struct inphase_wire *wire, const uint8_t *header, uint32_t size,
                        void *record, int64_t *number, uint8_t *where);

/* ---- packets --------------------------------------------------------------------------- */

/* raw types in a packet */
#define INPHASE_U8 1
#define INPHASE_I8 2
#define INPHASE_U16 3
#define INPHASE_I16 4
#define INPHASE_U32 5
#define INPHASE_I32 6
#define INPHASE_F32 7
#define INPHASE_F64 8
#define INPHASE_U64 9
#define INPHASE_SM16 10 /* 16 bits: a magnitude, and its sign in bit 15 */
#define INPHASE_SM11 11 /* 16 bits: a magnitude of 10 bits, and its sign in bit 10 */
/* packed: a part of a word, whose other bits are other values'. A command leaves those alone */
#define INPHASE_U12_HIGH 12 /* 16 bits: the upper 12 */
#define INPHASE_U12_LOW 13 /* 16 bits: the lower 12 */
#define INPHASE_U4_HIGH 14 /* 8 bits: the upper 4 */
#define INPHASE_U2_HIGH 15 /* 8 bits: the upper 2 */

/* one raw value in a packet and the channel it becomes: value = raw * scale + zero, in SI */
struct inphase_field {
    uint32_t offset;
    uint16_t type;
    uint16_t big_endian;
    uint32_t channel;
    double scale;
    double zero;
};

/* a check that a packet has to pass */
#define INPHASE_CHECK_MATCH 1       /* (value & mask) == expect, else REASON_MISMATCH */
#define INPHASE_CHECK_ZERO 2        /* (value & mask) == 0, else REASON_DEVICE with the value */
#define INPHASE_CHECK_AMONG 5       /* bit `value` of mask is 1, else REASON_DEVICE with it */
#define INPHASE_CHECK_SUM 3         /* the checksum of the bytes from `from` to offset is at offset,
                                       in the packet as received, before unstuffing */
#define INPHASE_CHECK_SUM_END 4     /* the same, offset counts from the packet's end; 0: the packet
                                       ends with it */
struct inphase_check {
    uint16_t kind;
    uint16_t type;
    uint32_t big_endian;
    uint32_t offset;
    uint32_t mask;
    uint32_t expect;
    uint32_t number;            /* ZERO: 1 + the offset of a byte that is told instead of the value,
                                   where the packet has it; 0: there is none */
    uint32_t from;              /* SUM: the first byte that the checksum covers */
    uint32_t checksum;          /* SUM: which one of the exchange's */
};

/* a checksum */
#define INPHASE_CHECKSUM_CRC 1
#define INPHASE_CHECKSUM_SUM 2      /* of all bytes */
#define INPHASE_CHECKSUM_XOR 3      /* width 8 */
struct inphase_checksum {
    uint32_t kind;              /* INPHASE_CHECKSUM_* */
    uint32_t width;             /* bits, 1..64; it takes whole bytes in a packet */
    uint64_t polynomial;        /* of a CRC, without its top bit */
    uint64_t initial;
    uint64_t final;             /* exclusive or with the result */
    uint32_t reflected_in;      /* of a CRC: low bit first, in each byte... */
    uint32_t reflected_out;     /* ...and in the result */
    uint32_t negated;           /* of a sum: all bytes and it add up to 0, before `final` */
};
/* The checksum of some bytes. 0, or -EINVAL for a kind or width that is none. Any thread. */
int inphase_checksum(const struct inphase_checksum *spec, const uint8_t *bytes, uint32_t size,
                     uint64_t *value);

#define INPHASE_MAX_SIZES 16

/* the framing of packets in a stream, and their escape rule, if they have one */
struct inphase_framing {
    uint32_t datagram;          /* 1: one read gives one packet; start and length are not used */
    uint32_t can;               /* 1: a datagram is a struct can_frame or canfd_frame: see below */
    uint32_t start_size;        /* start bytes, 1..4 in a stream */
    uint8_t start[4];
    uint32_t length_offset;     /* of the length field; packet size = field + length_add */
    uint32_t length_size;       /* 1 or 2 bytes; 0: by `sizes`, or every packet has min_size */
    uint32_t big_endian;
    int32_t length_add;
    uint32_t min_size;          /* smallest and largest packet as received */
    uint32_t max_size;
    uint32_t sizes;             /* so many values of the byte at size_offset say a packet's size; a
                                   packet with another value is none */
    uint32_t size_offset;
    uint8_t size_value[INPHASE_MAX_SIZES];
    uint16_t size_of[INPHASE_MAX_SIZES];
    uint32_t escape_size;       /* 0: no escape rule; 1..4: after this pattern ... */
    uint8_t escape[4];
    uint32_t escape_insert;     /* ... this byte was inserted by the sender */
    uint32_t escape_from;       /* the rule holds from this offset on ... */
    uint32_t escape_tail;       /* ... up to this many bytes before the end */
    int64_t idle_ns;            /* 0, or a silence of this length ends a packet, and nothing else
                                   does: see below */
};

/* Packets that silence ends, as in Modbus RTU. They have no start bytes, no length and no sizes;
   all bytes since the last silence are one packet, of min_size to max_size. idle_ns is at most a
   second. Each reply has a checksum or a size: a packet that a pause cuts in two is then refused,
   part by part. Two packets without a seen silence between them are one, which is refused too.
   The cycle thread ends a packet once the line was empty idle_ns after the read that gave its last
   byte. That read is its receipt: never earlier than the byte, later by what it took to wake. No
   free-running sensor has such packets: the silence between two of them is over when it looks. */

/* one reply: its checks and its fields, at offsets of the unstuffed packet */
struct inphase_reply {
    uint32_t size;              /* of the unstuffed packet, 0: any */
    uint32_t first_check, checks;
    uint32_t first_field, fields;
};

#define INPHASE_ACQUIRE_ABSENT 0    /* the acquisition is unknown */
#define INPHASE_ACQUIRE_TRIGGER 1   /* triggered_ns + acquire_ns */
#define INPHASE_ACQUIRE_MIDDLE 2    /* middle of trigger and reply, + acquire_ns */

/* CAN. A packet is one frame as linux/can.h has it: id with its EFF and RTR flags in bytes 0..3 (of
   the machine's own byte order), length in byte 4, data from byte 8 on. Request and replies are
   such frames, min_size is 16, max_size 16 or, with CAN FD, 72. The replies may come in any order:
   a frame belongs to the first reply not yet complete whose MATCH checks on the id (offset 0, U32;
   at least one per reply) hold with all flags; the other checks are made after that. A frame that
   no reply wants is other traffic: counted, and nothing else. A second frame of a complete reply
   means that one of the two belongs to another trigger: the sample is RECOVERING and a slip is
   counted. A free-running sensor in CAN frames has one reply: frames that come by themselves make
   no set. Data shorter than a field needs is REASON_SIZE, with 8 + the data's length. A bus-off or
   transmit-timeout error frame loses the device; it is restarted by whoever opens it again, never
   by the core. A request of several frames has their size as its request_chunk. */

/* Answers. Some devices confirm each command, on the line that brings their replies. `answers` says
   how: a command that the core wrote is owed one packet for each of them. An owed packet that
   passes all checks of its answer (in CAN frames: those of the id) is dropped and counted, and is
   part of no reply. Replies may look the same: what is there before a trigger is taken in first,
   and a line that was written to before brings its answers before its replies. An answer that
   never comes costs the next reply that looks like it: that sample is missing. Packets with an
   escape rule have no answers. */

/* a request and its replies, run by the core alone */
struct inphase_exchange {
    const uint8_t *request;
    uint32_t request_size;
    uint32_t request_chunk;     /* bytes of one datagram, when a request is several; 0: it is one
                                   write */
    uint32_t replies;
    uint32_t answers;           /* so many more stand behind the replies, in the same array; their
                                   fields are not taken */
    struct inphase_framing framing;
    const struct inphase_reply *reply;
    const struct inphase_check *check;
    const struct inphase_field *field;
    uint32_t checks, fields;    /* in those arrays */
    const struct inphase_checksum *checksum;
    uint32_t checksums;
    uint32_t sequence_offset;   /* in the last reply */
    uint16_t sequence_type;     /* of a whole number; 0: the device has none */
    uint16_t sequence_big_endian;
    uint32_t clock_offset;      /* of the device's time in the last reply */
    uint16_t clock_type;        /* unsigned, or F64: seconds, which are taken as nanoseconds, with
                                   a tick of 1; 0: it gives none, and the model below is all */
    uint16_t clock_big_endian;
    uint32_t clock_bits;        /* at which it wraps, 0: never */
    double clock_tick_ns;       /* nanoseconds of one of its ticks, at most 1e9 */
    int64_t clock_shift_ns;     /* from its stamp to the middle of the acquisition */
    uint32_t acquire;           /* INPHASE_ACQUIRE_* */
    int64_t acquire_ns;
    int64_t reply_max_ns;       /* worst case from trigger to the last byte: how long the bus must
                                   stay quiet when a reply is missed */
    int64_t reply_ns;           /* from trigger to the last byte, as the driver states it; 0: only
                                   the worst case is stated */
    int64_t reply_min_ns;       /* the least time from trigger to the last byte: a sooner reply
                                   answers an earlier trigger, and is a slip. 0: unknown */
};

/* A device that streams, and wants a command for each of its packets. A command has the number of
   the packet that it answers (inphase_exchange, sequence). Without a new packet nothing is written:
   the device carries its last motion on by itself, and tells where that is. Commands go on from
   there, where it differs from the last command by more than a float does */
struct inphase_reference {
    uint32_t type;              /* INPHASE_U32 or U64: of the number in the command; 0: none */
    uint32_t offset;            /* of it, low byte first unless big_endian */
    uint32_t big_endian;
    uint32_t position, velocity, acceleration; /* in position mode, of the device's own sensor: the
                                   first channels of the motion that it follows at present */
    uint32_t finish;            /* 1 + the offset of a byte that is 1 in the commands at the end of
                                   a run, once they are at rest; 0: there is none */
};

/* how a command becomes bytes: the template, its fields, then escape rule, length and checksum */
struct inphase_encoding {
    const uint8_t *packet;      /* template, without checksum */
    uint32_t packet_size;
    uint32_t fields;
    const struct inphase_field *field;      /* raw = (value - zero) / scale, rounded, saturated */
    struct inphase_framing framing;         /* escape rule and length field */
    struct inphase_checksum checksum;       /* appended; kind 0: none */
    uint32_t checksum_big_endian;
    uint32_t chunk;             /* bytes of one datagram, when a command is several (CAN frames);
                                   packet_size is a multiple. 0: a command is one write */
    struct inphase_reference reference;
};

/* Apply or undo an escape rule. Return the new size, or -EMSGSIZE. Any thread. */
int32_t inphase_escape(const struct inphase_framing *framing, const uint8_t *from, uint32_t size,
                       uint8_t *to, uint32_t room);
int32_t inphase_unescape(const struct inphase_framing *framing, const uint8_t *from, uint32_t size,
                         uint8_t *to, uint32_t room);
/* Encode a command. Returns bytes written to `to`, or -EMSGSIZE, -EDOM for a value not finite. */
int32_t inphase_encode(const struct inphase_encoding *encoding, const double *values, uint8_t *to,
                       uint32_t room);

/* The cycle thread's incremental parser, for drivers' own transactions and for tests. feed returns
   1 when the last reply is complete: values are filled, and the first reply is expected again. 0:
   bytes are missing. -EBADMSG: a reply was refused; see reason and detail. feed stops at the first
   complete or refused set. inphase_parser_taken is the number of bytes that it took in: feed the
   rest again. After the last byte, feed no bytes until it returns 0. */
typedef struct inphase_parser inphase_parser;
int inphase_parser_open(inphase_parser **out, const struct inphase_exchange *exchange);
void inphase_parser_close(inphase_parser *parser);
void inphase_parser_reset(inphase_parser *parser);
/* A command was written: the device owes its answers. */
void inphase_parser_owe(inphase_parser *parser);
/* No answer is owed beyond those of the last `most` commands: the line was read empty. */
void inphase_parser_forgive(inphase_parser *parser, uint32_t most);
/* Answers that were taken in and dropped, so far. */
uint32_t inphase_parser_answered(const inphase_parser *parser);
/* In CAN frames: 1 when a reply of the exchange has this id, with its flags; 0: it is other
   traffic. */
int inphase_parser_wants(const inphase_parser *parser, uint32_t can_id);
/* The device's number in the last complete set, as it came; 0 where the exchange has none. */
uint64_t inphase_parser_sequence(const inphase_parser *parser);
/* The device's time in the last complete set, as it came; 0 where the exchange has none. */
uint64_t inphase_parser_clock(const inphase_parser *parser);
uint32_t inphase_parser_taken(const inphase_parser *parser);
int inphase_parser_feed(inphase_parser *parser, const uint8_t *bytes, uint32_t size, double *values,
                        uint32_t *reason, uint32_t *detail);
/* Of packets that silence ends, feed returns 0 and takes in all bytes. Once the line was silent for
   idle_ns, end returns as feed does. It returns 0 where no byte is held. */
int inphase_parser_end(inphase_parser *parser, double *values, uint32_t *reason, uint32_t *detail);
/* Bytes of a packet that is not whole yet. */
uint32_t inphase_parser_held(const inphase_parser *parser);

/* ---- the limiter ----------------------------------------------------------------------- */

/* command modes: what an actuator takes */
#define INPHASE_MODE_POSITION 0     /* rad */
#define INPHASE_MODE_VELOCITY 1     /* rad/s */
#define INPHASE_MODE_EFFORT 2       /* N m, or what the driver says */
#define INPHASE_MODE_SWITCH 3       /* 0 or 1 */

/* limits of one channel, SI; fields that the mode does not use are ignored */
struct inphase_limits {
    double low, high;           /* position; velocity and effort: of the measured one, may be
                                   infinite */
    double velocity;            /* position: largest |change| per second; velocity: largest
                                   |velocity|; effort: largest measured |velocity|, INFINITY: not
                                   bounded */
    double acceleration;        /* position, velocity: largest |change of velocity| per second */
    double step;                /* position: largest distance from the measured position */
    double jerk;                /* position, velocity: largest |change of acceleration| per second;
                                   0: not bounded */
    double effort;              /* effort: largest |effort|; position: largest measured |effort|,
                                   0: not bounded */
    double rate;                /* effort: largest |change| per second */
    double safe;                /* effort: where a ramp ends; switch: the same, 0 or 1 */
    double dwell_s;             /* switch: least time from one change to the next */
    uint32_t mode;              /* INPHASE_MODE_* */
};

/* the measured values of one joint, SI; NaN: unknown */
struct inphase_measured {
    double position, velocity, effort;
};

/* the motion applied to one channel, SI; differences are of commands one period apart */
struct inphase_motion {
    double position;            /* position mode */
    double velocity, acceleration; /* position and velocity mode */
    double goal;                /* the request within the limits; at the start the applied value */
    double effort;              /* effort mode */
    double state;               /* switch: 0 or 1 */
    double cycles;              /* switch: since it changed */
};

/* The limits of one channel, prepared for one period. inphase_limiter_make sets them; then they are
   constant. */
struct inphase_limiter {
    struct inphase_limits limits;
    double period_s;
    double velocity, acceleration, jerk; /* largest change from cycle to cycle: of position, ... */
    double build;               /* cycles in which the jerk builds up the acceleration */
    double build_cycles, per_2_jerk, per_acceleration; /* bounds of a ramp's distance */
    double effort;              /* position mode: largest measured |effort|, may be infinite */
    double rate;                /* effort mode: largest change from cycle to cycle */
    double dwell;               /* switch: cycles from one change to the next */
    uint32_t moves;             /* 0: the limits are invalid, and the channel stands still */
};
/* Prepare limits. Invalid are NaN, low above high, a velocity or acceleration (effort mode: an
   effort or rate) that is infinite or not above 0, and safe beyond effort. -EINVAL: the limits or
   the period are invalid, and the channel stands still. Any thread. */
int inphase_limiter_make(struct inphase_limiter *limiter, const struct inphase_limits *limits,
                         double period_s);

/* One channel, one cycle: from the motion applied one period ago to the one that may be applied
   now. `requested` that is not finite means the goal before. A request that can be reached within
   all bounds is applied as it is. Any other is approached as quickly as the bounds allow. It is
   passed only if that cannot be avoided any more.

   The applied motion (*motion on return) is finite and within its range; a position outside the
   range goes no further out. It changes by no more than its rate: a position by its velocity, a
   velocity by its acceleration, an effort by its rate. This holds for any values of all arguments,
   except a motion->position that is not finite. If motion came from these functions, a position
   also keeps acceleration and jerk, and a velocity keeps jerk: up to 1e-7 of them and the rounding
   of numbers of that size. A legal command always exists: nothing is applied after which
   inphase_ramp would leave the range or a bound.

   A position is never further than `step` from the measured one. If it is further already, it goes
   no further away. If the measured position moves so suddenly that step and acceleration cannot
   both be kept, the step and the velocity are kept. While the measured effort is beyond its limit,
   the goal is no further in its direction than the position.

   A velocity with a range of positions brakes so that the joint comes to rest inside, as far as the
   joint follows its commands. If the position is unknown, it ramps.

   An effort is beyond `safe` only while the measured velocity and position are within their limits.
   Else it goes back to `safe` at its rate; likewise while a limited quantity is unknown.

   A switch is on from 0.5. It changes when `dwell_s` have passed since its last change.

   Bounded: at most 22 ramps are computed. Any thread, the cycle thread included. */
void inphase_limit(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                   double requested, const struct inphase_measured *measured);
/* The next step of a ramp, likewise for any values. Position and velocity go to rest as quickly as
   acceleration and jerk allow, a position no further than `step` from the measured one. An effort
   goes to `safe` at its rate, a switch when it may change. */
void inphase_ramp(const struct inphase_limiter *limiter, struct inphase_motion *motion,
                  const struct inphase_measured *measured);

/* ---- the workspace ----------------------------------------------------------------------- */

/* one joint of a chain, written down in the pose in which all positions are 0 and the frames of all
   joints are parallel to the base's; every chain has such a pose */
struct inphase_joint {
    double translation[3];      /* m, from the joint before it (the first: from the base) */
    double axis[3];             /* of length 1 */
    uint32_t prismatic;         /* 1: moves along the axis [m], 0: turns about it [rad] */
};
struct inphase_workspace {
    const struct inphase_joint *joint;
    uint32_t joints;            /* those of an actuator's first channels */
    double tool[3];             /* m, from the last joint to the tool's point */
    double low[3], high[3];     /* m, in the base's frame: the box that the point stays in */
};

/* The tool's point; NaN for an angle beyond 2^20 rad. Only + - * / and floor: equal on every
   machine. Any thread. */
void inphase_tool_point(const struct inphase_workspace *workspace, const double *positions,
                        double point[3]);
/* Within 3e-16 of sine and cosine for |angle| up to 2^20, NaN beyond; likewise. */
void inphase_sine_cosine(double angle, double *sine, double *cosine);

/* ---- simulated devices ----------------------------------------------------------------- */

/* One joint that follows its goal, with capped acceleration and velocity: a position critically
   damped, a velocity as a lag of first order, an effort by inertia and damping. A switch has no
   joint. */
struct inphase_servo {
    double goal, position, velocity, acceleration;
    double natural_rad_s;       /* natural frequency */
    double velocity_max, acceleration_max;
    uint32_t mode;              /* INPHASE_MODE_*, of the goal */
    double inertia, damping;    /* effort mode: per rad/s^2, above 0, and per rad/s */
};
/* Advance by dt_ns in steps of at most 250 us. Only + - * /: equal on every machine. */
void inphase_servo_advance(struct inphase_servo *servos, uint32_t count, int64_t dt_ns);
/* Counter-based draw in [0, 1): depends on its arguments alone, not on the order of draws. */
double inphase_draw(uint64_t seed, uint64_t cycle, uint64_t device, uint64_t kind);

/* A distribution, by its quantile function: value[i] at probability[i], in between on the line.
   Probabilities do not descend, the first is 0 and the last 1; two equal ones are a jump. One knot
   is a constant. Only + - * /: equal on every machine. */
#define INPHASE_MAX_KNOTS 4096
struct inphase_distribution {
    uint32_t knots;             /* 0: not given */
    const double *probability;
    const double *value;
};
double inphase_quantile(const struct inphase_distribution *distribution, double probability);

/* Draws are keyed by (seed, cycle, device, kind). Devices: sensors by their index, then these */
#define INPHASE_DRAW_HOST 64
#define INPHASE_DRAW_POLICY 65
#define INPHASE_DRAW_ACTUATOR 66    /* the first actuator's; + its index */
#define INPHASE_DRAW_EPISODE 90     /* not the core's: values that are drawn once per episode */
/* kinds of a sensor's draws; of the others 0, and of the host's the number of the sleep */
#define INPHASE_DRAW_JITTER 0
#define INPHASE_DRAW_LATENCY 1
#define INPHASE_DRAW_DROPOUT 2
#define INPHASE_DRAW_FREEZE 3
#define INPHASE_DRAW_FREEZE_SAMPLES 4
#define INPHASE_DRAW_NOISE 16       /* + channel */

/* a sensor's twin answers at the level of samples: channel c is
   base[c] + gain[c] * quantity + noise[c] * draw, where quantity is the position, velocity or
   acceleration of servo joint[c], or a number somewhere: of the world, or of the episode */
#define INPHASE_TWIN_CONSTANT 0
#define INPHASE_TWIN_POSITION 1
#define INPHASE_TWIN_VELOCITY 2
#define INPHASE_TWIN_ACCELERATION 3
#define INPHASE_TWIN_WORLD 4
struct inphase_twin_channel {
    uint32_t kind;
    uint32_t actuator;          /* whose servo */
    uint32_t joint;
    double base, gain, noise;
    const double *source;       /* of the world, which keeps it; read at the acquisition */
};
struct inphase_twin {
    const struct inphase_twin_channel *channel;
    int64_t latency_ns;         /* trigger to reply; not used where `latency` is given */
    int64_t jitter_ns;          /* uniform, added; likewise */
    int64_t period_ns;          /* of a free-running device */
    int64_t phase_ns;           /* of such a device: when it takes its first sample */
    struct inphase_distribution latency; /* ns, trigger to reply; free-running: sample to
                                            reply */
    struct inphase_distribution jitter;  /* ns, added to it */
    struct inphase_distribution freeze_samples; /* number of samples of a freeze */
    double dropout;             /* probability that a sample never comes */
    double freeze;              /* probability that a freeze begins at a sample */
    double drift;               /* its clock's rate less one: of its stamps and of its period */
    uint32_t clock;             /* 1: it gives stamps of that clock, where its exchange has them */
    uint32_t derived;           /* 1: reads what the world computes only in a forward pass */
    uint32_t rendered;          /* 1: the world renders its payload */
};

/* The timing of a recorded run, which lock step then has in place of drawn times. Cycle n has that
   of cycle n modulo `cycles`. Times in ns, one per cycle. All of it stays the caller's, who keeps
   it until the core is closed. */
#define INPHASE_TRACE_NONE -1       /* no reply comes */
#define INPHASE_TRACE_STOOD -2      /* the device gives its last sample again, as late as that */
struct inphase_sensor_trace {
    const int64_t *took;        /* from the trigger to the reply, or one of the above */
    const int64_t *trigger_late; /* of the trigger, if the thread slept until its offset */
    const int64_t *acquired, *received; /* of a free-running device: of each sample, from the start
                                           of the trace; acquired ascends */
    uint64_t samples;
};
struct inphase_trace {
    uint64_t cycles;            /* 0: no trace */
    const int64_t *wake_late;   /* of the wake at the start of a cycle */
    const int64_t *latched;     /* from the start of the cycle to its latch: the thread wakes then
                                   behind the last reply, or behind the read deadline */
    const int64_t *act_late;    /* of the wake at the act offset */
    const int64_t *inference;   /* of the answer to this cycle's frame; below 0: the policy does not
                                   take that frame */
    const struct inphase_sensor_trace *sensor;
};

/* The world of the simulated devices. The core steps it through the world's own functions, and
   links to no simulator. Lock step only. Everything stays the caller's, who keeps it alive and uses
   it only between calls of the core.

   The world stands at grid points start + k * period / steps, rounded down to nanoseconds: `steps`
   equal steps make a cycle. An event between two grid points (an offset of the schedule, a late
   trigger, a drawn latency) is reached by a shorter step, and another one leads back to the grid.
   So a sample has the state of the instant of its stamp. */
struct inphase_world {
    void (*step)(const void *model, void *data);
    void (*forward)(const void *model, void *data); /* derived quantities, for the present state */
    void *(*catch_errors)(void *handler);  /* sets this thread's handler of messages; NULL: none */
    const void *model;
    void *data;
    double *timestep;           /* in the model, seconds: the core sets it for a shorter step */
    double step_s;              /* its value for a whole step */
    int64_t steps;              /* whole steps per cycle, 1 or more */
    const int32_t *warning;     /* counts of the world's warnings */
    uint32_t warnings;
    uint32_t warning_stride;    /* bytes from one to the next */
    uint32_t fatal;             /* bit per warning: the world has failed when its count changes */
    int (*render)(void *user, uint32_t sensor, void *payload); /* 0, or it has failed */
    void *user;                 /* of render, which may be Python: the caller's thread runs it */
    double (**clock)(void);     /* where the simulator keeps the clock of its own profile, one for
                                   the process. While a core steps it reads 0 there, and has it back
                                   at the end of the call: a step asks it dozens of times. NULL:
                                   none */
};

/* A policy without Python. It is called in the caller's thread with the frame's record and the
   sample of each sensor (NULL: none yet). 0: `command` is filled with all commands of a chunk; else
   INPHASE_REASON_*: why there is no command. */
struct inphase_native_policy {
    uint32_t (*call)(void *user, const void *record, const void *const *samples, double *command);
    void *user;
};

/* a planned fault of a simulated device or of the virtual clock */
#define INPHASE_FAULT_SILENT 1      /* no reply */
#define INPHASE_FAULT_DELAYED 2     /* reply argument ns later */
#define INPHASE_FAULT_INVALID 3     /* reply refused, argument: INPHASE_REASON_* */
#define INPHASE_FAULT_NAN 4         /* channel argument is NaN */
#define INPHASE_FAULT_WRONG 5       /* every channel + argument */
#define INPHASE_FAULT_FROZEN 6      /* the last sample again, with its sequence */
#define INPHASE_FAULT_GONE 7        /* device away for count cycles */
#define INPHASE_FAULT_WAKE 8        /* the cycle thread wakes argument ns late */
#define INPHASE_FAULT_CLOCK_STEP 9  /* the wall clock is argument ns off */
#define INPHASE_FAULT_ESTOP 10      /* a line of the emergency stop is pressed, from argument ns
                                       after the start of from_cycle on, for count periods */
#define INPHASE_FAULT_SUSPENDED 11  /* the machine was suspended for argument ns, which its clock
                                       does not show, before the act of from_cycle */
struct inphase_fault {
    uint32_t kind;
    uint32_t device;            /* index of the sensor, of ESTOP the input; not used by WAKE,
                                   CLOCK_STEP and SUSPENDED */
    int64_t from_cycle;
    int64_t count;
    int64_t argument;
};

/* ---- the core -------------------------------------------------------------------------- */

/* Bursts. The payload of a stream may have all its samples since the last frame beside the newest.
   Behind the newest values lie, as int64: how many there are, how many more came and are lost, then
   `burst` acquisitions, receipts and uncertainties; then, per group of channels, `burst` times its
   float64 values. The oldest is first. Entries without a sample are INPHASE_ABSENT and NaN. One
   slot of the ring has them all, and its number rises by one per frame. */
#define INPHASE_MAX_BURST 64

struct inphase_sensor_config {
    uint32_t device;
    uint32_t worker;            /* 1: a worker posts the samples; only `acquire` of the exchange is
                                   used */
    uint32_t free_running;      /* 1: never triggered; a frame has the newest sample */
    uint32_t channels;          /* float64 values of a sample that are checked and used */
    const uint32_t *offset;     /* of each in the payload in bytes; NULL: one after the other */
    uint64_t payload;           /* bytes of a sample, a multiple of 8 */
    uint32_t burst;             /* samples since the last frame at most, in the payload too; 0: only
                                   the newest. Free-running, and no worker's */
    uint32_t burst_groups;      /* fields... */
    const uint32_t *burst_group; /* ...and the channels of each, in their order */
    int64_t trigger_ns;         /* offset in the cycle, before the read deadline */
    int64_t every;              /* triggered in cycles that this divides */
    int64_t latency_cycles;     /* a sample is due so many frames after its trigger; below every */
    uint32_t frozen_after;      /* so many bit-identical samples are FROZEN; 0: never looked at */
    int64_t max_age_ns;
    uint32_t recover;           /* good replies before a device that came back is trusted */
    uint32_t depth;             /* of its ring, power of two */
    struct inphase_exchange exchange;
    struct inphase_twin twin;   /* used in lock step */
    const double *low, *high;   /* per channel; NaN: not checked */
    const double *rate;         /* largest change per second; NaN: not checked */
};

/* the bytes that the guard sends an actuator when the runtime is dead or frozen */
#define INPHASE_STOP_NONE 0         /* nothing: the guard does not have this device */
#define INPHASE_STOP_HOLD 1         /* the command that was written last, again: position mode */
#define INPHASE_STOP_ZERO 2         /* the end of a ramp: zero velocity, the safe effort or state */
#define INPHASE_STOP_BYTES 3        /* these bytes: a quick stop, torque off */
struct inphase_stop {
    uint32_t kind;              /* INPHASE_STOP_* */
    uint32_t size;              /* of BYTES */
    uint32_t chunk;             /* bytes of one datagram of BYTES; 0: they are one write */
    const uint8_t *bytes;
    int64_t gap_ns;             /* idle time of the line before each stop */
    int64_t wire_ns;            /* the bytes' own time on the wire */
};

#define INPHASE_MEASURES_VELOCITY 1
#define INPHASE_MEASURES_EFFORT 2

/* the quantity of an actuator's feedback */
#define INPHASE_FEEDBACK_POSITION 0
#define INPHASE_FEEDBACK_VELOCITY 1 /* not in position mode, nor where positions are limited */
#define INPHASE_FEEDBACK_OTHER 2    /* only of a switch: it does not measure motion */
/* The path of an actuator in position mode at the end of a run (middleware/STATES.md). It first
   ramps to rest, then goes from point to point. All joints begin and end each way together; each
   keeps its limits, and `velocity` too */
#define INPHASE_MAX_PARK 16
#define INPHASE_PARK_LONGEST_NS 120000000000LL
struct inphase_park {
    uint32_t points;            /* 1 to INPHASE_MAX_PARK */
    const double *point;        /* points * channels, within the range */
    const double *velocity;     /* per channel, above 0, at most that of the limits */
    int64_t longest_ns;         /* after that time from the stop it ends where it is */
};

struct inphase_actuator_config {
    uint32_t device;
    uint32_t channels;
    int32_t feedback_sensor;    /* -1: moves blind */
    uint32_t feedback_channel;  /* first of the feedback's channels */
    uint32_t feedback_kind;     /* INPHASE_FEEDBACK_*: their quantity */
    uint32_t measures;          /* other quantities of the feedback: INPHASE_MEASURES_* */
    uint32_t velocity_channel;  /* their first channels */
    uint32_t effort_channel;
    uint32_t accepts;           /* bit per status of the feedback with which it may move */
    uint32_t worker;            /* 1: a worker writes the commands; the encoding is for the guard */
    uint32_t watchdog;          /* 1: writes feed the device's watchdog, 2: reads do, too */
    uint32_t guarded;           /* 1: its watchdog is verified; it moves without
                                   inphase_core_guarded */
    uint32_t coasts;            /* 1: a missing command is not repeated; the last motion is carried
                                   on and brought to rest within max_hold_ns; not for a switch */
    uint32_t off_on_estop;      /* 1: after the ramp of an emergency stop nothing is written */
    uint32_t approaches;        /* 1: a first command that is too far away is approached within the
                                   limits; 0: it is refused (INPHASE_REASON_START) */
    int64_t max_hold_ns, handover_ns; /* handover: another driver's commands fade in over it */
    double rest_speed;          /* per second for a position, or a velocity: a joint that is slower
                                   over 0.1 s is at rest; 0: 0.05 */
    const struct inphase_limits *limits;    /* per channel, all of one mode */
    const struct inphase_workspace *workspace; /* position mode; NULL: not bounded */
    const struct inphase_park *park;        /* position mode; NULL: it stops where it is */
    const double *start;        /* per channel: the place of a blind actuator in position mode, as
                                   far as it is known; NULL: it moves only after inphase_core_holds
                                   has given it */
    struct inphase_encoding encoding;
    struct inphase_stop stop;
    const struct inphase_servo *servo;      /* per channel: its twin */
    double *const *control;     /* per channel: the world's number for the command; NULL: the servo
                                   follows it */
    const double *control_gain; /* per channel: the world's number per unit of the command */
    const double *control_zero; /* per channel: the world's number for a command of 0; NULL: 0 */
    struct inphase_distribution delay;      /* ns, from the act until a command takes effect */
};

/* When a policy is asked, and when its answers act (middleware/POLICIES.md). It takes the frames of
   cycles that `every` divides. Its answer to the frame of cycle n has `chunk` commands. Command i
   is for cycle n + latency_cycles + i * chunk_every, whenever the answer comes. Commands whose
   cycle has passed by then are dropped. */
#define INPHASE_JOIN_SWITCH 0       /* the newest answer counts from its first command on */
#define INPHASE_JOIN_BLEND 1        /* it is blended in over blend_cycles */
#define INPHASE_JOIN_FREEZE 2       /* the answer before counts for the usual latency: the 95 %
                                       quantile of the last 64, in cycles */
#define INPHASE_HOLD 0              /* a command holds until the next one's cycle */
#define INPHASE_LINEAR 1            /* straight to the next one */
#define INPHASE_CUBIC 2             /* a cubic from the setpoint and its slope to the next one and
                                       its slope, which is that from the one before it to the one
                                       after it */
#define INPHASE_MAX_CHUNK 1024
#define INPHASE_MAX_PLAN 65536      /* (latency_cycles / chunk_every + chunk + 3) * (values of a
                                       command + 1) is at most this */
struct inphase_policy_timing {
    int64_t every;              /* 0: 1 */
    int64_t latency_cycles;
    int64_t chunk_every;        /* divides every; 0: 1. Not used with a chunk of 1 */
    int64_t blend_cycles;
    uint32_t chunk;             /* 0: 1 */
    uint32_t join;              /* INPHASE_JOIN_* */
    uint32_t interpolate;       /* INPHASE_HOLD, _LINEAR, _CUBIC */
};

/* an input of the emergency stop; the core looks at it in every cycle before anything is written */
#define INPHASE_INPUT_NONE 0        /* never pressed */
#define INPHASE_INPUT_LINE 1        /* a GPIO line: see inphase_core_estop_line */
#define INPHASE_INPUT_SAMPLE 2      /* a channel of a sensor's samples */
struct inphase_estop_input {
    uint32_t kind;
    uint32_t pressed;           /* LINE: the level that stops. SAMPLE with a mask: 1: any bit that
                                   is set stops; 0: any bit that is not set stops */
    uint32_t sensor, channel;   /* SAMPLE */
    uint32_t accepts;           /* bit per status; with any other status the input is unknown */
    uint64_t mask;              /* of the value, which is then a whole number; 0: not used */
    double low, high;           /* values outside stop; NaN: not used. A value that is NaN stops */
};

struct inphase_config {
    int64_t period_ns;
    int64_t read_deadline_ns;   /* offset */
    int64_t act_ns;             /* offset */
    int64_t resumed_after_ns;   /* later wakes than this count as a suspension */
    int64_t cycles;             /* stop after this many, 0: run on; not used on virtual time */
    uint64_t epoch;
    uint64_t seed;              /* of the twins */
    uint32_t devices, sensors, actuators;
    uint32_t frame_depth;       /* power of two */
    uint32_t overrun_limit;
    int32_t priority;           /* SCHED_FIFO, 0: ordinary */
    int32_t cpu;                /* -1: any */
    uint32_t observe;           /* 1: never write to an actuator */
    uint32_t has_policy;        /* 0: holding is no miss */
    uint32_t virtual_time;      /* 1: lock step: virtual clock and twins */
    uint32_t pace_sensor;       /* 1 + the number of the free-running sensor whose packets the grid
                                   follows, one per cycle; no worker's, no burst. 0: the host's
                                   clock alone */
    const struct inphase_sensor_config *sensor;
    const struct inphase_actuator_config *actuator;
    struct inphase_policy_timing policy_timing;
    uint32_t estop_inputs;      /* at most INPHASE_ESTOP_INPUTS */
    const struct inphase_estop_input *estop;
    const char *description;    /* put into the segment as it is */
    uint64_t description_size;

    /* lock step */
    const struct inphase_world *world;      /* NULL: the drivers' twins alone */
    struct inphase_native_policy policy;    /* call NULL: none */
    struct inphase_distribution wake_late;  /* ns, of each sleep of the cycle thread */
    struct inphase_distribution inference;  /* ns, from a frame to the policy's command */
    struct inphase_trace trace;             /* in place of these, and of the twins' latencies */
};

/* bytes of the segment that a core with this configuration needs */
uint64_t inphase_core_size(const struct inphase_config *config);
/* Make a core on a segment of at least that size; everything in config is copied. The segment is
   published and stays the caller's. -EINVAL: a bound above is broken. Thread: any. */
int inphase_core_open(inphase_core **out, const struct inphase_config *config,
                      inphase_segment *segment);
/* Stops and joins the cycle thread if it runs. */
void inphase_core_close(inphase_core *core);

/* Request that the core uses a device through this descriptor (attach), or not any more (detach),
   from the next cycle on. Each call is a new request, also for the same descriptor. It replaces an
   earlier request that the core has not followed yet. The core lets the old descriptor go before it
   takes the new one. Until then only the cycle thread reads and writes a descriptor. The caller
   still owns it, and ignores SIGPIPE. The kernel's receive stamps of a socket are switched on here,
   and the error frames of a CAN socket, if it has them. 0, or -EINVAL. Threads: any one. */
int inphase_core_attach(inphase_core *core, uint32_t device, int fd);
int inphase_core_detach(inphase_core *core, uint32_t device);
/* By the newest request: 1: the core uses the device; 0: it does not (never requested, detached, or
   lost); -EINPROGRESS: the core has not followed the request yet, and may still use the descriptor
   before. */
int inphase_core_attached(inphase_core *core, uint32_t device);
/* errno with which the device was lost since the newest request; 0: it was not lost. */
int inphase_core_lost(inphase_core *core, uint32_t device);
/* Make the policy's mailbox, and the bell that the core rings for it at each latch. Before the
   start, once. Both are the caller's, who closes them after the core. */
int inphase_core_mailbox(inphase_core *core, inphase_segment **mailbox, inphase_segment **bell);
/* A worker's device: its segment, the eventfd with which it wakes the core, and the bell that the
   core rings for a command (NULL: it takes none). Before the start. From then on attach (with any
   descriptor) and detach tell if the worker lives. The core uses the device while the worker lives
   and reports it as running. */
int inphase_core_worker(inphase_core *core, uint32_t device, inphase_segment *ring, int wake_fd,
                        inphase_segment *bell);
/* Raise a GPIO line at a sensor's trigger offset, before its request if it has one; triggered_ns is
   read right before. The core then triggers the sensor of a worker, and the worker only reads. The
   line is lowered at the latch if pulse_ns have passed by then, else after the act. So the length
   of the pulse is not exact, and it is shorter than pulse_ns by the lateness of the trigger. fd: a
   line request of one line, see inphase_gpio_set; it stays the caller's. A line that cannot be set
   loses the sensor's device. Before the start. -EINVAL: pulse_ns reaches beyond the act, or the
   sensor is free-running. Thread: any. */
int inphase_core_line(inphase_core *core, uint32_t sensor, int fd, int64_t pulse_ns);
/* Make the guard's page. In every cycle the cycle thread writes a heartbeat there, and before each
   command the bytes that stop that device. A heartbeat older than max_hold_ns means a frozen
   runtime. Returns a descriptor of the page, which nobody can map for writing or resize. *life_fd:
   a descriptor of the page for the guard's own heartbeat. The caller closes both. The cycle thread
   reads the guard's heartbeat. A guard that is dead, or whose heartbeat is older than 5
   max_hold_ns, guards nothing. A guard that stopped the devices of an emulated robot and spared
   this process ends the run (INPHASE_REASON_GUARD). Before the start. -EBUSY: there is a page
   already, or the clock is virtual; else a negative errno of memfd_create and the like. */
int inphase_core_guard(inphase_core *core, int64_t max_hold_ns, int32_t *life_fd);
/* enabled 1: the actuator's enable sequence is done and it stands still, so commands may be written
   to it. Call it before its device is attached again. 0: no commands may be written, and its motion
   is stopped. INPHASE_ENABLED_STANDS: as 1, but it is commanded to stay where it is until 1 comes,
   whatever a policy asks: its device has to be answered before it begins to follow. */
#define INPHASE_ENABLED_STANDS 2
int inphase_core_enable(inphase_core *core, uint32_t actuator, int enabled);
/* The goals at which a device in position mode already holds, one per channel. Call it before
   enable. The first motion begins there and not at the measured position, so that a joint does not
   sag under its load. A goal further than `step` from the measured position is not used. A blind
   actuator begins there in any case, and is not armed while its place is unknown. count 0: no
   goals. */
int inphase_core_holds(inphase_core *core, uint32_t actuator, const double *goal, uint32_t count);
/* 1: motion is latched or stopping, and the feedback shows that the actuator moves. Any thread;
   -EINVAL. */
int inphase_core_moves(inphase_core *core, uint32_t actuator);
/* 1: motion is latched or stopping, and the actuator may not be at rest. Any thread; -EINVAL. */
int inphase_core_loose(inphase_core *core, uint32_t actuator);
/* Request motion: from OPENED, or to clear a latch (the local reset, and the only one). The core
   grants it at the latch of a cycle when all of this holds: every actuator is enabled, its device
   is attached, its feedback is good, and something else can stop it; nothing moves; no
   emergency-stop input is pressed or unknown. Motion then starts from the robot's place. Until then
   the request stays pending; `refusal` of inphase_reader_status tells the reason. A new latch
   cancels it. If motion is armed already, the call does nothing. Threads: any one. */
int inphase_core_arm(inphase_core *core);
/* The same, requested by a person who knew of so many emergency stops (`estops` of
   inphase_reader_status). A newer emergency stop wins, and nothing is armed. */
int inphase_core_arm_after(inphase_core *core, uint32_t estops);
/* Withdraw a request to arm that was not granted yet. */
int inphase_core_disarm(inphase_core *core);
/* Emergency stop. The next act follows it before anything is written: motion is latched, and every
   actuator ramps. from: INPHASE_ESTOP_LOCAL or _CLIENT. Async-signal-safe, any thread. */
int inphase_core_estop(inphase_core *core, uint32_t from);
/* The line of an emergency-stop input: a line request of one line (see inphase_gpio_get), which
   stays the caller's. Before the start. Without it the input is unknown, and nothing is armed. */
int inphase_core_estop_line(inphase_core *core, uint32_t input, int fd);
/* The page of clients' wishes: a segment of its own. The runtime makes it, and the core looks at it
   in every cycle. Whoever maps it as its writer, as the gateway does, may wish. A wish never waits
   and wakes nobody. */
int inphase_client_page_make(inphase_segment **out, uint64_t epoch);
/* an emergency stop: the next act follows it */
int inphase_client_page_estop(inphase_segment *segment);
/* An episode begins (outcome INPHASE_EPISODE_RUNNING), or the newest one has that outcome. The
   frames from the next latch on tell it. Its number; -EBUSY: another one is running; -ENOENT: none
   was begun; -EALREADY: it has ended, and has an outcome then; -EINVAL. */
int64_t inphase_client_page_episode(inphase_segment *segment, uint32_t outcome);
/* Let the core look at that page. Before the start. The segment stays the caller's. -EPROTO: it is
   not of this runtime. */
int inphase_core_client_page(inphase_core *core, inphase_segment *segment);
/* The lease page: a segment of its own. The runtime makes it, and whoever decides about leases maps
   it as its writer. With such a page a command moves the robot only under the lease that the page
   names, and before `until_ns` of the monotonic clock. What is left of an earlier lease is dropped
   in the next act, and the robot ramps to rest; the next lease drives from there on. */
int inphase_lease_page_make(inphase_segment **out, uint64_t epoch);
/* Let that lease drive until then, 0: none. A number is not used again. */
int inphase_lease_page_set(inphase_segment *segment, uint32_t lease, int64_t until_ns);
/* the lease that counts now, 0: none; any process that maps it */
uint32_t inphase_lease_page_get(const inphase_segment *segment);
/* Let the core look at that page. Before the start. The segment stays the caller's. -EPROTO: it is
   not of this runtime. */
int inphase_core_lease_page(inphase_core *core, const inphase_segment *segment);
/* guarded 1: the guard can stop an actuator's device when this process does not. 0: not any more;
   then nothing is armed, and armed motion is latched, even if another guard takes over before the
   next cycle. Any thread. */
int inphase_core_guarded(inphase_core *core, uint32_t actuator, int guarded);
/* 1: a robot may go from one state to another; else 0. Any thread. */
int inphase_state_may(uint32_t from, uint32_t to);
/* Latch motion at the next latch of a cycle, for a fault that the cycle thread cannot see itself.
   The first reason stays, as always. -EINVAL: no such reason. Async-signal-safe, any thread. */
int inphase_core_latch(inphase_core *core, uint32_t reason, uint32_t detail);
/* The supervisor's heartbeat. From the first beat on the supervisor is watched: live motion is
   latched after cycles without a beat of INPHASE_SUPERVISOR_NS in all, or of two periods or of
   resumed_after_ns, if those are longer. Never waits. Any thread. */
#define INPHASE_SUPERVISOR_NS 1000000000
void inphase_core_beat(inphase_core *core);
/* The policy is gone for good: the reason why commands are missing from now on. */
void inphase_core_policy_gone(inphase_core *core, uint32_t reason);
/* What the host did to the cycle thread, for every reader. A frame after further page faults says
   so. Never waits. The supervisor's thread. */
void inphase_core_host(inphase_core *core, const struct inphase_host_counts *counts);
/* A late moment, for every reader. Never waits. The supervisor's thread. */
void inphase_core_late(inphase_core *core, const struct inphase_late *late);
/* Ask for a stop: ramp, park what has a path, then end. Nothing parks where motion is latched, or
   for another reason than SIGNAL, DONE, REQUEST and PARENT. Async-signal-safe. The first reason
   stays. */
void inphase_core_stop(inphase_core *core, uint32_t reason, uint32_t detail);
/* Nothing parks any more: what is on its way ramps to rest and holds. Async-signal-safe. */
void inphase_core_hurry(inphase_core *core);
/* How far an actuator is along its path: INPHASE_PARK_*. Any thread; -EINVAL. */
#define INPHASE_PARK_NONE 0         /* it has none */
#define INPHASE_PARK_WAITS 1        /* for a stop, or to come to rest after it */
#define INPHASE_PARK_MOVES 2
#define INPHASE_PARK_DONE 3         /* at its last point */
#define INPHASE_PARK_HURRIED 4      /* it ended on the way, and holds: by inphase_core_hurry */
#define INPHASE_PARK_LATCHED 5      /* likewise: motion was latched */
#define INPHASE_PARK_FEEDBACK 6     /* longest_ns were over, and its feedback was not good */
#define INPHASE_PARK_LIMITED 7      /* the limits held it back */
#define INPHASE_PARK_TIME 8         /* longest_ns were over */
#define INPHASE_PARK_REFUSED 9      /* it did not begin: not commanded, or stopped for a reason
                                       after which nothing moves */
int inphase_core_parked(inphase_core *core, uint32_t actuator);

/* Start the cycle thread. inphase_reader_realtime tells which real-time rights were refused; a
   caller that requires them calls inphase_realtime_try first. */
int inphase_core_start(inphase_core *core);
/* Wait until the cycle thread has ended; -ETIMEDOUT. */
int inphase_core_join(inphase_core *core, int64_t timeout_ns);
/* Ask the kernel for the rights of the cycle thread, in a thread that ends at once. */
int inphase_realtime_try(int32_t priority, int32_t cpu, struct inphase_realtime *out);
/* Wake at an absolute grid, as the cycle thread does and with its rights, and do nothing else.
   late_ns[count] becomes the lateness of each wake, ns; a wake that is late by whole periods goes
   on with the next grid point. Waits until all are there. out: the rights. -EINVAL; -EAGAIN: no
   thread can be made. */
int inphase_realtime_wakes(int32_t priority, int32_t cpu, int64_t period_ns, int64_t *late_ns,
                           uint32_t count, struct inphase_realtime *out);

/* ---- stops that nothing holds up --------------------------------------------------------- */

/* A thread in C that hands stops to a core. It waits for these descriptors and for nothing else. So
   a busy interpreter, a slow driver, a frozen guard or an output that nobody reads delays no stop.
   -1: there is no such descriptor. All stay the caller's, who has made them non-blocking. A
   terminal that others share has to be opened anew for that. */
struct inphase_stops_config {
    int32_t keys_fd;            /* a terminal. Space, e and E are the emergency stop. Its hang-up is
                                   a stop, as by SIGHUP. The keys end when another process takes the
                                   terminal */
    int32_t signals_fd;         /* a byte per signal, its number: SIGHUP, SIGINT, SIGQUIT and
                                   SIGTERM are a stop, SIGUSR1 becomes the key `a`. A second one of
                                   SIGINT, SIGQUIT and SIGTERM is inphase_core_hurry, too */
    int32_t line_fd;            /* a socket to the process that runs the robot. `e` is the emergency
                                   stop, `s` a stop, `h` inphase_core_hurry; its end is a stop,
                                   INPHASE_REASON_PARENT */
    int32_t told_fd;            /* out: the pressed keys, for the supervisor. A key without room is
                                   dropped */
};
typedef struct inphase_stops inphase_stops;
/* Start the thread, which blocks all signals. Close it before the core; it ends quickly. 0, or the
   negative errno of eventfd and pthread_create. Thread: any. */
int inphase_stops_open(inphase_stops **out, inphase_core *core,
                       const struct inphase_stops_config *config);
void inphase_stops_close(inphase_stops *stops);

/* Lock step, all in the caller's thread. The policy is one server, as on the robot. As soon as it
   is free, it takes the newest due frame (see inphase_policy_timing) that it has not had. It
   answers after its inference time. Meanwhile the robot's cycles go on. */

/* Run to the frame that the policy takes next. Returns its number (see inphase_reader_number).
   -EAGAIN: `cycles` in all were run before that (0: no bound). -ESHUTDOWN: the core has stopped. */
int64_t inphase_core_turn(inphase_core *core, int64_t cycles);
/* The policy's answer to that frame. Reason 0: `count` values, per command of the chunk a value per
   channel. Any other reason: why there is no command; values are not used. If the answer is there
   before the act, the rest of the frame's cycle is run. */
int inphase_core_answer(inphase_core *core, uint32_t reason, const double *values,
                        uint32_t count);
/* An answer to the frame of any cycle, which is there from a time of its own on, by a caller that
   lets no turn pass and calls no inphase_core_answer. Answers come in the order of their frames and
   times. -EPERM: not on virtual time; -EINVAL: no such reason or number of values. */
int inphase_core_post(inphase_core *core, int64_t cycle, int64_t posted_ns, uint32_t reason,
                      const double *values, uint32_t count);
/* The answer, and the run to the next frame, in one call, for a loop in Python. Returns as
   inphase_core_turn, or as inphase_core_answer if that fails. */
int64_t inphase_core_answer_turn(inphase_core *core, uint32_t reason, const double *values,
                                 uint32_t count, int64_t cycles);
/* Run so many cycles without leaving C, with the native policy, if there is one. Returns the number
   of cycles run: fewer if the core stops by itself. */
int64_t inphase_core_run(inphase_core *core, int64_t cycles);
/* What devices did in the next cycle of a recorded run, in place of the simulated ones: a row per
   sensor, with its stamps on this core's clock, the numbers of the sample that it names (NULL:
   those of before), and a bit per actuator to which nothing could be written. So the run meets the
   same states, latches and limits again. Then every frame is a turn of inphase_core_turn, whatever
   frames the policy takes. Both arrays stay the caller's, unchanged until the next
   call. rows NULL: the simulated ones. -EPERM: not on virtual time; -EINVAL: no such status or
   reason, and then nothing changes. */
int inphase_core_given(inphase_core *core, const struct inphase_row *rows,
                       const double *const *values, uint32_t unwritten);
/* Plan a fault. -ENOSPC: too many; -EPERM: not on virtual time. */
int inphase_core_fault(inphase_core *core, const struct inphase_fault *fault);
/* The number of cycles run so far, those of a final ramp included. *frames: frames latched so
   far. */
int64_t inphase_core_progress(inphase_core *core, int64_t *frames);

/* the failure of a world, and its time */
struct inphase_world_failure {
    int32_t what;               /* 0: it did not; 1 + number of the warning; -EIO: an error that it
                                   raised, -EPIPE: its renderer failed */
    int64_t cycle;
    int64_t world_ns;           /* where the world stood */
    char message[256];          /* its message, may be empty */
};
void inphase_core_world_failure(inphase_core *core, struct inphase_world_failure *out);

/* Many cores in lock step at once, each with a world of its own, by a pool of threads. The caller's
   thread works too. Which thread steps a core has no influence on it. A world that Python renders
   stays with its own thread, and is none for a batch. */
#define INPHASE_BATCH_THREADS 256

/* a piece of what is observed of each core, and where it goes */
struct inphase_batch_part {
    uint32_t sensor;
    uint32_t offset, bytes;     /* in its sample */
    const void *nothing;        /* so many bytes, for a sensor without a sample yet */
    void *to;                   /* of row 0, at the first turn */
    uint64_t row_stride, turn_stride; /* bytes to the next row, and turn */
};

/* All arrays are the caller's. Those per turn are in the order of turns, then of rows. */
struct inphase_batch_work {
    uint32_t cores, turns, rows, parts;
    inphase_core *const *core;
    const uint32_t *row;        /* of each core, below `rows`, and of no other one */
    const double *values;       /* its answers: `count` each, per turn and row */
    uint32_t count;
    const struct inphase_batch_part *part;
    int64_t *number;            /* out, per turn and row: as inphase_core_answer_turn returns */
    int64_t *cycle;             /* out: of that frame */
    uint32_t *reason;           /* out: not 0 while motion is latched */
    uint8_t *taken;             /* per core: the pool's own */
    void *record;               /* out, per row: of the last turn's frame; NULL: not wanted */
    uint64_t record_size;
};
typedef struct inphase_batch inphase_batch;

/* Start the pool of so many threads beside the caller's, which block all signals. 0, -EINVAL for
   too many, or the negative errno of pthread_create. Thread: any. */
int inphase_batch_open(inphase_batch **out, uint32_t threads);
void inphase_batch_close(inphase_batch *batch);
/* Each core is answered and run to its next frame, `turns` times; one that ends earlier has its
   error at all turns from there on. It returns when all are through. Thread: one at a time, and no
   other one touches these cores. */
void inphase_batch_turn(inphase_batch *batch, const struct inphase_batch_work *work);

/* ---- video capture --------------------------------------------------------------------- */

/* A camera behind Video4Linux: one plane, memory-mapped buffers. Not for the cycle thread: these
   calls go into the kernel's drivers and may wait. Threads: any, one at a time. Every function may
   also return -ENODEV or -EIO: the camera is gone. */
#define INPHASE_VIDEO_BUFFERS 32    /* most that a driver may make of those asked for */

/* in: the wanted format; out: the granted format, which the caller has to compare */
struct inphase_video_format {
    uint32_t width, height;
    uint32_t fourcc;            /* V4L2's code, first letter in the low byte */
    uint32_t line_bytes;        /* out: from one line to the next, padding included */
    uint32_t image_bytes;       /* out: room for one image */
    uint32_t interlaced;        /* out: 1 when an image is not of one instant */
    uint32_t interval, per;     /* from image to image: interval / per seconds, as a fraction since
                                   drivers compare it exactly; in: 0 leaves it; out: 0: not known */
};

/* the clock of an image's stamp */
#define INPHASE_VIDEO_CLOCK_UNKNOWN 0   /* old drivers: the wall clock, or worse */
#define INPHASE_VIDEO_CLOCK_MONOTONIC 1
#define INPHASE_VIDEO_CLOCK_COPY 2      /* of another buffer: no clock of a camera */

/* the instant that it marks */
#define INPHASE_VIDEO_END_OF_FRAME 0    /* the host had received the last byte, about */
#define INPHASE_VIDEO_START_OF_EXPOSURE 1

struct inphase_video_image {
    const uint8_t *bytes;       /* the driver's buffer: valid until the next call */
    uint32_t size;              /* bytes in it */
    uint32_t sequence;          /* the driver's count of frames, those that it lost included */
    uint32_t broken;            /* 1: the driver says that the image is damaged */
    uint32_t drained;           /* older images that were given back unread */
    uint32_t clock;             /* INPHASE_VIDEO_CLOCK_* */
    uint32_t marks;             /* what the stamp marks */
    int64_t stamp_ns;           /* to the microsecond */
    int64_t received_ns;        /* when it was taken from the driver, CLOCK_MONOTONIC */
};

typedef struct inphase_video inphase_video;
/* Open a camera, set format and interval, map buffers. -ENOTTY: not a V4L2 device; -ENOTSUP: it
   does not capture into mapped buffers of one plane; -EBUSY: another process captures; -ENOMEM;
   -E2BIG: more buffers than the bound above. Ends with inphase_video_close. */
int inphase_video_open(inphase_video **out, const char *path, struct inphase_video_format *format,
                       uint32_t buffers);
void inphase_video_close(inphase_video *video);
/* The pixel formats of a camera, at most `room` of them; returns their number. */
int inphase_video_offered(const char *path, uint32_t *fourcc, uint32_t room);
/* Set a control and read it back. -EINVAL: the camera has no such control; -ERANGE. */
int inphase_video_control(inphase_video *video, uint32_t id, int32_t *value);
/* The stream on and off. */
int inphase_video_start(inphase_video *video);
void inphase_video_stop(inphase_video *video);
/* Give back all images that wait in the driver, unread; returns their number. */
int inphase_video_flush(inphase_video *video);
/* Wait for the newest image and hold its buffer; the buffer held before goes back to the driver. If
   all buffers are full, the driver has halted and its images are old: they are given back, and the
   call waits for the next image. -ETIMEDOUT, -EINTR, -EINVAL (not started). */
int inphase_video_next(inphase_video *video, int64_t timeout_ns, struct inphase_video_image *image);
/* Give the held buffer back, after its image was copied. */
int inphase_video_release(inphase_video *video);

/* ---- players ---------------------------------------------------------------------------- */

/* A store that no core writes: a recorded robot's frames, played to readers as they are. */
typedef struct inphase_player inphase_player;
/* Make one, as a core's store before its first cycle. Of config count the payloads and depths of
   the sensors, the channels of the actuators, frame_depth, epoch and description; virtual_time is
   1. -EINVAL: it breaks a bound. -ENOMEM. Thread: one at a time. Ends with inphase_player_close. */
int inphase_player_open(inphase_player **out, const struct inphase_config *config);
void inphase_player_close(inphase_player *player);
/* Its segment, to be handed out as a core's; it stays the player's. */
inphase_segment *inphase_player_segment(inphase_player *player);
/* Put sample number `sequence` of a sensor into its ring, before the first frame that names it.
   -EINVAL: there is no such sensor or number. */
int inphase_player_sample(inphase_player *player, uint32_t sensor, int64_t sequence,
                          const void *payload);
/* Publish a frame's record of `size` bytes, and wake all readers. -EINVAL: the record has another
   size. */
int inphase_player_frame(inphase_player *player, const void *record, uint64_t size);

/* ---- counting what a thread runs --------------------------------------------------------- */

#define INPHASE_WATCHED_CALLS 8
struct inphase_watched {
    uint64_t low, high;             /* addresses from low on, before high */
    uint64_t allocates[8];          /* entries of functions; 0: none */
    uint64_t copies[8];             /* likewise, with a size as third argument */
};
/* what the calling thread ran in user space */
struct inphase_ran {
    int64_t instructions;           /* a string instruction counts once for each repetition */
    int64_t own;                    /* of them, those at a watched address */
    int64_t calls;                  /* system calls */
    int64_t allocations;            /* how often an address of `allocates` was reached */
    int64_t copied;                 /* sum of the third argument at an address of `copies` */
};
/* Count what the calling thread runs from here to inphase_trap_end, by a trap (SIGTRAP) after each
   instruction. One thread of a process at a time. A thread that blocks all signals meanwhile, as
   pthread_create does, ends the process. -ENOTSUP: not on this kind of processor. Thread: any; not
   one of a robot that moves. */
int inphase_trap_begin(const struct inphase_watched *watched, struct inphase_ran *out);
int inphase_trap_end(void);

/* ---- for whoever needs a clock and a process rule -------------------------------------- */

int64_t inphase_now(void);
/* Set lines of a GPIO line request (linux/gpio.h, GPIO_V2_LINE_SET_VALUES_IOCTL): bit n of mask and
   value is the n-th line of the request. One system call. 0 or a negative errno. Any thread. */
int inphase_gpio_set(int fd, uint64_t mask, uint64_t value);
/* Read lines of a request, likewise; 0 and *value, or a negative errno. */
int inphase_gpio_get(int fd, uint64_t mask, uint64_t *value);
/* End this process (SIGTERM) when the thread that started it ends. 0 or a negative errno. */
int inphase_die_with_parent(void);
/* Wait until the word at address differs from value. A bare futex, for yardsticks. */
int inphase_futex_wait(const uint32_t *address, uint32_t value, int64_t timeout_ns);
