"""Joints of a simulated world behind the emulated servos and drives, in place of their own."""

from inphase.emulation import Part

from .arm import Drive, Joints

_HOLDING = (Drive.POSITION, Drive.VELOCITY)


class WorldJoints(Joints):
    """The joints of one device in the world: what they do is the model's, not a register's.

    Position mode moves the model's actuators, velocity mode their goals, or its velocity actuators
    where the schedule commands velocities; with the torque off, or in current mode, nothing is
    exerted on a joint. Until its torque is switched on for the first time
    a joint is held where the world starts, as if by a brake. Profiles are not applied.
    """

    def __init__(self, part: Part, count: int) -> None:
        super().__init__(count, part.time_ns)
        self._part = part
        self.draws = part.draws
        """the schedule's timing of their samples"""
        self._followed = [Drive.OFF] * count
        self._read()
        self.goal = list(self.position)
        at_rest = [0.0] * count
        self._setpoint = (
            at_rest if part.mode == "velocity" else list(self.position)
        )  # what the world's actuators were told last
        self._is_new = False  # they have to be told again

    def advance(self, to_ns: int) -> None:
        """Hand over what the servos were told, and go on with the world to `to_ns`."""
        self._hand_over(to_ns)
        self._part.advance(to_ns)
        if self._part.time_ns != self.time_ns:
            self._read()

    def jump(self, joint: int, position: float) -> None:
        """Raise ValueError: no hand reaches into the world."""
        raise ValueError("position cannot be set: the joints are a simulated world's")

    def _read(self) -> None:
        self.time_ns = self._part.time_ns
        fields = self._part.fields()
        self.position[:] = fields.get("position", self.goal)
        self.velocity[:] = fields.get("velocity", [0.0] * len(self.goal))
        effort = fields.get("current") or fields.get("torque")
        self.current[:] = effort or [0.0] * len(self.goal)

    def _hand_over(self, to_ns: int) -> None:
        seconds = max(0, to_ns - self.time_ns) * 1e-9
        before = list(self._setpoint)
        for joint, drive in enumerate(self.drive):
            self._switch(joint, drive)
            if self._part.mode == "velocity":
                self._setpoint[joint] = self.goal[joint] if drive is Drive.VELOCITY else 0.0
            elif drive is Drive.POSITION:
                self._setpoint[joint] = self.goal[joint]
            elif drive is Drive.VELOCITY:
                self._setpoint[joint] += self.goal[joint] * seconds
        if self._is_new or self._setpoint != before:
            self._is_new = False
            self._part.command(list(self._setpoint), self.time_ns)

    def _switch(self, joint: int, drive: Drive) -> None:
        """A joint whose mode has changed may become loose, or be held where it is."""
        before, self._followed[joint] = self._followed[joint], drive
        holds = drive in _HOLDING
        if holds != (before in _HOLDING):
            self._part.switch([joint], on=holds)
            if self._part.mode != "velocity":
                self._setpoint[joint] = self.position[joint]
            self._is_new = True
