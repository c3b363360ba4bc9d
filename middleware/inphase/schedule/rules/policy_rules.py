"""The rules of a schedule's policy: how urgent it is, and on which samples it is called."""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule import toml_position
from inphase.schedule.inspection import Inspection
from inphase.schedule.rules import classifier_rules, model_rules, pace_rules, server_rules
from inphase.schedule.rules.actuator_rules import check_statuses
from inphase.schedule.rules.device_rules import check_priority
from inphase.schedule.tables import Schedule


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    model_rules.check(inspection)
    classifier_rules.check(inspection)
    server_rules.check(inspection)
    inspection.apply(check_priority, "policy")
    pace_rules.check(inspection)
    inspection.apply(_check_accepts)


def _check_accepts(schedule: Schedule) -> Iterator[ScheduleFault]:
    accepts = {} if schedule.policy is None else schedule.policy.accepts
    for name, accepted in accepts.items():
        key = toml_position.format_path(("policy", "accepts", name))
        if name not in schedule.sensor:
            known = ", ".join(schedule.sensor)
            yield schedule.fault(key, f"no such sensor, got {name!r}; the schedule has: {known}")
        yield from check_statuses(schedule, key, accepted)
