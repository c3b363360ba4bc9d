"""A CAN adapter on a pseudo-terminal that speaks the ASCII protocol of LAWICEL's CAN232.

Source: LAWICEL CAN232 manual, version 3: commands end with CR; the answer is CR, or BELL (7) for an
error. Frames of the host go to the nodes behind the adapter, and the other way round.
"""

import contextlib
import time
from pathlib import Path

import can

from .port import Port

_OK, _ERROR = b"\r", b"\a"
_FACTS = {"V": b"V1013\r", "N": b"N0001\r", "F": b"F00\r"}
_BIT_NS = {"S0": 100_000, "S1": 50_000, "S2": 20_000, "S3": 10_000, "S4": 8_000, "S5": 4_000}
_BIT_NS |= {"S6": 2_000, "S7": 1_250, "S8": 1_000}
_FRAME_BITS, _EXTENDED_BITS = 47, 67  # of a frame without its data and stuffed bits (ISO 11898-1)
_LINE_MAX = 32  # "T", 8 digits, length, 16 digits and a time stamp's 4, and room


class Adapter(can.BusABC):
    """The adapter as its nodes see it: a bus. Not an independent peer of python-can's slcan."""

    def __init__(self, link: Path) -> None:
        self.port = Port(link)
        self.port.open()
        self.running = False
        self.errors = 0
        """lines that were refused"""
        self._inbox = bytearray()
        self._frames: list[can.Message] = []
        self._bit_ns = _BIT_NS["S8"]
        self._free_ns = 0  # when the wire is
        super().__init__(channel=str(link))

    def fileno(self) -> int:
        """The descriptor to wait on; -1 while nobody has opened the port."""
        return self.port.fd if self.port.attended else -1

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Send a node's frame: the host gets a line, while the channel is open. It gets it no
        sooner than the wire would have carried the frame, and those before it."""
        if self.running and self.port.fd >= 0:
            self._occupy(msg)
            time.sleep(max(0, self._free_ns - time.monotonic_ns()) * 1e-9)
            head = (
                f"T{msg.arbitration_id:08X}" if msg.is_extended_id else f"t{msg.arbitration_id:03X}"
            )
            self.port.write(f"{head}{msg.dlc}{msg.data.hex().upper()}\r".encode("ascii"))

    def _occupy(self, msg: can.Message) -> None:
        """A frame is on the wire next."""
        bits = (_EXTENDED_BITS if msg.is_extended_id else _FRAME_BITS) + 8 * len(msg.data)
        self._free_ns = max(self._free_ns, time.monotonic_ns()) + bits * self._bit_ns

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        self._take()
        return (self._frames.pop(0) if self._frames else None), False

    def _take(self) -> None:
        if self.port.fd < 0:
            return
        attended = self.port.attended
        self._inbox += self.port.read()
        if attended and not self.port.attended:
            self.running = False
            self._inbox.clear()
        *lines, rest = self._inbox.split(b"\r")
        self._inbox = bytearray(rest[-_LINE_MAX:])
        for line in lines:
            answer = _ERROR
            with contextlib.suppress(ValueError, IndexError):
                answer = self._answer(line.decode("ascii"))
            self.errors += answer == _ERROR
            self.port.write(answer)

    def _answer(self, line: str) -> bytes:
        """Do what one line says; the answer. ValueError, IndexError: the line is wrong."""
        if not line:
            return _OK
        command = line[0]
        if command in _FACTS:
            return _FACTS[command]
        if command in "tTrR" and self.running:
            return self._host_sends(line)
        if command not in ("C" if self.running else "COLSsZ"):
            return _ERROR
        self._bit_ns = _BIT_NS.get(line, self._bit_ns)
        if command in "COL":
            self.running = command != "C"
        return _OK

    def _host_sends(self, line: str) -> bytes:
        extended, remote = line[0] in "TR", line[0] in "rR"
        at = 9 if extended else 4
        identifier, size = int(line[1:at], 16), int(line[at])
        data = b"" if remote else bytes.fromhex(line[at + 1 :])
        if size > 8 or (not remote and len(data) != size):
            return _ERROR
        frame = can.Message(
            arbitration_id=identifier,
            is_extended_id=extended,
            is_remote_frame=remote,
            dlc=size,
            data=data,
        )
        self._occupy(frame)
        self._frames.append(frame)
        return _OK

    def shutdown(self) -> None:
        """Hang up."""
        super().shutdown()
        self.port.close()
