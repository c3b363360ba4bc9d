"""The tables of a schedule's file, as frozen objects; `schedule.load` reads and checks them."""

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from inphase.errors import ScheduleError, ScheduleFault
from inphase.schedule import channels, document, toml_position
from inphase.schedule.motion.park import Park
from inphase.schedule.motion.workspace import Workspace
from inphase.schedule.network_tables import ImageInput, Normalise, PolicyServer
from inphase.schedule.simulation_tables import Knob, Page, Task, Timing, WorldTable
from inphase.schedule.table import Table

Positive = Annotated[float, Meta(gt=0)]
Ratio = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}/[1-9][0-9]{0,8}$")]
"""A fraction, as "30000/1001"."""
Numbers = float | list[float]
"""A number for all channels, or one per channel; read it with `Schedule.numbers`."""
Pairs = list[float | list[float]]
"""A pair for all channels, or one pair per channel; read it with `Schedule.pairs`."""
Status = Literal["FRESH", "HELD", "LATE", "MISSING", "FROZEN", "INVALID", "OFFLINE", "RECOVERING"]
"""A sample's status; middleware/SENSORS.md has the table."""

HOLD_NS = 20_000_000  # a missing command leads to the ramp within max(20 ms, 2 cycles)


class Cycle(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The grid and the offsets of its phases. Exactly one of `rate_hz` and `period_us` is set."""

    read_deadline_us: Annotated[int, Meta(gt=0)]
    """Offset at which the frame is latched: a sample that comes later is LATE. Before `act_us`."""
    act_us: Annotated[int, Meta(gt=0)]
    """Offset at which commands are written, whatever the policy took. Inside the period."""
    rate_hz: Positive | Ratio | None = None
    """Cycles per second: 500, 29.97 or "30000/1001". `inphase check` shows the rounded period."""
    period_us: Positive | None = None
    """Length of a cycle, in place of `rate_hz`."""
    clock: Annotated[str, Meta(min_length=1)] | None = None
    """A device that streams at this rate starts the cycles. Left out or in lock step: the host."""
    realtime: Literal["require", "prefer"] = "require"
    """A right that the machine refuses ends the start ("require"), or is told ("prefer")."""
    priority: Annotated[int, Meta(ge=1, le=98)] = 80
    """SCHED_FIFO priority of the cycle thread."""
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    """Core of the cycle thread. Left out: any."""
    overrun_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 50
    """The run ends at so many overruns or lost packets of `clock`; a good cycle takes one back."""
    resumed_after_ms: Annotated[float, Meta(gt=0, le=60_000)] = 100.0
    """A wake that is later than this counts as a suspended machine, and latches motion."""

    @property
    def emulator_priority(self) -> int:
        """SCHED_FIFO priority of the emulator: below the cycle's, above what is ordinary."""
        return max(1, self.priority - 10)

    @property
    def period_ns(self) -> int:
        """Length of one cycle, rounded to nanoseconds."""
        if self.rate_hz is not None:
            return _period_ns(self.rate_hz, True)
        assert self.period_us is not None
        return _period_ns(self.period_us, False)

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


class Store(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shared memory."""

    group: Annotated[str, Meta(min_length=1)] | None = None
    """Members of this group may read the store too. Left out: its user alone."""
    depth: Annotated[int, Meta(ge=8, le=65_536)] | None = None
    """Slots that each ring has at least, a power of two. Left out: enough for 0.25 s."""


class Gateway(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The addresses of the frames (PUB) and of requests (ROUTER)."""

    endpoint: str
    """Address of the frames: `ipc:///path` or `tcp://127.0.0.1:PORT`; with `keys` any of tcp's."""
    control: str | None = None
    """Address of requests: description, emergency stop. Left out: none. With `keys`: `ipc://`."""
    keys: str | None = None
    """Folder of the keys of those who may subscribe (`inphase keys`), from the schedule's folder
    on, or `~/...`. Left out: no key is asked for, and only this machine is served."""


class Guard(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The guard's patience with the runtime."""

    max_hold_ms: Annotated[float, Meta(gt=0, le=60_000)] | None = None
    """Age of a heartbeat from which the runtime counts as frozen. Left out: the shortest
    `max_hold_ms` of an actuator, and two cycles at least."""


class EstopInput(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An emergency stop: a GPIO line, or a sensor's channel. One that cannot be read stops."""

    line: "GpioLine | None" = None
    """A GPIO line that stops at the level `pressed`."""
    sample: str | None = None
    """A float64 field of a sensor, as `sensor.field`, in place of a line."""
    channel: Annotated[int, Meta(ge=0, le=63)] = 0
    """Channel of that field."""
    pressed: Literal["low", "high"] | None = None
    """Level of a line that stops; left out "low". Or `mask` stops when any of its bits is set
    ("high", left out) or clear ("low")."""
    mask: Annotated[int, Meta(ge=1, lt=2**53)] | None = None
    """Bits of the sample's value, a whole number, of which any one stops."""
    low: float | None = None
    """A sample below this stops."""
    high: float | None = None
    """A sample above this stops."""
    accepts: tuple[Status, ...] = ("FRESH", "HELD")
    """Statuses with which a sample counts; with any other status it stops."""


class Emulator(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The companion process that answers for the devices. Its own keys stand beside `module`."""

    module: str
    """Python module that is started with the schedule's path."""
    options: dict[str, Any] = {}
    """Keys of its own."""


class Device(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One device. The keys of its driver stand beside these."""

    driver: str
    """A driver: `module:Class`, `file.py:Class` beside the schedule, or the name of one."""
    home: Literal["cycle", "process", "thread"] | None = None
    """Home of the driver: on the cycle thread (needs an exchange), in a process, or in a thread of
    the user's process. Left out: "cycle" if it can, else "process"."""
    priority: Annotated[int, Meta(ge=0, le=98)] = 0
    """SCHED_FIFO priority of its worker process, below the cycle's; 0: none."""
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    """Core of its worker process. Left out: any."""
    options: dict[str, Any] = {}
    """Keys of its driver."""


class GpioLine(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A GPIO line."""

    chip: Annotated[str, Meta(min_length=1)]
    """Device file of the chip, such as `/dev/gpiochip0`."""
    line: Annotated[int, Meta(ge=0, le=65_535)]
    """Offset of the line in its chip."""


class Sensor(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The triggers of a device, and the signs, zeros and bounds of its values (SI).

    Triggered in cycle n, when `every` divides n, a sample is due in frame n + `latency_cycles`.
    """

    device: str
    """The device that gives the samples, by its name in `[device.NAME]`."""
    max_age_ms: Annotated[float, Meta(gt=0, le=3_600_000)]
    """Age from which a sample is MISSING."""
    trigger_us: Annotated[int, Meta(ge=0)] | None = None
    """Offset of the trigger from the cycle's start. Left out: the sensor is free-running, and a
    frame has its newest sample."""
    trigger_line: GpioLine | None = None
    """A GPIO line that is raised as the trigger."""
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """The device is triggered in cycles that this divides."""
    latency_cycles: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """A sample is due so many frames after its trigger; below `every`."""
    frozen_after: Annotated[int, Meta(ge=2, le=1_000_000)] | None = None
    """So many bit-identical samples count as FROZEN. Left out: they are never compared."""
    burst: Annotated[int, Meta(ge=1, le=64)] | None = None
    """A frame also has all samples since the last one, so many at most. Left out: the newest."""
    sign: list[Literal[1, -1]] | None = None
    """Direction of each channel, 1 or -1, of the fields that the driver has per joint."""
    zero: dict[str, Numbers] = {}
    """By field: subtracted from its values after `sign`, in SI."""
    range: dict[str, Pairs] = {}
    """By field: `[lo, hi]` for all channels, or one pair per channel; a value outside is
    INVALID."""
    rate: dict[str, Numbers] = {}
    """By field: largest change per second, for all channels or each; a faster one is INVALID."""

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


class Limits(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bounds that the limiter and the ramp keep: one number for all channels, or one each.

    Position mode needs `position`, `velocity`, `acceleration` and `step`, and takes `jerk` and
    `effort`. Velocity mode needs `velocity` and `acceleration`, and takes `jerk` and `position`.
    Effort mode needs `effort` and `effort_rate`, and takes `velocity` and `position`. Switch mode
    needs `dwell_ms`.
    """

    position: Pairs | None = None
    """`[lo, hi]` in rad or m. Of velocity and effort mode: where the joint is measured."""
    velocity: Numbers | None = None
    """Largest velocity, in rad/s or m/s. Of effort mode: of the measured one."""
    acceleration: Numbers | None = None
    """Largest change of velocity per second."""
    step: Numbers | None = None
    """Largest distance of a position from the measured one."""
    jerk: Numbers | None = None
    """Largest change of acceleration per second. Left out: not bounded."""
    effort: Numbers | None = None
    """Largest effort, in N m or the driver's unit. Of position mode: of the measured one."""
    effort_rate: Numbers | None = None
    """Largest change of effort per second."""
    dwell_ms: Annotated[float, Meta(ge=0, le=1200)] | None = None
    """Least time from one change of a switch to the next."""


class Actuator(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device that takes commands."""

    device: str
    """The device that takes the commands, by its name in `[device.NAME]`."""
    limits: Limits
    """Bounds of its commands. Without limits nothing moves."""
    workspace: Workspace | None = None
    """A box that the tool's point stays in, in position mode."""
    feedback: str | None = None
    """Where its joints are, as `sensor.field`; or how fast they are, if the field's unit says
    so. Left out: it moves blind."""
    feedback_velocity: str | None = None
    """Velocities of its joints: a field of the same sensor."""
    feedback_effort: str | None = None
    """Efforts of its joints: a field of the same sensor."""
    accepts: tuple[Status, ...] = ("FRESH", "HELD", "LATE")
    """Statuses of its feedback on which it goes on moving."""
    mode: Literal["position", "velocity", "effort", "switch"] = "position"
    """Quantity of a command."""
    max_hold_ms: Annotated[float, Meta(gt=0)] | None = None
    """A missing command is made up for so long before the ramp. Left out: 20 ms, and two cycles
    at least."""
    first_command: Literal["refuse", "approach"] | None = None
    """A command further than one cycle's step from where the joints start is refused, or approached
    within the limits. Left out: a run refuses it, an environment approaches it."""
    handover_ms: Annotated[float, Meta(ge=0, le=10_000)] | None = None
    """Another driver's commands fade in over so long. Left out: 500."""
    on_miss: Literal["repeat", "coast"] = "repeat"
    """Until then the last command is repeated, or the motion is carried on and brought to rest
    ("coast")."""
    rest_speed: Annotated[float, Meta(gt=0, le=1e6)] = 0.05
    """Below this speed of its feedback it is at rest, in rad/s or m/s."""
    on_stop: Literal["hold", "brake", "limp"] = "hold"
    """Its rest at the end of a run, after `park` if it has one: held; without power, in its brakes;
    or without power. A park that did not reach its end leaves no joint limp: it holds."""
    on_estop: Literal["ramp", "limp"] = "ramp"
    """After the ramp of an emergency stop it is held, or left without power."""
    park: Park | None = None
    """A path to go along at the end of a run, in position mode. Left out: it stops where it is."""

    @property
    def handover_ns(self) -> int:
        """How long another driver's commands take to fade in, in nanoseconds."""
        return _ns(500 if self.handover_ms is None else self.handover_ms)

    def max_hold_ns(self, period_ns: int) -> int:
        """How long the last valid command is repeated before the ramp, in nanoseconds."""
        if self.max_hold_ms is None:
            return max(2 * period_ns, HOLD_NS)
        return _ns(self.max_hold_ms)


class Policy(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The source of commands. Exactly one of `call`, `model`, `remote` and `server` is set.

    It takes the frames of cycles that `every` divides. Its answer to the frame of cycle n is
    `chunk` commands, number i for cycle n + `latency_cycles` + i * `chunk_every`. See POLICIES.md.
    """

    call: str | None = None
    """A function or class: `file.py:name` beside the schedule, or `module:name`."""
    args: dict[str, Any] = {}
    """Arguments of that class."""
    model: Annotated[str, Meta(min_length=1)] | None = None
    """An ONNX file beside the schedule, in place of `call`."""
    remote: str | None = None
    """Address to which a policy in another process connects, in place of `call`."""
    server: PolicyServer | None = None
    """A server that is asked over the network, in place of `call`."""
    weights: Annotated[str, Meta(min_length=1)] | None = None
    """A safetensors file beside the schedule; `call` is then the class of a PyTorch module."""
    inputs: dict[str, Annotated[list[str], Meta(min_length=1, max_length=64)]] = {}
    """By input of the model: fields, as `sensor.field`, one after the other."""
    outputs: dict[str, str | Annotated[list[str], Meta(min_length=1, max_length=16)]] = {}
    """By output of the model: an actuator, or a list of them."""
    normalise: dict[str, Normalise] = {}
    """By tensor of the model: its mean and standard deviation."""
    images: dict[str, ImageInput] = {}
    """By input of the model that is an image: its layout and scale."""
    state: dict[str, str] = {}
    """By input of the model: the output that is its next value. It is zeros at first, and after a
    stop."""
    runtime: Literal["c", "python"] = "c"
    """The model is run in C, or through ONNX Runtime's Python interface."""
    providers: list[str] = []
    """Execution providers of ONNX Runtime, with `runtime = "python"`."""
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """It takes the frames of cycles that this divides."""
    latency_cycles: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Its answer to the frame of cycle n begins with cycle n + `latency_cycles`."""
    chunk: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Commands in an answer."""
    chunk_every: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """Cycles from one command of a chunk to the next; divides `every`."""
    join: Literal["switch", "blend", "freeze"] = "switch"
    """Transition from the answer before to a new one."""
    blend_cycles: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Cycles over which a new answer fades in, with `join = "blend"`."""
    interpolate: Literal["hold", "linear", "cubic"] = "hold"
    """Course between two commands."""
    align: Annotated[str, Meta(min_length=1)] | None = None
    """A sensor: the samples of all others are those of the instant at which it acquired its own."""
    history: Annotated[int, Meta(ge=1, le=64)] = 1
    """Frames that it is given, of those that it takes, the newest last."""
    history_start: Literal["wait", "repeat"] = "wait"
    """Until there are so many it is not called, or the first one stands for those before it."""
    accepts: dict[str, tuple[Status, ...]] = {}
    """By sensor: the statuses on which it is called. Left out: any; of a model FRESH and HELD."""
    priority: Annotated[int, Meta(ge=0, le=98)] = 0
    """SCHED_FIFO priority of its process, below the cycle's; 0: none."""
    cpu: Annotated[int, Meta(ge=0, le=4095)] | None = None
    """Core of its process. Left out: any."""
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    """Threads that its libraries compute in."""
    allow: list[Literal["network", "gpu", "devices", "files", "processes"]] = []
    """Rights of its process beside reading files."""

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
        url = self.server.url if self.server is not None else ""
        return self.call or self.model or self.remote or url


class Tables(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tables that the TOML file may have."""

    name: str
    """Name of the robot: lower-case letters, digits, - and _, at most 32."""
    cycle: Cycle
    """The grid and its phases."""
    device: dict[str, Device] = {}
    """The devices."""
    sensor: dict[str, Sensor] = {}
    """The sensors; at least one."""
    actuator: dict[str, Actuator] = {}
    """The actuators."""
    store: Store = Store()
    """The shared memory."""
    gateway: Gateway | None = None
    """Frames over ZeroMQ. Left out: in shared memory alone."""
    page: Page | None = None
    """The web page. Left out: none."""
    guard: Guard = Guard()
    """The process that stops the devices of a dead or frozen runtime."""
    estop: dict[str, EstopInput] = {}
    """Inputs of the emergency stop."""
    emulator: Emulator | None = None
    """A process that answers for the devices. Left out: the devices are real."""
    policy: Policy | None = None
    """The source of commands. Left out: nothing is commanded."""
    world: WorldTable | None = None
    """The simulated world."""
    timing: Timing = Timing()
    """Latencies in lock step and in simulated worlds."""
    randomise: dict[str, float | list[float] | Knob] = {}
    """By path of a knob: how it is drawn. A number or a list sets it."""
    task: Task = Task()
    """Reward and end of an episode."""


class Schedule(Tables, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A checked schedule, with the file it came from; `hash` is 16 hex digits of its text's sha256.

    It is immutable and may be used from any thread.
    """

    path: Path
    text: str
    hash: str

    def fault(
        self, key_path: str, message: str, doubts: tuple[str, ...] | None = None
    ) -> ScheduleFault:
        """A fault of this schedule, with its file, line and key.

        `key_path` is like `sensor.joints.range.position[1]`; a key that the file lacks is placed at
        its table. `message` says what is wrong, with the value, and what to do.
        """
        path = toml_position.parse_path(key_path)
        found = document.fault_at(self.path, self.text, path, message)
        return replace(found, doubts=doubts)

    def error(self, key_path: str, message: str) -> ScheduleError:
        """Build (do not raise) the error of one fault."""
        return ScheduleError.of([self.fault(key_path, message)])

    def numbers(self, key_path: str, value: Numbers, count: int) -> list[float]:
        """One number per channel. Raises ScheduleError if a list has another length."""
        if trouble := channels.numbers_trouble(value, count):
            raise self.error(key_path, trouble)
        return channels.numbers(value, count)

    def pairs(self, key_path: str, value: Pairs, count: int) -> list[tuple[float, float]]:
        """One (low, high) per channel. Raises ScheduleError if a list has another length."""
        if trouble := channels.pairs_trouble(value, count):
            raise self.error(key_path, trouble)
        return channels.pairs(value, count)


def _ns(value_ms: float) -> int:
    return round(value_ms * 1_000_000)


@lru_cache(maxsize=64)  # a worker asks in every cycle; by position: keywords cost as much again
def _period_ns(written: float | str, is_rate: bool) -> int:
    exact = Fraction(str(written))  # decimal, as it was written
    return round(Fraction(10**9) / exact if is_rate else exact * 1000)
