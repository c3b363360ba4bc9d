"""CiA 402 drives on one CAN bus: over UDP multicast, or behind an slcan adapter on a port."""

import errno
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import can
import canopen

from .drive import Drive, Joint
from .port import PortError
from .slcan import Adapter

if TYPE_CHECKING:  # only a simulated run needs the middleware's world
    from .world import WorldJoints
    from .world_drive import WorldJoint

_TICK_NS = 2_000_000


def _bus(options: "DrivesOptions") -> can.BusABC:
    """The bus of an interface. Raises PortError."""
    where = f"can {options.interface}:{options.channel}"
    if options.interface == "udp_multicast" and ":" not in options.channel:
        try:
            _join(options.channel)
        except OSError as error:
            raise PortError(
                f"{where}: {os.strerror(error.errno or errno.EIO)}; no network interface of this "
                f"computer carries multicast to it: sudo ip route add {options.channel} dev lo"
            ) from error
    try:
        return can.Bus(interface=options.interface, channel=options.channel, **options.bus)
    except (can.CanError, OSError, ValueError, TypeError) as error:
        raise PortError(
            f"{where}: {error}; is it up, and are interface, channel and bus right?"
        ) from error


def _join(group: str) -> None:
    """Try to. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as joining:
        request = socket.inet_aton(group) + socket.inet_aton("0.0.0.0")
        joining.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


@dataclass(frozen=True)
class DrivesOptions:
    """The schedule's options of one bus of drives."""

    interface: str
    channel: str
    nodes: tuple[int, ...]
    counts_per_rad: tuple[float, ...]
    start_position: tuple[float, ...]  # rad
    bus: dict[str, Any] = field(default_factory=dict)


class Drives:
    """The drives of one schedule device. Opened by whoever makes it.

    world: the joints that they turn in a simulated world, instead of joints of their own.
    """

    def __init__(
        self, options: DrivesOptions, now_ns: int, world: "WorldJoints | None" = None
    ) -> None:
        self.bus: can.BusABC
        if options.interface == "slcan":
            self.bus = Adapter(Path(options.channel.partition("@")[0]))
        else:
            self.bus = _bus(options)
        self._network = canopen.Network(self.bus)
        self._listener = self._network.listeners[0]
        self._network.subscribe(0x080, self._on_sync)
        self._due_ns = now_ns
        self._world = world
        self.drives = {
            node: Drive(self._network, node, scale, now_ns, self._joint(index, scale, start))
            for index, (node, scale, start) in enumerate(
                zip(options.nodes, options.counts_per_rad, options.start_position, strict=True)
            )
        }

    def _joint(self, index: int, scale: float, start: float) -> "Joint | WorldJoint":
        if self._world is None:
            joint = Joint()
            joint.position = start
            return joint
        from .world_drive import WorldJoint

        return WorldJoint(self._world, index, 1 if scale > 0 else -1)

    def _move(self, now_ns: int) -> None:
        """Move everything on to `now_ns`."""
        for drive in self.drives.values():
            drive.work(now_ns)
        if self._world is not None:
            self._world.advance(now_ns)

    def fileno(self) -> int:
        """The descriptor to wait on; -1 while nobody has opened the adapter."""
        return self.bus.fileno()

    @property
    def due_ns(self) -> int:
        """When `work` is to be called next."""
        return self._due_ns

    def close(self) -> None:
        """Switch the drives off and close the bus."""
        for drive in self.drives.values():
            if drive.present:
                drive.power_off()
        self.bus.shutdown()

    def on_readable(self) -> None:
        """Take what has come."""
        while True:
            try:
                message = self.bus.recv(0)
            except can.CanError:
                continue  # no CAN frame
            if message is None:
                return
            self._move(time.monotonic_ns())
            if not (message.is_extended_id or message.is_fd):
                self._listener.on_message_received(message)

    def work(self, now_ns: int) -> None:
        """Move everything on. Bytes that have come meanwhile count first: a heartbeat may be in
        them."""
        self.on_readable()
        self._move(now_ns)
        for drive in self.drives.values():
            drive.watch(now_ns)
        self._due_ns = now_ns + _TICK_NS

    def _on_sync(self, can_id: int, data: bytearray, stamp: float) -> None:
        now_ns = time.monotonic_ns()
        for drive in self.drives.values():
            drive.on_sync(now_ns)

    def control(self, request: dict[str, Any]) -> dict[str, object]:
        """Do what the control channel asks. Raises KeyError, ValueError for what makes no sense.

        `node` with `power` (true, false), `fail` (an error code), `faults` (a list of what goes
        wrong at the coming SYNCs), `object` ([index, sub-index, value]), `marks` (true: torques say
        the number of their sample), `flood` (so many samples at once), `load` (of its joint,
        rad/s^2; not of a world's) or `mute` (true, false): it answers no SDO; `raw`: a line
        that the adapter says; `port` (true, false): plug the adapter in or out; `stall` (true,
        false): it stands still, and hands on later; `samples`: tell the last ones, by node, with
        the times of their SYNCs.
        """
        now_ns = time.monotonic_ns()
        if "node" in request:
            self._control_node(self.drives[request["node"]], request, now_ns)
        if "raw" in request and isinstance(self.bus, Adapter):
            self.bus.port.write(bytes.fromhex(request["raw"]))
        if "port" in request and isinstance(self.bus, Adapter):
            if request["port"]:
                self.bus.port.open()
            else:
                self.bus.port.close()
                self.bus.running = False
        if "stall" in request and isinstance(self.bus, Adapter):
            if request["stall"]:
                self.bus.port.stall()
            else:
                self.bus.port.go_on()
        self._move(now_ns)
        if "samples" in request:
            return {"nodes": {node: list(drive.samples) for node, drive in self.drives.items()}}
        return {"nodes": {node: drive.status() for node, drive in self.drives.items()}}

    @staticmethod
    def _control_node(drive: Drive, request: dict[str, Any], now_ns: int) -> None:
        if request.get("power") is True and not drive.present:
            drive.power_on(now_ns)
        if request.get("power") is False and drive.present:
            drive.power_off()
        if "fail" in request:
            drive.fail(int(request["fail"]))
        if "faults" in request:
            drive.faults = list(request["faults"])
        if "marks" in request:
            drive.marks = bool(request["marks"])
        if "flood" in request:
            drive.flood(now_ns, int(request["flood"]))
        if "object" in request:
            index, sub, value = request["object"]
            drive.put(index, sub, value)
        if "mute" in request:
            drive.mute(bool(request["mute"]))
        if "load" in request and isinstance(drive.joint, Joint):
            drive.joint.load = float(request["load"])
