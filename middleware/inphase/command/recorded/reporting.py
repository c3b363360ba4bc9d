"""The command that explains a recorded run."""

import sys
from pathlib import Path
from typing import Self

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="the page  [default: FILE with .report.html as its ending]",
)
@click.option(
    "--png",
    "folder",
    type=click.Path(path_type=Path),
    help="a folder: each picture as a PNG too; it is made if it is not there",
)
def report(*, file: Path, output: Path | None, folder: Path | None) -> None:
    """Explain the run that is recorded in FILE: a page that opens in any browser, without network.

    It begins with the verdict and with what is missing in FILE. Then come the worst cycles with
    their cause, a picture of single cycles, and distributions, statuses and commands. A report that
    is there is replaced, any other file is not. Exit code 12: something is missing in FILE.
    """
    from inphase.command.report.making import report as make
    from inphase.errors import RecordingError

    page = output or file.with_suffix(".report.html")
    with FrameProgress() as progress:
        made = make(file, page, folder, progress.show)
    for text in made.verdict:
        click.echo(text)
    for text in made.losses:
        click.echo(f"missing: {text}", err=True)
    for path in made.files:
        click.echo(path)
    sys.exit(RecordingError.exit_code if made.losses else 0)


class FrameProgress:
    """How much is done, on stderr: a bar on a terminal, elsewhere a line each tenth.

    what: of what, as `frames`.
    """

    def __init__(self, what: str = "frames") -> None:
        from rich.progress import Progress

        from inphase.command.screen import screen

        console = screen(stderr=True)
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(what, total=None)
        self._what = what
        self._is_terminal = console.is_terminal
        self._tenths = 0

    def show(self, done: int, total: int) -> None:
        """So many of so many."""
        self._bar.update(self._task, completed=done, total=total)
        if not self._is_terminal and total and done * 10 // total > self._tenths:
            self._tenths = done * 10 // total
            click.echo(f"{done} of {total} {self._what}", err=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
