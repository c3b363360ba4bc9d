"""A run's summary as tables on a terminal."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inphase.command.screen import table
from inphase.frames.record_layout import HISTOGRAMS
from inphase.runtime.summary import ANSWERS, INFERENCE
from inphase.runtime.words import late_words, rest_words
from inphase.schedule.duration import tenths_of_us

_SAID = 4
"""kinds of late cycles that are told; all are in `--json`"""
_GRADES = {"good": "bold green", "fair": "bold yellow", "not good": "bold red"}


def render(result: dict[str, Any]) -> Any:
    """A rich renderable of a summary: what happened, distributions in us, the worst cycles, the
    verdict, and last the rest of each actuator."""
    parts: list[Any] = [_head(result), _distributions(result), _samples(result)]
    parts.append(_statuses(result))
    if any(result.get("late", {}).get("causes", {}).values()):
        parts.append(_late(result["late"]))
    if result["worst"]:
        parts.append(_worst(result))
    parts.append(_verdict(result["verdict"]))
    if rest := rest_words.line(result):
        parts.append(Text(rest))
    return Group(*parts)


def _verdict(verdict: list[str]) -> Text:
    """The overall sentence, and a line for each thing to look at."""
    overall, *things = verdict
    text = Text("\n")
    grade = overall.partition(",")[0].partition(":")[0]
    text.append(f"verdict: {overall}", _GRADES[grade])
    for thing in things:
        text.append(f"\n- {thing}")
    return text


def _head(result: dict[str, Any]) -> Text:
    head = Text()
    head.append(f"{result['robot']}: {result['cycles']} cycles, {result['skipped']} skipped, ")
    head.append(_stopped_line(result["stopped"]))
    if "digest" in result:
        head.append(f"{result['cycles_per_s']:,.0f} cycles/s, digest {result['digest']}\n")
    else:
        head.append(_realtime_line(result["realtime"]))
    if result.get("machine"):
        head.append(f"machine: {', '.join(result['machine'])}; inphase doctor says what it costs\n")
    if result["latched"]:
        head.append(f"motion is latched: {result['latched']}\n", "bold red")
    policy = result["policy"]
    head.append(
        f"policy: {policy['commands']} commands, {policy['missed']} missed, "
        f"{policy['invalid']} refused{_reasons(policy['reasons'])}\n"
    )
    if policy["sandbox"] is not None:
        head.append(_sandbox_line(policy["sandbox"]))
    answers = [f"{policy[key]} {key.replace('_', ' ')}" for key in ANSWERS if policy[key]]
    if answers:
        head.append(f"answers: {', '.join(answers)}\n", "yellow")
    commands = ", ".join(f"{count} {what}" for what, count in result["commands"].items())
    head.append(f"commands: {commands}\n")
    if "recording" in result:
        head.append(*_recording_line(result["recording"]))
    for event in result["events"]:
        if event in result["verdict"]:
            continue  # it stands there
        head.append(f"- {event}\n", "yellow")
    return head


def _recording_line(recording: dict[str, Any]) -> tuple[str, str]:
    files = f" in {recording['files']} files" if recording["files"] > 1 else ""
    line = f"recording: {recording['path']}, {recording['frames']} frames{files}"
    line += f", {recording['state']}\n" if recording["files"] else ", nothing was wanted\n"
    return line, "" if recording["state"] == "COMPLETE" else "bold red"


def _reasons(counts: dict[str, int]) -> str:
    """Why cycles had no command, or one that was refused."""
    words = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    return f" ({words})" if words else ""


def _distributions(result: dict[str, Any]) -> Table:
    rows = {name.removesuffix("_ns"): result[name] for name in (*HISTOGRAMS, INFERENCE)}
    return _times("distributions [us]", rows, is_virtual="digest" in result)


def _samples(result: dict[str, Any]) -> Table:
    rows = {name: sensor["trigger_to_sample_ns"] for name, sensor in result["sensors"].items()}
    return _times("trigger to sample [us]", rows, is_virtual="digest" in result)


def _times(title: str, rows: dict[str, dict[str, int]], *, is_virtual: bool) -> Table:
    columns = ("", "count", "min", "p50", "p90", "p99", "p99.9", "max")
    times = table(title, columns, left=("",), is_tight=True)
    if is_virtual:  # virtual time is never late: a row of zeros says nothing
        rows = {name: values for name, values in rows.items() if values["max"]}
    for name, values in rows.items():
        shown = [tenths_of_us(values[key]) for key in ("min", "p50", "p90", "p99", "p999", "max")]
        times.add_row(name, str(values["count"]), *(shown if values["count"] else ["-"] * 6))
    return times


def _statuses(result: dict[str, Any]) -> Table:
    present = [
        status
        for status in next(iter(result["sensors"].values()))["status"]
        if any(s["status"][status] for s in result["sensors"].values())
    ]
    statuses = table("statuses", ("sensor", *present), left=("sensor",), is_tight=True)
    for name, sensor in result["sensors"].items():
        statuses.add_row(name, *(str(sensor["status"][status]) for status in present))
    return statuses


def _worst(result: dict[str, Any]) -> Table:
    columns = ("cycle", "late [us]", "phase", "device")
    worst = table("worst cycles", columns, left=("phase", "device"))
    for item in result["worst"]:
        worst.add_row(
            str(item["cycle"]), tenths_of_us(item["late_ns"]), item["phase"], item["device"] or "-"
        )
    return worst


def _late(late: dict[str, Any]) -> Text:
    """Whose fault late cycles were."""
    text = Text(f"late moments by cause: {late_words.by_cause(late['causes'])}\n")
    for said in late["said"][:_SAID]:
        text.append(f"- {said}\n")
    return text


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
    return (
        f"real time: asked for {asked} and locked memory, refused {why}; "
        f"inphase check SCHEDULE prints how to grant it\n"
    )
