"""A Franka arm: its controller sends a state every millisecond, and each wants a command.

Source: Franka Robotics, "Franka Control Interface" documentation, and libfranka's protocol headers.
"""

import contextlib
import os
import socket
import struct
import time
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from inphase.driver import (
    ActuatorSpec,
    Bound,
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
    Reference,
    Reply,
    SensorSpec,
    Servo,
    TwinChannel,
    TwinKind,
    Value,
)

from . import model
from .messages import (
    MOVED,
    RECOVERED,
    VERSION,
    Ask,
    CommandLink,
    Controller,
    Generator,
    Moved,
    move,
)
from .state import (
    COMMAND_FINISHED,
    COMMAND_Q,
    COMMAND_SIZE,
    ERRORS,
    JOINTS,
    MODES,
    OFFSETS,
    STATE_SIZE,
    Mode,
    State,
    parse,
)

# the fields of a sample: name, part of the state, unit, numbers, quantity and joints of the twin
_FIELDS = (
    ("position", "q", "rad", JOINTS, TwinKind.POSITION),
    ("velocity", "dq", "rad/s", JOINTS, TwinKind.VELOCITY),
    ("torque", "tau_J", "N m", JOINTS, TwinKind.ACCELERATION),
    ("commanded_position", "q_d", "rad", JOINTS, TwinKind.POSITION),
    ("commanded_velocity", "dq_d", "rad/s", JOINTS, TwinKind.VELOCITY),
    ("commanded_acceleration", "ddq_d", "rad/s^2", JOINTS, TwinKind.ACCELERATION),
    ("external_torque", "tau_ext_hat_filtered", "N m", JOINTS, TwinKind.CONSTANT),
    ("external_wrench", "O_F_ext_hat_K", "N, N m", 6, TwinKind.CONSTANT),
    ("success_rate", "success_rate", "1", 1, TwinKind.CONSTANT),
)
_PER_JOINT = tuple(name for name, _, _, count, _ in _FIELDS if count == JOINTS)
_CYCLE_NS = 1_000_000
_TIMEOUT_S = 1.0
_RECOVERY_S = 10.0
_WAITING_MOST = 4000  # states that wait: no socket holds as much
_TAKES = 1 << Mode.IDLE | 1 << Mode.MOVE
_START = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)  # the twin's pose: the maker's "ready"


class FrankaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    host: str
    """its address on the network"""
    port: Annotated[int, Meta(ge=1, le=65535)] = 1337
    """of its commands"""
    udp_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """of this host, for its states; 0: any free one"""
    model: str | None = None
    """the name in the arm's own model, such as `fr3`; another arm there is refused"""
    keeps_time: bool = True
    """its states are numbered by its milliseconds, as a controller's are; false for a simulator
    that may fall behind: a state is then dated by its arrival"""


class FrankaArm(Driver):
    """Arm of Franka Robotics (FR3) over FCI: a state every 1 ms, and a command for each."""

    Options: ClassVar[type[msgspec.Struct]] = FrankaOptions

    def __init__(self, name: str, options: FrankaOptions) -> None:
        super().__init__(name, options)
        self.options: FrankaOptions = options
        self._link: CommandLink | None = None
        self._states: socket.socket | None = None
        self._motion: int | None = None
        self._bounds: tuple[Bound, ...] = ()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"tcp:{self.options.host}:{self.options.port}"

    def sensor(self) -> SensorSpec:
        """`position`, `velocity` and `torque` (7 each), the motion that the arm follows, and what
        acts on it from outside."""
        values: list[Value] = []
        for _, part, _, count, _ in _FIELDS:
            for number in range(count):
                values.append(Value(OFFSETS[part] + 4 * number, Raw.F32, len(values)))
        ready = Check(CheckKind.AMONG, OFFSETS["robot_mode"], mask=_TAKES)
        return SensorSpec(
            fields=tuple(
                Field(name, unit, (count,) if count > 1 else ())
                for name, _, unit, count, _ in _FIELDS
            ),
            exchange=Exchange(
                request=b"",
                framing=Framing(min_size=STATE_SIZE, max_size=STATE_SIZE, datagram=True),
                replies=(Reply(tuple(values), (ready,), STATE_SIZE),),
                sequence=Value(OFFSETS["message_id"], Raw.U64, 0),
                clock=Clock(OFFSETS["message_id"], Raw.U64, tick_ns=_CYCLE_NS)
                if self.options.keeps_time
                else None,
                interval_ns=_CYCLE_NS,
                request_ns=0,
                reply_ns=100_000,
                reply_min_ns=10_000,
                reply_max_ns=_CYCLE_NS,
            ),
            per_joint=_PER_JOINT,
            twin=tuple(
                TwinChannel(kind, number if count == JOINTS else 0)
                for _, _, _, count, kind in _FIELDS
                for number in range(count)
            ),
            twin_latency_ns=100_000,
        )

    def actuator(self) -> ActuatorSpec:
        """Seven positions in rad, each the next point of the arm's own motion."""
        first = {name: _first(name) for name, *_ in _FIELDS}
        return ActuatorSpec(
            channels=JOINTS,
            unit="rad",
            servos=tuple(
                Servo(start, velocity_max=2.6, acceleration_max=60.0, natural_rad_s=120.0)
                for start in _START
            ),
            encoding=Encoding(
                packet=bytes(COMMAND_SIZE),
                values=tuple(Value(COMMAND_Q + 8 * n, Raw.F64, n) for n in range(JOINTS)),
                framing=Framing(min_size=COMMAND_SIZE, max_size=COMMAND_SIZE, datagram=True),
                write_ns=20_000,
                reference=Reference(
                    Value(0, Raw.U64, 0),
                    first["commanded_position"],
                    first["commanded_velocity"],
                    first["commanded_acceleration"],
                    finish=COMMAND_FINISHED,
                ),
            ),
            bounds=self._bounds,
        )

    # ---- opening ---------------------------------------------------------------------------

    def open(self) -> int:
        """Agree on the interface's version, and wait for the first state."""
        o = self.options
        self._motion = None
        try:
            self._link = CommandLink(o.host, o.port, _TIMEOUT_S)
        except OSError as error:
            raise self._trouble(
                f"{error}; check power and network, and activate FCI in Desk"
            ) from error
        try:
            self._agree(self._link)
            self._look_at_model(self._link)
        except OSError as error:
            self.close()
            raise self._trouble(
                f"what answers is no controller with FCI: {error}; give host and port of one"
            ) from error
        except BaseException:
            self.close()
            raise
        assert self._states is not None
        return self._states.fileno()

    def _agree(self, link: CommandLink) -> None:
        """Connect, and take the address that the states come from."""
        self._states = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._states.bind(("", self.options.udp_port))
        self._states.settimeout(_TIMEOUT_S)
        port = self._states.getsockname()[1]
        answer = link.ask(Ask.CONNECT, struct.pack("<HH", VERSION, port))
        status, version = struct.unpack_from("<BH", answer.ljust(3, b"\0"))
        if status or version != VERSION:
            raise self._trouble(
                f"its controller speaks version {version} of FCI, and this driver {VERSION}; "
                f"install a system image with version {VERSION} on it"
            )
        try:
            while True:
                packet, source = self._states.recvfrom(65536)
                if source[0] == link.peer:
                    break
        except TimeoutError as error:
            raise self._trouble(
                f"no state comes on UDP port {port}; let the firewall of this host pass it"
            ) from error
        if len(packet) != STATE_SIZE:
            raise self._trouble(
                f"its states have {len(packet)} bytes and not {STATE_SIZE}; install a system image "
                f"with version {VERSION} of FCI on it"
            )
        self._states.connect(source)
        os.set_blocking(self._states.fileno(), False)

    def _look_at_model(self, link: CommandLink) -> None:
        """Read the arm's name, and the limits of its joints."""
        answer = link.ask(Ask.MODEL)
        try:
            found = model.read(answer[1:].decode("utf-8", "replace"))
        except model.NotFrankaError as error:
            raise self._trouble(f"{error}; give host and port of an arm") from error
        wanted = self.options.model
        if wanted is not None and found.name != wanted:
            raise self._trouble(
                f"the arm there is a {found.name!r}, and model is {wanted!r}; correct host, or "
                f"model"
            )
        self._bounds = found.bounds

    def _trouble(self, text: str) -> DeviceError:
        return DeviceError(f"device {self.name} ({self.address}): {text}")

    # ---- switching -------------------------------------------------------------------------

    def enable(self) -> None:
        """Recover from an error, if there is one, and see that the arm can take a motion."""
        state = self._newest()
        if state.mode == Mode.REFLEX or state.errors:
            self._recover(state)
            state = self._newest()
        if state.mode != Mode.IDLE:
            raise self._trouble(self._mode_words(state.mode))

    def _recover(self, state: State) -> None:
        try:
            status = self._tcp.ask(Ask.RECOVER, timeout_s=_RECOVERY_S)[0]
        except OSError as error:
            raise self._trouble(f"no error recovery: {error}; look at Desk") from error
        if status:
            why = RECOVERED.get(status, f"status {status}; look at the log in Desk")
            raise self._trouble(f"{', '.join(state.errors)}: no recovery, {why}")

    def engage(self) -> None:
        """Begin the motion: from here on each state is answered."""
        try:
            number = self._tcp.send(
                Ask.MOVE, move(Controller.JOINT_IMPEDANCE, Generator.JOINT_POSITION)
            )
            status = self._tcp.answer(number)[0]
        except OSError as error:
            raise self._trouble(f"no answer to a Move: {error}; restart the controller") from error
        if status != Moved.STARTED:
            raise self._trouble(self._moved_words(status))
        self._motion = number

    def disengage(self) -> None:
        """End the motion, if it has not ended by itself."""
        number, self._motion = self._motion, None
        if number is None:
            return
        try:
            with contextlib.suppress(TimeoutError):
                if self._tcp.answer(number, 1e-3):
                    return
            self._tcp.ask(Ask.STOP_MOVE)
            self._tcp.answer(number)
        except OSError as error:
            raise self._trouble(f"its motion does not end: {error}; press its user stop") from error

    def goals(self) -> tuple[float, ...]:
        """Where it stands by its own motion."""
        return self._newest().commanded

    def disable(self) -> None:
        """See that no motion goes on. The arm holds by itself; its joints are locked in Desk."""
        self.disengage()
        until_s = time.monotonic() + _TIMEOUT_S
        while self._newest().mode == Mode.MOVE:
            if time.monotonic() > until_s:
                raise self._trouble("its motion does not end; press its user stop")

    def torque(self) -> tuple[bool | None, ...]:
        """By the arm's mode: its motors hold it, or it is not known."""
        if self._states is not None:
            with contextlib.suppress(DeviceError):
                if self._newest().mode in (Mode.IDLE, Mode.MOVE):
                    return (True,) * JOINTS
        return (None,) * JOINTS

    def meaning(self, detail: int) -> str:
        """The arm's mode."""
        return self._mode_words(detail)

    def faults(self) -> list[str]:
        """The errors that the arm tells, each with its remedy."""
        state = self._newest()
        return [
            f"device {self.name} ({self.address}): {error}: {ERRORS[error]}; arm again, which "
            f"recovers from it"
            for error in state.errors
        ]

    def close(self) -> None:
        """End the motion and the connection."""
        if self._link is not None:
            with contextlib.suppress(DeviceError):
                self.disengage()
            self._link.close()
            self._link = None
        if self._states is not None:
            self._states.close()
            self._states = None

    @property
    def _tcp(self) -> CommandLink:
        assert self._link is not None
        return self._link

    @staticmethod
    def _mode_words(mode: int) -> str:
        return MODES.get(Mode(mode), f"mode {mode}") if mode in list(Mode) else f"mode {mode}"

    @staticmethod
    def _moved_words(status: int) -> str:
        words = MOVED.get(Moved(status)) if status in list(Moved) else None
        return f"it takes no motion: {words or f'status {status}; look at the log in Desk'}"

    def _newest(self) -> State:
        """The first state that comes from now on."""
        assert self._states is not None
        try:
            self._states.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(_WAITING_MOST):
                    self._states.recv(65536)
            self._states.settimeout(_TIMEOUT_S)
            while len(packet := self._states.recv(65536)) != STATE_SIZE:
                pass
            return parse(packet)
        except OSError as error:
            raise self._trouble(f"no state: {error}; check the network") from error
        finally:
            self._states.setblocking(False)


def _first(wanted: str) -> int:
    """The first channel of a field."""
    names = [name for name, *_ in _FIELDS]
    return sum(count for _, _, _, count, _ in _FIELDS[: names.index(wanted)])
