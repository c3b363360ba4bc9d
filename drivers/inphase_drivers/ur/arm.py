"""An arm of Universal Robots: RTDE streams its state, and a program on its controller moves it.

Source: Universal Robots, "Real-Time Data Exchange (RTDE) Guide", "Dashboard Server", and the script
manual's `servoj`, `speedj`, `stopj` and `rtde_set_watchdog`.
"""

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Callable
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from inphase.driver import (
    ActuatorSpec,
    Check,
    CheckKind,
    Clock,
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
    StopKind,
    TwinChannel,
    TwinKind,
    Value,
    Watchdog,
)

from .messages import VERSION, Kind, Link, NotRtdeError, pack
from .program import JOINTS, NUMBERS, REGISTER, program, servoj, speedj

OUTPUTS = {
    "timestamp": "DOUBLE",
    "actual_q": "VECTOR6D",
    "actual_qd": "VECTOR6D",
    "actual_current": "VECTOR6D",
    "robot_mode": "INT32",
    "safety_status_bits": "UINT32",
    "runtime_state": "UINT32",
    f"output_int_register_{REGISTER}": "INT32",
}
GOALS = {f"input_double_register_{REGISTER + n}": "DOUBLE" for n in range(JOINTS)}
GO_ON = {f"input_int_register_{REGISTER}": "INT32"}

_RECIPE = 1  # a controller counts the recipes of a connection from 1 on
_GO_ON_RECIPE = 2
_PACKET = struct.Struct(">HBBd6d6d6diIIi")
_MODE, _STATE, _ANSWER = -4, -2, -1  # of a packet's values: robot_mode, runtime_state, register
_START = struct.pack(">HBB", _PACKET.size, Kind.DATA, _RECIPE)
_TIME, _POSITION, _VELOCITY, _CURRENT = 4, 12, 60, 108
_SAFETY = 160
_GOALS = struct.Struct(">HBB6d")
_RUNNING = 7  # of robot_mode: powered, brakes released
_PROGRAM_ENDED = 1  # of runtime_state
_STOPPED_BITS = 0x7FC  # of safety_status_bits: protective stop to fault
_OLD_MAJOR, _OLD_HZ = 5, 125  # controllers before this version stream at this rate at most
_TIMEOUT_S = 1.0
_SWITCH_S = 2.0
_WAITING_MOST = 1000  # reads of what waits: no socket holds as much
SAFETY_BITS = {
    2: "protective stop",
    3: "recovery mode",
    4: "safeguard stop",
    5: "emergency stop of the system",
    6: "emergency stop of the robot",
    7: "emergency stop",
    8: "violation",
    9: "fault",
    10: "stopped for safety",
}
"""Bits of the safety status, as the guide names them."""


class ArmOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    host: str
    """its address on the network"""
    port: Annotated[int, Meta(ge=1, le=65535)] = 30004
    """of RTDE"""
    script_port: Annotated[int, Meta(ge=1, le=65535)] = 30002
    """of the secondary interface, which takes the program"""
    dashboard_port: Annotated[int, Meta(ge=1, le=65535)] = 29999
    """of the dashboard server, which is asked for the serial number"""
    rate_hz: Annotated[int, Meta(ge=1, le=500)] = 500
    """packets per second; 125 at most of a CB-series controller"""
    serial: str | None = None
    """the serial number that has to answer there; without it any arm does"""
    lookahead_ms: Annotated[float, Meta(ge=30, le=200)] = 50.0
    """of `servoj`: over how long it smooths"""
    gain: Annotated[float, Meta(ge=100, le=2000)] = 300.0
    """of `servoj`: how stiffly it follows"""
    acceleration: Annotated[float, Meta(ge=1, le=40)] = 20.0
    """of `speedj` in velocity mode, in rad/s^2: how hard it follows"""
    watchdog_ms: Annotated[int, Meta(ge=0, le=10_000)] = 200
    """without commands for so long the controller itself stops the arm; 0: it never does"""


class Arm(Driver):
    """Arm of Universal Robots (e-series, CB-series) over RTDE: position, velocity and current."""

    Options: ClassVar[type[msgspec.Struct]] = ArmOptions
    modes = ("position", "velocity")

    def __init__(self, name: str, options: ArmOptions) -> None:
        super().__init__(name, options)
        self.options: ArmOptions = options
        self._socket: socket.socket | None = None
        self._program = 0

    @property
    def address(self) -> str:
        """Host and port."""
        return f"tcp:{self.options.host}:{self.options.port}"

    def sensor(self) -> SensorSpec:
        """`position` (6) in rad, `velocity` (6) in rad/s, `current` (6) in A."""
        interval_ns = 1_000_000_000 // self.options.rate_hz
        values = tuple(
            Value(start + 8 * joint, Raw.F64, JOINTS * part + joint, big_endian=True)
            for part, start in enumerate((_POSITION, _VELOCITY, _CURRENT))
            for joint in range(JOINTS)
        )
        safe = Check(CheckKind.ZERO, _SAFETY, Raw.U32, mask=_STOPPED_BITS, big_endian=True)
        quantities = (TwinKind.POSITION, TwinKind.VELOCITY, TwinKind.ACCELERATION)
        return SensorSpec(
            fields=(
                Field("position", "rad", (JOINTS,)),
                Field("velocity", "rad/s", (JOINTS,)),
                Field("current", "A", (JOINTS,)),
            ),
            exchange=Exchange(
                request=b"",
                framing=Framing(min_size=_PACKET.size, max_size=_PACKET.size, start=_START),
                replies=(Reply(values, (safe,), _PACKET.size),),
                # the bits of a double that is not negative count up with it
                sequence=Value(_TIME, Raw.U64, 0, big_endian=True),
                clock=Clock(_TIME, Raw.F64, tick_ns=1, big_endian=True),
                interval_ns=interval_ns,
                request_ns=0,
                reply_ns=300_000,
                reply_min_ns=10_000,
                reply_max_ns=interval_ns,
            ),
            per_joint=("position", "velocity", "current"),
            twin=tuple(
                TwinChannel(kind, joint, gain=0.05 if kind == TwinKind.ACCELERATION else 1.0)
                for kind in quantities
                for joint in range(JOINTS)
            ),
            twin_latency_ns=300_000,
        )

    def actuator(self) -> ActuatorSpec:
        """Six positions in rad, as goals of `servoj`; or six velocities in rad/s, of `speedj`."""
        watchdog_ns = self.options.watchdog_ms * 1_000_000
        head = struct.pack(">HBB", _GOALS.size, Kind.DATA, _RECIPE)
        return ActuatorSpec(
            channels=JOINTS,
            unit="rad/s" if self.mode == "velocity" else "rad",
            servos=(Servo(velocity_max=3.14, acceleration_max=40.0),) * JOINTS,
            encoding=Encoding(
                packet=head + bytes(8 * JOINTS),
                values=tuple(Value(4 + 8 * n, Raw.F64, n, big_endian=True) for n in range(JOINTS)),
                framing=Framing(min_size=_GOALS.size, max_size=_GOALS.size, start=head),
                write_ns=20_000,
            ),
            watchdog=Watchdog(watchdog_ns) if watchdog_ns else None,
            stop=Stop(StopKind.BYTES, _go_on(0)),
        )

    # ---- opening ---------------------------------------------------------------------------

    def open(self) -> int:
        """Agree on version 2, on what is streamed and what is taken, and start the stream."""
        o = self.options
        self._check_serial()
        try:
            link = Link(o.host, o.port, _TIMEOUT_S)
        except OSError as error:
            raise self._trouble(f"{error}; check power, network and host") from error
        try:
            self._agree(link)
        except (NotRtdeError, struct.error, ValueError) as error:
            link.close()
            raise self._trouble(
                f"what answers is no controller with RTDE: {error}; give host and port of one"
            ) from error
        except OSError as error:
            link.close()
            raise self._trouble(f"{error}; check that RTDE is enabled on the arm") from error
        except BaseException:
            link.close()
            raise
        self._socket = link.socket
        try:
            self._newest()  # asked once for what every cycle waits for
        except BaseException:
            self.close()
            raise
        return self._socket.fileno()

    def _agree(self, link: Link) -> None:
        o = self.options
        if link.ask(Kind.PROTOCOL_VERSION, struct.pack(">H", VERSION)) != b"\1":
            raise self._trouble(
                f"its controller does not speak version {VERSION} of RTDE; install PolyScope 3.4 "
                f"or newer on it"
            )
        major, minor, _, _ = struct.unpack(">IIII", link.ask(Kind.CONTROLLER_VERSION))
        if major < _OLD_MAJOR and o.rate_hz > _OLD_HZ:
            raise self._trouble(
                f"controller {major}.{minor} streams at {_OLD_HZ} Hz at most, got rate_hz = "
                f"{o.rate_hz}; give rate_hz = {_OLD_HZ} in [device.{self.name}], and in [cycle]"
            )
        self._settle(link, Kind.OUTPUTS, OUTPUTS, _RECIPE)
        self._settle(link, Kind.INPUTS, GOALS, _RECIPE)
        self._settle(link, Kind.INPUTS, GO_ON, _GO_ON_RECIPE)
        if link.ask(Kind.START) != b"\1":
            raise self._trouble("its controller does not start the stream; restart the controller")

    def _settle(self, link: Link, kind: Kind, wanted: dict[str, str], recipe: int) -> None:
        """Agree on a recipe: the types of all that is named, and its number."""
        head = struct.pack(">d", self.options.rate_hz) if kind == Kind.OUTPUTS else b""
        answer = link.ask(kind, head + ",".join(wanted).encode("ascii"))
        types = answer[1:].decode("ascii").split(",")
        for (name, expected), found in zip(wanted.items(), types, strict=True):
            if found == "IN_USE":
                raise self._trouble(
                    f"another program has {name}; end it, or the fieldbus that uses the register"
                )
            if found != expected:
                raise self._trouble(
                    f"{name} is {found} and not {expected}; update PolyScope on the controller"
                )
        if answer[0] != recipe:
            raise self._trouble(
                f"its controller calls the recipe {answer[0]} and not {recipe}; restart it"
            )

    def _check_serial(self) -> None:
        o = self.options
        if o.serial is None:
            return
        try:
            with (
                socket.create_connection((o.host, o.dashboard_port), _TIMEOUT_S) as dashboard,
                dashboard.makefile("rw", encoding="ascii", errors="replace") as lines,
            ):
                lines.readline()  # its greeting
                lines.write("get serial number\n")
                lines.flush()
                found = lines.readline().strip()
        except OSError as error:
            raise self._trouble(
                f"no dashboard server on port {o.dashboard_port}: {error}; enable it, or remove "
                f"serial"
            ) from error
        if found != o.serial:
            raise self._trouble(
                f"the arm there has the serial number {found!r}, and serial is {o.serial!r}; "
                f"correct host, or serial"
            )

    def _trouble(self, text: str) -> DeviceError:
        return DeviceError(f"device {self.name} ({self.address}): {text}")

    # ---- switching -------------------------------------------------------------------------

    def enable(self) -> None:
        """Start a program where the arm stands; it says its number in an output register."""
        o, state = self.options, self._newest()
        if state[_MODE] != _RUNNING:
            raise self._trouble(
                f"robot_mode is {state[_MODE]} and not {_RUNNING}; power the arm on and release "
                f"its brakes"
            )
        still = (0.0,) * JOINTS if self.mode == "velocity" else state[4 : 4 + JOINTS]
        self._send(_GOALS.pack(_GOALS.size, Kind.DATA, _RECIPE, *still))
        self._program = 1 + secrets.randbelow(NUMBERS)
        self._send(_go_on(self._program))
        if self.mode == "velocity":
            follow = speedj(o.rate_hz, o.acceleration)
        else:
            follow = servoj(o.rate_hz, o.lookahead_ms / 1000, o.gain)
        text = program(self._program, follow, o.watchdog_ms)
        try:
            with socket.create_connection((o.host, o.script_port), _TIMEOUT_S) as secondary:
                secondary.sendall(text.encode("ascii"))
                self._wait("start", lambda state: state[_ANSWER] == self._program)
        except OSError as error:
            raise self._trouble(
                f"port {o.script_port} takes no program: {error}; put the arm into remote control"
            ) from error

    def disable(self) -> None:
        """Stop the program, which stops the arm. One that the controller has ended said nothing."""
        self._send(_go_on(0))
        self._wait("stop", lambda state: not state[_ANSWER] or state[_STATE] == _PROGRAM_ENDED)

    def torque(self) -> tuple[bool | None, ...]:
        """By the controller's mode: all joints have power, with their brakes released, or none."""
        if self._socket is not None:
            with contextlib.suppress(DeviceError):
                return (self._newest()[_MODE] == _RUNNING,) * JOINTS
        return (None,) * JOINTS

    def meaning(self, detail: int) -> str:
        """The bits of the safety status that stop the arm."""
        return ", ".join(text for bit, text in SAFETY_BITS.items() if detail >> bit & 1)

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _wait(self, what: str, done: Callable[[tuple[float, ...]], bool]) -> None:
        until = time.monotonic() + _SWITCH_S
        while not done(self._newest()):
            if time.monotonic() > until:
                raise self._trouble(
                    f"its program does not {what} within {_SWITCH_S:g} s; put the arm into remote "
                    f"control, and look at its log"
                )

    def _send(self, packet: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(packet)
        except OSError as error:
            raise self._trouble(f"{error}; check the network") from error

    def _newest(self) -> tuple[float, ...]:
        """The first packet that comes from now on. Packets that wait tell of earlier: a controller
        that is gone since may have sent them."""
        assert self._socket is not None
        held = b""
        try:
            self._socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(_WAITING_MOST):
                    self._receive()
            self._socket.settimeout(_TIMEOUT_S)
            while True:
                held += self._receive()
                at = held.find(_START)
                if 0 <= at <= len(held) - _PACKET.size:
                    return _PACKET.unpack_from(held, at)
        except OSError as error:
            raise self._trouble(f"no packet: {error}; check the network") from error
        finally:
            self._socket.setblocking(False)

    def _receive(self) -> bytes:
        assert self._socket is not None
        received = self._socket.recv(65536)
        if not received:
            raise self._trouble("the controller closed the connection; restart it")
        return received


def _go_on(value: int) -> bytes:
    return pack(Kind.DATA, struct.pack(">Bi", _GO_ON_RECIPE, value))
