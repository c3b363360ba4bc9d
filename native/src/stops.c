/* The thread that hands stops to the core: from keys, signals, and the process that runs the robot.
   It waits for its descriptors and for nothing else. It takes no lock and calls no Python. Its
   messages to the supervisor are dropped if there is no room. So a thread that waits (Python for a
   driver, a writer for a terminal) delays no stop: one atomic word of the core stops the robot.

   One poll over at most four descriptors; each turn reads at most READ_BYTES of each. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../inphase.h"

#define READ_BYTES 64
#define ARM_KEY 'a'

enum source { KEYS, SIGNALS, LINE, END, SOURCES };

/* constant after the start, except for `source` and `signals`, which are the thread's */
struct inphase_stops {
    inphase_core *core;
    struct pollfd source[SOURCES]; /* fd -1: there is none, or it has ended */
    int told_fd;
    uint32_t signals;              /* SIGINT, SIGQUIT and SIGTERM so far; the thread's */
    int end_fd;                    /* an eventfd: readable once the thread is to end */
    pthread_t thread;
};

static void tell(const struct inphase_stops *stops, const char *keys, size_t count)
{
    /* the supervisor may hear it late or never; the core has been told */
    if (stops->told_fd >= 0 && write(stops->told_fd, keys, count) < 0)
        return;
}

static bool is_passing(ssize_t count)
{
    return count < 0 && (errno == EAGAIN || errno == EINTR);
}

/* each of these returns false once its descriptor has ended */

static bool take_keys(struct inphase_stops *stops)
{
    char key[READ_BYTES];
    ssize_t count = read(stops->source[KEYS].fd, key, sizeof key);

    if (is_passing(count))
        return true;

    /* a terminal that is gone is a stop; one that another process has taken is none */
    if (count <= 0) {
        if (count == 0 || stops->source[KEYS].revents & POLLHUP)
            inphase_core_stop(stops->core, INPHASE_REASON_SIGNAL, SIGHUP);
        return false;
    }
    for (ssize_t i = 0; i < count; i++)
        if (key[i] == ' ' || key[i] == 'e' || key[i] == 'E')
            inphase_core_estop(stops->core, INPHASE_ESTOP_LOCAL);
    tell(stops, key, (size_t)count);
    return true;
}

static bool take_signals(struct inphase_stops *stops)
{
    static const char arm[] = {ARM_KEY};
    uint8_t number[READ_BYTES];
    ssize_t count = read(stops->source[SIGNALS].fd, number, sizeof number);

    for (ssize_t i = 0; i < count; i++) {
        switch (number[i]) {
        case SIGINT:
        case SIGQUIT:
        case SIGTERM:
            /* a second one shortens a park; a closed terminal is often told twice */
            if (stops->signals++)
                inphase_core_hurry(stops->core);
            inphase_core_stop(stops->core, INPHASE_REASON_SIGNAL, number[i]);
            break;
        case SIGHUP:
            inphase_core_stop(stops->core, INPHASE_REASON_SIGNAL, number[i]);
            break;
        case SIGUSR1:
            tell(stops, arm, sizeof arm);
            break;
        default:
            break;
        }
    }
    return count > 0 || is_passing(count);
}

static bool take_line(struct inphase_stops *stops)
{
    char word[READ_BYTES];
    ssize_t count = recv(stops->source[LINE].fd, word, sizeof word, MSG_DONTWAIT);

    if (is_passing(count))
        return true;
    if (count <= 0) {
        inphase_core_stop(stops->core, INPHASE_REASON_PARENT, 0);
        return false;
    }
    for (ssize_t i = 0; i < count; i++) {
        if (word[i] == 'e')
            inphase_core_estop(stops->core, INPHASE_ESTOP_LOCAL);
        else if (word[i] == 's')
            inphase_core_stop(stops->core, INPHASE_REASON_REQUEST, 0);
        else if (word[i] == 'h')
            inphase_core_hurry(stops->core);
    }
    return true;
}

static void *stops_main(void *argument)
{
    static bool (*const take[])(struct inphase_stops *) = {
        [KEYS] = take_keys, [SIGNALS] = take_signals, [LINE] = take_line};
    struct inphase_stops *stops = argument;

    while (!stops->source[END].revents) {
        if (poll(stops->source, SOURCES, -1) < 0)
            continue; /* no memory for a moment; signals are blocked */
        for (int i = 0; i < END; i++)
            if (stops->source[i].revents && !take[i](stops))
                stops->source[i].fd = -1;
    }
    return NULL;
}

int inphase_stops_open(inphase_stops **out, inphase_core *core,
                       const struct inphase_stops_config *config)
{
    struct inphase_stops *stops = calloc(1, sizeof *stops);
    sigset_t all, before;
    int rc;

    if (!stops)
        return -ENOMEM;
    stops->core = core;
    stops->told_fd = config->told_fd;
    stops->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stops->end_fd < 0) {
        rc = errno;
        goto free_stops;
    }
    stops->source[KEYS].fd = config->keys_fd;
    stops->source[SIGNALS].fd = config->signals_fd;
    stops->source[LINE].fd = config->line_fd;
    stops->source[END].fd = stops->end_fd;
    for (int i = 0; i < SOURCES; i++)
        stops->source[i].events = POLLIN;

    /* with SIGTTIN blocked, a terminal that another process has taken gives an error, and does not
       stop this process */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&stops->thread, NULL, stops_main, stops);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        goto close_end;
    pthread_setname_np(stops->thread, "inphase stops");
    *out = stops;
    return 0;

close_end:
    close(stops->end_fd);
free_stops:
    free(stops);
    return -rc;
}

void inphase_stops_close(inphase_stops *stops)
{
    if (!stops)
        return;
    if (eventfd_write(stops->end_fd, 1) == 0)
        pthread_join(stops->thread, NULL);
    close(stops->end_fd);
    free(stops);
}
