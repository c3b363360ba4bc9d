/* Stops that nothing holds up: the thread that hands keys, signals and the line's words to a core,
   an emergency stop that comes while a person arms, and the supervisor's beat. The core is on
   virtual time, and stands still while the thread is asked. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/core.h"
#include "../src/guard_page.h"
#include "check.h"
#include "segments.h"

#define PERIOD_NS 10000000LL
#define LATENCY_NS 200000LL
#define TRIES 20000 /* of a millisecond: until the thread must have run */

struct robot {
    inphase_segment *segment;
    inphase_core *core;
    inphase_reader *reader;
    inphase_stops *stops;
    int keys[2], signals[2], line[2], told[2]; /* [0]: to be read; of the line the thread's end */
};

static void open_patient_core(struct robot *robot, int64_t period_ns, int64_t resumed_after_ns)
{
    static const struct inphase_reply reply = {0, 0, 0, 0, 0};
    static const uint8_t packet[4] = {0};
    struct inphase_twin_channel joint = {.kind = INPHASE_TWIN_POSITION, .gain = 1};
    struct inphase_servo servo = {.natural_rad_s = 60, .velocity_max = 6, .acceleration_max = 60};
    struct inphase_limits limits = {
        .low = -1, .high = 1, .velocity = 2, .acceleration = 20, .step = 0.5};
    struct inphase_sensor_config sensor = {
        .channels = 1, .max_age_ns = 10 * period_ns, .recover = 2, .depth = 64, .every = 1,
        .payload = 8, .twin = {.channel = &joint, .latency_ns = LATENCY_NS},
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .acquire = INPHASE_ACQUIRE_TRIGGER, .acquire_ns = 50000,
                     .reply_max_ns = 400000}};
    struct inphase_actuator_config actuator = {
        .channels = 1, .accepts = 1 << INPHASE_FRESH, .max_hold_ns = 3 * period_ns,
        .limits = &limits, .servo = &servo, .encoding = {.packet = packet, .packet_size = 4}};
    struct inphase_config config = {
        .period_ns = period_ns, .read_deadline_ns = 600000, .act_ns = 700000,
        .resumed_after_ns = resumed_after_ns, .devices = 1, .sensors = 1, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 5, .virtual_time = 1, .sensor = &sensor,
        .actuator = &actuator};

    memset(robot, 0, sizeof *robot);
    CHECK_EQUAL(inphase_segment_make(&robot->segment, inphase_core_size(&config), 0), 0);
    CHECK_EQUAL(inphase_core_open(&robot->core, &config, robot->segment), 0);
    CHECK_EQUAL(inphase_core_enable(robot->core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_arm(robot->core), 0);
    CHECK_EQUAL(open_reader(&robot->reader, robot->segment, 0), 0);
}

static void open_core(struct robot *robot, int64_t period_ns)
{
    open_patient_core(robot, period_ns, 200000000);
}

static void open_robot(struct robot *robot)
{
    struct inphase_stops_config config;

    open_core(robot, PERIOD_NS);
    CHECK_EQUAL(pipe2(robot->keys, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQUAL(pipe2(robot->signals, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQUAL(pipe2(robot->told, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, robot->line), 0);
    config = (struct inphase_stops_config){robot->keys[0], robot->signals[0], robot->line[0],
                                           robot->told[1]};
    CHECK_EQUAL(inphase_stops_open(&robot->stops, robot->core, &config), 0);
}

static void close_core(struct robot *robot)
{
    inphase_reader_close(robot->reader);
    inphase_core_close(robot->core);
    inphase_segment_close(robot->segment);
}

static void close_robot(struct robot *robot)
{
    int *const pairs[] = {robot->keys, robot->signals, robot->line, robot->told};

    inphase_stops_close(robot->stops);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        for (int end = 0; end < 2; end++)
            if (pairs[i][end] >= 0)
                close(pairs[i][end]);
    close_core(robot);
}

static void hang_up(int *fd)
{
    close(*fd);
    *fd = -1;
}

static struct inphase_status status_of(struct robot *robot)
{
    struct inphase_status status;

    CHECK_EQUAL(inphase_reader_status(robot->reader, &status), 0);
    return status;
}

static void run(struct robot *robot, int cycles)
{
    CHECK_EQUAL(inphase_core_run(robot->core, cycles), cycles);
}

static void pause_a_little(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    nanosleep(&pause, NULL);
}

/* while no cycle runs: the thread alone brings it about */
static void expect_estops(struct robot *robot, uint32_t count)
{
    for (int i = 0; i < TRIES && status_of(robot).estops != count; i++)
        pause_a_little();
    CHECK_EQUAL(status_of(robot).estops, count);
}

static void expect_stop(struct robot *robot, uint32_t reason, uint32_t detail)
{
    uint64_t stop = 0;

    for (int i = 0; i < TRIES && !stop; i++) {
        pause_a_little();
        stop = atomic_load(&robot->core->stop);
    }
    CHECK_EQUAL(stop >> 32, reason);
    CHECK_EQUAL((uint32_t)stop, detail);
}

static void say(int fd, const char *text, size_t size)
{
    CHECK_EQUAL(write(fd, text, size), size);
}

/* the supervisor is told the same keys, whole, once the thread has taken them */
static void expect_told(struct robot *robot, const char *keys)
{
    char told[64] = {0};
    size_t size = 0, wanted = strlen(keys);

    for (int i = 0; i < TRIES && size < wanted; i++) {
        ssize_t count = read(robot->told[0], told + size, sizeof told - 1 - size);

        size += count > 0 ? (size_t)count : 0;
        pause_a_little();
    }
    CHECK_EQUAL(strcmp(told, keys), 0);
}

static void keys_stop_and_are_told_on(void)
{
    struct robot robot;

    open_robot(&robot);
    run(&robot, 5);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_ARMED);
    say(robot.keys[1], "xa", 2);
    expect_told(&robot, "xa");
    CHECK_EQUAL(status_of(&robot).estops, 0);
    say(robot.keys[1], " ", 1);
    expect_estops(&robot, 1);
    say(robot.keys[1], "aEe", 3);
    expect_estops(&robot, 3);
    expect_told(&robot, " aEe");
    run(&robot, 1);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_ESTOP);
    CHECK_EQUAL(status_of(&robot).latched_detail, INPHASE_ESTOP_LOCAL);
    close_robot(&robot);
}

static void keys_that_nobody_hears_stop_all_the_same(void)
{
    struct robot robot;

    open_robot(&robot);
    while (write(robot.told[1], "aaaaaaaaaaaaaaaa", 16) > 0)
        continue;
    say(robot.keys[1], "x ", 2);
    expect_estops(&robot, 1);
    close_robot(&robot);
}

static void a_terminal_that_hangs_up_is_a_stop(void)
{
    struct robot robot;

    open_robot(&robot);
    hang_up(&robot.keys[1]);
    expect_stop(&robot, INPHASE_REASON_SIGNAL, SIGHUP);

    /* the others go on */
    say(robot.line[1], "e", 1);
    expect_estops(&robot, 1);
    close_robot(&robot);
}

static void signals_stop_and_one_arms(void)
{
    static const char stops[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    static const char others[] = {SIGCHLD, SIGUSR1, SIGWINCH, 0, 127};
    struct robot robot;

    for (size_t i = 0; i < sizeof stops; i++) {
        open_robot(&robot);
        say(robot.signals[1], others, sizeof others);
        expect_told(&robot, "a");
        CHECK_EQUAL(atomic_load(&robot.core->stop), 0);
        say(robot.signals[1], &stops[i], 1);
        expect_stop(&robot, INPHASE_REASON_SIGNAL, (uint32_t)stops[i]);
        close_robot(&robot);
    }
}

/* a terminal that closes is often told twice, and nobody has asked for less of a stop */
static void a_second_signal_hurries_and_a_terminal_that_closes_twice_does_not(void)
{
    static const char twice[] = {SIGHUP, SIGHUP, SIGINT}, again[] = {SIGTERM};
    struct robot robot;

    open_robot(&robot);
    say(robot.signals[1], twice, sizeof twice);
    say(robot.signals[1], (const char[]){SIGUSR1}, 1);
    expect_told(&robot, "a");
    expect_stop(&robot, INPHASE_REASON_SIGNAL, SIGHUP);
    CHECK_EQUAL(atomic_load(&robot.core->hurried), 0);
    say(robot.signals[1], again, sizeof again);
    say(robot.signals[1], (const char[]){SIGUSR1}, 1);
    expect_told(&robot, "a");
    CHECK_EQUAL(atomic_load(&robot.core->hurried), 1);
    close_robot(&robot);
}

static void the_line_stops_by_word_and_by_its_end(void)
{
    struct robot robot;

    open_robot(&robot);
    say(robot.line[1], "?e", 2);
    expect_estops(&robot, 1);
    CHECK_EQUAL(atomic_load(&robot.core->stop), 0);
    say(robot.line[1], "s", 1);
    expect_stop(&robot, INPHASE_REASON_REQUEST, 0);
    close_robot(&robot);

    open_robot(&robot);
    hang_up(&robot.line[1]);
    expect_stop(&robot, INPHASE_REASON_PARENT, 0);
    say(robot.keys[1], "e", 1);
    expect_estops(&robot, 1);
    close_robot(&robot);
}

static void a_word_of_the_line_hurries(void)
{
    struct robot robot;

    open_robot(&robot);
    say(robot.line[1], "sh", 2);
    expect_stop(&robot, INPHASE_REASON_REQUEST, 0);
    for (int i = 0; i < TRIES && !atomic_load(&robot.core->hurried); i++)
        pause_a_little();
    CHECK_EQUAL(atomic_load(&robot.core->hurried), 1);
    close_robot(&robot);
}

static void a_stop_that_came_while_a_person_armed_wins(void)
{
    struct robot robot;
    uint32_t known;

    open_core(&robot, PERIOD_NS);
    run(&robot, 5);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
    run(&robot, 100);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_FAULTED);

    /* the person asks; a stop comes while drivers are enabled, and is looked at, or not yet */
    for (int cycles = 0; cycles < 2; cycles++) {
        known = status_of(&robot).estops;
        CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_LOCAL), 0);
        run(&robot, cycles);
        CHECK_EQUAL(inphase_core_arm_after(robot.core, known), 0);
        run(&robot, 100);
        CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_ESTOP);
        CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_FAULTED);
    }

    /* and one that knows of it arms */
    CHECK_EQUAL(inphase_core_arm_after(robot.core, status_of(&robot).estops), 0);
    run(&robot, 1);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    CHECK_EQUAL(status_of(&robot).state, INPHASE_STATE_ARMED);
    close_core(&robot);
}

/* cycles that are run after the last beat before motion is latched */
static int cycles_to_the_latch(int64_t period_ns, int64_t resumed_after_ns, int beats)
{
    struct robot robot;
    int cycles = 0;

    open_patient_core(&robot, period_ns, resumed_after_ns);
    for (int i = 0; i < beats; i++) {
        inphase_core_beat(robot.core);
        run(&robot, 1);
    }
    CHECK_EQUAL(status_of(&robot).latched, 0);
    while (cycles < 1000 && !status_of(&robot).latched) {
        run(&robot, 1);
        cycles++;
    }
    if (status_of(&robot).latched)
        CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_SUPERVISOR);
    close_core(&robot);
    return cycles;
}

static void a_supervisor_that_is_silent_for_a_second_latches(void)
{
    CHECK_EQUAL(cycles_to_the_latch(PERIOD_NS, 200000000, 300), 101);
    CHECK_EQUAL(cycles_to_the_latch(PERIOD_NS, 200000000, 1), 101);
    CHECK_EQUAL(cycles_to_the_latch(1000000000, 200000000, 10), 3);

    /* a robot that forgives longer pauses forgives them its supervisor */
    CHECK_EQUAL(cycles_to_the_latch(PERIOD_NS, 3000000000, 10), 301);

    /* one that never beat is not asked for, as in lock step */
    CHECK_EQUAL(cycles_to_the_latch(PERIOD_NS, 200000000, 0), 1000);
}

static void a_supervisor_that_is_slow_but_lives_latches_nothing(void)
{
    struct robot robot;

    open_core(&robot, PERIOD_NS);
    for (int i = 0; i < 10; i++) {
        inphase_core_beat(robot.core);
        run(&robot, 100);
    }
    CHECK_EQUAL(status_of(&robot).latched, 0);
    close_core(&robot);
}

static void it_is_armed_again_by_a_supervisor_that_beats(void)
{
    struct robot robot;

    open_core(&robot, PERIOD_NS);
    inphase_core_beat(robot.core);
    run(&robot, 300);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_SUPERVISOR);
    CHECK_EQUAL(status_of(&robot).reason_cycle, 101);
    inphase_core_beat(robot.core);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    run(&robot, 101);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    run(&robot, 1);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_SUPERVISOR);
    close_core(&robot);
}

static void the_supervisor_latches_with_the_first_reason(void)
{
    struct robot robot;

    open_core(&robot, PERIOD_NS);
    CHECK_EQUAL(inphase_core_latch(robot.core, INPHASE_REASON_NONE, 0), -EINVAL);
    CHECK_EQUAL(inphase_core_latch(robot.core, INPHASE_REASONS, 0), -EINVAL);
    run(&robot, 5);
    CHECK_EQUAL(inphase_core_latch(robot.core, INPHASE_REASON_GATEWAY, 7), 0);
    CHECK_EQUAL(inphase_core_latch(robot.core, INPHASE_REASON_OFFLINE, 0), 0);
    run(&robot, 1);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_GATEWAY);
    CHECK_EQUAL(status_of(&robot).latched_detail, 7);
    run(&robot, 100);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    run(&robot, 10);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    close_core(&robot);
}

/* who asked to arm did not know of what the supervisor latches since */
static void a_latch_of_the_supervisor_ends_a_request_to_arm(void)
{
    struct robot robot;

    open_core(&robot, PERIOD_NS);
    run(&robot, 5);
    CHECK_EQUAL(inphase_core_latch(robot.core, INPHASE_REASON_OFFLINE, 0), 0);
    CHECK_EQUAL(inphase_core_enable(robot.core, 0, 0), 0);
    run(&robot, 100);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    run(&robot, 5);
    CHECK_EQUAL(inphase_core_latch(robot.core, INPHASE_REASON_GATEWAY, 0), 0);
    run(&robot, 5);
    CHECK_EQUAL(inphase_core_enable(robot.core, 0, 1), 0);
    run(&robot, 20);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_OFFLINE);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);
    run(&robot, 20);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    close_core(&robot);
}

static void a_guard_that_is_lost_and_replaced_between_two_cycles_latches(void)
{
    struct robot robot;

    open_core(&robot, PERIOD_NS);
    robot.core->actuator[0].guards_itself = false;

    /* lost before anything was armed: that is no loss of what moves */
    CHECK_EQUAL(inphase_core_guarded(robot.core, 0, 1), 0);
    CHECK_EQUAL(inphase_core_guarded(robot.core, 0, 0), 0);
    CHECK_EQUAL(inphase_core_guarded(robot.core, 0, 1), 0);
    run(&robot, 50);
    CHECK(robot.core->actuator[0].driven);
    CHECK_EQUAL(status_of(&robot).latched, 0);

    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(inphase_core_guarded(robot.core, 0, 0), 0);
        CHECK_EQUAL(inphase_core_guarded(robot.core, 0, 1), 0);
        run(&robot, 1);
        CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_UNGUARDED);
        run(&robot, 100);
        CHECK_EQUAL(inphase_core_arm(robot.core), 0);
        run(&robot, 20);
        CHECK_EQUAL(status_of(&robot).latched, 0);
    }

    /* a device that stops by itself needs no guard */
    robot.core->actuator[0].guards_itself = true;
    CHECK_EQUAL(inphase_core_guarded(robot.core, 0, 0), 0);
    CHECK_EQUAL(inphase_core_guarded(robot.core, 0, 1), 0);
    run(&robot, 5);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    close_core(&robot);
}

static void a_device_that_is_handed_over_anew_between_two_cycles_latches(void)
{
    struct robot robot;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    open_core(&robot, PERIOD_NS);
    run(&robot, 50);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    CHECK_EQUAL(inphase_core_detach(robot.core, 0), 0);
    CHECK_EQUAL(inphase_core_attach(robot.core, 0, fd), 0);
    run(&robot, 1);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_OFFLINE);
    CHECK_EQUAL(inphase_core_attached(robot.core, 0), 1);
    close_core(&robot);
    close(fd);
}

/* The guard stopped the devices of an emulated robot while nothing here ran. In the act in which
   the core goes on there is no command any more; the joint gets its stop, and the run ends by
   itself */
static void a_core_that_was_spared_writes_its_stop_and_ends(void)
{
    struct guard_life life = {.owner = 1};
    struct inphase_status status;
    struct robot robot;

    open_core(&robot, PERIOD_NS);
    robot.core->guard.life = &life;
    run(&robot, 50);
    CHECK(robot.core->actuator[0].driven);
    CHECK_EQUAL(status_of(&robot).latched, 0);
    atomic_store(&life.spared, 1);
    run(&robot, 1);
    CHECK_EQUAL(status_of(&robot).latched, INPHASE_REASON_GUARD);
    CHECK_EQUAL(robot.core->actuator[0].reason, INPHASE_REASON_REST);
    CHECK(robot.core->actuator[0].flags & INPHASE_ACT_WRITTEN);
    CHECK_EQUAL(inphase_core_arm(robot.core), 0);

    /* at rest is what is measured, also of a stop that the guard has sent already */
    CHECK(inphase_core_run(robot.core, 1000) < 1000);
    status = status_of(&robot);
    CHECK_EQUAL(status.state, INPHASE_STATE_STOPPED);
    CHECK_EQUAL(status.reason, INPHASE_REASON_GUARD);
    CHECK_EQUAL(status.latched, INPHASE_REASON_GUARD);
    CHECK_EQUAL(status.reason_cycle, 51);
    robot.core->guard.life = NULL;
    close_core(&robot);
}

int main(void)
{
    RUN(keys_stop_and_are_told_on);
    RUN(keys_that_nobody_hears_stop_all_the_same);
    RUN(a_terminal_that_hangs_up_is_a_stop);
    RUN(signals_stop_and_one_arms);
    RUN(a_second_signal_hurries_and_a_terminal_that_closes_twice_does_not);
    RUN(the_line_stops_by_word_and_by_its_end);
    RUN(a_word_of_the_line_hurries);
    RUN(a_stop_that_came_while_a_person_armed_wins);
    RUN(a_supervisor_that_is_silent_for_a_second_latches);
    RUN(a_supervisor_that_is_slow_but_lives_latches_nothing);
    RUN(it_is_armed_again_by_a_supervisor_that_beats);
    RUN(the_supervisor_latches_with_the_first_reason);
    RUN(a_latch_of_the_supervisor_ends_a_request_to_arm);
    RUN(a_guard_that_is_lost_and_replaced_between_two_cycles_latches);
    RUN(a_device_that_is_handed_over_anew_between_two_cycles_latches);
    RUN(a_core_that_was_spared_writes_its_stop_and_ends);
    return 0;
}
