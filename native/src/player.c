/* A store that no core writes: a recorded robot's frames, for readers as they are. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "relaxed.h"
#include "state.h"
#include "store.h"

struct inphase_player {
    inphase_segment *segment;
    struct inphase_layout *layout;
    struct state *state;
};

static bool is_depth(uint64_t depth)
{
    return depth >= 1 && depth <= 1U << 20 && !(depth & (depth - 1));
}

static bool config_holds(const struct inphase_config *config)
{
    if (config->sensors > INPHASE_MAX_SENSORS || config->actuators > INPHASE_MAX_ACTUATORS ||
        !config->virtual_time || !is_depth(config->frame_depth))
        return false;
    for (uint32_t i = 0; i < config->sensors; i++)
        if (config->sensor[i].payload < 8 || config->sensor[i].payload % 8 ||
            config->sensor[i].payload > 1ULL << 32 || !is_depth(config->sensor[i].depth))
            return false;
    for (uint32_t i = 0; i < config->actuators; i++)
        if (config->actuator[i].channels > INPHASE_MAX_CHANNELS)
            return false;
    return true;
}

int inphase_player_open(inphase_player **out, const struct inphase_config *config)
{
    inphase_player *player;
    int rc;

    if (!config_holds(config))
        return -EINVAL;
    player = calloc(1, sizeof *player);
    if (!player)
        return -ENOMEM;
    rc = inphase_segment_make(&player->segment, inphase_core_size(config), 0);
    if (rc < 0) {
        free(player);
        return rc;
    }

    /* as a core's: layout, description, state before its first cycle; published last */
    player->layout = (struct inphase_layout *)player->segment->memory;
    lay_out(config, player->layout);
    if (config->description_size)
        memcpy(player->segment->memory + player->layout->description_offset, config->description,
               config->description_size);
    player->state = (struct state *)(player->segment->memory + player->layout->state_offset);
    put_i64(&player->state->cycle, -1);
    put_i64(&player->state->reason_cycle, -1);
    inphase_segment_publish(player->segment);
    *out = player;
    return 0;
}

void inphase_player_close(inphase_player *player)
{
    if (!player)
        return;
    inphase_segment_close(player->segment);
    free(player);
}

inphase_segment *inphase_player_segment(inphase_player *player)
{
    return player->segment;
}

int inphase_player_sample(inphase_player *player, uint32_t sensor, int64_t sequence,
                          const void *payload)
{
    const struct inphase_ring *ring;

    if (sensor >= player->layout->sensors || sequence < 0)
        return -EINVAL;
    ring = &player->layout->samples[sensor];
    slot_write(ring_slot(player->segment->memory, ring, (uint64_t)sequence), (uint64_t)sequence,
               payload, ring->payload);
    return 0;
}

int inphase_player_frame(inphase_player *player, const void *record, uint64_t size)
{
    struct inphase_frame head;
    struct state *state = player->state;
    uint64_t number = atomic_load_explicit(&state->head, memory_order_relaxed);

    if (size != player->layout->frames.payload)
        return -EINVAL;
    memcpy(&head, record, sizeof head);
    slot_write(ring_slot(player->segment->memory, &player->layout->frames, number), number, record,
               size);
    put_i64(&state->cycle, head.cycle);
    put_u32(&state->state, head.state);
    put_u32(&state->estop, head.estop);
    atomic_store_explicit(&state->head, number + 1, memory_order_release);
    atomic_store_explicit(&state->wake, (uint32_t)(number + 1), memory_order_release);
    futex_wake(&state->wake, INT32_MAX);
    return 0;
}
