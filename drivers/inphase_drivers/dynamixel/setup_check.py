"""The questions to each servo before it may be used: its model, its set-up, its faults."""

from inphase.driver import Bound, DeviceError

from ..servo_registers import ServoRegisters
from .control_table import (
    BAUD_INDEX,
    BAUD_RATE,
    FIRMWARE,
    HARDWARE_ERROR,
    MODEL_NUMBER,
    RETURN_DELAY,
    STATUS_RETURN_LEVEL,
    TORQUE_ENABLE,
    Goal,
)
from .models import BY_NUMBER, Model
from .options import ServoOptions

# bits of the hardware error status, and what helps (e-manual, Hardware Error Status)
_FAULTS = {
    0x01: ("input voltage", "check its supply"),
    0x04: ("overheating", "let it cool down"),
    0x08: ("motor encoder", "the servo needs repair if it comes back"),
    0x10: ("electrical shock or too little power", "check supply and wiring"),
    0x20: ("overload", "find what holds or pushes it, and lower its load"),
}
_ALERT = 0x80
# the rest of a status packet's error field (e-manual, Protocol 2.0, Status Packet)
_ERRORS = {
    1: "it could not process the instruction",
    2: "it does not know the instruction",
    3: "the CRC of the instruction was wrong",
    4: "a value was out of its register's range",
    5: "data of a wrong length",
    6: "a value was beyond a limit that is set in it",
    7: "the register cannot be read or written now",
}


class SetupCheck:
    """Questions to the servos of one device. Raises DeviceError with servo, register, value."""

    def __init__(self, device: str, options: ServoOptions, registers: ServoRegisters) -> None:
        self._device = device
        self._options = options
        self._registers = registers

    def find_models(self) -> tuple[Model, ...]:
        """The model of each servo: one that the driver has units for, and the schedule's."""
        found = tuple(self._find_model(ident) for ident in self._options.ids)
        names = [model.name for model in found]
        wanted = self._options.models
        if wanted is None and all(model.a_per_count for model in found):
            return found
        if wanted == names:
            return found
        trouble = (
            f"the servos {self._options.ids} are {', '.join(names)}, and models says "
            f"{', '.join(wanted)}"
            if wanted is not None
            else "; ".join(
                f"servo {ident} is a {model.name}, which measures load instead of current"
                for ident, model in zip(self._options.ids, found, strict=True)
                if model.a_per_count is None
            )
        )
        listed = ", ".join(f'"{name}"' for name in names)
        raise DeviceError(
            f"device {self._device}: {self._options.port}: {trouble}; give models = [{listed}] in "
            f"[device.{self._device}]"
        )

    def _find_model(self, ident: int) -> Model:
        number = self._registers.read(ident, MODEL_NUMBER, 2)
        if number in BY_NUMBER:
            return BY_NUMBER[number]
        known = ", ".join(f"{model.name} ({model.number})" for model in BY_NUMBER.values())
        raise DeviceError(
            f"device {self._device}: servo {ident} on {self._options.port}: model number {number} "
            f"(register {MODEL_NUMBER}): the driver does not know its units. It knows those of "
            f"{known}. Leave the servo out of ids, or add its line to "
            f"inphase_drivers/dynamixel/models.py"
        )

    def check_setup(self, ident: int) -> None:
        """Its line and its way to answer; a return delay is set to 0."""
        expect = self._registers.expect
        expect(ident, "baud rate", BAUD_RATE, BAUD_INDEX[self._options.baud])
        expect(ident, "status return level", STATUS_RETURN_LEVEL, 2)
        self.check_faults(ident)
        delay = self._registers.read(ident, RETURN_DELAY, 1)
        if delay != 0:
            if self._registers.read(ident, TORQUE_ENABLE, 1):
                raise self._registers.refusal(ident, "return delay time", RETURN_DELAY, delay, 0)
            self._registers.write(ident, RETURN_DELAY, 0, 1)
            expect(ident, "return delay time", RETURN_DELAY, 0)

    def meaning(self, error: int) -> str:
        """The words for the error field of a status packet."""
        words = [_ERRORS[error & ~_ALERT]] if error & ~_ALERT in _ERRORS else []
        if error & _ALERT:
            words.append(
                f"a servo has a hardware error, as an overload, and has let go of its load: its "
                f"register {HARDWARE_ERROR} says which, and is read when the run ends"
            )
        return "; ".join(words)

    def check_faults(self, ident: int) -> None:
        """A servo with a hardware error has let go, and takes no torque until it starts anew."""
        value = self._registers.read(ident, HARDWARE_ERROR, 1)
        if not value:
            return
        found = [told for bit, told in _FAULTS.items() if value & bit]
        names = ", ".join(name for name, _ in found) or "unknown"
        helps = "; ".join(remedy for _, remedy in found)
        raise DeviceError(
            f"device {self._device}: servo {ident} on {self._options.port}: {names} (hardware "
            f"error status, register {HARDWARE_ERROR}, is {value:#04x}): it has switched itself "
            f"off; {helps + ', then ' if helps else ''}support the arm and reboot the servo: "
            f"instruction 0x08, Reboot in DYNAMIXEL Wizard, or its power off and on"
        )

    def bounds(self, goal: Goal, scales: list[float]) -> tuple[Bound, ...]:
        """The goals that each servo is set to take, half a count beyond its own numbers."""
        found = []
        for ident, scale in zip(self._options.ids, scales, strict=True):
            raw = [self._registers.read(ident, at, goal.limit_size) for at in goal.limits]
            low, high = raw if len(raw) == 2 else (-raw[0], raw[0])
            where = f"servo {ident} on {self._options.port}: " + (
                f"registers {goal.limits[0]} and {goal.limits[1]} are {raw[0]} and {raw[1]}"
                if len(raw) == 2
                else f"register {goal.limits[0]} is {raw[0]}"
            )
            low_si, high_si = (
                (at + half) * scale + goal.zero for at, half in ((low, -0.5), (high, 0.5))
            )
            found.append(Bound(low_si, high_si, where))
        return tuple(found)

    def no_group_answer(self) -> DeviceError:
        """Each servo answers by itself, and nobody the question of every cycle."""
        firmware = [self._registers.read(ident, FIRMWARE, 1) for ident in self._options.ids]
        if self._options.read == "fast":
            asked, helps = (
                "Fast Sync Read (0x8A)",
                f"older firmware does not know it (register {FIRMWARE} of each: {firmware}): give "
                f'read = "sync" in [device.{self._device}], or update the firmware',
            )
        else:
            asked, helps = (
                "Sync Read (0x82)",
                "check that no two servos have one id, and that no other program uses the bus",
            )
        return DeviceError(
            f"device {self._device}: {self._options.port}: each of the servos {self._options.ids} "
            f"answers by itself, but not all of them {asked}, which every cycle asks; {helps}"
        )
