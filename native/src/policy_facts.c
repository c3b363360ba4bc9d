/* The figures of a policy's process, behind its mailbox: its sandbox, the times from a frame to its
   command, and the counts of a policy server. The process writes, anyone reads; the core never
   looks here. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "mailbox.h"
#include "policy_facts.h"
#include "relaxed.h"
#include "statistics.h"
#include "store.h"

static struct policy_facts *facts_of(const inphase_segment *segment)
{
    if (segment->size < MAILBOX_RING + POLICY_FACTS_BYTES || segment->size % 4096)
        return NULL;
    return (void *)(segment->memory + segment->size - POLICY_FACTS_BYTES);
}

void inphase_mailbox_taken(inphase_segment *segment)
{
    struct policy_facts *facts = facts_of(segment);

    if (facts)
        put_i64(&facts->taken_ns, inphase_now());
}

int64_t policy_facts_posted(inphase_segment *segment, int64_t posted_ns)
{
    struct policy_facts *facts = facts_of(segment);
    int64_t taken_ns = facts ? load_i64(&facts->taken_ns) : 0;

    if (!taken_ns)
        return INPHASE_ABSENT;
    histogram_add(&facts->inference, posted_ns - taken_ns);
    put_i64(&facts->taken_ns, 0);
    return taken_ns;
}

int inphase_mailbox_inference(const inphase_segment *segment, struct inphase_quantiles *out)
{
    const struct policy_facts *facts = facts_of(segment);

    if (!facts)
        return -EPROTO;
    histogram_quantiles(&facts->inference, out);
    return 0;
}

int inphase_mailbox_count(inphase_segment *segment, uint32_t what)
{
    struct policy_facts *facts = facts_of(segment);

    if (!facts)
        return -EPROTO;
    if (what >= INPHASE_SERVER_COUNTS)
        return -EINVAL;
    put_i64(&facts->server[what], load_i64(&facts->server[what]) + 1);
    return 0;
}

int inphase_mailbox_counted(const inphase_segment *segment, int64_t *counts)
{
    const struct policy_facts *facts = facts_of(segment);

    if (!facts)
        return -EPROTO;
    for (uint32_t what = 0; what < INPHASE_SERVER_COUNTS; what++)
        counts[what] = load_i64(&facts->server[what]);
    return 0;
}

int64_t inphase_mailbox_busy_ns(const inphase_segment *segment)
{
    const struct policy_facts *facts = facts_of(segment);
    int64_t taken_ns = facts ? load_i64(&facts->taken_ns) : 0;

    return taken_ns ? inphase_now() - taken_ns : 0;
}

int inphase_mailbox_say(inphase_segment *segment, const struct inphase_sandbox *sandbox)
{
    struct policy_facts *facts = facts_of(segment);

    if (!facts)
        return -EPROTO;
    facts->sandbox = *sandbox;
    return 0;
}

int inphase_mailbox_said(const inphase_segment *segment, struct inphase_sandbox *out)
{
    const struct policy_facts *facts = facts_of(segment);

    if (!facts)
        return -EPROTO;
    *out = facts->sandbox;
    return 0;
}
