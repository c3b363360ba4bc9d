"""A device's clock mapped to the host's: the truth lies within the error that is stated."""

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.devices.device_clock import REJECTED, RESTARTED, TAKEN, DeviceClock, unwrap

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Model:
    """A device, its clock and its line; exact integers, so that the truth is the truth."""

    seed: int
    """of the delays; Hypothesis prints it with the rest when a test fails"""
    period_ns: int
    drift_ppb: int
    wander_ppb: int
    """change of the drift per second"""
    origin_ns: int
    way_ns: int
    back_ns: int
    uneven_ns: int
    """the longest further delay on either way"""

    def stamp(self, host_ns: int) -> int:
        """The device's time at a host time."""
        apart = host_ns - 10**15
        drifted = 2 * SECOND * apart * self.drift_ppb
        wandered = self.wander_ppb * apart * apart
        return self.origin_ns + apart + (drifted + wandered) // (2 * 10**18)  # rounded once


models = st.builds(
    Model,
    seed=st.integers(0, 2**32),
    period_ns=st.sampled_from([1_000_000, 10_000_000, 33_333_333, SECOND]),
    drift_ppb=st.integers(-200_000, 200_000),
    wander_ppb=st.integers(-50, 50),
    origin_ns=st.integers(-(2**60), 2**60),
    way_ns=st.integers(0, 500_000),
    back_ns=st.integers(0, 500_000),
    uneven_ns=st.integers(0, 500_000),
)


class Line:
    """Readings of a device, one after the other, and what is known of it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.random = random.Random(model.seed)
        self.clock = DeviceClock()
        self.now_ns = 10**15
        self.mapped = 0

    def read(self, *, late_ns: int = 0, wrong_ns: int = 0) -> int:
        """One reading. The answer of add; a stamp that is mapped is mapped truly."""
        model, uneven = self.model, self.model.uneven_ns
        truth = self.now_ns + model.way_ns + self.random.randint(0, uneven)
        latest = truth + model.back_ns + self.random.randint(0, uneven) + late_ns
        stamp = model.stamp(truth) + wrong_ns
        answer = self.clock.add(stamp, self.now_ns, latest)
        found = self.clock.map(stamp)
        if found is not None and wrong_ns == 0:
            host_ns, error_ns = found
            assert abs(host_ns - truth) <= error_ns
            self.mapped += 1
        self.now_ns += model.period_ns
        return answer

    @property
    def round_trip_ns(self) -> int:
        """The longest one without being late."""
        return self.model.way_ns + self.model.back_ns + 2 * self.model.uneven_ns


@given(models)
def test_the_truth_is_within_the_error_with_late_replies(model: Model) -> None:
    line = Line(model)
    for _ in range(150):
        late_ns = 10 * line.round_trip_ns if line.random.random() < 0.1 else 0
        assert line.read(late_ns=late_ns) == TAKEN
    assert line.mapped > 120 or model.period_ns < 10_000_000
    facts = line.clock.facts()
    assert (facts.taken, facts.rejected, facts.resets) == (150, 0, 0)
    assert facts.error_ns is not None
    assert facts.error_ns >= (model.way_ns + model.back_ns) // 2


@given(models)
def test_the_drift_is_within_its_error(model: Model) -> None:
    line = Line(model)
    for _ in range(100):
        line.read()
    facts = line.clock.facts()
    assert facts.drift_ppb is not None
    assert facts.drift_error_ppb is not None
    gained_s = (line.now_ns - 10**15) / SECOND
    drift_now = model.drift_ppb + model.wander_ppb * gained_s
    slack = 2 + abs(model.wander_ppb) * (model.period_ns / SECOND + 1) + abs(drift_now) * 0.001
    assert abs(facts.drift_ppb - drift_now) <= facts.drift_error_ppb + slack


@given(models, st.integers(1, 10))
def test_wrong_stamps_are_outvoted(model: Model, one_in: int) -> None:
    line = Line(model)
    for _ in range(30):
        line.read()
    wrong = 0
    for turn in range(100):
        if turn % (one_in + 2) == 0:
            shift = 200_000_000 + line.random.randrange(10 * SECOND)
            assert line.read(wrong_ns=line.random.choice((-1, 1)) * shift) == REJECTED
            wrong += 1
        else:
            assert line.read() == TAKEN
    facts = line.clock.facts()
    assert (facts.rejected, facts.resets) == (wrong, 0)


@given(models, st.integers(0, 7), st.integers(0, 7), st.integers(-(10**9), 10**9))
def test_two_wrong_stamps_while_it_is_learning_do_no_harm(
    model: Model, first: int, second: int, shift: int
) -> None:
    line = Line(model)
    for turn in range(40):
        wrong = turn in (first, second)
        line.read(wrong_ns=shift if wrong else 0)


@given(models, st.sampled_from((-1, 1)), st.integers(100_000_000, 2**60))
def test_a_reset_is_said_and_learned_anew(model: Model, sign: int, jump: int) -> None:
    line = Line(model)
    for _ in range(40):
        line.read()
    answers = []
    for _ in range(4):
        answers.append(line.read(wrong_ns=sign * jump))
        assert line.clock.map(0) is None
    assert answers == [REJECTED] * 3 + [RESTARTED]
    again = Line(replace(model, origin_ns=model.origin_ns + sign * jump))
    again.clock, again.now_ns = line.clock, line.now_ns
    for _ in range(40):
        assert again.read() == TAKEN
    assert again.mapped > 0
    assert again.clock.facts().resets == 1


@given(models, st.integers(1, 300))
def test_the_error_grows_over_a_gap_and_holds(model: Model, gap_s: int) -> None:
    line = Line(model)
    for _ in range(100):
        line.read()
    before = line.clock.facts().error_ns
    line.now_ns += gap_s * SECOND
    found = line.clock.map(model.stamp(line.now_ns))
    assert found is not None
    assert before is not None
    assert abs(found[0] - line.now_ns) <= found[1]
    assert found[1] >= before + 50 * min(gap_s, 10) ** 2 * 0.9
    for _ in range(30):
        assert line.read() == TAKEN


@given(models, st.integers(0, 3_000_000), st.integers(0, 8_000_000))
def test_a_device_that_is_only_heard_is_mapped_by_its_latencies(
    model: Model, least_ns: int, more_ns: int
) -> None:
    line = Line(model)
    for _ in range(100):
        truth = line.now_ns
        arrival = truth + least_ns + line.random.randint(0, more_ns)
        stamp = model.stamp(truth)
        assert line.clock.add(stamp, arrival - least_ns - more_ns, arrival - least_ns) == TAKEN
        found = line.clock.map(stamp)
        assert found is None or abs(found[0] - truth) <= found[1]
        line.now_ns += model.period_ns
    assert found is not None


_UNEVEN_NS = 8_000_000


@given(models, st.integers(0, 3_000_000), st.integers(0, _UNEVEN_NS), st.integers(0, _UNEVEN_NS))
def test_a_device_that_is_heard_is_mapped_truly_with_any_statement_that_holds(
    model: Model, least_ns: int, more_ns: int, careful_ns: int
) -> None:
    line = Line(model)
    found = None
    for _ in range(100):
        truth = line.now_ns
        arrival = truth + least_ns + line.random.randint(0, more_ns)
        stamp = model.stamp(truth)
        most_ns = least_ns + more_ns + careful_ns
        assert line.clock.hear(stamp, arrival, 0, least_ns, most_ns) == TAKEN
        found = line.clock.locate(stamp, arrival - most_ns, arrival)
        assert found is None or abs(found[0] - truth) <= found[1]
        assert found is None or found[0] <= arrival
        line.now_ns += model.period_ns
    assert found is not None


@pytest.mark.parametrize("most_ns", [800_000, 5_000_000, 20_000_000])
def test_a_careful_worst_case_moves_no_stamp(most_ns: int) -> None:
    line = Line(Model(3, 1_000_000, 80_000, 0, 17, 0, 0, 0))
    for turn in range(3000):
        arrival = line.now_ns + 450_000
        stamp = line.model.stamp(line.now_ns)
        line.clock.hear(stamp, arrival, 0, 450_000, most_ns)
        found = line.clock.locate(stamp, arrival - most_ns, arrival)
        if turn >= 100:
            assert found is not None
            assert abs(found[0] - line.now_ns) <= 50_000 < found[1] <= most_ns
        line.now_ns += line.model.period_ns


def test_a_device_whose_time_is_always_zero_is_never_mapped() -> None:
    clock = DeviceClock()
    for cycle in range(1000):
        clock.add(0, cycle * 33_000_000, cycle * 33_000_000 + 1_000_000)
        assert clock.map(0) is None
    facts = clock.facts()
    assert (facts.drift_ppb, facts.error_ns, facts.taken, facts.rejected) == (None, None, 1, 999)


def test_bounds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ValueError, match="latest_ns 4 is before earliest_ns 5"):
        DeviceClock().add(0, 5, 4)
    with pytest.raises(ValueError, match="latency of 5 to 4 ns before 6"):
        DeviceClock().hear(0, 6, 5, 5, 4)


def test_the_same_readings_give_the_same_mapping() -> None:
    results = []
    for _ in range(2):
        line = Line(Model(7, 1_000_000, 50_000, 20, 5, 20_000, 90_000, 60_000))
        for _ in range(500):
            line.read()
        results.append([line.clock.map(stamp) for stamp in range(0, 10**9, 10**7)])
    assert results[0] == results[1]


@given(
    st.integers(-(2**50), 2**50),
    st.sampled_from([16, 24, 32]),
    st.integers(0, 2**32 - 1),
)
def test_a_counter_that_wraps_goes_on(previous: int, bits: int, step: int) -> None:
    value = previous + step % 2**bits
    assert unwrap(previous, value % 2**bits, bits) == value
