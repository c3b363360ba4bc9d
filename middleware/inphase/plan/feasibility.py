"""Does a schedule fit its devices? Impossible parts are refused, and parts that may hurt are noted.

Refused, by the devices' own statements:

- a sample that is typically in hand after its deadline,
- stated exchanges of one bus that together end after the read deadline,
- commands of one bus that run into the next trigger,
- an exchange that still has the bus when commands leave,
- a worst case that is longer than the time to the next trigger, for a device that a worker reads.
  The worker would still wait when it has to trigger again, and its phase would beat.
- worst cases of one bus that together keep it quiet until one of its sensors is MISSING. One lost
  reply would stop the robot.
- a free-running device whose samples are older than `max_age_ms` when they come,
- two devices at one address,
- a device as the cycle's clock that cannot be it: it does not stream to the cycle thread, or not at
  the cycle's rate.

Noted:

- a worst case after the deadline: such a sample is LATE,
- a worst case into the act offset or the next trigger of an exchange: the command or the trigger is
  left out,
- values of `every` of which none divides the other: the phase between the two returns only after
  their least common multiple,
- a free-running device, whose phase drifts through the cycle, with the time in which it beats,
- a worker on the cycle thread's own core.

The policy and the gateway have no rate of their own that could fail to divide: they see every
frame.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from inphase.errors import ScheduleFault
from inphase.plan import timing as timings_of
from inphase.plan.declarations import Declarations
from inphase.plan.timing import CommandTiming, SampleTiming
from inphase.schedule.duration import least_ms, ms, us
from inphase.schedule.inspection import Inspection
from inphase.schedule.rules import address_rules
from inphase.schedule.table import Incomplete, Unknown
from inphase.schedule.tables import Schedule

_RATE_OFF = 1e-3  # part of a rate by which a stated one may differ from the cycle's
_CLOCKS_PPM = 50  # by which two quartz clocks may differ: no stated rate is more exact


def check(inspection: Inspection, declared: Declarations) -> None:
    """Check a schedule against the statements of its devices."""
    for name in inspection.names("device"):
        inspection.apply(_check_address, declared, name)
    samples: dict[str, SampleTiming] = Incomplete()
    for name in inspection.names("sensor"):
        before = len(inspection.faults)
        timing = inspection.attempt(_time, declared, name)
        if timing is not None:
            samples[name] = timing
        for rule in (_check_free_running, _check_deadline, _check_interval):
            inspection.apply(rule, samples, name)
        if len(inspection.faults) > before:
            samples.pop(name, None)  # a bus that it is on is not judged
    inspection.apply(_check_clock, declared, samples)
    for bus in _buses(inspection, declared):
        inspection.apply(_check_bus, samples, bus)
        inspection.apply(_check_commands, declared, samples, bus)
        for name in bus.sensors:
            inspection.apply(_check_silence, samples, bus, name)


@dataclass(frozen=True)
class _Bus:
    """A wire, and the sensors and actuators of the schedule that are on it."""

    name: str
    sensors: list[str] = field(default_factory=list)
    actuators: list[str] = field(default_factory=list)


def _buses(inspection: Inspection, declared: Declarations) -> list[_Bus]:
    """All of them. A device whose driver is not known counts as on another bus."""
    of_device = {name: driver.bus for name, driver in declared.drivers.items()}
    found = {name: _Bus(name) for name in of_device.values()}
    for kind in ("sensor", "actuator"):
        for name in inspection.names(kind):
            with suppress(Unknown, KeyError):
                bus = found[of_device[getattr(inspection.schedule, kind)[name].device]]
                (bus.sensors if kind == "sensor" else bus.actuators).append(name)
    return list(found.values())


def _time(schedule: Schedule, declared: Declarations, name: str) -> SampleTiming:
    driver = declared.drivers[schedule.sensor[name].device]
    return timings_of.of_sensor(schedule, driver, name, declared.sensors[name])


def notes(
    schedule: Schedule, timings: Sequence[SampleTiming], commands: Sequence[CommandTiming]
) -> list[str]:
    """Notes on things that fit but may hurt, a sentence each."""
    found: list[str] = []
    for timing in timings:
        if timing.device == schedule.cycle.clock:
            found.append(
                f"device {timing.device} starts the cycles: all offsets are from the earliest "
                f"arrival of its packets, and a packet is waited for until the read deadline"
            )
        elif timing.free_running:
            found += _drifts(schedule, timing)
        else:
            found += _late_at_worst(schedule, timing, commands)
        device = schedule.device[timing.device]
        if device.cpu is not None and device.cpu == schedule.cycle.cpu:
            found.append(
                f"device {timing.device}: its worker has core {device.cpu}, which is the cycle's: "
                f"it waits for the cycle thread there"
            )
    slow = [t for t in timings if not t.free_running]
    for index, first in enumerate(slow):
        found += [note for second in slow[index + 1 :] for note in _wander(schedule, first, second)]
    return found


def _check_clock(
    schedule: Schedule, declared: Declarations, samples: Mapping[str, SampleTiming]
) -> Iterator[ScheduleFault]:
    """The device whose packets start the cycles streams to the cycle thread, at its rate."""
    clock, key = schedule.cycle.clock, "cycle.clock"
    if clock is None:
        return
    if clock not in schedule.device:
        known = ", ".join(schedule.device)
        yield schedule.fault(key, f"no device is called {clock!r}; give one of {known}")
        return
    names = [name for name, sensor in schedule.sensor.items() if sensor.device == clock]
    if not names:
        yield schedule.fault(
            key,
            f"no sensor reads device {clock!r}, so that nothing of it can start a cycle; add a "
            f"[sensor] of it, or remove clock",
        )
        return
    timing = samples[names[0]]
    if not timing.free_running:
        yield schedule.fault(
            key,
            f"device {clock!r} answers triggers, which the cycle itself sends; name a device that "
            f"streams, or remove clock",
        )
    elif timing.home != "cycle":
        yield schedule.fault(
            key,
            f"a worker reads device {clock!r}, and only the cycle thread can wait for its packets; "
            f'give the device home = "cycle" if its driver has an exchange, or remove clock',
        )
    elif declared.sensors[names[0]].burst:
        yield schedule.fault(
            key,
            f"device {clock!r} gives all samples since the last frame, and a cycle has one packet "
            f"of its clock; remove the key of sensor {names[0]!r} that asks for bursts, or clock",
        )
    else:
        yield from _check_clock_rate(schedule, timing)


def _check_clock_rate(schedule: Schedule, timing: SampleTiming) -> Iterator[ScheduleFault]:
    interval_ns, period_ns = timing.interval_ns, schedule.cycle.period_ns
    if abs(interval_ns - period_ns) <= period_ns * _RATE_OFF:
        return
    stated = f"streams at {1e9 / interval_ns:.6g} Hz" if interval_ns else "states no rate"
    remedy = "remove clock"
    if interval_ns:
        remedy = f"give rate_hz = {1e9 / interval_ns:.6g}, or the device the cycle's rate"
    yield schedule.fault(
        "cycle.clock",
        f"device {timing.device!r} {stated}, and the cycle has {1e9 / period_ns:.6g} Hz: a cycle "
        f"has one packet of its clock; {remedy}",
        ("cycle.clock", "cycle.rate_hz", "cycle.period_us"),
    )


def _exchanges(samples: Mapping[str, SampleTiming], bus: _Bus) -> list[SampleTiming]:
    """The exchanges of the cycle thread on a bus; a device that speaks unasked takes no turn."""
    found = [samples[name] for name in bus.sensors]
    return [timing for timing in found if timing.home == "cycle" and not timing.free_running]


def _check_address(
    schedule: Schedule, declared: Declarations, name: str
) -> Iterator[ScheduleFault]:
    address = declared.drivers[name].address
    names = list(schedule.device)
    options = schedule.device[name].options
    for other in names[: names.index(name)]:
        if address_rules.is_one_place(options, schedule.device[other].options):
            return  # the keys alone say it, and so does the rule of the keys
        if address and _is_one_place(declared.drivers[other].address, address):
            yield schedule.fault(
                f"device.{name}",
                f"{address} is where the device {other!r} is already; give each device "
                f"its own, or one driver that serves both",
                doubts=(),
            )
            return


def _is_one_place(address: str, other: str) -> bool:
    """Two names of one device file are one place."""
    if address.startswith("/") and other.startswith("/"):
        return os.path.realpath(address) == os.path.realpath(other)
    return address == other


def _check_free_running(
    schedule: Schedule, samples: Mapping[str, SampleTiming], name: str
) -> Iterator[ScheduleFault]:
    timing, max_age_ns = samples[name], schedule.sensor[name].max_age_ns
    if timing.free_running and timing.typical_ns > max_age_ns:
        yield schedule.fault(
            f"sensor.{name}.max_age_ms",
            f"{max_age_ns / 1e6:g} ms is less than the {ms(timing.typical_ns)} that device "
            f"{timing.device!r} states for a sample to come: it would always be MISSING; give "
            f"{least_ms(timing.typical_ns)} or more",
        )


def _check_deadline(
    schedule: Schedule, samples: Mapping[str, SampleTiming], name: str
) -> Iterator[ScheduleFault]:
    timing = samples[name]
    if timing.free_running or timing.slack_ns >= 0:
        return
    cycle, sensor = schedule.cycle, schedule.sensor[timing.sensor]
    end_ns = timing.trigger_ns + timing.typical_ns
    least = -(-(end_ns - cycle.read_deadline_ns) // cycle.period_ns)
    key = "trigger_us" if sensor.latency_cycles == 0 else "latency_cycles"
    remedy = f"latency_cycles = {least} with every = {max(sensor.every, least + 1)} or more"
    if timing.home == "cycle":
        remedy = "trigger earlier, raise the baud rate, or move read_deadline_us"
    yield schedule.fault(
        f"sensor.{timing.sensor}.{key}",
        f"the sample is in hand {us(end_ns)} after the cycle's start, after its read deadline at "
        f"{us(timing.deadline_ns)} (device {timing.device!r} states {us(timing.typical_ns)}"
        f"{_and_silence(timing)}); "
        f"{'' if timing.home == 'cycle' else 'give '}{remedy}",
    )


def _and_silence(timing: SampleTiming) -> str:
    return f", {us(timing.idle_ns)} of it the silence that ends it" if timing.idle_ns else ""


def _check_interval(
    schedule: Schedule, samples: Mapping[str, SampleTiming], name: str
) -> Iterator[ScheduleFault]:
    """A worker that may still wait for a sample when it has to trigger again cannot keep up."""
    timing = samples[name]
    if timing.free_running or timing.home == "cycle" or timing.slack_ns < 0:
        return  # what is too late at its usual pace is so at its worst
    if timing.worst_ns <= timing.every_ns:
        return
    least = -(-timing.worst_ns // schedule.cycle.period_ns)
    yield schedule.fault(
        f"sensor.{timing.sensor}.every",
        f"device {timing.device!r} takes up to {us(timing.worst_ns)} for a sample, and the next "
        f"trigger comes after {us(timing.every_ns)}: it could not keep up; give every = {least} "
        f"or more",
    )


def _check_bus(
    schedule: Schedule, samples: Mapping[str, SampleTiming], bus: _Bus
) -> Iterator[ScheduleFault]:
    """The stated exchanges of devices that share a bus, one after the other."""
    exchanges = _exchanges(samples, bus)
    if len(exchanges) < 2:
        return
    first = min(exchanges, key=lambda timing: timing.trigger_ns)
    end_ns = first.trigger_ns + sum(timing.typical_ns for timing in exchanges)
    if end_ns > schedule.cycle.read_deadline_ns:
        names = ", ".join(timing.sensor for timing in exchanges)
        yield schedule.fault(
            f"sensor.{exchanges[-1].sensor}.trigger_us",
            f"the exchanges of {names} share {bus.name} and take until {us(end_ns)}, after the "
            f"read deadline at {us(schedule.cycle.read_deadline_ns)}; put one on another bus, or "
            f"lower the cycle's rate",
        )


def _check_commands(
    schedule: Schedule, declared: Declarations, samples: Mapping[str, SampleTiming], bus: _Bus
) -> Iterator[ScheduleFault]:
    """Commands leave one after the other at the act offset; the bus has to be free from then on."""
    if not bus.actuators:
        return
    exchanges, cycle = _exchanges(samples, bus), schedule.cycle
    if not exchanges and any(name not in declared.drivers for name in schedule.device):
        return
    names = ", ".join(bus.actuators)
    specs = [declared.actuators[name] for name in bus.actuators]
    end_ns = cycle.act_ns + sum(spec.encoding.write_ns for spec in specs if spec.encoding)
    first_ns = min((timing.trigger_ns for timing in exchanges), default=0)
    if end_ns > cycle.period_ns + first_ns:
        yield schedule.fault(
            "cycle.act_us",
            f"the command of {names} is on the wire of {bus.name} until {us(end_ns)}, into the "
            f"next trigger at {us(cycle.period_ns + first_ns)}; act earlier, raise the baud rate, "
            f"or lower the cycle's rate",
            doubts=(),
        )
    for timing in exchanges:
        in_hand_ns = timing.trigger_ns + timing.typical_ns
        act_ns = cycle.act_ns if timing.trigger_ns < end_ns else cycle.act_ns + cycle.period_ns
        if in_hand_ns > act_ns:
            yield schedule.fault(
                f"sensor.{timing.sensor}.trigger_us",
                f"its exchange has {bus.name} from {us(timing.trigger_ns)} to {us(in_hand_ns)}, "
                f"and at {us(act_ns)} the command of {names} leaves there; trigger it at another "
                f"time",
            )


def _check_silence(
    schedule: Schedule, samples: Mapping[str, SampleTiming], bus: _Bus, name: str
) -> Iterator[ScheduleFault]:
    """After a missed reply the bus is quiet for the worst case of whatever may be on it."""
    exchanges = _exchanges(samples, bus)
    timing = samples[name]
    if timing not in exchanges:
        return
    worst_ns = sum(other.worst_ns for other in exchanges)
    missed = -(-worst_ns // timing.every_ns)
    acquired_ns = timing.trigger_ns if timing.acquired_ns is None else timing.acquired_ns
    sensor, period_ns = schedule.sensor[timing.sensor], schedule.cycle.period_ns
    age_ns = (missed + 1) * timing.every_ns - period_ns + timing.deadline_ns - acquired_ns
    if age_ns > sensor.max_age_ns:
        yield schedule.fault(
            f"sensor.{timing.sensor}.max_age_ms",
            f"{sensor.max_age_ms:g} ms is less than the age of {ms(age_ns)} that a sample reaches "
            f"when one reply is missed: {timing.bus} is then quiet for the worst case of its "
            f"exchanges, {us(worst_ns)}; give {least_ms(age_ns)} or more, or make the worst case "
            f"shorter",
        )


def _late_at_worst(
    schedule: Schedule, timing: SampleTiming, commands: Sequence[CommandTiming]
) -> list[str]:
    end_ns = timing.trigger_ns + timing.worst_ns
    over_ns = end_ns - timing.deadline_ns
    if over_ns <= 0:
        return []
    text = (
        f"sensor {timing.sensor}: at its device's worst case of {us(timing.worst_ns)} it is LATE "
        f"by up to {us(over_ns)}"
    )
    lost: list[str] = []
    acts = any(command.device == timing.device for command in commands)
    if timing.home == "cycle" and acts and end_ns > schedule.cycle.act_ns:
        lost.append("that cycle's command")
    if timing.home == "cycle" and timing.worst_ns > timing.every_ns:
        lost.append(f"the trigger{'s' if timing.worst_ns > 2 * timing.every_ns else ''} after it")
    return [f"{text}; {' and '.join(lost)} would be left out" if lost else text]


def _wander(schedule: Schedule, first: SampleTiming, second: SampleTiming) -> list[str]:
    one, other = schedule.sensor[first.sensor].every, schedule.sensor[second.sensor].every
    if max(one, other) % min(one, other) == 0:
        return []
    cycles = math.lcm(one, other)
    return [
        f"sensors {first.sensor} (every {one}) and {second.sensor} (every {other}) meet in one "
        f"cycle of {cycles} only, each {ms(cycles * schedule.cycle.period_ns)}: their phase beats"
    ]


def _drifts(schedule: Schedule, timing: SampleTiming) -> list[str]:
    if timing.interval_ns <= 0:
        return [
            f"sensor {timing.sensor} is free-running, and its device states no rate: only its age "
            f"shows its phase"
        ]
    period_ns = schedule.cycle.period_ns
    text = (
        f"sensor {timing.sensor} is free-running at "
        f"{1e9 / timing.interval_ns:.4g} Hz, and its phase goes through the cycle "
    )
    beat_s, nominal = beat(period_ns, timing.interval_ns)
    if nominal:
        return [f"{text}once in {beat_s:.3g} s"]
    return [f"{text}only as the clocks differ: once in {beat_s:.3g} s at {_CLOCKS_PPM} ppm"]


def beat(period_ns: int, interval_ns: int) -> tuple[float, bool]:
    """In how many seconds the phase between two rates goes round; True: by design.

    By design: the longer of the two is no multiple of the shorter one, by more than two clocks
    differ anyway. Otherwise it is the time in which the clocks alone make it go round.
    """
    short_ns, long_ns = sorted((period_ns, interval_ns))
    off_ns = abs(long_ns - round(long_ns / short_ns) * short_ns)
    least_ns = long_ns * _CLOCKS_PPM * 1e-6
    return short_ns * long_ns / max(off_ns, least_ns) / 1e9, off_ns > least_ns
