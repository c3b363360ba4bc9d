"""For learners: a robot as a Gymnasium environment.

env = gymnasium.make("inphase.gym:inphase/Schedule-v0", schedule="schedules/arm.toml")
"""

from inphase.episodes.gym import (
    ID,
    Environment,
)
from inphase.episodes.gym_vector import (
    Environments,
)

__all__ = [
    "ID",
    "Environment",
    "Environments",
]
