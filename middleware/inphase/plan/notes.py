"""Notes on a plan for a person, a sentence each: parts that fit and may yet surprise."""

import re
from collections.abc import Mapping, Sequence

from inphase.driver import Driver
from inphase.plan import feasibility
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.declarations import says_goals
from inphase.plan.timing import CommandTiming, SampleTiming
from inphase.schedule import Schedule
from inphase.schedule.tables import Cycle

_KERNELS = re.compile(r"/dev/(tty(USB|ACM)|video)[0-9]+")


def make(
    schedule: Schedule,
    drivers: Mapping[str, Driver],
    actuators: Sequence[ActuatorPlan],
    timings: Sequence[SampleTiming],
    commands: Sequence[CommandTiming],
) -> list[str]:
    """All of them."""
    found = [_blind(a, drivers) for a in actuators if a.feedback_sensor < 0]
    found += [note for actuator in actuators for note in _slow_for_step(actuator)]
    found += [note for actuator in actuators for note in _watchdog(schedule.cycle, actuator)]
    found += [note for actuator in actuators for note in _first_command(schedule, actuator)]
    found += _pace(schedule)
    found += _ports(schedule)
    return found + feasibility.notes(schedule, timings, commands)


def _ports(schedule: Schedule) -> list[str]:
    """Notes on ports that have the kernel's names, which change with the order of plugging in."""
    return [
        f"device {name}: {port} may be another device after a new start or when it is plugged in "
        f"again; `inphase udev {schedule.path}` gives it a name that stays"
        for name, device in schedule.device.items()
        if isinstance(port := device.options.get("port"), str) and _KERNELS.fullmatch(port)
    ]


def _blind(actuator: ActuatorPlan, drivers: Mapping[str, Driver]) -> str:
    note = f"actuator {actuator.name} moves blind: it has no feedback"
    if not actuator.needs_goals:
        return note
    if says_goals(drivers[actuator.schedule.device]):
        return f"{note}, and starts where its device says that it holds"
    return (
        f"{note}, and its driver does not say where its joints are: it runs in lock step alone; "
        f'for a device add feedback = "SENSOR.FIELD" to [actuator.{actuator.name}]'
    )


def _slow_for_step(actuator: ActuatorPlan) -> list[str]:
    """Channels that do not reach full velocity, because they brake before their step."""
    if actuator.schedule.mode != "position" or actuator.feedback_sensor < 0:
        return []
    for channel, one in enumerate(actuator.limits):
        way = one.velocity**2 / (2 * one.acceleration)
        if one.jerk:
            way += one.velocity * one.acceleration / (2 * one.jerk)
        if way > one.step:
            return [
                f"actuator {actuator.name}: channel {channel} does not reach its velocity of "
                f"{one.velocity:g}: it brakes before its step of {one.step:g}, and a ramp takes "
                f"{way:.3g}"
            ]
    return []


def _first_command(schedule: Schedule, actuator: ActuatorPlan) -> list[str]:
    """A note on a network whose training and run begin in different ways."""
    policy, mode = schedule.policy, actuator.schedule.mode
    if actuator.schedule.first_command is not None or mode == "switch":
        return []
    if policy is None or not policy.is_network:
        return []
    steps = [one.first_step(schedule.cycle.period_ns / 1e9) for one in actuator.limits]
    return [
        f"actuator {actuator.name}: a run refuses a first command that is further than "
        f"{min(steps):.3g} from where a joint is, and an environment approaches it: write "
        f'first_command = "approach" in [actuator.{actuator.name}], and a network that was trained '
        f'in the environment runs, or "refuse", and the environment refuses it, too'
    ]


def _watchdog(cycle: Cycle, actuator: ActuatorPlan) -> list[str]:
    """Notes on the stop of an actuator when the runtime is gone."""
    watchdog = actuator.spec.watchdog
    if watchdog is None and actuator.stop is not None:
        return [
            f"actuator {actuator.name} has no watchdog: should the runtime die, only the guard "
            f"stops it"
        ]
    if watchdog is None:
        return [
            f"actuator {actuator.name} has no watchdog, and its driver declares no bytes for "
            f"the guard: should the runtime die, nothing stops it. A run on the robot is refused "
            f"(run --simulate, --lockstep and --observe are not); give its device a driver with "
            f"a watchdog or bytes for the guard (drivers/README.md)"
        ]
    if watchdog.timeout_ns < cycle.resumed_after_ns:
        return [
            f"actuator {actuator.name} stops by itself after {watchdog.timeout_ns / 1e6:g} ms "
            f"without a cycle, and motion is latched only after resumed_after_ms = "
            f"{cycle.resumed_after_ms:g}: in between it does not follow, and nothing says so"
        ]
    return []


def _pace(schedule: Schedule) -> list[str]:
    """Notes for a person on a policy that is not asked and followed in every cycle."""
    policy, cycle = schedule.policy, schedule.cycle
    if policy is None or (policy.every == policy.chunk == 1 and not policy.latency_cycles):
        return []
    reach = policy.chunk * policy.spacing
    if policy.interpolate != "hold" and policy.spacing > 1:
        reach -= policy.spacing - 1
    late_ns = (policy.latency_cycles + reach - policy.every) * cycle.period_ns + cycle.act_ns
    return [
        f"the policy takes a frame every {policy.every * cycle.period_ns / 1e6:g} ms, and has "
        f"{late_ns / 1e6:g} ms from the frame's due time to its answer: after that, cycles go "
        f"without a command"
    ]
