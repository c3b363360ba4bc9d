"""The command that checks an audit log."""

import sys
from pathlib import Path

import click

from inphase.host.standard_streams import print_json


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--has",
    "wanted",
    metavar="HASH",
    help="is the line with this hash there? Note the last one elsewhere, and ask later",
)
@click.option("-n", "last", type=click.IntRange(min=0), default=0, help="print the last lines")
@click.option("--json", "as_json", is_flag=True, help="the verdict as JSON on stdout")
def audit(*, folder: Path | None, wanted: str | None, last: int, as_json: bool) -> None:
    """Check the audit log of a service, in its FOLDER: does each line fit the one before?

    FOLDER is that of `inphase serve --folder`, by default ~/.local/state/inphase. Exit code 16: a
    line does not fit, and the first such line is named; or HASH is not there.
    """
    from inphase.access.audit import verdict
    from inphase.host.state_folder import default_state_folder

    found = verdict.of(folder or default_state_folder(), wanted, last)
    if as_json:
        print_json(found.facts())
    else:
        click.echo("\n".join(found.lines()))
    sys.exit(found.exit_code)
