"""The camera behind a driver that looks at its images."""

from pathlib import Path
from typing import Any

import msgspec

from inphase.devices.driver_names import resolve_driver
from inphase.driver import Driver
from inphase.errors import ScheduleError


def camera_of(name: str, table: dict[str, Any]) -> Driver:
    """The driver that a table of keys names, with the rest of them as its options.

    name: of the device, as in errors. Raises ValueError for a name, a key or a value that does not
    fit, or a driver that has no field `image`.
    """
    keys = dict(table)
    driver = keys.pop("driver", None)
    if not isinstance(driver, str):
        raise ValueError('camera has no driver; give camera = { driver = "v4l2", ... }')
    try:
        made = resolve_driver(driver, Path())
    except ScheduleError as error:
        raise ValueError(f"camera.driver: {error}") from error
    if not (isinstance(made, type) and issubclass(made, Driver)):
        raise ValueError(f"camera.driver {driver!r} is no driver; give a camera's, such as v4l2")
    try:
        camera = made(name, msgspec.convert(keys, made.Options))
    except msgspec.ValidationError as error:
        raise ValueError(f"camera: {error}; correct it as for a device of its own") from error
    spec = camera.sensor()
    if spec is None or [field.name for field in spec.fields] != ["image"]:
        raise ValueError(f"camera.driver {driver!r} gives no image; give a camera's, such as v4l2")
    return camera
