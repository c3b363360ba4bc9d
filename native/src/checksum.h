/* Checksums of packets: a CRC by the catalogue's parameters, a sum, or exclusive or. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

/* one of an exchange, with the table of its CRC: made at open, then constant */
struct checksum {
    struct inphase_checksum spec;
    uint64_t table[256];
};

bool checksum_holds(const struct inphase_checksum *spec);
void checksum_make(struct checksum *sum, const struct inphase_checksum *spec);

/* bytes that it takes in a packet */
uint32_t checksum_size(const struct inphase_checksum *spec);

/* Piece by piece: begin, add bytes as often as there are some, end. Without a table (NULL) each
   entry is worked out when it is wanted. */
uint64_t checksum_begin(const struct inphase_checksum *spec);
uint64_t checksum_add(const struct inphase_checksum *spec, const uint64_t *table, uint64_t state,
                      const uint8_t *bytes, uint32_t size);
uint64_t checksum_end(const struct inphase_checksum *spec, uint64_t state);

/* a checksum that has been worked out up to a byte */
struct checksum_run {
    const struct checksum *sum;
    uint32_t from, done;
    uint64_t state;
};

/* Go on to byte `at`; the checksum of the bytes from `from` to there. Checksums of blocks each
   cover all bytes before them, earlier checksums too: no byte is looked at again. */
uint64_t checksum_run(struct checksum_run *run, const struct checksum *sum, const uint8_t *bytes,
                      uint32_t from, uint32_t at);
