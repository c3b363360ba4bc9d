/* Leases on virtual time: a command moves the robot under the lease that the page names, before its
   end, and no other one. The robot is one blind joint that is asked for a position. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "../src/cycle.h"
#include "../src/lease.h"
#include "../src/mailbox.h"
#include "../src/setpoint.h"
#include "../src/statistics.h"
#include "../src/store.h"
#include "check.h"
#include "robot.h"

#define PERIOD_NS 1000000LL
#define ACT_NS 700000LL
#define HERE 0.25               /* where the joint starts */
#define LONG 50                 /* cycles that every ramp has ended in */

static int64_t handover_ns = 500000000; /* of the robot that is opened next */
static inphase_segment *page, *service; /* the runtime's, and the service's mapping of it */

static void open_robot(struct robot *robot)
{
    static const struct inphase_reply reply = {.size = 4};
    static const struct inphase_servo servo = {.natural_rad_s = 200, .velocity_max = 1e6,
                                               .acceleration_max = 1e9};
    static const struct inphase_limits limits = {.low = -100, .high = 100, .velocity = 10,
                                                 .acceleration = 1000, .step = 1};
    static const uint8_t packet[4] = {0};
    static const struct inphase_field field = {0, INPHASE_F32, 0, 0, 1, 0};
    static const double here = HERE;
    struct inphase_twin_channel channel = {.base = HERE};
    struct inphase_sensor_config sensor = {
        .device = 0, .channels = 1, .max_age_ns = 10 * PERIOD_NS, .recover = 3, .depth = 64,
        .every = 1, .payload = 8,
        .exchange = {.replies = 1, .reply = &reply,
                     .framing = {.datagram = 1, .min_size = 4, .max_size = 4},
                     .acquire = INPHASE_ACQUIRE_MIDDLE, .reply_max_ns = 400000},
        .twin = {.channel = &channel, .latency_ns = 200000},
    };
    struct inphase_actuator_config actuator = {
        .device = 1, .channels = 1, .feedback_sensor = -1, .max_hold_ns = 30 * PERIOD_NS,
        .handover_ns = handover_ns, .limits = &limits, .servo = &servo, .start = &here,
        .guarded = 1,
        .encoding = {.packet = packet, .packet_size = 4, .fields = 1, .field = &field},
    };
    struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = 500000, .act_ns = ACT_NS,
        .resumed_after_ns = 20 * PERIOD_NS, .devices = 2, .sensors = 1, .actuators = 1,
        .frame_depth = 64, .overrun_limit = 5, .has_policy = 1, .virtual_time = 1,
        .sensor = &sensor, .actuator = &actuator,
    };
    int fd;

    CHECK_EQUAL(make_robot(robot, &config), 0);
    CHECK_EQUAL(inphase_lease_page_make(&page, robot->core->epoch), 0);
    CHECK_EQUAL(inphase_lease_page_set(page, 1, INT64_MAX), -EPERM); /* the service's to do */
    CHECK_EQUAL(inphase_core_lease_page(robot->core, page), 0);
    fd = inphase_segment_fd(page);
    CHECK_EQUAL(inphase_segment_map(&service, fd, 1), 0);
    start_robot(robot, 1);
    robot->goal = HERE;
}

static void close_all(struct robot *robot)
{
    close_robot(robot);
    inphase_segment_close(service);
    inphase_segment_close(page);
}

/* One cycle in which somebody asks, under a lease, for a place that lies `by` beyond the last; the
   frame before that act */
static const struct inphase_frame *drive(struct robot *robot, uint32_t lease, uint32_t drove,
                                         double by)
{
    const struct inphase_frame *frame = latch(robot);
    struct mail mail = {.cycle = robot->core->cycle, .posted_ns = robot->core->virtual_ns,
                        .taken_ns = INPHASE_ABSENT, .valid_until_ns = INT64_MAX, .values = 1,
                        .lease = lease, .drove = drove};

    robot->goal += by;
    mailbox_put(robot->core->own_mailbox, &mail, &robot->goal);
    cycle_run(robot->core, CYCLE_ACT);
    return frame;
}

static uint32_t reason(const struct robot *robot)
{
    return robot->core->act[0]->reason;
}

static uint32_t flags(const struct robot *robot)
{
    return robot->core->act[0]->flags;
}

static double speed(const struct robot *robot)
{
    return fabs(robot->core->actuator[0].motion[0].velocity);
}

static double place(const struct robot *robot)
{
    return robot->core->actuator[0].motion[0].position;
}

static void until(struct robot *robot, int64_t end_ns, uint32_t lease)
{
    CHECK_EQUAL(inphase_lease_page_set(service, lease, robot->core->virtual_ns + end_ns), 0);
}

/* without a lease nothing moves, whatever is asked for, and the reason says so */
static void without_a_lease_nobody_drives(void)
{
    struct robot robot;

    open_robot(&robot);
    for (int n = 0; n < 10; n++) {
        CHECK_EQUAL(latch(&robot)->drove, INPHASE_DROVE_NOBODY);
        cycle_run(robot.core, CYCLE_ACT);
        CHECK_EQUAL(reason(&robot), INPHASE_REASON_LEASE);
    }
    for (uint32_t lease = 0; lease < 4; lease++) {
        drive(&robot, lease, INPHASE_DROVE_CLIENT, 0);
        CHECK_EQUAL(reason(&robot), INPHASE_REASON_LEASE);
        CHECK(flags(&robot) & INPHASE_ACT_HOLDING);
    }

    /* an idle robot is no fault of a policy's */
    CHECK(!(flags(&robot) & (INPHASE_ACT_MISSED | INPHASE_ACT_INVALID)));
    CHECK_EQUAL(robot.core->statistics->counts[COUNT_UNANSWERED], 0);
    CHECK_EQUAL(robot.core->statistics->counts[COUNT_MISSED], 0);
    CHECK_EQUAL(robot.core->statistics->counts[COUNT_INVALID], 0);
    close_all(&robot);
}

/* the holder's commands move it, and the frame says whose they were; another's do not */
static void the_holder_drives_and_the_frame_says_so(void)
{
    struct robot robot;
    const struct inphase_frame *frame;
    double before;

    open_robot(&robot);
    until(&robot, 1000 * PERIOD_NS, 7);
    drive(&robot, 7, INPHASE_DROVE_CLIENT, 0); /* it begins here: this frame is before it */
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_DROPPED);
    for (int n = 0; n < 20; n++) {
        frame = drive(&robot, 7, n < 15 ? INPHASE_DROVE_CLIENT : INPHASE_DROVE_PERSON, 0.001);
        CHECK_EQUAL(reason(&robot), INPHASE_REASON_NONE);
        CHECK_EQUAL(frame->lease, 7);
        CHECK_EQUAL(frame->drove, n == 0    ? INPHASE_DROVE_NOBODY
                                  : n <= 15 ? INPHASE_DROVE_CLIENT
                                            : INPHASE_DROVE_PERSON);
    }
    CHECK(place(&robot) > HERE + 0.01);

    /* a thief's command is told, and moves nothing */
    for (int n = 0; n < LONG; n++)
        drive(&robot, 7, INPHASE_DROVE_CLIENT, 0);
    before = place(&robot);
    drive(&robot, 6, INPHASE_DROVE_CLIENT, 0.01);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_LEASE);
    drive(&robot, 0, INPHASE_DROVE_POLICY, 0.01);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_LEASE);
    CHECK(fabs(place(&robot) - before) < 1e-9);

    /* nor does one of a kind that is none */
    drive(&robot, 7, INPHASE_DROVES, 0);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_SHAPE);
    close_all(&robot);
}

/* Another one's commands fade in over the time that the actuator says, evenly, and are its own
   from then on; where it says none, they are at once */
static void another_drivers_commands_fade_in_over_the_handover(void)
{
    static const int64_t whole[] = {0, 1, 4, 250};
    int64_t usual_ns = handover_ns;
    struct robot robot;

    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        handover_ns = whole[i] * PERIOD_NS + PERIOD_NS / 2;
        open_robot(&robot);
        until(&robot, 1000 * PERIOD_NS, 7);
        for (int n = 0; n < 5; n++)
            drive(&robot, 7, INPHASE_DROVE_CLIENT, 0);
        drive(&robot, 7, INPHASE_DROVE_PERSON, 0.1);
        for (int64_t n = 1; n <= whole[i] + 3; n++) {
            double share = fmin((double)n / (double)(whole[i] + 1), 1);

            CHECK(fabs(robot.core->command[0] - (HERE + 0.1 * share)) < 1e-12);
            drive(&robot, 7, INPHASE_DROVE_PERSON, 0);
        }
        close_all(&robot);
    }
    handover_ns = usual_ns;
}

/* a command that no actuator follows drove nothing: motion is latched, or it began too far away */
static void who_is_not_followed_does_not_drive(void)
{
    struct robot robot;

    open_robot(&robot);
    until(&robot, 1000 * PERIOD_NS, 3);
    drive(&robot, 3, INPHASE_DROVE_CLIENT, 0);
    robot.goal += 50;
    drive(&robot, 3, INPHASE_DROVE_CLIENT, 0);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_START);
    robot.goal = HERE;
    CHECK_EQUAL(drive(&robot, 3, INPHASE_DROVE_CLIENT, 0)->drove, INPHASE_DROVE_NOBODY);
    CHECK_EQUAL(drive(&robot, 3, INPHASE_DROVE_CLIENT, 0)->drove, INPHASE_DROVE_CLIENT);
    CHECK_EQUAL(inphase_core_estop(robot.core, INPHASE_ESTOP_CLIENT), 0);
    drive(&robot, 3, INPHASE_DROVE_CLIENT, 0);
    for (int n = 0; n < 5; n++)
        CHECK_EQUAL(drive(&robot, 3, INPHASE_DROVE_CLIENT, 0)->drove, INPHASE_DROVE_NOBODY);
    close_all(&robot);
}

/* the robot's own clock ends a lease: in that act the ramp begins, though commands still come */
static void a_lease_ends_by_the_clock_with_a_ramp(void)
{
    struct robot robot;
    int ramped = 0;

    open_robot(&robot);
    until(&robot, 30 * PERIOD_NS, 3);
    drive(&robot, 3, INPHASE_DROVE_CLIENT, 0);
    for (int n = 1; n < 30; n++)
        drive(&robot, 3, INPHASE_DROVE_CLIENT, 0.005);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_NONE);
    CHECK(speed(&robot) > 1);
    drive(&robot, 3, INPHASE_DROVE_CLIENT, 0.005);
    for (; speed(&robot) > 0 && ramped < LONG; ramped++) {
        CHECK_EQUAL(reason(&robot), INPHASE_REASON_LEASE);
        CHECK(flags(&robot) & INPHASE_ACT_RAMPING);
        drive(&robot, 3, INPHASE_DROVE_CLIENT, 0.005);
    }
    CHECK(ramped > 1 && ramped < LONG);
    close_all(&robot);
}

/* the next lease drives from rest on; what the last one left asks for nothing any more */
static void the_next_lease_drives_from_rest_on(void)
{
    struct robot robot;
    int waited = 0;

    open_robot(&robot);
    until(&robot, 1000 * PERIOD_NS, 3);
    drive(&robot, 3, INPHASE_DROVE_CLIENT, 0);
    for (int n = 0; n < 30; n++)
        drive(&robot, 3, INPHASE_DROVE_CLIENT, 0.005);
    CHECK(speed(&robot) > 1);
    until(&robot, 1000 * PERIOD_NS, 4);
    robot.goal = place(&robot);
    for (; waited < LONG; waited++) {
        drive(&robot, 4, INPHASE_DROVE_CLIENT, 0);
        robot.goal = place(&robot);
        if (reason(&robot) == INPHASE_REASON_NONE)
            break;
        CHECK(reason(&robot) == INPHASE_REASON_LEASE || reason(&robot) == INPHASE_REASON_DROPPED);
        CHECK(speed(&robot) < 10);
    }
    CHECK(waited > 2 && waited < LONG);
    CHECK(speed(&robot) < 0.1);
    drive(&robot, 3, INPHASE_DROVE_CLIENT, 0.001);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_LEASE);
    CHECK_EQUAL(drive(&robot, 4, INPHASE_DROVE_CLIENT, 0)->lease, 4);
    close_all(&robot);
}

static double asked(const struct robot *robot)
{
    return robot->core->actuator[0].requested[0];
}

/* So many cycles in which that one asks for a place; the largest change of the command in one */
static double jump_of(struct robot *robot, uint32_t drove, double goal, int cycles)
{
    double largest = 0;

    for (int n = 0; n < cycles; n++) {
        double before = asked(robot);

        drive(robot, 7, drove, goal - robot->goal);
        CHECK_EQUAL(reason(robot), INPHASE_REASON_NONE);
        largest = fmax(largest, fabs(asked(robot) - before));
    }
    return largest;
}

/* the person says that it hands back */
static void leave(struct robot *robot)
{
    const struct inphase_frame *frame = latch(robot);
    struct mail mail = {.cycle = frame->cycle, .posted_ns = robot->core->virtual_ns,
                        .taken_ns = INPHASE_ABSENT, .reason = INPHASE_REASON_SILENT, .lease = 7,
                        .drove = INPHASE_DROVE_PERSON};

    mailbox_put(robot->core->own_mailbox, &mail, NULL);
    cycle_run(robot->core, CYCLE_ACT);
}

/* another one takes over: its commands fade in over half a second, from where the robot is
   commanded, and then they are its own */
static void who_takes_over_leads_it_on_without_a_jump(void)
{
    struct robot robot;
    const int fade = 501;
    double largest;

    open_robot(&robot);
    until(&robot, 10000 * PERIOD_NS, 7);
    drive(&robot, 7, INPHASE_DROVE_CLIENT, 0);
    CHECK(jump_of(&robot, INPHASE_DROVE_CLIENT, HERE, 10) < 1e-12);

    /* the whole way, evenly */
    largest = jump_of(&robot, INPHASE_DROVE_PERSON, HERE + 1, fade - 1);
    CHECK(largest > 0.9 / fade && largest < 1.1 / fade);
    CHECK(asked(&robot) < HERE + 1);
    drive(&robot, 7, INPHASE_DROVE_PERSON, 0);
    CHECK(fabs(asked(&robot) - (HERE + 1)) < 1e-12);
    for (int n = 0; n < LONG; n++)
        drive(&robot, 7, INPHASE_DROVE_PERSON, 0);

    /* while the person drives others are overruled; it hands back at once where it says so */
    drive(&robot, 7, INPHASE_DROVE_CLIENT, -1);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_SILENT);
    leave(&robot);

    /* back, and taken over again on the way, from where it is by then */
    largest = jump_of(&robot, INPHASE_DROVE_CLIENT, HERE, 200);
    CHECK(largest < 1.1 / fade);
    largest = jump_of(&robot, INPHASE_DROVE_PERSON, HERE + 1, 200);
    CHECK(largest < 0.01);
    CHECK(asked(&robot) > HERE + 0.5 && asked(&robot) < HERE + 1);

    /* its own jump is passed on in steps, while a part of the way is still to go */
    largest = jump_of(&robot, INPHASE_DROVE_PERSON, HERE + 20, 290);
    CHECK(largest > 0.9 && largest <= 1 + 1e-9);
    jump_of(&robot, INPHASE_DROVE_PERSON, HERE + 20, 50);
    CHECK(fabs(asked(&robot) - (HERE + 20)) < 1e-12);

    /* then nothing stands between its commands and the limits any more */
    CHECK(fabs(jump_of(&robot, INPHASE_DROVE_PERSON, HERE, 1) - 20) < 1e-9);
    close_all(&robot);
}

/* who begins at rest begins where the robot is, whoever drove before */
static void nobodys_commands_are_taken_over_from(void)
{
    struct robot robot;

    open_robot(&robot);
    until(&robot, 100 * PERIOD_NS, 7);
    drive(&robot, 7, INPHASE_DROVE_CLIENT, 0);
    jump_of(&robot, INPHASE_DROVE_CLIENT, HERE + 0.001, 10);
    until(&robot, 1000 * PERIOD_NS, 8);
    for (int n = 0; n < LONG; n++)
        drive(&robot, 8, INPHASE_DROVE_PERSON, place(&robot) - robot.goal);
    CHECK_EQUAL(reason(&robot), INPHASE_REASON_NONE);
    drive(&robot, 8, INPHASE_DROVE_PERSON, 0.002);
    CHECK(fabs(asked(&robot) - robot.goal) < 1e-12);
    close_all(&robot);
}

/* the page tells who drives now, and a page of another runtime is refused */
static void a_page_is_of_one_runtime(void)
{
    inphase_segment *other;
    struct robot robot;

    open_robot(&robot);
    CHECK_EQUAL(inphase_lease_page_get(service), 0);
    CHECK_EQUAL(inphase_lease_page_set(service, 5, INT64_MAX), 0);
    CHECK_EQUAL(inphase_lease_page_get(page), 5);
    CHECK_EQUAL(inphase_lease_page_set(service, 5, 0), 0);
    CHECK_EQUAL(inphase_lease_page_get(page), 0);
    CHECK_EQUAL(inphase_lease_page_set(service, 0, INT64_MAX), 0);
    CHECK_EQUAL(inphase_lease_page_get(page), 0);
    CHECK_EQUAL(inphase_lease_page_make(&other, robot.core->epoch + 1), 0);
    CHECK_EQUAL(inphase_core_lease_page(robot.core, other), -EPROTO);
    inphase_segment_close(other);
    close_all(&robot);
}

/* answers are signed once for all, by a kind of driver that there is */
static void answers_carry_their_signature(void)
{
    inphase_segment *runtime, *policy;
    const struct mailbox *person;
    double one = 1;
    union { struct mail mail; uint8_t room[sizeof(struct mail) + sizeof(double)]; } out;

    CHECK_EQUAL(inphase_mailbox_make(&runtime, 1, 9), 0);
    CHECK_EQUAL(inphase_segment_map(&policy, inphase_segment_fd(runtime), 1), 0);
    CHECK_EQUAL(inphase_mailbox_post(policy, 0, INT64_MAX, 0, &one, 1), 0);
    CHECK(mailbox_read((void *)runtime->memory, 1, 0, &out.mail));
    CHECK(out.mail.lease == 0 && out.mail.drove == INPHASE_DROVE_POLICY);
    CHECK_EQUAL(inphase_mailbox_sign(policy, 4, INPHASE_DROVE_NOBODY), -EINVAL);
    CHECK_EQUAL(inphase_mailbox_sign(policy, 4, INPHASE_DROVES), -EINVAL);
    CHECK_EQUAL(inphase_mailbox_sign(policy, 4, INPHASE_DROVE_CLIENT), 0);
    CHECK_EQUAL(inphase_mailbox_post(policy, 1, INT64_MAX, 0, &one, 1), 0);
    CHECK(mailbox_read((void *)runtime->memory, 1, 1, &out.mail));
    CHECK(out.mail.lease == 4 && out.mail.drove == INPHASE_DROVE_CLIENT);

    /* a person's have a mailbox of their own: two processes never write into one */
    CHECK_EQUAL(inphase_mailbox_sign(policy, 4, INPHASE_DROVE_PERSON), 0);
    CHECK_EQUAL(inphase_mailbox_post(policy, 7, INT64_MAX, 0, &one, 1), 0);
    CHECK_EQUAL(mailbox_head((void *)runtime->memory), 2);
    person = mailbox_of_person((void *)runtime->memory, 1);
    CHECK_EQUAL(mailbox_head(person), 1);
    CHECK(mailbox_read(person, 1, 0, &out.mail));
    CHECK(out.mail.cycle == 7 && out.mail.drove == INPHASE_DROVE_PERSON);
    inphase_segment_close(policy);
    inphase_segment_close(runtime);
}

int main(void)
{
    without_a_lease_nobody_drives();
    the_holder_drives_and_the_frame_says_so();
    another_drivers_commands_fade_in_over_the_handover();
    who_is_not_followed_does_not_drive();
    a_lease_ends_by_the_clock_with_a_ramp();
    the_next_lease_drives_from_rest_on();
    who_takes_over_leads_it_on_without_a_jump();
    nobodys_commands_are_taken_over_from();
    a_page_is_of_one_runtime();
    answers_carry_their_signature();
    return 0;
}
