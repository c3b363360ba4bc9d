"""Draw cycles in the terminal: a lane per device and one for the cycle thread, and the slack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from inphase.schedule.duration import tenths_of_us

CYCLES_MAX = 8
"""More cycles than these are not drawn side by side."""

_STYLES = {
    "trigger": "magenta",
    "read": "cyan",
    "bus": "cyan",
    "latched": "bright_blue",
    "latch": "blue",
    "infer": "green",
    "act": "yellow",
    "publish": "bright_black",
}
_LATE_STYLE = "bold red"
_MARK_STYLE = "red"
_POINT_STYLE = "bold magenta"
_WIDTH_MIN = 60


@dataclass(frozen=True)
class Mark:
    """An instant that spans must end before: read deadline, act, next due (nanoseconds)."""

    name: str
    at_ns: int


@dataclass(frozen=True)
class Span:
    """A span of one lane; offsets in nanoseconds from the cycle's start.

    `kind` picks the colour: trigger, read, bus, latched, latch, infer, act, publish. `every` is in
    cycles. `deadline` None: the first mark after the start.
    """

    lane: str
    name: str
    start_ns: int
    end_ns: int
    kind: str
    every: int = 1
    deadline: Mark | None = None


@dataclass(frozen=True)
class Point:
    """An instant in a lane: an acquisition, drawn as a diamond. Like a span in all else."""

    lane: str
    name: str
    at_ns: int
    every: int = 1
    sign: str = "◆"


@dataclass(frozen=True)
class Timeline:
    """Everything that is drawn. `homes` says of a lane where its driver runs, in a word."""

    period_ns: int
    spans: Sequence[Span]
    marks: Sequence[Mark]
    points: Sequence[Point] = ()
    homes: Mapping[str, str] = field(default_factory=dict)
    cycles: int = 1
    """after which all repeats; up to CYCLES_MAX of them are drawn side by side"""

    @property
    def lanes(self) -> list[str]:
        """In the order in which spans and points name them."""
        return list(dict.fromkeys([s.lane for s in self.spans] + [p.lane for p in self.points]))

    @property
    def cycles_drawn(self) -> int:
        """How many cycles are drawn side by side."""
        return min(self.cycles, CYCLES_MAX)


def render(timeline: Timeline, width: int) -> RenderableType:
    """One cycle; the table of offsets, deadlines and slack; then the cycles until all repeats.

    Spans that overlap in a lane get rows of their own. `width` is in columns, 60 at least.
    """
    assert timeline.period_ns > 0
    parts: list[RenderableType] = [*_draw(timeline, timeline.period_ns, width), Text()]
    parts.append(_table(timeline))
    if timeline.cycles > 1:
        parts += [Text(), *_draw_cycles(timeline, width)]
    return Group(*parts)


def _draw_cycles(timeline: Timeline, width: int) -> list[Text]:
    """The lanes over several cycles, with a mark where each starts and a point where one is due."""
    drawn, period_ns = timeline.cycles_drawn, timeline.period_ns
    said = f"{drawn} cycles, after which all repeats"
    if timeline.cycles > drawn:
        said = f"{drawn} of the {timeline.cycles} cycles after which all repeats"
    points = [*timeline.points, *_due(timeline)]
    shown = replace(
        timeline,
        spans=[
            _in_cycle(span, cycle, timeline)
            for cycle in range(drawn)
            for span in timeline.spans
            if _is_shown(span, cycle)
        ],
        points=[
            replace(point, at_ns=point.at_ns + cycle * period_ns)
            for cycle in range(drawn)
            for point in points
            if cycle % point.every == 0
        ],
        marks=[Mark(str(cycle), cycle * period_ns) for cycle in range(1, drawn)],
    )
    head = Text(f"{said}: ◆ acquired, ▼ due", "bold", no_wrap=True, overflow="crop")
    return [head, *_draw(shown, drawn * period_ns, width, period_ns=period_ns)]


def _due(timeline: Timeline) -> list[Point]:
    """The deadlines that are in a later cycle than the trigger."""
    return [
        Point(span.lane, span.deadline.name, span.deadline.at_ns, span.every, "▼")
        for span in timeline.spans
        if span.deadline is not None and span.deadline.at_ns > timeline.period_ns
    ]


def _is_shown(span: Span, cycle: int) -> bool:
    """A free-running sensor has no phase to draw; spans that the devices do not wait for are left
    out."""
    if span.kind == "latched":
        return cycle == 0
    return cycle % span.every == 0 and span.kind not in ("publish", "infer")


def _in_cycle(span: Span, cycle: int, timeline: Timeline) -> Span:
    """The span as it is so many cycles later; a free-running one's fills them all."""
    if span.kind == "latched":
        return replace(span, start_ns=0, end_ns=timeline.cycles_drawn * timeline.period_ns)
    later_ns = cycle * timeline.period_ns
    return replace(
        span,
        start_ns=span.start_ns + later_ns,
        end_ns=span.end_ns + later_ns,
        deadline=_later(_deadline(span, timeline.marks), later_ns),
    )


def _later(mark: Mark | None, by_ns: int) -> Mark | None:
    return None if mark is None else Mark(mark.name, mark.at_ns + by_ns)


def _draw(
    timeline: Timeline, until_ns: int, width: int, *, period_ns: int | None = None
) -> list[Text]:
    """Labels of the marks, a ruler (of cycles if `period_ns` says so), and the lanes."""
    label = min(max([len(lane) for lane in timeline.lanes] + [5]), 20)
    home = max((len(home) for home in timeline.homes.values()), default=-1) + 1
    margin = label + home + 2
    scale = _Scale(until_ns, max(width, _WIDTH_MIN) - margin)
    if period_ns is None:
        lines = [*_mark_labels(timeline.marks, scale, margin), _axis(scale, margin)]
    else:
        lines = [_cycle_axis(scale, margin, period_ns)]
    for lane in timeline.lanes:
        points = [point for point in timeline.points if point.lane == lane]
        rows = _rows([span for span in timeline.spans if span.lane == lane])
        for index, row in enumerate(rows or [[]]):
            name = lane[:label].ljust(label)
            if home:
                name += f" {timeline.homes.get(lane, '')}".ljust(home)
            head = name if index == 0 else " " * len(name)
            lines.append(_lane(head, row, points if index == 0 else [], timeline.marks, scale))
    return lines


@dataclass(frozen=True)
class _Scale:
    until_ns: int
    columns: int  # the last one is the end

    def column(self, at_ns: int) -> int:
        """The column of an offset, kept inside what is drawn."""
        column = at_ns * (self.columns - 1) // self.until_ns
        return min(max(column, 0), self.columns - 1)

    def holds(self, at_ns: int) -> bool:
        """True if an offset is inside what is drawn."""
        return 0 <= at_ns <= self.until_ns


def _rows(spans: list[Span]) -> list[list[Span]]:
    """Spread spans over as few rows as keep them apart."""
    rows: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: (span.start_ns, span.end_ns)):
        free = next((row for row in rows if row[-1].end_ns <= span.start_ns), None)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return rows


def _lane(
    label: str,
    spans: list[Span],
    points: Sequence[Point],
    marks: Sequence[Mark],
    scale: _Scale,
) -> Text:
    signs, styles = [" "] * scale.columns, [""] * scale.columns
    for mark in marks:
        column = scale.column(mark.at_ns)
        signs[column], styles[column] = "┊", _MARK_STYLE
    free = 0  # neighbours that touch do not share a column
    for index, span in enumerate(spans):
        if span.start_ns > scale.until_ns:
            break
        first = min(max(scale.column(span.start_ns), free), scale.columns - 1)
        last = scale.column(span.end_ns)
        if index + 1 < len(spans):
            last = min(last, scale.column(spans[index + 1].start_ns) - 1)
        bar = _bar(span, max(last - first + 1, 1))
        free = first + len(bar)
        if span.end_ns > scale.until_ns:
            bar = bar[:-1] + "»"
        if span.start_ns < 0:
            bar = "«" + bar[1:]
        style = _LATE_STYLE if _slack_ns(span, marks) < 0 else _STYLES.get(span.kind, "white")
        for column, sign in enumerate(bar, first):
            signs[column], styles[column] = sign, style
    for point in points:
        if scale.holds(point.at_ns):
            column = scale.column(point.at_ns)
            signs[column], styles[column] = point.sign, _POINT_STYLE
    row = Text(f"{label}  ", no_wrap=True, overflow="crop")
    for sign, style in zip(signs, styles, strict=True):
        row.append(sign, style)
    return row


def _bar(span: Span, columns: int) -> str:
    if columns == 1:
        return "┃"
    inside = columns - 2
    name = span.name if len(span.name) <= inside else ""
    line = "┄" if span.kind == "latched" else "━"
    return f"┣{name.center(inside, line)}┫"


def _mark_labels(marks: Sequence[Mark], scale: _Scale, margin: int) -> list[Text]:
    """The names of the marks above their columns, on as many lines as they need."""
    rows: list[str] = []
    for mark in sorted(marks, key=lambda mark: mark.at_ns):
        text = f"{mark.name} {tenths_of_us(mark.at_ns)}"
        column = scale.column(mark.at_ns)
        text, first = (f"{text} ▼", column - len(text) - 1)
        if first < 0:
            text, first = f"▼ {text[:-2]}", column
        place = next((at for at, row in enumerate(rows) if len(row) < first), len(rows))
        if place == len(rows):
            rows.append("")
        rows[place] = rows[place].ljust(first) + text
    head = " " * margin
    return [Text(head + row, _MARK_STYLE, no_wrap=True, overflow="crop") for row in rows]


def _axis(scale: _Scale, margin: int) -> Text:
    """A ruler in microseconds, with about one number in twelve columns."""
    step_ns = _nice_step_ns(scale.until_ns * 12 // scale.columns)
    return _ruler(
        "us",
        [(at, f"{at / 1000:g}") for at in range(0, scale.until_ns + 1, step_ns)],
        scale,
        margin,
    )


def _cycle_axis(scale: _Scale, margin: int, period_ns: int) -> Text:
    """A ruler of cycles."""
    starts = range(0, scale.until_ns, period_ns)
    return _ruler("cycle", [(at, str(at // period_ns)) for at in starts], scale, margin)


def _ruler(unit: str, places: list[tuple[int, str]], scale: _Scale, margin: int) -> Text:
    ruler = ""
    for at_ns, text in places:
        column = scale.column(at_ns)
        if column + len(text) + 1 <= scale.columns:
            ruler = f"{ruler.ljust(column)}╵{text}"
    return Text(f"{unit.ljust(margin)}{ruler}", "dim", no_wrap=True, overflow="crop")


def _nice_step_ns(least_ns: int) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ... nanoseconds."""
    power = 1
    while power * 10 <= least_ns:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least_ns)


def _deadline(span: Span, marks: Sequence[Mark]) -> Mark | None:
    if span.deadline is not None:
        return span.deadline
    later = [mark for mark in marks if mark.at_ns > span.start_ns]
    return min(later, key=lambda mark: mark.at_ns, default=None)


def _slack_ns(span: Span, marks: Sequence[Mark]) -> int:
    deadline = _deadline(span, marks)
    return deadline.at_ns - span.end_ns if deadline else 0


def _table(timeline: Timeline) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("lane", "span"):
        table.add_column(name, overflow="fold")
    for name in ("start us", "end us", "takes us"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("deadline", overflow="fold")
    table.add_column("slack us", justify="right", no_wrap=True)
    for lane in timeline.lanes:
        for span in (span for span in timeline.spans if span.lane == lane):
            _add_span(table, span, timeline.marks)
        for point in (point for point in timeline.points if point.lane == lane):
            table.add_row(
                Text(lane),
                Text(f"{point.sign} {point.name}", _POINT_STYLE),
                tenths_of_us(point.at_ns),
            )
    return table


def _add_span(table: Table, span: Span, marks: Sequence[Mark]) -> None:
    deadline, slack_ns = _deadline(span, marks), _slack_ns(span, marks)
    table.add_row(
        Text(span.lane),
        Text(span.name, _STYLES.get(span.kind, "")),
        tenths_of_us(span.start_ns),
        tenths_of_us(span.end_ns),
        tenths_of_us(span.end_ns - span.start_ns),
        Text(f"{deadline.name} {tenths_of_us(deadline.at_ns)}" if deadline else "none"),
        Text(tenths_of_us(slack_ns) if deadline else "", _LATE_STYLE if slack_ns < 0 else ""),
    )
