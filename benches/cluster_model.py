"""A training on many workers, simulated event by event from what its parts cost (SimPy).

    python -m benches.cluster_model COSTS.json --workers 10 100 --gigabits 10

A round is what `RolloutWorkers` and `train_ppo.py` do. The learner publishes weights, each
machine fetches them, workers run episodes, their results pass the learner's one network line, the
learner takes in one after the other, and learns when all are there. Lines, cores and the learner
each do one thing at a time, or as many as there are cores.
"""

import argparse
import json
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simpy

AHEAD = 2
"""tasks that `RolloutWorkers` gives a worker at once"""
_SLICE_S = 0.004
"""of a core, where more want it than there are"""
_SEED = 5

Steps = Generator[Any, Any, None]


@dataclass(frozen=True)
class Costs:
    """Of one training's parts, measured; of one core unless it says otherwise."""

    name: str
    sends: str
    """experience or gradients"""
    cycles: int
    """of an episode"""
    episode_s: float
    """a worker's, while no other core of its machine is busy"""
    crowded: float
    """so many times as long while all are busy"""
    spread: float
    """standard deviation of `episode_s`, over it"""
    result_bytes: float
    weights_bytes: float
    receive_s: float
    """the learner's, for each result"""
    choose_s: float
    """the learner's, for each result and each 1000 workers, to find who is to run what"""
    learn_s: float
    """the learner's, for each round"""
    learn_each_s: float
    """the learner's, for each episode of a round"""
    publish_s: float
    """the learner's, for each round"""


@dataclass(frozen=True)
class Cluster:
    """The machines, and how a round is cut for them."""

    workers: int
    cores: int
    """of each machine; a worker on each"""
    episodes: int
    """of a round"""
    is_shared: bool = False
    """one machine has all workers, and the learner as well"""
    left: float = 1.0
    """share of a shared machine's cores that other work leaves"""
    bytes_per_s: float = float("inf")
    """of the learner's network line, each way"""
    delay_s: float = 0.0
    """of a message, one way"""


class Predicted(NamedTuple):
    """What comes of it."""

    cycles_per_s: float
    shares: dict[str, float]
    """of the time, in which learner, network and simulators (the mean of all) were busy"""

    @property
    def bottleneck(self) -> str:
        """The busiest."""
        return max(self.shares, key=self.shares.__getitem__)


class _Machine:
    """Cores that are shared out in slices where more want one than there are."""

    def __init__(self, env: simpy.Environment, cluster: Cluster, crowded: float) -> None:
        self._env, self._cluster, self._crowded = env, cluster, crowded
        self._turns = simpy.Resource(env, capacity=cluster.cores)
        self._wanting = 0

    def run(self, need_s: float) -> Steps:
        """Take so much of a core."""
        if not self._cluster.is_shared:  # a core for each worker, and the others are busy too
            yield self._env.timeout(need_s * self._crowded)
            return
        self._wanting += 1
        while need_s > 0.0:
            part_s = min(need_s, _SLICE_S)
            with self._turns.request() as turn:
                yield turn
                yield self._env.timeout(part_s * self._stretch())
            need_s -= part_s
        self._wanting -= 1

    def _stretch(self) -> float:
        cores = self._cluster.cores
        busy = min(self._wanting, cores)
        crowd = 1.0 + (self._crowded - 1.0) * (busy - 1) / max(1, cores - 1)
        return crowd * max(1.0, busy / (cores * self._cluster.left))


class _Training:
    """The parts, and the time in which each was busy."""

    def __init__(self, costs: Costs, cluster: Cluster) -> None:
        self.costs, self.cluster = costs, cluster
        self.env = simpy.Environment()
        machines = 1 if cluster.is_shared else -(-cluster.workers // cluster.cores)
        self._machines = [_Machine(self.env, cluster, costs.crowded) for _ in range(machines)]
        self._line_in = simpy.Resource(self.env)
        self._line_out = simpy.Resource(self.env)
        self._arrived = simpy.Store(self.env)
        self._draw = np.random.default_rng(_SEED)
        self._tasks = [simpy.Store(self.env) for _ in range(cluster.workers)]
        self._fetched: list[simpy.Event] = []
        self.busy_s = {"learner": 0.0, "network": 0.0, "simulators": 0.0}
        for worker in range(cluster.workers):
            self.env.process(self._work(worker))

    # ---- a worker ------------------------------------------------------------------------------

    def _work(self, worker: int) -> Steps:
        place = worker % len(self._machines)
        shape = 1.0 / max(self.costs.spread, 1e-6) ** 2
        while True:
            yield self._tasks[worker].get()
            yield self._fetched[place]
            began_s = self.env.now
            need_s = self.costs.episode_s * self._draw.gamma(shape, 1.0 / shape)
            yield from self._machines[place].run(need_s)
            self.busy_s["simulators"] += (self.env.now - began_s) / self.cluster.workers
            self.env.process(self._send(worker))

    def _send(self, worker: int) -> Steps:
        yield from self._pass(self._line_in, self.costs.result_bytes)
        self._arrived.put(worker)

    def _pass(self, line: simpy.Resource, size: float) -> Steps:
        """Send so many bytes by the learner's line, after those that wait for it."""
        if self.cluster.is_shared:
            return
        with line.request() as turn:
            yield turn
            took_s = size / self.cluster.bytes_per_s
            self.busy_s["network"] += took_s
            yield self.env.timeout(took_s)
        yield self.env.timeout(self.cluster.delay_s)

    # ---- the learner ---------------------------------------------------------------------------

    def _think(self, need_s: float) -> Steps:
        began_s = self.env.now
        if self.cluster.is_shared:
            yield from self._machines[0].run(need_s)
        else:
            yield self.env.timeout(need_s)
        self.busy_s["learner"] += self.env.now - began_s

    def _fetch(self, fetched: simpy.Event) -> Steps:
        yield from self._pass(self._line_out, self.costs.weights_bytes)
        fetched.succeed()

    def learn(self, rounds: int) -> Steps:
        """All rounds."""
        costs, workers = self.costs, self.cluster.workers
        each_s = costs.receive_s + costs.choose_s * workers / 1000
        for _ in range(rounds):
            yield from self._think(costs.publish_s)
            self._fetched = [self.env.event() for _ in self._machines]
            for one in self._fetched:
                self.env.process(self._fetch(one))
            asked = deque([worker for _ in range(AHEAD) for worker in range(workers)])
            given = 0
            while asked and given < self.cluster.episodes:
                self._tasks[asked.popleft()].put(None)
                given += 1
            for _ in range(self.cluster.episodes):
                worker = yield self._arrived.get()
                yield from self._think(each_s)
                if given < self.cluster.episodes:
                    self._tasks[worker].put(None)
                    given += 1
            yield from self._think(costs.learn_s + costs.learn_each_s * self.cluster.episodes)


def predict(costs: Costs, cluster: Cluster, rounds: int = 3) -> Predicted:
    """Simulate so many rounds."""
    training = _Training(costs, cluster)
    training.env.run(training.env.process(training.learn(rounds)))
    whole_s = training.env.now
    shares = {name: busy_s / whole_s for name, busy_s in training.busy_s.items()}
    return Predicted(rounds * cluster.episodes * costs.cycles / whole_s, shares)


def load(path: Path) -> list[Costs]:
    """The costs that `python -m benches scale` wrote."""
    return [Costs(**one) for one in json.loads(path.read_text())]


def save(path: Path, costs: list[Costs]) -> None:
    """Write them, to be read and changed by a person."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(one) for one in costs], indent=2) + "\n")


def main() -> None:
    """Print what a file of costs leads to."""
    parser = argparse.ArgumentParser(prog="python -m benches.cluster_model", description=__doc__)
    parser.add_argument("costs", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--cores", type=int, default=16, help="of each machine")
    parser.add_argument("--gigabits", type=float, default=10.0, help="of the learner's network")
    parser.add_argument("--each", type=int, default=4, help="episodes per worker in a round")
    asked = parser.parse_args()
    for costs in load(asked.costs):
        for workers in asked.workers:
            cluster = far(workers, asked.cores, asked.gigabits, asked.each)
            print(line(costs, workers, predict(costs, cluster)), flush=True)


def far(workers: int, cores: int, gigabits: float, each: int) -> Cluster:
    """A cluster whose learner has a machine of its own."""
    return Cluster(workers, cores, workers * each, bytes_per_s=gigabits * 125e6, delay_s=100e-6)


def line(costs: Costs, workers: int, found: Predicted) -> str:
    """One prediction, for a person."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found.shares.items())
    return (
        f"  {costs.name}, {costs.sends}, {workers} workers: {found.cycles_per_s:,.0f} cycles/s; "
        f"{found.bottleneck} is the bottleneck ({shares})"
    )


if __name__ == "__main__":
    main()
