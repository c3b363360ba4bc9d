"""The plan of a robot whose devices are open, and say their own scales and bounds."""

from dataclasses import replace

from inphase.errors import DeviceError, ScheduleError
from inphase.plan.plan import Plan, make


def of_opened(plan: Plan) -> Plan:
    """The same plan with what its drivers know once they are open: their devices' own scales.

    Raises DeviceError where a device takes less than the schedule asks of it.
    """
    try:
        found = make(plan.schedule, plan.drivers)
    except ScheduleError as error:
        raise DeviceError(str(error)) from error
    return replace(found, client_policy=plan.client_policy)
