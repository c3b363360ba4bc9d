"""The process that sends a store's frames over ZeroMQ. WIRE.md is the format's page.

    python -m inphase.runtime.frame_sender SCHEDULE STORE [ENDPOINT KEYS]

It follows the store in one plain thread, and nothing else happens in it. The gateway starts it, and
again when it has ended. A service does likewise, with an endpoint and a folder of keys of its own:
there it is behind who drives, and leaves frames out where all watchers take too much of a core.
libzmq keeps a client's message until its last part has come, and the frames that a slow subscriber
has not read. All of that together has a bound, beyond which the process ends.
"""

import contextlib
import gc
import os
import resource
import signal
import sys
from pathlib import Path

import msgpack
import zmq

from inphase import schedule
from inphase.access.authenticator import Authenticator, RefusedKey
from inphase.access.keys import AllowList, KeyFolder
from inphase.errors import AccessError, InphaseError, ServiceError
from inphase.frames import store, wire
from inphase.frames.sending import WireShape, Writer, describe
from inphase.host import process
from inphase.host.endpoint import Socket, bind, bind_at, set_bounds, unlink
from inphase.host.outlet import Outlet
from inphase.runtime.throttle import Throttle
from inphase.schedule import Schedule

_SLICE_NS = 20_000_000  # how long a look for frames lasts before newcomers and `stop` are seen to
_IDLE_MS = 100  # how long nobody is waited for before the store's end is looked for
_QUEUE_S = 0.1  # frames wait this long for a slow subscriber before they are dropped, and counted
_QUEUE_BYTES = 64 << 20  # and never more than this for each of them
_KEPT_BYTES = 256 << 10  # a sample that is sent without a further copy has at least so many
_NEWCOMERS = 64  # subscriptions taken in between two frames
_SUBSCRIPTION_BYTES = 256
_KEYED_BYTES = 512  # of a key's part of the handshake, which MAXMSGSIZE bounds too
_GOODBYE_MS = 100
_MEMORY_BYTES = 512 << 20  # beside what it has at its start, for all clients together,
_WATCHERS_SHARE = 0.25  # of a core, that all watchers of a service cost here
_WATCHERS_NICE = 10  # behind who drives
_MESSAGES = 8  # and so many messages with every large sample in them


def queue_length(shape: WireShape, every: list[int]) -> int:
    """Messages that may wait for one subscriber: 0.1 s of them, at most _QUEUE_BYTES, at least 4.

    every: per sensor, in how many frames there is at most one new sample; a large sample is only in
    the message that names it first.
    """

    def most_bytes(messages: int) -> int:
        size = messages * (shape.header_size + shape.sizes[wire.PART_PACKED])
        for sensor in shape.large:
            # one more when a late one comes beside the next; and one more, because a full queue
            # goes on with a gap, at whose end there may be a new sample
            samples = -(-messages // every[sensor]) + 2
            size += min(messages, samples) * shape.places[sensor].size
        return size

    messages = int(_QUEUE_S * 1e9 / shape.outline.period_ns)
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
        shape = WireShape.of_store(description)
        self._writer = Writer(self._reader, shape)
        self._stopping = False
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._number = -1
        self._asked: set[bytes] = set()
        """the topics of subscribers that are of frames; those of descriptions alone want none"""
        self._authenticator: Authenticator | None = None
        self._kept_bytes = kept_bytes
        self.throttle: Throttle | None = None
        """leaves frames out; None: all are sent"""
        self.message_bytes = shape.header_size + sum(shape.sizes)
        """of one with every large sample"""
        self.queue = queue_length(shape, [s.get("every", 1) for s in description["sensors"]])
        self.socket: Socket = zmq.Context.instance().socket(zmq.XPUB)
        set_bounds(self.socket, queue=self.queue, message_bytes=_SUBSCRIPTION_BYTES)
        self.socket.setsockopt(
            zmq.XPUB_WELCOME_MSG, wire.TOPIC_DESCRIPTION + msgpack.packb(description)
        )
        self._waiting = zmq.Poller()
        self._waiting.register(self.socket, zmq.POLLIN)
        self._waiting.register(self._stop, zmq.POLLIN)

    def ask_for_keys(self, folder: Path) -> None:
        """Let in the keys of a folder alone; before the socket is bound. Raises AccessError."""
        if not folder.exists():
            raise AccessError(
                f"{folder} is not there; make keys: inphase keys create NAME --folder {folder}"
            )
        KeyFolder(folder).server().secure(self.socket)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _KEYED_BYTES)
        outlet = Outlet(_say, lambda missing: f"gateway: {missing} lines were dropped")
        self._authenticator = Authenticator(
            zmq.Context.instance(), AllowList(folder), lambda one: outlet.put(_of_refused(one))
        )

    def run(self) -> None:
        """The frame path: until the store's writer is gone, or after `stop` what the ring holds.

        Raises AccessError once a key that was let in is revoked: libzmq cannot disconnect one
        subscriber, so all of them connect to the next process of this kind.
        """
        left = self._reader.frame_ring[3]
        try:
            while left > 0:
                try:
                    self.follow()
                except InterruptedError:
                    continue
                except TimeoutError:
                    if self._stopping:
                        break
                except store.Lost:
                    break
                left -= self._stopping
                self.take_in_newcomers()
                if self._authenticator is not None:
                    self._authenticator.refuse_revoked()
            self.socket.send(wire.TOPIC_END)
        except AccessError:
            self.socket.close(linger=0)  # nothing more for the one that was revoked
            raise
        finally:
            self.close()

    def close(self) -> None:
        """End it; whoever is there may take in what was sent."""
        self.socket.close(linger=_GOODBYE_MS)
        if self._authenticator is not None:
            self._authenticator.close()
        self._reader.close()
        os.close(self._stop)

    def follow(self) -> None:
        """Send the next frame. While nobody asks for frames, wait for somebody instead, and go on
        to the newest one. Raises what `store.Reader.next` does."""
        is_asked = bool(self._asked)
        if not is_asked and not self._stopping:
            self._waiting.poll(_IDLE_MS)
            self.take_in_newcomers()
        timeout_ns = _SLICE_NS if is_asked and not self._stopping else 0
        self._number += 1 + self._reader.next(timeout_ns, newest=not is_asked)
        if self._asked and (self.throttle is None or self.throttle.sends(self._number)):
            self._send(self._number)

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

    def take_in_newcomers(self) -> None:
        """An XPUB socket's subscriptions are messages to it, and must not pile up."""
        for _ in range(_NEWCOMERS):
            if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            said = self.socket.recv()

            # libzmq says the first subscriber of a topic (1), and that the last one is gone (0)
            if said[:1] == b"\1" and wire.TOPIC_FRAME.startswith(said[1:]):
                self._asked.add(said[1:])
            elif said[:1] == b"\0":
                self._asked.discard(said[1:])

    def stop(self) -> None:
        """Send what the ring holds, say goodbye, and end."""
        self._stopping = True
        os.eventfd_write(self._stop, 1)


def _of_refused(one: RefusedKey) -> str:
    """A line for a person."""
    times = "a key was" if one.times == 1 else f"{one.times} times a key was"
    return f"gateway: {times} refused that came from {one.address}: {one.public}, {one.reason}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _limit_memory(message_bytes: int) -> None:
    """Bound what this process may yet take, with room for a few of the largest messages."""
    has = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) * 1024
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = has + _MEMORY_BYTES + _MESSAGES * message_bytes
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _open(described: Schedule, store_path: str) -> tuple[Sender, str]:
    """A sender at the gateway's endpoint, which comes with it."""
    assert described.gateway is not None
    sender = Sender(store_path)
    keys = described.gateway.keys
    if keys is not None:
        try:
            sender.ask_for_keys(described.path.parent / Path(keys).expanduser())
        except AccessError as error:
            raise AccessError(str(described.error("gateway.keys", str(error)))) from error
    bind(sender.socket, "gateway.endpoint", described.gateway.endpoint, described)
    return sender, described.gateway.endpoint


def _open_at(described: Schedule, store_path: str, endpoint: str, keys: Path) -> Sender:
    """A sender at that endpoint, for keys alone."""
    sender = Sender(store_path)
    sender.throttle = Throttle(_WATCHERS_SHARE)
    with contextlib.suppress(OSError):  # it has a higher one already
        os.nice(_WATCHERS_NICE)
    sender.ask_for_keys(keys)
    try:
        bind_at(sender.socket, endpoint, described)
    except (OSError, zmq.ZMQError) as error:
        raise ServiceError(
            f"{endpoint} cannot be had: {error.strerror}; give others by --listen"
        ) from error
    return sender


def serve(described: Schedule, store_path: str, endpoint: str = "", keys: str = "") -> None:
    """Send frames until the store's writer is gone or SIGTERM comes.

    endpoint, keys: of a service; empty: those of the schedule's gateway. Raises ScheduleError,
    StoreError, AccessError, ServiceError.
    """
    if endpoint:
        sender = _open_at(described, store_path, endpoint, Path(keys))
    else:
        sender, endpoint = _open(described, store_path)
    signal.signal(signal.SIGTERM, lambda *_: sender.stop())
    _limit_memory(sender.message_bytes)
    process.say_ready()
    gc.collect()
    gc.freeze()
    try:
        sender.run()
    finally:
        unlink(endpoint)
    zmq.Context.instance().term()


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, store_path, *place = sys.argv[1:5]
    try:
        serve(schedule.load(Path(path)), store_path, *place)
    except InphaseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
