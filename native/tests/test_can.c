/* Exchanges in CAN frames. The bus is a thread at the other end of a socket pair that keeps message
   borders and speaks struct can_frame, error frames included: what a raw CAN socket gives. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/can.h>
#include <linux/can/error.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/actuator.h"
#include "../src/core.h"
#include "../src/descriptor.h"
#include "../src/device.h"
#include "../src/packet.h"
#include "check.h"
#include "segments.h"

#define MOTORS 3
#define PERIOD_NS 5000000LL
#define DEADLINE_NS 3000000LL
#define BOUND_NS 20000000000LL /* of any wait: only reached when something is wrong */
#define RECOVER 2
#define SYNC 0x80
#define STATE 0x181 /* of motor 0: what it sends on SYNC */
#define GOAL 0x201  /* of motor 0: its command */
#define DATA 8u     /* offset of a frame's data */

static struct can_frame frame_of(uint32_t id, uint32_t value, uint8_t size)
{
    struct can_frame frame = {.can_id = id, .len = size};

    for (int i = 0; i < 4; i++)
        frame.data[i] = (uint8_t)(value >> (8 * i));
    return frame;
}

/* one reply per motor: its id, and one value in its data */
struct motors {
    struct inphase_reply reply[2 * MOTORS]; /* and its answers to commands, which look the same */
    struct inphase_check check[MOTORS];
    struct inphase_field field[MOTORS];
    struct inphase_exchange exchange;
    struct can_frame sync;
};

static void make_motors(struct motors *motors)
{
    memset(motors, 0, sizeof *motors);
    motors->sync = frame_of(SYNC, 0, 0);
    for (uint32_t i = 0; i < MOTORS; i++) {
        motors->reply[i] = (struct inphase_reply){0, i, 1, i, 1};
        motors->reply[MOTORS + i] = (struct inphase_reply){0, i, 1, 0, 0};
        motors->check[i] = (struct inphase_check){INPHASE_CHECK_MATCH, INPHASE_U32, 0, 0,
                                                  0xffffffff, STATE + i, 0, 0, 0};
        motors->field[i] = (struct inphase_field){DATA, INPHASE_I32, 0, i, 1, 0};
    }
    motors->exchange = (struct inphase_exchange){
        .request = (const uint8_t *)&motors->sync, .request_size = sizeof motors->sync,
        .replies = MOTORS, .reply = motors->reply, .check = motors->check,
        .field = motors->field, .checks = MOTORS, .fields = MOTORS,
        .framing = {.datagram = 1, .can = 1, .min_size = CAN_MTU, .max_size = CAN_MTU},
        .acquire = INPHASE_ACQUIRE_TRIGGER, .reply_max_ns = DEADLINE_NS};
}

/* ---- the parser ------------------------------------------------------------------------- */

static struct inphase_parser *parser_for(const struct motors *motors)
{
    struct inphase_parser *parser = NULL;

    CHECK_EQUAL(inphase_parser_open(&parser, &motors->exchange), 0);
    return parser;
}

static int feed(struct inphase_parser *parser, struct can_frame frame)
{
    return parser_feed(parser, (const uint8_t *)&frame, sizeof frame);
}

static void a_set_is_complete_in_any_order(void)
{
    static const uint32_t order[6][MOTORS] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                              {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    parser = parser_for(&motors);
    for (int o = 0; o < 6; o++) {
        for (int i = 0; i < MOTORS; i++) {
            uint32_t motor = order[o][i];

            CHECK_EQUAL(feed(parser, frame_of(STATE + motor, 100 * motor + (uint32_t)o, 4)),
                        i == MOTORS - 1);
        }
        for (int i = 0; i < MOTORS; i++)
            CHECK_EQUAL(parser->value[i], 100 * i + o);
        parser_reset(parser);
    }
    CHECK_EQUAL(parser->foreign + parser->left_over, 0);
    inphase_parser_close(parser);
}

static void other_traffic_is_counted_and_left_alone(void)
{
    static const uint32_t other[] = {0x700, STATE + MOTORS, STATE | CAN_RTR_FLAG,
                                     STATE | CAN_EFF_FLAG, STATE | CAN_ERR_FLAG, 0};
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    motors.check[0].mask = 0x7ff; /* flags count all the same */
    parser = parser_for(&motors);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_EQUAL(feed(parser, frame_of(other[i], 7, 4)), 0);
    CHECK_EQUAL(parser->foreign, 6);
    CHECK_EQUAL(parser->replies, 0);
    inphase_parser_close(parser);
}

static void extended_and_remote_frames_are_known_by_their_flags(void)
{
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    motors.check[1].expect = 0x18ff0001 | CAN_EFF_FLAG;
    motors.check[2].expect = 0x300 | CAN_RTR_FLAG;
    motors.reply[2].fields = 0;
    parser = parser_for(&motors);
    CHECK_EQUAL(feed(parser, frame_of(STATE, 1, 4)), 0);
    CHECK_EQUAL(feed(parser, frame_of(0x18ff0001 | CAN_EFF_FLAG, 2, 4)), 0);
    CHECK_EQUAL(feed(parser, frame_of(0x300, 3, 4)), 0);
    CHECK_EQUAL(parser->foreign, 1);
    CHECK_EQUAL(feed(parser, frame_of(0x300 | CAN_RTR_FLAG, 0, 0)), 1);
    inphase_parser_close(parser);
}

static void a_second_frame_of_a_reply_is_left_over_and_changes_nothing(void)
{
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    parser = parser_for(&motors);
    CHECK_EQUAL(feed(parser, frame_of(STATE, 1, 4)), 0);
    CHECK_EQUAL(feed(parser, frame_of(STATE, 2, 4)), 0);
    CHECK_EQUAL(parser->left_over, 1);
    CHECK_EQUAL(parser->value[0], 1);
    CHECK_EQUAL(feed(parser, frame_of(STATE + 1, 3, 4)), 0);
    CHECK_EQUAL(feed(parser, frame_of(STATE + 2, 4, 4)), 1);
    CHECK_EQUAL(feed(parser, frame_of(STATE + 2, 4, 4)), 0);
    CHECK_EQUAL(parser->left_over, 2);
    inphase_parser_close(parser);
}

static void replies_of_one_id_are_taken_in_turn(void)
{
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    motors.check[1].expect = STATE;
    parser = parser_for(&motors);
    CHECK_EQUAL(feed(parser, frame_of(STATE, 1, 4)), 0);
    CHECK_EQUAL(feed(parser, frame_of(STATE + 2, 3, 4)), 0);
    CHECK_EQUAL(feed(parser, frame_of(STATE, 2, 4)), 1);
    CHECK(parser->value[0] == 1 && parser->value[1] == 2 && parser->value[2] == 3);
    inphase_parser_close(parser);
}

static void data_too_short_is_refused_by_size(void)
{
    struct can_frame long_frame = frame_of(STATE, 1, 9);
    struct motors motors;
    struct inphase_parser *parser;
    uint8_t bytes[INPHASE_MAX_PACKET] = {0};

    make_motors(&motors);
    parser = parser_for(&motors);
    for (uint8_t size = 0; size < 4; size++) {
        CHECK_EQUAL(feed(parser, frame_of(STATE, 1, size)), -EBADMSG);
        CHECK(parser->reason == INPHASE_REASON_SIZE && parser->detail == DATA + size);
    }
    CHECK_EQUAL(feed(parser, long_frame), -EBADMSG);
    CHECK_EQUAL(parser->reason, INPHASE_REASON_SIZE);
    CHECK_EQUAL(feed(parser, frame_of(STATE, 1, 4)), 0);
    for (uint32_t size = 0; size <= CANFD_MTU + 1; size++)
        if (size != CAN_MTU && size != CANFD_MTU)
            CHECK_EQUAL(parser_feed(parser, bytes, size), -EBADMSG);
    inphase_parser_close(parser);
}

static void long_data_of_can_fd_are_values_too(void)
{
    struct canfd_frame frame = {.can_id = STATE, .len = 64, .data = {[60] = 0x39, [61] = 0x30}};
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    motors.field[0].offset = DATA + 60;
    parser = parser_for(&motors);
    CHECK_EQUAL(parser_feed(parser, (const uint8_t *)&frame, sizeof frame), -EBADMSG);
    inphase_parser_close(parser);
    motors.exchange.framing.max_size = CANFD_MTU;
    parser = parser_for(&motors);
    CHECK_EQUAL(parser_feed(parser, (const uint8_t *)&frame, sizeof frame), 0);
    CHECK_EQUAL(parser->value[0], 12345);
    inphase_parser_close(parser);
}

static void answers_to_commands_are_in_no_set(void)
{
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    motors.exchange.answers = MOTORS;
    parser = parser_for(&motors);
    inphase_parser_owe(parser);
    for (uint32_t i = 0; i < MOTORS; i++)
        CHECK_EQUAL(feed(parser, frame_of(STATE + i, 7, 4)), 0);
    CHECK_EQUAL(inphase_parser_answered(parser), MOTORS);
    for (uint32_t i = 0; i < MOTORS; i++)
        CHECK_EQUAL(feed(parser, frame_of(STATE + i, 8, 4)), i == MOTORS - 1);
    for (int i = 0; i < MOTORS; i++)
        CHECK(parser->value[i] == 8);
    CHECK_EQUAL(parser->left_over, 0);

    /* of many commands whose answers never came, one is left */
    for (int i = 0; i < 5; i++)
        inphase_parser_owe(parser);
    inphase_parser_forgive(parser, 1);
    parser_reset(parser);
    CHECK_EQUAL(feed(parser, frame_of(STATE, 9, 4)), 0);
    CHECK_EQUAL(inphase_parser_answered(parser), MOTORS + 1);
    for (uint32_t i = 0; i < 2; i++)
        CHECK_EQUAL(feed(parser, frame_of(STATE + i, 10, 4)), 0);
    CHECK_EQUAL(parser->replies, 1);
    inphase_parser_close(parser);

    /* as many as there is room for */
    motors.exchange.answers = UINT32_MAX;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
}

static void a_request_of_several_frames_has_whole_ones(void)
{
    static const struct can_frame asks[MOTORS];
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    motors.exchange.request = (const uint8_t *)asks;
    motors.exchange.request_size = sizeof asks;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
    motors.exchange.request_chunk = CAN_MTU + 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
    motors.exchange.request_chunk = CAN_MTU;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), 0);
    inphase_parser_close(parser);
    motors.exchange.request_size = sizeof asks - 1;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
}

static void an_exchange_without_ids_is_refused(void)
{
    struct inphase_parser *parser = NULL;
    struct motors motors;

    make_motors(&motors);
    motors.reply[1].checks = 0;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
    make_motors(&motors);
    motors.check[1].offset = DATA;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
    make_motors(&motors);
    motors.exchange.request_size = 8;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
    make_motors(&motors);
    motors.exchange.framing.max_size = 20;
    CHECK_EQUAL(inphase_parser_open(&parser, &motors.exchange), -EINVAL);
}

/* any frames in any order: a set is complete exactly when each motor has had a good one, and its
   value is that of the first good one */
static void random_traffic_gives_the_first_good_frame_of_each(void)
{
    struct motors motors;
    struct inphase_parser *parser;

    make_motors(&motors);
    parser = parser_for(&motors);
    for (int round = 0; round < 2000; round++) {
        double expected[MOTORS] = {0};
        bool have[MOTORS] = {false};
        int missing = MOTORS, rc = 0;

        while (missing) {
            uint64_t draw = check_random();
            uint32_t id = STATE + draw % 5;
            struct can_frame frame = frame_of(id, (uint32_t)(draw >> 32) >> 1,
                                              (uint8_t)((draw >> 8) % 12));
            uint32_t motor = id - STATE;
            bool fits = frame.len >= 4 && frame.len <= 8;

            if ((draw >> 20) % 7 == 0)
                frame.can_id |= CAN_RTR_FLAG;
            rc = feed(parser, frame);
            if (motor >= MOTORS || frame.can_id != id || have[motor]) {
                CHECK_EQUAL(rc, 0);
                continue;
            }
            CHECK_EQUAL(rc, fits ? missing == 1 : -EBADMSG);
            if (!fits)
                continue;
            have[motor] = true;
            expected[motor] = (double)((uint32_t)(draw >> 32) >> 1);
            missing--;
        }
        for (int i = 0; i < MOTORS; i++)
            CHECK(parser->value[i] == expected[i]);
        parser_reset(parser);
    }
    inphase_parser_close(parser);
}

/* ---- the core on a bus ------------------------------------------------------------------- */

/* how the bus behaves on SYNC: written by the test, read by the bus's thread */
enum manner {
    ANSWER, SHUFFLE, CHATTER, TWICE, AFTERWARDS, HALF, SHORT, PASSIVE, BUS_OFF, TX_TIMEOUT,
    CONFIRM /* answer each command, too, with the number before; and each motor on its own SYNC */,
    FORGET /* the same, but motor 0 confirms every tenth command not */
};

struct bus {
    pthread_t thread;
    int fd;
    _Atomic int manner;
    _Atomic int syncs, goals[MOTORS];
    _Atomic uint32_t goal[MOTORS];
};

struct rig {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
    struct bus bus;
    int ours;
};

static void put(struct bus *bus, uint32_t id, uint32_t value, uint8_t size)
{
    struct can_frame frame = frame_of(id, value, size);
    ssize_t sent = send(bus->fd, &frame, sizeof frame, MSG_NOSIGNAL);

    (void)sent; /* the other side may be closed by now: the next read says so */
}

static void put_error(struct bus *bus, uint32_t kind, uint8_t control, uint8_t transmit_errors)
{
    struct can_frame frame = {.can_id = CAN_ERR_FLAG | kind, .len = CAN_ERR_DLC,
                              .data = {[1] = control, [6] = transmit_errors}};

    CHECK_EQUAL(send(bus->fd, &frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
}

/* every motor sends the number of the SYNC that it heard */
static void behave(struct bus *bus, uint32_t number, int manner)
{
    uint32_t first = manner == SHUFFLE ? (uint32_t)(number % MOTORS) : 0;
    struct timespec pause = {.tv_nsec = 1000000};

    if (manner == BUS_OFF)
        put_error(bus, CAN_ERR_BUSOFF | CAN_ERR_CNT, 0, 248);
    if (manner == TX_TIMEOUT)
        put_error(bus, CAN_ERR_TX_TIMEOUT, 0, 0);
    if (manner == PASSIVE)
        put_error(bus, CAN_ERR_CRTL | CAN_ERR_CNT, CAN_ERR_CRTL_TX_PASSIVE, 128);
    for (uint32_t i = 0; i < MOTORS && manner != BUS_OFF && manner != TX_TIMEOUT; i++) {
        uint32_t motor = (first + i) % MOTORS;

        for (int j = 0; manner == CHATTER && j < 20; j++)
            put(bus, 0x700 + (uint32_t)j, number, 8);
        if (manner == HALF && i == 1)
            return;
        put(bus, STATE + motor, number, manner == SHORT && i == 1 ? 2 : 4);
        if (manner == TWICE && i == 0)
            put(bus, STATE + motor, number - 1, 4);
    }
    if (manner == AFTERWARDS) {
        nanosleep(&pause, NULL);
        put(bus, STATE, number, 4);
    }
}

static void *bus_main(void *argument)
{
    struct bus *bus = argument;
    struct can_frame frame;
    uint32_t number = 0;

    /* until the test shuts the socket down */
    while (read(bus->fd, &frame, sizeof frame) == sizeof frame) {
        uint32_t motor = frame.can_id - GOAL, goal;

        if (frame.can_id == SYNC && frame.len == 0) {
            atomic_fetch_add(&bus->syncs, 1);
            behave(bus, ++number, atomic_load(&bus->manner));
        } else if (frame.can_id == SYNC) {
            number += frame.data[0] == 0;
            put(bus, STATE + frame.data[0], number, 4);
        } else if (motor < MOTORS) {
            memcpy(&goal, frame.data, sizeof goal);
            atomic_store(&bus->goal[motor], goal);
            int goals = atomic_fetch_add(&bus->goals[motor], 1);
            bool forgets = atomic_load(&bus->manner) == FORGET && motor == 0 && goals % 10 == 0;

            if (atomic_load(&bus->manner) >= CONFIRM && !forgets)
                put(bus, STATE + motor, number - 1, 4);
        } else {
            CHECK(false);
        }
    }
    close(bus->fd);
    return NULL;
}

static void start_bus(struct rig *rig, enum manner manner)
{
    int fd[2];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
    CHECK_EQUAL(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
    rig->ours = fd[0];
    memset(&rig->bus, 0, sizeof rig->bus);
    rig->bus.fd = fd[1];
    rig->bus.manner = manner;
    CHECK_EQUAL(pthread_create(&rig->bus.thread, NULL, bus_main, &rig->bus), 0);
    CHECK_EQUAL(inphase_core_attach(rig->core, 0, rig->ours), 0);
}

static void stop_bus(struct rig *rig)
{
    CHECK_EQUAL(shutdown(rig->bus.fd, SHUT_RDWR), 0);
    CHECK_EQUAL(pthread_join(rig->bus.thread, NULL), 0);
    close(rig->ours);
}

static void open_rig_of(struct rig *rig, enum manner manner)
{
    static struct can_frame asks[MOTORS];
    static struct inphase_limits limits[MOTORS];
    static struct can_frame goal[MOTORS];
    static struct inphase_field value[MOTORS];
    static const double start[MOTORS] = {5, 6, 7};
    struct motors motors;
    struct inphase_sensor_config sensor = {
        .channels = MOTORS, .payload = MOTORS * sizeof(double), .every = 1,
        .max_age_ns = 100 * PERIOD_NS, .recover = RECOVER, .depth = 64};
    struct inphase_actuator_config actuator = {
        .channels = MOTORS, .feedback_sensor = -1, .max_hold_ns = BOUND_NS, .limits = limits,
        .start = start, .guarded = 1,
        .encoding = {.packet = (const uint8_t *)goal, .packet_size = sizeof goal,
                     .fields = MOTORS, .field = value, .chunk = CAN_MTU}};
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = DEADLINE_NS, .act_ns = DEADLINE_NS,
        .resumed_after_ns = BOUND_NS, .devices = 1, .sensors = 1, .actuators = 1,
        .frame_depth = 1024, .overrun_limit = 1000000, .cpu = -1, .sensor = &sensor,
        .actuator = &actuator,
    };

    make_motors(&motors);
    sensor.exchange = motors.exchange;
    if (manner >= CONFIRM) {
        sensor.exchange.answers = MOTORS;
        sensor.exchange.request = (const uint8_t *)asks;
        sensor.exchange.request_size = sizeof asks;
        sensor.exchange.request_chunk = CAN_MTU;
    }
    for (uint32_t i = 0; i < MOTORS; i++) {
        asks[i] = frame_of(SYNC, i, 8);
        limits[i] = (struct inphase_limits){.low = -100, .high = 100, .velocity = 1,
                                            .acceleration = 1,
                                            .step = 1};
        goal[i] = frame_of(GOAL + i, 0, 4);
        value[i] = (struct inphase_field){i * CAN_MTU + DATA, INPHASE_I32, 0, i, 1, 0};
    }
    memset(rig, 0, sizeof *rig);
    CHECK_EQUAL(inphase_segment_make(&rig->segment, inphase_core_size(&config), 0), 0);
    actuator.encoding.chunk = CAN_MTU + 1;
    CHECK_EQUAL(inphase_core_open(&rig->core, &config, rig->segment), -EINVAL);
    actuator.encoding.chunk = CAN_MTU;
    CHECK_EQUAL(inphase_core_open(&rig->core, &config, rig->segment), 0);
    CHECK_EQUAL(open_reader(&rig->reader, rig->segment, 0), 0);
    start_bus(rig, manner);
    CHECK_EQUAL(inphase_core_enable(rig->core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_arm(rig->core), 0);
    CHECK_EQUAL(inphase_core_start(rig->core), 0);
}

static void open_rig(struct rig *rig)
{
    open_rig_of(rig, ANSWER);
}

static void close_rig(struct rig *rig)
{
    inphase_core_stop(rig->core, INPHASE_REASON_REQUEST, 0);
    CHECK_EQUAL(inphase_core_join(rig->core, BOUND_NS), 0);
    stop_bus(rig);
    inphase_reader_close(rig->reader);
    inphase_core_close(rig->core);
    inphase_segment_close(rig->segment);
}

static const struct inphase_row *row_of(struct rig *rig)
{
    return (const void *)((const struct inphase_frame *)inphase_reader_record(rig->reader) + 1);
}

/* the next frame; a sample that is trusted has all its values from one SYNC */
static const struct inphase_row *next(struct rig *rig)
{
    const struct inphase_row *row = row_of(rig);
    double value[MOTORS];

    CHECK(inphase_reader_next(rig->reader, 0, BOUND_NS) >= 0);
    if (row->status == INPHASE_FRESH &&
        inphase_reader_copy(rig->reader, 0, row->sequence, value) == 0)
        CHECK(value[0] == value[1] && value[1] == value[2]);
    return row;
}

/* frames until this many in all had the status; any number of others on a busy machine */
static void wait_for(struct rig *rig, uint16_t status, int count)
{
    int64_t until = inphase_now() + BOUND_NS;

    while (count > 0) {
        CHECK(inphase_now() < until);
        count -= next(rig)->status == status;
    }
}

static struct inphase_counts counts_of(struct rig *rig)
{
    struct inphase_counts counts;

    CHECK_EQUAL(inphase_reader_counts(rig->reader, &counts), 0);
    return counts;
}

static void sets_are_fresh_in_any_order(void)
{
    struct rig rig;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 20);
    atomic_store(&rig.bus.manner, SHUFFLE);
    wait_for(&rig, INPHASE_FRESH, 20);
    CHECK_EQUAL(counts_of(&rig).foreign_frames, 0);
    CHECK(atomic_load(&rig.bus.syncs) >= 40);
    close_rig(&rig);
}

/* each command brings a frame like a reply, of an older number: it is in no set, and no slip */
static void confirmed_commands_leave_sets_fresh(void)
{
    struct rig rig;
    int64_t slips;

    open_rig_of(&rig, CONFIRM);
    wait_for(&rig, INPHASE_FRESH, 20);
    slips = counts_of(&rig).slips;
    wait_for(&rig, INPHASE_FRESH, 40);
    CHECK_EQUAL(counts_of(&rig).slips, slips);
    CHECK(atomic_load(&rig.bus.goals[0]) >= 40);
    close_rig(&rig);
}

/* a confirmation that never comes costs a set, and no set has frames of two triggers: see next */
static void a_command_that_is_not_confirmed_costs_a_set(void)
{
    struct rig rig;

    open_rig_of(&rig, FORGET);
    wait_for(&rig, INPHASE_LATE, 3);
    wait_for(&rig, INPHASE_FRESH, 20);
    wait_for(&rig, INPHASE_LATE, 3);
    CHECK(atomic_load(&rig.bus.goals[0]) >= 40);
    close_rig(&rig);
}

static void a_busy_bus_is_read_past(void)
{
    struct rig rig;
    int64_t before;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.bus.manner, CHATTER);
    wait_for(&rig, INPHASE_FRESH, 5);
    before = counts_of(&rig).foreign_frames;
    wait_for(&rig, INPHASE_FRESH, 10);

    /* who reads the frames may be behind the core, which had counted more by then */
    while (counts_of(&rig).foreign_frames - before < 10 * 3 * 20)
        wait_for(&rig, INPHASE_FRESH, 1);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 1);
    close_rig(&rig);
}

static void a_second_frame_in_a_set_is_a_slip_and_the_set_not_fresh(void)
{
    struct rig rig;
    int64_t slips;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 3);
    slips = counts_of(&rig).slips;
    atomic_store(&rig.bus.manner, TWICE);
    wait_for(&rig, INPHASE_RECOVERING, 10);
    CHECK(counts_of(&rig).slips - slips >= 10);
    atomic_store(&rig.bus.manner, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 5);
    close_rig(&rig);
}

/* a frame that comes when the set is complete waits for the next trigger, and is older than that */
static void a_frame_between_two_triggers_is_in_no_set(void)
{
    struct rig rig;
    int64_t slips;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 3);
    slips = counts_of(&rig).slips;
    atomic_store(&rig.bus.manner, AFTERWARDS);
    wait_for(&rig, INPHASE_RECOVERING, 10);
    CHECK(counts_of(&rig).slips - slips >= 10);
    atomic_store(&rig.bus.manner, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 5);
    close_rig(&rig);
}

/* the rest of a set that came in part never completes a later one */
static void half_a_set_is_late_and_not_mixed_with_the_next(void)
{
    struct rig rig;

    open_rig(&rig);
    for (int round = 0; round < 5; round++) {
        atomic_store(&rig.bus.manner, ANSWER);
        wait_for(&rig, INPHASE_FRESH, 2);
        atomic_store(&rig.bus.manner, HALF);
        wait_for(&rig, INPHASE_LATE, 2);
    }
    close_rig(&rig);
}

static void short_data_are_invalid(void)
{
    struct rig rig;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.bus.manner, SHORT);
    wait_for(&rig, INPHASE_INVALID, 3);
    CHECK(row_of(&rig)->reason == INPHASE_REASON_SIZE && row_of(&rig)->detail == DATA + 2);
    atomic_store(&rig.bus.manner, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 3);
    close_rig(&rig);
}

static void an_error_passive_controller_is_counted_and_goes_on(void)
{
    struct rig rig;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 3);
    CHECK_EQUAL(counts_of(&rig).error_passive, 0);
    atomic_store(&rig.bus.manner, PASSIVE);
    wait_for(&rig, INPHASE_FRESH, 5);
    atomic_store(&rig.bus.manner, ANSWER);
    wait_for(&rig, INPHASE_FRESH, 3);
    CHECK(counts_of(&rig).error_passive >= 4);
    CHECK_EQUAL(counts_of(&rig).foreign_frames, 0);
    close_rig(&rig);
}

/* OFFLINE at once, for as long as it takes somebody to open the bus again */
static void lost(int manner, uint32_t reason, uint32_t detail, int error)
{
    struct rig rig;
    int syncs;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 3);
    atomic_store(&rig.bus.manner, manner);
    wait_for(&rig, INPHASE_OFFLINE, 1);
    syncs = atomic_load(&rig.bus.syncs);
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(next(&rig)->status, INPHASE_OFFLINE);
        CHECK(row_of(&rig)->reason == reason && row_of(&rig)->detail == detail);
    }
    CHECK_EQUAL(atomic_load(&rig.bus.syncs), syncs);
    CHECK_EQUAL(inphase_core_attached(rig.core, 0), 0);
    CHECK_EQUAL(inphase_core_lost(rig.core, 0), error);
    stop_bus(&rig);
    start_bus(&rig, ANSWER);
    wait_for(&rig, INPHASE_RECOVERING, RECOVER);
    wait_for(&rig, INPHASE_FRESH, 3);
    CHECK_EQUAL(row_of(&rig)->reason, INPHASE_REASON_NONE);
    close_rig(&rig);
}

static void a_bus_that_is_off_is_offline_until_it_is_opened_again(void)
{
    lost(BUS_OFF, INPHASE_REASON_BUS_OFF, 248, ECOMM);
}

static void a_transmit_timeout_is_offline_too(void)
{
    lost(TX_TIMEOUT, INPHASE_REASON_DEVICE, CAN_ERR_TX_TIMEOUT, ETIMEDOUT);
}

static void a_command_is_one_frame_per_motor(void)
{
    struct rig rig;

    open_rig(&rig);
    wait_for(&rig, INPHASE_FRESH, 10);
    close_rig(&rig);
    for (int i = 0; i < MOTORS; i++) {
        CHECK_EQUAL(atomic_load(&rig.bus.goal[i]), 5 + i);
        CHECK(atomic_load(&rig.bus.goals[i]) > 5);
        CHECK_EQUAL(atomic_load(&rig.bus.goals[i]), atomic_load(&rig.bus.goals[0]));
    }
}

/* what the queue takes is taken, and how much that was is reported */
static void a_command_that_is_taken_in_part_says_so(void)
{
    static struct inphase_core core; /* without a guard */
    struct can_frame goal[MOTORS] = {frame_of(GOAL, 0, 4), frame_of(GOAL + 1, 0, 4),
                                     frame_of(GOAL + 2, 0, 4)};
    struct device device = {0};
    struct actuator actuator = {
        .device = &device,
        .encoding = {.packet = (const uint8_t *)goal, .packet_size = sizeof goal,
                     .chunk = CAN_MTU}};
    struct can_frame got;
    int fd[2], written = 0, size = 1;

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
    CHECK_EQUAL(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    device.fd = fd[0];
    while (fd_ops.write(&core, &actuator) == 0)
        written += MOTORS;
    written += (int)actuator.detail;
    CHECK(actuator.detail < MOTORS);
    CHECK_EQUAL(fd_ops.write(&core, &actuator), -EAGAIN);
    CHECK_EQUAL(actuator.detail, 0);
    for (int i = 0; i < written; i++) {
        CHECK_EQUAL(read(fd[1], &got, sizeof got), sizeof got);
        CHECK_EQUAL(got.can_id, GOAL + (uint32_t)i % MOTORS);
    }
    CHECK(read(fd[1], &got, sizeof got) < 0 && errno == EAGAIN);

    /* nobody at the other end: lost, not busy */
    close(fd[1]);
    CHECK_EQUAL(fd_ops.write(&core, &actuator), -EPIPE);
    close(fd[0]);
}

int main(void)
{
    check_seed();
    signal(SIGPIPE, SIG_IGN);
    RUN(a_set_is_complete_in_any_order);
    RUN(other_traffic_is_counted_and_left_alone);
    RUN(extended_and_remote_frames_are_known_by_their_flags);
    RUN(a_second_frame_of_a_reply_is_left_over_and_changes_nothing);
    RUN(replies_of_one_id_are_taken_in_turn);
    RUN(data_too_short_is_refused_by_size);
    RUN(long_data_of_can_fd_are_values_too);
    RUN(answers_to_commands_are_in_no_set);
    RUN(a_request_of_several_frames_has_whole_ones);
    RUN(an_exchange_without_ids_is_refused);
    RUN(random_traffic_gives_the_first_good_frame_of_each);
    RUN(sets_are_fresh_in_any_order);
    RUN(confirmed_commands_leave_sets_fresh);
    RUN(a_command_that_is_not_confirmed_costs_a_set);
    RUN(a_busy_bus_is_read_past);
    RUN(a_second_frame_in_a_set_is_a_slip_and_the_set_not_fresh);
    RUN(a_frame_between_two_triggers_is_in_no_set);
    RUN(half_a_set_is_late_and_not_mixed_with_the_next);
    RUN(short_data_are_invalid);
    RUN(an_error_passive_controller_is_counted_and_goes_on);
    RUN(a_bus_that_is_off_is_offline_until_it_is_opened_again);
    RUN(a_transmit_timeout_is_offline_too);
    RUN(a_command_is_one_frame_per_motor);
    RUN(a_command_that_is_taken_in_part_says_so);
    return 0;
}
