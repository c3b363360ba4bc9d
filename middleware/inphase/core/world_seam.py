"""The seam to a simulator: what a world tells the core, so that the core can step and read it.

A world belongs to one plan. The core calls its functions by their addresses and reads its numbers
where they lie (native/inphase.h, struct inphase_world); nothing of a simulator is linked. MuJoCo's
is in `mujoco_world`.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase.errors import WorldError
from inphase.plan.plan import Plan
from inphase.schedule import Schedule

_NO_MATTER = Fraction(1, 1000)  # share by which a step may be longer than the model's


@dataclass(frozen=True)
class WorldReading:
    """A channel of a sample: `zero + gain * number at address`, and noise times a draw in -1..1."""

    address: int
    gain: float
    zero: float
    noise: float
    derived: bool
    """it is computed in a forward pass alone"""


@dataclass(frozen=True)
class Controls:
    """Where an actuator's commands go, per channel: number in the model, address, gain and zero.
    The number at the address is `gain * command + zero`."""

    numbers: list[int]
    addresses: list[int]
    gains: list[float]
    zeros: list[float]


@dataclass(frozen=True)
class Failure:
    """How a world failed, as struct inphase_world_failure has it."""

    what: int
    cycle: int
    world_ns: int
    message: str


@dataclass(frozen=True)
class StepGrid:
    """Physics steps of equal length, a whole number of them in each cycle.

    Step k ends at k * period / steps, rounded down to nanoseconds, from the start of cycle 0.
    """

    period_ns: int
    steps: int
    """per cycle"""

    @classmethod
    def near(cls, period_ns: int, step_ns: Fraction) -> "StepGrid":
        """The steps nearest to a length, and not above it by more than a thousandth."""
        return cls(period_ns, max(1, math.ceil(period_ns / step_ns * (1 - _NO_MATTER))))

    @property
    def step_ns(self) -> Fraction:
        """Length of a step in nanoseconds."""
        return Fraction(self.period_ns, self.steps)

    def end_ns(self, step: int) -> int:
        """The instant at which that many steps are done."""
        return step * self.period_ns // self.steps

    def done(self, at_ns: int) -> int:
        """The steps that end at an instant or before it."""
        return ((at_ns + 1) * self.steps - 1) // self.period_ns


@dataclass(frozen=True)
class Engine:
    """Addresses of functions and of data, as struct inphase_world has them."""

    step: int
    forward: int
    catch_errors: int
    model: int
    data: int
    timestep: int
    step_s: float
    steps: int
    warning: int
    warnings: int
    warning_stride: int
    fatal: int
    clock: int


class WorldKnobs(Protocol):
    """The parts of a world that can be moved, by path: `world.KIND.NAME.PROPERTY`."""

    def paths(self) -> list[str]:
        """Every path."""

    def expand(self, pattern: str) -> list[str]:
        """The paths that a pattern with `*` stands for."""

    def at_start_alone(self, path: str) -> bool:
        """True if a knob is for the start of an episode, and not for while the world runs."""

    def get(self, path: str) -> list[float]:
        """A knob's value now."""

    def set(self, values: dict[str, list[float]]) -> None:
        """Give knobs their values."""


class World(Protocol):
    """A simulated world. Thread: one at a time, and not while the core steps it."""

    plan: Plan
    engine: Engine
    readings: list[list[WorldReading | None] | None]
    """per sensor and channel; None: the driver's own twin answers"""
    controls: list[Controls | None]
    """per actuator; None: its own simulated servos move"""

    @property
    def knobs(self) -> "WorldKnobs":
        """Its parts that can be moved, by path."""

    def reset(self) -> None:
        """To the start of an episode; every actuator holds where it stands."""

    def begin(self, values: dict[str, list[float]]) -> None:
        """The same, with these knobs set, and all others as the model has them."""

    def rendered(self, index: int) -> bool:
        """True if a sensor's payload is rendered."""

    def render(self, index: int, payload: Any) -> int:
        """Render a sensor's sample of the present state into a writable buffer; 0, or -1."""

    def picture(self, camera: str | None, height: int, width: int) -> NDArray[np.uint8]:
        """The view of a camera now, for a person; None: the first one."""

    def explain(self, failure: Failure) -> WorldError:
        """The error for a failure that the core reports."""

    @property
    def version(self) -> str:
        """The simulator's name and version: trajectories differ between versions."""

    def close(self) -> None:
        """End what it holds."""


def require(schedule: Schedule) -> None:
    """Raise ScheduleError for a schedule without a world that runs in real time."""
    if schedule.world is None:
        raise schedule.error(
            "world",
            "the table is missing, and --simulate runs the robot in a world; add [world] with a "
            "model, or run it with --lockstep, where the drivers' own twins answer",
        )
    if schedule.world.engine != "mujoco":
        raise schedule.error(
            "world.engine",
            f'{schedule.world.engine!r} runs in lock step alone; write engine = "mujoco" for '
            f"--simulate, or run it with --lockstep",
        )
