"""The common part of trackers: one layout of poses, whoever measures them. It knows no device.

Poses are of bodies in the tracker's own frame of reference. The frame is right-handed, lengths are
in metres, and a quaternion (w, x, y, z) turns vectors of the body's frame into the tracker's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.driver import Field, Reading, TwinChannel

BODIES_MAX = 16
LOST = 0x10000
"""in the detail of a sample: its lower bits name the bodies that were not found"""


def fields(count: int) -> tuple[Field, ...]:
    """Position, orientation, tracked or not, and error, per body."""
    return (
        Field("position", "m", (count, 3)),
        Field("quaternion", "quaternion", (count, 4)),
        Field("tracked", "1", (count,)),
        Field("error", "m", (count,)),
    )


def twin(count: int) -> tuple[TwinChannel, ...]:
    """The answers in lock step: bodies in a row, upright, all of them tracked."""
    position = tuple(
        TwinChannel(base=0.1 * body if axis == 0 else 0.0, noise=0.0002)
        for body in range(count)
        for axis in range(3)
    )
    turn = tuple(TwinChannel(base=float(axis == 0)) for _ in range(count) for axis in range(4))
    return position + turn + (TwinChannel(base=1.0),) * count + (TwinChannel(base=0.0002),) * count


class PoseSample:
    """Fills samples, and says which bodies are lost.

    bodies: their names, in order. may_be_lost: those without which a sample still counts.
    """

    def __init__(self, bodies: Sequence[str], may_be_lost: Sequence[str]) -> None:
        self._bodies = tuple(bodies)
        self._needed = sum(1 << i for i, body in enumerate(bodies) if body not in may_be_lost)

    def clear(self, sample: NDArray[Any]) -> None:
        """No body is tracked. A quaternion of zeros is no turn: nobody takes it for a pose."""
        for name in ("position", "quaternion", "tracked", "error"):
            sample[name][...] = 0.0

    def put(
        self,
        sample: NDArray[Any],
        index: int,
        position: Sequence[float],
        quaternion: Sequence[float],
        error_m: float,
    ) -> None:
        """One body that is tracked. quaternion: w, x, y, z; brought to length 1."""
        turn = np.asarray(quaternion, dtype=float)
        sample["position"][index] = position
        sample["quaternion"][index] = turn / np.linalg.norm(turn)
        sample["tracked"][index] = 1.0
        sample["error"][index] = error_m

    def judged(self, sample: NDArray[Any], reading: Reading) -> Reading:
        """The reading, refused where a body that is needed was not found."""
        found = sum(1 << i for i, one in enumerate(sample["tracked"]) if one)
        lost = self._needed & ~found
        return reading._replace(reason="device", detail=LOST | lost) if lost else reading

    def meaning(self, detail: int) -> str:
        """The bodies that were lost; empty: the number says something else."""
        if not detail & LOST:
            return ""
        lost = [body for i, body in enumerate(self._bodies) if detail >> i & 1]
        return f"not tracked: {', '.join(lost)}"


def trouble_of_names(bodies: Sequence[str], may_be_lost: Sequence[str]) -> str:
    """Why these names cannot be followed; empty: they can."""
    if not 0 < len(bodies) <= BODIES_MAX:
        return f"bodies names 1 to {BODIES_MAX} bodies, got {len(bodies)}; name those you need"
    if len(set(bodies)) < len(bodies):
        return f"bodies names one twice: {', '.join(bodies)}; name each once"
    if unknown := sorted(set(may_be_lost) - set(bodies)):
        return f"may_be_lost names {', '.join(unknown)}, which is not among bodies; correct it"
    return ""
