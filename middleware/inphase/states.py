"""What the core says of a robot's state, in words for a person; STATES.md is the page."""

from inphase.packets import REASONS
from inphase.plan import Plan

_INPUTS, _LOCAL, _CLIENT = 16, 16, 17  # INPHASE_ESTOP_* of inphase.h


def estop_source(plan: Plan, detail: int) -> str:
    """Where an emergency stop came from: the detail of the reason `estop`."""
    if detail == _LOCAL:
        return "this process"
    if detail == _CLIENT:
        return "a client"
    return f"input {detail}"


def latched(plan: Plan, status: dict[str, int]) -> str:
    """What is latched, since when, and what to do."""
    reason, detail = REASONS[status["latched"]], status["latched_detail"]
    if reason == "estop":
        what = f"emergency stop by {estop_source(plan, detail)}"
        remedy = "release it, then arm again"
    else:
        what = f"motion is latched: {reason}" + (f" ({detail})" if detail else "")
        remedy = "arm again once the cause is gone"
    return f"{what}, in cycle {status['reason_cycle']}; {remedy} (SIGUSR1)"


def obstacle(plan: Plan, status: dict[str, int]) -> str:
    """Why arming is not granted."""
    reason, detail = REASONS[status["refusal"]], status["refusal_detail"]
    if reason == "estop":
        known = status["estop"] >> detail & 1
        state = "is pressed" if known else "is not known"
        return f"the emergency stop's {estop_source(plan, detail)} {state}"
    if reason == "moving":
        return "a ramp has not come to rest; try again"
    if reason == "none":
        return latched(plan, status)
    actuator = plan.actuators[detail]
    device = actuator.schedule.device
    if reason == "offline":
        return f"device {device} of actuator {actuator.name} is gone, or not enabled"
    if reason == "unguarded":
        return f"nothing stops device {device} of actuator {actuator.name} when the runtime dies"
    sensor = plan.sensors[actuator.feedback_sensor].name
    return (
        f"the feedback of actuator {actuator.name}, sensor {sensor}, is not good enough to move on"
    )
