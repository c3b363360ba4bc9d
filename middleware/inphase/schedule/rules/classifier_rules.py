"""The rules of a task's classifier: a model whose inputs are bound as those of a policy are."""

from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule.inspection import Inspection
from inphase.schedule.rules import model_rules
from inphase.schedule.table import known_of, with_known
from inphase.schedule.tables import Policy, Schedule

SCORE = "score"
"""stands for the actuator that the model's output is bound to: it has one channel"""


class ClassifierSchedule(Schedule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A schedule whose policy is the classifier of its task; faults name the keys of that."""

    def fault(
        self, key_path: str, message: str, doubts: tuple[str, ...] | None = None
    ) -> ScheduleFault:
        """As Schedule.fault."""
        table, dot, rest = key_path.partition(".")
        if table == "policy":
            key_path = f"task.classifier{dot}{'output' if rest.startswith('outputs') else rest}"
        return super().fault(key_path, message, doubts)


def as_policy(schedule: Schedule) -> ClassifierSchedule | None:
    """The schedule of which the task's classifier is the policy; None: it has none."""
    table = schedule.task.classifier
    if table is None:
        return None
    policy = Policy(
        model=table.model,
        inputs=table.inputs,
        outputs={table.output: SCORE},
        normalise=table.normalise,
        images=table.images,
    )
    return with_known(ClassifierSchedule, known_of(schedule) | {"policy": policy})


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    inspection.apply(_check_model)
    inspection.apply(_check_alone)


def _check_model(schedule: Schedule) -> Iterator[ScheduleFault]:
    described = as_policy(schedule)
    if described is not None:
        yield from model_rules.faults_of_inputs(described)


def _check_alone(schedule: Schedule) -> Iterator[ScheduleFault]:
    task = schedule.task
    if task.classifier is not None and task.success is not None:
        yield schedule.fault(
            "task.classifier",
            f"success = {task.success!r} says already when the task is done; keep one of them",
        )
