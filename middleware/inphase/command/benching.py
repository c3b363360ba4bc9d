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
@click.option("--picture", type=click.Path(path_type=Path), help="draw it: a .png or .svg")
@click.option(
    "--power",
    "asks_power",
    is_flag=True,
    help="tell first how often this gate would see a slower robot on this machine",
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
    picture: Path | None,
    asks_power: bool,
) -> None:
    """Run SCHEDULE in turns with a thread that only wakes, and tell its latencies.

    With --compare: exit code 1 where it is slower than the baseline, 17 where nobody can tell.
    """
    from inphase.command.pictures import bench_picture
    from inphase.command.recorded.reporting import FrameProgress
    from inphase.errors import RecordingError
    from inphase.gate import comparison
    from inphase.gate.measurement import Measurement, run
    from inphase.plan.validation import load

    before = None if base is None else Measurement.read(base)
    if before is None and (markdown or picture):
        raise click.UsageError("--markdown and --picture show a comparison; give --compare as well")
    if picture is not None:
        bench_picture.refuse(picture)
    described = load(schedule)
    with FrameProgress("rounds") as progress:
        now = run(described, runs, seconds, simulate=simulate, watch=progress.show)
    try:
        if out is not None:
            now.save(out)
        _show(now)
        can_tell = not asks_power or _show_power(now, percent / 100)
        if before is None:
            sys.exit(0 if can_tell else EXIT_UNDECIDED)
        found = comparison.compare(before, now, percent / 100)
        if markdown is not None:
            markdown.write_text(comparison.markdown(found, now))
        if picture is not None:
            bench_picture.draw(found, now.robot, percent / 100, picture)
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
        _show_late(now)
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


def _show_late(now: "Measurement") -> None:
    """Print how many moments came late, by cause, and the commonest reason of ours."""
    from collections import Counter

    from inphase.command.screen import screen
    from inphase.gate import late_comparison
    from inphase.runtime.words import late_words

    causes: Counter[str] = Counter()
    for one in now.rounds:
        causes.update(one.late.causes)
    console = screen()
    console.print(f"late moments by cause: {late_words.by_cause(causes) or 'none'}")
    reason = late_comparison.commonest(now)
    if reason:
        console.print(f"- {reason}")


def _show_power(now: "Measurement", limit: float) -> bool:
    """Print how often this gate sees what; False: it can see nothing of times here."""
    from inphase.command.screen import screen, table
    from inphase.gate.comparison import LEAST_ROUNDS
    from inphase.gate.power import RUNS, SHARES, power

    console = screen()
    if not now.is_realtime or len(now.rounds) < LEAST_ROUNDS:
        why = f"under {LEAST_ROUNDS} rounds" if now.is_realtime else "no real-time rights"
        console.print(f"{why}: nothing can be said of times here, and no time would be judged")
        return False
    found = power(now, limit)
    heads = [f"{share:.0%} slower" if share else "the same" for share in SHARES]
    made = table(
        f"Called slower, of {RUNS} runs that are drawn from these rounds (at most {limit:.0%} more "
        f"is allowed)",
        ("figure", "", *heads),
        left=("figure", ""),
    )
    for one in found.seen:
        made.add_row(one.figure, one.quantile, *(str(one.of[share]) for share in SHARES))
    made.add_row("any of them", "", *(str(found.any_slower[share]) for share in SHARES))
    console.print(made)
    return True


def _show_comparison(found: "BaselineComparison") -> None:
    from rich.text import Text

    from inphase.command.screen import screen, table
    from inphase.gate import comparison

    console = screen()
    if found.compared:
        made = table(
            "Against the baseline",
            ("figure", "", "before", "now", "ratio", "99 %", "verdict"),
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
    if found.late:
        made = table(
            "Late moments in 1000 cycles",
            ("cause", "before", "now", "verdict"),
            left=("cause", "verdict"),
        )
        for late in found.late:
            red = {"more": "red", "undecided": "yellow"}.get(late.verdict, "")
            cells = (late.cause, f"{late.before:.3g}", f"{late.now:.3g}")
            made.add_row(*cells, Text(late.verdict, red))
        console.print(made)
    for text in (*found.changes, *found.notes):
        console.print(text)
    more = ": more --runs, or a quieter machine, tell more" if found.is_undecided else ""
    console.print(comparison.verdict(found) + more)


COMMANDS = (bench,)
