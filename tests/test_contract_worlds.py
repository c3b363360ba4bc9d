"""The contract of a world, kept by each one there is."""

import pytest

from inphase.testing import WorldContract

pytest.importorskip("mujoco", reason="a simulated world: pip install 'inphase[sim]'")


class TestMujoco(WorldContract):
    keys = ""


@pytest.mark.long
class TestRapier(WorldContract):
    keys = 'engine = "rapier"'
