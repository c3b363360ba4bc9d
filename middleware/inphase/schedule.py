"""The schedule: who does what when, read from a TOML file into frozen objects.

`load` checks everything that can be known without a driver and without a device. What a driver adds
(fields of its sample, number of channels, its own keys) is checked later, with `Schedule.error` for
errors that point at the same file and line.
"""

import hashlib
import ipaddress
import math
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from inphase import document, locator
from inphase.document import show
from inphase.errors import ScheduleError

Positive = Annotated[float, Meta(gt=0)]
Numbers = float | list[float]
"""A number for all channels, or one per channel; read it with `Schedule.numbers`."""
Pairs = list[float | list[float]]
"""A pair for all channels, or one pair per channel; read it with `Schedule.pairs`."""
Status = Literal["FRESH", "HELD", "LATE", "MISSING", "FROZEN", "INVALID", "OFFLINE", "RECOVERING"]
"""What a sample may be; see the design's table of statuses."""

_PERIOD_NS_MIN = 100_000
_PERIOD_NS_MAX = 1_000_000_000
_HOLD_NS = 20_000_000  # a missing command leads to the ramp within max(20 ms, 2 cycles)
_RAMP_S_MAX = 1.2  # a ramp must fit into the 2 s in which the runtime stops


class Cycle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The grid and the offsets of its phases. Exactly one of `rate_hz` and `period_us` is set."""

    read_deadline_us: Annotated[int, Meta(gt=0)]
    act_us: Annotated[int, Meta(gt=0)]
    rate_hz: Positive | None = None
    period_us: Positive | None = None
    realtime: Literal["require", "prefer"] = "require"
    priority: Annotated[int, Meta(ge=1, le=98)] = 80
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    overrun_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 50
    resumed_after_ms: Annotated[float, Meta(gt=0, le=60_000)] = 100.0

    @property
    def period_ns(self) -> int:
        """Length of one cycle in nanoseconds; a loaded schedule's is whole."""
        return int(_period(self))

    @property
    def read_deadline_ns(self) -> int:
        """Offset of the read deadline from the cycle's start, in nanoseconds."""
        return self.read_deadline_us * 1000

    @property
    def act_ns(self) -> int:
        """Offset of the act phase from the cycle's start, in nanoseconds."""
        return self.act_us * 1000

    @property
    def resumed_after_ns(self) -> int:
        """How late a wake counts as a machine that was suspended, in nanoseconds."""
        return _ns(self.resumed_after_ms)


class Store(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may read the store, and how deep its rings are at least (slots, a power of two)."""

    group: Annotated[str, Meta(min_length=1)] | None = None
    depth: Annotated[int, Meta(ge=8, le=65_536)] | None = None


class Gateway(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where frames are published (PUB) and, optionally, where requests are taken (ROUTER)."""

    endpoint: str
    control: str | None = None


class Emulator(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The companion process that answers for the devices; `options` are its own keys, raw."""

    module: str
    options: dict[str, Any] = {}


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One device: its driver (`module:Class`), where that runs, and the driver's own keys, raw.

    `home` None: the plan decides. `priority` (SCHED_FIFO) and `cpu` are a worker process's.
    """

    driver: str
    home: Literal["cycle", "process", "thread"] | None = None
    priority: Annotated[int, Meta(ge=0, le=98)] = 0
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    options: dict[str, Any] = {}


class TriggerLine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The GPIO line that triggers a sensor: its chip's device file and its offset there."""

    chip: Annotated[str, Meta(min_length=1)]
    line: Annotated[int, Meta(ge=0, le=65_535)]


class Sensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a device is triggered and how its values are turned, shifted and judged (SI).

    Triggered in cycle n, when `every` divides n, a sample is due in frame n + `latency_cycles`.
    Without `trigger_us` the sensor is latched. `frozen_after`: so many bit-identical samples of a
    noisy channel count as FROZEN.
    """

    device: str
    max_age_ms: Annotated[float, Meta(gt=0, le=3_600_000)]
    trigger_us: Annotated[int, Meta(ge=0)] | None = None
    trigger_line: TriggerLine | None = None
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    latency_cycles: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    frozen_after: Annotated[int, Meta(ge=2, le=1_000_000)] | None = None
    sign: list[Literal[1, -1]] | None = None
    zero: dict[str, Numbers] = {}
    range: dict[str, Pairs] = {}
    rate: dict[str, Numbers] = {}

    @property
    def latched(self) -> bool:
        """Not triggered: its newest sample before the read deadline is taken."""
        return self.trigger_us is None

    @property
    def trigger_ns(self) -> int:
        """Offset of the trigger from its cycle's start, in nanoseconds; 0 for a latched sensor."""
        return (self.trigger_us or 0) * 1000

    def deadline_ns(self, cycle: Cycle) -> int:
        """When a sample is due, in nanoseconds from the start of the cycle of its trigger."""
        return self.latency_cycles * cycle.period_ns + cycle.read_deadline_ns

    @property
    def max_age_ns(self) -> int:
        """Age in nanoseconds from which a sample is MISSING."""
        return _ns(self.max_age_ms)


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the limiter and the ramp keep: rad, rad/s, rad/s^2, and rad from the measured pose."""

    position: Pairs
    velocity: Numbers
    acceleration: Numbers
    step: Numbers


class Actuator(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device that takes commands; without `feedback` (`sensor.field`) it moves blind.

    `accepts`: the statuses of its feedback on which it goes on moving.
    """

    device: str
    limits: Limits
    feedback: str | None = None
    accepts: tuple[Status, ...] = ("FRESH", "HELD", "LATE")
    mode: Literal["position"] = "position"
    max_hold_ms: Annotated[float, Meta(gt=0)] | None = None
    on_stop: Literal["hold", "off"] = "hold"

    def max_hold_ns(self, period_ns: int) -> int:
        """How long the last valid command is repeated before the ramp, in nanoseconds."""
        if self.max_hold_ms is None:
            return max(2 * period_ns, _HOLD_NS)
        return _ns(self.max_hold_ms)


class Policy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The callable that turns a frame into a command; `calls.resolve_call` imports it.

    `accepts`: per sensor, the statuses on which it is called; a sensor not named may have any.
    """

    call: str
    args: dict[str, Any] = {}
    accepts: dict[str, tuple[Status, ...]] = {}
    priority: Annotated[int, Meta(ge=0, le=98)] = 0


class _Tables(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the TOML file may hold."""

    name: str
    cycle: Cycle
    device: dict[str, Device] = {}
    sensor: dict[str, Sensor] = {}
    actuator: dict[str, Actuator] = {}
    store: Store = Store()
    gateway: Gateway | None = None
    emulator: Emulator | None = None
    policy: Policy | None = None


class Schedule(_Tables, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A checked schedule, with the file it came from; `hash` is 16 hex digits of its text's sha256.

    It is immutable and may be used from any thread.
    """

    path: Path
    text: str
    hash: str

    def error(self, key_path: str, message: str) -> ScheduleError:
        """Build (do not raise) an error that names file, line and key.

        `key_path` is like `sensor.joints.range.position[1]`; a key that the file lacks is placed at
        its table. `message` says what is wrong, with the value, and what to do.
        """
        return document.error_at(self.path, self.text, locator.parse_path(key_path), message)

    def numbers(self, key_path: str, value: Numbers, channels: int) -> list[float]:
        """One number per channel. Raises ScheduleError if a list has another length."""
        if not isinstance(value, list):
            return [float(value)] * channels
        if len(value) != channels:
            raise self.error(
                key_path,
                f"{channels} values expected, got {len(value)}: {show(value)}; "
                f"give one number for all channels or one per channel",
            )
        return [float(number) for number in value]

    def pairs(self, key_path: str, value: Pairs, channels: int) -> list[tuple[float, float]]:
        """One (low, high) per channel. Raises ScheduleError if a list has another length."""
        pairs = _as_pairs(value)
        if pairs is None:
            raise self.error(key_path, f"a pair is two numbers, got {show(value)}; give [lo, hi]")
        if not isinstance(value[0], list):
            return pairs * channels
        if len(pairs) != channels:
            raise self.error(
                key_path,
                f"{channels} pairs expected, got {len(pairs)}: {show(value)}; "
                f"give one pair for all channels or one per channel",
            )
        return pairs


def load(path: Path | str) -> Schedule:
    """Read and check a schedule. Touches no device.

    Raises ScheduleError with `file:line: key: what is wrong, with the value; what to do`.
    """
    file = document.read(Path(path))
    regrouped = _with_options(file.raw)
    tables = file.convert(regrouped, _Tables, _meaning)
    schedule = Schedule(
        path=file.path,
        text=file.text,
        hash=hashlib.sha256(file.text.encode()).hexdigest()[:16],
        **{field: getattr(tables, field) for field in _Tables.__struct_fields__},
    )
    _check(schedule)
    return schedule


def _with_options(raw: dict[str, Any]) -> dict[str, Any]:
    """The file's values with the keys of drivers and of the emulator set apart under `options`."""

    def split(table: Any, kind: type[Struct]) -> Any:
        if not isinstance(table, dict):
            return table
        own = set(kind.__struct_fields__) - {"options"}
        options = {key: value for key, value in table.items() if key not in own}
        kept = {key: value for key, value in table.items() if key in own}
        return {**kept, "options": options}

    regrouped = dict(raw)
    if "emulator" in raw:
        regrouped["emulator"] = split(raw["emulator"], Emulator)
    if isinstance(raw.get("device"), dict):
        regrouped["device"] = {name: split(it, Device) for name, it in raw["device"].items()}
    return regrouped


def _ns(value_ms: float) -> int:
    return round(value_ms * 1_000_000)


def _period(cycle: Cycle) -> Fraction:
    """The period in nanoseconds, exactly as it was written."""
    if cycle.rate_hz is not None:
        return Fraction(10**9) / Fraction(repr(cycle.rate_hz))
    return Fraction(repr(cycle.period_us)) * 1000


_MEANING = {
    "rate_hz": "cycles per second, such as 500",
    "period_us": "the period in microseconds, such as 2000",
    "read_deadline_us": "microseconds from the cycle's start, such as 1200",
    "act_us": "microseconds from the cycle's start, such as 1600",
    "trigger_us": "microseconds from the cycle's start, such as 0",
    "chip": 'the device file of a GPIO chip, such as "/dev/gpiochip0"',
    "line": "the offset of a line of its chip, 0 to 65535",
    "trigger_line": 'a table such as { chip = "/dev/gpiochip0", line = 17 }',
    "every": "a count of cycles from one trigger to the next, 1 or more",
    "latency_cycles": "a count of cycles from the trigger to the frame, 0 or more, below every",
    "frozen_after": "a count of bit-identical samples, 2 or more",
    "accepts": 'a list of statuses such as ["FRESH", "HELD"]',
    "home": '"cycle", "process" or "thread"',
    "max_age_ms": "milliseconds from which a sample counts as MISSING, such as 10",
    "max_hold_ms": "milliseconds for which the last valid command is repeated, such as 20",
    "resumed_after_ms": "milliseconds, above 0 and up to 60000",
    "overrun_limit": "a count of overruns, 1 to 1000000",
    "realtime": '"require" or "prefer"',
    "cpu": "the number of a core",
    "depth": "slots of a ring, a power of two from 8 to 65536",
    "group": "the name of a group whose members may read the store",
    "mode": '"position"; this version has no other',
    "on_stop": '"hold" or "off"',
    "sign": "1 or -1 for each channel",
    "zero": "a table of field = number or list, in SI",
    "range": "a table of field = [lo, hi] or a list of such pairs, in SI",
    "rate": "a table of field = number or list: largest change per second, in SI",
    "priority": "a SCHED_FIFO priority, 1 to 98 (0 to 98 for a policy or a device)",
    "module": "the name of a Python module",
    "cycle": "a table with rate_hz, read_deadline_us and act_us",
    "driver": '"module:Class"',
    "call": '"file.py:name" or "module:name"',
    "device": "the name of a [device.NAME] table",
    "feedback": '"sensor.field"',
    "endpoint": "an ipc:// or loopback tcp:// address",
    "control": "an ipc:// or loopback tcp:// address",
    "name": "lower-case letters, digits, - and _, at most 32",
    "limits": "a table with position, velocity, acceleration and step",
    "position": "[lo, hi] in rad, or a list of such pairs",
    "velocity": "rad/s, one number or one per channel",
    "acceleration": "rad/s^2, one number or one per channel",
    "step": "rad, one number or one per channel",
}


def _meaning(key: locator.Path) -> str:
    """What belongs at a key; inside a sensor's tables the names are the driver's."""
    names = [step for step in key if isinstance(step, str)]
    own = names[-1:]
    if names[:1] == ["sensor"] and len(names) > 2 and names[2] != "trigger_line":
        own = names[2:3]
    elif names[:2] == ["policy", "accepts"]:
        own = names[1:2]
    return _MEANING.get(own[0], "a value of that kind") if own else "tables"


# ---------------------------------------------------------------- checks that need no driver

_NAME = re.compile(r"[a-z0-9_-]{1,32}")
_PART = re.compile(r"[a-z][a-z0-9_]{0,30}")
_MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_DRIVER = re.compile(rf"{_MODULE}:{_MODULE}", re.ASCII)
_CALL = re.compile(rf"(?:[^:]+\.py|{_MODULE}):{_MODULE}", re.ASCII)
_MOVES_ON: tuple[Status, ...] = ("FRESH", "HELD", "LATE", "RECOVERING")
_IPC_BYTES_MAX = 107  # sun_path of a Unix socket, without its final zero


def _check(schedule: Schedule) -> None:
    """Raise ScheduleError for the first thing that does not fit."""
    if not _NAME.fullmatch(schedule.name):
        raise schedule.error("name", f"not a name: {schedule.name!r}; give {_MEANING['name']}")
    _check_names(schedule)
    _check_finite(schedule)
    _check_cycle(schedule)
    _check_store(schedule)
    _check_gateway(schedule)
    _check_calls(schedule)
    _check_devices(schedule)
    _check_ports(schedule)
    _check_lines(schedule)
    if not schedule.sensor:
        raise schedule.error("sensor", "no sensor, got 0; add at least one [sensor.NAME] table")
    for name in schedule.sensor:
        _check_sensor(schedule, name)
    for name in schedule.actuator:
        _check_actuator(schedule, name)
    _check_policy(schedule)


def _check_finite(schedule: Schedule) -> None:
    """Refuse nan and inf in all that is ours; options and arguments belong to others."""
    stack: list[tuple[locator.Path, Any]] = [
        (("cycle",), msgspec.to_builtins(schedule.cycle)),
        (("sensor",), msgspec.to_builtins(schedule.sensor)),
        (("actuator",), msgspec.to_builtins(schedule.actuator)),
    ]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack.extend(((*key, step), item) for step, item in value.items())
        elif isinstance(value, list):
            stack.extend(((*key, index), item) for index, item in enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            raise schedule.error(
                locator.format_path(key), f"not finite, got {value}; give a finite number"
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
    period = _period(cycle)
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
            "store.depth", f"not a power of two, got {depth}; give {_MEANING['depth']}"
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
    if kind == "ipc" and rest.startswith(("/", "@")) and len(rest) > 1:
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
                f"not a driver, got {device.driver!r}; give {_MEANING['driver']}",
            )
    emulator, policy = schedule.emulator, schedule.policy
    if emulator is not None and not re.fullmatch(_MODULE, emulator.module, re.ASCII):
        raise schedule.error(
            "emulator.module", f"not a module, got {emulator.module!r}; give {_MEANING['module']}"
        )
    if policy is None:
        return
    if not _CALL.fullmatch(policy.call):
        raise schedule.error(
            "policy.call", f"not a callable, got {policy.call!r}; give {_MEANING['call']}"
        )


def _check_names(schedule: Schedule) -> None:
    for kind in ("device", "sensor", "actuator"):
        for name in getattr(schedule, kind):
            if not _PART.fullmatch(name):
                raise schedule.error(
                    locator.format_path((kind, name)),
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


def _check_devices(schedule: Schedule) -> None:
    for name, device in schedule.device.items():
        here, own = f"device.{name}", "the cycle thread"
        if device.home == "thread":
            own = "the user's own process, which gets nothing real-time"
        if device.home in ("cycle", "thread"):
            for key, given in (("priority", device.priority or None), ("cpu", device.cpu)):
                if given is not None:
                    raise schedule.error(
                        f"{here}.{key}",
                        f"{given} is for a worker process, and home = {device.home!r} is {own}; "
                        f'remove it, or give home = "process"',
                    )
        _check_priority(schedule, here, device.priority)


def _check_priority(schedule: Schedule, here: str, priority: int) -> None:
    if priority >= schedule.cycle.priority:
        raise schedule.error(
            f"{here}.priority",
            f"{priority} is not below the cycle's {schedule.cycle.priority}: it could hold "
            f"up the cycle; give a lower one",
        )


def _check_lines(schedule: Schedule) -> None:
    users: dict[tuple[str, int], str] = {}
    for name, sensor in schedule.sensor.items():
        wanted, key = sensor.trigger_line, f"sensor.{name}.trigger_line"
        if wanted is None:
            continue
        if not wanted.chip.startswith("/"):
            raise schedule.error(
                f"{key}.chip",
                f"not a path, got {wanted.chip!r}; give {_MEANING['chip']}",
            )
        place = (os.path.realpath(wanted.chip), wanted.line)
        if place in users:
            raise schedule.error(
                key,
                f"line {wanted.line} of {wanted.chip!r} triggers the sensor {users[place]!r} "
                f"already: one pulse would be counted for two; give each sensor its own line",
            )
        users[place] = name


def _check_sensor(schedule: Schedule, name: str) -> None:
    sensor, here = schedule.sensor[name], f"sensor.{name}"
    if sensor.latched:
        _check_latched(schedule, here, sensor)
    else:
        _check_trigger(schedule, here, sensor)
    for field, pairs in sensor.range.items():
        _check_pairs(schedule, locator.format_path(("sensor", name, "range", field)), pairs)
    for field, numbers in sensor.rate.items():
        _check_positive(schedule, locator.format_path(("sensor", name, "rate", field)), numbers)


def _check_latched(schedule: Schedule, here: str, sensor: Sensor) -> None:
    """A sensor without a trigger takes no key that says when it is triggered."""
    given = {
        "every": sensor.every if sensor.every != 1 else None,
        "latency_cycles": sensor.latency_cycles or None,
        "trigger_line": sensor.trigger_line and sensor.trigger_line.line,
    }
    for key, value in given.items():
        if value is not None:
            raise schedule.error(
                f"{here}.{key}",
                f"{value} belongs to a trigger, and without trigger_us the sensor is latched: it "
                f"runs by itself; add trigger_us, or remove {key}",
            )


def _check_trigger(schedule: Schedule, here: str, sensor: Sensor) -> None:
    """The trigger is inside its cycle, and its sample is due before the next one fires."""
    cycle, every, latency = schedule.cycle, sensor.every, sensor.latency_cycles
    if latency >= every:
        raise schedule.error(
            f"{here}.latency_cycles",
            f"{latency} is not below every = {every}: the next trigger would fire before the "
            f"sample of the last one is due; give at most {every - 1}, or every = {latency + 1}",
        )
    if latency == 0 and sensor.trigger_ns >= cycle.read_deadline_ns:
        raise schedule.error(
            f"{here}.trigger_us",
            f"{sensor.trigger_us} us is not before read_deadline_us = "
            f"{cycle.read_deadline_us} us; trigger earlier, read later, or give latency_cycles",
        )
    if sensor.trigger_ns >= cycle.period_ns:
        raise schedule.error(
            f"{here}.trigger_us",
            f"{sensor.trigger_us} us is not inside the period of {cycle.period_ns / 1000:g} us; "
            f"trigger earlier",
        )
    oldest_ns = (latency + every - 1) * cycle.period_ns
    if sensor.max_age_ns < oldest_ns:
        raise schedule.error(
            f"{here}.max_age_ms",
            f"{sensor.max_age_ms:g} ms is less than the age of {oldest_ns / 1e6:g} ms that a "
            f"sample reaches before the next one is due (every = {every}, latency_cycles = "
            f"{latency}): it would be MISSING in between; give more",
        )


def _check_policy(schedule: Schedule) -> None:
    policy = schedule.policy
    if policy is None:
        return
    _check_priority(schedule, "policy", policy.priority)
    for name, accepted in policy.accepts.items():
        key = locator.format_path(("policy", "accepts", name))
        if name not in schedule.sensor:
            known = ", ".join(schedule.sensor)
            raise schedule.error(key, f"no such sensor, got {name!r}; the schedule has: {known}")
        _check_accepts(schedule, key, accepted)


def _check_accepts(schedule: Schedule, key: str, accepted: tuple[Status, ...]) -> None:
    if "FRESH" not in accepted:
        raise schedule.error(
            key, f"FRESH is not among them, got {show(list(accepted))}; add it: nothing is better"
        )
    if len(set(accepted)) < len(accepted):
        raise schedule.error(key, f"named twice, got {show(list(accepted))}; name each once")


def _check_actuator_accepts(schedule: Schedule, key: str, actuator: Actuator) -> None:
    """An actuator moves on nothing that is not a position of it, and known to be one."""
    for index, status in enumerate(actuator.accepts):
        if status not in _MOVES_ON:
            raise schedule.error(
                f"{key}[{index}]",
                f"{status} says nothing that a robot may move on; give some of "
                f"{', '.join(_MOVES_ON)}",
            )
    _check_accepts(schedule, key, actuator.accepts)
    if actuator.feedback is None and actuator.accepts != _MOVES_ON[:3]:
        raise schedule.error(
            key,
            f"{show(list(actuator.accepts))} is of a feedback, and the actuator has none; give "
            f'feedback = "sensor.field", or remove accepts',
        )


def _check_actuator(schedule: Schedule, name: str) -> None:
    actuator, here = schedule.actuator[name], f"actuator.{name}"
    limits = actuator.limits
    _check_pairs(schedule, f"{here}.limits.position", limits.position)
    for key in ("velocity", "acceleration", "step"):
        _check_positive(schedule, f"{here}.limits.{key}", getattr(limits, key))
    _check_channels(schedule, f"{here}.limits", limits)
    _check_ramp(schedule, f"{here}.limits", limits)
    if actuator.feedback is not None:
        _check_feedback(schedule, f"{here}.feedback", actuator.feedback)
    _check_actuator_accepts(schedule, f"{here}.accepts", actuator)
    hold_max_ns = max(2 * schedule.cycle.period_ns, _HOLD_NS)
    if actuator.max_hold_ns(schedule.cycle.period_ns) > hold_max_ns:
        raise schedule.error(
            f"{here}.max_hold_ms",
            f"{actuator.max_hold_ms} ms is longer than the larger of 20 ms and 2 periods: "
            f"a robot without commands must ramp; give at most {hold_max_ns / 1e6:g}",
        )


def _check_pairs(schedule: Schedule, key: str, value: Pairs) -> None:
    for low, high in schedule.pairs(key, value, _channels(value)):
        if low >= high:
            raise schedule.error(
                key, f"low is not below high, got [{low:g}, {high:g}]; give [lo, hi]"
            )


def _check_positive(schedule: Schedule, key: str, value: Numbers) -> None:
    numbers = schedule.numbers(key, value, _channels(value))
    if not numbers or min(numbers) <= 0:
        raise schedule.error(key, f"not above 0, got {show(value)}; give positive numbers")


def _check_channels(schedule: Schedule, here: str, limits: Limits) -> None:
    counts = {
        key: len(value)
        for key, value in msgspec.to_builtins(limits).items()
        if isinstance(value, list) and not (key == "position" and not isinstance(value[0], list))
    }
    if len(set(counts.values())) > 1:
        raise schedule.error(
            here, f"lists of unequal length, got {counts}; give one entry per channel in each"
        )


def _check_ramp(schedule: Schedule, here: str, limits: Limits) -> None:
    channels = max(_channels(limits.velocity), _channels(limits.acceleration))
    velocity = schedule.numbers(f"{here}.velocity", limits.velocity, channels)
    acceleration = schedule.numbers(f"{here}.acceleration", limits.acceleration, channels)
    time_s = max(fast / slow for fast, slow in zip(velocity, acceleration, strict=True))
    if time_s > _RAMP_S_MAX:
        raise schedule.error(
            f"{here}.acceleration",
            f"a ramp from full velocity takes {time_s:.3g} s (velocity {show(limits.velocity)} / "
            f"acceleration {show(limits.acceleration)}), longer than {_RAMP_S_MAX} s; "
            f"raise acceleration or lower velocity",
        )


def _check_feedback(schedule: Schedule, key: str, feedback: str) -> None:
    sensor, dot, field = feedback.partition(".")
    if not (sensor and dot and field):
        raise schedule.error(key, f'not a field, got {feedback!r}; give "sensor.field"')
    if sensor not in schedule.sensor:
        known = ", ".join(schedule.sensor)
        raise schedule.error(key, f"no such sensor, got {feedback!r}; the schedule has: {known}")


def _channels(value: Numbers | Pairs) -> int:
    return len(value) if isinstance(value, list) else 1


def _as_pairs(value: Pairs) -> list[tuple[float, float]] | None:
    """The pairs of `[lo, hi]` or `[[lo, hi], ...]`; None for any other shape."""
    numbers = [item for item in value if not isinstance(item, list)]
    lists = [item for item in value if isinstance(item, list)]
    if len(numbers) == 2 and not lists:
        return [(float(numbers[0]), float(numbers[1]))]
    if lists and not numbers and all(len(item) == 2 for item in lists):
        return [(float(low), float(high)) for low, high in lists]
    return None
