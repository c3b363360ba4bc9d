"""The picture of a probe for a terminal: distributions, a histogram, and what follows."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from inphase.command.screen import table

_BAR = 40
_COLUMNS = ("min", "p50", "p90", "p99", "p999", "max")
_NAMES = {
    "trigger_to_sample_ns": "trigger to sample",
    "jitter_ns": "off its median",
    "arrival_ns": "arrival in the cycle",
    "interval_ns": "sample to sample",
}


def render(result: dict[str, Any]) -> Group:
    """A rich renderable of what `probe.probe` gave."""
    head = Text(
        f"{result['sensor']} of {result['robot']}: device {result['device']}, {result['driver']}, "
        f"home {result['home']}\n"
        f"{result['cycles']} cycles of {result['period_ns'] / 1e6:g} ms, {result['skipped']} "
        f"skipped; {_counts(result)}\n"
    )
    statuses = ", ".join(f"{count} {status}" for status, count in result["status"].items())
    head.append(f"frames: {statuses}\n")
    for event in result["events"]:
        head.append(f"- {event}\n", "yellow")
    columns = ("", "count", "min", "p50", "p90", "p99", "p99.9", "max")
    times = table("distributions [us]", columns, left=("",), is_tight=True)
    for key, name in _NAMES.items():
        values = result[key]
        if values["count"]:
            shown = [f"{values[column] / 1000:.1f}" for column in _COLUMNS]
            times.add_row(name, str(values["count"]), *shown)
    parts: list[RenderableType] = [head, times, _bars(result), _acquisition(result)]
    suggested = result["suggested"]
    if suggested is None:
        return Group(*parts, Text("no sample came: nothing is suggested", "bold red"))
    return Group(*parts, _suggestion(suggested))


def _counts(result: dict[str, Any]) -> str:
    if result["latched"]:
        return f"{result['samples']} samples, free-running"
    text = f"due {result['due']} times, {result['samples']} samples, {result['lost']} lost"
    return text + (f", {result['unseen']} seen in no frame" if result["unseen"] else "")


def _bars(result: dict[str, Any]) -> Text:
    """A bar per bin; what is above p99.9 is one bin, to the largest."""
    text = Text()
    bins = result["histogram"]
    most = max((item["count"] for item in bins), default=1)
    what = "sample to sample" if result["latched"] else "trigger to sample"
    text.append(f"\n{what} [us]\n" if bins else "")
    for item in bins:
        bar = "█" * round(_BAR * item["count"] / most) or ("▏" if item["count"] else "")
        text.append(f"{item['from_ns'] / 1000:10.1f} ", "dim")
        text.append(bar.ljust(_BAR), "cyan")
        text.append(f" {item['count']}\n")
    if bins:
        text.append(f"{bins[-1]['to_ns'] / 1000:10.1f}\n", "dim")
    return text


def _acquisition(result: dict[str, Any]) -> Text:
    clock = result["clock"]
    if result["acquired"] is None:
        text = Text("acquisition: not known, neither by a clock nor by a model of the driver\n")
    elif result["acquired"] == "model":
        text = Text("acquisition: by the driver's stated model; the device has no clock\n")
    else:
        text = Text("acquisition: by the device's own clock\n")
    if clock is not None:
        text.append(
            f"device clock: {clock['drift_ppb'] / 1000:+.3f} ppm against the host's, stamps within "
            f"{clock['uncertainty_ns'] / 1000:.1f} us; {clock['exchanges']} exchanges, "
            f"{clock['rejected']} rejected, {clock['resets']} resets\n"
        )
    return text


def _suggestion(suggested: dict[str, Any]) -> Text:
    text = Text("\nsuggested\n", "bold")
    for key in ("read_deadline_us", "latency_cycles", "max_age_ms"):
        if suggested[key] is not None:
            text.append(f"  {key} = {suggested[key]}\n", "not bold")
    for key, value_ns in (suggested["driver"] or {}).items():
        text.append(f"  {key}={value_ns:_},  # in the driver\n", "not bold")
    for rule in suggested["rules"]:
        text.append(f"  - {rule}\n", "not bold dim")
    return text
