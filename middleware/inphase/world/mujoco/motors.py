"""Motors for a model that has none, such as a URDF file: one at each hinge and slide."""

import html
import math
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from inphase.errors import ScheduleError
from inphase.world.mujoco.package import package

_LOCKED = 1e8  # N s/m or N m s/rad: with 1 MN it moves by a centimetre per second


def model_with_motors(path: Path, folder: Path) -> str | None:
    """The MJCF text of a model with a motor at each joint, for a file in `folder`.

    None: the model has actuators, or no joint for one; a joint that damping locks is none. A motor
    exerts N m or N, within the effort that the model gives its joint. Raises ScheduleError where
    the model does not load.
    """
    mujoco = package()
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        moved = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        joints = [one for one in spec.joints if one.type in moved and not _is_locked(one)]
        if spec.actuators or not joints:
            return None
        for number, joint in enumerate(joints):
            _add_motor(mujoco, spec, joint, number)
        for key in ("meshdir", "texturedir"):
            setattr(spec, key, str((path.resolve().parent / getattr(spec, key)).resolve()))
        spec.compile()  # to_xml wants it, with the files where they are
        return _with_relative_folders(str(spec.to_xml()), folder.resolve())
    except (ValueError, mujoco.FatalError) as error:
        raise ScheduleError(
            f"{path} does not load: {str(error).strip()}; correct the model"
        ) from error


def joint_speeds(path: Path) -> dict[str, float]:
    """The largest speed of each joint of a URDF file that states one, in rad/s or m/s.

    MuJoCo reads the file without them. An MJCF file has none, and 0 in a URDF file states none.
    """
    root = ElementTree.parse(path).getroot()
    if root.tag != "robot":
        return {}
    stated = {
        str(joint.get("name")): float(limit.get("velocity", 0))
        for joint in root.iter("joint")
        if (limit := joint.find("limit")) is not None
    }
    return {name: speed for name, speed in stated.items() if 0 < speed < math.inf}


def _with_relative_folders(text: str, folder: Path) -> str:
    """An MJCF text whose folders of meshes and textures are named from its own folder."""

    def relative(found: re.Match[str]) -> str:
        return f'{found[1]}="{os.path.relpath(html.unescape(found[2]), folder)}"'

    return re.sub(r'\b(meshdir|texturedir)="([^"]*)"', relative, text, count=2)


def _is_locked(joint: Any) -> bool:
    """Damped so much that it stands, as models of Fetch fix their base."""
    return float(np.max(joint.damping)) >= _LOCKED


def _add_motor(mujoco: Any, spec: Any, joint: Any, number: int) -> None:
    if not joint.name:
        joint.name = f"joint_{number}"
    motor = spec.add_actuator(name=joint.name, target=joint.name)
    motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
    motor.set_to_motor()
    low, high = map(float, joint.actfrcrange)
    if low < high:
        motor.ctrlrange = [low, high]
        motor.ctrllimited = True
