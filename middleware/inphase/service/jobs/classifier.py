"""The classifier of a task: a model that gives each frame a score."""

import math

import numpy as np

from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.policy import model_policy
from inphase.policy.command_buffer import CommandBuffer
from inphase.schedule import Schedule
from inphase.schedule.rules.classifier_rules import SCORE, as_policy


class TaskClassifier:
    """True of a frame with which the task is done. Thread: the follower's. Raises ScheduleError.

    It is run on samples that are FRESH or HELD; other frames have no score, and do not count.
    """

    def __init__(self, schedule: Schedule, follower: StoreFollower) -> None:
        described, table = as_policy(schedule), schedule.task.classifier
        assert described is not None and table is not None
        self._threshold, self._frames = table.threshold, table.frames
        binding = model_policy.bound_classifier(described, follower.layout)
        self._model = model_policy.NativeModel(described, binding)
        self._model.follow(follower.reader)
        self._reader = follower.reader
        self._buffer = CommandBuffer(((SCORE, 1, ""),))
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self.best: float | None = None
        """the highest score of the episode; None: no frame had one"""
        self._passed = 0

    def __call__(self, frame: Frame) -> bool:
        """frame: the reader's present one."""
        if self._model.answer(self._reader, frame, self._buffer.pointer) is not None:
            return False
        (score,) = np.frombuffer(self._buffer.tobytes()).tolist()
        if not math.isfinite(score):
            return False
        self.best = score if self.best is None else max(self.best, score)
        self._passed = self._passed + 1 if score >= self._threshold else 0
        return self._passed >= self._frames

    def close(self) -> None:
        """End its session."""
        self._model.close()
