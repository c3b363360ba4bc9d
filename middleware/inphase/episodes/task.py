"""The task: what is asked of a policy in an episode, as the schedule's [task] or a caller says.

Functions of a frame, named as a policy is: one gives the reward of a step, one says whether the
episode is over. One that is a class is made once, and its `reset` is called at each start.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from inphase.errors import ScheduleError
from inphase.schedule import Schedule
from inphase.schedule.import_by_name import resolve_call

if TYPE_CHECKING:
    from inphase.frames.frame import Frame

Reward = Callable[["Frame"], float]
Terminated = Callable[["Frame"], bool]
_BATCHED, _OBSERVES = "is_batched", "is_of_observation"
Call = TypeVar("Call", bound=Callable[..., Any])


def batched(call: Call) -> Call:
    """A decorator: this reward, or end, takes the frames of many environments in one call.

    It is then called with a FrameBatch, and returns an array with a number, or a bool, for each of
    them; and still with a Frame, where one environment is stepped alone. A function of arrays that
    sums over the last axis gives both.
    """
    setattr(call, _BATCHED, True)
    return call


def of_observation(call: Call) -> Call:
    """A decorator: this `reward`, or `terminated`, of an environment takes the observation in place
    of the frame. Of many environments it takes them as they are returned, with a row for each, and
    returns an array, as `batched`.
    """
    setattr(call, _OBSERVES, True)
    return batched(call)


def is_batched(call: Any) -> bool:
    """True of what `batched` has marked."""
    return bool(getattr(call, _BATCHED, False))


def is_of_observation(call: Any) -> bool:
    """True of what `of_observation` has marked."""
    return bool(getattr(call, _OBSERVES, False))


class TaskRun:
    """One episode after the other. Thread: one at a time.

    `reward`, `terminated`, `cycles`: in place of the schedule's. Raises ScheduleError.
    """

    def __init__(
        self,
        schedule: Schedule,
        reward: Reward | str | None = None,
        terminated: Terminated | str | None = None,
        cycles: int | None = None,
    ) -> None:
        table = schedule.task
        self.reward_call = load(schedule, "reward", reward or table.reward, reward is not None)
        """the function itself; None: there is none"""
        self.terminated_call = load(
            schedule, "terminated", terminated or table.terminated, terminated is not None
        )
        self._cycles = cycles or table.cycles
        self.last: int | None = None
        """the cycle whose frame is the episode's last one"""
        self.judges = self.reward_call is not None or self.terminated_call is not None
        """whether a frame is looked at at all"""
        self.is_batched = is_batched(self.reward_call) or is_batched(self.terminated_call)
        """whether one of them takes many frames in one call"""
        self.reward_observes = is_of_observation(self.reward_call)
        self.terminated_observes = is_of_observation(self.terminated_call)

    def begin(self, frame: "Frame") -> None:
        """An episode starts with this frame."""
        for call in (self.reward_call, self.terminated_call):
            reset = getattr(call, "reset", None)
            if callable(reset):
                reset()
        self.last = None if self._cycles is None else frame.cycle + self._cycles

    def judge(self, frame: "Frame", observed: Any) -> tuple[float, bool]:
        """The reward, and if the task is over, of the step that led to a frame and observation."""
        reward, terminated = 0.0, False
        if self.reward_call is not None:
            reward = float(self.reward_call(observed if self.reward_observes else frame))
        if self.terminated_call is not None:
            looks_at = observed if self.terminated_observes else frame
            terminated = bool(self.terminated_call(looks_at))
        return reward, terminated

    def reward(self, frame: "Frame") -> float:
        """Of the step that led to this frame; 0.0 where nothing says."""
        return 0.0 if self.reward_call is None else float(self.reward_call(frame))

    def terminated(self, frame: "Frame") -> bool:
        """True if the task is done or failed with this frame."""
        return self.terminated_call is not None and bool(self.terminated_call(frame))


def load(schedule: Schedule, what: str, given: Any, may_observe: bool = False) -> Any:
    """A callable from itself or from its name; a class is made. may_observe: it may be one of an
    observation. Raises ScheduleError."""
    if given is None:
        return None
    try:
        found = resolve_call(given, schedule.path.parent) if isinstance(given, str) else given
        if isinstance(found, type):
            found = found()
    except ScheduleError as error:
        raise schedule.error(f"task.{what}", str(error)) from error
    except Exception as error:
        raise schedule.error(
            f"task.{what}", f"{given} cannot be constructed: {error!r}; let it take no arguments"
        ) from error
    if not callable(found):
        raise schedule.error(f"task.{what}", f"{given} is not callable; name a function of a frame")
    if is_of_observation(found) and not may_observe:
        raise schedule.error(
            f"task.{what}",
            f"{given} takes an observation, which only environments have; let it take a frame, or "
            f"give it to gymnasium.make as {what}=",
        )
    if is_batched(found) and hasattr(found, "reset"):
        raise schedule.error(
            f"task.{what}",
            f"{given} judges many environments in one call, and its reset is for one; remove the "
            "decorator, or the reset",
        )
    return found
