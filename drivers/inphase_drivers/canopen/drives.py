"""CiA 402 drives as one device: SYNC triggers all of them, PDOs carry samples and commands.

One SYNC (COB-ID 080h) makes every node sample and send its two TPDOs (transmission type 1), and
put into effect the target positions that came since the SYNC before. Configuration goes by SDO and
is read back. Sections of CiA 301 and CiA 402-2 are named where they apply; objects.py has the
numbers.
"""

import contextlib
import math
import os
import struct
import time
from collections.abc import Callable, Collection
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from inphase.driver import (
    Acquire,
    ActuatorSpec,
    Calls,
    DeviceError,
    Driver,
    Field,
    Reading,
    SensorSpec,
    Servo,
    TwinChannel,
    TwinKind,
    Watchdog,
)

from . import objects as od
from .bus import Bus, Frame, SdoRefusedError, download
from .objects import Entry, Pdo, state_of

_SYNC_BITS, _FRAME_BITS, _STUFFED = 47, 47, 1.2
"""bits of a data frame without its data; what bit stuffing adds at most, about (CiA 301, 6)"""
_GAP_BITS = 3  # behind each frame, of those
_SETS_BITRATE = ("slcan", "pcan", "gs_usb", "canalystii")
"""python-can's interfaces whose bus has the bit rate that they are given. Elsewhere it is somebody
else's to set, or there is no wire"""
_LISTEN_MS = 1_000  # for a heartbeat under our id, before the first of ours
_STATE_NS = 1_000_000_000  # how long a drive may take to change its state
_POLL_NS = 2_000_000
_STANDSTILL_RAD_S = 0.02
_OFF_MAX_RAD = 0.1  # how far a load may hold a joint beside the demand of its position control
_REMEDY = "support the arm, switch the drive off, start again"
_REST_NS = 100_000_000  # how long a velocity has to stay above that: one value may be noise
_POWERED = (od.READY, od.SWITCHED_ON, od.ENABLED, od.QUICK_STOP_ACTIVE, od.REACTING)
_HOLDS = (od.ENABLED, od.QUICK_STOP_ACTIVE)
"""states in which the motor has power"""
_COUNT_MIN, _COUNT_MAX = -(2**31), 2**31 - 1
_FIRST, _SECOND, _COMMAND = struct.Struct("<Hi"), struct.Struct("<ih"), struct.Struct("<Hi")


class _Found(NamedTuple):
    """What a drive that held had when it was found, and has again if it is not enabled by us."""

    abort: int
    """object 6007h"""
    consumer: int
    """object 1016h"""


class DriveOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    interface: str
    """python-can's name: socketcan, slcan, udp_multicast, pcan, ..."""
    channel: str
    """what that interface calls a bus: can0, /dev/ttyACM0, 239.74.163.2, ..."""
    nodes: Annotated[list[Annotated[int, Meta(ge=1, le=126)]], Meta(min_length=1, max_length=32)]
    counts_per_rad: float | list[float]
    """position counts per radian of the joint; negative where the joint turns the other way"""
    bitrate: Annotated[int, Meta(ge=10_000, le=1_000_000)] = 1_000_000
    bus: dict[str, str | int | float | bool] = {}
    """further arguments of python-can's interface, such as `port` or `tty_baudrate`"""
    velocity_counts_per_rad_s: float | list[float] | None = None
    """velocity units per rad/s; left out: counts per second"""
    effort: Literal["torque", "current"] = "torque"
    """object 6077h in thousandths of rated torque (6076h), or 6078h of rated current (6075h)"""
    own_id: Annotated[int, Meta(ge=1, le=127)] = 127
    """node id under which our heartbeat goes out"""
    heartbeat_ms: Annotated[int, Meta(ge=1, le=10_000)] = 20
    watchdog_ms: Annotated[int, Meta(ge=2, le=60_000)] = 100
    """without a heartbeat for so long a drive stops (ours) or counts as gone (the drive's)"""
    interpolation_us: Annotated[int, Meta(ge=100, le=255_000)] | None = None
    """time between commands, written to object 60C2h where it is given"""
    reply_max_us: Annotated[int, Meta(ge=100, le=1_000_000)] = 5_000
    """how long after a SYNC the last TPDO may come, adapter included"""
    hand_over_ms: Annotated[int, Meta(ge=0, le=60_000)] = 10_000
    """how long after `enable` the first cycle may take to come, before the drives stop again"""
    stop_ms: Annotated[int, Meta(ge=1, le=60_000)] = 2_000
    """how long a quick stop may take"""
    start_position: float | list[float] = 0.0
    """where the simulated twin starts, rad"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        if len(set(self.nodes)) != len(self.nodes) or self.own_id in self.nodes:
            raise ValueError(
                f"nodes must be different from each other and from own_id {self.own_id}, got "
                f"{self.nodes}"
            )
        if self.watchdog_ms < 2 * self.heartbeat_ms:
            raise ValueError(
                f"watchdog_ms must be at least twice heartbeat_ms ({self.heartbeat_ms}), got "
                f"{self.watchdog_ms}"
            )
        for key in ("counts_per_rad", "velocity_counts_per_rad_s", "start_position"):
            value = getattr(self, key)
            if isinstance(value, list) and len(value) != len(self.nodes):
                raise ValueError(
                    f"{key}: one number, or one per node ({len(self.nodes)}), expected, got {value}"
                )
        for scale in (self.counts_per_rad, self.velocity_counts_per_rad_s):
            for one in self.per_node(1.0 if scale is None else scale):
                if not math.isfinite(one) or one == 0:
                    raise ValueError(f"counts per radian must be finite and not 0, got {one}")
        if self.interpolation_us is not None:
            self.interpolation()

    def per_node(self, value: float | list[float]) -> list[float]:
        """A value for each node."""
        return value if isinstance(value, list) else [value] * len(self.nodes)

    def interpolation(self) -> tuple[int, int]:
        """`interpolation_us` as object 60C2h has it: value and power of ten. ValueError."""
        value, index = self.interpolation_us or 0, -6
        while value > 255 and value % 10 == 0:
            value, index = value // 10, index + 1
        if value > 255:
            raise ValueError(
                f"interpolation_us must be up to 255 times a power of ten, got "
                f"{self.interpolation_us}"
            )
        return value, index


class Drives(Driver):
    """Drives on one bus: position, velocity and effort; actuator in cyclic synchronous position."""

    Options: ClassVar[type[msgspec.Struct]] = DriveOptions

    def __init__(self, name: str, options: DriveOptions) -> None:
        super().__init__(name, options)
        self.options: DriveOptions = options
        per_rad_s = options.velocity_counts_per_rad_s
        self._position_scale = options.per_node(options.counts_per_rad)
        self._velocity_scale = options.per_node(per_rad_s or options.counts_per_rad)
        effort = od.TORQUE if options.effort == "torque" else od.CURRENT
        self._pdos = (
            Pdo("TPDO1", 0x1800, 0x1A00, od.TPDO1, (od.STATUSWORD, od.POSITION)),
            Pdo("TPDO2", 0x1801, 0x1A01, od.TPDO2, (od.VELOCITY, effort)),
            Pdo("RPDO1", 0x1400, 0x1600, od.RPDO1, (od.CONTROLWORD, od.TARGET)),
        )
        self._wanted = frozenset(
            base + node for node in options.nodes for base in (od.TPDO1, od.TPDO2)
        )
        self._index = {node: index for index, node in enumerate(options.nodes)}
        self._bus: Bus | None = None
        self._ours: set[int] = set()  # enabled by us, and not known to be off since
        self._spared: set[int] = set()  # held, and were refused: their power is not ours to take
        self._forget()

    def _forget(self) -> None:
        """Forget all that was known of the nodes."""
        n = len(self.options.nodes)
        self._effort_scale = [0.0] * n
        self._status = [0] * n
        self._error_code = [0] * n
        self._found: dict[int, _Found] = {}  # drives that hold, until they are enabled by us
        self._goals: tuple[float, ...] = ()
        self._nmt_state: dict[int, int] = {}
        self._beat_heard_ns = dict.fromkeys(self.options.nodes, 0)
        self._tpdos: list[Frame] = []
        self._missing: set[int] = set()  # what the last SYNC is owed
        self._asked = False  # that SYNC is the last trigger's
        self._values = {name: np.zeros(n) for name in ("position", "velocity", self.options.effort)}
        self._stray = self._wrong = 0  # COB-IDs: came unasked or twice; came in a wrong size
        self._sync_overflow = self._sync_count = 0
        self._triggered_ns = self._quiet_until_ns = 0
        self._running = False  # the nodes are operational, and stay so
        self._armed = False  # a drive may be enabled: its watchdog stays on
        self._enabled = False  # all drives were seen to follow
        self._opened_ns = 0  # since then the bus is listened to
        self._is_fed_by_another = False
        self.withheld = 0
        self._trouble = ""

    @property
    def address(self) -> str:
        """The adapter's path, or interface and channel."""
        o = self.options
        if o.channel.startswith("/"):
            return os.path.abspath(o.channel)  # noqa: PTH100 - resolves no link
        return f"can:{o.interface}:{o.channel}" + (f":{o.bus['port']}" if "port" in o.bus else "")

    @property
    def bus(self) -> str:
        """The CAN bus, by the name that others on it have for it."""
        return self.options.channel if self.options.interface == "socketcan" else self.address

    # ---- what the middleware knows -------------------------------------------------------

    def _wire_ns(self, bits: float) -> int:
        return math.ceil(bits * _STUFFED * 1e9 / self.options.bitrate)

    def _least_ns(self) -> int:
        """From SYNC to the last TPDO on the wire, with no bit stuffed, less a tenth for the clocks
        of both ends; 0 where the bit rate is not known."""
        if self.options.interface not in _SETS_BITRATE or self.options.bus.get("fd"):
            return 0
        tpdo_bits = _FRAME_BITS + 8 * _FIRST.size
        bits = _SYNC_BITS + len(self._wanted) * tpdo_bits - _GAP_BITS
        return bits * 900_000_000 // self.options.bitrate

    def sensor(self) -> SensorSpec:
        """Position in rad, velocity in rad/s, torque in N m or current in A, in `nodes` order."""
        n = len(self.options.nodes)
        effort = self.options.effort
        sync_ns = self._wire_ns(_SYNC_BITS)
        wire_ns = sync_ns + 2 * n * self._wire_ns(_FRAME_BITS + 8 * _FIRST.size)
        fields = (
            Field("position", "rad", (n,)),
            Field("velocity", "rad/s", (n,)),
            Field(effort, "N m" if effort == "torque" else "A", (n,)),
        )
        twin = (
            *(
                TwinChannel(TwinKind.POSITION, i, noise=abs(0.5 / scale))
                for i, scale in enumerate(self._position_scale)
            ),
            *(
                TwinChannel(TwinKind.VELOCITY, i, noise=abs(0.5 / scale))
                for i, scale in enumerate(self._velocity_scale)
            ),
            *(TwinChannel(TwinKind.ACCELERATION, i, gain=0.01, noise=1e-3) for i in range(n)),
        )
        return SensorSpec(
            fields=fields,
            calls=Calls(
                latency_ns=wire_ns,
                latency_max_ns=self.options.reply_max_us * 1000,
                latency_min_ns=self._least_ns(),
                # the nodes take their values when the SYNC has arrived (CiA 301, 7.2.2.3)
                acquire=Acquire.AFTER_TRIGGER,
                acquire_ns=sync_ns,
            ),
            twin=twin,
            twin_latency_ns=wire_ns + 100_000,
            twin_jitter_ns=50_000,
            per_joint=("position", "velocity", effort),
        )

    def actuator(self) -> ActuatorSpec:
        """Target positions in rad, in `nodes` order; a target takes effect at the next SYNC."""
        starts = self.options.per_node(self.options.start_position)
        return ActuatorSpec(
            channels=len(self.options.nodes),
            unit="rad",
            servos=tuple(Servo(start=position) for position in starts),
            watchdog=Watchdog(self.options.watchdog_ms * 1_000_000, verified=True),
        )

    # ---- open and close ------------------------------------------------------------------

    def open(self) -> int:
        """Open the bus, then check and configure every node in the pre-operational state.

        A drive that holds keeps its power and its target meanwhile. One that moves follows nobody:
        it is stopped, goes on holding, and is told by a DeviceError. The next `open` finds it at
        rest.
        """
        o = self.options
        self._forget()
        arguments: dict[str, object] = dict(o.bus)
        arguments |= {"interface": o.interface, "channel": o.channel}
        if o.interface not in ("virtual", "udp_multicast"):
            arguments["bitrate"] = o.bitrate
        self._bus = Bus(self.name, arguments, self._hear)
        try:
            bases = (od.EMCY, od.TPDO1, od.TPDO2, od.SDO_REPLY, od.HEARTBEAT)
            wanted = [base + node for base in bases for node in o.nodes]
            self._bus.listen_only_to([*wanted, od.HEARTBEAT + o.own_id])
            self._opened_ns = time.monotonic_ns()
            self._armed = True
            # until all are found their watchdogs, which may be running, are left alone
            for node in self._find_holding():
                self._keep(node)
            for node in o.nodes:
                self._bus.send(od.NMT, bytes([od.NMT_PRE_OPERATIONAL, node]))
            for node in o.nodes:
                self._configure(node)
            self._armed = False
        except BaseException:
            self.close()
            raise
        return -1

    def _configure(self, node: int) -> None:
        """Device type, SYNC, PDOs, heartbeats and scale of one node."""
        kind = self._get(node, od.DEVICE_TYPE)
        if kind & 0xFFFF != od.DRIVE_PROFILE:
            raise self._refusal(
                node,
                od.DEVICE_TYPE,
                f"is 0x{kind:08X} (profile {kind & 0xFFFF}), needed is a drive of profile "
                f"{od.DRIVE_PROFILE}; is this the right node id?",
            )
        if node not in self._found and self._state(node) in _POWERED:
            self._disable(node)
        self._check_sync(node)
        for pdo in self._pdos:
            self._map(node, pdo)
        o = self.options
        self._set(node, od.HEARTBEAT_PRODUCER, o.heartbeat_ms)
        self._set(node, od.HEARTBEAT_CONSUMER, o.own_id << 16 | o.watchdog_ms)
        if o.interpolation_us is not None:
            value, index = o.interpolation()
            self._ensure(node, od.INTERPOLATION_VALUE, value)
            self._ensure(node, od.INTERPOLATION_INDEX, index)
        rated = od.RATED_TORQUE if o.effort == "torque" else od.RATED_CURRENT
        # thousandths of a rating in mN m or mA (CiA 402-2, objects 6075h to 6078h)
        i = self._index[node]
        self._effort_scale[i] = math.copysign(1e-6, self._position_scale[i]) * self._get(
            node, rated
        )
        status = self._get(node, od.STATUSWORD)
        if status & od.FAULT_BIT:
            self._error_code[i] = self._get(node, od.ERROR_CODE)

    def _find_holding(self) -> list[int]:
        """The nodes that hold, at rest. Raises DeviceError for the first that does not answer, once
        those that do are at rest."""
        bus, nodes = self._open_bus(), self.options.nodes
        answering = bus.answering(nodes, od.STATUSWORD)
        holding = self._bring_to_rest(answering)
        # a node in NMT `stopped` answers no SDO (CiA 301, 7.3.2.2); it has let go by then
        silent = [node for node in nodes if node not in answering]
        for node in silent:
            bus.send(od.NMT, bytes([od.NMT_PRE_OPERATIONAL, node]))
        for node in silent:
            self._state(node)
        return holding + self._bring_to_rest(silent)

    def _keep(self, node: int) -> None:
        """Have a drive go on holding when it leaves `operational`.

        CiA 402-2 lets 6007h act on a lost heartbeat and on NMT `stopped`; some drives let it act
        on every way out of `operational`.
        """
        abort = self._get(node, od.ABORT_CONNECTION, absent=od.NOTHING_ON_ABORT)
        self._found[node] = _Found(abort, self._get(node, od.HEARTBEAT_CONSUMER))
        if abort != od.NOTHING_ON_ABORT:
            self._set(node, od.ABORT_CONNECTION, od.NOTHING_ON_ABORT)

    def _check_sync(self, node: int) -> None:
        """That the node listens to our SYNC and sends none, and whether it counts it."""
        cob_id = self._get(node, od.SYNC_COB_ID)
        if cob_id & od.SYNC_PRODUCER or cob_id & 0x7FF != od.SYNC:
            raise self._refusal(
                node,
                od.SYNC_COB_ID,
                f"is 0x{cob_id:08X}, needed is 0x{od.SYNC:08X}: SYNC comes from here alone",
            )
        overflow = self._get(node, od.SYNC_OVERFLOW, absent=0)
        if node != self.options.nodes[0] and overflow != self._sync_overflow:
            raise self._refusal(
                node,
                od.SYNC_OVERFLOW,
                f"is {overflow}, but {self._sync_overflow} in node {self.options.nodes[0]}; set "
                f"the same in all nodes",
            )
        self._sync_overflow = overflow

    def _map(self, node: int, pdo: Pdo) -> None:
        """Map one PDO, in the order of CiA 301, 7.5.2.38, and read it back."""
        parameter = f"{pdo.name} communication parameter"
        cob = Entry(pdo.parameters, 1, 4, parameter)
        kind = Entry(pdo.parameters, 2, 1, f"{pdo.name} transmission type")
        count = Entry(pdo.mapped, 0, 1, f"{pdo.name} mapped objects")
        value = pdo.cob_id + node | (od.PDO_NO_RTR if pdo.name.startswith("T") else 0)
        self._put(node, cob, value | od.PDO_INVALID)
        self._put(node, kind, od.EVERY_SYNC)
        self._put(node, count, 0)
        slots = [
            Entry(pdo.mapped, sub, 4, f"{pdo.name} mapping {sub}")
            for sub in range(1, len(pdo.entries) + 1)
        ]
        for slot, entry in zip(slots, pdo.entries, strict=True):
            self._set(node, slot, od.mapping(entry))
        self._set(node, count, len(slots))
        self._put(node, cob, value)
        self._expect(node, kind, od.EVERY_SYNC)
        self._expect(node, cob, value, od.COB_ID_MASK | od.PDO_INVALID)

    def close(self) -> None:
        """Close the bus. Drives that still follow stop by their watchdog: it stays armed.

        Drives that held before and were not enabled go on holding, with the options that they had.
        """
        bus, self._bus = self._bus, None
        if bus is None:
            return
        try:
            # not waited for: a node may be gone
            for node in self.options.nodes:
                if node in self._found:
                    self._give_back(bus, node)
                elif not self._armed:
                    bus.send(od.SDO_REQUEST + node, download(od.HEARTBEAT_CONSUMER, 0))
                    bus.send(od.NMT, bytes([od.NMT_PRE_OPERATIONAL, node]))
        except DeviceError:
            pass
        finally:
            bus.close()

    def _give_back(self, bus: Bus, node: int) -> None:
        """What a drive that holds had. It no longer waits for our heartbeat, which ends."""
        abort, consumer = self._found[node]
        consumer = 0 if consumer >> 16 & 0x7F == self.options.own_id else consumer
        bus.send(od.SDO_REQUEST + node, download(od.HEARTBEAT_CONSUMER, consumer))
        bus.send(od.SDO_REQUEST + node, download(od.ABORT_CONNECTION, abort))

    # ---- sensor --------------------------------------------------------------------------

    def start(self) -> None:
        """NMT operational; waits until each node's own heartbeat says so."""
        bus = self._open_bus()
        self._nmt_state.clear()
        for node in self.options.nodes:
            bus.send(od.NMT, bytes([od.NMT_START, node]))
        until_ns = time.monotonic_ns() + _STATE_NS + 2_000_000 * self.options.watchdog_ms
        while set(self._nmt_state.values()) != {od.OPERATIONAL} or len(self._nmt_state) < len(
            self.options.nodes
        ):
            frame = bus.receive(until_ns)
            if frame is None:
                states = {
                    node: od.NMT_STATES.get(self._nmt_state.get(node, -1), "silent")
                    for node in self.options.nodes
                }
                raise DeviceError(
                    f"device {self.name}: not all nodes on {bus.where} became operational: "
                    f"{states}; look at what their error registers say"
                )
            self._hear(frame)
        self._trouble = ""
        self._running = True
        for node in self._found:
            # what another master sent may wait in the node for our first SYNC
            bus.send(od.RPDO1 + node, self._standing_command(node))
        self.flush()
        self._stray = 0

    def flush(self) -> int:
        """Take in all that has come; how many samples that was, begun ones included.

        A TPDO that is no late reply came unasked: the next sample says so.
        """
        bus = self._open_bus()
        now_ns = time.monotonic_ns()
        while (frame := bus.receive(now_ns)) is not None:
            self._hear(frame)
        stale = len(self._tpdos)
        for frame in self._tpdos:
            if frame.id not in self._missing:
                self._stray = frame.id
            self._missing.discard(frame.id)
        self._tpdos.clear()
        return -(-stale // len(self._wanted))

    def trigger(self) -> None:
        """Send SYNC (CiA 301, 7.2.5), after what was still there has been thrown away.

        None is sent while a TPDO of the SYNC before may still come: it would be taken for this
        one's, since a TPDO does not say which SYNC it answers. `read` then raises TimeoutError.
        """
        bus = self._open_bus()
        self.flush()
        self._raise_trouble()
        now_ns = time.monotonic_ns()
        self._asked = now_ns >= self._quiet_until_ns
        if not self._asked:
            return
        data = b""
        if self._sync_overflow:
            self._sync_count = self._sync_count % self._sync_overflow + 1
            data = bytes([self._sync_count])
        self._triggered_ns = now_ns
        bus.send(od.SYNC, data)
        self._missing = set(self._wanted)
        self._wrong = 0

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Collect both TPDOs of every node.

        A TPDO that comes twice for one SYNC, or that no SYNC asked for, makes the sample invalid
        (`mismatch`, detail: its COB-ID): then it cannot be said which is whose. A wrong size is
        `size`. A fault bit, or a drive that no longer follows though it was enabled, is `device`;
        detail: node in the upper, error code of its last EMCY in the lower 16 bits.
        """
        bus = self._open_bus()
        until_ns = time.monotonic_ns() + timeout_ns
        if not self._asked:
            raise TimeoutError(
                f"no SYNC went out on {bus.where}: it is kept quiet until late replies are past, "
                f"or nothing was triggered"
            )
        last: Frame | None = None
        while self._missing or self._tpdos:
            while self._tpdos:
                last = self._tpdos.pop(0)
                if last.id not in self._missing:
                    self._stray = last.id
                elif not self._decode(last):
                    self._wrong = last.id
                self._missing.discard(last.id)
            if not self._missing:
                break
            frame = bus.receive(until_ns)
            if frame is None:
                raise self._late()
            self._hear(frame)
            self._raise_trouble()
        if last is None:
            raise TimeoutError(f"{bus.where}: this trigger's sample was read already")
        for name, values in self._values.items():
            sample[name] = values
        stray, self._stray = self._stray, 0
        return self._reading(last, stray, self._wrong)

    def _decode(self, frame: Frame) -> bool:
        """Take one TPDO's values, in SI; False where its size is wrong."""
        if len(frame.data) != _FIRST.size:
            return False
        i = self._index[frame.id & 0x7F]
        if frame.id & 0x780 == od.TPDO1:
            self._status[i], position = _FIRST.unpack(frame.data)
            self._values["position"][i] = position / self._position_scale[i]
        else:
            velocity, effort = _SECOND.unpack(frame.data)
            self._values["velocity"][i] = velocity / self._velocity_scale[i]
            self._values[self.options.effort][i] = effort * self._effort_scale[i]
        return True

    def _reading(self, last: Frame, stray: int, wrong: int) -> Reading:
        assert self._bus is not None
        received_ns = self._bus.received_ns(last)
        if received_ns is not None and received_ns < self._triggered_ns:
            received_ns = None  # the wall clock was set in between
        if stray or wrong:
            reason = "mismatch" if stray else "size"
            return Reading(received_ns=received_ns, reason=reason, detail=stray or wrong)
        for node, i in self._index.items():
            fault = self._status[i] & od.FAULT_BIT
            if fault or (self._enabled and state_of(self._status[i]) != od.ENABLED):
                detail = node << 16 | self._error_code[i]
                return Reading(received_ns=received_ns, reason="device", detail=detail)
        return Reading(received_ns=received_ns)

    def _late(self) -> TimeoutError:
        """Say which TPDOs are missing. Raises DeviceError where a node's heartbeat is, too."""
        assert self._bus is not None
        now_ns = time.monotonic_ns()
        for node in self.options.nodes:
            silent_ns = now_ns - self._beat_heard_ns[node]
            if silent_ns > self.options.watchdog_ms * 1_000_000:
                raise DeviceError(
                    f"device {self.name}: node {node} on {self._bus.where} is gone: no heartbeat "
                    f"for {silent_ns // 1_000_000} ms; check its power and the cable"
                )
        self._quiet_until_ns = self._triggered_ns + self.options.reply_max_us * 1000
        names = ", ".join(
            f"TPDO{1 if one & 0x780 == od.TPDO1 else 2} of node {one & 0x7F}"
            for one in sorted(self._missing)
        )
        return TimeoutError(f"no {names} on {self._bus.where}")

    def _hear(self, frame: Frame) -> None:
        """Take note of a frame: TPDO, heartbeat or EMCY of a node of ours, and a heartbeat that is
        as ours; others are not ours."""
        if frame.id in self._wanted:
            self._tpdos.append(frame)
            return
        if frame.id == od.HEARTBEAT + self.options.own_id:
            self._hear_another()
            return
        node, service = frame.id & 0x7F, frame.id & 0x780
        if node not in self._index:
            return
        if service == od.HEARTBEAT and len(frame.data) == 1:
            self._hear_beat(node, frame.data[0] & 0x7F)
        elif service == od.EMCY and len(frame.data) == 8:
            # error code, error register, manufacturer's field (CiA 301, 7.2.7)
            self._error_code[self._index[node]] = int.from_bytes(frame.data[:2], "little")

    def _hear_beat(self, node: int, state: int) -> None:
        self._beat_heard_ns[node] = time.monotonic_ns()
        self._nmt_state[node] = state
        if self._running and state != od.OPERATIONAL:
            assert self._bus is not None
            code = self._error_code[self._index[node]]
            self._trouble = (
                f"device {self.name}: node {node} on {self._bus.where} is no longer operational: "
                f"{od.NMT_STATES.get(state, state)}, last error code 0x{code:04X}"
            )

    def _hear_another(self) -> None:
        """Another node sends our heartbeat: the drives would go on without us, so they stop now."""
        if self._is_fed_by_another:
            return
        self._is_fed_by_another = True
        self._trouble = self._fed_by_another()
        if self._enabled:
            self._enabled = False
            self._send_all(od.QUICK_STOP)

    def _fed_by_another(self) -> str:
        own_id = self.options.own_id
        return (
            f"device {self.name}: another node on {self._open_bus().where} sends the heartbeat "
            f"0x{od.HEARTBEAT + own_id:03X} of own_id {own_id}: the drives would go on when this "
            f"runtime is dead; give own_id a number that no node on the bus has"
        )

    def _listen_for_another(self) -> None:
        """A heartbeat that feeds the drives' watchdog comes within its time; one that is slower
        than `_LISTEN_MS` is noticed later. Raises DeviceError."""
        bus = self._open_bus()
        until_ns = self._opened_ns + min(self.options.watchdog_ms, _LISTEN_MS) * 1_000_000
        while (frame := bus.receive(until_ns)) is not None:
            self._hear(frame)
        if self._is_fed_by_another:
            raise DeviceError(self._fed_by_another())

    def _raise_trouble(self) -> None:
        if self._trouble:
            raise DeviceError(self._trouble)

    # ---- actuator ------------------------------------------------------------------------

    def write(self, command: NDArray[np.float64]) -> None:
        """Send each node its target position; all take effect at the next SYNC.

        A node whose last statusword did not say that it follows gets none (counted in
        `withheld`): its command would bring one that has stopped by itself to move again.
        """
        bus = self._open_bus()
        if not self._enabled:
            raise DeviceError(f"device {self.name}: a command while the drives are not enabled")
        self._raise_trouble()
        bus.feed()
        # a heartbeat sooner: the drives count from when they received the last one
        patience_ms = self.options.watchdog_ms - self.options.heartbeat_ms
        if bus.silence_ns > patience_ms * 1_000_000:
            self._enabled = False
            raise DeviceError(
                f"device {self.name}: no heartbeat went out on {bus.where} for "
                f"{bus.silence_ns // 1_000_000} ms, so the drives have stopped by themselves; "
                f"enable them again, and raise watchdog_ms if cycles are further apart than that"
            )
        for node, i in self._index.items():
            if state_of(self._status[i]) != od.ENABLED:
                self.withheld += 1
                continue
            target = float(command[i]) * self._position_scale[i]
            if not _COUNT_MIN <= target <= _COUNT_MAX:
                raise DeviceError(
                    f"device {self.name}: node {node}: a target of {command[i]} rad is {target} "
                    f"counts, which 32 bits do not hold"
                )
            data = _COMMAND.pack(od.ENABLE_OPERATION, round(target))
            bus.send(od.RPDO1 + node, data)

    def halt(self, command: NDArray[np.float64]) -> None:
        """Drives that are not enabled were found at rest, or have stopped by themselves."""
        if self._enabled:
            self.write(command)

    def enable(self) -> None:
        """Take every drive to `operation enabled` in cyclic synchronous position mode.

        The target is set to the measured position before operation is enabled, and each step is
        verified by reading (CiA 402-2, "State machine of the power drive system"). A drive that
        holds keeps its power, and its target, which carries its load; one that cannot is refused
        before anything is written, and one that moves is stopped and told. Where `enable` fails,
        those that held go on holding, and the others are switched off. The drive is told to stop
        quickly when our heartbeat is lost (object 6007h). It is refused where another node sends
        our heartbeat: the bus is listened to for `watchdog_ms` first, 1 s at most.
        """
        bus = self._open_bus()
        self._spared = set(self._found) - self._ours
        holding = self._bring_to_rest(self.options.nodes)
        self._spared |= set(holding) - self._ours
        self._listen_for_another()
        for node in self.options.nodes:
            self._refuse_mode(node)
        bus.start_beating(self.options.own_id, self.options.heartbeat_ms * 1_000_000)
        self._armed = True
        try:
            self._enable(holding)
        except BaseException:
            bus.stop_beating()
            self._send_all(od.DISABLE_VOLTAGE, holding)
            with contextlib.suppress(DeviceError):
                for node in holding:
                    self._found.setdefault(node, _Found(od.NOTHING_ON_ABORT, 0))
                    self._give_back(bus, node)
            raise
        self._enabled = True
        self._ours = set(self.options.nodes)
        self._spared.clear()
        self._found.clear()
        if self.options.hand_over_ms:
            bus.hand_over(self.options.hand_over_ms * 1e-3)

    def _refuse_mode(self, node: int) -> None:
        """Raises DeviceError for a drive that has not our mode, or that would have to let go."""
        supported = self._get(node, od.MODES_SUPPORTED)
        if not supported & od.CYCLIC_POSITION_BIT:
            raise self._refusal(
                node,
                od.MODES_SUPPORTED,
                f"is 0x{supported:08X}: this drive has no cyclic synchronous position mode",
            )
        mode = self._get(node, od.MODE_DISPLAY)
        if mode not in od.POSITION_MODES and self._state(node) == od.ENABLED:
            raise self._refusal(
                node,
                od.MODE_DISPLAY,
                f"is {mode}: the drive holds without a position that it could keep; {_REMEDY}",
            )

    def _enable(self, holding: list[int]) -> None:
        self._drop_old_command()
        o = self.options
        for node in o.nodes:
            self._ensure(node, od.HEARTBEAT_CONSUMER, o.own_id << 16 | o.watchdog_ms)
            self._set(node, od.ABORT_CONNECTION, od.QUICK_STOP_ON_ABORT)
            if node not in holding:
                self._switch_on(node)
        goals = []
        for node, i in self._index.items():
            if node in holding:
                goal = self._take_over(node)
            else:
                goal = self._get(node, od.POSITION)
                self._set(node, od.TARGET, goal)
                self._command(node, od.ENABLE_OPERATION, od.ENABLED)
            goals.append(goal / self._position_scale[i])
            self._error_code[i], self._status[i] = 0, self._get(node, od.STATUSWORD)
        self._goals = tuple(goals)

    def goals(self) -> tuple[float, ...]:
        """The targets of the drives, in rad."""
        return self._goals

    def _take_over(self, node: int) -> int:
        """Bring a drive that holds to `operation enabled` in our mode, where it holds, and without
        a moment of no power; its target, in counts.

        In our mode it keeps its target. In another position mode, after a quick stop, or where
        bit 12 of the statusword says that the target is not followed, the target becomes the
        demand of the position control (6062h), and 6060h is changed in `operation enabled`, which
        CiA 402-2 leaves to the maker.
        """
        state, mode = self._state(node), self._get(node, od.MODE_DISPLAY)
        target = self._get(node, od.TARGET)
        cyclic = mode == od.CYCLIC_POSITION
        if state == od.ENABLED and cyclic and self._get(node, od.STATUSWORD) & od.FOLLOWS_BIT:
            return target
        here = self._get(node, od.POSITION)
        stands = cyclic or state == od.QUICK_STOP_ACTIVE
        goal = here
        if mode in od.POSITION_MODES:
            goal = self._get(node, od.DEMAND, absent=here if stands else None)
        off = abs((goal - here) / self._position_scale[self._index[node]])
        if off > _OFF_MAX_RAD:
            if not stands:
                raise self._refusal(
                    node, od.DEMAND, f"is {off:.3f} rad beside the measured position; {_REMEDY}"
                )
            goal = here  # it was not kept up to date
        if goal != target:
            self._set(node, od.TARGET, goal)
        if not cyclic:
            self._change_mode(node, mode)
        # from "quick stop active", or out of a halt
        self._command(node, od.ENABLE_OPERATION, od.ENABLED)
        return goal

    def _change_mode(self, node: int, mode: int) -> None:
        """From `mode` to ours, with power on. Raises DeviceError with the drive as it was."""
        self._put(node, od.MODE, od.CYCLIC_POSITION)
        shown = self._poll(node, od.MODE_DISPLAY, lambda one: one == od.CYCLIC_POSITION, _STATE_NS)
        if shown != od.CYCLIC_POSITION:
            self._put(node, od.MODE, mode)
            raise self._refusal(node, od.MODE, f"stays {mode} while the drive holds; {_REMEDY}")

    def _bring_to_rest(self, nodes: list[int]) -> list[int]:
        """Stop every drive that has power and moves; those that hold, all of them at rest.

        All are told to stop before one is waited for, and one that fails keeps no other moving.
        Raises DeviceError at the end, for what failed and for what moved. A quick stop that is
        under way is waited for and not told: the drive does as it was set up.
        """
        holding, moving, told, troubles = [], {}, [], []
        for node in nodes:
            try:
                state = self._state(node)
                if state == od.ENABLED and (velocity := self._moves(node, _REST_NS)):
                    moving[node] = velocity, self._stop(node)
                elif state == od.QUICK_STOP_ACTIVE:
                    self._moves(node, self.options.stop_ms * 1_000_000)
                if state in _HOLDS:
                    holding.append(node)
            except DeviceError as error:
                troubles.append(str(error))
        for node, (velocity, option) in moving.items():
            try:
                told.append(f"node {node} at {velocity:.2f} rad/s {self._hold(node, option)}")
            except DeviceError as error:
                troubles.append(str(error))
        if told:
            troubles.append(
                f"device {self.name}: drives on {self._open_bus().where} moved, and no other "
                f"program may command them: {'; '.join(told)}; end it, then start again"
            )
        if troubles:
            raise DeviceError("; ".join(troubles))
        return holding

    def _moves(self, node: int, patience_ns: int) -> float:
        """The velocity of a joint that does not come to rest in that time, in rad/s; else 0."""
        scale = abs(self._velocity_scale[self._index[node]])
        slow = self._slower_than(_STANDSTILL_RAD_S * scale)
        velocity = self._poll(node, od.VELOCITY, slow, patience_ns)
        return 0.0 if slow(velocity) else abs(velocity) / scale

    def _stop(self, node: int) -> int | None:
        """Quick stop, after which the drive is to keep its power, where it can (605Ah). The option
        that it had; None: it keeps it."""
        option = self._get(node, od.QUICK_STOP_OPTION, absent=od.STAY_AFTER_QUICK_STOP)
        changes = option not in od.STAYS_AFTER_QUICK_STOP
        if changes:
            with contextlib.suppress(DeviceError):
                self._set(node, od.QUICK_STOP_OPTION, od.STAY_AFTER_QUICK_STOP)
        self._put(node, od.CONTROLWORD, od.QUICK_STOP)
        return option if changes else None

    def _hold(self, node: int, option: int | None) -> str:
        """After `_stop`: wait for rest, and hold there; what became of it."""
        slow = self._slower_than(_STANDSTILL_RAD_S * abs(self._velocity_scale[self._index[node]]))
        self._wait(node, od.VELOCITY, slow, self.options.stop_ms * 1_000_000)
        holds = self._state(node) == od.QUICK_STOP_ACTIVE
        if holds:
            self._take_over(node)
        if option is not None:
            self._put(node, od.QUICK_STOP_OPTION, option)
        return "was stopped and holds" if holds else "was stopped and has no power"

    def _drop_old_command(self) -> None:
        """Replace a command that still waits for its SYNC in a node, and let it have that SYNC.

        It would take effect at the first SYNC after `enable`, from wherever it was sent.
        """
        bus = self._open_bus()
        if self._running:
            for node in self.options.nodes:
                bus.send(od.RPDO1 + node, self._standing_command(node))
            while (frame := bus.receive(self._quiet_until_ns)) is not None:
                self._hear(frame)
            self.trigger()
            while self._missing - {frame.id for frame in self._tpdos}:
                frame = bus.receive(self._triggered_ns + self.options.reply_max_us * 1000)
                if frame is None:
                    raise DeviceError(str(self._late()))
                self._hear(frame)
            self._missing.clear()
            self._tpdos.clear()

    def _standing_command(self, node: int) -> bytes:
        """The command that changes nothing in a node."""
        state, word, target = self._state(node), od.DISABLE_VOLTAGE, od.POSITION
        if state in _HOLDS:
            target = od.TARGET
            word = od.QUICK_STOP
        if state == od.ENABLED:
            last = self._get(node, od.CONTROLWORD)
            enables = last & od.COMMAND_BITS == od.ENABLE_OPERATION
            word = last if enables else od.ENABLE_OPERATION
        return _COMMAND.pack(word, self._get(node, target))

    def _send_all(self, controlword: int, spared: Collection[int] = ()) -> None:
        """The controlword to every other node, with nothing waited for: none may hold up the
        others."""
        data = download(od.CONTROLWORD, controlword)
        with contextlib.suppress(DeviceError):
            for node in self.options.nodes:
                if node not in spared:
                    self._open_bus().send(od.SDO_REQUEST + node, data)

    def _switch_on(self, node: int) -> None:
        """Up to `switched on`, of a drive that does not hold."""
        state = self._state(node)
        if state in (od.FAULT, od.REACTING):
            # a rising edge of bit 7
            self._put(node, od.CONTROLWORD, od.DISABLE_VOLTAGE)
            self._command(node, od.FAULT_RESET, od.SWITCH_ON_DISABLED)
        elif state in _POWERED:
            self._disable(node)
        self._put(node, od.MODE, od.CYCLIC_POSITION)
        self._wait(node, od.MODE_DISPLAY, lambda mode: mode == od.CYCLIC_POSITION, _STATE_NS)
        self._command(node, od.SHUTDOWN, od.READY)
        self._command(node, od.SWITCH_ON, od.SWITCHED_ON)

    def disable(self) -> None:
        """Quick stop, wait until the measured velocity is zero, then voltage off; verified.

        Every node is told before any is waited for, and one that does not answer keeps no other
        from being stopped; all troubles are raised at the end. What held before an `enable` that
        failed goes on holding.
        """
        self._send_all(od.QUICK_STOP, self._spared)
        self._enabled = False
        troubles = []
        for node in self.options.nodes:
            if node in self._spared:
                continue
            try:
                self._disable(node)
                self._ours.discard(node)
            except DeviceError as error:
                troubles.append(str(error))
        if troubles:
            raise DeviceError("; ".join(troubles))
        self._armed = False

    @property
    def switching_max_ns(self) -> int:
        """Each node may take its time to stop, and for each of its states."""
        node_ns = self.options.stop_ms * 1_000_000 + 4 * _STATE_NS
        return max(super().switching_max_ns, len(self.options.nodes) * node_ns)

    def _disable(self, node: int) -> None:
        if self._state(node) in _HOLDS:
            self._put(node, od.CONTROLWORD, od.QUICK_STOP)
            slow = abs(_STANDSTILL_RAD_S * self._velocity_scale[self._index[node]])
            stop_ns = self.options.stop_ms * 1_000_000
            self._wait(node, od.VELOCITY, self._slower_than(slow), stop_ns)
        self._put(node, od.CONTROLWORD, od.DISABLE_VOLTAGE)
        self._wait(node, od.STATUSWORD, lambda status: state_of(status) not in _POWERED, _STATE_NS)

    @staticmethod
    def _slower_than(slow: float) -> Callable[[int], bool]:
        return lambda velocity: abs(velocity) <= slow

    def _state(self, node: int) -> str:
        """Of the power drive system; one without a statusword is no drive, and not ready."""
        return state_of(self._get(node, od.STATUSWORD, absent=0))

    # ---- objects -------------------------------------------------------------------------

    def _open_bus(self) -> Bus:
        if self._bus is None:
            raise DeviceError(f"device {self.name}: the CAN bus is not open")
        return self._bus

    def _refusal(self, node: int, entry: Entry, trouble: str) -> DeviceError:
        where = self._open_bus().where
        return DeviceError(f"device {self.name}: node {node} on {where}: {entry} {trouble}")

    def _get(self, node: int, entry: Entry, absent: int | None = None) -> int:
        """Read an object; `absent` for one that the node does not have."""
        try:
            return self._open_bus().get(node, entry)
        except SdoRefusedError as refused:
            if refused.absent and absent is not None:
                return absent
            raise self._refusal(node, entry, f"cannot be read: {refused}") from refused

    def _put(self, node: int, entry: Entry, value: int) -> None:
        try:
            self._open_bus().put(node, entry, value)
        except SdoRefusedError as refused:
            raise self._refusal(node, entry, f"does not take {value}: {refused}") from refused

    def _expect(self, node: int, entry: Entry, wanted: int, mask: int = -1) -> None:
        value = self._get(node, entry)
        if value & mask != wanted & mask:
            raise self._refusal(node, entry, f"is {value}, needed is {wanted}")

    def _ensure(self, node: int, entry: Entry, value: int) -> None:
        """Write an object that is another, and read it back. Some cannot be written at any time."""
        if self._get(node, entry) != value:
            self._set(node, entry, value)

    def _set(self, node: int, entry: Entry, value: int) -> None:
        """Write an object and read it back."""
        self._put(node, entry, value)
        self._expect(node, entry, value)

    def _command(self, node: int, controlword: int, wanted: str) -> None:
        """Write the controlword and wait until the statusword says the state that follows."""
        self._put(node, od.CONTROLWORD, controlword)
        self._wait(node, od.STATUSWORD, lambda status: state_of(status) == wanted, _STATE_NS)

    def _wait(self, node: int, entry: Entry, wanted: Callable[[int], bool], bound_ns: int) -> None:
        """Read an object until it is as wanted. Raises DeviceError with the value it has."""
        value = self._poll(node, entry, wanted, bound_ns)
        if not wanted(value):
            state = f" ({state_of(value)})" if entry == od.STATUSWORD else ""
            code = self._error_code[self._index[node]]
            raise self._refusal(
                node,
                entry,
                f"is still {value}{state} after {bound_ns // 1_000_000} ms, last error code "
                f"0x{code:04X}; look up the drive's fault, and its enable and stop inputs",
            )

    def _poll(self, node: int, entry: Entry, wanted: Callable[[int], bool], bound_ns: int) -> int:
        """Read an object until it is as wanted, for so long at most; its last value."""
        bus = self._open_bus()
        end_ns = time.monotonic_ns() + bound_ns
        while not wanted(value := self._get(node, entry)) and time.monotonic_ns() <= end_ns:
            frame = bus.receive(time.monotonic_ns() + _POLL_NS)
            if frame is not None:
                self._hear(frame)
        return value
