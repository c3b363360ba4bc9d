"""The summary of a run: a dict with documented, stable keys, and a picture of it for a terminal.

Keys (times in nanoseconds; each distribution has count, min, p50, p90, p99, p999, max):

    robot, schedule_hash, period_ns, cycles, skipped, overruns, stopping_cycles
    state (one of STATES), stopped.reason, stopped.detail, stopped.cycle, latched
    realtime.granted, realtime.priority, realtime.cpu, realtime.refused (what: why)
    sensors.NAME.status.STATUS (counts), sensors.NAME.trigger_to_sample_ns
    sensors.NAME.worker (of a sensor that has one): struct inphase_worker_facts of inphase.h; what
    is not known is None
    sensors.NAME.clock (of an exchange with the device's time): struct inphase_clock_facts, likewise
    policy.commands, policy.missed, policy.invalid, policy.dropped, policy.reasons.REASON,
    policy.ended, policy.late_answers, policy.refused_answers, policy.stale, policy.starved: struct
    inphase_counts
    policy.home (process, or thread: shares the GIL of whoever started the runtime)
    policy.sandbox.seccomp, .landlock (its ABI, None: not in force), .lacking, .allow (of a process)
    commands.written, .limited, .repeated, .ramped, .busy
    wake_late_ns, trigger_late_ns, act_late_ns, skew_ns, latch_to_command_ns
    inference_ns (in the policy: from a frame taken to its command posted; on the wall clock)
    worst: list of cycle, late_ns, phase, device (worst first)
    late_samples, slips, duplicates, dropped_bytes, foreign_frames, error_passive, lost_devices,
    page_faults, events
    digest, cycles_per_s (lock step)
"""

import os
import signal
from typing import Any

from inphase.errors import WorldError
from inphase.frames import store
from inphase.frames.record_layout import ABSENT, REASONS, STATES
from inphase.frames.store import Reader, Segment
from inphase.plan.plan import Plan
from inphase.policy import sandbox

_PHASES = ("wake", "trigger", "read", "act")
HISTOGRAMS = ("wake_late_ns", "trigger_late_ns", "act_late_ns", "skew_ns", "latch_to_command_ns")
INFERENCE = "inference_ns"
_NONE = dict.fromkeys(("count", "min", "p50", "p90", "p99", "p999", "max"), 0)
ANSWERS = ("late_answers", "refused_answers", "stale", "starved")
"""Counts of what a policy answered."""
EXIT_POLICY = 7
EXIT_LATCHED = 8
EXIT_STALLED = 11


def make(
    plan: Plan,
    reader: Reader,
    events: list[str],
    policy_end: str | None = None,
    mailbox: Segment | None = None,
) -> dict[str, Any]:
    """Sum up what the store says, and the policy's mailbox where there is one."""
    status, counts = reader.status(), reader.counts()
    devices = list(plan.schedule.device)
    reason = REASONS[status["reason"]]
    result: dict[str, Any] = {
        "robot": plan.schedule.name,
        "schedule_hash": plan.schedule.hash,
        "period_ns": plan.schedule.cycle.period_ns,
        "cycles": status["cycles"],
        "skipped": status["skipped"],
        "overruns": status["overruns"],
        "stopping_cycles": status["stopping_cycles"],
        "state": STATES[status["state"]],
        "stopped": {
            "cycle": status["reason_cycle"] if status["reason"] else None,
            "reason": reason,
            "detail": signal.Signals(status["detail"]).name
            if reason == "signal"
            else status["detail"],
        },
        "latched": REASONS[status["latched"]] if status["latched"] else None,
        "realtime": _realtime(reader.realtime()),
        "sensors": {
            sensor.name: {
                "status": statuses,
                "trigger_to_sample_ns": reader.quantiles(len(HISTOGRAMS) + index),
                **_worker(reader, index),
                **_clock(reader, index),
            }
            for index, (sensor, statuses) in enumerate(
                zip(plan.sensors, reader.statuses(), strict=True)
            )
        },
        "policy": {
            "commands": counts["commands"],
            "missed": counts["missed"],
            "invalid": counts["invalid"],
            **{key: counts[key] for key in ANSWERS},
            "dropped": counts["dropped"],
            "reasons": reader.reasons(),
            "ended": policy_end,
            "home": _policy_home(plan),
            "sandbox": sandbox.summed_up(store.sandbox(mailbox)) if mailbox is not None else None,
        },
        "commands": {
            key: counts[key] for key in ("written", "limited", "repeated", "ramped", "busy")
        },
    }
    result |= {name: reader.quantiles(index) for index, name in enumerate(HISTOGRAMS)}
    result[INFERENCE] = store.inference(mailbox) if mailbox is not None else dict(_NONE)
    result |= {
        "worst": [
            {
                "cycle": worst["cycle"],
                "late_ns": worst["late_ns"],
                "phase": _PHASES[worst["phase"]],
                "device": devices[worst["device"]] if worst["device"] >= 0 else None,
            }
            for worst in reader.worst()
        ],
        "late_samples": counts["late_samples"],
        "slips": counts["slips"],
        "duplicates": counts["duplicates"],
        "dropped_bytes": counts["dropped_bytes"],
        "foreign_frames": counts["foreign_frames"],
        "error_passive": counts["error_passive"],
        "lost_devices": status["lost_devices"],
        "page_faults": status["page_faults"],
        "events": events,
    }
    return result


def _policy_home(plan: Plan) -> str | None:
    """Where the policy ran; `thread` shares the GIL of whoever started the runtime."""
    if plan.client_policy:
        return "thread"
    return "process" if plan.schedule.policy is not None else None


def _worker(reader: Reader, sensor: int) -> dict[str, Any]:
    facts = reader.worker(sensor)
    if facts is None:
        return {}
    return {"worker": {k: None if v == ABSENT else v for k, v in facts.items()}}


def _clock(reader: Reader, sensor: int) -> dict[str, Any]:
    facts = reader.clock(sensor)
    if facts is None:
        return {}
    return {"clock": {k: None if v == ABSENT else v for k, v in facts.items()}}


def _realtime(facts: dict[str, int]) -> dict[str, Any]:
    refused = {
        "SCHED_FIFO": facts["priority_errno"],
        "core": facts["cpu_errno"],
        "locked memory": facts["memory_errno"],
    }
    return {
        "granted": bool(facts["granted"]),
        "priority": facts["priority"],
        "cpu": facts["cpu"] if facts["cpu"] >= 0 else None,
        "refused": {what: os.strerror(error) for what, error in refused.items() if error},
    }


def exit_code(result: dict[str, Any]) -> int:
    """0 done or asked to stop; 128 + signal; 6 overruns; 7 the policy ended; 8 motion latched, or
    an actuator not known to be at rest; 10 the simulated world ended; 11 the guard stopped the
    emulated robot of a frozen runtime."""
    reason = result["stopped"]["reason"]
    ends = {"world": WorldError.exit_code, "guard": EXIT_STALLED, "overrun": 6}
    if result["state"] == "uncontrolled" and reason not in ("world", "guard"):
        return EXIT_LATCHED
    if reason == "signal":
        return 128 + int(signal.Signals[result["stopped"]["detail"]])
    if reason in ends:
        return ends[reason]
    if result["policy"]["ended"]:
        return EXIT_POLICY
    return EXIT_LATCHED if result["latched"] else 0


def _us(value: int) -> str:
    return f"{value / 1000:.1f}"


def render(result: dict[str, Any]) -> Any:
    """A rich renderable of a summary: what happened, distributions in us, the worst cycles."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text()
    head.append(f"{result['robot']}: {result['cycles']} cycles, {result['skipped']} skipped, ")
    head.append(_stopped_line(result["stopped"]))
    if "digest" in result:
        head.append(f"{result['cycles_per_s']:,.0f} cycles/s, digest {result['digest']}\n")
    else:
        head.append(_realtime_line(result["realtime"]))
    if result["latched"]:
        head.append(f"motion is latched: {result['latched']}\n", "bold red")
    policy = result["policy"]
    head.append(
        f"policy: {policy['commands']} commands, {policy['missed']} missed, "
        f"{policy['invalid']} refused {policy['reasons'] or ''}\n"
    )
    if policy["sandbox"] is not None:
        head.append(_sandbox_line(policy["sandbox"]))
    answers = [f"{policy[key]} {key.replace('_', ' ')}" for key in ANSWERS if policy[key]]
    if answers:
        head.append(f"answers: {', '.join(answers)}\n", "yellow")
    commands = ", ".join(f"{count} {what}" for what, count in result["commands"].items())
    head.append(f"commands: {commands}\n")
    for event in result["events"]:
        head.append(f"- {event}\n", "yellow")

    times = Table(title="distributions [us]", title_justify="left")
    for column in ("", "count", "min", "p50", "p90", "p99", "p99.9", "max"):
        times.add_column(column, justify="right" if column else "left")
    rows = {name.removesuffix("_ns"): result[name] for name in (*HISTOGRAMS, INFERENCE)}
    rows |= {
        f"{name} trigger to sample": sensor["trigger_to_sample_ns"]
        for name, sensor in result["sensors"].items()
    }
    for name, values in rows.items():
        shown = [_us(values[key]) for key in ("min", "p50", "p90", "p99", "p999", "max")]
        times.add_row(name, str(values["count"]), *(shown if values["count"] else ["-"] * 6))

    statuses = Table(title="statuses", title_justify="left")
    present = [
        status
        for status in next(iter(result["sensors"].values()))["status"]
        if any(s["status"][status] for s in result["sensors"].values())
    ]
    for column in ("sensor", *present):
        statuses.add_column(column, justify="left" if column == "sensor" else "right")
    for name, sensor in result["sensors"].items():
        statuses.add_row(name, *(str(sensor["status"][status]) for status in present))

    worst = Table(title="worst cycles", title_justify="left")
    for column in ("cycle", "late [us]", "phase", "device"):
        worst.add_column(column, justify="right" if column in ("cycle", "late [us]") else "left")
    for item in result["worst"]:
        worst.add_row(
            str(item["cycle"]), _us(item["late_ns"]), item["phase"], item["device"] or "-"
        )
    return Group(head, times, statuses, worst)


def _sandbox_line(found: dict[str, Any]) -> str:
    held = ["seccomp"] if found["seccomp"] else []
    held += [f"Landlock ABI {found['landlock']}"] if found["landlock"] else []
    line = f"policy's sandbox: {', '.join(held) or 'none'}"
    if found["allow"]:
        line += f"; allowed: {', '.join(found['allow'])}"
    if found["lacking"]:
        line += f"; not available: {found['lacking']}"
    return f"{line}\n"


def _stopped_line(stopped: dict[str, Any]) -> str:
    when = "" if stopped["cycle"] is None else f" in cycle {stopped['cycle']}"
    detail = f" ({stopped['detail']})" if stopped["detail"] else ""
    return f"stopped: {stopped['reason']}{detail}{when}\n"


def _realtime_line(realtime: dict[str, Any]) -> str:
    asked = f"SCHED_FIFO {realtime['priority']}"
    if realtime["cpu"] is not None:
        asked += f" on core {realtime['cpu']}"
    if realtime["granted"]:
        return f"real time: {asked} and locked memory, granted\n"
    why = ", ".join(f"{what}: {error}" for what, error in realtime["refused"].items())
    return f"real time: asked for {asked} and locked memory, refused {why}\n"
