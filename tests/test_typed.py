"""The types of the package, as a type checker of a user's own file sees them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peers import BOUND_S

GOOD = """\
from pathlib import Path
from typing import Any

import inphase
from inphase import remote
from inphase.frame import Act, Frame, Sample


class Policy:
    def __call__(self, frame: Frame) -> list[float] | None:
        joints: Sample = frame["joints"]
        arm: Act = frame.command["arm"]
        if joints.status != "FRESH" or "WRITTEN" not in arm.flags:
            return None
        return [float(value) for value in joints["position"]]


def follow(path: Path) -> dict[str, Any] | None:
    robot = inphase.Runner(inphase.load(path), policy=Policy(), lockstep=True, cycles=10)
    with robot:
        for frame in robot:
            age_ns: int | None = frame["joints"].age_ns
            print(frame.cycle, frame.sensors, age_ns)
    return robot.summary


def listen(endpoint: str) -> int:
    with inphase.subscribe(endpoint, transport="zmq") as frames:
        return sum(frame.lost for frame in frames)


def serve(endpoint: str) -> None:
    def policy(frame: remote.Frame) -> Any:
        return frame["joints"].value["position"]

    inphase.serve_policy(endpoint, policy)
"""
BAD = """\
import inphase

cycle: str = inphase.Runner("robot.toml", lockstep="yes").next().cycle
inphase.subscribe("demo", transport="tcp")
inphase.load("robot.toml").cycle.period
"""
MISTAKES = [3, 4, 5]
"""lines of BAD"""


def mypy(path: Path) -> list[int]:
    """The lines with mistakes, as mypy sees them."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--output", "json"]
    done = run(command, path, MYPYPATH="")
    assert done.returncode in (0, 1), done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return sorted({item["line"] for item in found if item["severity"] == "error"})


def pyright(path: Path) -> list[int]:
    """The lines with mistakes, as pyright sees them."""
    if shutil.which("node") is None:
        pytest.skip("pyright needs node")
    (path.parent / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = run(command, path)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return sorted(
        {item["range"]["start"]["line"] + 1 for item in found if item["severity"] == "error"}
    )


def run(command: list[str], path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, path.name],
        cwd=path.parent,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=5 * BOUND_S,
        check=False,
    )


@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
@pytest.mark.parametrize(("text", "mistakes"), [(GOOD, []), (BAD, MISTAKES)], ids=["good", "bad"])
def test_a_users_file_is_checked_against_the_types_of_the_package(
    tmp_path: Path, checker: Callable[[Path], list[int]], text: str, mistakes: list[int]
) -> None:
    path = tmp_path / "robot.py"
    path.write_text(text)
    assert checker(path) == mistakes
