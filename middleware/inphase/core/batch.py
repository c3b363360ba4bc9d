"""Many cores in lock step at once, by a pool of threads of C."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib
from inphase.core.core import Core
from inphase.errors import StoreError


class Copied(Protocol):
    """Bytes of each frame's sample that C copies out."""

    @property
    def sensor(self) -> int:
        """number of the sensor in a frame"""

    @property
    def offset(self) -> int:
        """bytes from the start of the sample"""

    @property
    def nothing(self) -> NDArray[Any]:
        """the values for a sensor without a sample yet"""

    @property
    def to(self) -> NDArray[Any]:
        """(turns, rows, *shape of nothing), of which the last part has no gaps"""


class Batch:
    """The threads, beside the caller's. `close` ends them. Thread: one at a time."""

    def __init__(self, threads: int) -> None:
        made = ffi.new("inphase_batch **")
        rc = lib.inphase_batch_open(made, min(threads, lib.INPHASE_BATCH_THREADS))
        if rc < 0:
            raise StoreError(f"{threads} threads cannot be started: errno {-rc}; take fewer")
        self.handle = made[0]

    def close(self) -> None:
        """End the threads."""
        if self.handle is not None:
            lib.inphase_batch_close(self.handle)
            self.handle = None


class BatchWork:
    """Turns of many cores: room for their answers, and for what comes of them.

    rows: one per core, at most. count: doubles of an answer. record: bytes of a frame's record; 0:
    records are not wanted.
    """

    def __init__(
        self, turns: int, rows: int, count: int, pieces: Sequence[Copied], record: int = 0
    ) -> None:
        shape = (turns, rows)
        self.values = np.zeros((*shape, count))
        """(turns, rows, count): the answers"""
        self.number = np.zeros(shape, np.int64)
        """(turns, rows): of the frame that each turn led to; negative: none came"""
        self.cycle = np.zeros(shape, np.int64)
        """(turns, rows): of that frame"""
        self.reason = np.zeros(shape, np.uint32)
        """(turns, rows): not 0 while motion is latched"""
        self.record = np.zeros((rows, record), np.uint8)
        """(rows, record): the last turn's"""
        self._taken = ffi.new("uint8_t[]", rows)
        self._cores = ffi.new("inphase_core *[]", rows)
        self._rows = ffi.new("uint32_t[]", rows)
        parts = ffi.new("struct inphase_batch_part[]", [_part(one) for one in pieces] or 1)
        self._keep = (parts, list(pieces))
        self._work = ffi.new("struct inphase_batch_work *", {
            "turns": turns, "rows": rows, "parts": len(pieces), "core": self._cores,
            "row": self._rows, "count": count, "part": parts, "record_size": record,
            "taken": self._taken,
            "values": ffi.from_buffer("double[]", self.values),
            "number": ffi.from_buffer("int64_t[]", self.number),
            "cycle": ffi.from_buffer("int64_t[]", self.cycle),
            "reason": ffi.from_buffer("uint32_t[]", self.reason),
            "record": ffi.from_buffer(self.record) if record else ffi.NULL,
        })  # fmt: skip

    def seat(self, cores: Sequence[Core]) -> None:
        """The cores that take part from now on, one for each row."""
        self._work.cores = len(cores)
        for row, core in enumerate(cores):
            self._rows[row], self._cores[row] = row, core.handle

    def run(self, batch: Batch) -> None:
        """Answer each core, and go on to its next frame, so many times."""
        lib.inphase_batch_turn(batch.handle, self._work)


def _part(piece: Copied) -> dict[str, Any]:
    return {
        "sensor": piece.sensor,
        "offset": piece.offset,
        "bytes": piece.nothing.nbytes,
        "nothing": ffi.cast("void *", piece.nothing.ctypes.data),
        "to": ffi.cast("void *", piece.to.ctypes.data),
        "turn_stride": piece.to.strides[0],
        "row_stride": piece.to.strides[1],
    }
