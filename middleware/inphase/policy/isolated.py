"""A policy in a process of its own in lock step: the parent's side."""

import socket
import struct

from inphase.errors import RuntimeFault
from inphase.frames.frame import Frame
from inphase.frames.record_layout import REASONS
from inphase.frames.store_follower import StoreFollower
from inphase.host import process
from inphase.policy.command_buffer import CommandBuffer
from inphase.policy.remote_socket import remove_socket
from inphase.schedule import Schedule

NUMBER = struct.Struct("<q")


ANSWER = struct.Struct("<I")


class IsolatedPolicy:
    """The parent's side of `serve_lockstep`. Its maker closes it."""

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
        size = ANSWER.size + 8 * self.buffer.count
        try:
            self._line.sendall(NUMBER.pack(self._follower.number))
            answer = self._line.recv(size, socket.MSG_WAITALL)
        except OSError:
            answer = b""
        if len(answer) != size:
            raise RuntimeFault(f"policy ended in cycle {frame.cycle}: {self._process.ended()}")
        (reason,) = ANSWER.unpack_from(answer)
        self.buffer.frombytes(answer[ANSWER.size :])
        return REASONS[reason] if reason else None

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self._process.stop(asked=True)
        remove_socket(self._described)
