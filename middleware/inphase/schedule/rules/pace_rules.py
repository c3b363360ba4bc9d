"""The rules of when a policy is asked, what of frames it is given, and when its answers act."""

from inphase.schedule.document import show
from inphase.schedule.tables import Policy, Schedule

_PLAN_MAX = 65_536  # INPHASE_MAX_PLAN of inphase.h
_HISTORY_CYCLES_MAX = 4096


def check(schedule: Schedule, policy: Policy) -> None:
    """Raise ScheduleError for the first thing that does not fit."""
    _check_chunk(schedule, policy)
    if policy.interpolate != "hold" and policy.spacing > 1:
        _check_known(schedule, policy)
    _check_history(schedule, policy)
    for key, value in (("history", policy.history), ("align", policy.align)):
        if policy.remote is not None and value not in (1, None):
            raise schedule.error(
                f"policy.{key}",
                f"{show(value)}: a remote policy is sent frames as they were latched, one at a "
                f"time; remove it, and let the policy keep what it needs",
            )
    if policy.align is not None:
        _check_align(schedule, policy, policy.align)


def check_size(schedule: Schedule, values: int) -> None:
    """Raise ScheduleError when so many commands of so many values are too much to keep."""
    policy = schedule.policy
    if policy is None:
        return
    commands = policy.latency_cycles // policy.spacing + policy.chunk + 3
    if commands * (values + 1) > _PLAN_MAX:
        key = "chunk" if policy.chunk > commands // 2 else "latency_cycles"
        most = _PLAN_MAX // (values + 1) - 3
        raise schedule.error(
            f"policy.{key}",
            f"{getattr(policy, key)} needs room for {commands} commands of {values} values, "
            f"more than there is room for; latency_cycles / chunk_every + chunk may be {most}",
        )


def notes(schedule: Schedule) -> list[str]:
    """Notes for a person on a policy that is not asked and followed in every cycle."""
    policy, cycle = schedule.policy, schedule.cycle
    if policy is None or (policy.every == policy.chunk == 1 and not policy.latency_cycles):
        return []
    reach = policy.chunk * policy.spacing
    if policy.interpolate != "hold" and policy.spacing > 1:
        reach -= policy.spacing - 1
    late_ns = (policy.latency_cycles + reach - policy.every) * cycle.period_ns + cycle.act_ns
    return [
        f"the policy takes a frame every {policy.every * cycle.period_ns / 1e6:g} ms, and has "
        f"{late_ns / 1e6:g} ms from the frame's due time to its answer: after that, cycles go "
        f"without a command"
    ]


def _check_chunk(schedule: Schedule, policy: Policy) -> None:
    if policy.chunk == 1:
        given = {
            "chunk_every": policy.chunk_every if policy.chunk_every != 1 else None,
            "join": policy.join if policy.join != "switch" else None,
            "blend_cycles": policy.blend_cycles,
        }
        for key, value in given.items():
            if value is not None:
                raise schedule.error(
                    f"policy.{key}",
                    f"{show(value)} is for a chunk of commands; give chunk, or remove {key}",
                )
        return
    if policy.every % policy.chunk_every:
        raise schedule.error(
            "policy.chunk_every",
            f"{policy.chunk_every} does not divide every = {policy.every}: the commands of two "
            f"answers would be for different cycles; give a divisor of it",
        )
    if policy.chunk * policy.chunk_every < policy.every:
        raise schedule.error(
            "policy.chunk",
            f"{policy.chunk} commands, each for {policy.chunk_every} cycles, end before the next "
            f"answer comes (every = {policy.every}); give at least "
            f"{-(-policy.every // policy.chunk_every)}",
        )
    if (policy.join == "blend") != (policy.blend_cycles is not None):
        raise schedule.error(
            "policy.blend_cycles",
            f'belongs to join = "blend", got {policy.blend_cycles} with join = '
            f"{policy.join!r}; give both or neither",
        )


def _check_known(schedule: Schedule, policy: Policy) -> None:
    """The setpoint that is gone to is known before the one before it is left."""
    if (policy.chunk - 1) * policy.spacing >= policy.every:
        return
    if policy.latency_cycles < policy.spacing:
        raise schedule.error(
            "policy.interpolate",
            f"{policy.interpolate!r} goes to a command from {policy.spacing} cycles before it, and "
            f"with latency_cycles = {policy.latency_cycles} it comes later; give latency_cycles = "
            f"{policy.spacing} or more" + (", or a longer chunk" if policy.chunk > 1 else ""),
        )


def _check_history(schedule: Schedule, policy: Policy) -> None:
    if policy.history == 1 and policy.history_start != "wait":
        raise schedule.error(
            "policy.history_start",
            f"{policy.history_start!r} is for a history; give history, or remove it",
        )
    if policy.history_cycles > _HISTORY_CYCLES_MAX:
        raise schedule.error(
            "policy.history",
            f"{policy.history} frames, one in every {policy.every} cycles, reach back over "
            f"{policy.history_cycles} cycles; give a history of at most {_HISTORY_CYCLES_MAX}",
        )


def _check_align(schedule: Schedule, policy: Policy, sensor: str) -> None:
    if sensor not in schedule.sensor:
        known = ", ".join(schedule.sensor)
        raise schedule.error(
            "policy.align", f"no such sensor, got {sensor!r}; the schedule has: {known}"
        )
    if policy.model is not None and policy.runtime == "c":
        raise schedule.error(
            "policy.align",
            f"{sensor!r}: a model that C runs reads samples as they were latched; give runtime = "
            f'"python", or remove align',
        )
