"""Mean and standard deviation of a tensor: the schedule's, else those in the model's metadata."""

import json

import numpy as np
from numpy.typing import NDArray

from inphase.models.tensor import File, refuse
from inphase.schedule import Schedule, toml_position
from inphase.schedule.document import show

Numbers = NDArray[np.float64]


def of_tensor(
    schedule: Schedule, model: File, name: str, count: int
) -> tuple[Numbers, Numbers] | None:
    """Mean and std of `count` numbers; None: they are taken as they are. Raises ScheduleError."""
    assert schedule.policy is not None
    given = schedule.policy.normalise.get(name)
    where = place(schedule, name)
    if given is not None:
        numbers = {"mean": given.mean, "std": given.std}
    else:
        numbers = {what: _told(schedule, model, what, name) for what in ("mean", "std")}
    if numbers["mean"] is None and numbers["std"] is None:
        return None
    mean = _per_number(schedule, where, numbers["mean"], what="mean", count=count, otherwise=0.0)
    std = _per_number(schedule, where, numbers["std"], what="std", count=count, otherwise=1.0)
    if not (std > 0).all():
        raise schedule.error(
            where, f"std is not above 0, got {show(std.tolist())}; give positive numbers"
        )
    return mean, std


def place(schedule: Schedule, name: str) -> str:
    """The key that says the normalisation of a tensor."""
    assert schedule.policy is not None
    if name in schedule.policy.normalise:
        return toml_position.format_path(("policy", "normalise", name))
    return "policy.model" if schedule.policy.model else "policy.weights"


def _told(schedule: Schedule, model: File, what: str, name: str) -> float | list[float] | None:
    """`inphase.mean.NAME` of the model's metadata: JSON, a number or a list of numbers."""
    key = f"inphase.{what}.{name}"
    text = model.metadata.get(key)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    items = found if isinstance(found, list) else [found]
    if not all(type(item) in (int, float) for item in items):
        refuse(
            schedule, model, f"metadata {key} is not numbers, got {show(text)}",
            "give a list such as [0.0, 1.0]",
        )  # fmt: skip
    return found  # type: ignore[no-any-return]


def _per_number(
    schedule: Schedule,
    where: str,
    given: float | list[float] | None,
    *,
    what: str,
    count: int,
    otherwise: float,
) -> NDArray[np.float64]:
    if given is None:
        given = otherwise
    if isinstance(given, list) and len(given) != count:
        raise schedule.error(
            where,
            f"{what} has {len(given)} numbers for {count}, got {show(given)}; give one number for "
            f"all or one each",
        )
    try:
        numbers = np.full(count, given, dtype=np.float64)
    except OverflowError:
        numbers = np.full(count, np.inf)
    if not np.isfinite(numbers).all():
        raise schedule.error(where, f"{what} is not finite, got {show(given)}; give finite numbers")
    return numbers
