"""One pass over a schedule and its drivers finds every fault; after it planning cannot fail."""

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import inphase
from inphase.command import check
from inphase.errors import ScheduleError, ScheduleFault
from inphase.plan import plan, validation
from inphase.schedule import load, loader
from peers import ROOT
from test_fit import ROBOT
from test_schedule import BAD, GOOD, MORE, Bad

PLAN = ROOT / "middleware" / "inphase" / "plan"
CHECKS = {
    "channel_limits.py",
    "declarations.py",
    "driver_rules.py",
    "feasibility.py",
    "missing_samples.py",
    "validation.py",
}

FIVE = (
    ROBOT.replace("[cycle]", '[store]\ndepth = "deep"\n\n[cycle]')
    .replace('place = "udp:wrist"', 'place = "udp:wrist"\nplaces = 2')
    .replace("trigger_us = 0", "trigger_us = 901", 1)
    .replace("every = 16", "evry = 16")
    .replace("position = [-1, 1]", "position = [1, -1]")
)
"""A value of another type, a key that the driver does not know, a sample that comes too late, a key
that no sensor has, and a limit upside down."""


def faults_of(path: Path) -> list[ScheduleFault]:
    """Those that are found with its drivers."""
    with pytest.raises(ScheduleError) as caught:
        plan.make(validation.load(path))
    return caught.value.faults


def written(folder: Path, text: str) -> Path:
    path = folder / "robot.toml"
    path.write_text(text)
    return path


def test_five_faults_of_five_kinds_are_reported_in_the_order_of_their_lines(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, FIVE)
    with pytest.raises(ScheduleError) as caught:
        check.make(path)
    lines = str(caught.value).splitlines()
    expected = [
        ("store.depth", "expected `int`, got 'deep'"),
        ("device.wrist.places", "unknown key places in [device.wrist], with the value 2"),
        ("sensor.joints.trigger_us", "1201 us after the cycle's start"),
        ("sensor.camera.evry", "unknown key evry"),
        ("actuator.arm.limits.position", "low is not below high"),
    ]
    assert len(lines) == len(expected)
    numbers = []
    for line, (key, words) in zip(lines, expected, strict=True):
        found = re.fullmatch(re.escape(str(path)) + r":(\d+): (\S+): (.*; .*)", line)
        assert found, line
        assert found[2] == key
        assert words in found[3]
        numbers.append(int(found[1]))
    assert numbers == sorted(numbers)
    assert [fault.key for fault in caught.value.faults] == [key for key, _ in expected]
    assert faults_of(path) == caught.value.faults


def test_load_reports_every_fault_that_needs_no_driver_and_imports_none(tmp_path: Path) -> None:
    text = FIVE.replace("timed:Timed", "no_such_module:Driver")
    with pytest.raises(ScheduleError) as caught:
        inphase.load(written(tmp_path, text))
    assert [fault.key for fault in caught.value.faults] == [
        "store.depth",
        "sensor.camera.evry",
        "actuator.arm.limits.position",
    ]


@pytest.mark.real
@pytest.mark.parametrize("command", [["check"], ["run", "--lockstep", "--cycles", "1"]])
def test_the_command_line_shows_a_line_for_each_fault(tmp_path: Path, command: list[str]) -> None:
    path = written(tmp_path, FIVE)
    ended = subprocess.run(
        [sys.executable, "-m", "inphase", *command, str(path)],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [f"inphase: {fault}" for fault in faults_of(path)]


SECOND = '\n[task]\nreward = "no call"\n'


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_a_fault_in_one_table_hides_none_in_another_and_brings_no_more(
    tmp_path: Path, case: Bad
) -> None:
    text = case.good.replace(case.old, case.new, 1) + SECOND
    with pytest.raises(ScheduleError) as caught:
        load(written(tmp_path, text))
    assert [fault.key for fault in caught.value.faults] == [case.key, "task.reward"]


def table(case: Bad) -> str:
    """The table that has the fault of a case."""
    steps = case.key.split(".")
    return ".".join(steps[:2] if steps[0] in ("device", "sensor", "actuator") else steps[:1])


@given(st.sets(st.sampled_from(sorted(BAD)), min_size=2, max_size=5))
@example({"status named twice", "policy that accepts another word"})
def test_the_faults_of_several_tables_bring_no_others(names: set[str]) -> None:
    cases = {table(BAD[name]): BAD[name] for name in sorted(names)}
    text = MORE
    # from the end: no fault is sought in the text of another
    for case in sorted(cases.values(), key=lambda case: MORE.find(case.old), reverse=True):
        at = MORE.find(case.old)
        text = text[:at] + text[at:].replace(case.old, case.new, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), text)
        with pytest.raises(ScheduleError) as caught:
            load(path)
    faults = caught.value.faults
    assert [fault.line for fault in faults] == sorted(fault.line for fault in faults)
    keys = {case.key.lower() for case in cases.values()}  # one case writes a device's name large
    assert {fault.key.lower() for fault in faults} <= keys


def test_a_name_that_is_wrong_brings_no_fault_where_it_is_meant(tmp_path: Path) -> None:
    text = GOOD.replace("[sensor.joints]", "[sensors.joints]")
    with pytest.raises(ScheduleError) as caught:
        load(written(tmp_path, text))
    assert [fault.key for fault in caught.value.faults] == ["sensors"]


def test_a_table_whose_header_is_misspelt_lacks_nothing_in_its_inner_tables(tmp_path: Path) -> None:
    text = GOOD + '[worldx]\nmodel = "arm.xml"\n[world.sensor.joints]\njoints = ["a", "b", "c"]\n'
    with pytest.raises(ScheduleError) as caught:
        load(written(tmp_path, text))
    assert [fault.key for fault in caught.value.faults] == ["worldx"]


def test_a_list_of_the_wrong_kind_is_one_fault(tmp_path: Path) -> None:
    text = GOOD.replace("sign = [1, 1, -1]", 'sign = ["a", "b", "c"]')
    with pytest.raises(ScheduleError) as caught:
        load(written(tmp_path, text))
    assert [fault.key for fault in caught.value.faults] == ["sensor.joints.sign[0]"]


def test_a_sensor_of_a_wrong_name_is_not_missed_by_its_actuator(tmp_path: Path) -> None:
    text = ROBOT.replace("request_us = 50", 'request_us = 50\nhome = "process"')
    text = text.replace("[sensor.joints]", "[sensor.Joints]")
    keys = [fault.key for fault in faults_of(written(tmp_path, text))]
    assert keys == ["sensor.Joints"]


def test_what_a_trigger_needs_is_not_told_twice(tmp_path: Path) -> None:
    keys = [f.key for f in faults_of(written(tmp_path, ROBOT.replace("trigger_us = 1500\n", "")))]
    assert keys == ["sensor.camera.every", "sensor.camera.latency_cycles"]


def test_every_key_of_a_table_that_is_wrong_is_named(tmp_path: Path) -> None:
    text = GOOD.replace("rate_hz = 500", 'rate_hz = "fast"\nspeed = 1\nphase = 2')
    text = text.replace("max_age_ms = 10\n", "")
    with pytest.raises(ScheduleError) as caught:
        load(written(tmp_path, text))
    keys = [fault.key for fault in caught.value.faults]
    assert keys == ["cycle.rate_hz", "cycle.speed", "cycle.phase", "sensor.joints.max_age_ms"]


def test_every_option_of_a_driver_that_is_wrong_is_named(tmp_path: Path) -> None:
    text = ROBOT.replace("request_us = 50", 'request_us = "x"\ncolour = 1\nshape = 2')
    keys = [fault.key for fault in faults_of(written(tmp_path, text))]
    assert keys == ["device.arm.request_us", "device.arm.colour", "device.arm.shape"]


def test_arguments_that_are_no_table_are_one_fault(tmp_path: Path) -> None:
    demo = (ROOT / "schedules" / "demo.toml").read_text()
    demo = demo.replace("args = { amplitude = 0.4, seconds = 4.0 }", 'args = "wide"')
    (tmp_path / "demo_policy.py").write_text("class Wave:\n    pass\n")
    with pytest.raises(ScheduleError) as caught:
        check.make(written(tmp_path, demo))
    assert [fault.key for fault in caught.value.faults] == ["policy.args"]


def test_a_drivers_key_and_module_are_explained_as_the_schedules_own_are(tmp_path: Path) -> None:
    demo = (ROOT / "schedules" / "demo.toml").read_text()
    demo = demo.replace('host = "127.0.0.1"\n', "").replace("4_000_000", '"fast"')
    said = [fault.message for fault in faults_of(written(tmp_path, demo))]
    assert said == [
        "expected `int`, got 'fast'; give 57600 or 115200 or 1000000 or 2000000 or 3000000 or "
        "4000000 or 4500000",
        "the key host is missing from [device.wrist]; add host = a value that the driver takes",
    ]
    demo = demo.replace("inphase_drivers.dynamixel", "inphase_drivers.nothing")
    first, _ = faults_of(written(tmp_path, demo))
    assert first.message == (
        "module inphase_drivers.nothing: cannot be imported: ModuleNotFoundError: No module named "
        "'inphase_drivers.nothing'; correct the file, or install what it imports"
    )


def test_two_devices_at_one_place_are_one_fault(tmp_path: Path) -> None:
    demo = (ROOT / "schedules" / "demo.toml").read_text()
    second = """
[device.second]
driver = "dynamixel"
port = "/tmp/inphase-demo/arm"
baud = 1_000_000
ids = [9]
"""
    keys = [fault.key for fault in faults_of(written(tmp_path, demo + second))]
    assert keys == ["device.second.port"]


def test_check_names_what_the_machine_and_the_files_beside_do_not_have(tmp_path: Path) -> None:
    more = """
[store]
group = "nobody-has-this-group"

[task]
reward = "nothing.py:reward"
terminated = "math:no_such_function"
"""
    demo = (ROOT / "schedules" / "demo.toml").read_text()
    demo = demo.replace("inphase_drivers.emulator", "nothing.emulator")
    path = written(tmp_path, demo + more)
    load(path)  # another machine may have them
    with pytest.raises(ScheduleError) as caught:
        check.make(path)
    keys = [fault.key for fault in caught.value.faults]
    assert keys == [
        "emulator.module",
        "policy.call",
        "store.group",
        "task.reward",
        "task.terminated",
    ]


def test_an_error_of_one_fault_reads_as_the_fault(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("depth = 64", "depth = 60"))
    with pytest.raises(ScheduleError) as caught:
        load(path)
    (fault,) = caught.value.faults
    assert str(caught.value) == str(fault)
    assert (fault.file, fault.line, fault.key) == (str(path), 10, "store.depth")
    assert str(fault) == f"{path}:10: store.depth: {fault.message}"


def test_a_schedule_in_hand_is_not_changed_by_its_faults(tmp_path: Path) -> None:
    text = ROBOT.replace("takes_us = 300", "takes_us = 1300").replace("worst_us = 500\n", "")
    schedule = load(written(tmp_path, text))
    before = repr(schedule)
    with pytest.raises(ScheduleError, match="after its read deadline"):
        plan.make(schedule)
    assert repr(schedule) == before


# ---- planning --------------------------------------------------------------------------------

VALUES = (
    *("0", "-1", "1", "2", "7", "1000", "3000000", "1e300", "nan", "0.5", "true", "{}", "[]"),
    *('"x"', '"joints.x"', '"arm"', "[1, 2]", "[[1, 2], [3, 4]]", "{ x = 1 }", "{ x = [0, 1] }"),
    *('"cycle"', '"process"', '"velocity"', '"effort"', '"switch"', '["FRESH"]'),
)
LINES = (
    *("zzz = 3", "priority = 3", "cpu = 1", "every = 3", "latency_cycles = 2", "trigger_us = 0"),
    *("sign = [1]", "zero = { x = [1, 2] }", "rate = { y = 1 }", "jerk = 100.0", "effort = 3.0"),
    *("max_hold_ms = 5", "history = 3", 'home = "process"', 'feedback_velocity = "joints.x"'),
    '[estop.stop]\nsample = "joints.x"\nlow = 0',
    '[estop.line]\nline = { chip = "/dev/gpiochip0", line = 3 }',
    '[policy]\nmodel = "none.onnx"\ninputs = { a = ["joints.x"] }\noutputs = { b = "arm" }',
    '[policy]\ncall = "nothing.py:Policy"\nlatency_cycles = 90000\nhistory = 3',
    "[timing]\nsensors.joints.latency_ms = -1",
    '[actuator.other]\ndevice = "wrist"',
)
BASES = (ROBOT, MORE.replace("camera:Camera", "x:Y"), (ROOT / "schedules/rig.toml").read_text())


@st.composite
def altered(draw: st.DrawFn) -> str:
    """A schedule of which some lines are left out, misspelt, of another value, or new."""
    lines = draw(st.sampled_from(BASES)).splitlines()
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[at].partition(" = ")
        how = draw(st.sampled_from(("out", "misspelt", "value", "value", "value", "new")))
        if how == "out":
            del lines[at]
        elif how == "new":
            lines.insert(at + 1, draw(st.sampled_from(LINES)))
        elif how == "misspelt":
            lines[at] = f"{key}x{equals}{lines[at].partition(' = ')[2]}" if equals else lines[at]
        elif equals:
            lines[at] = f"{key} = {draw(st.sampled_from(VALUES))}"
    return "\n".join(lines) + "\n"


@given(altered())
@example(ROBOT)
def test_planning_a_schedule_without_a_fault_never_fails(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), text)
        try:
            inspection = loader.inspect(path)
        except ScheduleError:
            return  # no TOML: two keys of one name
        valid = validation.inspect(inspection)
        if valid is not None:
            plan.of_validated(valid)
            return
        faults = faults_of(path)
    assert [fault.line for fault in faults] == sorted(fault.line for fault in faults)
    assert len({str(fault) for fault in faults}) == len(faults)


@pytest.mark.parametrize("path", sorted(PLAN.glob("*.py")), ids=lambda path: path.name)
def test_only_the_checks_of_a_plan_raise_a_schedules_error(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("error", "fault"):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and node.id in ("ScheduleError", "ScheduleFault"):
            names.add(node.id)
    assert not names or path.name in CHECKS
