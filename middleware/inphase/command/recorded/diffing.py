"""`inphase diff`: in what two recordings differ."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inphase.timing.contents import Contents
    from inphase.timing.differences import Differences, TimingDifference

DIFFER = 13


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def diff(*, first: Path, second: Path, as_json: bool) -> None:
    """Tell in what two recordings differ: schedule, timing and content.

    Frames are compared by their cycle, and their stamps from the start of the grid on. Exit code 0:
    schedule and content are equal, bit for bit. 13: they differ.
    """
    from inphase.command.recorded.reporting import FrameProgress
    from inphase.timing.differences import find

    with FrameProgress() as progress:
        found = find(first, second, progress.show)
    if as_json:
        print(json.dumps(_as_values(found)))
    else:
        show(found)
    sys.exit(0 if found.are_equal else DIFFER)


def _as_values(found: "Differences") -> dict[str, Any]:
    content = vars(found.content) | {
        "same": found.content.is_same,
        "differ": [one.facts() for one in found.content.differ.values()],
    }
    return {
        "equal": found.are_equal,
        "recordings": found.paths,
        "facts": [one._asdict() for one in found.facts],
        "schedule": {
            "same": found.is_same_schedule,
            "differ": [one._asdict() for one in found.schedule],
        },
        "timing": [one.facts() for one in found.timing],
        "content": content,
    }


def show(found: "Differences") -> None:
    """Print it."""
    from inphase.command.screen import screen, table

    console = screen()
    console.print(f"1: {found.paths[0]}\n2: {found.paths[1]}")
    for title, rows in (("the files", found.facts), ("schedule", found.schedule)):
        if rows:
            made = table(title, ("key", "1", "2"))
            for row in rows:
                made.add_row(*row)
            console.print(made)
    console.print(f"schedule: {_of_schedule(found)}")
    if found.timing:
        console.print(_timing_table(found.timing))
    content = found.content
    if content.differ:
        names = ("field", "cycles", "first cycle", "1", "2", "differ by at most")
        made = table("content", names, left=("field", "1", "2"), is_tight=True)
        for one in content.differ.values():
            largest = "" if one.largest is None else f"{one.largest:.6g} {one.unit}".strip()
            field = one.field.removeprefix("sensors.").removeprefix("actuators.")
            made.add_row(field, str(one.cycles), str(one.first), *one.values, largest)
        console.print(made)
    for text in _of_content(content):
        console.print(f"content: {text}")


def _of_schedule(found: "Differences") -> str:
    if found.is_same_schedule:
        return "equal"
    if not found.schedule:
        return "they differ in comments or spaces alone"
    return f"{len(found.schedule)} keys differ"


def _of_content(content: "Contents") -> Iterator[str]:
    for place, other in ((0, 1), (1, 0)):
        if content.only[place]:
            first = content.first_only[place]
            yield (
                f"{content.only[place]} frames are in {place + 1} alone, the first of cycle {first}"
            )
        if content.lost[place]:
            yield f"{content.lost[place]} samples are in {other + 1} alone"
    if content.is_same:
        yield f"equal, bit for bit: {content.both} frames and {content.samples} samples"
    else:
        yield (
            f"both have {content.both} cycles and {content.samples} samples; "
            f"{len(content.differ)} fields differ"
        )


def _timing_table(rows: "list[TimingDifference]") -> Any:
    from rich.text import Text

    from inphase.command.screen import table

    shares = ("p50", "p99", "max")
    columns = [f"{share} {place}" for share in shares for place in (1, 2)]
    made = table(
        "timing [us]; KS: the distance of the two distributions",
        ("", "time", *columns, "KS"),
        left=("", "time"),
        is_tight=True,
    )
    for row in rows:
        mark = Text("other", "red") if row.is_other else Text("same", "green")
        numbers = [
            "-" if one is None else f"{one[share] / 1000:.1f}"
            for share in shares
            for one in row.quantiles
        ]
        apart = "-" if row.distance is None else f"{row.distance:.3f}"
        made.add_row(mark, row.name, *numbers, apart)
    return made
