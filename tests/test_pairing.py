"""Which pulse gave which sample, when devices leave pulses out, are late or count too much."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.pairing import Pairing, State


def paired(sequence: int | None = 41) -> Pairing:
    pairing = Pairing()
    pairing.fire()
    pairing.confirm(sequence)
    return pairing


def test_a_sample_belongs_to_the_pulse_before_it() -> None:
    pairing = paired()
    for sequence in range(42, 50):
        pairing.fire()
        assert pairing.judge(sequence) == 0


@pytest.mark.parametrize(("sequence", "off"), [(41, -1), (40, -2), (43, 1), (142, 100)])
def test_a_sample_of_another_number_says_by_how_much_it_is_off(sequence: int, off: int) -> None:
    pairing = paired()
    pairing.fire()
    assert pairing.judge(sequence) == off


def test_after_a_doubt_the_count_begins_with_the_pulse_that_is_confirmed() -> None:
    pairing = paired()
    pairing.fire()
    pairing.doubt()
    assert pairing.state is State.DOUBTFUL
    pairing.begin()
    pairing.fire()
    pairing.confirm(7)
    pairing.fire()
    assert (pairing.state, pairing.judge(8), pairing.judge(7)) == (State.PAIRED, 0, -1)


def test_a_device_without_numbers_is_paired_by_order() -> None:
    pairing = paired(None)
    pairing.fire()
    assert not pairing.counts and pairing.judge(None) == 0


class Device:
    """Samples that come at once, or later, or never; `counted` devices number what they take."""

    def __init__(self, draw: random.Random, counted: bool) -> None:
        self._draw = draw
        self._counted = counted
        self._taken = 0
        self._under_way: deque[tuple[int | None, int]] = deque()

    def pulse(self, cycle: int) -> None:
        """Take a sample, unless this pulse is left out."""
        if self._draw.random() < 0.03:
            return
        self._taken += 1 + (self._draw.random() < 0.03)
        if self._draw.random() > 0.03:
            self._under_way.append((self._taken if self._counted else None, cycle))

    def arrive(self, all_of_them: bool) -> list[tuple[int | None, int]]:
        """What comes now, in order: (number, the cycle it was really taken in)."""
        came = []
        while self._under_way and (all_of_them or self._draw.random() < 0.9):
            came.append(self._under_way.popleft())
        return came


@given(st.integers(0, 2**32), st.booleans())
def test_no_sample_is_ever_given_to_another_pulse_than_its_own(seed: int, counted: bool) -> None:
    """The worker's turns, with a device that has every fault; silence lasts as stated."""
    device = Device(random.Random(seed), counted)
    pairing = paired(0 if counted else None)
    given_out = 0
    pending: list[tuple[int | None, int]] = []
    for cycle in range(300):
        if pending and not counted:  # found left over, right before a pulse
            pairing.doubt()
        pending = []
        if pairing.state is State.DOUBTFUL:
            device.arrive(all_of_them=True)
            pairing.begin()
            continue
        pairing.fire()
        device.pulse(cycle)
        pending = device.arrive(all_of_them=False)
        was_confirming = pairing.state is State.CONFIRMING
        while pending:
            number, taken_in = pending.pop(0)
            if was_confirming:
                pairing.confirm(number)
                break
            off = pairing.judge(number)
            if off == 0:
                assert taken_in == cycle, f"seed {seed}, cycle {cycle}"
                given_out += 1
                break
            if off > 0:
                pairing.doubt()
                break
        else:
            pairing.doubt()
        pending += device.arrive(all_of_them=False)
    assert given_out > 50, f"seed {seed}"
