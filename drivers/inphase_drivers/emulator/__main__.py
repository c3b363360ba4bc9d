"""The emulator's process: one thread, one loop over the devices' descriptors and due times."""

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from inphase.errors import InphaseError

from . import schedule
from .port import PortError
from .schedule import Device, ScheduleError

if TYPE_CHECKING:
    from inphase.emulation import WallWorld

Served: TypeAlias = "Device | WallWorld"

_SPIN_NS = 150_000  # select wakes about this late: the rest is waited for by looking
_WAIT_MAX_NS = 1_000_000_000
_STDIN = 0


class Control:
    """The control channel: JSON lines in on stdin, each answered by one on stdout."""

    def __init__(self, devices: Mapping[str, Served]) -> None:
        self._devices = devices
        self._partial = b""

    def on_readable(self) -> None:
        """Answer the requests that have come. Ends the process where stdin has ended."""
        data = os.read(_STDIN, 65_536)
        if not data:
            raise SystemExit(0)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            print(json.dumps(self._answer(line)), flush=True)

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
            device = self._devices[request["device"]]
            return {"ok": True, **device.control(request)}
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def run(devices: Mapping[str, Served], control: Control | None) -> NoReturn:
    """Serve the devices for ever; a signal or the end of stdin leaves by SystemExit."""
    everyone = list(devices.values())
    while True:
        now_ns = time.monotonic_ns()
        due_ns = now_ns + _WAIT_MAX_NS
        for device in everyone:
            if device.due_ns <= now_ns:
                device.work(now_ns)
            due_ns = min(due_ns, device.due_ns)

        # descriptors come and go: a port that nobody has open is not waited on
        waiting: dict[int, Served | Control] = {
            fd: device for device in everyone if (fd := device.fileno()) >= 0
        }
        if control is not None:
            waiting[_STDIN] = control
        wait_ns = due_ns - time.monotonic_ns() - _SPIN_NS
        readable, _, _ = select.select(list(waiting), [], [], max(0, wait_ns) * 1e-9)
        for fd in readable:
            waiting[fd].on_readable()


def main() -> int:
    """Parse the command line, open the devices, serve them. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="inphase_drivers.emulator", description=__doc__)
    parser.add_argument("schedule", type=Path)
    parser.add_argument("--no-wire-time", action="store_true", help="answer at once")
    parser.add_argument("--control", action="store_true", help="JSON lines on stdin; ends with it")
    parser.add_argument(
        "--world",
        type=int,
        nargs="?",
        const=-1,
        help="in the schedule's simulated world; LINE is the descriptor of a line to the runtime",
        metavar="LINE",
    )
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if options.world is not None and options.world >= 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the runtime's to handle
    wire_time = False if options.no_wire_time else None
    devices: dict[str, Served] = {}
    try:
        tables = schedule.load(options.schedule)
        world = None if options.world is None else _host_world(options.schedule, options.world)
        devices |= schedule.devices(tables, wire_time, time.monotonic_ns(), world)
        if world is not None:
            world.begin(devices)
            devices["[world]"] = world
        if not devices:  # the others may answer for themselves
            print(f"emulator: {options.schedule}: no device here for it", file=sys.stderr)
        print("ready", flush=True)
        run(devices, Control(devices) if options.control else None)
    except (ScheduleError, PortError, OSError) as error:
        print(f"emulator: {options.schedule}: {error}", file=sys.stderr)
        return 2
    except InphaseError as error:
        print(f"emulator: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        for device in devices.values():
            device.close()


def _host_world(path: Path, line: int) -> "WallWorld":
    """A simulated world in this process. Raises WorldError where MuJoCo is not installed."""
    from inphase.emulation import WallWorld

    return WallWorld(path, line)


def _leave(number: int, frame: object) -> None:
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
