"""For policies: the frame that a policy is given."""

from inphase.frames.frame import (
    Act,
    Command,
    Frame,
    FrameLost,
    Sample,
)

__all__ = [
    "Act",
    "Command",
    "Frame",
    "FrameLost",
    "Sample",
]
