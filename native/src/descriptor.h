/* Devices behind a file descriptor. */
#pragma once

#include <stdbool.h>

struct device_ops;

extern const struct device_ops fd_ops;

/* switch on a descriptor's receive stamps and error frames, where it has them; any thread */
void fd_prepare(int fd, bool can);
