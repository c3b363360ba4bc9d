"""The picture of a running robot on a terminal: what it measures and does."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, Group
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from inphase.command.pictures.shown_actuator import ShownActuator
from inphase.frames.frame import Act, Frame
from inphase.frames.record_layout import REASONS
from inphase.plan.channel_limits import ChannelLimits

KEYS = "space, e: emergency stop   a: arm   ^C: end   episode: b begin, s f d end"
"""the keys of a terminal that runs a robot"""
Values = dict[str, dict[str, NDArray[Any]]]
"""copies of the newest samples, by sensor and field"""
_NUMBER = 9  # columns of a channel's value
_LABEL = 9  # of a row's name, with the space after it
_BAR_MIN, _BAR_MAX = 12, 41
_TALL = _LABEL + 4 * _NUMBER  # columns that a row per channel needs
_FIELD_MAX = 64  # values of a field that are shown; an image has more
_STATE_STYLES = {
    "running": "green",
    "ramping": "yellow",
    "faulted": "bold red",
    "uncontrolled": "bold white on red",
}
_STYLES = {"FRESH": "green", "HELD": "cyan", "LATE": "yellow", "RECOVERING": "yellow"}


@dataclass
class View:
    """The content of the live view."""

    frame: Frame
    """the newest"""
    status: Mapping[str, int]
    counts: Mapping[str, int]
    statuses: list[dict[str, int]]
    """per sensor, frames with each status so far"""
    rate_hz: float | None
    rates_hz: dict[str, float | None]
    """samples by sequence number"""
    worst_ns: dict[str, int]
    """largest age so far, by sensor; in the frames that were seen"""
    unseen: int
    """frames that went by unseen"""
    policy: Mapping[str, int]
    """quantiles of latch to command"""
    values: Values
    """of the samples that are there"""
    inference: dict[str, int] | None
    """quantiles of what the policy itself takes"""
    late: str = ""
    """late moments by cause, and the newest one's; "": there was none"""
    whole: bool = True
    """counters are of the whole run, and not only of the frames that were seen"""


@dataclass
class Picture:
    """A rich renderable of a view, as detailed as its rows allow. has_keys: its last line is the
    keys that count."""

    view: View
    actuators: list[ShownActuator]
    has_keys: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        rows = options.size.height - 1
        width = options.max_width
        ways = (self._tall, self._flat) if width >= _TALL else (self._flat,)
        for way in ways:
            parts = way(width)
            lines = console.render_lines(Group(*parts), options, pad=False)
            if len(lines) <= rows:
                break
        if len(lines) > rows:
            left = len(lines) - rows + 1
            lines = [*lines[: rows - 1], [Segment(f"... {left} more lines")]]
        for line in lines:
            yield from line
            yield Segment.line()
        if self.has_keys:
            yield Text(KEYS, "dim", no_wrap=True, overflow="crop")

    def _tall(self, width: int) -> Iterator[Any]:
        """A row per channel, with a bar of its range."""
        yield from (_head(self.view), _sensors(self.view))
        for act in self.view.frame.command:
            yield from _channels(act, self, width)
        yield from _fields(self, width)
        yield from _unseen(self.view)

    def _flat(self, width: int) -> Iterator[Any]:
        """The channels side by side."""
        yield from (_head(self.view), _sensors(self.view))
        for act in self.view.frame.command:
            yield _side_by_side(act, self, width)
        yield from _fields(self, width)
        yield from _unseen(self.view)

    def measured(self, actuator: str) -> tuple[str, NDArray[Any] | None]:
        """The field that measures what is commanded, and its values now."""
        shown, layout = self.shown(actuator), self.view.frame.layout
        for name in shown.feedback:
            sensor, _, field = name.partition(".")
            if not field or layout.units[layout.indices[sensor]][field] != shown.unit:
                continue
            values = self.view.values.get(sensor, {}).get(field)
            if values is None or values.size == shown.channels:
                return name, None if values is None else values.reshape(-1)
        return "", None

    def shown(self, actuator: str) -> ShownActuator:
        """The facts about an actuator."""
        (found,) = (one for one in self.actuators if one.name == actuator)
        return found


# ---- the robot ---------------------------------------------------------------------------------


def _head(view: View) -> Any:
    frame, status, counts = view.frame, view.status, view.counts
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(frame.layout.robot, "bold")
    head.append(f"  {frame.state}", _STATE_STYLES.get(frame.state, ""))
    head.append(f"  cycle {frame.cycle}  {hertz(view.rate_hz)}  ")
    head.append(f"skipped {status['skipped']}", "yellow" if status["skipped"] else "")
    head.append(f"  overruns {status['overruns']}\ncommands {counts['commands']}  ")
    head.append(f"missed {counts['missed']}", "yellow" if counts["missed"] else "")
    head.append(f"  refused {counts['invalid']}", "yellow" if counts["invalid"] else "")
    if counts["late_answers"] or counts["starved"]:
        head.append(f"  late {counts['late_answers']}  starved {counts['starved']}", "yellow")
    head.append(f"  limited {counts['limited']}\n")
    flags = [flag for flag in frame.flags if flag != "LATCHED"]
    if flags:
        head.append(f"{' '.join(flags)}  ", "yellow")
    head.append(f"wake +{span(frame.woke_ns - frame.due_ns)}  skew {span(frame.skew_ns)}")
    p50 = view.policy["p50"] if view.policy["count"] else None
    head.append(f"  policy {span(p50)}")
    if view.inference is not None and view.inference["count"]:
        head.append(f" (its own {span(view.inference['p50'])})")
    if view.late:
        head.append(f"\n{view.late}", "yellow")
    if status["latched"]:
        head.append(f"\nmotion is latched: {REASONS[status['latched']]}", "bold red")
        head.append(f" since cycle {status['reason_cycle']}")
    return head


_COUNTS, _COUNTS_SEEN = "frames so far", "frames seen"


def _sensors(view: View) -> Any:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    counts = _COUNTS if view.whole else _COUNTS_SEEN
    for column in ("sensor", "status", "age", "worst", "rate", counts):
        right = column in ("age", "worst", "rate")
        # the counts alone give way where it is narrow; their text never takes a second line
        table.add_column(column, justify="right" if right else "left", no_wrap=column != counts)
    for had, (name, sample) in zip(view.statuses, view.frame.samples.items(), strict=True):
        status = Text(sample.status, _style(sample.status))
        if sample.reason != "none":
            status.append(f" {sample.reason}")
        table.add_row(
            name,
            status,
            span(sample.age_ns),
            span(view.worst_ns.get(name)),
            hertz(view.rates_hz[name]),
            _counted(had),
        )
    return table


def _counted(counts: dict[str, int]) -> Any:
    """How many frames had which status, those that occurred."""
    return Text("  ", no_wrap=True, overflow="ellipsis").join(
        Text(f"{status}:{count}", _style(status)) for status, count in counts.items() if count
    )


def _fields(picture: Picture, width: int) -> Iterator[Any]:
    """A line for each field that is not shown beside the commands, as far as it fits."""
    view, layout = picture.view, picture.view.frame.layout
    shown = {picture.measured(name)[0] for name, _, _ in layout.actuators}
    rows = [
        (f"{sensor}.{field} [{layout.units[layout.indices[sensor]][field]}]", value)
        for sensor, fields in view.values.items()
        for field, value in fields.items()
        if f"{sensor}.{field}" not in shown
    ]
    if not rows:
        return
    label = min(max(len(name) for name, _ in rows), width // 2)
    for name, value in rows:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{name:{label}}", "dim")
        if value.size > _FIELD_MAX or value.dtype.kind not in "fiu":
            text.append(f"  {' x '.join(map(str, value.shape))} {value.dtype}")
        else:
            text.append("".join(number(float(one)) for one in value.reshape(-1)))
        yield text


def _unseen(view: View) -> Iterator[Any]:
    if view.unseen:
        yield Text(f"the ages leave out {view.unseen} frames that this view missed", "dim")


# ---- an actuator -------------------------------------------------------------------------------


def _title(act: Act, picture: Picture) -> Text:
    view = picture.view
    (unit,) = (u for name, _, u in view.frame.layout.actuators if name == act.name)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(act.name, "bold")
    text.append(f" [{unit}]  {' '.join(act.flags)}")
    if act.reason != "none":
        text.append(f"  {act.reason}", "yellow")
    text.append(f"  of cycle {view.frame.command.cycle}", "dim")
    return text


def _channels(act: Act, picture: Picture, width: int) -> Iterator[Any]:
    """A row per channel: asked, applied, measured, how far off, and where in its range."""
    shown = picture.shown(act.name)
    _, measured = picture.measured(act.name)
    columns = ["asked", "applied"] + ["measured", "off"] * (measured is not None)
    room = width - _LABEL - _NUMBER * len(columns) - 2
    bar = min(_BAR_MAX, room) if room >= _BAR_MIN else 0
    head = Text(no_wrap=True)
    head.append(" " * _LABEL + "".join(f"{one:>{_NUMBER}}" for one in columns), "dim")
    if bar:
        head.append(f"  {_ends(shown.limits, bar)}", "dim")
    yield Group(_title(act, picture), head)
    for channel, limits in enumerate(shown.limits):
        here = math.nan if measured is None else float(measured[channel])
        asked, applied = float(act.requested[channel]), float(act.applied[channel])
        text = Text(no_wrap=True)
        text.append(f"{channel:>{_LABEL - 1}} ", "dim")
        text.append(number(asked))
        is_same = applied == asked or math.isnan(asked)
        text.append(number(applied), "" if is_same else "yellow")
        if measured is not None:
            text.append(number(here), "bold")
            text.append(number(here - applied), _off_style(here - applied, limits))
        if bar:
            text.append("  ")
            text.append(_bar(limits, applied, here, bar))
        yield text


def _side_by_side(act: Act, picture: Picture, width: int) -> Any:
    """The same with the channels side by side, as many in a row as fit."""
    shown = picture.shown(act.name)
    _, measured = picture.measured(act.name)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(_title(act, picture))
    fitting = max(1, (width - _LABEL) // _NUMBER)
    for first in range(0, len(act.applied), fitting):
        channels = range(first, min(first + fitting, len(act.applied)))
        text.append("\nchannel  " + "".join(f"{k:{_NUMBER}}" for k in channels), "dim")
        text.append("\nasked    " + "".join(number(act.requested[k]) for k in channels))
        text.append("\napplied  ")
        for k in channels:
            same = act.applied[k] == act.requested[k] or math.isnan(act.requested[k])
            text.append(number(act.applied[k]), "" if same else "yellow")
        if measured is not None:
            off = [float(measured[k] - act.applied[k]) for k in channels]
            text.append("\nmeasured " + "".join(number(float(measured[k])) for k in channels))
            text.append("\noff      ")
            for k, one in zip(channels, off, strict=True):
                text.append(number(one), _off_style(one, shown.limits[k]))
    return text


def _off_style(off: float, limits: ChannelLimits) -> str:
    """Red where a joint is further from its command than its step."""
    return "bold red" if limits.step and abs(off) > limits.step else ""


def _ends(limits: list[ChannelLimits], width: int) -> str:
    """The ends of the range, above the bars."""
    low, high = limits[0].range
    if any(one.range != (low, high) for one in limits):
        left, right = "low", "high"
    else:
        left, right = f"{low:.4g}", f"{high:.4g}"
    return f"{left}{right:>{width - len(left)}}"


def _bar(limits: ChannelLimits, applied: float, here: float, width: int) -> Text:
    """A range with the command (a line) and the measured value (a dot) in it."""
    low, high = limits.range
    text = Text("-" * width, "dim")
    marks = {_cell(applied, low, high, width): ("|", "yellow")}
    marks[_cell(here, low, high, width)] = ("o", "bold green")
    marks.pop(None, None)
    cells = list("-" * width)
    for cell, (mark, _) in marks.items():
        cells[cell or 0] = mark
    text = Text("".join(cells), "dim")
    for cell, (_, style) in marks.items():
        text.stylize(style, cell or 0, (cell or 0) + 1)
    return text


def _cell(value: float, low: float, high: float, width: int) -> int | None:
    """Where a value is on a bar; None: nowhere."""
    if not math.isfinite(value) or not math.isfinite(high - low) or high <= low:
        return None
    return int(np.clip((value - low) / (high - low), 0.0, 1.0) * (width - 1) + 0.5)


# ---- numbers -----------------------------------------------------------------------------------


def _style(status: str) -> str:
    return _STYLES.get(status, "bold red")


def span(nanoseconds: int | None) -> str:
    """A time that a person reads."""
    if nanoseconds is None:
        return "-"
    if nanoseconds < 10_000_000:
        return f"{nanoseconds / 1e3:.0f} us"
    return (
        f"{nanoseconds / 1e6:.0f} ms"
        if nanoseconds < 10_000_000_000
        else f"{nanoseconds // 10**9} s"
    )


def hertz(rate: float | None) -> str:
    if rate is None:
        return "- Hz"
    return f"{rate:.0f} Hz" if rate >= 100 else f"{rate:.1f} Hz"


def number(value: float) -> str:
    """A channel's value with its sign, in _NUMBER columns; NaN is none."""
    if math.isnan(value):
        return "-".rjust(_NUMBER)
    return (f"{value:.3f}" if abs(value) < 10_000 else f"{value:.2e}").rjust(_NUMBER)
