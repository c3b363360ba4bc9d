"""Train the network of push.toml on demonstrations: python schedules/imitate/train.py demos/*.mcap

Behaviour cloning: the network learns what the arm was made to do in each frame of the recordings.
It sees what the schedule's `inputs` name, and says by how much the command goes on from the one
before. Marked episodes count if they were a success. A recording without marks, as lock step makes
them, is one episode, and counts if the puck came to the mark. It wants:
pip install 'inphase[onnx,record,sim]' onnx torch
"""

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from task import is_done

import inphase
from inphase.frame import Frame

HERE = Path(__file__).resolve().parent
SEEN, JOINTS = 8, 2  # shoulder and elbow, their commands before, puck, mark
APPLIED = slice(2, 4)
LINK_M = 0.25  # both links of the arm
STEP_RAD = 0.02  # of a cycle: what counts as 1
HIDDEN, BATCH = 128, 256
RATE = 2e-3
SHAKEN = (0.005, 0.005, 0.005, 0.005, 0.001, 0.001, 0.001, 0.001)  # rad, m: added in training

Array = NDArray[np.float32]


def seen(frame: Frame) -> Array:
    """The network's input in a frame: (8,)."""
    scene = frame["scene"].value
    parts = [frame["joints"].value["position"], frame.command["arm"].applied]
    return np.concatenate([*parts, scene["puck"], scene["mark"]]).astype(np.float32)


def episodes(recording: inphase.Recording) -> Iterator[list[Frame]]:
    """The frames of each demonstration that did the task."""
    if recording.episodes:
        for one in recording.episodes:
            if one.outcome == "success":
                yield [recording[index] for index in range(one.first, one.stop)]
        return
    frames = list(recording)
    if any(is_done(frame) for frame in frames if frame["scene"].sequence >= 0):
        yield frames


def pairs(frames: Sequence[Frame]) -> tuple[list[Array], list[Array]]:
    """The inputs of frames, and the steps [rad] that their commands were."""
    inputs, steps = [], []
    for frame, after in itertools.pairwise(frames):
        if min(frame["joints"].sequence, frame["scene"].sequence) < 0:
            continue
        here, command = seen(frame), after.command  # a frame carries the act before it
        step = command["arm"].applied.astype(np.float32) - here[APPLIED]
        answers = command.answered_cycle == frame.cycle
        if answers and np.isfinite(here).all() and np.isfinite(step).all():
            inputs.append(here)
            steps.append(step)
    return inputs, steps


def load(paths: Sequence[Path]) -> tuple[Array, Array, int]:
    """Inputs (rows, 8), steps (rows, 2) of all demonstrations, and their number."""
    inputs: list[Array] = []
    steps: list[Array] = []
    count = 0
    for path in paths:
        with inphase.Recording(path) as recording:
            for frames in episodes(recording):
                more = pairs(frames)
                inputs += more[0]
                steps += more[1]
                count += 1
    if not inputs:
        raise SystemExit("no demonstration did the task: record some, and mark them a success")
    return np.stack(inputs), np.stack(steps), count


class Imitator(torch.nn.Module):
    """The command before, and a step that two hidden layers say."""

    def __init__(self, inputs: torch.Tensor) -> None:
        super().__init__()
        known = self.known(inputs)
        self.register_buffer("mean", known.mean(0))
        self.register_buffer("scale", known.std(0) + 1e-3)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(known.shape[1], HIDDEN),
            torch.nn.Tanh(),
            torch.nn.Linear(HIDDEN, HIDDEN),
            torch.nn.Tanh(),
            torch.nn.Linear(HIDDEN, JOINTS),
        )

    @staticmethod
    def known(seen: torch.Tensor) -> torch.Tensor:
        """The inputs, and what follows from them: the puck from the tip, the mark from the puck."""
        angles = torch.stack([seen[:, 0], seen[:, 0] + seen[:, 1]])
        tip = LINK_M * torch.stack([torch.cos(angles).sum(0), torch.sin(angles).sum(0)], 1)
        puck, mark = seen[:, 4:6], seen[:, 6:8]
        return torch.cat([seen, seen[:, APPLIED] - seen[:, :2], tip, puck - tip, mark - puck], 1)

    def step(self, seen: torch.Tensor) -> torch.Tensor:
        """In units of STEP_RAD."""
        found: torch.Tensor = self.layers((self.known(seen) - self.mean) / self.scale)
        return found

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Positions [rad] of what is seen."""
        return seen[:, APPLIED] + STEP_RAD * self.step(seen)


def fit(inputs: Array, steps: Array, passes: int, seed: int) -> Imitator:
    """Adam on the squared error of the step."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # two wait for each other more than they compute
    rows, wanted = torch.tensor(inputs), torch.tensor(steps) / STEP_RAD
    network, shaken = Imitator(rows), torch.tensor(SHAKEN)
    adam = torch.optim.Adam(network.parameters(), lr=RATE)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(adam, passes)
    begun = time.monotonic()
    for turn in range(passes):
        sums = 0.0
        for batch in torch.randperm(len(rows)).split(BATCH):
            near = rows[batch] + shaken * torch.randn(len(batch), SEEN)
            loss = ((network.step(near) - wanted[batch]) ** 2).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            sums += float(loss.detach()) * len(batch)
        slower.step()
        if turn % 20 == 19 or turn == passes - 1:
            spent = time.monotonic() - begun
            print(f"{spent:4.0f} s: pass {turn + 1}, loss {sums / len(rows):.4f}", flush=True)
    return network


def save(network: Imitator, path: Path) -> None:
    """As an ONNX file."""
    network.eval()
    torch.onnx.export(
        network,
        (torch.zeros(1, SEEN),),
        str(path),
        input_names=["seen"],
        output_names=["positions"],
        opset_version=17,
        dynamo=False,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, train, write."""
    parser = argparse.ArgumentParser(description="train the network of push.toml")
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "push.onnx")
    parser.add_argument("--passes", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    inputs, steps, count = load(args.recordings)
    print(f"{count} demonstrations of {len(args.recordings)} recordings, {len(inputs)} frames")
    save(fit(inputs, steps, args.passes, args.seed), args.out)


if __name__ == "__main__":
    main()
