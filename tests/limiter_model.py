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
    if not value > 0:
        return 0.0
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


@dataclass
class Motion:
    """struct inphase_motion."""

    position: float
    velocity: float
    acceleration: float
    goal: float


class Channel:
    """struct channel, of limits that are some and a motion that is finite."""

    def __init__(self, limits: Limits, motion: Motion, period_s: float) -> None:
        t = period_s
        self.velocity_max = limits.velocity * t
        self.acceleration_max = limits.acceleration * t * t
        self.jerk = limits.jerk * t * t * t
        if not 0 < self.jerk < 2 * self.acceleration_max:
            self.jerk = 2 * self.acceleration_max
        self.position = motion.position
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

    def beyond(self, acceleration: float, distance: float, moves: float) -> float:
        velocity, jerk = self.velocity + acceleration, self.jerk
        ends = way((velocity - moves) / jerk, acceleration / jerk, self.acceleration_max / jerk)
        return jerk * ends + velocity - distance

    def approach(self, distance: float, moves: float) -> float:
        low, high = self.slowest, self.fastest
        at_low, at_high = (self.beyond(end, distance, moves) for end in (low, high))
        if not at_high > 0:
            return high
        if not at_low < 0:
            return low
        for _ in range(TRIES):
            middle = clamp(low - at_low * (high - low) / (at_high - at_low), low, high)
            at_middle = self.beyond(middle, distance, moves)
            if at_middle == 0:
                return middle
            if at_middle < 0:
                low, at_low = middle, at_middle
            else:
                high, at_high = middle, at_middle
        return high if distance < 0 else low

    def inside(self, acceleration: float) -> float:
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

    def take(self, motion: Motion, acceleration: float, position: float, period_s: float) -> None:
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


def limit(limits: Limits, motion: Motion, requested: float, measured: float, t: float) -> None:
    """inphase_limit; limits that are some, and a motion that is finite."""
    before, follows = motion.goal, motion.goal == motion.position
    c = Channel(limits, motion, t)
    goal = requested if math.isfinite(requested) else before
    if math.isfinite(measured) and limits.step >= 0:
        goal = clamp(goal, measured - limits.step, measured + limits.step)
        c.low = most(c.low, least(measured - limits.step, c.position))
        c.high = least(c.high, most(measured + limits.step, c.position))
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
        c.take(motion, wanted, goal, t)
    else:
        wanted = c.inside(c.approach(distance, moves))
        c.take(motion, wanted, c.position + (c.velocity + wanted), t)
    motion.goal = goal


def ramp(limits: Limits, motion: Motion, t: float) -> None:
    """inphase_ramp, likewise."""
    c = Channel(limits, motion, t)
    c.take(motion, c.ramp, c.position + (c.velocity + c.ramp), t)
    motion.goal = motion.position
