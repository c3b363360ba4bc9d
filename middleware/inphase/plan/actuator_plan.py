"""An actuator as it will run: its channels turned, its limits and its feedback resolved."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inphase.driver import ActuatorSpec, Encoding, Stop, StopKind
from inphase.errors import DeviceError
from inphase.plan import channel_limits, channel_signs
from inphase.plan.channel_limits import ChannelLimits
from inphase.plan.channel_signs import Turn
from inphase.plan.feedback import FeedbackKind, kind_of, unit_of
from inphase.plan.sensor_plan import SensorPlan
from inphase.plan.timing import Home, home_of
from inphase.schedule import Actuator, Schedule


@dataclass(frozen=True)
class ActuatorPlan:
    """One actuator."""

    name: str
    schedule: Actuator
    device: int
    home: Home
    spec: ActuatorSpec
    encoding: Encoding | None
    turns: list[Turn]
    """sign and zero per channel, for a driver that writes by itself"""
    feedback_sensor: int
    feedback_channel: int
    feedback_kind: FeedbackKind
    velocity_channel: int
    effort_channel: int
    """of the feedback's sensor; -1: not said"""
    limits: list[ChannelLimits]

    @property
    def needs_goals(self) -> bool:
        """True if its driver alone says where its joints are: no sensor does."""
        return self.schedule.mode == "position" and self.feedback_sensor < 0

    def turned(self, goals: Sequence[float]) -> list[float]:
        """A driver's goals as the schedule counts them. Raises DeviceError where they are missing
        and nothing else says where the joints are."""
        if self.needs_goals and not all(map(math.isfinite, goals or (math.nan,))):
            raise DeviceError(
                f"actuator {self.name} has no feedback, and the driver of its device "
                f"{self.schedule.device} does not say where it stands: {list(goals)}; add "
                f'feedback = "SENSOR.FIELD" to [actuator.{self.name}]'
            )
        pairs = zip(self.turns, goals, strict=True) if goals else ()
        return [sign * goal - zero for (sign, zero), goal in pairs]

    @property
    def stop(self) -> Stop | None:
        """The guard's stop; None: it does not have this device."""
        is_own = self.spec.stop.kind == StopKind.BYTES
        if self.encoding is None and not is_own:
            return None
        if self.spec.stop.kind == StopKind.HOLD and self.schedule.mode != "position":
            return replace(self.spec.stop, kind=StopKind.ZERO)
        return self.spec.stop

    @property
    def stops_itself(self) -> bool:
        """True if its device has a watchdog, and the driver makes sure of it."""
        return self.spec.watchdog is not None and self.spec.watchdog.verified


def make(
    schedule: Schedule, name: str, spec: ActuatorSpec, sensors: Sequence[SensorPlan]
) -> ActuatorPlan:
    """The plan of an actuator, of a schedule without a fault."""
    actuator, encoding = schedule.actuator[name], spec.encoding
    sensor, channel = _find(sensors, actuator.feedback)
    feedback = None if sensor < 0 else (sensors[sensor].schedule, sensors[sensor].spec)
    turned = channel_signs.of_actuator(actuator, spec.channels, feedback)
    if encoding is not None:
        values = tuple(v.turned(*turned[v.channel]) for v in encoding.values)
        encoding = replace(encoding, values=values)
    home = home_of(schedule.device[actuator.device], in_cycle=encoding is not None)
    sensing = next((s for s in sensors if s.schedule.device == actuator.device), None)
    return ActuatorPlan(
        name=name,
        schedule=actuator,
        device=list(schedule.device).index(actuator.device),
        home=home if sensing is None else sensing.home,
        spec=spec,
        encoding=encoding,
        turns=turned,
        feedback_sensor=sensor,
        feedback_channel=channel,
        feedback_kind=_feedback_kind(actuator, spec, sensors),
        velocity_channel=_beside(sensors, actuator.feedback_velocity),
        effort_channel=_beside(sensors, actuator.feedback_effort),
        limits=channel_limits.of_actuator(actuator, channel_signs.safe_of(spec, turned)),
    )


def _find(sensors: Sequence[SensorPlan], wanted: str | None) -> tuple[int, int]:
    """The number of a `sensor.field`'s sensor, and the first channel of the field; -1: none."""
    if wanted is None:
        return -1, 0
    sensor, _, field = wanted.partition(".")
    index = [one.name for one in sensors].index(sensor)
    return index, sensors[index].first_channel(field)


def _beside(sensors: Sequence[SensorPlan], wanted: str | None) -> int:
    """The first channel of a field beside the feedback, in the same sensor; -1: none is named."""
    return -1 if wanted is None else _find(sensors, wanted)[1]


def _feedback_kind(
    actuator: Actuator, spec: ActuatorSpec, sensors: Sequence[SensorPlan]
) -> FeedbackKind:
    if actuator.feedback is None:
        return "position"
    index, _ = _find(sensors, actuator.feedback)
    unit = unit_of(sensors[index].spec.fields, actuator.feedback.partition(".")[2])
    return kind_of(unit, actuator.mode, spec.unit)
