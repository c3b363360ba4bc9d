"""The command: the sensor runs alone, never commanded, while a person moves the joints."""

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inphase.errors import DeviceError, ScheduleError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from inphase.command.calibration.hand_motion import HandMotion
    from inphase.schedule import Schedule


@click.command()
@click.argument("schedule", type=click.Path(path_type=Path))
@click.argument("sensor")
@click.option("--field", default="position", show_default=True, help="of the sensor")
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.02,
    show_default=True,
    help="by which a limit stays inside of the range that was seen, rad or m",
)
@click.option("--dry", is_flag=True, help="show what was found, and write nothing")
def calibrate(*, schedule: Path, sensor: str, field: str, margin: float, dry: bool) -> None:
    """Find zero and range of the joints of SENSOR, moved by hand, and write them into SCHEDULE.

    The sensor runs alone, and nothing is commanded. First the joints are held in the pose that is
    to be zero, then each is moved through its whole range. The file as it was is kept beside it.
    """
    import numpy as np

    from inphase.command.calibration import schedule_edit
    from inphase.plan.validation import load

    described = load(schedule)
    old = _old_zero(described, sensor, field)
    pose, low, high = _move(described, sensor, field)
    zero = np.broadcast_to(old, pose.shape) + pose
    ranges = [
        (float(lowest + margin), float(highest - margin))
        for lowest, highest in zip(low - pose, high - pose, strict=True)
    ]
    _show(sensor, field, zero, ranges)
    narrow = [index for index, (lowest, highest) in enumerate(ranges) if lowest >= highest]
    if narrow:
        raise DeviceError(
            f"{sensor}.{field}: channels {narrow} were moved by less than two margins of {margin}; "
            f"nothing was written. Move each joint from end to end, or give a smaller --margin"
        )
    if dry:
        return
    copy = schedule_edit.write(described, sensor, field, zero.tolist(), ranges)
    limited = schedule_edit.limited_actuators(described, sensor, field)
    click.echo(
        f"{schedule}: zero.{field} of [sensor.{sensor}]"
        + "".join(f", position of [actuator.{name}.limits]" for name in limited)
        + f"; as it was: {copy}"
    )
    load(schedule)  # what was written is a schedule


def _old_zero(schedule: "Schedule", sensor: str, field: str) -> "NDArray[np.float64]":
    if sensor not in schedule.sensor:
        known = ", ".join(schedule.sensor)
        raise ScheduleError(f"{schedule.path}: no sensor {sensor!r}; it has: {known}")
    import numpy as np

    return np.array(schedule.sensor[sensor].zero.get(field, 0.0), np.float64)


def _move(
    schedule: "Schedule", sensor: str, field: str
) -> "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]":
    """The pose that is to be zero, and the ends of the range, as the schedule counts now."""
    import tempfile

    from inphase import schedule as schedules
    from inphase.command import probe
    from inphase.command.calibration.hand_motion import HandMotion
    from inphase.episodes.runner import Runner

    motion = HandMotion()
    with tempfile.TemporaryDirectory(prefix="inphase-calibrate-") as folder, probe.beside(schedule):
        path = Path(folder) / "calibrate.toml"
        path.write_text(probe.alone(schedule, sensor))
        alone = schedules.load(path)
        with Runner(alone, observe=True) as robot:
            _follow(robot, sensor, field, motion, "hold the pose that is to be zero, then Enter")
            try:
                pose = motion.pose()
            except ValueError as error:
                raise DeviceError(
                    f"{sensor}.{field}: {error}; hold still, and start again"
                ) from None
            motion.begin_range(pose)
            _follow(robot, sensor, field, motion, "move each joint from end to end, then Enter")
            low, high = motion.range()
    return pose, low, high


def _follow(robot: Any, sensor: str, field: str, motion: "HandMotion", said: str) -> None:
    """Take samples until Enter."""
    entered = threading.Event()
    click.echo(f"{sensor}.{field}: {said}", err=True)
    threading.Thread(target=_wait_for_enter, args=(entered,), daemon=True).start()
    for frame in robot:
        sample = frame[sensor]
        if sample.status == "FRESH":
            if field not in sample.value.dtype.names:
                known = ", ".join(sample.value.dtype.names)
                raise ScheduleError(f"sensor {sensor} has no field {field!r}; it has: {known}")
            value = sample.value[field]
            if sample.intact:
                motion.take(value)
        if entered.is_set() and motion.newest and motion.low is not None:
            return
    raise DeviceError(f"{sensor}: it ended before Enter; look at what it said, and start again")


def _wait_for_enter(entered: threading.Event) -> None:
    with contextlib.suppress(EOFError):
        input()
    entered.set()


def _show(
    sensor: str,
    field: str,
    zero: "NDArray[np.float64]",
    ranges: list[tuple[float, float]],
) -> None:
    from inphase.command.screen import screen, table

    made = table(f"{sensor}.{field}", ("channel", "zero", "lowest", "highest"), left=())
    for channel, (at, (low, high)) in enumerate(zip(zero, ranges, strict=True)):
        made.add_row(str(channel), f"{at:.4f}", f"{low:.4f}", f"{high:.4f}")
    screen().print(made)


COMMANDS = (calibrate,)
