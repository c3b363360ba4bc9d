"""The world's ends of the channels to stand-ins, in the process that holds a simulated world."""

import contextlib
import json
import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from inphase.world import stand_in_channel
from inphase.world.stand_in_channel import Ask, StandInCommand, State

_ASKED_MAX = 256  # of one device
_NEVER_NS = 2**63 - 1


class Host(Protocol):
    """The part of a world that stand-ins use."""

    def state(self, at_ns: int) -> State:
        """The state at an instant, or the present where that is later."""

    def actuator_of(self, device: str) -> int | None:
        """The number of the actuator that a device moves."""

    def command(self, actuator: int, values: list[float], now_ns: int) -> None:
        """Command an actuator."""

    def switch_all(self, actuator: int, *, on: bool) -> None:
        """An actuator follows commands from where it is, or exerts no force."""


class StandInServer:
    """All stand-ins of one world. The caller closes it. Thread: the world's.

    channel: a socket to the runtime, which hands over the channels; below 0: there is none.
    """

    def __init__(self, host: Host, channel: int) -> None:
        self._host = host
        self._poll = select.epoll()
        self._runtime = socket.socket(fileno=channel) if channel >= 0 else None
        self._stand_ins: dict[int, _Connection] = {}
        if self._runtime is not None:
            self._poll.register(self._runtime, select.EPOLLIN)

    def tell(self, answered: Iterable[str]) -> None:
        """Tell the runtime which devices are answered for by their protocols."""
        if self._runtime is not None:
            self._runtime.send(json.dumps({"answers": list(answered)}).encode())

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._poll.fileno()

    @property
    def due_ns(self) -> int:
        """When the next answer is due."""
        return min((stand_in.due_ns for stand_in in self._stand_ins.values()), default=_NEVER_NS)

    def on_readable(self) -> None:
        """Take what has come. SystemExit when the runtime is gone."""
        for fd, _ in self._poll.poll(0):
            if self._runtime is not None and fd == self._runtime.fileno():
                self._take(self._runtime)
            elif not self._stand_ins[fd].hear():
                self._poll.unregister(fd)
                self._stand_ins.pop(fd).close()

    def _take(self, runtime: socket.socket) -> None:
        data, fds, _, _ = socket.recv_fds(runtime, stand_in_channel.REQUEST_MAX, 1)
        if not data:
            raise SystemExit(0)
        device = json.loads(data)["device"]
        actuator = None if device is None else self._host.actuator_of(device)
        self._stand_ins[fds[0]] = _Connection(self._host, actuator, socket.socket(fileno=fds[0]))
        self._poll.register(fds[0], select.EPOLLIN)

    def answer(self, now_ns: int) -> None:
        """Answer whoever asked for an instant that has come."""
        for stand_in in self._stand_ins.values():
            stand_in.answer(now_ns)

    def close(self) -> None:
        """Close the channels."""
        for stand_in in self._stand_ins.values():
            stand_in.close()
        self._stand_ins.clear()
        if self._runtime is not None:
            self._runtime.close()
        self._poll.close()


class _Connection:
    """The connection to one stand-in."""

    def __init__(self, host: Host, actuator: int | None, channel: socket.socket) -> None:
        self._host = host
        self._actuator = actuator
        self._channel = channel
        self._asked: deque[int] = deque(maxlen=_ASKED_MAX)

    @property
    def due_ns(self) -> int:
        """When the next answer is due."""
        return self._asked[0] if self._asked else _NEVER_NS

    def hear(self) -> bool:
        """Take what has come; whether the stand-in is still there."""
        while True:
            try:
                data = self._channel.recv(stand_in_channel.REQUEST_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                return False
            if not data:
                return False
            self._obey(data)
        self.answer(time.monotonic_ns())
        return True

    def _obey(self, data: bytes) -> None:
        request = stand_in_channel.parse(data)
        if isinstance(request, Ask):
            self._asked.append(request.at_ns)
        elif self._actuator is None:
            return
        elif isinstance(request, StandInCommand):
            self._host.command(self._actuator, request.values, time.monotonic_ns())
        else:
            self._host.switch_all(self._actuator, on=request.on)

    def answer(self, now_ns: int) -> None:
        """Send the states of the instants that have come. A stand-in that does not read loses
        them."""
        while self._asked and self._asked[0] <= now_ns:
            state = self._host.state(self._asked.popleft())
            with contextlib.suppress(OSError):
                self._channel.send(stand_in_channel.pack_state(state), socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
