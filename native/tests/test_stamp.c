/* When a datagram arrived, by the kernel's receive stamp: on sockets that have one, on a wall clock
   that is set while the core runs, and on what is no socket. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/can.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/clock.h"
#include "../src/core.h"
#include "../src/descriptor.h"
#include "../src/device.h"
#include "../src/packet.h"
#include "../src/relaxed.h"
#include "../src/sensor.h"
#include "../src/statistics.h"
#include "check.h"

#define REPLY 4
#define HOUR_NS 3600000000000LL
#define BOUND_NS 20000000000LL /* of any wait: only reached when something is wrong */

/* the machine's clock with a wall clock that tests set */
static int64_t wall_extra_ns;
static struct clock_ops settable;

static int64_t settable_wall(struct inphase_core *core)
{
    return monotonic_clock.wall(core) + wall_extra_ns;
}

/* one sensor on a descriptor; `theirs` is the device's end */
struct rig {
    struct inphase_core *core;
    struct device device;
    struct sensor *sensor;
    int theirs;
};

static void begin_cycle(struct rig *rig)
{
    rig->core->flags = 0;
    rig->core->woke_ns = inphase_now();
    note_wall_clock(rig->core);
}

static void open_rig(struct rig *rig, int ours, int theirs, bool can)
{
    static const struct inphase_reply reply = {0, 0, 1, 0, 1};
    struct inphase_check check = {.kind = INPHASE_CHECK_MATCH, .type = INPHASE_U32,
                                  .mask = 0xffffffff, .expect = 0x181};
    struct inphase_field field = {can ? 8 : 0, INPHASE_U32, 0, 0, 1, 0};
    struct inphase_exchange exchange = {
        .replies = 1, .reply = &reply, .check = &check, .field = &field, .checks = 1, .fields = 1,
        .framing = {.datagram = 1, .can = can, .min_size = can ? CAN_MTU : REPLY,
                    .max_size = can ? CAN_MTU : REPLY}};

    if (!can)
        check = (struct inphase_check){INPHASE_CHECK_ZERO, INPHASE_U8, 0, 3, 0xff, 0, 0, 0, 0};
    wall_extra_ns = 0;
    settable = monotonic_clock;
    settable.wall = settable_wall;
    memset(rig, 0, sizeof *rig);
    rig->core = calloc(1, sizeof *rig->core);
    CHECK(rig->core);
    rig->core->statistics = calloc(1, sizeof *rig->core->statistics);
    CHECK(rig->core->statistics);
    rig->core->clock = &settable;
    rig->core->period_ns = 1000000;
    rig->theirs = theirs;
    rig->device = (struct device){.fd = ours};
    rig->sensor = &rig->core->sensor[0];
    rig->sensor->device = &rig->device;
    rig->sensor->outstanding = true;
    CHECK_EQUAL(exchange_copy(&rig->sensor->parser.exchange, &exchange), 0);
    CHECK_EQUAL(fcntl(ours, F_SETFL, O_NONBLOCK), 0);
    fd_prepare(ours, can);
    begin_cycle(rig);
}

static void close_rig(struct rig *rig)
{
    close(rig->device.fd);
    close(rig->theirs);
    free(rig->core->statistics);
    free(rig->core);
}

static int bound_socket(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(fd >= 0);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)address, size), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static void open_can(struct rig *rig)
{
    int fd[2];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
    open_rig(rig, fd[0], fd[1], true);
}

static void answer(struct rig *rig, uint8_t value)
{
    struct can_frame frame = {.can_id = 0x181, .len = 4, .data = {value}};
    uint8_t reply[REPLY] = {value};

    if (rig->sensor->parser.exchange.spec.framing.can)
        CHECK_EQUAL(write(rig->theirs, &frame, sizeof frame), sizeof frame);
    else
        CHECK_EQUAL(write(rig->theirs, reply, REPLY), REPLY);
}

static void trigger(struct rig *rig)
{
    parser_reset(&rig->sensor->parser);
    rig->sensor->suspect = false;
    rig->sensor->stamps.received_ns = INT64_MAX;
    rig->sensor->triggered_ns = inphase_now();
}

static enum received receive(struct rig *rig)
{
    enum received got;

    CHECK_EQUAL(fd_ops.receive(rig->core, rig->sensor, &got), 0);
    return got;
}

static int64_t slips(const struct rig *rig)
{
    return load_i64(&rig->core->statistics->counts[COUNT_SLIPS]);
}

/* longer than the mapping may be wrong; how long does not matter */
static void let_time_pass(void)
{
    struct timespec pause = {.tv_nsec = 2000000};

    nanosleep(&pause, NULL);
}

static void open_udp(struct rig *rig)
{
    int64_t until_ns = inphase_now() + BOUND_NS, sent_ns;
    struct sockaddr_in our_address, their_address;
    int ours = bound_socket(&our_address), theirs = bound_socket(&their_address);

    CHECK_EQUAL(connect(ours, (struct sockaddr *)&their_address, sizeof their_address), 0);
    CHECK_EQUAL(connect(theirs, (struct sockaddr *)&our_address, sizeof our_address), 0);
    open_rig(rig, ours, theirs, false);

    /* until the kernel has switched its stamps on, which it does by itself a moment later */
    do {
        CHECK(inphase_now() < until_ns);
        trigger(rig);
        answer(rig, 0);
        sent_ns = inphase_now();
        let_time_pass();
        begin_cycle(rig);
        CHECK_EQUAL(receive(rig), RECEIVED_SAMPLE);
    } while (rig->sensor->stamps.received_ns > sent_ns + 1000000);
}


static void the_stamp_is_of_the_arrival(struct rig *rig)
{
    int64_t sent_ns;

    trigger(rig);
    answer(rig, 1);
    sent_ns = inphase_now();
    let_time_pass();
    CHECK_EQUAL(receive(rig), RECEIVED_SAMPLE);
    CHECK(rig->sensor->stamps.received_ns >= rig->sensor->triggered_ns);
    CHECK(rig->sensor->stamps.received_ns <= sent_ns + 2 * rig->core->wall_error_ns);
    CHECK_EQUAL(slips(rig), 0);
}

static void a_datagram_is_stamped_when_it_arrives_and_not_when_it_is_read(void)
{
    struct rig rig;

    open_udp(&rig);
    the_stamp_is_of_the_arrival(&rig);
    CHECK_EQUAL(receive(&rig), RECEIVED_EMPTY);
    close_rig(&rig);
}

static void a_can_frame_is_stamped_when_it_arrives_and_not_when_it_is_read(void)
{
    struct rig rig;

    open_can(&rig);
    the_stamp_is_of_the_arrival(&rig);
    close_rig(&rig);
}

static void what_was_there_before_the_trigger_is_no_reply(struct rig *rig)
{
    answer(rig, 1);
    let_time_pass();
    trigger(rig);
    answer(rig, 2);
    while (receive(rig) == RECEIVED_PART)
        ;
    CHECK_EQUAL(rig->sensor->parser.value[0], 2);
    CHECK_EQUAL(slips(rig), 1);
    CHECK(rig->sensor->suspect);
    CHECK(rig->sensor->stamps.received_ns >= rig->sensor->triggered_ns);
}

static void a_datagram_from_before_the_trigger_is_a_slip(void)
{
    struct rig rig;

    open_udp(&rig);
    what_was_there_before_the_trigger_is_no_reply(&rig);
    close_rig(&rig);
}

static void a_can_frame_from_before_the_trigger_is_a_slip(void)
{
    struct rig rig;

    open_can(&rig);
    what_was_there_before_the_trigger_is_no_reply(&rig);
    close_rig(&rig);
}

/* what runs by itself has no trigger: a sample per frame, each with its own stamp */
static void frames_of_what_runs_by_itself_are_stamped_one_by_one(void)
{
    struct rig rig;
    int64_t before_ns = 0;

    open_can(&rig);
    rig.sensor->free_running = true;
    rig.sensor->outstanding = false;
    for (uint8_t i = 1; i <= 3; i++)
        answer(&rig, i);
    for (int i = 1; i <= 3; i++) {
        parser_reset(&rig.sensor->parser);
        CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
        CHECK_EQUAL(rig.sensor->parser.value[0], i);
        CHECK(rig.sensor->stamps.received_ns >= before_ns);
        before_ns = rig.sensor->stamps.received_ns;
        CHECK(before_ns >= rig.core->woke_ns && before_ns <= inphase_now());
    }
    CHECK_EQUAL(receive(&rig), RECEIVED_EMPTY);
    CHECK_EQUAL(slips(&rig), 0);
    close_rig(&rig);
}

/* in the cycle in which it is set, and for replies to triggers of that cycle, nothing is stamped;
   no reply is dropped */
static void a_wall_clock_that_is_set_costs_stamps_and_no_replies(int64_t by_ns)
{
    struct rig rig;

    open_udp(&rig);
    CHECK_EQUAL(rig.core->flags, 0);

    /* between the look at it and the reply: all that is known is that it does not fit */
    trigger(&rig);
    rig.core->wall_offset_ns -= by_ns;
    answer(&rig, 1);
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);

    /* the next cycle sees it, and the one after it is as before */
    begin_cycle(&rig);
    CHECK_EQUAL(rig.core->flags, INPHASE_FLAG_CLOCK_STEP);
    trigger(&rig);
    answer(&rig, 2);
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);
    begin_cycle(&rig);
    CHECK_EQUAL(rig.core->flags, 0);
    parser_reset(&rig.sensor->parser);
    answer(&rig, 3);
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);
    the_stamp_is_of_the_arrival(&rig);
    close_rig(&rig);
}

/* by less than what lies between a trigger and its reply: the stamp of neither side would look
   wrong */
static void a_wall_clock_that_is_set_by_little_costs_a_stamp_and_no_reply(int64_t by_ns)
{
    struct rig rig;

    open_udp(&rig);
    rig.sensor->earliest_ns = 100000;

    /* before the reply is stamped */
    trigger(&rig);
    let_time_pass();
    answer(&rig, 1);
    let_time_pass();
    rig.core->wall_offset_ns -= by_ns;
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);
    begin_cycle(&rig);

    /* after it is, and before the next cycle looks at the clock */
    begin_cycle(&rig);
    trigger(&rig);
    answer(&rig, 2);
    let_time_pass();
    wall_extra_ns += by_ns;
    begin_cycle(&rig);
    CHECK_EQUAL(rig.core->flags, 0);
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);
    CHECK_EQUAL(slips(&rig), 0);

    /* as the kernel's again, and noticed in the cycle before */
    wall_extra_ns = 0;
    begin_cycle(&rig);
    begin_cycle(&rig);
    the_stamp_is_of_the_arrival(&rig);
    close_rig(&rig);
}

static void a_wall_clock_that_is_set_by_less_than_a_cycle_is_noticed(void)
{
    a_wall_clock_that_is_set_by_little_costs_a_stamp_and_no_reply(500000);
    a_wall_clock_that_is_set_by_little_costs_a_stamp_and_no_reply(-500000);
}

/* what runs by itself has no trigger that a stamp of an hour ago would be before */
static void a_wall_clock_that_is_set_back_makes_no_sample_older(void)
{
    struct rig rig;

    open_udp(&rig);
    rig.sensor->free_running = true;
    rig.sensor->outstanding = false;
    rig.core->wall_since_ns -= 2 * HOUR_NS;
    parser_reset(&rig.sensor->parser);
    answer(&rig, 1);
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK(rig.sensor->stamps.received_ns >= rig.core->woke_ns);
    CHECK(rig.sensor->stamps.received_ns <= inphase_now());
    parser_reset(&rig.sensor->parser);
    rig.core->wall_offset_ns += HOUR_NS;
    answer(&rig, 2);
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);
    close_rig(&rig);
}

static void a_wall_clock_that_is_set_forward_or_back_is_noticed(void)
{
    a_wall_clock_that_is_set_costs_stamps_and_no_replies(HOUR_NS);
    a_wall_clock_that_is_set_costs_stamps_and_no_replies(-HOUR_NS);
    a_wall_clock_that_is_set_costs_stamps_and_no_replies(-5000000);
    a_wall_clock_that_is_set_costs_stamps_and_no_replies(5000000);
}

/* as in a process whose wall clock is not the kernel's */
static void a_stamp_of_another_clock_is_not_used(void)
{
    struct rig rig;

    open_udp(&rig);
    for (int i = 0; i < 2; i++) {
        wall_extra_ns = i ? -HOUR_NS : HOUR_NS;
        begin_cycle(&rig);
        begin_cycle(&rig);
        trigger(&rig);
        answer(&rig, 1);
        CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
        CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);
    }
    CHECK_EQUAL(slips(&rig), 0);
    close_rig(&rig);
}

static void a_clock_that_is_slewed_is_not_set(void)
{
    struct rig rig;

    open_udp(&rig);
    for (int i = 0; i < 100; i++) {
        wall_extra_ns += 500000;
        begin_cycle(&rig);
        CHECK_EQUAL(rig.core->flags, 0);
    }
    close_rig(&rig);
}

static void what_is_no_socket_has_no_stamp(void)
{
    struct rig rig;
    int fd[2];

    CHECK_EQUAL(pipe(fd), 0);
    open_rig(&rig, fd[0], fd[1], false);
    CHECK_EQUAL(receive(&rig), RECEIVED_EMPTY);
    trigger(&rig);
    answer(&rig, 9);
    CHECK_EQUAL(receive(&rig), RECEIVED_SAMPLE);
    CHECK_EQUAL(rig.sensor->parser.value[0], 9);
    CHECK_EQUAL(rig.sensor->stamps.received_ns, INT64_MAX);
    close_rig(&rig);
}

int main(void)
{
    check_seed();
    RUN(a_datagram_is_stamped_when_it_arrives_and_not_when_it_is_read);
    RUN(a_can_frame_is_stamped_when_it_arrives_and_not_when_it_is_read);
    RUN(a_datagram_from_before_the_trigger_is_a_slip);
    RUN(a_can_frame_from_before_the_trigger_is_a_slip);
    RUN(frames_of_what_runs_by_itself_are_stamped_one_by_one);
    RUN(a_wall_clock_that_is_set_forward_or_back_is_noticed);
    RUN(a_wall_clock_that_is_set_by_less_than_a_cycle_is_noticed);
    RUN(a_wall_clock_that_is_set_back_makes_no_sample_older);
    RUN(a_stamp_of_another_clock_is_not_used);
    RUN(a_clock_that_is_slewed_is_not_set);
    RUN(what_is_no_socket_has_no_stamp);
    return 0;
}
