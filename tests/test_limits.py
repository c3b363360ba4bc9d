"""Limits and workspaces in a schedule: every key of them deleted and altered, and what is refused;
and a robot in lock step whose tool stays in its box.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.plan import plan
from inphase.schedule import load

KEYS = {
    "position": "[[-2.6, 2.6], [-1.8, 1.8], [-2, 2]]",
    "velocity": "2.0",
    "acceleration": "20.0",
    "step": "0.2",
    "jerk": "[900.0, 900.0, 900.0]",
}
ROBOT = """\
name = "limits"
[cycle]
rate_hz = 500
read_deadline_us = 1300
act_us = 1700
[device.arm]
driver = "dynamixel"
port = "/tmp/inphase-limits/arm"
ids = [1, 2, 3]
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 10
[actuator.arm]
device = "arm"
feedback = "joints.position"
[actuator.arm.limits]
"""
NUMBERS = {
    "a text": '"fast"',
    "a truth value": "true",
    "a table": "{ value = 1.0 }",
    "an empty list": "[]",
    "a list of texts": '["1", "2", "3"]',
    "too few": "[1.0, 1.0]",
    "too many": "[1.0, 1.0, 1.0, 1.0]",
    "pairs": "[[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]",
    "zero": "0",
    "a zero among them": "[1.0, 0.0, 1.0]",
    "negative": "-2.0",
    "nan": "nan",
    "infinite": "inf",
    "a nan among them": "[1.0, nan, 1.0]",
    "an infinity among them": "[1.0, inf, 1.0]",
    "a date": "2026-11-25",
}
PAIRS = {
    "a number": "2.6",
    "a text": '"wide"',
    "an empty list": "[]",
    "one number": "[2.6]",
    "three numbers": "[-1.0, 0.0, 1.0]",
    "the wrong way round": "[2.6, -2.6]",
    "no width": "[1.0, 1.0]",
    "one without width": "[[-2.6, 2.6], [0.5, 0.5], [-2, 2]]",
    "too few": "[[-2.6, 2.6], [-2, 2]]",
    "too many": "[[-1, 1], [-1, 1], [-1, 1], [-1, 1]]",
    "a pair and a number": "[[-2.6, 2.6], 1.8, [-2, 2]]",
    "a pair of three": "[[-2.6, 2.6, 0], [-1.8, 1.8, 0], [-2, 2, 0]]",
    "nan": "[nan, 2.6]",
    "infinite": "[-inf, inf]",
    "one infinite": "[[-2.6, 2.6], [-1.8, inf], [-2, 2]]",
    "a table": "{ low = -2.6, high = 2.6 }",
}
ALTERED = [("position", way) for way in PAIRS] + [
    (key, way) for key in KEYS if key != "position" for way in NUMBERS
]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[dict[str, str]], plan.Plan]:
    """The plan of a robot with those limits."""

    def planned(limits: dict[str, str]) -> plan.Plan:
        path = tmp_path / "limits.toml"
        path.write_text(ROBOT + "".join(f"{key} = {value}\n" for key, value in limits.items()))
        return plan.make(load(path))

    return planned


Make = Callable[[dict[str, str]], plan.Plan]


def test_limits_that_hold_reach_the_core_per_channel(make: Make) -> None:
    limits = make(KEYS).actuators[0].limits
    assert [one[:6] for one in limits] == [
        (-2.6, 2.6, 2.0, 20.0, 0.2, 900.0),
        (-1.8, 1.8, 2.0, 20.0, 0.2, 900.0),
        (-2.0, 2.0, 2.0, 20.0, 0.2, 900.0),
    ]


def test_a_jerk_that_is_left_out_is_not_bounded(make: Make) -> None:
    without = {key: value for key, value in KEYS.items() if key != "jerk"}
    assert make(without).actuators[0].limits[0][:6] == (-2.6, 2.6, 2.0, 20.0, 0.2, 0.0)


@pytest.mark.parametrize("key", [key for key in KEYS if key != "jerk"])
def test_a_limit_that_is_missing_is_refused_with_what_to_add(make: Make, key: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        make({name: value for name, value in KEYS.items() if name != key})
    assert re.search(
        rf"limits\.toml:\d+: actuator\.arm\.limits\.{key}: no limits, no motion: .*; add {key} =",
        str(caught.value),
    )


@pytest.mark.parametrize("key", KEYS)
def test_a_limit_that_is_misspelt_is_refused(make: Make, key: str) -> None:
    altered = {f"{name}s" if name == key else name: value for name, value in KEYS.items()}
    with pytest.raises(ScheduleError, match=rf"limits\.toml:\d+: actuator\.arm\.limits\.{key}"):
        make(altered)


@pytest.mark.parametrize(("key", "way"), ALTERED, ids=[f"{k}: {w}" for k, w in ALTERED])
def test_a_limit_that_is_altered_is_refused_with_file_key_and_what_to_do(
    make: Make, key: str, way: str
) -> None:
    value = PAIRS[way] if key == "position" else NUMBERS[way]
    with pytest.raises(ScheduleError) as caught:
        make({**KEYS, key: value})
    found = re.search(
        r"limits\.toml:(\d+): actuator\.arm\.limits(\.[a-z]+)?(\[\d+\])*: (.*); (.*)",
        str(caught.value),
    )
    assert found, str(caught.value)

    # lists of unequal length are no one key's fault: the table is named, with all of them
    assert found[2] == f".{key}" or (found[2] is None and key in found[4]), str(caught.value)
    line = (ROBOT.count("\n") + list(KEYS).index(key)) if found[2] else ROBOT.count("\n") - 1
    assert int(found[1]) == line + 1, str(caught.value)
    assert found[5]


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        ({"acceleration": "1.5"}, "acceleration"),
        ({"jerk": "30.0"}, "jerk"),
        ({"velocity": "30.0"}, "acceleration"),
    ],
)
def test_limits_whose_ramp_outlasts_a_stop_are_refused(
    make: Make, limits: dict[str, str], key: str
) -> None:
    with pytest.raises(
        ScheduleError, match=rf"limits\.{key}: a ramp .* takes .* s .*; raise {key}"
    ):
        make({**KEYS, **limits})


@pytest.mark.parametrize("value", ["1e308", "1e16"])
@pytest.mark.parametrize("key", KEYS)
def test_a_limit_that_no_device_has_is_refused_by_its_own_key(
    make: Make, key: str, value: str
) -> None:
    altered = f"[-1, {value}]" if key == "position" else value
    with pytest.raises(
        ScheduleError, match=rf"limits\.{key}: too large for a limit, got 1e\+\d+; give"
    ):
        make({**KEYS, key: altered})


@pytest.mark.parametrize(
    ("step", "jerk", "noted"),
    [("0.111", "2000", False), ("0.09", "2000", True), ("0.11", "900", True)],
)
def test_a_step_that_is_shorter_than_a_ramp_is_noted(
    make: Make, step: str, jerk: str, noted: bool
) -> None:
    # 2 rad/s at 20 rad/s^2 are 0.1 rad, and 0.01 or 0.022 rad for the jerk
    notes = make({**KEYS, "step": step, "jerk": jerk}).notes
    assert any("does not reach its velocity of 2" in note for note in notes) == noted


# ---- the workspace ---------------------------------------------------------------------------

BOX = {
    "low": "[-0.2, -0.3, 0.1]",
    "high": "[0.45, 0.3, 0.9]",
    "tool": "[0, 0, 0.1]",
}
JOINTS = (
    "{ axis = [0, 0, 1], translation = [0, 0, 0.1] }",
    "{ axis = [0, 2, 0], translation = [0, 0, 0.2] }",
    "{ axis = [0, 1, 0], translation = [0, 0, 0.3] }",
)


def workspace(box: dict[str, str], *joints: str) -> str:
    """The table of a workspace."""
    lines = [f"{key} = {value}" for key, value in box.items()]
    chain = ",\n".join(joints)
    return "\n".join(["[actuator.arm.workspace]", *lines, f"joints = [\n{chain}\n]", ""])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a schedule with good limits and this workspace."""

    def written(table: str) -> Path:
        path = tmp_path / "workspace.toml"
        limits = {**KEYS, "jerk": "2000.0", "position": "[-2.6, 2.6]"}
        text = ROBOT + "".join(f"{key} = {value}\n" for key, value in limits.items())
        path.write_text(text + table)
        return path

    return written


Write = Callable[[str], Path]
BAD_WORKSPACES = {
    "no low": (workspace({"high": BOX["high"]}, *JOINTS), "low", "add low = a corner"),
    "no high": (workspace({"low": BOX["low"]}, *JOINTS), "high", "add high = a corner"),
    "no joints": (workspace(BOX), r"joints", "a list of tables"),
    "a flat corner": (workspace({**BOX, "low": "[0, 0]"}, *JOINTS), "low", "length"),
    "a corner of texts": (
        workspace({**BOX, "low": '["a", "b", "c"]'}, *JOINTS),
        r"low\[0\]",
        "'a'",
    ),
    "no height": (workspace({**BOX, "low": "[-0.2, -0.3, 0.9]"}, *JOINTS), "low", "along z"),
    "nan": (workspace({**BOX, "high": "[nan, 1, 1]"}, *JOINTS), r"high\[0\]", "finite"),
    "infinite": (workspace({**BOX, "tool": "[0, inf, 0]"}, *JOINTS), r"tool\[1\]", "finite"),
    "an axis of no length": (
        workspace(BOX, "{ axis = [0, 0, 0] }"),
        r"joints\[0\].axis",
        "direction",
    ),
    "no axis": (workspace(BOX, "{ kind = 'prismatic' }"), r"joints\[0\].axis", "add axis"),
    "another kind": (
        workspace(BOX, "{ axis = [0, 0, 1], kind = 'ball' }"),
        r"joints\[0\].kind",
        "prismatic",
    ),
    "more joints than channels": (workspace(BOX, *JOINTS, JOINTS[0]), "joints", "3 channels"),
    "an unknown key": (
        workspace({**BOX, "radius": "1"}, *JOINTS),
        "radius",
        "joints, low, tool|high",
    ),
}


@pytest.mark.parametrize("name", BAD_WORKSPACES)
def test_a_wrong_workspace_is_refused_with_file_key_and_what_to_do(write: Write, name: str) -> None:
    table, key, word = BAD_WORKSPACES[name]
    with pytest.raises(ScheduleError) as caught:
        plan.make(load(write(table)))
    pattern = rf"workspace\.toml:\d+: actuator\.arm\.workspace\.{key}: .*; .*"
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert re.search(word, str(caught.value)), str(caught.value)


def tool(q: Any) -> Any:
    """Where the tool of JOINTS is, by trigonometry."""
    reach = 0.3 * math.sin(q[1]) + 0.1 * math.sin(q[1] + q[2])
    height = 0.3 + 0.3 * math.cos(q[1]) + 0.1 * math.cos(q[1] + q[2])
    return np.array([reach * math.cos(q[0]), reach * math.sin(q[0]), height])


def test_the_tool_stays_in_its_box_and_the_frame_says_why(write: Write) -> None:
    low, high = np.array([-0.2, -0.3, 0.1]), np.array([0.25, 0.1, 0.72])
    table = workspace({**BOX, "high": "[0.25, 0.1, 0.72]"}, *JOINTS)
    goals = [[0.5, 1.2, 1.0], [2.5, 2.0, 2.0], [-2.0, -1.5, 0.0], [0.0, 0.5, -0.5]]
    state: dict[str, Any] = {}

    def policy(frame: Frame) -> Any:
        here = frame["joints"].value["position"]
        if frame["joints"].sequence < 0:
            return None
        command = state.setdefault("goal", here.copy())
        way = np.array(goals[frame.cycle // 1000 % 4]) - command
        state["goal"] = command + np.clip(way, -0.0015, 0.0015) * min(1, frame.cycle / 300)
        return state["goal"]

    with LockStep(load(write(table)), call=policy, seed=1) as robot:
        frames = [robot.step().copy() for _ in range(5000)]
    acts = [frame.command["arm"] for frame in frames[2:]]
    points = np.array([tool(act.applied) for act in acts])
    assert np.all(points >= low - 1e-12) and np.all(points <= high + 1e-12)
    held = [act for act in acts if act.reason == "workspace"]
    assert len(held) > 500
    assert all("LIMITED" in act.flags for act in held)
    free = [act for act in acts if act.reason == "none"]
    assert len(free) > 500 and not any("RAMPING" in act.flags for act in acts)
    speeds = np.diff([act.applied for act in acts], axis=0)
    assert np.all(np.abs(np.diff(speeds, axis=0)) <= 20.0 * 0.002**2 + 1e-9)
