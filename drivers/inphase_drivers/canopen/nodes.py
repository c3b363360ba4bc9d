"""The nodes on one bus: their objects, and what they send unasked.

Sections of CiA 301 are named where they apply; objects.py has the numbers.
"""

import contextlib
import time
from collections.abc import Callable, Collection

from inphase.driver import DeviceError

from . import objects as od
from .bus import Bus, Frame, SdoRefusedError, download
from .objects import Entry, state_of
from .options import DriveOptions

STATE_NS = 1_000_000_000  # how long a drive may take to change its state
_LISTEN_MS = 1_000  # for a heartbeat under our id, before the first of ours
_POLL_NS = 2_000_000


class Nodes:
    """The nodes of a schedule on one bus. Thread: one at a time."""

    def __init__(self, device: str, options: DriveOptions) -> None:
        self.options = options
        self.index = {node: index for index, node in enumerate(options.nodes)}
        """a node's place in a sample and in a command"""
        self.wanted = frozenset(
            base + node for node in options.nodes for base in (od.TPDO1, od.TPDO2)
        )
        """identifiers of the TPDOs that answer a SYNC"""
        per_rad_s = options.velocity_counts_per_rad_s
        self.position_scale = options.per_node(options.counts_per_rad)
        self.velocity_scale = options.per_node(per_rad_s or options.counts_per_rad)
        self.bus: Bus | None = None
        self.device = device
        self.forget()

    def forget(self) -> None:
        """Forget all that was known of the nodes."""
        n = len(self.options.nodes)
        self.tpdos: list[Frame] = []  # that came, and that nobody has taken yet
        self.status = [0] * n  # the last statuswords
        self.error_code = [0] * n
        self.nmt_state: dict[int, int] = {}
        self.running = False  # the nodes are operational, and stay so
        self.enabled = False  # all drives were seen to follow
        self.trouble = ""  # what ends the use of the bus, raised by the next call
        self._beat_heard_ns = dict.fromkeys(self.options.nodes, 0)
        self._opened_ns = 0  # since then the bus is listened to
        self._is_fed_by_another = False

    # ---- bus -----------------------------------------------------------------------------

    def open(self) -> None:
        """Open the bus and listen to the nodes. Raises DeviceError."""
        o = self.options
        arguments: dict[str, object] = dict(o.bus)
        arguments |= {"interface": o.interface, "channel": o.channel}
        if o.interface not in ("virtual", "udp_multicast"):
            arguments["bitrate"] = o.bitrate
        self.bus = Bus(self.device, arguments, self.hear)

    def listen(self) -> None:
        """Let through what the nodes send, and our own heartbeat, which another may send."""
        bases = (od.EMCY, od.TPDO1, od.TPDO2, od.SDO_REPLY, od.HEARTBEAT)
        wanted = [base + node for base in bases for node in self.options.nodes]
        self.open_bus().listen_only_to([*wanted, od.HEARTBEAT + self.options.own_id])
        self._opened_ns = time.monotonic_ns()

    def open_bus(self) -> Bus:
        """The bus. Raises DeviceError where it is not open."""
        if self.bus is None:
            raise DeviceError(f"device {self.device}: the CAN bus is not open")
        return self.bus

    def start(self) -> None:
        """NMT operational; waits until each node's own heartbeat says so. Raises DeviceError."""
        bus, nodes = self.open_bus(), self.options.nodes
        self.nmt_state.clear()
        for node in nodes:
            bus.send(od.NMT, bytes([od.NMT_START, node]))
        until_ns = time.monotonic_ns() + STATE_NS + 2_000_000 * self.options.watchdog_ms
        while set(self.nmt_state.values()) != {od.OPERATIONAL} or len(self.nmt_state) < len(nodes):
            frame = bus.receive(until_ns)
            if frame is None:
                states = {
                    node: od.NMT_STATES.get(self.nmt_state.get(node, -1), "silent")
                    for node in nodes
                }
                raise DeviceError(
                    f"device {self.device}: not all nodes on {bus.where} became operational: "
                    f"{states}; look at what their error registers say"
                )
            self.hear(frame)
        self.trouble = ""
        self.running = True

    def send_all(self, controlword: int, spared: Collection[int] = ()) -> None:
        """The controlword to every other node, with nothing waited for: none may hold up the
        others."""
        data = download(od.CONTROLWORD, controlword)
        with contextlib.suppress(DeviceError):
            for node in self.options.nodes:
                if node not in spared:
                    self.open_bus().send(od.SDO_REQUEST + node, data)

    # ---- objects -------------------------------------------------------------------------

    def refusal(self, node: int, entry: Entry, trouble: str) -> DeviceError:
        """The error that names device, node, bus and object."""
        where = self.open_bus().where
        return DeviceError(f"device {self.device}: node {node} on {where}: {entry} {trouble}")

    def get(self, node: int, entry: Entry, absent: int | None = None) -> int:
        """Read an object; `absent` for one that the node does not have."""
        try:
            return self.open_bus().get(node, entry)
        except SdoRefusedError as refused:
            if refused.absent and absent is not None:
                return absent
            raise self.refusal(node, entry, f"cannot be read: {refused}") from refused

    def put(self, node: int, entry: Entry, value: int) -> None:
        """Write an object."""
        try:
            self.open_bus().put(node, entry, value)
        except SdoRefusedError as refused:
            raise self.refusal(node, entry, f"does not take {value}: {refused}") from refused

    def expect(self, node: int, entry: Entry, wanted: int, mask: int = -1) -> None:
        """Read an object. Raises DeviceError where it is another."""
        value = self.get(node, entry)
        if value & mask != wanted & mask:
            raise self.refusal(node, entry, f"is {value}, needed is {wanted}")

    def ensure(self, node: int, entry: Entry, value: int) -> None:
        """Write an object that is another, and read it back. Some cannot be written at any time."""
        if self.get(node, entry) != value:
            self.set(node, entry, value)

    def set(self, node: int, entry: Entry, value: int) -> None:
        """Write an object and read it back."""
        self.put(node, entry, value)
        self.expect(node, entry, value)

    def wait(self, node: int, entry: Entry, wanted: Callable[[int], bool], bound_ns: int) -> None:
        """Read an object until it is as wanted. Raises DeviceError with the value it has."""
        value = self.poll(node, entry, wanted, bound_ns)
        if not wanted(value):
            state = f" ({state_of(value)})" if entry == od.STATUSWORD else ""
            code = self.error_code[self.index[node]]
            raise self.refusal(
                node,
                entry,
                f"is still {value}{state} after {bound_ns // 1_000_000} ms, last error code "
                f"0x{code:04X}; look up the drive's fault, and its enable and stop inputs",
            )

    def poll(self, node: int, entry: Entry, wanted: Callable[[int], bool], bound_ns: int) -> int:
        """Read an object until it is as wanted, for so long at most; its last value."""
        bus = self.open_bus()
        end_ns = time.monotonic_ns() + bound_ns
        while not wanted(value := self.get(node, entry)) and time.monotonic_ns() <= end_ns:
            frame = bus.receive(time.monotonic_ns() + _POLL_NS)
            if frame is not None:
                self.hear(frame)
        return value

    # ---- unasked -------------------------------------------------------------------------

    def hear(self, frame: Frame) -> None:
        """Take note of a frame: TPDO, heartbeat or EMCY of a node of ours, and a heartbeat that is
        as ours; others are not ours."""
        if frame.id in self.wanted:
            self.tpdos.append(frame)
            return
        if frame.id == od.HEARTBEAT + self.options.own_id:
            self._hear_another()
            return
        node, service = frame.id & 0x7F, frame.id & 0x780
        if node not in self.index:
            return
        if service == od.HEARTBEAT and len(frame.data) == 1:
            self._hear_beat(node, frame.data[0] & 0x7F)
        elif service == od.EMCY and len(frame.data) == 8:
            # error code, error register, manufacturer's field (CiA 301, 7.2.7)
            self.error_code[self.index[node]] = int.from_bytes(frame.data[:2], "little")

    def _hear_beat(self, node: int, state: int) -> None:
        self._beat_heard_ns[node] = time.monotonic_ns()
        self.nmt_state[node] = state
        if self.running and state != od.OPERATIONAL:
            code = self.error_code[self.index[node]]
            self.trouble = (
                f"device {self.device}: node {node} on {self.open_bus().where} is no longer "
                f"operational: {od.NMT_STATES.get(state, state)}, last error code 0x{code:04X}"
            )

    def refuse_silent_ones(self) -> None:
        """Raises DeviceError where a node's heartbeat is missing."""
        now_ns = time.monotonic_ns()
        for node in self.options.nodes:
            silent_ns = now_ns - self._beat_heard_ns[node]
            if silent_ns > self.options.watchdog_ms * 1_000_000:
                raise DeviceError(
                    f"device {self.device}: node {node} on {self.open_bus().where} is gone: no "
                    f"heartbeat for {silent_ns // 1_000_000} ms; check its power and the cable"
                )

    def _hear_another(self) -> None:
        """Another node sends our heartbeat: the drives would go on without us, so they stop now."""
        if self._is_fed_by_another:
            return
        self._is_fed_by_another = True
        self.trouble = self._fed_by_another()
        if self.enabled:
            self.enabled = False
            self.send_all(od.QUICK_STOP)

    def _fed_by_another(self) -> str:
        own_id = self.options.own_id
        return (
            f"device {self.device}: another node on {self.open_bus().where} sends the heartbeat "
            f"0x{od.HEARTBEAT + own_id:03X} of own_id {own_id}: the drives would go on when this "
            f"runtime is dead; give own_id a number that no node on the bus has"
        )

    def listen_for_another(self) -> None:
        """A heartbeat that feeds the drives' watchdog comes within its time; one that is slower
        than `_LISTEN_MS` is noticed later. Raises DeviceError."""
        bus = self.open_bus()
        until_ns = self._opened_ns + min(self.options.watchdog_ms, _LISTEN_MS) * 1_000_000
        while (frame := bus.receive(until_ns)) is not None:
            self.hear(frame)
        if self._is_fed_by_another:
            raise DeviceError(self._fed_by_another())

    def raise_trouble(self) -> None:
        """Raises DeviceError with what ended the use of the bus."""
        if self.trouble:
            raise DeviceError(self.trouble)
