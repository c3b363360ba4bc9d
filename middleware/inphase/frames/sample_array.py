"""A sample's value: NumPy's structured array, which knows its fields' names when one is wrong."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.frames import words


class SampleArray(np.ndarray[Any, np.dtype[Any]]):
    """A structured array. Its fields are plain arrays; an unknown one is a KeyError that lists the
    names there are."""

    __slots__ = ("_plain",)
    _plain: NDArray[Any]
    """the same memory; through it NumPy makes a field's array plain, and sooner"""

    def __getitem__(self, field: Any) -> Any:
        try:
            plain = self._plain
        except AttributeError:  # NumPy made it: a copy, or a part
            plain = self._plain = np.asarray(self)
        try:
            return plain[field]
        except ValueError:
            names = self.dtype.names or ()
            if not isinstance(field, str) or field in names:
                raise
        raise words.unknown("field", field, names)


def sample_array(plain: NDArray[Any]) -> SampleArray:
    """The same memory, as read-only as it was."""
    made = plain.view(SampleArray)
    made._plain = plain
    return made
