"""Which pulse gave which sample, when devices stand still, lose some, or count too much."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.devices.pairing import Pairing

MS = 1_000_000
PERIOD_NS, WORST_NS, TYPICAL_NS, LEAST_NS = 10 * MS, 6 * MS, 2 * MS, 1 * MS


def paired(sequence: int | None = 41, worst_ns: int = WORST_NS) -> Pairing:
    pairing = Pairing(worst_ns)
    pairing.fire(-PERIOD_NS)
    pairing.confirm(sequence)
    return pairing


def test_a_sample_belongs_to_the_pulse_before_it() -> None:
    pairing = paired()
    for sequence in range(42, 50):
        pairing.fire(0)
        assert pairing.judge(sequence) == 0


@pytest.mark.parametrize(("sequence", "off"), [(41, -1), (40, -2), (43, 1), (142, 100)])
def test_a_sample_of_another_number_says_by_how_much_it_is_off(sequence: int, off: int) -> None:
    pairing = paired()
    pairing.fire(0)
    assert pairing.judge(sequence) == off


def turn(pairing: Pairing, now_ns: int, answers: bool) -> bool:
    """A turn in which nothing was left over. Whether its sample is trusted."""
    assert pairing.look(0, now_ns)
    pairing.fire(now_ns)
    if answers:
        pairing.answer(None, now_ns + TYPICAL_NS)
    return answers and not pairing.is_suspect


def test_a_lost_sample_costs_itself_and_one_that_is_not_trusted() -> None:
    pairing = paired(None)
    turns = [turn(pairing, n * PERIOD_NS, n != 3) for n in range(7)]
    assert turns == [True, True, True, False, False, True, True]
    assert pairing.slips == 0, "silence is no slip"


def test_a_line_that_may_owe_an_answer_is_silent_for_its_worst_case_before_it_is_trusted() -> None:
    pairing = paired(None, worst_ns := 2 * PERIOD_NS)
    pairing.fire(0)  # and is never answered
    assert not pairing.look(0, PERIOD_NS)
    assert pairing.look(0, worst_ns)
    pairing.fire(worst_ns)
    pairing.answer(None, heard_ns := worst_ns + TYPICAL_NS)
    assert not pairing.look(0, heard_ns + worst_ns - 1)
    assert pairing.is_suspect, "the answer may be the first pulse's, and the second's yet to come"
    assert pairing.look(0, heard_ns + worst_ns)
    assert not pairing.is_suspect


def test_no_pulse_is_fired_while_the_one_before_may_be_answered() -> None:
    pairing = paired(None)
    pairing.fire(0)
    assert not pairing.look(0, WORST_NS - 1)
    assert pairing.look(0, WORST_NS)
    assert pairing.is_suspect


def test_a_late_sample_that_was_thrown_away_leaves_no_doubt() -> None:
    pairing = paired(None)
    pairing.fire(0)
    assert pairing.look(1, PERIOD_NS)
    assert not pairing.is_suspect
    assert pairing.look(1, 2 * PERIOD_NS)
    assert (pairing.is_suspect, pairing.slips) == (True, 1), "one more than was asked for"


@pytest.mark.parametrize("worst_ns", [WORST_NS, 35 * MS])
def test_a_number_that_fits_behind_a_missing_sample_is_trusted_after_a_silence_only(
    worst_ns: int,
) -> None:
    """The device lost a sample, or is a pulse behind and counted that pulse twice."""
    pairing = paired(0, worst_ns)
    for now_ns, number in ((0, 1), (PERIOD_NS, None), (2 * PERIOD_NS, 3)):
        assert pairing.look(0, now_ns)
        pairing.fire(now_ns)
        if number:
            assert pairing.judge(number) == 0
            pairing.answer(number, now_ns + TYPICAL_NS)
    assert pairing.is_suspect == (worst_ns > PERIOD_NS)
    assert pairing.slips == 0


class Device:
    """Answers in order, each within its stated time of the one before, but for its faults, which
    come one at a time. Behind a standstill it takes its stated worst case, and none but a pulse
    that it counts twice is a fault of a device that is behind. `counted` devices number what they
    take."""

    def __init__(self, draw: random.Random, counted: bool, worst_ns: int) -> None:
        self._draw = draw
        self._worst_ns = worst_ns
        self._slow = 0
        self._counted = counted
        self._taken = 0
        self._free_ns = 0
        self._cycle = 0
        self._fault_cycle = 0
        self._under_way: deque[tuple[int, int | None, int]] = deque()

    def _fails(self, is_behind: bool = False) -> bool:
        if is_behind or self._cycle - self._fault_cycle < 10 or self._draw.random() > 0.05:
            return False
        self._fault_cycle = self._cycle
        return True

    def pulse(self, now_ns: int, cycle: int) -> None:
        """Take a sample, unless this pulse is lost."""
        self._cycle = cycle
        begins_ns = max(now_ns, self._free_ns)
        is_behind = begins_ns > now_ns or self._slow > 0
        if self._fails(is_behind):
            return
        self._taken += 1 + (self._counted and self._fails())
        if self._fails(is_behind):
            begins_ns += self._draw.randint(1, 60) * MS
            self._slow = self._draw.randint(0, 8)
        most_ns = self._worst_ns if self._slow else TYPICAL_NS
        self._slow = max(0, self._slow - 1)
        self._free_ns = begins_ns + self._draw.randint(LEAST_NS, most_ns)
        if not self._fails(is_behind):
            number = self._taken if self._counted else None
            self._under_way.append((self._free_ns, number, cycle))

    def take(self, until_ns: int) -> tuple[int, int | None, int] | None:
        """The next sample that is there by then: (when, number, the cycle it was taken in)."""
        if self._under_way and self._under_way[0][0] <= until_ns:
            return self._under_way.popleft()
        return None


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([WORST_NS, 15 * MS, 35 * MS]))
def test_no_sample_is_ever_given_to_another_pulse_than_its_own(
    seed: int, counted: bool, worst_ns: int
) -> None:
    """The worker's turns, with a device that has every fault."""
    device = Device(random.Random(seed), counted, worst_ns)
    pairing = paired(0 if counted else None, worst_ns)
    given_out = 0
    for cycle in range(300):
        now_ns = cycle * PERIOD_NS
        left_over = 0
        while device.take(now_ns):
            left_over += 1
        if not pairing.look(left_over, now_ns):
            continue
        pairing.fire(now_ns)
        device.pulse(now_ns, cycle)
        passed = False
        while came := device.take(now_ns + PERIOD_NS * 7 // 8):
            came_ns, number, taken_in = came
            off = pairing.judge(number)
            if off < 0:
                pairing.pass_over()
                passed = True
            elif off > 0:
                pairing.slip(came_ns)
                break
            elif came_ns - now_ns < LEAST_NS:
                pairing.slip(came_ns)
            else:
                pairing.answer(number, came_ns)
                if not pairing.is_suspect:
                    assert taken_in == cycle, f"seed {seed}, cycle {cycle}"
                    given_out += 1
                break
        else:
            if passed and pairing.counts:
                pairing.doubt(now_ns + PERIOD_NS * 7 // 8)
    assert given_out > 50, f"seed {seed}"
