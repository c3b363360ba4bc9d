"""The live line of `inphase run`, on stderr."""

import sys
import time
from types import TracebackType
from typing import Self

from inphase.follow import StoreFollower
from inphase.runtime import Runtime
from inphase.summary import HISTOGRAMS

_EVERY_S = 0.2


class LiveLine:
    """One line that is written over: cycle, rate held, lateness, skew, statuses, policy time."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._next = 0.0
        self._width = 0
        self._before: tuple[float, int] | None = None
        self._follower: StoreFollower | None = None

    def say(self, text: str) -> None:
        """A message of its own line."""
        self._clear()
        print(f"inphase: {text}", file=sys.stderr, flush=True)

    def show(self, runtime: Runtime) -> None:
        """Called often; writes some times a second."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + _EVERY_S
        if self._follower is None:
            assert runtime.core is not None
            self._follower = StoreFollower(runtime.core.segment.path)
        try:
            frame = self._follower.next(timeout_s=0.01, newest=True)
        except (TimeoutError, OSError):
            return
        cycles = runtime.reader.status()["cycles"] if runtime.reader else 0
        rate = "    -"
        if self._before is not None and now > self._before[0]:
            rate = f"{(cycles - self._before[1]) / (now - self._before[0]):5.0f}"
        self._before = (now, cycles)
        skew = "-" if frame.skew_ns is None else f"{frame.skew_ns / 1000:.0f} us"
        policy = "-"
        if runtime.reader is not None:
            times = runtime.reader.quantiles(HISTOGRAMS.index("latch_to_command_ns"))
            policy = f"{times['p50'] / 1000:.0f}" if times["count"] else "-"
        statuses = " ".join(f"{name} {sample.status}" for name, sample in frame.samples.items())
        self._write(
            f"cycle {frame.cycle}  {rate} Hz  "
            f"wake +{(frame.woke_ns - frame.due_ns) / 1000:.0f} us  "
            f"skew {skew}  {statuses}  policy p50 {policy} us  {' '.join(frame.flags)}"
        )

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def _clear(self) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear()
        if self._follower is not None:
            self._follower.close()
