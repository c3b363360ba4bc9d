"""Trajectories out of a recording: of a sensor's poses, or of what a function makes of a frame."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inphase.command.score.alignment import Trajectory
from inphase.errors import RecordingError
from inphase.frames.frame import Frame, Sample
from inphase.recording.recording import Recording
from inphase.schedule.import_by_name import resolve_call

Pose = tuple[int, Any, Any]
"""time in ns, position (3), and quaternion (4) or None"""
Estimator = Callable[[Frame], Pose | None]


class Taken(NamedTuple):
    """A trajectory, and how many samples of how many are in it."""

    trajectory: Trajectory
    used: int
    seen: int


def poses(recording: Recording, source: str, body: str) -> Taken:
    """The poses of one source.

    source: a sensor with `position` and perhaps `quaternion`, or FILE.py:FUNCTION, which takes a
    frame and gives time, position and quaternion. body: name or number of the body of a tracker.
    Raises RecordingError, ScheduleError.
    """
    if ":" in source:
        estimator = resolve_call(source, Path())
        if not callable(estimator):
            raise RecordingError(f"{source} is no function of a frame; name one")
        return _collected(_of_function(recording, estimator))
    if source not in recording.layout.sensors:
        there = ", ".join(recording.layout.sensors)
        raise RecordingError(
            f"{recording.path} has no sensor {source}; it has {there}: give one, or "
            f"FILE.py:FUNCTION"
        )
    return _collected(_of_sensor(recording, source, _index(recording, source, body)))


def _index(recording: Recording, sensor: str, body: str) -> int:
    """The place of a body among those of a tracker."""
    tables = tomllib.loads(recording.schedule_text)
    device = tables["device"][tables["sensor"][sensor]["device"]]
    named = list(device.get("bodies", device.get("tags", ())))
    if not body:
        return 0
    if body in named:
        return named.index(body)
    if body.isdigit():
        return int(body)
    raise RecordingError(
        f"{sensor} has no body {body}; it has {', '.join(named) or 'none with a name'}: give one"
    )


def _of_sensor(recording: Recording, sensor: str, index: int) -> Iterator[Pose | None]:
    known: set[int] = set()
    for frame in recording:
        sample = frame[sensor]
        if sample.sequence in known or sample.sequence < 0:
            continue
        known.add(sample.sequence)
        yield _pose(recording, sensor, sample, index)


def _pose(recording: Recording, sensor: str, sample: Sample, index: int) -> Pose | None:
    if sample.status != "FRESH" or sample.acquired_ns is None:
        return None
    value = sample.value
    names = value.dtype.names or ()
    if "position" not in names or value["position"].shape[-1:] != (3,):
        raise RecordingError(
            f"{recording.path}: {sensor} has no field position of 3 numbers in m; give a tracker, "
            f"or FILE.py:FUNCTION"
        )
    position = value["position"].reshape(-1, 3)
    if index >= len(position):
        raise RecordingError(f"{sensor} has {len(position)} bodies, got number {index}; give less")
    if "tracked" in names and not value["tracked"].reshape(-1)[index]:
        return None
    turn = value["quaternion"].reshape(-1, 4)[index] if "quaternion" in names else None
    return sample.acquired_ns, position[index], turn


def _of_function(recording: Recording, estimator: Estimator) -> Iterator[Pose | None]:
    for frame in recording:
        yield estimator(frame)


def _collected(found: Iterator[Pose | None]) -> Taken:
    seen, kept = 0, {}
    for pose in found:
        seen += 1
        if pose is not None:
            kept[int(pose[0])] = pose
    ordered = [kept[time] for time in sorted(kept)]
    turns = [pose[2] for pose in ordered if pose[2] is not None]
    whole = np.array(turns, dtype=float) if turns and len(turns) == len(ordered) else None
    times = np.array([pose[0] for pose in ordered], dtype=np.int64)
    positions = np.array([pose[1] for pose in ordered], dtype=float).reshape(-1, 3)
    return Taken(Trajectory(times, positions, whole), len(ordered), seen)
