/* The device as the clock: a device that streams at the cycle's rate says where the grid lies.

   A device that streams on its own clock, as the controller of an arm does, drifts through a grid
   on the host's clock. In every beat one packet is then skipped or doubled. With a *pace* each
   cycle has one packet: the grid lies on the earliest arrivals of the packets.

   The estimate is that of device_clock.c for a clock that is only heard. An arrival can be late by
   anything and is never early, so the line below all arrivals is the device's clock plus the
   shortest way to here. Its slope is the rate. Device time is the packet's own stamp where it has
   one, and else the number of its slot, which the arrival tells.

   The grid is start_ns + cycle * period_ns as ever, and it is start_ns that moves: once per cycle,
   by at most a sixteenth of a period. So no cycle is much shorter than another, whatever the
   device does: a stream that comes back in another phase is approached, and makes no burst.
   Whoever computes a time of the grid reads the newest start_ns.

   The cycle starts at its own estimate and not at the arrival: triggers of other devices and the
   act keep their offsets from the device's clock, and not from one packet's delay. It then waits
   for its packet as for a reply, until the read deadline. Without one it goes on in time. Such a
   slot counts like an overrun: a hiccup is forgiven, a trend ends the run. One silence, however
   long, counts for half of the limit: the rules of a silent device hold then, as for any other.

   Cycle thread only. No loop, no allocation, no system call. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core.h"
#include "device.h"
#include "pace.h"
#include "relaxed.h"
#include "sensor.h"
#include "state.h"

#define STEP_SHARE 16            /* the grid moves by this part of a period per cycle at most */
#define JITTER_SHARE 4           /* a packet that is later than this part teaches nothing */
#define EARLY_SHARE 32           /* a packet is early by this part at most, on a known grid... */
#define SURE_PERIODS 32          /* packets of which a kept reading is the earliest */
#define LATE_LASTS_NS 1000000000LL /* a stream that is late for so long has another phase */
#define IGNORED_MOST 8           /* ...unless so many slots in a row say that the grid is wrong */

static int64_t grid_ns(const struct inphase_core *core)
{
    return load_i64(&core->state->start_ns) + core->cycle * core->period_ns;
}

/* the device time of this cycle's packet */
static int64_t device_of_cycle(const struct inphase_core *core)
{
    const struct pace *pace = &core->pace;

    return pace->anchor_ns + (core->cycle - pace->anchor_cycle) * core->period_ns;
}

/* a simulated device says when it sampled, and its clock is not read */
static bool is_stamped(const struct sensor *sensor)
{
    return sensor->parser.exchange.spec.clock_type && !sensor->twin;
}

/* does each reading that the estimate keeps stand for the earliest of many packets? */
static bool is_sure(const struct pace *pace, int64_t period_ns)
{
    return pace->follows && pace->clock.span_ns >= SURE_PERIODS * period_ns;
}

/* How many whole periods lie between, where a packet may be early by early_ns, and late by the rest
   of a period. The less early it may be, the less a packet that is late by nearly a period, and is
   taken for the next one, can pull the grid to it */
static int64_t slots_between(int64_t from_ns, int64_t to_ns, int64_t early_ns, int64_t period_ns)
{
    int64_t apart_ns = to_ns - from_ns + early_ns;

    return apart_ns >= 0 ? apart_ns / period_ns : -((period_ns - 1 - apart_ns) / period_ns);
}

/* the device time of a packet: its stamp, or that of the slot in which it came */
static int64_t packet_time(const struct inphase_core *core, const struct sensor *sensor,
                           int64_t arrived_ns)
{
    const struct pace *pace = &core->pace;
    int64_t period_ns = core->period_ns, early_ns;

    if (is_stamped(sensor))
        return sensor->clock_ns;
    if (!pace->is_heard)
        return 0;
    early_ns = period_ns / (is_sure(pace, period_ns) ? EARLY_SHARE : JITTER_SHARE);
    if (!pace->is_anchored)
        return pace->heard_ns +
               slots_between(pace->arrived_ns, arrived_ns, early_ns, period_ns) * period_ns;
    return device_of_cycle(core) +
           slots_between(grid_ns(core), arrived_ns, early_ns, period_ns) * period_ns;
}

void pace_begin(struct inphase_core *core)
{
    core->pace.came = core->pace.ignored = core->pace.is_missed = false;
}

/* the grid is wrong: the estimate knows nothing any more */
static void begin_again(struct pace *pace)
{
    inphase_device_clock_init(&pace->clock);
    pace->is_anchored = pace->follows = pace->is_heard = pace->is_late = false;
    pace->ignored_in_a_row = 0;
}

/* A second packet of a slot says nothing, nor does one that was overtaken. Where slot after slot
   has no other packet, the grid is wrong */
static void ignore(struct pace *pace)
{
    if (pace->came || pace->ignored)
        return;
    pace->ignored = true;
    if (++pace->ignored_in_a_row >= IGNORED_MOST)
        begin_again(pace);
}

/* Is a packet later than the jitter? It teaches nothing then. The clock itself is the less sure of
   that the longer nothing fits it, and would mix two phases */
static bool is_late(const struct pace *pace, int64_t device_ns, int64_t arrived_ns,
                    int64_t period_ns)
{
    int64_t host_ns, error_ns;

    return is_sure(pace, period_ns) && device_ns > pace->heard_ns &&
           !inphase_device_clock_map(&pace->clock, device_ns, &host_ns, &error_ns) &&
           arrived_ns - host_ns > period_ns / JITTER_SHARE;
}

/* A stream that is late for long, without a packet in time, has another phase */
static void pass_late(struct pace *pace, int64_t arrived_ns)
{
    if (!pace->is_late)
        pace->late_from_ns = arrived_ns;
    pace->is_late = true;
    if (arrived_ns - pace->late_from_ns >= LATE_LASTS_NS)
        begin_again(pace);
}

void pace_hear(struct inphase_core *core, const struct sensor *sensor, int64_t arrived_ns)
{
    struct pace *pace = &core->pace;
    int64_t device_ns, jitter_ns = core->period_ns / JITTER_SHARE;

    device_ns = packet_time(core, sensor, arrived_ns);

    /* a device that was restarted goes back in its stamps, which the clock below has to see */
    if (pace->is_heard && !is_stamped(sensor) && device_ns <= pace->heard_ns) {
        ignore(pace);
        return;
    }
    pace->ignored_in_a_row = 0;
    if (is_late(pace, device_ns, arrived_ns, core->period_ns)) {
        pass_late(pace, arrived_ns);
    } else {
        pace->is_late = false;
        if (inphase_device_clock_hear(&pace->clock, device_ns, arrived_ns, 0, 0, jitter_ns) ==
            INPHASE_CLOCK_RESTARTED)
            pace->is_anchored = pace->follows = false;
    }
    pace->is_heard = true;
    pace->heard_ns = device_ns;
    pace->arrived_ns = arrived_ns;
    if (pace->follows && device_ns >= device_of_cycle(core) - core->period_ns / 2)
        pace->came = true;
}

const struct sensor *pace_awaited(const struct inphase_core *core)
{
    const struct pace *pace = &core->pace;

    return pace->sensor && pace->sensor->device->attached && pace->follows && !pace->came
               ? pace->sensor
               : NULL;
}

void pace_judge(struct inphase_core *core)
{
    struct pace *pace = &core->pace;
    struct state *state = core->state;
    int64_t most = core->overrun_limit > 1 ? core->overrun_limit / 2 : 1;

    if (!pace->sensor)
        return;
    if (pace->came) {
        pace->missed_in_a_row = 0;
        return;
    }

    /* the frame tells it, and the status counts it */
    core->flags |= INPHASE_FLAG_UNPACED;
    if (is_stopping(core))
        return;
    put_i64(&state->unpaced, load_i64(&state->unpaced) + 1);
    if (!pace_awaited(core))
        return;

    /* the leaky counter of overruns: see count_overrun */
    pace->is_missed = true;
    put_i64(&state->missed_packets, load_i64(&state->missed_packets) + 1);
    if (pace->missed_in_a_row < UINT32_MAX)
        pace->missed_in_a_row++;
    if (pace->missed_in_a_row > most)
        return;
    core->overrun_level++;
    if (core->overrun_level >= (int32_t)core->overrun_limit)
        inphase_core_stop(core, INPHASE_REASON_PACE,
                          (uint32_t)(pace->sensor->device - core->device));
}

/* the device's grid point that is nearest to this cycle's, as the packets so far tell it */
static bool anchor(struct inphase_core *core, int64_t planned_ns)
{
    struct pace *pace = &core->pace;
    int64_t host_ns, error_ns, apart_ns;

    if (inphase_device_clock_map(&pace->clock, pace->heard_ns, &host_ns, &error_ns) < 0)
        return false;
    apart_ns = planned_ns - host_ns;
    apart_ns += apart_ns < 0 ? -core->period_ns / 2 : core->period_ns / 2;
    pace->anchor_cycle = core->cycle;
    pace->anchor_ns = pace->heard_ns + apart_ns / core->period_ns * core->period_ns;
    pace->is_anchored = true;
    return true;
}

static void tell(struct inphase_core *core)
{
    struct inphase_clock_facts facts;

    inphase_device_clock_facts(&core->pace.clock, &facts);
    put_i64(&core->state->pace_drift_ppb, facts.drift_ppb);
    put_u32(&core->state->paced, core->pace.follows);
}

void pace_follow(struct inphase_core *core)
{
    struct pace *pace = &core->pace;
    int64_t planned_ns = grid_ns(core), most_ns = core->period_ns / STEP_SHARE;
    int64_t wanted_ns, error_ns, off_ns;

    if (!pace->sensor)
        return;
    if (!pace->is_anchored && !anchor(core, planned_ns)) {
        tell(core);
        return;
    }

    /* a single stamp that contradicts the others stops the estimate for a moment: the grid goes on
       as it is */
    if (inphase_device_clock_map(&pace->clock, device_of_cycle(core), &wanted_ns, &error_ns) < 0)
        return;
    off_ns = wanted_ns - planned_ns;
    if (llabs(off_ns) > core->period_ns / 2) {
        pace->is_anchored = pace->follows = false;
        tell(core);
        return;
    }

    /* towards it, by a bounded step */
    pace->follows = llabs(off_ns) <= most_ns;
    if (off_ns > most_ns)
        off_ns = most_ns;
    if (off_ns < -most_ns)
        off_ns = -most_ns;
    put_i64(&core->state->start_ns, load_i64(&core->state->start_ns) + off_ns);
    tell(core);
}
