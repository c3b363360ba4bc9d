"""Feetech servos of the STS series on one half-duplex bus.

Source: ftservo-python-sdk 2.0.1, the maker's. Where it is silent the choice is in a comment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..arm import HandJoints, Joints
from ..instruction import Block, Request
from ..serial_bus import Reply, SerialBus
from .packets import BROADCAST_ID, answer, take_request
from .registers import BAUD_OF_REGISTER, Address
from .servo import FeetechServo

if TYPE_CHECKING:  # it imports the middleware's world, which only a simulated run needs
    from ..world import WorldJoints

PING, READ, WRITE, REG_WRITE, ACTION = 0x01, 0x02, 0x03, 0x04, 0x05
SYNC_READ, SYNC_WRITE = 0x82, 0x83


@dataclass(frozen=True)
class FeetechBusOptions:
    """The schedule's options of one bus of Feetech servos."""

    port: Path
    baud: int
    ids: tuple[int, ...]
    return_delay_us: int = 0
    wire_time: bool = True
    hand: tuple[float, float] | None = None
    """amplitude [rad] and seconds of a hand's swing"""


class FeetechBus(SerialBus):
    """The servos of one schedule device, behind a pseudo-terminal. Opened by whoever makes it.

    world: the joints that they turn in a simulated world, instead of joints of their own.
    """

    raw_values = ("position_raw", "velocity_raw", "load_raw")

    def __init__(
        self, options: FeetechBusOptions, now_ns: int, world: "WorldJoints | None" = None
    ) -> None:
        count = len(options.ids)
        own = HandJoints(count, now_ns, *options.hand) if options.hand else Joints(count, now_ns)
        joints: Joints = world or own
        self.servos = [
            FeetechServo(ident, joint, joints) for joint, ident in enumerate(options.ids)
        ]
        for servo in self.servos:
            servo.baud = options.baud
            servo.memory[Address.BAUD_RATE] = BAUD_OF_REGISTER.index(options.baud)
            servo.memory[Address.RETURN_DELAY] = options.return_delay_us // 2
        self._registered: dict[int, tuple[int, bytes]] = {}  # writes that wait for Action
        self._last_read = b""  # of all servos: parameters
        super().__init__(options.port, options.baud, options.wire_time, joints, now_ns)

    def take_request(self, inbox: bytearray) -> Request | None:
        """The first instruction packet."""
        return take_request(inbox)

    def packets(self, reply: Reply, blocks: list[Block]) -> list[bytearray]:
        """A packet for each servo."""
        return [answer(block) for block in blocks]

    def handle(self, request: Request, now_ns: int) -> Reply | None:
        """Do what an instruction asks."""
        if not request.is_whole:
            self.counters.crc_errors += 1
            return None
        if request.instruction in self.unknown:
            return None
        group = _GROUP.get(request.instruction)
        if group is not None:
            return group(self, request.params, now_ns) if request.id == BROADCAST_ID else None
        blocks = []
        for servo in self.servos:
            if not self.hears(servo, now_ns) or request.id not in {servo.id, BROADCAST_ID}:
                continue
            answers = request.id == servo.id or request.instruction == PING
            level = servo.memory[Address.RESPONSE_LEVEL]
            block = self._single(servo, request)
            if block is not None and answers and (level or request.instruction in {PING, READ}):
                blocks.append(block)
        return Reply(sorted(blocks, key=lambda block: block.id))

    def _single(self, servo: FeetechServo, request: Request) -> Block | None:
        """Let one servo do what an instruction for one servo asks; None: it does not know it."""
        params, instruction, ident = request.params, request.instruction, servo.id
        if instruction == PING:
            return servo.block()
        if instruction == READ and len(params) == 2:
            return servo.read(params[0], params[1])
        if instruction == WRITE and len(params) >= 2:
            self.counters.writes += 1
            self.note_write(ident, params[0], params[1:])
            servo.write(params[0], params[1:])
            return servo.block()._replace(id=ident)
        if instruction == REG_WRITE and len(params) >= 2:
            self._registered[ident] = params[0], params[1:]
            return servo.block()
        if instruction == ACTION:
            if ident in self._registered:
                servo.write(*self._registered.pop(ident))
            return servo.block()
        return None

    def _sync_read(self, params: bytes, now_ns: int) -> Reply | None:
        if len(params) < 3:
            return None
        self._last_read = params
        self.mark(now_ns)
        blocks = []
        for ident in params[2:]:
            servo = self.listening(ident, now_ns)
            if servo is None:
                break  # each waits for the one before; that a gap silences the rest is our reading
            blocks.append(servo.read(params[0], params[1]))
        return Reply(blocks, is_sample=True)

    def sample_again(self, now_ns: int) -> Reply | None:
        """The last sync read, as it is now."""
        return self._sync_read(self._last_read, now_ns) if self._last_read else None

    def _sync_write(self, params: bytes, now_ns: int) -> None:
        if len(params) < 3:
            return
        address, length = params[0], params[1]
        self.counters.writes += 1
        for at in range(2, len(params) - length, length + 1):
            servo = self.listening(params[at], now_ns)
            if servo is not None:
                data = params[at + 1 : at + 1 + length]
                self.note_write(servo.id, address, data)
                servo.write(address, data)


_GROUP: dict[int, Callable[[FeetechBus, bytes, int], Reply | None]] = {
    SYNC_READ: FeetechBus._sync_read,
    SYNC_WRITE: FeetechBus._sync_write,
}
