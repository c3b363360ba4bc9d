"""A schedule's budgets in lock step: skew, ages, misses and instructions, as a test states them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inphase.episodes.lockstep import LockStep
from inphase.frames.frame import Frame
from inphase.gate import counts
from inphase.runtime import summary
from inphase.schedule import Schedule


@dataclass
class BudgetFigures:
    """The figures of a run in lock step."""

    cycles: int
    max_skew_us: float = 0.0
    skew_cycle: int = -1
    """the cycle of the largest skew; -1: none had a skew"""
    max_age_ms: dict[str, float] = field(default_factory=dict)
    """by sensor; a sensor that never had a sample is not in it"""
    age_cycles: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    """cycles that had no command of their own"""
    instructions: float | None = None
    """of the core in a cycle; None: not asked for"""

    @property
    def miss_rate(self) -> float:
        """Share of the cycles."""
        return self.missed / max(self.cycles, 1)

    def take(self, frame: Frame) -> None:
        """Look at one more frame."""
        if frame.skew_ns is not None and frame.skew_ns / 1000 > self.max_skew_us:
            self.max_skew_us, self.skew_cycle = frame.skew_ns / 1000, frame.cycle
        for name, sample in frame.samples.items():
            age_ns = sample.age_ns
            if age_ns is not None and age_ns / 1e6 > self.max_age_ms.get(name, -1.0):
                self.max_age_ms[name], self.age_cycles[name] = age_ns / 1e6, frame.cycle


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """The most that is allowed; None: anything.

    max_age_ms: of every sensor, or by sensor. miss_rate: share of cycles without a command of their
    own. instructions: of the core in a cycle.
    """

    max_skew_us: float | None = None
    max_age_ms: float | Mapping[str, float] | None = None
    miss_rate: float | None = None
    instructions: float | None = None

    def broken(self, found: BudgetFigures) -> list[str]:
        """A sentence on each that is not kept."""
        said = []
        if self.max_skew_us is not None and found.max_skew_us > self.max_skew_us:
            said.append(
                f"skew was {found.max_skew_us:.1f} us in cycle {found.skew_cycle}; the budget is "
                f"max_skew_us={self.max_skew_us:g}"
            )
        for name, most in self._ages(found).items():
            age_ms = found.max_age_ms.get(name)
            if age_ms is None:
                said.append(f"{name} had no sample, so it keeps no age; is there such a sensor?")
            elif age_ms > most:
                said.append(
                    f"{name} was {age_ms:.3f} ms old in cycle {found.age_cycles[name]}; the budget "
                    f"is max_age_ms={most:g}"
                )
        if self.miss_rate is not None and found.miss_rate > self.miss_rate:
            said.append(
                f"{found.missed} of {found.cycles} cycles had no command of their own "
                f"({found.miss_rate:.3g}); the budget is miss_rate={self.miss_rate:g}"
            )
        if self.instructions is not None and (found.instructions or 0) > self.instructions:
            said.append(
                f"the core takes {found.instructions:.0f} instructions in a cycle; the budget is "
                f"instructions={self.instructions:g}"
            )
        return said

    def _ages(self, found: BudgetFigures) -> Mapping[str, float]:
        if self.max_age_ms is None:
            return {}
        if isinstance(self.max_age_ms, Mapping):
            return self.max_age_ms
        return dict.fromkeys(found.max_age_ms, self.max_age_ms)


class UncountedError(Exception):
    """Instructions cannot be counted on this machine; the text says why."""


def measure(
    schedule: Schedule,
    *,
    cycles: int,
    seed: int,
    policy: Callable[[Frame], Any] | None,
    counts_too: bool,
) -> BudgetFigures:
    """Run in lock step. Raises ScheduleError, WorldError, UncountedError, and the policy's own."""
    found = BudgetFigures(cycles)
    with LockStep(schedule, seed=seed, call=policy, digest=False, raises=True) as robot:
        for frame in robot.frames(cycles):
            found.take(frame)
        found.cycles = robot.cycles
        found.missed = summary.make(robot.plan, robot.follower.reader)["policy"]["missed"]
    if counts_too:
        counted, why = counts.count(schedule)
        if counted is None:
            raise UncountedError(why)
        found.instructions = counted.parts["cycle"].instructions
    return found
