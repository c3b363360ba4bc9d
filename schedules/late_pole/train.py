"""Train the policies of late_pole.toml: python schedules/late_pole/train.py

Four policies of one kind are trained, each in a world with another idea of time: one that waits
for the policy ("polite"), one with constant latencies ("constant": the medians of a recorded run),
one with the timing model that was fitted to that run ("fitted"), and one with the timing model of
the schedule itself, which no robot tells ("true"). It wants: pip install 'inphase[sim]'.

The search is the cross-entropy method (Rubinstein, "The Cross-Entropy Method for Combinatorial and
Continuous Optimization", 1999): weights are drawn, the best ones say where to draw next.
"""

import argparse
import json
import multiprocessing
import multiprocessing.pool
import os
import re
import shutil
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # two wait for each other more than they compute

import numpy as np
from numpy.typing import NDArray

import inphase
from policy import SIZE, WEIGHTS, Balance

Array = NDArray[np.float64]
HERE = Path(__file__).resolve().parent
FITTED = "fitted-timing.toml"
WORLDS = ("polite", "constant", "fitted", "true")
_ELITE = 0.25
_GUESS = [3.0, 0.0, 0.0, -2.0, 0.1, 0.2, 0.0, 0.0, 0.0]
"""where all searches begin: towards the side to which the pole leans, the more the quicker"""
_NOISE = 0.15  # that the search keeps at first, of a weight
_TIMING = re.compile(r"(?ms)^\[timing\]\n(.*?)(?=^\[randomise\])")


class Trial(NamedTuple):
    """A worker process's orders: the episodes of some weights."""

    schedule: Path
    weights: list[float]
    episodes: int
    seed: int

    def run(self) -> float:
        """Mean reward of an episode; what is 1 a cycle at best."""
        policy = Balance(weights=self.weights)
        found = inphase.rollout(self.schedule, policy, self.episodes, self.seed, workers=1)
        failed = [episode.error for episode in found if episode.error]
        if failed:
            raise RuntimeError(failed[0])
        return float(np.mean([episode.reward for episode in found]))


def constant_timing() -> str:
    """The medians of the fitted timing, and no sample lost, as tables of [timing]."""
    fitted = tomllib.loads((HERE / FITTED).read_text())
    lines = ["[timing]"]
    for name, sensor in fitted["sensors"].items():
        lines.append(f"sensors.{name} = {{ latency_ms = {_median(sensor['latency_ms'])} }}")
    lines.append(f"policy.inference_ms = {_median(fitted['policy']['inference_ms'])}")
    lines.append(f"host.wake_late_ms = {_median(fitted['host']['wake_late_ms'])}")
    return "\n".join(lines) + "\n\n"


def _median(distribution: dict[str, list[list[float]]]) -> float:
    shares, values = np.array(distribution["quantiles"]).T
    return round(float(np.interp(0.5, shares, values)), 3)


def world(name: str, folder: Path) -> Path:
    """late_pole.toml with the idea of time of that name, written into a folder; its path."""
    text = (HERE / "late_pole.toml").read_text()
    for file in ("late_pole.xml", "task.py", "policy.py", "weights.json"):
        shutil.copy(HERE / file, folder)
    if name == "polite":
        text = _TIMING.sub("", text)
    elif name == "fitted":
        shutil.copy(HERE / FITTED, folder)
        text = _TIMING.sub(f'[timing]\nfile = "{FITTED}"\n\n', text)
    elif name == "constant":
        text = _TIMING.sub(constant_timing(), text)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def search(schedule: Path, pool: multiprocessing.pool.Pool, args: argparse.Namespace) -> Array:
    """Weights that do well in a world."""
    random = np.random.default_rng(args.seed)
    mean, spread, begun = np.array(_GUESS), np.ones(SIZE), time.monotonic()
    for turn in range(args.turns):
        drawn = mean + spread * random.standard_normal((args.candidates, SIZE))
        drawn[0] = mean
        trials = [
            Trial(schedule, row.tolist(), args.episodes, args.seed * 1000 + turn) for row in drawn
        ]
        rewards = np.array(pool.map(Trial.run, trials, 1))
        best = drawn[np.argsort(-rewards)[: max(2, int(_ELITE * args.candidates))]]
        mean = best.mean(axis=0)
        spread = best.std(axis=0) + _NOISE * (1 - turn / args.turns)
        print(
            f"{time.monotonic() - begun:4.0f} s: {schedule.stem}, turn {turn}: mean reward "
            f"{rewards.mean():.0f}, best {rewards.max():.0f}, of the mean {rewards[0]:.0f}",
            flush=True,
        )
    return mean


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description="train the policies of late_pole.toml")
    parser.add_argument("worlds", nargs="*", default=WORLDS, help=", ".join(WORLDS))
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=45)
    parser.add_argument("--candidates", type=int, default=24, help="per turn")
    parser.add_argument("--episodes", type=int, default=8, help="per candidate")
    args = parser.parse_args(arguments)
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="inphase-late-pole-") as folder,
        spawn.Pool(len(os.sched_getaffinity(0))) as pool,
    ):
        for name in args.worlds:
            weights = search(world(name, Path(folder)), pool, args)
            found = json.loads(args.out.read_text()) if args.out.exists() else {}
            found[name] = [round(float(one), 4) for one in weights]
            args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
