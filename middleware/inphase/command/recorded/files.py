"""The commands that write and read recordings."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inphase.command.live.following import key_option
from inphase.command.recorded.file_options import file_options

if TYPE_CHECKING:
    from inphase.recording.recorder_process import RecorderOptions

_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("robot")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seconds", type=_SECONDS, help="stop after so long")
@key_option
@file_options
def record(
    *,
    robot: str,
    file: Path,
    seconds: float | None,
    key: Path | None,
    recorder: "RecorderOptions",
) -> None:
    """Record a robot that runs into FILE, an MCAP, until it ends or ^C.

    ROBOT is its name, or an endpoint (ipc://, tcp://). `inphase run --record` misses no frame of a
    run's start. Further files have .2, .3 and so on before the ending.
    """
    from inphase.recording.recorder_process import refuse

    refuse(file)
    from inphase.recording.recorder import record_robot

    sys.exit(record_robot(robot, file, seconds, recorder, key))


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
