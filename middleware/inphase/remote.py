"""A policy served to a robot from another process: any Python from 3.8 on, any environment.

Needs pyzmq, msgpack and NumPy, and nothing of inphase: where that is not installed, copy this one
file. The schedule says `[policy] remote = "ipc:///tmp/policy"`; then, in the other environment:

    from inphase.remote import serve_policy   # or, copied: from remote import serve_policy
    serve_policy("ipc:///tmp/policy", Reach())

WIRE.md ("A remote policy") is the format, for other languages.
"""

from __future__ import annotations  # Python 3.8

import difflib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

WIRE = 5
"""version of the format"""
HELLO, GREETING, READY = b"inphase.hello\0", b"inphase.greeting\0", b"inphase.ready\0"
FRAME, COMMAND, END = b"inphase.frame\0", b"inphase.command\0", b"inphase.end\0"
REFUSED = b"inphase.refused\0"
_ABSENT = -0x7FFFFFFFFFFFFFFF
_HERE, _BEFORE = 1, 2  # where a sample is
_PACKED = 2  # the part with the small samples
_SILENT_MS = 1000  # so long without a message, and the robot is greeted anew
_RETRY_MS = 50
_SHOWN = 6  # of an actuator's channels, at a prompt
_TRACEBACKS = 3  # shown in full; later ones would flood


def _known(stamp: int) -> int | None:
    return None if stamp == _ABSENT else stamp


def token_file(endpoint: str) -> str | None:
    """The file in which a robot of this user leaves what proves a policy on a tcp endpoint to it.
    None: an ipc endpoint, whose socket is the proof."""
    if not endpoint.startswith("tcp://"):
        return None
    return f"/tmp/inphase-{os.geteuid()}/policy-{endpoint.rpartition(':')[2]}.token"


def _span(nanoseconds: int | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / 1000:.1f} us"


def _name(number: int, names: list[str]) -> str:
    return names[number] if 0 <= number < len(names) else f"unknown ({number})"


def _unknown(kind: str, name: Any, known: list[str]) -> KeyError:
    near = difflib.get_close_matches(str(name), known, 1, 0.5)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return KeyError(f"no {kind} {name!r}{meant}; there are: {', '.join(known) or 'none'}")


class _Named(dict):  # type: ignore[type-arg] # Python 3.8
    """A dict whose error for a name that is none lists those there are. kind: what they name."""

    def __init__(self, kind: str, items: Any) -> None:
        super().__init__(items)
        self.kind = kind

    def __missing__(self, name: Any) -> Any:
        raise _unknown(self.kind, name, list(self))


class Sample:
    """One sensor in one frame; the names of `inphase.Frame`'s samples. Stamps are nanoseconds of
    the robot's monotonic clock, or None."""

    def __init__(self, link: Link, name: str, row: list[int], value: Any) -> None:
        self.name = name
        self.sequence = row[0]
        self.cycle = row[1] if row[1] >= 0 else None
        self.triggered_ns, self.acquired_ns = _known(row[2]), _known(row[3])
        self.received_ns, self.age_ns = _known(row[4]), _known(row[5])
        self.uncertainty_ns = row[6]
        self.status = _name(row[7], link.statuses)
        """only FRESH is fresh"""
        self.reason = _name(row[8], link.reasons)
        self.detail = row[9]
        self._value = value

    @property
    def value(self) -> Any:
        """Structured array of shape (), SI. LookupError where it is not to be had."""
        if self._value is None:
            raise LookupError(f"{self.name} has no sample here ({self.status})")
        return self._value

    def __getitem__(self, field: str) -> Any:
        """A field of `value`. KeyError for an unknown one."""
        names = self.value.dtype.names
        if field not in names:
            raise _unknown("field", field, list(names))
        return self.value[field]

    def __repr__(self) -> str:
        reason = "" if self.reason == "none" else f" ({self.reason} {self.detail})"
        return f"<Sample {self.name}  {self.status}{reason}  age {_span(self.age_ns)}>"


class Act:
    """An actuator's requested and applied values; NaN where there was none."""

    def __init__(self, link: Link, name: str, act: list[Any]) -> None:
        self.name = name
        self.flags = tuple(f for bit, f in enumerate(link.act_flags) if act[0] >> bit & 1)
        self.reason = _name(act[1], link.reasons)
        self.detail = act[3]
        self.requested, self.applied = np.frombuffer(act[4], "<f8"), np.frombuffer(act[5], "<f8")

    def __repr__(self) -> str:
        reason = "" if self.reason == "none" else f"({self.reason} {self.detail})"
        values = ["-" if np.isnan(value) else f"{value:.4f}" for value in self.applied[:_SHOWN]]
        values += ["..."] * (len(self.applied) > _SHOWN)
        said = " ".join(word for word in (*self.flags, reason) if word)
        words = (self.name, said, f"applied {' '.join(values)}")
        return f"<Act {'  '.join(word for word in words if word)}>"


class Frame:
    """One cycle's frame: `frame["joints"].value["position"]`, `frame.command["arm"].applied`."""

    def __init__(self, link: Link, header: list[Any], values: list[Any]) -> None:
        numbers, rows, acts = header[5], header[6], header[7]
        self.cycle, self.due_ns, self.woke_ns = numbers[0], numbers[1], numbers[2]
        self.triggered_ns, self.latched_ns = _known(numbers[3]), numbers[4]
        self.skew_ns = _known(numbers[5])
        self.flags = tuple(f for bit, f in enumerate(link.frame_flags) if numbers[12] >> bit & 1)
        self.skipped = numbers[13]
        self.reason = _name(numbers[14], link.reasons)
        self.reason_cycle = numbers[11] if numbers[11] >= 0 else None
        self.state = _name(numbers[16], link.states)
        self.episode, self.outcome = numbers[18], _name(numbers[19], link.outcomes)
        self.lease, self.drove = numbers[20], _name(numbers[21], link.drove)
        self.samples: dict[str, Sample] = _Named(
            "sensor",
            (
                (name, Sample(link, name, row, value))
                for name, row, value in zip(link.sensors, rows, values)  # noqa: B905 - Python 3.8
            ),
        )
        self.command: dict[str, Act] = _Named(
            "actuator",
            ((name, Act(link, name, act)) for name, act in zip(link.actuators, acts)),  # noqa: B905
        )
        """of the act before this frame"""

    @property
    def sensors(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.samples)

    def __getitem__(self, sensor: str) -> Sample:
        return self.samples[sensor]

    def __repr__(self) -> str:
        words = (f"cycle {self.cycle}", f"skew {_span(self.skew_ns)}", " ".join(self.flags))
        shown = "  ".join(word for word in words if word)
        return f"<Frame {shown}  of {', '.join(self.samples)}>"


class Link:
    """A robot's greeting: the layout of its frames."""

    def __init__(self, greeting: dict[str, Any]) -> None:
        description = greeting["description"]
        if description["wire"] != WIRE:
            raise ValueError(f"the robot speaks version {description['wire']}, this is {WIRE}")
        self.epoch = description["epoch"]
        self.statuses, self.reasons = description["statuses"], description["reasons"]
        self.frame_flags, self.act_flags = description["frame_flags"], description["act_flags"]
        self.states, self.outcomes = description["states"], description["outcomes"]
        self.drove = description["drove"]
        self.sensors = [s["name"] for s in description["sensors"]]
        self.actuators = {a["name"]: a["channels"] for a in description["actuators"]}
        self._places = [(s["part"], s["offset"], s["size"]) for s in description["sensors"]]
        self._dtypes = [
            np.dtype(
                {
                    "names": [name for name, _, _, _ in s["fields"]],
                    "formats": [(kind, tuple(shape)) for _, shape, kind, _ in s["fields"]],
                    "itemsize": s["size"],
                    "offsets": _offsets(s["fields"]),
                }
            )
            for s in description["sensors"]
        ]
        self._large: dict[int, tuple[int, bytes]] = {}

    def frame(self, parts: list[bytes]) -> Frame:
        """The frame in a message."""
        header = msgpack.unpackb(parts[1])
        if header[0] != WIRE or header[2] != self.epoch:
            raise ValueError("a frame of another version or run than the greeting's")
        return Frame(self, header, [self._value(i, row, parts) for i, row in enumerate(header[6])])

    def _value(self, sensor: int, row: list[int], parts: list[bytes]) -> Any:
        part, offset, size = self._places[sensor]
        if row[10] == _HERE:
            memory = parts[part]
            if part != _PACKED:
                self._large[sensor] = (row[0], memory)
        elif row[10] == _BEFORE and self._large.get(sensor, (-1, b""))[0] == row[0]:
            memory = self._large[sensor][1]
        else:
            return None
        return np.ndarray((), self._dtypes[sensor], memory[offset : offset + size])

    def blank(self) -> Frame:
        """A frame of zeros, all of them FRESH, to warm up on."""
        fresh = self.statuses.index("FRESH")
        row = [0, 0, 0, 0, 0, 0, 0, fresh, 0, 0, _HERE]
        acts = [
            [0, 0, count, 0, np.full(count, np.nan).tobytes(), np.full(count, np.nan).tobytes()]
            for count in self.actuators.values()
        ]
        running = self.states.index("running")
        numbers = [0, 0, 0, 0, 0, 0, -1, _ABSENT, _ABSENT, -1, 0, 0, 0, 0, running, 0]
        header = [WIRE, "", self.epoch, 0, 0, numbers, [row] * len(self.sensors), acts]
        return Frame(self, header, [np.zeros((), dtype) for dtype in self._dtypes])

    def command(self, answer: Any) -> dict[str, Any]:
        """A policy's return value, as it goes back."""
        if answer is None:
            return {"reason": "silent"}
        if isinstance(answer, dict):
            if answer.keys() != self.actuators.keys():
                return {"reason": "shape"}
            answer = np.concatenate([np.atleast_1d(answer[name]) for name in self.actuators], -1)
        values = np.ascontiguousarray(answer, "<f8")
        return {"shape": list(values.shape), "values": values.tobytes()}


def _offsets(fields: list[Any]) -> list[int]:
    offsets, at = [], 0
    for _, shape, kind, _ in fields:
        offsets.append(at)
        at += int(np.dtype((kind, tuple(shape))).itemsize)
    return offsets


class _Server:
    def __init__(
        self, endpoint: str, policy: Callable[[Frame], Any], token_file: str | None
    ) -> None:
        self._policy = policy
        self._token_file = token_file
        self._refused = ""
        self._socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        # nothing waits in a queue for a robot that is not there; no heartbeats (libzmq issue 4364)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.SNDHWM, 8),
            (zmq.RCVHWM, 8),
            (zmq.HEARTBEAT_IVL, 0),
            (zmq.RECONNECT_IVL, _RETRY_MS),
        ):
            self._socket.setsockopt(option, value)
        self._socket.connect(endpoint)
        self._link: Link | None = None
        self._shown = 0

    def run(self, once: bool) -> None:
        wait_ms = 0
        while True:
            if not self._socket.poll(wait_ms):
                # said once where somebody is there, and again after a silence
                is_there = self._send(HELLO, {"wire": WIRE, "token": self._token()})
                wait_ms = _SILENT_MS if is_there else _RETRY_MS
                continue
            wait_ms = _SILENT_MS
            parts = self._socket.recv_multipart()
            if parts[0] == GREETING:
                self._greeted(msgpack.unpackb(parts[1]))
            elif parts[0] == REFUSED:
                self._say_refused(parts[-1])
            elif parts[0] == FRAME and self._link is not None:
                self._answer(self._link, parts)
            elif parts[0] == END:
                self._send(END, {})
                self._link = None
                if once:
                    return

    def _token(self) -> str:
        """Of the run that is there now: each has its own."""
        if self._token_file is None:
            return ""
        try:
            with Path(self._token_file).open() as file:
                return file.read(1000).strip()
        except (OSError, ValueError):
            return ""

    def _say_refused(self, content: bytes) -> None:
        """Once for each reason: it is asked for again every second."""
        why = str(msgpack.unpackb(content).get("error"))
        if why != self._refused:
            self._refused = why
            print(f"policy: the robot refuses it: {why}", file=sys.stderr)

    def _send(self, kind: bytes, what: dict[str, Any]) -> bool:
        """Send to the robot; false if nobody is there."""
        try:
            self._socket.send_multipart([kind, msgpack.packb(what)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _greeted(self, greeting: dict[str, Any]) -> None:
        before = self._link
        self._link = link = Link(greeting)
        if before is None or before.epoch != link.epoch:
            warm_up, reset = (getattr(self._policy, n, None) for n in ("warm_up", "reset"))
            if callable(warm_up):
                warm_up(link.blank())
            if callable(reset):
                reset()
        self._send(READY, {"epoch": link.epoch})

    def _answer(self, link: Link, parts: list[bytes]) -> None:
        frame = link.frame(parts)
        try:
            reply = link.command(self._policy(frame))
        except Exception:
            reply = {"reason": "raised"}
            self._shown += 1
            if self._shown <= _TRACEBACKS:
                print(f"policy raised in cycle {frame.cycle}:", file=sys.stderr)
                traceback.print_exc()
        self._send(COMMAND, {"epoch": link.epoch, "cycle": frame.cycle, **reply})

    def close(self) -> None:
        self._socket.close()


def serve_policy(
    endpoint: str,
    policy: Callable[[Frame], Any],
    *,
    once: bool = False,
    token: str | None = None,
) -> None:
    """Answer the frames of a robot until the process is ended; `once`: until the robot ends.

    The policy is called with a Frame. It returns an array of all actuators' channels in the
    schedule's order, or a dict of actuator name to array, in SI. None is no command. If it has
    `warm_up(frame)` and `reset()`, they are called before a run's first frame. A robot that is not
    there yet is waited for, and one that comes back is served again. Thread: the caller's.

    token: for a tcp endpoint, the file with the token, which the robot's start names. By default it
    is the file that a robot of the same user on the same host leaves.
    """
    server = _Server(endpoint, policy, token or token_file(endpoint))
    try:
        server.run(once)
    finally:
        server.close()
