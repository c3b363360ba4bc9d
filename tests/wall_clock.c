/* Preloaded into a process: its wall clock is off by the nanoseconds in the file named by
   INPHASE_TEST_WALL, 8 bytes that a test writes while the process runs. libfaketime 0.9.10 does
   this too, but with the monotonic clock left alone its clock_nanosleep to an absolute time fails
   with EINVAL. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t *offset_ns;

__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("INPHASE_TEST_WALL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, fd, 0);

    offset_ns = at == MAP_FAILED ? NULL : at;
    if (fd >= 0)
        close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int64_t wall_ns;
    int rc = (int)syscall(SYS_clock_gettime, clock, now);

    if (rc == 0 && clock == CLOCK_REALTIME && offset_ns) {
        wall_ns = now->tv_sec * 1000000000LL + now->tv_nsec + atomic_load(offset_ns);
        now->tv_sec = wall_ns / 1000000000;
        now->tv_nsec = wall_ns % 1000000000;
    }
    return rc;
}
