"""The contract of a world, kept by each one there is."""

from inphase.testing import WorldContract


class TestMujoco(WorldContract):
    keys = ""
