"""A device as the cycle's clock: the rules of `[cycle] clock`, and a real stream over sockets."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest

from inphase.command import check
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.frames import record_layout
from inphase.schedule import load
from inphase.testing.rig import path_for_children
from pacer import Paced
from peers import BOUND_S
from runtimes import Run

HZ = 100
TESTS = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": path_for_children(Paced)}
ROBOT = """name = "{name}"
[cycle]
rate_hz = 100
clock = "arm"
read_deadline_us = 6000
act_us = 8000
realtime = "prefer"
resumed_after_ms = 20000
overrun_limit = 1000000
[device.arm]
driver = "pacer:Paced"
kind = "{kind}"
port = {port}
hz = 100
[sensor.arm]
device = "arm"
max_age_ms = 100
"""


class Peer:
    """The streaming process, and a runtime whose cycles it starts."""

    def __init__(self, folder: Path, kind: str) -> None:
        command = [sys.executable, str(TESTS / "pacer.py"), kind, str(HZ)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        out: IO[str] | None = self.process.stdout
        assert out is not None
        self.folder, self.name = folder, f"paced{self.process.pid}"
        self.schedule = folder / "robot.toml"
        text = ROBOT.format(name=self.name, kind=kind, port=int(out.readline()))
        self.schedule.write_text(text)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def run(self, cycles: int) -> Run:
        given = ["-m", "inphase", "run", str(self.schedule), "--cycles", str(cycles), "--json"]
        return Run(self, given, {"env": ENVIRONMENT})


@pytest.fixture(params=["udp", "tcp"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    one = Peer(tmp_path, request.param)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def paced(frame: Frame) -> bool:
    return "UNPACED" not in frame.flags


def test_each_cycle_has_one_packet_also_after_a_silence_and_doubled_ones(peer: Peer) -> None:
    with peer.run(250) as run:
        run.frame(paced)
        frames = [run.frame(lambda _: True).copy() for _ in range(30)]
        peer.tell("silence")
        run.frame(lambda frame: frame["arm"].status == "MISSING")
        peer.tell("heal")
        back = run.frame(paced).copy()
        peer.tell("double 20")
        frames += [run.frame(lambda _: True).copy() for _ in range(40)]
        out, _ = run.process.communicate(timeout=BOUND_S)
    assert run.process.returncode == 0, run.stderr
    for one, two in pairwise(frames):
        if one.cycle + 1 == two.cycle and paced(one) and paced(two):
            step = two["arm"].value["sent"] - one["arm"].value["sent"]
            assert step == 1, (one.cycle, step)
        assert two.due_ns - one.due_ns >= (two.cycle - one.cycle) * 10**9 / HZ * 15 / 16
    assert sum(paced(frame) for frame in frames) > len(frames) / 2
    assert back.cycle > frames[0].cycle
    pace = json.loads(out)["pace"]
    assert (pace["device"], pace["missed_packets"] > 0) == ("arm", True)
    assert pace["unpaced"] >= pace["missed_packets"]


def lockstep_frames(path: Path) -> tuple[str, list[int]]:
    with LockStep(load(path), seed=7) as robot:
        robot.run(50)
        return str(robot.digest()), [robot.step().due_ns for _ in range(3)]


def test_lock_step_knows_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    text = ROBOT.format(name="t", kind="udp", port=1)
    path.write_text(text)
    with_clock = lockstep_frames(path)
    path.write_text(text.replace('clock = "arm"\n', ""))
    assert lockstep_frames(path) == with_clock


BAD = [
    ('clock = "leg"', "no device is called 'leg'; give one of arm"),
    ('clock = ["arm", "leg"]', "clock"),
    ("rate_hz = 200", "streams at 100 Hz, and the cycle has 200 Hz"),
    ("burst = 4", "a cycle has one packet of its clock"),
    ('home = "process"', "a worker reads device 'arm'"),
    ('driver = "inphase_drivers.ati:NetFT"', "answers triggers"),
    ("no sensor", "no sensor reads device 'arm'"),
]


def broken(change: str) -> str:
    """The robot's text with one thing changed that its clock cannot be with."""
    text = ROBOT.format(name="t", kind="udp", port=1)
    if change.startswith("clock"):
        return text.replace('clock = "arm"', change)
    if change.startswith("rate_hz"):
        text = text.replace("rate_hz = 100\n", f"{change}\n")
        return text.replace("6000", "2000").replace("8000", "3000")
    if change.startswith("burst"):
        return f"{text}{change}\n"
    if change.startswith("home"):
        return text.replace('kind = "udp"', f'{change}\nkind = "udp"')
    other = (
        f"{text[: text.index('[device.arm]')]}[device.arm]\n"
        'driver = "inphase_drivers.ati:NetFT"\nhost = "127.0.0.1"\n'
    )
    if change != "no sensor":
        return f'{other}[sensor.wrench]\ndevice = "arm"\ntrigger_us = 0\nmax_age_ms = 100\n'
    stream = text[text.index("[device.arm]") :].replace("arm", "leg")
    return f"{other}{stream}"


@pytest.mark.parametrize(("change", "words"), BAD, ids=[change for change, _ in BAD])
def test_a_clock_that_cannot_be_one_is_refused(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(broken(change))
    with pytest.raises(ScheduleError) as caught:
        check.make(path)
    told = [str(fault) for fault in caught.value.faults]
    assert any("cycle.clock" in one and words in one for one in told), told


def test_check_draws_the_packet_that_starts_the_cycle(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    path.write_text(ROBOT.format(name="t", kind="udp", port=1))
    done = subprocess.run(
        [sys.executable, "-m", "inphase", "check", str(path)],
        check=False, capture_output=True, text=True, timeout=BOUND_S, env=ENVIRONMENT,
    )  # fmt: skip
    assert "packet" in done.stdout and "device arm starts the cycles" in done.stdout, done.stdout
    assert "▶" in done.stdout


def test_the_words_of_a_lost_packet_are_those_of_the_core() -> None:
    assert record_layout.FRAME_FLAGS[14] == "UNPACED"
    assert record_layout.REASONS[40] == "pace"
