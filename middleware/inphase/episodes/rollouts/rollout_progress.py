"""The work done so far, and which of learner, simulators and network holds it up."""

from dataclasses import dataclass

from inphase.episodes.episode import Episode


@dataclass
class RolloutProgress:
    """Counts of all that `RolloutWorkers` gave back, and where its time went."""

    workers: int
    episodes: int = 0
    """that were given back, each number once in a `run`"""
    errors: int = 0
    """of them, with an `error`"""
    again: int = 0
    """that were run again, because a worker had died with them"""
    stale: int = 0
    """that were run again, because their weights were too old"""
    died: int = 0
    """workers that died, and were replaced"""
    hung: int = 0
    """workers that were killed, because their episode did not end"""
    robots_lost: int = 0
    """robots that failed: they get no episode any more"""
    received_bytes: int = 0
    """of arrays in episodes"""
    waited_s: float = 0.0
    """for episodes"""
    held_s: float = 0.0
    """by the caller, between an episode and the next one that it asked for"""
    busy_s: float = 0.0
    """in episodes, of all workers together"""

    def waited(self, seconds: float, episode: Episode) -> None:
        """An episode came, after so long."""
        self.waited_s += seconds
        self.received_bytes += sum(rows.nbytes for rows in episode.recorded.values())

    @property
    def shares(self) -> dict[str, float]:
        """Of the time since the first `run`: in which the learner had an episode, and in which a
        worker simulated, on average. `network` is what neither explains, and the start of workers;
        where both overlap it is told too small."""
        whole = self.waited_s + self.held_s
        if whole == 0.0:
            return {"learner": 0.0, "simulators": 0.0, "network": 0.0}
        learner = self.held_s / whole
        simulators = min(1.0, self.busy_s / (whole * self.workers))
        rest = max(0.0, 1.0 - learner - simulators)
        return {"learner": learner, "simulators": simulators, "network": rest}

    @property
    def bottleneck(self) -> str:
        """The one with the largest share: the one to make faster, or more of."""
        shares = self.shares
        return max(shares, key=shares.__getitem__)
