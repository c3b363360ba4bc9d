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

from inphase.access.audit.log import AuditLog
from inphase.access.authenticator import RefusedKey
from inphase.access.keys import default_folder
from inphase.client import place
from inphase.client.kinds import REQUEST_BYTES
from inphase.errors import ServiceError
from inphase.schedule import Schedule
from inphase.service import requests
from inphase.service.doors import LOCAL, Door, DoorKeys, RemotePlaces, give, take
from inphase.service.emergency import EmergencyLane
from inphase.service.history import History
from inphase.service.kept_robot import KeptRobot, now
from inphase.service.leases import LeaseRules
from inphase.service.published.announcing import Announcer
from inphase.service.published.pages import PagePlace, page_of
from inphase.service.published.reports import Reports
from inphase.service.requests import Places, RequestRates, Requests
from inphase.service.served_robot import RobotPlaces, ServedRobot
from inphase.service.state_folder import state_folder

_TICK_MS = 20
_BURST = 64  # requests that are answered before the time is looked at
_QUEUE = 64
_CONTROL, _STOP, _ROBOTS = 0, 1, 2  # ports after the first; each robot has two from there on
_DRIVE, _FRAMES = 0, 1  # after the first of a robot's


@dataclass(frozen=True)
class ServiceOptions:
    """The options of a service."""

    simulate: bool = False
    speed: float = 0.25
    """the share of the velocity limits that is allowed from afar"""
    record: bool = True
    folder: Path | None = None
    """of its history and recordings; None: in the user's folder"""
    listen: str = ""
    """`tcp://HOST:PORT`, with the ports that follow it; empty: this host alone, by sockets"""
    keys: Path | None = None
    """the folder of keys; None: this user's"""
    page: PagePlace | None = None
    """of the first robot's web page, the others follow; None: as the schedules have it"""
    announce: bool = True
    """tell the network of it by mDNS, where it listens there"""
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
        self._places = RemotePlaces.parse(options.listen) if options.listen else None
        self._places_of: dict[str, Places] = {}
        self._keys: DoorKeys | None = None
        self._rates = RequestRates()
        self.addresses: dict[str, str] = {}
        """of its sockets, by what they are for"""

    # ---- start and end ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the robots, then listen. Raises ServiceError, and what a robot's start raises."""
        folder = state_folder(self._options.folder)
        history = History(folder / "history.sqlite")
        self._undo.callback(history.close)
        history.close_open(now().wall_s)
        self._listen(folder)
        announcer = self._announcer()
        for number, described in enumerate(self._schedules):
            self._start_robot(described, number, history, folder)
        recordings = folder / "recordings"
        self._reports = Reports(recordings, folder / "reports")
        self._undo.callback(self._reports.close)
        self._requests = Requests(
            self._robots, history, self._places_of, recordings, self._reports, tell=self._tell
        )
        self._start_emergency()
        if announcer is not None:
            announcer.start()

    def _announcer(self) -> Announcer | None:
        """Of the place on the network; it ends after the robots."""
        if self._places is None or self._keys is None or not self._options.announce:
            return None
        fingerprint = self._keys.server.fingerprint
        names = [one.name for one in self._schedules]
        announcer = Announcer(self._places, names, fingerprint, self._say)
        self._undo.callback(announcer.close)
        return announcer

    def _listen(self, folder: Path) -> None:
        """The doors; a place that is taken by another service is an error."""
        self._audit = AuditLog(folder)
        self._undo.callback(self._audit.close)
        self._context: zmq.Context[Any] = zmq.Context()
        self._undo.callback(self._context.term)
        if self._places is not None:
            self._keys = DoorKeys(self._context, self._options.keys or default_folder(), self._note)
            self._undo.callback(self._keys.close)
            if not self._keys.users():
                raise ServiceError(
                    f"{self._options.listen} is on the network, and nobody has a key; make one: "
                    f"inphase keys create NAME"
                )
        self._door = self._open("control", _CONTROL)
        self._undo.callback(self._door.close)
        self._stops = self._open("stop", _STOP)
        self._undo.callback(self._stops.close)  # also where a robot does not start

    def _open(self, name: str, port: int) -> Door:
        address = place.local_address(name)
        remote = self._places.at(port) if self._places is not None else ""
        door = Door(
            self._context,
            self._schedules[0],
            address,
            remote,
            self._keys,
            queue=_QUEUE,
            message_bytes=REQUEST_BYTES,
        )
        self.addresses[name] = remote or address
        return door

    def _note(self, refused: RefusedKey) -> None:
        """A key that was not let in; on another thread."""
        self._audit.note("refused", **refused._asdict())

    def _start_robot(
        self, described: Schedule, number: int, history: History, folder: Path
    ) -> None:
        local = place.local_address(f"{described.name}.drive")
        first = _ROBOTS + 2 * number
        places = RobotPlaces(local)
        if self._places is not None:
            drive, frames = self._places.at(first + _DRIVE), self._places.at(first + _FRAMES)
            places = RobotPlaces(local, drive, frames, str(self._options.keys or default_folder()))
        robot = ServedRobot(
            described,
            places,
            self._say,
            simulate=self._options.simulate,
            speed=self._options.speed,
            page=page_of(self._options.page, self._options.keys or default_folder(), number),
        )
        robot.start()
        kept = KeptRobot(
            robot,
            self._options.rules,
            history,
            tell=self._tell,
            folder=folder,
            recordings=folder / "recordings" if self._options.record else None,
        )
        self._undo.callback(kept.close)
        self._robots[described.name] = kept
        self._places_of[described.name] = Places(
            {"drive": local, "stop": place.local_address("stop"), "frames": robot.path},
            {"drive": first + _DRIVE, "stop": _STOP, "frames": first + _FRAMES},
        )

    def _start_emergency(self) -> None:
        pages = {name: one.robot.wishes() for name, one in self._robots.items()}
        lane = EmergencyLane(
            self._stops, pages, lambda user, name: self._tell("stopped", robot=name, user=user)
        )
        self._undo.callback(lane.close)
        lane.start()

    def stop(self, *_: object) -> None:
        """Ramp and park all robots, and end. Callable from a signal handler. A second call ends the
        parks: they hold."""
        if self._over:
            for kept in list(self._robots.values()):
                kept.robot.hurry()
        self._over = True

    def close(self) -> None:
        """Ramp all robots, end everything that was started."""
        self._undo.close()

    # ---- while it is up --------------------------------------------------------------------

    def serve(self) -> None:
        """Until `stop`, or until no robot is left."""
        poller = zmq.Poller()
        for socket in self._door.sockets:
            poller.register(socket, zmq.POLLIN)
        while not self._over:
            for socket, _ in poller.poll(_TICK_MS):
                for _ in range(_BURST):
                    parts = take(socket)
                    if parts is None:
                        break
                    self._take(socket, parts)
            self._drop_revoked()
            for robot in self._robots.values():
                robot.advance()
            self._reports.advance()
            if all(robot.book.closed for robot in self._robots.values()):
                self._over = True

    def _take(self, socket: Any, parts: list[Any]) -> None:
        if len(parts) != 2:
            return  # no request of ours; who sent it waits in vain
        caller = self._door.caller(socket, parts[1])
        if caller is None or not self._rates.pass_on(caller.user, parts[1].buffer):
            return  # a revoked key, or a flood: an answer would be more work than it is worth
        reply, words = self._requests.answer(caller, parts[1].bytes)
        if not reply["ok"]:
            asked = words.do if words is not None else ""
            self._audit.note("denied", user=caller.user, do=asked, why=reply["error"])
        with contextlib.suppress(zmq.ZMQError):  # it has gone, or does not read
            give(socket, [parts[0].bytes, requests.packed(reply)])

    def _drop_revoked(self) -> None:
        """A user without a key any more neither holds nor waits from now on."""
        if self._keys is None:
            return
        users = self._keys.users() | {LOCAL}
        for robot in self._robots.values():
            for user in robot.book.users - users:
                self._tell("revoked", robot=robot.name, user=user)
                robot.book.revoke(user, now())

    def _tell(self, event: str, **facts: object) -> None:
        self._audit.note(event, **facts)
        self._say(" ".join([event, *(f"{key} {value}" for key, value in facts.items())]))
