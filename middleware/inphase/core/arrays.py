"""Arrays that C is given, kept alive by whoever gives them."""

from typing import Any

from inphase._core import ffi


def doubles(values: list[float], keep: list[Any]) -> Any:
    array = ffi.new("double[]", values)
    keep.append(array)
    return array
