"""For emulators: a simulated world in real time, and the parts of it that devices stand for."""

from inphase.world.realtime_world import (
    WallWorld,
)
from inphase.world.world_part import (
    Part,
    part_of,
)

__all__ = [
    "Part",
    "WallWorld",
    "part_of",
]
