"""The task: what is asked of a policy in an episode, as the schedule's [task] or a caller says.

Functions of a frame, named as a policy is: one gives the reward of a step, one says whether the
episode is over. One that is a class is made once, and its `reset` is called at each start.
"""

from collections.abc import Callable
from typing import Any

from inphase.errors import ScheduleError
from inphase.frames.frame import Frame
from inphase.schedule import Schedule
from inphase.schedule.import_by_name import resolve_call

Reward = Callable[[Frame], float]
Terminated = Callable[[Frame], bool]


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
        self.reward_call = load(schedule, "reward", reward or table.reward)
        """the function itself; None: there is none"""
        self.terminated_call = load(schedule, "terminated", terminated or table.terminated)
        self._cycles = cycles or table.cycles
        self.last: int | None = None
        """the cycle whose frame is the episode's last one"""
        self.judges = self.reward_call is not None or self.terminated_call is not None
        """whether a frame is looked at at all"""

    def begin(self, frame: Frame) -> None:
        """An episode starts with this frame."""
        for call in (self.reward_call, self.terminated_call):
            reset = getattr(call, "reset", None)
            if callable(reset):
                reset()
        self.last = None if self._cycles is None else frame.cycle + self._cycles

    def reward(self, frame: Frame) -> float:
        """Of the step that led to this frame; 0.0 where nothing says."""
        return 0.0 if self.reward_call is None else float(self.reward_call(frame))

    def terminated(self, frame: Frame) -> bool:
        """True if the task is done or failed with this frame."""
        return self.terminated_call is not None and bool(self.terminated_call(frame))


def load(schedule: Schedule, what: str, given: Any) -> Any:
    """A callable from itself or from its name; a class is made. Raises ScheduleError."""
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
    return found
