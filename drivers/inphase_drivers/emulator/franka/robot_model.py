"""The model of the emulated arm, a URDF: an FR3's joints, and masses of about its size.

Source: Franka Robotics, robot and interface specifications of the FR3, and its URDF's limits.
"""

from typing import NamedTuple


class Link(NamedTuple):
    """A joint and the link behind it."""

    origin: str
    turn: str
    low: float
    high: float
    velocity: float
    offset: float  # of the velocity that a position allows
    deceleration: float
    effort: float
    mass: float


LINKS = (
    Link("0 0 0.333", "0 0 0", -2.7501, 2.7501, 2.62, 0.30, 6.0, 87, 2.9),
    Link("0 0 0", "-1.570796 0 0", -1.7918, 1.7918, 2.62, 0.20, 2.585, 87, 2.9),
    Link("0 -0.316 0", "1.570796 0 0", -2.9065, 2.9065, 2.62, 0.20, 3.5, 87, 2.2),
    Link("0.0825 0 0", "1.570796 0 0", -3.0481, -0.1458, 2.62, 0.30, 4.0, 87, 2.2),
    Link("-0.0825 0.384 0", "-1.570796 0 0", -2.8101, 2.8101, 5.26, 0.35, 17.0, 12, 2.6),
    Link("0 0 0", "1.570796 0 0", 0.54092, 4.5205, 4.18, 0.35, 5.5, 12, 1.3),
    Link("0.088 0 0", "1.570796 0 0", -3.0196, 3.0196, 5.26, 0.35, 17.0, 12, 0.9),
)


def urdf(name: str) -> str:
    """The whole model."""
    parts = ["<?xml version='1.0'?>", f"<robot name='{name}'>", _link(0, 3.0)]
    for number, link in enumerate(LINKS, 1):
        parts.append(
            f"<joint name='joint{number}' type='revolute'>"
            f"<origin xyz='{link.origin}' rpy='{link.turn}'/>"
            f"<parent link='link{number - 1}'/><child link='link{number}'/><axis xyz='0 0 1'/>"
            f"<limit lower='{link.low}' upper='{link.high}' velocity='{link.velocity}' "
            f"effort='{link.effort}'/>"
            f"<position_based_velocity_limits velocity_offset='{link.offset}' "
            f"deceleration_limit='{link.deceleration}'/></joint>"
        )
        parts.append(_link(number, link.mass))
    parts.append(
        "<link name='link8'/><joint name='joint8' type='fixed'>"
        "<origin xyz='0 0 0.107' rpy='0 0 0'/>"
        "<parent link='link7'/><child link='link8'/></joint></robot>"
    )
    return "\n".join(parts)


def _link(number: int, mass: float) -> str:
    return (
        f"<link name='link{number}'><inertial><origin xyz='0 0 0' rpy='0 0 0'/>"
        f"<mass value='{mass}'/><inertia ixx='0.02' ixy='0' ixz='0' iyy='0.02' iyz='0' izz='0.02'/>"
        f"</inertial></link>"
    )
