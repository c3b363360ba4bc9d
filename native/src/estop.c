/* The emergency stop: its inputs are read once per cycle, right before anything is written. An
   input that cannot be read counts as pressed. Cycle thread only, except for the functions of
   inphase.h. */
#include <errno.h>
#include <linux/gpio.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "client_page.h"
#include "clock.h"
#include "core.h"
#include "estop.h"
#include "relaxed.h"
#include "rest.h"
#include "sensor.h"
#include "state.h"

enum level { RELEASED, PRESSED, UNKNOWN };

int inphase_gpio_get(int fd, uint64_t mask, uint64_t *value)
{
    struct gpio_v2_line_values values = {.mask = mask};

    if (ioctl(fd, GPIO_V2_LINE_GET_VALUES_IOCTL, &values) < 0)
        return -errno;
    *value = values.bits;
    return 0;
}

/* on virtual time: as planned, to the nanosecond */
static enum level planned_level(const struct inphase_core *core, uint32_t input)
{
    for (uint32_t i = 0; i < core->faults; i++) {
        const struct inphase_fault *fault = &core->fault[i];
        int64_t from_ns = fault->from_cycle * core->period_ns + fault->argument;

        if (fault->kind == INPHASE_FAULT_ESTOP && fault->device == input &&
            core->virtual_ns >= from_ns &&
            core->virtual_ns < from_ns + fault->count * core->period_ns)
            return PRESSED;
    }
    return RELEASED;
}

static enum level line_level(const struct inphase_core *core, uint32_t input)
{
    uint64_t value = 0;

    if (core->clock == &virtual_clock)
        return planned_level(core, input);
    if (core->estop_fd[input] < 0 || inphase_gpio_get(core->estop_fd[input], 1, &value) < 0)
        return UNKNOWN;
    return (value & 1) == core->estop[input].pressed ? PRESSED : RELEASED;
}

static enum level sample_level(const struct inphase_core *core,
                               const struct inphase_estop_input *input)
{
    const struct sensor *sensor = &core->sensor[input->sensor];
    double value = sensor->newest.value[input->channel];

    if (sensor->newest.sequence < 0 || !(input->accepts >> sensor->status & 1))
        return UNKNOWN;
    if (isnan(value) || value < input->low || value > input->high)
        return PRESSED;
    if (!input->mask)
        return RELEASED;

    /* a value that is no whole number is a fault, and stops */
    if (!(value >= 0 && value < 0x1p53) || value != floor(value))
        return PRESSED;
    if (input->pressed)
        return (uint64_t)value & input->mask ? PRESSED : RELEASED;
    return ((uint64_t)value & input->mask) == input->mask ? RELEASED : PRESSED;
}

static enum level input_level(const struct inphase_core *core, uint32_t input)
{
    switch (core->estop[input].kind) {
    case INPHASE_INPUT_LINE:
        return line_level(core, input);
    case INPHASE_INPUT_SAMPLE:
        return sample_level(core, &core->estop[input]);
    default:
        return RELEASED;
    }
}

/* the source of stops since the last look; 0: none */
static uint32_t asked_for(struct inphase_core *core)
{
    uint32_t from = load_u32(&core->estop_request), stops;

    if (from)
        put_u32(&core->estop_request, 0);
    if (!core->client_page)
        return from;
    stops = atomic_load_explicit(&core->client_page->stops, memory_order_relaxed);
    if (stops != core->stops_seen) {
        atomic_fetch_add_explicit(&core->state->estops, 1, memory_order_relaxed);
        from = INPHASE_ESTOP_CLIENT;
    }
    core->stops_seen = stops;
    return from;
}

void estop_look(struct inphase_core *core)
{
    uint32_t pressed = 0, unknown = 0, before = load_u32(&core->state->estop), from;

    for (uint32_t i = 0; i < core->estop_inputs; i++) {
        enum level level = input_level(core, i);

        pressed |= (uint32_t)(level == PRESSED) << i;
        unknown |= (uint32_t)(level == UNKNOWN) << i;
    }
    core->estop_seen = true;
    if (pressed & ~before)
        atomic_fetch_add_explicit(&core->state->estops, 1, memory_order_relaxed);
    put_u32(&core->state->estop, pressed | unknown << INPHASE_ESTOP_INPUTS);
    from = asked_for(core);
    if (pressed)
        latch_motion(core, INPHASE_REASON_ESTOP, (uint32_t)__builtin_ctz(pressed));
    else if (from && load_u32(&core->state->latched) == INPHASE_REASON_ESTOP)
        rest_estop(core); /* a second press */
    else if (from)
        latch_motion(core, INPHASE_REASON_ESTOP, from);
    else if (unknown && core->is_live && !load_u32(&core->state->latched))
        latch_motion(core, INPHASE_REASON_ESTOP, (uint32_t)__builtin_ctz(unknown));
}

int inphase_core_estop(inphase_core *core, uint32_t from)
{
    if (from != INPHASE_ESTOP_LOCAL && from != INPHASE_ESTOP_CLIENT)
        return -EINVAL;
    atomic_fetch_add_explicit(&core->state->estops, 1, memory_order_relaxed);
    put_u32(&core->estop_request, from);
    return 0;
}

int inphase_core_estop_line(inphase_core *core, uint32_t input, int fd)
{
    if (core->started || core->clock == &virtual_clock)
        return -EBUSY;
    if (input >= core->estop_inputs || core->estop[input].kind != INPHASE_INPUT_LINE)
        return -EINVAL;
    core->estop_fd[input] = fd;
    return 0;
}
