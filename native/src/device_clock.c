/* Device clocks: stamps of a device mapped to the host's clock by robust regression.

   Decision, 2026-11-23: **the regression is over intervals, not over points.** A reading says only
   that the truth lies between its bounds; where in between depends on how uneven the two ways are,
   which no statistic of the middles can see. So the rate is cut into cells, in each cell every kept
   reading is brought to the newest one's time, and what stays is where all but one in eight and one
   more agree: wrong stamps are outvoted, and the ends are the error. The alternative, Theil-Sen's
   slope and median offset over the middles with rejection by the median deviation, was run on the
   same 18 000 readings at 100 Hz (each way 20 us + exponential 50 us, one reply in 20 late by 2 ms,
   100 ppm): both err by 2 to 4 us, with bounds of 27 and 43 us. With a reply path that is 400 us
   slower for 25 s Theil-Sen's bound is wrong for 25 % of the stamps, with one that becomes slower
   all the time for 76 %; this one's for none, also with one wrong stamp in ten.

   The rate is free, so that a counter of any tick works, and an early error is large, never wrong.
   The error is never below half of the narrowest bounds: what the rest of the readings add to that
   would hang on the delays being independent.

   Decision, 2026-11-29: **a clock that is only heard lies on the earliest arrivals.** Its intervals
   are as wide as its driver is careful, and all of one width: their middle is wrong by half of the
   worst case. An arrival can be late by anything and never early, so the mapping is the highest
   line below the arrivals (of all such lines the one nearest to their centre), less the latency
   that the driver states. The intervals still bound rate and error; nothing late moves the line.
   The error is never below the span from the stated to the worst latency: only what never varies
   could say less. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../inphase.h"

#define KEPT INPHASE_CLOCK_READINGS
#define SPAN_FIRST_NS 1000000LL
#define CELLS 8          /* parts into which the bracket of the rate is cut... */
#define ROUNDS 2         /* ...so many times */
#define CONTRARY_AGREE 4 /* contrary readings in a row that agree with each other end a mapping */
#define CONTRARY_MOST 16 /* ...and so many in a row that do not */
#define LATE_LASTS_NS 1000000000LL /* late readings that agree for so long end a mapping */
#define FAR 4e18         /* ns, 127 years: beyond this nothing is mapped */

/* the kept readings relative to the newest one, and how many of them have to agree */
struct window {
    double device[KEPT]; /* 0 for the newest, else negative */
    double low[KEPT], high[KEPT];
    double latest[KEPT]; /* `high` without what the rate may have wandered since */
    uint32_t count, faulty;
};

/* what the agreeing readings leave open; host times are relative, at the newest reading */
struct fit {
    double rate_low, rate_high;
    double low, high;
};

static double between(int64_t from, int64_t to)
{
    int64_t difference;

    return __builtin_sub_overflow(to, from, &difference) ? (double)to - (double)from
                                                         : (double)difference;
}

static double smaller(double left, double right)
{
    return left < right ? left : right;
}

static double larger(double left, double right)
{
    return left > right ? left : right;
}

static double size(double value)
{
    return value < 0 ? -value : value;
}

/* the nearest to `at` of what lies between two bounds */
static int64_t within(int64_t at, int64_t low, int64_t high)
{
    if (at < low)
        return low;
    return at > high ? high : at;
}

static double width(const struct inphase_clock_reading *reading)
{
    return between(reading->earliest_ns, reading->latest_ns);
}

/* error after so many host nanoseconds with a rate that is right at their start */
static double wander(double apart_ns)
{
    double changing = 0.5e-18 * INPHASE_CLOCK_WANDER_PPB * apart_ns * apart_ns;

    return smaller(changing, 1e-9 * INPHASE_CLOCK_RANGE_PPB * size(apart_ns));
}

/* in how many of the intervals a point lies */
static uint32_t votes(const double *low, const double *high, uint32_t count, double point)
{
    uint32_t around = 0;

    for (uint32_t i = 0; i < count; i++)
        around += low[i] <= point && point <= high[i];
    return around;
}

/* The ends of what at least `need` of the intervals have in common (Marzullo): the truth is in
   between when no more than the others are wrong. False: there is no such point. */
static bool agreed(const double *low, const double *high, uint32_t count, uint32_t need,
                   double *first, double *last)
{
    bool found = false;

    /* they are ends of intervals: the first one is a low end, the last one a high end */
    for (uint32_t i = 0; i < count; i++)
        if (!(found && *first <= low[i]) && votes(low, high, count, low[i]) >= need) {
            *first = low[i];
            found = true;
        }
    if (!found)
        return false;
    *last = *first;
    for (uint32_t i = 0; i < count; i++)
        if (high[i] > *last && votes(low, high, count, high[i]) >= need)
            *last = high[i];
    return true;
}

static void open_window(struct window *window, const struct inphase_clock_reading *reading,
                        uint32_t count)
{
    const struct inphase_clock_reading *newest = &reading[count - 1];

    window->count = count;
    window->faulty = count / 8 + 1;
    for (uint32_t i = 0; i < count; i++) {
        /* 1 ns: host times are whole nanoseconds */
        double slack = 1 + wander(between(newest->latest_ns, reading[i].latest_ns));

        window->device[i] = between(newest->device_ns, reading[i].device_ns);
        window->low[i] = between(newest->latest_ns, reading[i].earliest_ns) - slack;
        window->latest[i] = between(newest->latest_ns, reading[i].latest_ns);
        window->high[i] = window->latest[i] + slack;
    }
}

/* the rates that pairs of readings, half a window apart, leave open */
static bool bracket_rate(const struct window *window, struct fit *fit)
{
    double low[KEPT / 2], high[KEPT / 2];
    uint32_t pairs = window->count / 2;

    for (uint32_t i = 0; i < pairs; i++) {
        uint32_t j = i + window->count - pairs;
        double apart = window->device[j] - window->device[i];

        low[i] = (window->low[j] - window->high[i]) / apart;
        high[i] = (window->high[j] - window->low[i]) / apart;
    }
    if (!agreed(low, high, pairs, pairs - window->faulty, &fit->rate_low, &fit->rate_high))
        return false;
    if (fit->rate_low < 0)
        fit->rate_low = 0; /* a clock does not run backwards */
    return fit->rate_high > 0;
}

/* cut the bracket into cells, keep from the first to the last in which enough readings agree */
static bool narrow(const struct window *window, struct fit *fit)
{
    double step = (fit->rate_high - fit->rate_low) / CELLS, from = fit->rate_low;
    bool found = false;

    for (uint32_t cell = 0; cell < CELLS; cell++) {
        double rate_low = from + cell * step, rate_high = from + (cell + 1) * step;
        double low[KEPT], high[KEPT], first, last;

        /* every reading brought to the newest one's time, with all rates of this cell */
        for (uint32_t i = 0; i < window->count; i++) {
            low[i] = window->low[i] - rate_low * window->device[i];
            high[i] = window->high[i] - rate_high * window->device[i];
        }
        if (!agreed(low, high, window->count, window->count - window->faulty, &first, &last))
            continue;
        fit->low = found ? smaller(fit->low, first) : first;
        fit->high = found && fit->high > last ? fit->high : last;
        fit->rate_low = found ? fit->rate_low : rate_low;
        fit->rate_high = rate_high;
        found = true;
    }
    return found;
}

/* the rates that a device can have whose stamps are nanoseconds by its own word */
static bool limit_rate(struct fit *fit)
{
    const double off = 1e-9 * INPHASE_CLOCK_HEARD_PPB;

    if (fit->rate_low < 1 - off)
        fit->rate_low = 1 - off;
    if (fit->rate_high > 1 + off)
        fit->rate_high = 1 + off;
    return fit->rate_low <= fit->rate_high;
}

/* The highest place at the newest reading of a line with this rate that no arrival lies below. What
   lies below all that enough readings agree on is a wrong stamp. */
static double below_arrivals(const struct window *window, const struct fit *fit, double rate)
{
    double lowest = fit->high;

    for (uint32_t i = 0; i < window->count; i++) {
        double at = window->latest[i] - rate * window->device[i];

        if (at < lowest && window->high[i] - fit->rate_high * window->device[i] >= fit->low)
            lowest = at;
    }
    return lowest;
}

/* The line below the arrivals that is nearest to their centre; its place at the newest reading. The
   best rate is that of two of them, or an end of the bracket. */
static double lower_envelope(const struct window *window, const struct fit *fit, double *rate)
{
    double centre = 0, place = below_arrivals(window, fit, fit->rate_low), best;

    for (uint32_t i = 0; i < window->count; i++)
        centre += window->device[i] / window->count;
    *rate = fit->rate_low;
    best = place + fit->rate_low * centre;
    for (uint32_t i = 0; i < window->count; i++)
        for (uint32_t j = i + 1; j <= window->count; j++) {
            double try = fit->rate_high, at;

            if (j < window->count)
                try = (window->latest[j] - window->latest[i]) /
                      (window->device[j] - window->device[i]);
            else if (i > 0)
                continue;
            if (!(try > fit->rate_low && try <= fit->rate_high))
                continue;
            at = below_arrivals(window, fit, try);
            if (at + try * centre > best) {
                best = at + try * centre;
                place = at;
                *rate = try;
            }
        }
    return place;
}

static bool fit_readings(struct inphase_device_clock *clock)
{
    const struct inphase_clock_reading *newest = &clock->reading[clock->count - 1];
    struct window window;
    struct fit fit = {0};
    double narrowest = width(newest), at;

    open_window(&window, clock->reading, clock->count);
    if (!bracket_rate(&window, &fit) || (clock->heard && !limit_rate(&fit)))
        return false;
    for (uint32_t round = 0; round < ROUNDS; round++)
        if (!narrow(&window, &fit))
            return false;
    for (uint32_t i = 0; i < clock->count; i++)
        narrowest = smaller(narrowest, width(&clock->reading[i]));

    if (clock->heard) {
        at = lower_envelope(&window, &fit, &clock->rate) - clock->stated_ns;
        clock->rate_error = larger(fit.rate_high - clock->rate, clock->rate - fit.rate_low);
        clock->above_ns = larger(fit.high - at, 0);
        clock->error_ns =
            larger(larger(clock->above_ns, at - fit.low), narrowest - clock->stated_ns);
    } else {
        at = (fit.low + fit.high) / 2;
        clock->rate = (fit.rate_low + fit.rate_high) / 2;
        clock->rate_error = (fit.rate_high - fit.rate_low) / 2;
        clock->error_ns = (fit.high - fit.low) / 2;
    }

    /* never better than the best reading alone */
    clock->error_ns = larger(clock->error_ns, narrowest / 2);
    if (!clock->heard)
        clock->above_ns = clock->error_ns;
    if (!(size(at) < FAR) ||
        __builtin_add_overflow(newest->latest_ns, (int64_t)at, &clock->host_ns))
        return false;
    clock->device_ns = newest->device_ns;
    return true;
}

/* forget all but the newest readings */
static void keep_newest(struct inphase_device_clock *clock, uint32_t count)
{
    memmove(clock->reading, clock->reading + clock->count - count,
            count * sizeof *clock->reading);
    clock->count = count;
}

/* as little as is known after the first reading */
static void start_over(struct inphase_device_clock *clock,
                       const struct inphase_clock_reading *reading)
{
    clock->known = 0;
    clock->contrary_in_a_row = clock->contrary_agreeing = clock->late_in_a_row = 0;
    clock->last_ns = reading->device_ns;
    clock->reading[0] = *reading;
    clock->count = 1;
    clock->span_ns = SPAN_FIRST_NS;
    clock->span_from_ns = reading->latest_ns;
}

/* which of two readings of one span says more, in doubt the later: the narrower, and of a clock
   that is only heard the one that arrived earlier by its stamp */
static bool says_more(const struct inphase_device_clock *clock,
                      const struct inphase_clock_reading *before,
                      const struct inphase_clock_reading *after)
{
    double rate = clock->known ? clock->rate : 1;

    if (!clock->heard)
        return width(after) <= width(before);
    return between(before->latest_ns, after->latest_ns) <=
           rate * between(before->device_ns, after->device_ns);
}

/* the same history with half as many readings, of each two the one that says more */
static void thin(struct inphase_device_clock *clock)
{
    struct inphase_clock_reading *reading = clock->reading;

    for (uint32_t i = 0; i < KEPT / 2; i++)
        reading[i] = says_more(clock, &reading[2 * i], &reading[2 * i + 1]) ? reading[2 * i + 1]
                                                                            : reading[2 * i];
    clock->count = KEPT / 2;
    if (clock->span_ns < INPHASE_CLOCK_HORIZON_NS / KEPT)
        clock->span_ns *= 2;
}

/* keep a reading that nothing speaks against; true when it begins a new span */
static bool keep(struct inphase_device_clock *clock, const struct inphase_clock_reading *reading)
{
    struct inphase_clock_reading *newest = &clock->reading[clock->count - 1];

    if (between(clock->span_from_ns, reading->latest_ns) < (double)clock->span_ns) {
        if (says_more(clock, newest, reading))
            *newest = *reading;
        return false;
    }
    if (clock->count == KEPT) {
        if (between(clock->reading[0].latest_ns, reading->latest_ns) <
            (double)INPHASE_CLOCK_HORIZON_NS)
            thin(clock);
        else
            keep_newest(clock, KEPT - 1);
    }
    clock->reading[clock->count++] = *reading;
    clock->span_from_ns = reading->latest_ns;
    return true;
}

/* where the mapping says that a stamp was taken, relative to its reference; and how sure */
static double place(const struct inphase_device_clock *clock, int64_t device_ns, double *error_ns)
{
    double apart = between(clock->device_ns, device_ns);

    *error_ns = clock->error_ns + clock->rate_error * size(apart) +
                wander((clock->rate + clock->rate_error) * apart);
    return clock->rate * apart;
}

/* a reading whose whole interval is before or after the mapping's: -1, 1; 0: it fits */
static int contradicts(const struct inphase_device_clock *clock,
                       const struct inphase_clock_reading *reading)
{
    double error, at = place(clock, reading->device_ns, &error);
    double above = error - clock->error_ns + clock->above_ns;

    if (at + above + 1 < between(clock->host_ns, reading->earliest_ns))
        return 1;
    return -(at - error - 1 > between(clock->host_ns, reading->latest_ns));
}

/* two contrary readings agree when the device's clock went on between them at its rate */
static bool agree(const struct inphase_device_clock *clock,
                  const struct inphase_clock_reading *before,
                  const struct inphase_clock_reading *after)
{
    double apart = between(before->device_ns, after->device_ns);
    double error = 1 + clock->rate_error * size(apart) + wander(clock->rate * apart);

    return apart > 0 &&
           clock->rate * apart + error >= between(before->latest_ns, after->earliest_ns) &&
           clock->rate * apart - error <= between(before->earliest_ns, after->latest_ns);
}

static int take_contrary(struct inphase_device_clock *clock,
                         const struct inphase_clock_reading *reading)
{
    bool goes_on = clock->contrary_in_a_row > 0 && agree(clock, &clock->contrary, reading);

    clock->contrary_agreeing = goes_on ? clock->contrary_agreeing + 1 : 1;
    clock->contrary = *reading;
    if (++clock->contrary_in_a_row >= CONTRARY_MOST || clock->contrary_agreeing >= CONTRARY_AGREE) {
        start_over(clock, reading);
        clock->resets++;
        return INPHASE_CLOCK_RESTARTED;
    }
    clock->rejected++;
    return INPHASE_CLOCK_REJECTED;
}

/* Later than the driver's worst case: nothing is learned from it, and the mapping stays, unless
   such readings go on for long at the clock's own rate. Those of a backlog that is worked off do
   not. */
static int take_late(struct inphase_device_clock *clock,
                     const struct inphase_clock_reading *reading)
{
    clock->contrary_in_a_row = clock->contrary_agreeing = 0;
    clock->last_ns = reading->device_ns;
    if (clock->late_in_a_row == 0 || !agree(clock, &clock->late, reading)) {
        clock->late = *reading;
        clock->late_in_a_row = 0;
    }
    if (clock->late_in_a_row < CONTRARY_AGREE)
        clock->late_in_a_row++;
    if (clock->late_in_a_row == CONTRARY_AGREE &&
        between(clock->late.latest_ns, reading->latest_ns) >= (double)LATE_LASTS_NS) {
        start_over(clock, reading);
        clock->resets++;
        return INPHASE_CLOCK_RESTARTED;
    }
    clock->taken++;
    return INPHASE_CLOCK_TAKEN;
}

/* after a new span began: a mapping through what is kept, or through its newer half */
static int refit(struct inphase_device_clock *clock)
{
    struct inphase_clock_reading newest = clock->reading[clock->count - 1];
    bool knew = clock->known;

    if (clock->count < INPHASE_CLOCK_ENOUGH)
        return INPHASE_CLOCK_TAKEN;
    clock->known = fit_readings(clock);
    if (!clock->known && clock->count >= 2 * INPHASE_CLOCK_ENOUGH) {
        keep_newest(clock, INPHASE_CLOCK_ENOUGH);
        clock->known = fit_readings(clock);
    }
    if (clock->known)
        return INPHASE_CLOCK_TAKEN;
    start_over(clock, &newest);
    clock->resets += knew;
    return knew ? INPHASE_CLOCK_RESTARTED : INPHASE_CLOCK_TAKEN;
}

/* learn from a reading that nothing speaks against */
static int learn(struct inphase_device_clock *clock, const struct inphase_clock_reading *reading)
{
    int64_t last = 0;

    /* of the two kinds of readings the one can stand for a span that later ones belong to as
       well */
    if (clock->count > 0)
        last = clock->heard ? clock->last_ns : clock->reading[clock->count - 1].device_ns;
    clock->contrary_in_a_row = clock->contrary_agreeing = clock->late_in_a_row = 0;

    /* a stamp that stands still says nothing; one that goes back, while there is no mapping that
       could tell which of the two is wrong, begins again */
    if (clock->count > 0 && reading->device_ns <= last) {
        bool standing = reading->device_ns == last;

        if (!clock->known && !standing)
            start_over(clock, reading);
        clock->rejected++;
        return INPHASE_CLOCK_REJECTED;
    }
    clock->taken++;
    clock->last_ns = reading->device_ns;
    if (clock->count == 0) {
        start_over(clock, reading);
        return INPHASE_CLOCK_TAKEN;
    }
    return keep(clock, reading) ? refit(clock) : INPHASE_CLOCK_TAKEN;
}

/* ---- what the header offers ------------------------------------------------------------- */

void inphase_device_clock_init(struct inphase_device_clock *clock)
{
    _Static_assert(sizeof clock->reading / sizeof *clock->reading == KEPT, "as the header says");

    memset(clock, 0, sizeof *clock);
}

int inphase_device_clock_add(struct inphase_device_clock *clock, int64_t device_ns,
                             int64_t earliest_ns, int64_t latest_ns)
{
    struct inphase_clock_reading reading = {device_ns, earliest_ns, latest_ns};

    if (latest_ns < earliest_ns)
        return -EINVAL;
    if (clock->known && contradicts(clock, &reading))
        return take_contrary(clock, &reading);

    /* after a contrary reading, one with wide bounds that fit both clears no doubt */
    if (clock->contrary_in_a_row > 0 && width(&reading) > width(&clock->contrary) &&
        agree(clock, &clock->contrary, &reading)) {
        clock->rejected++;
        return INPHASE_CLOCK_REJECTED;
    }
    return learn(clock, &reading);
}

int inphase_device_clock_hear(struct inphase_device_clock *clock, int64_t device_ns,
                              int64_t arrival_ns, int64_t least_ns, int64_t stated_ns,
                              int64_t most_ns)
{
    struct inphase_clock_reading reading = {.device_ns = device_ns};
    int side;

    if (least_ns < 0 || most_ns < least_ns ||
        __builtin_sub_overflow(arrival_ns, most_ns, &reading.earliest_ns) ||
        __builtin_sub_overflow(arrival_ns, least_ns, &reading.latest_ns))
        return -EINVAL;
    clock->heard = 1;
    stated_ns = within(stated_ns, least_ns, most_ns);
    clock->stated_ns = (double)(stated_ns - least_ns);
    clock->beyond_ns = most_ns - stated_ns;
    side = clock->known ? contradicts(clock, &reading) : 0;

    /* a clock that was set back is late as well: its stamps do not advance, or go on from one that
       did not */
    if (side > 0 && device_ns > clock->last_ns &&
        !(clock->contrary_in_a_row > 0 && agree(clock, &clock->contrary, &reading)))
        return take_late(clock, &reading);
    if (side) {
        clock->late_in_a_row = 0;
        return take_contrary(clock, &reading);
    }
    return learn(clock, &reading);
}

int inphase_device_clock_map(const struct inphase_device_clock *clock, int64_t device_ns,
                             int64_t *host_ns, int64_t *error_ns)
{
    double error, at;

    if (!clock->known || clock->contrary_in_a_row > 0)
        return -EAGAIN;
    at = place(clock, device_ns, &error);
    if (!(size(at) < FAR && error < FAR))
        return -ERANGE;
    if (__builtin_add_overflow(clock->host_ns, (int64_t)at, host_ns))
        return -ERANGE;
    *error_ns = (int64_t)error + 2; /* what the two casts cut off */
    return 0;
}

int inphase_device_clock_locate(const struct inphase_device_clock *clock, int64_t device_ns,
                                int64_t earliest_ns, int64_t latest_ns, int64_t *host_ns,
                                int64_t *error_ns)
{
    int64_t low, high;
    int rc = inphase_device_clock_map(clock, device_ns, host_ns, error_ns);

    if (rc < 0)
        return rc;

    /* The line of the earliest arrivals bounds what is heard too: one that is not before it, and no
       later than the worst case, is of a stamp no further than the worst case before the line. */
    if (clock->heard && !__builtin_sub_overflow(*host_ns, clock->beyond_ns, &low) &&
        low < earliest_ns)
        earliest_ns = low;

    /* what the mapping leaves open, and what this reading does */
    if (__builtin_sub_overflow(*host_ns, *error_ns, &low) || low < earliest_ns)
        low = earliest_ns;
    if (__builtin_add_overflow(*host_ns, *error_ns, &high) || high > latest_ns)
        high = latest_ns;
    if (low > high || __builtin_sub_overflow(high, low, error_ns))
        return -ERANGE;
    *host_ns = within(*host_ns, low, high);
    *error_ns = 1 + (*host_ns - low > high - *host_ns ? *host_ns - low : high - *host_ns);
    return 0;
}

void inphase_device_clock_facts(const struct inphase_device_clock *clock,
                                struct inphase_clock_facts *out)
{
    *out = (struct inphase_clock_facts){
        .drift_ppb = INPHASE_ABSENT,
        .drift_error_ppb = INPHASE_ABSENT,
        .error_ns = INPHASE_ABSENT,
        .taken = clock->taken,
        .rejected = clock->rejected,
        .resets = clock->resets,
    };
    if (!clock->known)
        return;
    out->drift_ppb = (int64_t)smaller((1 - clock->rate) / clock->rate * 1e9, FAR);
    out->drift_error_ppb = (int64_t)smaller(clock->rate_error / clock->rate * 1e9, FAR) + 1;
    out->error_ns = (int64_t)smaller(clock->error_ns, FAR) + 2;
}

int64_t inphase_unwrap(int64_t previous, uint64_t raw, uint32_t bits)
{
    uint64_t mask = bits < 64 ? ((uint64_t)1 << bits) - 1 : UINT64_MAX;

    return (int64_t)((uint64_t)previous + ((raw - (uint64_t)previous) & mask));
}
