"""Faults of a running robot: the runtime as a process, the emulated devices as another.

The rows named in the headings are those of the catalogue of faults.
"""

import ctypes
import http.server
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase import schedule
from inphase.episodes.runner import Runner
from inphase.errors import DeviceError, InphaseError
from inphase.frame import Frame
from inphase.frames import store
from inphase.runtime.run_options import RunOptions
from inphase.runtime.runtime import Runtime
from peers import BOUND_S, until
from runtimes import Robot, Run, give_rights_up, has_ended

pytestmark = pytest.mark.real
LIBC = ctypes.CDLL(None)
REST = 0.05  # rad/s: two counts of the servos' velocity


@pytest.fixture
def robot() -> Iterator[Robot]:
    """An emulated robot and a schedule for it."""
    with Robot() as made:
        yield made


# ---- rows 1 to 9: replies ------------------------------------------------------------------

REPLIES = {
    "arm late": ("arm", "joints", {"fault": "late", "arg": 6000}, "LATE", "silent", None),
    "arm silent": ("arm", "joints", {"fault": "silent"}, "MISSING", "silent", None),
    "arm short": ("arm", "joints", {"fault": "short", "arg": 20}, "INVALID", "size", 20),
    "arm garbled": ("arm", "joints", {"fault": "garble"}, "INVALID", "checksum", None),
    "arm wrong id": (
        "arm",
        "joints",
        {"fault": "wrong_id", "servo": 2, "arg": 100},
        "INVALID",
        "mismatch",
        100,
    ),
    "wrist late": ("wrist", "wrench", {"fault": "late", "arg": 6000}, "LATE", "silent", None),
    "wrist silent": ("wrist", "wrench", {"fault": "silent"}, "MISSING", "silent", None),
    "wrist short": ("wrist", "wrench", {"fault": "short", "arg": 20}, "INVALID", "size", 20),
    "wrist status word": (
        "wrist",
        "wrench",
        {"fault": "status_word", "arg": 0x80020000},
        "INVALID",
        "device",
        0x80020000,
    ),
    "wrist frozen": ("wrist", "wrench", {"fault": "freeze"}, "FROZEN", "none", None),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_bad_reply_gives_its_status_and_the_cycle_goes_on(robot: Robot, name: str) -> None:
    device, sensor, fault, status, reason, detail = REPLIES[name]
    with robot.run() as run:
        run.moving()
        robot.emulator.control({"device": device, "count": -1, **fault})
        bad = run.status(sensor, status)[sensor]
        assert bad.reason == reason
        assert detail is None or bad.detail == detail
        assert bad.sequence >= 0, "the last good sample is still named"
        robot.emulator.control({"device": device, "fault": "clear"})
        good = run.status(sensor, "FRESH")
        assert good[sensor].sequence > bad.sequence
        run.frame(
            lambda frame: frame.command["arm"].flags in {("WRITTEN",), ("WRITTEN", "LIMITED")}
        )
        run.signal(signal.SIGINT)
        code, summary = run.end()
        assert code == 130
        assert summary["sensors"][sensor]["status"][status] > 0
        assert summary["latched"] is None


def test_an_overload_in_motion_is_told_by_its_name_and_servo(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        robot.arm(set={"register": {"servo": 1, "address": 70, "value": 0x20}})
        bad = run.status("joints", "INVALID")["joints"]
        assert (bad.reason, bad.detail) == ("device", 0x80)
        run.frame(lambda frame: "LATCHED" in frame.flags)
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["latched"] == "device"
    (latched,) = [text for text in summary["events"] if text.startswith("motion is latched")]
    assert "device (0x80 of arm: a servo has a hardware error, as an overload" in latched
    (fault,) = [text for text in summary["events"] if "register 70" in text and text != latched]
    assert fault.startswith("device arm: servo 2 on ")
    assert "overload (hardware error status, register 70, is 0x20)" in fault


def test_a_servo_that_reports_a_fault_ramps_the_arm_until_it_is_armed_again(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        robot.arm(fault="error", servo=1, arg=0x80, count=-1)
        bad = run.status("joints", "INVALID")["joints"]
        assert (bad.reason, bad.detail) == ("device", 0x80)
        held = run.frame(lambda frame: "LATCHED" in frame.flags)
        assert (held.reason, held.detail) == ("device", 0x80)
        robot.arm(fault="clear")
        run.status("joints", "FRESH")
        run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
        run.signal(signal.SIGUSR1)
        run.frame(lambda frame: "LATCHED" not in frame.flags)
        run.moving()
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["latched"]) == (130, None)


def test_a_reply_in_two_parts_is_one_sample(robot: Robot) -> None:
    robot.arm(fault="split", count=-1, arg=300)
    with robot.run("--cycles", "40") as run:
        code, summary = run.end()
    assert code == 0
    assert summary["sensors"]["joints"]["status"]["FRESH"] > 0
    assert summary["sensors"]["joints"]["status"]["INVALID"] == 0


def test_noise_before_a_reply_is_dropped_and_counted(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        robot.arm(fault="noise", count=5, arg=9)
        robot.wrist(fault="duplicate", count=5)
        for _ in range(20):  # replies, not cycles: a machine that stalls skips those
            run.status("joints", "FRESH")
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["dropped_bytes"] >= 5 * 9


def test_silent_feedback_ramps_and_the_arm_goes_on_by_itself(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        robot.arm(fault="silent", count=-1)
        ramp = run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
        assert ramp.command["arm"].reason in {"feedback", "busy"}
        until(lambda: robot.speed < REST)
        robot.arm(fault="clear")
        run.frame(lambda frame: frame.command["arm"].flags == ("WRITTEN",))


# ---- row 41: the watchdog's feed -------------------------------------------------------------


def test_what_a_policy_that_hangs_has_left_moving_is_stopped_and_held_by_the_servos_watchdog(
    robot: Robot,
) -> None:
    robot.write(("watchdog_ms = 0", "watchdog_ms = 400"))
    with robot.run() as run:
        run.moving()
        policy = run.child("inphase.policy")
        policy.suspend()
        run.frame(lambda frame: "STARVED" in frame.command["arm"].flags)
        until(lambda: robot.arm()["watchdog"] == [0xFF] * 6)
        asked = robot.arm()["counters"]["requests"]
        held = run.frame(lambda frame: frame["joints"].status == "MISSING")
        assert held.reason == "watchdog" and "LATCHED" in held.flags
        policy.resume()
        cycle = held.cycle
        run.frame(lambda frame: frame.cycle > cycle + 20)
        assert robot.arm()["counters"]["requests"] == asked, "neither read nor written"
        assert robot.speed < REST
        run.signal(signal.SIGUSR1)
        run.frame(lambda frame: frame.reason == "none")
        run.moving()
        assert 0xFF not in robot.arm()["watchdog"]
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["latched"]) == (130, None)


# ---- row 8: a device goes and comes back ---------------------------------------------------


def test_a_port_that_closes_and_comes_back_moves_only_after_arming(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        for _ in range(3):
            robot.arm(fault="close")
            gone = run.status("joints", "OFFLINE")
            run.frame(lambda frame: "LATCHED" in frame.flags and frame.reason == "offline")
            assert gone["joints"].sequence >= 0
            robot.arm(fault="reopen")
            run.status("joints", "RECOVERING")
            back = run.status("joints", "FRESH")
            assert "LATCHED" in back.flags
            later = [run.frame(lambda _: True).command["arm"] for _ in range(5)]
            assert not any("WRITTEN" in act.flags and act.reason != "rest" for act in later)
            until(lambda: run.stderr.count("is back") > run.stderr.count("armed:"))
            run.signal(signal.SIGUSR1)
            run.frame(lambda frame: "LATCHED" not in frame.flags)
            run.moving()
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert code == 130
    assert summary["lost_devices"] == 3
    latched = [event for event in summary["events"] if event.startswith("motion is latched")]
    assert len(latched) == 3 and all("offline" in event for event in latched)
    told = [event for event in summary["events"] if event not in latched]
    told = [event for event in told if not event.startswith("policy ")]  # refused starts
    assert [event.split()[0] for event in told] == ["device", "device", "armed:"] * 3
    assert all(event.endswith("is gone") for event in told[::3])
    assert all("is back; motion needs to be armed" in event for event in told[1::3])


def test_arming_while_a_device_is_gone_is_refused(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        robot.arm(fault="close")
        run.status("joints", "OFFLINE")
        until(lambda: "is gone" in run.stderr)
        run.signal(signal.SIGUSR1)
        until(lambda: "still gone: nothing is armed" in run.stderr)
        run.frame(lambda frame: "LATCHED" in frame.flags)
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["latched"]) == (8, "offline")  # it is not known to be at rest


def test_a_wrist_whose_port_is_closed_is_offline_and_comes_back(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        robot.wrist(fault="close")
        run.status("wrench", "OFFLINE")
        robot.wrist(fault="reopen")
        run.status("wrench", "FRESH")
        assert "LATCHED" not in run.frame(lambda _: True).flags, "no motion depends on it"


# ---- row 11: the wall clock is set -----------------------------------------------------------

COMPILER = shutil.which(os.environ.get("CC", "cc"))


@pytest.mark.skipif(COMPILER is None, reason="no C compiler for the preloaded wall clock")
def test_a_wall_clock_that_is_set_is_told_and_the_cycle_goes_on(robot: Robot) -> None:
    library, offset = robot.folder / "wall_clock.so", robot.folder / "offset"
    source = Path(__file__).with_name("wall_clock.c")
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source], check=True)
    offset.write_bytes(bytes(8))
    preload = ":".join(filter(None, (os.environ.get("LD_PRELOAD"), str(library))))
    environment = {**os.environ, "LD_PRELOAD": preload, "INPHASE_TEST_WALL": str(offset)}
    with robot.run(env=environment) as run:
        run.moving()
        for seconds in (3600, -1800, 0):
            with offset.open("r+b") as file:
                file.write(struct.pack("<q", seconds * 1_000_000_000))
            step = run.frame(lambda frame: "CLOCK_STEP" in frame.flags)
            after = run.frame(lambda frame: "CLOCK_STEP" not in frame.flags)
            assert after.cycle - step.cycle == 1 + after.skipped
            run.status("joints", "FRESH")
            assert run.status("wrench", "FRESH").reason == "none"
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert code == 130
    assert (summary["latched"], summary["lost_devices"]) == (None, 0)
    # whether a starved emulator is late is another matter: no slip for a clock is in test_stamp.c
    assert summary["sensors"]["wrench"]["status"]["INVALID"] == 0


# ---- at start: devices ---------------------------------------------------------------------


def test_an_absent_arm_is_named(robot: Robot) -> None:
    robot.arm(fault="close")
    with robot.run() as run:
        code, summary = run.end()
    assert (code, summary) == (3, {})
    assert "device arm: cannot open" in run.stderr and str(robot.folder) in run.stderr
    assert robot.segments() == []


def test_an_absent_wrist_is_named_and_the_arm_stays_off(robot: Robot) -> None:
    robot.wrist(fault="close")
    with robot.run() as run:
        code, _ = run.end()
    assert code == 3
    assert "device wrist: no record from 127.0.0.1" in run.stderr
    assert robot.arm()["torque"] == [0] * 6


def test_a_servo_that_does_not_answer_is_named(robot: Robot) -> None:
    robot.arm(fault="off", servo=3)
    with robot.run() as run:
        code, _ = run.end()
    assert code == 3
    assert "servo 4" in run.stderr and "no answer" in run.stderr


def test_a_servo_of_another_baud_register_is_refused_with_register_and_value(
    robot: Robot,
) -> None:
    robot.arm(set={"register": {"servo": 2, "address": 8, "value": 3}})
    with robot.run() as run:
        code, _ = run.end()
    assert code == 3
    assert "servo 3" in run.stderr
    assert "register 8 (baud rate) is 3, needed is 6" in run.stderr
    assert robot.arm()["counters"]["writes"] == 0


def test_a_return_delay_is_set_while_the_torque_is_off(robot: Robot) -> None:
    robot.arm(set={"register": {"servo": 1, "address": 9, "value": 125}})
    with robot.run("--cycles", "5") as run:
        code, _ = run.end()
    assert code == 0
    assert [2, 9, "00"] in robot.arm()["journal"]


def test_a_return_delay_under_torque_is_refused_with_register_and_value(robot: Robot) -> None:
    robot.arm(set={"register": {"servo": 1, "address": 9, "value": 125}})
    robot.arm(set={"register": {"servo": 1, "address": 64, "value": 1}})
    with robot.run() as run:
        code, _ = run.end()
    assert code == 3
    assert "servo 2" in run.stderr and "register 9 (return delay time)" in run.stderr
    assert "125" in run.stderr
    assert robot.arm()["counters"]["writes"] == 0


def test_a_second_runtime_on_the_same_devices_is_refused_with_the_holders_name(
    robot: Robot,
) -> None:
    with robot.run() as first:
        first.moving()
        robot.write((robot.name, "second"))
        with robot.run() as second:
            code, _ = second.end()
        assert code == 3
        assert f"is used by robot {robot.name}, process {first.pid}" in second.stderr
        first.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)


# ---- enabling ------------------------------------------------------------------------------


def test_every_goal_is_the_measured_pose_before_any_torque_is_on(robot: Robot) -> None:
    pose = [0.4, -0.3, 0.2, -0.1, 0.6, -0.7]
    robot.arm(set={"position": pose})
    robot.write(('[policy]\ncall = "sweep.py:Sweep"\n', ""))
    with robot.run("--cycles", "30") as run:
        code, _ = run.end()
    assert code == 0
    status = robot.arm()
    goal, torque = 116, 64
    first_torque = {ident: 0 for ident in range(1, 7)}
    for at, (ident, address, value) in enumerate(status["journal"]):
        if address == torque and value == "01":
            first_torque[ident] = first_torque[ident] or at
    for ident, at in first_torque.items():
        goals = [
            value for i, address, value in status["journal"][:at] if (i, address) == (ident, goal)
        ]
        count = int.from_bytes(bytes.fromhex(goals[-1]), "little", signed=True)
        assert (count - 2048) * 2 * math.pi / 4096 == pytest.approx(pose[ident - 1], abs=0.001)
    assert status["position"] == pytest.approx(pose, abs=0.002), "the arm did not jump"


def test_observing_reads_and_writes_nothing(robot: Robot) -> None:
    with robot.run("--observe", "--cycles", "40") as run:
        frame = run.status("joints", "FRESH")
        assert "OBSERVING" in frame.flags
        code, summary = run.end()
    status = robot.arm()
    assert (code, summary["commands"]["written"]) == (0, 0)
    assert summary["sensors"]["joints"]["status"]["FRESH"] > 0
    assert (status["counters"]["writes"], status["torque"]) == (0, [0] * 6)


# ---- rows 14, 15, 17 to 20: the policy's process -------------------------------------------


def test_a_policy_that_is_killed_is_named_and_the_robot_comes_to_rest(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        run.child("inphase.policy").kill()
        run.frame(lambda frame: frame.command["arm"].reason == "died")
        run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
        until(lambda: robot.speed < REST)
        until(lambda: "policy ended: signal 9" in run.stderr)
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["policy"]["ended"] == "signal 9"
    assert summary["policy"]["reasons"]["died"] > 0
    assert "policy ended: signal 9" in summary["events"]
    assert robot.arm()["torque"] == [1] * 6, "the arm is held, not dropped"


def test_a_run_whose_policy_was_killed_ends_with_its_own_exit_code(robot: Robot) -> None:
    with robot.run("--cycles", "250") as run:
        run.moving()
        run.child("inphase.policy").kill()
        code, summary = run.end()
    assert (code, summary["stopped"]["reason"], summary["cycles"]) == (7, "done", 250)


def test_a_policy_that_hangs_is_repeated_then_ramped_and_goes_on_later(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        policy = run.child("inphase.policy")
        policy.suspend()
        missed = run.frame(lambda frame: "REPEATED" in frame.command["arm"].flags)
        assert missed.command["arm"].reason == "silent"
        run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
        until(lambda: robot.speed < REST)
        policy.resume()
        run.frame(lambda frame: frame.command["arm"].reason == "none")
        run.moving()
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["policy"]["missed"] > 0
    assert summary["policy"]["ended"] is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("raise ValueError('a bug')", "raised"),
        ("return [float('nan')] * 6", "nan"),
        ("return [0.0] * 5", "shape"),
        ("return None", "silent"),
    ],
)
def test_a_bad_answer_of_the_policy_is_named(robot: Robot, answer: str, reason: str) -> None:
    robot.folder.joinpath("bad.py").write_text(f"def bad(frame):\n    {answer}\n")
    robot.write(("sweep.py:Sweep", "bad.py:bad"))
    with robot.run() as run:
        bad = run.frame(lambda frame: frame.command["arm"].reason == reason)
        assert "HOLDING" in bad.command["arm"].flags, "it never gave a good one"
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["policy"]["reasons"][reason] > 0
    assert summary["policy"]["commands"] == 0
    assert ("ValueError: a bug" in run.stderr) == (reason == "raised")


def test_the_policy_runs_without_garbage_collection(robot: Robot) -> None:
    robot.folder.joinpath("collect.py").write_text(
        "import gc, pathlib\n"
        "def policy(frame):\n"
        "    facts = f'{gc.isenabled()} {gc.get_freeze_count() > 0}'\n"
        "    part = pathlib.Path(__file__).with_name('part')\n"
        "    part.write_text(facts)\n"
        "    part.replace(part.with_name('facts'))\n"
    )
    call = 'call = "sweep.py:Sweep"'
    robot.write((call, 'call = "collect.py:policy"\nallow = ["files"]'))
    with robot.run():
        until(robot.folder.joinpath("facts").exists)
        assert robot.folder.joinpath("facts").read_text() == "False True"


HOLDS = {
    "the GIL": "ctypes.PyDLL(None).usleep(400_000)  # PyDLL keeps it",
    "a garbage collection": "gc.enable(); gc.collect()",
}


@pytest.mark.parametrize("name", HOLDS)
def test_a_policy_whose_interpreter_is_held_is_repeated_then_ramped_and_goes_on(
    robot: Robot, name: str
) -> None:
    robot.folder.joinpath("held.py").write_text(
        "import ctypes, gc, sweep\n"
        "class Held(sweep.Sweep):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.calls = 0\n"
        "    def __call__(self, frame):\n"
        "        self.calls += 1\n"
        "        if self.calls == 1:  # what is made before the loop is frozen, and not looked at\n"
        "            self.heap = [[i] for i in range(3_000_000)]\n"
        "        if self.calls % 100 == 0:\n"
        f"            {HOLDS[name]}\n"
        "        return super().__call__(frame)\n"
    )
    robot.write(("sweep.py:Sweep", "held.py:Held"))
    with robot.run() as run:
        missed = run.frame(lambda frame: "REPEATED" in frame.flags)
        assert missed.command["arm"].reason == "silent"
        ramped = run.frame(lambda frame: "RAMPING" in frame.flags)
        assert ramped.state == "ramping" and ramped.reason == "none"
        again = run.frame(lambda frame: frame.state == "running")
        assert again.cycle > ramped.cycle
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["latched"]) == (130, None)
    assert summary["policy"]["missed"] > 0


def test_the_cycle_goes_on_while_the_runtimes_interpreter_is_held(robot: Robot) -> None:
    robot.write(('[policy]\ncall = "sweep.py:Sweep"\n', ""))
    runtime = Runtime(schedule.load(robot.schedule), RunOptions(), lambda _: None)
    try:
        runtime.prepare()
        runtime.start()
        assert runtime.reader is not None
        until(lambda: runtime.reader.status()["cycles"] > 10)
        before = runtime.reader.status()["cycle"]
        ctypes.PyDLL(None).usleep(500_000)  # PyDLL keeps the GIL
        assert runtime.reader.status()["cycle"] >= before + 20
        runtime.stop("request")
        until(lambda: runtime.over)
        assert runtime.finish()["sensors"]["joints"]["status"]["FRESH"] > 0
    finally:
        runtime.close()


# ---- rows 12, 28, 29: signals to the runtime -----------------------------------------------


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_moving_brings_the_robot_to_rest_before_the_end(
    robot: Robot, number: signal.Signals, phase: int
) -> None:
    with robot.run() as run:
        run.moving()
        children = run.children()
        assert children and robot.segments()
        time.sleep(random.random() * 0.1)  # any phase of the cycle, and of the motion
        run.signal(number)
        code, summary = run.end()
    assert robot.speed < REST
    assert code == 128 + number
    assert (summary["stopped"]["reason"], summary["stopped"]["detail"]) == ("signal", number.name)
    assert summary["stopping_cycles"] > 0
    assert robot.segments() == []
    assert all(has_ended(child) for child in children)


def test_a_signal_while_a_device_is_gone_ends_the_run(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        robot.arm(fault="close")
        run.status("joints", "OFFLINE")
        run.signal(signal.SIGTERM)
        code, summary = run.end()
    # it is not known to be at rest, and the next run is told
    assert (code, summary["latched"], summary["state"]) == (8, "offline", "uncontrolled")
    assert [name.rpartition(".")[2] for name in robot.segments()] == ["note"]


@pytest.mark.parametrize("delay_ms", [150, 300, 400, 500, 600, 700])
def test_a_signal_during_the_start_ends_the_run(robot: Robot, delay_ms: int) -> None:
    with robot.run() as run:
        time.sleep(delay_ms / 1000)
        run.signal(signal.SIGTERM)
        code, _ = run.end()
    # before the runtime handles signals, the signal ends it as it ends any process
    assert code in {128 + signal.SIGTERM, -signal.SIGTERM}, run.stderr
    assert robot.segments() == []
    assert robot.speed < REST


def test_a_signal_while_devices_are_opened_ends_the_run_before_any_torque(robot: Robot) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            answer.wait(BOUND_S)
            self.send_response(200)
            self.end_headers()
            page = "<cfgcpf>1e6</cfgcpf><cfgcpt>1e6</cfgcpt><scfgfu>N</scfgfu><scfgtu>Nm</scfgtu>"
            self.wfile.write(f"<netft>{page}</netft>".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        robot.write(("config_port = ", f"config_port = {server.server_port} # "))
        with robot.run() as run:
            assert asked.wait(BOUND_S)
            run.signal(signal.SIGTERM)
            answer.set()
            code, summary = run.end()
        server.shutdown()
    assert (code, summary["stopped"]["reason"]) == (143, "signal")
    assert robot.arm()["counters"]["writes"] == 0
    assert robot.segments() == []


def test_a_signal_while_the_policy_is_imported_ends_the_run_before_any_torque(
    robot: Robot,
) -> None:
    robot.folder.joinpath("slow.py").write_text(
        "import pathlib, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "here.joinpath('importing').touch()\n"
        "time.sleep(1000)\n"
        "def policy(frame):\n"
        "    return None\n"
    )
    call = 'call = "sweep.py:Sweep"'
    robot.write((call, 'call = "slow.py:policy"\nallow = ["files"]'))
    with robot.run() as run:
        until(robot.folder.joinpath("importing").exists)
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert (code, summary["stopped"]["reason"]) == (130, "signal")
    assert robot.arm()["counters"]["writes"] == 0


def test_a_trend_of_overruns_brings_the_robot_to_rest_and_ends_the_run(robot: Robot) -> None:
    robot.write(("overrun_limit = 1000000", "overrun_limit = 1"))
    with robot.run() as run:
        run.moving()

        def is_stopped() -> bool:
            run.signal(signal.SIGSTOP)
            time.sleep(0.05)
            run.signal(signal.SIGCONT)
            time.sleep(0.05)
            return run.process.poll() is not None

        until(is_stopped)
        code, summary = run.end()
    assert (code, summary["stopped"]["reason"]) == (6, "overrun")
    assert summary["overruns"] > 0
    assert robot.speed < REST


def test_a_suspended_runtime_says_so_and_moves_only_after_arming(robot: Robot) -> None:
    robot.write(("resumed_after_ms = 20000", "resumed_after_ms = 400"))
    with robot.run() as run:
        for _ in range(4):  # whatever the cycle thread was waiting for
            run.moving()
            run.signal(signal.SIGSTOP)
            time.sleep(0.8 + 0.008 * random.random())
            run.signal(signal.SIGCONT)
            resumed = run.frame(lambda frame: "RESUMED" in frame.flags)
            assert resumed.reason == "resumed" and resumed.skipped > 40
            assert "LATCHED" in resumed.flags
            run.frame(lambda frame: "RAMPING" in frame.command["arm"].flags)
            until(lambda: robot.speed < REST)
            run.signal(signal.SIGUSR1)


def test_a_killed_runtime_leaves_no_process_and_the_next_start_cleans_up(robot: Robot) -> None:
    with robot.run() as run:
        run.moving()
        follower, children = run.follower, run.children()
        epoch = follower.layout.epoch
        assert children
        run.signal(signal.SIGKILL)
        run.process.wait(BOUND_S)
        with pytest.raises(store.Lost):
            while True:
                follower.next(BOUND_S)
        until(lambda: all(has_ended(one) for one in children))
        left = robot.segments()
        assert left
    with robot.run("--cycles", "30") as run:
        assert run.follower.layout.epoch != epoch
        code, summary = run.end()
    assert code == 0
    # any start of this user takes dead names away: that of a test beside this one, too
    assert any("run died while moving" in event for event in summary["events"])
    assert robot.segments() == []


# ---- rows 21, 22: subscribers --------------------------------------------------------------

SUBSCRIBER = """
import sys
from inphase.frames.store_follower import StoreFollower
follower = StoreFollower.of_robot(sys.argv[1])
lost, held = 0, []
print("following", flush=True)
for frame in follower:
    lost += frame.lost
    held.append(frame["joints"].value)
    held = held[-8:]
    print(frame.cycle, lost, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_subscriber_that_stands_still_or_dies_costs_the_runtime_nothing(
    robot: Robot, how: signal.Signals
) -> None:
    with robot.run() as run:
        run.moving()
        command = [sys.executable, "-c", SUBSCRIBER, robot.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as subscriber:
            try:
                assert subscriber.stdout is not None
                assert subscriber.stdout.readline() == b"following\n"
                cycle = int(subscriber.stdout.readline().split()[0])
                subscriber.send_signal(how)
                # a quarter of a second of frames is kept; let it all be written over
                run.frame(lambda frame: frame.cycle > cycle + 100)
                if how is signal.SIGSTOP:
                    subscriber.send_signal(signal.SIGCONT)
                    lost = 0
                    while lost == 0:
                        lost = int(subscriber.stdout.readline().split()[1])
                    assert lost > 20
            finally:
                subscriber.kill()
        cycle = run.frame(lambda _: True).cycle
        run.frame(lambda frame: frame.cycle > cycle + 20)
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert code == 130
    assert summary["stopped"]["reason"] == "signal"


def test_a_script_that_dies_takes_its_runtime_with_it(robot: Robot) -> None:
    script = robot.folder / "script.py"
    script.write_text(
        "import sys\n"
        "from inphase.episodes.runner import Runner\n"
        "with Runner(sys.argv[1]) as robot:\n"
        "    for frame in robot:\n"
        "        pass\n"
    )
    with Run(robot, [str(script), str(robot.schedule)], {}) as run:
        run.moving()
        family = run.children()
        assert len(family) >= 2, "the runtime and its policy"
        run.signal(signal.SIGKILL)
        run.process.wait(BOUND_S)
        until(lambda: all(has_ended(one) for one in family))
    assert robot.speed < REST
    assert robot.segments() == []


def test_a_script_is_told_what_is_wrong_by_the_exception_that_the_runtime_raised(
    robot: Robot,
) -> None:
    robot.wrist(fault="close")
    with pytest.raises(DeviceError, match="device wrist: no record"), Runner(robot.schedule):
        pass
    robot.wrist(fault="reopen")
    robot.write(("sweep.py:Sweep", "gone.py:Sweep"))
    with pytest.raises(InphaseError) as refused, Runner(robot.schedule):
        pass
    assert refused.value.exit_code == 2
    assert robot.segments() == []


def test_a_policy_in_the_callers_process_that_raises_is_named(robot: Robot) -> None:
    def policy(frame: Frame) -> None:
        raise ValueError("a bug")

    with Runner(robot.schedule, policy=policy, cycles=50) as runner:
        for frame in runner:
            assert "WRITTEN" in frame.command["arm"].flags or frame.command.cycle < 0
    assert runner.summary is not None
    assert runner.summary["policy"]["reasons"]["raised"] > 0
    assert robot.segments() == []


def test_a_gateway_that_is_killed_is_named_and_the_robot_goes_on(robot: Robot) -> None:
    table = f'[gateway]\nendpoint = "ipc://{robot.folder}/frames"\n[sensor.joints]\n'
    robot.write(("[sensor.joints]\n", table))
    with robot.run() as run:
        run.moving()
        run.child("inphase.runtime.gateway").kill()
        until(lambda: "gateway ended: signal 9" in run.stderr)
        cycle = run.frame(lambda _: True).cycle
        later = run.frame(lambda frame: frame.cycle > cycle + 20)
        assert later.reason == "none"
        run.signal(signal.SIGTERM)
        code, summary = run.end()
    assert code == 128 + signal.SIGTERM
    assert "gateway ended: signal 9" in summary["events"]
    assert robot.segments() == []


# ---- row 43: rights ------------------------------------------------------------------------


def test_required_rights_that_are_refused_end_the_run_with_the_remedy(robot: Robot) -> None:
    robot.write(('realtime = "prefer"', 'realtime = "require"'))
    with robot.run(preexec_fn=give_rights_up) as run:
        code, summary = run.end()
    assert (code, summary) == (4, {})
    assert "SCHED_FIFO" in run.stderr and "locked memory" in run.stderr
    assert "rtprio" in run.stderr and 'realtime = "prefer"' in run.stderr
    assert robot.arm()["counters"]["requests"] == 0, "no device was touched"


def test_preferred_rights_that_are_refused_are_told_by_every_frame(robot: Robot) -> None:
    with robot.run(preexec_fn=give_rights_up) as run:
        frames = [run.frame(lambda _: True) for _ in range(10)]
        run.moving()
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert code == 130
    assert all("NOT_REALTIME" in frame.flags for frame in frames)
    assert summary["realtime"]["granted"] is False
    refused = {"SCHED_FIFO", "locked memory"}
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        refused.remove("locked memory")  # the sanitizer makes mlock a call that does nothing
    assert refused <= summary["realtime"]["refused"].keys()


# ---- row 45 and bad schedules --------------------------------------------------------------

LIMITS = "velocity = 2.0\nacceleration = 4.0\nstep = 0.5\n"
SCHEDULES = {
    "unknown key": ("rate_hz = 125", "rate_hz = 125\nspeed = 3", "cycle.speed"),
    "unknown device key": ("baud = 4_000_000", "boud = 4_000_000", "device.arm.boud"),
    "wrong type": ("rate_hz = 125", 'rate_hz = "fast"', "cycle.rate_hz"),
    "no limits": (LIMITS, "acceleration = 4.0\nstep = 0.5\n", "actuator.arm.limits"),
    "limits of too few joints": ("step = 0.5", "step = [0.5, 0.5]", "actuator.arm.limits.step"),
    "act after the period": ("act_us = 6000", "act_us = 9000", "cycle.act_us"),
    "a reply after its deadline": (
        "read_deadline_us = 5000",
        "read_deadline_us = 200",
        "trigger_us",
    ),
    "two devices on one port": (
        "[sensor.joints]",
        '[device.other]\ndriver = "inphase_drivers.dynamixel:Servos"\n'
        'port = "PORT"\nids = [9]\n[sensor.joints]',
        "device.other",
    ),
    "no such policy file": ("sweep.py:Sweep", "gone.py:Sweep", "policy.call"),
    "no such policy": ("sweep.py:Sweep", "sweep.py:Gone", "policy.call"),
    "a policy that raises when it is imported": ("sweep.py:Sweep", "broken.py:x", "policy.call"),
    "a policy that cannot be made": (
        'call = "sweep.py:Sweep"',
        'call = "sweep.py:Sweep"\nargs = { speed = 1 }',
        "policy.args",
    ),
    "no such driver": ("dynamixel:Servos", "dynamixel:Gone", "device.arm.driver"),
}


def _often(name: str) -> Any:
    """Whole commands, most of them for the long tests: test_every_fault looks at each fault."""
    often = {"unknown key", "limits of too few joints", "two devices on one port", "no such policy"}
    return pytest.param(name, marks=() if name in often else pytest.mark.long)


@pytest.mark.parametrize("name", map(_often, SCHEDULES))
def test_a_bad_schedule_is_refused_by_check_and_run_and_nothing_moves(
    robot: Robot, name: str
) -> None:
    old, new, key = SCHEDULES[name]
    robot.write((old, new.replace("PORT", f"{robot.folder}/ports/arm")))
    robot.folder.joinpath("broken.py").write_text("raise RuntimeError('broken')\n")
    for command in ("check", "run"):
        done = subprocess.run(
            [sys.executable, "-m", "inphase", command, str(robot.schedule)],
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND_S,
        )
        assert done.returncode == 2, (command, done)
        assert re.search(rf"run\.toml:\d+: .*{re.escape(key)}", done.stderr), (command, done)
    status = robot.arm()
    assert (status["counters"]["writes"], status["torque"]) == (0, [0] * 6)
    assert robot.segments() == []
