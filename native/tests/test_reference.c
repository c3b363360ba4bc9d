/* Commands for a device that wants one for each of its packets: the number that they answer, and
   the motion that they go on from. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../src/actuator.h"
#include "../src/core.h"
#include "../src/device.h"
#include "../src/reference.h"
#include "../src/sensor.h"
#include "check.h"

#define PERIOD_NS 1000000
#define NUMBER_AT 4
#define FINISH_AT 13
#define STEP 0.1

static struct inphase_core *core;
static struct device device;
static struct actuator *actuator;
static struct inphase_parser *parser;

static void open_core(void)
{
    core = calloc(1, sizeof *core);
    CHECK(core);
    core->period_ns = PERIOD_NS;
    core->stop_cycle = -1;
    device = (struct device){.sensor = 0};
    parser = &core->sensor[0].parser;
    actuator = &core->actuator[0];
    actuator->device = &device;
    actuator->channels = 1;
    actuator->limiter[0].limits.step = STEP;
    actuator->encoding.reference = (struct inphase_reference){
        .type = INPHASE_U64, .offset = NUMBER_AT, .position = 1, .velocity = 2, .acceleration = 3,
        .finish = 1 + FINISH_AT};
}

static void close_core(void)
{
    free(core);
}

/* a packet comes, which tells the device's motion */
static void tell(uint64_t number, double position, double velocity, double acceleration)
{
    parser->sequence = number;
    parser->value[1] = position;
    parser->value[2] = velocity;
    parser->value[3] = acceleration;
}

/* a cycle that writes; the bytes' number */
static uint64_t write_one(double position)
{
    uint8_t bytes[FINISH_AT + 1] = {0};
    uint64_t number;

    actuator->applied[0] = actuator->motion[0].position = position;
    reference_put(core, actuator, bytes);
    memcpy(&number, bytes + NUMBER_AT, sizeof number);
    return number;
}

static void a_packet_is_answered_once_by_its_number(void)
{
    open_core();
    tell(7, 0.5, 0, 0);
    CHECK(reference_asks(core, actuator));
    CHECK_EQUAL(write_one(0.5), 7);
    CHECK(!reference_asks(core, actuator));
    tell(9, 0.5, 0, 0);
    CHECK(reference_asks(core, actuator));
    CHECK_EQUAL(write_one(0.5), 9);
    actuator->encoding.reference.type = 0;
    CHECK(reference_asks(core, actuator));
    close_core();
}

/* follow a packet after an answer of 1.0002 to packet 1, from a joint that was slowed down since */
static const struct inphase_motion *follow(uint64_t number, double position, double velocity)
{
    actuator->motion[0].position = 1.0;
    tell(1, 1.0, 0.2, 0);
    reference_follow(core, actuator);
    write_one(1.0002);
    actuator->motion[0].velocity = 0;
    tell(number, position, velocity, 0.5);
    reference_follow(core, actuator);
    return &actuator->motion[0];
}

/* the device tells a float of what was commanded: the command itself goes on */
static void a_command_that_was_taken_is_gone_on_from_as_it_was(void)
{
    const struct inphase_motion *motion;

    open_core();
    motion = follow(2, (float)1.0002, 0.2);
    CHECK(motion->position == 1.0002 && motion->velocity == 0.2 && motion->acceleration == 0.5);
    close_core();
}

/* it has carried the motion on where an answer was late, or where packets were lost */
static void motion_goes_on_from_where_the_device_is(void)
{
    const struct inphase_motion *motion;

    open_core();
    motion = follow(2, 1.000201, 0.201);
    CHECK(motion->position == 1.000201 && motion->velocity == 0.201);
    close_core();
    open_core();
    motion = follow(5, 1.0008, 0.2);
    CHECK(motion->position == 1.0008 && motion->velocity == 0.2);
    close_core();
}

/* where it has moved by its velocity and stands still by its position, the position is old */
static void a_position_of_the_packet_before_is_not_gone_back_to(void)
{
    const struct inphase_motion *motion;

    open_core();
    motion = follow(2, 1.0, 0.2);
    CHECK(motion->position == 1.0002 && motion->velocity == 0.2);
    close_core();
    open_core();
    motion = follow(2, 1.0, 0);
    CHECK(motion->position == 1.0 && motion->velocity == 0);
    close_core();
}

/* a number that is none, or a place far from the commands, moves nothing */
static void what_cannot_be_the_motion_is_not_followed(void)
{
    const double wrong[][2] = {{NAN, 0.2}, {INFINITY, 0.2}, {1.1, NAN}, {1.11, 0.2}, {0.89, 0.2}};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const struct inphase_motion *motion;

        open_core();
        motion = follow(5, wrong[i][0], wrong[i][1]);
        CHECK(motion->position == 1.0002 && motion->velocity == 0);
        close_core();
    }
}

/* nor is any packet followed twice, or by what is not commanded to positions */
static void only_a_new_packet_is_followed(void)
{
    open_core();
    tell(1, 1.0, 0.2, 0);
    write_one(0.5);
    reference_follow(core, actuator);
    CHECK(actuator->motion[0].position == 0.5);
    tell(2, NAN, 0.2, 0);
    reference_follow(core, actuator);
    CHECK(actuator->motion[0].position == 0.5);
    close_core();
}

static void the_last_commands_of_a_run_say_so_once_they_rest(void)
{
    uint8_t bytes[FINISH_AT + 1] = {0};

    open_core();
    tell(1, 1.0, 0, 0);
    reference_put(core, actuator, bytes);
    CHECK_EQUAL(bytes[FINISH_AT], 0);
    core->stop_cycle = core->cycle;
    CHECK(is_stopping(core));
    actuator->motion[0].velocity = 0.1;
    reference_put(core, actuator, bytes);
    CHECK_EQUAL(bytes[FINISH_AT], 0);
    actuator->motion[0].velocity = 0;
    reference_put(core, actuator, bytes);
    CHECK_EQUAL(bytes[FINISH_AT], 1);
    close_core();
}

int main(void)
{
    RUN(a_packet_is_answered_once_by_its_number);
    RUN(a_command_that_was_taken_is_gone_on_from_as_it_was);
    RUN(motion_goes_on_from_where_the_device_is);
    RUN(a_position_of_the_packet_before_is_not_gone_back_to);
    RUN(what_cannot_be_the_motion_is_not_followed);
    RUN(only_a_new_packet_is_followed);
    RUN(the_last_commands_of_a_run_say_so_once_they_rest);
    return 0;
}
