"""The schedules that come along: listed, copied out of the package, and run by `inphase demo`.

They lie in the folder `schedules` of the repository, and the wheel has that folder inside the
package.
"""

import importlib.util
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from inphase.errors import EXTRAS, ScheduleError, install_extras

_PACKAGE = Path(__file__).resolve().parents[1]
_WANTS = re.compile(r"'inphase\[([\w,]+)\]'")
_IMPORT = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)


def folder() -> Path:
    """Where they are: in the package, or in a checkout beside it."""
    installed = _PACKAGE / "schedules"
    return installed if installed.is_dir() else _PACKAGE.parent.parent / "schedules"


@dataclass(frozen=True)
class ReadySchedule:
    """One of them, by its file."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @cached_property
    def about(self) -> str:
        """The first sentence of the comment at its head."""
        return self._head.partition(". ")[0].rstrip(".")

    @cached_property
    def extras(self) -> tuple[str, ...]:
        """The extras of inphase that it runs with, as the comment at its head names them."""
        found = _WANTS.search(self._head)
        return tuple(found[1].split(",")) if found else ()

    @cached_property
    def has_world(self) -> bool:
        """True for a robot in a simulated world."""
        return "world" in self._tables

    @cached_property
    def files(self) -> list[Path]:
        """Itself and the files beside it that it runs with, by those that they name in turn."""
        found = [self.path]
        for path in found:  # grows as it is walked
            found += [other for other in _named_by(path) if other not in found]
        return found

    def missing_extras(self) -> list[str]:
        """Those of its extras that are not installed here."""
        absent = {extra for module, extra in EXTRAS.items() if not _is_installed(module)}
        return [extra for extra in self.extras if extra in absent]

    def refuse_missing_extras(self) -> None:
        """Raise ScheduleError with one command that installs all that it wants."""
        if missing := self.missing_extras():
            raise ScheduleError(
                f"schedule {self.name} wants more than is installed: {', '.join(missing)}; "
                f"{install_extras(missing)}"
            )

    def facts(self) -> dict[str, Any]:
        """Its row of the list, for JSON."""
        return {
            "name": self.name,
            "about": self.about,
            "path": str(self.path),
            "files": [file.name for file in self.files],
            "extras": list(self.extras),
            "missing_extras": self.missing_extras(),
        }

    def copy(self, to: Path) -> list[Path]:
        """Copy it and its files into a folder, which is made; the copies.

        Raises ScheduleError, and copies nothing, where one of them exists.
        """
        copies = [to / file.name for file in self.files]
        for copy in copies:
            if copy.exists():
                raise ScheduleError(f"{copy} exists already; give another folder: --output FOLDER")
        try:
            to.mkdir(parents=True, exist_ok=True)
            for file, copy in zip(self.files, copies, strict=True):
                shutil.copyfile(file, copy)
        except OSError as error:
            raise ScheduleError(
                f"{to} cannot be written: {error.strerror}; give another folder: --output FOLDER"
            ) from error
        return copies

    @cached_property
    def _head(self) -> str:
        """The comment before the first key, as one line."""
        head = self.path.read_text().split("\n", 40)
        lines = head[: next(i for i, line in enumerate(head) if not line.startswith("#"))]
        return " ".join(line.removeprefix("#").strip() for line in lines)

    @cached_property
    def _tables(self) -> dict[str, Any]:
        return tomllib.loads(self.path.read_text())


def all_schedules() -> list[ReadySchedule]:
    """All of them, by name."""
    return [ReadySchedule(path) for path in sorted(folder().glob("*.toml"))]


def find(name: str) -> ReadySchedule:
    """The one of this name. Raises ScheduleError with those that there are."""
    known = {one.name: one for one in all_schedules()}
    if name not in known:
        raise ScheduleError(f"no ready schedule {name!r}; there are {', '.join(known)}")
    return known[name]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is None in sys.modules
        return False


def _named_by(path: Path) -> Iterator[Path]:
    """The files beside a file that it names: a schedule in its values, a model in its includes, a
    module in its imports."""
    match path.suffix:
        case ".toml":
            words = set(_strings(tomllib.loads(path.read_text())))
            names = {word.partition(":")[0] for word in words}
        case ".xml":
            names = set(re.findall(r'file="([^"]+)"', path.read_text()))
        case ".py":
            names = {f"{module}.py" for module in _IMPORT.findall(path.read_text())}
        case _:
            names = set()
    for name in sorted(names):
        if Path(name).name == name and (path.parent / name).is_file():
            yield path.parent / name


def _strings(value: Any) -> Iterator[str]:
    """Every string in a table, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
