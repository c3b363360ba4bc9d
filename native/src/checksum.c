/* Checksums of packets. A CRC is worked out a byte at a time by its table. One that is reflected
   goes from the low bits, any other from the top of 64 bits, so that every width is one code.
   Source of the parameters: G. Cook, "Catalogue of parametrised CRC algorithms". */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checksum.h"

static uint64_t mask_of(uint32_t width)
{
    return width == 64 ? UINT64_MAX : (1ULL << width) - 1;
}

static uint64_t reflect(uint64_t value, uint32_t width)
{
    uint64_t reflected = 0;

    for (uint32_t i = 0; i < width; i++)
        reflected |= (value >> i & 1) << (width - 1 - i);
    return reflected;
}

/* the CRC's register after one byte that met `index` */
static uint64_t entry_of(const struct inphase_checksum *spec, uint32_t index)
{
    uint64_t polynomial, crc;

    if (spec->reflected_in) {
        polynomial = reflect(spec->polynomial, spec->width);
        crc = index;
        for (int i = 0; i < 8; i++)
            crc = crc & 1 ? crc >> 1 ^ polynomial : crc >> 1;
        return crc;
    }
    polynomial = spec->polynomial << (64 - spec->width);
    crc = (uint64_t)index << 56;
    for (int i = 0; i < 8; i++)
        crc = crc >> 63 ? crc << 1 ^ polynomial : crc << 1;
    return crc;
}

bool checksum_holds(const struct inphase_checksum *spec)
{
    return spec->kind >= INPHASE_CHECKSUM_CRC && spec->kind <= INPHASE_CHECKSUM_XOR &&
           spec->width >= 1 && spec->width <= 64 &&
           (spec->kind != INPHASE_CHECKSUM_XOR || spec->width == 8);
}

void checksum_make(struct checksum *sum, const struct inphase_checksum *spec)
{
    sum->spec = *spec;
    if (spec->kind == INPHASE_CHECKSUM_CRC)
        for (uint32_t i = 0; i < 256; i++)
            sum->table[i] = entry_of(spec, i);
}

uint32_t checksum_size(const struct inphase_checksum *spec)
{
    return (spec->width + 7) / 8;
}

uint64_t checksum_begin(const struct inphase_checksum *spec)
{
    if (spec->kind != INPHASE_CHECKSUM_CRC)
        return spec->initial;
    return spec->reflected_in ? reflect(spec->initial, spec->width)
                              : spec->initial << (64 - spec->width);
}

uint64_t checksum_add(const struct inphase_checksum *spec, const uint64_t *table, uint64_t state,
                      const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        uint32_t index;

        if (spec->kind == INPHASE_CHECKSUM_SUM) {
            state += bytes[i];
        } else if (spec->kind == INPHASE_CHECKSUM_XOR) {
            state ^= bytes[i];
        } else if (spec->reflected_in) {
            index = (uint32_t)(state ^ bytes[i]) & 0xff;
            state = state >> 8 ^ (table ? table[index] : entry_of(spec, index));
        } else {
            index = (uint32_t)(state >> 56) ^ bytes[i];
            state = state << 8 ^ (table ? table[index] : entry_of(spec, index));
        }
    }
    return state;
}

uint64_t checksum_end(const struct inphase_checksum *spec, uint64_t state)
{
    if (spec->kind == INPHASE_CHECKSUM_CRC) {
        if (!spec->reflected_in)
            state >>= 64 - spec->width;
        if (!spec->reflected_in != !spec->reflected_out)
            state = reflect(state, spec->width);
    }
    if (spec->negated)
        state = -state;
    return (state ^ spec->final) & mask_of(spec->width);
}

uint64_t checksum_run(struct checksum_run *run, const struct checksum *sum, const uint8_t *bytes,
                      uint32_t from, uint32_t at)
{
    if (run->sum != sum || run->from != from || at < run->done)
        *run = (struct checksum_run){sum, from, from, checksum_begin(&sum->spec)};
    run->state = checksum_add(&sum->spec, sum->table, run->state, bytes + run->done,
                              at - run->done);
    run->done = at;
    return checksum_end(&sum->spec, run->state);
}

int inphase_checksum(const struct inphase_checksum *spec, const uint8_t *bytes, uint32_t size,
                     uint64_t *value)
{
    if (!checksum_holds(spec))
        return -EINVAL;
    *value = checksum_end(spec, checksum_add(spec, NULL, checksum_begin(spec), bytes, size));
    return 0;
}
