"""The arm's own model, a URDF that its controller gives: what it is, and what its joints take."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from inphase.driver import Bound

from .state import JOINTS

ACCELERATION_MAX = 10.0  # rad/s^2
JERK_MAX = 5000.0  # rad/s^3
"""Of each joint of an FR3, and of a change of a command; the model does not say them."""


class NotFrankaError(ValueError):
    """The text is no model of an arm with seven joints."""


@dataclass(frozen=True)
class ArmModel:
    """An arm as its controller describes it."""

    name: str
    bounds: tuple[Bound, ...]


def read(text: str) -> ArmModel:
    """Raises NotFrankaError."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise NotFrankaError(f"its model cannot be read: {error}") from error
    found: dict[int, Bound] = {}
    for joint in root.iter("joint"):
        number = re.fullmatch(r".*joint([1-7])", joint.get("name", ""))
        limit = joint.find("limit")
        if number is None or limit is None or joint.get("type") != "revolute":
            continue
        try:
            low, high, velocity = (
                float(limit.get(key, "")) for key in ("lower", "upper", "velocity")
            )
        except ValueError as error:
            raise NotFrankaError(f"limits of {joint.get('name')}: {error}") from error
        found[int(number[1])] = Bound(
            low,
            high,
            f"{joint.get('name')} of the arm's own model",
            velocity=velocity,
            acceleration=ACCELERATION_MAX,
            jerk=JERK_MAX,
        )
    if sorted(found) != list(range(1, JOINTS + 1)):
        raise NotFrankaError(f"its model has no {JOINTS} joints, but {sorted(found)}")
    return ArmModel(root.get("name", ""), tuple(found[one] for one in sorted(found)))
