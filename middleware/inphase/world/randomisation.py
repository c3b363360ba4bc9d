"""Randomisation: knobs by path, drawn once per episode or in every cycle, and told in the frames.

A knob is an entry of the timing model (`sensors.camera.latency_ms`, `policy.inference_ms`) or a
part of the world (`world.body.block.mass`, `world.light.*.diffuse`). Draws are keyed by seed,
episode and path, so that none depends on the others. The draws are the sample of a sensor named
`episode`, in every frame.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np

from inphase.core.core import draw_episode
from inphase.core.lockstep_config import FREEZE_SAMPLES
from inphase.core.world_seam import World, WorldReading
from inphase.driver import Acquire, Calls, DeviceError, Driver, Field, SensorSpec, TwinChannel
from inphase.errors import ScheduleError, ScheduleFault
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.schedule import Schedule, distribution, timing_model, toml_position
from inphase.schedule.distribution import KINDS, Distribution, Shape, Spec
from inphase.schedule.simulation_tables import Knob
from inphase.schedule.tables import Device, Sensor
from inphase.schedule.timing_model import TimingModel
from inphase.world.engines import make_world
from inphase.world.mujoco.knobs import nearest

SENSOR = "episode"
"""the sensor whose sample is what was drawn"""
_CHANNELS_MAX = 256
_MASK = (1 << 64) - 1

KnobLike = float | list[float] | Knob | Mapping[str, Any]
"""The forms of a knob: as in a schedule, or a table as a dict."""


@dataclass(frozen=True)
class _Drawn:
    """One knob, expanded: its path, how its value comes about, and a distribution per component."""

    path: str
    how: str
    distributions: tuple[Distribution, ...]
    before: tuple[float, ...]
    per_cycle: bool
    key: int

    def value(self, seed: int, turn: int) -> list[float]:
        """Its value in an episode or a cycle."""
        return self.at(
            [
                one.low if one.is_constant else one.quantile(draw_episode(seed, turn, self.key + i))
                for i, one in enumerate(self.distributions)
            ]
        )

    def at(self, drawn: list[float]) -> list[float]:
        """Its value, when that is drawn."""
        if self.how == "scale":
            return [b * d for b, d in zip(self.before, drawn, strict=True)]
        if self.how == "add":
            return [b + d for b, d in zip(self.before, drawn, strict=True)]
        return drawn


class Randomisation:
    """The knobs of one schedule, ready to be drawn. Raises ScheduleError with every wrong one.

    knobs: further ones, which replace the schedule's of the same path: a curriculum's.
    """

    def __init__(
        self,
        plan: Plan,
        world: World | None,
        knobs: Mapping[str, KnobLike] | None = None,
    ) -> None:
        self.schedule = plan.schedule
        self._world = world
        self._timing = plan.timing
        if world is not None:
            world.begin({})  # scale and add start from the model's own values
        wanted: dict[str, float | list[float] | Knob] = {**self.schedule.randomise}
        for path, knob in (knobs or {}).items():
            wanted[path] = _converted(self.schedule, path, knob)
        self._known = timing_model.paths(self.schedule)
        self.drawn: list[_Drawn] = []
        faults: list[ScheduleFault] = []
        for path, knob in wanted.items():
            try:
                drawn = self._expand(plan, path, knob)
                self._check_timing(path, drawn)
                self.drawn += drawn
            except ScheduleError as error:
                faults += error.faults
        if faults:
            raise ScheduleError.of(faults)
        self.values = np.zeros(1 + sum(len(drawn.before) for drawn in self.drawn))
        """what frames tell: the episode's number, then every knob's numbers"""
        if len(self.values) > _CHANNELS_MAX:
            raise self.schedule.error(
                "randomise",
                f"{len(self.values) - 1} numbers are drawn, and a frame tells "
                f"{_CHANNELS_MAX - 1}; draw fewer",
            )

    # ---- what there is to draw -----------------------------------------------------------

    def _expand(self, plan: Plan, path: str, knob: float | list[float] | Knob) -> list[_Drawn]:
        if path in self._known:
            return [self._drawn(path, path, knob, _timing_before(plan, path))]
        paths = []
        if self._world is not None and path.startswith("world."):
            paths = self._world.knobs.expand(path)
        if not paths:
            known = list(self._known) + (self._world.knobs.paths() if self._world else [])
            meant = ", ".join(nearest(path, known)) or "no similar one"
            raise self._error(
                path,
                f"there is no such knob; `inphase knobs {self.schedule.path}` lists them; near: "
                f"{meant}",
            )
        assert self._world is not None
        return [self._drawn(one, path, knob, tuple(self._world.knobs.get(one))) for one in paths]

    def _check_timing(self, key: str, expanded: Iterable[_Drawn]) -> None:
        """Raises ScheduleError for an impossible draw of the timing model."""
        for drawn in expanded:
            if drawn.path in self._known:
                for end in (0.0, 1.0):
                    (value,) = drawn.at([one.quantile(end) for one in drawn.distributions])
                    try:
                        self._timing.changed({drawn.path: self._entry(drawn, value)})
                    except ScheduleError as error:  # the draw is wrong, not the timing model
                        raise self._error(key, error.faults[0].message) from error

    def _drawn(
        self, path: str, key: str, knob: float | list[float] | Knob, before: tuple[float, ...]
    ) -> _Drawn:
        how, specs, per_cycle = self._how(key, knob)
        if len(specs) == 1:
            specs = specs * len(before)
        if len(specs) != len(before):
            raise self._error(
                key, f"{len(before)} numbers, and {len(specs)} are given; give one, or one each"
            )
        if per_cycle and path.startswith("world.") and self._world is not None:
            if self._world.knobs.at_start_alone(path):
                raise self._error(
                    key,
                    'per = "cycle" is for knobs that may change while the world runs, and this one '
                    "may change only at the start of an episode; leave `per` out",
                )
        elif per_cycle and (how != "set" or path.rpartition(".")[2] in timing_model.CONSTANT):
            raise self._error(
                key,
                'per = "cycle" takes a plain distribution, of a knob that is drawn in every cycle; '
                "leave `per` out",
            )
        return _Drawn(path, how, tuple(specs), before, per_cycle, _hash(path))

    def _how(
        self, key: str, knob: float | list[float] | Knob
    ) -> tuple[str, list[Distribution], bool]:
        """set, scale or add; the distributions; and whether it is drawn in every cycle."""
        try:
            if not isinstance(knob, Knob):
                given: list[Spec] = list(knob) if isinstance(knob, list) else [knob]
                return "set", [distribution.make(one) for one in given], False
            ways = [way for way in ("set", "scale", "add") if getattr(knob, way) is not None]
            own = [kind for kind in KINDS if getattr(knob, kind) is not None]
            if len(ways) + len(own) != 1:
                raise ValueError(
                    "exactly one distribution is needed, or one of set, scale and add with it, got "
                    f"{', '.join([*own, *ways]) or 'none'}; give one"
                )
            if own:
                shape = {name: getattr(knob, name) for name in Shape.__struct_fields__}
                return "set", [distribution.make(Shape(**shape))], knob.per == "cycle"
            inner: Any = getattr(knob, ways[0])
            given = inner if isinstance(inner, list) else [inner]
            return ways[0], [distribution.make(one) for one in given], knob.per == "cycle"
        except ValueError as error:
            raise self._error(key, str(error)) from error

    def _error(self, path: str, text: str) -> ScheduleError:
        return self.schedule.error(toml_position.format_path(("randomise", path)), text)

    # ---- an episode --------------------------------------------------------------------------

    def begin(self, seed: int, episode: int) -> TimingModel:
        """Draw an episode, set the world's knobs, and give its timing model."""
        timing: dict[str, Distribution] = {}
        world: dict[str, list[float]] = {}
        self.values[0] = episode
        for drawn, at in self._places():
            if drawn.per_cycle and drawn.path in self._known:
                timing[drawn.path] = drawn.distributions[0]
                self.values[at] = np.nan  # drawn by the core, in every cycle
                continue
            value = drawn.value(seed, episode)
            self.values[at : at + len(value)] = value
            if drawn.path in self._known:
                timing[drawn.path] = self._entry(drawn, value[0])
            else:
                world[drawn.path] = value
        if self._world is not None:
            self._world.begin(world)
        return self._timing.changed(timing)

    def _entry(self, drawn: _Drawn, value: float) -> Distribution:
        """The timing model's entry in an episode: moved as a whole, or one number."""
        base = self._timing.get(drawn.path)
        if drawn.how == "set" or base is None or base.is_constant:
            return distribution.constant(value)
        if drawn.how == "scale":
            factor = value / drawn.before[0] if drawn.before[0] else 0.0
            return base.scaled(factor)
        return base.shifted(value - drawn.before[0])

    def _places(self) -> list[tuple[_Drawn, int]]:
        at, places = 1, []
        for drawn in self.drawn:
            places.append((drawn, at))
            at += len(drawn.before)
        return places

    @property
    def has_cycles(self) -> bool:
        """True if something of the world is drawn in every cycle."""
        return any(d.per_cycle and d.path not in self._known for d in self.drawn)

    def cycle(self, seed: int, cycle: int) -> None:
        """Draw what changes in every cycle."""
        assert self._world is not None
        changed = {}
        for drawn, at in self._places():
            if drawn.per_cycle and drawn.path not in self._known:
                value = drawn.value(seed, cycle)
                self.values[at : at + len(value)] = value
                changed[drawn.path] = value
        self._world.knobs.set(changed)

    @property
    def draws(self) -> dict[str, float | list[float]]:
        """The draws of this episode: path to number, or numbers."""
        result: dict[str, float | list[float]] = {}
        for drawn, at in self._places():
            values = self.values[at : at + len(drawn.before)].tolist()
            result[drawn.path] = values[0] if len(values) == 1 else values
        return result

    # ---- frames --------------------------------------------------------------------------

    def told(self, plan: Plan) -> Plan:
        """The plan with a sensor more: what was drawn."""
        schedule = self.schedule
        if SENSOR in schedule.sensor or SENSOR in schedule.device:
            kind = "sensor" if SENSOR in schedule.sensor else "device"
            raise schedule.error(
                f"{kind}.{SENSOR}",
                f"the name {SENSOR!r} is taken by the draws of [randomise]; give it another",
            )
        period_ms = schedule.cycle.period_ns / 1e6
        extended = msgspec.structs.replace(
            schedule,
            device={**schedule.device, SENSOR: Device(driver=f"{__name__}:Draws")},
            sensor={
                **schedule.sensor,
                SENSOR: Sensor(device=SENSOR, trigger_us=0, max_age_ms=10 * period_ms),
            },
        )
        fields = [Field("number", "1")]
        fields += [
            Field(drawn.path, "1", (len(drawn.before),) if len(drawn.before) > 1 else ())
            for drawn in self.drawn
        ]
        made = planning.make(extended, {**plan.drivers, SENSOR: Draws(SENSOR, tuple(fields))})
        return replace(made, client_policy=plan.client_policy)

    def readings(self) -> list[WorldReading | None]:
        """Where that sensor's numbers lie."""
        base = int(self.values.ctypes.data)
        return [
            WorldReading(base + 8 * i, gain=1.0, zero=0.0, noise=0.0, derived=False)
            for i in range(len(self.values))
        ]


class Draws(Driver):
    """The sensor of what was drawn: it exists in a simulation alone."""

    Options: ClassVar[type[msgspec.Struct]] = msgspec.Struct

    def __init__(self, name: str, fields: tuple[Field, ...]) -> None:
        super().__init__(name, None)
        self._fields = fields

    @property
    def address(self) -> str:
        """There is one."""
        return f"simulated:{self.name}"

    def sensor(self) -> SensorSpec:
        """The episode's number, then a field per knob."""
        calls = Calls(latency_ns=1, latency_max_ns=1, acquire=Acquire.AFTER_TRIGGER)
        channels = sum(field.channels for field in self._fields)
        return SensorSpec(
            fields=self._fields,
            twin=(TwinChannel(),) * channels,
            twin_latency_ns=1,
            calls=calls,
        )

    def open(self) -> int:
        """There is no such device."""
        raise DeviceError(f"device {self.name}: it exists in a simulation alone")

    def close(self) -> None:
        """Nothing was opened."""


def _converted(schedule: Schedule, path: str, knob: KnobLike) -> float | list[float] | Knob:
    if isinstance(knob, Knob | float | int):
        return knob
    kind: Any = Knob if isinstance(knob, Mapping) else list[float]
    try:
        made: float | list[float] | Knob = msgspec.convert(
            dict(knob) if isinstance(knob, Mapping) else list(knob), kind
        )
    except msgspec.ValidationError as error:
        raise ScheduleError(f"{schedule.path}: knob {path}: {error}; correct it") from error
    return made


def _timing_before(plan: Plan, path: str) -> tuple[float, ...]:
    """The middle of a timing entry: what `scale` and `add` start from."""
    entry = plan.timing.get(path)
    if entry is not None:
        return (entry.middle,)
    group, *name, kind = path.split(".")
    if group == "sensors" and kind == "latency_ms":
        spec = next(s.spec for s in plan.sensors if s.name == name[0])
        return ((spec.twin_latency_ns + spec.twin_jitter_ns / 2) / 1e6,)
    return (FREEZE_SAMPLES if kind == "freeze_samples" else 0.0,)


def _hash(path: str) -> int:
    """A key of draws that follows from the path alone: FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in path.encode():
        value = (value ^ byte) * 0x100000001B3 & _MASK
    return value


def episode_seed(seed: int, episode: int) -> int:
    """The seed of an episode's draws; episode 0 has the run's own."""
    return (seed ^ episode * 0x9E3779B97F4A7C15) & _MASK


class KnobFacts(NamedTuple):
    """One knob that a schedule could draw."""

    path: str
    now: str
    """its value without a draw"""
    per: str
    """whether it may be drawn in every cycle, or per episode alone"""
    drawn: bool


def knobs_of(schedule: Schedule, pattern: str = "*") -> list[KnobFacts]:
    """The knobs of a schedule's simulation that a pattern stands for. Raises as a run does."""
    plan = planning.make(schedule)
    world = make_world(plan) if schedule.world is not None else None
    randomisation = Randomisation(plan, world)
    drawn = {one.path for one in randomisation.drawn}
    facts = []
    for path, kind in timing_model.paths(schedule).items():
        entry = plan.timing.get(path)
        (before,) = _timing_before(plan, path)
        now = f"{before:g}"
        if entry is not None and not entry.is_constant:
            now = f"{entry.low:g} .. {entry.high:g}"
        per = "episode" if kind in timing_model.CONSTANT else "episode, cycle"
        facts.append(KnobFacts(path, now, per, path in drawn))
    for path in world.knobs.paths() if world is not None else []:
        assert world is not None
        now = ", ".join(f"{value:g}" for value in world.knobs.get(path))
        per = "episode" if world.knobs.at_start_alone(path) else "episode, cycle"
        facts.append(KnobFacts(path, now, per, path in drawn))
    return [one for one in facts if fnmatchcase(one.path, pattern)]
