"""A range finder, example, on a pseudo-terminal, for as long as there is none on the desk.

    python example_emulator.py SCHEDULE [--control]

opens the `port` of every device in SCHEDULE with the driver Example, and prints `ready`. With
`--control` it does what lines on stdin say (silence, spoil, disguise, stall, heal, unplug, replug,
asked), answers each with the number of requests so far, and ends with its stdin. `flood 20` is
answered with the time at which it took the last of 20 samples that nobody asked for, `taken 1234`
with the time at which it was asked for the distance 1234 mm.
"""

import os
import select
import signal
import sys
import time
import tomllib
import tty
from pathlib import Path

from inphase.packets import checksum

REQUEST = b"\x55\xaa\x01"
MEASURE_S = 0.001
WIRE_S = 8 * 10 / 115_200  # eight bytes of ten bits
CONTROL = 0


class RangeFinder:
    """One device. `mode` is what became of it: heal, silence, spoil, disguise or stall."""

    def __init__(self, port: Path) -> None:
        self.port = port
        self.mode = "heal"
        self.asked = 0
        self.count = 0
        self.inbox = b""
        self.held = b""  # replies that its link holds back
        self.taken: dict[int, int] = {}  # by distance [mm]: when it was asked for it
        self.fds: tuple[int, ...] = ()
        self.replug()

    def replug(self) -> None:
        """Make a pseudo-terminal, and its name a link to it."""
        if not self.fds:
            self.fds = os.openpty()
            tty.setraw(self.fds[1])
            self.port.parent.mkdir(parents=True, exist_ok=True)
            self.port.unlink(missing_ok=True)
            self.port.symlink_to(os.ttyname(self.fds[1]))

    def unplug(self) -> None:
        """Hang up."""
        for fd in self.fds:
            os.close(fd)
        self.fds, self.held = (), b""
        self.port.unlink(missing_ok=True)

    def work(self) -> None:
        """Answer what was asked."""
        self.inbox += os.read(self.fds[0], 4096)
        while REQUEST in self.inbox:
            self.inbox = self.inbox.partition(REQUEST)[2]
            self.asked += 1
            if self.mode != "silence":
                self.measure(time.monotonic_ns())
        self.inbox = self.inbox[-len(REQUEST) + 1 :]

    def measure(self, asked_ns: int) -> None:
        """Measure once, and say it; a link that stands still holds it back."""
        time.sleep(MEASURE_S + WIRE_S)
        self.held += self.reply(asked_ns)
        self.let_out()

    def let_out(self) -> None:
        """All that was held back, at once."""
        if self.held and self.mode != "stall":
            os.write(self.fds[0], self.held)
            self.held = b""

    def flood(self, count: int) -> int:
        """Say so many samples at once; when it took the last of them."""
        now_ns = time.monotonic_ns()
        os.write(self.fds[0], b"".join(self.reply(now_ns) for _ in range(count)))
        return now_ns

    def reply(self, asked_ns: int) -> bytes:
        """One measurement, of something that goes from 1 m to 2 m, a millimetre in each sample."""
        self.count = (self.count + 1) % 65_536
        distance_mm = 1000 + self.count % 1000
        self.taken[distance_mm] = asked_ns
        start = b"\xaa\x56" if self.mode == "disguise" else b"\xaa\x55"
        body = start + self.count.to_bytes(2, "little") + distance_mm.to_bytes(2, "little")
        crc = checksum("CRC-16/UMTS", body) ^ (self.mode == "spoil")
        return body + crc.to_bytes(2, "little")

    def control(self, line: str) -> int:
        """Do what a line says; its answer."""
        word, *number = line.split()
        if word == "flood":
            return self.flood(int(number[0]))
        if word == "taken":
            return self.taken.get(int(number[0]), -1)
        if word in {"unplug", "replug"}:
            getattr(self, word)()
        elif word != "asked":
            self.mode = word
            self.let_out()
        return self.asked


def serve(finders: list[RangeFinder], controlled: bool) -> None:
    """Answer until stdin ends or a signal comes."""
    while True:
        waiting = {finder.fds[0]: finder for finder in finders if finder.fds}
        ready, _, _ = select.select([*waiting, *([CONTROL] if controlled else [])], [], [])
        for fd in ready:
            if fd != CONTROL:
                waiting[fd].work()
        if CONTROL in ready:
            lines = os.read(CONTROL, 4096).decode().splitlines()
            if not lines:
                return
            for line in lines:
                print(finders[0].control(line), flush=True)


def main() -> None:
    """Open, serve, close."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    schedule = tomllib.loads(Path(sys.argv[1]).read_text())
    tables = [t for t in schedule["device"].values() if "example" in t["driver"].lower()]
    finders = [RangeFinder(Path(table["port"])) for table in tables]
    try:
        print("ready", flush=True)
        serve(finders, "--control" in sys.argv)
    except KeyboardInterrupt:
        pass
    finally:
        for finder in finders:
            finder.unplug()


if __name__ == "__main__":
    main()
