"""The guard, seen from the supervisor: its process, the devices it is given, the notes it leaves.

The process is C (native/src/guard_process.c). It is started before anything moves, inherits its
pages, a handle on this process and a socket, and outlives this process: middleware/GUARD.md.
"""

import contextlib
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from inphase import _core
from inphase.errors import RuntimeFault
from inphase.host import store_names

PROGRAM = Path(_core.__file__).with_name("_guard")
_REQUEST = struct.Struct("=IIII48s")
_ANSWER = struct.Struct("=IIii")
_GIVE, _DROP, _READY = 1, 2, 3
_BEAT = struct.Struct("=q")
_LATE_S = 2.0  # in which a guard that runs beats many times
_LOOK_S = 0.2
_ANSWER_S = 5.0
_END_S = 1.0
_PRIORITY_MAX = 99


class Given(NamedTuple):
    """A device that the guard has."""

    actuator: int
    name: str
    fd: int
    worker: int = -1
    """pidfd of the process that writes to it; -1: the cycle thread does"""
    is_shared: bool = False
    """that process does more, and is not killed: the worker is one of its threads"""


class GuardProcess:
    """One guard's process. Its maker closes it, after the cycle has ended and before the
    devices are closed. Thread: the supervisor's.

    pages: the core's, see `Core.guard`; they stay the caller's. note: the file that it leaves.
    priority and cpu: the cycle thread's. hold: it leaves a frozen runtime alive. is_emulated:
    whether nothing real moves at a descriptor; where that holds for every actuator, a frozen
    runtime is stopped and left alive, to end. Raises RuntimeFault.
    """

    def __init__(
        self,
        pages: tuple[int, int],
        note: str,
        priority: int,
        cpu: int | None,
        *,
        hold: bool,
        is_emulated: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._is_emulated = is_emulated
        self._given: dict[int, Given] = {}
        self._life = mmap.mmap(pages[1], _BEAT.size, prot=mmap.PROT_READ)
        self._beat_ns, self._silent_s, self._looked_s = 0, 0.0, time.monotonic()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(_ANSWER_S)
        runtime = os.pidfd_open(os.getpid())
        fds = [*pages, runtime, theirs.fileno()]
        # above the cycle thread: one that runs wild must not hold it back
        priority = min(priority + 1, _PRIORITY_MAX)
        options = [priority, -1 if cpu is None else cpu, int(hold), note]
        try:
            self._child = subprocess.Popen(
                [PROGRAM, *map(str, fds), *map(str, options)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=fds,
            )
        except OSError as error:
            self._line.close()
            raise RuntimeFault(
                f"{PROGRAM} does not start: {error}; install inphase again"
            ) from error
        finally:
            os.close(runtime)
            theirs.close()
        self.pidfd = os.pidfd_open(self._child.pid)
        try:
            self.refused = self._ready()
        except RuntimeFault:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process number, for a person to read."""
        return self._child.pid

    def _ready(self) -> dict[str, str]:
        """Wait for its first word: what the machine does not grant it, and why."""
        kind, _, scheduler, memory = self._answer()
        if kind != _READY:
            raise RuntimeFault(f"the guard said {kind} at its start; install inphase again")
        refused = {"SCHED_FIFO": scheduler, "locked memory": memory}
        return {what: os.strerror(error) for what, error in refused.items() if error}

    def give(self, given: Given) -> None:
        """Give it a device's descriptor, and wait until it has it. Raises RuntimeFault."""
        fds = [given.fd] if given.worker < 0 else [given.fd, given.worker]
        flags = int(self._is_emulated(given.fd)), int(given.is_shared)
        self._ask(_GIVE, given.actuator, given.name, fds, flags)
        self._given[given.actuator] = given

    def drop(self, actuator: int) -> None:
        """Have it close a device's descriptor, and wait until that is done."""
        if self._given.pop(actuator, None) is not None:
            with contextlib.suppress(RuntimeFault):  # one that is gone has closed it
                self._ask(_DROP, actuator, "", [])

    def ended(self) -> str | None:
        """How it ended, or that it is frozen; None: all is well. Does not wait."""
        code = self._child.poll()
        if code is not None:
            return f"signal {-code}" if code < 0 else f"exit code {code}"
        before_ns, before_s = self._beat_ns, self._looked_s
        (self._beat_ns,) = _BEAT.unpack_from(self._life)
        self._looked_s = time.monotonic()
        # a pause of the whole machine is no more than one look
        self._silent_s += min(self._looked_s - before_s, _LOOK_S)
        if self._beat_ns != before_ns:
            self._silent_s = 0.0
        return f"no beat within {_LATE_S:g} s" if self._silent_s > _LATE_S else None

    @property
    def given(self) -> list[Given]:
        """The devices that it has."""
        return list(self._given.values())

    def _ask(
        self, kind: int, actuator: int, name: str, fds: list[int], flags: tuple[int, int] = (0, 0)
    ) -> None:
        request = _REQUEST.pack(kind, actuator, *flags, name.encode()[:47])
        try:
            socket.send_fds(self._line, [request], fds)
        except OSError as error:
            raise RuntimeFault(f"the guard takes no request: {error}; nothing may move") from error
        answered, which, error_number, _ = self._answer()
        if (answered, which, error_number) != (kind, actuator, 0):
            raise RuntimeFault(
                f"the guard refuses device {name}: {os.strerror(error_number)}; nothing may move"
            )

    def _answer(self) -> tuple[int, int, int, int]:
        try:
            data = self._line.recv(_ANSWER.size)
        except OSError as error:
            raise RuntimeFault(f"the guard does not answer: {error}; nothing may move") from error
        if len(data) != _ANSWER.size:
            code = self._child.poll()
            raise RuntimeFault(f"the guard ended at its start, exit code {code}; nothing may move")
        kind, actuator, error_number, other = _ANSWER.unpack(data)
        return kind, actuator, error_number, other

    def close(self) -> None:
        """Let it go: it ends by itself when nothing moves. One that does not is killed."""
        self._line.close()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self._child.wait()
        os.close(self.pidfd)
        self._life.close()


# ---- notes ------------------------------------------------------------------------------------


def take_notes(robot: str) -> list[str]:
    """The notes of guards of this robot's earlier runtimes, in a sentence each; the notes are
    removed. Notes of a guard that lives stay. Raises StoreError."""
    return [_sentence(note) for note in store_names.take_notes(robot)]


def _sentence(note: bytes) -> str:
    try:
        return _describe(tomllib.loads(note.decode()))
    except Exception:  # any process of this host may have written it
        return "previous run died while moving; the guard's note of it cannot be read"


def loose_note(cycle: int, actuators: list[str]) -> str:
    """The note of a run that ended by itself, with actuators not known to be at rest."""
    return f'reason = "loose"\ncycle = {cycle}\nactuators = {json.dumps(actuators)}\n'


def _describe(note: dict[str, Any]) -> str:
    if note["reason"] == "loose":
        return (
            f"previous run ended in cycle {note['cycle']}, and {', '.join(note['actuators'])} was "
            f"not known to be at rest; make sure that it stands still before you come near"
        )
    how = "died" if note["reason"] == "died" else "froze"
    text = f"previous run {how} while moving, in cycle {note['cycle']}"
    if note["killed"]:
        text += " (the guard killed it)"
    for device in note["stopped"]:
        text += f"; {device['device']} was sent its stop {device['sent']} times"
        if device["sent"]:
            text += f", first {note['first_ns'] / 1e6:.2f} ms after it was noticed"
            text += ", and rests as that stop leaves it; its torque was not read back"
        if device["errno"]:
            text += f", last trouble: {os.strerror(device['errno'])}"
    return text
