/* What is not a camera is refused; cameras are tested in a virtual machine, see tests/vm. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "../inphase.h"
#include "check.h"

static struct inphase_video_format wanted(void)
{
    return (struct inphase_video_format){
        .width = 640, .height = 480, .fourcc = 0x59455247 /* GREY */};
}

static void a_file_that_is_no_camera_is_refused(void)
{
    struct inphase_video_format format = wanted();
    inphase_video *video = NULL;
    char path[] = "/tmp/inphase-video-XXXXXX";
    int fd = mkstemp(path);

    CHECK(fd >= 0);
    CHECK(inphase_video_open(&video, path, &format, 4) == -ENOTTY);
    CHECK(inphase_video_open(&video, "/dev/null", &format, 4) == -ENOTTY);
    CHECK(inphase_video_open(&video, "/nowhere/video0", &format, 4) == -ENOENT);
    CHECK(video == NULL);
    close(fd);
    unlink(path);
}

static void a_file_that_is_no_camera_offers_nothing(void)
{
    uint32_t fourcc[4];

    CHECK(inphase_video_offered("/dev/null", fourcc, 4) == 0);
    CHECK(inphase_video_offered("/nowhere/video0", fourcc, 4) == -ENOENT);
}

int main(void)
{
    a_file_that_is_no_camera_is_refused();
    a_file_that_is_no_camera_offers_nothing();
    inphase_video_close(NULL);
    return 0;
}
