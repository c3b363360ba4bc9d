"""The commands that follow a robot while it runs."""

from pathlib import Path
from typing import Any

import click

key_option = click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="your client file (inphase keys create), for a gateway that asks for keys",
)

_MARKS = {
    "start": "running",
    "end": "ended",
    "success": "success",
    "failure": "failure",
    "discard": "discarded",
}


@click.command()
@click.argument("endpoint", required=False)
@click.option("--json", "json_lines", is_flag=True, help="one JSON object per frame")
@click.option("-n", "count", type=click.IntRange(min=1), help="end after so many frames")
@click.option("--sensor", help="this sensor only")
@click.option(
    "--transport",
    type=click.Choice(["auto", "store", "zmq"]),
    default="auto",
    show_default=True,
    help="shared memory of this host, or ZeroMQ",
)
@key_option
def echo(
    *,
    endpoint: str | None,
    json_lines: bool,
    count: int | None,
    sensor: str | None,
    transport: Any,
    key: Path | None,
) -> None:
    """Print frames as they arrive, from a robot's name or an endpoint (ipc://, tcp://)."""
    from inphase.command.live import echo as echoing

    echoing.echo(endpoint, json_lines, count, sensor, transport, key=key)


@click.command()
@click.argument("robot", required=False)
@click.option(
    "--transport",
    type=click.Choice(["auto", "store", "zmq"]),
    default="auto",
    show_default=True,
    help="shared memory of this host, or ZeroMQ",
)
@key_option
def top(*, robot: str | None, transport: Any, key: Path | None) -> None:
    """Show the live table of `run` for a robot that runs already, until it ends or ^C.

    ROBOT is its name, or an endpoint (ipc://, tcp://); it may be left out if one robot runs here.
    If stderr is no terminal there is a line every few seconds. Over ZeroMQ the counts are of the
    frames that came.
    """
    from inphase.command.live.top import top as show
    from inphase.host.store_names import only_robot

    show(robot or only_robot(), transport, key)


@click.command()
@click.argument("robot")
@click.argument("mark", type=click.Choice([*_MARKS]))
@key_option
def episode(*, robot: str, mark: str, key: Path | None) -> None:
    """Mark an episode of ROBOT, which runs: its start, or how it ended.

    ROBOT is its name, or an endpoint (ipc://, tcp://). Each frame tells its episode, and so do
    recordings. An outcome may be thought over until the next start. It prints the number, the
    outcome, and the cycle of the first frame that tells it.
    """
    from inphase.errors import StoreError
    from inphase.frames.control import mark_episode

    try:
        number, cycle = mark_episode(robot, _MARKS[mark], key=key)
    except ValueError as error:
        raise StoreError(f"{robot}: {error}") from error
    click.echo(f"episode {number} {_MARKS[mark]} at cycle {cycle}")
