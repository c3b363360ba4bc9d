"""The service: keeps robots up, decides about leases, and answers who asks.

One loop looks at the requests that have come, at the time, and at the robots' processes. Nothing in
it waits for a client or a robot. Each robot has a process that drives it (`drive`). Stops have a
thread and a socket of their own (`emergency`).
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from inphase.errors import ServiceError
from inphase.host import endpoint
from inphase.schedule import Schedule
from inphase.service import place, requests
from inphase.service.drive import user_of
from inphase.service.emergency import EmergencyLane
from inphase.service.history import History
from inphase.service.kept_robot import KeptRobot, now
from inphase.service.leases import LeaseRules
from inphase.service.requests import Caller, Requests
from inphase.service.served_robot import ServedRobot

_TICK_MS = 20
_BURST = 64  # requests that are answered before the time is looked at
_QUEUE = 64
_LOCAL = "operate"  # the role of who can use the socket in this user's folder


@dataclass(frozen=True)
class ServiceOptions:
    """The options of a service."""

    simulate: bool = False
    speed: float = 0.25
    """the share of the velocity limits that is allowed from afar"""
    record: bool = True
    folder: Path | None = None
    """of its history and recordings; None: in the user's folder"""
    rules: LeaseRules = field(default_factory=LeaseRules)


class Service:
    """Robots that are kept up for whoever has a lease. Thread: the main one.

    say: takes a message for a person.
    """

    def __init__(
        self, schedules: Sequence[Schedule], options: ServiceOptions, say: Callable[[str], None]
    ) -> None:
        names = [one.name for one in schedules]
        if len(set(names)) != len(names):
            raise ServiceError(f"each robot has a name of its own, got {', '.join(names)}")
        self._schedules = schedules
        self._options = options
        self._say = say
        self._undo = contextlib.ExitStack()
        self._robots: dict[str, KeptRobot] = {}
        self._over = False
        self.addresses: dict[str, str] = {}
        """of its sockets, by what they are for"""

    # ---- start and end ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the robots, then listen. Raises ServiceError, and what a robot's start raises."""
        folder = place.state_folder(self._options.folder)
        history = History(folder / "history.sqlite")
        self._undo.callback(history.close)
        history.close_open(now().wall_s)
        self._listen()
        drives = {}
        for described in self._schedules:
            address = place.local_address(f"{described.name}.drive")
            robot = ServedRobot(
                described,
                (address, ""),
                self._say,
                simulate=self._options.simulate,
                speed=self._options.speed,
            )
            robot.start()
            recordings = folder / "recordings" if self._options.record else None
            kept = KeptRobot(
                robot,
                self._options.rules,
                history,
                tell=self._tell,
                folder=folder,
                recordings=recordings,
            )
            self._undo.callback(kept.close)
            self._robots[described.name] = kept
            drives[described.name] = {"drive": address, "stop": self.addresses["stop"]}
        self._requests = Requests(self._robots, history, drives, folder / "recordings")
        self._start_emergency()

    def _listen(self) -> None:
        """The sockets of this host; taken by another service of this user: an error."""
        self._context: zmq.Context[Any] = zmq.Context()
        self._undo.callback(self._context.term)
        self._socket = self._bind("control")
        self._undo.callback(self._socket.close, 0)
        self._stops = self._bind("stop")

    def _bind(self, name: str) -> Any:
        address = place.local_address(name)
        socket = self._context.socket(zmq.ROUTER)
        endpoint.set_bounds(socket, queue=_QUEUE, message_bytes=requests.REQUEST_BYTES)
        endpoint.bind(socket, "name", address, self._schedules[0])
        self._undo.callback(endpoint.unlink, address)
        self.addresses[name] = address
        return socket

    def _start_emergency(self) -> None:
        pages = {name: one.robot.wishes() for name, one in self._robots.items()}
        lane = EmergencyLane(
            self._stops,
            pages,
            user_of,
            lambda user, name: self._tell("stopped", robot=name, user=user),
        )
        self._undo.callback(lane.close)
        lane.start()

    def stop(self, *_: object) -> None:
        """Ramp all robots and end. Callable from a signal handler."""
        self._over = True

    def close(self) -> None:
        """Ramp all robots, end everything that was started."""
        self._undo.close()

    # ---- while it is up --------------------------------------------------------------------

    def serve(self) -> None:
        """Until `stop`, or until no robot is left."""
        while not self._over:
            if self._socket.poll(_TICK_MS):
                for _ in range(_BURST):
                    try:
                        self._take(self._socket.recv_multipart(zmq.NOBLOCK, copy=False))
                    except zmq.Again:
                        break
            for robot in self._robots.values():
                robot.advance()
            if all(robot.book.closed for robot in self._robots.values()):
                self._over = True

    def _take(self, parts: list[Any]) -> None:
        if len(parts) != 2:
            return  # no request of ours; who sent it waits in vain
        caller = Caller(user_of(parts[1]), _LOCAL)
        reply, _ = self._requests.answer(caller, parts[1].bytes)
        with contextlib.suppress(zmq.ZMQError):  # it has gone, or does not read
            self._socket.send_multipart([parts[0].bytes, requests.packed(reply)], zmq.NOBLOCK)

    def _tell(self, event: str, **facts: object) -> None:
        self._say(" ".join([event, *(f"{key} {value}" for key, value in facts.items())]))
