"""The drivers: their packets against the manual, and against the emulator in a process."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inphase import packets
from inphase.driver import Watchdog
from inphase.errors import ScheduleError
from inphase.plan import plan as planning
from inphase.schedule import load
from inphase_drivers import dynamixel
from inphase_drivers.ati import NetFT, NetFTOptions
from inphase_drivers.dynamixel import ServoOptions, Servos
from peers import EmulatorProcess, until
from robots import demo_schedule

IDS = [1, 2, 3, 4, 5, 6]


def servos(**options: Any) -> Servos:
    return Servos("arm", ServoOptions(port="/dev/null", ids=IDS, **options))


def test_the_manuals_ping_and_read_and_write_packets_are_made_byte_for_byte() -> None:
    # e-manual, Protocol 2.0: Ping example 1, Read example, Write example
    assert dynamixel.packet(1, 0x01).hex() == "fffffd00010300" + "01" + "194e"
    read = dynamixel.packet(1, 0x02, bytes([0x84, 0, 4, 0]))
    assert read.hex() == "fffffd0001070002840004001d15"
    write = dynamixel.packet(1, 0x03, bytes([0x74, 0, 0, 2, 0, 0]))
    assert write.hex() == "fffffd0001090003740000020000ca89"


def test_a_command_that_holds_the_header_pattern_is_stuffed_and_its_length_grows() -> None:
    spec = servos().actuator()
    turn = 4096
    counts = [-(131073 - 2048) / turn * 2 * 3.141592653589793] * 6  # raw 0xFFFDFFFF and near it
    raw = packets.encode(spec.encoding, counts)
    plain = packets.encode(spec.encoding, [0.0] * 6)
    body = raw[7:-2]
    assert len(raw) >= len(plain)
    assert int.from_bytes(raw[5:7], "little") == len(raw) - 7
    assert packets.checksum("CRC-16/UMTS", raw[:-2]) == int.from_bytes(raw[-2:], "little")
    assert b"\xff\xff\xfd" not in body.replace(b"\xff\xff\xfd\xfd", b"")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[tuple[EmulatorProcess, Path]]:
    path = demo_schedule(tmp_path)
    with EmulatorProcess().start(path) as process:
        yield process, path


def read_once(driver: Servos, channels: int) -> list[float]:
    """One exchange by hand, as the core would run it."""
    import os
    import select

    spec = driver.sensor()
    parser = packets.Parser(spec.exchange, channels)
    fd = driver.open()
    try:
        os.write(fd, spec.exchange.request)
        for _ in range(100):
            assert select.select([fd], [], [], 10)[0]
            values = parser.feed(os.read(fd, 4096))
            if values is not None:
                return values
        raise AssertionError("no whole reply")
    finally:
        driver.close()


@pytest.mark.real
@pytest.mark.parametrize("read", ["fast", "sync"])
@pytest.mark.parametrize("servo", range(6))
def test_the_stuffing_case_is_read_right_in_every_position(
    emulator: tuple[EmulatorProcess, Path], read: str, servo: int
) -> None:
    process, path = emulator
    velocity: list[int | None] = [None] * 6
    current: list[int | None] = [None] * 6
    velocity[servo], current[servo] = 253, -1
    process.control({"device": "arm", "set": {"velocity_raw": velocity, "current_raw": current}})
    options = load(path).device["arm"].options | {"read": read}
    driver = Servos("arm", ServoOptions(**options))
    values = read_once(driver, 18)
    assert round(values[6 + servo] / (0.229 * 2 * 3.141592653589793 / 60)) == 253
    assert values[12 + servo] == pytest.approx(-2.69e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ids": [1, 1, 3]}, r"ids must be different from each other, got \[1, 1, 3\]"),
        ({"start_position": [0.0]}, r"start_position: one number, or one per servo \(2\)"),
    ],
)
def test_two_channels_of_one_servo_are_refused(options: dict[str, Any], said: str) -> None:
    table = {"port": "/dev/null", "ids": [1, 2], **options}
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(table, ServoOptions)


@pytest.mark.real
def test_enable_sets_the_goal_to_the_measured_pose_before_torque(
    emulator: tuple[EmulatorProcess, Path],
) -> None:
    process, path = emulator
    driver = Servos("arm", ServoOptions(**load(path).device["arm"].options))
    driver.open()
    before = process.control({"device": "arm", "status": True})["position"]
    driver.enable()
    after = process.control({"device": "arm", "status": True})["position"]
    assert after == pytest.approx(before, abs=0.01)
    driver.disable()
    driver.close()


@pytest.mark.real
def test_a_tripped_bus_watchdog_refuses_goals_until_enable_clears_it(
    emulator: tuple[EmulatorProcess, Path],
) -> None:
    process, path = emulator
    options = load(path).device["arm"].options | {"watchdog_ms": 60}
    driver = Servos("arm", ServoOptions(**options))
    assert driver.actuator().watchdog == Watchdog(60_000_000, fed_by_reads=True, verified=True)

    def status() -> dict[str, Any]:
        return process.control({"device": "arm", "status": True})

    fd = driver.open()
    driver.enable()
    here = status()["position"]
    far = packets.encode(driver.actuator().encoding, [position + 0.5 for position in here])
    # what nothing feeds stops by itself; a goal that comes then is refused, and moves nothing
    until(lambda: status()["watchdog"] == [0xFF] * 6)
    before = status()["counters"]["writes"]
    os.write(fd, far)
    until(lambda: status()["counters"]["writes"] > before)
    assert status()["position"] == pytest.approx(here, abs=0.01)
    driver.enable()
    assert 0xFF not in status()["watchdog"]
    os.write(fd, far)
    until(lambda: status()["position"][0] > here[0] + 0.05)
    driver.disable()
    assert status()["watchdog"] == [0] * 6
    driver.close()


@pytest.mark.parametrize(
    ("options", "problem"),
    [("watchdog_ms = 20", "trips when one cycle"), ("watchdog_ms = 30", "multiple of 20")],
)
def test_a_watchdog_that_cannot_be_is_refused(tmp_path: Path, options: str, problem: str) -> None:
    path = demo_schedule(tmp_path)
    text = path.read_text().replace("rate_hz = 500", "rate_hz = 50")
    text = text.replace("max_age_ms = 10", "max_age_ms = 60")
    path.write_text(text.replace("[device.arm]", f"[device.arm]\n{options}"))
    with pytest.raises(ScheduleError, match=problem):
        planning.make(load(path))


@pytest.mark.real
def test_the_wrists_scale_comes_from_its_page_unless_the_schedule_gives_it(
    emulator: tuple[EmulatorProcess, Path],
) -> None:
    _, path = emulator
    options = load(path).device["wrist"].options
    driver = NetFT("wrist", NetFTOptions(**options))
    driver.open()
    driver.close()
    assert driver.sensor().exchange.replies[0].values[0].scale == pytest.approx(1e-6)
    given = NetFT("w", NetFTOptions(host="h", counts_per_force=10, counts_per_torque=20))
    scales = [value.scale for value in given.sensor().exchange.replies[0].values]
    assert scales == pytest.approx([0.1] * 3 + [0.05] * 3)


def test_sign_and_zero_turn_the_reading_and_the_command_alike(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    text = path.read_text()
    head = "[sensor.joints]\n"
    assert head in text
    path.write_text(
        text.replace(
            head,
            head + "sign = [1, -1, 1, 1, 1, 1]\nzero = { position = [0, 0.5, 0, 0, 0, 0] }\n",
        )
    )
    plan = planning.make(load(path))
    value = next(v for v in plan.sensors[0].exchange.replies[0].values if v.channel == 1)
    raw = 3000
    reading = raw * value.scale + value.zero
    command = plan.actuators[0].encoding.values[1]
    assert (reading - command.zero) / command.scale == pytest.approx(raw)
    centred = (raw - 2048) * 2 * 3.141592653589793 / 4096
    assert reading == pytest.approx(-centred - 0.5)
