/* An exchange held in place: request, replies, checks and fields, as a driver declares them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "checksum.h"

#define MAX_REPLIES 32
#define MAX_CHECKS 256
#define MAX_FIELDS 256
#define MAX_CHECKSUMS 4
#define MAX_CHUNKS 64 /* of one command */

/* an exchange with its arrays held in place: nothing points outside */
struct exchange {
    uint8_t request[INPHASE_MAX_PACKET];
    struct inphase_reply reply[MAX_REPLIES];
    struct inphase_check check[MAX_CHECKS];
    struct inphase_field field[MAX_FIELDS];
    struct checksum checksum[MAX_CHECKSUMS];
    uint32_t reach[MAX_REPLIES]; /* bytes of each reply up to the end of its last field */
    struct inphase_exchange spec; /* its pointers point at the arrays above; checksum is NULL */
};

/* Copy a declaration. Returns 0, or -EINVAL where it breaks a bound. */
int exchange_copy(struct exchange *to, const struct inphase_exchange *from);

static inline bool is_id_check(const struct inphase_check *check)
{
    return check->kind == INPHASE_CHECK_MATCH && check->offset == 0 &&
           check->type == INPHASE_U32;
}

static inline bool is_checksum(const struct inphase_check *check)
{
    return check->kind == INPHASE_CHECK_SUM || check->kind == INPHASE_CHECK_SUM_END;
}
