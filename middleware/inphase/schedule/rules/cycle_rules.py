"""The rules of a schedule that need no driver: names, grid, store, addresses, calls, ports.

The rules of its sensors, its actuators and its policy are in `parts`.
"""

import ipaddress
import math
import os
import re
from typing import Any

import msgspec

from inphase.schedule import toml_position
from inphase.schedule.expected import MEANING
from inphase.schedule.rules import estop_rules, model_rules, part_rules
from inphase.schedule.tables import Schedule, exact_period

_PERIOD_NS_MIN = 100_000
_PERIOD_NS_MAX = 1_000_000_000
_NAME = re.compile(r"[a-z0-9_-]{1,32}")
_PART = re.compile(r"[a-z][a-z0-9_]{0,30}")
_MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_CALL = re.compile(rf"(?:[^:]+\.py|{_MODULE}):{_MODULE}", re.ASCII)
_DRIVER = re.compile(rf"{_CALL.pattern}|[A-Za-z0-9][\w.-]*", re.ASCII)
_IPC_BYTES_MAX = 107  # sun_path of a Unix socket, without its final zero


def check(schedule: Schedule) -> None:
    """Raise ScheduleError for the first thing that does not fit."""
    if not _NAME.fullmatch(schedule.name):
        raise schedule.error("name", f"not a name: {schedule.name!r}; give {MEANING['name']}")
    _check_names(schedule)
    _check_finite(schedule)
    _check_cycle(schedule)
    _check_store(schedule)
    _check_gateway(schedule)
    _check_guard(schedule)
    _check_calls(schedule)
    _check_ports(schedule)
    _check_simulation(schedule)
    part_rules.check(schedule)
    estop_rules.check(schedule)


def _check_finite(schedule: Schedule) -> None:
    """Refuse nan and inf in all that is ours; options and arguments belong to others."""
    stack: list[tuple[toml_position.Path, Any]] = [
        (("guard",), msgspec.to_builtins(schedule.guard)),
        (("cycle",), msgspec.to_builtins(schedule.cycle)),
        (("sensor",), msgspec.to_builtins(schedule.sensor)),
        (("actuator",), msgspec.to_builtins(schedule.actuator)),
        (("estop",), msgspec.to_builtins(schedule.estop)),
    ]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack.extend(((*key, step), item) for step, item in value.items())
        elif isinstance(value, list | tuple):
            stack.extend(((*key, index), item) for index, item in enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            raise schedule.error(
                toml_position.format_path(key), f"not finite, got {value}; give a finite number"
            )


def _check_cycle(schedule: Schedule) -> None:
    cycle = schedule.cycle
    if (cycle.rate_hz is None) == (cycle.period_us is None):
        found = f"rate_hz = {cycle.rate_hz}, period_us = {cycle.period_us}"
        raise schedule.error(
            "cycle", f"exactly one of rate_hz and period_us is needed, got {found}; keep one"
        )
    key = "cycle.period_us" if cycle.rate_hz is None else "cycle.rate_hz"
    written = cycle.period_us if cycle.rate_hz is None else cycle.rate_hz
    period = exact_period(cycle)
    if period.denominator != 1:
        raise schedule.error(
            key,
            f"the period is not a whole number of nanoseconds: {float(period):.3f} ns, "
            f"got {written}; give period_us = {round(period) / 1000}",
        )
    if not _PERIOD_NS_MIN <= period <= _PERIOD_NS_MAX:
        raise schedule.error(
            key,
            f"the period is {period} ns, got {written}; "
            f"give {_PERIOD_NS_MIN} to {_PERIOD_NS_MAX} ns (10000 Hz to 1 Hz)",
        )
    if cycle.read_deadline_us >= cycle.act_us:
        raise schedule.error(
            "cycle.read_deadline_us",
            f"{cycle.read_deadline_us} us is not before act_us = {cycle.act_us} us; "
            f"the policy works between the two: move one of them",
        )
    if cycle.act_ns >= period:
        raise schedule.error(
            "cycle.act_us",
            f"{cycle.act_us} us is not inside the period of {float(period) / 1000:g} us; "
            f"act earlier or make the period longer",
        )


def _check_store(schedule: Schedule) -> None:
    depth = schedule.store.depth
    if depth is not None and depth & (depth - 1):
        raise schedule.error(
            "store.depth", f"not a power of two, got {depth}; give {MEANING['depth']}"
        )


def _check_guard(schedule: Schedule) -> None:
    max_hold_ms, period_ns = schedule.guard.max_hold_ms, schedule.cycle.period_ns
    if max_hold_ms is not None and max_hold_ms * 1e6 < 2 * period_ns:
        raise schedule.error(
            "guard.max_hold_ms",
            f"{max_hold_ms:g} ms are less than two cycles of {period_ns / 1e6:g} ms: a cycle that "
            f"is late once would end the run; make it longer",
        )


def _check_gateway(schedule: Schedule) -> None:
    gateway = schedule.gateway
    if gateway is None:
        return
    _check_address(schedule, "gateway.endpoint", gateway.endpoint)
    if gateway.control is None:
        return
    _check_address(schedule, "gateway.control", gateway.control)
    if gateway.control == gateway.endpoint:
        raise schedule.error(
            "gateway.control", f"the same address as endpoint, {gateway.control!r}; give another"
        )


def _check_address(schedule: Schedule, key: str, address: str) -> None:
    kind, _, rest = address.partition("://")
    if kind == "ipc" and rest.startswith("@"):
        raise schedule.error(
            key,
            f"{address!r} is an abstract name, which has no owner and no mode: every user could "
            f"connect; give a file, as in ipc:///tmp/{schedule.name}/socket",
        )
    if kind == "ipc" and rest.startswith("/") and len(rest) > 1:
        if len(rest.encode()) > _IPC_BYTES_MAX:
            raise schedule.error(
                key,
                f"the path has {len(rest.encode())} bytes, a socket takes {_IPC_BYTES_MAX}, "
                f"got {address!r}; give a shorter one",
            )
        return
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and _is_loopback(host):
        if re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65_536:
            return
        raise schedule.error(key, f"no port, got {address!r}; give one, as in tcp://127.0.0.1:5555")
    if kind == "tcp":
        raise schedule.error(
            key,
            f"{address!r} can be reached from elsewhere: that needs keys (CURVE), which this "
            f"version does not have; use ipc:///path or tcp://127.0.0.1:PORT",
        )
    raise schedule.error(
        key, f"not an address, got {address!r}; use ipc:///path or tcp://127.0.0.1:PORT"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost"


def _check_calls(schedule: Schedule) -> None:
    for name, device in schedule.device.items():
        if not _DRIVER.fullmatch(device.driver):
            raise schedule.error(
                f"device.{name}.driver",
                f"not a driver, got {device.driver!r}; give {MEANING['driver']}",
            )
    emulator, policy = schedule.emulator, schedule.policy
    if emulator is not None and not re.fullmatch(_MODULE, emulator.module, re.ASCII):
        raise schedule.error(
            "emulator.module", f"not a module, got {emulator.module!r}; give {MEANING['module']}"
        )
    if policy is None:
        return
    model_rules.check(schedule)
    if policy.remote is not None:
        _check_address(schedule, "policy.remote", policy.remote)
        gateway = schedule.gateway
        if gateway is not None and policy.remote in (gateway.endpoint, gateway.control):
            raise schedule.error(
                "policy.remote", f"an address of the gateway, {policy.remote!r}; give another"
            )
    if policy.call is not None and not _CALL.fullmatch(policy.call):
        raise schedule.error(
            "policy.call", f"not a callable, got {policy.call!r}; give {MEANING['call']}"
        )


def _check_simulation(schedule: Schedule) -> None:
    """The parts that a simulation names exist; the content of its model is checked where it is
    loaded."""
    for kind in ("sensor", "actuator"):
        known = getattr(schedule, kind)
        for name in getattr(schedule.world, kind, {}):
            if name not in known:
                raise schedule.error(
                    f"world.{kind}.{name}",
                    f"no such {kind}, got {name!r}; the schedule has: {', '.join(known) or 'none'}",
                )
    for key in ("reward", "terminated"):
        call = getattr(schedule.task, key)
        if call is not None and not _CALL.fullmatch(call):
            raise schedule.error(
                f"task.{key}", f"not a callable, got {call!r}; give {MEANING['call']}"
            )


def _check_names(schedule: Schedule) -> None:
    for kind in ("device", "sensor", "actuator", "estop"):
        for name in getattr(schedule, kind):
            if not _PART.fullmatch(name):
                raise schedule.error(
                    toml_position.format_path((kind, name)),
                    f"not a name, got {name!r}; give a lower-case letter, then letters, digits "
                    f"and _, at most 31 in all",
                )
    for kind in ("sensor", "actuator"):
        users: dict[str, str] = {}
        for name, part in getattr(schedule, kind).items():
            key = f"{kind}.{name}.device"
            if part.device not in schedule.device:
                known = ", ".join(schedule.device) or "none"
                raise schedule.error(
                    key, f"no such device, got {part.device!r}; the schedule has: {known}"
                )
            if part.device in users:
                raise schedule.error(
                    key,
                    f"the device {part.device!r} has the {kind} {users[part.device]!r} already; "
                    f"a device takes one {kind}: remove one or name another device",
                )
            users[part.device] = name


def _check_ports(schedule: Schedule) -> None:
    users: dict[tuple[str, str], str] = {}
    for name, device in schedule.device.items():
        port, host = device.options.get("port"), device.options.get("host")
        if port is None and host is None:
            continue
        if isinstance(port, str) and port.startswith("/"):
            port = os.path.realpath(port)  # two names of one terminal are one port
        place = (repr(port), repr(host))
        if place in users:
            key = "host" if port is None else "port"
            raise schedule.error(
                f"device.{name}.{key}",
                f"{device.options[key]!r} is where the device {users[place]!r} is already; "
                f"give each device its own, or one driver that serves both",
            )
        users[place] = name
