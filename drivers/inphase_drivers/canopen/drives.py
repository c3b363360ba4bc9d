"""CiA 402 drives as one device: SYNC triggers all of them, PDOs carry samples and commands.

At one SYNC (COB-ID 080h) every node samples and sends its two TPDOs (transmission type 1). It also
puts into effect the target position that came since the SYNC before. Configuration goes by SDO and
is read back.
"""

import math
import os
from typing import Any, ClassVar

import msgspec
import numpy as np
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
from .bus import download
from .nodes import STATE_NS, Nodes
from .objects import state_of
from .options import DriveOptions
from .power import Power
from .process_data import TPDO_SIZE, ProcessData

_SYNC_BITS, _FRAME_BITS, _STUFFED = 47, 47, 1.2
"""bits of a data frame without its data; what bit stuffing adds at most, about (CiA 301, 6)"""
_GAP_BITS = 3  # behind each frame, of those
_SETS_BITRATE = ("slcan", "pcan", "gs_usb", "canalystii")
"""python-can's interfaces whose bus has the bit rate that they are given. Elsewhere it is somebody
else's to set, or there is no wire"""
_COUNT_MIN, _COUNT_MAX = -(2**31), 2**31 - 1


class Drives(Driver):
    """Drives on one bus: position, velocity and effort; actuator in cyclic synchronous position."""

    Options: ClassVar[type[msgspec.Struct]] = DriveOptions

    def __init__(self, name: str, options: DriveOptions) -> None:
        super().__init__(name, options)
        self.options: DriveOptions = options
        self.nodes = Nodes(name, options)
        self._data = ProcessData(self.nodes)
        self._power = Power(self.nodes)
        self._forget()

    def _forget(self) -> None:
        """Forget all that was known of the nodes; whose power is ours, stays known."""
        self.nodes.forget()
        self._data.forget()
        self._power.forget()
        self._armed = False  # a drive may be enabled: its watchdog stays on
        self.withheld = 0

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
        """From SYNC to the last TPDO on the wire, with no bit stuffed. A tenth is taken off for the
        clocks of both ends; 0 if the bit rate is not known."""
        if self.options.interface not in _SETS_BITRATE or self.options.bus.get("fd"):
            return 0
        tpdo_bits = _FRAME_BITS + 8 * TPDO_SIZE
        bits = _SYNC_BITS + len(self.nodes.wanted) * tpdo_bits - _GAP_BITS
        return bits * 900_000_000 // self.options.bitrate

    def sensor(self) -> SensorSpec:
        """Position in rad, velocity in rad/s, torque in N m or current in A, in `nodes` order."""
        n = len(self.options.nodes)
        effort = self.options.effort
        sync_ns = self._wire_ns(_SYNC_BITS)
        wire_ns = sync_ns + 2 * n * self._wire_ns(_FRAME_BITS + 8 * TPDO_SIZE)
        fields = (
            Field("position", "rad", (n,)),
            Field("velocity", "rad/s", (n,)),
            Field(effort, "N m" if effort == "torque" else "A", (n,)),
        )
        twin = (
            *(
                TwinChannel(TwinKind.POSITION, i, noise=abs(0.5 / scale))
                for i, scale in enumerate(self.nodes.position_scale)
            ),
            *(
                TwinChannel(TwinKind.VELOCITY, i, noise=abs(0.5 / scale))
                for i, scale in enumerate(self.nodes.velocity_scale)
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
        self._forget()
        self.nodes.open()
        try:
            self.nodes.listen()
            self._armed = True
            # until all are found their watchdogs, which may be running, are left alone
            for node in self._power.find_holding():
                self._power.keep(node)
            bus = self.nodes.open_bus()
            for node in self.options.nodes:
                bus.send(od.NMT, bytes([od.NMT_PRE_OPERATIONAL, node]))
            for node in self.options.nodes:
                self._configure(node)
            self._armed = False
        except BaseException:
            self.close()
            raise
        return -1

    def _configure(self, node: int) -> None:
        """Device type, SYNC, PDOs, heartbeats and scale of one node."""
        nodes, o = self.nodes, self.options
        kind = nodes.get(node, od.DEVICE_TYPE)
        if kind & 0xFFFF != od.DRIVE_PROFILE:
            raise nodes.refusal(
                node,
                od.DEVICE_TYPE,
                f"is 0x{kind:08X} (profile {kind & 0xFFFF}), needed is a drive of profile "
                f"{od.DRIVE_PROFILE}; is this the right node id?",
            )
        self._power.disable_unknown(node)
        self._data.configure(node)
        nodes.set(node, od.HEARTBEAT_PRODUCER, o.heartbeat_ms)
        nodes.set(node, od.HEARTBEAT_CONSUMER, o.own_id << 16 | o.watchdog_ms)
        if o.interpolation_us is not None:
            value, index = o.interpolation()
            nodes.ensure(node, od.INTERPOLATION_VALUE, value)
            nodes.ensure(node, od.INTERPOLATION_INDEX, index)
        self._data.read_rating(node)
        status = nodes.get(node, od.STATUSWORD)
        if status & od.FAULT_BIT:
            nodes.error_code[nodes.index[node]] = nodes.get(node, od.ERROR_CODE)

    def close(self) -> None:
        """Close the bus. Drives that still follow stop by their watchdog: it stays armed.

        Drives that held before and were not enabled go on holding, with the options that they had.
        """
        bus, self.nodes.bus = self.nodes.bus, None
        if bus is None:
            return
        try:
            # not waited for: a node may be gone
            for node in self.options.nodes:
                if node in self._power.found:
                    self._power.give_back(bus, node)
                elif not self._armed:
                    bus.send(od.SDO_REQUEST + node, download(od.HEARTBEAT_CONSUMER, 0))
                    bus.send(od.NMT, bytes([od.NMT_PRE_OPERATIONAL, node]))
        except DeviceError:
            pass
        finally:
            bus.close()

    # ---- sensor --------------------------------------------------------------------------

    def start(self) -> None:
        """NMT operational; waits until each node's own heartbeat says so."""
        self.nodes.start()
        for node in self._power.found:
            # what another master sent may wait in the node for our first SYNC
            self._data.send(node, *self._power.standing_command(node))
        self._data.start()

    def flush(self) -> int:
        """Take in all that has come; how many samples that was, begun ones included.

        A TPDO that is no late reply came unasked: the next sample says so.
        """
        return self._data.flush()

    def trigger(self) -> None:
        """Send SYNC (CiA 301, 7.2.5), after what was still there has been thrown away.

        None is sent while a TPDO of the SYNC before may still come. `read` then raises
        TimeoutError.
        """
        self._data.trigger()

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Collect both TPDOs of every node.

        A TPDO that comes twice for one SYNC, or that no SYNC asked for, makes the sample invalid
        (`mismatch`, detail: its COB-ID). It cannot be known then which is whose. A wrong size is
        `size`. A fault bit is `device`, and so is a drive that no longer follows though it was
        enabled. Its detail has the node in the upper, the error code of its last EMCY in the lower
        16 bits.
        """
        return self._data.read(sample, timeout_ns)

    # ---- actuator ------------------------------------------------------------------------

    def write(self, command: NDArray[np.float64]) -> None:
        """Send each node its target position; all take effect at the next SYNC.

        A node whose last statusword did not say that it follows gets none (counted in `withheld`).
        Its command would make a node move again that has stopped by itself.
        """
        nodes, bus = self.nodes, self.nodes.open_bus()
        if not nodes.enabled:
            raise DeviceError(f"device {self.name}: a command while the drives are not enabled")
        nodes.raise_trouble()
        bus.feed()
        # a heartbeat sooner: the drives count from when they received the last one
        patience_ms = self.options.watchdog_ms - self.options.heartbeat_ms
        if bus.silence_ns > patience_ms * 1_000_000:
            nodes.enabled = False
            raise DeviceError(
                f"device {self.name}: no heartbeat went out on {bus.where} for "
                f"{bus.silence_ns // 1_000_000} ms, so the drives have stopped by themselves; "
                f"enable them again, and raise watchdog_ms if cycles are further apart than that"
            )
        for node, i in nodes.index.items():
            if state_of(nodes.status[i]) != od.ENABLED:
                self.withheld += 1
                continue
            target = float(command[i]) * nodes.position_scale[i]
            if not _COUNT_MIN <= target <= _COUNT_MAX:
                raise DeviceError(
                    f"device {self.name}: node {node}: a target of {command[i]} rad is {target} "
                    f"counts, which 32 bits do not hold"
                )
            self._data.send(node, od.ENABLE_OPERATION, round(target))

    def halt(self, command: NDArray[np.float64]) -> None:
        """Drives that are not enabled were found at rest, or have stopped by themselves."""
        if self.nodes.enabled:
            self.write(command)

    def enable(self) -> None:
        """Take every drive to `operation enabled` in cyclic synchronous position mode.

        The target is set to the measured position before operation is enabled, and each step is
        verified by reading (CiA 402-2, "State machine of the power drive system"). A drive that
        holds keeps its power, and its target, which carries its load. A drive that cannot is
        refused before anything is written. A drive that moves is stopped and reported. If `enable`
        fails, those that held go on holding, and the others are switched off.

        The drive is told to stop quickly when our heartbeat is lost (object 6007h). It is refused
        if another node sends our heartbeat: the bus is listened to for `watchdog_ms` first, 1 s at
        most.
        """
        nodes, bus = self.nodes, self.nodes.open_bus()
        holding = self._power.rest()
        nodes.listen_for_another()
        for node in self.options.nodes:
            self._power.refuse_mode(node)
        bus.start_beating(self.options.own_id, self.options.heartbeat_ms * 1_000_000)
        self._armed = True
        try:
            self._drop_old_command()
            self._power.enable(holding)
        except BaseException:
            bus.stop_beating()
            self._power.undo(bus, holding)
            raise
        nodes.enabled = True
        self._power.take()
        if self.options.hand_over_ms:
            bus.hand_over(self.options.hand_over_ms * 1e-3)

    def _drop_old_command(self) -> None:
        """Replace a command that still waits for its SYNC in a node, and let it have that SYNC.

        It would take effect at the first SYNC after `enable`, from wherever it was sent.
        """
        if self.nodes.running:
            for node in self.options.nodes:
                self._data.send(node, *self._power.standing_command(node))
            self._data.let_commands_pass()

    @property
    def has_brakes(self) -> bool:
        """As the schedule says it: a drive does not tell its motor's brake (CiA 402-2)."""
        return self.options.brakes

    def torque(self) -> tuple[bool | None, ...]:
        """By the drives' statuswords. None of one that holds now, and may let go after `close`: its
        heartbeat ends then, and its quick stop does not end in holding (605Ah)."""
        return tuple(self._power.torque(node) for node in self.options.nodes)

    def goals(self) -> tuple[float, ...]:
        """The targets of the drives, in rad."""
        return self._power.goals

    def disable(self) -> None:
        """Quick stop, wait until the measured velocity is zero, then voltage off; verified.

        Every node is told before any is waited for. A node that does not answer keeps no other from
        being stopped; all errors are raised at the end. A drive that held before a failed `enable`
        goes on holding.
        """
        self._power.disable()
        self._armed = False

    @property
    def switching_max_ns(self) -> int:
        """Each node may take its time to stop, and for each of its states."""
        node_ns = self.options.stop_ms * 1_000_000 + 4 * STATE_NS
        return max(super().switching_max_ns, len(self.options.nodes) * node_ns)
