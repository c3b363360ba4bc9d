/* Packets: the parser of an exchange's replies. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"
#include "exchange.h"

struct inphase_parser {
    struct exchange exchange;
    uint8_t bytes[INPHASE_MAX_PACKET];
    uint32_t size;        /* bytes held */
    uint32_t beyond;      /* bytes behind them that were only counted: see parser_end */
    uint32_t replies;     /* complete so far */
    uint32_t complete;    /* of CAN frames, which come in any order: a bit per complete reply */
    uint32_t foreign;     /* CAN frames that no reply wanted */
    uint32_t left_over;   /* CAN frames of replies that were complete */
    uint32_t answered;    /* answers to commands, which were dropped */
    uint32_t owed[MAX_REPLIES]; /* commands that each answer of the exchange is still owed for */
    uint32_t dropped;     /* bytes thrown away while looking for a packet */
    uint32_t taken;       /* bytes that the last feed took in */
    bool more;            /* bytes are held that were not looked at yet */
    uint64_t sequence;    /* of the last complete set, when the exchange has one */
    uint64_t clock;       /* the device's time in it, likewise */
    uint32_t reason, detail;
    double value[INPHASE_MAX_VALUES];
};

void parser_reset(struct inphase_parser *parser);
/* is an answer owed to any command? */
bool parser_is_owed(const struct inphase_parser *parser);
/* Is a CAN frame of this id an answer that is owed? Then it is one less, and is not to be fed */
bool parser_answers(struct inphase_parser *parser, uint32_t id);
/* on to the next set of replies, of which bytes may be here already */
void parser_next(struct inphase_parser *parser);
/* 1 complete, 0 more is needed, -EBADMSG refused (reason, detail). It stops at the first packet
   that completes a set or is refused: `taken` says how many bytes it took in. With `more`, a feed
   of no bytes goes on */
int parser_feed(struct inphase_parser *parser, const uint8_t *bytes, uint32_t size);
/* The line was silent for the framing's idle_ns, so the packet that was fed is whole. Returns as
   parser_feed does; 0 also where nothing was fed. A refused packet is dropped as a whole */
int parser_end(struct inphase_parser *parser);
