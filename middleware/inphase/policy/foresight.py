"""The sandbox of a run, foretold in lock step: there the policy has the caller's rights.

Python says what it asks the system for (PEP 578). Libraries in C say nothing: of them nothing is
foreseen.
"""

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Self

from inphase.frames.frame import Frame
from inphase.policy.remarks import Remarks, caller_of, temporary
from inphase.policy.sandbox import allowed
from inphase.schedule import Schedule

_EVENTS = {
    "files": "os.remove os.rename os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod "
    "os.chown os.utime",
    "network": "socket.__new__ socket.connect socket.bind socket.sendto socket.sendmsg",
    "processes": "subprocess.Popen os.fork os.forkpty os.posix_spawn os.spawn os.exec os.system "
    "pty.spawn",
}
_RIGHTS = {event: right for right, events in _EVENTS.items() for event in events.split()}
"""event -> the right that it wants; `open` wants one by its file"""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DEVICES = "/dev/"
_PLAIN = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm/")
_OF_IMPORTS = "<frozen importlib._bootstrap_external>"  # it writes its cache, or does without
_WITHOUT_A_CALL = {"socketpair", "fromfd", "accept", "dup"}  # a socket that is there already


class _Watching(threading.local):
    """The policy that runs in this thread."""

    foresight: "Foresight | None" = None


# a hook stays for as long as the process: there is one, which looks at what runs now
_WATCHING = _Watching()
_HOOKED = threading.Event()


class Foresight:
    """Watches a policy while it is made and called. Thread: the one that does so.

    remarks: are told each right once, which is missing in `allow`.
    """

    def __init__(self, remarks: Remarks, described: Schedule) -> None:
        self._remarks = remarks
        self._missing = set(_RIGHTS.values()) | {"devices"}
        self._missing -= set(allowed(described))
        if "gpu" in allowed(described):
            self._missing.discard("devices")  # which of them are the accelerator's is not known
        if self._missing and not _HOOKED.is_set():
            _HOOKED.set()
            sys.addaudithook(_look)

    def __enter__(self) -> Self:
        _WATCHING.foresight = self
        return self

    def __exit__(self, *_: object) -> None:
        _WATCHING.foresight = None

    def around(self, call: Callable[[Frame], Any]) -> Callable[[Frame], Any]:
        """The policy, watched at each call."""
        if not self._missing:
            return call

        def watched(frame: Frame) -> Any:
            _WATCHING.foresight = self
            try:
                return call(frame)
            finally:
                _WATCHING.foresight = None

        return watched

    def asked(self, event: str, args: tuple[Any, ...], caller: Any) -> None:
        """The policy asks the system for something."""
        if caller.f_code.co_filename == _OF_IMPORTS:
            return
        if event == "open":
            right = _right_to_open(args)
        elif _is_temporary(event, args) or _is_there(event, caller):
            return
        else:
            right = _RIGHTS[event]
        if right in self._missing:
            self._missing.discard(right)
            what = f"{event}({_shown(args)})"
            self._remarks.foreseen(
                f"policy calls {what}{caller_of(caller)}; in a run its sandbox refuses that: give "
                f"[policy] allow = [{json.dumps(right)}]{temporary(right)}"
            )


def _look(event: str, args: tuple[Any, ...]) -> None:
    foresight = _WATCHING.foresight
    if foresight is None or (event != "open" and event not in _RIGHTS):
        return
    _WATCHING.foresight = None  # what is done here is not the policy's
    try:
        foresight.asked(event, args, sys._getframe(1))
    finally:
        _WATCHING.foresight = foresight


def _right_to_open(args: tuple[Any, ...]) -> str:
    """By the path and the flags of an `open`; "": the sandbox lets it pass."""
    path, _, flags = args
    place = _place(path)
    writes = bool(flags & _WRITES)
    if place is None or (writes and _is_own(place)):
        return ""
    if place.startswith(_DEVICES) and not place.startswith(_PLAIN):
        return "devices"
    return "files" if writes and place not in _PLAIN else ""


def _is_temporary(event: str, args: tuple[Any, ...]) -> bool:
    """True for a change of a file in the folder that the policy may write to."""
    place = _place(args[0]) if _RIGHTS[event] == "files" and args else None
    return place is not None and _is_own(place)


def _is_own(place: str) -> bool:
    return place.startswith(os.path.realpath(tempfile.gettempdir()) + os.sep)


def _is_there(event: str, caller: Any) -> bool:
    """True for a socket that no system call makes, or socketpair, which the sandbox allows."""
    if event != "socket.__new__":
        return False
    return caller.f_back is not None and caller.f_back.f_code.co_name in _WITHOUT_A_CALL


def _place(path: Any) -> str | None:
    """A file's path without links; None: it is open already."""
    if isinstance(path, int) or path is None:
        return None
    return os.path.realpath(os.fsdecode(path))


def _shown(args: tuple[Any, ...]) -> str:
    """The thing that it was about: a path, an address or a program."""
    words = [arg for arg in args if isinstance(arg, str | bytes | os.PathLike | tuple)]
    return repr(words[0]) if words else ""
