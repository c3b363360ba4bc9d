"""The ready rig: an arm, a sensor, CAN motors and a camera, each at its own rate, in one frame."""

import re
import socket
from pathlib import Path

import pytest

from inphase import Runner, schedule
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from peers import BOUND_S, ROOT, free_port
from robots import PATIENT

pytest.importorskip(
    "pypylon", reason="the rig's camera needs pypylon: pip install 'inphase[pylon]'"
)

RIG = ROOT / "schedules" / "rig.toml"
EVERY = {"joints": 1, "wrench": 1, "angles": 4, "image": 8}
LATENCY = {"joints": 0, "wrench": 0, "angles": 1, "image": 3}


def rig_schedule(folder: Path) -> Path:
    """The rig with ports and names of its own, and without a gateway."""
    text = RIG.read_text()
    port = free_port(socket.SOCK_DGRAM)
    text = text.replace('name = "rig"', f'name = "rig{port}"')
    text = text.replace("/tmp/inphase-rig/", f"{folder}/")
    text = text.replace("49162", str(port)).replace("8098 ", f"{free_port(socket.SOCK_STREAM)} ")
    text = text.replace("43141", str(free_port(socket.SOCK_DGRAM)))
    text = text.replace('"rig_policy.py:', f'"{RIG.parent}/rig_policy.py:')
    text = re.sub(r"(?ms)^\[gateway\]$.*?(?=^\[)", "", text)
    text = text.replace("[device.arm]", f"{PATIENT}[device.arm]")
    path = folder / "rig.toml"
    path.write_text(text)
    return path


def test_in_lock_step_every_sensor_is_fresh_when_it_is_due_and_held_between() -> None:
    with LockStep(schedule.load(RIG), seed=1) as robot:
        frames = [robot.step().copy() for _ in range(40)]
        digest = robot.digest()
    for frame in frames:
        for name, sample in frame.samples.items():
            since = frame.cycle - LATENCY[name]
            if since < 0:
                assert sample.status == "MISSING"
            elif since % EVERY[name] == 0:
                assert (sample.status, sample.cycle) == ("FRESH", since)
            else:
                assert (sample.status, sample.cycle) == ("HELD", since - since % EVERY[name])
                assert sample.age_ns is not None and sample.acquired_ns is not None
                assert sample.age_ns == frame.latched_ns - sample.acquired_ns
    with LockStep(schedule.load(RIG), seed=1) as again:
        again.run(40)
        assert again.digest() == digest


@pytest.mark.real
def test_the_rig_runs_with_everything_emulated_by_true_protocols(tmp_path: Path) -> None:
    seen: dict[str, int] = dict.fromkeys(EVERY, 0)
    pictures = set()
    places = set()

    def note(frame: Frame) -> None:
        for name, sample in frame.samples.items():
            if sample.status != "FRESH":
                continue
            seen[name] += 1
            assert sample.cycle == frame.cycle - LATENCY[name]
            assert frame.cycle % EVERY[name] == LATENCY[name] % EVERY[name]
        if frame["joints"].status == "FRESH":
            places.add(frame["joints"].value["position"].tobytes())
        if frame["image"].status == "FRESH":
            pictures.add(frame["image"].value["image"].tobytes())

    with Runner(rig_schedule(tmp_path)) as runner:
        for _ in range(4000):
            note(runner.next(BOUND_S))
            if min(seen.values()) >= 10 and len(places) > 10:
                break
    assert min(seen.values()) >= 10, seen
    assert len(places) > 10, "the arm never moved: was its watchdog fed until the first cycle?"
    assert len(pictures) > 1 and len(next(iter(pictures))) == 640 * 480
    assert runner.summary is not None and runner.summary["commands"]["written"] > 0
