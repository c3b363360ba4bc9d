"""CAN frames: made in Python, taken apart by the core, and a whole runtime on a CAN bus.

The bus is a thread of this test that speaks struct can_frame, error frames included, over a socket
that keeps message borders: a raw CAN socket gives and takes the same bytes.
"""

import contextlib
import secrets
import shutil
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Self, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import can_motors
from can_motors import GOAL, MOTORS, STATE, SYNC
from inphase.devices.packets import Parser, RefusedReply, can_frame, can_id
from inphase.driver import (
    Check,
    CheckKind,
    Driver,
    Encoding,
    Exchange,
    Framing,
    Raw,
    Reading,
    Reply,
    Value,
)
from inphase.errors import DeviceError
from inphase.host import store_names
from inphase.runtime.workers.sample_source import OwnExchange
from peers import until
from robots import CREEP, FAST_CYCLE
from runtimes import Run, has_ended

EFF, RTR, ERR = 0x80000000, 0x40000000, 0x20000000
BUS_OFF, CONTROL, COUNTERS = 0x40, 0x04, 0x200

idents = st.integers(0, 0x7FF)


def motors() -> Exchange:
    """SYNC, and one frame per motor with its position."""
    return Exchange(
        request=can_frame(SYNC),
        framing=Framing(16, 16, can=True),
        replies=tuple(
            Reply(
                values=(Value(8, Raw.I32, motor),),
                checks=(Check(CheckKind.MATCH, 0, Raw.U32, expect=can_id(STATE + motor)),),
            )
            for motor in range(MOTORS)
        ),
        request_ns=50_000,
        reply_ns=400_000,
        reply_max_ns=2_000_000,
    )


# ---- frames as bytes -------------------------------------------------------------------------


@given(
    st.integers(0, 0x1FFFFFFF),
    st.binary(max_size=64).filter(lambda data: len(data) in {*range(9), 12, 16, 20, 24, 32, 48}),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_frame_has_the_bytes_that_python_can_gives_it(
    ident: int, data: bytes, extended: bool, remote: bool, switch: bool
) -> None:
    can = pytest.importorskip("can", reason="python-can is not installed")
    socketcan = pytest.importorskip("can.interfaces.socketcan.socketcan")
    extended = extended or ident > 0x7FF
    fd = len(data) > 8
    remote = remote and not data
    message = can.Message(
        arbitration_id=ident,
        is_extended_id=extended,
        is_remote_frame=remote,
        is_fd=fd,
        bitrate_switch=fd and switch,
        data=data,
    )
    made = can_frame(
        ident, data, extended=extended, remote=remote, fd=fd, bitrate_switch=fd and switch
    )
    theirs = socketcan.build_can_frame(message)
    # byte 7 is len8_dlc, 0 unless a classic frame has a DLC above 8, and reserved in CAN FD
    assert made == theirs[:7] + b"\0" + theirs[8:]


def test_a_frame_that_no_bus_carries_is_refused() -> None:
    for ident, data, options in (
        (-1, b"", {}),
        (0x20000000, b"", {}),
        (1, bytes(9), {}),
        (1, bytes(9), {"fd": True}),
        (1, bytes(65), {"fd": True}),
        (1, b"x", {"remote": True}),
    ):
        with pytest.raises(ValueError):
            can_frame(ident, data, **options)


# ---- sets of frames ----------------------------------------------------------------------------

frames = st.tuples(
    st.sampled_from([STATE, STATE + 1, STATE + 2, STATE + 3, SYNC, 0x700]),
    st.binary(max_size=8),
    st.sampled_from([0, 0, 0, EFF, RTR, ERR]),
)


@given(st.lists(frames, max_size=60))
def test_any_traffic_gives_what_a_plain_reading_of_it_gives(
    traffic: list[tuple[int, bytes, int]],
) -> None:
    """Reference: the first good frame of each id; the set is there when every id had one, and the
    next one begins."""
    parser, have = Parser(motors(), MOTORS), dict[int, float]()
    for ident, data, flags in traffic:
        raw = struct.pack("=IB3x8s", ident | flags, len(data), data)
        wanted = not flags and ident in range(STATE, STATE + MOTORS) and ident not in have
        if wanted and len(data) < 4:
            with pytest.raises(RefusedReply) as refused:
                parser.feed(raw)
            assert (refused.value.reason, refused.value.detail) == ("size", 8 + len(data))
            continue
        values = parser.feed(raw)
        if wanted:
            have[ident] = float(int.from_bytes(data[:4], "little", signed=True))
        if wanted and len(have) == MOTORS:
            assert values == [have[STATE + motor] for motor in range(MOTORS)]
            have.clear()
        else:
            assert values is None


@given(st.binary(max_size=80))
def test_bytes_that_are_no_frame_are_refused_and_nothing_else(data: bytes) -> None:
    parser = Parser(motors(), MOTORS)
    with contextlib.suppress(RefusedReply):
        assert parser.feed(data) is None
    for motor in (2, 0, 1):
        values = parser.feed(can_frame(STATE + motor, struct.pack("<i", motor)))
    assert values == [0.0, 1.0, 2.0]


# ---- FAULTS row 10: a bus that goes off --------------------------------------------------------

_DRIVER = """
import os
import socket

import msgspec
from can_motors import CanMotors

from inphase.driver import DeviceError, Stop, StopKind
from inphase.packets import can_frame


class Motors(CanMotors):
    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        bus: str
        brake: bool = False

    link = None

    @property
    def address(self):
        return self.options.bus

    def stop(self):
        # NMT: all nodes stop
        stops = 2 * can_frame(0, bytes([2, 0]))
        return Stop(StopKind.BYTES, stops, 16) if self.options.brake else super().stop()

    def open(self):
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.link.connect(self.options.bus)
        except OSError as error:
            raise DeviceError(f"device {self.name}: no bus at {self.options.bus}: {error}")
        os.set_blocking(self.link.fileno(), False)
        return self.link.fileno()

    def close(self):
        if self.link is not None:
            self.link.close()
            self.link = None
"""
_SCHEDULE = f"""
name = "{{name}}"
{FAST_CYCLE}[device.arm]
driver = "motors.py:Motors"
bus = "{{folder}}/bus"
[sensor.motors]
device = "arm"
trigger_us = 0
max_age_ms = 60
{CREEP}"""


class Bus:
    """A CAN bus with motors that are where their goals are. `tell` is sent instead of replies."""

    def __init__(self, path: Path) -> None:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind(str(path))
        self._server.listen()
        self.goal = [0] * MOTORS
        self.opened = self.closed = self.goals = 0
        self.tell: list[bytes] = []
        self.shuffled = False
        self.heard: deque[bytes] = deque(maxlen=20)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            self.opened += 1
            with link, contextlib.suppress(OSError):
                while frame := link.recv(72):
                    self._take(link, frame)
            self.closed += 1

    def _take(self, link: socket.socket, frame: bytes) -> None:
        ident, size = struct.unpack_from("=IB", frame)
        self.heard.append(frame)
        assert len(frame) == 16
        if ident == 0:
            return
        if ident == SYNC:
            assert size == 0
            if self.tell:
                link.send(self.tell.pop(0))
                return
            for motor in reversed(range(MOTORS)):
                link.send(can_frame(0x700 + motor, b"other"))
                link.send(can_frame(STATE + motor, struct.pack("<i", self.goal[motor])))
        else:
            assert (GOAL <= ident < GOAL + MOTORS, size) == (True, 4)
            self.goals += 1
            self.goal[ident - GOAL] = struct.unpack_from("<i", frame, 8)[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


class Robot:
    """A robot on that bus, as runtimes.Run takes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name.lower().replace("_", "-")
        folder.joinpath("motors.py").write_text(_DRIVER)
        shutil.copy(can_motors.__file__, folder)
        self.schedule = folder / "run.toml"
        self.schedule.write_text(_SCHEDULE.format(name=self.name, folder=folder))

    def run(self) -> Run:
        """Start `inphase run`."""
        return Run(self, ["-m", "inphase", "run", str(self.schedule), "--json"], {})


@pytest.fixture
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, Bus]]:
    """A robot and its bus."""
    folder = tmp_path_factory.mktemp("can")
    folder = folder.rename(folder.parent / f"can{secrets.token_hex(6)}")
    with Bus(folder / "bus") as bus:
        yield Robot(folder), bus


@pytest.mark.real
def test_a_bus_that_goes_off_is_offline_and_needs_arming_after_it_is_opened_again(
    robot: tuple[Robot, Bus],
) -> None:
    on, bus = robot
    with on.run() as run:
        run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
        until(lambda: bus.goals > 30 and bus.goal[0] > 0)
        passive = struct.pack("=IB3x8s", ERR | CONTROL, 8, b"\0\x20\0\0\0\0\x80\0")
        bus.tell = [passive]
        until(lambda: not bus.tell)
        run.status("motors", "FRESH")
        assert bus.opened == 1

        off = struct.pack("=IB3x8s", ERR | BUS_OFF | COUNTERS, 8, b"\0\0\0\0\0\0\xf8\0")
        bus.tell = [off]
        lost = run.status("motors", "OFFLINE")
        assert (lost["motors"].reason, lost["motors"].detail) == ("bus_off", 0xF8)
        assert (lost.reason, "LATCHED" in lost.flags) == ("offline", True)
        run.status("motors", "RECOVERING")
        back = run.status("motors", "FRESH")
        assert bus.opened == 2
        assert "LATCHED" in back.flags

        until(lambda: "is back" in run.stderr)
        assert f"device arm ({on.folder}/bus) is gone: bus-off" in run.stderr
        goals = bus.goals
        run.signal(signal.SIGUSR1)
        run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags and frame.reason == "none")
        until(lambda: bus.goals > goals)
        run.signal(signal.SIGINT)
        code, summary = run.end()
    assert code == 130
    assert summary["lost_devices"] == 1
    assert summary["error_passive"] == 1
    assert summary["foreign_frames"] > 0
    assert summary["slips"] == 0


@pytest.mark.real
@pytest.mark.parametrize("brake", [False, True], ids=["last goals", "its own"])
def test_a_stop_of_several_frames_goes_out_three_times_when_the_runtime_is_killed(
    robot: tuple[Robot, Bus], brake: bool
) -> None:
    on, bus = robot
    if brake:
        text = on.schedule.read_text()
        on.schedule.write_text(text.replace("[sensor.motors]", "brake = true\n[sensor.motors]"))
    with on.run() as run:
        until(lambda: bus.goals > 30 and bus.goal[0] > 0)
        guards = [child for child in run.children() if child.name() == "_guard"]
        run.signal(signal.SIGKILL)
        until(lambda: all(has_ended(one) for one in guards))
        until(lambda: bus.closed == 1)
        stops = list(bus.heard)[-6:] if brake else list(bus.heard)[-9:]
        for note in store_names.folder().glob(f"{on.name}.*"):
            note.unlink()
    if brake:
        assert stops == 6 * [can_frame(0, bytes([2, 0]))]
        return
    assert stops[:3] == stops[3:6] == stops[6:]
    assert [struct.unpack_from("=I", frame)[0] for frame in stops[:3]] == [0x201, 0x202, 0x203]


# ---- the same exchange in a worker's home ------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[OwnExchange, socket.socket]]:
    """A caller on one end of a bus, and the bus's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)

    class Motors:
        name, address = "motors", "can0"

    encoding = Encoding(
        packet=b"".join(can_frame(GOAL + motor, bytes(4)) for motor in range(MOTORS)),
        values=tuple(Value(16 * motor + 8, Raw.I32, motor) for motor in range(MOTORS)),
        framing=Framing(16, 16, can=True),
        write_ns=400_000,
        chunk=16,
    )
    with ours, theirs:
        caller = OwnExchange(cast(Driver, Motors()), motors(), MOTORS, encoding)
        caller.opened(ours.fileno())
        yield caller, theirs


def state(motor: int, value: int) -> bytes:
    """What a motor sends on SYNC."""
    return can_frame(STATE + motor, struct.pack("<i", value))


def test_a_worker_reads_past_other_traffic(ends: tuple[OwnExchange, socket.socket]) -> None:
    caller, bus = ends
    for other in range(5):
        bus.send(can_frame(0x700 + other, b"other"))
    assert caller.flush() == 0, "other traffic is no left-over sample"
    caller.trigger()
    assert bus.recv(72) == can_frame(SYNC)
    for motor in (2, 0, 1):
        bus.send(can_frame(0x700))
        bus.send(state(motor, 10 + motor))
    sample = np.zeros((), dtype=[("position", "<f8", (MOTORS,))])
    assert caller.read(sample, 1_000_000_000) == Reading()
    assert sample["position"].tolist() == [10, 11, 12]
    bus.send(state(0, 1))
    assert caller.flush() == 1


def test_a_worker_writes_one_frame_per_motor(ends: tuple[OwnExchange, socket.socket]) -> None:
    caller, bus = ends
    caller.write(np.array([7.0, 8.0, 9.0]))
    got = [bus.recv(72) for _ in range(MOTORS)]
    assert got == [can_frame(GOAL + m, struct.pack("<i", 7 + m)) for m in range(MOTORS)]


def test_a_worker_loses_a_bus_that_goes_off(ends: tuple[OwnExchange, socket.socket]) -> None:
    caller, bus = ends
    bus.send(struct.pack("=IB3x8s", ERR | CONTROL, 8, b"\0\x20\0\0\0\0\x80\0"))
    assert caller.flush() == 0
    bus.send(struct.pack("=IB3x8s", ERR | BUS_OFF | COUNTERS, 8, b"\0\0\0\0\0\0\xf8\0"))
    with pytest.raises(DeviceError, match=r"motors \(can0\): bus-off, 248 transmit errors"):
        caller.flush()


def test_a_worker_whose_frames_nobody_takes_waits(
    ends: tuple[OwnExchange, socket.socket],
) -> None:
    caller, bus = ends
    for _ in range(5000):
        caller.trigger()
    bus.setblocking(False)
    with pytest.raises(BlockingIOError):
        for _ in range(5000):
            assert bus.recv(72) == can_frame(SYNC)
