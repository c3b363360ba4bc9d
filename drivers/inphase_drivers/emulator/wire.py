"""The time that bytes spend on a half-duplex wire, and what happens where two speak at once."""

NEVER_NS = 2**63 - 1
_GARBLE = 0x5A  # what a collision does to a byte: deterministic, and never the byte itself


class _Piece:
    """Bytes that a device says between two instants; the host has them at `end_ns`."""

    __slots__ = ("data", "end_ns", "start_ns")

    def __init__(self, data: bytearray, start_ns: int, end_ns: int) -> None:
        self.data = data
        self.start_ns = start_ns
        self.end_ns = end_ns


class Wire:
    """One half-duplex wire: ten bits a byte, one speaker at a time.

    `byte_ns` is the time of one byte; 0 makes every byte instant and nothing collides.
    """

    def __init__(self, byte_ns: int) -> None:
        self.byte_ns = byte_ns
        self.collisions = 0
        self.host_until_ns = 0
        self._pieces: list[_Piece] = []

    @property
    def due_ns(self) -> int:
        """When the next piece is to be delivered; NEVER_NS without one."""
        return self._pieces[0].end_ns if self._pieces else NEVER_NS

    def hear(self, data: bytearray, now_ns: int) -> None:
        """Take what the host wrote at `now_ns`: it goes out behind its earlier bytes.

        Bytes that meet a reply are garbled in place, and so is the reply.
        """
        start_ns = max(now_ns, self.host_until_ns)
        self.host_until_ns = start_ns + len(data) * self.byte_ns
        self.collide(data, start_ns)

    def say(self, data: bytearray, start_ns: int) -> int:
        """Put a device's bytes on the wire from `start_ns`; returns when they end."""
        self.collide(data, start_ns)
        piece = _Piece(data, start_ns, start_ns + len(data) * self.byte_ns)
        self._pieces.append(piece)
        self._pieces.sort(key=lambda piece: piece.end_ns)
        return piece.end_ns

    def collide(self, data: bytearray, start_ns: int) -> None:
        """Garble the bytes of `data` (from `start_ns` on) and of the pieces that overlap."""
        end_ns = start_ns + len(data) * self.byte_ns
        for piece in self._pieces:
            first_ns = max(start_ns, piece.start_ns)
            last_ns = min(end_ns, piece.end_ns)
            if first_ns < last_ns:
                self.collisions += 1
                self._garble(data, first_ns - start_ns, last_ns - start_ns)
                self._garble(piece.data, first_ns - piece.start_ns, last_ns - piece.start_ns)

    def take(self, now_ns: int) -> bytearray | None:
        """The oldest piece whose last byte has arrived by `now_ns`, or None."""
        if self._pieces and self._pieces[0].end_ns <= now_ns:
            return self._pieces.pop(0).data
        return None

    def clear(self) -> None:
        """Forget what is on the wire."""
        self._pieces.clear()

    def _garble(self, data: bytearray, from_ns: int, to_ns: int) -> None:
        for index in range(from_ns // self.byte_ns, -(-to_ns // self.byte_ns)):
            data[index] ^= _GARBLE
