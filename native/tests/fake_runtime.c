/* Stands in for libonnxruntime.so where a C test wants no package: the same table, and a "model"
   that gives each output number i of its first input plus i. Every handle is memory, so that a leak
   shows. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef FAKE_API
#define FAKE_API 20
#endif

struct value {
    void *data;
    size_t bytes;
    int type;
};

static const void *table[131];

static const void *const *get_api(uint32_t version)
{
    return version <= FAKE_API ? table : NULL;
}

static const char *get_version(void)
{
    return "0.0-fake";
}

static const char *get_message(void *status)
{
    return status;
}

static void *create_env(int level, const char *name, void **out)
{
    (void)level;
    (void)name;
    *out = malloc(1);
    return NULL;
}

static void *create(void **out)
{
    *out = malloc(1);
    return NULL;
}

static void *set(void *options, int value)
{
    (void)options;
    (void)value;
    return NULL;
}

static void *add_entry(void *options, const char *key, const char *value)
{
    (void)options;
    return strcmp(key, "session.intra_op.allow_spinning") == 0 && strcmp(value, "0") == 0
               ? NULL
               : (void *)"another entry";
}

static void *create_session(const void *env, const void *bytes, size_t size, void *options,
                            void **out)
{
    (void)env;
    (void)options;
    if (size != 4 || memcmp(bytes, "good", 4) != 0)
        return strdup("no such operator");
    return create(out);
}

static void *create_memory_info(int allocator, int kind, void **out)
{
    (void)allocator;
    (void)kind;
    return create(out);
}

static void *create_tensor(const void *info, void *data, size_t bytes, const int64_t *shape,
                           size_t rank, int type, void **out)
{
    struct value *value = malloc(sizeof *value);

    (void)info;
    (void)shape;
    (void)rank;
    *value = (struct value){.data = data, .bytes = bytes, .type = type};
    *out = value;
    return NULL;
}

static double get(const struct value *value, size_t i)
{
    switch (value->type) {
    case 1: return ((const float *)value->data)[i % (value->bytes / 4)];
    case 2: return ((const uint8_t *)value->data)[i % value->bytes];
    default: return ((const double *)value->data)[i % (value->bytes / 8)];
    }
}

static void *run(void *session, const void *options, const char *const *names,
                 const void *const *inputs, size_t input_count, const char *const *output_names,
                 size_t output_count, void **outputs)
{
    (void)session;
    (void)options;
    (void)names;
    (void)output_names;
    if (input_count && get(inputs[0], 0) == 666.0)
        return strdup("an unlucky number");
    for (size_t o = 0; o < output_count; o++) {
        struct value *out = outputs[o];

        for (size_t i = 0; i < out->bytes / (out->type == 1 ? 4 : 8); i++) {
            double number = get(inputs[0], i) + (double)i;

            if (out->type == 1)
                ((float *)out->data)[i] = (float)number;
            else
                ((double *)out->data)[i] = number;
        }
    }
    return NULL;
}

struct base {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

const struct base *OrtGetApiBase(void)
{
    static const struct base base = {get_api, get_version};

    table[2] = (const void *)get_message;
    table[3] = (const void *)create_env;
    table[8] = (const void *)create_session;
    table[9] = (const void *)run;
    table[10] = (const void *)create;
    table[23] = table[24] = table[25] = (const void *)set;
    table[130] = (const void *)add_entry;
    table[49] = (const void *)create_tensor;
    table[69] = (const void *)create_memory_info;
    for (int i = 92; i <= 100; i++)
        table[i] = (const void *)free;
    return &base;
}
