"""`inphase doctor`: what this machine can do, what is wrong with it, and how to mend that."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inphase.errors import RealtimeError
from inphase.host.standard_streams import print_json

if TYPE_CHECKING:
    from inphase.doctor.examination import HostFinding
    from inphase.doctor.wakes import Wakes
    from inphase.schedule import Schedule

_QUANTILES = (0.5, 0.99, 0.999, 1.0)
_LEAST_GRADE = "C"


@click.command()
@click.argument("schedule", required=False, type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="of each measurement, alone and under load; 0: none",
)
@click.option("--fix", is_flag=True, help="offer to mend what needs no new start")
@click.option("--strict", is_flag=True, help="exit code 4 where something is wrong")
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def doctor(
    *, schedule: Path | None, seconds: float, fix: bool, strict: bool, as_json: bool
) -> None:
    """Examine this machine for SCHEDULE, or for a cycle as that of the demo.

    Says of each thing what it costs, and how to mend it. Measures how late a thread wakes that has
    the cycle's rights, alone and beside a busy process per core.
    """
    from inphase.command.ready_schedules import folder
    from inphase.doctor import examination
    from inphase.schedule import load

    if fix and as_json:
        raise click.UsageError("--fix asks, and --json answers no questions; give one of them")
    described = load(schedule or folder() / "demo.toml")
    findings = examination.examine(described)
    if fix:
        _mend(findings)
        findings = examination.examine(described)
    wakes = _measure(described, seconds) if seconds else []
    if as_json:
        print_json(_facts(described, findings, wakes))
    else:
        _show(described, findings, wakes)
    if strict:
        _be_strict(described, findings, wakes)


def _measure(described: "Schedule", seconds: float) -> "list[Wakes]":
    from inphase.doctor.wakes import hogs, measure

    click.echo(f"measures for {2 * seconds:g} s", err=True)
    try:
        alone = measure("alone", described.cycle, seconds)
        with hogs():
            return [alone, measure("a busy process per core", described.cycle, seconds)]
    except OSError as error:
        raise RealtimeError(
            f"nothing was measured: {error.strerror}; give --seconds 0 to do without"
        ) from error


def _facts(
    described: "Schedule", findings: "list[HostFinding]", wakes: "list[Wakes]"
) -> dict[str, Any]:
    period_ns = described.cycle.period_ns
    return {
        "schedule": str(described.path),
        "period_ns": period_ns,
        "findings": [one.facts() for one in findings],
        "wakes": [
            {
                "name": one.name,
                "seconds": one.seconds,
                "count": one.late_ns.size,
                "late_us": {f"p{100 * q:g}": one.quantile_us(q) for q in _QUANTILES},
                "stolen_ms": one.stolen_ms,
                "realtime": one.is_realtime,
                "grade": one.grade(period_ns),
            }
            for one in wakes
        ],
    }


def _show(described: "Schedule", findings: "list[HostFinding]", wakes: "list[Wakes]") -> None:
    from rich.text import Text

    from inphase.command.screen import screen, table

    made = table(f"This machine, for {described.name}", ("", "what", "found", "costs", "remedy"))
    for one in findings:
        mark = Text("ok", "green") if one.ok else Text("bad", "red")
        made.add_row(mark, one.name, one.found, one.costs, one.remedy)
    console = screen()
    console.print(made)
    if not wakes:
        return
    period_us = described.cycle.period_ns / 1000
    title = f"Lateness of a thread that only wakes, us; the period has {period_us:g}"
    shown = table(
        title, ("", "p50", "p99", "p99.9", "latest", "stolen ms", "rights", "grade"), left=("",)
    )
    for wake in wakes:
        shown.add_row(
            wake.name,
            *(f"{wake.quantile_us(q):.1f}" for q in _QUANTILES),
            f"{wake.stolen_ms:.0f}",
            "real-time" if wake.is_realtime else "ordinary",
            wake.grade(described.cycle.period_ns),
        )
    console.print(shown)
    console.print(
        "Grade, by the latest wake: A up to 5 % of the period, B 20 %, C 50 %, D the whole, E more."
    )


def _mend(findings: "list[HostFinding]") -> None:
    """Ask for each fix, and run it."""
    fixes = [one for one in findings if one.fix]
    if not fixes:
        click.echo("nothing to mend that needs no new start", err=True)
    for one in fixes:
        assert one.fix is not None
        click.echo(f"{one.name}: {one.costs}\n    {one.fix}", err=True)
        if not click.confirm("run it?", default=False, err=True):
            continue
        try:
            import subprocess

            done = subprocess.run(one.fix.command, input=one.fix.written, text=True, check=False)
        except OSError as error:
            click.echo(f"{one.fix.command[0]}: {error.strerror}; install it", err=True)
            continue
        code = done.returncode
        click.echo("done" if code == 0 else f"it ended with {code}", err=True)


def _be_strict(described: "Schedule", findings: "list[HostFinding]", wakes: "list[Wakes]") -> None:
    """Raises RealtimeError."""
    bad = [one.name for one in findings if not one.ok]
    late = [one for one in wakes if one.grade(described.cycle.period_ns) > _LEAST_GRADE]
    bad += [f"lateness {one.name} (grade {one.grade(described.cycle.period_ns)})" for one in late]
    if bad:
        raise RealtimeError(
            f"this machine is not fit for {described.path}: {', '.join(bad)}; see the remedies "
            f"above, or inphase doctor --fix"
        )


COMMANDS = (doctor,)
