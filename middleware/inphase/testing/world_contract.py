"""The contract that every simulated world keeps, as a pytest class to inherit.

    class TestMujoco(WorldContract):
        keys = ""

`keys` are the lines of `[world]` that choose the world. The contract brings a model: an arm of two
joints, a ball that falls, and a box at rest. A world refuses by name whatever it cannot do, with a
ScheduleError of the key that asks for it. It never ignores that.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError, WorldError
from inphase.frames.frame import Frame
from inphase.schedule import Schedule

_MODEL = """<mujoco model="contract">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.0005"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <body name="upper" pos="0 0 1">
      <joint name="one" axis="0 1 0" damping="0.5" armature="0.02" range="-3 3"/>
      <geom name="upper" type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="1"/>
      <body name="fore" pos="0.3 0 0">
        <joint name="two" axis="0 1 0" damping="0.3" armature="0.02" range="-3 3"/>
        <geom name="fore" type="capsule" fromto="0 0 0 0.2 0 0" size="0.03" mass="0.5"/>
        <site name="tip" pos="0.2 0 0"/>
      </body>
    </body>
    <body name="ball" pos="1 0 3">
      <freejoint/>
      <geom name="ball" size="0.05" mass="0.2"/>
      <site name="ball"/>
    </body>
    <body name="box" pos="-1 0 0.05">
      <freejoint/>
      <geom name="box" type="box" size="0.05 0.05 0.05" mass="0.4"/>
      <site name="box" size="0.1"/>
    </body>
  </worldbody>
  <actuator>
    <position name="one" joint="one" kp="200" kv="10" forcerange="-50 50"/>
    <position name="two" joint="two" kp="100" kv="5"/>
  </actuator>
  <sensor>
    <framepos name="tip" objtype="site" objname="tip"/>
    <accelerometer name="held" site="tip"/>
    <accelerometer name="falls" site="ball"/>
    <gyro name="turns" site="tip"/>
    <force name="carried" site="tip"/>
    <touch name="stands" site="box"/>
  </sensor>
</mujoco>
"""
_SCHEDULE = """
name = "contract"
[cycle]
rate_hz = 200
read_deadline_us = 3000
act_us = 3500
realtime = "prefer"

[device.limb]
driver = "simulated"
joints = 2
latency_us = 300
[device.limb.fields]
position = {{ unit = "rad", shape = [2] }}
velocity = {{ unit = "rad/s", shape = [2] }}
[device.ball]
driver = "simulated"
latency_us = 300
fields = {{ place = {{ unit = "m", shape = [3] }} }}
[device.more]
driver = "simulated"
latency_us = 300
fields = {{ value = {{ unit = "1", shape = [{count}] }} }}

[sensor.joints]
device = "limb"
trigger_us = 0
max_age_ms = 20
[sensor.ball]
device = "ball"
trigger_us = 1234
max_age_ms = 20
[sensor.more]
device = "more"
trigger_us = 0
max_age_ms = 20

[actuator.limb]
device = "limb"
feedback = "joints.position"
first_command = "approach"
limits = {{ position = [-2.5, 2.5], velocity = 4.0, acceleration = 40.0, step = 0.5 }}

[world]
model = "contract.xml"
{keys}
[world.sensor.joints]
joints = ["one", "two"]
[world.sensor.ball.fields]
place = {{ body_position = "ball" }}
[world.sensor.more.fields]
value = {{ {source} }}
[world.actuator.limb]
actuators = ["one", "two"]
"""
_TIP = 'sensor = "tip"'
_PLACES = 'site_position = ["tip", "box"]'
_SETTLED = 300
"""cycles after which the arm and the box are at rest, and the ball still falls or lies"""
_EARTH = 9.81
_FALL_S = 0.7
"""the ball meets the floor later"""

_READINGS: dict[str, tuple[str, int, Callable[[dict[str, Any]], list[float] | None]]] = {
    "joint_velocity": ('joint_velocity = ["one", "two"]', 2, lambda _: [0.0, 0.0]),
    "joint_acceleration": ('joint_acceleration = ["one", "two"]', 2, lambda _: [0.0, 0.0]),
    "joint_effort": (
        'joint_effort = ["one", "two"]',
        2,
        lambda q: [
            -_EARTH * (0.15 * math.cos(q["one"]) + 0.5 * 0.3 * math.cos(q["one"]) + _fore(q)),
            -_EARTH * _fore(q),
        ],
    ),
    "site_position": (
        'site_position = "tip"',
        3,
        lambda q: [
            0.3 * math.cos(q["one"]) + 0.2 * math.cos(q["one"] + q["two"]),
            0.0,
            1 - 0.3 * math.sin(q["one"]) - 0.2 * math.sin(q["one"] + q["two"]),
        ],
    ),
    "site_rotation": ('site_rotation = "box"', 9, lambda _: [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    "body_orientation": ('body_orientation = "box"', 4, lambda _: [1.0, 0.0, 0.0, 0.0]),
    "body_position": ('body_position = "box"', 3, lambda _: [-1.0, 0.0, 0.05]),
    "gyro": ('sensor = "turns"', 3, lambda _: [0.0, 0.0, 0.0]),
    "accelerometer": (
        'sensor = "held"',
        3,
        lambda q: [
            -_EARTH * math.sin(q["one"] + q["two"]),
            0.0,
            _EARTH * math.cos(q["one"] + q["two"]),
        ],
    ),
    "force": (
        'sensor = "carried"',
        3,
        lambda q: [
            -0.5 * _EARTH * math.sin(q["one"] + q["two"]),
            0.0,
            0.5 * _EARTH * math.cos(q["one"] + q["two"]),
        ],
    ),
    "touch": ('sensor = "stands"', 1, lambda _: [0.4 * _EARTH]),
}
"""quantity -> its source, its numbers, and what they are when everything is at rest"""

_KNOBS = {
    "world.option.gravity": [0.0, 0.0, -3.0],
    "world.option.wind": [8.0, 0.0, 0.0],
    "world.body.fore.mass": 2.0,
    "world.body.fore.inertia": [0.1, 0.1, 0.1],
    "world.body.upper.pos": [0.0, 0.0, 1.2],
    "world.body.upper.quat": [0.924, 0.0, 0.383, 0.0],
    "world.body.fore.gravcomp": 0.5,
    "world.body.ball.pos": [1.0, 0.0, 2.5],
    "world.geom.box.size": [0.05, 0.05, 0.08],
    "world.geom.box.friction": [0.01, 0.005, 0.0001],
    "world.joint.one.damping": 3.0,
    "world.joint.one.armature": 0.5,
    "world.joint.one.frictionloss": 0.8,
    "world.joint.one.stiffness": 20.0,
    "world.joint.one.position": 0.4,
    "world.actuator.one.kp": 60.0,
    "world.actuator.one.kv": 30.0,
    "world.actuator.one.forcerange": [-1.0, 1.0],
}
"""what may be drawn of that model and moves something in it"""
_MOVES_NOTHING = {"world.geom.box.friction", "world.option.wind"}
"""in this model: the box lies, and there is no air"""


def _fore(q: dict[str, float]) -> float:
    """Moment of the second link about its own joint, without gravity."""
    return 0.5 * 0.1 * math.cos(q["one"] + q["two"])


class Sweep:
    """A policy that moves both joints: a function of the cycle alone."""

    def __call__(self, frame: Frame) -> list[float]:
        """Targets in rad."""
        return [0.4 * math.sin(frame.cycle / 40), -0.3 * math.sin(frame.cycle / 25)]


class WorldContract:
    """The tests of every world. Inherit it, and set `keys`."""

    keys: ClassVar[str] = ""

    def schedule(
        self, folder: Path, source: str = _TIP, count: int = 3, more: str = "", model: str = _MODEL
    ) -> Schedule:
        """The contract's schedule in a folder. source: of one more sensor with `count` numbers."""
        folder.joinpath("contract.xml").write_text(model)
        path = folder / "contract.toml"
        path.write_text(_SCHEDULE.format(keys=self.keys, source=source, count=count) + more)
        return schedules.load(path)

    # ---- determinism -----------------------------------------------------------------------

    def test_a_rerun_gives_the_same_bytes(self, tmp_path: Path) -> None:
        """A world that is made anew, with all that its frames say."""
        described = self.schedule(tmp_path)
        first, second = (_run(described, 120) for _ in range(2))
        assert first == second

    def test_an_episode_does_not_depend_on_the_one_before(self, tmp_path: Path) -> None:
        """One world for several episodes, of which each draws masses and a start."""
        draws = (
            '[randomise]\n"world.body.fore.mass" = { uniform = [0.2, 1.5] }\n'
            '"world.joint.one.position" = { uniform = [-0.3, 0.3] }\n'
        )
        described = self.schedule(tmp_path, more=draws)
        alone = [_run(described, 100, episode=number) for number in (1, 2)]
        assert alone[0] != alone[1], "what is drawn changes nothing"
        with LockStep(described) as owner:
            world = owner.world
            assert world is not None
            again = [_run(described, 100, episode=n, world=world) for n in (1, 2, 1)]
        assert again == [*alone, alone[0]]

    # ---- time --------------------------------------------------------------------------------

    def test_a_body_falls_by_the_stamps_of_its_samples(self, tmp_path: Path) -> None:
        """The sensor's trigger lies between two physics steps."""
        steps = self.schedule(tmp_path)
        with LockStep(steps, call=Sweep(), digest=False) as robot:
            samples = [f["ball"] for f in (one.copy() for one in robot.frames(120))]
            step_s = robot.world.engine.step_s if robot.world is not None else 0.0
        start_ns = (samples[0].acquired_ns or 0) - 1_234_000
        checked = 0
        for sample in samples:
            at_s = ((sample.acquired_ns or 0) - start_ns) * 1e-9
            if sample.status != "FRESH" or at_s > _FALL_S:
                continue
            fallen = _EARTH * at_s**2 / 2
            height = float(sample.value["place"][2])
            # the first order's error of any integrator, and that of single precision
            assert abs(3 - fallen - height) < _EARTH * at_s * step_s + 2e-5, f"at {at_s} s"
            checked += 1
        assert checked > 100

    def test_a_cycle_has_its_whole_number_of_steps(self, tmp_path: Path) -> None:
        """However the step is chosen, time is the schedule's."""
        places = []
        for step_us in (250, 500, 1250):
            described = self.schedule(tmp_path)
            text = described.path.read_text()
            described.path.write_text(text.replace("[world]", f"[world]\nstep_us = {step_us}"))
            with LockStep(schedules.load(described.path), call=Sweep(), digest=False) as robot:
                robot.run(100)
                frame = robot.newest()
                assert frame is not None
                places.append(float(frame["ball"].value["place"][2]))
        assert max(places) - min(places) < _EARTH * 0.5 * 1.25e-3

    # ---- sensors -----------------------------------------------------------------------------

    @pytest.mark.parametrize("name", _READINGS)
    def test_a_quantity_is_right_or_refused_by_name(self, tmp_path: Path, name: str) -> None:
        """At rest, where statics say what it is."""
        source, count, expected = _READINGS[name]
        described = self.schedule(tmp_path, source, count)
        try:
            robot = LockStep(described, call=lambda _: [0.3, -0.5], digest=False)
        except ScheduleError as error:
            assert "world.sensor.more.fields.value" in str(error)
            pytest.skip(f"this world refuses it: {error}")
        with robot:
            for _ in range(_SETTLED):
                frame = robot.step()
            one, two = frame["joints"].value["position"]
            value = np.ravel(frame["more"].value["value"])
        wanted = expected({"one": float(one), "two": float(two)})
        np.testing.assert_allclose(value, np.array(wanted), rtol=0.02, atol=0.02)

    def test_the_velocity_is_the_positions_derivative(self, tmp_path: Path) -> None:
        """While it moves."""
        with LockStep(self.schedule(tmp_path), call=Sweep(), digest=False) as robot:
            joints = [f["joints"].value.copy() for f in robot.frames(150)]
        places = np.array([one["position"] for one in joints])
        speeds = np.array([one["velocity"] for one in joints])
        assert np.abs(speeds).max() > 0.5, "it does not move"
        middle = (places[2:] - places[:-2]) / 0.01
        np.testing.assert_allclose(speeds[1:-1], middle, atol=0.03)

    # ---- commands ----------------------------------------------------------------------------

    def test_it_holds_where_it_starts_and_goes_where_it_is_told(self, tmp_path: Path) -> None:
        """A drive's droop under the arm's weight is what its gain says."""
        with LockStep(self.schedule(tmp_path), call=lambda _: [0.0, -0.4], digest=False) as robot:
            first = robot.step()["joints"].value["position"].copy()
            robot.run(_SETTLED)
            frame = robot.newest()
            assert frame is not None
            one, two = (float(v) for v in frame["joints"].value["position"])
        np.testing.assert_allclose(first, [0.0, 0.0], atol=1e-4)
        moment = _EARTH * _fore({"one": one, "two": two})
        assert two == pytest.approx(-0.4 + moment / 100, abs=1e-3)
        whole = moment + _EARTH * (0.15 + 0.15) * math.cos(one)
        assert one == pytest.approx(whole / 200, abs=1e-3)

    # ---- knobs -------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", _KNOBS)
    def test_a_knob_acts_or_is_refused_by_name(self, tmp_path: Path, path: str) -> None:
        """It is never ignored."""
        draw = f'[randomise]\n"{path}" = {_KNOBS[path]}\n'
        described = self.schedule(tmp_path, _PLACES, 6, draw)
        try:
            after = _positions(described)
        except ScheduleError as error:
            assert path in str(error)
            pytest.skip(f"this world refuses it: {error}")
        if path not in _MOVES_NOTHING:
            before = _positions(self.schedule(tmp_path, _PLACES, 6))
            assert not np.allclose(before, after, atol=1e-4), "the knob changes nothing"

    def test_an_unknown_knob_is_refused_with_its_path(self, tmp_path: Path) -> None:
        """Also one of a part that the model has not."""
        for path in ("world.joint.one.colour", "world.body.nobody.mass"):
            with pytest.raises(ScheduleError, match=path.replace(".", r"\.")):
                LockStep(self.schedule(tmp_path, more=f'[randomise]\n"{path}" = 1.0\n'))

    # ---- trouble -----------------------------------------------------------------------------

    def test_a_world_that_diverges_is_an_error_and_no_numbers(self, tmp_path: Path) -> None:
        """Every frame before it is finite, and there is none after it."""
        wild = self.schedule(tmp_path, more='[randomise]\n"world.joint.one.position" = 1e30\n')
        with LockStep(wild, call=Sweep(), digest=False) as robot:
            with pytest.raises(WorldError, match=r"contract\.xml: .*cycle \d+"):
                for frame in robot.frames(400):
                    assert np.isfinite(frame["joints"].value["position"]).all()
            with pytest.raises(WorldError):
                robot.step()
            assert robot.stopped == "world"

    def test_a_model_that_is_not_there_is_refused_with_its_key(self, tmp_path: Path) -> None:
        """And one that no parser reads."""
        described = self.schedule(tmp_path)
        for text in (None, "<mujoco><worldbody>"):
            model = tmp_path / "contract.xml"
            model.unlink(missing_ok=True)
            if text is not None:
                model.write_text(text)
            with pytest.raises(ScheduleError, match=r"world\.model"):
                LockStep(described)

    def test_it_says_its_name_and_version(self, tmp_path: Path) -> None:
        """Trajectories differ between versions."""
        with LockStep(self.schedule(tmp_path), digest=False) as robot:
            assert robot.world is not None
            name, version = robot.world.version.split()
        assert name.isidentifier() and version[0].isdigit()


def _run(described: Schedule, cycles: int, **options: Any) -> str:
    """The digest of a run."""
    with LockStep(described, call=Sweep(), **options) as robot:
        robot.run(cycles)
        return robot.digest()


def _positions(described: Schedule) -> Any:
    """Where everything is in the middle of a sweep, as numbers."""
    with LockStep(described, call=Sweep(), digest=False) as robot:
        rows = [
            [*f["joints"].value["position"], *f["ball"].value["place"], *f["more"].value["value"]]
            for f in robot.frames(60)
        ]
    return np.array(rows)
