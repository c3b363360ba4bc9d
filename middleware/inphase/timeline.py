"""Draw one cycle in the terminal: a lane per bus and one for the cycle thread, and the slack."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {
    "trigger": "magenta",
    "read": "cyan",
    "bus": "cyan",
    "latch": "blue",
    "infer": "green",
    "act": "yellow",
    "publish": "bright_black",
}
_LATE_STYLE = "bold red"
_MARK_STYLE = "red"
_WIDTH_MIN = 60


@dataclass(frozen=True)
class Span:
    """What one lane does for a time; offsets in nanoseconds from the cycle's start.

    `kind` picks the colour: trigger, read, bus, latch, infer, act, publish.
    """

    lane: str
    name: str
    start_ns: int
    end_ns: int
    kind: str


@dataclass(frozen=True)
class Mark:
    """An instant that spans must end before: read deadline, act, next due (nanoseconds)."""

    name: str
    at_ns: int


def render(
    spans: Sequence[Span], marks: Sequence[Mark], period_ns: int, width: int
) -> RenderableType:
    """The timeline and, below it, a table of offsets, deadlines and slack.

    Lanes stand in the order in which `spans` names them; what overlaps in a lane gets a row of its
    own. A span's deadline is the first mark after its start. `width` is in columns, 60 at least;
    `period_ns` is above 0.
    """
    assert period_ns > 0
    lanes = list(dict.fromkeys(span.lane for span in spans))
    label = min(max([len(lane) for lane in lanes] + [5]), 20)
    scale = _Scale(period_ns, max(width, _WIDTH_MIN) - label - 2)
    lines = [*_mark_labels(marks, scale, label), _axis(scale, label)]
    for lane in lanes:
        for index, row in enumerate(_rows([span for span in spans if span.lane == lane])):
            name = lane[:label] if index == 0 else ""
            lines.append(_lane(name.ljust(label), row, marks, scale))
    return Group(*lines, Text(), _table(spans, marks))


@dataclass(frozen=True)
class _Scale:
    period_ns: int
    columns: int  # the last one is the end of the period

    def column(self, at_ns: int) -> int:
        """The column of an offset, kept inside the period."""
        column = at_ns * (self.columns - 1) // self.period_ns
        return min(max(column, 0), self.columns - 1)


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


def _lane(label: str, spans: list[Span], marks: Sequence[Mark], scale: _Scale) -> Text:
    signs, styles = [" "] * scale.columns, [""] * scale.columns
    for mark in marks:
        column = scale.column(mark.at_ns)
        signs[column], styles[column] = "┊", _MARK_STYLE
    free = 0  # neighbours that touch do not share a column
    for index, span in enumerate(spans):
        first = min(max(scale.column(span.start_ns), free), scale.columns - 1)
        last = scale.column(span.end_ns)
        if index + 1 < len(spans):
            last = min(last, scale.column(spans[index + 1].start_ns) - 1)
        bar = _bar(span, max(last - first + 1, 1))
        free = first + len(bar)
        if span.end_ns > scale.period_ns:
            bar = bar[:-1] + "»"
        style = _LATE_STYLE if _slack_ns(span, marks) < 0 else _STYLES.get(span.kind, "white")
        for column, sign in enumerate(bar, first):
            signs[column], styles[column] = sign, style
    row = Text(f"{label}  ", no_wrap=True, overflow="crop")
    for sign, style in zip(signs, styles, strict=True):
        row.append(sign, style)
    return row


def _bar(span: Span, columns: int) -> str:
    if columns == 1:
        return "┃"
    inside = columns - 2
    name = span.name if len(span.name) <= inside else ""
    return f"┣{name.center(inside, '━')}┫"


def _mark_labels(marks: Sequence[Mark], scale: _Scale, label: int) -> list[Text]:
    """The names of the marks above their columns, on as many lines as they need."""
    rows: list[str] = []
    for mark in sorted(marks, key=lambda mark: mark.at_ns):
        text = f"{mark.name} {_us(mark.at_ns)}"
        column = scale.column(mark.at_ns)
        text, first = (f"{text} ▼", column - len(text) - 1)
        if first < 0:
            text, first = f"▼ {text[:-2]}", column
        place = next((at for at, row in enumerate(rows) if len(row) < first), len(rows))
        if place == len(rows):
            rows.append("")
        rows[place] = rows[place].ljust(first) + text
    margin = " " * (label + 2)
    return [Text(margin + row, _MARK_STYLE, no_wrap=True, overflow="crop") for row in rows]


def _axis(scale: _Scale, label: int) -> Text:
    """A ruler in microseconds, with about one number in twelve columns."""
    step_ns = _nice_step_ns(scale.period_ns * 12 // scale.columns)
    ruler = ""
    for at_ns in range(0, scale.period_ns + 1, step_ns):
        text = f"╵{at_ns / 1000:g}"
        column = scale.column(at_ns)
        if column + len(text) <= scale.columns:
            ruler = ruler.ljust(column) + text
    return Text(f"{'us'.ljust(label)}  {ruler}", "dim", no_wrap=True, overflow="crop")


def _nice_step_ns(least_ns: int) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ... nanoseconds."""
    power = 1
    while power * 10 <= least_ns:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least_ns)


def _deadline(span: Span, marks: Sequence[Mark]) -> Mark | None:
    later = [mark for mark in marks if mark.at_ns > span.start_ns]
    return min(later, key=lambda mark: mark.at_ns, default=None)


def _slack_ns(span: Span, marks: Sequence[Mark]) -> int:
    deadline = _deadline(span, marks)
    return deadline.at_ns - span.end_ns if deadline else 0


def _table(spans: Sequence[Span], marks: Sequence[Mark]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("lane", "span"):
        table.add_column(name, overflow="fold")
    for name in ("start us", "end us", "takes us"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("deadline", overflow="fold")
    table.add_column("slack us", justify="right", no_wrap=True)
    for span in spans:
        deadline, slack_ns = _deadline(span, marks), _slack_ns(span, marks)
        table.add_row(
            Text(span.lane),
            Text(span.name, _STYLES.get(span.kind, "")),
            _us(span.start_ns),
            _us(span.end_ns),
            _us(span.end_ns - span.start_ns),
            Text(f"{deadline.name} {_us(deadline.at_ns)}" if deadline else "none"),
            Text(_us(slack_ns) if deadline else "", _LATE_STYLE if slack_ns < 0 else ""),
        )
    return table


def _us(at_ns: int) -> str:
    return f"{at_ns / 1000:.1f}"
