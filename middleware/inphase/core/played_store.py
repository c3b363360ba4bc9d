"""A store that no robot writes: recorded frames, for readers as they are."""

import os
from collections.abc import Mapping
from typing import Any

import msgpack

from inphase._core import ffi, lib
from inphase.errors import StoreError
from inphase.frames.layout import Layout
from inphase.frames.store import Segment, no_segment

_DEPTH = 1024


class PlayedStore:
    """Its one writer; `close` ends it. Thread: one at a time.

    description: of the robot, as its store has it, with the epoch of this store. Raises StoreError.
    """

    def __init__(self, layout: Layout, description: Mapping[str, Any]) -> None:
        packed = msgpack.packb(dict(description))
        text = ffi.from_buffer(packed)
        sensors = [
            {"payload": dtype.itemsize, "depth": depth}
            for dtype, depth in zip(layout.dtypes, layout.depths, strict=True)
        ]
        actuators = [{"channels": channels} for _, channels, _ in layout.actuators]
        self._keep = (
            ffi.new("struct inphase_sensor_config[]", sensors or 1),
            ffi.new("struct inphase_actuator_config[]", actuators or 1),
        )
        config = ffi.new(
            "struct inphase_config *",
            {
                "sensors": len(sensors),
                "sensor": self._keep[0],
                "actuators": len(actuators),
                "actuator": self._keep[1],
                "frame_depth": _DEPTH,
                "epoch": description["epoch"],
                "description": text,
                "description_size": len(packed),
                "virtual_time": 1,
            },
        )
        player = ffi.new("inphase_player **")
        rc = lib.inphase_player_open(player, config)
        if rc < 0:
            raise no_segment(int(lib.inphase_core_size(config)), rc)
        self._player = player[0]
        segment = Segment(lib.inphase_player_segment(self._player))
        self.fd = segment.fd
        """the descriptor to hand to others; it stays the store's"""
        self.path = segment.path
        """where processes of the same user find it while this one lives"""

    def put_sample(self, sensor: int, sequence: int, payload: bytes) -> None:
        """Put a sample into its ring, before the first frame that names it."""
        self._check(lib.inphase_player_sample(self._player, sensor, sequence, payload))

    def publish(self, record: bytes) -> None:
        """Publish a frame's record, and wake all readers."""
        self._check(lib.inphase_player_frame(self._player, record, len(record)))

    def _check(self, rc: int) -> None:
        if rc < 0:
            raise StoreError(f"a recorded frame does not fit its store: {os.strerror(-rc)}")

    def close(self) -> None:
        """End it: readers find that the writer is gone."""
        if self._player is not None:
            lib.inphase_player_close(self._player)
            self._player = None
