"""The task of late_pole.toml: the pole stands, and the cart stays near the middle of its rail."""

from inphase.frame import Frame

FALLEN_RAD = 0.7
END_M = 1.1


def _truth(frame: Frame) -> tuple[float, float]:
    """Angle [rad] and position [m] of the world, not of the late sensor."""
    value = frame["truth"].value
    return float(value["angle"]), float(value["cart"])


def reward(frame: Frame) -> float:
    """1 for a cycle in which the pole stands upright over the middle of the rail."""
    angle, position = _truth(frame)
    return 1.0 - min(1.0, 2.0 * abs(angle) + 0.3 * abs(position))


def is_over(frame: Frame) -> bool:
    """The pole has fallen, or the cart is at an end."""
    angle, position = _truth(frame)
    return abs(angle) > FALLEN_RAD or abs(position) > END_M
