"""A TOML file as text, as raw values and as typed objects, with errors that point into it."""

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from inphase.errors import ScheduleError, ScheduleFault
from inphase.schedule import conversion, toml_position
from inphase.schedule.conversion import Mismatch
from inphase.schedule.table import Table

T = TypeVar("T", bound=Table)
Meaning = Callable[[toml_position.Path], str]
"""The expected value of a key, in words: `"the number of a core"`."""

_SIZE_MAX = 1_000_000  # bytes; a schedule is a page or two


@dataclass(frozen=True)
class Document:
    """One TOML file that was read."""

    path: Path
    text: str
    raw: dict[str, Any]

    def convert(
        self, data: dict[str, Any], kind: type[T], meaning: Meaning
    ) -> tuple[T, list[ScheduleFault]]:
        """Convert `data` (this file's values, perhaps regrouped) to a table, with every fault.

        Where there is one, only those keys of the table are known that are good.
        """
        made, mismatches = conversion.convert(data, kind)
        assert isinstance(made, kind)
        return made, [self._explain(mismatch, meaning) for mismatch in mismatches]

    def fault(self, key: toml_position.Path, message: str) -> ScheduleFault:
        """A fault of this file, with its line and key."""
        return fault_at(self.path, self.text, key, message)

    def _explain(self, mismatch: Mismatch, meaning: Meaning) -> ScheduleFault:
        return self.fault(*explain(mismatch, self.raw, meaning))


def explain(
    mismatch: Mismatch, data: dict[str, Any], meaning: Meaning, at: toml_position.Path = ()
) -> tuple[toml_position.Path, str]:
    """The key of a mismatch, and msgspec's message turned into one that says what to do.

    data: the values that do not fit. at: their place in the file.
    """
    what, key = mismatch.what, (*at, *mismatch.path)
    table = f"[{toml_position.format_path(key)}]" if key else "the schedule"
    missing = re.fullmatch(r"Object missing required field `(.*)`", what)
    if missing:
        name = missing[1]
        reason = "no limits, no motion: " if "limits" in (name, *key) else ""
        return (*key, name), (
            f"{reason}the key {name} is missing from {table}; add {name} = {meaning((*key, name))}"
        )
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL)
    if unknown:
        name = unknown[1]
        value = show(value_at(data, (*mismatch.path, name)))
        return (*key, name), (
            f"unknown key {name} in {table}, with the value {value}; "
            f"remove it, or use one of {', '.join(sorted(mismatch.keys))}"
        )
    if not what.startswith(("Expected", "Invalid")):
        return key, f"{what}; correct the key"  # in the words of a driver's own check
    return key, f"{_plain(what)}, got {show(value_at(data, mismatch.path))}; give {meaning(key)}"


def read(path: Path) -> Document:
    """Read a TOML file of at most 1 MB. Raises ScheduleError with line and column."""
    text = _read_text(path)
    try:
        return Document(path, text, tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        found = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        line, column = (int(found[1]), int(found[2])) if found else _line_column(text)
        what = re.sub(r" \(at [^()]*\)$", "", str(error))
        raise ScheduleError(
            f"{path}:{line}:{column}: schedule: not valid TOML: {what}; correct it here"
        ) from error


def fault_at(path: Path, text: str, key: toml_position.Path, message: str) -> ScheduleFault:
    """A fault at the line of `key` in `text`; a missing key is placed at its table."""
    where = toml_position.format_path(key) or "schedule"
    return ScheduleFault(message, str(path), toml_position.line_of(text, key), where)


def show(value: object) -> str:
    """A value as short as an error line can take it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def value_at(data: Any, path: toml_position.Path) -> Any:
    """The raw value at a path that exists."""
    for step in path:
        data = data[step]
    return data


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise ScheduleError(
            f"{path}: schedule: cannot be read: {error.strerror}; check the path"
        ) from error
    if len(data) > _SIZE_MAX:
        raise ScheduleError(
            f"{path}: schedule: is larger than {_SIZE_MAX} bytes; give a schedule's TOML file"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line, column = _line_column(data[: error.start].decode())
        raise ScheduleError(
            f"{path}:{line}:{column}: schedule: byte 0x{data[error.start]:02x} is not UTF-8; "
            f"save the file as UTF-8"
        ) from error


def _line_column(before: str) -> tuple[int, int]:
    """Line and column (from 1) of the place after a text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _plain(what: str) -> str:
    """msgspec's words for a value of the wrong kind, in TOML's words and without the value."""
    if what.startswith("Invalid enum value"):
        return "not one of the values that this key takes"
    if "matching regex" in what:
        return "not in the form that this key takes"
    what = re.sub(r"( \| null)?`, got `[^`]*`$", "`", what)
    what = what.replace("object", "table").replace("array", "list")
    return what[:1].lower() + what[1:]


def toml_value(value: Any) -> str:
    """A value as TOML writes it: numbers, texts, truth values, lists and tables of such."""
    if isinstance(value, dict):
        items = (f"{json.dumps(key)} = {toml_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(items) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return json.dumps(value)


def toml_table(name: tuple[str, ...], values: dict[str, Any]) -> str:
    """A table as TOML writes it; keys that are None are left out."""
    lines = [
        f"{json.dumps(key)} = {toml_value(value)}"
        for key, value in values.items()
        if value is not None
    ]
    return "\n".join(["", f"[{'.'.join(map(json.dumps, name))}]", *lines, ""])
