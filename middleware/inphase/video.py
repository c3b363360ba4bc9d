"""For drivers: cameras that Linux knows as /dev/video*."""

from inphase.devices.video import (
    CONTROL_EXPOSURE,
    CONTROL_EXPOSURE_AUTO,
    GONE,
    Capture,
    Format,
    Image,
    offered,
)

__all__ = [
    "CONTROL_EXPOSURE",
    "CONTROL_EXPOSURE_AUTO",
    "GONE",
    "Capture",
    "Format",
    "Image",
    "offered",
]
