"""Registers of Feetech servos: Read and Write, and the part that a lock protects."""

from inphase.driver import Check, CheckKind

from ..servo_registers import ServoRegisters
from .control_table import LOCK, LOCKED, UNLOCKED
from .packets import ANSWER, ANSWER_SIZE, DATA_AT, ID_AT, READ, SUM, WRITE, packet


class FeetechRegisters(ServoRegisters):
    """Read and Write of Feetech's protocol. The error byte says how the servo is, not whether it
    took an instruction: it is no reason to refuse an answer here."""

    answer = ANSWER
    answer_size = ANSWER_SIZE
    data_at = DATA_AT
    tool = "Feetech's program FD"

    def read_instruction(self, ident: int, register: int, size: int) -> bytes:
        """Read (0x02)."""
        return packet(ident, READ, bytes([register, size]))

    def write_instruction(self, ident: int, register: int, data: bytes) -> bytes:
        """Write (0x03)."""
        return packet(ident, WRITE, bytes([register]) + data)

    def answer_checks(self, ident: int) -> tuple[Check, ...]:
        """An answer of this servo."""
        return (
            Check(CheckKind.CHECKSUM, -1, checksum=SUM),
            Check(CheckKind.MATCH, ID_AT, expect=ident),
        )

    def keep(self, ident: int, what: str, register: int, value: int) -> None:
        """Write a register of one byte that outlives the power, and read it back.

        The lock drops such writes, and the servo says nothing of it. Raises DeviceError.
        """
        self.write(ident, LOCK, UNLOCKED, 1)
        try:
            self.write(ident, register, value, 1)
        finally:
            self.write(ident, LOCK, LOCKED, 1)
        self.expect(ident, what, register, value)
