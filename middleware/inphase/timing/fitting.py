"""A timing model out of a recording: what was measured on the robot, for the simulator to draw
from."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inphase.recording.recording import Recording
from inphase.schedule.document import toml_value
from inphase.timing.cycle_series import CycleSeries
from inphase.timing.fitted import MANY, NS_PER_MS, Fitted, distribution, share
from inphase.timing.free_fitting import free_running
from inphase.timing.free_samples import FreeSamples
from inphase.timing.outcomes import Outcomes
from inphase.timing.recorded_timing import RecordedTiming, TriggeredTiming
from inphase.timing.tally import Tally

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def of_recording(path: Path, watch: Callable[[int, int], None] = lambda done, all_: None) -> str:
    """The TOML text of a timing model. A comment says what is left out, since no frame tells it.

    watch: is told how many frames of how many are done. Raises RecordingError.
    """
    with (
        Recording(path) as recording,
        RecordedTiming(recording, watch=lambda done: watch(done, len(recording))) as timing,
    ):
        lines = _heading(recording, timing)
        for one in tables(timing):
            lines += ["", *(f"# {text}" for text in one.remarks)]
            if any(value is not None for value in one.values.values()):
                lines += _lines(one)
        return "\n".join(lines)


def _lines(table: Fitted) -> Iterator[str]:
    """The table in TOML, with bare keys: it is for people, too."""
    parts = (part if _BARE.fullmatch(part) else json.dumps(part) for part in table.name)
    yield f"[{'.'.join(parts)}]"
    for key, value in table.values.items():
        if isinstance(value, dict):
            ((kind, numbers),) = value.items()
            yield f"{key} = {{ {kind} = {toml_value(numbers)} }}"
        elif value is not None:
            yield f"{key} = {toml_value(value)}"


def _heading(recording: Recording, timing: RecordedTiming) -> list[str]:
    found = [
        f"# timing of {recording.layout.robot}, from {timing.frames} frames of "
        f"{timing.schedule.period_ns / NS_PER_MS:g} ms in {recording.path.name} (schedule "
        f"{recording.layout.hash})"
    ]
    if recording.state != "COMPLETE":
        found.append(f"# the file is {recording.state}: what is missing in it is not counted")
    return found


def tables(timing: RecordedTiming) -> Iterator[Fitted]:
    """Of each sensor, the policy, the actuators and the host."""
    wake, left_out = _wake(timing)
    for sensor in timing.sensors:
        if not sensor.facts.device:
            continue
        if isinstance(sensor, FreeSamples):
            yield free_running(sensor, timing.schedule.period_ns)
        else:
            yield _triggered(timing, sensor, wake)
    yield _policy(timing)
    names = ", ".join(name for name, _, _ in timing.recording.layout.actuators)
    if names:
        text = f"actuators ({names}): no frame says when a command takes effect; give delay_ms"
        yield Fitted(("actuators",), {}, [text])
    remarks = [f"host: {wake.total} wakes"]
    if left_out:
        remarks.append(f"{left_out} cycles were left out because the one before took too long")
    yield Fitted(("host",), {"wake_late_ms": distribution(wake)}, remarks)


def counted(series: CycleSeries, every: int = 1) -> Tally:
    """All durations of a series."""
    made = Tally()
    for block in series.blocks(every):
        made.add(block)
    return made


def _wake(timing: RecordedTiming) -> tuple[Tally, int]:
    """Lateness of the wakes, and cycles that were left out by another cause."""
    wake = counted(timing.wake_late)
    others = 0
    for block in timing.left_out.blocks():
        some = block[block > 0]
        own = some[some < 1 << 32]
        wake.add((2 * own - 1) * timing.schedule.period_ns // 2)
        others += int((some[some >= 1 << 32] - (1 << 32)).sum())
    return wake, others


def _triggered(timing: RecordedTiming, sensor: TriggeredTiming, wake: Tally) -> Fitted:
    facts = sensor.facts
    found = Outcomes(sensor, timing.schedule.period_ns)
    low_ns, high_ns = timing.late_bounds_ns(facts)
    found.took.add(np.full(found.late, (low_ns + high_ns) // 2))
    remarks = [f"{facts.name}: {found.took.total} samples of {found.fired} triggers"]
    if found.late:
        remarks.append(
            f"{found.late} came after their frame and {low_ns / NS_PER_MS:g} to "
            f"{high_ns / NS_PER_MS:g} ms after the trigger: they count in the middle"
        )
    if found.doubted:
        remarks.append(
            f"{found.doubted} were RECOVERING: nobody knows which trigger they answer, so they do "
            f"not count in the latency"
        )
    if found.refused:
        remarks.append(f"{found.refused} were refused, and do not count")
    if found.offline:
        remarks.append(f"in {found.offline} cycles it was OFFLINE, which do not count")
    if not found.took.total:
        remarks.append("without a sample its latency is not known")
    elif found.took.total < MANY:
        remarks.append("these are too few for a latency")
    clock = _clock(timing, facts.name)
    if clock is not None:
        remarks.append(
            f"its clock leads by {clock['drift_ppb'] / 1000:g} ppm, within "
            f"{clock['drift_error_ppb'] / 1000:g} ppm"
        )
    many = found.fired >= MANY
    runs = found.standing
    values = {
        "latency_ms": distribution(found.took, less=None if facts.is_stamped else wake),
        "dropout": share(found.dropped / found.fired) if many and found.dropped else None,
        "freeze": share(len(runs) / max(1, found.moving)) if many and runs else None,
        "freeze_samples": _lengths(runs) if many and runs else None,
        "drift_ppm": clock["drift_ppb"] / 1000 if clock is not None else None,
    }
    return Fitted(("sensors", facts.name), values, remarks)


def _clock(timing: RecordedTiming, sensor: str) -> dict[str, int] | None:
    """The core's last word on the clock of a device that stamps; None: it has none, or the file
    does not say."""
    try:
        clocks = json.loads((timing.recording.end or {})["clocks"])
        found = {key: int(clocks[sensor][key]) for key in ("drift_ppb", "drift_error_ppb")}
    except (KeyError, ValueError, TypeError):
        return None
    return found


def _lengths(runs: list[int]) -> Any:
    """How long something lasted, in samples."""
    ordered = sorted(runs)
    if ordered[0] == ordered[-1]:
        return ordered[0]
    step = max(1, len(ordered) // 1000)
    return {"values": ordered[::step]}


def _policy(timing: RecordedTiming) -> Fitted:
    answers = timing.answers
    inference = counted(answers.inference, answers.every)
    remarks = [f"policy: {answers.count} answers, each from its frame or the answer before it"]
    if answers.guessed:
        low, high = answers.guess_low_ns / NS_PER_MS, answers.guess_high_ns / NS_PER_MS
        part = answers.guessed / (answers.count + answers.guessed)
        remarks.append(
            f"{answers.guessed} more were too late for their act, and no frame tells them: they "
            f"count as the answers around them leave room, between {low:.3g} and {high:.3g} ms. So "
            f"there {part:.2%} of the inference times are bounded, and not measured"
        )
    if answers.censored:
        remarks.append(
            f"{answers.censored} frames are censored: the policy was busy and never took them, or "
            f"its answer came too late. They do not count, so long times may be too few"
        )
    if answers.missed:
        remarks.append(f"{answers.missed} cycles had no command of their own")
    return Fitted(("policy",), {"inference_ms": distribution(inference)}, remarks)
