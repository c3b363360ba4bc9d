"""The emulated controller: its three ports, its cycle of 2 ms, and the arm that it moves.

It runs one program, the driver's own (`inphase_drivers.ur.program`): its goals, its register and
its end are obeyed. Any other program is refused with a message to whoever sent it.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..arm import Drive, Joints
from ..faults import Faults
from ..port import taking
from ..wire import NEVER_NS
from .program import Program, read
from .session import Session
from .variables import Value

PERIOD_NS = 2_000_000
JOINTS = 6
REGISTER = 24  # of the program: its word in and out, and the first of its goals
FED = f"input_double_register_{REGISTER}"  # whose updates feed the watchdog
_NORMAL, _PROTECTIVE = 1, 4  # of the safety status: in normal mode, or in a protective stop
_POWER_OFF, _RUNNING = 3, 7  # of robot_mode
_FAULTS = frozenset(("silent", "duplicate", "reorder", "protective", "unpowered"))


@dataclass(frozen=True)
class ControllerOptions:
    """The schedule's options of one arm, and the emulator's of its controller."""

    host: str
    port: int
    script_port: int
    dashboard_port: int
    serial: str = "20235500001"
    version: int = 2  # of RTDE, the newest that it speaks
    drift_ppm: float = 0.0  # of its clock


class Controller:
    """One controller with its arm. Opened by whoever makes it."""

    def __init__(self, options: ControllerOptions, now_ns: int) -> None:
        self._options = options
        self._serial = options.serial
        self.joints = Joints(JOINTS, now_ns)
        self._inputs: dict[str, float] = {}
        self._program: Program | None = None
        self._said = 0  # its output register, which outlives a program
        self._fed_ns = now_ns
        self._cycle = 0
        self._start_ns = now_ns
        self._faults = Faults(_FAULTS)
        self._sessions: list[Session] = []
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._texts: dict[socket.socket, bytes] = {}
        self._listeners: list[socket.socket] = []
        try:
            self._plug(True)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._epoll.fileno()

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        return self._at_ns(self._cycle + 1) if self._is_at_work else NEVER_NS

    @property
    def _is_at_work(self) -> bool:
        """Somebody listens, or the arm moves without anybody."""
        streams = any(session.streams for session in self._sessions)
        return streams or self._program is not None or any(self.joints.velocity)

    def close(self) -> None:
        """Close all sockets."""
        for one in (*self._listeners, *self._texts, *(one.socket for one in self._sessions)):
            one.close()
        self._epoll.close()

    def on_readable(self) -> None:
        """Serve whoever has something to say."""
        for fd, _ in self._epoll.poll(0):
            if fd in self._ready:
                self._ready[fd]()

    def work(self, now_ns: int) -> None:
        """One cycle of the controller: the program, the arm, and a packet to each client."""
        elapsed_ns = (now_ns - self._start_ns) * (1 + self._options.drift_ppm * 1e-6)
        self._cycle = max(self._cycle + 1, int(elapsed_ns) // PERIOD_NS)
        faults = {fault.name for fault in self._faults.take()} if self._faults else set()
        if {"protective", "unpowered"} & faults:
            self._program = None
        self._run_program(now_ns)
        self.joints.advance(now_ns)
        values = self._values(
            is_stopped="protective" in faults,
            mode=_POWER_OFF if "unpowered" in faults else _RUNNING,
        )
        for session in self._sessions:
            every = max(1, round(1e9 / PERIOD_NS / session.rate_hz))
            if "silent" not in faults and self._cycle % every == 0:
                session.stream(values, 2 if "duplicate" in faults else 1)

    def control(self, request: dict[str, object]) -> dict[str, object]:
        """Do what the control channel asks. Raises ValueError for what makes no sense."""
        if isinstance(serial := request.get("serial"), str):
            self._serial = serial
        if isinstance(most := request.get("velocity_max"), float):
            self.joints.velocity_max = [most] * JOINTS
        if isinstance(is_there := request.get("network"), bool):
            self._plug(is_there)
        if request.get("fault") == "clear":
            self._faults.clear()
        elif "fault" in request:
            self._faults.turn_on(request)
        return self.status()

    def status(self) -> dict[str, object]:
        """The arm, and what goes over the network."""
        return {
            "position": list(self.joints.position),
            "velocity": list(self.joints.velocity),
            "running": self._program is not None,
            "serial": self._serial,
            "clients": len(self._sessions),
            "sent": sum(session.sent for session in self._sessions),
            "inputs": dict(self._inputs),
        }

    # ---- its cycle -------------------------------------------------------------------------

    def _at_ns(self, cycle: int) -> int:
        return self._start_ns + int(cycle * PERIOD_NS / (1 + self._options.drift_ppm * 1e-6))

    def _run_program(self, now_ns: int) -> None:
        program = self._program
        if program and self._inputs.get(f"input_int_register_{REGISTER}") != program.number:
            self._program, self._said = None, 0  # it has come to its end
        elif program and now_ns - self._fed_ns > program.watchdog_ns:
            self._program = None  # ended by the controller: it says nothing more
        for joint in range(JOINTS):
            goal = self._inputs.get(f"input_double_register_{REGISTER + joint}")
            if self._program is not None and goal is not None:
                self.joints.drive[joint] = self._program.drive
                self.joints.goal[joint] = goal
            elif self.joints.drive[joint] is not Drive.OFF:
                self.joints.drive[joint], self.joints.goal[joint] = Drive.VELOCITY, 0.0

    def _take_inputs(self, inputs: Mapping[str, float]) -> None:
        self._inputs.update(inputs)
        if FED in inputs:
            self._fed_ns = time.monotonic_ns()

    def _values(self, *, is_stopped: bool, mode: int) -> dict[str, Value]:
        joints = self.joints
        return {
            "timestamp": self._cycle * PERIOD_NS * 1e-9,
            "actual_q": joints.position,
            "actual_qd": joints.velocity,
            "actual_current": joints.current,
            "target_q": joints.goal,
            "robot_mode": mode,
            "safety_mode": 1,
            "safety_status_bits": _PROTECTIVE if is_stopped else _NORMAL,
            "runtime_state": 1 if self._program is None else 2,
            "speed_scaling": 1.0,
            "target_speed_fraction": 1.0,
            f"output_int_register_{REGISTER}": self._said,
        }

    # ---- its ports -------------------------------------------------------------------------

    def _plug(self, is_there: bool) -> None:
        """Its cable, put in or drawn; the program goes on either way."""
        o = self._options
        if not is_there:
            for one in (*self._listeners, *self._texts, *(it.socket for it in self._sessions)):
                self._leave(one)
            for held in (self._listeners, self._sessions):
                held.clear()
            self._texts.clear()
        elif not self._listeners:
            self._listen(o.port, self._greet_client)
            self._listen(o.script_port, self._greet_program)
            self._listen(o.dashboard_port, self._greet_dashboard)

    def _listen(self, port: int, greet: Callable[[socket.socket], None]) -> None:
        host = self._options.host
        with taking(
            f"tcp {host}:{port}",
            f"ss -ltnp 'sport = :{port}'",
            "give the device another port, and a host of this computer",
        ):
            listener = socket.create_server((host, port))
        listener.setblocking(False)
        self._listeners.append(listener)

        def accept() -> None:
            with contextlib.suppress(OSError):
                greet(listener.accept()[0])

        self._wait_on(listener, accept)

    def _wait_on(self, one: socket.socket, ready: Callable[[], None]) -> None:
        self._ready[one.fileno()] = ready
        self._epoll.register(one.fileno(), select.EPOLLIN)

    def _leave(self, one: socket.socket) -> None:
        self._epoll.unregister(one.fileno())
        del self._ready[one.fileno()]
        one.close()

    def _greet_client(self, client: socket.socket) -> None:
        session = Session(client, self._take_inputs, version=self._options.version)
        self._sessions.append(session)

        def ready() -> None:
            was_idle = not self._is_at_work
            if not session.on_readable():
                self._sessions.remove(session)
                self._leave(client)
            elif was_idle:  # what was not sent to anybody is not caught up
                elapsed_ns = time.monotonic_ns() - self._start_ns
                self._cycle = int(elapsed_ns * (1 + self._options.drift_ppm * 1e-6)) // PERIOD_NS

        self._wait_on(client, ready)

    def _greet_program(self, client: socket.socket) -> None:
        self._hear_text(client, self._take_program)

    def _greet_dashboard(self, client: socket.socket) -> None:
        client.send(b"Connected: Universal Robots Dashboard Server\n")
        self._hear_text(client, self._answer_dashboard)

    def _hear_text(
        self, client: socket.socket, take: Callable[[socket.socket, bytes], bytes]
    ) -> None:
        """Lines of a client, as long as it is there; `take` returns what it leaves of them."""
        self._texts[client] = b""

        def ready() -> None:
            try:
                more = client.recv(65536)
            except OSError:
                more = b""
            if not more:
                del self._texts[client]
                self._leave(client)
            else:
                self._texts[client] = take(client, self._texts[client] + more)

        self._wait_on(client, ready)

    def _take_program(self, client: socket.socket, text: bytes) -> bytes:
        if not text.endswith(b"\nend\n"):
            return text
        if (program := read(text.decode("ascii", "replace"))) is not None:
            self._program, self._said = program, program.number
            self._fed_ns = time.monotonic_ns()
        else:
            client.send(b"this emulator runs the program of inphase's driver only\n")
        return b""

    def _answer_dashboard(self, client: socket.socket, text: bytes) -> bytes:
        *lines, rest = text.split(b"\n")
        answers = {
            b"get serial number": self._serial.encode(),
            b"get robot model": b"UR5",
            b"robotmode": b"Robotmode: RUNNING",
        }
        for line in lines:
            client.send(answers.get(line.strip(), b"could not understand: " + line) + b"\n")
        return rest
