"""The command that converts recordings for other tools."""

import sys
from pathlib import Path

import click

_FORMS = ("lerobot", "parquet", "numpy")


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMS),
    help="of OUT  [default: by its ending, .parquet or .npz]",
)
@click.option("--task", help="LeRobot: what the robot does, in words  [default: the robot's name]")
@click.option(
    "--action",
    type=click.Choice(["applied", "requested"]),
    default="applied",
    show_default=True,
    help="LeRobot: what the robot did, or what the policy asked for",
)
@click.option(
    "--state",
    multiple=True,
    metavar="SENSOR[.FIELD]",
    help="LeRobot: numbers of observation.state, in order; may be repeated  [default: all]",
)
@click.option(
    "--images",
    type=click.Choice(["video", "png", "none"]),
    default="video",
    show_default=True,
    help="LeRobot: H.264, or PNG without loss",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="LeRobot: each so many-th frame",
)
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice(["success", "failure", "ended", "running", "discarded"]),
    help="LeRobot: episodes with this outcome; may be repeated  [default: all but discarded]",
)
@click.option(
    "--complete",
    is_flag=True,
    help="LeRobot: from the first sample of every sensor to the last act of an episode",
)
@click.option(
    "--fill-absent", is_flag=True, help="LeRobot: an absent stamp is the lowest number, not null"
)
def export(
    *,
    files: tuple[Path, ...],
    out: Path,
    form: str | None,
    task: str | None,
    action: str,
    state: tuple[str, ...],
    images: str,
    every: int,
    outcomes: tuple[str, ...],
    complete: bool,
    fill_absent: bool,
) -> None:
    """Convert finished recordings FILES into OUT: a LeRobot dataset, a Parquet file, or NumPy
    columns.

    A row is a frame. FILES of one run that was split, in order, are one recording. Other FILES
    become episodes of one LeRobot dataset. OUT is there once it is
    whole; nothing is overwritten. Exit code 12: something is missing in FILES, or OUT is not made.
    """
    from inphase.recording.packages import require

    require()
    from inphase.command.recorded.reporting import FrameProgress
    from inphase.errors import RecordingError
    from inphase.export.conversion import ENDINGS, LEROBOT, convert
    from inphase.export.lerobot.options import LeRobotOptions

    form = form or ENDINGS.get(out.suffix)
    if form is None:
        raise click.UsageError(f"the form of {out} is not known: give --format")
    options = LeRobotOptions(
        task or "", action, state, images, every, outcomes, complete, fill_absent
    )
    if form != LEROBOT and options != LeRobotOptions(""):
        raise click.UsageError(f"--format {form} takes no option of LeRobot's")
    with FrameProgress() as progress:
        made = convert(files, out, form, options, progress.show)
    for text in made.notes:
        click.echo(f"note: {text}", err=True)
    for text in made.missing:
        click.echo(f"missing: {text}", err=True)
    episodes = f" in {made.episodes} episodes" if form == LEROBOT else ""
    click.echo(f"{out}: {made.rows} rows{episodes}")
    sys.exit(RecordingError.exit_code if made.missing else 0)
