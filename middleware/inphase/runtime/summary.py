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
_COMMANDS = ("written", "limited", "repeated", "ramped", "busy")
_COUNTS = (
    "late_samples",
    "slips",
    "duplicates",
    "dropped_bytes",
    "foreign_frames",
    "error_passive",
)
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
    return {
        "robot": plan.schedule.name,
        "schedule_hash": plan.schedule.hash,
        "period_ns": plan.schedule.cycle.period_ns,
        **{key: status[key] for key in ("cycles", "skipped", "overruns", "stopping_cycles")},
        "state": STATES[status["state"]],
        "stopped": _stopped(status),
        "latched": REASONS[status["latched"]] if status["latched"] else None,
        "realtime": _realtime(reader.realtime()),
        "sensors": _sensors(plan, reader),
        "policy": _policy(plan, reader, policy_end, mailbox),
        "commands": {key: counts[key] for key in _COMMANDS},
        **{name: reader.quantiles(index) for index, name in enumerate(HISTOGRAMS)},
        INFERENCE: store.inference(mailbox) if mailbox is not None else dict(_NONE),
        "worst": _worst(plan, reader),
        **{key: counts[key] for key in _COUNTS},
        "lost_devices": status["lost_devices"],
        "page_faults": status["page_faults"],
        "events": events,
    }


def _stopped(status: dict[str, int]) -> dict[str, Any]:
    """Why the run ended, and in which cycle that came."""
    reason, detail = REASONS[status["reason"]], status["detail"]
    return {
        "cycle": status["reason_cycle"] if status["reason"] else None,
        "reason": reason,
        "detail": signal.Signals(detail).name if reason == "signal" else detail,
    }


def _sensors(plan: Plan, reader: Reader) -> dict[str, Any]:
    statuses = reader.statuses()
    return {
        sensor.name: {
            "status": statuses[index],
            "trigger_to_sample_ns": reader.quantiles(len(HISTOGRAMS) + index),
            **_worker(reader, index),
            **_clock(reader, index),
        }
        for index, sensor in enumerate(plan.sensors)
    }


def _policy(
    plan: Plan, reader: Reader, policy_end: str | None, mailbox: Segment | None
) -> dict[str, Any]:
    counts = reader.counts()
    return {
        **{key: counts[key] for key in ("commands", "missed", "invalid", *ANSWERS, "dropped")},
        "reasons": reader.reasons(),
        "ended": policy_end,
        "home": _policy_home(plan),
        "sandbox": sandbox.summed_up(store.sandbox(mailbox)) if mailbox is not None else None,
    }


def _worst(plan: Plan, reader: Reader) -> list[dict[str, Any]]:
    devices = list(plan.schedule.device)
    return [
        {
            "cycle": worst["cycle"],
            "late_ns": worst["late_ns"],
            "phase": _PHASES[worst["phase"]],
            "device": devices[worst["device"]] if worst["device"] >= 0 else None,
        }
        for worst in reader.worst()
    ]


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
    """The exit code of a run.

    0 done or asked to stop; 128 + signal; 6 overruns; 7 the policy ended; 8 motion latched, or an
    actuator not known to be at rest; 10 the simulated world ended; 11 the guard stopped the
    emulated robot of a frozen runtime.
    """
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
