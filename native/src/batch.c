/* Many cores in lock step, by a pool of threads. Each thread has a share of them, whose memory is
   in its caches, and then helps with those of others: cores share nothing. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../inphase.h"
#include "lockstep.h"

#define SPINS 200 /* looks before a thread sleeps: a few us, since other work may want its core */
/* between rounds, while the caller needs no longer than this from one to the next. To wake a thread
   takes as long as several steps of a world */
#define EAGER_NS 200000

struct inphase_batch {
    /* the round in the upper half, how many cores nobody has taken yet in the lower. A thread that
       comes late for a round takes none of it */
    _Atomic uint64_t open;
    _Atomic uint32_t through;    /* cores that are done */
    _Atomic uint32_t served;     /* threads that have a share */
    _Atomic uint32_t sleepers;   /* threads that wait for a round */
    _Atomic bool is_over;
    _Atomic bool waits;          /* the caller sleeps until all are through */
    struct inphase_batch_work work; /* of this round: written by the caller before it opens it */
    uint32_t threads;
    pthread_mutex_t lock;
    pthread_cond_t begun, done;
    pthread_t thread[INPHASE_BATCH_THREADS];
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- a core ------------------------------------------------------------------------------ */

static void observe(const struct inphase_batch_work *work, const inphase_core *core,
                    const void *record, uint32_t row, uint32_t turn)
{
    for (uint32_t i = 0; i < work->parts; i++) {
        const struct inphase_batch_part *part = &work->part[i];
        const uint8_t *sample = lockstep_sample(core, record, part->sensor);

        memcpy((uint8_t *)part->to + turn * part->turn_stride + row * part->row_stride,
               sample ? sample + part->offset : part->nothing, part->bytes);
    }
}

static void run_core(const struct inphase_batch_work *work, uint32_t index)
{
    inphase_core *core = work->core[index];
    uint32_t row = work->row[index];
    int64_t number = 0;

    for (uint32_t turn = 0; turn < work->turns; turn++) {
        uint64_t at = (uint64_t)turn * work->rows + row;
        const struct inphase_frame *record;

        if (number >= 0)
            number = lockstep_answer_turn(core, 0, work->values + at * work->count, work->count,
                                          0);
        work->number[at] = number;
        if (number < 0)
            continue;
        record = lockstep_record(core, number);
        work->cycle[at] = record->cycle;
        work->reason[at] = record->reason;
        observe(work, core, record, row, turn);
        if (work->record && turn + 1 == work->turns)
            memcpy((uint8_t *)work->record + row * work->record_size, record, work->record_size);
    }
}

/* ---- threads ----------------------------------------------------------------------------- */

static bool is_open(inphase_batch *batch)
{
    return (uint32_t)atomic_load(&batch->open) != 0;
}

static bool claims(const struct inphase_batch_work *work, uint32_t index)
{
    return __atomic_exchange_n(&work->taken[index], 1, __ATOMIC_SEQ_CST) == 0;
}

/* one of the share of a thread, else the last of others' shares: there is one, for it is counted */
static uint32_t pick(const inphase_batch *batch, uint32_t share)
{
    const struct inphase_batch_work *work = &batch->work;

    for (uint32_t i = share; i < work->cores; i += batch->threads + 1)
        if (claims(work, i))
            return i;
    for (;;)
        for (uint32_t i = work->cores; i-- > 0;)
            if (claims(work, i))
                return i;
}

/* take a core and run it; false: none is left */
static bool help(inphase_batch *batch, uint32_t share)
{
    uint64_t open = atomic_load(&batch->open);

    do {
        if ((uint32_t)open == 0)
            return false;
    } while (!atomic_compare_exchange_weak(&batch->open, &open, open - 1));

    /* the round cannot end before this core is through, so its work stays as it is */
    run_core(&batch->work, pick(batch, share));
    atomic_fetch_add(&batch->through, 1);
    if (atomic_load(&batch->waits)) {
        pthread_mutex_lock(&batch->lock);
        pthread_cond_signal(&batch->done);
        pthread_mutex_unlock(&batch->lock);
    }
    return true;
}

/* gap_ns: how long the thread has waited for the round before, and then for this one. A thread that
   shares its core with other work has waited long, and sleeps soon */
static void wait_for_round(inphase_batch *batch, int64_t *gap_ns)
{
    int64_t begun_ns = inphase_now();
    bool is_eager = *gap_ns < EAGER_NS;

    for (int i = 0; i < SPINS || (is_eager && inphase_now() - begun_ns < EAGER_NS); i++) {
        if (is_open(batch) || atomic_load(&batch->is_over)) {
            *gap_ns = inphase_now() - begun_ns;
            return;
        }
        relax();
    }
    pthread_mutex_lock(&batch->lock);
    atomic_fetch_add(&batch->sleepers, 1);
    while (!is_open(batch) && !atomic_load(&batch->is_over))
        pthread_cond_wait(&batch->begun, &batch->lock);
    atomic_fetch_sub(&batch->sleepers, 1);
    pthread_mutex_unlock(&batch->lock);
    *gap_ns = inphase_now() - begun_ns;
}

static void *serve(void *given)
{
    inphase_batch *batch = given;
    uint32_t share = 1 + atomic_fetch_add(&batch->served, 1);
    int64_t gap_ns = EAGER_NS;

    while (!atomic_load(&batch->is_over)) {
        while (help(batch, share))
            ;
        wait_for_round(batch, &gap_ns);
    }
    return NULL;
}

static void wake(inphase_batch *batch)
{
    if (!atomic_load(&batch->sleepers))
        return;
    pthread_mutex_lock(&batch->lock);
    pthread_cond_broadcast(&batch->begun);
    pthread_mutex_unlock(&batch->lock);
}

static bool is_through(inphase_batch *batch)
{
    return atomic_load(&batch->through) == batch->work.cores;
}

/* until the cores that other threads have taken are through */
static void wait_for_others(inphase_batch *batch)
{
    for (int i = 0; i < SPINS; i++) {
        if (is_through(batch))
            return;
        relax();
    }
    pthread_mutex_lock(&batch->lock);
    atomic_store(&batch->waits, true);
    while (!is_through(batch))
        pthread_cond_wait(&batch->done, &batch->lock);
    atomic_store(&batch->waits, false);
    pthread_mutex_unlock(&batch->lock);
}

/* ---- the pool ---------------------------------------------------------------------------- */

int inphase_batch_open(inphase_batch **out, uint32_t threads)
{
    inphase_batch *batch;
    sigset_t all, before;
    int rc = 0;

    if (threads > INPHASE_BATCH_THREADS)
        return -EINVAL;
    batch = calloc(1, sizeof *batch);
    if (!batch)
        return -ENOMEM;
    pthread_mutex_init(&batch->lock, NULL);
    pthread_cond_init(&batch->begun, NULL);
    pthread_cond_init(&batch->done, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (uint32_t i = 0; i < threads && rc == 0; i++) {
        rc = pthread_create(&batch->thread[i], NULL, serve, batch);
        batch->threads += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) {
        inphase_batch_close(batch);
        return -rc;
    }
    *out = batch;
    return 0;
}

void inphase_batch_close(inphase_batch *batch)
{
    if (!batch)
        return;
    pthread_mutex_lock(&batch->lock);
    atomic_store(&batch->is_over, true);
    pthread_cond_broadcast(&batch->begun);
    pthread_mutex_unlock(&batch->lock);
    for (uint32_t i = 0; i < batch->threads; i++)
        pthread_join(batch->thread[i], NULL);
    pthread_cond_destroy(&batch->begun);
    pthread_cond_destroy(&batch->done);
    pthread_mutex_destroy(&batch->lock);
    free(batch);
}

void inphase_batch_turn(inphase_batch *batch, const struct inphase_batch_work *work)
{
    uint64_t round = (atomic_load(&batch->open) >> 32) + 1;

    if (!work->cores)
        return;
    batch->work = *work;
    memset(work->taken, 0, work->cores);
    atomic_store(&batch->through, 0);
    lockstep_enter(work->core[0]);
    atomic_store(&batch->open, round << 32 | work->cores);
    if (work->cores > 1)
        wake(batch);
    while (help(batch, 0))
        ;
    wait_for_others(batch);
    lockstep_leave(work->core[0]);
}
