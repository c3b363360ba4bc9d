"""The findings of `inphase check`: the schedule's cycle and rings, and the rights that the machine
lacks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inphase.core.config import store_size
from inphase.core.realtime import is_realtime
from inphase.episodes import task
from inphase.errors import ScheduleError, ScheduleFault, WorldError
from inphase.host import preflight
from inphase.host.group import group_of
from inphase.host.preflight import Judgement
from inphase.plan import missing_samples, validation
from inphase.plan import plan as planning
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan
from inphase.plan.timing import SampleTiming, spread_ns
from inphase.policy import turn
from inphase.schedule import Schedule, import_by_name, loader, timing_model
from inphase.schedule.motion import park_times
from inphase.schedule.rules.classifier_rules import as_policy

if TYPE_CHECKING:
    from inphase.models.model_binding import Binding


@dataclass(frozen=True)
class Report:
    """A checked schedule and the machine it was checked on."""

    plan: Plan
    store_bytes: int
    checks: list[Judgement]
    world: dict[str, Any] | None = None
    """of the schedule's simulated world, as it is stepped; None: there is none"""
    world_notes: Sequence[str] = ()

    def facts(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "robot": self.plan.schedule.name,
            "schedule_hash": self.plan.schedule.hash,
            "period_ns": self.plan.schedule.cycle.period_ns,
            "read_deadline_ns": self.plan.schedule.cycle.read_deadline_ns,
            "act_ns": self.plan.schedule.cycle.act_ns,
            "store_bytes": self.store_bytes,
            "depth": {"frames": self.plan.depth} | {s.name: s.depth for s in self.plan.sensors},
            "devices": _device_facts(self.plan),
            "sensors": [_sensor_facts(self.plan, timing) for timing in self.plan.timings],
            "repeats_after_cycles": math.lcm(*(s.schedule.every for s in self.plan.sensors)),
            "acquired_spread_ns": spread_ns(self.plan.timings),
            "world": self.world,
            "stops": [_stop_facts(self.plan, actuator) for actuator in self.plan.actuators],
            "longest_stop_ns": park_times.longest_stop_ns(self.plan.schedule),
            "notes": self.notes,
            "machine": [
                {
                    "name": c.name,
                    "wanted": c.wanted,
                    "found": c.found,
                    "ok": c.ok,
                    "remedy": c.remedy,
                }
                for c in self.checks
            ],
        }

    @property
    def notes(self) -> list[str]:
        """Sentences for a person on parts that may yet surprise."""
        return [*self.plan.notes, *self.world_notes]

    def render(self, width: int) -> Any:
        """A rich renderable: timeline, devices, store, machine."""
        from rich.console import Group
        from rich.text import Text

        from inphase.command.screen import table
        from inphase.plan import cycle_spans, timeline

        plan = self.plan
        head = Text(f"{plan.schedule.path}: {plan.schedule.name}, valid, hash {plan.schedule.hash}")
        machine = table("machine", ("", "right", "wanted", "found", "remedy"))
        for check in self.checks:
            mark = Text("ok", "green") if check.ok else Text("lacks", "red")
            machine.add_row(mark, check.name, check.wanted, check.found, check.remedy)
        notes = [Text(note, "yellow") for note in self.notes]
        drawn = timeline.render(
            cycle_spans.timeline(plan.schedule, plan.timings, plan.commands), width
        )
        size = Text(f"shared memory: {self.store_bytes:,} bytes")
        spread = Text(_spread(plan.timings))
        stops = [Text(_describe_stop(_stop_facts(plan, a))) for a in plan.actuators]
        world = [] if self.world is None else [Text(_describe_world(self.world))]
        return Group(
            head,
            Text(_describe_period(plan.schedule.cycle.period_ns)),
            drawn,
            Text(),
            spread,
            _devices(plan),
            _rings(plan),
            size,
            *stops,
            *([Text(_describe_longest(plan))] if plan.actuators else []),
            *world,
            machine,
            *notes,
        )


def _describe_period(period_ns: int) -> str:
    """The cycle as the core has it: a rate is rounded to a period of whole nanoseconds."""
    return f"a cycle of {period_ns} ns: {1e9 / period_ns:.10g} Hz"


def _describe_world(facts: dict[str, Any]) -> str:
    if facts["trouble"] is not None:
        return f"world: {facts['model']}, not checked: {facts['trouble']}"
    return (
        f"world: {facts['model']}, {facts['version']}, a step of {facts['step_ns'] / 1000:g} us, "
        f"{facts['steps']} per cycle; {facts['drawn']} of {facts['knobs']} knobs are drawn"
    )


def _stop_facts(plan: Plan, actuator: ActuatorPlan) -> dict[str, Any]:
    """The stop of an actuator when the runtime is dead or frozen; None: it has no such thing."""
    watchdog = actuator.spec.watchdog
    return {
        "name": actuator.name,
        "guard": None if actuator.stop is None else actuator.stop.kind.name.lower(),
        "guard_max_hold_ns": plan.guard_hold_ns(is_realtime(plan.schedule.cycle)),
        "watchdog_ns": None if watchdog is None else watchdog.timeout_ns,
    }


def _describe_stop(facts: dict[str, Any]) -> str:
    guard = f"the guard ({facts['guard']}), frozen: after {facts['guard_max_hold_ns'] / 1e6:g} ms"
    watchdog = f"its watchdog, {(facts['watchdog_ns'] or 0) / 1e6:g} ms"
    by = [guard] * (facts["guard"] is not None) + [watchdog] * (facts["watchdog_ns"] is not None)
    return (
        f"{facts['name']} is stopped when the runtime is gone by: {' and '.join(by) or 'nothing'}"
    )


def _describe_longest(plan: Plan) -> str:
    """The time that a stop takes at most, and the rests that it ends in."""
    longest_s = park_times.longest_stop_ns(plan.schedule) / 1e9
    rests = [
        f"{one.name}: {'park, then ' * (one.schedule.park is not None)}{one.schedule.on_stop}"
        for one in plan.actuators
    ]
    return f"the longest stop takes {longest_s:.3g} s; it ends in: {', '.join(rests)}"


def _devices(plan: Plan) -> Any:
    """A table of where each device's driver runs and how long its exchanges take."""
    from inphase.command.screen import table

    columns = ("device", "home", "request", "sample", "worst", "command", "address")
    made = table("devices [us]", columns, left=("device", "home", "address"))
    for facts in _device_facts(plan):
        times = ("request_ns", "sample_ns", "worst_ns", "command_ns")
        shown = ["-" if facts[key] is None else f"{facts[key] / 1000:.0f}" for key in times]
        made.add_row(facts["name"], facts["home"], *shown, facts["address"])
    return made


def _rings(plan: Plan) -> Any:
    """A table of the store's rings; a view lasts until its slot is written again."""
    from inphase.command.screen import table

    period_ns = plan.schedule.cycle.period_ns
    intervals = {t.sensor: t.interval_ns or t.every_ns for t in plan.timings}
    for name, sensor in plan.schedule.sensor.items():
        if sensor.burst:  # one entry for all samples of a frame
            intervals[name] = period_ns
    made = table("store", ("ring", "slots", "a view lasts [ms]"), left=("ring",))
    for name, depth in [("frames", plan.depth), *((s.name, s.depth) for s in plan.sensors)]:
        lasts_ms = (depth - 1) * intervals.get(name, period_ns) / 1e6
        made.add_row(name, str(depth), f"{lasts_ms:.0f}")
    return made


def _spread(timings: Sequence[SampleTiming]) -> str:
    """How near the schedule's trigger offsets bring the acquisitions to one instant."""
    apart_ns = spread_ns(timings)
    if apart_ns is None:
        return "acquisitions in one cycle: fewer than two sensors state theirs"
    known = ", ".join(
        f"{timing.sensor} {timing.acquired_ns / 1000:.1f}"
        for timing in timings
        if timing.acquired_ns is not None
    )
    return f"acquisitions of one cycle's triggers are {apart_ns / 1000:.1f} us apart: {known}"


def _device_facts(plan: Plan) -> list[dict[str, Any]]:
    """Where each device's driver runs, and what it states; None: it has no such thing."""
    timings = {timing.device: timing for timing in plan.timings}
    commands = {command.device: command for command in plan.commands}
    homes = {actuator.schedule.device: actuator.home for actuator in plan.actuators}
    found: list[dict[str, Any]] = []
    for name, driver in plan.drivers.items():
        timing, command = timings.get(name), commands.get(name)
        found.append(
            {
                "name": name,
                "home": timing.home if timing else homes.get(name, "cycle"),
                "address": driver.address,
                "bus": driver.bus,
                "request_ns": timing.request_ns or None if timing else None,
                "sample_ns": timing.typical_ns if timing else None,
                "worst_ns": timing.worst_ns if timing else None,
                "command_ns": command.write_ns or None if command else None,
            }
        )
    return found


def _sensor_facts(plan: Plan, timing: SampleTiming) -> dict[str, Any]:
    """When a sensor is triggered, acquired and due; from the start of its trigger's cycle."""
    sensor = plan.schedule.sensor[timing.sensor]
    line = sensor.trigger_line
    return {
        "name": timing.sensor,
        "device": timing.device,
        "latched": timing.free_running,
        "trigger_ns": None if timing.free_running else timing.trigger_ns,
        "trigger_line": None if line is None else {"chip": line.chip, "line": line.line},
        "every": sensor.every,
        "latency_cycles": sensor.latency_cycles,
        "acquired_ns": timing.acquired_ns,
        "deadline_ns": timing.deadline_ns,
        "slack_ns": None if timing.free_running else timing.slack_ns,
        "interval_ns": timing.interval_ns or None,
    }


def make(path: Path | str) -> Report:
    """Check a schedule, its drivers' options, its emulator, policy, task and world.

    Raises ScheduleError with every fault. A world is looked at where there is no other, and what
    is certain of the robot's start after that.
    """
    inspection = loader.inspect(path)
    valid = validation.inspect(inspection)
    inspection.attempt(_load_policy)
    inspection.attempt(group_of)
    inspection.attempt(_find_emulator)
    for what in ("reward", "terminated", "success"):
        inspection.attempt(_load_task, what)
    if valid is not None and valid.model is not None:
        inspection.attempt(turn.check_network, valid.model)
    if valid is not None and valid.classifier is not None:
        inspection.attempt(_run_classifier, valid.classifier)
    schedule = inspection.finish()
    assert valid is not None
    plan = planning.of_validated(valid)
    size = store_size(plan)
    checks = preflight.examine(schedule, *size)
    found = missing_samples.faults(plan)
    facts, notes = (None, []) if schedule.world is None else _world(plan, found)
    if found:
        raise ScheduleError.of(found)
    return Report(plan, size.total, checks, facts, notes)


def _load_policy(schedule: Schedule) -> None:
    """See that a policy that is a call can be made. Raises ScheduleError."""
    policy = schedule.policy
    if policy is not None and policy.call is not None and not policy.is_network:
        turn.load(schedule)


def _find_emulator(schedule: Schedule) -> None:
    """See that the emulator's module is there. Raises ScheduleError."""
    if schedule.emulator is None:
        return
    try:
        import_by_name.find_module(schedule.emulator.module, schedule.path.resolve().parent)
    except ScheduleError as error:
        raise schedule.error("emulator.module", str(error)) from error


def _load_task(schedule: Schedule, what: Literal["reward", "terminated", "success"]) -> None:
    """See that a function of the task can be made. Raises ScheduleError."""
    task.load(schedule, what, getattr(schedule.task, what))


def _run_classifier(schedule: Schedule, binding: "Binding") -> None:
    """See that what runs the task's classifier takes it. Raises ScheduleError."""
    described = as_policy(schedule)
    assert described is not None
    turn.check_network(described, binding)


def _world(plan: Plan, faults: list[ScheduleFault]) -> tuple[dict[str, Any], list[str]]:
    """The world of a plan and notes on it, loaded where MuJoCo is installed. Its faults are added.

    Raises ScheduleError.
    """
    from inphase.world.engines import make_world
    from inphase.world.mujoco.certainties import Certainties
    from inphase.world.mujoco.world import MujocoWorld
    from inphase.world.randomisation import Randomisation

    described = plan.schedule
    assert described.world is not None
    facts: dict[str, Any] = {"model": described.world.model, "trouble": None}
    try:
        world = make_world(plan)
    except WorldError as error:
        return facts | {"trouble": str(error)}, []
    drawn = Randomisation(plan, world).drawn
    # the start, and what the model's own drives hold, is MuJoCo's to say for any world
    certainties = Certainties(world if type(world) is MujocoWorld else MujocoWorld(plan))
    faults += certainties.faults()
    return facts | {
        "version": world.version,
        "step_ns": float(world.grid.step_ns),
        "steps": world.grid.steps,
        "knobs": len(world.knobs.paths()) + len(timing_model.paths(described)),
        "drawn": len(drawn),
    }, certainties.notes()
