"""An example range finder on a pseudo-terminal, for as long as there is none on the desk.

    python example_emulator.py SCHEDULE [--control]

opens the `port` of every device in SCHEDULE with the driver Example, and prints `ready`. With
`--control` it does what lines on stdin say (silence, spoil, disguise, heal, unplug, replug, asked),
answers each with the number of requests so far, and ends with its stdin.
"""

import os
import random
import select
import signal
import sys
import time
import tomllib
import tty
from pathlib import Path

from inphase.packets import crc16

REQUEST = b"\x55\xaa\x01"
MEASURE_S = 0.001
WIRE_S = 8 * 10 / 115_200  # eight bytes of ten bits
CONTROL = 0


class RangeFinder:
    """One device. `mode` is what became of it: heal, silence, spoil or disguise."""

    def __init__(self, port: Path) -> None:
        self.port = port
        self.mode = "heal"
        self.asked = 0
        self.count = 0
        self.inbox = b""
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
        self.fds = ()
        self.port.unlink(missing_ok=True)

    def work(self) -> None:
        """Answer what was asked."""
        self.inbox += os.read(self.fds[0], 4096)
        while REQUEST in self.inbox:
            self.inbox = self.inbox.partition(REQUEST)[2]
            self.asked += 1
            if self.mode != "silence":
                time.sleep(MEASURE_S + WIRE_S)
                os.write(self.fds[0], self.reply())
        self.inbox = self.inbox[-len(REQUEST) + 1 :]

    def reply(self) -> bytes:
        """One measurement: 1 m and some noise."""
        self.count = (self.count + 1) % 65_536
        distance_mm = 1000 + random.randint(-2, 2)
        start = b"\xaa\x56" if self.mode == "disguise" else b"\xaa\x55"
        body = start + self.count.to_bytes(2, "little") + distance_mm.to_bytes(2, "little")
        crc = crc16(body) ^ (self.mode == "spoil")
        return body + crc.to_bytes(2, "little")

    def control(self, word: str) -> int:
        """Do what a word says; how often it was asked so far."""
        if word in {"unplug", "replug"}:
            getattr(self, word)()
        elif word != "asked":
            self.mode = word
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
            words = os.read(CONTROL, 4096).decode().split()
            if not words:
                return
            for word in words:
                print(finders[0].control(word), flush=True)


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
