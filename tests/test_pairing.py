"""Which pulse gave which sample, when devices leave pulses out, are late or count too much."""

import random

from hypothesis import given
from hypothesis import strategies as st

from inphase.pairing import Pairing, Verdict


def started(sequence: int | None = 41) -> Pairing:
    pairing = Pairing()
    pairing.fire(-1, 0)
    pairing.confirm(sequence)
    return pairing


def test_a_sample_belongs_to_the_pulse_that_asked_for_it() -> None:
    pairing = started()
    for cycle in range(5):
        pulse = pairing.fire(cycle, 10 * cycle)
        assert pairing.judge(42 + cycle) == Verdict(pulse, 0)


def test_a_late_sample_is_its_own_pulses_and_the_next_one_is_right() -> None:
    pairing = started()
    late = pairing.fire(0, 0)
    pairing.miss()
    now = pairing.fire(1, 10)
    assert pairing.judge(42) == Verdict(late, -1)
    assert pairing.judge(43) == Verdict(now, 0)


def test_a_sample_too_many_is_a_slip_and_the_count_goes_on_from_it() -> None:
    pairing = started()
    pairing.fire(0, 0)
    assert pairing.judge(43) == Verdict(None, 1)
    pairing.count_anew(43)
    pulse = pairing.fire(1, 10)
    assert pairing.judge(44) == Verdict(pulse, 0)


def test_a_device_that_leaves_a_pulse_out_is_counted_anew() -> None:
    pairing = started()
    pairing.fire(0, 0)
    pairing.miss()
    pairing.fire(1, 10)
    earlier, off = pairing.judge(42)
    assert earlier is not None and (earlier.cycle, off) == (0, -1)
    pairing.count_anew(42)
    pulse = pairing.fire(2, 20)
    assert pairing.judge(43) == Verdict(pulse, 0)


def test_without_numbers_the_sample_after_a_missing_one_is_not_trusted() -> None:
    pairing = started(None)
    pairing.fire(0, 0)
    pairing.miss()
    pairing.fire(1, 10)
    assert pairing.judge(None) == Verdict(None, 0)
    pulse = pairing.fire(2, 20)
    assert pairing.judge(None) == Verdict(pulse, 0)


def test_without_numbers_a_left_over_sample_that_was_found_settles_the_doubt() -> None:
    pairing = started(None)
    pairing.fire(0, 0)
    pairing.miss()
    pulse = pairing.fire(1, 10, left_over=1)
    assert pairing.judge(None) == Verdict(pulse, 0)


@given(st.integers(0, 2**32), st.integers(1, 200))
def test_no_sample_is_ever_given_to_another_pulse_than_its_own(seed: int, pulses: int) -> None:
    """A device whose samples come late, in order, or not at all, but are counted when taken."""
    draw = random.Random(seed)
    pairing = started(0)
    waiting: list[tuple[int, int]] = []
    for cycle in range(pulses):
        pairing.fire(cycle, cycle)
        waiting.append((cycle + 1, cycle))
        while waiting and draw.random() < 0.7:
            number, taken_in = waiting.pop(0)
            pulse, _ = pairing.judge(number)
            assert pulse is None or pulse.cycle == taken_in, f"seed {seed}"
            if draw.random() < 0.05 and waiting:
                waiting.pop(0)
        if waiting:
            pairing.miss()
