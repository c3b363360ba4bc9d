"""A new driver to start from: `inphase new driver NAME` copies the template and puts the name in.

The template, `templates/driver`, is itself a working driver called example.
"""

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path

from inphase.errors import ScheduleError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def class_name(name: str) -> str:
    """`range_finder` as a class is called: RangeFinder."""
    return "".join(part.capitalize() for part in name.split("_"))


def new_driver(name: str, folder: Path) -> Path:
    """Write the package of a driver into `folder / name`, which must not exist; its path.

    Raises ScheduleError for a name that cannot be one.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or not class_name(name):
        raise ScheduleError(
            f"{name!r} is no name for a driver; give a lower-case letter, then letters, digits and "
            f"_, at most 31 in all"
        )
    if importlib.util.find_spec(name) is not None:
        raise ScheduleError(f"{name!r} is the name of a Python module already; give another")
    made = folder / name
    try:
        made.mkdir(parents=True)
    except FileExistsError:
        raise ScheduleError(f"{made} exists already; give another name, or remove it") from None
    for template in sorted(
        resources.files("inphase.command").joinpath("templates/driver").iterdir(), key=str
    ):
        if template.is_file():
            text = template.read_text()
            text = text.replace("Example", class_name(name)).replace("example", name)
            (made / template.name.replace("example", name)).write_text(text)
    return made
