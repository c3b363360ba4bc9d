"""Object dictionary entries, identifiers and bits that the driver uses.

Sources: CiA 301 version 4.2, "CANopen application layer and communication profile" (objects 1000h
to 1FFFh, predefined connection set in 7.3.5) and CiA 402-2, "Drives and motion control: operation
modes and application data" (objects 6000h to 67FFh), the same as IEC 61800-7-201.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Entry:
    """One entry of an object dictionary; sizes in bytes."""

    index: int
    sub: int
    size: int
    name: str
    signed: bool = False

    def __str__(self) -> str:
        return f"object 0x{self.index:04X}:{self.sub:02X} ({self.name})"


# identifiers (CiA 301, 7.3.5: predefined connection set)
NMT, SYNC, EMCY, HEARTBEAT = 0x000, 0x080, 0x080, 0x700
TPDO1, RPDO1, TPDO2 = 0x180, 0x200, 0x280
SDO_REPLY, SDO_REQUEST = 0x580, 0x600

# NMT commands and the states that a heartbeat tells (CiA 301, 7.2.8)
NMT_START, NMT_PRE_OPERATIONAL = 0x01, 0x80
BOOT_UP, STOPPED, OPERATIONAL, PRE_OPERATIONAL = 0x00, 0x04, 0x05, 0x7F
NMT_STATES = {
    BOOT_UP: "restarted",
    STOPPED: "stopped",
    OPERATIONAL: "operational",
    PRE_OPERATIONAL: "pre-operational",
}

# communication profile (CiA 301, 7.5.2)
DEVICE_TYPE = Entry(0x1000, 0, 4, "device type")
SYNC_COB_ID = Entry(0x1005, 0, 4, "COB-ID SYNC")
HEARTBEAT_CONSUMERS = Entry(0x1016, 0, 1, "number of consumer heartbeat times")
HEARTBEAT_CONSUMER = Entry(0x1016, 1, 4, "consumer heartbeat time")
HEARTBEAT_PRODUCER = Entry(0x1017, 0, 2, "producer heartbeat time")
SYNC_OVERFLOW = Entry(0x1019, 0, 1, "synchronous counter overflow value")
PDO_INVALID, PDO_NO_RTR, COB_ID_MASK = 1 << 31, 1 << 30, 0x1FFFFFFF
SYNC_PRODUCER = 1 << 30
EVERY_SYNC = 1

# drive profile (CiA 402-2)
ABORT_CONNECTION = Entry(0x6007, 0, 2, "abort connection option code", signed=True)
ERROR_CODE = Entry(0x603F, 0, 2, "error code")
CONTROLWORD = Entry(0x6040, 0, 2, "controlword")
STATUSWORD = Entry(0x6041, 0, 2, "statusword")
QUICK_STOP_OPTION = Entry(0x605A, 0, 2, "quick stop option code", signed=True)
MODE = Entry(0x6060, 0, 1, "modes of operation", signed=True)
MODE_DISPLAY = Entry(0x6061, 0, 1, "modes of operation display", signed=True)
DEMAND = Entry(0x6062, 0, 4, "position demand value", signed=True)
POSITION = Entry(0x6064, 0, 4, "position actual value", signed=True)
VELOCITY = Entry(0x606C, 0, 4, "velocity actual value", signed=True)
RATED_CURRENT = Entry(0x6075, 0, 4, "motor rated current")
RATED_TORQUE = Entry(0x6076, 0, 4, "motor rated torque")
TORQUE = Entry(0x6077, 0, 2, "torque actual value", signed=True)
CURRENT = Entry(0x6078, 0, 2, "current actual value", signed=True)
TARGET = Entry(0x607A, 0, 4, "target position", signed=True)
INTERPOLATION_VALUE = Entry(0x60C2, 1, 1, "interpolation time period value")
INTERPOLATION_INDEX = Entry(0x60C2, 2, 1, "interpolation time index", signed=True)
MODES_SUPPORTED = Entry(0x6502, 0, 4, "supported drive modes")

DRIVE_PROFILE = 402
CYCLIC_POSITION = 8
CYCLIC_POSITION_BIT = 1 << 7
POSITION_MODES = (1, 6, 7, CYCLIC_POSITION)
"""profile, homing, interpolated, cyclic: in these 6062h is where position control holds"""
FOLLOWS_BIT = 1 << 12
"""of the statusword in cyclic synchronous position mode: the target is followed"""
NOTHING_ON_ABORT, QUICK_STOP_ON_ABORT = 0, 3
STAY_AFTER_QUICK_STOP = 6  # slow down on the quick stop ramp, stay in "quick stop active"
STAYS_AFTER_QUICK_STOP = (5, STAY_AFTER_QUICK_STOP, 7, 8)

# controlword commands (CiA 402-2, "Controlword": command coding)
DISABLE_VOLTAGE, QUICK_STOP, SHUTDOWN = 0x0000, 0x0002, 0x0006
SWITCH_ON, ENABLE_OPERATION, FAULT_RESET = 0x0007, 0x000F, 0x0080
COMMAND_BITS = 0x008F

# statusword (CiA 402-2, "Statusword": state coding)
FAULT_BIT = 0x0008
NOT_READY, SWITCH_ON_DISABLED = "not ready to switch on", "switch on disabled"
READY, SWITCHED_ON, ENABLED = "ready to switch on", "switched on", "operation enabled"
QUICK_STOP_ACTIVE, REACTING, FAULT = "quick stop active", "fault reaction active", "fault"
_STATES = (
    (0x4F, 0x00, NOT_READY),
    (0x4F, 0x40, SWITCH_ON_DISABLED),
    (0x6F, 0x21, READY),
    (0x6F, 0x23, SWITCHED_ON),
    (0x6F, 0x27, ENABLED),
    (0x6F, 0x07, QUICK_STOP_ACTIVE),
    (0x4F, 0x0F, REACTING),
    (0x4F, 0x08, FAULT),
)


def state_of(statusword: int) -> str:
    """The state of the power drive system that a statusword tells."""
    for mask, value, state in _STATES:
        if statusword & mask == value:
            return state
    return f"no state (statusword 0x{statusword:04X})"


def mapping(entry: Entry) -> int:
    """An entry as a PDO mapping parameter names it: index, sub-index, bits (CiA 301, 1600h)."""
    return entry.index << 16 | entry.sub << 8 | entry.size * 8


class Pdo(NamedTuple):
    """One PDO: the objects that describe it, its identifier without node, what it carries."""

    name: str
    parameters: int
    mapped: int
    cob_id: int
    entries: tuple[Entry, ...]
