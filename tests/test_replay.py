"""A recording is published again as its robot had it, stepped through, and answered once more."""

import re
import threading
from pathlib import Path
from typing import Any, Literal

import msgpack
import numpy as np
import pytest
import zmq
from click.testing import CliRunner

import inphase
from inphase.command.cli import cli
from inphase.errors import RecordingError, StoreError
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.recording.recorder_process import RecorderOptions
from inphase.recording.recording import Recording
from inphase.replay.command_differences import Difference
from inphase.replay.comparison import compare
from inphase.replay.player import Player, place_of
from inphase.replay.publishing import Publisher
from inphase.testing.comparison import assert_same_frames
from peers import ROOT
from recorded_runs import ODD, record
from robots import demo_schedule
from test_recording_files import record as record_by_steps

CYCLES = 120
WAVE = f"{ROOT}/schedules/demo_policy.py:Wave"
OTHER = """
import numpy as np

def policy(frame):
    if frame.cycle == 7:
        return None
    return np.full(6, 0.25) if frame.cycle == 11 else frame["joints"]["position"]
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the demo robot, with its gateway's endpoints in a folder of its own."""
    folder = tmp_path_factory.mktemp("replay")
    record(demo_schedule(folder, gateway=True, policy=WAVE), CYCLES, folder / "run.mcap")
    return folder / "run.mcap"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with a camera, and a sensor that never speaks."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.toml").write_text(ODD)
    record(folder / "odd.toml", 60, folder / "run.mcap")
    return folder / "run.mcap"


# ---- the store ---------------------------------------------------------------------------------


def test_readers_of_a_players_store_find_every_frame_and_sample(recorded: Path, odd: Path) -> None:
    for path in (recorded, odd):
        with Recording(path) as recording, Player(recording) as player:
            follower = StoreFollower(player.store.path, from_first=True)
            for place in range(len(recording)):
                player.play(recording[place])
                assert_same_frames([recording[place]], [follower.next(timeout_s=1).copy()])
            assert follower.layout.epoch == player.epoch != recording.layout.epoch
            assert follower.description["replay"] == {"epoch": recording.layout.epoch}
            assert follower.reader.status()["cycle"] == recording[-1].cycle
            follower.close()


def test_a_store_ends_with_its_player(odd: Path) -> None:
    with Recording(odd) as recording:
        player = Player(recording)
        follower = StoreFollower(player.store.path, from_first=True)
        player.play(recording[0])
        player.close()
        assert len([*follower]) == 1
        follower.close()


def test_a_frame_of_another_robot_does_not_fit(recorded: Path, odd: Path) -> None:
    with Recording(recorded) as one, Recording(odd) as other, Player(other) as player:
        with pytest.raises(StoreError, match="does not fit"):
            player.store.publish(one[0].record)
        with pytest.raises(StoreError, match="does not fit"):
            player.store.put_sample(9, 0, b"\0" * 64)


# ---- frame by frame ----------------------------------------------------------------------------


def stepped(path: Path, lines: str, *options: str) -> tuple[list[int], str]:
    """The cycles that are shown, and everything that is said."""
    done = CliRunner().invoke(cli, ["replay", str(path), "--step", *options], input=lines)
    assert done.exit_code == 0, done.output
    return [int(n) for n in re.findall(r"^cycle (\d+)", done.stdout, re.MULTILINE)], done.output


def test_steps_go_on_and_back_and_to_a_cycle(recorded: Path) -> None:
    cycles, said = stepped(recorded, f"\n\nb\n30\nb\n{CYCLES - 1}\n\nx\nq\n5\n", "--at", "11")
    assert cycles == [11, 12, 13, 12, 30, 29, CYCLES - 1]
    assert "that was the last frame" in said and "'x' is no key" in said
    assert said.count("state running") == len(cycles)
    with Recording(recorded) as recording:
        applied = recording[place_of(recording, 12)].command["arm"].applied
    assert f"act of cycle 11: arm  WRITTEN  applied {applied[0]:.4f}" in said


def test_it_begins_with_the_first_frame_and_refuses_one_that_is_not_there(recorded: Path) -> None:
    assert stepped(recorded, "")[0] == [0]
    done = CliRunner().invoke(cli, ["replay", str(recorded), "--at", "5000"])
    assert done.exit_code == 2 and f"has cycles 0 to {CYCLES - 1}" in done.output


# ---- another policy ----------------------------------------------------------------------------


def compared(path: Path, policy: str, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["replay", str(path), "--policy", policy, *options])
    return done.exit_code, done.stdout


def test_the_recorded_policy_asks_for_the_same_to_the_bit(recorded: Path) -> None:
    code, said = compared(recorded, WAVE)
    assert code == 0, said
    assert said.splitlines() == [
        f"{CYCLES - 1} cycles have a recorded command and one of this policy",
        "no value differs",
    ]


def test_another_policy_is_told_by_its_first_and_largest_difference(
    recorded: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text(OTHER)
    with Recording(recorded) as recording:
        asked = {f.command.cycle: f.command["arm"].requested for f in recording}
        held = {f.cycle: f["joints"].value["position"].copy() for f in recording}
        said: list[str] = []
        found = compare(recording, f"{tmp_path}/other.py:policy", 0.001, say=said.append)
    del asked[-1]  # before the first act
    answers = held | {11: np.full(6, 0.25)}
    off = {cycle: np.abs(values - answers[cycle]) for cycle, values in asked.items() if cycle != 7}
    wrong = [cycle for cycle, sizes in off.items() if sizes.max() > 0.001]
    assert (found.compared, found.only_recorded, found.reasons) == (CYCLES - 2, 1, {"silent": 1})
    assert found.differ == len(wrong) > 1
    channel = int(np.argmax(off[wrong[0]] > 0.001))
    assert found.first == Difference(
        wrong[0], "arm", channel, asked[wrong[0]][channel], answers[wrong[0]][channel]
    )
    assert found.largest is not None and found.largest.cycle == 11
    assert found.largest.channel == int(np.argmax(off[11]))
    assert len(said) == 1 and "returned None in cycle 7" in said[0]
    code, text = compared(recorded, f"{tmp_path}/other.py:policy", "--tolerance", "0.001")
    assert code == 13 and f"{len(wrong)} differ, first in {found.first}" in text
    assert compared(recorded, f"{tmp_path}/other.py:policy", "--tolerance", "9")[0] == 0


def test_a_policy_that_never_answers_is_no_success(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text("def policy(frame):\n    return None\n")
    code, said = compared(recorded, f"{tmp_path}/mute.py:policy")
    assert code == 13 and "nothing could be compared" in said


# ---- answers of several commands -----------------------------------------------------------------

REACH = """
import os
import numpy as np

def reach(frame):
    \"\"\"Eight commands along a wave, from where the robot is.\"\"\"
    cycles = frame.cycle + 4 + np.arange(8)
    step = float(os.environ.get("STEP", "0")) if frame.cycle >= 80 else 0.0
    here = frame["joints"]["position"] if frame["joints"].sequence >= 0 else np.zeros(6)
    return here + 0.002 * np.sin(0.05 * cycles)[:, None] + step

def one(frame):
    return reach(frame)[0]
"""
SLOW = """
[timing]
policy.inference_ms = { lognormal = [8.0, 0.4], high = 30.0 }
"""
JOINED = {
    "linear": ("one", 'interpolate = "linear"', ""),
    "switch": ("reach", "chunk = 8", ""),
    "blend": ("reach", 'chunk = 8\njoin = "blend"\nblend_cycles = 3', SLOW),
    "freeze": ("reach", 'chunk = 8\njoin = "freeze"', SLOW),
    "cubic": ("reach", 'chunk = 8\nchunk_every = 2\ninterpolate = "cubic"', SLOW),
}


def record_joined(name: str, folder: Path) -> tuple[Path, str]:
    """A recording of a policy whose answers are joined, and that policy."""
    call, keys, timing = JOINED[name]
    (folder / "reach.py").write_text(REACH)
    policy = f"{folder}/reach.py:{call}"
    schedule = demo_schedule(folder, policy=policy)
    text = schedule.read_text().replace(
        "[policy]", f"[policy]\nevery = 4\nlatency_cycles = 4\n{keys}"
    )
    schedule.write_text(text + timing)
    record(schedule, 400, folder / "run.mcap", seed=5)
    return folder / "run.mcap", policy


@pytest.mark.parametrize("name", JOINED)
def test_answers_that_were_joined_are_joined_again_to_the_bit(name: str, tmp_path: Path) -> None:
    path, policy = record_joined(name, tmp_path)
    with Recording(path) as recording:
        asked = [f.command for f in recording if np.isfinite(f.command["arm"].requested).all()]
        missed = [f.command.cycle for f in recording if "MISSED" in f.command["arm"].flags]
    code, said = compared(path, policy)
    assert code == 0, said
    assert f"{len(asked)} cycles have a recorded command and one of this policy" in said
    assert "no value differs" in said
    assert len(asked) > 200
    if name in ("blend", "freeze"):
        assert len(missed) > 4  # late answers are among them


def test_another_policy_differs_from_its_first_joined_command_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, policy = record_joined("switch", tmp_path)
    with Recording(path) as recording:
        was = {f.command.cycle: f.command["arm"].requested[0] for f in recording}
        monkeypatch.setenv("STEP", "0.25")
        found = compare(recording, policy, say=print)
    assert found.first is not None
    assert (found.first.cycle, found.first.actuator, found.first.channel) == (84, "arm", 0)
    assert found.first.recorded == was[84]
    assert found.first.answered == pytest.approx(was[84] + 0.25)
    assert found.differ == len([cycle for cycle in was if cycle >= 84])
    code, said = compared(path, policy)
    assert code == 13
    assert f"differ, first in cycle 84: arm[0] was {was[84]:.9g}" in said


def test_one_of_several_recorded_files_cannot_be_joined_again(tmp_path: Path) -> None:
    path, policy = record_joined("switch", tmp_path)
    text = next(tmp_path.glob("*.toml"))
    record_by_steps(text, 640, tmp_path / "parts.mcap", RecorderOptions(split_ns=500_000_000))
    with (
        Recording(tmp_path / "parts.2.mcap") as recording,
        pytest.raises(RecordingError, match="does not begin with cycle 0"),
    ):
        compare(recording, policy, say=print)
    assert path.exists()


# ---- published ---------------------------------------------------------------------------------


def follow(
    endpoint: str, transport: Literal["store", "zmq"], frames: list[Frame], ready: Any
) -> None:
    with inphase.subscribe(endpoint, transport=transport) as subscription:
        ready.release()
        frames += [frame.copy() for frame in subscription]


@pytest.mark.real
def test_it_is_followed_as_the_robot_was_from_the_store_and_over_zeromq(recorded: Path) -> None:
    by_store: list[Frame] = []
    by_zmq: list[Frame] = []
    with Recording(recorded) as recording:
        ready = threading.Semaphore(0)
        with Publisher(recording) as publisher:
            assert publisher.gateway is not None and publisher.gateway.control is not None
            endpoint = publisher.gateway.endpoint
            threads = [
                threading.Thread(
                    target=follow, args=(recording.layout.robot, "store", by_store, ready)
                ),
                threading.Thread(target=follow, args=(endpoint, "zmq", by_zmq, ready)),
            ]
            for thread in threads:
                thread.start()
                assert ready.acquire(timeout=20)
            with zmq.Context() as context, context.socket(zmq.REQ) as asks:
                asks.connect(publisher.gateway.control)
                asks.send(msgpack.packb({"do": "estop", "id": 1}))
                assert "no robot is behind it" in msgpack.unpackb(asks.recv())["error"]
            with pytest.raises(StoreError, match="runs on this host"):
                Publisher(recording)
            assert publisher.run(speed=0.25) == CYCLES  # no queue is full
        for thread in threads:
            thread.join(timeout=20)
        assert_same_frames([*recording], by_store)
        assert_same_frames([*recording], by_zmq)
