"""The store from Python: segments, followers of frames, the policy's mailbox, left-overs."""

import errno
import mmap
import os
import secrets
from pathlib import Path
from typing import Any

from inphase._core import ffi, lib
from inphase.errors import StoreError
from inphase.packets import REASONS
from inphase.wire import STATUSES

FOLDER = Path("/dev/shm")
_PREFIX = "inphase."


class Lost(StoreError):  # noqa: N818 - an end, not an error of anybody's
    """The writer of a segment is gone: no further frame will come."""


def new_epoch() -> int:
    """A number that no other runtime has."""
    return secrets.randbits(63)


def segment_path(robot: str, epoch: int, what: str) -> str:
    """Where a segment of a robot lies."""
    return str(FOLDER / f"{_PREFIX}{robot}.{epoch:016x}.{what}")


def sensor_path(core_path: str, sensor: int) -> str:
    """Where the segment of a sensor's worker lies, beside the core's."""
    return f"{core_path.removesuffix('core')}sensor{sensor}"


def policy_path(core_path: str) -> str:
    """Where the policy's mailbox lies, beside the core's segment."""
    return f"{core_path.removesuffix('core')}policy"


def note_path(core_path: str) -> str:
    """Where the guard leaves a note when it had to stop the devices, beside the core's segment."""
    return f"{core_path.removesuffix('core')}note"


def estop_path(core_path: str) -> str:
    """Where the page of clients' emergency stops lies, beside the core's segment."""
    return f"{core_path.removesuffix('core')}estop"


def segments_of(robot: str, what: str = "core") -> list[str]:
    """Paths of a robot's segments, newest first."""
    found = FOLDER.glob(f"{_PREFIX}{robot}.*.{what}")
    return [str(p) for p in sorted(found, key=_made_ns, reverse=True)]


def _made_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # its owner has just removed it
        return 0


def is_alive(path: str) -> bool:
    """Whether the segment's writer lives; asked of its lock, never of a process number."""
    return bool(lib.inphase_segment_alive(path.encode()) == 1)


def clean_leftovers(robot: str) -> list[str]:
    """Remove the segments of this robot whose runtime is gone; returns their paths.

    A note of its guard stays until somebody reads it. A worker's segment without a writer stays
    while its runtime lives: a new worker takes it over.
    """
    removed = []
    for path in segments_of(robot, "*"):
        core = path.rpartition(".")[0] + ".core"
        if path == note_path(core):
            continue
        if not (is_alive(path) or is_alive(core)):
            Path(path).unlink(missing_ok=True)
            removed.append(path)
    return removed


def find(robot: str) -> str | None:
    """The segment of a running robot by its name, or None; one that is still being made is none."""
    return next((p for p in segments_of(robot) if is_alive(p) and _is_published(p)), None)


def _is_published(path: str) -> bool:
    reader = ffi.new("inphase_reader **")
    if lib.inphase_reader_open(reader, path.encode(), False) < 0:
        return False
    lib.inphase_reader_close(reader[0])
    return True


def no_segment(path: str, size: int, rc: int) -> StoreError:
    """Why a segment could not be created, and what to do."""
    if rc == -errno.ENOSPC:
        return StoreError(
            f"{path}: no room for {size} bytes in /dev/shm; make it larger "
            f"(mount -o remount,size=512m /dev/shm; docker run --shm-size=512m)"
        )
    return StoreError(f"{path}: cannot be created: {os.strerror(-rc)}")


class Segment:
    """A mapped segment; `close` unmaps it, and unlinks it if it was created here."""

    def __init__(self, handle: Any, path: str) -> None:
        self.handle = handle
        self.path = path

    @classmethod
    def create(cls, path: str, size: int, mode: int = 0o600, gid: int = -1) -> "Segment":
        """Create and lock a segment. Raises StoreError, with what to do when there is no room."""
        handle = ffi.new("inphase_segment **")
        rc = lib.inphase_segment_create(handle, path.encode(), size, mode, gid)
        if rc < 0:
            raise no_segment(path, size, rc)
        return cls(handle[0], path)

    @classmethod
    def attach(cls, path: str) -> "Segment":
        """Map somebody's segment read-only."""
        handle = ffi.new("inphase_segment **")
        rc = lib.inphase_segment_attach(handle, path.encode())
        if rc < 0:
            raise StoreError(f"{path}: cannot be read: {os.strerror(-rc)}")
        return cls(handle[0], path)

    def close(self) -> None:
        """Unmap."""
        if self.handle is not None:
            lib.inphase_segment_close(self.handle)
            self.handle = None


class Mailbox:
    """The policy's side of its mailbox. Thread: the policy's."""

    def __init__(self, path: str, count: int, epoch: int) -> None:
        self.segment = Segment.create(path, int(lib.inphase_mailbox_size(count)))
        if lib.inphase_mailbox_init(self.segment.handle, count, epoch) < 0:
            raise StoreError(f"an answer of {count} values is too large")

    def post(self, cycle: int, valid_until_ns: int, values: Any, count: int) -> None:
        """The answer to the frame of this cycle; `values` is a C double array of `count`."""
        lib.inphase_mailbox_post(self.segment.handle, cycle, valid_until_ns, 0, values, count)

    def taken(self) -> None:
        """A frame was taken: from here to the next `post` is an inference."""
        lib.inphase_mailbox_taken(self.segment.handle)

    def say(self, sandbox: Any) -> None:
        """What this process may do: struct inphase_sandbox."""
        lib.inphase_mailbox_say(self.segment.handle, sandbox)

    def refuse(self, cycle: int, reason: str) -> None:
        """Say why there is none."""
        lib.inphase_mailbox_post(self.segment.handle, cycle, 0, REASONS.index(reason), ffi.NULL, 0)

    def close(self) -> None:
        """Remove the mailbox."""
        self.segment.close()


def inference(mailbox: Segment) -> dict[str, int]:
    """How long the policy of an attached mailbox takes: struct inphase_quantiles, nanoseconds."""
    out = ffi.new("struct inphase_quantiles *")
    lib.inphase_mailbox_inference(mailbox.handle, out)
    return as_dict(out)


def sandbox(mailbox: Segment) -> dict[str, int]:
    """What the policy of an attached mailbox may do: struct inphase_sandbox."""
    out = ffi.new("struct inphase_sandbox *")
    lib.inphase_mailbox_said(mailbox.handle, out)
    return as_dict(out)


class EstopPage:
    """The gateway's side of the page of clients' emergency stops. Thread: one at a time."""

    def __init__(self, core_path: str, epoch: int) -> None:
        size = int(lib.inphase_estop_page_size())
        self.segment = Segment.create(estop_path(core_path), size)
        lib.inphase_estop_page_init(self.segment.handle, epoch)

    def post(self) -> None:
        """Stop the robot: taken up by its next act."""
        lib.inphase_estop_page_post(self.segment.handle)

    def close(self) -> None:
        """Remove the page."""
        self.segment.close()


class Reader:
    """Follows the frames of one store, without copying payloads. Thread: one at a time."""

    def __init__(self, path: str, *, from_first: bool = False) -> None:
        reader = ffi.new("inphase_reader **")
        rc = lib.inphase_reader_open(reader, path.encode(), from_first)
        if rc < 0:
            raise StoreError(f"{path}: is not a store that can be read: {os.strerror(-rc)}")
        self.path = path
        self.handle = reader[0]
        layout = lib.inphase_reader_layout(self.handle)
        # views of payloads hold these mappings: they stay for as long as one of them lives
        self.memory = _map(path)
        self.sensors = int(layout.sensors)
        self.memories = [
            _map(sensor_path(path, i)) if layout.outside >> i & 1 else self.memory
            for i in range(self.sensors)
        ]
        """where each sensor's ring lies"""
        self.epoch = int(layout.epoch)
        self.rings = [
            (int(ring.offset), int(ring.stride), int(ring.payload), int(ring.depth))
            for ring in layout.samples[0 : self.sensors]
        ]
        ring = layout.frames
        self.frame_ring = (int(ring.offset), int(ring.stride), int(ring.payload), int(ring.depth))
        at = int(layout.description_offset)
        self.description = bytes(self.memory[at : at + int(layout.description_size)])
        self.record = ffi.buffer(lib.inphase_reader_record(self.handle), self.frame_ring[2])
        self._past = ffi.new("uint8_t[]", self.frame_ring[2])

    def next(self, timeout_ns: int, newest: bool = False) -> int:
        """Wait for a frame; its record is then in `record`. The number of frames lost before it.

        Raises TimeoutError, InterruptedError, Lost.
        """
        return self._came(lib.inphase_reader_next(self.handle, newest, timeout_ns))

    def due(self, every: int, timeout_ns: int) -> int:
        """Wait likewise for the newest frame of a cycle that `every` divides."""
        return self._came(lib.inphase_reader_due(self.handle, every, timeout_ns))

    def _came(self, result: Any) -> int:
        rc = int(result)
        if rc >= 0:
            return rc
        if rc == -errno.ETIMEDOUT:
            raise TimeoutError
        if rc == -errno.EINTR:
            raise InterruptedError
        raise Lost(f"{self.path}: its runtime is gone")

    @property
    def number(self) -> int:
        """Number of the frame that `next` gave last; -1 before the first."""
        return int(lib.inphase_reader_number(self.handle))

    def past(self, number: int) -> bytes | None:
        """The record of an earlier frame by its number; None when it is overwritten."""
        rc = lib.inphase_reader_past(self.handle, number, self._past)
        return None if rc < 0 else bytes(ffi.buffer(self._past))

    def intact(self, sensor: int, sequence: int) -> bool:
        """Whether a sample is still whole in its ring."""
        return bool(lib.inphase_reader_intact(self.handle, sensor, sequence))

    def status(self) -> dict[str, int]:
        """struct inphase_status of inphase.h by field name."""
        return _fields("struct inphase_status", lib.inphase_reader_status, self.handle)

    def realtime(self) -> dict[str, int]:
        """struct inphase_realtime by field name."""
        return _fields("struct inphase_realtime", lib.inphase_reader_realtime, self.handle)

    def counts(self) -> dict[str, int]:
        """struct inphase_counts by field name."""
        return _fields("struct inphase_counts", lib.inphase_reader_counts, self.handle)

    def quantiles(self, histogram: int) -> dict[str, int]:
        """struct inphase_quantiles by field name, nanoseconds."""
        out = ffi.new("struct inphase_quantiles *")
        lib.inphase_reader_quantiles(self.handle, histogram, out)
        return as_dict(out)

    def statuses(self) -> list[dict[str, int]]:
        """Per sensor, how many frames had which status."""
        counts = ffi.new("int64_t[]", self.sensors * len(STATUSES))
        lib.inphase_reader_statuses(self.handle, counts)
        n = len(STATUSES)
        return [
            dict(zip(STATUSES, counts[i * n : (i + 1) * n], strict=True))
            for i in range(self.sensors)
        ]

    def reasons(self) -> dict[str, int]:
        """Why commands were missed or refused, counts that are not 0."""
        counts = ffi.new("int64_t[]", len(REASONS))
        lib.inphase_reader_reasons(self.handle, counts)
        return {name: int(n) for name, n in zip(REASONS, counts, strict=True) if n}

    def worker(self, sensor: int) -> dict[str, int] | None:
        """struct inphase_worker_facts of a sensor that has a worker."""
        out = ffi.new("struct inphase_worker_facts *")
        if lib.inphase_reader_worker(self.handle, sensor, out) < 0:
            return None
        return as_dict(out)

    def clock(self, sensor: int) -> dict[str, int] | None:
        """struct inphase_clock_facts of a device that gives its time; None: nothing is known."""
        out = ffi.new("struct inphase_clock_facts *")
        if lib.inphase_reader_clock(self.handle, sensor, out) < 0:
            return None
        return as_dict(out)

    def worst(self) -> list[dict[str, int]]:
        """The worst cycles, worst first."""
        out = ffi.new("struct inphase_worst[]", lib.INPHASE_WORST)
        count = lib.inphase_reader_worst(self.handle, out)
        return [as_dict(out[i]) for i in range(count)]

    def close(self) -> None:
        """Stop following. Views into the store stay readable for as long as they are held."""
        if self.handle is not None:
            lib.inphase_reader_close(self.handle)
            self.handle = None


def _map(path: str) -> mmap.mmap:
    with Path(path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def as_dict(struct: Any) -> dict[str, int]:
    """A struct of C, or what a pointer to one points to, by field name."""
    kind = ffi.typeof(struct)
    if kind.kind == "pointer":
        kind = kind.item
    return {name: int(getattr(struct, name)) for name, _ in kind.fields}


def _fields(kind: str, call: Any, handle: Any) -> dict[str, int]:
    out = ffi.new(f"{kind} *")
    call(handle, out)
    return as_dict(out)
