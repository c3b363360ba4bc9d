"""A served robot over the network: keys, roles, and a key that is gone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import inphase
from inphase.access.audit import verdict
from inphase.access.keys import KeyFolder, May
from inphase.client.connection import ServiceConnection
from inphase.errors import AccessError, LeaseRefused, ServiceError
from inphase.frames.store_follower import StoreFollower
from inphase.frames.subscription import Subscription
from inphase.gym import Environment
from peers import until
from runtimes import Robot
from serving import APPROACHES, Served
from test_service import LEASE_S, swing

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    users: dict[str, May] = {"ann": "drive", "ben": "drive", "wes": "watch"}
    with Robot() as robot:
        robot.write(APPROACHES)
        with Served(robot, "--grace", "2", users=users) as made:
            yield made


def test_two_users_share_a_robot_and_one_drives_at_a_time(served: Served) -> None:
    with served.connect(served.key_of("ann")) as ann, served.connect(served.key_of("ben")) as ben:
        first = ann.request(LEASE_S).wait(20)
        second = ben.request(LEASE_S)
        assert (second.poll(), second.position) == ("waits", 1) and second.wait_s > 0
        with pytest.raises(LeaseRefused, match="is not held yet"):
            second.drive()
        assert ann.facts["holder"] == "ann" and ann.facts["queue"] == ["ben"]
        with first.drive() as drive:
            until(lambda: any(f.command.drove == "client" for f in swing(drive, 50)))
            offset = drive.clock.at(drive.next().latched_ns)
            # one host, one clock: what is said to be uncertain holds the truth
            assert offset is not None and abs(offset.offset_ns) <= offset.uncertainty_ns
        first.close()
        with second.wait(20).drive() as drive:
            until(lambda: any(f.command.drove == "client" for f in swing(drive, 50)))
            assert drive.next().command.lease == second.number == first.number + 1


def test_a_time_is_reserved_listed_and_given_back(served: Served) -> None:
    def reserve(user: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "inphase", "reserve", served.robot.name, *words]
        command += ["--service", served.remote, "--key", str(served.key_of(user))]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    start = (datetime.now() + timedelta(days=1)).replace(hour=14, minute=0)
    made = reserve("ann", f"{start:%Y-%m-%d %H:%M}", "--minutes", "45")
    assert made.returncode == 0, made.stderr
    assert f"{start:%Y-%m-%d} 14:00 to {start:%Y-%m-%d} 14:45" in made.stdout
    number = made.stdout.split()[1]
    clash = reserve("ben", f"{start:%Y-%m-%d}T14:30")
    assert clash.returncode == LeaseRefused.exit_code
    assert "ann has reserved a part of that time" in clash.stderr
    assert reserve("ben", "--cancel", number).returncode == LeaseRefused.exit_code
    assert f"{start:%Y-%m-%d} 14:00" in reserve("ben").stdout
    assert reserve("ann", "--cancel", number).returncode == 0
    assert "14:00" not in reserve("ben").stdout


def test_everybody_with_a_key_watches_while_one_drives(served: Served) -> None:
    with served.connect(served.key_of("ann")) as ann, served.connect(served.key_of("wes")) as wes:
        address = wes._connection.whole(wes._frames_address)
        with (
            ann.request(LEASE_S).wait(20) as lease,
            lease.drive() as drive,
            inphase.subscribe(address, transport="zmq", key=served.key_of("wes")) as frames,
            wes.watch() as here,
        ):
            assert (frames.transport, here.transport) == ("zmq", "store")

            def seen(source: Subscription) -> bool:
                swing(drive, 50)
                found = [source.next().command for _ in range(50)]
                return any((one.drove, one.lease) == ("client", lease.number) for one in found)

            until(lambda: seen(frames))
            until(lambda: seen(here))
    other = KeyFolder(served.folder / "stranger").create("eve", "watch", served.folder / "e.key")
    text = (served.folder / "e.key").read_text()
    ours = KeyFolder(served.folder / "keys").server().public
    (served.folder / "e.key").write_text(text.replace(other.server, ours))
    with pytest.raises(TimeoutError):
        inphase.subscribe(
            address, transport="zmq", key=served.folder / "e.key", timeout_s=0.5
        ).next()


def test_who_may_watch_may_stop_and_nothing_else(served: Served) -> None:
    with served.connect(served.key_of("wes")) as wes, served.connect() as local:
        with pytest.raises(LeaseRefused, match="lease is for who may drive; the key wes may watch"):
            wes.request()
        with pytest.raises(LeaseRefused, match="take is for who may operate"):
            wes.take()
        wes.stop()
        follower = StoreFollower.of_robot(served.robot.name)
        until(lambda: follower.next().reason == "estop")
        ann = served.connect(served.key_of("ann"))
        with ann, pytest.raises(LeaseRefused, match="arm is for who may operate"):
            ann.arm()
        until(lambda: follower.next().state == "faulted")

        # who asks to arm is told what came of it
        os.kill(served.robot.emulator.pid, signal.SIGSTOP)
        until(lambda: follower.next()["joints"].status in ("MISSING", "OFFLINE"))
        command = ["lease", served.robot.name, "--arm", "--service", served.address]
        inphase_arm = [sys.executable, "-m", "inphase", *command]
        refused = subprocess.run(inphase_arm, capture_output=True, text=True, check=False)
        os.kill(served.robot.emulator.pid, signal.SIGCONT)
        assert refused.returncode == ServiceError.exit_code and "is armed" not in refused.stdout
        assert f"{served.robot.name}: device arm: " in refused.stderr
        until(lambda: follower.next()["joints"].status == "FRESH")
        local.arm()
        until(lambda: follower.next().state == "armed")
        follower.close()


def test_an_unknown_key_is_told_nothing_until_it_is_on_the_list(served: Served) -> None:
    with pytest.raises(ServiceError, match="give your key"):
        ServiceConnection(served.remote)
    other = KeyFolder(served.folder / "other").create("eve", "drive", served.folder / "eve.key")
    text = (served.folder / "eve.key").read_text()
    ours = KeyFolder(served.folder / "keys").server().public
    (served.folder / "eve.key").write_text(text.replace(other.server, ours))
    eve = ServiceConnection(served.remote, served.folder / "eve.key")
    with pytest.raises(ServiceError, match="is the key of eve on its list"):
        eve.ask("ping", timeout_s=0.5)
    eve.close()
    late = ServiceConnection(served.remote, served.make_key("dan", "watch"))
    until(lambda: late.ask("ping")["user"] == "dan")
    late.close()


def test_a_revoked_key_is_out_at_once_and_its_robot_ramps(served: Served) -> None:
    key = served.make_key("cas", "drive")
    with served.connect(key) as cas:
        lease = cas.request(LEASE_S).wait(20)
        with lease.drive() as drive:
            until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
            follower = StoreFollower.of_robot(served.robot.name)
            KeyFolder(served.folder / "keys").revoke("cas")
            until(lambda: follower.next(newest=True).command.lease == 0)
            until(lambda: follower.next(newest=True).command["arm"].reason == "lease")
            follower.close()
            drive.act(drive.layout.record.channels[0] * [0.0])  # nobody hears it
        with pytest.raises(ServiceError, match="no service answers"):
            cas._connection.ask("robots", timeout_s=0.5)
    with served.connect() as local:
        assert local.facts["holder"] == ""
        leases = local._connection.ask("leases", user="cas")["leases"]
    assert [one["why"] for one in leases] == ["revoked"]


def test_who_had_the_robot_is_listed_and_searched(served: Served) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "inphase", "leases", "--service", served.address]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    found = json.loads(run("--json").stdout)
    numbers = [one["number"] for one in found]
    assert numbers == sorted(numbers, reverse=True) and {"ann", "cas"} <= {
        one["user"] for one in found
    }
    (cas,) = json.loads(run("--json", "--user", "cas", "--days", "1").stdout)
    assert cas["why"] == "revoked" and cas["ended_s"] > cas["granted_s"]
    assert json.loads(run("nobody", "--json").stdout) == []
    shown = run("--user", "cas").stdout
    assert "revoked" in shown and "cas" in shown and Path(cas["recording"]).suffix == ".mcap"


def test_the_audit_log_tells_all_of_it_and_is_whole(served: Served) -> None:
    log = (served.folder / "state" / "audit.jsonl").read_text()
    for event in ("granted", "ended", "stopped", "denied", "refused", "revoked"):
        assert f'"{event}"' in log, event
    assert verdict.of(served.folder / "state").facts()["trouble"] is None


def test_a_service_on_the_network_without_keys_does_not_start(served: Served) -> None:
    command = ["serve", str(served.robot.schedule), "--folder", str(served.folder / "none")]
    command += ["--listen", "tcp://127.0.0.1:7447", "--keys", str(served.folder / "nobody")]
    done = subprocess.run(
        [sys.executable, "-m", "inphase", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "inphase keys create NAME" in done.stderr or "another process serves it" in done.stderr
    with pytest.raises(AccessError):
        ServiceConnection(served.remote, served.folder / "nowhere.key")


def test_a_leased_robot_is_an_environment_like_the_simulated_one(served: Served) -> None:
    env = Environment(
        served.robot.schedule,
        "remote",
        observe=["joints.position"],
        service=served.remote,
        key=str(served.key_of("ben")),
    )
    observed, info = env.reset(seed=1)
    begun = info["cycle"]
    here = observed["joints"]["position"]  # type: ignore[index]
    for n in range(20):
        observed, _, _, truncated, info = env.step(here + 0.002 * n)
        assert not truncated
    assert info["cycle"] >= begun + 20 and env.observation_space.contains(observed)
    moved = np.max(np.abs(observed["joints"]["position"] - here))  # type: ignore[index]
    assert moved > 0.005, info
    env.reset()
    env.step(observed["joints"]["position"])  # type: ignore[index]
    follower = StoreFollower.of_robot(served.robot.name)
    assert follower.next(newest=True).episode == 2
    follower.close()
    env.close()
    with served.connect() as robot:
        until(lambda: robot.facts["holder"] == "")
    other = served.robot.write(("velocity = 2.0", "velocity = 1.0"))
    with pytest.raises(ServiceError, match="is not the schedule of that robot"):
        Environment(other, "remote", service=served.remote, key=str(served.key_of("ben"))).reset()
