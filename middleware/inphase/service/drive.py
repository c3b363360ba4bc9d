"""The drive process of a served robot: it sends frames, and takes commands from afar.

    python -m inphase.service.drive SCHEDULE STORE LOCAL REMOTE KEYS
        MAILBOX_FD BELL_FD LEASE_FD LINE_FD

It follows the store as a policy does, and its answers are posted as a policy's are. It takes those
of the lease's holder alone; the core asks for the lease once more. SERVICE.md is the format.
"""

import contextlib
import gc
import hmac
import json
import math
import select
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import msgspec
import numpy as np
import zmq

from inphase import schedule
from inphase.access.rates import Rate, Rates
from inphase.client.kinds import PING, PONG
from inphase.errors import InphaseError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.message import Form, Writer, describe
from inphase.frames.store_follower import StoreFollower
from inphase.host import process
from inphase.policy.command_buffer import make_buffer
from inphase.policy.turn import every, valid_ns
from inphase.remote import COMMAND, END, FRAME, GREETING, HELLO, REFUSED
from inphase.schedule import Schedule
from inphase.service.doors import Door, DoorKeys, take

_IDLE_S = 0.05
_FRAME_S = 0.2
_QUEUE = 8  # messages to a client that does not read; further frames are left out
_COMMAND_BYTES = 1 << 16
_BURST = 64  # messages that are looked at before the next frame is
_RATE = Rate(messages=10_000, messages_burst=10_000, size=64 << 20, size_burst=64 << 20)
_TELL_S = 1.0
_LINGER_MS = 100
_PERSON, _CLIENT = "person", "client"


class DriveHello(msgspec.Struct, frozen=True):
    """A client's first message: whose lease it drives under."""

    lease: int
    token: str
    images: bool = True
    """whether it is sent images, and answers with them"""


class DriveCommand(msgspec.Struct, frozen=True):
    """An answer to a frame."""

    lease: int
    cycle: int
    shape: list[int]
    values: bytes
    image_cycle: int = -1
    """of the newest image that it was made from; -1: of none"""
    is_person: bool = False


class Holder(msgspec.Struct, frozen=True):
    """Whose commands are taken; lease 0: nobody's."""

    lease: int = 0
    user: str = ""
    token: str = ""


class CommandCheck:
    """The rules of a command beside its lease: its frame, its picture, its shape."""

    def __init__(self, described: Schedule, form: Form) -> None:
        self._period_ns = described.cycle.period_ns
        self._valid_ns = valid_ns(described)
        self._values = sum(count for _, count, _ in form.layout.actuators)
        self._chunk = described.policy.chunk if described.policy is not None else 1
        names = [form.layout.sensors[sensor] for sensor in form.large]
        ages = [int(described.sensor[name].max_age_ms * 1e6) for name in names]
        self._image_age_ns = max(ages, default=0)
        self._answered = -1

    def begin(self) -> None:
        """A client begins anew."""
        self._answered = -1

    def trouble(self, command: DriveCommand, newest: int, *, has_images: bool) -> str:
        """The reason why it is no command; empty: it is one."""
        if not self._answered < command.cycle <= newest:
            return "replayed" if command.cycle <= self._answered else "future"
        if (newest - command.cycle) * self._period_ns > self._valid_ns:
            return "old"
        if has_images and self._image_age_ns and not self._is_seen(command):
            return "image"
        if not self._fits(command):
            return "shape"
        self._answered = command.cycle
        return ""

    def _is_seen(self, command: DriveCommand) -> bool:
        age = command.cycle - command.image_cycle
        return command.image_cycle >= 0 and 0 <= age * self._period_ns <= self._image_age_ns

    def _fits(self, command: DriveCommand) -> bool:
        wanted = [[self._values], [self._chunk, self._values]]
        return (
            command.shape in wanted
            and math.prod(command.shape) * 8 == len(command.values)
            and math.prod(command.shape) == self._values * self._chunk
        )


class DrivePeer(NamedTuple):
    """One connection of a client."""

    socket: Any
    identity: bytes


class DriveProcess:
    """The process of one robot. Thread: one."""

    def __init__(self, described: Schedule, follower: StoreFollower, door: Door) -> None:
        self._follower = follower
        self._door = door
        self._form = Form.from_description(describe(follower.reader))
        self._greeting = msgpack.packb({"description": describe(follower.reader)})
        self._writer = Writer(follower.reader, self._form)
        self._check = CommandCheck(described, self._form)
        self._every, self._valid_ns = every(described), valid_ns(described)
        self._period_ns = described.cycle.period_ns
        self._buffer = make_buffer(described, follower.layout.actuators)
        self._hellos = msgspec.msgpack.Decoder(DriveHello)
        self._commands = msgspec.msgpack.Decoder(DriveCommand)
        self._holder = Holder()
        self._peer: DrivePeer | None = None
        """that drives"""
        self._has_images = True
        self._number = 0
        self._newest: Frame | None = None
        self.counts: Counter[str] = Counter()
        self._rates = Rates(_RATE)
        self._told_s = time.monotonic()

    def serve(self, mailbox: store.Mailbox, page: store.LeasePage, line: socket.socket) -> None:
        """Until the robot ends."""
        self._mailbox, self._page, self._line = mailbox, page, line
        self._fds = [line.fileno(), *(one.getsockopt(zmq.FD) for one in self._door.sockets)]
        with contextlib.suppress(store.Lost):
            while True:
                if not self._peer:
                    self._look(_IDLE_S)
                    continue
                with contextlib.suppress(TimeoutError):
                    self._send(self._follower.next(_FRAME_S, every=self._every))
                while self._look(self._left_s()) and self._left_s() > 0 and self._peer:
                    pass
        if self._peer:
            self._tell(self._peer, END, b"")

    def _left_s(self) -> float:
        """Until the next frame that is sent begins: the store is waited for then."""
        if self._newest is None:
            return 0.0
        due_ns = self._newest.due_ns + self._every * self._period_ns
        return max(0.0, (due_ns - time.monotonic_ns()) * 1e-9)

    def _look(self, timeout_s: float) -> bool:
        """See to what has come, or comes within that time; false: nothing did.

        ZeroMQ tells once that something is there: all of it is taken before it is waited for. A
        poll of its own would wait for whole milliseconds, which are whole cycles.
        """
        if time.monotonic() - self._told_s > _TELL_S:
            self._tell_service()
        if self._drain():
            return True
        ready, _, _ = select.select(self._fds, [], [], timeout_s)
        if self._fds[0] in ready:
            self._hear_service()
        self._drain()
        return bool(ready)

    def _drain(self) -> bool:
        """Take what is there, at most a burst of each socket; false: nothing was."""
        taken = 0
        for one in self._door.sockets:
            for _ in range(_BURST):
                parts = take(one)
                if parts is None:
                    break
                self._take(one, parts)
                taken += 1
        return taken > 0

    def _tell_service(self) -> None:
        self._told_s = time.monotonic()
        if self.counts:
            with contextlib.suppress(BlockingIOError):
                self._line.send(json.dumps({"counts": self.counts}).encode())

    def _hear_service(self) -> None:
        said = self._line.recv(65536)
        if not said:
            raise store.Lost("the service has ended")
        self._holder = msgspec.json.decode(said, type=Holder)
        if self._peer:
            self._refuse(self._peer, "the lease has ended, or is another's")
            self._peer = None

    # ---- out -------------------------------------------------------------------------------

    def _send(self, frame: Frame) -> None:
        assert self._peer is not None
        self._newest = frame
        self._writer.write(self._number)
        self._number += 1
        large = [
            sample.buffer if sample.here and self._has_images else b""
            for sample in self._writer.large
        ]
        try:
            self._peer.socket.send_multipart(
                [self._peer.identity, FRAME, self._writer.header, self._writer.packed, *large],
                zmq.NOBLOCK,
            )
        except zmq.Again:
            self.counts["unsent"] += 1
            return
        except zmq.ZMQError:
            self._peer = None
            return
        self._writer.sent()
        self._mailbox.taken()

    def _tell(self, peer: DrivePeer, kind: bytes, content: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # gone, or it does not read
            peer.socket.send_multipart([peer.identity, kind, content], zmq.NOBLOCK)

    def _refuse(self, peer: DrivePeer, why: str, *, is_early: bool = False) -> None:
        """is_early: the lease is newer than those that this process knows; it will be told."""
        self._tell(peer, REFUSED, msgpack.packb({"error": why, "early": is_early}))

    # ---- in --------------------------------------------------------------------------------

    def _take(self, socket: Any, parts: list[Any]) -> None:
        received_ns = time.monotonic_ns()
        if len(parts) != 3 or len(parts[2].buffer) > _COMMAND_BYTES:
            self.counts["malformed"] += 1
            return
        peer, kind = DrivePeer(socket, parts[0].bytes), parts[1].bytes
        content = parts[2].buffer
        caller = self._door.caller(socket, parts[2])
        if caller is None or not self._rates.take(caller.user, len(content)):
            self.counts["strangers" if caller is None else "flood"] += 1
            if peer == self._peer and caller is None:
                self._peer = None  # its key was revoked
            return
        user = caller.user
        if kind == PING:
            self._tell(peer, PONG, msgpack.packb([bytes(content[:16]), received_ns]))
        elif kind == HELLO:
            self._hear_hello(peer, user, content)
        elif kind == END and peer == self._peer:
            self._peer = None
        elif kind == COMMAND:
            reason = self._obey(peer, user, content)
            self.counts[reason or "taken"] += 1

    def _hear_hello(self, peer: DrivePeer, user: str, content: Any) -> None:
        try:
            hello = self._hellos.decode(content)
        except Exception as error:  # whatever it sent, it is no hello
            self._refuse(peer, f"no hello: {error}")
            return
        holder = self._holder
        is_holders = holder.lease and (hello.lease, user) == (holder.lease, holder.user)
        if not is_holders or not hmac.compare_digest(hello.token.encode(), holder.token.encode()):
            self.counts["strangers"] += 1
            why = f"lease {hello.lease} is not {user}'s, or has ended; ask for one"
            self._refuse(peer, why, is_early=hello.lease > holder.lease)
            return
        if self._peer and self._peer != peer:
            self._refuse(self._peer, "another connection of the same lease drives now")
        self._peer, self._has_images = peer, hello.images
        self._writer = Writer(self._follower.reader, self._form)
        self._check.begin()
        self._tell(peer, GREETING, self._greeting)

    def _obey(self, peer: DrivePeer, user: str, content: Any) -> str:
        """Post a command; the reason why not, empty: it is posted."""
        if peer != self._peer or user != self._holder.user:
            return "strangers"
        try:
            command = self._commands.decode(content)
        except Exception:  # whatever it sent, it is none
            return "malformed"
        if command.lease != self._holder.lease or self._page.get() != command.lease:
            return "lease"
        newest, has_images = self._newest, self._has_images
        trouble = "future"  # where no frame was sent yet
        if newest is not None:
            trouble = self._check.trouble(command, newest.cycle, has_images=has_images)
        if newest is None or trouble:
            return trouble
        values = np.frombuffer(command.values, "<f8").reshape(command.shape)
        if self._buffer.fill(values) is not None:
            return "shape"
        self._mailbox.sign(command.lease, _PERSON if command.is_person else _CLIENT)
        until_ns = newest.due_ns + self._valid_ns
        until_ns -= (newest.cycle - command.cycle) * self._period_ns
        self._mailbox.post(command.cycle, until_ns, self._buffer.pointer, self._buffer.count)
        return ""


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the service's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, store_path, local, remote, keys, *fds = sys.argv[1:]
    mailbox_fd, bell_fd, lease_fd, line_fd = map(int, fds)
    try:
        described = schedule.load(Path(path))
        follower = StoreFollower(store_path)
        mailbox = store.Mailbox(mailbox_fd, bell_fd)
        mailbox.wake(follower.reader)
        page = store.LeasePage(lease_fd, writes=False)
        context: zmq.Context[Any] = zmq.Context()
        door_keys = DoorKeys(context, Path(keys)) if keys else None
        door = Door(
            context,
            described,
            local,
            remote,
            door_keys,
            queue=_QUEUE,
            message_bytes=_COMMAND_BYTES,
        )
        process.say_ready()
        gc.collect()
        gc.freeze()
        DriveProcess(described, follower, door).serve(mailbox, page, socket.socket(fileno=line_fd))
        door.close(_LINGER_MS)
    except InphaseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
