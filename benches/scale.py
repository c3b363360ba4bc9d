"""Throughput of a training with up to 10 000 workers, predicted from the costs of its parts.

The parts are those of `schedules/train_ppo.py`: an episode in a worker, what the learner takes to
have its result and to learn from it. Each is measured by itself, as CPU time. `cluster_model` puts
them together; its prediction is held against whole trainings with 1, 2 and 4 workers on this
machine, and then made for larger clusters. Needs torch, SimPy and the extra `plot`.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benches.instant import choose_cost
from benches.machine import Options
from inphase import schedule as schedules
from inphase.episodes.rollouts.rollout_workers import RolloutWorkers
from inphase.schedule import Schedule

_SCHEDULES = Path(__file__).parent.parent / "schedules"
COSTS = Path(__file__).parent.parent / "build" / "benches" / "scale.json"
PICTURE = COSTS.with_suffix(".svg")
_EPISODES = 32
_HERE, _FAR = (1, 2, 4), (10, 100, 1000, 10_000)
_CORES, _GIGABITS, _EACH = 16, 10.0, 4
_QUIET, _PATIENCE_S = 0.9, 45.0
"""other work is to leave so much of the cores; after so long the quietest rounds have to do"""
_CPU_S = "cpu_s"
"""among an episode's arrays: the worker's CPU time so far"""
_BUSY = (0, 1, 2, 5, 6, 7)
"""columns of /proc/stat in which a core is not ours to have: user to steal, without idle"""


class _Kind(NamedTuple):
    """A training."""

    name: str
    schedule: str
    policy: str
    sends: str
    cycles: int


_KINDS = (
    _Kind("state", "balance.toml", "balance_policy.py:Balance", "experience", 200),
    _Kind("state", "balance.toml", "balance_policy.py:Balance", "gradients", 200),
    _Kind("images", "seen_pole/seen.toml", "seen_pole/seen_policy.py:Seen", "experience", 100),
    _Kind("images", "seen_pole/seen.toml", "seen_pole/seen_policy.py:Seen", "gradients", 100),
)


def run(options: Options) -> list[dict[str, Any]]:
    """Costs, the sizes that run here, and those that do not."""
    missing = [name for name in ("torch", "simpy", "matplotlib") if util.find_spec(name) is None]
    if missing:
        print(f"  left out: it wants {', '.join(missing)}: pip install {' '.join(missing)}")
        return []
    from benches import cluster_model  # of SimPy

    choose_s = choose_cost(options.many(2000, 50))
    print(f"  to choose who runs what: {choose_s * 1e6:.0f} us per result and 1000 workers")
    costs, results = [], []
    for kind in _KINDS:
        one = _costs(kind, options, choose_s)
        costs.append(one)
        print(f"  {kind.name}, {kind.sends}: {one}", flush=True)
    cluster_model.save(COSTS, costs)
    for kind, one in zip(_KINDS, costs, strict=True):
        measured = [_measure(kind, workers, one, options) for workers in _HERE]
        found = []
        for workers in _FAR if not options.smoke else _FAR[:1]:
            cluster = cluster_model.far(workers, _CORES, _GIGABITS, _EACH)
            predicted = cluster_model.predict(one, cluster)
            print(cluster_model.line(one, workers, predicted), flush=True)
            found.append({"workers": workers, **_row(predicted)})
        results.append({"name": f"{kind.name}, {kind.sends}", "here": measured, "predicted": found})
    from benches import scale_picture

    scale_picture.draw(results, PICTURE)
    print(f"  {COSTS} and {PICTURE}")
    return results


def _row(predicted: Any) -> dict[str, Any]:
    return {
        "cycles_per_s": predicted.cycles_per_s,
        "shares": predicted.shares,
        "bottleneck": predicted.bottleneck,
    }


# ---- the parts -----------------------------------------------------------------------------------


def trainer() -> Any:
    """The module of `schedules/train_ppo.py`."""
    if str(_SCHEDULES) not in sys.path:
        sys.path.insert(0, str(_SCHEDULES))
    import train_ppo

    return train_ppo


def _learner(kind: _Kind) -> Any:
    _, weights = trainer().policy_of(_SCHEDULES / kind.schedule, 1)
    return trainer().Learner(kind.sends, weights, 1, None)


def experience(episode: Any, policy: Any) -> Mapping[str, NDArray[Any]]:
    """The trainer's, and the worker's CPU time."""
    made = trainer().experience(episode, policy)
    return {**made, _CPU_S: np.array(time.process_time())}


def gradients(episode: Any, policy: Any) -> Mapping[str, NDArray[Any]]:
    """The trainer's, and the worker's CPU time."""
    made = trainer().gradient(episode, policy)
    return {**made, _CPU_S: np.array(time.process_time())}


@contextmanager
def _workers(kind: _Kind, many: int, options: Options) -> Iterator[RolloutWorkers]:
    """As the trainer has them, for episodes that all have the same length."""
    loaded: Schedule = schedules.load(_SCHEDULES / kind.schedule)
    lasting = replace(loaded, task=replace(loaded.task, terminated=None))
    with RolloutWorkers(
        lasting,
        str(_SCHEDULES / kind.policy),
        1,
        cycles=options.many(kind.cycles, 20),
        workers=many,
        record=["reward"],
        timeout_s=120.0,
        reduce={"experience": experience, "gradients": gradients}[kind.sends],
    ) as workers:
        yield workers


def _costs(kind: _Kind, options: Options, choose_s: float) -> Any:
    """Of each part by itself; a worker alone, and one per core."""
    from benches.cluster_model import Costs

    episodes, learner = options.many(_EPISODES, 4), _learner(kind)
    weights, cores = learner.published(), len(os.sched_getaffinity(0))
    took: dict[int, NDArray[np.float64]] = {}
    received: list[float] = []
    found: list[Any] = []
    with _workers(kind, 1, options) as one, _workers(kind, cores, options) as all_cores:
        numbers = count()
        for workers in (one, all_cores):
            _wake(workers, weights, numbers)
        for _ in range(options.many(5, 1)):
            for workers in (one, all_cores):
                began_s = time.process_time()
                found = list(workers.run([next(numbers) for _ in range(episodes)]))
                received.append((time.process_time() - began_s) / episodes)
                before = took.get(workers.count, np.empty(0))
                took[workers.count] = np.concatenate([before, _between(found)])
    few, many = (_learning(learner, found, n) for n in (episodes // 2, episodes))
    alone, crowded = took[1], took[cores]
    each_s = max(0.0, (many - few) / (episodes - episodes // 2))
    low, middle, high = np.quantile(alone, [0.16, 0.5, 0.84])
    return Costs(
        kind.name,
        kind.sends,
        options.many(kind.cycles, 20),
        float(middle),
        max(1.0, float(np.median(crowded) / middle)),
        float((high - low) / 2 / middle),
        float(sum(rows.nbytes for rows in found[-1].recorded.values())),
        float(sum(one.nbytes for one in weights.values())),
        float(np.median(received)),
        choose_s,
        max(0.0, many - each_s * episodes),
        each_s,
        _publishing(kind, weights, options),
    )


def _wake(workers: RolloutWorkers, weights: Any, numbers: Iterator[int]) -> None:
    """Have an episode of each: worlds and networks are made in its first one."""
    workers.publish(weights)
    awake: set[str] = set()
    while len(awake) < workers.count:
        awake |= {one.worker for one in workers.run([next(numbers), next(numbers)])}


def _between(found: list[Any]) -> NDArray[np.float64]:
    """The CPU time of a worker from one episode to its next."""
    by_worker: dict[str, list[float]] = {}
    for episode in found:
        by_worker.setdefault(episode.worker, []).append(float(episode.recorded[_CPU_S]))
    return np.concatenate([np.diff(sorted(times)) for times in by_worker.values()])


def _learning(learner: Any, found: list[Any], many: int) -> float:
    """The learner's CPU time for so many episodes."""
    times = []
    for _ in range(5):
        began_s = time.process_time()
        learner.learn(found[:many])
        times.append(time.process_time() - began_s)
    return float(np.median(times[1:]))


def _publishing(kind: _Kind, weights: Any, options: Options) -> float:
    times = []
    with _workers(kind, 1, options) as workers:
        for _ in range(20):
            began_s = time.process_time()
            workers.publish(weights)
            times.append(time.process_time() - began_s)
    return float(np.median(times))


# ---- whole trainings on this machine -----------------------------------------------------------


def _measure(kind: _Kind, many: int, costs: Any, options: Options) -> dict[str, Any]:
    """A training with so many workers, and its prediction with the cores that were left to it."""
    from benches.cluster_model import Cluster, line, predict

    ppo, cores, wanted = trainer(), len(os.sched_getaffinity(0)), options.many(9, 1)
    episodes = options.many(_EPISODES, 4)
    with _workers(kind, many, options) as workers:
        learner = _learner(kind)
        _wake(workers, learner.published(), count(10**6))
        until_s, rounds = time.monotonic() + _PATIENCE_S, []
        while len([left for _, left in rounds if left >= _QUIET]) < wanted:
            if len(rounds) >= wanted and time.monotonic() > until_s:
                break
            watch = _Watch()
            ppo.play_round(workers, learner, episodes)
            rounds.append(watch.end())
    quietest = sorted(rounds, key=lambda one: one[1])[-wanted:]
    took_s, left = np.median(quietest, axis=0)
    rate = episodes * costs.cycles / took_s
    predicted = predict(costs, Cluster(many, cores, episodes, is_shared=True, left=left))
    off = predicted.cycles_per_s / rate - 1
    print(
        f"{line(costs, many, predicted)}; measured {rate:,.0f}, off by {off:+.1%}, {left:.0%} left"
    )
    return {"workers": many, "measured": rate, "left": left, "off": off, **_row(predicted)}


class _Watch:
    """Wall time, and the share of all cores that was idle or ours in it."""

    def __init__(self) -> None:
        self._began_s, self._busy_s, self._ours_s = time.monotonic(), _busy_s(), _ours_s()

    def end(self) -> tuple[float, float]:
        """Seconds, and the share."""
        took_s = time.monotonic() - self._began_s
        others_s = (_busy_s() - self._busy_s) - (_ours_s() - self._ours_s)
        cores = os.cpu_count() or 1
        return took_s, min(1.0, max(0.05, 1.0 - others_s / (took_s * cores)))


def _busy_s() -> float:
    columns = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(columns[place]) for place in _BUSY) / os.sysconf("SC_CLK_TCK")


def _ours_s() -> float:
    """Of this process and its children, as long as they live."""
    import multiprocessing

    found = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found
