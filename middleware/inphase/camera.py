"""For drivers: the camera whose images they look at."""

from inphase.devices.inner_camera import camera_of

__all__ = ["camera_of"]
