/* Disturbances of the cycle thread, as the supervisor has seen them from outside of it, for every
   reader of the store. The supervisor's thread. */
#include <stdatomic.h>
#include <stdint.h>

#include "core.h"
#include "relaxed.h"
#include "state.h"
#include "store.h"

void inphase_core_host(inphase_core *core, const struct inphase_host_counts *counts)
{
    slot_write((struct slot *)core->state->host, core->host_counts++, counts, sizeof *counts);
    put_i64(&core->state->page_faults, counts->page_faults);
}

void inphase_core_late(inphase_core *core, const struct inphase_late *late)
{
    struct state *state = core->state;
    uint64_t number = atomic_load_explicit(&state->lates, memory_order_relaxed);

    slot_write((struct slot *)state->late[number % INPHASE_LATE_KEPT], number, late, sizeof *late);
    atomic_store_explicit(&state->lates, number + 1, memory_order_release);
}
