"""What `import inphase` brings along: next to nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import inphase
from inphase import errors
from peers import ROOT
from runtimes import Robot

DEMO = ROOT / "schedules" / "demo.toml"


def modules_after(statement: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has after a statement."""
    code = f"{statement}; import sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_no_library() -> None:
    heavy = {"numpy", "zmq", "msgpack", "msgspec", "click", "rich", "uvloop", "asyncio", "serial"}
    found = modules_after("import inphase")
    assert not heavy & found
    assert {name for name in found if name.startswith("inphase")} == {"inphase"}


def test_loading_a_schedule_needs_no_transport() -> None:
    assert not {"zmq", "rich", "uvloop"} & modules_after("import inphase; inphase.load")


def test_the_commands_are_known_without_a_library() -> None:
    found = modules_after("import inphase.command.cli")
    assert not {"numpy", "rich", "msgspec", "zmq", "tempfile", "asyncio", "email"} & found


def test_the_processes_that_send_frames_look_into_no_sample() -> None:
    found = modules_after("import inphase.runtime.gateway, inphase.runtime.frame_sender")
    assert {"zmq", "uvloop"} <= found and not {"numpy", "rich"} & found


def test_every_public_name_is_there() -> None:
    for name in inphase.__all__:
        assert getattr(inphase, name) is not None
    assert set(inphase.__all__) == {
        "Frame",
        "Recording",
        "RobotWorker",
        "RolloutWorkers",
        "Runner",
        "__version__",
        "batched",
        "load",
        "connect",
        "mark_episode",
        "of_observation",
        "rollout",
        "serve_policy",
        "subscribe",
    }


# ---- without the extras ------------------------------------------------------------------------

EXTRAS = sorted(
    {*errors.EXTRAS, "onnx", "PIL", "scipy", "torch", "google.protobuf"} - {"google", "pytest"}
)
WITHOUT = f"""
import importlib.abc, runpy, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {EXTRAS} or name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv[:] = ["inphase", *sys.argv[1:]]
"""


def without_extras(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run code in an interpreter that has only what the package depends on."""
    line = [sys.executable, "-c", WITHOUT + code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)


MAIN = "from inphase.command.cli import main; main()"


def test_lock_step_and_the_runtime_need_no_extra() -> None:
    modules = (
        "episodes.clients.client, episodes.lockstep, episodes.runner, runtime.runtime, "
        "runtime.gateway, runtime.frame_sender, runtime.runner_process, policy.policy_process"
    )
    done = without_extras(f"import {', '.join(f'inphase.{m}' for m in modules.split(', '))}")
    assert done.returncode == 0, done.stderr
    done = without_extras("import inphase; inphase.Recording")
    assert "RecordingError: a recording needs the package " in done.stderr
    assert "install it: pip install 'inphase[record]'" in done.stderr
    run = ("run", str(DEMO), "--lockstep", "--cycles", "50", "--json")
    done = without_extras(MAIN, *run)
    assert json.loads(done.stdout)["cycles"] == 50, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "check run.mcap",
        "diff run.mcap run.mcap",
        "export run.mcap run.parquet",
        "fit run.mcap",
        "record demo new.mcap",
        "recover run.mcap",
        "replay run.mcap",
        "report run.mcap",
        "run DEMO --lockstep --cycles 5 --record new.mcap",
        "run DEMO --lockstep --cycles 5 --timing run.mcap",
    ],
)
def test_a_command_without_its_extra_names_it(command: str, tmp_path: Path) -> None:
    tmp_path.joinpath("run.mcap").write_bytes(b"\x89MCAP0\r\n")
    places = {"DEMO": str(DEMO)}
    words = [places.get(word, word) for word in command.split()]
    words = [str(tmp_path / word) if "." in word and "/" not in word else word for word in words]
    done = without_extras(MAIN, *words)
    assert done.returncode == 12, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert "pip install 'inphase[" in done.stderr


SUPERVISED = """
import os, subprocess, sys
from inphase.command.cli import main
from inphase.runtime.runtime import Runtime

tends, tended, within, found = Runtime.tend, [], [], []
PAUSE = "kill -STOP {0}; sleep 0.05; kill -CONT {0}".format(os.getpid())

def tend(self, *more):
    tended.append(self)
    if len(tended) == 5:
        subprocess.Popen(["sh", "-c", PAUSE])  # so that there are late moments
    within.append(self)
    try:
        return tends(self, *more)
    finally:
        within.pop()

sys.addaudithook(lambda event, name: within and event == "import" and found.append(name[0]))
Runtime.tend = tend
sys.argv = ["inphase", "run", sys.argv[1], "--seconds", "1"]
try:
    main()
finally:
    print("imported beside the cycle:", *found)
"""


@pytest.mark.real
def test_the_supervisor_of_a_running_robot_imports_nothing() -> None:
    """An import takes the interpreter for long, on a core that the cycle may want."""
    with Robot() as robot:
        command = [sys.executable, "-c", SUPERVISED, str(robot.schedule)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert "late moments by cause: " in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "imported beside the cycle:", done.stdout
