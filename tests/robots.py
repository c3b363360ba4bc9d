"""The demo robot with ports, paths and name of its own, so that tests do not meet each other."""

import re
import socket
from collections.abc import Sequence
from pathlib import Path

from peers import ROOT, free_port

# cycles that a loaded machine keeps: what is tested is what happens, not when
_PATIENT_CYCLE = """[cycle]
rate_hz = {rate_hz}
read_deadline_us = {read_us}
act_us = {act_us}
realtime = "prefer"
resumed_after_ms = 20000
overrun_limit = 1000000
"""
SLOW_CYCLE = _PATIENT_CYCLE.format(rate_hz=50, read_us=12000, act_us=14000)
FAST_CYCLE = (
    _PATIENT_CYCLE.format(rate_hz=125, read_us=5000, act_us=6000)
    + """[guard]
max_hold_ms = 20000
"""
)
ARM_LIMITS = """[actuator.arm.limits]
position = [-3.0, 3.0]
velocity = 2.0
acceleration = 4.0
step = 0.5
"""
CREEP = """[actuator.arm]
device = "arm"
feedback = "motors.position"
[actuator.arm.limits]
position = [-300.0, 300.0]
velocity = 2.0
acceleration = 4.0
step = 0.5
[policy]
call = "can_motors.py:Creep"
"""
"""three motors on a CAN bus, see can_motors.py"""
PATIENT = "[guard]\nmax_hold_ms = 20_000\n"


def demo_schedule(
    folder: Path,
    *,
    emulator: bool = False,
    gateway: bool = False,
    page: bool = False,
    policy: str | None = None,
) -> Path:
    """Write the demo's schedule into `folder`, with free ports; its path.

    emulator, gateway, page: keep those tables. policy: another `call`, its file in `folder`.
    """
    text = (ROOT / "schedules" / "demo.toml").read_text()
    for patience in (
        r"^(?:overrun_limit|resumed_after_ms|watchdog_ms) = .*\n",
        r"^\[guard\]\n.*\n\n",
    ):
        text, found = re.subn(patience, "", text, flags=re.MULTILINE)
        assert found
    text = text.replace('name = "demo"', f'name = "t{free_port(socket.SOCK_DGRAM)}"')
    text = text.replace("/tmp/inphase-demo/", f"{folder}/")
    ports = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    text = text.replace("config_port = 8088", f"port = {ports[0]}\nconfig_port = {ports[1]}")
    if emulator:  # a loaded machine is no reason for watchdog or guard to hold the arm
        text = text.replace("[device.arm]", f"{PATIENT}[device.arm]\nwatchdog_ms = 0")
    else:
        text = re.sub(r"(?ms)^\[emulator\]$.*?(?=^\[)", "", text)
    if not gateway:
        text = re.sub(r"(?ms)^\[gateway\]$.*?(?=^\[)", "", text)
    if not page:
        text = re.sub(r"(?ms)^\[page\].*?(?=^\[)", "", text)
    if policy is not None:
        text = re.sub(r"(?ms)^call = .*", f'call = "{policy}"\n', text)
    else:
        call = ROOT / "schedules" / "demo_policy.py"
        text = text.replace('"demo_policy.py:', f'"{call}:')
    path = folder / "robot.toml"
    path.write_text(text)
    return path


def ready_schedule(
    ready: Path, folder: Path, ports: Sequence[str], *changes: tuple[str, str]
) -> Path:
    """A ready schedule of an emulated robot, with a busy machine's patience, and no gateway.

    ports: the beginning of each line with a port, which gets a free one.
    """
    text = ready.read_text().replace('"demo_policy.py:', f'"{ready.parent}/demo_policy.py:')
    name = f'name = "{ready.stem}'
    text = text.replace(f'{name}"', f'{name}{free_port(socket.SOCK_STREAM)}"')
    for line in ports:
        key = line.partition(" ")[0]
        text = re.sub(rf"(?m)^{line}", f"{key} = {free_port(socket.SOCK_STREAM)}", text)
    text = re.sub(r"(?ms)^\[gateway\]$.*?(?=^\[)", "", text)
    text = text.replace("max_hold_ms = 2000 ", "max_hold_ms = 20_000 ")
    text = text.replace("resumed_after_ms = 2000 ", "resumed_after_ms = 20_000 ")
    text = text.replace("max_age_ms = 20\n", "max_age_ms = 1000\n")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / ready.name
    path.write_text(text)
    return path
