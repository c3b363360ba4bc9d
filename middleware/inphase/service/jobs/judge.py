"""The process that judges the episodes of a job, by the functions of the schedule's `[task]`.

    python -m inphase.service.jobs.judge SCHEDULE STORE WORDS_FD

It looks at the newest frame of the episode that runs, in the sandbox that policies have. It says
`success` once `success` of the task holds, `failure` once `terminated` does. Anything else that it
says is why it cannot judge.
"""

import sys
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
from inphase.service.jobs.job_policy import FAILURE, SUCCESS

_RUNNING = "running"


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


def main() -> None:
    """Entry of the process."""
    path, store_path, fd = sys.argv[1:]
    say = say_to(int(fd))
    try:
        described = schedule.load(Path(path))
        follower = StoreFollower(store_path)
        sandbox.enter(described)  # nothing that the schedule names has run up to here
        names = {SUCCESS: described.task.success, FAILURE: described.task.terminated}
        keys = {SUCCESS: "success", FAILURE: "terminated"}
        judge = TaskJudge(
            {said: task.load(described, keys[said], name) for said, name in names.items() if name}
        )
        process.say_ready()
        while not (said := judge.verdict(follower.next(newest=True))):
            pass
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
