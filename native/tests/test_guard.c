/* The guard's page as the core leaves it and the guard finds it, whenever the core was killed; and
   what the guard makes of it, on a clock of the test's own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/actuator.h"
#include "../src/clock.h"
#include "../src/core.h"
#include "../src/guard.h"
#include "../src/guard_page.h"
#include "../src/store.h"
#include "check.h"

#define MS 1000000LL
#define HOLD (20 * MS)
#define SIZE 24

/* a core with two actuators that hold, one that is never commanded in velocity, and one without */
static struct inphase_core *core;
static const struct guard_page *seen; /* as the guard maps it */
static struct guard_layout layout;    /* its copy */
static struct guard_record found;
static int page_fd;
static int32_t life_fd;

static void make_actuator(uint32_t index, uint32_t kind, uint32_t size)
{
    static const uint8_t brake[] = {0x80, 0, 0, 1};
    struct actuator *actuator = &core->actuator[index];

    actuator->index = index;
    actuator->channels = 1;
    actuator->encoding.packet = actuator->packet;
    actuator->encoding.packet_size = size;
    actuator->stop = (struct inphase_stop){.kind = kind, .gap_ns = MS, .wire_ns = 2 * MS};
    if (kind == INPHASE_STOP_BYTES) {
        actuator->stop.size = sizeof brake;
        memcpy(actuator->stop_bytes, brake, sizeof brake);
    }
}

static void open_page(void)
{
    core = calloc(1, sizeof *core);
    CHECK(core);
    core->clock = &monotonic_clock;
    core->actuators = 4;
    make_actuator(0, INPHASE_STOP_HOLD, SIZE);
    make_actuator(1, INPHASE_STOP_HOLD, SIZE);
    make_actuator(2, INPHASE_STOP_BYTES, SIZE);
    make_actuator(3, INPHASE_STOP_NONE, SIZE);
    page_fd = inphase_core_guard(core, HOLD, &life_fd);
    CHECK(page_fd >= 0);
    CHECK_EQUAL(inphase_core_guard(core, HOLD, &life_fd), -EBUSY);
    seen = mmap(NULL, core->guard.page->layout.size, PROT_READ, MAP_SHARED, page_fd, 0);
    CHECK(seen != MAP_FAILED);
    CHECK(guard_page_take(seen, core->guard.page->layout.size, &layout));
    CHECK_EQUAL(guard_lock(core), 0);
}

static void close_page(void)
{
    munmap((void *)(uintptr_t)seen, seen->layout.size);
    close(page_fd);
    close(life_fd);
    guard_close(core);
    free(core);
}

static void leave(uint32_t index, uint8_t value)
{
    uint8_t bytes[SIZE];

    memset(bytes, value, sizeof bytes);
    guard_leave(core, &core->actuator[index], bytes, sizeof bytes);
}

static const uint8_t *bytes_of(uint32_t index)
{
    return found.bytes + layout.stop[index].offset;
}

/* odd: its worker takes no orders; what was not commanded is not lost in motion */
static void a_device_that_is_lost_in_motion_is_told_once_per_loss(void)
{
    open_page();
    guard_abandon(core, &core->actuator[0], true);
    CHECK_EQUAL(seen->lost[0], 0);
    leave(0, 1);
    guard_abandon(core, &core->actuator[1], true);
    guard_abandon(core, &core->actuator[0], false);
    CHECK_EQUAL(seen->lost[0], 2);
    guard_abandon(core, &core->actuator[0], true);
    CHECK_EQUAL(seen->lost[0], 5);
    guard_abandon(core, &core->actuator[0], false);
    CHECK_EQUAL(seen->lost[0], 6);
    CHECK_EQUAL(seen->lost[1], 0);
    close_page();
}

static void nobody_else_can_write_or_resize_the_page(void)
{
    char path[64];
    int fd;

    open_page();
    CHECK_EQUAL(ftruncate(page_fd, 0), -1);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0) == MAP_FAILED);
    snprintf(path, sizeof path, "/proc/self/fd/%d", page_fd);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    CHECK_EQUAL(write(fd, "x", 1), -1);
    close(fd);
    close_page();
}

static void nothing_is_to_be_stopped_before_a_command(void)
{
    open_page();
    guard_beat(core, 5 * MS);
    CHECK_EQUAL(seen->moving, 0);
    CHECK_EQUAL(seen->beat_ns, 5 * MS);
    CHECK(!guard_page_record(seen, &layout, &found));
    close_page();
}

static void the_bytes_are_those_of_the_last_command(void)
{
    open_page();
    for (int value = 1; value < 100; value++) {
        leave(0, (uint8_t)value);
        leave(1, (uint8_t)(value + 100));
        CHECK(guard_page_record(seen, &layout, &found));
        CHECK_EQUAL(found.size[0], SIZE);
        CHECK_EQUAL(bytes_of(0)[SIZE - 1], value);
        CHECK_EQUAL(bytes_of(1)[0], value + 100);
        CHECK_EQUAL(found.size[3], 0);
        CHECK_EQUAL(seen->moving, 3);
    }

    /* what is constant is there with the first command, and stays */
    /* an escape rule may double a command, and a checksum comes behind it */
    for (uint32_t i = 0; i < 2; i++)
        CHECK_EQUAL(layout.stop[i].room, (2 * SIZE + 16 + 7) / 8 * 8);

    leave(2, 1);
    CHECK(guard_page_record(seen, &layout, &found));
    CHECK_EQUAL(found.size[2], 4);
    CHECK_EQUAL(bytes_of(2)[0], 0x80);
    CHECK_EQUAL(seen->moving, 7);
    leave(3, 1);
    CHECK_EQUAL(seen->moving, 7);
    guard_withdraw(core, &core->actuator[1]);
    CHECK_EQUAL(seen->moving, 5);
    guard_disarm(core);
    CHECK_EQUAL(seen->moving, 0);
    close_page();
}

/* the writer is killed after any word of a record: the one before is whole */
static void a_record_that_was_not_finished_does_not_count(void)
{
    struct slot *slot;
    uint64_t words, head;

    open_page();
    leave(0, 1);
    leave(0, 2);
    words = layout.ring.payload / 8;
    for (uint64_t killed_at = 0; killed_at <= words; killed_at++) {
        head = core->guard.page->head;
        slot = ring_slot((uint8_t *)core->guard.page, &layout.ring, head);
        slot->sequence = 2 * head + 1;
        for (uint64_t i = 0; i < killed_at; i++)
            slot->payload[i] = 0x7777777777777777ULL;
        CHECK(guard_page_record(seen, &layout, &found));
        CHECK_EQUAL(bytes_of(0)[0], 2);
    }

    /* killed between the whole record and the word that says so */
    slot->sequence = 2 * head + 2;
    CHECK(guard_page_record(seen, &layout, &found));
    CHECK_EQUAL(bytes_of(0)[0], 2);
    close_page();
}

static void what_cannot_be_is_no_record(void)
{
    uint32_t beyond = 5000;
    struct slot *slot;

    open_page();
    leave(0, 1);
    slot = ring_slot((uint8_t *)core->guard.page, &layout.ring, 0);

    /* the slot that head names is being written, for ever; a size beyond its room */
    slot->sequence = 1;
    CHECK(!guard_page_record(seen, &layout, &found));
    slot->sequence = 2;
    CHECK(guard_page_record(seen, &layout, &found));
    memcpy((uint8_t *)slot->payload + offsetof(struct guard_record, size[1]), &beyond,
           sizeof beyond);
    CHECK(!guard_page_record(seen, &layout, &found));
    close_page();
}

/* a page of which one value was replaced is refused, and the value is put back */
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        __typeof__(page->layout.field) before = page->layout.field;                                \
                                                                                                   \
        page->layout.field = (value);                                                              \
        CHECK(!guard_page_take(seen, size, &copy));                                                \
        page->layout.field = before;                                                               \
        CHECK(guard_page_take(seen, size, &copy));                                                 \
    } while (0)

static void a_page_that_leads_outside_is_refused(void)
{
    struct guard_layout copy;
    struct guard_page *page;
    uint64_t size;

    open_page();
    page = core->guard.page;
    size = page->layout.size;
    CHECK(!guard_page_take(seen, size - 1, &copy));
    CHECK(!guard_page_take(seen, sizeof *page - 1, &copy));
    REFUSED(magic, 0);
    REFUSED(version, GUARD_VERSION - 1);
    REFUSED(size, size + 1);
    REFUSED(actuators, INPHASE_MAX_ACTUATORS + 1);
    REFUSED(max_hold_ns, 0);
    REFUSED(max_hold_ns, -1);
    REFUSED(max_hold_ns, INT64_MAX);
    REFUSED(ring.offset, size);
    REFUSED(ring.offset, 1 << 30);
    REFUSED(ring.depth, 1ULL << 40);
    REFUSED(ring.payload, sizeof(struct guard_record) + 8);
    REFUSED(ring.payload, 8);
    REFUSED(ring.payload, page->layout.ring.payload - 1);
    REFUSED(stop[1].offset, 100000);
    REFUSED(stop[1].offset, UINT32_MAX);
    REFUSED(stop[1].room, INPHASE_MAX_PACKET + 1);
    REFUSED(stop[1].chunk, UINT32_MAX);
    REFUSED(stop[1].gap_ns, -1);
    REFUSED(stop[1].gap_ns, INT64_MAX);
    REFUSED(stop[1].wire_ns, INT64_MIN);
    close_page();
}

/* what a stray write of the core could put on the page, again and again; an odd round puts it
   back */
static _Atomic bool is_over;

static void set(uint64_t *at, uint64_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static void *write_strays(void *argument)
{
    static struct guard_page good;
    struct guard_page *page = argument;
    struct slot *slot = ring_slot(argument, &layout.ring, 0);
    uint64_t *size = (uint64_t *)(void *)&slot->payload[0];

    memcpy((void *)&good, page, sizeof good);
    for (uint64_t round = 0; !atomic_load(&is_over); round++) {
        uint64_t *words = (uint64_t *)(void *)&page->layout;
        bool strays = round % 2 == 0;

        for (size_t i = 0; i < sizeof page->layout / 8; i++)
            set(&words[i], strays ? round * 0x9e3779b97f4a7c15ULL >> round % 60
                                  : ((uint64_t *)(void *)&good.layout)[i]);
        set(size, strays ? UINT64_MAX : SIZE);
        atomic_store(&page->beat_ns, strays ? INT64_MIN : INT64_MAX);
        atomic_store(&page->head, strays ? UINT64_MAX : 1);
        atomic_store(&page->moving, strays ? UINT32_MAX : 1);
    }
    memcpy((void *)&page->layout, &good.layout, sizeof good.layout);
    return NULL;
}

/* with a sanitizer this is also that nothing beside the page and the copies is touched */
static void a_page_that_changes_while_it_is_read_leads_nowhere(void)
{
    struct guard_layout copy;
    uint32_t taken = 0, whole = 0;
    int64_t until_ns = inphase_now() + 20000 * MS; /* of a thread that never runs */
    pthread_t thread;

    open_page();
    leave(0, 1);
    atomic_store(&is_over, false);
    CHECK_EQUAL(pthread_create(&thread, NULL, write_strays, core->guard.page), 0);
    for (uint32_t i = 0; i < 20000 || !taken || !whole; i++) {
        CHECK(i % 1024 || inphase_now() < until_ns);
        if (guard_page_take(seen, layout.size, &copy)) {
            CHECK(copy.actuators <= INPHASE_MAX_ACTUATORS);
            CHECK(copy.ring.payload <= sizeof found);
            for (uint32_t a = 0; a < copy.actuators; a++)
                CHECK(copy.stop[a].offset + copy.stop[a].room <= sizeof found.bytes);
            taken++;
        }
        if (guard_page_record(seen, &layout, &found)) {
            for (uint32_t a = 0; a < layout.actuators; a++)
                CHECK(found.size[a] <= layout.stop[a].room);
            whole++;
        }
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    close_page();
}

/* a process with a page is killed: who waits on the page's owner is woken */
static void the_kernel_tells_the_death_of_the_cycle_thread(void)
{
    struct timespec bound = {.tv_sec = 20};
    uint32_t owner;
    pid_t child;
    int status;

    open_page();
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        guard_own(core);
        for (;;)
            pause();
    }
    while ((owner = seen->owner) == 0)
        syscall(SYS_futex, &seen->owner, FUTEX_WAIT, 0, &bound, NULL, 0);
    CHECK_EQUAL(owner, (uint32_t)child | FUTEX_WAITERS);
    kill(child, SIGKILL);
    while ((owner = seen->owner) == ((uint32_t)child | FUTEX_WAITERS))
        CHECK(syscall(SYS_futex, &seen->owner, FUTEX_WAIT, owner, &bound, NULL, 0) == 0 ||
              errno == EAGAIN);
    CHECK(owner & FUTEX_OWNER_DIED);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    close_page();
}

/* ---- whether the guard lives ------------------------------------------------------------- */

static struct guard_life *open_life(void)
{
    struct guard_life *life;

    open_page();
    life = mmap(NULL, sizeof *life, PROT_READ | PROT_WRITE, MAP_SHARED, life_fd, 0);
    CHECK(life != MAP_FAILED);
    return life;
}

static void close_life(struct guard_life *life)
{
    munmap(life, sizeof *life);
    close_page();
}

static void a_guard_lives_that_beats(void)
{
    struct guard_life *life = open_life();

    CHECK_EQUAL(ftruncate(life_fd, 0), -1);
    CHECK(!guard_lives(core, 1000 * MS)); /* it has not started */
    life->beat_ns = 1000 * MS;
    life->owner = 77;
    CHECK(guard_lives(core, 1000 * MS));
    CHECK(guard_lives(core, 1000 * MS + GUARD_LATE * HOLD));
    CHECK(!guard_lives(core, 1000 * MS + GUARD_LATE * HOLD + 1));

    /* it beat after the core read its clock; or writes anything */
    life->beat_ns = 1001 * MS;
    CHECK(guard_lives(core, 1000 * MS));
    life->beat_ns = 1000 * MS + GUARD_LATE * HOLD + 1;
    CHECK(!guard_lives(core, 1000 * MS));
    life->beat_ns = INT64_MAX;
    CHECK(!guard_lives(core, 1000 * MS));
    life->beat_ns = INT64_MIN;
    CHECK(!guard_lives(core, 1000 * MS));

    /* without a guard it is not this one's to say */
    life->beat_ns = 1000 * MS;
    life->owner = 77 | FUTEX_OWNER_DIED;
    CHECK(!guard_lives(core, 1000 * MS));
    close_life(life);
    core = calloc(1, sizeof *core);
    CHECK(guard_lives(core, 0));
    free(core);
}

static void a_pause_of_the_whole_machine_is_forgiven_the_guard_once(void)
{
    struct guard_life *life = open_life();

    life->beat_ns = 1000 * MS;
    guard_beat(core, 1001 * MS);
    guard_beat(core, 9000 * MS);
    CHECK(guard_lives(core, 9000 * MS));
    CHECK(guard_lives(core, 9000 * MS + GUARD_LATE * HOLD));
    CHECK(!guard_lives(core, 9000 * MS + GUARD_LATE * HOLD + 1));

    /* held up again, and the guard has not run since */
    guard_beat(core, 19000 * MS);
    CHECK(!guard_lives(core, 19000 * MS));
    life->beat_ns = 19001 * MS;
    CHECK(guard_lives(core, 19001 * MS));
    close_life(life);
}

/* ---- what follows ------------------------------------------------------------------------ */

static int64_t until;

static int judge(struct guard_view view, int64_t now_ns)
{
    if (!view.held_beat_ns)
        view.held_beat_ns = INPHASE_ABSENT;
    if (!view.forgiven_beat_ns)
        view.forgiven_beat_ns = INPHASE_ABSENT;
    return guard_judge(&view, HOLD, now_ns, &until);
}

static void a_beat_that_is_too_old_is_a_frozen_runtime(void)
{
    struct guard_view view = {.moving = 1, .beat_ns = 100 * MS};

    CHECK_EQUAL(judge(view, 100 * MS), GUARD_WAIT);
    CHECK_EQUAL(until, 120 * MS + 1);
    CHECK_EQUAL(judge(view, 120 * MS), GUARD_WAIT);
    CHECK_EQUAL(judge(view, until), GUARD_FROZEN);
    CHECK_EQUAL(judge(view, 5000 * MS), GUARD_FROZEN);

    /* looked at when it is not new any more: it does not get a whole hold from then on */
    CHECK_EQUAL(judge(view, 119 * MS), GUARD_WAIT);
    CHECK_EQUAL(until, 120 * MS + 1);
}

/* neither is a sign of life, and neither overflows */
static void a_beat_that_cannot_be_is_a_frozen_runtime(void)
{
    struct guard_view view = {.moving = 1, .beat_ns = INT64_MAX};

    CHECK_EQUAL(judge(view, 100 * MS), GUARD_FROZEN);
    view.beat_ns = INT64_MIN + 1;
    CHECK_EQUAL(judge(view, 100 * MS), GUARD_FROZEN);
    view.beat_ns = 121 * MS;
    CHECK_EQUAL(judge(view, 100 * MS), GUARD_FROZEN);

    /* the cycle thread beat after this look's clock was read */
    view.beat_ns = 101 * MS;
    CHECK_EQUAL(judge(view, 100 * MS), GUARD_WAIT);
    CHECK_EQUAL(until, 121 * MS + 1);
}

static void what_does_not_move_may_be_as_old_as_it_likes(void)
{
    struct guard_view view = {.beat_ns = 100 * MS};

    CHECK_EQUAL(judge(view, 5000 * MS), GUARD_WAIT);
    CHECK_EQUAL(until, 5020 * MS);
}

/* the machine stood still: a beat that is found then is given one more hold, and no second one */
static void a_beat_is_forgiven_once(void)
{
    struct guard_view view = {.moving = 1, .beat_ns = 100 * MS, .held_beat_ns = INPHASE_ABSENT,
                              .forgiven_beat_ns = INPHASE_ABSENT};

    /* late by no more than half of a hold: the guard was not held up */
    for (int64_t late_ns = 0; late_ns <= HOLD / 2; late_ns += HOLD / 8) {
        int64_t woke_ns = 120 * MS + 1 + late_ns;

        CHECK_EQUAL(guard_judge(&view, HOLD, 100 * MS, &until), GUARD_WAIT);
        guard_woke(&view, until, woke_ns, HOLD);
        CHECK_EQUAL(guard_judge(&view, HOLD, woke_ns, &until), GUARD_FROZEN);
    }

    /* by more: looked at again after a hold */
    guard_woke(&view, 120 * MS, 400 * MS, HOLD);
    CHECK_EQUAL(guard_judge(&view, HOLD, 400 * MS, &until), GUARD_WAIT);
    CHECK_EQUAL(until, 420 * MS + 1);
    CHECK_EQUAL(guard_judge(&view, HOLD, until, &until), GUARD_FROZEN);

    /* held up again, and the runtime has not run since */
    guard_woke(&view, 420 * MS, 800 * MS, HOLD);
    CHECK_EQUAL(guard_judge(&view, HOLD, 800 * MS, &until), GUARD_FROZEN);

    /* it has: then this is another beat */
    view.beat_ns = 430 * MS;
    guard_woke(&view, 450 * MS, 800 * MS, HOLD);
    CHECK_EQUAL(guard_judge(&view, HOLD, 800 * MS, &until), GUARD_WAIT);
    CHECK_EQUAL(until, 820 * MS + 1);

    /* and a later one is forgiven nothing that was forgiven to this one */
    view.beat_ns = 801 * MS;
    CHECK_EQUAL(guard_judge(&view, HOLD, 819 * MS, &until), GUARD_WAIT);
    CHECK_EQUAL(until, 821 * MS + 1);
    CHECK_EQUAL(guard_judge(&view, HOLD, until, &until), GUARD_FROZEN);
}

static void a_runtime_that_ended_in_motion_died(void)
{
    struct guard_view view = {.moving = 1, .beat_ns = 100 * MS, .is_dead = true, .is_left = true};

    CHECK_EQUAL(judge(view, 101 * MS), GUARD_DIED);
    view.moving = 0;
    CHECK_EQUAL(judge(view, 101 * MS), GUARD_LEAVE);
    view.is_dead = false;
    CHECK_EQUAL(judge(view, 101 * MS), GUARD_LEAVE);

    /* a runtime that closes its line in motion is watched to its end */
    view.moving = 1;
    CHECK_EQUAL(judge(view, 101 * MS), GUARD_WAIT);
    CHECK_EQUAL(judge(view, 121 * MS), GUARD_FROZEN);
}

static void a_frozen_runtime_that_was_left_alive_is_stopped_once_per_pause(void)
{
    struct guard_view view = {.moving = 1, .beat_ns = 100 * MS, .held_beat_ns = 100 * MS,
                              .held_until_ns = INT64_MAX};

    CHECK_EQUAL(judge(view, 5000 * MS), GUARD_WAIT);
    view.is_dead = true;
    CHECK_EQUAL(judge(view, 5000 * MS), GUARD_DIED);
    view.is_dead = false;
    view.beat_ns = 5001 * MS;
    CHECK_EQUAL(judge(view, 5001 * MS), GUARD_WAIT);
    CHECK_EQUAL(judge(view, 5022 * MS), GUARD_FROZEN);
}

/* for so long; a person is not left with a process that does nothing and does not end */
static void a_beat_that_is_left_alone_is_asked_about_again_when_its_time_is_over(void)
{
    struct guard_view view = {.moving = 1, .beat_ns = 100 * MS, .held_beat_ns = 100 * MS,
                              .held_until_ns = 120 * MS + GUARD_SPARE_NS};

    CHECK_EQUAL(judge(view, 121 * MS), GUARD_WAIT);
    CHECK_EQUAL(judge(view, 120 * MS + GUARD_SPARE_NS - 1), GUARD_WAIT);
    CHECK_EQUAL(judge(view, 120 * MS + GUARD_SPARE_NS), GUARD_FROZEN);
    view.moving = 0;
    CHECK_EQUAL(judge(view, 120 * MS + GUARD_SPARE_NS), GUARD_WAIT);
}

static void a_runtime_is_spared_where_every_actuator_is_emulated_and_once_per_beat(void)
{
    struct guard_view view = {.moving = 1, .beat_ns = 100 * MS, .held_beat_ns = INPHASE_ABSENT};

    CHECK(guard_spares(&view, 1, 1));
    CHECK(guard_spares(&view, 3, 7));
    CHECK(guard_spares(&view, INPHASE_MAX_ACTUATORS,
                       (uint32_t)((1ULL << INPHASE_MAX_ACTUATORS) - 1)));

    /* one that is real, also where it does not move; or that the guard does not have */
    for (uint32_t i = 0; i < 3; i++)
        CHECK(!guard_spares(&view, 3, 7U & ~(1U << i)));
    CHECK(!guard_spares(&view, 3, 0));
    CHECK(!guard_spares(&view, 2, 7));
    CHECK(!guard_spares(&view, 0, 0));

    view.held_beat_ns = 100 * MS;
    CHECK(!guard_spares(&view, 1, 1));
    view.beat_ns = 101 * MS;
    CHECK(guard_spares(&view, 1, 1));
}

/* how often a worker's device was lost in motion, and whether its worker has to be killed before it
   is stopped: each loss is another number, also of one that is lost again in the same way */
static void a_loss_in_motion_is_left_with_what_became_of_the_worker(void)
{
    static const struct {
        bool is_stuck;
        uint32_t lost;
    } loss[] = {{false, 2}, {false, 4}, {true, 7}, {true, 9}, {false, 10}, {true, 13}};

    open_page();
    guard_abandon(core, &core->actuator[1], true);
    CHECK_EQUAL(seen->lost[1], 0); /* it does not move */
    leave(1, 1);
    for (size_t i = 0; i < sizeof loss / sizeof *loss; i++) {
        guard_abandon(core, &core->actuator[1], loss[i].is_stuck);
        CHECK_EQUAL(seen->lost[1], loss[i].lost);
    }
    guard_abandon(core, &core->actuator[0], true); /* another moves, this one does not */
    guard_withdraw(core, &core->actuator[1]);
    guard_abandon(core, &core->actuator[1], true);
    CHECK_EQUAL(seen->lost[1], 13);
    for (uint32_t i = 0; i < INPHASE_MAX_ACTUATORS; i++)
        CHECK(i == 1 || seen->lost[i] == 0);
    close_page();
    core = calloc(1, sizeof *core);
    make_actuator(0, INPHASE_STOP_HOLD, SIZE);
    guard_abandon(core, &core->actuator[0], true); /* without a guard nothing is left */
    free(core);
}

/* each time that it was spared is told once */
static void the_core_learns_that_it_was_spared(void)
{
    struct guard_life *life = open_life();

    CHECK(!guard_spared(&core->guard));
    life->spared++;
    CHECK(guard_spared(&core->guard));
    CHECK(!guard_spared(&core->guard));
    life->spared++;
    CHECK(guard_spared(&core->guard));
    CHECK(!guard_spared(&core->guard));
    close_life(life);
    core = calloc(1, sizeof *core);
    CHECK(!guard_spared(&core->guard));
    free(core);
}

int main(void)
{
    RUN(a_device_that_is_lost_in_motion_is_told_once_per_loss);
    RUN(nobody_else_can_write_or_resize_the_page);
    RUN(nothing_is_to_be_stopped_before_a_command);
    RUN(the_bytes_are_those_of_the_last_command);
    RUN(a_record_that_was_not_finished_does_not_count);
    RUN(what_cannot_be_is_no_record);
    RUN(a_page_that_leads_outside_is_refused);
    RUN(a_page_that_changes_while_it_is_read_leads_nowhere);
    RUN(the_kernel_tells_the_death_of_the_cycle_thread);
    RUN(a_guard_lives_that_beats);
    RUN(a_pause_of_the_whole_machine_is_forgiven_the_guard_once);
    RUN(a_beat_that_is_too_old_is_a_frozen_runtime);
    RUN(a_beat_that_cannot_be_is_a_frozen_runtime);
    RUN(what_does_not_move_may_be_as_old_as_it_likes);
    RUN(a_beat_is_forgiven_once);
    RUN(a_runtime_that_ended_in_motion_died);
    RUN(a_frozen_runtime_that_was_left_alive_is_stopped_once_per_pause);
    RUN(a_beat_that_is_left_alone_is_asked_about_again_when_its_time_is_over);
    RUN(a_runtime_is_spared_where_every_actuator_is_emulated_and_once_per_beat);
    RUN(the_core_learns_that_it_was_spared);
    RUN(a_loss_in_motion_is_left_with_what_became_of_the_worker);
    return 0;
}
