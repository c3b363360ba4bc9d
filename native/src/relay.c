/* Waking the readers of frames. The cycle thread wakes two at most: the policy, by its bell, and
   the relay, an ordinary thread, which wakes all others. So many readers cost the cycle nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "relay.h"
#include "state.h"
#include "store.h"

#define RELAY_LOOK_NS 1000000000LL /* bound of its wait, for a lost wake */

static void *relay_main(void *argument)
{
    struct relay *relay = argument;
    uint32_t seen = 1;

    while (!atomic_load_explicit(&relay->over, memory_order_acquire)) {
        uint32_t rung = atomic_load_explicit(relay->word, memory_order_acquire);

        if (rung == seen) {
            inphase_futex_wait((const uint32_t *)relay->word, seen, RELAY_LOOK_NS);
            continue;
        }
        seen = rung;
        /* all readers except those that wait on a bell */
        futex_wake(&relay->state->wake, INT32_MAX);
    }
    return NULL;
}

int relay_start(struct relay *relay, const struct state *state)
{
    struct sched_param param = {.sched_priority = 0};
    pthread_attr_t attributes;
    int rc;

    /* shared with nobody, but shared memory: one call of the kernel takes one kind of word */
    relay->word = mmap(NULL, BELL_BYTES, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (relay->word == MAP_FAILED) {
        relay->word = NULL;
        return -ENOMEM;
    }
    relay->state = state;
    atomic_store_explicit(&relay->over, 0, memory_order_relaxed);
    atomic_store_explicit(relay->word, 1, memory_order_relaxed);

    /* an ordinary thread, whatever this process was started with */
    pthread_attr_init(&attributes);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_OTHER);
    pthread_attr_setschedparam(&attributes, &param);
    rc = pthread_create(&relay->thread, &attributes, relay_main, relay);
    pthread_attr_destroy(&attributes);
    if (rc) {
        munmap((void *)relay->word, BELL_BYTES);
        relay->word = NULL;
    }
    return -rc;
}

void relay_end(struct relay *relay)
{
    if (!relay->word)
        return;
    atomic_store_explicit(&relay->over, 1, memory_order_release);
    atomic_fetch_add_explicit(relay->word, 1, memory_order_release);
    futex_wake(relay->word, 1);
    pthread_join(relay->thread, NULL);
    munmap((void *)relay->word, BELL_BYTES);
    relay->word = NULL;
}

void relay_ring(const struct relay *relay, _Atomic uint32_t *bell, uint32_t number)
{
    if (!bell) {
        atomic_fetch_add_explicit(relay->word, 1, memory_order_release);
        futex_wake(relay->word, 1);
        return;
    }

    /* One call: wake one on the bell, add 1 to the relay's word, wake one there. The comparison
       fails once in 2^32 cycles; the relay then looks one second later */
    atomic_store_explicit(bell, number, memory_order_release);
    syscall(SYS_futex, bell, FUTEX_WAKE_OP, 1, 1UL, relay->word,
            FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_NE, 0));
}
