"""The C core as an object: configured from a plan, on a segment of the store."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from inphase._core import ffi, lib
from inphase.core.world_seam import Failure, Reading, World
from inphase.devices.packets import encoding_fields, exchange_fields
from inphase.driver import Stop, StopKind, TwinChannel, TwinKind, Watchdog
from inphase.errors import StoreError
from inphase.frames.store import Segment, no_segment
from inphase.frames.wire import STATUSES
from inphase.plan.plan import FEEDBACK_KINDS, ActuatorPlan, EstopPlan, Plan, SensorPlan
from inphase.schedule.distribution import Distribution, constant
from inphase.schedule.tables import Cycle, Policy, Workspace
from inphase.schedule.timing_model import TimingModel

FAULTS = {
    "silent": lib.INPHASE_FAULT_SILENT,
    "delayed": lib.INPHASE_FAULT_DELAYED,
    "invalid": lib.INPHASE_FAULT_INVALID,
    "nan": lib.INPHASE_FAULT_NAN,
    "wrong": lib.INPHASE_FAULT_WRONG,
    "frozen": lib.INPHASE_FAULT_FROZEN,
    "gone": lib.INPHASE_FAULT_GONE,
    "wake": lib.INPHASE_FAULT_WAKE,
    "clock_step": lib.INPHASE_FAULT_CLOCK_STEP,
    "estop": lib.INPHASE_FAULT_ESTOP,
    "suspended": lib.INPHASE_FAULT_SUSPENDED,
}
"""Planned faults of simulated devices and of the virtual clock, by name."""

_answer_turn = lib.inphase_core_answer_turn  # looked up once: it is called in every turn
_PAGE = 4096
_STOP_WIRE_NS = 1_000_000  # of a driver that states no time on the wire
FREEZE_SAMPLES = 10.0
RECOVER = 3
"""Good replies before a device that came back is trusted."""


class Core:
    """One core. Whoever opens it closes it; `close` stops the cycle thread.

    Threads: any, but one at a time.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        epoch: int,
        description: bytes,
        observe: bool = False,
        cycles: int = 0,
        lockstep: "LockStepConfig | None" = None,
        lines: bool = True,
    ) -> None:
        """lines: False where no line is there, because no device is: none is ever pressed."""
        self.plan = plan
        self.epoch = epoch
        self._keep: list[Any] = []
        self._lines = lines
        config = self._config(
            epoch=epoch,
            description=description,
            observe=observe,
            cycles=cycles,
            lockstep=lockstep,
        )
        size = int(lib.inphase_core_size(config))
        self.segment = Segment.make(size)
        core = ffi.new("inphase_core **")
        rc = lib.inphase_core_open(core, config, self.segment.handle)
        if rc < 0:
            self.segment.close()
            raise StoreError(f"the core refuses its configuration: errno {-rc}")
        self._core = core[0]
        self._number = ffi.new("int64_t *")

    def _config(
        self,
        *,
        epoch: int,
        description: bytes,
        observe: bool,
        cycles: int,
        lockstep: "LockStepConfig | None",
    ) -> Any:
        config = base_config(self.plan, len(description), self._keep, lockstep)
        text = ffi.new("char[]", description)
        self._keep.append(text)
        config.cycles = cycles
        config.estop_inputs = len(self.plan.estop)
        config.estop = _estop(self.plan, self._keep, self._lines)
        config.epoch = epoch
        config.observe = observe
        config.has_policy = not observe and (
            self.plan.schedule.policy is not None or self.plan.client_policy
        )
        config.description = text
        return config

    # ---- wall clock ----------------------------------------------------------------------

    def worker(self, device: int, ring: Segment, wake_fd: int, bell: Segment | None) -> None:
        """A device whose worker posts into `ring`; bell: for its orders. Before `start`."""
        rung = ffi.NULL if bell is None else bell.handle
        rc = lib.inphase_core_worker(self._core, device, ring.handle, wake_fd, rung)
        if rc < 0:
            raise StoreError(f"device {device}: not the segment of this runtime's worker")

    def attach(self, device: int, fd: int) -> None:
        """From its next cycle on the cycle thread uses this descriptor, and no other before it."""
        rc = lib.inphase_core_attach(self._core, device, fd)
        assert rc == 0, (device, fd)

    def detach(self, device: int) -> None:
        """From its next cycle on the cycle thread uses none; `let_go` says when."""
        rc = lib.inphase_core_detach(self._core, device)
        assert rc == 0, device

    def attached(self, device: int) -> bool:
        """Whether the cycle thread uses what `attach` was called with last."""
        return bool(lib.inphase_core_attached(self._core, device) == 1)

    def let_go(self, device: int) -> bool:
        """Whether the cycle thread uses nothing of the device: the newest wish was taken, and it
        was `detach`, or the device was lost since."""
        return bool(lib.inphase_core_attached(self._core, device) == 0)

    def lost(self, device: int) -> int:
        """The errno with which the device was lost since the newest `attach`, 0: it was not."""
        return int(lib.inphase_core_lost(self._core, device))

    def mailbox(self) -> tuple[Segment, Segment]:
        """Make the policy's mailbox and its bell, which the caller closes after this core; before
        `start`, once. Raises StoreError."""
        made = ffi.new("inphase_segment *[2]")
        rc = lib.inphase_core_mailbox(self._core, made, made + 1)
        if rc < 0:
            raise no_segment(0, rc)
        return Segment(made[0]), Segment(made[1])

    def line(self, sensor: int, fd: int, pulse_ns: int = 0) -> None:
        """Raise a GPIO line at a sensor's trigger offset; before `start`. See inphase_core_line."""
        rc = lib.inphase_core_line(self._core, sensor, fd, pulse_ns)
        if rc < 0:
            raise StoreError(f"sensor {sensor}: the core does not take its line: errno {-rc}")

    def guard(self, max_hold_ns: int) -> tuple[int, int]:
        """The page for the guard, and that for its own beat: descriptors that the caller closes;
        before `start`."""
        life = ffi.new("int32_t *")
        fd = int(lib.inphase_core_guard(self._core, max_hold_ns, life))
        if fd < 0:
            raise StoreError(f"no page for the guard: {os.strerror(-fd)}")
        return fd, int(life[0])

    def holds(self, actuator: int, goals: Sequence[float]) -> None:
        """The goals at which a device holds already, before `enable`; empty: none."""
        rc = lib.inphase_core_holds(self._core, actuator, list(goals), len(goals))
        assert rc == 0, (actuator, goals)

    def enable(self, actuator: int, enabled: bool) -> None:
        """An actuator may be written to, or not."""
        lib.inphase_core_enable(self._core, actuator, enabled)

    @property
    def handle(self) -> Any:
        """The C core, for `Stops`."""
        return self._core

    def moves(self, actuator: int) -> bool:
        """Whether a robot that is latched or stopping is measured to move at this actuator."""
        return bool(lib.inphase_core_moves(self._core, actuator) == 1)

    def loose(self, actuator: int) -> bool:
        """Whether a robot that is latched or stopping is not known to be at rest there."""
        return bool(lib.inphase_core_loose(self._core, actuator) == 1)

    def arm(self) -> None:
        """Ask for motion, from where the robot is; granted once all is well. The local reset."""
        lib.inphase_core_arm(self._core)

    def arm_after(self, estops: int) -> None:
        """Likewise, unless there were more emergency stops so far: one that came meanwhile wins."""
        lib.inphase_core_arm_after(self._core, estops)

    def disarm(self) -> None:
        """Take back a request to arm that was not granted."""
        lib.inphase_core_disarm(self._core)

    def estop(self) -> None:
        """Emergency stop, from this process; callable from a signal handler."""
        lib.inphase_core_estop(self._core, lib.INPHASE_ESTOP_LOCAL)

    def estop_line(self, index: int, fd: int) -> None:
        """What an emergency-stop input of a line looks at; before `start`."""
        rc = lib.inphase_core_estop_line(self._core, index, fd)
        if rc < 0:
            raise StoreError(f"estop input {index}: the core does not take its line: errno {-rc}")

    def estop_page(self, segment: Segment) -> None:
        """Where the gateway leaves clients' emergency stops; before `start`."""
        if lib.inphase_core_estop_page(self._core, segment.handle) < 0:
            raise StoreError("not the page of this runtime's gateway")

    def guarded(self, actuator: int, guarded: bool) -> None:
        """Something stops an actuator's device when this process does not, or no longer."""
        lib.inphase_core_guarded(self._core, actuator, guarded)

    def latch(self, reason: int, detail: int = 0) -> None:
        """Latch motion for what the core cannot see by itself; the first reason stays."""
        rc = lib.inphase_core_latch(self._core, reason, detail)
        assert rc == 0, reason

    def beat(self) -> None:
        """The supervisor lives; from the first beat on its silence latches motion."""
        lib.inphase_core_beat(self._core)

    def policy_gone(self, died: bool) -> None:
        """No command will come any more."""
        lib.inphase_core_policy_gone(
            self._core, lib.INPHASE_REASON_DIED if died else lib.INPHASE_REASON_SILENT
        )

    def page_faults(self, faults: int) -> None:
        """Page faults of the cycle thread since its start."""
        lib.inphase_core_page_faults(self._core, faults)

    def stop(self, reason: int, detail: int = 0) -> None:
        """Ramp, then end. The first reason stays."""
        lib.inphase_core_stop(self._core, reason, detail)

    def start(self) -> None:
        """Start the cycle thread."""
        rc = lib.inphase_core_start(self._core)
        if rc < 0:
            raise StoreError(f"the cycle thread does not start: errno {-rc}")

    def ended(self, timeout_ns: int = 0) -> bool:
        """Whether the cycle thread has ended, waiting up to timeout_ns."""
        return bool(lib.inphase_core_join(self._core, timeout_ns) == 0)

    # ---- lock step -----------------------------------------------------------------------

    def turn(self, cycles: int) -> int | None:
        """Run on to the frame that the policy takes next; its number. None: `cycles` in all were
        run (0: no bound), or the core has stopped."""
        number: int = lib.inphase_core_turn(self._core, cycles)
        return None if number < 0 else number

    def answer(self, reason: int, values: Any, count: int) -> None:
        """What the policy says to that frame; `values`: a C double array of so many, not looked at
        where there is a reason."""
        lib.inphase_core_answer(self._core, reason, values, count)

    def answer_turn(self, reason: int, values: Any, count: int, cycles: int) -> int | None:
        """Both in one call: `answer`, then `turn`."""
        number: int = _answer_turn(self._core, reason, values, count, cycles)
        return None if number < 0 else number

    def run(self, cycles: int) -> int:
        """Whole cycles without leaving C; the number run."""
        return int(lib.inphase_core_run(self._core, cycles))

    @property
    def cycles(self) -> int:
        """Cycles run so far."""
        return int(lib.inphase_core_progress(self._core, self._number))

    @property
    def frames(self) -> int:
        """Frames latched so far."""
        lib.inphase_core_progress(self._core, self._number)
        return int(self._number[0])

    def world_failure(self) -> Failure | None:
        """How the world failed; None: it did not."""
        out = ffi.new("struct inphase_world_failure *")
        lib.inphase_core_world_failure(self._core, out)
        if not out.what:
            return None
        text = ffi.string(out.message).decode(errors="replace")
        return Failure(int(out.what), int(out.cycle), int(out.world_ns), text)

    def fault(self, kind: str, sensor: int, from_cycle: int, count: int, argument: int = 0) -> None:
        """Plan a fault of a simulated device (see FAULTS), for `count` cycles."""
        rc = lib.inphase_core_fault(
            self._core,
            ffi.new("struct inphase_fault *", [FAULTS[kind], sensor, from_cycle, count, argument]),
        )
        if rc < 0:
            raise ValueError(f"fault {kind} cannot be planned: errno {-rc}")

    def close(self) -> None:
        """Stop the cycle thread and unmap the segment."""
        if self._core is not None:
            lib.inphase_core_close(self._core)
            self.segment.close()
            self._core = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# ---- lock step's part of the configuration ----------------------------------------------------


@dataclass(frozen=True)
class LockStepConfig:
    """What a core needs to run on virtual time."""

    seed: int
    timing: TimingModel
    readings: list[list[Reading | None] | None]
    """per sensor and channel: where its numbers lie; None: the driver's twin answers"""
    world: World | None = None
    native: "NativePolicy | None" = None


@dataclass(frozen=True)
class NativePolicy:
    """A policy without Python: the address of a function of struct inphase_native_policy, and what
    it is given as `user`. Whoever makes it keeps both alive."""

    call: int
    user: int = 0


def draw_episode(seed: int, turn: int, kind: int) -> float:
    """A draw in 0..1 for a knob, keyed by the seed, an episode or cycle, and the knob's own key."""
    mask = 0xFFFFFFFFFFFFFFFF
    return float(lib.inphase_draw(seed & mask, turn & mask, lib.INPHASE_DRAW_EPISODE, kind & mask))


@ffi.def_extern(error=-1)  # type: ignore[untyped-decorator]
def inphase_render(user: Any, sensor: int, payload: Any) -> int:
    """What C calls to have a sensor's sample rendered; in the caller's thread."""
    world: World = ffi.from_handle(user)
    size = world.plan.sensors[sensor].dtype.itemsize
    return world.render(sensor, ffi.buffer(payload, size))


def _world(world: World, keep: list[Any]) -> Any:
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
    made.step_ns = engine.step_ns
    made.warning = ffi.cast("int32_t *", engine.warning)
    made.warnings = engine.warnings
    made.warning_stride = engine.warning_stride
    made.fatal = engine.fatal
    made.render = lib.inphase_render
    made.user = handle
    return made


def _distribution(given: Distribution | None, keep: list[Any]) -> dict[str, Any]:
    """The fields of struct inphase_distribution."""
    if given is None:
        return {}
    return {
        "knots": len(given.values),
        "probability": _doubles(list(given.probabilities), keep),
        "value": _doubles(list(given.values), keep),
    }


def _lockstep(config: Any, lockstep: LockStepConfig, keep: list[Any]) -> None:
    """What of struct inphase_config is lock step's alone."""
    timing = lockstep.timing
    config.virtual_time = 1
    config.seed = lockstep.seed & 0xFFFFFFFFFFFFFFFF
    config.wake_late = _distribution(timing.ns("host.wake_late_ms"), keep)
    config.inference = _distribution(timing.ns("policy.inference_ms"), keep)
    if lockstep.world is not None:
        config.world = _world(lockstep.world, keep)
    if lockstep.native is not None:
        config.policy.call = ffi.cast(
            "uint32_t(*)(void *, const void *, const void *const *, double *)",
            lockstep.native.call,
        )
        config.policy.user = ffi.cast("void *", lockstep.native.user)


# ---- the plan as C structures; what they point at is appended to `keep` -----------------------


def is_realtime(cycle: Cycle) -> bool:
    """Whether the kernel gives this process the cycle thread's priority and core."""
    out = ffi.new("struct inphase_realtime *")
    cpu = -1 if cycle.cpu is None else cycle.cpu
    return lib.inphase_realtime_try(cycle.priority, cpu, out) == 0 and bool(out.granted)


class StoreSize(NamedTuple):
    """Bytes of shared memory that a plan needs, without its description."""

    total: int
    locked: int
    """of those, what the cycle thread locks: of a worker's image only the stamps"""


def store_size(plan: Plan) -> StoreSize:
    """The size of a plan's store."""
    keep: list[Any] = []
    core = int(lib.inphase_core_size(base_config(plan, 0, keep)))
    core += int(lib.inphase_mailbox_size(plan.answer))
    posted = [s for s in plan.sensors if s.home != "cycle"]
    rings = sum(_PAGE + s.depth * (s.dtype.itemsize + 128) for s in posted)
    looked_at = sum(_PAGE + s.depth * 2 * _PAGE for s in posted)
    return StoreSize(core + rings, core + looked_at)


def base_config(
    plan: Plan, description_size: int, keep: list[Any], lockstep: LockStepConfig | None = None
) -> Any:
    """struct inphase_config with what follows from the plan, and from how it is simulated."""
    cycle = plan.schedule.cycle
    sensors = ffi.new(
        "struct inphase_sensor_config[]",
        [_sensor(plan, index, keep, lockstep) for index in range(len(plan.sensors))],
    )
    actuators = ffi.new(
        "struct inphase_actuator_config[]",
        [_actuator(plan, index, keep, lockstep) for index in range(len(plan.actuators))] or 1,
    )
    keep += [sensors, actuators]
    config = ffi.new(
        "struct inphase_config *",
        {
            "period_ns": cycle.period_ns,
            "read_deadline_ns": cycle.read_deadline_ns,
            "act_ns": cycle.act_ns,
            "resumed_after_ns": cycle.resumed_after_ns,
            "devices": len(plan.schedule.device),
            "sensors": len(plan.sensors),
            "actuators": len(plan.actuators),
            "frame_depth": plan.depth,
            "overrun_limit": cycle.overrun_limit,
            "priority": cycle.priority,
            "cpu": -1 if cycle.cpu is None else cycle.cpu,
            "sensor": sensors,
            "actuator": actuators,
            "description_size": description_size,
            "policy_timing": _policy_timing(plan.schedule.policy),
        },
    )
    if lockstep is not None:
        _lockstep(config, lockstep, keep)
    return config


def _policy_timing(policy: Policy | None) -> dict[str, int]:
    """The fields of struct inphase_policy_timing."""
    if policy is None:
        return {}
    joins = {
        "switch": lib.INPHASE_JOIN_SWITCH,
        "blend": lib.INPHASE_JOIN_BLEND,
        "freeze": lib.INPHASE_JOIN_FREEZE,
    }
    ways = {
        "hold": lib.INPHASE_HOLD,
        "linear": lib.INPHASE_LINEAR,
        "cubic": lib.INPHASE_CUBIC,
    }
    return {
        "every": policy.every,
        "latency_cycles": policy.latency_cycles,
        "chunk_every": policy.chunk_every,
        "blend_cycles": policy.blend_cycles or 0,
        "chunk": policy.chunk,
        "join": joins[policy.join],
        "interpolate": ways[policy.interpolate],
    }


def _estop(plan: Plan, keep: list[Any], lines: bool) -> Any:
    """struct inphase_estop_input[]."""
    array = ffi.new(
        "struct inphase_estop_input[]", [_estop_input(one, lines) for one in plan.estop] or 1
    )
    keep.append(array)
    return array


def _estop_input(one: EstopPlan, lines: bool) -> dict[str, Any]:
    given = one.schedule
    if given.line is not None:
        kind = lib.INPHASE_INPUT_LINE if lines else lib.INPHASE_INPUT_NONE
        return {"kind": kind, "pressed": given.pressed == "high"}
    return {
        "kind": lib.INPHASE_INPUT_SAMPLE,
        "pressed": given.pressed != "low",
        "sensor": one.sensor,
        "channel": one.channel,
        "accepts": sum(1 << STATUSES.index(name) for name in given.accepts),
        "mask": given.mask or 0,
        "low": math.nan if given.low is None else given.low,
        "high": math.nan if given.high is None else given.high,
    }


def _doubles(values: list[float], keep: list[Any]) -> Any:
    array = ffi.new("double[]", values)
    keep.append(array)
    return array


def _sensor(
    plan: Plan, index: int, keep: list[Any], lockstep: LockStepConfig | None
) -> dict[str, Any]:
    sensor = plan.sensors[index]
    offsets = sensor.offsets
    places = ffi.new("uint32_t[]", offsets or 1)
    keep.append(places)
    acquire, acquire_ns = sensor.acquire
    exchange = {} if sensor.exchange is None else exchange_fields(sensor.exchange, keep)
    return {
        "device": sensor.device,
        "worker": sensor.home != "cycle",
        "latched": sensor.schedule.latched,
        "channels": len(offsets),
        "offset": places,
        "payload": sensor.dtype.itemsize,
        "trigger_ns": sensor.schedule.trigger_ns,
        "every": sensor.schedule.every,
        "latency_cycles": sensor.schedule.latency_cycles,
        "frozen_after": sensor.schedule.frozen_after or 0,
        "max_age_ns": sensor.schedule.max_age_ns,
        "recover": RECOVER,
        "depth": sensor.depth,
        "exchange": {
            **exchange,
            "acquire": int(acquire),
            "acquire_ns": acquire_ns,
            "reply_ns": sensor.typical_ns,
            "reply_min_ns": sensor.earliest_ns,
        },
        "twin": {} if lockstep is None else _twin(plan, index, keep, lockstep),
        "low": _doubles(sensor.low, keep),
        "high": _doubles(sensor.high, keep),
        "rate": _doubles(sensor.rate, keep),
    }


def _twin(plan: Plan, index: int, keep: list[Any], lockstep: LockStepConfig) -> dict[str, Any]:
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
    calls, path = sensor.spec.calls, f"sensors.{sensor.name}"
    rendered = world is not None and index < len(world.readings) and world.rendered(index)
    has_clock = sensor.exchange is not None and sensor.exchange.clock is not None
    return {
        "channel": channels,
        "latency_ns": sensor.spec.twin_latency_ns,
        "jitter_ns": sensor.spec.twin_jitter_ns,
        "period_ns": (calls.interval_ns if calls else 0) or plan.schedule.cycle.period_ns,
        "phase_ns": round(timing.number(f"{path}.phase_ms") * 1e6),
        "latency": _distribution(timing.ns(f"{path}.latency_ms"), keep),
        "jitter": _distribution(timing.ns(f"{path}.jitter_ms"), keep),
        "freeze_samples": _distribution(
            timing.get(f"{path}.freeze_samples") or constant(FREEZE_SAMPLES), keep
        ),
        "dropout": timing.number(f"{path}.dropout"),
        "freeze": timing.number(f"{path}.freeze"),
        "drift": timing.number(f"{path}.drift_ppm") * 1e-6,
        "clock": has_clock and timing.get(f"{path}.drift_ppm") is not None,
        "derived": rendered or any(r is not None and r.derived for r in readings),
        "rendered": rendered,
    }


def _reading(reading: Reading) -> dict[str, Any]:
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
    """Which actuator's joints a sensor's twin follows: that of its own device, else the first."""
    for index, actuator in enumerate(plan.actuators):
        if actuator.device == sensor.device:
            return index
    return 0


def _watchdog(watchdog: Watchdog | None) -> int:
    """What feeds a device's watchdog: 0 it has none, 1 writes, 2 reads too."""
    if watchdog is None:
        return 0
    return 2 if watchdog.fed_by_reads else 1


def _actuator(
    plan: Plan, index: int, keep: list[Any], lockstep: LockStepConfig | None
) -> dict[str, Any]:
    actuator, period_ns = plan.actuators[index], plan.schedule.cycle.period_ns
    limits = ffi.new("struct inphase_limits[]", actuator.limits)
    servos = ffi.new(
        "struct inphase_servo[]",
        [
            {
                "goal": servo.start if actuator.schedule.mode == "position" else one.safe,
                "position": servo.start,
                "natural_rad_s": servo.natural_rad_s,
                "velocity_max": servo.velocity_max,
                "acceleration_max": servo.acceleration_max,
                "mode": one.mode,
                "inertia": servo.inertia,
                "damping": servo.damping,
            }
            for servo, one in zip(actuator.spec.servos, actuator.limits, strict=True)
        ],
    )
    keep += [limits, servos]
    return {
        "device": actuator.device,
        "channels": actuator.spec.channels,
        "feedback_sensor": actuator.feedback_sensor,
        "feedback_channel": actuator.feedback_channel,
        "feedback_kind": FEEDBACK_KINDS.index(actuator.feedback_kind),
        "measures": (actuator.velocity_channel >= 0) * lib.INPHASE_MEASURES_VELOCITY
        + (actuator.effort_channel >= 0) * lib.INPHASE_MEASURES_EFFORT,
        "velocity_channel": max(0, actuator.velocity_channel),
        "effort_channel": max(0, actuator.effort_channel),
        "accepts": sum(1 << STATUSES.index(name) for name in actuator.schedule.accepts),
        "worker": actuator.home != "cycle",
        "watchdog": _watchdog(actuator.spec.watchdog),
        "guarded": actuator.stops_itself,
        "off_on_estop": actuator.schedule.on_estop == "off",
        "max_hold_ns": actuator.schedule.max_hold_ns(period_ns),
        "coasts": actuator.schedule.on_miss == "coast",
        "rest_speed": actuator.schedule.rest_speed,
        "limits": limits,
        "workspace": _workspace(actuator.schedule.workspace, keep),
        # of a device the driver says it, as it is enabled
        "start": ffi.NULL if lockstep is None else _start(actuator, index, keep, lockstep),
        "encoding": encoding_fields(actuator.encoding, keep) if actuator.encoding else {},
        "stop": _stop(actuator, keep) if actuator.stop is not None else {},
        "servo": servos,
        **({} if lockstep is None else _plant(actuator, index, keep, lockstep)),
    }


def _stop(actuator: ActuatorPlan, keep: list[Any]) -> dict[str, Any]:
    """The fields of struct inphase_stop."""
    stop: Stop | None = actuator.stop
    assert stop is not None
    write_ns = actuator.encoding.write_ns if actuator.encoding is not None else _STOP_WIRE_NS
    packet = ffi.new("uint8_t[]", stop.packet or b"\0")
    keep.append(packet)
    return {
        "kind": int(stop.kind),
        "bytes": packet,
        "size": len(stop.packet),
        "chunk": stop.chunk,
        "gap_ns": stop.gap_ns,
        # of other bytes than the command's it is not stated: longer is no harm
        "wire_ns": write_ns * (2 if stop.kind == StopKind.BYTES else 1),
    }


def _workspace(workspace: Workspace | None, keep: list[Any]) -> Any:
    """struct inphase_workspace; NULL: there is none. Axes are given the length 1."""
    if workspace is None:
        return ffi.NULL
    joints = ffi.new(
        "struct inphase_joint[]",
        [
            {
                "translation": joint.translation,
                "axis": [part / math.sqrt(sum(x * x for x in joint.axis)) for part in joint.axis],
                "prismatic": joint.kind == "prismatic",
            }
            for joint in workspace.joints
        ],
    )
    made = ffi.new(
        "struct inphase_workspace *",
        {
            "joint": joints,
            "joints": len(workspace.joints),
            "tool": workspace.tool,
            "low": workspace.low,
            "high": workspace.high,
        },
    )
    keep += [joints, made]
    return made


def _start(actuator: ActuatorPlan, index: int, keep: list[Any], lockstep: LockStepConfig) -> Any:
    """Where the joints are, as their world or their own servos have it."""
    controls = lockstep.world.controls[index] if lockstep.world is not None else None
    if controls is None or actuator.schedule.mode != "position":
        return _doubles([servo.start for servo in actuator.spec.servos], keep)
    places = [ffi.cast("double *", address)[0] for address in controls.addresses]
    return _doubles([at / gain for at, gain in zip(places, controls.gains, strict=True)], keep)


def _plant(
    actuator: ActuatorPlan, index: int, keep: list[Any], lockstep: LockStepConfig
) -> dict[str, Any]:
    """Where an actuator's commands go, and after what delay."""
    delay = lockstep.timing.ns(f"actuators.{actuator.name}.delay_ms")
    fields: dict[str, Any] = {"delay": _distribution(delay, keep)}
    controls = lockstep.world.controls[index] if lockstep.world is not None else None
    if controls is not None:
        places = [ffi.cast("double *", address) for address in controls.addresses]
        fields["control"] = ffi.new("double *[]", places)
        fields["control_gain"] = _doubles(controls.gains, keep)
        keep.append(fields["control"])
    return fields
