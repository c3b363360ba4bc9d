"""Arms of Universal Robots: the driver on the emulated controller, the emulator before ur_rtde's
client, and what the driver sends beside what that client sends."""

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from inphase import Runner, schedule
from inphase.driver import DeviceError
from inphase.episodes.lockstep import LockStep
from inphase.testing import DriverContract, Peer
from inphase_drivers.ur import Arm, ArmOptions
from inphase_drivers.ur.arm import OUTPUTS
from inphase_drivers.ur.messages import HEADER, Kind
from inphase_drivers.ur.program import program, servoj, speedj
from peers import BOUND_S, ROOT, EmulatorProcess, until
from robots import ready_schedule
from runtimes import Run

UR = ROOT / "schedules" / "ur.toml"
FOREIGN = ROOT / "build" / "ur" / "bin" / "python"
PORTS = ("port = 30014", "script_port = 30012", "dashboard_port = 29989")
CLIENT = f"""
import time
from rtde_receive import RTDEReceiveInterface

names = {[name for name in OUTPUTS if "register" not in name]}
robot = RTDEReceiveInterface("127.0.0.1", 500.0, names, False)
first = robot.getTimestamp()
while robot.getTimestamp() < first + 0.2:
    time.sleep(0.01)
print(robot.getActualQ(), robot.getRobotMode(), flush=True)
robot.disconnect()
"""


class Place(NamedTuple):
    """Where a run has its files, and its robot's name."""

    folder: Path
    name: str


def ur_schedule(folder: Path, *changes: tuple[str, str]) -> Path:
    """The ready one, for a test."""
    return ready_schedule(UR, folder, PORTS, *changes)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[tuple[EmulatorProcess, Path]]:
    path = ur_schedule(tmp_path)
    emulator = EmulatorProcess().start(path)
    try:
        yield emulator, path
    finally:
        emulator.stop()


def arm_of(path: Path, **changes: object) -> Arm:
    options = schedule.load(path).device["arm"].options
    return Arm("arm", ArmOptions(**{**options, **changes}))  # type: ignore[arg-type]


def test_in_lock_step_the_arm_follows_without_its_controllers_clock() -> None:
    with LockStep(schedule.load(UR), seed=1) as robot:
        frames = [robot.step().copy() for _ in range(800)]
    positions = [frame["joints"].value["position"][0] for frame in frames[10:]]
    assert max(positions) - min(positions) > 0.05
    assert {frame.due_ns - 2_000_000 * frame.cycle for frame in frames} == {0}


@pytest.mark.real
def test_the_cycle_follows_the_controller_and_the_arm_its_commands(tmp_path: Path) -> None:
    frames = []
    with Runner(ur_schedule(tmp_path), cycles=1500) as robot:
        for frame in robot:
            if frame["joints"].status == "FRESH" and frame.cycle > 300:
                frames.append((frame.flags, frame["joints"].value["position"].copy()))
    assert robot.summary is not None
    assert robot.summary["stopped"]["reason"] == "done"
    assert robot.summary["pace"]["device"] == "arm"
    assert robot.summary["pace"]["drift_ppb"] is not None
    assert robot.summary["actuators"]["arm"]["never_followed"] == []
    moved = np.ptp([position for _, position in frames], axis=0)
    assert moved.min() > 0.05
    assert any("UNPACED" not in flags for flags, _ in frames)


def test_the_program_starts_where_the_arm_is_and_ends_when_it_is_told(
    controller: tuple[EmulatorProcess, Path],
) -> None:
    emulator, path = controller
    arm = arm_of(path)
    arm.open()
    try:
        before = emulator.control({"device": "arm"})
        assert not before["running"]
        arm.enable()
        during = emulator.control({"device": "arm"})
        assert during["running"]
        assert during["position"] == pytest.approx(before["position"], abs=1e-6)
        arm.disable()
        assert not emulator.control({"device": "arm"})["running"]
    finally:
        arm.close()


def test_torque_is_what_the_controllers_mode_says(
    controller: tuple[EmulatorProcess, Path],
) -> None:
    emulator, path = controller
    arm = arm_of(path)
    assert arm.torque() == (None,) * 6, "nobody was asked"
    arm.open()
    try:
        assert arm.torque() == (True,) * 6
        emulator.control({"device": "arm", "fault": "unpowered", "count": -1})
        assert arm.torque() == (False,) * 6
        with pytest.raises(DeviceError, match="robot_mode is 3 and not 7; power the arm on"):
            arm.enable()
    finally:
        arm.close()


def test_a_stop_that_comes_with_goals_is_seen_before_they_are_followed() -> None:
    for follow in (servoj(500, 0.05, 300), speedj(500, 20)):
        lines = [line.strip() for line in program(7, follow, 200).splitlines()]
        goals = next(at for at, line in enumerate(lines) if line.startswith("goal ="))
        assert lines[goals + 1] == "if (read_input_integer_register(24) == 7):"
        assert lines[goals + 2] == follow
        assert lines[1] == 'rtde_set_watchdog("input_double_register_24", 5, "stop")'
    assert "rtde_set_watchdog" not in program(7, follow, 0)


def test_another_arm_behind_the_right_port_is_refused(
    controller: tuple[EmulatorProcess, Path],
) -> None:
    told = r"device arm .*'20235500001', and serial is 'X7'; correct host, or serial"
    with pytest.raises(DeviceError, match=told):
        arm_of(controller[1], serial="X7").open()


def test_a_port_that_is_not_rtde_is_refused(controller: tuple[EmulatorProcess, Path]) -> None:
    dashboard = schedule.load(controller[1]).device["arm"].options["dashboard_port"]
    told = r"device arm .*no controller with RTDE: .*; give host and port of one"
    with pytest.raises(DeviceError, match=told):
        arm_of(controller[1], port=dashboard).open()


def test_another_version_of_the_protocol_is_refused(tmp_path: Path) -> None:
    path = ur_schedule(tmp_path, ("drift_ppm", "rtde_version = 1\ndrift_ppm"))
    emulator = EmulatorProcess().start(path)
    try:
        with pytest.raises(DeviceError, match=r"version 2 of RTDE; install PolyScope 3\.4"):
            arm_of(path).open()
    finally:
        emulator.stop()


@pytest.mark.real
def test_doubled_packets_are_dropped_and_a_protective_stop_is_told(tmp_path: Path) -> None:
    path = ur_schedule(tmp_path)
    text = path.read_text()
    emulator = EmulatorProcess().start(path)
    path.write_text(re.sub(r"(?ms)^\[emulator\]$.*?(?=^\[)", "", text))
    sequences: dict[int, int] = {}
    told, faults = [], ["protective", "duplicate"]
    try:
        with Runner(path, cycles=1200) as robot:
            for frame in robot:
                sequences[frame.cycle] = frame["joints"].sequence
                told.append((frame["joints"].status, frame["joints"].reason))
                if frame.cycle > 700 - 300 * (len(faults) - 1) and faults:
                    emulator.control({"device": "arm", "fault": faults.pop(), "count": 200})
    finally:
        emulator.stop()
    assert robot.summary is not None
    first, last = min(sequences), max(cycle for cycle in sequences if cycle < 700)
    assert sequences[last] - sequences[first] <= last - first + 3, "no packet counts twice"
    assert ("INVALID", "device") in told
    assert robot.summary["latched"] == "device"
    assert Arm("arm", ArmOptions(host="h")).meaning(4) == "protective stop"


class UrPeer(Peer):
    """The emulated controller; a packet has no checksum, so none can be spoilt unseen."""

    def __init__(self, folder: Path) -> None:
        path = ur_schedule(folder)
        self.emulator = EmulatorProcess().start(path)
        self.options: dict[str, Any] = dict(schedule.load(path).device["arm"].options)
        self.options["watchdog_ms"] = 1500
        self.arm(velocity_max=0.3)  # slow: the watchdog stops it on its way

    def arm(self, **request: Any) -> dict[str, Any]:
        """Ask the emulator's control channel."""
        return self.emulator.control({"device": "arm", **request})

    def silence(self) -> None:
        self.arm(fault="silent", count=-1)

    def disguise(self) -> None:
        self.arm(serial="X7")

    def heal(self) -> None:
        self.arm(fault="clear", serial="20235500001")

    def unplug(self) -> None:
        self.arm(network=False)

    def replug(self) -> None:
        self.arm(network=True)

    def speed(self) -> float:
        return max(map(abs, self.arm()["velocity"]))


@pytest.mark.real
@pytest.mark.long
class TestArm(DriverContract):
    driver = Arm

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[UrPeer]:
        peer = UrPeer(tmp_path)
        yield peer
        peer.emulator.stop()

    def test_a_truncated_reply_is_no_sample_and_the_next_one_is(self) -> None:  # type: ignore[override]
        """A connection loses no bytes of a packet."""
        pytest.skip("over TCP no packet is cut")


# ---- without a host --------------------------------------------------------------------------


def test_a_program_that_its_controller_has_ended_is_not_taken_for_a_new_one(
    controller: tuple[EmulatorProcess, Path],
) -> None:
    """Its register still says that it runs."""
    emulator, path = controller
    arm = arm_of(path, watchdog_ms=50)
    arm.open()
    try:
        arm.enable()
        until(lambda: not emulator.control({"device": "arm"})["running"])
        arm.disable()
        arm.enable()
        assert emulator.control({"device": "arm"})["running"]
    finally:
        arm.close()


STEADY = """
class Steady:
    part = 0.0

    def __call__(self, frame):
        self.part = min(1.0, self.part + 0.005) if frame.reason == "none" else 0.0
        return [0.5 * self.part] * 6
"""
VELOCITY = (
    'feedback = "joints.position"\n',
    'mode = "velocity"\nfeedback = "joints.position"\n',
)


@pytest.mark.real
@pytest.mark.long
def test_an_arm_at_a_velocity_comes_to_rest_when_host_and_guard_are_killed(tmp_path: Path) -> None:
    tmp_path.joinpath("steady.py").write_text(STEADY)
    path = ur_schedule(
        tmp_path,
        (f'"{UR.parent}/demo_policy.py:Wave"', '"steady.py:Steady"'),
        ("args = { amplitude = 0.4, seconds = 6.0 }\n", ""),
        VELOCITY,
        ("position = [-3.1, 3.1]          # rad\n", ""),
        ("step = 0.2                      # rad, from the measured position\n", ""),
    )
    text = path.read_text()
    emulator = EmulatorProcess().start(path)
    path.write_text(re.sub(r"(?ms)^\[emulator\]$.*?(?=^\[)", "", text))
    name = re.search(r'name = "(\w+)"', text)
    assert name is not None
    try:
        with Run(Place(tmp_path, name[1]), ["-m", "inphase", "run", str(path)], {}) as run:
            until(lambda: max(emulator.control({"device": "arm"})["velocity"]) > 0.4)
            children = run.children()
            for one in (*(c for c in children if "_guard" in c.name()), psutil.Process(run.pid)):
                one.kill()
            until(lambda: not emulator.control({"device": "arm"})["running"])
            until(lambda: max(map(abs, emulator.control({"device": "arm"})["velocity"])) < 1e-3)
            inputs = emulator.control({"device": "arm"})["inputs"]
    finally:
        emulator.stop()
    assert inputs["input_int_register_24"] > 0, "nobody told it to stop"
    assert 0.3 < inputs["input_double_register_24"] <= 0.5, "its last goal is a velocity"


# ---- by other people -------------------------------------------------------------------------


def foreign_client() -> subprocess.CompletedProcess[str]:
    """ur_rtde's receiver; it knows the port 30004 alone."""
    if not FOREIGN.exists():
        pytest.skip("ur_rtde is not installed: make ur-test")
    return subprocess.run(
        [str(FOREIGN), "-c", CLIENT],
        capture_output=True, text=True, timeout=BOUND_S, check=True,
    )  # fmt: skip


class Listener:
    """A relay in front of the controller that keeps what a client sends."""

    def __init__(self, port: int, to: int) -> None:
        self.heard = b""
        self._to = to
        self._server = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                robot = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._carry, args=(robot, client), daemon=True).start()
                self._carry(client, robot, keep=True)

    def _carry(self, one: socket.socket, other: socket.socket, *, keep: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.heard += data if keep else b""
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def messages(self) -> list[tuple[int, bytes]]:
        found, left = [], self.heard
        while left:
            size, kind = HEADER.unpack_from(left)
            found.append((kind, left[HEADER.size : size]))
            left = left[size:]
        return found


@pytest.mark.real
def test_ur_rtdes_client_takes_the_emulator_for_a_robot_and_asks_as_the_driver_does(
    tmp_path: Path,
) -> None:
    path = ur_schedule(tmp_path)
    behind = schedule.load(path).device["arm"].options["port"]
    with contextlib.closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", 30004)) == 0:
            pytest.skip("port 30004, which the client wants, is in use")
    emulator = EmulatorProcess().start(path)
    listener = Listener(30004, behind)
    try:
        position = emulator.control({"device": "arm"})["position"]
        done = foreign_client()
        assert done.stdout.strip() == f"{position} 7"
        theirs = listener.messages()
        listener.heard = b""
        arm = arm_of(path, port=30004)
        arm.open()
        arm.close()
        ours = listener.messages()
    finally:
        listener.close()
        emulator.stop()
    assert theirs[0] == ours[0] == (Kind.PROTOCOL_VERSION, b"\0\2")
    asked = [next(payload for kind, payload in said if kind == Kind.OUTPUTS)
             for said in (theirs, ours)]  # fmt: skip
    assert asked[0][:8] == asked[1][:8], "the rate"
    names = [payload[8:].decode().rstrip(",").split(",") for payload in asked]
    assert names[0] == [name for name in names[1] if "register" not in name]
    assert (Kind.START, b"") in theirs and ours[-1] == (Kind.START, b"")
