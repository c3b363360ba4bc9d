"""A served robot with its leases: who drives it, what is recorded, and what is told."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inphase.errors import LeaseRefused, RecordingError
from inphase.service.history import History
from inphase.service.jobs.jobs import Jobs
from inphase.service.lease_recorder import LeaseRecorder
from inphase.service.leases import (
    EndedLease,
    Lease,
    LeaseBook,
    LeaseRules,
    Now,
    Standing,
)
from inphase.service.served_robot import ServedRobot

Tell = Callable[..., None]
"""takes an event's name and its facts, for the audit log"""


def now() -> Now:
    """This instant."""
    return Now(time.monotonic(), time.time())


class KeptRobot:
    """One robot, its lease book, and the recording of each lease. Thread: the service's.

    folder: the service's. recordings: that of the recordings; None: none are made.
    """

    def __init__(
        self,
        robot: ServedRobot,
        rules: LeaseRules,
        history: History,
        *,
        tell: Tell,
        folder: Path,
        recordings: Path | None,
    ) -> None:
        self.robot = robot
        self.book = LeaseBook(rules, number=history.newest(robot.name))
        self._history = history
        self._tell = tell
        self._recorder = LeaseRecorder(robot, recordings)
        self._is_told = True
        """the holder was let in"""
        self.jobs = Jobs(
            robot,
            self.book,
            history,
            folder=folder,
            tell=tell,
            may_begin=self._has_begun,
            keep_score=self._recorder.keep_score,
        )
        self._drives = (0, 0)
        self.counts: dict[str, int] = {}
        """of the commands from afar: taken, and refused by reason"""

    @property
    def name(self) -> str:
        """Of the robot."""
        return self.robot.name

    def advance(self) -> None:
        """Let time pass: end and grant leases, and look after the robot's processes."""
        if self.robot.ended and not self.book.closed:
            self.book.close(f"its runtime ended: {self.robot.ended}", now())
            self._tell("robot_ended", robot=self.name, how=self.robot.ended)
        self.book.advance(now())
        self.jobs.advance(now())
        self.follow_book()
        self._let_in()
        self._recorder.reap()
        for said in self.robot.tend():
            self.counts = said["counts"]

    def follow_book(self) -> None:
        """Carry out what the book has decided: the core and what drives are told."""
        while self.book.ended:
            self._end(self.book.ended.pop(0))
        while self.book.granted:
            self._begin(self.book.granted.pop(0))
        number, until_s = self.book.drives_until(now())
        drives = (number, int(until_s * 1e9))
        if drives != self._drives:
            self.robot.let_drive(*drives)
            self._drives = drives

    def _begin(self, lease: Lease) -> None:
        try:
            self._recorder.begin(lease.number)
        except RecordingError as error:
            self._tell("unrecorded", robot=self.name, lease=lease.number, why=str(error))
        path = str(self._recorder.path or "")
        granted_s = lease.granted.wall_s
        self._note_unkept(
            self._history.granted(self.name, lease.number, lease.user, granted_s, path)
        )
        self._tell("granted", robot=self.name, lease=lease.number, user=lease.user)
        self._is_told = False

    def _note_unkept(self, why: str) -> None:
        """The history does not have it; the robot goes on."""
        if why:
            self._tell("unkept", robot=self.name, why=why)

    def _let_in(self) -> None:
        """From here on what drives takes the holder's commands: the recording has begun."""
        lease = self.book.lease
        if lease is not None and not self._is_told and self._recorder.is_ready():
            self.robot.drive_by(lease.number, lease.user, lease.token)
            self._is_told = True

    def _has_begun(self) -> bool:
        """True once the recording of the lease has, so that the robot may move."""
        return self._is_told

    def _end(self, ended: EndedLease) -> None:
        self.robot.let_drive(0, 0)  # first: nothing that follows may hold it up
        self._drives = (0, 0)
        self.robot.drive_by(0)
        lease = ended.lease
        result = "its recorder ended" if self._recorder.has_failed else ""
        self._recorder.end()
        self._note_unkept(
            self._history.ended(self.name, lease.number, ended.at.wall_s, ended.why, result)
        )
        self._tell("ended", robot=self.name, lease=lease.number, user=lease.user, why=ended.why)

    def standing(self, user: str) -> Standing:
        """How that user stands now."""
        return self.book.standing(user, now())

    def refuse_where_closed(self) -> None:
        """Raises LeaseRefused where nobody is granted a lease."""
        if self.book.closed:
            raise LeaseRefused(f"{self.name} is not to be had: {self.book.closed}")

    def facts(self) -> dict[str, Any]:
        """The facts that everybody with a key may know."""
        at = now()
        status = self.robot.reader.status()
        lease = self.book.lease
        return {
            "robot": self.name,
            "state": status["state"],
            "cycle": status["cycle"],
            "holder": "" if lease is None else lease.user,
            "lease": 0 if lease is None else lease.number,
            "left_s": 0.0 if lease is None else max(0.0, lease.ends_s - at.run_s),
            "queue": self.book.queue,
            "waits_s": [self.book.standing(user, at).wait_s for user in self.book.queue],
            "reservations": [
                {"number": r.number, "user": r.user, "start_s": r.start_s, "end_s": r.end_s}
                for r in self.book.reservations
            ],
            "closed": self.book.closed,
            "commands": self.counts,
            "armed": self.robot.armed._asdict(),
        }

    def close(self) -> None:
        """Ramp the robot, end its processes."""
        try:
            self.jobs.close(now())
            self.book.close("the service ends", now())
            self.follow_book()
        finally:
            self.robot.close()
            self._recorder.close()
