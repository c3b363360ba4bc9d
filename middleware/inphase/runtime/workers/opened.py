"""The plan of a robot whose devices are open, and say their own scales and bounds."""

from dataclasses import replace

from inphase.errors import DeviceError, ScheduleError
from inphase.plan.plan import Plan, make
from inphase.runtime.run_options import RunOptions


def of_opened(plan: Plan) -> Plan:
    """The same plan with what its drivers know once they are open: their devices' own scales.

    Raises DeviceError where a device takes less than the schedule asks of it.
    """
    try:
        found = make(plan.schedule, plan.drivers)
    except ScheduleError as error:
        raise DeviceError(str(error)) from error
    return replace(found, client_policy=plan.client_policy)


def as_asked(plan: Plan, options: RunOptions) -> Plan:
    """The same plan as the options of a run want it: its policy, its service, and the share of the
    velocity limits that is allowed."""
    share = options.speed
    actuators = [
        replace(one, limits=[to._replace(velocity=share * to.velocity) for to in one.limits])
        for one in plan.actuators
    ]
    return replace(
        plan,
        actuators=actuators,
        client_policy=options.client_policy,
        is_leased=options.leased,
    )
