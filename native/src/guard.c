/* The core's side of the guard: its page, the cycle thread's records there, and the guard's
   heartbeat. Memory reads and writes only. Without a page (lock step, observing) nothing is
   done. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actuator.h"
#include "clock.h"
#include "core.h"
#include "encode.h"
#include "guard.h"
#include "guard_page.h"
#include "limiter.h"
#include "relaxed.h"
#include "store.h"

#define ALIGN 64UL

static uint64_t align(uint64_t size)
{
    return (size + ALIGN - 1) & ~(ALIGN - 1);
}

/* the largest size of a command on the wire: an escape rule adds one byte to every few, and there
   is a checksum */
static uint32_t room_of(const struct actuator *actuator)
{
    uint32_t room = 2 * actuator->encoding.packet_size + 16;

    if (actuator->stop.kind == INPHASE_STOP_BYTES)
        room = actuator->stop.size;
    return room < INPHASE_MAX_PACKET ? (room + 7) & ~7U : INPHASE_MAX_PACKET;
}

/* the constants of an actuator's stop, and its bytes, if they are constant */
static int lay_out(struct inphase_core *core, struct guard_page *page)
{
    struct guard_record *record = &core->guard.record;
    uint32_t offset = 0;

    for (uint32_t i = 0; i < core->actuators; i++) {
        const struct actuator *actuator = &core->actuator[i];
        struct guard_stop *stop = &page->layout.stop[i];
        double rest[INPHASE_MAX_CHANNELS] = {0};
        int32_t size = 0;

        if (actuator->stop.kind == INPHASE_STOP_NONE)
            continue;
        *stop = (struct guard_stop){
            .offset = offset,
            .room = room_of(actuator),
            .chunk = actuator->stop.kind == INPHASE_STOP_BYTES ? actuator->stop.chunk
                                                               : actuator->encoding.chunk,
            .gap_ns = actuator->stop.gap_ns,
            .wire_ns = actuator->stop.wire_ns,
        };
        if (actuator->stop.kind == INPHASE_STOP_BYTES) {
            size = (int32_t)actuator->stop.size;
            memcpy(record->bytes + offset, actuator->stop_bytes, (size_t)size);
        } else if (actuator->stop.kind == INPHASE_STOP_ZERO) {
            for (uint32_t c = 0; c < actuator->channels; c++)
                rest[c] = limiter_rest_value(&actuator->limiter[c]);
            size = encode(&actuator->encoding, actuator->checksum.table, rest,
                          record->bytes + offset, stop->room);
        }
        if (size < 0)
            return size;
        record->size[i] = (uint32_t)size;
        offset += stop->room;
    }
    page->layout.ring.payload = offsetof(struct guard_record, bytes) + offset;
    page->layout.ring.stride = ring_stride(page->layout.ring.payload);
    return 0;
}

/* the page for the guard's heartbeat; returns its descriptor. It cannot be resized, and is mapped
   read-only here */
static int make_life(struct inphase_core *core)
{
    struct guard_life *life;
    int fd = memfd_create("inphase guard's beat", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

    if (fd < 0)
        return -errno;
    rc = ftruncate(fd, sizeof *life) < 0 ? -errno : -posix_fallocate(fd, 0, sizeof *life);
    if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        rc = -errno;
    if (rc == 0) {
        life = mmap(NULL, sizeof *life, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
        rc = life == MAP_FAILED ? -errno : 0;
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    core->guard.life = life;
    core->guard.forgiven_ns = INPHASE_ABSENT;
    return fd;
}

int inphase_core_guard(inphase_core *core, int64_t max_hold_ns, int32_t *life_fd)
{
    struct guard_page *page;
    uint64_t size = align(sizeof *page) +
                    GUARD_RECORDS * ring_stride(sizeof(struct guard_record));
    int fd, rc;

    if (core->started || core->guard.page || core->clock == &virtual_clock)
        return -EBUSY;
    if (max_hold_ns <= 0 || max_hold_ns > GUARD_LONGEST_NS)
        return -EINVAL;
    fd = memfd_create("inphase guard", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;

    /* allocated in full now; its size never changes */
    rc = ftruncate(fd, (off_t)size) < 0 ? -errno : -posix_fallocate(fd, 0, (off_t)size);
    if (rc < 0)
        goto close_page;
    page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    rc = -errno;
    if (page == MAP_FAILED)
        goto close_page;
    page->layout.version = GUARD_VERSION;
    page->layout.actuators = core->actuators;
    page->layout.size = size;
    page->layout.max_hold_ns = max_hold_ns;
    page->layout.ring =
        (struct inphase_ring){.offset = align(sizeof *page), .depth = GUARD_RECORDS};
    rc = lay_out(core, page);
    if (rc < 0)
        goto unmap_page;
    page->layout.magic = GUARD_MAGIC;

    /* from here on nobody can map it for writing; this mapping stays */
    rc = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
    if (rc < 0) {
        rc = -errno;
        goto unmap_page;
    }
    *life_fd = rc = make_life(core);
    if (rc < 0)
        goto unmap_page;
    core->guard.page = page;
    return fd;

unmap_page:
    munmap(page, size);
close_page:
    close(fd);
    return rc;
}

void guard_close(struct inphase_core *core)
{
    if (core->guard.page)
        munmap(core->guard.page, core->guard.page->layout.size);
    if (core->guard.life)
        munmap((void *)(uintptr_t)core->guard.life, sizeof *core->guard.life);
    core->guard.page = NULL;
    core->guard.life = NULL;
}

int guard_lock(const struct inphase_core *core)
{
    if (!core->guard.page)
        return 0;
    return mlock(core->guard.page, core->guard.page->layout.size) < 0 ||
                   mlock(core->guard.life, sizeof *core->guard.life) < 0
               ? -1
               : 0;
}

/* ---- the cycle thread -------------------------------------------------------------------- */

/* The kernel tells the end of a process after its memory was given back, which takes milliseconds,
   at ordinary priority. It tells the end of a thread that owns a robust futex at once. The C
   library's list of this thread is replaced: the thread takes no robust mutex. */
void guard_own(struct inphase_core *core)
{
    struct guard_page *page = core->guard.page;
    struct robust_list_head *head = &core->guard.robust;

    if (!page)
        return;
    core->guard.entry.next = &head->list;
    head->list.next = &core->guard.entry;
    head->futex_offset = (long)((uintptr_t)&page->owner - (uintptr_t)&core->guard.entry);
    head->list_op_pending = NULL;
    put_u32(&page->owner, (uint32_t)syscall(SYS_gettid) | FUTEX_WAITERS);
    syscall(SYS_set_robust_list, head, sizeof *head);
    syscall(SYS_futex, &page->owner, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* The machine stood still as a whole: the guard's present beat counts from now on, once. The guard
   has the same rule, guard_woke. */
static void note_held_up(struct inphase_core *core, int64_t now_ns)
{
    int64_t beat_ns = load_i64(&core->guard.life->beat_ns);

    if (beat_ns == core->guard.forgiven_ns)
        return;
    core->guard.forgiven_ns = beat_ns;
    core->guard.awake_ns = now_ns;
}

bool guard_lives(const struct inphase_core *core, int64_t now_ns)
{
    const struct guard_life *life = core->guard.life;
    int64_t beat_ns;
    uint64_t bound;

    if (!life)
        return true;
    if (load_u32(&life->owner) & FUTEX_OWNER_DIED)
        return false;
    beat_ns = load_i64(&life->beat_ns);
    if (beat_ns == core->guard.forgiven_ns)
        beat_ns = core->guard.awake_ns;

    /* another process wrote it: it may be any number. A beat that lies ahead, beyond the time since
       now_ns, is no beat */
    bound = GUARD_LATE * (uint64_t)core->guard.page->layout.max_hold_ns;
    return (uint64_t)now_ns - (uint64_t)beat_ns + bound <= 2 * bound;
}

void guard_beat(struct inphase_core *core, int64_t now_ns)
{
    struct guard_page *page = core->guard.page;
    int64_t before_ns;

    if (!page)
        return;
    before_ns = load_i64(&page->beat_ns);
    if (before_ns && now_ns - before_ns > page->layout.max_hold_ns)
        note_held_up(core, now_ns);
    put_i64(&page->cycle, core->cycle);
    put_i64(&page->beat_ns, now_ns);
}

void guard_leave(struct inphase_core *core, const struct actuator *actuator, const uint8_t *bytes,
                 uint32_t size)
{
    struct guard_page *page = core->guard.page;
    struct guard_record *record = &core->guard.record;
    uint32_t bit = 1U << actuator->index, moving;
    bool holds = actuator->stop.kind == INPHASE_STOP_HOLD;
    uint64_t number;

    if (!page || actuator->stop.kind == INPHASE_STOP_NONE)
        return;
    moving = load_u32(&page->moving);
    if (!holds && moving & bit)
        return;
    number = atomic_load_explicit(&page->head, memory_order_relaxed);
    if (holds && size <= page->layout.stop[actuator->index].room) {
        memcpy(record->bytes + page->layout.stop[actuator->index].offset, bytes, size);
        record->size[actuator->index] = size;
    }

    /* first the record, then its number, then the mark that it is needed */
    slot_write(ring_slot((uint8_t *)page, &page->layout.ring, number), number, record,
               page->layout.ring.payload);
    atomic_store_explicit(&page->head, number + 1, memory_order_release);
    atomic_store_explicit(&page->moving, moving | bit, memory_order_release);
}

void guard_withdraw(struct inphase_core *core, const struct actuator *actuator)
{
    struct guard_page *page = core->guard.page;
    uint32_t bit = 1U << actuator->index, moving;

    if (!page)
        return;
    moving = load_u32(&page->moving);
    if (moving & bit)
        atomic_store_explicit(&page->moving, moving & ~bit, memory_order_release);
}

void guard_abandon(struct inphase_core *core, const struct actuator *actuator, bool is_stuck)
{
    struct guard_page *page = core->guard.page;
    _Atomic uint32_t *lost;

    if (!page || !(load_u32(&page->moving) >> actuator->index & 1))
        return;
    lost = &page->lost[actuator->index];
    atomic_store_explicit(lost, ((load_u32(lost) | 1) + 1) | is_stuck, memory_order_release);
}

void guard_disarm(struct inphase_core *core)
{
    if (!core->guard.page)
        return;
    atomic_store_explicit(&core->guard.page->moving, 0, memory_order_release);
    atomic_store_explicit(&core->guard.page->owner, 0, memory_order_release);
}
