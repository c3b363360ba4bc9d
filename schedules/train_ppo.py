"""Train the network of balance.toml by PPO: python schedules/train_ppo.py

Schulman and others, "Proximal Policy Optimization Algorithms", 2017, with PyTorch. Workers run the
episodes, on this machine or on a Ray cluster (--address), and send one of two things:

- experience: inputs, actions and rewards. The learner makes several steps of each batch.
- gradients: of their own episodes. The learner averages them, and makes one step of each batch.

Each round is written into a checkpoint, whole or not at all; the same command goes on from there.
It wants: pip install 'inphase[sim]' torch
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import inphase

Array = NDArray[Any]

HERE = Path(__file__).resolve().parent
DISCOUNT, TRACE = 0.98, 0.95
CLIP, PASSES, BATCH = 0.2, 6, 512
RATE = {"experience": 3e-3, "gradients": 1e-2}
VALUE_SHARE, SPREAD_SHARE = 0.5, 0.002
NORM_MAX = 1.0
STRIDES = 4, 2
"""of the convolutions of a policy that sees"""
NOT_TRAINED = "explores", "advantages"
"""what goes out beside the weights"""

# ---- in a worker, after each episode -----------------------------------------------------------


def experience(episode: Any, policy: Any) -> dict[str, Array]:
    """The inputs, actions and rewards of an episode: (steps + 1, inputs), (steps,), (steps,); of a
    policy that sees its pictures, too."""
    # up to the frame of the next action: some come without one, where an answer took longer
    sums = np.concatenate([[0.0], np.cumsum(episode.recorded["reward"])])
    taken = np.searchsorted(episode.recorded["cycle"], policy.cycles, side="right")
    steps = len(policy.actions) - 1
    seen = {"pixels": np.array(policy.pixels)} if hasattr(policy, "pixels") else {}
    return {
        **seen,
        "inputs": np.array(policy.inputs, np.float32),
        "actions": np.array(policy.actions[:steps], np.float32),
        "rewards": np.diff(sums[taken]).astype(np.float32),
        "ended": np.array(episode.terminated),
    }


def gradient(episode: Any, policy: Any) -> dict[str, Array]:
    """The gradient of an episode's loss, summed over its steps, and what a batch is scaled by."""
    import torch

    torch.set_num_threads(1)
    weights = tensors(policy.weights)
    part = judged(weights, experience(episode, policy))
    offset, scale = policy.weights["advantages"]
    part["scaled"] = (part["advantages"] - float(offset)) / float(scale)
    (loss(weights, part) * len(part["actions"])).backward()
    found = part["advantages"].double()
    sums = torch.stack([found.sum(), (found**2).sum()]).numpy()
    grown = {name: one.grad.numpy() for name, one in weights.items() if one.grad is not None}
    return {**grown, "sums": sums, "steps": np.array(len(found))}


# ---- the loss ----------------------------------------------------------------------------------


def tensors(weights: Mapping[str, Array]) -> dict[str, Any]:
    """The trained ones, as PyTorch has them; float32."""
    import torch

    names = [name for name in weights if name not in NOT_TRAINED]
    found = {name: torch.tensor(weights[name], dtype=torch.float32) for name in names}
    return {name: one.requires_grad_() for name, one in found.items()}


def look(w: dict[str, Any], pixels: Any) -> Any:
    """The numbers that pairs of pictures (steps, 2, rows, columns) lead to."""
    from torch.nn.functional import conv2d

    image = pixels.float() / 255
    for name, stride in zip(("first", "second"), STRIDES, strict=True):
        image = conv2d(image, w[name], w[f"{name}_b"], stride=stride).relu()
    return (image.flatten(1) @ w["seen"]).tanh()


def network(w: dict[str, Any], seen: Mapping[str, Any]) -> tuple[Any, Any]:
    """The mean of the action, and the value, of each row; as the policies compute it."""
    import torch

    inputs = seen["inputs"]
    if "pixels" in seen:
        inputs = torch.cat([inputs, look(w, seen["pixels"])], 1)
    hidden = torch.tanh(torch.tanh(inputs @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"])
    mean, value = hidden @ w["mean_w"] + w["mean_b"], hidden @ w["value_w"] + w["value_b"]
    return mean.squeeze(-1), value.squeeze(-1)


def likelihood(w: dict[str, Any], mean: Any, actions: Any) -> Any:
    """The logarithm of the density of actions."""
    spread = w["log_spread"].exp()
    return -0.5 * ((actions - mean) / spread) ** 2 - w["log_spread"]


def judged(w: dict[str, Any], seen: Mapping[str, Array]) -> dict[str, Any]:
    """An episode with its advantages and returns (generalised advantage estimation)."""
    import torch

    given = {"inputs": torch.tensor(seen["inputs"])}
    if "pixels" in seen:  # each with the one before
        now = torch.tensor(seen["pixels"])
        given["pixels"] = torch.stack([torch.cat([now[:1], now[:-1]]), now], 1)
    actions, rewards = torch.tensor(seen["actions"]), torch.tensor(seen["rewards"])
    with torch.no_grad():
        mean, values = network(w, given)
        if seen["ended"]:
            values[-1] = 0.0
        before = likelihood(w, mean[:-1], actions)
        errors = rewards + DISCOUNT * values[1:] - values[:-1]
        advantages, later = torch.zeros_like(errors), 0.0
        for step in reversed(range(len(errors))):
            later = errors[step] + DISCOUNT * TRACE * later
            advantages[step] = later
    return {
        **{name: one[:-1] for name, one in given.items()},
        "actions": actions,
        "before": before,
        "advantages": advantages,
        "returns": advantages + values[:-1],
    }


def loss(w: dict[str, Any], part: dict[str, Any]) -> Any:
    """PPO's, mean over the steps: clipped surrogate, value, and entropy."""
    mean, value = network(w, part)
    ratio = (likelihood(w, mean, part["actions"]) - part["before"]).exp()
    gains = part["scaled"]
    surrogate = (ratio * gains).minimum(ratio.clamp(1 - CLIP, 1 + CLIP) * gains).mean()
    off = ((value - part["returns"]) ** 2).mean() / 100
    return -surrogate + VALUE_SHARE * off - SPREAD_SHARE * w["log_spread"].sum()


# ---- the learner -------------------------------------------------------------------------------


class Learner:
    """Weights and Adam's moments; `checkpoint` has all of it after each round."""

    def __init__(
        self, sends: str, weights: Mapping[str, Array], seed: int, checkpoint: Path | None
    ) -> None:
        import torch

        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self._torch, self._sends, self._path = torch, sends, checkpoint
        self.round, self.scale = 0, np.array([0.0, 1.0])
        self.weights = tensors(weights)
        self._adam = torch.optim.Adam(list(self.weights.values()), lr=RATE[sends])
        if checkpoint is not None and checkpoint.exists():
            self._resume(torch.load(checkpoint, weights_only=True))

    def _resume(self, kept: dict[str, Any]) -> None:
        if kept["sends"] != self._sends:
            sys.exit(f"{self._path} was trained with --send {kept['sends']}; go on with that")
        with self._torch.no_grad():
            for name, one in self.weights.items():
                one.copy_(kept["weights"][name])
        self._adam.load_state_dict(kept["adam"])
        self.round, self.scale = kept["round"], kept["scale"].numpy()

    def published(self) -> dict[str, Array]:
        """The weights that workers need for a round, and what goes with them."""
        found = {name: one.detach().numpy().copy() for name, one in self.weights.items()}
        return found | {"explores": np.array(self.round), "advantages": self.scale}

    def learn(self, episodes: Sequence[Any]) -> None:
        """A round of them; the checkpoint is written."""
        if self._sends == "experience":
            self._by_experience([episode.recorded for episode in episodes])
        else:
            self._by_gradients([episode.recorded for episode in episodes])
        self.round += 1
        if self._path is not None:
            self._write(self._path)

    def _by_experience(self, seen: Sequence[Mapping[str, Array]]) -> None:
        torch = self._torch
        parts = [judged(self.weights, one) for one in seen]
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        gains = batch["advantages"]
        batch["scaled"] = (gains - gains.mean()) / (gains.std() + 1e-6)
        order = torch.Generator().manual_seed(self.round)
        for _ in range(PASSES):
            for rows in torch.randperm(len(gains), generator=order).split(BATCH):
                self._adam.zero_grad()
                loss(self.weights, {name: one[rows] for name, one in batch.items()}).backward()
                self._step()

    def _by_gradients(self, found: Sequence[Mapping[str, Array]]) -> None:
        steps = sum(int(one["steps"]) for one in found)
        for name, weight in self.weights.items():
            total = sum(one[name] for one in found)
            weight.grad = self._torch.tensor(total / steps, dtype=self._torch.float32)
        mean, square = sum(one["sums"] for one in found) / steps
        self.scale = np.array([mean, np.sqrt(max(square - mean**2, 1e-6))])
        self._step()

    def _step(self) -> None:
        self._torch.nn.utils.clip_grad_norm_(list(self.weights.values()), NORM_MAX)
        self._adam.step()

    def _write(self, path: Path) -> None:
        """Under another name first: a learner that dies leaves the one before."""
        kept = {
            "sends": self._sends,
            "round": self.round,
            "scale": self._torch.tensor(self.scale),
            "weights": {name: one.detach() for name, one in self.weights.items()},
            "adam": self._adam.state_dict(),
        }
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            self._torch.save(kept, file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)


def policy_of(schedule: Path, seed: int) -> tuple[str, dict[str, Array]]:
    """The schedule's policy by its name, and what `initial` of its file begins with."""
    found = inphase.schedule.load(schedule).policy
    if found is None or found.call is None:
        sys.exit(f"{schedule} has no policy to train: give [policy] call")
    file, _, name = found.call.partition(":")
    path = schedule.resolve().parent / file
    sys.path.insert(0, str(path.parent))
    return f"{path}:{name}", importlib.import_module(path.stem).initial(seed)


def play_round(workers: inphase.RolloutWorkers, learner: Learner, episodes: int) -> list[Any]:
    """Weights out, so many episodes back, and learnt from; the episodes."""
    workers.publish(learner.published())
    at = learner.round * episodes
    # in their order: a sum of floats depends on it
    found = sorted(workers.run(range(at, at + episodes)), key=lambda one: one.number)
    for episode in found:
        if episode.error is not None:
            print(f"left out: {episode.error}", file=sys.stderr)
    learner.learn([one for one in found if one.error is None and one.cycles > 3])
    return found


def train(asked: argparse.Namespace) -> dict[str, Array]:
    """All rounds; the weights, as Balance takes them."""
    policy, weights = policy_of(asked.schedule, asked.seed)
    learner = Learner(asked.send, weights, asked.seed, asked.checkpoint)
    reduce = {"experience": experience, "gradients": gradient}[asked.send]
    with inphase.RolloutWorkers(
        asked.schedule,
        policy,
        asked.seed,
        cycles=asked.cycles,
        workers=asked.workers,
        address=asked.address,
        record=["reward"],
        timeout_s=120.0,
        reduce=f"{HERE / 'train_ppo.py'}:{reduce.__name__}",
    ) as workers:
        while learner.round < asked.rounds:
            began_s = time.perf_counter()
            published = learner.published()
            found = play_round(workers, learner, asked.episodes)
            stood = float(np.mean([one.cycles for one in found]))
            print(
                f"round {learner.round}: stood {stood:.0f} cycles, reward "
                f"{np.mean([one.reward for one in found]):.1f}, "
                f"{time.perf_counter() - began_s:.1f} s, waits for {workers.progress.bottleneck}",
                flush=True,
            )
        out = sum(one.nbytes for one in published.values()) if learner.round else 0
        rounds = max(1, workers.version)
        print(
            f"{asked.send}: {workers.progress.received_bytes / rounds / 1e3:.1f} kB to the learner "
            f"and {out / 1e3:.1f} kB to each machine per round"
        )
    return {name: one.detach().numpy().copy() for name, one in learner.weights.items()}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--schedule", type=Path, default=HERE / "balance.toml")
    parser.add_argument("--send", choices=["experience", "gradients"], default="experience")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--episodes", type=int, default=32, help="of a round")
    parser.add_argument("--cycles", type=int, help="of an episode")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--address", help="of a Ray cluster: auto, local, ray://HOST:10001")
    parser.add_argument("--checkpoint", type=Path, help="written after each round, and read first")
    parser.add_argument("--output", type=Path, help="an .npz file with the weights")
    return parser.parse_args(given)


if __name__ == "__main__":
    asked = arguments()
    trained = train(asked)
    if asked.output is not None:
        np.savez(asked.output, **trained)
