"""The policy's process, as its supervisor sees it: its start, its words and its end."""

from inphase import errors
from inphase.core.realtime import is_realtime
from inphase.errors import RuntimeFault
from inphase.host.process import Process, thread_environment
from inphase.policy import remote_socket
from inphase.policy.words_line import WordsLine
from inphase.runtime.children import Children
from inphase.runtime.events import Events
from inphase.schedule import Schedule

_WORDS_MAX = 20
"""a policy may be wrong in every cycle, and in other words each time"""


class PolicyChild:
    """One policy's process. Thread: the supervisor's. Its maker closes it."""

    def __init__(self, described: Schedule, events: Events) -> None:
        self._described = described
        self._tell = events.tell
        self._words = WordsLine()
        self._told = 0
        self.process: Process | None = None
        self.end: str | None = None
        """how it ended, if it did before the run"""

    def start(self, children: Children, store_path: str, fds: list[int]) -> None:
        """Start it; fds: its mailbox and its bell. Raises ScheduleError for what the schedule
        names, RuntimeFault when it ends."""
        policy = self._described.policy
        assert policy is not None
        arguments = [str(self._described.path), store_path]
        fds = [*fds, self._words.theirs]
        try:
            self.process = children.start(
                "policy",
                "inphase.policy",
                [*arguments, *map(str, fds)],
                pass_fds=fds,
                environment=thread_environment(policy.threads),
                has_scratch=True,
            )
        except RuntimeFault as fault:
            said = self._words.read()
            if said and fault.exit_code == errors.ScheduleError.exit_code:
                raise errors.ScheduleError("\n".join(said)) from fault
            raise
        finally:
            self._words.close_theirs()
        # it has given up the right to take one, before it ran what the schedule names
        is_refused = policy.priority and not self.process.raise_priority(policy.priority)
        # where the cycle thread gets none either, the summary says so once
        if is_refused and is_realtime(self._described.cycle):
            self._tell(f"policy: SCHED_FIFO {policy.priority} is refused; runs on")

    def listen(self) -> None:
        """Tell what it has said since."""
        for text in self._words.read():
            self._told += 1
            if self._told <= _WORDS_MAX:
                self._tell(text)

    def ended(self, how: str) -> None:
        """Its process has."""
        self.listen()
        self.end = how
        self._remove_socket()

    def close(self) -> None:
        """After its process has ended."""
        self._remove_socket()
        self._words.close()

    def _remove_socket(self) -> None:
        """Where a remote policy came to, which its process may not remove."""
        if self.process is not None:
            remote_socket.remove_socket(self._described)
