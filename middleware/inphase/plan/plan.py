"""The plan: a schedule together with its drivers' declarations.

It has the channels of each sample, the times on the wires and the depths of the rings. It makes the
description that every reader is given first. It touches no device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgpack
import numpy as np

from inphase.driver import Driver
from inphase.frames import wire
from inphase.frames.record_layout import (
    ACT_FLAGS,
    DROVE,
    FRAME_FLAGS,
    OUTCOMES,
    REASONS,
    STATES,
    STATUSES,
)
from inphase.plan import actuator_plan, notes, sensor_plan, timing
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.channel_places import all_fields
from inphase.plan.sensor_plan import SensorPlan, ring_depth
from inphase.plan.timing import CommandTiming, Home, SampleTiming
from inphase.plan.validation import Validated, validate
from inphase.schedule import Schedule
from inphase.schedule.tables import EstopInput
from inphase.schedule.timing_model import TimingModel

if TYPE_CHECKING:
    from inphase.models.model_binding import Binding


@dataclass(frozen=True)
class EstopPlan:
    """One input of the emergency stop; sensor and channel of a sample."""

    name: str
    schedule: EstopInput
    sensor: int = 0
    channel: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything the core, the workers and the readers are configured from."""

    schedule: Schedule
    drivers: dict[str, Driver]
    sensors: list[SensorPlan]
    actuators: list[ActuatorPlan]
    depth: int
    timing: TimingModel
    """of the simulated robot"""
    notes: list[str] = field(default_factory=list)
    estop: list[EstopPlan] = field(default_factory=list)
    """inputs of the emergency stop"""
    client_policy: bool = False
    """whoever started the runtime posts the commands itself"""
    is_leased: bool = False
    """a service keeps the robot up, and says who may drive"""
    model: "Binding | None" = None
    """the policy's, checked, where it is a model"""

    @property
    def values(self) -> int:
        """Doubles in a command: the actuators' channels one after the other."""
        return sum(actuator.spec.channels for actuator in self.actuators)

    @property
    def answer(self) -> int:
        """Doubles in a policy's answer: a command, or the commands of a chunk."""
        policy = self.schedule.policy
        return self.values * (policy.chunk if policy is not None else 1)

    @property
    def unguarded(self) -> list[str]:
        """The actuators that nothing stops when the runtime is gone: neither guard nor watchdog."""
        return [a.name for a in self.actuators if a.stop is None and not a.stops_itself]

    @property
    def motion_devices(self) -> set[int]:
        """Devices whose loss latches motion: those of actuators and of their feedback."""
        feedback = (a.feedback_sensor for a in self.actuators if a.feedback_sensor >= 0)
        return {self.sensors[one].device for one in feedback} | {a.device for a in self.actuators}

    def guard_hold_ns(self, realtime: bool) -> int:
        """How old the cycle's heartbeat may be while something moves.

        realtime: the cycle thread has its priority. Without it a thread is late now and then, and
        what the core itself forgives (`resumed_after_ms`) is no sign of a frozen one.
        """
        period_ns = self.schedule.cycle.period_ns
        stated_ms = self.schedule.guard.max_hold_ms
        if stated_ms is not None:
            return round(stated_ms * 1e6)
        holds = [a.schedule.max_hold_ns(period_ns) for a in self.actuators if a.stop is not None]
        forgiven_ns = 0 if realtime else self.schedule.cycle.resumed_after_ns
        return max(2 * period_ns, forgiven_ns, min(holds, default=0))

    @property
    def homes(self) -> list[Home]:
        """Where each device's driver runs."""
        homes: list[Home] = ["cycle"] * len(self.schedule.device)
        for sensor in self.sensors:
            homes[sensor.device] = sensor.home
        for actuator in self.actuators:
            homes[actuator.device] = actuator.home
        return homes

    @property
    def timings(self) -> list[SampleTiming]:
        """When each sensor's sample is asked for, acquired and in hand."""
        return [
            timing.of_sensor(self.schedule, self.drivers[s.schedule.device], s.name, s.spec)
            for s in self.sensors
        ]

    @property
    def commands(self) -> list[CommandTiming]:
        """Each actuator's time on the wire."""
        return [
            timing.of_actuator(self.drivers[a.schedule.device], a.name, a.schedule.device, a.spec)
            for a in self.actuators
        ]

    def description(self, epoch: int, **facts: object) -> bytes:
        """The first message of a reader, as MessagePack: layouts, units, schedule, hash."""
        return bytes(
            msgpack.packb(
                {
                    "wire": wire.VERSION,
                    "robot": self.schedule.name,
                    "hash": self.schedule.hash,
                    "schedule": self.schedule.text,
                    "epoch": epoch,
                    "period_ns": self.schedule.cycle.period_ns,
                    "sensors": [_describe_sensor(sensor) for sensor in self.sensors],
                    "actuators": [
                        {
                            "name": a.name,
                            "channels": a.spec.channels,
                            "unit": a.spec.unit,
                            "mode": a.schedule.mode,
                        }
                        for a in self.actuators
                    ],
                    # of the numbers in a frame, so that a reader needs no table of its own
                    "statuses": STATUSES,
                    "reasons": REASONS,
                    "states": STATES,
                    "outcomes": OUTCOMES,
                    "drove": DROVE,
                    "frame_flags": FRAME_FLAGS,
                    "act_flags": ACT_FLAGS,
                    **facts,
                }
            )
        )


def _describe_sensor(sensor: SensorPlan) -> dict[str, object]:
    return {
        "name": sensor.name,
        "fields": [[f.name, list(f.shape), f.dtype, f.unit] for f in all_fields(sensor.spec)],
        "trigger_ns": sensor.schedule.trigger_ns,
        "max_age_ns": sensor.schedule.max_age_ns,
        "home": sensor.home,
        "latched": sensor.schedule.free_running,
        "every": sensor.between,
        "latency_cycles": sensor.schedule.latency_cycles,
        "interval_ns": sensor.interval_ns or None,
        "stamped": sensor.is_stamped,
        "depth": sensor.depth,
        "rate": _describe_rates(sensor),
    }


def _describe_rates(sensor: SensorPlan) -> dict[str, list[float | None]]:
    """The largest change per second of each field that has one, by channel; None: not stated."""
    described = {}
    for item in sensor.spec.fields:
        if item.name in sensor.schedule.rate:
            at = sensor.first_channel(item.name)
            rates = sensor.rate[at : at + item.channels]
            described[item.name] = [None if np.isnan(r) else r for r in rates]
    return described


def make(schedule: Schedule, drivers: Mapping[str, Driver] | None = None) -> Plan:
    """Check a schedule against its drivers, and plan it. `drivers`: those that are made already.

    Raises ScheduleError with every fault.
    """
    return of_validated(validate(schedule, drivers))


def of_validated(valid: Validated) -> Plan:
    """Plan what has no fault. It raises nothing."""
    schedule, declared = valid.schedule, valid.declared
    sensors = [sensor_plan.make(schedule, *named) for named in declared.sensors.items()]
    actuators = [
        actuator_plan.make(schedule, *named, sensors) for named in declared.actuators.items()
    ]
    plan = Plan(
        schedule=schedule,
        drivers=dict(declared.drivers),
        sensors=sensors,
        actuators=actuators,
        depth=ring_depth(schedule),
        timing=valid.timing,
        estop=[_plan_estop(name, it, sensors) for name, it in schedule.estop.items()],
        model=valid.model,
    )
    said = notes.make(schedule, plan.drivers, actuators, plan.timings, plan.commands)
    return replace(plan, notes=said)


def _plan_estop(name: str, given: EstopInput, sensors: Sequence[SensorPlan]) -> EstopPlan:
    """Which channel an input of the emergency stop looks at."""
    if given.sample is None:
        return EstopPlan(name, given)
    wanted, _, field_name = given.sample.partition(".")
    index = [sensor.name for sensor in sensors].index(wanted)
    return EstopPlan(name, given, index, sensors[index].first_channel(field_name) + given.channel)
