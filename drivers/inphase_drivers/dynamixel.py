"""DYNAMIXEL X-series servos on one serial bus, Protocol 2.0 (ROBOTIS e-manual, Protocol 2.0).

The sensor reads position, velocity and current of all servos with one fast sync read (0x8A, one
packet, cumulative CRC per servo, not stuffed) or sync read (0x82, one stuffed packet per servo).
The actuator writes goals of position, velocity or current (e-manual, XM430-W350, Operating Mode 3,
1, 0) with one sync write (0x83), which no servo answers.
"""

import math
import os
import termios
import time
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import serial
from msgspec import Meta

from inphase.driver import (
    Acquire,
    ActuatorSpec,
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
    Watchdog,
)
from inphase.packets import Parser, RefusedReply, crc16, escape
from inphase.serial_port import hand_over, open_port

_START = b"\xff\xff\xfd\x00"
_BROADCAST = 0xFE
_READ, _WRITE, _STATUS = 0x02, 0x03, 0x55
_SYNC_READ, _SYNC_WRITE, _FAST_SYNC_READ = 0x82, 0x83, 0x8A

# control table of the X series (e-manual, XM430-W350, Control Table)
_BAUD_RATE, _RETURN_DELAY, _OPERATING_MODE = 8, 9, 11
_TORQUE_ENABLE, _STATUS_RETURN_LEVEL, _HARDWARE_ERROR = 64, 68, 70
_BUS_WATCHDOG = 98
_WATCHDOG_UNIT_MS = 20
_CURRENT_LIMIT, _VELOCITY_LIMIT = 38, 44
_GOAL_CURRENT, _GOAL_VELOCITY, _GOAL_POSITION = 102, 104, 116
_PRESENT_CURRENT, _PRESENT_POSITION = 126, 132
_BAUD_INDEX = {
    9_600: 0,
    57_600: 1,
    115_200: 2,
    1_000_000: 3,
    2_000_000: 4,
    3_000_000: 5,
    4_000_000: 6,
    4_500_000: 7,
}

_BLOCK = 10  # current (2), velocity (4), position (4), in this order from address 126
_RAD_PER_COUNT = 2 * math.pi / 4096
_RAD_S_PER_COUNT = 0.229 * 2 * math.pi / 60
_A_PER_COUNT = 2.69e-3
_CENTRE = 2048
_REPLY_S = 0.2
_TRIES = 3
_TURN_NS = 50_000  # what a servo may take to begin its reply, beside its return delay of 0

_ESCAPING = Framing(
    min_size=10,
    max_size=1024,
    start=_START,
    length_offset=5,
    length_size=2,
    length_add=7,
    escape=b"\xff\xff\xfd",
    escape_insert=0xFD,
    escape_from=7,
    escape_tail=2,
)


class _Goal(NamedTuple):
    """How a mode's goal is written."""

    operating_mode: int
    register: int
    type: Raw
    size: int
    scale: float
    zero: float
    limit: int
    """register of the largest |goal|, 0: it is not of one; a goal beyond it is refused, unsaid"""
    limit_size: int


_GOALS = {
    "position": _Goal(
        3, _GOAL_POSITION, Raw.I32, 4, _RAD_PER_COUNT, -_CENTRE * _RAD_PER_COUNT, 0, 0
    ),
    "velocity": _Goal(1, _GOAL_VELOCITY, Raw.I32, 4, _RAD_S_PER_COUNT, 0.0, _VELOCITY_LIMIT, 4),
    "effort": _Goal(0, _GOAL_CURRENT, Raw.I16, 2, _A_PER_COUNT, 0.0, _CURRENT_LIMIT, 2),
}


class ServoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    port: str
    ids: Annotated[list[Annotated[int, Meta(ge=0, le=252)]], Meta(min_length=1, max_length=20)]
    baud: Literal[57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000] = (
        4_000_000
    )
    read: Literal["fast", "sync"] = "fast"
    adapter_latency_us: Annotated[int, Meta(ge=0, le=20_000)] = 2_000
    """what the serial adapter may add to a reply, for the worst case"""
    watchdog_ms: Annotated[int, Meta(ge=0, le=2_540, multiple_of=20)] = 200
    """how long the bus may be silent before the servos stop by themselves; 0: they never do.
    Longer than two cycles, and than `resumed_after_ms` of the cycle"""
    start_position: float | list[float] = 0.0
    """where the simulated twin starts, rad"""
    torque_n_m_per_a: Annotated[float, Meta(gt=0)] | None = None
    """of the servos, for commands of effort in N m; left out: they are currents, in A"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"ids must be different from each other, got {self.ids}")
        start = self.start_position
        if isinstance(start, list) and len(start) != len(self.ids):
            raise ValueError(
                f"start_position: one number, or one per servo ({len(self.ids)}), expected, got "
                f"{start}"
            )


def _word(value: int, size: int = 2) -> bytes:
    return value.to_bytes(size, "little")


def _template(ident: int, instruction: int, parameters: bytes) -> bytes:
    """An instruction packet before stuffing, without checksum."""
    return _START + bytes([ident]) + _word(len(parameters) + 3) + bytes([instruction]) + parameters


def packet(ident: int, instruction: int, parameters: bytes = b"") -> bytes:
    """An instruction packet as it goes on the wire: stuffed, with length and CRC.

    Source: e-manual, Protocol 2.0, "Processing Order of Transmission".
    """
    body = escape(
        Framing(
            min_size=10,
            max_size=1024,
            escape=_ESCAPING.escape,
            escape_insert=_ESCAPING.escape_insert,
            escape_from=_ESCAPING.escape_from,
        ),
        _template(ident, instruction, parameters),
    )
    body = body[:5] + _word(len(body) - 5) + body[7:]
    return body + _word(crc16(body))


class Servos(Driver):
    """Servos on one bus: sensor with position, velocity, current; actuator in three modes."""

    Options: ClassVar[type[msgspec.Struct]] = ServoOptions
    modes = ("position", "velocity", "effort")

    def __init__(self, name: str, options: ServoOptions) -> None:
        super().__init__(name, options)
        self.options: ServoOptions = options
        self._serial: serial.Serial | None = None
        self._goals: tuple[float, ...] = ()
        self._ours: set[int] = set()  # enabled by us, and not known to be off since
        self._spared: set[int] = set()  # held before an `enable` that failed
        self._limits: list[int] = []  # raw, of each servo's goal; known once it was opened

    @property
    def address(self) -> str:
        """The port's path."""
        return os.path.abspath(self.options.port)  # noqa: PTH100 - resolves no link

    # ---- what the core runs --------------------------------------------------------------

    def _wire_ns(self, size: int) -> int:
        """Time of bytes on the wire: start bit, 8 data bits, stop bit."""
        return size * 10 * 1_000_000_000 // self.options.baud

    def sensor(self) -> SensorSpec:
        """Position in rad, velocity in rad/s, current in A, one per servo in `ids` order."""
        n = len(self.options.ids)
        fields = (
            Field("position", "rad", (n,)),
            Field("velocity", "rad/s", (n,)),
            Field("current", "A", (n,)),
        )
        twin = (
            *(TwinChannel(TwinKind.POSITION, i, noise=_RAD_PER_COUNT / 2) for i in range(n)),
            *(TwinChannel(TwinKind.VELOCITY, i, noise=_RAD_S_PER_COUNT / 2) for i in range(n)),
            *(
                TwinChannel(TwinKind.ACCELERATION, i, gain=0.01, noise=_A_PER_COUNT)
                for i in range(n)
            ),
        )
        exchange = self._exchange()
        return SensorSpec(
            fields=fields,
            exchange=exchange,
            twin=twin,
            twin_latency_ns=exchange.request_ns + exchange.reply_ns + 100_000,
            twin_jitter_ns=50_000,
            per_joint=("position", "velocity", "current"),
        )

    def _exchange(self) -> Exchange:
        ids = self.options.ids
        fast = self.options.read == "fast"
        instruction = _FAST_SYNC_READ if fast else _SYNC_READ
        request = packet(
            _BROADCAST, instruction, _word(_PRESENT_CURRENT) + _word(_BLOCK) + bytes(ids)
        )
        reply_bytes = 8 + len(ids) * (_BLOCK + 4) if fast else len(ids) * (_BLOCK + 11)
        request_ns = self._wire_ns(len(request))
        worst_bytes = reply_bytes if fast else len(ids) * (_BLOCK + 11 + _BLOCK // 3)
        reply_ns = self._wire_ns(reply_bytes)
        return Exchange(
            request=request,
            framing=self._fast_framing() if fast else self._sync_framing(),
            replies=(self._fast_reply(),) if fast else self._sync_replies(),
            request_ns=request_ns,
            reply_ns=reply_ns,
            reply_max_ns=request_ns
            + self._wire_ns(worst_bytes)
            + self.options.adapter_latency_us * 1000,
            # all bytes pass the one pair of wires; an adapter's clock is right to a few percent
            reply_min_ns=(request_ns + reply_ns) * 9 // 10,
            # return delay is 0: the servos take their values when the request has arrived
            acquire=Acquire.AFTER_TRIGGER,
            acquire_ns=request_ns,
        )

    def _values(self, servo: int, at: int) -> tuple[Value, ...]:
        n = len(self.options.ids)
        centre = -_CENTRE * _RAD_PER_COUNT
        return (
            Value(at + 6, Raw.I32, servo, _RAD_PER_COUNT, centre),
            Value(at + 2, Raw.I32, n + servo, _RAD_S_PER_COUNT),
            Value(at, Raw.I16, 2 * n + servo, _A_PER_COUNT),
        )

    def _fast_framing(self) -> Framing:
        size = 8 + len(self.options.ids) * (_BLOCK + 4)
        return Framing(
            min_size=size,
            max_size=size,
            start=_START,
            length_offset=5,
            length_size=2,
            length_add=7,
        )

    def _fast_reply(self) -> Reply:
        """One packet; per servo: error, id, data, CRC over everything before it."""
        checks = [
            Check(CheckKind.MATCH, 4, expect=_BROADCAST),
            Check(CheckKind.MATCH, 7, expect=_STATUS),
        ]
        values: list[Value] = []
        for servo, ident in enumerate(self.options.ids):
            at = 8 + servo * (_BLOCK + 4)
            checks += [
                Check(CheckKind.CRC16, at + 2 + _BLOCK),
                Check(CheckKind.MATCH, at + 1, expect=ident),
                Check(CheckKind.ZERO, at),
            ]
            values += self._values(servo, at + 2)
        return Reply(values=tuple(values), checks=tuple(checks))

    def _sync_framing(self) -> Framing:
        return Framing(
            min_size=11,
            max_size=_BLOCK + 11 + _BLOCK // 3,
            start=_START,
            length_offset=5,
            length_size=2,
            length_add=7,
            escape=_ESCAPING.escape,
            escape_insert=_ESCAPING.escape_insert,
            escape_from=_ESCAPING.escape_from,
            escape_tail=_ESCAPING.escape_tail,
        )

    def _sync_replies(self) -> tuple[Reply, ...]:
        return tuple(
            Reply(
                values=self._values(servo, 9),
                checks=(
                    Check(CheckKind.CRC16_END),
                    Check(CheckKind.MATCH, 4, expect=ident),
                    Check(CheckKind.MATCH, 7, expect=_STATUS),
                    Check(CheckKind.ZERO, 8),
                ),
                size=_BLOCK + 11,
            )
            for servo, ident in enumerate(self.options.ids)
        )

    @property
    def _goal(self) -> _Goal:
        return _GOALS[self.mode]

    @property
    def _unit(self) -> str:
        if self.mode == "effort":
            return "A" if self.options.torque_n_m_per_a is None else "N m"
        return {"position": "rad", "velocity": "rad/s"}[self.mode]

    @property
    def _scale(self) -> float:
        """The actuator's unit per count of its goal."""
        per_a = self.options.torque_n_m_per_a if self.mode == "effort" else None
        return self._goal.scale * (1.0 if per_a is None else per_a)

    def actuator(self) -> ActuatorSpec:
        """Goals of the mode, one per servo in `ids` order: rad, rad/s, or A (N m)."""
        goal = self._goal
        parameters = _word(goal.register) + _word(goal.size)
        values = []
        for servo, ident in enumerate(self.options.ids):
            parameters += bytes([ident])
            values.append(Value(8 + len(parameters), goal.type, servo, self._scale, goal.zero))
            parameters += bytes(goal.size)
        template = _template(_BROADCAST, _SYNC_WRITE, parameters)
        exchange = self._exchange()
        start = self.options.start_position
        starts = start if isinstance(start, list) else [start] * len(self.options.ids)
        return ActuatorSpec(
            channels=len(self.options.ids),
            unit=self._unit,
            largest=tuple(limit * self._scale for limit in self._limits),
            encoding=Encoding(
                packet=template,
                values=tuple(values),
                framing=Framing(
                    min_size=10,
                    max_size=1024,
                    length_offset=5,
                    length_size=2,
                    length_add=7,
                    escape=_ESCAPING.escape,
                    escape_insert=_ESCAPING.escape_insert,
                    escape_from=_ESCAPING.escape_from,
                ),
                crc16=True,
                write_ns=self._wire_ns(len(template) + 2),
            ),
            servos=tuple(Servo(start=position) for position in starts),
            # fed by every instruction on the bus, whichever servo it is for
            watchdog=Watchdog(
                self.options.watchdog_ms * 1_000_000, fed_by_reads=True, verified=True
            )
            if self.options.watchdog_ms
            else None,
            # the last goals again, once no reply can be on the one pair of wires any more; a packet
            # that was flushed in the middle swallows the first of them, at most
            stop=Stop(gap_ns=exchange.request_ns + exchange.reply_ns + _TURN_NS),
        )

    # ---- off the cycle thread ------------------------------------------------------------

    def open(self) -> int:
        """Open the port and check every servo: that it answers, and the registers that matter."""
        self._serial = open_port(self.name, self.options.port, self.options.baud)
        try:
            for ident in self.options.ids:
                self._check_servo(ident)
            goal = self._goal
            if goal.limit:
                self._limits = [
                    self._read(ident, goal.limit, goal.limit_size) for ident in self.options.ids
                ]
        except BaseException:
            self.close()
            raise
        return hand_over(self._serial)

    def _check_servo(self, ident: int) -> None:
        self._expect(ident, "baud rate", _BAUD_RATE, _BAUD_INDEX[self.options.baud])
        self._expect(ident, "status return level", _STATUS_RETURN_LEVEL, 2)
        self._expect(ident, "hardware error status", _HARDWARE_ERROR, 0)
        delay = self._read(ident, _RETURN_DELAY, 1)
        if delay != 0:
            if self._read(ident, _TORQUE_ENABLE, 1):
                raise self._refusal(ident, "return delay time", _RETURN_DELAY, delay, 0)
            self._write(ident, _RETURN_DELAY, 0, 1)
            self._expect(ident, "return delay time", _RETURN_DELAY, 0)

    def _refusal(
        self, ident: int, what: str, register: int, value: int, wanted: int
    ) -> DeviceError:
        return DeviceError(
            f"device {self.name}: servo {ident} on {self.options.port}: register {register} "
            f"({what}) is {value}, needed is {wanted}; set it with DYNAMIXEL Wizard or a "
            f"torque-off write"
        )

    def _expect(self, ident: int, what: str, register: int, wanted: int) -> None:
        value = self._read(ident, register, 1)
        if value != wanted:
            raise self._refusal(ident, what, register, value, wanted)

    def enable(self) -> None:
        """Operating mode, goal at the measured position or at none, torque on, watchdog; read back.

        A servo that holds is never let go: one whose torque is on in another mode is refused before
        anything is written, one in position mode keeps its goal, which carries its load. A watchdog
        that has expired refuses goals and every value but 0 (e-manual, Bus Watchdog). Where it
        fails, what held goes on holding, and the others are off.
        """
        holding = self._find_holding()
        for ident in holding:
            self._refuse_to_let_go(ident)
        try:
            self._enable(holding)
        except BaseException:
            self._switch_off(ident for ident in self.options.ids if ident not in holding)
            raise
        self._ours = set(self.options.ids)
        self._spared.clear()

    def _find_holding(self) -> set[int]:
        """The servos whose torque is on. Raises DeviceError after all were asked."""
        holding, silent = set(), None
        for ident in self.options.ids:
            try:
                if self._read(ident, _TORQUE_ENABLE, 1):
                    holding.add(ident)
            except DeviceError as error:
                silent = error
        self._spared = holding - self._ours
        if silent is not None:
            raise silent
        return holding

    def _enable(self, holding: set[int]) -> None:
        goal = self._goal
        for ident in self.options.ids:
            self._write(ident, _BUS_WATCHDOG, 0, 1)
            self._expect(ident, "bus watchdog", _BUS_WATCHDOG, 0)
            if self._read(ident, _OPERATING_MODE, 1) != goal.operating_mode:
                self._write(ident, _OPERATING_MODE, goal.operating_mode, 1)
                self._expect(ident, "operating mode", _OPERATING_MODE, goal.operating_mode)
        goals = []
        for ident in self.options.ids:
            if ident in holding and self.mode == "position":
                goals.append(self._read(ident, goal.register, goal.size))
                continue
            begin = 0
            if self.mode == "position":
                begin = self._read(ident, _PRESENT_POSITION, 4)
            self._write(ident, goal.register, begin, goal.size)
            found = self._read(ident, goal.register, goal.size)
            if found != begin:
                raise self._refusal(ident, f"goal {self.mode}", goal.register, found, begin)
            goals.append(begin)
        for ident in self.options.ids:
            if ident not in holding:
                self._write(ident, _TORQUE_ENABLE, 1, 1)
            self._expect(ident, "torque enable", _TORQUE_ENABLE, 1)
        units = self.options.watchdog_ms // _WATCHDOG_UNIT_MS
        for ident in self.options.ids if units else ():
            self._write(ident, _BUS_WATCHDOG, units, 1)
            self._expect(ident, "bus watchdog", _BUS_WATCHDOG, units)
        self._goals = tuple(raw * goal.scale + goal.zero for raw in goals)

    def _refuse_to_let_go(self, ident: int) -> None:
        """Raises DeviceError where a servo that holds would have to be let go for this mode."""
        mode = self._read(ident, _OPERATING_MODE, 1)
        current = self.mode == "effort" and self._read(ident, _GOAL_CURRENT, 2)
        if mode == self._goal.operating_mode and not current:
            return
        found = f"goal current {current}" if current else f"operating mode {mode}"
        raise DeviceError(
            f"device {self.name}: servo {ident} on {self.options.port} holds with its torque on in "
            f"{found}, and would have to let go to be used for {self.mode}; support the arm, "
            f"switch its torque off (register {_TORQUE_ENABLE} to 0), start again"
        )

    def goals(self) -> tuple[float, ...]:
        """In position mode the goals in the servos' registers, in rad."""
        return self._goals if self.mode == "position" else ()

    def disable(self) -> None:
        """Torque off, and the watchdog with it; read back. One servo that does not answer keeps no
        other on: all are tried, and all troubles are raised at the end. What held before an
        `enable` that failed goes on holding."""
        troubles = self._switch_off(
            ident for ident in self.options.ids if ident not in self._spared
        )
        if troubles:
            raise DeviceError("; ".join(troubles))

    def _switch_off(self, idents: Iterable[int]) -> list[str]:
        """Try all; the troubles."""
        troubles = []
        for ident in idents:
            try:
                self._write(ident, _TORQUE_ENABLE, 0, 1)
                self._expect(ident, "torque enable", _TORQUE_ENABLE, 0)
                self._ours.discard(ident)
                self._write(ident, _BUS_WATCHDOG, 0, 1)
            except DeviceError as error:
                troubles.append(str(error))
        return troubles

    @property
    def switching_max_ns(self) -> int:
        """Each servo may be silent, for one question; what answers takes a millisecond or two."""
        silent_s = len(self.options.ids) * _TRIES * _REPLY_S
        return max(super().switching_max_ns, int((silent_s + 1.0) * 1e9))

    def close(self) -> None:
        """Close the port."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    # ---- registers -----------------------------------------------------------------------

    def _read(self, ident: int, register: int, size: int) -> int:
        """An unsigned register (4 bytes: signed)."""
        kind = {1: Raw.U8, 2: Raw.U16, 4: Raw.I32}[size]
        reply = self._transact(
            ident, packet(ident, _READ, _word(register) + _word(size)), Value(9, kind, 0), size
        )
        return int(reply)

    def _write(self, ident: int, register: int, value: int, size: int) -> None:
        data = value.to_bytes(size, "little", signed=value < 0)
        self._transact(ident, packet(ident, _WRITE, _word(register) + data), None, 0)

    def _transact(self, ident: int, request: bytes, value: Value | None, size: int) -> float:
        """Send an instruction to one servo and wait for its status packet."""
        trouble = "no answer"
        for _ in range(_TRIES):
            try:
                return self._try(ident, request, value, size)
            except RefusedReply as refused:
                trouble = f"{refused.reason} {refused.detail:#x} in its reply"
            except TimeoutError:
                trouble = "no answer"
            except (OSError, serial.SerialException, termios.error) as error:
                raise DeviceError(
                    f"device {self.name}: {self.options.port} failed: {error}; check the cable"
                ) from error
        raise DeviceError(
            f"device {self.name}: servo {ident} on {self.options.port} at {self.options.baud} "
            f"baud: {trouble} to {_TRIES} requests; check power, wiring, id and baud rate"
        )

    def _try(self, ident: int, request: bytes, value: Value | None, size: int) -> float:
        assert self._serial is not None
        reply = Reply(
            values=(value,) if value else (),
            checks=(
                Check(CheckKind.CRC16_END),
                Check(CheckKind.MATCH, 4, expect=ident),
                Check(CheckKind.MATCH, 7, expect=_STATUS),
                Check(CheckKind.ZERO, 8, mask=0x7F),
            ),
            size=size + 11,
        )
        parser = Parser(Exchange(b"", _ESCAPING, (reply,), 0, 0, 0), 1)
        self._serial.reset_input_buffer()
        self._serial.write(request)
        until = time.monotonic() + _REPLY_S
        while time.monotonic() < until:
            values = parser.feed(self._serial.read(max(1, self._serial.in_waiting)))
            if values is not None:
                return values[0]
        raise TimeoutError
