"""`Frame.at`: the other sensors at one sensor's acquisition, and how far off that can be."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inphase import schedule
from inphase.episodes.lockstep import LockStep
from inphase.frames import record_layout, wire
from inphase.frames.alignment import Method, slerp
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.layout import Layout
from inphase.frames.message import Form
from inphase.frames.sending import Writer
from inphase.frames.store import Reader
from robots import demo_schedule

MS = 1_000_000
METHODS: tuple[Method, ...] = ("nearest", "linear")
JOINTS = np.dtype([("position", "<f8", (2,)), ("pose", "<f8", (4,)), ("ticks", "<i4")])
CAMERA = np.dtype([("image", "|u1", (2, 2))])
LAYOUT = Layout(
    robot="r",
    hash="0" * 16,
    epoch=1,
    period_ns=MS,
    sensors=("joints", "camera"),
    dtypes=(JOINTS, CAMERA),
    units=({"position": "rad", "pose": "quaternion", "ticks": ""}, {"image": ""}),
    depths=(16, 16),
    actuators=(),
    rates=({"position": np.array([2.0, np.nan]), "pose": np.ones(4), "ticks": np.array(5.0)}, {}),
)


class Recorded:
    """Frames in memory, with the samples that they name: what a follower is over a store."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.samples: dict[tuple[int, int], NDArray[Any]] = {}
        self.rows = [
            (
                -1,
                -1,
                record_layout.ABSENT,
                record_layout.ABSENT,
                record_layout.ABSENT,
                record_layout.ABSENT,
                0,
                3,
                0,
                0,
            )
        ] * 2

    def sample(
        self,
        sensor: int,
        acquired_ns: int,
        value: NDArray[Any],
        uncertainty_ns: int = 0,
        status: str = "FRESH",
    ) -> None:
        """A sample that is new in the next frame."""
        sequence = self.rows[sensor][0] + 1
        code = record_layout.STATUSES.index(status)
        self.samples[sensor, sequence] = value
        self.rows[sensor] = (sequence, 0, 0, acquired_ns, 0, 0, uncertainty_ns, code, 0, 0)

    def latch(self, latched_ns: int) -> Frame:
        """A frame; what it has is held in the next one."""
        head = record_layout.HEADER.pack(len(self.frames), 0, 0, 0, latched_ns, 0, -1, *[0] * 15)
        frame = Frame(
            LAYOUT, head + b"".join(record_layout.ROW.pack(*row) for row in self.rows), self
        )
        self.frames.append(frame)
        held = record_layout.STATUSES.index("HELD")
        self.rows = [row if row[0] < 0 else (*row[:7], held, 0, 0) for row in self.rows]
        return frame

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        return self.samples[sensor, sequence]

    def intact(self, sensor: int, sequence: int) -> bool:
        return True

    def whole(self, record: bytes) -> bool:
        return True

    def past(self, cycle: int) -> "Iterator[tuple[bytes, Recorded]]":
        return ((frame.record, self) for frame in reversed(self.frames[:cycle]))


def joints(position: float, pose: Any = (1, 0, 0, 0), ticks: int = 0) -> NDArray[Any]:
    """A sample of them."""
    return np.array(((position, -position), pose, ticks), JOINTS)


IMAGE = np.zeros((), CAMERA)


def moving_robot(camera_ns: int, *, missed: tuple[int, ...] = ()) -> Frame:
    """Joints at 1 kHz, where the position in rad is the time in s, and a picture taken earlier.

    missed: the milliseconds in which there was no sample.
    """
    robot = Recorded()
    for ms in range(20):
        if ms not in missed:
            robot.sample(0, ms * MS, joints(ms * 1e-3, ticks=ms))
        if ms == 18:
            robot.sample(1, camera_ns, IMAGE)
        frame = robot.latch(ms * MS + 500_000)
    return frame


def test_the_sample_acquired_nearest_is_given_with_its_distance() -> None:
    aligned = moving_robot(12_400_000).at("camera")
    joint = aligned["joints"]
    assert (joint.acquired_ns, joint.distance_ns, joint.error_ns) == (12 * MS, 400_000, 400_000)
    assert (joint.sequences, joint.status, joint.method) == ((12,), "FRESH", "nearest")
    assert joint.value["position"].tolist() == [0.012, -0.012]
    np.testing.assert_array_equal(joint.error["position"], [2 * 4e5 * 1e-9, np.nan])
    assert moving_robot(12_600_000).at("camera")["joints"].acquired_ns == 13 * MS
    assert aligned.acquired_ns == 12_400_000


def test_a_line_between_two_samples_is_the_known_motion() -> None:
    joint = moving_robot(12_400_000).at("camera", method="linear")["joints"]
    assert joint.method == "linear"
    assert (joint.acquired_ns, joint.distance_ns, joint.sequences) == (
        12_400_000,
        400_000,
        (12, 13),
    )
    assert joint.error_ns == 2 * 400_000 * 600_000 // MS
    np.testing.assert_allclose(joint.value["position"], [0.0124, -0.0124], rtol=1e-15)
    assert joint.value["ticks"] == 12, "what is no float64 is the nearest sample's"
    assert joint.error["ticks"] == 5 * 400_000e-9
    assert "pose" not in joint.error
    assert not joint.value.flags.writeable


def test_at_a_sample_the_line_is_that_sample() -> None:
    joint = moving_robot(12 * MS).at("camera", method="linear")["joints"]
    assert (joint.error_ns, joint.distance_ns) == (0, 0)
    assert joint.value["position"].tolist() == [0.012, -0.012]


def test_the_sensor_itself_is_its_own_sample_without_error() -> None:
    camera = moving_robot(12_400_000).at("camera", method="linear")["camera"]
    assert (camera.distance_ns, camera.error_ns, camera.sequences) == (0, 0, (0,))


def test_over_a_gap_the_bound_is_half_of_it() -> None:
    frame = moving_robot(12 * MS, missed=tuple(range(8, 17)))
    joint = frame.at("camera", method="linear")["joints"]
    assert (joint.sequences, joint.error_ns, joint.distance_ns) == ((7, 8), 5 * MS, 5 * MS)
    assert frame.at("camera")["joints"].error_ns == 5 * MS


@pytest.mark.parametrize("camera_ns", [-3 * MS, 25 * MS])
def test_outside_of_what_is_known_nothing_is_extrapolated(camera_ns: int) -> None:
    joint = moving_robot(camera_ns).at("camera", method="linear")["joints"]
    assert joint.method == "nearest"
    end = 0 if camera_ns < 0 else 19 * MS
    assert (joint.acquired_ns, joint.error_ns) == (end, abs(camera_ns - end))
    assert joint.value["position"][0] == end * 1e-9


def test_a_sample_that_was_not_trusted_when_new_is_not_better_when_it_is_held() -> None:
    robot = Recorded()
    robot.sample(0, 0, joints(0.0))
    robot.latch(MS)
    robot.sample(0, 1 * MS, joints(0.1), status="RECOVERING")
    for ms in range(1, 6):
        robot.latch(ms * MS + 1)
    robot.sample(1, 2 * MS, IMAGE)
    frame = robot.latch(7 * MS)
    assert frame["joints"].status == "HELD"
    assert frame.at("camera")["joints"].status == "RECOVERING"


def test_uncertainties_of_both_clocks_are_in_the_bound() -> None:
    robot = Recorded()
    robot.sample(0, 0, joints(0.0), uncertainty_ns=10)
    robot.latch(1)
    robot.sample(0, 1000, joints(0.0), uncertainty_ns=30)
    robot.sample(1, 250, IMAGE, uncertainty_ns=7)
    frame = robot.latch(2000)
    assert frame.at("camera").uncertainty_ns == 7
    assert frame.at("camera")["joints"].error_ns == 250 + 10 + 7
    assert frame.at("camera", "linear")["joints"].error_ns == 2 * 250 * 750 // 1000 + 30 + 7


def test_a_sensor_without_known_acquisition_is_the_newest_and_says_so() -> None:
    robot = Recorded()
    for ms in range(5):
        robot.sample(0, record_layout.ABSENT, joints(ms))
        robot.sample(1, ms * MS - 3 * MS, IMAGE)
        frame = robot.latch(ms * MS)
    joint = frame.at("camera", "linear")["joints"]
    assert (joint.acquired_ns, joint.distance_ns, joint.error_ns) == (None, None, None)
    assert joint.error == {}
    assert joint.value["position"][0] == 4


def test_what_cannot_be_aligned_says_what_to_do() -> None:
    robot = Recorded()
    robot.sample(0, MS, joints(0.0))
    frame = robot.latch(2 * MS)
    with pytest.raises(LookupError, match=r"camera has given no sample yet \(MISSING\)"):
        frame.at("camera")
    aligned = frame.at("joints")
    with pytest.raises(LookupError, match="camera has given no sample yet"):
        _ = aligned["camera"].value
    with pytest.raises(KeyError, match="no sensor 'wrist'; there are: joints, camera"):
        frame.at("wrist")
    with pytest.raises(ValueError, match="nearest or linear, got 'cubic'"):
        frame.at("joints", method="cubic")  # type: ignore[arg-type]
    robot.sample(1, record_layout.ABSENT, IMAGE)
    unknown = "camera: the acquisition time of its sample is not known"
    with pytest.raises(LookupError, match=unknown):
        robot.latch(3 * MS).at("camera")


# ---- bounds -----------------------------------------------------------------------------

RATE = 2.0


class Motion:
    """A quantity that changes by at most RATE per second, with corners."""

    def __init__(self, slopes: list[float]) -> None:
        self._slopes = slopes

    def __call__(self, time_ns: int) -> float:
        """Its value; a new slope begins every 0.7 ms."""
        at, value = time_ns / 700_000 + 100, 0.0
        for number in range(math.floor(at)):
            value += self._slopes[number % len(self._slopes)]
        value += (at - math.floor(at)) * self._slopes[math.floor(at) % len(self._slopes)]
        return value * 700e-6 * RATE


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=50).map(Motion),
    st.lists(st.integers(1, 3 * MS), min_size=1, max_size=12),
    st.integers(0, 200_000),
    st.tuples(st.integers(0, 20 * MS), st.integers(0, 200_000)),
    st.randoms(use_true_random=False),
)
def test_the_truth_is_within_the_error(
    motion: Motion, steps: list[int], error_ns: int, camera: tuple[int, int], random: Any
) -> None:
    robot, now_ns = Recorded(), 0
    for step in steps:
        now_ns += step
        said_ns = now_ns + random.randint(-error_ns, error_ns)
        robot.sample(0, said_ns, joints(motion(now_ns)), error_ns)
        robot.latch(now_ns + MS)
    true_ns, camera_error_ns = camera
    said_ns = true_ns + random.randint(-camera_error_ns, camera_error_ns)
    robot.sample(1, said_ns, IMAGE, camera_error_ns)
    frame = robot.latch(max(now_ns, true_ns) + 2 * MS)
    for method in METHODS:
        joint = frame.at("camera", method)["joints"]
        off = abs(joint.value["position"][0] - motion(true_ns))
        assert off <= joint.error["position"][0] + 1e-12
        if 2 * error_ns < min(steps):  # their stamps are in their order
            stamps = [before["joints"].acquired_ns or 0 for before in robot.frames]
            assert joint.distance_ns == min(abs(stamp - said_ns) for stamp in stamps)


# ---- quaternions ------------------------------------------------------------------------


def times(p: Any, q: Any) -> Any:
    """Hamilton's product."""
    a, b, c, d = p
    w, x, y, z = q
    return (
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    )


def turned_by_part(first: Any, second: Any, part: float) -> Any:
    """first * (first^-1 * second)^part: a turn about a fixed axis by a part of its angle."""
    turn = times((first[0], -first[1], -first[2], -first[3]), second)
    if turn[0] < 0:
        turn = tuple(-x for x in turn)
    sine = math.sqrt(sum(x * x for x in turn[1:]))
    angle = part * math.atan2(sine, turn[0])
    axis = [x / sine for x in turn[1:]] if sine > 0 else [0.0, 0.0, 0.0]
    return times(first, (math.cos(angle), *(math.sin(angle) * x for x in axis)))


quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1)


def unit(q: Any) -> Any:
    """Of length 1."""
    return tuple(x / math.hypot(*q) for x in q)


@given(quaternions.map(unit), quaternions.map(unit), st.floats(0, 1))
def test_quaternions_turn_about_one_axis_on_the_shorter_way(
    first: Any, second: Any, part: float
) -> None:
    between = slerp(np.array(first), np.array(second), part)
    assert math.isclose(np.linalg.norm(between), 1, rel_tol=1e-12)
    if abs(np.dot(first, second)) < 1e-9:
        return  # half a turn: both ways are as short
    expected = turned_by_part(first, second, part)
    same = min(np.abs(between - expected).max(), np.abs(between + expected).max())
    assert same < 1e-9
    other = slerp(np.array(first), -np.array(second), part)
    np.testing.assert_allclose(other, between, atol=1e-12)


def test_a_field_in_quaternions_is_turned_and_not_mixed() -> None:
    robot = Recorded()
    half = math.sqrt(0.5)
    robot.sample(0, 0, joints(0.0, (1, 0, 0, 0)))
    robot.latch(1)
    robot.sample(0, 3 * MS, joints(0.0, (-half, 0, 0, -half)))  # 90 degrees about z
    robot.sample(1, MS, IMAGE)
    pose = robot.latch(4 * MS).at("camera", "linear")["joints"].value["pose"]
    thirty = math.radians(30)
    np.testing.assert_allclose(pose, [math.cos(thirty / 2), 0, 0, math.sin(thirty / 2)], atol=1e-15)


# ---- in lock step -----------------------------------------------------------------------


def slow_wrist(folder: Path) -> schedule.Schedule:
    """The demo with a wrench every 10 cycles, which is in the frame 3 cycles later."""
    path = demo_schedule(folder)
    text = path.read_text()
    before = 'device = "wrist"\ntrigger_us = 0\nmax_age_ms = 10'
    assert before in text
    slow = 'device = "wrist"\ntrigger_us = 0\nmax_age_ms = 60\nevery = 10\nlatency_cycles = 3'
    path.write_text(text.replace(before, slow))
    return schedule.load(path)


def test_in_lock_step_the_joints_are_those_of_the_wrenchs_cycle(tmp_path: Path) -> None:
    with LockStep(slow_wrist(tmp_path), digest=False) as robot:
        seen: dict[int, NDArray[Any]] = {}
        checked = 0
        for _ in range(200):
            frame = robot.step()
            joint = frame["joints"]
            assert joint.acquired_ns is not None
            seen[joint.acquired_ns] = joint.value.copy()
            if frame["wrench"].status != "FRESH":
                continue
            instant_ns = frame["wrench"].acquired_ns
            assert instant_ns is not None
            before = max(t for t in seen if t <= instant_ns)
            after = min(t for t in seen if t > instant_ns)
            part = (instant_ns - before) / (after - before)
            expected = (1 - part) * seen[before]["position"] + part * seen[after]["position"]

            line = frame.at("wrench", "linear")["joints"]
            assert (line.method, line.acquired_ns) == ("linear", instant_ns)
            assert line.value["position"].tolist() == expected.tolist()
            near = frame.at("wrench")["joints"]
            assert near.acquired_ns == min(seen, key=lambda t: abs(t - instant_ns))
            assert near.acquired_ns is not None
            assert near.value.tobytes() == seen[near.acquired_ns].tobytes()
            assert near.error_ns is not None
            np.testing.assert_array_equal(
                near.error["position"], np.full(6, 20.0) * (near.error_ns * 1e-9)
            )
            checked += 1
    assert checked >= 18


def test_a_frame_that_is_asked_too_late_says_what_was_recycled(tmp_path: Path) -> None:
    with LockStep(slow_wrist(tmp_path), digest=False) as robot:
        for _ in range(34):
            frame = robot.step()
        asked = frame.at("wrench")
        copied = frame.copy()
        depth = frame.layout.depths[0]
        for _ in range(2 * depth):
            robot.step()

        # the samples are gone, also those of the frames before
        with pytest.raises(FrameLost, match=r"sample \d+ of joints was recycled; raise \[store\]"):
            _ = asked["joints"].value
        late = frame.at("wrench", "linear")["joints"]
        assert late.method == "nearest"
        assert late.sequences == (frame["joints"].sequence,)
        assert copied.at("wrench")["joints"].value == copied["joints"].value


def test_messages_are_aligned_as_the_store_is(tmp_path: Path) -> None:
    with LockStep(slow_wrist(tmp_path), digest=False) as robot:
        reader, layout = Reader(robot.core.segment.path), robot.follower.layout
        here, there = (
            Form(layout, wire.places([dtype.itemsize for dtype in layout.dtypes])) for _ in range(2)
        )
        writer = Writer(reader, here)
        for number in range(400):
            frame = robot.step()
            reader.next(0)
            writer.write(number)
            parts = [wire.TOPIC_FRAME, bytes(writer.header), bytes(writer.packed)]
            received, _ = there.read(parts)
            if frame["wrench"].sequence < 0:
                continue
            for method in METHODS:
                ours = frame.at("wrench", method)["joints"]
                theirs = received.at("wrench", method)["joints"]
                assert theirs.sequences == ours.sequences
                assert theirs.error_ns == ours.error_ns
                assert theirs.value.tobytes() == ours.value.tobytes()
        kept = len(there.past)
        reader.close()
    assert kept == 250 * MS // layout.period_ns + 1, "a quarter of a second, and no more"


def test_large_samples_of_earlier_messages_are_not_kept() -> None:
    form = Form(LAYOUT, wire.places([JOINTS.itemsize, CAMERA.itemsize]))
    large = Form(LAYOUT, [wire.Place(2, 0, JOINTS.itemsize), wire.Place(3, 0, CAMERA.itemsize)])
    for made in (form, large):
        robot = Recorded()
        for ms in range(4):
            robot.sample(0, ms * MS, joints(ms))
            robot.sample(1, ms * MS - 10, IMAGE)
            frame = robot.latch(ms * MS + 100)
            header = made.write_header(frame.record, ms, 0, b"\1\1")
            sizes = made.sizes[wire.PART_PACKED :]
            received, _ = made.read([wire.TOPIC_FRAME, header, *(bytes(n) for n in sizes)])
        assert received.at("joints")["camera"].value == IMAGE
        older = [payloads for _, payloads in received.payloads.past(3)]
        assert len(older) == 3
        if made is form:
            older[0].view(1, 2)
        else:
            with pytest.raises(FrameLost, match="too large to be kept; follow the store"):
                older[0].view(1, 2)
