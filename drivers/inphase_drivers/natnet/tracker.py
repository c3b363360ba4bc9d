"""A NatNet server's rigid bodies, stamped at the middle of the cameras' exposure.

The server stamps by a counter of its own. Echo messages bound what it showed between two times of
the host, and the quickest of them bound it best. When a packet arrives says nothing of when its
poses were true, and is not used.
"""

import contextlib
import time
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta
from numpy.typing import NDArray

from inphase.driver import Calls, DeviceError, Driver, Echo, Reading, SensorSpec

from .. import tracking
from . import messages
from .link import Link
from .messages import Body, Kind, MocapFrame, NotNatNetError, ServerInfo

_TIMEOUT_NS = 1_000_000_000
_TRIES = 3
_FIRST_ECHOES = 16
_FIRST_ECHO_S = 0.003
_ASKED_MOST = 8
_KEEP_ALIVE_NS = 500_000_000
_MODELS_NS = 200_000_000
_SILENT_NS = 2_000_000_000
_OVERTAKEN_MOST = 1000  # frames: what counts further back was counted anew
_WAITING_MOST = 10_000  # packets: no socket holds as many
_NOTICES_MOST = 32
_UNKNOWN_MODELS = 1
_UP = {0: "x", 1: "y", 2: "z"}


class TrackerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    host: str
    """address of the computer with Motive"""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 1510
    """of its commands"""
    bodies: list[str]
    """names of rigid bodies, as in Motive's list; 1 to 16"""
    may_be_lost: list[str] = []
    """those of them without which a sample still counts; `tracked` says which were found"""
    rate_hz: Annotated[float, Meta(ge=1, le=2000)]
    """of the cameras"""
    up: Annotated[str, Meta(pattern="^[yz]$")] = "y"
    """the axis that points up in Motive's streaming settings: `y` or `z`; samples have z up"""
    local: str = ""
    """address of this host's network card; left out: the kernel chooses"""
    multicast: str = ""
    """the server's group, if it is set to multicast; left out: it sends to this host alone"""
    data_port: Annotated[int, Meta(ge=1, le=65_535)] = 1511
    """of a multicast group"""
    latency_max_ms: Annotated[float, Meta(gt=0, le=10_000)] = 100.0
    """from the exposure to the arrival, at worst"""
    echo_ms: Annotated[int, Meta(ge=10, le=1000)] = 100
    """between two echo messages"""

    def __post_init__(self) -> None:
        if trouble := tracking.trouble_of_names(self.bodies, self.may_be_lost):
            raise ValueError(trouble)


class Tracker(Driver):
    """Rigid bodies of a NatNet server. `passed` counts packets that came doubled or too late."""

    Options: ClassVar[type[msgspec.Struct]] = TrackerOptions

    def __init__(self, name: str, options: TrackerOptions) -> None:
        super().__init__(name, options)
        self.options: TrackerOptions = options
        self.passed = 0
        self._poses = tracking.PoseSample(options.bodies, options.may_be_lost)
        self._link: Link | None = None
        self._info: ServerInfo | None = None
        self._ids: list[int] = []
        self._are_models_known = False
        self._newest: MocapFrame | None = None
        self._asked: list[int] = []
        self._echoes: list[Echo] = []
        self._told: set[str] = set()
        self._notices: list[str] = []
        self._heard_ns = self._frame_ns = 0
        self._echo_due_ns = self._alive_due_ns = self._models_due_ns = 0

    @property
    def address(self) -> str:
        """Host and port of the commands."""
        return f"udp:{self.options.host}:{self.options.port}"

    def sensor(self) -> SensorSpec:
        """`position`, `quaternion`, `tracked` and `error` of each body, in the order of `bodies`.

        The frame is Motive's: its origin lies on the ground plane; z points up, and x is Motive's.
        """
        o = self.options
        interval_ns = round(1e9 / o.rate_hz)
        return SensorSpec(
            fields=tracking.fields(len(o.bodies)),
            calls=Calls(
                latency_ns=min(10_000_000, round(o.latency_max_ms * 1e6)),
                latency_max_ns=round(o.latency_max_ms * 1e6),
                triggered=False,
                interval_ns=interval_ns,
                clock_echoed=True,
            ),
            twin=tracking.twin(len(o.bodies)),
            twin_latency_ns=10_000_000,
        )

    def meaning(self, detail: int) -> str:
        """The bodies that are lost, or the list that changed."""
        if detail == _UNKNOWN_MODELS:
            return "the list of models changed, and the new one has not come yet"
        return self._poses.meaning(detail)

    # ---- opening ---------------------------------------------------------------------------

    def open(self) -> int:
        """Find the server, its clock and its bodies."""
        o = self.options
        self._newest, self._told, self._notices = None, set(), []
        self._echoes, self._asked = [], []
        group = (o.multicast, o.data_port) if o.multicast else None
        try:
            self._link = Link((o.host, o.port), o.local, group, self._note)
            self._info = messages.server_info(self._ask(messages.connect(), Kind.SERVER_INFO))
            self._check(self._info)
            self._check_settings()
            self._learn(self._ask(messages.pack(Kind.REQUEST_MODELS), Kind.MODELS))
            self._first_echoes()
        except NotNatNetError as error:
            self.close()
            raise self._trouble(
                f"what answers is no NatNet server of version 3 or newer: {error}; give host and "
                f"port of one, or update it"
            ) from error
        except OSError as error:
            self.close()
            raise self._trouble(
                f"{error}; check host and network, and that Motive streams"
            ) from error
        except BaseException:
            self.close()
            raise
        self._heard_ns = self._frame_ns = time.monotonic_ns()
        return -1

    def _check(self, info: ServerInfo) -> None:
        o = self.options
        if info.natnet < messages.OLDEST or not info.clock_hz:
            spoken = ".".join(map(str, info.natnet))
            raise self._trouble(
                f"{info.name} speaks NatNet {spoken}, which has no stamp of the exposure; update "
                f"it to NatNet 3 or newer"
            )
        if info.multicast and not o.multicast:
            raise self._trouble(
                f"{info.name} sends to the group {info.multicast}; give multicast = "
                f'"{info.multicast}" and data_port = {info.data_port}, or set it to unicast'
            )
        if o.multicast and o.multicast != info.multicast:
            raise self._trouble(
                f"multicast is {o.multicast}, and {info.name} sends to "
                f"{info.multicast or 'each client alone'}; correct multicast, or remove it"
            )

    def _check_settings(self) -> None:
        """The server's up axis and rate against the schedule's, where it tells them."""
        o = self.options
        up = self._property("UpAxis")
        if up is not None and (axis := _UP.get(int.from_bytes(up, "little"), "?")) != o.up:
            raise self._trouble(f"it streams with {axis} up, and up is {o.up!r}; correct up")

    def _property(self, name: str) -> bytes | None:
        """The 4 bytes with which a server answers a request; None: it does not know it."""
        try:
            answer = self._ask(messages.pack(Kind.REQUEST, name.encode() + b"\0"), Kind.RESPONSE)
        except OSError:
            return None
        return answer if len(answer) == 4 else None

    def _learn(self, payload: bytes) -> None:
        """Take the ids of the bodies. Raises DeviceError for a body that is not there."""
        assert self._info is not None
        found = messages.models(payload, self._info.natnet)
        if missing := [body for body in self.options.bodies if body not in found]:
            raise self._trouble(
                f"it has no rigid body {', '.join(missing)}; it has "
                f"{', '.join(sorted(found)) or 'none'}: correct bodies, or tick it in Motive's "
                f"list of assets"
            )
        self._ids = [found[body] for body in self.options.bodies]
        self._are_models_known = True

    def _first_echoes(self) -> None:
        """As many round trips as a clock needs before it is known."""
        for _ in range(_FIRST_ECHOES):
            self._send_echo(time.monotonic_ns())
            until_ns = time.monotonic_ns() + _TIMEOUT_NS
            before = len(self._echoes)
            while len(self._echoes) == before:
                self._wait(until_ns)
            time.sleep(_FIRST_ECHO_S)

    def _ask(self, packet: bytes, kind: Kind) -> bytes:
        """The payload of the first answer of a kind. Raises OSError."""
        assert self._link is not None
        for _ in range(_TRIES):
            self._link.send(packet)
            until_ns = time.monotonic_ns() + _TIMEOUT_NS // _TRIES
            with contextlib.suppress(TimeoutError):
                while True:
                    found, payload, _ = self._link.receive(until_ns)
                    if found == kind:
                        return payload
        raise TimeoutError(f"no answer to {kind.name}")

    def close(self) -> None:
        """Say goodbye and close the sockets."""
        if self._link is not None:
            with contextlib.suppress(OSError):  # without a network it forgets us by itself
                self._link.send(messages.pack(Kind.DISCONNECT))
            self._link.close()
        self._link = self._info = None

    # ---- running ---------------------------------------------------------------------------

    def flush(self) -> int:
        """Read what waits, and keep its echoes; its frames are of earlier."""
        count = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(_WAITING_MOST):
                count += self._wait(0) is not None
        return count

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """The next frame that is newer than the one before."""
        until_ns = time.monotonic_ns() + timeout_ns
        try:
            while True:
                self._say(time.monotonic_ns())
                frame = self._wait(until_ns)
                if frame is not None and self._is_newer(frame):
                    return self._reading(sample, frame)
        except TimeoutError:
            if time.monotonic_ns() - self._heard_ns > _SILENT_NS:
                raise self._trouble("it says nothing any more; check power and network") from None
            raise
        except OSError as error:
            raise self._trouble(f"{error}; check the network") from error

    def _reading(self, sample: NDArray[Any], frame: MocapFrame) -> Reading:
        assert self._info is not None
        echoes, self._echoes = tuple(self._echoes), []
        reading = Reading(
            sequence=frame.number,
            device_ns=_ns(frame.mid_exposure, self._info.clock_hz),
            received_ns=self._heard_ns,
            echoes=echoes,
            notice=self._notices.pop(0) if self._notices else "",
        )
        if frame.models_changed:
            self._are_models_known, self._models_due_ns = False, 0
        if not self._are_models_known:
            return reading._replace(reason="device", detail=_UNKNOWN_MODELS)
        self._poses.clear(sample)
        for index, ident in enumerate(self._ids):
            body = frame.bodies.get(ident)
            if body is not None and body.tracked and any(body.turn):
                position, turn = _upright(body, self.options.up)
                self._poses.put(sample, index, position, turn, body.error)
        return self._poses.judged(sample, reading)

    def _is_newer(self, frame: MocapFrame) -> bool:
        """False for a frame that came before, or that a newer one overtook.

        A server that was started again counts anew, and its stamps go on. One that shows the same
        frame again stamps it anew: it is handed on, and the core finds that its number stands.
        """
        before = self._newest
        if (
            before is not None
            and 0 <= before.number - frame.number < _OVERTAKEN_MOST
            and frame.transmitted <= before.transmitted
        ):
            self.passed += 1
            what = "twice" if frame.number == before.number else "after a newer one"
            self._note(
                f"a packet came {what}, and is not used; look for a loop or a second path in the "
                f"network"
            )
            return False
        self._newest = frame
        return True

    def _say(self, now_ns: int) -> None:
        """Send what is due: an echo message, a sign of life, a question for the models."""
        assert self._link is not None
        if now_ns >= self._echo_due_ns:
            self._echo_due_ns = now_ns + self.options.echo_ms * 1_000_000
            self._send_echo(now_ns)
        if now_ns >= self._alive_due_ns:
            self._alive_due_ns = now_ns + _KEEP_ALIVE_NS
            is_silent = now_ns - self._frame_ns > _KEEP_ALIVE_NS
            # a server that was started again knows nobody
            self._link.send(messages.connect() if is_silent else messages.pack(Kind.KEEP_ALIVE))
        if not self._are_models_known and now_ns >= self._models_due_ns:
            self._models_due_ns = now_ns + _MODELS_NS
            self._link.send(messages.pack(Kind.REQUEST_MODELS))

    def _send_echo(self, now_ns: int) -> None:
        assert self._link is not None
        self._asked = [*self._asked[-_ASKED_MOST:], now_ns]
        self._link.send(messages.pack(Kind.ECHO_REQUEST, now_ns.to_bytes(8, "little")))

    def _wait(self, until_ns: int) -> MocapFrame | None:
        """Take the next packet; the frame, if it is one. Raises TimeoutError, OSError."""
        assert self._link is not None and self._info is not None
        kind, payload, self._heard_ns = self._link.receive(until_ns)
        try:
            if kind == Kind.FRAME:
                self._frame_ns = self._heard_ns
                return messages.frame(payload, self._info.natnet)
            if kind == Kind.MODELS:
                self._learn(payload)
            elif kind == Kind.ECHO_RESPONSE:
                self._take_echo(payload)
            elif kind == Kind.SERVER_INFO:
                self._check_same(messages.server_info(payload))
        except NotNatNetError as error:
            self._note(f"a packet is damaged, and not used: {error}; check the network")
        return None

    def _take_echo(self, payload: bytes) -> None:
        if len(payload) < 16:
            raise NotNatNetError(f"an echo of {len(payload)} bytes")
        assert self._info is not None
        sent_ns = int.from_bytes(payload[:8], "little")
        if sent_ns in self._asked:  # each once: a doubled answer came later
            self._asked.remove(sent_ns)
            ticks = int.from_bytes(payload[8:16], "little")
            self._echoes.append(Echo(_ns(ticks, self._info.clock_hz), sent_ns, self._heard_ns))

    def _check_same(self, info: ServerInfo) -> None:
        """Raises DeviceError where another server has taken the place of the first."""
        if info != self._info:
            raise self._trouble(
                f"another server answers there now: {info.name} "
                f"{'.'.join(map(str, info.version))}; it is asked anew for its bodies"
            )

    def _note(self, text: str) -> None:
        """Keep words on what was refused, once."""
        if text not in self._told and len(self._told) < _NOTICES_MOST:
            self._told.add(text)
            self._notices.append(text)

    def _trouble(self, text: str) -> DeviceError:
        return DeviceError(f"device {self.name} ({self.address}): {text}")


def _ns(ticks: int, clock_hz: int) -> int:
    return ticks * 1_000_000_000 // clock_hz


def _upright(body: Body, up: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Position and quaternion (w, x, y, z) with z up: a quarter turn about x where y was up."""
    x, y, z = body.position
    qx, qy, qz, qw = body.turn
    if up == "z":
        return (x, y, z), (qw, qx, qy, qz)
    return (x, -z, y), (qw, qx, -qz, qy)
