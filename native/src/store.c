/* The store: segments, rings of sequence-locked slots, and waiting for them.

   A segment is sealed memory without a name, which is handed over by descriptor. Names are
   middleware/inphase/frames/store.py's; they lead to descriptors.

   A slot's sequence is odd while it is written. Words are stored with release and loaded with
   acquire order, so that a reader that sees any word of a newer write also sees a newer sequence:
   no fences are needed for copies, also on machines that reorder. A large payload is copied as a
   whole between fences that say the same (tests/test_sequence_lock.py reads the orders here and
   checks them with a model). Readers never own anything: the writer cannot be held up. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "store.h"

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

/* open the memory behind fd once more, read-only and without its locks */
static int open_to_read(int fd)
{
    char path[32];
    int to_read;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    to_read = open(path, O_RDONLY | O_CLOEXEC);
    return to_read < 0 ? -errno : to_read;
}

/* unless it is lazy, allocate all of the memory now: too little is an error and no SIGBUS later */
static int allocate(int fd, uint64_t size, bool lazy)
{
    struct sysinfo machine;

    if (sysinfo(&machine) < 0)
        return -errno;
    if (size > (uint64_t)machine.totalram * machine.mem_unit)
        return -ENOMEM;
    if (ftruncate(fd, (off_t)size) < 0)
        return -errno;
    return lazy ? 0 : -posix_fallocate(fd, 0, (off_t)size);
}

/* Other processes with a descriptor cannot shorten it, which would end the runtime by SIGBUS.
   Unless they are its writer, they cannot change it: this mapping is the last writable one */
static int seal(inphase_segment *segment, bool others_write)
{
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int rc;

    if (!others_write)
        seals |= F_SEAL_FUTURE_WRITE;
    if (fchmod(segment->fd, 0400) < 0 || fcntl(segment->fd, F_ADD_SEALS, seals) < 0)
        return -errno;
    segment->handed = segment->fd;
    if (others_write)
        return 0;

    /* the lock that tells that the writer lives is on a description that no other process gets */
    rc = open_to_read(segment->fd);
    if (rc < 0)
        return rc;
    segment->handed = rc;
    return lock_byte(segment->fd, F_OFD_SETLK, F_WRLCK, NULL);
}

static int make(inphase_segment **out, uint64_t size, bool others_write, bool lazy)
{
    inphase_segment *segment = calloc(1, sizeof *segment);
    int rc;

    if (!segment)
        return -ENOMEM;
    segment->size = size;
    segment->memory = MAP_FAILED;
    segment->handed = -1;
    segment->writer = true;
    segment->fd = memfd_create("inphase", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    rc = segment->fd < 0 ? -errno : allocate(segment->fd, size, lazy);
    if (rc == 0) {
        segment->memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                               MAP_SHARED | (lazy ? 0 : MAP_POPULATE), segment->fd, 0);
        rc = segment->memory == MAP_FAILED ? -errno : seal(segment, others_write);
    }
    if (rc < 0) {
        inphase_segment_close(segment);
        return rc;
    }
    *out = segment;
    return 0;
}

int inphase_segment_make(inphase_segment **out, uint64_t size, int others_write)
{
    return make(out, size, others_write, false);
}

int inphase_segment_make_lazy(inphase_segment **out, uint64_t size)
{
    return make(out, size, false, true);
}

int inphase_segment_map(inphase_segment **out, int fd, int writes)
{
    inphase_segment *segment;
    struct stat facts;
    int seals = fcntl(fd, F_GET_SEALS);
    bool lazy;
    int rc;

    /* a segment that its writer could shorten is never mapped */
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return -EPROTO;
    segment = calloc(1, sizeof *segment);
    if (!segment)
        return -ENOMEM;
    segment->fd = segment->handed = -1;
    segment->writer = writes;
    segment->memory = MAP_FAILED;
    rc = fstat(fd, &facts) < 0 ? -errno : 0;
    segment->size = (uint64_t)facts.st_size;
    if (rc == 0 && !writes) {
        segment->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        rc = segment->fd < 0 ? -errno : 0;
    }
    lazy = (uint64_t)facts.st_blocks * 512 < segment->size;
    if (rc == 0)
        segment->memory = mmap(NULL, segment->size, PROT_READ | (writes ? PROT_WRITE : 0),
                               MAP_SHARED | (lazy ? 0 : MAP_POPULATE), fd, 0);
    if (rc == 0 && segment->memory == MAP_FAILED)
        rc = -errno;
    if (rc < 0) {
        inphase_segment_close(segment);
        return rc;
    }
    *out = segment;
    return 0;
}

int segment_leave(inphase_segment **out, inphase_segment *segment)
{
    segment->writer = false;
    if (mprotect(segment->memory, segment->size, PROT_READ) < 0) {
        int rc = -errno;

        inphase_segment_close(segment);
        return rc;
    }
    *out = segment;
    return 0;
}

void inphase_segment_close(inphase_segment *segment)
{
    if (!segment)
        return;
    if (segment->memory != MAP_FAILED)
        munmap(segment->memory, segment->size);
    if (segment->handed >= 0 && segment->handed != segment->fd)
        close(segment->handed);
    if (segment->fd >= 0)
        close(segment->fd);
    free(segment);
}

void inphase_segment_clear(inphase_segment *segment)
{
    off_t end = 0;

    /* a page that nobody touched is 0, and shall not come to be */
    for (off_t at; (at = lseek(segment->fd, end, SEEK_DATA)) >= 0;) {
        end = lseek(segment->fd, at, SEEK_HOLE);
        if (end <= at)
            end = (off_t)segment->size;
        memset(segment->memory + at, 0, (uint64_t)(end - at));
    }
}

int inphase_segment_fd(const inphase_segment *segment)
{
    return segment->handed;
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

void inphase_segment_publish(inphase_segment *segment)
{
    struct inphase_layout *layout = (void *)segment->memory;

    /* release: a reader that sees the mark sees the whole layout */
    __atomic_store_n(&layout->magic, MAGIC, __ATOMIC_RELEASE);
}

/* ---- rings ------------------------------------------------------------------------------ */

uint64_t ring_stride(uint64_t payload)
{
    return SLOT_HEADER + ((payload + 63) & ~63ULL);
}

bool part_fits(uint64_t offset, uint64_t bytes, uint64_t size)
{
    return offset % 8 == 0 && offset <= size && bytes <= size - offset;
}

bool ring_fits(const struct inphase_ring *ring, uint64_t size)
{
    return ring->payload <= size && ring->payload % 8 == 0 &&
           ring->stride == ring_stride(ring->payload) && ring->depth > 0 &&
           (ring->depth & (ring->depth - 1)) == 0 && ring->depth <= size / ring->stride &&
           part_fits(ring->offset, ring->stride * ring->depth, size);
}

struct slot *ring_slot(uint8_t *memory, const struct inphase_ring *ring, uint64_t number)
{
    return (struct slot *)(memory + ring->offset + (number & (ring->depth - 1)) * ring->stride);
}

#define LARGE 1024 /* bytes from which a copy as a whole is sooner done than words and fences */

/* Plain copies of shared memory are races to ThreadSanitizer, which knows no fences: it is shown
   words. What a torn copy holds is never used, whichever way it was made */
static bool is_large(uint64_t size)
{
#if defined(__SANITIZE_THREAD__)
    (void)size;
    return false;
#else
    return size >= LARGE;
#endif
}

static void large_write(struct slot *slot, uint64_t number, const void *payload, uint64_t size)
{
    atomic_store_explicit(&slot->sequence, 2 * number + 1, memory_order_relaxed);

    /* memcpy may use stores that go past the cache and past a release: they wait for the odd
       sequence here, and the even one for them. seq_cst is an instruction on every machine */
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(slot->payload, payload, size);
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store_explicit(&slot->sequence, 2 * number + 2, memory_order_relaxed);
}

static bool large_read(const struct slot *slot, uint64_t number, void *payload, uint64_t size)
{
    if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != 2 * number + 2)
        return false;
    memcpy(payload, slot->payload, size);

    /* the payload was read with plain loads: they stay before the second look */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&slot->sequence, memory_order_relaxed) == 2 * number + 2;
}

void slot_write(struct slot *slot, uint64_t number, const void *payload, uint64_t size)
{
    const uint8_t *from = payload;
    uint64_t word;

    if (is_large(size)) {
        large_write(slot, number, payload, size);
        return;
    }
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

    if (is_large(size))
        return large_read(slot, number, payload, size);
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

void futex_wake(const _Atomic uint32_t *word, int32_t count)
{
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

int inphase_bell_make(inphase_segment **out)
{
    return inphase_segment_make(out, BELL_BYTES, 0);
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
