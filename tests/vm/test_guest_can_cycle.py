"""Exchanges in CAN frames that the core runs on real CAN sockets, in a whole runtime.

The motors are a thread of the test at the other end of the bus, on python-can.
"""

import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from guest import CAN_PAIR, Robot, gpio_card, need, wire_up

import can_motors
from can_motors import GOAL, MICRORAD, MOTORS, STATE, SYNC
from peers import BOUND_S, until
from robots import CREEP

can = pytest.importorskip("can", reason="python-can is not installed")

_DRIVER = """
import os
from pathlib import Path

import can
import msgspec
from can_motors import MOTORS, STATE, CanMotors

from inphase.driver import DeviceError


class Motors(CanMotors):
    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        channel: str

    request_ns, reply_ns, reply_max_ns, write_ns = 100_000, 2_000_000, 60_000_000, 1_000_000
    link = None

    @property
    def address(self):
        return self.options.channel

    def open(self):
        flags = Path("/sys/class/net", self.options.channel, "flags")
        if not int(flags.read_text(), 16) & 1:
            raise DeviceError(f"device {self.name}: {self.options.channel} is down")
        filters = [
            {"can_id": STATE + motor, "can_mask": 0x7FF, "extended": False}
            for motor in range(MOTORS)
        ]
        self.link = can.Bus(self.options.channel, interface="socketcan", can_filters=filters)
        os.set_blocking(self.link.fileno(), False)
        return self.link.fileno()

    def close(self):
        if self.link is not None:
            self.link.shutdown()
            self.link = None
"""
# slow: what is tested is what happens, in an emulated machine
_SCHEDULE = f"""
[cycle]
rate_hz = 10
read_deadline_us = 50000
act_us = 60000
realtime = "prefer"
resumed_after_ms = 60000
overrun_limit = 1000000
[device.arm]
driver = "motors.py:Motors"
channel = "{{channel}}"
[sensor.motors]
device = "arm"
trigger_us = 0
max_age_ms = 1000
{{more}}
{CREEP}"""


class Motors:
    """Three motors on a bus that are where their goals are."""

    def __init__(self, channel: str, line: Callable[[], bool] = lambda: False) -> None:
        self.goal = [1000, -2000, 3000]
        self.synced = self.goals = 0
        self.up_at_sync = self.fell = 0
        self._line = line
        self._was_up = False
        self._bus = can.Bus(channel, interface="socketcan")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._ended.is_set():
            message = self._bus.recv(0.005)
            self._look()
            if message is not None and not message.is_error_frame:
                self._take(message)

    def _look(self) -> None:
        up = self._line()
        self.fell += self._was_up and not up
        self._was_up = up

    def _take(self, message: can.Message) -> None:
        ident = message.arbitration_id
        if ident == SYNC:
            self.synced += 1
            self.up_at_sync += self._line()
            for motor in reversed(range(MOTORS)):
                self._send(0x700 + motor, b"other")
                self._send(STATE + motor, struct.pack("<i", self.goal[motor]))
        elif GOAL <= ident < GOAL + MOTORS:
            self.goals += 1
            self.goal[ident - GOAL] = struct.unpack("<i", message.data)[0]

    def _send(self, ident: int, data: bytes) -> None:
        frame = can.Message(arbitration_id=ident, data=data, is_extended_id=False)
        self._bus.send(frame, timeout=BOUND_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._bus.shutdown()


def robot(folder: Path, channel: str, more: str = "") -> Robot:
    """A robot on a bus; `more` goes into its sensor's table."""
    schedule = _SCHEDULE.format(channel=channel, more=more)
    shutil.copy(can_motors.__file__, folder)
    return Robot(folder, f"can-{channel}", schedule, motors=_DRIVER)


@pytest.fixture
def wire() -> Iterator[None]:
    """Two controllers on one wire, up."""
    with wire_up():
        yield


def test_the_core_runs_exchanges_on_a_virtual_bus(tmp_path: Path) -> None:
    need("/sys/class/net/vcan0", "virtual CAN bus")
    with Motors("vcan0") as motors, robot(tmp_path, "vcan0").run("--seconds", "4") as run:
        frame = run.status("motors", "FRESH")
        row = frame["motors"]
        assert row.triggered_ns is not None
        assert row.received_ns is not None
        assert row.triggered_ns < row.received_ns <= frame.latched_ns
        run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
        until(lambda: motors.goals >= 2 * MOTORS)
        # what was commanded is what the motors then measure: out in C, back in C
        moved = run.frame(lambda frame: frame["motors"].value["position"][0] > 0.0025)
        assert moved["motors"].value["position"][1] == pytest.approx(
            moved["motors"].value["position"][0] - 3000 * MICRORAD, abs=2 * MICRORAD
        )
        code, summary = run.end()
    assert code == 0, run.stderr
    assert (summary["slips"], summary["lost_devices"]) == (0, 0)
    assert summary["foreign_frames"] == 0  # the kernel's filter keeps them away


def test_the_core_raises_a_line_before_each_request_and_lowers_it(tmp_path: Path) -> None:
    need("/sys/class/net/vcan0", "virtual CAN bus")
    pytest.importorskip("gpiod", reason="libgpiod's Python binding (gpiod) is not installed")
    with gpio_card() as card:
        line = f'trigger_line = {{ chip = "{card.chip}", line = 3 }}'
        with (
            Motors("vcan0", lambda: card.registers[0] == 1 << 3) as motors,
            robot(tmp_path, "vcan0", line).run("--seconds", "4", "--observe") as run,
        ):
            run.frame(lambda frame: frame["motors"].status == "FRESH")
            until(lambda: motors.fell >= 5)
            code, summary = run.end()
        assert code == 0, run.stderr
        fresh = summary["sensors"]["motors"]["status"]["FRESH"]
        # a sample that came in time was asked for while the line was up
        assert fresh <= motors.up_at_sync <= motors.synced
        assert card.registers[0] == 0


def test_a_controller_that_is_taken_down_is_offline_and_comes_back(
    wire: None, tmp_path: Path
) -> None:
    ip = shutil.which("ip") or "ip"
    ours, theirs = CAN_PAIR
    with Motors(theirs) as motors, robot(tmp_path, ours).run() as run:
        run.status("motors", "FRESH")
        subprocess.run([ip, "link", "set", ours, "down"], check=True)
        run.status("motors", "OFFLINE")
        synced = motors.synced
        subprocess.run([ip, "link", "set", ours, "up"], check=True)
        run.status("motors", "RECOVERING")
        run.status("motors", "FRESH")
        until(lambda: motors.synced > synced)
        run.process.terminate()
        _, summary = run.end()
        said = run.stderr
    assert summary["lost_devices"] == 1, (said, summary["events"])
    assert summary["slips"] == 0
