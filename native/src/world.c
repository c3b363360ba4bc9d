/* A simulator's world, stepped by the simulator's own functions. Lock step only: these calls may
   allocate, print and take any time. */
#include <errno.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

/* the argument of the world's message handler; the head of MuJoCo's struct mjLogMessage */
struct world_message {
    int level, topic;
    char subject[1024];
};
#define MESSAGE_ERROR 3

/* the way out of the call in which an error of the world happens */
struct way_out {
    jmp_buf here;
    struct world *world;
};
static _Thread_local struct way_out *way_out;

void world_fail(struct world *world, int failure, const char *message)
{
    if (world->failure)
        return;
    world->failure = failure;
    snprintf(world->message, sizeof world->message, "%.200s", message);
}

/* the world's error function must not return; its warnings tell the other messages */
static void on_message(const struct world_message *message)
{
    struct way_out *out = way_out;

    if (message->level != MESSAGE_ERROR || !out)
        return;
    world_fail(out->world, -EIO, message->subject);
    longjmp(out->here, 1);
}

/* ---- the simulator's clock --------------------------------------------------------------- */

/* Worlds are stepped in many threads, and the clock is one for the process: the first that enters
   takes it away, the last that leaves gives it back. Any order of their steps leaves a function
   that can be called. At worst a turn is timed, as without all this */
typedef double clock_function(void);
static _Atomic uint32_t entered;
static clock_function *taken;

static double still(void)
{
    return 0;
}

void world_enter(const struct world *world)
{
    clock_function **clock = world->spec.clock, *found;

    if (!clock)
        return;
    atomic_fetch_add(&entered, 1);
    found = __atomic_load_n(clock, __ATOMIC_SEQ_CST);
    if (!found || found == still)
        return;
    __atomic_store_n(&taken, found, __ATOMIC_SEQ_CST);
    __atomic_compare_exchange_n(clock, &found, still, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* a clock that somebody has set meanwhile stays */
void world_leave(const struct world *world)
{
    clock_function **clock = world->spec.clock, *found = still;

    if (clock && atomic_fetch_sub(&entered, 1) == 1)
        __atomic_compare_exchange_n(clock, &found, __atomic_load_n(&taken, __ATOMIC_SEQ_CST),
                                    false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* ---- steps ------------------------------------------------------------------------------- */

/* call one of the world's functions; false: it raised an error, and its data are not to be used */
static bool call(struct world *world, void (*function)(const void *, void *))
{
    const struct inphase_world *spec = &world->spec;
    struct way_out out = {.world = world};
    void *before = NULL;

    if (!spec->catch_errors) {
        function(spec->model, spec->data);
        return true;
    }
    before = spec->catch_errors((void *)on_message);
    way_out = &out;
    if (_setjmp(out.here) == 0)
        function(spec->model, spec->data);
    way_out = NULL;
    spec->catch_errors(before);
    return world->failure == 0;
}

/* is there no warning after which its numbers are invalid? */
static bool is_sound(struct world *world)
{
    const struct inphase_world *spec = &world->spec;

    for (uint32_t i = 0; i < spec->warnings; i++) {
        const int32_t *count =
            (const void *)((const char *)spec->warning + i * spec->warning_stride);

        if ((spec->fatal >> i & 1) && *count != world->warned[i]) {
            world_fail(world, 1 + (int)i, "");
            return false;
        }
    }
    return true;
}

/* the instant of a grid point; in whole cycles and the rest, so that no product overflows */
static int64_t grid_point(const struct world *world, int64_t number)
{
    int64_t steps = world->spec.steps;

    return number / steps * world->period_ns + number % steps * world->period_ns / steps;
}

bool world_advance(struct world *world, int64_t to_ns)
{
    const struct inphase_world *spec = &world->spec;

    while (world->now_ns < to_ns && !world->failure) {
        int64_t grid_ns = grid_point(world, world->whole_steps + 1);
        int64_t until_ns = grid_ns < to_ns ? grid_ns : to_ns;
        bool is_whole =
            until_ns == grid_ns && world->now_ns == grid_point(world, world->whole_steps);

        /* an instant between grid points: a shorter step to it, and another one from it */
        if (!is_whole)
            *spec->timestep = (double)(until_ns - world->now_ns) / 1e9;
        if (!call(world, spec->step) || !is_sound(world))
            break;
        if (!is_whole)
            *spec->timestep = spec->step_s;
        world->now_ns = until_ns;
        world->whole_steps += until_ns == grid_ns;
        world->is_derived = false;
    }
    return !world->failure;
}

bool world_derive(struct world *world)
{
    if (world->failure)
        return false;
    if (!world->is_derived)
        world->is_derived = call(world, world->spec.forward) && is_sound(world);
    return world->is_derived;
}

bool world_render(struct world *world, uint32_t sensor, void *payload)
{
    if (!world_derive(world))
        return false;
    if (world->spec.render(world->spec.user, sensor, payload) != 0)
        world_fail(world, -EPIPE, "");
    return !world->failure;
}
