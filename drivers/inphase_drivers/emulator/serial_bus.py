"""A half-duplex serial bus of emulated servos: what is the same whatever protocol they speak."""

import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .arm import Joints
from .faults import BLOCK_FAULTS, BYTE_FAULTS, Fault, Faults
from .instruction import Block, Request
from .port import Port
from .wire import NEVER_NS, Wire

if TYPE_CHECKING:  # it imports the middleware's world, which only a simulated run needs
    pass

_GAP_NS = 5_000_000  # a request that pauses for longer is given up
_IDLE_NS = 20_000_000  # how often the joints move on without requests
_UNATTENDED_NS = 5_000_000  # how often to look whether the host has opened the port
_JOURNAL_MAX = 100
_HEARD_MAX = 200
_SAMPLES_MAX = 1000
_MARK_MAX = 30_000  # the register has 15 bits and a sign
_REPLY_FAULTS = frozenset(("silent", "late", "split", *BLOCK_FAULTS, *BYTE_FAULTS))


class Reply(NamedTuple):
    """The answer of the bus: the servos' blocks, and how they become packets."""

    blocks: list[Block]
    asked: int = 0  # fast sync read: how many servos share the one packet; 0: a packet each
    data_length: int = 0
    is_sample: bool = False  # of all servos, as a cycle asks for it


class Listener(ABC):
    """One servo on the bus, as the bus sees it."""

    baud = 0  # the speed it listens at, whatever its register claims
    deaf_until_ns = 0

    @property
    @abstractmethod
    def id(self) -> int:
        """The number that it answers to."""

    @property
    @abstractmethod
    def return_delay_ns(self) -> int:
        """How long it waits before an answer."""

    @property
    @abstractmethod
    def torque(self) -> int:
        """Its torque register."""

    @abstractmethod
    def mark(self, number: int) -> None:
        """Say a number in place of a value of its samples."""

    @abstractmethod
    def put_register(self, address: int, value: int) -> None:
        """Set a register, as the control channel asks, whatever protects it."""

    @abstractmethod
    def put_raw(self, name: str, value: int | None) -> None:
        """Report a value as it is, until None. Raises ValueError for one that it has not."""

    @abstractmethod
    def jump(self, position: float) -> None:
        """Put the joint at `position` [rad] at rest, as a hand would with the torque off."""


@dataclass
class Counters:
    """Counts of the traffic on the bus since the start."""

    bytes: int = 0
    requests: int = 0
    replies: int = 0
    writes: int = 0  # instructions that change registers
    crc_errors: int = 0
    baud_mismatches: int = 0


class SerialBus(ABC):
    """The servos of one schedule device, behind a pseudo-terminal. Opened by whoever makes it.

    world: the joints that they turn in a simulated world, instead of joints of their own.
    """

    servos: list[Any]
    raw_values: tuple[str, ...]
    """the values that the control channel can have reported as they are"""

    def __init__(
        self,
        port: Path,
        baud: int,
        wire_time: bool,
        joints: Joints,
        now_ns: int,
    ) -> None:
        self.joints = joints
        self._draws: Any = getattr(joints, "draws", None)
        self.counters = Counters()
        self._wire_time = wire_time
        self._wire = Wire(10_000_000_000 // baud if wire_time else 0)
        self._port = Port(port)
        self._inbox = bytearray()
        self._heard_ns = now_ns  # when bytes last came
        self.asked_ns = now_ns  # when the last instruction packet was complete
        self._tick_ns = now_ns  # when to move the joints on, or look at the port, without requests
        self._line_baud = 0
        self._faults = Faults(_REPLY_FAULTS)
        self.unknown: set[object] = set()  # instructions that the servos do not know
        self._journal: list[tuple[int, int, str]] = []  # the first writes: id, address, hex
        self._heard: deque[tuple[int, int, int, str]] = deque(maxlen=_HEARD_MAX)
        self._marks = False  # a value of each sample says its number
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_MAX)  # number, when asked
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
        self.advance(now_ns)
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
                self.unknown.add(request.get("instruction"))
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
        self.advance(time.monotonic_ns())
        joints = self.joints
        return {
            "position": joints.position,
            "velocity": joints.velocity,
            "current": joints.current,
            "goal": joints.goal,
            "torque": [servo.torque for servo in self.servos],
            "counters": {**vars(self.counters), "collisions": self._wire.collisions},
            "journal": self._journal,
        }

    # the protocol ---------------------------------------------------------------------------

    @abstractmethod
    def take_request(self, inbox: bytearray) -> Request | None:
        """Take the first whole instruction out of the bytes that came."""

    @abstractmethod
    def handle(self, request: Request, now_ns: int) -> Reply | None:
        """Do what an instruction asks."""

    @abstractmethod
    def packets(self, reply: Reply, blocks: list[Block]) -> list[bytearray]:
        """The bytes of a reply."""

    @abstractmethod
    def sample_again(self, now_ns: int) -> Reply | None:
        """The sample of all servos that was asked for last, as it is now; None: none was."""

    # requests -------------------------------------------------------------------------------

    def _answer_inbox(self, now_ns: int) -> None:
        while (request := self.take_request(self._inbox)) is not None:
            # what is left behind the request went out after it: it meets the reply
            complete_ns = max(self._wire.host_until_ns, now_ns)
            complete_ns -= len(self._inbox) * self._wire.byte_ns
            self.advance(complete_ns)
            self.asked_ns = complete_ns
            self.counters.requests += 1
            told = request.id, request.instruction, request.params.hex()
            self._heard.append((now_ns, *told))
            reply = self.handle(request, complete_ns)
            if reply is not None and reply.blocks:
                self._say(reply, complete_ns)
                if self._inbox:
                    self._wire.collide(self._inbox, complete_ns)

    def mark(self, now_ns: int) -> None:
        """Number a sample of the servos, where that was asked for."""
        if not self._marks:
            return
        number = (self._samples[-1][0] + 1) % _MARK_MAX if self._samples else 0
        self._samples.append((number, now_ns))
        for servo in self.servos:
            servo.mark(number)

    def _flood(self, count: object) -> None:
        """Say so many samples as they were asked for last, all at once."""
        if not isinstance(count, int):
            raise ValueError(f"flood must be an integer, got {count!r}")
        for _ in range(count):
            reply = self.sample_again(time.monotonic_ns())
            if reply is None:
                raise ValueError("flood wants a sync read before it")
            for packet in self.packets(reply, reply.blocks):
                self._port.write(packet)

    def note_write(self, dxl_id: int, address: int, data: bytes) -> None:
        if len(self._journal) < _JOURNAL_MAX:
            self._journal.append((dxl_id, address, data.hex()))

    def listening(self, dxl_id: int, now_ns: int) -> Any:
        for servo in self.servos:
            if servo.id == dxl_id and self.hears(servo, now_ns):
                return servo
        return None

    def hears(self, servo: Listener, now_ns: int) -> bool:
        return servo.baud == self._line_baud and servo.deaf_until_ns <= now_ns

    # replies --------------------------------------------------------------------------------

    def _say(self, reply: Reply, complete_ns: int) -> None:
        """Put a reply on the wire behind its request, spoilt by the faults that are on."""
        faults = self._faults.take() if self._faults else ()
        is_lost = reply.is_sample and self._draws is not None and self._draws.is_lost()
        if is_lost or any(fault.name == "silent" for fault in faults):
            return
        blocks = reply.blocks
        for fault in faults:
            if fault.name in BLOCK_FAULTS and fault.servo < len(blocks):
                blocks = BLOCK_FAULTS[fault.name](blocks, fault)
        packets = self.packets(reply, blocks)
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

    def _return_delay_ns(self, ident: int) -> int:
        if self._wire_time:
            for servo in self.servos:
                if servo.id == ident:
                    return int(servo.return_delay_ns)
        return 0

    def _deliver(self, now_ns: int) -> None:
        while (data := self._wire.take(now_ns)) is not None:
            self._port.write(data)

    def advance(self, to_ns: int) -> None:
        """Move the joints on to `to_ns`."""
        self.joints.advance(to_ns)

    # control --------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        self._wire.clear()
        self._inbox.clear()
        self._port.close()

    def _clear(self) -> None:
        self._faults.clear()
        self.unknown.clear()
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
                self.servos[value["servo"]].put_register(value["address"], value["value"])
            elif name in {"position", *self.raw_values} and isinstance(value, list):
                if len(value) != len(self.servos):
                    raise ValueError(f"{name} must have {len(self.servos)} values")
                for servo, one in zip(self.servos, value, strict=True):
                    if name == "position":
                        servo.jump(float(one))
                    else:
                        servo.put_raw(name, one)
            else:
                known = ", ".join(("position", *self.raw_values, "register", "marks"))
                raise ValueError(f"set knows {known}: {name}")


def _spoil(packet: bytearray, faults: list[Fault] | tuple[()]) -> bytearray:
    for fault in faults:
        if fault.name in BYTE_FAULTS:
            packet = BYTE_FAULTS[fault.name](packet, fault)
    return packet
