"""Power of drives: their state machine, and who holds a load (CiA 402-2, "State machine of the
power drive system").

A drive that holds when it is found keeps its power and its target, until it is enabled by us.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from inphase.driver import DeviceError

from . import objects as od
from .bus import Bus, download
from .nodes import STATE_NS, Nodes
from .objects import state_of

_STANDSTILL_RAD_S = 0.02
_OFF_MAX_RAD = 0.1  # how far a load may hold a joint beside the demand of its position control
_REMEDY = "support the arm, switch the drive off, start again"
_REST_NS = 100_000_000  # how long a velocity has to stay above that: one value may be noise
_POWERED = (od.READY, od.SWITCHED_ON, od.ENABLED, od.QUICK_STOP_ACTIVE, od.REACTING)
_HOLDS = (od.ENABLED, od.QUICK_STOP_ACTIVE)
"""states in which the motor has power"""


class _Found(NamedTuple):
    """The state of a drive that held when it was found; it has it again if we do not enable it."""

    abort: int
    """object 6007h"""
    consumer: int
    """object 1016h"""


class Power:
    """The power of all nodes. Thread: one at a time. Every method raises DeviceError."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._ours: set[int] = set()  # enabled by us, and not known to be off since
        self._spared: set[int] = set()  # held, and were refused: their power is not ours to take
        self.forget()

    def forget(self) -> None:
        """Forget what was found, and not what was enabled by us."""
        self.found: dict[int, _Found] = {}
        """drives that hold, until they are enabled by us"""
        self.goals: tuple[float, ...] = ()
        """the targets of the drives, in rad"""

    # ---- drives that hold ----------------------------------------------------------------

    def find_holding(self) -> list[int]:
        """The nodes that hold, at rest. Raises DeviceError for the first that does not answer, once
        those that do are at rest."""
        nodes, bus = self._nodes, self._nodes.open_bus()
        answering = bus.answering(nodes.options.nodes, od.STATUSWORD)
        holding = self._bring_to_rest(answering)
        # a node in NMT `stopped` answers no SDO (CiA 301, 7.3.2.2); it has let go by then
        silent = [node for node in nodes.options.nodes if node not in answering]
        for node in silent:
            bus.send(od.NMT, bytes([od.NMT_PRE_OPERATIONAL, node]))
        for node in silent:
            self._state(node)
        return holding + self._bring_to_rest(silent)

    def keep(self, node: int) -> None:
        """Have a drive go on holding when it leaves `operational`.

        CiA 402-2 lets 6007h act on a lost heartbeat and on NMT `stopped`; some drives let it act
        on every way out of `operational`.
        """
        nodes = self._nodes
        abort = nodes.get(node, od.ABORT_CONNECTION, absent=od.NOTHING_ON_ABORT)
        self.found[node] = _Found(abort, nodes.get(node, od.HEARTBEAT_CONSUMER))
        if abort != od.NOTHING_ON_ABORT:
            nodes.set(node, od.ABORT_CONNECTION, od.NOTHING_ON_ABORT)

    def give_back(self, bus: Bus, node: int) -> None:
        """Give a drive that holds back its state. It no longer waits for our heartbeat, which
        ends."""
        abort, consumer = self.found[node]
        own_id = self._nodes.options.own_id
        consumer = 0 if consumer >> 16 & 0x7F == own_id else consumer
        bus.send(od.SDO_REQUEST + node, download(od.HEARTBEAT_CONSUMER, consumer))
        bus.send(od.SDO_REQUEST + node, download(od.ABORT_CONNECTION, abort))

    def standing_command(self, node: int) -> tuple[int, int]:
        """The controlword and the target that change nothing in a node."""
        nodes = self._nodes
        state, word, target = self._state(node), od.DISABLE_VOLTAGE, od.POSITION
        if state in _HOLDS:
            target = od.TARGET
            word = od.QUICK_STOP
        if state == od.ENABLED:
            last = nodes.get(node, od.CONTROLWORD)
            enables = last & od.COMMAND_BITS == od.ENABLE_OPERATION
            word = last if enables else od.ENABLE_OPERATION
        return word, nodes.get(node, target)

    # ---- bring to rest -------------------------------------------------------------------

    def _bring_to_rest(self, some: list[int]) -> list[int]:
        """Stop every drive that has power and moves; those that hold, all of them at rest.

        All are told to stop before one is waited for, and one that fails keeps no other moving.
        Raises DeviceError at the end, for what failed and for what moved. A quick stop that is
        under way is waited for and not told: the drive does as it was set up.
        """
        holding, moving, told, troubles = [], {}, [], []
        for node in some:
            try:
                state = self._state(node)
                if state == od.ENABLED and (velocity := self._moves(node, _REST_NS)):
                    moving[node] = velocity, self._stop(node)
                elif state == od.QUICK_STOP_ACTIVE:
                    self._moves(node, self._stop_ns)
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
            nodes = self._nodes
            troubles.append(
                f"device {nodes.device}: drives on {nodes.open_bus().where} moved, and no other "
                f"program may command them: {'; '.join(told)}; end it, then start again"
            )
        if troubles:
            raise DeviceError("; ".join(troubles))
        return holding

    def _moves(self, node: int, patience_ns: int) -> float:
        """The velocity of a joint that does not come to rest in that time, in rad/s; else 0."""
        scale = abs(self._nodes.velocity_scale[self._nodes.index[node]])
        slow = self._is_slow(node)
        velocity = self._nodes.poll(node, od.VELOCITY, slow, patience_ns)
        return 0.0 if slow(velocity) else abs(velocity) / scale

    def _stop(self, node: int) -> int | None:
        """Quick stop, after which the drive is to keep its power, where it can (605Ah). The option
        that it had; None: it keeps it."""
        nodes = self._nodes
        option = nodes.get(node, od.QUICK_STOP_OPTION, absent=od.STAY_AFTER_QUICK_STOP)
        changes = option not in od.STAYS_AFTER_QUICK_STOP
        if changes:
            with contextlib.suppress(DeviceError):
                nodes.set(node, od.QUICK_STOP_OPTION, od.STAY_AFTER_QUICK_STOP)
        nodes.put(node, od.CONTROLWORD, od.QUICK_STOP)
        return option if changes else None

    def _hold(self, node: int, option: int | None) -> str:
        """After `_stop`: wait for rest, and hold there; what became of it."""
        self._nodes.wait(node, od.VELOCITY, self._is_slow(node), self._stop_ns)
        holds = self._state(node) == od.QUICK_STOP_ACTIVE
        if holds:
            self._take_over(node)
        if option is not None:
            self._nodes.put(node, od.QUICK_STOP_OPTION, option)
        return "was stopped and holds" if holds else "was stopped and has no power"

    def _is_slow(self, node: int) -> Callable[[int], bool]:
        slow = abs(_STANDSTILL_RAD_S * self._nodes.velocity_scale[self._nodes.index[node]])
        return lambda velocity: abs(velocity) <= slow

    # ---- enable --------------------------------------------------------------------------

    def rest(self) -> list[int]:
        """Before `enable`: the nodes that hold, at rest; their power is not ours yet."""
        self._spared = set(self.found) - self._ours
        holding = self._bring_to_rest(self._nodes.options.nodes)
        self._spared |= set(holding) - self._ours
        return holding

    def refuse_mode(self, node: int) -> None:
        """Raises DeviceError for a drive that has not our mode, or that would have to let go."""
        nodes = self._nodes
        supported = nodes.get(node, od.MODES_SUPPORTED)
        if not supported & od.CYCLIC_POSITION_BIT:
            raise nodes.refusal(
                node,
                od.MODES_SUPPORTED,
                f"is 0x{supported:08X}: this drive has no cyclic synchronous position mode",
            )
        mode = nodes.get(node, od.MODE_DISPLAY)
        if mode not in od.POSITION_MODES and self._state(node) == od.ENABLED:
            raise nodes.refusal(
                node,
                od.MODE_DISPLAY,
                f"is {mode}: the drive holds without a position that it could keep; {_REMEDY}",
            )

    def enable(self, holding: list[int]) -> None:
        """Every drive to `operation enabled`; those that hold keep their power meanwhile."""
        nodes, o = self._nodes, self._nodes.options
        for node in o.nodes:
            nodes.ensure(node, od.HEARTBEAT_CONSUMER, o.own_id << 16 | o.watchdog_ms)
            nodes.set(node, od.ABORT_CONNECTION, od.QUICK_STOP_ON_ABORT)
            if node not in holding:
                self._switch_on(node)
        goals = []
        for node, i in nodes.index.items():
            if node in holding:
                goal = self._take_over(node)
            else:
                goal = nodes.get(node, od.POSITION)
                nodes.set(node, od.TARGET, goal)
                self._command(node, od.ENABLE_OPERATION, od.ENABLED)
            goals.append(goal / nodes.position_scale[i])
            nodes.error_code[i], nodes.status[i] = 0, nodes.get(node, od.STATUSWORD)
        self.goals = tuple(goals)

    def take(self) -> None:
        """After `enable`: the power of all drives is ours."""
        self._ours = set(self._nodes.options.nodes)
        self._spared.clear()
        self.found.clear()

    def undo(self, bus: Bus, holding: list[int]) -> None:
        """After an `enable` that failed: what held goes on holding, the others are off."""
        self._nodes.send_all(od.DISABLE_VOLTAGE, holding)
        with contextlib.suppress(DeviceError):
            for node in holding:
                self.found.setdefault(node, _Found(od.NOTHING_ON_ABORT, 0))
                self.give_back(bus, node)

    def _take_over(self, node: int) -> int:
        """Bring a drive that holds to `operation enabled` in our mode, where it holds, and without
        a moment of no power; its target, in counts.

        In our mode it keeps its target. In another position mode, after a quick stop, or where
        bit 12 of the statusword says that the target is not followed, the target becomes the
        demand of the position control (6062h), and 6060h is changed in `operation enabled`, which
        CiA 402-2 leaves to the maker.
        """
        nodes = self._nodes
        state, mode = self._state(node), nodes.get(node, od.MODE_DISPLAY)
        target = nodes.get(node, od.TARGET)
        cyclic = mode == od.CYCLIC_POSITION
        if state == od.ENABLED and cyclic and nodes.get(node, od.STATUSWORD) & od.FOLLOWS_BIT:
            return target
        here = nodes.get(node, od.POSITION)
        stands = cyclic or state == od.QUICK_STOP_ACTIVE
        goal = here
        if mode in od.POSITION_MODES:
            goal = nodes.get(node, od.DEMAND, absent=here if stands else None)
        off = abs((goal - here) / nodes.position_scale[nodes.index[node]])
        if off > _OFF_MAX_RAD:
            if not stands:
                raise nodes.refusal(
                    node, od.DEMAND, f"is {off:.3f} rad beside the measured position; {_REMEDY}"
                )
            goal = here  # it was not kept up to date
        if goal != target:
            nodes.set(node, od.TARGET, goal)
        if not cyclic:
            self._change_mode(node, mode)
        # from "quick stop active", or out of a halt
        self._command(node, od.ENABLE_OPERATION, od.ENABLED)
        return goal

    def _change_mode(self, node: int, mode: int) -> None:
        """From `mode` to ours, with power on. Raises DeviceError with the drive as it was."""
        nodes = self._nodes
        nodes.put(node, od.MODE, od.CYCLIC_POSITION)
        shown = nodes.poll(node, od.MODE_DISPLAY, lambda one: one == od.CYCLIC_POSITION, STATE_NS)
        if shown != od.CYCLIC_POSITION:
            nodes.put(node, od.MODE, mode)
            raise nodes.refusal(node, od.MODE, f"stays {mode} while the drive holds; {_REMEDY}")

    def _switch_on(self, node: int) -> None:
        """Up to `switched on`, of a drive that does not hold."""
        nodes = self._nodes
        state = self._state(node)
        if state in (od.FAULT, od.REACTING):
            # a rising edge of bit 7
            nodes.put(node, od.CONTROLWORD, od.DISABLE_VOLTAGE)
            self._command(node, od.FAULT_RESET, od.SWITCH_ON_DISABLED)
        elif state in _POWERED:
            self._disable(node)
        nodes.put(node, od.MODE, od.CYCLIC_POSITION)
        nodes.wait(node, od.MODE_DISPLAY, lambda mode: mode == od.CYCLIC_POSITION, STATE_NS)
        self._command(node, od.SHUTDOWN, od.READY)
        self._command(node, od.SWITCH_ON, od.SWITCHED_ON)

    def torque(self, node: int) -> bool | None:
        """A motor has power, and keeps it without our heartbeat; None: that is not known."""
        nodes = self._nodes
        try:
            if self._state(node) not in _HOLDS:
                return False if self._state(node) not in _POWERED else None
            option = nodes.get(node, od.QUICK_STOP_OPTION, absent=0)
            return True if option in od.STAYS_AFTER_QUICK_STOP else None
        except DeviceError:
            return None

    # ---- disable -------------------------------------------------------------------------

    def disable(self) -> None:
        """Every node off, but for those whose power is not ours; all troubles at the end."""
        self._nodes.send_all(od.QUICK_STOP, self._spared)
        self._nodes.enabled = False
        troubles = []
        for node in self._nodes.options.nodes:
            if node in self._spared:
                continue
            try:
                self._disable(node)
                self._ours.discard(node)
            except DeviceError as error:
                troubles.append(str(error))
        if troubles:
            raise DeviceError("; ".join(troubles))

    def disable_unknown(self, node: int) -> None:
        """A node that was not found to hold, and has power nevertheless."""
        if node not in self.found and self._state(node) in _POWERED:
            self._disable(node)

    def _disable(self, node: int) -> None:
        nodes = self._nodes
        if self._state(node) in _HOLDS:
            nodes.put(node, od.CONTROLWORD, od.QUICK_STOP)
            nodes.wait(node, od.VELOCITY, self._is_slow(node), self._stop_ns)
        nodes.put(node, od.CONTROLWORD, od.DISABLE_VOLTAGE)
        nodes.wait(node, od.STATUSWORD, lambda status: state_of(status) not in _POWERED, STATE_NS)

    # ---- states --------------------------------------------------------------------------

    @property
    def _stop_ns(self) -> int:
        """How long a quick stop may take."""
        return self._nodes.options.stop_ms * 1_000_000

    def _state(self, node: int) -> str:
        """Of the power drive system; one without a statusword is no drive, and not ready."""
        return state_of(self._nodes.get(node, od.STATUSWORD, absent=0))

    def _command(self, node: int, controlword: int, wanted: str) -> None:
        """Write the controlword and wait until the statusword says the state that follows."""
        self._nodes.put(node, od.CONTROLWORD, controlword)
        self._nodes.wait(node, od.STATUSWORD, lambda status: state_of(status) == wanted, STATE_NS)
