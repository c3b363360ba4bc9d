"""The requests of the service, by name: who may ask what, and what is answered.

A request is a map with `do`, optionally `id`, and the keys that its row below names. Sizes are
bound before anything is decoded. SERVICE.md is the format.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgpack
import msgspec

from inphase.access.rates import Rate, Rates
from inphase.client.kinds import PIECE_BYTES, REQUEST_BYTES
from inphase.errors import InphaseError, LeaseRefused, ServiceError
from inphase.frames.sending import describe
from inphase.service.doors import Caller
from inphase.service.history import History
from inphase.service.jobs.job import JobWords
from inphase.service.kept_robot import KeptRobot, now
from inphase.service.leases import Standing
from inphase.service.published.reports import Reports

_log = logging.getLogger(__name__)

_WATCH, _DRIVE, _OPERATE = "watch", "drive", "operate"
MAY = {_WATCH: {_WATCH}, _DRIVE: {_WATCH, _DRIVE}, _OPERATE: {_WATCH, _DRIVE, _OPERATE}}
"""what each role may ask for; `operate` is that of who sits at the robot's host"""


class Places(NamedTuple):
    """The sockets of a robot, by purpose."""

    local: Mapping[str, str]
    """addresses on this host"""
    remote: Mapping[str, int]
    """ports on the network, counted from that of the control socket"""

    def of(self, caller: Caller) -> dict[str, Any]:
        """As that caller can reach them."""
        return dict(self.local if caller.is_local else self.remote)


Whole = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
"""a number that files and the database can hold"""


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys of all requests."""

    do: str
    id: int | str | None = None
    robot: str = ""
    seconds: float | None = None
    lease: Whole = 0
    token: str = ""
    user: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    number: Whole = 0
    since_s: float = 0.0
    sha256: str = ""
    ending: str = ""
    size: Whole = 0
    offset: Whole = 0
    piece: bytes = b""
    job: JobWords | None = None
    outcome: str = ""
    event: Literal["stopped", "signed in", "signed out", "sign-in refused"] | None = None
    address: str = ""


class _Keep(msgspec.Struct, frozen=True):
    """A keep-alive, as far as it is looked at."""

    do: Literal["keep"]


_KEEP_BYTES = 512
_KEEPS = Rate(messages=100, messages_burst=200)
"""keep-alives of a user whose other requests are too many: four a second for each robot"""
_keeps = msgspec.msgpack.Decoder(_Keep)

_Method = Callable[[Caller, Words], dict[str, Any]]


class Requests:
    """Answers them. Thread: the service's.

    places: the sockets of each robot. recordings: the folder of the recordings. reports: on them.
    tell: takes what happened and its facts, for the audit log.
    """

    def __init__(
        self,
        robots: Mapping[str, KeptRobot],
        history: History,
        places: Mapping[str, Places],
        recordings: Path,
        reports: Reports,
        *,
        tell: Callable[..., None],
    ) -> None:
        self._robots = robots
        self._history = history
        self._places = places
        self._recordings = recordings
        self._reports = reports
        self._tell = tell
        self._decoder = msgspec.msgpack.Decoder(Words)
        self.methods: dict[str, tuple[str, _Method]] = {
            "ping": (_WATCH, lambda caller, words: {"user": caller.user, "role": caller.role}),
            "robots": (_WATCH, self._list),
            "describe": (_WATCH, self._describe),
            "stop": (_WATCH, self._stop),
            "leases": (_WATCH, self._leases),
            "lease": (_DRIVE, self._lease),
            "standing": (_DRIVE, self._standing),
            "keep": (_DRIVE, self._keep),
            "release": (_DRIVE, self._release),
            "leave": (_DRIVE, self._leave),
            "reserve": (_DRIVE, self._reserve),
            "cancel": (_DRIVE, self._cancel),
            "episode": (_DRIVE, self._mark_episode),
            "upload": (_DRIVE, self._upload),
            "submit": (_DRIVE, self._submit),
            "jobs": (_WATCH, self._list_jobs),
            "cancel_job": (_DRIVE, self._cancel_job),
            "mark": (_DRIVE, self._mark),
            "reset": (_DRIVE, self._reset),
            "fetch": (_WATCH, self._fetch),
            "report": (_WATCH, self._report),
            "take": (_OPERATE, self._take),
            "arm": (_OPERATE, self._arm),
            "page": (_OPERATE, self._note_page),
        }
        """by name: the least role that may ask, and what is done"""

    def answer(self, caller: Caller, request: bytes) -> tuple[dict[str, Any], Words | None]:
        """The reply, whatever the request holds, and the request as it was understood."""
        if len(request) > REQUEST_BYTES:
            return _refusal(f"a request has at most {REQUEST_BYTES} bytes"), None
        try:
            words = self._decoder.decode(request)
        except Exception as error:  # whatever a decoder makes of it, it is the client's
            return _refusal(f"no request: {error}"), None
        role, method = self.methods.get(words.do, ("", None))
        if method is None:
            known = ", ".join(sorted(self.methods))
            return _refusal(f"no request {words.do!r}; there are {known}", words.id), words
        if role not in MAY.get(caller.role, ()):
            text = f"{words.do} is for who may {role}; the key {caller.user} may {caller.role}"
            return _refusal(text, words.id), words
        try:
            return {"id": words.id, "ok": True, **method(caller, words)}, words
        except Exception as error:  # one request must not end the robots of all
            text = str(error)
            if not isinstance(error, InphaseError):
                _log.exception("the request %s of %s failed", words.do, caller.user)
                text = f"{words.do} failed in the service, which says more: {error!r}"
            return _refusal(text, words.id), words

    def _robot(self, words: Words) -> KeptRobot:
        """Raises ServiceError."""
        if not words.robot and len(self._robots) == 1:
            return next(iter(self._robots.values()))
        if words.robot not in self._robots:
            known = ", ".join(self._robots)
            raise ServiceError(f"no robot {words.robot!r} is served here; there are {known}")
        return self._robots[words.robot]

    def _list(self, caller: Caller, words: Words) -> dict[str, Any]:
        robots = [one.facts() | self._places[one.name].of(caller) for one in self._robots.values()]
        return {"robots": robots, "user": caller.user, "role": caller.role}

    def _describe(self, caller: Caller, words: Words) -> dict[str, Any]:
        return {"description": describe(self._robot(words).robot.reader)}

    def _stop(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        robot.robot.estop()
        self._tell("stopped", robot=robot.name, user=caller.user)
        return {}

    def _leases(self, caller: Caller, words: Words) -> dict[str, Any]:
        found = self._history.find(robot=words.robot, user=words.user, since_s=words.since_s)
        return {"leases": found}

    def _lease(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        robot.refuse_where_closed()
        standing = robot.book.request(caller.user, now(), words.seconds)
        robot.follow_book()
        return self._told(caller, robot, standing)

    def _told(self, caller: Caller, robot: KeptRobot, standing: Standing) -> dict[str, Any]:
        return {"robot": robot.name, **asdict(standing), **self._places[robot.name].of(caller)}

    def _standing(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        return self._told(caller, robot, robot.standing(caller.user))

    def _keep(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        standing = robot.book.keep(caller.user, words.lease, words.token, now())
        robot.follow_book()
        return {"left_s": standing.left_s}

    def _release(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        robot.book.release(caller.user, words.lease, words.token, now())
        robot.follow_book()
        return {}

    def _leave(self, caller: Caller, words: Words) -> dict[str, Any]:
        self._robot(words).book.leave(caller.user)
        return {}

    def _reserve(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        made = robot.book.reserve(caller.user, words.start_s, words.end_s, now())
        robot.follow_book()
        return {"number": made.number}

    def _cancel(self, caller: Caller, words: Words) -> dict[str, Any]:
        self._robot(words).book.cancel(words.number, caller.user)
        return {}

    def _mark_episode(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        standing = robot.book.keep(caller.user, words.lease, words.token, now())
        assert standing.state == "holds"
        wishes = robot.robot.wishes()
        try:
            return {"episode": wishes.episode(words.outcome)}
        except ValueError as error:
            raise ServiceError(str(error)) from error
        finally:
            wishes.close()

    # ---- jobs ------------------------------------------------------------------------------

    def _upload(self, caller: Caller, words: Words) -> dict[str, Any]:
        uploads = self._robot(words).jobs.uploads
        return {
            "here": uploads.put(words.sha256, words.ending, words.size, words.offset, words.piece)
        }

    def _submit(self, caller: Caller, words: Words) -> dict[str, Any]:
        if words.job is None:
            raise ServiceError("a job is missing: give the key job")
        return {"number": self._robot(words).jobs.submit(caller.user, words.job, now())}

    def _list_jobs(self, caller: Caller, words: Words) -> dict[str, Any]:
        found = self._history.jobs(robot=words.robot, user=words.user, number=words.number)
        return {"jobs": found}

    def _cancel_job(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        robot.jobs.cancel(caller.user, words.number, now())
        robot.follow_book()
        return {}

    def _mark(self, caller: Caller, words: Words) -> dict[str, Any]:
        self._robot(words).jobs.mark(words.number, words.outcome)
        return {}

    def _reset(self, caller: Caller, words: Words) -> dict[str, Any]:
        self._robot(words).jobs.reset(words.number)
        return {}

    def _fetch(self, caller: Caller, words: Words) -> dict[str, Any]:
        """A piece of a lease's recording."""
        name = f"{self._robot(words).name}-{words.lease}.mcap"
        path = self._recordings / name
        try:
            with path.open("rb") as file:
                file.seek(words.offset)
                return {"size": path.stat().st_size, "piece": file.read(PIECE_BYTES)}
        except (OSError, ValueError) as error:
            raise ServiceError(
                f"there is no recording {name}; inphase jobs names that of each job, and a service "
                f"with --no-record makes none"
            ) from error

    def _report(self, caller: Caller, words: Words) -> dict[str, Any]:
        """A piece of the report on a lease's recording, which is made when it is asked for."""
        robot = self._robot(words)
        lease = robot.book.lease
        if lease is not None and lease.number == words.lease:
            raise ServiceError(f"lease {words.lease} goes on; ask for its report once it has ended")
        return self._reports.ask(f"{robot.name}-{words.lease}", words.offset)

    # ---- what the operator decides ---------------------------------------------------------

    def _take(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        standing = robot.book.take(caller.user, now())
        robot.follow_book()
        return self._told(caller, robot, standing)

    def _arm(self, caller: Caller, words: Words) -> dict[str, Any]:
        robot = self._robot(words)
        if robot.robot.ended:
            raise LeaseRefused(f"{robot.name} has ended: {robot.robot.ended}")
        return {"number": robot.robot.arm()}

    def _note_page(self, caller: Caller, words: Words) -> dict[str, Any]:
        """A line of the audit log by the robot's page, which has stopped it or let somebody in."""
        if words.event is None:
            raise ServiceError("the page's event is missing: give the key event")
        facts = {"user": words.user, "by": "page", "address": words.address}
        self._tell(words.event, robot=self._robot(words).name, **facts)
        return {}


class RequestRates:
    """Bounds of each user's requests. Its keep-alives pass beside a flood, at a rate of their own.

    Thread: one. clock: nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._all, self._keeps = Rates(clock=clock), Rates(_KEEPS, clock)

    def pass_on(self, user: str, request: Any) -> bool:
        """True for a request that is to be answered."""
        if self._all.take(user, len(request)):
            return True
        return _is_keep(request) and self._keeps.take(user, len(request))


def _is_keep(request: Any) -> bool:
    """True for a message that asks to keep a lease alive."""
    if len(request) > _KEEP_BYTES:
        return False
    try:
        _keeps.decode(request)
    except Exception:  # whatever a decoder makes of it, it is the client's
        return False
    return True


def _refusal(text: str, number: int | str | None = None) -> dict[str, Any]:
    return {"id": number, "ok": False, "error": text}


def packed(reply: dict[str, Any]) -> bytes:
    """A reply as bytes."""
    return bytes(msgpack.packb(reply))
