"""One connection to a policy server, in a thread of its own, so that nothing that it does waits.

The other side takes the thread's words from a queue, with a deadline of its own. A link that is
given up has its socket shut down: whatever its thread waited for then ends.
"""

import contextlib
import queue
import socket
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Literal

from inphase.errors import ScheduleError, install_extras
from inphase.policy.openpi import array_format
from inphase.policy.openpi.array_format import Malformed
from inphase.schedule import Schedule

MESSAGE_BYTES = 16 << 20
"""Bound of a message from a server; a longer one ends the connection."""
OPEN_S = 10.0
"""Longest time until a server has accepted a connection, and has sent its metadata."""
_GOODBYE_S = 0.3
_SHOWN = 300


@dataclass(frozen=True)
class LinkOpen:
    """The server has accepted the connection, and has sent its metadata."""


@dataclass(frozen=True)
class LinkEnd:
    """The connection is over, or never was; why, and in which words."""

    why: Literal["unreached", "lost", "errors", "malformed"]
    words: str


Word = LinkOpen | LinkEnd | bytes
"""A word of the thread; bytes are an answer."""


class ServerLink:
    """One connection: opened at once, by its thread. Thread: one, the policy's."""

    def __init__(self, url: str) -> None:
        self._asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self._sockets: list[socket.socket] = []
        # it knows nothing of this object, whose end is its end
        thread = threading.Thread(
            target=_run, args=(url, self._asked, self._said, self._sockets), daemon=True
        )
        self._end = weakref.finalize(self, _say_goodbye, self._asked, thread)
        thread.start()

    def ask(self, message: bytes) -> None:
        """Send a request. One at a time: its answer has to be heard before the next one."""
        self._asked.put(message)

    def hear(self, timeout_s: float) -> Word | None:
        """The next word of the connection; None: there is none within that time."""
        try:
            return self._said.get(timeout=timeout_s) if timeout_s > 0 else self._said.get_nowait()
        except queue.Empty:
            return None

    def give_up(self) -> None:
        """End the connection now, whatever it waits for."""
        self._end.detach()
        self._asked.put(None)
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Say goodbye to the server; it waits for that for a moment at most."""
        self._end()


def _say_goodbye(asked: "queue.SimpleQueue[bytes | None]", thread: threading.Thread) -> None:
    asked.put(None)
    thread.join(_GOODBYE_S)


def _run(
    url: str,
    asked: "queue.SimpleQueue[bytes | None]",
    said: "queue.SimpleQueue[Word]",
    sockets: list[socket.socket],
) -> None:
    """The thread: connect, then an answer per request, until there is no more to ask."""
    is_open = False
    try:
        with _connect(url) as connection:
            sockets.append(connection.socket)
            metadata = connection.recv(timeout=OPEN_S)
            if isinstance(metadata, str):
                raise Malformed(f"a text in place of its metadata: {_shown(metadata)}")
            array_format.unpack(metadata)
            is_open = True
            said.put(LinkOpen())
            while (request := asked.get()) is not None:
                said.put(_answer(connection, request))
    except Malformed as error:
        said.put(LinkEnd("malformed", f"it sent {error}"))
    except _ServerError as error:
        said.put(LinkEnd("errors", str(error)))
    except Exception as error:  # the network's, the protocol's and the library's
        said.put(_ended(error, is_open=is_open))


class _ServerError(Exception):
    """The server answered with the text of an error."""


def _connect(url: str) -> Any:
    from websockets.sync.client import connect

    # no pings: a server that infers in its event loop answers none, and is well
    return connect(
        url,
        open_timeout=OPEN_S,
        close_timeout=_GOODBYE_S / 2,
        ping_interval=None,
        compression=None,
        max_size=MESSAGE_BYTES,
        proxy=None,
    )


def _answer(connection: Any, request: bytes) -> bytes:
    with contextlib.suppress(TimeoutError):
        connection.recv(timeout=0)
        raise Malformed("a message that answers nothing")
    connection.send(request)
    answer = connection.recv()
    if isinstance(answer, str):
        raise _ServerError(_shown(answer))
    found: bytes = answer
    return found


def _ended(error: Exception, *, is_open: bool) -> LinkEnd:
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ConnectionClosed):
        if error.sent is not None and error.sent.code in _MALFORMED:
            return LinkEnd("malformed", f"it sent what is no message, or too long a one ({words})")
        return LinkEnd("lost", f"the connection ended: {words}")
    if is_open:
        return LinkEnd("lost", f"the connection ended: {words}")
    if isinstance(error, TimeoutError):
        words = f"no WebSocket opened within {OPEN_S:.0f} s"
    elif isinstance(error, InvalidHandshake):
        words = f"it answers, and is no WebSocket server of openpi's protocol ({words})"
    return LinkEnd("unreached", words)


_MALFORMED = (1002, 1007, 1009)
"""Close codes with which the library leaves a peer that breaks the protocol."""


def _shown(text: str) -> str:
    """The end of a text, where a traceback says what it is about."""
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"... {text[-_SHOWN:]}"


def check_package(schedule: Schedule) -> None:
    """See that the WebSocket library is installed. Raises ScheduleError."""
    try:
        import websockets.sync.client  # noqa: F401
    except ImportError as error:
        raise _missing(schedule) from error


def _missing(schedule: Schedule) -> ScheduleError:
    return schedule.error(
        "policy.server",
        "the package websockets, which asks a policy server, is not installed; "
        + install_extras(["openpi"]),
    )
