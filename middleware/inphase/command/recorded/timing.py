"""The commands that ask a recording for its timing."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def fit(*, file: Path) -> None:
    """Turn the timing of a recorded run into a timing model, in TOML on stdout.

    Put the output into a file, and name that in the schedule: [timing] file = "robot.toml". The
    simulation then draws latencies, drop-outs, drift and inference times as FILE has them.
    """
    from inphase.command.recorded.reporting import FrameProgress
    from inphase.timing import fitting

    with FrameProgress() as progress:
        text = fitting.of_recording(file, progress.show)
    click.echo(text)
