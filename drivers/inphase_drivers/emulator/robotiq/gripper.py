"""A Robotiq 2F gripper that answers by Modbus RTU: activation, fingers, an object between them.

Source: Robotiq, 2F-85 and 2F-140 instruction manual, "Control". Where it is silent the choice is in
a comment.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inphase.packets import checksum

from ..port import Port

if TYPE_CHECKING:  # only a simulated run needs the middleware's world
    from ..world import WorldJoints

CRC = "CRC-16/MODBUS"
STROKE_M = {"2F-85": 0.085, "2F-140": 0.140, "Hand-E": 0.050}
COMMAND_AT, STATUS_AT, REGISTERS = 1000, 2000, 3
ACTIVATE, GO = 0x01, 0x08
_READS, _WRITE_ONE, _WRITE, _BOTH = (3, 4), 6, 16, 23
_FUNCTION, _ADDRESS, _VALUE = 1, 2, 3  # exception codes
_TICK_NS = 2_000_000
_SLOWEST, _FASTEST = 60.0, 450.0  # counts per second, from 20 and 150 mm/s of a 2F-85
_OPEN, _CLOSED = 3.0, 230.0  # counts at which its fingers stand at their ends
_ACTIVATION_S = 0.5  # shorter than a real one, which takes two or more
_MOVING_COUNTS = 20.0  # of the current, while it moves
_TURN_NS = 1_000_000


@dataclass(frozen=True)
class GripperBusOptions:
    """The schedule's options of one gripper."""

    port: Path
    unit: int
    stroke: float
    char_ns: int
    wire_time: bool


class Fingers:
    """Position in counts (0 open), and what they do about the command."""

    def __init__(self) -> None:
        self.command = [0] * 6
        self.position = _OPEN
        self.found = 0
        """gOBJ: 0 in motion, 1 and 2 at an object while opening and closing, 3 at the goal"""
        self.status = 0
        """gSTA: 0 reset, 1 in activation, 3 active"""
        self.fault = 0
        self.object: float | None = None
        """the position at which an object stops the fingers on their way to"""
        self.speed = 0.0
        """counts per second"""
        self.activations = 0
        self._active_at_s = 0.0

    @property
    def target(self) -> float:
        """In counts, within its ends."""
        return min(max(float(self.command[3]), _OPEN), _CLOSED)

    def write(self, command: list[int], now_s: float) -> None:
        """A new command: six bytes. A rising edge of activation begins it."""
        was_on = self.command[0] & ACTIVATE
        if (command[0] & GO) and self.status != 3 and not command[0] & ACTIVATE:
            self.fault = 0x07
        self.command = list(command)
        if not command[0] & ACTIVATE:
            self.status, self.fault = 0, 0
        elif not was_on or self.status == 0:
            self.status, self.fault = 1, 0
            self.activations += 1
            self._active_at_s = now_s + _ACTIVATION_S

    def step(self, now_s: float, seconds: float) -> None:
        """Go on by that time."""
        if self.status == 1 and now_s >= self._active_at_s:
            self.status, self.position = 3, _OPEN
        self.speed = 0.0
        if self.status != 3 or not self.command[0] & GO or self.fault >= 0x0C:
            return
        before = self.position
        self._approach(seconds)
        self.speed = (self.position - before) / seconds if seconds > 0 else 0.0

    def _approach(self, seconds: float) -> None:
        """Go towards the target, up to an object."""
        speed = _SLOWEST + (_FASTEST - _SLOWEST) * self.command[4] / 255
        way, most = self.target - self.position, speed * seconds
        self.found = 0
        if abs(way) <= most:
            self.position, self.found = self.target, 3
        else:
            self.position += most if way > 0 else -most
        if self.object is not None and way > 0 and self.position >= self.object:
            self.position, self.found = self.object, 2

    def report(self) -> list[int]:
        """The six bytes of its status."""
        bits = self.command[0] & (ACTIVATE | GO) | self.status << 4 | self.found << 6
        moves = self.status == 3 and self.found == 0 and self.command[0] & GO
        current = _MOVING_COUNTS if moves else 0.0
        return [bits, 0, self.fault, self.command[3], round(self.position), round(current)]


class GripperBus:
    """One gripper behind a pseudo-terminal. Opened by whoever makes it.

    world: a joint of a simulated world, whose position is the opening in m.
    """

    def __init__(
        self, options: GripperBusOptions, now_ns: int, world: "WorldJoints | None" = None
    ) -> None:
        self._options = options
        self._world = world
        self._now_ns = now_ns
        self._due_ns = now_ns
        self._inbox = bytearray()
        self._answers: list[tuple[int, bytes]] = []  # with the time at which each is on the line
        self._free_ns = 0
        self.fingers = Fingers()
        self.asked = 0
        self.silent = self.garbles = False
        self.port = Port(options.port)
        self.port.open()

    def fileno(self) -> int:
        """The descriptor to wait on; -1 while nobody has opened the port."""
        return self.port.fd if self.port.attended else -1

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        return min([self._due_ns, *(at for at, _ in self._answers)])

    def close(self) -> None:
        """Hang up."""
        self.port.close()

    def on_readable(self) -> None:
        """Take requests, and answer."""
        if self.port.fd < 0:
            return
        self._inbox += self.port.read()
        now_ns = time.monotonic_ns()
        self._move(now_ns)
        while (request := self._take_request()) is not None:
            self._free_ns = max(self._free_ns, now_ns)
            if self._options.wire_time:
                self._free_ns += len(request) * self._options.char_ns + _TURN_NS
            answer = self._answer(request, now_ns * 1e-9)
            if answer is None or self.silent:
                continue
            body = bytearray(answer + checksum(CRC, answer).to_bytes(2, "little"))
            if self.garbles:
                body[-1] ^= 0x5A
            if self._options.wire_time:
                self._free_ns += len(body) * self._options.char_ns
            self._answers.append((self._free_ns, bytes(body)))
        self._say(time.monotonic_ns())

    def _say(self, now_ns: int) -> None:
        while self._answers and self._answers[0][0] <= now_ns:
            self.port.write(self._answers.pop(0)[1])

    def work(self, now_ns: int) -> None:
        """Move the fingers on, and say what is due."""
        self.on_readable()
        self._move(now_ns)
        self._say(now_ns)
        self._due_ns = now_ns + _TICK_NS

    def _move(self, now_ns: int) -> None:
        seconds, self._now_ns = max(0, now_ns - self._now_ns) * 1e-9, now_ns
        self.fingers.step(now_ns * 1e-9, seconds)
        if self._world is not None:
            self._move_world(now_ns)

    def _move_world(self, now_ns: int) -> None:
        """The world's joint follows the opening, and its position is the fingers'."""
        from ..arm import Drive

        assert self._world is not None
        scale = -self._options.stroke / 255
        if self.fingers.status == 3 and self.fingers.command[0] & GO:
            self._world.drive[0] = Drive.POSITION
            self._world.goal[0] = self.fingers.command[3] * scale + self._options.stroke
        self._world.advance(now_ns)
        self.fingers.position = (self._world.position[0] - self._options.stroke) / scale

    def _take_request(self) -> bytes | None:
        """The first whole request of this unit with a right checksum; others are dropped."""
        while len(self._inbox) >= 8:
            if self._inbox[0] == self._options.unit:
                size = _request_size(self._inbox)
                if len(self._inbox) < size:
                    return None
                packet = bytes(self._inbox[:size])
                if checksum(CRC, packet[:-2]) == int.from_bytes(packet[-2:], "little"):
                    del self._inbox[:size]
                    return packet
            del self._inbox[0]
        return None

    def _answer(self, request: bytes, now_s: float) -> bytes | None:
        """The answer's bytes, without a checksum."""
        unit, function = request[0], request[1]
        words = [
            int.from_bytes(request[at : at + 2], "big") for at in range(2, len(request) - 3, 2)
        ]
        if function in _READS:
            self.asked += 1
            found = self._registers(words[0], words[1])
        elif function == _WRITE_ONE:
            found = self._write(words[0], request[4:6], now_s)
            return request[:6] if found is not None else bytes([unit, function | 0x80, _ADDRESS])
        elif function == _WRITE:
            found = self._write(words[0], request[7:-2], now_s)
            return request[:6] if found is not None else bytes([unit, function | 0x80, _ADDRESS])
        elif function == _BOTH:
            written = self._write(words[2], request[11:-2], now_s)
            found = None if written is None else self._registers(words[0], words[1])
        else:
            return bytes([unit, function | 0x80, _FUNCTION])
        if found is None:
            return bytes([unit, function | 0x80, _ADDRESS])
        return bytes([unit, function, len(found)]) + found

    def _registers(self, at: int, count: int) -> bytes | None:
        """Bytes of its status or of its command."""
        for base, data in (
            (STATUS_AT, self.fingers.report()),
            (COMMAND_AT, self.fingers.command),
        ):
            if base <= at and at + count <= base + REGISTERS and count > 0:
                return bytes(data[2 * (at - base) : 2 * (at - base + count)])
        return None

    def _write(self, at: int, data: bytes, now_s: float) -> bytes | None:
        start = 2 * (at - COMMAND_AT)
        if not 0 <= start < start + len(data) <= 2 * REGISTERS or len(data) % 2:
            return None
        command = list(self.fingers.command)
        command[start : start + len(data)] = data
        self.fingers.write(command, now_s)
        return data

    def control(self, request: dict[str, Any]) -> dict[str, object]:
        """Do what the control channel asks. Raises KeyError, ValueError for what makes no sense.

        `object` (a count at which fingers that close are stopped, or null), `fault` (gFLT),
        `power` (false: it forgets its activation), `active` (true: somebody has activated it),
        `silent`, `garble` (true, false), `port` (true, false): plug its adapter in or out.
        """
        fingers = self.fingers
        if "object" in request:
            fingers.object = request["object"]
        if "fault" in request:
            fingers.fault = int(request["fault"])
        if request.get("power") is False:
            self.fingers = Fingers()
            self.fingers.position, self.fingers.object = fingers.position, fingers.object
        if request.get("active") is True:
            self.fingers.command[0], self.fingers.status = ACTIVATE, 3
        self.silent = bool(request.get("silent", self.silent))
        self.garbles = bool(request.get("garble", self.garbles))
        if request.get("port") is True:
            self.port.open()
        if request.get("port") is False:
            self.port.close()
        self._move(time.monotonic_ns())
        fingers = self.fingers
        return {
            "position": fingers.position,
            "speed": fingers.speed,
            "report": fingers.report(),
            "command": fingers.command,
            "activations": fingers.activations,
            "asked": self.asked,
        }


def _request_size(packet: bytearray) -> int:
    """Bytes of the request at the front, of which eight are here."""
    if packet[1] == _WRITE:
        return 9 + packet[6]
    if packet[1] == _BOTH:
        return 13 + packet[10] if len(packet) > 10 else 13
    return 8
