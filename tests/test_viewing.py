"""Live views in Foxglove's viewers: what they are sent, what they cost, and when they end."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from mcap.reader import make_reader
from websockets.exceptions import ConnectionClosed

import inphase
from inphase.episodes.lockstep import LockStep
from inphase.errors import ViewError
from inphase.frames.store_follower import StoreFollower
from inphase.frames.subscription import Subscription
from inphase.viewing.foxglove_server import DESCRIPTION_TOPIC, FoxgloveServer
from inphase.viewing.seen_robot import SeenRobot
from peers import BOUND_S, until
from recorded_runs import DEMO, ODD, Foreign
from runtimes import Robot
from viewers import Viewer

pytestmark = pytest.mark.real

NO_ROBOT = 5
CANNOT = 14
COMPLETE = "COMPLETE"
ADDRESS = r"ws://\S+\d"


class Shown:
    """A robot in lock step, and a server that shows it. Every frame is handed over by `run`."""

    def __init__(self, schedule: Path, limit_bytes: int = 32_000_000) -> None:
        self.said: list[str] = []
        self.server = FoxgloveServer("127.0.0.1", 0, limit_bytes, self.said.append)
        self.begin(schedule)

    def begin(self, schedule: Path) -> None:
        """Show another robot."""
        self.robot = LockStep(inphase.load(schedule))
        self.source = Subscription(StoreFollower(self.robot.core.segment.path), BOUND_S)
        self.server.begin(SeenRobot.of(self.source))

    def again(self, schedule: Path) -> None:
        """Show another robot in its place."""
        self.source.close()
        self.robot.close()
        self.begin(schedule)

    def run(self, cycles: int) -> None:
        """So many frames."""
        for _ in range(cycles):
            self.robot.run(1)
            frame = self.source.next()
            self.server.show(frame, self.source.number)

    def viewer(self, *topics: str) -> Viewer:
        """One that has subscribed to these."""
        viewer = Viewer(self.server.address, set(topics))
        while not viewer.channels:
            viewer.next()
        until(lambda: set(topics) <= self.server.wanted)
        return viewer

    def close(self) -> None:
        self.server.close()
        self.source.close()
        self.robot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def with_images(folder: Path, shape: str) -> Path:
    """A robot with an image of that shape in each frame."""
    text = ODD.replace("[12, 16, 3]", shape)
    text = text.replace("every = 4\nlatency_cycles = 2\n", "").replace("12000", "2000")
    path = folder / f"{shape}.toml"
    path.write_text(text)
    return path


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Shown]:
    """A robot with an image of 0.9 MB in each frame; 8 MB for a viewer that stands still."""
    with Shown(with_images(tmp_path, "[480, 640, 3]"), limit_bytes=8_000_000) as shown:
        yield shown


# ---- what is sent --------------------------------------------------------------------------------


@pytest.fixture
def robot() -> Iterator[Robot]:
    """The emulated arm, with a gateway."""
    with Robot() as robot:
        endpoint = f'[gateway]\nendpoint = "ipc://{robot.folder}/frames"\n'
        robot.write(("[sensor.joints]", f"{endpoint}[sensor.joints]"))
        yield robot


class View:
    """`inphase view` as a person starts it; its address, unless that is not waited for."""

    def __init__(self, *arguments: str, wait: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inphase", "view", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stderr = ""
        self.address = self.until(ADDRESS) if wait else ""

    def until(self, pattern: str) -> str:
        """Wait until it says that; the words."""
        assert self.process.stderr is not None
        while not (found := re.search(pattern, self.stderr)):
            line = self.process.stderr.readline()
            assert line, self.stderr
            self.stderr += line
        return found[0]

    def end(self) -> int:
        """Wait for its end; the exit code."""
        self.stderr += self.process.communicate(timeout=BOUND_S)[1]
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(BOUND_S)
        if self.process.stderr is not None:
            self.process.stderr.close()


def recorded(path: Path) -> dict[str, dict[int, bytes]]:
    """The messages of a recording by topic and log time."""
    found: dict[str, dict[int, bytes]] = {}
    with path.open("rb") as file:
        for _, channel, message in make_reader(file).iter_messages():
            found.setdefault(channel.topic, {})[message.log_time] = message.data
    return found


def schemas(path: Path) -> dict[str, tuple[str, bytes]]:
    """Of each topic of a recording."""
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
        assert summary is not None
        kinds = summary.schemas
        return {
            one.topic: (kinds[one.schema_id].name, kinds[one.schema_id].data)
            for one in summary.channels.values()
        }


@pytest.mark.parametrize("way", ["name", "wire"])
def test_viewers_are_sent_the_newest_messages_of_a_recording_byte_for_byte(
    robot: Robot, way: str
) -> None:
    path = robot.folder / "run.mcap"
    endpoint = robot.name if way == "name" else f"ipc://{robot.folder}/frames"
    with robot.run("--record", str(path)) as run:
        run.moving()
        with View(endpoint, "--rate", "20") as view, Viewer(view.address) as viewer:
            seen = viewer.messages(60)
            facts = viewer.ask_parameters()
            run.signal(signal.SIGINT)
            with pytest.raises(ConnectionClosed):
                while True:
                    viewer.next()
            assert view.end() == 0, view.stderr
        _, summary = run.end()
        assert f"view: {robot.name} has ended" in view.stderr
    cycles = [one.value.cycle for one in seen if one.topic == "/frame"]
    assert cycles[-1] - cycles[0] >= 5 * (len(cycles) - 1)  # 6.25 from one to the next
    whole = recorded(path)
    topics = {one.topic for one in seen}
    assert topics >= {"/frame", "/sensors/joints", "/sensors/wrench"}
    seen = [one for one in seen if one.topic != DESCRIPTION_TOPIC]
    same = [one for one in seen if one.log_ns in whole[one.topic]]
    assert len(same) > 30
    for one in same:
        assert whole[one.topic][one.log_ns] == one.data
    if summary["recording"]["state"] == COMPLETE:
        # a late sample may be in a frame that was left out before the one that was sent
        samples = {
            topic: {one.sequence for one in of}
            for topic, of in Foreign(path).of.items()
            if topic not in {"/frame", "/host", "/late"}
        }
        for one in seen:
            assert one in same or one.value.sequence in samples[one.topic]
    told = {one["topic"]: one for one in viewer.channels.values()}
    for topic, (name, descriptors) in schemas(path).items():
        if topic in ("/host", "/late"):
            continue  # of the recorder alone
        assert told[topic]["schemaName"] == name
        assert told[topic]["descriptors"] == descriptors
    assert told["/sensors/wrench"]["metadata"]["about"] == "force N, torque N m"
    assert facts["run.robot"] == robot.name
    assert facts["legend.status"].startswith("0=FRESH 1=HELD")


def test_what_is_known_of_the_run_comes_each_second_on_a_topic_of_its_own() -> None:
    with Shown(DEMO) as shown, shown.viewer(DESCRIPTION_TOPIC) as viewer:
        shown.run(1)
        (first,) = viewer.messages(1, DESCRIPTION_TOPIC)
        shown.run(5)
        assert first.value["run"]["robot"] == "demo"
        assert "[cycle]" in first.value["schedule"]["toml"]
        assert set(first.value["channels"]) == {"/frame", "/sensors/joints", "/sensors/wrench"}
        assert viewer.ask_parameters("run.robot") == {"run.robot": "demo"}
        viewer.send(
            {
                "op": "setParameters",
                "parameters": [{"name": "run.robot", "value": "mine"}],
                "id": "2",
            }
        )
        assert viewer.ask_parameters("run.robot") == {"run.robot": "demo"}


def test_an_image_is_one_for_viewers(camera: Shown) -> None:
    with camera.viewer("/sensors/camera") as viewer:
        camera.run(5)
        (seen,) = viewer.messages(1)
        image = seen.value
        assert (image.width, image.height, image.encoding) == (640, 480, "rgb8")
        assert len(image.data) == 640 * 480 * 3


def test_a_viewer_that_comes_later_is_given_the_newest_sample_of_a_slow_sensor(
    tmp_path: Path,
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(ODD.replace("every = 4", "every = 100").replace("ms = 100", "ms = 4000"))
    with Shown(path) as shown, shown.viewer("/sensors/camera") as first:
        shown.run(20)
        (one,) = first.messages(1)
        with shown.viewer("/sensors/camera") as second:
            until(lambda: bool(shown.server.newcomers))
            shown.run(1)
            (again,) = second.messages(1)
            assert (again.value.width, again.value.height) == (16, 12)
            assert again.value.data == one.value.data


# ---- viewers that stand still --------------------------------------------------------------------


def own_memory() -> int:
    """Bytes of this process, without those that it shares, such as a store."""
    line = Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]
    return int(line) * 1024


def buffers() -> int:
    """Bytes that the kernel keeps for a connection, both ends together."""
    sizes = [Path(f"/proc/sys/net/ipv4/tcp_{end}mem").read_text().split()[2] for end in "rw"]
    return sum(map(int, sizes))


def test_a_viewer_that_stands_still_holds_so_many_bytes_and_others_go_on(camera: Shown) -> None:
    (text,) = (text for text in camera.said if "takes nothing" in text)
    assert "holds 8 messages here, 7.4 MB at most" in text
    held = int(7.4e6)
    with camera.viewer("/sensors/camera") as still, camera.viewer("/sensors/camera") as other:
        camera.run(3)
        still.messages(1)
        before = own_memory()
        for _ in range(100):  # 92 MB
            camera.run(1)
            other.messages(1)
        assert own_memory() - before < held + 16e6  # both ends are in this process
        camera.server.tell("now")
        size = 0
        while "now" not in still.said:
            seen = still.next()
            size += 0 if seen is None else len(seen.data)
        assert 0 < size < held + buffers() + 1e6


# ---- another run, and the end --------------------------------------------------------------------


def test_viewers_stay_for_another_run_of_the_same_channels(camera: Shown, tmp_path: Path) -> None:
    with camera.viewer("/sensors/camera", "/frame") as viewer:
        camera.run(1)
        viewer.messages(2)
        epoch = viewer.ask_parameters("run.epoch")
        camera.again(with_images(tmp_path, "[480, 640, 3]"))
        camera.run(1)
        assert {one.topic for one in viewer.messages(2)} == {"/sensors/camera", "/frame"}
        assert viewer.ask_parameters("run.epoch") != epoch


def test_another_run_with_larger_images_is_at_the_same_address_with_a_bound_of_its_own(
    camera: Shown, tmp_path: Path
) -> None:
    address = camera.server.address
    with camera.viewer("/frame") as viewer:
        camera.again(with_images(tmp_path, "[960, 1280, 3]"))
        with pytest.raises(ConnectionClosed):
            viewer.messages(10_000)
    assert camera.server.address == address
    assert "holds 5 messages here, 18.4 MB at most" in camera.said[-1]  # one of each channel
    with camera.viewer("/sensors/camera") as viewer:
        camera.run(1)
        (seen,) = viewer.messages(1)
        assert seen.value.width == 1280


def connected(address: str) -> Viewer:
    """A viewer that tries until there is a server, as those of a person do."""
    found: list[Viewer] = []

    def is_there() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            found.append(Viewer(address))
        return bool(found)

    until(is_there)
    return found[0]


@pytest.mark.parametrize("other", [True, False])
@pytest.mark.long
def test_a_view_waits_for_its_robot_and_for_its_next_run(robot: Robot, other: bool) -> None:
    with View(robot.name, "--stay", wait=False) as view:
        view.until("no robot")
        with robot.run("--cycles", "200") as run, Viewer(view.until(ADDRESS), {"/frame"}) as viewer:
            (first,) = viewer.messages(1)
            run.end()
            view.until("has ended")
            if other:
                robot.write(("[sensor.wrench]", "[sensor.force]"))
            with robot.run() as second:
                if other:
                    with pytest.raises(ConnectionClosed):
                        viewer.messages(10_000)
                else:
                    while viewer.messages(1)[0].value.number >= first.value.number:
                        pass
                with connected(view.until(ADDRESS)) as again:
                    topics = {one.topic for one in again.messages(20)}
                    assert ("/sensors/force" in topics) == other
                view.process.send_signal(signal.SIGINT)
                assert view.end() == 0
                second.signal(signal.SIGINT)
                second.end()


def said(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a view that has nothing to show."""
    done = subprocess.run(
        [sys.executable, "-m", "inphase", "view", *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_robot_that_is_not_there_is_an_error() -> None:
    code, error = said("nobody-is-there")
    assert code == NO_ROBOT
    assert "no robot 'nobody-is-there' runs on this host" in error


def test_a_port_that_somebody_has_is_an_error_with_a_remedy() -> None:
    with Shown(DEMO) as shown:
        port = int(shown.server.address.rpartition(":")[2])
        second = FoxgloveServer("127.0.0.1", port, 1_000_000, print)
        with pytest.raises(ViewError, match=f"127.0.0.1:{port} .* give another --port") as error:
            second.begin(SeenRobot.of(shown.source))
        assert error.value.exit_code == CANNOT
        second.close()


def test_an_address_that_others_reach_is_said_to_have_no_password() -> None:
    with Shown(DEMO) as shown:
        assert not [text for text in shown.said if "password" in text]
        open_one = FoxgloveServer("0.0.0.0", 0, 1_000_000, shown.said.append)
        open_one.begin(SeenRobot.of(shown.source))
        open_one.close()
        assert [text for text in shown.said if "there is no password" in text]
