/* A command on its way out of a descriptor: what the guard finds on its page when the bytes leave,
   and what is said of a line that takes a part of them. The linker leads the core's writes through
   this file (--wrap), so that the page is looked at in the moment of the system call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "../src/actuator.h"
#include "../src/clock.h"
#include "../src/core.h"
#include "../src/descriptor.h"
#include "../src/device.h"
#include "../src/guard.h"
#include "../src/guard_page.h"
#include "check.h"

#define MS 1000000LL
#define SIZE 24
#define CHUNK 8

static struct inphase_core *core;
static struct device device;
static struct actuator *actuator;
static const struct guard_page *seen; /* as the guard maps it */
static struct guard_layout layout;    /* its copy */
static struct guard_record found;
static int page_fd;
static const struct inphase_limits *limits; /* of the actuator; NULL: what bounds it does not
                                               matter */
static int writes;          /* of the device, so far */
static ssize_t took;        /* of the last one, what the system call returned */

ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
int __real_sendmmsg(int fd, struct mmsghdr *message, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *message, unsigned count, int flags);

/* these bytes are about to leave: the guard can stop the device already */
static void look(const void *bytes, size_t size)
{
    writes++;
    CHECK_EQUAL(seen->moving, 1);
    CHECK(guard_page_record(seen, &layout, &found));
    if (actuator->stop.kind == INPHASE_STOP_HOLD) {
        CHECK(size <= found.size[0]);
        CHECK(memcmp(found.bytes + layout.stop[0].offset, bytes, size) == 0);
    } else if (actuator->stop.kind == INPHASE_STOP_BYTES) {
        CHECK_EQUAL(found.size[0], 4);
        CHECK_EQUAL(found.bytes[layout.stop[0].offset], 0x80);
    }
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
    if (fd == device.fd)
        look(bytes, size);
    return took = __real_write(fd, bytes, size);
}

int __wrap_sendmmsg(int fd, struct mmsghdr *message, unsigned count, int flags)
{
    if (fd == device.fd)
        look(message[0].msg_hdr.msg_iov->iov_base, message[0].msg_hdr.msg_iov->iov_len);
    return __real_sendmmsg(fd, message, count, flags);
}

static void open_core(int fd, uint32_t stop, uint32_t chunk)
{
    static const uint8_t brake[] = {0x80, 0, 0, 1};
    int32_t life_fd;

    core = calloc(1, sizeof *core);
    CHECK(core);
    core->clock = &monotonic_clock;
    core->actuators = 1;
    device = (struct device){.fd = fd, .ops = &fd_ops, .attached = true};
    actuator = &core->actuator[0];
    actuator->device = &device;
    actuator->channels = 1;
    actuator->field[0] = (struct inphase_field){4, INPHASE_F32, 0, 0, 1, 0};
    actuator->encoding = (struct inphase_encoding){.packet = actuator->packet, .packet_size = SIZE,
                                                   .fields = 1, .field = actuator->field,
                                                   .chunk = chunk};
    actuator->stop = (struct inphase_stop){.kind = stop};
    if (limits)
        CHECK_EQUAL(inphase_limiter_make(&actuator->limiter[0], limits, 0.002), 0);
    if (stop == INPHASE_STOP_BYTES) {
        actuator->stop.size = sizeof brake;
        memcpy(actuator->stop_bytes, brake, sizeof brake);
    }
    page_fd = inphase_core_guard(core, 20 * MS, &life_fd);
    CHECK(page_fd >= 0);
    close(life_fd);
    seen = mmap(NULL, core->guard.page->layout.size, PROT_READ, MAP_SHARED, page_fd, 0);
    CHECK(seen != MAP_FAILED);
    CHECK(guard_page_take(seen, core->guard.page->layout.size, &layout));
    writes = 0;
}

static void close_core(void)
{
    munmap((void *)(uintptr_t)seen, layout.size);
    close(page_fd);
    guard_close(core);
    free(core);
}

static int command(double value)
{
    actuator->applied[0] = value;
    return fd_ops.write(core, actuator);
}

static void the_stop_is_on_the_page_before_any_byte_of_a_command_leaves(void)
{
    static const uint32_t stops[] = {INPHASE_STOP_HOLD, INPHASE_STOP_BYTES};

    for (int i = 0; i < 4; i++) {
        uint32_t chunk = i / 2 ? CHUNK : 0;
        int fd[2];

        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fd), 0);
        open_core(fd[0], stops[i % 2], chunk);
        CHECK_EQUAL(seen->moving, 0);
        for (int n = 0; n < 10; n++) {
            uint8_t bytes[SIZE];

            CHECK_EQUAL(command(n), 0);
            CHECK_EQUAL(writes, n + 1);
            for (uint32_t left = SIZE; left; left -= chunk ? chunk : SIZE)
                CHECK_EQUAL(read(fd[1], bytes, sizeof bytes), chunk ? chunk : SIZE);
        }
        close_core();
        close(fd[0]);
        close(fd[1]);
    }
}

/* without its runtime a joint gets no velocity, its safe effort, and its declared state */
static void the_stop_of_a_joint_that_goes_on_by_itself_is_its_rest(void)
{
    static const struct {
        struct inphase_limits limits;
        float rest;
    } modes[] = {
        {{.low = -1, .high = 1, .velocity = 2, .acceleration = 20, .mode = INPHASE_MODE_VELOCITY},
         0},
        {{.low = -1, .high = 1, .velocity = 2, .effort = 3, .rate = 100, .safe = 0.5,
          .mode = INPHASE_MODE_EFFORT}, 0.5F},
        {{.dwell_s = 0.01, .safe = 1, .mode = INPHASE_MODE_SWITCH}, 1},
    };
    float rest;

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        int fd[2];

        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fd), 0);
        limits = &modes[i].limits;
        open_core(fd[0], INPHASE_STOP_ZERO, 0);
        CHECK_EQUAL(command(0.25), 0);
        CHECK(guard_page_record(seen, &layout, &found));
        CHECK_EQUAL(found.size[0], SIZE);
        memcpy(&rest, found.bytes + layout.stop[0].offset + 4, sizeof rest);
        CHECK(rest == modes[i].rest);
        close_core();
        limits = NULL;
        close(fd[0]);
        close(fd[1]);
    }
}

/* a terminal whose other end does not read: at last it takes a part, and then nothing */
static void a_command_that_a_line_took_in_part_was_not_written(void)
{
    struct termios raw;
    int master, slave, parts = 0, rc;

    CHECK_EQUAL(openpty(&master, &slave, NULL, NULL, NULL), 0);
    CHECK_EQUAL(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    CHECK_EQUAL(tcsetattr(slave, TCSANOW, &raw), 0);
    CHECK_EQUAL(fcntl(slave, F_SETFL, O_NONBLOCK), 0);
    open_core(slave, INPHASE_STOP_HOLD, 0);
    do {
        rc = command(writes);
        CHECK_EQUAL(rc, took == SIZE ? 0 : -EAGAIN);
        parts += took > 0 && took < SIZE;
        CHECK(writes < 1000000);
    } while (took > 0);
    CHECK(parts > 0 && writes > 100);
    CHECK_EQUAL(command(0), -EAGAIN);
    close_core();
    close(slave);
    close(master);
}

int main(void)
{
    RUN(the_stop_is_on_the_page_before_any_byte_of_a_command_leaves);
    RUN(the_stop_of_a_joint_that_goes_on_by_itself_is_its_rest);
    RUN(a_command_that_a_line_took_in_part_was_not_written);
    return 0;
}
