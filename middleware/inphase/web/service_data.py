"""The service's part of the page: lease, queue, calendar, jobs and recordings.

The page's process asks the service that keeps its robot up, as any client on this host does. It
asks for what everybody with a key may see, and for nothing else.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from inphase.client.connection import ServiceConnection
from inphase.errors import InphaseError

_ANSWER_S = 1.0
_FRESH_S = 1.0
_ROWS = 20
"""of jobs, and of recordings"""
REPORTS = "/reports"
"""where the page has the reports, by the number of their lease"""
Panels = dict[str, Any]


class ServiceData:
    """Asks the service of one robot. Each call waits for answers, for a second each at most.
    Thread: one at a time, which is not the one that takes stops.

    address: of the service's control socket on this host. robot: its name.
    """

    def __init__(self, address: str, robot: str) -> None:
        self._connection = ServiceConnection(address)
        self._robot = robot
        self._panels: Panels | None = None
        self._asked_s = -_FRESH_S

    def panels(self) -> Panels | None:
        """The panels by name; None: that service does not have this robot.

        `lease` has texts and numbers by name. `queue`, `calendar`, `jobs` and `recordings` are
        lists of rows, each with texts and numbers by name. The key `href` of a row makes its first
        text a link. However many look: the service is asked once a second at most.
        """
        if time.monotonic() - self._asked_s >= _FRESH_S:
            try:
                self._panels = self._ask()
            except InphaseError as error:
                self._panels = {"lease": {"service": str(error)}}
            self._asked_s = time.monotonic()
        return self._panels

    def _ask(self) -> Panels | None:
        facts = self._find()
        if facts is None:
            return None
        ask, robot = self._connection.ask, self._robot
        leases = ask("leases", timeout_s=_ANSWER_S, robot=robot)["leases"]
        jobs = ask("jobs", timeout_s=_ANSWER_S, robot=robot)["jobs"]
        return {
            "lease": _lease(facts),
            "queue": _queue(facts),
            "calendar": [
                {"user": one["user"], "from": _time(one["start_s"]), "to": _time(one["end_s"])}
                for one in facts["reservations"]
            ],
            "jobs": [_job(one) for one in jobs[:_ROWS]],
            "recordings": [_recording(one) for one in leases[:_ROWS] if one["recording"]],
        }

    def facts(self) -> Mapping[str, Any] | None:
        """The service's facts of the robot; None: it does not answer, or has it not."""
        with contextlib.suppress(InphaseError):
            return self._find()
        return None

    def report(self, lease: int, offset: int) -> Mapping[str, Any]:
        """A piece of the report on the recording of a lease: `state` is `made`, with `size` and
        `piece`, `making`, or `failed`, with `why`. Raises LeaseRefused, ServiceError."""
        asked = {"robot": self._robot, "lease": lease, "offset": offset}
        return self._connection.ask("report", timeout_s=_ANSWER_S, **asked)

    def _find(self) -> Mapping[str, Any] | None:
        robots = self._connection.ask("robots", timeout_s=_ANSWER_S)["robots"]
        return next((one for one in robots if one["robot"] == self._robot), None)

    def close(self) -> None:
        """End it."""
        self._connection.close()


def _lease(facts: Mapping[str, Any]) -> Panels:
    if facts["closed"]:
        return {"nobody can have it": facts["closed"]}
    if not facts["holder"]:
        return {"holder": "nobody"}
    commands = ", ".join(f"{name} {count}" for name, count in sorted(facts["commands"].items()))
    return {
        "holder": facts["holder"],
        "lease": facts["lease"],
        "left": _seconds(facts["left_s"]),
        "commands": commands,
    }


def _queue(facts: Mapping[str, Any]) -> list[Panels]:
    """In the order of their turns; estimate: if all before hold their lease to its end."""
    waits = sorted(zip(facts["waits_s"], facts["queue"], strict=True))
    return [
        {"place": place, "user": user, "estimate": _seconds(wait_s)}
        for place, (wait_s, user) in enumerate(waits, 1)
    ]


def _job(job: Mapping[str, Any]) -> Panels:
    outcomes = job["outcomes"].split()
    return {
        "job": job["number"],
        "user": job["user"],
        "state": f"{job['state']}: {job['why']}" if job["why"] else job["state"],
        "episodes": len(outcomes),
        "score": _score(outcomes),
        "submitted": _time(job["submitted_s"]),
    }


def _score(outcomes: Sequence[str]) -> str:
    """The successes among the episodes that somebody judged."""
    judged = [one for one in outcomes if one in ("success", "failure")]
    return f"{judged.count('success')} of {len(judged)}" if judged else ""


def _recording(lease: Mapping[str, Any]) -> Panels:
    ended_s = lease["ended_s"]
    shown = {
        "lease": lease["number"],
        "user": lease["user"],
        "begun": _time(lease["granted_s"]),
        "lasted": "goes on" if ended_s is None else _seconds(ended_s - lease["granted_s"]),
        "ended": lease["why"] or "",
    }
    return shown if ended_s is None else shown | {"href": f"{REPORTS}/{lease['number']}"}


def _time(at_s: float) -> str:
    """Of the wall clock of the robot's host; the day is told where it is not today."""
    at = datetime.fromtimestamp(at_s)
    is_today = at.date() == datetime.now().date()
    return at.strftime("%H:%M") if is_today else at.isoformat(" ", "minutes")


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
