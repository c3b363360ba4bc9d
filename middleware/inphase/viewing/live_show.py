"""A live show: follows a robot as any reader does, and hands its newest frames to viewers.

It runs in a process of its own, and reads at its own pace: the robot does not know of it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inphase.errors import StoreError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.subscription import Subscription, subscribe
from inphase.viewing.seen_robot import SeenRobot

_RETRY_S = 0.5


class Screen(Protocol):
    """Where frames are shown."""

    def begin(self, robot: SeenRobot) -> None:
        """Another run begins."""

    def show(self, frame: Frame, number: int) -> None:
        """A frame, and its number in the store. Never waits for a viewer."""

    def tell(self, text: str) -> None:
        """A message for a person."""

    def close(self) -> None:
        """No frame follows."""

    @property
    def holds_exit(self) -> bool:
        """True if its library would wait for a viewer at the end of the process."""


@dataclass
class LiveShow:
    """Shows a robot until it ends.

    endpoint: as `subscribe` takes it. rate_hz: so many frames per second at most; the newest one
    counts. stays: wait for the robot, and after its end for its next run. say: takes a line for a
    person. Thread: one at a time.
    """

    endpoint: str
    screen: Screen
    say: Callable[[str], None]
    rate_hz: float
    stays: bool = False
    key: Path | None = None
    """a client file, for a gateway that asks for keys"""
    shown: int = 0
    """frames so far"""
    _ended: int = -1
    """epoch of the run that ended last"""

    def run(self) -> None:
        """Raises StoreError where there is no robot or it gave no frame, and WireError."""
        while True:
            with self._subscribed() as source:
                epoch = source.layout.epoch
                if epoch != self._ended:  # its name goes a moment after it
                    self._follow(source)
                self._ended = source.layout.epoch
            if not self.stays:
                break
            time.sleep(_RETRY_S)
        if not self.shown:
            raise StoreError(f"{self.endpoint} ended before it gave a frame; start it again")

    def _subscribed(self) -> Subscription:
        """To the robot, once it is there. Raises StoreError."""
        told = ""
        while True:
            try:
                return subscribe(self.endpoint, key=self.key)
            except (StoreError, TimeoutError) as error:
                if not self.stays:
                    raise StoreError(str(error)) from error
                if str(error) != told and self._ended < 0:
                    told = str(error)
                    self.say(f"waits: {told}")
            time.sleep(_RETRY_S)

    def _follow(self, source: Subscription) -> None:
        """Until its end."""
        epoch, next_s, is_silent = -1, time.monotonic(), False
        while True:
            try:
                frame = source.newest(next_s)
            except TimeoutError:
                if not is_silent:
                    self._tell(f"no frame of {source.layout.robot} comes; it may be held up")
                is_silent = True
                continue
            except store.Lost:
                self._tell(f"{source.layout.robot} has ended")
                return
            if source.layout.epoch != epoch:
                epoch = source.layout.epoch
                self.screen.begin(SeenRobot.of(source))
                self.say(f"{source.layout.robot} by {source.transport}")
            self.screen.show(frame, source.number)
            self.shown += 1
            is_silent = False
            next_s = max(next_s + 1 / self.rate_hz, time.monotonic())

    def _tell(self, text: str) -> None:
        self.say(text)
        self.screen.tell(text)
