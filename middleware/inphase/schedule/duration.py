"""Durations and instants in words; all are given in nanoseconds."""


def us(time_ns: int) -> str:
    """`1200 us`, for a sentence."""
    return f"{time_ns / 1000:.0f} us"


def ms(time_ns: int) -> str:
    """`11.16 ms`, for a sentence."""
    return f"{time_ns / 1e6:.4g} ms"


def tenths_of_us(time_ns: int) -> str:
    """`1200.0`, for a column that says its unit."""
    return f"{time_ns / 1000:.1f}"
