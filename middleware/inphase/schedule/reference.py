"""The keys of a schedule as data, read from the tables that read them.

Types, bounds and defaults are those of the msgspec structures. The meaning of a key is the string
below it in the source, and a table's is its class's docstring.
"""

import ast
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import msgspec

from inphase.schedule import distribution, tables

OWN = "options"  # where the loader puts the keys that belong to a driver or an emulator
SHAPE = distribution.Shape
UNITS = {"us": "µs", "ms": "ms", "hz": "Hz", "ppm": "ppm", "samples": "samples"}
NAMED = {
    float: "number",
    int: "whole number",
    str: "text",
    bool: "true or false",
    Any: "any",
    tables.Status: "status",
    distribution.Spec: "number or [distribution](#a-distribution)",
}


@dataclass(frozen=True)
class DescribedKey:
    """One key of a table."""

    name: str
    kind: Any
    default: str
    meaning: str


@dataclass(frozen=True)
class DescribedTable:
    """One table of the file: its name there, and its keys."""

    name: str
    meaning: str
    keys: tuple[DescribedKey, ...]


def meanings(cls: type) -> dict[str, str]:
    """The string below each field of a class, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is msgspec.Struct or not issubclass(base, msgspec.Struct):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                assert isinstance(field.target, ast.Name)
                assert isinstance(below.value, ast.Constant)
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def keys(cls: type) -> tuple[DescribedKey, ...]:
    """Every key of a table."""
    kinds, said = typing.get_type_hints(cls, include_extras=True), meanings(cls)
    fields = msgspec.inspect.type_info(cls).fields  # type: ignore[attr-defined]
    return tuple(
        DescribedKey(field.name, kinds[field.name], _default(field), said.get(field.name, ""))
        for field in fields
        if field.name != OWN
    )


def _default(field: Any) -> str:
    """A key's default, as TOML; empty where its meaning says it."""
    value = field.default
    if field.required:
        return "needed"
    if value in (msgspec.NODEFAULT, None, (), "") or isinstance(value, msgspec.Struct):
        return ""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"`{value:_}`".replace(".0`", "`")
    return f"`{json.dumps(value)}`"


def walk(cls: type, name: str = "") -> Iterator[DescribedTable]:
    """A table and all tables in it, by the names that they have in the file."""
    own = keys(cls)
    if own:
        yield DescribedTable(name, inspect.cleandoc(cls.__doc__ or ""), own)
    for key in own:
        for inner, suffix in _tables_of(key.kind):
            yield from walk(inner, f"{name}.{key.name}{suffix}".removeprefix("."))


def _tables_of(kind: Any) -> Iterator[tuple[type, str]]:
    """The tables that a key holds, and what their names end in; not a distribution's."""
    kind = _bare(kind)
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        for one in inside:
            yield from _tables_of(one)
    elif origin is dict:
        yield from ((inner, ".NAME") for inner, _ in _tables_of(inside[1]))
    elif origin is list:
        yield from ((inner, "[]") for inner, _ in _tables_of(inside[0]))
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not SHAPE:
        yield kind, ""


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def describe(kind: Any) -> str:
    """A type in words."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind in NAMED:
        return NAMED[kind]
    if origin is Annotated:
        return f"{describe(inside[0])}{_bounds(inside[0], inside[1])}"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(one) for one in _without_none(inside)))
    if origin in (list, tuple):
        count = f"{len(inside)} " if origin is tuple and Ellipsis not in inside else ""
        return f"list of {count}{_many(describe(inside[0]))}"
    if origin is Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in inside)
    return f"table of NAME = {describe(inside[1])}" if origin is dict else "table"


def _without_none(kinds: tuple[Any, ...]) -> Iterator[Any]:
    """The kinds but None; what makes a distribution becomes one."""
    rest = [kind for kind in kinds if kind is not types.NoneType]
    if {float, SHAPE} <= set(rest):
        yield distribution.Spec
        rest = [kind for kind in rest if kind not in (float, SHAPE)]
    yield from rest


def _many(words: str) -> str:
    plural = {"number": "numbers", "whole number": "whole numbers", "status": "statuses"}
    plural |= {"text": "texts", "table": "tables"}
    return plural.get(words, words)


def _bounds(kind: Any, meta: msgspec.Meta) -> str:
    """The bounds of a value, or of a list's or text's length, in words."""
    if typing.get_origin(kind) in (list, dict) or kind is str:
        least, most = meta.min_length, meta.max_length
        return f", {least or 0} to {most}" if most is not None else ""
    if None not in (meta.ge, meta.le):
        words = [f"{meta.ge:,} to {meta.le:,}"]
    else:
        words = [f"above {meta.gt:,}"] if meta.gt is not None else []
        words += [f"{meta.ge:,} or more"] if meta.ge is not None else []
        words += [f"at most {meta.le:,}"] if meta.le is not None else []
        words += [f"below {meta.lt:,}"] if meta.lt is not None else []
    words += [f"a multiple of {meta.multiple_of}"] if meta.multiple_of is not None else []
    return "".join(f", {word}" for word in words)


def value_of(key: DescribedKey) -> str:
    """A key's type in words, with its unit."""
    unit = UNITS.get(key.name.rpartition("_")[2], "")
    return f"{describe(key.kind)}, {unit}" if unit else describe(key.kind)
