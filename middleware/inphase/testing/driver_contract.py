"""The contract that every driver keeps, as a pytest class to inherit; needs `inphase[testing]`.

    class TestServos(DriverContract):
        driver = Servos

        @pytest.fixture
        def device(self, tmp_path):
            with ServosPeer(tmp_path) as peer:
                yield peer

`device` starts a `Peer`, which answers for the device. It is an emulator in a process of its own,
or the device itself on a bench, free to move. A test that needs an ability which the peer lacks is
a skip that names it. Tests in real time run in the real runtime, on a schedule with this one
device.
"""

from inphase.testing.contract.declaration import DeclarationContract
from inphase.testing.contract.framing import FramingContract
from inphase.testing.contract.motion import MotionContract
from inphase.testing.contract.opening import OpeningContract
from inphase.testing.contract.samples import SampleContract


class DriverContract(
    DeclarationContract, OpeningContract, FramingContract, SampleContract, MotionContract
):
    """The tests of every driver. Inherit it, set `driver`, define the fixture `device`."""
