/* Cameras behind Video4Linux: one plane, memory-mapped buffers. Off the cycle thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../inphase.h"

#define INTERRUPTED_MOST 100 /* in a row, by signals */
#define DRAINED_MOST 1000    /* by one call: a camera is never that fast */

struct inphase_video {
    int fd;
    uint32_t buffers;
    int32_t held; /* index of the buffer that the caller reads, -1: none */
    bool running;
    struct {
        uint8_t *memory;
        size_t size;
    } map[INPHASE_VIDEO_BUFFERS];
};

static int ask(int fd, unsigned long request, void *argument)
{
    int rc = -1;

    for (int i = 0; i < INTERRUPTED_MOST && rc < 0; i++) {
        rc = ioctl(fd, request, argument);
        if (rc < 0 && errno != EINTR)
            break;
    }
    return rc < 0 ? -errno : 0;
}

/* a node that captures single-plane images into memory-mapped buffers */
static int check_kind(int fd)
{
    struct v4l2_capability capability = {0};
    uint32_t can;
    int rc = ask(fd, VIDIOC_QUERYCAP, &capability);

    if (rc < 0)
        return rc == -EINVAL ? -ENOTTY : rc;
    can = capability.capabilities;
    if (can & V4L2_CAP_DEVICE_CAPS)
        can = capability.device_caps;
    return can & V4L2_CAP_VIDEO_CAPTURE && can & V4L2_CAP_STREAMING ? 0 : -ENOTSUP;
}

/* the driver may change the request without an error: its choice is written back */
static int set_format(int fd, struct inphase_video_format *format)
{
    struct v4l2_format asked = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
    int rc;

    asked.fmt.pix.width = format->width;
    asked.fmt.pix.height = format->height;
    asked.fmt.pix.pixelformat = format->fourcc;
    asked.fmt.pix.field = V4L2_FIELD_NONE;
    rc = ask(fd, VIDIOC_S_FMT, &asked);
    if (rc < 0)
        return rc;
    format->width = asked.fmt.pix.width;
    format->height = asked.fmt.pix.height;
    format->fourcc = asked.fmt.pix.pixelformat;
    format->line_bytes = asked.fmt.pix.bytesperline;
    format->image_bytes = asked.fmt.pix.sizeimage;
    format->interlaced = asked.fmt.pix.field != V4L2_FIELD_NONE;
    return 0;
}

/* a camera without a settable interval is fine */
static void set_interval(int fd, struct inphase_video_format *format)
{
    struct v4l2_streamparm parameters = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
    struct v4l2_fract *time = &parameters.parm.capture.timeperframe;
    int rc;

    if (format->interval && format->per) {
        time->numerator = format->interval;
        time->denominator = format->per;
        rc = ask(fd, VIDIOC_S_PARM, &parameters);
    } else {
        rc = ask(fd, VIDIOC_G_PARM, &parameters);
    }
    format->interval = format->per = 0;
    if (rc == 0 && time->numerator && time->denominator) {
        format->interval = time->numerator;
        format->per = time->denominator;
    }
}

static int queue(inphase_video *video, uint32_t index)
{
    struct v4l2_buffer buffer = {
        .index = index, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};

    return ask(video->fd, VIDIOC_QBUF, &buffer);
}

static int map_buffers(inphase_video *video, uint32_t count)
{
    struct v4l2_requestbuffers request = {
        .count = count, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
    int rc = ask(video->fd, VIDIOC_REQBUFS, &request);

    if (rc < 0)
        return rc;
    if (request.count < 2)
        return -ENOMEM;
    if (request.count > INPHASE_VIDEO_BUFFERS)
        return -E2BIG;
    for (uint32_t i = 0; i < request.count; i++) {
        struct v4l2_buffer buffer = {
            .index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
        void *memory;

        rc = ask(video->fd, VIDIOC_QUERYBUF, &buffer);
        if (rc < 0)
            return rc;
        memory = mmap(NULL, buffer.length, PROT_READ, MAP_SHARED, video->fd, buffer.m.offset);
        if (memory == MAP_FAILED)
            return -errno;
        video->map[i].memory = memory;
        video->map[i].size = buffer.length;
        video->buffers = i + 1;
    }
    return 0;
}

int inphase_video_open(inphase_video **out, const char *path, struct inphase_video_format *format,
                       uint32_t buffers)
{
    inphase_video *video = calloc(1, sizeof *video);
    int rc;

    if (!video)
        return -ENOMEM;
    video->held = -1;
    video->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (video->fd < 0) {
        rc = -errno;
        free(video);
        return rc;
    }
    rc = check_kind(video->fd);
    if (rc == 0)
        rc = set_format(video->fd, format);
    if (rc == 0) {
        set_interval(video->fd, format);
        rc = map_buffers(video, buffers);
    }
    if (rc < 0) {
        inphase_video_close(video);
        return rc;
    }
    *out = video;
    return 0;
}

void inphase_video_close(inphase_video *video)
{
    if (!video)
        return;
    inphase_video_stop(video);
    for (uint32_t i = 0; i < video->buffers; i++)
        munmap(video->map[i].memory, video->map[i].size);
    close(video->fd);
    free(video);
}

int inphase_video_offered(const char *path, uint32_t *fourcc, uint32_t room)
{
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    uint32_t count = 0;

    if (fd < 0)
        return -errno;
    while (count < room) {
        struct v4l2_fmtdesc description = {.index = count, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE};

        if (ask(fd, VIDIOC_ENUM_FMT, &description) < 0)
            break;
        fourcc[count++] = description.pixelformat;
    }
    close(fd);
    return (int)count;
}

int inphase_video_control(inphase_video *video, uint32_t id, int32_t *value)
{
    struct v4l2_control control = {.id = id, .value = *value};
    int rc = ask(video->fd, VIDIOC_S_CTRL, &control);

    if (rc == 0)
        rc = ask(video->fd, VIDIOC_G_CTRL, &control);
    if (rc == 0)
        *value = control.value;
    return rc;
}

int inphase_video_start(inphase_video *video)
{
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    int rc;

    if (video->running)
        return 0;
    for (uint32_t i = 0; i < video->buffers; i++) {
        rc = queue(video, i);
        if (rc < 0)
            return rc;
    }
    rc = ask(video->fd, VIDIOC_STREAMON, &type);
    video->running = rc == 0;
    return rc;
}

void inphase_video_stop(inphase_video *video)
{
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;

    /* this takes every buffer out of the driver's queues, also after the device is gone */
    ask(video->fd, VIDIOC_STREAMOFF, &type);
    video->running = false;
    video->held = -1;
}

int inphase_video_release(inphase_video *video)
{
    int32_t held = video->held;

    video->held = -1;
    return held < 0 ? 0 : queue(video, (uint32_t)held);
}

/* take one filled buffer, if there is one: 1, 0 or a negative errno */
static int take(inphase_video *video, struct v4l2_buffer *buffer)
{
    int rc;

    *buffer = (struct v4l2_buffer){
        .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
    rc = ask(video->fd, VIDIOC_DQBUF, buffer);
    if (rc < 0)
        return rc == -EAGAIN ? 0 : rc;
    return buffer->index < video->buffers ? 1 : -EPROTO;
}

int inphase_video_flush(inphase_video *video)
{
    struct v4l2_buffer buffer;
    int rc = inphase_video_release(video);
    int count = 0;

    while (rc == 0 && count < DRAINED_MOST) {
        rc = take(video, &buffer);
        if (rc <= 0)
            break;
        rc = queue(video, buffer.index);
        count++;
    }
    return rc < 0 ? rc : count;
}

/* the newest filled buffer: 1, 0 when there is none, or a negative errno. Older ones go back.
   all: how many buffers the driver had to fill. */
static int take_newest(inphase_video *video, uint32_t all, struct v4l2_buffer *newest,
                       uint32_t *drained)
{
    uint32_t taken = 0;
    int rc;

    while (taken < DRAINED_MOST) {
        struct v4l2_buffer buffer;

        rc = take(video, &buffer);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        if (taken++) {
            *drained += 1;
            rc = queue(video, newest->index);
            if (rc < 0)
                return rc;
        }
        *newest = buffer;
    }

    /* every buffer was full: the driver had to stop, and even the newest is from before that */
    if (taken == all) {
        *drained += 1;
        rc = queue(video, newest->index);
        return rc < 0 ? rc : 0;
    }
    return taken > 0;
}

static uint32_t clock_of(uint32_t flags)
{
    switch (flags & V4L2_BUF_FLAG_TIMESTAMP_MASK) {
    case V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC:
        return INPHASE_VIDEO_CLOCK_MONOTONIC;
    case V4L2_BUF_FLAG_TIMESTAMP_COPY:
        return INPHASE_VIDEO_CLOCK_COPY;
    default:
        return INPHASE_VIDEO_CLOCK_UNKNOWN;
    }
}

static void describe(inphase_video *video, const struct v4l2_buffer *from,
                     struct inphase_video_image *image)
{
    size_t room = video->map[from->index].size;

    image->bytes = video->map[from->index].memory;
    image->size = from->bytesused < room ? from->bytesused : (uint32_t)room;
    image->sequence = from->sequence;
    image->broken = (from->flags & V4L2_BUF_FLAG_ERROR) != 0;
    image->clock = clock_of(from->flags);
    image->marks = (from->flags & V4L2_BUF_FLAG_TSTAMP_SRC_MASK) == V4L2_BUF_FLAG_TSTAMP_SRC_SOE
                       ? INPHASE_VIDEO_START_OF_EXPOSURE
                       : INPHASE_VIDEO_END_OF_FRAME;
    image->stamp_ns =
        (int64_t)from->timestamp.tv_sec * 1000000000 + (int64_t)from->timestamp.tv_usec * 1000;
}

int inphase_video_next(inphase_video *video, int64_t timeout_ns, struct inphase_video_image *image)
{
    int64_t until_ns = inphase_now() + timeout_ns;
    uint32_t all = video->buffers - (video->held >= 0);
    struct v4l2_buffer buffer = {0};
    int rc = inphase_video_release(video);

    image->drained = 0;
    if (!video->running)
        return -EINVAL;
    while (rc == 0) {
        struct pollfd ready = {.fd = video->fd, .events = POLLIN};
        int64_t left_ns = until_ns - inphase_now();
        struct timespec left = {left_ns / 1000000000, left_ns % 1000000000};

        rc = take_newest(video, all, &buffer, &image->drained);
        if (rc != 0)
            break;
        all = video->buffers;
        if (left_ns <= 0)
            return -ETIMEDOUT;

        /* the next look at the queue tells errors more exactly than poll */
        if (ppoll(&ready, 1, &left, NULL) < 0)
            return -errno;
        if (ready.revents & (POLLERR | POLLHUP) && !(ready.revents & POLLIN)) {
            rc = take_newest(video, all, &buffer, &image->drained);
            if (rc == 0)
                return -ENODEV;
        }
    }
    if (rc < 0)
        return rc;
    image->received_ns = inphase_now();
    video->held = (int32_t)buffer.index;
    describe(video, &buffer, image);
    return 0;
}
