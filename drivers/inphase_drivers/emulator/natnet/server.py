"""The emulated server: its clock, its clients, and the bodies that its cameras see."""

import contextlib
import math
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass

from ..arm import Joints
from ..faults import Faults
from ..port import taking
from ..wire import NEVER_NS
from . import packets
from .packets import CLOCK_HZ, Body, Stamps

_FORGET_NS = 10_000_000_000
_LATENCY_NS = 4_000_000  # from the exposure to the packet
_START_TICKS = 5_000_000_000
_RADIUS_M = 0.3
_SECONDS = 4.0  # of a round
_HEIGHT_M = 1.0
_ERROR_M = 0.0003
_KEPT = 1000
_STRANGER = "127.0.0.2"
_FAULTS = frozenset(("silent", "duplicate", "reorder", "lost", "damage", "stranger", "models"))


@dataclass(frozen=True)
class MocapServerOptions:
    """Where it answers, what it sees, and how its clock runs."""

    host: str
    port: int
    data_port: int
    multicast: str  # empty: to each client
    bodies: tuple[str, ...]
    rate_hz: float
    drift_ppm: float = 0.0


class MocapServer:
    """One server. Opened by whoever makes it.

    Body n stands upright on a circle, n quarter rounds behind the first, and turns with it. The
    first joint of an arm turns the circle; without an arm it turns by itself.
    """

    def __init__(
        self, options: MocapServerOptions, now_ns: int, joints: Joints | None = None
    ) -> None:
        self._options = options
        self._joints = joints
        self._start_ns = now_ns
        self._interval_ns = round(1e9 / options.rate_hz)
        self._number = 0
        self._ids = {name: 1 + index for index, name in enumerate(options.bodies)}
        self._are_models_new = False
        self._clients: dict[tuple[str, int], int] = {}
        self._faults = Faults(_FAULTS)
        self._held: bytes | None = None
        self._seen: deque[tuple[int, int, float]] = deque()
        self._frames: deque[tuple[int, int]] = deque(maxlen=_KEPT)
        self._sent = 0
        self._stranger: socket.socket | None = None
        host, port = options.host, options.port
        with taking(
            f"udp {host}:{port}",
            f"ss -lunp 'sport = :{port}'",
            "give the device another port, and a host of this computer",
        ):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind((host, port))
        self._socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(options.host)
        )

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        if not self._clients:
            return NEVER_NS
        exposure_ns = self._grid_ns(self._number + 1)
        return min(exposure_ns, self._seen[0][1] + _LATENCY_NS) if self._seen else exposure_ns

    def close(self) -> None:
        """Close the sockets."""
        self._socket.close()
        if self._stranger is not None:
            self._stranger.close()

    def on_readable(self) -> None:
        """Answer one message."""
        try:
            packet, client = self._socket.recvfrom(65_536)
        except OSError:
            return
        now_ns = time.monotonic_ns()
        if len(packet) < 4:
            return
        kind, size = struct.unpack_from("<HH", packet)
        answer = self._answer(kind, packet[4 : 4 + size], client, now_ns)
        if answer and not self._silent():
            self._send(answer, client)

    def work(self, now_ns: int) -> None:
        """Look at the bodies when the cameras do, and send what was seen a while ago.

        Exposures that nobody was woken for are left out.
        """
        if self._grid_ns(self._number + 1) <= now_ns:
            self._number = (now_ns - self._start_ns) // self._interval_ns
            self._seen.append((self._number, now_ns, self._angle(now_ns)))
        while self._seen and self._seen[0][1] + _LATENCY_NS <= now_ns:
            self._hand_out(now_ns, *self._seen.popleft())

    def _hand_out(self, now_ns: int, number: int, exposed_ns: int, angle: float) -> None:
        for client, heard_ns in list(self._clients.items()):
            if now_ns - heard_ns > _FORGET_NS:
                del self._clients[client]
        faults = {fault.name: fault for fault in self._faults.take()} if self._faults else {}
        if "silent" in faults:
            return
        lost = {faults["lost"].servo} if "lost" in faults else set()
        self._frames.append((number, exposed_ns))
        bodies = [
            self._body(index, ident, angle, is_tracked=index not in lost)
            for index, ident in enumerate(self._ids.values())
        ]
        times = (exposed_ns, (exposed_ns + now_ns) // 2, now_ns)
        is_changed, self._are_models_new = self._are_models_new or "models" in faults, False
        stamps = Stamps(*map(self._ticks, times))
        packet = packets.frame(number, bodies, stamps, is_changed)
        if "damage" in faults:
            packet = packet[: len(packet) // 2]
        if "stranger" in faults:
            self._send_as_stranger(packet)
        if "reorder" in faults and self._held is None:
            self._held = packet
            return
        self._spread(packet)
        if "duplicate" in faults:
            self._spread(packet)
        if self._held is not None:
            held, self._held = self._held, None
            self._spread(held)

    def control(self, request: dict[str, object]) -> dict[str, object]:
        """Do what the control channel asks. Raises ValueError for what makes no sense."""
        if request.get("fault") == "clear":
            self._faults.clear()
        elif "fault" in request:
            self._faults.turn_on(request)
        if "models" in request:
            self._change(request["models"])
        if "frames" in request:  # the last ones: their numbers, and when they were exposed
            return {**self.status(), "frames": list(self._frames)}
        return self.status()

    def status(self) -> dict[str, object]:
        """Its models and its traffic."""
        return {"models": dict(self._ids), "clients": len(self._clients), "sent": self._sent}

    # ---- messages --------------------------------------------------------------------------

    def _answer(self, kind: int, payload: bytes, client: tuple[str, int], now_ns: int) -> bytes:
        known = client in self._clients
        if kind == packets.DISCONNECT:
            self._clients.pop(client, None)
            return b""
        if known or kind == packets.CONNECT:
            self._clients[client] = now_ns
            if not known and len(self._clients) == 1:  # what was seen for nobody is not caught up
                self._number = (now_ns - self._start_ns) // self._interval_ns
                self._seen.clear()
        if kind == packets.CONNECT:
            return packets.server_info(self._options.data_port, self._options.multicast)
        if kind == packets.REQUEST_MODELS:
            return packets.models(self._ids)
        if kind == packets.ECHO_REQUEST and len(payload) >= 8:
            ticks = self._ticks(time.monotonic_ns())
            return packets.message(packets.ECHO_RESPONSE, payload[:8] + struct.pack("<Q", ticks))
        if kind == packets.REQUEST:
            return self._answer_request(payload.partition(b"\0")[0].decode("utf-8", "replace"))
        return b""

    def _answer_request(self, text: str) -> bytes:
        if text == "UpAxis":
            return packets.message(packets.RESPONSE, struct.pack("<i", 1))
        if text == "FrameRate":
            return packets.message(packets.RESPONSE, struct.pack("<f", self._options.rate_hz))
        if text == "UnitsToMillimeters":
            return packets.message(packets.RESPONSE, struct.pack("<f", 1000.0))
        if text.startswith("Bitstream"):
            spoken = ".".join(map(str, packets.VERSION[:2]))
            return packets.message(packets.RESPONSE, f"Bitstream,{spoken}".encode() + b"\0")
        return packets.message(packets.UNRECOGNIZED)

    def _change(self, models: object) -> None:
        """Another list of models, by name and id; the next frame says so."""
        if not isinstance(models, dict) or not all(isinstance(i, int) for i in models.values()):
            raise ValueError(f"models must be ids by their names, got {models!r}")
        self._ids = {str(name): ident for name, ident in models.items()}
        self._are_models_new = True

    # ---- frames ----------------------------------------------------------------------------

    def _angle(self, now_ns: int) -> float:
        """Of the first body, now."""
        joints = self._joints
        if joints is None:
            return math.tau * (now_ns - self._start_ns) * 1e-9 / _SECONDS
        return joints.position[0] + joints.velocity[0] * (now_ns - joints.time_ns) * 1e-9

    def _body(self, index: int, ident: int, angle: float, *, is_tracked: bool) -> Body:
        """With y up, as Motive streams it unless it is told otherwise."""
        angle -= math.tau * index / 4
        position = (_RADIUS_M * math.cos(angle), _HEIGHT_M, -_RADIUS_M * math.sin(angle))
        turn = (0.0, math.sin(angle / 2), 0.0, math.cos(angle / 2))
        return Body(ident, position, turn, _ERROR_M, is_tracked)

    def _grid_ns(self, number: int) -> int:
        return self._start_ns + number * self._interval_ns

    def _ticks(self, at_ns: int) -> int:
        elapsed_ns = (at_ns - self._start_ns) * (1 + self._options.drift_ppm * 1e-6)
        return _START_TICKS + int(elapsed_ns * CLOCK_HZ / 1e9)

    def _silent(self) -> bool:
        return "silent" in self._faults.names()

    # ---- sockets ---------------------------------------------------------------------------

    def _spread(self, packet: bytes) -> None:
        """To the group, or to each client."""
        o = self._options
        for client in [(o.multicast, o.data_port)] if o.multicast else list(self._clients):
            self._send(packet, client)

    def _send(self, packet: bytes, client: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(packet, client)
            self._sent += 1

    def _send_as_stranger(self, packet: bytes) -> None:
        """From another address, as another server on the network would."""
        if self._stranger is None:
            self._stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._stranger.bind((_STRANGER, 0))
        for client in self._clients:
            with contextlib.suppress(OSError):
                self._stranger.sendto(packet, client)
