"""A policy client of a served robot: it asks for the lease, and drives from afar."""

import contextlib
from collections.abc import Mapping
from typing import Any

from inphase.client.mirror import FrameMirror
from inphase.client.remote_drive import RemoteDrive
from inphase.client.remote_lease import RemoteLease
from inphase.client.remote_robot import connect
from inphase.episodes.clients.client import Client
from inphase.errors import ScheduleError, ServiceError
from inphase.frames.frame import Frame
from inphase.schedule import Schedule
from inphase.world.randomisation import KnobLike

_LEASE_S = 600.0
_WAIT_S = 10.0


class RemoteClient(Client):
    """On the wall clock, a robot elsewhere. The robot runs on from one episode to the next.

    The lease is held from the first episode on, until `close`. Its frames tell each episode.
    service, key: as `inphase.connect` takes them.
    """

    is_live = True

    def __init__(self, schedule: Schedule, *, service: str = "", key: str | None = None) -> None:
        super().__init__(schedule)
        self._service = service
        self._key = key
        self._undo = contextlib.ExitStack()
        self._lease: RemoteLease | None = None

    def start(self, seed: int, episode: int, randomise: Mapping[str, KnobLike] | None) -> None:
        """The lease, or with it the next episode. Raises ServiceError, TimeoutError while others
        hold it for longer than 10 minutes."""
        if randomise:
            raise ScheduleError(
                f"{self.schedule.path}: knobs are randomised in lock step alone; got "
                f"{', '.join(randomise)}"
            )
        if self._lease is None:
            self._begin()
        self._mark("ended")
        self._mark("running")

    def _begin(self) -> None:
        robot = connect(self._service, robot=self.schedule.name, key=self._key)
        self._undo.callback(robot.close)
        lease = robot.request().wait(_LEASE_S)
        self._drive = lease.drive()
        self._undo.callback(self._drive.close)
        self._check(self._drive)
        self._mirror = FrameMirror(self._drive.layout, self._drive.description)
        self._undo.callback(self._mirror.close)
        self._lease = lease
        self.follower = self._mirror.follower
        self.answer, self._refuse, self._next = self._answer, self._silent, self._take_frame
        self.turn = self._answer_then_next

    def _check(self, drive: RemoteDrive) -> None:
        """Raises ServiceError: the robot runs another schedule."""
        theirs = drive.layout.hash
        if theirs != self.schedule.hash:
            raise ServiceError(
                f"{self.schedule.path} is not the schedule of that robot (hash "
                f"{self.schedule.hash}, there {theirs}); take the one that is served"
            )

    def _answer(self, command: Any) -> str | None:
        try:
            self._drive.act(command)
        except ValueError:
            return "shape"
        return None

    def _silent(self, reason: str) -> None:
        """No command: nothing is sent."""

    def _take_frame(self) -> Frame:
        return self._mirror.take(self._drive.next(_WAIT_S))

    def _mark(self, outcome: str) -> None:
        """Of the episode, for recordings; where a person marked it otherwise, that stays."""
        if self._lease is not None:
            with contextlib.suppress(ServiceError):
                self._lease.episode(outcome)

    def close(self) -> None:
        """Give the lease back; the robot ramps."""
        self._mark("ended")
        self._lease = None
        self._undo.close()
        self._undo = contextlib.ExitStack()
