"""How channels are turned between a device and SI as the schedule counts it: sign and zero."""

from collections.abc import Sequence

from inphase.driver import ActuatorSpec, SensorSpec
from inphase.plan.channel_places import first_channel, value_fields
from inphase.schedule import Actuator, Sensor, channels

Turn = tuple[int, float]
"""Sign and zero of a channel."""


def of_sensor(sensor: Sensor, spec: SensorSpec) -> list[Turn]:
    """Those of every channel of a sensor."""
    found: list[Turn] = []
    for item in value_fields(spec):
        zeros = channels.numbers(sensor.zero.get(item.name, 0.0), item.channels)
        signs = [1] * item.channels
        if item.name in spec.per_joint and sensor.sign is not None:
            joints = spec.joints.get(item.name, range(len(sensor.sign)))
            signs = [int(sensor.sign[joint]) for joint in joints]
        found += zip(signs, zeros, strict=True)
    return found


def of_actuator(
    actuator: Actuator, count: int, feedback: tuple[Sensor, SensorSpec] | None
) -> list[Turn]:
    """Those of an actuator's channels: joints of one device are turned as their feedback is."""
    found = [(1, 0.0)] * count
    if feedback is not None and feedback[0].device == actuator.device:
        assert actuator.feedback is not None
        at = first_channel(feedback[1], actuator.feedback.partition(".")[2])
        found = of_sensor(*feedback)[at : at + count]
    if actuator.mode == "position":
        return found
    return [(sign if actuator.mode != "switch" else 1, 0.0) for sign, _ in found]


def safe_of(spec: ActuatorSpec, turned: Sequence[Turn]) -> list[float]:
    """Per channel, where a ramp ends in effort and switch mode, as the schedule counts it."""
    safe = spec.safe or (0.0,) * spec.channels
    return [sign * at for (sign, _), at in zip(turned, safe, strict=True)]
