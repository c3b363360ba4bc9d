"""Lock step's part of the core's configuration: virtual time, twins, delays, a world.

The fields are those of native/inphase.h. The targets of their pointers are appended to `keep`.
"""

from dataclasses import dataclass
from typing import Any

from inphase._core import ffi, lib
from inphase.core.arrays import doubles
from inphase.core.trace import FreeTrace, Trace
from inphase.core.world_seam import World, WorldReading
from inphase.driver import TwinChannel, TwinKind
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan
from inphase.plan.sensor_plan import SensorPlan
from inphase.schedule.distribution import Distribution, constant
from inphase.schedule.timing_model import TimingModel

FREEZE_SAMPLES = 10.0


@dataclass(frozen=True)
class LockStepConfig:
    """The configuration of a core on virtual time."""

    seed: int
    timing: TimingModel
    readings: list[list[WorldReading | None] | None]
    """per sensor and channel: where its numbers lie; None: the driver's twin answers"""
    world: World | None = None
    native: "NativePolicy | None" = None
    trace: Trace | None = None
    """times of a recorded run, in place of drawn ones"""


@dataclass(frozen=True)
class NativePolicy:
    """A policy without Python: the address of a function of struct inphase_native_policy, and what
    it is given as `user`. Its maker keeps both alive."""

    call: int
    user: int = 0


@ffi.def_extern(error=-1)  # type: ignore[untyped-decorator]
def inphase_render(user: Any, sensor: int, payload: Any) -> int:
    """Called by C to render a sensor's sample, in the caller's thread."""
    world: World = ffi.from_handle(user)
    size = world.plan.sensors[sensor].dtype.itemsize
    return world.render(sensor, ffi.buffer(payload, size))


def world_struct(world: World, keep: list[Any]) -> Any:
    """struct inphase_world."""
    engine = world.engine
    handle = ffi.new_handle(world)
    made = ffi.new("struct inphase_world *")
    keep += [handle, made]
    made.step = ffi.cast("void(*)(const void *, void *)", engine.step)
    made.forward = ffi.cast("void(*)(const void *, void *)", engine.forward)
    made.catch_errors = ffi.cast("void *(*)(void *)", engine.catch_errors)
    made.model = ffi.cast("void *", engine.model)
    made.data = ffi.cast("void *", engine.data)
    made.timestep = ffi.cast("double *", engine.timestep)
    made.step_s = engine.step_s
    made.steps = engine.steps
    made.warning = ffi.cast("int32_t *", engine.warning)
    made.warnings = engine.warnings
    made.warning_stride = engine.warning_stride
    made.fatal = engine.fatal
    made.render = lib.inphase_render
    made.user = handle
    made.clock = ffi.cast("double(**)(void)", engine.clock)
    return made


def distribution_fields(given: Distribution | None, keep: list[Any]) -> dict[str, Any]:
    """The fields of struct inphase_distribution."""
    if given is None:
        return {}
    return {
        "knots": len(given.values),
        "probability": doubles(list(given.probabilities), keep),
        "value": doubles(list(given.values), keep),
    }


def fill_lockstep(config: Any, lockstep: LockStepConfig, keep: list[Any]) -> None:
    """The part of struct inphase_config that only lock step has."""
    timing = lockstep.timing
    config.virtual_time = 1
    config.seed = lockstep.seed & 0xFFFFFFFFFFFFFFFF
    config.wake_late = distribution_fields(timing.ns("host.wake_late_ms"), keep)
    config.inference = distribution_fields(timing.ns("policy.inference_ms"), keep)
    if lockstep.trace is not None:
        lockstep.trace.fill(config.trace, keep)
    if lockstep.world is not None:
        config.world = world_struct(lockstep.world, keep)
    if lockstep.native is not None:
        config.policy.call = ffi.cast(
            "uint32_t(*)(void *, const void *, const void *const *, double *)",
            lockstep.native.call,
        )
        config.policy.user = ffi.cast("void *", lockstep.native.user)


def twin_fields(
    plan: Plan, index: int, keep: list[Any], lockstep: LockStepConfig
) -> dict[str, Any]:
    """The fields of struct inphase_twin."""
    sensor, world, timing = plan.sensors[index], lockstep.world, lockstep.timing
    readings = lockstep.readings[index] or [None] * len(sensor.spec.twin)
    channels = ffi.new(
        "struct inphase_twin_channel[]",
        [
            _twin_channel(plan, sensor, twin) if reading is None else _reading(reading)
            for twin, reading in zip(sensor.spec.twin, readings, strict=True)
        ]
        or 1,
    )
    keep.append(channels)
    path = f"sensors.{sensor.name}"
    rendered = world is not None and index < len(world.readings) and world.rendered(index)
    latency, period_ns = timing.ns(f"{path}.latency_ms"), sensor.spec.interval_ns
    if lockstep.trace is not None and isinstance(lockstep.trace.sensors[index], FreeTrace):
        # the room for its samples follows from the most that can be under way
        free = lockstep.trace.sensors[index]
        assert isinstance(free, FreeTrace)
        latency, period_ns = constant(float(free.longest_ns)), free.between_ns
    has_clock = sensor.exchange is not None and sensor.exchange.clock is not None
    return {
        "channel": channels,
        "latency_ns": sensor.spec.twin_latency_ns,
        "jitter_ns": sensor.spec.twin_jitter_ns,
        "period_ns": period_ns or plan.schedule.cycle.period_ns,
        "phase_ns": round(timing.number(f"{path}.phase_ms") * 1e6),
        "latency": distribution_fields(latency, keep),
        "jitter": distribution_fields(timing.ns(f"{path}.jitter_ms"), keep),
        "freeze_samples": distribution_fields(
            timing.get(f"{path}.freeze_samples") or constant(FREEZE_SAMPLES), keep
        ),
        "dropout": timing.number(f"{path}.dropout"),
        "freeze": timing.number(f"{path}.freeze"),
        "drift": timing.number(f"{path}.drift_ppm") * 1e-6,
        "clock": has_clock and timing.get(f"{path}.drift_ppm") is not None,
        "derived": rendered or any(r is not None and r.derived for r in readings),
        "rendered": rendered,
    }


def _reading(reading: WorldReading) -> dict[str, Any]:
    """A channel that is a number of the world."""
    return {
        "kind": lib.INPHASE_TWIN_WORLD,
        "base": reading.zero,
        "gain": reading.gain,
        "noise": reading.noise,
        "source": ffi.cast("double *", reading.address),
    }


def _twin_channel(plan: Plan, sensor: SensorPlan, twin: TwinChannel) -> dict[str, Any]:
    """A channel of a simulated sensor; a joint that no actuator moves stands where it starts."""
    actuator = _actuator_of(plan, sensor)
    moved = actuator < len(plan.actuators) and (twin.joint < plan.actuators[actuator].spec.channels)
    base = twin.base
    if twin.kind == TwinKind.POSITION and not moved:
        spec = list(plan.drivers.values())[sensor.device].actuator()
        servos = spec.servos if spec is not None else ()
        base += twin.gain * servos[twin.joint].start if twin.joint < len(servos) else 0.0
    return {
        "kind": int(twin.kind if moved else TwinKind.CONSTANT),
        "actuator": actuator if moved else 0,
        "joint": twin.joint if moved else 0,
        "base": base,
        "gain": twin.gain,
        "noise": twin.noise,
    }


def _actuator_of(plan: Plan, sensor: SensorPlan) -> int:
    """Which actuator's joints a sensor's twin follows: that of its own device; of a device without
    joints the first. Beyond the last: none, as nothing commands the device's own joints."""
    for index, actuator in enumerate(plan.actuators):
        if actuator.device == sensor.device:
            return index
    spec = list(plan.drivers.values())[sensor.device].actuator()
    return len(plan.actuators) if spec is not None and spec.servos else 0


def start_positions(
    actuator: ActuatorPlan, index: int, keep: list[Any], lockstep: LockStepConfig
) -> Any:
    """Where the joints are, as their world or their own servos have it."""
    controls = lockstep.world.controls[index] if lockstep.world is not None else None
    if controls is None or actuator.schedule.mode != "position":
        return doubles([servo.start for servo in actuator.spec.servos], keep)
    places = [ffi.cast("double *", address)[0] for address in controls.addresses]
    turned = zip(places, controls.gains, controls.zeros, strict=True)
    return doubles([(at - zero) / gain for at, gain, zero in turned], keep)


def plant_fields(
    actuator: ActuatorPlan, index: int, keep: list[Any], lockstep: LockStepConfig
) -> dict[str, Any]:
    """Where an actuator's commands go, and after what delay."""
    delay = lockstep.timing.ns(f"actuators.{actuator.name}.delay_ms")
    fields: dict[str, Any] = {"delay": distribution_fields(delay, keep)}
    controls = lockstep.world.controls[index] if lockstep.world is not None else None
    if controls is not None:
        places = [ffi.cast("double *", address) for address in controls.addresses]
        fields["control"] = ffi.new("double *[]", places)
        fields["control_gain"] = doubles(controls.gains, keep)
        fields["control_zero"] = doubles(controls.zeros, keep)
        keep.append(fields["control"])
    return fields
