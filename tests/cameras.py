"""What the tests of camera drivers share: a sample to read into, and a camera that is opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from inphase.driver import Driver, Reading
from peers import BOUND_S

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
