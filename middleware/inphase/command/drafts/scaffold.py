"""New files to start from: `inphase new driver NAME` copies the template and puts the name in.

The template, `templates/driver`, is itself a working driver called example.
"""

import importlib.util
import keyword
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from inphase.errors import ScheduleError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def class_name(name: str) -> str:
    """`range_finder` as a class is called: RangeFinder."""
    return "".join(part.capitalize() for part in name.split("_"))


def check_module_name(name: str, what: str, folder: Path) -> None:
    """Raise ScheduleError for a name that cannot be one of a new Python module in a folder."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or not class_name(name):
        raise ScheduleError(
            f"{name!r} is no name for a {what}; give a lower-case letter, then letters, digits and "
            f"_, at most 31 in all"
        )
    if not (folder / f"{name}.py").exists() and importlib.util.find_spec(name) is not None:
        raise ScheduleError(f"{name!r} is the name of a Python module already; give another")


def write_new(files: Mapping[Path, str]) -> list[Path]:
    """Write files that do not exist yet. Raises ScheduleError, and writes none, where one does."""
    for path in files:
        if path.exists():
            raise ScheduleError(f"{path} exists already; give another name, or remove it")
    for path, text in files.items():
        try:
            path.write_text(text)
        except OSError as error:
            raise ScheduleError(
                f"{path} cannot be written: {error.strerror}; name a folder that is yours"
            ) from error
    return list(files)


def new_driver(name: str, folder: Path) -> Path:
    """Write the package of a driver into `folder / name`, which must not exist; its path.

    Raises ScheduleError for a name that cannot be one.
    """
    check_module_name(name, "driver", folder)
    made = make_folder(folder / name)
    for template in sorted(
        resources.files("inphase.command").joinpath("templates/driver").iterdir(), key=str
    ):
        if template.is_file():
            text = template.read_text()
            text = text.replace("Example", class_name(name)).replace("example", name)
            text = aligned(text) if template.name.endswith(".md") else text
            (made / template.name.replace("example", name)).write_text(text)
    return made


def make_folder(path: Path) -> Path:
    """Make a folder. Raises ScheduleError where it exists."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise ScheduleError(f"{path} exists already; give another name, or remove it") from None
    return path


def aligned(page: str) -> str:
    """A page with the comments behind its commands in one column."""
    lines = [line.split(" # ", 1) for line in page.split("\n")]
    column = max(len(parts[0].rstrip()) for parts in lines if len(parts) == 2)
    return "\n".join(
        " # ".join([parts[0].rstrip().ljust(column), *parts[1:]]).rstrip() for parts in lines
    )
