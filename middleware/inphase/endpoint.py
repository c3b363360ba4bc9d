"""ZeroMQ endpoints on this host: their sockets' bounds, and the files of those that are ipc.

WIRE.md says why the bounds are what they are.
"""

import grp
import os
import socket as sockets
import stat
from pathlib import Path
from typing import Any

import zmq

from inphase.schedule import Schedule

Socket = zmq.Socket[Any]


def set_bounds(socket: Socket, *, queue: int, message_bytes: int) -> None:
    """What libzmq leaves without bound: queues, sizes, linger, handshake; WIRE.md says why so.

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


def bind(socket: Socket, key: str, endpoint: str, described: Schedule) -> None:
    """Bind; the file of an ipc socket is its owner's, and the store's group's.

    Call it before there are threads: it sets the umask. Raises ScheduleError for a place that is
    taken or cannot be made.
    """
    path = _path(endpoint)
    before = os.umask(0o022)
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(path)
        os.umask(0o177)
        socket.bind(endpoint)
        _share(path, described)
    except (OSError, zmq.ZMQError) as error:
        raise described.error(
            key, f"{endpoint!r}: {error.strerror}; stop who has it, or give another"
        ) from error
    finally:
        os.umask(before)


def listen(key: str, endpoint: str, described: Schedule) -> sockets.socket:
    """A listening socket for `bind_to`, made by a process that may later make none.

    Call it before there are threads: it sets the umask. Raises ScheduleError as `bind`.
    """
    path = _path(endpoint)
    before = os.umask(0o022)
    listener = None
    try:
        if endpoint.startswith("ipc://"):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                remove_stale(path)
            os.umask(0o177)
            listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
            listener.bind(str(path) if path is not None else f"\0{endpoint[len('ipc://@') :]}")
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
            key, f"{endpoint!r}: {error.strerror}; stop who has it, or give another"
        ) from error
    finally:
        os.umask(before)
    return listener


def bind_to(socket: Socket, endpoint: str, listener: sockets.socket) -> None:
    """Serve a socket that `listen` made; it is the ZeroMQ socket's from here on."""
    socket.setsockopt(zmq.USE_FD, listener.detach())
    socket.bind(endpoint)


def unlink(endpoint: str) -> None:
    """Remove the file of an ipc endpoint that is served here: libzmq leaves it."""
    path = _path(endpoint)
    if path is not None:
        path.unlink(missing_ok=True)


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
    if path is not None and described.store.group is not None:
        os.chown(path, -1, grp.getgrnam(described.store.group).gr_gid)
        path.chmod(0o660)
