"""The policies of a job that runs: an episode, or a reset before one. Nothing here waits."""

import contextlib
import time
from pathlib import Path
from typing import Protocol

from inphase.host.process import Process, thread_environment
from inphase.policy.words_line import WordsLine
from inphase.service.served_robot import ServedRobot

_START_S = 30.0
_ASK_S = 0.5
_WORDS = 5
SUCCESS, FAILURE = "success", "failure"
SCORE = "score "
"""before a number: what the judge says of the highest score so far"""


class JobPart(Protocol):
    """A part of a job: one policy, or what else it does at a time."""

    failure: str
    """why it could not go on; empty: it can"""

    @property
    def is_over(self) -> bool: ...

    def advance(self, now_s: float) -> None: ...

    def ask_to_end(self) -> str: ...

    def has_ended(self) -> bool: ...

    def close(self) -> None: ...


class JobPolicy:
    """A policy's process under a lease, from its start to its end.

    path: of the schedule whose `[policy]` it runs.
    """

    def __init__(self, robot: ServedRobot, path: Path, lease: int) -> None:
        policy = robot.schedule.policy
        self._words = WordsLine()
        self._started_s = time.monotonic()
        self.begun_s = 0.0
        """0: it is not ready yet"""
        self.failure = ""
        fds = [*robot.policy_fds, self._words.theirs]
        arguments = [str(path), robot.path, *map(str, fds), "--lease", str(lease)]
        self._process = Process(
            "policy",
            "inphase.policy",
            arguments,
            pass_fds=fds,
            environment=thread_environment(policy.threads if policy is not None else 1),
            has_scratch=True,
        )
        self._words.close_theirs()

    def advance(self, now_s: float) -> None:
        """Let time pass."""
        how = self._process.ended()
        if how is not None:
            self.failure = f"the policy ended ({how})"
        elif self.begun_s:
            return
        elif self._process.is_ready():
            self.begun_s = now_s
        elif time.monotonic() - self._started_s > _START_S:
            self.failure = f"the policy was not ready within {_START_S:.0f} s"

    def ask_to_end(self) -> str:
        """Ask it to end; what it said last."""
        self._process.ask_to_end()
        self._asked_s = time.monotonic()
        return "; ".join(self._words.read()[-_WORDS:])

    def has_ended(self) -> bool:
        """True once it has, by itself or made to; everything is let go of then."""
        if self._process.ended() is None and time.monotonic() - self._asked_s < _ASK_S:
            return False
        self.close()
        return True

    def close(self) -> None:
        """End it now."""
        self._process.stop(asked=True)
        self._words.close()


class JobReset(JobPolicy):
    """A policy that brings the robot to where an episode begins, for so many seconds."""

    def __init__(self, robot: ServedRobot, path: Path, lease: int, seconds: float) -> None:
        super().__init__(robot, path, lease)
        self._seconds = seconds
        self.is_over = False

    def advance(self, now_s: float) -> None:
        """Let time pass."""
        super().advance(now_s)
        is_done = self.begun_s and now_s - self.begun_s >= self._seconds
        self.is_over = bool(self.failure or is_done)


class JobJudge:
    """The process that asks the functions of the schedule's `[task]` how an episode ended."""

    def __init__(self, robot: ServedRobot, path: Path) -> None:
        self._words = WordsLine()
        self.verdict = ""
        """success or failure; empty: the episode goes on"""
        self.score: float | None = None
        """the classifier's highest in this episode; None: it has told none"""
        self.failure = ""
        """why it judges no more"""
        self._process = Process(
            "judge",
            "inphase.service.jobs.judge",
            [str(path), robot.path, str(self._words.theirs)],
            pass_fds=[self._words.theirs],
            environment=thread_environment(1),
            has_scratch=True,
        )
        self._words.close_theirs()
        self._started_s = time.monotonic()
        self.is_ready = False
        """it looks at frames"""

    def advance(self) -> None:
        """Hear what it says."""
        how = self._process.ended()  # first: what it said before is there then
        self.is_ready = self.is_ready or (how is None and self._process.is_ready())
        for said in self._words.read():
            if said in (SUCCESS, FAILURE):
                self.verdict = self.verdict or said
            elif said.startswith(SCORE):
                with contextlib.suppress(ValueError):
                    self.score = float(said.removeprefix(SCORE))
            else:
                self.failure = said
        if how is not None and not self.verdict and not self.failure:
            self.failure = f"what judges it ended ({how})"
        if not self.is_ready and time.monotonic() - self._started_s > _START_S:
            self.failure = f"what judges it was not ready within {_START_S:.0f} s"

    def close(self) -> None:
        """End it."""
        self._process.stop()
        self._words.close()


class JobEpisode(JobPolicy):
    """One episode; its outcome is marked in the frames.

    seconds: after which it ends. judge: says how it ends, and is closed with it; None: a person
    may.
    """

    def __init__(
        self, robot: ServedRobot, path: Path, lease: int, seconds: float, judge: JobJudge | None
    ) -> None:
        super().__init__(robot, path, lease)
        self._seconds = seconds
        self._wishes = robot.wishes()
        self._judge = judge
        self._is_marked = False
        self.judged = ""
        """how a person says that it ended"""
        self.number = 0
        """in its run; 0: it has not begun"""
        self.outcome = ""
        """how it ended"""

    @property
    def score(self) -> float | None:
        """The highest score that a classifier gave it; None: none did."""
        return None if self._judge is None else self._judge.score

    @property
    def is_over(self) -> bool:
        """True once it has an outcome, or has failed."""
        return bool(self.outcome or self.failure)

    def advance(self, now_s: float) -> None:
        """Let time pass: it begins with its policy; a judge, its time or a failure end it."""
        super().advance(now_s)
        if self._judge is not None:
            self._judge.advance()
            self.failure = self.failure or self._judge.failure
        if self.failure:
            self._mark(FAILURE)
        elif self.begun_s and not self._is_marked:
            self._mark("running")
        elif self.begun_s and (said := self._said(now_s)):
            self.outcome = said
            self._mark(said)

    def _said(self, now_s: float) -> str:
        """How it ended; empty: it goes on."""
        verdict = "" if self._judge is None else self._judge.verdict
        if self.judged or verdict:
            return self.judged or verdict
        if now_s - self.begun_s < self._seconds:
            return ""
        return "ended" if self._judge is None else FAILURE

    def _mark(self, outcome: str) -> None:
        """Where somebody else marked it, that stays."""
        if self._is_marked or outcome == "running":
            self._is_marked = True
            with contextlib.suppress(ValueError):
                self.number = self._wishes.episode(outcome)

    def close(self) -> None:
        """End it now."""
        super().close()
        if self._judge is not None:
            self._judge.close()
        self._wishes.close()
