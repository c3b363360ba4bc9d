"""Durations and instants in words; all are given in nanoseconds."""

_HUNDREDTH_NS = 10_000  # of a millisecond


def us(time_ns: int) -> str:
    """`1200 us`, for a sentence."""
    return f"{time_ns / 1000:.0f} us"


def ms(time_ns: int) -> str:
    """`11.16 ms`, for a sentence."""
    return f"{time_ns / 1e6:.4g} ms"


def least_ms(time_ns: float) -> str:
    """`17.93`: a number of milliseconds that is not below a time, for a remedy."""
    return f"{-(-time_ns // _HUNDREDTH_NS) / 100:.12g}"


def most_ms(time_ns: float) -> str:
    """`17.92`: one that is not above it."""
    return f"{time_ns // _HUNDREDTH_NS / 100:.12g}"


def tenths_of_us(time_ns: int) -> str:
    """`1200.0`, for a column that says its unit."""
    return f"{time_ns / 1000:.1f}"
