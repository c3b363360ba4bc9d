"""The limiter of `native/src/limiter.c` once more, in floats, for `test_limiter_proof`.

Every operation is done in C's order, so that the two agree bit for bit; C's short way for what is
followed far from all bounds is not here, and must give the same. The polynomials stand
alone: the proofs take the same ones over the reals, with z3's numbers in place of floats.
"""

import math
from dataclasses import dataclass
from typing import Any

TRIES = 8
ROUNDING = 1e-6
CREEP = 1e-11

# ---- polynomials; n is the floor that C takes ---------------------------------------------------


def sum_at(x: Any, n: Any) -> Any:
    """x + (x - 1) + ... down to the last that is positive."""
    return (n + 1) * (x - n / 2)


def sum_of_sums_at(x: Any, n: Any) -> Any:
    """The sum of these sums."""
    return (n + 1) * (n + 2) * (x / 2 - n / 3)


def first_at(total: Any, n: Any) -> Any:
    """The x whose sum that is."""
    return total / (n + 1) + n / 2


def room_at(velocity: Any, whole: Any, part: Any) -> Any:
    """The square of the largest deceleration that can be grown to and let go of again."""
    return velocity + whole * (whole + 1) / 2 + part * (whole + part)


def grown(velocity: Any, now: Any, n: Any) -> tuple[Any, Any]:
    """Way and velocity after n cycles, each decelerating by 1 more than the one before."""
    way = n * velocity - n * (n + 1) / 2 * now - n * (n + 1) * (n + 2) / 6
    return way, velocity - (n * now + n * (n + 1) / 2)


def held(velocity: Any, bound: Any, n: Any) -> tuple[Any, Any]:
    """Way and velocity after n cycles at the largest deceleration."""
    return n * velocity - n * (n + 1) / 2 * bound, velocity - n * bound


def risen(velocity: Any, acceleration: Any, n: Any) -> Any:
    """Way of n cycles, each decelerating by 1 less than the one before."""
    return n * velocity + n * (n + 1) / 2 * acceleration + n * (n + 1) * (n + 2) / 6


# ---- with C's floors, over floats ----------------------------------------------------------------


def clamp(value: float, low: float, high: float) -> float:
    if value < low:
        return low
    return high if value > high else value


def least(a: float, b: float) -> float:
    return b if b < a else a


def most(a: float, b: float) -> float:
    return b if b > a else a


def total(x: float) -> float:
    return sum_at(x, float(math.floor(x))) if x > 0 else 0.0


def sum_of_sums(x: float) -> float:
    return sum_of_sums_at(x, float(math.floor(x))) if x > 0 else 0.0


def first_of(value: float) -> float:
    if not value >= 1:  # itself; the root would round what is just below 1
        return value if value > 0 else 0.0
    return first_at(value, float(math.floor((math.sqrt(1 + 8 * value) - 1) / 2)))


def signed_first_of(value: float) -> float:
    return -first_of(-value) if value < 0 else first_of(value)


def velocity_to_come(velocity: float, acceleration: float) -> float:
    if acceleration < 0:
        return velocity - total(-acceleration - 1)
    return velocity + total(acceleration - 1)


def way_up(velocity: float, acceleration: float, bound: float) -> float:
    now = -acceleration
    whole = float(math.floor(now))
    part = now - whole
    grows = float(math.floor(math.sqrt(most(room_at(velocity, whole, part), 0.0)) - now))
    grows = least(most(grows, -whole - 1), float(math.floor(bound - now)))
    grows = most(grows, 0.0)
    way, velocity = grown(velocity, now, grows)
    holds, top = 0.0, total(bound)
    if velocity >= top:
        holds = float(math.floor((velocity - top) / bound) + 1)
    more, velocity = held(velocity, bound, holds)
    way += more
    return way + sum_of_sums(first_of(velocity)) - velocity


def way(velocity: float, acceleration: float, bound: float) -> float:
    if velocity_to_come(velocity, acceleration) < 0:
        return -way_up(-velocity, -acceleration, bound)
    return way_up(velocity, acceleration, bound)


def highest(velocity: float, acceleration: float, bound: float) -> float:
    if velocity_to_come(velocity, acceleration) >= 0:
        return most(way_up(velocity, acceleration, bound), 0.0)
    if not velocity > 0:
        return 0.0
    twice = -2 * acceleration - 1
    root = math.sqrt(most(twice * twice - 8 * velocity, 0.0))
    return risen(velocity, acceleration, most(float(math.floor((twice - root) / 2)), 0.0))


@dataclass
class Limits:
    """struct inphase_limits."""

    low: float
    high: float
    velocity: float
    acceleration: float
    step: float
    jerk: float
    effort: float = 0.0
    rate: float = 0.0
    safe: float = 0.0
    dwell_s: float = 0.0
    mode: int = 0


@dataclass
class Motion:
    """struct inphase_motion."""

    position: float
    velocity: float
    acceleration: float
    goal: float
    effort: float = 0.0
    state: float = 0.0
    cycles: float = 0.0


@dataclass
class Measured:
    """struct inphase_measured."""

    position: float = math.nan
    velocity: float = math.nan
    effort: float = math.nan


class Channel:
    """struct channel, of limits that are some and a motion that is finite; the joint is `here`."""

    def __init__(self, limits: Limits, motion: Motion, period_s: float, here: float) -> None:
        t = period_s
        self.velocity_si, self.velocity_max = limits.velocity, limits.velocity * t
        self.acceleration_max = limits.acceleration * t * t
        self.jerk = limits.jerk * t * t * t
        if not 0 < self.jerk < 2 * self.acceleration_max:
            self.jerk = 2 * self.acceleration_max
        self.position = here
        self.low = least(limits.low, self.position)
        self.high = most(limits.high, self.position)
        self.velocity = clamp(motion.velocity * t, -self.velocity_max, self.velocity_max)
        self.acceleration = clamp(
            motion.acceleration * t * t, -self.acceleration_max, self.acceleration_max
        )
        a, jerk = self.acceleration, self.jerk
        bound = jerk * signed_first_of((self.velocity_max - self.velocity) / jerk)
        self.fastest = least(least(a + jerk, self.acceleration_max), bound)
        bound = jerk * signed_first_of((self.velocity_max + self.velocity) / jerk)
        self.slowest = most(most(a - jerk, -self.acceleration_max), -bound)
        self.ramp = clamp(-jerk * signed_first_of(self.velocity / jerk), a - jerk, a + jerk)
        self.ramp = clamp(self.ramp, -self.acceleration_max, self.acceleration_max)
        self.slowest = least(self.slowest, self.ramp)
        self.fastest = most(self.fastest, self.ramp)

    def excess(self, acceleration: float) -> float:
        velocity = self.velocity + acceleration
        position = self.position + velocity
        bound, v, a = (x / self.jerk for x in (self.acceleration_max, velocity, acceleration))
        above = position + self.jerk * highest(v, a, bound) - self.high
        below = self.low - position + self.jerk * highest(-v, -a, bound)
        return most(above, below)

    def overshoot_of(self, acceleration: float, distance: float, moves: float) -> float:
        velocity, jerk = self.velocity + acceleration, self.jerk
        ends = way((velocity - moves) / jerk, acceleration / jerk, self.acceleration_max / jerk)
        return jerk * ends + velocity - distance

    def acceleration_to_goal(self, distance: float, moves: float) -> float:
        low, high = self.slowest, self.fastest
        at_low, at_high = (self.overshoot_of(end, distance, moves) for end in (low, high))
        if not at_high > 0:
            return high
        if not at_low < 0:
            return low
        for _ in range(TRIES):
            middle = clamp(low - at_low * (high - low) / (at_high - at_low), low, high)
            at_middle = self.overshoot_of(middle, distance, moves)
            if at_middle == 0:
                return middle
            if at_middle < 0:
                low, at_low = middle, at_middle
            else:
                high, at_high = middle, at_middle
        return high if distance < 0 else low

    def within_range(self, acceleration: float) -> float:
        good, bad = self.ramp, acceleration
        at_good, at_bad = self.excess(good), self.excess(bad)
        if at_bad <= most(at_good, 0.0):
            return bad
        for _ in range(TRIES):
            if not at_good < 0:
                break
            middle = good - at_good * (bad - good) / (at_bad - at_good)
            at_middle = self.excess(middle)
            if at_middle <= 0:
                good, at_good = middle, at_middle
            else:
                bad, at_bad = middle, at_middle
        return good

    def apply_step(
        self, motion: Motion, acceleration: float, position: float, period_s: float
    ) -> None:
        velocity = self.velocity + acceleration
        taken = clamp(position, self.low, self.high)
        taken = clamp(taken, self.position - self.velocity_max, self.position + self.velocity_max)
        if not abs(taken - position) <= ROUNDING * self.jerk:
            velocity = acceleration = 0.0
        if abs(velocity) <= CREEP * self.jerk:
            velocity = 0.0
        motion.position = taken
        motion.velocity = velocity / period_s
        motion.acceleration = acceleration / period_s / period_s

    def stay_near(self, limits: Limits, at: float) -> None:
        """Walls at the step from the joint."""
        if math.isfinite(at) and limits.step >= 0:
            self.low = most(self.low, least(at - limits.step, self.position))
            self.high = least(self.high, most(at + limits.step, self.position))

    def apply_velocity(
        self, motion: Motion, velocity: float, acceleration: float, period_s: float
    ) -> None:
        """Velocity mode: its range comes last."""
        motion.velocity = clamp(velocity, -self.velocity_si, self.velocity_si)
        motion.acceleration = acceleration / period_s / period_s
        if abs(motion.velocity * period_s) <= CREEP * self.jerk:
            motion.velocity = 0.0


def limit_position(
    limits: Limits, motion: Motion, requested: float, measured: Measured, t: float
) -> None:
    """Position mode."""
    before, follows, at = motion.goal, motion.goal == motion.position, measured.position
    c = Channel(limits, motion, t, motion.position)
    goal = requested if math.isfinite(requested) else before
    if math.isfinite(at) and limits.step >= 0:
        goal = clamp(goal, at - limits.step, at + limits.step)
    c.stay_near(limits, at)
    effort = limits.effort if limits.effort > 0 else math.inf
    if measured.effort > effort:
        goal = least(goal, c.position)
    elif measured.effort < -effort:
        goal = most(goal, c.position)
    goal = clamp(goal, limits.low, limits.high)
    distance, moves = goal - c.position, goal - before
    if not -c.velocity_max <= moves <= c.velocity_max:
        moves = 0.0
    wanted = distance - c.velocity
    bound = c.acceleration_max / c.jerk
    if (
        c.slowest <= wanted <= c.fastest
        and (follows or way((distance - moves) / c.jerk, wanted / c.jerk, bound) == 0)
        and c.excess(wanted) <= 0
    ):
        c.apply_step(motion, wanted, goal, t)
    else:
        wanted = c.within_range(c.acceleration_to_goal(distance, moves))
        c.apply_step(motion, wanted, c.position + (c.velocity + wanted), t)
    motion.goal = goal


def ramp_position(limits: Limits, motion: Motion, measured: Measured, t: float) -> None:
    """Position mode."""
    c = Channel(limits, motion, t, motion.position)
    c.stay_near(limits, measured.position)
    c.apply_step(motion, c.ramp, c.position + (c.velocity + c.ramp), t)
    motion.goal = motion.position


def limit_velocity(
    limits: Limits, motion: Motion, requested: float, measured: Measured, t: float
) -> None:
    """Velocity mode."""
    is_free = limits.low == -math.inf and limits.high == math.inf
    if not is_free and not math.isfinite(measured.position):
        ramp_velocity(limits, motion, t)
        return
    before, follows = motion.goal, motion.goal == motion.velocity
    c = Channel(limits, motion, t, 0.0 if is_free else measured.position)
    goal = requested if math.isfinite(requested) else before
    goal = clamp(goal, -limits.velocity, limits.velocity)
    change, moves = goal * t - c.velocity, (goal - before) * t
    if not abs(moves) <= c.acceleration_max:
        moves = 0.0
    wanted = change
    if not follows or not c.slowest <= change <= c.fastest:
        wanted = moves + c.jerk * signed_first_of((change - moves) / c.jerk)
    chosen = c.within_range(clamp(wanted, c.slowest, c.fastest))
    velocity = goal if chosen == change else (c.velocity + chosen) / t
    c.apply_velocity(motion, velocity, chosen, t)
    motion.goal = goal


def ramp_velocity(limits: Limits, motion: Motion, t: float) -> None:
    """Velocity mode."""
    c = Channel(limits, motion, t, 0.0)
    c.apply_velocity(motion, (c.velocity + c.ramp) / t, c.ramp, t)
    motion.goal = motion.velocity


def apply_effort(limits: Limits, motion: Motion, wanted: float, t: float) -> None:
    """The effort within its rate, and then in its range."""
    rate = limits.rate * t
    taken = clamp(wanted, motion.effort - rate, motion.effort + rate)
    motion.effort = clamp(taken, -limits.effort, limits.effort)


def limit_effort(
    limits: Limits, motion: Motion, requested: float, measured: Measured, t: float
) -> None:
    """Effort mode."""
    low, high = -limits.effort, limits.effort
    goal = requested if math.isfinite(requested) else motion.goal
    motion.goal = clamp(goal, low, high)
    v, p = measured.velocity, measured.position
    if not (v <= limits.velocity or limits.velocity == math.inf) or not (
        p <= limits.high or limits.high == math.inf
    ):
        high = limits.safe
    if not (v >= -limits.velocity or limits.velocity == math.inf) or not (
        p >= limits.low or limits.low == -math.inf
    ):
        low = limits.safe
    apply_effort(limits, motion, clamp(motion.goal, low, high), t)


def ramp_effort(limits: Limits, motion: Motion, t: float) -> None:
    """Effort mode."""
    apply_effort(limits, motion, limits.safe, t)
    motion.goal = motion.effort


def switch_state(limits: Limits, motion: Motion, on: bool, t: float) -> None:
    """Switch mode."""
    dwell = float(math.floor(limits.dwell_s / t + 0.999999))
    was_on = motion.state >= 0.5
    motion.goal = float(on)
    motion.cycles = least(motion.cycles, dwell) + 1 if motion.cycles >= 0 else 1.0
    if on != was_on and motion.cycles >= dwell:
        was_on, motion.cycles = on, 0.0
    motion.state = float(was_on)


def limit(limits: Limits, motion: Motion, requested: float, measured: Measured, t: float) -> None:
    """inphase_limit; limits that are some, and a motion that is finite."""
    if limits.mode == 3:
        wanted = requested if math.isfinite(requested) else motion.goal
        switch_state(limits, motion, wanted >= 0.5, t)
    else:
        (limit_position, limit_velocity, limit_effort)[limits.mode](
            limits, motion, requested, measured, t
        )


def ramp(limits: Limits, motion: Motion, measured: Measured, t: float) -> None:
    """inphase_ramp, likewise."""
    match limits.mode:
        case 0:
            ramp_position(limits, motion, measured, t)
        case 1:
            ramp_velocity(limits, motion, t)
        case 2:
            ramp_effort(limits, motion, t)
        case _:
            switch_state(limits, motion, limits.safe >= 0.5, t)
