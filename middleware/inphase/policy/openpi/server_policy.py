"""A policy that a server answers: it is asked frame by frame, and whatever it does is contained.

The connection is made while the robot is already up, by a thread (`link`). The first answer of a
connection may take long, and is not used on the wall clock: the server is asked again about a newer
frame. In lock step virtual time waits for both. A connection that is lost, or that gives no answer
in time, is made anew, after a pause that grows.
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from inphase.devices.packets import Refusal
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.models import server_binding
from inphase.policy.openpi import link as links
from inphase.policy.openpi import observation
from inphase.policy.openpi.array_format import Malformed
from inphase.policy.openpi.link import LinkEnd, LinkOpen, ServerLink
from inphase.policy.remarks import Remarks
from inphase.schedule import Schedule

_WAIT_S = 15.0  # for a server, before virtual time begins
_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 5.0)
"""before the next connection; the last one for all later ones"""
_REMEDIES: Mapping[str, str] = {
    "unreached": "start it, or correct [policy.server] url; it is tried again",
    "lost": "it is connected to again",
    "stalled": "it is left, and connected to again; give a larger answer_ms if it needs longer",
    "errors": "see its log; correct its policy, or [policy.server] observation",
    "malformed": "see [policy.server] actions, and which policy it serves",
}
_REASONS = {"errors": "raised", "malformed": "shape"}
"""of a frame without a command; else silent"""


class ServerPolicy:
    """Asks a policy server. Its end is the connection's. Thread: one.

    count: takes each thing that happens, by its name in SERVER_COUNTS. waits: virtual time waits
    for the server. Raises ScheduleError: what the schedule names is not there, or no server is
    where virtual time would wait for it.
    """

    def __init__(
        self,
        described: Schedule,
        layout: Layout,
        remarks: Remarks,
        count: Callable[[str], None] | None = None,
        *,
        waits: bool = False,
    ) -> None:
        assert described.policy is not None and described.policy.server is not None
        self._server = described.policy.server
        dtypes = dict(zip(layout.sensors, layout.dtypes, strict=True))
        channels = {name: number for name, number, _ in layout.actuators}
        self._binding = server_binding.make(described, dtypes, channels)
        links.check_package(described)
        observation.check_packages(described, self._binding)
        self._remarks = remarks
        self._count_outside = count
        self._waits = waits
        self.counts: Counter[str] = Counter()
        """the things that happened, by SERVER_COUNTS"""
        self._failures = 0
        self._next_s = 0.0
        self._until_s = 0.0
        self._state = "closed"  # then opening, open, warming, ready
        self._link: ServerLink | None = None
        self._open()
        if waits:
            self._wait_open(described)

    def _wait_open(self, described: Schedule) -> None:
        until_s = time.monotonic() + _WAIT_S
        while self._prepare() is not None:
            if time.monotonic() > until_s:
                raise described.error(
                    "policy.server.url",
                    f"no policy server answers at {self._server.url!r}; start it, or correct url",
                )

    def __call__(self, frame: Frame) -> Any:
        """The server's command for a frame, or a Refusal: its reason is that of the cycle."""
        trouble = self._prepare()
        if trouble is not None:
            return Refusal(trouble)
        message = observation.of_frame(self._binding, frame)
        if message is None:
            return Refusal("input")
        if self._state == "open":
            return self._ask_first(message)
        return self._ask(message, self._server.answer_ms / 1e3)

    # ---- the connection --------------------------------------------------------------------

    def _open(self) -> None:
        self._link = ServerLink(self._server.url)
        self._until_s = time.monotonic() + 2 * links.OPEN_S
        self._state = "opening"

    def _prepare(self) -> str | None:
        """See to the connection; None: the server can be asked, else why it cannot."""
        if self._state == "closed":
            left_s = self._next_s - time.monotonic()
            if left_s > 0 and not self._is_waited_for:
                return "silent"
            time.sleep(max(0.0, left_s))
            self._open()
        if self._state == "opening":
            return self._hear_opening()
        if self._state == "warming":
            return self._hear_first()
        return None

    @property
    def _is_waited_for(self) -> bool:
        """In lock step the pauses before a few connections are waited for, and no more."""
        return self._waits and self._failures <= len(_PAUSES_S)

    def _hear_opening(self) -> str | None:
        word = self._hear(self._until_s - time.monotonic() if self._is_waited_for else 0.0)
        if isinstance(word, LinkOpen):
            self._count("connected")
            self._state = "open"
            return None
        if isinstance(word, LinkEnd):
            return self._fail(word.why, word.words)
        if time.monotonic() >= self._until_s:
            return self._fail("unreached", f"no answer within {2 * links.OPEN_S:.0f} s")
        return "silent"

    def _ask_first(self, message: bytes) -> Any:
        """Ask for what may take long; nobody waits for it where time does not."""
        if self._waits:
            return self._ask(message, self._server.first_answer_ms / 1e3)
        assert self._link is not None
        self._link.ask(message)
        self._until_s = time.monotonic() + self._server.first_answer_ms / 1e3
        self._state = "warming"
        return Refusal("silent")

    def _hear_first(self) -> str | None:
        """The first answer is of an old frame: it is looked at, and not used."""
        word = self._hear(0.0)
        if isinstance(word, bytes):
            command = self._taken(word)
            return command.reason if isinstance(command, Refusal) else None
        if isinstance(word, LinkEnd):
            return self._fail(word.why, word.words)
        if time.monotonic() >= self._until_s:
            return self._fail("stalled", _stalled(self._server.first_answer_ms))
        return "silent"

    # ---- a request -------------------------------------------------------------------------

    def _ask(self, message: bytes, timeout_s: float) -> Any:
        assert self._link is not None
        self._link.ask(message)
        word = self._hear(timeout_s)
        if isinstance(word, bytes):
            return self._taken(word)
        if isinstance(word, LinkEnd):
            return Refusal(self._fail(word.why, word.words))
        return Refusal(self._fail("stalled", _stalled(timeout_s * 1e3)))

    def _hear(self, timeout_s: float) -> links.Word | None:
        assert self._link is not None
        return self._link.hear(timeout_s)

    def _taken(self, answer: bytes) -> Any:
        """The command of an answer; a wrong one is refused, and the connection stays."""
        self._state = "ready"
        try:
            command = observation.to_command(self._binding, answer)
        except Malformed as error:
            self._count("malformed")
            self._say("malformed", f"it answered {error}")
            return Refusal("shape")
        self._count("answers")
        if not np.isfinite(command).all():
            self._say("nan", "it answered numbers that are not finite", "see its policy")
            return command  # the core refuses and counts it
        if self._failures:
            self._failures = 0
            self._remarks.once("server is back", f"policy server {self._server.url} answers again")
        return command

    def _fail(self, why: str, words: str) -> str:
        """Leave the connection, and say why; the reason for frames."""
        self._count(why)
        self._say(why, words)
        if self._link is not None:
            self._link.give_up()
            self._link = None
        self._state = "closed"
        pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        self._next_s = time.monotonic() + pause_s
        gc.collect()  # the policy's loop collects nothing by itself, and connections have circles
        return _REASONS.get(why, "silent")

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        if self._count_outside is not None:
            self._count_outside(what)

    def _say(self, why: str, words: str, remedy: str = "") -> None:
        self._remarks.once(
            ("server", why),
            f"policy server {self._server.url}: {words}; {remedy or _REMEDIES[why]}",
        )


def _stalled(answer_ms: float) -> str:
    return f"no answer within {answer_ms / 1e3:g} s"
