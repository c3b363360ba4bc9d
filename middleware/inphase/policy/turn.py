"""The policy: a callable or a model named in the schedule, and the loop of its own process.

    python -m inphase.policy SCHEDULE STORE MAILBOX_FD BELL_FD
    python -m inphase.policy SCHEDULE STORE --lockstep FD

A policy is a function or an object called with a frame; it returns a command: an array of all
actuators' channels in schedule order, or a dict of actuator name to array, in SI; None for no
command. With `chunk = H` it returns H of them: arrays of H rows. A class is made once, with the
schedule's `args`. Before the first cycle its `warm_up(frame)` is called, where it has one, with a
frame of zeros, and then its `reset()`.
A model's loop is C (`model_policy`), and so is its turn in lock step.
"""

import contextlib
import gc
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase import schedule
from inphase._core import ffi
from inphase.devices.packets import REASONS, Refusal
from inphase.errors import RuntimeFault, ScheduleError
from inphase.frames import store, zero_frame
from inphase.frames.frame import Frame, Layout
from inphase.frames.shaping import NotThere, Shaping
from inphase.frames.store_follower import StoreFollower
from inphase.host import process
from inphase.models.model_binding import Binding
from inphase.policy import model_policy, sandbox, torch_policy
from inphase.schedule import Schedule, import_by_name

PolicyCall = Callable[[Frame], Any]
_ARRAY = np.ndarray
_TRACEBACKS = 3  # shown in full; later ones would flood


def load(described: Schedule, layout: Layout | None = None) -> PolicyCall:
    """Import and make the schedule's policy, let it warm up on a frame of that layout, and reset
    it. Raises ScheduleError."""
    assert described.policy is not None and described.policy.call is not None
    try:
        found = import_by_name.resolve_call(described.policy.call, described.path.parent)
        if isinstance(found, type):
            found = found(**described.policy.args)
    except ScheduleError as error:
        raise described.error("policy.call", str(error)) from error
    except Exception as error:
        raise described.error(
            "policy.args", f"{described.policy.call} cannot be made: {error!r}; correct args"
        ) from error
    if not callable(found):
        raise described.error("policy.call", f"{described.policy.call} is not callable")
    try:
        warm_up, reset = getattr(found, "warm_up", None), getattr(found, "reset", None)
        if callable(warm_up) and layout is not None:
            warm_up(zero_frame.frame(layout))
        if callable(reset):
            reset()
    except Exception as error:
        raise described.error(
            "policy.call",
            f"{described.policy.call} cannot be warmed up and reset: {error!r}"
            f"{import_by_name.place_of(error)}; correct it",
        ) from error
    return found


class CommandBuffer:
    """Turns what a policy returns into doubles that C can take."""

    def __init__(self, actuators: tuple[tuple[str, int, str], ...], chunk: int = 1) -> None:
        channels = sum(channels for _, channels, _ in actuators)
        self.count = chunk * channels
        """doubles in it"""
        self._values = np.zeros(channels if chunk == 1 else (chunk, channels))
        self.pointer = ffi.cast("double *", ffi.from_buffer(self._values))
        self._memory: Any = memoryview(self._values.data)
        self._shape = self._values.shape
        self._parts: dict[str, NDArray[np.float64]] = {}
        at = 0
        for name, width, _ in actuators:
            self._parts[name] = self._values[..., at : at + width]
            at += width

    def tobytes(self) -> bytes:
        """The values as little-endian float64."""
        return self._values.tobytes()

    def frombytes(self, values: bytes) -> None:
        """Take values in as `tobytes` gives them."""
        self._values[:] = np.frombuffer(values).reshape(self._shape)

    def fill(self, command: Any) -> str | None:
        """Take a command in; the reason when it is none."""
        # nearly every command is an array of float64, and memory takes no other type or length
        if type(command) is _ARRAY:
            try:
                self._memory[:] = command
                return None
            except (TypeError, ValueError, BufferError, NotImplementedError):
                pass
        return self._fill_other(command)

    def _fill_other(self, command: Any) -> str | None:
        if command is None:
            return "silent"
        if isinstance(command, Refusal):
            return command.reason
        if isinstance(command, dict):
            if command.keys() != self._parts.keys():
                return "shape"
            for name, part in command.items():
                trouble = self._put(self._parts[name], part)
                if trouble:
                    return trouble
            return None
        return self._put(self._values, command)

    def _put(self, to: NDArray[np.float64], values: Any) -> str | None:
        if type(values) is not np.ndarray:
            try:
                values = np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError):
                return "shape"
        if values.shape != to.shape or values.dtype.kind not in "fiu":
            return "shape"
        to[:] = values
        return None


class Turn:
    """One policy's turn at a frame: calls it and says what came of it.

    It is called only when every sensor that the schedule's `accepts` names has one of the statuses
    named there; else the reason is `input`.
    """

    def __init__(
        self,
        call: PolicyCall,
        buffer: CommandBuffer,
        described: Schedule,
    ) -> None:
        self._call = call
        self.buffer = buffer
        self._shown = 0
        self._accepts = dict(described.policy.accepts) if described.policy is not None else {}
        self._shaping = Shaping(described.policy)

    def take(self, frame: Frame) -> str | None:
        """Call the policy; its command is in `buffer`, or the reason why there is none."""
        if self._accepts and not self._is_accepted(frame):
            return "input"
        call = self._call  # found sooner so than as a method
        try:
            if not self._shaping.is_none:
                shaped = self._shaping.shape(frame)
                if shaped is None:
                    return "input"
                frame = shaped
            return self.buffer.fill(call(frame))
        except NotThere:
            return "input"
        except Exception:  # the policy is the outside world: it must not end the loop
            self._shown += 1
            if self._shown <= _TRACEBACKS:
                print(f"policy raised in cycle {frame.cycle}:", file=sys.stderr)
                traceback.print_exc()
            return "raised"

    def _is_accepted(self, frame: Frame) -> bool:
        return all(frame[name].status in accepted for name, accepted in self._accepts.items())


def follow(
    follower: StoreFollower,
    mailbox: store.Mailbox,
    turn: Turn | model_policy.ModelTurn,
    every: int,
    valid_ns: int,
) -> None:
    """The policy's loop: newest due frame in, answer out, until the store ends."""
    buffer = turn.buffer
    try:
        while True:
            frame = follower.next(every=every)
            mailbox.taken()
            trouble = turn.take(frame)
            if trouble is None:
                mailbox.post(frame.cycle, frame.due_ns + valid_ns, buffer.pointer, buffer.count)
            else:
                mailbox.refuse(frame.cycle, trouble)
    except store.Lost:
        return


def every(described: Schedule) -> int:
    """Cycles from one frame that the policy takes to the next."""
    return described.policy.every if described.policy is not None else 1


def make_buffer(described: Schedule, actuators: tuple[tuple[str, int, str], ...]) -> CommandBuffer:
    """Room for the policy's answer."""
    chunk = described.policy.chunk if described.policy is not None else 1
    return CommandBuffer(actuators, chunk)


def valid_ns(described: Schedule) -> int:
    """How long after a frame's due time the answer to it is of use at most, in nanoseconds."""
    period_ns = described.cycle.period_ns
    hold_ns = max((a.max_hold_ns(period_ns) for a in described.actuator.values()), default=0)
    reach = described.policy.reach_cycles if described.policy is not None else 0
    return hold_ns + reach * period_ns


def runs_in_c(described: Schedule) -> bool:
    """Whether the schedule's policy is a model that C runs."""
    policy = described.policy
    return policy is not None and policy.model is not None and policy.runtime == "c"


def make_turn(
    described: Schedule,
    follower: StoreFollower,
    buffer: CommandBuffer,
    binding: Binding | None,
    remote: PolicyCall | None = None,
) -> Turn | model_policy.ModelTurn:
    """The turn of the schedule's policy where that runs in Python, at a follower's frames; binding:
    of a model; remote: as `meet` gives it. Raises ScheduleError."""
    if remote is not None:
        return Turn(remote, buffer, described)
    if binding is None:
        return Turn(load(described, follower.layout), buffer, described)
    model = _network(described)(described, binding)
    return model_policy.ModelTurn(model, follower.reader, buffer)


def check_network(described: Schedule, binding: Binding) -> None:
    """See that what runs the schedule's network takes it. Raises ScheduleError."""
    _network(described)(described, binding).close()


def _network(described: Schedule) -> type[model_policy.Numbers]:
    """What runs the schedule's network."""
    if runs_in_c(described):
        return model_policy.NativeModel
    if described.policy is not None and described.policy.weights is not None:
        return torch_policy.TorchModel
    return model_policy.PythonModel


class Door:
    """What a remote policy connects to, opened before this process gives up making sockets; where
    the schedule has no such policy it does nothing. Raises ScheduleError."""

    def __init__(self, described: Schedule, store_path: str) -> None:
        self._described = described
        self._listener: Any = None
        self._reader: store.Reader | None = None
        if described.policy is not None and described.policy.remote is not None:
            from inphase.policy import remote_listener  # ZeroMQ, which no other policy needs

            self._listener = remote_listener.listen(described)
            self._reader = store.Reader(store_path)
        self._remote: Any = None

    def meet(self) -> PolicyCall | None:
        """The remote policy, once it is there. Raises ScheduleError."""
        if self._listener is None or self._reader is None:
            return None
        from inphase.policy import remote_policy

        self._remote = remote_policy.RemotePolicy(self._described, self._reader, self._listener)
        met: PolicyCall = self._remote
        return met

    def close(self) -> None:
        """Say goodbye."""
        if self._remote is not None:
            self._remote.close()
        elif self._listener is not None:
            self._listener.close()
        if self._listener is not None:
            with contextlib.suppress(PermissionError):  # then it is whoever started this process's
                remove_door(self._described)


def remove_door(described: Schedule) -> None:
    """Remove the file of a remote policy's address, which its process may not."""
    if described.policy is not None and described.policy.remote is not None:
        from inphase.policy import remote_listener

        remote_listener.remove_left(described.policy.remote)


def _binding(described: Schedule, follower: StoreFollower) -> Binding | None:
    assert described.policy is not None
    if not described.policy.is_network:
        return None
    return model_policy.bound(described, follower.layout)


def serve(described: Schedule, store_path: str, mailbox_fd: int, bell_fd: int) -> None:
    """The policy process on the wall clock."""
    follower = StoreFollower(store_path)
    buffer = make_buffer(described, follower.layout.actuators)
    mailbox = store.Mailbox(mailbox_fd, bell_fd)
    mailbox.wake(follower.reader)
    with contextlib.closing(Door(described, store_path)) as door:
        sandbox.enter(described, mailbox)  # nothing that the schedule names has run up to here
        if described.policy is not None and described.policy.is_network:
            _serve_model(described, follower, mailbox)
            return
        turn = make_turn(described, follower, buffer, None, door.meet())
        _begin(described)
        follow(follower, mailbox, turn, every(described), valid_ns(described))


def _serve_model(described: Schedule, follower: StoreFollower, mailbox: store.Mailbox) -> None:
    """A model's loop, from the first frame to the last; in C it is one call."""
    binding = model_policy.bound(described, follower.layout)
    is_native = runs_in_c(described)
    if is_native:
        model_policy.limit_memory()
    with _network(described)(described, binding) as model:
        _begin(described)
        if is_native:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # C takes it from here on
            sandbox.narrow()
        model.serve(follower.reader, mailbox, every(described), valid_ns(described))


def _begin(described: Schedule) -> None:
    """What comes right before the loop; whoever started it gives it its priority then."""
    assert described.policy is not None
    process.set_rights("policy", 0, described.policy.cpu)
    process.say_ready()

    # what exists now stays: no collection in the loop, none of what was imported looked at
    gc.collect()
    gc.freeze()
    gc.disable()


_NUMBER = struct.Struct("<q")
_ANSWER = struct.Struct("<I")


def serve_lockstep(described: Schedule, store_path: str, fd: int) -> None:
    """The policy process in lock step: the number of a frame in, reason and values out."""
    follower = StoreFollower(store_path, from_first=True)
    buffer = make_buffer(described, follower.layout.actuators)
    with contextlib.closing(Door(described, store_path)) as door, socket.socket(fileno=fd) as line:
        sandbox.enter(described)
        binding = _binding(described, follower)
        turn: Turn | model_policy.ModelTurn
        if binding is not None and runs_in_c(described):
            model = model_policy.NativeModel(described, binding)
            turn = model_policy.ModelTurn(model, follower.reader, buffer)
        else:
            remote = door.meet()
            turn = make_turn(described, follower, buffer, binding, remote)
        process.say_ready()
        while asked := line.recv(_NUMBER.size, socket.MSG_WAITALL):
            (number,) = _NUMBER.unpack(asked)
            while follower.number < number:
                frame = follower.next(timeout_s=1.0)
            trouble = turn.take(frame)
            reason = REASONS.index(trouble) if trouble else 0
            line.sendall(_ANSWER.pack(reason) + turn.buffer.tobytes())


class IsolatedPolicy:
    """The parent's side of `serve_lockstep`. Whoever makes it closes it."""

    def __init__(
        self, described: Schedule, follower: StoreFollower, store_path: str, buffer: CommandBuffer
    ) -> None:
        self._follower = follower
        self.buffer = buffer
        assert described.policy is not None
        self._described = described
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = process.Process(
                "policy",
                "inphase.policy",
                [str(described.path), store_path, "--lockstep", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                environment=process.thread_environment(described.policy.threads),
                has_scratch=True,
            )
        self._process.wait_ready()

    def take(self, frame: Frame) -> str | None:
        """Let the process take its turn. Raises RuntimeFault when it is gone."""
        size = _ANSWER.size + 8 * self.buffer.count
        try:
            self._line.sendall(_NUMBER.pack(self._follower.number))
            answer = self._line.recv(size, socket.MSG_WAITALL)
        except OSError:
            answer = b""
        if len(answer) != size:
            raise RuntimeFault(f"policy ended in cycle {frame.cycle}: {self._process.ended()}")
        (reason,) = _ANSWER.unpack_from(answer)
        self.buffer.frombytes(answer[_ANSWER.size :])
        return REASONS[reason] if reason else None

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self._process.stop(asked=True)
        remove_door(self._described)


def _end(*_: object) -> None:
    """SIGTERM; a second one must not disturb the end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, _end)
    path, store_path, *where = sys.argv[1:]
    try:
        described = schedule.load(Path(path))
        if where[0] == "--lockstep":
            serve_lockstep(described, store_path, int(where[1]))
        else:
            serve(described, store_path, int(where[0]), int(where[1]))
    except ScheduleError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
