"""NatNet: three clients of other people read the emulated server, and the driver reads it; what is
lost, doubled, overtaken, from elsewhere or renamed is marked or refused by name."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import natnet
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from natnet.data_frame import DataFrame
from natnet.packet_buffer import PacketBuffer
from numpy.typing import NDArray

from inphase import Runner, schedule
from inphase.devices.device_clock import DeviceClock
from inphase.driver import DeviceError, Reading
from inphase.testing import Peer
from inphase_drivers.natnet import Tracker, TrackerOptions, messages
from inphase_drivers.natnet.messages import Body, NotNatNetError
from peers import BOUND_S, ROOT, EmulatorProcess, free_port, until

BODIES = ["tool", "board"]
RADIUS_M, HEIGHT_M = 0.3, 1.0
SCHEDULE = """
[emulator]
module = "inphase_drivers.emulator"
drift_ppm = 80
[device.mocap]
driver = "natnet"
host = "127.0.0.1"
port = {port}
bodies = ["tool", "board"]
rate_hz = 200
{more}
"""
GROUP = "239.255.42.99"


class MocapPeer(Peer):
    """The emulated server in a process of its own."""

    def __init__(self, folder: Path, more: str = "") -> None:
        port = free_port(socket.SOCK_DGRAM)
        path = folder / "robot.toml"
        path.write_text(SCHEDULE.format(port=port, more=more))
        self.emulator = EmulatorProcess().start(path)
        self.options = {"host": "127.0.0.1", "port": port, "bodies": BODIES, "rate_hz": 200}

    def ask(self, **request: Any) -> dict[str, Any]:
        return self.emulator.control({"device": "mocap", **request})

    def silence(self) -> None:
        self.ask(fault="silent", count=-1)

    def disguise(self) -> None:
        self.ask(models={"somebody": 7})

    def heal(self) -> None:
        self.ask(fault="clear")
        self.ask(models={"tool": 1, "board": 2})

    def exposures(self) -> dict[int, int]:
        """When its frames were exposed, by their numbers: the truth."""
        return {number: at for number, at in self.ask(frames=True)["frames"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MocapPeer]:
    """One process for the tests of this file."""
    peer = MocapPeer(tmp_path_factory.mktemp("mocap"))
    yield peer
    peer.emulator.stop()


@pytest.fixture
def peer(server: MocapPeer) -> MocapPeer:
    """The server as it was at its start."""
    server.heal()
    return server


def tracker_of(options: dict[str, Any], **changes: Any) -> Tracker:
    return Tracker("mocap", msgspec.convert(options | changes, TrackerOptions))


class Reads:
    """A tracker that is open, and the sample that it fills."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        dtype = [(f.name, f.dtype, f.shape) for f in tracker.sensor().fields]
        self.sample: NDArray[Any] = np.zeros((), dtype)

    def next(self) -> Reading:
        return self.tracker.read(self.sample, 2_000_000_000)

    def until(self, condition: Callable[[Reading], bool]) -> Reading:
        """The first reading of the next 400 that fits."""
        for _ in range(400):
            reading = self.next()
            if condition(reading):
                return reading
        raise AssertionError("no such reading in 400")


@pytest.fixture
def reads(peer: MocapPeer) -> Iterator[Reads]:
    tracker = tracker_of(peer.options)
    tracker.open()
    yield Reads(tracker)
    tracker.close()


# ---- clients of other people ---------------------------------------------------------------


def assert_on_circle(x: float, y: float, z: float) -> None:
    """As Motive streams it: y up."""
    assert y == pytest.approx(HEIGHT_M)
    assert (x * x + z * z) ** 0.5 == pytest.approx(RADIUS_M, abs=1e-6)


def test_the_package_natnet_takes_the_emulator_for_a_server(peer: MocapPeer) -> None:
    frames, models = [], []
    client = natnet.NatNetClient(
        "127.0.0.1", "127.0.0.1", command_port=peer.options["port"], use_multicast=False
    )
    client.on_data_frame_received_event.handlers.append(frames.append)
    client.on_data_description_received_event.handlers.append(models.append)
    with client:
        client.request_modeldef()
        until(lambda: client.update_sync() or bool(frames and models))
        assert client.server_info.application_name == "Motive"
    assert [(one.name, one.id_num) for one in models[0].rigid_bodies] == [("tool", 1), ("board", 2)]
    bodies = frames[-1].rigid_bodies
    assert [(b.id_num, b.tracking_valid) for b in bodies] == [(1, True), (2, True)]
    for body in bodies:
        assert_on_circle(*body.pos)
    assert frames[-1].suffix.stamp_camera_mid_exposure > 0


SDK = """
import json, os, sys, time
from natnetsdk.NatNetClient import NatNetClient

frames, bodies = [], []
client = NatNetClient()
client.set_server_address("127.0.0.1")
client.set_client_address("127.0.0.1")
client.set_use_multicast(False)
client.command_port = int(sys.argv[1])
client.new_frame_listener = frames.append
client.rigid_body_listener = lambda ident, position, turn: bodies.append((ident, position))
client.run()
while len(frames) < 5 or len(bodies) < 10:
    time.sleep(0.01)
told = {"name": client.get_application_name(), "frames": frames[:5], "bodies": bodies[:10]}
print(json.dumps(told), flush=True)
os._exit(0)  # its threads wait for packets for ever
"""
NEW = """
import json, os, sys, time
from new_natnet_client.Client import NatNetClient
from new_natnet_client.NatNetTypes import NAT_Messages

client = NatNetClient(use_multicast=False, command_port=int(sys.argv[1]))
client.send_request(NAT_Messages.CONNECT, "")  # its own comes before it lets itself send
while client.MoCap is None or client.server_info.application_name == "None":
    time.sleep(0.01)
frame = client.MoCap
bodies = [
    (b.id, b.tracking, (b.pos.x, b.pos.y, b.pos.z)) for b in frame.rigid_body_data.rigid_bodies
]
suffix = frame.suffix_data
stamps = (suffix.camera_mid_exposure, suffix.stamp_data, suffix.stamp_transmit)
told = {"name": client.server_info.application_name, "bodies": bodies, "stamps": stamps}
print(json.dumps(told), flush=True)
os._exit(0)
"""


def told_by(client: str, peer: MocapPeer) -> dict[str, Any]:
    """The last line of a client of other people, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", client, str(peer.options["port"])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=BOUND_S,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_the_package_natnetsdk_takes_the_emulator_for_a_server(peer: MocapPeer) -> None:
    told = told_by(SDK, peer)
    assert told["name"] == "Motive"
    assert {frame["rigid_body_count"] for frame in told["frames"]} == {2}
    assert {frame["labeled_marker_count"] for frame in told["frames"]} == {6}
    assert not any(frame["tracked_models_changed"] for frame in told["frames"])
    assert {ident for ident, _ in told["bodies"]} == {1, 2}
    for _, position in told["bodies"]:
        assert_on_circle(*position)


def test_the_package_new_natnet_client_takes_the_emulator_for_a_server(peer: MocapPeer) -> None:
    told = told_by(NEW, peer)
    assert told["name"] == "Motive"
    assert [(ident, tracked) for ident, tracked, _ in told["bodies"]] == [(1, True), (2, True)]
    for _, _, position in told["bodies"]:
        assert_on_circle(*position)
    assert told["stamps"] == sorted(told["stamps"])


floats = st.floats(-100, 100, width=32)
bodies_of = st.lists(
    st.builds(
        Body,
        st.tuples(floats, floats, floats),
        st.tuples(floats, floats, floats, floats),
        st.floats(0, 1, width=32),
        st.booleans(),
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(
    bodies_of, st.integers(0, 2**31 - 1), st.integers(0, 2**62), st.sampled_from([(3, 0), (4, 1)])
)
def test_frames_are_read_as_the_package_natnet_reads_them(
    bodies: list[Body], number: int, ticks: int, version: tuple[int, int]
) -> None:
    """Also of servers whose parts do not say their size, with models of every kind between."""

    def part(count: int, data: bytes) -> bytes:
        size = struct.pack("<i", len(data)) if version >= (4, 1) else b""
        return struct.pack("<i", count) + size + data

    rigid = b"".join(
        struct.pack("<i3f4ffh", n, *b.position, *b.turn, b.error, b.tracked)
        for n, b in enumerate(bodies)
    )
    channels = struct.pack("<iiifffi", 5, 2, 3, 1.0, 2.0, 3.0, 0)
    payload = b"".join(
        (
            struct.pack("<i", number),
            part(1, b"set\0" + struct.pack("<i3f", 1, 0.0, 1.0, 2.0)),
            part(1, struct.pack("<3f", 0.0, 1.0, 2.0)),
            part(len(bodies), rigid),
            part(1, struct.pack("<ii", 9, len(bodies)) + rigid),
            part(0, b"") if version >= (4, 1) else b"",
            part(1, struct.pack("<i3ffhf", 65_537, 0.0, 1.0, 2.0, 0.01, 0, 0.1)),
            part(1, channels),
            part(1, channels),
            struct.pack("<IIdQQQ", 1, 2, 3.0, ticks, ticks + 1, ticks + 2),
            struct.pack("<hi", 2, 0),
        )
    )
    ours = messages.frame(payload, version)
    theirs = DataFrame.read_from_buffer(PacketBuffer(payload), natnet.Version(*version))
    assert ours.number == theirs.prefix.frame_number
    assert ours.models_changed == theirs.suffix.tracked_models_changed
    assert ours.mid_exposure == theirs.suffix.stamp_camera_mid_exposure
    assert ours.transmitted == theirs.suffix.stamp_transmit
    for body in theirs.rigid_bodies:
        found = ours.bodies[body.id_num]
        assert (found.position, found.turn) == (tuple(body.pos), tuple(body.rot))
        assert (found.error, found.tracked) == (body.marker_error, body.tracking_valid)
    for cut in range(len(payload)):
        with pytest.raises(NotNatNetError):
            messages.frame(payload[:cut], version)


# ---- the driver ----------------------------------------------------------------------------


def test_stamps_lie_within_their_uncertainty_of_the_exposure(peer: MocapPeer, reads: Reads) -> None:
    """By the worker's own rule: the clock is known by round trips alone."""
    clock, mapped = DeviceClock(), {}
    for _ in range(200):
        reading = reads.next()
        for echo in reading.echoes:
            clock.add(*echo)
        assert reading.device_ns is not None
        mapped[reading.sequence] = (clock.map(reading.device_ns), reading.received_ns)
    truth = peer.exposures()
    judged = [(found, truth[number]) for number, found in mapped.items() if number in truth]
    assert len(judged) > 150
    for (stamp, received_ns), true_ns in judged:
        assert stamp is not None and received_ns is not None
        assert abs(stamp[0] - true_ns) <= stamp[1]
        assert received_ns - true_ns > 4_000_000  # an arrival would be off by so much


def test_poses_have_z_up(reads: Reads) -> None:
    reading = reads.next()
    assert reading.reason == ""
    for position, turn in zip(reads.sample["position"], reads.sample["quaternion"], strict=True):
        x, y, z = position
        assert_on_circle(x, z, -y)
        angle = 2 * np.arctan2(turn[3], turn[0])  # about z
        assert (np.cos(angle), np.sin(angle)) == pytest.approx(
            (x / RADIUS_M, y / RADIUS_M), abs=1e-5
        )
        assert turn[1] == turn[2] == 0.0


def test_a_packet_that_comes_twice_counts_once(peer: MocapPeer, reads: Reads) -> None:
    peer.ask(fault="duplicate", count=20)
    readings = [reads.next() for _ in range(60)]
    numbers = [reading.sequence for reading in readings]
    assert numbers == sorted(set(numbers))
    assert reads.tracker.passed == 20
    assert [r.notice for r in readings if r.notice] == [
        "a packet came twice, and is not used; look for a loop or a second path in the network"
    ]


def test_a_packet_that_was_overtaken_is_not_used(peer: MocapPeer, reads: Reads) -> None:
    peer.ask(fault="reorder", count=10)
    readings = [reads.next() for _ in range(60)]
    numbers = [reading.sequence for reading in readings]
    assert numbers == sorted(set(numbers))
    assert reads.tracker.passed == 5  # of ten, every second one was held back
    assert any("after a newer one" in reading.notice for reading in readings)


def test_a_packet_of_another_server_is_refused_with_its_address(
    peer: MocapPeer, reads: Reads
) -> None:
    peer.ask(fault="stranger", count=20)
    readings = [reads.next() for _ in range(60)]
    notices = [reading.notice for reading in readings if reading.notice]
    assert len(notices) == 1 and "from 127.0.0.2, which is not its server 127.0.0.1" in notices[0]
    assert len({reading.sequence for reading in readings}) == 60


def test_a_damaged_packet_is_refused(peer: MocapPeer, reads: Reads) -> None:
    peer.ask(fault="damage", count=3)
    readings = [reads.next() for _ in range(30)]
    assert any("damaged" in reading.notice for reading in readings)
    assert all(reading.reason == "" for reading in readings)


def test_a_body_that_is_lost_makes_the_sample_invalid_by_name(
    peer: MocapPeer, reads: Reads
) -> None:
    peer.ask(fault="lost", count=10, servo=1)
    lost = reads.until(lambda reading: reading.reason != "")
    assert lost.reason == "device"
    assert reads.tracker.meaning(lost.detail) == "not tracked: board"
    reads.until(lambda reading: reading.reason == "")


def test_a_body_that_may_be_lost_is_marked(peer: MocapPeer) -> None:
    tracker = tracker_of(peer.options, may_be_lost=["board"])
    tracker.open()
    try:
        reads = Reads(tracker)
        peer.ask(fault="lost", count=10, servo=1)
        reading = reads.until(lambda _: reads.sample["tracked"].tolist() == [1, 0])
        assert reading.reason == ""
        assert not reads.sample["quaternion"][1].any() and not reads.sample["position"][1].any()
        peer.ask(fault="lost", count=10, servo=0)
        lost = reads.until(lambda reading: reading.reason != "")
        assert tracker.meaning(lost.detail) == "not tracked: tool"
    finally:
        tracker.close()


def test_a_changed_list_of_models_is_asked_for_and_followed(peer: MocapPeer, reads: Reads) -> None:
    reads.next()
    peer.ask(models={"board": 1, "tool": 2})  # the ids changed places
    doubt = reads.until(lambda reading: reading.reason != "")
    assert "list of models changed" in reads.tracker.meaning(doubt.detail)
    reads.until(lambda reading: reading.reason == "")
    tool, board = reads.sample["position"]
    assert np.arctan2(board[1], board[0]) - np.arctan2(tool[1], tool[0]) == pytest.approx(
        np.pi / 2, abs=1e-4
    ) or np.arctan2(board[1], board[0]) - np.arctan2(tool[1], tool[0]) == pytest.approx(
        -1.5 * np.pi, abs=1e-4
    )


def test_a_body_that_was_renamed_is_missed_by_name(peer: MocapPeer, reads: Reads) -> None:
    reads.next()
    peer.ask(models={"tool": 1, "plank": 2})
    with pytest.raises(DeviceError, match=r"no rigid body board; it has plank, tool: correct"):
        reads.until(lambda _: False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bodies": ["tool", "hand"]}, "no rigid body hand; it has board, tool"),
        ({"up": "z"}, "streams with y up, and up is 'z'; correct up"),
        ({"multicast": GROUP}, "multicast is 239.255.42.99, and Motive sends to each client"),
    ],
)
def test_a_server_that_does_not_fit_is_refused_by_name(
    peer: MocapPeer, changes: dict[str, Any], words: str
) -> None:
    tracker = tracker_of(peer.options, **changes)
    with pytest.raises(DeviceError, match=words):
        tracker.open()


def test_what_answers_otherwise_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        options = {"host": "127.0.0.1", "port": other.getsockname()[1], "bodies": ["a"]}
        tracker = tracker_of(options, rate_hz=100)
        with pytest.raises(DeviceError, match=r"no answer to SERVER_INFO; check host"):
            tracker.open()


def test_a_group_is_heard(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    peer = MocapPeer(tmp_path, f'multicast = "{GROUP}"\ndata_port = {port}')
    try:
        with pytest.raises(DeviceError, match=f'give multicast = "{GROUP}" and data_port = {port}'):
            tracker_of(peer.options).open()
        more = {"multicast": GROUP, "data_port": port, "local": "127.0.0.1"}
        tracker = tracker_of(peer.options, **more)
        tracker.open()
        try:
            reads = Reads(tracker)
            assert [reads.next().reason for _ in range(5)] == [""] * 5
        finally:
            tracker.close()
    finally:
        peer.emulator.stop()


@pytest.mark.real
@pytest.mark.long
def test_the_ready_schedule_tracks_its_tool(tmp_path: Path) -> None:
    """Fresh samples have the stamps of their exposure, and the tool is where the joint has it."""
    text = (ROOT / "schedules" / "tracked.toml").read_text()
    text = text.replace("15210 ", f"{free_port(socket.SOCK_DGRAM)} ")
    text = text.replace("/tmp/inphase-tracked", str(tmp_path))
    text = text.replace("demo_policy.py:", f"{ROOT}/schedules/demo_policy.py:")
    path = tmp_path / "tracked.toml"
    path.write_text(text)
    assert schedule.load(path).name == "tracked"
    apart, ages = [], []
    with Runner(path, cycles=250) as robot:
        for frame in robot:
            mocap, joints = frame["mocap"], frame["joints"]
            if mocap.status == joints.status == "FRESH" and frame.cycle > 100:
                if mocap.acquired_ns is None or not mocap.intact:
                    continue
                x, y, _ = mocap.value["position"][0]
                apart.append(np.arctan2(y, x) - joints.value["position"][0])
                ages.append(mocap.age_ns)
    assert len(apart) > 50
    assert min(ages) > 3_000_000
    assert abs(np.median(apart)) < 0.05
