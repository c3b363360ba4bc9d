/* The store: segments, rings of sequence-locked slots, and waiting for them.

   A slot's sequence is odd while it is written. Words are stored with release and loaded with
   acquire order, so that a reader that sees any word of a newer write also sees a newer sequence:
   no fences are needed for copies, also on machines that reorder (tests/test_sequence_lock.py
   reads the orders here and checks them with a model). Readers never own anything: the writer
   cannot be held up. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* ---- segments --------------------------------------------------------------------------- */

static int lock_byte(int fd, int command, short type, short *found)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

    if (fcntl(fd, command, &lock) < 0)
        return -errno;
    if (found)
        *found = lock.l_type;
    return 0;
}

int inphase_segment_create(inphase_segment **out, const char *path, uint64_t size, uint32_t mode,
                           int32_t gid)
{
    inphase_segment *segment = calloc(1, sizeof *segment);
    int rc;

    if (!segment)
        return -ENOMEM;
    if (strlen(path) >= sizeof segment->path) {
        rc = -ENAMETOOLONG;
        goto free_segment;
    }
    strcpy(segment->path, path);
    segment->size = size;
    segment->writer = true;
    segment->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0700);
    if (segment->fd < 0) {
        rc = -errno;
        goto free_segment;
    }

    /* owner and mode, whatever the umask; the lock, which says that the writer lives */
    if ((gid >= 0 && fchown(segment->fd, (uid_t)-1, (gid_t)gid) < 0) ||
        fchmod(segment->fd, mode) < 0) {
        rc = -errno;
        goto unlink_file;
    }
    rc = lock_byte(segment->fd, F_OFD_SETLK, F_WRLCK, NULL);
    if (rc < 0)
        goto unlink_file;

    /* all of it now: a small /dev/shm is an error here and no SIGBUS later */
    rc = -posix_fallocate(segment->fd, 0, (off_t)size);
    if (rc < 0)
        goto unlink_file;
    segment->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                           segment->fd, 0);
    if (segment->memory == MAP_FAILED) {
        rc = -errno;
        goto unlink_file;
    }
    *out = segment;
    return 0;

unlink_file:
    unlink(path);
    close(segment->fd);
free_segment:
    free(segment);
    return rc;
}

/* map a segment that exists, as its writer or as one of its readers */
static int open_segment(inphase_segment **out, const char *path, bool writes)
{
    inphase_segment *segment = calloc(1, sizeof *segment);
    struct stat facts;
    int rc = 0;

    if (!segment)
        return -ENOMEM;
    segment->fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
    if (segment->fd < 0) {
        rc = -errno;
        goto free_segment;
    }
    if (writes)
        rc = lock_byte(segment->fd, F_OFD_SETLK, F_WRLCK, NULL);
    if (rc == -EAGAIN || rc == -EACCES)
        rc = -EBUSY;
    if (rc == 0 && fstat(segment->fd, &facts) < 0)
        rc = -errno;
    if (rc < 0)
        goto close_file;
    segment->size = (uint64_t)facts.st_size;
    rc = -EPROTO;
    if (segment->size < sizeof(struct inphase_layout))
        goto close_file;
    segment->memory = mmap(NULL, segment->size, PROT_READ | (writes ? PROT_WRITE : 0),
                           MAP_SHARED | MAP_POPULATE, segment->fd, 0);
    if (segment->memory == MAP_FAILED) {
        rc = -errno;
        goto close_file;
    }
    strncpy(segment->path, path, sizeof segment->path - 1);
    *out = segment;
    return 0;

close_file:
    close(segment->fd);
free_segment:
    free(segment);
    return rc;
}

int inphase_segment_attach(inphase_segment **out, const char *path)
{
    return open_segment(out, path, false);
}

int segment_take(inphase_segment **out, const char *path)
{
    return open_segment(out, path, true);
}

void inphase_segment_close(inphase_segment *segment)
{
    if (!segment)
        return;
    if (segment->writer)
        unlink(segment->path);
    munmap(segment->memory, segment->size);
    close(segment->fd);
    free(segment);
}

void *inphase_segment_memory(inphase_segment *segment)
{
    return segment->memory;
}

uint64_t inphase_segment_size(inphase_segment *segment)
{
    return segment->size;
}

int writer_alive(int fd)
{
    short found = F_UNLCK;
    int rc = lock_byte(fd, F_OFD_GETLK, F_RDLCK, &found);

    return rc < 0 ? rc : found != F_UNLCK;
}

int inphase_segment_alive(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int rc;

    if (fd < 0)
        return -errno;
    rc = writer_alive(fd);
    close(fd);
    return rc;
}

void inphase_segment_publish(inphase_segment *segment)
{
    struct inphase_layout *layout = (void *)segment->memory;

    /* release: whoever sees the mark sees the whole layout */
    __atomic_store_n(&layout->magic, MAGIC, __ATOMIC_RELEASE);
}

/* ---- rings ------------------------------------------------------------------------------ */

uint64_t ring_stride(uint64_t payload)
{
    return SLOT_HEADER + ((payload + 63) & ~63ULL);
}

struct slot *ring_slot(uint8_t *memory, const struct inphase_ring *ring, uint64_t number)
{
    return (struct slot *)(memory + ring->offset + (number & (ring->depth - 1)) * ring->stride);
}

void slot_write(struct slot *slot, uint64_t number, const void *payload, uint64_t size)
{
    const uint8_t *from = payload;
    uint64_t word;

    atomic_store_explicit(&slot->sequence, 2 * number + 1, memory_order_relaxed);

    /* release on every word: none of them is seen before the odd sequence */
    for (uint64_t i = 0; i < size / 8; i++) {
        memcpy(&word, from + 8 * i, 8);
        atomic_store_explicit(&slot->payload[i], word, memory_order_release);
    }
    atomic_store_explicit(&slot->sequence, 2 * number + 2, memory_order_release);
}

bool slot_read(const struct slot *slot, uint64_t number, void *payload, uint64_t size)
{
    uint8_t *to = payload;
    uint64_t word;

    if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != 2 * number + 2)
        return false;

    /* acquire on every word: the second look at the sequence is not made before them */
    for (uint64_t i = 0; i < size / 8; i++) {
        word = atomic_load_explicit(&slot->payload[i], memory_order_acquire);
        memcpy(to + 8 * i, &word, 8);
    }
    return atomic_load_explicit(&slot->sequence, memory_order_relaxed) == 2 * number + 2;
}

/* ---- waiting ---------------------------------------------------------------------------- */

void store_wake(struct state *state)
{
    syscall(SYS_futex, &state->wake, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

int inphase_futex_wait(const uint32_t *address, uint32_t value, int64_t timeout_ns)
{
    struct timespec timeout = {
        .tv_sec = timeout_ns / 1000000000,
        .tv_nsec = timeout_ns % 1000000000,
    };

    if (syscall(SYS_futex, address, FUTEX_WAIT, value, &timeout, NULL, 0) < 0 && errno != EAGAIN)
        return -errno;
    return 0;
}

int64_t inphase_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int64_t deadline_after(int64_t timeout_ns)
{
    int64_t now_ns = inphase_now();

    return timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + timeout_ns;
}
