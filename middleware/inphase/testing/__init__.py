"""For tests of drivers and controllers, needs `inphase[testing]`: TESTING.md is the page."""

from inphase.testing import assertions  # noqa: F401 - first: pytest then tells the values
from inphase.testing.comparison import assert_same_frames
from inphase.testing.driver_contract import DriverContract
from inphase.testing.fault_plan import Fault, fault_plan
from inphase.testing.fixtures import lockstep
from inphase.testing.peer import Peer
from inphase.testing.world_contract import WorldContract

__all__ = [
    "DriverContract",
    "Fault",
    "Peer",
    "WorldContract",
    "assert_same_frames",
    "fault_plan",
    "lockstep",
]
