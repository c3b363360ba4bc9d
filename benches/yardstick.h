/* What the benches compile beside the product. cffi reads this header; times are nanoseconds of
   CLOCK_MONOTONIC, errors negative errnos. Nothing here is part of the product. */

/* a run of cycles: when they fall, and with which rights their thread runs */
struct bench_grid {
    int64_t period_ns;
    int64_t act_ns;      /* offset; 0: no second sleep */
    int32_t cycles;
    int32_t priority;    /* SCHED_FIFO, 0: ordinary */
    int32_t cpu;         /* -1: any */
};

/* The bare algorithm of cyclictest: sleep to an absolute time, look at the clock. Twice a cycle, at
   its start and at the act offset. Returns the cycles in the two arrays. */
int bench_cyclic(const struct bench_grid *grid, int64_t *wake_late_ns, int64_t *act_late_ns);

/* two devices behind socket pairs: a thread that answers prebuilt bytes */
typedef struct bench_responder bench_responder;
int bench_responder_start(bench_responder **out, int arm_fd, const uint8_t *packet, uint32_t size,
                          int wrist_fd, const uint8_t *record, int32_t priority, int32_t cpu);
void bench_responder_stop(bench_responder *responder);

/* Keep the processor busy; called through ctypes.PyDLL it holds the GIL meanwhile. */
int bench_busy(int64_t time_ns);

/* A bare mapping: a futex word, stamps and a ring of payloads, all in one. */
struct bench_bare {
    uint32_t word;            /* numbers from 1 on */
    uint32_t unused;
    int64_t stamp_ns[64];     /* of number n at n % 64 */
    int64_t echo_ns[64];      /* when the reader answered number n */
    uint8_t space[1024];
};
/* Write `cycles` payloads of `sensors * payload` bytes and wake after each; echo_ns gets what the
   reader took to answer, or -1. Returns the number of cycles. */
int bench_bare_block(struct bench_bare *bare, const struct bench_grid *grid, uint32_t sensors,
                     uint64_t payload, uint32_t depth, int64_t *echo_ns);
/* Wait until the word is not `seen`; returns it, or `seen` after a second. */
uint32_t bench_bare_wait(const struct bench_bare *bare, uint32_t seen);
void bench_bare_echo(struct bench_bare *bare, uint32_t number);
/* Something to do for each number before it is echoed: `call` as struct inphase_native_policy has
   it, NULL: nothing. */
struct bench_work {
    void *call, *user, *record;
    void **samples;
    double *command;
};
/* Wait, work, echo, up to number `last`. */
void bench_bare_work(struct bench_bare *bare, uint32_t last, const struct bench_work *work);

/* The product's store, written from here as the core's latch writes it, with payloads of any
   size. */
typedef struct bench_store bench_store;
int bench_store_open(bench_store **out, uint64_t epoch, const char *description,
                     uint64_t description_size, uint32_t sensors, const uint64_t *payload,
                     uint32_t depth, uint64_t record_size);
void bench_store_close(bench_store *store);
/* Its descriptor, to read. */
int bench_store_fd(const bench_store *store);
/* Make a policy's mailbox for answers of so many values, and its bell, which is rung from then on;
   their descriptors, which stay the store's, go to fds. */
int bench_store_mailbox(bench_store *store, uint32_t values, int *fds);
/* Latch `cycles` frames. With a mailbox, and act_ns: echo_ns gets what the policy took from the
   latch to its post, or -1. rung_ns: what it took the writer to wake who follows, per cycle.
   Returns the number of cycles. */
int bench_store_block(bench_store *store, const struct bench_grid *grid, int64_t *echo_ns,
                      int64_t *rung_ns);
/* Processes that follow the store; they end with this one. 0 or -errno. */
int bench_followers_start(const bench_store *store, int32_t count, int32_t *pids);
void bench_followers_end(int32_t count, const int32_t *pids);

/* How often each bucket of a store's histogram was hit, and the largest value of each bucket. */
int bench_buckets(int fd, uint32_t histogram, uint64_t *count, int64_t *top);
#define BENCH_BUCKETS 4352

/* Count the instructions that thread `tid` of another process runs in user space between system
   calls: `steps` of them, each with the call before and after. The thread is stopped meanwhile, so
   its cycles are late. Returns the number of pieces. */
struct bench_piece {
    int64_t call_from, call_to;     /* system call numbers */
    int64_t instructions;
    int64_t own;                    /* of them, those at a watched address */
};
struct bench_watched {
    uint64_t low, high;             /* addresses from low on, before high */
    int64_t last_call;              /* before which it ends; -1: none */
};
int bench_steps(int32_t tid, struct bench_piece *piece, int32_t pieces,
                const struct bench_watched *watched);

/* Devices: each waits for a datagram, samples when it comes, and answers with eight doubles: how
   many samples it has taken, when it took this one (nanoseconds), and six that stand still. */
#define BENCH_SAMPLE_BYTES 64
struct bench_samplers {
    const int32_t *fd;       /* sockets, at most 64 */
    int32_t count;
    int64_t delay_ns;        /* after all of them were asked, then all answer; -1: each at once */
    int32_t priority, cpu;   /* as in a grid */
};
/* Runs until the other end of a socket pair is closed: 0, or a negative errno. */
int bench_samplers_serve(const struct bench_samplers *samplers);

/* The least that could ask such devices: each cycle one sleep, one write per device, one wait for
   the last of them, one read per device. */
struct bench_exchanges {
    const int32_t *fd;       /* non-blocking, at most 64 */
    int32_t count;
    int64_t deadline_ns;     /* offset */
    int64_t *skew_ns;        /* out, per cycle: the spread of the devices' own times, -1: missed */
    int64_t cpu_ns;          /* out: that the thread took for all of it */
    int64_t waits;           /* out */
};
/* Returns the number of cycles. */
int bench_exchanges(const struct bench_grid *grid, struct bench_exchanges *exchanges);

/* A simulated world as its simulator steps it, and the time that each of `chunks` of so many cycles
   took. Returns chunks. */
struct bench_world {
    void (*step)(const void *model, void *data);
    void (*forward)(const void *model, void *data); /* after each cycle; NULL: not */
    const void *model;
    void *data;
    int32_t steps;           /* in a cycle */
};
int bench_world_block(const struct bench_world *world, int32_t chunks, int32_t cycles,
                      int64_t *took_ns);

/* The policy of the figure in C, as struct inphase_native_policy has it; user: struct bench_law. */
#define BENCH_JOINTS 7
struct bench_law {
    double home[7], stiff, damp;
};
uint32_t bench_world_policy(void *user, const void *record, const void *const *samples,
                            double *command);
