"""Messages for a person on a robot's state, as the core has it; STATES.md is the page."""

from collections.abc import Iterator

from inphase.core.realtime import is_realtime
from inphase.frames.frame import Act, Frame
from inphase.frames.record_layout import REASONS
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan

_LOCAL, _CLIENT = 16, 17  # INPHASE_ESTOP_* of inphase.h


def estop_source(plan: Plan, detail: int) -> str:
    """Where an emergency stop came from: the detail of the reason `estop`."""
    if detail == _LOCAL:
        return "a key, or the program"
    if detail == _CLIENT:
        return "a client"
    return plan.estop[detail].name


def latched(plan: Plan, status: dict[str, int]) -> str:
    """The cause of a latch, since when, and the remedy."""
    reason, detail = REASONS[status["latched"]], status["latched_detail"]
    if reason == "estop":
        what = f"emergency stop by {estop_source(plan, detail)}"
        remedy = "arm again" if detail in (_LOCAL, _CLIENT) else "release it, then arm again"
    elif reason == "offline":
        what = f"motion is latched: offline (device {list(plan.schedule.device)[detail]})"
        remedy = "arm again once the cause is gone"
    elif reason == "guard":
        return stalled(plan, status["reason_cycle"])
    elif reason == "device":
        what = f"motion is latched: device ({_meaning(plan, detail)})"
        remedy = "arm again once the cause is gone"
    else:
        what = f"motion is latched: {reason}" + (f" ({detail})" if detail else "")
        remedy = "arm again once the cause is gone"
    how = f"inphase lease {plan.schedule.name} --arm" if plan.is_leased else "key a, or SIGUSR1"
    return f"{what}, in cycle {status['reason_cycle']}; {remedy} ({how})"


def _meaning(plan: Plan, detail: int) -> str:
    """The words for a device's number, by the drivers of those that motion depends on."""
    for index in sorted(plan.motion_devices):
        name = list(plan.schedule.device)[index]
        if words := plan.drivers[name].meaning(detail):
            return f"{detail:#x} of {name}: {words}"
    return str(detail)


def stalled(plan: Plan, cycle: int) -> str:
    """The guard's stop of an emulated robot whose runtime did not run for too long, and the
    remedy."""
    hold_ms = plan.guard_hold_ns(is_realtime(plan.schedule.cycle)) / 1e6
    return (
        f"this machine held the robot's cycle up for more than {hold_ms:g} ms (max_hold), up to "
        f"cycle {cycle}: the guard stopped the emulated robot, and the run ends. The run of a real "
        f"robot is killed. Close other programs, let `inphase check` say which real-time rights "
        f"are missing, set a longer [guard] max_hold_ms, or use --lockstep"
    )


def _refused_starts(plan: Plan, frame: Frame) -> Iterator[tuple[ActuatorPlan, Act]]:
    """The actuators in position mode whose first command was refused, and what became of it."""
    for actuator in plan.actuators:
        act = frame.command[actuator.name]
        if act.reason == "start" and actuator.schedule.mode == "position":
            yield actuator, act


def outside(plan: Plan, frame: Frame) -> str:
    """Which joint takes no first command: it is too far outside of its range; "": none."""
    for actuator, act in _refused_starts(plan, frame):
        one, here = actuator.limits[act.detail], act.applied[act.detail]
        if one.low - one.step <= here <= one.high + one.step:
            continue
        return (
            f"actuator {actuator.name} takes no command (start): its joint {act.detail} stands at "
            f"{here:.4g}, outside of its range of {one.low:g} to {one.high:g} by more than its "
            f"step of {one.step:g}; move it into its range by hand, or correct zero, sign or "
            f"actuator.{actuator.name}.limits.position"
        )
    return ""


def far(plan: Plan, frame: Frame) -> str:
    """Which joint's first command is too far away, and from where to start; "": none."""
    for actuator, act in _refused_starts(plan, frame):
        channel, unit = act.detail, actuator.spec.unit
        asked, here = float(act.requested[channel]), float(act.applied[channel])
        sensor, _, field = (actuator.schedule.feedback or "").partition(".")
        place = f'frame["{sensor}"]["{field}"]' if field else f"{here:.4g} {unit}"
        step = actuator.limits[channel].velocity * plan.schedule.cycle.period_ns / 1e9
        return (
            f"policy asks {asked:.4g} {unit} of channel {channel} of actuator {actuator.name}, "
            f"which stands at {here:.4g}: a first command may be {step:.3g} {unit} away (one cycle "
            f"at its velocity limit); let it start from {place} and move on from there, "
            f'or write first_command = "approach" in [actuator.{actuator.name}]'
        )
    return ""


def pressed(plan: Plan, inputs: int) -> str:
    """Which inputs of the emergency stop are pressed."""
    names = [one.name for index, one in enumerate(plan.estop) if inputs >> index & 1]
    return f"the emergency stop is pressed: {', '.join(names)}"


def moving(plan: Plan, actuator: int) -> str:
    """Why an actuator is not armed now."""
    return (
        f"actuator {plan.actuators[actuator].name} still moves; wait until it is at rest, or take "
        f"its power away"
    )


def loose(actuators: list[str]) -> str:
    """How a run ended whose actuators are not known to be at rest, and what to do."""
    return (
        f"{', '.join(actuators)}: not known to be at rest at the end, and may still move: keep "
        f"away; take its power away, and look at its device and its feedback before the next run"
    )


def obstacle(plan: Plan, status: dict[str, int]) -> str:
    """Why arming is not granted."""
    reason, detail = REASONS[status["refusal"]], status["refusal_detail"]
    if reason == "estop":
        if status["estop"] >> detail & 1:
            return pressed(plan, status["estop"])
        return f"the emergency stop's input {estop_source(plan, detail)} cannot be read"
    if reason == "moving":
        return "a ramp has not come to rest; try again"
    if reason == "none":
        return latched(plan, status)
    actuator = plan.actuators[detail]
    sensor = plan.sensors[actuator.feedback_sensor].name
    if actuator.feedback_sensor < 0 and reason == "feedback":
        return f"the driver of device {actuator.schedule.device} does not say where it holds"
    which = f"device {actuator.schedule.device} of actuator {actuator.name}"
    return {
        "offline": f"{which} is gone, or not enabled",
        "unguarded": f"nothing stops {which} when the runtime dies",
        "rest": f"actuator {actuator.name} is not known to be at rest: its feedback shows motion, "
        f"or is not good",
    }.get(reason, f"sensor {sensor} is not good enough for actuator {actuator.name} to move")
