"""The live view of `inphase run`, on stderr: a table on a terminal, else a line now and then.

It follows the store like any other reader, in a thread of its own: a terminal that stands still
holds up nothing but itself.
"""

import contextlib
import io
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Self, cast

from inphase.frames import store
from inphase.frames.frame import Act, Frame
from inphase.frames.record_layout import REASONS
from inphase.frames.store_follower import StoreFollower
from inphase.host.outlet import Outlet
from inphase.runtime.runtime import Runtime
from inphase.runtime.summary import HISTOGRAMS

_LOOK_S = 0.05  # often enough for every frame to be seen
_END_S = 2.0
_EVERY_S = 0.25
_LINE_EVERY_S = 5.0
_RATE_NS = 2_000_000_000  # rates are of this long
_UP_S = 1.0  # so long a run waits for the terminal to show the view
KEYS = "space, e: emergency stop   a: arm   ^C: ramp and end"
"""the keys of a terminal that runs a robot"""
_NUMBER = 9  # columns of a channel's value
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
    status: dict[str, int]
    counts: dict[str, int]
    statuses: list[dict[str, int]]
    """per sensor, frames with each status so far"""
    rate_hz: float | None
    rates_hz: dict[str, float | None]
    """samples by sequence number"""
    worst_ns: dict[str, int]
    """largest age so far, by sensor; in the frames that were seen"""
    unseen: int
    """frames that went by unseen"""
    policy: dict[str, int]
    """quantiles of latch to command"""
    inference: dict[str, int] | None
    """quantiles of what the policy itself takes"""


@dataclass
class Watch:
    """Looks at every frame of a store that it can. Thread: one at a time."""

    follower: StoreFollower
    unseen: int = 0
    worst_ns: dict[str, int] = field(default_factory=dict)
    _count: int = 0
    _newest: Frame | None = None
    _marks: deque[tuple[int, Frame]] = field(default_factory=deque)
    """of the last two seconds, a frame per view and how many there were before it"""

    def look(self) -> None:
        """Take in the frames that came; never waits."""
        try:
            while True:
                self._take(self.follower.next(timeout_s=0.0))
        except (TimeoutError, store.Lost):
            return

    def _take(self, frame: Frame) -> None:
        self.unseen += frame.lost
        self._count += 1 + frame.lost
        self._newest = frame
        for name, sample in frame.samples.items():
            age_ns = sample.age_ns
            if age_ns is not None and age_ns > self.worst_ns.get(name, -1):
                self.worst_ns[name] = age_ns

    def view(self, mailbox: store.Segment | None = None) -> View | None:
        """The content to show; None before the first frame. mailbox: the policy's."""
        frame = self._newest
        if frame is None:
            return None
        marks = self._marks
        while len(marks) > 1 and frame.due_ns - marks[0][1].due_ns > _RATE_NS:
            marks.popleft()
        if not marks or marks[-1][1] is not frame:
            marks.append((self._count, frame))
        count, before = marks[0]
        seconds = (frame.due_ns - before.due_ns) / 1e9
        reader = self.follower.reader
        return View(
            frame,
            reader.status(),
            reader.counts(),
            reader.statuses(),
            _rate(self._count - count, seconds),
            {
                name: _rate(sample.sequence - before[name].sequence, seconds)
                for name, sample in frame.samples.items()
            },
            self.worst_ns,
            self.unseen,
            reader.quantiles(HISTOGRAMS.index("latch_to_command_ns")),
            store.inference(mailbox) if mailbox is not None else None,
        )


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 else None


# ---- for a terminal ------------------------------------------------------------------------


def render(view: View, width: int) -> Any:
    """A rich renderable: the cycle, a row per sensor, the values of each actuator."""
    from rich.console import Group

    return Group(
        _head(view), _sensors(view), *(_act(act, view, width) for act in view.frame.command)
    )


@dataclass
class AboveKeys:
    """A rich renderable: what fits of another above a last line, the keys that count."""

    above: Any

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.segment import Segment
        from rich.text import Text

        rows = options.size.height - 1
        lines = console.render_lines(self.above, options, pad=False)
        if len(lines) > rows:
            lines = [*lines[: rows - 1], [Segment("...")]]
        for line in lines:
            yield from line
            yield Segment.line()
        yield Text(KEYS, "dim", no_wrap=True, overflow="crop")


def _head(view: View) -> Any:
    from rich.text import Text

    frame, status, counts = view.frame, view.status, view.counts
    head = Text()
    head.append(frame.layout.robot, "bold")
    head.append(f"  {frame.state}", _STATE_STYLES.get(frame.state, ""))
    head.append(f"  cycle {frame.cycle}  {_hz(view.rate_hz)}  ")
    head.append(f"skipped {status['skipped']}", "yellow" if status["skipped"] else "")
    head.append(f"  overruns {status['overruns']}  wake +{_span(frame.woke_ns - frame.due_ns)}")
    head.append(f"  skew {_span(frame.skew_ns)}")
    flags = [flag for flag in frame.flags if flag != "LATCHED"]
    if flags:
        head.append(f"  {' '.join(flags)}", "yellow")
    head.append(f"\ncommands {counts['commands']}  ")
    head.append(f"missed {counts['missed']}", "yellow" if counts["missed"] else "")
    head.append(f"  refused {counts['invalid']}", "yellow" if counts["invalid"] else "")
    if counts["late_answers"] or counts["starved"]:
        head.append(f"  late {counts['late_answers']}  starved {counts['starved']}", "yellow")
    head.append(f"  limited {counts['limited']}  ")
    p50 = view.policy["p50"] if view.policy["count"] else None
    head.append(f"policy p50 {_span(p50)}")
    if view.inference is not None and view.inference["count"]:
        own = view.inference
        head.append(f", of which its own {_span(own['p50'])}, p99 {_span(own['p99'])}")
    if view.unseen:
        head.append(f"\nthe ages leave out {view.unseen} frames that this view missed", "dim")
    if status["latched"]:
        head.append(f"\nmotion is latched: {REASONS[status['latched']]}", "bold red")
        head.append(f" since cycle {status['reason_cycle']}")
    return head


def _sensors(view: View) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("sensor", "status", "age", "worst", "rate", "frames so far"):
        right = column in ("age", "worst", "rate")
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    for counts, (name, sample) in zip(view.statuses, view.frame.samples.items(), strict=True):
        status = Text(sample.status, _style(sample.status))
        if sample.reason != "none":
            status.append(f" {sample.reason}")
        table.add_row(
            name,
            status,
            _span(sample.age_ns),
            _span(view.worst_ns.get(name)),
            _hz(view.rates_hz[name]),
            _counted(counts),
        )
    return table


def _counted(counts: dict[str, int]) -> Any:
    """How many frames had which status, those that occurred."""
    from rich.text import Text

    # no space in it: a name stays with its number where the cell is wrapped
    return Text("  ").join(
        Text(f"{status}:{count}", _style(status)) for status, count in counts.items() if count
    )


def _act(act: Act, view: View, width: int) -> Any:
    """An actuator: requested above applied, as many channels in a row as fit."""
    from rich.text import Text

    (unit,) = (u for name, _, u in view.frame.layout.actuators if name == act.name)
    text = Text()
    text.append(act.name, "bold")
    text.append(f" [{unit}]  {' '.join(act.flags)}")
    if act.reason != "none":
        text.append(f"  {act.reason}", "yellow")
    text.append(f"  of cycle {view.frame.command.cycle}", "dim")
    fitting = max(1, (width - _NUMBER - 1) // _NUMBER)
    for first in range(0, len(act.applied), fitting):
        channels = range(first, min(first + fitting, len(act.applied)))
        text.append("\nchannel  " + "".join(f"{k:{_NUMBER}}" for k in channels), "dim")
        text.append("\nrequested" + "".join(_value(act.requested[k]) for k in channels))
        text.append("\napplied  ")
        for k in channels:
            same = act.applied[k] == act.requested[k] or math.isnan(act.requested[k])
            text.append(_value(act.applied[k]), "" if same else "yellow")
    return text


def _style(status: str) -> str:
    return _STYLES.get(status, "bold red")


def _span(nanoseconds: int | None) -> str:
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


def _hz(rate: float | None) -> str:
    if rate is None:
        return "- Hz"
    return f"{rate:.0f} Hz" if rate >= 100 else f"{rate:.1f} Hz"


def _value(value: float) -> str:
    """A channel's value with its sign, in _NUMBER columns; NaN is none."""
    if math.isnan(value):
        return "-".rjust(_NUMBER)
    return (f"{value:.3f}" if abs(value) < 10_000 else f"{value:.2e}").rjust(_NUMBER)


# ---- for a file or a pipe ------------------------------------------------------------------


def line(view: View) -> str:
    """The same in a line."""
    frame = view.frame
    sensors = "  ".join(
        f"{name} {sample.status} {_span(sample.age_ns)} ({_share(counts)} FRESH)"
        for counts, (name, sample) in zip(view.statuses, frame.samples.items(), strict=True)
    )
    parts = (
        f"cycle {frame.cycle}  {frame.state}  "
        f"{'' if view.rate_hz is None else _hz(view.rate_hz) + '  '}"
        f"skipped {view.status['skipped']}",
        sensors,
        f"missed {view.counts['missed']}",
        " ".join(frame.flags),
    )
    return "  ".join(part for part in parts if part)


def _share(counts: dict[str, int]) -> str:
    return f"{100 * counts['FRESH'] / max(1, sum(counts.values())):.1f} %"


class _Stderr(io.TextIOBase):
    """Writes to stderr's descriptor, without a buffer whose lock the end of the process would wait
    for while this waits for the terminal."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        rest = text.encode(errors="replace")
        while rest:
            rest = rest[os.write(self.fileno(), rest) :]
        return len(text)

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(self.fileno())


class LiveView:
    """Shows a run while it lasts; `shown` False leaves only its messages. A context manager.

    All is written in a thread of its own, which may wait; messages that have no room are dropped,
    and said to be. Thread: the supervisor's.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._next = 0.0
        self._watch: Watch | None = None
        self._runtime: Runtime | None = None
        self.has_keys = False
        """keys count, and stand in the view's last line; set before `watching`"""
        self._is_up = threading.Event()
        self._in_use = threading.Lock()  # held by who looks at the runtime, never while it writes
        self._file = _Stderr()
        self._live: Any = None
        if shown and sys.stderr.isatty():
            from rich.live import Live

            from inphase.command.screen import screen

            self._live = Live(
                console=screen(cast(IO[str], self._file)),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        self._outlet = Outlet(self._write, _dropped, self._show, _LOOK_S, self._end)

    @property
    def is_live(self) -> bool:
        """True if there is a table on a terminal."""
        return self._live is not None

    def say(self, text: str) -> None:
        """A message of its own line; never waits."""
        self._outlet.put(text)

    @contextlib.contextmanager
    def watching(self, runtime: Runtime) -> Iterator[None]:
        """While it runs: show it. Waits a moment for a terminal to show the view."""
        self._runtime = runtime if self._shown else None
        if self._live is not None:
            self._is_up.wait(_UP_S)
        try:
            yield
        finally:
            with self._in_use:
                self._runtime = None

    # ---- in the outlet's thread ----------------------------------------------------------------

    def _write(self, text: str) -> None:
        if self._live is None:
            self._file.write(f"inphase: {text}\n")
        else:
            self._live.console.print(f"inphase: {text}", highlight=False)

    def _look(self) -> View | None:
        """The content to show, if it is time to."""
        with self._in_use:
            if self._runtime is None:
                return None
            if self._watch is None:
                assert self._runtime.core is not None
                path = self._runtime.name.path
                self._watch = Watch(StoreFollower(path, from_first=True))
            self._watch.look()
            if time.monotonic() < self._next:
                return None
            view = self._watch.view(self._runtime.mailbox)
            if view is not None:
                every_s = _LINE_EVERY_S if self._live is None else _EVERY_S
                self._next = time.monotonic() + every_s
            return view

    def _show(self) -> None:
        """Called often; writes some times a second, or every few seconds where nobody watches."""
        view = self._look()
        if self._live is None:
            if view is not None:
                self._write(line(view))
        elif view is not None:
            self._draw(render(view, self._live.console.width))
        elif self._runtime is not None and not self._is_up.is_set():
            self._draw("starting")

    def _draw(self, above: Any) -> None:
        self._live.start()
        self._live.update(AboveKeys(above) if self.has_keys else above, refresh=True)
        self._is_up.set()

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
        if self._watch is not None:
            self._watch.follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._outlet.close(_END_S)


def _dropped(count: int) -> str:
    return f"{count} messages were dropped: the terminal did not take them"
