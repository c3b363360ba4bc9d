/* The policy's mailbox: sequence-locked answers, written by the policy, read by the core. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "mailbox.h"
#include "policy_facts.h"
#include "store.h"

static uint64_t mail_bytes(uint32_t values)
{
    return sizeof(struct mail) + sizeof(double) * values;
}

/* of one of the two; whole pages: no segment is smaller */
static uint64_t half_bytes(uint32_t values)
{
    return (MAILBOX_RING + MAILBOX_SLOTS * ring_stride(mail_bytes(values)) + 4095) & ~4095ULL;
}

uint64_t mailbox_bytes(uint32_t values)
{
    return 2 * half_bytes(values);
}

struct mailbox *mailbox_of_person(const struct mailbox *mailbox, uint32_t values)
{
    return (struct mailbox *)((uintptr_t)mailbox + half_bytes(values));
}

static struct slot *mail_slot(const struct mailbox *mailbox, uint32_t values, uint64_t number)
{
    uint64_t at = (number & (MAILBOX_SLOTS - 1)) * ring_stride(mail_bytes(values));

    return (struct slot *)((uintptr_t)mailbox + MAILBOX_RING + at);
}

uint64_t inphase_mailbox_size(uint32_t values)
{
    return mailbox_bytes(values) + POLICY_FACTS_BYTES;
}

int inphase_mailbox_make(inphase_segment **out, uint32_t values, uint64_t epoch)
{
    inphase_segment *segment;
    struct mailbox *mailbox;
    int rc;

    if (values > INPHASE_MAX_PLAN)
        return -EINVAL;
    rc = inphase_segment_make(&segment, inphase_mailbox_size(values), 1);
    if (rc < 0)
        return rc;
    mailbox = (void *)segment->memory;
    mailbox->magic = MAGIC;
    mailbox->version = STORE_VERSION;
    mailbox->values = values;
    mailbox->epoch = epoch;
    mailbox_of_person(mailbox, values)->values = values;
    return segment_leave(out, segment);
}

void mailbox_put(struct mailbox *mailbox, const struct mail *mail, const double *values)
{
    uint64_t number = atomic_load_explicit(&mailbox->head, memory_order_relaxed);
    struct slot *slot = mail_slot(mailbox, mailbox->values, number);
    uint64_t word;

    atomic_store_explicit(&slot->sequence, 2 * number + 1, memory_order_relaxed);
    for (uint32_t i = 0; i < sizeof *mail / 8; i++) {
        memcpy(&word, (const uint8_t *)mail + 8 * i, 8);
        atomic_store_explicit(&slot->payload[i], word, memory_order_release);
    }
    for (uint32_t i = 0; i < mail->values; i++) {
        memcpy(&word, &values[i], 8);
        atomic_store_explicit(&slot->payload[sizeof *mail / 8 + i], word, memory_order_release);
    }
    atomic_store_explicit(&slot->sequence, 2 * number + 2, memory_order_release);
    atomic_store_explicit(&mailbox->head, number + 1, memory_order_release);
}

int inphase_mailbox_sign(inphase_segment *segment, uint32_t lease, uint32_t drove)
{
    if (drove == INPHASE_DROVE_NOBODY || drove >= INPHASE_DROVES)
        return -EINVAL;
    segment->lease = lease;
    segment->drove = drove;
    return 0;
}

int inphase_mailbox_post(inphase_segment *segment, int64_t cycle, int64_t valid_until_ns,
                         uint32_t reason, const double *values, uint32_t count)
{
    struct mailbox *mailbox = (void *)segment->memory;
    struct mail mail = {.cycle = cycle, .posted_ns = inphase_now(), .taken_ns = INPHASE_ABSENT,
                        .valid_until_ns = valid_until_ns, .reason = reason, .values = count,
                        .lease = segment->lease, .drove = segment->drove};

    if (mail.drove == INPHASE_DROVE_NOBODY)
        mail.drove = INPHASE_DROVE_POLICY;
    if (!segment->writer)
        return -EPERM;
    if (cycle < 0 || reason >= INPHASE_REASONS || count > mailbox->values || (count && !values))
        return -EINVAL;
    if (mail.drove == INPHASE_DROVE_PERSON)
        mailbox = mailbox_of_person(mailbox, mailbox->values);
    else if (reason == INPHASE_REASON_NONE)
        mail.taken_ns = policy_facts_posted(segment, mail.posted_ns);
    mailbox_put(mailbox, &mail, values);
    return 0;
}

int64_t inphase_mailbox_turn(const struct inphase_turn *turn, int32_t reason, int64_t timeout_ns)
{
    const struct inphase_frame *frame = inphase_reader_record(turn->reader);
    int64_t lost;

    if (reason != INPHASE_REASON_UNASKED)
        inphase_mailbox_post(turn->mailbox, frame->cycle,
                             reason ? 0 : frame->due_ns + turn->valid_ns, (uint32_t)reason,
                             turn->values, reason ? 0 : (uint32_t)turn->count);
    lost = inphase_reader_due(turn->reader, turn->every, timeout_ns);
    if (lost >= 0)
        inphase_mailbox_taken(turn->mailbox);
    return lost;
}

uint64_t mailbox_head(const struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->head, memory_order_acquire);
}

bool mailbox_read(const struct mailbox *mailbox, uint32_t values, uint64_t number, struct mail *out)
{
    return slot_read(mail_slot(mailbox, values, number), number, out, mail_bytes(values));
}
