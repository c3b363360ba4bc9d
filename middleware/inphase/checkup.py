"""What `inphase check` finds: the schedule's cycle and rings, and what the machine lacks."""

from dataclasses import dataclass
from typing import Any

from inphase import plan as planning
from inphase import policy, preflight
from inphase.core import store_size
from inphase.plan import Plan
from inphase.preflight import Check
from inphase.schedule import Schedule


@dataclass(frozen=True)
class Report:
    """A checked schedule and the machine it was checked on."""

    plan: Plan
    store_bytes: int
    checks: list[Check]

    def facts(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "robot": self.plan.schedule.name,
            "schedule_hash": self.plan.schedule.hash,
            "period_ns": self.plan.schedule.cycle.period_ns,
            "store_bytes": self.store_bytes,
            "depth": {"frames": self.plan.depth} | {s.name: s.depth for s in self.plan.sensors},
            "notes": self.plan.notes,
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

    def render(self, width: int) -> Any:
        """A rich renderable: timeline, devices, store, machine."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from inphase import timeline

        plan = self.plan
        cycle = plan.schedule.cycle
        head = Text(f"{plan.schedule.path}: {plan.schedule.name}, valid, hash {plan.schedule.hash}")
        bus = Table(title="on the wire [us]", title_justify="left")
        for column in ("device", "request", "reply", "worst case", "command", "address"):
            bus.add_column(column, justify="left" if column in ("device", "address") else "right")
        commands = {a.device: a.encoding.write_ns for a in plan.actuators if a.encoding}
        exchanges = {s.device: s.exchange for s in plan.sensors}
        for index, (name, driver) in enumerate(plan.drivers.items()):
            exchange, command = exchanges.get(index), commands.get(index)
            bus.add_row(
                name,
                f"{exchange.request_ns / 1000:.0f}" if exchange else "-",
                f"{exchange.reply_ns / 1000:.0f}" if exchange else "-",
                f"{exchange.reply_max_ns / 1000:.0f}" if exchange else "-",
                f"{command / 1000:.0f}" if command is not None else "-",
                driver.address,
            )
        rings = Table(title="store", title_justify="left")
        for column in ("ring", "slots", "a view lasts [ms]"):
            rings.add_column(column, justify="left" if column == "ring" else "right")
        for name, depth in [("frames", plan.depth), *((s.name, s.depth) for s in plan.sensors)]:
            lasts_ms = (depth - 1) * cycle.period_ns / 1e6
            rings.add_row(name, str(depth), f"{lasts_ms:.0f}")
        machine = Table(title="machine", title_justify="left")
        for column in ("", "what", "wanted", "found", "what grants it"):
            machine.add_column(column)
        for check in self.checks:
            mark = "[green]ok[/]" if check.ok else "[red]lacks[/]"
            machine.add_row(mark, check.name, check.wanted, check.found, check.remedy)
        notes = [Text(note, "yellow") for note in plan.notes]
        drawn = timeline.render(plan.spans(), plan.marks(), cycle.period_ns, width)
        size = Text(f"shared memory: {self.store_bytes:,} bytes")
        return Group(head, drawn, bus, rings, size, machine, *notes)


def make(schedule: Schedule) -> Report:
    """Check a schedule, its drivers' options and its policy. Raises ScheduleError."""
    plan = planning.make(schedule)
    if schedule.policy is not None:
        policy.load(schedule)
    size = store_size(plan)
    return Report(plan, size, preflight.examine(schedule, size))
