/* The yardstick of the figure `world`: a simulator's own functions, called by their addresses in a
   bare loop; and the policy in C that ours runs beside it. */
#include <stddef.h>

#include "shared.h"

int bench_world_block(const struct bench_world *world, int32_t chunks, int32_t cycles,
                      int64_t *took_ns)
{
    for (int32_t chunk = 0; chunk < chunks; chunk++) {
        int64_t before = bench_now();

        for (int32_t cycle = 0; cycle < cycles; cycle++) {
            for (int32_t step = 0; step < world->steps; step++)
                world->step(world->model, world->data);
            if (world->forward)
                world->forward(world->model, world->data);
        }
        took_ns[chunk] = bench_now() - before;
    }
    return chunks;
}

uint32_t bench_world_policy(void *user, const void *record, const void *const *samples,
                            double *command)
{
    const struct bench_law *law = user;
    const double *position = samples[0], *velocity = position + BENCH_JOINTS;

    (void)record;
    for (int joint = 0; joint < BENCH_JOINTS; joint++)
        command[joint] = law->home[joint] + law->stiff * (position[joint] - law->home[joint]) -
                         law->damp * velocity[joint];
    return 0;
}
