"""ATI Net F/T force-torque sensor over UDP: "Raw Data Transfer" (ATI manual 9610-05-1022, RDT).

Each trigger asks for one record (command 2, sample count 1): 36 bytes, big endian: rdt_sequence,
ft_sequence, status, then Fx Fy Fz Tx Ty Tz in counts. rdt_sequence restarts with each request, so
freshness follows ft_sequence.
"""

import os
import socket
import struct
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
from msgspec import Meta

from inphase.driver import (
    Acquire,
    Check,
    CheckKind,
    DeviceError,
    Driver,
    Exchange,
    Field,
    Framing,
    Raw,
    Reply,
    SensorSpec,
    TwinChannel,
    Value,
)

if TYPE_CHECKING:
    from xml.etree import ElementTree

_REQUEST = struct.pack(">HHI", 0x1234, 2, 1)
_RECORD = 36
_PAGE_BYTES = 65_536
_PAGE_S = 2.0
_UNITS = {"N": 1.0, "kN": 1000.0, "lbf": 4.4482216152605, "klbf": 4448.2216152605}
_TORQUE_UNITS = {
    "Nm": 1.0,
    "N-m": 1.0,
    "Nmm": 1e-3,
    "N-mm": 1e-3,
    "kNm": 1000.0,
    "lbf-in": 0.1129848290276167,
    "lbf-ft": 1.3558179483314004,
}

STATUS_BITS = {
    31: "error",
    30: "CPU or RAM error",
    29: "digital board error",
    28: "analog board error",
    27: "serial link error",
    26: "program memory error",
    25: "halted",
    24: "settings integrity error",
    23: "excitation voltage",
    22: "artificial analog ground",
    21: "analog power supply",
    20: "digital power supply",
    17: "saturation",
    16: "gain or offset",
    1: "transducer saturated",
    0: "watchdog",
}
"""Bits of the status word (manual, section "System Status Code")."""


class NetFTOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    host: str
    """its address on the network"""
    port: Annotated[int, Meta(ge=1, le=65535)] = 49152
    """of RDT, on UDP"""
    config_port: Annotated[int, Meta(ge=1, le=65535)] = 80
    """of its configuration page, on HTTP"""
    counts_per_force: Annotated[float, Meta(gt=0)] | None = None
    """counts per newton; without it the device's configuration page is asked"""
    counts_per_torque: Annotated[float, Meta(gt=0)] | None = None
    """counts per newton metre"""
    reply_max_us: Annotated[int, Meta(ge=100, le=100_000)] = 1_500
    """how long a record may be under way before the next one is asked for"""


class NetFT(Driver):
    """Force in N and torque in N m in the sensor's frame."""

    Options: ClassVar[type[msgspec.Struct]] = NetFTOptions

    def __init__(self, name: str, options: NetFTOptions) -> None:
        super().__init__(name, options)
        self.options: NetFTOptions = options
        self._socket: socket.socket | None = None
        self._newton = 1 / (options.counts_per_force or 1e6)
        self._newton_metre = 1 / (options.counts_per_torque or 1e6)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"udp:{self.options.host}:{self.options.port}"

    def sensor(self) -> SensorSpec:
        """`force` (3) in N and `torque` (3) in N m."""
        values = tuple(
            Value(
                12 + 4 * axis,
                Raw.I32,
                axis,
                self._newton if axis < 3 else self._newton_metre,
                big_endian=True,
            )
            for axis in range(6)
        )
        return SensorSpec(
            fields=(Field("force", "N", (3,)), Field("torque", "N m", (3,))),
            exchange=Exchange(
                request=_REQUEST,
                framing=Framing(min_size=_RECORD, max_size=_RECORD, datagram=True),
                replies=(
                    Reply(
                        values=values,
                        checks=(Check(CheckKind.ZERO, 8, Raw.U32, big_endian=True),),
                        size=_RECORD,
                    ),
                ),
                request_ns=10_000,
                reply_ns=200_000,
                reply_max_ns=self.options.reply_max_us * 1000,
                reply_min_ns=10_000,  # two frames of 84 bytes at 100 Mbit/s take 13 us
                sequence=Value(4, Raw.U32, 0, big_endian=True),
                # the newest record of a 7 kHz sampler: half its period before the reply was made
                acquire=Acquire.MIDDLE,
                acquire_ns=-71_429,
            ),
            twin=tuple(
                TwinChannel(base=base, noise=0.05 if axis < 3 else 0.002)
                for axis, base in enumerate((0.0, 0.0, -4.9, 0.0, 0.0, 0.0))
            ),
            twin_latency_ns=250_000,
            twin_jitter_ns=50_000,
        )

    def open(self) -> int:
        """Ask for the scales unless the schedule gives them, then for one record."""
        o = self.options
        if o.counts_per_force is None or o.counts_per_torque is None:
            self._read_scales()
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0.3)
            self._socket.connect((o.host, o.port))
            self._ask_once()
        except OSError as error:
            self.close()
            raise DeviceError(
                f"device {self.name}: no record from {o.host}:{o.port} (UDP): {error}; check "
                f"power, network and that RDT is enabled"
            ) from error
        os.set_blocking(self._socket.fileno(), False)
        return self._socket.fileno()

    def _ask_once(self) -> None:
        assert self._socket is not None
        for attempt in range(3):
            try:
                self._socket.send(_REQUEST)
                record = self._socket.recv(2048)
            except TimeoutError:
                if attempt == 2:
                    raise
                continue
            if len(record) != _RECORD:
                raise OSError(f"a record has {_RECORD} bytes, got {len(record)}")
            return

    def _read_scales(self) -> None:
        """Counts per unit from the device's own page, netftapi2.xml (manual, "XML interface")."""
        import urllib.error  # here: they take as long to import as all drivers together
        import urllib.request
        from xml.etree import ElementTree

        url = f"http://{self.options.host}:{self.options.config_port}/netftapi2.xml"
        try:
            with urllib.request.urlopen(url, timeout=_PAGE_S) as page:
                tree = ElementTree.fromstring(page.read(_PAGE_BYTES))
            counts_force = float(_text(tree, "cfgcpf"))
            counts_torque = float(_text(tree, "cfgcpt"))
            force_unit = _UNITS[_text(tree, "scfgfu")]
            torque_unit = _TORQUE_UNITS[_text(tree, "scfgtu")]
            if counts_force <= 0 or counts_torque <= 0:
                raise ValueError(f"counts {counts_force}, {counts_torque}")
        except (OSError, urllib.error.URLError, ElementTree.ParseError, ValueError) as error:
            raise self._no_scales(url, error) from error
        except KeyError as error:
            raise self._no_scales(url, f"unit {error} is not known") from error
        self._newton = force_unit / counts_force
        self._newton_metre = torque_unit / counts_torque

    def _no_scales(self, url: str, trouble: object) -> DeviceError:
        return DeviceError(
            f"device {self.name}: no scale from {url}: {trouble}; check host and config_port, "
            f"or give counts_per_force and counts_per_torque in the schedule"
        )

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _text(tree: "ElementTree.Element", tag: str) -> str:
    found = tree.find(f".//{tag}")
    if found is None or not found.text:
        raise ValueError(f"no <{tag}> in the page")
    return found.text.strip()
