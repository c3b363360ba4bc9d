"""The quantity of an actuator's feedback, from the unit of the field that it names."""

from typing import Literal, get_args

from inphase.driver import Field
from inphase.schedule.table import Unknown

FeedbackKind = Literal["position", "velocity", "other"]
"""the quantity of an actuator's feedback, as INPHASE_FEEDBACK_*; the last says nothing of motion"""
FEEDBACK_KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)


def kind_of(unit: str, mode: str, own: str) -> FeedbackKind:
    """The quantity of a unit, beside the actuator's own."""
    if unit in ("rad/s", "m/s") or (mode == "velocity" and unit == own):
        return "velocity"
    if unit in ("rad", "m") or (mode == "position" and unit in (own, "1")):
        return "position"
    if mode == "velocity" and f"{unit}/s" == own:
        return "position"
    return "other"


def unit_of(fields: tuple[Field, ...], name: str) -> str:
    """The unit of a field. Raises Unknown where there is none of that name."""
    for field in fields:
        if field.name == name:
            return field.unit
    raise Unknown(name)
