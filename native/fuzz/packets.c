/* Bytes from a device: whatever comes, in whatever pieces, the parser stays in its buffers, gives
   numbers or a reason, and finds the next good packet. Input: which exchange, then pieces, each a
   length byte and so many bytes. */
#include <errno.h>
#include <linux/can.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/packet.h"
#include "fuzz.h"

/* two servos of Protocol 2.0 */
static const struct inphase_reply servo_replies[] = {{21, 0, 3, 0, 2}, {21, 3, 3, 2, 2}};
static const struct inphase_check servo_checks[] = {
    {.kind = INPHASE_CHECK_SUM_END},
    {INPHASE_CHECK_MATCH, INPHASE_U8, 0, 4, 0xff, 1, 0, 0, 0},
    {INPHASE_CHECK_ZERO, INPHASE_U8, 0, 8, 0x7f, 0, 0, 0, 0},
    {.kind = INPHASE_CHECK_SUM_END},
    {INPHASE_CHECK_MATCH, INPHASE_U8, 0, 4, 0xff, 2, 0, 0, 0},
    {INPHASE_CHECK_ZERO, INPHASE_U8, 0, 8, 0x7f, 0, 0, 0, 0}};
static const struct inphase_checksum servo_sum = {
    .kind = INPHASE_CHECKSUM_CRC, .width = 16, .polynomial = 0x8005};
static const struct inphase_field servo_fields[] = {
    {9, INPHASE_I16, 0, 0, 1, 0}, {11, INPHASE_I32, 0, 1, 1, 0},
    {9, INPHASE_I16, 0, 2, 1, 0}, {11, INPHASE_I32, 0, 3, 1, 0}};

/* one datagram with counts of 16 bits and a sequence, and a line of fixed size with floats */
static const struct inphase_reply plain_reply[] = {{0, 0, 1, 0, 3}};
static const struct inphase_check plain_check[] = {
    {INPHASE_CHECK_MATCH, INPHASE_U16, 1, 0, 0xffff, 0x1234, 0, 0, 0}};
static const struct inphase_field plain_fields[] = {
    {8, INPHASE_I32, 1, 0, 1e-6, 0}, {12, INPHASE_I32, 1, 1, 1e-6, 0},
    {16, INPHASE_F32, 0, 2, 1, 0}};

/* three CAN frames, in any order */
static const struct inphase_reply can_replies[] = {
    {0, 0, 1, 0, 1}, {0, 1, 1, 1, 1}, {0, 2, 1, 2, 1}};
static const struct inphase_check can_checks[] = {
    {INPHASE_CHECK_MATCH, INPHASE_U32, 0, 0, 0xffffffff, 0x181, 0, 0, 0},
    {INPHASE_CHECK_MATCH, INPHASE_U32, 0, 0, 0xffffffff, 0x182, 0, 0, 0},
    {INPHASE_CHECK_MATCH, INPHASE_U32, 0, 0, 0xffffffff, 0x183, 0, 0, 0}};
static const struct inphase_reply can_answered[] = {
    {0, 0, 1, 0, 1}, {0, 1, 1, 1, 1}, {0, 0, 1, 0, 0}, {0, 1, 1, 0, 0}};
static const struct inphase_field can_fields[] = {
    {8, INPHASE_I32, 0, 0, 1, 0}, {8, INPHASE_I16, 0, 1, 1, 0}, {8, INPHASE_F32, 0, 2, 1, 0}};

/* Modbus RTU: the function code says the size, and a refusal is shorter */
static const struct inphase_reply modbus_reply[] = {{0, 0, 2, 0, 1}};
static const struct inphase_reply modbus_answered[] = {{7, 0, 2, 0, 1}, {5, 0, 1, 0, 0}};
static const struct inphase_check modbus_checks[] = {
    {.kind = INPHASE_CHECK_SUM_END},
    {.kind = INPHASE_CHECK_ZERO, .type = INPHASE_U8, .offset = 1, .mask = 0x80, .number = 3}};
static const struct inphase_checksum modbus_sum = {
    .kind = INPHASE_CHECKSUM_CRC, .width = 16, .polynomial = 0x8005, .initial = 0xffff,
    .reflected_in = 1, .reflected_out = 1};
static const struct inphase_field modbus_field[] = {{3, INPHASE_I16, 1, 0, 1, 0}};

static const struct inphase_exchange exchanges[] = {
    {.replies = 2, .reply = servo_replies, .check = servo_checks, .field = servo_fields,
     .checks = 6, .fields = 4, .checksum = &servo_sum, .checksums = 1,
     .framing = {.start_size = 4, .start = {0xff, 0xff, 0xfd, 0x00}, .length_offset = 5,
                 .length_size = 2, .length_add = 7, .min_size = 11, .max_size = 256,
                 .escape_size = 3, .escape = {0xff, 0xff, 0xfd}, .escape_insert = 0xfd,
                 .escape_from = 7, .escape_tail = 2}},
    {.replies = 1, .framing = {.datagram = 1, .min_size = 20, .max_size = 36},
     .reply = plain_reply, .check = plain_check, .field = plain_fields, .checks = 1, .fields = 3,
     .sequence_offset = 4, .sequence_type = INPHASE_U32, .sequence_big_endian = 1},
    {.replies = 1, .framing = {.start_size = 2, .start = {0x12, 0x34}, .min_size = 20,
                               .max_size = 20},
     .reply = plain_reply, .check = plain_check, .field = plain_fields, .checks = 1, .fields = 3,
     .sequence_offset = 2, .sequence_type = INPHASE_U16},
    {.replies = 3, .framing = {.datagram = 1, .can = 1, .min_size = CAN_MTU, .max_size = CAN_MTU},
     .reply = can_replies, .check = can_checks, .field = can_fields, .checks = 3, .fields = 3},
    {.replies = 1, .reply = modbus_reply, .check = modbus_checks, .field = modbus_field,
     .checks = 2, .fields = 1, .checksum = &modbus_sum, .checksums = 1,
     .framing = {.start_size = 1, .start = {1}, .min_size = 5, .max_size = 7, .sizes = 2,
                 .size_offset = 1, .size_value = {4, 0x84}, .size_of = {7, 5}}},
    {.replies = 1, .reply = modbus_reply, .check = modbus_checks, .field = modbus_field,
     .checks = 2, .fields = 1, .checksum = &modbus_sum, .checksums = 1,
     .framing = {.min_size = 5, .max_size = 7, .idle_ns = 1750000}},

    /* the same with answers to commands, which the input says there were */
    {.replies = 2, .framing = {.datagram = 1, .can = 1, .min_size = CAN_MTU, .max_size = CAN_MTU},
     .answers = 2, .reply = can_answered, .check = can_checks, .field = can_fields, .checks = 3,
     .fields = 2},
    {.replies = 1, .answers = 1, .reply = modbus_answered, .check = modbus_checks,
     .field = modbus_field, .checks = 2, .fields = 1, .checksum = &modbus_sum, .checksums = 1,
     .framing = {.start_size = 1, .start = {1}, .min_size = 5, .max_size = 7, .sizes = 2,
                 .size_offset = 1, .size_value = {4, 0x84}, .size_of = {7, 5}}},
};
#define EXCHANGES (sizeof exchanges / sizeof *exchanges)

/* feed one piece, as a read may bring it, or none: where silence ends packets, it does so then; no
   number is given with a refusal */
static void feed(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size)
{
    double values[INPHASE_MAX_VALUES];
    uint32_t reason = 0, detail = 0;
    int is_silent = size == 0 && parser->exchange.spec.framing.idle_ns;
    int rc = is_silent ? inphase_parser_end(parser, values, &reason, &detail)
                       : inphase_parser_feed(parser, bytes, size, values, &reason, &detail);

    CHECK(rc == 0 || rc == 1 || rc == -EBADMSG);
    CHECK(parser->size <= sizeof parser->bytes);
    CHECK(parser->replies <= parser->exchange.spec.replies);
    if (rc == -EBADMSG)
        CHECK(reason > INPHASE_REASON_NONE && reason < INPHASE_REASONS);
    if (rc == 1)
        for (uint32_t f = 0; f < parser->exchange.spec.fields; f++)
            CHECK(!isnan(values[parser->exchange.field[f].channel]) ||
                  parser->exchange.field[f].type >= INPHASE_F32);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, size};
    const struct inphase_exchange *exchange = &exchanges[take_byte(&input) % EXCHANGES];
    inphase_parser *parser;

    CHECK_EQUAL(inphase_parser_open(&parser, exchange), 0);
    while (input.left) {
        uint32_t piece = take_byte(&input) * 4u;
        uint8_t *given;

        if (piece > input.left)
            piece = (uint32_t)input.left;

        /* a copy of its own, so that a read beyond it is seen */
        given = malloc(piece ? piece : 1);
        CHECK(given);
        take(&input, given, piece);
        if (piece % 8)
            inphase_parser_owe(parser);
        feed(parser, given, piece);
        free(given);
    }
    inphase_parser_close(parser);
    return 0;
}
