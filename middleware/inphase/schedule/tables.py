"""The tables of a schedule's file, as frozen objects; `schedule.load` reads and checks them."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from inphase.errors import ScheduleError
from inphase.schedule import document, toml_position
from inphase.schedule.document import show
from inphase.schedule.simulation_tables import Knob, Task, Timing, World

Positive = Annotated[float, Meta(gt=0)]
Numbers = float | list[float]
"""A number for all channels, or one per channel; read it with `Schedule.numbers`."""
Pairs = list[float | list[float]]
"""A pair for all channels, or one pair per channel; read it with `Schedule.pairs`."""
Vector = tuple[float, float, float]
"""x, y and z."""
Status = Literal["FRESH", "HELD", "LATE", "MISSING", "FROZEN", "INVALID", "OFFLINE", "RECOVERING"]
"""A sample's status; middleware/SENSORS.md has the table."""

HOLD_NS = 20_000_000  # a missing command leads to the ramp within max(20 ms, 2 cycles)


class Cycle(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The grid and the offsets of its phases. Exactly one of `rate_hz` and `period_us` is set."""

    read_deadline_us: Annotated[int, Meta(gt=0)]
    act_us: Annotated[int, Meta(gt=0)]
    rate_hz: Positive | None = None
    period_us: Positive | None = None
    realtime: Literal["require", "prefer"] = "require"
    priority: Annotated[int, Meta(ge=1, le=98)] = 80
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    overrun_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 50
    resumed_after_ms: Annotated[float, Meta(gt=0, le=60_000)] = 100.0

    @property
    def emulator_priority(self) -> int:
        """SCHED_FIFO priority of the emulator: below the cycle's, above what is ordinary."""
        return max(1, self.priority - 10)

    @property
    def period_ns(self) -> int:
        """Length of one cycle in nanoseconds; a loaded schedule's is whole."""
        return int(exact_period(self))

    @property
    def read_deadline_ns(self) -> int:
        """Offset of the read deadline from the cycle's start, in nanoseconds."""
        return self.read_deadline_us * 1000

    @property
    def act_ns(self) -> int:
        """Offset of the act phase from the cycle's start, in nanoseconds."""
        return self.act_us * 1000

    @property
    def resumed_after_ns(self) -> int:
        """How late a wake counts as a machine that was suspended, in nanoseconds."""
        return _ns(self.resumed_after_ms)


class Store(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The readers of the store, and the least depth of its rings (slots, a power of two)."""

    group: Annotated[str, Meta(min_length=1)] | None = None
    depth: Annotated[int, Meta(ge=8, le=65_536)] | None = None


class Gateway(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where frames are published (PUB) and, optionally, where requests are taken (ROUTER)."""

    endpoint: str
    control: str | None = None


class Guard(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the guard takes the runtime for frozen; left out: the shortest `max_hold_ms` of an
    actuator, and two cycles at least."""

    max_hold_ms: Annotated[float, Meta(gt=0, le=60_000)] | None = None


class EstopInput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An input of the emergency stop: a GPIO line, or a channel of a sensor's float64 field.

    A line stops at the level `pressed`. A sample stops when any bit of `mask` is set (`pressed`
    "high") or clear ("low"), and outside of `low` to `high`. `accepts`: the statuses with which it
    counts. An input that cannot be read stops.
    """

    line: "GpioLine | None" = None
    sample: str | None = None
    channel: Annotated[int, Meta(ge=0, le=63)] = 0
    pressed: Literal["low", "high"] | None = None
    mask: Annotated[int, Meta(ge=1, lt=2**53)] | None = None
    low: float | None = None
    high: float | None = None
    accepts: tuple[Status, ...] = ("FRESH", "HELD")


class Emulator(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The companion process that answers for the devices; `options` are its own keys, raw."""

    module: str
    options: dict[str, Any] = {}


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One device: its driver (`module:Class`), where that runs, and the driver's own keys, raw.

    `home` None: the plan decides. `priority` (SCHED_FIFO) and `cpu` are a worker process's.
    """

    driver: str
    home: Literal["cycle", "process", "thread"] | None = None
    priority: Annotated[int, Meta(ge=0, le=98)] = 0
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    options: dict[str, Any] = {}


class GpioLine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A GPIO line: its chip's device file and its offset there."""

    chip: Annotated[str, Meta(min_length=1)]
    line: Annotated[int, Meta(ge=0, le=65_535)]


class Sensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a device is triggered and how its values are turned, shifted and judged (SI).

    Triggered in cycle n, when `every` divides n, a sample is due in frame n + `latency_cycles`.
    Without `trigger_us` the sensor is free-running. `frozen_after`: so many bit-identical samples
    of a noisy channel count as FROZEN.
    """

    device: str
    max_age_ms: Annotated[float, Meta(gt=0, le=3_600_000)]
    trigger_us: Annotated[int, Meta(ge=0)] | None = None
    trigger_line: GpioLine | None = None
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    latency_cycles: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    frozen_after: Annotated[int, Meta(ge=2, le=1_000_000)] | None = None
    sign: list[Literal[1, -1]] | None = None
    zero: dict[str, Numbers] = {}
    range: dict[str, Pairs] = {}
    rate: dict[str, Numbers] = {}

    @property
    def free_running(self) -> bool:
        """Not triggered: its newest sample before the read deadline is taken."""
        return self.trigger_us is None

    @property
    def trigger_ns(self) -> int:
        """Offset of the trigger from its cycle's start, in nanoseconds; 0: free-running."""
        return (self.trigger_us or 0) * 1000

    def deadline_ns(self, cycle: Cycle) -> int:
        """When a sample is due, in nanoseconds from the start of the cycle of its trigger."""
        return self.latency_cycles * cycle.period_ns + cycle.read_deadline_ns

    @property
    def max_age_ns(self) -> int:
        """Age in nanoseconds from which a sample is MISSING."""
        return _ns(self.max_age_ms)


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bounds that the limiter and the ramp keep; `limit_rules` says which of them a mode needs
    and takes.

    Units: rad, rad/s, rad/s^2, rad/s^3, rad from the measured pose, the actuator's unit of effort
    and that per second. The dwell is ms between two changes of a switch.
    """

    position: Pairs | None = None
    velocity: Numbers | None = None
    acceleration: Numbers | None = None
    step: Numbers | None = None
    jerk: Numbers | None = None
    effort: Numbers | None = None
    effort_rate: Numbers | None = None
    dwell_ms: Annotated[float, Meta(ge=0, le=1200)] | None = None


class Joint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One joint of a chain, in the pose in which all positions are 0 and all frames parallel to the
    base's.

    It has its place from the joint before it (m), and the axis that it turns about or moves along.
    """

    axis: Vector
    translation: Vector = (0.0, 0.0, 0.0)
    kind: Literal["revolute", "prismatic"] = "revolute"


class Workspace(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The box (m, in the base's frame) that the tool's point stays in, and the chain up to there.

    The joints are those of the actuator's first channels.
    """

    low: Vector
    high: Vector
    joints: Annotated[list[Joint], Meta(min_length=1)]
    tool: Vector = (0.0, 0.0, 0.0)


class Actuator(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device that takes commands; without `feedback` (`sensor.field`) it moves blind.

    `feedback` says where its joints are, or where no position is commanded or limited, how fast
    they are: the unit of the field tells which. `feedback_velocity` and `feedback_effort` are
    fields of the same sensor. `accepts`: the statuses of its feedback on which it goes on moving.
    `on_estop`: after the ramp of an emergency stop it is held, or switched off. `on_miss`: for
    `max_hold_ms` a missing command is the last one again, or the motion is carried on and brought
    to rest.
    `rest_speed`: what its feedback shows to be slower, in a position's unit per second, or in a
    velocity's own, is at rest.
    """

    device: str
    limits: Limits
    workspace: Workspace | None = None
    feedback: str | None = None
    feedback_velocity: str | None = None
    feedback_effort: str | None = None
    accepts: tuple[Status, ...] = ("FRESH", "HELD", "LATE")
    mode: Literal["position", "velocity", "effort", "switch"] = "position"
    max_hold_ms: Annotated[float, Meta(gt=0)] | None = None
    on_miss: Literal["repeat", "coast"] = "repeat"
    rest_speed: Annotated[float, Meta(gt=0, le=1e6)] = 0.05
    on_stop: Literal["hold", "off"] = "hold"
    on_estop: Literal["ramp", "off"] = "ramp"

    def max_hold_ns(self, period_ns: int) -> int:
        """How long the last valid command is repeated before the ramp, in nanoseconds."""
        if self.max_hold_ms is None:
            return max(2 * period_ns, HOLD_NS)
        return _ns(self.max_hold_ms)


class Normalise(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a model's tensor: (x - mean) / std goes in, y * std + mean comes out."""

    mean: Numbers | None = None
    std: Numbers | None = None


class Policy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy turns a frame into a command. Exactly one of `call`, `model` and `remote` is set.

    - `call` is a callable that `import_by_name` imports. With `weights`, a safetensors file, it is
      the class of a PyTorch module.
    - `model` is an ONNX file beside the schedule.
    - `remote` is where another process on this host comes to answer.
    - `accepts`: per sensor, the statuses on which it is called. A sensor that is not named may have
      any; one that a model reads has to be FRESH or HELD.
    - `inputs` and `outputs`: per tensor of the model, fields (`sensor.field`) and actuators.
    - `priority` (SCHED_FIFO) and `cpu` are its process's. `threads` are those that libraries
      compute in. `allow` has the rights of that process beside reading files.

    It takes the frames of cycles that `every` divides. Its answer to the frame of cycle n is
    `chunk` commands, number i for cycle n + `latency_cycles` + i * `chunk_every`. See POLICIES.md.

    `align`: its samples are those of the instant at which that sensor acquired its own. `history`:
    it is given so many frames of those that it takes, the newest last. While there are fewer, the
    first of them stands for those before (`history_start = "repeat"`), or it is not called.
    """

    call: str | None = None
    args: dict[str, Any] = {}
    model: Annotated[str, Meta(min_length=1)] | None = None
    remote: str | None = None
    weights: Annotated[str, Meta(min_length=1)] | None = None
    inputs: dict[str, Annotated[list[str], Meta(min_length=1, max_length=64)]] = {}
    outputs: dict[str, str | Annotated[list[str], Meta(min_length=1, max_length=16)]] = {}
    normalise: dict[str, Normalise] = {}
    runtime: Literal["c", "python"] = "c"
    providers: list[str] = []
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    latency_cycles: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    chunk: Annotated[int, Meta(ge=1, le=1024)] = 1
    chunk_every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    join: Literal["switch", "blend", "freeze"] = "switch"
    blend_cycles: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    interpolate: Literal["hold", "linear", "cubic"] = "hold"
    align: Annotated[str, Meta(min_length=1)] | None = None
    history: Annotated[int, Meta(ge=1, le=64)] = 1
    history_start: Literal["wait", "repeat"] = "wait"
    accepts: dict[str, tuple[Status, ...]] = {}
    priority: Annotated[int, Meta(ge=0, le=98)] = 0
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    allow: list[Literal["network", "gpu", "devices", "files", "processes"]] = []

    @property
    def spacing(self) -> int:
        """Cycles from one command of its answers to the next."""
        return self.every if self.chunk == 1 else self.chunk_every

    @property
    def history_cycles(self) -> int:
        """Cycles from the first frame of its history to the last."""
        return (self.history - 1) * self.every

    @property
    def reach_cycles(self) -> int:
        """Cycles from a frame to the last one that its answer is for."""
        return self.latency_cycles + self.chunk * self.spacing - 1

    @property
    def is_network(self) -> bool:
        """True if its inputs and outputs are bound by name: a model, or a module with weights."""
        return self.model is not None or self.weights is not None

    @property
    def name(self) -> str:
        """Its name, for a person."""
        return self.call or self.model or self.remote or ""


class Tables(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tables that the TOML file may have."""

    name: str
    cycle: Cycle
    device: dict[str, Device] = {}
    sensor: dict[str, Sensor] = {}
    actuator: dict[str, Actuator] = {}
    store: Store = Store()
    gateway: Gateway | None = None
    guard: Guard = Guard()
    estop: dict[str, EstopInput] = {}
    emulator: Emulator | None = None
    policy: Policy | None = None
    world: World | None = None
    timing: Timing = Timing()
    randomise: dict[str, float | list[float] | Knob] = {}
    task: Task = Task()


class Schedule(Tables, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A checked schedule, with the file it came from; `hash` is 16 hex digits of its text's sha256.

    It is immutable and may be used from any thread.
    """

    path: Path
    text: str
    hash: str

    def error(self, key_path: str, message: str) -> ScheduleError:
        """Build (do not raise) an error that names file, line and key.

        `key_path` is like `sensor.joints.range.position[1]`; a key that the file lacks is placed at
        its table. `message` says what is wrong, with the value, and what to do.
        """
        return document.error_at(self.path, self.text, toml_position.parse_path(key_path), message)

    def numbers(self, key_path: str, value: Numbers, channels: int) -> list[float]:
        """One number per channel. Raises ScheduleError if a list has another length."""
        if not isinstance(value, list):
            return [float(value)] * channels
        if len(value) != channels:
            raise self.error(
                key_path,
                f"{channels} values expected, got {len(value)}: {show(value)}; "
                f"give one number for all channels or one per channel",
            )
        return [float(number) for number in value]

    def pairs(self, key_path: str, value: Pairs, channels: int) -> list[tuple[float, float]]:
        """One (low, high) per channel. Raises ScheduleError if a list has another length."""
        pairs = _as_pairs(value)
        if pairs is None:
            raise self.error(key_path, f"a pair is two numbers, got {show(value)}; give [lo, hi]")
        if not isinstance(value[0], list):
            return pairs * channels
        if len(pairs) != channels:
            raise self.error(
                key_path,
                f"{channels} pairs expected, got {len(pairs)}: {show(value)}; "
                f"give one pair for all channels or one per channel",
            )
        return pairs


def _ns(value_ms: float) -> int:
    return round(value_ms * 1_000_000)


def exact_period(cycle: Cycle) -> Fraction:
    """The period in nanoseconds, exactly as it was written."""
    if cycle.rate_hz is not None:
        return Fraction(10**9) / Fraction(repr(cycle.rate_hz))
    return Fraction(repr(cycle.period_us)) * 1000


def _as_pairs(value: Pairs) -> list[tuple[float, float]] | None:
    """The pairs of `[lo, hi]` or `[[lo, hi], ...]`; None for any other shape."""
    numbers = [item for item in value if not isinstance(item, list)]
    lists = [item for item in value if isinstance(item, list)]
    if len(numbers) == 2 and not lists:
        return [(float(numbers[0]), float(numbers[1]))]
    if lists and not numbers and all(len(item) == 2 for item in lists):
        return [(float(low), float(high)) for low, high in lists]
    return None
