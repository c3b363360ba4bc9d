"""A MuJoCo world in lock step: what samples say is the state of the instant they are stamped with.

Every sample is held against a world of its own that is stepped here, in Python, from nothing but
what the frames say was commanded and when.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from inphase._core import lib
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError, WorldError
from inphase.frame import Frame
from inphase.plan import plan
from inphase.schedule.tables import Schedule
from inphase.world.mujoco import package as mujoco_package
from inphase.world.mujoco.world import MujocoWorld
from worlds import CAMERA, MODEL, Swing, needs_images, world_schedule

STEP_NS = 500_000
UNEVEN = """
[timing]
sensors.joints = { latency_ms = { uniform = [0.2, 0.9] } }
sensors.tip = { latency_ms = { normal = [0.4, 0.05], low = 0.3, high = 0.6 }, jitter_ms = 0.05 }
actuators.limb.delay_ms = { uniform = [0.0, 3.0] }
host.wake_late_ms = { lognormal = [0.02, 0.8], high = 0.05 }
policy.inference_ms = { uniform = [0.01, 0.2] }
"""


def test_joints_that_nothing_measures_start_where_the_world_has_them(tmp_path: Path) -> None:
    blind = {'feedback = "joints.position"\n': "", "start_position = [0.4, -0.9]": ""}
    described = world_schedule(tmp_path, replace=blind)
    with LockStep(described, call=lambda _: None) as robot:
        frames = [robot.step().copy() for _ in range(20)]
    acts = [frame.command["limb"] for frame in frames[1:]]
    assert all("HOLDING" in act.flags for act in acts)
    assert {act.applied.tobytes() for act in acts} == {acts[0].applied.tobytes()}
    np.testing.assert_allclose(acts[0].applied, [0.4, -0.9], rtol=0, atol=1e-12)


class Replay:
    """The same world, stepped by plain MuJoCo to whatever instant is asked for."""

    def __init__(self, described: Schedule) -> None:
        assert described.world is not None
        self.model = mujoco.MjModel.from_xml_path(
            str(described.path.parent / described.world.model)
        )
        self.model.opt.timestep = STEP_NS / 1e9
        self.data = mujoco.MjData(self.model)
        mujoco.mj_resetDataKeyframe(self.model, self.data, 0)
        mujoco.mj_forward(self.model, self.data)
        self.data.ctrl[:2] = self.data.actuator_length[:2]
        mujoco.mj_forward(self.model, self.data)
        self.now_ns = 0

    def advance(self, to_ns: int) -> None:
        """In whole steps on the grid, and shorter ones to and from what lies between."""
        while self.now_ns < to_ns:
            until_ns = min((self.now_ns // STEP_NS + 1) * STEP_NS, to_ns)
            whole = until_ns - self.now_ns == STEP_NS
            self.model.opt.timestep = 0.0005 if whole else (until_ns - self.now_ns) / 1e9
            mujoco.mj_step(self.model, self.data)
            self.now_ns = until_ns
        self.model.opt.timestep = 0.0005

    def command(self, values: NDArray[np.float64]) -> None:
        """To both position actuators; the second has a gear of 2."""
        self.data.ctrl[:2] = values * (1, 2)


@pytest.fixture
def described(tmp_path: Path) -> Schedule:
    """The small world, with the timing of a robot."""
    return world_schedule(tmp_path, UNEVEN)


def record(described: Schedule, cycles: int, **options: Any) -> list[Frame]:
    """Owned frames of a run."""
    with LockStep(described, call=Swing(), seed=11, digest=False, **options) as robot:
        return [robot.step().copy() for _ in range(cycles)]


def delays_ns(described: Schedule, cycles: int) -> list[int]:
    """Of the commands, as the schedule's distribution and the seed say."""
    if not described.timing.actuators:
        return [0] * cycles
    return [
        int(3e6 * lib.inphase_draw(11, cycle, lib.INPHASE_DRAW_ACTUATOR, 0))
        for cycle in range(cycles)
    ]


def happened(described: Schedule, frames: list[Frame]) -> list[tuple[int, str, Any]]:
    """What happened in the world, in order: samples by their stamps, commands by their delays."""
    delays = delays_ns(described, len(frames))
    events: list[tuple[int, int, str, Any]] = []  # at one instant samples come first
    last_ns = 0
    for frame in frames:
        for name, sample in frame.samples.items():
            if sample.status == "FRESH":
                assert sample.acquired_ns is not None
                events.append((sample.acquired_ns, 0, name, sample.value))
        act = frame.command["limb"]
        if "WRITTEN" in act.flags:
            assert frame.command.acted_ns is not None
            last_ns = max(last_ns, frame.command.acted_ns + delays[frame.command.cycle])
            events.append((last_ns, 1, "command", act.applied))
    ordered = sorted(events, key=lambda event: event[:2])
    return [(at_ns, what, value) for at_ns, _, what, value in ordered]


def replayed(described: Schedule, frames: list[Frame]) -> Iterator[tuple[Replay, int, str, Any]]:
    """A world of its own at the instant of each sample, and that sample."""
    replay = Replay(described)
    for at_ns, what, value in happened(described, frames):
        replay.advance(at_ns)
        if what == "command":
            replay.command(value)
            continue
        if what != "joints":
            mujoco.mj_forward(replay.model, replay.data)
        yield replay, at_ns, what, value


def test_every_sample_is_the_worlds_state_of_the_instant_it_is_stamped_with(
    described: Schedule,
) -> None:
    frames = record(described, 300)
    compared, between = {"joints": 0, "tip": 0}, 0
    for replay, at_ns, what, value in replayed(described, frames):
        if what == "joints":
            np.testing.assert_array_equal(value["position"], replay.data.qpos[:2])
            np.testing.assert_array_equal(value["velocity"], replay.data.qvel[:2])
        else:
            np.testing.assert_array_equal(value["place"], replay.data.sensordata[:3])
            np.testing.assert_array_equal(value["force"], replay.data.sensordata[3:6])
        compared[what] += 1
        between += at_ns % STEP_NS != 0
    assert compared == {"joints": 300, "tip": 300}
    assert between > 500, "late wakes lie between the grid points"


def test_the_world_moves_as_it_is_commanded(described: Schedule) -> None:
    frames = record(described, 200)
    first, last = frames[0]["joints"].value, frames[-1]["joints"].value
    assert first["position"].tolist() == pytest.approx([0.4, -0.9], abs=1e-3)
    assert abs(last["position"][0] - 0.6) < 0.05
    assert {frame["joints"].status for frame in frames[1:]} == {"FRESH"}


def test_frames_have_the_layout_of_the_driver(described: Schedule) -> None:
    plain = plan.make(described)
    with LockStep(described, digest=False) as robot:
        assert robot.follower.layout.dtypes == tuple(s.dtype for s in plain.sensors)


def test_a_derived_number_is_never_from_before_a_step(tmp_path: Path) -> None:
    """What mj_step leaves in sensordata is a step old: it differs from what frames say."""
    frames = record(world_schedule(tmp_path), 50)
    replay, stale, taken = Replay(world_schedule(tmp_path)), 0, 0
    for frame in frames:
        act = frame.command["limb"]
        if "WRITTEN" in act.flags:
            replay.advance(frame.command.acted_ns or 0)
            replay.command(act.applied)
        sample = frame["tip"]
        replay.advance(sample.acquired_ns or 0)
        before = replay.data.sensordata[:3].copy()
        mujoco.mj_forward(replay.model, replay.data)
        np.testing.assert_array_equal(sample.value["place"], replay.data.sensordata[:3])
        stale += not np.array_equal(before, sample.value["place"])
        taken += 1
    assert taken == 50 and stale > 40


@needs_images
def test_an_image_is_of_the_instant_it_is_stamped_with(tmp_path: Path) -> None:
    described = world_schedule(tmp_path, CAMERA)
    frames = record(described, 40)
    flags, seen, renderer = mujoco.mjtRndFlag, 0, None
    for replay, at_ns, what, value in replayed(described, frames):
        if what != "eye":
            continue
        renderer = renderer or mujoco.Renderer(replay.model, 48, 64)
        renderer.update_scene(replay.data, camera="side")
        for flag in (flags.mjRND_SHADOW, flags.mjRND_REFLECTION, flags.mjRND_SKYBOX):
            renderer.scene.flags[flag] = 0
        np.testing.assert_array_equal(value["image"], renderer.render())
        assert at_ns % 10_000_000 == 1_000_000
        assert value["image"].std() > 5, "something is to be seen"
        seen += 1
    assert renderer is not None
    renderer.close()
    assert seen == 8


@needs_images
def test_grey_deep_and_distance_images_fill_their_fields(tmp_path: Path) -> None:
    more = """
[device.{name}]
driver = "simulated"
fields = {{ image = {{ dtype = "{dtype}", shape = [24, 32] }} }}
[sensor.{name}]
device = "{name}"
trigger_us = 0
max_age_ms = 20
[world.sensor.{name}.fields]
image = {{ {kind} = "side", gain = {gain} }}
"""
    tables = [
        more.format(name="grey", dtype="|u1", kind="camera", gain=1),
        more.format(name="wide", dtype="<u2", kind="camera", gain=1),
        more.format(name="far", dtype="<f4", kind="depth", gain=1),
        more.format(name="mm", dtype="<u2", kind="depth", gain=1000),
    ]
    (frame,) = record(world_schedule(tmp_path, *tables), 1)
    grey, wide, far, mm = (frame[name].value["image"] for name in ("grey", "wide", "far", "mm"))
    np.testing.assert_array_equal(wide, grey.astype(np.uint16) * 257)
    assert 0.5 < far.min() < 1.5 < far.max()
    np.testing.assert_allclose(mm[far < 10], far[far < 10] * 1000, atol=0.51)


def test_motors_with_a_drive_take_positions_within_the_motors_force(tmp_path: Path) -> None:
    motors = MODEL.replace(
        '<position name="one" joint="one" kp="60" kv="4"/>',
        '<motor name="one" joint="one" gear="3" ctrlrange="-1 1"/>',
    ).replace(
        '<position name="two" joint="two" kp="40" kv="3" gear="2"/>',
        '<motor name="two" joint="two" gear="2"/>',
    )
    drive = {'actuators = ["one", "two"]': 'actuators = ["one", "two"]\nkp = [60, 40]\nkd = 4.0'}
    with LockStep(
        world_schedule(tmp_path, replace=drive, model=motors), call=Swing(), digest=False
    ) as robot:
        forces = []
        for _ in range(400):
            frame = robot.step()
            world: Any = robot.world
            forces.append(world.data.actuator_force[:2].copy())
            data = world.data
            mujoco.mj_forward(world.model, data)
            expected = 60 * (data.ctrl[0] / 3 - data.qpos[0]) - 4 * data.qvel[0]
            torque = min(3.0, max(-3.0, expected))
            assert data.qfrc_actuator[0] == pytest.approx(torque, abs=1e-9)
    assert np.abs(forces).max(axis=0)[0] <= 1.0 + 1e-12, "the motor has no more"
    assert abs(frame["joints"].value["position"][1] - frame.command["limb"].applied[1]) < 0.2


# ---- what a schedule and a model may say ---------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ('"two.xml"', '"none.xml"', r"world\.model", "no such file"),
        ('"home"', '"nowhere"', r"world\.keyframe", "no key 'nowhere'; it has home"),
        ("step_us = 500", "step_us = 0.3", r"world\.step_us", "give step_us = 1 or more"),
        ("step_us = 500\n", "", r"", ""),
        ('joints = ["one", "two"]', 'joints = ["one", "three"]', r"world\.sensor\.joints\.joints",
         "no joint 'three'; it has one, two"),
        ('joints = ["one", "two"]', 'joints = ["one"]', r"world\.sensor\.joints\.joints",
         "2 joints expected"),
        ('joints = ["one", "two"]', 'fields = { position = { joint_position = "one" } }',
         r"world\.sensor\.joints\.fields\.position", "has 1 numbers, .* takes 2"),
        ('{ sensor = "tip" }', '{ sensor = "tap" }', r"world\.sensor\.tip\.fields\.place",
         "no sensor 'tap'; it has tip, force, acceleration"),
        ('{ sensor = "tip" }', '{ sensor = "tip", site_position = "tip" }',
         r"world\.sensor\.tip\.fields\.place", "exactly one quantity"),
        ('{ sensor = "tip" }', '{ site_rotation = "tip" }', r"world\.sensor\.tip\.fields\.place",
         "has 9 numbers"),
        ("place = { sensor", "plaice = { sensor", r"world\.sensor\.tip\.fields\.plaice",
         "no field 'plaice'"),
        ('actuators = ["one", "two"]', 'actuators = ["one", "motor"]',
         r"world\.actuator\.limb\.actuators", "takes no command of position mode"),
        ('actuators = ["one", "two"]', 'actuators = ["one"]',
         r"world\.actuator\.limb\.actuators", "2 channels"),
        ('actuators = ["one", "two"]', 'actuators = ["one", "one"]',
         r"world\.actuator\.limb\.actuators", "'one' is given to 2 channels"),
        ("start_position = [0.4, -0.9]", "start_position = [0.4]",
         r"device\.limb", "start_position: .*one per joint"),
        ('actuators = ["one", "two"]', 'actuators = ["one", "two"]\nkp = [1.0, 0.0]',
         r"world\.actuator\.limb\.kp", "kp above 0"),
        ("[world.actuator.limb]", "[world.actuator.limp]", r"world\.actuator\.limp",
         "no such actuator"),
        ("[world.sensor.joints]", "[world.sensor.junk]", r"world\.sensor\.junk", "no such sensor"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_is_refused_with_its_key(
    tmp_path: Path, old: str, new: str, where: str, what: str
) -> None:
    if not where:  # the model's own step, which fits
        LockStep(world_schedule(tmp_path, replace={old: new}), digest=False).close()
        return
    with pytest.raises(ScheduleError, match=rf"two\.toml:\d+: {where}: .*{what}"):
        LockStep(world_schedule(tmp_path, replace={old: new}), digest=False)


def test_everything_that_does_not_fit_the_model_is_named(tmp_path: Path) -> None:
    changes = {
        '"home"': '"nowhere"',
        "step_us = 500": "step_us = 0.3",
        'joints = ["one", "two"]': 'joints = ["one", "three"]',
        '{ sensor = "tip" }': '{ sensor = "tap" }',
        'actuators = ["one", "two"]': 'actuators = ["one"]',
    }
    with pytest.raises(ScheduleError) as caught:
        LockStep(world_schedule(tmp_path, replace=changes), digest=False)
    assert {fault.key for fault in caught.value.faults} == {
        "world.keyframe",
        "world.step_us",
        "world.sensor.joints.joints",
        "world.sensor.tip.fields.place",
        "world.actuator.limb.actuators",
    }


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (MODEL.replace("</mujoco>", ""), "does not load"),
        (MODEL.replace('joint="one"', 'joint="eleven"'), "eleven"),
        (MODEL.replace('mass="0.5"', 'mass="-0.5"'), "mass"),
    ],
)
def test_a_model_that_does_not_load_is_refused_with_its_file(
    tmp_path: Path, broken: str, what: str
) -> None:
    with pytest.raises(ScheduleError, match=rf"world\.model: .*two\.xml .*(?s:{what})"):
        LockStep(world_schedule(tmp_path, model=broken), digest=False)


@pytest.fixture
def no_callback() -> Iterator[None]:
    """Whatever a test sets is taken back."""
    yield
    mujoco.set_mjcb_control(None)


def test_a_model_with_a_python_callback_is_refused(tmp_path: Path, no_callback: None) -> None:
    path = world_schedule(tmp_path)
    mujoco.set_mjcb_control(lambda model, data: None)
    with pytest.raises(ScheduleError, match="mjcb_control is set"):
        LockStep(path, digest=False)


def test_the_clock_of_mujoco_is_given_back_and_a_world_has_no_times(tmp_path: Path) -> None:
    other = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(other)
    with LockStep(world_schedule(tmp_path), call=Swing(), digest=False) as robot:
        robot.run(20)
        assert isinstance(robot.world, MujocoWorld)
        step = robot.world.data.timer[int(mujoco.mjtTimer.mjTIMER_STEP)]
        assert (step.number > 0, step.duration) == (True, 0)
    mujoco.mj_step(other, data)
    assert data.timer[int(mujoco.mjtTimer.mjTIMER_STEP)].duration > 0


UNREAD = {
    'place = { sensor = "tip" }': 'place = { site_position = "tip" }',
    'force = { sensor = "force" }': 'force = { site_position = "tip" }',
}
OFF = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)


def made_world(described: Schedule) -> MujocoWorld:
    return MujocoWorld(plan.make(described))


def is_off(world: MujocoWorld) -> bool:
    """Without the look that changes it."""
    return bool(int(world._model.opt.disableflags) & OFF)


def test_sensors_of_the_model_that_nobody_reads_change_no_byte(tmp_path: Path) -> None:
    described = world_schedule(tmp_path, UNEVEN, replace=UNREAD)
    digests = set()
    for looks in (False, True):
        world = made_world(described)
        assert is_off(world)
        if looks:
            assert world.data.sensordata.size and not is_off(world)
        with LockStep(described, call=Swing(), seed=3, world=world) as robot:
            robot.run(300)
            digests.add(robot.digest())
        assert is_off(world) != looks
        assert bool(world._data.sensordata[3:].any()) == looks
    assert len(digests) == 1


def test_sensors_of_the_model_are_computed_wherever_something_reads_them(tmp_path: Path) -> None:
    ranged = MODEL.replace("<sensor>", '<sensor><rangefinder name="far" site="tip"/>')
    disabled = MODEL.replace("<worldbody>", '<option><flag sensor="disable"/></option><worldbody>')
    assert not is_off(made_world(world_schedule(tmp_path)))
    assert not is_off(made_world(world_schedule(tmp_path, replace=UNREAD, model=ranged)))
    world = made_world(world_schedule(tmp_path, replace=UNREAD, model=disabled))
    assert is_off(world) and world.model is not None and is_off(world)


@needs_images
def test_sensors_of_the_model_are_computed_where_a_picture_is_taken(tmp_path: Path) -> None:
    assert not is_off(made_world(world_schedule(tmp_path, CAMERA, replace=UNREAD)))


def test_a_world_that_diverges_ends_the_run_and_says_where(tmp_path: Path) -> None:
    wild = MODEL.replace('kp="60" kv="4"', 'kp="1e9" kv="0"')
    with LockStep(world_schedule(tmp_path, model=wild), call=Swing(), digest=False) as robot:
        with pytest.raises(WorldError, match=r"two\.xml: .*cycle \d+.*diverged.*step_us"):
            robot.run(500)
        frames_before = robot.core.frames
        assert robot.stopped == "world"
        with pytest.raises(WorldError):
            robot.step()
        assert robot.core.frames == frames_before, "nothing is said of a world that has failed"


def test_nothing_that_a_frame_says_is_from_a_world_that_was_reset(tmp_path: Path) -> None:
    wild = MODEL.replace('kp="60" kv="4"', 'kp="1e9" kv="0"')
    with LockStep(world_schedule(tmp_path, model=wild), call=Swing(), digest=False) as robot:
        times = []
        with pytest.raises(WorldError):
            while True:
                robot.step()
                assert robot.world is not None
                times.append(robot.world.data.time)  # type: ignore[attr-defined]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("memory", "what"),
    [
        ("18K", "no longer computed in full .CNSTRFULL.; give more memory"),
        ("24K", "MuJoCo: mj_stackAlloc: out of memory"),
        ("28K", "MuJoCo: mj_stackAlloc: out of memory"),
    ],
)
def test_an_error_inside_mujoco_is_caught_and_told(tmp_path: Path, memory: str, what: str) -> None:
    """An arena too small for the contacts to come; MuJoCo's error function must not return."""
    balls = "".join(
        f'<body pos="{0.2 * i - 1} 1 0.2"><freejoint/><geom size="0.08"/></body>' for i in range(6)
    )
    small = MODEL.replace("<worldbody>", f'<size memory="{memory}"/><worldbody>')
    small = small.replace("</worldbody>", f"{balls}</worldbody>")
    small = re.sub("(?s)<keyframe>.*</keyframe>", "", small)
    described = world_schedule(tmp_path, model=small, replace={'keyframe = "home"\n': ""})
    with LockStep(described, call=Swing(), digest=False) as robot:
        with pytest.raises(WorldError, match=rf"two\.xml: .*cycle \d+.*{what}"):
            robot.run(400)
        assert 50 < robot.cycles < 400, "it was well until they touched the floor"


def test_a_policy_that_says_nan_moves_nothing_and_is_counted(tmp_path: Path) -> None:
    with LockStep(
        world_schedule(tmp_path), call=lambda frame: [float("nan")] * 2, digest=False
    ) as robot:
        frames = [robot.step().copy() for _ in range(30)]
    acts = [frame.command["limb"] for frame in frames[2:]]
    assert all({"INVALID", "HOLDING"} <= set(act.flags) and act.reason == "nan" for act in acts)
    here = np.array([frame["joints"].value["position"] for frame in frames])
    assert np.abs(here - here[0]).max() < 0.05


def test_the_place_of_the_time_step_is_found_in_this_version() -> None:
    model = mujoco.MjModel.from_xml_string(MODEL)
    at = mujoco_package.timestep_address(mujoco, model)
    ctypes.c_double.from_address(at).value = 0.00321
    assert model.opt.timestep == 0.00321


# ---- machines with half a renderer ---------------------------------------------------------------

WHY = """
from inphase.errors import WorldError
from inphase.world.mujoco.package import why_no_images
try:
    print(why_no_images())
except WorldError as error:
    print(error)
"""
HIDE = """
for library in $(ldconfig -p | sed -n 's|.* => ||p' | grep -E "/lib($hidden)\\.so"); do
    mount --bind /dev/null "$library"
done
exec "$@"
"""
UNSHARE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]


def _can_hide() -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(
            [*UNSHARE, "mount --bind /dev/null /etc/hostname"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.real
@pytest.mark.skipif(not _can_hide(), reason="this user may not mount in a namespace of its own")
@pytest.mark.parametrize("chosen", [{}, {"MUJOCO_GL": "egl"}], ids=["none", "egl"])
@pytest.mark.parametrize("hidden", ["EGL", "OpenGL|GL", "EGL|OpenGL|GL"])
def test_a_machine_with_half_a_renderer_is_told_what_to_install(
    hidden: str, chosen: dict[str, str]
) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    done = subprocess.run(
        [*UNSHARE, HIDE, "sh", sys.executable, "-c", WHY],
        env=kept | chosen | {"hidden": hidden, "PATH": f"{kept['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "apt install libegl1 libgl1-mesa-dri libopengl0" in done.stdout, done.stderr


# ---- the start -----------------------------------------------------------------------------------


def test_a_pose_moves_its_joints_and_leaves_the_keyframe_to_the_others(tmp_path: Path) -> None:
    pose = {'keyframe = "home"\n': 'keyframe = "home"\npose = { two = -0.25 }\n'}
    with LockStep(world_schedule(tmp_path, replace=pose), digest=False) as robot:
        world: Any = robot.world
        home = world.model.key_qpos[0]
        assert list(world.data.qpos[:2]) == [home[0], -0.25]
        robot.step()
        assert robot.world is world
        world.begin({})
        assert world.data.qpos[1] == -0.25, "in every episode"


@pytest.mark.parametrize(
    ("pose", "what"),
    [
        ("{ three = 0.1 }", r"world\.pose\.three: .*no joint 'three'; it has one, two"),
        ("{ two = 99 }", r"world\.pose\.two: 99 is outside of its range; give "),
    ],
)
def test_a_pose_that_the_model_cannot_take_is_refused(tmp_path: Path, pose: str, what: str) -> None:
    change = {'keyframe = "home"\n': f'keyframe = "home"\npose = {pose}\n'}
    with pytest.raises(ScheduleError, match=what):
        LockStep(world_schedule(tmp_path, replace=change), digest=False)
