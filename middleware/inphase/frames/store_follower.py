"""Following a robot's frames in the store of this host."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import StoreError
from inphase.frames import store, wire
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.record_layout import cycle_of
from inphase.frames.sample_array import sample_array
from inphase.host import store_names

SLOT_HEADER = 64
_SLICE_NS = 200_000_000  # how long one wait in C lasts before Python may handle a signal


class StoreFollower:
    """Iterates over the frames of a store; also the frames' payloads. Thread: one at a time."""

    def __init__(self, path: str, *, from_first: bool = False) -> None:
        self.reader = store.Reader(path, from_first=from_first)
        try:
            self.description = wire.unpack_description(self.reader.description)
            self.layout = Layout.from_description(self.description)
        except ValueError as error:
            self.reader.close()
            raise StoreError(f"{path}: {error}") from error
        self._views: list[list[NDArray[Any] | None]] = [
            [None] * depth for _, _, _, depth in self.reader.rings
        ]

    @classmethod
    def of_robot(cls, robot: str) -> "StoreFollower":
        """Of a running robot, by its name, or by its path. Raises StoreError."""
        path = robot if "/" in robot else store_names.find(robot)
        if path is None:
            others = " and ".join(store_names.not_ours(robot))
            raise StoreError(
                f"no robot {robot!r} runs on this host; start it with: inphase run SCHEDULE"
                if not others
                else f"no robot {robot!r} of this user runs on this host. User {others} has one, "
                f"or left it behind: "
                f'[store] group = "GROUP" in its schedule lets that group read it'
            )
        return cls(path)

    def next(
        self, timeout_s: float | None = None, newest: bool = False, every: int | None = None
    ) -> Frame:
        """The next frame; with `every` the newest one of a cycle that it divides, as a policy takes
        them. Raises TimeoutError, or store.Lost when the runtime is gone."""
        left_ns = _SLICE_NS if timeout_s is None else int(timeout_s * 1e9)
        reader = self.reader
        while True:
            slice_ns = left_ns if left_ns < _SLICE_NS else _SLICE_NS
            try:
                lost = (
                    reader.next(slice_ns, newest) if every is None else reader.due(every, slice_ns)
                )
            except InterruptedError:
                continue
            except TimeoutError:
                if timeout_s is None:
                    continue
                left_ns -= _SLICE_NS
                if left_ns <= 0:
                    raise
                continue
            return Frame(self.layout, reader.record[:], self, lost)

    def at_hand(self, lost: int) -> Frame:
        """The frame that the reader is at, after so many lost ones."""
        return Frame(self.layout, self.reader.record[:], self, lost)

    def __iter__(self) -> Iterator[Frame]:
        try:
            while True:
                yield self.next()
        except store.Lost:
            return

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A sample in its ring slot."""
        views = self._views[sensor]
        slot = sequence % len(views)
        view = views[slot]
        if view is None:
            view = views[slot] = self._make_view(sensor, slot)
        return view

    def _make_view(self, sensor: int, slot: int) -> NDArray[Any]:
        offset, stride, _, _ = self.reader.rings[sensor]
        at = offset + slot * stride + SLOT_HEADER
        memory = self.reader.memories[sensor]
        return sample_array(np.ndarray((), self.layout.dtypes[sensor], memory, at))

    def intact(self, sensor: int, sequence: int) -> bool:
        """True if the slot still holds that sample."""
        return self.reader.intact(sensor, sequence)

    def whole(self, record: bytes) -> bool:
        """True if every slot still holds the sample that the record names."""
        return self.reader.whole(record)

    @property
    def number(self) -> int:
        """Number of the newest frame that was given; -1 before the first."""
        return self.reader.number

    def past(self, cycle: int) -> Iterator[tuple[bytes, "StoreFollower"]]:
        """The frames before a cycle, newest first, as long as they are whole in the store."""
        number = self.number
        while number >= 0 and (record := self.reader.past(number)) is not None:
            if cycle_of(record) < cycle:
                yield record, self
            number -= 1

    def close(self) -> None:
        """Stop following."""
        self.reader.close()
