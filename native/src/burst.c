/* Bursts: the samples of a stream since the last frame, oldest first, with their stamps. Cycle
   thread only, but for make and free. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "burst.h"
#include "layout.h"
#include "sensor.h"

/* the payload behind the newest values: two counts, three arrays of stamps, an array per field */
enum { COUNT, LOST, STAMPS };
#define STAMP_ARRAYS 3

uint64_t burst_bytes(uint32_t most, uint32_t channels)
{
    uint64_t numbers = most ? STAMPS + (uint64_t)most * (STAMP_ARRAYS + channels) : 0;

    return sizeof(int64_t) * (channels + numbers);
}

int burst_make(struct burst *burst, const struct inphase_sensor_config *config)
{
    burst->most = config->burst;
    if (!burst->most)
        return 0;
    burst->channels = config->channels;
    burst->groups = config->burst_groups;
    memcpy(burst->group, config->burst_group, burst->groups * sizeof *burst->group);
    burst->size = config->payload;
    burst->payload = aligned_alloc(PAGE_BYTES, page_align(burst->size));
    if (!burst->payload)
        return -ENOMEM;
    memset(burst->payload, 0, page_align(burst->size));
    burst_begin(burst);
    return 0;
}

void burst_free(struct burst *burst)
{
    free(burst->payload);
    burst->payload = NULL;
}

static int64_t *numbers_of(const struct burst *burst)
{
    return burst->payload + burst->channels;
}

/* the array of values of all fields, as doubles behind the stamps */
static double *values_of(const struct burst *burst)
{
    return (double *)(numbers_of(burst) + STAMPS + STAMP_ARRAYS * burst->most);
}

int64_t burst_count(const struct burst *burst)
{
    return numbers_of(burst)[COUNT];
}

void burst_begin(struct burst *burst)
{
    int64_t *numbers = numbers_of(burst);
    double *values = values_of(burst);

    numbers[COUNT] = numbers[LOST] = 0;
    for (uint32_t i = 0; i < STAMP_ARRAYS * burst->most; i++)
        numbers[STAMPS + i] = INPHASE_ABSENT;
    for (uint32_t i = 0; i < burst->most * burst->channels; i++)
        values[i] = NAN;
}

/* leave out the oldest: every array moves by one */
static void drop_oldest(struct burst *burst)
{
    uint32_t kept = burst->most - 1;
    int64_t *numbers = numbers_of(burst);
    double *values = values_of(burst);

    for (uint32_t i = 0; i < STAMP_ARRAYS; i++) {
        int64_t *stamps = numbers + STAMPS + i * burst->most;

        memmove(stamps, stamps + 1, kept * sizeof *stamps);
    }
    for (uint32_t i = 0; i < burst->groups; i++) {
        uint32_t width = burst->group[i];

        memmove(values, values + width, kept * width * sizeof *values);
        values += burst->most * width;
    }
    numbers[COUNT]--;
    numbers[LOST]++;
}

void burst_lose(struct burst *burst)
{
    numbers_of(burst)[LOST]++;
}

bool burst_add(struct burst *burst, const struct sample *sample)
{
    int64_t *numbers = numbers_of(burst), *stamps = numbers + STAMPS;
    bool has_room = numbers[COUNT] < burst->most;
    const double *from = sample->value;
    double *values = values_of(burst);
    uint32_t at;

    if (!has_room)
        drop_oldest(burst);
    at = (uint32_t)numbers[COUNT]++;
    stamps[at] = sample->acquired_ns;
    stamps[burst->most + at] = sample->received_ns;
    stamps[2 * burst->most + at] = sample->uncertainty_ns;
    for (uint32_t i = 0; i < burst->groups; i++) {
        memcpy(values + at * burst->group[i], from, burst->group[i] * sizeof *values);
        values += burst->most * burst->group[i];
        from += burst->group[i];
    }

    /* the newest sample, as in any payload */
    memcpy(burst->payload, sample->value, burst->channels * sizeof(double));
    return has_room;
}
