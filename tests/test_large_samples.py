"""Samples with a part of their own: sent once, found again by their sequence, or said to be lost.

The robot is the demo's in lock step; its samples count as large from a few bytes on. A sensor that
is silent keeps naming its last sample, as a slow camera does between two images.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

import inphase
from inphase.episodes.lockstep import LockStep
from inphase.errors import WireError
from inphase.frames import store, wire
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.layout import Layout
from inphase.frames.message import Form
from inphase.frames.sending import Writer, describe
from inphase.frames.subscription import ZmqFollower
from inphase.host import endpoint as endpoints
from inphase.runtime import frame_sender

ROOT = Path(__file__).parents[1]
WAIT_S = 5.0
TRIES = 100
WRENCH = 1
HEADER, PACKED, JOINTS_PART, WRENCH_PART = 1, 2, 3, 4

Parts = list[bytes]


@pytest.fixture
def robot() -> Iterator[LockStep]:
    """The demo robot under a name of its own, in a folder short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="inphase-"))
    text = (ROOT / "schedules/demo.toml").read_text()
    folder.joinpath("robot.toml").write_text(
        text.replace('name = "demo"', f'name = "{folder.name}"')
    )
    shutil.copy(ROOT / "schedules/demo_policy.py", folder)
    with LockStep(inphase.load(folder / "robot.toml")) as robot:
        yield robot
    shutil.rmtree(folder)


class Way:
    """From the robot's store to messages, and to as many receivers as are made; no socket."""

    def __init__(self, robot: LockStep, packed_max: int = 0) -> None:
        self.robot = robot
        self.reader = store.Reader(robot.core.segment.path)
        self.description = describe(self.reader, packed_max)
        self.writer = Writer(self.reader, self.receiver())
        self.number = -1

    def receiver(self) -> Form:
        """A subscriber that has read nothing yet."""
        return Form.from_description(self.description)

    def step(self) -> None:
        """One cycle, and the reader at its frame."""
        self.robot.step()
        self.number += 1 + self.reader.next(0)

    def write(self, sent: bool = True) -> Parts:
        """The message of the frame that the reader is at."""
        self.writer.write(self.number)
        large = [bytes(s.buffer) if s.here else b"" for s in self.writer.large]
        parts = [wire.TOPIC_FRAME, bytes(self.writer.header), bytes(self.writer.packed), *large]
        if sent:
            self.writer.sent()
        return parts

    def message(self) -> Parts:
        """Of one cycle more."""
        self.step()
        return self.write()

    def truth(self, sensor: str) -> bytes:
        """The sample that the newest frame names, out of the ring."""
        follower = self.robot.follower
        index = follower.layout.sensors.index(sensor)
        offset, stride, payload, depth = follower.reader.rings[index]
        sequence = self.receiver().sequence(self.reader.record, index)
        at = offset + sequence % depth * stride + 64
        return follower.reader.memory[at : at + payload]


@pytest.fixture
def way(robot: LockStep) -> Iterator[Way]:
    """Two large sensors."""
    way = Way(robot)
    assert [s["part"] for s in way.description["sensors"]] == [JOINTS_PART, WRENCH_PART]
    yield way
    way.reader.close()


def bytes_of(frame: Frame, sensor: str) -> bytes:
    return frame[sensor].value.tobytes()


def silence_wrench(robot: LockStep, cycles: int) -> None:
    robot.core.fault("silent", WRENCH, robot.cycles, cycles)


def test_a_large_sample_is_sent_once_and_found_in_the_messages_that_name_it_again(
    way: Way, robot: LockStep
) -> None:
    receiver = way.receiver()
    first, _ = receiver.read(way.message())
    image = bytes_of(first, "wrench")
    silence_wrench(robot, 3)
    for _ in range(3):
        parts = way.message()
        assert (len(parts[JOINTS_PART]) > 0, parts[WRENCH_PART]) == (True, b"")
        frame, _ = receiver.read(parts)
        assert frame["wrench"].sequence == first["wrench"].sequence
        assert (bytes_of(frame, "wrench"), frame["wrench"].intact) == (image, True)
        assert bytes_of(frame, "joints") == way.truth("joints")
        assert not frame["wrench"].value.flags.writeable
    parts = way.message()
    frame, _ = receiver.read(parts)
    assert len(parts[WRENCH_PART]) > 0
    assert bytes_of(frame, "wrench") == way.truth("wrench")
    assert bytes_of(first, "wrench") == image  # a frame that is held stays as it was


def test_a_small_sample_is_in_every_message(robot: LockStep) -> None:
    way = Way(robot, packed_max=64)
    way.message()
    silence_wrench(robot, 3)
    way.message()
    late, _ = way.receiver().read(way.message())
    assert bytes_of(late, "wrench") == way.truth("wrench")
    way.reader.close()


def test_who_joins_late_is_told_that_the_sample_went_by_until_the_next(
    way: Way, robot: LockStep
) -> None:
    way.message()
    silence_wrench(robot, 2)
    late = way.receiver()
    for _ in range(2):
        frame, _ = late.read(way.message())
        assert bytes_of(frame, "joints") == way.truth("joints")
        assert not frame["wrench"].intact and not frame.intact
        with pytest.raises(FrameLost, match="wrench came in an earlier message"):
            _ = frame["wrench"].value
        with pytest.raises(FrameLost):
            frame.copy()
    frame, _ = late.read(way.message())
    assert bytes_of(frame, "wrench") == way.truth("wrench")
    assert frame.copy().intact


def test_an_older_sample_is_never_taken_for_one_that_was_lost(way: Way, robot: LockStep) -> None:
    receiver = way.receiver()
    old, _ = receiver.read(way.message())
    way.message()  # with the sample that is lost
    silence_wrench(robot, 1)
    frame, _ = receiver.read(way.message())
    assert frame["wrench"].sequence == old["wrench"].sequence + 1
    with pytest.raises(FrameLost, match="earlier message"):
        _ = frame["wrench"].value
    assert bytes_of(frame, "joints") == way.truth("joints")


def test_a_sample_that_was_torn_is_not_sent_and_never_said_to_have_been(
    way: Way, robot: LockStep
) -> None:
    receiver = way.receiver()
    receiver.read(way.message())
    way.step()
    robot.run(robot.plan.depth + 1)  # the ring comes round before the copy
    for _ in range(2):
        parts = way.write()
        assert parts[JOINTS_PART:] == [b"", b""]
        frame, _ = receiver.read(parts)
        with pytest.raises(FrameLost, match="wrench was recycled"):
            _ = frame["wrench"].value
    frame, _ = receiver.read(way.message())
    assert frame.intact


def test_a_sample_whose_message_was_not_sent_is_in_the_next_that_names_it(
    way: Way, robot: LockStep
) -> None:
    way.step()
    way.write(sent=False)
    silence_wrench(robot, 1)
    frame, _ = way.receiver().read(way.message())
    assert bytes_of(frame, "wrench") == way.truth("wrench")


def test_parts_that_contradict_the_header_are_refused(way: Way, robot: LockStep) -> None:
    full = way.message()
    silence_wrench(robot, 1)
    held = way.message()
    for parts in (
        [*full[:WRENCH_PART], b""],
        [*held[:WRENCH_PART], full[WRENCH_PART]],
        [*full[:WRENCH_PART], full[WRENCH_PART] + b"\0"],
        full[:WRENCH_PART],
    ):
        with pytest.raises(WireError):
            way.receiver().read(parts)
    small = Way(robot, packed_max=wire.PACKED_MAX)
    with pytest.raises(WireError):  # the header says of a small sample that it was sent before
        small.receiver().read([*held[: HEADER + 1], bytes(len(small.writer.packed))])
    small.reader.close()


# ---- over ZeroMQ ---------------------------------------------------------------------------


@contextmanager
def serving(robot: LockStep, kept_bytes: int) -> Iterator[str]:
    """A sender's thread with two large sensors; its endpoint."""
    sender = frame_sender.Sender(robot.core.segment.path, packed_max=0, kept_bytes=kept_bytes)
    endpoint = f"ipc://{robot.schedule.path.parent}/frames"
    endpoints.bind(sender.socket, "gateway.endpoint", endpoint, robot.schedule)
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        yield endpoint
    finally:
        sender.stop()
        thread.join(WAIT_S)


def follow(robot: LockStep, endpoint: str) -> ZmqFollower:
    """A follower that frames have reached, and that has read all of them."""
    follower = ZmqFollower(endpoint, WAIT_S)
    follower.start()
    for _ in range(TRIES):
        stepped = robot.step()
        try:
            while follower.next(timeout_s=0.2).cycle < stepped.cycle:
                pass
        except TimeoutError:
            continue
        return follower
    raise AssertionError(f"no frame after {TRIES} cycles")


@pytest.mark.real
@pytest.mark.parametrize("kept_bytes", [0, 1 << 20], ids=["by reference", "by copy"])
def test_over_zeromq_a_held_sample_goes_by_once_and_a_newcomer_waits_for_the_next(
    robot: LockStep, kept_bytes: int
) -> None:
    with serving(robot, kept_bytes) as endpoint:
        early = follow(robot, endpoint)
        last = robot.cycles
        silence_wrench(robot, TRIES + 8)
        held = robot.step()
        for _ in range(4):
            robot.step()
        late = follow(robot, endpoint)
        frame = robot.step()
        here = [early.next(WAIT_S) for _ in range(robot.cycles - last)][-1]
        there = late.next(WAIT_S)
        assert here.cycle == there.cycle == frame.cycle
        assert held["wrench"].sequence == frame["wrench"].sequence
        assert bytes_of(here, "wrench") == bytes_of(frame, "wrench")
        for receiver in (here, there):
            assert bytes_of(receiver, "joints") == bytes_of(frame, "joints")
        with pytest.raises(FrameLost, match="earlier message"):
            _ = there["wrench"].value
        while frame["wrench"].status != "FRESH":
            frame = robot.step()
            there = late.next(WAIT_S)
        assert bytes_of(there, "wrench") == bytes_of(frame, "wrench")
        early.close()
        late.close()


@pytest.mark.real
def test_over_zeromq_every_frame_is_that_of_the_store_while_one_sensor_comes_and_goes(
    robot: LockStep,
) -> None:
    with serving(robot, kept_bytes=0) as endpoint:
        far = follow(robot, endpoint)
        for burst in range(20):
            if burst % 2:
                silence_wrench(robot, 5)
            frames = [robot.step() for _ in range(8)]  # fewer than the ring and the queue hold
            for frame in frames:
                received = far.next(WAIT_S)
                assert (received.record, received.lost) == (frame.record, 0)
                for name in frame.layout.sensors:
                    assert bytes_of(received, name) == bytes_of(frame, name)
        far.close()


# ---- queues --------------------------------------------------------------------------------


def form_of(*sizes: int, period_ns: int = 1_000_000) -> Form:
    """A form of sensors with samples of these many bytes."""
    layout = Layout(
        robot="queue",
        hash="0123456789abcdef",
        epoch=1,
        period_ns=period_ns,
        sensors=tuple(f"s{i}" for i in range(len(sizes))),
        dtypes=tuple(wire.sample_dtype([("x", (size,), "|u1")]) for size in sizes),
        units=({},) * len(sizes),
        depths=(16,) * len(sizes),
        actuators=(),
    )
    return Form(layout, wire.places(list(sizes)))


IMAGE = 1920 * 1080 * 3


@pytest.mark.parametrize(
    ("sizes", "every", "period_ns", "messages"),
    [
        pytest.param([64], [1], 2_000_000, 50, id="0.1 s of small samples"),
        pytest.param([64], [1], 100_000_000, 4, id="never fewer than 4"),
        pytest.param([64, IMAGE], [1, 33], 1_000_000, 100, id="a slow camera costs no queue"),
        pytest.param([64, IMAGE], [1, 1], 1_000_000, 10, id="one in every cycle does"),
        pytest.param([64, IMAGE, IMAGE], [1, 33, 33], 1_000_000, 99, id="two slow ones"),
        pytest.param([64, 10 * IMAGE], [1, 33], 1_000_000, 4, id="too large for any"),
    ],
)
def test_a_queue_is_as_long_as_its_bytes_allow(
    sizes: list[int], every: list[int], period_ns: int, messages: int
) -> None:
    assert frame_sender.queue_length(form_of(*sizes, period_ns=period_ns), every) == messages


def test_the_senders_socket_has_that_queue(robot: LockStep) -> None:
    sender = frame_sender.Sender(robot.core.segment.path)
    assert sender.socket.getsockopt(zmq.SNDHWM) == sender.queue == 50
    sender.stop()
    sender.run()
