"""Replies in parts, cut, damaged, and with garbage around them."""

import pytest

from inphase.testing.contract.driver_fixtures import DriverFixtures
from inphase.testing.device_proxy import Replayed
from inphase.testing.recorded import Recorded, feed

_NOISE = bytes((37 * index + 11) & 0xFF for index in range(23))


class FramingContract(DriverFixtures):
    """How a driver finds replies in a stream or in packets."""

    def test_a_reply_is_the_same_at_every_split_point(self, reply: Recorded | Replayed) -> None:
        """And byte by byte. A datagram or a frame is whole or refused. A driver that reads by
        itself is played the device's own reply, on its own wire."""
        if not reply.is_packets:
            for at in range(1, len(reply.data)):
                assert reply.parse(reply.data[:at], reply.data[at:]) == reply.values, f"cut at {at}"
            single = (reply.data[at : at + 1] for at in range(len(reply.data)))
            assert reply.parse(*single) == reply.values
            return
        assert reply.parse(*reply.parts) == reply.values
        if isinstance(reply, Recorded) and reply.ends_by_silence:
            assert reply.parse_byte_by_byte() == reply.values
        for part in reply.parts:
            for at in range(1, len(part)):
                assert reply.refuse(part[:at]) is None, f"the first {at} bytes"
                assert reply.refuse(part[at:]) is None, f"all but the first {at} bytes"

    def test_a_truncated_reply_is_no_sample_and_the_next_one_is(
        self, reply: Recorded | Replayed
    ) -> None:
        """Wherever it ends."""
        *before, last = reply.parts if reply.is_packets else [reply.data]
        for size in range(len(last)):
            found, later = reply.after(*before, last[:size])
            assert found is None, f"{size} bytes of {len(last)}"
            # the packet that was cut may swallow the next one's first bytes
            assert reply.values in later, f"after {size} bytes: {later}"
            assert all(values in (None, reply.values) for values in later)

    def test_garbage_around_a_reply_is_dropped(self, reply: Recorded | Replayed) -> None:
        """Before it and after it. It may cost a driver that reads by itself this reply, never the
        next ones."""
        if reply.is_packets:
            pytest.skip("its packets are parted by more than their bytes: nothing is around them")
        if isinstance(reply, Replayed):
            for parts in ((_NOISE, reply.data), (_NOISE + reply.data,), (reply.data + _NOISE,)):
                found, later = reply.after(*parts)
                assert found in (None, reply.values), "a value that nobody sent"
                assert later[-1] == reply.values, f"after garbage: {later}"
            return
        assert reply.parse(_NOISE, reply.data) == reply.values
        assert reply.parse(_NOISE + reply.data) == reply.values
        assert reply.parse(reply.start + reply.data) == reply.values, "a start without its rest"
        parser = reply.parser()
        for _ in range(3):
            assert feed(parser, reply.data + _NOISE) == reply.values

    def test_a_damaged_reply_is_no_sample(self, reply: Recorded | Replayed) -> None:
        """Every bit turned, and garbage inside at every place; only where there is a checksum."""
        if isinstance(reply, Replayed):
            pytest.skip(f"{self.driver.__name__} has no exchange that declares a checksum")
        if not reply.has_checksum:
            pytest.skip("the device's replies have no checksum")
        for at in range(8 * len(reply.data)):
            damaged = bytearray(reply.data)
            damaged[at // 8] ^= 1 << at % 8
            assert reply.parse_like(bytes(damaged)) is None, f"bit {at % 8} of byte {at // 8}"
        if not reply.is_packets and reply.packets == 1:
            for at in range(1, len(reply.data)):
                inside = reply.data[:at] + _NOISE + reply.data[at:]
                assert reply.parse(inside) is None, f"garbage at byte {at}"
