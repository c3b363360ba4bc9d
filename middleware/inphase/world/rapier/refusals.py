"""The parts of a model that Rapier cannot step: each is refused by name."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from inphase.world.mujoco.drives import Law, control_of

UNKNOWN_SENSORS = (
    "FORCE",
    "TORQUE",
    "TOUCH",
    "CONTACT",
    "JOINTLIMITFRC",
    "TENDONLIMITFRC",
    "PLUGIN",
    "USER",
)
"""they measure a force of contacts or of a limit, which Rapier does not give"""
SHAPES = ("PLANE", "SPHERE", "CAPSULE", "CYLINDER", "BOX", "MESH")
GRAVITY_MAX = 1e6
"""in m/s^2: single precision makes nothing of more"""


def named(kinds: Any, value: int) -> str:
    """The name that MuJoCo's enumeration has for a value, without its prefix."""
    return str(kinds(int(value)).name).partition("_")[2]


def troubles(mujoco: Any, model: Any) -> Iterator[str]:
    """The parts of a model that Rapier cannot step, by name."""
    yield from _joints(mujoco, model)
    yield from _shared(mujoco, model)
    yield from _contacts(mujoco, model)
    yield from _actuators(mujoco, model)
    yield from _rest(mujoco, model)


def part(mujoco: Any, model: Any, kind: str, number: int) -> str:
    """A part of the model for a person: its kind, and its name or number."""
    kinds = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
    return f"{kind} {mujoco.mj_id2name(model, kinds, number) or number!r}"


def _joints(mujoco: Any, model: Any) -> Iterator[str]:
    for number in range(model.njnt):
        kind = named(mujoco.mjtJoint, model.jnt_type[number])
        if kind == "BALL":
            yield f"{part(mujoco, model, 'joint', number)} is a ball"
        low, high = model.jnt_actfrcrange[number]
        if model.jnt_actfrclimited[number] and low != -high:
            yield (
                f"{part(mujoco, model, 'joint', number)} has an actuatorfrcrange that is not the "
                f"same in both directions"
            )


def _shared(mujoco: Any, model: Any) -> Iterator[str]:
    """A range for all actuators of a joint together is one motor's, or that of efforts alone."""
    for number in range(model.njnt):
        moved_by = np.flatnonzero(model.actuator_trnid[:, 0] == number)
        drives = np.any(model.actuator_biasprm[moved_by, 1:3])
        if model.jnt_actfrclimited[number] and len(moved_by) > 1 and drives:
            yield f"actuators share the actuatorfrcrange of {part(mujoco, model, 'joint', number)}"


def _contacts(mujoco: Any, model: Any) -> Iterator[str]:
    for number in range(model.ngeom):
        if not (model.geom_contype[number] or model.geom_conaffinity[number]):
            continue
        where, kind = part(mujoco, model, "geom", number), model.geom_type[number]
        if named(mujoco.mjtGeom, kind) not in SHAPES:
            yield f"{where} is a {named(mujoco.mjtGeom, kind).lower()} that others touch"
        if model.geom_condim[number] > 3:
            yield f"{where} has condim {model.geom_condim[number]}, with rolling friction"
        if model.geom_priority[number]:
            yield f"{where} has a priority"
    if model.npair:
        yield "it has contacts of pairs, <pair>"


def _actuators(mujoco: Any, model: Any) -> Iterator[str]:
    driven: dict[int, str] = {}
    for number in range(model.nactuator):
        law, where = Law(mujoco, model, number), part(mujoco, model, "actuator", number)
        joint = int(model.actuator_trnid[number][0])
        if law.transmission != "JOINT" or model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
            yield f"{where} moves no single joint (a {law.transmission.lower()})"
        elif law.strange() or law.dynamics != "NONE" or law.gain is None or law.bias is None:
            yield f"{where} is neither a motor nor a drive without a filter"
        elif law.bias[1] > 0 or law.bias[2] > 0:
            yield f"{where} pushes its joint away"
        elif any(law.bias[1:]) and driven.setdefault(joint, where) != where:
            yield f"{where} and {driven[joint]} are drives of one joint"
        low, high = model.actuator_forcerange[number]
        if model.actuator_forcelimited[number] and any((law.bias or ())[1:]) and low != -high:
            yield f"{where} has a forcerange that is not the same in both directions"
        if model.actuator_history[number][0]:
            yield f"{where} has a delay: remove it, and give delay_ms in [timing]"
        if control_of(model, number) != number:
            yield f"{where} has several controls"


def _rest(mujoco: Any, model: Any) -> Iterator[str]:
    for number in range(model.neq):
        if model.eq_active0[number]:
            yield f"{part(mujoco, model, 'equality', number)} is active"
    for number in range(model.ntendon):
        forces = (model.tendon_stiffness, model.tendon_damping, model.tendon_frictionloss)
        if model.tendon_limited[number] or any(np.any(one[number]) for one in forces):
            yield f"{part(mujoco, model, 'tendon', number)} exerts a force"
    if model.nflex:
        yield "it has a flex"
    if model.nmocap:
        yield "it has mocap bodies"
    if model.opt.density or model.opt.viscosity:
        yield "it has air or water (density, viscosity)"
    if model.nkey and np.any(model.key_qvel):
        yield "a keyframe of it has velocities"
