"""Which actuators of a model exert force: a torque that is off, in a world that has one."""

from inphase.world.mujoco.world import MujocoWorld


class Grip:
    """Which actuators of a model exert force; the others are loose, as a motor without current."""

    def __init__(self, world: MujocoWorld) -> None:
        self._model = world.model
        self._gains = world.model.actuator_gainprm.copy()
        self._biases = world.model.actuator_biasprm.copy()
        self.loose = bytearray(world.model.nu)

    def set(self, number: int, *, loose: bool) -> None:
        """One actuator."""
        self.loose[number] = loose
        self._model.actuator_gainprm[number] = 0 if loose else self._gains[number]
        self._model.actuator_biasprm[number] = 0 if loose else self._biases[number]

    def set_all(self, loose: bytes) -> None:
        """All of them, as a state has it."""
        if loose != self.loose:
            for number, is_loose in enumerate(loose):
                self.set(number, loose=bool(is_loose))
