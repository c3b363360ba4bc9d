"""A classifier of the schedule's task: it ends a job's episode, and its score is kept."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inphase import Recording
from inphase.command import check
from inphase.errors import ScheduleError
from inphase.service.history import History
from models import model, node, port, tensor
from peers import until
from robots import demo_schedule
from runtimes import Robot
from serving import APPROACHES, Served
from test_jobs import BOUND, over, write_model

pytest.importorskip("onnxruntime", reason="the package onnxruntime is missing")

REACHED = 0.05
TASK = f"""
[task.classifier]
model = "reached.onnx"
inputs = {{ obs = ["joints.position"] }}
output = "score"
threshold = {REACHED}
frames = 3
"""


def write_classifier(path: Path, *, outputs: int = 1, start: float = 0.0) -> None:
    """A model whose score is how far the first joint is from its start."""
    weights = np.zeros((6, outputs), np.float32)
    weights[0] = 1
    path.write_bytes(
        model(
            [node("MatMul", ["obs", "w"], ["place"]), node("Sub", ["place", "start"], ["score"])],
            [port("obs", "float32", [1, 6])],
            [port("score", "float32", [1, outputs])],
            [tensor("w", weights), tensor("start", np.float32([start]))],
        )
    )


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Robot() as robot:
        start = float(robot.arm()["position"][0])
        robot.folder.joinpath("start").write_text(repr(start))
        write_classifier(robot.folder / "reached.onnx", start=start)
        robot.write(("[policy]\n", f"{TASK}[policy]\n"), APPROACHES)
        with Served(robot, "--grace", "2") as made:
            yield made


@pytest.mark.real
def test_a_classifier_says_when_an_episode_has_succeeded_and_its_score_is_kept(
    served: Served, tmp_path: Path
) -> None:
    start = float(served.robot.folder.joinpath("start").read_text())
    still = write_model(tmp_path / "still.onnx", 0.0)
    creep = write_model(tmp_path / "creep.onnx", 0.002)
    lasts = {still: 1.0, creep: 60.0}
    with served.connect() as robot:
        numbers = [
            robot.submit(path, policy=BOUND, seconds=seconds, success="task")
            for path, seconds in lasts.items()
        ]
        jobs = [over(robot, number) for number in numbers]
    assert [(job["state"], job["outcomes"]) for job in jobs] == [
        ("done", "failure"),
        ("done", "success"),
    ], jobs
    scores = [float(job["scores"]) for job in jobs]
    assert scores[0] < REACHED <= scores[1]

    # the recording has the same score, and it is that of a frame
    for job, score in zip(jobs, scores, strict=True):
        lease = int(job["recording"].rpartition("-")[2])
        path = served.recording(lease)
        until(lambda path=path: f"{path}: " in served.said)  # type: ignore[misc]
        with Recording(path) as recording:
            (episode,) = recording.episodes
            assert (episode.outcome, episode.score) == (job["outcomes"], score)
            frames = [recording[at] for at in range(episode.first, episode.stop)]
            at = [frame["joints"].value["position"][0] - start for frame in frames]
        assert min(abs(one - score) for one in at) < 1e-6
        assert score <= max(at) + 1e-6


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("joints.position", "joints.place"), r"task\.classifier\.inputs\.obs\[0\]: no such field"),
        (("joints.position", "jonts.position"), r"inputs\.obs\[0\]: no such sensor"),
        (('"score"', '"done"'), r"task\.classifier\.output: .*it has: 'score'"),
        (("reached.onnx", "none.onnx"), r"task\.classifier\.model: .*none\.onnx"),
        (("inputs = {", "images = { im = {} }\ninputs = {"), r"task\.classifier\.images\.im: no"),
        (("[task.", '[task]\nsuccess = "a.py:done"\n[task.'), r"task\.classifier: .*keep one of"),
    ],
)
def test_what_is_wrong_with_a_classifier_is_told_with_its_key(
    tmp_path: Path, changed: tuple[str, str], told: str
) -> None:
    path = demo_schedule(tmp_path)
    write_classifier(tmp_path / "reached.onnx")
    path.write_text(path.read_text() + TASK)
    check.make(path)
    path.write_text(path.read_text().replace(*changed))
    with pytest.raises(ScheduleError, match=told) as caught:
        check.make(path)
    assert all(fault.line > 0 for fault in caught.value.faults)


def test_a_classifier_has_one_score(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    write_classifier(tmp_path / "reached.onnx", outputs=2)
    path.write_text(path.read_text() + TASK)
    with pytest.raises(ScheduleError, match=r"task\.classifier\.model: .* binds 1 numbers"):
        check.make(path)


def test_a_history_of_before_has_jobs_without_scores(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    made = History(path)
    number = made.submitted("robot", "ann", 1.0, b"")
    made.close()
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE jobs DROP COLUMN scores")
    opened = History(path)
    assert [job["scores"] for job in opened.jobs()] == [""]
    assert opened.tell_job(number, "done", scores="0.5") == ""
    assert [job["scores"] for job in opened.jobs()] == ["0.5"]
    opened.close()
