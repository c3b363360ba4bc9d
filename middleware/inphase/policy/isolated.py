"""A policy in a process of its own in lock step: the parent's side."""

import socket
import struct
from collections.abc import Callable

from inphase.errors import RuntimeFault, ScheduleError
from inphase.frames.frame import Frame
from inphase.frames.record_layout import REASONS
from inphase.frames.store_follower import StoreFollower
from inphase.host import process
from inphase.policy.command_buffer import CommandBuffer
from inphase.policy.remote_socket import remove_socket
from inphase.policy.words_line import WordsLine
from inphase.schedule import Schedule

NUMBER = struct.Struct("<q")


ANSWER = struct.Struct("<I")


class IsolatedPolicy:
    """The parent's side of `serve_lockstep`. Its maker closes it. say: takes its remarks."""

    def __init__(
        self,
        described: Schedule,
        follower: StoreFollower,
        store_path: str,
        buffer: CommandBuffer,
        say: Callable[[str], None],
    ) -> None:
        self._follower = follower
        self.buffer = buffer
        assert described.policy is not None
        self._described = described
        self._say = say
        self._words = WordsLine()
        self._line, theirs = socket.socketpair()
        with theirs:
            fds = [theirs.fileno(), self._words.theirs]
            self._process = process.Process(
                "policy",
                "inphase.policy",
                [str(described.path), store_path, "--lockstep", *map(str, fds)],
                pass_fds=fds,
                environment=process.thread_environment(described.policy.threads),
                has_scratch=True,
            )
        self._words.close_theirs()
        try:
            self._process.wait_ready()
        except RuntimeFault as fault:
            said = self._words.read()
            self.close()
            if said and fault.exit_code == ScheduleError.exit_code:
                raise ScheduleError("\n".join(said)) from fault
            raise

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
        if reason:
            self.listen()
        self.buffer.frombytes(answer[ANSWER.size :])
        return REASONS[reason] if reason else None

    def listen(self) -> None:
        """Pass on what it said."""
        for text in self._words.read():
            self._say(text)

    def close(self) -> None:
        """End the process."""
        self._words.close()
        self._line.close()
        self._process.stop(asked=True)
        remove_socket(self._described)
