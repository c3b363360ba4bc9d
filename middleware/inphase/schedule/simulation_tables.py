"""A schedule's tables of its simulation: the world, the timing model, randomisation, the task.

None of them touches a robot: a run on hardware reads the same file and ignores them.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from inphase.schedule.distribution import Shape, Spec

Share = Annotated[float, Meta(ge=0, le=1)]
Names = str | list[str]


class Source(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The source of a field of a sample in the world: exactly one quantity, named as in the model.

    Numbers are `zero + gain * quantity`, and `noise` times a draw in -1..1 is added.
    """

    joint_position: Names | None = None
    joint_velocity: Names | None = None
    joint_acceleration: Names | None = None
    joint_effort: Names | None = None
    """what the actuators put on the joint, N m or N"""
    sensor: Names | None = None
    """a sensor of the model: all its numbers"""
    site_position: Names | None = None
    site_rotation: Names | None = None
    """nine numbers, row by row"""
    body_position: Names | None = None
    body_orientation: Names | None = None
    """four numbers: w, x, y, z"""
    camera: str | None = None
    depth: str | None = None
    """a camera's distance image, in m"""
    gain: float = 1.0
    zero: float = 0.0
    noise: Annotated[float, Meta(ge=0)] = 0.0


QUANTITIES = tuple(f for f in Source.__struct_fields__ if f not in ("gain", "zero", "noise"))


class WorldSensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where in the world a sensor of the schedule is.

    `joints`: the joints of a driver with values per joint, in its order. `camera`: of one with an
    image. `fields`: its fields one by one; a field that nothing is said of keeps the driver's twin.
    """

    joints: list[str] | None = None
    camera: str | None = None
    fields: dict[str, Source] = {}


class WorldActuator(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which actuators of the model take an actuator's commands, one per channel.

    Actuators of the command's own kind (position, velocity, motor) take them unchanged. With `kp`
    and `kd` motors become position actuators, with `kd` alone velocity actuators. The motor's own
    range bounds their force: that is the drive that a real one would have. `kp` is in N m/rad or
    N/m, `kd` in N m s/rad or N s/m; one number for all channels or one each.
    """

    actuators: list[str]
    kp: float | list[float] | None = None
    kd: float | list[float] | None = None


class World(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A world of MuJoCo: an MJCF file beside the schedule, and what its parts are to the robot.

    `step_us`: the physics step; left out, the model's. `keyframe`: where an episode starts.
    """

    model: Annotated[str, Meta(min_length=1)]
    step_us: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    keyframe: str | None = None
    shadows: bool = False
    reflections: bool = False
    skybox: bool = False
    sensor: dict[str, WorldSensor] = {}
    actuator: dict[str, WorldActuator] = {}


class SensorTiming(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sensor's timing: what is left out is as its driver states it.

    `latency_ms`: from the trigger to the sample in hand (latched: from its acquisition), and
    `jitter_ms` is added to it. `dropout`: the share of samples that never come. `freeze`: the
    probability that it stands still from a sample on, for `freeze_samples`. `drift_ppm`: how much
    faster its own clock runs. `phase_ms`: when one that runs by itself takes its first sample.
    """

    latency_ms: Spec | None = None
    jitter_ms: Spec | None = None
    dropout: Share = 0.0
    freeze: Share = 0.0
    freeze_samples: Spec = 10.0
    drift_ppm: Annotated[float, Meta(ge=-100_000, le=100_000)] = 0.0
    phase_ms: Annotated[float, Meta(ge=0, le=3_600_000)] = 0.0


class PolicyTiming(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long the policy takes from a frame to its command."""

    inference_ms: Spec = 0.0


class ActuatorTiming(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long after the act a command takes effect."""

    delay_ms: Spec = 0.0


class HostTiming(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How late the cycle thread wakes, at each of its sleeps."""

    wake_late_ms: Spec = 0.0


class TimingTables(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A timing model, as a schedule or a file of its own has it."""

    sensors: dict[str, SensorTiming] = {}
    actuators: dict[str, ActuatorTiming] = {}
    policy: PolicyTiming = PolicyTiming()
    host: HostTiming = HostTiming()


class Timing(TimingTables, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The timing model; with `file`, that of a TOML file beside the schedule, and nothing else."""

    file: str | None = None


class Knob(Shape, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a knob is drawn. A list has a distribution per component.

    - `set`, or a distribution's own keys: the knob is the draw.
    - `scale`: its own value times a draw.
    - `add`: its own value plus a draw.
    """

    set: Spec | list[Spec] | None = None
    scale: Spec | list[Spec] | None = None
    add: Spec | list[Spec] | None = None
    per: Literal["episode", "cycle"] = "episode"


class Task(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The task that an environment gives a policy: functions of a frame, named as a policy is.

    `reward` gives a number. `terminated` is true when the episode is over. `cycles` bounds it.
    """

    reward: str | None = None
    terminated: str | None = None
    cycles: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
