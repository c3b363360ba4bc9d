"""The command that makes, lists and revokes the keys of a service's users."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inphase.host.standard_streams import print_json

if TYPE_CHECKING:
    from inphase.access.browsers import PageAddress
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
@click.option("--robot", help="the robot whose page it leads to  [default: the first]")
@click.option("--host", help="the page's host in the link  [default: the likeliest address]")
@_folder
def link(*, name: str, robot: str | None, host: str | None, folder: Path | None) -> None:
    """Print a link that signs a browser of NAME in at a robot's web page: once, within ten minutes.

    A phone takes it from the screen, as a picture.
    """
    from inphase.access.browsers import LINK_S, Browsers
    from inphase.command.access.sign_in_link import picture, url_of

    browsers = Browsers(opened(folder).folder)
    page = _page(browsers.pages(), robot)
    url = url_of(page.addresses[0], host, browsers.link(name))
    click.echo(picture(url))
    click.echo(f"{url}\n")
    click.echo(f"It signs one browser in as {name}, within {LINK_S // 60} minutes.")
    click.echo(f"The page's certificate has the SHA-256 {page.fingerprint}")


def _page(pages: "list[PageAddress]", robot: str | None) -> "PageAddress":
    from inphase.errors import AccessError

    for one in pages:
        if robot in (None, one.robot):
            return one
    names = ", ".join(one.robot for one in pages)
    raise AccessError(
        f"no page of the robot {robot!r} was started with these keys; there are: {names}"
        if names
        else "no page was started with these keys: inphase serve SCHEDULE --page 0.0.0.0:8470"
    )


@keys.command("sign-out")
@click.argument("name")
@_folder
def sign_out(*, name: str, folder: Path | None) -> None:
    """End all sessions of NAME at web pages. The key stays."""
    from inphase.access.browsers import Browsers

    count = Browsers(opened(folder).folder).sign_out(name)
    click.echo(f"signed out: {name}, {count} sessions")


@keys.command()
@click.argument("name")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=365, show_default=True)
@_folder
def scraper(*, name: str, days: float, folder: Path | None) -> None:
    """Print a word by which a program reads /metrics of web pages as NAME: Prometheus's
    `authorization: credentials`. It is a session, and opens the pages, too."""
    from inphase.access.browsers import Browsers

    click.echo(Browsers(opened(folder).folder).session(name, days * 86_400))


@keys.command()
@click.argument("name")
@_folder
def revoke(*, name: str, folder: Path | None) -> None:
    """Let the key of NAME in no more. A service that runs refuses its next message."""
    gone = opened(folder).revoke(name)
    click.echo(f"revoked: {gone.name}, made {gone.created:%Y-%m-%d}")
