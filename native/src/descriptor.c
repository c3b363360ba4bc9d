/* Devices behind a file descriptor: serial lines, connected datagram sockets and raw CAN sockets,
   non-blocking. A trigger is one system call, a command is one, and so is a receive; a receive on
   CAN takes as many frames as are there, up to CAN_BATCH. */
#define _GNU_SOURCE
#include <linux/can.h>
#include <linux/can/error.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

#define CAN_BATCH 16

/* the output queue is full: the line does not move, or not as fast as it is written to. A CAN
   device whose frames nobody acknowledges says ENOBUFS */
static bool queue_is_full(int error)
{
    return error == EAGAIN || error == ENOBUFS;
}

/* a closed UDP port says so at the next call on the socket: the peer is away, the socket is not */
static bool peer_refused(struct device *device, int error)
{
    if (error != ECONNREFUSED)
        return false;
    device->refused = true;
    return true;
}

static int fd_trigger(struct inphase_core *core, struct sensor *sensor, int64_t now_ns)
{
    const struct inphase_exchange *spec = &sensor->parser.exchange.spec;
    ssize_t sent;

    (void)core;
    (void)now_ns;
    if (spec->request_size == 0)
        return 0;
    sent = write(sensor->device->fd, spec->request, spec->request_size);
    if (sent < 0 && peer_refused(sensor->device, errno))
        sent = write(sensor->device->fd, spec->request, spec->request_size);
    if (sent == (ssize_t)spec->request_size)
        return 0;

    /* a full or half-taken output queue means that the line does not move: no reply will come, and
       the silence rules see to the rest */
    return sent >= 0 || queue_is_full(errno) || peer_refused(sensor->device, errno) ? 0 : -errno;
}

/* what a CAN controller says of itself. Bus-off and a transmit timeout lose the device; all else is
   told and changes nothing */
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
static int take_frame(struct inphase_core *core, struct sensor *sensor,
                      const struct canfd_frame *frame, uint32_t size, enum received *got)
{
    struct inphase_parser *parser = &sensor->parser;
    uint32_t foreign = parser->foreign, left_over = parser->left_over;
    int rc;

    if (size == 0)
        return -EIO;
    if (size >= CAN_MTU && frame->can_id & CAN_ERR_FLAG)
        return take_error(core, sensor->device, frame);
    if (*got == RECEIVED_REFUSED)
        return 0;
    rc = parser_feed(parser, (const uint8_t *)frame, size);
    if (parser->foreign != foreign) {
        count_add(core->statistics, COUNT_FOREIGN_FRAMES, 1);
        return 0;
    }
    sensor->bytes_in += size;
    if (parser->left_over != left_over && sensor->outstanding) {
        /* of it and the one before, which is of this trigger is not known */
        sensor->suspect = true;
        count_add(core->statistics, COUNT_SLIPS, 1);
    }
    if (rc < 0)
        *got = RECEIVED_REFUSED;
    else if (rc == 1)
        *got = RECEIVED_SAMPLE;
    else if (*got == RECEIVED_EMPTY)
        *got = RECEIVED_PART;
    return 0;
}

static int can_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    struct canfd_frame frame[CAN_BATCH];
    struct iovec part[CAN_BATCH];
    struct mmsghdr message[CAN_BATCH];
    int count, rc = 0;

    for (int i = 0; i < CAN_BATCH; i++) {
        part[i] = (struct iovec){.iov_base = &frame[i], .iov_len = sizeof frame[i]};
        message[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &part[i], .msg_iovlen = 1}};
    }
    *got = RECEIVED_EMPTY;
    count = recvmmsg(sensor->device->fd, message, CAN_BATCH, MSG_DONTWAIT, NULL);
    if (count < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (int i = 0; i < count && rc == 0; i++)
        rc = take_frame(core, sensor, &frame[i], message[i].msg_len, got);

    /* a full batch of other traffic: there may be more behind it */
    if (*got == RECEIVED_EMPTY && count == CAN_BATCH)
        *got = RECEIVED_PART;
    return rc;
}

static int fd_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    uint8_t bytes[INPHASE_MAX_PACKET];
    uint32_t dropped = sensor->parser.dropped;
    ssize_t size;
    int rc;

    if (sensor->parser.exchange.spec.framing.can)
        return can_receive(core, sensor, got);
    size = read(sensor->device->fd, bytes, sizeof bytes);
    *got = RECEIVED_EMPTY;
    if (size < 0)
        return errno == EAGAIN || peer_refused(sensor->device, errno) ? 0 : -errno;

    /* end of file: the other side of the line is gone */
    if (size == 0 && !sensor->parser.exchange.spec.framing.datagram)
        return -EIO;
    sensor->device->refused = false;
    sensor->bytes_in += (uint64_t)size;
    *got = RECEIVED_PART;
    rc = parser_feed(&sensor->parser, bytes, (uint32_t)size);
    if (sensor->parser.dropped != dropped)
        count_add(core->statistics, COUNT_DROPPED_BYTES, sensor->parser.dropped - dropped);
    if (rc < 0)
        *got = RECEIVED_REFUSED;
    else if (rc == 1)
        *got = RECEIVED_SAMPLE;
    return 0;
}

/* a command of several datagrams: all of them, or -EAGAIN and how many */
static int write_chunks(struct actuator *actuator, uint8_t *bytes, uint32_t size)
{
    struct iovec part[MAX_CHUNKS];
    struct mmsghdr message[MAX_CHUNKS];
    uint32_t chunk = actuator->encoding.chunk, chunks = size / chunk;
    int sent;

    for (uint32_t i = 0; i < chunks; i++) {
        part[i] = (struct iovec){.iov_base = bytes + i * chunk, .iov_len = chunk};
        message[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &part[i], .msg_iovlen = 1}};
    }
    sent = sendmmsg(actuator->device->fd, message, chunks, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (int)chunks)
        return 0;
    actuator->detail = sent < 0 ? 0 : (uint32_t)sent;
    return sent >= 0 || queue_is_full(errno) || peer_refused(actuator->device, errno) ? -EAGAIN
                                                                                      : -errno;
}

static int fd_write(struct inphase_core *core, struct actuator *actuator)
{
    uint8_t bytes[INPHASE_MAX_PACKET];
    int32_t size = inphase_encode(&actuator->encoding, actuator->applied, bytes, sizeof bytes);
    ssize_t sent;

    (void)core;
    if (size < 0)
        return -EAGAIN;
    if (actuator->encoding.chunk)
        return write_chunks(actuator, bytes, (uint32_t)size);
    sent = write(actuator->device->fd, bytes, (size_t)size);
    if (sent < 0 && !queue_is_full(errno))
        return peer_refused(actuator->device, errno) ? -EAGAIN : -errno;
    return sent == size ? 0 : -EAGAIN;
}

const struct device_ops fd_ops = {
    .trigger = fd_trigger, .receive = fd_receive, .write = fd_write,
};
