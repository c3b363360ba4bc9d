"""What the tests of camera drivers share: a sample to read into, and a camera that is opened."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import inphase
from inphase.driver import Driver, Reading
from inphase.frame import Frame
from peers import BOUND_S, until

_Driver = TypeVar("_Driver", bound=Driver)
_BOUND_NS = round(BOUND_S * 1e9)


def sample_of(driver: Driver) -> NDArray[Any]:
    """A sample as the worker makes it: one record of the declared fields."""
    spec = driver.sensor()
    assert spec is not None
    return np.zeros((), [(field.name, field.dtype, field.shape) for field in spec.fields])


@contextmanager
def started(driver: _Driver) -> Iterator[_Driver]:
    """The camera, opened and armed, and closed at the end."""
    driver.open()
    try:
        driver.start()
        yield driver
    finally:
        driver.close()


def shoot(driver: Driver, sample: NDArray[Any]) -> Reading:
    """Trigger once and read the image."""
    driver.trigger()
    return driver.read(sample, _BOUND_NS)


# slow and patient: what is tested is what happens, not when, also on a loaded machine
_CYCLE = """
name = "{name}"
[cycle]
rate_hz = 10
read_deadline_us = 80000
act_us = 90000
realtime = "prefer"
resumed_after_ms = 20000
overrun_limit = 1000000
[store]
depth = 16
"""
_CAMERA = """
[device.{name}]
driver = "{driver}"
home = "process"
latency_max_us = 80000
{options}
[sensor.{name}]
device = "{name}"
trigger_us = 0
max_age_ms = 2000
"""


def camera_schedule(folder: Path, driver: str, cameras: dict[str, str]) -> Path:
    """A schedule with a camera for each name, and its options' lines; its path."""
    text = _CYCLE.format(name=f"cameras{os.getpid()}")
    for name, options in cameras.items():
        text += _CAMERA.format(name=name, driver=driver, options=options)
    path = folder / "cameras.toml"
    path.write_text(text)
    return path


def fresh_frames(robot: str, count: int) -> list[Frame]:
    """So many frames in which all sensors are fresh, as a subscriber to the store sees them."""
    found: list[Frame] = []
    with inphase.subscribe(robot, transport="store", timeout_s=BOUND_S) as frames:

        def look() -> bool:
            frame = frames.next()
            if {sample.status for sample in frame.samples.values()} == {"FRESH"}:
                found.append(frame.copy())
            return len(found) == count

        until(look)
    return found
