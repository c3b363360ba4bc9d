"""The first turn of an episode: it is refused, approached or told as a run of the schedule has it.

A run lets an actuator begin within one cycle's step of its place. `first_command` of the actuator
says what becomes of a command that is further away, here as there.
"""

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase.frames.frame import Frame
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan

_STACK = 4  # from the warning to the caller of an environment's step


class Turning(Protocol):
    """A client in the middle of its episode."""

    plan: Plan
    turn: Callable[[Any], Frame | str]
    has_warned: bool
    """of what a run would refuse"""


class FirstTurn:
    """Takes the place of a client's `turn` until a command was accepted."""

    def __init__(self, client: Turning, frame: Frame) -> None:
        self._client = client
        self._turn = client.turn
        self._places = {
            actuator.name: here
            for actuator in client.plan.actuators
            if (here := place(frame, actuator)) is not None
        }
        client.turn = self._first

    def _first(self, command: Any) -> Frame | str:
        """A turn. Raises ValueError for a command that the run refuses."""
        found = self._turn(command)
        if isinstance(found, str):
            return found
        for actuator, act in zip(self._client.plan.actuators, found.command, strict=True):
            if actuator.schedule.first_command is None and not self._client.has_warned:
                self._warn(actuator, act.requested)
            if act.reason == "start":
                raise ValueError(
                    f"the first action is refused, as a run refuses it: "
                    f"{self._far(actuator, act.requested) or 'a joint is far outside its range'}; "
                    f'begin where the robot is, or write first_command = "approach" in '
                    f"[actuator.{actuator.name}]"
                )
        if not any("HOLDING" in act.flags for act in found.command):
            self._client.turn = self._turn
        return found

    def _warn(self, actuator: ActuatorPlan, requested: NDArray[np.float64]) -> None:
        """Say that a run would refuse what the environment approaches."""
        far = self._far(actuator, requested)
        if far:
            self._client.has_warned = True
            warnings.warn(
                f"{far}. The environment approaches it, and a run of this schedule refuses it: "
                f'write first_command = "approach" in [actuator.{actuator.name}], and both '
                f"approach it",
                stacklevel=_STACK,
            )

    def _far(self, actuator: ActuatorPlan, requested: NDArray[np.float64]) -> str:
        """The channel that is furthest from its place, if that is too far; empty: none is."""
        here = self._places.get(actuator.name)
        if here is None or actuator.schedule.mode == "switch":
            return ""
        period_s = self._client.plan.schedule.cycle.period_ns / 1e9
        step = np.array([one.first_step(period_s) for one in actuator.limits])
        beyond = np.nan_to_num(np.abs(requested - here) - step, nan=0.0)
        worst = int(beyond.argmax())
        if beyond[worst] <= 0:
            return ""
        return (
            f"the first action asks {actuator.name}[{worst}] for {requested[worst]:.4g}, which is "
            f"at {here[worst]:.4g}, and a first step is at most {step[worst]:.4g}"
        )


def place(frame: Frame, actuator: ActuatorPlan) -> NDArray[Any] | None:
    """Where an actuator is: measured, or for one without feedback what was last applied. One that
    takes no positions is told no velocity, or the value at which its ramps end."""
    if actuator.schedule.mode == "velocity":
        return np.zeros(actuator.spec.channels)
    if actuator.schedule.mode != "position":
        return np.array([one.safe for one in actuator.limits])
    if actuator.schedule.feedback is None:
        applied = frame.command[actuator.name].applied
        return applied if np.isfinite(applied).all() else None
    sensor, _, field = actuator.schedule.feedback.partition(".")
    sample = frame[sensor]
    return sample.value[field].reshape(-1).copy() if sample.sequence >= 0 else None
