"""The terminal on which a command prints its tables."""

from typing import IO

from rich.console import Console


def screen(file: IO[str] | None = None, *, stderr: bool = False) -> Console:
    """A console that prints text as it stands.

    Rich would take the unit in `late [us]` for markup, and drop it. A style is a Text's.
    file: None is stdout, or stderr if that is asked for.
    """
    return Console(file=file, stderr=stderr, markup=False, emoji=False)
