"""The drive process of a served robot: it sends frames, and takes commands from afar.

    python -m inphase.service.drive SCHEDULE STORE LOCAL REMOTE KEYS
        MAILBOX_FD BELL_FD LEASE_FD LINE_FD

It follows the store as a policy does, and its answers are posted as a policy's are. It takes those
of the lease's holder alone; the core asks for the lease once more. A lease has two seats: that of
the holder's client, and that of a person, who takes over while commands come from there. SERVICE.md
is the format.
"""

import contextlib
import gc
import hmac
import json
import signal
import socket
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
import zmq

from inphase import schedule
from inphase.access.rates import Rate, Rates
from inphase.client.kinds import PING, PONG
from inphase.errors import InphaseError, ServiceError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.message import Form
from inphase.frames.record_layout import HEADER
from inphase.frames.sending import describe
from inphase.frames.store_follower import StoreFollower
from inphase.host import process
from inphase.policy.command_buffer import make_buffer
from inphase.policy.turn import every, valid_ns
from inphase.remote import COMMAND, END, FRAME, GREETING, HELLO, REFUSED
from inphase.schedule import Schedule
from inphase.service.doors import Caller, Door, DoorKeys, give
from inphase.service.driving import sent_camera
from inphase.service.driving.command_check import DriveCommand
from inphase.service.driving.inbox import Inbox
from inphase.service.driving.seat import CLIENT, PERSON, DriveHello, DrivePeer, DriveSeat

_IDLE_S = 0.05
_FRAME_S = 0.2
_QUEUE = 8  # messages to a client that does not read; further frames are left out
_COMMAND_BYTES = 1 << 16
_RATE = Rate(messages=10_000, messages_burst=10_000, size=64 << 20, size_burst=64 << 20)
_TELL_S = 1.0
_LINGER_MS = 100
_HOLD_NS = 200_000_000
"""so long after its last command a person drives on, or as long as the robot repeats commands"""
_LOOKED_AT = 64  # frames, for how soon they are latched
_AT_LATCH, _AT_DUE = HEADER.index("latched_ns"), HEADER.index("due_ns")


class Holder(msgspec.Struct, frozen=True):
    """Whose commands are taken; lease 0: nobody's."""

    lease: int = 0
    user: str = ""
    token: str = ""


class DriveProcess:
    """The process of one robot. Thread: one."""

    def __init__(self, described: Schedule, follower: StoreFollower, door: Door) -> None:
        self._described = described
        self._follower = follower
        self._door = door
        self._description = describe(follower.reader)
        self._form = Form.from_description(self._description)
        self._every, self._valid_ns = every(described), valid_ns(described)
        self._period_ns = described.cycle.period_ns
        holds = [one.max_hold_ns(self._period_ns) for one in described.actuator.values()]
        self._hold_ns = min([_HOLD_NS, *holds])
        self._rhythm = _rhythm(described)
        self._buffer = make_buffer(described, follower.layout.actuators)
        self._hellos = msgspec.msgpack.Decoder(DriveHello)
        self._commands = msgspec.msgpack.Decoder(DriveCommand)
        self._holder = Holder()
        self._seats: dict[str, DriveSeat] = {}
        """those that are taken, by their word"""
        self._person_until_ns = 0
        """while a person drives, the client's commands are not taken"""
        self._newest: Frame | None = None
        self.counts: Counter[str] = Counter()
        self._rates = Rates(_RATE)
        self._told_s = time.monotonic()

    def serve(self, mailbox: store.Mailbox, page: store.LeasePage, line: socket.socket) -> None:
        """Until the robot ends."""
        self._mailbox, self._page, self._line = mailbox, page, line
        self._inbox = Inbox(self._door.sockets, line.fileno())
        with contextlib.suppress(store.Lost):
            while True:
                if not self._seats:
                    self._look(_IDLE_S)
                    continue
                with contextlib.suppress(TimeoutError):
                    self._send(self._follower.next(_FRAME_S, every=self._every))
                while self._look(self._left_s()) and self._left_s() > 0 and self._seats:
                    pass
        for seat in self._seats.values():
            self._tell(seat.peer, END, b"")

    def _left_s(self) -> float:
        """Until the next frame that is sent begins: the store is waited for then."""
        if self._newest is None:
            return 0.0
        due_ns = self._newest.due_ns + self._every * self._period_ns
        return max(0.0, (due_ns - time.monotonic_ns()) * 1e-9)

    def _look(self, timeout_s: float) -> bool:
        """See to what has come, or comes within that time; false: nothing did."""
        if time.monotonic() - self._told_s > _TELL_S:
            self._tell_service()
        if self._take_all():
            return True
        has_come, is_of_service = self._inbox.wait(timeout_s)
        if is_of_service:
            self._hear_service()
        self._take_all()
        return has_come

    def _take_all(self) -> bool:
        """Take what is there; false: nothing was."""
        is_taken = False
        for way, parts in self._inbox.messages():
            self._take(way, parts)
            is_taken = True
        return is_taken

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
        for seat in [*self._seats.values()]:
            self._refuse(seat.peer, "the lease has ended, or is another's")
            self._leave(seat)

    # ---- out -------------------------------------------------------------------------------

    def _send(self, frame: Frame) -> None:
        self._newest = frame
        for seat in [*self._seats.values()]:
            self._send_to(seat)
        if CLIENT in self._seats:  # else mailbox and bell are those of a job's policy
            self._mailbox.taken()

    def _send_to(self, seat: DriveSeat) -> None:
        parts = seat.write()
        try:
            give(seat.peer.socket, [seat.peer.identity, FRAME, *parts])
        except zmq.Again:
            self.counts["unsent"] += 1
        except zmq.ZMQError:
            self._leave(seat)
        else:
            seat.sent()
        self._inbox.used(seat.peer.socket)

    def _tell(self, peer: DrivePeer, kind: bytes, content: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # gone, or it does not read
            give(peer.socket, [peer.identity, kind, content])
        self._inbox.used(peer.socket)

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
        seat = next((one for one in self._seats.values() if one.peer == peer), None)
        if caller is None or not self._rates.take(caller.user, len(content)):
            self.counts["strangers" if caller is None else "flood"] += 1
            if seat is not None and caller is None:
                self._leave(seat)  # its key was revoked
            return
        if kind == PING:
            self._tell(peer, PONG, msgpack.packb([bytes(content[:16]), received_ns]))
        elif kind == HELLO:
            self._hear_hello(peer, caller, content)
        elif kind == END and seat is not None:
            self._leave(seat)
        elif kind == COMMAND:
            reason = self._obey(seat, caller, content)
            self.counts[reason or "taken"] += 1

    def _leave(self, seat: DriveSeat) -> None:
        """A seat is empty from now on; a person hands back."""
        if self._seats.get(seat.word) is seat:
            del self._seats[seat.word]
            self._mailbox.wake(self._follower.reader, CLIENT in self._seats)
            if seat.word == PERSON:
                self._hand_back()

    def _hand_back(self) -> None:
        """The core is told at once; else it waits for the person's next command for a moment."""
        self._person_until_ns = 0
        if self._newest is not None and self._holder.lease:
            self._mailbox.sign(self._holder.lease, PERSON)
            self._mailbox.refuse(self._newest.cycle, "silent")

    def _hear_hello(self, peer: DrivePeer, caller: Caller, content: Any) -> None:
        try:
            hello = self._hellos.decode(content)
        except Exception as error:  # whatever it sent, it is no hello
            self._refuse(peer, f"no hello: {error}")
            return
        if not self._may_sit(hello, caller):
            is_early = hello.lease > self._holder.lease
            self.counts["strangers"] += not is_early
            why = f"lease {hello.lease} is not {caller.user}'s, or has ended; ask for one"
            self._refuse(peer, why, is_early=is_early)
            return
        try:
            seat = DriveSeat(
                peer,
                caller,
                hello,
                described=self._described,
                reader=self._follower.reader,
                form=self._form,
            )
        except ServiceError as error:
            self._refuse(peer, str(error))
            return
        person = self._seats.get(PERSON)
        if person and person.caller.is_local and seat.word == PERSON and not caller.is_local:
            self._refuse(peer, "the local operator has the person's seat; ask for it there")
            return
        self._sit(seat)
        description = sent_camera.described(self._description, seat.cameras)
        timing = self._rhythm | {"latched_ns": self._latched_ns()}
        self._tell(peer, GREETING, msgpack.packb({"description": description, "timing": timing}))

    def _latched_ns(self) -> int:
        """How soon after its due time a frame is latched, at best."""
        try:
            frame = self._follower.next(_FRAME_S, newest=True)
        except TimeoutError:
            return self._described.cycle.read_deadline_ns
        records = [record for record, _ in islice(self._follower.past(frame.cycle), _LOOKED_AT)]
        headers = [HEADER.unpack_from(one) for one in (frame.record, *records)]
        return int(min(header[_AT_LATCH] - header[_AT_DUE] for header in headers))

    def _may_sit(self, hello: DriveHello, caller: Caller) -> bool:
        """The holder may, by its token; the local operator may take the person's seat."""
        holder = self._holder
        if not holder.lease or hello.lease != holder.lease:
            return False
        if hello.person and caller.is_local:
            return True
        has_token = hmac.compare_digest(hello.token.encode(), holder.token.encode())
        return has_token and caller.user == holder.user

    def _sit(self, seat: DriveSeat) -> None:
        """A connection has one seat, and a seat one connection: the newest."""
        for other in [*self._seats.values()]:
            if other.peer == seat.peer:
                self._leave(other)
            elif other.word == seat.word:
                self._refuse(other.peer, "another connection of the same lease drives now")
                self._leave(other)
        self._seats[seat.word] = seat
        self._mailbox.wake(self._follower.reader, CLIENT in self._seats)

    def _obey(self, seat: DriveSeat | None, caller: Caller, content: Any) -> str:
        """Post a command; the reason why not, empty: it is posted."""
        if seat is None or caller != seat.caller:
            return "strangers"
        try:
            command = self._commands.decode(content)
        except Exception:  # whatever it sent, it is none
            return "malformed"
        newest, now_ns = self._newest, time.monotonic_ns()
        if newest is None:
            return "future"  # no frame was sent yet
        if trouble := self._trouble(seat, command, newest, now_ns):
            return trouble
        if seat.word == PERSON:
            self._person_until_ns = now_ns + self._hold_ns
        self._mailbox.sign(command.lease, seat.word)
        until_ns = newest.due_ns + self._valid_ns
        until_ns -= (newest.cycle - command.cycle) * self._period_ns
        self._mailbox.post(command.cycle, until_ns, self._buffer.pointer, self._buffer.count)
        self._note_late(command, newest, now_ns)
        return ""

    def _trouble(self, seat: DriveSeat, command: DriveCommand, newest: Frame, now_ns: int) -> str:
        """Why it is not posted; empty: its values are in the buffer."""
        if command.lease != self._holder.lease or self._page.get() != command.lease:
            return "lease"
        if trouble := seat.check.trouble(command, newest.cycle):
            return trouble
        if seat.word == CLIENT and now_ns < self._person_until_ns:
            return PERSON
        values = np.frombuffer(command.values, "<f8").reshape(command.shape)
        return "shape" if self._buffer.fill(values) is not None else ""

    def _note_late(self, command: DriveCommand, newest: Frame, now_ns: int) -> None:
        """Count an answer that is too late for its first command, or a part of the way to it."""
        cycles = newest.cycle - command.cycle - self._rhythm["needed_cycles"]
        act_ns = newest.due_ns - cycles * self._period_ns + self._described.cycle.act_ns
        self.counts["late"] += now_ns > act_ns


def _rhythm(described: Schedule) -> dict[str, int]:
    """The times of answers by the schedule, in cycles but for those in nanoseconds."""
    policy, cycle = described.policy, described.cycle
    latency = policy.latency_cycles if policy is not None else 0
    chunk = policy.chunk if policy is not None else 1
    spacing = policy.spacing if policy is not None else 1
    is_gone_to = policy is not None and chunk == 1 and policy.interpolate != "hold"
    return {
        "period_ns": cycle.period_ns,
        "act_ns": cycle.act_ns,
        "every": every(described),
        "latency_cycles": latency,
        "needed_cycles": latency - (spacing - 1 if is_gone_to else 0),
        "chunk": chunk,
        "spacing": spacing,
    }


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
