/* A burst: all samples of a stream since the last frame, beside the newest one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct sample;

/* In memory of its own, as a payload of inphase.h, "bursts": made at open, written by the cycle
   thread */
struct burst {
    uint32_t most;               /* samples that it holds; 0: the sensor has none */
    uint32_t channels, groups;
    uint32_t group[INPHASE_MAX_VALUES]; /* channels of each field */
    uint64_t size;               /* bytes of the payload */
    int64_t *payload;
};

/* 0, or -ENOMEM; nothing for a sensor without */
int burst_make(struct burst *burst, const struct inphase_sensor_config *config);
void burst_free(struct burst *burst);
/* bytes of a payload with so many samples */
uint64_t burst_bytes(uint32_t most, uint32_t channels);

/* a new frame: no sample yet */
void burst_begin(struct burst *burst);
/* One more. Where there are too many the oldest is left out, and counted. false: one was */
bool burst_add(struct burst *burst, const struct sample *sample);
/* a sample that came and is not kept */
void burst_lose(struct burst *burst);
/* samples in it */
int64_t burst_count(const struct burst *burst);
