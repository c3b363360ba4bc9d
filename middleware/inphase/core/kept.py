"""The parts of a run in lock step that the next one of the same plan takes over."""

import weakref
from typing import Any

from inphase._core import ffi, lib
from inphase.core.config import base_config
from inphase.core.lockstep_config import LockStepConfig, start_positions
from inphase.core.own_frames import OwnFrames
from inphase.frames.store import Segment
from inphase.plan.plan import Plan


class Kept:
    """The memory, its mappings and the configuration of runs that follow each other. `close` ends
    it, after the last run. Thread: theirs.

    Making them anew takes as long as hundreds of cycles, most of it under the GIL. Frames of a run
    that is over are not whole any more (`intact`).
    """

    def __init__(self) -> None:
        self._held = KeptParts()
        weakref.finalize(self, self._held.close)
        self._size = self._described = 0
        self._made_of: tuple[object, ...] = ()
        self._config: Any = None
        self._keep: list[Any] = []
        self._starts: list[Any] = []

    def config(self, plan: Plan, lockstep: LockStepConfig) -> Any:
        """`base_config`, made anew only where it differs by more than the seed and the start."""
        made_of = (plan, lockstep.timing, lockstep.world, lockstep.native, lockstep.trace)
        if not _are(made_of, self._made_of):
            self._keep, self._made_of = [], made_of
            self._config = base_config(plan, 0, self._keep, lockstep)
            self._held.drop_frames()
            return self._config
        self._config.seed = lockstep.seed & 0xFFFFFFFFFFFFFFFF
        self._starts = []
        actuators = ffi.cast("struct inphase_actuator_config *", self._config.actuator)
        for index, actuator in enumerate(plan.actuators):
            actuators[index].start = start_positions(actuator, index, self._starts, lockstep)
        return self._config

    def segment(self, size: int) -> Segment:
        """Memory of that size, as new."""
        held = self._held
        if held.segment is None or self._size != size:
            held.close()
            held.segment, self._size = Segment.lazy(size), size
        else:
            lib.inphase_segment_clear(held.segment.handle)
        return held.segment

    def frames(self, epoch: int, described: int, **facts: Any) -> OwnFrames:
        """The frames of the core that was just made there; described: bytes of its description,
        in which only its epoch and these facts differ from run to run."""
        held = self._held
        assert held.segment is not None
        if held.frames is None or self._described != described:
            held.drop_frames()
            held.frames, self._described = OwnFrames(held.segment.path), described
        else:
            held.frames = held.frames.of_next(epoch, facts)
        return held.frames

    def close(self) -> None:
        """Give it back."""
        self._held.close()


class KeptParts:
    """The parts that have to be given back, also where nobody closes them."""

    def __init__(self) -> None:
        self.segment: Segment | None = None
        self.frames: OwnFrames | None = None

    def drop_frames(self) -> None:
        if self.frames is not None:
            self.frames.close()
            self.frames = None

    def close(self) -> None:
        self.drop_frames()
        if self.segment is not None:
            self.segment.close()
            self.segment = None


def _are(some: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """True if they are the same objects."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))
