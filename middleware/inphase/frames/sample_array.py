"""A sample's value: NumPy's structured array, which knows its fields' names when one is wrong."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames import words


class SampleArray(np.ndarray[Any, np.dtype[Any]]):
    """A structured array. Its fields are plain arrays; an unknown one is a KeyError that lists the
    names there are."""

    __slots__ = ("_fields", "_plain")
    _plain: NDArray[Any]
    """the same memory; through it NumPy makes a field's array plain, and sooner"""
    _fields: dict[str, NDArray[Any]]
    """those that were looked at: making one takes NumPy longer than a step of physics is long"""

    def __getitem__(self, field: Any) -> Any:
        try:
            return self._fields[field]
        except (AttributeError, KeyError, TypeError):  # a new one, several, or NumPy made this
            return self._found(field)

    def _found(self, field: Any) -> Any:
        try:
            plain, fields = self._plain, self._fields
        except AttributeError:  # NumPy made it: a copy, or a part
            plain, fields = np.asarray(self), {}
            self._plain, self._fields = plain, fields
        try:
            found = plain[field]
        except ValueError:
            names = self.dtype.names or ()
            if not isinstance(field, str) or field in names:
                raise
            raise words.unknown("field", field, names) from None
        if isinstance(field, str):
            fields[field] = found
        return found


def sample_array(plain: NDArray[Any]) -> SampleArray:
    """The same memory, as read-only as it was."""
    made = plain.view(SampleArray)
    made._plain, made._fields = plain, {}
    return made
