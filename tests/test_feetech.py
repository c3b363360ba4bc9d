"""Feetech servos: the driver on the emulator and on servos of somebody else, and the reverse."""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import scservo_sdk
from feetech_cli.simulator import SimulatedBus, SimulatedServo

from inphase import packets
from inphase.driver import DeviceError
from inphase.testing import DriverContract
from inphase_drivers.emulator.feetech.packets import take_request
from inphase_drivers.feetech import FeetechOptions, FeetechServos, packet
from inphase_drivers.feetech.scan import scan
from servo_peers import ServoBusPeer

IDS = [1, 2, 3, 4, 5, 6]
COUNT = 2 * math.pi / 4096
MODEL, BAUD, DELAY, LEVEL, MODE, TORQUE, GOAL, LOCK, STATUS = 3, 6, 7, 8, 33, 40, 42, 55, 65
SCHEDULE = """
[emulator]
module = "inphase_drivers.emulator"
{emulator}
[device.arm]
driver = "feetech"
port = "{folder}/ports/arm"
ids = [1, 2, 3, 4, 5, 6]
"""


class FeetechPeer(ServoBusPeer):
    """Feetech servos."""

    mark = "velocity", COUNT
    baud = BAUD, 3, 0

    def __init__(self, folder: Path, emulator: str = "wire_time = true") -> None:
        path = folder / "robot.toml"
        path.write_text(SCHEDULE.format(folder=folder, emulator=emulator))
        super().__init__(path)

    def forget(self) -> None:
        self.arm(fault="unknown", instruction=0x82)


@pytest.mark.real
@pytest.mark.long
class TestFeetech(DriverContract):
    driver = FeetechServos
    homes = ("cycle",)

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[FeetechPeer]:
        peer = FeetechPeer(tmp_path)
        yield peer
        peer.emulator.stop()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[FeetechPeer]:
    peer = FeetechPeer(tmp_path, "wire_time = false")
    yield peer
    peer.emulator.stop()


def driver_of(options: dict[str, Any]) -> FeetechServos:
    return FeetechServos("arm", msgspec.convert(options, FeetechOptions))


def goals_of(driver: FeetechServos, radians: list[float]) -> bytes:
    return packets.encode(driver.actuator().encoding, radians)


# ---- bytes -----------------------------------------------------------------------------------


def test_the_manuals_packets_are_made_byte_for_byte() -> None:
    # Feetech, communication protocol of smart bus servo: ping, read of position, sync read
    assert packet(1, 0x01).hex() == "ffff010201fb"
    assert packet(1, 0x02, b"\x38\x02").hex() == "ffff0104023802be"
    assert packet(0xFE, 0x82, b"\x38\x08\x01\x02").hex() == "fffffe0682380801" + "0236"


def test_a_goal_is_written_for_each_servo_with_its_sign_in_a_bit_of_its_own() -> None:
    driver = driver_of({"port": "/dev/null", "ids": [1, 2, 9]})
    sent = goals_of(driver, [0.0, 100 * COUNT, -2049 * COUNT])
    assert sent.hex() == "fffffe0d832a02" + "010008" + "026408" + "090180" + f"{sent[-1]:02x}"
    request = take_request(bytearray(sent))
    assert request is not None
    assert request.is_whole


def test_two_servos_of_one_id_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="ids must be different"):
        driver_of({"port": "/dev/null", "ids": [1, 1]})


# ---- the maker's client ----------------------------------------------------------------------


@pytest.mark.real
def test_the_makers_sdk_reads_and_moves_the_emulated_servos(peer: FeetechPeer) -> None:
    port = scservo_sdk.PortHandler(peer.options["port"])
    assert port.openPort()
    assert port.setBaudRate(1_000_000)
    sdk = scservo_sdk.sms_sts(port)
    try:
        assert sdk.ping(3) == (777, scservo_sdk.COMM_SUCCESS, 0)
        peer.arm(set={"position_raw": [5, 300, -7, 4095, 0, 1], "velocity_raw": [-90] * 6})
        assert [sdk.ReadPos(ident)[0] for ident in IDS] == [5, 300, -7, 4095, 0, 1]
        assert sdk.ReadPosSpeed(3)[:2] == (-7, -90)
        peer.arm(set={"position_raw": [None] * 6, "velocity_raw": [None] * 6})

        group = scservo_sdk.GroupSyncRead(sdk, 56, 4)
        assert all(group.addParam(ident) for ident in IDS)
        assert group.txRxPacket() == scservo_sdk.COMM_SUCCESS
        here = [group.getData(ident, 56, 2) for ident in IDS]
        assert here == [sdk.ReadPos(ident)[0] for ident in IDS]

        for ident in IDS:
            assert sdk.SyncWritePosEx(ident, here[ident - 1] + 10, 0, 0)
        sdk.groupSyncWrite.txPacket()
        sdk.groupSyncWrite.clearParam()
        goals = [round(goal / COUNT) + 2048 for goal in peer.arm()["goal"]]
        assert goals == [one + 10 for one in here]
        assert peer.power() == [True] * 6, "a goal switches torque on by itself"

        # the lock keeps what outlives the power
        assert sdk.write1ByteTxRx(3, MODE, 1)[0] == scservo_sdk.COMM_SUCCESS
        assert sdk.read1ByteTxRx(3, MODE)[0] == 0
        sdk.unLockEprom(3)
        sdk.write1ByteTxRx(3, MODE, 1)
        assert sdk.read1ByteTxRx(3, MODE)[0] == 1
    finally:
        port.closePort()


# ---- servos of somebody else -----------------------------------------------------------------


@contextlib.contextmanager
def foreign_servos(*servos: SimulatedServo) -> Iterator[str]:
    """feetech-cli's simulated servos behind a pseudo-terminal; its port."""
    ours, theirs = os.openpty()
    bus = SimulatedBus(servos)
    inbox = bytearray()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(ours, 4096):
                inbox.extend(data)
                while len(inbox) >= 4 and len(inbox) >= 4 + inbox[3]:
                    size = 4 + inbox[3]
                    bus.write(bytes(inbox[:size]))
                    del inbox[:size]
                    if answer := bus.read(4096):
                        os.write(ours, answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        os.close(theirs)
        thread.join()
        os.close(ours)


def ask(driver: FeetechServos, fd: int) -> list[float]:
    spec = driver.sensor()
    parser = packets.Parser(spec.exchange, 3 * len(driver.options.ids))
    os.write(fd, spec.exchange.request)
    values = None
    while values is None:
        values = parser.feed(os.read(fd, 4096))
    return values


def test_the_driver_reads_and_moves_servos_of_somebody_else() -> None:
    servos = [SimulatedServo(ident) for ident in (4, 1, 9)]
    for servo, at in zip(servos, (100, 2048, 4000), strict=True):
        servo.raw_position = at
        servo._settle()
    servos[0]._store("return_delay", 250)
    servos[1]._store("present_velocity", 0x8000 | 40)
    servos[1]._store("present_load", 0x400 | 250)
    servos[2]._store("goal_velocity", 77)
    with foreign_servos(*servos) as port:
        driver = driver_of({"port": port, "ids": [4, 1, 9]})
        fd = driver.open()
        os.set_blocking(fd, True)
        assert servos[0].get("return_delay") == 0
        assert [servo.locked for servo in servos] == [True] * 3
        values = ask(driver, fd)
        assert values[:3] == pytest.approx([(100 - 2048) * COUNT, 0.0, (4000 - 2048) * COUNT])
        assert values[4] == pytest.approx(-40 * COUNT)
        assert values[7] == pytest.approx(-0.25)

        driver.enable()
        assert driver.goals() == pytest.approx(values[:3])
        assert [servo.get("torque_enable") for servo in servos] == [1, 1, 1]
        assert servos[2].get("goal_velocity") == 0
        os.write(fd, goals_of(driver, [0.1, 0.2, 0.3]))
        assert ask(driver, fd)[:3] == pytest.approx([0.1, 0.2, 0.3], abs=COUNT)
        driver.disable()
        assert [servo.get("torque_enable") for servo in servos] == [0, 0, 0]
        driver.close()


def test_a_fault_of_somebody_elses_servo_refuses_its_sample_with_its_name() -> None:
    servo = SimulatedServo(1)
    with foreign_servos(servo) as port:
        driver = driver_of({"port": port, "ids": [1]})
        fd = driver.open()
        os.set_blocking(fd, True)
        servo.error = 0x24
        with pytest.raises(packets.RefusedReply) as refused:
            ask(driver, fd)
        driver.close()
    assert (refused.value.reason, refused.value.detail) == ("device", 0x24)
    assert driver.meaning(refused.value.detail) == "overheating, overload"
    assert "fault 0x40" in driver.meaning(0x40)


# ---- set-up ----------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("address", "value", "said"),
    [
        (MODEL, 1, r"servo 3 .*model number 769 .*other_models = \[769\]"),
        (BAUD, 4, r"servo 3 .*register 6 \(baud rate\) is 4, needed is 0"),
        (LEVEL, 0, r"servo 3 .*register 8 \(response status level\) is 0, needed is 1"),
        (STATUS, 0x20, r"servo 3 .*overload \(status, register 65, is 0x20\)"),
    ],
)
def test_a_servo_that_is_set_otherwise_is_refused(
    peer: FeetechPeer, address: int, value: int, said: str
) -> None:
    peer.put(address, value)
    with pytest.raises(DeviceError, match=said):
        driver_of(peer.options).open()
    assert peer.power() == [False] * 6


@pytest.mark.real
def test_the_remedy_of_an_unknown_model_works_at_once(peer: FeetechPeer) -> None:
    peer.put(MODEL, 1)
    driver = driver_of(peer.options | {"other_models": [769]})
    driver.open()
    driver.close()


@pytest.mark.real
def test_mode_and_return_delay_are_set_where_a_servo_is_free(peer: FeetechPeer) -> None:
    peer.put(MODE, 1)
    peer.put(DELAY, 250, servo=5)
    driver = driver_of(peer.options)
    driver.open()
    assert (driver.registers.read(3, MODE, 1), driver.registers.read(6, DELAY, 1)) == (0, 0)
    assert [driver.registers.read(ident, LOCK, 1) for ident in IDS] == [1] * 6
    driver.close()


@pytest.mark.real
def test_a_servo_that_holds_is_never_let_go(peer: FeetechPeer) -> None:
    driver = driver_of(peer.options)
    driver.open()
    driver.registers.write(3, GOAL, 2048 + 900, 2)  # it switches on, and is on its way there
    driver.enable()
    assert driver.goals()[2] == pytest.approx(900 * COUNT)
    assert driver.registers.read(3, GOAL, 2) == 2048 + 900
    driver.disable()
    driver.close()
    peer.put(TORQUE, 1)
    peer.put(MODE, 1)
    with pytest.raises(DeviceError, match=r"servo 3 .*operating mode\) is 1, needed is 0"):
        driver.open()
    assert peer.power() == [False, False, True, False, False, False]


@pytest.mark.real
def test_bounds_are_those_that_the_servo_is_set_to(peer: FeetechPeer) -> None:
    peer.put(9, 100)
    driver = driver_of(peer.options)
    driver.open()
    bound = driver.actuator().bounds[2]
    driver.close()
    assert (bound.low, bound.high) == pytest.approx((-1948.5 * COUNT, 2047.5 * COUNT))
    assert "registers 9 and 11 are 100 and 4095" in bound.where


# ---- scan ------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_scan_finds_servos_at_each_rate(peer: FeetechPeer) -> None:
    driver = driver_of(peer.options)
    driver.open()
    driver.registers.write(2, LOCK, 0, 1)
    driver.registers.write(2, BAUD, 1, 1)  # it goes on at 500 kbaud
    driver.close()
    peer.put(STATUS, 0x01, servo=4)
    told = scan(peer.options["port"], (1_000_000, 500_000))
    assert [(found.ident, found.baud) for found in told.found] == [
        *((ident, 1_000_000) for ident in (1, 3, 4, 5, 6)),
        (2, 500_000),
    ]
    assert {(found.model, found.firmware) for found in told.found} == {("STS3215", "3.10")}
    assert told.remarks == ("servo 5 at 1000000 baud has a fault: input voltage",)


@pytest.mark.real
def test_a_scan_tells_of_two_servos_with_one_id(peer: FeetechPeer) -> None:
    peer.put(5, 3, servo=3)
    told = scan(peer.options["port"], (1_000_000,))
    assert [found.ident for found in told.found] == [1, 2, 3, 5, 6]
    assert told.remarks == (
        "6 bytes at 1000000 baud are no servo's answer: another device, two servos with one id, "
        "or a bad wire; connect the servos one at a time",
    )
