"""The page's address: the one of the schedule, or a free port where another process has that."""

import errno
import socket

from inphase.errors import ViewError

_BACKLOG = 64
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


def listen(address: str) -> socket.socket:
    """A listening socket at HOST:PORT. A port that is taken, or another user's, is replaced by one
    that is free. Raises ViewError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            listener.bind((place[0], 0, *place[2:]))
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ViewError(
            f"{address} cannot be listened on: {error.strerror}; give another [page] address"
        ) from error
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """Where it listens, as HOST:PORT of a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"
