"""One pass over a schedule and its drivers that finds every fault: after it, planning cannot fail.

`validate` checks a loaded schedule against its drivers. `load` reads a schedule that will be
validated, and reports the faults that only drivers know of together with the file's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inphase.driver import Driver
from inphase.plan import driver_rules, feasibility
from inphase.plan.channel_places import dtype_of
from inphase.plan.declarations import Declarations, declare
from inphase.schedule import Schedule, loader, timing_model
from inphase.schedule.inspection import Inspection
from inphase.schedule.rules.classifier_rules import SCORE, as_policy
from inphase.schedule.table import Incomplete, Unknown
from inphase.schedule.timing_model import TimingModel

if TYPE_CHECKING:
    import numpy as np

    from inphase.models.model_binding import Binding


@dataclass(frozen=True)
class Validated:
    """A schedule without a fault, and what belongs to it."""

    schedule: Schedule
    declared: Declarations
    timing: TimingModel
    model: "Binding | None"
    """the policy's, bound to fields and actuators, where it is a model"""
    classifier: "Binding | None" = None
    """the task's, bound to fields, where there is one"""


def validate(schedule: Schedule, drivers: Mapping[str, Driver] | None = None) -> Validated:
    """Check a schedule against its drivers; give those that were opened, for their own scales.

    Raises ScheduleError with every fault.
    """
    inspection = Inspection(schedule)
    validated = inspect(inspection, drivers)
    inspection.finish()
    assert validated is not None
    return validated


def load(path: Path | str) -> Schedule:
    """Read and check a schedule. Where it has a fault, its drivers are asked for theirs too.

    Raises ScheduleError with every fault.
    """
    inspection = loader.inspect(path)
    if inspection.faults:
        inspect(inspection)
    return inspection.finish()


def inspect(
    inspection: Inspection, drivers: Mapping[str, Driver] | None = None
) -> Validated | None:
    """Apply every rule that needs the drivers of a schedule; None where there is a fault."""
    declared = declare(inspection, drivers)
    driver_rules.check(inspection, declared)
    feasibility.check(inspection, declared)
    timing = inspection.attempt(timing_model.of_schedule)
    model = inspection.attempt(_bind_model, declared)
    classifier = inspection.attempt(_bind_classifier, declared)
    if inspection.faults or timing is None:
        return None
    return Validated(inspection.schedule, declared, timing, model, classifier)


def _bind_model(schedule: Schedule, declared: Declarations) -> "Binding | None":
    if schedule.policy is None:
        return None
    if not schedule.policy.is_network and schedule.policy.server is None:
        return None
    from inphase.models import model_binding, server_binding  # for networks alone

    dtypes, channels = _shapes(schedule, declared)
    if schedule.policy.server is not None:
        server_binding.make(schedule, dtypes, channels)
        return None
    return model_binding.make(schedule, dtypes, channels)


def _bind_classifier(schedule: Schedule, declared: Declarations) -> "Binding | None":
    described = as_policy(schedule)
    if described is None:
        return None
    from inphase.models import model_binding

    return model_binding.make(described, *_shapes(schedule, declared), {SCORE: 1})


def _shapes(
    schedule: Schedule, declared: Declarations
) -> tuple[dict[str, "np.dtype[Any]"], dict[str, int]]:
    """The dtype of each sensor's sample, and the channels of each actuator. Raises Unknown where a
    model may be bound to one that is not known."""
    if isinstance(schedule.sensor, Incomplete) or isinstance(schedule.actuator, Incomplete):
        raise Unknown("sensor")
    dtypes = {name: dtype_of(declared.sensors[name]) for name in schedule.sensor}
    return dtypes, {name: declared.actuators[name].channels for name in schedule.actuator}
