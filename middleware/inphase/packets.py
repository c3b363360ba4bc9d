"""For drivers: reading and writing the packets that the C core reads and writes."""

from inphase.devices.packets import (
    BusOff,
    Parser,
    Refusal,
    RefusedReply,
    crc16,
    encode,
    escape,
)

__all__ = [
    "BusOff",
    "Parser",
    "Refusal",
    "RefusedReply",
    "crc16",
    "encode",
    "escape",
]
