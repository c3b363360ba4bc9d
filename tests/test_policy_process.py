"""A policy's process: made ready before the first cycle counts, set for its job, and measured."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.schedule import timing_model
from inphase.timing import fitting
from robots import demo_schedule
from runtimes import SWEEP, Robot

CALL = 'call = "sweep.py:Sweep"'
WARM = """
import json, sys


class Warm:
    def __init__(self):
        self.calls = []

    def warm_up(self, frame):
        sample = frame["joints"]
        self.calls.append(["warm_up", frame.cycle, sample.status, sample.value["position"].sum()])
        self.calls.append([sample.intact, list(frame.samples), len(frame.copy().samples)])
        assert frame.at("joints")["joints"].value["position"].sum() == 0
        assert all(act.reason == "none" for act in frame.command)

    def reset(self):
        self.calls.append(["reset"])

    def __call__(self, frame):
        if frame.cycle == 0:
            print(json.dumps(self.calls), file=sys.stderr)
        return None
"""


def _calls(text: str) -> list[Any]:
    (line,) = (line for line in text.splitlines() if line.startswith("[["))
    found: list[Any] = json.loads(line)
    return found


@pytest.mark.parametrize("isolate", [False, True])
def test_a_policy_warms_up_on_a_frame_of_zeros_and_is_reset_after_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], isolate: bool
) -> None:
    tmp_path.joinpath("warm.py").write_text(WARM)
    with LockStep(load(demo_schedule(tmp_path, policy="warm.py:Warm")), isolate=isolate) as robot:
        robot.run(3)
    assert _calls(capfd.readouterr().err) == [
        ["warm_up", 0, "FRESH", 0.0],
        [True, ["joints", "wrench"], 2],
        ["reset"],
    ]


@pytest.mark.parametrize("method", ["warm_up(self, frame)", "reset(self)"])
def test_a_policy_that_cannot_warm_up_is_refused_with_its_line(tmp_path: Path, method: str) -> None:
    tmp_path.joinpath("cold.py").write_text(
        f"class Cold:\n    def {method}:\n        raise ValueError('too cold')\n"
        f"    def __call__(self, frame):\n        pass\n"
    )
    described = load(demo_schedule(tmp_path, policy="cold.py:Cold"))
    with pytest.raises(ScheduleError, match=r"policy\.call: .*too cold.*cold\.py, line 3"):
        LockStep(described)


@pytest.mark.real
def test_cycles_begin_when_the_policy_is_warm() -> None:
    with Robot() as robot:
        slow = "    def warm_up(self, frame):\n        import time\n        time.sleep(1.0)\n"
        robot.folder.joinpath("sweep.py").write_text(
            SWEEP.replace("    def __init__", f"{slow}\n    def __init__")
        )
        with robot.run("--cycles", "100") as run:
            code, summary = run.end()
    assert code == 0, run.stderr
    assert summary["policy"]["commands"] > 50, "a second is 125 cycles"


@pytest.mark.real
@pytest.mark.parametrize("threads", [1, 3])
def test_libraries_compute_in_as_many_threads_as_the_schedule_says(threads: int) -> None:
    tell = (
        "\n\nimport os, sys\nimport numpy\n"
        "THREADS = len(os.listdir('/proc/self/task'))\n"
        "print('tried', os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'], THREADS,\n"
        "      file=sys.stderr)\n"
    )
    with Robot() as robot:
        robot.folder.joinpath("sweep.py").write_text(SWEEP + tell)
        robot.write((CALL, f"{CALL}\nthreads = {threads}"))
        with robot.run("--cycles", "20") as run:
            code, summary = run.end()
            said = run.stderr
    assert code == 0, said
    (line,) = (line.split() for line in said.splitlines() if line.startswith("tried"))
    assert line[1:3] == [str(threads)] * 2
    own = int(line[3])
    assert threads > 1 or own == 1
    assert ("threads that were there before" in said) == (own > 1)
    assert summary["policy"]["sandbox"]["seccomp"]


@pytest.mark.real
def test_how_long_a_policy_takes_is_in_the_summary_and_in_a_timing_model(tmp_path: Path) -> None:
    with Robot() as robot:
        slow = "        import time\n        time.sleep(0.012)\n        joints ="
        robot.folder.joinpath("sweep.py").write_text(SWEEP.replace("        joints =", slow, 1))
        with robot.run("--record", str(tmp_path / "run.mcap")) as run:
            for _ in range(120):
                run.follower.next(10.0)
            run.signal(signal.SIGINT)
            _, summary = run.end()
    inference = summary["inference_ns"]
    assert inference["count"] >= 20
    assert 12_000_000 <= inference["min"] <= inference["p50"] <= inference["max"]
    assert summary["latch_to_command_ns"]["count"] == 0, "each came after its cycle's act"
    fitted = fitting.of_recording(tmp_path / "run.mcap")
    tmp_path.joinpath("measured.toml").write_text(fitted)
    path = demo_schedule(tmp_path)
    path.write_text(f'{path.read_text()}\n[timing]\nfile = "measured.toml"\n')
    drawn = timing_model.of_schedule(load(path)).get("policy.inference_ms")
    assert drawn is not None
    # from the answer before on: the turn of the loop lies between
    assert drawn.low >= inference["min"] / 1e6
