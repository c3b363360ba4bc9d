"""Steps of many environments in one call of C, where every frame of each is given.

Each gives what it would give alone. The steps of a world that Python renders, and an episode's
first one, go another way (gym_vector.py).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from inphase.core.batch import Batch, BatchWork
from inphase.core.core import Core
from inphase.core.own_frames import OwnFrames
from inphase.episodes import observation
from inphase.episodes.clients.client import LockStepClient
from inphase.episodes.gym import Environment
from inphase.episodes.observation import Piece
from inphase.episodes.step_info import StepInfo
from inphase.episodes.stepping.frame_batch import FrameBatch, SampleBatch
from inphase.episodes.task import TaskRun, is_batched
from inphase.frames.frame import Frame

_NEVER = np.iinfo(np.int64).max

Rewards = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Stepped(NamedTuple):
    """One step of all environments."""

    observed: Any
    """arrays with a row per environment"""
    rewards: Rewards
    terminated: Bools
    truncated: Bools
    """by the [task], or because motion is latched"""
    infos: Callable[[], list[dict[str, Any]]]
    """a dict per environment, made by the call"""
    cycle: NDArray[np.int64]


class _Seat(NamedTuple):
    """An environment that takes part, and what a step looks at."""

    client: LockStepClient
    plain: Any
    """its `turn`, while a step is a turn of one call"""
    core: Core
    follower: OwnFrames
    infos: StepInfo
    task: TaskRun

    @property
    def is_ready(self) -> bool:
        """True while the episode goes on, past its first turn."""
        return self.client.turn is self.plain and self.core.handle is not None


class BatchSteps:
    """Steps the environments of one schedule together. Thread: one at a time. `close` ends it."""

    def __init__(self, envs: Sequence[Environment], threads: int) -> None:
        """threads: the caller's among them."""
        self._envs = envs
        first = envs[0]
        self._action = first.action_space.shape or ()
        self._count = int(np.prod(self._action))
        self._batch = Batch(threads - 1)
        self._clients = [cast(LockStepClient, env.client) for env in envs]
        self._seats: list[_Seat] = []
        # of the seats, one after the other: a step looks at them
        self._plain: list[Any] = []
        self._cores: list[Core] = []
        self._told: list[tuple[OwnFrames, StepInfo]] = []
        self._none_passed = [(0, 0)] * len(envs)
        self._begun: set[int] = set()
        """sensors that have given a sample in each of these episodes"""
        self._last: NDArray[np.int64]
        """the cycles whose frames are their last ones"""
        self._room: Any
        self._work: BatchWork
        self._looked_at: dict[int, Piece] = {}
        """whole samples of the sensors that a function of many frames has asked for, by number"""
        self._looked_at_new = False

    def _made(self, turns: int, record: int = 0) -> tuple[Any, BatchWork]:
        """Arrays for the observations of so many turns, and the work that fills them."""
        first, rows = self._envs[0], len(self._envs)
        room, pieces = observation.make_room(first.parts, first.is_flat, (turns, rows))
        if record:
            pieces += self._looked_at.values()
        work = BatchWork(turns, rows, self._count, pieces, record)
        work.seat([seat.core for seat in self._seats])
        return room, work

    def _begin_steps(self, record: int) -> None:
        """Room for single steps, with records of so many bytes."""
        self._room, self._work = self._made(1, record)
        self._looked_at_new = False

    @staticmethod
    def fits(env: Environment) -> bool:
        """True for environments that can be stepped so: none of their sensors is rendered."""
        client = env.client
        if not isinstance(client, LockStepClient):
            return False
        world, plan = client.world, client.plan
        return world is None or not any(world.rendered(i) for i in range(len(plan.sensors)))

    def _are_ready(self) -> bool:
        """Take the seats of new episodes; False: a turn of one of them is no single call of C."""
        seats = self._seats
        turns = [client.turn for client in self._clients]
        if seats and turns == self._plain and all([core.handle for core in self._cores]):
            if self._looked_at_new:
                self._begin_steps(self._work.record.shape[1])
            return True
        clients = self._clients
        self._seats = []
        if any(client.plain is None or client.turn is not client.plain for client in clients):
            return False
        seats = [
            _Seat(client, client.plain, client.run.core, client.run.follower, env.infos, env.task)
            for client, env in zip(clients, self._envs, strict=True)
        ]
        sizes = {seat.follower.reader.frame_ring[2] for seat in seats}
        if len(sizes) > 1 or not all(seat.is_ready for seat in seats):
            return False
        self._seats = seats
        self._plain = [seat.plain for seat in seats]
        self._cores = [seat.core for seat in seats]
        self._told = [(seat.follower, seat.infos) for seat in seats]
        self._begun.clear()
        self._begin_steps(sizes.pop())
        last = [seat.task.last for seat in seats]
        self._last = np.array([_NEVER if one is None else one for one in last])
        return True

    def step(self, actions: Any) -> Stepped | None:
        """A step of each; None: it is to be taken the other way.

        Raises what the first environment that failed raises, when all are through.
        """
        shape = (len(self._envs), *self._action)
        if type(actions) is not np.ndarray or actions.shape != shape:
            return None
        if actions.dtype.kind not in "fiu" or not self._are_ready():
            return None
        work, seats = self._work, self._seats
        work.values[0] = actions.reshape(work.values[0].shape)
        work.run(self._batch)
        passed = self._passed(work.number[0].tolist())
        records = work.record.tobytes()
        observed = _copies(self._room)
        task, rows = seats[0].task, len(seats)
        rewards = np.zeros(rows) if task.reward_call is None else None
        terminated = np.zeros(rows, np.bool_) if task.terminated_call is None else None
        if rewards is None or terminated is None:
            rewards, terminated = self._judged(records, observed, rewards, terminated)
        return Stepped(
            observed,
            rewards,
            terminated,
            self._truncated(work)[0],
            partial(_described, seats, records, passed),
            work.cycle[0].copy(),
        )

    def play(self, actions: NDArray[np.float64]) -> tuple[Any, Bools] | None:
        """A step of each per row of actions, (steps, environments, *action); their observations and
        who was truncated, with the same first two dimensions. None, and raises: as `step`."""
        if not self._are_ready():
            return None
        room, work = self._made(len(actions))
        work.values[:] = actions.reshape(work.values.shape)
        work.run(self._batch)
        for seat, number in zip(self._seats, work.number[-1].tolist(), strict=True):
            seat.infos.number = number - 1  # the frames before were given
        self._passed(work.number[-1].tolist())
        return room, self._truncated(work)

    def observed(self, row: int) -> Any:
        """An environment's observation of the last step, as it gives it alone."""
        if isinstance(self._room, dict):
            return {
                sensor: {field: of[0, row].copy() for field, of in fields.items()}
                for sensor, fields in self._room.items()
            }
        return self._room[0, row].copy()

    def _judged(
        self, records: bytes, observed: Any, rewards: Rewards | None, terminated: Bools | None
    ) -> tuple[Rewards, Bools]:
        """Look at the frames: at all of them in one call, or at one after the other. Both are
        given where there is no function for them."""
        task = self._seats[0].task
        if task.is_batched:
            layout = self._seats[0].follower.layout
            batch = FrameBatch(layout, records, len(self._seats), self._samples)
            if rewards is None and is_batched(task.reward_call):
                looks_at = observed if task.reward_observes else batch
                rewards = self._row_each(task.reward_call, looks_at, np.float64)
            if terminated is None and is_batched(task.terminated_call):
                looks_at = observed if task.terminated_observes else batch
                terminated = self._row_each(task.terminated_call, looks_at, np.bool_)
        if rewards is not None and terminated is not None:
            return rewards, terminated
        earned, over, at, size = [], [], 0, len(records) // len(self._seats)
        for _, _, _, follower, _, task in self._seats:
            frame = Frame(follower.layout, records[at : at + size], follower)
            at += size
            if rewards is None:
                earned.append(task.reward(frame))
            if terminated is None:
                over.append(task.terminated(frame))
        return (
            np.array(earned) if rewards is None else rewards,
            np.array(over) if terminated is None else terminated,
        )

    def _row_each(self, call: Any, looks_at: Any, dtype: Any) -> NDArray[Any]:
        """Judge all frames by one call. Raises ValueError for another shape."""
        found = np.array(call(looks_at), dtype)
        if found.shape != (len(self._seats),):
            raise ValueError(
                f"{call!r} is batched: of {len(self._seats)} frames it returns as many values, got "
                f"shape {found.shape}; sum over the last axis alone"
            )
        return found

    def _samples(self, samples: SampleBatch) -> NDArray[Any]:
        """A sensor's samples, copied together by C; when first asked for, one after the other.
        Raises NoSample."""
        sensor = samples.index
        if sensor not in self._begun:
            samples.check_begun()
            self._begun.add(sensor)
        piece = self._looked_at.get(sensor)
        if piece is not None and not self._looked_at_new:
            copied: NDArray[Any] = piece.to[0].copy()
            return copied
        seats = self._seats
        dtype = seats[0].follower.layout.dtypes[sensor]
        if piece is None:
            rows = np.zeros((1, len(seats)), dtype)
            self._looked_at[sensor] = Piece(sensor, 0, np.zeros((), dtype), rows)
            self._looked_at_new = True  # the next step's work has it
        found = np.zeros(len(seats), dtype)
        for row, (seat, sequence) in enumerate(zip(seats, samples.sequence.tolist(), strict=True)):
            found[row] = seat.follower.view(sensor, sequence)
        return found

    def _passed(self, numbers: list[int]) -> list[tuple[int, int]]:
        """Each environment is at its new frame; the commands missed and refused before that."""
        for (follower, infos), number in zip(self._told, numbers, strict=True):
            if number != infos.number + 1:
                break
            follower.newest = infos.number = number
        else:
            return self._none_passed
        return self._passed_some(numbers)

    def _passed_some(self, numbers: list[int]) -> list[tuple[int, int]]:
        """Where one of them passed over frames, or failed; others may be told twice of theirs."""
        passed, failed = [], None
        for seat, number in zip(self._seats, numbers, strict=True):
            infos = seat.infos
            if number < 0:
                failed = failed or seat.client.run
                continue
            seat.follower.newest = number
            if infos.number <= number <= infos.number + 1:
                infos.number = number
                passed.append((0, 0))
            else:
                passed.append(infos.passed())
        if failed is not None:
            failed.refuse_end()
        return passed

    def _truncated(self, work: BatchWork) -> Bools:
        found: Bools = (work.reason != 0) | (work.cycle >= self._last)
        return found

    def close(self) -> None:
        """End its threads."""
        self._batch.close()


def _described(
    seats: list[_Seat], records: bytes, passed: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    size = len(records) // len(seats)
    infos = []
    for row, (seat, (missed, invalid)) in enumerate(zip(seats, passed, strict=True)):
        record = records[row * size : (row + 1) * size]
        facts = seat.infos.unpack(record)
        infos.append(seat.infos.described(record, facts, missed, invalid))
    return infos


def _copies(room: Any) -> Any:
    """The observations of the only turn, as arrays of the caller's own."""
    if isinstance(room, dict):
        return {
            sensor: {field: of[0].copy() for field, of in fields.items()}
            for sensor, fields in room.items()
        }
    return room[0].copy()
