"""A remedy works: what a message tells a person to do is done to the very file that caused it.

The file is then without a fault, or it has another one, whose remedy ends the chain. A rule that
gives advice has a row here: `NO_ROW` has those that have none.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from inphase.command import check
from inphase.errors import ScheduleError
from inphase.schedule import document, load
from models import model, node, port, tensor
from test_limits import KEYS, ROBOT
from test_schedule import BAD, GOOD
from test_tidy import PACKAGE
from worlds import MODEL, SCHEDULE

CHAIN_MAX = 4
ROOMS = ("schedule/rules", "schedule/motion", "plan", "world/mujoco")
_PLACING = ("tables.py", "document.py")  # between a rule and its fault
Edits = dict[str, str]


@dataclass(frozen=True)
class Step:
    """Words of a message, and what they tell to do with the file."""

    advice: str
    edits: Edits


def step(advice: str, *edits: str) -> Step:
    """The same; edits: a text of the file and what stands for it, and so on."""
    return Step(advice, dict(zip(edits[::2], edits[1::2], strict=True)))


@dataclass(frozen=True)
class Row:
    """A faulty file, and the way out of it."""

    text: str
    steps: tuple[Step, ...]
    model: str = MODEL


# ---- what needs no driver: the faults of test_schedule.py ----------------------------------------

SEES = 'feedback = "joints.position"\nfeedback_velocity = "joints.velocity"'
LIMITS = GOOD[GOOD.index("[actuator.arm.limits]") : GOOD.index("[policy]")]
OF_BAD: dict[str, tuple[Step, ...]] = {
    "a world without a model": (
        step('add model = an MJCF file beside the schedule, such as "arm.xml"',
             "step_us = 500", 'step_us = 500\nmodel = "arm.xml"'),
    ),
    "an abstract name": (
        step("give a file, as in ipc:///tmp/demo/socket", "ipc://@robot", "ipc:///tmp/demo/socket"),
    ),
    "unknown key at the top": (step("remove it", "speed = 3\n", ""),),
    "unknown table": (step("store", "[stor]", "[store]"),),
    "unknown key in cycle": (step("remove it", "\nacts = 7", ""),),
    "unknown key in a sensor": (step("use one of", "sing = [", "sign = ["),),
    "unknown key in limits": (step("remove it", "\nsnap = 9", ""),),
    "missing cycle key": (
        step("add act_us = microseconds from the cycle's start, such as 1600",
             "read_deadline_us = 1200", "read_deadline_us = 1200\nact_us = 1600"),
    ),
    "missing driver": (
        step('add driver = "module:Class"', "[device.wrist]", '[device.wrist]\ndriver = "a:B"'),
    ),
    "missing limits": (
        step("add limits = a table; in position mode with position, velocity, acceleration, step",
             "[policy]", f"{LIMITS}\n[policy]"),
    ),
    "missing velocity limit": (
        step("add velocity = rad/s, one number or one per channel",
             "acceleration = 20.0", "velocity = 1\nacceleration = 20.0"),
    ),
    "wrong type": (step("such as 0", 'trigger_us = "x"', "trigger_us = 0"),),
    "table where a number belongs": (
        step("give rad/s, one number or one per channel", "velocity = {a = 1}", "velocity = 1"),
    ),
    "number where a table belongs": (step("remove it", "device.extra = 5\n", ""),),
    "device that is a number": (
        step("expected `table`, got 5; give a value of that kind",
             "= 5\n", '= { driver = "a:B" }\n'),
    ),
    "element of a wrong type": (
        step("give a table of field = [lo, hi]", "[\n-3.2,\n'fast']", "[-3.2, 3.2]"),
    ),
    "sign that is not 1": (step("give 1 or -1 for each channel", "1, -2]", "1, -1]"),),
    "bad name": (step("give lower-case letters, digits, - and _, at most 32", "De mo", "de-mo"),),
    "bad device name": (
        step("give a lower-case letter, then letters", "[device.Wrist]", "[device.wrist]"),
    ),
    "rate and period": (step("keep one", "\nperiod_us = 2000", ""),),
    "neither rate nor period": (
        step("add rate_hz = 500, or another rate", "[cycle]", "[cycle]\nrate_hz = 500"),
    ),
    "rate of another form": (
        step('a fraction such as "30000/1001"', "'30000:1001'", '"30000/1001"'),
    ),
    "period too long": (step("give 1 to 10000", "= 0.5", "= 1"),),
    "period too short": (
        step("give 1 to 10000", "= 20_000", "= 10000"),
        step("act earlier or make the period longer", "= 10000", "= 600"),
    ),
    "rate not finite": (step("give a finite number", "= inf", "= 500"),),
    "priority too high": (step("give a SCHED_FIFO priority, 1 to 98", "= 99", "= 98"),),
    "realtime of another kind": (step('give "require" or "prefer"', '"no"', '"prefer"'),),
    "trigger after the read deadline": (
        step("trigger earlier", "trigger_us = 1200", "trigger_us = 1100"),
    ),
    "trigger below zero": (step("such as 0", "trigger_us = -1", "trigger_us = 0"),),
    "read deadline after act": (
        step("move one of them", "read_deadline_us = 1700", "read_deadline_us = 1500"),
    ),
    "act after the period": (step("act earlier", "act_us = 2000", "act_us = 1900"),),
    "depth not a power of two": (step("a power of two from 8 to 65536", "= 60", "= 8"),),
    "depth too small": (step("a power of two from 8 to 65536", "= 4\n", "= 65536\n"),),
    "endpoint on every interface": (
        step("add keys = a folder of them", '"tcp://*:5555"', '"tcp://*:5555"\nkeys = "keys"'),
    ),
    "requests over TCP beside keys": (
        step("use ipc:///path", "tcp://127.0.0.1:5556", "ipc:///path"),
    ),
    "keys and a name in place of an address": (
        step("tcp://0.0.0.0:5555", "tcp://robot:5555", "tcp://0.0.0.0:5555"),
    ),
    "control on another host": (
        step("use ipc:///path or tcp://127.0.0.1:PORT", "tcp://10.0.0.1:1", "ipc:///path"),
    ),
    "endpoint without a port": (
        step("no port, got 'tcp://127.0.0.1'; give one, as in tcp://127.0.0.1:5555",
             "tcp://127.0.0.1", "tcp://127.0.0.1:5555"),
    ),
    "endpoint of another kind": (step("use ipc:///path or", "udp://a", "ipc:///path"),),
    "endpoint and control alike": (
        step("give another", 'control = "ipc:///tmp/inphase-demo/frames"',
             'control = "ipc:///tmp/inphase-demo/other"'),
    ),
    "driver that is no call": (step('give "module:Class"', "ati/netft", "module:Class"),),
    "policy that is no call": (
        step('give "file.py:name"', '"demo_policy.py"', '"demo_policy.py:name"'),
    ),
    "policy above the cycle": (step("give a lower one", "= 80", "= 79"),),
    "emulator that is no module": (step("give the name of a Python module", "a b", "a"),),
    "device that does not exist": (step("the schedule has: arm, wrist", '"hand"', '"wrist"'),),
    "two sensors on one device": (
        step("or name another device", 'device = "arm" ', 'device = "wrist"'),
    ),
    "two actuators on one device": (step("name another device", "'arm'", "'wrist'"),),
    "two devices on one port": (
        step("give each device its own", "/tmp/../tmp/inphase-demo/arm", "/tmp/other"),
    ),
    "two devices on one host": (
        step("give each device its own", 'driver = "a:B"\nhost = "127.0.0.1"',
             'driver = "a:B"\nhost = "127.0.0.2"'),
    ),
    "feedback of no sensor": (step("the schedule has: joints", "knees.", "joints."),),
    "feedback without a field": (step('give "sensor.field"', '= "joints"', '= "joints.position"'),),
    "range upside down": (step("give [lo, hi]", "[3.2, -3.2]", "[-3.2, 3.2]"),),
    "range that is no pair": (step("give [lo, hi]", "[-3.2, 0, 3.2]", "[-3.2, 3.2]"),),
    "empty range": (step("give [lo, hi]", "position = []", "position = [-3.2, 3.2]"),),
    "rate below zero": (step("give positive numbers", "-20.0", "20.0"),),
    "position limit upside down": (step("give [lo, hi]", "[1.8, 1.8]", "[-1.8, 1.8]"),),
    "limit not finite": (step("give a finite number", "nan", "1.0"),),
    "limit not above zero": (step("give positive numbers", "step = 0", "step = 0.1"),),
    "limits of unequal length": (
        step("give one entry per channel in each", "[0.2, 0.2]", "[0.2, 0.2, 0.2]"),
    ),
    "ramp too long": (step("raise acceleration", "acceleration = 1.0", "acceleration = 2.0"),),
    "hold too long": (step("give at most 20", "max_hold_ms = 21", "max_hold_ms = 20"),),
    "mode of another version": (
        step('"effort" or "switch"', '"torque"', '"effort"'),
        step("add effort = N m", "step = 0.2", "effort = 1\neffort_rate = 10"),
        step("remove acceleration", "acceleration = 20.0\n", ""),
        step('add feedback = "sensor.field" to [actuator.arm]', 'mode = "effort"',
             f'mode = "effort"\n{SEES}'),
    ),
    "home that is none": (step('give "cycle", "process"', '"cloud"', '"process"'),),
    "device above the cycle": (step("give a lower one", "= 80", "= 79"),),
    "device of priority 99": (step("0 to 98 for a policy or a device", "= 99", "= 0"),),
    "cpu below zero": (step("give the number of a core", "cpu = -3", "cpu = 3"),),
    "priority of the cycle's own": (
        step('give home = "process"', 'home = "cycle"', 'home = "process"'),
    ),
    "cpu of a user's thread": (step("remove it", "\ncpu = 3", ""),),
    "sensor that is due after its next trigger": (
        step("give at most 15, or every = 17", "latency_cycles = 16", "latency_cycles = 15"),
    ),
    "latency of a sensor in every cycle": (
        step("give every = 2 or more", "latency_cycles = 1", "latency_cycles = 1\nevery = 2"),
    ),
    "latency below zero": (step("0 or more, below every", "= -1", "= 7"),),
    "every that is none": (step("1 or more", "every = 0", "every = 8"),),
    "trigger outside of the period": (step("trigger earlier", "= 2000\n", "= 1900\n"),),
    "trigger after the deadline of its cycle": (
        step("or give latency_cycles = 1", "every = 16", "every = 16\nlatency_cycles = 1"),
    ),
    "age that its own rate exceeds": (step("give 44 or more", "= 40", "= 44"),),
    "a burst of nothing": (step("1 to 64", "burst = 0", "burst = 4"),),
    "frozen at the first sample": (step("2 or more", "frozen_after = 1", "frozen_after = 2"),),
    "line without a chip": (
        step('such as "/dev/gpiochip0"', "{ line = 17 }", '{ chip = "/dev/gpiochip0", line = 17 }'),
    ),
    "line of another kind": (step("use one of chip, line", "pin = 17", "line = 17"),),
    "chip that is no file": (step('such as "/dev/gpiochip0"', '"gpio', '"/dev/gpio'),),
    "one line for two": (
        step("give each sensor its own line", '"/dev/../dev/gpiochip0", line = 17',
             '"/dev/gpiochip0", line = 18'),
    ),
    "free-running sensor with every": (step("or remove every", "every = 3\n", ""),),
    "free-running sensor with a latency": (
        step("add trigger_us", "latency_cycles = 3", "latency_cycles = 3\ntrigger_us = 0"),
        step("or every = 4", "latency_cycles = 3", "latency_cycles = 3\nevery = 4"),
    ),
    "free-running sensor with a line": (
        step("add trigger_us", "max_age_ms = 250", "trigger_us = 0\nmax_age_ms = 250"),
    ),
    "actuator that accepts what is gone": (
        step("give some of FRESH, HELD, LATE, RECOVERING", '"OFFLINE"', '"RECOVERING"'),
    ),
    "actuator that accepts another word": (
        step('such as ["FRESH", "HELD"]', '["FRESH", "GOOD"]', '["FRESH", "HELD"]'),
    ),
    "actuator that accepts nothing": (step("add it", "accepts = []", 'accepts = ["FRESH"]'),),
    "status named twice": (step("name each once", '"HELD", "HELD"', '"HELD"'),),
    "blind actuator that accepts": (step("or remove accepts", 'accepts = ["FRESH"]\n', ""),),
    "policy that accepts of no sensor": (step("camera", "{ eyes = [", "{ camera = ["),),
    "policy that accepts another word": (step('such as ["FRESH", "HELD"]', '"OLD"', '"HELD"'),),
    "policy that does not accept fresh": (step("add it", '["HELD"]', '["HELD", "FRESH"]'),),
}  # fmt: skip


# ---- what needs drivers and a world --------------------------------------------------------------

POSITION = (
    'feedback = "joints.position"\n'
    "limits = { position = [-2.5, 2.5], velocity = 4.0, acceleration = 40.0, step = 0.5 }"
)
POLICY = 'call = "p.py:P"\n'
TIP = "max_age_ms = 20\n\n[actuator"
BOX = (
    "[actuator.limb.workspace]\nlow = [0, 0, 0]\nhigh = [2, 1, 2]\n"
    "joints = [{ axis = [0, 1, 0] }]\n"
)
BUTTON = '[estop.a]\nline = { chip = "/dev/gpiochip0", line = 1 }\n'
FORCE = '[estop.a]\nsample = "tip.force"\n'


def world(old: str, new: str, *steps: Step, model: str = MODEL) -> Row:
    """A row of the small world of worlds.py."""
    assert old in SCHEDULE, old
    return Row(SCHEDULE.replace(old, new, 1), steps, model)


def table(text: str, *steps: Step) -> Row:
    """A row with tables that are added."""
    return world("[world]", f"{text}[world]", *steps)


def policy(keys: str, *steps: Step) -> Row:
    """A row with a policy of these keys."""
    return table(f"[policy]\n{keys}", *steps)


def timing(line: str, *steps: Step) -> Row:
    """A row with a line of the timing model."""
    return world("[world.sensor.joints]", f"[timing]\n{line}\n[world.sensor.joints]", *steps)


OF_WORLD = {
    # actuators and limits
    "a flat box": table(
        BOX.replace("high = [2", "high = [0"), step("give low < high", "[0, 1, 2]", "[2, 1, 2]")
    ),
    "no axis": table(
        BOX.replace("[0, 1, 0]", "[0, 0, 0]"),
        step("give a direction, [x, y, z]", "axis = [0, 0, 0]", "axis = [0, 1, 0]"),
    ),
    "more joints than channels": table(
        BOX.replace("joints = [", "joints = [{ axis = [0, 1, 0] }, { axis = [0, 1, 0] }, "),
        step("give at most one per channel", "{ axis = [0, 1, 0] }, ", ""),
    ),
    "a switch that coasts": world(
        POSITION, 'mode = "switch"\non_miss = "coast"\nlimits = { dwell_ms = 5 }',
        step("or remove on_miss", 'on_miss = "coast"\n', ""),
        step('give mode = "position" in [actuator.limb]',
             'mode = "switch"\n', 'mode = "position"\n'),
        step("remove dwell_ms", "limits = { dwell_ms = 5 }", POSITION.split("\n")[1]),
    ),
    "a switch that fades in": world(
        POSITION, 'mode = "switch"\nhandover_ms = 100\nlimits = { dwell_ms = 5 }',
        step("remove handover_ms", "handover_ms = 100\n", ""),
        step('give mode = "position" in [actuator.limb]',
             'mode = "switch"\n', 'mode = "position"\n'),
        step("remove dwell_ms", "limits = { dwell_ms = 5 }", POSITION.split("\n")[1]),
    ),
    "a limit of another mode": world(
        "step = 0.5 }", "step = 0.5, dwell_ms = 3 }", step("remove dwell_ms", ", dwell_ms = 3", "")
    ),
    "a limit of what is not measured": world(
        "step = 0.5 }", "step = 0.5, effort = 3 }",
        step('add feedback_effort = "sensor.field" to [actuator.limb]', "[actuator.limb]",
             '[actuator.limb]\nfeedback_effort = "joints.effort"'),
        step("fields of joints are [('position', 2), ('velocity', 2)]",
             'feedback_effort = "joints.effort"\n', ""),
        step("or remove effort", ", effort = 3", ""),
    ),
    "a velocity beside nothing": world(
        'feedback = "joints.position"', 'feedback_velocity = "joints.velocity"',
        step('add feedback = "sensor.field"', "feedback_velocity",
             'feedback = "joints.position"\nfeedback_velocity'),
    ),
    "a limit of no device": world(
        "velocity = 4.0", "velocity = 1e16",
        step("give the device's own, in SI units", "1e16", "4.0"),
    ),
    "a slow effort": world(
        POSITION, 'mode = "effort"\nlimits = { effort = 4.0, effort_rate = 4.0 }',
        step("raise effort_rate", "effort_rate = 4.0", "effort_rate = 40.0"),
        step('give mode = "position" in [actuator.limb]', 'mode = "effort"', 'mode = "position"'),
        step("remove effort_rate", "limits = { effort = 4.0, effort_rate = 40.0 }", POSITION),
    ),
    "a box of velocities": world(
        POSITION,
        'mode = "velocity"\nlimits = { velocity = 4.0, acceleration = 40.0 }\n'
        "workspace = { low = [0, 0, 0], high = [1, 1, 1], joints = [{ axis = [0, 0, 1] }] }",
        step("or command positions", 'mode = "velocity"\n', 'mode = "position"\n'),
        step("add step = rad", "acceleration = 40.0 }",
             "acceleration = 40.0, step = 0.5, position = [-2, 2] }"),
    ),
    "a path of velocities": world(
        POSITION,
        'mode = "velocity"\nlimits = { velocity = 4.0, acceleration = 40.0 }\n'
        "park = { path = [[0, 0]] }",
        step("or command positions", 'mode = "velocity"\n', 'mode = "position"\n'),
        step("add step = rad", "acceleration = 40.0 }",
             "acceleration = 40.0, step = 0.5, position = [-2, 2] }"),
    ),
    "points of unequal length": world(
        POSITION, f"{POSITION}\npark = {{ path = [[0, 0], [0]] }}",
        step("a position per channel of the limits", "[0]]", "[0, 0]]"),
    ),
    "a point outside of the range": world(
        POSITION, f"{POSITION}\npark = {{ path = [[0, 3]] }}",
        step("give a position within", "[[0, 3]]", "[[0, 2]]"),
    ),
    "a point of other channels": world(
        POSITION, f"{POSITION}\npark = {{ path = [[0, 0, 0]] }}",
        step("give one per channel", "[[0, 0, 0]]", "[[0, 0]]"),
    ),
    "velocities of other channels": world(
        POSITION, f"{POSITION}\npark = {{ path = [[0, 0]], velocity = [1.0, 1.0, 1.0] }}",
        step("one per channel", "[1.0, 1.0, 1.0]", "[1.0, 1.0]"),
    ),
    "a park without velocity": world(
        POSITION, f"{POSITION}\npark = {{ path = [[0, 0]], velocity = 0.0 }}",
        step("give positive numbers", "velocity = 0.0 }", "velocity = 0.5 }"),
    ),
    "a park faster than the limits": world(
        POSITION, f"{POSITION}\npark = {{ path = [[0, 0]], velocity = 5.0 }}",
        step("give at most that", "velocity = 5.0 }", "velocity = 4.0 }"),
    ),
    "a park that takes for ever": world(
        POSITION, f"{POSITION}\npark = {{ path = [[0, 0]], velocity = 0.01 }}",
        step("give a larger velocity", "velocity = 0.01 }", "velocity = 0.5 }"),
    ),
    "brakes that no device has": world(
        POSITION, f'{POSITION}\non_stop = "brake"',
        step('give "hold"', 'on_stop = "brake"', 'on_stop = "hold"'),
    ),
    "limits of more channels": world(
        "velocity = 4.0", "velocity = [4.0, 4.0, 4.0]",
        step("give one number for all channels or one per channel",
             "[4.0, 4.0, 4.0]", "[4.0, 4.0]"),
    ),
    "a guard in a hurry": table(
        "[guard]\nmax_hold_ms = 3\n", step("give 4 or more", "max_hold_ms = 3", "max_hold_ms = 4")
    ),
    # feedback
    "feedback of another instant": world(
        POSITION.split("\n", maxsplit=1)[0],
        'feedback = "joints.position"\nfeedback_velocity = "tip.place"',
        step("name a field of the same sensor", "tip.place", "joints.velocity"),
    ),
    "feedback of other channels": world(
        "joints.position", "tip.force",
        step("fields of tip are [('place', 3), ('force', 3)]", "tip.force", "joints.position"),
    ),
    "a velocity that is none": world(
        POSITION.split("\n", maxsplit=1)[0],
        'feedback = "joints.position"\nfeedback_velocity = "joints.position"',
        step("name a field in rad/s or m/s", 'feedback_velocity = "joints.position"',
             'feedback_velocity = "joints.velocity"'),
    ),
    "an effort that is none": world(
        POSITION.split("\n", maxsplit=1)[0],
        'feedback = "joints.position"\nfeedback_effort = "joints.velocity"',
        step("name a field with the effort of the joints",
             '\nfeedback_effort = "joints.velocity"', ""),
    ),
    "a position that is none": world(
        "joints.position", "joints.velocity",
        step("name a field in rad", "joints.velocity", "joints.position"),
    ),
    # the emergency stop
    "an input of nothing": table(
        "[estop.a]\n",
        step('add sample = "sensor.field"', "[estop.a]\n", FORCE),
        step("give mask, low, high, or several", FORCE, f"{FORCE}low = 0\n"),
    ),
    "an input of two": table(
        f'{BUTTON}sample = "tip.force"\n',
        step("keep one", 'sample = "tip.force"\n', ""),
    ),
    "a chip that is no path": table(
        BUTTON.replace("/dev/", ""), step('such as "/dev/gpiochip0"', '"gpio', '"/dev/gpio')
    ),
    "one line for two inputs": table(
        f"{BUTTON}{BUTTON.replace('.a]', '.b]')}",
        step("give each its own line", "[estop.b]\nline = { chip = \"/dev/gpiochip0\", line = 1",
             "[estop.b]\nline = { chip = \"/dev/gpiochip0\", line = 2"),
    ),
    "a key of a sample": table(f"{BUTTON}low = 1\n", step("remove it", "low = 1\n", "")),
    "a key of a line": table(
        f'{FORCE}low = 1\npressed = "high"\n', step("remove it", 'pressed = "high"\n', "")
    ),
    "low above high": table(
        f"{FORCE}low = 2\nhigh = 1\n", step("give low < high", "low = 2", "low = 0")
    ),
    "never fresh": table(
        f'{FORCE}low = 1\naccepts = ["HELD"]\n', step("add it", '["HELD"]', '["HELD", "FRESH"]')
    ),
    "an input of no sensor": table(
        f"{FORCE.replace('tip', 'top')}low = 1\n",
        step("the schedule has: joints, tip", "top.force", "tip.force"),
    ),
    "an input of no channel": table(
        f"{FORCE}channel = 3\nlow = 1\n", step("('force', 3)", "channel = 3", "channel = 2")
    ),
    # the policy
    "two policies": policy(
        f'{POLICY}model = "x.onnx"\n', step("keep one", 'model = "x.onnx"\n', "")
    ),
    "no policy": policy(
        "", step('add call = "file.py:name"', "[policy]\n", f"[policy]\n{POLICY}")
    ),
    "inputs of a call": policy(
        f'{POLICY}inputs = {{ a = ["joints.position"] }}\n',
        step("remove it", 'inputs = { a = ["joints.position"] }\n', ""),
    ),
    "arguments of a remote policy": policy(
        'remote = "ipc:///tmp/x"\nargs = { a = 1 }\n', step("remove it", "args = { a = 1 }\n", "")
    ),
    "a join of single commands": policy(
        f'{POLICY}join = "freeze"\n', step("give chunk", "[policy]", "[policy]\nchunk = 2")
    ),
    "a chunk that does not divide": policy(
        f"{POLICY}chunk = 8\nevery = 4\nchunk_every = 3\n",
        step("give a divisor of it", "chunk_every = 3", "chunk_every = 2"),
    ),
    "a chunk that ends early": policy(
        f"{POLICY}chunk = 2\nevery = 4\n", step("give at least 4", "chunk = 2", "chunk = 4")
    ),
    "a blend without cycles": policy(
        f'{POLICY}chunk = 8\nevery = 4\njoin = "blend"\n',
        step("give both or neither", "[policy]", "[policy]\nblend_cycles = 2"),
    ),
    "a way without an end": policy(
        f'{POLICY}every = 4\ninterpolate = "linear"\n',
        step("give latency_cycles = 4 or more", "[policy]", "[policy]\nlatency_cycles = 4"),
    ),
    "a start of no history": policy(
        f'{POLICY}history_start = "repeat"\n',
        step("or remove it", 'history_start = "repeat"\n', ""),
    ),
    "a history of too long ago": policy(
        f"{POLICY}history = 64\nevery = 100\n", step("give at most 41", "= 64", "= 41")
    ),
    "a history of a remote policy": policy(
        'remote = "ipc:///tmp/x"\nhistory = 3\n', step("remove it", "history = 3\n", "")
    ),
    "aligned to nothing": policy(
        f'{POLICY}align = "jonts"\n',
        step("the schedule has: joints, tip", '"jonts"', '"joints"'),
    ),
    "a file that is not there": policy(
        'call = "q.py:P"\n',
        step("put it beside the schedule, or correct its name", "q.py:P", "p.py:P"),
    ),
    "too many setpoints": policy(
        f"{POLICY}latency_cycles = 60_000\n",
        step("latency_cycles / chunk_every + chunk may be 21842", "60_000", "21_841"),
    ),
    # sensors
    "a rate below zero": world(
        TIP, f"rate = {{ place = -1 }}\n{TIP}", step("give positive numbers", "= -1", "= 1")
    ),
    "the zero of no field": world(
        TIP, f"zero = {{ plaice = 1 }}\n{TIP}",
        step("those are ['place', 'force']", "plaice", "place"),
    ),
    "zeros of fewer channels": world(
        TIP, f"zero = {{ place = [1, 2] }}\n{TIP}",
        step("give one number for all channels", "[1, 2]", "1"),
    ),
    "no trigger": world(
        'device = "limb"\ntrigger_us = 0\n', 'device = "limb"\n',
        step("add trigger_us = 0", 'device = "limb"\nmax', 'device = "limb"\ntrigger_us = 0\nmax'),
    ),
    "a sample that comes too late": world(
        "latency_us = 400", "latency_us = 4000",
        step("give latency_cycles = 2 with every = 3 or more", "trigger_us = 500",
             "trigger_us = 500\nlatency_cycles = 2\nevery = 3"),
    ),
    "a key of a worker": world(
        "latency_us = 300", 'latency_us = 300\nhome = "thread"\ncpu = 1',
        step('give home = "process"', 'home = "thread"', 'home = "process"'),
    ),
    "a driver that is not installed": world(
        'driver = "simulated"\njoints', 'driver = "simulatd"\njoints',
        step("there are: apriltag, aravis, canopen, damiao",
             "simulatd", "simulated"),
    ),
    "a key that no driver has": world("joints = 2\n", "joints = 2\nfoo = 3\n",
                                      step("remove it", "foo = 3\n", "")),
    # the timing model
    "a part that there is not": timing(
        "sensors.tap.latency_ms = 1", step("the schedule has: joints, tip", "s.tap.", "s.tip.")
    ),
    "a latency without a bound": timing(
        "sensors.tip.latency_ms = { normal = [1, 0.1] }",
        step("give low and high", "[1, 0.1]", "[1, 0.1], low = 0.5, high = 2"),
    ),
    "a latency below zero": timing(
        "sensors.tip.latency_ms = -1", step("give 0 to 3.6e+06", "ms = -1", "ms = 0")
    ),
    "a long delay": timing(
        "actuators.limb.delay_ms = 500", step("give at most 120", "= 500", "= 120")
    ),
    "samples that are never in time": timing(
        "sensors.tip.latency_ms = 50",
        step("or a larger max_age_ms there", "trigger_us = 500\nmax_age_ms = 20",
             "trigger_us = 500\nmax_age_ms = 60"),
    ),
    "samples that never come": timing(
        "sensors.tip.dropout = 1.0", step("give less than 1", "= 1.0", "= 0.9")
    ),
    # the world
    "no model": world('"two.xml"', '"to.xml"',
                      step("give the path of an MJCF file", "to.xml", "two.xml")),
    "no keyframe": world('"home"', '"hme"', step("it has home", "hme", "home")),
    "a step of nothing": world(
        "step_us = 500", "step_us = 0.1", step("give step_us = 1 or more", "= 0.1", "= 100")
    ),
    "no joint": world('["one", "two"]\n[world.sensor.tip', '["one", "three"]\n[world.sensor.tip',
                      step("it has one, two", "three", "two")),
    "fewer joints": world('joints = ["one", "two"]', 'joints = ["one"]',
                          step("give as many", '["one"]', '["one", "two"]')),
    "two quantities": world(
        '{ sensor = "tip" }', '{ sensor = "tip", site_position = "tip" }',
        step("give one of joint_position", ', site_position = "tip"', ""),
    ),
    "nine numbers": world(
        '{ sensor = "tip" }', '{ site_rotation = "tip" }',
        step("give as many", "site_rotation", "site_position"),
    ),
    "no field": world("place = { sensor", "plaice = { sensor",
                      step("those are ['place', 'force']", "plaice", "place")),
    "fewer actuators": world('actuators = ["one", "two"]', 'actuators = ["one"]',
                             step("give one each", '["one"]', '["one", "two"]')),
    "one actuator for two": world(
        'actuators = ["one", "two"]', 'actuators = ["one", "one"]',
        step("give each channel an actuator of its own", '["one", "one"]', '["one", "two"]'),
    ),
    "no gain": world(
        'actuators = ["one", "two"]', 'actuators = ["one", "motor"]\nkp = [10.0, 0.0]',
        step("give kp above 0", "[10.0, 0.0]", "[100.0, 100.0]\nkd = 5.0"),
    ),
    "gains of another mode": world(
        POSITION, 'mode = "velocity"\nlimits = { velocity = 4.0, acceleration = 40.0 }',
        step("give kd here", 'actuators = ["one", "two"]', 'actuators = ["one", "two"]\nkd = 1.0'),
    ),
    "a motor for positions": world(
        'actuators = ["one", "two"]', 'actuators = ["one", "motor"]',
        step("give kp and kd here", '["one", "motor"]', '["one", "motor"]\nkp = 100.0\nkd = 5.0'),
    ),
    "the place of no actuator": world(
        "[world.actuator.limb]", "[world.actuator.limp]",
        step("the schedule has: limb", "limp", "limb"),
    ),
    "the place of no sensor": world(
        "[world.sensor.joints]", "[world.sensor.junk]",
        step("the schedule has: joints, tip", "junk", "joints"),
    ),
    "the pose of no joint": world(
        "[world.sensor.joints]", "[world.pose]\nonne = 0.3\n[world.sensor.joints]",
        step("it has one, two", "onne", "one"),
    ),
    "a start outside": world(
        "position = [-2.5, 2.5]", "position = [-0.3, 2.5]",
        step("give a position that has -0.9 in it", "[-0.3, 2.5]", "[-0.9, 2.5]"),
    ),
    "a weak actuator": Row(
        SCHEDULE,
        (step("or start elsewhere (keyframe or pose of [world])", "[world.sensor.joints]",
              "[world.pose]\none = 1.5708\ntwo = 0.0\n[world.sensor.joints]"),),
        MODEL.replace('kp="60" kv="4"', 'kp="60" kv="4" forcerange="-0.5 0.5"'),
    ),
    "no knob": world(
        "[world.sensor.joints]",
        '[randomise]\n"world.body.bll.mass" = 3\n[world.sensor.joints]',
        step("near: world.body.ball.mass", "bll", "ball"),
    ),
    "no distribution": world(
        "[world.sensor.joints]",
        '[randomise]\n"world.body.ball.mass" = {}\n[world.sensor.joints]',
        step("or one of set, scale and add", "= {}", "= { set = 3 }"),
    ),
    "a reward that is no call": world(
        "[world.sensor.joints]", '[task]\nreward = "x"\n[world.sensor.joints]',
        step('give "file.py:name"', '"x"', '"p.py:reward"'),
    ),
    "no emulator": table(
        '[emulator]\nmodule = "nope"\n',
        step("correct the name", "nope", "inphase_drivers.emulator"),
    ),
}  # fmt: skip


# ---- without a world: a network, other rates, servos -----------------------------------------

BARE = SCHEDULE[: SCHEDULE.index("[world]")]
THIRTY = BARE.replace("rate_hz = 500", "rate_hz = 30")
SERVOS = ROBOT + "".join(f"{key} = {value}\n" for key, value in KEYS.items())
QUIET = (
    '[device.q]\ndriver = "quiet:Quiet"\nport = "/dev/q"\n'
    '[sensor.q]\ndevice = "q"\nmax_age_ms = 20\n'
)
NETWORK = (
    '[policy]\nmodel = "net.onnx"\ninputs = { obs = ["joints.position", "joints.velocity"] }\n'
    'outputs = { action = "limb" }\n'
)


def changed(text: str, old: str, new: str, *steps: Step) -> Row:
    """A row of a text in which something is changed."""
    assert old in text, old
    return Row(text.replace(old, new, 1), steps)


def network(old: str, new: str, *steps: Step) -> Row:
    """A row with a network."""
    return changed(BARE + NETWORK, old, new, *steps)


OF_BARE = {
    "no inputs": network(
        '{ obs = ["joints.position", "joints.velocity"] }', "{}",
        step('a table such as { obs = ["joints.position", "joints.velocity"] }', "inputs = {}",
             'inputs = { obs = ["joints.position", "joints.velocity"] }'),
    ),
    "an input that is no field": network(
        '["joints.position",', '["joints",',
        step('give "sensor.field"', '["joints"', '["joints.position"'),
    ),
    "an input of no act": network(
        '["joints.position",', '["limb.asked",',
        step("give requested or applied", "limb.asked", "limb.applied"),
    ),
    "a tensor of no sensor": network(
        '["joints.position",', '["jonts.position",',
        step("the schedule has: joints, tip, limb", "jonts", "joints"),
    ),
    "an output that moves nothing": network(
        '"limb"', '"limp"', step("the schedule has: limb", '"limp"', '"limb"')
    ),
    "two outputs that move one": network(
        '"limb" }', '"limb", other = "limb" }', step("name it once", ', other = "limb"', "")
    ),
    "normalised is nothing": network(
        "outputs", "normalise = { ob = { mean = 1.0 } }\noutputs",
        step("those are: obs, action", "{ ob =", "{ obs ="),
    ),
    "an image that is no input": network(
        "outputs", 'images = { ob = { layout = "NCHW" } }\noutputs',
        step("those are: obs", 'images = { ob = { layout = "NCHW" } }\n', ""),
    ),
    "a state that is an input": network(
        "outputs", 'state = { obs = "next" }\noutputs',
        step("remove it from inputs or from state", 'state = { obs = "next" }\n', ""),
    ),
    "providers of C": network(
        "outputs", 'providers = ["CPUExecutionProvider"]\noutputs',
        step("or remove providers", 'providers = ["CPUExecutionProvider"]\n', ""),
    ),
    "arguments of a model": network(
        "outputs", "args = { a = 1 }\noutputs", step("remove it", "args = { a = 1 }\n", "")
    ),
    "a model elsewhere": network(
        "net.onnx", "../net.onnx", step("give its name", "../net.onnx", "net.onnx")
    ),
    "a classifier beside a function": changed(
        BARE + NETWORK,
        "[policy]",
        '[task]\nsuccess = "p.py:done"\nclassifier = { model = "net.onnx", inputs = { obs = '
        '["joints.position", "joints.velocity"] }, output = "score", threshold = 1 }\n[policy]',
        step("keep one of them", 'success = "p.py:done"\n', ""),
    ),
    # places and kinds of devices
    "no sensor": Row(
        BARE[: BARE.index("[device.limb]")],
        (step("add at least one [sensor.NAME] table", 'realtime = "prefer"\n',
              'realtime = "prefer"\n' + BARE[BARE.index("[device.tip]") : BARE.index("[sensor.j")]
              + BARE[BARE.index("[sensor.tip]") : BARE.index("[actuator.limb]")]),),
    ),
    "a stop of nothing": Row(
        BARE[: BARE.index("[actuator.limb]")] + f"{FORCE}low = 0\n",
        (step("or remove it", f"{FORCE}low = 0\n", ""),),
    ),
    "a policy at the gateway": Row(
        f'{BARE}[gateway]\nendpoint = "ipc:///tmp/a"\n[policy]\nremote = "ipc:///tmp/a"\n',
        (step("give another", 'remote = "ipc:///tmp/a"', 'remote = "ipc:///tmp/b"'),),
    ),
    "a home without an exchange": changed(
        BARE, "latency_us = 400", 'latency_us = 400\nhome = "cycle"',
        step('give "process"', '"cycle"', '"process"'),
    ),
    "an actuator without a sensor": changed(
        BARE, "[actuator.limb]",
        '[device.grip]\ndriver = "simulated"\njoints = 1\n'
        'fields = { position = { unit = "rad", shape = [1] } }\n'
        '[actuator.grip]\ndevice = "grip"\n'
        "limits = { position = [0, 1], velocity = 1, acceleration = 10, step = 1 }\n"
        "[actuator.limb]",
        step("add a [sensor.NAME] of that device", "[actuator.grip]",
             '[sensor.grip]\ndevice = "grip"\ntrigger_us = 0\nmax_age_ms = 20\n[actuator.grip]'),
    ),
    "a sensor that takes commands": changed(
        SERVOS, '[actuator.arm]\ndevice = "arm"',
        '[device.wrist]\ndriver = "netft"\nhost = "127.0.0.1"\n[actuator.arm]\ndevice = "wrist"',
        step("name one that does", '[actuator.arm]\ndevice = "wrist"',
             '[actuator.arm]\ndevice = "arm"'),
    ),
    "a device that measures nothing": changed(
        BARE, "[sensor.joints]",
        '[device.p]\ndriver = "simulated"\n[sensor.p]\ndevice = "p"\ntrigger_us = 0\n'
        "max_age_ms = 20\n[sensor.joints]",
        step("name one that has",
             '[device.p]\ndriver = "simulated"\n[sensor.p]\ndevice = "p"\ntrigger_us = 0\n'
             "max_age_ms = 20\n", ""),
    ),
    "a mode of no servo": changed(
        SERVOS, "feedback = ", 'mode = "switch"\nfeedback = ',
        step("give 'position' or 'velocity'", '"switch"', '"position"'),
    ),
    # packets that silence ends
    "a stream that silence ends": Row(
        BARE + QUIET,
        (step('give home = "process"', 'port = "/dev/q"', 'port = "/dev/q"\nhome = "process"'),),
    ),
    "a packet that a pause tears": Row(
        BARE + QUIET.replace("Quiet", "Torn").replace("port", 'home = "process"\nport'),
        (step("give it a size, or a check of its checksum", "quiet:Torn", "quiet:Quiet"),),
    ),
    # a device as the clock
    "a clock that is no device": changed(
        BARE, "rate_hz = 500", 'rate_hz = 500\nclock = "leg"',
        step("give one of ", '\nclock = "leg"', '\nclock = "limb"'),
        step("or remove clock", '\nclock = "limb"', ""),
    ),
    "a clock of another rate": Row(
        (BARE + QUIET.replace("quiet:Quiet", "inphase_drivers.examples:StreamingImu")).replace(
            "rate_hz = 500", 'rate_hz = 500\nclock = "q"'
        ),
        (step("give rate_hz = 1000", "rate_hz = 500", "rate_hz = 1000",
              "read_deadline_us = 1200\nact_us = 1500", "read_deadline_us = 920\nact_us = 960"),),
    ),
    "a burst of what is asked": changed(
        BARE, "[sensor.joints]", "[sensor.joints]\nburst = 4",
        step("remove burst", "burst = 4", ""),
    ),
    "a burst in a worker": Row(
        BARE + QUIET.replace("quiet:Quiet", "streamer:Streamer").replace(
            "port", 'home = "process"\nport'
        ) + "burst = 4\n",
        (step('give home = "cycle"', 'home = "process"', 'home = "cycle"'),),
    ),
    "ticks of no length": Row(
        BARE + QUIET.replace("Quiet", "Miscounted"),
        (step("give clock_tick_ns", "quiet:Miscounted\"", "quiet:Quiet\"\nhome = \"process\""),),
    ),
    "a silence longer than the time to read": Row(
        BARE + QUIET.replace("quiet:Quiet", "inphase_drivers.examples:ModbusGauge").replace(
            "max_age", "trigger_us = 0\nmax_age"
        ),
        (
            step("1750 us of it the silence that ends it); trigger earlier, raise the baud rate, "
                 "or move read_deadline_us", "read_deadline_us = 1200\nact_us = 1500",
                 "read_deadline_us = 6000\nact_us = 6500", "rate_hz = 500", "rate_hz = 50"),
            step("max_age_ms", "max_age_ms = 20", "max_age_ms = 60"),
        ),
    ),
    # limits
    "a limit of another quantity": changed(
        BARE, POSITION,
        'mode = "velocity"\nfeedback = "joints.velocity"\n'
        "limits = { velocity = 4.0, acceleration = 40.0, position = [-1, 1] }",
        step("or remove position", ", position = [-1, 1]", ""),
    ),
    "an effort below the safe one": Row(
        BARE.replace("joints = 2\n", "joints = 2\nsafe = 5.0\n").replace(
            POSITION, 'mode = "effort"\nlimits = { effort = 4.0, effort_rate = 40.0 }'
        ),
        (step("give 5.0 or more", "effort = 4.0", "effort = 5.0"),),
    ),
    "signs of fewer joints": changed(
        SERVOS, 'device = "arm"\ntrigger', 'device = "arm"\nsign = [1, 1]\ntrigger',
        step("3 signs expected, got 2; give one each", "[1, 1]", "[1, 1, -1]"),
    ),
    "a sign that turns nothing": changed(
        BARE, '[sensor.joints]\n', '[sensor.joints]\nsign = [1, -1]\n',
        step("remove sign", "sign = [1, -1]\n", ""),
    ),
    "gains of an effort": Row(
        SCHEDULE.replace(POSITION, 'mode = "effort"\nlimits = { effort = 4, effort_rate = 40 }')
        .replace('["one", "two"]\n', '["motor", "two"]\nkp = 3.0\n')
        .replace('joints = ["motor", "two"]\nkp = 3.0\n', 'joints = ["one", "two"]\n'),
        (step("remove kp", "kp = 3.0\n", ""),),
        MODEL.replace('<position name="two" joint="two" kp="40" kv="3" gear="2"/>',
                      '<motor name="two" joint="one"/>'),
    ),
    # times, also where the period is no round number
    "an age at 30 Hz": changed(
        THIRTY, "trigger_us = 0\nmax_age_ms = 20", "trigger_us = 0\nevery = 2\nmax_age_ms = 20",
        step("give 33.34 or more", "every = 2\nmax_age_ms = 20", "every = 2\nmax_age_ms = 33.34"),
    ),
    "a hold at 30 Hz": changed(
        THIRTY, "[actuator.limb]", "[actuator.limb]\nmax_hold_ms = 80",
        step("give at most 66.66", "= 80", "= 66.66"),
    ),
    "a guard at 30 Hz": changed(
        THIRTY, "[actuator.limb]", "[guard]\nmax_hold_ms = 60\n[actuator.limb]",
        step("give 66.67 or more", "= 60", "= 66.67"),
    ),
    "a delay at 30 Hz": changed(
        THIRTY, "[actuator.limb]", "[timing]\nactuators.limb.delay_ms = 5000\n[actuator.limb]",
        step("give at most 1999.99", "= 5000", "= 1999.99"),
    ),
    "a watchdog in a hurry": Row(
        SERVOS.replace("rate_hz = 500", "rate_hz = 60").replace(
            "ids =", "watchdog_ms = 20\nids ="
        ).replace("max_age_ms = 10", "max_age_ms = 18"),
        (step("give it 33.34 ms or more", "watchdog_ms = 20", "watchdog_ms = 40"),),
    ),
    "an age that one lost reply exceeds": changed(
        SERVOS, "max_age_ms = 10", "max_age_ms = 2", step("give 5.26 or more", "= 2\n", "= 5.26\n")
    ),
    "a slow line": changed(
        SERVOS, "ids =", "baud = 57600\nids =",
        step("raise the baud rate", "baud = 57600", "baud = 1_000_000"),
    ),
    "a command into the next trigger": changed(
        SERVOS, "act_us = 1700", "act_us = 1999", step("act earlier", "1999", "1900")
    ),
    "a free device of old samples": Row(
        BARE.replace("acquire_us = 200\nlatency_us = 400", "latency_us = 400\nrate_hz = 100")
        .replace("trigger_us = 500\nmax_age_ms = 20", "max_age_ms = 0.1"),
        (step("give 0.4 or more", "max_age_ms = 0.1", "max_age_ms = 0.4"),),
    ),
}  # fmt: skip

SERVER = """[policy]
allow = ["network"]
chunk = 2
every = 2
[policy.server]
url = "ws://127.0.0.1:8000"
[policy.server.actions]
order = [0, 1]
[policy.server.observation]
"observation/state" = { fields = ["joints.position"] }
"""
FIELDS = '{ fields = ["joints.position"] }'
PAGE = """[page]
address = "127.0.0.1:8470"
model = "two.xml"
joints = { "joints.position" = ["a", "b"] }
"""


def server(old: str, new: str, *steps: Step) -> Row:
    """A row with a policy server and a page."""
    return changed(BARE + PAGE + SERVER, old, new, *steps)


OF_SERVER = {
    "a server of another protocol": server(
        "ws://", "http://", step('such as "ws://127.0.0.1:8000"', "http://", "ws://")
    ),
    "a server without a network": server(
        'allow = ["network"]\n', "",
        step("give allow = ['network']", "chunk = 2", "allow = ['network']\nchunk = 2"),
    ),
    "a server that is sent a history": server(
        "chunk = 2", "chunk = 2\nhistory = 2", step("remove it", "\nhistory = 2", "")
    ),
    "an entry of no kind": server(
        FIELDS, '{ dtype = "float64" }',
        step("keep one, or add one", "{ dtype", '{ fields = ["joints.position"], dtype'),
    ),
    "an entry with another's key": server(
        FIELDS, '{ text = "b", scale = 2.0 }', step("remove it", ", scale = 2.0", "")
    ),
    "an entry of no field": server(
        FIELDS, '{ fields = ["joints"] }',
        step('give "sensor.field"', '["joints"]', '["joints.position"]'),
    ),
    "a key with an empty part": server(
        '"observation/state"', '"observation..state"',
        step("give it a name", "observation..state", "observation.a.state"),
    ),
    "columns that are one": server(
        "[0, 1]", "[0, 0]",
        step("give a list of columns, from 0 on, one per channel", "[0, 0]", "[0, 1]"),
    ),
    "a page without a port": server(
        ":8470", "", step("as in 127.0.0.1:8470", '"127.0.0.1"', '"127.0.0.1:8470"')
    ),
    "a page for everybody": server(
        "127.0.0.1:8470", "0.0.0.0:8470", step("use 127.0.0.1:8470", "0.0.0.0", "127.0.0.1")
    ),
    "a page at a name": server(
        "127.0.0.1:8470", "robot:8470", step("all of them: 0.0.0.0:8470", "robot", "127.0.0.1")
    ),
    "a page whose certificate has no key": server(
        'model = "two.xml"', 'model = "two.xml"\nkeys = "k"\ncertificate = "c.pem"',
        step("add key = a PEM file", '"c.pem"', '"c.pem"\nkey = "k.pem"'),
    ),
    "a page with a certificate and no keys": server(
        'model = "two.xml"', 'model = "two.xml"\ncertificate = "c.pem"\nkey = "k.pem"',
        step("add keys = a folder of them", "[page]", '[page]\nkeys = "k"'),
    ),
    "a page of no sensor": server(
        '{ "joints.', '{ "jonts.',
        step("give sensor.field, of one of: joints, tip", "jonts", "joints"),
    ),
}  # fmt: skip

OF_PLAN = {**OF_WORLD, **OF_BARE, **OF_SERVER}


# ---- applied ---------------------------------------------------------------------------------

NET = model(
    [node("MatMul", ["obs", "w"], ["action"]), node("MatMul", ["obs", "v"], ["score"])],
    [port("obs", "float32", [1, 4])],
    [port("action", "float32", [1, 2]), port("score", "float32", [1, 1])],
    [tensor("w", np.zeros((4, 2), np.float32)), tensor("v", np.zeros((4, 1), np.float32))],
)
"""a network of two joints, and a score"""


@dataclass(frozen=True)
class Folder:
    """Where the files of a row are."""

    path: Path

    def trouble(self, text: str, world: str | None) -> str:
        """What is said of a text; world: its model, None: only what needs no driver."""
        file = self.path / "robot.toml"
        file.write_text(text)
        (self.path / "two.xml").write_text(world or "")
        (self.path / "net.onnx").write_bytes(NET)
        (self.path / "p.py").write_text("def P(frame): return None\ndef reward(frame): return 0\n")
        try:
            if world is None:
                load(file)
            else:
                check.make(file)
        except ScheduleError as error:
            return str(error)
        return ""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def texts(text: str, steps: tuple[Step, ...]) -> Iterator[str]:
    """The text, and what it is after each step."""
    yield text
    for one in steps:
        for old, new in one.edits.items():
            assert old in text, f"{old!r} is not in\n{text}"
            text = text.replace(old, new)
        yield text


def faulty(name: str) -> tuple[str, tuple[Step, ...], str | None]:
    """A row's text, its steps, and its world's model."""
    if name in OF_PLAN:
        return OF_PLAN[name].text, OF_PLAN[name].steps, OF_PLAN[name].model
    return BAD[name].good.replace(BAD[name].old, BAD[name].new, 1), OF_BAD[name], None


ROWS = [*OF_BAD, *OF_PLAN]


@pytest.mark.parametrize("name", ROWS)
def test_a_remedy_that_is_applied_ends_its_fault(folder: Folder, name: str) -> None:
    text, steps, model = faulty(name)
    assert len(steps) <= CHAIN_MAX
    said: list[str] = []
    for at, changed in enumerate(texts(text, steps)):
        said.append(folder.trouble(changed, model))
        if at < len(steps):
            assert steps[at].advice in said[at], said[at]
            assert said[at] not in said[max(0, at - 1) : at], "nothing came of it"
    assert said[-1] == "", said[-1]


def test_every_fault_of_the_schedules_tests_has_a_row_and_no_name_is_twice() -> None:
    assert set(BAD) == set(OF_BAD)
    assert len(ROWS) == len(set(ROWS)) == len(OF_BAD) + len(OF_PLAN)


# ---- which rules have a row ------------------------------------------------------------------

NO_ROW: set[str] = {
    "plan/channel_limits.py: _check_rates",
    "plan/channel_limits.py: check_bounds",
    "plan/driver_rules.py: _check_looked_at",
    "plan/driver_rules.py: _check_reference",
    "plan/feasibility.py: _check_address",
    "plan/feasibility.py: _check_bus",
    "plan/feasibility.py: _check_interval",
    "schedule/rules/classifier_rules.py: fault",
    "schedule/rules/model_rules.py: _check_all_move",
    "schedule/rules/model_rules.py: _check_module",
    "world/mujoco/drives.py: _check_delay",
    "world/mujoco/quantities.py: _refuse_delay",
    "world/mujoco/quantities.py: _refuse_many_numbers",
    "world/mujoco/quantities.py: start",
    "world/mujoco/world.py: _image_field",
    "world/mujoco/world.py: _read_camera",
    "world/mujoco/world.py: _refuse_callbacks",
    "world/mujoco/world.py: reset",
}
"""functions that give advice, and that no row reaches; a new rule is no reason for a new entry"""


def functions_with_advice() -> set[str]:
    """Those that make a fault."""
    found = set()
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for part in ast.walk(ast.parse(path.read_text())):
                if isinstance(part, ast.FunctionDef) and makes_a_fault(part):
                    found.add(f"{path.relative_to(PACKAGE)}: {part.name}")
    return found


def makes_a_fault(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr in ("fault", "error")
        for part in ast.walk(function)
    )


def caller() -> str:
    """The function of the package that made the fault that is being made."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        name = frame.f_code.co_name
        if path.is_relative_to(PACKAGE) and path.name not in _PLACING and name != "<lambda>":
            return f"{path.relative_to(PACKAGE)}: {name}"
        frame = frame.f_back
    return ""


def test_a_rule_that_gives_advice_has_a_row(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: set[str] = set()
    place = document.fault_at

    def note(*given: Any) -> Any:
        reached.add(caller())
        return place(*given)

    monkeypatch.setattr(document, "fault_at", note)
    for name in ROWS:
        text, steps, model = faulty(name)
        for changed in list(texts(text, steps))[:-1]:
            folder.trouble(changed, model)
    missing = functions_with_advice() - reached
    assert missing == NO_ROW, sorted(missing ^ NO_ROW)
