"""Franka arms: the driver on the emulated controller, the emulator before the maker's client, and
the driver before simulators of other people."""

import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inphase import Runner, schedule
from inphase.driver import DeviceError
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.plan import plan
from inphase_drivers.franka import FrankaArm, FrankaOptions
from inphase_drivers.franka.state import COMMAND_SIZE, ERRORS, STATE_SIZE
from peers import BOUND_S, ROOT, EmulatorProcess
from robots import ready_schedule

FOREIGN = ROOT / "build" / "franka" / "bin" / "python"
CLIENT = ROOT / "tests" / "other_servers" / "franka_client.py"
FRANKA = ROOT / "schedules" / "franka.toml"


def franka_schedule(folder: Path, *changes: tuple[str, str]) -> Path:
    """The ready one, for a test."""
    return ready_schedule(FRANKA, folder, ("port = 13370",), *changes)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[tuple[EmulatorProcess, Path]]:
    path = franka_schedule(tmp_path)
    emulator = EmulatorProcess().start(path)
    try:
        yield emulator, path
    finally:
        emulator.stop()


def arm_of(path: Path, **changes: object) -> FrankaArm:
    options = schedule.load(path).device["arm"].options
    return FrankaArm("arm", FrankaOptions(**{**options, **changes}))  # type: ignore[arg-type]


@contextlib.contextmanager
def opened(arm: FrankaArm) -> Iterator[FrankaArm]:
    arm.open()
    try:
        yield arm
    finally:
        arm.close()


def ask(emulator: EmulatorProcess, **request: object) -> dict[str, object]:
    return emulator.control({"device": "arm", **request})


def test_the_structures_have_the_sizes_of_the_interface() -> None:
    assert (STATE_SIZE, COMMAND_SIZE, len(ERRORS)) == (1377, 371, 41)


def test_in_lock_step_the_arm_follows_without_its_controllers_clock() -> None:
    with LockStep(schedule.load(FRANKA), seed=1) as robot:
        frames = [robot.step().copy() for _ in range(1500)]
    positions = [frame["joints"].value["position"][0] for frame in frames[10:]]
    assert max(positions) - min(positions) > 0.02
    assert {frame.due_ns - 1_000_000 * frame.cycle for frame in frames} == {0}


def test_a_home_without_the_cycle_thread_and_an_arm_that_nobody_reads_are_refused(
    tmp_path: Path,
) -> None:
    path = franka_schedule(tmp_path, ('model = "fr3"', 'home = "process"'))
    with pytest.raises(ScheduleError, match=r"device\.arm\.home: the core answers each packet"):
        plan.make(schedule.load(path))
    text = path.read_text().replace('home = "process"', "")
    for key in ("feedback", "feedback_velocity", "clock", "call", "args", "priority"):
        text = re.sub(rf"(?m)^{key} = .*$", "", text)
    text = text.replace("[policy]", "").replace("max_age_ms", "trigger_us = 0\nmax_age_ms")
    text = text.replace('[sensor.joints]\ndevice = "arm"', '[sensor.force]\ndevice = "force"')
    path.write_text(text + '[device.force]\ndriver = "netft"\nhost = "127.0.0.1"\n')
    with pytest.raises(ScheduleError, match=r"a packet, which nobody reads; add a \[sensor"):
        plan.make(schedule.load(path))


@pytest.mark.real
def test_each_state_is_answered_once_and_the_motion_ends_in_order(tmp_path: Path) -> None:
    """The schedule beside a controller that polices velocity, acceleration and jerk."""
    path = franka_schedule(tmp_path)
    emulator = EmulatorProcess().start(path)
    path.write_text(re.sub(r"(?ms)^\[emulator\]$.*?(?=^\[)", "", path.read_text()))
    positions = []
    try:
        with Runner(path, cycles=2500) as robot:
            for frame in robot:
                positions.append(frame["joints"].value["position"].copy())
        told = ask(emulator)
    finally:
        emulator.stop()
    assert robot.summary is not None
    assert robot.summary["stopped"]["reason"] == "done"
    assert robot.summary["pace"]["device"] == "arm"
    assert np.ptp(positions, axis=0).min() > 0.01
    assert not told["errors"] and told["aborts"] == 0
    assert not told["moving"], "the last commands end the motion"
    assert robot.summary["commands"]["written"] <= int(str(told["sent"]))
    assert robot.summary["actuators"]["arm"]["rest"]["torque"] == "on"


def test_a_reflex_is_recovered_from_when_the_arm_is_enabled_and_not_before(
    controller: tuple[EmulatorProcess, Path],
) -> None:
    emulator, path = controller
    with opened(arm_of(path)) as arm:
        arm.enable()
        arm.engage()
        assert ask(emulator)["moving"]
        ask(emulator, fault="reflex")
        assert arm.torque() == (None,) * 7
        told = r"joint_reflex: see what the arm touched; arm again, which recovers from it"
        assert len(arm.faults()) == 1 and re.search(told, arm.faults()[0])
        assert ask(emulator)["errors"] == [6]
        with pytest.raises(DeviceError, match=r"takes no motion: .* activate FCI in Desk"):
            arm.engage()
        arm.disengage()
        arm.enable()
        assert not ask(emulator)["errors"] and arm.torque() == (True,) * 7
        arm.engage()
        arm.disable()
        assert not ask(emulator)["moving"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [("user_stopped", "stopped by its user stop: release it"), ("locked", "unlock its joints")],
)
def test_an_arm_in_the_wrong_mode_is_refused(
    controller: tuple[EmulatorProcess, Path], fault: str, told: str
) -> None:
    emulator, path = controller
    with opened(arm_of(path)) as arm:
        ask(emulator, fault=fault, count=-1)
        with pytest.raises(DeviceError, match=rf"device arm \(tcp:.*\): the arm is .*{told}"):
            arm.enable()


def test_another_arm_behind_the_right_port_is_refused(
    controller: tuple[EmulatorProcess, Path],
) -> None:
    told = r"device arm .* is a 'fr3', and model is 'fr3v2'; correct host, or model"
    with pytest.raises(DeviceError, match=told):
        arm_of(controller[1], model="fr3v2").open()


def test_another_version_of_the_interface_is_refused(tmp_path: Path) -> None:
    path = franka_schedule(tmp_path, ("drift_ppm", "fci_version = 9\ndrift_ppm"))
    emulator = EmulatorProcess().start(path)
    try:
        with pytest.raises(DeviceError, match=r"speaks version 9 of FCI, and this driver 10; inst"):
            arm_of(path).open()
    finally:
        emulator.stop()


def test_a_port_that_is_not_fci_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)
        arm = FrankaArm("arm", FrankaOptions(host="127.0.0.1", port=server.getsockname()[1]))
        with pytest.raises(DeviceError, match=r"no controller with FCI: .*; give host and port of"):
            arm.open()


@pytest.mark.real
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("velocity = 1.0 ", "velocity = 3.0 ", r"limits\.velocity.*3 rad/s on channel 0.*2\.62"),
        ("jerk = 400.0", "# jerk", r"limits\.jerk.*no bound on channel 0.*5000"),
        ("[-3.0, -0.2]", "[-3.0, 0.2]", r"limits\.position.*0\.2 rad on channel 3.*-0\.1458"),
    ],
)
def test_limits_beyond_the_arms_own_are_refused_before_anything_moves(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    path = franka_schedule(tmp_path, (old, new))
    with pytest.raises(DeviceError, match=f"(?s){told}"), Runner(path, cycles=10):
        pass


@pytest.mark.real
def test_a_reflex_in_motion_is_told_and_arming_goes_on_from_where_the_arm_is(
    tmp_path: Path,
) -> None:
    path = franka_schedule(tmp_path)
    emulator = EmulatorProcess().start(path)
    path.write_text(re.sub(r"(?ms)^\[emulator\]$.*?(?=^\[)", "", path.read_text()))
    statuses, after = set(), []
    is_armed, latched_since = False, None
    try:
        with Runner(path, cycles=6000) as robot:
            for frame in robot:
                joints = frame["joints"]
                statuses.add((joints.status, joints.reason))
                if frame.cycle == 700:
                    ask(emulator, fault="reflex")
                if latched_since is None and joints.reason == "device":
                    latched_since = frame.cycle
                if latched_since is not None and frame.cycle > latched_since + 300 and not is_armed:
                    is_armed = True
                    robot.arm()
                if is_armed and joints.status == "FRESH":
                    after.append(joints.value["position"].copy())
        told = ask(emulator)
    finally:
        emulator.stop()
    assert ("INVALID", "device") in statuses
    assert robot.summary is not None and robot.summary["latched"] is None
    assert told["aborts"] == 1 and not told["errors"]
    assert np.ptp(after, axis=0).min() > 0.01, "it moves again"


# ---- by other people -------------------------------------------------------------------------


@pytest.mark.real
def test_the_makers_client_takes_the_emulator_for_an_arm_and_moves_it(tmp_path: Path) -> None:
    """It knows the port 1337 alone, so the emulated arm has an address of its own. Both are ahead
    of the machine's other work: the emulated controller is Python, and a real one is never late."""
    if not FOREIGN.exists():
        pytest.skip("pylibfranka is not installed: make franka-test")
    path = franka_schedule(tmp_path, ('"127.0.0.1"', '"127.0.0.77"'))
    path.write_text(re.sub(r"(?m)^port = .*$", "port = 1337", path.read_text()))
    ahead: list[str] = []
    with EmulatorProcess().start(path) as emulator:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(emulator.pid, os.SCHED_FIFO, os.sched_param(70))
            ahead = ["chrt", "-f", "60"]
        done = subprocess.run(
            [*ahead, str(FOREIGN), str(CLIENT), "127.0.0.77"],
            capture_output=True, text=True, timeout=BOUND_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = ask(emulator)
    swing = json.loads(done.stdout)
    assert np.subtract(swing["furthest"], swing["start"]) == pytest.approx([0.1] * 7, abs=0.01)
    assert swing["end"] == pytest.approx(swing["start"], abs=1e-3)
    assert told["aborts"] == 0 and not told["moving"]
