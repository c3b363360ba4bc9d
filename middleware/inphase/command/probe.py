"""A device measured, for `inphase probe`: one sensor runs alone, and its samples are timed.

The sensor runs in the real runtime, observing, on a schedule of its own that is made from the
user's. Device, grid, trigger and home are the same. The read deadline is as late as it can be, so
that a sample that would have been LATE is measured too. A free-running sensor is looked at every
millisecond.

Keys of the result (times in nanoseconds; each distribution has count, min, p50, p90, p99, p999,
max):

    robot, sensor, device, driver, home, latched, period_ns, every
    cycles, skipped, due (frames that should have a new sample), samples, lost (due, without one),
    unseen (samples that no frame showed: late ones, behind which another came)
    status.STATUS (counts of frames)
    trigger_to_sample_ns, jitter_ns (of arrival against trigger: how far from the median),
    arrival_ns (from the start of the trigger's cycle), interval_ns (from sample to sample)
    histogram: list of from_ns, to_ns, count; of trigger_to_sample_ns, or of interval_ns if latched
    acquired (model, clock, or null: not known), acquired_after_ns (from the trigger)
    stated_min: its key in the driver (reply_min_ns, or latency_min_ns of calls), and in force: how
    long after its trigger a sample comes at the least, which others are dropped for; null: latched
    clock: drift_ppb, uncertainty_ns, exchanges, rejected, resets; null: the device has none
    suggested: read_deadline_us, latency_cycles, max_age_ms, driver (stated_min's key with what the
    driver may state; null: latched), rules (a sentence each); null without samples
"""

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inphase import schedule as schedules
from inphase.episodes.runner import Runner
from inphase.errors import ScheduleError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.record_layout import STATUSES
from inphase.plan import plan as planning
from inphase.schedule import Schedule
from inphase.schedule.document import toml_table

_QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_BINS = 24
_ENOUGH = 1_000  # samples from which p99.9 says more than the largest
_ROOM_PART, _ROOM_NS = 4, 100_000  # a deadline leaves a quarter more, and at least 100 us
_LATCHED_US = 1_000  # a frame shows the newest sample alone: frames come faster than samples
_LEAST_PART = 2  # half of the quickest sample: a quicker one may come yet
_BRIDGED = 2  # lost samples in a row that max_age_ms bridges
_NAME_MAX = 32


def probe(
    schedule: Schedule,
    sensor: str,
    cycles: int,
    show: Callable[[int], None] = lambda _: None,
    look: Callable[[Frame], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the sensor alone for so many cycles, or until ^C, and sum up. `show`: cycles done.
    `look`: each frame.

    Raises ScheduleError, DeviceError, RealtimeError, StoreError, RuntimeFault.
    """
    if sensor not in schedule.sensor:
        known = ", ".join(schedule.sensor)
        raise ScheduleError(f"{schedule.path}: no sensor {sensor!r}; it has: {known}")
    with tempfile.TemporaryDirectory(prefix="inphase-probe-") as folder, beside(schedule):
        path = Path(folder) / "probe.toml"
        path.write_text(alone(schedule, sensor))
        probed = schedules.load(path)
        finer = schedule.cycle.period_ns / probed.cycle.period_ns
        runner = Runner(probed, observe=True, cycles=round(cycles * finer))
        timed = Timed(sensor)
        with contextlib.suppress(KeyboardInterrupt), runner as robot:
            reader = store.Reader(robot.store_path)
            try:
                for frame in robot:
                    timed.take(frame)
                    look(frame)
                    show(int((frame.cycle + 1) / finer))
                timed.facts = reader.worker(0)
            finally:
                reader.close()
    assert runner.summary is not None
    return sum_up(schedule, probed, timed, runner.summary)


@contextlib.contextmanager
def beside(schedule: Schedule) -> Iterator[None]:
    """Children find modules beside the user's schedule: an emulator, a driver."""
    before = os.environ.get("PYTHONPATH")
    folder = str(schedule.path.resolve().parent)
    os.environ["PYTHONPATH"] = folder if before is None else f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def alone(schedule: Schedule, name: str) -> str:
    """A schedule with one sensor of another, as TOML."""
    sensor = schedule.sensor[name]
    device = schedule.device[sensor.device]
    period_us = schedule.cycle.period_ns / 1000
    if sensor.free_running:
        period_us = min(period_us, _LATCHED_US)
    room_us = max(5, int(period_us / 20))
    cycle = msgspec.to_builtins(schedule.cycle) | {
        "rate_hz": None,
        "period_us": period_us,
        "read_deadline_us": int(period_us) - 2 * room_us,
        "act_us": int(period_us) - room_us,
    }
    latency_cycles = 0 if sensor.free_running else sensor.every - 1
    silence_ms = (latency_cycles + 3) * sensor.every * period_us / 1000
    probed = msgspec.to_builtins(sensor) | {
        "latency_cycles": latency_cycles,
        "max_age_ms": max(sensor.max_age_ms, silence_ms),
    }
    driver, _, call = device.driver.partition(":")
    if driver.endswith(".py"):
        driver = str((schedule.path.parent / driver).resolve())
    table = {key: value for key, value in msgspec.to_builtins(device).items() if key != "options"}
    table["driver"] = f"{driver}:{call}" if call else driver
    if not device.priority:
        del table["priority"]
    parts = [
        f'name = "{f"probe-{schedule.name}"[:_NAME_MAX]}"\n',
        toml_table(("cycle",), cycle),
        toml_table(("device", sensor.device), table | device.options),
        toml_table(("sensor", name), probed),
    ]
    if schedule.emulator is not None:
        emulator = {"module": schedule.emulator.module} | schedule.emulator.options
        parts.append(toml_table(("emulator",), emulator))
    return "".join(parts)


class Timed:
    """The samples of one sensor as its frames show them, each once."""

    def __init__(self, sensor: str) -> None:
        self._sensor = sensor
        self._newest = -1
        self.unseen = 0
        self.samples = 0
        self.facts: dict[str, int] | None = None
        """of the sensor's worker; None: it has none"""
        self.triggered: list[tuple[int, int, int]] = []
        """start of the trigger's cycle, trigger, arrival"""
        self.received: list[int] = []
        self.acquired: list[tuple[int, int]] = []
        """acquisition, and when it was asked for or (free-running) came"""
        self.has_clock = False

    def take(self, frame: Frame) -> None:
        """Look at the next frame."""
        sample = frame[self._sensor]
        if sample.sequence <= self._newest:
            return
        self.unseen += sample.sequence - self._newest - 1
        self._newest = sample.sequence
        self.samples = sample.sequence + 1
        late_unknown = sample.status != "FRESH" and self.facts is None
        if sample.received_ns is None or (late_unknown and sample.cycle is not None):
            return  # a reply that was found after its deadline came at a time that nobody knows
        self.received.append(sample.received_ns)
        since_ns = sample.received_ns
        if sample.cycle is not None and sample.triggered_ns is not None:
            due_ns = frame.due_ns - (frame.cycle - sample.cycle) * frame.layout.period_ns
            self.triggered.append((due_ns, sample.triggered_ns, sample.received_ns))
            since_ns = sample.triggered_ns
        if sample.acquired_ns is not None:
            self.acquired.append((sample.acquired_ns, since_ns))
            self.has_clock = self.has_clock or sample.uncertainty_ns > 0


def quantiles(values: Any) -> dict[str, int]:
    """A whole distribution as the summaries say it: nearest ranks, so that each is a value seen."""
    found = np.sort(np.asarray(values, np.int64))
    n = len(found)
    if n == 0:
        return {"count": 0, **dict.fromkeys(_QUANTILES, 0)}
    ranks = {name: max(0, math.ceil(part * n) - 1) for name, part in _QUANTILES.items()}
    return {"count": n, **{name: int(found[rank]) for name, rank in ranks.items()}}


def histogram(values: Any) -> list[dict[str, int]]:
    """Counts in bins of one width from the smallest value to p99.9, and one for what is above."""
    found = np.asarray(values, np.int64)
    if len(found) == 0:
        return []
    facts = quantiles(found)
    low, high = facts["min"], facts["p999"]
    width = max(1, -(-(high + 1 - low) // _BINS))
    edges = list(range(low, high + 1, width))
    bins = [
        {
            "from_ns": edge,
            "to_ns": edge + width,
            "count": int(np.count_nonzero((found >= edge) & (found < edge + width))),
        }
        for edge in edges
    ]
    last = edges[-1] + width
    above = int(np.count_nonzero(found >= last))
    return [*bins, *([{"from_ns": last, "to_ns": facts["max"] + 1, "count": above}] * (above > 0))]


def sum_up(
    schedule: Schedule, probed: Schedule, timed: Timed, summary: dict[str, Any]
) -> dict[str, Any]:
    """The result of a probe of a schedule's sensor, which ran as in `probed`."""
    name = next(iter(summary["sensors"]))
    sensor = schedule.sensor[name]
    status = summary["sensors"][name]["status"]
    due, triggered, arrived = np.array(timed.triggered, np.int64).reshape(-1, 3).T
    took = arrived - triggered
    interval = np.diff(np.array(timed.received, np.int64))
    acquired, since = np.array(timed.acquired, np.int64).reshape(-1, 2).T
    due_count = 0 if sensor.free_running else sum(status.values()) - status["HELD"]
    shown = interval if sensor.free_running else took
    facts = timed.facts
    result: dict[str, Any] = {
        "robot": schedule.name,
        "sensor": name,
        "device": sensor.device,
        "driver": schedule.device[sensor.device].driver,
        "home": schedule.device[sensor.device].home or ("cycle" if facts is None else "process"),
        "latched": sensor.free_running,
        "period_ns": probed.cycle.period_ns,
        "every": sensor.every,
        "cycles": summary["cycles"],
        "skipped": summary["skipped"],
        "due": due_count,
        "samples": timed.samples,
        "lost": max(0, due_count - timed.samples),
        "unseen": timed.unseen,
        "status": {key: status[key] for key in STATUSES if status[key]},
        "trigger_to_sample_ns": quantiles(took),
        "jitter_ns": quantiles(np.abs(shown - np.median(shown)) if len(shown) else shown),
        "arrival_ns": quantiles(arrived - due),
        "interval_ns": quantiles(interval),
        "histogram": histogram(shown),
        "acquired": ("clock" if timed.has_clock else "model") if timed.acquired else None,
        "acquired_after_ns": quantiles(acquired - since),
        "stated_min": None if sensor.free_running else _stated_min(probed),
        "clock": _clock(facts),
        "events": summary["events"],
    }
    result["suggested"] = suggest(schedule, result) if timed.received else None
    return result


def _stated_min(probed: Schedule) -> dict[str, Any]:
    plan = planning.make(probed).sensors[0]
    return {"key": plan.earliest_key, "in_force": plan.earliest_ns}


def _clock(facts: dict[str, int] | None) -> dict[str, int] | None:
    if facts is None or not facts["clock_exchanges"]:
        return None
    keys = ("exchanges", "rejected", "resets", "drift_ppb", "uncertainty_ns")
    return {key: facts[f"clock_{key}"] for key in keys}


def _worst(values: dict[str, int]) -> tuple[int, str]:
    """Of a distribution, what a deadline is made for, and its name."""
    if values["count"] >= _ENOUGH:
        return values["p999"], "p99.9"
    return values["max"], "the largest"


def suggest(schedule: Schedule, result: dict[str, Any]) -> dict[str, Any]:
    """Deadlines that follow from what was measured, with the rules by which they do."""
    if result["latched"]:
        return _suggest_free_running(result)
    cycle, period_ns = schedule.cycle, result["period_ns"]
    arrival_ns, which = _worst(result["arrival_ns"])
    took_ns = _worst(result["trigger_to_sample_ns"])[0]
    room_ns = max(took_ns // _ROOM_PART, _ROOM_NS)
    due_ns = arrival_ns + room_ns
    deadline_ns, latency_cycles = -(-due_ns // 10_000) * 10_000, 0
    if deadline_ns >= cycle.act_ns:
        latency_cycles = max(1, -(-(due_ns - cycle.read_deadline_ns) // period_ns))
        deadline_ns = cycle.read_deadline_ns
    missing = result["due"] - result["arrival_ns"]["count"]
    rules = [
        f"due {due_ns / 1000:.0f} us after its cycle's start: {which} of the arrivals "
        f"({arrival_ns / 1000:.0f} us) and {room_ns / 1000:.0f} us of room, a quarter of "
        f"trigger to sample and at least {_ROOM_NS // 1000} us"
    ]
    if missing * _ENOUGH > result["due"]:
        rules.append(
            f"{missing} of {result['due']} came after the latest possible deadline, or never: "
            f"more than one in {_ENOUGH}, and these suggestions leave them out; find the cause"
        )
    if latency_cycles:
        rules.append(
            f"later than act_us = {cycle.act_us}, so in frame n + {latency_cycles} of trigger n, "
            f"which takes every = {latency_cycles + 1} or more; read_deadline_us stays"
        )
    age_ns = latency_cycles * period_ns + deadline_ns
    if result["acquired"]:
        trigger_ns = schedule.sensor[result["sensor"]].trigger_ns
        age_ns -= trigger_ns + result["acquired_after_ns"]["min"]
    every = max(result["every"], latency_cycles + 1)
    max_age_ns = age_ns + _BRIDGED * every * period_ns
    rules.append(
        f"max_age_ms: {age_ns / 1e6:.2f} ms when it is latched at that deadline, and "
        f"{_BRIDGED} triggers of {every * period_ns / 1e6:g} ms that may be lost in a row"
    )
    driver, rule = _suggest_earliest(result)
    return {
        "read_deadline_us": deadline_ns // 1000,
        "latency_cycles": latency_cycles,
        "max_age_ms": math.ceil(max_age_ns / 1e5) / 10,
        "driver": driver,
        "rules": [*rules, rule],
    }


def _suggest_earliest(result: dict[str, Any]) -> tuple[dict[str, int], str]:
    """The earliest time of a sample that the driver may state. It is at most half of the quickest,
    unless more is in force already: a true sample that came sooner would be dropped."""
    key, in_force_ns = result["stated_min"]["key"], result["stated_min"]["in_force"]
    took = result["trigger_to_sample_ns"]
    half_ns = took["min"] // _LEAST_PART // 1000 * 1000
    if in_force_ns >= half_ns:
        return {key: in_force_ns}, (
            f"{key}: {in_force_ns / 1000:.1f} us is in force, stated or the time of the bytes, and "
            f"no less than half of the quickest sample ({took['min'] / 1000:.1f} us)"
        )
    return {key: half_ns}, (
        f"{key}: half of the quickest of {took['count']} samples ({took['min'] / 1000:.1f} us); "
        f"{in_force_ns / 1000:.1f} us is in force. A sooner sample is dropped, as if it "
        f"answered an earlier trigger: state less if the device can be quicker than here"
    )


def _suggest_free_running(result: dict[str, Any]) -> dict[str, Any]:
    interval_ns, which = _worst(result["interval_ns"])
    behind_ns = max(0, -result["acquired_after_ns"]["min"])
    max_age_ns = behind_ns + (_BRIDGED + 1) * interval_ns
    return {
        "read_deadline_us": None,
        "latency_cycles": 0,
        "max_age_ms": math.ceil(max_age_ns / 1e5) / 10,
        "driver": None,
        "rules": [
            "read_deadline_us: any; the newest sample before it is taken",
            f"max_age_ms: {behind_ns / 1e6:.2f} ms from acquisition to arrival, and "
            f"{_BRIDGED + 1} times {which} of the intervals ({interval_ns / 1e6:.2f} ms): "
            f"{_BRIDGED} lost in a row are bridged",
        ],
    }
