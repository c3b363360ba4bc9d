/* From values to the bytes of a packet: raw values, escape rule, length and checksum. The parser
   reads raw values by the same rules. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "checksum.h"
#include "encode.h"

#define CLOCK_MOST_S 4e9         /* 127 years, of a device's time in seconds */

/* ---- escape rule ------------------------------------------------------------------------ */

/* does the pattern end at position `at` of bytes, within the rule's range? */
static bool pattern_ends(const struct inphase_framing *framing, const uint8_t *bytes, uint32_t at)
{
    uint32_t size = framing->escape_size;

    return at + 1 >= framing->escape_from + size &&
           memcmp(bytes + at + 1 - size, framing->escape, size) == 0;
}

int32_t inphase_escape(const struct inphase_framing *framing, const uint8_t *from, uint32_t size,
                       uint8_t *to, uint32_t room)
{
    uint32_t made = 0;

    for (uint32_t i = 0; i < size; i++) {
        if (made >= room)
            return -EMSGSIZE;
        to[made++] = from[i];
        if (framing->escape_size && i + framing->escape_tail < size &&
            pattern_ends(framing, from, i)) {
            if (made >= room)
                return -EMSGSIZE;
            to[made++] = (uint8_t)framing->escape_insert;
        }
    }
    return (int32_t)made;
}

int32_t inphase_unescape(const struct inphase_framing *framing, const uint8_t *from, uint32_t size,
                         uint8_t *to, uint32_t room)
{
    uint32_t made = 0;

    if (framing->escape_size == 0) {
        if (size > room)
            return -EMSGSIZE;
        if (size)
            memcpy(to, from, size);
        return (int32_t)size;
    }
    for (uint32_t i = 0; i < size; i++) {
        if (made >= room)
            return -EMSGSIZE;
        to[made++] = from[i];
        if (i + 1 + framing->escape_tail < size &&
            from[i + 1] == framing->escape_insert && pattern_ends(framing, to, made - 1))
            i++;
    }
    return (int32_t)made;
}

/* ---- raw values ------------------------------------------------------------------------- */

#define SIGN_16 0x8000u
#define SIGN_11 0x400u
#define MASK_12 0xfffu

uint64_t raw_ticks(const uint8_t *bytes, uint32_t type, bool big_endian)
{
    double seconds;

    if (type != INPHASE_F64)
        return raw_bits(bytes, raw_size(type), big_endian);
    seconds = raw_to_double(bytes, type, big_endian);
    if (!(seconds > -CLOCK_MOST_S && seconds < CLOCK_MOST_S))
        return 0;
    return (uint64_t)(int64_t)(seconds * 1e9 + (seconds < 0 ? -0.5 : 0.5));
}

bool lies_within(uint32_t offset, uint32_t count, uint32_t size)
{
    return (uint64_t)offset + count <= size;
}

uint64_t raw_bits(const uint8_t *bytes, uint32_t size, bool big_endian)
{
    bool swaps = big_endian == HOST_IS_LITTLE_ENDIAN;
    uint64_t bits = 0;
    uint32_t half;
    uint16_t quarter;

    /* a whole word at once */
    switch (size) {
    case sizeof bits:
        memcpy(&bits, bytes, sizeof bits);
        return swaps ? __builtin_bswap64(bits) : bits;
    case sizeof half:
        memcpy(&half, bytes, sizeof half);
        return swaps ? __builtin_bswap32(half) : half;
    case sizeof quarter:
        memcpy(&quarter, bytes, sizeof quarter);
        return swaps ? __builtin_bswap16(quarter) : quarter;
    default:
        break;
    }
    for (uint32_t i = 0; i < size; i++)
        bits |= (uint64_t)bytes[big_endian ? size - 1 - i : i] << (8 * i);
    return bits;
}

/* round to nearest, halves away from zero, and saturate; raw is finite */
static int64_t saturate(double raw, double low, double high)
{
    double rounded = raw < 0 ? raw - 0.5 : raw + 0.5;

    if (rounded <= low)
        return (int64_t)low;
    return rounded >= high ? (int64_t)high : (int64_t)rounded;
}

/* sign and magnitude; there are two zeros */
static double signed_magnitude(uint32_t bits, uint32_t sign)
{
    double magnitude = bits & (sign - 1);

    return bits & sign ? -magnitude : magnitude;
}

static uint64_t magnitude_bits(double raw, uint32_t sign)
{
    int64_t value = saturate(raw, 1 - (double)sign, (double)sign - 1);

    return value < 0 ? sign | (uint64_t)-value : (uint64_t)value;
}

double raw_to_double(const uint8_t *bytes, uint32_t type, bool big_endian)
{
    uint64_t bits = raw_bits(bytes, raw_size(type), big_endian);
    uint32_t low = (uint32_t)bits;
    float f32;
    double f64;

    switch (type) {
    case INPHASE_I8:
        return (int8_t)bits;
    case INPHASE_I16:
        return (int16_t)bits;
    case INPHASE_I32:
        return (int32_t)low;
    case INPHASE_F32:
        memcpy(&f32, &low, sizeof f32);
        return f32;
    case INPHASE_F64:
        memcpy(&f64, &bits, sizeof f64);
        return f64;
    case INPHASE_SM16:
        return signed_magnitude(low, SIGN_16);
    case INPHASE_SM11:
        return signed_magnitude(low, SIGN_11);
    case INPHASE_U12_HIGH:
    case INPHASE_U4_HIGH:
        return low >> 4;
    case INPHASE_U12_LOW:
        return low & MASK_12;
    case INPHASE_U2_HIGH:
        return low >> 6;
    default:
        return (double)bits;
    }
}

void put_bits(uint8_t *bytes, uint32_t size, bool big_endian, uint64_t bits)
{
    for (uint32_t i = 0; i < size; i++)
        bytes[big_endian ? size - 1 - i : i] = (uint8_t)(bits >> (8 * i));
}

static void put_raw(uint8_t *bytes, uint32_t type, bool big_endian, double raw)
{
    uint32_t size = raw_size(type);
    float f32;
    uint32_t low;
    uint64_t bits;

    switch (type) {
    case INPHASE_U8:
        bits = (uint64_t)saturate(raw, 0, UINT8_MAX);
        break;
    case INPHASE_I8:
        bits = (uint64_t)saturate(raw, INT8_MIN, INT8_MAX);
        break;
    case INPHASE_U16:
        bits = (uint64_t)saturate(raw, 0, UINT16_MAX);
        break;
    case INPHASE_I16:
        bits = (uint64_t)saturate(raw, INT16_MIN, INT16_MAX);
        break;
    case INPHASE_U32:
        bits = (uint64_t)saturate(raw, 0, UINT32_MAX);
        break;
    case INPHASE_I32:
        bits = (uint64_t)saturate(raw, INT32_MIN, INT32_MAX);
        break;
    case INPHASE_F32:
        f32 = raw > FLT_MAX ? FLT_MAX : raw < -FLT_MAX ? -FLT_MAX : (float)raw;
        memcpy(&low, &f32, sizeof low);
        bits = low;
        break;
    case INPHASE_SM16:
        bits = magnitude_bits(raw, SIGN_16);
        break;
    case INPHASE_SM11:
        bits = magnitude_bits(raw, SIGN_11);
        break;
    case INPHASE_U12_HIGH:
        bits = (uint64_t)saturate(raw, 0, MASK_12) << 4 | (raw_bits(bytes, size, big_endian) & 15);
        break;
    case INPHASE_U12_LOW:
        bits = (uint64_t)saturate(raw, 0, MASK_12) |
               (raw_bits(bytes, size, big_endian) & ~(uint64_t)MASK_12);
        break;
    case INPHASE_U4_HIGH:
        bits = (uint64_t)saturate(raw, 0, 15) << 4 | (bytes[0] & 15);
        break;
    case INPHASE_U2_HIGH:
        bits = (uint64_t)saturate(raw, 0, 3) << 6 | (bytes[0] & 63);
        break;
    default:
        memcpy(&bits, &raw, sizeof bits);
    }
    put_bits(bytes, size, big_endian, bits);
}

int32_t encode(const struct inphase_encoding *encoding, const uint64_t *table, const double *values,
               uint8_t *to, uint32_t room)
{
    struct inphase_framing framing = encoding->framing;
    const struct inphase_checksum *sum = &encoding->checksum;
    uint32_t sum_size = sum->kind ? checksum_size(sum) : 0;
    uint8_t plain[INPHASE_MAX_PACKET];
    int32_t size;

    /* the tail without the escape rule begins with the checksum, which is added later */
    framing.escape_tail -= framing.escape_tail < sum_size ? framing.escape_tail : sum_size;
    if (encoding->packet_size > sizeof plain || room < sum_size || framing.escape_size > 4 ||
        (sum->kind && !checksum_holds(sum)) ||
        !lies_within(framing.length_offset, framing.length_size, encoding->packet_size))
        return -EMSGSIZE;
    memcpy(plain, encoding->packet, encoding->packet_size);
    for (uint32_t i = 0; i < encoding->fields; i++) {
        const struct inphase_field *field = &encoding->field[i];
        double raw = (values[field->channel] - field->zero) / field->scale;

        if (!isfinite(raw))
            return -EDOM;
        if (!lies_within(field->offset, raw_size(field->type), encoding->packet_size))
            return -EMSGSIZE;
        put_raw(plain + field->offset, field->type, field->big_endian, raw);
    }

    /* escape, then the length of the escaped packet, then the checksum over all of it */
    size = inphase_escape(&framing, plain, encoding->packet_size, to, room - sum_size);
    if (size < 0)
        return size;
    if (framing.length_size) {
        int64_t length = size + (int64_t)sum_size - framing.length_add;

        put_raw(to + framing.length_offset,
                framing.length_size == 1 ? INPHASE_U8 : INPHASE_U16, framing.big_endian,
                (double)length);
    }
    if (sum->kind) {
        uint64_t state = checksum_add(sum, table, checksum_begin(sum), to, (uint32_t)size);

        put_bits(to + size, sum_size, encoding->checksum_big_endian, checksum_end(sum, state));
    }
    return size + (int32_t)sum_size;
}

int32_t inphase_encode(const struct inphase_encoding *encoding, const double *values, uint8_t *to,
                       uint32_t room)
{
    return encode(encoding, NULL, values, to, room);
}
