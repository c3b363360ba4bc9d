"""Jobs: a policy that a user submitted runs on the robot's side, unattended, for some episodes.

A job is checked by `inphase check` in a process of its own. It then waits in the robot's queue like
any user. Once it has the lease, each episode is a policy process of its own, in the sandbox that
every policy has. Episodes are marked in the frames, so that recordings and scores have them.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from inphase.errors import LeaseRefused, ServiceError
from inphase.frames import store
from inphase.host.process import Process, thread_environment
from inphase.policy.words_line import WordsLine
from inphase.service.history import History
from inphase.service.leases import JOB_MARK, LeaseBook, Now
from inphase.service.served_robot import ServedRobot
from inphase.service.uploads import Uploads
from inphase.service.variants import policy_table, variant_text, write_variant

_JOBS = 32  # of a robot, that are not over
_CHECK_S = 120.0
_BETWEEN_S = 2.0
"""from one episode to the next: the robot is at rest then"""
_START_S = 30.0
_ASK_S = 0.5
_JUDGED = ("success", "failure", "discarded")
_WORDS = 5


class JobWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job as it is submitted."""

    sha256: str
    ending: str
    policy: dict[str, Any] = {}
    """how the model is bound: the keys of `[policy]` that are a job's"""
    episodes: int = 1
    seconds: float = 10.0
    """of each episode"""
    success: Literal["nobody", "person"] = "nobody"
    """who says how an episode ended"""

    def check(self) -> None:
        """Raises ServiceError."""
        if not 1 <= self.episodes <= 1000 or not 0.1 <= self.seconds <= 3600:
            raise ServiceError("a job has 1 to 1000 episodes of 0.1 to 3600 seconds each")


class SubmittedJob:
    """One that was submitted."""

    def __init__(self, number: int, user: str, words: JobWords, variant: Path) -> None:
        self.number = number
        self.user = user
        self.words = words
        self.variant = variant
        self.state = "checking"
        self.outcomes: list[str] = []
        self.checker: subprocess.Popen[bytes] | None = None
        self.checked_from_s = 0.0

    @property
    def holder(self) -> str:
        """Its name in the lease book: one user may wait with several jobs."""
        return f"{self.user}{JOB_MARK}{self.number}"


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
    ) -> None:
        """may_begin: says if the lease's recording has begun."""
        self._may_begin = may_begin
        self._robot = robot
        self._book = book
        self._history = history
        self._uploads = Uploads(folder / "uploads")
        self._variants = folder / "variants"
        self._tell = tell
        self._jobs: list[SubmittedJob] = []
        self._episode: JobEpisode | None = None
        self._ending: list[JobEpisode] = []
        self._rests_until_s = 0.0

    # ---- what users ask for ----------------------------------------------------------------

    def submit(self, user: str, words: JobWords, now: Now) -> int:
        """Take a job; its number. Raises ServiceError."""
        words.check()
        model = self._uploads.path(words.sha256, words.ending)
        if model is None:
            raise ServiceError(f"no file {words.sha256}{words.ending} is here; upload it first")
        if len(self._jobs) >= _JOBS:
            raise ServiceError(f"{len(self._jobs)} jobs wait already; submit it again later")
        schedule = self._robot.schedule
        text = variant_text(schedule, policy_table(schedule, model, words.policy))
        packed = msgspec.msgpack.encode(words)
        number = self._history.submitted(self._robot.name, user, now.wall_s, packed)
        folder = self._variants / f"{self._robot.name}-{number}"
        try:
            variant = write_variant(schedule, text, model, folder)
        except OSError as error:
            why = f"{folder} cannot be made: {error.strerror}; the service's owner may see to it"
            self._history.tell_job(number, "failed", why)
            raise ServiceError(why) from error
        self._jobs.append(SubmittedJob(number, user, words, variant))
        self._tell("submitted", robot=self._robot.name, job=number, user=user, file=words.sha256)
        return number

    def cancel(self, user: str, number: int, now: Now) -> None:
        """Take a job back, also while it runs. Raises ServiceError."""
        job = self._find(number)
        if job.user != user:
            raise ServiceError(f"job {number} is not {user}'s")
        self._end(job, "cancelled", "by its user", now)

    def mark(self, number: int, outcome: str) -> None:
        """A person says how the newest episode of a job ended. Raises ServiceError."""
        job = self._find(number)
        if job.words.success != "person" or self._episode is None or job.state != "running":
            raise ServiceError(f"job {number} runs no episode that a person judges")
        if outcome not in _JUDGED:
            raise ServiceError(f"an episode ends with one of {', '.join(_JUDGED)}")
        self._episode.judged = outcome

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
        for episode in [*self._ending]:
            if episode.has_ended():
                self._ending.remove(episode)

    def _check(self, job: SubmittedJob) -> None:
        command = [sys.executable, "-m", "inphase", "check", str(job.variant)]
        job.checker = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(job.variant.parent / "said").open("wb"),
        )
        job.checked_from_s = time.monotonic()

    def _follow_check(self, job: SubmittedJob, now: Now) -> None:
        assert job.checker is not None
        code = job.checker.poll()
        if code is None and time.monotonic() - job.checked_from_s < _CHECK_S:
            return
        if code is None:
            job.checker.kill()
            job.checker.wait()
        if code == 0:
            self._stand(job, "waiting")
            return
        said = (job.variant.parent / "said").read_text(errors="replace").strip()
        lines = [line for line in said.splitlines() if "policy" in line] or said.splitlines()
        why = "; ".join(lines[-_WORDS:]) or f"its check ended with {code}"
        self._end(job, "refused", why[:2000], now)

    def _wait(self, job: SubmittedJob, now: Now) -> None:
        lasts_s = job.words.episodes * (job.words.seconds + _BETWEEN_S + _START_S)
        wanted_s = min(lasts_s, self._book.rules.longest_s)
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
        if self._episode is None:
            self._go_on(job, lease.number, now)
            return
        self._episode.advance(now.run_s)
        if self._episode.is_over:
            self._take_outcome(job, self._episode, now)

    def _go_on(self, job: SubmittedJob, lease: int, now: Now) -> None:
        """Begin the next episode, or end the job, once the robot has come to rest.

        By then frames have told the outcome before, and the recording has it.
        """
        if now.run_s < self._rests_until_s:
            return
        if len(job.outcomes) == job.words.episodes:
            self._end(job, "done", "", now)
        elif self._may_begin():
            self._episode = JobEpisode(self._robot, job, lease, self._robot.wishes())

    def _take_outcome(self, job: SubmittedJob, episode: "JobEpisode", now: Now) -> None:
        said = self._let_go(episode)
        self._rests_until_s = now.run_s + _BETWEEN_S
        if episode.failure:
            self._end(job, "failed", f"{episode.failure} {said}".strip(), now)
            return
        job.outcomes.append(episode.outcome)
        self._stand(job, "running")

    def _let_go(self, episode: "JobEpisode") -> str:
        """End an episode's policy, which takes a moment; what it said."""
        self._episode = None
        self._ending.append(episode)
        return episode.ask_to_end()

    def _stand(self, job: SubmittedJob, state: str, why: str = "") -> None:
        job.state = state
        lease = self._book.lease
        is_its = lease is not None and lease.user == job.holder
        recording = f"{self._robot.name}-{lease.number}" if is_its and lease is not None else ""
        unkept = self._history.tell_job(job.number, state, why, " ".join(job.outcomes), recording)
        if unkept:
            self._tell("unkept", robot=self._robot.name, job=job.number, why=unkept)

    def _end(self, job: SubmittedJob, state: str, why: str, now: Now) -> None:
        if job.checker is not None and job.checker.poll() is None:
            job.checker.kill()
            job.checker.wait()
        if job.state == "running" and self._episode is not None:
            self._let_go(self._episode)
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
        for episode in self._ending:
            episode.close()
        self._ending.clear()


class JobEpisode:
    """One episode: a policy process, from its start to its end. Nothing here waits."""

    def __init__(
        self, robot: ServedRobot, job: SubmittedJob, lease: int, wishes: store.ClientPage
    ) -> None:
        policy = robot.schedule.policy
        self._seconds = job.words.seconds
        self._wishes = wishes
        self._words = WordsLine()
        self._begun_s = 0.0
        self._started_s = time.monotonic()
        self.judged = ""
        """how a person says that it ended"""
        self.outcome = ""
        """how it ended"""
        self.failure = ""
        """why its policy could not go on"""
        fds = [*robot.policy_fds, self._words.theirs]
        arguments = [str(job.variant), robot.path, *map(str, fds), "--lease", str(lease)]
        self._process = Process(
            "policy",
            "inphase.policy",
            arguments,
            pass_fds=fds,
            environment=thread_environment(policy.threads if policy is not None else 1),
            has_scratch=True,
        )
        self._words.close_theirs()

    @property
    def is_over(self) -> bool:
        """True once it has an outcome, or has failed."""
        return bool(self.outcome or self.failure)

    def advance(self, now_s: float) -> None:
        """Let time pass: it begins with its policy, and ends by its time, a person or a failure."""
        how = self._process.ended()
        if how is not None:
            self._mark("failure")
            self.failure = f"the policy ended ({how})"
        elif not self._begun_s:
            self._begin(now_s)
        elif self.judged or now_s - self._begun_s >= self._seconds:
            self.outcome = self.judged or "ended"
            self._mark(self.outcome)

    def _begin(self, now_s: float) -> None:
        if self._process.is_ready():
            self._begun_s = now_s
            self._mark("running")
        elif now_s - self._started_s > _START_S:
            self.failure = f"the policy was not ready within {_START_S:.0f} s"

    def _mark(self, outcome: str) -> None:
        if self._begun_s:
            try:
                self._wishes.episode(outcome)
            except ValueError:
                return  # somebody else marked it

    def ask_to_end(self) -> str:
        """Ask the policy to end; what it said last."""
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
        self._wishes.close()
