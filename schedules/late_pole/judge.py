"""Judge the policies of weights.json: python schedules/late_pole/judge.py [--real N]

In lock step each drives the same episodes under the schedule's own timing, which none of them was
told but the one that is called "true". With --real each drives some episodes in real time, against
the simulated cart and its late tracker. It wants: pip install 'inphase[sim]'.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from task import END_M, FALLEN_RAD

import inphase
from policy import WEIGHTS, Balance

SCHEDULE = Path(__file__).resolve().parent / "late_pole.toml"
_SEED = 1_000_001  # none of the training's
_RATE_HZ, _CYCLES = 50, 500


class Judged(NamedTuple):
    """The outcome of some episodes of 10 s."""

    episodes: int
    stood: float
    """share in which the pole stood to the end"""
    stood_seconds: float
    """mean"""

    def __str__(self) -> str:
        return (
            f"stood to the end in {100 * self.stood:.0f} % of {self.episodes}, "
            f"{self.stood_seconds:.1f} s in the mean"
        )


def lockstep(weights: list[float], episodes: int) -> Judged:
    """Under the timing of the schedule, on virtual time."""
    found = inphase.rollout(SCHEDULE, Balance(weights=weights), episodes, _SEED)
    failed = [episode.error for episode in found if episode.error]
    if failed:
        raise RuntimeError(failed[0])
    cycles = np.array([episode.cycles for episode in found])
    stood = float(np.mean([not episode.terminated for episode in found]))
    return Judged(episodes, stood, float(cycles.mean()) / _RATE_HZ)


def real(weights: list[float], episodes: int, cycles: int) -> Judged:
    """In real time."""
    lasted = []
    for episode in range(episodes):
        with inphase.Runner(
            SCHEDULE,
            policy=Balance(weights=weights),
            simulate=True,
            cycles=cycles,
            seed=_SEED,
            episode=episode,
        ) as robot:
            stood = 0
            for frame in robot:
                truth = frame["truth"].value
                if abs(float(truth["angle"])) > FALLEN_RAD or abs(float(truth["cart"])) > END_M:
                    break
                stood = frame.cycle + 1
        lasted.append(stood)
    return Judged(
        episodes,
        float(np.mean([one >= cycles for one in lasted])),
        float(np.mean(lasted)) / _RATE_HZ,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge all, and print a row for each."""
    parser = argparse.ArgumentParser(description="judge the policies of late_pole.toml")
    parser.add_argument("--episodes", type=int, default=200, help="in lock step")
    parser.add_argument("--real", type=int, default=0, metavar="N", help="in real time")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    args = parser.parse_args(arguments)
    for trained, weights in json.loads(args.weights.read_text()).items():
        print(f"{trained:9} lock step: {lockstep(weights, args.episodes)}", flush=True)
        if args.real:
            print(f"{trained:9} real time: {real(weights, args.real, _CYCLES)}", flush=True)


if __name__ == "__main__":
    main()
