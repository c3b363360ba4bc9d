"""A world of MuJoCo: a model, and the places that the sensors read and the actuators move.

The core steps it by function pointers and reads its numbers where they lie (native/src/world.c). So
nothing links to MuJoCo, and one build serves all its versions. `MujocoWorld` finds those places by
name. It needs the package `mujoco` (extra `sim`).
"""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from inphase.core.world_seam import Controls, Failure, StepGrid, WorldReading
from inphase.driver import TwinKind
from inphase.errors import ScheduleError, ScheduleFault, WorldError
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.plan import Plan
from inphase.plan.sensor_plan import SensorPlan
from inphase.schedule.simulation_tables import Source
from inphase.world.mujoco.camera import Cameras, RenderedImage
from inphase.world.mujoco.drives import Drives, control_of
from inphase.world.mujoco.knobs import Knobs
from inphase.world.mujoco.package import engine_of, package, why_no_images
from inphase.world.mujoco.quantities import DERIVED, Quantities, places

P = ParamSpec("P")
T = TypeVar("T")

_SUGGESTED = 8
_STEP_US_MIN = 1
_REMEDIES = {
    "CONTACTFULL": 'more memory for it in the model, <size memory="..."/>',
    "CNSTRFULL": 'more memory for it in the model, <size memory="..."/>',
    "INERTIA": "masses and inertias that are not so small",
}
_REMEDY = "a smaller step_us, or softer contacts and actuators in the model"
_CALLBACKS = (
    "control",
    "passive",
    "sensor",
    "act_bias",
    "act_dyn",
    "act_gain",
    "contactfilter",
    "time",
)
_PER_JOINT = {
    TwinKind.POSITION: "joint_position",
    TwinKind.VELOCITY: "joint_velocity",
    TwinKind.ACCELERATION: "joint_acceleration",
}


class MujocoWorld:
    """The world of a plan; `reset` puts it at the start of an episode.

    Thread: one at a time, and not while the core steps it. Raises ScheduleError with every place
    where the schedule and the model do not fit.
    """

    def __init__(self, plan: Plan) -> None:
        assert plan.schedule.world is not None
        self.plan = plan
        self.schedule = plan.schedule
        self.table = plan.schedule.world
        self._mujoco = package()
        self.path = plan.schedule.path.parent / self.table.model
        self._refuse_callbacks()
        self._model = self._load()
        self._data = self._mujoco.MjData(self._model)
        self._faults: list[ScheduleFault] = []
        self.grid = self._attempt(self._choose_steps) or StepGrid(plan.schedule.cycle.period_ns, 1)
        self._keyframe = self._attempt(self._find_keyframe)
        self._images: dict[int, RenderedImage] = {}
        self._quantities = Quantities(
            self._mujoco, self.schedule, self._model, self._data, self._find
        )
        self._pose = [
            self._attempt(self._quantities.start, *one) for one in self.table.pose.items()
        ]
        self.reset()
        self._drives = Drives(self._mujoco, plan, self._model, self.grid, self.path.name)
        self.readings = [self._read_sensor(index) for index in range(len(plan.sensors))]
        """per sensor and channel; None: the driver's own twin answers"""
        self.controls = [self._attempt(self._find_controls, a) for a in plan.actuators]
        """per actuator (addresses, gains); None: its own servos move"""
        if self._faults:
            raise ScheduleError.of(self._faults)
        self.knobs = Knobs(self._mujoco, self._model, self._data)
        self._cameras = Cameras(self._mujoco, self._model, self.table, self.knobs)
        self.reset()
        self.engine = engine_of(self._mujoco, self._model, self._data, self.grid)
        self._idle = self._idle_sensors()
        self._model.opt.disableflags |= self._idle

    def _attempt(self, make: Callable[P, T], *given: P.args, **options: P.kwargs) -> T | None:
        """The result of `make`. None: it found faults, which are kept."""
        try:
            return make(*given, **options)
        except ScheduleError as error:
            self._faults += error.faults
            return None

    # ---- the model -----------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """MuJoCo's MjModel. From the first look at it or at `data` on, each step computes the
        model's sensors, also where no sensor of the schedule reads one."""
        self._model.opt.disableflags &= ~self._idle
        return self._model

    @property
    def data(self) -> Any:
        """MuJoCo's MjData; see `model`."""
        self._model.opt.disableflags &= ~self._idle
        return self._data

    def _idle_sensors(self) -> int:
        """MuJoCo's flag that leaves out the model's sensors, where no field, no plugin and no
        picture reads one; else 0. Nothing that moves follows from them."""
        model, flag = self._model, int(self._mujoco.mjtDisableBit.mjDSBL_SENSOR)
        drawn = int(self._mujoco.mjtSensor.mjSENS_RANGEFINDER)
        if self._quantities.reads_sensors or self._images or model.nplugin:
            return 0
        if drawn in model.sensor_type or int(model.opt.disableflags) & flag:
            return 0
        return flag

    def _load(self) -> Any:
        if not self.path.exists():
            raise self.schedule.error(
                "world.model",
                f"no such file, got {self.table.model!r}; give the path of an MJCF file, from the "
                f"schedule's folder",
            )
        try:
            model = self._mujoco.MjModel.from_xml_path(str(self.path))
            # a world that diverges says so, and is not put back to its start in silence
            model.opt.disableflags |= int(self._mujoco.mjtDisableBit.mjDSBL_AUTORESET)
            return model
        except (ValueError, self._mujoco.FatalError) as error:
            raise self.schedule.error(
                "world.model", f"{self.path} does not load: {str(error).strip()}; correct the model"
            ) from error

    def _refuse_callbacks(self) -> None:
        """The core steps without Python: a model that wants Python would be another one there."""
        found = [name for name in _CALLBACKS if getattr(self._mujoco, f"get_mjcb_{name}")()]
        if found:
            raise self.schedule.error(
                "world.model",
                f"mjcb_{found[0]} is set in this process, and worlds are stepped without Python; "
                f"remove it with mujoco.set_mjcb_{found[0]}(None)",
            )

    def _choose_steps(self) -> StepGrid:
        """The physics steps of a cycle: the schedule's or the model's step, or the nearest below
        that divides the period."""
        key, step_us = "world.step_us", self.table.step_us
        if step_us is None:
            key, step_us = "world.model", self._model.opt.timestep * 1e6
        if not _STEP_US_MIN <= step_us < math.inf:
            raise self.schedule.error(
                key,
                f"a physics step of {step_us:g} us; give step_us = {_STEP_US_MIN} or more in "
                f"[world]",
            )
        # decimal, as it was written: 0.002 s are 2 ms exactly
        grid = StepGrid.near(self.schedule.cycle.period_ns, 1000 * Fraction(f"{step_us:.12g}"))
        self._model.opt.timestep = float(grid.step_ns / 10**9)
        return grid

    def _find_keyframe(self) -> int | None:
        if self.table.keyframe is None:
            return None
        return self._find("key", self.table.keyframe, "world.keyframe")

    def _find(self, kind: str, name: str, key: str) -> int:
        """The number of a part of the model by its name, or by its number where it has none.

        Raises ScheduleError with those that the model has.
        """
        kinds = getattr(self._mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        number = int(self._mujoco.mj_name2id(self._model, kinds, name))
        if number >= 0:
            return number
        if name.isdecimal() and int(name) < self._count(kind):
            return int(name)
        raise self.schedule.error(
            key, f"{self.path.name} has no {kind} {name!r}; it has {self._known(kind)}"
        )

    def _known(self, kind: str) -> str:
        kinds = getattr(self._mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        names = [
            self._mujoco.mj_id2name(self._model, kinds, i) or str(i)
            for i in range(self._count(kind))
        ]
        shown = ", ".join(names[:_SUGGESTED]) + (", ..." if len(names) > _SUGGESTED else "")
        return shown or "none"

    def _count(self, kind: str) -> int:
        return int(getattr(self._model, f"n{_COUNTS.get(kind, kind)}"))

    # ---- episodes ------------------------------------------------------------------------

    def reset(self) -> None:
        """To the start: the keyframe, or the model's own; every actuator holds where it stands."""
        if self._keyframe is None:
            self._mujoco.mj_resetData(self._model, self._data)
        else:
            self._mujoco.mj_resetDataKeyframe(self._model, self._data, self._keyframe)
        for at, value in filter(None, self._pose):
            self._data.qpos[at] = value
        if hasattr(self, "knobs"):
            self.knobs.start()
        try:
            self._mujoco.mj_forward(self._model, self._data)
            self.hold()
        except self._mujoco.FatalError as error:
            raise self.schedule.error(
                "world.model", f"{self.path} cannot be computed at its start: {error}"
            ) from error

    def begin(self, values: dict[str, list[float]]) -> None:
        """The same, with these knobs set, and all others as the model has them."""
        self.knobs.restore()
        self.knobs.set(values)
        self.reset()

    def hold(self) -> None:
        """The actuators that take commands stay where they are until the first one."""
        for control in getattr(self, "controls", []):
            if control is not None:
                self.rest(control, range(len(control.numbers)))
        self._mujoco.mj_forward(self._model, self._data)

    def rest(self, control: Controls, channels: Iterable[int]) -> None:
        """These channels get no command: they stay, do not move, or exert what is safe."""
        for channel in channels:
            self._drives.hold(self._data, control.numbers[channel])

    # ---- sensors -------------------------------------------------------------------------

    def _read_sensor(self, index: int) -> list[WorldReading | None] | None:
        sensor = self.plan.sensors[index]
        table = self.table.sensor.get(sensor.name)
        if table is None:
            return None
        key = f"world.sensor.{sensor.name}"
        by_channel: list[WorldReading | None] = [None] * len(sensor.spec.twin)
        if table.joints is not None:
            self._attempt(self._read_joints, sensor, table.joints, f"{key}.joints", by_channel)
        if table.camera is not None:
            self._attempt(self._read_only_image, index, table.camera, f"{key}.camera")
        for name, source in table.fields.items():
            where = f"{key}.fields.{name}"
            if source.camera is not None or source.depth is not None:
                self._attempt(self._read_camera, index, name, source, where)
            else:
                self._attempt(self._read_field, sensor, name, source, where, by_channel)
        return by_channel

    def _read_joints(
        self, sensor: SensorPlan, joints: list[str], key: str, to: list[WorldReading | None]
    ) -> None:
        """A driver's channels that follow a joint, by what its twin says of them."""
        wanted = 1 + max(
            (twin.joint for twin in sensor.spec.twin if twin.kind in _PER_JOINT), default=-1
        )
        if len(joints) != wanted:
            raise self.schedule.error(
                key,
                f"{wanted} joints expected by the driver of {sensor.name}, got {len(joints)}; "
                f"give as many",
            )
        for channel, twin in enumerate(sensor.spec.twin):
            if twin.kind in _PER_JOINT:
                quantity = _PER_JOINT[twin.kind]
                (address,) = self._quantities.addresses(quantity, joints[twin.joint], key)
                to[channel] = WorldReading(
                    address, twin.gain, twin.base, twin.noise, quantity in DERIVED
                )

    def _read_field(
        self,
        sensor: SensorPlan,
        name: str,
        source: Source,
        key: str,
        to: list[WorldReading | None],
    ) -> None:
        """A field of float64 from numbers of the model."""
        found = next((item for item in sensor.spec.fields if item.name == name), None)
        if found is None or found.dtype != "<f8":
            known = [item.name for item in sensor.spec.fields if item.dtype == "<f8"]
            raise self.schedule.error(key, f"no field {name!r} of float64; those are {known}")
        quantity, names = self._quantities.named(source, key)
        addresses = [at for one in names for at in self._quantities.addresses(quantity, one, key)]
        if len(addresses) != found.channels:
            raise self.schedule.error(
                key,
                f"{quantity} {names} has {len(addresses)} numbers, and {sensor.name}.{name} takes "
                f"{found.channels}; give as many",
            )
        first = sensor.first_channel(name)
        for channel, address in enumerate(addresses, first):
            to[channel] = WorldReading(
                address, source.gain, source.zero, source.noise, quantity in DERIVED
            )

    # ---- actuators -----------------------------------------------------------------------

    def _find_controls(self, actuator: ActuatorPlan) -> Controls | None:
        table = self.table.actuator.get(actuator.name)
        if table is None:
            return None
        where = f"world.actuator.{actuator.name}"
        key = f"{where}.actuators"
        if len(table.actuators) != actuator.spec.channels:
            raise self.schedule.error(
                key,
                f"{actuator.spec.channels} channels, and {len(table.actuators)} actuators of the "
                f"model: {table.actuators}; give one each",
            )
        taken = [name for other in self.table.actuator.values() for name in other.actuators]
        for name in table.actuators:
            if taken.count(name) > 1:
                raise self.schedule.error(
                    key,
                    f"{name!r} is given to {taken.count(name)} channels; give each channel an "
                    f"actuator of its own",
                )
        numbers = [self._find("actuator", name, key) for name in table.actuators]
        drives = self._drives.make(actuator, table, numbers, where)
        controls = [control_of(self._model, number) for number in numbers]
        addresses = [places(self._data.ctrl, control, 1)[0] for control in controls]
        gains, zeros = [one.gain for one in drives], [one.zero for one in drives]
        return Controls(numbers, addresses, gains, zeros)

    # ---- cameras -------------------------------------------------------------------------

    def _read_only_image(self, index: int, camera: str, key: str) -> None:
        field = self._image_field(self.plan.sensors[index], key)
        self._read_camera(index, field, Source(camera=camera), key)

    def _image_field(self, sensor: SensorPlan, key: str) -> str:
        images = [f.name for f in sensor.spec.fields if f.dtype != "<f8" and len(f.shape) >= 2]
        if len(images) != 1:
            raise self.schedule.error(
                key, f"{sensor.name} has the images {images}; name one under `fields`"
            )
        return images[0]

    def _read_camera(self, index: int, name: str, source: Source, key: str) -> None:
        sensor = self.plan.sensors[index]
        quantity, (camera,) = self._quantities.named(source, key)
        self._find("camera", camera, key)
        trouble = why_no_images()
        if trouble is not None:
            raise self.schedule.error(key, trouble)
        found = next((item for item in sensor.spec.fields if item.name == name), None)
        known = ("|u1", "<u2") if quantity == "camera" else ("<f4", "<f8", "<u2")
        if (
            found is None
            or found.dtype not in known
            or not (len(found.shape) == 2 or (quantity == "camera" and found.shape[2:] == (3,)))
        ):
            raise self.schedule.error(
                key,
                f"{sensor.name} has no field {name!r} that takes an image of (height, width) or "
                f"(height, width, 3) of {' or '.join(known)}",
            )
        if index in self._images:
            raise self.schedule.error(key, f"{sensor.name} has an image already; give one")
        self._images[index] = RenderedImage(
            name, camera, quantity == "depth", found.shape, np.dtype(found.dtype), source.gain,
            sensor.dtype,
        )  # fmt: skip

    def rendered(self, index: int) -> bool:
        """True if a sensor's payload is rendered."""
        return index in self._images

    def image_field(self, index: int) -> str | None:
        """The field of a sensor that is rendered."""
        return self._images[index].field if index in self._images else None

    def render(self, index: int, payload: Any) -> int:
        """Render a sensor's image of the present state into its sample; 0, or -1: see `trouble`.

        payload: a writable buffer of the sample's layout.
        """
        return self._cameras.render(self._images[index], self._data, payload)

    @property
    def trouble(self) -> BaseException | None:
        """The renderer's exception."""
        return self._cameras.trouble

    def picture(
        self, camera: str | None = None, height: int = 480, width: int = 640
    ) -> NDArray[np.uint8]:
        """The view of a camera of the model now, for a person: (height, width, 3).

        None: the first camera, or a free one where the model has none. The world stays as it is.
        Raises ScheduleError for a camera that does not exist. Thread: always the same one.
        """
        seen = 0 if self._model.ncam else -1
        if camera is not None:
            seen = self._find("camera", camera, "world.model")
        return self._cameras.picture(seen, self._data, height, width)

    # ---- the core's side -----------------------------------------------------------------

    def explain(self, failure: Failure) -> WorldError:
        """The error for a failure that the core reports. Raises what interrupted the renderer."""
        cycle = f" in cycle {failure.cycle}," if failure.cycle >= 0 else ""
        where = f"{self.path}: the world failed{cycle} at {failure.world_ns / 1e9:.6f} s: "
        if isinstance(self.trouble, KeyboardInterrupt):
            raise self.trouble
        if self.trouble is not None:
            return WorldError(f"{where}a camera could not be rendered: {self.trouble}")
        if failure.what < 0:
            return WorldError(f"{where}MuJoCo: {failure.message or 'an error without a message'}")
        number = failure.what - 1
        kind = str(self._mujoco.mjtWarning(number).name).removeprefix("mjWARN_")
        what = "it is no longer computed in full" if kind.endswith("FULL") else "it diverged"
        part = self._part(kind, int(self._data.warning.lastinfo[number]))
        return WorldError(f"{where}{what} ({kind}{part}); give {_REMEDIES.get(kind, _REMEDY)}")

    def _part(self, kind: str, number: int) -> str:
        """Which joint or actuator a warning's number belongs to, where it belongs to one."""
        if kind.endswith("FULL"):
            return ""
        if kind == "BADCTRL":
            return f" at actuator {self._name('actuator', number)}"
        addresses = self._model.jnt_qposadr if kind == "BADQPOS" else self._model.jnt_dofadr
        joint = int(np.searchsorted(addresses, number, "right")) - 1
        return f" at joint {self._name('joint', joint)}"

    def _name(self, kind: str, number: int) -> str:
        kinds = getattr(self._mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        return repr(self._mujoco.mj_id2name(self._model, kinds, number) or number)

    @property
    def version(self) -> str:
        """Trajectories differ between MuJoCo's versions."""
        return f"mujoco {self._mujoco.__version__}"

    def close(self) -> None:
        """End the renderers."""
        self._cameras.close()


_COUNTS = {"joint": "jnt", "camera": "cam", "texture": "tex", "material": "mat"}
