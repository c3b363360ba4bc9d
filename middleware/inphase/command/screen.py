"""The terminal on which a command prints its tables."""

from collections.abc import Iterable
from typing import IO

from rich.console import Console
from rich.table import Table


def screen(file: IO[str] | None = None, *, stderr: bool = False) -> Console:
    """A console that prints text as it stands.

    Rich would take the unit in `late [us]` for markup, and drop it. A style is a Text's.
    file: None is stdout, or stderr if that is asked for.
    """
    return Console(file=file, stderr=stderr, markup=False, emoji=False)


def table(
    title: str, columns: Iterable[str], *, left: Iterable[str] | None = None, is_tight: bool = False
) -> Table:
    """A table whose words are folded where the terminal is narrow: nothing is cut.

    left: the columns of words; None: all are. is_tight: no spaces beside the lines.
    """
    made = Table(title=title, title_justify="left", padding=(0, 0 if is_tight else 1))
    words = None if left is None else set(left)
    for column in columns:
        is_left = words is None or column in words
        made.add_column(column, justify="left" if is_left else "right", overflow="fold")
    return made
