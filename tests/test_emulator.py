"""The emulator: the vendor's SDK as the servos' client, plain sockets as the sensor's."""

import os
import signal
import socket
import struct
import tempfile
import termios
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import serial
from dynamixel_sdk import (
    COMM_RX_CORRUPT,
    COMM_RX_TIMEOUT,
    COMM_SUCCESS,
    GroupSyncRead,
    GroupSyncWrite,
    PacketHandler,
    PortHandler,
    Protocol2PacketHandler,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inphase_drivers.emulator.arm import START_RAD, Drive, Joints
from inphase_drivers.emulator.dynamixel.packets import (
    Block,
    chain_packet,
    crc16,
    packet,
    status_packet,
    stuff,
    take_request,
    unstuff,
)
from inphase_drivers.emulator.dynamixel.registers import ErrorNumber, Registers
from inphase_drivers.emulator.dynamixel.servos import BusOptions, ServoBus
from inphase_drivers.emulator.port import Port
from inphase_drivers.emulator.schedule import ScheduleError, devices, load
from inphase_drivers.emulator.wire import Wire
from peers import (
    BOUND_S,
    EmulatorProcess,
    free_port,
    robot_schedule,
    said_by_another_user,
    until,
)

IDS = (1, 2, 3, 4, 5, 6)
GOAL_POSITION, TORQUE, PRESENT_CURRENT, PRESENT_POSITION = 116, 64, 126, 132

# one bus for all examples: what came before must not matter
SHARED_BUS = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True, deadline=None
)

# packets of the manual's examples (Protocol 2.0, Instruction Details), CRC at the end
MANUAL = (
    "FFFFFD00010300" "01194E",
    "FFFFFD00FE0300" "013142",
    "FFFFFD00010700" "5500060426655D",
    "FFFFFD00020700" "55000604266F6D",
    "FFFFFD00010700" "02840004001D15",
    "FFFFFD00010800" "5500A60000008CC0",
    "FFFFFD00010900" "03740000020000CA89",
    "FFFFFD00010400" "5500A10C",
    "FFFFFD00010900" "046800C8000000AE8E",
    "FFFFFD00010300" "0502CE",
    "FFFFFD00010300" "082F4E",
    "FFFFFD00FE0900" "82840004000102CEFA",
    "FFFFFD00FE1100" "837400040001960000" "0002AA0000008287",
    "FFFFFD00FE0A00" "8A8400040003070420F2",
)  # fmt: skip
MANUAL_CHAIN = bytes.fromhex(
    "FFFFFD00FE190055" "0003A60000008408" "00071F08000016CA" "0004FF030000D19E"
)  # fmt: skip


# packets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", MANUAL)
def test_crc_of_the_manuals_examples_is_the_one_at_their_end(example: str) -> None:
    whole = bytes.fromhex(example)
    assert crc16(whole[:-2]).to_bytes(2, "little") == whole[-2:]


def test_ping_of_the_manual_has_crc_4e19() -> None:
    assert crc16(bytes.fromhex("FFFFFD0001030001")) == 0x4E19


def test_fast_sync_read_reply_is_the_manuals_byte_for_byte() -> None:
    blocks = [
        Block(0, 3, b"\xa6\0\0\0"),
        Block(0, 7, b"\x1f\x08\0\0"),
        Block(0, 4, b"\xff\x03\0\0"),
    ]
    assert chain_packet(blocks, 3, 4) == MANUAL_CHAIN


def test_chain_without_its_last_servo_is_the_same_up_to_there() -> None:
    blocks = [Block(0, 3, b"\xa6\0\0\0"), Block(0, 7, b"\x1f\x08\0\0")]
    assert chain_packet(blocks, 3, 4) == MANUAL_CHAIN[:24]


@given(st.lists(st.sampled_from((0xFF, 0xFD, 0x00, 0x55)), max_size=40))
def test_stuffing_is_undone_and_leaves_no_bare_header(body: list[int]) -> None:
    stuffed = stuff(bytes(body))
    assert unstuff(stuffed) == bytes(body)
    assert stuffed.count(b"\xff\xff\xfd") == stuffed.count(b"\xff\xff\xfd\xfd")


@given(st.lists(st.sampled_from((0xFF, 0xFD, 0x00, 0x7F)), max_size=40))
def test_stuffing_is_the_vendors(body: list[int]) -> None:
    length = len(body) + 3
    plain = [0xFF, 0xFF, 0xFD, 0, 1, length & 0xFF, length >> 8, 0x03, *body, 0, 0]
    vendors = Protocol2PacketHandler().addStuffing(plain)
    ours = packet(1, bytes((0x03, *body)))
    assert bytes(vendors[:-2]) == bytes(ours[:-2])


@given(st.binary(max_size=30), st.binary(max_size=60), st.integers(0, 100))
def test_a_request_is_found_behind_garbage_and_in_any_two_parts(
    garbage: bytes, params: bytes, cut: int
) -> None:
    garbage = garbage.replace(b"\xff", b"\xfe")
    whole = garbage + packet(3, b"\x03" + params)
    inbox = bytearray(whole[:cut])
    request = take_request(inbox)
    if request is None:
        inbox += whole[cut:]
        request = take_request(inbox)
    assert request == (3, 0x03, params, True)


def test_a_wrong_crc_is_told() -> None:
    whole = packet(3, b"\x01")
    whole[-1] ^= 1
    request = take_request(whole)
    assert request is not None
    assert not request.is_whole


# registers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "data", "error"),
    [
        (132, bytes(4), ErrorNumber.ACCESS),
        (17, bytes(1), ErrorNumber.ACCESS),
        (116, bytes(2), ErrorNumber.DATA_LENGTH),
        (64, b"\x02", ErrorNumber.DATA_RANGE),
        (11, b"\x02", ErrorNumber.DATA_RANGE),
        (116, (4096).to_bytes(4, "little"), ErrorNumber.DATA_LIMIT),
        (104, (-351).to_bytes(4, "little", signed=True), ErrorNumber.DATA_LIMIT),
        (116, (4095).to_bytes(4, "little"), ErrorNumber.NONE),
        (108, bytes(12), ErrorNumber.NONE),
    ],
)
def test_a_write_is_checked_as_in_the_manual(address: int, data: bytes, error: int) -> None:
    registers = Registers()
    before = bytes(registers.memory)
    assert registers.write(address, data) == error
    assert (bytes(registers.memory) == before) == (error != 0 or registers.check(116, data) == 5)


def test_the_eeprom_area_is_locked_while_the_torque_is_on() -> None:
    registers = Registers()
    assert registers.write(11, b"\x04") == ErrorNumber.NONE
    registers.write(64, b"\x01")
    assert registers.write(11, b"\x03") == ErrorNumber.ACCESS
    assert registers.memory[11] == 4


def test_an_expired_watchdog_refuses_goals_until_it_is_cleared() -> None:
    registers = Registers()
    registers.put(98, -1)
    assert registers.write(104, bytes(4)) == ErrorNumber.DATA_RANGE
    assert registers.write(98, b"\x05") == ErrorNumber.DATA_RANGE
    assert registers.write(98, b"\x00") == ErrorNumber.NONE
    assert registers.write(104, bytes(4)) == ErrorNumber.NONE


# wire and joints ----------------------------------------------------------------------------


def test_a_reply_is_delivered_when_its_last_byte_has_passed() -> None:
    wire = Wire(byte_ns=2_500)
    wire.hear(bytearray(10), now_ns=1_000)
    assert wire.host_until_ns == 26_000
    assert wire.say(bytearray(b"abcd"), start_ns=26_000) == 36_000
    assert wire.take(35_999) is None
    assert wire.take(36_000) == b"abcd"


def test_bytes_that_meet_a_reply_garble_it_and_are_garbled() -> None:
    wire = Wire(byte_ns=100)
    wire.say(bytearray(10), start_ns=1_000)
    request = bytearray(10)
    wire.hear(request, now_ns=1_500)
    assert request == bytes([0x5A] * 5 + [0] * 5)
    assert wire.take(2_000) == bytes([0] * 5 + [0x5A] * 5)
    assert wire.collisions == 1


def test_bytes_that_follow_a_reply_are_left_alone() -> None:
    wire = Wire(byte_ns=100)
    wire.say(bytearray(10), start_ns=1_000)
    request = bytearray(10)
    wire.hear(request, now_ns=2_000)
    assert (request, wire.take(2_000), wire.collisions) == (bytes(10), bytes(10), 0)


def test_without_wire_time_nothing_takes_time_or_collides() -> None:
    wire = Wire(byte_ns=0)
    wire.say(bytearray(10), start_ns=5)
    request = bytearray(10)
    wire.hear(request, now_ns=5)
    assert (request, wire.take(5), wire.collisions) == (bytes(10), bytes(10), 0)


def test_joints_reach_their_goal_and_stop_there() -> None:
    joints = Joints(6)
    joints.drive = [Drive.POSITION] * 6
    joints.goal = [1.0, -1.0, 0.0, 0.5, 2.0, -0.3]
    speeds = []
    for ms in range(2_000):
        joints.advance(ms * 1_000_000)
        speeds.append(max(abs(velocity) for velocity in joints.velocity))
    assert joints.position == joints.goal
    assert joints.velocity == [0.0] * 6
    assert max(speeds) <= 4.8


def test_a_joint_without_torque_coasts_to_rest() -> None:
    joints = Joints(1)
    joints.velocity = [1.0]
    joints.advance(2_000_000_000)
    assert joints.velocity == [0.0]
    assert joints.position[0] == pytest.approx(START_RAD[0] + 1 / 8, abs=1e-3)


def test_joints_do_not_depend_on_how_time_is_cut() -> None:
    once, often = Joints(2), Joints(2)
    for joints in (once, often):
        joints.drive = [Drive.POSITION] * 2
        joints.goal = [1.0, -1.0]
    once.advance(100_000_000)
    for us in range(0, 100_001, 100):
        often.advance(us * 1_000)
    assert once.position == often.position


# servos, with the vendor's SDK --------------------------------------------------------------


class PatientPort(PortHandler):  # type: ignore[misc]
    """The SDK's port with a bound that a busy machine keeps; it decides how long silence takes."""

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        super().setPacketTimeout(packet_length)
        self.packet_timeout += 500.0


class Robot:
    """The emulated robot with clients for both of its devices."""

    def __init__(self, folder: Path, *options: str, emulator: str = "") -> None:
        schedule = robot_schedule(folder, emulator)
        with schedule.open("rb") as file:
            self.devices: dict[str, Any] = tomllib.load(file)["device"]
        self.emulator = EmulatorProcess(*options).start(schedule)
        self.link = Path(self.devices["arm"]["port"])
        self.sdk = PacketHandler(2.0)
        self.port = PatientPort(str(self.link))
        self.port.setBaudRate(4_000_000)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(BOUND_S)
        self.socket.connect(("127.0.0.1", self.devices["wrist"]["port"]))

    def close(self) -> None:
        self.socket.close()
        self.port.closePort()
        self.emulator.stop()

    def arm(self, **request: object) -> dict[str, Any]:
        return self.emulator.control({"device": "arm", **request})

    def wrist(self, **request: object) -> dict[str, Any]:
        return self.emulator.control({"device": "wrist", **request})

    def exchange(self, request: bytes, size: int) -> bytes:
        """Write bytes, read `size` bytes back."""
        stream: serial.Serial = self.port.ser
        stream.reset_input_buffer()
        stream.timeout = BOUND_S
        stream.write(request)
        reply: bytes = stream.read(size)
        stream.timeout = 0
        return reply

    def record(self, command: int = 2, count: int = 1) -> tuple[int, ...]:
        self.socket.send(struct.pack(">HHI", 0x1234, command, count))
        return struct.unpack(">IIIiiiiii", self.socket.recv(64))

    def sync_read(self, address: int, size: int, fast: bool = False) -> GroupSyncRead:
        group = GroupSyncRead(self.port, self.sdk, address, size)
        for dxl_id in IDS:
            assert group.addParam(dxl_id)
        result = group.fastSyncRead() if fast else group.txRxPacket()
        assert result == COMM_SUCCESS, self.sdk.getTxRxResult(result)
        return group


@pytest.fixture(params=["wire time", "at once"])
def robot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Robot]:
    options = () if request.param == "wire time" else ("--no-wire-time",)
    robot = Robot(tmp_path, *options)
    yield robot
    robot.close()


@pytest.fixture
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServoBus]:
    link = tmp_path_factory.mktemp("bus") / "arm"
    bus = ServoBus(BusOptions(link, 4_000_000, IDS, (1020,) * len(IDS)), time.monotonic_ns())
    yield bus
    bus.close()


@pytest.fixture
def timed_robot(tmp_path: Path) -> Iterator[Robot]:
    robot = Robot(tmp_path)
    yield robot
    robot.close()


@pytest.mark.real
def test_ping_answers_model_and_firmware_in_the_manuals_packet(robot: Robot) -> None:
    assert robot.sdk.ping(robot.port, 1) == (1020, COMM_SUCCESS, 0)
    reply = robot.exchange(bytes.fromhex("FFFFFD0001030001194E"), 14)
    assert reply == status_packet(Block(0, 1, bytes((0xFC, 0x03, 46))))


@pytest.mark.real
def test_broadcast_ping_finds_all_servos(timed_robot: Robot) -> None:
    found, result = timed_robot.sdk.broadcastPing(timed_robot.port)
    assert result == COMM_SUCCESS
    assert found == {dxl_id: [1020, 46] for dxl_id in IDS}


@pytest.mark.real
def test_a_servo_that_is_not_there_does_not_answer(robot: Robot) -> None:
    assert robot.sdk.ping(robot.port, 9)[1] == COMM_RX_TIMEOUT


@pytest.mark.real
def test_baud_and_return_delay_registers_follow_the_schedule(robot: Robot) -> None:
    assert robot.sdk.read1ByteTxRx(robot.port, 3, 8) == (6, COMM_SUCCESS, 0)
    assert robot.sdk.read1ByteTxRx(robot.port, 3, 9) == (0, COMM_SUCCESS, 0)


@pytest.mark.real
def test_baud_and_return_delay_registers_can_be_wrong(tmp_path: Path) -> None:
    robot = Robot(tmp_path, emulator="baud_register = 1\nreturn_delay_us = 500")
    assert robot.sdk.read1ByteTxRx(robot.port, 3, 8) == (1, COMM_SUCCESS, 0)
    assert robot.sdk.read1ByteTxRx(robot.port, 3, 9) == (250, COMM_SUCCESS, 0)
    robot.close()


@pytest.mark.real
def test_servos_do_not_hear_another_baud_rate(robot: Robot) -> None:
    robot.port.setBaudRate(1_000_000)
    assert robot.sdk.ping(robot.port, 1)[1] == COMM_RX_TIMEOUT
    assert robot.arm()["counters"]["baud_mismatches"] == 1
    robot.port.setBaudRate(4_000_000)
    assert robot.sdk.ping(robot.port, 1)[1] == COMM_SUCCESS


@pytest.mark.real
def test_the_start_pose_is_the_goal_and_not_zero(robot: Robot) -> None:
    pose = robot.sync_read(PRESENT_POSITION, 4)
    goal = robot.sync_read(GOAL_POSITION, 4)
    for dxl_id in IDS:
        position = pose.getData(dxl_id, PRESENT_POSITION, 4)
        assert position != 2048
        assert position == goal.getData(dxl_id, GOAL_POSITION, 4)


@pytest.mark.real
def test_sync_write_moves_every_joint_to_its_goal(robot: Robot) -> None:
    goals = {dxl_id: 1800 + 50 * dxl_id for dxl_id in IDS}
    group = GroupSyncWrite(robot.port, robot.sdk, GOAL_POSITION, 4)
    for dxl_id, goal in goals.items():
        assert robot.sdk.write1ByteTxRx(robot.port, dxl_id, TORQUE, 1) == (COMM_SUCCESS, 0)
        assert group.addParam(dxl_id, list(goal.to_bytes(4, "little")))
    assert group.txPacket() == COMM_SUCCESS
    robot.sync_read(GOAL_POSITION, 4)
    until(lambda: robot.arm()["position"] == robot.arm()["goal"])
    pose = robot.sync_read(PRESENT_POSITION, 4, fast=True)
    assert {dxl_id: pose.getData(dxl_id, PRESENT_POSITION, 4) for dxl_id in IDS} == goals


@pytest.mark.real
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("place", range(6))
def test_the_stuffing_case_is_read_in_every_place(robot: Robot, fast: bool, place: int) -> None:
    currents, velocities = [None] * 6, [None] * 6
    currents[place], velocities[place] = -1, 253  # type: ignore[call-overload]
    robot.arm(set={"current_raw": currents, "velocity_raw": velocities})
    group = robot.sync_read(PRESENT_CURRENT, 10, fast)
    assert group.getData(IDS[place], 126, 2) == 0xFFFF
    assert group.getData(IDS[place], 128, 4) == 253


@pytest.mark.real
def test_the_stuffing_case_lengthens_sync_read_and_not_fast_sync_read(robot: Robot) -> None:
    robot.arm(set={"current_raw": [-1] * 6, "velocity_raw": [253] * 6})
    ask = bytes((126, 0, 10, 0, *IDS))
    stuffed = robot.exchange(packet(0xFE, b"\x82" + ask), 6 * 22)
    chained = robot.exchange(packet(0xFE, b"\x8a" + ask), 8 + 6 * 14)
    assert stuffed.count(b"\xff\xff\xfd\xfd") == 6
    assert chained.count(b"\xff\xff\xfd") == 1 + 6
    assert b"\xff\xff\xfd\xfd" not in chained


@pytest.mark.real
def test_reg_write_waits_for_action(robot: Robot) -> None:
    sdk, port = robot.sdk, robot.port
    before = sdk.read4ByteTxRx(port, 2, GOAL_POSITION)[0]
    data = list((1234).to_bytes(4, "little"))
    assert sdk.regWriteTxRx(port, 2, GOAL_POSITION, 4, data) == (COMM_SUCCESS, 0)
    assert sdk.read1ByteTxRx(port, 2, 69)[0] == 1
    assert sdk.read4ByteTxRx(port, 2, GOAL_POSITION)[0] == before
    assert sdk.action(port, 0xFE) == COMM_SUCCESS
    assert sdk.read1ByteTxRx(port, 2, 69)[0] == 0
    assert sdk.read4ByteTxRx(port, 2, GOAL_POSITION)[0] == 1234


@pytest.mark.real
def test_errors_are_told_by_number(robot: Robot) -> None:
    sdk, port = robot.sdk, robot.port
    assert sdk.write4ByteTxRx(port, 1, GOAL_POSITION, 5000) == (COMM_SUCCESS, 6)
    assert sdk.write2ByteTxRx(port, 1, GOAL_POSITION, 100) == (COMM_SUCCESS, 5)
    assert sdk.write4ByteTxRx(port, 1, PRESENT_POSITION, 0) == (COMM_SUCCESS, 7)
    assert sdk.write1ByteTxRx(port, 1, TORQUE, 7) == (COMM_SUCCESS, 4)
    assert sdk.write1ByteTxRx(port, 1, TORQUE, 1) == (COMM_SUCCESS, 0)
    assert sdk.write1ByteTxRx(port, 1, 11, 4) == (COMM_SUCCESS, 7)
    wrong = packet(1, b"\x01")
    wrong[-1] ^= 0xFF
    assert robot.exchange(bytes(wrong), 11) == status_packet(Block(3, 1, b""))


@pytest.mark.real
def test_a_hardware_error_raises_the_alert_bit_until_reboot(robot: Robot) -> None:
    robot.arm(set={"register": {"servo": 1, "address": 70, "value": 0x20}})
    assert robot.sdk.read1ByteTxRx(robot.port, 2, 70) == (0x20, COMM_SUCCESS, 0x80)
    assert robot.sdk.reboot(robot.port, 2) == (COMM_SUCCESS, 0x80)
    until(lambda: robot.sdk.ping(robot.port, 2)[1] == COMM_SUCCESS)
    assert robot.sdk.read1ByteTxRx(robot.port, 2, 70) == (0, COMM_SUCCESS, 0)


@pytest.mark.real
def test_an_expired_bus_watchdog_stops_the_servo(robot: Robot) -> None:
    sdk, port = robot.sdk, robot.port
    for address, value in ((11, 1), (TORQUE, 1)):
        assert sdk.write1ByteTxRx(port, 1, address, value) == (COMM_SUCCESS, 0)
    assert sdk.write4ByteTxRx(port, 1, 104, 100) == (COMM_SUCCESS, 0)
    assert sdk.write1ByteTxRx(port, 1, 98, 1) == (COMM_SUCCESS, 0)
    until(lambda: robot.arm()["goal"][0] == 0)
    until(lambda: robot.arm()["velocity"][0] < 1e-6)
    assert sdk.read1ByteTxRx(port, 1, 98) == (0xFF, COMM_SUCCESS, 0)
    assert sdk.write4ByteTxRx(port, 1, 104, 100) == (COMM_SUCCESS, 4)
    assert sdk.write1ByteTxRx(port, 1, 98, 0) == (COMM_SUCCESS, 0)
    assert sdk.write4ByteTxRx(port, 1, 104, 100) == (COMM_SUCCESS, 0)


@pytest.mark.real
def test_a_port_that_was_closed_can_be_opened_again(robot: Robot) -> None:
    for _ in range(3):
        robot.port.closePort()
        robot.port.setBaudRate(4_000_000)
        assert robot.sdk.ping(robot.port, 1)[1] == COMM_SUCCESS


# faults of the bus --------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ({"fault": "silent"}, COMM_RX_TIMEOUT),
        ({"fault": "garble"}, COMM_RX_CORRUPT),
        ({"fault": "short", "arg": 7}, COMM_RX_CORRUPT),
        ({"fault": "noise", "arg": 5}, COMM_SUCCESS),
        ({"fault": "late", "arg": 500}, COMM_SUCCESS),
        ({"fault": "split", "arg": 500}, COMM_SUCCESS),
    ],
)
def test_a_fault_spoils_one_reply_and_no_more(
    robot: Robot, fault: dict[str, Any], result: int
) -> None:
    robot.arm(**fault, count=1)
    assert robot.sdk.read4ByteTxRx(robot.port, 1, PRESENT_POSITION)[1] == result
    assert robot.sdk.read4ByteTxRx(robot.port, 1, PRESENT_POSITION)[1] == COMM_SUCCESS


@pytest.mark.real
def test_a_wrong_id_and_an_error_come_with_a_right_checksum(robot: Robot) -> None:
    ask = packet(0xFE, bytes((0x8A, 132, 0, 4, 0, 1, 2)))
    robot.arm(fault="wrong_id", servo=1, arg=77)
    wrong_id = robot.exchange(bytes(ask), 24)
    robot.arm(fault="error", servo=0, arg=0x80)
    error = robot.exchange(bytes(ask), 24)
    assert (wrong_id[9], wrong_id[17]) == (1, 77)
    assert (error[8], error[9], error[16], error[17]) == (0x80, 1, 0, 2)
    for reply in (wrong_id, error):
        assert crc16(reply[:-2]).to_bytes(2, "little") == reply[-2:]


@pytest.mark.real
def test_behind_a_servo_that_is_off_a_fast_sync_read_stays_silent(robot: Robot) -> None:
    robot.arm(fault="off", servo=1)
    reply = robot.exchange(bytes(packet(0xFE, bytes((0x8A, 132, 0, 4, 0, 1, 2, 3)))), 16)
    assert reply[5:7] == bytes((25, 0))
    robot.port.ser.timeout = BOUND_S
    robot.port.writePort(packet(4, b"\x01"))
    next_reply = robot.port.readPort(14)
    assert next_reply == status_packet(Block(0, 4, bytes((0xFC, 0x03, 46))))
    robot.port.ser.timeout = 0
    robot.arm(fault="on", servo=1)
    robot.sync_read(PRESENT_POSITION, 4, fast=True)


@pytest.mark.real
def test_a_request_into_a_reply_garbles_both(timed_robot: Robot) -> None:
    two = bytes(packet(1, bytes((2, 132, 0, 4, 0))) + packet(2, bytes((2, 132, 0, 4, 0))))
    reply = timed_robot.exchange(two, 15)
    assert crc16(reply[:-2]).to_bytes(2, "little") != reply[-2:]
    assert timed_robot.arm()["counters"]["collisions"] == 1
    assert timed_robot.arm()["counters"]["requests"] == 1


@pytest.mark.real
def test_a_closed_port_hangs_up_and_comes_back_under_its_name(robot: Robot) -> None:
    robot.arm(fault="close")
    assert not robot.link.is_symlink()
    with pytest.raises(termios.error):
        robot.port.clearPort()
    robot.port.closePort()
    robot.arm(fault="reopen")
    assert robot.link.is_symlink()
    robot.port.setBaudRate(4_000_000)
    assert robot.sdk.ping(robot.port, 1)[1] == COMM_SUCCESS


@pytest.mark.real
def test_an_unknown_fault_is_refused_by_name(robot: Robot) -> None:
    with pytest.raises(RuntimeError, match="sulk"):
        robot.arm(fault="sulk")


# force sensor -------------------------------------------------------------------------------


@pytest.mark.real
def test_one_record_is_answered_to_each_request(robot: Robot) -> None:
    first, second = robot.record(), robot.record()
    assert (first[0], second[0]) == (1, 1)
    assert second[1] >= first[1]
    assert first[2] == 0
    assert first[5] == pytest.approx(-5.886e6, rel=0.01)


@pytest.mark.real
def test_several_records_count_up_and_endless_ones_stop(robot: Robot) -> None:
    first = robot.record(count=3)
    rest = [struct.unpack(">I", robot.socket.recv(64)[:4])[0] for _ in range(2)]
    assert (first[0], *rest) == (1, 2, 3)
    assert robot.record(count=0)[0] == 1
    robot.socket.send(struct.pack(">HHI", 0x1234, 0, 0))
    until(lambda: robot.wrist()["counters"]["requests"] == 3)
    records = robot.wrist()["counters"]["records"]
    assert robot.wrist()["counters"]["records"] == records


@pytest.mark.real
def test_a_software_bias_zeroes_the_load(robot: Robot) -> None:
    robot.socket.send(struct.pack(">HHI", 0x1234, 0x42, 0))
    assert all(abs(count) < 10_000 for count in robot.record()[3:])


@pytest.mark.real
def test_malformed_requests_are_ignored(robot: Robot) -> None:
    for junk in (b"", b"x", struct.pack(">HHI", 0x4321, 2, 1), bytes(9)):
        robot.socket.send(junk)
    assert robot.record()[0] == 1
    assert robot.wrist()["counters"] == {"requests": 1, "malformed": 4, "records": 1}


@pytest.mark.real
def test_the_sensor_can_be_frozen_doubled_shortened_and_have_a_status(robot: Robot) -> None:
    first = robot.record()
    robot.wrist(fault="freeze", count=2)
    assert [robot.record()[1:] for _ in range(2)] == [first[1:]] * 2
    robot.wrist(fault="status_word", arg=0x80000000)
    assert robot.record()[2] == 0x80000000
    robot.wrist(fault="duplicate")
    assert robot.record() == struct.unpack(">IIIiiiiii", robot.socket.recv(64))
    robot.wrist(fault="short", arg=20)
    robot.socket.send(struct.pack(">HHI", 0x1234, 2, 1))
    assert len(robot.socket.recv(64)) == 20
    robot.wrist(fault="late", arg=2000)
    assert robot.record()[0] == 1
    robot.wrist(fault="silent")
    robot.socket.send(struct.pack(">HHI", 0x1234, 2, 1))
    assert robot.record()[2] == 0


@pytest.mark.real
def test_a_closed_sensor_comes_back_on_its_port(robot: Robot) -> None:
    robot.wrist(fault="close")
    robot.wrist(fault="reopen")
    assert robot.record()[0] == 1


@pytest.mark.real
def test_the_configuration_page_has_scale_and_units(robot: Robot) -> None:
    url = f"http://127.0.0.1:{robot.devices['wrist']['config_port']}"
    with urllib.request.urlopen(f"{url}/netftapi2.xml", timeout=BOUND_S) as answer:
        page = ElementTree.fromstring(answer.read())
    read = {name: page.findtext(name) for name in ("cfgcpf", "cfgcpt", "scfgfu", "scfgtu")}
    assert read == {"cfgcpf": "1000000", "cfgcpt": "1000000", "scfgfu": "N", "scfgtu": "Nm"}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/other.xml", timeout=BOUND_S)


@pytest.mark.real
@SHARED_BUS
@given(instruction=st.integers(0, 255), dxl_id=st.integers(0, 254), params=st.binary(max_size=24))
def test_no_packet_brings_the_servos_down(
    bus: ServoBus, instruction: int, dxl_id: int, params: bytes
) -> None:
    bus.hear(packet(dxl_id, bytes((instruction,)) + params), 4_000_000, time.monotonic_ns())


@pytest.mark.real
@SHARED_BUS
@given(data=st.binary(max_size=64))
def test_no_garbage_brings_the_servos_down(bus: ServoBus, data: bytes) -> None:
    bus.hear(bytearray(data), 4_000_000, time.monotonic_ns())


# the process --------------------------------------------------------------------------------


@pytest.mark.real
def test_the_link_is_removed_at_the_end(tmp_path: Path) -> None:
    with EmulatorProcess().start(robot_schedule(tmp_path)) as emulator:
        link = tmp_path / "ports" / "arm"
        assert link.is_symlink()
        assert emulator.stop() == 0
    assert not link.is_symlink()


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: int) -> None:
    with EmulatorProcess().start(robot_schedule(tmp_path)) as emulator:
        os.kill(emulator.pid, number)
        assert emulator.wait() == 0
    assert not (tmp_path / "ports" / "arm").is_symlink()


@pytest.mark.real
def test_wire_time_can_be_switched_off_in_the_schedule(tmp_path: Path) -> None:
    robot = Robot(tmp_path, emulator="wire_time = false")
    two = bytes(packet(1, b"\x01") + packet(2, b"\x01"))
    replies = robot.exchange(two, 28)
    assert (replies[4], replies[18]) == (1, 2)
    assert robot.arm()["counters"]["collisions"] == 0
    robot.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("baud = 4_000_000", "baud = 4_000_001"), "baud must be one of"),
        (("ids = [1, 2, 3, 4, 5, 6]", "ids = [1, 1]"), "ids must be a list of different"),
        (('host = "127.0.0.1"', "host = 1"), "host must be a string, got 1"),
    ],
)
def test_a_wrong_table_is_refused_with_key_and_value(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = robot_schedule(tmp_path)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ScheduleError, match=message):
        devices(load(path), wire_time=None, now_ns=0)


@pytest.mark.real
def test_a_stale_link_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    schedule = robot_schedule(tmp_path)
    link = tmp_path / "ports" / "arm"
    link.parent.mkdir()
    link.symlink_to("/dev/pts/none")
    with EmulatorProcess().start(schedule) as emulator:
        assert link.exists()
        emulator.stop()
    link.write_text("mine")
    with pytest.raises(RuntimeError, match="ended"), EmulatorProcess() as emulator:
        emulator.start(schedule)
    assert link.read_text() == "mine"


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="other users can be had by root alone")
def test_another_users_port_is_left_alone_and_its_user_is_named() -> None:
    with tempfile.TemporaryDirectory(prefix="inphase-test-") as folder:
        Path(folder).chmod(0o755)
        link = Path(folder, "ports", "arm")
        ours = Port(link)
        ours.open()
        opens = (
            "from pathlib import Path\nfrom inphase_drivers.emulator.port import Port, PortError",
            f"try: Port(Path({str(link)!r})).open()\nexcept PortError as error: print(error)",
        )
        said = said_by_another_user(*opens)
        assert said.startswith(f"{link}: is the port of another emulator")
        os.close(ours.fd)  # as it dies
        said = said_by_another_user(*opens)
        assert "belongs to user root" in said and f"sudo rm -r {link.parent}" in said


@pytest.mark.real
def test_an_empty_folder_that_keeps_others_out_is_removed_and_no_other() -> None:
    with tempfile.TemporaryDirectory(prefix="inphase-test-") as folder:
        for mode, remains in ((0o1777, False), (0o755, True)):
            Path(folder).chmod(mode)
            port = Port(Path(folder, "ports", "arm"))
            port.open()
            port.close()
            assert port.link.parent.exists() == remains


@pytest.mark.real
def test_a_link_whose_terminals_number_somebody_else_has_got_is_replaced(tmp_path: Path) -> None:
    schedule = robot_schedule(tmp_path)
    link = tmp_path / "ports" / "arm"
    link.parent.mkdir()
    ours, theirs = os.openpty()
    link.symlink_to(os.ttyname(theirs))
    os.utime(link, ns=(0, 0), follow_symlinks=False)  # made before the terminal was
    with EmulatorProcess().start(schedule):
        assert str(link.readlink()) != os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


@pytest.mark.real
@pytest.mark.parametrize("shared", ["port", "udp", "tcp"])
def test_what_a_living_emulator_has_is_not_taken_and_the_message_says_from_whom(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], shared: str
) -> None:
    first = robot_schedule(tmp_path)
    link = tmp_path / "ports" / "arm"
    text = first.read_text()
    options = load(first)["device"]["wrist"]
    udp, tcp = options["port"], options["config_port"]
    if shared != "port":
        text = text.replace(str(link), str(tmp_path / "another"))
    if shared == "tcp":
        text = text.replace(f"\nport = {udp}\n", f"\nport = {free_port(socket.SOCK_DGRAM)}\n")
    second = tmp_path / "second.toml"
    second.write_text(text)
    with EmulatorProcess().start(first) as emulator:
        before = link.readlink()
        with pytest.raises(RuntimeError, match="ended"), EmulatorProcess() as other:
            other.start(second)
        said = capfd.readouterr().err
        assert {
            "port": f"{link}: is the port of another emulator, process {emulator.pid}; stop",
            "udp": f"udp 127.0.0.1:{udp}: Address already in use; `ss -lunp 'sport = :{udp}'`",
            "tcp": f"tcp 127.0.0.1:{tcp}: Address already in use; `ss -ltnp 'sport = :{tcp}'`",
        }[shared] in said
        assert link.readlink() == before and link.exists()
    assert not (tmp_path / "another").is_symlink()


@pytest.mark.real
def test_an_end_removes_no_link_that_another_has_put_in_its_place(tmp_path: Path) -> None:
    link = tmp_path / "ports" / "arm"
    with EmulatorProcess().start(robot_schedule(tmp_path)) as emulator:
        link.unlink()
        link.symlink_to("/dev/pts/none")
        assert emulator.stop() == 0
    assert str(link.readlink()) == "/dev/pts/none"
