"""A robot that the caller drives: one contract for virtual time and for the wall clock."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.policy.turn import PolicyCall


@dataclass(frozen=True)
class RobotOptions:
    """The options of a run; `Runner` says what they are."""

    policy: PolicyCall | None = None
    cycles: int = 0
    observe: bool = False
    seed: int = 0
    simulate: bool = False
    posts: bool = False


class Robot(Protocol):
    """One run, between `start` and `end`. Thread: one at a time."""

    follower: StoreFollower
    """of its frames"""
    store_path: str
    pid: int | None
    """the runtime's process; None on virtual time, which has none"""
    draws: dict[str, float | list[float]]
    """of [randomise] for the episode, by path; none on the wall clock"""

    def start(self) -> None:
        """Raises what `Runner` raises."""

    def end(self) -> dict[str, Any] | None:
        """End the run; its summary."""

    def next(self, timeout_s: float | None = None, newest: bool = False) -> Frame:
        """The next frame, or the newest one. Raises TimeoutError, and store.Lost at the end."""

    def frames(self) -> Iterator[Frame]:
        """Those until the run ends."""

    def answer(self, command: Any, frame: Frame | None = None) -> str | None:
        """A command, as a policy returns it, to a frame; why it is none, one of REASONS.

        frame: None is the one that was given last.
        """

    def turn(self, command: Any) -> Frame | str:
        """`answer` the frame that was given last, then `next`; or why the command is none."""

    def refuse(self, reason: str, frame: Frame | None = None) -> None:
        """No command to a frame, and why, one of REASONS."""

    def arm(self) -> None:
        """Let motion start again. Raises DeviceError, RuntimeFault."""

    def episode(self, outcome: str) -> int:
        """Begin an episode (`running`) or say the outcome of the newest one; its number. Raises
        ValueError."""

    def estop(self) -> None:
        """Emergency stop, before anything else is written."""

    def messages(self) -> list[str]:
        """The runtime's messages so far."""

    def picture(self, camera: str | None, height: int, width: int) -> NDArray[np.uint8]:
        """The view of a camera of the world; None: the first one. Raises WorldError."""
