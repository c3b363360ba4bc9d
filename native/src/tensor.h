/* The tensors of a model: numbers of a frame that go in, and of a command that come out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../inphase.h"

/* one input or output, over a buffer of ours; constant once open, but for data */
struct tensor {
    uint32_t type, parts;
    uint64_t count;             /* numbers in it */
    struct inphase_model_part *part;
    double *mean, *std;         /* per number, NULL: taken as they are */
    uint32_t channels;          /* of an image; 0: none */
    bool planar;
    double *pixels;             /* per channel and value, NULL: taken as they are */
    void *data;                 /* an input's: written before a run; an output's: written by it */
};

/* Make a tensor over a buffer of zeros. times: its parts come so often, one after the other; 0: it
   is a state, and has none. -EINVAL: a bound is broken; -ENOMEM; tensor_free frees what was made */
int tensor_make(struct tensor *tensor, const struct inphase_model_tensor *config, uint32_t times);
void tensor_free(struct tensor *tensor);
/* bytes of its numbers */
size_t tensor_size(const struct tensor *tensor);
/* bytes of one */
size_t tensor_type_size(uint32_t type);
/* true: the numbers of its parts are uint8 */
bool tensor_takes_bytes(const struct tensor *tensor);
/* the numbers of a part, from its number `at` on */
void tensor_put(const struct tensor *tensor, uint64_t at, const uint8_t *from, uint64_t count);
/* one of its numbers, as it is in a command */
double tensor_number(const struct tensor *tensor, uint64_t at);
