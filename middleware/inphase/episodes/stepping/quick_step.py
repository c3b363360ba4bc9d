"""The step of an environment on virtual time that is given every frame, with nothing in between.

It gives what `Environment.result` of `LockStep.turn` gives. A step of physics takes as long as
forty calls of Python: nothing is looked up twice, and a record is read once.
"""

from collections.abc import Callable
from typing import Any

from inphase.episodes.lockstep import LockStep
from inphase.episodes.observation import FlatObserver, Observer
from inphase.episodes.step_info import StepInfo
from inphase.episodes.stepping.later_dict import LaterDict
from inphase.episodes.task import TaskRun
from inphase.frames.frame import Frame

QuickStep = Callable[[Any], tuple[Any, float, bool, bool, dict[str, Any]]]


def make(
    robot: LockStep,
    observer: Observer | FlatObserver,
    infos: StepInfo,
    task: TaskRun,
    refuse: Callable[[Any], Any],
) -> QuickStep:
    """A function of an action, for one episode; refuse: raises for an action that is none."""
    core, follower, fill = robot.core, robot.follower, robot.buffer.fill
    memory, records, mask = follower.memory, follower.records, follower.mask
    layout, unpack, described = follower.layout, infos.unpack, infos.described
    among, observed = infos.sequences, observer.values
    only = observer.only if isinstance(observer, FlatObserver) else None
    sensor, slot_mask, slots = only or (0, 0, [])
    at = among.start + sensor * among.step
    reward_call, terminated_call = task.reward_call, task.terminated_call
    reward_observes, terminated_observes = task.reward_observes, task.terminated_observes
    looks_at_frames = (reward_call is not None and not reward_observes) or (
        terminated_call is not None and not terminated_observes
    )
    core.answers_of(robot.buffer.pointer, robot.buffer.count)

    def step(action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if fill(action) is not None:
            refuse(action)
        number = core.answered()  # looked up each time: a run that was closed has another one
        if number < 0:
            robot.refuse_end()
        follower.newest = number
        record = memory[records[number & mask]]
        facts = unpack(record)
        cycle, last = facts[0], task.last

        info = LaterDict({"cycle": cycle})
        info.make = described
        if number == infos.number + 1:
            infos.number = number
            info.given = (record, facts, 0, 0)
        else:
            info.given = (record, facts, *infos.passed())

        if only is None:
            now = observed(facts[among])
        else:
            sequence = facts[at]
            now = slots[sequence & slot_mask if sequence >= 0 else -1].copy()
        reward, terminated = 0.0, False
        frame = Frame(layout, record, follower, 0, facts[among]) if looks_at_frames else now
        if reward_call is not None:
            reward = float(reward_call(now if reward_observes else frame))
        if terminated_call is not None:
            terminated = bool(terminated_call(now if terminated_observes else frame))
        truncated = facts[1] != 0 or (last is not None and cycle >= last)
        return now, reward, terminated, truncated, info

    return step
