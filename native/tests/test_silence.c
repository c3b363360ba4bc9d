/* Packets that silence ends, on the cycle thread: when a packet is whole, when it was received, and
   what becomes of one that a pause cuts. Virtual time; the bytes go through a pipe. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../src/descriptor.h"
#include "../src/device.h"
#include "../src/sensor.h"
#include "../src/twin.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define DEADLINE_NS 500000LL
#define IDLE_NS 100000LL
#define LEAST_NS 50000LL        /* from the trigger to the first part of a reply */
#define SIZE 4
#define NEVER INT64_MAX

/* The device: it answers a trigger with a part of its packet, and with the rest after a pause */
static struct {
    int fd[2];
    uint8_t number;
    uint32_t first;             /* bytes of the first part */
    int64_t pause_ns;           /* from it to the rest; NEVER: the rest gets lost */
    uint32_t triggers;
    bool is_owed;               /* the rest */
    bool babbles;               /* a byte at every look */
} device;

static void show(struct sensor *sensor, int64_t ready_ns)
{
    sensor->twin->count = 1;
    sensor->twin->coming->taken = true;
    sensor->twin->coming->ready_ns = ready_ns;
}

static void say(uint32_t from, uint32_t to)
{
    uint8_t packet[SIZE] = {0xaa, device.number, 0, 0x55};

    CHECK_EQUAL(write(device.fd[1], packet + from, to - from), to - from);
}

static int ask_device(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    (void)core;
    device.triggers++;
    device.number++;
    device.is_owed = device.first < SIZE && device.pause_ns != NEVER;
    say(0, device.first);
    show(sensor, now_ns + LEAST_NS);
    return 0;
}

static int hear_device(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    bool is_due = sensor->twin->count && core->virtual_ns >= sensor->twin->coming->ready_ns;

    if (device.babbles) {
        say(0, 1);
        show(sensor, core->virtual_ns + 1000);
        return fd_ops.receive(core, sensor, got);
    }

    /* the pipe has the first part; then the rest comes, in its time */
    if (is_due && device.is_owed && sensor->parser.size) {
        say(device.first, SIZE);
        device.is_owed = false;
    }
    if (is_due)
        sensor->twin->count = 0;
    if (is_due && device.is_owed)
        show(sensor, core->virtual_ns + device.pause_ns);
    return fd_ops.receive(core, sensor, got);
}

static const struct device_ops ops = {.trigger = ask_device, .receive = hear_device};

static const struct inphase_reply reply = {SIZE, 0, 0, 0, 1};
static const struct inphase_field field = {1, INPHASE_U8, 0, 0, 1, 0};
static const struct inphase_twin_channel channel = {.base = 1};

static struct inphase_sensor_config sensor_config(void)
{
    return (struct inphase_sensor_config){
        .channels = 1, .max_age_ns = 10 * PERIOD_NS, .depth = 64, .payload = 8, .every = 1,
        .exchange = {.replies = 1, .reply = &reply, .reply_max_ns = 400000,
                     .framing = {.min_size = 2, .max_size = 6, .idle_ns = IDLE_NS},
                     .field = &field, .fields = 1},
        .twin = {.channel = &channel, .latency_ns = 1, .period_ns = PERIOD_NS}};
}

static struct inphase_config robot_config(const struct inphase_sensor_config *sensor)
{
    return (struct inphase_config){
        .period_ns = PERIOD_NS, .read_deadline_ns = DEADLINE_NS, .act_ns = DEADLINE_NS,
        .resumed_after_ns = 20 * PERIOD_NS, .devices = 1, .sensors = 1, .frame_depth = 64,
        .overrun_limit = 5, .virtual_time = 1, .sensor = sensor};
}

static void open_device(struct robot *robot)
{
    struct inphase_sensor_config sensor = sensor_config();
    struct inphase_config config = robot_config(&sensor);

    CHECK_EQUAL(make_robot(robot, &config), 0);
    CHECK_EQUAL(open_reader(&robot->reader, robot->segment, 0), 0);
    memset(&device, 0, sizeof device);
    device.first = SIZE;
    CHECK_EQUAL(pipe2(device.fd, O_NONBLOCK | O_CLOEXEC), 0);

    /* one cycle in which the twin is attached, then the device answers */
    idle(robot);
    robot->core->sensor[0].outstanding = false;
    robot->core->sensor[0].twin->count = 0;
    robot->core->device[0].ops = &ops;
    robot->core->device[0].fd = device.fd[0];
}

static void close_device(struct robot *robot)
{
    close(device.fd[0]);
    close(device.fd[1]);
    close_robot(robot);
}

static double value_of(struct robot *robot, const struct inphase_row *row)
{
    double value;

    CHECK_EQUAL(inphase_reader_copy(robot->reader, 0, row->sequence, &value), 0);
    return value;
}

/* the packet is whole idle_ns after its last byte, and was received with that byte */
static void a_packet_is_received_with_its_last_byte_and_taken_after_the_silence(void)
{
    static const int64_t pauses_ns[] = {0, 1, IDLE_NS / 2, IDLE_NS - 1};

    for (size_t i = 0; i < sizeof pauses_ns / sizeof *pauses_ns; i++) {
        struct robot robot;

        open_device(&robot);
        device.pause_ns = pauses_ns[i];
        for (uint32_t first = 1; first <= SIZE; first++) {
            const struct inphase_frame *frame;
            const struct inphase_row *row;
            int64_t last_ns = LEAST_NS + (first < SIZE ? pauses_ns[i] : 0);

            device.first = first;
            frame = idle(&robot);
            row = row_of(frame, 0);
            CHECK_EQUAL(row->status, INPHASE_FRESH);
            CHECK_EQUAL(row->received_ns - row->triggered_ns, last_ns);
            CHECK_EQUAL(frame->latched_ns - row->triggered_ns, last_ns + IDLE_NS);
            CHECK_EQUAL(value_of(&robot, row), device.number);
        }
        CHECK_EQUAL(counts(&robot).dropped_bytes, 0);
        close_device(&robot);
    }
}

/* a pause of idle_ns cuts a packet: both parts are refused, and no value is made of either */
static void a_pause_in_a_packet_is_a_refusal_and_never_a_value(void)
{
    for (uint32_t first = 1; first < SIZE; first++) {
        const struct inphase_row *row;
        struct robot robot;
        int64_t sequence;
        int good = 0;

        open_device(&robot);
        sequence = row_of(idle(&robot), 0)->sequence;
        device.first = first;
        device.pause_ns = IDLE_NS + 100;
        row = row_of(idle(&robot), 0);
        CHECK_EQUAL(row->status, INPHASE_INVALID);
        CHECK_EQUAL(row->reason, INPHASE_REASON_SIZE);
        CHECK_EQUAL(row->detail, first);
        CHECK_EQUAL(row->sequence, sequence);

        /* the rest comes behind it, before the line is used again */
        if (device.is_owed)
            say(first, SIZE);
        device.is_owed = false;
        robot.core->sensor[0].twin->count = 0;
        device.first = SIZE;
        for (int n = 0; n < 6; n++) {
            row = row_of(idle(&robot), 0);
            if (row->sequence == sequence)
                continue;
            CHECK_EQUAL(value_of(&robot, row), device.number);
            CHECK_EQUAL(row->cycle, robot.core->cycle - 1);
            good++;
        }
        CHECK(good >= 3);
        CHECK_EQUAL(row->status, INPHASE_FRESH);
        CHECK_EQUAL(counts(&robot).dropped_bytes, SIZE);
        close_device(&robot);
    }
}

/* the line is not used while a packet on it has not ended */
static void no_trigger_goes_out_before_the_packet_has_ended(void)
{
    const struct inphase_row *row;
    struct robot robot;
    uint32_t triggers;

    open_device(&robot);
    idle(&robot);
    robot.core->sensor[0].parser.exchange.spec.framing.idle_ns = 3 * PERIOD_NS;
    triggers = device.triggers;
    row = row_of(idle(&robot), 0);
    CHECK_EQUAL(row->status, INPHASE_LATE);
    CHECK_EQUAL(device.triggers, triggers + 1);
    for (int n = 0; n < 3; n++) {
        row = row_of(idle(&robot), 0);
        CHECK_EQUAL(device.triggers, triggers + 1);
        CHECK_EQUAL(row->status, INPHASE_LATE);
    }

    /* then it is a late sample, of the cycle that asked for it, and the next trigger goes out */
    row = row_of(idle(&robot), 0);
    CHECK_EQUAL(device.triggers, triggers + 2);
    CHECK_EQUAL(row->cycle, robot.core->cycle - 5);
    CHECK_EQUAL(row->received_ns - row->triggered_ns, LEAST_NS);
    CHECK_EQUAL(counts(&robot).late_samples, 1);
    close_device(&robot);
}

/* a byte at every look: the reads of a cycle are bounded, and so is its wait */
static void a_line_that_babbles_ends_no_packet_and_holds_nothing_up(void)
{
    struct robot robot;
    uint32_t triggers;

    open_device(&robot);
    idle(&robot);
    triggers = device.triggers;
    device.babbles = true;
    for (int n = 0; n < 20; n++) {
        const struct inphase_frame *frame = idle(&robot);
        const struct inphase_row *row = row_of(frame, 0);

        CHECK(frame->latched_ns - frame->due_ns <= DEADLINE_NS);
        CHECK_EQUAL(row->status, n ? INPHASE_INVALID : INPHASE_LATE);
        CHECK_EQUAL(row->reason, n ? INPHASE_REASON_SIZE : INPHASE_REASON_SILENT);
        CHECK_EQUAL(device.triggers, triggers + 1);
        CHECK(robot.core->sensor[0].receives <= RECEIVES_PER_CYCLE);
    }

    /* and it is used again once it has been silent */
    device.babbles = false;
    robot.core->sensor[0].twin->count = 0;
    for (int n = 0; n < 5; n++)
        idle(&robot);
    CHECK_EQUAL(row_of(idle(&robot), 0)->status, INPHASE_FRESH);
    close_device(&robot);
}

/* between two packets of a stream the silence is over when the cycle looks */
static void a_free_running_sensor_has_no_such_packets_unless_a_worker_reads_it(void)
{
    struct inphase_sensor_config sensor = sensor_config();
    struct inphase_config config = robot_config(&sensor);
    struct robot robot;

    sensor.free_running = 1;
    CHECK_EQUAL(make_robot(&robot, &config), -EINVAL);
    inphase_segment_close(robot.segment);
    sensor.worker = 1;
    CHECK_EQUAL(make_robot(&robot, &config), 0);
    inphase_core_close(robot.core);
    inphase_segment_close(robot.segment);
}

int main(void)
{
    RUN(a_packet_is_received_with_its_last_byte_and_taken_after_the_silence);
    RUN(a_pause_in_a_packet_is_a_refusal_and_never_a_value);
    RUN(no_trigger_goes_out_before_the_packet_has_ended);
    RUN(a_line_that_babbles_ends_no_packet_and_holds_nothing_up);
    RUN(a_free_running_sensor_has_no_such_packets_unless_a_worker_reads_it);
    return 0;
}
