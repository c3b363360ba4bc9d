"""The commands that write and read recordings."""

import sys
from pathlib import Path

import click

_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("robot")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seconds", type=_SECONDS, help="stop after so long")
@click.option("--split-mb", type=click.IntRange(min=1), help="go on in another file from this size")
@click.option("--split-seconds", type=_SECONDS, help="go on in another file after so long")
@click.option(
    "--around",
    type=_SECONDS,
    help="write only so many seconds before and after an emergency stop, a latch or SIGUSR1",
)
@click.option("--by-episode", is_flag=True, help="write only episodes, each into its own file")
def record(
    *,
    robot: str,
    file: Path,
    seconds: float | None,
    split_mb: int | None,
    split_seconds: float | None,
    around: float | None,
    by_episode: bool,
) -> None:
    """Record a robot that runs into FILE, an MCAP, until it ends or ^C.

    ROBOT is its name, or an endpoint (ipc://, tcp://). `inphase run --record` misses no frame of a
    run's start. Further files have .2, .3 and so on before the ending.
    """
    from inphase.recording.recorder_process import refuse

    if by_episode and around is not None:
        raise click.UsageError("give --by-episode or --around, not both")
    refuse(file)
    from inphase.recording.recorder import record_robot
    from inphase.recording.recording_files import RecorderOptions

    options = RecorderOptions(
        split_bytes=None if split_mb is None else split_mb * 1_000_000,
        split_ns=None if split_seconds is None else round(split_seconds * 1e9),
        around_ns=None if around is None else round(around * 1e9),
        by_episode=by_episode,
    )
    sys.exit(record_robot(robot, file, seconds, options))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="the new file  [default: FILE with .recovered before its ending]",
)
def recover(*, file: Path, output: Path | None) -> None:
    """Make a recording whole that was cut: what can be read of FILE, in a new file.

    FILE stays as it is. The new file says INCOMPLETE, and what is not in it.
    """
    from inphase.recording.recorder_process import refuse

    made = output or file.with_name(f"{file.stem}.recovered{file.suffix}")
    refuse(made)
    from inphase.recording import recovery

    result = recovery.recover(file, made)
    if result is None:
        click.echo(f"{file} is whole: there is nothing to recover")
        return
    for topic, count in result.messages.items():
        click.echo(f"{topic}: {count} messages")
    for text in result.lost:
        click.echo(f"lost: {text}", err=True)
    click.echo(result.path)
