"""Servos say what they are: units by model number, their own limits, faults, and old firmware."""

import math
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase import packets
from inphase.driver import DeviceError
from inphase.plan import plan as planning
from inphase.runtime.workers import opened
from inphase.schedule import load
from inphase_drivers.dynamixel import ServoOptions, Servos, packet
from inphase_drivers.dynamixel.models import BY_NUMBER
from peers import BOUND_S, EmulatorProcess, robot_schedule, until
from runtimes import Robot

pytestmark = pytest.mark.real

XM430, XL430, XL330 = 1020, 1060, 1200
COUNT = 2 * math.pi / 4096
IDS = [1, 2, 3, 4, 5, 6]


class Arm:
    """Six emulated servos, and drivers for them."""

    def __init__(self, folder: Path, keys: str = "") -> None:
        schedule = robot_schedule(folder, "wire_time = false")
        schedule.write_text(schedule.read_text().replace("[device.arm]", f"[device.arm]\n{keys}"))
        self._emulator = EmulatorProcess().start(schedule)
        self.port = f"{folder}/ports/arm"

    def tell(self, **request: Any) -> dict[str, Any]:
        return self._emulator.control({"device": "arm", **request})

    def put(self, servo: int, address: int, value: int) -> None:
        """Set a register of a servo, from inside; servos count from 0."""
        self.tell(set={"register": {"servo": servo, "address": address, "value": value}})

    def be(self, *numbers: int) -> None:
        """The model numbers of the servos."""
        for servo, number in enumerate(numbers):
            self.put(servo, 0, number)

    def driver(self, mode: str = "position", **options: Any) -> Servos:
        made = Servos("arm", ServoOptions(port=self.port, ids=IDS, **options))
        made.mode = mode
        return made

    def stop(self) -> None:
        self._emulator.stop()


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Arm]:
    made = Arm(tmp_path)
    yield made
    made.stop()


def values(driver: Servos) -> dict[str, list[float]]:
    """One sample of an open driver, by field."""
    fd = driver.open()
    try:
        spec = driver.sensor()
        parser = packets.Parser(spec.exchange, len(spec.twin))
        os.write(fd, spec.exchange.request)
        found = None
        while found is None:
            assert select.select([fd], [], [], 20)[0]
            found = parser.feed(os.read(fd, 4096))
    finally:
        driver.close()
    told, at = {}, 0
    for field in spec.fields:
        told[field.name] = found[at : at + field.channels]
        at += field.channels
    return told


@pytest.mark.parametrize("read", ["fast", "sync"])
def test_each_servo_of_a_mixed_bus_has_the_units_of_its_model(arm: Arm, read: str) -> None:
    arm.be(XL430, XL430, XL330, XM430, XL330, 1050)
    arm.tell(set={"current_raw": [100, -100, 100, 100, -100, 100]})
    models = ["XL430-W250", "XL430-W250", "XL330-M288", "XM430-W350", "XL330-M288", "XH430-V210"]
    told = values(arm.driver(read=read, models=models))
    assert told["load"] == pytest.approx([0.1, -0.1])
    assert told["current"] == pytest.approx([0.1, 0.269, -0.1, 0.134])
    assert len(told["position"]) == len(told["velocity"]) == 6


def test_currents_of_one_kind_need_no_models_in_the_schedule(arm: Arm) -> None:
    arm.be(*[XL330] * 6)
    arm.tell(set={"current_raw": [1, 2, 3, 4, 5, 6]})
    assert values(arm.driver())["current"] == pytest.approx([n * 1e-3 for n in range(1, 7)])


def test_the_emulated_servos_are_the_schedules_models_with_currents_in_their_units(
    tmp_path: Path,
) -> None:
    models = ["XL430-W250", "XM430-W350", "XL330-M288", "XL330-M077", "XH430-V350", "MX-64"]
    arm = Arm(tmp_path, f"models = {models}".replace("'", '"'))
    driver = arm.driver(models=models)
    try:
        driver.open()
        for ident in IDS:
            driver.registers.write(ident, 64, 1, 1)  # torque on, where it stands
        driver.close()
        until(lambda: abs(arm.tell()["current"][1]) > 0.1)  # it holds its weight
        before, told, current = None, {}, arm.tell()["current"]  # A, of the joints
        while before != pytest.approx(current, abs=1e-6):  # until it is at rest
            before = current
            told = values(driver)
            current = arm.tell()["current"]
    finally:
        arm.stop()
    counts = [2.69e-3, 1e-3, 1e-3, 1.34e-3, 3.36e-3]
    errors = [abs(a - b) for a, b in zip(told["current"], current[1:], strict=True)]
    assert all(error <= 0.51 * count for error, count in zip(errors, counts, strict=True))
    assert told["load"] == pytest.approx([current[0] / 3.2], abs=1e-3)  # of 3.2 A


def test_a_servo_that_measures_load_is_refused_with_the_line_that_helps(arm: Arm) -> None:
    arm.be(XL430, *[XL330] * 5)
    with pytest.raises(DeviceError, match=r"servo 1 is a XL430-W250, which measures load") as told:
        arm.driver().open()
    line = str(told.value).partition("models = [")[2].partition("]")[0]
    driver = arm.driver(models=[name.strip(' "') for name in line.split(",")])
    assert len(values(driver)["load"]) == 1


def test_models_that_are_not_the_servos_are_refused_with_those_that_are(arm: Arm) -> None:
    with pytest.raises(DeviceError, match=r"are XM430-W350, .* and models says XL330-M288"):
        arm.driver(models=["XL330-M288"] * 6).open()


def test_a_model_without_known_units_is_refused_by_number(arm: Arm) -> None:
    arm.be(XM430, 350)
    with pytest.raises(
        DeviceError, match=r"servo 2 on .*: model number 350 \(register 0\)"
    ) as told:
        arm.driver().open()
    assert "XM430-W350 (1020)" in str(told.value)


def test_efforts_of_a_servo_without_a_current_control_are_refused(arm: Arm) -> None:
    arm.be(XL430, *[XL330] * 5)
    names = [BY_NUMBER[number].name for number in (XL430, *[XL330] * 5)]
    with pytest.raises(DeviceError, match=r"servo 1 .* follows no current; use mode"):
        arm.driver("effort", models=names).open()


def test_the_goal_and_the_limit_of_an_effort_have_the_units_of_the_model(arm: Arm) -> None:
    arm.be(XM430, *[XL330] * 5)
    driver = arm.driver("effort")
    driver.open()
    driver.close()
    spec = driver.actuator()
    assert [value.scale for value in spec.encoding.values] == [2.69e-3, *[1e-3] * 5]
    assert spec.bounds[0].high == pytest.approx(1193.5 * 2.69e-3)
    assert spec.bounds[1].high == pytest.approx(1193.5e-3)


def test_the_servos_own_position_limits_count_as_the_schedule_counts(
    arm: Arm, tmp_path: Path
) -> None:
    arm.put(1, 48, 2700)
    path = tmp_path / "arm.toml"

    def refusal(high: float, sign: int, zero: float) -> str:
        path.write_text(SCHEDULE.format(port=arm.port, sign=sign, zero=zero, high=high))
        plan = planning.make(load(path))
        plan.drivers["arm"].open()
        plan.drivers["arm"].close()
        try:
            opened.of_opened(plan)
        except DeviceError as error:
            return str(error)
        return ""

    most = (2700 - 2048) * COUNT
    assert refusal(most, 1, 0.0) == ""
    told = refusal(most + COUNT, 1, 0.0)
    assert "actuator.arm.limits.position" in told
    assert "servo 2 on" in told and "registers 52 and 48 are 0 and 2700" in told
    assert refusal(most - 0.5, 1, 0.5) == ""
    assert "registers 52 and 48" in refusal(most - 0.4, 1, 0.5)
    assert refusal(most + 1, -1, 0.0) == ""  # turned round, it is the lower end that is bounded


SCHEDULE = """
name = "limits"
[cycle]
rate_hz = 100
read_deadline_us = 5000
act_us = 6000
[device.arm]
driver = "dynamixel"
port = "{port}"
ids = [1, 2, 3, 4, 5, 6]
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 50
sign = [1, {sign}, 1, 1, 1, 1]
zero = {{ position = [0, {zero}, 0, 0, 0, 0] }}
[actuator.arm]
device = "arm"
feedback = "joints.position"
[actuator.arm.limits]
position = [[-0.9, 0.9], [-0.9, {high}], [-1, 1], [-1, 1], [-1, 1], [-1, 1]]
velocity = 1.0
acceleration = 5.0
step = 0.5
"""


@pytest.mark.parametrize("read", ["fast", "sync"])
def test_one_old_servo_among_others_is_found_before_torque(arm: Arm, read: str) -> None:
    arm.tell(fault="unknown", instruction=0x8A)
    driver = arm.driver(read=read)
    if read == "sync":
        values(driver)
        return
    with pytest.raises(DeviceError, match=r"Fast Sync Read \(0x8A\).*read = \"sync\""):
        driver.open()
    assert arm.tell()["torque"] == [0] * 6


@pytest.mark.parametrize(
    ("status", "said"), [(0x20, "overload"), (0x24, "overheating, overload"), (0x01, "input volt")]
)
def test_a_hardware_error_is_told_by_its_name_and_with_a_remedy_that_works(
    arm: Arm, status: int, said: str
) -> None:
    arm.put(2, 70, status)
    driver = arm.driver()
    with pytest.raises(DeviceError, match=rf"servo 3 on .*: {said}.*register 70") as told:
        driver.open()
    assert "torque-off write" not in str(told.value) and "instruction 0x08" in str(told.value)
    # the remedy: the instruction that it names
    driver.registers.open()
    port = driver.registers.hand_over()
    os.write(port, packet(3, 0x08))
    assert select.select([port], [], [], BOUND_S)[0]  # its answer: it was understood
    driver.close()

    def opens() -> bool:
        try:
            driver.open()
        except DeviceError:
            return False  # it is deaf while it starts again
        return True

    until(opens)
    driver.close()


@pytest.mark.parametrize(
    ("detail", "said"),
    [(0x80, "hardware error, as an overload"), (6, "beyond a limit"), (0x87, "cannot be read")],
)
def test_a_number_in_place_of_a_value_has_words(detail: int, said: str) -> None:
    driver = Servos("arm", ServoOptions(port="/dev/null", ids=IDS))
    assert said in driver.meaning(detail)
    assert driver.meaning(0x55) == "" and ("register 70" in driver.meaning(detail)) == (detail > 7)


def test_a_servo_that_was_overloaded_in_between_is_not_enabled(arm: Arm) -> None:
    driver = arm.driver()
    driver.open()
    arm.put(2, 70, 0x20)
    with pytest.raises(DeviceError, match=r"servo 3 on .*: overload"):
        driver.enable()
    assert arm.tell()["torque"] == [0] * 6
    driver.close()


def test_other_servos_that_come_back_in_a_run_are_refused(tmp_path: Path) -> None:
    with Robot() as robot:
        robot.write()
        with robot.run("--observe") as run:
            run.status("joints", "FRESH")
            robot.arm(fault="close")
            run.status("joints", "OFFLINE")
            for servo in range(6):
                register = {"servo": servo, "address": 0, "value": XL330}
                robot.arm(set={"register": register})
            robot.arm(fault="reopen")
            until(lambda: "came back with other units" in run.stderr)
            for servo in range(6):
                robot.arm(set={"register": {"servo": servo, "address": 0, "value": XM430}})
            run.status("joints", "FRESH")


@pytest.mark.parametrize("home", ["cycle", "process"])
def test_every_home_has_the_units_that_the_servos_have(home: str) -> None:
    with Robot() as robot:
        robot.write(
            (
                'driver = "inphase_drivers.dynamixel:Servos"',
                f'driver = "dynamixel"\nhome = "{home}"',
            )
        )
        for servo in range(6):
            robot.arm(set={"register": {"servo": servo, "address": 0, "value": XL330}})
        robot.arm(set={"current_raw": [1, 2, 3, 4, 5, 6]})
        with robot.run("--observe") as run:
            frame = run.status("joints", "FRESH")
            assert frame["joints"].value["current"] == pytest.approx(
                [n * 1e-3 for n in range(1, 7)]
            )
