"""A recording's frames in a store, as the robot that was recorded had them."""

import bisect
from collections.abc import Iterator
from typing import Any, Self

from inphase.core.played_store import PlayedStore
from inphase.frames import store
from inphase.frames.frame import Frame, FrameLost
from inphase.recording.recording import Recording


def place_of(recording: Recording, cycle: int) -> int:
    """The place in the file of the frame of a cycle, or of the first one after it.

    Raises ValueError: the recording ends before it.
    """
    place = bisect.bisect_left(recording, cycle, key=lambda frame: frame.cycle)
    if place == len(recording):
        has_one = len(recording) > 0
        ends = f"cycles {recording[0].cycle} to {recording[-1].cycle}" if has_one else "no frame"
        raise ValueError(f"{recording.path} has {ends}, and none from cycle {cycle} on")
    return place


class Player:
    """Puts frame after frame into a store of its own; a context manager. Thread: one at a time.

    Stamps stay those of the recorded robot's clocks. A sample that is not in the file is none in
    the store either. Raises StoreError.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.epoch = store.new_epoch()
        description: dict[str, Any] = recording.description | {
            "schedule": recording.schedule_text,
            "epoch": self.epoch,
            "replay": {"epoch": recording.layout.epoch},
        }
        self.store = PlayedStore(recording.layout, description)
        self._given = [-1] * len(recording.layout.sensors)

    def play(self, frame: Frame) -> None:
        """Publish a frame of the recording, and before it the samples that it names."""
        for sensor, sequence in self._new(frame):
            try:
                value = frame.payloads.view(sensor, sequence)
            except FrameLost:
                continue
            self.store.put_sample(sensor, sequence, value.tobytes())
        self.store.publish(frame.record)

    def _new(self, frame: Frame) -> Iterator[tuple[int, int]]:
        """The samples that no frame before this one had: sensor and sequence number."""
        for index, name in enumerate(self.recording.layout.sensors):
            sequence = frame[name].sequence
            if sequence >= 0 and sequence != self._given[index]:
                self._given[index] = sequence
                yield index, sequence

    def close(self) -> None:
        """End the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
