"""A driver of home `thread`: its worker in a thread of the user's own process."""

import socket
import threading
import time
from queue import SimpleQueue

from inphase.driver import Driver
from inphase.errors import DeviceError
from inphase.plan.plan import Plan
from inphase.runtime.workers.worker import Worker, WorkerFds
from inphase.runtime.workers.worker_control import ANSWER_BYTES, WorkerControl

_JOIN_S = 2.0
_TURN_S = 1.0  # for the turn between whose end and the next start a worker hears a question
_LEAST_S = 1e-3  # a timeout of 0 would mean not to wait at all


class Asking:
    """The supervisor's end of a `WorkerControl`; `close` ends the worker's `obey_to_the_end`.

    Questions are numbered: an answer that comes after its time is none to the next one.
    """

    def __init__(self, driver: Driver) -> None:
        self._device = driver.name
        self._bound_s = driver.switching_max_ns / 1e9 + _TURN_S
        self._number = 0
        self._line, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def ask(self, what: str) -> tuple[float, ...]:
        """Ask the worker for something, and wait for so long at most; the numbers of its answer.
        After `enable` they are the goals at which the device holds. Raises DeviceError."""
        self._number += 1
        until_s = time.monotonic() + self._bound_s
        number = answer = ""
        try:
            self._line.settimeout(self._bound_s)
            self._line.send(f"{self._number} {what}".encode())
            while number != str(self._number):
                self._line.settimeout(max(until_s - time.monotonic(), _LEAST_S))
                data = self._line.recv(ANSWER_BYTES)
                if not data:
                    raise DeviceError(f"device {self._device}: its worker is gone")
                number, _, answer = data.decode(errors="replace").partition(" ")
        except OSError as error:
            raise DeviceError(
                f"device {self._device}: its worker does not answer to {what}: {error}"
            ) from error
        ok, *goals = answer.split()
        if ok != "ok":
            raise DeviceError(answer)
        return tuple(map(float, goals))

    def close(self) -> None:
        """Close the line."""
        self._line.close()


class WorkerThread:
    """A worker in a thread of this process; `start`, then `close`. Thread: the starter's.

    The driver is called in that thread alone. hand: where the device's descriptor is handed on, for
    the guard; closed with the rest.
    """

    def __init__(
        self, plan: Plan, device: str, fds: WorkerFds, hand: socket.socket | None = None
    ) -> None:
        self.device = device
        self._worker = Worker(plan, device, fds)
        self._worker.hand = hand
        self._line = Asking(plan.drivers[device])
        self._control = WorkerControl(self._line.theirs.detach())
        self._started: SimpleQueue[Exception | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._main, daemon=True, name=f"inphase worker of {device}"
        )

    def start(self) -> None:
        """Open the device, and follow the grid from now on. Raises DeviceError."""
        self._thread.start()
        trouble = self._started.get()
        if trouble is not None:
            raise trouble

    def _main(self) -> None:
        try:
            try:
                self._worker.open()
            except Exception as error:
                self._started.put(error)
                return
            self._started.put(None)
            self._worker.run(self._control)
            self._control.obey_to_the_end(self._worker)
        finally:
            self._worker.close()

    def ask(self, what: str) -> tuple[float, ...]:
        """Have the driver do it, or tell its `torque`, between two turns; see `Asking.ask`."""
        return self._line.ask(what)

    def close(self) -> None:
        """End it, and close the device."""
        self._worker.stop()
        self._line.close()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        elif self._thread.ident is None:  # it never ran
            self._worker.close()
        if self._worker.hand is not None:
            self._worker.hand.close()
