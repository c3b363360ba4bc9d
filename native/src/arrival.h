/* The arrival of a sample. */
#pragma once

#include <stdint.h>

#include "../inphase.h"

struct sensor;
struct sample;

/* A refusal is told in the frame that the sample was due in, and of no later trigger */
void refuse_sample(const struct inphase_core *core, struct sensor *sensor, int64_t cycle,
                   uint32_t reason, uint32_t detail);
/* only as many values as the sensor has channels: most have few */
void copy_sample(struct sample *to, const struct sample *from, uint32_t channels);
/* a sample that may answer an earlier, unanswered trigger: its cycle and its times are not known */
void forget_trigger(struct sample *sample);
/* a complete reply to the last trigger, or a sample that names its own */
void accept_sample(struct inphase_core *core, struct sensor *sensor);
/* The samples that came since the last frame go into the ring as one, before the frame that names
   it. Nothing where the sensor gives no bursts, or none came */
void store_burst(struct inphase_core *core, struct sensor *sensor);
/* A whole reply that nothing is expected for. Where a refused one is owed, that was something
   else's, and this is it. A reply sent twice says nothing. Any other is one too many: which of them
   belongs to the last trigger is not known. */
void take_left_over(struct inphase_core *core, struct sensor *sensor);
