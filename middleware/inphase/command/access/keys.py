"""The command that makes, lists and revokes the keys of a service's users."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inphase.host.standard_streams import print_json

if TYPE_CHECKING:
    from inphase.access.keys import KeyFolder

_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="the service's private folder  [default: ~/.config/inphase/service]",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of those who may use a robot from elsewhere.

    A service that runs follows at once: a new key gets in, and the next message of a revoked one is
    refused.
    """


def opened(folder: Path | None) -> "KeyFolder":
    """The folder of a service; None: the default one. Raises AccessError."""
    from inphase.access.keys import KeyFolder, default_folder

    return KeyFolder(folder or default_folder())


@keys.command()
@click.argument("name")
@click.option(
    "--may",
    type=click.Choice(["watch", "drive"]),
    default="watch",
    show_default=True,
    help="watch: see everything; drive: also hold the lease, and move the robot",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="the new client file  [default: NAME.key.toml]",
)
@_folder
def create(*, name: str, may: Any, output: Path | None, folder: Path | None) -> None:
    """Make a key for the user NAME: a client file, which NAME takes home and keeps private."""
    made = output or Path(f"{name}.key.toml")
    opened(folder).create(name, may, made)
    click.echo(f"{made}: give it to {name} alone, by a private way; {name} may {may}")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
@_folder
def list_keys(*, as_json: bool, folder: Path | None) -> None:
    """List the keys that may come, and those that were revoked."""
    kept, gone = opened(folder).listed()
    rows = [
        {
            "name": key.name,
            "may": key.may,
            "public": key.public,
            "created": key.created.isoformat(),
            "revoked": None,
        }
        for key in kept
    ] + [
        {
            "name": key.name,
            "may": key.may,
            "public": key.public,
            "created": key.created.isoformat(),
            "revoked": key.revoked.isoformat(),
        }
        for key in gone
    ]
    if as_json:
        print_json(rows)
        return
    from inphase.command.screen import screen, table

    made = table(f"keys: {len(kept)}, revoked: {len(gone)}", ("name", "may", "created", "revoked"))
    for row in rows:
        made.add_row(*(row[column] or "" for column in ("name", "may", "created", "revoked")))
    screen().print(made)


@keys.command()
@click.argument("name")
@_folder
def revoke(*, name: str, folder: Path | None) -> None:
    """Let the key of NAME in no more. A service that runs refuses its next message."""
    gone = opened(folder).revoke(name)
    click.echo(f"revoked: {gone.name}, made {gone.created:%Y-%m-%d}")
