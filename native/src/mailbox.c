/* The policy's mailbox: sequence-locked commands by cycle, written by the policy, read by the core
   in one look. */
#include <string.h>

#include "internal.h"

uint64_t inphase_mailbox_size(uint32_t channels)
{
    (void)channels;
    return INPHASE_POLICY_FACTS + sizeof(struct policy_facts);
}

int inphase_mailbox_init(inphase_segment *segment, uint32_t channels, uint64_t epoch)
{
    struct mailbox *mailbox = (void *)segment->memory;

    if (segment->size < sizeof *mailbox || channels > INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS)
        return -EINVAL;
    mailbox->magic = MAGIC;
    mailbox->version = STORE_VERSION;
    mailbox->channels = channels;
    mailbox->epoch = epoch;
    for (int i = 0; i < MAILBOX_SLOTS; i++)
        put_i64(&mailbox->mail[i].cycle, -1);
    return 0;
}

static void mailbox_put(struct mailbox *mailbox, int64_t cycle, int64_t posted_ns,
                        int64_t valid_until_ns, uint32_t reason, const double *values,
                        uint32_t channels)
{
    struct mail *mail = &mailbox->mail[(uint64_t)cycle & (MAILBOX_SLOTS - 1)];
    uint64_t sequence = atomic_load_explicit(&mail->sequence, memory_order_relaxed);
    uint64_t word;

    /* the same protocol as slot_write */
    atomic_store_explicit(&mail->sequence, sequence | 1, memory_order_relaxed);
    atomic_store_explicit(&mail->cycle, cycle, memory_order_release);
    atomic_store_explicit(&mail->posted_ns, posted_ns, memory_order_release);
    atomic_store_explicit(&mail->valid_until_ns, valid_until_ns, memory_order_release);
    atomic_store_explicit(&mail->reason, reason, memory_order_release);
    atomic_store_explicit(&mail->channels, channels, memory_order_release);
    for (uint32_t i = 0; i < channels; i++) {
        memcpy(&word, &values[i], 8);
        atomic_store_explicit(&mail->value[i], word, memory_order_release);
    }
    atomic_store_explicit(&mail->sequence, (sequence | 1) + 1, memory_order_release);
}

int inphase_mailbox_post(inphase_segment *segment, int64_t cycle, int64_t valid_until_ns,
                         uint32_t reason, const double *values, uint32_t channels)
{
    struct mailbox *mailbox = (void *)segment->memory;
    int64_t now_ns = inphase_now();

    if (cycle < 0 || reason >= INPHASE_REASONS || channels > mailbox->channels ||
        (channels && !values))
        return -EINVAL;
    mailbox_put(mailbox, cycle, now_ns, valid_until_ns, reason, values, channels);
    if (reason == INPHASE_REASON_NONE)
        policy_facts_posted(segment, now_ns);
    return 0;
}

int mailbox_look(const struct mailbox *mailbox, uint32_t expected, int64_t cycle,
                 struct command *out)
{
    const struct mail *mail = &mailbox->mail[(uint64_t)cycle & (MAILBOX_SLOTS - 1)];
    uint64_t sequence = atomic_load_explicit(&mail->sequence, memory_order_acquire);
    uint32_t channels;
    uint64_t word;

    /* one look: a command that is being written now came too late */
    if ((sequence & 1) || atomic_load_explicit(&mail->cycle, memory_order_acquire) != cycle)
        return -ENOENT;
    out->posted_ns = atomic_load_explicit(&mail->posted_ns, memory_order_acquire);
    out->valid_until_ns = atomic_load_explicit(&mail->valid_until_ns, memory_order_acquire);
    out->reason = atomic_load_explicit(&mail->reason, memory_order_acquire);
    channels = atomic_load_explicit(&mail->channels, memory_order_acquire);
    if (channels > INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS)
        return -EPROTO;
    for (uint32_t i = 0; i < channels; i++) {
        word = atomic_load_explicit(&mail->value[i], memory_order_acquire);
        memcpy(&out->value[i], &word, 8);
    }
    if (atomic_load_explicit(&mail->sequence, memory_order_relaxed) != sequence)
        return -ENOENT;

    /* another process wrote this: what the core indexes with is checked here */
    if (out->reason >= INPHASE_REASONS ||
        (out->reason == INPHASE_REASON_NONE && channels != expected))
        return -EPROTO;
    return 0;
}

int mailbox_answer(struct inphase_core *core, int64_t cycle, int64_t posted_ns, uint32_t reason,
                   const double *values, uint32_t channels)
{
    if (!core->own_mailbox)
        return -EPERM;
    if (reason >= INPHASE_REASONS || channels > core->values || (channels && !values))
        return -EINVAL;
    mailbox_put(core->own_mailbox, cycle, posted_ns, INT64_MAX, reason, values, channels);
    return 0;
}
