"""`inphase bench`: a schedule's latencies, measured in turns with a bare wake, and compared."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inphase.gate.comparison import BaselineComparison
    from inphase.gate.measurement import Measurement

EXIT_SLOWER, EXIT_UNDECIDED = 1, 17


@click.command()
@click.argument("schedule", type=click.Path(path_type=Path))
@click.option(
    "--runs",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="rounds of times; 0: only what does not depend on the machine's load",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="that the robot runs in each",
)
@click.option("--simulate", is_flag=True, help="in the schedule's simulated world")
@click.option("--json", "out", type=click.Path(path_type=Path), help="keep it, as a baseline")
@click.option("--compare", "base", type=click.Path(path_type=Path), help="with that baseline")
@click.option(
    "--percent",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    help="by which a time may grow",
)
@click.option("--markdown", type=click.Path(path_type=Path), help="write the comparison's table")
def bench(
    *,
    schedule: Path,
    runs: int,
    seconds: float,
    simulate: bool,
    out: Path | None,
    base: Path | None,
    percent: float,
    markdown: Path | None,
) -> None:
    """Run SCHEDULE in turns with a thread that only wakes, and tell its latencies.

    With --compare: exit code 1 where it is slower than the baseline, 17 where nobody can tell.
    """
    from inphase.command.recorded.reporting import FrameProgress
    from inphase.errors import RecordingError
    from inphase.gate import comparison
    from inphase.gate.measurement import Measurement, run
    from inphase.plan.validation import load

    before = None if base is None else Measurement.read(base)
    if markdown is not None and before is None:
        raise click.UsageError("--markdown is the table of a comparison; give --compare as well")
    described = load(schedule)
    with FrameProgress("rounds") as progress:
        now = run(described, runs, seconds, simulate=simulate, watch=progress.show)
    try:
        if out is not None:
            now.save(out)
        _show(now)
        if before is None:
            return
        found = comparison.compare(before, now, percent / 100)
        if markdown is not None:
            markdown.write_text(comparison.markdown(found, now))
    except OSError as error:
        raise RecordingError(f"{error.filename}: {error.strerror}; give another name") from error
    _show_comparison(found)
    if found.is_slower:
        sys.exit(EXIT_SLOWER)
    if found.is_undecided:
        sys.exit(EXIT_UNDECIDED)


def _show(now: "Measurement") -> None:
    import numpy as np

    from inphase.command.screen import screen, table
    from inphase.gate.measurement import QUANTILES

    console = screen()
    if now.rounds:
        title = f"{now.robot}: medians of {len(now.rounds)} rounds, us"
        made = table(title, ("", *QUANTILES), left=("",))
        rows = {"bare wake": [bare for one in now.rounds for bare in one.bare]}
        for one in now.rounds if now.is_realtime else []:
            for name, quantiles in one.figures.items():
                rows.setdefault(name, []).append(quantiles)
        for name, found in rows.items():
            cells = [f"{np.median([each[q] for each in found]):.1f}" for q in QUANTILES]
            made.add_row(name, *cells)
        console.print(made)
        if not now.is_realtime:
            console.print(
                "no real-time rights: times of the robot would be of ordinary priority and are "
                "not told; inphase doctor says how to get them"
            )
        skipped, cycles = sum(r.skipped for r in now.rounds), sum(r.cycles for r in now.rounds)
        stolen = sum(one.stolen_ms for one in now.rounds)
        console.print(
            f"{cycles} cycles, {skipped} skipped; the host took {stolen:.0f} ms meanwhile"
        )
    if now.counts is None:
        console.print(now.uncounted)
        return
    kinds = ("instructions", "own", "calls", "allocations", "copied")
    heads = ("", "instructions", "of the core", "system calls", "allocations", "copied bytes")
    made = table(
        f"{now.robot}: in a cycle on virtual time, mean of {now.counts.cycles}", heads, left=("",)
    )
    for name, part in now.counts.parts.items():
        made.add_row(name, *(f"{getattr(part, kind):,.0f}" for kind in kinds))
    console.print(made)
    console.print(f"{now.counts.faults:.2g} page faults of the core in a cycle")


def _show_comparison(found: "BaselineComparison") -> None:
    from rich.text import Text

    from inphase.command.screen import screen, table
    from inphase.gate import comparison

    console = screen()
    if found.compared:
        made = table(
            "Against the baseline",
            ("figure", "", "before", "now", "ratio", "95 %", "verdict"),
            left=("figure", "", "verdict"),
        )
        for one in found.compared:
            made.add_row(
                one.figure,
                one.quantile,
                f"{one.before_us:.1f}",
                f"{one.now_us:.1f}",
                f"{one.ratio:.2f}",
                f"{one.low:.2f}..{one.high:.2f}",
                Text(one.verdict, {"slower": "red", "undecided": "yellow"}.get(one.verdict, "")),
            )
        console.print(made)
    if found.counted:
        made = table("In a cycle", ("", "before", "now", "change", "verdict"), left=("", "verdict"))
        for pair in found.counted:
            said = Text("more", "red") if pair.has_grown else Text("within bounds")
            made.add_row(pair.name, f"{pair.before:.6g}", f"{pair.now:.6g}", pair.change, said)
        console.print(made)
    for text in (*found.changes, *found.notes):
        console.print(text)
    more = ": more --runs, or a quieter machine, tell more" if found.is_undecided else ""
    console.print(comparison.verdict(found) + more)


COMMANDS = (bench,)
