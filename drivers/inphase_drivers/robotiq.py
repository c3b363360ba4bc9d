"""Robotiq 2F-85, 2F-140 and Hand-E grippers on a serial port (Modbus RTU).

The sensor reads three registers from 2000 on (function 3). The actuator writes three from 1000 on
(function 16), which the gripper confirms. The device counts 0 as open and 255 as closed. A schedule
has metres of opening: 0 is closed.

Source: Robotiq, 2F-85 and 2F-140 instruction manual, "Control"; pyrobotiqgripper 3.3.14.
"""

import os
import select
import termios
import time
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import msgspec
import serial
from msgspec import Meta

from inphase.driver import (
    Acquire,
    ActuatorSpec,
    Bound,
    Check,
    CheckKind,
    DeviceError,
    Driver,
    Encoding,
    Exchange,
    Field,
    Framing,
    Raw,
    Reply,
    SensorSpec,
    Servo,
    Stop,
    TwinChannel,
    TwinKind,
    Value,
)
from inphase.packets import Parser, RefusedReply, checksum
from inphase.serial_port import hand_over, open_port
from inphase.serial_sensor import SerialOptions

CRC = "CRC-16/MODBUS"
STROKE_M = {"2F-85": 0.085, "2F-140": 0.140, "Hand-E": 0.050}
_READ, _WRITE, _REFUSED = 0x03, 0x10, 0x80
_STATUS_AT, _COMMAND_AT, _COUNT = 2000, 1000, 3
_ACTIVATE, _GO = 0x01, 0x08  # bits of the action byte
_IS_ACTIVE, _ACTIVE_BITS = 0x31, 0x31  # gACT, and gSTA at 3
_AMPERE_PER_COUNT = 0.01
_ANSWER_S = 0.3
_TRIES = 3
_ACTIVATION_S = 10.0
_POLL_S = 0.02

FAULTS = {
    0x05: ("it was told to move before it was activated", "activate = true"),
    0x07: ("it is not activated", "activate = true"),
    0x08: ("it is too hot", "let it cool down"),
    0x09: ("it heard nothing for a second", "check its cable"),
    0x0A: ("its supply is below its least voltage", "check the supply"),
    0x0B: ("its automatic release is in progress", "wait for its end"),
    0x0C: ("an internal fault", "switch its power off and on"),
    0x0D: ("its activation failed", "take out what is between its fingers, and activate it again"),
    0x0E: ("over-current", "take out what blocks it, and switch its power off and on"),
    0x0F: ("its automatic release is done", "switch its power off and on"),
}
_EXCEPTIONS = {1: "function", 2: "register", 3: "value"}


class GripperOptions(SerialOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    model: Literal["2F-85", "2F-140", "Hand-E"]
    """which gripper it is: that says its stroke"""
    stroke_m: Annotated[float, Meta(gt=0, le=0.5)] | None = None
    """the opening at the device's 0, in place of the model's: with other fingers"""
    unit: Annotated[int, Meta(ge=1, le=247)] = 9
    """its Modbus address"""
    speed: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """part of its largest speed, with which it follows"""
    force: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """part of its largest force"""
    activate: bool = False
    """`enable` may activate it, which opens and closes it fully"""
    turn_us: Annotated[int, Meta(ge=0, le=50_000)] = 1_500
    """what it may take to begin a reply"""
    reply_max_us: Annotated[int, Meta(ge=1_000, le=1_000_000)] = 20_000
    """how long after a trigger its reply may end, adapter included"""
    start_position: float = 0.0
    """where the simulated twin starts, m of opening"""

    @property
    def stroke(self) -> float:
        """The largest opening, m."""
        return STROKE_M[self.model] if self.stroke_m is None else self.stroke_m

    @property
    def scale(self) -> float:
        """Metres of opening of one count, which is below 0: the device counts the closing."""
        return -self.stroke / 255


def framed(body: bytes) -> bytes:
    """A Modbus RTU packet with its checksum."""
    return body + checksum(CRC, body).to_bytes(2, "little")


def write_of(unit: int, action: int, position: int, speed: int, force: int) -> bytes:
    """The packet that writes the command's registers, without its checksum."""
    head = bytes([unit, _WRITE, *_COMMAND_AT.to_bytes(2, "big"), 0, _COUNT, 2 * _COUNT])
    return head + bytes([action, 0, 0, position, speed, force])


class Gripper(Driver):
    """A gripper: opening, current and what its fingers found; it follows an opening."""

    Options: ClassVar[type[msgspec.Struct]] = GripperOptions

    def __init__(self, name: str, options: GripperOptions) -> None:
        super().__init__(name, options)
        self.options: GripperOptions = options
        self._serial: serial.Serial | None = None
        self._goal_m: float | None = None

    @property
    def address(self) -> str:
        """The port's path."""
        return os.path.abspath(self.options.port)  # noqa: PTH100 - resolves no link

    @property
    def switching_max_ns(self) -> int:
        """The activation takes seconds."""
        return int((_ACTIVATION_S + 5.0) * 1e9)

    # ---- what the core runs --------------------------------------------------------------

    def _framing(self) -> Framing:
        sizes = {_READ: 5 + 2 * _COUNT, _WRITE: 8, _READ | _REFUSED: 5, _WRITE | _REFUSED: 5}
        return Framing(5, 11, start=bytes([self.options.unit]), sizes=sizes, size_offset=1)

    def _reply(self, *more: Check) -> Reply:
        """Unit, 3, 6, status, 0, fault, requested position, position, current, CRC."""
        scale, stroke = self.options.scale, self.options.stroke
        return Reply(
            values=(
                Value(7, Raw.U8, 0, scale, stroke),
                Value(8, Raw.U8, 1, _AMPERE_PER_COUNT),
                Value(3, Raw.U2_HIGH, 2),
                Value(6, Raw.U8, 3, scale, stroke),
            ),
            checks=(
                Check(CheckKind.CHECKSUM, -2, checksum=CRC),
                Check(CheckKind.ZERO, 1, mask=_REFUSED, number=2),
                Check(CheckKind.MATCH, 1, expect=_READ),
                *more,
            ),
        )

    def _exchange(self) -> Exchange:
        options, char_ns = self.options, self.options.char_ns
        head = bytes([options.unit, _READ, *_STATUS_AT.to_bytes(2, "big"), 0, _COUNT])
        return Exchange(
            request=framed(head),
            framing=self._framing(),
            replies=(
                self._reply(
                    Check(CheckKind.ZERO, 5, mask=0x0F),
                    Check(CheckKind.MATCH, 3, mask=_ACTIVE_BITS, expect=_IS_ACTIVE),
                ),
            ),
            answers=(
                Reply(
                    (),
                    (
                        Check(CheckKind.CHECKSUM, -2, checksum=CRC),
                        Check(CheckKind.MATCH, 1, expect=_WRITE),
                    ),
                ),
            ),
            request_ns=8 * char_ns,
            reply_ns=options.turn_us * 1000 + 11 * char_ns,
            reply_max_ns=options.reply_max_us * 1000,
            acquire=Acquire.MIDDLE,
        )

    def sensor(self) -> SensorSpec:
        """`position` in m of opening, `current` in A, `object`, and `goal`, the requested opening.

        `object` is 0 in motion, 1 and 2 at an object found while opening and closing, 3 at the
        goal.
        """
        exchange = self._exchange()
        return SensorSpec(
            fields=(
                Field("position", "m", (1,)),
                Field("current", "A", (1,)),
                Field("object", "1", (1,)),
                Field("goal", "m", (1,)),
            ),
            exchange=exchange,
            twin=(
                TwinChannel(TwinKind.POSITION, 0, noise=abs(self.options.scale) / 2),
                TwinChannel(noise=_AMPERE_PER_COUNT / 2),
                TwinChannel(base=3.0),
                TwinChannel(TwinKind.POSITION, 0),
            ),
            twin_latency_ns=exchange.request_ns + exchange.reply_ns,
            twin_jitter_ns=200_000,
        )

    def actuator(self) -> ActuatorSpec:
        """The opening in m, 0 is closed."""
        options, char_ns = self.options, self.options.char_ns
        stroke = options.stroke
        packet = self._command(0)
        where = f"{options.model}: metres of opening, 0 is closed and {stroke:g} is open"
        half = abs(options.scale) / 2
        return ActuatorSpec(
            channels=1,
            unit="m",
            bounds=(Bound(-half, stroke + half, where),),
            encoding=Encoding(
                packet=packet,
                values=(Value(10, Raw.U8, 0, options.scale, stroke),),
                framing=Framing(len(packet) + 2, len(packet) + 2),
                checksum=CRC,
                # until it has confirmed it
                write_ns=(len(packet) + 2 + 8) * char_ns + options.turn_us * 1000,
            ),
            servos=(Servo(options.start_position, velocity_max=0.15, acceleration_max=2.0),),
            stop=Stop(gap_ns=options.turn_us * 1000 + 11 * char_ns),
        )

    def _command(self, position: int, action: int = _ACTIVATE | _GO) -> bytes:
        options = self.options
        speed, force = round(255 * options.speed), round(255 * options.force)
        return write_of(options.unit, action, position, speed, force)

    # ---- off the cycle thread ------------------------------------------------------------

    def open(self) -> int:
        """Open the port, and see that a gripper answers there. Raises DeviceError."""
        options = self.options
        self._serial = open_port(self.name, options.port, options.baud, character=options.character)
        try:
            hand_over(self._serial)
            self._status()
            return self._serial.fileno()
        except BaseException:
            self.close()
            raise

    def _status(self) -> bytes:
        """Status, 0, fault, requested position, position and current. Raises DeviceError."""
        packet = self._ask(self._exchange().request, Reply((), self._reply().checks))
        return packet[3:9]

    def _write(self, packet: bytes) -> None:
        """Write the command's registers, confirmed. Raises DeviceError."""
        self._ask(framed(packet), Reply((), self._exchange().answers[0].checks))

    def _ask(self, request: bytes, reply: Reply) -> bytes:
        """One transaction, by a few tries; the whole reply. Raises DeviceError."""
        options = self.options
        trouble = "no answer"
        for _ in range(_TRIES):
            try:
                packet = self._exchange_once(request, reply)
                if packet is not None:
                    return packet
            except RefusedReply as refused:
                trouble = f"{refused.reason} ({refused.detail}) in its reply"
            except (OSError, termios.error) as error:
                trouble = str(error)
        raise DeviceError(
            f"device {self.name}: {options.port} at {options.baud} baud, {options.character}, "
            f"unit {options.unit}: {trouble}; is it the gripper, has it power, and are these its "
            f"baud rate, parity, stop bits and unit?"
        )

    def _exchange_once(self, request: bytes, reply: Reply) -> bytes | None:
        """The reply's bytes; None: it did not come whole. Raises RefusedReply, OSError."""
        assert self._serial is not None
        fd, data = self._serial.fileno(), b""
        parser = Parser.of_packets(self._framing(), reply)
        termios.tcflush(fd, termios.TCIFLUSH)
        os.write(fd, request)
        until = time.monotonic() + _ANSWER_S
        while (left := until - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
            part = os.read(fd, 256)
            if not part:
                raise OSError("it hung up")
            data += part
            if parser.feed(part) is not None:
                at = data.index(bytes([self.options.unit]))
                return data[at:]
        return None

    def enable(self) -> None:
        """Make it follow, from where it is; one that holds something keeps its goal.

        A gripper that is not active is activated where the schedule allows it.
        """
        status = self._status()
        if status[0] & _ACTIVE_BITS != _IS_ACTIVE:
            status = self._activate()
        self._check_fault(status)
        goes = status[0] & _GO
        goal = status[3] if goes else status[4]
        self._write(self._command(goal))
        self._expect(lambda s: bool(s[0] & _GO) and s[3] == goal, f"its goal is not {goal}")
        self._goal_m = goal * self.options.scale + self.options.stroke

    def _activate(self) -> bytes:
        """Its fingers open and close. Raises DeviceError."""
        if not self.options.activate:
            raise DeviceError(
                f"device {self.name} ({self.options.port}): it is not activated, and its "
                f"activation opens and closes it fully. Take out what is between its fingers, then "
                f"activate = true in [device.{self.name}]"
            )
        self._write(self._command(0, action=0))
        self._write(self._command(0, action=_ACTIVATE))
        return self._expect(
            lambda s: s[0] & _ACTIVE_BITS == _IS_ACTIVE, "it is not active", _ACTIVATION_S
        )

    def _expect(
        self, holds: Callable[[bytes], bool], trouble: str, wait_s: float = _ANSWER_S
    ) -> bytes:
        """Wait until its status is so. Raises DeviceError."""
        until = time.monotonic() + wait_s
        while not holds(status := self._status()):
            if time.monotonic() > until:
                self._check_fault(status)
                raise DeviceError(
                    f"device {self.name} ({self.options.port}): {trouble} after {wait_s:g} s, its "
                    f"status is {status.hex(' ')}; take out what blocks its fingers, and switch "
                    f"its power off and on"
                )
            time.sleep(_POLL_S)
        return status

    def _check_fault(self, status: bytes) -> None:
        """Raise DeviceError where it has a fault, by its name."""
        code = status[2] & 0x0F
        if code:
            name, remedy = FAULTS.get(code, ("a fault that the manual does not name", "see it"))
            raise DeviceError(
                f"device {self.name} ({self.options.port}): {name} (gFLT is {code:#04x}); {remedy}"
            )

    def goals(self) -> tuple[float, ...]:
        """The opening that it was told, m."""
        return () if self._goal_m is None else (self._goal_m,)

    def torque(self) -> tuple[bool | None, ...]:
        """True while it follows a goal, which it holds after `close`, too. None: no answer."""
        try:
            return (bool(self._status()[0] & _GO),)
        except DeviceError:
            return (None,)

    def disable(self) -> None:
        """It stops where it is and holds on; read back. It stays active."""
        status = self._status()
        self._write(self._command(status[3], action=status[0] & _ACTIVATE))
        self._expect(lambda s: not s[0] & _GO, "it still follows")

    def meaning(self, detail: int) -> str:
        """A fault, or the code with which it refuses a request."""
        if detail in _EXCEPTIONS:
            return f"it refuses the request's {_EXCEPTIONS[detail]} (Modbus exception {detail})"
        return FAULTS.get(detail & 0x0F, ("a fault that the manual does not name", ""))[0]

    def faults(self) -> list[str]:
        """Its fault, by its name."""
        try:
            self._check_fault(self._status())
        except DeviceError as error:
            return [str(error)]
        return []

    def close(self) -> None:
        """Close the port. A gripper that follows holds its last goal."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None
