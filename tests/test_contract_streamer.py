"""A device that is never asked against the contract: declared, and with a `read` of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inphase.testing import DriverContract
from script_peers import StreamerPeer
from streamer import ByHand, Streamer

pytestmark = [pytest.mark.real, pytest.mark.long]


class TestStreamer(DriverContract):
    driver = Streamer
    replugs = 2

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[StreamerPeer]:
        peer = StreamerPeer(tmp_path)
        yield peer
        peer.close()


class TestStreamerByHand(TestStreamer):
    driver = ByHand
    homes = ("process",)
