"""The conditions that must be true before a robot may move: rights, a guard, known places."""

from inphase.core.config import store_size
from inphase.errors import RealtimeError
from inphase.host import preflight
from inphase.plan import declarations
from inphase.plan.plan import Plan
from inphase.runtime.run_options import RunOptions
from inphase.schedule import Schedule


def check_guarded(plan: Plan, options: RunOptions) -> None:
    """Refuse to move what nothing would stop. Raises ScheduleError."""
    if options.observe or options.simulate or not plan.unguarded:
        return
    name = plan.unguarded[0]
    raise plan.schedule.error(
        f"actuator.{name}.device",
        "nothing would stop it when the runtime dies: its driver verifies no watchdog, and the "
        "guard has no bytes of it; switch the device's watchdog on, let its driver declare an "
        "encoding or a stop of kind BYTES, or run with --observe",
    )


def check_starts(plan: Plan, options: RunOptions) -> None:
    """Refuse to move joints of which nobody says where they are. Raises ScheduleError."""
    for actuator in plan.actuators if not options.observe else ():
        is_guest = options.client_threads and actuator.home == "thread"
        driver = plan.drivers[actuator.schedule.device]
        if actuator.needs_goals and (is_guest or not declarations.says_goals(driver)):
            raise plan.schedule.error(
                f"actuator.{actuator.name}.feedback",
                "the place of its joints is unknown: the key is missing, and the driver does "
                'not state it; add feedback = "SENSOR.FIELD", a position of each of its joints',
            )


def check_rights(schedule: Schedule, plan: Plan) -> None:
    """Refuse to run without a right that the schedule requires. Raises RealtimeError."""
    if schedule.cycle.realtime != "require":
        return
    needed = ("SCHED_FIFO", "locked memory", "core")
    lacking = [
        check
        for check in preflight.examine(schedule, *store_size(plan))
        if not check.ok and check.name in needed
    ]
    if lacking:
        text = "; ".join(f"{c.name}: {c.found}, needed {c.wanted}: {c.remedy}" for c in lacking)
        raise RealtimeError(
            f'{schedule.path}: realtime = "require", and the machine lacks {text}. Or set '
            f'realtime = "prefer": every frame then says NOT_REALTIME'
        )
