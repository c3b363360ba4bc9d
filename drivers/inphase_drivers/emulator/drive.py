"""One CiA 402 drive: an object dictionary, the state machine, a joint that follows.

The CANopen stack (SDO server, NMT, heartbeat producer, EMCY, PDO maps) is canopen's LocalNode; here
is what a drive does with it. Sources: CiA 301 and CiA 402-2, by object number.
"""

import enum
import math
from collections import deque
from typing import TYPE_CHECKING

import canopen
from canopen import objectdictionary as od
from canopen.pdo.base import PdoBase, PdoMap
from canopen.sdo.exceptions import SdoAbortedError

if TYPE_CHECKING:  # only a simulated run needs the middleware's world
    from .world_drive import WorldJoint

_U8, _U16, _U32 = od.UNSIGNED8, od.UNSIGNED16, od.UNSIGNED32
_I8, _I16, _I32 = od.INTEGER8, od.INTEGER16, od.INTEGER32
_STEP_NS = 1_000_000
_STIFFNESS = 400.0  # [1/s^2] of position control: how far a load moves a joint off its target
_ABORT_STATE = 0x08000022  # "cannot be stored because of the present device state"
_ABORT_RANGE = 0x06090030  # "value range of parameter exceeded"
_HEARTBEAT_LOST = 0x8130  # CiA 301, 7.2.7: life guard error or heartbeat error
_PDO_LENGTH = 0x8210  # PDO not processed due to length error
_PDO_INVALID = 1 << 31
_SAMPLES_MAX = 1000
_MARK_MAX = 30_000  # what a torque may be at most
_PROFILE_POSITION, _CYCLIC_POSITION = 1, 8
_STAYS = (5, 6, 7, 8)  # quick stop option codes with which a drive stays in "quick stop active"

# index: name, type, default; single variables that keep what is written
_PLAIN = {
    0x1000: ("Device type", _U32, 0x0002_0192),  # servo drive, profile 402
    0x1001: ("Error register", _U8, 0),
    0x1005: ("COB-ID SYNC", _U32, 0x80),
    0x1017: ("Producer heartbeat time", _U16, 0),
    0x1019: ("Synchronous counter overflow value", _U8, 0),
    0x2000: ("No change of mode while enabled", _U8, 0),  # a manufacturer's
    0x6007: ("Abort connection option code", _I16, 1),
    0x603F: ("Error code", _U16, 0),
    0x6040: ("Controlword", _U16, 0),
    0x6041: ("Statusword", _U16, 0),
    0x605A: ("Quick stop option code", _I16, 2),
    0x6060: ("Modes of operation", _I8, 0),
    0x6061: ("Modes of operation display", _I8, 0),
    0x6062: ("Position demand value", _I32, 0),
    0x6064: ("Position actual value", _I32, 0),
    0x606C: ("Velocity actual value", _I32, 0),
    0x6075: ("Motor rated current", _U32, 2_000),
    0x6076: ("Motor rated torque", _U32, 1_500),
    0x6077: ("Torque actual value", _I16, 0),
    0x6078: ("Current actual value", _I16, 0),
    0x607A: ("Target position", _I32, 0),
    0x6502: ("Supported drive modes", _U32, 1 << 7),
}
_RECORDS = {
    0x1016: ("Consumer heartbeat time", ((_U8, 1), (_U32, 0))),
    0x1018: ("Identity object", ((_U8, 1), (_U32, 0))),
    0x1029: ("Error behaviour", ((_U8, 1), (_U8, 0))),
    0x60C2: ("Interpolation time period", ((_U8, 2), (_U8, 1), (_I8, -3))),
    0x1400: ("RPDO1 parameter", ((_U8, 2), (_U32, _PDO_INVALID), (_U8, 255))),
    0x1600: ("RPDO1 mapping", ((_U8, 0), *((_U32, 0),) * 4)),
    0x1800: ("TPDO1 parameter", ((_U8, 2), (_U32, _PDO_INVALID), (_U8, 255))),
    0x1801: ("TPDO2 parameter", ((_U8, 2), (_U32, _PDO_INVALID), (_U8, 255))),
    0x1A00: ("TPDO1 mapping", ((_U8, 0), *((_U32, 0),) * 4)),
    0x1A01: ("TPDO2 mapping", ((_U8, 0), *((_U32, 0),) * 4)),
}
_READ_ONLY = frozenset(
    (0x1000, 0x1001, 0x6041, 0x6061, 0x6062, 0x6064, 0x606C, 0x6077, 0x6078, 0x6502)
)


class State(enum.Enum):
    """States of the power drive system, with their statusword (bits 0 to 3, 5 and 6)."""

    SWITCH_ON_DISABLED = 0x40
    READY = 0x21
    SWITCHED_ON = 0x23
    ENABLED = 0x27
    QUICK_STOP = 0x07
    FAULT = 0x08


_HOLDS = (State.ENABLED, State.QUICK_STOP)
"""states in which the motor has power"""


def dictionary() -> canopen.ObjectDictionary:
    """The object dictionary of a drive."""
    made = canopen.ObjectDictionary()
    for index, (name, kind, value) in _PLAIN.items():
        made.add_object(_variable(index, 0, name, kind, value))
    for index, (name, members) in _RECORDS.items():
        record = od.ODRecord(name, index)
        for sub, (kind, value) in enumerate(members):
            record.add_member(_variable(index, sub, f"{name} {sub}", kind, value))
        made.add_object(record)
    return made


def _variable(index: int, sub: int, name: str, kind: int, value: int) -> od.ODVariable:
    variable = od.ODVariable(name, index, sub)
    variable.data_type = kind
    variable.default = value
    variable.access_type = "ro" if index in _READ_ONLY else "rw"
    variable.pdo_mappable = index >= 0x6000
    return variable


class Joint:
    """A joint that follows its target with limited velocity and acceleration; SI.

    load: what a weight would accelerate it by, [rad/s^2]. With a load it falls where it has no
    power, and stands beside its target where it has: that error carries the load.
    """

    def __init__(self, velocity_max: float = 3.0, acceleration_max: float = 40.0) -> None:
        self.position = self.velocity = self.acceleration = self.load = 0.0
        self.travel = 0.0
        """all of its way, back and forth"""
        self._velocity_max, self._acceleration_max = velocity_max, acceleration_max

    def permille(self, rated: float) -> float:
        """Torque or current in thousandths of the rated one: here, of its acceleration alone."""
        return self.acceleration * 10

    @property
    def target_here(self) -> float:
        """The target at which it stands where it is."""
        return self.position - self.load / _STIFFNESS

    def step(self, target: float | None, seconds: float, has_power: bool) -> None:
        """Move on; without a target the velocity goes to zero, unless there is a load."""
        wanted = 0.0
        if self.load and not has_power:
            wanted = math.copysign(math.inf, self.load)
        if target is not None:
            # no faster than it can still brake before the target
            way = target + self.load / _STIFFNESS - self.position
            brake = math.sqrt(2 * 0.5 * self._acceleration_max * abs(way))
            wanted = math.copysign(min(self._velocity_max, brake, abs(way) / seconds), way)
        change = (
            self._acceleration_max if has_power or not self.load else abs(self.load)
        ) * seconds
        before = self.velocity
        self.velocity += min(max(wanted - before, -change), change)
        self.acceleration = (self.velocity - before) / seconds
        self.position += self.velocity * seconds
        self.travel += abs(self.velocity) * seconds


class Drive:
    """One node. `node_id`, `counts_per_rad`: as its user has them. Thread: the loop's."""

    def __init__(
        self,
        network: canopen.Network,
        node_id: int,
        counts_per_rad: float,
        now_ns: int,
        joint: "Joint | WorldJoint",
    ) -> None:
        self.node_id = node_id
        self.joint = joint
        self._state = State.SWITCH_ON_DISABLED
        self.let_go = 0
        """how often it took the power from its motor"""
        self._demand = joint.position
        """where position control holds, while it does"""
        self._stands = False  # a quick stop is over
        self.syncs = self.commands = 0
        self.present = False
        self.marks = False
        """torques say the number of their sample"""
        self.samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_MAX)
        """number, and when its SYNC came"""
        self._network = network
        self._scale = counts_per_rad
        self._now_ns = now_ns
        self.power_on(now_ns)

    @property
    def state(self) -> State:
        """Of the power drive system."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if self.has_power and state not in _HOLDS:
            self.let_go += 1
        if state in _HOLDS and not self.has_power:
            self._demand = self.joint.position
        self._stands = False
        self._state = state

    @property
    def has_power(self) -> bool:
        """True if the motor has."""
        return self._state in _HOLDS

    # ---- life ----------------------------------------------------------------------------

    def power_on(self, now_ns: int) -> None:
        """Boot: everything that was configured is forgotten, the joint is where it was."""
        self.state, self._error_code, self._controlword = State.SWITCH_ON_DISABLED, 0, 0
        self._master_heard_ns: int | None = None
        self._master_id = self._master_ns = 0
        self._pending: list[PdoMap] = []
        self._mode = 0
        self._is_operational = self._is_mute = False
        self._serves = True
        self.faults: list[str] = []
        """what happens at the coming SYNCs, one each: silent, twice or short"""
        self.present = True
        self.node = canopen.LocalNode(self.node_id, dictionary())
        self.node.add_read_callback(self._on_read)
        self.node.add_write_callback(self._on_write)
        self._network[self.node_id] = self.node
        self._network.subscribe(0x000, self._on_nmt)
        self.node.nmt.state = "INITIALISING"
        self.node.nmt.state = "PRE-OPERATIONAL"

    def power_off(self) -> None:
        """Vanish from the bus at once, as with a plug that is pulled; the joint comes to rest."""
        self.present = False
        self.state = State.SWITCH_ON_DISABLED
        self.node.nmt.stop_heartbeat()
        del self._network[self.node_id]
        self._network.unsubscribe(0x000, self._on_nmt)

    def fail(self, code: int) -> None:
        """A fault of the drive: state `fault`, and an EMCY with its error code."""
        self.state, self._error_code = State.FAULT, code
        self.node.emcy.send(code, 0x01)

    def mute(self, is_mute: bool) -> None:
        """Answer no SDO any more, or again."""
        self._is_mute = is_mute
        self._serve()

    def _serve(self) -> None:
        """SDO is served, but not in NMT `stopped` (CiA 301, 7.3.2.2)."""
        sdo, is_silent = self.node.sdo, self._is_mute or self.node.nmt.state == "STOPPED"
        if is_silent and self._serves:
            self._network.unsubscribe(sdo.rx_cobid, sdo.on_request)
        elif not is_silent and not self._serves:
            self._network.subscribe(sdo.rx_cobid, sdo.on_request)
        self._serves = not is_silent

    def status(self) -> dict[str, object]:
        """The state for the control channel."""
        return {
            "state": self.state.name,
            "nmt": self.node.nmt.state if self.present else "OFF",
            "position": self.joint.position,
            "velocity": self.joint.velocity,
            "power": self.has_power,
            "mode": self._mode,
            "let_go": self.let_go,
            "travel": self.joint.travel,
            "error_code": self._error_code,
            "syncs": self.syncs,
            "commands": self.commands,
        }

    # ---- time ----------------------------------------------------------------------------

    def work(self, now_ns: int) -> None:
        """Move the joint on to `now_ns`."""
        while self._now_ns < now_ns:
            step_ns = min(_STEP_NS, now_ns - self._now_ns)
            self.joint.step(self._held(), step_ns * 1e-9, self.has_power)
            self._now_ns += step_ns
        if self.state is State.QUICK_STOP and self.joint.velocity == 0 and self._value(0x605A) == 2:
            self.state = State.SWITCH_ON_DISABLED

    def _held(self) -> float | None:
        """Where position control holds the joint; None: it brakes, or there is no power."""
        if self.state is State.QUICK_STOP and not self._stands:
            self._stands = self.joint.velocity == 0
            if not self._stands:
                return None
            self._demand = self.joint.target_here
        target = self._target()
        if target is not None:
            self._demand = target
        return self._demand if self.has_power else None

    def watch(self, now_ns: int) -> None:
        """Look for the master's heartbeat, after all that has come was taken in."""
        heard_ns = self._master_heard_ns
        if self.present and heard_ns is not None and now_ns - heard_ns > self._master_ns > 0:
            self._lose_master()

    def _target(self) -> float | None:
        if self.state is State.ENABLED and self._mode == _CYCLIC_POSITION:
            return self._value(0x607A) / self._scale
        return None

    def _lose_master(self) -> None:
        """The heartbeat consumer's time is over (1016h): EMCY, 1029h, and what 6007h says."""
        self._master_heard_ns = None
        self.node.emcy.send(_HEARTBEAT_LOST, 0x11)
        self._error_code = _HEARTBEAT_LOST
        if self.node.nmt.state == "OPERATIONAL" and self._value(0x1029, 1) == 0:
            self.node.nmt.state = "PRE-OPERATIONAL"
            self._is_operational = False
        self._abort_connection()

    def _abort_connection(self) -> None:
        """Do as 6007h says."""
        reaction = self._value(0x6007)
        if reaction == 1:
            self.state = State.FAULT
        elif self.has_power and reaction == 3:
            self.state = State.QUICK_STOP
        elif reaction in (2, 3):
            self.state = State.SWITCH_ON_DISABLED

    # ---- the bus -------------------------------------------------------------------------

    def on_sync(self, now_ns: int) -> None:
        """Put into effect what came, and send what is mapped to this SYNC (CiA 301, 7.2.2.3)."""
        if not self.present or self.node.nmt.state != "OPERATIONAL":
            return
        self.work(now_ns)
        self.syncs += 1
        for pdo in self._pending:
            self._apply(pdo)
        self._pending.clear()
        fault = self.faults.pop(0) if self.faults else ""
        self._send_samples(now_ns, fault)

    def flood(self, now_ns: int, count: int) -> None:
        """Send so many samples that no SYNC asked for, all at once."""
        for _ in range(count):
            self._send_samples(now_ns, "")

    def _send_samples(self, now_ns: int, fault: str) -> None:
        if self.marks:
            number = (self.samples[-1][0] + 1) % _MARK_MAX if self.samples else 0
            self.samples.append((number, now_ns))
        for pdo in self._maps(self.node.tpdo, 1):
            pdo.data = bytearray(-(-pdo.length // 8))
            for variable in pdo.map:
                variable.set_data(self.node.get_data(variable.index, variable.subindex))
            if fault == "short":
                self._network.send_message(int(pdo.cob_id or 0), bytes(pdo.data[:3]))
            elif fault != "silent":
                pdo.transmit()
            if fault == "twice":
                pdo.transmit()

    @staticmethod
    def _maps(pdos: PdoBase, kind: int) -> list[PdoMap]:
        return [pdo for pdo in pdos.values() if pdo.enabled and pdo.trans_type == kind]

    def _on_nmt(self, can_id: int, data: bytearray, stamp: float) -> None:
        """After LocalNode has changed its state: read the PDOs, which were configured by now.

        A motor with power that leaves `operational` has lost its master, as some makers have it
        (CiA 402-2 names `stopped` and the resets alone): what 6007h says is done.
        """
        if len(data) != 2 or data[1] not in (0, self.node_id):
            return
        self._serve()
        was_operational, self._is_operational = self._is_operational, data[0] == 1
        if not self._is_operational:
            if was_operational and self.has_power:
                self._abort_connection()
            return
        for pdo in (*self.node.rpdo.values(), *self.node.tpdo.values()):
            pdo.callbacks.clear()
            pdo.read()
        for pdo in self.node.rpdo.values():
            pdo.add_callback(self._on_rpdo)

    def _on_rpdo(self, pdo: PdoMap) -> None:
        if not self.present or self.node.nmt.state != "OPERATIONAL":
            return
        if len(pdo.data) * 8 < pdo.length:
            self.node.emcy.send(_PDO_LENGTH, 0x11)
            return
        self.commands += 1
        if int(pdo.trans_type or 0) <= 240:
            self._pending.append(pdo)
        else:
            self._apply(pdo)

    def _apply(self, pdo: PdoMap) -> None:
        for variable in pdo.map:
            self.node.set_data(variable.index, variable.subindex, bytes(variable.get_data()))

    def _on_heartbeat(self, can_id: int, data: bytearray, stamp: float) -> None:
        if self.present and can_id == 0x700 + self._master_id:
            self._master_heard_ns = self._now_ns

    # ---- the dictionary ------------------------------------------------------------------

    def _value(self, index: int, sub: int = 0) -> int:
        return int(self._entry(index, sub).decode_raw(self.node.get_data(index, sub)))

    def _entry(self, index: int, sub: int) -> od.ODVariable:
        entry = self.node.object_dictionary[index]
        if isinstance(entry, od.ODVariable):
            return entry
        member: od.ODVariable = entry[sub]
        return member

    def put(self, index: int, sub: int, value: int) -> None:
        """Set an object as a manufacturer would, also one that is read only."""
        data = self._entry(index, sub).encode_raw(value)
        self.node.data_store.setdefault(index, {})[sub] = data

    def _on_read(self, index: int, subindex: int, od: od.ODVariable) -> int | None:
        if index == 0x6041:
            return self._statusword()
        if index == 0x6061:
            return self._mode
        if self.marks and self.samples and index == 0x6077:
            return self.samples[-1][0]
        if index in (0x6077, 0x6078):
            return round(self._permille(0x6076 if index == 0x6077 else 0x6075))
        values = {
            0x603F: self._error_code,
            0x6062: (self._demand if self.has_power else self.joint.position) * self._scale,
            0x6064: self.joint.position * self._scale,
            0x606C: self.joint.velocity * self._scale,
        }
        return round(values[index]) if index in values else None

    def _permille(self, rated: int) -> float:
        """Torque or current in thousandths of the object that says the rated one."""
        return max(-32768, min(32767, self.joint.permille(self._value(rated) * 1e-3)))

    def _statusword(self) -> int:
        voltage = 0x10 if self.state is not State.SWITCH_ON_DISABLED else 0
        follows = 0x1000 if self._target() is not None else 0
        return self.state.value | voltage | follows | 0x0200

    def _on_write(self, index: int, subindex: int, od: od.ODVariable, data: bytes) -> None:
        value = int.from_bytes(data, "little")
        if index in (0x1600, 0x1A00, 0x1A01):
            # CiA 301, 7.5.2.36 and 7.5.2.38: only an invalid PDO, without entries, is mapped
            valid = not self._value(index - 0x200, 1) & _PDO_INVALID
            if self._is_operational or valid or (subindex and self._value(index, 0)):
                raise SdoAbortedError(_ABORT_STATE)
        elif index == 0x1016 and subindex == 1:
            self._master_id, self._master_ns = value >> 16 & 0x7F, (value & 0xFFFF) * 1_000_000
            self._master_heard_ns = None  # watched from its next heartbeat on
            self._network.subscribe(0x700 + self._master_id, self._on_heartbeat)
        elif index == 0x6040:
            self._on_controlword(value)
        elif index == 0x6060:
            self._on_mode(int.from_bytes(data, "little", signed=True))

    def _on_mode(self, mode: int) -> None:
        """CiA 402-2, 6060h: a mode that is supported; while enabled, where the maker allows it."""
        if mode > 0 and not self._value(0x6502) >> (mode - 1) & 1:
            raise SdoAbortedError(_ABORT_RANGE)
        if self.state is not State.ENABLED or not self._value(0x2000):
            self._mode = mode

    def _on_controlword(self, word: int) -> None:
        """The transitions of CiA 402-2, "State machine", by their numbers."""
        rising = word & ~self._controlword
        self._controlword = word
        state = self.state
        if state is State.FAULT:
            if rising & 0x80:  # 15
                self.state, self._error_code = State.SWITCH_ON_DISABLED, 0
                self.node.emcy.reset()
            return
        wanted = word & 0x0F
        if not wanted & 0x02:  # disable voltage: 7, 9, 10, 12
            self.state = State.SWITCH_ON_DISABLED
        elif not wanted & 0x04:  # quick stop: 7, 10, 11
            if state is State.ENABLED:
                self.state = State.QUICK_STOP
            elif state is not State.QUICK_STOP:
                self.state = State.SWITCH_ON_DISABLED
        elif not wanted & 0x01:  # shutdown: 2, 6, 8
            if state is not State.QUICK_STOP:
                self.state = State.READY
        elif not wanted & 0x08:  # switch on: 3; disable operation: 5
            if state in (State.READY, State.ENABLED):
                self.state = State.SWITCHED_ON
        else:
            self._enable_operation(rising)

    def _enable_operation(self, rising: int) -> None:
        """Transitions 4 and 16; in profile position mode, a rising bit 4 is a new set-point."""
        stays = self.state is State.QUICK_STOP and self._value(0x605A) in _STAYS
        if self.state is State.SWITCHED_ON or stays:
            self.state = State.ENABLED
        if self.state is State.ENABLED and self._mode == _PROFILE_POSITION and rising & 0x10:
            self._demand = self._value(0x607A) / self._scale
