"""The verdict on a recorded run in words, and the losses of its file."""

import json
from collections import Counter
from typing import Any

from inphase.command.report.measures import ACT, COMMAND, WAKE, Measures
from inphase.command.report.numbers import quantiles
from inphase.frames.meanings import REASONS as REASON_MEANINGS
from inphase.frames.meanings import STATUSES as MEANINGS
from inphase.frames.record_layout import CAUSES, REASONS, STATES, STATUSES, name_of
from inphase.recording import facts
from inphase.runtime.words import late_words
from inphase.runtime.words.policy_notices import milliseconds as ms
from inphase.runtime.words.verdict import (
    BAD,
    BAD_OF_GRID,
    FAIR,
    FAIR_OF_GRID,
    Finding,
    graded,
    percent,
)


def verdict(found: Measures) -> list[str]:
    """Sentences, the overall one first: `good`, `fair` or `not good`."""
    things = [*_end(found), *_machine(found), *_sensors(found), *_policy(found)]
    if not things:
        return [_good(found)]
    grade = "not good" if any(one.is_bad for one in things) else "fair"
    count = "one thing" if len(things) == 1 else f"{len(things)} things"
    things.sort(key=lambda one: not one.is_bad)
    return [f"{grade}, with {count} to look at", *(one.text for one in things)]


def _end(found: Measures) -> list[Finding]:
    """Stops and latches."""
    things = []
    latched, stops = found.flags["LATCHED"], found.flags["ESTOP"]
    if found.last["state"] == STATES.index("uncontrolled"):
        things.append(
            Finding(True, "At the end an actuator is not known to be at rest (uncontrolled)")
        )
    if stops:
        things.append(Finding(True, f"An emergency stop held in {stops} frames"))
    if latched > stops:
        reasons = [event for event in found.events if "because of" in event.text]
        first = f"; from cycle {reasons[0].cycle} on: {reasons[0].text}" if reasons else ""
        things.append(Finding(True, f"Motion was latched in {latched} frames{first}"))
    elif found.last["reason"] and found.last["state"] == STATES.index("faulted"):
        reason = name_of(found.last["reason"], REASONS)
        things.append(Finding(True, f"Motion is latched ({reason}): `inphase explain {reason}`"))
    return things


def _machine(found: Measures) -> list[Finding]:
    wake = quantiles(found.quantities[WAKE, ""].all())
    late = f", and one began {ms(wake.max)} late" if wake else ""
    rights = (
        "grant the real-time rights, which it did not have (`inphase check SCHEDULE` prints how), "
        if found.flags["NOT_REALTIME"]
        else ""
    )
    thread = Counter(dict.fromkeys(CAUSES, 0))
    thread.update(one.cause for one in found.late.values() if one.phase not in ("read", "command"))
    what, remedy = "The machine was too busy", "close other programs, or give a lower rate_hz"
    if late_words.are_ours(thread):
        what, remedy = "This run needs more of the machine than it has", "give a lower rate_hz"
    text = (
        f"{what}: it left out {found.skipped} cycles{late}, for cycles of "
        f"{ms(found.schedule.period_ns)}. Try: {rights}{remedy}"
    )
    return graded(found.skipped, found.frames + found.skipped, FAIR_OF_GRID, BAD_OF_GRID, text)


def _sensors(found: Measures) -> list[Finding]:
    things = []
    for sensor in found.schedule.sensors:
        due = due_statuses(found, sensor.name)
        total, fresh = sum(due.values()), due["FRESH"]
        wrong = {name: count for name, count in due.items() if count and name != "FRESH"}
        if not wrong:
            continue
        worst = max(wrong, key=lambda name: wrong[name])
        device = f" (device {sensor.device})" if sensor.device else ""
        counts = ", ".join(f"{name} {count}" for name, count in wrong.items())
        text = (
            f"Sensor {sensor.name}{device} was FRESH in {100 * fresh / total:.3g} % of the frames "
            f"in which it was due ({counts}). {worst}: {MEANINGS[worst].meaning}. "
            f"Try: `inphase explain {worst}`"
        )
        things += graded(total - fresh, total, FAIR, BAD, text)
    return things


def due_statuses(found: Measures, sensor: str) -> dict[str, int]:
    """Of the frames in which a sensor was due, by name. A run's first frames come before its first
    sample was due, and are left out."""
    counts = dict(zip(STATUSES, found.statuses[sensor].tolist(), strict=True))
    if found.first["number"] == 0:
        latency = next(s.latency_cycles for s in found.schedule.sensors if s.name == sensor)
        counts["MISSING"] -= min(counts["MISSING"], latency)
    del counts["HELD"]
    return counts


def _policy(found: Measures) -> list[Finding]:
    if not found.acts or (not found.schedule.has_policy and not _commands(found)):
        return []
    missed, invalid = found.act_flags["MISSED"], found.act_flags["INVALID"]
    reasons = ", ".join(f"{name} {count}" for name, count in found.reasons.items())
    told = f" ({reasons})" if reasons else ""
    commonest = max(found.reasons, key=lambda name: found.reasons[name], default="silent")
    remedy = f"Try: {_remedy(commonest)}"
    waited = quantiles(found.quantities[COMMAND, ""].all())
    slow = f" Commands came {ms(waited.p99)} after their frame (p99)." if waited else ""
    return [
        *graded(missed, found.acts, FAIR, BAD,
                f"{percent(missed / found.acts)} of the acts had no command{told}.{slow} {remedy}"),
        *graded(invalid, found.acts, FAIR, BAD,
                f"{invalid} commands were refused{told}. {remedy}"),
    ]  # fmt: skip


def _remedy(reason: str) -> str:
    """Of acts without a command."""
    words = REASON_MEANINGS[reason].remedy_of_command if reason in REASON_MEANINGS else ""
    return words or f"`inphase explain {reason}`"


def _commands(found: Measures) -> int:
    """Acts with a command of their own."""
    return found.acts - found.act_flags["MISSED"] - found.act_flags["INVALID"]


def _good(found: Measures) -> str:
    parts = []
    wake = quantiles(found.quantities[WAKE, ""].all())
    ran = f"{found.frames} cycles ran"
    if found.skipped:
        ran += f", {found.skipped} were left out"
    parts.append(f"{ran}, each within {ms(wake.max)} of its time" if wake else ran)
    if found.acts and _commands(found) > 0:
        parts.append(f"{percent(_commands(found) / found.acts)} of the commands were in time")
    shares = []
    for sensor in found.schedule.sensors:
        due = due_statuses(found, sensor.name)
        shares.append(due["FRESH"] / max(1, sum(due.values())))
    if shares:
        parts.append(f"every sensor was FRESH in at least {percent(min(shares))} of its frames")
    return f"good: {'; '.join(parts)}"


# ---- losses ------------------------------------------------------------------------------------


def losses(found: Measures) -> list[str]:
    """All that is missing in the file, in words; empty: nothing is known to be."""
    recording = found.recording
    end = recording.end or {}
    texts = []
    if recording.state == "CUT":
        texts.append(
            "The file was cut: it has no end. This page shows the frames that are in it. "
            "`inphase recover` makes a whole file of it"
        )
    if found.missing_frames:
        texts.append(
            f"{found.missing_frames} frames between the first and the last are not in the file"
        )
    if int(end.get("missed_frames", 0)):
        texts.append(f"The recorder was too slow for {end['missed_frames']} frames")
    for key, what in (
        ("recycled_samples", "were recycled before the recorder read them"),
        ("lost_messages", "found no room on the disk"),
    ):
        lost = {name: count for name, count in _counts(end.get(key)).items() if count}
        texts += [f"{count} messages of {name} {what}" for name, count in lost.items()]
    texts += [f"Gap: {_gap(gap)}" for gap in recording.gaps]
    texts += [_sentence(trouble) for trouble in recording.troubles]
    if "recovered_from" in end:
        texts.append(f"The file was made by `inphase recover`, of {end['recovered_from']}")
        texts += [_sentence(text) for text in _list(end.get("recovered"))]
    if recording.state == facts.INCOMPLETE and not texts:
        texts.append("The recorder says that something is missing (INCOMPLETE)")
    return texts


def notes(found: Measures) -> list[str]:
    """Other limits of the page; none of them is a loss."""
    recording, texts = found.recording, []
    part = int(recording.metadata.get(facts.PART, {}).get("number", 1))
    if part > 1:
        texts.append(f"This file is part {part} of a recording in several files")
    elif found.first["number"] > 0:
        texts.append(f"The recording began with frame {found.first['number']} of the run")
    if (recording.end or {}).get("next"):
        texts.append(f"The recording goes on in {(recording.end or {})['next']}")
    if found.answers_without_latch:
        texts.append(
            f"{found.answers_without_latch} commands are not in `latch to command`: their frame is "
            "not known or not in the file"
        )
    if found.schedule.act_ns is None or not found.quantities[ACT, ""].count:
        texts.append("Nothing was acted, or the schedule does not say when an act was due")
    return texts


def _counts(text: str | None) -> dict[str, Any]:
    found = _read(text)
    return found if isinstance(found, dict) else {}


def _list(text: str | None) -> list[str]:
    found = _read(text)
    return [str(one) for one in found] if isinstance(found, list) else []


def _read(text: str | None) -> Any:
    """None for a text that is not readable: then the rest of the page has what it has."""
    try:
        return json.loads(text or "null")
    except json.JSONDecodeError:
        return None


def _gap(gap: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in gap.items())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
