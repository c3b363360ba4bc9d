"""An emulated controller of a Franka arm: FCI over TCP and UDP, and the motion that it polices."""

from .controller import FciController, FciOptions

__all__ = ["FciController", "FciOptions"]
