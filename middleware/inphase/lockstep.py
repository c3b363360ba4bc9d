"""Lock step: the same schedule, core and policy on virtual time, in the caller's thread.

The core advances virtual time, the drivers' twins answer, and Python is entered once per policy
tick. Same schedule, seed, policy and versions give the same bytes.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from inphase import plan as planning
from inphase import policy as policies
from inphase import store
from inphase._core import ffi
from inphase.core import Core
from inphase.follow import StoreFollower
from inphase.frame import Frame
from inphase.packets import REASONS
from inphase.schedule import Schedule

PolicyCall = Callable[[Frame], Any]


class LockStep:
    """A simulated robot on virtual time. `close` ends it. Thread: the caller's alone.

    `call` overrides the schedule's policy; `digest=False` leaves out the digest.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        seed: int = 0,
        call: PolicyCall | None = None,
        digest: bool = True,
    ) -> None:
        self.plan = planning.make(schedule)
        self.schedule = schedule
        epoch = store.new_epoch()
        self.core = Core(
            self.plan,
            store.segment_path(schedule.name, epoch, "core"),
            epoch=epoch,
            description=self.plan.description(epoch),
            virtual_time=True,
            seed=seed,
        )
        for index in range(len(self.plan.actuators)):
            self.core.enable(index, True)
        self.follower = StoreFollower(self.core.segment.path)
        self._buffer = policies.CommandBuffer(self.follower.layout.actuators)
        if call is None and schedule.policy is not None:
            call = policies.load(schedule)
        self._call = call
        self._digest = Digest(self.follower) if digest else None
        self.cycles = 0

    def step(self) -> Frame:
        """One cycle; its frame."""
        self.core.latch()
        frame = self.follower.next(timeout_s=1.0)
        if self._call is not None:
            trouble = self._buffer.fill(self._call(frame))
            if trouble is None:
                self.core.post(0, self._buffer.pointer, self._buffer.channels)
            else:
                self.core.post(REASONS.index(trouble), ffi.NULL, 0)
        self.core.act()
        self.cycles += 1
        if self._digest is not None:
            self._digest.follow(self.cycles)
        return frame

    def run(self, cycles: int) -> int:
        """Run cycles as fast as can be; how many were run."""
        if self._call is not None:
            for _ in range(cycles):
                self.step()
            return cycles
        done = 0
        batch = self.plan.depth // 2
        while done < cycles:
            done += self.core.run(min(batch, cycles - done))
            if self._digest is not None:
                self._digest.follow(self.cycles + done)
        self.cycles += done
        return done

    def digest(self) -> str:
        """SHA-256 over all frames so far: every field of every record and every sample."""
        assert self._digest is not None
        return self._digest.value(self.cycles)

    def close(self) -> None:
        """End it, and remove its store."""
        self.follower.close()
        self.core.close()

    def __enter__(self) -> "LockStep":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Digest:
    """SHA-256 over a store's rings, in whole batches of slots.

    It covers each frame record and each sample payload in order, with their slots' sequence words:
    nothing of the host is in them (the epoch and rights are elsewhere in the segment).
    """

    def __init__(self, follower: StoreFollower) -> None:
        self._reader = follower.reader
        self._hash = hashlib.sha256()
        self._done = 0

    def follow(self, frames: int) -> None:
        """Take in what is a quarter of the ring or more."""
        if frames - self._done >= self._reader.frame_ring[3] // 4:
            self._take(frames)

    def _take(self, frames: int) -> None:
        offset, stride, _, depth = self._reader.frame_ring
        memory = memoryview(self._reader.memory)
        samples = self._samples()
        for first, last in _spans(self._done, frames, depth):
            self._hash.update(memory[offset + first * stride : offset + last * stride])
        for (start, stride_s, _, depth_s), (before, now) in zip(
            self._reader.rings, samples, strict=True
        ):
            for first, last in _spans(before, now, depth_s):
                self._hash.update(memory[start + first * stride_s : start + last * stride_s])
        self._done = frames

    def _samples(self) -> list[tuple[int, int]]:
        """Per sensor the samples since the last batch, from the newest record."""
        sequences = self._newest()
        spans = [(b, s + 1) for b, s in zip(self._before, sequences, strict=True)]
        self._before = [s + 1 for s in sequences]
        return spans

    @property
    def _before(self) -> list[int]:
        return self.__dict__.setdefault("before", [0] * self._reader.sensors)

    @_before.setter
    def _before(self, value: list[int]) -> None:
        self.__dict__["before"] = value

    def _newest(self) -> list[int]:
        raise NotImplementedError

    def value(self, frames: int) -> str:
        """The digest up to now."""
        self._take(frames)
        return self._hash.hexdigest()
