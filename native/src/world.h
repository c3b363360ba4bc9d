/* A simulator's world, in lock step. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct world {
    struct inphase_world spec;   /* step NULL: there is none */
    int64_t now_ns;              /* where it stands */
    int64_t period_ns;           /* constant: of a cycle, spec.steps whole steps */
    int64_t whole_steps;         /* grid points passed */
    bool is_derived;             /* a forward pass was made since it last moved or was commanded */
    int failure;                 /* as struct inphase_world_failure says */
    int32_t warned[32];          /* counts at the start */
    char message[256];
};

/* around all that steps worlds: meanwhile the simulator's own clock stands still. Threads: any */
void world_enter(const struct world *world);
void world_leave(const struct world *world);
/* move on to to_ns; false: it has failed, and nothing more is to be read from it */
bool world_advance(struct world *world, int64_t to_ns);
/* a forward pass, where one is needed; false likewise */
bool world_derive(struct world *world);
bool world_render(struct world *world, uint32_t sensor, void *payload);
void world_fail(struct world *world, int failure, const char *message);
