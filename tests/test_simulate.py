"""The robot in its simulated world in real time: behind true protocols, and through stand-ins."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from inphase import Runner, schedule
from inphase.emulation import WallWorld, part_of
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError, WorldError
from inphase.frame import Frame, Sample
from inphase.host.store_names import folder
from inphase.world import realtime_world
from inphase_drivers.emulator.arm import Drive
from inphase_drivers.emulator.world import WorldJoints
from peers import BOUND_S, ROOT, free_port, until
from simulations import JOINTS, Simulation
from worlds import WHY_NO_IMAGES, needs_images

COUNT_RAD = 2 * np.pi / 4096
TURNED = (
    "[sensor.joints]\n",
    "[sensor.joints]\nsign = [1, -1, 1, -1, 1, -1]\n"
    "zero = { position = [0.1, 0.2, -0.3, 0.0, 0.1, -0.2] }\n",
)
STEP_NS = 500_000


# ---- the world itself, stepped by the test -----------------------------------------------------


@pytest.fixture
def arm() -> Iterator[Simulation]:
    with Simulation(TURNED) as made:
        yield made


class Stepped:
    """A world whose time the test makes, and the servos' joints in it."""

    def __init__(self, simulation: Simulation) -> None:
        self.world = WallWorld(simulation.schedule)
        self.world.begin([])
        self.data = self.world.world.data
        part = part_of(self.world, "arm")
        assert part is not None
        self.joints = WorldJoints(part, 6)
        self.part = part
        self.now_ns = self.world.start_ns

    def go(self, ms: float) -> None:
        """Go on for so long."""
        self.now_ns += round(ms * 1e6)
        self.joints.advance(self.now_ns)

    def follow(self, drive: Drive) -> None:
        """All servos in a mode, with their goals where they are."""
        self.joints.goal[:] = self.joints.position
        self.joints.drive[:] = [drive] * 6

    @property
    def robot(self) -> np.ndarray:
        """The joints' positions in the robot's frame."""
        return np.array(self.data.qpos[:6])


@pytest.fixture
def stepped(arm: Simulation) -> Iterator[Stepped]:
    if WHY_NO_IMAGES is not None:  # the arm's world has a camera
        pytest.skip(WHY_NO_IMAGES)
    made = Stepped(arm)
    yield made
    made.world.close()


def test_a_device_reads_the_world_in_its_own_numbers_and_the_schedule_turns_them_back(
    stepped: Stepped,
) -> None:
    sign, zero = np.array([1, -1, 1, -1, 1, -1]), np.array([0.1, 0.2, -0.3, 0.0, 0.1, -0.2])
    stepped.go(5)
    said = np.array(stepped.joints.position)
    np.testing.assert_allclose(sign * said - zero, stepped.robot, atol=1e-12)
    stepped.follow(Drive.POSITION)
    stepped.go(5)
    stepped.joints.goal[1] = sign[1] * (0.9 + zero[1])
    stepped.go(1500)
    assert stepped.robot[1] == pytest.approx(0.9, abs=0.1)  # it sags


def test_the_world_goes_on_in_whole_steps_and_never_back(stepped: Stepped) -> None:
    start_ns = stepped.world.start_ns
    for ms, steps in ((0.4, 0), (0.2, 1), (0.3, 1), (0.2, 2), (10.0, 22)):
        stepped.go(ms)
        assert stepped.world.steps == steps
        assert stepped.world.time_ns == start_ns + steps * STEP_NS
    stepped.world.advance(start_ns)
    assert stepped.world.steps == 22


def test_joints_are_held_until_they_are_switched_on_and_fall_when_they_are_off(
    stepped: Stepped,
) -> None:
    stepped.go(500)
    held = stepped.robot
    assert abs(held[1] - 0.35) < 0.1
    stepped.follow(Drive.POSITION)
    stepped.go(500)
    np.testing.assert_allclose(stepped.robot, held, atol=0.02)
    stepped.follow(Drive.OFF)
    stepped.go(500)
    assert stepped.robot[1] > held[1] + 0.3
    stepped.follow(Drive.POSITION)
    fallen = stepped.robot
    stepped.go(300)
    assert abs(stepped.robot[1] - fallen[1]) < 0.3


def test_in_velocity_mode_the_goal_moves(stepped: Stepped) -> None:
    stepped.go(300)
    before = stepped.robot
    stepped.follow(Drive.VELOCITY)
    stepped.joints.goal[:] = [0.5, 0, 0, 0, 0, 0]
    for _ in range(50):
        stepped.go(20)
    assert stepped.robot[0] - before[0] == pytest.approx(0.5, abs=0.05)


def test_a_command_takes_effect_after_the_schedules_delay_and_not_before(
    stepped: Stepped,
) -> None:
    stepped.follow(Drive.POSITION)
    stepped.go(10)
    control = float(stepped.data.ctrl[0])
    stepped.joints.goal[0] += 0.5
    stepped.go(0.5)  # it was told at the start of this; delay_ms = 0.5
    assert stepped.data.ctrl[0] == control
    stepped.go(0.5)
    assert stepped.data.ctrl[0] == pytest.approx(control + 0.5, abs=1e-9)


def test_physics_that_are_too_slow_are_said_and_then_end_it(
    stepped: Stepped, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(stepped.world.start_ns, 60_000_000)
    monkeypatch.setattr(realtime_world.time, "monotonic_ns", lambda: next(clock))
    stepped.go(50)
    assert stepped.world.behind == 1
    assert "behind real time" in capsys.readouterr().err
    with pytest.raises(WorldError, match=r"cannot keep up with real time.*step_us"):
        stepped.go(100_000)


def test_a_world_that_diverges_is_said_and_ends_it(stepped: Stepped) -> None:
    stepped.data.qvel[1] = np.nan
    with pytest.raises(WorldError, match=r"diverged \(BADQ.* at joint"):
        stepped.go(5)


def test_a_schedule_without_a_world_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "demo.toml"
    path.write_text((ROOT / "schedules" / "demo.toml").read_text())
    with pytest.raises(ScheduleError, match=r"demo\.toml.*world.*add \[world\]"):
        WallWorld(path)
    done = inphase("run", "--simulate", str(path))
    assert done.returncode == 2
    assert str(path) in done.stderr and "add [world]" in done.stderr
    done = inphase("run", "--simulate", "--lockstep", str(path), "--cycles", "1")
    assert done.returncode == 2 and "not both" in done.stderr


def inphase(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inphase", *arguments],
        capture_output=True,
        text=True,
        timeout=3 * BOUND_S,
        check=False,
    )


# ---- whole runs --------------------------------------------------------------------------------


def is_new(frame: Frame, *names: str) -> bool:
    return all(frame[name].status == "FRESH" for name in names)


def reach_ns(sample: Sample, truth: Sample) -> int:
    """How far apart at most the instants of two samples are, the first known by its exchange."""
    assert truth.acquired_ns is not None
    ends = (sample.triggered_ns, sample.received_ns)
    return max(abs(truth.acquired_ns - end) for end in ends if end is not None)


def assert_same_place(frame: Frame, name: str, resolution: float) -> None:
    """A sensor and the truth agree, but for its resolution and what the joints move in between."""
    sample, truth = frame[name], frame["truth"]
    count = sample.value["position"].size
    speed = np.abs(truth.value["velocity"][:count]).max() + 0.5
    off = np.abs(sample.value["position"] - truth.value["position"][:count]).max()
    assert off <= resolution + speed * reach_ns(sample, truth) * 1e-9


def follow(runner: Runner, wanted: int, *names: str) -> list[Frame]:
    """Frames in which all these sensors are fresh, copied."""
    found: list[Frame] = []
    while len(found) < wanted:
        frame = runner.next(BOUND_S)
        if is_new(frame, *names):
            copied = frame.copy()
            found += [copied] if copied is not None else []
    return found


@needs_images
@pytest.mark.real
def test_the_arm_moves_in_its_world_behind_its_true_protocols(arm: Simulation) -> None:
    with Runner(arm.schedule, simulate=True) as runner:
        frames = follow(runner, 200, "joints", "truth")
        wrench = follow(runner, 5, "wrench", "imu")
        pictures = follow(runner, 3, "image")
    assert runner.summary is not None
    for frame in frames:
        assert_same_place(frame, "joints", COUNT_RAD)
    places = np.array([frame["truth"].value["position"] for frame in frames])
    assert np.ptp(places, axis=0).min() > 0.05
    assert runner.summary["commands"]["written"] > 0
    assert all(np.isfinite(frame["wrench"].value["force"]).all() for frame in wrench)
    assert {p["image"].value["image"].shape for p in pictures} == {(48, 64, 3)}
    assert pictures[0]["image"].value["image"].std() > 5
    with LockStep(schedule.load(arm.schedule)) as lockstep:
        there = [lockstep.step() for _ in range(20)][-1]
        for name, sample in pictures[0].samples.items():
            assert sample.value.dtype == there[name].value.dtype


@needs_images
@pytest.mark.real
@pytest.mark.long
def test_at_rest_force_and_gravity_are_the_worlds(arm: Simulation) -> None:
    with Runner(arm.schedule, simulate=True, observe=True) as runner:
        runner.next(BOUND_S)
        until(lambda: np.abs(follow(runner, 1, "truth")[0]["truth"].value["velocity"]).max() < 1e-3)
        frames = follow(runner, 20, "wrench", "imu", "truth")
    assert runner.summary is not None and runner.summary["commands"]["written"] == 0
    for frame in frames:
        force, truth = frame["wrench"].value["force"], frame["truth"].value["force"]
        assert np.abs(force - truth).max() < 0.05 + 0.05  # noise, and what still moves
        gravity = np.linalg.norm(frame["imu"].value["acceleration"])
        assert gravity == pytest.approx(9.81, abs=0.1)


@pytest.mark.real
@pytest.mark.long
def test_without_an_emulator_every_device_has_a_stand_in() -> None:
    without = ("emulator", "device.eye", "sensor.image", "world.sensor.image")
    image = ("sensors.image", "# sensors.image")
    with (
        Simulation(TURNED, image, without=without) as arm,
        Runner(arm.schedule, simulate=True) as runner,
    ):
        frames = follow(runner, 200, "joints", "truth")
        follow(runner, 1, "wrench", "imu")
    for frame in frames:
        noise = COUNT_RAD / 2
        assert_same_place(frame, "joints", noise)
    places = np.array([frame["truth"].value["position"] for frame in frames])
    assert np.ptp(places, axis=0).min() > 0.05


@pytest.mark.real
@pytest.mark.long
def test_drives_on_a_can_bus_turn_the_worlds_joints() -> None:
    pytest.importorskip("canopen")
    drives = """
[device.arm]
driver = "canopen"
interface = "udp_multicast"
channel = "239.74.163.43"
bus = { port = PORT }
nodes = [1, 2, 3, 4, 5, 6]
counts_per_rad = [10_000.0, -10_000.0, 10_000.0, 10_000.0, 10_000.0, 10_000.0]
watchdog_ms = 2000
""".replace("PORT", str(free_port(socket.SOCK_DGRAM)))
    without = ("device.arm", "device.eye", "sensor.image", "world.sensor.image")
    image = ("sensors.image", "# sensors.image")
    with (
        Simulation(
            TURNED, image, ("[sensor.joints]", f"{drives}[sensor.joints]"), without=without
        ) as arm,
        Runner(arm.schedule, simulate=True) as runner,
    ):
        frames = follow(runner, 200, "joints", "truth")
    for frame in frames:
        assert_same_place(frame, "joints", 1e-4)
    places = np.array([frame["truth"].value["position"] for frame in frames])
    assert np.ptp(places, axis=0).min() > 0.05


LATCHED = """
[device.free]
driver = "simulated"
fields = { position = { unit = "rad", shape = [6] } }
rate_hz = 50
[sensor.free]
device = "free"
max_age_ms = 500
[world.sensor.free.fields]
position = { joint_position = JOINTS }
""".replace("JOINTS", JOINTS)


@needs_images
@pytest.mark.real
@pytest.mark.long
def test_a_device_that_runs_by_itself_samples_by_its_own_clock() -> None:
    with Simulation(more=LATCHED) as arm, Runner(arm.schedule, simulate=True) as runner:
        stamps = [f["free"].acquired_ns for f in follow(runner, 20, "free")]
    known = [stamp for stamp in stamps if stamp is not None]
    assert len(known) == len(stamps) and known == sorted(set(known))
    # on its own grid of 20 ms; one that the world's process was late for says so
    assert any((b - a) % 20_000_000 == 0 for a, b in itertools.pairwise(known))


@needs_images
@pytest.mark.real
@pytest.mark.long
def test_what_the_timing_says_happens_to_emulated_devices_and_to_stand_ins() -> None:
    broken = (
        ("dropout = 0.0002", "dropout = 0.3"),
        ("sensors.wrench = {", "sensors.wrench = { dropout = 0.3,"),
        ("[timing] ", "[timing]\nsensors.imu = { dropout = 0.3 }\n"
         "sensors.truth = { freeze = 0.2, freeze_samples = 3 }\n"),
    )  # fmt: skip
    with Simulation(*broken) as arm, Runner(arm.schedule, simulate=True, cycles=300) as runner:
        for _ in runner:
            pass
    assert runner.summary is not None
    status = {name: it["status"] for name, it in runner.summary["sensors"].items()}
    for name in ("joints", "wrench", "imu"):
        assert status[name]["LATE"] + status[name]["MISSING"] > 10, status
        assert status[name]["FRESH"] > 10, status
    assert status["truth"]["FROZEN"] > 5 and status["truth"]["FRESH"] > 5, status


@needs_images
@pytest.mark.real
def test_a_world_that_is_killed_leaves_its_devices_offline_and_the_run_ends(
    arm: Simulation,
) -> None:
    with arm.run() as run:
        run.status("joints", "FRESH")
        run.status("imu", "FRESH")
        run.child("inphase_drivers.emulator").kill()
        run.status("joints", "OFFLINE")
        code, result = run.end()
    assert code == WorldError.exit_code
    assert result["stopped"]["reason"] == "world"
    assert "world ended: signal 9" in result["events"]
    assert arm.segments() == []


@needs_images
@pytest.mark.real
@pytest.mark.long
def test_nothing_is_left_of_a_run_and_no_camera_library_was_loaded(arm: Simulation) -> None:
    with arm.run("--seconds", "2") as run:
        run.status("image", "FRESH")
        processes = [psutil.Process(run.pid), *run.children()]
        loaded = [m.path for p in processes for m in p.memory_maps() if "pypylon" in m.path]
        link = arm.folder / "port"
        assert link.is_symlink()
        code, _ = run.end()
    assert code == 0
    assert loaded == []
    until(lambda: not any(p.is_running() for p in processes))
    assert arm.segments() == []
    assert not link.is_symlink()
    assert not [lock for lock in folder().glob("lock.*") if names(lock, arm.name)]


def names(lock: Path, robot: str) -> bool:
    """Whether a device's lock, which others take and give up meanwhile, is of this robot."""
    try:
        return f"robot {robot}," in lock.read_text()
    except FileNotFoundError:
        return False


@needs_images
@pytest.mark.real
@pytest.mark.long
def test_a_stand_in_that_is_killed_comes_back_with_a_line_of_its_own(arm: Simulation) -> None:
    with arm.run() as run:
        before = run.status("imu", "FRESH")["imu"].sequence
        (worker,) = [c for c in run.children() if "imu" in c.cmdline()]
        worker.kill()
        run.status("imu", "OFFLINE")
        assert run.status("imu", "FRESH")["imu"].sequence > before


@needs_images
@pytest.mark.real
def test_a_keyboards_interrupt_ramps_the_robot_in_a_world_that_lasts(arm: Simulation) -> None:
    with arm.run(start_new_session=True) as run:
        run.status("joints", "FRESH")
        os.killpg(run.pid, signal.SIGINT)
        code, result = run.end()
    assert code == 128 + signal.SIGINT
    assert not [event for event in result["events"] if "world" in event]
    assert result["sensors"]["joints"]["status"]["OFFLINE"] == 0


@needs_images
@pytest.mark.real
def test_a_runtime_that_is_killed_takes_its_world_with_it(arm: Simulation) -> None:
    with arm.run() as run:
        run.status("joints", "FRESH")
        children = run.children()
        run.signal(signal.SIGKILL)
        run.process.wait(BOUND_S)
        gone = lambda p: not p.is_running() or p.status() == psutil.STATUS_ZOMBIE  # noqa: E731
        until(lambda: all(map(gone, children)))


@pytest.mark.real
def test_an_emulator_that_hosts_no_world_is_refused() -> None:
    deaf = ('module = "inphase_drivers.emulator"', 'module = "deaf"')
    with Simulation(deaf) as arm:
        (arm.folder / "deaf.py").write_text(
            "import time\nprint('ready', flush=True)\ntime.sleep(60)"
        )
        with pytest.raises(ScheduleError, match=r"emulator\.module.*deaf hosts no world"):
            Runner(arm.schedule, simulate=True).__enter__()
