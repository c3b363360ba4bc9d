"""Statistics of columns, as LeRobot normalises by them; gathered in one pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_KEPT_ROWS = 1 << 15
"""of which quantiles are taken"""
_Row = NDArray[np.float64]


class RunningStatistics:
    """Smallest, largest, mean, spread, count and quantiles of numbers, row by row, shape (n,).

    Quantiles are exact up to 65,536 rows; of more, of each second, fourth and so on. Rows with a
    number that is not finite do not count.
    """

    def __init__(self) -> None:
        self.count = 0
        self._least: NDArray[np.float64] = np.empty(0)
        self._most: NDArray[np.float64] = np.empty(0)
        self._mean: NDArray[np.float64] = np.empty(0)
        self._squares: NDArray[np.float64] = np.empty(0)
        self._kept: list[NDArray[np.float64]] = []
        self._stride, self._seen = 1, 0

    def add(self, rows: NDArray[Any]) -> None:
        """Of shape (rows, n)."""
        rows = rows.astype(np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        count = len(rows)
        if not count:
            return
        mean = rows.mean(axis=0)
        squares = ((rows - mean) ** 2).sum(axis=0)
        self._merge(count, rows.min(axis=0), rows.max(axis=0), mean, squares)
        self._keep(rows)

    def _merge(self, count: int, least: _Row, most: _Row, mean: _Row, squares: _Row) -> None:
        if not self.count:
            self.count = count
            self._least, self._most, self._mean, self._squares = least, most, mean, squares
            return
        both = self.count + count
        off = mean - self._mean
        self._least = np.minimum(self._least, least)
        self._most = np.maximum(self._most, most)
        self._squares = self._squares + squares + off**2 * self.count * count / both
        self._mean = self._mean + off * count / both
        self.count = both

    def _keep(self, rows: NDArray[np.float64]) -> None:
        first = -self._seen % self._stride
        self._kept.append(rows[first :: self._stride].copy())  # and not all of the block
        self._seen += len(rows)
        if sum(map(len, self._kept)) > 2 * _KEPT_ROWS:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._stride *= 2

    def add_all(self, other: "RunningStatistics") -> None:
        """All that another has gathered."""
        if not other.count:
            return
        self._merge(other.count, other._least, other._most, other._mean, other._squares)
        for kept in other._kept:
            self._keep(kept)

    def found(self, shape: tuple[int, ...] = (-1,)) -> dict[str, Any]:
        """As lists. shape: of each."""
        if not self.count:
            return {}
        numbers = {
            "min": self._least,
            "max": self._most,
            "mean": self._mean,
            "std": np.sqrt(self._squares / self.count),
        }
        kept = np.concatenate(self._kept)
        numbers |= {name: np.quantile(kept, share, axis=0) for name, share in QUANTILES.items()}
        made: dict[str, Any] = {name: one.reshape(shape).tolist() for name, one in numbers.items()}
        return made | {"count": [self.count]}
