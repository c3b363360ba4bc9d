"""How well press.toml does beside what knows less: python schedules/show_press.py

In lock step, over episodes of another seed than those that the network was trained in. From 3 s on,
when the tip is on the board, "blind" is the same network that is told that the force is as wanted,
and "held" the last command, for good.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from press_task import SETTLED_CYCLES, Score, score

import inphase
from inphase.frame import Frame

HERE = Path(__file__).resolve().parent
FORCE = slice(18, 21)
"""where the force is among what goes into the network"""


class Without:
    """The network of press.onnx, which from 3 s on loses something: the force, or everything."""

    def __init__(self, what: Literal["force", "everything"]) -> None:
        self.what = what

    def reset(self) -> None:
        """A new episode."""
        self._session = onnxruntime.InferenceSession(str(HERE / "press.onnx"))
        told = self._session.get_modelmeta().custom_metadata_map
        self._mean, self._std = (json.loads(told[f"inphase.{n}.obs"]) for n in ("mean", "std"))
        self._last: NDArray[np.float64] | None = None

    def __call__(self, frame: Frame) -> NDArray[np.float64] | None:
        """Positions [rad]."""
        is_settled = frame.cycle >= SETTLED_CYCLES
        if is_settled and self.what == "everything" and self._last is not None:
            return self._last
        joints, wrench = frame["joints"], frame["wrench"]
        if not {joints.status, wrench.status} <= {"FRESH", "HELD", "LATE"}:
            return None
        read = [joints.value[name] for name in ("position", "velocity", "current")]
        inputs = (np.concatenate([*read, wrench.value["force"]]) - self._mean) / self._std
        if is_settled:
            inputs[FORCE] = 0.0  # as wanted
        (action,) = self._session.run(None, {"obs": inputs[None].astype(np.float32)})
        self._last = action[0].astype(np.float64)
        return self._last


POLICIES = {"network": None, "blind": Without("force"), "held": Without("everything")}


def scores(episodes: int, seed: int, cycles: int | None = None) -> dict[str, Score]:
    """How well each of them holds the force."""
    found = {}
    for name, policy in POLICIES.items():
        run = inphase.rollout(
            HERE / "press.toml",
            policy,
            episodes=episodes,
            seed=seed,
            cycles=cycles,
            record=["wrench.force"],
        )
        for episode in run:
            assert episode.error is None, episode.error
        found[name] = score([episode.recorded["wrench.force"] for episode in run])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description="hold press.toml against what knows less")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args(arguments)
    for name, found in scores(args.episodes, args.seed).items():
        print(f"{name:8} {found}")


if __name__ == "__main__":
    main()
