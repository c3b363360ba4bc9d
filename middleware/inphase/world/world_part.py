"""The part of a simulated world that one emulated device senses and moves, in its own numbers."""

from collections.abc import Iterable

from inphase.world.draws import TimingDraws
from inphase.world.mujoco.world import MujocoWorld
from inphase.world.realtime_world import WallWorld


def part_of(world: WallWorld, device: str) -> "Part | None":
    """A device's part of the world; None: the schedule maps nothing of it."""
    sensor, actuator = world.sensor_of(device), world.actuator_of(device)
    return None if sensor is actuator is None else Part(world, sensor, actuator)


class Part:
    """One device's part. The schedule's signs and zeros are taken off; the core puts them on.

    Thread: the world's.
    """

    def __init__(self, world: WallWorld, sensor: int | None, actuator: int | None) -> None:
        self._world = world
        self._sensor = sensor
        self.actuator = actuator
        """number of the device's actuator in the plan; None: its commands move nothing"""
        plan = world.plan
        self.mode = "position" if actuator is None else plan.actuators[actuator].schedule.mode
        """command mode of that actuator"""
        self.draws = TimingDraws(plan, sensor) if sensor is not None else None
        """the schedule's timing of its samples"""
        self._turns: list[tuple[int, float]] = []
        self._noise: list[float] = []
        self._places: dict[str, slice] = {}
        if sensor is not None:
            found = plan.sensors[sensor]
            self._turns = found.turns
            self._noise = _stated_noise(world.world, sensor)
            self._places = {
                item.name: slice(at, at + item.channels)
                for item in found.spec.fields
                if item.dtype == "<f8"
                for at in [found.first_channel(item.name)]
            }

    @property
    def time_ns(self) -> int:
        """The instant of the measurements."""
        return self._world.time_ns

    def advance(self, to_ns: int) -> None:
        """Step the world up to an instant. Raises WorldError."""
        self._world.advance(to_ns)

    def fields(self) -> dict[str, list[float]]:
        """Its measurements now, by field; 0 where the schedule maps nothing. A field's noise of the
        schedule is in them."""
        if self._sensor is None:
            return {}
        values = [
            0.0 if value is None else sign * (value + self._with_noise(noise) + zero)
            for value, noise, (sign, zero) in zip(
                self._world.read(self._sensor), self._noise, self._turns, strict=True
            )
        ]
        return {name: values[place] for name, place in self._places.items()}

    def _with_noise(self, noise: float) -> float:
        assert self.draws is not None
        return noise * self.draws.noise() if noise else 0.0

    def command(self, values: list[float], now_ns: int) -> None:
        """Command the device's joints; in effect after the schedule's delay."""
        if self.actuator is not None:
            self._world.command(self.actuator, self._turned(values), now_ns)

    def switch(self, channels: Iterable[int], *, on: bool) -> None:
        """Power on: the joints follow commands, from where they are. Off: they are loose."""
        if self.actuator is not None:
            self._world.switch(self.actuator, channels, on=on)

    def _turned(self, values: list[float]) -> list[float]:
        assert self.actuator is not None
        turns = self._world.plan.actuators[self.actuator].turns
        return [sign * value - zero for value, (sign, zero) in zip(values, turns, strict=True)]


def _stated_noise(world: MujocoWorld, sensor: int) -> list[float]:
    """The noise that the schedule gives to fields. The noise of a driver's twin is left out: it
    stands for quantisation, which an emulated device has by itself."""
    found = world.plan.sensors[sensor]
    noise = [0.0] * len(found.spec.twin)
    table = world.table.sensor[found.name]
    for item in found.spec.fields:
        if item.dtype == "<f8" and item.name in table.fields:
            at = found.first_channel(item.name)
            noise[at : at + item.channels] = [table.fields[item.name].noise] * item.channels
    return noise
