"""The gateway: a process that puts a store's frames on ZeroMQ. WIRE.md is the format's page.

    python -m inphase.runtime.gateway SCHEDULE STORE [PAGE_FD]

A process of its own sends the frames (`frame_sender`), and is started again when it ends. asyncio
on uvloop serves the control socket here. The process ends when the store's writer is gone, or on
SIGTERM. Without a page for clients' wishes nothing moves behind the store: it is a replay.
"""

import asyncio
import contextlib
import gc
import signal
import socket as sockets
import sys
from pathlib import Path
from typing import Any

import msgpack
import uvloop

from inphase import schedule
from inphase.errors import AccessError, InphaseError, RuntimeFault, WireError
from inphase.frames import store
from inphase.frames.sending import describe
from inphase.host import process, zmtp
from inphase.host.endpoint import listen, unlink
from inphase.host.process import Process
from inphase.schedule import Schedule

_REQUEST_BYTES = 65_536
_MESSAGE_BYTES = 1 << 20  # a request above _REQUEST_BYTES is refused, above this hung up on
_KEPT_REQUEST = _REQUEST_BYTES + 1024
_RECEIVE_BYTES = 64 << 10
_CLIENTS = 64  # connections to the control socket; one more, and who was silent longest is left
_HANDSHAKE_S = 2.0
_AGAIN_S = 0.2  # before what sends frames is started again
_AGAIN_KEYS_S = 2.0  # and where the keys of its subscribers cannot be read
_ANSWER_S = 1.0


class ControlSocket:
    """The requests of the control socket, each answered or refused. Thread: the event loop's."""

    def __init__(self, store_path: str, page_fd: int | None) -> None:
        self._reader = store.Reader(store_path)
        self._page = None if page_fd is None else store.ClientPage(page_fd)

    def answer(self, request: bytes) -> bytes:
        """The reply to a request, whatever that holds."""
        number: int | str | None = None
        try:
            asked = _decode(request)
            if isinstance(asked.get("id"), int | str):
                number = asked["id"]
            reply = {"id": number, "ok": True, **self._do(asked)}
            return bytes(msgpack.packb(reply))
        except Exception as error:  # whatever a decoder makes of it, it is the client's
            return self._refusal(str(error) or "not MessagePack", number)

    def _refusal(self, text: str, number: int | str | None = None) -> bytes:
        return bytes(msgpack.packb({"id": number, "ok": False, "error": text}))

    def _do(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = {"do", "id"} | ({"outcome"} if asked.get("do") == "episode" else set())
        unknown = sorted(asked.keys() - known)
        if unknown:
            raise ValueError(f"unknown keys {unknown}; a request has do and id")
        match asked.get("do"):
            case "ping":
                return {}
            case "describe":
                return {"description": describe(self._reader)}
            case "status":
                return {"status": self._reader.status(), "counts": self._reader.counts()}
            case "estop":
                self._wishes().estop()
                return {}
            case "episode":
                return {"episode": self._wishes().episode(str(asked.get("outcome")))}
            case other:
                raise ValueError(
                    f"no request {other!r}; there are describe, episode, estop, ping, status"
                )

    def _wishes(self) -> store.ClientPage:
        """Raises ValueError where no robot is behind the store."""
        if self._page is None:
            raise ValueError("this is a replay: no robot is behind it, and none hears a wish")
        return self._page

    def answer_message(self, message: zmtp.Message) -> list[bytes]:
        """The reply to a message: after the empty part that a REQ socket puts before a request."""
        parts = message.parts
        if not parts:
            return [self._refusal(f"a request has at most {_REQUEST_BYTES} bytes")]
        return [*parts[:-1][:1], self.answer(parts[-1])]

    def close(self) -> None:
        """Leave the store."""
        if self._page is not None:
            self._page.close()
        self._reader.close()


class Clients:
    """The connections to the control socket: so many at once, each with a bound on what it may send
    and leave unread. Thread: the event loop's."""

    def __init__(self, control: ControlSocket) -> None:
        self._control = control
        self._lines: dict[asyncio.StreamWriter, None] = {}
        """who was heard longest ago first"""
        self._server: asyncio.Server | None = None

    async def serve(self, listener: sockets.socket) -> None:
        """Answer until cancelled; a client that does not read its replies is left."""
        start = (
            asyncio.start_unix_server
            if listener.family == sockets.AF_UNIX
            else asyncio.start_server
        )
        self._server = await start(self._serve, sock=listener, limit=_RECEIVE_BYTES)
        try:
            await asyncio.Event().wait()
        finally:
            self._server.close()
            for line in [*self._lines]:
                line.close()

    async def _serve(self, incoming: asyncio.StreamReader, line: asyncio.StreamWriter) -> None:
        if len(self._lines) >= _CLIENTS:
            longest = next(iter(self._lines))
            del self._lines[longest]
            longest.transport.abort()
        self._lines[line] = None
        connection = zmtp.Connection(_KEPT_REQUEST, _MESSAGE_BYTES)
        line.transport.set_write_buffer_limits(high=0)  # what is not sent at once is waited for
        try:
            await self._send(line, connection.answers)
            while data := await self._receive(incoming, connection):
                self._lines.pop(line, None)
                self._lines[line] = None
                messages = connection.feed(data)
                await self._send(line, connection.answers)
                for message in messages:
                    for piece in zmtp.packed(self._control.answer_message(message)):
                        connection.answers += piece
                    await self._send(line, connection.answers)
        except (WireError, OSError):
            pass  # gone, or left; nothing is said: a full pipe would keep others from stopping
        finally:
            self._lines.pop(line, None)
            line.close()

    async def _receive(self, incoming: asyncio.StreamReader, connection: zmtp.Connection) -> bytes:
        """The next bytes; the first ones are waited for as long as libzmq does."""
        async with asyncio.timeout(None if connection.is_ready else _HANDSHAKE_S):
            return await incoming.read(_RECEIVE_BYTES)

    async def _send(self, line: asyncio.StreamWriter, data: bytearray) -> None:
        """Raises TimeoutError when it is not taken in time."""
        if not data:
            return
        line.write(bytes(data))
        data.clear()
        async with asyncio.timeout(_ANSWER_S):
            await line.drain()


def _decode(request: bytes) -> dict[str, Any]:
    """A request, sizes bound before anything is decoded. Raises ValueError and msgpack's errors."""
    if len(request) > _REQUEST_BYTES:
        raise ValueError(f"a request has at most {_REQUEST_BYTES} bytes, got {len(request)}")
    asked = msgpack.unpackb(
        request,
        strict_map_key=True,
        max_str_len=256,
        max_bin_len=256,
        max_array_len=16,
        max_map_len=16,
        max_ext_len=0,
    )
    if not isinstance(asked, dict) or not all(isinstance(key, str) for key in asked):
        raise ValueError('a request is a map such as {"do": "ping", "id": 1}')
    return asked


class Frames:
    """The process that sends the frames, and the one after it. Thread: the event loop's."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._is_stopping = False
        self._child = self._start()

    def _start(self) -> Process:
        child = Process("frames", "inphase.runtime.frame_sender", self._arguments)
        child.wait_ready()
        return child

    def _start_again(self, how: str | None) -> bool:
        """False: its keys cannot be read now. In a thread: a full pipe holds up what is printed.
        Raises RuntimeFault."""
        print(f"gateway: the sender of frames ended ({how}); it is started again", file=sys.stderr)
        try:
            self._child = self._start()
        except RuntimeFault as fault:
            if fault.exit_code != AccessError.exit_code:
                raise
            return False
        return True

    async def run(self) -> None:
        """Until the store's writer is gone, or after `stop`; what ends before is started again.
        Raises RuntimeFault where it cannot be."""
        loop = asyncio.get_running_loop()
        while True:
            over = asyncio.Event()
            loop.add_reader(self._child.pidfd, over.set)
            await over.wait()
            loop.remove_reader(self._child.pidfd)
            how = self._child.ended()
            self._child.stop()
            if how == "exit code 0" or self._is_stopping:
                return
            await asyncio.sleep(_AGAIN_S)
            while not await loop.run_in_executor(None, self._start_again, how):
                await asyncio.sleep(_AGAIN_KEYS_S)
                if self._is_stopping:
                    return
            if self._is_stopping:  # it was said to the one before
                self._child.ask_to_end()

    def stop(self) -> None:
        """Have it send what the ring holds, say goodbye, and end."""
        self._is_stopping = True
        self._child.ask_to_end()

    def close(self) -> None:
        """End it."""
        self._child.stop()


async def _serve(described: Schedule, store_path: str, page_fd: int | None) -> None:
    assert described.gateway is not None
    control_endpoint = described.gateway.control
    loop = asyncio.get_running_loop()
    listener = None
    if control_endpoint is not None:  # before there is anything that its umask could disturb
        listener = listen("gateway.control", control_endpoint, described)
    with contextlib.ExitStack() as undo:
        if control_endpoint is not None:
            undo.callback(unlink, control_endpoint)
        control = ControlSocket(store_path, page_fd)
        undo.callback(control.close)
        frames = Frames([str(described.path), store_path])
        undo.callback(frames.close)
        loop.add_signal_handler(signal.SIGTERM, frames.stop)
        process.say_ready()
        sending = asyncio.create_task(frames.run())
        tasks = [sending]
        if listener is not None:
            tasks.append(asyncio.create_task(Clients(control).serve(listener)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        frames.stop()
        await sending
        for task in tasks[1:]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def serve(described: Schedule, store_path: str, page_fd: int | None) -> None:
    """Run the gateway until the store's writer is gone or SIGTERM comes.

    Raises ScheduleError, StoreError, RuntimeFault.
    """
    gc.collect()
    gc.freeze()  # what was imported is not looked at again, at the end neither
    uvloop.run(_serve(described, store_path, page_fd))


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, store_path, *page_fd = sys.argv[1:4]
    try:
        serve(schedule.load(Path(path)), store_path, int(page_fd[0]) if page_fd else None)
    except InphaseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
