/* The device as the clock, on virtual time: a device whose clock drifts, whose packets are late by
   different times, lost, doubled or out of order, and that goes away and comes back. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../src/core.h"
#include "../src/pace.h"
#include "../src/relaxed.h"
#include "../src/state.h"
#include "../src/twin.h"
#include "robot.h"

#define PERIOD_NS 2000000
#define READ_NS 800000
#define JITTER_NS 200000
#define CLOSE_NS 10000
#define SETTLED 1500             /* cycles after which the estimate is held to its bound */

/* what is different in a test */
struct device_model {
    double drift, dropout;
    int64_t phase_ns;
};

static void open_paced(struct robot *robot, const struct device_model *model)
{
    static const double probability[] = {0, 1}, late[] = {0, JITTER_NS};
    const struct inphase_twin_channel channel = {.kind = INPHASE_TWIN_CONSTANT};
    const struct inphase_reply reply = {.fields = 1};
    const struct inphase_field field = {0, INPHASE_F64, 0, 0, 1, 0};
    const struct inphase_sensor_config sensor = {
        .free_running = 1, .channels = 1, .payload = 8, .every = 1, .recover = 3, .depth = 64,
        .max_age_ns = 10 * PERIOD_NS,
        .exchange = {.replies = 1, .reply = &reply, .field = &field, .fields = 1,
                     .framing = {.datagram = 1, .min_size = 16, .max_size = 16}},
        .twin = {.channel = &channel, .period_ns = PERIOD_NS, .phase_ns = model->phase_ns,
                 .drift = model->drift, .dropout = model->dropout,
                 .latency = {2, probability, late}}};
    const struct inphase_config config = {
        .period_ns = PERIOD_NS, .read_deadline_ns = READ_NS, .act_ns = 1500000,
        .resumed_after_ns = 100000000, .devices = 1, .sensors = 1, .frame_depth = 8,
        .overrun_limit = 50, .cpu = -1, .virtual_time = 1, .seed = check_random(),
        .sensor = &sensor, .pace_sensor = 1};

    CHECK_EQUAL(make_robot(robot, &config), 0);
    CHECK_EQUAL(open_reader(&robot->reader, robot->segment, 0), 0);
}

/* how far a grid point lies from the nearest instant at which the device sends: of all packets the
   quickest comes at once */
static int64_t off_by(const struct device_model *model, int64_t due_ns)
{
    double period = PERIOD_NS / (1 + model->drift);
    double slots = (double)(due_ns - model->phase_ns) / period;
    double off = slots - (double)(int64_t)(slots + 0.5);

    return llabs((int64_t)(off * period));
}

static struct inphase_status status_of(struct robot *robot)
{
    struct inphase_status status;

    CHECK_EQUAL(inphase_reader_status(robot->reader, &status), 0);
    return status;
}

/* run, and see that no cycle is shorter than by the grid's largest step */
static void run_cycles(struct robot *robot, int64_t cycles, int64_t *due_ns)
{
    for (int64_t i = 0; i < cycles; i++) {
        const struct inphase_frame *frame = idle(robot);

        if (*due_ns)
            CHECK(frame->due_ns - *due_ns >= PERIOD_NS - PERIOD_NS / 16);
        *due_ns = frame->due_ns;
    }
}

static void follow(const struct device_model *model)
{
    struct robot robot;
    struct inphase_status status;
    int64_t due_ns = 0, worst_ns = 0, drift_ppb = (int64_t)(model->drift * 1e9);

    open_paced(&robot, model);
    run_cycles(&robot, SETTLED, &due_ns);
    for (int64_t i = 0; i < 15000; i++) {
        run_cycles(&robot, 1, &due_ns);
        if (off_by(model, due_ns) > worst_ns)
            worst_ns = off_by(model, due_ns);
    }
    status = status_of(&robot);
    printf("  off by %lld ns at most, drift %lld ppb of %lld\n", (long long)worst_ns,
           (long long)status.pace_drift_ppb, (long long)drift_ppb);
    CHECK(worst_ns < CLOSE_NS);
    CHECK_EQUAL(status.paced, 1);
    CHECK(llabs(status.pace_drift_ppb - drift_ppb) < 1000);
    CHECK_EQUAL(status.skipped, 0);
    close_robot(&robot);
}

static void the_grid_lies_within_10_us_of_a_clock_that_drifts(void)
{
    follow(&(struct device_model){.drift = 1e-4, .dropout = 0.01, .phase_ns = 700000});
    follow(&(struct device_model){.drift = -1e-4, .dropout = 0.01, .phase_ns = 1300000});
}

/* By its stamps a packet says itself which slot it is of, whatever time has passed. Here the grid
   alone runs, on a device that is given in this place */
static void the_stamps_of_the_device_tell_its_slots(void)
{
    struct device_model model = {.drift = 1e-4, .phase_ns = 300000};
    double period = PERIOD_NS / (1 + model.drift);
    struct robot robot;
    struct sensor *sensor;
    struct twin *twin;

    open_paced(&robot, &model);
    sensor = &robot.core->sensor[0];
    twin = sensor->twin;
    sensor->twin = NULL;
    sensor->device->attached = true;
    sensor->parser.exchange.spec.clock_type = INPHASE_U64;
    for (int64_t n = 0; n < 30000; n++) {
        int64_t sent_ns = model.phase_ns + (int64_t)((double)n * period), slept = n % 10000;
        bool is_lost = check_random() % 100 == 0 || slept > 9000;

        pace_begin(robot.core);
        sensor->clock_ns = 7000 + n * PERIOD_NS;
        if (!is_lost)
            pace_hear(robot.core, sensor, sent_ns + (int64_t)(check_random() % JITTER_NS));
        CHECK(n < SETTLED || robot.core->pace.came == !is_lost);
        robot.core->cycle++;
        pace_follow(robot.core);
        CHECK(n < SETTLED ||
              off_by(&model, load_i64(&robot.core->state->start_ns) +
                                 robot.core->cycle * PERIOD_NS) < CLOSE_NS);
    }
    sensor->twin = twin;
    close_robot(&robot);
}

static void each_cycle_has_its_own_packet(void)
{
    struct device_model model = {.drift = 1e-4, .phase_ns = 400000};
    struct robot robot;
    int64_t due_ns = 0, sequence;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    sequence = row_of(inphase_reader_record(robot.reader), 0)->sequence;
    for (int i = 0; i < 10000; i++) {
        const struct inphase_frame *frame = idle(&robot);

        CHECK_EQUAL(row_of(frame, 0)->sequence, ++sequence);
        CHECK(row_of(frame, 0)->received_ns >= frame->due_ns - CLOSE_NS);
        CHECK(!(frame->flags & INPHASE_FLAG_UNPACED));
    }
    close_robot(&robot);
}

/* the frame of a cycle whose packet is lost says so, and the cycle is in time all the same */
static void a_lost_packet_is_a_missed_slot(void)
{
    struct device_model model = {.drift = 5e-5, .phase_ns = 100000};
    const struct inphase_frame *frame;
    struct robot robot;
    int64_t due_ns = 0, level;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    plan(&robot, INPHASE_FAULT_SILENT, 0, SETTLED, 1, 0);
    level = robot.core->overrun_level;
    frame = idle(&robot);
    CHECK(frame->flags & INPHASE_FLAG_UNPACED);
    CHECK_EQUAL(frame->latched_ns, frame->due_ns + READ_NS);
    CHECK(row_of(frame, 0)->status != INPHASE_FRESH);
    CHECK(off_by(&model, frame->due_ns) < CLOSE_NS);
    CHECK_EQUAL(robot.core->overrun_level, level + 1);
    CHECK_EQUAL(status_of(&robot).missed_packets, 1);
    frame = idle(&robot);
    CHECK(!(frame->flags & INPHASE_FLAG_UNPACED));
    CHECK_EQUAL(row_of(frame, 0)->status, INPHASE_FRESH);
    CHECK_EQUAL(robot.core->overrun_level, level);
    CHECK_EQUAL(status_of(&robot).skipped, 0);
    close_robot(&robot);
}

/* packets that are missing as often as not are a trend; the run says whose fault it was */
static void missing_packets_that_go_on_end_the_run(void)
{
    struct device_model model = {.phase_ns = 100000};
    struct robot robot;
    int64_t due_ns = 0;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    for (int64_t i = 0; i < 60; i++)
        plan(&robot, INPHASE_FAULT_SILENT, 0, SETTLED + 6 * i, 5, 0);
    for (int i = 0; i < 100 && cycle_run(robot.core, CYCLE_WHOLE); i++)
        ;
    CHECK_EQUAL(status_of(&robot).reason, INPHASE_REASON_PACE);
    CHECK_EQUAL(status_of(&robot).detail, 0);
    close_robot(&robot);
}

/* a stream that stops is one hiccup, and a silent device; the grid goes on as the device's did */
static void the_cycle_goes_on_by_its_estimate_while_the_stream_is_away(void)
{
    struct device_model model = {.drift = 1e-4, .phase_ns = 900000};
    struct robot robot;
    int64_t due_ns = 0, first;

    open_paced(&robot, &model);
    run_cycles(&robot, 10000, &due_ns);
    plan(&robot, INPHASE_FAULT_SILENT, 0, 10000, 5000, 0);
    first = robot.core->cycle;
    run_cycles(&robot, 5000, &due_ns);
    CHECK(off_by(&model, due_ns) < CLOSE_NS);
    CHECK_EQUAL(robot.core->sensor[0].status, INPHASE_MISSING);
    CHECK_EQUAL(robot.core->overrun_level, 25);
    CHECK_EQUAL(status_of(&robot).missed_packets, 5000);

    /* its return: a packet in each cycle at once, and no cycle more than time has passed */
    for (int i = 0; i < 100; i++) {
        run_cycles(&robot, 1, &due_ns);
        CHECK(!(((const struct inphase_frame *)inphase_reader_record(robot.reader))->flags &
                INPHASE_FLAG_UNPACED));
    }
    CHECK_EQUAL(robot.core->cycle, first + 5100);
    CHECK_EQUAL(status_of(&robot).missed_packets, 5000);
    close_robot(&robot);
}

/* a device that is restarted streams in another phase: it is approached, not jumped to */
static void another_phase_is_approached_in_small_steps(void)
{
    struct device_model model = {.drift = 1e-4, .phase_ns = 900000};
    struct robot robot;
    int64_t due_ns = 0;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    plan(&robot, INPHASE_FAULT_SILENT, 0, SETTLED, 200, 0);
    run_cycles(&robot, 100, &due_ns);
    model.phase_ns += 900000;
    robot.core->sensor[0].twin->spec.phase_ns = model.phase_ns;
    run_cycles(&robot, 100 + SETTLED, &due_ns);
    CHECK_EQUAL(status_of(&robot).paced, 1);
    for (int i = 0; i < 1000; i++) {
        run_cycles(&robot, 1, &due_ns);
        CHECK(off_by(&model, due_ns) < CLOSE_NS);
    }
    close_robot(&robot);
}

/* the packets of a slot that has its own, as doubled and overtaken ones are */
static void doubled_and_overtaken_packets_move_nothing(void)
{
    struct device_model model = {.drift = 1e-4, .phase_ns = 900000};
    struct robot robot;
    int64_t due_ns = 0, heard_ns;
    uint64_t taken;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    heard_ns = robot.core->pace.heard_ns;
    taken = robot.core->pace.clock.taken;
    for (int i = 0; i < 100; i++) {
        pace_hear(robot.core, &robot.core->sensor[0], due_ns + i * 1000);
        pace_hear(robot.core, &robot.core->sensor[0], due_ns - PERIOD_NS);
    }
    CHECK_EQUAL(robot.core->pace.heard_ns, heard_ns);
    CHECK_EQUAL(robot.core->pace.clock.taken, taken);
    for (int i = 0; i < 100; i++) {
        run_cycles(&robot, 1, &due_ns);
        CHECK(off_by(&model, due_ns) < CLOSE_NS);
    }
    close_robot(&robot);
}

/* a packet behind the read deadline belongs to the slot before, and not to the one that reads it */
static void a_late_packet_does_not_stand_for_the_next_one(void)
{
    struct device_model model = {.phase_ns = 900000};
    const struct inphase_frame *frame;
    struct robot robot;
    int64_t due_ns = 0, sequence;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    frame = inphase_reader_record(robot.reader);
    sequence = row_of(frame, 0)->sequence;

    /* of one packet the way is longer by most of a period */
    robot.core->sensor[0].twin->spec.jitter_ns = 0;
    latch(&robot);
    CHECK_EQUAL(row_of(inphase_reader_record(robot.reader), 0)->sequence, ++sequence);
    cycle_run(robot.core, CYCLE_ACT);
    {
        struct inphase_twin *spec = &robot.core->sensor[0].twin->spec;
        struct inphase_distribution before = spec->latency;
        const double probability[] = {0, 1}, late[] = {1400000, 1400000};

        spec->latency = (struct inphase_distribution){2, probability, late};
        frame = idle(&robot);
        spec->latency = before;
    }
    CHECK(frame->flags & INPHASE_FLAG_UNPACED);
    frame = idle(&robot);
    CHECK(!(frame->flags & INPHASE_FLAG_UNPACED));
    CHECK(row_of(frame, 0)->received_ns >= frame->due_ns - CLOSE_NS);
    CHECK(row_of(frame, 0)->received_ns <= frame->due_ns + JITTER_NS + CLOSE_NS);
    close_robot(&robot);
}

/* a packet that is late by nearly a period may be taken for the next one, and pulls the grid to it;
   by no more than a packet may be early */
static void a_packet_that_is_late_by_nearly_a_period_pulls_the_grid_little(void)
{
    struct device_model model = {.phase_ns = 900000};
    struct robot robot;
    int64_t due_ns = 0;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    for (int64_t late_ns = 1000000; late_ns < PERIOD_NS; late_ns += 10000) {
        struct inphase_twin *spec = &robot.core->sensor[0].twin->spec;
        struct inphase_distribution before = spec->latency;
        const double probability[] = {0, 1}, late[] = {(double)late_ns, (double)late_ns};

        spec->latency = (struct inphase_distribution){2, probability, late};
        run_cycles(&robot, 1, &due_ns);
        spec->latency = before;
        run_cycles(&robot, 3, &due_ns);
        CHECK(off_by(&model, due_ns) < CLOSE_NS + PERIOD_NS / 32);
    }
    close_robot(&robot);
}

/* a grid on which every packet seems to be of the slot before is given up */
static void a_grid_that_lies_behind_the_packets_is_given_up(void)
{
    struct device_model model = {.phase_ns = 900000};
    struct robot robot;
    int64_t due_ns = 0;

    open_paced(&robot, &model);
    run_cycles(&robot, SETTLED, &due_ns);
    plan(&robot, INPHASE_FAULT_SILENT, 0, SETTLED, 20, 0);
    run_cycles(&robot, 10, &due_ns);
    model.phase_ns -= 300000;
    robot.core->sensor[0].twin->spec.phase_ns = model.phase_ns;
    run_cycles(&robot, SETTLED, &due_ns);
    CHECK_EQUAL(status_of(&robot).paced, 1);
    for (int i = 0; i < 1000; i++) {
        run_cycles(&robot, 1, &due_ns);
        CHECK(off_by(&model, due_ns) < CLOSE_NS);
    }
    close_robot(&robot);
}

static void before_the_first_packets_the_hosts_clock_paces(void)
{
    struct device_model model = {.phase_ns = 100 * (int64_t)PERIOD_NS + 700000};
    struct robot robot;

    open_paced(&robot, &model);
    for (int64_t i = 0; i < 100; i++) {
        const struct inphase_frame *frame = idle(&robot);

        CHECK_EQUAL(frame->due_ns, i * PERIOD_NS);
        CHECK(frame->flags & INPHASE_FLAG_UNPACED);
    }
    CHECK_EQUAL(status_of(&robot).unpaced, 100);
    CHECK_EQUAL(status_of(&robot).missed_packets, 0);
    CHECK_EQUAL(status_of(&robot).pace_drift_ppb, INPHASE_ABSENT);
    CHECK_EQUAL(robot.core->overrun_level, 0);
    close_robot(&robot);
}

int main(void)
{
    check_seed();
    RUN(the_grid_lies_within_10_us_of_a_clock_that_drifts);
    RUN(the_stamps_of_the_device_tell_its_slots);
    RUN(each_cycle_has_its_own_packet);
    RUN(a_lost_packet_is_a_missed_slot);
    RUN(missing_packets_that_go_on_end_the_run);
    RUN(the_cycle_goes_on_by_its_estimate_while_the_stream_is_away);
    RUN(another_phase_is_approached_in_small_steps);
    RUN(doubled_and_overtaken_packets_move_nothing);
    RUN(a_late_packet_does_not_stand_for_the_next_one);
    RUN(a_packet_that_is_late_by_nearly_a_period_pulls_the_grid_little);
    RUN(a_grid_that_lies_behind_the_packets_is_given_up);
    RUN(before_the_first_packets_the_hosts_clock_paces);
    return 0;
}
