/* A header from the network: refused, or a record that is written again to the same numbers. Input:
   the header's bytes, for a robot of two sensors and two actuators. */
#include <errno.h>

#include "fuzz.h"

#define ROOM 4096

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct inphase_wire wire = {
        .epoch = 7, .hash = "0123456789abcdef", .sensors = 2, .actuators = 2, .channels = {2, 1},
        .large = {0, 1}};
    uint8_t *record = malloc((size_t)inphase_wire_record_size(&wire));
    uint8_t *again = malloc((size_t)inphase_wire_record_size(&wire));
    uint8_t header[ROOM], where[2], where_again[2];
    int64_t number, number_again;
    int32_t packed;
    int rc;

    CHECK(record && again);
    rc = inphase_wire_unpack(&wire, bytes, (uint32_t)size, record, &number, where);
    CHECK(rc == 0 || rc == -ESTALE || rc == -EPROTO);
    if (rc == 0) {
        packed = inphase_wire_pack(&wire, record, number, 5, where, header, sizeof header);
        CHECK_EQUAL(packed, inphase_wire_size(&wire));
        CHECK_EQUAL(inphase_wire_unpack(&wire, header, (uint32_t)packed, again, &number_again,
                                        where_again), 0);
        CHECK(number == number_again && memcmp(where, where_again, sizeof where) == 0);
        CHECK(memcmp(record, again, (size_t)inphase_wire_record_size(&wire)) == 0);
    }
    free(record);
    free(again);
    return 0;
}
