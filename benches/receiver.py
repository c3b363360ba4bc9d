"""A process that receives over ZeroMQ: through the product's subscriber, or bare pyzmq.

python -m benches.receiver GATEWAY_ENDPOINT BARE_ENDPOINT
"""

import sys
from time import monotonic_ns
from typing import Any

import zmq

from benches.blocks import serve
from benches.sender import STAMP
from inphase import subscribe


def _bare(socket: "zmq.Socket[bytes]", last: int) -> list[int]:
    late = []
    while True:
        parts = socket.recv_multipart()
        now = monotonic_ns()
        number, stamp = STAMP.unpack_from(parts[1])
        late.append(now - stamp)
        if number >= last:
            return late


def main() -> None:
    """Serve blocks until stdin ends; see benches.reader."""
    endpoint, bare_endpoint = sys.argv[1:]
    subscription = subscribe(endpoint, transport="zmq")
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 64)
    socket.setsockopt(zmq.SUBSCRIBE, b"inphase.frame\0")
    socket.connect(bare_endpoint)

    def receive(asked: dict[str, Any]) -> list[int]:
        if asked["kind"] == "bare":
            return _bare(socket, asked["last"])
        late = []
        while True:
            frame = subscription.next(timeout_s=10.0)
            late.append(monotonic_ns() - frame.latched_ns)
            if frame.cycle >= asked["last"]:
                return late

    serve(receive)


if __name__ == "__main__":
    main()
