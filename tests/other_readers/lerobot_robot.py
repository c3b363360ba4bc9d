"""An inphase schedule as LeRobot's robot and teleoperator, by LeRobot's own commands; in
build/lerobot, by `make lerobot-test`.

The emulated SO-101 is recorded while it follows its leader, and the dataset is replayed on it. Then
ACT learns from an exported recording with a camera, and drives the arm of schedules/imitate.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

import inphase
from lerobot_robot_inphase import (
    InphaseLeader,
    InphaseLeaderConfig,
    InphaseRobot,
    InphaseRobotConfig,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = ROOT / "schedules"
BOUND_S = 600
CAMERA = """[device.top]
driver = "simulated"
fields = { image = { shape = [48, 64, 3], dtype = "|u1" } }

[sensor.top]
device = "top"
trigger_us = 0
every = 5
latency_cycles = 4
max_age_ms = 2_000

[actuator.arm]
"""


def command(name: str, folder: Path, *options: str) -> str:
    """What one of LeRobot's commands prints. Raises CalledProcessError."""
    given = [str(Path(sys.executable).parent / f"lerobot-{name}"), *options]
    env = os.environ | {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        given, env=env, cwd=folder, timeout=BOUND_S, check=False, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:])
        raise subprocess.CalledProcessError(done.returncode, given)
    return done.stdout + done.stderr


def so101(folder: Path) -> Path:
    """Its schedule, in a folder of its own."""
    text = (SCHEDULES / "so101.toml").read_text().replace("/tmp/inphase-so101", str(folder))
    path = folder / "so101.toml"
    path.write_text(text.replace('name = "so101"', f'name = "{folder.name.lower()}"'))
    return path


def found_by_name() -> None:
    """The name in the metadata is what LeRobot looks for."""
    assert (
        metadata.distribution("lerobot_robot_inphase").metadata["Name"].startswith("lerobot_robot_")
    )
    print("found by name")


def refused(folder: Path) -> None:
    """What is wrong is said with the place and what there is."""
    path = so101(folder)
    other = folder / "chunk.toml"
    other.write_text(path.read_text().replace("[policy]", "[policy]\nchunk = 4"))
    tries = (
        (InphaseRobot, InphaseRobotConfig(schedule=path, observe=["jonts"]), "there are: joints"),
        (InphaseRobot, InphaseRobotConfig(schedule=other), "policy.chunk is for the schedule's"),
        (InphaseLeader, InphaseLeaderConfig(schedule=path, leader="hand"), "no sensor hand"),
    )
    for kind, config, said in tries:
        try:
            kind(config)
        except ValueError as error:
            assert said in str(error), error
        else:
            raise AssertionError(said)
    robot = InphaseRobot(InphaseRobotConfig(schedule=path))
    for call in (robot.get_observation, robot.disconnect, lambda: robot.send_action({})):
        try:
            call()
        except ConnectionError as error:
            assert "not connected" in str(error)
        else:
            raise AssertionError("it is not connected")
    print("refused: 6 mistakes, each by its words")


def recorded_and_replayed(folder: Path) -> None:
    """Two episodes of the arm that follows its leader; one again. Raises AssertionError."""
    so101(folder)
    robot = ["--robot.type=inphase", "--robot.schedule=so101.toml"]
    own = ["--dataset.repo_id=local/follow", "--dataset.root=follow", "--play_sounds=false"]
    command(
        "record",
        folder,
        *robot,
        *own,
        "--robot.observe=[joints.position]",
        "--teleop.type=inphase",
        "--teleop.schedule=so101.toml",
        "--dataset.single_task=follow",
        "--dataset.num_episodes=2",
        "--dataset.episode_time_s=6",
        "--dataset.reset_time_s=1",
        "--dataset.push_to_hub=false",
    )
    rows = LeRobotDataset("local/follow", root=folder / "follow", video_backend="pyav").hf_dataset
    action, state = (np.array(rows[key]) for key in ("action", "observation.state"))
    episode = np.array(rows["episode_index"])
    assert set(episode) == {0, 1} and action.shape == state.shape == (len(rows), 6)
    assert np.ptp(action[:, 0]) > 0.3, "the hand swings the leader by 0.8 rad"
    settled = np.flatnonzero(episode == 1)[10:]
    off = np.abs(action - state)[settled].mean()
    assert off < 0.1, off
    begins = np.abs(state[1] - state[0]).max()
    assert begins < 0.1, "it does not jump"
    said = command("replay", folder, *robot, *own, "--dataset.episode=1")
    assert "Replaying episode" in said
    print(f"recorded and replayed: {len(rows)} rows, {off:.3f} rad between leader and arm")


def shown(folder: Path) -> Path:
    """schedules/imitate with a camera above the table."""
    sys.path.insert(0, str(SCHEDULES / "imitate"))
    import demonstrate

    path = demonstrate.schedule(folder)
    text = path.read_text().replace("[actuator.arm]\n", CAMERA, 1)
    text = text.replace(
        "[world.actuator.arm]", '[world.sensor.top]\ncamera = "top"\n\n[world.actuator.arm]'
    )
    text = text.replace("/tmp/inphase-push", str(folder))
    text = text.replace('name = "push"', f'name = "{folder.name.lower()}"')
    path.write_text(re.sub(r"(?m)^\[page\].*$", "", text))
    return path


def driven_by_a_policy(folder: Path) -> None:
    """ACT of LeRobot learns for three steps from an exported recording, and drives the arm."""
    path = shown(folder)
    inphase_ = [sys.executable, "-m", "inphase"]
    run = ["run", "--lockstep", str(path), "--cycles", "200", "--record", str(folder / "one.mcap")]
    subprocess.run([*inphase_, *run], check=True, capture_output=True, timeout=BOUND_S)
    export = ["export", str(folder / "one.mcap"), str(folder / "shown"), "--format", "lerobot"]
    export += ["--task", "push", "--every", "5", "--complete", "--fill-absent"]
    # without the draws of the episode, which no robot has
    export += ["--state", "joints", "--state", "scene"]
    subprocess.run([*inphase_, *export], check=True, capture_output=True, timeout=BOUND_S)
    train = [sys.executable, str(Path(__file__).with_name("train_lerobot.py"))]
    train += [str(folder / "shown"), str(folder / "policy")]
    env = os.environ | {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(train, check=True, env=env, timeout=BOUND_S)
    said = command(
        "record",
        folder,
        "--robot.type=inphase",
        f"--robot.schedule={path.name}",
        "--robot.simulate=true",
        "--robot.patience_s=20",
        f"--policy.path={folder / 'policy'}",
        "--dataset.repo_id=local/eval_push",
        "--dataset.root=driven",
        "--dataset.single_task=push",
        "--dataset.fps=10",
        "--dataset.num_episodes=1",
        "--dataset.episode_time_s=5",
        "--dataset.push_to_hub=false",
        "--dataset.video=false",
        "--play_sounds=false",
    )
    rows = LeRobotDataset("local/eval_push", root=folder / "driven").hf_dataset
    action = np.array(rows["action"])
    assert "Recording episode 0" in said
    assert len(action) > 10 and np.isfinite(action).all()
    print(f"driven by a policy: {len(action)} rows")


def main() -> None:
    """Print a line for each; exit code 1 where something differs."""
    failures = 0
    cases = (found_by_name, refused, recorded_and_replayed, driven_by_a_policy)
    for case in cases:
        if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
            continue
        folder = Path(tempfile.mkdtemp(prefix="inphase-test-"))
        try:
            case(folder) if case is not found_by_name else case()
        except (AssertionError, KeyError, ValueError, OSError, subprocess.SubprocessError) as error:
            print(f"{case.__name__}: {error!r}")
            failures += 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(bool(failures))


if __name__ == "__main__":
    assert inphase.__version__
    main()
