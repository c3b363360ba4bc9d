"""The robot's side of a policy in another process, over ZeroMQ's protocol on this host.

One remote at a time, the first that proves itself. On an ipc socket the mode of its file is the
proof, which the kernel checks. On tcp it is a token out of a file that only the robot's user can
read. Others are refused while it lives. One that comes after it gets its first frame when the robot
is at rest.

It has at most one frame, the newest when it was free. Its answer counts for that frame's cycle, or
for none. Nothing that it sends can do more than that: sizes are bounded, decoding is strict, and
the process that decodes is inside the policy's sandbox.

`remote` is the other side; WIRE.md ("A remote policy") is the format.
"""

import contextlib
import hmac
import math
import select
import sys
import time
from typing import Any

import msgpack
import msgspec
import numpy as np

from inphase import remote
from inphase.devices.packets import Refusal
from inphase.errors import WireError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.message import Form
from inphase.frames.sending import Writer, describe
from inphase.host import zmtp
from inphase.policy.remote_listener import Listener, RemoteConnection
from inphase.remote import COMMAND, END, FRAME, GREETING, HELLO, READY, REFUSED
from inphase.schedule import Schedule

_KEPT_BYTES = 64 << 10  # of a message, where no command needs more
_PARTS = 2  # the kind, the content
_CALLERS = 8  # connections at once, the policy's among them
_LOOKS = 64  # at what has come, between two frames
_GREETED_S = 2.0  # how long a connection may take to say hello
_GOODBYE_S = 0.1
_WAIT_S = 15.0  # for the first remote
_POLL_MS = 200
_COMPLAINTS = 3
_REFUSALS = ("silent", "raised", "shape", "input")
_MOVES = ("running", "ramping", "uncontrolled")


class RemoteReply(msgspec.Struct, frozen=True):
    """An answer to a frame: values of a shape, or the reason why there are none."""

    epoch: int
    cycle: int
    shape: list[int] = []
    values: bytes = b""
    reason: str = ""


class Hello(msgspec.Struct, frozen=True):
    """A remote's first message."""

    token: str = ""


class RemotePolicy:
    """A policy that is asked in another process. Its maker closes it. Thread: one.

    Raises ScheduleError when nobody is there within 15 s.
    """

    def __init__(self, described: Schedule, reader: store.Reader, listener: Listener) -> None:
        assert described.policy is not None and described.policy.remote is not None
        self._endpoint = described.policy.remote
        self._listener, self._token = listener
        self._reader = reader
        description = describe(self._reader)
        self._form = Form.from_description(description)
        self._writer = Writer(self._reader, self._form)
        self._epoch = self._reader.epoch
        self._greeting = msgpack.packb({"description": description})
        channels = sum(count for _, count, _ in self._form.layout.actuators)
        self._kept = _KEPT_BYTES + 8 * channels * described.policy.chunk
        self._decoder = msgspec.msgpack.Decoder(RemoteReply)
        self._hello = msgspec.msgpack.Decoder(Hello)
        self._callers: list[RemoteConnection] = []
        self._peer: RemoteConnection | None = None
        self._is_ready = False
        self._has_served = self._waits_for_rest = False
        self._applied: tuple[bytes, ...] = ()
        self._number = 0
        self._complaints = 0
        self._poll = select.poll()
        try:
            self._poll.register(self._listener, select.POLLIN)
            self._wait_ready(described)
        except BaseException:
            self.close()
            raise

    def _wait_ready(self, described: Schedule) -> None:
        until_s = time.monotonic() + _WAIT_S
        while not self._is_ready:
            if time.monotonic() > until_s:
                path = remote.token_file(self._endpoint)
                raise described.error(
                    "policy.remote",
                    f"no policy came to {self._endpoint!r} within {_WAIT_S:.0f} s; start it there: "
                    f"inphase.serve_policy({self._endpoint!r}, policy)"
                    + (f" by a user who can read {path}" if path else ""),
                )
            self._look(_POLL_MS, None)

    def __call__(self, frame: Frame) -> Any:
        """Its answer: an array of the shape that it gave, or a Refusal."""
        for _ in range(_LOOKS):
            if not self._look(0, None)[0]:
                break
        if not self._is_at_rest(frame) or not self._is_ready or not self._send_frame(frame):
            return Refusal("silent")
        peer = self._peer
        while True:
            _, answer = self._look(_POLL_MS, frame)
            if answer is not None:
                return answer
            if not self._is_ready or self._peer is not peer:  # it is gone, or it began anew
                return Refusal("silent")

    def _is_at_rest(self, frame: Frame) -> bool:
        """True if nothing moves any more that the remote before had moved; true without one."""
        if not self._waits_for_rest:
            return True
        acts = [frame.command[name] for name, _, _ in frame.layout.actuators]
        applied = tuple(act.applied.tobytes() for act in acts)
        is_still = all("RAMPING" in act.flags for act in acts) and applied == self._applied
        self._applied = applied
        self._waits_for_rest = frame.state in _MOVES and not is_still
        return not self._waits_for_rest

    def _send_frame(self, frame: Frame) -> bool:
        """True if somebody has it, or will."""
        assert self._peer is not None
        writer = self._writer
        self._reader.record[:] = frame.record
        writer.write(self._number)
        self._number += 1
        large = [bytes(sample.buffer) if sample.here else b"" for sample in writer.large]
        try:
            self._peer.send([FRAME, bytes(writer.header), bytes(writer.packed), *large])
        except OSError:
            self._leave(self._peer, "")
            return False
        writer.sent()
        return True

    # ---- who is there ----------------------------------------------------------------------

    def _look(self, timeout_ms: int, frame: Frame | None) -> tuple[bool, Any]:
        """See to what has come, once: whether anything had, and the answer to the frame if that was
        in it."""
        for caller in self._callers:
            events = select.POLLIN | (select.POLLOUT if caller.is_behind else 0)
            self._poll.modify(caller, events)
        came = dict(self._poll.poll(timeout_ms))
        answer: Any = None
        for caller in [*self._callers]:
            events = came.get(caller.fileno(), 0)
            if not events:
                self._drop_silent(caller)
                continue
            try:
                messages = caller.receive() if events & ~select.POLLOUT else []
                caller.push()
                for message in messages:
                    found = self._take(caller, message, frame if answer is None else None)
                    answer = found if answer is None else answer
            except OSError:
                self._leave(caller, "")
            except WireError as error:
                self._leave(caller, str(error))
        if self._listener.fileno() in came:
            self._let_in()
        return bool(came), answer

    def _let_in(self) -> None:
        try:
            line, _ = self._listener.accept()
        except OSError:
            return
        strangers = [caller for caller in self._callers if caller is not self._peer]
        if len(strangers) >= _CALLERS - 1:
            self._leave(strangers[0], "")
        try:
            caller = RemoteConnection(line, self._kept)
        except OSError:
            line.close()
            return
        self._callers.append(caller)
        self._poll.register(caller, select.POLLIN)

    def _drop_silent(self, caller: RemoteConnection) -> None:
        if not caller.has_called and time.monotonic() - caller.came_s > _GREETED_S:
            self._leave(caller, "")

    def _leave(self, caller: RemoteConnection, why: str) -> None:
        """Close a connection; why: what it did, where that is worth a line."""
        if caller not in self._callers:
            return
        self._callers.remove(caller)
        self._poll.unregister(caller)
        caller.line.close()
        if why:
            self._complain(f"{caller.name} {why}; it was disconnected")
        if caller is self._peer:
            self._peer, self._is_ready = None, False
            if self._has_served:
                self._has_served, self._waits_for_rest = False, True
                self._applied = ()
                self._complain(f"the remote, {caller.name}, is gone: the robot comes to rest first")

    # ---- what they say ---------------------------------------------------------------------

    def _take(self, caller: RemoteConnection, message: zmtp.Message, frame: Frame | None) -> Any:
        """See to one message; the answer to the frame if it is that, else None."""
        parts = message.parts
        if caller is not self._peer:
            if not parts or parts[0] != HELLO or len(parts) != _PARTS:
                raise WireError("sent something else than hello")
            self._hear_hello(caller, parts[1])
            return None
        if len(parts) != _PARTS:
            what = f"a message of {len(parts) or 'too many'} parts, {message.size} bytes"
            return self._malformed(frame, what)
        kind, content = parts
        if kind == COMMAND:
            return self._answer(content, frame)
        if kind == HELLO:
            self._hear_hello(caller, content)
        elif kind == READY:
            self._is_ready = True
        elif kind != END:
            return self._malformed(frame, f"a message of kind {kind[:20]!r}")
        return None

    def _hear_hello(self, caller: RemoteConnection, content: bytes) -> None:
        """Greet it, or say why not. Raises OSError."""
        if caller.is_behind and caller.has_called:
            return  # it does not read what it asks for
        caller.has_called = True
        trouble = self._trouble_with(caller, content)
        if trouble:
            self._complain(f"refused {caller.name}: {trouble}")
            caller.send([REFUSED, msgpack.packb({"error": trouble})])
            return
        self._peer, self._is_ready = caller, False
        self._writer = Writer(self._reader, self._form)  # it has had no large sample yet
        caller.send([GREETING, self._greeting])

    def _trouble_with(self, caller: RemoteConnection, content: bytes) -> str:
        """Why a caller is not the policy; empty: it is."""
        if self._peer is not None and self._peer is not caller:
            return f"{self._peer.name} serves this robot; end that one first"
        if not self._token:
            return ""
        try:
            token = self._hello.decode(content).token
        except Exception:  # whatever it says: it is no proof
            token = ""
        if hmac.compare_digest(token.encode(), self._token.encode()):
            return ""
        path = remote.token_file(self._endpoint)
        return f"hello lacks this run's token; it is in {path}, which the robot's user can read"

    def _answer(self, content: bytes, frame: Frame | None) -> Any:
        try:
            reply = self._decoder.decode(content)
        except Exception as error:  # a text that is not UTF-8 is none of msgspec's own
            return self._malformed(frame, f"an invalid command: {error}")
        if frame is None or reply.epoch != self._epoch or reply.cycle != frame.cycle:
            return None  # of a frame that is not waited for any more
        if reply.reason:
            return Refusal(reply.reason if reply.reason in _REFUSALS else "shape")
        if (
            not 1 <= len(reply.shape) <= 2
            or any(side < 0 for side in reply.shape)
            or math.prod(reply.shape) * 8 != len(reply.values)
        ):
            what = f"{len(reply.values)} bytes for the shape {reply.shape[:4]}"
            return self._malformed(frame, what)
        self._has_served = True
        return np.frombuffer(reply.values, "<f8").reshape(reply.shape)

    def _malformed(self, frame: Frame | None, what: str) -> Any:
        """Say it, sometimes; the frame is answered with it."""
        self._complain(f"the remote sent {what}; see WIRE.md")
        return Refusal("shape") if frame is not None else None

    def _complain(self, what: str) -> None:
        self._complaints += 1
        if self._complaints <= _COMPLAINTS:
            print(f"policy: {what}", file=sys.stderr)

    def close(self) -> None:
        """Say goodbye, and end."""
        if self._peer is not None:
            self._say_goodbye(self._peer)
        for caller in self._callers:
            caller.line.close()
        self._callers.clear()
        self._listener.close()
        self._reader.close()

    def _say_goodbye(self, peer: RemoteConnection) -> None:
        """The other side forgets what it has not read when a connection ends: wait for its word."""
        with contextlib.suppress(OSError, WireError):
            peer.send([END, b""])
            until_s = time.monotonic() + _GOODBYE_S
            while select.select([peer], [], [], max(0, until_s - time.monotonic()))[0]:
                peer.push()
                if any(message.parts[:1] == [END] for message in peer.receive()):
                    return
