"""A table of a schedule, of which some keys may not be known.

While a schedule is checked, a key with a fault is taken away. A later rule that reads it gets
`Unknown` and ends there. So one fault does not bring others with it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from msgspec import Struct

T = TypeVar("T", bound="Table")


class Unknown(Exception):  # noqa: N818 - it ends a rule, and is no error
    """A key was read that has no good value."""


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of all tables; reading a key that is not known raises Unknown."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # is called for an unset field, and for none
            if name in self.__struct_fields__:
                raise Unknown(name)
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


class Incomplete(dict[str, Any]):
    """Tables by name, of which some are unknown: a name that is not here may be one of those."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or self.__missing__(name)

    def __bool__(self) -> bool:
        return len(self) > 0 or self.__missing__("any")

    def __missing__(self, name: object) -> NoReturn:
        raise Unknown(name)


def with_known(kind: type[T], known: Mapping[str, Any]) -> T:
    """A table of which these keys are known, and no other."""
    made = kind(**{name: known.get(name) for name in kind.__struct_fields__})
    for name in kind.__struct_fields__:
        if name not in known:
            getattr(kind, name).__delete__(made)
    return made


def known_of(table: Table) -> dict[str, Any]:
    """The keys of a table that are known, with their values."""
    found = {}
    for name in table.__struct_fields__:
        try:
            found[name] = getattr(table, name)
        except Unknown:
            continue
    return found


def without(table: T, path: Sequence[str | int]) -> T:
    """A copy of a table in which the key at a path is not known.

    The path goes as deep as there are tables. A part of a value takes the whole value with it.
    """
    step, known = str(path[0]), known_of(table)
    value = known.pop(step, None)
    if isinstance(value, Table) and len(path) > 1:
        known[step] = without(value, path[1:])
    elif isinstance(value, dict) and len(path) > 1 and isinstance(value.get(path[1]), Table):
        if len(path) == 2:  # its name is wrong: nobody knows what it should have been
            known[step] = Incomplete({name: it for name, it in value.items() if name != path[1]})
        else:
            inner = without(value[path[1]], path[2:])
            known[step] = type(value)(value | {path[1]: inner})
    return with_known(type(table), known)
