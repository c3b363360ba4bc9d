"""The robot's MJCF model for the page: what is drawn, once, and where it is, for each frame.

MuJoCo compiles the file and computes the bodies' poses from the joints that were measured. A part
that no sensor measures stays where the model's keyframe has it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from struct import Struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase.errors import StoreError, WorldError, install
from inphase.frames.frame import Frame, NoSample
from inphase.schedule.simulation_tables import Page, WorldTable

_GROUPS = 3  # geoms of the first ones are seen: others are for collisions, by MuJoCo's custom
_BYTES_MAX = 64 << 20
_DIGITS = 5
_HEAD = Struct("<I")
Moved = dict[str, list[str]]
"""by measured field, as `sensor.field`, the joints that it moves"""


def model_file(page: Page, tables: Mapping[str, Any], folder: Path) -> Path | None:
    """The MJCF file of a schedule's page, or of its world; None: there is none."""
    name = page.model or tables.get("world", {}).get("model")
    return None if name is None else folder / name


def moved_joints(page: Page, tables: Mapping[str, Any]) -> Moved:
    """The joints that are measured, as the page's table has them, or the world's."""
    if page.joints or "world" not in tables:
        return page.joints
    world = msgspec.convert(tables["world"], WorldTable)
    found: Moved = {}
    for name, sensor in world.sensor.items():
        if sensor.joints is not None:
            found[f"{name}.position"] = sensor.joints
        for field, source in sensor.fields.items():
            joints = source.joint_position
            if joints is not None and source.gain == 1.0 and source.zero == 0.0:
                found[f"{name}.{field}"] = [joints] if isinstance(joints, str) else joints
    return found


def _package() -> Any:
    """The package `mujoco`, without its renderers. Raises WorldError."""
    os.environ.setdefault("MUJOCO_GL", "disable")
    try:
        import mujoco
    except ImportError as error:
        raise WorldError(f"it needs MuJoCo: {error}; {install('mujoco')}") from error
    return mujoco


class RobotModel:
    """One model, compiled. Raises WorldError, and ValueError for a file that is none."""

    def __init__(self, path: Path, keyframe: str | None, joints: Moved) -> None:
        self._mujoco = mujoco = _package()
        self._model = mujoco.MjModel.from_xml_path(str(path))
        self._data = mujoco.MjData(self._model)
        if keyframe is not None:
            number = self._number("key", keyframe)
            mujoco.mj_resetDataKeyframe(self._model, self._data, number)
        self._moved = [
            (*field.partition(".")[::2], [self._address(name) for name in names])
            for field, names in joints.items()
        ]
        self._bodies = np.flatnonzero(self._model.body_weldid != 0)
        """those that can move"""
        mujoco.mj_kinematics(self._model, self._data)

    def _number(self, kind: str, name: str) -> int:
        kinds = self._mujoco.mjtObj
        number = int(
            self._mujoco.mj_name2id(self._model, getattr(kinds, f"mjOBJ_{kind.upper()}"), name)
        )
        if number < 0:
            raise WorldError(f"the model has no {kind} {name!r}; correct the schedule's [page]")
        return number

    def _address(self, name: str) -> int:
        number, kinds = self._number("joint", name), self._mujoco.mjtJoint
        if self._model.jnt_type[number] not in (int(kinds.mjJNT_HINGE), int(kinds.mjJNT_SLIDE)):
            raise WorldError(f"joint {name!r} of the model is neither a hinge nor a slide")
        return int(self._model.jnt_qposadr[number])

    # ---- where it is ---------------------------------------------------------------------------

    def poses(self, frame: Frame) -> list[list[float]]:
        """Of each body that moves: x, y, z in m and the quaternion w, x, y, z."""
        for sensor, field, addresses in self._moved:
            try:
                sample = frame[sensor]
                values = np.array(sample.value[field], np.float64).reshape(-1)
            except (NoSample, StoreError, KeyError, ValueError):
                continue
            if sample.intact and len(values) == len(addresses) and np.isfinite(values).all():
                self._data.qpos[addresses] = values
        self._mujoco.mj_kinematics(self._model, self._data)
        where = np.hstack([self._data.xpos[self._bodies], self._data.xquat[self._bodies]])
        poses: list[list[float]] = where.round(_DIGITS).tolist()
        return poses

    # ---- what is drawn -------------------------------------------------------------------------

    def scene(self) -> bytes:
        """A length, a description as JSON, and the meshes that it names: vertices as float32, then
        faces as uint32. Raises WorldError for a model that is too large."""
        moving = {int(body): place for place, body in enumerate(self._bodies)}
        geoms, meshes, arrays, size = [], {}, [], 0
        for number in range(self._model.ngeom):
            colour = self._colour(number)
            if self._model.geom_group[number] >= _GROUPS or colour[3] <= 0:
                continue
            geom = self._geom(number, moving) | {"colour": colour}
            if geom["shape"] == "mesh":
                mesh = int(self._model.geom_dataid[number])
                if mesh not in meshes:
                    vertices, faces = self._mesh(mesh)
                    meshes[mesh] = {
                        "at": size,
                        "vertices": len(vertices),
                        "faces": len(faces),
                    }
                    arrays += [vertices, faces]
                    size += vertices.nbytes + faces.nbytes
                geom["mesh"] = mesh
            geoms.append(geom)
        if size > _BYTES_MAX:
            raise WorldError(f"its meshes have {size >> 20} MiB, the page takes {_BYTES_MAX >> 20}")
        centre, radius = self._ball()
        text = json.dumps(
            {
                "geoms": geoms,
                "meshes": meshes,
                "bodies": len(moving),
                "centre": centre.round(_DIGITS).tolist(),
                "radius": radius,
            }
        ).encode()
        text += b" " * (-len(text) % 4)
        return b"".join([_HEAD.pack(len(text)), text, *(array.tobytes() for array in arrays)])

    def _geom(self, number: int, moving: dict[int, int]) -> dict[str, Any]:
        model, data = self._model, self._data
        shape = self._mujoco.mjtGeom(int(model.geom_type[number])).name.removeprefix("mjGEOM_")
        body = int(model.geom_bodyid[number])
        place = moving.get(body)
        position, quaternion = model.geom_pos[number], model.geom_quat[number]
        if place is None:  # it stands: where it is in the world
            position, quaternion = data.geom_xpos[number], np.zeros(4)
            self._mujoco.mju_mat2Quat(quaternion, data.geom_xmat[number])
        return {
            "shape": shape.lower(),
            "body": place,
            "size": model.geom_size[number].round(_DIGITS).tolist(),
            "position": position.round(_DIGITS).tolist(),
            "quaternion": quaternion.round(_DIGITS).tolist(),
        }

    def _colour(self, number: int) -> list[float]:
        """Red, green, blue and opacity, 0 to 1; of a texture its mean."""
        model = self._model
        material = int(model.geom_matid[number])
        if material < 0:
            return self._rounded(model.geom_rgba[number])
        colour = np.array(model.mat_rgba[material], np.float64)
        textures = [int(one) for one in np.atleast_1d(model.mat_texid[material]) if one >= 0]
        if textures:
            colour[:3] *= self._mean(textures[0])
        return self._rounded(colour)

    def _rounded(self, colour: NDArray[Any]) -> list[float]:
        rounded: list[float] = np.asarray(colour, np.float64).round(3).tolist()
        return rounded

    def _mean(self, texture: int) -> NDArray[np.float64]:
        model = self._model
        colours = int(model.tex_nchannel[texture])
        count = int(model.tex_width[texture] * model.tex_height[texture]) * colours
        first = int(model.tex_adr[texture])
        pixels = model.tex_data[first : first + count].reshape(-1, colours)
        mean: NDArray[np.float64] = pixels.mean(0)[:3] / 255.0
        return mean

    def _mesh(self, mesh: int) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        model = self._model
        first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        vertices = model.mesh_vert[first : first + count].astype("<f4")
        first, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
        return vertices, model.mesh_face[first : first + count].astype("<u4")

    def _ball(self) -> tuple[NDArray[np.float64], float]:
        """Centre and radius of a ball around the bodies that move, at their start."""
        stat = self._model.stat
        if not len(self._bodies):
            return np.array(stat.center), float(stat.extent) / 2
        places = self._data.xpos[self._bodies]
        centre = (places.min(0) + places.max(0)) / 2
        radius = float(np.linalg.norm(places - centre, axis=1).max())
        return centre, max(radius, float(stat.extent) / 6)
