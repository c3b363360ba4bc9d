"""The progress of a run in lock step, for a person, and a notice when virtual time stands still.

Virtual time stops when a policy or a world hangs; this reports it.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Self

from inphase.frames import store

_LOOK_S = 0.5
STALL_S = 5.0


class Patience:
    """Shows a bar on stderr where that is a terminal, and says each time that the cycle has stood
    still for five seconds more. It follows the run's store, in a thread of its own."""

    def __init__(
        self, store_path: str, cycles: int, say: Callable[[str], None] | None = None
    ) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("cycles in lock step", total=cycles)
        self._reader = store.Reader(store_path)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="inphase patience", daemon=True)

    def _watch(self) -> None:
        cycle, since_s, told_s = -1, time.monotonic(), 0.0
        while not self._over.wait(_LOOK_S):
            status, now_s = self._reader.status(), time.monotonic()
            if status["cycle"] != cycle:
                cycle, since_s, told_s = status["cycle"], now_s, 0.0
            self._bar.update(self._task, completed=status["cycles"])
            if now_s - since_s >= told_s + STALL_S:
                told_s = now_s - since_s
                self._say(
                    f"lock step has waited {told_s:.0f} s in cycle {max(cycle, 0)}: the policy, a "
                    f"driver's twin or the world does not return; ^C ends it"
                )

    def __enter__(self) -> Self:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._bar.stop()
        self._reader.close()
