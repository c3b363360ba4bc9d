"""The gateway: a process that puts a store's frames on ZeroMQ. WIRE.md is the format's page.

    python -m inphase.gateway SCHEDULE STORE

One plain thread follows the store and sends; asyncio on uvloop serves the control socket and is
nowhere on the way of a frame. The process ends when the store's writer is gone, or on SIGTERM.
"""

import asyncio
import contextlib
import gc
import signal
import sys
from pathlib import Path
from typing import Any

import msgpack
import uvloop
import zmq
import zmq.asyncio

from inphase import process, schedule, store, wire
from inphase.endpoint import Socket, bind, set_bounds, unlink
from inphase.errors import InphaseError
from inphase.message import Form, Writer, describe
from inphase.schedule import Schedule

_SLICE_NS = 20_000_000  # how long a look for frames lasts before newcomers and `stop` are seen to
_QUEUE_S = 0.1  # frames wait this long for a slow subscriber before they are dropped, and counted
_QUEUE_BYTES = 64 << 20  # and never more than this for each of them
_KEPT_BYTES = 256 << 10  # a sample that is sent without a further copy has at least so many
_NEWCOMERS = 64  # subscriptions taken in between two frames
_SUBSCRIPTION_BYTES = 256
_GOODBYE_MS = 100
_REQUEST_BYTES = 65_536
_MESSAGE_BYTES = 1 << 20  # a request above _REQUEST_BYTES is refused, above this hung up on
_REPLIES = 64
_ANSWER_S = 1.0
_SWITCH_S = 1e-4  # the longest that Python code of the control socket holds up the frame thread


def queue_length(form: Form, every: list[int]) -> int:
    """Messages that may wait for one subscriber: 0.1 s of them, at most _QUEUE_BYTES, at least 4.

    every: per sensor, in how many frames there is at most one new sample; a large sample is only in
    the message that names it first.
    """

    def most_bytes(messages: int) -> int:
        size = messages * (form.header_size + form.sizes[wire.PART_PACKED])
        for sensor in form.large:
            # one more when a late one comes beside the next; and one more, because a full queue
            # goes on with a gap, at whose end there may be a new sample
            samples = -(-messages // every[sensor]) + 2
            size += min(messages, samples) * form.places[sensor].size
        return size

    messages = int(_QUEUE_S * 1e9 / form.layout.period_ns)
    while messages > 4 and most_bytes(messages) > _QUEUE_BYTES:
        messages -= 1
    return max(4, messages)


class Sender:
    """Follows a store and sends its frames. `run` is its thread's; `stop` may come from any."""

    def __init__(
        self, store_path: str, packed_max: int = wire.PACKED_MAX, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self._reader = store.Reader(store_path)
        description = describe(self._reader, packed_max)
        form = Form.from_description(description)
        self._writer = Writer(self._reader, form)
        self._stopping = False
        self._kept_bytes = kept_bytes
        self.queue = queue_length(form, [s.get("every", 1) for s in description["sensors"]])
        self.socket: Socket = zmq.Context.instance().socket(zmq.XPUB)
        set_bounds(self.socket, queue=self.queue, message_bytes=_SUBSCRIPTION_BYTES)
        self.socket.setsockopt(
            zmq.XPUB_WELCOME_MSG, wire.TOPIC_DESCRIPTION + msgpack.packb(description)
        )

    def run(self) -> None:
        """The frame path: until the store's writer is gone, or after `stop` what the ring holds."""
        number = -1
        left = self._reader.frame_ring[3]
        try:
            while left > 0:
                try:
                    number += 1 + self._reader.next(0 if self._stopping else _SLICE_NS)
                except InterruptedError:
                    continue
                except TimeoutError:
                    if self._stopping:
                        break
                except store.Lost:
                    break
                else:
                    self._send(number)
                left -= self._stopping
                self._take_in_newcomers()
            self.socket.send(wire.TOPIC_END)
        finally:
            self.socket.close(linger=_GOODBYE_MS)
            self._reader.close()

    def _send(self, number: int) -> None:
        """The frame that the reader is at."""
        writer, socket = self._writer, self.socket
        writer.write(number)
        socket.send(wire.TOPIC_FRAME, zmq.SNDMORE)
        socket.send(writer.header, zmq.SNDMORE)
        if not writer.large:
            socket.send(writer.packed)
            return

        # the largest are not copied again: ZeroMQ says when it is done with the buffer, by a thread
        # of its own that costs more than copying what is smaller
        socket.send(writer.packed, zmq.SNDMORE)
        last = writer.large[-1]
        for sample in writer.large:
            more = zmq.SNDMORE if sample is not last else 0
            if not sample.here:
                socket.send(b"", more)
                continue
            by_copy = sample.size < self._kept_bytes
            sample.tracker = socket.send(sample.buffer, more, copy=by_copy, track=not by_copy)
        writer.sent()

    def _take_in_newcomers(self) -> None:
        """An XPUB socket's subscriptions are messages to it, and must not pile up."""
        for _ in range(_NEWCOMERS):
            if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            self.socket.recv()

    def stop(self) -> None:
        """Send what the ring holds, say goodbye, and end."""
        self._stopping = True


class Control:
    """The requests of the control socket, each answered or refused. Thread: the event loop's."""

    def __init__(self, store_path: str) -> None:
        self._reader = store.Reader(store_path)
        self._page = store.EstopPage(store_path, self._reader.epoch)

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
            text = str(error) or "not MessagePack"
            return bytes(msgpack.packb({"id": number, "ok": False, "error": text}))

    def _do(self, asked: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(asked.keys() - {"do", "id"})
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
                self._page.post()
                return {}
            case other:
                raise ValueError(f"no request {other!r}; there are describe, estop, ping, status")

    async def serve(self, socket: zmq.asyncio.Socket) -> None:
        """Answer until cancelled; replies to a client that is gone are dropped."""
        while True:
            client, *parts = await socket.recv_multipart()
            if not parts:
                continue
            # nothing is said of one that is not taken: a full pipe would keep clients from stopping
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    await socket.send_multipart([client, *parts[:-1][:1], self.answer(parts[-1])])

    def close(self) -> None:
        """Leave the store."""
        self._page.close()
        self._reader.close()


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


async def _serve(described: Schedule, store_path: str) -> None:
    assert described.gateway is not None
    endpoint, control_endpoint = described.gateway.endpoint, described.gateway.control
    loop = asyncio.get_running_loop()
    sender = Sender(store_path)
    bind(sender.socket, "gateway.endpoint", endpoint, described)
    control = Control(store_path)
    server = None
    if control_endpoint is not None:
        socket = zmq.asyncio.Context.instance().socket(zmq.ROUTER)
        set_bounds(socket, queue=_REPLIES, message_bytes=_MESSAGE_BYTES)
        bind(socket, "gateway.control", control_endpoint, described)
        server = asyncio.create_task(control.serve(socket))

    # from here on there are two threads; the sender's errors come out of `frames`
    frames = loop.run_in_executor(None, sender.run)
    loop.add_signal_handler(signal.SIGTERM, sender.stop)
    process.say_ready()
    ends = [frames] if server is None else [frames, server]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    sender.stop()
    await frames
    unlink(endpoint)
    if server is not None and control_endpoint is not None:
        unlink(control_endpoint)
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
        socket.close()
    control.close()


def serve(described: Schedule, store_path: str) -> None:
    """Run the gateway until the store's writer is gone or SIGTERM comes.

    Raises ScheduleError, StoreError.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    uvloop.run(_serve(described, store_path))
    zmq.Context.instance().term()


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, store_path = sys.argv[1:3]
    try:
        serve(schedule.load(Path(path)), store_path)
    except InphaseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
