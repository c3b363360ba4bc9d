"""A job as a user submits it, and as it stands."""

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from inphase.client.kinds import JOB_MARK
from inphase.errors import ServiceError


class ResetWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy that brings the robot to where an episode begins."""

    sha256: str = ""
    """of its model; empty: the policy of the robot's own schedule"""
    ending: str = ""
    policy: dict[str, Any] = {}
    """how the model is bound, as in `JobWords`"""
    seconds: float = 10.0


class JobWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job as it is submitted."""

    sha256: str
    ending: str
    policy: dict[str, Any] = {}
    """how the model is bound: the keys of `[policy]` that are a job's"""
    episodes: int = 1
    seconds: float = 10.0
    """of each episode"""
    success: Literal["nobody", "person", "task"] = "nobody"
    """who says how an episode ended; task: what the schedule's `[task]` names"""
    reset: Literal["nobody", "person"] | ResetWords = "nobody"
    """who resets the robot before each episode"""

    def check(self) -> None:
        """Raises ServiceError."""
        spans = [self.seconds]
        if isinstance(self.reset, ResetWords):
            spans.append(self.reset.seconds)
        if not 1 <= self.episodes <= 1000 or not all(0.1 <= one <= 3600 for one in spans):
            raise ServiceError(
                "a job has 1 to 1000 episodes of 0.1 to 3600 seconds each, and so has each reset"
            )


class SubmittedJob:
    """One that was submitted.

    checked: the schedules that are checked before it waits; the first is that of its episodes.
    """

    def __init__(self, number: int, user: str, words: JobWords, checked: Sequence[Path]) -> None:
        self.number = number
        self.user = user
        self.words = words
        self.checked = checked
        self.passed = 0
        """how many of them were found good"""
        self.reset: Path | None = None
        """the schedule whose policy resets the robot"""
        self.state = "checking"
        self.outcomes: list[str] = []
        self.scores: list[float | None] = []
        """of the episodes so far; None: no classifier gave one"""
        self.is_reset = False
        """the next episode may begin"""
        self.waits_for_person = False
        """who resets the robot for it"""
        self.checker: subprocess.Popen[bytes] | None = None
        self.checked_from_s = 0.0

    @property
    def holder(self) -> str:
        """Its name in the lease book: one user may wait with several jobs."""
        return f"{self.user}{JOB_MARK}{self.number}"

    def lasts_s(self, more_s: float) -> float:
        """How long it takes at most, with `more_s` for each start of a policy and rest after it;
        infinite where a person resets."""
        words = self.words
        if words.reset == "person":
            return math.inf
        each_s = words.seconds + more_s
        if isinstance(words.reset, ResetWords):
            each_s += words.reset.seconds + more_s
        return words.episodes * each_s
