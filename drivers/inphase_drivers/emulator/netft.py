"""ATI Net F/T: the UDP protocol RDT and the configuration page.

Source: ATI "Network Force/Torque Sensor System" manual 9620-05-NET FT, sections "UDP Interface
Using RDT" and "System Settings XML Pages".
"""

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from .arm import Joints
from .faults import Fault, Faults
from .port import PortError, taking
from .wire import NEVER_NS

if TYPE_CHECKING:  # only a simulated run needs the middleware's world
    from inphase.emulation import Part

HEADER = 0x1234
STOP, START_REALTIME, SET_BIAS = 0x0000, 0x0002, 0x0042
SAMPLE_HZ = 7000  # the box's own rate, which ft_sequence counts

_REQUEST = struct.Struct(">HHI")
_RECORD = struct.Struct(">IIIiiiiii")
_NOISE_COUNTS = 2000  # 2 mN at 1e6 counts per newton
_TOOL_KG = 0.6
_TOOL_M = 0.08  # distance of the tool's centre of mass from the flange
_GRAVITY_N = 9.81 * _TOOL_KG
_CONSTANT_LOAD = (0.4, -0.2, -_GRAVITY_N, 0.01, -0.02, 0.005)  # [N] and [Nm]
_COUNT_MAX = 2**31 - 1
_U32 = 2**32
_SAMPLES_MAX = 1000


@dataclass(frozen=True)
class SensorOptions:
    """The schedule's options of one Net F/T box."""

    host: str
    port: int
    config_port: int
    counts_per_force: int = 1_000_000  # counts per newton
    counts_per_torque: int = 1_000_000  # counts per newton metre
    rdt_hz: int = 1000  # rate of what is streamed


_FAULTS = frozenset(("silent", "late", "short", "status_word", "freeze", "duplicate"))


@dataclass
class Counters:
    """Counts of the network traffic since the start."""

    requests: int = 0
    malformed: int = 0
    records: int = 0


@dataclass
class _Stream:
    """Records that one client is still to get."""

    client: tuple[str, int]
    left: int  # -1: until it is stopped
    sequence: int = 0


class ForceSensor:
    """One Net F/T box on a wrist that `joints` move. Opened by whoever makes it.

    world: where its load comes from in a simulated world, instead of from the joints.
    """

    def __init__(
        self,
        options: SensorOptions,
        joints: Joints | None,
        now_ns: int,
        world: "Part | None" = None,
    ) -> None:
        self.counters = Counters()
        self._options = options
        self._joints = joints
        self._world = world
        self._start_ns = now_ns
        self._bias = [0] * 6
        self._client: tuple[str, int] | None = None  # whoever asked last
        self._stream: _Stream | None = None
        self._stream_due_ns = NEVER_NS
        self._late: list[tuple[int, bytes, tuple[str, int]]] = []
        self._last_record: tuple[int, Sequence[int]] = (0, (0,) * 6)
        self._samples: deque[tuple[Sequence[int], int]] = deque(maxlen=_SAMPLES_MAX)
        self._held: list[tuple[bytes, tuple[str, int]]] | None = None  # while the link stands still
        self._faults = Faults(_FAULTS)
        self._socket: socket.socket | None = None
        self._open()
        host, port = options.host, options.config_port
        try:
            with taking(
                f"tcp {host}:{port}",
                f"ss -ltnp 'sport = :{port}'",
                "give the device another config_port, and a host of this computer",
            ):
                self._page = ThreadingHTTPServer((host, port), _page(self.page))
        except PortError:
            self._close()
            raise
        self._page.daemon_threads = True
        threading.Thread(target=self._page.serve_forever, daemon=True).start()

    def fileno(self) -> int:
        """The descriptor to wait on; -1 while the socket is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        late_ns = self._late[0][0] if self._late else NEVER_NS
        return min(late_ns, self._stream_due_ns)

    def close(self) -> None:
        """Close the socket and the page; its thread ends with the process."""
        self._close()
        self._page.server_close()

    def on_readable(self) -> None:
        """Take one request and answer it."""
        assert self._socket is not None
        try:
            data, client = self._socket.recvfrom(64)
        except OSError:
            return
        now_ns = time.monotonic_ns()
        if len(data) != _REQUEST.size or data[:2] != HEADER.to_bytes(2, "big"):
            self.counters.malformed += 1
            return
        _, command, count = _REQUEST.unpack(data)
        self.counters.requests += 1
        self._client = client
        if command == START_REALTIME:
            self._stream = _Stream(client, count or -1)
            self._stream_due_ns = now_ns
            self.work(now_ns)
        elif command == STOP:
            self._stream, self._stream_due_ns = None, NEVER_NS
        elif command == SET_BIAS:
            self._bias = [0] * 6
            self._bias = self._counts(self._ft_sequence(now_ns))

    def work(self, now_ns: int) -> None:
        """Send what is due."""
        while self._late and self._late[0][0] <= now_ns:
            _, record, client = self._late.pop(0)
            self._send(record, client)
        stream = self._stream
        if stream is None or now_ns < self._stream_due_ns:
            return
        stream.sequence += 1
        self._answer(stream, now_ns)
        stream.left -= stream.left > 0
        if stream.left == 0:
            self._stream, self._stream_due_ns = None, NEVER_NS
        else:
            self._stream_due_ns += 1_000_000_000 // self._options.rdt_hz

    def control(self, request: dict[str, object]) -> dict[str, object]:
        """Do what the control channel asks. Raises ValueError for what makes no sense."""
        if "set" in request:
            raise ValueError("this device has nothing to set")
        plain = {
            "close": self._close,
            "reopen": self._open,
            "clear": self._clear,
            "stall": self._stall,
        }
        name = request.get("fault")
        if isinstance(name, str) and name in plain:
            plain[name]()
        elif name is not None:
            self._faults.turn_on(request)
        if "flood" in request:
            self._flood(request["flood"])
        if "samples" in request:  # the last ones: counts, and when they were asked for
            return {**self.status(), "samples": list(self._samples)}
        return self.status()

    def status(self) -> dict[str, object]:
        """Bias in counts and the counters."""
        return {"bias": self._bias, "counters": vars(self.counters)}

    def page(self) -> bytes:
        """The page netftapi2.xml, with the elements that clients read."""
        options = self._options
        elements = {
            "runstat": "0x00000000",
            "runrate": SAMPLE_HZ,
            "cfgnam": "emulated",
            "cfgcalsel": 0,
            "cfgcalsn": "FT00000",
            "scfgfu": "N",
            "scfgtu": "Nm",
            "cfgcpf": options.counts_per_force,
            "cfgcpt": options.counts_per_torque,
            "cfgmr": "330;330;990;30;30;30",
            "setcfgsel": 0,
            "setbias": ";".join(str(count) for count in self._bias),
            "setuserfilter": 0,
            "comrdte": "Enabled",
            "comrdtrate": options.rdt_hz,
            "comrdtbsiz": 1,
            "prodname": "Emulated Net F/T",
        }
        body = "".join(f"<{name}>{value}</{name}>\n" for name, value in elements.items())
        return f'<?xml version="1.0"?><netft>\n{body}</netft>\n'.encode("ascii")

    def _flood(self, count: object) -> None:
        """Send the record of this moment so many times to whoever asked last."""
        if not isinstance(count, int) or self._client is None:
            raise ValueError(f"flood must be an integer, after a request, got {count!r}")
        record = self._record(1, time.monotonic_ns(), {})
        for _ in range(count):
            self._send(record, self._client)

    def _stall(self) -> None:
        """The link stands still: what is sent waits in it."""
        if self._held is None:
            self._held = []

    def _clear(self) -> None:
        """No fault any more, and the link goes on."""
        self._faults.clear()
        held, self._held = self._held, None
        for record, client in held or ():
            self._send(record, client)

    # records --------------------------------------------------------------------------------

    def _answer(self, stream: _Stream, now_ns: int) -> None:
        faults = {fault.name: fault for fault in self._faults.take()} if self._faults else {}
        due_ns = self._draw(faults, now_ns)
        if "silent" in faults:
            return
        record = self._record(stream.sequence, now_ns, faults)
        copies = 2 if "duplicate" in faults else 1
        for _ in range(copies):
            if "late" in faults:
                due_ns = now_ns + 1_000 * faults["late"].arg
            if due_ns > now_ns:
                self._late.append((due_ns, record, stream.client))
                self._late.sort(key=lambda entry: entry[0])
            else:
                self._send(record, stream.client)

    def _draw(self, faults: dict[str, Fault], now_ns: int) -> int:
        """Apply the schedule's timing to this record; returns when it is sent."""
        draws = self._world.draws if self._world is not None else None
        if draws is None:
            return now_ns
        if draws.is_lost():
            faults.setdefault("silent", Fault("silent", 1, 0, 0))
        if draws.stands():
            faults.setdefault("freeze", Fault("freeze", 1, 0, 0))
        return now_ns + draws.latency_ns() if draws.is_timed else now_ns

    def _record(self, rdt_sequence: int, now_ns: int, faults: dict[str, Fault]) -> bytes:
        ft_sequence = self._ft_sequence(now_ns)
        if "freeze" in faults:
            ft_sequence, counts = self._last_record
        else:
            counts = self._counts(ft_sequence)
            self._last_record = (ft_sequence, counts)
            self._samples.append((counts, now_ns))
        status = faults["status_word"].arg if "status_word" in faults else 0
        record = _RECORD.pack(rdt_sequence % _U32, ft_sequence, status % _U32, *counts)
        return record[: faults["short"].arg] if "short" in faults else record

    def _ft_sequence(self, now_ns: int) -> int:
        return (now_ns - self._start_ns) * SAMPLE_HZ // 1_000_000_000 % _U32

    def _counts(self, ft_sequence: int) -> list[int]:
        """Load of the wrist in counts, with noise, less the bias."""
        noise_counts = _NOISE_COUNTS if self._world is None else 0  # the world's load has its own
        force, torque = self._options.counts_per_force, self._options.counts_per_torque
        counts = []
        for axis, value in enumerate(self._load()):
            noise = ((ft_sequence + 1) * (2_654_435_761 + 2 * axis) >> 7 & 0xFFFF) / 32768 - 1
            count = round(value * (force if axis < 3 else torque) + noise_counts * noise)
            counts.append(max(-_COUNT_MAX, min(_COUNT_MAX, count - self._bias[axis])))
        return counts

    def _load(self) -> list[float]:
        """[N] and [Nm]: the world's, or weight and what the arm's acceleration adds."""
        if self._world is not None:
            self._world.advance(time.monotonic_ns())
            fields = self._world.fields()
            return fields["force"] + fields["torque"]
        load = list(_CONSTANT_LOAD)
        if self._joints is not None:
            acceleration = self._joints.acceleration
            for axis in range(min(6, len(acceleration))):
                lever = _TOOL_KG * _TOOL_M * (1.0 if axis < 3 else _TOOL_M)
                load[axis] += lever * acceleration[axis]
        return load

    # sockets --------------------------------------------------------------------------------

    def _send(self, record: bytes, client: tuple[str, int]) -> None:
        if self._held is not None:
            self._held.append((record, client))
        elif self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(record, client)
                self.counters.records += 1

    def _open(self) -> None:
        if self._socket is None:
            host, port = self._options.host, self._options.port
            with taking(
                f"udp {host}:{port}",
                f"ss -lunp 'sport = :{port}'",
                "give the device another port, and a host of this computer",
            ):
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
                self._socket.bind((host, port))

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._stream, self._stream_due_ns = None, NEVER_NS
        self._held = None


def _page(content: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    """A request handler that serves `content` as netftapi2.xml and nothing else."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/netftapi2.xml":
                self.send_error(404)
                return
            body = content()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Page
