"""A dict that is filled when it is first looked at: most steps of a learner look at no info."""

from collections.abc import Callable
from typing import Any


class LaterDict(dict[str, Any]):
    """A dict in all that Python asks of one; it copies and pickles as a plain one.

    `make` and `given` are set once it is made: `make(*given)` gives what it holds. It is made with
    a part of that, so that no code in C takes it for empty.
    """

    __slots__ = ("given", "make")
    make: Callable[..., dict[str, Any]] | None
    given: tuple[Any, ...]

    def fill(self) -> "LaterDict":
        """Now at the latest."""
        make, self.make = self.make, None
        if make is not None:
            dict.update(self, make(*self.given))
            self.given = ()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self.fill()),)


def _filled(name: str) -> Any:
    """A method of dict, on what is filled."""
    method = getattr(dict, name)

    def call(self: LaterDict, *arguments: Any, **named: Any) -> Any:
        return method(self.fill(), *arguments, **named)

    return call


for _name in (
    *("__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__reversed__"),
    *("__len__", "__eq__", "__ne__", "__or__", "__ror__", "__ior__", "__repr__"),
    *("get", "keys", "values", "items", "copy", "pop", "popitem", "setdefault", "update", "clear"),
):
    setattr(LaterDict, _name, _filled(_name))


def later(part: dict[str, Any], make: Callable[..., dict[str, Any]], *given: Any) -> LaterDict:
    """A dict that holds `make(*given)`, once it is looked at; part: of that, to begin with."""
    made = LaterDict(part)
    made.make, made.given = make, given
    return made
