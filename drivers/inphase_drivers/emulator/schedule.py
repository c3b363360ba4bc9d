"""The emulator's part of a schedule: the tables of the devices that it can stand in for."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from inphase.errors import install

from ..damiao.models import MODELS as MIT_MODELS
from ..dynamixel.models import BY_NAME, USUAL
from .arm import Joints
from .damiao.motors import MitBus, MitBusOptions
from .dynamixel.registers import BAUD_OF_REGISTER
from .dynamixel.servos import BusOptions, ServoBus
from .feetech import registers as feetech_registers
from .feetech.servos import FeetechBus, FeetechBusOptions
from .franka import FciController, FciOptions
from .natnet import MocapServer, MocapServerOptions
from .netft import ForceSensor, SensorOptions
from .robotiq.gripper import STROKE_M, GripperBus, GripperBusOptions
from .ur import Controller, ControllerOptions

if TYPE_CHECKING:  # they import what only the extras `can` and `sim` bring
    from inphase.emulation import Part, WallWorld

    from .drives import Drives
    from .world import WorldJoints

Table = dict[str, Any]
Device: TypeAlias = (
    "ServoBus | FeetechBus | ForceSensor | Drives | MitBus | GripperBus | Controller | "
    "FciController | MocapServer"
)

# what a schedule may call their drivers
_SERVOS = ("dynamixel", "inphase_drivers.dynamixel:Servos")
_FEETECH = ("feetech", "inphase_drivers.feetech:FeetechServos")
_MIT = ("damiao", "inphase_drivers.damiao:DamiaoMotors")
_GRIPPERS = ("robotiq", "inphase_drivers.robotiq:Gripper")
_DRIVES = ("canopen", "inphase_drivers.canopen:Drives")
_CONTROLLERS = ("ur_rtde", "inphase_drivers.ur:Arm")
_FCI = ("franka", "inphase_drivers.franka:FrankaArm")
_MOCAP = ("natnet", "inphase_drivers.natnet:Tracker")
_FORCE_SENSORS = ("netft", "inphase_drivers.ati:NetFT")


class ScheduleError(Exception):
    """The schedule cannot be read, or a table that the emulator needs is wrong."""


def load(path: Path) -> Table:
    """Read the schedule. Raises ScheduleError."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ScheduleError(str(error)) from error


def devices(
    schedule: Table, wire_time: bool | None, now_ns: int, world: "WallWorld | None" = None
) -> dict[str, Device]:
    """Open every device of the schedule that is known here, by name; others are left out.

    `wire_time` None leaves it to the schedule. The first bus of servos is the arm that the force
    sensors hang on, but for what a simulated world has of them. Raises ScheduleError, PortError,
    OSError.
    """
    emulator = schedule.get("emulator", {})
    if wire_time is None:
        wire_time = bool(emulator.get("wire_time", True))
    opened: dict[str, Device] = {}
    joints: Joints | None = None
    tables: Table = schedule.get("device", {})
    try:
        for name, table in tables.items():
            if (bus := _servo_bus(name, table, (emulator, wire_time), now_ns, world)) is not None:
                opened[name] = bus
                joints = joints or bus.joints
        for name, table in tables.items():
            if table.get("driver") in _DRIVES:
                opened[name] = _drives(name, table, now_ns, world)
            if table.get("driver") in _GRIPPERS:
                gripper = _gripper_options(name, table, wire_time)
                opened[name] = GripperBus(gripper, now_ns, _world_joints(world, name, 1))
            if table.get("driver") in _MIT:
                mit = _mit_options(name, table)
                opened[name] = MitBus(mit, now_ns, _world_joints(world, name, len(mit.ids)))
            if world is None and (arm := _controller(name, table, emulator, now_ns)) is not None:
                opened[name] = arm
        for name, table in tables.items():
            if (one := _of_arm(name, table, (emulator, now_ns), joints, world)) is not None:
                opened[name] = one
    except BaseException:
        for device in opened.values():
            device.close()
        raise
    return opened


def _of_arm(
    name: str,
    table: Table,
    emulation: tuple[Table, int],
    joints: Joints | None,
    world: "WallWorld | None",
) -> ForceSensor | MocapServer | None:
    """A device that senses what an arm does; None: it is none."""
    emulator, now_ns = emulation
    if table.get("driver") in _FORCE_SENSORS:
        sensor = _sensor_options(name, table, emulator)
        return ForceSensor(sensor, joints, now_ns, _part(world, name))
    if table.get("driver") in _MOCAP and world is None:
        return MocapServer(_mocap_options(name, table, emulator), now_ns, joints)
    return None


def _part(world: "WallWorld | None", name: str) -> "Part | None":
    """The part of a simulated world that a device senses and moves."""
    if world is None:
        return None
    from inphase.emulation import part_of

    return part_of(world, name)


def _world_joints(world: "WallWorld | None", name: str, count: int) -> "WorldJoints | None":
    """The joints that a device turns in a simulated world; None: it has its own."""
    part = _part(world, name)
    if part is None:
        return None
    from .world import WorldJoints

    return WorldJoints(part, count)


def _servo_bus(
    name: str,
    table: Table,
    emulation: tuple[Table, bool],
    now_ns: int,
    world: "WallWorld | None",
) -> ServoBus | FeetechBus | None:
    """A bus of servos; None: the device is none."""
    driver = table.get("driver")
    if driver in _SERVOS:
        options = _bus_options(name, table, *emulation)
        return ServoBus(options, now_ns, _world_joints(world, name, len(options.ids)))
    if driver in _FEETECH:
        feetech = _feetech_options(name, table, *emulation)
        return FeetechBus(feetech, now_ns, _world_joints(world, name, len(feetech.ids)))
    return None


def _feetech_options(
    name: str, table: Table, emulator: Table, wire_time: bool
) -> FeetechBusOptions:
    where = f"device.{name}"
    baud = _take(table, where, "baud", _integer, 1_000_000)
    if baud not in feetech_registers.BAUD_OF_REGISTER:
        known = feetech_registers.BAUD_OF_REGISTER
        raise ScheduleError(f"{where}.baud must be one of {known}, got {baud}")
    return FeetechBusOptions(
        port=Path(_take(table, where, "port", _text)),
        baud=baud,
        ids=tuple(_take(table, where, "ids", _ids)),
        return_delay_us=_take(emulator, "emulator", "return_delay_us", _integer, 0),
        wire_time=wire_time,
        hand=_hand(emulator.get("hand", {}), name),
    )


def _hand(hands: object, name: str) -> tuple[float, float] | None:
    """The swing of the hand that moves a device; None: no hand does."""
    table = hands.get(name) if isinstance(hands, dict) else hands
    if table is None:
        return None
    where = f"emulator.hand.{name}"
    if not isinstance(table, dict):
        raise ScheduleError(f"{where} must be a table of amplitude and seconds, got {table!r}")
    return _take(table, where, "amplitude", _number), _take(table, where, "seconds", _number)


def _bus_options(name: str, table: Table, emulator: Table, wire_time: bool) -> BusOptions:
    where = f"device.{name}"
    baud = _take(table, where, "baud", _integer)
    if baud not in BAUD_OF_REGISTER:
        raise ScheduleError(f"{where}.baud must be one of {BAUD_OF_REGISTER}, got {baud}")
    ids = tuple(_take(table, where, "ids", _ids))
    return BusOptions(
        port=Path(_take(table, where, "port", _text)),
        baud=baud,
        ids=ids,
        models=_models(table, where, len(ids)),
        return_delay_us=_take(emulator, "emulator", "return_delay_us", _integer, 0),
        baud_register=emulator.get("baud_register"),
        wire_time=wire_time,
    )


def _models(table: Table, where: str, count: int) -> tuple[int, ...]:
    """The model numbers of servos, by the names that the driver has for them."""
    names = table.get("models", [USUAL.name] * count)
    if not isinstance(names, list) or len(names) != count or not set(names) <= set(BY_NAME):
        raise ScheduleError(
            f"{where}.models must be one of {', '.join(BY_NAME)} for each of {count} servos, got "
            f"{names!r}"
        )
    return tuple(BY_NAME[name].number for name in names)


def _sensor_options(name: str, table: Table, emulator: Table) -> SensorOptions:
    where = f"device.{name}"
    return SensorOptions(
        host=_take(table, where, "host", _text),
        port=_take(table, where, "port", _integer, 49152),
        config_port=_take(table, where, "config_port", _integer, 80),
        counts_per_force=_take(emulator, "emulator", "counts_per_force", _integer, 1_000_000),
        counts_per_torque=_take(emulator, "emulator", "counts_per_torque", _integer, 1_000_000),
        rdt_hz=_take(emulator, "emulator", "rdt_hz", _integer, 1000),
    )


def _controller(
    name: str, table: Table, emulator: Table, now_ns: int
) -> Controller | FciController | None:
    """An arm with its controller; None: the device is none."""
    driver = table.get("driver")
    if driver in _CONTROLLERS:
        return Controller(_controller_options(name, table, emulator), now_ns)
    if driver in _FCI:
        return FciController(_fci_options(name, table, emulator), now_ns)
    return None


def _controller_options(name: str, table: Table, emulator: Table) -> ControllerOptions:
    where = f"device.{name}"
    return ControllerOptions(
        host=_take(table, where, "host", _text),
        port=_take(table, where, "port", _integer, 30004),
        script_port=_take(table, where, "script_port", _integer, 30002),
        dashboard_port=_take(table, where, "dashboard_port", _integer, 29999),
        serial=_take(emulator, "emulator", "serial", _text, "20235500001"),
        version=_take(emulator, "emulator", "rtde_version", _integer, 2),
        drift_ppm=float(_take(emulator, "emulator", "drift_ppm", _integer, 0)),
    )


def _mocap_options(name: str, table: Table, emulator: Table) -> MocapServerOptions:
    """A server that has the bodies that the schedule asks for."""
    where = f"device.{name}"
    bodies = table.get("bodies", [])
    if not isinstance(bodies, list) or not all(isinstance(body, str) for body in bodies):
        raise ScheduleError(f"{where}.bodies must be a list of names, got {bodies!r}")
    return MocapServerOptions(
        host=_take(table, where, "host", _text),
        port=_take(table, where, "port", _integer, 1510),
        data_port=_take(table, where, "data_port", _integer, 1511),
        multicast=_take(table, where, "multicast", _text, ""),
        bodies=tuple(bodies),
        rate_hz=_take(table, where, "rate_hz", _number),
        drift_ppm=float(_take(emulator, "emulator", "drift_ppm", _integer, 0)),
    )


def _fci_options(name: str, table: Table, emulator: Table) -> FciOptions:
    where = f"device.{name}"
    return FciOptions(
        host=_take(table, where, "host", _text),
        port=_take(table, where, "port", _integer, 1337),
        model=_take(emulator, "emulator", "model", _text, "fr3"),
        version=_take(emulator, "emulator", "fci_version", _integer, 10),
        drift_ppm=float(_take(emulator, "emulator", "drift_ppm", _integer, 0)),
    )


def _drives(name: str, table: Table, now_ns: int, world: "WallWorld | None") -> "Drives":
    """CAN drives. Raises ScheduleError, also where the extra `can` is not installed."""
    try:
        from .drives import Drives, DrivesOptions
    except ImportError as error:
        raise ScheduleError(f"device.{name}: {error}; {install('canopen')}") from error
    where = f"device.{name}"
    nodes = _take(table, where, "nodes", _ids)

    def per_node(key: str, default: float) -> tuple[float, ...]:
        value = table.get(key, default)
        return tuple(value if isinstance(value, list) else [value] * len(nodes))

    options = DrivesOptions(
        interface=_take(table, where, "interface", _text),
        channel=_take(table, where, "channel", _text),
        nodes=tuple(nodes),
        counts_per_rad=per_node("counts_per_rad", 1.0),
        start_position=per_node("start_position", 0.0),
        bus=table.get("bus", {}),
    )
    return Drives(options, now_ns, _world_joints(world, name, len(nodes)))


def _mit_options(name: str, table: Table) -> MitBusOptions:
    """Motors in MIT mode: they have the ranges that the schedule says of them."""
    where = f"device.{name}"
    ids = tuple(_take(table, where, "ids", _ids))
    models, start = table.get("models"), table.get("start_position", 0.0)
    names = models if isinstance(models, list) else [models] * len(ids)
    if len(names) != len(ids) or not set(names) <= set(MIT_MODELS):
        raise ScheduleError(
            f"{where}.models must be one of {', '.join(MIT_MODELS)} for each of {len(ids)} motors, "
            f"got {models!r}"
        )
    ranges = table.get("ranges") or [MIT_MODELS[str(one)] for one in names]
    return MitBusOptions(
        channel=_take(table, where, "channel", _text),
        ids=ids,
        feedback_ids=tuple(table.get("feedback_ids") or [ident + 16 for ident in ids]),
        ranges=tuple((p, v, t) for p, v, t in ranges),
        start_position=tuple(start if isinstance(start, list) else [start] * len(ids)),
    )


def _gripper_options(name: str, table: Table, wire_time: bool) -> GripperBusOptions:
    where = f"device.{name}"
    stroke = table.get("stroke_m", STROKE_M.get(str(table.get("model")), 0.085))
    return GripperBusOptions(
        port=Path(_take(table, where, "port", _text)),
        unit=_take(table, where, "unit", _integer, 9),
        stroke=stroke,
        char_ns=10 * 1_000_000_000 // _take(table, where, "baud", _integer, 115_200),
        wire_time=wire_time,
    )


def _take(
    table: Table, where: str, key: str, kind: Callable[[Any], bool], default: Any = None
) -> Any:
    value = table.get(key, default)
    if not kind(value):
        raise ScheduleError(f"{where}.{key} must be {kind.__doc__}, got {value!r}")
    return value


def _integer(value: Any) -> bool:
    """an integer, not negative"""
    return isinstance(value, int) and value >= 0


def _number(value: Any) -> bool:
    """a number above 0"""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _text(value: Any) -> bool:
    """a string"""
    return isinstance(value, str)


def _ids(value: Any) -> bool:
    """a list of different servo ids 0..252"""
    return (
        isinstance(value, list)
        and 0 < len(value) == len(set(value))
        and all(isinstance(one, int) and 0 <= one <= 252 for one in value)
    )
