"""The process of a policy: its loop on the wall clock, and in lock step.

    python -m inphase.policy SCHEDULE STORE MAILBOX_FD BELL_FD WORDS_FD [--lease NUMBER]
    python -m inphase.policy SCHEDULE STORE --lockstep FD WORDS_FD

A model's loop is C (`model_policy`), and so is its turn in lock step.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inphase import schedule
from inphase.errors import ScheduleError
from inphase.frames import store
from inphase.frames.record_layout import REASONS
from inphase.frames.store_follower import StoreFollower
from inphase.host import process
from inphase.policy import sandbox
from inphase.policy.command_buffer import make_buffer
from inphase.policy.isolated import ANSWER, NUMBER
from inphase.policy.remarks import Remarks
from inphase.policy.remote_socket import RemoteSocket
from inphase.policy.turn import (
    Ended,
    Turn,
    binding_of,
    every,
    make_turn,
    network_of,
    runs_in_c,
    valid_ns,
)
from inphase.policy.words_line import say_to
from inphase.schedule import Schedule

if TYPE_CHECKING:
    from inphase.policy import model_policy


def follow(
    follower: StoreFollower,
    mailbox: store.Mailbox,
    turn: "Turn | model_policy.ModelTurn",
    every: int,
    valid_ns: int,
) -> None:
    """The policy's loop: newest due frame in, answer out, until the store ends."""
    buffer = turn.buffer
    turns = store.Turns(
        follower.reader,
        mailbox,
        values=buffer.pointer,
        count=buffer.count,
        every=every,
        valid_ns=valid_ns,
    )
    try:
        lost = turns.first()
        while True:
            lost = turns.next(turn.take(follower.at_hand(lost)))
    except store.Lost:
        return


def serve(
    described: Schedule,
    store_path: str,
    mailbox_fd: int,
    bell_fd: int,
    say: Callable[[str], None],
) -> None:
    """The policy process on the wall clock."""
    follower = StoreFollower(store_path)
    buffer = make_buffer(described, follower.layout.actuators)
    mailbox = store.Mailbox(mailbox_fd, bell_fd)
    mailbox.wake(follower.reader)
    mailbox.sign(_lease(), "policy")
    with contextlib.closing(RemoteSocket(described, store_path)) as remote_socket:
        sandbox.enter(described, mailbox)  # nothing that the schedule names has run up to here
        if described.policy is not None and described.policy.is_network:
            _serve_model(described, follower, mailbox)
            return
        remarks = Remarks(say, described, is_confined=True)
        met = remote_socket.meet()
        turn = make_turn(
            described, follower, buffer, None, remarks, remote=met, count=mailbox.count
        )
        _begin(described)
        follow(follower, mailbox, turn, every(described), valid_ns(described))


def _serve_model(described: Schedule, follower: StoreFollower, mailbox: store.Mailbox) -> None:
    """A model's loop, from the first frame to the last; in C it is one call."""
    from inphase.policy import model_policy

    binding = model_policy.bound(described, follower.layout)
    is_native = runs_in_c(described)
    if is_native:
        model_policy.limit_memory()
    with network_of(described)(described, binding) as model:
        _begin(described)
        if is_native:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # C takes it from here on
            sandbox.narrow()
        model.serve(follower.reader, mailbox, every(described), valid_ns(described))


def _begin(described: Schedule) -> None:
    """The last preparations before the loop; its starter gives it its priority then."""
    assert described.policy is not None
    process.set_rights("policy", 0, described.policy.cpu)
    process.say_ready()

    # what exists now stays: no collection in the loop, none of what was imported looked at
    gc.collect()
    gc.freeze()
    gc.disable()


def serve_lockstep(
    described: Schedule, store_path: str, fd: int, say: Callable[[str], None]
) -> None:
    """The policy process in lock step: the number of a frame in, reason and values out."""
    follower = StoreFollower(store_path, from_first=True)
    buffer = make_buffer(described, follower.layout.actuators)
    with (
        contextlib.closing(RemoteSocket(described, store_path)) as remote_socket,
        socket.socket(fileno=fd) as line,
    ):
        sandbox.enter(described)
        binding = binding_of(described, follower)
        remarks = Remarks(say, described, is_confined=True, is_virtual=True)
        remote = remote_socket.meet()
        turn = make_turn(described, follower, buffer, binding, remarks, remote=remote)
        process.say_ready()
        while asked := line.recv(NUMBER.size, socket.MSG_WAITALL):
            (number,) = NUMBER.unpack(asked)
            while follower.number < number:
                frame = follower.next(timeout_s=1.0)
            trouble = turn.take(frame)
            reason = REASONS.index(trouble) if trouble else 0
            line.sendall(ANSWER.pack(reason) + turn.buffer.tobytes())


def _end(*_: object) -> None:
    """SIGTERM; a second one must not disturb the end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Ended(0)


def _lease() -> int:
    """The lease under which its answers are given; 0: none."""
    return int(sys.argv[sys.argv.index("--lease") + 1]) if "--lease" in sys.argv else 0


def _without_lease(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--lease")] if "--lease" in arguments else arguments


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, _end)
    path, store_path, *where, words_fd = _without_lease(sys.argv[1:])
    os.set_inheritable(int(words_fd), False)
    say = say_to(int(words_fd))
    try:
        described = schedule.load(Path(path))
        if where[0] == "--lockstep":
            serve_lockstep(described, store_path, int(where[1]), say)
        else:
            serve(described, store_path, int(where[0]), int(where[1]), say)
    except ScheduleError as error:
        say(str(error))  # whoever started it raises it
        sys.exit(error.exit_code)
