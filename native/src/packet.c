/* Packets: framing, checks and fields of replies. The parser is incremental and bounded: it holds
   at most one packet, and looks at each byte a bounded number of times. */
#include <errno.h>
#include <linux/can.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "encode.h"
#include "exchange.h"
#include "packet.h"

void parser_next(struct inphase_parser *parser)
{
    parser->replies = 0;
    parser->complete = 0;
}

void parser_reset(struct inphase_parser *parser)
{
    parser->size = parser->beyond = 0;
    parser->more = false;
    parser_next(parser);
}

static int refuse(struct inphase_parser *parser, uint32_t reason, uint32_t detail)
{
    parser->reason = reason;
    parser->detail = detail;
    return -EBADMSG;
}

static void drop(struct inphase_parser *parser, uint32_t bytes)
{
    memmove(parser->bytes, parser->bytes + bytes, parser->size - bytes);
    parser->size -= bytes;
    parser->dropped += bytes;
}

/* bring the start bytes to the front */
static void find_start(struct inphase_parser *parser)
{
    const struct inphase_framing *framing = &parser->exchange.spec.framing;
    uint32_t at = 0;

    for (; at < parser->size; at++) {
        uint32_t seen = parser->size - at;

        if (seen > framing->start_size)
            seen = framing->start_size;
        if (memcmp(parser->bytes + at, framing->start, seen) == 0)
            break;
    }
    if (at)
        drop(parser, at);
}

/* the size of the packet at the front, where a byte says it by its value, as a function code does.
   0, -EBADMSG: as packet_size */
static int32_t size_by_value(const struct inphase_parser *parser)
{
    const struct inphase_framing *framing = &parser->exchange.spec.framing;

    if (parser->size <= framing->size_offset)
        return 0;
    for (uint32_t i = 0; i < framing->sizes; i++)
        if (framing->size_value[i] == parser->bytes[framing->size_offset])
            return framing->size_of[i];
    return -EBADMSG;
}

/* the size of the packet at the front; 0: its length field is not here yet; -EBADMSG: no packet of
   this exchange has that size */
static int32_t packet_size(const struct inphase_parser *parser)
{
    const struct inphase_framing *framing = &parser->exchange.spec.framing;
    int64_t size;

    if (framing->sizes)
        return size_by_value(parser);
    if (framing->length_size == 0)
        return (int32_t)framing->min_size;
    if (parser->size < framing->length_offset + framing->length_size)
        return 0;
    size = (int64_t)raw_bits(parser->bytes + framing->length_offset, framing->length_size,
                             framing->big_endian) + framing->length_add;
    if (size < framing->min_size || size > framing->max_size)
        return -EBADMSG;
    return (int32_t)size;
}

static int check_checksums(struct inphase_parser *parser, const struct inphase_reply *reply,
                           uint32_t size)
{
    const struct exchange *exchange = &parser->exchange;
    struct checksum_run running = {0};

    for (uint32_t i = 0; i < reply->checks; i++) {
        const struct inphase_check *check = &exchange->check[reply->first_check + i];
        uint32_t at = check->offset, width;

        if (!is_checksum(check))
            continue;
        width = checksum_size(&exchange->checksum[check->checksum].spec);
        if (check->kind == INPHASE_CHECK_SUM_END) {
            at = check->offset ? check->offset : width;
            at = at < size ? size - at : 0;
        }
        if (at < check->from || !lies_within(at, width, size))
            return refuse(parser, INPHASE_REASON_SIZE, size);
        if (checksum_run(&running, &exchange->checksum[check->checksum], parser->bytes,
                         check->from, at) !=
            raw_bits(parser->bytes + at, width, check->big_endian))
            return refuse(parser, INPHASE_REASON_CHECKSUM, at);
    }
    return 0;
}

static int check_values(struct inphase_parser *parser, const struct inphase_reply *reply,
                        const uint8_t *packet, uint32_t size)
{
    for (uint32_t i = 0; i < reply->checks; i++) {
        const struct inphase_check *check = &parser->exchange.check[reply->first_check + i];
        uint32_t width = raw_size(check->type);
        uint32_t value;

        if (is_checksum(check))
            continue;
        if (check->offset + width > size)
            return refuse(parser, INPHASE_REASON_SIZE, size);
        value = (uint32_t)raw_bits(packet + check->offset, width, check->big_endian);
        if (check->kind == INPHASE_CHECK_AMONG && (value > 31 || !(check->mask >> value & 1)))
            return refuse(parser, INPHASE_REASON_DEVICE, value);
        value &= check->mask;
        if (check->kind == INPHASE_CHECK_MATCH && value != check->expect)
            return refuse(parser, INPHASE_REASON_MISMATCH, value);
        if (check->kind == INPHASE_CHECK_ZERO && value)
            return refuse(parser, INPHASE_REASON_DEVICE,
                          check->number && check->number <= size ? packet[check->number - 1]
                                                                 : value);
    }
    return 0;
}

/* check the whole packet of `size` bytes at the front, and take its fields, as reply `index` */
static int take_reply(struct inphase_parser *parser, uint32_t index, uint32_t size)
{
    const struct exchange *exchange = &parser->exchange;
    const struct inphase_exchange *spec = &exchange->spec;
    const struct inphase_reply *reply = &exchange->reply[index];
    uint8_t unescaped[INPHASE_MAX_PACKET];
    const uint8_t *plain = parser->bytes;
    int32_t plain_size = (int32_t)size;
    int rc = check_checksums(parser, reply, size);

    if (rc < 0)
        return rc;
    if (spec->framing.escape_size) {
        plain_size = inphase_unescape(&spec->framing, parser->bytes, size, unescaped,
                                      sizeof unescaped);
        plain = unescaped;
    }
    if (plain_size < 0 || (reply->size && (uint32_t)plain_size != reply->size))
        return refuse(parser, INPHASE_REASON_SIZE, size);
    rc = check_values(parser, reply, plain, (uint32_t)plain_size);
    if (rc < 0)
        return rc;
    if (exchange->reach[index] > (uint32_t)plain_size)
        return refuse(parser, INPHASE_REASON_SIZE, size);
    for (uint32_t i = 0; i < reply->fields; i++) {
        const struct inphase_field *field = &exchange->field[reply->first_field + i];

        double raw;

        /* a double as this machine has it needs no look at its type */
        if (field->type == INPHASE_F64 && field->big_endian != HOST_IS_LITTLE_ENDIAN)
            memcpy(&raw, plain + field->offset, sizeof raw);
        else
            raw = raw_to_double(plain + field->offset, field->type, field->big_endian);
        parser->value[field->channel] = raw * field->scale + field->zero;
    }
    if (spec->sequence_type && index + 1 == spec->replies) {
        uint32_t width = raw_size(spec->sequence_type);

        if (spec->sequence_offset + width > (uint32_t)plain_size)
            return refuse(parser, INPHASE_REASON_SIZE, size);
        parser->sequence =
            raw_bits(plain + spec->sequence_offset, width, spec->sequence_big_endian);
    }
    if (spec->clock_type && index + 1 == spec->replies) {
        uint32_t width = raw_size(spec->clock_type);

        if (spec->clock_offset + width > (uint32_t)plain_size)
            return refuse(parser, INPHASE_REASON_SIZE, size);
        parser->clock =
            raw_ticks(plain + spec->clock_offset, spec->clock_type, spec->clock_big_endian);
    }
    return 0;
}

/* ---- answers to commands ----------------------------------------------------------------- */

bool parser_is_owed(const struct inphase_parser *parser)
{
    for (uint32_t i = 0; i < parser->exchange.spec.answers; i++)
        if (parser->owed[i])
            return true;
    return false;
}

static void settle(struct inphase_parser *parser, uint32_t answer)
{
    parser->owed[answer]--;
    parser->answered++;
}

/* is the whole packet at the front an answer that is owed? Then it is one less */
static bool takes_answer(struct inphase_parser *parser, uint32_t size)
{
    const struct inphase_exchange *spec = &parser->exchange.spec;

    for (uint32_t i = 0; i < spec->answers; i++) {
        const struct inphase_reply *answer = &parser->exchange.reply[spec->replies + i];

        if (parser->owed[i] && (!answer->size || answer->size == size) &&
            check_checksums(parser, answer, size) == 0 &&
            check_values(parser, answer, parser->bytes, size) == 0) {
            settle(parser, i);
            return true;
        }
    }
    return false;
}

static int feed_datagram(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size)
{
    const struct inphase_framing *framing = &parser->exchange.spec.framing;
    int rc;

    if (size < framing->min_size || size > framing->max_size)
        return refuse(parser, INPHASE_REASON_SIZE, size);
    memcpy(parser->bytes, bytes, size);
    if (takes_answer(parser, size))
        return 0;
    rc = take_reply(parser, parser->replies, size);
    if (rc < 0)
        return rc;
    return ++parser->replies == parser->exchange.spec.replies;
}

static bool id_matches(const struct exchange *exchange, const struct inphase_reply *reply,
                       uint32_t id)
{
    const uint32_t flags = CAN_EFF_FLAG | CAN_RTR_FLAG | CAN_ERR_FLAG;

    for (uint32_t i = 0; i < reply->checks; i++) {
        const struct inphase_check *check = &exchange->check[reply->first_check + i];

        if (is_id_check(check) && ((id ^ check->expect) & (check->mask | flags)))
            return false;
    }
    return true;
}

bool parser_answers(struct inphase_parser *parser, uint32_t id)
{
    const struct exchange *exchange = &parser->exchange;

    for (uint32_t i = 0; i < exchange->spec.answers; i++)
        if (parser->owed[i] &&
            id_matches(exchange, &exchange->reply[exchange->spec.replies + i], id)) {
            settle(parser, i);
            return true;
        }
    return false;
}

/* the first reply that wants this id and is not complete; `replies` when there is none */
static uint32_t reply_for(struct inphase_parser *parser, uint32_t id)
{
    const struct exchange *exchange = &parser->exchange;
    bool wanted = false;

    for (uint32_t i = 0; i < exchange->spec.replies; i++) {
        if (!id_matches(exchange, &exchange->reply[i], id))
            continue;
        if (!(parser->complete & 1U << i))
            return i;
        wanted = true;
    }
    if (wanted)
        parser->left_over++;
    else
        parser->foreign++;
    return exchange->spec.replies;
}

static int feed_can(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size)
{
    struct canfd_frame frame; /* a can_frame is its beginning */
    uint32_t index;
    int rc;

    if (size != CAN_MTU && size != CANFD_MTU)
        return refuse(parser, INPHASE_REASON_SIZE, size);
    memcpy(&frame, bytes, size);
    if (parser_answers(parser, frame.can_id))
        return 0;
    index = reply_for(parser, frame.can_id);
    if (index == parser->exchange.spec.replies)
        return 0;
    if (size > parser->exchange.spec.framing.max_size ||
        frame.len > size - offsetof(struct canfd_frame, data))
        return refuse(parser, INPHASE_REASON_SIZE, size);
    memcpy(parser->bytes, bytes, size);
    rc = take_reply(parser, index, (uint32_t)offsetof(struct canfd_frame, data) + frame.len);
    if (rc < 0)
        return rc;
    parser->complete |= 1U << index;
    return ++parser->replies == parser->exchange.spec.replies;
}

/* the packets in a stream of bytes */
static int feed_stream(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size)
{
    /* every round takes bytes in, takes a packet out, or drops at least one byte: at most 2 * size
       + INPHASE_MAX_PACKET rounds */
    for (;;) {
        uint32_t room = INPHASE_MAX_PACKET - parser->size, left = size - parser->taken;
        uint32_t part = left < room ? left : room;
        int32_t wanted;
        int rc;

        if (part)
            memcpy(parser->bytes + parser->size, bytes + parser->taken, part);
        parser->size += part;
        parser->taken += part;
        find_start(parser);
        wanted = packet_size(parser);
        if (wanted < 0) {
            drop(parser, 1);
            continue;
        }
        if (wanted == 0 || parser->size < (uint32_t)wanted) {
            if (parser->taken == size)
                return 0;
            continue;
        }
        if (takes_answer(parser, (uint32_t)wanted)) {
            memmove(parser->bytes, parser->bytes + wanted, parser->size - (uint32_t)wanted);
            parser->size -= (uint32_t)wanted;
            continue;
        }
        rc = take_reply(parser, parser->replies, (uint32_t)wanted);
        if (rc < 0) {
            /* not a packet of this exchange: look for the next start inside it */
            drop(parser, 1);
            return rc;
        }
        memmove(parser->bytes, parser->bytes + wanted, parser->size - (uint32_t)wanted);
        parser->size -= (uint32_t)wanted;
        if (++parser->replies == parser->exchange.spec.replies)
            return 1;
    }
}

/* bytes of a packet that silence will end; those beyond the largest one are counted, until there
   are too many for any packet */
static void feed_until_silence(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size)
{
    uint32_t room = parser->exchange.spec.framing.max_size - parser->size;
    uint32_t part = size < room ? size : room;

    if (part)
        memcpy(parser->bytes + parser->size, bytes, part);
    parser->size += part;
    if (parser->beyond <= INPHASE_MAX_PACKET)
        parser->beyond += size - part;
    parser->taken = size;
}

int parser_end(struct inphase_parser *parser)
{
    const struct inphase_framing *framing = &parser->exchange.spec.framing;
    uint32_t held = parser->size, size = held + parser->beyond;
    int rc;

    if (size == 0)
        return 0;
    parser->size = parser->beyond = 0;
    if (size < framing->min_size || size > framing->max_size)
        rc = refuse(parser, INPHASE_REASON_SIZE, size);
    else if (takes_answer(parser, held))
        return 0;
    else
        rc = take_reply(parser, parser->replies, held);
    if (rc < 0) {
        parser->dropped += size;
        return rc;
    }
    return ++parser->replies == parser->exchange.spec.replies;
}

int parser_feed(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size)
{
    int rc;

    if (parser->exchange.spec.framing.idle_ns) {
        feed_until_silence(parser, bytes, size);
        return 0;
    }

    if (parser->exchange.spec.framing.datagram) {
        parser->taken = size;
        return parser->exchange.spec.framing.can ? feed_can(parser, bytes, size)
                                                 : feed_datagram(parser, bytes, size);
    }
    parser->taken = 0;
    rc = feed_stream(parser, bytes, size);
    parser->more = rc != 0 && parser->size > 0;
    return rc;
}

/* ---- the parser on its own, for drivers and tests ---------------------------------------- */

int inphase_parser_open(inphase_parser **out, const struct inphase_exchange *exchange)
{
    inphase_parser *parser = calloc(1, sizeof *parser);
    int rc;

    if (!parser)
        return -ENOMEM;
    rc = exchange_copy(&parser->exchange, exchange);
    if (rc < 0) {
        free(parser);
        return rc;
    }
    *out = parser;
    return 0;
}

void inphase_parser_close(inphase_parser *parser)
{
    free(parser);
}

void inphase_parser_reset(inphase_parser *parser)
{
    parser_reset(parser);
}

uint32_t inphase_parser_taken(const inphase_parser *parser)
{
    return parser->taken;
}

uint64_t inphase_parser_clock(const inphase_parser *parser)
{
    return parser->clock;
}

uint64_t inphase_parser_sequence(const inphase_parser *parser)
{
    return parser->sequence;
}

void inphase_parser_owe(inphase_parser *parser)
{
    for (uint32_t i = 0; i < parser->exchange.spec.answers; i++)
        parser->owed[i] += parser->owed[i] < UINT32_MAX;
}

void inphase_parser_forgive(inphase_parser *parser, uint32_t most)
{
    for (uint32_t i = 0; i < parser->exchange.spec.answers; i++)
        parser->owed[i] = parser->owed[i] < most ? parser->owed[i] : most;
}

uint32_t inphase_parser_answered(const inphase_parser *parser)
{
    return parser->answered;
}

int inphase_parser_wants(const inphase_parser *parser, uint32_t can_id)
{
    const struct exchange *exchange = &parser->exchange;

    for (uint32_t i = 0; i < exchange->spec.replies + exchange->spec.answers; i++)
        if (id_matches(exchange, &exchange->reply[i], can_id))
            return 1;
    return 0;
}

/* hand a result over, and go on to the next set */
static int give(inphase_parser *parser, int rc, double *values, uint32_t *reason, uint32_t *detail)
{
    if (rc == 1) {
        memcpy(values, parser->value, sizeof parser->value);
        parser_next(parser);
    }
    if (rc < 0) {
        *reason = parser->reason;
        *detail = parser->detail;
    }
    return rc;
}

int inphase_parser_feed(inphase_parser *parser, const uint8_t *bytes, uint32_t size, double *values,
                        uint32_t *reason, uint32_t *detail)
{
    return give(parser, parser_feed(parser, bytes, size), values, reason, detail);
}

uint32_t inphase_parser_held(const inphase_parser *parser)
{
    return parser->size + parser->beyond;
}

int inphase_parser_end(inphase_parser *parser, double *values, uint32_t *reason, uint32_t *detail)
{
    return give(parser, parser_end(parser), values, reason, detail);
}
