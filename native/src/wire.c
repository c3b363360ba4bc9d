/* Frames on the wire: the MessagePack header of middleware/inphase/WIRE.md, written and read.

   Written integers have fixed widths, so that a header always has the same size and is written in
   one pass without looking at values. Read integers may have any width: others write headers
   too. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../inphase.h"

#define WIRE_VERSION 5
#define HASH_SIZE 16

#define NUMBER_64 9                         /* bytes of an integer with its type byte */
#define NUMBER_32 5
#define NUMBER_16 3
#define ARRAY 3                             /* an array's head with 16 bits of length */
#define BINARY 3
#define START_SIZE (1 + 1 + 1 + HASH_SIZE + 3 * NUMBER_64)
#define FRAME_NUMBERS 22
#define FRAME_64 12                         /* of those, with 64 bits */
#define FRAME_32 10
#define FRAME_SIZE (ARRAY + FRAME_64 * NUMBER_64 + FRAME_32 * NUMBER_32)
#define ROW_SIZE (1 + 7 * NUMBER_64 + 2 * NUMBER_16 + NUMBER_32 + 1)
#define ACT_SIZE (1 + 4 * NUMBER_32 + 2 * BINARY)

/* the fields of the record are in order, without holes */
_Static_assert(sizeof(struct inphase_frame) == FRAME_64 * 8 + FRAME_32 * 4, "frame has no padding");
_Static_assert(sizeof(struct inphase_row) == 7 * 8 + 2 * 2 + 4, "row has no padding");
_Static_assert(sizeof(struct inphase_act) == 4 * 4, "act has no padding");

static bool wire_holds(const struct inphase_wire *wire)
{
    if (wire->sensors > INPHASE_MAX_SENSORS || wire->actuators > INPHASE_MAX_ACTUATORS)
        return false;
    for (uint32_t i = 0; i < wire->actuators; i++)
        if (wire->channels[i] > INPHASE_MAX_CHANNELS)
            return false;
    return true;
}

int32_t inphase_wire_size(const struct inphase_wire *wire)
{
    uint32_t size = START_SIZE + FRAME_SIZE + 2 * ARRAY + wire->sensors * ROW_SIZE;

    if (!wire_holds(wire))
        return -EINVAL;
    for (uint32_t i = 0; i < wire->actuators; i++)
        size += ACT_SIZE + 16 * wire->channels[i];
    return (int32_t)size;
}

int32_t inphase_wire_record_size(const struct inphase_wire *wire)
{
    size_t size = sizeof(struct inphase_frame) + wire->sensors * sizeof(struct inphase_row);

    if (!wire_holds(wire))
        return -EINVAL;
    for (uint32_t i = 0; i < wire->actuators; i++)
        size += sizeof(struct inphase_act) + 16 * wire->channels[i];
    return (int32_t)size;
}

/* ---- writing ---------------------------------------------------------------------------- */

static uint8_t *put_byte(uint8_t *to, uint8_t byte)
{
    *to = byte;
    return to + 1;
}

/* numbers, most significant byte first, behind their type byte: a swapped word each */
static uint8_t *put_64(uint8_t *to, uint8_t type, uint64_t number)
{
    number = __builtin_bswap64(number);
    *to = type;
    memcpy(to + 1, &number, 8);
    return to + NUMBER_64;
}

static uint8_t *put_32(uint8_t *to, uint32_t number)
{
    number = __builtin_bswap32(number);
    *to = 0xce;
    memcpy(to + 1, &number, 4);
    return to + NUMBER_32;
}

static uint8_t *put_16(uint8_t *to, uint8_t type, uint16_t number)
{
    number = __builtin_bswap16(number);
    *to = type;
    memcpy(to + 1, &number, 2);
    return to + NUMBER_16;
}

static inline uint8_t *put_numbers_64(uint8_t *to, const uint8_t *from, int count)
{
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
        uint64_t number;

        memcpy(&number, from + 8 * i, 8);
        to = put_64(to, 0xd3, number);
    }
    return to;
}

static inline uint8_t *put_numbers_32(uint8_t *to, const uint8_t *from, int count)
{
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
        uint32_t number;

        memcpy(&number, from + 4 * i, 4);
        to = put_32(to, number);
    }
    return to;
}

static uint8_t *put_bytes(uint8_t *to, const void *from, uint32_t size)
{
    memcpy(to, from, size);
    return to + size;
}

int32_t inphase_wire_pack(const struct inphase_wire *wire, const void *record, int64_t number,
                          int64_t sent_ns, const uint8_t *where, uint8_t *header, uint32_t room)
{
    const uint8_t *from = record;
    uint8_t *to = header;
    int32_t size = inphase_wire_size(wire);

    if (size < 0)
        return size;
    if ((uint32_t)size > room)
        return -EMSGSIZE;

    /* the constants, the frame's number, and its time of sending */
    to = put_byte(to, 0x98);
    to = put_byte(to, WIRE_VERSION);
    to = put_byte(to, 0xa0 | HASH_SIZE);
    to = put_bytes(to, wire->hash, HASH_SIZE);
    to = put_64(to, 0xcf, wire->epoch);
    to = put_64(to, 0xd3, (uint64_t)number);
    to = put_64(to, 0xd3, (uint64_t)sent_ns);

    to = put_16(to, 0xdc, FRAME_NUMBERS);
    to = put_numbers_64(to, from, FRAME_64);
    to = put_numbers_32(to, from + FRAME_64 * 8, FRAME_32);
    from += sizeof(struct inphase_frame);

    to = put_16(to, 0xdc, (uint16_t)wire->sensors);
    for (uint32_t i = 0; i < wire->sensors; i++, from += sizeof(struct inphase_row)) {
        struct inphase_row row;

        memcpy(&row, from, sizeof row);
        to = put_byte(to, 0x9b);
        to = put_numbers_64(to, from, 7);
        to = put_16(to, 0xcd, row.status);
        to = put_16(to, 0xcd, row.reason);
        to = put_32(to, row.detail);
        to = put_byte(to, where[i]);
    }

    to = put_16(to, 0xdc, (uint16_t)wire->actuators);
    for (uint32_t i = 0; i < wire->actuators; i++) {
        uint32_t bytes = 8 * wire->channels[i];

        to = put_byte(to, 0x96);
        to = put_numbers_32(to, from, 4);
        from += sizeof(struct inphase_act);
        for (int k = 0; k < 2; k++, from += bytes) {
            to = put_16(to, 0xc5, (uint16_t)bytes);
            to = put_bytes(to, from, bytes);
        }
    }
    return (int32_t)(to - header);
}

int32_t inphase_wire_frame(const struct inphase_wire *wire, inphase_reader *reader, int64_t number,
                           uint8_t *const *samples, const int64_t *sent, uint8_t *where,
                           uint8_t *header, uint32_t room)
{
    const struct inphase_layout *layout = inphase_reader_layout(reader);
    const uint8_t *record = inphase_reader_record(reader);

    if (wire->sensors != layout->sensors)
        return -EINVAL;
    for (uint32_t i = 0; i < wire->sensors; i++) {
        struct inphase_row row;

        memcpy(&row, record + sizeof(struct inphase_frame) + i * sizeof row, sizeof row);
        if (wire->large[i] && row.sequence >= 0 && row.sequence == sent[i])
            where[i] = INPHASE_WIRE_BEFORE;
        else if (samples[i] && inphase_reader_copy(reader, i, row.sequence, samples[i]) == 0)
            where[i] = INPHASE_WIRE_HERE;
        else
            where[i] = INPHASE_WIRE_NOWHERE;
        if (where[i] == INPHASE_WIRE_NOWHERE && !wire->large[i])
            memset(samples[i], 0, layout->samples[i].payload);
    }
    return inphase_wire_pack(wire, record, number, inphase_now(), where, header, room);
}

/* ---- reading ---------------------------------------------------------------------------- */

/* the rest of a header; `broken` after the first mismatch, and then nothing is read */
struct cursor {
    const uint8_t *at, *end;
    bool broken;
};

/* the next bytes as an unsigned number, most significant first */
static uint64_t take_bytes(struct cursor *cursor, int bytes)
{
    uint64_t number = 0;

    if (cursor->broken || cursor->end - cursor->at < bytes) {
        cursor->broken = true;
        return 0;
    }
    for (int i = 0; i < bytes; i++)
        number = number << 8 | *cursor->at++;
    return number;
}

/* an integer of any width; as its 64 bits */
static uint64_t take_number(struct cursor *cursor)
{
    uint8_t type = (uint8_t)take_bytes(cursor, 1);

    if (type <= 0x7f)
        return type;
    if (type >= 0xe0)
        return (uint64_t)(int8_t)type;
    switch (type) {
    case 0xcc: return take_bytes(cursor, 1);
    case 0xcd: return take_bytes(cursor, 2);
    case 0xce: return take_bytes(cursor, 4);
    case 0xcf: return take_bytes(cursor, 8);
    case 0xd0: return (uint64_t)(int8_t)take_bytes(cursor, 1);
    case 0xd1: return (uint64_t)(int16_t)take_bytes(cursor, 2);
    case 0xd2: return (uint64_t)(int32_t)take_bytes(cursor, 4);
    case 0xd3: return take_bytes(cursor, 8);
    default: cursor->broken = true; return 0;
    }
}

/* an integer that fits 64 bits with a sign */
static uint64_t take_signed(struct cursor *cursor)
{
    bool is_u64 = cursor->at < cursor->end && *cursor->at == 0xcf;
    uint64_t number = take_number(cursor);

    cursor->broken |= is_u64 && number > INT64_MAX;
    return number;
}

static uint64_t take_at_most(struct cursor *cursor, uint64_t max)
{
    uint64_t number = take_number(cursor);

    cursor->broken |= number > max;
    return number;
}

static void take_array(struct cursor *cursor, uint32_t length)
{
    uint8_t type = (uint8_t)take_bytes(cursor, 1);
    uint64_t found = type & 0x0f;

    if (type == 0xdc)
        found = take_bytes(cursor, 2);
    else if (type == 0xdd)
        found = take_bytes(cursor, 4);
    else
        cursor->broken |= (type & 0xf0) != 0x90;
    cursor->broken |= found != length;
}

static const uint8_t *skip(struct cursor *cursor, uint64_t size)
{
    const uint8_t *here = cursor->at;

    if (cursor->broken || size > (uint64_t)(cursor->end - cursor->at)) {
        cursor->broken = true;
        return NULL;
    }
    cursor->at += size;
    return here;
}

static uint8_t *take_binary(struct cursor *cursor, uint8_t *to, uint32_t size)
{
    uint8_t type = (uint8_t)take_bytes(cursor, 1);
    const uint8_t *bytes;

    cursor->broken |= type < 0xc4 || type > 0xc6;
    if (!cursor->broken)
        cursor->broken |= take_bytes(cursor, 1 << (type - 0xc4)) != size;
    bytes = skip(cursor, size);
    if (bytes)
        memcpy(to, bytes, size);
    return to + size;
}

/* a number in the writer's width, or in any other */
static inline uint64_t take_64(struct cursor *cursor)
{
    uint64_t number;

    if (cursor->end - cursor->at < NUMBER_64 || *cursor->at != 0xd3)
        return take_signed(cursor);
    memcpy(&number, cursor->at + 1, 8);
    cursor->at += NUMBER_64;
    return __builtin_bswap64(number);
}

static inline uint64_t take_32(struct cursor *cursor)
{
    uint32_t number;

    if (cursor->end - cursor->at < NUMBER_32 || *cursor->at != 0xce)
        return take_at_most(cursor, UINT32_MAX);
    memcpy(&number, cursor->at + 1, 4);
    cursor->at += NUMBER_32;
    return __builtin_bswap32(number);
}

static inline uint64_t take_16(struct cursor *cursor)
{
    uint16_t number;

    if (cursor->end - cursor->at < NUMBER_16 || *cursor->at != 0xcd)
        return take_at_most(cursor, UINT16_MAX);
    memcpy(&number, cursor->at + 1, 2);
    cursor->at += NUMBER_16;
    return __builtin_bswap16(number);
}

/* bytes is constant: one of the three is left where this is inlined */
static inline uint8_t *take_numbers(struct cursor *cursor, uint8_t *to, int count, int bytes)
{
    for (int i = 0; i < count; i++, to += bytes) {
        uint64_t number = bytes == 8   ? take_64(cursor)
                          : bytes == 4 ? take_32(cursor)
                                       : take_16(cursor);

        memcpy(to, &number, (size_t)bytes); /* little endian, as the store is */
    }
    return to;
}

int inphase_wire_unpack(const struct inphase_wire *wire, const uint8_t *header, uint32_t size,
                        void *record, int64_t *number, uint8_t *where)
{
    struct cursor cursor = {.at = header, .end = header + size};
    uint8_t *to = record;

    if (!wire_holds(wire))
        return -EINVAL;
    take_array(&cursor, 8);
    cursor.broken |= take_number(&cursor) != WIRE_VERSION;
    cursor.broken |= take_bytes(&cursor, 1) != (0xa0 | HASH_SIZE);
    skip(&cursor, HASH_SIZE);
    if (take_number(&cursor) != wire->epoch && !cursor.broken)
        return -ESTALE;
    *number = (int64_t)take_signed(&cursor);
    take_signed(&cursor); /* time of sending */

    take_array(&cursor, FRAME_NUMBERS);
    to = take_numbers(&cursor, to, FRAME_64, 8);
    to = take_numbers(&cursor, to, FRAME_32, 4);

    take_array(&cursor, wire->sensors);
    for (uint32_t i = 0; i < wire->sensors; i++) {
        take_array(&cursor, 11);
        to = take_numbers(&cursor, to, 7, 8);
        to = take_numbers(&cursor, to, 2, 2);
        to = take_numbers(&cursor, to, 1, 4);
        where[i] = (uint8_t)take_at_most(&cursor, wire->large[i] ? INPHASE_WIRE_BEFORE
                                                                 : INPHASE_WIRE_HERE);
    }

    take_array(&cursor, wire->actuators);
    for (uint32_t i = 0; i < wire->actuators; i++) {
        take_array(&cursor, 6);
        to = take_numbers(&cursor, to, 4, 4);
        for (int k = 0; k < 2; k++)
            to = take_binary(&cursor, to, 8 * wire->channels[i]);
    }
    return cursor.broken || cursor.at != cursor.end ? -EPROTO : 0;
}
