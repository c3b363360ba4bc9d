"""The clock of a free-running sensor out of a recording, its latency, and the samples that never
came."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.timing.fitted import MANY, Fitted, distribution, ms, share
from inphase.timing.free_samples import FreeSamples, known
from inphase.timing.tally import Tally

_BLOCK = 1 << 16
_ROUNDS, _CLOSE = 200, 1e-9
_PPM_SEEN = 0.001


def free_running(sensor: FreeSamples, period_ns: int) -> Fitted:
    """Latency, phase and drift of a free-running sensor, and its dropout where it is slower than
    the cycle."""
    facts = sensor.facts
    clock = _Clock(sensor)
    remarks = [f"{facts.name}: {sensor.count} samples of a free-running sensor"]
    if clock.count < MANY:
        remarks.append(
            f"{clock.count} of them say when they were acquired: latency, phase and drift are not "
            f"known"
        )
        return Fitted(("sensors", facts.name), {}, remarks)
    interval_ns, phase_ns = clock.line()
    remarks.append(f"it gives {1e9 / interval_ns:.7g} samples per second")
    values: dict[str, Any] = {
        "latency_ms": distribution(clock.took),
        "phase_ms": ms(phase_ns),
    }
    if facts.interval_ns is None:
        remarks.append("its driver states no rate that its drift could be counted from")
    else:
        ppm = (facts.interval_ns / interval_ns - 1) * 1e6
        values["drift_ppm"] = round(ppm, 3) if abs(ppm) >= _PPM_SEEN else None
    if interval_ns <= period_ns or facts.burst:
        remarks.append("a frame names the newest of its samples: drop-outs are not known")
        return Fitted(("sensors", facts.name), values, remarks)
    dropout = clock.dropout()
    values["dropout"] = share(dropout) if dropout else None
    return Fitted(("sensors", facts.name), values, remarks)


class _Clock:
    """Goes through the samples. Those between two stamps follow from their distance."""

    def __init__(self, sensor: FreeSamples) -> None:
        self.took = Tally()
        self.count = 0
        """samples of a known acquisition"""
        self._origin_ns = 0
        self._usual_ns = float(sensor.facts.interval_ns or 0)
        self._last = (0, 0)
        """number and stamp of the sample before"""
        self._sums = np.zeros(4)
        """of numbers, their squares, what the stamps are off from the usual, and both"""
        self._slack: list[NDArray[np.float64]] = []
        """of each sample that is missing: the time that it had until the frame looked that then
        found none; a later one was overtaken by the next sample"""
        for first in range(0, sensor.count, _BLOCK):
            part = known(sensor.read(first, _BLOCK))
            if len(part):
                self._take(part)

    def _take(self, samples: NDArray[Any]) -> None:
        stamps = samples["acquired_ns"]
        self.took.add(np.maximum(0, samples["received_ns"] - stamps))
        if not self.count:
            self._origin_ns = int(stamps[0])
            self._last = (-1, 0)
            if not self._usual_ns:
                self._usual_ns = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 1.0
            self._last = (-1, int(stamps[0] - self._usual_ns))
        before = np.append(self._last[1], stamps[:-1])
        steps = np.maximum(1, np.rint((stamps - before) / self._usual_ns)).astype(np.int64)
        numbers = self._last[0] + np.cumsum(steps)
        off = (stamps - self._origin_ns) - numbers * self._usual_ns
        self._sums += (
            float(numbers.sum()),
            float((numbers.astype(np.float64) ** 2).sum()),
            float(off.sum()),
            float((numbers * off).sum()),
        )
        self.count += len(stamps)
        self._last = (int(numbers[-1]), int(stamps[-1]))
        # those that came without a frame that names them are no drop-outs
        missing = np.maximum(0, steps - 1 - samples["passed"])
        gaps = np.repeat(np.arange(len(steps)), missing)
        place = np.arange(len(gaps)) - np.repeat(np.cumsum(missing) - missing, missing) + 1
        acquired = before[gaps] + place * self._usual_ns
        self._slack.append((samples["looked_ns"][gaps] - acquired).astype(np.float64))

    def line(self) -> tuple[float, float]:
        """From sample to sample in ns, by least squares; and its first time from 0 on."""
        total, squares, off, both = self._sums
        spread = squares - total * total / self.count
        slope = (both - total * off / self.count) / spread
        start_ns = self._origin_ns + (off - slope * total) / self.count
        interval_ns = self._usual_ns + slope
        return float(interval_ns), float(start_ns % interval_ns)

    def dropout(self) -> float:
        """The likeliest share of samples that never came, by expectation and maximisation: a
        missing one was dropped, or it took longer than its slack."""
        slack = np.concatenate(self._slack)
        expected = self._last[0] + 1
        curve = self.took.curve()
        longer = 1 - np.interp(slack, curve.values, curve.probabilities, left=0.0, right=1.0)
        found = len(slack) / expected
        for _ in range(_ROUNDS):
            before = found
            if found <= 0:
                break
            found = float((found / (found + (1 - found) * longer)).sum()) / expected
            if abs(found - before) < _CLOSE:
                break
        return found
