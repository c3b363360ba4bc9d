"""Live views of a robot that runs, in programs of other people. See README.md."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from mcap.reader import make_reader

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from inphase.recording.recording import Recording  # noqa: E402
from peers import free_port, until  # noqa: E402
from runtimes import Robot  # noqa: E402

BUILD = ROOT / "build" / "readers"
PYTHON = BUILD / "bin" / "python"
FRAMES = 40
CANNOT = 14


@contextmanager
def view(robot: Robot, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`inphase view`, whose first line has come."""
    command = [str(PYTHON), "-m", "inphase", "view", robot.name, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def by_foxglove_client(robot: Robot, path: Path) -> None:
    """@foxglove/ws-protocol and protobufjs in Node, beside the run's recording."""
    with robot.run("--record", str(path)) as run:
        run.moving()
        with subprocess.Popen(
            [sys.executable, "-m", "inphase", "view", robot.name, "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        ) as served:
            assert served.stderr is not None
            address = re.search(r"ws://\S+\d", served.stderr.readline())
            assert address is not None
            done = subprocess.run(
                ["node", "watch.mjs", address[0], str(FRAMES)],
                cwd=BUILD,
                stdout=subprocess.PIPE,
                text=True,
                timeout=60,
                check=True,
            )
            run.signal(signal.SIGINT)
            run.end()
    seen = json.loads(done.stdout)
    whole: dict[str, dict[int, str]] = {}
    with path.open("rb") as file:
        for _, channel, message in make_reader(file).iter_messages():
            digest = hashlib.sha256(message.data).hexdigest()
            whole.setdefault(channel.topic, {})[message.log_time] = digest
    with Recording(path) as recording:
        frames = {frame.cycle: frame.copy() for frame in recording}
    counts = {}
    for topic, of_topic in seen["topics"].items():
        messages = of_topic["messages"]
        counts[topic] = len(messages)
        for one in messages if topic != "/description" else []:
            recorded = whole[topic].get(int(one["log_ns"]))
            assert recorded in (None, one["hash"]), topic  # None: of a frame that was left out
            counts[topic] -= recorded is None
    assert all(counts[topic] >= FRAMES * 3 // 4 for topic in counts if topic != "/description"), (
        counts
    )
    for one in seen["topics"]["/frame"]["messages"]:
        frame = frames[int(one["value"]["cycle"])]
        assert list(frame.command["arm"].applied) == one["value"]["actuators"]["arm"]["applied"]
    for one in seen["topics"]["/sensors/joints"]["messages"]:
        frame = frames[int(one["value"]["cycle"])]
        if frame["joints"].sequence == int(one["value"]["sequence"]):
            position = one["value"]["value"]["position"]
            assert list(frame["joints"].value["position"]) == position
    assert seen["parameters"]["run.robot"] == robot.name
    print(f"@foxglove/ws-protocol: {counts}")


def rows_of(path: Path) -> dict[str, Any]:
    """By Rerun's own reader."""
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "tests" / "other_readers" / "rows.py"), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare_rows(path: Path, made: Path) -> dict[str, int]:
    """Rows of a stream against the frames of the run's recording; the counts of its entities."""
    rows = rows_of(made)["values"]
    with Recording(path) as recording:
        frames = {frame.cycle: frame.copy() for frame in recording}
    compared = 0
    for cycle, values in rows["/actuators/arm/applied"].items():
        frame = frames[int(cycle)]
        wanted = [float(one) for one in frame.command["arm"].applied]
        assert np.array_equal(values, wanted, equal_nan=True), cycle
        sample = rows["/sensors/joints/position"].get(cycle)
        if sample is not None:
            assert sample == [float(one) for one in frame["joints"].value["position"]], cycle
            compared += 1
        assert rows["/frame/wake_late_ns"][cycle] == [frame.woke_ns - frame.due_ns]
    assert compared > FRAMES, compared
    return {entity: len(of_entity) for entity, of_entity in rows.items()}


def by_rerun_file(robot: Robot, path: Path) -> None:
    """A file that the view writes."""
    made = path.with_suffix(".rrd")
    with robot.run("--record", str(path), "--cycles", "500") as run:
        run.moving()
        with view(robot, "--to", str(made), "--rate", "40") as shown:
            run.end()
            assert shown.wait(30) == 0
    print(f"rerun, a file: {compare_rows(path, made)}")


@contextmanager
def receiver(made: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Rerun's server, which writes to a file: its address, and its processes."""
    port = free_port(socket.SOCK_STREAM)
    command = [str(BUILD / "bin" / "rerun"), "--port", str(port), "--save", str(made)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        processes = psutil.Process(process.pid)

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(answers)
        everyone = [processes, *processes.children(recursive=True)]
        yield f"rerun+http://127.0.0.1:{port}/proxy", everyone
        for one in reversed(everyone):
            one.send_signal(signal.SIGINT)
        psutil.wait_procs(everyone, 20)
        for one in everyone:
            if one.is_running():
                one.kill()


def by_rerun_server(robot: Robot, path: Path) -> None:
    """A viewer that listens."""
    made = path.with_suffix(".received.rrd")
    with receiver(made) as (address, _), robot.run("--record", str(path), "--cycles", "500") as run:
        run.moving()
        with view(robot, "--to", address, "--rate", "40") as shown:
            run.end()
            assert shown.wait(30) == 0
        time.sleep(1.0)
    print(f"rerun, by gRPC: {compare_rows(path, made)}")


def by_rerun_that_stands_still(robot: Robot, path: Path) -> None:
    """A viewer that is stopped: the view keeps its memory and its end."""
    with receiver(path.with_suffix(".held.rrd")) as (address, processes), robot.run() as run:
        run.moving()
        with view(robot, "--to", address, "--rate", "100") as shown:
            assert shown.stderr is not None
            shown.stderr.readline()
            run.frame(lambda _: True)
            for one in processes:
                one.suspend()
            before = psutil.Process(shown.pid).memory_info().rss
            newest = run.frame(lambda _: True).cycle
            run.frame(lambda frame: frame.cycle > newest + 1500)
            grown = psutil.Process(shown.pid).memory_info().rss - before
            shown.send_signal(signal.SIGINT)
            assert shown.wait(30) == 0
            said = shown.stderr.read()
        for one in processes:
            one.resume()
        run.signal(signal.SIGINT)
        run.end()
    print(f"rerun, standing still: {grown / 1e6:.1f} MB more; {said.strip().splitlines()[-2:]}")
    assert grown < 64e6


def by_rerun_without_room(robot: Robot, path: Path) -> None:
    """A file that has no room: the view says so and ends, and the robot goes on."""
    limited = 'ulimit -f 200; exec "$@"'
    to = ("--to", str(path.with_suffix(".small.rrd")), "--rate", "100")
    with robot.run() as run:
        run.moving()
        done = subprocess.run(
            [*("bash", "-c", limited, "-", str(PYTHON), "-m", "inphase", "view", robot.name), *to],
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        newest = run.frame(lambda _: True).cycle
        run.frame(lambda frame: frame.cycle > newest + 10)
        run.signal(signal.SIGINT)
        run.end()
    assert done.returncode == CANNOT, done.stderr
    print(f"rerun, without room: {done.stderr.strip().splitlines()[-2:]}")


VIEWS: tuple[Callable[[Robot, Path], None], ...] = (
    by_foxglove_client,
    by_rerun_file,
    by_rerun_server,
    by_rerun_that_stands_still,
    by_rerun_without_room,
)


def failures(folder: Path) -> int:
    """Try all of them; how many failed."""
    failed = 0
    with Robot() as robot:
        for number, one in enumerate(VIEWS):
            try:
                one(robot, folder / f"live{number}.mcap")
            except Exception as error:  # of anybody's
                print(f"{one.__name__}: {error!r}")
                failed += 1
    return failed
