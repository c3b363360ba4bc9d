"""DYNAMIXEL Protocol 2.0 servos (X series) on one half-duplex bus.

Sources: ROBOTIS e-manual, "DYNAMIXEL Protocol 2.0" (Instruction Details) and "XM430-W350"
(Control Table). Where the manual is silent the choice is in a comment.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .arm import Joints
from .faults import BLOCK_FAULTS, BYTE_FAULTS, Fault, Faults
from .packets import (
    BROADCAST_ID,
    Block,
    Request,
    chain_packet,
    status_packet,
    take_request,
)
from .port import Port
from .registers import (
    BAUD_OF_REGISTER,
    SIZE,
    Address,
    ErrorNumber,
)
from .servo import Servo
from .wire import NEVER_NS, Wire

if TYPE_CHECKING:  # it imports the middleware's world, which only a simulated run needs
    from .world import WorldJoints

PING, READ, WRITE, REG_WRITE, ACTION, REBOOT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x08
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A

_RETURN_DELAY_UNIT_NS = 2_000
_REBOOT_NS = 200_000_000  # a servo that reboots is deaf for so long; the manual gives no time
_GAP_NS = 5_000_000  # a request that pauses for longer is given up
_IDLE_NS = 20_000_000  # how often the joints move on without requests
_UNATTENDED_NS = 5_000_000  # how often to look whether the host has opened the port
_JOURNAL_MAX = 100
_HEARD_MAX = 200
_SAMPLES_MAX = 1000
_MARK_MAX = 30_000  # the register has 16 bits and a sign
_REPLY_FAULTS = frozenset(("silent", "late", "split", *BLOCK_FAULTS, *BYTE_FAULTS))


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


class _Reply(NamedTuple):
    """The answer of the bus: the servos' blocks, and how they become packets."""

    blocks: list[Block]
    asked: int = 0  # fast sync read: how many servos share the one packet; 0: a packet each
    data_length: int = 0
    is_sample: bool = False  # of all servos, as a cycle asks for it


@dataclass
class Counters:
    """Counts of the traffic on the bus since the start."""

    bytes: int = 0
    requests: int = 0
    replies: int = 0
    writes: int = 0  # instructions that change registers
    crc_errors: int = 0
    baud_mismatches: int = 0


class ServoBus:
    """The servos of one schedule device, behind a pseudo-terminal. Opened by whoever makes it.

    world: the joints that they turn in a simulated world, instead of joints of their own.
    """

    def __init__(
        self, options: BusOptions, now_ns: int, world: "WorldJoints | None" = None
    ) -> None:
        self.joints: Joints = world or Joints(len(options.ids), now_ns)
        self._draws = world.draws if world is not None else None
        self.servos = [
            Servo(dxl_id, joint, self.joints, model)
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
        self.counters = Counters()
        self._wire_time = options.wire_time
        self._wire = Wire(10_000_000_000 // options.baud if options.wire_time else 0)
        self._port = Port(options.port)
        self._inbox = bytearray()
        self._heard_ns = now_ns  # when bytes last came
        self._asked_ns = now_ns  # when the last instruction packet was complete
        self._tick_ns = now_ns  # when to move the joints on, or look at the port, without requests
        self._line_baud = 0
        self._faults = Faults(_REPLY_FAULTS)
        self._unknown: set[object] = set()  # instructions that the servos do not know
        self._journal: list[tuple[int, int, str]] = []  # the first writes: id, address, hex
        self._heard: deque[tuple[int, int, int, str]] = deque(maxlen=_HEARD_MAX)
        self._marks = False  # present currents say the number of their sample
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_MAX)  # number, when asked
        self._last_read = (b"", False)  # of all servos: parameters, in one packet or not
        self._port.open()

    def fileno(self) -> int:
        """The descriptor to wait on; -1 while the port is closed or nobody has opened it."""
        return self._port.fd if self._port.attended else -1

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        return min(self._wire.due_ns, self._tick_ns)

    def close(self) -> None:
        """Close the port and remove its link."""
        self._port.close()

    def on_readable(self) -> None:
        """Take what the host wrote and plan the replies."""
        data = self._port.read()
        if data:
            self.hear(data, self._port.baud(), time.monotonic_ns())

    def hear(self, data: bytearray, line_baud: int, now_ns: int) -> None:
        """Take bytes that came at `now_ns` at `line_baud`, and plan the replies to them."""
        self.counters.bytes += len(data)
        self._line_baud = line_baud
        if all(servo.baud != line_baud for servo in self.servos):
            self.counters.baud_mismatches += 1
            return
        if self._wire_time:
            self._wire.byte_ns = 10_000_000_000 // line_baud
        if now_ns - self._heard_ns > _GAP_NS:
            self._inbox.clear()
        self._heard_ns = now_ns
        self._wire.hear(data, now_ns)
        self._inbox += data
        self._answer_inbox(now_ns)
        self._deliver(now_ns)

    def work(self, now_ns: int) -> None:
        """Deliver what is due, move the joints on, see whether the host is there."""
        self._deliver(now_ns)
        if now_ns < self._tick_ns:
            return
        self._advance(now_ns)
        self._tick_ns = now_ns + _IDLE_NS
        if self._port.fd >= 0 and not self._port.attended:
            self.on_readable()
            if not self._port.attended:
                self._tick_ns = now_ns + _UNATTENDED_NS

    def control(self, request: dict[str, object]) -> dict[str, object]:
        """Do what the control channel asks. Raises ValueError for what makes no sense."""
        if "set" in request:
            self._set(request["set"])
        if "fault" in request:
            name = request["fault"]
            plain = {
                "close": self._hang_up,
                "reopen": self._port.open,
                "clear": self._clear,
                "stall": self._port.stall,
            }
            if isinstance(name, str) and name in plain:
                plain[name]()
            elif name in {"off", "on"}:
                self._switch(request, name == "off")
            elif name == "unknown":  # as firmware that is older than an instruction
                self._unknown.add(request.get("instruction"))
            else:
                self._faults.turn_on(request)
        if "flood" in request:
            self._flood(request["flood"])
        self._tick_ns = 0
        if "samples" in request:  # the last ones: number, and when they were asked for
            return {**self.status(), "samples": list(self._samples)}
        if "heard" in request:  # the last instructions: when, to whom, which, parameters
            return {**self.status(), "heard": list(self._heard)}
        return self.status()

    def status(self) -> dict[str, object]:
        """Joint state in SI, the counters, and the first writes to registers in their order."""
        self._advance(time.monotonic_ns())
        joints = self.joints
        return {
            "position": joints.position,
            "velocity": joints.velocity,
            "current": joints.current,
            "goal": joints.goal,
            "torque": [servo.registers.memory[Address.TORQUE_ENABLE] for servo in self.servos],
            "watchdog": [servo.registers.memory[Address.BUS_WATCHDOG] for servo in self.servos],
            "counters": {**vars(self.counters), "collisions": self._wire.collisions},
            "journal": self._journal,
        }

    # requests -------------------------------------------------------------------------------

    def _answer_inbox(self, now_ns: int) -> None:
        while (request := take_request(self._inbox)) is not None:
            # what is left behind the request went out after it: it meets the reply
            complete_ns = max(self._wire.host_until_ns, now_ns)
            complete_ns -= len(self._inbox) * self._wire.byte_ns
            self._advance(complete_ns)
            self._asked_ns = complete_ns
            self.counters.requests += 1
            told = request.id, request.instruction, request.params.hex()
            self._heard.append((now_ns, *told))
            reply = self._handle(request, complete_ns)
            if reply is not None and reply.blocks:
                self._say(reply, complete_ns)
                if self._inbox:
                    self._wire.collide(self._inbox, complete_ns)

    def _handle(self, request: Request, now_ns: int) -> _Reply | None:
        if not request.crc_ok:
            self.counters.crc_errors += 1
            servo = self._listening(request.id, now_ns)
            return _Reply([servo.block(ErrorNumber.CRC)]) if servo else None
        if request.instruction in self._unknown:
            return None
        group = _GROUP.get(request.instruction)
        if request.id == BROADCAST_ID and group is not None:
            return group(self, request.params, now_ns)
        blocks = []
        for servo in self.servos:
            if not self._hears(servo, now_ns):
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
        return _Reply(blocks)

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
            self._note_write(servo.id, _word(params, 0), params[2:])
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

    def _sync_read(self, params: bytes, now_ns: int) -> _Reply | None:
        return self._group_read(params, now_ns, chain=False)

    def _fast_sync_read(self, params: bytes, now_ns: int) -> _Reply | None:
        return self._group_read(params, now_ns, chain=True)

    def _group_read(self, params: bytes, now_ns: int, *, chain: bool) -> _Reply | None:
        if len(params) < 5:
            return None
        address, length = _word(params, 0), _word(params, 2)
        if chain and length > SIZE:
            return None  # the manual is silent; what is longer than the table has no block
        self._last_read = params, chain
        self._mark(now_ns)
        blocks: list[Block] = []
        for dxl_id in params[4:]:
            servo = self._listening(dxl_id, now_ns)
            if servo is None or not servo.registers.memory[Address.STATUS_RETURN_LEVEL]:
                break  # each waits for the one before; that a gap silences the rest is our reading
            block = servo.read(address, length, now_ns)
            if chain and not block.data:
                block = block._replace(data=bytes(length))  # the shared packet has no other length
            blocks.append(block)
        return _Reply(blocks, len(params) - 4 if chain else 0, length, is_sample=True)

    def _mark(self, now_ns: int) -> None:
        """Number a sample of the servos, where that was asked for."""
        if not self._marks:
            return
        number = (self._samples[-1][0] + 1) % _MARK_MAX if self._samples else 0
        self._samples.append((number, now_ns))
        for servo in self.servos:
            servo.current_raw = number

    def _flood(self, count: object) -> None:
        """Say so many samples as they were asked for last, all at once."""
        params, chain = self._last_read
        if not isinstance(count, int) or not params:
            raise ValueError(f"flood must be an integer, after a sync read, got {count!r}")
        for _ in range(count):
            reply = self._group_read(params, time.monotonic_ns(), chain=chain)
            assert reply is not None
            for packet in _packets(reply, reply.blocks):
                self._port.write(packet)

    def _sync_write(self, params: bytes, now_ns: int) -> None:
        if len(params) < 5:
            return
        address, length = _word(params, 0), _word(params, 2)
        self.counters.writes += 1
        for at in range(4, len(params) - length, length + 1):
            servo = self._listening(params[at], now_ns)
            if servo is not None:
                data = params[at + 1 : at + 1 + length]
                self._note_write(servo.id, address, data)
                servo.write(address, data)

    def _note_write(self, dxl_id: int, address: int, data: bytes) -> None:
        if len(self._journal) < _JOURNAL_MAX:
            self._journal.append((dxl_id, address, data.hex()))

    def _listening(self, dxl_id: int, now_ns: int) -> Servo | None:
        for servo in self.servos:
            if servo.id == dxl_id and self._hears(servo, now_ns):
                return servo
        return None

    def _hears(self, servo: Servo, now_ns: int) -> bool:
        return servo.baud == self._line_baud and servo.deaf_until_ns <= now_ns

    # replies --------------------------------------------------------------------------------

    def _say(self, reply: _Reply, complete_ns: int) -> None:
        """Put a reply on the wire behind its request, spoilt by the faults that are on."""
        faults = self._faults.take() if self._faults else ()
        is_lost = reply.is_sample and self._draws is not None and self._draws.is_lost()
        if is_lost or any(fault.name == "silent" for fault in faults):
            return
        blocks = reply.blocks
        for fault in faults:
            if fault.name in BLOCK_FAULTS and fault.servo < len(blocks):
                blocks = BLOCK_FAULTS[fault.name](blocks, fault)
        packets = _packets(reply, blocks)
        start_ns = complete_ns
        if reply.is_sample and self._draws is not None and self._draws.is_timed:
            wire_ns = sum(map(len, packets)) * self._wire.byte_ns
            start_ns = max(start_ns, self._heard_ns + self._draws.latency_ns() - wire_ns)
        start_ns += sum(1_000 * fault.arg for fault in faults if fault.name == "late")
        split_ns = sum(1_000 * fault.arg for fault in faults if fault.name == "split")
        for packet, block in zip(packets, blocks, strict=False):
            spoilt = _spoil(packet, faults) if faults else packet
            start_ns += self._return_delay_ns(block.id)
            start_ns = self._say_packet(spoilt, start_ns, split_ns)
            self.counters.replies += 1

    def _say_packet(self, packet: bytearray, start_ns: int, split_ns: int) -> int:
        if not split_ns:
            return self._wire.say(packet, start_ns)
        half = len(packet) // 2
        middle_ns = self._wire.say(packet[:half], start_ns)
        return self._wire.say(packet[half:], middle_ns + split_ns)

    def _return_delay_ns(self, dxl_id: int) -> int:
        if not self._wire_time:
            return 0
        for servo in self.servos:
            if servo.id == dxl_id:
                return servo.registers.memory[Address.RETURN_DELAY] * _RETURN_DELAY_UNIT_NS
        return 0

    def _deliver(self, now_ns: int) -> None:
        while (data := self._wire.take(now_ns)) is not None:
            self._port.write(data)

    # time -----------------------------------------------------------------------------------

    def _advance(self, to_ns: int) -> None:
        """Move the joints on to `to_ns`, with the bus watchdogs that expire on the way."""
        for servo in self.servos:
            expires_ns = self._asked_ns + servo.watchdog_ns()
            if expires_ns < to_ns:
                self.joints.advance(expires_ns)
                servo.expire()
        self.joints.advance(to_ns)

    # control --------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        self._wire.clear()
        self._inbox.clear()
        self._port.close()

    def _clear(self) -> None:
        self._faults.clear()
        self._unknown.clear()
        self._port.go_on()
        for servo in self.servos:
            servo.deaf_until_ns = 0

    def _switch(self, request: dict[str, object], off: bool) -> None:
        index = request.get("servo", 0)
        if not isinstance(index, int) or not 0 <= index < len(self.servos):
            raise ValueError(f"servo must be 0..{len(self.servos) - 1}, got {index!r}")
        self.servos[index].deaf_until_ns = NEVER_NS if off else 0

    def _set(self, values: object) -> None:
        if not isinstance(values, dict):
            raise ValueError(f"set must be an object, got {values!r}")
        for name, value in values.items():
            if name == "marks":
                self._marks = bool(value)
            elif name == "register":
                servo = self.servos[value["servo"]]
                servo.registers.put(value["address"], value["value"])
            elif name in {"position", "velocity_raw", "current_raw"} and isinstance(value, list):
                if len(value) != len(self.servos):
                    raise ValueError(f"{name} must have {len(self.servos)} values")
                for servo, one in zip(self.servos, value, strict=True):
                    if name == "position":
                        servo.jump(float(one))
                    else:
                        setattr(servo, name, None if one is None else _signed(one, name))
            else:
                raise ValueError(
                    f"set knows position, velocity_raw, current_raw, register, marks: {name}"
                )


def _packets(reply: _Reply, blocks: list[Block]) -> list[bytearray]:
    """The bytes of a reply: a packet for each servo, or one for all."""
    if reply.asked:
        return [chain_packet(blocks, reply.asked, reply.data_length)]
    return [status_packet(block) for block in blocks]


def _word(params: bytes, at: int) -> int:
    return params[at] | params[at + 1] << 8


def _signed(value: object, name: str) -> int:
    limit = 2**15 if name == "current_raw" else 2**31
    if not isinstance(value, int) or not -limit <= value < limit:
        raise ValueError(f"{name} must be {-limit}..{limit - 1} or null, got {value!r}")
    return value


def _spoil(packet: bytearray, faults: list[Fault] | tuple[()]) -> bytearray:
    for fault in faults:
        if fault.name in BYTE_FAULTS:
            packet = BYTE_FAULTS[fault.name](packet, fault)
    return packet


# the status return level from which an instruction is answered (default: 2)
_LEVEL = {PING: 0, READ: 1}

_GROUP: dict[int, Callable[[ServoBus, bytes, int], _Reply | None]] = {
    SYNC_READ: ServoBus._sync_read,
    FAST_SYNC_READ: ServoBus._fast_sync_read,
    SYNC_WRITE: ServoBus._sync_write,
}
