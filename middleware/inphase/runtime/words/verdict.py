"""The verdict on a run, in words: did it do its job, which figure says so, and what to try next."""

import math
from typing import Any, NamedTuple

from inphase.frames.meanings import REASONS
from inphase.plan.plan import Plan
from inphase.runtime.words import late_words, policy_notices
from inphase.runtime.words.policy_notices import milliseconds as ms

FAIR, BAD = 0.01, 0.05
"""shares of the cycles, or of a sensor's frames, that may go wrong"""
FAIR_OF_GRID, BAD_OF_GRID = 0.002, 0.02
"""of the grid that may be left out"""
_FEW = 5
"""so many always may, as the first frames before a sample came"""
_NOT_DUE = "HELD"
_IN_TIME = ("LATE", "MISSING")
"""statuses of a sensor about which the time that its samples take says something"""


class Finding(NamedTuple):
    """One thing to look at."""

    is_bad: bool
    text: str


def of(plan: Plan, result: dict[str, Any], shortfalls: list[str]) -> list[str]:
    """Sentences for a person, the overall one first: `good`, `fair` or `not good`.

    shortfalls: the jobs that the run did not do.
    """
    is_virtual = "digest" in result
    found = [Finding(True, text) for text in shortfalls]
    if not is_virtual:
        found += _machine(result)
    found += _sensors(plan, result, shortfalls)
    if any("no acceptable command" in text for text in shortfalls):
        slow = "" if is_virtual else policy_notices.slow(plan.schedule, result["inference_ns"])
        found += [Finding(True, slow)] if slow else []
    else:
        found += _policy(plan, result)
    if is_virtual:
        found += _pace(plan, result)
    found += _recording(result)
    if result["latched"]:
        latched = result["latched"]
        found.append(Finding(True, f"motion is latched ({latched}): `inphase explain {latched}`"))
    if not found:
        return [_good(plan, result, is_virtual=is_virtual)]
    grade = "not good" if any(one.is_bad for one in found) else "fair"
    things = "one thing" if len(found) == 1 else f"{len(found)} things"
    return [f"{grade}, with {things} to look at:", *(one.text for one in found)]


def graded(wrong: int, total: int, fair: float, bad: float, text: str) -> list[Finding]:
    """Nothing, as long as few are wrong."""
    if wrong <= max(_FEW, fair * total):
        return []
    return [Finding(wrong > max(_FEW, bad * total), text)]


def _good(plan: Plan, result: dict[str, Any], *, is_virtual: bool) -> str:
    cycles, policy = result["cycles"], result["policy"]
    skipped = result["skipped"]
    parts = [
        f"{cycles} cycles ran, {skipped} were left out" if skipped else f"all {cycles} cycles ran"
    ]
    if not is_virtual:
        parts[0] += f", each within {ms(result['wake_late_ns']['max'])} of its time"
    if policy["commands"]:
        late = result["latch_to_command_ns"]
        share = policy["commands"] / max(1, policy["commands"] + policy["missed"])
        text = f"{percent(share)} of the commands were in time"
        if not is_virtual and late["count"]:
            due = ms(policy_notices.budget_ns(plan.schedule))
            text += f" (p99 {ms(late['p99'])}, due after {due})"
        parts.append(text)
    elif plan.schedule.policy is not None or plan.client_policy:
        parts.append("nothing was commanded")
    worst = min((_fresh(_due(sensor, result)) for sensor in plan.sensors), default=1.0)
    fresh = "in each frame" if worst == 1 else f"in at least {percent(worst)} of its frames"
    if any(result["sensors"][sensor.name]["status"].get(_NOT_DUE) for sensor in plan.sensors):
        fresh += " in which it was due"
    parts.append(f"every sensor was FRESH {fresh}")
    return f"good: {'; '.join(parts)}"


def _machine(result: dict[str, Any]) -> list[Finding]:
    """Cycles that came too late for their place on the grid."""
    cycles, skipped, overruns = (result[key] for key in ("cycles", "skipped", "overruns"))
    late = result["wake_late_ns"]
    rights = (
        "" if result["realtime"]["granted"] else
        "grant the real-time rights (`inphase check SCHEDULE` prints how), "
    )  # fmt: skip
    thread = result["late"]["thread"]
    if late_words.are_ours(thread):
        what = "this run needs more of the machine than it has"
        remedy = f"what the sentences on late moments say, {rights}or a lower rate_hz"
    else:
        what, remedy = (
            "the machine was too busy",
            f"close other programs, {rights}or give a lower rate_hz",
        )
    causes = late_words.by_cause(thread)
    text = (
        f"{what}: {skipped} cycles were left out and {overruns} took too long; it woke up to "
        f"{ms(late['max'])} late, for cycles of {ms(result['period_ns'])}"
        f"{f' (late by cause: {causes})' if causes else ''}. Try: {remedy}"
    )
    return graded(skipped + overruns, cycles, FAIR_OF_GRID, BAD_OF_GRID, text)


def _recording(result: dict[str, Any]) -> list[Finding]:
    """A file in which something is missing."""
    recording = result.get("recording")
    if recording is None or recording["state"] == "COMPLETE":
        return []
    path, missed = recording["path"], recording.get("missed_frames", 0)
    if recording["state"] == "CUT":
        text = f"the recording {path} was cut. Try: `inphase recover {path}`"
    elif missed:
        text = f"the recording {path} lacks {missed} frames: its recorder waited for a core"
    else:
        text = f"the recording {path} lacks messages. Try: `inphase report {path}` has them"
    return [Finding(True, text)]


def percent(share: float) -> str:
    """A share, never rounded up: 100 % is all."""
    return f"{math.floor(share * 1e4) / 100:g} %"


def _due(sensor: Any, result: dict[str, Any]) -> dict[str, int]:
    """Statuses of the frames in which a sensor was due. Before its first sample was, it is
    MISSING."""
    counts = {"MISSING": 0, **result["sensors"][sensor.name]["status"]}
    counts["MISSING"] -= min(counts["MISSING"], sensor.schedule.latency_cycles)
    return {name: count for name, count in counts.items() if name != _NOT_DUE}


def _fresh(due: dict[str, int]) -> float:
    """The share of frames that were FRESH."""
    frames = sum(due.values())
    return float(due["FRESH"] / frames) if frames else 1.0


def _sensors(plan: Plan, result: dict[str, Any], shortfalls: list[str]) -> list[Finding]:
    found = []
    for sensor in plan.sensors:
        one = result["sensors"][sensor.name]
        status = _due(sensor, result)
        share = _fresh(status)
        if any(text.startswith(f"sensor {sensor.name} ") for text in shortfalls):
            continue
        due = sum(status.values())
        fresh = status.pop("FRESH")
        counts = ", ".join(f"{name} {count}" for name, count in status.items() if count)
        worst = max(status, key=lambda name: status[name])
        taking = _taking(plan, sensor, one) if worst in _IN_TIME else ""
        text = (
            f"sensor {sensor.name} was FRESH in {100 * share:.3g} % of its frames "
            f"({counts}){taking}. Try: `inphase explain {worst}`"
        )
        found += graded(due - fresh, due, FAIR, BAD, text)
    return found


def _taking(plan: Plan, sensor: Any, found: dict[str, Any]) -> str:
    """How long its samples take, and how long they may."""
    took, trigger_us = found["trigger_to_sample_ns"], sensor.schedule.trigger_us
    if not took["count"] or trigger_us is None:
        return ""
    cycle = plan.schedule.cycle
    may_ns = sensor.schedule.latency_cycles * cycle.period_ns + cycle.read_deadline_ns
    return (
        f": a sample takes {ms(took['p50'])} from its trigger (p99 {ms(took['p99'])}), and may "
        f"take {ms(may_ns - trigger_us * 1000)}"
    )


def _policy(plan: Plan, result: dict[str, Any]) -> list[Finding]:
    """Cycles without a command, and commands that were refused."""
    policy, cycles = result["policy"], max(1, result["cycles"])
    if plan.schedule.policy is None and not plan.client_policy:
        return []
    missed = (
        f"{100 * policy['missed'] / cycles:.2g} % of the cycles had no command "
        f"({_reasons(policy)}): {_why_missed(plan, result)}"
    )
    refused = (
        f"{policy['invalid']} commands were refused ({_reasons(policy)}): "
        f"{_remedy(policy, without='silent')}"
    )
    return [
        *graded(policy["missed"], cycles, FAIR, BAD, missed),
        *graded(policy["invalid"], cycles, FAIR, BAD, refused),
    ]


def _reasons(policy: dict[str, Any]) -> str:
    by_count = sorted(policy["reasons"].items(), key=lambda item: -item[1])
    return ", ".join(f"{reason} {count}" for reason, count in by_count)


def _remedy(policy: dict[str, Any], *, without: str = "") -> str:
    """Of the commonest reason."""
    reasons = {name: count for name, count in policy["reasons"].items() if name != without}
    if not reasons:
        return "`inphase explain silent`"
    reason = max(reasons, key=lambda name: reasons[name])
    return REASONS[reason].remedy_of_command if reason in REASONS else f"`inphase explain {reason}`"


def _why_missed(plan: Plan, result: dict[str, Any]) -> str:
    slow = policy_notices.slow(plan.schedule, result["inference_ns"])
    if slow:
        return slow
    commonest = max(result["policy"]["reasons"].items(), key=lambda item: item[1], default=("", 0))
    if commonest[0] != "silent" or "digest" in result:
        return _remedy(result["policy"])
    own, late = result["inference_ns"], result["latch_to_command_ns"]
    due_ns = policy_notices.budget_ns(plan.schedule)
    policy = plan.schedule.policy
    latency = policy.latency_cycles + 1 if policy is not None else 1
    if not own["count"]:
        return "the policy answered no frame. Try: " + REASONS["silent"].remedy_of_command
    return (
        f"the policy itself takes {ms(own['p50'])} (median, p99 {ms(own['p99'])}), but its command "
        f"came {ms(late['p99'])} after the frame (p99 of those in time), and is due after "
        f"{ms(due_ns)}: it waited for a core. Try: close other programs, or give [policy] priority "
        f"and cpu, or latency_cycles = {latency} (middleware/POLICIES.md)"
    )


def _pace(plan: Plan, result: dict[str, Any]) -> list[Finding]:
    """In lock step: a policy that virtual time waits for, and a robot does not."""
    text = policy_notices.slow(plan.schedule, result["inference_ns"], is_virtual=True)
    return [Finding(True, text)] if text else []
