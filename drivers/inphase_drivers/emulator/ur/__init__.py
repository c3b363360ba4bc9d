"""An emulated controller of Universal Robots: RTDE, the program's port, the dashboard server."""

from .controller import Controller, ControllerOptions

__all__ = ["Controller", "ControllerOptions"]
