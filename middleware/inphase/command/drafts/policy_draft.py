"""A policy to start from, for a schedule that exists: `inphase new policy NAME`, with its test.

It runs as it comes: it sways every joint a little around where it was found.
"""

import re
from pathlib import Path

from inphase.command.drafts.scaffold import check_module_name, class_name, write_new
from inphase.errors import ScheduleError
from inphase.plan import plan as planning
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan
from inphase.plan.validation import load

_HEAD = '''"""A policy for {schedule}: it sways every joint a little around where it was found.

    [policy]
    call = "{name}.py:{cls}"
"""

import math

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame

{tables}

class {cls}:
    """Moves each joint by a tenth of its range and back, towards the middle, in `seconds`."""

    def __init__(self, seconds: float = 4.0) -> None:
        self.rad_ns = 2 * math.pi / (seconds * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget where the robot was: a run begins."""
        self.start: dict[str, NDArray[np.float64]] = {{}}
        self.start_ns = 0

    def __call__(self, frame: Frame) -> dict[str, NDArray[np.float64]] | None:
        """A command for every actuator, in SI. None: no command in this cycle."""
        if not self.start_ns or not self.is_followed(frame):
            if any(frame[sensor].status not in ("FRESH", "HELD") for sensor in SENSORS):
                return None
            self.start, self.start_ns = self.measured(frame), frame.due_ns
        # starts with zero velocity: (1 - cos) / 2
        angle = (frame.due_ns - self.start_ns) * self.rad_ns
        swing = 0.5 - 0.5 * math.cos(angle)
        command = {{name: np.array(values) for name, values in AT_REST.items()}}
        for name, speeds in SPEEDS.items():
            command[name] = math.sin(angle) * np.array(speeds)
        for name, here in self.start.items():
            low, high = np.array(RANGES[name]).T
            towards = np.where(here < (low + high) / 2, 1.0, -1.0)
            command[name] = here + towards * swing * np.minimum(0.1 * (high - low), SWAY_MAX)
        return command

    def is_followed(self, frame: Frame) -> bool:
        """True while the robot takes the commands; the first ones are where it stands."""
        return all("WRITTEN" in act.flags for act in frame.command)

    def measured(self, frame: Frame) -> dict[str, NDArray[np.float64]]:
        """Where the joints are, by actuator."""
        return {{
{measured}
        }}
'''
_TEST = '''"""{name}.py with {schedule}, in lock step: on virtual time, without a robot."""

from pathlib import Path

import numpy as np

from inphase import load
from inphase.testing import assert_same_frames

ROBOT = load(Path(__file__).with_name("{schedule}"))
POLICY = "{name}.py:{cls}"
ACTUATORS = {actuators}
CYCLES = {cycles}


def test_every_command_is_accepted_and_the_joints_move(lockstep):
    frames = [frame.copy() for frame in lockstep(ROBOT, policy=POLICY, seed=1).frames(CYCLES)]
    for name in ACTUATORS:
        acts = [frame.command[name] for frame in frames[5:]]
        assert not [act.reason for act in acts if "INVALID" in act.flags]
        assert all("WRITTEN" in act.flags for act in acts)
{moves}

def test_the_same_seed_gives_the_same_run(lockstep):
    one, other = (lockstep(ROBOT, policy=POLICY, seed=2) for _ in range(2))
    assert_same_frames(one.frames(50), other.frames(50))
'''
_MOVES = """        if name in {positions}:
            asked = np.array([act.requested for act in acts])
            assert (np.ptp(asked, axis=0) > 0).all()
"""
_CONFTEST = 'pytest_plugins = ["inphase.testing"]\n'
_TABLE = re.compile(r"^\s*\[policy\]", re.MULTILINE)


def new_policy(name: str, folder: Path, schedule: Path | None) -> list[Path]:
    """Write NAME.py, its test, and a conftest.py where there is none; name it in the schedule.

    schedule: None is the only one in the folder. The new files, and the schedule where it was
    added to. Raises ScheduleError; nothing is written then.
    """
    check_module_name(name, "policy", folder)
    schedule = _only_schedule(folder) if schedule is None else schedule
    plan = planning.make(load(schedule))
    made = write(name, plan)
    text = schedule.read_text()
    if not _TABLE.search(text):
        schedule.write_text(f"{text.rstrip()}\n\n{lines(name)}")
        made.append(schedule)
    return made


def lines(name: str) -> str:
    """The lines of a schedule that name the policy."""
    return f'[policy]\ncall = "{name}.py:{class_name(name)}"\n'


def files(name: str, folder: Path) -> tuple[Path, Path]:
    """The policy and its test."""
    return folder / f"{name}.py", folder / f"test_{name}.py"


def write(name: str, plan: Plan) -> list[Path]:
    """Write a policy and its test beside the schedule of a plan; the new files."""
    schedule = plan.schedule
    folder = schedule.path.parent
    if not plan.actuators:
        raise ScheduleError(
            f"{schedule.path} has no actuator: nothing takes a policy's commands; add an "
            f"[actuator.NAME] with limits"
        )
    policy, test = files(name, folder)
    texts = {policy: _policy(name, plan), test: _test(name, plan)}
    if not (folder / "conftest.py").exists():
        texts[folder / "conftest.py"] = _CONFTEST
    return write_new(texts)


def _only_schedule(folder: Path) -> Path:
    found = sorted(folder.glob("*.toml"))
    found = [path for path in found if re.search(r"^\[cycle\]", path.read_text(), re.MULTILINE)]
    if len(found) != 1:
        named = ", ".join(path.name for path in found) or "none"
        raise ScheduleError(
            f"one schedule is needed in {folder.resolve()}, found {named}; name it: --schedule FILE"
        )
    return found[0]


def _policy(name: str, plan: Plan) -> str:
    positions = [one for one in plan.actuators if _sways(one)]
    turning = [one for one in plan.actuators if one.schedule.mode == "velocity"]
    others = [one for one in plan.actuators if one not in positions + turning]
    sensors = [
        one.schedule.feedback.partition(".")[0] for one in positions if one.schedule.feedback
    ]
    tables = [
        "# ends of the positions [rad or m], as in the schedule's limits",
        _dict("RANGES", "dict[str, list[list[float]]]", {a.name: _range(a) for a in positions}),
        "SWAY_MAX = 0.2  # rad or m",
        "# a tenth of the velocities [rad/s or m/s] in the schedule's limits",
        _dict("SPEEDS", "dict[str, list[float]]", {a.name: _speeds(a) for a in turning}),
        "# commands of everything else",
        _dict("AT_REST", "dict[str, list[float]]", {a.name: _rest(a) for a in others}),
        f"SENSORS = {sorted(set(sensors))!r}".replace("'", '"'),
        "",
    ]
    return _HEAD.format(
        schedule=plan.schedule.path.name,
        name=name,
        cls=class_name(name),
        tables="\n".join(tables),
        measured="\n".join(_measured(one) for one in positions),
    )


def _test(name: str, plan: Plan) -> str:
    positions = [
        one.name for one in plan.actuators if one.schedule.mode in ("position", "velocity")
    ]
    moves = _MOVES.format(positions=positions) if positions else ""
    cycles = max(60, round(2e9 / plan.schedule.cycle.period_ns))  # half a swing
    return _TEST.format(
        schedule=plan.schedule.path.name,
        name=name,
        cls=class_name(name),
        actuators=[one.name for one in plan.actuators],
        cycles=min(cycles, 2000),
        moves=moves,
    ).replace("'", '"')


def _sways(actuator: ActuatorPlan) -> bool:
    return actuator.schedule.mode == "position"


def _range(actuator: ActuatorPlan) -> list[list[float]]:
    return [[float(end) for end in one.range] for one in actuator.limits]


def _speeds(actuator: ActuatorPlan) -> list[float]:
    return [0.1 * float(one.velocity) for one in actuator.limits]


def _rest(actuator: ActuatorPlan) -> list[float]:
    return [float(one.safe) for one in actuator.limits]


def _measured(actuator: ActuatorPlan) -> str:
    name, feedback = actuator.name, actuator.schedule.feedback
    if feedback is None:  # it moves blind: its last command is all that is known
        return f'            "{name}": np.nan_to_num(frame.command["{name}"].applied),'
    sensor, _, field = feedback.partition(".")
    value = f'frame["{sensor}"].value["{field}"]'
    return f'            "{name}": np.atleast_1d({value}).astype(float),'


def _dict(name: str, kind: str, rows: dict[str, list[float]] | dict[str, list[list[float]]]) -> str:
    """A table of Python, a row per actuator; long rows go over lines as formatters break them."""
    if not rows:
        return f"{name}: {kind} = {{}}"
    out = [f"{name}: {kind} = {{"]
    for key, values in rows.items():
        row = f'    "{key}": {values},'
        if len(row) <= 100:
            out.append(row)
        else:
            out += [f'    "{key}": [', *(f"        {value}," for value in values), "    ],"]
    return "\n".join([*out, "}"])
