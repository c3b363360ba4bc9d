"""The command that shows a robot in viewers of other people."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inphase.command.live.following import key_option

if TYPE_CHECKING:
    from inphase.viewing.live_show import Screen


@click.command()
@click.argument("robot", required=False)
@click.option(
    "--rate",
    "rate_hz",
    type=click.FloatRange(min=0.01, max=10_000),
    default=50.0,
    show_default=True,
    help="so many frames per second at most: the newest one counts",
)
@click.option(
    "--to",
    "target",
    default="foxglove",
    show_default=True,
    help="rerun: start Rerun's viewer; or the address of one, rerun+http://HOST:PORT/proxy; or a "
    "new FILE.rrd",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="listen on this address")
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65_535),
    default=8765,
    show_default=True,
    help="listen on this port; 0: any that is free",
)
@click.option(
    "--backlog-mb",
    type=click.FloatRange(min=0, min_open=True),
    default=32.0,
    show_default=True,
    help="keep so much for a viewer that takes nothing; one frame at least",
)
@key_option
@click.option("--stay", is_flag=True, help="wait for the robot, and after its end for its next run")
def view(
    *,
    robot: str | None,
    rate_hz: float,
    target: str,
    host: str,
    port: int,
    backlog_mb: float,
    stay: bool,
    key: Path | None,
) -> None:
    """Show a robot that runs in Foxglove's viewers or Rerun's, until it ends or ^C.

    ROBOT is its name, or an endpoint (ipc://, tcp://); it may be left out if one robot runs here.
    Foxglove's have channels, topics and messages of a recording; --host, --port and --backlog-mb
    are theirs.
    """
    from inphase.errors import ViewError, install
    from inphase.host.store_names import only_robot

    try:
        screen = _screen(target, stay, (host, port, round(backlog_mb * 1e6)))
    except ModuleNotFoundError as error:
        remedy = install(error.name or "")
        raise ViewError(f"this view needs a package that is not there; {remedy}") from error
    _show(robot or only_robot(), screen, rate_hz, stay, key)


def _screen(target: str, stays: bool, server: tuple[str, int, int]) -> "Screen":
    """server: host, port and bytes for a viewer that takes nothing."""
    if target == "foxglove":
        from inphase.viewing.foxglove_server import FoxgloveServer

        return FoxgloveServer(*server, _say)
    is_file = target.endswith(".rrd")
    if not is_file and target != "rerun" and not target.startswith(("rerun://", "rerun+http")):
        raise click.BadParameter(
            f"{target!r} is none of foxglove, rerun, rerun+http://HOST:PORT/proxy and FILE.rrd",
            param_hint="--to",
        )
    if is_file and stays:
        raise click.UsageError("--stay wants a viewer: a file has one run")
    from inphase.viewing.rerun_stream import RerunStream

    return RerunStream(target, _say)


def _show(endpoint: str, screen: "Screen", rate_hz: float, stays: bool, key: Path | None) -> None:
    """Until the robot's end, ^C or SIGTERM, which is an end like any other once a frame was
    shown."""
    from inphase.errors import InphaseError
    from inphase.viewing.live_show import LiveShow

    show = LiveShow(endpoint, screen, _say, rate_hz, stays, key)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 0
    try:
        try:
            show.run()
        except KeyboardInterrupt:
            if not show.shown:
                raise
        finally:
            screen.close()
    except InphaseError as error:
        if not screen.holds_exit:
            raise
        click.echo(f"inphase: {error}", err=True)
        code = error.exit_code
    if screen.holds_exit:
        _say("what was not taken is lost")
        sys.stderr.flush()
        os._exit(code)


def _say(text: str) -> None:
    """For a person, on stderr."""
    click.echo(f"view: {text}", err=True)
