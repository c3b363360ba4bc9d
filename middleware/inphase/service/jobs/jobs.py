"""Jobs: a policy that a user submitted runs on the robot's side, unattended, for some episodes.

A job is checked by `inphase check` in a process of its own. It then waits in the robot's queue like
any user. Once it has the lease, each episode is a policy process of its own, in the sandbox that
every policy has. Before each, the robot is reset as the job says. Episodes are marked in the
frames, so that recordings and scores have them.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from inphase.errors import LeaseRefused, ServiceError
from inphase.service.history import History
from inphase.service.jobs.job import JobWords, ResetWords, SubmittedJob
from inphase.service.jobs.job_policy import JobEpisode, JobJudge, JobPart, JobReset
from inphase.service.jobs.uploads import Uploads
from inphase.service.jobs.variants import policy_table, variant_text, write_variant
from inphase.service.leases import LeaseBook, Now
from inphase.service.served_robot import ServedRobot

_JOBS = 32  # of a robot, that are not over
_CHECK_S = 120.0
_BETWEEN_S = 2.0
"""from one episode to the next: the robot is at rest then"""
_START_S = 30.0
"""that the start of a policy takes at most"""
_JUDGED = ("success", "failure", "discarded")
_WORDS = 5


class Jobs:
    """The jobs of one robot. Nothing here waits. Thread: the service's."""

    def __init__(
        self,
        robot: ServedRobot,
        book: LeaseBook,
        history: History,
        *,
        folder: Path,
        tell: Callable[..., None],
        may_begin: Callable[[], bool],
        keep_score: Callable[[int, float], None],
    ) -> None:
        """may_begin: says if the lease's recording has begun. keep_score: has that recording keep
        the score of the episode of a number."""
        self._keep_score = keep_score
        self._may_begin = may_begin
        self._robot = robot
        self._book = book
        self._history = history
        self._uploads = Uploads(folder / "uploads")
        self._variants = folder / "variants"
        self._tell = tell
        self._jobs: list[SubmittedJob] = []
        self._part: JobPart | None = None
        """of the job that runs: its episode, or the reset before one"""
        self._judge: JobJudge | None = None
        """of the episode that is to begin"""
        self._ending: list[JobPart] = []
        self._rests_until_s = 0.0

    # ---- what users ask for ----------------------------------------------------------------

    def submit(self, user: str, words: JobWords, now: Now) -> int:
        """Take a job; its number. Raises ServiceError."""
        words.check()
        if len(self._jobs) >= _JOBS:
            raise ServiceError(f"{len(self._jobs)} jobs wait already; submit it again later")
        self._check_hooks(words)
        model = self._model(words.sha256, words.ending)
        text = self._variant_text(model, words.policy)
        reset = words.reset if isinstance(words.reset, ResetWords) else None
        reset_model = self._model(reset.sha256, reset.ending) if reset and reset.sha256 else None
        reset_text = self._variant_text(reset_model, reset.policy) if reset and reset_model else ""
        packed = msgspec.msgpack.encode(words)
        number = self._history.submitted(self._robot.name, user, now.wall_s, packed)
        folder = self._variants / f"{self._robot.name}-{number}"
        schedule = self._robot.schedule
        try:
            checked = [write_variant(schedule, text, model, folder)]
            if reset_model is not None:
                beside = folder.with_name(f"{folder.name}-reset")
                checked.append(write_variant(schedule, reset_text, reset_model, beside))
        except OSError as error:
            what = error.filename2 or error.filename or folder
            why = f"{what} cannot be had: {error.strerror}; the service's owner may see to it"
            self._history.tell_job(number, "failed", why)
            raise ServiceError(why) from error
        job = SubmittedJob(number, user, words, checked)
        if reset is not None:
            job.reset = checked[-1] if reset_model is not None else schedule.path
        self._jobs.append(job)
        self._tell("submitted", robot=self._robot.name, job=number, user=user, file=words.sha256)
        return number

    def _check_hooks(self, words: JobWords) -> None:
        """Refuse a judge or a reset that the robot's schedule lacks. Raises ServiceError."""
        schedule = self._robot.schedule
        if words.success == "task" and not (schedule.task.success or schedule.task.classifier):
            raise ServiceError(
                f"the schedule of {schedule.name} does not say when a task is done; its owner "
                f"writes [task] success or classifier, or a job says success = person"
            )
        own = isinstance(words.reset, ResetWords) and not words.reset.sha256
        if own and schedule.policy is None:
            raise ServiceError(
                f"the schedule of {schedule.name} has no policy of its own that resets it; upload "
                f"one, or a job says reset = person"
            )

    def _model(self, sha256: str, ending: str) -> Path:
        """A file that was uploaded. Raises ServiceError."""
        model = self._uploads.path(sha256, ending)
        if model is None:
            raise ServiceError(f"no file {sha256}{ending} is here; upload it first")
        return model

    def _variant_text(self, model: Path, policy: dict[str, Any]) -> str:
        schedule = self._robot.schedule
        return variant_text(schedule, policy_table(schedule, model, policy))

    def cancel(self, user: str, number: int, now: Now) -> None:
        """Take a job back, also while it runs. Raises ServiceError."""
        job = self._find(number)
        if job.user != user:
            raise ServiceError(f"job {number} is not {user}'s")
        self._end(job, "cancelled", "by its user", now)

    def mark(self, number: int, outcome: str) -> None:
        """A person says how the newest episode of a job ended. Raises ServiceError."""
        job = self._find(number)
        part = self._part if job.state == "running" else None
        if job.words.success != "person" or not isinstance(part, JobEpisode):
            raise ServiceError(f"job {number} runs no episode that a person judges")
        if outcome not in _JUDGED:
            raise ServiceError(f"an episode ends with one of {', '.join(_JUDGED)}")
        part.judged = outcome

    def reset(self, number: int) -> None:
        """A person has reset the robot, so that the next episode may begin. Raises ServiceError."""
        job = self._find(number)
        if not job.waits_for_person:
            raise ServiceError(f"job {number} does not wait for a person")
        job.is_reset, job.waits_for_person = True, False
        self._stand(job, "running")

    def _find(self, number: int) -> SubmittedJob:
        for job in self._jobs:
            if job.number == number:
                return job
        raise ServiceError(f"{self._robot.name} has no job {number} that is not over")

    # ---- time ------------------------------------------------------------------------------

    def advance(self, now: Now) -> None:
        """Look after all jobs: the checks, the queue, and the one that runs."""
        for job in [*self._jobs]:
            if job.state == "checking" and job.checker is None:
                if not any(one.checker and one.state == "checking" for one in self._jobs):
                    self._check(job)  # one at a time: each takes a core, and memory
            elif job.state == "checking":
                self._follow_check(job, now)
            elif job.state == "waiting":
                self._wait(job, now)
            elif job.state == "running":
                self._run(job, now)
        for part in [*self._ending]:
            if part.has_ended():
                self._ending.remove(part)

    def _check(self, job: SubmittedJob) -> None:
        command = [sys.executable, "-m", "inphase", "check", str(job.checked[job.passed])]
        job.checker = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said(job).open("wb"),
        )
        job.checked_from_s = time.monotonic()

    @staticmethod
    def _said(job: SubmittedJob) -> Path:
        """The file of what the check of the present schedule says."""
        return job.checked[job.passed].parent / "said"

    def _follow_check(self, job: SubmittedJob, now: Now) -> None:
        assert job.checker is not None
        code = job.checker.poll()
        if code is None and time.monotonic() - job.checked_from_s < _CHECK_S:
            return
        if code is None:
            job.checker.kill()
            job.checker.wait()
        if code == 0:
            job.passed += 1
            job.checker = None
            if job.passed == len(job.checked):
                self._stand(job, "waiting")
            return
        said = self._said(job).read_text(errors="replace").strip()
        lines = [line for line in said.splitlines() if "policy" in line] or said.splitlines()
        why = "; ".join(lines[-_WORDS:]) or f"its check ended with {code}"
        self._end(job, "refused", why[:2000], now)

    def _wait(self, job: SubmittedJob, now: Now) -> None:
        wanted_s = min(job.lasts_s(_BETWEEN_S + _START_S), self._book.rules.longest_s)
        try:
            standing = self._book.request(job.holder, now, wanted_s)
        except LeaseRefused:
            return  # the queue is full: it asks again
        if standing.state == "holds":
            self._stand(job, "running")

    def _run(self, job: SubmittedJob, now: Now) -> None:
        lease = self._book.lease
        if lease is None or lease.user != job.holder:
            self._end(job, "failed", "its lease has ended", now)
            return
        self._book.keep(job.holder, lease.number, lease.token, now)
        if self._part is None:
            self._go_on(job, lease.number, now)
            return
        self._part.advance(now.run_s)
        if self._part.is_over:
            self._take_over(job, self._part, now)

    def _go_on(self, job: SubmittedJob, lease: int, now: Now) -> None:
        """Begin what comes next, or end the job, once the robot has come to rest.

        By then frames have told the outcome before, and the recording has it.
        """
        if now.run_s < self._rests_until_s or not self._may_begin():
            return
        words = job.words
        if len(job.outcomes) == words.episodes:
            self._end(job, "done", "", now)
        elif job.is_reset or words.reset == "nobody":
            self._begin_episode(job, lease, now)
        elif isinstance(words.reset, ResetWords):
            assert job.reset is not None
            self._part = JobReset(self._robot, job.reset, lease, words.reset.seconds)
        elif not job.waits_for_person:
            job.waits_for_person = True
            how = f"inphase jobs {self._robot.name} --reset {job.number}"
            self._stand(job, "running", f"waits until a person has reset the robot: {how}")

    def _begin_episode(self, job: SubmittedJob, lease: int, now: Now) -> None:
        """Its judge is ready before its policy starts, which moves the robot at once."""
        variant = job.checked[0]
        if job.words.success == "task":
            self._judge = self._judge or JobJudge(self._robot, variant)
            self._judge.advance()
            if self._judge.failure:
                self._end(job, "failed", self._judge.failure, now)
                return
            if not self._judge.is_ready:
                return
        job.is_reset = False
        self._part = JobEpisode(self._robot, variant, lease, job.words.seconds, self._judge)
        self._judge = None

    def _take_over(self, job: SubmittedJob, part: JobPart, now: Now) -> None:
        """A part of the job is over."""
        said = self._let_go(part)
        self._rests_until_s = now.run_s + _BETWEEN_S
        if part.failure:
            self._end(job, "failed", f"{part.failure} {said}".strip(), now)
        elif isinstance(part, JobEpisode):
            job.outcomes.append(part.outcome)
            job.scores.append(part.score)
            if part.score is not None:
                self._keep_score(part.number, part.score)
            self._stand(job, "running")
        else:
            job.is_reset = True

    def _let_go(self, part: JobPart) -> str:
        """End a part's policy, which takes a moment; what it said."""
        self._part = None
        self._ending.append(part)
        return part.ask_to_end()

    def _stand(self, job: SubmittedJob, state: str, why: str = "") -> None:
        job.state = state
        lease = self._book.lease
        is_its = lease is not None and lease.user == job.holder
        recording = f"{self._robot.name}-{lease.number}" if is_its and lease is not None else ""
        unkept = self._history.tell_job(
            job.number,
            state,
            why,
            outcomes=" ".join(job.outcomes),
            scores=" ".join("-" if one is None else f"{one:.6g}" for one in job.scores),
            recording=recording,
        )
        if unkept:
            self._tell("unkept", robot=self._robot.name, job=job.number, why=unkept)

    def _end(self, job: SubmittedJob, state: str, why: str, now: Now) -> None:
        if job.checker is not None and job.checker.poll() is None:
            job.checker.kill()
            job.checker.wait()
        if job.state == "running" and self._part is not None:
            self._let_go(self._part)
        if job.state == "running" and self._judge is not None:
            self._judge.close()
            self._judge = None
        self._stand(job, state, why)
        lease = self._book.lease
        if lease is not None and lease.user == job.holder:
            self._book.release(job.holder, lease.number, lease.token, now)
        self._book.leave(job.holder)
        self._jobs.remove(job)
        self._tell("job_ended", robot=self._robot.name, job=job.number, state=state, why=why)

    @property
    def uploads(self) -> Uploads:
        """The files that were sent."""
        return self._uploads

    def close(self, now: Now) -> None:
        """End what runs; jobs that wait are taken up by the next service."""
        for job in [*self._jobs]:
            if job.state == "running":
                self._end(job, "failed", "the service ended", now)
            elif job.checker is not None and job.checker.poll() is None:
                job.checker.kill()
                job.checker.wait()
        for part in self._ending:
            part.close()
        self._ending.clear()
