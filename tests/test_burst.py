"""All samples of a stream since the last frame: in lock step, of a device, and on the wire."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import inphase
from inphase.episodes.lockstep import LockStep
from inphase.frames.record_layout import ABSENT
from inphase.recording.recording import Recording
from inphase.schedule import Schedule, load
from inphase.testing.rig import NAME, Rig, path_for_children
from inphase_drivers.examples import StreamingImu
from inphase_drivers.examples.imu import RAD_S
from peers import BOUND_S
from recorded_runs import Foreign, keep, record
from test_contract_examples import ImuPeer

MS = 1_000_000


def schedule(folder: Path, burst: int, more: str = "") -> Schedule:
    """The IMU of 1 kHz in cycles of 500 Hz."""
    path = folder / "robot.toml"
    path.write_text(
        'name = "burst"\n[cycle]\nrate_hz = 500\nread_deadline_us = 1200\nact_us = 1500\n'
        'realtime = "prefer"\n[device.imu]\ndriver = "inphase_drivers.examples:StreamingImu"\n'
        'port = "/dev/imu"\n[sensor.imu]\ndevice = "imu"\nmax_age_ms = 20\n'
        f"{f'burst = {burst}' if burst else ''}\n{more}"
    )
    return load(path)


def gone_through(value: NDArray[Any], most: int) -> tuple[int, int]:
    """Its count and losses, of a burst whose parts fit together."""
    count, lost = int(value["burst_count"]), int(value["burst_lost"])
    assert 0 < count <= most and lost >= 0
    assert value["gyro_burst"].shape == (most, 3) and value["accel_burst"].shape == (most, 3)
    np.testing.assert_array_equal(value["gyro_burst"][count - 1], value["gyro"])
    np.testing.assert_array_equal(value["accel_burst"][count - 1], value["accel"])
    assert np.isfinite(value["gyro_burst"][:count]).all()
    assert np.isnan(value["gyro_burst"][count:]).all()
    for name in ("burst_acquired_ns", "burst_received_ns", "burst_uncertainty_ns"):
        assert value[name].shape == (most,)
        assert (value[name][count:] == ABSENT).all()
    received = value["burst_received_ns"][:count]
    assert (np.diff(received) >= 0).all()
    return count, lost


def test_a_frame_has_both_samples_of_a_sensor_that_is_twice_as_fast(tmp_path: Path) -> None:
    with LockStep(schedule(tmp_path, 4), digest=False) as robot:
        frames = [robot.step() for _ in range(50)]
    acquired = []
    for frame in frames[2:]:
        sample = frame["imu"]
        assert sample.status == "FRESH"
        count, lost = gone_through(sample.value, 4)
        assert (count, lost) == (2, 0)
        stamps = sample.value["burst_acquired_ns"][:count]
        assert stamps[-1] == sample.acquired_ns
        assert sample.value["burst_received_ns"][count - 1] == sample.received_ns
        acquired += stamps.tolist()
    assert set(np.diff(acquired)) == {MS}, "every sample, once, in its order"


def test_a_view_of_a_burst_lasts_as_many_frames_as_its_ring_has(
    tmp_path: Path,
) -> None:
    path = schedule(tmp_path, 4).path
    path.write_text(path.read_text().replace("= 500", "= 100"))
    command = [sys.executable, "-m", "inphase", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=BOUND_S)
    rows = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    (row,) = (row for row in rows if row[:1] == ["imu"] and len(row) == 3 and row[1].isdigit())
    assert int(row[2]) == (int(row[1]) - 1) * 10, "ms, at 100 Hz"


def test_what_does_not_fit_is_counted_and_the_newest_are_kept(tmp_path: Path) -> None:
    with LockStep(schedule(tmp_path, 1), digest=False) as robot:
        frames = [robot.step() for _ in range(20)]
    for frame in frames[2:]:
        assert gone_through(frame["imu"].value, 1) == (1, 1)
        assert frame["imu"].value["burst_acquired_ns"][0] == frame["imu"].acquired_ns


@pytest.mark.parametrize(("most", "kept"), [(16, 16), (64, 20)])
def test_a_slow_cycle_has_every_sample_or_counts_it(tmp_path: Path, most: int, kept: int) -> None:
    path = schedule(tmp_path, most).path
    path.write_text(path.read_text().replace("= 500", "= 50"))
    acquired = []
    with LockStep(load(path), digest=False) as robot:
        frames = [robot.step().copy() for _ in range(20)]
    for frame in frames[2:]:
        value = frame["imu"].value
        assert gone_through(value, most) == (kept, 20 - kept)
        acquired.append(value["burst_acquired_ns"][:kept])
    assert all(set(np.diff(stamps)) == {MS} for stamps in acquired)
    gaps = {after[0] - before[-1] for before, after in itertools.pairwise(acquired)}
    assert gaps == {(21 - kept) * MS}, "between two bursts is what they count as lost"


@pytest.mark.parametrize("fault", ["silent", "gone"])
def test_what_a_device_took_while_it_was_away_is_in_no_burst(tmp_path: Path, fault: str) -> None:
    with LockStep(schedule(tmp_path, 8), digest=False) as robot:
        robot.core.fault(fault, 0, 20, 10)
        frames = [robot.step().copy() for _ in range(40)]
    back = next(
        frame for frame in frames[20:] if frame["imu"].sequence > frames[19]["imu"].sequence
    )
    assert back.cycle in range(30, 32)
    count, lost = gone_through(back["imu"].value, 8)
    assert lost == 0 and count <= 2
    oldest = back["imu"].value["burst_acquired_ns"][0]
    assert oldest >= back.due_ns - 3 * MS


def test_a_burst_changes_nothing_of_the_newest_sample(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        LockStep(schedule(tmp_path, 8), digest=False) as one,
        LockStep(schedule(tmp_path / "other", 0), digest=False) as other,
    ):
        for _ in range(30):
            ours, theirs = one.step()["imu"], other.step()["imu"]
            assert (ours.status, ours.acquired_ns, ours.received_ns) == (
                theirs.status, theirs.acquired_ns, theirs.received_ns
            )  # fmt: skip
            if ours.status == "FRESH":
                np.testing.assert_array_equal(ours.value["gyro"], theirs.value["gyro"])


SLOW = """
[device.slow]
driver = "simulated"
acquire_us = 137
latency_us = 300
fields = { place = { unit = "m", shape = [1] } }
[sensor.slow]
device = "slow"
trigger_us = 0
every = 2
latency_cycles = 1
max_age_ms = 20
"""


def test_a_burst_is_not_interpolated_between_two_frames(tmp_path: Path) -> None:
    with LockStep(schedule(tmp_path, 4, SLOW), digest=False) as robot:
        frames = [robot.step() for _ in range(20)][2:]
        assert frames[-1]["slow"].status == "FRESH"
        bursts = [frame["imu"].value["gyro_burst"].tobytes() for frame in frames]
        aligned = frames[-1].at("slow", method="linear")["imu"]
        value = aligned.value
    assert value["gyro_burst"].tobytes() in bursts
    assert all(value["gyro"].tobytes() != frame["imu"].value["gyro"].tobytes() for frame in frames)


def test_a_burst_is_recorded_and_read_back_byte_for_byte(tmp_path: Path) -> None:
    path = schedule(tmp_path, 4).path
    record(path, 60, tmp_path / "run.mcap")
    frames, _ = keep(path, 60)
    foreign = Foreign(tmp_path / "run.mcap")
    compared = 0
    with Recording(tmp_path / "run.mcap") as recording:
        for ours, theirs in zip(frames, recording, strict=True):
            if ours["imu"].status == "FRESH":
                assert ours["imu"].value.tobytes() == theirs["imu"].value.tobytes()
                gone_through(theirs["imu"].value, 4)
                compared += 1
    assert compared > 50
    (topic,) = (name for name in foreign.of if "imu" in name)
    assert len(foreign.of[topic]) == compared


@pytest.fixture
def device(tmp_path: Path) -> Iterator[ImuPeer]:
    peer = ImuPeer(tmp_path)
    yield peer
    peer.close()


def numbers(values: NDArray[Any]) -> list[int]:
    """The device's count of samples, by their first axis."""
    return [round(float(value) / RAD_S) % 65536 for value in values[:, 0]]


@pytest.mark.real
@pytest.mark.parametrize("most", [64, 4])
def test_every_sample_of_a_device_is_in_a_frame_or_counted_as_lost(
    device: ImuPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_for_children(StreamingImu))
    rig = Rig(tmp_path, StreamingImu, device.options)
    with rig.run(f"burst = {most}\n") as robot:
        robot.status("FRESH")
        before, fresh = None, 0
        sequence = None
        while fresh < 30:
            frame = robot.frame(lambda frame: frame[NAME].status == "FRESH", "FRESH")
            sample = frame[NAME]
            count, lost = gone_through(sample.value, most)
            found = numbers(sample.value["gyro_burst"][:count])
            assert found == [(found[0] + i) % 65536 for i in range(count)]
            if sequence is not None and sample.sequence == sequence + 1:
                assert before is not None
                assert (found[0] - before) % 65536 == lost + 1, "none is missing"
                fresh += 1
            before, sequence = found[-1], sample.sequence
            assert frame.latched_ns >= sample.value["burst_received_ns"][count - 1]
            for number, stamp, error in zip(
                found,
                sample.value["burst_acquired_ns"],
                sample.value["burst_uncertainty_ns"],
                strict=False,
            ):
                if stamp != ABSENT:
                    assert abs(int(stamp) - device.taken(number)) <= error


@pytest.mark.real
def test_a_burst_is_the_same_by_store_and_by_zeromq(
    device: ImuPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_for_children(StreamingImu))
    rig = Rig(tmp_path, StreamingImu, device.options)
    endpoint = f"ipc://{tmp_path}/gateway"
    with (
        rig.run(f'burst = 32\n[gateway]\nendpoint = "{endpoint}"\n') as robot,
        inphase.subscribe(endpoint, transport="zmq", timeout_s=BOUND_S) as far,
    ):
        compared = 0
        while compared < 5:
            one = far.next(BOUND_S)
            two = robot.frame(lambda frame: frame.cycle >= one.cycle, "its cycle")  # noqa: B023
            if two.cycle != one.cycle or one[NAME].status != "FRESH":
                continue
            assert one[NAME].value.tobytes() == two[NAME].value.tobytes()
            gone_through(one[NAME].value, 32)
            assert one.layout.units[0]["gyro_burst"] == "rad/s"
            compared += 1
