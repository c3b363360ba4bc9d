/* A policy that is an ONNX model: fields of a frame in, a command out, without Python. ONNX
   Runtime's library is opened by its path together with a model; nothing here is linked to it. */
#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"
#include "tensor.h"

#define ORT_API 20              /* of onnxruntime 1.20, the oldest that is supported */
#define WARM_UP 16              /* runs until a session has made all its memory */
#define WAIT_NS 200000000LL     /* at most this long until a signal is seen */
#define HISTORY_MAX 1024

/* OrtApi is a table of function pointers that only grows at its end; these are where
   onnxruntime_c_api.h has them since version 1, which its sources assert */
enum ort_function {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION_FROM_ARRAY = 8,
    RUN = 9,
    CREATE_SESSION_OPTIONS = 10,
    SET_GRAPH_OPTIMIZATION_LEVEL = 23,
    SET_INTRA_OP_THREADS = 24,
    SET_INTER_OP_THREADS = 25,
    CREATE_TENSOR_WITH_DATA = 49,
    CREATE_CPU_MEMORY_INFO = 69,
    RELEASE_STATUS = 93,
    RELEASE_MEMORY_INFO = 94,
    RELEASE_SESSION = 95,
    RELEASE_VALUE = 96,
    RELEASE_SESSION_OPTIONS = 100,
    ADD_SESSION_CONFIG_ENTRY = 130,
};

#define LOG_ERRORS 3
#define OPTIMISE_ALL 99         /* what its Python binding does by default */
#define ARENA_ALLOCATOR 1
#define MEMORY_DEFAULT 0

struct ort_base {
    const void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

typedef void *(*ort_run)(void *session, const void *options, const char *const *input_names,
                         const void *const *inputs, size_t input_count,
                         const char *const *output_names, size_t output_count, void **outputs);

struct inphase_model {
    void *library;
    const void *const *api;
    void *env, *session, *memory_info;
    ort_run run;
    uint32_t inputs, outputs, states, sensors, values, chunk, history;
    int64_t every;
    bool repeats;
    inphase_reader *reader;     /* of the frames before one; the caller's */
    int64_t epoch, cycle;       /* of the frame that was looked at last */
    uint8_t *past;              /* the record of one of those */
    double *command;            /* of the loop: values times chunk */
    uint8_t accepts[INPHASE_MAX_SENSORS];
    struct tensor input[INPHASE_MODEL_TENSORS], output[INPHASE_MODEL_TENSORS];
    const char *input_name[INPHASE_MODEL_TENSORS], *output_name[INPHASE_MODEL_TENSORS];
    void *input_value[INPHASE_MODEL_TENSORS], *output_value[INPHASE_MODEL_TENSORS];
};

/* ---- opening --------------------------------------------------------------------------------- */

/* a status of the library: its text goes to message, and it is released; -EPROTO: an error */
static int failed(const inphase_model *model, void *status, const char *what, char *message,
                  uint32_t room)
{
    if (!status)
        return 0;
    if (message)
        snprintf(message, room, "%s: %s", what,
                 ((const char *(*)(void *))model->api[GET_ERROR_MESSAGE])(status));
    ((void (*)(void *))model->api[RELEASE_STATUS])(status);
    return -EPROTO;
}

static void release(const inphase_model *model, enum ort_function function, void *handle)
{
    if (handle)
        ((void (*)(void *))model->api[function])(handle);
}

static int open_library(inphase_model *model, const char *path, char *message, uint32_t room)
{
    const struct ort_base *(*get_base)(void);
    const struct ort_base *base;

    model->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!model->library) {
        snprintf(message, room, "%s", dlerror());
        return -ENOENT;
    }
    *(void **)&get_base = dlsym(model->library, "OrtGetApiBase");
    base = get_base ? get_base() : NULL;
    model->api = base ? base->get_api(ORT_API) : NULL;
    if (!model->api) {
        snprintf(message, room, "%s is ONNX Runtime %s, which has no API version %d", path,
                 base ? base->get_version() : "of an unknown version", ORT_API);
        return -ENOTSUP;
    }
    *(const void **)&model->run = model->api[RUN];
    return 0;
}

static int open_session(inphase_model *model, const struct inphase_model_config *config,
                        char *message, uint32_t room)
{
    const void *const *api = model->api;
    void *options = NULL;
    int rc = failed(model,
                    ((void *(*)(int, const char *, void **))api[CREATE_ENV])(
                        LOG_ERRORS, "inphase", &model->env),
                    "environment", message, room);

    if (rc == 0)
        rc = failed(model,
                    ((void *(*)(void **))api[CREATE_SESSION_OPTIONS])(&options),
                    "options", message, room);

    /* one thread, unless more are requested: the policy's own, so that no work is handed over */
    if (rc == 0)
        rc = failed(model,
                    ((void *(*)(void *, int))api[SET_INTRA_OP_THREADS])(options,
                                                                        (int)config->threads),
                    "threads", message, room);
    if (rc == 0)
        rc = failed(model, ((void *(*)(void *, int))api[SET_INTER_OP_THREADS])(options, 1),
                    "threads", message, room);

    /* the others sleep between runs: they have the policy's priority */
    if (rc == 0 && config->threads > 1)
        rc = failed(model,
                    ((void *(*)(void *, const char *, const char *))api[ADD_SESSION_CONFIG_ENTRY])(
                        options, "session.intra_op.allow_spinning", "0"),
                    "threads", message, room);
    if (rc == 0)
        rc = failed(model,
                    ((void *(*)(void *, int))api[SET_GRAPH_OPTIMIZATION_LEVEL])(options,
                                                                                OPTIMISE_ALL),
                    "optimisation", message, room);

    /* from memory: the checked bytes are the ones that run, and there is no folder for other
       files */
    if (rc == 0)
        rc = failed(model,
                    ((void *(*)(void *, const void *, size_t, void *, void **))
                         api[CREATE_SESSION_FROM_ARRAY])(model->env, config->bytes, config->size,
                                                         options, &model->session),
                    "session", message, room);
    if (rc == 0)
        rc = failed(model,
                    ((void *(*)(int, int, void **))api[CREATE_CPU_MEMORY_INFO])(
                        ARENA_ALLOCATOR, MEMORY_DEFAULT, &model->memory_info),
                    "memory", message, room);
    release(model, RELEASE_SESSION_OPTIONS, options);
    return rc;
}

static int open_tensor(inphase_model *model, struct tensor *tensor,
                       const struct inphase_model_tensor *config, uint32_t times, const char **name,
                       void **value, char *message, uint32_t room)
{
    int rc = tensor_make(tensor, config, times);

    if (rc < 0)
        return rc;
    *name = strdup(config->name);
    if (!*name)
        return -ENOMEM;
    if (!model->api)
        return 0;
    return failed(model,
                  ((void *(*)(const void *, void *, size_t, const int64_t *, size_t, int, void **))
                       model->api[CREATE_TENSOR_WITH_DATA])(
                      model->memory_info, tensor->data, tensor_size(tensor), config->shape,
                      config->rank, (int)config->type, value),
                  config->name, message, room);
}

static int open_tensors(inphase_model *model, const struct inphase_model_config *config,
                        char *message, uint32_t room)
{
    uint32_t fed = model->inputs - model->states, given = model->outputs - model->states;
    int rc = 0;

    for (uint32_t i = 0; i < config->inputs && rc == 0; i++)
        rc = open_tensor(model, &model->input[i], &config->input[i], i < fed ? model->history : 0,
                         &model->input_name[i], &model->input_value[i], message, room);
    for (uint32_t i = 0; i < config->outputs && rc == 0; i++)
        rc = config->output[i].type == INPHASE_TENSOR_U8 || config->output[i].channels ? -EINVAL
                                                                                       : 0;
    for (uint32_t i = 0; i < config->outputs && rc == 0; i++)
        rc = open_tensor(model, &model->output[i], &config->output[i], i < given ? model->chunk : 0,
                         &model->output_name[i], &model->output_value[i], message, room);

    /* a state comes out as it goes in */
    for (uint32_t i = 0; i < model->states && rc == 0; i++)
        if (model->input[fed + i].type != model->output[given + i].type ||
            model->input[fed + i].count != model->output[given + i].count)
            rc = -EINVAL;

    /* all parts read from known sensors and write into the command */
    for (uint32_t i = 0; i < config->inputs && rc == 0; i++)
        for (uint32_t p = 0; p < config->input[i].parts; p++)
            if (config->input[i].part[p].sensor >= model->sensors &&
                (config->input[i].part[p].sensor != INPHASE_MODEL_FRAME ||
                 tensor_takes_bytes(&model->input[i])))
                rc = -EINVAL;
    for (uint32_t i = 0; i < config->outputs && rc == 0; i++)
        for (uint32_t p = 0; p < config->output[i].parts; p++) {
            const struct inphase_model_part *part = &config->output[i].part[p];

            if (part->offset > model->values || part->count > model->values - part->offset)
                rc = -EINVAL;
        }
    return rc;
}

static void *run_once(inphase_model *model)
{
    return model->run(model->session, NULL, model->input_name,
                      (const void *const *)model->input_value, model->inputs, model->output_name,
                      model->outputs, model->output_value);
}

int inphase_model_open(inphase_model **out, const struct inphase_model_config *config,
                       char *message, uint32_t room)
{
    inphase_model *model;
    int rc = -EINVAL;

    message[0] = 0;
    if (!config->inputs || !config->outputs || !config->threads ||
        config->threads > INPHASE_MODEL_THREADS || config->inputs > INPHASE_MODEL_TENSORS ||
        config->outputs > INPHASE_MODEL_TENSORS || config->sensors > INPHASE_MAX_SENSORS ||
        config->states > config->inputs || config->states >= config->outputs ||
        config->values > INPHASE_MAX_CHANNELS * INPHASE_MAX_ACTUATORS ||
        config->chunk > INPHASE_MAX_CHUNK || config->history > HISTORY_MAX || config->every < 0)
        return rc;
    model = calloc(1, sizeof *model);
    if (!model)
        return -ENOMEM;
    model->inputs = config->inputs;
    model->outputs = config->outputs;
    model->states = config->states;
    model->cycle = INT64_MAX;
    model->sensors = config->sensors;
    model->values = config->values;
    model->chunk = config->chunk ? config->chunk : 1;
    model->history = config->history ? config->history : 1;
    model->every = config->every ? config->every : 1;
    model->repeats = config->repeats;
    memcpy(model->accepts, config->accepts, config->sensors);
    model->command = calloc((size_t)model->values * model->chunk + 1, sizeof(double));
    if (!model->command) {
        free(model);
        return -ENOMEM;
    }
    rc = config->runtime ? open_library(model, config->runtime, message, room) : 0;
    if (rc == 0 && config->runtime)
        rc = open_session(model, config, message, room);
    if (rc == 0)
        rc = open_tensors(model, config, message, room);
    for (int i = 0; i < WARM_UP && rc == 0 && config->runtime; i++)
        rc = failed(model, run_once(model), "first run", message, room);
    if (rc < 0) {
        inphase_model_close(model);
        return rc;
    }
    *out = model;
    return 0;
}

static void close_tensor(const inphase_model *model, struct tensor *tensor, const char *name,
                         void *value)
{
    release(model, RELEASE_VALUE, value);
    tensor_free(tensor);
    free((void *)name);
}

void inphase_model_close(inphase_model *model)
{
    if (!model)
        return;
    for (uint32_t i = 0; i < INPHASE_MODEL_TENSORS; i++) {
        close_tensor(model, &model->input[i], model->input_name[i], model->input_value[i]);
        close_tensor(model, &model->output[i], model->output_name[i], model->output_value[i]);
    }
    if (model->api) {
        release(model, RELEASE_MEMORY_INFO, model->memory_info);
        release(model, RELEASE_SESSION, model->session);
    }
    /* the library stays mapped: it keeps things of this thread. So does its environment, which is
       one for the process: to end the last while another thread makes one fails there */
    free(model->command);
    free(model->past);
    free(model);
}

/* ---- one inference --------------------------------------------------------------------------- */

static const struct inphase_row *row_of(const void *record, uint32_t sensor)
{
    const struct inphase_row *rows =
        (const void *)((const uint8_t *)record + sizeof(struct inphase_frame));

    return &rows[sensor];
}

static bool is_accepted(const inphase_model *model, const void *record)
{
    for (uint32_t i = 0; i < model->sensors; i++) {
        uint16_t status = row_of(record, i)->status;

        if (status >= INPHASE_STATUSES || !(model->accepts[i] >> status & 1))
            return false;
    }
    return true;
}

/* the numbers of a part; NULL: they are not there */
static const uint8_t *part_of(const struct inphase_model_part *part, const void *record,
                              const void *const *samples)
{
    const uint8_t *from = part->sensor == INPHASE_MODEL_FRAME ? record : samples[part->sensor];
    double value;

    if (!from)
        return NULL;
    from += part->offset;
    for (uint32_t i = 0; part->sensor == INPHASE_MODEL_FRAME && i < part->count; i++) {
        memcpy(&value, from + 8 * i, 8);
        if (isnan(value))
            return NULL;
    }
    return from;
}

/* one frame's numbers into row `row` of every input; false: some are not there */
static bool gather(const inphase_model *model, uint32_t row, const void *record,
                   const void *const *samples)
{
    for (uint32_t t = 0; t < model->inputs - model->states; t++) {
        const struct tensor *tensor = &model->input[t];
        uint64_t at = row * (tensor->count / model->history);

        for (uint32_t p = 0; p < tensor->parts; p++) {
            const struct inphase_model_part *part = &tensor->part[p];
            const uint8_t *from = part_of(part, record, samples);

            if (!from)
                return false;
            tensor_put(tensor, at, from, part->count);
            at += part->count;
        }
    }
    return true;
}

/* row `from` of every input stands for row `row` too */
static void repeat(const inphase_model *model, uint32_t row, uint32_t from)
{
    for (uint32_t t = 0; t < model->inputs - model->states; t++) {
        const struct tensor *tensor = &model->input[t];
        size_t width = tensor->count / model->history * tensor_type_size(tensor->type);

        memcpy((uint8_t *)tensor->data + row * width, (uint8_t *)tensor->data + from * width,
               width);
    }
}

/* the state before the first run, and after a stop */
static void zero_states(const inphase_model *model)
{
    for (uint32_t i = model->inputs - model->states; i < model->inputs; i++)
        memset(model->input[i].data, 0, tensor_size(&model->input[i]));
}

/* the next run begins with the state that this one gave */
static void carry_states(const inphase_model *model)
{
    for (uint32_t i = 1; i <= model->states; i++) {
        const struct tensor *to = &model->input[model->inputs - i];

        memcpy(to->data, model->output[model->outputs - i].data, tensor_size(to));
    }
}

/* a frame is looked at: its commands follow on the ones before it, unless there was a stop or an
   arming, or its cycles begin anew */
static void follow_on(inphase_model *model, const struct inphase_frame *frame)
{
    int64_t epoch = model->reader ? reader_epoch(model->reader) : 0;

    if (epoch != model->epoch || frame->cycle <= model->cycle)
        zero_states(model);
    model->epoch = epoch;
    model->cycle = frame->cycle;
}

/* what a run gave: its commands, and the state of the next one */
static void scatter(const inphase_model *model, double *command)
{
    carry_states(model);
    for (uint32_t t = 0; t < model->outputs - model->states; t++) {
        const struct tensor *tensor = &model->output[t];
        uint64_t at = 0;

        for (uint32_t step = 0; step < model->chunk; step++)
            for (uint32_t p = 0; p < tensor->parts; p++) {
                double *to = command + (uint64_t)step * model->values + tensor->part[p].offset;

                for (uint64_t i = 0; i < tensor->part[p].count; i++)
                    to[i] = tensor_number(tensor, at++);
            }
    }
}

/* the inputs' numbers are there: fill the outputs' */
static uint32_t run_session(inphase_model *model)
{
    if (!model->api || failed(model, run_once(model), NULL, NULL, 0) < 0)
        return INPHASE_REASON_RAISED;
    return INPHASE_REASON_NONE;
}

static uint32_t infer(inphase_model *model, double *command)
{
    uint32_t reason = run_session(model);

    if (!reason)
        scatter(model, command);
    return reason;
}

/* ---- the frames before one -------------------------------------------------------------- */

/* every part lies in its sensor's sample, or in the record, and every sensor in the frame */
static bool reader_fits(const inphase_model *model, const struct inphase_layout *layout)
{
    if (model->sensors > layout->sensors)
        return false;
    for (uint32_t t = 0; t < model->inputs; t++)
        for (uint32_t p = 0; p < model->input[t].parts; p++) {
            const struct inphase_model_part *part = &model->input[t].part[p];
            uint64_t payload = part->sensor == INPHASE_MODEL_FRAME
                                   ? layout->frames.payload
                                   : layout->samples[part->sensor].payload;
            uint64_t size = tensor_takes_bytes(&model->input[t]) ? part->count : 8 * part->count;

            if (part->offset > payload || size > payload - part->offset)
                return false;
        }
    return true;
}

int inphase_model_follow(inphase_model *model, inphase_reader *reader)
{
    const struct inphase_layout *layout = inphase_reader_layout(reader);

    if (!reader_fits(model, layout))
        return -EINVAL;
    free(model->past);
    model->reader = NULL;
    model->past = calloc(1, layout->frames.payload);
    if (!model->past)
        return -ENOMEM;
    model->reader = reader;
    return 0;
}

/* are the samples that the model has read still those that the frame names? */
static bool are_intact(const inphase_model *model, const void *record)
{
    for (uint32_t t = 0; t < model->inputs; t++)
        for (uint32_t p = 0; p < model->input[t].parts; p++) {
            uint32_t sensor = model->input[t].part[p].sensor;

            if (sensor != INPHASE_MODEL_FRAME &&
                !inphase_reader_intact(model->reader, sensor, row_of(record, sensor)->sequence))
                return false;
        }
    return true;
}

/* a frame from the reader: read in place and checked after that, so that a sample that was
   overwritten meanwhile does not count */
static bool gather_read(const inphase_model *model, uint32_t row, const void *record)
{
    const void *samples[INPHASE_MAX_SENSORS];

    for (uint32_t i = 0; i < model->sensors; i++)
        samples[i] = reader_sample(model->reader, i, row_of(record, i)->sequence);
    return gather(model, row, record, samples) && are_intact(model, record);
}

/* the rows before the last one, from the newest frame back, as far as their numbers are there;
   false: there are too few. At most history * every looks */
static bool gather_past(const inphase_model *model, int64_t cycle)
{
    struct inphase_frame *frame = (void *)model->past;
    uint32_t row = model->history - 1;
    int64_t number;

    if (!row)
        return true;
    if (!model->reader)
        return false;
    for (number = reader_newest(model->reader); number >= 0 && row; number--) {
        if (inphase_reader_past(model->reader, number, frame) < 0)
            break;
        if (frame->cycle >= cycle || frame->cycle % model->every)
            continue;
        if (!gather_read(model, row - 1, frame))
            break;
        row--;
    }
    if (row && !model->repeats)
        return false;
    for (uint32_t missing = 0; missing < row; missing++)
        repeat(model, missing, row);
    return true;
}

uint32_t inphase_model_call(void *user, const void *record, const void *const *samples,
                            double *command)
{
    inphase_model *model = user;
    const struct inphase_frame *frame = record;

    follow_on(model, frame);
    if (!is_accepted(model, record) || !gather(model, model->history - 1, record, samples) ||
        !gather_past(model, frame->cycle))
        return INPHASE_REASON_INPUT;
    return infer(model, command);
}

uint32_t inphase_model_take(inphase_model *model, inphase_reader *reader, const void *record)
{
    const struct inphase_frame *frame = record;

    if (reader != model->reader)
        return INPHASE_REASON_SHAPE;
    follow_on(model, frame);
    return is_accepted(model, record) && gather_read(model, model->history - 1, record) &&
                   gather_past(model, frame->cycle)
               ? INPHASE_REASON_NONE
               : INPHASE_REASON_INPUT;
}

uint32_t inphase_model_answer(inphase_model *model, inphase_reader *reader, const void *record,
                              double *command)
{
    uint32_t reason = inphase_model_take(model, reader, record);

    return reason ? reason : infer(model, command);
}

void inphase_model_give(inphase_model *model, double *command)
{
    scatter(model, command);
}

void *inphase_model_numbers(inphase_model *model, int output, uint32_t index)
{
    if (index >= (output ? model->outputs : model->inputs))
        return NULL;
    return output ? model->output[index].data : model->input[index].data;
}

/* ---- the policy's process -------------------------------------------------------------------- */

int inphase_model_wait(inphase_model *model, inphase_reader *reader, inphase_segment *mailbox,
                       int64_t every, int64_t timeout_ns)
{
    int64_t lost = inphase_reader_due(reader, every, timeout_ns);

    if (lost < 0)
        return (int)lost;
    inphase_mailbox_taken(mailbox);
    return (int)inphase_model_take(model, reader, inphase_reader_record(reader));
}

int inphase_model_post(inphase_model *model, inphase_reader *reader, inphase_segment *mailbox,
                       int64_t valid_ns, uint32_t reason)
{
    const struct inphase_frame *frame = inphase_reader_record(reader);

    if (!reason)
        scatter(model, model->command);
    return inphase_mailbox_post(mailbox, frame->cycle, frame->due_ns + valid_ns, reason,
                                model->command, reason ? 0 : model->values * model->chunk);
}

static volatile sig_atomic_t asked_to_end; /* the handler writes it, the loop reads it */

static void ask_to_end(int number)
{
    (void)number;
    asked_to_end = 1;
}

int inphase_model_serve(inphase_model *model, inphase_reader *reader, inphase_segment *mailbox,
                        int64_t every, int64_t max_hold_ns)
{
    struct sigaction action = {.sa_handler = ask_to_end}, before;
    sigset_t terminate, blocked;
    int rc = inphase_model_follow(model, reader);

    if (rc < 0)
        return rc;

    /* without SA_RESTART: a wait ends with the signal; a signal that the caller held back comes
       now */
    asked_to_end = 0;
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    if (sigaction(SIGTERM, &action, &before) < 0)
        return -errno;
    pthread_sigmask(SIG_UNBLOCK, &terminate, &blocked);
    while (!asked_to_end && rc == 0) {
        rc = inphase_model_wait(model, reader, mailbox, every, WAIT_NS);
        if (rc >= 0)
            rc = inphase_model_post(model, reader, mailbox, max_hold_ns,
                                    rc ? (uint32_t)rc : run_session(model));
        else if (rc == -ETIMEDOUT || rc == -EINTR)
            rc = 0;
    }
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    sigaction(SIGTERM, &before, NULL);
    return rc == -EPIPE ? 0 : rc;
}
