/* Devices behind a file descriptor: serial lines, connected datagram sockets and raw CAN sockets,
   all non-blocking. A trigger, a command and a receive are one system call each. A receive on CAN
   takes up to CAN_BATCH frames.

   Datagrams have the kernel's receive stamp, of the wall clock. It is mapped to the monotonic clock
   by the offset that note_wall_clock found in this cycle. A datagram from before the trigger is no
   reply to it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/can.h>
#include <linux/can/error.h>
#include <linux/can/raw.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "actuator.h"
#include "clock.h"
#include "core.h"
#include "descriptor.h"
#include "device.h"
#include "encode.h"
#include "exchange.h"
#include "guard.h"
#include "packet.h"
#include "reference.h"
#include "sensor.h"
#include "statistics.h"

#define CAN_BATCH 16
/* a stamp that is further off is not of this machine's clock */
#define STAMP_FAR_NS 10000000000LL

/* room for the kernel's data beside a datagram */
union control {
    struct cmsghdr header;
    uint8_t bytes[CMSG_SPACE(sizeof(struct timespec)) + 64];
};

void fd_prepare(int fd, bool can)
{
    int on = 1;
    can_err_mask_t all = CAN_ERR_MASK;

    /* a descriptor without stamps refuses this, and does without. The kernel switches its stamps on
       a moment later: packets until then are stamped when they are read */
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    if (can)
        setsockopt(fd, SOL_CAN_RAW, CAN_RAW_ERR_FILTER, &all, sizeof all);
}

static int64_t stamp_of(struct msghdr *message)
{
    struct timespec stamp;

    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at))
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_TIMESTAMPNS &&
            at->cmsg_len >= CMSG_LEN(sizeof stamp)) {
            memcpy(&stamp, CMSG_DATA(at), sizeof stamp);
            return stamp.tv_sec * 1000000000LL + stamp.tv_nsec;
        }
    return INPHASE_ABSENT;
}

/* Was the wall clock set since this cycle's look at it? ahead_ns: its present offset. A thread that
   was held up between the two readings looks again */
static bool wall_clock_moved(struct inphase_core *core, int64_t ahead_ns, int64_t slack_ns)
{
    int64_t error_ns = 0, moved_ns = ahead_ns - core->wall_offset_ns;

    if (moved_ns > slack_ns || moved_ns < -slack_ns)
        moved_ns = wall_offset(core, &error_ns) - core->wall_offset_ns;
    return moved_ns > slack_ns + error_ns || moved_ns < -slack_ns - error_ns;
}

/* Note the arrival of a datagram in the sensor's stamps, between its trigger, if it has one, and
   now_ns. INT64_MAX: unknown, for example because the wall clock was set. false: it came before the
   trigger, by more than the error of the mapping. */
static bool take_stamp(struct inphase_core *core, struct sensor *sensor, struct msghdr *message,
                       int64_t now_ns)
{
    int64_t stamp_ns = stamp_of(message);
    int64_t slack_ns = core->wall_error_ns + core->period_ns / 1000; /* NTP slews by 500 ppm */
    int64_t first_ns = sensor->free_running ? core->wall_since_ns : sensor->triggered_ns;
    int64_t arrived_ns, wall_ns;

    sensor->stamps.received_ns = INT64_MAX;
    if (stamp_ns == INPHASE_ABSENT || first_ns < core->wall_since_ns || first_ns == INT64_MAX)
        return true;
    wall_ns = core->clock->wall(core);
    if (wall_clock_moved(core, wall_ns - now_ns, slack_ns))
        return true;
    arrived_ns = stamp_ns - core->wall_offset_ns;
    if (arrived_ns < first_ns || arrived_ns > now_ns) {
        if (sensor->free_running || arrived_ns < first_ns - STAMP_FAR_NS ||
            arrived_ns > now_ns + slack_ns)
            return true;
        if (arrived_ns + slack_ns < first_ns)
            return false;
        arrived_ns = arrived_ns > now_ns ? now_ns : first_ns;
    }
    sensor->stamps.received_ns = arrived_ns;
    return true;
}

/* a reply to another trigger came while a reply is expected */
static void note_slip(struct inphase_core *core, struct sensor *sensor)
{
    if (sensor->outstanding)
        slip(core, sensor);
}

/* the output queue is full: the line does not move, or is slower than the writes. A CAN device
   whose frames nobody acknowledges gives ENOBUFS */
static bool queue_is_full(int error)
{
    return error == EAGAIN || error == ENOBUFS;
}

/* a closed UDP port is told at the next call on the socket: the peer is away, the socket is fine */
static bool peer_refused(struct device *device, int error)
{
    if (error != ECONNREFUSED)
        return false;
    device->refused = true;
    return true;
}

/* Send several datagrams in one call: how many were, or -1 with errno */
static int send_chunks(int fd, const uint8_t *bytes, uint32_t chunks, uint32_t chunk)
{
    struct iovec part[MAX_CHUNKS];
    struct mmsghdr message[MAX_CHUNKS];

    for (uint32_t i = 0; i < chunks; i++) {
        /* nothing is written to them */
        part[i] = (struct iovec){.iov_base = (void *)(uintptr_t)(bytes + i * chunk),
                                 .iov_len = chunk};
        message[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &part[i], .msg_iovlen = 1}};
    }
    return sendmmsg(fd, message, chunks, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int fd_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    ssize_t sent;

    (void)core;
    (void)now_ns;
    if (spec->request_size == 0)
        return 0;
    if (spec->request_chunk) {
        /* what was not sent has no reply, and the rules of silence follow */
        sent = send_chunks(sensor->device->fd, spec->request,
                           spec->request_size / spec->request_chunk, spec->request_chunk);
        return sent >= 0 || queue_is_full(errno) || peer_refused(sensor->device, errno) ? 0
                                                                                        : -errno;
    }
    sent = write(sensor->device->fd, spec->request, spec->request_size);
    if (sent < 0 && peer_refused(sensor->device, errno))
        sent = write(sensor->device->fd, spec->request, spec->request_size);
    if (sent == (ssize_t)spec->request_size)
        return 0;

    /* a full output queue means that the line does not move: no reply will come, and the rules of
       silence follow */
    return sent >= 0 || queue_is_full(errno) || peer_refused(sensor->device, errno) ? 0 : -errno;
}

/* the error frames of a CAN controller. Bus-off and a transmit timeout lose the device; any other
   is counted and changes nothing */
static int take_error(struct inphase_core *core, struct device *device,
                      const struct canfd_frame *frame)
{
    if (frame->can_id & CAN_ERR_BUSOFF) {
        device->lost_reason = INPHASE_REASON_BUS_OFF;
        device->lost_detail = frame->data[6];
        return -ECOMM;
    }
    if (frame->can_id & CAN_ERR_TX_TIMEOUT) {
        device->lost_reason = INPHASE_REASON_DEVICE;
        device->lost_detail = frame->can_id & CAN_ERR_MASK;
        return -ETIMEDOUT;
    }
    if (frame->can_id & CAN_ERR_CRTL &&
        frame->data[1] & (CAN_ERR_CRTL_RX_PASSIVE | CAN_ERR_CRTL_TX_PASSIVE))
        count_add(core->statistics, COUNT_ERROR_PASSIVE, 1);
    return 0;
}

/* one CAN frame, as part of a set in any order */
static int take_frame(struct inphase_core *core, struct sensor *sensor, struct mmsghdr *message,
                      enum received *got)
{
    const struct canfd_frame *frame = message->msg_hdr.msg_iov->iov_base;
    struct inphase_parser *parser = &sensor->parser;
    uint32_t size = message->msg_len, left_over = parser->left_over;
    int64_t received_ns = sensor->stamps.received_ns;
    int rc;

    if (size == 0)
        return -EIO;
    if (size >= CAN_MTU && frame->can_id & CAN_ERR_FLAG)
        return take_error(core, sensor->device, frame);
    if (*got == RECEIVED_REFUSED)
        return 0;
    if (size >= CAN_MTU && !inphase_parser_wants(parser, frame->can_id)) {
        count_add(core->statistics, COUNT_FOREIGN_FRAMES, 1);
        return 0;
    }
    sensor->bytes_in += size;
    if (size >= CAN_MTU && parser_answers(parser, frame->can_id))
        return 0;
    if (*got == RECEIVED_EMPTY)
        *got = RECEIVED_PART;
    if (!take_stamp(core, sensor, &message->msg_hdr, core->clock->now(core))) {
        sensor->stamps.received_ns = received_ns;
        note_slip(core, sensor);
        return 0;
    }
    rc = parser_feed(parser, (const uint8_t *)frame, size);
    if (parser->left_over != left_over) {
        /* either it or the frame before may belong to another trigger */
        sensor->stamps.received_ns = received_ns;
        note_slip(core, sensor);
    }
    if (rc < 0)
        *got = RECEIVED_REFUSED;
    else if (rc == 1)
        *got = RECEIVED_SAMPLE;
    return 0;
}

static int can_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    struct canfd_frame frame[CAN_BATCH];
    struct iovec part[CAN_BATCH];
    struct mmsghdr message[CAN_BATCH];
    union control control[CAN_BATCH];

    /* of a free-running device each frame is a sample */
    int room = sensor->free_running ? 1 : CAN_BATCH;
    int count, rc = 0;

    for (int i = 0; i < room; i++) {
        part[i] = (struct iovec){.iov_base = &frame[i], .iov_len = sizeof frame[i]};
        message[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &part[i], .msg_iovlen = 1,
                                                  .msg_control = &control[i],
                                                  .msg_controllen = sizeof control[i]}};
    }
    *got = RECEIVED_EMPTY;
    count = recvmmsg(sensor->device->fd, message, (unsigned)room, MSG_DONTWAIT, NULL);
    if (count < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (int i = 0; i < count && rc == 0; i++)
        rc = take_frame(core, sensor, &message[i], got);

    /* a full batch of other traffic: there may be more behind it */
    if (*got == RECEIVED_EMPTY && count == room)
        *got = RECEIVED_PART;
    return rc;
}

/* a datagram with its stamp; what is no socket gives it without one */
static ssize_t read_datagram(int fd, uint8_t *bytes, uint32_t room, struct msghdr *message,
                             union control *control)
{
    struct iovec part = {.iov_base = bytes, .iov_len = room};
    ssize_t size;

    *message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                               .msg_controllen = sizeof *control};
    size = recvmsg(fd, message, MSG_DONTWAIT);
    if (size < 0 && errno == ENOTSOCK) {
        message->msg_controllen = 0;
        size = read(fd, bytes, room);
    }
    message->msg_iov = NULL;
    return size;
}

/* The parser's result. Of a free-running device: the newest good packet that is there; refused ones
   before or behind it are left out. Where it gives bursts: the next one. */
static void take_packets(struct inphase_core *core, struct sensor *sensor, int rc,
                         enum received *got)
{
    struct inphase_parser *parser = &sensor->parser;

    while (sensor->free_running && rc == 1 && parser->more && !sensor->burst.most) {
        double value[INPHASE_MAX_VALUES];
        uint64_t sequence = parser->sequence, clock = parser->clock;

        memcpy(value, parser->value, sensor->channels * sizeof *value);
        parser_next(parser);
        do
            rc = parser_feed(parser, NULL, 0);
        while (rc < 0 && parser->more);
        if (rc == 1) {
            count_add(core->statistics, COUNT_PASSED, 1);
            continue;
        }
        memcpy(parser->value, value, sensor->channels * sizeof *value);
        parser->sequence = sequence;
        parser->clock = clock;
        rc = 1;
        break;
    }
    if (rc < 0)
        *got = RECEIVED_REFUSED;
    else if (rc == 1)
        *got = RECEIVED_SAMPLE;
}

/* The line was empty at looked_ns: has the packet that it brought ended? It was received with its
   last byte, not with the silence behind it */
static void end_packet(struct inphase_core *core, struct sensor *sensor, int64_t looked_ns,
                       enum received *got)
{
    if (looked_ns < silence_ends_ns(sensor))
        return;
    sensor->stamps.received_ns = sensor->byte_ns;
    take_packets(core, sensor, parser_end(&sensor->parser), got);
}

static int fd_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    uint8_t bytes[INPHASE_MAX_PACKET];
    struct inphase_parser *parser = &sensor->parser;
    bool datagram = parser->exchange.spec.framing.datagram;

    /* all bytes that are read have to fit into the parser beside those that it holds */
    bool by_silence = parser->exchange.spec.framing.idle_ns > 0;
    uint32_t room = datagram || by_silence ? sizeof bytes : sizeof bytes - parser->size;

    /* each look at the clock counts with many sensors */
    int64_t looked_ns = by_silence ? core->clock->now(core) : 0;
    union control control;
    struct msghdr message;
    ssize_t size;

    if (parser->exchange.spec.framing.can)
        return can_receive(core, sensor, got);
    *got = RECEIVED_EMPTY;
    if (parser->more) {
        /* bytes of the read before, beyond its packet */
        take_packets(core, sensor, parser_feed(parser, NULL, 0), got);
        if (*got != RECEIVED_EMPTY)
            return 0;
    }
    size = datagram ? read_datagram(sensor->device->fd, bytes, sizeof bytes, &message, &control)
                    : read(sensor->device->fd, bytes, room);
    if (size < 0 && errno == EAGAIN) {
        end_packet(core, sensor, looked_ns, got);
        return 0;
    }
    if (size < 0)
        return peer_refused(sensor->device, errno) ? 0 : -errno;
    sensor->byte_ns = core->clock->now(core);

    /* end of file: the other side of the line is gone */
    if (size == 0 && !datagram)
        return -EIO;
    sensor->device->refused = false;
    sensor->bytes_in += (uint64_t)size;
    *got = RECEIVED_PART;
    if (datagram && !take_stamp(core, sensor, &message, sensor->byte_ns)) {
        note_slip(core, sensor);
        return 0;
    }
    take_packets(core, sensor, parser_feed(parser, bytes, (uint32_t)size), got);
    return 0;
}

/* a command of several datagrams: all of them, or -EAGAIN and how many */
static int write_chunks(struct actuator *actuator, const uint8_t *bytes, uint32_t size,
                        uint32_t chunk)
{
    uint32_t chunks = size / chunk;
    int sent = send_chunks(actuator->device->fd, bytes, chunks, chunk);

    if (sent == (int)chunks)
        return 0;
    actuator->detail = sent < 0 ? 0 : (uint32_t)sent;
    return sent >= 0 || queue_is_full(errno) || peer_refused(actuator->device, errno) ? -EAGAIN
                                                                                      : -errno;
}

static int fd_write(struct inphase_core *core, struct actuator *actuator)
{
    uint8_t bytes[INPHASE_MAX_PACKET];
    uint32_t chunk = actuator->encoding.chunk;
    int32_t size;
    ssize_t sent;

    if (actuator->stops == STOPS_BYTES) {
        size = (int32_t)actuator->stop.size;
        chunk = actuator->stop.chunk;
        memcpy(bytes, actuator->stop_bytes, (size_t)size);
    } else {
        size = encode(&actuator->encoding, actuator->checksum.table, actuator->applied, bytes,
                      sizeof bytes);
    }
    if (size < 0)
        return -EAGAIN;
    if (actuator->stops != STOPS_BYTES)
        reference_put(core, actuator, bytes);
    guard_leave(core, actuator, bytes, (uint32_t)size);
    if (actuator->device->sensor >= 0)
        inphase_parser_owe(&core->sensor[actuator->device->sensor].parser);
    if (chunk)
        return write_chunks(actuator, bytes, (uint32_t)size, chunk);
    sent = write(actuator->device->fd, bytes, (size_t)size);
    if (sent < 0 && !queue_is_full(errno))
        return peer_refused(actuator->device, errno) ? -EAGAIN : -errno;
    return sent == size ? 0 : -EAGAIN;
}

const struct device_ops fd_ops = {
    .trigger = fd_trigger,
    .receive = fd_receive,
    .write = fd_write,
};
