"""The clients in other languages: what they read of a running robot is what Python reads of it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import inphase
from inphase import Runner
from inphase.command.live import echo
from peers import BOUND_S, ROOT, until
from robots import demo_schedule

CLIENTS = ROOT / "docs" / "clients"
FRAMES = 40
RATE = "rate_hz = 50\nread_deadline_us = 12000\nact_us = 14000\n"

pytestmark = pytest.mark.real


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the client for Node, with its packages beside it."""
    for needed in ("node", "npm"):
        if shutil.which(needed) is None:
            pytest.skip(f"the JavaScript client needs {needed}")
    folder = tmp_path_factory.mktemp("javascript")
    for path in (CLIENTS / "javascript").iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
    command += ["--fetch-retries=0"]  # without a network it says so at once
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=5 * BOUND_S, check=False
    )
    if done.returncode:
        pytest.skip(
            f"the JavaScript client needs zeromq and @msgpack/msgpack: {done.stderr[-300:]}"
        )
    return ["node", str(folder / "subscriber.mjs")]


@pytest.fixture(scope="session")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The client in C++, compiled as its first lines say."""
    for needed in ("g++", "pkg-config"):
        if shutil.which(needed) is None:
            pytest.skip(f"the C++ client needs {needed}")
    program = tmp_path_factory.mktemp("cpp") / "subscriber"
    libraries = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libzmq"],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    headers = "#include <nlohmann/json.hpp>\n#include <zmq_addon.hpp>\n"
    probe = ["g++", "-std=c++17", "-E", "-x", "c++", "-"]
    found = subprocess.run(
        probe, input=headers, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    if libraries.returncode or found.returncode:
        pytest.skip("the C++ client needs libzmq3-dev, cppzmq-dev and nlohmann-json3-dev")
    source = str(CLIENTS / "cpp" / "subscriber.cpp")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        ["g++", *flags, source, "-o", str(program), *libraries.stdout.split()],
        timeout=10 * BOUND_S,
        check=True,
    )
    return [str(program)]


@pytest.fixture(params=["javascript", "cpp"])
def client(request: pytest.FixtureRequest) -> list[str]:
    """The command of a client."""
    command: list[str] = request.getfixturevalue(request.param)
    return command


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Runner]:
    """The demo robot, running with a gateway, and so slow that every reader keeps up."""
    path = demo_schedule(tmp_path, emulator=True, gateway=True)
    text = re.sub(r"(?ms)^rate_hz = .*?^act_us = \d+\n", RATE, path.read_text())
    path.write_text(text.replace("max_age_ms = 10", "max_age_ms = 100"))
    with Runner(path) as robot:
        until(lambda: robot.next(BOUND_S).state == "running")
        yield robot


def endpoints(robot: Runner) -> tuple[str, str]:
    gateway = robot.schedule.gateway
    assert gateway is not None and gateway.control is not None
    return gateway.endpoint, gateway.control


def followed(robot: Runner, command: list[str]) -> tuple[dict[int, Any], dict[int, Any], str]:
    """The frames that a client prints and those of Python, by cycle; and the client's stderr."""
    here: dict[int, Any] = {}
    with inphase.subscribe(endpoints(robot)[0], transport="zmq", timeout_s=BOUND_S) as frames:
        child = subprocess.Popen(
            [*command, "--json", "--count", str(FRAMES)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while child.poll() is None:
            frame = frames.next(BOUND_S)
            here[frame.cycle] = echo.as_dict(frame)
        for _ in range(2 * FRAMES):  # those that came while the client was ending
            frame = frames.next(BOUND_S)
            here[frame.cycle] = echo.as_dict(frame)
    out, err = child.communicate(timeout=BOUND_S)
    assert child.returncode == 0, err
    there = [json.loads(line) for line in out.splitlines()]
    assert len(there) == FRAMES
    return {frame["cycle"]: frame for frame in there}, here, err


def test_a_client_reads_what_python_reads(robot: Runner, client: list[str]) -> None:
    endpoint, control = endpoints(robot)
    there, here, err = followed(robot, [*client, endpoint, "--control", control])
    common = sorted(there.keys() & here.keys())
    assert len(common) > FRAMES // 2, err
    for cycle in common:
        lost = there[cycle].pop("lost"), here[cycle].pop("lost")
        assert min(lost) >= 0
        assert there[cycle] == here[cycle]
    # the numbers have names, and stamps all their digits
    frame = there[common[0]]
    assert frame["state"] == "running" and frame["sensors"]["joints"]["status"] in ("FRESH", "LATE")
    assert "WRITTEN" in frame["command"]["arm"]["flags"]
    assert f"robot {robot.schedule.name}" in err and "missed" in err


def test_a_client_prints_frames_for_a_person_and_stops_the_robot(
    robot: Runner, client: list[str]
) -> None:
    endpoint, control = endpoints(robot)
    done = subprocess.run(
        [*client, endpoint, "--count", "3", "--control", control, "--estop"],
        capture_output=True,
        text=True,
        timeout=3 * BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cycle ") == 3
    for word in ("running", "joints", "FRESH", "position", "arm", "WRITTEN", "applied"):
        assert word in done.stdout
    until(lambda: robot.next(BOUND_S).reason == "estop")


def test_a_client_ends_with_the_robot(robot: Runner, client: list[str]) -> None:
    endpoint, _ = endpoints(robot)
    child = subprocess.Popen(
        [*client, endpoint, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["sensors"]
    robot.__exit__()
    out, err = child.communicate(timeout=3 * BOUND_S)
    assert (child.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["state"] in ("stopped", "ramping")


@pytest.mark.long
def test_a_client_says_what_is_wrong(robot: Runner, client: list[str]) -> None:
    _, control = endpoints(robot)
    usage = subprocess.run(client, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert usage.returncode == 2 and "usage: " in usage.stderr
    nobody = f"{control}.gone"
    done = subprocess.run(
        [*client, nobody, "--control", nobody],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode not in (0, 2) and done.stderr
