"""For drivers: reading and writing the packets that the C core reads and writes."""

from inphase.devices.device_clock import unwrap
from inphase.devices.packets import (
    BusOff,
    Parser,
    Refusal,
    RefusedReply,
    can_frame,
    can_id,
    checksum,
    crc16,
    encode,
    escape,
)
from inphase.frames.record_layout import REASONS

__all__ = [
    "REASONS",
    "BusOff",
    "Parser",
    "Refusal",
    "RefusedReply",
    "can_frame",
    "can_id",
    "checksum",
    "crc16",
    "encode",
    "escape",
    "unwrap",
]
