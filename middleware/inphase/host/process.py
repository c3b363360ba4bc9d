"""Processes of a runtime: started by exec, watched by pidfd, ended in bounded time."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inphase._core import lib
from inphase.errors import RuntimeFault
from inphase.host.scratch import Scratch

_START_S = 20.0
_ASK_S = 0.5
_LOOK_S = 0.1
SCRATCH = "INPHASE_SCRATCH"
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def end_with_parent(parent: int) -> None:
    """Called first in a child: end when the process of that number, which started it, ends."""
    lib.inphase_die_with_parent()
    if os.getppid() != parent:  # it has, before this was asked for
        sys.exit(0)


def say_ready(words: str = "") -> None:
    """Called by a child when it is: from then on what it prints goes to stderr, for a person.
    words: for its parent."""
    print("ready", words, flush=True)
    os.dup2(2, 1)


def set_rights(name: str, priority: int, cpu: int | None = None) -> None:
    """Give this process a SCHED_FIFO priority (0: none) and a core; what is refused is said."""
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
    except OSError as error:
        print(f"{name}: core {cpu} is refused: {error.strerror}; runs on", file=sys.stderr)
    try:
        if priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        print(f"{name}: SCHED_FIFO {priority} is refused; runs on", file=sys.stderr)


def keep_rights() -> None:
    """The children of this thread are ordinary processes from now on, for any start of this
    process.

    `chrt -f` and a unit with `CPUSchedulingPolicy=fifo` would otherwise raise every child above the
    schedule's priorities; see `set_rights` and `raise_priority`. Affinity is inherited.
    """
    scheduler = os.sched_getscheduler(0)
    if scheduler in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, scheduler | os.SCHED_RESET_ON_FORK, os.sched_getparam(0))


def thread_environment(threads: int) -> dict[str, str]:
    """Makes the libraries of numbers compute in so many threads; read when they are loaded."""
    return dict.fromkeys(_THREADS, str(threads))


class Process:
    """A child that prints `ready` when it is. It inherits stdin's end, stderr and nothing else.

    folder: where its module may be besides what is installed, such as the schedule's own folder.
    environment: beside this process's. has_scratch: it has a folder of its own for temporary files,
    named in its environment, which is gone when it is.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        pass_fds: Sequence[int] = (),
        folder: Path | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        has_scratch: bool = False,
    ) -> None:
        self.name = name
        self.said = ""
        """beside its `ready`"""
        self._is_asked = False
        more = dict(environment or {})
        self._scratch = Scratch(name) if has_scratch else None
        if self._scratch is not None:
            more |= {SCRATCH: self._scratch.path, "TMPDIR": self._scratch.path}
        path = [str(folder)] if folder is not None else []
        path += [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item]
        keep_rights()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "inphase.host.child", str(os.getpid()), module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,  # ^C in a terminal is the supervisor's: the ramp needs the others
            close_fds=True,
            pass_fds=pass_fds,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)} | more,
        )
        self.pidfd = os.pidfd_open(self._child.pid)

    @property
    def pid(self) -> int:
        """Its process number, for a person to read."""
        return self._child.pid

    def raise_priority(self, priority: int) -> bool:
        """Give its main thread a SCHED_FIFO priority; its children have none. True if it is
        granted."""
        fifo = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        with contextlib.suppress(ProcessLookupError):  # it has ended, which is told elsewhere
            try:
                os.sched_setscheduler(self._child.pid, fifo, os.sched_param(priority))
            except PermissionError:
                return False
        return True

    def wait_ready(
        self, timeout_s: float = _START_S, given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait for its `ready`, or until given up. Raises RuntimeFault with its exit code; nothing
        of it is left then."""
        assert self._child.stdout is not None
        until = time.monotonic() + timeout_s
        ready: Sequence[object] = ()
        while not ready and time.monotonic() < until:
            if given_up():
                return
            ready, _, _ = select.select([self._child.stdout], [], [], _LOOK_S)
        line = self._child.stdout.readline() if ready else b""
        if self._is_ready(line):
            return
        code = self._child.poll() if ready else None
        if ready and code is None:
            code = self._child.wait(timeout=_START_S)
        self.stop()
        if code is None:
            raise RuntimeFault(f"{self.name} was not ready within {timeout_s:.0f} s")
        fault = RuntimeFault(f"{self.name} ended at its start, exit code {code}; see above for why")
        fault.exit_code = code if code > 0 else RuntimeFault.exit_code  # type: ignore[misc]
        raise fault

    def is_ready(self) -> bool:
        """True if it has printed `ready`; does not wait."""
        assert self._child.stdout is not None
        if not select.select([self._child.stdout], [], [], 0)[0]:
            return False
        return self._is_ready(self._child.stdout.readline())

    def _is_ready(self, line: bytes) -> bool:
        word, _, self.said = line.decode(errors="replace").strip().partition(" ")
        return word == "ready"

    def ended(self) -> str | None:
        """How it ended (`signal 9`, `exit code 1`), None while it runs."""
        code = self._child.poll()
        if code is None:
            return None
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def ask_to_end(self) -> None:
        """Send it SIGTERM; `stop` then waits. Once: a second one may find it ending already."""
        if self._child.poll() is None and not self._is_asked:
            self._child.terminate()
        self._is_asked = True

    def stop(self, asked: bool = False) -> None:
        """Ask it to end, unless it was asked already, then make it; at most half a second."""
        if self._child.poll() is None:
            if not asked:
                self.ask_to_end()
            try:
                self._child.wait(_ASK_S)
            except subprocess.TimeoutExpired:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
