"""An emulated server of NatNet: rigid bodies on known paths, to each client or to a group."""

from .server import MocapServer, MocapServerOptions

__all__ = ["MocapServer", "MocapServerOptions"]
