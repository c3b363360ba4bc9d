"""That nothing bad reaches a motor: proofs about the limiter, checked by z3.

What is proved, and of what:

1. Over IEEE doubles, NaN and infinities included, bit by bit: whatever the look-ahead has worked
   out, the last step of C (`load_channel`, the walls, `apply_step`) lets through only positions
   that are finite, in the range, no further than the velocity from the last, and no further than
   `step` from the measured position unless standing still is.
   So do those of a velocity and an effort: finite, in range, an effort within its rate, and on its
   way to its safe value while a joint is too fast, too far, or not known to be neither.
2. Over the reals: accelerations and jerks of what `load_channel` offers are within their bounds,
   and the velocity will be, for ever; of positions and velocities alike. A velocity that is asked
   for is reached with an acceleration of zero.
3. Over the reals: the closed forms `way_up` and `highest` are what the ramp does, cycle by cycle,
   so that a ramp that stays in the range still does when its first cycle is over. With the check
   that `within_range` makes of all but the ramp itself, the range can be kept for ever within the
   others.

The model is `limiter_model`: `test_the_model_is_the_c_code` holds it against C bit for bit, and the
proofs take its polynomials. What is not modelled: in 2 and 3 the rounding of doubles (the C tests
allow for that of positions); the searches, of which any result between the ramp and the request
will do; in 3 the first cycles of a ramp against an acceleration that points the other way, and the
sign of the way, which the last test has floats for.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

import limiter_model as model
from inphase._core import ffi, lib


def prove(claim: Any, *given_that: Any, seconds: int = 600) -> None:
    """Fails unless no case contradicts the claim."""
    solver = z3.Solver()
    solver.set("timeout", seconds * 1000)
    solver.add(*given_that)
    assert solver.check() == z3.sat, "the assumptions contradict each other: nothing is proved"
    solver.add(z3.Not(claim))
    assert solver.check() == z3.unsat, solver.model() if solver.check() == z3.sat else "no answer"


# ---- the model is the C code -----------------------------------------------------------------

PERIODS = st.floats(1e-4, 0.1)


def both(limits: model.Limits, period_s: float) -> tuple[Any, Any, model.Motion]:
    """C's limiter and motion, and the model's motion, at rest at 0."""
    channel = ffi.new("struct inphase_limiter *")
    given_limits = ffi.new("struct inphase_limits *", vars(limits))
    assert lib.inphase_limiter_make(channel, given_limits, period_s) == 0
    return channel, ffi.new("struct inphase_motion *"), model.Motion(0.0, 0.0, 0.0, 0.0)


def joint(position: float, velocity: float = math.nan, effort: float = math.nan) -> Any:
    """What is measured of it."""
    return ffi.new("struct inphase_measured *", [position, velocity, effort])


def assert_equal(now: Any, ours: model.Motion) -> None:
    """Bit for bit, but for the sign of a 0."""
    assert {key: getattr(now, key) for key in vars(ours)} == vars(ours)


@settings(max_examples=300)
@given(
    st.tuples(*[st.floats(0.01, 10)] * 3, st.floats(0.1, 500), st.floats(0.001, 1)),
    st.one_of(st.just(0.0), st.floats(1, 1e5)),
    st.lists(
        st.tuples(st.floats(-12, 12), st.one_of(st.just(math.nan), st.floats(-12, 12))),
        min_size=1,
        max_size=40,
    ),
    PERIODS,
)
def test_the_model_is_the_c_code(
    bounds: tuple[float, float, float, float, float],
    jerk: float,
    inputs: list[tuple[float, float]],
    period_s: float,
) -> None:
    low, high, velocity, acceleration, step = bounds
    limits = model.Limits(-low, high, velocity, acceleration, step, jerk)
    channel, now, ours = both(limits, period_s)
    for requested, measured in inputs:
        for turn in range(4):
            if turn == 3:
                model.ramp(limits, ours, model.Measured(measured), period_s)
                lib.inphase_ramp(channel, now, joint(measured))
            else:
                model.limit(limits, ours, requested, model.Measured(measured), period_s)
                lib.inphase_limit(channel, now, requested, joint(measured))
            assert_equal(now, ours)


@given(
    st.tuples(*[st.floats(0.01, 10)] * 3, st.floats(0.1, 500), st.floats(0.001, 1)),
    st.one_of(st.just(0.0), st.floats(1, 1e5)),
    st.lists(
        st.tuples(
            st.floats(-1, 1),
            st.floats(-1, 1),
            st.one_of(st.just(math.nan), st.sampled_from((-5.0, 5.0)), st.floats(-7, 7)),
        ),
        min_size=5,
        max_size=60,
    ),
    st.floats(0.001, 2),
    PERIODS,
)
def test_the_model_is_the_c_code_where_it_follows(
    bounds: tuple[float, float, float, float, float],
    jerk: float,
    inputs: list[tuple[float, float, float]],
    share: float,
    period_s: float,
) -> None:
    """C has a short way for what is followed far from all bounds; the model has none."""
    low, high, velocity, acceleration, step = bounds
    limits = model.Limits(-low, high, velocity, acceleration, step, jerk, effort=5.0)
    channel, now, ours = both(limits, period_s)
    least = min(limits.acceleration, jerk * period_s or math.inf) * period_s**2
    for change, error, effort in inputs:
        # requests whose velocity changes by up to a share of what acceleration and jerk allow
        requested = ours.position + ours.velocity * period_s + share * change * least
        measured = ours.position + error * step
        model.limit(limits, ours, requested, model.Measured(measured, effort=effort), period_s)
        lib.inphase_limit(channel, now, requested, joint(measured, effort=effort))
        assert_equal(now, ours)


ANY_MODE = st.one_of(
    st.builds(
        model.Limits,
        low=st.one_of(st.just(-math.inf), st.floats(-3, -0.01)),
        high=st.one_of(st.just(math.inf), st.floats(0.01, 3)),
        velocity=st.floats(0.01, 10),
        acceleration=st.floats(0.1, 500),
        step=st.just(0.0),
        jerk=st.one_of(st.just(0.0), st.floats(1, 1e5)),
        mode=st.just(1),
    ),
    st.builds(
        model.Limits,
        low=st.one_of(st.just(-math.inf), st.floats(-3, -0.01)),
        high=st.one_of(st.just(math.inf), st.floats(0.01, 3)),
        velocity=st.one_of(st.just(math.inf), st.floats(0.01, 10)),
        acceleration=st.just(0.0),
        step=st.just(0.0),
        jerk=st.just(0.0),
        effort=st.floats(0.5, 10),
        rate=st.floats(0.1, 1e4),
        safe=st.floats(-0.5, 0.5),
        mode=st.just(2),
    ),
    st.builds(
        model.Limits,
        *[st.just(0.0)] * 6,
        dwell_s=st.floats(0, 0.5),
        safe=st.sampled_from((0.0, 1.0)),
        mode=st.just(3),
    ),
    st.builds(
        model.Limits,
        low=st.floats(-3, -0.01),
        high=st.floats(0.01, 3),
        velocity=st.floats(0.01, 10),
        acceleration=st.floats(0.1, 500),
        step=st.floats(0.01, 1),
        jerk=st.one_of(st.just(0.0), st.floats(1, 1e5)),
        effort=st.floats(0.01, 2),
        mode=st.just(0),
    ),
)
MAYBE = st.one_of(st.just(math.nan), st.floats(-4, 4))


@settings(max_examples=400)
@given(
    ANY_MODE,
    st.lists(
        st.tuples(st.one_of(MAYBE, st.floats(-12, 12)), MAYBE, MAYBE, MAYBE, st.booleans()),
        min_size=1,
        max_size=60,
    ),
    PERIODS,
)
def test_the_model_is_the_c_code_in_every_mode(
    limits: model.Limits,
    inputs: list[tuple[float, float, float, float, bool]],
    period_s: float,
) -> None:
    channel, now, ours = both(limits, period_s)
    for requested, position, velocity, effort, goes_on in inputs:
        for _ in range(3):
            measured = model.Measured(position, velocity, effort)
            if goes_on or limits.mode == 3:
                model.limit(limits, ours, requested, measured, period_s)
                lib.inphase_limit(channel, now, requested, joint(position, velocity, effort))
            else:
                model.ramp(limits, ours, measured, period_s)
                lib.inphase_ramp(channel, now, joint(position, velocity, effort))
            assert_equal(now, ours)


# ---- 1. doubles ------------------------------------------------------------------------------

DOUBLE = z3.Float64()
NEAREST = z3.RNE()


def doubles(names: str) -> list[Any]:
    """Any doubles at all."""
    return [z3.FP(name, DOUBLE) for name in names.split()]


def finite(x: Any) -> Any:
    return z3.Not(z3.Or(z3.fpIsNaN(x), z3.fpIsInf(x)))


def fp_clamp(x: Any, low: Any, high: Any) -> Any:
    return z3.If(z3.fpLT(x, low), low, z3.If(z3.fpGT(x, high), high, x))


def fp_least(a: Any, b: Any) -> Any:
    return z3.If(z3.fpLT(b, a), b, a)


def fp_most(a: Any, b: Any) -> Any:
    return z3.If(z3.fpGT(b, a), b, a)


class LastGate:
    """The walls of `load_channel` and the step, and `apply_step`; the look-ahead gives any double.

    So are the sums of C, `below` and `above` the joint, `back` and `forth` of the velocity, but for
    what the two tests after this class prove of them.
    """

    def __init__(self) -> None:
        self.low, self.high, self.below, self.above = doubles("low high below above")
        self.back, self.forth = doubles("back forth")
        self.position, self.wanted = doubles("position wanted")
        self.assumed = [
            finite(self.position),
            z3.fpLEQ(self.low, self.high),
            z3.fpLEQ(self.back, self.position),
            z3.fpGEQ(self.forth, self.position),
        ]
        self.near = z3.Bool("near")
        self.joint = [
            self.near,
            z3.Not(z3.fpIsNaN(self.below)),
            z3.Not(z3.fpIsNaN(self.above)),
        ]
        low, high = fp_least(self.low, self.position), fp_most(self.high, self.position)
        stepped_low = fp_most(low, fp_least(self.below, self.position))
        stepped_high = fp_least(high, fp_most(self.above, self.position))
        low = z3.If(self.near, stepped_low, low)
        high = z3.If(self.near, stepped_high, high)
        taken = fp_clamp(fp_clamp(self.wanted, low, high), self.back, self.forth)
        self.result = z3.If(finite(taken), taken, self.position)


@pytest.mark.long
def test_one_step_back_or_forth_is_around_where_it_starts() -> None:
    position, velocity = doubles("position velocity")
    given_that = [finite(position), finite(velocity), z3.fpGT(velocity, z3.FPVal(0.0, DOUBLE))]
    prove(z3.fpLEQ(z3.fpSub(NEAREST, position, velocity), position), *given_that)
    prove(z3.fpGEQ(z3.fpAdd(NEAREST, position, velocity), position), *given_that)


def test_a_step_from_the_joint_is_a_number() -> None:
    measured, step = doubles("measured step")
    given_that = [finite(measured), z3.fpGEQ(step, z3.FPVal(0.0, DOUBLE))]
    prove(z3.Not(z3.fpIsNaN(z3.fpSub(NEAREST, measured, step))), *given_that)
    prove(z3.Not(z3.fpIsNaN(z3.fpAdd(NEAREST, measured, step))), *given_that)


def test_what_is_applied_is_finite_whatever_was_worked_out() -> None:
    gate = LastGate()
    prove(finite(gate.result), *gate.assumed)


@pytest.mark.long
def test_what_is_applied_is_in_range_or_no_further_out() -> None:
    gate = LastGate()
    high = z3.Or(z3.fpLEQ(gate.result, gate.high), z3.fpLEQ(gate.result, gate.position))
    low = z3.Or(z3.fpGEQ(gate.result, gate.low), z3.fpGEQ(gate.result, gate.position))
    prove(high, *gate.assumed)
    prove(low, *gate.assumed)


def test_what_is_applied_is_within_the_velocity() -> None:
    gate = LastGate()
    prove(
        z3.And(z3.fpGEQ(gate.result, gate.back), z3.fpLEQ(gate.result, gate.forth)), *gate.assumed
    )


@pytest.mark.long
def test_what_is_applied_is_within_the_step_or_no_further_away() -> None:
    gate = LastGate()
    above = z3.Or(z3.fpLEQ(gate.result, gate.above), z3.fpLEQ(gate.result, gate.position))
    below = z3.Or(z3.fpGEQ(gate.result, gate.below), z3.fpGEQ(gate.result, gate.position))
    prove(above, *gate.assumed, *gate.joint)
    prove(below, *gate.assumed, *gate.joint)


class LastEffort:
    """`take_effort` and the bounds before it, of limits that are some.

    One step of the rate `back` and `forth` are any doubles around the effort before, as above.
    """

    def __init__(self) -> None:
        names = "effort safe before requested velocity position velocity_max low high"
        self.effort, self.safe, self.before, requested, *more = doubles(names)
        self.back, self.forth = doubles("back forth")
        self.velocity, position, self.velocity_max, low, high = more
        zero, infinite = z3.FPVal(0.0, DOUBLE), z3.fpPlusInfinity(DOUBLE)
        self.minus = z3.fpNeg(self.effort)
        self.assumed = [
            finite(self.effort),
            z3.fpGT(self.effort, zero),
            z3.fpLEQ(self.back, self.before),
            z3.fpGEQ(self.forth, self.before),
            z3.fpLEQ(z3.fpAbs(self.safe), self.effort),
            z3.fpGT(self.velocity_max, zero),
            z3.fpLEQ(low, high),
            # from these functions, or placed at `safe`
            z3.fpLEQ(z3.fpAbs(self.before), self.effort),
        ]
        goal = fp_clamp(requested, self.minus, self.effort)
        self.too_far_up = z3.Or(
            z3.Not(
                z3.Or(z3.fpLEQ(self.velocity, self.velocity_max), self.velocity_max == infinite)
            ),
            z3.Not(z3.Or(z3.fpLEQ(position, high), z3.fpEQ(high, infinite))),
        )
        self.too_far_down = z3.Or(
            z3.Not(
                z3.Or(
                    z3.fpGEQ(self.velocity, z3.fpNeg(self.velocity_max)),
                    self.velocity_max == infinite,
                )
            ),
            z3.Not(z3.Or(z3.fpGEQ(position, low), z3.fpEQ(low, z3.fpMinusInfinity(DOUBLE)))),
        )
        top = z3.If(self.too_far_up, self.safe, self.effort)
        bottom = z3.If(self.too_far_down, self.safe, self.minus)
        taken = fp_clamp(fp_clamp(goal, bottom, top), self.back, self.forth)
        taken = fp_clamp(taken, self.minus, self.effort)
        self.result = z3.If(finite(taken), taken, zero)
        # what was asked for is finite by then, or the goal before
        self.assumed.append(finite(requested))


def test_an_effort_is_finite_and_in_range() -> None:
    gate = LastEffort()
    in_range = z3.And(z3.fpLEQ(gate.result, gate.effort), z3.fpGEQ(gate.result, gate.minus))
    prove(z3.And(finite(gate.result), in_range), *gate.assumed)


def test_an_effort_is_within_its_rate() -> None:
    gate = LastEffort()
    claim = z3.And(z3.fpLEQ(gate.result, gate.forth), z3.fpGEQ(gate.result, gate.back))
    prove(claim, *gate.assumed)


def test_an_effort_that_would_take_a_joint_further_is_on_its_way_to_safe() -> None:
    gate = LastEffort()
    down = z3.Or(z3.fpLEQ(gate.result, gate.safe), z3.fpLEQ(gate.result, gate.back))
    prove(down, *gate.assumed, gate.too_far_up)
    up = z3.Or(z3.fpGEQ(gate.result, gate.safe), z3.fpGEQ(gate.result, gate.forth))
    prove(up, *gate.assumed, gate.too_far_down)


def test_a_joint_whose_velocity_is_bounded_and_not_known_counts_as_too_fast() -> None:
    gate = LastEffort()
    infinite = z3.fpPlusInfinity(DOUBLE)
    given_that = [z3.fpIsNaN(gate.velocity), z3.Not(z3.fpEQ(gate.velocity_max, infinite))]
    prove(z3.And(gate.too_far_up, gate.too_far_down), *gate.assumed, *given_that)


def test_a_velocity_is_finite_and_in_range_whatever_was_worked_out() -> None:
    wanted, bound = doubles("wanted bound")
    zero = z3.FPVal(0.0, DOUBLE)
    taken = fp_clamp(wanted, z3.fpNeg(bound), bound)
    result = z3.If(finite(taken), taken, zero)
    creeps = z3.Bool("creeps")
    result = z3.If(creeps, zero, result)
    claim = z3.And(finite(result), z3.fpLEQ(z3.fpAbs(result), bound))
    prove(claim, finite(bound), z3.fpGT(bound, zero))


# ---- 2. velocity, acceleration and jerk, over the reals; the unit is the jerk -------------------

REAL_SUM = z3.Function("sum", z3.RealSort(), z3.RealSort())
FIRST_OF = z3.Function("first_of", z3.RealSort(), z3.RealSort())


def facts(*points: Any) -> Iterator[Any]:
    """What is known of `sum` and its inverse at some points; the lemmas below prove it."""
    for x in points:
        yield z3.Implies(x <= 0, REAL_SUM(x) == 0)
        yield z3.Implies(x > 0, z3.And(REAL_SUM(x) >= x, REAL_SUM(x) == x + REAL_SUM(x - 1)))
        yield z3.Implies(x - 1 <= 0, REAL_SUM(x - 1) == 0)
        yield REAL_SUM(x - 1) >= 0
    for x, y in itertools.permutations([p for q in points for p in (q, q - 1)], 2):
        yield z3.Implies(x <= y, REAL_SUM(x) <= REAL_SUM(y))


def inverse(*totals: Any) -> Iterator[Any]:
    """first_of is the inverse of sum, and 0 below 0."""
    for total in totals:
        yield z3.Implies(total <= 0, FIRST_OF(total) == 0)
        yield z3.Implies(total > 0, z3.And(FIRST_OF(total) > 0, REAL_SUM(FIRST_OF(total)) == total))


def signed(total: Any) -> Any:
    return z3.If(total < 0, -FIRST_OF(-total), FIRST_OF(total))


def to_come(velocity: Any, acceleration: Any) -> Any:
    return z3.If(
        acceleration < 0,
        velocity - REAL_SUM(-acceleration - 1),
        velocity + REAL_SUM(acceleration - 1),
    )


def z3_clamp(x: Any, low: Any, high: Any) -> Any:
    return z3.If(x < low, low, z3.If(x > high, high, x))


def z3_least(a: Any, b: Any) -> Any:
    return z3.If(b < a, b, a)


def z3_most(a: Any, b: Any) -> Any:
    return z3.If(b > a, b, a)


class Offered:
    """What `load_channel` offers from a state that is viable, and a choice among it."""

    def __init__(self) -> None:
        self.v, self.a, self.chosen = z3.Reals("v a chosen")
        v, a = self.v, self.a
        self.v_max, self.a_max = v_max, a_max = z3.Reals("v_max a_max")
        fastest = z3_least(z3_least(a + 1, a_max), signed(v_max - v))
        slowest = z3_most(z3_most(a - 1, -a_max), -signed(v_max + v))
        self.ramp = z3_clamp(z3_clamp(-signed(v), a - 1, a + 1), -a_max, a_max)
        self.fastest, self.slowest = z3_most(fastest, self.ramp), z3_least(slowest, self.ramp)
        self.assumed = [
            *self.viable(v, a),
            # what binds less than 2 per cycle was made to: see `load_channel`
            a_max >= z3.Q(1, 2),
            v_max > 0,
            *facts(a, -a, self.chosen, -self.chosen, self.ramp, -self.ramp),
            *facts(FIRST_OF(v_max - v), FIRST_OF(v_max + v), FIRST_OF(v), FIRST_OF(-v)),
            *inverse(v_max - v, v_max + v, v, -v),
        ]
        # one order for all the points at which the sum is taken
        points = [a, -a, self.chosen, -self.chosen, self.ramp, -self.ramp]
        points += [FIRST_OF(t) for t in (v_max - v, v_max + v, v, -v)]
        for x, y in itertools.permutations([p for q in points for p in (q, q - 1)], 2):
            self.assumed.append(z3.Implies(x <= y, REAL_SUM(x) <= REAL_SUM(y)))
            self.assumed.append(z3.Implies(z3.And(x < y, y > 0), REAL_SUM(x) < REAL_SUM(y)))

    def viable(self, v: Any, a: Any) -> list[Any]:
        """Within velocity and acceleration, also once the acceleration has been let go of."""
        bounded = [v <= self.v_max, v >= -self.v_max, a <= self.a_max, a >= -self.a_max]
        return [*bounded, to_come(v, a) <= self.v_max, to_come(v, a) >= -self.v_max]


def test_what_is_offered_is_within_acceleration_and_jerk() -> None:
    o = Offered()
    chosen = [o.chosen >= o.slowest, o.chosen <= o.fastest]
    claim = z3.And(
        o.chosen <= o.a_max, o.chosen >= -o.a_max, o.chosen - o.a <= 1, o.a - o.chosen <= 1
    )
    prove(claim, *o.assumed, *chosen)


def test_the_ramp_keeps_the_velocity_for_ever() -> None:
    o = Offered()
    prove(z3.And(*o.viable(o.v + o.ramp, o.ramp)), *o.assumed)


def test_what_is_offered_keeps_the_velocity_for_ever() -> None:
    o = Offered()
    chosen = [o.chosen >= o.slowest, o.chosen <= o.fastest]
    prove(z3.And(*o.viable(o.v + o.chosen, o.chosen)), *o.assumed, *chosen)


def test_a_velocity_is_reached_with_nothing_left_to_let_go_of() -> None:
    v, goal, moves = z3.Reals("v goal moves")
    # seen from a goal that changes by `moves` per cycle; `first_of` of what is missing
    chosen = signed(goal - v - moves)
    known = [
        *inverse(goal - v - moves, v + moves - goal),
        *facts(chosen, -chosen, FIRST_OF(goal - v - moves), FIRST_OF(v + moves - goal)),
    ]
    after = v + moves + chosen
    prove(to_come(after - goal, chosen) == 0, *known)


# ---- 3. the closed forms are the ramp ------------------------------------------------------------

x, n, w, b, q, f, m, bound, total, root = z3.Reals("x n w b q f m bound total root")
FLOOR = [n >= 0, n <= x, x < n + 1]


def test_the_sum_is_that_of_what_falls_by_one_per_cycle() -> None:
    prove(model.sum_at(x, n) == x + model.sum_at(x - 1, n - 1), *FLOOR)
    prove(model.sum_at(x, n) == x, *FLOOR, n == 0)
    prove(model.sum_at(x, n) >= x, *FLOOR, z3.Or(n == 0, n >= 1))
    prove(
        model.sum_of_sums_at(x, n) == model.sum_at(x, n) + model.sum_of_sums_at(x - 1, n - 1),
        *FLOOR,
    )
    prove(model.sum_of_sums_at(x, n) == x, *FLOOR, n == 0)


def test_the_sum_grows_with_what_is_summed_up() -> None:
    # within a piece, from piece to piece, and the pieces meet
    prove(model.sum_at(x, n) < model.sum_at(total, n), *FLOOR, total > x)
    prove(model.sum_at(n + 1, n) == model.sum_at(n + 1, n + 1), n >= 0)


def test_the_first_is_that_whose_sum_is_the_total() -> None:
    square_root = [total > 0, root >= 0, root * root == 1 + 8 * total]
    floor = [n >= 0, n <= (root - 1) / 2, (root - 1) / 2 < n + 1]
    first = model.first_at(total, n)
    prove(z3.And(first >= n, first < n + 1), *square_root, *floor)
    prove(model.sum_at(first, n) == total, *square_root, *floor)


def test_the_deceleration_grows_as_long_as_it_can_be_let_go_of() -> None:
    # after n - 1 cycles one more is right where the sum of the next is not more than the velocity;
    # C compares squares instead
    now = q + f
    _, velocity = model.grown(w, now, n - 1)
    spare = velocity - model.sum_at(now + n, q + n)
    prove(spare == model.room_at(w, q, f) - (n + now) * (n + now), f >= 0, f < 1)


def test_a_cycle_of_growing_deceleration_is_one_less_to_grow() -> None:
    # the square does not change, and the floors do by one: so does their number
    before, after = model.room_at(w, q, f), model.room_at(w - (q + f) - 1, q + 1, f)
    prove(before == after, f >= 0, f < 1)
    way, left = model.grown(w, b, n)
    next_way, next_left = model.grown(w - b - 1, b + 1, n - 1)
    prove(z3.And(way == (w - b - 1) + next_way, left == next_left), n >= 1)


def test_a_cycle_at_the_bound_is_one_less_to_hold() -> None:
    way, left = model.held(w, bound, n)
    next_way, next_left = model.held(w - bound, bound, n - 1)
    prove(z3.And(way == (w - bound) + next_way, left == next_left), n >= 1, bound > 0)

    # so many as leave a velocity that the bound is too much for, and no more
    top = model.sum_at(bound, m)
    floor = [m >= 0, m <= bound, bound < m + 1, n - 1 <= (w - top) / bound, (w - top) / bound < n]
    prove(model.held(w, bound, n)[1] < top, *floor, bound > 0, w >= top)
    prove(model.held(w, bound, n - 1)[1] >= top, *floor, bound > 0, w >= top)


def test_what_is_left_falls_to_rest_together_with_the_velocity() -> None:
    # velocity w = sum(x) goes to w - x = sum(x - 1), whose first is x - 1
    w_is = w == model.sum_at(x, n)
    way = model.sum_of_sums_at(x, n) - w
    after = model.sum_of_sums_at(x - 1, n - 1) - (w - x)
    prove(way == (w - x) + after, w_is, *FLOOR, n >= 1)
    prove(z3.And(way == 0, w - x == 0), w_is, *FLOOR, n == 0)


def test_a_cycle_of_turning_back_is_one_less_to_rise() -> None:
    a, r = z3.Reals("a r")
    twice, after = -2 * a - 1, -2 * (a + 1) - 1
    v = w + a + 1
    prove(twice * twice - 8 * w == after * after - 8 * v)
    prove((twice - r) / 2 - 1 == (after - r) / 2)
    prove(model.risen(w, a, n) == v + model.risen(v, a + 1, n - 1), n >= 1)

    # what rises is still positive, and no more of them are
    rises = [r >= 0, r * r == twice * twice - 8 * w, n <= (twice - r) / 2, (twice - r) / 2 < n + 1]
    speed = w + n * a + n * (n + 1) / 2
    prove(speed >= 0, *rises, n >= 0, w > 0, a < 0)
    prove(w + a + 1 <= 0, *rises, n == 0, w > 0, r >= 1, a < -1)


def test_a_ramp_that_stays_in_range_still_does_when_its_first_cycle_is_over() -> None:
    p, v, low, high, up, down, up_after, down_after = z3.Reals("p v low high up down up_ down_")
    is_ramp = [
        up == z3_most(v + up_after, z3.RealVal(0)),
        down == z3_most(-v + down_after, z3.RealVal(0)),
        up_after >= 0,
        down_after >= 0,
    ]
    stays = [p + up <= high, p - down >= low]
    after = p + v
    prove(
        z3.And(after + up_after <= high, after - down_after >= low, after <= high, after >= low),
        *is_ramp,
        *stays,
    )


# ---- and for what the proofs say of the whole, the floats --------------------------------------


@given(st.floats(-1e3, 1e3), st.floats(-40, 40), st.floats(0.5, 40))
def test_a_ramp_comes_where_its_closed_form_says(
    velocity: float, acceleration: float, most: float
) -> None:
    acceleration = model.clamp(acceleration, -most, most)
    way = model.way(velocity, acceleration, most)
    up, down = (
        model.highest(velocity, acceleration, most),
        model.highest(-velocity, -acceleration, most),
    )
    here = highest = lowest = 0.0
    v, a = velocity, acceleration
    for _ in range(20_000):
        a = model.clamp(-model.signed_first_of(v), a - 1, a + 1)
        a = model.clamp(a, -most, most)
        v += a
        here += v
        highest, lowest = max(highest, here), min(lowest, here)
        if abs(v) < 1e-9 and abs(a) <= 1:
            break
    scale = 1e-9 * (1 + abs(way) + up + down)
    assert here == pytest.approx(way, abs=scale)
    assert (highest, -lowest) == pytest.approx((up, down), abs=scale)
