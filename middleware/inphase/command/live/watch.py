"""The content of the live view: what is seen of a robot, frame by frame."""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from inphase.command.live.counted import Counted
from inphase.command.pictures.live_picture import Values, View
from inphase.command.pictures.shown_actuator import ShownActuator
from inphase.errors import InphaseError
from inphase.frames import store, words
from inphase.frames.frame import Frame

_ALIVE_S = 0.001
_RATE_NS = 2_000_000_000  # rates are of this long


class FrameStream(Protocol):
    """A store that is followed, or a subscription."""

    def next(self, timeout_s: float | None = None) -> Frame:
        """The next frame. Raises TimeoutError, and store.Lost at the robot's end."""

    def close(self) -> None:
        """Stop following."""


@dataclass
class Watch:
    """Looks at every frame of a robot that it can; `close` ends it. Thread: one at a time."""

    source: FrameStream
    counted: Counted
    actuators: list[ShownActuator]
    unseen: int = 0
    worst_ns: dict[str, int] = field(default_factory=dict)
    _count: int = 0
    _newest: Frame | None = None
    _marks: deque[tuple[int, Frame]] = field(default_factory=deque)
    """of the last two seconds, a frame per view and how many there were before it"""
    end: InphaseError | None = None
    """why no frame follows: store.Lost is the robot's own end"""

    @property
    def newest(self) -> Frame | None:
        """The newest frame that came."""
        return self._newest

    def look(self) -> None:
        """Take in the frames that came. Waits for none, or a moment where none has come: a store
        then tells if its writer lives."""
        count = self._count
        try:
            while self.end is None:
                self._take(self.source.next(timeout_s=0.0 if self._count > count else _ALIVE_S))
        except TimeoutError:
            return
        except InphaseError as error:
            self.end = error

    def _take(self, frame: Frame) -> None:
        if self._newest is not None and frame.layout.epoch != self._newest.layout.epoch:
            raise store.Lost(f"{frame.layout.robot} was started again: that is another run")
        self.unseen += frame.lost
        self._count += 1 + frame.lost
        self._newest = frame
        self.counted.take(frame)
        for name, sample in frame.samples.items():
            age_ns = sample.age_ns
            if age_ns is not None and age_ns > self.worst_ns.get(name, -1):
                self.worst_ns[name] = age_ns

    def view(self, mailbox: store.Segment | None = None) -> View | None:
        """The content to show; None before the first frame. mailbox: the policy's."""
        frame = self._newest
        if frame is None:
            return None
        marks = self._marks
        while len(marks) > 1 and frame.due_ns - marks[0][1].due_ns > _RATE_NS:
            marks.popleft()
        if not marks or marks[-1][1] is not frame:
            marks.append((self._count, frame))
        count, before = marks[0]
        seconds = (frame.due_ns - before.due_ns) / 1e9
        counted = self.counted
        return View(
            frame,
            counted.status(),
            counted.counts(),
            counted.statuses(),
            _rate(self._count - count, seconds),
            {
                name: _rate(sample.sequence - before[name].sequence, seconds)
                for name, sample in frame.samples.items()
            },
            self.worst_ns,
            self.unseen,
            counted.policy(),
            self._values(frame),
            store.inference(mailbox) if mailbox is not None else None,
            counted.late(frame.layout),
            counted.whole,
        )

    def _values(self, frame: Frame) -> Values:
        """Copies of the samples that are still there."""
        found = {name: words.values_of(sample) for name, sample in frame.samples.items()}
        return {name: values for name, values in found.items() if values is not None}

    def close(self) -> None:
        """Stop following."""
        self.source.close()


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 else None
