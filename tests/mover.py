"""A joint on a serial port that takes velocities, and keeps the last one while nobody is there.

The device is a process (`python mover.py LINK`) behind a pseudo-terminal: `?` is answered with its
position, `V` and eight bytes set its velocity. Lines on its stdin (unplug, replug, speed) are
answered with its speed.
"""

import contextlib
import os
import select
import struct
import sys
import time
import tty
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauge import Gauge
from inphase.driver import (
    ActuatorSpec,
    Calls,
    Field,
    Reading,
    SensorSpec,
    Servo,
    Stop,
    StopKind,
    TwinChannel,
    TwinKind,
)

POSITION = struct.Struct("<2sd")
VELOCITY = struct.Struct("<cd")
START = b"\xaa\x55"


class Mover(Gauge):
    """`position` in m, and its velocity."""

    modes = ("velocity",)

    def sensor(self) -> SensorSpec:
        """Read by calls."""
        return SensorSpec(
            fields=(Field("position", "m"),),
            calls=Calls(latency_ns=500_000, latency_max_ns=5_000_000),
            twin=(TwinChannel(TwinKind.POSITION),),
            twin_latency_ns=500_000,
        )

    def actuator(self) -> ActuatorSpec:
        """One joint, which the guard stops."""
        return ActuatorSpec(
            channels=1,
            unit="m/s" if self.mode == "velocity" else "m",
            servos=(Servo(),),
            stop=Stop(StopKind.BYTES, VELOCITY.pack(b"V", 0.0)),
        )

    def open(self) -> int:
        """Open the port; the guard writes to it."""
        super().open()
        return self._fd

    def trigger(self) -> None:
        """Ask."""
        os.write(self._fd, b"?")

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for a position."""
        sample["position"] = POSITION.unpack(self._next(timeout_ns))[1]
        return Reading()

    def _take(self) -> bytes | None:
        at = self._held.find(START)
        if at < 0 or len(self._held) < at + POSITION.size:
            return None
        reply, self._held = self._held[at : at + POSITION.size], self._held[at + POSITION.size :]
        return reply

    def write(self, command: NDArray[np.float64]) -> None:
        """Set the velocity."""
        try:
            os.write(self._fd, VELOCITY.pack(b"V", command[0]))
        except OSError as error:
            raise self._trouble(str(error)) from error

    def disable(self) -> None:
        """Stop."""
        self.write(np.zeros(1))


class Device:
    """The device's own side."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._position = self._velocity = 0.0
        self._moved_ns = time.monotonic_ns()
        self._inbox = b""
        self._ends: tuple[int, ...] = ()
        self._replug()

    def serve(self) -> None:
        """Answer until stdin ends."""
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([0, *self._ends[:1]], [], [])
            if 0 in ready:
                lines = os.read(0, 4096).decode().splitlines()
                if not lines:
                    break
                for line in lines:
                    if line != "speed":
                        {"unplug": self._unplug, "replug": self._replug}[line]()
                    print(abs(self._velocity), flush=True)
            elif ready:
                self._inbox += os.read(self._ends[0], 4096)
                self._answer()
        self._unplug()

    def _answer(self) -> None:
        while self._inbox:
            if self._inbox[:1] == b"?":
                self._inbox = self._inbox[1:]
                self._move()
                os.write(self._ends[0], POSITION.pack(START, self._position))
            elif self._inbox[:1] == b"V" and len(self._inbox) < VELOCITY.size:
                return
            elif self._inbox[:1] == b"V":
                self._move()
                self._velocity = VELOCITY.unpack_from(self._inbox)[1]
                self._inbox = self._inbox[VELOCITY.size :]
            else:
                self._inbox = self._inbox[1:]

    def _move(self) -> None:
        now_ns = time.monotonic_ns()
        self._position += self._velocity * (now_ns - self._moved_ns) / 1e9
        self._moved_ns = now_ns

    def _replug(self) -> None:
        self._ends = os.openpty()
        tty.setraw(self._ends[1])
        self._link.symlink_to(os.ttyname(self._ends[1]))

    def _unplug(self) -> None:
        with contextlib.suppress(OSError):
            for fd in self._ends:
                os.close(fd)
        self._ends, self._inbox = (), b""
        self._link.unlink(missing_ok=True)


if __name__ == "__main__":
    Device(Path(sys.argv[1])).serve()
