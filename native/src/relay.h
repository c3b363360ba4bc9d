/* Waking those who follow the frames. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct state;

struct relay {
    _Atomic uint32_t *word;      /* the cycle thread adds, the relay waits; NULL: it does not run */
    _Atomic int over;            /* whoever closes the core */
    const struct state *state;   /* constant */
    pthread_t thread;
};

int relay_start(struct relay *relay, const struct state *state);
void relay_end(struct relay *relay);
/* Frame `number` - 1 is latched: wake who waits on the bell (NULL: none), and have the relay wake
   all others. Cycle thread; one system call */
void relay_ring(const struct relay *relay, _Atomic uint32_t *bell, uint32_t number);
