/* Tensors over buffers of their own: made once, filled in every run. */
#include "tensor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64            /* of tensors */
#define PIXEL 256               /* values of a uint8 */

size_t tensor_type_size(uint32_t type)
{
    switch (type) {
    case INPHASE_TENSOR_F32: return 4;
    case INPHASE_TENSOR_U8: return 1;
    case INPHASE_TENSOR_F64: return 8;
    default: return 0;
    }
}

size_t tensor_size(const struct tensor *tensor)
{
    return tensor->count * tensor_type_size(tensor->type);
}

bool tensor_takes_bytes(const struct tensor *tensor)
{
    return tensor->type == INPHASE_TENSOR_U8 || tensor->channels;
}

static void *copy_of(const void *from, size_t size)
{
    void *to = malloc(size);

    if (to)
        memcpy(to, from, size);
    return to;
}

static bool image_fits(const struct inphase_model_tensor *config)
{
    if (!config->channels)
        return !config->pixels && !config->planar;
    return config->parts == 1 && config->part[0].count % config->channels == 0 &&
           !config->mean && !config->pixels == (config->type == INPHASE_TENSOR_U8);
}

/* numbers in a tensor, 0: it breaks a bound, or its parts, `times` over, do not make it up; a state
   has times 0, and no parts */
static uint64_t count_of(const struct inphase_model_tensor *config, uint32_t times)
{
    uint64_t count = 1, parts = 0;

    if (!tensor_type_size(config->type) || config->rank > INPHASE_MODEL_RANK ||
        !config->parts != !times || config->parts > INPHASE_MODEL_PARTS ||
        !config->mean != !config->std || !image_fits(config))
        return 0;
    for (uint32_t i = 0; i < config->rank; i++) {
        if (config->shape[i] <= 0 || (uint64_t)config->shape[i] > INPHASE_MODEL_NUMBERS / count)
            return 0;
        count *= (uint64_t)config->shape[i];
    }
    for (uint32_t i = 0; i < config->parts; i++)
        parts += config->part[i].count;
    return parts * times == count || !times ? count : 0;
}

int tensor_make(struct tensor *tensor, const struct inphase_model_tensor *config, uint32_t times)
{
    uint64_t count = count_of(config, times);
    size_t size = count * tensor_type_size(config->type);

    if (!count)
        return -EINVAL;
    tensor->type = config->type;
    tensor->count = count;
    tensor->parts = config->parts;
    tensor->channels = config->channels;
    tensor->planar = config->planar;
    tensor->data = aligned_alloc(ALIGNMENT, (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (config->parts)
        tensor->part = copy_of(config->part, config->parts * sizeof *config->part);
    if (config->mean) {
        tensor->mean = copy_of(config->mean, count * sizeof(double));
        tensor->std = copy_of(config->std, count * sizeof(double));
    }
    if (config->pixels)
        tensor->pixels = copy_of(config->pixels, config->channels * PIXEL * sizeof(double));
    if (!tensor->data || !tensor->part != !config->parts || !tensor->pixels != !config->pixels ||
        (config->mean && !(tensor->mean && tensor->std)))
        return -ENOMEM;
    memset(tensor->data, 0, size);
    return 0;
}

void tensor_free(struct tensor *tensor)
{
    free(tensor->data);
    free(tensor->part);
    free(tensor->mean);
    free(tensor->std);
    free(tensor->pixels);
}

/* float64 numbers of a sample into a tensor, from its number `at` on */
static void put_doubles(const struct tensor *tensor, uint64_t at, const uint8_t *from,
                        uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        double value;

        memcpy(&value, from + 8 * i, 8);
        if (tensor->mean)
            value = (value - tensor->mean[at + i]) / tensor->std[at + i];
        if (tensor->type == INPHASE_TENSOR_F64)
            ((double *)tensor->data)[at + i] = value;
        else
            ((float *)tensor->data)[at + i] = (float)value;
    }
}

/* an image's uint8 numbers into a tensor, from its number `at` on; a pixel's channels lie together
   in them */
static void put_pixels(const struct tensor *tensor, uint64_t at, const uint8_t *from,
                       uint64_t count)
{
    uint64_t pixels = count / tensor->channels;

    for (uint64_t pixel = 0; pixel < pixels; pixel++)
        for (uint32_t channel = 0; channel < tensor->channels; channel++) {
            uint8_t value = from[pixel * tensor->channels + channel];
            uint64_t to = at + (tensor->planar ? channel * pixels + pixel
                                               : pixel * tensor->channels + channel);

            if (tensor->type == INPHASE_TENSOR_U8)
                ((uint8_t *)tensor->data)[to] = value;
            else if (tensor->type == INPHASE_TENSOR_F64)
                ((double *)tensor->data)[to] = tensor->pixels[channel * PIXEL + value];
            else
                ((float *)tensor->data)[to] = (float)tensor->pixels[channel * PIXEL + value];
        }
}

void tensor_put(const struct tensor *tensor, uint64_t at, const uint8_t *from, uint64_t count)
{
    if (tensor->channels)
        put_pixels(tensor, at, from, count);
    else if (tensor->type == INPHASE_TENSOR_U8)
        memcpy((uint8_t *)tensor->data + at, from, count);
    else
        put_doubles(tensor, at, from, count);
}

double tensor_number(const struct tensor *tensor, uint64_t at)
{
    double value = tensor->type == INPHASE_TENSOR_F64 ? ((const double *)tensor->data)[at]
                                                      : (double)((const float *)tensor->data)[at];

    return tensor->mean ? value * tensor->std[at] + tensor->mean[at] : value;
}
