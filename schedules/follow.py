"""Follow: an arm goes where its leader is, joint by joint."""

import numpy as np
from numpy.typing import NDArray

from inphase.frame import Frame


class Follow:
    """Commands the positions of a leader's joints, in rad.

    `leader` is the sensor with a field `position`, of as many joints as the arm has. A command is
    missing while the leader is not FRESH: the actuator's `on_miss` says what the arm does then.
    """

    def __init__(self, leader: str = "leader") -> None:
        self.leader = leader

    def __call__(self, frame: Frame) -> NDArray[np.float64] | None:
        """Positions of all joints in rad; None while the leader is not known."""
        sample = frame[self.leader]
        if sample.status != "FRESH":
            return None
        position: NDArray[np.float64] = sample.value["position"].copy()
        return position if sample.intact else None
