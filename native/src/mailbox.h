/* The policy's mailbox: the policy writes, the core reads. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

/* There are two in one piece of memory, each with one writer: the policy's, and behind it that of
   a person who takes over. The slots of each lie at MAILBOX_RING: post number n is in slot n modulo
   MAILBOX_SLOTS, with the protocol of a ring's slots */
#define MAILBOX_SLOTS 8
#define MAILBOX_RING 64
struct mailbox {
    uint64_t magic, epoch;
    uint32_t version, values;    /* doubles of an answer */
    _Atomic uint64_t head;       /* posts made */
};
_Static_assert(sizeof(struct mailbox) <= MAILBOX_RING, "the head lies before the slots");

/* payload of a slot: the policy's answer to the frame of a cycle */
struct mail {
    int64_t cycle, posted_ns, valid_until_ns;
    int64_t taken_ns;            /* when the policy took that frame, or ABSENT */
    uint32_t reason, values;     /* values: how many were posted */
    uint32_t lease, drove;       /* 0: under none; INPHASE_DROVE_* */
    double value[];
};

/* bytes of both for answers of so many doubles, and the person's behind the policy's */
uint64_t mailbox_bytes(uint32_t values);
struct mailbox *mailbox_of_person(const struct mailbox *mailbox, uint32_t values);
uint64_t mailbox_head(const struct mailbox *mailbox);
/* as slot_write, of a head and the values behind it; one writer */
void mailbox_put(struct mailbox *mailbox, const struct mail *mail, const double *values);
/* Copy post `number` of answers of so many doubles to *out, which is not checked. false: it is
   being written, or was overwritten */
bool mailbox_read(const struct mailbox *mailbox, uint32_t values, uint64_t number,
                  struct mail *out);
