/* Checks of a core's configuration. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

bool config_holds(const struct inphase_config *config);
