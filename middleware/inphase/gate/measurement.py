"""One measurement of a schedule on this machine: rounds of a bare wake, the robot, a bare wake.

A round is judged by its own bare wakes: they are slower, too, where the machine is. Numbers that do
not depend on the weather are counted on virtual time.
"""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.doctor.host_facts import TICKS_PER_S, stolen_ticks
from inphase.doctor.wakes import measure
from inphase.episodes import lockstep
from inphase.episodes.robot import RobotOptions
from inphase.episodes.runtime_robot import RuntimeRobot
from inphase.errors import RecordingError, RuntimeFault, ScheduleError
from inphase.frames.frame import Frame
from inphase.gate.counts import CycleCounts, count
from inphase.host.machine import processor
from inphase.schedule import Schedule

FORMAT = 3
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
EXACT_CYCLES = 2000
_SETTLE_S = 0.5
_BARE_S = 0.5
_FRAME_S = 5.0
Quantiles = dict[str, float]


class RoundLateness(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Moments of a run that came late; its first moments, which settle, belong to it."""

    cycles: int
    causes: dict[str, int]
    """how many there were, by each of CAUSES"""
    said: list[str]
    """a sentence for each of the commonest kinds"""


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One turn. Times in microseconds, by quantile."""

    bare: list[Quantiles]
    """of the bare wakes before and after"""
    figures: dict[str, Quantiles]
    cycles: int
    skipped: int
    stolen_ms: float
    """that the host of a virtual machine took from all cores while the robot ran"""
    late: RoundLateness


class Measurement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All rounds of a schedule, as they are kept in a file."""

    format: int
    schedule_hash: str
    robot: str
    period_us: float
    version: str
    machine: dict[str, str]
    is_realtime: bool
    seconds: float
    """that the robot ran in each round"""
    rounds: list[Round]
    exact: dict[str, Any] | None
    """of a run on virtual time; None: this schedule has none"""
    counts: CycleCounts | None
    """instructions and the like; None: nothing could be counted"""
    uncounted: str
    """why, as a sentence; empty: it was counted"""

    def save(self, path: Path) -> None:
        """Write it. Raises OSError."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        """Read what `save` wrote. Raises RecordingError."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise RecordingError(
                f"{path} is no baseline: {error}; make one: inphase bench SCHEDULE --json {path}"
            ) from error


@dataclass
class _Times:
    """Times of the frames of a round, ns, by figure."""

    taken: dict[str, list[int]] = field(default_factory=dict)
    latched: dict[int, int] = field(default_factory=dict)
    """when each frame that is not answered yet was complete, by its cycle"""

    def add(self, figure: str, time_ns: int | None) -> None:
        if time_ns is not None:
            self.taken.setdefault(figure, []).append(time_ns)

    def take(self, frame: Frame, seen_ns: int) -> None:
        self.add("wake lateness", frame.woke_ns - frame.due_ns)
        self.add("skew", frame.skew_ns)
        self.add("latch to subscriber", seen_ns - frame.latched_ns)
        self.latched[frame.cycle] = frame.latched_ns
        command = frame.command
        latched_ns = self.latched.pop(command.answered_cycle or -1, None)
        if latched_ns is not None and command.inferred_ns is not None:
            self.add("latch to command", command.inferred_ns - latched_ns)
        for name in frame.sensors:
            sample = frame[name]
            triggered_ns, received_ns = sample.triggered_ns, sample.received_ns
            if sample.status == "FRESH" and triggered_ns is not None and received_ns is not None:
                self.add(f"{name}: trigger to sample", received_ns - triggered_ns)


def quantiles_us(times_ns: NDArray[np.int64]) -> Quantiles:
    """Microseconds, by the names of QUANTILES."""
    found = np.quantile(times_ns, list(QUANTILES.values()), method="higher") / 1000
    return dict(zip(QUANTILES, map(float, found), strict=True))


def machine() -> dict[str, str]:
    """The facts that a baseline is tied to."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
    }


def run(
    schedule: Schedule,
    rounds: int,
    seconds: float,
    *,
    simulate: bool,
    watch: Callable[[int, int], None],
) -> Measurement:
    """Measure. watch: is told how many rounds of how many are done. rounds: 0 measures no time.

    simulate: the robot is simulated, in real time. Raises what a run raises.
    """
    made, is_realtime = [], True
    for number in range(rounds):
        before = measure("bare", schedule.cycle, _BARE_S)
        ran = _run_robot(schedule, seconds, simulate)
        after = measure("bare", schedule.cycle, _BARE_S)
        is_realtime = is_realtime and before.is_realtime and after.is_realtime
        bare = [quantiles_us(before.late_ns), quantiles_us(after.late_ns)]
        made.append(msgspec.structs.replace(ran, bare=bare))
        watch(number + 1, rounds)
    counts, uncounted = count(schedule)
    return Measurement(
        format=FORMAT,
        schedule_hash=schedule.hash,
        robot=schedule.name,
        period_us=schedule.cycle.period_ns / 1000,
        version=metadata.version("inphase"),
        machine=machine(),
        is_realtime=is_realtime,
        seconds=seconds,
        rounds=made,
        exact=exact(schedule),
        counts=counts,
        uncounted=uncounted,
    )


def _run_robot(schedule: Schedule, seconds: float, simulate: bool) -> Round:
    """One run; the round lacks its bare wakes. Raises RuntimeFault, where a run ends early."""
    times = _Times()
    robot = RuntimeRobot(schedule, RobotOptions(simulate=simulate))
    robot.start()
    try:
        first = robot.next(_FRAME_S)
        begin_ns = first.due_ns + int(_SETTLE_S * 1e9)
        end_ns = begin_ns + int(seconds * 1e9)
        cycles = skipped = 0
        stolen = stolen_ticks()
        while True:
            frame = robot.next(_FRAME_S)
            seen_ns = time.monotonic_ns()
            if frame.due_ns >= end_ns:
                break
            if frame.due_ns < begin_ns:
                stolen = stolen_ticks()
                continue
            times.take(frame, seen_ns)
            cycles += 1
            skipped += frame.skipped
        stolen_ms = 1000 * (stolen_ticks() - stolen) / TICKS_PER_S
    except BaseException:
        robot.end()
        raise
    summary = robot.end()
    if summary is None:
        raise RuntimeFault(f"{schedule.name}: the run ended without a summary; run it again")
    return Round(
        bare=[],
        figures={
            name: quantiles_us(np.array(values, np.int64)) for name, values in times.taken.items()
        },
        cycles=cycles,
        skipped=skipped,
        stolen_ms=stolen_ms,
        late=RoundLateness(
            cycles=summary["cycles"],
            causes=summary["late"]["causes"],
            said=summary["late"]["said"],
        ),
    )


def exact(schedule: Schedule) -> dict[str, Any] | None:
    """Numbers of a run on virtual time, the same each time; None where there is no such run."""
    try:
        result = lockstep.run(schedule, EXACT_CYCLES)
    except ScheduleError:
        return None
    return {
        "digest": result["digest"],
        "missed": result["policy"]["missed"],
        "refused": result["policy"]["invalid"],
        "statuses": {name: one["status"] for name, one in result["sensors"].items()},
        "skew_us": {key: result["skew_ns"][key] / 1000 for key in ("p50", "p99", "max")},
    }
