/* The layout of a core's segment. Only this file knows it. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "layout.h"
#include "post.h"
#include "state.h"
#include "statistics.h"
#include "store.h"

uint64_t record_bytes(const struct inphase_config *config)
{
    uint64_t size = sizeof(struct inphase_frame) + config->sensors * sizeof(struct inphase_row);

    for (uint32_t i = 0; i < config->actuators; i++)
        size += sizeof(struct inphase_act) + 2 * sizeof(double) * config->actuator[i].channels;
    return size;
}

static uint64_t statistics_bytes(const struct inphase_config *config)
{
    return sizeof(struct statistics) +
           (INPHASE_HIST_SENSORS + config->sensors) * sizeof(struct histogram);
}

static struct inphase_ring ring_at(uint64_t offset, uint64_t payload, uint64_t depth)
{
    return (struct inphase_ring){
        .offset = offset, .payload = payload, .stride = ring_stride(payload), .depth = depth};
}

/* the layout without the mark that publishes it */
void lay_out(const struct inphase_config *config, struct inphase_layout *layout)
{
    uint64_t at = page_align(sizeof *layout);

    memset(layout, 0, sizeof *layout);
    layout->version = STORE_VERSION;
    layout->sensors = config->sensors;
    layout->epoch = config->epoch;
    layout->description_offset = at;
    layout->description_size = config->description_size;
    at += page_align(config->description_size);
    layout->state_offset = at;
    at += page_align(sizeof(struct state));
    layout->statistics_offset = at;
    layout->statistics_size = statistics_bytes(config);
    at += page_align(layout->statistics_size);
    layout->frames = ring_at(at, record_bytes(config), config->frame_depth);
    at += page_align(layout->frames.stride * layout->frames.depth);
    for (uint32_t i = 0; i < config->sensors; i++) {
        bool outside = config->sensor[i].worker && !config->virtual_time;

        layout->samples[i] = ring_at(outside ? POST_RING : at, config->sensor[i].payload,
                                     config->sensor[i].depth);
        if (outside)
            layout->outside |= 1ULL << i;
        else
            at += page_align(layout->samples[i].stride * layout->samples[i].depth);
    }
    for (uint32_t i = 0; i < config->actuators; i++) {
        if (!config->actuator[i].worker || config->virtual_time)
            continue;
        layout->orders[i] = ring_at(
            at, sizeof(struct order) + sizeof(double) * config->actuator[i].channels, ORDER_SLOTS);
        at += page_align(layout->orders[i].stride * ORDER_SLOTS);
    }
    layout->size = at;
}

uint64_t inphase_core_size(const struct inphase_config *config)
{
    struct inphase_layout layout;

    lay_out(config, &layout);
    return layout.size;
}
