"""Judge the network of push.toml: python schedules/imitate/judge.py [--real N] [--model FILE]

In lock step, and with --real in real time against the emulated arm: how often the puck comes to the
mark within 10 s. The episodes are of a seed that no demonstration had. It wants:
pip install 'inphase[onnx,sim]'
"""

import argparse
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from demonstrator import Demonstrator
from task import is_done

import inphase

HERE = Path(__file__).resolve().parent
CYCLES, RATE_HZ = 500, 50
SEED = 1_000_001
_PAGE = re.compile(r"(?m)^\[page\].*$")
_JOINT = re.compile(r"^world\.joint\.(\w+)\.position$")


class Judged(NamedTuple):
    """The outcome of some episodes."""

    episodes: int
    done: int
    """the puck came to the mark"""
    seconds: float
    """until it did, mean; NaN where it never did"""

    def __str__(self) -> str:
        share = 100 * self.done / self.episodes
        return f"done {self.done} of {self.episodes} ({share:.0f} %), after {self.seconds:.1f} s"


def judged(cycles: Sequence[int | None]) -> Judged:
    """Of the cycles until each was done; None: it was not."""
    took = [one for one in cycles if one is not None]
    seconds = float(np.mean(took)) / RATE_HZ if took else float("nan")
    return Judged(len(cycles), len(took), seconds)


def lockstep(schedule: Path, policy: object, episodes: int, seed: int = SEED) -> Judged:
    """On virtual time; policy None: the schedule's."""
    found = inphase.rollout(schedule, policy, episodes, seed)
    failed = [episode.error for episode in found if episode.error]
    if failed:
        raise RuntimeError(failed[0])
    return judged([one.cycles if one.terminated else None for one in found])


def start(schedule: Path, seed: int, episode: int) -> dict[str, float]:
    """Where an episode begins: the joints of its draws."""
    with inphase.Runner(schedule, lockstep=True, seed=seed, episode=episode) as robot:
        draws = robot.draws
    found = {_JOINT.match(path): value for path, value in draws.items()}
    return {name[1]: float(np.ravel(value)[0]) for name, value in found.items() if name}


def real(schedule: Path, policy: object, episodes: int, seed: int = SEED) -> Judged:
    """In real time, against the emulated arm, from the starts of the lock-step episodes."""
    took: list[int | None] = []
    text = schedule.read_text()
    for episode in range(episodes):
        pose = ", ".join(f"{k} = {v}" for k, v in start(schedule, seed, episode).items())
        path = schedule.with_name("begun.toml")
        begun = _PAGE.sub("", text).replace('keyframe = "home"', f"pose = {{ {pose} }}")
        path.write_text(begun)
        with inphase.Runner(path, policy=policy, simulate=True, cycles=CYCLES) as robot:
            first = None
            done: int | None = None
            for frame in robot:
                if frame["scene"].sequence < 0:
                    continue
                first = frame.cycle if first is None else first
                if is_done(frame):
                    done = frame.cycle - first
                    break
        took.append(done)
        print(f"  episode {episode}: {'not done' if done is None else f'{done / RATE_HZ:.1f} s'}")
    return judged(took)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description="judge the network of push.toml")
    parser.add_argument("--episodes", type=int, default=200, help="in lock step")
    parser.add_argument("--real", type=int, default=0, metavar="N", help="in real time")
    parser.add_argument("--model", type=Path, default=HERE / "push.onnx")
    parser.add_argument("--demonstrator", action="store_true", help="judge the demonstrator too")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="inphase-imitate-") as folder:
        for file in ("push.toml", "push.xml", "task.py"):
            shutil.copy(HERE / file, folder)
        shutil.copy(args.model, Path(folder) / "push.onnx")
        schedule = Path(folder) / "push.toml"
        if args.demonstrator:
            shown = lockstep(schedule, Demonstrator(shakes=False), args.episodes)
            print(f"demonstrator lock step: {shown}", flush=True)
        print(f"network      lock step: {lockstep(schedule, None, args.episodes)}", flush=True)
        if args.real:
            print(f"network      real time: {real(schedule, None, args.real)}", flush=True)


if __name__ == "__main__":
    main()
