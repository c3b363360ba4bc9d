/* Which samples may be FRESH: those of this frame's trigger, whose stamps the core's own clock does
   not speak against, and that are no older than max_age. Virtual time; the devices are the
   test's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../src/core.h"
#include "../src/cycle.h"
#include "../src/descriptor.h"
#include "../src/device.h"
#include "../src/packet.h"
#include "../src/sensor.h"
#include "../src/twin.h"
#include "check.h"
#include "segments.h"

#define PERIOD_NS 1000000LL
#define DEADLINE_NS 500000LL
#define MAX_AGE_NS 3500000LL
#define SENSORS 5
#define TRIGGERED 0
#define SLOW 1                  /* every third cycle, due one later */
#define FREE 2                  /* runs by itself */
#define LINE 3                  /* request and reply, one after the other */
#define PIPE 4                  /* triggered, and answers in bytes */
#define LEAST_NS 100000LL       /* of a reply on the line */
#define MOST_NS 200000LL
#define REFUSED -7              /* in place of the cycle: the parser refuses it */

/* samples that the devices will give, each as its worker would post it */
struct given {
    struct inphase_posted stamps[8];
    uint32_t count;
};
static struct given given[SENSORS];

struct robot {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
};

static int no_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    (void)core;
    (void)sensor;
    (void)now_ns;
    return 0;
}

static int give(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    struct given *from = &given[sensor->index];

    (void)core;
    *got = RECEIVED_EMPTY;
    if (from->count == 0)
        return 0;
    sensor->stamps = from->stamps[0];
    memmove(from->stamps, from->stamps + 1, --from->count * sizeof *from->stamps);
    sensor->parser.sequence = (uint64_t)sensor->stamps.device_sequence;
    sensor->parser.value[0] += 1;
    *got = RECEIVED_SAMPLE;
    return 0;
}

/* as a worker: it fires by itself, and its samples name their trigger */
static const struct device_ops ours = {.pairs = true, .trigger = no_trigger, .receive = give};

/* A device on a line: it answers what it was asked in order, each within MOST_NS of the one before.
   It stands still now and then, and a request or a reply gets lost; its replies say which cycle
   asked */
static struct {
    struct { int64_t at_ns, cycle; } reply[64];
    uint32_t count;
    int64_t free_ns, fault_cycle;
    int64_t worst_ns;               /* behind a standstill it is as slow as its driver states */
    uint32_t slow;                  /* replies that will be */
} line;

static bool is_hit(int64_t cycle)
{
    if (cycle - line.fault_cycle < 80 || check_random() % 10)
        return false;
    line.fault_cycle = cycle;
    return true;
}

/* the virtual clock goes from reply to reply */
static void show_next(struct sensor *sensor)
{
    sensor->twin->count = line.count > 0;
    sensor->twin->coming->taken = true;
    sensor->twin->coming->ready_ns = line.count ? line.reply[0].at_ns : INPHASE_ABSENT;
}

static int line_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    int64_t start_ns = now_ns > line.free_ns ? now_ns : line.free_ns;

    if (is_hit(core->cycle))
        return 0;
    if (is_hit(core->cycle)) {
        start_ns += (int64_t)(check_random() % 20) * PERIOD_NS +
                    (int64_t)(check_random() % PERIOD_NS);
        line.slow = line.worst_ns ? 1 + (uint32_t)(check_random() % 20) : 0;
    }
    line.free_ns = start_ns + LEAST_NS + (int64_t)(check_random() % (MOST_NS - LEAST_NS));
    if (line.slow) {
        line.slow--;
        line.free_ns = start_ns + LEAST_NS +
                       (int64_t)(check_random() % (uint64_t)(line.worst_ns - LEAST_NS));
    }
    if (is_hit(core->cycle))
        return 0;
    CHECK(line.count < 64);
    line.reply[line.count].at_ns = line.free_ns;
    line.reply[line.count++].cycle = core->cycle;
    show_next(sensor);
    return 0;
}

static int line_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    *got = RECEIVED_EMPTY;
    if (line.count == 0 || line.reply[0].at_ns > core->virtual_ns)
        return 0;
    sensor->parser.value[0] = (double)line.reply[0].cycle;
    sensor->parser.sequence = (uint64_t)line.reply[0].cycle;
    memmove(line.reply, line.reply + 1, --line.count * sizeof *line.reply);
    show_next(sensor);
    *got = sensor->parser.value[0] == REFUSED ? RECEIVED_REFUSED : RECEIVED_SAMPLE;
    return 0;
}

static const struct device_ops line_ops = {.trigger = line_trigger, .receive = line_receive};

static void open_robot(struct robot *robot)
{
    static const struct inphase_reply reply = {4, 0, 0, 0, 1};
    static const struct inphase_field field = {1, INPHASE_U16, 0, 0, 1, 0};
    static const struct inphase_framing stream = {.start_size = 1, .start = {0xaa}, .min_size = 4,
                                                  .max_size = 4};
    static const struct inphase_framing datagram = {.datagram = 1, .min_size = 4, .max_size = 4};
    struct inphase_twin_channel channel = {.base = 1};
    struct inphase_sensor_config sensor[SENSORS];
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = DEADLINE_NS, .act_ns = DEADLINE_NS,
        .resumed_after_ns = 20 * PERIOD_NS, .devices = SENSORS, .sensors = SENSORS,
        .frame_depth = 64, .overrun_limit = 5, .virtual_time = 1, .sensor = sensor};

    for (uint32_t i = 0; i < SENSORS; i++)
        sensor[i] = (struct inphase_sensor_config){
            .device = i, .channels = 1, .max_age_ns = MAX_AGE_NS, .depth = 64, .payload = 8,
            .every = i == SLOW ? 3 : 1, .latency_cycles = i == SLOW, .free_running = i == FREE,
            .exchange = {.replies = 1, .reply = &reply, .reply_max_ns = 400000,
                         .reply_ns = i == LINE ? MOST_NS : 0,
                         .reply_min_ns = i == LINE ? LEAST_NS : 0,
                         .framing = i == FREE || i == PIPE ? stream : datagram, .field = &field,
                         .fields = 1},
            .twin = {.channel = &channel, .latency_ns = 1, .period_ns = PERIOD_NS}};
    memset(robot, 0, sizeof *robot);
    memset(given, 0, sizeof given);
    CHECK_EQUAL(inphase_segment_make(&robot->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&robot->core, &config, robot->segment), 0);
    CHECK_EQUAL(open_reader(&robot->reader, robot->segment, 0), 0);

    /* one cycle in which the devices are attached, then ours answer */
    CHECK(cycle_run(robot->core, CYCLE_READ));
    cycle_run(robot->core, CYCLE_ACT);
    CHECK_EQUAL(inphase_reader_next(robot->reader, 0, 0), 0);
    for (uint32_t i = 0; i < SENSORS; i++)
        robot->core->device[i].ops = i == LINE ? &line_ops : &ours;
    robot->core->posting = SENSORS - 1;
    memset(&line, 0, sizeof line);
}

static void close_robot(struct robot *robot)
{
    inphase_reader_close(robot->reader);
    inphase_core_close(robot->core);
    inphase_segment_close(robot->segment);
}

static const struct inphase_frame *run(struct robot *robot)
{
    CHECK(cycle_run(robot->core, CYCLE_READ));
    cycle_run(robot->core, CYCLE_ACT);
    CHECK_EQUAL(inphase_reader_next(robot->reader, 0, 0), 0);
    return inphase_reader_record(robot->reader);
}

static const struct inphase_row *row_of(const struct inphase_frame *frame, uint32_t sensor)
{
    return (const struct inphase_row *)(frame + 1) + sensor;
}

/* the sample that a sensor's worker would post when all is well, of the coming cycle */
static struct inphase_posted honest(const struct robot *robot, uint32_t sensor)
{
    int64_t cycle = robot->core->cycle, due_ns = cycle * PERIOD_NS;
    struct inphase_posted posted = {
        .cycle = cycle, .triggered_ns = due_ns, .acquired_ns = due_ns, .received_ns = due_ns,
        .device_sequence = 100 + cycle};

    if (sensor == FREE) {
        posted.cycle = -1;
        posted.triggered_ns = INPHASE_ABSENT;
    }
    return posted;
}

static void give_one(uint32_t sensor, struct inphase_posted posted)
{
    given[sensor].stamps[given[sensor].count++] = posted;
}

static const struct inphase_row *run_with(struct robot *robot, uint32_t sensor,
                                          struct inphase_posted posted)
{
    give_one(sensor, posted);
    return row_of(run(robot), sensor);
}

static void check_refused(const struct inphase_row *row, uint32_t stamp)
{
    CHECK_EQUAL(row->status, INPHASE_INVALID);
    CHECK_EQUAL(row->reason, INPHASE_REASON_STAMP);
    CHECK_EQUAL(row->detail, stamp);
}

static void a_stamp_that_cannot_be_is_said_and_the_next_sample_is_fresh(void)
{
    struct inphase_posted posted;
    struct robot robot;

    open_robot(&robot);
    for (uint32_t sensor = TRIGGERED; sensor <= FREE; sensor += FREE) {
        CHECK_EQUAL(run_with(&robot, sensor, honest(&robot, sensor))->status, INPHASE_FRESH);

        /* by another clock; the wall clock is years ahead */
        posted = honest(&robot, sensor);
        posted.acquired_ns += 1000000000000000000LL;
        check_refused(run_with(&robot, sensor, posted), INPHASE_STAMP_ACQUIRED);

        /* after it came, even by the uncertainty; and by one nanosecond more than that */
        posted = honest(&robot, sensor);
        posted.received_ns -= 1000;
        posted.triggered_ns -= sensor == FREE ? 0 : 1000;
        posted.uncertainty_ns = 999;
        if (sensor == FREE)
            check_refused(run_with(&robot, sensor, posted), INPHASE_STAMP_ACQUIRED);
        posted = honest(&robot, sensor);
        posted.uncertainty_ns = -1;
        check_refused(run_with(&robot, sensor, posted), INPHASE_STAMP_UNCERTAINTY);
        posted = honest(&robot, sensor);
        posted.received_ns = posted.received_ns + 10 * PERIOD_NS;
        check_refused(run_with(&robot, sensor, posted), INPHASE_STAMP_RECEIVED);
        CHECK_EQUAL(run_with(&robot, sensor, honest(&robot, sensor))->status, INPHASE_FRESH);
    }
    close_robot(&robot);
}

static void a_trigger_lies_in_its_cycle_and_before_what_it_gave(void)
{
    struct inphase_posted posted;
    struct robot robot;

    open_robot(&robot);
    posted = honest(&robot, TRIGGERED);
    posted.triggered_ns -= 1;
    check_refused(run_with(&robot, TRIGGERED, posted), INPHASE_STAMP_TRIGGERED);
    posted = honest(&robot, TRIGGERED);
    posted.received_ns -= 1;
    check_refused(run_with(&robot, TRIGGERED, posted), INPHASE_STAMP_TRIGGERED);
    posted = honest(&robot, TRIGGERED);
    posted.acquired_ns -= 1;
    check_refused(run_with(&robot, TRIGGERED, posted), INPHASE_STAMP_ACQUIRED);
    posted = honest(&robot, TRIGGERED);
    posted.acquired_ns -= 1;
    posted.uncertainty_ns = 1;
    CHECK_EQUAL(run_with(&robot, TRIGGERED, posted)->status, INPHASE_FRESH);
    close_robot(&robot);
}

static void a_sample_that_is_too_old_is_not_fresh(void)
{
    struct inphase_posted posted;
    struct robot robot;

    open_robot(&robot);
    for (int i = 0; i < 6; i++)
        run(&robot);

    /* the latch is at the deadline, since the others are silent */
    posted = honest(&robot, FREE);
    posted.acquired_ns += DEADLINE_NS - MAX_AGE_NS;
    CHECK_EQUAL(run_with(&robot, FREE, posted)->status, INPHASE_FRESH);
    posted = honest(&robot, FREE);
    posted.acquired_ns += DEADLINE_NS - MAX_AGE_NS - 1;
    CHECK_EQUAL(run_with(&robot, FREE, posted)->status, INPHASE_MISSING);

    /* an acquisition that is not known is no better than its arrival */
    posted = honest(&robot, FREE);
    posted.acquired_ns = INPHASE_ABSENT;
    posted.received_ns += DEADLINE_NS - MAX_AGE_NS - 1;
    CHECK_EQUAL(run_with(&robot, FREE, posted)->status, INPHASE_MISSING);
    close_robot(&robot);
}

static void a_sample_of_no_known_trigger_is_not_fresh_whatever_comes_behind_it(void)
{
    struct inphase_posted doubtful, wrong;
    struct robot robot;

    open_robot(&robot);
    for (int refused = 0; refused < 2; refused++) {
        doubtful = wrong = honest(&robot, TRIGGERED);
        doubtful.cycle = -1;
        doubtful.triggered_ns = INPHASE_ABSENT;
        wrong.device_sequence++;
        wrong.uncertainty_ns = -1;
        give_one(TRIGGERED, doubtful);
        if (refused)
            give_one(TRIGGERED, wrong);
        CHECK_EQUAL(row_of(run(&robot), TRIGGERED)->status, INPHASE_RECOVERING);
    }
    close_robot(&robot);
}

/* any 64 bits, often near what is right */
static int64_t strange(int64_t right)
{
    switch (check_random() % 8) {
    case 0:
        return (int64_t)check_random();
    case 1:
        return (int64_t)(check_random() >> check_random() % 64);
    case 2:
        return check_random() % 2 ? INT64_MAX - (int64_t)(check_random() % 3)
                                  : INT64_MIN + (int64_t)(check_random() % 3);
    case 3:
        return (int64_t)((uint64_t)right + (check_random() % 7) * (uint64_t)PERIOD_NS -
                         3 * (uint64_t)PERIOD_NS);
    case 4:
        return (int64_t)((uint64_t)right + check_random() % 5 - 2);
    default:
        return right;
    }
}

static struct inphase_posted any_sample(const struct robot *robot, uint32_t sensor)
{
    struct inphase_posted posted = honest(robot, sensor);

    posted.cycle = strange(posted.cycle);
    posted.triggered_ns = strange(posted.triggered_ns);
    posted.acquired_ns = strange(posted.acquired_ns);
    posted.received_ns = strange(posted.received_ns);
    posted.uncertainty_ns = strange(posted.uncertainty_ns);
    return posted;
}

/* what holds of every row, judged by the frame's own times in wider arithmetic */
static void check_row(const struct inphase_frame *frame, const struct inphase_row *row,
                      uint32_t sensor)
{
    __int128 acquired = row->acquired_ns, received = row->received_ns;
    __int128 triggered = row->triggered_ns, uncertainty = row->uncertainty_ns;

    CHECK(row->age_ns >= 0 || row->age_ns == INPHASE_ABSENT);
    CHECK_EQUAL(row->age_ns == INPHASE_ABSENT, row->acquired_ns == INPHASE_ABSENT);
    if (row->sequence < 0)
        return;
    CHECK(received <= frame->latched_ns);
    if (row->acquired_ns != INPHASE_ABSENT) {
        CHECK(acquired <= frame->latched_ns && acquired <= received + uncertainty);
        CHECK(row->triggered_ns == INPHASE_ABSENT || acquired >= triggered - uncertainty);
        CHECK_EQUAL(row->age_ns, frame->latched_ns - row->acquired_ns);
    }
    if (row->status != INPHASE_FRESH)
        return;
    CHECK(row->age_ns <= MAX_AGE_NS && frame->latched_ns - received <= MAX_AGE_NS);
    if (sensor == FREE) {
        CHECK(row->cycle == -1 && row->triggered_ns == INPHASE_ABSENT);
    } else {
        CHECK_EQUAL(row->cycle, frame->cycle - (sensor == SLOW));
        CHECK(triggered >= row->cycle * PERIOD_NS && triggered <= received);
    }
}

static void no_stamps_of_any_64_bits_make_a_sample_fresh_that_is_not(void)
{
    int64_t fresh = 0, refused = 0;

    for (int round = 0; round < 100; round++) {
        struct robot robot;

        open_robot(&robot);
        for (int i = 0; i < 300; i++) {
            const struct inphase_frame *frame;

            for (uint32_t sensor = 0; sensor < LINE; sensor++)
                for (uint64_t count = check_random() % 3; count > 0; count--)
                    give_one(sensor, any_sample(&robot, sensor));
            frame = run(&robot);
            for (uint32_t sensor = 0; sensor < LINE; sensor++) {
                const struct inphase_row *row = row_of(frame, sensor);

                check_row(frame, row, sensor);
                fresh += row->status == INPHASE_FRESH;
                refused += row->reason == INPHASE_REASON_STAMP;
            }
        }
        close_robot(&robot);
    }
    CHECK(fresh > 1000 && refused > 1000);
}

/* ---- a device that streams ----------------------------------------------------------------- */

static struct inphase_counts counts_of(struct robot *robot)
{
    struct inphase_counts counts;

    CHECK_EQUAL(inphase_reader_counts(robot->reader, &counts), 0);
    return counts;
}

/* AA, number, 0 */
static void stream(int fd, uint16_t first, uint16_t last)
{
    for (uint16_t number = first; number <= last; number++) {
        uint8_t packet[4] = {0xaa, (uint8_t)number, (uint8_t)(number >> 8), 0};

        CHECK_EQUAL(write(fd, packet, sizeof packet), sizeof packet);
    }
}

static void check_newest(struct robot *robot, double number)
{
    const struct inphase_row *row = row_of(run(robot), FREE);
    double value;

    CHECK_EQUAL(row->status, INPHASE_FRESH);
    CHECK_EQUAL(inphase_reader_copy(robot->reader, FREE, row->sequence, &value), 0);
    CHECK_EQUAL(value, number);
}

static void a_frame_has_the_newest_of_a_stream_and_a_backlog_is_no_lag(void)
{
    struct robot robot;
    int fd[2];

    open_robot(&robot);
    CHECK_EQUAL(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
    robot.core->device[FREE].ops = &fd_ops;
    robot.core->device[FREE].fd = fd[0];
    parser_reset(&robot.core->sensor[FREE].parser);

    /* a burst, and the first half of a packet that goes on in the next cycle */
    stream(fd[1], 1, 20);
    CHECK_EQUAL(write(fd[1], (const uint8_t[]){0xaa, 21}, 2), 2);
    check_newest(&robot, 20);
    CHECK_EQUAL(counts_of(&robot).passed, 19);
    CHECK_EQUAL(write(fd[1], (const uint8_t[]){0, 0}, 2), 2);
    check_newest(&robot, 21);

    /* far more than one read, then one at a time again */
    stream(fd[1], 22, 3000);
    check_newest(&robot, 3000);
    for (uint16_t number = 3001; number < 3010; number++) {
        stream(fd[1], number, number);
        check_newest(&robot, number);
    }
    CHECK_EQUAL(counts_of(&robot).passed, 19 + 2978);
    CHECK_EQUAL(counts_of(&robot).dropped_bytes, 0);
    CHECK_EQUAL(row_of(run(&robot), FREE)->status, INPHASE_HELD);
    close(fd[0]);
    close(fd[1]);
    close_robot(&robot);
}

/* ---- which trigger a reply answers ------------------------------------------------------ */

/* every reply says which cycle asked for it; sequences count when they are declared */
static void fresh_is_of_this_trigger_whatever_stands_still_or_gets_lost(uint32_t sequence_type,
                                                                        int64_t worst_ns)
{
    int64_t fresh = 0;

    for (int round = 0; round < 60; round++) {
        struct robot robot;

        open_robot(&robot);
        robot.core->sensor[LINE].parser.exchange.spec.sequence_type = (uint16_t)sequence_type;
        if (worst_ns)
            robot.core->sensor[LINE].parser.exchange.spec.reply_max_ns = line.worst_ns = worst_ns;
        for (int i = 0; i < 500; i++) {
            const struct inphase_frame *frame = run(&robot);
            const struct inphase_row *row = row_of(frame, LINE);
            double cycle;

            if (row->status != INPHASE_FRESH)
                continue;
            CHECK_EQUAL(inphase_reader_copy(robot.reader, LINE, row->sequence, &cycle), 0);
            CHECK_EQUAL(cycle, frame->cycle);
            CHECK(row->received_ns - row->triggered_ns >= LEAST_NS);
            fresh++;
        }
        close_robot(&robot);
    }
    CHECK(fresh > 60 * (worst_ns ? 100 : 250));
}

/* what the device on the pipe gives when it is asked: so many replies at once, of which the first
   has the number of the one before, and bytes of the next one */
static struct {
    int fd[2];
    uint16_t number, replies, repeats, more;
} pipe_end;

static int pipe_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    static const uint8_t next[4] = {0xaa, 0, 0, 0};

    (void)core;
    sensor->twin->count = 1;
    sensor->twin->coming->taken = true;
    sensor->twin->coming->ready_ns = now_ns + LEAST_NS;
    pipe_end.number -= pipe_end.repeats;
    stream(pipe_end.fd[1], pipe_end.number, pipe_end.number + pipe_end.replies - 1);
    pipe_end.number += pipe_end.replies;
    CHECK_EQUAL(write(pipe_end.fd[1], next, pipe_end.more), pipe_end.more);
    return 0;
}

static int pipe_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    if (core->virtual_ns >= sensor->twin->coming->ready_ns)
        sensor->twin->count = 0;
    return fd_ops.receive(core, sensor, got);
}

static const struct device_ops pipe_ops = {.trigger = pipe_trigger, .receive = pipe_receive};

/* its device answers each trigger with one reply; five cycles that go well */
static void open_pipe(struct robot *robot, uint32_t latency, uint16_t sequence_type)
{
    const struct inphase_row *row;
    struct sensor *sensor;

    open_robot(robot);
    memset(&pipe_end, 0, sizeof pipe_end);
    CHECK_EQUAL(pipe2(pipe_end.fd, O_NONBLOCK | O_CLOEXEC), 0);
    pipe_end.number = pipe_end.replies = 1;
    robot->core->device[PIPE].ops = &pipe_ops;
    robot->core->device[PIPE].fd = pipe_end.fd[0];
    sensor = &robot->core->sensor[PIPE];
    sensor->latency_cycles = latency;
    sensor->parser.exchange.spec.sequence_type = sequence_type;
    sensor->parser.exchange.spec.sequence_offset = 1;
    for (int n = 0; n < 5; n++)
        row = row_of(run(robot), PIPE);
    CHECK_EQUAL(row->status, INPHASE_FRESH);
    CHECK_EQUAL(row->cycle, robot->core->cycle - 1 - latency);
}

static void close_pipe(struct robot *robot)
{
    close(pipe_end.fd[0]);
    close(pipe_end.fd[1]);
    close_robot(robot);
}

/* One read brings two replies to one trigger: either may be the one that was asked for, so the
   first, which was taken already, is doubted before any frame has it. In a frame of its own cycle
   and in a later one */
static void a_reply_with_another_behind_it_is_not_fresh(void)
{
    for (uint32_t latency = 0; latency < 2; latency++) {
        const struct inphase_row *row;
        struct robot robot;

        open_pipe(&robot, latency, 0);
        pipe_end.replies = 2;
        row = row_of(run(&robot), PIPE);
        pipe_end.replies = 1;
        if (latency)
            row = row_of(run(&robot), PIPE);
        CHECK_EQUAL(row->status, INPHASE_RECOVERING);
        CHECK_EQUAL(row->cycle, -1);
        CHECK_EQUAL(row->triggered_ns, INPHASE_ABSENT);
        CHECK_EQUAL(row->acquired_ns, INPHASE_ABSENT);
        CHECK_EQUAL(counts_of(&robot).slips, 1);
        close_pipe(&robot);
    }
}

/* bytes behind a reply are no reply */
static void a_reply_with_a_part_of_another_behind_it_is_fresh(void)
{
    for (uint16_t more = 1; more < 4; more++) {
        struct robot robot;

        open_pipe(&robot, 0, 0);
        pipe_end.more = more;
        CHECK_EQUAL(row_of(run(&robot), PIPE)->status, INPHASE_FRESH);
        pipe_end.more = 0;
        CHECK_EQUAL(row_of(run(&robot), PIPE)->status, INPHASE_FRESH);
        CHECK_EQUAL(counts_of(&robot).slips, 0);
        close_pipe(&robot);
    }
}

/* a reply that was sent twice is dropped, and the one behind it is this trigger's */
static void a_reply_behind_one_that_came_twice_is_fresh(void)
{
    struct robot robot;
    double value;
    const struct inphase_row *row;
    int64_t duplicates;

    open_pipe(&robot, 0, INPHASE_U16);
    duplicates = counts_of(&robot).duplicates;
    pipe_end.repeats = 1;
    pipe_end.replies = 2;
    row = row_of(run(&robot), PIPE);
    CHECK_EQUAL(row->status, INPHASE_FRESH);
    CHECK_EQUAL(inphase_reader_copy(robot.reader, PIPE, row->sequence, &value), 0);
    CHECK_EQUAL(value, 6);
    CHECK_EQUAL(counts_of(&robot).duplicates, duplicates + 1);
    CHECK_EQUAL(counts_of(&robot).slips, 0);
    close_pipe(&robot);
}

/* how late a worker fired is counted from where its trigger was planned */
static void a_workers_trigger_is_as_late_as_it_says(void)
{
    struct inphase_fault fault = {.kind = INPHASE_FAULT_WAKE, .count = 20, .argument = 5000};
    struct inphase_quantiles quantiles;
    struct robot robot;

    open_robot(&robot);
    fault.from_cycle = robot.core->cycle;
    CHECK_EQUAL(inphase_core_fault(robot.core, &fault), 0);
    for (int n = 0; n < 20; n++) {
        struct inphase_posted posted = honest(&robot, TRIGGERED);

        posted.triggered_ns = posted.acquired_ns = posted.received_ns += 1000 + n;
        CHECK_EQUAL(run_with(&robot, TRIGGERED, posted)->status, INPHASE_FRESH);
    }
    CHECK_EQUAL(inphase_reader_quantiles(robot.reader, INPHASE_HIST_TRIGGER, &quantiles), 0);
    CHECK(quantiles.count >= 20);
    CHECK_EQUAL(quantiles.max, 5000); /* the other sensors', who fire when the core wakes */
    close_robot(&robot);
}

static void fresh_is_of_this_trigger_by_silence(void)
{
    fresh_is_of_this_trigger_whatever_stands_still_or_gets_lost(0, 0);
}

static void fresh_is_of_this_trigger_by_count(void)
{
    fresh_is_of_this_trigger_whatever_stands_still_or_gets_lost(INPHASE_U32, 0);
}

/* each reply takes as long as its driver states at most, which may be longer than a period */
static void fresh_is_of_this_trigger_of_a_device_that_is_as_slow_as_stated(void)
{
    for (int64_t worst_ns = PERIOD_NS / 2; worst_ns < 6 * PERIOD_NS; worst_ns += PERIOD_NS / 2) {
        fresh_is_of_this_trigger_whatever_stands_still_or_gets_lost(0, worst_ns);
        fresh_is_of_this_trigger_whatever_stands_still_or_gets_lost(INPHASE_U32, worst_ns);
    }
}

/* one that was lost costs two samples */
static void a_lost_reply_is_late_then_recovering_then_fresh(void)
{
    struct robot robot;

    open_robot(&robot);
    for (int i = 0; i < 20; i++) {
        line.fault_cycle = INT64_MAX / 2;
        CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_FRESH);
    }
    line.free_ns = INT64_MAX / 2; /* never */
    CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_LATE);
    line.free_ns = 0;
    line.count = 0;
    CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_RECOVERING);
    CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_FRESH);
    close_robot(&robot);
}

/* what comes sooner after a trigger than any reply can is an earlier one's, and no sample at all */
static void a_reply_that_comes_too_soon_is_dropped_and_the_next_is_taken(void)
{
    const struct inphase_row *row;
    struct inphase_counts counts;
    struct robot robot;

    open_robot(&robot);
    line.fault_cycle = INT64_MAX / 2;
    for (int n = 0; n < 3; n++)
        CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_FRESH);
    line.reply[0].at_ns = robot.core->cycle * PERIOD_NS + LEAST_NS / 2;
    line.reply[0].cycle = -5;
    line.count = 1;
    row = row_of(run(&robot), LINE);
    CHECK_EQUAL(row->status, INPHASE_RECOVERING);
    CHECK(robot.core->sensor[LINE].newest.value[0] == (double)(robot.core->cycle - 1));
    CHECK_EQUAL(robot.core->sensor[LINE].newest.sequence, 4);
    CHECK_EQUAL(inphase_reader_counts(robot.reader, &counts), 0);
    CHECK_EQUAL(counts.slips, 1);
    close_robot(&robot);
}

/* a worker's likewise, whose stamps say how soon it was */
static void a_workers_reply_that_comes_too_soon_is_refused_as_a_slip(void)
{
    for (int64_t early_ns = 0; early_ns < 2; early_ns++) {
        const struct inphase_row *row;
        struct inphase_counts counts;
        struct robot robot;
        struct inphase_fault fault = {.kind = INPHASE_FAULT_WAKE, .count = 1,
                                      .argument = 2 * LEAST_NS};
        struct inphase_posted posted;

        open_robot(&robot);
        robot.core->sensor[TRIGGERED].earliest_ns = LEAST_NS;
        fault.from_cycle = robot.core->cycle;
        CHECK_EQUAL(inphase_core_fault(robot.core, &fault), 0);
        posted = honest(&robot, TRIGGERED);
        posted.received_ns += LEAST_NS - early_ns;
        row = run_with(&robot, TRIGGERED, posted);
        CHECK_EQUAL(row->status, early_ns ? INPHASE_INVALID : INPHASE_FRESH);
        CHECK_EQUAL(row->reason, early_ns ? INPHASE_REASON_SLIP : INPHASE_REASON_NONE);
        CHECK_EQUAL(inphase_reader_counts(robot.reader, &counts), 0);
        CHECK_EQUAL(counts.slips, early_ns);
        close_robot(&robot);
    }
}

/* a core that was held up finds it behind the deadline: what counts is when it came */
static void a_sample_that_came_before_the_deadline_is_in_time_however_late_it_is_read(void)
{
    for (int64_t late_ns = 0; late_ns < 2; late_ns++) {
        struct robot robot;
        struct inphase_posted posted;
        struct inphase_fault fault = {.kind = INPHASE_FAULT_WAKE, .count = 1,
                                      .argument = DEADLINE_NS + 200000};

        open_robot(&robot);
        fault.from_cycle = robot.core->cycle;
        CHECK_EQUAL(inphase_core_fault(robot.core, &fault), 0);
        posted = honest(&robot, TRIGGERED);
        posted.received_ns += DEADLINE_NS + late_ns;
        CHECK_EQUAL(run_with(&robot, TRIGGERED, posted)->status,
                    late_ns ? INPHASE_LATE : INPHASE_FRESH);
        close_robot(&robot);
    }
}

/* what was refused was not the answer, and the one that comes behind it is no answer too many */
static void a_reply_behind_one_that_was_refused_is_no_slip(void)
{
    struct inphase_counts counts;
    struct robot robot;

    open_robot(&robot);
    line.fault_cycle = INT64_MAX / 2;
    CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_FRESH);
    line.free_ns = robot.core->cycle * PERIOD_NS + LEAST_NS;
    line.reply[0].at_ns = line.free_ns;
    line.reply[0].cycle = REFUSED;
    line.count = 1;
    CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_INVALID);
    CHECK_EQUAL(row_of(run(&robot), LINE)->status, INPHASE_FRESH);
    CHECK_EQUAL(inphase_reader_counts(robot.reader, &counts), 0);
    CHECK_EQUAL(counts.slips, 0);
    close_robot(&robot);
}

int main(void)
{
    check_seed();
    RUN(a_stamp_that_cannot_be_is_said_and_the_next_sample_is_fresh);
    RUN(a_trigger_lies_in_its_cycle_and_before_what_it_gave);
    RUN(a_sample_that_is_too_old_is_not_fresh);
    RUN(a_sample_of_no_known_trigger_is_not_fresh_whatever_comes_behind_it);
    RUN(no_stamps_of_any_64_bits_make_a_sample_fresh_that_is_not);
    RUN(a_frame_has_the_newest_of_a_stream_and_a_backlog_is_no_lag);
    RUN(a_lost_reply_is_late_then_recovering_then_fresh);
    RUN(a_reply_that_comes_too_soon_is_dropped_and_the_next_is_taken);
    RUN(a_workers_reply_that_comes_too_soon_is_refused_as_a_slip);
    RUN(a_reply_behind_one_that_was_refused_is_no_slip);
    RUN(a_reply_with_another_behind_it_is_not_fresh);
    RUN(a_reply_with_a_part_of_another_behind_it_is_fresh);
    RUN(a_reply_behind_one_that_came_twice_is_fresh);
    RUN(a_workers_trigger_is_as_late_as_it_says);
    RUN(a_sample_that_came_before_the_deadline_is_in_time_however_late_it_is_read);
    RUN(fresh_is_of_this_trigger_by_silence);
    RUN(fresh_is_of_this_trigger_by_count);
    RUN(fresh_is_of_this_trigger_of_a_device_that_is_as_slow_as_stated);
    return 0;
}
