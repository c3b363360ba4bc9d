"""The processes that a runtime has started."""

from collections.abc import Callable, Sequence
from pathlib import Path

from inphase.host.process import Process


class Children:
    """Started in order, ended in the opposite one. Thread: the supervisor's.

    given_up: whether a process that gets ready is waited for no longer.
    """

    def __init__(self, given_up: Callable[[], bool]) -> None:
        self._given_up = given_up
        self._all: list[Process] = []
        self._ended: list[Process] = []

    def add(self, child: Process) -> None:
        """One that was started elsewhere."""
        self._all.append(child)

    def start(
        self,
        name: str,
        module: str,
        arguments: list[str],
        folder: Path | None = None,
        *,
        pass_fds: Sequence[int] = (),
        environment: dict[str, str] | None = None,
        has_scratch: bool = False,
    ) -> Process:
        child = Process(
            name,
            module,
            arguments,
            pass_fds,
            folder=folder,
            environment=environment,
            has_scratch=has_scratch,
        )
        self._all.append(child)
        # the emulator is waited for, so that its devices are there to be opened
        self.wait_ready(child)
        return child

    def wait_ready(self, child: Process) -> None:
        """Wait until a process is ready, or nobody wants it. Raises RuntimeFault."""
        child.wait_ready(given_up=self._given_up)

    @property
    def pidfds(self) -> list[int]:
        """Each becomes readable when its process has ended."""
        return [child.pidfd for child in self._all if child.pidfd >= 0 and child.ended() is None]

    def ended(self) -> list[tuple[Process, str]]:
        """Those that have ended since this was asked, and how."""
        found = []
        for child in self._all:
            how = child.ended()
            if how is not None and child not in self._ended:
                self._ended.append(child)
                found.append((child, how))
        return found

    def ask_to_end(self) -> None:
        """All of them; waits for none."""
        for child in self._all:
            child.ask_to_end()

    def stop(self) -> None:
        """End each, in bounded time."""
        for child in reversed(self._all):
            child.stop()
