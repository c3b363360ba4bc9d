"""The summary of a run: a dict with documented, stable keys, and a picture of it for a terminal.

docs/how-to/read-a-summary.md has every key with its meaning.
"""

import os
import signal
from typing import Any

from inphase.doctor.examination import examine
from inphase.errors import DeviceError, RecordingError, WorldError
from inphase.frames import meanings, store
from inphase.frames.record_layout import ABSENT, HISTOGRAMS, REASONS, STATES
from inphase.frames.store import Reader, Segment
from inphase.plan.plan import Plan
from inphase.policy import sandbox
from inphase.runtime.words import rest_words

_PHASES = ("wake", "trigger", "read", "act")
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
_MOMENT_NS = 1_000_000_000
_STOOD = 0.1
"""share of its commanded motion below which a joint has not moved"""
EXIT_OVERRUN = 6
EXIT_POLICY = 7
EXIT_LATCHED = 8
EXIT_STALLED = 11


def make(
    plan: Plan,
    reader: Reader,
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
        **_pace(plan, status),
        "state": STATES[status["state"]],
        "stopped": _stopped(status),
        "latched": REASONS[status["latched"]] if status["latched"] else None,
        "realtime": _realtime(reader.realtime()),
        "machine": {one.name: one.found for one in examine(plan.schedule) if not one.ok},
        "sensors": _sensors(plan, reader),
        "policy": _policy(plan, reader, policy_end, mailbox),
        "actuators": _actuators(plan, reader),
        "commands": {key: counts[key] for key in _COMMANDS},
        **{name: reader.quantiles(index) for index, name in enumerate(HISTOGRAMS)},
        INFERENCE: store.inference(mailbox) if mailbox is not None else dict(_NONE),
        "worst": _worst(plan, reader),
        **{key: counts[key] for key in _COUNTS},
        "lost_devices": status["lost_devices"],
        "page_faults": status["page_faults"],
    }


def _pace(plan: Plan, status: dict[str, int]) -> dict[str, Any]:
    """How the grid followed the device that starts the cycles, where one does."""
    clock = plan.schedule.cycle.clock
    if clock is None:
        return {}
    drift_ppb = status["pace_drift_ppb"]
    return {
        "pace": {
            "device": clock,
            "follows": bool(status["paced"]),
            "unpaced": status["unpaced"],
            "missed_packets": status["missed_packets"],
            "drift_ppb": None if drift_ppb == ABSENT else drift_ppb,
        }
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


def _actuators(plan: Plan, reader: Reader) -> dict[str, Any]:
    """How far each joint was commanded, and how far it was measured to move."""
    found = {}
    for index, actuator in enumerate(plan.actuators):
        travel = reader.travel(index, actuator.spec.channels)
        found[actuator.name] = {
            "commanded": [one["commanded"] for one in travel],
            "measured": [one["measured"] for one in travel],
            "never_followed": [channel for channel, one in enumerate(travel) if _stood(one)],
        }
    return found


def _stood(travel: dict[str, float]) -> bool:
    """True for a joint that was commanded far, for longer than a moment, and moved next to nothing.

    A joint that presses against something, or that sags, moves more.
    """
    is_judged = travel["since_ns"] >= _MOMENT_NS
    return is_judged and travel["measured"] < _STOOD * travel["commanded"]


def _policy(
    plan: Plan, reader: Reader, policy_end: str | None, mailbox: Segment | None
) -> dict[str, Any]:
    counts = reader.counts()
    return {
        **{key: counts[key] for key in ("commands", "missed", "invalid", *ANSWERS, "dropped")},
        "unanswered": counts["unanswered"],
        "reasons": reader.reasons(),
        "ended": policy_end,
        "home": _policy_home(plan),
        **_server(plan, mailbox),
        "sandbox": sandbox.summed_up(store.sandbox(mailbox)) if mailbox is not None else None,
    }


def _server(plan: Plan, mailbox: Segment | None) -> dict[str, Any]:
    """The counts of a policy server, where there is one."""
    policy = plan.schedule.policy
    if policy is None or policy.server is None or mailbox is None:
        return {}
    return {"server": store.server_counts(mailbox)}


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
    """The exit code of a run; the first line that applies.

    10 the simulated world ended; 11 the guard stopped the emulated robot of a frozen runtime;
    8 an actuator is not known to be at rest; 128 + signal; 6 overruns;
    3 packets of the device that starts the cycles were missing; 7 the policy ended;
    8 motion is latched, or an actuator is not in its declared rest;
    7 no command was accepted, in the whole run or in its last second;
    3 a sensor was never FRESH in a run of a second or more, or a joint never followed its commands;
    12 something is missing in its recording;
    0 done, or asked to stop.
    """
    reason = result["stopped"]["reason"]
    by_reason = {"world": WorldError.exit_code, "guard": EXIT_STALLED}
    if reason in by_reason:
        return by_reason[reason]
    if reason == "signal" and result["state"] != "uncontrolled":
        return 128 + int(signal.Signals[result["stopped"]["detail"]])
    ends = (
        (result["state"] == "uncontrolled", EXIT_LATCHED),
        (reason == "overrun", EXIT_OVERRUN),
        (reason == "pace", DeviceError.exit_code),
        (result["policy"]["ended"], EXIT_POLICY),
        (result["latched"], EXIT_LATCHED),
        (rest_words.missed(result), EXIT_LATCHED),
        (_is_unanswered(result), EXIT_POLICY),
        (_never_fresh(result), DeviceError.exit_code),
        (_never_followed(result), DeviceError.exit_code),
        (_is_recorded_in_part(result), RecordingError.exit_code),
    )
    return next((code for applies, code in ends if applies), 0)


def _is_recorded_in_part(result: dict[str, Any]) -> bool:
    return bool(result.get("recording", {"state": "COMPLETE"})["state"] != "COMPLETE")


def shortfalls(result: dict[str, Any]) -> list[str]:
    """The jobs that a run did not do, for a person: nobody commanded, a sensor gave nothing, or a
    joint did not move."""
    texts = []
    if _is_unanswered(result):
        policy = result["policy"]
        last_s = policy["unanswered"] * result["period_ns"] / 1e9
        # which of them were the last is not counted: all are told
        by_count = sorted(policy["reasons"].items(), key=lambda item: -item[1])
        reasons = [
            f"{reason} {n} ({meanings.REASONS[reason].remedy_of_command})" for reason, n in by_count
        ]
        texts.append(
            f"the policy gave no acceptable command for the last {last_s:.1f} s; cycles of the run "
            f"without one: {', '.join(reasons)}"
        )
    for name in _never_fresh(result):
        found = result["sensors"][name]["status"]
        counts = ", ".join(f"{status} {n}" for status, n in found.items() if n)
        texts.append(
            f"sensor {name} was never FRESH ({counts}): `inphase probe SCHEDULE {name}` measures "
            f"its device"
        )
    for name, channel in _never_followed(result):
        travel = result["actuators"][name]
        texts.append(
            f"{name}[{channel}] never followed: it was commanded over "
            f"{travel['commanded'][channel]:.3g} and measured to move over "
            f"{travel['measured'][channel]:.3g}; look if it is blocked, if its torque is on, and "
            f"if its id and its feedback are those of this joint"
        )
    return texts + rest_words.shortfalls(result)


def _is_unanswered(result: dict[str, Any]) -> bool:
    """True if no command was accepted: in the whole run, or at its end for longer than a moment."""
    commands, missing = int(result["policy"]["commands"]), int(result["policy"]["unanswered"])
    return missing > 0 and (commands == 0 or missing * int(result["period_ns"]) >= _MOMENT_NS)


def _never_followed(result: dict[str, Any]) -> list[tuple[str, int]]:
    """The joints that stood while they were commanded to move, by actuator and channel."""
    return [
        (name, channel)
        for name, travel in result["actuators"].items()
        for channel in travel["never_followed"]
    ]


def _never_fresh(result: dict[str, Any]) -> list[str]:
    """The sensors without a single fresh sample, in a run that was longer than a moment."""
    if result["cycles"] * result["period_ns"] < _MOMENT_NS:
        return []
    return [name for name, found in result["sensors"].items() if not found["status"]["FRESH"]]
