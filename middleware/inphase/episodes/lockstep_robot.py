"""A robot on virtual time, in the caller's thread."""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.core.kept import Kept
from inphase.episodes import lockstep
from inphase.episodes.lockstep import LockStep
from inphase.episodes.robot import Robot, RobotOptions
from inphase.errors import WorldError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.plan.plan import Plan
from inphase.schedule import Schedule
from inphase.world.mujoco import package as mujoco_package
from inphase.world.mujoco.world import MujocoWorld
from inphase.world.randomisation import KnobLike


def _not_called(frame: Frame) -> None:
    raise AssertionError("the caller answers, not a policy")


class LockStepRobot(Robot):
    """The run on virtual time; a frame waits until it is answered.

    world, plan, episode, randomise, digest, kept: see LockStep.
    """

    pid = None
    lockstep: LockStep
    """the run, once it has started"""

    def __init__(
        self,
        schedule: Schedule,
        options: RobotOptions,
        *,
        world: MujocoWorld | None = None,
        plan: Plan | None = None,
        episode: int = 0,
        randomise: Mapping[str, KnobLike] | None = None,
        digest: bool = True,
        kept: Kept | None = None,
    ) -> None:
        self._options = options
        self._make = partial(
            LockStep,
            schedule,
            call=_not_called if options.posts else options.policy,
            observe=options.observe,
            seed=options.seed,
            world=world,
            plan=plan,
            episode=episode,
            randomise=randomise,
            digest=digest,
            kept=kept,
            raises=options.policy is not None,
        )

    def start(self) -> None:
        """Make the world, where none was given, and the core."""
        made = self.lockstep = self._make()
        self.store_path = made.core.segment.path
        self.follower = made.follower
        self.draws = made.draws

    def next(self, timeout_s: float | None = None, newest: bool = False) -> Frame:
        """On to the next frame, with the policy's turn at it where the caller does not answer."""
        cycles = self._options.cycles
        if cycles and self.lockstep.cycles >= cycles:
            raise store.Lost(f"the {cycles} cycles asked for are done")
        return self.lockstep.next() if self._options.posts else self.lockstep.step()

    def frames(self) -> Iterator[Frame]:
        """Each is a cycle that is run."""
        with contextlib.suppress(store.Lost):
            while True:
                yield self.next()

    def answer(self, command: Any, frame: Frame | None = None) -> str | None:
        """To the frame that was given last: virtual time stands still at it."""
        return self.lockstep.answer(command)

    def turn(self, command: Any) -> Frame | str:
        """In one call of C."""
        return self.lockstep.turn(command)

    def refuse(self, reason: str, frame: Frame | None = None) -> None:
        """Likewise."""
        self.lockstep.refuse(reason)

    def arm(self) -> None:
        """Granted in a later cycle, as the frames say."""
        self.lockstep.core.arm()

    def episode(self, outcome: str) -> int:
        """Refused: raises ValueError."""
        raise ValueError(
            f"no episode {outcome!r}: in lock step each run is one; marks are for the wall clock"
        )

    def estop(self) -> None:
        """In the next act."""
        self.lockstep.core.estop()

    def messages(self) -> list[str]:
        """The remarks on the policy."""
        return self.lockstep.messages

    def picture(self, camera: str | None, height: int, width: int) -> NDArray[np.uint8]:
        """Of the present; the world stays as it is."""
        world, path = self.lockstep.world, self.lockstep.schedule.path
        trouble = "no [world]" if world is None else mujoco_package.why_no_images()
        if world is None or trouble is not None:
            raise WorldError(f"{path}: no picture: {trouble}")
        return world.picture(camera, height, width)

    def close(self) -> None:
        """End the run without a summary."""
        self.lockstep.close()

    def end(self) -> dict[str, Any]:
        """Sum up, and close."""
        with self.lockstep as robot:
            return lockstep.sum_up(robot)
