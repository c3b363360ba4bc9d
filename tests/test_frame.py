"""Frames as objects."""

import gc
from pathlib import Path

from inphase import schedule
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame

_DEMO = Path(__file__).parent.parent / "schedules" / "demo.toml"


def test_frames_that_were_read_are_freed_without_the_garbage_collector() -> None:
    # the policy's process runs with it disabled: a circle would grow for ever
    gc.collect()
    gc.disable()
    try:
        with LockStep(schedule.load(_DEMO), digest=False) as robot:
            for _ in range(50):
                frame = robot.step()
                assert frame["joints"].value["position"].shape == (6,)
                assert frame["joints"].status == "FRESH"
            held = sum(type(thing) is Frame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert held <= 2, f"{held} frames are held"
