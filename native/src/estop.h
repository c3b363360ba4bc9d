/* The emergency stop's inputs, and its page for clients. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "../inphase.h"

#define ESTOP_PAGE_BYTES 4096
/* emergency stops of clients: the gateway writes, the core reads */
struct estop_page {
    uint64_t magic, epoch;
    uint32_t version;
    _Atomic uint32_t stops;      /* asked for so far */
};

/* look at the inputs of the emergency stop; before anything is written */
void estop_look(struct inphase_core *core);
