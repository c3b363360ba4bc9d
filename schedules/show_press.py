"""How well press.toml does beside what knows less: python schedules/show_press.py

In lock step, over episodes of another seed than those that the network was trained in. From 3 s on,
when the tip is on the board, "blind" is the same network that is told that the force is as wanted,
and "held" the last command, for good. --live SECONDS runs in real time. --picture FILE
draws one episode, and wants: pip install 'inphase[plot]', and for photographs a machine that draws
off screen (EGL).
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import press_truth
from numpy.typing import NDArray
from press_task import SETTLED_CYCLES, WANTED_N, Score, pressure, score

import inphase
from inphase.errors import WorldError, install
from inphase.frame import Frame

HERE = Path(__file__).resolve().parent
CYCLE_S = 0.004
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
        read += [wrench.value["force"], frame.command["arm"].applied]
        inputs = (np.concatenate(read) - self._mean) / self._std
        if is_settled:
            inputs[FORCE] = 0.0  # as wanted
        (action,) = self._session.run(None, {"obs": inputs[None].astype(np.float32)})
        self._last = action[0].astype(np.float64)
        return self._last


POLICIES = {"network": None, "blind": Without("force"), "held": Without("everything")}


def scored(
    policy: Without | None,
    episodes: int,
    seed: int,
    *,
    cycles: int | None = None,
    path: Path = HERE / "press.toml",
) -> Score:
    """How well a policy holds the force; None: the schedule's."""
    run = inphase.rollout(
        path,
        policy,
        episodes=episodes,
        seed=seed,
        cycles=cycles,
        record=["wrench.force"],
    )
    for episode in run:
        assert episode.error is None, episode.error
    return score([episode.recorded["wrench.force"] for episode in run])


def live(seconds: float) -> tuple[Score, float]:
    """In real time, in the world behind the devices' protocols: the score from the first touch on,
    and which share of the wrist's samples was not there in time."""
    fresh, late = [], 0
    with inphase.Runner(HERE / "press.toml", simulate=True) as robot:
        for frame in robot:
            wrench = frame["wrench"]
            late += wrench.status != "FRESH"
            if wrench.status == "FRESH":
                fresh.append(wrench.value["force"].copy())
            if frame.cycle * CYCLE_S > seconds:
                break
    forces = np.array(fresh)
    touched = int(np.argmax(pressure(forces) > WANTED_N / 2))
    return score([forces[touched:]]), late / (late + len(fresh))


# ---- the picture -------------------------------------------------------------------------------

SHOWN_CYCLES = 2000
PHOTOGRAPHED = range(120, SHOWN_CYCLES, 380)


@dataclass
class Shown:
    """One episode: a row per frame, and photographs."""

    time_s: list[float]
    tip_m: list[float]
    board_m: list[float]
    force_n: list[float]
    photographs: list[NDArray[np.uint8]]


def show(policy: Without | None, seed: int, *, photographs: bool = False) -> Shown:
    """Run episode 0 of a seed; without graphics there are no photographs."""
    shown = Shown([], [], [], [], [])
    with tempfile.TemporaryDirectory(prefix="inphase-press-") as folder:
        path = press_truth.write(Path(folder), policy=policy is None)
        if policy is not None:
            policy.reset()
        with inphase.Runner(
            path, policy=policy, cycles=SHOWN_CYCLES, lockstep=True, seed=seed
        ) as robot:
            for frame in robot:
                truth = frame["truth"].value
                shown.time_s.append(frame.cycle * CYCLE_S)
                shown.tip_m.append(float(truth["tip"][2]))
                shown.board_m.append(press_truth.BOARD_M + float(truth["board"].sum()))
                shown.force_n.append(float(truth["touch"][0]))
                if photographs and frame.cycle in PHOTOGRAPHED:
                    with contextlib.suppress(WorldError):
                        shown.photographs.append(robot.picture("side", 300, 300))
    return shown


def draw(path: Path, seed: int) -> None:
    """Write a picture of what the network does, and of the force without."""
    try:
        import matplotlib
        from PIL import Image
    except ImportError as error:
        sys.exit(f"a picture needs {error.name}; {install('matplotlib')}")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    network = show(None, seed, photographs=True)
    blind = show(Without("force"), seed)
    figure, rows = pyplot.subplots(3, 1, figsize=(8, 6.4), height_ratios=[1.1, 1, 1.2])
    rows[0].axis("off")
    if network.photographs:
        side = network.photographs[0].shape[0]
        rows[0].imshow(np.hstack(network.photographs))
        for i, cycle in enumerate(PHOTOGRAPHED):
            rows[0].text(i * side + 8, 30, f"{cycle * CYCLE_S:.1f} s", color="white", fontsize=8)
    rows[1].plot(network.time_s, 100 * np.array(network.board_m), color="tab:blue", label="board")
    rows[1].plot(network.time_s, 100 * np.array(network.tip_m), color="black", lw=0.8, label="tip")
    rows[1].set_ylabel("height, cm")
    rows[2].plot(blind.time_s, blind.force_n, color="tab:orange", lw=0.8, label="blind from 3 s on")
    rows[2].plot(network.time_s, network.force_n, color="black", lw=0.8, label="the network")
    rows[2].axhline(WANTED_N, color="tab:green", ls="--", lw=0.8, label="wanted")
    rows[2].set(ylabel="force, N", xlabel="s", ylim=(0, 25))
    for row in rows[1:]:
        row.legend(loc="upper right", fontsize=8)
        row.set_xlim(0, SHOWN_CYCLES * CYCLE_S)
        row.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    if path.suffix == ".png":
        Image.open(path).convert("RGB").quantize(48).save(path, optimize=True)  # a third of it


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the scores, or draw."""
    parser = argparse.ArgumentParser(description="hold press.toml against what knows less")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--picture", type=Path, help="draw one episode into this file instead")
    parser.add_argument("--model", type=Path, help="score another network alone")
    parser.add_argument("--live", type=float, metavar="SECONDS", help="run in real time instead")
    args = parser.parse_args(arguments)
    if args.model:
        with tempfile.TemporaryDirectory(prefix="inphase-press-") as folder:
            path = press_truth.write(Path(folder), policy=True)
            shutil.copy(args.model, path.with_name("press.onnx"))
            print(f"{args.model.name} {scored(None, args.episodes, args.seed, path=path)}")
        return
    if args.live:
        found, late = live(args.live)
        print(f"live     {found}; {100 * late:.0f} % of the wrist's samples late")
        return
    if args.picture:
        draw(args.picture, args.seed)
        return
    for name, policy in POLICIES.items():
        print(f"{name:8} {scored(policy, args.episodes, args.seed)}", flush=True)


if __name__ == "__main__":
    main()
