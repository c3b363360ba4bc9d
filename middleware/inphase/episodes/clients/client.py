"""A policy client: the caller takes frames and answers them, on virtual time or on the wall clock.

`LockStepClient` steps a robot on virtual time in the caller's thread. `RunnerClient` runs one in a
runtime process. Both give the frames that a policy would be called with. Both start an episode
where the robot stands, and end with `close`.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from inphase.core.kept import Kept
from inphase.episodes.clients.first_turn import FirstTurn, place
from inphase.episodes.lockstep import LockStep
from inphase.episodes.lockstep_robot import LockStepRobot
from inphase.episodes.robot import Robot, RobotOptions
from inphase.episodes.runtime_robot import RuntimeRobot
from inphase.errors import RuntimeFault, ScheduleError
from inphase.frames.frame import Frame
from inphase.frames.shaping import Shaping
from inphase.frames.store_follower import StoreFollower
from inphase.plan import plan as planning
from inphase.schedule import Schedule
from inphase.world.engines import make_world
from inphase.world.randomisation import KnobLike

_WAIT_S = 10.0
"""of the robot's time: how long an accepted frame, first samples and the first command may take"""
_NOT_FOLLOWED = {"HOLDING", "RAMPING", "MISSED", "INVALID", "REPEATED", "STARVED", "COASTING"}


class Client:
    """The part that both clients share. Thread: one at a time."""

    is_live: ClassVar[bool]
    """the robot goes on meanwhile: what was read of a frame may have been written over"""
    follower: StoreFollower
    """of the run that goes on; another one after `begin`"""
    draws: Mapping[str, float | list[float]]
    """what was drawn for the episode, by path"""
    answer: Callable[[Any], str | None]
    """A command, as a policy returns it, to the frame that was given last; why it is none."""
    next: Callable[[], Frame]
    """The next frame that the policy is called with, as `accepted`."""
    turn: Callable[[Any], Frame | str]
    """`answer`, then `next`; or why the command is none."""
    _refuse: Callable[[str], None]
    _next: Callable[[], Frame]

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.plan = replace(planning.make(schedule), client_policy=True)
        self._holds = all(one.first_command is None for one in schedule.actuator.values())
        self._accepts = dict(schedule.policy.accepts) if schedule.policy is not None else {}
        self._shaping = Shaping(schedule.policy)
        self._is_choosy = bool(self._accepts) or not self._shaping.is_none
        self._wait_cycles = int(_WAIT_S * 1e9 / schedule.cycle.period_ns)
        self.draws = {}
        self.has_warned = False
        self.turn = _not_begun
        self.plain: Callable[[Any], Frame | str] | None = None
        """the value of `turn` that is one call of C, on virtual time; None: none is"""

    # ---- what the two do differently -----------------------------------------------------

    def start(self, seed: int, episode: int, randomise: Mapping[str, KnobLike] | None) -> None:
        """Start an episode; it sets `follower`, `draws`, `answer`, and what is below it."""
        raise NotImplementedError

    def close(self) -> None:
        """End it."""
        raise NotImplementedError

    def _take(self, robot: Robot, next_frame: Callable[[], Frame]) -> None:
        """A robot that has started."""
        self.follower = robot.follower
        self.answer, self._refuse, self._next = robot.answer, robot.refuse, next_frame
        self.turn = robot.turn

    # ---- what they do alike --------------------------------------------------------------

    def accepted(self) -> Frame:
        """The next frame that the policy is called with.

        One with a status that [policy] `accepts` does not name is refused, as on the robot. Raises
        store.Lost when the run has ended, WorldError, RuntimeFault when none is accepted any more.
        """
        frame = self._next()
        for _ in range(self._wait_cycles):
            trouble = self._not_accepted(frame)
            shaped = None if trouble else self._shaping.shape(frame)
            if shaped is not None:
                return shaped
            trouble = trouble or "its history or its alignment is not complete"
            self._refuse("input")
            frame = self._next()
        raise RuntimeFault(
            f"no frame was accepted for {_WAIT_S:g} s: {trouble}; see [policy] accepts in "
            f"{self.schedule.path}"
        )

    def _not_accepted(self, frame: Frame) -> str:
        for sensor, accepted in self._accepts.items():
            if frame[sensor].status not in accepted:
                return f"{sensor} is {frame[sensor].status}"
        return ""

    def begin(
        self,
        seed: int = 0,
        episode: int = 0,
        randomise: Mapping[str, KnobLike] | None = None,
        sensors: tuple[str, ...] = (),
    ) -> Frame:
        """Start an episode; returns its first frame, which is not answered yet.

        By then every one of `sensors` has given a sample. Where no actuator has the key
        `first_command`, every actuator follows commands, so far those to stay where it is. Where
        one has it, nothing was commanded, and the first turn is a run's. Raises ScheduleError,
        DeviceError, WorldError, RuntimeFault, store.Lost.
        """
        self.start(seed, episode, randomise)
        self.next = self.accepted if self._is_choosy else self._next
        if self._is_choosy:
            self.turn = self._answer_then_next
        frame = self.next()
        for _ in range(self._wait_cycles):
            missing = [name for name in sensors if frame[name].sequence < 0]
            idle = [act.name for act in frame.command if not self._is_ready(act.flags)]
            if not (missing or idle):
                FirstTurn(self, frame)
                return frame
            if self._holds:
                self.answer(self._here(frame))
            else:
                self._refuse("silent")
            frame = self.next()
        why = [f"{name} gave no sample ({frame[name].status})" for name in missing]
        why += [f"{name} does not follow ({frame.command[name].reason})" for name in idle]
        raise RuntimeFault(
            f"no episode began within {_WAIT_S:g} s: {'; '.join(why)}; sensors have to answer, and "
            f"a command has to be there before its cycle's act"
        )

    def _is_ready(self, flags: tuple[str, ...]) -> bool:
        """An actuator may be told the first command. In lock step the core says so at once."""
        if self._holds:
            return "WRITTEN" in flags and not _NOT_FOLLOWED & set(flags)
        return not self.is_live or "WRITTEN" in flags

    def _answer_then_next(self, command: Any) -> Frame | str:
        return self.answer(command) or self.next()

    def _here(self, frame: Frame) -> dict[str, NDArray[Any]] | None:
        """The command to stay where the robot is; None: not known yet."""
        parts = {actuator.name: place(frame, actuator) for actuator in self.plan.actuators}
        known = {name: here for name, here in parts.items() if here is not None}
        policy = self.schedule.policy
        if policy is not None and policy.chunk > 1:
            known = {name: np.tile(here, (policy.chunk, 1)) for name, here in known.items()}
        return known if len(known) == len(parts) else None


def _not_begun(command: Any) -> Frame | str:
    raise ValueError("no episode has begun, so there is no frame to answer; call reset first")


class LockStepClient(Client):
    """On virtual time, each episode a run of its own from seed and number, in the same world."""

    is_live = False
    run: LockStep
    """of the episode that goes on"""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.world = make_world(self.plan) if schedule.world is not None else None
        self._robot: LockStepRobot | None = None
        self._kept = Kept()

    def start(self, seed: int, episode: int, randomise: Mapping[str, KnobLike] | None) -> None:
        """A new run."""
        if self._robot is not None:
            self._robot.close()
            self._robot = None
        robot = LockStepRobot(
            self.schedule,
            RobotOptions(seed=seed, posts=True),
            world=self.world,
            plan=self.plan,
            episode=episode,
            randomise=randomise,
            digest=False,
            kept=self._kept,
        )
        robot.start()
        self._robot = robot
        self.draws = robot.draws
        self._take(robot, robot.next)
        self.run = robot.lockstep
        self.plain = self.turn if self.run.is_bare and not self._is_choosy else None

    def close(self) -> None:
        """End the run and the world."""
        if self._robot is not None:
            self._robot.close()
            self._robot = None
        self._kept.close()
        if self.world is not None:
            self.world.close()


class RunnerClient(Client):
    """On the wall clock: hardware, or with `simulate` a simulated robot behind the same runtime.

    The robot runs on from one episode to the next, as it stands; a simulated one starts anew.
    Episodes are not reproducible: neither a robot nor the wall clock has a seed. Its frames, and
    so a recording, tell each as an episode.
    """

    is_live = True

    def __init__(self, schedule: Schedule, *, simulate: bool = False) -> None:
        super().__init__(schedule)
        self._simulate = simulate
        self._robot: RuntimeRobot | None = None
        self._frame: Frame | None = None

    def start(self, seed: int, episode: int, randomise: Mapping[str, KnobLike] | None) -> None:
        """The runtime, or on hardware motion again where it was latched."""
        if randomise:
            raise ScheduleError(
                f"{self.schedule.path}: knobs are randomised in lock step alone; got "
                f"{', '.join(randomise)}"
            )
        if self._robot is not None and self._simulate:
            self.close()
        if self._robot is None:
            robot = RuntimeRobot(self.schedule, RobotOptions(simulate=self._simulate, posts=True))
            robot.start()
            self._robot = robot
            self._take(robot, self._newest)
            self.turn = self._answer_then_next
        elif self._frame is not None and self._frame.reason != "none":
            self._robot.arm()
        self._mark("ended")
        self._mark("running")

    def _mark(self, outcome: str) -> None:
        """Of the episode, for recordings; where a person marked it otherwise, that stays."""
        if self._robot is not None:
            with contextlib.suppress(ValueError):
                self._robot.episode(outcome)

    def _newest(self) -> Frame:
        assert self._robot is not None
        self._frame = self._robot.next(_WAIT_S, newest=True)
        return self._frame

    def close(self) -> None:
        """Ramp the robot down and end the runtime."""
        if self._robot is not None:
            self._mark("ended")
            self._robot.end()
            self._robot = None
