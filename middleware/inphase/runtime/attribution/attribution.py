"""Finds whose fault each late cycle of a run was, a moment after it came."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from inphase.core.core import Core
from inphase.core.late_moment import LateMoment
from inphase.errors import StoreError
from inphase.frames import store
from inphase.frames.record_layout import CAUSES
from inphase.host.process import Process
from inphase.plan.plan import Plan
from inphase.runtime.attribution import decision
from inphase.runtime.attribution.decision import Decision
from inphase.runtime.attribution.evidence import Evidence, is_known
from inphase.runtime.attribution.moments import Moment, Moments
from inphase.runtime.attribution.page import Rows
from inphase.runtime.attribution.rows import late_row
from inphase.runtime.attribution.sentinel import Sentinel
from inphase.runtime.policy_child import PolicyChild
from inphase.runtime.words import late_words
from inphase.runtime.words.late_words import LateKind, LateTold
from inphase.runtime.workers.worker_supervisor import WorkerLink

_PENDING = 500
"""moments that wait for what was seen of them; older ones are decided without"""
_AT_ONCE = 100
"""moments that are decided about in one turn"""
_PATIENCE_NS = 1_000_000_000
_FRAMES = 1000
"""that are looked at in one turn"""
_KINDS = 100
POLICY, EMULATOR = "[policy]", "[emulator]"
"""processes that the cycle thread waits for; a device's own one has the device's name"""
_SAID = 10


class Attribution:
    """Follows one robot's frames, and the sentinel. Thread: the supervisor's."""

    def __init__(
        self, plan: Plan, core: Core, path: str, peers: Callable[[], dict[str, int]]
    ) -> None:
        """path: of the robot's store. peers: numbers of the processes that are waited for."""
        self._plan = plan
        self._core = core
        self._names = late_words.names_of(plan)
        self._path = path
        self._peers = peers
        self._sentinel = Sentinel(plan)
        self._moments = Moments(plan)
        self._reader: store.Reader | None = None
        self._pending: deque[Moment] = deque()
        self._newest_ns = 0
        self._of_thread: tuple[Moment, Decision] | None = None
        """the thread's own newest late moment"""
        self._kinds: dict[LateKind, LateTold] = {}
        self.counts: Counter[str] = Counter()
        """late moments by cause"""
        self.thread_counts: Counter[str] = Counter()
        """those of the cycle thread itself, which no sample and no command was waited for"""

    def look(self, status: dict[str, int]) -> None:
        """Take what came since. status: of the robot."""
        if not self._sentinel.thread:
            if status["thread_id"] and status["start_ns"]:
                self._sentinel.watch(status["thread_id"], status["start_ns"], self._peers())
                self._reader = store.Reader(self._path, from_first=True)
            return
        self._follow()
        if self._pending:
            self._decide(is_end=False)

    def end(self) -> None:
        """After the last cycle: decide about what is left."""
        if self._reader is not None:
            self._follow()
            self._decide(is_end=True)

    def _follow(self) -> None:
        assert self._reader is not None
        for _ in range(_FRAMES):
            try:
                self._reader.next(0)
            except (TimeoutError, InterruptedError, StoreError):
                return
            found = self._moments.of(self._reader.record[:])
            self._pending.extend(found)
            if found:
                self._newest_ns = max(one.until_ns for one in found)

    def _decide(self, *, is_end: bool) -> None:
        """About as many as there is time for: the supervisor has other things to do."""
        rows = self._sentinel.page.rows()
        while len(self._pending) > _PENDING:
            self._publish(self._pending.popleft(), decision.NOT_KNOWN, None)
        for _ in range(_PENDING if is_end else _AT_ONCE):
            if not self._pending:
                return
            moment = self._pending[0]
            is_old = self._newest_ns - moment.until_ns > _PATIENCE_NS
            if not (is_end or is_old or is_known(rows, moment.until_ns)):
                return
            self._pending.popleft()
            seen = self._sentinel.seen(rows, moment.from_ns, moment.until_ns)
            self._publish(moment, self._of(moment, seen, rows), seen)

    def _publish(self, moment: Moment, found: Decision, seen: Evidence | None) -> None:
        """Count one, for every reader of the store. seen: None where nobody looked."""
        self.counts[found.cause] += 1
        self.thread_counts[found.cause] += moment.phase not in ("read", "command")
        row = late_row(moment, found, seen, [self.counts[cause] for cause in CAUSES])
        self._core.late(row.tobytes())
        late = LateMoment.of(row)
        kind = LateKind(late.phase, late.sensor, late.cause, late.why, late.thief)
        before = self._kinds.get(kind)
        if before is None and len(self._kinds) >= _KINDS:
            return
        latest = late if before is None else max(before.latest, late, key=lambda one: one.late_ns)
        self._kinds[kind] = LateTold(latest, 1 if before is None else before.times + 1)

    def _of(self, moment: Moment, seen: Evidence, rows: Rows) -> Decision:
        sentinel, stretch = self._sentinel, (moment.from_ns, moment.until_ns)
        of_thread = self._of_the_threads_own(moment)
        if moment.phase == "command":
            return decision.of_command(seen, of_thread, sentinel.seen_of(POLICY, rows, *stretch))
        if moment.phase == "read":
            device = self._plan.sensors[moment.sensor].schedule.device
            peer = sentinel.seen_of(device, rows, *stretch)
            emulator = sentinel.seen_of(EMULATOR, rows, *stretch)
            if emulator is not None and peer is None:
                return decision.of_emulated(seen, of_thread, emulator)
            return decision.of_sample(seen, of_thread, peer)
        found = decision.of_thread(seen)
        self._of_thread = moment, found
        return found

    def _of_the_threads_own(self, moment: Moment) -> Decision | None:
        """Of a late moment of the thread itself that took half of the time of this one."""
        if self._of_thread is None:
            return None
        own, found = self._of_thread
        both_ns = min(own.until_ns, moment.until_ns) - max(own.from_ns, moment.from_ns)
        return found if both_ns >= moment.late_ns / 2 else None

    def sum_up(self) -> dict[str, Any]:
        """For a summary: counts per cause, and the commonest kinds, each in a sentence."""
        used_ns, in_ns = self._sentinel.cost_ns()
        found = sorted(self._kinds.values(), key=lambda told: -told.times)[:_SAID]
        return {
            "causes": {cause: self.counts[cause] for cause in CAUSES},
            "thread": {cause: self.thread_counts[cause] for cause in CAUSES},
            "said": [late_words.of_kind(self._names, told) for told in found],
            "sentinel_share": used_ns / in_ns if in_ns else None,
        }

    def close(self) -> None:
        """End the sentinel."""
        self._sentinel.close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def peers_of(
    links: Iterable[WorkerLink], emulator: Process | None, policy: PolicyChild | None
) -> dict[str, int]:
    """Numbers of the processes that the cycle thread waits for, by what they are."""
    found = {link.name: link.process.pid for link in links if link.process is not None}
    others = {EMULATOR: emulator, POLICY: None if policy is None else policy.process}
    return found | {name: one.pid for name, one in others.items() if one is not None}
