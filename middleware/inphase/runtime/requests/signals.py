"""Signals to a run, before a thread in C takes them."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


@contextlib.contextmanager
def signals_stop(stop: Callable[[str, int], None]) -> Iterator[None]:
    """SIGINT, SIGTERM, SIGQUIT and SIGHUP ramp the robot and end the run; SIGUSR1 arms it again.

    Once there is a core, a thread in C takes them (`Stops`). These handlers are for the time
    before, and run as late as the interpreter likes. A SIGHUP that is ignored already (nohup) stays
    so. After the first one it is ignored: its terminal is gone, and it often comes twice.
    """
    came: set[int] = set()

    def on_stop(number: int, _: FrameType | None) -> None:
        came.add(number)
        stop("signal", number)

    wanted: dict[int, Any] = dict.fromkeys(_STOP_SIGNALS, on_stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        wanted[signal.SIGHUP] = on_stop
    wanted[signal.SIGUSR1] = lambda _number, _frame: None  # taken up by `Runtime.asks_to_arm`
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        if signal.SIGHUP in came:
            before[signal.SIGHUP] = signal.SIG_IGN
        for number, handler in before.items():
            signal.signal(number, handler)
