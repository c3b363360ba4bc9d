/* What the core's files share. Every field says who writes it. */
#pragma once

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../inphase.h"
#include "guard.h"
#include "limiter.h"

#define MAGIC 0x65736168706e69ULL /* "inphase" */
#define STORE_VERSION 2
#define SLOT_HEADER 64
#define MAX_FAULTS 256
#define STOP_NS 1300000000LL /* a ramp that has not ended by then is cut: a stop is under 2 s */
#define REST_SPEED 0.05 /* where the configuration says nothing */
#define REFUSED_IN_A_ROW 3 /* replies or commands: then they count as gone */
#define RECEIVES_PER_CYCLE 64 /* of one sensor: a line that babbles is left alone for the rest */
#define LOOKS_PER_CYCLE 1024 /* of one that runs by itself: what is behind is the newest */
#define HIST_SUB_BITS 7
#define HIST_BUCKETS ((40 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

/* ---- store ------------------------------------------------------------------------------ */

struct inphase_segment {
    uint8_t *memory;
    uint64_t size;
    int fd;                      /* with the writer's lock, or to ask for it; -1: another writes too */
    int handed;                  /* what others get, -1: it is not ours to hand over */
    bool writer;
};

/* a slot of a ring; sequence is 2n + 1 while sample n is written and 2n + 2 when it is whole */
struct slot {
    _Atomic uint64_t sequence;
    uint8_t unused[SLOT_HEADER - sizeof(uint64_t)];
    _Atomic uint64_t payload[];
};

/* head of a worker's segment; its ring is at POST_RING, as the core's layout says. The runtime
   writes what is constant, the worker all else */
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
    int64_t stops;               /* 1: what brings a device to rest that was away */
    double value[];
};
#define ORDER_SLOTS 8

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
    _Atomic uint32_t starved;    /* bit per actuator: its worker asks its device for nothing */
    _Atomic uint32_t estops;     /* emergency stops so far; any thread adds */
    _Atomic uint32_t over;       /* 1: no cycle follows */
};

struct histogram {
    _Atomic uint64_t count;
    _Atomic int64_t min, max;
    _Atomic uint64_t bucket[HIST_BUCKETS];
};

/* the cycle thread writes, anyone reads; single counters are exact, together they may be one
   cycle apart */
struct statistics {
    _Atomic int64_t counts[20]; /* in the order of struct inphase_counts */
    _Atomic int64_t reasons[INPHASE_REASONS];
    _Atomic int64_t statuses[INPHASE_MAX_SENSORS][INPHASE_STATUSES];
    _Atomic int64_t clock[INPHASE_MAX_SENSORS][6]; /* in the order of struct inphase_clock_facts */
    _Atomic uint32_t worst_count;
    _Atomic int64_t worst_cycle[INPHASE_WORST], worst_late_ns[INPHASE_WORST];
    _Atomic int32_t worst_phase[INPHASE_WORST], worst_device[INPHASE_WORST];
    struct histogram histogram[]; /* INPHASE_HIST_SENSORS + sensors */
};
enum count {
    COUNT_COMMANDS, COUNT_MISSED, COUNT_INVALID, COUNT_REPEATED, COUNT_RAMPED, COUNT_LIMITED,
    COUNT_WRITTEN, COUNT_BUSY, COUNT_LATE_SAMPLES, COUNT_SLIPS, COUNT_DROPPED_BYTES,
    COUNT_DUPLICATES,
    COUNT_FOREIGN_FRAMES, COUNT_ERROR_PASSIVE,
    COUNT_LATE_ANSWERS, COUNT_STALE, COUNT_REFUSED_ANSWERS, COUNT_STARVED, COUNT_DROPPED,
    COUNT_PASSED
};

/* The policy's mailbox: the policy writes, the core reads. Its slots lie at MAILBOX_RING: post
   number n is in slot n modulo MAILBOX_SLOTS, with the protocol of a ring's slots */
#define MAILBOX_SLOTS 8
#define MAILBOX_RING 64
struct mailbox {
    uint64_t magic, epoch;
    uint32_t version, values;    /* doubles of an answer */
    _Atomic uint64_t head;       /* posts made */
};
_Static_assert(sizeof(struct mailbox) <= MAILBOX_RING, "the head lies before the slots");

/* payload of a slot: what the policy answers to the frame of a cycle */
struct mail {
    int64_t cycle, posted_ns, valid_until_ns;
    uint32_t reason, values;     /* values: how many were posted */
    double value[];
};

/* at the end of the mailbox's segment, on pages of its own: the policy writes, anyone reads */
struct policy_facts {
    _Atomic int64_t taken_ns;       /* when the frame was taken that is being answered, 0: none */
    struct inphase_sandbox sandbox; /* before the first command, then constant */
    struct histogram inference;
};
#define POLICY_FACTS_BYTES ((sizeof(struct policy_facts) + 4095) / 4096 * 4096)
/* a command was posted: from the frame that it answers, if that was noted */
void policy_facts_posted(inphase_segment *segment, int64_t posted_ns);

/* A page with one word, on which one other process waits. The core alone writes it, and nobody else
   has it: a stranger who waited on it would be woken instead */
#define BELL_BYTES 4096

#define ESTOP_PAGE_BYTES 4096
/* emergency stops of clients: the gateway writes, the core reads */
struct estop_page {
    uint64_t magic, epoch;
    uint32_t version;
    _Atomic uint32_t stops;      /* asked for so far */
};

/* from here on another process alone writes to a segment made here; *out only where that is so, else it
   is closed */
int segment_leave(inphase_segment **out, inphase_segment *segment);
/* 1 while the writer of the segment behind fd lives, 0, or a negative errno */
int writer_alive(int fd);
uint64_t ring_stride(uint64_t payload);
/* whether a part of so many bytes lies in a segment of that size */
bool part_fits(uint64_t offset, uint64_t bytes, uint64_t size);
/* whether a ring's parts lie in a segment of that size */
bool ring_fits(const struct inphase_ring *ring, uint64_t size);
/* copy a published layout and check the copy, which alone is then used: the writer may change its own
   at any time. false: it is none of ours, or a part of it leads out of the segment */
bool layout_copy(struct inphase_layout *to, const inphase_segment *segment);
struct slot *ring_slot(uint8_t *memory, const struct inphase_ring *ring, uint64_t number);
void slot_write(struct slot *slot, uint64_t number, const void *payload, uint64_t size);
bool slot_read(const struct slot *slot, uint64_t number, void *payload, uint64_t size);
/* the head of the segment of a sensor's worker; NULL: it is not as the core's layout says */
/* a sample in its slot, to be checked with inphase_reader_intact after it was read; NULL: none */
const void *reader_sample(const inphase_reader *reader, uint32_t sensor, int64_t sequence);
/* number of the newest frame, -1: none yet */
int64_t reader_newest(const inphase_reader *reader);
const struct post *post_of(const inphase_segment *segment, const struct inphase_layout *layout,
                           uint32_t sensor);
/* wake up to count of those who wait on a word */
void futex_wake(const _Atomic uint32_t *word, int32_t count);
/* now + timeout, or the end of time: callers wait for ever with INT64_MAX */
int64_t deadline_after(int64_t timeout_ns);
/* bytes of a mailbox for answers of so many doubles */
uint64_t mailbox_bytes(uint32_t values);
uint64_t mailbox_head(const struct mailbox *mailbox);
/* as slot_write, of a head and the values behind it; one writer */
void mailbox_put(struct mailbox *mailbox, const struct mail *mail, const double *values);
/* copy post `number` of answers of so many doubles to *out, which is not checked; false: it is being
   written, or written over */
bool mailbox_read(const struct mailbox *mailbox, uint32_t values, uint64_t number, struct mail *out);

/* ---- statistics ------------------------------------------------------------------------- */

void histogram_add(struct histogram *histogram, int64_t value);
void histogram_quantiles(const struct histogram *histogram, struct inphase_quantiles *out);
void count_add(struct statistics *statistics, enum count which, int64_t amount);
void worst_add(struct statistics *statistics, int64_t cycle, int64_t late_ns, int phase,
               int device);

/* ---- packets ---------------------------------------------------------------------------- */

#define MAX_REPLIES 32
#define MAX_CHECKS 256
#define MAX_FIELDS 256
#define MAX_CHUNKS 64 /* of one command */

/* an exchange with its arrays held in place: nothing points outside */
struct exchange {
    uint8_t request[INPHASE_MAX_PACKET];
    struct inphase_reply reply[MAX_REPLIES];
    struct inphase_check check[MAX_CHECKS];
    struct inphase_field field[MAX_FIELDS];
    struct inphase_exchange spec; /* its pointers point at the arrays above */
};

struct inphase_parser {
    struct exchange exchange;
    uint8_t bytes[INPHASE_MAX_PACKET];
    uint32_t size;        /* bytes held */
    uint32_t replies;     /* complete so far */
    uint32_t complete;    /* which ones: a bit each; of CAN frames, which come in any order */
    uint32_t foreign;     /* CAN frames that no reply wanted */
    uint32_t left_over;   /* CAN frames of replies that were complete */
    uint32_t dropped;     /* bytes thrown away while looking for a packet */
    uint32_t taken;       /* bytes that the last feed took in */
    bool more;            /* bytes are held that were not looked at yet */
    uint64_t sequence;    /* of the last complete set, when the exchange has one */
    uint64_t clock;       /* the device's time in it, likewise */
    uint32_t reason, detail;
    double value[INPHASE_MAX_CHANNELS];
};

int exchange_copy(struct exchange *to, const struct inphase_exchange *from);
void parser_reset(struct inphase_parser *parser);
/* on to the next set of replies, of which bytes may be here already */
void parser_next(struct inphase_parser *parser);
/* 1 complete, 0 more is needed, -EBADMSG refused (reason, detail). It stops at the first packet that
   completes a set or is refused: `taken` says how many bytes it took in, and with `more` a feed of
   no bytes goes on */
int parser_feed(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size);
double raw_to_double(const uint8_t *bytes, uint32_t type, bool big_endian);

/* ---- devices ---------------------------------------------------------------------------- */

struct inphase_core;
struct sensor;
struct actuator;
struct device;

/* what a receive gave; EMPTY: there was nothing to read */
enum received { RECEIVED_EMPTY, RECEIVED_PART, RECEIVED_SAMPLE, RECEIVED_REFUSED };

/* who answers: a descriptor or a twin. All return 0 or a negative errno, which means that the
   device is gone. */
struct device_ops {
    bool pairs;                  /* fires by itself, and its samples name their trigger's cycle */
    int (*trigger)(struct inphase_core *core, struct sensor *sensor, int64_t now_ns);
    /* read what is there, at most a bounded number of bytes; *got says what came of it */
    int (*receive)(struct inphase_core *core, struct sensor *sensor, enum received *got);
    /* what is applied; or the actuator's stop, where it `stops` */
    int (*write)(struct inphase_core *core, struct actuator *actuator);
};
extern const struct device_ops fd_ops, twin_ops, worker_ops;
/* a descriptor's receive stamps and error frames, where it has them; any thread */
void fd_prepare(int fd, bool can);

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
    _Atomic uint64_t wanted;     /* supervisor: generation, and what is wanted since: WANTED_* */
    _Atomic uint64_t use;        /* cycle thread: generation of the wish taken, and USE_* */
    uint32_t lost_reason, lost_detail; /* cycle thread: beside OFFLINE; 0: the errno says it all */
};

/* the low halves of a device's two words; the high ones are the generation, so that an answer to an
   older wish is never taken for one to the newest */
#define WANTED_NONE 0u           /* no device */
#define WANTED_FD 2u             /* this and more: descriptor + WANTED_FD, which may be -1 */
#define USE_ATTACHED 0x80000000u
#define USE_ERRNO 0xffffu        /* with which it was lost; 0: it was not */

/* a sample as a frame names it */
struct sample {
    int64_t sequence;            /* its number in the ring, -1: none */
    int64_t cycle;               /* whose trigger gave it, -1: none did */
    int64_t triggered_ns, acquired_ns, received_ns, uncertainty_ns;
    bool trusted;                /* it was FRESH, or late but in order, and not RECOVERING */
    double value[INPHASE_MAX_CHANNELS]; /* last: see copy_sample */
};

/* a sample that a simulated device takes, or has taken, and that is still under way */
struct coming {
    int64_t at_ns;               /* when it is acquired */
    int64_t ready_ns;            /* when its last byte is in, INPHASE_ABSENT: never */
    int64_t cycle;               /* that faults and draws go by */
    uint64_t key;                /* of draws: the cycle, or the number of a free-running sample */
    uint64_t sequence;           /* the device's */
    uint32_t reason;             /* planned refusal */
    bool taken;                  /* values and payload are there */
    double value[INPHASE_MAX_CHANNELS];
    uint8_t *payload;            /* of a sample that is not float64 alone; NULL: it is */
};

/* Who answers as a sensor in lock step. The caller's thread writes it. A triggered device has one
   sample under way; one that runs by itself has a queue of them, oldest first */
struct twin {
    struct inphase_twin spec;    /* its pointers point at what follows */
    struct inphase_twin_channel channel[INPHASE_MAX_CHANNELS];
    bool is_stamped;             /* its worker, or the kernel, says when a sample came */
    struct coming *coming;       /* `room` of them */
    uint32_t room, first, count;
    uint64_t number;             /* of a free-running device: samples begun */
    uint64_t sequence;           /* of the last sample that was new */
    uint64_t stands_until;       /* `drawn` up to which a drawn freeze lasts */
    uint64_t drawn;              /* samples taken, frozen ones included */
    double value[INPHASE_MAX_CHANNELS]; /* of the last sample, before a planned fault */
    uint8_t *payload;            /* of the last sample */
    uint8_t *given;              /* payload of the sample that was given last; NULL: no such */
    uint64_t shown;              /* of a free-running device: the sample that was given last */
    double shown_value[INPHASE_MAX_CHANNELS];
};

#define EFFECTS 64               /* commands of one actuator under way to their effect */
struct effect {
    int64_t at_ns;
    double value[INPHASE_MAX_CHANNELS];
};

/* what an actuator moves in lock step: servos of its own, or the world. The caller's thread writes */
struct plant {
    struct inphase_servo servo[INPHASE_MAX_CHANNELS];
    int64_t servo_ns;            /* up to which they have moved */
    bool in_world;
    double *control[INPHASE_MAX_CHANNELS];
    double gain[INPHASE_MAX_CHANNELS];
    struct inphase_distribution delay;
    struct effect effect[EFFECTS];
    uint32_t first, count;
};

/* what is known of an actuator's rest, from the worst: see rest.c */
enum rest { REST_UNKNOWN, REST_MOVES, REST_KNOWN };
/* an act's write is a command, or the stop of an actuator that is owed one */
enum stops { STOPS_NOT, STOPS_VALUES, STOPS_BYTES };

/* everything but the configuration is the cycle thread's */
struct sensor {
    struct device *device;
    uint32_t index, channels, recover, frozen_after;
    uint32_t offset[INPHASE_MAX_CHANNELS];
    uint64_t payload;
    bool latched;                /* never triggered */
    bool has_line;               /* a trigger raises this line, for at least so long */
    int line_fd;
    int64_t pulse_ns;
    int64_t trigger_ns, every, latency_cycles, max_age_ns;
    double low[INPHASE_MAX_CHANNELS], high[INPHASE_MAX_CHANNELS], rate[INPHASE_MAX_CHANNELS];
    struct inphase_parser parser;

    /* the last trigger */
    int64_t cycle;               /* in which it fired, -1: none did */
    int64_t triggered_ns;
    bool line_is_up;             /* the trigger line was raised, and not yet lowered */
    bool outstanding;            /* triggered, reply not complete */
    bool dirty;                  /* the last exchange did not end cleanly: drain before a trigger */
    bool suspect;                /* which trigger the next reply answers is not known for sure */
    uint32_t owed;               /* triggers whose reply was not seen, since the line was trusted */
#define OWED_NOT_KNOWN INT32_MAX
    uint32_t clean_turns;        /* while suspect: triggers in a row with an empty input before them
                                    and none unanswered */
    bool behind;                 /* its count says that triggers before the last one are unanswered */
    bool slipped;                /* something of another trigger came since the last trigger */
    int64_t heard_ns;            /* while suspect: something was read last */
    int64_t earliest_ns;         /* constant: no reply is whole sooner after its trigger */
    bool repeated;               /* it got a reply that had come before */
    bool fresh, frozen, refusal; /* what came of it */
    uint32_t reason, detail;     /* of a refusal */

    uint64_t bytes_in;           /* read from the device so far... */
    uint64_t bytes_asked;        /* ...before the last trigger */
    uint64_t asked;              /* triggers so far */
    uint64_t paired_asked, paired_sequence; /* triggers, and the device's number, when a sample was
                                    trusted last */
    uint32_t counts;             /* trusted samples in a row whose number went on by one per trigger */
    uint32_t receives;           /* in this cycle, bounded */
    uint32_t status;             /* at the last latch */

    struct sample newest;        /* what frames name */
    struct sample early;         /* arrived before the frame that it is due in; sequence -1: none */
    int64_t early_due;           /* that frame's cycle */
    int64_t next_sequence;       /* number of the next sample in the ring */
    uint64_t device_sequence;
    bool device_sequence_known;  /* and the next one must be later */
    bool device_sequence_seen;   /* at all: the next one must be another */
    uint32_t identical;          /* samples in a row with the same bits */
    uint32_t recovering;         /* good replies still needed */
    uint32_t refused_in_a_row;

    /* the device's clock */
    struct inphase_device_clock clock;
    int64_t clock_ticks, clock_first; /* last and first, unwrapped */
    bool clock_known;

    struct inphase_posted stamps; /* of what was received last */
    uint64_t posted;             /* a worker's: number of the sample to look at next */

    struct twin *twin;           /* who answers in lock step; NULL: a device does */
};

struct actuator {
    struct device *device;
    uint32_t index, channels, first_value; /* first_value: offset in a policy's command */
    struct sensor *feedback;               /* NULL: moves blind */
    uint32_t feedback_channel, measures, velocity_channel, effort_channel; /* what of it is known */
    uint32_t feedback_kind;                /* INPHASE_FEEDBACK_* */
    uint32_t accepts, watchdog;
    uint32_t mode;                         /* INPHASE_MODE_* of all channels */
    int64_t max_hold_ns;
    struct inphase_limiter limiter[INPHASE_MAX_CHANNELS];
    struct inphase_workspace workspace;    /* joints 0: none */
    struct inphase_joint joint[INPHASE_MAX_CHANNELS];
    struct inphase_encoding encoding;
    uint8_t packet[INPHASE_MAX_PACKET];
    struct inphase_field field[INPHASE_MAX_CHANNELS];
    struct inphase_stop stop;    /* its bytes are in stop_bytes */
    uint8_t stop_bytes[INPHASE_MAX_PACKET];
    double rest_speed;           /* constant: what is measured to be slower is at rest */
    _Atomic int enabled;         /* supervisor */
    _Atomic uint32_t enables;    /* supervisor: how often its driver has made it ready, at a stand */
    _Atomic int guarded;         /* supervisor */
    _Atomic uint32_t guard_losses; /* supervisor: how often nothing guarded it any more */
    /* supervisor, before `enabled`: goals that the device holds at, NAN: where it is measured; taken
       by the cycle thread, once, as motion is placed */
    _Atomic double holds[INPHASE_MAX_CHANNELS];
    bool guards_itself;          /* or nobody minds */
    bool off_on_estop;
    bool coasts;                 /* without a command it carries on, and is brought to rest */

    /* cycle thread */
    uint32_t guard_losses_seen;  /* at the latch before */
    bool off;                    /* an emergency stop is over that takes power away: see arm */
    bool placed;                 /* motion is where the robot is, or was commanded */
    bool engaged;                /* a command was accepted since placed */
    bool starved;                /* nothing is written, so that the device's watchdog trips */
    int64_t rests_since_ns;      /* the ramp has come to rest, ABSENT: it has not */
    int64_t moved_cycle;         /* of the last act that motion knows of */
    int64_t valid_ns;            /* act time of the last command valid for its own cycle */
    uint32_t invalid_in_a_row;
    double requested[INPHASE_MAX_CHANNELS];
    struct inphase_motion motion[INPHASE_MAX_CHANNELS];
    double applied[INPHASE_MAX_CHANNELS]; /* of motion, as it goes out */
    uint32_t flags, reason, detail;

    /* rest, and the stop that is owed: cycle thread */
    bool commanded;              /* ever: a command was written */
    bool driven;                 /* in the last act, or in all since the last but that */
    bool owed;                   /* it was told to move, and nobody has stopped it */
    enum stops stops;            /* what is being written is that stop */
    uint32_t told;               /* stops so far, since it is owed */
    uint32_t enables_seen;       /* when it came to be owed */
    enum rest rest;              /* by its feedback, while anybody asks */
    int64_t rest_sequence;       /* of the sample that was looked at last */
    int64_t rest_from_ns;        /* when it was where it is compared with, ABSENT: no such yet */
    double rest_from[INPHASE_MAX_CHANNELS];
    _Atomic uint32_t moves;      /* it is measured to move; the supervisor reads it */
    _Atomic uint32_t loose;      /* it is not known to be at rest; likewise */

    struct plant *plant;         /* what it moves in lock step; NULL: a device */
};

/* ---- the limiter ------------------------------------------------------------------------ */

/* hold back what is allowed of an actuator's joints, that were at `from` one period ago, until the
   tool is and stays in its box; the axis along which it would have left it, 3: it would not */
uint32_t workspace_hold(const struct actuator *actuator, const struct inphase_motion *from,
                        struct inphase_motion *motion);

/* ---- clock ------------------------------------------------------------------------------ */

struct clock_ops {
    int64_t (*now)(struct inphase_core *core);
    void (*sleep_until)(struct inphase_core *core, int64_t time_ns);
    /* until a device has something to read, or time_ns; fills each sensor's `readable` mark */
    void (*wait)(struct inphase_core *core, int64_t time_ns);
    int64_t (*wall)(struct inphase_core *core);
    /* a clock that goes on while the machine is suspended, less this one; too small where the thread
       was held up between the two, and never too large */
    int64_t (*boot_offset)(struct inphase_core *core);
};
extern const struct clock_ops monotonic_clock, virtual_clock;

/* ---- the world -------------------------------------------------------------------------- */

struct world {
    struct inphase_world spec;   /* step NULL: there is none */
    int64_t now_ns;              /* where it stands */
    int64_t whole_steps;         /* grid points passed */
    bool is_derived;             /* a forward pass was made since it last moved or was commanded */
    int failure;                 /* as struct inphase_world_failure says */
    int32_t warned[32];          /* counts at the start */
    char message[256];
};

/* move on to to_ns; false: it has failed, and nothing more is to be read from it */
bool world_advance(struct world *world, int64_t to_ns);
/* a forward pass, where one is needed; likewise */
bool world_derive(struct world *world);
bool world_render(struct world *world, uint32_t sensor, void *payload);
void world_fail(struct world *world, int failure, const char *message);

/* ---- the plan of setpoints ----------------------------------------------------------------- */

/* what one cycle's command was answered with; its values are in the plan, beside it */
struct knot {
    int64_t cycle;               /* that it is for; -1: empty */
    int64_t posted_ns, valid_until_ns;
    uint32_t reason;             /* why there is no command, 0: there is one */
};

#define LATENCIES 64             /* answers over which the latency's quantile is taken */
#define LATCHES 64               /* latches kept, of frames that may still be answered */

/* What the policy's answers say of this and of coming cycles: setpoint.c. The cycle thread's, but for
   what is constant */
struct plan {
    int64_t every, latency, spacing, fade; /* constant, cycles; spacing: from command to command */
    uint32_t chunk, join, interpolate;     /* constant */
    uint32_t values, answer;     /* constant: doubles of a command, and of a whole answer */
    uint64_t room;               /* constant: knots in the ring, a power of two */
    uint64_t size;               /* constant: bytes of memory */
    uint8_t *memory;             /* constant: all that is pointed at below */
    struct knot *knot;
    double *value;               /* values per knot */
    uint8_t *steps;              /* constant: per value, 1: a switch's, between two there is nothing */
    struct mail *mail;           /* what was read from the mailbox last */

    uint64_t seen;               /* posts looked at */
    int64_t newest;              /* cycle of the newest frame that was answered, -1: none */

    /* the setpoint that was given last: where interpolation goes on from */
    int64_t at;                  /* its cycle; -1: none to go on from */
    double *setpoint, *slope;    /* slope: per cycle */
    int64_t aimed;               /* cycle of the knot that it was on its way to, -1: it was at one */
    double *aim;                 /* slope with which it was to arrive there */

    uint32_t latencies, next_latency;      /* measured so far, at most LATENCIES; oldest */
    uint32_t measured[LATENCIES];          /* cycles, in the order they came */
    uint32_t sorted[LATENCIES];
    struct { int64_t cycle, latched_ns; } latch[LATCHES];
};

/* memory for what the configuration says; -EINVAL: a bound of inphase.h is broken; -ENOMEM */
int plan_make(struct inphase_core *core, const struct inphase_policy_timing *config);
void plan_free(struct plan *plan);
/* nothing that was answered so far is a command any more */
void plan_forget(struct inphase_core *core);
/* take what was posted, and put the command of this cycle into core->command; NONE, or why there is
   none. At the act */
uint32_t plan_follow(struct inphase_core *core, int64_t now_ns);

/* the policy as a server on virtual time */
struct server {
    int64_t free_ns;             /* when it is done with the frame that it took last */
    int64_t started_ns;          /* when it took that frame */
    int64_t number, cycle;       /* of that frame; number -1: none yet */
    bool owes;                   /* it has not answered yet */
    int64_t latest;              /* the newest frame; -1: none yet */
    int64_t due, due_cycle;      /* the newest one that the policy takes; -1: none yet */
    double *command;             /* room for an answer of a native policy */
    bool pending;                /* the newest frame's cycle has not acted yet */
};

/* ---- waking readers --------------------------------------------------------------------- */

struct relay {
    _Atomic uint32_t *word;      /* the cycle thread adds, the relay waits; NULL: it does not run */
    _Atomic int over;            /* whoever closes the core */
    const struct state *state;   /* constant */
    pthread_t thread;
};

int relay_start(struct relay *relay, const struct state *state);
void relay_end(struct relay *relay);
/* Frame `number` - 1 is latched: wake who waits on the bell (NULL: none), and have the relay wake all
   others. Cycle thread; one system call */
void relay_ring(const struct relay *relay, _Atomic uint32_t *bell, uint32_t number);

/* ---- the core --------------------------------------------------------------------------- */

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
    uint32_t sleeps;             /* of this cycle so far: each has a lateness of its own */
    int64_t event_ns;            /* nothing happens in the simulated devices before */

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
    int64_t wall_offset_ns, wall_error_ns; /* the wall clock less ours, once per cycle */
    int64_t wall_looked_ns;      /* when */
    int64_t wall_since_ns;       /* it has not been set since: triggers from then on can be stamped */
    bool wall_known;
    int64_t boot_offset_ns;      /* the largest so far: by how much the machine was suspended */
    bool boot_known;
    int64_t worst_late_ns;       /* in this cycle, where and by which device */
    int worst_phase, worst_device;
    uint32_t order[INPHASE_MAX_SENSORS]; /* that the core triggers, by offset; constant */
    uint32_t triggered;          /* how many those are; constant */
    struct pollfd poll[INPHASE_MAX_DEVICES];
    bool readable[INPHASE_MAX_SENSORS];
    struct plan plan;
    double command[INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS];
    int64_t acted_cycle, acted_ns, inferred_ns;
    int64_t noted_page_faults;
    int32_t overrun_level;
    int64_t overran;             /* grid points that this cycle's wake left out */
    int64_t stop_cycle;          /* first cycle of the final ramp; -1: there is none yet */

    /* states; cycle thread */
    bool is_live;                /* armed at least once: what was not is not written to */
    bool wants_arm;              /* asked for, and not granted yet */
    bool is_latched;             /* this cycle's frame is: commands to it are of its epoch */
    bool told_stop;              /* a frame said STOPPED, after a stop */
    bool is_over;                /* no cycle follows */
    bool watches_rest;           /* something is to come to rest: feedback is looked at for it */
    int64_t epoch_cycle;         /* commands to frames before it are dropped */
    int64_t latched_cycle;       /* in which motion was latched */
    uint32_t estop_inputs;       /* constant */
    struct inphase_estop_input estop[INPHASE_ESTOP_INPUTS]; /* constant */
    int estop_fd[INPHASE_ESTOP_INPUTS]; /* constant; -1: none */
    bool estop_seen;             /* the inputs were looked at */
    const struct estop_page *estop_page; /* constant; NULL: no client can reach us */
    uint32_t estop_page_seen;    /* stops taken up */

    /* what the guard is left; cycle thread, once it runs */
    struct {
        struct guard_page *page; /* NULL: there is no guard */
        struct guard_record record; /* the next one, as far as it is known */
        struct robust_list_head robust; /* how the kernel tells the cycle thread's death */
        struct robust_list entry;
        const struct guard_life *life; /* constant, and changed by the guard; NULL: there is none */
        int64_t awake_ns;        /* when this thread, held up itself, found forgiven_ns */
        int64_t forgiven_ns;     /* beat of the guard that counts from awake_ns on */
        uint32_t spared_seen;    /* of its page's spared, at the last look */
    } guard;

    /* any thread writes, the cycle thread reads */
    _Atomic uint64_t stop;       /* reason in the upper half, detail in the lower; 0: none */
    _Atomic uint64_t latch_request; /* likewise; taken back to 0 */
    _Atomic uint32_t arm_requests, arm_withdrawn, policy_gone;
    _Atomic uint32_t arm_estops; /* emergency stops that the last request to arm knows of */
    _Atomic uint32_t estop_request; /* INPHASE_ESTOP_LOCAL or _CLIENT; taken back to 0 */
    _Atomic uint32_t beats;      /* of the supervisor; 0: none is asked for */
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

void cycle_begin(struct inphase_core *core);
bool cycle_latch(struct inphase_core *core);
void cycle_act(struct inphase_core *core);
void *cycle_main(void *core);
void stage_collect(struct inphase_core *core);
void stage_act(struct inphase_core *core);
/* hold motion, with the first reason that there was, until inphase_core_arm; ESTOP replaces any */
void latch_motion(struct inphase_core *core, uint32_t reason, uint32_t detail);
/* what follows from what the cycle has found so far; at the latch and after the act */
void state_follow(struct inphase_core *core);
void state_set(struct inphase_core *core, uint32_t to);
/* begin the ramp that ends the run; at the start of a cycle */
void state_stop(struct inphase_core *core, uint32_t reason, uint32_t detail);
void state_end(struct inphase_core *core);
bool all_at_rest(const struct inphase_core *core);
/* take up a request to arm, or to take it back: reads begin again; before the triggers */
void state_take_requests(struct inphase_core *core);
/* latch motion that nothing else would stop; at the latch */
void state_watch_guards(struct inphase_core *core);
/* likewise, when the supervisor asks for it or is silent */
void state_watch_supervisor(struct inphase_core *core);
/* grant the request that waits, or say why not; at the latch, when the statuses are known */
void state_grant(struct inphase_core *core);
/* look at the inputs of the emergency stop; before anything is written */
void estop_look(struct inphase_core *core);
/* look at what moves, while anybody asks; at the latch, when the statuses are known */
void rest_look(struct inphase_core *core);
enum rest rest_of(const struct actuator *actuator);
enum rest rest_of_all(const struct inphase_core *core);
/* its device is gone: what was told to move is owed a stop */
void rest_lost(struct actuator *actuator);
/* an emergency stop reaches whatever is attached, also what is not commanded; before the act */
void rest_estop(struct inphase_core *core);
/* an actuator that is not commanded in this act. true: it is owed a stop, which is ready to be written:
   `stops` says how, and the values of one of values are in `applied` */
bool rest_prepare_stop(struct inphase_core *core, struct actuator *actuator, int64_t now_ns);
/* and after the write, successful or not */
void rest_note_stop(struct actuator *actuator);
/* the only place in which anything leaves for a device that can move: what is applied, which came from
   the limiter, or an owed stop */
void write_command(struct inphase_core *core, struct actuator *actuator);
bool feedback_is_good(const struct actuator *actuator, int64_t now_ns);
/* can motion begin, as far as nothing measures it? One that is measured begins where it is measured */
bool place_is_known(const struct actuator *actuator);
void note_late(struct inphase_core *core, int64_t late_ns, int phase, const struct device *device);
/* put a sensor among those that the core triggers; before the start */
void order_trigger(struct inphase_core *core, uint32_t sensor);
/* a reply of another trigger came: what comes is in doubt until the line was seen clean */
void slip(struct inphase_core *core, struct sensor *sensor);
int line_raise(struct sensor *sensor);
/* lower the trigger lines whose pulses have been long enough, or all */
void lines_lower(struct inphase_core *core, bool all);
/* look at the wall clock, and say in the frame when it was set; after the wake */
void note_wall_clock(struct inphase_core *core);

/* the wall clock less ours, and by how much that may be wrong */
int64_t wall_offset(struct inphase_core *core, int64_t *error_ns);
/* notice that the machine was suspended, which our clock does not count; once per cycle, before anything
   is written */
void note_boot_clock(struct inphase_core *core);
/* latch motion, and say so in the next frame: the machine or this process stood still */
void note_resumed(struct inphase_core *core);
/* likewise where it was for that long beyond what was due */
void note_suspension(struct inphase_core *core, int64_t late_ns);
/* take over what the supervisor wants of each device, and what its worker says; once per cycle */
void stage_devices(struct inphase_core *core);
void device_lost(struct inphase_core *core, struct device *device, int error);
/* from now on the kernel tells the guard when the calling thread dies; before its first cycle */
void guard_own(struct inphase_core *core);
/* the cycle thread lives */
void guard_beat(struct inphase_core *core, int64_t now_ns);
/* these bytes are about to be written to an actuator: from now on it has to be stopped */
void guard_leave(struct inphase_core *core, const struct actuator *actuator, const uint8_t *bytes,
                 uint32_t size);
/* an actuator that is not commanded any more, and all: the run has ended in good order */
void guard_withdraw(struct inphase_core *core, const struct actuator *actuator);
void guard_disarm(struct inphase_core *core);
/* a worker's device is lost: where it was commanded, the guard stops it. is_stuck: the worker lives */
void guard_abandon(struct inphase_core *core, const struct actuator *actuator, bool is_stuck);
/* whether the guard has taken this process for frozen since the last call, stopped the devices and let it
   live; a memory read */
static inline bool guard_spared(struct inphase_core *core)
{
    uint32_t spared, before = core->guard.spared_seen;

    if (!core->guard.life)
        return false;

    /* acquire: what moves is stopped after this word was written */
    spared = atomic_load_explicit(&core->guard.life->spared, memory_order_acquire);
    core->guard.spared_seen = spared;
    return spared != before;
}
int guard_lock(const struct inphase_core *core);
/* whether the guard would act; memory reads only. Without a guard that is not this one's to say: true */
bool guard_lives(const struct inphase_core *core, int64_t now_ns);
void guard_close(struct inphase_core *core);
void realtime_setup(struct inphase_core *core);
int realtime_rights(int32_t priority, int32_t cpu, int32_t *priority_errno, int32_t *cpu_errno);
/* stamp a sample with its acquisition; in_time: its reply was read when it came */
void acquire(struct inphase_core *core, struct sensor *sensor, struct sample *sample, bool in_time);
const struct inphase_fault *fault_at(const struct inphase_core *core, uint32_t kind,
                                     uint32_t device, int64_t cycle);
/* what an actuator's or a sensor's part is in lock step; 0 or a negative errno. free ends it */
int twin_make(struct sensor *sensor, const struct inphase_sensor_config *config);
void twin_free(struct sensor *sensor);
int plant_make(struct actuator *actuator, const struct inphase_actuator_config *config);
void plant_free(struct actuator *actuator);
/* let everything happen in the simulated devices that happens up to to_ns, in its order */
void twins_advance(struct inphase_core *core, int64_t to_ns);
/* when the next sample that a sensor waits for is in; INT64_MAX: none is coming */
int64_t twin_ready_ns(const struct sensor *sensor);
bool distribution_holds(const struct inphase_distribution *distribution);
int distribution_copy(struct inphase_distribution *to, const struct inphase_distribution *from);
void distribution_free(struct inphase_distribution *distribution);
/* a draw from it in whole nanoseconds, not below 0 */
int64_t draw_ns(uint64_t seed, const struct inphase_distribution *distribution, uint64_t key,
                uint64_t device, uint64_t kind);
/* post a command as of a time of its own */
int lockstep_post(struct inphase_core *core, int64_t cycle, int64_t posted_ns, uint32_t reason,
                  const double *values, uint32_t count);

static inline int64_t load_i64(const _Atomic int64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}
static inline void put_i64(_Atomic int64_t *to, int64_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}
static inline void put_u32(_Atomic uint32_t *to, uint32_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}
static inline uint32_t load_u32(const _Atomic uint32_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static inline bool is_stopping(const struct inphase_core *core)
{
    return core->stop_cycle >= 0;
}

static inline bool is_at_rest(const struct actuator *actuator)
{
    for (uint32_t c = 0; c < actuator->channels; c++)
        if (!limiter_rests(&actuator->limiter[c], &actuator->motion[c]))
            return false;
    return true;
}

/* how old the newest sample is, for max_age: from its acquisition or its arrival, whichever is
   earlier; from its trigger, where the acquisition is not known. Without a sample INT64_MAX */
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

/* is a sample of this sensor due in the present frame? */
static inline bool is_due(const struct inphase_core *core, const struct sensor *sensor)
{
    int64_t since = core->cycle - sensor->latency_cycles;

    return !sensor->latched && since >= 0 && since % sensor->every == 0;
}
