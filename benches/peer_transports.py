"""Messages of other people's transports from one process to another: one way, both in Python.

    python peer_transports.py send PEER BYTES HZ COUNT
    python peer_transports.py receive PEER BYTES COUNT

Started by `benches.peers` with the Python of an environment that has the packages, and without
inphase. The sender puts the time before it sends into each message, CLOCK_MONOTONIC. The receiver
prints how long each message took, ns, as a line of JSON, once it has the last or 5 s were silent.
"""

import contextlib
import ctypes
import json
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TAKE = Callable[[Any], None]
_STAMP = struct.Struct("<qq")
_SILENT_S = 5.0
_ZENOH = "tcp/127.0.0.1:17447"
_LCM = "udpm://239.255.76.67:17667?ttl=0"
_ZMQ = "ipc:///tmp/inphase-bench-peer"


def zmq_sender(size: int) -> Callable[[bytes], Any]:
    import zmq

    socket = zmq.Context.instance().socket(zmq.PUB)
    socket.bind(_ZMQ)
    return socket.send


def zmq_receiver(size: int, take: TAKE) -> Any:
    import zmq

    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(_ZMQ)

    def loop() -> None:
        while True:
            take(socket.recv())

    return loop


def zenoh_sender(size: int) -> Callable[[bytes], Any]:
    import zenoh

    config = zenoh.Config()
    config.insert_json5("listen/endpoints", json.dumps([_ZENOH]))
    config.insert_json5("scouting/multicast/enabled", "false")
    session = zenoh.open(config)
    publisher = session.declare_publisher("bench")
    keep = [session]  # a session that nobody holds is closed
    return lambda message: (keep, publisher.put(message))


def zenoh_receiver(size: int, take: TAKE) -> Any:
    import zenoh

    config = zenoh.Config()
    config.insert_json5("connect/endpoints", json.dumps([_ZENOH]))
    config.insert_json5("listen/endpoints", "[]")
    config.insert_json5("scouting/multicast/enabled", "false")
    session = zenoh.open(config)
    subscriber = session.declare_subscriber("bench", lambda s: take(s.payload.to_bytes()))
    return lambda: (session, subscriber, time.sleep(1e6))


def lcm_sender(size: int) -> Callable[[bytes], Any]:
    import lcm

    link = lcm.LCM(_LCM)
    return lambda message: link.publish("bench", message)


def lcm_receiver(size: int, take: TAKE) -> Any:
    import lcm

    link = lcm.LCM(_LCM)
    link.subscribe("bench", lambda _channel, message: take(message))

    def loop() -> None:
        while True:
            link.handle()

    return loop


def _dds() -> tuple[Any, Any, Any]:
    from cyclonedds.core import Policy, Qos
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.idl import IdlStruct
    from cyclonedds.idl.types import sequence, uint8
    from cyclonedds.topic import Topic

    @dataclass
    class Blob(IdlStruct, typename="Blob"):  # type: ignore[call-arg,misc]
        data: sequence[uint8]  # type: ignore[valid-type]

    Blob.__annotations__ = {"data": sequence[uint8]}
    participant = DomainParticipant(0)
    qos = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(16))
    return participant, Topic(participant, "bench", Blob, qos=qos), Blob


def cyclonedds_sender(size: int) -> Callable[[bytes], Any]:
    from cyclonedds.pub import DataWriter

    participant, topic, blob = _dds()
    writer = DataWriter(participant, topic)
    return lambda message: writer.write(blob(data=message))


def cyclonedds_receiver(size: int, take: TAKE) -> Any:
    from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
    from cyclonedds.sub import DataReader
    from cyclonedds.util import duration

    participant, topic, _ = _dds()
    reader = DataReader(participant, topic)
    waiting = WaitSet(participant)
    waiting.attach(ReadCondition(reader, ViewState.Any | InstanceState.Any | SampleState.NotRead))

    def loop() -> None:
        while True:
            waiting.wait(duration(seconds=1))
            for sample in reader.take(N=16):
                take(bytes(sample.data[: _STAMP.size]))

    return loop


def ecal_sender(size: int) -> Callable[[bytes], Any]:
    import ecal.nanobind_core as ecal

    ecal.initialize("bench sender")
    return ecal.Publisher("bench").send


def ecal_receiver(size: int, take: TAKE) -> Any:
    import ecal.nanobind_core as ecal

    ecal.initialize("bench receiver")
    subscriber = ecal.Subscriber("bench")
    subscriber.set_receive_callback(lambda _publisher, _type, data: take(data.buffer))
    return lambda: (subscriber, time.sleep(1e6))


def _iceoryx() -> tuple[Any, Any, Any]:
    import iceoryx2 as iox

    node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
    name = iox.ServiceName.new("inphase bench")
    service = node.service_builder(name).publish_subscribe(iox.Slice[ctypes.c_uint8])
    event = node.service_builder(name).event()
    return node, service.open_or_create(), event.open_or_create()


def iceoryx2_sender(size: int) -> Callable[[bytes], Any]:
    node, service, event = _iceoryx()
    publisher = service.publisher_builder().initial_max_slice_len(size).create()
    notifier = event.notifier_builder().create()

    def send(message: bytes) -> None:
        sample = publisher.loan_slice_uninit(size)
        ctypes.memmove(sample.payload().as_ptr(), message, size)
        sample.assume_init().send()
        notifier.notify()

    keep = node
    return lambda message: (keep, send(message))


def iceoryx2_receiver(size: int, take: TAKE) -> Any:
    import iceoryx2 as iox

    node, service, event = _iceoryx()
    subscriber = service.subscriber_builder().create()
    listener = event.listener_builder().create()

    def loop() -> None:
        while node:
            listener.timed_wait(iox.Duration.from_secs(1))
            while (sample := subscriber.receive()) is not None:
                take(ctypes.string_at(sample.payload().as_ptr(), _STAMP.size))

    return loop


def receive(peer: str, size: int, count: int) -> None:
    """Print a line once it is ready, and one with what came."""
    took: list[int] = []
    numbers: set[int] = set()
    heard = threading.Event()
    over = threading.Event()

    def take(message: Any) -> None:
        now_ns = time.monotonic_ns()
        number, sent_ns = _STAMP.unpack_from(message)
        if number >= 0:
            numbers.add(number)
            took.append(now_ns - sent_ns)
        heard.set()
        if number == count - 1:
            over.set()

    loop = globals()[f"{peer}_receiver"](size, take)
    threading.Thread(target=loop, daemon=True).start()
    print("ready", flush=True)
    while not over.is_set() and heard.wait(4 * _SILENT_S):
        heard.clear()
        if not over.wait(_SILENT_S) and not heard.is_set():
            break
    print(json.dumps({"took_ns": took, "came": len(numbers)}), flush=True)
    sys.stdout.flush()
    with contextlib.suppress(BrokenPipeError):
        import os

        os._exit(0)  # threads of the peer's own may wait for ever


def send(peer: str, size: int, hz: float, count: int) -> None:
    """Some that do not count, until the two have found each other, then the others on a grid."""
    post = globals()[f"{peer}_sender"](size)
    rest = bytes(size - _STAMP.size)
    first_ns = time.monotonic_ns()
    for number in range(-100, count):
        due_ns = first_ns + int((number + 100) * 1e9 / (hz if number >= 0 else 50))
        if number == 0:
            first_ns = time.monotonic_ns() - int(100 * 1e9 / hz)
            due_ns = time.monotonic_ns()
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        post(_STAMP.pack(number, time.monotonic_ns()) + rest)
    time.sleep(1)


if __name__ == "__main__":
    role, name, bytes_, *more = sys.argv[1:]
    if role == "send":
        send(name, int(bytes_), float(more[0]), int(more[1]))
    else:
        receive(name, int(bytes_), int(more[0]))
