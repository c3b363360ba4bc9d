"""A schedule for a model of MuJoCo: `inphase new schedule --world model.xml`.

The schedule runs as it comes: it was tried in lock step before the command ends. Estimates are
marked by a comment.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from inphase.command.drafts import policy_draft
from inphase.command.drafts.scaffold import write_new
from inphase.command.drafts.schedule_text import ScheduleText
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError, WorldError
from inphase.plan import plan as planning
from inphase.plan.validation import load
from inphase.world.mujoco.motors import joint_speeds, model_with_motors
from inphase.world.mujoco.survey import ModelMotor, Survey, survey
from inphase.world.mujoco.world import MujocoWorld

_TRIED_CYCLES = 30
_SMALLER = (1, 2, 4, 8)
"""parts of the model's own physics step that are tried, until the world does not diverge"""


@dataclass(frozen=True)
class DraftResult:
    """A schedule that was made."""

    files: list[Path]
    """all that was written, the schedule first"""
    left_out: list[tuple[str, str]]
    """parts of the model that it does not have, and why"""
    trouble: str
    """what went wrong when it was tried, and the remedy; empty: nothing"""


def new_schedule(model: Path, output: Path | None) -> DraftResult:
    """Write a schedule of a model, and a policy with its test beside it, and try it in lock step.

    output: the schedule's file; None: in this folder, named as the model. Raises ScheduleError for
    a model that does not load and for files that exist, WorldError without MuJoCo.
    """
    if not model.is_file():
        raise ScheduleError(f"{model}: no such file; give an MJCF or URDF file: --world FILE")
    output = Path(f"{part_name(model.stem)}.toml") if output is None else output
    policy = f"{part_name(output.stem)}_policy"
    for path in (output, *policy_draft.files(policy, output.parent)):
        if path.exists():
            raise ScheduleError(f"{path} exists already; give another file: --output FILE")
    output.parent.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    moved = model_with_motors(model, output.parent)
    speeds = joint_speeds(model)
    if moved is not None:
        model = output.with_name(f"{part_name(output.stem)}_with_motors.xml")
        files += write_new({model: moved})
    found = survey(model)
    relative = os.path.relpath(model.resolve(), output.parent.resolve())
    text = ScheduleText(output.name, robot_name(output.stem), relative, policy, found)
    text.speeds = speeds
    motors = _accepted(text, output)
    output.write_text(text.render(motors))
    files = [output, *files]
    if motors:
        files += policy_draft.write(policy, planning.make(load(output)))
    trouble = ""
    for part in _SMALLER:
        if part > 1:
            text.step_us = found.step_s * 1e6 / part
            output.write_text(text.render(motors))
        trouble, invalid = _try_out(output)
        if not trouble:
            break
    if invalid and not trouble:
        trouble = _out_of_range(invalid, found)
    return DraftResult(files, text.left_out, trouble)


def robot_name(stem: str) -> str:
    """A file's name as a robot's: lower-case letters, digits, - and _, at most 32."""
    return re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-")[:32] or "robot"


def part_name(name: str) -> str:
    """A name as one of a schedule's part or a module: a letter, then letters, digits and _."""
    cleaned = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")
    return (cleaned if re.match(r"[a-z]", cleaned) else f"n{cleaned}")[:24].rstrip("_")


def _accepted(text: ScheduleText, output: Path) -> list[ModelMotor]:
    """The motors that the world takes. The others are left out with its reason."""
    motors = text.survey.motors
    if _refusal(text.render(motors), output) is None:
        return motors
    taken = []
    for motor in motors:
        why = _refusal(text.render([motor], bare=True), output)
        if why is None:
            taken.append(motor)
        else:
            text.left_out.append((f"actuator {motor.name}", why.partition("; ")[0]))
    if (why := _refusal(text.render(taken), output)) is not None:
        raise ScheduleError(f"{text.survey.path}: no schedule can be made of it: {why}")
    return taken


def _refusal(text: str, output: Path) -> str | None:
    """Why a schedule is refused, without its place; None: it is valid."""
    tried = output.with_name(f".{output.stem}-{os.getpid()}.toml")
    try:
        tried.write_text(text)
        MujocoWorld(planning.make(load(tried))).close()
    except ScheduleError as error:
        return error.faults[0].message
    finally:
        tried.unlink(missing_ok=True)
    return None


def _try_out(output: Path) -> tuple[str, list[str]]:
    """How the world fails within the first cycles (empty: it does not), and the sensors whose
    values are out of range in the end."""
    invalid = []
    try:
        with contextlib.closing(LockStep(load(output))) as robot:
            for frame in robot.frames(_TRIED_CYCLES):
                samples = frame.samples.values()
                invalid = [sample.name for sample in samples if sample.reason == "range"]
    except WorldError as error:
        return f"the world failed: {error}", []
    return "", invalid


def _out_of_range(sensors: list[str], found: Survey) -> str:
    """The joints moved beyond their ends by themselves: what pushes them, and the remedy."""
    told = f"the model's own forces push it out of its range: sensor {' and '.join(sensors)}"
    if not found.overlaps:
        return f"{told}; correct the model's ranges or its start, or widen range.position"
    bodies = ", ".join(
        f"{pair.body} and {pair.other} by {pair.depth_mm:.1f} mm" for pair in found.overlaps
    )
    excluded = "".join(
        f'<exclude body1="{pair.body}" body2="{pair.other}"/>' for pair in found.overlaps
    )
    if any(name.isdigit() for pair in found.overlaps for name in pair[:2]):
        bodies += " (a number is a body without a name: give it one)"
    return (
        f"{told}. These bodies overlap at the start: {bodies}. Where they are meant to, add to the "
        f"model <contact>{excluded}</contact>, then make the schedule again with --output"
    )
