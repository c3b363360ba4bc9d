/* From values to the bytes of a packet, and raw values back. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

#define HOST_IS_LITTLE_ENDIAN (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

/* bytes of a raw type; 0 for a number that is none */
static inline uint32_t raw_size(uint32_t type)
{
    static const uint8_t size[] = {0, 1, 1, 2, 2, 4, 4, 4, 8, 8, 2, 2, 2, 2, 1, 1};

    return type < sizeof size ? size[type] : 0;
}

uint64_t raw_bits(const uint8_t *bytes, uint32_t size, bool big_endian);
void put_bits(uint8_t *bytes, uint32_t size, bool big_endian, uint64_t bits);
/* likewise; of F64 seconds as whole nanoseconds, and 0 for a number that is no time */
uint64_t raw_ticks(const uint8_t *bytes, uint32_t type, bool big_endian);
double raw_to_double(const uint8_t *bytes, uint32_t type, bool big_endian);

/* in 64 bits: an offset near the end of its type must not wrap round to the front */
bool lies_within(uint32_t offset, uint32_t count, uint32_t size);

/* As inphase_encode. With the table of its CRC no entry is worked out, so the cycle thread gives
   one. */
int32_t encode(const struct inphase_encoding *encoding, const uint64_t *table, const double *values,
               uint8_t *to, uint32_t room);
