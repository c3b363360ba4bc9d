"""Sensors alone: the skew that a frame reports is the true one, and nothing wakes to act."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inphase import schedule
from inphase.episodes.lockstep import LockStep

_HEAD = """
name = "skew"
[cycle]
rate_hz = 100
read_deadline_us = 6000
act_us = 8000
"""
_SENSOR = """
[device.{name}]
driver = "timed:Timed"
place = "udp:{name}"
request_us = 10
acquire_us = 0
acquire_ns = {injected_ns}
[sensor.{name}]
device = "{name}"
trigger_us = {trigger_us}
max_age_ms = 100
"""

offsets = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 1000)), min_size=4, max_size=4)


def reported(folder: Path, sensors: list[tuple[int, int]], silent: set[int]) -> set[int | None]:
    """The skews of ten frames; (trigger offset in us, acquisition after the trigger in ns)."""
    path = folder / "skew.toml"
    path.write_text(
        _HEAD
        + "".join(
            _SENSOR.format(name=f"s{i}", trigger_us=trigger_us, injected_ns=injected_ns)
            for i, (trigger_us, injected_ns) in enumerate(sensors)
        )
    )
    with LockStep(schedule.load(path)) as run:
        for sensor in silent:
            run.core.fault("silent", sensor, 0, 10)
        return {run.step().skew_ns for _ in range(10)}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sensors=offsets)
def test_the_reported_skew_is_the_injected_one_to_the_nanosecond(
    tmp_path: Path, sensors: list[tuple[int, int]]
) -> None:
    at_ns = [1000 * trigger_us + injected_ns for trigger_us, injected_ns in sensors]
    assert reported(tmp_path, sensors, set()) == {max(at_ns) - min(at_ns)}


def test_only_fresh_samples_count_for_the_skew(tmp_path: Path) -> None:
    sensors = [(0, 0), (10, 5), (900, 77), (3000, 0)]
    assert reported(tmp_path, sensors, {3}) == {900_077}


@pytest.mark.parametrize("fresh", [0, 1])
def test_fewer_than_two_fresh_samples_have_no_skew(tmp_path: Path, fresh: int) -> None:
    assert reported(tmp_path, [(0, 0)] * 4, set(range(fresh, 4))) == {None}


def test_a_robot_of_sensors_alone_ends_its_cycle_with_the_latch(tmp_path: Path) -> None:
    path = tmp_path / "alone.toml"
    path.write_text(_HEAD + _SENSOR.format(name="s", trigger_us=0, injected_ns=0))
    with LockStep(schedule.load(path)) as run:
        frames = [run.step().copy() for _ in range(10)]
        assert run.follower.reader.status()["cycles"] == 10
    assert {frame.command.acted_ns for frame in frames} == {None}
    assert [frame.due_ns for frame in frames] == [n * 10_000_000 for n in range(10)]
