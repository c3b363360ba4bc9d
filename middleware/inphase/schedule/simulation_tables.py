"""A schedule's tables of its simulation: the world, the timing model, randomisation, the task.

None of them touches a robot: a run on hardware reads the same file and ignores them. So it is with
the page, which shows the same model.
"""

from typing import Annotated, Literal

from msgspec import Meta

from inphase.schedule.distribution import Shape, Spec
from inphase.schedule.network_tables import Classifier
from inphase.schedule.table import Table

Share = Annotated[float, Meta(ge=0, le=1)]
Names = str | list[str]


class Source(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The source of a field of a sample in the world: exactly one quantity, named as in the model.

    Numbers are `zero + gain * quantity`, plus noise. A list of names fills a field one after the
    other.
    """

    joint_position: Names | None = None
    """Position of a joint, in rad or m."""
    joint_velocity: Names | None = None
    """Velocity of a joint."""
    joint_acceleration: Names | None = None
    """Acceleration of a joint."""
    joint_effort: Names | None = None
    """Effort of the actuators on the joint, in N m or N."""
    tendon_position: Names | None = None
    """Length of a tendon; of a fixed one in the unit of its joints."""
    tendon_velocity: Names | None = None
    """Velocity of that length."""
    sensor: Names | None = None
    """A sensor of the model: all its numbers."""
    site_position: Names | None = None
    """Position of a site, in m."""
    site_rotation: Names | None = None
    """Rotation of a site: nine numbers, row by row."""
    body_position: Names | None = None
    """Position of a body, in m."""
    body_orientation: Names | None = None
    """Orientation of a body: four numbers, w, x, y, z."""
    camera: str | None = None
    """A camera's image."""
    depth: str | None = None
    """A camera's distance image, in m."""
    gain: float = 1.0
    """Factor of the quantity."""
    zero: float = 0.0
    """Number that is added to that."""
    noise: Annotated[float, Meta(ge=0)] = 0.0
    """Largest noise: a draw in -1..1 times this is added."""


QUANTITIES = tuple(f for f in Source.__struct_fields__ if f not in ("gain", "zero", "noise"))


class WorldSensor(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The place of a sensor of the schedule in the world."""

    joints: list[str] | None = None
    """The model's joints, in the order of a driver with values per joint."""
    camera: str | None = None
    """The model's camera, of a driver with one image."""
    fields: dict[str, Source] = {}
    """Its fields one by one. A field that is not named keeps the driver's twin."""


class WorldActuator(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The actuators of the model that take an actuator's commands.

    Actuators of the command's own kind take them, and their gains and filters stay. With `kp` and
    `kd` they become position actuators of those gains, with `kd` alone velocity actuators. Their
    own force range, and of a motor its control range, bounds their force.
    """

    actuators: list[str]
    """Actuators of the model, one per channel."""
    kp: float | list[float] | None = None
    """Makes position actuators of them, in N m/rad or N/m; for all channels or each."""
    kd: float | list[float] | None = None
    """Their damping, in N m s/rad or N s/m; alone it makes velocity actuators."""


class WorldTable(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A simulated world: an MJCF file beside the schedule, and what its parts are to the robot."""

    model: Annotated[str, Meta(min_length=1)]
    """The MJCF file."""
    engine: Literal["mujoco", "rapier"] = "mujoco"
    """The simulator that steps it: MuJoCo, or Rapier (extra `rapier`), in lock step alone."""
    step_us: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    """The physics step; the nearest one below that divides the period is taken. Left out: the
    model's."""
    keyframe: str | None = None
    """Start of an episode. Left out: the model's own start."""
    pose: dict[str, float] = {}
    """By joint of the model: its position at the start, in rad or m, in place of the keyframe's."""
    shadows: bool = False
    """Cameras see shadows."""
    reflections: bool = False
    """Cameras see reflections."""
    skybox: bool = False
    """Cameras see the sky."""
    sensor: dict[str, WorldSensor] = {}
    """Places of the schedule's sensors in the model."""
    actuator: dict[str, WorldActuator] = {}
    """Actuators of the model that take the schedule's commands."""


class SensorTiming(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Timing of a sensor's samples."""

    latency_ms: Spec | None = None
    """From the trigger to the sample in hand; of a free-running one from the
    acquisition. Left out: as its driver states it."""
    jitter_ms: Spec | None = None
    """Time that is added to the latency. Left out: as its driver states it."""
    dropout: Share = 0.0
    """Share of samples that never come."""
    freeze: Share = 0.0
    """Probability that it stands still from a sample on."""
    freeze_samples: Spec = 10.0
    """For how many samples it stands still then."""
    drift_ppm: Annotated[float, Meta(ge=-100_000, le=100_000)] = 0.0
    """Lead of its own clock; a positive one runs faster."""
    phase_ms: Annotated[float, Meta(ge=0, le=3_600_000)] = 0.0
    """Time of the first sample of a free-running sensor."""


class PolicyTiming(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Timing of the policy."""

    inference_ms: Spec = 0.0
    """From a frame to the policy's command."""


class ActuatorTiming(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Timing of an actuator's commands."""

    delay_ms: Spec = 0.0
    """From the act to the effect of a command."""


class HostTiming(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Timing of the machine."""

    wake_late_ms: Spec = 0.0
    """Lateness of the cycle thread at each of its wakes."""


class TimingTables(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A timing model, as a schedule or a file of its own has it."""

    sensors: dict[str, SensorTiming] = {}
    """By sensor: the timing of its samples."""
    actuators: dict[str, ActuatorTiming] = {}
    """By actuator: the timing of its commands."""
    policy: PolicyTiming = PolicyTiming()
    """Timing of the policy."""
    host: HostTiming = HostTiming()
    """Timing of the machine."""


class Timing(TimingTables, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The timing model; with `file` nothing else."""

    file: str | None = None
    """A TOML file beside the schedule that holds all of this table, such as `inphase fit`
    prints."""


class Knob(Shape, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The draw of a knob: the keys of a distribution, or one of `set`, `scale` and `add`."""

    set: Spec | list[Spec] | None = None
    """A draw in place of its own value; a list has one per component."""
    scale: Spec | list[Spec] | None = None
    """A draw that its own value is multiplied by."""
    add: Spec | list[Spec] | None = None
    """A draw that is added to its own value."""
    per: Literal["episode", "cycle"] = "episode"
    """Drawn once per episode, or in every cycle."""


class Task(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The task that an environment gives a policy: functions of a frame, named as a policy is."""

    reward: str | None = None
    """A function of a frame that gives a number: `file.py:name` or `module:name`. Left out: 0."""
    terminated: str | None = None
    """A function of a frame that ends the episode. Left out: none."""
    success: str | None = None
    """A function of a frame: the task is done, and a job's episode ends well. Left out: none."""
    classifier: Classifier | None = None
    """A model that says so, in place of `success`."""
    cycles: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    """Length of an episode. Left out: not bounded."""


class Page(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The web page of a robot that runs. Left out: there is none."""

    address: str = "127.0.0.1:8470"
    """Address and port. Port 0, or one that is taken on loopback, gives a free one. An address
    that others reach wants `keys`."""
    keys: str | None = None
    """Folder of the keys of those who may sign in (`inphase keys`), from the schedule's folder on,
    or `~/...`. The page is encrypted then. Left out: anybody on this host may look and stop."""
    certificate: str | None = None
    """PEM file of the page's certificate and those that lead to it, likewise; with `keys`. Left
    out: one is made in that folder, which browsers do not know."""
    key: str | None = None
    """PEM file of the certificate's key."""
    model: str | None = None
    """The MJCF file of the robot that is drawn. Left out: that of `[world]`, if there is one."""
    keyframe: str | None = None
    """Keyframe that gives the joints which no sensor measures. Left out: the model's own start."""
    joints: dict[str, list[str]] = {}
    """By measured field, as `"joints.position"`: the joints of the model that its numbers move.
    Left out: as `[world]` has them."""
