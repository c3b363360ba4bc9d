"""The page of a report: one file that names nothing outside, made of words, tables and pictures."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any

from inphase.command.report import causes, findings
from inphase.command.report.figures import MADE_BY, STATUS_COLOURS, Drawing, duration
from inphase.command.report.lateness import OF_A_KIND
from inphase.command.report.measures import Measures
from inphase.command.report.numbers import Quantiles, quantiles
from inphase.frames.record_layout import FRAME_FLAGS, REASONS, STATES, STATUSES
from inphase.recording import facts

MARK = f'<meta name="generator" content="{MADE_BY}">'
"""stands in the first bytes of every page"""
_SHOWN = 30
"""of the worst cycles in the table; the picture of cycles has all"""
# a browser that keeps this loads nothing, whatever the page has in it
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write(found: Measures, pictures: Sequence[Drawing]) -> str:
    """The page's text."""
    recording = found.recording
    title = f"{recording.layout.robot}: {recording.path.name}"
    body = [
        _top(found, title),
        _section("Worst cycles", _worst(found)),
        _section("Any cycle", _cycles(found)),
        _section("Times", _quantiles(found), _pictures(pictures, ("distribution", "over-time"))),
        _section("Sensors", _statuses(found), _pictures(pictures, ("statuses",))),
        _section("Commands", _commands(found), _pictures(pictures, ("command",))),
        _section("States", _events(found)),
        _section("File and machine", _facts(found)),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            MARK,
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_file('page.css')}</style></head><body>",
            *body,
            f'<script type="application/json" id="moments">{_moments(found)}</script>',
            f"<script>{_file('page.js')}</script>",
            "</body></html>",
            "",
        ]
    )


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


# ---- words -------------------------------------------------------------------------------------


def _top(found: Measures, title: str) -> str:
    """The verdict, then what is missing in the file."""
    first, *things = findings.verdict(found)
    grade = first.partition(":")[0].partition(",")[0]
    lost, notes = findings.losses(found), findings.notes(found)
    missing = (
        f"<h2>Missing in this file ({escape(found.recording.state)})</h2>{_list(lost)}"
        if lost
        else f"<p>Nothing is missing in this file ({escape(found.recording.state)}).</p>"
    )
    period_ms = found.schedule.period_ns / 1e6
    return (
        f"<header><h1>{escape(title)}</h1>"
        f"<p>{found.frames} frames, {found.seconds:.6g} s, a cycle of {period_ms:g} ms</p></header>"
        f'<section class="verdict {grade.replace(" ", "-")}">'
        f"<p><strong>{_words(first)}</strong></p>{_list(things)}</section>"
        f'<section class="{"losses" if lost else "whole"}">{missing}{_list(notes)}</section>'
    )


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{_words(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _words(text: str) -> str:
    """A text in which `commands` look like commands."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>{''.join(parts)}</section>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], name: str) -> str:
    """Cells are texts; those that begin with < are HTML."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table id="{name}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _cell(cell: Any) -> str:
    text = str(cell)
    number = ' class="number"' if re.fullmatch(r"[\d.e+-]+( \S+)?", text) else ""
    return f"<td{number}>{text if text.startswith('<') else escape(text)}</td>"


# ---- sections ----------------------------------------------------------------------------------


def _worst(found: Measures) -> str:
    if not found.worst:
        return "<p>No cycle lost time in any phase.</p>"
    kinds = Counter((late.phase, late.sensor) for late in found.worst)
    seen: Counter[tuple[str, str]] = Counter()
    rows: list[tuple[str, str, str, str]] = []
    for late in found.worst:
        kind = (late.phase, late.sensor)
        seen[kind] += 1
        if seen[kind] > OF_A_KIND or len(rows) == _SHOWN:
            continue
        text = causes.of(late, found)
        if seen[kind] == OF_A_KIND < kinds[kind]:
            text += f" The list has {kinds[kind] - OF_A_KIND} more like this one."
        cycle = f'<button class="cycle" data-cycle="{late.cycle}">{late.cycle}</button>'
        rows.append((cycle, duration(late.late_ns), late.phase, text))
    notes = [text for text in (causes.by_cause(found), causes.note(found)) if text]
    return _table(("cycle", "lost", "phase", "cause"), rows, "worst") + "".join(
        f'<p class="note">{_words(text)}</p>' for text in notes
    )


def _cycles(found: Measures) -> str:
    have = (
        "All cycles are here."
        if found.waterfall.has_all
        else f"The {len(found.worst)} worst cycles, the first and the last are here, each with its "
        "neighbours: the page would be too large with all."
    )
    return (
        f"<p>{have} Arrow keys step.</p>"
        '<div class="steps"><button id="before">◀</button>'
        '<label>cycle <input id="cycle" type="number"></label>'
        '<button id="after">▶</button><button id="worse">◀ worse</button>'
        '<button id="better">next worst ▶</button></div>'
        '<p id="told"></p><div id="waterfall"><noscript>This picture needs JavaScript.</noscript>'
        "</div>"
    )


def _quantiles(found: Measures) -> str:
    rows = []
    for one in found.quantities.values():
        numbers = quantiles(one.all())
        cells = ["0"] + ["-"] * 6 if numbers is None else _cells(numbers)
        rows.append((f"{one.name} {one.part}".strip(), *cells, one.meaning))
    columns = ("time", "count", "min", "p50", "p90", "p99", "p99.9", "max", "meaning")
    return _table(columns, rows, "quantiles")


def _cells(numbers: Quantiles) -> list[str]:
    times = [f'<span data-ns="{ns}">{duration(ns)}</span>' for ns in numbers[1:]]
    return [str(numbers.total), *times]


def _pictures(pictures: Sequence[Drawing], kinds: tuple[str, ...]) -> str:
    shown = [
        f"<figure><figcaption>{escape(one.title)}</figcaption>{one.svg()}</figure>"
        for one in pictures
        if any(one.name.startswith(kind) or one.name.endswith(kind) for kind in kinds)
    ]
    return f'<div class="pictures">{"".join(shown)}</div>'


def _statuses(found: Measures) -> str:
    devices = {sensor.name: sensor.device for sensor in found.schedule.sensors}
    rows = [(name, devices[name], *counts.tolist()) for name, counts in found.statuses.items()]
    marks = _table(("sensor", "device", *STATUSES), rows, "statuses")
    return marks + '<p class="note">The picture has the worst status of each part of the run.</p>'


def _commands(found: Measures) -> str:
    if not found.joints:
        return "<p>This robot has no actuator.</p>"
    told = ", ".join(f"{flag} {count}" for flag, count in found.act_flags.items() if count)
    rows = [
        (
            f"{name}[{channel}]",
            int(joints.requested[channel]),
            int(joints.differing[channel]),
            f"{joints.apart[channel]:.6g} {_unit(found, name)}",
        )
        for name, joints in found.joints.items()
        for channel in range(joints.channels)
    ]
    columns = ("channel", "requested in acts", "applied differs in acts", "by up to")
    return f"<p>{found.acts} acts: {escape(told or 'no flags')}.</p>" + _table(
        columns, rows, "commands"
    )


def _unit(found: Measures, actuator: str) -> str:
    described = {one["name"]: one for one in found.recording.description["actuators"]}
    return str(described[actuator].get("unit", ""))


def _events(found: Measures) -> str:
    rows = [(event.cycle, f"{event.at_s:.6g} s", event.text) for event in found.events]
    more = f"<p>{found.more_events} more changes are not listed.</p>" if found.more_events else ""
    flags = ", ".join(f"{flag} {count}" for flag, count in found.flags.items() if count)
    told = f"<p>Flags of the frames: {escape(flags or 'none')}.</p>"
    return _table(("cycle", "time", "state"), rows, "events") + more + told


def _facts(found: Measures) -> str:
    metadata = found.recording.metadata
    rows = [
        (key, value)
        for name in (facts.RUN, facts.RECORDER)
        for key, value in metadata.get(name, {}).items()
    ]
    rights = (metadata.get(facts.END) or {}).get("realtime")
    rows += [("realtime", rights)] if rights else []
    return _table(("fact", "value"), ((key, f" {value}") for key, value in rows), "facts")


def _moments(found: Measures) -> str:
    """All that the script draws from."""
    schedule, waterfall = found.schedule, found.waterfall
    told = {
        "columns": waterfall.columns,
        "rows": len(waterfall.rows),
        "data": waterfall.encoded(),
        "period": schedule.period_ns,
        "deadline": schedule.read_deadline_ns,
        "act": schedule.act_ns,
        "sensors": [[one.name, one.device] for one in schedule.sensors],
        "worst": [[late.cycle, causes.of(late, found)] for late in found.worst],
        "flags": FRAME_FLAGS,
        "states": STATES,
        "reasons": REASONS,
        "statuses": STATUSES,
        "colours": STATUS_COLOURS,
    }
    return json.dumps(told).replace("<", "\\u003c")
