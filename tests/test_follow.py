"""Follow: the arm of so101 goes where its leader is, and never jumps."""

import math
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.follow import Follow
from inphase.testing.fault_plan import Fault
from peers import BOUND_S, ROOT, EmulatorProcess, until
from runtimes import Run

SO101 = (ROOT / "schedules" / "so101.toml").read_text()
PERIOD_S = 0.005
CATCH_UP = 0.5
NOISE = 1.6e-3  # rad: two readings of the leader's twin lie so far apart
LEADER = "[device.leader]\n"


def so101(folder: Path, *changes: tuple[str, str]) -> Path:
    """Its schedule with changes, in a folder of its own."""
    text = SO101.replace("/tmp/inphase-so101", str(folder))
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "so101.toml"
    path.write_text(text)
    return path


def at(position: float) -> tuple[str, str]:
    """The leader's joints are there."""
    return LEADER, f"{LEADER}start_position = {position}\n"


def commands(robot: LockStep, cycles: int) -> tuple[np.ndarray, list[set[str]]]:
    """What was applied to the first joint, and the flags of these acts."""
    acts = [robot.step().command["arm"] for _ in range(cycles)]
    return np.array([act.applied[0] for act in acts]), [set(act.flags) for act in acts]


def test_the_first_command_is_where_the_arm_is_and_the_rest_is_made_up_slowly(
    tmp_path: Path,
) -> None:
    with LockStep(load(so101(tmp_path, at(0.3)))) as robot:
        places, _ = commands(robot, 600)
    places = places[np.isfinite(places)]
    assert places[0] == pytest.approx(0.0, abs=2e-3)
    assert np.abs(np.diff(places)).max() <= CATCH_UP * PERIOD_S + NOISE
    assert places[-1] == pytest.approx(0.3, abs=5e-3)


def test_poses_that_are_apart_are_refused_with_the_joint_and_both_places(tmp_path: Path) -> None:
    with LockStep(load(so101(tmp_path, at(0.9)))) as robot:
        places, _ = commands(robot, 200)
        told = robot.messages
    assert np.ptp(places[np.isfinite(places)]) == pytest.approx(0.0, abs=1e-6)
    (text,) = [one for one in told if "leader and arm are apart" in one]
    assert "joint 0 of leader is at 0.90" in text or "of leader is at 0.9" in text
    assert "bring the leader to the arm's pose" in text


def test_a_leader_that_is_late_is_coasted_for_and_met_again_without_a_jump(tmp_path: Path) -> None:
    with LockStep(load(so101(tmp_path, at(0.45)))) as robot:
        Fault("silent", "leader", 60, 60).plan(robot)
        places, flags = commands(robot, 800)
    away = places[60:125]
    steps = np.diff(places[np.isfinite(places)])
    assert sum("COASTING" in one for one in flags) == 4
    assert any("RAMPING" in one for one in flags[60:125])
    assert np.ptp(away[20:55]) == 0
    assert np.abs(steps).max() <= CATCH_UP * PERIOD_S + NOISE
    assert np.abs(np.diff(steps)).max() <= 20.0 * PERIOD_S**2 + 1e-9
    assert places[-1] == pytest.approx(0.45, abs=5e-3)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_bound_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="apart is above 0"):
        Follow(apart=bad)
    with pytest.raises(ValueError, match="catch_up is above 0"):
        Follow(catch_up=bad)


class Bench:
    """so101 on an emulator that a test asks, as `Run` wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name.lower()
        devices = so101(folder)
        text = devices.read_text().replace('name = "so101"', f'name = "{self.name}"')
        self.schedule = folder / "run.toml"
        self.schedule.write_text(text.replace(EMULATOR, ""))
        self.emulator = EmulatorProcess().start(devices)

    def leader(self, **request: object) -> None:
        """Ask the leader's emulator."""
        self.emulator.control({"device": "leader", **request})


EMULATOR = SO101[SO101.index("\n[emulator]") : SO101.index("\n[device.arm]")]


@pytest.mark.real
def test_a_leader_with_one_servo_dead_is_marked_and_the_arm_rests_until_it_is_back() -> None:
    with tempfile.TemporaryDirectory(prefix="inphase-test-") as folder:
        bench = Bench(Path(folder))
        try:
            with Run(bench, ["-m", "inphase", "run", str(bench.schedule), "--json"], {}) as run:
                run.frame(lambda frame: frame.state == "running")
                bench.leader(fault="off", servo=2)
                run.status("leader", "MISSING")
                rest = at_rest(run)
                assert all((applied(run) == rest).all() for _ in range(20))
                bench.leader(fault="clear")
                run.frame(lambda frame: frame.command["arm"].reason == "none")
                run.signal(signal.SIGINT)
                code, summary = run.end()
        finally:
            bench.emulator.stop()
    assert code in (130, 8), "8 where a busy machine did not see it come to rest"
    assert summary["sensors"]["leader"]["status"]["MISSING"] > 0
    assert summary["policy"]["reasons"].keys() <= {"silent", "input", "raised"}


def applied(run: Run) -> np.ndarray:
    """What the next act commands."""
    return run.follower.next(BOUND_S, newest=False).command["arm"].applied.copy()


def at_rest(run: Run) -> np.ndarray:
    """Wait until the commands stand."""
    found = [applied(run)]

    def look() -> bool:
        found.append(applied(run))
        return bool((found[-1] == found[-2]).all())

    until(look)
    return found[-1]
