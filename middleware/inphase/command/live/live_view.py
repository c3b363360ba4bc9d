"""The live view of `run` and `top`, on stderr: a table on a terminal, else a line now and then.

It follows the store like any other reader, in a thread of its own: a terminal that stands still
holds up nothing but itself.
"""

import contextlib
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol, Self, cast

from inphase.command.live.counted import CountedByCore
from inphase.command.live.watch import Watch
from inphase.command.pictures import shown_actuator
from inphase.command.pictures.live_picture import Picture, View, hertz, span
from inphase.frames.store import Segment
from inphase.frames.store_follower import StoreFollower
from inphase.host.outlet import Outlet
from inphase.runtime.runtime import Runtime

_LOOK_S = 0.05  # often enough for every frame to be seen
_END_S = 2.0
_EVERY_S = 0.25
_LINE_EVERY_S = 5.0
_UP_S = 1.0  # so long a run waits for the terminal to show the view
_KEPT = 4  # messages that are shown again when the terminal has another size


class ShownRobot(Protocol):
    """A robot that the view shows."""

    @property
    def mailbox(self) -> Segment | None:
        """Its policy's; None: it is not known."""

    def watch(self) -> Watch:
        """Begin to look at it. Called once, in the view's thread, which closes it."""


@dataclass(frozen=True)
class OwnRobot:
    """The robot that this process runs, from its first frame on."""

    runtime: Runtime

    @property
    def mailbox(self) -> Segment | None:
        """Of its policy, while there is one."""
        return self.runtime.mailbox

    def watch(self) -> Watch:
        """Follow its store."""
        assert self.runtime.core is not None
        follower = StoreFollower(self.runtime.name.path, from_first=True)
        counted = CountedByCore(follower.reader)
        return Watch(follower, counted, shown_actuator.of_plan(self.runtime.plan))


# ---- for a file or a pipe ------------------------------------------------------------------


def line(view: View) -> str:
    """The same in a line."""
    frame = view.frame
    sensors = "  ".join(
        f"{name} {sample.status} {span(sample.age_ns)} ({_share(counts)} FRESH)"
        for counts, (name, sample) in zip(view.statuses, frame.samples.items(), strict=True)
    )
    parts = (
        f"cycle {frame.cycle}  {frame.state}  "
        f"{'' if view.rate_hz is None else hertz(view.rate_hz) + '  '}"
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
        self._robot: ShownRobot | None = None
        self.has_keys = False
        """keys count, and stand in the view's last line; set before `watching`"""
        self._is_up = threading.Event()
        self._in_use = threading.Lock()  # held by who looks at the runtime, never while it writes
        self._file = _Stderr()
        self._live: Any = None
        self._size: Any = None
        """the terminal's, when it was last written to"""
        self._kept: deque[str] = deque(maxlen=_KEPT)
        """the last messages"""
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
    def watching(self, robot: ShownRobot) -> Iterator[None]:
        """While it runs: show it. Waits a moment for a terminal to show the view."""
        self._robot = robot if self._shown else None
        if self._live is not None:
            self._is_up.wait(_UP_S)
        try:
            yield
        finally:
            with self._in_use:
                self._robot = None

    # ---- in the outlet's thread ----------------------------------------------------------------

    def _write(self, text: str) -> None:
        if self._live is None:
            self._file.write(f"inphase: {text}\n")
        else:
            self._kept.append(f"inphase: {text}")
            self._live.console.print(self._kept[-1], highlight=False)

    def _look(self) -> View | None:
        """The content to show, if it is time to."""
        with self._in_use:
            if self._robot is None:
                return None
            if self._watch is None:
                self._watch = self._robot.watch()
            self._watch.look()
            has_moved = self._live is not None and self._size not in (None, self._live.console.size)
            if time.monotonic() < self._next and not has_moved:
                return None
            view = self._watch.view(self._robot.mailbox)
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
            assert self._watch is not None
            self._draw(Picture(view, self._watch.actuators, self.has_keys))
        elif self._robot is not None and not self._is_up.is_set():
            self._draw("starting")

    def _draw(self, picture: Any) -> None:
        self._clear_other_size()
        self._live.start()
        self._live.update(picture, refresh=True)
        self._is_up.set()

    def _clear_other_size(self) -> None:
        """A terminal of another size has moved its lines: nothing of it can be written over."""
        size = self._live.console.size
        if self._size not in (None, size):
            self._live.stop()
            self._live.console.clear()
            for text in self._kept:
                self._live.console.print(text, highlight=False)
        self._size = size

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
        if self._watch is not None:
            self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._outlet.close(_END_S)


def _dropped(count: int) -> str:
    return f"{count} messages were dropped: the terminal did not take them"
