"""DYNAMIXEL Protocol 2.0 servos (X series) on one half-duplex bus.

Sources: ROBOTIS e-manual, "DYNAMIXEL Protocol 2.0" (Instruction Details) and "XM430-W350"
(Control Table). Where the manual is silent the choice is in a comment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..arm import Joints
from ..instruction import Block, Request
from ..serial_bus import Reply, SerialBus
from .packets import (
    BROADCAST_ID,
    chain_packet,
    status_packet,
    take_request,
)
from .registers import (
    BAUD_OF_REGISTER,
    SIZE,
    Address,
    ErrorNumber,
)
from .servo import Servo

if TYPE_CHECKING:  # it imports the middleware's world, which only a simulated run needs
    from ..world import WorldJoints

PING, READ, WRITE, REG_WRITE, ACTION, REBOOT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x08
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A

_REBOOT_NS = 200_000_000  # a servo that reboots is deaf for so long; the manual gives no time


@dataclass(frozen=True)
class BusOptions:
    """The schedule's options of one bus of servos."""

    port: Path
    baud: int
    ids: tuple[int, ...]
    models: tuple[int, ...]
    """their model numbers"""
    return_delay_us: int = 0
    baud_register: int | None = None  # None: as `baud`; else what the register claims
    wire_time: bool = True


class ServoBus(SerialBus):
    """The servos of one schedule device, behind a pseudo-terminal. Opened by whoever makes it.

    world: the joints that they turn in a simulated world, instead of joints of their own.
    """

    raw_values = ("velocity_raw", "current_raw")

    def __init__(
        self, options: BusOptions, now_ns: int, world: "WorldJoints | None" = None
    ) -> None:
        joints: Joints = world or Joints(len(options.ids), now_ns)
        self.servos = [
            Servo(dxl_id, joint, joints, model)
            for joint, (dxl_id, model) in enumerate(zip(options.ids, options.models, strict=True))
        ]
        for servo in self.servos:
            servo.baud = options.baud
            claimed = options.baud_register
            servo.registers.put(
                Address.BAUD_RATE,
                BAUD_OF_REGISTER.index(options.baud) if claimed is None else claimed,
            )
            servo.registers.put(Address.RETURN_DELAY, options.return_delay_us // 2)
        self._last_read = (b"", False)  # of all servos: parameters, in one packet or not
        super().__init__(options.port, options.baud, options.wire_time, joints, now_ns)

    def status(self) -> dict[str, object]:
        """That of the bus, and the watchdogs."""
        watchdogs = [servo.registers.memory[Address.BUS_WATCHDOG] for servo in self.servos]
        return {**super().status(), "watchdog": watchdogs}

    def take_request(self, inbox: bytearray) -> Request | None:
        """The first instruction packet."""
        return take_request(inbox)

    def handle(self, request: Request, now_ns: int) -> Reply | None:
        """Do what an instruction asks."""
        if not request.is_whole:
            self.counters.crc_errors += 1
            servo = self.listening(request.id, now_ns)
            return Reply([servo.block(ErrorNumber.CRC)]) if servo else None
        if request.instruction in self.unknown:
            return None
        group = _GROUP.get(request.instruction)
        if request.id == BROADCAST_ID and group is not None:
            return group(self, request.params, now_ns)
        blocks = []
        for servo in self.servos:
            if not self.hears(servo, now_ns):
                continue
            shadow = request.id == servo.registers.memory[Address.SECONDARY_ID]
            if request.id not in {servo.id, BROADCAST_ID} and not shadow:
                continue
            own_id = servo.id
            level = servo.registers.memory[Address.STATUS_RETURN_LEVEL]
            block = self._single(servo, request, now_ns)
            answered = own_id == request.id or request.instruction == PING
            if answered and not shadow and level >= _LEVEL.get(request.instruction, 2):
                blocks.append(block._replace(id=own_id))
        return Reply(blocks)

    def _single(self, servo: Servo, request: Request, now_ns: int) -> Block:
        """Let one servo do what an instruction for one servo asks."""
        params, instruction = request.params, request.instruction
        if instruction == PING:
            memory = servo.registers.memory
            return servo.block(0, bytes((memory[0], memory[1], memory[Address.FIRMWARE])))
        if instruction == READ and len(params) == 4:
            return servo.read(_word(params, 0), _word(params, 2), now_ns)
        if instruction in {WRITE, REG_WRITE} and len(params) >= 2:
            self.counters.writes += 1
            self.note_write(servo.id, _word(params, 0), params[2:])
            change = servo.write if instruction == WRITE else servo.register
            return servo.block(change(_word(params, 0), params[2:]))
        if instruction == ACTION:
            return servo.block(servo.act())
        if instruction == REBOOT:
            block = servo.block(0)
            servo.boot()
            servo.deaf_until_ns = now_ns + _REBOOT_NS
            return block
        return servo.block(ErrorNumber.INSTRUCTION)

    def _sync_read(self, params: bytes, now_ns: int) -> Reply | None:
        return self._group_read(params, now_ns, chain=False)

    def _fast_sync_read(self, params: bytes, now_ns: int) -> Reply | None:
        return self._group_read(params, now_ns, chain=True)

    def _group_read(self, params: bytes, now_ns: int, *, chain: bool) -> Reply | None:
        if len(params) < 5:
            return None
        address, length = _word(params, 0), _word(params, 2)
        if chain and length > SIZE:
            return None  # the manual is silent; what is longer than the table has no block
        self._last_read = params, chain
        self.mark(now_ns)
        blocks: list[Block] = []
        for dxl_id in params[4:]:
            servo = self.listening(dxl_id, now_ns)
            if servo is None or not servo.registers.memory[Address.STATUS_RETURN_LEVEL]:
                break  # each waits for the one before; that a gap silences the rest is our reading
            block = servo.read(address, length, now_ns)
            if chain and not block.data:
                block = block._replace(data=bytes(length))  # the shared packet has no other length
            blocks.append(block)
        return Reply(blocks, len(params) - 4 if chain else 0, length, is_sample=True)

    def sample_again(self, now_ns: int) -> Reply | None:
        """The last sync read, as it is now."""
        params, chain = self._last_read
        return self._group_read(params, now_ns, chain=chain) if params else None

    def _sync_write(self, params: bytes, now_ns: int) -> None:
        if len(params) < 5:
            return
        address, length = _word(params, 0), _word(params, 2)
        self.counters.writes += 1
        for at in range(4, len(params) - length, length + 1):
            servo = self.listening(params[at], now_ns)
            if servo is not None:
                data = params[at + 1 : at + 1 + length]
                self.note_write(servo.id, address, data)
                servo.write(address, data)

    def packets(self, reply: Reply, blocks: list[Block]) -> list[bytearray]:
        """A packet for each servo, or one for all."""
        if reply.asked:
            return [chain_packet(blocks, reply.asked, reply.data_length)]
        return [status_packet(block) for block in blocks]

    def advance(self, to_ns: int) -> None:
        """Move the joints on to `to_ns`, with the bus watchdogs that expire on the way."""
        for servo in self.servos:
            expires_ns = self.asked_ns + servo.watchdog_ns()
            if expires_ns < to_ns:
                self.joints.advance(expires_ns)
                servo.expire()
        self.joints.advance(to_ns)


def _word(params: bytes, at: int) -> int:
    return params[at] | params[at + 1] << 8


# the status return level from which an instruction is answered (default: 2)
_LEVEL = {PING: 0, READ: 1}

_GROUP: dict[int, Callable[[ServoBus, bytes, int], Reply | None]] = {
    SYNC_READ: ServoBus._sync_read,
    FAST_SYNC_READ: ServoBus._fast_sync_read,
    SYNC_WRITE: ServoBus._sync_write,
}
