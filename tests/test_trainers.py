"""Trainers on our environment and our workers: PPO in one file, stable-baselines3, RLlib;
make trainers-test."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peers import ROOT

pytest.importorskip("torch", reason="PyTorch is not installed: make trainers-test")
gymnasium = pytest.importorskip("gymnasium")
pytestmark = [pytest.mark.real, pytest.mark.long]
ID = "inphase.gym:inphase/Schedule-v0"
SCHEDULE = str(ROOT / "schedules" / "balance.toml")


@pytest.fixture(scope="module")
def ppo() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "schedules"))
    try:
        import train_ppo

        yield train_ppo
    finally:
        sys.path.remove(str(ROOT / "schedules"))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def asked(ppo: Any, *more: str, rounds: int = 2) -> Any:
    given = ["--rounds", str(rounds), "--episodes", "4", "--cycles", "40", *more]
    return ppo.arguments(given)


@pytest.mark.parametrize("sends", ["experience", "gradients"])
def test_the_weights_follow_from_the_seed_and_not_from_the_workers(ppo: Any, sends: str) -> None:
    one = ppo.train(asked(ppo, "--send", sends, "--workers", "1"))
    two = ppo.train(asked(ppo, "--send", sends, "--workers", "2"))
    other = ppo.train(asked(ppo, "--send", sends, "--workers", "1", "--seed", "2"))
    assert same(one, two) and not same(one, other)


@pytest.mark.parametrize("sends", ["experience", "gradients"])
def test_a_training_that_was_broken_off_goes_on_from_its_checkpoint(
    ppo: Any, tmp_path: Path, sends: str
) -> None:
    kept = ("--send", sends, "--workers", "1", "--checkpoint", str(tmp_path / "kept.pt"))
    ppo.train(asked(ppo, *kept, rounds=1))
    on = ppo.train(asked(ppo, *kept, rounds=3))
    assert same(on, ppo.train(asked(ppo, "--send", sends, "--workers", "1", rounds=3)))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.pt"]
    other = {"experience": "gradients", "gradients": "experience"}[sends]
    with pytest.raises(SystemExit, match=f"was trained with --send {sends}"):
        ppo.train(asked(ppo, *kept[2:], "--send", other))


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    ppo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("--workers", "1", "--checkpoint", str(tmp_path / "kept.pt"))
    ppo.train(asked(ppo, *kept, rounds=1))
    before = (tmp_path / "kept.pt").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        ppo.train(asked(ppo, *kept, rounds=2))
    assert (tmp_path / "kept.pt").read_bytes() == before


def test_a_gradient_is_that_of_the_same_experience(ppo: Any) -> None:
    import balance_policy
    import torch

    import inphase

    policy = balance_policy.Balance()
    weights = balance_policy.initial(3) | {"explores": np.array(0), "advantages": np.array([0, 1])}
    policy.load_weights(weights)
    options: dict[str, Any] = {"cycles": 40, "workers": 1, "record": ["reward"]}
    found: list[Any] = []
    with inphase.RolloutWorkers(
        SCHEDULE, policy, 3, reduce=lambda *one: found.append(one) or {}, **options
    ) as workers:
        workers.publish(weights)
        list(workers.run([0]))
        episode, ran = found[0]
        gradient = ppo.gradient(episode, ran)
        part = ppo.judged(ppo.tensors(weights), ppo.experience(episode, ran))
    w = ppo.tensors(weights)
    part["scaled"] = part["advantages"]
    (ppo.loss(w, part) * len(part["actions"])).backward()
    assert int(gradient["steps"]) == len(part["actions"]) > 2
    for name, one in w.items():
        assert torch.equal(one.grad, torch.tensor(gradient[name])), name


def test_stable_baselines3_trains_on_the_environment_as_it_is() -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason="make trainers-test installs it")
    env = gymnasium.make(ID, schedule=SCHEDULE, flat=True)
    model = sb3.PPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, seed=1, device="cpu")
    before = {name: one.clone() for name, one in model.policy.state_dict().items()}
    model.learn(128)
    assert model.num_timesteps == 128
    assert any((one != before[name]).any() for name, one in model.policy.state_dict().items())
    env.close()


def test_rllib_trains_on_the_environment_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="make trainers-test installs it")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps a token there
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    schedule, name = SCHEDULE, ID

    def make(_: Any) -> Any:
        import gymnasium

        return gymnasium.make(name, schedule=schedule, flat=True)

    register_env("balance", make)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        config = PPOConfig().environment("balance").learners(num_learners=0).debugging(seed=1)
        config = config.env_runners(num_env_runners=1, rollout_fragment_length=64)
        config = config.training(train_batch_size=128, minibatch_size=64, num_epochs=1)
        assert config.enable_rl_module_and_learner and config.enable_env_runner_and_connector_v2
        algorithm = config.build_algo()
        result = algorithm.train()
        algorithm.stop()
    finally:
        ray.shutdown()
    assert result["num_env_steps_sampled_lifetime"] >= 128
