/* An exchange as a driver declares it: does it keep the bounds? Then it is copied in place. */
#include <errno.h>
#include <linux/can.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "checksum.h"
#include "encode.h"
#include "exchange.h"

/* every reply in CAN frames has a check on its id */
static bool can_fits(const struct inphase_exchange *e)
{
    const struct inphase_framing *f = &e->framing;

    uint32_t part = e->request_chunk ? e->request_chunk : e->request_size;

    if (!f->datagram || f->min_size != CAN_MTU || f->escape_size ||
        (f->max_size != CAN_MTU && f->max_size != CANFD_MTU) ||
        (e->request_size && part != CAN_MTU && part != CANFD_MTU))
        return false;
    for (uint32_t i = 0; i < e->replies + e->answers; i++) {
        bool known = false;

        for (uint32_t c = 0; c < e->reply[i].checks; c++)
            known = known || is_id_check(&e->check[e->reply[i].first_check + c]);
        if (!known)
            return false;
    }
    return true;
}

/* numbers that count are whole, and alone in their bytes */
static bool counts(uint32_t type)
{
    return raw_size(type) && type != INPHASE_F32 && type != INPHASE_F64 && type < INPHASE_SM16;
}

/* a device's time may also be seconds */
static bool clock_counts(const struct inphase_exchange *e)
{
    return counts(e->clock_type) || (e->clock_type == INPHASE_F64 && e->clock_tick_ns == 1);
}

/* Packets that silence ends have nothing else that says where they end. A pause in the middle cuts
   one in two, so each reply has a checksum or a size of its own, which no part of it fulfils */
static bool silence_fits(const struct inphase_exchange *e)
{
    const struct inphase_framing *f = &e->framing;

    if (f->idle_ns < 0 || f->idle_ns > 1000000000 || f->datagram || f->start_size ||
        f->length_size || f->sizes)
        return false;
    for (uint32_t i = 0; i < e->replies; i++) {
        bool is_known = e->reply[i].size > 0;

        for (uint32_t c = 0; c < e->reply[i].checks; c++)
            is_known = is_known || is_checksum(&e->check[e->reply[i].first_check + c]);
        if (!is_known)
            return false;
    }
    return true;
}

/* a request of several datagrams has whole ones, as many as one call sends */
static bool request_fits(const struct inphase_exchange *e)
{
    return !e->request_chunk ||
           (e->framing.datagram && e->request_size % e->request_chunk == 0 &&
            e->request_size / e->request_chunk <= MAX_CHUNKS);
}

static int exchange_fits(const struct inphase_exchange *e)
{
    const struct inphase_framing *f = &e->framing;

    if (e->request_size > INPHASE_MAX_PACKET || e->replies < 1 ||
        !lies_within(e->replies, e->answers, MAX_REPLIES) || !request_fits(e) ||
        (e->answers && f->escape_size) ||
        e->checks > MAX_CHECKS || e->fields > MAX_FIELDS || f->min_size < 1 ||
        f->min_size > f->max_size || f->max_size > INPHASE_MAX_PACKET || f->escape_size > 4)
        return -EINVAL;
    if (!f->datagram && !f->idle_ns &&
                        (f->start_size < 1 || f->start_size > 4 || f->length_size > 2 ||
                         !lies_within(f->length_offset, f->length_size, f->min_size) ||
                         f->start_size > f->min_size))
        return -EINVAL;
    if (f->sizes > INPHASE_MAX_SIZES || e->checksums > MAX_CHECKSUMS ||
        (f->sizes && !lies_within(f->size_offset, 1, f->min_size)))
        return -EINVAL;
    for (uint32_t i = 0; i < f->sizes; i++)
        if (f->size_of[i] < f->min_size || f->size_of[i] > f->max_size)
            return -EINVAL;
    for (uint32_t i = 0; i < e->checksums; i++)
        if (!checksum_holds(&e->checksum[i]))
            return -EINVAL;
    for (uint32_t i = 0; i < e->replies + e->answers; i++)
        if (!lies_within(e->reply[i].first_check, e->reply[i].checks, e->checks) ||
            !lies_within(e->reply[i].first_field, e->reply[i].fields, e->fields))
            return -EINVAL;
    for (uint32_t i = 0; i < e->checks; i++)
        if (!lies_within(e->check[i].offset, raw_size(e->check[i].type), INPHASE_MAX_PACKET) ||
            e->check[i].number > INPHASE_MAX_PACKET ||
            (is_checksum(&e->check[i]) && e->check[i].checksum >= e->checksums))
            return -EINVAL;
    for (uint32_t i = 0; i < e->fields; i++)
        if (!raw_size(e->field[i].type) || e->field[i].channel >= INPHASE_MAX_VALUES ||
            !lies_within(e->field[i].offset, raw_size(e->field[i].type), INPHASE_MAX_PACKET))
            return -EINVAL;
    if (e->clock_type && (!clock_counts(e) || !(e->clock_tick_ns > 0 && e->clock_tick_ns <= 1e9) ||
                          e->clock_bits > 64 ||
                          !lies_within(e->clock_offset, raw_size(e->clock_type),
                                       INPHASE_MAX_PACKET)))
        return -EINVAL;
    if (e->sequence_type && (!counts(e->sequence_type) ||
                             !lies_within(e->sequence_offset, raw_size(e->sequence_type),
                                          INPHASE_MAX_PACKET)))
        return -EINVAL;
    if (f->idle_ns && !silence_fits(e))
        return -EINVAL;
    return f->can && !can_fits(e) ? -EINVAL : 0;
}

/* bytes of a reply up to the end of its last field */
static uint32_t reach_of(const struct exchange *exchange, const struct inphase_reply *reply)
{
    uint32_t reach = 0;

    for (uint32_t i = 0; i < reply->fields; i++) {
        const struct inphase_field *field = &exchange->field[reply->first_field + i];
        uint32_t end = field->offset + raw_size(field->type);

        reach = end > reach ? end : reach;
    }
    return reach;
}

int exchange_copy(struct exchange *to, const struct inphase_exchange *from)
{
    int rc = exchange_fits(from);

    if (rc < 0)
        return rc;
    to->spec = *from;
    if (from->request_size)
        memcpy(to->request, from->request, from->request_size);
    memcpy(to->reply, from->reply, (from->replies + from->answers) * sizeof *from->reply);
    if (from->checks)
        memcpy(to->check, from->check, from->checks * sizeof *from->check);
    if (from->fields)
        memcpy(to->field, from->field, from->fields * sizeof *from->field);
    for (uint32_t i = 0; i < from->replies; i++)
        to->reach[i] = reach_of(to, &to->reply[i]);
    for (uint32_t i = 0; i < from->checksums; i++)
        checksum_make(&to->checksum[i], &from->checksum[i]);
    to->spec.checksum = NULL;
    to->spec.request = to->request;
    to->spec.reply = to->reply;
    to->spec.check = to->check;
    to->spec.field = to->field;
    return 0;
}
