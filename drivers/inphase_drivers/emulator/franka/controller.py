"""The emulated controller: its port for commands, a state every millisecond, and the arm."""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..arm import Drive, Joints
from ..faults import Faults
from ..port import taking
from ..wire import NEVER_NS
from . import robot_model
from .messages import (
    COMMAND,
    HEADER,
    JOINTS,
    SIZE_MAX,
    ArmMode,
    ArmState,
    MoveResult,
    Question,
    message,
)
from .motion import LOST_MOST, Motion

PERIOD_NS = 1_000_000
START = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)  # rad
_FINISHED = 39  # of the values of a command: the motion ends with it
_REFLEX = 6  # the error of the fault `reflex`: the joints felt a collision
_FAULTS = frozenset(("silent", "duplicate", "reflex", "user_stopped", "locked"))


@dataclass(frozen=True)
class FciOptions:
    """The schedule's options of one arm, and the emulator's of its controller."""

    host: str
    port: int
    model: str = "fr3"
    version: int = 10  # of the interface
    drift_ppm: float = 0.0  # of its clock


class FciController:
    """One controller with its arm. Opened by whoever makes it."""

    def __init__(self, options: FciOptions, now_ns: int) -> None:
        self._options = options
        self.joints = Joints(JOINTS, now_ns)
        self.joints.position = list(START)
        self.joints.goal = list(START)
        self.joints.drive = [Drive.POSITION] * JOINTS
        self._start_ns = now_ns
        self._cycle = 0
        self._faults = Faults(_FAULTS)
        self._state = ArmState()
        self._motion: Motion | None = None
        self._move = 0
        self._aborts = 0
        self._lost_most = 0
        self._lost_in_all = 0
        self._sent = 0
        self._held = b""
        self._client: socket.socket | None = None
        self._states: socket.socket | None = None
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        with taking(
            f"tcp {options.host}:{options.port}",
            f"ss -ltnp 'sport = :{options.port}'",
            "give the device another port, and a host of this computer",
        ):
            self._listener = socket.create_server((options.host, options.port))
        self._listener.setblocking(False)
        self._wait_on(self._listener, self._accept)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._epoll.fileno()

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        if self._states is None:
            return NEVER_NS
        return self._start_ns + int(
            (self._cycle + 1) * PERIOD_NS / (1 + self._options.drift_ppm * 1e-6)
        )

    def close(self) -> None:
        """Close all sockets."""
        self._leave()
        self._listener.close()
        self._epoll.close()

    def on_readable(self) -> None:
        """Serve whoever has something to say."""
        for fd, _ in self._epoll.poll(0):
            if fd in self._ready:
                self._ready[fd]()

    def work(self, now_ns: int) -> None:
        """One cycle: the answer to the state before counts, the arm moves, and a state is sent.
        Where this process was late, states are left out: the motion is carried on, and nobody is
        blamed. Where it was later than a motion bears, its clock has stood still."""
        elapsed_ns = (now_ns - self._start_ns) * (1 + self._options.drift_ppm * 1e-6)
        left_out = max(int(elapsed_ns) // PERIOD_NS - self._cycle - 1, 0)
        if left_out >= LOST_MOST:
            self._start_ns += (left_out - LOST_MOST + 1) * PERIOD_NS
            left_out = LOST_MOST - 1
        faults = {fault.name for fault in self._faults.take()} if self._faults else set()
        self._hear_answers()
        self._follow(faults)
        self._cycle += 1 + left_out
        if self._motion is not None:
            self._motion.carry_on(left_out)
            self.joints.goal = list(self._motion.position)
        self.joints.advance(now_ns)
        if "silent" not in faults:
            self._send_state(2 if "duplicate" in faults else 1)

    def control(self, request: dict[str, object]) -> dict[str, object]:
        """Do what the control channel asks. Raises ValueError for what makes no sense."""
        if request.get("fault") == "clear":
            self._faults.clear()
        elif "fault" in request:
            self._faults.turn_on(request)
        return self.status()

    def status(self) -> dict[str, object]:
        """The arm, its motion, and what goes over the network."""
        self._note_losses()
        return {
            "position": list(self.joints.position),
            "velocity": list(self.joints.velocity),
            "moving": self._motion is not None,
            "mode": int(self._state.mode),
            "errors": sorted(self._state.errors),
            "aborts": self._aborts,
            "lost_most": self._lost_most,
            "lost_in_all": self._lost_in_all,
            "sent": self._sent,
        }

    # ---- its cycle -------------------------------------------------------------------------

    def _follow(self, faults: set[str]) -> None:
        """The motion's next step, and what ends it."""
        if "reflex" in faults:
            self._abort(_REFLEX)
        if "user_stopped" in faults or "locked" in faults:
            self._end(MoveResult.REFLEX)
            self._state.mode = ArmMode.OTHER if "locked" in faults else ArmMode.USER_STOPPED
        elif self._state.mode in (ArmMode.OTHER, ArmMode.USER_STOPPED):
            self._state.mode = ArmMode.IDLE
        if self._motion is None:
            return
        error = self._motion.advance()
        if error is not None:
            self._abort(error)
            return
        self.joints.goal = list(self._motion.position)

    def _abort(self, error: int) -> None:
        self._aborts += self._motion is not None
        self._end(MoveResult.REFLEX)
        self._state.mode = ArmMode.REFLEX
        self._state.errors.add(error)

    def _end(self, result: MoveResult) -> None:
        """End the motion, if there is one: the arm stays where it was last commanded."""
        if self._motion is None:
            return
        self._note_losses()
        self._motion = None
        self._state.mode = ArmMode.IDLE
        self._say(Question.MOVE, self._move, bytes([result]))

    def _note_losses(self) -> None:
        if self._motion is not None:
            self._lost_most = max(self._lost_most, self._motion.lost_most)
            self._lost_in_all += self._motion.lost_in_all
            self._motion.lost_in_all = 0

    def _hear_answers(self) -> None:
        """The commands that came since the last state; the one that answers it counts."""
        assert self._states is not None
        with contextlib.suppress(OSError):
            while True:
                packet = self._states.recv(SIZE_MAX)
                if len(packet) != COMMAND.size or self._motion is None:
                    continue
                number, *values = COMMAND.unpack(packet)
                if values[_FINISHED]:
                    self._end(MoveResult.SUCCESS)
                elif number == self._state.message_id:
                    self._motion.take(values[:JOINTS])

    def _send_state(self, copies: int) -> None:
        assert self._states is not None
        state, joints, motion = self._state, self.joints, self._motion
        state.message_id = self._cycle
        state.generator = 1 if motion is not None else 0
        state.position, state.velocity = joints.position, joints.velocity
        state.torque = joints.current
        state.commanded = joints.goal
        state.commanded_velocity = motion.velocity if motion else (0.0,) * JOINTS
        state.commanded_acceleration = motion.acceleration if motion else (0.0,) * JOINTS
        state.success_rate = motion.success_rate if motion else 0.0
        packet = state.pack()
        with contextlib.suppress(OSError):
            for _ in range(copies):
                self._states.send(packet)
                self._sent += 1

    # ---- its port --------------------------------------------------------------------------

    def _wait_on(self, one: socket.socket, ready: Callable[[], None]) -> None:
        self._ready[one.fileno()] = ready
        self._epoll.register(one.fileno(), select.EPOLLIN)

    def _accept(self) -> None:
        """One client at a time: another one waits until it has left."""
        with contextlib.suppress(OSError):
            client = self._listener.accept()[0]
            self._leave()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client, self._held = client, b""
            self._wait_on(client, self._hear)

    def _leave(self) -> None:
        self._end(MoveResult.PREEMPTED)
        if self._client is not None:
            self._epoll.unregister(self._client.fileno())
            del self._ready[self._client.fileno()]
            self._client.close()
        if self._states is not None:
            self._states.close()
        self._client = self._states = None

    def _hear(self) -> None:
        assert self._client is not None
        try:
            more = self._client.recv(65536)
        except OSError:
            more = b""
        self._held += more
        while len(self._held) >= HEADER.size:
            command, number, size = HEADER.unpack_from(self._held)
            if not HEADER.size <= size <= SIZE_MAX:
                more = b""
                break
            if len(self._held) < size:
                break
            payload, self._held = self._held[HEADER.size : size], self._held[size:]
            with contextlib.suppress(struct.error, OSError):
                self._answer(command, number, payload)
        if not more:
            self._leave()

    def _say(self, command: int, number: int, payload: bytes) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.sendall(message(command, number, payload))

    def _answer(self, command: int, number: int, payload: bytes) -> None:
        if command == Question.CONNECT:
            self._connect(number, payload)
        elif command == Question.MOVE:
            self._begin(number)
        elif command == Question.MODEL:
            text = robot_model.urdf(self._options.model)
            self._say(command, number, b"\0" + text.encode())
        elif command == Question.STOP_MOVE:
            self._end(MoveResult.PREEMPTED)
            self._say(command, number, b"\0")
        elif command == Question.RECOVER:
            self._state.errors.clear()
            if self._state.mode == ArmMode.REFLEX:
                self._state.mode = ArmMode.IDLE
            self._say(command, number, b"\0")
        else:
            self._say(command, number, b"\0")  # settings, which change nothing here

    def _connect(self, number: int, payload: bytes) -> None:
        assert self._client is not None
        version, port = struct.unpack("<HH", payload)
        fits = version == self._options.version
        self._say(Question.CONNECT, number, struct.pack("<BH", not fits, self._options.version))
        if not fits:
            return
        self._states = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._states.bind((self._options.host, 0))
        self._states.connect((self._client.getpeername()[0], port))
        self._states.setblocking(False)
        elapsed_ns = time.monotonic_ns() - self._start_ns
        self._cycle = int(elapsed_ns * (1 + self._options.drift_ppm * 1e-6)) // PERIOD_NS

    def _begin(self, number: int) -> None:
        """A Move: its motion begins at rest, where the arm was last commanded."""
        self._end(MoveResult.PREEMPTED)
        if self._state.mode != ArmMode.IDLE or self._states is None:
            self._say(Question.MOVE, number, bytes([MoveResult.NOT_POSSIBLE]))
            return
        self._motion, self._move = Motion(self.joints.goal), number
        self._state.mode = ArmMode.MOVE
        self._say(Question.MOVE, number, bytes([MoveResult.STARTED]))
