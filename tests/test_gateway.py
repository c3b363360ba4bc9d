"""The gateway as a process, and subscribers to it. Frames come from a robot in lock step."""

import contextlib
import json
import os
import re
import shutil
import socket as sockets
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
import zmq

import inphase
from inphase.command.live import echo
from inphase.episodes.lockstep import LockStep
from inphase.errors import RuntimeFault, StoreError
from inphase.frame import Frame, FrameLost
from inphase.frames import store, wire
from inphase.frames.message import Form
from inphase.frames.sending import Writer, describe
from inphase.frames.store import Segment
from inphase.frames.subscription import Subscription, ZmqFollower, subscribe
from inphase.host import endpoint as endpoints
from inphase.host import store_names, zmtp
from inphase.host.process import Process
from inphase.runtime import frame_sender, gateway
from peers import said_by_another_user, until
from test_zmtp import GREETING, READY

ROOT = Path(__file__).parents[1]
WAIT_S = 5.0
TRIES = 100
BATCH = 16  # smaller than the ring, and than half of any queue: libzmq frees it by halves

pytestmark = pytest.mark.real


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="inphase-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def robot(folder: Path) -> Iterator[LockStep]:
    """The demo robot in lock step, with endpoints in a folder that does not exist yet."""
    text = (ROOT / "schedules/demo.toml").read_text()
    text = text.replace("/tmp/inphase-demo", str(folder / "sockets"))
    text = text.replace('name = "demo"', f'name = "{folder.name}"')
    path = folder / "robot.toml"
    path.write_text(text)
    shutil.copy(ROOT / "schedules/demo_policy.py", folder)
    with LockStep(inphase.load(path)) as robot:
        fds = [robot.core.segment.fd]  # it has no name of its own, as a robot that runs has
        with contextlib.closing(store_names.Name(robot.schedule.name, robot.core.epoch, fds)):
            yield robot


def start_gateway(robot: LockStep) -> Process:
    with contextlib.closing(Segment.client_page(robot.core.epoch)) as page:
        child = Process(
            "gateway",
            "inphase.runtime.gateway",
            [str(robot.schedule.path), robot.core.segment.path, str(page.fd)],
            pass_fds=[page.fd],
        )
        child.wait_ready()
    return child


@pytest.fixture
def served(robot: LockStep) -> Iterator[Process]:
    """A gateway on the robot."""
    child = start_gateway(robot)
    yield child
    child.stop()


def endpoint_of(robot: LockStep) -> str:
    assert robot.schedule.gateway is not None
    return robot.schedule.gateway.endpoint


def settle(robot: LockStep, source: Subscription | ZmqFollower) -> Frame:
    """Step until the gateway knows of the subscription, and has nothing more to send."""
    for _ in range(TRIES):
        stepped = robot.step()
        try:
            frame = source.next(timeout_s=0.2)
        except TimeoutError:
            continue
        while frame.cycle < stepped.cycle:
            frame = source.next(timeout_s=WAIT_S)
        return frame
    raise AssertionError(f"no frame after {TRIES} cycles")


def raw_socket(endpoint: str, kind: int) -> "zmq.Socket[bytes]":
    """A socket of a client that knows nothing of inphase."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, int(WAIT_S * 1000))
    if kind == zmq.SUB:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(endpoint)
    return socket


# ---- frames ------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
def test_frames_are_equal_by_store_and_by_zeromq(robot: LockStep) -> None:
    with (
        subscribe(endpoint_of(robot), transport="zmq") as far,
        subscribe(robot.schedule.name) as near,
    ):
        assert (far.transport, near.transport) == ("zmq", "store")
        assert far.layout == near.layout
        here = settle(robot, far).cycle
        while near.next(WAIT_S).cycle < here:
            pass
        for _ in range(4):
            robot.run(BATCH)
            for _ in range(BATCH):
                one, two = far.next(WAIT_S), near.next(WAIT_S)
                assert (one.record, one.lost) == (two.record, two.lost)
                for name in one.layout.sensors:
                    assert one[name].value.tobytes() == two[name].value.tobytes()
                    assert not one[name].value.flags.writeable
                assert one.intact and two.intact


@pytest.mark.usefixtures("served")
def test_a_client_of_pyzmq_msgpack_and_numpy_reads_frames(robot: LockStep) -> None:
    socket = raw_socket(endpoint_of(robot), zmq.SUB)
    description = msgpack.unpackb(socket.recv().removeprefix(b"inphase.description\0"))
    joints = description["sensors"][0]
    dtype = np.dtype([(name, kind, shape) for name, shape, kind, _ in joints["fields"]])
    for _ in range(TRIES):
        expected = robot.step()
        if socket.poll(200):
            break
    topic, header, samples = socket.recv_multipart()
    socket.close()
    version, hash_, epoch, _, _, frame, rows, acts = msgpack.unpackb(header)
    assert (topic, version, hash_) == (b"inphase.frame\0", 5, description["hash"])
    assert (epoch, frame[0]) == (description["epoch"], expected.cycle)
    assert (joints["name"], rows[0][7], rows[0][10]) == ("joints", 0, 1)
    value = np.frombuffer(samples, dtype, 1, joints["offset"])[0]
    assert value["position"].tolist() == expected["joints"].value["position"].tolist()
    applied = np.frombuffer(acts[0][5])
    np.testing.assert_array_equal(applied, expected.command["arm"].applied)


@pytest.mark.usefixtures("served")
def test_the_description_comes_before_any_frame(robot: LockStep) -> None:
    with subscribe(endpoint_of(robot), transport="zmq") as first:
        settle(robot, first)
        for _ in range(5):
            socket = raw_socket(endpoint_of(robot), zmq.SUB)
            robot.run(BATCH)
            assert socket.recv().startswith(wire.TOPIC_DESCRIPTION)
            socket.close()
        assert first.description["schedule"] == robot.schedule.text


@pytest.mark.usefixtures("served")
def test_a_subscriber_that_is_too_slow_counts_what_it_lost(robot: LockStep) -> None:
    fast = ZmqFollower(endpoint_of(robot), WAIT_S)
    slow = ZmqFollower(endpoint_of(robot), WAIT_S, queue=2)
    for follower in (slow, fast):
        follower.start()
        settle(robot, follower)

    # the fast one paces the robot; the slow one sleeps until every queue between is full
    for _ in range(TRIES):
        robot.run(BATCH)
        while fast.next(WAIT_S).cycle < robot.cycles - 1:
            pass
    cycles, lost, last = [], 0, robot.cycles - 1
    while not cycles or cycles[-1] < robot.cycles - 1:
        try:
            frame = slow.next(timeout_s=0.5)
        except TimeoutError:
            robot.run(1)
            continue
        if cycles:
            assert frame.cycle - cycles[-1] == frame.lost + 1
        cycles.append(frame.cycle)
        lost += frame.lost
    assert lost > 0 and cycles[-1] >= last
    slow.close()
    fast.close()


def test_a_view_lasts_as_long_as_its_slot_and_a_copy_longer(robot: LockStep) -> None:
    with subscribe(robot.schedule.name) as near:
        robot.step()
        frame = near.next(WAIT_S)
        copy = frame.copy()
        kept = copy["joints"].value.tobytes()
        assert frame.intact and copy.intact and frame["joints"].value.tobytes() == kept
        robot.run(robot.plan.depth + 1)
        assert not frame.intact and copy.intact
        assert copy["joints"].value.tobytes() == kept
        with pytest.raises(FrameLost, match="joints"):
            frame.copy()
        assert near.next(WAIT_S).lost > 0


@pytest.mark.usefixtures("served")
def test_a_frame_over_zeromq_stays_whole_when_the_ring_came_round(robot: LockStep) -> None:
    with subscribe(endpoint_of(robot), transport="zmq") as far:
        frame = settle(robot, far)
        kept = frame["joints"].value.tobytes()
        for _ in range(2 * robot.plan.depth // BATCH):
            robot.run(BATCH)
            while far.next(WAIT_S).cycle < robot.cycles - 1:
                pass
        assert frame.intact and frame["joints"].value.tobytes() == kept
        assert frame.copy()["joints"].value.tobytes() == kept


def test_a_sample_that_was_recycled_before_its_copy_is_not_sent(robot: LockStep) -> None:
    reader = store.Reader(robot.core.segment.path)
    form = Form.from_description(describe(reader))
    writer = Writer(reader, form)
    robot.run(1)
    reader.next(0)
    writer.write(0)
    whole, _ = form.read([wire.TOPIC_FRAME, writer.header, writer.packed])
    assert whole["joints"].intact and whole["joints"].value["position"].any()
    robot.run(robot.plan.depth + 1)
    writer.write(0)
    assert not any(writer.packed)
    frame, _ = form.read([wire.TOPIC_FRAME, bytes(writer.header), bytes(writer.packed)])
    assert (frame.cycle, frame["joints"].intact) == (0, False)
    with pytest.raises(FrameLost):
        _ = frame["joints"].value
    reader.close()


def test_a_robot_that_stands_still_is_waited_for_no_longer_than_was_said(
    robot: LockStep, folder: Path
) -> None:
    sender = frame_sender.Sender(robot.core.segment.path)
    endpoint = f"ipc://{folder}/still"
    endpoints.bind(sender.socket, "gateway.endpoint", endpoint, robot.schedule)
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        with subscribe(endpoint, transport="zmq") as far:
            settle(robot, far)
            with pytest.raises(TimeoutError, match=r"within 3\.2 s"):  # it makes a new socket once
                far.next(3.2)
            robot.run(1)
            far.next(WAIT_S)
    finally:
        sender.stop()
        thread.join(WAIT_S)


def test_large_samples_travel_in_parts_of_their_own(robot: LockStep, folder: Path) -> None:
    sender = frame_sender.Sender(robot.core.segment.path, packed_max=64)
    endpoint = f"ipc://{folder}/large"
    endpoints.bind(sender.socket, "gateway.endpoint", endpoint, robot.schedule)
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        with subscribe(endpoint, transport="zmq") as far, subscribe(endpoint) as near:
            assert [s["part"] for s in far.description["sensors"]] == [3, 2]
            here = settle(robot, far).cycle
            while near.next(WAIT_S).cycle < here:
                pass
            robot.run(BATCH)
            for _ in range(BATCH):
                one, two = far.next(WAIT_S), near.next(WAIT_S)
                for name in ("joints", "wrench"):
                    assert one[name].value.tobytes() == two[name].value.tobytes()
                    assert not one[name].value.flags.writeable
            assert len(sender._writer.large) == 1
    finally:
        sender.stop()
        thread.join(WAIT_S)


def test_a_frame_that_nobody_subscribes_to_is_neither_copied_nor_packed(
    robot: LockStep, folder: Path
) -> None:
    sender = frame_sender.Sender(robot.core.segment.path)
    endpoint = f"ipc://{folder}/unheard"
    endpoints.bind(sender.socket, "gateway.endpoint", endpoint, robot.schedule)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_DESCRIPTION)
        socket.connect(endpoint)
        assert sender.socket.poll(int(1000 * WAIT_S))
        robot.run(3)
        sender.follow()
        assert socket.recv().startswith(wire.TOPIC_DESCRIPTION)
        assert not any(sender._writer.header)

        socket.setsockopt(zmq.SUBSCRIBE, b"inphase.fr")
        assert sender.socket.poll(int(1000 * WAIT_S))
        robot.run(2)
        sender.follow()  # the newest one
        assert socket.recv_multipart()[1] == sender._writer.header
        header = bytes(sender._writer.header)
        robot.run(1)
        sender.follow()
        assert socket.recv_multipart()[1] != header

        socket.setsockopt(zmq.UNSUBSCRIBE, b"inphase.fr")
        assert sender.socket.poll(int(1000 * WAIT_S))
        sender.take_in_newcomers()
        header = bytes(sender._writer.header)
        robot.run(1)
        sender.follow()
        assert sender._writer.header == header
    finally:
        context.destroy(linger=0)
        sender.close()


# ---- the end -----------------------------------------------------------------------------


def test_iteration_ends_when_the_gateway_says_goodbye(robot: LockStep) -> None:
    child = start_gateway(robot)
    with subscribe(endpoint_of(robot), transport="zmq") as far:
        settle(robot, far)
        robot.run(BATCH)
        child.ask_to_end()
        assert [frame.cycle for frame in far][-1] == robot.cycles - 1
        with pytest.raises(store.Lost):
            far.next(WAIT_S)
    until(lambda: child.ended() is not None)
    assert child.ended() == "exit code 0"
    child.stop()
    assert not Path(endpoint_of(robot).removeprefix("ipc://")).exists()


def test_the_gateway_ends_with_the_store(robot: LockStep, served: Process) -> None:
    with (
        subscribe(endpoint_of(robot), transport="zmq") as far,
        subscribe(robot.schedule.name) as near,
    ):
        settle(robot, far)
        robot.close()
        assert [*far] == []
        assert len([*near]) >= 1
    os.waitid(os.P_PIDFD, served.pidfd, os.WEXITED | os.WNOWAIT)
    assert served.ended() == "exit code 0"


@pytest.mark.usefixtures("served")
def test_a_silent_robot_is_a_timeout(robot: LockStep) -> None:
    with subscribe(endpoint_of(robot), transport="zmq") as far, pytest.raises(TimeoutError):
        far.next(timeout_s=0.05)
    with subscribe(robot.schedule.name, timeout_s=0.05) as near, pytest.raises(TimeoutError):
        next(iter(near))


def test_who_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(TimeoutError, match="nobody"):
        subscribe(f"ipc://{folder}/nobody", timeout_s=0.05)
    with pytest.raises(StoreError, match="no robot 'nobody'"):
        subscribe("nobody")
    with pytest.raises(StoreError, match="cannot be connected to"):
        subscribe("ftp://here")


@pytest.mark.usefixtures("served")
def test_a_name_with_zeromq_finds_the_gateway_of_its_schedule(robot: LockStep) -> None:
    with subscribe(robot.schedule.name, transport="zmq") as far:
        assert (far.transport, far.layout.robot) == ("zmq", robot.schedule.name)


# ---- sockets -----------------------------------------------------------------------------


def test_sockets_are_their_owners_and_left_overs_are_replaced(robot: LockStep) -> None:
    path = Path(endpoint_of(robot).removeprefix("ipc://"))
    path.parent.mkdir()
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(path))
    child = start_gateway(robot)
    for name in ("frames", "control"):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600
    child.stop()


@pytest.mark.usefixtures("served")
def test_the_socket_of_a_living_gateway_is_not_taken_away(robot: LockStep) -> None:
    with pytest.raises(RuntimeFault) as caught:
        start_gateway(robot)
    assert caught.value.exit_code == 2
    with subscribe(endpoint_of(robot), transport="zmq") as far:
        settle(robot, far)


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    path = folder / "notes"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        endpoints.remove_stale(path)
    assert path.read_text() == "mine"


def test_nothing_of_a_socket_is_without_bound_and_no_heartbeat_can_abort_it(
    robot: LockStep,
) -> None:
    sender = frame_sender.Sender(robot.core.segment.path)
    socket = sender.socket
    assert 0 < int(socket.getsockopt(zmq.SNDHWM)) <= 50
    assert 0 < int(socket.getsockopt(zmq.MAXMSGSIZE)) <= 1024
    assert (socket.getsockopt(zmq.LINGER), socket.getsockopt(zmq.HEARTBEAT_IVL)) == (0, 0)
    sender.stop()
    sender.run()
    assert socket.closed


def refused_folder(robot: LockStep, capfd: pytest.CaptureFixture[str]) -> str:
    """Why a gateway does not start."""
    with pytest.raises(RuntimeFault) as caught:
        start_gateway(robot)
    assert caught.value.exit_code == 2
    return capfd.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="other users can be had by root alone")
def test_a_folder_that_another_user_left_is_named_with_its_user(robot: LockStep) -> None:
    with tempfile.TemporaryDirectory(prefix="inphase-test-") as folder:
        Path(folder).chmod(0o755)
        text = Path(robot.schedule.path).read_text()
        schedule = Path(folder, "robot.toml")
        schedule.write_text(re.sub(r'control = ".*"', "", text))
        place = f"ipc://{folder}/frames"
        said = said_by_another_user(
            "import zmq\nfrom inphase import load\nfrom inphase.errors import ScheduleError\n"
            "from inphase.host.endpoint import bind, listen\n"
            f"described = load({str(schedule)!r})",
            "for call in (lambda *a: bind(zmq.Context().socket(zmq.PUB), *a), listen):\n"
            f"    try: call('gateway.endpoint', {place!r}, described)\n"
            "    except ScheduleError as error: print(error)",
        )
        assert said.count(f"{folder} belongs to user root, who runs this robot") == 2
        assert said.count(f"sudo rm -r {folder}") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="files of another user are needed")
def test_a_folder_in_which_others_could_replace_the_socket_is_refused(
    robot: LockStep, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(endpoint_of(robot).removeprefix("ipc://")).parent
    folder.mkdir()
    os.chown(folder, 1234, -1)
    assert f"the folder {folder} belongs to user 1234" in refused_folder(robot, capfd)
    os.chown(folder, 0, -1)
    folder.chmod(0o777)
    said = refused_folder(robot, capfd)
    assert f"everybody may write to the folder {folder}" in said and "give another" in said

    # one that another user put there by a link, and a folder around it
    folder.rmdir()
    (folder.parent / "mine").mkdir()
    folder.symlink_to(folder.parent / "mine")
    os.chown(folder, 1234, -1, follow_symlinks=False)
    assert "belongs to user 1234" in refused_folder(robot, capfd)
    folder.unlink()
    os.chown(folder.parent, 1234, -1)
    folder.mkdir()
    assert f"the folder {folder.parent} belongs to user 1234" in refused_folder(robot, capfd)
    os.chown(folder.parent, 0, -1)

    # sticky, as /tmp, is well, and what is made is for us alone
    folder.rmdir()
    folder.parent.chmod(0o1777)
    gateway = start_gateway(robot)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    gateway.stop()
    assert not folder.exists(), "it would keep other users out"


# ---- control -----------------------------------------------------------------------------


def ask(socket: "zmq.Socket[bytes]", request: bytes) -> dict[str, Any]:
    socket.send(request)
    reply: dict[str, Any] = msgpack.unpackb(socket.recv())
    return reply


@pytest.mark.usefixtures("served")
def test_requests_are_answered_with_their_id(robot: LockStep) -> None:
    assert robot.schedule.gateway is not None and robot.schedule.gateway.control is not None
    for kind in (zmq.DEALER, zmq.REQ):
        socket = raw_socket(robot.schedule.gateway.control, kind)
        ping = ask(socket, msgpack.packb({"do": "ping", "id": 7}))
        assert ping == {"id": 7, "ok": True}
        reply = ask(socket, msgpack.packb({"do": "describe", "id": "a"}))
        assert (reply["id"], reply["description"]["robot"]) == ("a", robot.schedule.name)
        robot.run(3)
        reply = ask(socket, msgpack.packb({"do": "status"}))
        assert reply["status"]["cycle"] == robot.cycles - 1
        assert reply["counts"]["commands"] == robot.follower.reader.counts()["commands"]
        socket.close()


NESTED = b"\x91" * 5000 + b"\xc0"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="not MessagePack"),
        pytest.param(b"\x93\x01", id="cut"),
        pytest.param(NESTED, id="nested"),
        pytest.param(msgpack.packb([1, 2]), id="no map"),
        pytest.param(msgpack.packb({1: 2}), id="no str keys"),
        pytest.param(msgpack.packb({"id": 1}), id="nothing to do"),
        pytest.param(msgpack.packb({"do": ["ping"]}), id="do is a list"),
        pytest.param(msgpack.packb({"do": "eval", "id": 1}), id="unknown"),
        pytest.param(msgpack.packb({"do": "ping", "args": 1}), id="unknown key"),
        pytest.param(msgpack.packb({"do": "x" * 1000}), id="long string"),
        pytest.param(msgpack.packb({"do": msgpack.ExtType(1, b"x")}), id="extension"),
        pytest.param(msgpack.packb({"do": "ping", "id": b"x" * 100_000}), id="oversized"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="claims four billion entries"),
        pytest.param(b"\x81\xa2do\xa1\xff", id="not UTF-8"),
    ],
)
def test_a_malformed_request_is_refused_with_a_sentence(robot: LockStep, request_: bytes) -> None:
    page = Segment.client_page(robot.core.epoch)
    control = gateway.ControlSocket(robot.core.segment.path, os.dup(page.fd))
    page.close()
    reply = msgpack.unpackb(control.answer(request_))
    assert reply["ok"] is False and reply["error"]
    control.close()


@pytest.mark.usefixtures("served")
def test_the_gateway_outlives_malformed_and_oversized_requests(robot: LockStep) -> None:
    assert robot.schedule.gateway is not None and robot.schedule.gateway.control is not None
    endpoint = robot.schedule.gateway.control
    socket = raw_socket(endpoint, zmq.DEALER)
    for request in (b"\xc1", NESTED, b"x" * 65_537, b"x" * 900_000):
        assert ask(socket, request)["ok"] is False
    socket.send_multipart([b"a"] * 50)
    assert msgpack.unpackb(socket.recv_multipart()[-1])["ok"] is False
    socket.send(bytes(2 << 20))  # hung up on
    socket.close()
    socket = raw_socket(endpoint, zmq.DEALER)
    assert ask(socket, msgpack.packb({"do": "ping"}))["ok"] is True
    socket.close()


SUBSCRIBES = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"


def pour(endpoint: str, size: int, most: int, ready: bytes = READY) -> int:
    """Send parts of a message that never ends; how many bytes until we are hung up on."""
    part = zmtp.packed([bytes(size), b""])[:2]
    piece, sent = b"".join(part), 0
    batch = piece * max(1, (256 << 10) // len(piece))
    with sockets.socket(sockets.AF_UNIX) as line:
        line.connect(endpoint.removeprefix("ipc://"))
        try:
            line.sendall(GREETING)
            while sent < 64:  # its greeting
                sent += len(line.recv(64 - sent))
            line.sendall(ready)
            sent = 0
            while sent < most:
                line.sendall(batch)
                sent += len(batch)
        except OSError:
            pass
    return sent


def rss(*pids: int) -> int:
    """Resident memory of processes, in MiB."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) >> 20


def test_a_message_of_many_parts_does_not_grow_the_gateway(
    robot: LockStep, served: Process
) -> None:
    assert robot.schedule.gateway is not None and robot.schedule.gateway.control is not None
    control = robot.schedule.gateway.control
    before = rss(served.pid)
    for size in (1 << 20, 1_000, 0):
        assert pour(control, size, 300 << 20) < 8 << 20  # and was hung up on
    assert rss(served.pid) < before + 16
    socket = raw_socket(control, zmq.DEALER)
    assert ask(socket, msgpack.packb({"do": "ping"}))["ok"] is True
    socket.close()


def test_more_clients_than_there_may_be_push_out_the_one_that_was_silent_longest(
    robot: LockStep, served: Process
) -> None:
    assert robot.schedule.gateway is not None and robot.schedule.gateway.control is not None
    before = psutil.Process(served.pid).num_fds()
    path = robot.schedule.gateway.control.removeprefix("ipc://")
    idle = []
    for _ in range(150):
        idle.append(sockets.socket(sockets.AF_UNIX))
        idle[-1].connect(path)
    socket = raw_socket(robot.schedule.gateway.control, zmq.DEALER)
    assert ask(socket, msgpack.packb({"do": "ping"}))["ok"] is True
    until(lambda: psutil.Process(served.pid).num_fds() <= before + 64)
    socket.close()
    for one in idle:
        one.close()


def test_what_sends_frames_has_a_bound_and_is_started_again(
    robot: LockStep, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    served = request.getfixturevalue("served")  # now: its stderr is captured
    with subscribe(endpoint_of(robot), transport="zmq") as far:
        settle(robot, far)
        (sender,) = psutil.Process(served.pid).children()
        limit = sender.rlimit(psutil.RLIMIT_DATA)[0]
        assert 0 < limit < (1 << 30)
        # parts that never end, of a size that is taken: libzmq keeps them all
        assert 0 < pour(endpoint_of(robot), 200, 4 << 30, SUBSCRIBES) < 2 << 30
        until(lambda: "the sender of frames ended" in capfd.readouterr().err)
        robot.run(4)
        settle(robot, far)  # the subscriber comes back by itself


def test_a_gateway_ends_that_is_told_to_while_its_sender_is_started_again(
    served: Process,
) -> None:
    gateway = psutil.Process(served.pid)
    (sender,) = gateway.children()
    sender.kill()
    until(lambda: any(child.pid != sender.pid for child in gateway.children()))
    served.ask_to_end()  # the new one is not ready yet
    until(lambda: served.ended() is not None)


# ---- echo --------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("transport", ["store", "zmq"])
def test_echo_prints_frames_as_lines_of_json_and_for_a_person(
    robot: LockStep, transport: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()

    def step() -> None:
        while not stop.wait(0.01):
            robot.run(1)

    stepper = threading.Thread(target=step)
    stepper.start()
    where = robot.schedule.name if transport == "store" else endpoint_of(robot)
    try:
        echo.echo(where, True, 3, "joints", transport)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        echo.echo(where, False, 1, None, transport)
        text = capsys.readouterr().out
    finally:
        stop.set()
        stepper.join()
    assert len(lines) == 3
    assert [*lines[0]["sensors"]] == ["joints"]
    assert len(lines[0]["sensors"]["joints"]["value"]["position"]) == 6
    assert text.startswith("cycle ") and "wrench  " in text
