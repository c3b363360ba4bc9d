/* Devices behind a file descriptor: serial lines and connected datagram sockets, non-blocking. */
#include <unistd.h>

#include "internal.h"

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
    ssize_t sent = write(sensor->device->fd, spec->request, spec->request_size);

    (void)core;
    (void)now_ns;
    if (sent < 0 && peer_refused(sensor->device, errno))
        sent = write(sensor->device->fd, spec->request, spec->request_size);
    if (sent == (ssize_t)spec->request_size)
        return 0;

    /* a full or half-taken output queue means that the line does not move: no reply will come, and
       the silence rules see to the rest */
    return sent >= 0 || errno == EAGAIN || peer_refused(sensor->device, errno) ? 0 : -errno;
}

static int fd_receive(struct inphase_core *core, struct sensor *sensor, enum received *got)
{
    uint8_t bytes[INPHASE_MAX_PACKET];
    uint32_t dropped = sensor->parser.dropped;
    ssize_t size = read(sensor->device->fd, bytes, sizeof bytes);
    int rc;

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

static int fd_write(struct inphase_core *core, struct actuator *actuator)
{
    uint8_t bytes[INPHASE_MAX_PACKET];
    int32_t size = inphase_encode(&actuator->encoding, actuator->applied, bytes, sizeof bytes);
    ssize_t sent;

    (void)core;
    if (size < 0)
        return -EAGAIN;
    sent = write(actuator->device->fd, bytes, (size_t)size);
    if (sent < 0 && errno != EAGAIN)
        return peer_refused(actuator->device, errno) ? -EAGAIN : -errno;
    return sent == size ? 0 : -EAGAIN;
}

const struct device_ops fd_ops = {
    .trigger = fd_trigger,
    .receive = fd_receive,
    .write = fd_write,
};
