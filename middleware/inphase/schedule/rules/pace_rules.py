"""The rules of when a policy is asked, what of frames it is given, and when its answers act."""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule.document import show
from inphase.schedule.inspection import Inspection
from inphase.schedule.tables import Schedule

_HISTORY_CYCLES_MAX = 4096


def check(inspection: Inspection) -> None:
    """Apply them to a schedule's policy."""
    if inspection.attempt(lambda schedule: schedule.policy) is None:
        return
    inspection.apply(_check_single)
    inspection.apply(_check_chunk_every)
    inspection.apply(_check_chunk)
    inspection.apply(_check_blend)
    inspection.apply(_check_known)
    inspection.apply(_check_history_start)
    inspection.apply(_check_history)
    for key in ("history", "align"):
        inspection.apply(_check_remote, key)
    inspection.apply(_check_align)


def _check_single(schedule: Schedule) -> Iterator[ScheduleFault]:
    """A policy whose answer is one command takes no key of a chunk."""
    policy = schedule.policy
    if policy is None or policy.chunk != 1:
        return
    given = {
        "chunk_every": policy.chunk_every if policy.chunk_every != 1 else None,
        "join": policy.join if policy.join != "switch" else None,
        "blend_cycles": policy.blend_cycles,
    }
    for key, value in given.items():
        if value is not None:
            yield schedule.fault(
                f"policy.{key}",
                f"{show(value)} is for a chunk of commands; give chunk, or remove {key}",
            )


def _check_chunk_every(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is not None and policy.chunk != 1 and policy.every % policy.chunk_every:
        yield schedule.fault(
            "policy.chunk_every",
            f"{policy.chunk_every} does not divide every = {policy.every}: the commands of two "
            f"answers would be for different cycles; give a divisor of it",
        )


def _check_chunk(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is None or policy.chunk == 1:
        return
    if policy.chunk * policy.chunk_every < policy.every:
        yield schedule.fault(
            "policy.chunk",
            f"{policy.chunk} commands, each for {policy.chunk_every} cycles, end before the next "
            f"answer comes (every = {policy.every}); give at least "
            f"{-(-policy.every // policy.chunk_every)}",
        )


def _check_blend(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is None or policy.chunk == 1:
        return
    if (policy.join == "blend") != (policy.blend_cycles is not None):
        yield schedule.fault(
            "policy.blend_cycles",
            f'belongs to join = "blend", got {policy.blend_cycles} with join = '
            f"{policy.join!r}; give both or neither",
        )


def _check_known(schedule: Schedule) -> Iterator[ScheduleFault]:
    """The setpoint that is gone to is known before the one before it is left."""
    policy = schedule.policy
    if policy is None or policy.interpolate == "hold" or policy.spacing == 1:
        return
    if (policy.chunk - 1) * policy.spacing >= policy.every:
        return
    if policy.latency_cycles < policy.spacing:
        yield schedule.fault(
            "policy.interpolate",
            f"{policy.interpolate!r} goes to a command from {policy.spacing} cycles before it, and "
            f"with latency_cycles = {policy.latency_cycles} it comes later; give latency_cycles = "
            f"{policy.spacing} or more" + (", or a longer chunk" if policy.chunk > 1 else ""),
        )


def _check_history_start(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is not None and policy.history == 1 and policy.history_start != "wait":
        yield schedule.fault(
            "policy.history_start",
            f"{policy.history_start!r} is for a history; give history, or remove it",
        )


def _check_history(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is not None and policy.history_cycles > _HISTORY_CYCLES_MAX:
        yield schedule.fault(
            "policy.history",
            f"{policy.history} frames, one in every {policy.every} cycles, reach back over "
            f"{policy.history_cycles} cycles, more than {_HISTORY_CYCLES_MAX}; give at most "
            f"{_HISTORY_CYCLES_MAX // policy.every + 1}",
        )


def _check_remote(schedule: Schedule, key: str) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    value = None if policy is None else getattr(policy, key)
    if policy is not None and policy.remote is not None and value not in (1, None):
        yield schedule.fault(
            f"policy.{key}",
            f"{show(value)}: a remote policy is sent frames as they were latched, one at a "
            f"time; remove it, and let the policy keep what it needs",
        )


def _check_align(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is None or policy.align is None:
        return
    if policy.align not in schedule.sensor:
        known = ", ".join(schedule.sensor)
        yield schedule.fault(
            "policy.align", f"no such sensor, got {policy.align!r}; the schedule has: {known}"
        )
    elif policy.model is not None and policy.runtime == "c":
        yield schedule.fault(
            "policy.align",
            f"{policy.align!r}: a model that C runs reads samples as they were latched; give "
            f'runtime = "python", or remove align',
        )
