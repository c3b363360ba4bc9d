"""The robot's side of a policy in another process, over ZeroMQ on this host.

One remote at a time: the one that said hello last. It has at most one frame, the newest when it was
free; its answer counts for that frame's cycle, or for none. Nothing that it sends can do more than
that: sizes are bounded, decoding is strict, and the process that decodes has a policy's walls.
`remote` is the other side; WIRE.md ("A remote policy") is the format.
"""

import contextlib
import math
import socket as sockets
import sys
import time
from typing import Any

import msgpack
import msgspec
import numpy as np
import zmq

from inphase import endpoint, store, wire
from inphase.frame import Frame
from inphase.message import Form, Writer, describe
from inphase.packets import REASONS, Refusal
from inphase.remote import COMMAND, END, FRAME, GREETING, HELLO, READY
from inphase.schedule import Schedule

_MESSAGE_BYTES = 1 << 20  # of what a remote sends
_PARTS = 3  # its name, the kind, the content
_QUEUE = 8
_GOODBYE_S = 0.1
_WAIT_S = 15.0  # for the first remote
_POLL_MS = 200
_COMPLAINTS = 3
_REFUSALS = ("silent", "raised", "shape", "input")


class Reply(msgspec.Struct, frozen=True):
    """An answer to a frame: values of a shape, or the reason why there are none."""

    epoch: int
    cycle: int
    shape: list[int] = []
    values: bytes = b""
    reason: str = ""


def listen(described: Schedule) -> sockets.socket | None:
    """What a remote policy connects to; before the process gives up making sockets. None: the
    schedule has no such policy. Raises ScheduleError."""
    policy = described.policy
    if policy is None or policy.remote is None:
        return None
    return endpoint.listen("policy.remote", policy.remote, described)


class RemotePolicy:
    """A policy that is asked in another process. Whoever makes it closes it. Thread: one.

    Raises ScheduleError when nobody is there within 15 s.
    """

    def __init__(self, described: Schedule, store_path: str, listener: sockets.socket) -> None:
        assert described.policy is not None and described.policy.remote is not None
        self._endpoint = described.policy.remote
        self._reader = store.Reader(store_path)
        description = describe(self._reader)
        self._form = Form.from_description(description)
        self._writer = Writer(self._reader, self._form)
        self._epoch = self._reader.epoch
        self._greeting = msgpack.packb(
            {
                "description": description,
                "statuses": wire.STATUSES,
                "reasons": REASONS,
                "states": wire.STATES,
                "frame_flags": wire.FRAME_FLAGS,
                "act_flags": wire.ACT_FLAGS,
            }
        )
        self._decoder = msgspec.msgpack.Decoder(Reply)
        self._peer = b""
        self._is_ready = False
        self._number = 0
        self._complaints = 0
        self._socket: endpoint.Socket = zmq.Context.instance().socket(zmq.ROUTER)
        endpoint.set_bounds(self._socket, queue=_QUEUE, message_bytes=_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        endpoint.bind_to(self._socket, self._endpoint, listener)
        try:
            self._wait_ready(described)
        except BaseException:
            self.close()
            raise

    def _wait_ready(self, described: Schedule) -> None:
        until_s = time.monotonic() + _WAIT_S
        while not self._is_ready:
            if time.monotonic() > until_s:
                raise described.error(
                    "policy.remote",
                    f"no policy came to {self._endpoint!r} within {_WAIT_S:.0f} s; start it there: "
                    f"inphase.serve_policy({self._endpoint!r}, policy)",
                )
            self._take_message(_POLL_MS, None)

    def __call__(self, frame: Frame) -> Any:
        """Its answer: an array of the shape that it gave, or a Refusal."""
        while self._socket.poll(0):
            self._take_message(0, None)
        if not self._is_ready or not self._send_frame(frame):
            return Refusal("silent")
        peer = self._peer
        while True:
            answer = self._take_message(_POLL_MS, frame)
            if answer is not None:
                return answer
            if not self._is_ready or self._peer != peer:  # another came, or it began anew
                return Refusal("silent")

    def _send_frame(self, frame: Frame) -> bool:
        """Whether somebody has it."""
        writer = self._writer
        self._reader.record[:] = frame.record
        writer.write(self._number)
        self._number += 1
        large = [bytes(sample.buffer) if sample.here else b"" for sample in writer.large]
        try:
            self._socket.send_multipart(
                [self._peer, FRAME, bytes(writer.header), bytes(writer.packed), *large],
                zmq.NOBLOCK,
            )
        except zmq.ZMQError:  # it is gone, or does not read
            self._is_ready = False
            return False
        writer.sent()
        return True

    def _take_message(self, timeout_ms: int, frame: Frame | None) -> Any:
        """See to one message; the answer to the frame if it is that, else None."""
        if not self._socket.poll(timeout_ms):
            return None
        parts = self._socket.recv_multipart()
        if len(parts) != _PARTS:
            return self._malformed(parts[0], frame, f"a message of {len(parts) - 1} parts")
        peer, kind, content = parts
        if kind == HELLO:
            self._greet(peer)
        elif kind == READY and peer == self._peer:
            self._is_ready = True
        elif kind == COMMAND and peer == self._peer:
            return self._answer(content, frame)
        elif kind not in (READY, COMMAND):
            return self._malformed(peer, frame, f"a message of kind {kind[:20]!r}")
        return None

    def _greet(self, peer: bytes) -> None:
        self._peer, self._is_ready = peer, False
        self._writer = Writer(self._reader, self._form)  # it has had no large sample yet
        try:
            self._socket.send_multipart([peer, GREETING, self._greeting], zmq.NOBLOCK)
        except zmq.ZMQError:
            self._peer = b""

    def _answer(self, content: bytes, frame: Frame | None) -> Any:
        try:
            reply = self._decoder.decode(content)
        except Exception as error:  # a text that is not UTF-8 is none of msgspec's own
            return self._malformed(self._peer, frame, f"a command that is none: {error}")
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
            return self._malformed(self._peer, frame, what)
        return np.frombuffer(reply.values, "<f8").reshape(reply.shape)

    def _malformed(self, peer: bytes, frame: Frame | None, what: str) -> Any:
        """Say it, sometimes; the frame is answered with it where it came from who has the frame."""
        self._complaints += 1
        if self._complaints <= _COMPLAINTS:
            print(f"policy: the remote sent {what}; see WIRE.md", file=sys.stderr)
        return Refusal("shape") if frame is not None and peer == self._peer else None

    def close(self) -> None:
        """Say goodbye, and end."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.send_multipart([self._peer, END, b""], zmq.NOBLOCK)
            # the other side forgets what it has not read when a connection ends
            until_s = time.monotonic() + _GOODBYE_S
            while self._socket.poll(max(0, int((until_s - time.monotonic()) * 1000))):
                if self._socket.recv_multipart()[:2] == [self._peer, END]:
                    break
        self._socket.close(linger=0)
        self._reader.close()
