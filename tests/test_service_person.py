"""A person takes over from a client that drives, and hands back: without a jump, and every cycle
says who drove it. With real processes."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from conversions import made
from inphase import Recording
from inphase.client.remote_drive import RemoteDrive
from inphase.errors import LeaseRefused
from inphase.export.conversion import LEROBOT
from inphase.frames import store
from inphase.frames.record_layout import DROVE
from inphase.frames.store_follower import StoreFollower
from peers import BOUND_S, until
from runtimes import Robot
from serving import Served
from terminals import Terminal
from test_service import LEASE_S

pytestmark = pytest.mark.real
HANDOVER_CYCLES = 63  # half a second of 8 ms
AWAY = 0.08
SWING = 0.05
WAY = 2 * AWAY + SWING  # that fades in, at most
OWN = SWING * 1.5 * 0.008  # in a cycle, at most
SPEED = 0.25 * 2.0  # that is allowed from afar
LAG = SPEED**2 / (2 * 4.0)  # of what is applied behind what is asked for, at most


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    users = {"ann": "drive", "ben": "drive"}
    with Robot() as robot, Served(robot, "--grace", "2", users=users) as made:  # type: ignore[arg-type]
        yield made


class Client(threading.Thread):
    """A policy that swings round a place, whoever drives."""

    def __init__(self, drive: RemoteDrive) -> None:
        super().__init__(daemon=True)
        self._drive = drive
        self._over = threading.Event()
        joints = None
        while joints is None or joints.status != "FRESH":
            joints = drive.next()["joints"]
        self.start_at = joints.value["position"].copy()
        self.start()

    def run(self) -> None:
        begun_ns = None
        while not self._over.is_set():
            frame = self._drive.next(20.0)
            begun_ns = begun_ns or frame.due_ns
            swing = SWING * np.sin((frame.due_ns - begun_ns) * 1.5e-9)
            self._drive.act(self.start_at + swing, frame)

    def close(self) -> None:
        self._over.set()
        self.join()


class Commands(threading.Thread):
    """Who drove in each cycle, and the command, from the robot's store."""

    def __init__(self, robot: str) -> None:
        super().__init__(daemon=True)
        self._follower = StoreFollower.of_robot(robot)
        self._over = threading.Event()
        self.of_cycle: dict[int, tuple[str, NDArray[Any], NDArray[Any]]] = {}
        self.newest, self.cycle, self.asked = "nobody", 0, np.zeros(6)
        """who drove last, in which cycle, and what was asked for in it"""
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                command = self._follower.next(0.1).command
            except TimeoutError:
                continue
            except store.Lost:
                return
            arm = command["arm"]
            self.of_cycle[command.cycle] = command.drove, arm.requested, arm.applied
            self.newest, self.cycle, self.asked = command.drove, command.cycle, arm.requested

    def largest_jumps(self) -> tuple[float, float]:
        """The largest change per cycle of what was requested, and of what was applied."""
        commands = sorted(self.of_cycle.items())
        given = [(cycle, *two) for cycle, (drove, *two) in commands if drove != "nobody"]
        jumps = []
        for (one, asked, applied), (other, asked_then, applied_then) in itertools.pairwise(given):
            jumps.append(
                [
                    np.max(np.abs(asked_then - asked)) / (other - one),
                    np.max(np.abs(applied_then - applied)) / (other - one),
                ]
            )
        largest = np.max(jumps, axis=0)
        return float(largest[0]), float(largest[1])

    def close(self) -> None:
        self._over.set()
        self.join()
        self._follower.close()


def lead(
    drive: RemoteDrive, place: NDArray[Any], commands: Commands, frames: int, *, far: bool = False
) -> None:
    """A person holds the robot at a place, for so many frames from the first that it drove; far:
    until nothing is left of where the robot was."""
    drove = 0

    def is_led() -> bool:
        nonlocal drove
        drive.act(place, drive.next())
        drove += commands.newest == "person"
        return drove >= frames and (not far or np.allclose(commands.asked, place, atol=1e-12))

    until(is_led)


def test_a_person_takes_over_and_hands_back_without_a_jump(served: Served, tmp_path: Path) -> None:
    commands = Commands(served.robot.name)
    with served.connect() as robot:
        lease = robot.request(LEASE_S).wait(20)
        number = lease.number
        with lease.drive() as drive, lease.drive(person=True) as person:
            client = Client(drive)
            until(lambda: commands.newest == "client")

            # held to run: the client drives again, a moment after the person's last command
            lead(person, client.start_at + AWAY, commands, 2, far=True)
            until(lambda: commands.newest == "client")
            until(lambda: robot.facts["commands"].get("person", 0) > 0)

            # and in the middle of a way, once more, with an end that is said
            lead(person, client.start_at - AWAY, commands, HANDOVER_CYCLES // 3)
            person.close()
            until(lambda: commands.newest == "client")
            mark = commands.cycle
            until(lambda: commands.cycle > mark + 2 * HANDOVER_CYCLES)
            last = commands.cycle
            client.close()
        lease.close()
        until(lambda: commands.newest == "nobody")
    commands.close()

    # no command jumps, where each change would be a jump of AWAY
    asked, applied = commands.largest_jumps()
    assert 0 < asked <= WAY / HANDOVER_CYCLES + OWN + LAG < AWAY
    assert 0 < applied <= SPEED * 0.008 + 1e-9
    drove = [one[0] for _, one in sorted(commands.of_cycle.items())]
    turns = [who for who, _ in itertools.groupby(drove) if who != "nobody"]
    alternating = [who for who, _ in itertools.groupby(turns)]
    assert alternating[0] == alternating[-1] == "client" and alternating.count("person") >= 2
    assert max(np.abs(commands.of_cycle[last][2] - client.start_at)) < 2 * SWING

    # the first way is gone evenly, from where the robot was
    acts = [(*one[:2], cycle) for cycle, one in sorted(commands.of_cycle.items())]
    first = next(n for n, one in enumerate(acts) if one[0] == "person")
    run = [*itertools.takewhile(lambda one: one[0] == "person", acts[first:])][:HANDOVER_CYCLES]
    gone = [(b - a) / (d - c) for (_, a, c), (_, b, d) in itertools.pairwise(run)]
    assert all(np.max(np.abs(one - gone[0])) < 1e-9 for one in gone)

    # the recording says the same of every cycle
    path = served.recording(number)
    until(lambda: f"{path}: " in served.said)
    with Recording(path) as recording:
        kept = {frame.command.cycle: frame.command.drove for frame in recording}
    same = kept.keys() & commands.of_cycle.keys()
    assert {"client", "person"} <= {kept[cycle] for cycle in same}
    assert all(kept[cycle] == commands.of_cycle[cycle][0] for cycle in same)

    # and what is learned from it tells corrections from what they correct
    made(LEROBOT, tmp_path / "x", path)
    names = ["inphase.cycle", "inphase.drove", "inphase.action_known"]
    rows = pq.read_table(tmp_path / "x" / "data", columns=names)
    found = zip(*(rows[name].to_pylist() for name in names), strict=True)
    learned = {cycle: who for cycle, who, known in found if known}  # a frame may be lost
    same = learned.keys() & commands.of_cycle.keys()
    assert len(same) > HANDOVER_CYCLES
    assert all(learned[cycle] == DROVE.index(commands.of_cycle[cycle][0]) for cycle in same)


def test_the_persons_seat_is_the_holders_and_the_local_operators(served: Served) -> None:
    with served.connect(served.key_of("ann")) as ann, served.connect() as local:
        with pytest.raises(LeaseRefused, match="nobody drives"):
            local.correct()
        lease = ann.request(LEASE_S).wait(20)
        with lease.drive() as drive, served.connect(served.key_of("ben")) as ben:
            with pytest.raises(LeaseRefused, match="is not ben's"):
                ben.correct()
            commands = Commands(served.robot.name)
            client = Client(drive)
            until(lambda: commands.newest == "client")
            with local.correct() as person:
                lead(person, client.start_at, commands, 5)
                with pytest.raises(LeaseRefused, match="the local operator has the person's seat"):
                    lease.drive(person=True)
                lead(person, client.start_at, commands, 5)
            until(lambda: commands.newest == "client")
            client.close()
            commands.close()
        lease.close()


def test_a_person_drives_alone_and_the_seat_ends_with_the_lease(served: Served) -> None:
    with served.connect(served.key_of("ann")) as ann:
        lease = ann.request(LEASE_S).wait(20)
        commands = Commands(served.robot.name)
        with lease.drive(person=True) as person:
            joints = person.next()["joints"]
            until(lambda: person.next()["joints"].status == "FRESH")
            joints = person.next()["joints"]
            lead(person, joints.value["position"].copy(), commands, 5)
            lease.close()

            def go_on() -> bool:
                person.act(joints.value["position"], person.next())
                return False

            with pytest.raises(LeaseRefused, match="the lease has ended"):
                until(go_on)
        commands.close()


STILL = '''
class Still:
    """Holds the joints where they were found."""

    def __init__(self):
        self.here = None

    def __call__(self, frame):
        if self.here is None and frame["joints"].status == "FRESH":
            self.here = frame["joints"].value["position"].copy()
        return self.here
'''


def test_keys_take_over_from_a_policy_on_the_command_line(served: Served) -> None:
    name = served.robot.name
    (served.folder / "still.py").write_text(STILL)
    service = ["--service", served.address]
    still = subprocess.Popen(
        [sys.executable, "-m", "inphase", "drive", name, "still.py:Still", *service],
        cwd=served.folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    commands = Commands(name)
    until(lambda: commands.newest == "client")
    held = commands.asked.copy()
    terminal = Terminal(name, "--jog", "0.1", "--correct", *service, command="drive")
    try:
        until(lambda: b"q/a joint 1" in terminal.shown)

        def jogs() -> bool:
            terminal.press(b"qs")
            time.sleep(0.02)  # as a terminal repeats a key
            moved = commands.asked - held
            return commands.newest == "person" and moved[0] > 0.02 and moved[1] < -0.02

        until(jogs)
        assert np.allclose((commands.asked - held)[2:], 0.0, atol=0.01)
        terminal.press(b" ")
        until(lambda: commands.newest == "client")
        until(lambda: np.allclose(commands.asked, held, atol=1e-9))
        terminal.press(b"\x03")
        assert terminal.process.wait(BOUND_S) == 0
    finally:
        terminal.close()
        still.send_signal(signal.SIGINT)
        said = still.communicate(timeout=BOUND_S)[1]
    commands.close()
    assert still.returncode == 0 and "person" in said and "taken" in said
    assert commands.largest_jumps()[0] <= WAY / HANDOVER_CYCLES + OWN + LAG


def test_there_are_keys_or_a_policy(served: Served) -> None:
    for words, why in (
        ([], "give POLICY, or --jog SPEED for keys"),
        (["--jog", "0.1"], "--jog wants a terminal"),
    ):
        command = ["drive", served.robot.name, *words, "--service", served.address]
        done = subprocess.run(
            [sys.executable, "-m", "inphase", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0 and why in done.stderr
