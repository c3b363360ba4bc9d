"""Frames are left out for watchers, by what sending them costs, and no more than that."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from inphase.runtime.throttle import Throttle

SHARE, PERIOD_S = 0.25, 0.002


class Sending:
    """A process that sends frames, of which each costs some time on a core; virtual time."""

    def __init__(self) -> None:
        self.now_s = self.used_s = 0.0
        self.throttle = Throttle(SHARE, lambda: self.now_s, lambda: self.used_s)
        self.number = 0

    def run(self, seconds: float, cost_s: float) -> list[int]:
        """The numbers that were sent meanwhile."""
        sent = []
        for _ in range(int(seconds / PERIOD_S)):
            self.now_s += PERIOD_S
            if self.throttle.sends(self.number):
                sent.append(self.number)
                self.used_s += cost_s
            self.number += 1
        return sent


def test_all_frames_are_sent_where_they_cost_little() -> None:
    assert Sending().run(5.0, 0.1 * SHARE * PERIOD_S) == list(range(2500))


@given(st.floats(1.01, 60.0))
def test_under_pressure_frames_are_left_out_evenly_and_come_back(times: float) -> None:
    sending = Sending()
    cost_s = times * SHARE * PERIOD_S  # of all frames, in shares
    sending.run(10.0, cost_s)
    begun_s, used_s = sending.now_s, sending.used_s
    sent = sending.run(10.0, cost_s)
    gaps = {after - before for before, after in itertools.pairwise(sent)}
    assert max(gaps) <= 2 * min(gaps)  # two where it is right at the bound
    assert sending.used_s - used_s <= 1.05 * SHARE * (sending.now_s - begun_s)
    assert max(gaps) < 4 * times  # no more than that
    sending.run(10.0, 0.1 * SHARE * PERIOD_S)
    assert sending.throttle.stride == 1


def test_at_least_every_64th_is_sent() -> None:
    sending = Sending()
    sending.run(20.0, 1000 * SHARE * PERIOD_S)
    assert len(sending.run(2.0, 1000 * SHARE * PERIOD_S)) >= 1000 // 64
