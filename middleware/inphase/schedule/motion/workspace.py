"""The box that an actuator's tool stays in, as a schedule's table."""

from typing import Annotated, Literal

from msgspec import Meta

from inphase.schedule.table import Table

Vector = tuple[float, float, float]
"""x, y and z."""


class Joint(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One joint of a chain, in the pose in which all positions are 0 and all frames parallel to the
    base's."""

    axis: Vector
    """Axis that the joint turns about, or moves along; its length does not matter."""
    translation: Vector = (0.0, 0.0, 0.0)
    """Place of the joint from the joint before it, in m."""
    kind: Literal["revolute", "prismatic"] = "revolute"
    """Its motion: about the axis, or along it."""


class Workspace(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The box that the tool's point stays in, and the chain up to there."""

    low: Vector
    """Lowest corner of the box, in m, in the base's frame."""
    high: Vector
    """Highest corner of the box."""
    joints: Annotated[list[Joint], Meta(min_length=1)]
    """The chain, from the base on: the joints of the actuator's first channels."""
    tool: Vector = (0.0, 0.0, 0.0)
    """The tool's point, from the last joint, in m."""
