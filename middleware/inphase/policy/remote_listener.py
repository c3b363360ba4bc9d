"""The listener for remote policies: the socket, the proof of who may be one, and one connection.

The mode of its file proves a policy on an ipc socket, and the kernel checks it. On tcp the proof is
a token out of a file that only the robot's user, or the store's group, can read.
"""

import contextlib
import os
import secrets
import socket as sockets
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from inphase import remote
from inphase.host import endpoint, zmtp
from inphase.host.group import group_of
from inphase.schedule import Schedule

_MESSAGE_BYTES = 1 << 20  # one that is larger is forgotten up to here, then its sender is left
_RECEIVE_BYTES = 64 << 10
_TOKEN_BYTES = 32


class Listener(NamedTuple):
    """The socket that remotes connect to, and the token that proves them; empty for ipc."""

    socket: sockets.socket
    token: str

    def close(self) -> None:
        """Let nobody in any more."""
        self.socket.close()


def listen(described: Schedule) -> Listener | None:
    """Open the socket for a remote policy, before the process gives up making sockets.

    None: the schedule has no such policy. Raises ScheduleError.
    """
    policy = described.policy
    if policy is None or policy.remote is None:
        return None
    listener = endpoint.listen("policy.remote", policy.remote, described)
    path = remote.token_file(policy.remote)
    if path is None:
        return Listener(listener, "")
    try:
        return Listener(listener, _leave_token(Path(path), described))
    except OSError as error:
        listener.close()
        raise described.error(
            "policy.remote",
            f"the token's file {path} cannot be written: {error.strerror}; remove it, or use "
            f"ipc:///path",
        ) from error


def _leave_token(path: Path, described: Schedule) -> str:
    """A new token, in a file for this user alone, or the store's group."""
    try:
        path.parent.mkdir(mode=0o711)
    except FileExistsError:
        endpoint.check_folder(path.parent)
    token = secrets.token_hex(_TOKEN_BYTES)
    new = path.with_suffix(f".{os.getpid()}")
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(new, flags, 0o600)
    try:
        group = group_of(described)
        if group is not None:
            os.fchown(fd, -1, group)
            os.fchmod(fd, 0o640)
        os.write(fd, token.encode())
    finally:
        os.close(fd)
    new.replace(path)
    return token


def remove_left(address: str) -> None:
    """Remove the files of an address that a policy's process served, which may remove none."""
    endpoint.remove_left(address)
    path = remote.token_file(address)
    if path is not None:
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)


class RemoteConnection:
    """One connection."""

    def __init__(self, line: sockets.socket, kept: int) -> None:
        line.setblocking(False)
        if line.family != sockets.AF_UNIX:
            line.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            line.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
        self.line = line
        self.name = endpoint.who(line)
        self.came_s = time.monotonic()
        self.has_called = False
        """it has said hello, and was answered"""
        self._connection = zmtp.Connection(kept, _MESSAGE_BYTES)
        self._pieces: deque[memoryview] = deque()

    def fileno(self) -> int:
        return self.line.fileno()

    def receive(self) -> list[zmtp.Message]:
        """The messages that have come. Raises OSError, WireError when it is gone or has to be
        disconnected."""
        try:
            data = self.line.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        if not data:
            raise ConnectionResetError("it hung up")
        return self._connection.feed(data)

    @property
    def is_behind(self) -> bool:
        """True if something still waits to be sent."""
        return bool(self._pieces or self._connection.answers)

    def send(self, parts: Sequence[bytes]) -> None:
        """Send a message, as far as it is taken now; `push` sends the rest. Raises OSError."""
        self._queue(self._connection.answers)
        self._pieces.extend(memoryview(piece) for piece in zmtp.packed(parts))
        self.push()

    def _queue(self, answers: bytearray) -> None:
        """Commands go between whole messages."""
        if answers:
            self._pieces.append(memoryview(bytes(answers)))
            answers.clear()

    def push(self) -> None:
        """Send what waits. Raises OSError."""
        self._queue(self._connection.answers)
        while self._pieces:
            piece = self._pieces[0]
            try:
                sent = self.line.send(piece) if piece else 0
            except (BlockingIOError, InterruptedError):
                return
            if sent == len(piece):
                self._pieces.popleft()
            else:
                self._pieces[0] = piece[sent:]
