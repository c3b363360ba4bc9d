"""Frames as objects."""

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest

from inphase import schedule
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.frames import zero_frame

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


@pytest.mark.parametrize("where", ["store", "copy", "copied value", "aligned", "zeros"])
def test_a_wrong_name_of_a_field_is_answered_with_the_names_there_are(where: str) -> None:
    with LockStep(schedule.load(_DEMO), digest=False) as robot:
        frame = robot.step()
        value = {
            "store": lambda: frame["joints"].value,
            "copy": lambda: frame.copy()["joints"].value,
            "copied value": frame["joints"].value.copy,
            "aligned": lambda: frame.at("wrench", "linear")["joints"].value,
            "zeros": lambda: zero_frame.frame(frame.layout)["joints"].value,
        }[where]()
        with pytest.raises(KeyError) as raised:
            value["pos"]
        with pytest.raises(KeyError) as of_sample:
            frame["joints"]["pos"]
        assert type(value["position"]) is np.ndarray  # what is computed with it costs no more
        assert value[["position", "velocity"]].dtype.names == ("position", "velocity")
    assert raised.value.args == of_sample.value.args
    assert raised.value.args == (
        "no field 'pos' (did you mean 'position'?); there are: position, velocity, current",
    )


def test_a_value_is_the_memory_of_the_ring_and_stays_read_only() -> None:
    with LockStep(schedule.load(_DEMO), digest=False) as robot:
        value = robot.step()["joints"].value
        assert np.shares_memory(value, value["position"])
        with pytest.raises(ValueError, match="read-only"):
            value["position"][0] = 1.0
        assert pickle.loads(pickle.dumps(value))["position"].tolist() == value["position"].tolist()
