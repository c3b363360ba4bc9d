"""Drivers in workers: real processes and threads, a device that does what it is told to do."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from counter import CLOCK_AHEAD_NS
from inphase import Runner, schedule
from inphase._core import lib
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame, Sample
from inphase.host import store_names
from peers import BOUND_S, ROOT, free_port, until
from robots import SLOW_CYCLE

pytestmark = pytest.mark.real

_SCHEDULE = f"""
name = "{{name}}"
{SLOW_CYCLE}[device.counter]
driver = "counter:Counter"
home = "{{home}}"
port = {{port}}
{{options}}
[sensor.count]
device = "counter"
trigger_us = 1000
max_age_ms = 200
{{sensor}}
{{rest}}
"""


class Device:
    """The counting device's process; `close` ends it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "counter.py"), str(port)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(BOUND_S)

    def tell(self, what: bytes) -> None:
        """Make it do something; see counter.py."""
        self._socket.send(what)

    def ask(self, what: bytes) -> int:
        """What it answers; see counter.py."""
        self._socket.send(what)
        return int(struct.unpack("<Q", self._socket.recv(64))[0])

    @property
    def triggers(self) -> int:
        """How many triggers it has seen."""
        return self.ask(b"Q")

    @property
    def is_enabled(self) -> bool:
        """Whether it follows commands."""
        return bool(self.ask(b"P"))

    def close(self) -> None:
        """End it, like a device that is unplugged."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._socket.close()


class Bench:
    """A device and schedules for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.device = Device(free_port(socket.SOCK_DGRAM))

    def schedule(
        self, home: str = "process", options: str = "", sensor: str = "", rest: str = ""
    ) -> Path:
        """Write the schedule; its path."""
        path = self.folder / "worker.toml"
        text = _SCHEDULE.format(
            name=f"w{self.device.port}",
            home=home,
            port=self.device.port,
            options=options,
            sensor=sensor,
            rest=rest,
        )
        path.write_text(text)
        return path


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    made = Bench(tmp_path)
    yield made
    made.device.close()


def follow(runner: Runner, wanted: Any) -> Frame:
    """The first frame of which `wanted` holds; a bound on frames, not on time."""
    for _ in range(2000):
        frame = runner.next(BOUND_S)
        if wanted(frame):
            return frame
    raise AssertionError("not in 2000 frames")


def is_fresh(frame: Frame) -> bool:
    return frame["count"].status == "FRESH"


def worker_pid(runner: Runner) -> int:
    runtime = psutil.Process(runner._robot._child.pid)  # type: ignore[union-attr]
    return next(p.pid for p in runtime.children() if "inphase.runtime.workers" in p.cmdline())


def assert_true(sample: Sample, frame: Frame) -> None:
    """What a fresh sample of a triggered sensor must be."""
    assert sample.cycle == frame.cycle
    assert sample.triggered_ns is not None and sample.received_ns is not None
    assert frame.due_ns <= sample.triggered_ns <= sample.received_ns <= frame.latched_ns


@pytest.mark.parametrize("home", ["process", "thread"])
def test_a_driver_gives_the_same_frames_in_a_process_and_in_a_thread(
    bench: Bench, home: str
) -> None:
    with Runner(bench.schedule(home), cycles=40) as runner:
        names = {thread.name for thread in threading.enumerate()}
        fresh = [frame.copy() for frame in runner if is_fresh(frame)]
    assert fresh and ("inphase worker of counter" in names) == (home == "thread")
    for frame in fresh:
        sample = frame["count"]
        assert_true(sample, frame)
        assert sample.value["value"] == 1.0
        assert (sample.value["picture"] == sample.value["picture"][0, 0]).all()
    assert runner.summary is not None
    facts = runner.summary["sensors"]["count"]["worker"]
    statuses = runner.summary["sensors"]["count"]["status"]
    assert facts["slips"] == 0
    # the last turn may still be under way when the run is summed up
    assert bench.device.triggers - facts["pulses"] in (0, 1)
    assert sum(statuses.values()) == 40


def test_every_trigger_that_the_device_saw_is_counted(bench: Bench) -> None:
    with Runner(bench.schedule(sensor="every = 2\nlatency_cycles = 1"), cycles=60) as runner:
        frames = [frame.copy() for frame in runner]
    for frame in frames:
        sample = frame["count"]
        if sample.status == "FRESH":
            assert frame.cycle % 2 == 1 and sample.cycle == frame.cycle - 1
        if frame.cycle % 2 == 0:
            assert sample.status in ("HELD", "MISSING", "RECOVERING")
        if sample.status == "HELD":
            assert sample.cycle is not None and sample.cycle < frame.cycle - 1
    assert {"FRESH", "HELD"} <= {frame["count"].status for frame in frames}
    assert runner.summary is not None
    pulses = runner.summary["sensors"]["count"]["worker"]["pulses"]
    assert bench.device.triggers - pulses in (0, 1)


@pytest.mark.parametrize("counted", [True, False])
def test_a_late_sample_is_never_passed_on_as_fresh(bench: Bench, counted: bool) -> None:
    options = "" if counted else "counted = false"
    with Runner(bench.schedule(options=options)) as runner:
        follow(runner, is_fresh)
        bench.device.tell(b"L 1")
        late = follow(runner, lambda f: f["count"].status != "FRESH")
        assert late["count"].status == "LATE"
        follow(runner, is_fresh)
        for _ in range(20):
            frame = runner.next(BOUND_S)
            if is_fresh(frame):
                assert_true(frame["count"], frame)


def test_a_sample_too_many_is_a_slip_said_once_and_counted(bench: Bench) -> None:
    with Runner(bench.schedule()) as runner:
        follow(runner, is_fresh)
        bench.device.tell(b"X")
        bad = follow(runner, lambda f: f["count"].status == "INVALID")
        assert (bad["count"].reason, bad["count"].detail) == ("slip", 1)
        after = follow(runner, is_fresh)
        assert_true(after["count"], after)
    assert runner.summary is not None
    assert runner.summary["sensors"]["count"]["worker"]["slips"] == 1


def test_a_pulse_that_the_device_leaves_out_shifts_no_sample(bench: Bench) -> None:
    with Runner(bench.schedule()) as runner:
        follow(runner, is_fresh)
        bench.device.tell(b"D")
        follow(runner, lambda f: f["count"].status == "LATE")
        for _ in range(30):
            frame = runner.next(BOUND_S)
            if is_fresh(frame):
                assert_true(frame["count"], frame)
        follow(runner, is_fresh)


def test_a_device_whose_count_stands_still_is_frozen(bench: Bench) -> None:
    with Runner(bench.schedule(options="counted = false\nclock = true")) as runner:
        follow(runner, is_fresh)
        bench.device.tell(b"F")
        follow(runner, lambda f: f["count"].status == "FROZEN")
        bench.device.tell(b"R")
        follow(runner, is_fresh)


def test_a_driver_that_stamps_by_another_clock_is_told_and_never_fresh(bench: Bench) -> None:
    with Runner(bench.schedule(options="wall_clock = true"), cycles=40) as runner:
        samples = [frame["count"] for frame in runner]
        told = [s for s in samples if s.status == "INVALID"]
    assert told and {(s.reason, s.detail) for s in told} == {("stamp", lib.INPHASE_STAMP_ACQUIRED)}
    assert {s.status for s in samples} <= {"INVALID", "MISSING"}


def test_silence_is_late_then_missing_and_ends(bench: Bench) -> None:
    with Runner(bench.schedule()) as runner:
        follow(runner, is_fresh)
        bench.device.tell(b"S")
        follow(runner, lambda f: f["count"].status == "LATE")
        follow(runner, lambda f: f["count"].status == "MISSING")
        bench.device.tell(b"R")
        follow(runner, is_fresh)


def test_a_device_that_goes_and_comes_back_is_offline_then_recovering_then_fresh(
    bench: Bench,
) -> None:
    with Runner(bench.schedule()) as runner:
        follow(runner, is_fresh)
        bench.device.close()
        follow(runner, lambda f: f["count"].status == "OFFLINE")
        bench.device = Device(bench.device.port)
        follow(runner, lambda f: f["count"].status == "RECOVERING")
        after = follow(runner, is_fresh)
        assert_true(after["count"], after)


def test_a_worker_that_is_killed_is_started_again_and_goes_on_with_its_ring(bench: Bench) -> None:
    with Runner(bench.schedule()) as runner:
        before = follow(runner, is_fresh)["count"].sequence
        os.kill(worker_pid(runner), signal.SIGKILL)
        follow(runner, lambda f: f["count"].status == "OFFLINE")
        after = follow(runner, is_fresh)
        assert after["count"].sequence > before
        assert after["count"].value["value"] == 1.0
        assert any("started again" in text for text in runner.messages)


_SHORT_LIVED = '''
"""A counter whose process dies soon after it was started again."""
import os
import threading
from pathlib import Path

from counter import Counter


class ShortLived(Counter):
    def open(self):
        opens = Path(__file__).with_suffix(".opens")
        opens.touch()
        with opens.open("a") as file:
            file.write("x")
        if opens.stat().st_size > 1:
            threading.Timer(0.25, lambda: os._exit(7)).start()
        return super().open()
'''


def test_a_worker_that_dies_between_two_cycles_is_started_again_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.folder.joinpath("short_lived.py").write_text(_SHORT_LIVED)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{bench.folder}")
    path = bench.schedule()
    text = path.read_text().replace("counter:Counter", "short_lived:ShortLived")
    path.write_text(text.replace("rate_hz = 50", "rate_hz = 2"))
    with Runner(path) as runner:
        os.kill(worker_pid(runner), signal.SIGKILL)
        told = "the worker of counter ended (exit code 7)"
        until(lambda: sum(text.startswith(told) for text in runner.messages) > 1)
        cycle = runner.next(BOUND_S).cycle
        assert runner.next(BOUND_S).cycle == cycle + 1


def test_a_device_clock_gives_the_acquisition_and_says_how_sure_it_is(bench: Bench) -> None:
    with Runner(bench.schedule(options="clock = true"), cycles=150) as runner:
        known = [
            (sample.triggered_ns, sample.acquired_ns, sample.received_ns, sample.uncertainty_ns)
            for frame in runner
            if is_fresh(frame) and (sample := frame["count"]).acquired_ns is not None
        ]
    assert known
    for triggered, acquired, received, uncertainty in known:
        assert acquired is not None and triggered is not None and received is not None
        assert triggered - uncertainty <= acquired <= received + uncertainty
        assert 0 < uncertainty < CLOCK_AHEAD_NS
    assert runner.summary is not None
    assert runner.summary["sensors"]["count"]["worker"]["clock_exchanges"] > 0


_SLOW = """
[device.slow]
driver = "counter:Counter"
home = "process"
port = {port}
clock = true
[sensor.slow]
device = "slow"
trigger_us = 6000
every = 3
latency_cycles = 1
max_age_ms = 400
"""


def test_devices_with_clocks_of_their_own_are_aligned_with_both_uncertainties(
    bench: Bench,
) -> None:
    other = Device(free_port(socket.SOCK_DGRAM))
    try:
        path = bench.schedule(options="clock = true", rest=_SLOW.format(port=other.port))
        seen: dict[int, int] = {}
        checked = 0
        with Runner(path, cycles=200) as runner:
            for frame in runner:
                count, slow = frame["count"], frame["slow"]
                if count.acquired_ns is not None:
                    seen[count.acquired_ns] = count.uncertainty_ns
                if slow.acquired_ns is None or not seen or slow.status != "FRESH":
                    continue
                aligned = frame.at("slow")["count"]
                nearest = min(seen, key=lambda stamp: abs(stamp - slow.acquired_ns))
                assert aligned.acquired_ns == nearest
                distance = abs(nearest - slow.acquired_ns)
                assert aligned.error_ns == distance + seen[nearest] + slow.uncertainty_ns
                assert aligned.value["value"] == 1.0
                assert frame.at("slow", "linear")["count"].value["value"] == 1.0
                checked += 1
        assert checked > 0
    finally:
        other.close()


_MOVES = """
[actuator.joint]
device = "counter"
feedback = "count.value"
limits = { position = [-9, 9], velocity = 10.0, acceleration = 20.0, step = 1.0 }
on_stop = "limp"
"""


@pytest.mark.parametrize("home", ["process", "thread"])
def test_commands_reach_a_worker_through_the_limiter_alone(bench: Bench, home: str) -> None:
    path = bench.schedule(home, "moves = true\nwatchdog_ms = 1000", rest=_MOVES)

    def policy(frame: Frame) -> list[float] | None:
        count = frame["count"]
        return [float(count.value["value"]) + 0.05] if count.status == "FRESH" else None

    with Runner(path, policy=policy) as runner:
        moved = follow(runner, lambda f: is_fresh(f) and f["count"].value["value"] > 1.5)
        act = moved.command["joint"]
        assert "WRITTEN" in act.flags
        assert bench.device.is_enabled
    assert runner.summary is not None
    written = runner.summary["commands"]["written"]
    facts = runner.summary["sensors"]["count"]["worker"]
    assert 0 < facts["orders"] <= written
    assert not bench.device.is_enabled


TURNS = """
[actuator.joint]
device = "counter"
mode = "velocity"
limits = { velocity = 2.0, acceleration = 4.0 }
"""


def speed_up(frame: Frame) -> list[float]:
    """A policy that speeds the joint up to 0.5."""
    return [min(0.5, 0.02 * frame.cycle)]


def test_a_worker_that_comes_back_tells_its_device_to_stop_before_anything_else(
    bench: Bench,
) -> None:
    """The device keeps the velocity that it was told last, and gives it as its value."""
    path = bench.schedule("process", "moves = true\nwatchdog_ms = 1000", rest=TURNS)
    with Runner(path, policy=speed_up) as runner:
        follow(runner, lambda f: is_fresh(f) and f["count"].value["value"] == 0.5)
        os.kill(worker_pid(runner), signal.SIGKILL)
        gone = follow(runner, lambda f: f["count"].status == "OFFLINE")
        gone = follow(runner, lambda f: f.cycle > gone.cycle + 2)
        assert (gone.state, gone.reason) == ("uncontrolled", "offline")
        told = follow(runner, lambda f: "WRITTEN" in f.command["joint"].flags)
        assert (told.command["joint"].reason, told.state) == ("rest", "uncontrolled")
        follow(runner, lambda f: is_fresh(f) and f["count"].value["value"] == 0.0)
        assert "STOPPED" in follow(runner, lambda f: f.state == "faulted").flags


def test_a_datagram_device_whose_worker_dies_in_motion_gets_its_own_bytes_from_the_guard(
    bench: Bench,
) -> None:
    path = bench.schedule("process", "moves = true\nguarded = true", rest=TURNS)
    with Runner(path, policy=speed_up) as runner:
        follow(runner, lambda f: is_fresh(f) and f["count"].value["value"] == 0.5)
        assert bench.device.is_enabled
        os.kill(worker_pid(runner), signal.SIGKILL)
        until(lambda: not bench.device.is_enabled)  # the device's socket is the guard's, too
        follow(runner, lambda f: f.state in ("uncontrolled", "faulted"))


def test_lock_step_gives_the_same_bytes_wherever_the_driver_is_at_home(bench: Bench) -> None:
    digests = set()
    for home in ("process", "thread"):
        path = bench.schedule(home, sensor="every = 2\nlatency_cycles = 1")
        with LockStep(schedule.load(path), seed=5) as robot:
            robot.run(300)
            digests.add(robot.digest())
    assert len(digests) == 1


@pytest.mark.parametrize("home", ["process", "thread"])
def test_a_watchdog_that_reads_feed_is_starved_in_a_worker_until_arming(
    bench: Bench, home: str
) -> None:
    path = bench.schedule(home, "moves = true\nwatchdog_ms = 500", rest=_MOVES)
    silent = threading.Event()

    def policy(frame: Frame) -> list[float] | None:
        count = frame["count"]
        if silent.is_set() or count.status != "FRESH":
            return None
        return [float(count.value["value"]) + 0.05]

    with Runner(path, policy=policy) as runner:
        follow(runner, lambda f: is_fresh(f) and f["count"].value["value"] > 1.5)
        silent.set()
        held = follow(runner, lambda f: "STARVED" in f.command["joint"].flags)
        follow(runner, lambda f: f.cycle > held.cycle + 2)
        triggers = bench.device.triggers
        held = follow(runner, lambda f: f["count"].status == "MISSING")
        assert held.reason == "watchdog"
        assert bench.device.triggers == triggers, "neither written nor read"
        silent.clear()
        runner.arm()
        follow(runner, lambda f: is_fresh(f) and f.reason == "none")
        follow(runner, lambda f: "WRITTEN" in f.command["joint"].flags)


def test_a_device_that_is_not_there_is_refused_at_the_start(bench: Bench) -> None:
    path = bench.schedule()
    bench.device.close()
    with pytest.raises(Exception, match="ended at its start, exit code 3"), Runner(path):
        pass
    bench.device = Device(bench.device.port)


def test_no_segment_is_left_behind(bench: Bench) -> None:
    with Runner(bench.schedule(), cycles=10) as runner:
        assert Path(runner.store_path).is_socket()
        name = runner.schedule.name
    until(lambda: not list(store_names.folder().glob(f"{name}.*")))
