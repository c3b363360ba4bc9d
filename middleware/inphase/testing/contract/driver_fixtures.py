"""Fixtures of every part of the contract: the driver, its device, and a runtime around them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from inphase.driver import Driver, Exchange, SensorSpec
from inphase.frames import wire
from inphase.testing.device_proxy import NoProxyError, Replayed, proxy_of
from inphase.testing.peer import Peer
from inphase.testing.recorded import Recorded
from inphase.testing.rig import NAME, Rig, path_for_children

BOUNDS = {"INPHASE_MAX_PACKET": 2048, "INPHASE_MAX_VALUES": 256}
_PATIENCE = 10  # how many worst cases a test waits for a sample


class DriverFixtures:
    """A driver, its device, and the fixtures of its tests."""

    driver: ClassVar[type[Driver]]
    replugs: ClassVar[int] = 6
    """how often the device is unplugged and comes back"""
    reach: ClassVar[float] = 2.0
    """how far its joints may be sent in the watchdog's test, in the actuator's unit; the watchdog
    is seen by this motion not getting there"""
    homes: ClassVar[tuple[str, ...]] = ("cycle", "process")
    """where the driver runs in the runtime's tests; one with an exchange runs in all of them"""
    rest: ClassVar[float] = 0.05
    """the largest measured speed of a joint at rest, in the actuator's unit per second"""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test in the runtime, in each home."""
        if "running" in metafunc.fixturenames:
            assert metafunc.cls is not None
            metafunc.parametrize("running", metafunc.cls.homes, indirect=True)

    @pytest.fixture
    def device(self) -> Iterator[Peer]:
        """The peer that answers for the device; every subclass has its own."""
        pytest.skip(f"{type(self).__name__} has no fixture device")

    @pytest.fixture
    def rig(self, device: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
        """A runtime's schedule around the device."""
        monkeypatch.setenv("PYTHONPATH", path_for_children(self.driver))
        return Rig(tmp_path, self.driver, device.options)

    @pytest.fixture
    def running(self, rig: Rig, request: pytest.FixtureRequest) -> Rig:
        """The same, with the driver in one of its homes."""
        spec = rig.driver.sensor()
        assert spec is not None
        if request.param == "cycle" and spec.exchange is None:
            pytest.skip(f"{self.driver.__name__} has no exchange: it runs in no cycle")
        rig.home = request.param
        return rig

    @pytest.fixture
    def spec(self, rig: Rig) -> SensorSpec:
        """The driver's declaration of its sensor, before it was opened."""
        spec = rig.driver.sensor()
        if spec is None:
            pytest.skip(f"{self.driver.__name__} has no sensor")
        return spec

    @pytest.fixture
    def exchange(self, spec: SensorSpec) -> Exchange:
        """Its exchange."""
        if spec.exchange is None:
            pytest.skip(f"{self.driver.__name__} has no exchange: its driver reads by itself")
        return spec.exchange

    @pytest.fixture
    def reply(self, device: Peer, rig: Rig, spec: SensorSpec) -> Iterator[Recorded | Replayed]:
        """A whole reply of the device, byte by byte as it came."""
        if spec.exchange is None:
            yield from self._replayed(device, rig, spec)
            return
        driver = rig.make()
        fd = driver.open()
        try:
            now = driver.sensor()
            assert now is not None
            recorded = Recorded(now, fd)
        finally:
            driver.close()
        yield recorded

    def _replayed(self, device: Peer, rig: Rig, spec: SensorSpec) -> Iterator[Replayed]:
        try:
            proxy = proxy_of(device, rig.driver.address, rig.folder / "proxy")
        except NoProxyError as refused:
            pytest.skip(str(refused))
        with proxy:
            driver = rig.make(**proxy.options)
            driver.open()
            try:
                yield Replayed(driver, spec, proxy)
            except NoProxyError as refused:
                pytest.skip(str(refused))
            finally:
                driver.close()


def assert_names(text: str, device: Peer) -> None:
    assert NAME in text, f"{text!r} does not name the device, {NAME}"
    assert device.place in text, f"{text!r} does not name the place, {device.place}"


def ask_by_hand(driver: Driver) -> Any:
    """One sample of an open driver that reads by itself, as a worker would have it."""
    spec = driver.sensor()
    assert spec is not None and spec.calls is not None, "open found a device that does not answer"
    sample = np.zeros((), wire.sample_dtype([(f.name, f.shape, f.dtype) for f in spec.fields]))
    driver.start()
    driver.flush()
    if spec.calls.triggered:
        driver.trigger()
    driver.read(sample, _PATIENCE * spec.calls.latency_max_ns)
    return sample
