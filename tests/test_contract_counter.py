"""A driver with calls of its own against the contract: it runs in workers, never in the cycle."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from numpy.typing import NDArray

from counter import Counter
from inphase.testing import DriverContract, Peer
from peers import free_port
from test_workers import Device

pytestmark = pytest.mark.real


class CounterPeer(Peer):
    """The counting device in a process of its own."""

    def __init__(self) -> None:
        port = free_port(socket.SOCK_DGRAM)
        self.options = {"port": port}
        self._device = Device(port)

    def silence(self) -> None:
        self._device.tell(b"S")

    def heal(self) -> None:
        self._device.tell(b"R")

    def stall(self) -> None:
        self._device.tell(b"H")

    def flood(self, count: int) -> int:
        return self._device.ask(b"B%d" % count)

    def taken_ns(self, value: NDArray[Any]) -> int:
        return self._device.ask(b"A%d" % value["picture"][0, 0])

    def unplug(self) -> None:
        self._device.close()

    def replug(self) -> None:
        self._device = Device(self.options["port"])

    def asked(self) -> int:
        return self._device.triggers

    def close(self) -> None:
        self._device.close()


class TestCounter(DriverContract):
    driver = Counter
    homes = ("process",)

    @pytest.fixture
    def device(self) -> Iterator[CounterPeer]:
        peer = CounterPeer()
        yield peer
        peer.close()


@pytest.mark.long
class TestCounterWithItsClock(TestCounter):
    homes = ("process",)
    replugs = 2

    @pytest.fixture
    def device(self) -> Iterator[CounterPeer]:
        peer = CounterPeer()
        peer.options["clock"] = True
        yield peer
        peer.close()


@pytest.mark.long
class TestCounterInAThread(TestCounter):
    homes = ("thread",)
