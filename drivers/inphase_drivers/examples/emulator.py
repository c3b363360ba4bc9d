"""The example devices on pseudo-terminals, byte for byte.

    python -m inphase_drivers.examples.emulator SCHEDULE [--control]

opens the `port` of every device in SCHEDULE that has one of the example drivers, and prints
`ready`. With `--control` it does what lines on stdin say to the first device (silence, spoil,
disguise, stall, pause, heal, unplug, replug, asked, flood N, taken N), and ends with its stdin.
"""

import abc
import contextlib
import os
import select
import signal
import struct
import sys
import time
import tomllib
import tty
from pathlib import Path

from inphase.packets import checksum

_CONTROL = 0
_KEPT = 1000  # samples of which it is known when they were taken
_NUMBERS = 1 << 16  # a count of 16 bits
_IDLE_S = 0.2


class Emulated(abc.ABC):
    """One device behind a link to a pseudo-terminal."""

    interval_ns = 0
    """from one packet to the next; 0: it answers"""

    def __init__(self, link: Path, baud: int) -> None:
        self._link, self._byte_s = link, 10 / baud
        self._held = b""
        self._taken: dict[int, int] = {}  # by number: when that sample was taken, or asked for
        self._due_ns = time.monotonic_ns()
        self.mode, self.asked, self.number = "heal", 0, 0
        self.fds: tuple[int, ...] = ()
        self.replug()

    def replug(self) -> None:
        """Make a pseudo-terminal, and the link to it."""
        if not self.fds:
            self.fds = os.openpty()
            tty.setraw(self.fds[1])
            os.set_blocking(self.fds[0], False)
            self._link.parent.mkdir(parents=True, exist_ok=True)
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(os.ttyname(self.fds[1]))

    def unplug(self) -> None:
        """Hang up."""
        for fd in self.fds:
            os.close(fd)
        self.fds, self._held = (), b""
        self._link.unlink(missing_ok=True)

    @abc.abstractmethod
    def hear(self, data: bytes) -> None:
        """Take bytes from the host."""

    @abc.abstractmethod
    def packet(self, number: int, time_ns: int) -> bytes:
        """The packet of a sample."""

    def sample(self, time_ns: int) -> bytes:
        """Take a sample; its packet, spoilt where that is the mode."""
        self.number = (self.number + 1) % _NUMBERS
        self._taken[self.number] = time_ns
        self._taken.pop((self.number - _KEPT) % _NUMBERS, None)
        data = self.packet(self.number, time_ns)
        return data[:-1] + bytes([data[-1] ^ 1]) if self.mode == "spoil" else data

    def say(self, data: bytes) -> None:
        """Send, unless the link stands still. Unread bytes are lost."""
        self._held += data
        if self._held and self.fds and self.mode != "stall":
            with contextlib.suppress(BlockingIOError):
                os.write(self.fds[0], self._held)
            self._held = b""

    def work(self) -> None:
        """Send what is due."""
        now_ns = time.monotonic_ns()
        while self.interval_ns and self._due_ns <= now_ns:
            if self.mode != "silence":
                self.say(self.sample(self._due_ns))
            self._due_ns += self.interval_ns

    def control(self, line: str) -> int:
        """Do what a line says; its answer."""
        word, *number = line.split()
        if word == "flood":
            now_ns = time.monotonic_ns()
            self.say(b"".join(self.sample(now_ns) for _ in range(int(number[0]))))
            return now_ns
        if word == "taken":
            return self._taken.get(int(number[0]), -1)
        if word in {"unplug", "replug"}:
            getattr(self, word)()
        elif word != "asked":
            self.mode = word
            self.say(b"")
        return self.asked


class EmulatedImu(Emulated):
    """Streams. The gyro's first axis has the number of the sample, as a count with a sign."""

    interval_ns = 1_000_000

    def hear(self, data: bytes) -> None:
        """Nothing: it is never asked."""

    def packet(self, number: int, time_ns: int) -> bytes:
        """As `imu.py` declares it; its clock is the host's, in us, and wraps."""
        start = b"\xaa\x56" if self.mode == "disguise" else b"\xaa\x55"
        ticks = time_ns // 1000 & 0xFFFF_FFFF
        body = start + struct.pack(">HIH5h", number, ticks, number, 0, 0, 0, 0, 4096)
        return body + checksum("CRC-16/CCITT-FALSE", body).to_bytes(2, "big")


class EmulatedGauge(Emulated):
    """Answers Modbus RTU requests to unit 1. The torque is the number of the sample, in mN m.

    With the mode `pause` the line falls silent in the middle of each answer, for longer than the
    silence that ends a packet.
    """

    _inbox = b""

    def hear(self, data: bytes) -> None:
        """Answer each whole request, after the silence that ends it and the time on the wire.

        A request is told by its checksum: this process may be too late to see the silence.
        """
        self._inbox = (self._inbox + data)[-256:]
        while len(self._inbox) >= 8:
            request, rest = self._inbox[:8], self._inbox[8:]
            if request[0] != 1 or checksum("CRC-16/MODBUS", request):
                self._inbox = self._inbox[1:]
                continue
            self._inbox = rest
            self.asked += 1
            if self.mode != "silence":
                self._reply(request)

    def _reply(self, request: bytes) -> None:
        answer = self._answer(request, time.monotonic_ns())
        silence_s = max(1.75e-3, 3.5 * self._byte_s)
        time.sleep(silence_s + len(answer) * self._byte_s)
        if self.mode == "pause":
            self.say(answer[:6])
            time.sleep(20 * silence_s)
            answer = answer[6:]
        self.say(answer)

    def _answer(self, request: bytes, asked_ns: int) -> bytes:
        function, first, count = struct.unpack(">BHH", request[1:6])
        if self.mode == "disguise" or function != 4:
            return self._refusal(function, 1)
        if (first, count) != (0, 4):
            return self._refusal(function, 2)
        return self.sample(asked_ns)

    def _refusal(self, function: int, code: int) -> bytes:
        body = bytes([1, function | 0x80, code])
        return body + checksum("CRC-16/MODBUS", body).to_bytes(2, "little")

    def packet(self, number: int, time_ns: int) -> bytes:
        """As `gauge.py` declares it."""
        body = bytes([1, 4, 8]) + struct.pack(">ff", number * 1e-3, 25.0)
        return body + checksum("CRC-16/MODBUS", body).to_bytes(2, "little")


_DEVICES = {"StreamingImu": EmulatedImu, "ModbusGauge": EmulatedGauge}


def serve(devices: list[Emulated], controlled: bool) -> None:
    """Answer until stdin ends or a signal comes."""
    wait_s = 0.0005 if any(device.interval_ns for device in devices) else _IDLE_S
    while True:
        waiting = {device.fds[0]: device for device in devices if device.fds}
        ready = select.select([*waiting, *([_CONTROL] if controlled else [])], [], [], wait_s)[0]
        for fd in ready:
            if fd != _CONTROL:
                waiting[fd].hear(os.read(fd, 4096))
        for device in devices:
            device.work()
        if _CONTROL in ready:
            lines = os.read(_CONTROL, 4096).decode().splitlines()
            if not lines:
                return
            for line in lines:
                print(devices[0].control(line), flush=True)


def main() -> None:
    """Open, serve, close."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    tables = tomllib.loads(Path(sys.argv[1]).read_text())["device"].values()
    devices = [
        kind(Path(table["port"]), int(table.get("baud", 115_200)))
        for table in tables
        for name, kind in _DEVICES.items()
        if table["driver"].endswith(f":{name}")
    ]
    try:
        print("ready", flush=True)
        serve(devices, "--control" in sys.argv)
    finally:
        for device in devices:
            device.unplug()


if __name__ == "__main__":
    main()
