"""Lock step gives the same bytes: however it is stepped, wherever and beside whatever it runs.

What a process ran is kept as a file of frames, so that the first field that differs can be named.
"""

import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

import inphase
from arms import arm_schedule
from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.frames.frame import Copies, Frame
from inphase.schedule import Schedule
from inphase.testing.comparison import assert_same_frames
from peers import BOUND_S, until
from worlds import needs_images

RANDOMISE = '[randomise]\n"world.body.block.mass" = { uniform = [0.1, 0.3] }\n'

# runs a schedule and keeps every frame; stops itself half-way where it is told to
RUN = """
import os, pickle, signal, sys
from inphase import load
from inphase.frames import store
from inphase.episodes.lockstep import LockStep

path, cycles, cores, out, half = sys.argv[1:]
if cores:
    os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
frames = []
with LockStep(load(path), seed=6) as robot:
    for frame in robot.frames(int(cycles)):
        copied = frame.copy()
        frames.append((copied.record, copied.payloads._values))
        if half and len(frames) == int(cycles) // 2:
            os.kill(os.getpid(), signal.SIGSTOP)
    with open(out, "wb") as file:
        pickle.dump((robot.digest(), frames), file)
"""


class Recording:
    """What a process of its own ran."""

    def __init__(self, schedule: Path, cycles: int, cores: str = "", pause: bool = False) -> None:
        out = schedule.with_name(f"{os.urandom(4).hex()}.frames")
        arguments = [str(schedule), str(cycles), cores, str(out), "half" if pause else ""]
        with subprocess.Popen([sys.executable, "-c", RUN, *arguments]) as process:
            if pause:
                self._pause(process)
            assert process.wait(3 * BOUND_S) == 0
        self.digest, self._frames = pickle.loads(out.read_bytes())
        self._schedule = schedule

    def _pause(self, process: subprocess.Popen[bytes]) -> None:
        """See that it stands half-way, let it go on, and stop it wherever it then is."""
        state = psutil.Process(process.pid)
        until(lambda: state.status() == psutil.STATUS_STOPPED)
        process.send_signal(signal.SIGCONT)
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            until(lambda: state.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
            process.send_signal(signal.SIGCONT)

    @property
    def frames(self) -> list[Frame]:
        """All of them."""
        with LockStep(load(self._schedule), seed=6) as robot:
            layout = robot.follower.layout
            return [
                Frame(layout, record, Copies(values, robot.follower))
                for record, values in self._frames
            ]


def assert_same(one: Recording, other: Recording) -> None:
    """The same digest; else the first frame and field that differ are named."""
    if one.digest != other.digest:
        assert_same_frames(one.frames, other.frames)
        raise AssertionError("the digests differ, and the frames do not")


def every_core() -> list[str]:
    """Each core alone, and all of them."""
    cores = sorted(os.sched_getaffinity(0))
    return [str(core) for core in (cores[0], cores[-1])] + [",".join(map(str, cores))]


@pytest.mark.real
def test_processes_and_cores_change_nothing(tmp_path: Path) -> None:
    path = arm_schedule(tmp_path, timing=True, more=RANDOMISE)
    first, *others = [Recording(path, 600, cores) for cores in every_core()]
    for other in others:
        assert_same(first, other)
    with LockStep(load(path), seed=6) as robot:
        assert_same_frames(robot.frames(600), first.frames)
        assert robot.digest() == first.digest


@pytest.mark.real
@needs_images
def test_images_are_the_same_in_every_process(tmp_path: Path) -> None:
    path = arm_schedule(tmp_path, camera=True, timing=True)
    first, second = Recording(path, 80), Recording(path, 80, every_core()[0])
    assert_same(first, second)
    assert any(frame["image"].status == "FRESH" for frame in first.frames)


@pytest.mark.real
def test_a_process_that_is_stopped_on_the_way_goes_on_as_if_it_had_not_been(
    tmp_path: Path,
) -> None:
    path = arm_schedule(tmp_path, timing=True)
    assert_same(Recording(path, 4000), Recording(path, 4000, pause=True))


@pytest.mark.real
def test_workers_change_nothing(tmp_path: Path) -> None:
    path = arm_schedule(tmp_path, timing=True, more=RANDOMISE)
    digests = [
        [e.digest for e in inphase.rollout(path, None, 4, 6, cycles=300, workers=workers)]
        for workers in (1, 2, 4)
    ]
    assert digests[0] == digests[1] == digests[2]
    with LockStep(load(path), seed=6) as robot:
        robot.run(300)
        assert robot.digest() == digests[0][0]


def test_runs_in_one_process_change_nothing(tmp_path: Path) -> None:
    """Also beside one another, and after one that went elsewhere in the same world."""
    described = load(arm_schedule(tmp_path, timing=True, more=RANDOMISE))
    with LockStep(described, seed=6) as first, LockStep(described, seed=7) as other:
        with LockStep(described, seed=6) as second:
            for _ in zip(other.frames(300), range(100), strict=False):
                pass
            assert_same_frames(first.frames(300), second.frames(300))
        world = other.world
        with LockStep(described, seed=6, world=world) as again:
            again.run(300)
            assert again.digest() == first.digest()


def test_every_seed_and_every_episode_is_another(tmp_path: Path) -> None:
    described = load(arm_schedule(tmp_path, timing=True))

    def digest(**options: Any) -> str:
        with LockStep(described, **options) as robot:
            robot.run(60)
            return robot.digest()

    runs = [{"seed": s, "episode": e} for s in (0, 1, 2**64 - 1) for e in (0, 1, 2)]
    assert len({digest(**run) for run in runs}) == len(runs)


def _without_policy(described: Schedule) -> Schedule:
    return msgspec.structs.replace(described, policy=None)


@pytest.mark.parametrize("policy", [True, False])
def test_the_digest_does_not_depend_on_how_a_run_is_stepped(tmp_path: Path, policy: bool) -> None:
    described = load(arm_schedule(tmp_path, timing=True))

    def run(*parts: int, singly: bool = False) -> str:
        hold = (lambda frame: frame["joints"].value["position"].copy()) if policy else None
        with LockStep(_without_policy(described), seed=5, call=hold) as robot:
            for part in parts:
                if singly:
                    for _ in robot.frames(part):
                        robot.digest()
                else:
                    robot.run(part)
            return robot.digest()

    whole = run(900)
    assert run(7, 400, 1, 492) == run(900, singly=True) == whole
    assert run(899) != whole


def _stores() -> int:
    """Descriptors of segments that this process has."""
    count = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += "memfd:inphase" in str(fd.readlink())
    return count


@pytest.mark.real
def test_a_robot_that_nobody_closed_leaves_no_memory_behind(tmp_path: Path) -> None:
    gc.collect()  # what earlier tests left
    path, before = arm_schedule(tmp_path), _stores()
    robot = LockStep(load(path), call=lambda _: None)
    kept = robot.next().copy()["joints"].value["position"]
    assert _stores() > before
    del robot
    gc.collect()
    assert _stores() == before
    assert np.isfinite(kept).all()
