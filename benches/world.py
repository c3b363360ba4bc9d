"""A simulated arm in lock step, 1 kHz, against the same model in a bare loop of its simulator.

Both sides step one and the same model, with data of their own, and the simulator as it is imported:
with its clock and its sensors. A sample is the thread's CPU time of 100 cycles.
The bare loop in Python is what one writes without a middleware: set the controls, step, copy the
joints, call the policy. Where no Python runs, the bare loop is the simulator's step, called from C.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benches.distribution import Block, Rounds, show_throughput
from benches.machine import Options
from benches.native import ffi, lib
from inphase import schedule as schedules
from inphase.core.lockstep_config import NativePolicy
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.plan.plan import make
from inphase.schedule import Schedule
from inphase.world.mujoco.package import package
from inphase.world.mujoco.world import MujocoWorld

_HERE = Path(__file__).parent
_CYCLES, _CHUNKS = 100, 20
_WARM = 1000
_GOALS = {"Python": 0.95, "C": 0.95, "none": 0.95}

HOME = np.array([0.3, 0.5, -0.2, -1.5, 0.4, 1.0, 0.6])
STIFF, DAMP = 0.5, 0.02

_FIELDS = 'velocity = { unit = "rad/s", shape = [7] }'
_JOINTS = "[world.actuator.arm]"


@dataclass(frozen=True)
class Case:
    """One robot, and what its bare loop does in a cycle."""

    name: str
    changes: tuple[tuple[str, str], ...] = ()
    """of the schedule's text"""
    step_s: float = 1e-3
    before: int = 0
    """physics steps of a cycle before its command is in effect"""
    after: int = 1
    forward: bool = False
    """sensors are read that want a forward pass"""
    judged: bool = False


PLAIN = Case("joints", judged=True)
DERIVED = Case(
    "joints, force and place of the tool",
    (
        (_FIELDS, f'{_FIELDS}, tcp = {{ unit = "m", shape = [3] }}, force = {{ shape = [3] }}'),
        (
            _JOINTS,
            "[world.sensor.joints.fields]\n"
            'tcp = { sensor = "tcp" }\nforce = { sensor = "force" }\n\n' + _JOINTS,
        ),
    ),
    forward=True,
)
MIDDLE = Case(
    "four physics steps, command in the middle",
    (
        ("act_us = 900", "act_us = 400"),
        ("read_deadline_us = 800", "read_deadline_us = 300"),
        ('keyframe = "bent"', 'keyframe = "bent"\nstep_us = 250'),
    ),
    step_s=250e-6,
    before=2,
    after=2,
)
CASES = (PLAIN, DERIVED, MIDDLE)


def law(position: NDArray[np.float64], velocity: NDArray[np.float64]) -> NDArray[np.float64]:
    """What both policies in Python compute."""
    command: NDArray[np.float64] = HOME + STIFF * (position - HOME) - DAMP * velocity
    return command


def policy(frame: Frame) -> NDArray[np.float64]:
    """The policy as its user writes it."""
    joints = frame["joints"].value
    return law(joints["position"], joints["velocity"])


@contextmanager
def schedule_of(case: Case) -> Iterator[Schedule]:
    """The case's schedule."""
    text = (_HERE / "world.toml").read_text().replace("world.xml", str(_HERE / "world.xml"))
    for old, new in case.changes:
        assert old in text, old
        text = text.replace(old, new)
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        path = Path(folder) / "world.toml"
        path.write_text(text)
        yield schedules.load(path)


def bare_python(case: Case, model: Any, data: Any) -> Callable[[int], None]:
    """The loop without a middleware; a command is in effect one cycle after what it answers."""
    mujoco = package()
    step, forward = mujoco.mj_step, mujoco.mj_forward
    before, after = case.before, case.after

    def one(cycles: int) -> None:
        for _ in range(cycles):
            data.ctrl[:] = law(data.qpos.copy(), data.qvel.copy())
            step(model, data)

    def with_forward(cycles: int) -> None:
        for _ in range(cycles):
            data.ctrl[:] = law(data.qpos.copy(), data.qvel.copy())
            step(model, data)
            forward(model, data)
            data.sensordata.copy()

    def in_the_middle(cycles: int) -> None:
        for _ in range(cycles):
            command = law(data.qpos.copy(), data.qvel.copy())
            step(model, data, nstep=before)
            data.ctrl[:] = command
            step(model, data, nstep=after)

    return in_the_middle if before else with_forward if case.forward else one


def _timed(run: Callable[[int], Any]) -> Block:
    """A block of chunks."""

    def block() -> NDArray[np.int64]:
        took = np.zeros(_CHUNKS, np.int64)
        for chunk in range(_CHUNKS):
            start = time.thread_time_ns()
            run(_CYCLES)
            took[chunk] = time.thread_time_ns() - start
        return took

    return block


def bare_c(case: Case, world: MujocoWorld, model: Any, data: Any) -> Block:
    """The simulator's functions, called from C."""
    engine = world.engine
    forward = engine.forward if case.forward else 0
    bare = ffi.new("struct bench_world *")
    bare.step = ffi.cast("void(*)(const void *, void *)", engine.step)
    bare.forward = ffi.cast("void(*)(const void *, void *)", forward)
    bare.model, bare.data = ffi.cast("void *", model._address), ffi.cast("void *", data._address)
    bare.steps = case.before + case.after

    unused = ffi.new("int64_t[1]")
    return _timed(lambda cycles: lib.bench_world_block(bare, 1, cycles, unused))


def _measure(case: Case, kind: str, schedule: Schedule, rounds: int) -> dict[str, Any]:
    mujoco = package()
    goal = _GOALS[kind] if case.judged else None
    title = {"Python": "a policy in Python", "C": "a policy in C", "none": "no policy"}[kind]
    figure = Rounds(f"{case.name}; {title}", goal=None if goal is None else 1 / goal)
    described = ffi.new("struct bench_law *", [list(HOME), STIFF, DAMP])
    native = NativePolicy(
        int(ffi.cast("intptr_t", ffi.addressof(lib, "bench_world_policy"))),
        int(ffi.cast("intptr_t", described)),
    )
    world = MujocoWorld(make(schedule))
    model = mujoco.MjModel.from_xml_path(str(_HERE / "world.xml"))
    model.opt.timestep = case.step_s
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    if kind == "none":
        schedule = replace(schedule, policy=None)
    with LockStep(
        schedule,
        call=policy if kind == "Python" else None,
        native=native if kind == "C" else None,
        digest=False,
        world=world,
    ) as robot:
        ours = _timed(robot.run)
        bare = (
            _timed(bare_python(case, model, data))
            if kind == "Python"
            else bare_c(case, world, model, data)
        )
        robot.run(_WARM)
        bare()
        for _ in range(rounds):
            figure.add(bare(), ours(), bare())
        frame = robot.step()
        assert frame["joints"].status == "FRESH"
        assert kind == "none" or frame.command["arm"].flags == ("WRITTEN",)
    world.close()
    result = figure.result()
    show_throughput(result, _CYCLES, "cycles", goal)
    return result


def run(options: Options) -> list[dict[str, Any]]:
    """Each robot with a policy in Python, with one in C, and with none."""
    results = []
    for case in CASES:
        with schedule_of(case) as schedule:
            kinds = ("Python", "C") if case.forward or case.before else ("Python", "C", "none")
            results += [_measure(case, kind, schedule, options.rounds) for kind in kinds]
    return results
