/* Rest, as it is measured, and the stop that is owed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../inphase.h"

struct actuator;

#define REST_SPEED 0.05 /* where the configuration says nothing */

/* knowledge of an actuator's rest, from the worst */
enum rest { REST_UNKNOWN, REST_MOVES, REST_KNOWN };

/* look at what moves, while anybody asks; at the latch, when the statuses are known */
void rest_look(struct inphase_core *core);
enum rest rest_of(const struct actuator *actuator);
enum rest rest_of_all(const struct inphase_core *core);
/* its device is gone: an actuator that was told to move is owed a stop */
void rest_lost(struct actuator *actuator);
/* an emergency stop reaches every attached device, also one that is not commanded; before the
   act */
void rest_estop(struct inphase_core *core);
/* An actuator that is not commanded in this act. true: it is owed a stop, which is ready to be
   written: `stops` says how, and for STOPS_VALUES `applied` has the values */
bool rest_prepare_stop(struct inphase_core *core, struct actuator *actuator, int64_t now_ns);
/* after the write of that stop, successful or not */
void rest_note_stop(struct actuator *actuator);
