"""Motion capture by OptiTrack over NatNet, the protocol of Motive and Tracking Tools."""

from .tracker import Tracker, TrackerOptions

__all__ = ["Tracker", "TrackerOptions"]
