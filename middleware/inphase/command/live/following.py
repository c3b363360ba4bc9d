"""The commands that follow a robot while it runs."""

from typing import Any

import click


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
def echo(
    *, endpoint: str | None, json_lines: bool, count: int | None, sensor: str | None, transport: Any
) -> None:
    """Print frames as they arrive, from a robot's name or an endpoint (ipc://, tcp://)."""
    from inphase.command.live import echo as echoing

    echoing.echo(endpoint, json_lines, count, sensor, transport)
