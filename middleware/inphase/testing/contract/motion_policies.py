"""Policies that move an actuator, and the tables of a schedule that let them."""

from typing import Any

import numpy as np
import pytest

from inphase.driver import ActuatorSpec, Bound
from inphase.frames.frame import Frame
from inphase.schedule.document import toml_table
from inphase.testing.rig import NAME, Rig


class FarGoal:
    """A policy that sends every joint `reach` away, towards zero, from where it first is."""

    def __init__(self, feedback: str, reach: float) -> None:
        self.goal: np.ndarray[Any, Any] | None = None
        self._feedback = feedback
        self._reach = reach

    def __call__(self, frame: Frame) -> Any:
        sample = frame[NAME]
        if self.goal is None:
            if sample.status != "FRESH":
                return None
            here = sample.value[self._feedback].copy()
            self.goal = here - np.copysign(self._reach, here)
        return self.goal


class WalkToZero:
    """A policy that walks every joint towards zero, `reach` in two seconds."""

    def __init__(self, feedback: str, reach: float) -> None:
        self.start: np.ndarray[Any, Any] | None = None
        self._feedback = feedback
        self._reach = reach

    def __call__(self, frame: Frame) -> Any:
        sample = frame[NAME]
        if self.start is None:
            if sample.status != "FRESH":
                return None
            self.start, self._since_ns = sample.value[self._feedback].copy(), frame.due_ns
        way = self._reach * (frame.due_ns - self._since_ns) / 2e9
        return self.start - np.copysign(way, self.start)


class SteadyValue:
    """A policy that asks every joint for the same velocity or effort, in small steps."""

    def __init__(self, value: float) -> None:
        self._value, self._part = value, 0.0

    def __call__(self, frame: Frame) -> Any:
        channels = frame.command[NAME].applied.size
        self._part = min(1.0, self._part + 0.01) if frame.reason == "none" else 0.0
        return np.full(channels, self._value * self._part)


def moves(rig: Rig, mode: str, feedback: str, reach: float) -> tuple[Any, tuple[str, ...]] | None:
    """A policy and limits that move an actuator in a mode; None: nothing is known to do so."""
    if mode == "position":
        return WalkToZero(feedback, reach), motion_tables(rig, feedback, reach)
    bounds = _bounds_of(rig, mode)
    if mode == "velocity":
        value, limits = reach / 8, {"velocity": reach / 4, "acceleration": 4 * reach}
    elif mode == "effort" and bounds:
        value = 0.1 * min(bound.high for bound in bounds)
        limits = {"effort": 2 * value, "effort_rate": 20 * value}
    else:
        return None
    table = {"device": NAME, "mode": mode, "feedback": f"{NAME}.{feedback}"}
    return SteadyValue(value), (
        toml_table(("actuator", NAME), table),
        toml_table(("actuator", NAME, "limits"), limits),
    )


def feedback_of(rig: Rig, actuator: ActuatorSpec) -> str:
    """The field that says where the actuator's joints are, or how fast: of its unit and its
    channels."""
    spec = rig.driver.sensor()
    for unit in (actuator.unit.removesuffix("/s"), actuator.unit):
        for field in spec.fields if spec is not None else ():
            if (field.unit, field.channels) == (unit, actuator.channels):
                return field.name
    pytest.skip(f"no field of the sensor says where the actuator's joints are [{actuator.unit}]")


def _bounds_of(rig: Rig, mode: str) -> tuple[Bound, ...]:
    """The commands that the device takes in a mode."""
    driver = rig.make()
    driver.mode = mode
    driver.open()
    try:
        spec = driver.actuator()
        assert spec is not None
        return spec.bounds
    finally:
        driver.close()


def motion_tables(rig: Rig, feedback: str, reach: float) -> tuple[str, str]:
    """Limits that let one command ask for the whole way: what stops it is not the limiter."""
    most = 10 * reach
    bounds = _bounds_of(rig, "position")
    per_joint = [[max(-most, one.low), min(most, one.high)] for one in bounds]
    limits: dict[str, Any] = {
        "position": per_joint or [-most, most],
        "velocity": 1e4 * reach,
        "acceleration": 1e10 * reach,
        "step": 2 * reach,
    }
    actuator = {"device": NAME, "feedback": f"{NAME}.{feedback}"}
    return (
        toml_table(("actuator", NAME), actuator),
        toml_table(("actuator", NAME, "limits"), limits),
    )
