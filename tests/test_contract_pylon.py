"""The driver for Basler cameras against the contract, on a camera that Basler emulates."""

from collections.abc import Iterator

import pytest

from inphase.testing import DriverContract, Peer
from inphase_drivers.pylon import Camera

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:builtin type [Ss]wig:DeprecationWarning"),
]


class CameraPeer(Peer):
    """It cannot be unplugged, and says nothing of what it was asked."""

    def __init__(self) -> None:
        pytest.importorskip("pypylon", reason="pypylon is not installed")
        self.options = {"serial": "0815-0000", "width": 64, "height": 48, "exposure_us": 500.0}


class TestCamera(DriverContract):
    driver = Camera
    homes = ("process",)

    @pytest.fixture
    def device(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[CameraPeer]:
        monkeypatch.setenv("PYLON_CAMEMU", "1")
        yield CameraPeer()
