"""Where the arm of tracked.toml believes its tool to be: its first joint turns it on a circle."""

import math

from inphase.frame import Frame

RADIUS_M, HEIGHT_M = 0.3, 1.0

Pose = tuple[int, tuple[float, ...], tuple[float, ...]]


def tool(frame: Frame) -> Pose | None:
    """Time in ns, position in m and quaternion (w, x, y, z) of the tool; None: it is not known."""
    joints = frame["joints"]
    if joints.status != "FRESH" or joints.acquired_ns is None:
        return None
    angle = float(joints.value["position"][0])
    position = (RADIUS_M * math.cos(angle), RADIUS_M * math.sin(angle), HEIGHT_M)
    return joints.acquired_ns, position, (math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2))
