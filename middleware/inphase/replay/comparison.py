"""Another policy's commands to recorded frames, beside the commands that were recorded."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from inphase.errors import RecordingError
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.policy import turn as policies
from inphase.policy.command_buffer import make_buffer
from inphase.policy.remarks import Remarks
from inphase.recording.recording import Recording
from inphase.replay.player import Player
from inphase.schedule import Schedule
from inphase.schedule.tables import Policy
from inphase.timing.recorded_schedule import schedule_of


@dataclass(frozen=True)
class Difference:
    """A value in which the two differ, in SI."""

    cycle: int
    actuator: str
    channel: int
    recorded: float
    answered: float

    def __str__(self) -> str:
        return (
            f"cycle {self.cycle}: {self.actuator}[{self.channel}] was {self.recorded:.9g}, "
            f"this policy gives {self.answered:.9g}"
        )


@dataclass
class Comparison:
    """The outcome, in counts of cycles."""

    compared: int = 0
    """cycles for which both have a command"""
    differ: int = 0
    """cycles of these in which a value differs by more than the tolerance"""
    first: Difference | None = None
    largest: Difference | None = None
    only_recorded: int = 0
    """cycles for which the policy gives none"""
    only_answered: int = 0
    """cycles for which none was recorded"""
    reasons: dict[str, int] = field(default_factory=dict)
    """why the policy gave none, counts"""


def compare(
    recording: Recording,
    policy: str,
    tolerance: float = 0.0,
    *,
    say: Callable[[str], None],
    watch: Callable[[int], None] = lambda place: None,
) -> Comparison:
    """Give each recorded frame to a policy, and compare what it asks for with what was asked for.

    policy: `file.py:name`, `module:name` or an ONNX file. tolerance: in the unit of each channel.
    say: takes remarks on the policy. watch: is told each place of the file.

    The policy sees the recorded robot, not what its own commands would have made of it. Raises
    ScheduleError, RecordingError for a policy of the recording whose commands are joined or
    interpolated.
    """
    found = Comparison()
    with tempfile.TemporaryDirectory(prefix="inphase-") as folder:
        described = _described(recording, policy, Path(folder))
        latency = described.policy.latency_cycles if described.policy is not None else 0
        answers: dict[int, dict[str, NDArray[np.float64]]] = {}
        for frame, answer in _answers(recording, described, found, say, watch):
            command = frame.command
            asked = {act.name: act.requested for act in command}
            _take(
                found, command.cycle, asked, answers.pop(command.cycle - latency, None), tolerance
            )
            for cycle in [cycle for cycle in answers if cycle < command.cycle - latency]:
                del answers[cycle]  # its act is not in the file
            if answer is not None:
                answers[frame.cycle] = answer
    return found


def _described(recording: Recording, policy: str, folder: Path) -> Schedule:
    """The recorded schedule with that policy."""
    described = schedule_of(recording, folder)
    before = described.policy
    if before is not None and (before.chunk > 1 or before.interpolate != "hold"):
        raise RecordingError(
            f"{recording.path}: [policy] chunk or interpolate made several commands of an answer; "
            f"a comparison takes policies that answer each frame with one command"
        )
    return structs.replace(described, policy=_in_place_of(before or Policy(), policy))


def _in_place_of(before: Policy, policy: str) -> Policy:
    """The same keys with another policy. Files are those of the caller's folder."""
    none = {"call": None, "model": None, "remote": None, "weights": None}
    file, colon, name = policy.partition(":")
    if file.endswith((".py", ".onnx")):
        file = str(Path(file).absolute())
    return structs.replace(before, **none | {"call" if colon else "model": file + colon + name})


def _answers(
    recording: Recording,
    described: Schedule,
    found: Comparison,
    say: Callable[[str], None],
    watch: Callable[[int], None],
) -> Iterator[tuple[Frame, dict[str, NDArray[np.float64]] | None]]:
    """Each frame, and what the policy asks of each actuator; None: nothing, or it is not called."""
    with Player(recording) as player, contextlib.ExitStack() as undo:
        follower = StoreFollower(player.store.path, from_first=True)
        undo.callback(follower.close)
        buffer = make_buffer(described, follower.layout.actuators)
        turn = policies.make_turn(
            described,
            follower,
            buffer,
            policies.binding_of(described, follower),
            Remarks(say, described),
            is_confined=False,
        )
        for place in range(len(recording)):
            watch(place)
            player.play(recording[place])
            frame = follower.next(timeout_s=1.0)
            if frame.cycle % policies.every(described):
                yield frame, None
                continue
            trouble = turn.take(frame)
            if trouble is not None:
                found.reasons[trouble] = found.reasons.get(trouble, 0) + 1
            yield frame, None if trouble else _parts(frame, buffer.tobytes())


def _parts(frame: Frame, values: bytes) -> dict[str, NDArray[np.float64]]:
    """A command by actuator."""
    numbers, parts, at = np.frombuffer(values), {}, 0
    for name, channels, _ in frame.layout.actuators:
        parts[name] = numbers[at : at + channels]
        at += channels
    return parts


def _take(
    found: Comparison,
    cycle: int,
    recorded: dict[str, NDArray[np.float64]],
    answer: dict[str, NDArray[np.float64]] | None,
    tolerance: float,
) -> None:
    """Count one cycle."""
    was_asked = any(np.isfinite(values).any() for values in recorded.values())
    if answer is None or not was_asked:
        found.only_recorded += was_asked
        found.only_answered += answer is not None
        return
    found.compared += 1
    off = [
        Difference(cycle, name, channel, float(was), float(answer[name][channel]))
        for name, values in recorded.items()
        for channel, was in enumerate(values)
        if not abs(was - answer[name][channel]) <= tolerance
    ]
    if not off:
        return
    found.differ += 1
    found.first = found.first or off[0]
    largest = max(off, key=_size)
    if found.largest is None or _size(largest) > _size(found.largest):
        found.largest = largest


def _size(one: Difference) -> float:
    return abs(one.recorded - one.answered)
