/* The page of clients' wishes: emergency stops, and episodes. Clients write, the core reads. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "../inphase.h"

#define CLIENT_PAGE_BYTES 4096
struct client_page {
    uint64_t magic, epoch;
    uint32_t version;
    _Atomic uint32_t stops;      /* asked for so far */
    _Atomic uint64_t episode;    /* the newest one: number << 8 | INPHASE_EPISODE_* */
};

/* the episode of a frame. page NULL: there is none */
void client_page_tell(const struct client_page *page, struct inphase_frame *frame);
