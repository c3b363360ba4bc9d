"""Notices for a person on a policy whose commands are not taken, or come too late."""

from collections.abc import Callable
from typing import Any

from inphase.frames.frame import Frame
from inphase.plan.plan import Plan
from inphase.runtime.words import state_messages
from inphase.schedule import Schedule

_ANSWERS = 5
"""from so many on a policy's time is judged"""
_LOOKS = 3
"""for a frame that has the cause; then it is told without"""
_MARGIN = 1.25
"""room above the time that a policy took"""
_MOMENT_NS = 1_000_000_000
_HANGS_NS = 500_000_000


class PolicyNotices:
    """Looks at what became of a policy's answers, and tells each thing once.

    reasons: counts by reason, of the core. newest: gives the newest frame. inference: quantiles of
    the policy's own time, or None. busy: how long it has been in its call, in nanoseconds. Thread:
    one at a time.
    """

    def __init__(
        self,
        plan: Plan,
        tell: Callable[[str], None],
        reasons: Callable[[], dict[str, int]],
        newest: Callable[[], Frame | None],
        *,
        inference: Callable[[], dict[str, int] | None] = lambda: None,
        busy: Callable[[], int] = lambda: 0,
    ) -> None:
        self._plan = plan
        self._tell = tell
        self._reasons = reasons
        self._newest = newest
        self._inference = inference
        self._busy = busy
        self._seen: dict[str, int] = {}
        self._said: set[str] = set()
        self._looks = 0

    def armed(self) -> None:
        """Motion was armed: a start that is refused again is told again."""
        self._said = {text for text in self._said if not text.startswith("start")}

    def look(self) -> None:
        """Tell what is new."""
        reasons = self._reasons()
        if reasons == self._seen:
            return
        grown = {name for name, count in reasons.items() if count > self._seen.get(name, 0)}
        self._seen = reasons
        if "silent" in grown:
            self._once("slow", slow(self._plan.schedule, self._inference()))
            self._once("hangs", hangs(self._plan.schedule, self._busy()))
        if not grown & {"start", "nan", "input"}:
            return
        frame = self._newest()
        if frame is None:
            return
        if "start" in grown:
            outside = state_messages.outside(self._plan, frame)
            self._once(f"start {outside}", outside)
            if not outside:
                self._once("start", state_messages.far(self._plan, frame))
        if "nan" in grown:
            self._looks += 1
            self._once("nan", not_a_number(frame, is_last_look=self._looks >= _LOOKS))
        if "input" in grown and reasons["input"] * self._plan.schedule.cycle.period_ns > _MOMENT_NS:
            self._once("input", not_asked(self._plan.schedule, frame))

    def _once(self, key: str, text: str) -> None:
        if text and key not in self._said:
            self._said.add(key)
            self._tell(text)


def not_a_number(frame: Frame, *, is_last_look: bool) -> str:
    """Which channel is NaN or infinite; "": not in this frame, and another may say it."""
    for act in frame.command:
        if act.reason == "nan":
            return (
                f"policy returned NaN or infinity for channel {act.detail} of actuator {act.name}, "
                f"as in cycle {frame.command.cycle}: the command is refused; return finite numbers"
            )
    if not is_last_look:
        return ""
    return "policy returned NaN or infinity: the command is refused; return finite numbers"


def not_asked(schedule: Schedule, frame: Frame) -> str:
    """Which sensor's status [policy] accepts does not name; "": none in this frame."""
    policy = schedule.policy
    for name, accepted in policy.accepts.items() if policy is not None else ():
        if frame[name].status not in accepted:
            return (
                f"policy is not asked: sensor {name} is {frame[name].status} ({frame[name].reason})"
                f", and [policy] accepts {', '.join(accepted)} of it; see `inphase explain "
                f"{frame[name].status}`"
            )
    return ""


# ---- time --------------------------------------------------------------------------------------


def budget_ns(schedule: Schedule) -> int:
    """From a frame's latch to the act that its answer has to be there for, in nanoseconds."""
    cycle, policy = schedule.cycle, schedule.policy
    latency = policy.latency_cycles if policy is not None else 0
    return latency * cycle.period_ns + cycle.act_ns - cycle.read_deadline_ns


def is_slow(schedule: Schedule, took_ns: int) -> bool:
    """True if a policy that takes so long is late, or cannot take all frames that are its."""
    every = schedule.policy.every if schedule.policy is not None else 1
    return took_ns > min(budget_ns(schedule), every * schedule.cycle.period_ns)


def slow(schedule: Schedule, inference: dict[str, int] | None, *, is_virtual: bool = False) -> str:
    """A policy that is too slow, with figures and the keys to set; "": it is not.

    is_virtual: it was measured in lock step, which waits for it.
    """
    if inference is None or inference["count"] < _ANSWERS:
        return ""
    if not is_slow(schedule, inference["p50"]):
        return ""
    took, due = milliseconds(inference["p50"]), milliseconds(budget_ns(schedule))
    remedy = f"make it quicker, or {advice(schedule, inference['p90'])}"
    if is_virtual:
        return (
            f"policy took {took} (median, on this machine), and on the robot its command is due "
            f"{due} after its frame: virtual time waited for it, a robot will not; {remedy}"
        )
    return f"policy takes {took} (median), and its command is due {due} after its frame: {remedy}"


def hangs(schedule: Schedule, busy_ns: int) -> str:
    """A policy that stays in one call; "": it does not, or no longer than its command has time."""
    if busy_ns < max(_HANGS_NS, 2 * budget_ns(schedule)):
        return ""
    if schedule.policy is not None and schedule.policy.server is not None:
        return (
            f"policy server {schedule.policy.server.url} has not answered for "
            f"{milliseconds(busy_ns)}, and its command was due {milliseconds(budget_ns(schedule))} "
            f"after its frame; it has {schedule.policy.server.answer_ms / 1e3:g} s for an answer"
        )
    return (
        f"policy has been in one call for {milliseconds(busy_ns)}, and its command was due "
        f"{milliseconds(budget_ns(schedule))} after its frame: let a call wait for nothing, and do "
        f"what is slow in its warm_up(frame), before the first cycle"
    )


def advice(schedule: Schedule, took_ns: int) -> str:
    """The keys of [policy] with which a policy that takes so long is in time."""
    period_ns, policy = schedule.cycle.period_ns, schedule.policy
    first_ns = schedule.cycle.act_ns - schedule.cycle.read_deadline_ns
    need_ns = round(took_ns * _MARGIN)
    latency = max(0, -(-(need_ns - first_ns) // period_ns))
    every = max(policy.every if policy is not None else 1, -(-need_ns // period_ns))
    keys: dict[str, Any] = {}
    if policy is not None and policy.chunk > 1:
        every = -(-every // policy.chunk_every) * policy.chunk_every
        if policy.chunk * policy.chunk_every < every:
            keys["chunk"] = every // policy.chunk_every
    elif policy is not None and policy.interpolate != "hold":
        latency = max(latency, every)
    if policy is None or every != policy.every:
        keys["every"] = every
    keys["latency_cycles"] = latency
    given = ", ".join(f"{key} = {value}" for key, value in keys.items())
    return f"give [policy] {given} (middleware/POLICIES.md)"


def milliseconds(nanoseconds: int) -> str:
    """A time in milliseconds, to a person's accuracy."""
    return f"{nanoseconds / 1e6:.3g} ms"
