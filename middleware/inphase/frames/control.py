"""Requests to a robot's control socket; WIRE.md ("Control") is the format's page."""

import tomllib
from pathlib import Path
from typing import Any

import msgpack
import zmq

from inphase.errors import StoreError, WireError
from inphase.frames.record_layout import OUTCOMES
from inphase.frames.subscription import subscribe

_ANSWER_MS = 5000


def mark_episode(endpoint: str, outcome: str, *, key: str | Path | None = None) -> tuple[int, int]:
    """Begin an episode (`running`), or say the outcome of the newest one: `success`, `failure`,
    `discarded`, or `ended` where nobody knows. It may be thought over until the next one begins.

    endpoint, key: as `subscribe` takes them. Returns its number, and the cycle of the first frame
    that tells it. Recordings and exports take the episode from the frames.
    Raises ValueError for an outcome that is none, or that is refused: none was begun, or one runs
    already. Raises StoreError when there is no such robot, or it has no control socket.
    """
    if outcome not in OUTCOMES[1:]:
        raise ValueError(f"no outcome {outcome!r}; there are {', '.join(OUTCOMES[1:])}")
    try:
        with subscribe(endpoint, key=key) as frames:
            reply = ask(control_of(frames.description), do="episode", outcome=outcome)
            number = int(reply["episode"])
            for frame in frames:
                if (frame.episode, frame.outcome) == (number, outcome):
                    return number, frame.cycle
    except TimeoutError as error:
        raise StoreError(str(error) or f"no frame of {endpoint} came in time") from error
    raise StoreError(f"{endpoint} ended before a frame told episode {number}")


def control_of(description: dict[str, Any]) -> str:
    """The endpoint of a robot's control socket, by its schedule. Raises StoreError."""
    try:
        endpoint = tomllib.loads(description["schedule"]).get("gateway", {}).get("control")
    except Exception as error:  # another process wrote it
        raise StoreError(f"the robot's description has no schedule: {error!r}") from error
    if not isinstance(endpoint, str):
        raise StoreError(
            f"{description['robot']} takes no requests; give its schedule the key [gateway] control"
        )
    return endpoint


def ask(endpoint: str, **request: object) -> dict[str, Any]:
    """The reply to a request. Raises ValueError for one that is refused, TimeoutError, WireError
    for a reply in another format."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        socket.send(msgpack.packb(request))
        if not socket.poll(_ANSWER_MS):
            raise TimeoutError(f"{endpoint} does not answer")
        try:
            reply = msgpack.unpackb(socket.recv())
            is_done, refusal = reply["ok"], reply.get("error")
        except Exception as error:  # whatever a decoder makes of it
            raise WireError(f"{endpoint} is no robot's control socket: {error!r}") from error
    if not is_done:
        raise ValueError(str(refusal))
    return dict(reply)
