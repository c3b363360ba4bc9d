"""Registers of DYNAMIXEL servos (ROBOTIS e-manual, Protocol 2.0, Read and Write)."""

from inphase.driver import Check, CheckKind

from ..servo_registers import ServoRegisters
from .packets import CRC, READ, STATUS, STATUS_PACKET, WRITE, packet, word


class Registers(ServoRegisters):
    """Read and Write of Protocol 2.0."""

    answer = STATUS_PACKET
    answer_size = 11
    data_at = 9
    tool = "DYNAMIXEL Wizard or a torque-off write"

    def read_instruction(self, ident: int, register: int, size: int) -> bytes:
        """Read (0x02)."""
        return packet(ident, READ, word(register) + word(size))

    def write_instruction(self, ident: int, register: int, data: bytes) -> bytes:
        """Write (0x03)."""
        return packet(ident, WRITE, word(register) + data)

    def answer_checks(self, ident: int) -> tuple[Check, ...]:
        """A status packet of this servo without an error; its alert is no reason to refuse."""
        return (
            Check(CheckKind.CHECKSUM, -2, checksum=CRC),
            Check(CheckKind.MATCH, 4, expect=ident),
            Check(CheckKind.MATCH, 7, expect=STATUS),
            Check(CheckKind.ZERO, 8, mask=0x7F),
        )
