"""One robot that is kept up: its runtime's process, its lease page, and what drives it.

The runtime is the one of `inphase run`, in its process. It gives the service the policy's mailbox,
the lease page and the page of wishes. The service decides about leases, and never posts a command.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from inphase.client.place import SERVICE, local_address
from inphase.errors import InphaseError, ServiceError
from inphase.frames import store
from inphase.host.endpoint import remove_left
from inphase.host.process import Process
from inphase.runtime.runner_line import ESTOP, HURRY, RunnerChild
from inphase.schedule import Schedule
from inphase.schedule.simulation_tables import Page

_AGAIN_S = 2.0  # from a start of what sends frames to the next one


class RobotPlaces(NamedTuple):
    """The addresses of a robot, and the folder of keys."""

    drive: str
    """on this host"""
    remote_drive: str = ""
    """on the network, as the two that follow; empty: it is not there"""
    frames: str = ""
    keys: str = ""


class Armed(NamedTuple):
    """The answer to the newest wish to arm that has one."""

    number: int = 0
    """of the wish, counted from 1 on; 0: there was none"""
    trouble: str = ""
    """why it is not armed; empty: it is"""


class ServedRobot:
    """A robot from its start to its end. Thread: the service's.

    speed: the share of its velocity limits that is allowed. page: its web page; None: that of its
    schedule. say: takes a message for a person.
    """

    def __init__(
        self,
        described: Schedule,
        places: RobotPlaces,
        say: Callable[[str], None],
        *,
        simulate: bool,
        speed: float,
        page: Page | None = None,
    ) -> None:
        self.schedule = described
        self.name = described.name
        self._places = places
        self._say = say
        self._options = ["--wait-policy", "--leased", "--speed", str(speed)]
        self._options += ["--simulate"] if simulate else []
        self._options += [] if page is None else ["--page", msgspec.json.encode(page).decode()]
        self._undo = contextlib.ExitStack()
        self._drive: Process | None = None
        self._frames: Process | None = None
        self._frames_from_s = 0.0
        self._drives_for: dict[str, Any] = {"lease": 0}
        self.path = ""
        """of its store"""
        self._arms = 0
        self.armed = Armed()

    # ---- start and end ---------------------------------------------------------------------

    def start(self) -> None:
        """Start it, armed, and idle until a lease is granted. Raises what the runtime raises."""
        service = {SERVICE: local_address("control")}  # its page asks there
        self._child = RunnerChild(self.schedule.path, self._options, self._say, service)
        try:
            self._begin()
        except BaseException:
            self._let_go()
            raise

    def _begin(self) -> None:
        event = self._child.wait("store")
        if event["guests"]:
            raise ServiceError(
                f"{self.schedule.path}: devices {', '.join(event['guests'])} have home = "
                f'"thread", the caller\'s own; give them home = "process" to serve them'
            )
        self.path = str(event["path"])
        self._mailbox, self._bell, lease_page, wishes = self._child.line.fds[1:]
        for fd in self._child.line.fds:
            self._undo.callback(os.close, fd)
        self._child.line.fds = []
        self._lease_fd, self.wishes_fd = lease_page, wishes
        self._page = store.LeasePage(os.dup(lease_page), writes=True)
        self._undo.callback(self._page.close)
        self.reader = store.Reader(self.path)
        self._undo.callback(self.reader.close)
        self._start_drive()
        assert self._drive is not None
        self._drive.wait_ready()
        if self._places.frames:
            self._start_frames().wait_ready()
        self._child.line.send(do="ready")
        self._child.wait("running")

    def _start_drive(self) -> None:
        """The process that takes commands from afar, and posts them under the lease."""
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._drive_line = ours
        with theirs:
            fds = [self._mailbox, self._bell, self._lease_fd, theirs.fileno()]
            self._drive = Process(
                f"drive of {self.name}",
                "inphase.service.drive",
                [
                    str(self.schedule.path),
                    self.path,
                    self._places.drive,
                    self._places.remote_drive,
                    self._places.keys,
                    *map(str, fds),
                ],
                pass_fds=fds,
            )
        self._tell_drive()

    def _start_frames(self) -> Process:
        """The process that sends the frames to all who have a key."""
        self._frames = Process(
            f"frames of {self.name}",
            "inphase.runtime.frame_sender",
            [str(self.schedule.path), self.path, self._places.frames, self._places.keys],
        )
        self._frames_from_s = time.monotonic()
        return self._frames

    def close(self) -> dict[str, Any] | None:
        """Ramp it, end its processes; the summary of its run, where it had one."""
        try:
            with contextlib.suppress(InphaseError, TimeoutError):  # its end is what is wanted
                return self._child.finish()
            return None
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """End its processes, however far its start came."""
        if self._drive is not None:
            self._drive.stop()
            self._drive_line.close()
            self._drive = None
            remove_left(self._places.drive)
        if self._frames is not None:
            self._frames.stop()
            self._frames = None
        self._child.close()
        self._undo.close()

    # ---- while it is up --------------------------------------------------------------------

    @property
    def ended(self) -> str:
        """How its runtime ended; empty: it runs."""
        return self._child.ended

    @property
    def policy_fds(self) -> list[int]:
        """For a policy of a job: its mailbox and its bell."""
        return [self._mailbox, self._bell]

    def wishes(self) -> store.ClientPage:
        """The page of wishes, which the caller closes."""
        return store.ClientPage(os.dup(self.wishes_fd))

    def tend(self) -> list[dict[str, Any]]:
        """Start again what has ended; what the drive process has said since."""
        if self._drive is None:
            return []
        self._tend_frames()
        said = self._hear_drive()
        how = self._drive.ended()
        if how is not None and not self.ended:
            self._say(f"{self.name}: what drives it ended ({how}); it is started again")
            self._drive.stop()
            self._drive_line.close()
            self._start_drive()
        return said

    def _tend_frames(self) -> None:
        """It ends by itself where a key was revoked: the others connect to the next one."""
        how = None if self._frames is None else self._frames.ended()
        if how is None or self.ended or time.monotonic() - self._frames_from_s < _AGAIN_S:
            return
        assert self._frames is not None
        self._frames.stop()
        self._start_frames()

    def _hear_drive(self) -> list[dict[str, Any]]:
        said = []
        with contextlib.suppress(OSError):
            while word := self._drive_line.recv(65536):
                said.append(json.loads(word))
        return said

    def drive_by(self, lease: int, user: str = "", token: str = "") -> None:
        """Tell what drives whose commands it takes from now on; lease 0: nobody's."""
        self._drives_for = {"lease": lease, "user": user, "token": token}
        self._tell_drive()

    def _tell_drive(self) -> None:
        with contextlib.suppress(OSError):  # it has ended, and is told when it is started again
            self._drive_line.send(json.dumps(self._drives_for).encode())

    def let_drive(self, lease: int, until_ns: int) -> None:
        """Let the core obey that lease until then, by the monotonic clock; 0: none."""
        self._page.set(lease, until_ns)

    def arm(self) -> int:
        """A local operator asks to arm it again, for the so-manieth time; `armed` says what comes
        of it."""
        self._arms += 1
        self._child.line.send(do="arm", estops=self.reader.status()["estops"])
        threading.Thread(
            target=self._hear_armed, args=(self._arms,), name="inphase armed", daemon=True
        ).start()
        return self._arms

    def _hear_armed(self, number: int) -> None:
        try:
            trouble = self._child.wait("armed")["error"] or ""
        except (InphaseError, TimeoutError):
            trouble = "its runtime did not answer"
        self.armed = Armed(number, trouble)
        self._say(f"{self.name}: {trouble or 'armed'}")

    def hurry(self) -> None:
        """It parks no longer, and holds; never waits. Callable from a signal handler."""
        self._child.say_stop(HURRY)

    def estop(self) -> None:
        """Emergency stop; never waits."""
        self._child.say_stop(ESTOP)
