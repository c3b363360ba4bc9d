"""SocketCAN: buses of the kernel, its own tools at the other end, and two controllers on a wire."""

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from guest import CAN_PAIR, need, tool, wire_up

can = pytest.importorskip("can", reason="python-can is not installed")

BOUND_S = 20.0
"""of any wait: only reached when something is wrong"""


@pytest.fixture
def vcan() -> str:
    """A virtual bus, with CAN FD."""
    need("/sys/class/net/vcan0", "virtual CAN bus")
    return "vcan0"


@pytest.fixture
def wire() -> Iterator[tuple[str, str]]:
    """Two emulated SJA1000 controllers on one wire."""
    with wire_up():
        yield CAN_PAIR


def message(ident: int, data: bytes, **more: bool) -> can.Message:
    """A frame with a standard identifier."""
    return can.Message(arbitration_id=ident, data=data, is_extended_id=False, **more)


def test_frames_cross_a_virtual_bus_in_order_with_stamps(vcan: str) -> None:
    with (
        can.Bus(vcan, interface="socketcan") as ours,
        can.Bus(vcan, interface="socketcan") as theirs,
    ):
        for n in range(100):
            ours.send(message(0x100 + n, bytes([n])))
        got = [theirs.recv(BOUND_S) for _ in range(100)]
    assert [frame and frame.arbitration_id for frame in got] == [0x100 + n for n in range(100)]
    assert [frame and bytes(frame.data) for frame in got] == [bytes([n]) for n in range(100)]
    stamps = [frame.timestamp for frame in got if frame]
    assert stamps == sorted(stamps)


def test_a_frame_of_64_bytes_crosses_a_virtual_bus(vcan: str) -> None:
    with (
        can.Bus(vcan, interface="socketcan", fd=True) as ours,
        can.Bus(vcan, interface="socketcan", fd=True) as theirs,
    ):
        ours.send(message(0x7FF, bytes(range(64)), is_fd=True, bitrate_switch=True))
        got = theirs.recv(BOUND_S)
    assert got is not None
    assert (got.is_fd, got.bitrate_switch, bytes(got.data)) == (True, True, bytes(range(64)))


def test_the_kernels_own_tools_read_and_write_the_same_frames(vcan: str) -> None:
    candump, cansend = tool("candump", "can-utils"), tool("cansend", "can-utils")
    dump = subprocess.Popen([candump, "-L", vcan], stdout=subprocess.PIPE)
    assert dump.stdout is not None
    try:
        with can.Bus(vcan, interface="socketcan", fd=True) as bus:
            # candump does not say when it listens: send until it shows a frame
            os.set_blocking(dump.stdout.fileno(), False)
            until = time.monotonic() + BOUND_S
            while not (shown := dump.stdout.read()) and time.monotonic() < until:
                bus.send(message(0x10, b"\1"))
    finally:
        dump.kill()
        dump.wait()
    assert shown and shown.splitlines()[0].endswith(b" vcan0 010#01")

    with can.Bus(vcan, interface="socketcan", fd=True) as bus:
        for frame in ("123#DEADBEEF", "12345678#", "124##1CAFE"):
            subprocess.run([cansend, vcan, frame], check=True)
        got = [bus.recv(BOUND_S) for _ in range(3)]
    seen = [(f.arbitration_id, f.is_extended_id, f.is_fd, bytes(f.data)) for f in got if f]
    assert seen == [
        (0x123, False, False, b"\xde\xad\xbe\xef"),
        (0x12345678, True, False, b""),
        (0x124, False, True, b"\xca\xfe"),
    ]


def test_two_controllers_on_a_wire_exchange_every_frame(wire: tuple[str, str]) -> None:
    with (
        can.Bus(wire[0], interface="socketcan") as ours,
        can.Bus(wire[1], interface="socketcan") as theirs,
    ):
        for n in range(200):
            ours.send(message(0x55, n.to_bytes(8, "little")), timeout=BOUND_S)
            got = theirs.recv(BOUND_S)
            assert got is not None
            theirs.send(message(0x56, bytes(got.data)), timeout=BOUND_S)
            back = ours.recv(BOUND_S)
            assert back is not None
            assert (back.arbitration_id, bytes(back.data)) == (0x56, n.to_bytes(8, "little"))
