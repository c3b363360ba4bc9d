"""Process data of drives: PDOs, and the SYNC that has them all sent (CiA 301, 7.2.2 and 7.2.5).

One SYNC makes every node sample and send its two TPDOs, and put into effect the command that came
in its RPDO since the SYNC before.
"""

import math
import struct
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.driver import DeviceError, Reading

from . import objects as od
from .bus import Frame
from .nodes import Nodes
from .objects import Entry, Pdo, state_of

TPDO_SIZE = 6
_FIRST, _SECOND, _COMMAND = struct.Struct("<Hi"), struct.Struct("<ih"), struct.Struct("<Hi")


class ProcessData:
    """Samples of all nodes, one for each SYNC, and commands to each. Thread: one at a time."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        effort = od.TORQUE if nodes.options.effort == "torque" else od.CURRENT
        self._pdos = (
            Pdo("TPDO1", 0x1800, 0x1A00, od.TPDO1, (od.STATUSWORD, od.POSITION)),
            Pdo("TPDO2", 0x1801, 0x1A01, od.TPDO2, (od.VELOCITY, effort)),
            Pdo("RPDO1", 0x1400, 0x1600, od.RPDO1, (od.CONTROLWORD, od.TARGET)),
        )
        self.forget()

    def forget(self) -> None:
        """Forget what came, and what the nodes said of their units."""
        n, options = len(self._nodes.options.nodes), self._nodes.options
        self._effort_scale = [0.0] * n
        self._values = {name: np.zeros(n) for name in ("position", "velocity", options.effort)}
        self._missing: set[int] = set()  # what the last SYNC is owed
        self._asked = False  # that SYNC is the last trigger's
        self._stray = self._wrong = 0  # COB-IDs: came unasked or twice; came in a wrong size
        self._sync_overflow = self._sync_count = 0
        self._triggered_ns = self._quiet_until_ns = 0

    # ---- configuration -------------------------------------------------------------------

    def configure(self, node: int) -> None:
        """SYNC and PDOs of one node, which is not operational. Raises DeviceError."""
        self._check_sync(node)
        for pdo in self._pdos:
            self._map(node, pdo)

    def _check_sync(self, node: int) -> None:
        """That the node listens to our SYNC and sends none, and whether it counts it."""
        nodes = self._nodes
        cob_id = nodes.get(node, od.SYNC_COB_ID)
        if cob_id & od.SYNC_PRODUCER or cob_id & 0x7FF != od.SYNC:
            raise nodes.refusal(
                node,
                od.SYNC_COB_ID,
                f"is 0x{cob_id:08X}, needed is 0x{od.SYNC:08X}: SYNC comes from here alone",
            )
        first = nodes.options.nodes[0]
        overflow = nodes.get(node, od.SYNC_OVERFLOW, absent=0)
        if node != first and overflow != self._sync_overflow:
            raise nodes.refusal(
                node,
                od.SYNC_OVERFLOW,
                f"is {overflow}, but {self._sync_overflow} in node {first}; set the same in all "
                f"nodes",
            )
        self._sync_overflow = overflow

    def _map(self, node: int, pdo: Pdo) -> None:
        """Map one PDO, in the order of CiA 301, 7.5.2.38, and read it back."""
        nodes = self._nodes
        parameter = f"{pdo.name} communication parameter"
        cob = Entry(pdo.parameters, 1, 4, parameter)
        kind = Entry(pdo.parameters, 2, 1, f"{pdo.name} transmission type")
        count = Entry(pdo.mapped, 0, 1, f"{pdo.name} mapped objects")
        value = pdo.cob_id + node | (od.PDO_NO_RTR if pdo.name.startswith("T") else 0)
        nodes.put(node, cob, value | od.PDO_INVALID)
        nodes.put(node, kind, od.EVERY_SYNC)
        nodes.put(node, count, 0)
        slots = [
            Entry(pdo.mapped, sub, 4, f"{pdo.name} mapping {sub}")
            for sub in range(1, len(pdo.entries) + 1)
        ]
        for slot, entry in zip(slots, pdo.entries, strict=True):
            nodes.set(node, slot, od.mapping(entry))
        nodes.set(node, count, len(slots))
        nodes.put(node, cob, value)
        nodes.expect(node, kind, od.EVERY_SYNC)
        nodes.expect(node, cob, value, od.COB_ID_MASK | od.PDO_INVALID)

    def read_rating(self, node: int) -> None:
        """The unit of a node's effort: thousandths of a rating in mN m or mA (CiA 402-2, objects
        6075h to 6078h)."""
        nodes = self._nodes
        rated = od.RATED_TORQUE if nodes.options.effort == "torque" else od.RATED_CURRENT
        i = nodes.index[node]
        sign = math.copysign(1e-6, nodes.position_scale[i])
        self._effort_scale[i] = sign * nodes.get(node, rated)

    # ---- samples -------------------------------------------------------------------------

    def start(self) -> None:
        """From now on, a TPDO that no SYNC asked for is stray."""
        self.flush()
        self._stray = 0

    def flush(self) -> int:
        """Take in all that has come; how many samples that was, begun ones included.

        A TPDO that is no late reply came unasked: the next sample says so.
        """
        nodes, bus = self._nodes, self._nodes.open_bus()
        now_ns = time.monotonic_ns()
        while (frame := bus.receive(now_ns)) is not None:
            nodes.hear(frame)
        stale = len(nodes.tpdos)
        for frame in nodes.tpdos:
            if frame.id not in self._missing:
                self._stray = frame.id
            self._missing.discard(frame.id)
        nodes.tpdos.clear()
        return -(-stale // len(nodes.wanted))

    def trigger(self) -> None:
        """Send SYNC (CiA 301, 7.2.5), after everything that was still there has been thrown away.

        None is sent while a TPDO of the SYNC before may still come. It would be taken for this
        one's, since a TPDO does not say which SYNC it answers. `read` then raises TimeoutError.
        """
        bus = self._nodes.open_bus()
        self.flush()
        self._nodes.raise_trouble()
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
        self._missing = set(self._nodes.wanted)
        self._wrong = 0

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Both TPDOs of every node, as `Drives.read` has them."""
        nodes, bus = self._nodes, self._nodes.open_bus()
        until_ns = time.monotonic_ns() + timeout_ns
        if not self._asked:
            raise TimeoutError(
                f"no SYNC went out on {bus.where}: it is kept quiet until late replies are past, "
                f"or nothing was triggered"
            )
        last: Frame | None = None
        while self._missing or nodes.tpdos:
            while nodes.tpdos:
                last = nodes.tpdos.pop(0)
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
            nodes.hear(frame)
            nodes.raise_trouble()
        if last is None:
            raise TimeoutError(f"{bus.where}: this trigger's sample was read already")
        for name, values in self._values.items():
            sample[name] = values
        stray, self._stray = self._stray, 0
        return self._reading(last, stray, self._wrong)

    def _decode(self, frame: Frame) -> bool:
        """Take one TPDO's values, in SI; False where its size is wrong."""
        if len(frame.data) != TPDO_SIZE:
            return False
        nodes = self._nodes
        i = nodes.index[frame.id & 0x7F]
        if frame.id & 0x780 == od.TPDO1:
            nodes.status[i], position = _FIRST.unpack(frame.data)
            self._values["position"][i] = position / nodes.position_scale[i]
        else:
            velocity, effort = _SECOND.unpack(frame.data)
            self._values["velocity"][i] = velocity / nodes.velocity_scale[i]
            self._values[nodes.options.effort][i] = effort * self._effort_scale[i]
        return True

    def _reading(self, last: Frame, stray: int, wrong: int) -> Reading:
        nodes = self._nodes
        received_ns = nodes.open_bus().received_ns(last)
        if received_ns is not None and received_ns < self._triggered_ns:
            received_ns = None  # the wall clock was set in between
        if stray or wrong:
            reason = "mismatch" if stray else "size"
            return Reading(received_ns=received_ns, reason=reason, detail=stray or wrong)
        for node, i in nodes.index.items():
            fault = nodes.status[i] & od.FAULT_BIT
            if fault or (nodes.enabled and state_of(nodes.status[i]) != od.ENABLED):
                detail = node << 16 | nodes.error_code[i]
                return Reading(received_ns=received_ns, reason="device", detail=detail)
        return Reading(received_ns=received_ns)

    def _late(self) -> TimeoutError:
        """Say which TPDOs are missing. Raises DeviceError where a node's heartbeat is, too."""
        self._nodes.refuse_silent_ones()
        reply_max_ns = self._nodes.options.reply_max_us * 1000
        self._quiet_until_ns = self._triggered_ns + reply_max_ns
        names = ", ".join(
            f"TPDO{1 if one & 0x780 == od.TPDO1 else 2} of node {one & 0x7F}"
            for one in sorted(self._missing)
        )
        return TimeoutError(f"no {names} on {self._nodes.open_bus().where}")

    # ---- commands ------------------------------------------------------------------------

    def send(self, node: int, controlword: int, target: int) -> None:
        """A command, which takes effect at the next SYNC. Raises DeviceError."""
        self._nodes.open_bus().send(od.RPDO1 + node, _COMMAND.pack(controlword, target))

    def let_commands_pass(self) -> None:
        """Let the commands that wait in the nodes have their SYNC; nobody reads that sample."""
        nodes, bus = self._nodes, self._nodes.open_bus()
        while (frame := bus.receive(self._quiet_until_ns)) is not None:
            nodes.hear(frame)
        self.trigger()
        while self._missing - {frame.id for frame in nodes.tpdos}:
            frame = bus.receive(self._triggered_ns + nodes.options.reply_max_us * 1000)
            if frame is None:
                raise DeviceError(str(self._late()))
            nodes.hear(frame)
        self._missing.clear()
        nodes.tpdos.clear()
