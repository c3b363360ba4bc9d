"""A TOML file as text, as raw values and as typed objects, with errors that point into it."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from inphase.errors import ScheduleError
from inphase.schedule import toml_position

T = TypeVar("T")
Meaning = Callable[[toml_position.Path], str]
"""The expected value of a key, in words: `"the number of a core"`."""

_SIZE_MAX = 1_000_000  # bytes; a schedule is a page or two


@dataclass(frozen=True)
class Document:
    """One TOML file that was read."""

    path: Path
    text: str
    raw: dict[str, Any]

    def convert(self, data: dict[str, Any], kind: type[T], meaning: Meaning) -> T:
        """Convert `data` (this file's values, perhaps regrouped) to a msgspec Struct.

        Raises ScheduleError at the first key that does not fit.
        """
        try:
            return msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$")
            key = _find_key(data, kind, what, where.removesuffix("`"))
            raise self._explain(what, key, kind, meaning) from error

    def error(self, key: toml_position.Path, message: str) -> ScheduleError:
        """Build (do not raise) an error that names file, line and key."""
        return error_at(self.path, self.text, key, message)

    def _explain(
        self, what: str, key: toml_position.Path, kind: Any, meaning: Meaning
    ) -> ScheduleError:
        """Turn one of msgspec's three kinds of message into one that says what to do."""
        table = f"[{toml_position.format_path(key)}]" if key else "the schedule"
        missing = re.fullmatch(r"Object missing required field `(.*)`", what)
        if missing:
            name = missing[1]
            reason = "no limits, no motion: " if "limits" in (name, *key) else ""
            return self.error(
                (*key, name),
                f"{reason}the key {name} is missing from {table}; "
                f"add {name} = {meaning((*key, name))}",
            )
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what)
        if unknown:
            name = unknown[1]
            value = show(value_at(self.raw, (*key, name)))
            return self.error(
                (*key, name),
                f"unknown key {name} in {table}, with the value {value}; "
                f"remove it, or use one of {', '.join(sorted(_known_keys(kind, key)))}",
            )
        value = show(value_at(self.raw, key))
        return self.error(key, f"{_plain(what)}, got {value}; give {meaning(key)}")


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


def error_at(path: Path, text: str, key: toml_position.Path, message: str) -> ScheduleError:
    """Build an error at the line of `key` in `text`; a missing key is placed at its table."""
    where = toml_position.format_path(key) or "schedule"
    return ScheduleError(f"{path}:{toml_position.line_of(text, key)}: {where}: {message}")


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
    what = re.sub(r"( \| null)?`, got `[^`]*`$", "`", what)
    what = what.replace("object", "table").replace("array", "list")
    return what[:1].lower() + what[1:]


def _find_key(data: dict[str, Any], kind: Any, what: str, where: str) -> toml_position.Path:
    """The path in msgspec's message, which writes `[...]` for a key of a table: try each."""
    steps: list[str | int] = []
    told = f"{what} - at `${where}`" if where else what
    for step in re.findall(r"\[\.\.\.\]|\[\d+\]|[^.\[\]]+", where):
        if step == "[...]":
            key = _guilty_key(data, kind, tuple(steps), told)
            data = _with_only(data, tuple(steps), key)  # a like mistake elsewhere is another one
            steps.append(key)
        elif step.startswith("["):
            steps.append(int(step[1:-1]))
        else:
            steps.append(step)
    return tuple(steps)


def _guilty_key(data: dict[str, Any], kind: Any, table: toml_position.Path, told: str) -> str:
    """The first key of a table for which, alone in it, msgspec says the same."""
    keys: list[str] = list(value_at(data, table))
    for key in keys:
        try:
            msgspec.convert(_with_only(data, table, key), kind)
        except msgspec.ValidationError as error:
            if str(error) == told:
                return key
    return keys[0]


def _with_only(data: Any, table: toml_position.Path, key: str) -> Any:
    """A copy of the data in which the table at a path has one key left."""
    if not table:
        return {key: data[key]}
    step, inner = table[0], _with_only(data[table[0]], table[1:], key)
    if isinstance(data, list):
        return [inner if index == step else item for index, item in enumerate(data)]
    return {**data, step: inner}


def _known_keys(kind: Any, key: toml_position.Path) -> list[str]:
    """The keys that the Struct at a path takes."""
    schema, definitions = msgspec.json.schema_components([kind])
    node: dict[str, Any] = schema[0]
    for step in key:
        node = _table_schema(node, definitions)
        node = node.get("properties", {}).get(step) or node.get("additionalProperties", {})
    return list(_table_schema(node, definitions).get("properties", {}))


def _table_schema(node: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a table itself, behind a reference or an `or null`."""
    for choice in node.get("anyOf", [node]):
        if "$ref" in choice:
            found: dict[str, Any] = definitions[choice["$ref"].rpartition("/")[2]]
            return found
    return node


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
