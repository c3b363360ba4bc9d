"""What a schedule may hold, and what is said about one that is wrong."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.errors import InphaseError, RuntimeFault, ScheduleError
from inphase.schedule import Schedule, load, toml_position
from inphase.schedule.import_by_name import resolve_call
from peers import ROOT

GOOD = """\
name = "demo"

[cycle]
rate_hz = 500
read_deadline_us = 1200
act_us = 1600

[store]
group = "robots"
depth = 64

[gateway]
endpoint = "ipc:///tmp/inphase-demo/frames"
control = "ipc:///tmp/inphase-demo/control"

[emulator]
module = "inphase_drivers.emulator"
wire_time = true

[device.arm]
driver = "inphase_drivers.dynamixel:Servos"
port = "/tmp/inphase-demo/arm"
ids = [1, 2, 3]

[device.wrist]
driver = "inphase_drivers.ati:NetFT"
host = "127.0.0.1"

[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 10
sign = [1, 1, -1]
zero = { position = [0, 0, 0] }
range = { position = [-3.2, 3.2] }
rate = { position = 20.0 }

[sensor.wrench]
device = "wrist"
trigger_us = 100
max_age_ms = 2.5

[actuator.arm]
device = "arm"
feedback = "joints.position"

[actuator.arm.limits]
position = [[-2.6, 2.6], [-1.8, 1.8], [-2, 2]]
velocity = 2.0
acceleration = 20.0
step = 0.2

[policy]
call = "demo_policy.py:Wave"
args = { gain = 0.5 }
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "robot.toml"
        path.write_text(text)
        return path

    return write


def test_a_good_schedule_is_read(write: Write) -> None:
    path = write(GOOD)
    schedule = load(path)
    assert (schedule.name, schedule.path, schedule.text) == ("demo", path, GOOD)
    assert schedule.hash == hashlib.sha256(GOOD.encode()).hexdigest()[:16]
    assert schedule.cycle.period_ns == 2_000_000
    assert (schedule.cycle.read_deadline_ns, schedule.cycle.act_ns) == (1_200_000, 1_600_000)
    assert (schedule.cycle.realtime, schedule.cycle.priority) == ("require", 80)
    assert schedule.device["arm"].options == {"port": "/tmp/inphase-demo/arm", "ids": [1, 2, 3]}
    assert schedule.emulator is not None
    assert schedule.emulator.options == {"wire_time": True}
    assert schedule.sensor["wrench"].trigger_ns == 100_000
    assert schedule.sensor["wrench"].max_age_ns == 2_500_000
    assert schedule.actuator["arm"].max_hold_ns(schedule.cycle.period_ns) == 20_000_000
    assert schedule.policy is not None
    assert schedule.policy.args == {"gain": 0.5}


CAMERA = """\
[device.camera]
driver = "inphase_drivers.camera:Camera"
home = "process"
priority = 10
cpu = 3
exposure_us = 4000

[sensor.camera]
device = "camera"
trigger_us = 1500
trigger_line = { chip = "/dev/gpiochip0", line = 17 }
every = 16
latency_cycles = 7
max_age_ms = 70
frozen_after = 5

[device.lidar]
driver = "inphase_drivers.lidar:Lidar"

[sensor.lidar]
device = "lidar"
max_age_ms = 250

"""
"""A sensor slower than the cycle, and a free-running one."""
MORE = GOOD.replace("[actuator.arm]\n", CAMERA + "[actuator.arm]\n").replace(
    "[policy]\n", '[policy]\naccepts = { camera = ["FRESH", "HELD"] }\n'
)


def test_a_slow_sensor_says_its_home_its_rate_and_its_latency(write: Write) -> None:
    schedule = load(write(MORE))
    device, sensor = schedule.device["camera"], schedule.sensor["camera"]
    assert (device.home, device.priority, device.cpu) == ("process", 10, 3)
    assert device.options == {"exposure_us": 4000}
    assert (sensor.free_running, sensor.trigger_ns, sensor.every) == (False, 1_500_000, 16)
    assert sensor.latency_cycles == 7
    assert sensor.deadline_ns(schedule.cycle) == 7 * 2_000_000 + 1_200_000
    assert sensor.frozen_after == 5
    assert sensor.trigger_line is not None
    assert (sensor.trigger_line.chip, sensor.trigger_line.line) == ("/dev/gpiochip0", 17)
    assert schedule.policy is not None
    assert schedule.policy.accepts == {"camera": ("FRESH", "HELD")}


def test_what_is_left_out_is_decided_by_the_plan_or_once_per_cycle(write: Write) -> None:
    schedule = load(write(MORE))
    lidar, joints = schedule.sensor["lidar"], schedule.sensor["joints"]
    assert (lidar.free_running, lidar.trigger_us, lidar.trigger_ns) == (True, None, 0)
    assert (joints.free_running, joints.every, joints.latency_cycles) == (False, 1, 0)
    assert (joints.frozen_after, joints.trigger_line) == (None, None)
    arm = schedule.device["arm"]
    assert (arm.home, arm.priority, arm.cpu) == (None, 0, None)
    assert schedule.actuator["arm"].accepts == ("FRESH", "HELD", "LATE")


def test_the_keys_of_the_sensors_page_are_taken(write: Write) -> None:
    page = (ROOT / "middleware" / "SENSORS.md").read_text()
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    head, arm, policy = re.split(r"\[actuator\.arm\]\n|\[policy\]\n", example[1])
    text = GOOD.replace("[actuator.arm]\n", f"{head}[actuator.arm]\n{arm}", 1)
    schedule = load(write(text.replace("[policy]\n", f"[policy]\n{policy}", 1)))
    assert (schedule.sensor["camera"].every, schedule.device["camera"].home) == (16, "process")
    assert schedule.actuator["arm"].accepts == ("FRESH", "HELD")


@given(st.integers(1, 40), st.integers(0, 40))
def test_a_sample_is_due_before_the_next_trigger_or_the_schedule_is_refused(
    every: int, latency: int
) -> None:
    text = MORE.replace("every = 16", f"every = {every}").replace(
        "max_age_ms = 70", "max_age_ms = 999"
    )
    text = text.replace("latency_cycles = 7", f"latency_cycles = {latency}")
    text = text.replace("trigger_us = 1500", "trigger_us = 0")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "robot.toml"
        path.write_text(text)
        if latency >= every:
            with pytest.raises(ScheduleError, match=r"latency_cycles: .* is not below every"):
                load(path)
            return
        schedule = load(path)
    sensor, period_ns = schedule.sensor["camera"], schedule.cycle.period_ns
    assert sensor.trigger_ns < sensor.deadline_ns(schedule.cycle)
    assert sensor.deadline_ns(schedule.cycle) < every * period_ns + sensor.trigger_ns


def test_an_actuator_may_name_recovering(write: Write) -> None:
    text = GOOD.replace("[actuator.arm]\n", '[actuator.arm]\naccepts = ["FRESH", "RECOVERING"]\n')
    assert load(write(text)).actuator["arm"].accepts == ("FRESH", "RECOVERING")


def test_optional_tables_may_be_left_out(write: Write) -> None:
    text = re.sub(r"\[(store|gateway|emulator|policy)\]\n(.+\n)+", "", GOOD)
    schedule = load(write(text))
    assert (schedule.gateway, schedule.emulator, schedule.policy) == (None, None, None)
    assert (schedule.store.group, schedule.store.depth) == (None, None)


def test_the_period_may_be_given_in_microseconds(write: Write) -> None:
    schedule = load(write(GOOD.replace("rate_hz = 500", "period_us = 1999.9")))
    assert schedule.cycle.period_ns == 1_999_900


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:5555", "tcp://[::1]:5555", "tcp://localhost:1", "ipc:///robot"]
)
def test_loopback_addresses_are_taken(write: Write, address: str) -> None:
    schedule = load(write(GOOD.replace("ipc:///tmp/inphase-demo/frames", address)))
    assert schedule.gateway is not None
    assert schedule.gateway.endpoint == address


@dataclass(frozen=True)
class Bad:
    """One wrong schedule: what is replaced in GOOD, the key that is named, words of the error."""

    old: str
    new: str
    key: str
    words: tuple[str, ...]
    at: str = ""  # text that the named line holds; by default the first line of `new`
    good: str = GOOD


BAD = {
    "a world without a model": Bad(
        "[policy]",
        "[world]\nstep_us = 500\n[policy]",
        "world.model",
        ("model is missing from [world]", "an MJCF file"),
        "[world]",
    ),
    "an abstract name": Bad(
        'endpoint = "ipc:///tmp/inphase-demo/frames"',
        'endpoint = "ipc://@robot"',
        "gateway.endpoint",
        ("abstract name", "ipc://@robot", "every user", "ipc:///tmp/"),
    ),
    "unknown key at the top": Bad("[cycle]", "speed = 3\n[cycle]", "speed", ("unknown", "3")),
    "unknown table": Bad("[store]", "[stor]", "stor", ("unknown key stor", "store")),
    "unknown key in cycle": Bad(
        "act_us = 1600", "act_us = 1600\nacts = 7", "cycle.acts", ("unknown", "7"), "acts"
    ),
    "unknown key in a sensor": Bad(
        "sign = [", "sing = [", "sensor.joints.sing", ("unknown", "[1, 1, -1]", "sign")
    ),
    "unknown key in limits": Bad(
        "step = 0.2", "step = 0.2\nsnap = 9", "actuator.arm.limits.snap", ("9", "step"), "snap"
    ),
    "missing cycle key": Bad(
        "act_us = 1600\n", "", "cycle.act_us", ("act_us is missing from [cycle]",), "[cycle]"
    ),
    "missing driver": Bad(
        'driver = "inphase_drivers.ati:NetFT"\n',
        "",
        "device.wrist.driver",
        ("driver is missing", "module:Class"),
        "[device.wrist]",
    ),
    "missing limits": Bad(
        GOOD[GOOD.index("[actuator.arm.limits]") : GOOD.index("[policy]")],
        "",
        "actuator.arm.limits",
        ("no limits, no motion", "velocity"),
        "[actuator.arm]",
    ),
    "missing velocity limit": Bad(
        "velocity = 2.0\n",
        "",
        "actuator.arm.limits.velocity",
        ("no limits, no motion", "rad/s"),
        "[actuator.arm.limits]",
    ),
    "wrong type": Bad(
        "trigger_us = 100",
        'trigger_us = "x"',
        "sensor.wrench.trigger_us",
        ("expected `int`, got 'x'",),
    ),
    "table where a number belongs": Bad(
        "velocity = 2.0", "velocity = {a = 1}", "actuator.arm.limits.velocity", ("{'a': 1}",)
    ),
    "number where a table belongs": Bad(
        "[store]\n", "device.extra = 5\n[store]\n", "cycle.device", ("unknown", "{'extra': 5}")
    ),
    "device that is a number": Bad(
        "[cycle]", "device.x = 5\n[cycle]", "device.x", ("expected `table`, got 5",)
    ),
    "element of a wrong type": Bad(
        "range = { position = [-3.2, 3.2] }",
        "range = { speed = [\n-3.2,\n'fast'] }",
        "sensor.joints.range.speed[1]",
        ("'fast'", "[lo, hi]"),
        "'fast'",
    ),
    "sign that is not 1": Bad("1, -1]", "1, -2]", "sensor.joints.sign[2]", ("-2", "1 or -1")),
    "bad name": Bad('"demo"', '"De mo"', "name", ("'De mo'", "lower-case")),
    "bad device name": Bad("[device.wrist]", "[device.Wrist]", "device.Wrist", ("'Wrist'",)),
    "rate and period": Bad(
        "rate_hz = 500", "rate_hz = 500\nperiod_us = 2000", "cycle", ("500", "2000"), "[cycle]"
    ),
    "neither rate nor period": Bad("rate_hz = 500\n", "", "cycle", ("exactly one",), "[cycle]"),
    "rate of another form": Bad(
        "= 500",
        "= '30000:1001'",
        "cycle.rate_hz",
        ("not in the form that this key takes, got '30000:1001'", '"30000/1001"'),
        "rate_hz",
    ),
    "period too long": Bad("= 500", "= 0.5", "cycle.rate_hz", ("2000000000 ns", "0.5")),
    "period too short": Bad("= 500", "= 20_000", "cycle.rate_hz", ("50000 ns", "give 1 to 10000")),
    "rate not finite": Bad("= 500", "= inf", "cycle.rate_hz", ("not finite", "inf")),
    "priority too high": Bad(
        "act_us = 1600", "act_us = 1600\npriority = 99", "cycle.priority", ("99", "98"), "priority"
    ),
    "realtime of another kind": Bad(
        "[store]\n", 'realtime = "no"\n[store]\n', "cycle.realtime", ("got 'no'", '"prefer"')
    ),
    "trigger after the read deadline": Bad(
        "trigger_us = 100", "trigger_us = 1200", "sensor.wrench.trigger_us", ("1200 us", "before")
    ),
    "trigger below zero": Bad(
        "trigger_us = 100", "trigger_us = -1", "sensor.wrench.trigger_us", ("-1", ">= 0")
    ),
    "read deadline after act": Bad(
        "read_deadline_us = 1200",
        "read_deadline_us = 1700",
        "cycle.read_deadline_us",
        ("1700 us", "act_us = 1600"),
    ),
    "act after the period": Bad(
        "act_us = 1600", "act_us = 2000", "cycle.act_us", ("2000 us", "period of 2000 us")
    ),
    "depth not a power of two": Bad("= 64", "= 60", "store.depth", ("60", "power of two")),
    "depth too small": Bad("= 64", "= 4", "store.depth", ("got 4", "8")),
    "endpoint on every interface": Bad(
        "ipc:///tmp/inphase-demo/frames",
        "tcp://*:5555",
        "gateway.endpoint",
        ("tcp://*:5555", "can be reached from elsewhere: that needs keys; add keys ="),
    ),
    "control on another host": Bad(
        "ipc:///tmp/inphase-demo/control", "tcp://10.0.0.1:1", "gateway.control", ("have no keys",)
    ),
    "requests over TCP beside keys": Bad(
        'control = "ipc:///tmp/inphase-demo/control"',
        'control = "tcp://127.0.0.1:5556"\nkeys = "keys"',
        "gateway.control",
        ("every user of this machine", "use ipc:///path"),
    ),
    "keys and a name in place of an address": Bad(
        'endpoint = "ipc:///tmp/inphase-demo/frames"',
        'endpoint = "tcp://robot:5555"\nkeys = "keys"',
        "gateway.endpoint",
        ("'tcp://robot:5555'", "tcp://0.0.0.0:5555"),
    ),
    "endpoint without a port": Bad(
        "ipc:///tmp/inphase-demo/frames", "tcp://127.0.0.1", "gateway.endpoint", ("127.0.0.1",)
    ),
    "endpoint of another kind": Bad(
        "ipc:///tmp/inphase-demo/frames", "udp://a", "gateway.endpoint", ("'udp://a'", "ipc://")
    ),
    "endpoint and control alike": Bad(
        "ipc:///tmp/inphase-demo/control",
        "ipc:///tmp/inphase-demo/frames",
        "gateway.control",
        ("same address",),
        "control =",
    ),
    "driver that is no call": Bad(
        "inphase_drivers.ati:NetFT", "ati/netft", "device.wrist.driver", ("'ati/netft'", "module:")
    ),
    "policy that is no call": Bad(
        "demo_policy.py:Wave", "demo_policy.py", "policy.call", ("'demo_policy.py'", "file.py:name")
    ),
    "policy above the cycle": Bad(
        "[policy]", "[policy]\npriority = 80", "policy.priority", ("80", "below"), "priority"
    ),
    "emulator that is no module": Bad(
        "inphase_drivers.emulator", "a b", "emulator.module", ("'a b'", "module")
    ),
    "device that does not exist": Bad(
        'device = "wrist"', 'device = "hand"', "sensor.wrench.device", ("'hand'", "arm, wrist")
    ),
    "two sensors on one device": Bad(
        'device = "wrist"', 'device = "arm" ', "sensor.wrench.device", ("'arm'", "'joints'")
    ),
    "two actuators on one device": Bad(
        "[policy]",
        "[actuator.other]\ndevice = 'arm'\n"
        "limits = {position = [0, 1], velocity = 1, acceleration = 1, step = 1}\n[policy]",
        "actuator.other.device",
        ("'arm'", "one actuator"),
        "device = 'arm'",
    ),
    "two devices on one port": Bad(
        'host = "127.0.0.1"',
        'port = "/tmp/../tmp/inphase-demo/arm"',
        "device.wrist.port",
        ("'/tmp/../tmp/inphase-demo/arm'", "'arm'"),
    ),
    "two devices on one host": Bad(
        "[sensor.joints]",
        '[device.other]\ndriver = "a:B"\nhost = "127.0.0.1"\n[sensor.joints]',
        "device.other.host",
        ("'127.0.0.1'", "'wrist'"),
        'host = "127.0.0.1"',
    ),
    "feedback of no sensor": Bad(
        "joints.position", "knees.position", "actuator.arm.feedback", ("'knees.position'", "wrench")
    ),
    "feedback without a field": Bad(
        "joints.position", "joints", "actuator.arm.feedback", ("'joints'", "sensor.field"), "feed"
    ),
    "range upside down": Bad(
        "[-3.2, 3.2]", "[3.2, -3.2]", "sensor.joints.range.position", ("[3.2, -3.2]", "below")
    ),
    "range that is no pair": Bad(
        "[-3.2, 3.2]", "[-3.2, 0, 3.2]", "sensor.joints.range.position", ("[-3.2, 0.0, 3.2]",)
    ),
    "empty range": Bad("[-3.2, 3.2]", "[]", "sensor.joints.range.position", ("[]", "[lo, hi]")),
    "rate below zero": Bad("= 20.0 }", "= -20.0 }", "sensor.joints.rate.position", ("-20.0",)),
    "position limit upside down": Bad(
        "[-1.8, 1.8]", "[1.8, 1.8]", "actuator.arm.limits.position", ("[1.8, 1.8]",)
    ),
    "limit not finite": Bad(
        "velocity = 2.0", "velocity = nan", "actuator.arm.limits.velocity", ("nan", "finite")
    ),
    "limit not above zero": Bad("step = 0.2", "step = 0", "actuator.arm.limits.step", ("got 0.0",)),
    "limits of unequal length": Bad(
        "step = 0.2",
        "step = [0.2, 0.2]",
        "actuator.arm.limits",
        ("'position': 3", "'step': 2"),
        "[actuator.arm.limits]",
    ),
    "ramp too long": Bad(
        "acceleration = 20.0",
        "acceleration = 1.0",
        "actuator.arm.limits.acceleration",
        ("2 s", "1.2 s"),
    ),
    "hold too long": Bad(
        'feedback = "joints.position"',
        "max_hold_ms = 21",
        "actuator.arm.max_hold_ms",
        ("21.0 ms", "20"),
    ),
    "mode of another version": Bad(
        'feedback = "joints.position"', 'mode = "torque"', "actuator.arm.mode", ("'torque'",)
    ),
}


CAMERA_RUNS = """\
every = 16
latency_cycles = 7
"""
BAD_MORE = {
    "home that is none": Bad(
        'home = "process"',
        'home = "cloud"',
        "device.camera.home",
        ("'cloud'", '"thread"'),
    ),
    "device above the cycle": Bad(
        "priority = 10",
        "priority = 80",
        "device.camera.priority",
        ("80", "below the cycle's 80"),
    ),
    "device of priority 99": Bad(
        "priority = 10",
        "priority = 99",
        "device.camera.priority",
        ("99", "0 to 98"),
    ),
    "cpu below zero": Bad("cpu = 3", "cpu = -3", "device.camera.cpu", ("-3",)),
    "priority of the cycle's own": Bad(
        'home = "process"\npriority = 10',
        'priority = 10\nhome = "cycle"',
        "device.camera.priority",
        ("10", "worker", "'cycle'"),
    ),
    "cpu of a user's thread": Bad(
        '"process"\npriority = 10\ncpu = 3',
        '"thread"\ncpu = 3',
        "device.camera.cpu",
        ("3 is", "worker", "user's own process"),
        "cpu = 3",
    ),
    "sensor that is due after its next trigger": Bad(
        "latency_cycles = 7",
        "latency_cycles = 16",
        "sensor.camera.latency_cycles",
        ("16 is not below every = 16", "next trigger", "most 15"),
    ),
    "latency of a sensor in every cycle": Bad(
        CAMERA_RUNS,
        "latency_cycles = 1\n",
        "sensor.camera.latency_cycles",
        ("1 is not below every = 1", "every = 2"),
    ),
    "latency below zero": Bad(
        "latency_cycles = 7",
        "latency_cycles = -1",
        "sensor.camera.latency_cycles",
        ("-1", "0 or more"),
    ),
    "every that is none": Bad("every = 16", "every = 0", "sensor.camera.every", ("got 0", "1 or")),
    "trigger outside of the period": Bad(
        "trigger_us = 1500",
        "trigger_us = 2000",
        "sensor.camera.trigger_us",
        ("2000 us", "period of 2000 us"),
    ),
    "trigger after the deadline of its cycle": Bad(
        CAMERA_RUNS,
        "every = 16\n",
        "sensor.camera.trigger_us",
        ("1500 us", "read_deadline_us = 1200"),
        "trigger_us = 1500",
    ),
    "age that its own rate exceeds": Bad(
        "max_age_ms = 70",
        "max_age_ms = 40",
        "sensor.camera.max_age_ms",
        ("40 ms", "44 ms", "MISSING"),
    ),
    "frozen at the first sample": Bad(
        "frozen_after = 5",
        "frozen_after = 1",
        "sensor.camera.frozen_after",
        ("got 1", "2 or more"),
    ),
    "a burst of nothing": Bad(
        "frozen_after = 5", "burst = 0", "sensor.camera.burst", ("got 0", "1 to 64")
    ),
    "line without a chip": Bad(
        'chip = "/dev/gpiochip0", ',
        "",
        "sensor.camera.trigger_line.chip",
        ("chip is missing",),
        "trigger_line",
    ),
    "line of another kind": Bad(
        "line = 17",
        "pin = 17",
        "sensor.camera.trigger_line.pin",
        ("unknown key pin", "chip, line"),
    ),
    "chip that is no file": Bad(
        "/dev/gpiochip0",
        "gpiochip0",
        "sensor.camera.trigger_line.chip",
        ("'gpiochip0'", "/dev/gpiochip0"),
    ),
    "one line for two": Bad(
        "trigger_us = 100",
        'trigger_us = 100\ntrigger_line = { chip = "/dev/../dev/gpiochip0", line = 17 }',
        "sensor.camera.trigger_line",
        ("17", "'wrench'", "its own line"),
        "trigger_line",
    ),
    "free-running sensor with every": Bad(
        "max_age_ms = 250",
        "every = 3\nmax_age_ms = 250",
        "sensor.lidar.every",
        ("3 belongs to a trigger", "free-running", "add trigger_us"),
    ),
    "free-running sensor with a latency": Bad(
        "max_age_ms = 250",
        "latency_cycles = 3\nmax_age_ms = 250",
        "sensor.lidar.latency_cycles",
        ("3 belongs to a trigger",),
    ),
    "free-running sensor with a line": Bad(
        "max_age_ms = 250",
        'trigger_line = { chip = "/dev/gpiochip0", line = 0 }\nmax_age_ms = 250',
        "sensor.lidar.trigger_line",
        ("0 belongs to a trigger",),
    ),
    "actuator that accepts what is gone": Bad(
        'feedback = "joints.position"',
        'accepts = ["FRESH", "OFFLINE"]\nfeedback = "joints.position"',
        "actuator.arm.accepts[1]",
        ("OFFLINE", "no basis for motion", "RECOVERING"),
    ),
    "actuator that accepts another word": Bad(
        'feedback = "joints.position"',
        'accepts = ["FRESH", "GOOD"]\nfeedback = "joints.position"',
        "actuator.arm.accepts[1]",
        ("'GOOD'", "list of statuses"),
    ),
    "actuator that accepts nothing": Bad(
        'feedback = "joints.position"',
        'accepts = []\nfeedback = "joints.position"',
        "actuator.arm.accepts",
        ("FRESH", "[]"),
    ),
    "status named twice": Bad(
        'feedback = "joints.position"',
        'accepts = ["FRESH", "HELD", "HELD"]\nfeedback = "joints.position"',
        "actuator.arm.accepts",
        ("twice", "'HELD', 'HELD'"),
    ),
    "blind actuator that accepts": Bad(
        'feedback = "joints.position"',
        'accepts = ["FRESH"]',
        "actuator.arm.accepts",
        ("['FRESH']", "feedback"),
    ),
    "policy that accepts of no sensor": Bad(
        "{ camera = [",
        "{ eyes = [",
        "policy.accepts.eyes",
        ("'eyes'", "joints, wrench, camera, lidar"),
    ),
    "policy that accepts another word": Bad(
        '"FRESH", "HELD"',
        '"FRESH", "OLD"',
        "policy.accepts.camera[1]",
        ("'OLD'", "list of statuses"),
    ),
    "policy that does not accept fresh": Bad(
        '"FRESH", "HELD"',
        '"HELD"',
        "policy.accepts.camera",
        ("['HELD']", "FRESH"),
    ),
}
BAD |= {name: replace(case, good=MORE) for name, case in BAD_MORE.items()}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_a_wrong_schedule_is_refused_with_file_line_key_and_value(write: Write, case: Bad) -> None:
    assert case.old in case.good
    text = case.good.replace(case.old, case.new, 1)
    path = write(text)
    with pytest.raises(ScheduleError) as caught:
        load(path)
    message = str(caught.value)
    found = re.fullmatch(re.escape(str(path)) + r":(\d+): (\S+): (.*; .*)", message)
    assert found, message
    assert found[2] == case.key
    assert (case.at or case.new.splitlines()[0]).strip() in text.splitlines()[int(found[1]) - 1], (
        message
    )
    for word in case.words:
        assert word in found[3]
    assert caught.value.exit_code == 2


def test_a_schedule_without_a_name_is_refused_at_its_first_line(write: Write) -> None:
    path = write(GOOD.replace('name = "demo"\n', ""))
    with pytest.raises(ScheduleError, match=f"{path}:1: name: the key name is missing from the"):
        load(path)


def test_a_schedule_without_sensors_is_refused(write: Write) -> None:
    head = GOOD[: GOOD.index("[sensor.joints]")]
    with pytest.raises(ScheduleError, match=r"robot\.toml:1: sensor: no sensor"):
        load(write(head))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name = 'a'\ncycle = = 3", ":2:9: "),
        ("name = 'a'\nlist = [1,\n", ":3:1: "),
        ("a = 1\na = 2\n", ":2:6: "),
        ("a = " + "[" * 20_000, ":1:"),
    ],
)
def test_broken_toml_is_refused_with_line_and_column(write: Write, text: str, place: str) -> None:
    path = write(text)
    with pytest.raises(ScheduleError, match=re.escape(f"{path}{place}")):
        load(path)


def test_bytes_that_are_not_utf8_are_refused_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    path.write_bytes(b"name = 'a'\nx = '\xff'\n")
    with pytest.raises(ScheduleError, match=r":2:6: .*0xff"):
        load(path)


def test_a_file_that_is_absent_or_huge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"none\.toml: schedule: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ScheduleError, match="directory"):
        load(tmp_path)
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ScheduleError, match="larger than 1000000 bytes"):
        load(huge)


def test_two_names_of_one_terminal_are_one_port(write: Write, tmp_path: Path) -> None:
    (tmp_path / "tty").touch()
    (tmp_path / "alias").symlink_to(tmp_path / "tty")
    text = GOOD.replace("/tmp/inphase-demo/arm", str(tmp_path / "tty"))
    text = text.replace('host = "127.0.0.1"', f'port = "{tmp_path}/alias"')
    with pytest.raises(ScheduleError, match=r"device\.wrist\.port: .*alias.*'arm'"):
        load(write(text))


@pytest.fixture
def schedule(write: Write) -> Schedule:
    return load(write(GOOD))


def test_numbers_and_pairs_are_spread_over_the_channels(schedule: Schedule) -> None:
    limits = schedule.actuator["arm"].limits
    assert schedule.numbers("actuator.arm.limits.velocity", limits.velocity, 3) == [2.0] * 3
    assert schedule.pairs("actuator.arm.limits.position", limits.position, 3)[2] == (-2.0, 2.0)
    span = schedule.sensor["joints"].range["position"]
    assert schedule.pairs("sensor.joints.range.position", span, 2) == [(-3.2, 3.2)] * 2


def test_a_wrong_number_of_channels_is_named_with_its_line(schedule: Schedule) -> None:
    with pytest.raises(ScheduleError, match=r":48: actuator\.arm\.limits\.position: 6 pairs .* 3"):
        schedule.pairs("actuator.arm.limits.position", schedule.actuator["arm"].limits.position, 6)
    with pytest.raises(ScheduleError, match=r":34: sensor\.joints\.zero\.position: 6 values .* 3"):
        schedule.numbers("sensor.joints.zero.position", [0.0, 0.0, 0.0], 6)


def test_a_key_that_is_missing_is_placed_at_its_table(schedule: Schedule) -> None:
    line = GOOD[: GOOD.index("[device.wrist]")].count("\n") + 1
    error = schedule.error("device.wrist.calibration.gain", "is missing; add it")
    assert str(error).endswith(f":{line}: device.wrist.calibration.gain: is missing; add it")


def test_each_kind_of_error_has_its_exit_code() -> None:
    codes = {kind.__name__: kind.exit_code for kind in InphaseError.__subclasses__()}
    assert codes == {
        "ScheduleError": 2,
        "DeviceError": 3,
        "RealtimeError": 4,
        "StoreError": 5,
        "RuntimeFault": 6,
        "WireError": 9,
        "WorldError": 10,
        "RecordingError": 12,
        "ViewError": 14,
        "ServiceError": 15,
        "AccessError": 16,
    }
    assert issubclass(RuntimeFault, InphaseError)


# ---------------------------------------------------------------- calls


def test_a_call_names_a_file_beside_the_schedule_or_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("class Wave:\n    gain = 3\n")
    assert resolve_call("json.py:Wave.gain", tmp_path) == 3
    assert resolve_call("json:dumps", tmp_path) is json.dumps


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("absent.py:Wave", "absent.py: no such file"),
        ("broken.py:Wave", "broken.py: cannot be imported: ZeroDivisionError: .*, line 2"),
        ("syntax.py:Wave", "syntax.py: cannot be imported: SyntaxError"),
        ("leaves.py:Wave", "leaves.py: cannot be imported: SystemExit: 3"),
        ("whole.py:Wave", "whole.py: has no attribute 'Wave'"),
        ("no_such_module_here:Wave", "module no_such_module_here: .*ModuleNotFoundError"),
        ("json:Wave", "module json: has no attribute 'Wave'"),
        ("json", "not a call"),
    ],
)
def test_a_call_that_does_not_import_is_refused(tmp_path: Path, call: str, words: str) -> None:
    (tmp_path / "broken.py").write_text("x = 1\nx / 0\n")
    (tmp_path / "syntax.py").write_text("def\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "whole.py").write_text("")
    with pytest.raises(ScheduleError, match=words):
        resolve_call(call, tmp_path)


# ---------------------------------------------------------------- the locator


@dataclass
class Writer:
    """Writes TOML and notes the line of each key as it goes."""

    lines: list[str] = field(default_factory=lambda: [""])
    places: dict[toml_position.Path, int] = field(default_factory=dict)

    def put(self, text: str) -> None:
        head, *tail = text.split("\n")
        self.lines[-1] += head
        self.lines.extend(tail)

    def note(self, path: toml_position.Path) -> None:
        self.places.setdefault(path, len(self.lines))


def key_text(key: str) -> str:
    bare = key and all(sign.isascii() and (sign.isalnum() or sign in "_-") for sign in key)
    return key if bare else json.dumps(key)


keys = st.one_of(
    st.from_regex(r"[a-z0-9_-]{1,4}", fullmatch=True),
    st.text(st.sampled_from('ab.#="[]{} \\\té'), max_size=4),
)
leaves = st.one_of(
    st.sampled_from(
        [
            "1",
            "-2.5e3",
            "nan",
            "true",
            "1979-05-27 07:32:00Z",
            '"a # b = [ { \\" \\\\"',
            "'c:\\'",
            "''",
            '"""\n[x]\na = "1" \\"""\n\n# no"""',
            '"""two quotes"""""',
            "'''\n] } \\''''",
        ]
    ),
    st.integers().map(str),
)
blanks = st.sampled_from(["", " ", "\n", " # [no]\n", "\n\n\t"])
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(st.tuples(blanks, inner), max_size=3), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)
tables = st.dictionaries(keys, values, max_size=4)
documents = st.tuples(
    tables,
    st.dictionaries(
        keys.map(lambda key: f"T{key}"),
        st.one_of(
            st.tuples(tables, st.dictionaries(keys.map(lambda key: f"S{key}"), tables, max_size=2)),
            st.lists(tables, min_size=1, max_size=3),
        ),
        max_size=3,
    ),
    blanks,
)


def put_value(writer: Writer, path: toml_position.Path, value: object) -> None:
    if isinstance(value, str):
        writer.put(value)
    elif isinstance(value, list):
        writer.put("[")
        for index, (blank, item) in enumerate(value):
            writer.put(blank)
            writer.note((*path, index))
            put_value(writer, (*path, index), item)
            writer.put(f"{blank},")
        writer.put("]")
    elif isinstance(value, dict):
        writer.put("{")
        for index, (key, item) in enumerate(value.items()):
            writer.put(", " if index else " ")
            writer.note((*path, key))
            writer.put(f"{key_text(key)} = ")
            put_value(writer, (*path, key), item)
        writer.put("}")


def put_table(
    writer: Writer, path: toml_position.Path, table: dict[str, object], blank: str
) -> None:
    for key, value in table.items():
        writer.note((*path, key))
        writer.put(f"{key_text(key)} = ")
        put_value(writer, (*path, key), value)
        writer.put(f" # {key_text(key)}\n{blank}\n")


@given(documents)
def test_the_line_found_for_each_key_is_the_one_it_was_written_on(
    document: tuple[dict[str, object], dict[str, object], str],
) -> None:
    top, sections, blank = document
    writer = Writer()
    put_table(writer, (), top, blank)
    for name, section in sections.items():
        if isinstance(section, tuple):
            own, inner = section
            for key, table in inner.items():  # the sub-tables first: the header comes later
                writer.note((name, key))
                writer.put(f"[{key_text(name)} . {key_text(key)}]\n")
                put_table(writer, (name, key), table, blank)
            writer.places[(name,)] = len(writer.lines)
            writer.put(f"[{key_text(name)}]\n")
            put_table(writer, (name,), own, blank)
        elif isinstance(section, list):
            for index, table in enumerate(section):
                writer.note((name,))
                writer.note((name, index))
                writer.put(f"[[ {key_text(name)} ]]\n")
                put_table(writer, (name, index), table, blank)
    assert toml_position.lines_of("\n".join(writer.lines)) == writer.places


@given(st.lists(st.one_of(keys, st.integers(0, 99)), max_size=4).filter(lambda it: it[:1] != [0]))
def test_a_path_is_read_as_it_was_written(steps: list[str | int]) -> None:
    assert toml_position.parse_path(toml_position.format_path(tuple(steps))) == tuple(steps)
