/* A policy that is a model: what goes in, what comes out, what is refused, and its loop; on a
   runtime that stands in for ONNX Runtime. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../src/mailbox.h"
#include "check.h"
#include "segments.h"

#define PERIOD_NS 1000000
#define SECOND_NS 1000000000LL
#define DEPTH 16
#define ANY 0xff
#define FRESH_ONLY (1 << INPHASE_FRESH)

static char message[256];

/* two sensors; "obs" takes two numbers of the second and one of the first, "act" gives three */
static const struct inphase_model_part obs_parts[2] = {
    {.sensor = 1, .count = 2, .offset = 8},
    {.sensor = 0, .count = 1, .offset = 0},
};
static const struct inphase_model_part act_parts[2] = {
    {.count = 1, .offset = 2},
    {.count = 2, .offset = 0},
};
static const uint8_t accepts[2] = {ANY, FRESH_ONLY};

struct described {
    struct inphase_model_config config;
    struct inphase_model_tensor input, output;
};

static struct described *describe(struct described *it)
{
    *it = (struct described){
        .config = {.runtime = FAKE_RUNTIME, .bytes = "good", .size = 4, .inputs = 1, .outputs = 1,
                   .sensors = 2, .values = 3, .threads = 1, .accepts = accepts},
        .input = {.name = "obs", .type = INPHASE_TENSOR_F32, .rank = 2, .shape = {1, 3},
                  .parts = 2, .part = obs_parts},
        .output = {.name = "act", .type = INPHASE_TENSOR_F32, .rank = 1, .shape = {3}, .parts = 2,
                   .part = act_parts},
    };
    it->config.input = &it->input;
    it->config.output = &it->output;
    return it;
}

static int open_model(inphase_model **out, const struct described *it)
{
    return inphase_model_open(out, &it->config, message, sizeof message);
}

struct record {
    struct inphase_frame frame;
    struct inphase_row row[2];
};

static void fields_go_in_and_commands_come_out_in_order(void)
{
    static const double first[1] = {30.0}, second[3] = {7.0, 10.0, 20.0};
    const void *samples[2] = {first, second};
    struct record record = {0};
    struct described it;
    inphase_model *model;
    double command[3];

    CHECK_EQUAL(open_model(&model, describe(&it)), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    inphase_model_close(model);

    /* the runtime gives 10 + 0, 20 + 1, 30 + 2, of which the first is the command's last */
    CHECK(command[2] == 10.0 && command[0] == 21.0 && command[1] == 32.0);
}

static void numbers_are_normalised_as_doubles(void)
{
    static const double mean[3] = {1.0, 2.0, 3.0}, std[3] = {2.0, 4.0, 0.5};
    static const double first[1] = {-0.7}, second[3] = {0.0, 0.1, 1e300};
    const void *samples[2] = {first, second};
    struct record record = {0};
    struct described it;
    inphase_model *model;
    double command[3];

    describe(&it);
    it.input.mean = it.output.mean = mean;
    it.input.std = it.output.std = std;
    CHECK_EQUAL(open_model(&model, &it), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    CHECK(command[2] == (double)((float)((0.1 - 1.0) / 2.0) + 0.0f) * 2.0 + 1.0);
    CHECK(isinf(command[0]));
    inphase_model_close(model);

    it.input.type = it.output.type = INPHASE_TENSOR_F64;
    CHECK_EQUAL(open_model(&model, &it), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    CHECK(command[1] == ((-0.7 - 3.0) / 0.5 + 2.0) * 0.5 + 3.0);
    inphase_model_close(model);
}

static void bytes_go_in_as_they_are(void)
{
    static const struct inphase_model_part part = {.sensor = 1, .count = 3, .offset = 1};
    static const uint8_t image[8] = {9, 1, 2, 255, 9};
    const void *samples[2] = {NULL, image};
    struct record record = {0};
    struct described it;
    inphase_model *model;
    double command[3];

    describe(&it);
    it.input.type = INPHASE_TENSOR_U8;
    it.input.parts = 1;
    it.input.part = &part;
    CHECK_EQUAL(open_model(&model, &it), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    CHECK(command[2] == 1.0 && command[0] == 3.0 && command[1] == 257.0);
    inphase_model_close(model);
}

/* two pixels of three channels, of which the number of the value v is 10 * channel + v / 2 */
static void an_image_goes_in_channel_by_channel_as_a_table_says(void)
{
    static const struct inphase_model_part part = {.sensor = 1, .count = 6, .offset = 1};
    static const struct inphase_model_part six = {.count = 6};
    static const uint8_t image[8] = {9, 1, 2, 3, 4, 5, 255, 9};
    static double pixels[3 * 256];
    const void *samples[2] = {NULL, image};
    struct record record = {0};
    struct described it;
    inphase_model *model;
    double command[6];

    for (int i = 0; i < 3 * 256; i++)
        pixels[i] = 10 * (i / 256) + (i % 256) / 2.0;
    describe(&it);
    it.config.values = 6;
    it.input.parts = it.output.parts = 1;
    it.input.part = &part;
    it.output.part = &six;
    it.input.shape[1] = it.output.shape[0] = 6;
    it.input.channels = 3;
    it.input.planar = 1;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    it.input.pixels = pixels;
    CHECK_EQUAL(open_model(&model, &it), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    CHECK(command[0] == 0.5 && command[1] == 2.0 + 1 && command[2] == 11.0 + 2);
    CHECK(command[3] == 12.5 + 3 && command[4] == 21.5 + 4 && command[5] == 147.5 + 5);
    inphase_model_close(model);

    it.input.planar = 0;
    it.input.type = INPHASE_TENSOR_F64;
    CHECK_EQUAL(open_model(&model, &it), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    CHECK(command[1] == 11.0 + 1 && command[5] == 147.5 + 5);
    inphase_model_close(model);

    it.input.planar = 1;
    it.input.type = INPHASE_TENSOR_U8;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    it.input.pixels = NULL;
    CHECK_EQUAL(open_model(&model, &it), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    CHECK(command[1] == 4.0 + 1 && command[2] == 2.0 + 2 && command[5] == 255.0 + 5);
    inphase_model_close(model);
    it.input.channels = 4;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
}

/* the runtime gives number i of its input plus i, and the state is all that goes in */
static void a_state_is_what_the_run_before_gave_and_zeros_when_cycles_begin_anew(void)
{
    static const struct inphase_model_part three = {.count = 3};
    struct inphase_model_tensor outputs[2];
    struct record record = {0};
    struct described it;
    inphase_model *model;
    double command[3];

    describe(&it);
    it.input = (struct inphase_model_tensor){.name = "h_in", .type = INPHASE_TENSOR_F32,
                                             .rank = 2, .shape = {1, 3}};
    outputs[0] = outputs[1] = it.output;
    outputs[0].parts = 1;
    outputs[0].part = &three;
    outputs[1] = it.input;
    it.config.output = outputs;
    it.config.outputs = 2;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    it.config.states = 1;
    CHECK_EQUAL(open_model(&model, &it), 0);
    for (int run = 1; run <= 3; run++) {
        record.frame.cycle = 5 * run;
        CHECK_EQUAL(inphase_model_call(model, &record, NULL, command), 0);
        CHECK(command[0] == 0.0 && command[1] == run && command[2] == 2.0 * run);
    }

    /* a frame that is not accepted is no run */
    record.row[1].status = INPHASE_OFFLINE;
    record.frame.cycle++;
    CHECK_EQUAL(inphase_model_call(model, &record, NULL, command), INPHASE_REASON_INPUT);
    record.row[1].status = INPHASE_FRESH;
    record.frame.cycle++;
    CHECK_EQUAL(inphase_model_call(model, &record, NULL, command), 0);
    CHECK(command[1] == 4.0);
    record.frame.cycle = 0;
    CHECK_EQUAL(inphase_model_call(model, &record, NULL, command), 0);
    CHECK(command[1] == 1.0);
    inphase_model_close(model);

    outputs[1].type = INPHASE_TENSOR_F64;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    it.config.states = 2;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
}

static void what_is_not_accepted_or_not_there_gives_no_command(void)
{
    static const double first[1], second[3];
    const void *samples[2] = {first, second};
    struct record record = {0};
    struct described it;
    inphase_model *model;
    double command[3];

    CHECK_EQUAL(open_model(&model, describe(&it)), 0);
    for (uint16_t status = 0; status < INPHASE_STATUSES + 2; status++) {
        record.row[1].status = status;
        CHECK_EQUAL(inphase_model_call(model, &record, samples, command),
                    status == INPHASE_FRESH ? 0 : INPHASE_REASON_INPUT);
    }
    record.row[1].status = INPHASE_FRESH;
    record.row[0].status = INPHASE_OFFLINE;
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    samples[0] = NULL;
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), INPHASE_REASON_INPUT);
    inphase_model_close(model);
}

static void a_run_that_fails_is_told_and_the_next_one_goes_on(void)
{
    static const double first[1];
    double second[3] = {0.0, 666.0, 0.0};
    const void *samples[2] = {first, second};
    struct record record = {0};
    struct described it;
    inphase_model *model;
    double command[3];

    CHECK_EQUAL(open_model(&model, describe(&it)), 0);
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), INPHASE_REASON_RAISED);
    second[1] = 1.0;
    CHECK_EQUAL(inphase_model_call(model, &record, samples, command), 0);
    inphase_model_close(model);
}

static void what_cannot_be_opened_says_why(void)
{
    struct described it;
    inphase_model *model;

    describe(&it);
    it.config.runtime = "/nowhere/libonnxruntime.so";
    CHECK_EQUAL(open_model(&model, &it), -ENOENT);
    CHECK(strstr(message, "/nowhere"));
    it.config.runtime = OLD_RUNTIME;
    CHECK_EQUAL(open_model(&model, &it), -ENOTSUP);
    CHECK(strstr(message, "0.0-fake"));
    it.config.runtime = FAKE_RUNTIME;
    it.config.bytes = "evil";
    CHECK_EQUAL(open_model(&model, &it), -EPROTO);
    CHECK(strstr(message, "no such operator"));
}

static void what_breaks_a_bound_is_refused(void)
{
    static const double numbers[3] = {1.0, 1.0, 1.0};
    struct inphase_model_part astray = {.sensor = 2, .count = 3};
    struct described it;
    inphase_model *model;

    describe(&it)->input.type = 3;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->input.shape[1] = 4;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->input.shape[0] = -1;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->input.shape[0] = INT64_MAX;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->input.rank = INPHASE_MODEL_RANK + 1;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->input.parts = INPHASE_MODEL_PARTS + 1;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->output.mean = numbers;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->config.values = 2;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->config.inputs = INPHASE_MODEL_TENSORS + 1;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->config.outputs = 0;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->config.threads = 0;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->config.threads = INPHASE_MODEL_THREADS + 1;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);

    describe(&it)->input.parts = 1;
    it.input.part = &astray;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
    describe(&it)->output.parts = 1;
    astray.offset = UINT64_MAX - 1;
    it.output.part = &astray;
    CHECK_EQUAL(open_model(&model, &it), -EINVAL);
}

/* ---- with a core ------------------------------------------------------------------------ */


/* one sensor of one channel on virtual time, and the model that reads it */
struct robot {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
    inphase_model *model;
};

static const struct inphase_model_part only = {.count = 1};

static void set_up(struct robot *robot, uint64_t offset)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_twin_channel channel = {.base = 1.5};
    const struct inphase_model_part from = {.count = 1, .offset = offset};
    struct inphase_sensor_config sensor = {
        .channels = 1,
        .every = 1,
        .payload = 8,
        .max_age_ns = 10 * PERIOD_NS,
        .depth = DEPTH,
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4}},
        .twin = {.channel = &channel},
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = PERIOD_NS / 2, .act_ns = PERIOD_NS / 2,
        .resumed_after_ns = SECOND_NS, .devices = 1, .sensors = 1, .frame_depth = DEPTH,
        .overrun_limit = 10, .virtual_time = 1, .sensor = &sensor,
    };
    struct described it;

    CHECK_EQUAL(inphase_segment_make(&robot->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&robot->core, &config, robot->segment), 0);
    CHECK_EQUAL(open_reader(&robot->reader, robot->segment, 0), 0);

    describe(&it)->input.shape[1] = 1;
    it.output.shape[0] = 1;
    it.input.parts = it.output.parts = 1;
    it.input.part = &from;
    it.output.part = &only;
    it.config.sensors = 1;
    it.config.values = 1;
    CHECK_EQUAL(open_model(&robot->model, &it), 0);
    CHECK_EQUAL(inphase_model_follow(robot->model, robot->reader), offset ? -EINVAL : 0);
}

static void tear_down(struct robot *robot)
{
    inphase_model_close(robot->model);
    inphase_reader_close(robot->reader);
    inphase_core_close(robot->core);
    inphase_segment_close(robot->segment);
}

static void a_sample_that_came_round_is_no_input(void)
{
    struct robot robot;
    double command[1];

    set_up(&robot, 0);
    CHECK_EQUAL(inphase_core_run(robot.core, 3), 3);
    CHECK(inphase_reader_next(robot.reader, 1, SECOND_NS) >= 0);
    CHECK_EQUAL(inphase_model_answer(robot.model, robot.reader,
                                     inphase_reader_record(robot.reader), command), 0);
    CHECK(command[0] == 1.5);

    CHECK_EQUAL(inphase_core_run(robot.core, DEPTH), DEPTH);
    CHECK_EQUAL(inphase_model_answer(robot.model, robot.reader,
                                     inphase_reader_record(robot.reader), command),
                INPHASE_REASON_INPUT);
    tear_down(&robot);
}

static void another_runtime_finds_the_numbers_and_leaves_its_own(void)
{
    static const struct inphase_model_part from = {.count = 1};
    struct robot robot;
    struct described it;
    inphase_model *numbers;
    double command[1];

    set_up(&robot, 0);
    describe(&it)->input.shape[1] = 1;
    it.output.shape[0] = 1;
    it.input.parts = it.output.parts = 1;
    it.input.part = it.output.part = &from;
    it.config.sensors = 1;
    it.config.values = 1;
    it.config.runtime = NULL;
    CHECK_EQUAL(open_model(&numbers, &it), 0);
    CHECK_EQUAL(inphase_model_follow(numbers, robot.reader), 0);
    CHECK_EQUAL(inphase_core_run(robot.core, 3), 3);
    CHECK(inphase_reader_next(robot.reader, 1, SECOND_NS) >= 0);
    CHECK_EQUAL(inphase_model_take(numbers, robot.reader, inphase_reader_record(robot.reader)), 0);
    CHECK(*(float *)inphase_model_numbers(numbers, 0, 0) == 1.5f);
    CHECK(!inphase_model_numbers(numbers, 0, 1) && !inphase_model_numbers(numbers, 1, 1));
    *(float *)inphase_model_numbers(numbers, 1, 0) = -2.5f;
    inphase_model_give(numbers, command);
    CHECK(command[0] == -2.5);

    /* there is no session that it could run by itself */
    CHECK_EQUAL(inphase_model_answer(numbers, robot.reader, inphase_reader_record(robot.reader),
                                     command), INPHASE_REASON_RAISED);
    inphase_model_close(numbers);
    tear_down(&robot);
}

static void a_policy_is_given_the_newest_frame_that_is_due(void)
{
    struct robot robot;
    const struct inphase_frame *frame;

    set_up(&robot, 0);
    frame = inphase_reader_record(robot.reader);
    CHECK_EQUAL(inphase_core_run(robot.core, 10), 10);
    CHECK_EQUAL(inphase_reader_due(robot.reader, 4, SECOND_NS), 8);
    CHECK_EQUAL(frame->cycle, 8);

    /* the two after it are none, and are not looked at again */
    CHECK_EQUAL(inphase_reader_due(robot.reader, 4, 0), -ETIMEDOUT);
    CHECK_EQUAL(inphase_core_run(robot.core, 3), 3);
    CHECK_EQUAL(inphase_reader_due(robot.reader, 4, SECOND_NS), 2);
    CHECK_EQUAL(frame->cycle, 12);

    /* what was written over is lost, and counted */
    CHECK_EQUAL(inphase_core_run(robot.core, 3 * DEPTH), 3 * DEPTH);
    CHECK_EQUAL(inphase_reader_due(robot.reader, 4, SECOND_NS), 47);
    CHECK_EQUAL(frame->cycle, 60);
    tear_down(&robot);
}

static void a_part_outside_of_the_sample_is_never_read(void)
{
    struct robot robot;
    double command[1];

    set_up(&robot, 8);
    CHECK_EQUAL(inphase_core_run(robot.core, 3), 3);
    CHECK(inphase_reader_next(robot.reader, 1, SECOND_NS) >= 0);
    CHECK_EQUAL(inphase_model_answer(robot.model, robot.reader,
                                     inphase_reader_record(robot.reader), command),
                INPHASE_REASON_SHAPE);
    tear_down(&robot);
}

struct served {
    struct robot robot;
    inphase_segment *mailbox;
    int rc;
};

static void *serve(void *user)
{
    struct served *served = user;

    served->rc = inphase_model_serve(served->robot.model, served->robot.reader, served->mailbox, 1,
                                     5 * PERIOD_NS);
    return NULL;
}

static void the_loop_answers_the_newest_frame_until_it_is_asked_to_end(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    struct served served;
    struct { struct mail mail; double value; } answer;
    pthread_t thread;
    const struct mailbox *mailbox;
    inphase_segment *made;
    int64_t cycle = -1;
    uint64_t seen = 0;

    set_up(&served.robot, 0);
    CHECK_EQUAL(inphase_mailbox_make(&made, 1, 1), 0);
    CHECK_EQUAL(inphase_segment_map(&served.mailbox, inphase_segment_fd(made), 1), 0);
    mailbox = inphase_segment_memory(made);
    CHECK_EQUAL(pthread_create(&thread, NULL, serve, &served), 0);

    for (int tries = 0; cycle < 20 && tries < 10000; tries++) {
        uint64_t head;

        CHECK_EQUAL(inphase_core_run(served.robot.core, 1), 1);
        nanosleep(&moment, NULL);
        head = mailbox_head(mailbox);

        if (head && mailbox_read(mailbox, 1, head - 1, &answer.mail)) {
            CHECK(answer.value == 1.5 && !answer.mail.reason);
            CHECK(answer.mail.cycle > cycle || head == seen);
            cycle = answer.mail.cycle;
            seen = head;
        }
    }
    CHECK(cycle >= 20);
    CHECK_EQUAL(pthread_kill(thread, SIGTERM), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(served.rc, 0);
    inphase_segment_close(served.mailbox);
    inphase_segment_close(made);
    tear_down(&served.robot);
}

int main(void)
{
    RUN(fields_go_in_and_commands_come_out_in_order);
    RUN(numbers_are_normalised_as_doubles);
    RUN(bytes_go_in_as_they_are);
    RUN(an_image_goes_in_channel_by_channel_as_a_table_says);
    RUN(a_state_is_what_the_run_before_gave_and_zeros_when_cycles_begin_anew);
    RUN(what_is_not_accepted_or_not_there_gives_no_command);
    RUN(a_run_that_fails_is_told_and_the_next_one_goes_on);
    RUN(what_cannot_be_opened_says_why);
    RUN(what_breaks_a_bound_is_refused);
    RUN(a_sample_that_came_round_is_no_input);
    RUN(another_runtime_finds_the_numbers_and_leaves_its_own);
    RUN(a_policy_is_given_the_newest_frame_that_is_due);
    RUN(a_part_outside_of_the_sample_is_never_read);
    RUN(the_loop_answers_the_newest_frame_until_it_is_asked_to_end);
    return 0;
}
