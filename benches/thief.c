/* Those that make cycles late on purpose, for attribution.py. They look at a page of times: each
   does its deed until its time has come.

     thief hog PAGE PRIORITY CPU      computes on that core
     thief flood PAGE PRIORITY CPU    sends datagrams, which the kernel copies to many sockets
     thief device PAGE PRIORITY CPU   answers as a force sensor, and says nothing until its time

   Built as a library and loaded before others, it is code of the cycle thread: after its waits it
   computes, or touches new memory. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS 3000
#define FLOOD_PORT 49177
#define DEVICE_PORT 49178
#define FRESH_BYTES (4 << 20)

enum { HOG, FLOOD, SILENT, OWN_CODE, OWN_FAULTS, PRIORITY };

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static volatile int64_t *map(const char *path)
{
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    return page == MAP_FAILED ? NULL : page;
}

/* ---- in the cycle thread ----------------------------------------------------------------- */

static void be_slow(void)
{
    static volatile int64_t *page;
    struct sched_param param;

    if (!page && !(page = map(getenv("THIEF_PAGE"))))
        return;
    if (now() >= page[OWN_CODE] && now() >= page[OWN_FAULTS])
        return;
    if (sched_getparam(0, &param) < 0 || param.sched_priority != page[PRIORITY])
        return; /* another thread */
    while (now() < page[OWN_CODE])
        ;
    while (now() < page[OWN_FAULTS]) {
        char *fresh = mmap(NULL, FRESH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0);

        if (fresh == MAP_FAILED)
            return;
        for (size_t at = 0; at < FRESH_BYTES && now() < page[OWN_FAULTS]; at += 4096)
            fresh[at] = 1;
        munmap(fresh, FRESH_BYTES);
    }
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    static int (*real)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
    int rc;

    if (!real)
        real = (int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))dlsym(
            RTLD_NEXT, "ppoll");
    rc = real(fds, count, timeout, mask);
    be_slow();
    return rc;
}

/* ---- programs ---------------------------------------------------------------------------- */

static void wait_for(volatile int64_t *page, int which)
{
    struct timespec moment = {0, 200000};

    while (now() >= page[which])
        nanosleep(&moment, NULL);
}

static void flood(volatile int64_t *page)
{
    struct rlimit many = {SOCKETS + 64, SOCKETS + 64};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(FLOOD_PORT)};
    struct ip_mreq group = {.imr_interface.s_addr = htonl(INADDR_LOOPBACK)};
    struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    int one = 1, from;

    setrlimit(RLIMIT_NOFILE, &many);
    inet_aton("239.1.2.3", &group.imr_multiaddr);
    to.sin_addr = group.imr_multiaddr;
    for (int i = 0; i < SOCKETS; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&to, sizeof to) < 0 ||
            setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) < 0)
            break;
    }
    from = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(from, IPPROTO_IP, IP_MULTICAST_IF, &loopback, sizeof loopback);
    for (;;) {
        wait_for(page, FLOOD);
        while (now() < page[FLOOD])
            sendto(from, "x", 1, 0, (struct sockaddr *)&to, sizeof to);
    }
}

static void answer(volatile int64_t *page)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(DEVICE_PORT),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    uint32_t number = 0;

    bind(fd, (struct sockaddr *)&here, sizeof here);
    for (;;) {
        uint32_t reply[9] = {0};
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        char asked[64];

        recvfrom(fd, asked, sizeof asked, 0, (struct sockaddr *)&from, &size);
        if (now() < page[SILENT])
            continue;
        reply[0] = htonl(1);
        reply[1] = htonl(++number);
        sendto(fd, reply, sizeof reply, 0, (struct sockaddr *)&from, size);
    }
}

int main(int count, char **argument)
{
    struct sched_param param;
    volatile int64_t *page;
    cpu_set_t set;

    if (count != 5 || !(page = map(argument[2])))
        return 64;
    CPU_ZERO(&set);
    CPU_SET((size_t)atoi(argument[4]), &set);
    sched_setaffinity(0, sizeof set, &set);
    param.sched_priority = atoi(argument[3]);
    if (param.sched_priority)
        sched_setscheduler(0, SCHED_FIFO, &param);
    if (!strcmp(argument[1], "flood"))
        flood(page);
    if (!strcmp(argument[1], "device"))
        answer(page);
    for (;;) {
        wait_for(page, HOG);
        while (now() < page[HOG])
            ;
    }
}
