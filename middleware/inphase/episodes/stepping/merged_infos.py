"""The infos of many environments as one dict."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = (int, float, np.number, np.ndarray)


def merged(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Infos as VectorEnv has them: an array per key, and a mask `_key` of those that have it."""
    keys: Iterable[str] = infos[0]
    alike = all(info.keys() == keys for info in infos)
    if not alike:
        keys = {key: None for info in infos for key in info}
    result: dict[str, Any] = {}
    everybody = np.ones(len(infos), np.bool_)
    for key in keys:
        if alike:
            mask, values = everybody.copy(), [info[key] for info in infos]
        else:
            mask = np.array([key in info for info in infos])
            values = [info[key] for info in infos if key in info]
        result[key] = _column(values, mask) if key != "final_obs" else _objects(values, mask)
        result[f"_{key}"] = mask
    return result


def _column(values: list[Any], mask: NDArray[np.bool_]) -> Any:
    """The values of those that have one, zeros or None for the others; dicts go on as such."""
    first = values[0]
    if isinstance(first, dict):
        rest = iter(values)
        return merged([next(rest) if has else {} for has in mask.tolist()])
    if not isinstance(first, _NUMBERS):
        return _objects(values, mask)
    found = np.array(values)
    if len(values) == len(mask):
        return found
    column = np.zeros((len(mask), *found.shape[1:]), found.dtype)
    column[mask] = found
    return column


def _objects(values: list[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """The values as they are."""
    objects = np.full(len(mask), None, dtype=object)
    for at, value in zip(np.flatnonzero(mask).tolist(), values, strict=True):
        objects[at] = value
    return objects
