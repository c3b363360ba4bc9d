"""schedules/press.toml: a trained network presses on a board that moves, and feels for it."""

import socket
import sys
from pathlib import Path

import numpy as np
import pytest

import inphase
from inphase import Runner, schedule
from inphase.errors import ScheduleError, WorldError
from inphase.plan import plan
from inphase.world.mujoco.package import why_no_images
from peers import BOUND_S, ROOT, free_port

pytest.importorskip("mujoco", reason="a world needs MuJoCo: pip install 'inphase[sim]'")
pytest.importorskip("onnxruntime", reason="a model needs it: pip install 'inphase[onnx]'")
sys.path.insert(0, str(ROOT / "schedules"))

import show_press
from press_task import WANTED_N, pressure, score

SCHEDULES = ROOT / "schedules"
PRESS = SCHEDULES / "press.toml"


@pytest.mark.long
def test_the_network_holds_the_force_and_without_force_it_does_not() -> None:
    seed = 11
    print(f"seed {seed}")
    found = {
        name: show_press.scored(policy, episodes=4, seed=seed, cycles=1750)
        for name, policy in show_press.POLICIES.items()
    }
    print(found)
    assert found["network"].contact == 1.0
    assert found["network"].error_n < 0.8
    assert found["blind"].error_n > 3 * found["network"].error_n
    assert found["held"].error_n > WANTED_N


def test_the_reward_is_what_is_missing_from_the_force() -> None:
    (episode,) = inphase.rollout(
        PRESS, None, episodes=1, seed=3, cycles=900, record=["wrench.force"]
    )
    off = np.abs(pressure(episode.recorded["wrench.force"][1:]) / WANTED_N - 1.0)
    assert episode.reward == pytest.approx(-off.sum())


def test_it_is_small_and_passes_the_check() -> None:
    made = plan.make(schedule.load(PRESS))
    assert made.model is not None
    assert (SCHEDULES / "press.onnx").stat().st_size < 40_000
    assert made.model.inputs[0].mean is not None


def test_what_is_not_on_the_board_scores_what_was_wanted() -> None:
    force = np.zeros((1000, 3))
    force[:, 2] = -pressure(np.zeros(3))
    nothing = score([force])
    assert (nothing.error_n, nothing.contact) == (WANTED_N, 0.0)


@pytest.mark.long
def test_training_gives_the_same_file_again(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="training writes with it: pip install onnx")
    import train_press

    files = [tmp_path / "first.onnx", tmp_path / "second.onnx"]
    for file in files:
        little = "--turns 2 --episodes 2 --cycles 800 --steps 40 --seed 5"
        train_press.main([*little.split(), "--out", str(file)])
    first, second = (file.read_bytes() for file in files)
    assert first == second


def test_the_file_computes_what_was_trained(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="training writes with it: pip install onnx")
    import onnxruntime
    import train_press

    network = train_press.Network.new(3)
    train_press.save(network, tmp_path / "press.onnx")
    inputs = np.random.default_rng(3).standard_normal((1, 27))
    session = onnxruntime.InferenceSession(str(tmp_path / "press.onnx"))
    (action,) = session.run(None, {"obs": inputs.astype(np.float32)})
    position = (inputs * train_press.STD + train_press.MEAN)[:, :6]
    np.testing.assert_allclose(action, position + network.change(inputs), atol=1e-6)


def test_a_runner_in_lock_step_names_the_draws_of_its_episode() -> None:
    episodes = inphase.rollout(PRESS, None, episodes=2, seed=7, cycles=10, workers=1)
    for episode in episodes:
        with Runner(PRESS, lockstep=True, seed=7, episode=episode.number, cycles=10) as robot:
            assert robot.draws == episode.draws
    assert episodes[0].draws != episodes[1].draws


def test_a_picture_is_of_a_world_alone() -> None:
    if why_no_images() is not None:
        pytest.skip(f"no pictures: {why_no_images()}")
    with Runner(PRESS, lockstep=True, cycles=50) as robot:
        before = robot.picture("side", 60, 80)
        frames = [frame.cycle for frame in robot]
        assert (before.shape, before.dtype) == ((60, 80, 3), np.uint8)
        assert not np.array_equal(before, robot.picture("side", 60, 80)), "the arm has moved"
        with pytest.raises(ScheduleError, match="no_such_camera"):
            robot.picture("no_such_camera")
    assert frames == list(range(50))
    with (
        Runner(SCHEDULES / "demo.toml", lockstep=True, cycles=1) as robot,
        pytest.raises(WorldError, match=r"no \[world\]"),
    ):
        robot.picture()


@pytest.mark.real
def test_it_comes_down_on_the_board_in_real_time(tmp_path: Path) -> None:
    name = f"press{free_port(socket.SOCK_STREAM)}"
    text = PRESS.read_text()
    for old, new in (
        ('name = "press"', f'name = "{name}"'),
        ("/tmp/inphase-press/arm", f"{tmp_path}/arm"),
        ("port = 49182", f"port = {free_port(socket.SOCK_DGRAM)}"),
        ("config_port = 8118", f"config_port = {free_port(socket.SOCK_STREAM)}"),
        ("rate_hz = 250", "rate_hz = 250\nresumed_after_ms = 20000\noverrun_limit = 1000000"),
    ):
        assert old in text
        text = text.replace(old, new)
    for file in ("press.xml", "arm.xml", "press.onnx", "press_task.py"):
        (tmp_path / file).write_bytes((SCHEDULES / file).read_bytes())
    path = tmp_path / "press.toml"
    path.write_text(text)
    pressed = 0
    with Runner(path, simulate=True) as robot:
        for frame in robot:
            wrench = frame["wrench"]
            if wrench.status == "FRESH":
                pressed += int(pressure(wrench.value["force"]) > WANTED_N / 2)
            if pressed >= 50 or frame.cycle > BOUND_S * 250:
                break
    assert pressed >= 50
