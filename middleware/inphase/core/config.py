"""A plan as the structures of native/inphase.h.

The targets of their pointers are appended to `keep`, whose owner keeps them alive.
"""

import math
from typing import Any, NamedTuple

from inphase._core import ffi, lib
from inphase.core.arrays import doubles
from inphase.core.lockstep_config import (
    LockStepConfig,
    fill_lockstep,
    plant_fields,
    start_positions,
    twin_fields,
)
from inphase.devices.packet_fields import encoding_fields, exchange_fields
from inphase.driver import Stop, StopKind, Watchdog
from inphase.frames.record_layout import STATUSES
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.feedback import FEEDBACK_KINDS
from inphase.plan.plan import EstopPlan, Plan
from inphase.schedule.motion import park_times
from inphase.schedule.motion.workspace import Workspace
from inphase.schedule.tables import Policy

_PAGE = 4096


_STOP_WIRE_NS = 1_000_000  # of a driver that states no time on the wire


RECOVER = 3
"""Good replies before a device that came back is trusted."""


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
            "pace_sensor": 0 if lockstep is not None else _pace_sensor(plan),
            "sensor": sensors,
            "actuator": actuators,
            "description_size": description_size,
            "policy_timing": _policy_timing(plan.schedule.policy),
        },
    )
    if lockstep is not None:
        fill_lockstep(config, lockstep, keep)
    return config


def _pace_sensor(plan: Plan) -> int:
    """1 + the number of the sensor whose packets start the cycles; 0: there is none. A stand-in of
    a simulated run, which a worker reads, has no packets."""
    for index, sensor in enumerate(plan.sensors):
        if sensor.schedule.device == plan.schedule.cycle.clock and sensor.home == "cycle":
            return 1 + index
    return 0


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


def estop_inputs(plan: Plan, keep: list[Any], lines: bool) -> Any:
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


def _sensor(
    plan: Plan, index: int, keep: list[Any], lockstep: LockStepConfig | None
) -> dict[str, Any]:
    sensor = plan.sensors[index]
    offsets = sensor.offsets
    places = ffi.new("uint32_t[]", offsets or 1)
    keep.append(places)
    acquire, acquire_ns = sensor.acquire
    exchange = {} if sensor.exchange is None else exchange_fields(sensor.exchange, keep)
    groups = ffi.new("uint32_t[]", [field.channels for field in sensor.spec.fields])
    keep.append(groups)
    return {
        "device": sensor.device,
        "worker": sensor.home != "cycle",
        "free_running": sensor.schedule.free_running,
        "channels": len(offsets),
        "offset": places,
        "payload": sensor.dtype.itemsize,
        "burst": sensor.spec.burst,
        "burst_groups": len(groups) if sensor.spec.burst else 0,
        "burst_group": groups,
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
        "twin": {} if lockstep is None else twin_fields(plan, index, keep, lockstep),
        "low": doubles(sensor.low, keep),
        "high": doubles(sensor.high, keep),
        "rate": doubles(sensor.rate, keep),
    }


def _watchdog(watchdog: Watchdog | None) -> int:
    """How a device's watchdog is fed: 0 it has none, 1 by writes, 2 by reads too."""
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
        "off_on_estop": actuator.schedule.on_estop == "limp",
        "max_hold_ns": actuator.schedule.max_hold_ns(period_ns),
        "handover_ns": actuator.schedule.handover_ns,
        "coasts": actuator.schedule.on_miss == "coast",
        "approaches": actuator.schedule.first_command == "approach",
        "rest_speed": actuator.schedule.rest_speed,
        "limits": limits,
        "workspace": _workspace(actuator.schedule.workspace, keep),
        "park": _park(actuator, period_ns, keep),
        # of a device the driver says it, as it is enabled
        "start": ffi.NULL if lockstep is None else start_positions(actuator, index, keep, lockstep),
        "encoding": encoding_fields(actuator.encoding, keep) if actuator.encoding else {},
        "stop": _stop(actuator, keep) if actuator.stop is not None else {},
        "servo": servos,
        **({} if lockstep is None else plant_fields(actuator, index, keep, lockstep)),
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


def _park(actuator: ActuatorPlan, period_ns: int, keep: list[Any]) -> Any:
    """struct inphase_park; NULL: there is none. A run may be allowed less than its schedule."""
    park = actuator.schedule.park
    if park is None:
        return ffi.NULL
    wanted = zip(park_times.velocities(actuator.schedule, park), actuator.limits, strict=True)
    velocity = [min(one, limits.velocity) for one, limits in wanted]
    made = ffi.new(
        "struct inphase_park *",
        {
            "points": len(park.path),
            "point": doubles([at for point in park.path for at in point], keep),
            "velocity": doubles(velocity, keep),
            "longest_ns": park_times.longest_ns(actuator.schedule, park, velocity, period_ns),
        },
    )
    keep.append(made)
    return made
