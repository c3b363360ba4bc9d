"""Knobs of a MuJoCo world: what of a model can be moved for an episode or in a cycle, by path.

    world.body.block.mass            world.joint.elbow.damping       world.actuator.elbow.kp
    world.camera.wrist.pos           world.light.*.diffuse           world.texture.table.rgb
    world.body.cup.present           world.option.gravity

A path is `world.KIND.NAME.PROPERTY`; NAME may hold `*` and stands for all that match. A part of the
model that has no name is called by its number.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = list[float]


@dataclass(frozen=True)
class _Property:
    """Where a property lies: an array of the model, and how its rows are found."""

    array: str
    row: str = ""
    """the array of the model that says the row; empty: the part's own number"""
    derived: bool = False
    """constants of the model follow from it: it is not changed while the world runs"""


_KINDS = {
    "body": ("body", "nbody"),
    "geom": ("geom", "ngeom"),
    "joint": ("joint", "njnt"),
    "site": ("site", "nsite"),
    "actuator": ("actuator", "nactuator"),
    "camera": ("camera", "ncam"),
    "light": ("light", "nlight"),
    "material": ("material", "nmat"),
    "texture": ("texture", "ntex"),
}
_PROPERTIES: dict[str, dict[str, _Property]] = {
    "body": {
        "pos": _Property("body_pos", derived=True),
        "quat": _Property("body_quat", derived=True),
        "inertia": _Property("body_inertia", derived=True),
        "gravcomp": _Property("body_gravcomp", derived=True),
    },
    "geom": {
        "pos": _Property("geom_pos", derived=True),
        "quat": _Property("geom_quat", derived=True),
        "size": _Property("geom_size", derived=True),
        "friction": _Property("geom_friction"),
        "rgba": _Property("geom_rgba"),
    },
    "joint": {
        "damping": _Property("dof_damping", "jnt_dofadr"),
        "armature": _Property("dof_armature", "jnt_dofadr", derived=True),
        "frictionloss": _Property("dof_frictionloss", "jnt_dofadr"),
        "stiffness": _Property("jnt_stiffness"),
    },
    "site": {"pos": _Property("site_pos"), "quat": _Property("site_quat")},
    "actuator": {"forcerange": _Property("actuator_forcerange")},
    "camera": {
        "pos": _Property("cam_pos"),
        "quat": _Property("cam_quat"),
        "fovy": _Property("cam_fovy"),
    },
    "light": {
        "pos": _Property("light_pos"),
        "dir": _Property("light_dir"),
        "diffuse": _Property("light_diffuse"),
        "ambient": _Property("light_ambient"),
        "specular": _Property("light_specular"),
    },
    "material": {
        "rgba": _Property("mat_rgba"),
        "emission": _Property("mat_emission"),
        "specular": _Property("mat_specular"),
        "shininess": _Property("mat_shininess"),
        "reflectance": _Property("mat_reflectance"),
    },
    "option": {"gravity": _Property("gravity"), "wind": _Property("wind")},
}
_OWN: dict[str, dict[str, bool]] = {
    "body": {"mass": True, "present": True},
    "joint": {"position": True},
    "actuator": {"kp": False, "kv": False},
    "texture": {"rgb": False, "noise": False},
}
"""properties with a rule of their own, below; whether they are for the start of an episode alone"""


class Knobs:
    """The knobs of one model. `restore` undoes all that was set. Thread: its world's."""

    def __init__(self, mujoco: Any, model: Any, data: Any) -> None:
        self._mujoco, self._model, self._data = mujoco, model, data
        self._before: dict[str, NDArray[Any]] = {}
        self._start: list[Callable[[], None]] = []
        self._derived = False
        self.textures: set[int] = set()
        """those whose pixels were changed since they were last handed to a renderer"""

    # ---- paths ---------------------------------------------------------------------------

    def paths(self) -> list[str]:
        """Every path, each part of the model by its name."""
        found = [f"world.option.{name}" for name in _PROPERTIES["option"]]
        for kind in _KINDS:
            properties = [*_PROPERTIES.get(kind, {}), *_OWN.get(kind, {})]
            for name in self._names(kind):
                found += [
                    f"world.{kind}.{name}.{key}"
                    for key in properties
                    if self._applies(kind, self._number(kind, name), key)
                ]
        return found

    def expand(self, pattern: str) -> list[str]:
        """The paths that a pattern stands for; none: it stands for nothing here."""
        return [path for path in self.paths() if fnmatchcase(path, pattern)]

    def at_start_alone(self, path: str) -> bool:
        """True if a knob is for the start of an episode, and not for while it runs."""
        _, kind, *_, key = path.split(".")
        if key in _OWN.get(kind, {}):
            return _OWN[kind][key]
        return _PROPERTIES[kind][key].derived

    def get(self, path: str) -> Values:
        """A knob's value as the model has it now."""
        kind, number, key = self._split(path)
        if key not in _OWN.get(kind, {}):
            return [float(value) for value in np.atleast_1d(self._place(kind, number, key))]
        model = self._model
        values: dict[str, Callable[[], Values]] = {
            "mass": lambda: [float(model.body_mass[number])],
            "present": lambda: [1.0],
            "position": lambda: [float(self._data.qpos[model.jnt_qposadr[number]])],
            "kp": lambda: [-float(model.actuator_biasprm[number][1])],
            "kv": lambda: [-float(model.actuator_biasprm[number][2])],
            "rgb": lambda: [1.0, 1.0, 1.0],
            "noise": lambda: [0.0],
        }
        return values[key]()

    def _names(self, kind: str) -> list[str]:
        _, count = _KINDS[kind]
        return [self._name(kind, number) for number in range(getattr(self._model, count))]

    def _name(self, kind: str, number: int) -> str:
        kinds = getattr(self._mujoco.mjtObj, f"mjOBJ_{_KINDS[kind][0].upper()}")
        return self._mujoco.mj_id2name(self._model, kinds, number) or str(number)

    def _number(self, kind: str, name: str) -> int:
        kinds = getattr(self._mujoco.mjtObj, f"mjOBJ_{_KINDS[kind][0].upper()}")
        found = int(self._mujoco.mj_name2id(self._model, kinds, name))
        return int(name) if found < 0 else found

    def _applies(self, kind: str, number: int, key: str) -> bool:
        """Some properties belong to some parts alone."""
        if kind == "body" and number == 0:
            return False  # the world itself
        if kind == "joint" and key == "position":
            kinds = self._mujoco.mjtJoint
            return int(self._model.jnt_type[number]) in (
                int(kinds.mjJNT_HINGE),
                int(kinds.mjJNT_SLIDE),
            )
        if key == "forcerange":
            return bool(self._model.actuator_forcelimited[number])  # else MuJoCo reads it nowhere
        if key in ("kp", "kv"):
            affine = int(self._mujoco.mjtBias.mjBIAS_AFFINE)
            _, spring, damping = -self._model.actuator_biasprm[number][:3]
            is_drive = int(self._model.actuator_biastype[number]) == affine
            return is_drive and bool(spring > 0 or (key == "kv" and damping > 0))
        return True

    def _split(self, path: str) -> tuple[str, int, str]:
        _, kind, *name, key = path.split(".")
        if kind == "option":
            return kind, 0, key
        return kind, self._number(kind, ".".join(name)), key

    # ---- setting -------------------------------------------------------------------------

    def restore(self) -> None:
        """The model as it was loaded."""
        for array, values in self._before.items():
            self._array(array)[...] = values
        if "tex_data" in self._before:
            self.textures = set(range(self._model.ntex))
        self._before.clear()
        self._start.clear()
        if self._derived:
            self._derived = False
            self._mujoco.mj_setConst(self._model, self._data)

    def set(self, values: dict[str, Values]) -> None:
        """Give knobs their values; `start` then puts an episode's state right."""
        derived = False
        for path, value in values.items():
            kind, number, key = self._split(path)
            derived = derived or self.at_start_alone(path)
            if key in _OWN.get(kind, {}):
                getattr(self, f"_set_{key}")(number, value)
            elif kind == "body" and key in ("pos", "quat") and self._free_joint(number) >= 0:
                self._put_free(number, key, value)
            else:
                self._keep(_PROPERTIES[kind][key].array)
                self._place(kind, number, key)[...] = value
        if derived:
            self._derived = True
            self._mujoco.mj_setConst(self._model, self._data)

    def start(self) -> None:
        """After the world was reset: what knobs say of its state."""
        for put in self._start:
            put()

    def _array(self, name: str) -> NDArray[Any]:
        owner = self._model.opt if name in ("gravity", "wind") else self._model
        array: NDArray[Any] = getattr(owner, name)
        return array

    def _keep(self, array: str) -> None:
        """Keep an array's content from before any of it was set."""
        if array not in self._before:
            self._before[array] = self._array(array).copy()

    def _place(self, kind: str, number: int, key: str) -> NDArray[Any]:
        """A view of a property in the model."""
        known = _PROPERTIES[kind][key]
        array = self._array(known.array)
        if kind == "option":
            return array
        row = int(getattr(self._model, known.row)[number]) if known.row else number
        return array[row : row + 1] if array.ndim == 1 else array[row]

    # ---- properties with rules of their own --------------------------------------------------

    def _set_mass(self, body: int, value: Values) -> None:
        """The inertia goes with it, as of the same shape of another density."""
        self._keep("body_mass")
        self._keep("body_inertia")
        before = float(self._model.body_mass[body])
        self._model.body_mass[body] = value[0]
        if before > 0:
            self._model.body_inertia[body] *= value[0] / before

    def _set_present(self, body: int, value: Values) -> None:
        """Below a half it is not there: nothing touches it, nobody sees it, nothing pulls it."""
        if value[0] >= 0.5:
            return
        for array in ("geom_rgba", "geom_contype", "geom_conaffinity", "body_gravcomp"):
            self._keep(array)
        first, count = self._model.body_geomadr[body], self._model.body_geomnum[body]
        for geom in range(first, first + count):
            self._model.geom_contype[geom] = self._model.geom_conaffinity[geom] = 0
            self._model.geom_rgba[geom, 3] = 0.0
        self._model.body_gravcomp[body] = 1.0

    def _set_position(self, joint: int, value: Values) -> None:
        at = int(self._model.jnt_qposadr[joint])
        self._start.append(lambda: self._data.qpos.__setitem__(at, value[0]))

    def _set_kp(self, actuator: int, value: Values) -> None:
        """The gain goes with it: a control stands for the same position."""
        gain, bias = self._drive(actuator)
        self._model.actuator_gainprm[actuator][0] = gain[0] / -bias[1] * value[0]
        self._model.actuator_biasprm[actuator][:2] = bias[0] / -bias[1] * value[0], -value[0]

    def _set_kv(self, actuator: int, value: Values) -> None:
        """Of a velocity drive the gain goes with it."""
        gain, bias = self._drive(actuator)
        if bias[1] == 0:
            self._model.actuator_gainprm[actuator][0] = gain[0] / -bias[2] * value[0]
        self._model.actuator_biasprm[actuator][2] = -value[0]

    def _drive(self, actuator: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Gain and bias of an actuator as the model was loaded."""
        self._keep("actuator_gainprm")
        self._keep("actuator_biasprm")
        gains, biases = self._before["actuator_gainprm"], self._before["actuator_biasprm"]
        return gains[actuator], biases[actuator]

    def _set_rgb(self, texture: int, value: Values) -> None:
        """Its pixels times a colour."""
        pixels = self._pixels(texture)
        pixels[...] = np.clip(np.rint(pixels * np.asarray(value)), 0, 255)

    def _set_noise(self, texture: int, value: Values) -> None:
        """Grain of so many parts of full scale; the same grain for the same value."""
        pixels = self._pixels(texture)
        grain = np.random.Generator(np.random.Philox(key=texture))
        noise = grain.integers(-256, 257, pixels.shape) * (255 * value[0] / 256)
        pixels[...] = np.clip(np.rint(pixels + noise), 0, 255)

    def _pixels(self, texture: int) -> NDArray[np.uint8]:
        self._keep("tex_data")
        self.textures.add(texture)
        model = self._model
        size = int(model.tex_width[texture]) * int(model.tex_height[texture])
        channels, first = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
        rows: NDArray[np.uint8] = model.tex_data[first : first + size * channels].reshape(
            size, channels
        )
        return rows[:, :3]

    # ---- bodies that are free --------------------------------------------------------------

    def _free_joint(self, body: int) -> int:
        """The free joint of a body; -1: it has none."""
        first, count = int(self._model.body_jntadr[body]), int(self._model.body_jntnum[body])
        free = int(self._mujoco.mjtJoint.mjJNT_FREE)
        return first if count == 1 and int(self._model.jnt_type[first]) == free else -1

    def _put_free(self, body: int, key: str, value: Values) -> None:
        """Where a free body starts is part of the state."""
        at = int(self._model.jnt_qposadr[self._free_joint(body)])
        places = slice(at, at + 3) if key == "pos" else slice(at + 3, at + 7)
        self._start.append(lambda: self._data.qpos.__setitem__(places, value))


def nearest(path: str, known: Iterable[str]) -> list[str]:
    """Paths that somebody may have meant."""
    import difflib

    return difflib.get_close_matches(path, list(known), n=3, cutoff=0.5)
