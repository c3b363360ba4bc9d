"""The process that judges the episodes of a job, as the schedule's `[task]` says.

    python -m inphase.service.jobs.judge SCHEDULE STORE WORDS_FD

It looks at the newest frame of the episode that runs, in the sandbox that policies have. It says
`success` once `success` or the classifier of the task holds, `failure` once `terminated` does. With
a classifier it tells the highest score so far, at most ten times a second, and before a verdict.
Anything else that it says is why it cannot judge.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inphase import schedule
from inphase.episodes import task
from inphase.errors import InphaseError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.host import process
from inphase.policy import sandbox
from inphase.policy.words_line import say_to
from inphase.schedule import Schedule
from inphase.service.jobs.classifier import TaskClassifier
from inphase.service.jobs.job_policy import FAILURE, SCORE, SUCCESS

_RUNNING = "running"
_TELL_S = 0.1


class TaskJudge:
    """Judges frame after frame. functions: by what they tell."""

    def __init__(self, functions: dict[str, Callable[[Frame], Any]]) -> None:
        self._functions = functions
        self._is_running = False

    def verdict(self, frame: Frame) -> str:
        """How the episode ended with this frame; empty: it goes on, or none runs."""
        runs = frame.outcome == _RUNNING
        if runs and not self._is_running:
            for function in self._functions.values():
                reset = getattr(function, "reset", None)
                if callable(reset):
                    reset()
        self._is_running = runs
        if not runs:
            return ""
        return next((said for said, holds in self._functions.items() if holds(frame)), "")


class ScoreTeller:
    """Tells the highest score of a classifier; None: there is none, and nothing is told."""

    def __init__(self, classifier: TaskClassifier | None, say: Callable[[str], None]) -> None:
        self._classifier = classifier
        self._say = say
        self._told: float | None = None
        self._told_s = 0.0

    def tell(self, *, at_once: bool) -> None:
        """Tell a score that is new, now or later."""
        best = None if self._classifier is None else self._classifier.best
        if best is None or best == self._told:
            return
        if at_once or time.monotonic() - self._told_s > _TELL_S:
            self._told, self._told_s = best, time.monotonic()
            self._say(f"{SCORE}{best!r}")


def _functions(
    described: Schedule, classifier: TaskClassifier | None
) -> dict[str, Callable[[Frame], Any]]:
    """The functions that judge, by the verdict that each gives. Raises ScheduleError."""
    names = {"success": described.task.success, "terminated": described.task.terminated}
    loaded = {key: task.load(described, key, name) for key, name in names.items() if name}
    told = {"success": SUCCESS, "terminated": FAILURE}
    made = {told[key]: function for key, function in loaded.items()}
    return made if classifier is None else {SUCCESS: classifier, **made}


def main() -> None:
    """Entry of the process."""
    path, store_path, fd = sys.argv[1:]
    say = say_to(int(fd))
    try:
        described = schedule.load(Path(path))
        follower = StoreFollower(store_path)
        sandbox.enter(described)  # nothing that the schedule names has run up to here
        has_one = described.task.classifier is not None
        classifier = TaskClassifier(described, follower) if has_one else None
        judge, score = TaskJudge(_functions(described, classifier)), ScoreTeller(classifier, say)
        process.say_ready()
        while not (said := judge.verdict(follower.next(newest=True))):
            score.tell(at_once=False)
        score.tell(at_once=True)
        say(said)
    except store.Lost:
        return
    except InphaseError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except Exception as error:  # whatever a function of the schedule's raises
        say(f"a function of [task] raised {error!r}")
        sys.exit(1)


if __name__ == "__main__":
    main()
