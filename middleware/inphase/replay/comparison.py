"""Another policy's commands to recorded frames, beside the commands that were recorded."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inphase.frames.frame import Frame
from inphase.recording.recording import Recording
from inphase.replay.asked_policy import AskedPolicy, described_with
from inphase.replay.command_differences import Comparison
from inphase.replay.joined_answers import compare_joined


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

    The policy sees the recorded robot, not what its own commands would have made of it. Where the
    schedule joins or interpolates answers, the core does it again. Raises ScheduleError,
    RecordingError for a recording that the core cannot run again.
    """
    with tempfile.TemporaryDirectory(prefix="inphase-") as folder:
        described = described_with(recording, policy, Path(folder))
        keys = described.policy
        assert keys is not None
        with AskedPolicy(recording, described, say) as asked:
            if keys.chunk > 1 or keys.interpolate != "hold":
                return compare_joined(recording, described, asked, tolerance, watch)
            return _compare(recording, asked, keys.latency_cycles, tolerance, watch)


def _compare(
    recording: Recording,
    asked: AskedPolicy,
    latency: int,
    tolerance: float,
    watch: Callable[[int], None],
) -> Comparison:
    """Of a policy whose answer to a frame is the command of one cycle."""
    found = Comparison()
    answers: dict[int, dict[str, NDArray[np.float64]]] = {}
    for frame, answer in _answers(recording, asked, found, watch):
        command = frame.command
        recorded = {act.name: act.requested for act in command}
        found.take(command.cycle, recorded, answers.pop(command.cycle - latency, None), tolerance)
        for cycle in [cycle for cycle in answers if cycle < command.cycle - latency]:
            del answers[cycle]  # its act is not in the file
        if answer is not None:
            answers[frame.cycle] = answer
    return found


def _answers(
    recording: Recording, asked: AskedPolicy, found: Comparison, watch: Callable[[int], None]
) -> Iterator[tuple[Frame, dict[str, NDArray[np.float64]] | None]]:
    """Each frame, and what the policy asks of each actuator; None: nothing, or it is not called."""
    for place in range(len(recording)):
        watch(place)
        frame = asked.show(place)
        if frame.cycle % asked.every:
            yield frame, None
            continue
        trouble = asked.ask(frame)
        if trouble is not None:
            found.reasons[trouble] = found.reasons.get(trouble, 0) + 1
        yield frame, None if trouble else _parts(frame, asked.buffer.tobytes())


def _parts(frame: Frame, values: bytes) -> dict[str, NDArray[np.float64]]:
    """A command by actuator."""
    numbers, parts, at = np.frombuffer(values), {}, 0
    for name, channels, _ in frame.layout.actuators:
        parts[name] = numbers[at : at + channels]
        at += channels
    return parts
