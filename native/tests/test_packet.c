/* Packets: checksum, escape rule, framing, refusals, encoding. The packets are those of DYNAMIXEL
   Protocol 2.0: FF FF FD 00, id, length of the rest (low first), instruction, parameters, CRC. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../src/encode.h"
#include "../src/packet.h"
#include "check.h"

#define SERVOS 6
#define PLAIN 21 /* one status packet with current, velocity and position, before stuffing */

static const struct inphase_framing protocol2 = {
    .start_size = 4,
    .start = {0xff, 0xff, 0xfd, 0x00},
    .length_offset = 5,
    .length_size = 2,
    .length_add = 7,
    .min_size = 11,
    .max_size = 256,
    .escape_size = 3,
    .escape = {0xff, 0xff, 0xfd},
    .escape_insert = 0xfd,
    .escape_from = 7,
    .escape_tail = 2,
};

/* CRC-16/UMTS */
static const struct inphase_checksum dynamixel_crc = {
    .kind = INPHASE_CHECKSUM_CRC, .width = 16, .polynomial = 0x8005};
#define SUMS .checksum = &dynamixel_crc, .checksums = 1

/* what the replies of one sync read are made of */
struct bus {
    struct inphase_reply reply[SERVOS];
    struct inphase_check check[3 * SERVOS];
    struct inphase_field field[3 * SERVOS];
    struct inphase_exchange exchange;
};

static void set_fields(struct inphase_field *field, uint32_t servo, uint32_t offset)
{
    field[0] = (struct inphase_field){offset, INPHASE_I16, 0, 3 * servo, 1, 0};
    field[1] = (struct inphase_field){offset + 2, INPHASE_I32, 0, 3 * servo + 1, 1, 0};
    field[2] = (struct inphase_field){offset + 6, INPHASE_I32, 0, 3 * servo + 2, 1, 0};
}

static void sync_read(struct bus *bus, uint32_t servos)
{
    memset(bus, 0, sizeof *bus);
    for (uint32_t i = 0; i < servos; i++) {
        struct inphase_check *check = &bus->check[3 * i];

        bus->reply[i] = (struct inphase_reply){PLAIN, 3 * i, 3, 3 * i, 3};
        check[0] = (struct inphase_check){.kind = INPHASE_CHECK_SUM_END};
        check[1] = (struct inphase_check){.kind = INPHASE_CHECK_MATCH, .type = INPHASE_U8,
                                          .offset = 4, .mask = 0xff, .expect = i + 1};
        check[2] = (struct inphase_check){INPHASE_CHECK_ZERO, INPHASE_U8, 0, 8, 0x7f, 0, 0, 0, 0};
        set_fields(&bus->field[3 * i], i, 9);
    }
    bus->exchange = (struct inphase_exchange){
        .replies = servos,
        .framing = protocol2,
        .reply = bus->reply,
        .check = bus->check,
        .field = bus->field,
        .checks = 3 * servos,
        SUMS,
        .fields = 3 * servos,
    };
}

static void put32(uint8_t *to, int32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)((uint32_t)value >> (8 * i));
}

static uint16_t crc_of(const uint8_t *bytes, uint32_t size)
{
    uint64_t crc = 0;

    CHECK_EQUAL(inphase_checksum(&dynamixel_crc, bytes, size, &crc), 0);
    return (uint16_t)crc;
}

static uint32_t put_crc(uint8_t *packet, uint32_t size)
{
    uint16_t crc = crc_of(packet, size);

    packet[size] = (uint8_t)crc;
    packet[size + 1] = (uint8_t)(crc >> 8);
    return size + 2;
}

/* one status packet as it goes over the wire */
static uint32_t status_packet(uint8_t *to, uint8_t id, uint8_t error, int16_t current,
                              int32_t velocity, int32_t position)
{
    uint8_t plain[PLAIN] = {0xff, 0xff, 0xfd, 0, id, 0, 0, 0x55, error};
    int32_t size;

    plain[9] = (uint8_t)current;
    plain[10] = (uint8_t)((uint16_t)current >> 8);
    put32(plain + 11, velocity);
    put32(plain + 15, position);
    size = inphase_escape(&protocol2, plain, PLAIN, to, 256);
    CHECK(size >= PLAIN);
    to[5] = (uint8_t)(size - 7);
    return put_crc(to, (uint32_t)size - 2);
}

static uint32_t status_packets(uint8_t *to, uint32_t servos, uint32_t stuffed)
{
    uint32_t size = 0;

    for (uint32_t i = 0; i < servos; i++)
        size += i == stuffed ? status_packet(to + size, (uint8_t)(i + 1), 0, -1, 253, -7)
                             : status_packet(to + size, (uint8_t)(i + 1), 0, 5, -6, (int32_t)i);
    return size;
}

static void check_values_are_right(const double *values, uint32_t servos, uint32_t stuffed)
{
    for (uint32_t i = 0; i < servos; i++) {
        const double *v = values + 3 * i;

        if (i == stuffed)
            CHECK(v[0] == -1 && v[1] == 253 && v[2] == -7);
        else
            CHECK(v[0] == 5 && v[1] == -6 && v[2] == i);
    }
}

static int feed(inphase_parser *parser, const uint8_t *bytes, uint32_t size, double *values,
                uint32_t *reason)
{
    uint32_t detail;

    return inphase_parser_feed(parser, bytes, size, values, reason, &detail);
}

static void crc_of_the_manuals_ping_is_4e19(void)
{
    static const uint8_t ping[] = {0xff, 0xff, 0xfd, 0, 1, 3, 0, 1};

    CHECK_EQUAL(crc_of(ping, sizeof ping), 0x4e19);
}

static void an_escaped_packet_comes_back_as_it_was(void)
{
    static const uint8_t alphabet[] = {0xff, 0xff, 0xfd, 0xfd, 0};
    uint8_t plain[64], stuffed[128], back[64];

    for (int round = 0; round < 200000; round++) {
        uint32_t size = 9 + (uint32_t)(check_random() % 50);
        int32_t made;

        for (uint32_t i = 0; i < size; i++)
            plain[i] = alphabet[check_random() % sizeof alphabet];
        made = inphase_escape(&protocol2, plain, size, stuffed, sizeof stuffed);
        CHECK(made >= (int32_t)size);
        CHECK(memcmp(stuffed, plain, 7) == 0);

        /* no pattern is left that is not followed by the inserted byte */
        for (int32_t i = 9; i < made - 2; i++)
            if (memcmp(stuffed + i - 2, protocol2.escape, 3) == 0)
                CHECK_EQUAL(stuffed[i + 1], 0xfd);
        CHECK_EQUAL(inphase_unescape(&protocol2, stuffed, (uint32_t)made, back, sizeof back), size);
        CHECK(memcmp(back, plain, size) == 0);

        /* a room one byte short is said, not overrun */
        made--;
        CHECK_EQUAL(inphase_escape(&protocol2, plain, size, stuffed, (uint32_t)made), -EMSGSIZE);
    }
}

static void a_stuffed_reply_is_read_in_every_position_and_at_every_split(void)
{
    struct bus bus;
    inphase_parser *parser;
    uint8_t bytes[512];
    double values[INPHASE_MAX_VALUES];
    uint32_t reason;

    sync_read(&bus, SERVOS);
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), 0);
    for (uint32_t stuffed = 0; stuffed < SERVOS; stuffed++) {
        uint32_t size = status_packets(bytes, SERVOS, stuffed);

        CHECK_EQUAL(size, SERVOS * PLAIN + 1);
        for (uint32_t split = 1; split < size; split++) {
            inphase_parser_reset(parser);
            CHECK_EQUAL(feed(parser, bytes, split, values, &reason), 0);
            CHECK_EQUAL(feed(parser, bytes + split, size - split, values, &reason), 1);
            check_values_are_right(values, SERVOS, stuffed);
        }

        /* byte by byte, and again behind it: no reset is needed in between */
        inphase_parser_reset(parser);
        for (uint32_t i = 0; i < 2 * size; i++)
            CHECK_EQUAL(feed(parser, bytes + i % size, 1, values, &reason), (i + 1) % size == 0);
        check_values_are_right(values, SERVOS, stuffed);
    }
    inphase_parser_close(parser);
}

static void a_fast_sync_read_is_not_unstuffed_and_checked_block_by_block(void)
{
    struct inphase_reply reply = {0, 0, 2 * SERVOS + 1, 0, 3 * SERVOS};
    struct inphase_check check[2 * SERVOS + 1];
    struct inphase_field field[3 * SERVOS];
    struct inphase_exchange exchange = {.replies = 1, .framing = protocol2, .reply = &reply,
                                        .check = check, .field = field,
                                        .checks = 2 * SERVOS + 1, SUMS, .fields = 3 * SERVOS};
    uint8_t bytes[256] = {0xff, 0xff, 0xfd, 0, 0xfe, 0, 0, 0x55};
    double values[INPHASE_MAX_VALUES];
    uint32_t size = 8, reason, detail;
    inphase_parser *parser;

    /* a block is error, id, current, velocity, position, and the checksum of all before it */
    exchange.framing.escape_size = 0;
    bytes[5] = SERVOS * 14 + 1;
    check[0] = (struct inphase_check){INPHASE_CHECK_MATCH, INPHASE_U8, 0, 4, 0xff, 0xfe, 0, 0, 0};
    for (uint32_t i = 0; i < SERVOS; i++) {
        uint32_t at = 8 + 14 * i;

        check[2 * i + 1] = (struct inphase_check){.kind = INPHASE_CHECK_SUM, .offset = at + 12};
        check[2 * i + 2] =
            (struct inphase_check){.kind = INPHASE_CHECK_MATCH, .type = INPHASE_U16,
                                   .offset = at, .mask = 0xff7f, .expect = (i + 1) << 8};
        set_fields(&field[3 * i], i, at + 2);
        bytes[at + 1] = (uint8_t)(i + 1);
        memset(bytes + at + 2, 0xff, 2);
        put32(bytes + at + 4, 253);
        put32(bytes + at + 8, (int32_t)i);
        size = put_crc(bytes, at + 12);
    }
    CHECK_EQUAL(size, 8 + 14 * SERVOS);
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
    CHECK_EQUAL(feed(parser, bytes, size, values, &reason), 1);
    for (uint32_t i = 0; i < SERVOS; i++)
        CHECK(values[3 * i] == -1 && values[3 * i + 1] == 253 && values[3 * i + 2] == i);

    /* a wrong byte in one block is found at that block's checksum */
    for (uint32_t i = 0; i < SERVOS; i++) {
        inphase_parser_reset(parser);
        bytes[8 + 14 * i + 5] ^= 1;
        CHECK_EQUAL(inphase_parser_feed(parser, bytes, size, values, &reason, &detail), -EBADMSG);
        CHECK_EQUAL(reason, INPHASE_REASON_CHECKSUM);
        CHECK_EQUAL(detail, 8 + 14 * i + 12);
        bytes[8 + 14 * i + 5] ^= 1;
        inphase_parser_close(parser);
        CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
    }
    inphase_parser_close(parser);
}

static void garbage_before_a_reply_is_dropped(void)
{
    static const uint8_t noise[] = {0x12, 0xff, 0xff, 0xfd, 0x01, 0xff, 0xff, 0xff};
    struct bus bus;
    inphase_parser *parser;
    uint8_t bytes[512];
    double values[INPHASE_MAX_VALUES];
    uint32_t size, reason;

    sync_read(&bus, 1);
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), 0);
    memcpy(bytes, noise, sizeof noise);
    size = sizeof noise + status_packet(bytes + sizeof noise, 1, 0, -1, 253, -7);
    for (uint32_t split = 0; split <= size; split++) {
        inphase_parser_reset(parser);
        parser->dropped = 0;
        CHECK_EQUAL(feed(parser, bytes, split, values, &reason), split == size);
        CHECK_EQUAL(feed(parser, bytes + split, size - split, values, &reason), split < size);
        check_values_are_right(values, 1, 0);
        CHECK_EQUAL(parser->dropped, sizeof noise);
    }
    inphase_parser_close(parser);
}

static void garbage_inside_is_refused_and_the_next_reply_is_found(void)
{
    struct bus bus;
    inphase_parser *parser;
    uint8_t bytes[512];
    double values[INPHASE_MAX_VALUES];
    uint32_t first, second, reason;

    sync_read(&bus, 1);
    for (uint32_t at = 0; at < PLAIN; at++) {
        int rc;

        CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), 0);
        first = status_packet(bytes, 1, 0, 1, 2, 3);
        bytes[at] ^= 0x5a;
        second = status_packet(bytes + first, 1, 0, -1, 253, -7);
        rc = feed(parser, bytes, first + second, values, &reason);

        /* what does not begin as a packet is none, and nothing of it is refused */
        if (at < bus.exchange.framing.start_size)
            CHECK_EQUAL(rc, 1);

        /* a length that was hit asks for more bytes than ever come, or for fewer */
        for (int more = 0; more < 8 && rc != 1; more++) {
            CHECK(rc == 0 || rc == -EBADMSG);
            if (rc == -EBADMSG)
                rc = feed(parser, bytes, 0, values, &reason);
            else
                rc = feed(parser, bytes + first, second, values, &reason);
        }
        CHECK_EQUAL(rc, 1);
        check_values_are_right(values, 1, 0);
        inphase_parser_close(parser);
    }
}

static void what_a_wrong_reply_is_refused_for(void)
{
    struct bus bus;
    inphase_parser *parser;
    uint8_t bytes[512];
    double values[INPHASE_MAX_VALUES];
    uint32_t size, reason, detail;

    sync_read(&bus, 1);
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), 0);

    /* another servo's */
    size = status_packet(bytes, 2, 0, 1, 2, 3);
    CHECK_EQUAL(inphase_parser_feed(parser, bytes, size, values, &reason, &detail), -EBADMSG);
    CHECK(reason == INPHASE_REASON_MISMATCH && detail == 2);

    /* with the error number set; bit 7 is only an alert */
    inphase_parser_reset(parser);
    size = status_packet(bytes, 1, 0x84, 1, 2, 3);
    CHECK_EQUAL(inphase_parser_feed(parser, bytes, size, values, &reason, &detail), -EBADMSG);
    CHECK(reason == INPHASE_REASON_DEVICE && detail == 4);
    inphase_parser_reset(parser);
    size = status_packet(bytes, 1, 0x80, 1, 2, 3);
    CHECK_EQUAL(inphase_parser_feed(parser, bytes, size, values, &reason, &detail), 1);

    /* whole by its length and checksum, but without the parameters that were asked for */
    inphase_parser_reset(parser);
    memcpy(bytes, (uint8_t[]){0xff, 0xff, 0xfd, 0, 1, 4, 0, 0x55, 0}, 9);
    CHECK_EQUAL(put_crc(bytes, 9), 11);
    CHECK_EQUAL(inphase_parser_feed(parser, bytes, 11, values, &reason, &detail), -EBADMSG);
    CHECK(reason == INPHASE_REASON_SIZE && detail == 11);

    /* checksum */
    inphase_parser_reset(parser);
    size = status_packet(bytes, 1, 0, 1, 2, 3);
    bytes[size - 1] ^= 0x10;
    CHECK_EQUAL(inphase_parser_feed(parser, bytes, size, values, &reason, &detail), -EBADMSG);
    CHECK(reason == INPHASE_REASON_CHECKSUM && detail == size - 2);
    inphase_parser_close(parser);
}

static void a_length_out_of_bounds_is_no_packet(void)
{
    static const uint16_t lengths[] = {0, 3, 250, 0x100, 0x7fff, 0xffff};
    struct bus bus;
    inphase_parser *parser;
    uint8_t bytes[512] = {0xff, 0xff, 0xfd, 0, 1};
    double values[INPHASE_MAX_VALUES];
    uint32_t size, reason;

    sync_read(&bus, 1);
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), 0);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        inphase_parser_reset(parser);
        bytes[5] = (uint8_t)lengths[i];
        bytes[6] = (uint8_t)(lengths[i] >> 8);
        size = 7 + status_packet(bytes + 7, 1, 0, -1, 253, -7);
        CHECK_EQUAL(feed(parser, bytes, size, values, &reason), 1);
        check_values_are_right(values, 1, 0);
    }
    inphase_parser_close(parser);
}

static void random_bytes_never_crash_or_hang(void)
{
    static const uint8_t alphabet[] = {0xff, 0xff, 0xff, 0xfd, 0, 1, 14, 4, 0x55};
    struct bus bus;
    inphase_parser *parser;
    uint8_t bytes[3 * INPHASE_MAX_PACKET];
    double values[INPHASE_MAX_VALUES];
    uint32_t reason;

    sync_read(&bus, 2);
    bus.exchange.framing.max_size = INPHASE_MAX_PACKET;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), 0);
    for (int round = 0; round < 3000; round++) {
        uint32_t size = (uint32_t)(check_random() % (sizeof bytes + 1));
        uint64_t kind = check_random() % 3;
        int rc;

        for (uint32_t i = 0; i < size; i++)
            bytes[i] = kind ? alphabet[check_random() % sizeof alphabet] : (uint8_t)check_random();
        if (kind == 2 && size >= 64)
            status_packets(bytes + check_random() % (size - 63), 2, 0);
        rc = feed(parser, bytes, size, values, &reason);
        CHECK(rc == 0 || rc == 1 || rc == -EBADMSG);
        CHECK(parser->size <= INPHASE_MAX_PACKET && parser->replies <= 2);
        if (rc == 1)
            inphase_parser_reset(parser);
    }
    inphase_parser_close(parser);
}

static void a_datagram_of_the_wrong_size_is_refused(void)
{
    struct inphase_reply reply = {36, 0, 0, 0, 1};
    struct inphase_field field = {12, INPHASE_I32, 1, 0, 0.5, 1};
    struct inphase_exchange exchange = {.replies = 1, .reply = &reply, .field = &field,
                                        .fields = 1, .sequence_offset = 4,
                                        .sequence_type = INPHASE_U32, .sequence_big_endian = 1};
    uint8_t bytes[2 * INPHASE_MAX_PACKET] = {0};
    double values[INPHASE_MAX_VALUES];
    uint32_t reason, detail;
    inphase_parser *parser;

    exchange.framing = (struct inphase_framing){.datagram = 1, .min_size = 36, .max_size = 36};
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
    for (uint32_t size = 0; size <= sizeof bytes; size++) {
        int rc = inphase_parser_feed(parser, bytes, size, values, &reason, &detail);

        CHECK_EQUAL(rc, size == 36 ? 1 : -EBADMSG);
        if (rc < 0)
            CHECK(reason == INPHASE_REASON_SIZE && detail == size);
        inphase_parser_reset(parser);
    }
    memcpy(bytes + 12, (uint8_t[]){0xff, 0xff, 0xff, 0xfe}, 4);
    bytes[7] = 9;
    CHECK_EQUAL(inphase_parser_feed(parser, bytes, 36, values, &reason, &detail), 1);
    CHECK(values[0] == 0 && parser->sequence == 9);
    inphase_parser_close(parser);
}

/* Modbus RTU: the function code says the packet's size, and a refusal is shorter */
static void a_byte_says_the_size_by_its_value_and_a_refusal_is_told_by_its_number(void)
{
    static const struct inphase_checksum modbus = {
        .kind = INPHASE_CHECKSUM_CRC, .width = 16, .polynomial = 0x8005, .initial = 0xffff,
        .reflected_in = 1, .reflected_out = 1};
    static const struct inphase_reply reply = {0, 0, 2, 0, 1};
    static const struct inphase_check check[] = {
        {.kind = INPHASE_CHECK_SUM_END},
        {.kind = INPHASE_CHECK_ZERO, .type = INPHASE_U8, .offset = 1, .mask = 0x80, .number = 3}};
    static const struct inphase_field field = {3, INPHASE_I16, 1, 0, 1, 0};
    struct inphase_exchange exchange = {
        .replies = 1, .reply = &reply, .check = check, .field = &field, .checks = 2, .fields = 1,
        .checksum = &modbus, .checksums = 1,
        .framing = {.start_size = 1, .start = {1}, .min_size = 5, .max_size = 7, .sizes = 2,
                    .size_offset = 1, .size_value = {4, 0x84}, .size_of = {7, 5}}};
    static const uint8_t good[] = {1, 4, 2, 0xff, 0xfe, 0x79, 0x40};
    static const uint8_t refusal[] = {1, 0x84, 2, 0xc2, 0xc1};
    double values[INPHASE_MAX_VALUES];
    uint32_t reason, detail;
    inphase_parser *parser;

    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
    for (uint32_t cut = 0; cut < sizeof good; cut++) {
        CHECK_EQUAL(feed(parser, good, cut, values, &reason), 0);
        CHECK_EQUAL(feed(parser, good + cut, sizeof good - cut, values, &reason), 1);
        CHECK(values[0] == -2);
    }
    for (uint32_t cut = 0; cut < sizeof refusal; cut++) {
        inphase_parser_reset(parser);
        CHECK_EQUAL(feed(parser, refusal, cut, values, &reason), 0);
        CHECK_EQUAL(inphase_parser_feed(parser, refusal + cut, sizeof refusal - cut, values,
                                        &reason, &detail), -EBADMSG);
        CHECK_EQUAL(reason, INPHASE_REASON_DEVICE);
        CHECK_EQUAL(detail, 2);
    }

    /* bytes with a code that is none are no packet, and what follows them is found */
    inphase_parser_reset(parser);
    CHECK_EQUAL(feed(parser, (const uint8_t[]){1, 9, 1, 1, 7}, 5, values, &reason), 0);
    CHECK_EQUAL(feed(parser, good, sizeof good, values, &reason), 1);
    inphase_parser_close(parser);

    /* a size beyond the stated ones is a mistake */
    exchange.framing.size_of[1] = 8;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
}

/* a sync write of goal positions to two servos */
static const uint8_t sync_write[] = {0xff, 0xff, 0xfd, 0, 0xfe, 0, 0, 0x83, 116, 0, 4, 0,
                                     1,    0,    0,    0, 0,    2, 0, 0,    0,   0};

static void an_encoded_command_is_stuffed_and_counts_it_in_its_length(void)
{
    struct inphase_field field[] = {{13, INPHASE_I32, 0, 0, 1, 0}, {18, INPHASE_I32, 0, 1, 1, 0}};
    struct inphase_encoding encoding = {.packet = sync_write, .packet_size = sizeof sync_write,
                                        .fields = 2, .field = field, .framing = protocol2,
                                        .checksum = dynamixel_crc};
    uint8_t bytes[64], plain[64];

    /* the pattern in front, at the very end of the parameters, one before that, in both */
    static const struct {
        int32_t goal[2];
        int32_t stuffed;
    } cases[] = {
        {{1, 2}, 0},
        {{0x00fdffff, 2}, 1},
        {{1, (int32_t)0xfdffff00}, 1},
        {{1, 0x00fdffff}, 1},
        {{0x00fdffff, (int32_t)0xfdffff00}, 2},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double values[2] = {cases[i].goal[0], cases[i].goal[1]};
        int32_t size = inphase_encode(&encoding, values, bytes, sizeof bytes);
        int32_t back;

        CHECK_EQUAL(size, (int32_t)sizeof sync_write + 2 + cases[i].stuffed);
        CHECK_EQUAL(bytes[5] | bytes[6] << 8, size - 7);
        CHECK_EQUAL(crc_of(bytes, (uint32_t)size - 2),
                    bytes[size - 2] | bytes[size - 1] << 8);
        back = inphase_unescape(&protocol2, bytes, (uint32_t)size, plain, sizeof plain);
        CHECK_EQUAL(back, sizeof sync_write + 2);
        CHECK(raw_to_double(plain + 13, INPHASE_I32, false) == cases[i].goal[0]);
        CHECK(raw_to_double(plain + 18, INPHASE_I32, false) == cases[i].goal[1]);
        CHECK_EQUAL(inphase_encode(&encoding, values, bytes, (uint32_t)size - 1), -EMSGSIZE);
    }
}

static void encoding_rounds_saturates_and_refuses_what_is_not_finite(void)
{
    static const struct {
        uint32_t type;
        double low, high;
    } types[] = {
        {INPHASE_U8, 0, UINT8_MAX},           {INPHASE_I8, INT8_MIN, INT8_MAX},
        {INPHASE_U16, 0, UINT16_MAX},         {INPHASE_I16, INT16_MIN, INT16_MAX},
        {INPHASE_U32, 0, UINT32_MAX},         {INPHASE_I32, INT32_MIN, INT32_MAX},
        {INPHASE_F32, -0x1.fffffep127, 0x1.fffffep127},
        {INPHASE_SM16, -32767, 32767},        {INPHASE_SM11, -1023, 1023},
        {INPHASE_U12_HIGH, 0, 4095},          {INPHASE_U12_LOW, 0, 4095},
    };
    uint8_t template[16] = {0}, bytes[16];

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int big_endian = 0; big_endian < 2; big_endian++) {
            uint16_t type = (uint16_t)types[i].type;
            struct inphase_field field = {4, type, (uint16_t)big_endian, 0, 1, 0};
            struct inphase_encoding encoding = {.packet = template, .packet_size = 16,
                                                .fields = 1, .field = &field};
            double to_low = -1.7e308, to_high = 1.7e308, near = 41.75;

            CHECK_EQUAL(inphase_encode(&encoding, &to_low, bytes, 16), 16);
            CHECK(raw_to_double(bytes + 4, types[i].type, big_endian) == types[i].low);
            CHECK_EQUAL(inphase_encode(&encoding, &to_high, bytes, 16), 16);
            CHECK(raw_to_double(bytes + 4, types[i].type, big_endian) == types[i].high);
            CHECK_EQUAL(inphase_encode(&encoding, &near, bytes, 16), 16);
            CHECK(raw_to_double(bytes + 4, types[i].type, big_endian) ==
                  (types[i].type == INPHASE_F32 ? 41.75 : 42));
            CHECK_EQUAL(inphase_encode(&encoding, &(double){NAN}, bytes, 16), -EDOM);
            CHECK_EQUAL(inphase_encode(&encoding, &(double){-INFINITY}, bytes, 16), -EDOM);
            field.scale = 0;
            CHECK_EQUAL(inphase_encode(&encoding, &near, bytes, 16), -EDOM);
        }
}

/* a magnitude and its sign, in bit 15 or 10; bits above the sign are none of the number */
static void a_number_with_a_sign_bit_is_read_and_written_bit_by_bit(void)
{
    static const struct {
        uint16_t type, bits;
        double value;
        uint16_t written;
    } cases[] = {
        {INPHASE_SM16, 0x0001, 1, 0x0001},       {INPHASE_SM16, 0x8001, -1, 0x8001},
        {INPHASE_SM16, 0x8000, 0, 0x0000},       {INPHASE_SM16, 0xffff, -32767, 0xffff},
        {INPHASE_SM11, 0x03ff, 1023, 0x03ff},    {INPHASE_SM11, 0x0464, -100, 0x0464},
        {INPHASE_SM11, 0xf864, 100, 0x0064},     {INPHASE_SM11, 0x0400, 0, 0x0000},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int big_endian = 0; big_endian < 2; big_endian++) {
            struct inphase_field field = {1, cases[i].type, (uint16_t)big_endian, 0, 1, 0};
            uint8_t bytes[4] = {0}, template[4] = {0};
            struct inphase_encoding encoding = {.packet = template, .packet_size = 4, .fields = 1,
                                                .field = &field};

            bytes[1 + big_endian] = cases[i].bits & 0xff;
            bytes[2 - big_endian] = (uint8_t)(cases[i].bits >> 8);
            double value = raw_to_double(bytes + 1, cases[i].type, big_endian);

            CHECK(value == cases[i].value);
            CHECK_EQUAL(inphase_encode(&encoding, &value, bytes, 4), 4);
            CHECK_EQUAL(bytes[1 + big_endian] | bytes[2 - big_endian] << 8, cases[i].written);
        }
}

static void an_exchange_that_points_outside_its_bounds_is_refused(void)
{
    struct bus bus;
    inphase_parser *parser;

    sync_read(&bus, 2);
    bus.reply[1].first_field = UINT32_MAX;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);
    sync_read(&bus, 2);
    bus.reply[1].first_check = UINT32_MAX - 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);
    sync_read(&bus, 2);
    bus.field[0].offset = UINT32_MAX - 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);
    sync_read(&bus, 2);
    bus.check[1].offset = UINT32_MAX;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);
    sync_read(&bus, 2);
    bus.exchange.framing.length_offset = UINT32_MAX - 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);
    sync_read(&bus, 2);
    bus.exchange.sequence_type = INPHASE_U32;
    bus.exchange.sequence_offset = UINT32_MAX - 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);

    /* what is no whole number does not count */
    sync_read(&bus, 2);
    bus.exchange.sequence_type = INPHASE_F64;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);
    sync_read(&bus, 2);
    bus.exchange.clock_type = INPHASE_F32;
    bus.exchange.clock_tick_ns = 1000;
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);
}

/* a device's time in seconds is taken as whole nanoseconds; what is no time is 0 */
static void a_clock_of_seconds_is_taken_in_nanoseconds(void)
{
    static const struct inphase_reply reply = {.size = 9, .fields = 1};
    static const struct inphase_field field = {8, INPHASE_U8, 0, 0, 1, 0};
    static const uint8_t packet[] = {0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 7}; /* 1.5 s */
    static const uint8_t nan[] = {0x7f, 0xf8, 0, 0, 0, 0, 0, 0, 7};
    static const uint8_t far_away[] = {0x7f, 0xe0, 0, 0, 0, 0, 0, 0, 7};
    struct inphase_exchange exchange = {
        .replies = 1, .reply = &reply, .field = &field, .fields = 1,
        .clock_type = INPHASE_F64, .clock_big_endian = 1, .clock_tick_ns = 1000,
        .framing = {.datagram = 1, .min_size = 9, .max_size = 9}};
    inphase_parser *parser;
    uint32_t reason, detail;
    double value[INPHASE_MAX_VALUES];

    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
    exchange.clock_tick_ns = 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
    CHECK_EQUAL(inphase_parser_feed(parser, packet, sizeof packet, value, &reason, &detail), 1);
    CHECK_EQUAL(inphase_parser_clock(parser), 1500000000);
    CHECK_EQUAL(inphase_parser_feed(parser, nan, sizeof nan, value, &reason, &detail), 1);
    CHECK_EQUAL(inphase_parser_clock(parser), 0);
    CHECK_EQUAL(inphase_parser_feed(parser, far_away, sizeof far_away, value, &reason, &detail),
                1);
    CHECK_EQUAL(inphase_parser_clock(parser), 0);
    inphase_parser_close(parser);
}

static void an_encoding_that_points_outside_its_packet_is_refused(void)
{
    struct inphase_field field = {UINT32_MAX - 1, INPHASE_I32, 0, 0, 1, 0};
    struct inphase_encoding encoding = {.packet = sync_write, .packet_size = sizeof sync_write,
                                        .fields = 1, .field = &field, .framing = protocol2};
    uint8_t bytes[64];
    double value = 1;

    CHECK_EQUAL(inphase_encode(&encoding, &value, bytes, sizeof bytes), -EMSGSIZE);
    field.offset = 13;
    encoding.framing.length_offset = UINT32_MAX - 1;
    CHECK_EQUAL(inphase_encode(&encoding, &value, bytes, sizeof bytes), -EMSGSIZE);
    encoding.framing.length_offset = sizeof sync_write - 1;
    CHECK_EQUAL(inphase_encode(&encoding, &value, bytes, sizeof bytes), -EMSGSIZE);
    encoding.framing.length_offset = 5;
    CHECK_EQUAL(inphase_encode(&encoding, &value, bytes, sizeof bytes), sizeof sync_write);
}

/* a number of each type lies wholly inside of the longest packet, as a value and as a sequence */
static void a_number_that_reaches_beyond_the_longest_packet_is_refused(void)
{
    static const struct {
        uint32_t type, size;
        bool whole;
    } types[] = {
        {INPHASE_U8, 1, true}, {INPHASE_I8, 1, true}, {INPHASE_U16, 2, true},
        {INPHASE_I16, 2, true}, {INPHASE_U32, 4, true}, {INPHASE_I32, 4, true},
        {INPHASE_F32, 4, false}, {INPHASE_F64, 8, false}, {INPHASE_U64, 8, true},
        {INPHASE_SM16, 2, false}, {INPHASE_SM11, 2, false}, {INPHASE_U12_HIGH, 2, false},
        {INPHASE_U12_LOW, 2, false}, {INPHASE_U4_HIGH, 1, false}, {INPHASE_U2_HIGH, 1, false},
    };
    static const uint32_t size = INPHASE_MAX_PACKET;

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (uint32_t beyond = 0; beyond < 2; beyond++) {
            struct inphase_reply reply = {.size = size, .fields = 1};
            uint32_t offset = size - types[i].size + beyond;
            struct inphase_field field = {offset, types[i].type, 0, 0, 1, 0};
            struct inphase_exchange exchange = {
                .replies = 1, .reply = &reply, .field = &field, .fields = 1,
                .framing = {.datagram = 1, .min_size = size, .max_size = size}};
            struct exchange *copy = calloc(1, sizeof *copy);

            CHECK(copy);
            CHECK_EQUAL(exchange_copy(copy, &exchange), beyond ? -EINVAL : 0);
            exchange.fields = reply.fields = 0;
            exchange.sequence_offset = offset;
            exchange.sequence_type = types[i].type;
            CHECK_EQUAL(exchange_copy(copy, &exchange), beyond || !types[i].whole ? -EINVAL : 0);
            free(copy);
        }
}

/* one number beyond its bound, and the whole exchange is refused */
#define REFUSED(member, value)                                                                     \
    do {                                                                                           \
        sync_read(&bus, 2);                                                                        \
        bus.exchange.member = (value);                                                             \
        CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), -EINVAL);                         \
    } while (0)

static void an_exchange_beyond_its_bounds_is_refused(void)
{
    struct bus bus;
    inphase_parser *parser;

    REFUSED(request_size, INPHASE_MAX_PACKET + 1);
    REFUSED(replies, 0);
    REFUSED(replies, MAX_REPLIES + 1);
    REFUSED(answers, 1); /* its packets have an escape rule */
    REFUSED(request_chunk, 16); /* a stream has no datagrams */
    REFUSED(checks, MAX_CHECKS + 1);
    REFUSED(fields, MAX_FIELDS + 1);
    REFUSED(framing.min_size, 0);
    REFUSED(framing.min_size, bus.exchange.framing.max_size + 1);
    REFUSED(framing.max_size, INPHASE_MAX_PACKET + 1);
    REFUSED(framing.escape_size, 5);
    REFUSED(framing.start_size, 0);
    REFUSED(framing.start_size, 5);
    REFUSED(framing.length_size, 3);
    sync_read(&bus, 2);
    CHECK_EQUAL(inphase_parser_open(&parser, &bus.exchange), 0);
    inphase_parser_close(parser);
}

/* unit, 4, count, two values (high byte first), CRC (low byte first); a refusal has 5 bytes */
static const struct inphase_checksum modbus_crc = {
    .kind = INPHASE_CHECKSUM_CRC, .width = 16, .polynomial = 0x8005, .initial = 0xffff,
    .reflected_in = 1, .reflected_out = 1};
static struct inphase_check modbus_check[] = {
    {.kind = INPHASE_CHECK_SUM_END},
    {.kind = INPHASE_CHECK_ZERO, .type = INPHASE_U8, .offset = 1, .mask = 0x80, .number = 3}};
static const struct inphase_field modbus_field[] = {{3, INPHASE_I16, 1, 0, 1, 0},
                                                    {5, INPHASE_I16, 1, 1, 1, 0}};
static struct inphase_reply modbus_reply[] = {{0, 0, 2, 0, 2}};
static const struct inphase_exchange modbus = {
    .replies = 1, .framing = {.min_size = 5, .max_size = 9, .idle_ns = 1750000},
    .reply = modbus_reply, .check = modbus_check, .checks = 2, .field = modbus_field, .fields = 2,
    .checksum = &modbus_crc, .checksums = 1};
static const uint8_t modbus_answer[9] = {1, 4, 4, 0x01, 0x02, 0xff, 0xfe, 0, 0};

static uint32_t modbus_packet(uint8_t *to, const uint8_t *from, uint32_t size)
{
    uint64_t crc = 0;

    memcpy(to, from, size);
    CHECK_EQUAL(inphase_checksum(&modbus_crc, to, size - 2, &crc), 0);
    to[size - 2] = (uint8_t)crc;
    to[size - 1] = (uint8_t)(crc >> 8);
    return size;
}

static int end(inphase_parser *parser, double *values, uint32_t *reason, uint32_t *detail)
{
    *reason = *detail = 0;
    return inphase_parser_end(parser, values, reason, detail);
}

/* at every split a packet is what came before the silence; cut in two it is refused twice, and the
   next one is whole again */
static void silence_ends_a_packet_wherever_its_bytes_were_split(void)
{
    uint8_t packet[9];
    uint32_t size = modbus_packet(packet, modbus_answer, 9), reason, detail;
    double values[INPHASE_MAX_VALUES] = {0};
    inphase_parser *parser;

    CHECK_EQUAL(inphase_parser_open(&parser, &modbus), 0);
    CHECK_EQUAL(end(parser, values, &reason, &detail), 0);
    for (uint32_t at = 0; at <= size; at++) {
        CHECK_EQUAL(inphase_parser_feed(parser, packet, at, values, &reason, &detail), 0);
        CHECK_EQUAL(inphase_parser_held(parser), at);
        CHECK_EQUAL(inphase_parser_feed(parser, packet + at, size - at, values, &reason, &detail),
                    0);
        CHECK_EQUAL(end(parser, values, &reason, &detail), 1);
        CHECK(values[0] == 0x102 && values[1] == -2);
        CHECK_EQUAL(inphase_parser_held(parser), 0);
    }
    for (uint32_t at = 1; at < size; at++) {
        inphase_parser_feed(parser, packet, at, values, &reason, &detail);
        CHECK_EQUAL(end(parser, values, &reason, &detail), -EBADMSG);
        CHECK_EQUAL(reason, at < 5 ? INPHASE_REASON_SIZE : INPHASE_REASON_CHECKSUM);
        inphase_parser_feed(parser, packet + at, size - at, values, &reason, &detail);
        CHECK_EQUAL(end(parser, values, &reason, &detail), -EBADMSG);
        inphase_parser_feed(parser, packet, size, values, &reason, &detail);
        CHECK_EQUAL(end(parser, values, &reason, &detail), 1);
        CHECK(values[0] == 0x102 && values[1] == -2);
    }
    inphase_parser_close(parser);
}

/* a device that confirms each command by a packet with another function: it is in no reply */
static void an_answer_to_a_command_is_dropped_while_it_is_owed(void)
{
    static const uint8_t confirmed[8] = {1, 16, 3, 0xe8, 0, 3, 0, 0};
    static struct inphase_check check[] = {
        {.kind = INPHASE_CHECK_SUM_END},
        {.kind = INPHASE_CHECK_MATCH, .type = INPHASE_U8, .offset = 1, .mask = 0xff, .expect = 4},
        {.kind = INPHASE_CHECK_SUM_END},
        {.kind = INPHASE_CHECK_MATCH, .type = INPHASE_U8, .offset = 1, .mask = 0xff, .expect = 16}};
    static struct inphase_reply reply[] = {{9, 0, 2, 0, 2}, {8, 2, 2, 0, 0}};
    struct inphase_exchange exchange = modbus;
    uint8_t bytes[17];
    uint32_t size = modbus_packet(bytes, confirmed, 8), reason = 0, detail;
    double values[INPHASE_MAX_VALUES] = {0};

    modbus_packet(bytes + size, modbus_answer, 9);
    exchange.answers = 1;
    exchange.reply = reply;
    exchange.check = check;
    exchange.checks = 4;
    exchange.framing = (struct inphase_framing){
        .start_size = 1, .start = {1}, .min_size = 5, .max_size = 9, .sizes = 2, .size_offset = 1,
        .size_value = {4, 16}, .size_of = {9, 8}};
    for (uint32_t at = 0; at <= sizeof bytes; at++) {
        inphase_parser *parser;

        CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
        inphase_parser_owe(parser);
        int rc = inphase_parser_feed(parser, bytes, at, values, &reason, &detail);

        CHECK_EQUAL(rc, at == sizeof bytes);
        if (rc == 0)
            CHECK_EQUAL(inphase_parser_feed(parser, bytes + at, (uint32_t)sizeof bytes - at, values,
                                            &reason, &detail), 1);
        CHECK(values[0] == 0x102 && values[1] == -2);
        CHECK_EQUAL(inphase_parser_answered(parser), 1);

        /* nothing is owed any more: it is a reply, and none of this exchange */
        CHECK_EQUAL(inphase_parser_feed(parser, bytes, 8, values, &reason, &detail), -EBADMSG);
        CHECK_EQUAL(reason, INPHASE_REASON_SIZE);
        inphase_parser_close(parser);
    }

    /* the same where silence ends a packet */
    exchange.framing = modbus.framing;
    inphase_parser *parser;

    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
    inphase_parser_owe(parser);
    CHECK_EQUAL(inphase_parser_feed(parser, bytes, 8, values, &reason, &detail), 0);
    CHECK_EQUAL(end(parser, values, &reason, &detail), 0);
    CHECK_EQUAL(inphase_parser_answered(parser), 1);
    CHECK_EQUAL(inphase_parser_feed(parser, bytes + 8, 9, values, &reason, &detail), 0);
    CHECK_EQUAL(end(parser, values, &reason, &detail), 1);
    inphase_parser_close(parser);
}

/* parts of a word are written beside each other, whatever the template has there */
static void packed_values_leave_each_other_alone(void)
{
    static const uint8_t template[5] = {0xff, 0xff, 0xff, 0xff, 0xff};
    struct inphase_field field[] = {{0, INPHASE_U12_HIGH, 1, 0, 1, 0},
                                    {1, INPHASE_U12_LOW, 1, 1, 1, 0},
                                    {3, INPHASE_U4_HIGH, 0, 2, 1, 0},
                                    {4, INPHASE_U2_HIGH, 0, 3, 1, 0}};
    struct inphase_encoding encoding = {.packet = template, .packet_size = 5, .fields = 4,
                                        .field = field};
    double values[4] = {0x123, 0x456, 0x7, 0x1};
    uint8_t bytes[5];

    CHECK_EQUAL(inphase_encode(&encoding, values, bytes, 5), 5);
    CHECK(bytes[0] == 0x12 && bytes[1] == 0x34 && bytes[2] == 0x56 && bytes[3] == 0x7f);
    CHECK(bytes[4] == 0x7f);
    for (int i = 0; i < 4; i++)
        CHECK(raw_to_double(bytes + field[i].offset, field[i].type, field[i].big_endian) ==
              values[i]);

    /* in the other order of bytes, and beyond the ends */
    field[0].big_endian = field[1].big_endian = 0;
    field[1].offset = 2;
    values[0] = 5000;
    values[1] = -3;
    encoding.fields = 2;
    CHECK_EQUAL(inphase_encode(&encoding, values, bytes, 5), 5);
    CHECK(bytes[0] == 0xff && bytes[1] == 0xff && bytes[2] == 0 && bytes[3] == 0xf0);
}

/* garbage without a silence, two packets in one, and more than any packet has: one refusal each */
static void what_comes_without_a_silence_is_one_packet_and_refused(void)
{
    static const uint8_t exception[5] = {1, 0x84, 2, 0, 0};
    uint8_t packet[9], many[64] = {0};
    uint32_t size = modbus_packet(packet, modbus_answer, 9), reason, detail;
    double values[INPHASE_MAX_VALUES] = {0};
    inphase_parser *parser;

    CHECK_EQUAL(inphase_parser_open(&parser, &modbus), 0);
    inphase_parser_feed(parser, many, 1, values, &reason, &detail);
    inphase_parser_feed(parser, packet, size, values, &reason, &detail);
    CHECK_EQUAL(end(parser, values, &reason, &detail), -EBADMSG);
    CHECK_EQUAL(reason, INPHASE_REASON_SIZE);
    CHECK_EQUAL(detail, 10);
    for (int i = 0; i < 1000; i++)
        inphase_parser_feed(parser, many, sizeof many, values, &reason, &detail);
    CHECK_EQUAL(end(parser, values, &reason, &detail), -EBADMSG);
    CHECK_EQUAL(reason, INPHASE_REASON_SIZE);
    CHECK(detail > INPHASE_MAX_PACKET);
    size = modbus_packet(packet, exception, 5);
    inphase_parser_feed(parser, packet, size, values, &reason, &detail);
    CHECK_EQUAL(end(parser, values, &reason, &detail), -EBADMSG);
    CHECK_EQUAL(reason, INPHASE_REASON_DEVICE);
    CHECK_EQUAL(detail, 2);
    inphase_parser_feed(parser, packet, 3, values, &reason, &detail);
    inphase_parser_reset(parser);
    CHECK_EQUAL(end(parser, values, &reason, &detail), 0);
    inphase_parser_close(parser);
}

static void a_packet_that_silence_ends_is_told_by_nothing_else(void)
{
    struct inphase_exchange exchange = modbus;
    struct inphase_reply bare = {.fields = 2};
    inphase_parser *parser;

    exchange.framing.start_size = 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
    exchange.framing = modbus.framing;
    exchange.framing.length_size = 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
    exchange.framing = modbus.framing;
    exchange.framing.datagram = 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
    exchange.framing = modbus.framing;
    exchange.framing.sizes = 1;
    exchange.framing.size_of[0] = 5;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
    exchange.framing = modbus.framing;
    exchange.framing.idle_ns = 1000000001;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
    exchange.framing.idle_ns = -1;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);

    /* a part of it would pass for a whole one */
    exchange.framing = modbus.framing;
    exchange.reply = &bare;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), -EINVAL);
    bare.size = 9;
    CHECK_EQUAL(inphase_parser_open(&parser, &exchange), 0);
    inphase_parser_close(parser);
}

int main(void)
{
    check_seed();
    RUN(silence_ends_a_packet_wherever_its_bytes_were_split);
    RUN(what_comes_without_a_silence_is_one_packet_and_refused);
    RUN(a_packet_that_silence_ends_is_told_by_nothing_else);
    RUN(crc_of_the_manuals_ping_is_4e19);
    RUN(an_escaped_packet_comes_back_as_it_was);
    RUN(a_stuffed_reply_is_read_in_every_position_and_at_every_split);
    RUN(a_fast_sync_read_is_not_unstuffed_and_checked_block_by_block);
    RUN(garbage_before_a_reply_is_dropped);
    RUN(garbage_inside_is_refused_and_the_next_reply_is_found);
    RUN(what_a_wrong_reply_is_refused_for);
    RUN(a_length_out_of_bounds_is_no_packet);
    RUN(random_bytes_never_crash_or_hang);
    RUN(a_datagram_of_the_wrong_size_is_refused);
    RUN(a_byte_says_the_size_by_its_value_and_a_refusal_is_told_by_its_number);
    RUN(an_encoded_command_is_stuffed_and_counts_it_in_its_length);
    RUN(encoding_rounds_saturates_and_refuses_what_is_not_finite);
    RUN(a_number_with_a_sign_bit_is_read_and_written_bit_by_bit);
    RUN(packed_values_leave_each_other_alone);
    RUN(an_answer_to_a_command_is_dropped_while_it_is_owed);
    RUN(an_exchange_that_points_outside_its_bounds_is_refused);
    RUN(a_clock_of_seconds_is_taken_in_nanoseconds);
    RUN(an_encoding_that_points_outside_its_packet_is_refused);
    RUN(a_number_that_reaches_beyond_the_longest_packet_is_refused);
    RUN(an_exchange_beyond_its_bounds_is_refused);
    return 0;
}
