"""The pace of a client's answers, or that they cannot be in time: told before it drives."""

from dataclasses import dataclass
from typing import Any

from inphase.errors import ServiceError

_MS = 1e-6  # per nanosecond


@dataclass(frozen=True)
class Rhythm:
    """The times of a robot at which answers are of use. Cycles, but for those in nanoseconds."""

    period_ns: int
    act_ns: int
    """from the beginning of a cycle to its act"""
    latched_ns: int
    """likewise to its frame, where that is soon"""
    every: int
    """from a frame to the next that is sent"""
    latency_cycles: int
    """from a frame to the first command of its answer"""
    needed_cycles: int
    """likewise to the first act that wants it: it may be gone to before"""
    chunk: int
    """commands in an answer"""
    spacing: int
    """from a command of an answer to the next"""

    @property
    def left_ns(self) -> int:
        """From a frame to the act that its answer is for."""
        return self.needed_cycles * self.period_ns + self.act_ns - self.latched_ns

    @classmethod
    def of(cls, greeting: dict[str, Any]) -> "Rhythm":
        """As a robot tells it. Raises TypeError, KeyError for what is none."""
        told = greeting["timing"]
        return cls(**{name: int(told[name]) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Pace:
    """How a client answers, so that each cycle has a command."""

    answers: int = 1
    """it answers each so-manieth frame"""
    late_cycles: int = 0
    """the first commands of its answers are late by so many cycles, and are not applied"""


def pace_of(rhythm: Rhythm, round_trip_ns: int, inference_ns: int, *, adapt: bool) -> Pace:
    """The pace at which answers are in time.

    adapt: answers to fewer frames, and chunks of which the first commands are late, will do. Raises
    ServiceError, with the figures and a remedy.
    """
    frame_ns = rhythm.every * rhythm.period_ns
    late_ns = max(0, round_trip_ns + inference_ns - rhythm.left_ns)
    late = -(-late_ns // rhythm.period_ns)
    answers = max(1, -(-inference_ns // frame_ns))
    if late == 0 and answers == 1:
        return Pace()
    needed, covers = answers * rhythm.every + late, rhythm.chunk * rhythm.spacing
    if needed <= covers and adapt:
        return Pace(answers, late)
    raise ServiceError(
        f"answers would be too late: the round trip takes {round_trip_ns * _MS:.1f} ms and the "
        f"policy {inference_ns * _MS:.1f} ms, the robot acts {rhythm.left_ns * _MS:.1f} ms after a "
        f"frame and sends one each {frame_ns * _MS:.1f} ms; {_remedy(rhythm, answers, late)}"
    )


def _remedy(rhythm: Rhythm, answers: int, late: int) -> str:
    """The words that tell how these answers would be in time."""
    needed = answers * rhythm.every + late
    if needed <= rhythm.chunk * rhythm.spacing:
        return "drive with adapt=True, or submit the policy as a job"
    wanted = [f"latency_cycles = {rhythm.latency_cycles + late}"] if late else []
    wanted += [f"every = {answers * rhythm.every}"] if answers > 1 else []
    return (
        f"the robot's owner may set {' and '.join(wanted)} in [policy] of its schedule, or submit "
        f"the policy as a job"
    )
