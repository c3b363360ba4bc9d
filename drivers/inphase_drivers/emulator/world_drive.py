"""A joint of a simulated world behind an emulated drive, in place of its own."""

from .arm import Drive as Follows
from .world import WorldJoints

_AT_REST = 1e-3  # [rad/s]: a joint of the world is never quite still


class WorldJoint:
    """One joint of `joints`. A drive without a target holds it where it is, as a brake would.

    sign: of the drive's counts, which its torque has too.
    """

    def __init__(self, joints: WorldJoints, index: int, sign: int) -> None:
        self._joints = joints
        self._index = index
        self._sign = sign
        self._holds = False
        self.travel = 0.0
        """not counted"""

    @property
    def position(self) -> float:
        """[rad]"""
        return self._joints.position[self._index]

    @property
    def velocity(self) -> float:
        """[rad/s]"""
        velocity = self._joints.velocity[self._index]
        return velocity if abs(velocity) > _AT_REST else 0.0

    @property
    def target_here(self) -> float:
        """The target at which it stands where it is, but for the load."""
        return self.position

    def permille(self, rated: float) -> float:
        """Torque or current in thousandths of the rated one [N m] or [A]."""
        return self._sign * 1000 * self._joints.current[self._index] / rated

    def step(self, target: float | None, seconds: float, has_power: bool) -> None:
        """Follow a target; how fast is the world's matter."""
        self._joints.drive[self._index] = Follows.POSITION
        if target is not None:
            self._joints.goal[self._index] = target
        elif not self._holds:
            self._joints.goal[self._index] = self.position
        self._holds = target is None
