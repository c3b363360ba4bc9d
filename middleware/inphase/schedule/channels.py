"""The values of a table for a device's channels: one for all of them, or one for each."""

from collections.abc import Sequence

from inphase.schedule.document import show


def numbers(value: float | Sequence[float], channels: int) -> list[float]:
    """A number per channel; the value fits."""
    if not isinstance(value, Sequence):
        return [float(value)] * channels
    assert len(value) == channels
    return [float(number) for number in value]


def numbers_trouble(value: float | Sequence[float], channels: int) -> str:
    """Why a value is no number per channel; empty: it is."""
    if not isinstance(value, Sequence) or len(value) == channels:
        return ""
    return (
        f"{channels} values expected, got {len(value)}: {show(value)}; "
        f"give one number for all channels or one per channel"
    )


def pairs(value: Sequence[float | list[float]], channels: int) -> list[tuple[float, float]]:
    """A (low, high) per channel; the value fits."""
    found = _as_pairs(value)
    assert found is not None
    if not isinstance(value[0], list):
        return found * channels
    assert len(found) == channels
    return found


def pairs_trouble(value: Sequence[float | list[float]], channels: int) -> str:
    """Why a value is no (low, high) per channel; empty: it is."""
    found = _as_pairs(value)
    if found is None:
        return f"a pair is two numbers, got {show(value)}; give [lo, hi]"
    if not isinstance(value[0], list) or len(found) == channels:
        return ""
    return (
        f"{channels} pairs expected, got {len(found)}: {show(value)}; "
        f"give one pair for all channels or one per channel"
    )


def count(value: float | Sequence[object]) -> int:
    """Entries of a value; 1 where it is one for all."""
    return len(value) if isinstance(value, Sequence) else 1


def _as_pairs(value: Sequence[float | list[float]]) -> list[tuple[float, float]] | None:
    """The pairs of `[lo, hi]` or `[[lo, hi], ...]`; None for any other shape."""
    numbers = [item for item in value if not isinstance(item, list)]
    lists = [item for item in value if isinstance(item, list)]
    if len(numbers) == 2 and not lists:
        return [(float(numbers[0]), float(numbers[1]))]
    if lists and not numbers and all(len(item) == 2 for item in lists):
        return [(float(low), float(high)) for low, high in lists]
    return None
