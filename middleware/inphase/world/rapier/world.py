"""A world that Rapier steps: `engine = "rapier"` in `[world]`. It needs the extra `rapier`.

MuJoCo reads the model. From a state it computes places, accelerations, efforts and pictures. Motion
and collisions are Rapier's, in single precision. So a schedule
is the same for both, and a policy sees another physics.
"""

import ctypes
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np

from inphase.core.world_seam import Failure
from inphase.errors import WorldError, install
from inphase.plan.plan import Plan
from inphase.schedule import toml_position
from inphase.world.mujoco.knobs import Knobs
from inphase.world.mujoco.world import MujocoWorld
from inphase.world.rapier.refusals import GRAVITY_MAX, UNKNOWN_SENSORS, named, troubles
from inphase.world.rapier.scene import Scene

_STEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_WHILE_IT_RUNS = ("actuator", "camera", "light", "material", "texture", "site", "option")
"""kinds of knobs that are read at each step, or by pictures"""
_DIVERGED, _RAISED = 0, 1


def package() -> Any:
    """The package `rapier3d`. Raises WorldError."""
    try:
        import rapier3d
    except ImportError as error:
        raise WorldError(f"this world needs Rapier: {error}; {install('rapier3d')}") from error
    return rapier3d


class RapierKnobs(Knobs):
    """The knobs of the model that Rapier has: wind moves nothing in it."""

    def paths(self) -> list[str]:
        """Every path."""
        return [path for path in super().paths() if path != "world.option.wind"]

    def at_start_alone(self, path: str) -> bool:
        """True if Rapier's bodies, joints or colliders are made of it."""
        return path.split(".")[1] not in _WHILE_IT_RUNS or super().at_start_alone(path)


class RapierWorld(MujocoWorld):
    """The world of a plan, in Rapier. Each episode begins with a world that is made anew.

    Thread: one at a time. Raises ScheduleError with the parts of the model that Rapier cannot step.
    """

    def __init__(self, plan: Plan) -> None:
        self._rapier = package()
        self._scene: Scene | None = None
        super().__init__(plan)
        self._refuse_parts()
        # forces of contacts and limits are Rapier's: MuJoCo shall compute none
        flags = self._mujoco.mjtDisableBit
        self._model.opt.disableflags |= int(flags.mjDSBL_CONSTRAINT) | int(flags.mjDSBL_CONTACT)
        self.knobs = RapierKnobs(self._mujoco, self._model, self._data)
        self._warnings = np.zeros(2, np.int32)
        self._raised: BaseException | None = None
        self._before = np.zeros(self._model.nv)
        self._rate = np.zeros(self._model.nv)
        # C calls them, and Python must keep them
        self._calls = _STEP(self._guarded(self._step)), _STEP(self._guarded(self._derive))
        step, derive = (ctypes.cast(one, ctypes.c_void_p).value or 0 for one in self._calls)
        self.engine = replace(
            self.engine,
            step=step,
            forward=derive,
            catch_errors=0,
            warning=int(self._warnings.ctypes.data),
            warnings=len(self._warnings),
            warning_stride=int(self._warnings.strides[0]),
            fatal=(1 << len(self._warnings)) - 1,
            clock=0,
        )
        self._is_made = True
        self.reset()

    def _refuse_parts(self) -> None:
        found = list(troubles(self._mujoco, self._model))
        if found:
            raise self.schedule.error(
                "world.engine",
                f"Rapier cannot step {self.path.name}: {'; '.join(found[:5])}"
                f"{f'; and {len(found) - 5} more' if len(found) > 5 else ''}; change the model, "
                f'or remove engine = "rapier"',
            )
        for name, table in self.table.sensor.items():
            for field, source in table.fields.items():
                given = source.sensor or []
                for one in given if isinstance(given, list) else [given]:
                    self._refuse_sensor(one, ("world", "sensor", name, "fields", field))

    def _refuse_sensor(self, name: str, path: tuple[str, ...]) -> None:
        key = toml_position.format_path(path)
        number = self._find("sensor", name, key)
        kind = named(self._mujoco.mjtSensor, self._model.sensor_type[number])
        if kind in UNKNOWN_SENSORS:
            raise self.schedule.error(
                key,
                f"sensor {name!r} of the model is a {kind.lower()}, and Rapier does not tell "
                f'those forces; remove the field, or remove engine = "rapier"',
            )

    # ---- episodes ----------------------------------------------------------------------------

    def reset(self) -> None:
        """To the start, with all of Rapier's objects made anew: no byte is of an episode before."""
        super().reset()
        if not hasattr(self, "_is_made"):
            return
        self._warnings[:] = 0
        self._raised = None
        if self._is_too_heavy():
            raise self.schedule.error(
                "randomise" if self.schedule.randomise else "world.model",
                f"gravity is {self._model.opt.gravity.tolist()} m/s^2, and Rapier's single "
                f"precision makes nothing of more than {GRAVITY_MAX:g}; give less",
            )
        at, controls = self._data.qpos.copy(), self._data.ctrl.copy()
        # the rate at the start is that of a first step, which is then undone
        self._scene = self._made()
        self._before[:] = self._data.qvel
        self._scene.step()
        self._rate[:] = (self._data.qvel - self._before) / self._model.opt.timestep
        self._data.qpos[:], self._data.qvel[:] = at, self._before
        self._data.ctrl[:], self._data.time = controls, 0.0
        self._mujoco.mj_forward(self._model, self._data)
        self._scene = self._made()
        self._before[:] = self._data.qvel
        self._derive()

    def _made(self) -> Scene:
        return Scene(self._rapier, self._mujoco, self._model, self._data)

    # ---- the core's side ---------------------------------------------------------------------

    def _guarded(self, call: Callable[[], None]) -> Callable[[Any, Any], None]:
        """A function of C's form. An exception is a failure of the world, and no crash."""

        def guarded(_model: Any, _data: Any) -> None:
            try:
                call()
            except BaseException as error:  # C knows none; `explain` raises or tells it
                self._raised = error
                self._warnings[_RAISED] += 1

        return guarded

    def _step(self) -> None:
        assert self._scene is not None
        if self._is_too_heavy():  # Rapier would make it 0, without a word
            self._warnings[_DIVERGED] += 1
            return
        self._before[:] = self._data.qvel
        self._scene.step()
        self._rate[:] = (self._data.qvel - self._before) / self._model.opt.timestep
        if not self._scene.is_sound:
            self._warnings[_DIVERGED] += 1

    def _is_too_heavy(self) -> bool:
        return float(np.linalg.norm(self._model.opt.gravity)) > GRAVITY_MAX

    def _derive(self) -> None:
        """Compute the rest from the state, by MuJoCo's stages but for its forces."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_fwdPosition(model, data)
        mujoco.mj_sensorPos(model, data)
        mujoco.mj_fwdVelocity(model, data)
        mujoco.mj_subtreeVel(model, data)
        mujoco.mj_sensorVel(model, data)
        mujoco.mj_fwdActuation(model, data)
        data.qacc[:] = self._rate
        mujoco.mj_rnePostConstraint(model, data)
        mujoco.mj_sensorAcc(model, data)

    def explain(self, failure: Failure) -> WorldError:
        """The error for a failure that the core reports. Raises what interrupted a step."""
        if failure.what not in (1 + _DIVERGED, 1 + _RAISED):
            return super().explain(failure)
        if isinstance(self._raised, KeyboardInterrupt):
            raise self._raised
        cycle = f" in cycle {failure.cycle}," if failure.cycle >= 0 else ""
        where = f"{self.path}: the world failed{cycle} at {failure.world_ns / 1e9:.6f} s: "
        if self._raised is not None:
            return WorldError(f"{where}Rapier: {self._raised or type(self._raised).__name__}")
        return WorldError(
            f"{where}it diverged; give a smaller step_us, or softer actuators in the model"
        )

    @property
    def version(self) -> str:
        """Trajectories differ between Rapier's versions."""
        return f"rapier3d {metadata.version('rapier3d')}"
