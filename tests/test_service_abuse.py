"""What no client of ours sends, and what no start should meet: a service stays up, or says why."""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest

from inphase.client.connection import ServiceConnection
from inphase.client.kinds import REQUEST_BYTES
from inphase.errors import LeaseRefused, ServiceError
from inphase.remote import COMMAND, GREETING, HELLO
from peers import BOUND_S, until
from runtimes import Robot
from serving import Served

pytestmark = pytest.mark.real
_PAST = (1 << 64) - 1


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Robot() as robot, Served(robot) as made:
        yield made


def submit(asked: ServiceConnection, model: bytes, bound: Any) -> dict[str, Any]:
    """Upload a file, and submit it as a job with such a policy."""
    sha256 = hashlib.sha256(model).hexdigest()
    size = len(model)
    asked.ask("upload", sha256=sha256, ending=".onnx", size=size, offset=0, piece=model)
    return asked.ask("submit", job={"sha256": sha256, "ending": ".onnx", "policy": bound})


@pytest.mark.parametrize(
    "words",
    [
        {"do": "jobs", "number": _PAST},
        {"do": "fetch", "lease": 1, "offset": _PAST},
        {"do": "keep", "lease": -1, "token": "x"},
        {"do": "upload", "sha256": "a" * 64, "ending": ".onnx", "size": _PAST},
    ],
)
def test_numbers_that_nothing_can_hold_are_refused(served: Served, words: dict[str, Any]) -> None:
    asked = ServiceConnection(served.address)
    with pytest.raises(LeaseRefused):
        asked.ask(**words)
    assert asked.ask("ping")["ok"]
    asked.close()


def test_a_policy_that_is_no_toml_is_refused_and_leaves_no_job(served: Served) -> None:
    asked = ServiceConnection(served.address)
    for bound in (b"bytes", msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)):
        with pytest.raises(LeaseRefused, match="the job's policy"):
            submit(asked, b"no model", {"inputs": bound})
    assert asked.ask("jobs")["jobs"] == []
    asked.close()


def test_many_jobs_are_checked_one_at_a_time_and_bounded_in_number(served: Served) -> None:
    asked = ServiceConnection(served.address)
    numbers = []
    with pytest.raises(LeaseRefused, match="jobs wait already"):
        while True:
            numbers.append(submit(asked, b"no model", {})["number"])
    checks = []
    for child in psutil.Process(served.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has ended
            checks += [child] if "check" in child.cmdline() else []
    assert len(checks) <= 1 < len(numbers)
    for job in asked.ask("jobs")["jobs"]:
        if job["state"] == "checking":
            asked.ask("cancel_job", number=job["number"])
    asked.close()


def test_a_request_that_is_too_large_is_told_before_it_is_sent(served: Served) -> None:
    asked = ServiceConnection(served.address)
    with pytest.raises(ServiceError, match=f"at most {REQUEST_BYTES} bytes"):
        asked.ask("ping", user="x" * REQUEST_BYTES)
    assert asked.ask("ping")["ok"]
    asked.close()


def test_a_command_before_the_first_frame_ends_nothing(served: Served) -> None:
    asked = ServiceConnection(served.address)
    held = asked.ask("lease", seconds=60.0)
    line = asked.socket(held["drive"])
    proof = {"lease": held["lease"], "token": held["token"]}
    command = {"lease": held["lease"], "cycle": 1 << 40, "shape": [6], "values": bytes(48)}
    greeted = False

    def greet() -> bool:
        nonlocal greeted
        asked.ask("keep", **proof)
        line.send_multipart([HELLO, msgpack.packb(proof)])
        line.send_multipart([COMMAND, msgpack.packb(command)])
        for _ in range(50):
            if not line.poll(20):
                break
            greeted = greeted or line.recv_multipart()[0] == GREETING
        return greeted

    until(greet)
    until(lambda: greet() and asked.ask("robots")["robots"][0]["commands"].get("future", 0) > 0)
    assert "is started again" not in served.said
    asked.ask("release", **proof)
    line.close(0)
    asked.close()


def serve(served: Served, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Another `inphase serve` of the same user, which is to fail by itself."""
    return subprocess.run(
        [sys.executable, "-m", "inphase", "serve", *arguments],
        env=served.environment,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )


def test_a_second_service_leaves_the_sockets_of_the_first(served: Served, tmp_path: Path) -> None:
    schedule = str(served.robot.schedule)
    other = serve(served, schedule, "--folder", str(tmp_path / "other"))
    assert other.returncode == 15 and "another process serves it" in other.stderr
    with served.connect() as robot:
        assert robot.facts["robot"] == served.robot.name


def test_a_robot_that_does_not_start_ends_the_service_and_leaves_nothing(tmp_path: Path) -> None:
    with Robot() as robot:
        broken = tmp_path / "broken.toml"
        text = robot.schedule.read_text().replace(f'"{robot.name}"', f'"{robot.name}-b"', 1)
        broken.write_text(text)  # it wants the first one's devices
        run = tmp_path / "run"
        run.mkdir(mode=0o700)
        command = ["serve", str(robot.schedule), str(broken), "--folder", str(tmp_path / "state")]
        ended = subprocess.run(
            [sys.executable, "-m", "inphase", *command],
            env=os.environ | {"XDG_RUNTIME_DIR": str(run)},
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
        assert ended.returncode != 0 and "Traceback" not in ended.stderr
        assert list((run / "inphase").iterdir()) == []
        assert robot.segments() == []


def test_a_history_that_is_no_database_is_told_with_the_remedy(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "history.sqlite").write_bytes(b"no database at all" * 100)
    ended = serve(served, str(served.robot.schedule), "--folder", str(tmp_path))
    assert ended.returncode == 15 and "Traceback" not in ended.stderr
    assert "begin anew: mv" in ended.stderr


def test_a_history_that_cannot_be_written_holds_no_robot_up() -> None:
    with Robot() as robot, Served(robot) as served, served.connect() as client:
        database = sqlite3.connect(served.folder / "state" / "history.sqlite", isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        with client.request(60).wait(20) as lease, lease.drive() as drive:
            assert drive.next().cycle > 0
            until(lambda: "unkept" in served.said)
            with pytest.raises(LeaseRefused, match="no file"):
                client._connection.ask(
                    "submit", job={"sha256": "0" * 64, "ending": ".onnx"}, robot=client.name
                )
        until(lambda: client.facts["holder"] == "")
        database.execute("ROLLBACK")
        database.close()
        with pytest.raises(LeaseRefused, match="no job 1"):
            client.mark(1, "perfect")
        assert served.end() == 0
