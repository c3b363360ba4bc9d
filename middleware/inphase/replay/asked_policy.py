"""A policy that is asked about the frames of a recording."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from msgspec import structs

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


def described_with(recording: Recording, policy: str, folder: Path) -> Schedule:
    """The recorded schedule, written into a folder, with that policy. Files are those of the
    caller's folder. Raises ScheduleError."""
    described = schedule_of(recording, folder)
    return structs.replace(described, policy=_in_place_of(described.policy or Policy(), policy))


def _in_place_of(before: Policy, policy: str) -> Policy:
    """The same keys with another policy."""
    none = {"call": None, "model": None, "remote": None, "server": None, "weights": None}
    file, colon, name = policy.partition(":")
    if file.endswith((".py", ".onnx")):
        file = str(Path(file).absolute())
    return structs.replace(before, **none | {"call" if colon else "model": file + colon + name})


class AskedPolicy:
    """Shows it each frame in order, and asks it where it is its turn; a context manager.

    say: takes remarks on the policy. Raises ScheduleError.
    """

    def __init__(
        self, recording: Recording, described: Schedule, say: Callable[[str], None]
    ) -> None:
        self._recording = recording
        self.every = policies.every(described)
        """a frame of so many cycles is its turn"""
        self._undo = contextlib.ExitStack()
        with self._undo as undo:
            self._player = undo.enter_context(Player(recording))
            self._follower = StoreFollower(self._player.store.path, from_first=True)
            undo.callback(self._follower.close)
            self.buffer = make_buffer(described, self._follower.layout.actuators)
            """its newest answer"""
            self._turn = policies.make_turn(
                described,
                self._follower,
                self.buffer,
                policies.binding_of(described, self._follower),
                Remarks(say, described),
                is_confined=False,
            )
            self._undo = undo.pop_all()

    def show(self, place: int) -> Frame:
        """The next frame of the file, which becomes the newest of the policy's history."""
        self._player.play(self._recording[place])
        return self._follower.next(timeout_s=1.0)

    def ask(self, frame: Frame) -> str | None:
        """Its answer is in `buffer`; or why there is none, one of REASONS."""
        return self._turn.take(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()
