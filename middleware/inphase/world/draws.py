"""The schedule's [timing] for each sample of a device that is simulated in real time."""

import random

from inphase.plan.plan import Plan
from inphase.schedule.distribution import constant

_FREEZE_SAMPLES = 10.0


class TimingDraws:
    """One sensor's timing, drawn sample by sample. Thread: one.

    Values that the schedule leaves out are as the driver states them. The same numbers come in the
    same order in each run. The machine decides which instants they meet.
    """

    def __init__(self, plan: Plan, sensor: int) -> None:
        found = plan.sensors[sensor]
        timing, path = plan.timing, f"sensors.{found.name}"
        self._random = random.Random(f"{plan.schedule.name}/{found.name}")
        self._spec = found.spec
        self._latency = timing.ns(f"{path}.latency_ms")
        self._jitter = timing.ns(f"{path}.jitter_ms")
        self._dropout = timing.number(f"{path}.dropout")
        self._freeze = timing.number(f"{path}.freeze")
        self._freeze_samples = timing.get(f"{path}.freeze_samples") or constant(_FREEZE_SAMPLES)
        self._standing = 0
        self._is_first = True
        self.drift = timing.number(f"{path}.drift_ppm") * 1e-6
        """how much faster its own clock runs"""
        self.phase_ns = round(timing.number(f"{path}.phase_ms") * 1e6)
        """when one that runs by itself takes its first sample"""

    @property
    def is_timed(self) -> bool:
        """True if the schedule says anything of its latency."""
        return self._latency is not None or self._jitter is not None

    @property
    def latency_max_ns(self) -> int:
        """The longest latency that can be drawn."""
        longest = self._latency.high if self._latency else self._stated_max_ns
        return round(longest + (self._jitter.high if self._jitter else 0.0))

    @property
    def _stated_max_ns(self) -> int:
        return self._spec.twin_latency_ns + self._spec.twin_jitter_ns

    def latency_ns(self) -> int:
        """From the trigger to the sample in hand; of a free-running one, from its acquisition."""
        draw = self._random.random
        if self._latency is not None:
            latency_ns = self._latency.quantile(draw())
        else:
            latency_ns = self._spec.twin_latency_ns + self._spec.twin_jitter_ns * draw()
        return round(latency_ns + (self._jitter.quantile(draw()) if self._jitter else 0.0))

    def is_lost(self) -> bool:
        """True if this sample never comes. The first one comes: by it a driver knows its device."""
        is_first, self._is_first = self._is_first, False
        return not is_first and self._dropout > 0 and self._random.random() < self._dropout

    def stands(self) -> bool:
        """True if the device stands still, and gives its last sample again."""
        if self._standing:
            self._standing -= 1
        elif self._freeze > 0 and self._random.random() < self._freeze:
            self._standing = round(self._freeze_samples.quantile(self._random.random()))
        return self._standing > 0

    def noise(self) -> float:
        """A draw in -1..1."""
        return 2 * self._random.random() - 1
