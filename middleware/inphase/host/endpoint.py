"""ZeroMQ endpoints on this host: their sockets' bounds, and the files of those that are ipc.

WIRE.md says why the bounds are what they are.
"""

import contextlib
import errno
import os
import pwd
import socket as sockets
import stat
import struct
from pathlib import Path
from typing import Any

import zmq

from inphase.host.group import group_of
from inphase.schedule import Schedule

Socket = zmq.Socket[Any]
_CREDENTIALS = struct.Struct("3i")  # struct ucred


def set_bounds(socket: Socket, *, queue: int, message_bytes: int) -> None:
    """Bound a socket where libzmq leaves it without bound: queues, sizes, linger, handshake.
    WIRE.md says why so.

    No heartbeats: libzmq aborts the process when one is due at a full queue whose peer is gone
    (issue 4364 of libzmq, 4.3.5). On this host the kernel says when a peer is gone.
    """
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, queue)
    socket.setsockopt(zmq.RCVHWM, queue)
    socket.setsockopt(zmq.MAXMSGSIZE, message_bytes)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 0)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 2_000)


def bind_at(socket: Socket, endpoint: str, described: Schedule) -> None:
    """Bind; the file of an ipc socket is its owner's, and the store's group's.

    Call it before there are threads: it sets the umask. Raises OSError, zmq.ZMQError.
    """
    path = _path(endpoint)
    before = os.umask(0o022)
    try:
        if path is not None:
            make_folder(path.parent, described)
            remove_stale(path)
        os.umask(0o177)
        socket.bind(endpoint)
        _share(path, described)
    finally:
        os.umask(before)


def bind(socket: Socket, key: str, endpoint: str, described: Schedule) -> None:
    """Bind; the file of an ipc socket is its owner's, and the store's group's.

    Call it before there are threads: it sets the umask. Raises ScheduleError for a place that is
    taken or cannot be made.
    """
    try:
        bind_at(socket, endpoint, described)
    except (OSError, zmq.ZMQError) as error:
        why = f"{endpoint!r}: {error.strerror}; {_remedy(error, _path(endpoint))}"
        raise described.error(key, why) from error


def listen(key: str, endpoint: str, described: Schedule) -> sockets.socket:
    """A listening socket, made by a process that may later make none.

    Call it before there are threads: it sets the umask. Raises ScheduleError as `bind`.
    """
    path = _path(endpoint)
    before = os.umask(0o022)
    listener = None
    try:
        if endpoint.startswith("ipc://"):
            assert path is not None
            make_folder(path.parent, described)
            remove_stale(path)
            os.umask(0o177)
            listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
            listener.bind(str(path))
            _share(path, described)
        else:
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            family, kind, _, _, address = sockets.getaddrinfo(
                host.strip("[]"), int(port), type=sockets.SOCK_STREAM
            )[0]
            listener = sockets.socket(family, kind)
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            listener.bind(address)
        listener.listen(8)
        listener.setblocking(False)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise described.error(
            key, f"{endpoint!r}: {error.strerror}; {_remedy(error, path)}"
        ) from error
    finally:
        os.umask(before)
    return listener


def _remedy(error: OSError | zmq.ZMQError, path: Path | None) -> str:
    if path is None or error.errno not in (errno.EACCES, errno.EPERM):
        return "stop the process that has it, or give another"
    folder = path.parent
    user = str(folder.stat().st_uid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(int(user)).pw_name
    return (
        f"{folder} belongs to user {user}, who runs this robot or has left it there; once that "
        f"robot has ended: sudo rm -r {folder}; or give another"
    )


def who(line: sockets.socket) -> str:
    """The process at the other end of an accepted connection, as far as the kernel says."""
    if line.family == sockets.AF_UNIX:
        got = line.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _CREDENTIALS.size)
        process, user, _ = _CREDENTIALS.unpack(got)
        return f"process {process} of user {user}"
    host, port = line.getpeername()[:2]
    return f"who came from {host}:{port}"


def make_folder(folder: Path, described: Schedule) -> None:
    """Make the folder of a socket, for its owner alone, or the store's group; or check that an old
    one is safe.

    A user who can write to it, or to one around it, can put another socket in the place of ours.
    Raises OSError.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        check_folder(folder)
        return
    group = group_of(described)
    if group is not None:
        os.chown(folder, -1, group)
        folder.chmod(0o710)


def check_folder(folder: Path) -> None:
    """Check that only we and root can replace a file in this folder. Raises OSError.

    The folder and those around it have to belong to us or root. They may not be writable for all,
    unless they are sticky, as /tmp.
    """
    trusted = {0, os.geteuid()}
    place = folder.resolve()
    named = [*reversed(folder.absolute().parents), folder.absolute()]
    for one in dict.fromkeys([*named, *reversed(place.parents), place]):
        facts = one.lstat()
        if not stat.S_ISDIR(facts.st_mode) and not stat.S_ISLNK(facts.st_mode):
            raise NotADirectoryError(0, f"{one} is no folder")
        if facts.st_uid not in trusted and not (one != place and facts.st_uid == _nobody()):
            raise PermissionError(
                0, f"the folder {one} belongs to user {facts.st_uid}, who could replace the socket"
            )
        is_open = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_IWOTH
        if is_open and not facts.st_mode & stat.S_ISVTX:
            raise PermissionError(
                0, f"everybody may write to the folder {one} and replace the socket (chmod o-w)"
            )


def _nobody() -> int:
    """The owner that a user namespace shows for files of users that it does not have."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return -1


def unlink(endpoint: str) -> None:
    """Remove the file of an ipc endpoint that is served here: libzmq leaves it."""
    path = _path(endpoint)
    if path is not None:
        path.unlink(missing_ok=True)
        _leave(path.parent)


def remove_left(endpoint: str) -> None:
    """Remove the file of an ipc endpoint that whoever served it could not remove."""
    path = _path(endpoint)
    if path is not None:
        with contextlib.suppress(OSError):  # another serves it
            remove_stale(path)
            _leave(path.parent)


def _leave(folder: Path) -> None:
    """Remove an empty folder in /tmp, or another that all share: other users could not use it."""
    with contextlib.suppress(OSError):  # not empty, or not ours
        if folder.parent.stat().st_mode & stat.S_ISVTX:
            folder.rmdir()


def remove_stale(path: Path) -> None:
    """Remove the socket that a dead process left. Raises OSError when it is anything else.

    libzmq would remove whatever is there, also from under a living server.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(0, "there is a file that is no socket")
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass
    raise FileExistsError(0, "another process serves it")


def _path(endpoint: str) -> Path | None:
    """The file of an ipc endpoint that has one."""
    return Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc:///") else None


def _share(path: Path | None, described: Schedule) -> None:
    """With the store's group."""
    group = group_of(described)
    if path is not None and group is not None:
        os.chown(path, -1, group)
        path.chmod(0o660)
