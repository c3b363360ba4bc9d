"""Calls of a driver in the run's own process: none holds up the end of a run."""

import threading
from collections.abc import Callable
from typing import TypeVar

from inphase.driver import Driver
from inphase.errors import DeviceError, of_device

_TURN_S = 1.0  # beyond the driver's own bound: the same as a worker has
_OPEN_S = 60.0  # what a driver may take to open; a worker has as much
_OPENS = frozenset(("open",))

T = TypeVar("T")


class DriverCalls:
    """One driver's calls, one at a time, each in a thread of its own. Thread: any, one at a time.

    A call that is over its time is left alone. Until it returns, every other is refused at once:
    two threads of a driver would both write to its port.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._thread: threading.Thread | None = None
        self._what = ""

    @property
    def hangs(self) -> str:
        """The call that has not returned; empty: there is none."""
        return self._what if self._thread is not None and self._thread.is_alive() else ""

    def bound_s(self, what: str) -> float:
        """How long a call is waited for, in s."""
        switching_s = self._driver.switching_max_ns / 1e9 + _TURN_S
        return max(switching_s, _OPEN_S) if what in _OPENS else switching_s

    def call(self, what: str, method: Callable[[], T]) -> T:
        """The method's result. Raises DeviceError alone: for all that it raises, and for a call
        that does not return."""
        d = self._driver
        if self.hangs:
            raise self._stuck(what)
        returned: list[T] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                with of_device(d.name, d.address, what):
                    returned.append(method())
            except BaseException as error:
                raised.append(error)

        # a daemon: it keeps no process alive
        thread = threading.Thread(target=run, daemon=True, name=f"inphase {what} of {d.name}")
        thread.start()
        thread.join(self.bound_s(what))
        if thread.is_alive():
            self._thread, self._what = thread, what
            raise self._stuck(what)
        if raised:
            raise raised[0]
        return returned[0]

    def _stuck(self, asked: str) -> DeviceError:
        d, hangs = self._driver, self.hangs or asked
        first = f"{asked} was not tried: " if asked != hangs else ""
        return DeviceError(
            f"device {d.name} ({d.address}): {first}its driver does not return from {hangs} within "
            f"{self.bound_s(hangs):g} s; give its own calls a time-out, or switching_max_ns as "
            f"long as they take"
        )
