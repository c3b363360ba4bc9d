"""One reply of a device, byte by byte as it came, for tests of how it is framed."""

import os
import select

from inphase.devices.packets import Parser, RefusedReply
from inphase.driver import CheckKind, Exchange, SensorSpec

_BOUND_S = 20.0
_READ_MAX = 4096


class Recorded:
    """A reply, what it says in SI, and parsers to feed it to."""

    def __init__(self, spec: SensorSpec, fd: int) -> None:
        """Ask once on an open descriptor, as the core would; of a device that runs by itself, take
        the first whole packet behind another one. Raises TimeoutError."""
        assert spec.exchange is not None
        self.exchange: Exchange = spec.exchange
        self._channels = channels_of(spec)
        self.parts: list[bytes] = []
        """as they were read: of datagrams and CAN frames, one each"""
        self.values: list[float] = []
        if self.exchange.request:
            request = self.exchange.request
            size = self.exchange.request_chunk or len(request)
            for at in range(0, len(request), size):
                os.write(fd, request[at : at + size])
        else:
            self._take_whole(fd, _READ_MAX if self.is_packets else 1)
        self._take_whole(fd, _READ_MAX if self.exchange.request or self.is_packets else 1)

    def _take_whole(self, fd: int, size: int) -> None:
        """Read in pieces of so many bytes until there is a reply."""
        self.parts.clear()
        parser, values = self.parser(), None
        while values is None:
            self.parts.append(self._read(fd, size))
            values = feed(parser, self.parts[-1])
        self.values = values

    def _read(self, fd: int, size: int) -> bytes:
        """The next bytes; where silence ends a packet, all up to that. Raises TimeoutError."""
        data, wait_s = b"", _BOUND_S
        while select.select([fd], [], [], wait_s)[0]:
            data += os.read(fd, size)
            if not self.ends_by_silence:
                break
            wait_s = self.exchange.framing.idle_ns / 1e9
        if not data:
            raise TimeoutError(f"no whole reply in {_BOUND_S:.0f} s, only {self.data.hex()}")
        return data

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)

    @property
    def is_packets(self) -> bool:
        """True if something beside the bytes parts its packets; else these may come in any
        parts."""
        framing = self.exchange.framing
        return framing.datagram or framing.can or self.ends_by_silence

    @property
    def ends_by_silence(self) -> bool:
        """True if silence ends its packets, and their bytes may come in any parts."""
        return self.exchange.framing.idle_ns > 0

    @property
    def start(self) -> bytes:
        """The start bytes of its packets."""
        return self.exchange.framing.start

    @property
    def packets(self) -> int:
        """Packets that it consists of."""
        return len(self.exchange.replies)

    @property
    def has_checksum(self) -> bool:
        """True if each of its packets has a checksum."""
        return all(
            any(check.kind is CheckKind.CHECKSUM for check in reply.checks)
            for reply in self.exchange.replies
        )

    def parser(self) -> Parser:
        """A new one. Raises ValueError when the exchange breaks a bound of the core."""
        return Parser(self.exchange, self._channels)

    def parse(self, *parts: bytes) -> list[float] | None:
        """A new parser's values from these parts, one after the other."""
        parser, values = self.parser(), None
        for part in parts:
            values = feed(parser, part) or values
        return values

    refuse = parse

    def parse_byte_by_byte(self) -> list[float] | None:
        """A new parser's values from packets that silence ends, whose bytes come one at a time."""
        parser, values = self.parser(), None
        for part in self.parts:
            for at in range(len(part)):
                parser.feed(part[at : at + 1])
            values = parser.end()
        return values

    def after(self, *parts: bytes) -> tuple[list[float] | None, list[list[float] | None]]:
        """A new parser's values from these parts, and from each part of whole replies after
        them."""
        parser, found = self.parser(), None
        for part in parts:
            found = feed(parser, part) or found
        return found, [feed(parser, part) for _ in range(3) for part in self.parts]

    def parse_like(self, data: bytes) -> list[float] | None:
        """A new parser's values from other bytes, cut where these were."""
        parts, at = [], 0
        for part in self.parts:
            parts.append(data[at : at + len(part)])
            at += len(part)
        return self.parse(*parts)


def channels_of(spec: SensorSpec) -> int:
    """Numbers in SI that a sample has: those of its float64 fields."""
    return sum(field.channels for field in spec.fields if field.dtype == "<f8")


def feed(parser: Parser, data: bytes) -> list[float] | None:
    """Feed a parser; a refusal is no sample, and what it still holds is looked at again. Where
    silence ends packets, there is one behind these bytes."""
    for _ in range(2 * len(data) + 2):
        try:
            values = parser.feed(data)
            return values if parser.idle_ns is None else parser.end()
        except RefusedReply:
            data = b""
    return None
