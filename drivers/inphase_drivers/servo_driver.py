"""Shared by drivers of servos on one serial bus: options, and torque that goes off safely."""

import os
from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from inphase.driver import Bound, DeviceError, Driver

from .servo_registers import REPLY_S, TRIES, ServoRegisters


class ServoBusOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with servos on one serial bus."""

    port: str
    """the serial port"""
    ids: Annotated[list[Annotated[int, Meta(ge=0, le=252)]], Meta(min_length=1, max_length=20)]
    """of the servos, in the order of the channels"""
    baud: int
    """bits per second, as set in the servos"""
    adapter_latency_us: Annotated[int, Meta(ge=0, le=20_000)] = 2_000
    """what the serial adapter may add to a reply, for the worst case"""
    start_position: float | list[float] = 0.0
    """where the simulated twin starts, rad"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"ids must be different from each other, got {self.ids}")
        start = self.start_position
        if isinstance(start, list) and len(start) != len(self.ids):
            raise ValueError(
                f"start_position: one number, or one per servo ({len(self.ids)}), expected, got "
                f"{start}"
            )

    @property
    def starts(self) -> list[float]:
        """`start_position` of each servo."""
        start = self.start_position
        return start if isinstance(start, list) else [start] * len(self.ids)

    def wire_ns(self, size: int) -> int:
        """Time of bytes on the wire: start bit, 8 data bits, stop bit."""
        return size * 10 * 1_000_000_000 // self.baud


class ServoDriver(Driver):
    """Servos on one bus. A servo that held before a failed `enable` goes on holding."""

    options: ServoBusOptions
    registers: ServoRegisters
    torque_register: ClassVar[int]

    def __init__(self, name: str, options: ServoBusOptions) -> None:
        super().__init__(name, options)
        self._goals: tuple[float, ...] = ()
        self._ours: set[int] = set()  # enabled by us, and not known to be off since
        self._spared: set[int] = set()  # held before an `enable` that failed
        self._bounds: tuple[Bound, ...] = ()  # known once it was opened

    @property
    def address(self) -> str:
        """The port's path."""
        return os.path.abspath(self.options.port)  # noqa: PTH100 - resolves no link

    @abstractmethod
    def examine(self) -> None:
        """Ask every servo: its model, the registers that matter, the goals that it takes. Then ask
        once what every cycle will ask. Raises DeviceError."""

    @abstractmethod
    def check_faults(self, ident: int) -> None:
        """Raise DeviceError where a servo has a fault, with its name and remedy."""

    @abstractmethod
    def prepare(self, holding: set[int]) -> None:
        """Raise DeviceError where a servo that holds would have to let go; nothing is written."""

    @abstractmethod
    def switch_on(self, holding: set[int]) -> tuple[float, ...]:
        """Goals, then torque on, of those that do not hold. Returns the goals. Read back."""

    def after_torque_off(self, ident: int) -> None:
        """Write what follows the torque of one servo."""

    def open(self) -> int:
        """Open the port and examine the servos. Raises DeviceError, with the port closed."""
        self.registers.open()
        try:
            self.examine()
            return self.registers.hand_over()
        except BaseException:
            self.close()
            raise

    def enable(self) -> None:
        """Switch on, from the measured pose; a servo that holds is never let go.

        If it fails, servos that held go on holding, and the others are off.
        """
        holding = self._find_holding()
        self.prepare(holding)
        try:
            self._goals = self.switch_on(holding)
        except BaseException:
            self._switch_off(ident for ident in self.options.ids if ident not in holding)
            raise
        self._ours = set(self.options.ids)
        self._spared.clear()

    def _find_holding(self) -> set[int]:
        """The servos whose torque is on. Raises DeviceError after all were asked."""
        holding, silent = set(), None
        for ident in self.options.ids:
            try:
                if self.registers.read(ident, self.torque_register, 1):
                    holding.add(ident)
            except DeviceError as error:
                silent = error
        self._spared = holding - self._ours
        if silent is not None:
            raise silent
        return holding

    def goals(self) -> tuple[float, ...]:
        """In position mode the goals in the servos' registers, in rad."""
        return self._goals if self.mode == "position" else ()

    def torque(self) -> tuple[bool | None, ...]:
        """The servos' own registers; None of one that does not answer."""
        return tuple(self._reads_torque(ident) for ident in self.options.ids)

    def _reads_torque(self, ident: int) -> bool | None:
        try:
            return bool(self.registers.read(ident, self.torque_register, 1))
        except DeviceError:
            return None

    def disable(self) -> None:
        """Torque off; read back.

        A servo that does not answer keeps no other on: all are tried, and all errors are raised at
        the end. A servo that held before a failed `enable` goes on holding.
        """
        troubles = self._switch_off(
            ident for ident in self.options.ids if ident not in self._spared
        )
        if troubles:
            raise DeviceError("; ".join(troubles))

    def _switch_off(self, idents: Iterable[int]) -> list[str]:
        """Try all; the troubles."""
        troubles = []
        for ident in idents:
            try:
                self.registers.write(ident, self.torque_register, 0, 1)
                self.registers.expect(ident, "torque enable", self.torque_register, 0)
                self._ours.discard(ident)
                self.after_torque_off(ident)
            except DeviceError as error:
                troubles.append(str(error))
        return troubles

    def faults(self) -> list[str]:
        """The servos' faults, by name."""
        found = []
        for ident in self.options.ids:
            try:
                self.check_faults(ident)
            except DeviceError as error:
                found.append(str(error))
        return found

    @property
    def switching_max_ns(self) -> int:
        """Each servo may be silent, for one question; what answers takes a millisecond or two."""
        silent_s = len(self.options.ids) * TRIES * REPLY_S
        return max(super().switching_max_ns, int((silent_s + 1.0) * 1e9))

    def close(self) -> None:
        """Close the port."""
        self.registers.close()
