"""A Franka arm's motion at 1 kHz before franka-sim, which ends it after 20 lost packets and beyond
its limits; with --load beside a process that holds its GIL and a hog per core.

    python tests/other_servers/franka_run.py --seconds 60 --runs 3 --load

Needs root: the simulator binds every address, so all of it runs in a network namespace of its own.
Every packet is read on the way by a raw socket. So it is told for an abort whether our answers were
on the wire before the next state: what the simulator or the kernel lost of them is not ours.
Exits with 1 where a motion was aborted by our fault.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / "build/franka/bin/python"
AHEAD = [
    "chrt",
    "-f",
    "50",
]  # a controller is a machine of its own: no load of this one holds it up
SCHEDULE = ROOT / "schedules/franka.toml"
_INSIDE = "INPHASE_FRANKA_INSIDE"
_HOST_PACKET, _ETH_IP, _UDP, _RECEIVE_BYTES, _STAMPS = 0, 0x0800, 17, 33, 35
_COMMAND, _STATE, _MODE_FROM_END, _MOVES, _REFLEX = 371, 1377, 5, 2, 4
_LOST_MOST = 20
_HOG = "while True: pass"
_GIL = (
    "import re\nwhile True: re.match(r'(a+)+$', 'a' * 24 + 'b')"  # one call holds it for a second
)


class Packet(NamedTuple):
    """One datagram on its way."""

    at_ns: int
    is_state: bool
    number: int
    mode: int  # of a state


class Wire(threading.Thread):
    """All packets of the interface, as they pass the loopback device. `stop` ends it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.packets: list[Packet] = []
        self._over = threading.Event()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BYTES, 1 << 26)
        self._socket.setsockopt(socket.SOL_SOCKET, _STAMPS, 1)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)

    def run(self) -> None:
        """Keep number and time of each."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                data, told, _, address = self._socket.recvmsg(4096, 128)
                if address[2] != _HOST_PACKET or data[23] != _UDP:
                    continue
                payload = data[42:]
                if len(payload) not in (_COMMAND, _STATE):
                    continue
                seconds, nanoseconds = struct.unpack("qq", told[0][2][:16])
                is_state = len(payload) == _STATE
                self.packets.append(
                    Packet(
                        seconds * 1_000_000_000 + nanoseconds,
                        is_state,
                        struct.unpack_from("<Q", payload)[0],
                        payload[-_MODE_FROM_END] if is_state else 0,
                    )
                )

    def stop(self) -> list[Packet]:
        """All packets, in their order on the wire."""
        self._over.set()
        self.join()
        self._socket.close()
        return self.packets


class Count(NamedTuple):
    """The states of a motion, and what became of them."""

    states: int
    answered: int
    most_unanswered: int  # in a row
    aborts: int
    ours: int
    p50_us: float
    p99_us: float


def count(packets: list[Packet]) -> Count:
    """The states of the motion. One is answered by a command of its number before the next state.
    An abort is ours where 19 states before it were not; any other needs a look at its packets."""
    answers = {p.number: p.at_ns for p in reversed(packets) if not p.is_state}
    states = [packet for packet in packets if packet.is_state]
    counted = 0
    latencies, missed, most, aborts, ours = [], 0, 0, 0, 0
    for state, then in itertools.pairwise(states):
        if then.mode == _REFLEX and state.mode == _MOVES:
            aborts += 1
            ours += missed >= _LOST_MOST - 1
        if state.mode != _MOVES:
            continue
        counted += 1
        answered_ns = answers.get(state.number)
        if answered_ns is None or answered_ns > then.at_ns:
            missed += 1
            most = max(most, missed)
        else:
            missed = 0
            latencies.append((answered_ns - state.at_ns) / 1000)
    latencies.sort()
    return Count(
        counted,
        len(latencies),
        most,
        aborts,
        ours,
        latencies[len(latencies) // 2] if latencies else 0.0,
        latencies[len(latencies) * 99 // 100] if latencies else 0.0,
    )


@contextlib.contextmanager
def started(command: list[str], **how: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, **how)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def made_model(folder: Path) -> Path:
    """franky-sim's model of the arm, whose folder of meshes has another name in the package."""
    assets = next((ROOT / "build/franka/lib").glob("python*/site-packages/franky_sim/assets"))
    text = (assets / "fr3.xml").read_text().replace('"assets"', f'"{assets / "meshes"}"', 1)
    path = folder / "fr3.xml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def simulator(folder: Path) -> Iterator[Path]:
    """franka-sim with both of its enforcements; its log."""
    log = folder / "simulator.log"
    options = ["--enforce-comm-constraints", "--enforce-motion-limits", "--no-gripper"]
    environment = {**os.environ, "FR3_MJCF": str(made_model(folder))}
    with (
        log.open("wb") as out,
        started(
            [*AHEAD, str(PEER), "-m", "franka_sim.run_server", *options],
            stdout=out, stderr=out, env=environment,
        ) as process,
    ):  # fmt: skip
        until_s = time.monotonic() + 60
        while "Server ready" not in log.read_text():
            if process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"franka-sim does not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        yield log


def schedule(folder: Path) -> Path:
    """The ready schedule, for a simulator that may fall behind."""
    text = SCHEDULE.read_text().replace('"demo_policy.py', f'"{SCHEDULE.parent}/demo_policy.py')
    text = re.sub(r"(?ms)^\[(gateway|emulator)\]$.*?(?=^\[)", "", text)
    text = re.sub(r"(?m)^port = .*$", "keeps_time = false", text)
    text = re.sub(r"overrun_limit = 5000", "overrun_limit = 1000000", text)
    text = text.replace("max_age_ms = 20\n", "max_age_ms = 1000\n")
    path = folder / "franka.toml"
    path.write_text(text)
    return path


def run(seconds: float) -> tuple[Count, dict[str, object], str]:
    """One motion: its packets, the run's summary, and what the simulator says of an abort."""
    with tempfile.TemporaryDirectory() as name, simulator(Path(name)) as log:
        wire = Wire()
        wire.start()
        command = ["-m", "inphase", "run", str(schedule(Path(name))), "--json"]
        done = subprocess.run(
            [sys.executable, *command, "--seconds", f"{seconds:g}"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        counted = count(wire.stop())
        if "{" not in done.stdout:
            raise SystemExit(f"the robot does not run: {done.stderr[-800:]}")
        summary = json.loads(done.stdout[done.stdout.index("{") :])
        aborts = re.findall(r"ERROR \S+: (.*) -- aborting", log.read_text())
        return counted, summary, "; ".join(aborts)


def report(seconds: float, runs: int, load: bool) -> int:
    """All runs, a line each. 1: an abort was ours, or the arm did not move."""
    hogs = [_HOG] * (os.cpu_count() or 1) + [_GIL] if load else []
    worst = 0
    with contextlib.ExitStack() as stack:
        for text in hogs:
            stack.enter_context(started([sys.executable, "-c", text]))
        for number in range(1, runs + 1):
            counted, summary, why = run(seconds)
            late = summary["late"]
            print(
                f"run {number}: load {os.getloadavg()[0]:.1f}; {counted.states} states, "
                f"{counted.answered} answered before the next, {counted.most_unanswered} in a row "
                f"not; answer after p50 {counted.p50_us:.0f} us, p99 {counted.p99_us:.0f} us; "
                f"aborts {counted.aborts}, ours {counted.ours}{': ' if why else ''}{why}",
                flush=True,
            )
            assert isinstance(late, dict)
            worst = max(worst, int(counted.ours > 0 or not counted.answered))
    return worst


def main() -> int:
    """Enter a network namespace, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--load", action="store_true", help="a hog per core, and a held GIL")
    options = parser.parse_args()
    if not PEER.exists():
        raise SystemExit("franka-sim is not installed: make franka-test")
    if _INSIDE not in os.environ:
        if os.geteuid() != 0:
            raise SystemExit("a network namespace needs root: sudo make franka-test")
        os.environ[_INSIDE] = "1"
        inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        os.execvp("unshare", [*inside, sys.executable, *sys.argv])
    return report(options.seconds, options.runs, options.load)


if __name__ == "__main__":
    sys.exit(main())
