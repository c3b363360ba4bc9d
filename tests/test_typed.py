"""The types of the package, as a type checker of a user's own file sees them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
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
DRIVER = """\
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from inphase import driver
from inphase.driver import Driver, Field, Reading, SensorSpec


class Gauge(Driver):
    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        port: str
        unit: Literal["N", "kN"] = "N"

    options: Options

    @property
    def address(self) -> str:
        return self.options.port

    def sensor(self) -> SensorSpec:
        return SensorSpec(
            fields=(Field("force", "N", (3,)),),
            twin=(driver.TwinChannel(base=1.0, noise=0.01),) * 3,
            twin_latency_ns=1_000_000,
        )

    def open(self) -> int:
        return -1

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        sample["force"] = np.zeros(3)
        return Reading(sequence=1)

    def close(self) -> None:
        return
"""
LEARNER = """\
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

import inphase
from inphase.gym import Environment
from inphase.testing.fixtures import MakeLockStep


def learn(path: str) -> float:
    environment = Environment(path)
    wrapped: gymnasium.Env[Any, Any] = environment
    observed, info = wrapped.reset(seed=1)
    total = 0.0
    for _ in range(10):
        action: NDArray[np.float64] = np.zeros(environment.action_space.shape or ())
        observed, reward, terminated, truncated, info = environment.step(action)
        total += float(reward)
        if terminated or truncated:
            break
    print(observed, info)
    environment.close()
    return total


def test_it_stays(lockstep: MakeLockStep) -> None:
    robot = lockstep("robot.toml", seed=1, raises=False)
    cycles: list[int] = [frame.cycle for frame in robot.frames(10)]
    said: list[str] = robot.messages
    assert cycles and not said


def many(path: str) -> list[dict[str, int]]:
    return [episode.reasons for episode in inphase.rollout(path, "pol.py:Reach", 2, seed=1)]
"""
BAD = """\
import inphase

cycle: str = inphase.Runner("robot.toml", lockstep="yes").next().cycle
inphase.subscribe("demo", transport="tcp")
inphase.load("robot.toml").cycle.period
"""
BAD_DRIVER = """\
from inphase.driver import Driver, Field, SensorSpec


class Gauge(Driver):
    @property
    def address(self) -> int:
        return 1

    def sensor(self) -> SensorSpec:
        return SensorSpec(fields=(Field("force", 1),))

    def open(self) -> str:
        return "port"

    def close(self) -> None:
        return


Gauge("gauge").close()
"""
BAD_LEARNER = """\
from inphase.gym import Environment

environment = Environment(1)
environment.step("left")
observed: str = environment.reset(seed="one")
"""
FILES: dict[str, tuple[str, set[int]]] = {
    "good": (GOOD, set()),
    "bad": (BAD, {3, 4, 5}),
    "driver": (DRIVER, set()),
    "bad_driver": (BAD_DRIVER, {6, 10, 12, 19}),
    "learner": (LEARNER, set()),
    "bad_learner": (BAD_LEARNER, {3, 4, 5}),
}
"""a user's file, and its lines with mistakes"""


Found = dict[str, set[int]]
"""lines with mistakes, by file"""


def mypy(folder: Path) -> Found:
    """By file the lines with mistakes, as mypy sees them."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--output", "json"]
    done = run(command, folder, MYPYPATH="")
    assert done.returncode in (0, 1), done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return by_file((one["file"], one["line"]) for one in found if one["severity"] == "error")


def pyright(folder: Path) -> Found:
    """By file the lines with mistakes, as pyright sees them."""
    if shutil.which("node") is None:
        pytest.skip("pyright needs node")
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = run(command, folder)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return by_file(
        (one["file"], one["range"]["start"]["line"] + 1)
        for one in found
        if one["severity"] == "error"
    )


def by_file(places: Iterable[tuple[str, int]]) -> Found:
    found: Found = {}
    for file, line in places:
        found.setdefault(Path(file).stem, set()).add(line)
    return found


def run(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *(f"{name}.py" for name in FILES)],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=20 * BOUND_S,
        check=False,
    )


@pytest.mark.long
@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_a_users_files_are_checked_against_the_types_of_the_package(
    tmp_path: Path, checker: Callable[[Path], Found]
) -> None:
    for name, (text, _) in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert checker(tmp_path) == {name: lines for name, (_, lines) in FILES.items() if lines}
