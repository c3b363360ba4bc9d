"""The store from Python: segments, followers of frames, the policy's mailbox."""

import contextlib
import errno
import mmap
import os
import secrets
from typing import Any, NoReturn

from inphase._core import ffi, lib
from inphase.errors import StoreError
from inphase.frames.record_layout import DROVE, OUTCOMES, REASONS, SERVER_COUNTS, STATUSES
from inphase.host import store_names

# found sooner than as attributes of `lib`: these are called in every cycle
_next, _due, _turn = lib.inphase_reader_next, lib.inphase_reader_due, lib.inphase_mailbox_turn
_SLICE_NS = 200_000_000  # how long one wait in C lasts before Python may handle a signal
_UNASKED = int(lib.INPHASE_REASON_UNASKED)
_REASON_NUMBERS = {None: 0} | {name: number for number, name in enumerate(REASONS)}


class Lost(StoreError):  # noqa: N818 - an end, not an error of anybody's
    """The writer of a segment is gone: no further frame will come."""


def new_epoch() -> int:
    """A number that no other runtime has."""
    return secrets.randbits(63)


def no_segment(size: int, rc: int) -> StoreError:
    """Why a segment could not be made, and what to do."""
    if rc in (-errno.ENOSPC, -errno.ENOMEM):
        return StoreError(
            f"no memory for {size} bytes of the store; free some, or take fewer or smaller samples"
        )
    return StoreError(f"a segment of {size} bytes cannot be made: {os.strerror(-rc)}")


class Segment:
    """A mapped segment; `close` unmaps it. Its maker or mapper closes it."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    @classmethod
    def make(cls, size: int) -> "Segment":
        """Memory that this process alone writes. Raises StoreError."""
        return cls._made(lib.inphase_segment_make, size, size, 0)

    @classmethod
    def lazy(cls, size: int) -> "Segment":
        """Memory for lock step: a page of it is there from when it is touched. Raises
        StoreError."""
        return cls._made(lib.inphase_segment_make_lazy, size, size)

    @classmethod
    def bell(cls) -> "Segment":
        """A word that one other process waits on. Raises StoreError."""
        return cls._made(lib.inphase_bell_make, mmap.PAGESIZE)

    @classmethod
    def ring(cls, payload: int, depth: int, epoch: int) -> "Segment":
        """Where a worker posts samples of so many bytes. Raises StoreError."""
        return cls._made(lib.inphase_worker_make, payload * depth, payload, depth, epoch)

    @classmethod
    def client_page(cls, epoch: int) -> "Segment":
        """Where the gateway leaves emergency stops. Raises StoreError."""
        return cls._made(lib.inphase_client_page_make, mmap.PAGESIZE, epoch)

    @classmethod
    def lease_page(cls, epoch: int) -> "Segment":
        """Where whoever decides about leases says who may drive. Raises StoreError."""
        return cls._made(lib.inphase_lease_page_make, mmap.PAGESIZE, epoch)

    @classmethod
    def _made(cls, make: Any, size: int, *arguments: int) -> "Segment":
        handle = ffi.new("inphase_segment **")
        rc = make(handle, *arguments)
        if rc < 0:
            raise no_segment(size, rc)
        return cls(handle[0])

    @classmethod
    def map(cls, fd: int, *, writes: bool = False) -> "Segment":
        """Somebody's segment, by its descriptor, which stays the caller's. Raises StoreError."""
        handle = ffi.new("inphase_segment **")
        rc = lib.inphase_segment_map(handle, fd, writes)
        if rc < 0:
            raise StoreError(f"descriptor {fd} is not of a segment: {os.strerror(-rc)}")
        return cls(handle[0])

    @property
    def fd(self) -> int:
        """The descriptor to hand to others; it stays the segment's."""
        return int(lib.inphase_segment_fd(self.handle))

    @property
    def path(self) -> str:
        """Where processes of the same user find it while this one lives: a store without a name."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def close(self) -> None:
        """Unmap."""
        if self.handle is not None:
            lib.inphase_segment_close(self.handle)
            self.handle = None


class Mailbox:
    """The policy's side of its mailbox, and the bell that tells it of frames. Thread: the policy's.

    fd, bell_fd: which are closed, so that what is called later cannot find them. Raises StoreError.
    """

    def __init__(self, fd: int, bell_fd: int) -> None:
        try:
            self.segment = Segment.map(fd, writes=True)
            self._bell = Segment.map(bell_fd)
        finally:
            os.close(fd)
            os.close(bell_fd)

    def wake(self, reader: "Reader", by_bell: bool = True) -> None:
        """Wake a reader by the bell from now on, before all other readers; or leave the bell to
        another process, since it wakes one alone."""
        lib.inphase_reader_bell(reader.handle, self._bell.handle if by_bell else ffi.NULL)

    def post(self, cycle: int, valid_until_ns: int, values: Any, count: int) -> None:
        """The answer to the frame of this cycle; `values` is a C double array of `count`."""
        lib.inphase_mailbox_post(self.segment.handle, cycle, valid_until_ns, 0, values, count)

    def sign(self, lease: int, drove: str) -> None:
        """From now on the answers are given under that lease, by that one of DROVE."""
        lib.inphase_mailbox_sign(self.segment.handle, lease, DROVE.index(drove))

    def taken(self) -> None:
        """A frame was taken: from here to the next `post` is an inference."""
        lib.inphase_mailbox_taken(self.segment.handle)

    def say(self, sandbox: Any) -> None:
        """Publish the rights of this process: struct inphase_sandbox."""
        lib.inphase_mailbox_say(self.segment.handle, sandbox)

    def count(self, what: str) -> None:
        """One more of SERVER_COUNTS."""
        lib.inphase_mailbox_count(self.segment.handle, SERVER_COUNTS.index(what))

    def refuse(self, cycle: int, reason: str) -> None:
        """Say why there is none."""
        lib.inphase_mailbox_post(self.segment.handle, cycle, 0, REASONS.index(reason), ffi.NULL, 0)

    def close(self) -> None:
        """Unmap both, after the reader that waits on the bell."""
        self.segment.close()
        self._bell.close()


class Turns:
    """A policy's way from one due frame of a reader to the next. Thread: the policy's.

    values: a C double array of `count`, which has the answer. every, valid_ns: see struct
    inphase_turn.
    """

    def __init__(
        self,
        reader: "Reader",
        mailbox: Mailbox,
        *,
        values: Any,
        count: int,
        every: int,
        valid_ns: int,
    ) -> None:
        self._reader, self._mailbox, self._values = reader, mailbox, values
        self._turn = ffi.new(
            "struct inphase_turn *",
            [reader.handle, mailbox.segment.handle, values, count, every, valid_ns],
        )

    def first(self) -> int:
        """Wait for a due frame; its record is then the reader's. The number of frames lost before
        it. Raises Lost."""
        while (lost := int(_turn(self._turn, _UNASKED, _SLICE_NS))) < 0:
            with contextlib.suppress(TimeoutError, InterruptedError):
                self._reader.ended(lost)
        return lost

    def next(self, trouble: str | None) -> int:
        """Answer the frame, by the values or by one of REASONS, and wait for the next likewise."""
        lost = int(_turn(self._turn, _REASON_NUMBERS[trouble], _SLICE_NS))
        return lost if lost >= 0 else self.first()


def inference(mailbox: Segment) -> dict[str, int]:
    """How long the policy of an attached mailbox takes: struct inphase_quantiles, nanoseconds."""
    out = ffi.new("struct inphase_quantiles *")
    lib.inphase_mailbox_inference(mailbox.handle, out)
    return as_dict(out)


def busy_ns(mailbox: Segment) -> int:
    """How long ago the policy of an attached mailbox took the frame that it answers, 0: none."""
    return int(lib.inphase_mailbox_busy_ns(mailbox.handle))


def server_counts(mailbox: Segment) -> dict[str, int]:
    """The counts of the policy server, in an attached mailbox: by SERVER_COUNTS."""
    out = ffi.new("int64_t[]", len(SERVER_COUNTS))
    lib.inphase_mailbox_counted(mailbox.handle, out)
    return dict(zip(SERVER_COUNTS, out, strict=True))


def sandbox(mailbox: Segment) -> dict[str, int]:
    """The rights of the policy of an attached mailbox: struct inphase_sandbox."""
    out = ffi.new("struct inphase_sandbox *")
    lib.inphase_mailbox_said(mailbox.handle, out)
    return as_dict(out)


_REFUSED_EPISODE = {
    errno.EBUSY: "an episode is running already; end it first: end, success, failure or discard",
    errno.ENOENT: "no episode was begun; start one",
    errno.EALREADY: "the newest episode has ended already; give it an outcome, or start another",
    errno.EPERM: "this page cannot be written",
}


class ClientPage:
    """The clients' side of the page of their wishes. Thread: one at a time.

    fd: which is closed.
    """

    def __init__(self, fd: int) -> None:
        try:
            self.segment = Segment.map(fd, writes=True)
        finally:
            os.close(fd)

    def estop(self) -> None:
        """Stop the robot: taken up by its next act."""
        lib.inphase_client_page_estop(self.segment.handle)

    def episode(self, outcome: str) -> int:
        """Begin an episode (`running`), or say the outcome of the newest one, one of OUTCOMES; its
        number. The frames from the next latch on tell it. Raises ValueError where there is none to
        end, or one runs already."""
        if outcome not in OUTCOMES[1:]:
            raise ValueError(f"no outcome {outcome!r}; there are {', '.join(OUTCOMES[1:])}")
        wish = OUTCOMES.index(outcome)
        number = int(lib.inphase_client_page_episode(self.segment.handle, wish))
        if number < 0:
            raise ValueError(_REFUSED_EPISODE[-number])
        return number

    def close(self) -> None:
        """Unmap it."""
        self.segment.close()


class LeasePage:
    """A lease page, for whoever decides about leases, or looks at it. Thread: one at a time.

    fd: which is closed. writes: to `set`; else to look at it.
    """

    def __init__(self, fd: int, *, writes: bool) -> None:
        try:
            self.segment = Segment.map(fd, writes=writes)
        finally:
            os.close(fd)

    def set(self, lease: int, until_ns: int) -> None:
        """Let that lease drive until then, by the monotonic clock; 0: nobody. A number is not used
        again."""
        lib.inphase_lease_page_set(self.segment.handle, lease, until_ns)

    def get(self) -> int:
        """The lease that counts now; 0: none."""
        return int(lib.inphase_lease_page_get(self.segment.handle))

    def close(self) -> None:
        """Unmap it."""
        self.segment.close()


class Reader:
    """Follows the frames of one store, without copying payloads. Thread: one at a time.

    path: of a name, or a Segment's. Raises StoreError.
    """

    def __init__(self, path: str, *, from_first: bool = False) -> None:
        fds = store_names.descriptors(path)
        try:
            self._open(path, fds, from_first)
        finally:
            for fd in fds:
                os.close(fd)

    def _open(self, path: str, fds: list[int], from_first: bool) -> None:
        reader = ffi.new("inphase_reader **")
        rc = lib.inphase_reader_open(reader, fds, len(fds), from_first)
        if rc < 0:
            raise StoreError(f"{path}: is not a store that can be read: {os.strerror(-rc)}")
        self.path = path
        self.handle = reader[0]
        layout = lib.inphase_reader_layout(self.handle)
        # views of payloads hold these mappings: they stay for as long as one of them lives
        self.memory = _map(fds[0])
        self.sensors = int(layout.sensors)
        outside = iter(fds[1:])
        self.memories = [
            _map(next(outside)) if layout.outside >> i & 1 else self.memory
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
        self._late = ffi.new("struct inphase_late *")

    def next(self, timeout_ns: int, newest: bool = False) -> int:
        """Wait for a frame; its record is then in `record`. The number of frames lost before it.

        Raises TimeoutError, InterruptedError, Lost.
        """
        lost = _next(self.handle, newest, timeout_ns)
        return int(lost) if lost >= 0 else self.ended(lost)

    def due(self, every: int, timeout_ns: int) -> int:
        """Wait likewise for the newest frame of a cycle that `every` divides."""
        lost = _due(self.handle, every, timeout_ns)
        return int(lost) if lost >= 0 else self.ended(lost)

    def ended(self, rc: int) -> NoReturn:
        """Raise for a wait that gave no frame."""
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
        """True if a sample is still whole in its ring."""
        return bool(lib.inphase_reader_intact(self.handle, sensor, sequence))

    def whole(self, record: bytes) -> bool:
        """True if every sample that a frame's record names is."""
        return bool(lib.inphase_reader_whole(self.handle, record))

    def status(self) -> dict[str, int]:
        """struct inphase_status of inphase.h by field name."""
        return _fields("struct inphase_status", lib.inphase_reader_status, self.handle)

    def realtime(self) -> dict[str, int]:
        """struct inphase_realtime by field name."""
        return _fields("struct inphase_realtime", lib.inphase_reader_realtime, self.handle)

    def counts(self) -> dict[str, int]:
        """struct inphase_counts by field name."""
        return _fields("struct inphase_counts", lib.inphase_reader_counts, self.handle)

    def host(self) -> dict[str, int] | None:
        """struct inphase_host_counts by field name: what the host did to the cycle thread so far,
        -1: unknown. None: nobody has counted, or the counts are just being written."""
        out = ffi.new("struct inphase_host_counts *")
        return None if lib.inphase_reader_host(self.handle, out) < 0 else as_dict(out)

    def late(self, number: int) -> bytes | None:
        """The late moment of that number, from 0 on: struct inphase_late, as `LATE` of
        late_moment.py has it. None: it is no longer kept. Raises IndexError where there is none
        yet."""
        rc = lib.inphase_reader_late(self.handle, number, self._late)
        if rc == -errno.ENODATA:
            raise IndexError(number)
        return None if rc < 0 else bytes(ffi.buffer(self._late))

    def lates(self) -> int:
        """How many late moments there were so far."""
        return int(lib.inphase_reader_lates(self.handle))

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

    def travel(self, actuator: int, channels: int) -> list[dict[str, float]]:
        """struct inphase_travel of each channel of an actuator, by field name."""
        out = ffi.new("struct inphase_travel[]", channels)
        lib.inphase_reader_travel(self.handle, actuator, channels, out)
        kind = ffi.typeof("struct inphase_travel")
        return [{name: getattr(one, name) for name, _ in kind.fields} for one in out]

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


def _map(fd: int) -> mmap.mmap:
    return mmap.mmap(fd, 0, prot=mmap.PROT_READ)


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
