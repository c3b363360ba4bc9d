"""Robots of many joints: hands and humanoids have more than an arm."""

from pathlib import Path

import numpy as np
import pytest

import models
from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.plan import plan as planning

pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

SCHEDULE = """
name = "many"
[cycle]
rate_hz = 200
read_deadline_us = 1200
act_us = 2000
realtime = "prefer"
[device.body]
driver = "simulated"
joints = {joints}
fields = {{ {fields} }}
[sensor.joints]
device = "body"
trigger_us = 0
max_age_ms = 20
[actuator.body]
device = "body"
feedback = "joints.position"
limits = {{ position = [-3, 3], velocity = 3, acceleration = 300, step = 0.5 }}
[policy]
model = "policy.onnx"
inputs = {{ obs = ["joints.position", "joints.velocity"] }}
outputs = {{ action = "body" }}
"""
UNITS = {"position": "rad", "velocity": "rad/s", "acceleration": "rad/s^2", "effort": "N m"}


def many(folder: Path, joints: int, dtype: str = "<f8") -> Path:
    """A body of so many joints, which a network moves; dtype: of its efforts."""
    types = {"effort": dtype}
    fields = ", ".join(
        f'{name} = {{ unit = "{unit}", shape = [{joints}], dtype = "{types.get(name, "<f8")}" }}'
        for name, unit in UNITS.items()
    )
    data = models.network((2 * joints, 16, joints), gain=0.001, residual=True)
    (folder / "policy.onnx").write_bytes(data)
    path = folder / "many.toml"
    path.write_text(SCHEDULE.format(joints=joints, fields=fields))
    return path


@pytest.mark.parametrize("joints", [20, 32, 43, 64])
def test_every_joint_is_measured_and_moved(tmp_path: Path, joints: int) -> None:
    with LockStep(load(many(tmp_path, joints))) as robot:
        frames = [robot.step().copy() for _ in range(60)]
        assert robot.follower.reader.counts()["commands"] >= 60
    act, sample = frames[-1].command["body"], frames[-1]["joints"]
    assert act.applied.shape == (joints,) and "WRITTEN" in act.flags
    assert sample.status == "FRESH"
    assert np.all(act.applied != 0), "each is commanded"
    np.testing.assert_allclose(sample.value["position"], act.applied, rtol=0, atol=0.02)


def test_a_sensor_of_more_numbers_than_the_core_looks_at_is_no_feedback(tmp_path: Path) -> None:
    """The advice makes one that is."""
    path = many(tmp_path, 64)
    text = path.read_text().replace(
        "fields = {", 'fields = { place = { unit = "m", shape = [9] },', 1
    )
    path.write_text(text)
    with pytest.raises(ScheduleError, match=r"feedback: joints has 265 .*256 .*float32"):
        planning.make(load(path))
    path.write_text(
        text.replace('unit = "m", shape = [9]', 'unit = "m", shape = [9], dtype = "<f4"')
    )
    with LockStep(load(path)) as robot:
        assert robot.run(20) == 20


@pytest.mark.parametrize("table", ["range", "rate"])
def test_a_check_that_the_core_would_leave_out_is_refused(tmp_path: Path, table: str) -> None:
    path = many(tmp_path, 64)
    value = "[-3.0, 3.0]" if table == "range" else "9.0"
    text = path.read_text().replace(
        "fields = {", 'fields = { place = { unit = "m", shape = [9] },', 1
    )
    text = text.replace('feedback = "joints.position"\n', "")
    text = text.replace(
        "max_age_ms = 20\n", f"max_age_ms = 20\n{table} = {{ position = {value} }}\n"
    )
    path.write_text(text)
    with pytest.raises(ScheduleError, match=rf"sensor\.joints\.{table}\.position: joints has 265"):
        planning.make(load(path))


def test_more_joints_than_an_actuator_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"device\.body\.joints: .*<= 64, got 65"):
        planning.make(load(many(tmp_path, 65)))
