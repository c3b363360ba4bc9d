/* Devices that sample when they are asked and answer with the time of it, and the least that could
   ask them: one write and one read per device, one wait, one sleep. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared.h"

#define DEVICES_MAX 64
#define CHANNELS 8

_Static_assert(CHANNELS * sizeof(double) == BENCH_SAMPLE_BYTES, "a sample is eight doubles");

/* ---- devices ---------------------------------------------------------------------------- */

struct device {
    int fd;
    bool asked;
    double count;                    /* of its samples so far */
    double sampled_ns;
    struct sockaddr_storage peer;
    socklen_t peer_size;
};

/* 1: it was asked, and has sampled now; 0: it was not; -1: the other end is gone */
static int take_request(struct device *device)
{
    uint8_t request[16];
    ssize_t size;

    device->peer_size = sizeof device->peer;
    size = recvfrom(device->fd, request, sizeof request, MSG_DONTWAIT,
                    (struct sockaddr *)&device->peer, &device->peer_size);
    if (size < 0 && errno == EAGAIN)
        return 0;
    if (size <= 0)
        return -1;
    device->sampled_ns = (double)bench_now();
    device->count++;
    device->asked = true;
    return 1;
}

static void answer(struct device *device)
{
    double sample[CHANNELS] = {device->count, device->sampled_ns, 2, 3, 4, 5, 6, 7};

    device->asked = false;

    /* who asked may have gone meanwhile */
    if (sendto(device->fd, sample, sizeof sample, MSG_NOSIGNAL,
               device->peer_size ? (struct sockaddr *)&device->peer : NULL,
               device->peer_size) < 0)
        return;
}

int bench_samplers_serve(const struct bench_samplers *samplers)
{
    struct device device[DEVICES_MAX] = {0};
    struct pollfd poll_fd[DEVICES_MAX];
    int count = samplers->count, asked = 0;
    int rc = bench_rights(samplers->priority, samplers->cpu);

    if (rc < 0 || count > DEVICES_MAX)
        return rc < 0 ? rc : -EINVAL;
    for (int i = 0; i < count; i++) {
        device[i].fd = samplers->fd[i];
        poll_fd[i] = (struct pollfd){.fd = samplers->fd[i], .events = POLLIN};
    }
    for (;;) {
        if (poll(poll_fd, (nfds_t)count, -1) < 0)
            continue;
        for (int i = 0; i < count; i++) {
            bool before = device[i].asked;

            if (!poll_fd[i].revents)
                continue;
            rc = take_request(&device[i]);
            if (rc < 0)
                return 0;
            if (rc > 0 && samplers->delay_ns < 0)
                answer(&device[i]);
            else if (rc > 0 && !before)
                asked++;
        }
        if (asked < count)
            continue;

        /* all were asked: all answer at once */
        bench_sleep_until(bench_now() + samplers->delay_ns);
        for (int i = 0; i < count; i++)
            answer(&device[i]);
        asked = 0;
    }
}

/* ---- who asks them ---------------------------------------------------------------------- */

struct asking {
    struct bench_run run;
    struct bench_exchanges *exchanges;
};

static int64_t cpu_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* until there is something to read, or a time; false: the time has come */
static bool wait_for(struct bench_exchanges *exchanges, int fd, int64_t until_ns)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int64_t left_ns = until_ns - bench_now();
    struct timespec left = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};

    if (left_ns <= 0)
        return false;
    exchanges->waits++;
    return ppoll(&poll_fd, 1, &left, NULL) == 1;
}

static void drain(const struct bench_exchanges *exchanges)
{
    double sample[CHANNELS];

    for (int i = 0; i < exchanges->count; i++)
        while (recv(exchanges->fd[i], sample, sizeof sample, MSG_DONTWAIT) > 0)
            ;
}

/* one cycle, from the wake on: the spread of the samples' times, or -1 when one was missing */
static int64_t ask_all(struct bench_exchanges *exchanges, int64_t deadline_ns)
{
    double first = INFINITY, last = -INFINITY;
    int count = exchanges->count;

    for (int i = 0; i < count; i++)
        if (write(exchanges->fd[i], "T", 1) != 1)
            return -1;

    /* whoever was asked last answers last, or the read below says so */
    wait_for(exchanges, exchanges->fd[count - 1], deadline_ns);
    for (int i = 0; i < count; i++) {
        double sample[CHANNELS];
        ssize_t size = read(exchanges->fd[i], sample, sizeof sample);

        while (size < 0 && errno == EAGAIN && wait_for(exchanges, exchanges->fd[i], deadline_ns))
            size = read(exchanges->fd[i], sample, sizeof sample);
        if (size != sizeof sample)
            return -1;
        first = sample[1] < first ? sample[1] : first;
        last = sample[1] > last ? sample[1] : last;
    }
    return bench_now() <= deadline_ns ? (int64_t)(last - first) : -1;
}

static int asking_body(struct bench_run *run)
{
    struct bench_exchanges *exchanges = ((struct asking *)run)->exchanges;
    const struct bench_grid *grid = &run->grid;
    int64_t due_ns = bench_now() + 5 * grid->period_ns;
    int64_t cpu_ns = cpu_now();

    exchanges->waits = 0;
    for (int i = 0; i < grid->cycles; i++, due_ns += grid->period_ns) {
        bench_sleep_until(due_ns);
        exchanges->skew_ns[i] = ask_all(exchanges, due_ns + exchanges->deadline_ns);

        /* what is missing may still come, and is no answer to the next request */
        if (exchanges->skew_ns[i] < 0) {
            bench_sleep_until(due_ns + grid->period_ns * 9 / 10);
            drain(exchanges);
        }
        while (bench_now() > due_ns + grid->period_ns)
            due_ns += grid->period_ns;
    }
    exchanges->cpu_ns = cpu_now() - cpu_ns;
    return grid->cycles;
}

int bench_exchanges(const struct bench_grid *grid, struct bench_exchanges *exchanges)
{
    struct asking asking = {{*grid, asking_body, 0}, exchanges};

    return bench_run(&asking.run);
}
