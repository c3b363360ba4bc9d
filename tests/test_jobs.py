"""Jobs of a served robot: checked, run in the sandbox, judged, recorded, refused."""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase import Recording
from inphase.client.kinds import PIECE_BYTES
from inphase.client.remote_robot import RemoteRobot
from inphase.errors import LeaseRefused, ServiceError
from inphase.service.jobs.uploads import Uploads
from models import model, node, port, tensor
from peers import until
from runtimes import Robot
from serving import APPROACHES, Served
from test_service_person import AWAY, HANDOVER_CYCLES, LAG, WAY, Commands, lead

BOUND = {"inputs": {"obs": ["joints.position"]}, "outputs": {"act": "arm"}}
pytestmark = pytest.mark.real


def write_model(path: Path, by: float, *, shape: int = 6, padding: int = 0) -> Path:
    """A model that asks for what it sees, and a bit more; padding: bytes that say nothing."""
    path.write_bytes(
        model(
            [node("Add", ["obs", "by"], ["act"])],
            [port("obs", "float32", [1, shape])],
            [port("act", "float32", [1, shape])],
            [tensor("by", np.full((1, shape), by, np.float32))],
            metadata={"padding": "x" * padding},
        )
    )
    return path


DONE = """
class Done:
    def reset(self):
        self.start = None

    def __call__(self, frame):
        at = frame["joints"].value["position"][0]
        self.start = at if self.start is None else self.start
        if at < self.start - 0.02:
            raise ValueError("it goes backwards")
        return at > self.start + 0.02
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Robot() as robot:
        (robot.folder / "done.py").write_text(DONE)
        task = '[task]\nsuccess = "done.py:Done"\n[policy]\n'
        robot.write(("[policy]\n", task), APPROACHES)
        with Served(robot, "--grace", "2") as made:
            yield made


def over(robot: RemoteRobot, number: int) -> dict[str, Any]:
    """A job once it is over."""
    until(lambda: robot.job(number)["state"] not in {"checking", "waiting", "running"})
    return robot.job(number)


def test_a_job_runs_on_the_robots_side_and_leaves_episodes_and_a_recording(
    served: Served, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "creep.onnx", 0.002, padding=3 * PIECE_BYTES)
    sent: list[int] = []
    with served.connect() as robot:
        number = robot.submit(
            path, policy=BOUND, episodes=2, seconds=0.5, watch=lambda here, _: sent.append(here)
        )
        assert sent == sorted(set(sent)) and sent[-1] == path.stat().st_size and len(sent) == 4
        found = over(robot, number)
        assert (found["state"], found["outcomes"]) == ("done", "ended ended"), found
        lease = int(found["recording"].rpartition("-")[2])
        robot.submit(path, policy=BOUND, watch=lambda here, _: sent.append(-here))
        assert sent[-1] == -path.stat().st_size and len(sent) == 5  # it is there already
        robot.cancel_job(number + 1)
        assert robot.job(number + 1)["state"] == "cancelled"
        until(lambda: f"{served.recording(lease)}: " in served.said)
        copy = tmp_path / "copy.mcap"
        robot.fetch(lease, copy)
        with pytest.raises(FileExistsError):
            robot.fetch(lease, copy)
        with pytest.raises(LeaseRefused, match="no recording"):
            robot.fetch(lease + 1000, tmp_path / "none.mcap")
        assert not (tmp_path / "none.mcap").exists()
    with Recording(copy) as recording:
        assert recording.state == "COMPLETE"
        assert [episode.outcome for episode in recording.episodes] == ["ended", "ended"]
        drove = [frame.command.drove for frame in recording]
        assert {frame.command.lease for frame in recording} <= {0, lease}
    assert "policy" in drove and "client" not in drove


def test_a_person_says_how_an_episode_ended(served: Served, tmp_path: Path) -> None:
    path = write_model(tmp_path / "stand.onnx", 0.0)
    with served.connect() as robot:
        number = robot.submit(path, policy=BOUND, episodes=2, seconds=30, success="person")
        for outcome in ("success", "failure"):
            done = len(robot.job(number)["outcomes"].split())

            def marked(outcome: str = outcome) -> bool:
                try:
                    robot.mark(number, outcome)
                except LeaseRefused:
                    return False
                return True

            until(marked)
            until(lambda done=done: len(robot.job(number)["outcomes"].split()) > done)  # type: ignore[misc]
        found = over(robot, number)
    assert (found["state"], found["outcomes"]) == ("done", "success failure")


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (0.002, ("done", "success", "")),
        (0.0, ("done", "failure", "")),
        (-0.002, ("failed", "", "a function of [task] raised ValueError('it goes backwards')")),
    ],
)
def test_a_function_of_the_schedule_says_how_an_episode_ended(
    served: Served, tmp_path: Path, by: float, told: tuple[str, str, str]
) -> None:
    path = write_model(tmp_path / "model.onnx", by)
    with served.connect() as robot:
        found = over(robot, robot.submit(path, policy=BOUND, seconds=2.0, success="task"))
    assert (found["state"], found["outcomes"], found["why"]) == told


@pytest.mark.long
def test_a_policy_resets_the_robot_before_each_episode(served: Served, tmp_path: Path) -> None:
    path = write_model(tmp_path / "stand.onnx", 0.0)
    creep = write_model(tmp_path / "creep.onnx", 0.002)
    with served.connect() as robot:
        own = robot.submit(path, policy=BOUND, seconds=0.3, reset={"seconds": 0.5})
        words = {"policy": BOUND, "seconds": 0.5}
        other = robot.submit(path, policy=BOUND, seconds=0.3, reset=words, reset_model=creep)
        for number in (own, other):
            found = over(robot, number)
            assert (found["state"], found["outcomes"]) == ("done", "ended"), found
            lease = int(found["recording"].rpartition("-")[2])
            until(lambda lease=lease: f"{served.recording(lease)}: " in served.said)  # type: ignore[misc]
            with Recording(served.recording(lease)) as recording:
                frames = list(recording)
                begun = next(i for i, frame in enumerate(frames) if frame.outcome == "running")
                reset = [f for f in frames[:begun] if f.command.drove == "policy"]
                at = [frame["joints"].value["position"][0] for frame in reset]
            assert max(at) - min(at) > 0.01
            assert all(frame.command.drove != "client" for frame in frames)


@pytest.mark.long
def test_an_episode_waits_until_a_person_has_reset_the_robot(
    served: Served, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "stand.onnx", 0.0)
    with served.connect() as robot:
        number = robot.submit(path, policy=BOUND, episodes=2, seconds=0.3, reset="person")
        for done in range(2):
            until(lambda: f"inphase jobs {robot.name} --reset {number}" in robot.job(number)["why"])
            assert len(robot.job(number)["outcomes"].split()) == done
            robot.reset(number)
        found = over(robot, number)
        assert (found["state"], found["outcomes"], found["why"]) == ("done", "ended ended", "")
        with pytest.raises(LeaseRefused, match="no job"):
            robot.reset(number)


def test_a_model_that_does_not_fit_is_refused_before_it_runs(
    served: Served, tmp_path: Path
) -> None:
    with served.connect() as robot:
        wrong = write_model(tmp_path / "wrong.onnx", 0.0, shape=5)
        found = over(robot, robot.submit(wrong, policy=BOUND))
        assert found["state"] == "refused" and "policy" in found["why"]
        garbage = tmp_path / "garbage.onnx"
        garbage.write_bytes(b"\x80\x04" + b"x" * 100)
        found = over(robot, robot.submit(garbage, policy=BOUND))
        assert found["state"] == "refused" and "ONNX" in found["why"]
        with pytest.raises(LeaseRefused, match="a job says nothing of allow"):
            robot.submit(wrong, policy=BOUND | {"allow": ["network"]})
        with pytest.raises(LeaseRefused, match=r"takes no \.safetensors"):
            robot.submit(wrong.rename(tmp_path / "a.safetensors"), policy=BOUND)
        with pytest.raises(LeaseRefused, match="1 to 1000 episodes"):
            robot.submit(garbage, policy=BOUND, episodes=0)
        assert robot.facts["holder"] == ""


def test_a_policy_that_dies_fails_its_job_and_the_robot_stays_up(
    served: Served, tmp_path: Path
) -> None:
    import psutil

    path = write_model(tmp_path / "long.onnx", 0.0)
    with served.connect() as robot:
        number = robot.submit(path, policy=BOUND, seconds=60)

        def killed() -> bool:
            for child in psutil.Process(served.process.pid).children():
                if child.status() == psutil.STATUS_ZOMBIE:
                    continue  # a check that has ended, which has no command line any more
                if "inphase.policy" in child.cmdline() and robot.job(number)["state"] == "running":
                    child.kill()
                    return True
            return False

        until(killed)
        found = over(robot, number)
        assert found["state"] == "failed" and "the policy ended (signal 9)" in found["why"]
        assert robot.request(60).wait(20).number > 0


def test_pieces_of_a_file_follow_each_other_or_change_nothing(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    whole = bytes(range(256)) * 300
    sha256 = hashlib.sha256(whole).hexdigest()

    def put(offset: int, piece: bytes, size: int = 76_800) -> int:
        return uploads.put(sha256, ".onnx", size, offset, piece)

    assert put(0, whole[:1000]) == 1000
    assert put(0, whole[:1000]) == 1000  # sent twice
    assert put(2000, whole[2000:3000]) == 1000  # out of order
    with pytest.raises(ServiceError, match="a piece"):
        put(1000, b"x" * (PIECE_BYTES + 1))
    with pytest.raises(ServiceError, match="at most"):
        put(0, b"", 1 << 40)
    for wrong in ("../../etc/passwd", sha256[:-1], sha256.upper()):
        with pytest.raises(ServiceError, match="SHA-256"):
            uploads.put(wrong, ".onnx", 10, 0, b"x" * 10)
    with pytest.raises(ServiceError, match="SHA-256"):
        uploads.put(sha256, ".py", 10, 0, b"x" * 10)
    assert put(1000, whole[1000:40_000]) == 40_000
    assert put(40_000, whole[40_000:]) == len(whole)
    path = uploads.path(sha256, ".onnx")
    assert path is not None and path.read_bytes() == whole
    other = "0" * 64
    with pytest.raises(ServiceError, match="send it anew"):
        uploads.put(other, ".onnx", 5, 0, b"hello")
    assert uploads.path(other, ".onnx") is None
    assert len(list((tmp_path / "uploads").iterdir())) == 1


def test_a_person_takes_over_from_a_jobs_policy_and_hands_back(
    served: Served, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "stand.onnx", 0.0)
    commands = Commands(served.robot.name)
    with served.connect() as robot:
        number = robot.submit(path, policy=BOUND, seconds=600, success="person")
        until(lambda: commands.newest == "policy")
        held = commands.asked.copy()
        with robot.correct() as person:
            lead(person, held + AWAY, commands, 5, far=True)
        until(lambda: commands.newest == "policy")
        mark = commands.cycle
        until(lambda: commands.cycle > mark + HANDOVER_CYCLES)
        robot.mark(number, "success")
        found = over(robot, number)
    commands.close()
    assert (found["state"], found["outcomes"]) == ("done", "success"), found
    assert 0 < commands.largest_jumps()[0] <= WAY / HANDOVER_CYCLES + LAG < AWAY
    turns = [one[0] for _, one in sorted(commands.of_cycle.items()) if one[0] != "nobody"]
    assert [who for who, _ in itertools.groupby(turns)][:3] == ["policy", "person", "policy"]
    lease = int(found["recording"].rpartition("-")[2])
    until(lambda: f"{served.recording(lease)}: " in served.said)
    with Recording(served.recording(lease)) as recording:
        kept = {frame.command.cycle: frame.command.drove for frame in recording}
    same = kept.keys() & commands.of_cycle.keys()
    assert {"policy", "person"} <= {kept[cycle] for cycle in same}
    assert all(kept[cycle] == commands.of_cycle[cycle][0] for cycle in same)
