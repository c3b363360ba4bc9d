"""The rules of a command from afar, beside its lease: its frame, its picture, its shape."""

from collections.abc import Iterable

import msgspec

from inphase.frames.message import Form
from inphase.policy.turn import valid_ns
from inphase.schedule import Schedule


class DriveCommand(msgspec.Struct, frozen=True):
    """An answer to a frame."""

    lease: int
    cycle: int
    shape: list[int]
    values: bytes
    image_cycle: int = -1
    """of the newest image that it was made from; -1: of none"""


class CommandCheck:
    """The commands of one client, in the order in which they come.

    cameras: the sensors whose images it is sent; its commands say which one they were made from.
    """

    def __init__(self, described: Schedule, form: Form, cameras: Iterable[int]) -> None:
        self._period_ns = described.cycle.period_ns
        self._valid_ns = valid_ns(described)
        values = sum(count for _, count, _ in form.layout.actuators)
        chunk = described.policy.chunk if described.policy is not None else 1
        self._shape = [values] if chunk == 1 else [chunk, values]
        self._bytes = 8 * values * chunk
        names = [form.layout.sensors[sensor] for sensor in cameras]
        self._image_age_ns = max((described.sensor[name].max_age_ns for name in names), default=0)
        self._answered = -1

    def trouble(self, command: DriveCommand, newest: int) -> str:
        """The reason why it is no command; empty: it is one. newest: cycle of the last frame."""
        if not self._answered < command.cycle <= newest:
            return "replayed" if command.cycle <= self._answered else "future"
        if (newest - command.cycle) * self._period_ns > self._valid_ns:
            return "old"
        if self._image_age_ns and not self._is_seen(command):
            return "image"
        if command.shape != self._shape or len(command.values) != self._bytes:
            return "shape"
        self._answered = command.cycle
        return ""

    def _is_seen(self, command: DriveCommand) -> bool:
        age = command.cycle - command.image_cycle
        return command.image_cycle >= 0 and 0 <= age * self._period_ns <= self._image_age_ns
