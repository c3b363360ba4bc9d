"""The commands as a user types them, on the demo robot with the real emulator."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from inphase import Runner, subscribe
from inphase.errors import DeviceError
from inphase.frame import Frame
from inphase.runtime.run_options import RunOptions
from inphase.runtime.runtime import Runtime
from inphase.schedule import load
from peers import BOUND_S, ROOT
from robots import demo_schedule

DISTRIBUTIONS = ("wake_late_ns", "act_late_ns", "skew_ns", "latch_to_command_ns", "inference_ns")
QUANTILES = ("p50", "p90", "p99", "p999", "max")
STATUSES = ("FRESH", "HELD", "LATE", "MISSING", "FROZEN", "INVALID", "OFFLINE", "RECOVERING")


def inphase(*arguments: str, timeout_s: float = 3 * BOUND_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inphase", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def summary_of(*arguments: str) -> dict[str, Any]:
    done = inphase("run", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def assert_documented_keys(result: dict[str, Any]) -> None:
    assert isinstance(result["skipped"], int)
    assert isinstance(result["realtime"]["granted"], bool)
    assert isinstance(result["policy"]["missed"], int)
    for name in DISTRIBUTIONS:
        assert set(QUANTILES) <= result[name].keys()
    for sensor in ("joints", "wrench"):
        assert set(result["sensors"][sensor]["status"]) == set(STATUSES)
        assert set(QUANTILES) <= result["sensors"][sensor]["trigger_to_sample_ns"].keys()


def test_lock_step_runs_the_demo_and_its_digest_is_the_same_run_after_run() -> None:
    arguments = ("--lockstep", "schedules/demo.toml", "--cycles", "600")
    results = [
        summary_of(*arguments, "--seed", "7"),
        summary_of(*arguments, "--seed", "7", "--isolate"),
        summary_of(*arguments, "--seed", "8"),
    ]
    assert_documented_keys(results[0])
    assert results[0]["cycles"] == 600
    assert sum(results[0]["sensors"]["joints"]["status"].values()) == 600
    assert results[0]["digest"] == results[1]["digest"] != results[2]["digest"]


@pytest.mark.real
def test_run_counts_every_cycle_and_prints_its_summary_alone_on_stdout(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, emulator=True, gateway=True)
    result = summary_of(str(path), "--cycles", "300")
    assert_documented_keys(result)
    assert result["cycles"] == 300
    assert result["stopped"]["reason"] == "done"
    for sensor in ("joints", "wrench"):
        assert sum(result["sensors"][sensor]["status"].values()) == 300
    policy = result["policy"]
    assert policy["commands"] + policy["missed"] + policy["invalid"] == 300
    assert result["wake_late_ns"]["count"] >= 300


@pytest.mark.real
def test_a_second_start_is_refused_before_it_touches_what_the_first_has(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, emulator=True)
    with Runner(path) as robot:
        robot.next(BOUND_S)
        before = (tmp_path / "arm").readlink()
        refused = [inphase("run", str(path)), inphase("probe", str(path), "joints")]
        for done in refused:
            assert done.returncode == 3
            (said,) = done.stderr.splitlines()
            assert re.search(r"arm is used by robot t\d+, process \d+, .*runs already", said), said
        with pytest.raises(DeviceError, match="runs already"), Runner(path):
            pass
        assert (tmp_path / "arm").readlink() == before
    assert not (tmp_path / "arm").is_symlink()


@pytest.mark.real
def test_a_second_robot_of_one_name_is_said_at_its_start_and_none_is_found_by_it(
    tmp_path: Path,
) -> None:
    paths = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        paths.append(demo_schedule(tmp_path / folder, emulator=True))
    name = load(paths[0]).name
    paths[1].write_text(paths[1].read_text().replace(load(paths[1]).name, name))
    with Runner(paths[0], observe=True) as first:
        first.next(BOUND_S)
        assert not any("runs already" in text for text in first.messages)
        with Runner(paths[1], observe=True) as second:
            second.next(BOUND_S)
            (said,) = (text for text in second.messages if "runs already" in text)
            assert re.search(rf"^robot {name} runs already, process \d+: .*{paths[0]}", said), said
            done = inphase("echo", name, "-n", "1")
            assert done.returncode == 5
            for path in paths:
                assert str(path) in done.stderr
        assert inphase("echo", name, "-n", "1").returncode == 0


@pytest.mark.real
def test_observe_writes_no_command(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, emulator=True)
    result = summary_of(str(path), "--cycles", "200", "--observe")
    assert result["commands"]["written"] == 0
    assert result["policy"]["commands"] == 0
    assert result["sensors"]["joints"]["status"]["FRESH"] > 0


@pytest.mark.parametrize(
    ("found", "put", "said"),
    [
        ("rate_hz = 500", "rate_hz = 500\nrate = 5", "rate"),
        ("trigger_us = 0", "trigger_us = 1250", "read deadline"),
        ("act_us = 1700", "act_us = 1950", "next trigger"),
        ("velocity = 2.0", "", "velocity"),
        ('call = "demo_policy.py:Wave"', 'call = "demo_policy.py:Wav"', "Wav"),
        ('feedback = "joints.position"', 'feedback = "joints.place"', "joints.place"),
        ("ids = [1, 2, 3, 4, 5, 6]", "ids = [1, 2, 300]", "ids"),
    ],
)
def test_what_cannot_be_is_refused_by_check_with_file_and_line(
    tmp_path: Path, found: str, put: str, said: str
) -> None:
    text = (ROOT / "schedules" / "demo.toml").read_text()
    assert found in text
    path = tmp_path / "demo.toml"
    path.write_text(text.replace(found, put, 1))
    (tmp_path / "demo_policy.py").write_text((ROOT / "schedules" / "demo_policy.py").read_text())
    done = inphase("check", str(path))
    assert done.returncode == 2
    assert re.search(rf"{re.escape(str(path))}:\d+: ", done.stderr), done.stderr
    assert said in done.stderr


def test_check_draws_the_cycle_and_says_what_the_machine_grants() -> None:
    done = inphase("check", "schedules/demo.toml")
    assert done.returncode == 0, done.stderr
    for word in ("read deadline", "arm", "wrist", "frames", "SCHED_FIFO", "shared memory"):
        assert word in done.stdout
    facts = json.loads(inphase("check", "schedules/demo.toml", "--json").stdout)
    assert facts["depth"]["frames"] >= 8
    assert facts["store_bytes"] > 0
    arm, wrist = facts["devices"]
    assert (arm["home"], arm["sample_ns"], arm["command_ns"]) == ("cycle", 280_000, 110_000)
    assert (wrist["address"], wrist["command_ns"]) == ("udp:127.0.0.1:49152", None)
    joints = facts["sensors"][0]
    assert (joints["acquired_ns"], joints["deadline_ns"]) == (50_000, 1_300_000)
    assert joints["slack_ns"] == 1_300_000 - 280_000
    assert "worst case of 2280 us" in facts["notes"][0]


@pytest.mark.real
def test_runner_follows_the_robot_with_a_policy_of_the_callers(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, emulator=True)
    seen: list[int] = []

    def hold(frame: Frame) -> Any:
        seen.append(frame.cycle)
        joints = frame["joints"]
        return joints.value["position"] if joints.sequence >= 0 else None

    with Runner(path, policy=hold, cycles=200) as robot:
        cycles = [frame.cycle for frame in robot]
    assert robot.summary is not None
    assert robot.summary["cycles"] == 200
    assert robot.summary["policy"]["commands"] > 0
    assert robot.summary["policy"]["home"] == "thread"
    assert cycles == sorted(set(cycles))
    assert seen == sorted(set(seen))


@pytest.mark.real
def test_runner_in_lock_step_runs_in_the_callers_thread(tmp_path: Path) -> None:
    with Runner(demo_schedule(tmp_path), lockstep=True, cycles=50, seed=3) as robot:
        cycles = [frame.cycle for frame in robot]
    assert cycles == list(range(50))
    assert robot.summary is not None
    assert robot.summary["cycles"] == 50


def test_a_caller_that_posts_is_the_policy(tmp_path: Path) -> None:
    with Runner(demo_schedule(tmp_path), lockstep=True, cycles=20, posts=True) as robot:
        for frame in robot:
            if frame.cycle < 10:
                assert robot.post(frame, frame["joints"].value["position"]) is None
            elif frame.cycle < 15:
                robot.refuse(frame, "input")
            else:
                assert robot.post(frame, [0.0]) == "shape"
    assert robot.summary is not None
    policy = robot.summary["policy"]
    assert (policy["commands"], policy["reasons"]) == (10, {"input": 5, "shape": 5})


@pytest.mark.real
def test_a_caller_posts_to_a_robot_on_the_wall_clock(tmp_path: Path) -> None:
    with Runner(demo_schedule(tmp_path, emulator=True), posts=True) as robot:
        for _ in range(100):
            frame = robot.next(BOUND_S, newest=True)
            if frame["joints"].sequence < 0:  # a loaded machine's first frames
                continue
            assert robot.post(frame, {"arm": frame["joints"].value["position"]}) is None
    assert robot.summary is not None
    assert robot.summary["policy"]["commands"] > 0


@pytest.mark.real
def test_the_readmes_example_and_echo_follow_a_running_robot(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    path = demo_schedule(tmp_path, emulator=True, gateway=True)
    endpoint = f"ipc://{tmp_path}/frames"
    code = example[1].replace("ipc:///tmp/inphase-demo/frames", endpoint)
    with Runner(path) as robot:
        shown = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=3 * BOUND_S,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr
        assert "FRESH" in shown.stdout
        name = Path(robot.store_path).name.split(".")[0]
        for where in (name, endpoint):
            done = inphase("echo", where, "--json", "-n", "2", "--sensor", "wrench")
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            assert len(lines) == 2, done.stderr
            assert list(lines[0]["sensors"]) == ["wrench"]
        with subscribe(endpoint, transport="zmq") as frames:
            assert frames.next(BOUND_S)["joints"].value["position"].shape == (6,)
    assert robot.summary is not None
    assert robot.summary["stopped"]["reason"] == "request"


def test_importing_inphase_imports_nothing_heavy() -> None:
    code = (
        "import inphase, sys; print([m for m in ('numpy', 'zmq', 'rich', 'click', 'cffi', "
        "'msgspec', 'serial', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real
def test_a_policy_that_prints_a_lot_holds_nothing_up_and_leaves_stdout_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "talk.py").write_text(
        "def talk(frame):\n"
        "    print('x' * 4096)\n"
        "    joints = frame['joints']\n"
        "    return joints.value['position'].copy() if joints.sequence >= 0 else None\n"
    )
    path = demo_schedule(tmp_path, emulator=True, policy="talk.py:talk")
    result = summary_of(str(path), "--cycles", "200")
    assert result["policy"]["commands"] > 40  # a pipe that nobody reads holds 16 of these


@pytest.mark.real
def test_ctrl_c_in_a_terminal_ramps_the_robot_and_leaves_the_others_to_it(tmp_path: Path) -> None:
    """A terminal sends it to all of the foreground's processes, and the devices are needed for
    the ramp."""
    path = demo_schedule(tmp_path, emulator=True)
    command = [sys.executable, "-m", "inphase", "run", str(path), "--json"]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    robot = re.search(r'name = "(.*)"', path.read_text())
    assert robot is not None
    for _ in range(100):
        done = inphase("echo", robot[1], "-n", "20", "--json")
        if done.returncode == 0:
            break
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    out, error = run.communicate(timeout=3 * BOUND_S)
    assert run.returncode == 128 + signal.SIGINT, error
    result = json.loads(out)
    assert (result["stopped"]["reason"], result["stopped"]["detail"]) == ("signal", "SIGINT")
    assert (result["events"], result["lost_devices"]) == ([], 0)


@pytest.mark.real
@pytest.mark.parametrize("form", ["--json", ""])
@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [("| true", 7, "Broken pipe"), ("> /dev/full", 7, "No space left"), ("<&- >&- 2>&-", 7, "")],
)
def test_whoever_reads_the_summary_or_not_the_exit_code_is_the_runs(
    tmp_path: Path, form: str, ends: str, code: int, said: str
) -> None:
    """Here that of a policy that ended. A standard stream that is closed is no device's number."""
    (tmp_path / "quitter.py").write_text("import os\n\ndef call(frame):\n    os._exit(3)\n")
    path = demo_schedule(tmp_path, policy="quitter.py:call", emulator=True)
    command = f"{sys.executable} -m inphase run {path} --cycles 100 {form} {ends}"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("ends", "code"), [("| true", 0), ("> /dev/full", 1), ("<&- >&- 2>&-", 0)])
def test_a_run_that_went_well_ends_with_1_where_its_summary_is_lost(
    tmp_path: Path, ends: str, code: int
) -> None:
    path = demo_schedule(tmp_path)
    command = f"{sys.executable} -m inphase run --lockstep {path} --cycles 20 --json {ends}"
    script = f"{command}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == code, done.stderr


def test_of_very_many_events_the_newest_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    runtime = Runtime(load(demo_schedule(tmp_path)), RunOptions(), said.append)
    for number in range(2500):
        runtime.events.tell(f"event {number}")
    assert len(said) == 2500
    assert runtime.events.kept[0] == "1500 earlier events were left out"
    assert (runtime.events.kept[1:], len(runtime.events.kept)) == (said[1500:], 1001)


@pytest.mark.real
@pytest.mark.long
def test_lock_step_says_that_a_policy_does_not_return(tmp_path: Path) -> None:
    """Virtual time stands still, which is right; a person is told, and ^C ends it."""
    policy = tmp_path / "stuck.py"
    policy.write_text(
        "import time\n\ndef call(frame):\n    while frame.cycle == 7:\n        time.sleep(0.1)\n"
    )
    path = demo_schedule(tmp_path, policy="stuck.py:call")
    command = [sys.executable, "-m", "inphase", "run", "--lockstep", str(path), "--cycles", "20"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    # the remark on the None that it returns before comes first
    said = next(line for line in run.stderr if "has waited" in line)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=3 * BOUND_S)
    assert re.match(r"lock step has waited \d+ s in cycle 7: the policy.*\^C ends it", said)
    assert run.returncode == 130
