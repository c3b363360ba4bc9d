/* What the fuzz targets share: bytes are taken from an input one after the other, zeros when it is
   used up. A target checks with CHECK, and offers what libFuzzer calls. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../inphase.h"
#include "../tests/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct input {
    const uint8_t *bytes;
    size_t left;
};

static inline void take(struct input *input, void *to, size_t size)
{
    size_t given = size < input->left ? size : input->left;

    memcpy(to, input->bytes, given);
    memset((uint8_t *)to + given, 0, size - given);
    input->bytes += given;
    input->left -= given;
}

static inline uint8_t take_byte(struct input *input)
{
    uint8_t byte;

    take(input, &byte, sizeof byte);
    return byte;
}

static inline uint64_t take_word(struct input *input)
{
    uint64_t word;

    take(input, &word, sizeof word);
    return word;
}

/* words of a memory that another process writes are changed: where, and what is there then */
static inline void take_patches(struct input *input, uint8_t *memory, size_t size, int most)
{
    for (int i = 0; i < most && input->left; i++) {
        uint32_t at;
        uint64_t word;

        take(input, &at, sizeof at);
        word = take_word(input);
        __atomic_store_n((uint64_t *)(memory + at % (size / 8) * 8), word, __ATOMIC_RELAXED);
    }
}
