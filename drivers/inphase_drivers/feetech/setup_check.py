"""The questions to each Feetech servo before it may be used: its model, its set-up, its faults."""

from inphase.driver import Bound, DeviceError

from .control_table import (
    BAUD_INDEX,
    BAUD_RATE,
    CENTRE,
    COUNTS,
    MAX_POSITION,
    MIN_POSITION,
    MODEL_NUMBER,
    MODELS,
    OPERATING_MODE,
    POSITION_MODE,
    RAD_PER_COUNT,
    RESPONSE_LEVEL,
    RETURN_DELAY,
    STATUS,
    TORQUE_ENABLE,
)
from .options import FeetechOptions
from .registers import FeetechRegisters

# bits of the status register and of an answer's error byte (the maker's SDK), and what helps
_FAULTS = {
    0x01: ("input voltage", "check its supply"),
    0x02: ("angle sensor", "the servo needs repair if it comes back"),
    0x04: ("overheating", "let it cool down"),
    0x08: ("too much current", "find what holds or pushes it"),
    0x20: ("overload", "find what holds or pushes it, and lower its load"),
}


def fault_names(bits: int) -> list[str]:
    """The names of the faults in a status; one that the maker does not name has its number."""
    names = [name for bit, (name, _) in _FAULTS.items() if bits & bit]
    if rest := bits & ~sum(_FAULTS):
        names.append(f"fault {rest:#04x}, which the maker does not name")
    return names


class FeetechSetup:
    """Questions to the servos of one device. Raises DeviceError with servo, register, value."""

    def __init__(self, device: str, options: FeetechOptions, registers: FeetechRegisters) -> None:
        self._device = device
        self._options = options
        self._registers = registers

    def check_setup(self, ident: int) -> None:
        """Its model, its line, its way to answer; mode and return delay are set where it is free.

        A servo that holds is not changed: it is refused.
        """
        expect = self._registers.expect
        self._check_model(ident)
        expect(ident, "baud rate", BAUD_RATE, BAUD_INDEX[self._options.baud])
        expect(ident, "response status level", RESPONSE_LEVEL, 1)
        self.check_faults(ident)
        for what, register, wanted in (
            ("return delay", RETURN_DELAY, 0),
            ("operating mode", OPERATING_MODE, POSITION_MODE),
        ):
            found = self._registers.read(ident, register, 1)
            if found == wanted:
                continue
            if self._registers.read(ident, TORQUE_ENABLE, 1):
                raise self._registers.refusal(ident, what, register, found, wanted)
            self._registers.keep(ident, what, register, wanted)

    def _check_model(self, ident: int) -> None:
        number = self._registers.read(ident, MODEL_NUMBER, 2)
        if number in MODELS or number in self._options.other_models:
            return
        known = ", ".join(f"{name} ({number})" for number, name in MODELS.items())
        raise DeviceError(
            f"device {self._device}: servo {ident} on {self._options.port}: model number {number} "
            f"(register {MODEL_NUMBER}): the driver does not know its units. It knows those of "
            f"{known}. If its manual says {COUNTS} counts per turn and has the registers of the "
            f"STS series, add it in [device.{self._device}]: "
            f"other_models = {sorted({*self._options.other_models, number})}"
        )

    def check_faults(self, ident: int) -> None:
        """A servo with a fault has let go, or is about to. Raises DeviceError."""
        value = self._registers.read(ident, STATUS, 1)
        if not value:
            return
        helps = [remedy for bit, (_, remedy) in _FAULTS.items() if value & bit]
        raise DeviceError(
            f"device {self._device}: servo {ident} on {self._options.port}: "
            f"{', '.join(fault_names(value))} (status, register {STATUS}, is {value:#04x}); "
            f"{'; '.join([*helps, 'support the arm, then switch its power off and on'])}"
        )

    def bounds(self) -> tuple[Bound, ...]:
        """The goals that each servo is set to take, half a count beyond its own numbers."""
        found = []
        for ident in self._options.ids:
            low = self._registers.read(ident, MIN_POSITION, 2)
            high = self._registers.read(ident, MAX_POSITION, 2)
            where = (
                f"servo {ident} on {self._options.port}: registers {MIN_POSITION} and "
                f"{MAX_POSITION} are {low} and {high}"
            )
            if low == high == 0:  # several turns: of one turn the reading is all that is known
                low, high = 0, COUNTS - 1
                where += ", several turns; of these the driver uses one"
            found.append(
                Bound(
                    (low - 0.5 - CENTRE) * RAD_PER_COUNT,
                    (high + 0.5 - CENTRE) * RAD_PER_COUNT,
                    where,
                )
            )
        return tuple(found)

    def no_group_answer(self) -> DeviceError:
        """Each servo answers by itself, and nobody the question of every cycle."""
        return DeviceError(
            f"device {self._device}: {self._options.port}: each of the servos {self._options.ids} "
            f"answers by itself, but not all of them Sync Read (0x82), which every cycle asks; "
            f"check that no two servos have one id, and that no other program uses the bus"
        )
