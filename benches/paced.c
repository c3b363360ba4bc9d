/* A stream of packets over UDP, and who answers each at a fixed offset: a bare loop, or the core
   whose cycle the packets start.

       paced WHO PACKETS PERIOD_US ACT_US PRIORITY

   WHO: bare or core. The streaming process is a child with a priority of its own. Printed, a line
   each: nanoseconds from the sending of a packet to its answer, less the offset; -1: none came. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <signal.h>

#include "../native/inphase.h"

#define SETTLE 1500 /* packets before the ones that are told: the estimate begins with them */
#define ANSWER 8

struct packet {
    uint64_t number;
    double place;
};

static void need(int is_good, const char *what)
{
    if (is_good)
        return;
    perror(what);
    exit(1);
}

static void sleep_until(int64_t time_ns)
{
    struct timespec until = {time_ns / 1000000000, time_ns % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
        ;
}

static void set_priority(int priority)
{
    struct sched_param param = {.sched_priority = priority};

    if (priority)
        need(sched_setscheduler(0, SCHED_FIFO, &param) == 0, "sched_setscheduler");
}

/* the device: a packet per period, and the time of its answer */
static void stream(int fd, long packets, int64_t period_ns, int64_t act_ns)
{
    int64_t start_ns = inphase_now() + 5 * period_ns;
    char answer[64];

    for (long n = 0; n < packets + SETTLE; n++) {
        struct packet packet = {.number = (uint64_t)n + 1};
        struct pollfd poll = {.fd = fd, .events = POLLIN};
        struct timespec most = {0};
        int64_t sent_ns, left_ns;
        int got;

        sleep_until(start_ns + n * period_ns);
        while (recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0)
            ;
        sent_ns = inphase_now();
        if (send(fd, &packet, sizeof packet, 0) < 0)
            return;
        left_ns = start_ns + (n + 1) * period_ns - 100000 - sent_ns;
        most.tv_nsec = left_ns > 0 ? left_ns : 0;
        got = ppoll(&poll, 1, &most, NULL);
        if (n >= SETTLE)
            printf("%lld\n", got > 0 ? (long long)(inphase_now() - sent_ns - act_ns) : -1LL);
    }
}

/* the yardstick: wait for a packet, sleep to its offset, answer */
static void answer_bare(int fd, int64_t act_ns)
{
    struct packet packet;

    while (recv(fd, &packet, sizeof packet, 0) == (ssize_t)sizeof packet) {
        sleep_until(inphase_now() + act_ns);
        if (send(fd, &packet.place, ANSWER, 0) < 0)
            return;
    }
}

static void answer_core(int fd, int64_t period_ns, int64_t act_ns, int priority)
{
    static const struct inphase_reply reply = {.size = sizeof(struct packet), .fields = 1};
    static const struct inphase_field place = {8, INPHASE_F64, 0, 0, 1, 0};
    static const struct inphase_field goal = {0, INPHASE_F64, 0, 0, 1, 0};
    static const struct inphase_limits limits = {.mode = INPHASE_MODE_POSITION, .low = -1,
                                                 .high = 1, .velocity = 1, .acceleration = 1,
                                                 .step = 1};
    static const uint8_t bytes[ANSWER];
    const struct inphase_sensor_config sensor = {
        .free_running = 1, .channels = 1, .payload = 8, .every = 1, .recover = 3, .depth = 64,
        .max_age_ns = 50 * period_ns,
        .exchange = {.replies = 1, .reply = &reply, .field = &place, .fields = 1,
                     .framing = {.datagram = 1, .min_size = sizeof(struct packet),
                                 .max_size = sizeof(struct packet)}}};
    const struct inphase_actuator_config actuator = {
        .channels = 1, .accepts = 0xff, .guarded = 1, .max_hold_ns = 100000000, .limits = &limits,
        .encoding = {.packet = bytes, .packet_size = ANSWER, .fields = 1, .field = &goal}};
    const struct inphase_config config = {
        .period_ns = period_ns, .read_deadline_ns = act_ns - 200000, .act_ns = act_ns,
        .resumed_after_ns = 10000000000, .devices = 1, .sensors = 1, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 1000000, .priority = priority, .cpu = -1,
        .sensor = &sensor, .actuator = &actuator, .pace_sensor = 1};
    inphase_segment *segment;
    inphase_core *core;

    need(inphase_segment_make(&segment, inphase_core_size(&config), 0) == 0, "segment");
    need(inphase_core_open(&core, &config, segment) == 0, "core");
    need(inphase_core_attach(core, 0, fd) == 0, "attach");
    need(inphase_core_enable(core, 0, 1) == 0, "enable");
    need(inphase_core_arm(core) == 0, "arm");
    need(inphase_core_start(core) == 0, "start");
    pause();
}

int main(int count, char **argument)
{
    int ours = socket(AF_INET, SOCK_DGRAM, 0), theirs = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in there = here;
    socklen_t size = sizeof here;
    int64_t period_ns, act_ns;
    int priority, status;
    pid_t answerer;

    need(count == 6, "arguments");
    period_ns = atol(argument[3]) * 1000;
    act_ns = atol(argument[4]) * 1000;
    priority = atoi(argument[5]);
    need(bind(ours, (struct sockaddr *)&here, size) == 0, "bind");
    need(bind(theirs, (struct sockaddr *)&there, size) == 0, "bind");
    need(getsockname(ours, (struct sockaddr *)&here, &size) == 0, "name");
    need(getsockname(theirs, (struct sockaddr *)&there, &size) == 0, "name");
    need(connect(ours, (struct sockaddr *)&there, size) == 0, "connect");
    need(connect(theirs, (struct sockaddr *)&here, size) == 0, "connect");

    answerer = fork();
    need(answerer >= 0, "fork");
    if (answerer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (strcmp(argument[1], "core") == 0)
            answer_core(ours, period_ns, act_ns, priority);
        need(mlockall(MCL_CURRENT | MCL_FUTURE) == 0 || !priority, "mlockall");
        set_priority(priority);
        answer_bare(ours, act_ns);
        return 0;
    }
    set_priority(priority ? priority - 10 : 0);
    stream(theirs, atol(argument[2]), period_ns, act_ns);
    fflush(stdout);
    kill(answerer, SIGKILL);
    waitpid(answerer, &status, 0);
    return 0;
}
