"""A served robot: who drives it, who does not, and what stops it. All with real processes."""

import configparser
import itertools
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import psutil
import pytest

from inphase import Recording
from inphase.client.remote_drive import RemoteDrive
from inphase.errors import LeaseRefused
from inphase.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.remote import COMMAND
from peers import until
from runtimes import Robot
from serving import APPROACHES, Served

pytestmark = pytest.mark.real
LEASE_S = 60.0


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Robot() as robot:
        robot.write(APPROACHES)
        with Served(robot, "--grace", "2") as made:
            yield made


def swing(drive: RemoteDrive, frames: int) -> list[Frame]:
    """Answer so many frames: the joints swing from where they are."""
    found: list[Frame] = []
    start = None
    for frame in drive:
        joints = frame["joints"]
        if start is None:
            if joints.status != "FRESH":
                continue
            start, begun_ns = joints.value["position"].copy(), frame.due_ns
        drive.act(start + 0.3 * np.sin((frame.due_ns - begun_ns) * 1.5e-9))
        found.append(frame)
        if len(found) == frames:
            break
    return found


def test_the_holder_drives_and_everybody_can_see_that_it_did(served: Served) -> None:
    with served.connect() as robot:
        assert (robot.facts["holder"], robot.facts["queue"]) == ("", [])
        with robot.request(LEASE_S).wait(20) as lease, lease.drive() as drive:
            until(lambda: any(f.command.drove == "client" for f in swing(drive, 50)))
            assert lease.number == robot.facts["lease"] > 0
            number = lease.number
            until(lambda: robot.facts["commands"].get("taken", 0) > 0)
        assert (robot.facts["holder"], robot.facts["lease"]) == ("", 0)
    follower = StoreFollower.of_robot(served.robot.name)
    rest = next(f for f in follower if f.command.lease == 0)
    assert rest.command.drove == "nobody"
    until(lambda: follower.next().command["arm"].reason == "lease")
    follower.close()
    until(lambda: served.robot.speed < 0.05)

    # the lease's recording says the same, of every cycle
    path = served.recording(number)
    until(lambda: f"{path}: " in served.said)
    with Recording(path) as recording:
        assert recording.state == "COMPLETE", recording.troubles
        drove = [frame.command.drove for frame in recording]
        leases = {frame.command.lease for frame in recording}
    assert "client" in drove and "policy" not in drove
    assert leases >= {number} and leases <= {0, number}


def test_one_waits_while_another_holds_and_follows_it(served: Served) -> None:
    with served.connect() as first:
        held = first.request(LEASE_S).wait(20)
        # a client is its key: on this host all are one user, so another one is the operator's
        assert first.request(LEASE_S).poll() == "holds"
        with pytest.raises(LeaseRefused, match="is not @local's, or has ended"):
            first._connection.ask("keep", robot=first.name, lease=held.number + 1, token="")
        with pytest.raises(LeaseRefused, match="not the token"):
            first._connection.ask("keep", robot=first.name, lease=held.number, token="no")
        standing = dict(held._standing)
        for wrong in ({"token": "no"}, {"lease": held.number - 1}):
            with pytest.raises(LeaseRefused, match="is not @local's, or has ended"):
                RemoteDrive(first._connection, standing | wrong, images=True)
        number = held.number
        held.close()
        with pytest.raises(LeaseRefused, match="is not @local's, or has ended"):
            first._connection.ask("release", robot=first.name, lease=number, token="no")
        assert first.request(LEASE_S).wait(20).number == number + 1


def test_answers_that_are_none_are_counted_and_move_nothing(served: Served) -> None:
    with (
        served.connect() as robot,
        robot.request(LEASE_S).wait(20) as lease,
        lease.drive(images=False) as drive,
    ):
        before = robot.facts["commands"]
        frame = next(iter(drive))
        good = {"lease": lease.number, "cycle": frame.cycle, "shape": [6]}
        good["values"] = frame["joints"].value["position"].astype("<f8").tobytes()
        wrong = {
            "future": good | {"cycle": frame.cycle + 1000},
            "old": good | {"cycle": 0},
            "shape": good | {"shape": [5]},
            "lease": good | {"lease": lease.number + 1},
        }
        for command in wrong.values():
            drive._socket.send_multipart([COMMAND, msgpack.packb(command)])
        drive._socket.send_multipart([COMMAND, b"\xc1"])
        drive._socket.send_multipart([COMMAND, b"x" * 10, b"y"])
        for _ in range(2):
            drive._socket.send_multipart([COMMAND, msgpack.packb(good)])
        wanted = {"future", "old", "shape", "lease", "malformed", "replayed"}

        def counted() -> bool:
            drive.next()
            now = robot.facts["commands"]
            return all(now.get(name, 0) > before.get(name, 0) for name in wanted)

        until(counted)


def test_a_job_asks_for_hooks_that_its_robot_has(served: Served) -> None:
    with served.connect() as robot:
        job = {"sha256": "0" * 64, "ending": ".onnx", "success": "task"}
        with pytest.raises(LeaseRefused, match=r"its owner writes \[task\] success"):
            robot._connection.ask("submit", robot=robot.name, job=job)
        for reset in ("policy", {"seconds": 0.0}, {"call": "os:system"}):
            with pytest.raises(LeaseRefused):
                robot._connection.ask("submit", robot=robot.name, job=job | {"reset": reset})


def test_a_client_that_dies_loses_the_robot_to_who_waits(served: Served) -> None:
    client = served.client(
        "import time\n"
        "robot = inphase.connect(address)\n"
        "lease = robot.request(600).wait(20)\n"
        "print(lease.number, flush=True)\n"
        "drive = lease.drive()\n"
        "start = None\n"
        "for frame in drive:\n"
        "    start = frame['joints'].value['position'].copy() if start is None else start\n"
        "    drive.act(start)\n"
    )
    assert client.stdout is not None
    number = int(client.stdout.readline())
    follower = StoreFollower.of_robot(served.robot.name)
    until(lambda: follower.next().command.drove == "client")
    client.kill()
    until(lambda: follower.next(newest=True).command.lease == 0)
    follower.close()
    client.stdout.close()
    client.wait()
    with served.connect() as robot:
        until(lambda: robot.facts["lease"] != number)
        assert robot.request(LEASE_S).wait(20).number > number


def test_a_stop_comes_by_its_own_lane_and_only_the_operator_arms_again(served: Served) -> None:
    with (
        served.connect() as robot,
        robot.request(LEASE_S).wait(20) as lease,
        lease.drive() as drive,
    ):
        swing(drive, 20)
        robot.stop()
        until(lambda: drive.next().reason == "estop")
        until(lambda: drive.next().state == "faulted")
        drove = {frame.command.drove for frame in swing(drive, 10)}
        assert drive.next().reason == "estop" and drove == {"nobody"}
        until(lambda: drive.next().state == "faulted")  # a busy robot may not know it for a moment
        robot._connection.ask("arm", robot=robot.name)
        until(lambda: drive.next().state == "armed")
        until(lambda: any(f.command.drove == "client" for f in swing(drive, 50)))


def test_what_drives_is_started_again_where_it_dies(served: Served) -> None:
    with served.connect() as robot, robot.request(LEASE_S).wait(20) as lease:
        for child in psutil.Process(served.process.pid).children():
            if "inphase.service.drive" in child.cmdline():
                child.kill()
        until(lambda: "is started again" in served.said)
        with lease.drive() as drive:
            until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))


def test_an_end_of_the_service_ramps_the_robot_and_leaves_nothing() -> None:
    with Robot() as robot, Served(robot) as served:
        with (
            served.connect() as client,
            client.request(LEASE_S).wait(20) as lease,
            lease.drive() as drive,
        ):
            until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
            children = psutil.Process(served.process.pid).children(recursive=True)
            assert served.end() == 0
        assert robot.speed < 0.05
        assert not [child for child in children if child.is_running()]
        assert list((served.run / "inphase").iterdir()) == []
        assert robot.segments() == []


def test_the_robot_is_slower_from_afar_than_its_schedule_allows(served: Served) -> None:
    with (
        served.connect() as robot,
        robot.request(LEASE_S).wait(20) as lease,
        lease.drive() as drive,
    ):
        applied = []
        for frame in drive:
            start = frame["joints"].value["position"]
            # as far as the limiter lets it: 0.25 of 2 rad/s are 4 mrad in a cycle of 8 ms
            drive.act(start + 0.02 if frame.command.drove == "client" else start)
            applied.append((frame.command.cycle, frame.command["arm"].applied))
            if len(applied) == 100:
                break
    steps = [
        np.max(np.abs(b - a))
        for (one, a), (next_, b) in itertools.pairwise(applied)
        if next_ == one + 1
    ]
    assert 0.003 < np.max(steps) <= 0.25 * 2.0 * 0.008 + 1e-9


def test_a_unit_has_the_rights_of_a_cycle_and_time_for_its_ramp(tmp_path: Path) -> None:
    schedule = tmp_path / "50% demo.toml"
    shutil.copy("schedules/demo.toml", schedule)
    shutil.copy("schedules/demo_policy.py", tmp_path)
    command = [sys.executable, "-m", "inphase", "serve", str(schedule), "--speed", "0.5", "--unit"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(done.stdout)
    service = unit["Service"]
    assert (service["LimitRTPRIO"], service["LimitMEMLOCK"]) == ("95", "infinity")
    assert int(service["TimeoutStopSec"]) > 2 * 2  # a stop takes less than 2 s
    words = shlex.split(service["ExecStart"].replace("%%", "%"))
    assert words == [sys.executable, "-m", "inphase", "serve", str(schedule), "--speed", "0.5"]
    if shutil.which("systemd-analyze"):
        path = tmp_path / "inphase.service"
        path.write_text(done.stdout)
        subprocess.run(["systemd-analyze", "verify", str(path)], check=True)
