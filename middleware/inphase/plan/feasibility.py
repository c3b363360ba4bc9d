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
- two devices at one address.

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
from collections.abc import Sequence

from inphase.plan.timing import Command, Timing
from inphase.schedule.tables import Schedule

_CLOCKS_PPM = 50  # by which two quartz clocks may differ: no stated rate is more exact


def check(
    schedule: Schedule,
    addresses: dict[str, str],
    timings: Sequence[Timing],
    commands: Sequence[Command],
) -> None:
    """Raise ScheduleError for the first thing that cannot fit. `addresses` are per device."""
    _check_addresses(schedule, addresses)
    for timing in timings:
        if timing.free_running:
            _check_free_running(schedule, timing)
        else:
            _check_deadline(schedule, timing)
        if not timing.free_running and timing.home != "cycle":
            _check_interval(schedule, timing)
    for bus in dict.fromkeys([t.bus for t in timings] + [c.bus for c in commands]):
        exchanges = _exchanges(timings, bus)
        _check_bus(schedule, bus, exchanges)
        _check_commands(schedule, bus, exchanges, [c for c in commands if c.bus == bus])
        for timing in exchanges:
            _check_silence(schedule, timing, exchanges)


def notes(schedule: Schedule, timings: Sequence[Timing], commands: Sequence[Command]) -> list[str]:
    """Notes on things that fit but may hurt, a sentence each."""
    found: list[str] = []
    for timing in timings:
        if timing.free_running:
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


def _exchanges(timings: Sequence[Timing], bus: str) -> list[Timing]:
    """The exchanges of the cycle thread on a bus; a device that speaks unasked takes no turn."""
    return [t for t in timings if t.bus == bus and t.home == "cycle" and not t.free_running]


def _check_addresses(schedule: Schedule, addresses: dict[str, str]) -> None:
    users: dict[str, str] = {}
    for device, address in addresses.items():
        place = os.path.realpath(address) if address.startswith("/") else address
        if place and place in users:
            raise schedule.error(
                f"device.{device}",
                f"{address} is where the device {users[place]!r} is already; give each device "
                f"its own, or one driver that serves both",
            )
        users[place] = device


def _check_free_running(schedule: Schedule, timing: Timing) -> None:
    max_age_ns = schedule.sensor[timing.sensor].max_age_ns
    if timing.typical_ns > max_age_ns:
        raise schedule.error(
            f"sensor.{timing.sensor}.max_age_ms",
            f"{max_age_ns / 1e6:g} ms is less than the {_ms(timing.typical_ns)} that device "
            f"{timing.device!r} states for a sample to come: it would always be MISSING; give more",
        )


def _check_deadline(schedule: Schedule, timing: Timing) -> None:
    if timing.slack_ns >= 0:
        return
    cycle, sensor = schedule.cycle, schedule.sensor[timing.sensor]
    end_ns = timing.trigger_ns + timing.typical_ns
    least = -(-(end_ns - cycle.read_deadline_ns) // cycle.period_ns)
    key = "trigger_us" if sensor.latency_cycles == 0 else "latency_cycles"
    remedy = f"latency_cycles = {least} with every = {max(sensor.every, least + 1)} or more"
    if timing.home == "cycle":
        remedy = "trigger earlier, raise the baud rate, or move read_deadline_us"
    raise schedule.error(
        f"sensor.{timing.sensor}.{key}",
        f"the sample is in hand {_us(end_ns)} after the cycle's start, after its read deadline at "
        f"{_us(timing.deadline_ns)} (device {timing.device!r} states {_us(timing.typical_ns)}); "
        f"{'' if timing.home == 'cycle' else 'give '}{remedy}",
    )


def _check_interval(schedule: Schedule, timing: Timing) -> None:
    """A worker that may still wait for a sample when it has to trigger again cannot keep up."""
    if timing.worst_ns <= timing.every_ns:
        return
    least = -(-timing.worst_ns // schedule.cycle.period_ns)
    raise schedule.error(
        f"sensor.{timing.sensor}.every",
        f"device {timing.device!r} takes up to {_us(timing.worst_ns)} for a sample, and the next "
        f"trigger comes after {_us(timing.every_ns)}: it could not keep up; give every = {least} "
        f"or more",
    )


def _check_bus(schedule: Schedule, bus: str, exchanges: Sequence[Timing]) -> None:
    """The stated exchanges of devices that share a bus, one after the other."""
    if len(exchanges) < 2:
        return
    first = min(exchanges, key=lambda timing: timing.trigger_ns)
    end_ns = first.trigger_ns + sum(timing.typical_ns for timing in exchanges)
    if end_ns > schedule.cycle.read_deadline_ns:
        names = ", ".join(timing.sensor for timing in exchanges)
        raise schedule.error(
            f"sensor.{exchanges[-1].sensor}.trigger_us",
            f"the exchanges of {names} share {bus} and take until {_us(end_ns)}, after the read "
            f"deadline at {_us(schedule.cycle.read_deadline_ns)}; put one on another bus, or lower "
            f"the cycle's rate",
        )


def _check_commands(
    schedule: Schedule, bus: str, exchanges: Sequence[Timing], commands: Sequence[Command]
) -> None:
    """Commands leave one after the other at the act offset; the bus is free from then on."""
    if not commands:
        return
    cycle = schedule.cycle
    names = ", ".join(command.actuator for command in commands)
    end_ns = cycle.act_ns + sum(command.write_ns for command in commands)
    first_ns = min((timing.trigger_ns for timing in exchanges), default=0)
    if end_ns > cycle.period_ns + first_ns:
        raise schedule.error(
            "cycle.act_us",
            f"the command of {names} is on the wire of {bus} until {_us(end_ns)}, into the next "
            f"trigger at {_us(cycle.period_ns + first_ns)}; act earlier, raise the baud rate, or "
            f"lower the cycle's rate",
        )
    for timing in exchanges:
        in_hand_ns = timing.trigger_ns + timing.typical_ns
        act_ns = cycle.act_ns if timing.trigger_ns < end_ns else cycle.act_ns + cycle.period_ns
        if in_hand_ns > act_ns:
            raise schedule.error(
                f"sensor.{timing.sensor}.trigger_us",
                f"its exchange has {bus} from {_us(timing.trigger_ns)} to {_us(in_hand_ns)}, and "
                f"at {_us(act_ns)} the command of {names} leaves there; trigger it at another time",
            )


def _check_silence(schedule: Schedule, timing: Timing, exchanges: Sequence[Timing]) -> None:
    """After a missed reply the bus is quiet for the worst case of whatever may be on it."""
    worst_ns = sum(other.worst_ns for other in exchanges)
    missed = -(-worst_ns // timing.every_ns)
    acquired_ns = timing.trigger_ns if timing.acquired_ns is None else timing.acquired_ns
    sensor, period_ns = schedule.sensor[timing.sensor], schedule.cycle.period_ns
    age_ns = (missed + 1) * timing.every_ns - period_ns + timing.deadline_ns - acquired_ns
    if age_ns > sensor.max_age_ns:
        raise schedule.error(
            f"sensor.{timing.sensor}.max_age_ms",
            f"{sensor.max_age_ms:g} ms is less than the age of {_ms(age_ns)} that a sample reaches "
            f"when one reply is missed: {timing.bus} is then quiet for the worst case of its "
            f"exchanges, {_us(worst_ns)}; give more, or make the worst case shorter",
        )


def _late_at_worst(schedule: Schedule, timing: Timing, commands: Sequence[Command]) -> list[str]:
    end_ns = timing.trigger_ns + timing.worst_ns
    over_ns = end_ns - timing.deadline_ns
    if over_ns <= 0:
        return []
    text = (
        f"sensor {timing.sensor}: at its device's worst case of {_us(timing.worst_ns)} it is LATE "
        f"by up to {_us(over_ns)}"
    )
    lost: list[str] = []
    acts = any(command.device == timing.device for command in commands)
    if timing.home == "cycle" and acts and end_ns > schedule.cycle.act_ns:
        lost.append("that cycle's command")
    if timing.home == "cycle" and timing.worst_ns > timing.every_ns:
        lost.append(f"the trigger{'s' if timing.worst_ns > 2 * timing.every_ns else ''} after it")
    return [f"{text}; {' and '.join(lost)} would be left out" if lost else text]


def _wander(schedule: Schedule, first: Timing, second: Timing) -> list[str]:
    one, other = schedule.sensor[first.sensor].every, schedule.sensor[second.sensor].every
    if max(one, other) % min(one, other) == 0:
        return []
    cycles = math.lcm(one, other)
    return [
        f"sensors {first.sensor} (every {one}) and {second.sensor} (every {other}) meet in one "
        f"cycle of {cycles} only, each {_ms(cycles * schedule.cycle.period_ns)}: their phase beats"
    ]


def _drifts(schedule: Schedule, timing: Timing) -> list[str]:
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


def _us(time_ns: int) -> str:
    return f"{time_ns / 1000:.0f} us"


def _ms(time_ns: int) -> str:
    return f"{time_ns / 1e6:.4g} ms"
