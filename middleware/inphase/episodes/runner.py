"""A robot from Python, notebooks included: `inphase run` as a context manager.

    with inphase.Runner("schedules/demo.toml") as robot:
        for frame in robot:
            print(frame.cycle, frame["joints"].value["position"])

On the wall clock the robot runs in a runtime process of its own. Nothing real-time, no signal
handler and no locked memory enters the caller's process. The robot ramps down when the block or the
process ends. With `lockstep=True` it runs on virtual time in the caller's thread.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.episodes.lockstep_robot import LockStepRobot
from inphase.episodes.robot import Robot, RobotOptions
from inphase.episodes.runtime_robot import RuntimeRobot
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.policy.turn import PolicyCall
from inphase.schedule import Schedule


class Runner:
    """One run of a robot; start and end it with `with`.

    schedule: a path, or one that was loaded. policy: a callable that runs in this process instead
    of the schedule's policy (it then shares this process's GIL). cycles: end after so many (0: at
    the end of the block). observe: never write to an actuator. lockstep: on virtual time; seed
    and episode decide its draws. simulate: in real time, in the schedule's simulated world.
    posts: the caller answers frames itself, with `post`, instead of any policy. In lock step an
    exception of `policy` is raised where frames are taken; on the wall clock it is a message.

    Raises, on entering, ScheduleError, DeviceError, RealtimeError, StoreError, RuntimeFault,
    WorldError.
    Thread: one at a time.
    """

    def __init__(
        self,
        schedule: Path | str | Schedule,
        *,
        policy: PolicyCall | None = None,
        cycles: int = 0,
        observe: bool = False,
        lockstep: bool = False,
        simulate: bool = False,
        seed: int = 0,
        episode: int = 0,
        posts: bool = False,
    ) -> None:
        assert not (lockstep and simulate), (
            "give lockstep (virtual time) or simulate (real time), not both"
        )
        assert not (posts and policy is not None), (
            "posts is for a caller that answers frames; a policy answers them itself"
        )
        loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
        self.schedule = loaded
        self.summary: dict[str, Any] | None = None
        """as `inphase run --json` prints it, after the run has ended"""
        self._stage = "not started"
        options = RobotOptions(policy, cycles, observe, seed, simulate, posts)
        self._robot: Robot
        if lockstep:
            self._robot = LockStepRobot(loaded, options, episode=episode)
        else:
            self._robot = RuntimeRobot(loaded, options)

    def __enter__(self) -> Self:
        self._robot.start()
        self._stage = "running"
        return self

    def __exit__(self, *_: object) -> None:
        self._stage = "ended"
        self.summary = self._robot.end()

    def __repr__(self) -> str:
        clock = "lock step" if isinstance(self._robot, LockStepRobot) else "wall clock"
        return f"<Runner {self.schedule.name}  {clock}  {self._stage}>"

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the run ends; in lock step each one is a cycle that is run."""
        return self._robot.frames()

    def next(self, timeout_s: float | None = None, newest: bool = False) -> Frame:
        """The next frame, or the newest one. Raises TimeoutError, and store.Lost at the end."""
        return self._robot.next(timeout_s, newest)

    def post(self, frame: Frame, command: Any) -> str | None:
        """Answer a frame with a command, as a policy returns it: for exactly this frame's cycle.

        Why it is none, one of REASONS; that it came too late is said by later frames.
        """
        return self._robot.answer(command, frame)

    def refuse(self, frame: Frame, reason: str) -> None:
        """No command to a frame, and why, one of REASONS."""
        self._robot.refuse(reason, frame)

    @property
    def follower(self) -> StoreFollower:
        """The follower of the frames: its layout, and the counts of its store."""
        return self._robot.follower

    def arm(self) -> None:
        """Let motion start again from where the robot is. Raises DeviceError, RuntimeFault."""
        self._robot.arm()

    def episode(self, outcome: str) -> int:
        """Begin an episode of a recording with `running`; its number.

        Later say its outcome: `success`, `failure`, `discarded`, or `ended` where nobody knows. It
        may be thought over until the next one begins. The frames tell `episode` and `outcome`.
        Raises ValueError where none was begun, where one runs already, and in lock step.
        """
        return self._robot.episode(outcome)

    def estop(self) -> None:
        """Emergency stop, before anything else is written: motion is latched until `arm`."""
        self._robot.estop()

    @property
    def messages(self) -> list[str]:
        """The messages so far: devices that went and came, mistakes of the policy.

        The logger `inphase` gets each at once; without a set-up of `logging` it is on stderr, and
        in a notebook below the cell.
        """
        return self._robot.messages()

    @property
    def draws(self) -> dict[str, float | list[float]]:
        """In lock step the draws of [randomise] for this episode, by path; else none."""
        return self._robot.draws

    def picture(
        self, camera: str | None = None, height: int = 480, width: int = 640
    ) -> NDArray[np.uint8]:
        """The view of a camera of the world's model now: (height, width, 3).

        camera: the model's first one by default. The world stays as it is. Raises WorldError where
        there is no world in lock step or no graphics, ScheduleError for an unknown camera.
        """
        return self._robot.picture(camera, height, width)

    @property
    def store_path(self) -> str:
        """The store's segment, for other followers on this host."""
        return self._robot.store_path

    @property
    def pid(self) -> int | None:
        """The runtime's process; None in lock step, which has none."""
        return self._robot.pid
