"""A timing model out of a run: what was measured on the robot, for the simulator to draw from.

A run's summary (`inphase run --json`) has the distribution of every phase. Its quantiles become the
quantile functions of a timing model, as a TOML file that a schedule names under [timing].
"""

from typing import Any

from inphase.runtime.summary import HISTOGRAMS
from inphase.schedule.document import toml_table

_QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_MANY = 20  # fewer than this measure nothing
_COUNTED = 0.99  # share of the commands that came in time, from which those speak for all
_DUE = ("FRESH", "LATE", "MISSING", "FROZEN", "INVALID", "RECOVERING")


def of_summary(summary: dict[str, Any]) -> str:
    """The TOML text of a timing model; what was measured too seldom is left out, and said.

    summary: as `inphase run --json` prints it. Raises KeyError for something else.
    """
    lines = [
        f"# timing of {summary['robot']}, measured over {summary['cycles']} cycles of "
        f"{summary['period_ns'] / 1e6:g} ms (schedule {summary['schedule_hash']})",
        "# latencies are of samples that came in time; dropout is the share of those due that did "
        "not",
    ]
    for name, sensor in summary["sensors"].items():
        table: dict[str, Any] = {"latency_ms": _quantiles(sensor["trigger_to_sample_ns"])}
        status = dict(sensor["status"])
        if status["HELD"]:  # one that is not due in every frame is MISSING in such ones, too
            status["MISSING"] = 0
        due = sum(status[name] for name in _DUE)
        lost = status["LATE"] + status["MISSING"]
        table["dropout"] = lost / due if due >= _MANY and lost else None
        lines.append(_table(("sensors", name), table, sensor["trigger_to_sample_ns"]["count"]))
    inference = _inference(summary)
    lines.append(_table(("policy",), {"inference_ms": _quantiles(inference)}, inference["count"]))
    wake = summary[HISTOGRAMS[0]]
    lines.append(_table(("host",), {"wake_late_ms": _quantiles(wake)}, wake["count"]))
    return "\n".join(lines)


def _inference(summary: dict[str, Any]) -> dict[str, int]:
    """From the latch to the command, the wake among it; where commands came too late to be counted
    there, what the policy itself measured."""
    seen: dict[str, int] = summary["latch_to_command_ns"]
    own: dict[str, int] = summary["inference_ns"]
    return own if own["count"] * _COUNTED > seen["count"] else seen


def _quantiles(found: dict[str, int]) -> dict[str, Any] | None:
    """A distribution by its quantiles, in ms; None: too few."""
    if found["count"] < _MANY:
        return None
    pairs = [[p, max(0, found[key]) / 1e6] for key, p in _QUANTILES.items()]
    return {"quantiles": pairs}


def _table(name: tuple[str, ...], values: dict[str, Any], count: int) -> str:
    if all(value is None for value in values.values()):
        return f"\n# {'.'.join(name)}: {count} measured, too few"
    return toml_table(name, values).rstrip("\n")
