"""Raw values of a file to typed tables, with every value that does not fit.

msgspec converts. A value that does not fit as a whole is converted part by part, so that a fault in
one part hides no other.
"""

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct, UnsetType

from inphase.schedule.table import Incomplete, Table, with_known
from inphase.schedule.toml_position import Path

T = TypeVar("T")


class Mismatch(NamedTuple):
    """One value that does not fit, in msgspec's words."""

    path: Path
    """of the value; of the table, for a key that is missing or unknown"""
    what: str
    keys: tuple[str, ...] = ()
    """those that the table takes, for an unknown one"""


def convert(value: Any, kind: type[T]) -> tuple[T | UnsetType, list[Mismatch]]:
    """A value as `kind`, and every mismatch.

    Where there is a mismatch, a Table has only its known keys, and any other kind is UNSET. In a
    table with an unknown key no left-out key is known: the unknown one may stand for it.
    """
    try:
        return msgspec.convert(value, kind), []
    except msgspec.ValidationError:
        parts = _Parts([], set())
        return parts.convert(value, kind, ()), parts.found


class _Parts(NamedTuple):
    """A value that does not fit as a whole, part by part."""

    found: list[Mismatch]
    unsure: set[Path]
    """tables that have no key of their own, beside an unknown key: their header may be misspelt"""

    def convert(self, value: Any, hint: Any, path: Path) -> Any:
        """The value, its known part, or UNSET."""
        if path in self.unsure:
            return self._convert_parts(value, hint, path)
        try:
            return msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            before = len(self.found)
            known = self._convert_parts(value, hint, path)
            if len(self.found) == before:  # each part fits, and the whole does not
                what, _, where = str(error).partition(" - at `$")
                self.found.append(Mismatch((*path, *_steps(where.removesuffix("`"))), what))
            return known

    def _convert_parts(self, value: Any, hint: Any, path: Path) -> Any:
        kinds = [kind for kind in _choices(hint) if _is_alike(value, kind)]
        if len(kinds) != 1:
            return UNSET
        (kind,) = kinds
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._convert_table(value, kind, path)
        inner = get_args(kind)
        if isinstance(value, list):
            each = (
                inner if get_origin(kind) is tuple and ... not in inner else inner[:1] * len(value)
            )
            before = len(self.found)
            for index, (item, hint_of_item) in enumerate(zip(value, each, strict=False)):
                self.convert(item, hint_of_item, (*path, index))
                if len(self.found) > before:
                    break  # of a list, one element is enough
            return UNSET
        items = {}
        for key, item in value.items():
            self._doubt(item, (*path, key), path in self.unsure)
            items[key] = self.convert(item, inner[1], (*path, key))
        if isinstance(inner[1], type) and issubclass(inner[1], Table):
            unknown = with_known(inner[1], {})
            return {key: unknown if item is UNSET else item for key, item in items.items()}
        return UNSET if UNSET in items.values() else items

    def _convert_table(self, value: dict[str, Any], kind: type[Struct], path: Path) -> Any:
        fields = msgspec.structs.fields(kind)
        keys = tuple(field.encode_name for field in fields)
        strange = [key for key in value if key not in keys]
        if not kind.__struct_config__.forbid_unknown_fields:
            strange = []
        for key in strange:
            what = f"Object contains unknown field `{key}`"
            self.found.append(Mismatch(path, what, keys))
        unsure, known = bool(strange) or path in self.unsure, {}
        for field in fields:
            item: Any = UNSET
            if field.encode_name in value:
                raw, here = value[field.encode_name], (*path, field.encode_name)
                self._doubt(raw, here, unsure)
                item = self.convert(raw, field.type, here)
                if unsure and isinstance(item, dict):
                    item = Incomplete(item)
            elif not unsure and field.required:
                what = f"Object missing required field `{field.encode_name}`"
                self.found.append(Mismatch(path, what))
            elif not unsure:
                made_new = field.default_factory is not msgspec.NODEFAULT
                item = field.default_factory() if made_new else field.default
            if item is not UNSET:
                known[field.name] = item
        return with_known(kind, known) if issubclass(kind, Table) else UNSET

    def _doubt(self, value: Any, path: Path, unsure: bool) -> None:
        """Note a table that has tables alone, beside an unknown key."""
        if unsure and isinstance(value, dict) and all(isinstance(v, dict) for v in value.values()):
            self.unsure.add(path)


def _choices(hint: Any) -> Iterator[Any]:
    """The alternatives of a type hint, one by one."""
    if get_origin(hint) is Annotated:
        yield from _choices(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for choice in get_args(hint):
            yield from _choices(choice)
    else:
        yield hint


def _is_alike(value: Any, kind: Any) -> bool:
    """True if a value has parts, and a kind is of the same form."""
    if isinstance(value, dict):
        return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Struct))
    return isinstance(value, list) and get_origin(kind) in (list, tuple)


def _steps(where: str) -> Path:
    """The steps of a path as msgspec has it, up to a key that it does not say: `[...]`."""
    steps: list[str | int] = []
    for step in re.findall(r"\[\d+\]|\[\.\.\.\]|[^.\[\]]+", where):
        if step == "[...]":
            break
        steps.append(int(step[1:-1]) if step.startswith("[") else step)
    return tuple(steps)
