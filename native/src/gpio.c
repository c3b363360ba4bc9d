/* GPIO lines as triggers: up at a sensor's trigger offset, down again in the same cycle. The
   supervisor requests the line (libgpiod); one ioctl per edge is here. */
#include <errno.h>
#include <linux/gpio.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "clock.h"
#include "core.h"
#include "device.h"
#include "gpio.h"
#include "sensor.h"

int inphase_gpio_set(int fd, uint64_t mask, uint64_t value)
{
    struct gpio_v2_line_values values = {.bits = value, .mask = mask};

    return ioctl(fd, GPIO_V2_LINE_SET_VALUES_IOCTL, &values) < 0 ? -errno : 0;
}

int inphase_core_line(inphase_core *core, uint32_t index, int fd, int64_t pulse_ns)
{
    struct sensor *sensor;

    if (core->started || core->clock == &virtual_clock)
        return -EBUSY;
    if (index >= core->sensors || core->sensor[index].free_running || pulse_ns < 0 ||
        core->sensor[index].trigger_ns + pulse_ns > core->act_ns)
        return -EINVAL;
    sensor = &core->sensor[index];
    sensor->line_fd = fd;
    sensor->pulse_ns = pulse_ns;
    if (!sensor->has_line && sensor->device->ops->pairs)
        order_trigger(core, index);
    sensor->has_line = true;
    return 0;
}

int line_raise(struct sensor *sensor)
{
    int rc = inphase_gpio_set(sensor->line_fd, 1, 1);

    sensor->line_is_up = rc == 0;
    return rc;
}

void lines_lower(struct inphase_core *core, bool all)
{
    for (uint32_t i = 0; i < core->sensors; i++) {
        struct sensor *sensor = &core->sensor[i];
        int rc;

        if (!sensor->line_is_up ||
            (!all && core->clock->now(core) < sensor->triggered_ns + sensor->pulse_ns))
            continue;
        sensor->line_is_up = false;
        rc = inphase_gpio_set(sensor->line_fd, 1, 0);
        if (rc < 0 && sensor->device->attached)
            device_lost(core, sensor->device, rc);
    }
}
