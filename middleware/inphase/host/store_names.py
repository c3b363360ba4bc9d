"""Names of stores on this host: what leads from a robot's name to the descriptors of its store.

Each user has a folder, /dev/shm/inphase-UID, in which nobody else can write. A running robot has a
socket in it, ROBOT.EPOCH: whoever may connect is handed the store's descriptors, to read. That is
the user, or also the group of the schedule's `[store] group`. Where nobody listens the robot is
dead.
"""

import contextlib
import errno
import os
import pwd
import re
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from inphase.errors import StoreError

ROOT = Path("/dev/shm")
FDS_MAX = 65  # the core's segment, and one per sensor
_ANSWER_S = 2.0
_COMMAND_MAX = 120  # letters of a command that are shown
_BACKLOG = 64
_NEW = "new."  # a socket that is not listened to yet
_NAME = re.compile(r"(?!new\.)[^.]+\.[0-9a-f]{16}")
_NEW_S = 60.0  # for how long it may stay that
_GREETING = b"inphase store"
_CREDENTIALS = struct.Struct("3i")  # process, user, group


def folder(user: int | None = None) -> Path:
    """A user's folder; this one's."""
    return ROOT / f"inphase-{os.geteuid() if user is None else user}"


def path_of(robot: str, epoch: int) -> str:
    """A robot's name in this user's folder."""
    return str(folder() / f"{robot}.{epoch:016x}")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A user's folder, made where it is one's own. Raises StoreError for one that is not its user's
    alone."""
    try:
        fd = _open_folder(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be used: {error.strerror}; {_remedy(path)}") from error
    try:
        facts = os.fstat(fd)
        if path != folder(facts.st_uid) or facts.st_mode & 0o022:
            raise StoreError(
                f"{path}: user {facts.st_uid} made it, and others may write to it or it has "
                f"another user's name; {_remedy(path)}"
            )
        yield fd
    finally:
        os.close(fd)


def _remedy(path: Path) -> str:
    return f"remove it: sudo rm -r {path}"


def _open_folder(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if path == folder():
        with contextlib.suppress(FileExistsError):
            path.mkdir(0o755)
            path.chmod(0o755)  # whatever the umask: its files have modes of their own
    return os.open(path, flags)


def own_file(folder_fd: int, name: str, size_max: int) -> bytes | None:
    """The content of a file of one's own; None: it is no file, or not ours, or larger. Never
    waits."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder_fd)
    except OSError:
        return None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            return None
        return os.read(fd, size_max) if facts.st_size <= size_max else None
    finally:
        os.close(fd)


class Name:
    """A running robot's name; `close` takes it away. It has a thread of its own.

    fds: of the store, the core's first; they stay the caller's, and are handed out to be read only.
    gid: a group that may read it too, -1: none. Raises StoreError.
    """

    def __init__(self, robot: str, epoch: int, fds: Sequence[int], gid: int = -1) -> None:
        self.path = path_of(robot, epoch)
        self._name = Path(self.path).name
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._bind(f"{_NEW}{epoch:016x}", gid)
        except OSError as error:
            self._listener.close()
            raise StoreError(f"{self.path}: cannot be made: {error.strerror}") from error
        except StoreError:
            self._listener.close()
            raise
        flags = os.O_RDONLY | os.O_CLOEXEC
        self._fds = [os.open(f"/proc/self/fd/{fd}", flags) for fd in fds]
        self._thread = threading.Thread(target=self._serve, name="inphase name", daemon=True)
        self._thread.start()

    def _bind(self, new: str, gid: int) -> None:
        """In one step: a name that is there answers."""
        with opened(folder()) as fd:
            self._listener.bind(f"/proc/self/fd/{fd}/{new}")
            os.chown(new, -1, gid, dir_fd=fd)
            os.chmod(new, 0o600 if gid < 0 else 0o660, dir_fd=fd)
            self._listener.listen(_BACKLOG)
            os.rename(new, self._name, src_dir_fd=fd, dst_dir_fd=fd)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:  # closed
                return
            with peer, contextlib.suppress(OSError):
                peer.setblocking(False)
                socket.send_fds(peer, [_GREETING], self._fds)

    def close(self) -> None:
        """Take the name away."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for fd in self._fds:
            os.close(fd)
        with contextlib.suppress(OSError, StoreError), opened(folder()) as fd:
            os.unlink(self._name, dir_fd=fd)


def descriptors(path: str) -> list[int]:
    """A store's, the core's first, to be closed by the caller. Raises StoreError.

    path: of a name, or of a descriptor in /proc, as lock step has it.
    """
    try:
        if path.startswith("/proc/"):
            return [os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)]
        with _connected(path) as line:
            line.settimeout(_ANSWER_S)
            greeting, fds, _, _ = socket.recv_fds(line, len(_GREETING), FDS_MAX)
            if greeting == _GREETING and fds:
                return fds
            for fd in fds:
                os.close(fd)
    except TimeoutError as error:
        raise StoreError(f"{path}: its runtime does not answer; is it stopped?") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    raise StoreError(f"{path}: is not a store's name")


@contextlib.contextmanager
def _connected(path: str) -> Iterator[socket.socket]:
    """To the user's process whose folder it is. Raises OSError, StoreError."""
    if "\0" in path:
        raise StoreError(f"{path!r}: is not a store's name")
    where = Path(path)
    with opened(where.parent) as fd, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.setblocking(False)
        line.connect(f"/proc/self/fd/{fd}/{where.name}")
        told = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(told)[1] != os.fstat(fd).st_uid:
            raise PermissionError(errno.EPERM, "another user's process answers there")
        yield line


def is_alive(path: str) -> bool:
    """True if the runtime behind a name lives, and we may read its store."""
    try:
        with _connected(path):
            return True
    except BlockingIOError:  # more wait than it has accepted
        return True
    except (OSError, StoreError):
        return False


def _entries(where: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, newest first; none if it cannot be read."""
    entries: list[tuple[int, os.DirEntry[str]]] = []
    with contextlib.suppress(OSError), os.scandir(where) as found:
        for entry in found:
            with contextlib.suppress(FileNotFoundError):  # its owner has just removed it
                entries.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry))
    return [entry for _, entry in sorted(entries, key=lambda pair: pair[0], reverse=True)]


def robot_of(name: str) -> str:
    """The robot that a name in a folder is of."""
    return name.split(".", maxsplit=1)[0]


def _is_socket(entry: os.DirEntry[str]) -> bool:
    return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)


def running(user: int | None = None) -> list[str]:
    """Paths of the running robots of a user, this one; newest first."""
    return [
        entry.path
        for entry in _entries(folder(user))
        if _NAME.fullmatch(entry.name) and _is_socket(entry) and is_alive(entry.path)
    ]


def other_users() -> list[int]:
    """Users that have a folder."""
    names = (entry.name.removeprefix("inphase-") for entry in _entries(ROOT))
    return sorted({int(n) for n in names if n.isdecimal()} - {os.geteuid()})


def named(robot: str, user: int | None = None) -> list[str]:
    """Paths of the running robots of that name of a user, this one; newest first."""
    return [path for path in running(user) if robot_of(Path(path).name) == robot]


def find(robot: str) -> str | None:
    """A running robot by its name, or None: this user's; else that of another user who lets a group
    of ours read it. Raises StoreError where two have that name: the wrong one may be watched."""
    found = named(robot) or [
        path for user in other_users() for path in named(robot, user) if _is_for_us(path)
    ]
    if len(found) > 1:
        told = " and ".join(f"{path} ({who_runs(path)})" for path in found)
        raise StoreError(
            f"{len(found)} robots named {robot!r} run: {told}; stop one, give it another name in "
            f"its schedule, or ask by the path"
        )
    return found[0] if found else None


def only_robot() -> str:
    """The robot of this user that runs on this host. Raises StoreError unless there is just one."""
    names = sorted({robot_of(Path(path).name) for path in running()})
    if len(names) == 1:
        return names[0]
    found = ", ".join(names) if names else "none"
    raise StoreError(f"robots on this host: {found}; name one, or give an endpoint")


def not_ours(robot: str) -> list[str]:
    """Users, by their names, who have a robot of that name, running or left by one that was killed,
    which this user may not read."""
    users = []
    for user in other_users():
        theirs = [e for e in _entries(folder(user)) if _NAME.fullmatch(e.name)]
        if any(robot_of(e.name) == robot and not _is_for_us(e.path) for e in theirs):
            users.append(str(user))
            with contextlib.suppress(KeyError):
                users[-1] = pwd.getpwuid(user).pw_name
    return users


def who_runs(path: str) -> str:
    """The process behind a name and its command, which has the schedule, for a person."""
    try:
        with _connected(path) as line:
            told = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process = _CREDENTIALS.unpack(told)[0]
        raw = Path(f"/proc/{process}/cmdline").read_bytes()
    except (OSError, StoreError):
        return "a process that has ended"
    _, *words = raw.decode(errors="replace").rstrip("\0").split("\0")
    words = words[1:] if words[:1] == ["-m"] else [Path(words[0]).name, *words[1:]] if words else []
    return f"process {process}: {' '.join(' '.join(words).split())[:_COMMAND_MAX]}"


def _is_for_us(path: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(path).stat().st_gid in {*os.getgroups(), os.getegid()}
    return False


def clean() -> list[str]:
    """Remove the names of this user's robots that are dead; those robots."""
    removed = []
    with opened(folder()) as fd:
        for entry in _entries(folder()):
            if not _is_socket(entry) or is_alive(entry.path):
                continue
            age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
            is_new = entry.name.startswith(_NEW)
            if is_new and age_s < _NEW_S:
                continue
            with contextlib.suppress(OSError):  # somebody else's start was quicker
                os.unlink(entry.name, dir_fd=fd)
                removed += [] if is_new else [robot_of(entry.name)]
    return removed


# ---- notes ------------------------------------------------------------------------------------

_NOTE = ".note"
_NOTE_BYTES = 65_536


def note_path(path: str) -> str:
    """Where the guard leaves a note when it had to stop the devices, beside the name."""
    return path + _NOTE


def leave_note(path: str, text: str) -> None:
    """Leave a note for the next run where the guard has left none. Raises StoreError, OSError."""
    name = Path(note_path(path)).name
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with opened(folder()) as folder_fd, contextlib.suppress(FileExistsError):
        fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def take_notes(robot: str) -> list[bytes]:
    """The notes of a robot's dead runtimes, which are removed; those of one that lives stay."""
    notes = []
    with opened(folder()) as fd:
        for entry in _entries(folder()):
            path = entry.path.removesuffix(_NOTE)
            if entry.path == path or robot_of(entry.name) != robot or is_alive(path):
                continue
            note = own_file(fd, entry.name, _NOTE_BYTES)
            if note is not None:
                notes.append(note)
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=fd)
    return notes
