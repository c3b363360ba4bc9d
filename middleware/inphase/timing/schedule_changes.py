"""The keys in which two schedules differ."""

import tomllib
from typing import Any, NamedTuple

from inphase.schedule.document import show

_ABSENT = "not there"


class Change(NamedTuple):
    """One key."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} and {self.after}"


def changes(before: str, after: str) -> list[Change]:
    """The keys whose values differ, in the order of the first text. Comments are none.

    A text that is not TOML counts as empty.
    """
    one, other = _flat(before), _flat(after)
    return [
        Change(key, _shown(one, key), _shown(other, key))
        for key in dict.fromkeys([*one, *other])
        if key not in one or key not in other or one[key] != other[key]
    ]


def _flat(text: str) -> dict[str, Any]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
    found: dict[str, Any] = {}

    def walk(table: dict[str, Any], prefix: str) -> None:
        for key, value in table.items():
            if isinstance(value, dict) and value:
                walk(value, f"{prefix}{key}.")
            else:
                found[prefix + key] = value

    walk(raw, "")
    return found


def _shown(values: dict[str, Any], key: str) -> str:
    return show(values[key]) if key in values else _ABSENT
